//! The harness against a small server in the same process, and the binary against it from outside.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod commands;
mod compare;
mod floor;
mod front;
mod members;
mod room;
mod rtmfp;
mod server;
mod swarm;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use headwater_loadtest::client::{ClientError, ConnectOptions, Trust};
use headwater_loadtest::publisher::{Publisher, PublisherOptions};
use headwater_loadtest::source::SourceOptions;
use headwater_loadtest::source::file::FlvFile;
use headwater_loadtest::target::Target;
use headwater_loadtest::viewer::{Viewer, ViewerOptions, ViewerReport};
use headwater_media::flv::{FlvHeader, write_header, write_tag};
use headwater_media::synthetic::{Settings, SyntheticStream};
use server::Server;

const PATIENCE: Duration = Duration::from_secs(20);

/// A fast stream, so that tests are over soon.
fn fast() -> Settings {
    Settings {
        fps: 200,
        gop: 50,
        video_bitrate: 1_000_000,
        ..Settings::default()
    }
}

fn publisher(url: &str) -> PublisherOptions {
    PublisherOptions {
        source: SourceOptions::Synthetic(fast()),
        ..PublisherOptions::new(Target::parse(url).unwrap())
    }
}

fn viewer(url: &str) -> ViewerOptions {
    ViewerOptions::new(Target::parse(url).unwrap())
}

async fn publish(url: &str) -> Publisher {
    let publisher = Publisher::start(publisher(url));
    publisher.published().await.unwrap();
    publisher
}

/// A viewer that has seen so many video frames.
async fn watch(url: &str, frames: u64) -> Viewer {
    let viewer = Viewer::start(viewer(url));
    let enough = |report: &ViewerReport| report.video_frames >= frames;
    assert!(
        viewer.wait_until(PATIENCE, enough).await,
        "{:?}",
        viewer.report()
    );
    viewer
}

#[tokio::test]
async fn everything_that_is_published_is_seen_once_and_in_time() {
    let server = Server::start().await;
    let url = server.url("live/cam?token=1");
    let publisher = publish(&url).await;
    let viewer = watch(&url, 60).await;
    let latency = viewer.latency();
    let seen = viewer.stop().await;
    let sent = publisher.stop().await;

    assert!(seen.is_without_loss(), "{seen:?}");
    assert!(seen.video.received == seen.video_frames && seen.audio.received == seen.audio_frames);
    assert!(seen.audio_frames > 0 && seen.data_messages > 0);
    assert!(seen.bytes > 60 * 400);
    assert!(seen.setup.unwrap() <= seen.first_frame.unwrap());
    assert!(seen.statuses.contains("NetStream.Play.Start"));
    assert!(latency.count + seen.backlog <= seen.video_frames);
    assert!(latency.count > 0 && latency.foreign_clock == 0);
    assert!(latency.p50_us < 1_000_000, "{latency:?}");

    assert!(sent.failure.is_none() && sent.setup.is_some());
    assert!(sent.last_video >= seen.video.last && sent.last_audio >= seen.audio.last);
    assert_eq!(sent.last_video, Some(sent.video_frames - 1));
    assert!(sent.statuses.contains("NetStream.Publish.Start"));
}

#[tokio::test]
async fn frames_from_before_the_viewer_are_backlog_and_not_timed() {
    let server = Server::start().await;
    let url = server.url("live/cam");
    let publisher = publish(&url).await;
    let first = watch(&url, 70).await;
    let late = watch(&url, 100).await;
    let (latency, seen) = (late.latency(), late.report());
    // The server holds at most a group of pictures of 250 ms.
    assert!(seen.backlog > 0 && seen.backlog <= 55, "{seen:?}");
    assert!(seen.video.first.unwrap() > 0);
    assert_eq!(seen.missing, 0);
    assert!(latency.count + seen.backlog >= 100);
    drop((first, publisher));
}

#[tokio::test]
async fn a_viewer_tells_what_the_server_lost_repeated_and_swapped() {
    let server = Server::start().await;
    let url = server.url("live/faulty");
    let publisher = publish(&url).await;
    let viewer = watch(&url, 80).await;
    let seen = viewer.stop().await;
    assert_eq!(seen.video.first, Some(0));
    assert_eq!((seen.missing, seen.repeated, seen.reordered), (2, 1, 1));
    assert_eq!((seen.video.missing, seen.audio.missing), (2, 0));
    assert!(!seen.is_without_loss());
    publisher.stop().await;
}

#[tokio::test]
async fn a_viewer_tells_of_stalls() {
    let server = Server::start().await;
    let url = server.url("live/halting");
    let publisher = publish(&url).await;
    let viewer = watch(&url, 150).await;
    let seen = viewer.stop().await;
    assert!(seen.stalls >= 1 && seen.longest_gap >= Duration::from_millis(650));
    assert!(seen.gaps.contains(&seen.longest_gap), "{seen:?}");
    assert_eq!(seen.missing, 0);
    publisher.stop().await;
}

#[tokio::test]
async fn a_viewer_tells_that_it_was_cut_off() {
    let server = Server::start().await;
    let url = server.url("live/cut");
    let publisher = publish(&url).await;
    let viewer = Viewer::start(viewer(&url));
    let is_cut = |report: &ViewerReport| report.disconnected.is_some();
    assert!(viewer.wait_until(PATIENCE, is_cut).await);
    assert!(viewer.has_ended());
    let seen = viewer.report();
    assert_eq!(seen.disconnected, Some(ClientError::Closed));
    assert!(seen.video_frames >= 20 && seen.missing == 0);
    // After its end a viewer does not count the silence.
    assert!(seen.longest_gap < Duration::from_secs(5));
    publisher.stop().await;
}

#[tokio::test]
async fn the_end_of_a_stream_is_told_and_no_stall() {
    let server = Server::start().await;
    let url = server.url("live/cam");
    let publisher = publish(&url).await;
    let viewer = watch(&url, 20).await;
    let sent = publisher.stop().await;
    let is_told =
        |report: &ViewerReport| report.statuses.contains("NetStream.Play.UnpublishNotify");
    assert!(viewer.wait_until(PATIENCE, is_told).await);
    let seen = viewer.report();
    assert_eq!(seen.video.last, sent.last_video);
    assert_eq!(seen.audio.last, sent.last_audio);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(viewer.stop().await.stalls, seen.stalls);
}

#[tokio::test]
async fn refusals_carry_the_words_of_the_server() {
    let server = Server::start().await;
    for (path, words) in [
        (
            "closed/cam",
            "rejected: NetConnection.Connect.Rejected: Come back later.",
        ),
        (
            "live/taken",
            "refused: NetStream.Publish.BadName: Somebody has it.",
        ),
    ] {
        let publisher = Publisher::start(publisher(&server.url(path)));
        let error = publisher.published().await.unwrap_err();
        assert_eq!(error.to_string(), words);
        publisher.ended().await;
        assert_eq!(publisher.stop().await.failure, Some(error));
    }
    let viewer = Viewer::start(viewer(&server.url("live/nobody")));
    assert!(!viewer.wait_until(PATIENCE, |_| false).await);
    assert!(viewer.has_ended());
    let seen = viewer.report();
    assert_eq!(
        seen.disconnected.unwrap().to_string(),
        "refused: NetStream.Play.StreamNotFound: No such stream."
    );
    assert!(seen.setup.is_some() && seen.first_frame.is_none());
}

#[tokio::test]
async fn who_is_not_there_or_silent_is_told_apart() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let refused = Viewer::start(viewer(&format!("rtmp://{nobody}/live/cam")));
    refused.wait_until(PATIENCE, |_| false).await;
    let error = refused.report().disconnected.unwrap().to_string();
    assert!(
        error.contains(&nobody.to_string()) && error.contains("refused"),
        "{error}"
    );

    // Accepts, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live/cam", silent.local_addr().unwrap());
    let options = PublisherOptions {
        connect: ConnectOptions {
            answer_timeout: Duration::from_millis(200),
            ..ConnectOptions::default()
        },
        ..publisher(&url)
    };
    let publisher = Publisher::start(options);
    let error = publisher.published().await.unwrap_err().to_string();
    assert_eq!(error, "the handshake took longer than 200ms");
}

#[tokio::test]
async fn a_file_is_published_with_stamps_again_and_again() {
    let settings = Settings {
        audio: None,
        ..fast()
    };
    let mut flv = BytesMut::new();
    let header = FlvHeader {
        has_audio: false,
        has_video: true,
    };
    write_header(header, &mut flv);
    for frame in SyntheticStream::new(settings).unwrap().take(32) {
        let timestamp = u32::try_from(frame.timestamp).unwrap();
        assert!(write_tag(timestamp, frame.kind, &frame.payload, &mut flv));
    }
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), &flv).unwrap();

    let server = Server::start().await;
    let url = server.url("live/file");
    let file = FlvFile::load(path.path()).unwrap();
    let publisher = Publisher::start(PublisherOptions {
        source: SourceOptions::File(Arc::new(file)),
        ..publisher(&url)
    });
    publisher.published().await.unwrap();
    // Thirty frames are one pass.
    let viewer = watch(&url, 75).await;
    let seen = viewer.stop().await;
    assert!(seen.is_without_loss(), "{seen:?}");
    assert!(seen.video.last.unwrap() >= 74);
    publisher.stop().await;
}

#[tokio::test]
async fn rtmps_believes_who_it_is_told_to() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into()),
        )
        .unwrap();
    let server = Server::start_with(Some(Arc::new(config).into())).await;
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), key.cert.pem()).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let stranger = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(stranger.path(), other.cert.pem()).unwrap();

    let url = format!("rtmps://localhost:{}/live/cam", server.address.port());
    let connect = |trust| ConnectOptions {
        trust,
        ..ConnectOptions::default()
    };
    let publisher = Publisher::start(PublisherOptions {
        connect: connect(Trust::file(authority.path()).unwrap()),
        ..publisher(&url)
    });
    publisher.published().await.unwrap();
    let seen = |trust| {
        let viewer = Viewer::start(ViewerOptions {
            connect: connect(trust),
            ..viewer(&url)
        });
        async move {
            viewer
                .wait_until(PATIENCE, |report| report.video_frames > 10)
                .await;
            viewer.stop().await
        }
    };
    assert!(seen(Trust::anyone()).await.is_without_loss());
    let refused = seen(Trust::file(stranger.path()).unwrap()).await;
    assert!(
        matches!(refused.disconnected, Some(ClientError::Tls { .. })),
        "{refused:?}"
    );
    assert!(publisher.stop().await.failure.is_none());
}
