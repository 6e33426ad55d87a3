//! What encoders said of recordings, and what becomes of it when they are replaced, go on, or are erased.

use headwater_proto::v1;
use object_store::ObjectStoreExt;

use super::support::{World, name};
use super::*;
use crate::record::files::key;
use crate::record::stream_info::StreamInfo;

fn info() -> StreamInfo {
    StreamInfo::check(&v1::StreamInfo {
        offline: Some(true),
        ..v1::StreamInfo::default()
    })
    .unwrap()
}

/// A world in which this was said of `show` long ago.
async fn said_before() -> World {
    let world = World::new();
    let path = format!("recorded/{}.info.json", key(&name("show.flv")));
    let text = r#"{"unix_ms":1700000000000,"info":{"offline":true}}"#;
    world.objects.put(&path.into(), text.into()).await.unwrap();
    world
}

async fn said(bench: &Bench) -> Option<StreamInfo> {
    let infos = bench.recordings.infos();
    infos.find(&name("show.flv")).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_goes_with_the_recording_that_is_replaced() {
    let bench = Bench::with(said_before().await, recording());
    let mut publisher = bench.publish("show", 1, Mode::Record).await;
    assert_eq!(said(&bench).await, Some(info()), "nothing is replaced yet");
    publisher.send(5);
    publisher.stored().await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(said(&bench).await, None);
    // Of the new one.
    let infos = bench.recordings.infos();
    infos.set(&name("show.flv"), info()).await.unwrap();
    publisher.send(5);
    publisher.stop();
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..10, 0)));
    assert_eq!(said(&bench).await, Some(info()));
}

#[tokio::test(start_paused = true)]
async fn however_short_the_recording_is() {
    let bench = Bench::with(said_before().await, recording());
    let mut publisher = bench.publish("show", 1, Mode::Record).await;
    publisher.send(1);
    publisher.stop();
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..1, 0)));
    assert_eq!(said(&bench).await, None);
}

#[tokio::test(start_paused = true)]
async fn it_stays_where_nothing_is_replaced() {
    for mode in [Mode::Append, Mode::AppendWithGap] {
        let bench = Bench::with(said_before().await, recording());
        let mut publisher = bench.publish("show", 1, mode).await;
        publisher.send(5);
        publisher.stop();
        bench.settled().await;
        assert_eq!(said(&bench).await, Some(info()), "{mode:?}");
    }
    // Its publisher sends nothing.
    let bench = Bench::with(said_before().await, recording());
    let publisher = bench.publish("show", 1, Mode::Record).await;
    publisher.stop();
    bench.settled().await;
    assert_eq!(said(&bench).await, Some(info()));
    // It is not recorded.
    let mut live = bench.open("show", 2, None, None).await;
    live.send(5);
    live.stop();
    bench.settled().await;
    assert_eq!(said(&bench).await, Some(info()));
}

#[tokio::test(start_paused = true)]
async fn what_an_encoder_announces_is_of_what_it_brings() {
    for mode in [Some(Mode::Record), None] {
        let config = RecordingSection {
            erase_on_publish: true,
            ..recording()
        };
        let bench = Bench::with_config(config);
        let infos = bench.recordings.infos();
        infos.set(&name("show.flv"), info()).await.unwrap();
        let mut publisher = bench.open("show", 1, mode, None).await;
        publisher.send(5);
        publisher.stop();
        bench.settled().await;
        assert_eq!(said(&bench).await, Some(info()), "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_erased_with_what_is_recorded() {
    let config = RecordingSection {
        erase_on_publish: true,
        ..recording()
    };
    let bench = Bench::with(said_before().await, config);
    let live = bench.open("show", 1, None, None).await;
    bench.settled().await;
    live.stop();
    assert_eq!(said(&bench).await, None);
}
