//! Recordings that more than one origin has: while a stream moves, and where one does not know yet that it moved.

use std::time::Duration;

use headwater_proto::v1::RecordState;

use super::support::{Publisher, World};
use super::*;
use crate::record::vault::Cause;

/// Another node with the same store.
fn another(bench: &Bench) -> Bench {
    let world = World {
        disk: World::new().disk,
        ..bench.world.clone()
    };
    Bench::with(world, recording())
}

/// Waits until the file is there; its parts linger.
async fn composed(bench: &Bench) {
    let composed = async {
        while bench.metric("composed_total") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), composed)
        .await
        .expect("no file");
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_that_comes_too_late_is_no_failure() {
    let first = Bench::new();
    let mut publisher = first.recorded("show", 10).await;
    first.world.vault.hold(true);
    publisher.send(5);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The next owner has taken the recording over before the stream has left here.
    first.owns(false);
    first.world.vault.fence();
    first.world.vault.hold(false);
    publisher.move_away();
    publisher.left().await;
    assert_eq!(publisher.status(), None, "it goes on elsewhere");
    assert_eq!(publisher.durable(), 10, "nothing else is stored here");
    first.settled().await;
    assert_eq!(first.metric("failures_total"), 0);
    assert_eq!(first.file("show.flv").await, None);
    // The next owner dies.
    first.owns(true);
    let epoch = publisher.epoch;
    let mut back = first
        .open("show", 1, Some(Mode::Record), Some((epoch, 10)))
        .await;
    back.send(300);
    back.stored().await;
    back.stop();
    assert_eq!(back.over().await.0, RecordState::Stopped);
    first.settled().await;
    let end = back.next;
    assert_eq!(first.file("show.flv").await, Some(back.sent(0..end, 0)));
    assert_eq!(first.metric("missing_frames_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_while_a_stream_moves_is_no_failure() {
    let first = Bench::new();
    let mut publisher = first.recorded("show", 10).await;
    first.world.vault.hold(true);
    publisher.send(5);
    tokio::time::sleep(Duration::from_millis(10)).await;
    first.world.vault.hang(true);
    publisher.move_away();
    publisher.left().await;
    assert_eq!((publisher.status(), publisher.durable()), (None, 10));
    first.world.vault.hang(false);
    first.settled().await;
    assert_eq!(first.file("show.flv").await, None, "it is left to the next");
}

#[tokio::test(start_paused = true)]
async fn who_loses_a_recording_to_the_next_owner_holds_what_is_not_stored_for_it() {
    let first = Bench::new();
    let mut publisher = first.recorded("show", 10).await;
    first.owns(false);
    first.world.vault.record_elsewhere(&[]);
    publisher.send(10);
    publisher.left().await;
    assert_eq!(publisher.status(), None);
    assert!(publisher.progress().borrow().is_left());
    assert_eq!(publisher.durable(), 10);
    first.settled().await;
    // The ring changes its mind.
    first.owns(true);
    let epoch = publisher.epoch;
    drop(publisher);
    let mut back = first
        .open("show", 1, Some(Mode::Record), Some((epoch, 10)))
        .await;
    back.send(5);
    back.stored().await;
    back.stop();
    first.settled().await;
    assert_eq!(first.file("show.flv").await, Some(back.sent(0..25, 0)));
}

#[tokio::test(start_paused = true)]
async fn origins_that_contend_for_long_do_not_end_a_recording() {
    let bench = Bench::new();
    let mut publisher = bench.publish("show", 1, Mode::Record).await;
    for _ in 0..12 {
        publisher.send(5);
        publisher.stored().await;
        bench.world.vault.record_elsewhere(&[]);
        publisher.send(5);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    publisher.stored().await;
    publisher.stop();
    assert_eq!(publisher.over().await.0, RecordState::Stopped);
    bench.settled().await;
    assert_eq!(
        bench.file("show.flv").await,
        Some(publisher.sent(0..120, 0))
    );
}

/// What another origin recorded behind a file that this one made, when that one is gone.
async fn recorded_behind(bench: &Bench, publisher: &Publisher) {
    composed(bench).await;
    let more: Vec<_> = (25..40).map(|it| publisher.frame(it)).collect();
    bench.world.vault.record_elsewhere(&more);
}

#[tokio::test(start_paused = true)]
async fn what_another_origin_records_behind_what_is_in_the_file_comes_into_it() {
    let bench = Bench::new();
    let mut publisher = bench.publish("show", 1, Mode::Record).await;
    publisher.timeline = 5_000;
    publisher.send(25);
    publisher.stop();
    recorded_behind(&bench, &publisher).await;
    bench.settled().await;
    let whole = publisher.sent(0..40, 5_000);
    assert_eq!(bench.file("show.flv").await, Some(whole));
    assert_eq!(bench.world.vault.stored(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_another_origin_records_behind_a_file_that_goes_on_is_not_doubled() {
    for crashes in [false, true] {
        let bench = Bench::new();
        let mut before = bench.publish("show", 2, Mode::Record).await;
        before.send(12);
        before.stop();
        bench.settled().await;
        let mut publisher = bench.publish("show", 1, Mode::Append).await;
        publisher.send(25);
        publisher.stop();
        publisher.over().await;
        while bench.metric("composed_total") < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        recorded_behind(&bench, &publisher).await;
        let bench = match crashes {
            false => bench,
            true => {
                let bench = Bench::with(bench.end().await, recording());
                bench.recordings.recover().await;
                bench
            }
        };
        bench.settled().await;
        let mut whole = before.sent(0..12, 0);
        whole.extend(publisher.sent(0..40, 0));
        assert_eq!(bench.file("show.flv").await, Some(whole), "{crashes}");
        assert_eq!(bench.world.vault.stored(), [0; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_publisher_goes_on_where_another_origin_recorded_behind_the_file() {
    let first = Bench::new();
    let mut publisher = first.publish("show", 1, Mode::Record).await;
    publisher.send(25);
    publisher.stop();
    recorded_behind(&first, &publisher).await;
    let second = another(&first);
    let epoch = publisher.epoch;
    let mut back = second
        .open("show", 1, Some(Mode::Record), Some((epoch, 30)))
        .await;
    back.send(20);
    back.stored().await;
    // The one before finds it in use, and leaves it.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(6)).await;
        back.send(1);
    }
    back.stop();
    assert_eq!(back.over().await.0, RecordState::Stopped);
    second.settled().await;
    first.settled().await;
    assert_eq!(second.file("show.flv").await, Some(back.sent(0..60, 0)));
    assert_eq!(second.metric("missing_frames_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_recording_taken_over_and_left_without_a_frame_is_let_go_of() {
    let bench = Bench::new();
    let mut publisher = bench.publish("show", 1, Mode::Record).await;
    publisher.send(25);
    publisher.stop();
    composed(&bench).await;
    bench.world.vault.record_elsewhere(&[]);
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..25, 0)));
    assert_eq!(bench.world.vault.stored(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_not_taken_for_what_is_in_the_file() {
    let bench = Bench::new();
    let mut publisher = bench.publish("show", 1, Mode::Record).await;
    publisher.send(25);
    publisher.stop();
    recorded_behind(&bench, &publisher).await;
    bench.world.vault.fail_open(Some(Cause::Corrupt));
    bench.settled().await;
    assert_eq!(bench.world.vault.stored(), [40], "it is left as it is");
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..25, 0)));
}

#[tokio::test(start_paused = true)]
async fn what_another_origin_records_on_with_a_window_takes_the_place_of_what_is_too_old() {
    for mode in [Mode::Record, Mode::Append] {
        let mut bench = Bench::new();
        let mut before = bench.publish("show", 2, Mode::Record).await;
        before.send(12);
        before.stop();
        bench.settled().await;
        bench.window_ms = 8_000;
        let mut publisher = bench.publish("show", 1, mode).await;
        publisher.send(250);
        publisher.stop();
        while bench.metric("composed_total") < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Twelve seconds more: what is young enough begins behind the file.
        let more: Vec<_> = (250..550).map(|it| publisher.frame(it)).collect();
        bench.world.vault.record_elsewhere(&more);
        bench.world.vault.trim(341);
        bench.settled().await;
        let header = publisher.frame(0).payload;
        let mut young = vec![(0, header)];
        young.extend(publisher.sent(341..550, publisher.timeline + 340 * 40));
        assert_eq!(bench.file("show.flv").await, Some(young), "{mode:?}");
        assert_eq!(bench.world.vault.stored(), [0; 0]);
    }
}
