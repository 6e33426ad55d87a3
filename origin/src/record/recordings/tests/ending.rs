//! Recordings whose publishers end them: what is told, what is durable, and the file.

use std::time::Duration;

use headwater_proto::v1::RecordState;
use object_store::ObjectStoreExt;

use super::support::{World, name};
use super::*;
use crate::record::vault::Cause;

#[tokio::test(start_paused = true)]
async fn a_stream_becomes_a_file() {
    let bench = Bench::new();
    let mut publisher = bench.publish("show", 1, Mode::Record).await;
    assert_eq!((publisher.status(), publisher.durable()), (None, 0));
    assert_eq!(bench.marked().await, 0, "nothing is begun without a frame");
    publisher.send(30);
    publisher.stored().await;
    assert_eq!(publisher.status(), Some(RecordState::Started));
    assert_eq!(bench.marked().await, 1);
    assert_eq!(bench.metric("active"), 1);
    let found = bench.recordings.find(&name("show")).await.unwrap().unwrap();
    assert!(found.growing);
    publisher.send(30);
    publisher.stop();
    assert_eq!(
        publisher.over().await,
        (RecordState::Stopped, String::new())
    );
    assert_eq!(publisher.durable(), 60);
    let found = bench
        .recordings
        .find(&name("flv:show"))
        .await
        .unwrap()
        .unwrap();
    assert!(!found.growing);
    bench.recordings.quiet().await;
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..60, 0)));
    assert_eq!(bench.world.vault.stored(), [0; 0], "the parts are gone");
    assert!(
        bench
            .recordings
            .find(&name("show"))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        (bench.metric("composed_total"), bench.metric("active")),
        (1, 0)
    );
    assert_eq!(bench.metric("frames_total"), 60);
    assert_eq!(bench.metric("buffered_bytes"), 0);
}

#[tokio::test(start_paused = true)]
async fn frames_are_durable_when_they_are_synced() {
    let bench = Bench::new();
    bench.world.vault.hold(true);
    let mut publisher = bench.publish("show", 1, Mode::Record).await;
    publisher.send(10);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        (publisher.durable(), publisher.status()),
        (0, Some(RecordState::Started))
    );
    bench.world.vault.hold(false);
    publisher.stored().await;
    assert_eq!(publisher.durable(), 10);
    let syncs = bench.world.vault.syncs();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(
        bench.world.vault.syncs(),
        syncs,
        "nothing is synced without need"
    );
    publisher.send(1);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(publisher.durable(), 11, "it has not been synced for long");
    publisher.send(1);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(publisher.durable(), 11, "not yet");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(publisher.durable(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_sends_nothing_leaves_nothing() {
    let bench = Bench::new();
    let old = bench.publish("show", 1, Mode::Record).await;
    old.stop();
    assert_eq!(old.over().await.0, RecordState::Stopped);
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_there_is_replaced_with_the_first_frame() {
    let bench = Bench::new();
    let mut first = bench.publish("show", 1, Mode::Record).await;
    first.send(20);
    first.stop();
    bench.settled().await;
    let mut second = bench.publish("show", 2, Mode::Record).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(
        bench
            .recordings
            .find(&name("show"))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(bench.file("show.flv").await, Some(first.sent(0..20, 0)));
    second.timeline = 5_000;
    second.send(10);
    second.stored().await;
    assert!(
        bench
            .recordings
            .find(&name("show"))
            .await
            .unwrap()
            .is_some()
    );
    second.stop();
    bench.settled().await;
    let expected = second.sent(0..10, 5_000);
    assert_eq!(
        bench.file("show.flv").await,
        Some(expected),
        "a file begins at 0"
    );
}

#[tokio::test(start_paused = true)]
async fn a_name_is_recorded_anew_while_its_file_is_made() {
    let bench = Bench::new();
    let first = bench.recorded("show", 20).await;
    bench.world.vault.hang(true);
    first.stop();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut second = bench.publish("show", 2, Mode::Record).await;
    second.send(10);
    bench.world.vault.hang(false);
    second.stored().await;
    assert_eq!(first.over().await.0, RecordState::Stopped);
    second.stop();
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(second.sent(0..10, 0)));
    assert_eq!(bench.world.vault.stored(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_name_taken_over_by_a_live_publisher_keeps_its_recording() {
    let bench = Bench::new();
    let mut recorded = bench.publish("show", 1, Mode::Record).await;
    recorded.send(5);
    recorded.stop();
    let mut live = bench.open("show", 2, None, None).await;
    live.send(7);
    assert_eq!(recorded.over().await.0, RecordState::Stopped);
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(recorded.sent(0..5, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_live_publisher_erases_what_is_recorded_if_told_so() {
    let config = RecordingSection {
        erase_on_publish: true,
        ..recording()
    };
    let bench = Bench::with_config(config);
    let mut recorded = bench.publish("show", 1, Mode::Record).await;
    recorded.send(5);
    recorded.stop();
    bench.settled().await;
    assert!(bench.file("show.flv").await.is_some());
    let live = bench.open("show", 2, None, None).await;
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, None);
    live.stop();
    // The next one is not told of a recording that is gone.
    let appended = bench.publish("show", 3, Mode::Append).await;
    assert_eq!(appended.given, None);
}

#[tokio::test(start_paused = true)]
async fn what_a_process_left_is_made_a_file_by_the_next() {
    let bench = Bench::new();
    let publisher = bench.recorded("show", 25).await;
    let world = bench.end().await;
    assert_eq!(
        publisher.progress().borrow().status(),
        None,
        "it goes on elsewhere"
    );
    assert_eq!(publisher.durable(), 25);
    let bench = Bench::with(world, recording());
    bench.recordings.recover().await;
    tokio::time::sleep(Duration::from_millis(9_900)).await;
    assert_eq!(
        bench.file("show.flv").await,
        None,
        "the publisher may come back"
    );
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..25, 0)));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_looks_after_is_found_and_made_a_file() {
    let bench = Bench::new();
    let publisher = bench.recorded("show", 25).await;
    let world = World {
        // Another machine.
        disk: World::new().disk,
        ..bench.end().await
    };
    let bench = Bench::with(world, recording());
    bench.recordings.recover().await;
    assert!(
        bench
            .recordings
            .find(&name("other"))
            .await
            .unwrap()
            .is_none()
    );
    let found = bench.recordings.find(&name("show")).await.unwrap().unwrap();
    assert!(!found.growing);
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..25, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_name_without_a_recording_costs_the_store_one_question_in_a_while() {
    let bench = Bench::new();
    assert!(
        bench
            .recordings
            .find(&name("show"))
            .await
            .unwrap()
            .is_none()
    );
    bench.world.vault.hang(true);
    assert!(
        bench
            .recordings
            .find(&name("show"))
            .await
            .unwrap()
            .is_none()
    );
    tokio::time::sleep(ABSENT_FOR).await;
    let name = name("show");
    let asked = bench.recordings.find(&name);
    let asked = tokio::time::timeout(Duration::from_secs(1), asked);
    assert!(asked.await.is_err(), "it has to be asked again");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_made_is_tried_again() {
    let bench = Bench::new();
    let publisher = bench.recorded("show", 25).await;
    let busy = bench.keep_from_composing().await;
    publisher.stop();
    publisher.over().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.world.vault.fail(Cause::Unavailable, 3);
    drop(busy);
    bench.settled().await;
    assert!(bench.metric("compose_errors_total") > 0);
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..25, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_file_in_place_is_not_made_again_after_a_crash() {
    let bench = Bench::new();
    let publisher = bench.recorded("show", 25).await;
    publisher.stop();
    let composed = async {
        while bench.metric("composed_total") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    composed.await;
    assert_eq!(bench.world.vault.stored(), [25], "its parts linger");
    let world = bench.end().await;
    let path = "applications/live/streams/_definst_/show.flv".into();
    let before = world.objects.head(&path).await.unwrap();
    let bench = Bench::with(world, recording());
    bench.recordings.recover().await;
    bench.settled().await;
    assert_eq!(bench.world.vault.stored(), [0; 0]);
    assert_eq!(bench.world.objects.head(&path).await.unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stops_leaves_what_the_store_does_not_have_on_its_machine() {
    for fails in [false, true] {
        let bench = Bench::new();
        let mut publisher = bench.publish("show", 1, Mode::Record).await;
        publisher.send(10);
        publisher.stored().await;
        // The store takes nothing more; then it fails, and what comes waits in front of it.
        bench.world.vault.hold(true);
        publisher.send(10);
        tokio::time::sleep(Duration::from_secs(1)).await;
        if fails {
            bench.world.vault.fail(Cause::Unavailable, 5);
        }
        publisher.send(10);
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.world.vault.calm();
        let world = bench.end().await;
        world.vault.crash();
        assert_eq!(world.vault.stored(), [30], "{fails}");
    }
}
