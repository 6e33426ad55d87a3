//! Recordings that go on: behind what is there, after a pause, on another origin.

use std::time::Duration;

use headwater_proto::v1::RecordState;

use super::support::World;
use super::*;
use crate::record::vault::Cause;

#[tokio::test(start_paused = true)]
async fn a_publisher_goes_on_behind_a_file() {
    let bench = Bench::new();
    let mut first = bench.publish("show", 1, Mode::Append).await;
    assert_eq!(first.given, None);
    first.timeline = 7_000;
    first.send(25);
    first.stop();
    bench.settled().await;
    let mut second = bench.publish("show", 2, Mode::Append).await;
    assert_eq!(second.given, Some(960), "where the file ends");
    second.send(10);
    second.stop();
    bench.settled().await;
    let mut both = first.sent(0..25, 7_000);
    both.extend(second.sent(0..10, 0));
    assert_eq!(bench.file("show.flv").await, Some(both.clone()));
    // And again, with the time in between.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut third = bench.publish("show", 3, Mode::AppendWithGap).await;
    let given = third.given.unwrap();
    // The wall clock is not paused.
    assert!((1_320..60_000).contains(&given), "{given}");
    third.send(10);
    third.stop();
    bench.settled().await;
    both.extend(third.sent(0..10, 0));
    assert_eq!(bench.file("show.flv").await, Some(both));
}

#[tokio::test(start_paused = true)]
async fn file_and_recording_together_are_as_long_as_what_is_kept() {
    let mut bench = Bench::new();
    let mut first = bench.publish("show", 1, Mode::Append).await;
    first.send(250);
    first.stop();
    bench.settled().await;
    bench.window_ms = 8_000;
    let mut second = bench.publish("show", 2, Mode::Append).await;
    assert_eq!(second.given, Some(9_960), "where the file ends");
    second.send(125);
    second.stop();
    bench.settled().await;
    assert_eq!(bench.world.vault.window_ms(), 8_000);
    // The end of both is at 14,920: from the last place before 6,920 on where pieces of the file begin, with what is in force there.
    let mut kept = first.sent(0..1, 0);
    kept.extend(first.sent(151..250, 6_000));
    kept.extend(second.sent(0..125, 6_000));
    assert_eq!(bench.file("show.flv").await, Some(kept));
    let mut third = bench.publish("show", 3, Mode::Append).await;
    assert_eq!(third.given, Some(8_920));
    third.send(300);
    third.stop();
    bench.settled().await;
    assert_eq!(
        bench.file("show.flv").await,
        Some(third.sent(0..300, 8_920)),
        "nothing of the file is young enough"
    );
}

#[tokio::test(start_paused = true)]
async fn as_much_is_kept_as_the_last_who_goes_on_asks_for() {
    let mut bench = Bench::new();
    let mut first = bench.publish("show", 1, Mode::Append).await;
    first.send(250);
    first.stop();
    bench.settled().await;
    let mut second = bench.publish("show", 2, Mode::Append).await;
    second.send(50);
    let busy = bench.keep_from_composing().await;
    second.stop();
    second.over().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.window_ms = 8_000;
    let mut third = bench.publish("show", 3, Mode::Append).await;
    drop(busy);
    assert_eq!(third.given, Some(11_920), "it is no file yet");
    third.send(125);
    third.stop();
    bench.settled().await;
    // The end of all is at 16,880, and the last place before 8,880 where a piece of the file begins at 8,000.
    let mut kept = first.sent(0..1, 0);
    kept.extend(first.sent(201..250, 8_000));
    kept.extend(second.sent(0..50, 8_000));
    kept.extend(third.sent(0..125, 8_000));
    assert_eq!(bench.file("show.flv").await, Some(kept));
}

#[tokio::test(start_paused = true)]
async fn a_publisher_goes_on_behind_what_is_not_a_file_yet() {
    let bench = Bench::new();
    let mut first = bench.publish("show", 1, Mode::Record).await;
    first.timeline = 1_000;
    first.send(25);
    let busy = bench.keep_from_composing().await;
    first.stop();
    first.over().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut second = bench.publish("show", 2, Mode::Append).await;
    drop(busy);
    assert_eq!(
        second.given,
        Some(1_960),
        "the timeline of the recording goes on"
    );
    second.send(10);
    second.stop();
    bench.settled().await;
    let mut both = first.sent(0..25, 1_000);
    both.extend(second.sent(0..10, 1_000));
    assert_eq!(bench.file("show.flv").await, Some(both));
    assert_eq!(bench.metric("composed_total"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_reconnects_in_time_goes_on_in_its_session() {
    let bench = Bench::new();
    let publisher = bench.recorded("show", 10).await;
    let epoch = publisher.epoch;
    drop(publisher);
    tokio::time::sleep(Duration::from_millis(900)).await;
    let mut back = bench
        .open("show", 1, Some(Mode::Record), Some((epoch, 0)))
        .await;
    // It may be told so again: its edge knows.
    assert_eq!(
        (back.status(), back.told),
        (Some(RecordState::Started), None)
    );
    assert_eq!((back.next, back.durable()), (10, 10));
    back.send(10);
    back.stop();
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(back.sent(0..20, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_comes_back_late_goes_on_behind_its_own_file() {
    for mode in [Mode::Record, Mode::Append] {
        let bench = Bench::new();
        let mut publisher = bench.publish("show", 1, mode).await;
        publisher.timeline = 3_000;
        publisher.send(10);
        let epoch = publisher.epoch;
        drop(publisher);
        bench.settled().await;
        let mut back = bench.open("show", 1, Some(mode), Some((epoch, 5))).await;
        back.timeline = 3_000;
        assert_eq!(back.next, 10);
        back.send(10);
        back.stored().await;
        back.stop();
        bench.settled().await;
        assert_eq!(
            bench.file("show.flv").await,
            Some(back.sent(0..20, 3_000)),
            "{mode:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn another_origin_goes_on_after_a_crash() {
    let first = Bench::new();
    let mut publisher = first.recorded("show", 10).await;
    first.world.vault.hold(true);
    publisher.send(10);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(publisher.durable(), 10);
    let world = first.end().await;
    world.vault.crash();
    world.vault.hold(false);
    let second = Bench::with(
        World {
            disk: World::new().disk,
            ..world
        },
        recording(),
    );
    // The edge has kept everything from frame 8 on.
    let epoch = publisher.epoch;
    let mut back = second
        .open("show", 1, Some(Mode::Record), Some((epoch, 8)))
        .await;
    assert_eq!(back.next, 8);
    back.send(12);
    back.stored().await;
    assert_eq!(back.status(), None, "that it began was told before");
    back.send(5);
    back.stop();
    assert_eq!(back.over().await.0, RecordState::Stopped);
    second.settled().await;
    assert_eq!(second.file("show.flv").await, Some(back.sent(0..25, 0)));
    assert_eq!(second.metric("missing_frames_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_recording_that_comes_to_an_origin_without_its_beginning_has_a_hole_that_is_counted() {
    let bench = Bench::new();
    let epoch = Epoch(unix_millis());
    let mut late = bench
        .open("show", 1, Some(Mode::Record), Some((epoch, 30)))
        .await;
    late.send(5);
    late.stored().await;
    assert_eq!(late.status(), Some(RecordState::Started));
    late.stop();
    bench.settled().await;
    let start = late.timeline + 29 * 40;
    assert_eq!(bench.file("show.flv").await, Some(late.sent(30..35, start)));
    assert_eq!(bench.metric("missing_frames_total"), 30);
}

#[tokio::test(start_paused = true)]
async fn frames_that_an_edge_lost_are_a_hole_and_no_end() {
    let bench = Bench::new();
    let publisher = bench.recorded("show", 10).await;
    let epoch = publisher.epoch;
    drop(publisher);
    let mut back = bench
        .open("show", 1, Some(Mode::Record), Some((epoch, 14)))
        .await;
    assert_eq!(back.next, 14);
    // Not a key frame: live viewers would skip to the next one.
    back.send(10);
    back.stop();
    bench.settled().await;
    let mut frames = back.sent(0..10, 0);
    frames.extend(back.sent(14..24, 0));
    assert_eq!(bench.file("show.flv").await, Some(frames));
    assert_eq!(bench.metric("missing_frames_total"), 4);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_moves_takes_its_recording_along() {
    let first = Bench::new();
    let mut publisher = first.publish("show", 1, Mode::Record).await;
    publisher.send(10);
    publisher.move_away();
    assert_eq!(publisher.over().await.0, RecordState::Stopped);
    first.settled().await;
    assert_eq!(
        first.world.vault.stored(),
        [10],
        "it is left to the other origin"
    );
    assert_eq!(first.file("show.flv").await, None);
    let second = Bench::with(
        World {
            disk: World::new().disk,
            ..first.world.clone()
        },
        recording(),
    );
    let epoch = publisher.epoch;
    let mut back = second
        .open("show", 1, Some(Mode::Record), Some((epoch, 4)))
        .await;
    back.send(16);
    back.stop();
    second.settled().await;
    assert_eq!(second.file("show.flv").await, Some(back.sent(0..20, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_moves_leaves_its_part_where_nobody_else_has_the_store() {
    let bench = Bench::alone(World::new(), recording());
    let mut publisher = bench.publish("show", 1, Mode::Record).await;
    publisher.send(10);
    publisher.move_away();
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..10, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_recording_is_taken_back_from_an_origin_that_was_mistaken() {
    let bench = Bench::new();
    let mut publisher = bench.recorded("show", 10).await;
    bench.world.vault.hold(true);
    publisher.send(10);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // What was not durable is lost with the writer.
    bench.world.vault.fence();
    bench.world.vault.hold(false);
    publisher.send(5);
    publisher.stored().await;
    publisher.stop();
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..25, 0)));
    assert!(bench.world.vault.takeovers() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_recording_that_cannot_be_read_is_left_and_another_begun() {
    let bench = Bench::new();
    let _first = bench.recorded("show", 10).await;
    let world = bench.end().await;
    let bench = Bench::with(world, recording());
    bench.world.vault.fail_kept(Cause::Corrupt, 1);
    let mut second = bench.publish("show", 2, Mode::Append).await;
    assert_eq!(second.given, None);
    second.send(5);
    second.stored().await;
    assert_eq!(bench.world.vault.stored(), [10, 5]);
}
