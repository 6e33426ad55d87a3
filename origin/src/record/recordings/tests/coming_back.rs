//! Publishers that come back: what is durable of what they sent before, and what they are told.

use std::time::Duration;

use headwater_proto::v1::RecordState;

use super::*;
use crate::record::vault::Cause;

#[tokio::test(start_paused = true)]
async fn what_the_session_before_has_not_stored_yet_is_not_durable() {
    let bench = Bench::new();
    let mut publisher = bench.recorded("show", 10).await;
    bench.world.vault.hang(true);
    publisher.send(10);
    publisher.stop();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let epoch = publisher.epoch;
    let mut back = bench
        .open("show", 1, Some(Mode::Record), Some((epoch, 10)))
        .await;
    assert_eq!(back.next, 20);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(back.durable() <= 10, "{}", back.durable());
    bench.world.vault.hang(false);
    back.stored().await;
    assert_eq!(publisher.over().await.0, RecordState::Stopped);
    back.send(10);
    back.stop();
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(back.sent(0..30, 0)));
    assert_eq!(bench.metric("missing_frames_total"), 0);
    assert_eq!(bench.metric("buffered_bytes"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_session_before_could_not_store_is_stored_by_the_next() {
    let bench = Bench::new();
    let mut publisher = bench.recorded("show", 10).await;
    bench.world.vault.hold(true);
    publisher.send(10);
    tokio::time::sleep(Duration::from_millis(10)).await;
    bench.world.vault.hang(true);
    publisher.stop();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let epoch = publisher.epoch;
    let mut back = bench
        .open("show", 1, Some(Mode::Record), Some((epoch, 10)))
        .await;
    assert_eq!(publisher.over().await.0, RecordState::Failed);
    // What was written and not durable is gone.
    bench.world.vault.crash();
    bench.world.vault.hold(false);
    bench.world.vault.hang(false);
    back.send(10);
    back.stored().await;
    back.stop();
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(back.sent(0..30, 0)));
    assert_eq!(bench.metric("missing_frames_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_recording_that_failed_while_its_publisher_was_away_is_told() {
    let bench = Bench::new();
    let mut publisher = bench.recorded("show", 10).await;
    let epoch = publisher.epoch;
    bench.world.vault.fail(Cause::Full, 1);
    publisher.send(1);
    drop(publisher);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let back = bench
        .open("show", 1, Some(Mode::Record), Some((epoch, 10)))
        .await;
    assert_eq!(back.over().await.0, RecordState::Failed);
    // Nothing is left out but that it began.
    assert_eq!(back.told, Some(RecordState::Started));
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_comes_back_late_doubles_nothing() {
    for (mode, window_ms) in [
        (Mode::Record, 0),
        (Mode::Append, 0),
        (Mode::AppendWithGap, 0),
        (Mode::Append, 60_000),
    ] {
        let mut bench = Bench::new();
        bench.window_ms = window_ms;
        let mut before = bench.publish("show", 2, Mode::Record).await;
        before.send(12);
        before.stop();
        bench.settled().await;
        let mut publisher = bench.publish("show", 1, mode).await;
        let start = publisher.timeline;
        publisher.send(10);
        let epoch = publisher.epoch;
        drop(publisher);
        // The first time its parts linger; then they are gone.
        for (round, away) in [(1, 3), (2, 60), (3, 60)] {
            tokio::time::sleep(Duration::from_secs(away)).await;
            let mut back = bench
                .open("show", 1, Some(mode), Some((epoch, round * 10 - 5)))
                .await;
            back.timeline = start;
            assert_eq!(back.next, round * 10);
            back.send(10);
            back.stored().await;
        }
        bench.settled().await;
        let mut back = bench.open("show", 1, None, Some((epoch, 40))).await;
        back.timeline = start;
        let (mut whole, begin) = match mode {
            Mode::Record => (Vec::new(), start),
            Mode::Append | Mode::AppendWithGap => (before.sent(0..12, 0), 0),
        };
        whole.extend(back.sent(0..40, begin));
        assert_eq!(bench.file("show.flv").await, Some(whole), "{mode:?}");
    }
}
