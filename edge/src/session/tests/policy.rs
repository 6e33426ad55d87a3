//! What an application allows, through a session.

use headwater_media::name::DEFAULT_VHOST;
use headwater_proto::v1;
use headwater_proto::v1::policy_response::Response as Policy;
use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::command::{PlayLength, PlayReset, PlayStart, PublishMode};

use super::bench::{Bench, Client};
use crate::player::tests::library::Library;

/// The code that a client is refused with, and why.
async fn refused(client: &mut Client) -> (String, String) {
    let came = client
        .wait(|event| matches!(event, ClientEvent::ConnectRejected { .. }))
        .await;
    match came.into_iter().last() {
        Some(ClientEvent::ConnectRejected { status, .. }) => {
            (status.code.into_owned(), status.description)
        }
        other => panic!("{other:?}"),
    }
}

/// The first status of the client's stream.
async fn status(client: &mut Client) -> (String, String) {
    let is_it = |event: &ClientEvent| matches!(event, ClientEvent::Status { stream_id: 1, .. });
    match client.wait(is_it).await.into_iter().last() {
        Some(ClientEvent::Status { status, .. }) => (status.code.into_owned(), status.description),
        other => panic!("{other:?}"),
    }
}

fn play(client: &mut Client, name: &str) {
    client
        .session
        .play(1, name, PlayStart::At(0), PlayLength::All, PlayReset::Reset)
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_application_is_refused_with_the_reason() {
    let bench = Bench::start().await;
    let broken = v1::ApplicationBroken {
        reason: "secret of the operator".to_owned(),
    };
    let broken = Policy::Broken(broken);
    bench.applications.put(DEFAULT_VHOST, "chat", broken);
    let mut client = bench.newcomer("chat", |_| {}).await;
    let (code, why) = refused(&mut client).await;
    assert_eq!(code, "NetConnection.Connect.Rejected");
    assert_eq!(why, "The application \"chat\" is not configured correctly.");
    let mut client = bench.newcomer("nothing", |_| {}).await;
    let (code, why) = refused(&mut client).await;
    assert_eq!(code, "NetConnection.Connect.InvalidApp");
    assert!(why.contains("nothing"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_is_what_the_application_gives() {
    let bench = Bench::start().await;
    let toml = "read_access = \"open\"\nwrite_access = \"mine;open/new\"";
    bench.applications.store(DEFAULT_VHOST, "chat", toml);
    bench.origin.put("open/film", Library::file(b'F', 1_000));
    bench.origin.put("mine", Library::file(b'F', 1_000));
    let mut client = bench.client("chat").await;
    for (name, code) in [
        ("open/film", "NetStream.Play.Reset"),
        ("mine", "NetStream.Play.Failed"),
    ] {
        play(&mut client, name);
        client.wait_status(code).await;
    }
    let mut client = bench.client("chat").await;
    for (name, code) in [
        ("open/film", "NetStream.Publish.Denied"),
        ("mine", "NetStream.Publish.Start"),
    ] {
        client.session.publish(1, name, PublishMode::Live).unwrap();
        assert_eq!(status(&mut client).await.0, code, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_holds_from_the_next_wish_on_and_ends_nothing() {
    let bench = Bench::start().await;
    bench.applications.until_listened_to(1).await;
    bench.applications.store(DEFAULT_VHOST, "chat", "");
    bench.origin.put("film", Library::file(b'F', 20_000));
    let mut publisher = bench.client("chat").await;
    publisher
        .session
        .publish(1, "show", PublishMode::Live)
        .unwrap();
    assert_eq!(status(&mut publisher).await.0, "NetStream.Publish.Start");
    let mut player = bench.client("chat").await;
    play(&mut player, "film");
    player.wait_status("NetStream.Play.Start").await;
    let before = bench.applications.described();
    let toml = "publish = false\nplay = false";
    bench.applications.store(DEFAULT_VHOST, "chat", toml);
    bench.applications.announce(DEFAULT_VHOST, "chat").await;
    bench.applications.until_described(before + 1).await;
    // Whoever comes later waits for the answer: then it holds for those who were there, too.
    let mut late = bench.client("chat").await;
    late.session.publish(1, "late", PublishMode::Live).unwrap();
    assert_eq!(status(&mut late).await.0, "NetStream.Publish.Denied");
    // It goes on to its end.
    player.session.set_buffer_length(1, 36_000_000).unwrap();
    player.wait_status("NetStream.Play.Complete").await;
    let show = format!("{DEFAULT_VHOST}/chat/show");
    bench.origin.until_published(Some((&show, 0))).await;
    play(&mut player, "film");
    player.wait_status("NetStream.Play.Failed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_virtual_host_has_applications_and_streams_of_its_own() {
    let bench = Bench::start().await;
    bench.applications.store("other", "chat", "");
    let mut client = bench
        .newcomer("chat", |parameters| {
            parameters.tc_url = "rtmp://a.other.example/chat".to_owned();
        })
        .await;
    client
        .wait(|event| matches!(event, ClientEvent::Connected { .. }))
        .await;
    client.session.create_stream().unwrap();
    client
        .wait(|event| matches!(event, ClientEvent::StreamCreated { .. }))
        .await;
    client
        .session
        .publish(1, "show", PublishMode::Live)
        .unwrap();
    assert_eq!(status(&mut client).await.0, "NetStream.Publish.Start");
    bench
        .origin
        .until_published(Some(("other/chat/show", 0)))
        .await;
    // The query names one, too; and at the default host there is none.
    let mut client = bench
        .newcomer("chat", |parameters| {
            parameters.tc_url.push_str("?_fcs_vhost=other");
        })
        .await;
    client
        .wait(|event| matches!(event, ClientEvent::Connected { .. }))
        .await;
    let mut client = bench.newcomer("chat", |_| {}).await;
    let (code, _) = refused(&mut client).await;
    assert_eq!(code, "NetConnection.Connect.InvalidApp");
}
