//! Light viewers beside full ones, and clients that come and go.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use headwater_loadtest::report::{Ending, PlaySummary};
use headwater_loadtest::swarm::{
    ArrivalOptions, Arrivals, StopReading, Swarm, SwarmCounts, SwarmError, SwarmOptions,
    SwarmTarget,
};
use headwater_loadtest::target::Target;
use headwater_loadtest::viewer::Viewer;

use crate::commands::{finish, read_json, start};
use crate::server::Server;
use crate::{PATIENCE, publish, viewer, watch};

fn target(url: &str) -> SwarmTarget {
    SwarmTarget::Rtmp(Target::parse(url).unwrap())
}

fn at_once(url: &str, viewers: usize) -> SwarmOptions {
    SwarmOptions {
        ramp: 0,
        ..SwarmOptions::new(vec![target(url); viewers])
    }
}

pub(crate) async fn until(what: &str, mut is_reached: impl FnMut() -> bool) {
    let reached = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while !is_reached() {
            looks.tick().await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, reached).await;
    assert!(in_time.is_ok(), "{what}");
}

async fn swarm_until(swarm: &Swarm, is_reached: impl Fn(&SwarmCounts) -> bool) -> PlaySummary {
    until("the swarm", || is_reached(&swarm.counts())).await;
    swarm.report()
}

fn words(endings: &[Ending]) -> Vec<(&str, u64)> {
    let endings = endings.iter();
    endings
        .map(|ending| (ending.what.as_str(), ending.count))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn light_viewers_see_what_full_viewers_see() {
    let server = Server::start().await;
    let url = server.url("live/faulty");
    let publisher = publish(&url).await;
    let swarm = Swarm::start(SwarmOptions {
        threads: 2,
        ..at_once(&url, 5)
    })
    .unwrap();
    let full = watch(&url, 80).await;
    let summary = swarm_until(&swarm, |counts| counts.frames >= 5 * 200).await;
    let seen = full.stop().await;
    assert_eq!((seen.missing, seen.repeated, seen.reordered), (2, 1, 1));
    assert_eq!((summary.viewers, summary.playing), (5, 5));
    assert_eq!(
        (summary.missing, summary.repeated, summary.reordered),
        (5 * 2, 5, 5)
    );
    assert_eq!(
        (summary.video.received, summary.audio.received),
        (summary.video_frames, summary.audio_frames)
    );
    assert!(summary.latency.count > 0 && summary.latency.foreign_clock == 0);
    assert!(summary.setup.count == 5 && summary.first_frame.count == 5);
    assert!(summary.first_frame.p50_ms >= summary.setup.p50_ms);
    let started = ("NetStream.Play.Start", 5);
    assert!(words(&summary.statuses).contains(&started), "{summary:?}");
    swarm.stop();
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_counts_anew_and_seconds_add_up() {
    let server = Server::start().await;
    let url = server.url("live/cam");
    let publisher = publish(&url).await;
    let swarm = Swarm::start(SwarmOptions {
        look_every: Duration::from_millis(5),
        ..at_once(&url, 3)
    })
    .unwrap();
    until("two seconds", || swarm.samples().len() >= 2).await;
    let before = swarm.report();
    let samples = swarm.samples();
    assert!(samples.iter().all(|sample| sample.playing == 3));
    assert_eq!((samples[0].seconds, samples[1].seconds), (1.0, 2.0));
    let frames: u64 = samples.iter().map(|sample| sample.video_frames).sum();
    assert!(frames >= 3 * 200, "{samples:?}");
    assert!(frames <= before.video_frames, "{frames} {before:?}");
    assert!(
        samples[1].p50_us > 0
            && samples[1].p50_us <= samples[1].p99_us
            && samples[1].p99_us <= samples[1].max_us
    );
    swarm.begin_window();
    // It begins when the swarm has heard of it.
    until("a new window", || swarm.report().seconds < before.seconds).await;
    let after = swarm.report();
    assert!(after.bytes < before.bytes && after.latency.count < before.latency.count);
    // Accounts go on.
    assert!(after.video.received >= before.video.received);
    assert!(after.is_without_loss(), "{after:?}");
    swarm.stop();
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn light_viewers_end_for_the_same_reasons() {
    let server = Server::start().await;
    let cut = server.url("live/cut");
    let publisher = publish(&cut).await;
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("rtmp://{}/live/cam", listener.local_addr().unwrap())
    };
    for (url, is_playing) in [
        (cut, 1),
        (server.url("closed/cam"), 0),
        (server.url("live/nobody"), 0),
        (nobody, 0),
    ] {
        let full = Viewer::start(viewer(&url));
        full.wait_until(PATIENCE, |_| false).await;
        let reason = full.report().disconnected.unwrap().to_string();
        let swarm = Swarm::start(at_once(&url, 4)).unwrap();
        let summary = swarm_until(&swarm, |counts| counts.ended == 4).await;
        assert_eq!(words(&summary.endings), [(reason.as_str(), 4)], "{url}");
        let counts = (summary.playing, summary.disconnected, summary.failed);
        assert_eq!(
            counts,
            (4 * is_playing, 4 * is_playing, 4 * (1 - is_playing))
        );
        assert_eq!(swarm.counts().playing, 0);
    }
    publisher.stop().await;

    // Accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live/cam", silent.local_addr().unwrap());
    let swarm = Swarm::start(SwarmOptions {
        timeout: Duration::from_millis(200),
        ..at_once(&url, 2)
    })
    .unwrap();
    let summary = swarm_until(&swarm, |counts| counts.ended == 2).await;
    let reason = ("the handshake took longer than 200ms", 2);
    assert_eq!(words(&summary.endings), [reason]);

    for (targets, reason) in [
        (vec![], "no stream"),
        (vec![target("rtmps://127.0.0.1/live/cam")], "tls"),
        (vec![target("rtmp://name.invalid/live/cam")], "name.invalid"),
    ] {
        let error: SwarmError = Swarm::start(SwarmOptions::new(targets)).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

/// Bytes of a message of [`pour`].
const WIRE: usize = 4_096;

/// A sender that gives each who comes the same bytes again and again.
fn pour(listener: TcpListener, cut_after: Option<Duration>) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    // A video message of 4,084 bytes that is a key frame without a stamp.
    let mut wire = vec![6, 0, 0, 0, 0, 0x0F, 0xF4, 9, 1, 0, 0, 0, 0x17, 1];
    wire.resize(WIRE, 0);
    let lump = wire.repeat(8);
    let serve = Arc::new(move |mut socket: TcpStream| {
        let begun = std::time::Instant::now();
        socket
            .set_write_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        // Ends with the first error that is no time-out, or with the time.
        loop {
            match socket.write_all(&lump) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            if cut_after.is_some_and(|after| begun.elapsed() >= after) {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(socket));
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_reading_is_reported_apart() {
    let server = Server::start().await;
    let url = server.url("live/cam");
    let publisher = publish(&url).await;
    let swarm = Swarm::start(SwarmOptions {
        stop_reading: Some(StopReading {
            viewers: 2,
            after: Duration::from_millis(300),
        }),
        ..at_once(&url, 5)
    })
    .unwrap();
    until("all play", || swarm.counts().playing == 5).await;
    until("some stop", || swarm.counts().stopped == 2).await;
    until("a second", || !swarm.samples().is_empty()).await;
    let summary = swarm.report();
    assert_eq!((summary.viewers, summary.playing), (3, 3));
    assert!(summary.is_without_loss());
    assert_eq!(swarm.samples()[0].playing, 3);
    let stopped = summary.stopped.unwrap();
    let counts = (stopped.viewers, stopped.had_played, stopped.closed);
    assert_eq!(counts, (2, 2, 0));
    assert!(stopped.endings.is_empty() && stopped.last_statuses.is_empty());
    // The second call does not wait again, and says the same of them.
    assert_eq!(swarm.report().stopped.unwrap().viewers, 2);
    swarm.stop();
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_closes_who_does_not_read_is_seen() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = pour(listener, Some(Duration::from_millis(1_200)));
    let swarm = Swarm::start(SwarmOptions {
        ramp: 0,
        stop_reading: Some(StopReading {
            viewers: 1,
            after: Duration::from_millis(100),
        }),
        ..SwarmOptions::new(vec![SwarmTarget::Floor(address); 2])
    })
    .unwrap();
    until("the other has ended", || swarm.counts().ended >= 1).await;
    // The table of connections is looked at every five seconds, and what was found is taken a second later. A report ends the looking, so
    // it cannot be asked for until then.
    tokio::time::sleep(Duration::from_millis(11_500)).await;
    let summary = swarm.report();
    assert_eq!((summary.viewers, summary.disconnected), (1, 1));
    let stopped = summary.stopped.unwrap();
    assert_eq!((stopped.viewers, stopped.closed), (1, 1));
    assert_eq!(words(&stopped.last_statuses), [("none", 1)]);
    if cfg!(target_os = "linux") {
        let after = stopped.closed_after;
        assert_eq!(after.count, 1);
        assert!((900.0..=60_000.0).contains(&after.p50_ms), "{after}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_comes_with_the_last_bytes_is_seen() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = pour(listener, Some(Duration::ZERO));
    let swarm = Swarm::start(SwarmOptions {
        ramp: 0,
        // By then both are there.
        look_every: Duration::from_millis(100),
        ..SwarmOptions::new(vec![SwarmTarget::Floor(address); 10])
    })
    .unwrap();
    let summary = swarm_until(&swarm, |counts| counts.ended == 10).await;
    assert_eq!(words(&summary.endings), [("closed by the server", 10)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bare_senders_are_watched_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = pour(listener, None);
    let swarm = Swarm::start(SwarmOptions {
        ramp: 0,
        ..SwarmOptions::new(vec![SwarmTarget::Floor(address); 3])
    })
    .unwrap();
    let summary = swarm_until(&swarm, |counts| counts.frames > 5_000).await;
    assert_eq!((summary.playing, summary.disconnected), (3, 0));
    // The last of each viewer may not be whole.
    let bytes = summary.video_frames * WIRE as u64;
    assert!(summary.bytes - bytes < 3 * WIRE as u64, "{summary:?}");
    swarm.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_come_get_what_they_came_for_and_leave() {
    let server = Server::start().await;
    let url = server.url("live/cam");
    let publisher = publish(&url).await;
    let nobody = server.url("live/nobody");
    for (options, is_let_in) in [
        (ArrivalOptions::new(vec![target(&url)]), true),
        (
            ArrivalOptions {
                threads: 2,
                first_frame: true,
                in_flight: 7,
                ..ArrivalOptions::new(vec![target(&url)])
            },
            true,
        ),
        (
            ArrivalOptions {
                rate: 400,
                in_flight: 50,
                ..ArrivalOptions::new(vec![target(&url)])
            },
            true,
        ),
        (ArrivalOptions::new(vec![target(&nobody)]), false),
    ] {
        let options = ArrivalOptions {
            count: 120,
            ..options
        };
        let arrivals = Arrivals::start(options.clone()).unwrap();
        until("all have left", || arrivals.has_ended()).await;
        let counts = arrivals.counts();
        assert_eq!((counts.started, counts.in_flight), (120, 0));
        let summary = arrivals.report();
        arrivals.stop();
        assert_eq!(summary.is_without_loss(), is_let_in, "{summary:?}");
        assert!(summary.most_in_flight <= options.in_flight as u64);
        assert!(summary.seconds > 0.0);
        if !is_let_in {
            assert_eq!((summary.done, summary.failed), (0, 120));
            let reason = "refused: NetStream.Play.StreamNotFound: No such stream.";
            assert_eq!(words(&summary.endings), [(reason, 120)]);
            continue;
        }
        let setup = summary.setup;
        assert_eq!((setup.count, summary.endings.len()), (120, 0));
        assert!(setup.p50_ms > 0.0 && setup.p50_ms <= setup.max_ms);
        let frames = if options.first_frame { 120 } else { 0 };
        assert_eq!(summary.first_frame.count, frames);
        if options.rate > 0 {
            // The last begins 119/400 s after the first.
            assert!(summary.seconds >= 0.29, "{summary:?}");
            assert!(summary.achieved_per_s <= 410.0);
        }
    }
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_tells_how_fast_clients_were_let_in() {
    let server = Server::start().await;
    let url = server.url("live/cam");
    let publisher = publish(&url).await;
    let json = tempfile::NamedTempFile::new().unwrap();
    let (code, stdout, stderr) = finish(start(&[
        "connect",
        &url,
        "--count",
        "60",
        "--rate",
        "200/s",
        "--expect-no-loss",
        "--json",
        json.path().to_str().unwrap(),
    ]))
    .await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("set-up p99"), "{stdout}");
    let found = read_json(json.path());
    assert_eq!((&found["done"], &found["failed"]), (&60.into(), &0.into()));
    assert!(found["setup"]["p99_ms"].as_f64().unwrap() > 0.0);

    let nobody = server.url("live/nobody");
    let (code, stdout, _) = finish(start(&["connect", &nobody, "--count", "3"])).await;
    assert_eq!(code, Some(1));
    assert!(stdout.contains("NetStream.Play.StreamNotFound"), "{stdout}");
    let (code, stdout, stderr) = finish(start(&["connect", "floor://here"])).await;
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("numeric address"), "{stderr}");
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn play_tells_of_a_window_and_of_those_that_stopped() {
    let server = Server::start().await;
    let url = server.url("live/cam");
    let publisher = publish(&url).await;
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = (folder.path().join("json"), folder.path().join("html"));
    let (code, stdout, stderr) = finish(start(&[
        "play",
        &url,
        "--count",
        "4",
        "--ramp",
        "0",
        "--warm-up",
        "0.5",
        "--seconds",
        "1",
        "--stop-reading",
        "1",
        "--stop-after",
        "0.2",
        "--expect-no-loss",
        "--json",
        json.to_str().unwrap(),
        "--html",
        html.to_str().unwrap(),
    ]))
    .await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("stopped reading"), "{stdout}");
    let played = read_json(&json);
    assert_eq!(
        (&played["viewers"], &played["stopped"]["viewers"]),
        (&3.into(), &1.into())
    );
    let seconds = played["seconds"].as_f64().unwrap();
    assert!((0.9..1.4).contains(&seconds), "{seconds}");
    assert!(std::fs::read_to_string(&html).unwrap().contains("<svg"));

    let (code, _, stderr) = finish(start(&[
        "play",
        "rtmps://127.0.0.1:1/live/cam",
        "--stop-reading",
        "1",
    ]))
    .await;
    assert_eq!(code, Some(2));
    assert!(stderr.contains("tls"), "{stderr}");
    publisher.stop().await;
}
