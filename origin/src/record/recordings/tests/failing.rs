//! Recordings that fail: the live stream goes on, and what was stored becomes a file.

use std::time::Duration;

use headwater_proto::v1::RecordState;
use object_store::ObjectStoreExt;

use super::support::{Publisher, World};
use super::*;
use crate::log::{Item, Reader, Start};
use crate::record::vault::Cause;

/// Everything that a live viewer has got.
fn watched(publisher: &Publisher, reader: &mut Reader) -> u64 {
    let now = Instant::now().into_std();
    let mut frames = 0;
    while let Some(item) = publisher
        .lease
        .handle
        .look(|log| log.read(now, reader, 1_000, 1 << 20))
    {
        match item {
            Item::Frames(some) => frames += some.len() as u64,
            other => panic!("{other:?}"),
        }
    }
    frames
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_never_holds_up_the_live_stream() {
    let bench = Bench::new();
    let mut publisher = bench.recorded("show", 10).await;
    let start = Start::Offset(publisher.frame(10).offset);
    let opened = publisher
        .lease
        .handle
        .update(|log, now| log.open_reader(now, publisher.epoch.0, start));
    let (mut viewer, _) = opened.unwrap();
    bench.world.vault.hang(true);
    let mut sent = 0;
    let mut seen = 0;
    // A mebibyte at about 150 bytes a frame.
    while !publisher.progress().borrow().is_over() {
        publisher.send(100);
        sent += 100;
        seen += watched(&publisher, &mut viewer);
        assert!(sent < 100_000, "it has no bound");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(seen, sent);
    let (state, why) = publisher.over().await;
    assert_eq!(state, RecordState::Failed);
    assert!(why.contains("too slow"), "{why}");
    assert_eq!(
        publisher.durable(),
        publisher.next,
        "nothing is to be kept for it"
    );
    assert_eq!(bench.metric("failures_total"), 1);
    bench.world.vault.hang(false);
    publisher.send(10);
    bench.settled().await;
    let file = bench.file("show.flv").await.unwrap();
    let length = file.len() as u64;
    assert!((10..publisher.next).contains(&length), "{length}");
    assert_eq!(file, publisher.sent(0..length, 0), "what was stored");
    assert_eq!(bench.metric("buffered_bytes"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_while_costs_nothing() {
    let bench = Bench::new();
    bench.world.vault.fail(Cause::Unavailable, 2);
    let mut publisher = bench.recorded("show", 10).await;
    bench.world.vault.fail(Cause::Unavailable, 5);
    publisher.send(10);
    publisher.stored().await;
    bench.world.vault.fail(Cause::Unavailable, 2);
    publisher.stop();
    assert_eq!(publisher.over().await.0, RecordState::Stopped);
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..20, 0)));
    assert!(bench.metric("retries_total") >= 7);
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_gone_before_they_are_taken_end_the_recording() {
    let bench = Bench::new();
    let mut publisher = bench.recorded("show", 10).await;
    // More than the log holds, all at once.
    for _ in 0..20 {
        publisher.send(1_000);
    }
    let (state, why) = publisher.over().await;
    assert_eq!(state, RecordState::Failed);
    assert!(why.contains("frames 10 to"), "{why}");
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..10, 0)));
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_as_what_they_are() {
    for (cause, state, reason) in [
        (Cause::Full, RecordState::Failed, "disk_full"),
        (Cause::NoAccess, RecordState::NoAccess, "no_access"),
        (Cause::Corrupt, RecordState::Failed, "store"),
    ] {
        let bench = Bench::new();
        bench.world.vault.fail(cause, 1);
        let mut publisher = bench.publish("show", 1, Mode::Record).await;
        publisher.send(10);
        assert_eq!(publisher.over().await.0, state, "{cause:?}");
        let text = bench.metrics.encode();
        assert!(text.contains(&format!("reason=\"{reason}\"")), "{text}");
        // It is not begun anew when its publisher reconnects, and is when another one comes.
        let epoch = publisher.epoch;
        drop(publisher);
        let back = bench
            .open("show", 1, Some(Mode::Record), Some((epoch, 0)))
            .await;
        assert_eq!(back.over().await.0, state);
        assert_eq!(back.told, Some(RecordState::Started));
        back.stop();
        let mut other = bench.publish("show", 2, Mode::Record).await;
        other.send(5);
        other.stored().await;
        assert_eq!(other.status(), Some(RecordState::Started));
    }
}

#[tokio::test(start_paused = true)]
async fn limits_end_a_recording_and_leave_a_file() {
    for (config, why, frames) in [
        (
            RecordingSection {
                max_duration_ms: 400,
                ..recording()
            },
            "as long as it may be",
            12,
        ),
        (
            RecordingSection {
                max_recording_bytes: 250,
                ..recording()
            },
            "as large as it may be",
            12,
        ),
    ] {
        let bench = Bench::with_config(config);
        let mut publisher = bench.publish("show", 1, Mode::Record).await;
        publisher.send(5);
        publisher.stored().await;
        publisher.send(30);
        let (state, text) = publisher.over().await;
        assert_eq!(state, RecordState::QuotaExceeded);
        assert!(text.contains(why), "{text}");
        publisher.send(5);
        bench.settled().await;
        let sent = publisher.sent(0..frames, 0);
        assert_eq!(bench.file("show.flv").await, Some(sent), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_with_little_space_ends_recordings() {
    let config = RecordingSection {
        min_free_bytes: 1 << 20,
        ..recording()
    };
    let bench = Bench::alone(World::new(), config);
    *bench.world.free.lock() = Some(1 << 20);
    let mut publisher = bench.recorded("show", 10).await;
    *bench.world.free.lock() = Some((1 << 20) - 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    publisher.send(10);
    let (state, why) = publisher.over().await;
    assert_eq!(state, RecordState::Failed);
    assert!(why.contains("free on the disk"), "{why}");
    bench.settled().await;
    let file = bench.file("show.flv").await.unwrap();
    assert!(file.len() >= 10);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_does_not_fit_waits_for_room() {
    let bench = Bench::new();
    let publisher = bench.recorded("show", 10).await;
    *bench.world.free.lock() = Some(500);
    publisher.stop();
    assert_eq!(publisher.over().await.0, RecordState::Stopped);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.file("show.flv").await, None);
    let tried = bench.metric("compose_errors_total");
    assert!((3..10).contains(&tried), "{tried} times");
    *bench.world.free.lock() = Some(1 << 20);
    bench.settled().await;
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..10, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_file_leaves_those_who_record_what_is_to_be_free() {
    let bench = Bench::with_config(RecordingSection {
        min_free_bytes: 1 << 20,
        ..recording()
    });
    *bench.world.free.lock() = Some((1 << 20) + 500);
    let mut first = bench.publish("first", 1, Mode::Record).await;
    let mut second = bench.publish("second", 2, Mode::Record).await;
    for publisher in [&mut first, &mut second] {
        publisher.send(10);
        publisher.stored().await;
    }
    first.stop();
    assert_eq!(first.over().await.0, RecordState::Stopped);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.file("first.flv").await, None);
    second.send(10);
    second.stored().await;
    second.stop();
    assert_eq!(second.over().await.0, RecordState::Stopped);
    bench.settled().await;
    assert_eq!(bench.file("first.flv").await, Some(first.sent(0..10, 0)));
    assert_eq!(bench.file("second.flv").await, Some(second.sent(0..20, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_disk_with_little_space_ends_no_recordings_that_are_stored_elsewhere() {
    let bench = Bench::with_config(RecordingSection {
        min_free_bytes: 1_000,
        ..recording()
    });
    *bench.world.free.lock() = Some(10);
    // Nor can an unfinished recording be marked.
    std::fs::remove_dir_all(bench.world.disk.path().join("unfinished")).unwrap();
    let mut publisher = bench.recorded("show", 10).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    publisher.send(10);
    publisher.stored().await;
    *bench.world.free.lock() = Some(1 << 20);
    publisher.stop();
    assert_eq!(publisher.over().await.0, RecordState::Stopped);
    while bench.metric("composed_total") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.file("show.flv").await, Some(publisher.sent(0..20, 0)));
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_recordings_than_may_be() {
    let bench = Bench::with_config(RecordingSection {
        max_recordings: 1,
        ..recording()
    });
    let mut first = bench.publish("a", 1, Mode::Record).await;
    first.send(5);
    let second = bench.publish("b", 2, Mode::Record).await;
    let (state, why) = second.over().await;
    assert_eq!(state, RecordState::Failed);
    assert!(why.contains("as many streams"), "{why}");
    first.stop();
    first.over().await;
    bench.recordings.quiet().await;
    let third = bench.publish("c", 3, Mode::Record).await;
    assert_eq!(third.status(), None);
}

#[tokio::test(start_paused = true)]
async fn a_file_is_of_one_stream_at_a_time() {
    let bench = Bench::new();
    let mut first = bench.publish("show", 1, Mode::Record).await;
    first.send(5);
    for other in ["flv:show", "show.flv", "mp4:show.flv"] {
        let second = bench.publish(other, 2, Mode::Record).await;
        assert_eq!(second.over().await.0, RecordState::NoAccess, "{other}");
    }
    for none in ["mp3:show", "mp4:../show.mp4"] {
        let Ok(lease) = bench.logs.lease(&support::name(none)) else {
            panic!("no log");
        };
        drop(lease);
        let refused = bench.publish(none, 2, Mode::Record).await;
        assert_eq!(refused.over().await.0, RecordState::NoAccess, "{none}");
    }
    first.stop();
    bench.settled().await;
    let second = bench.publish("flv:show", 2, Mode::Record).await;
    assert_eq!(second.status(), None);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_say_where_a_recording_ends_is_not_waited_for() {
    let bench = Bench::new();
    bench.world.vault.hang(true);
    let before = Instant::now();
    let publisher = bench.publish("show", 1, Mode::Append).await;
    assert_eq!(before.elapsed(), TIMELINE_PATIENCE);
    assert_eq!(publisher.over().await.0, RecordState::Failed);
    // Who records anew, or goes on, is not kept waiting.
    let before = Instant::now();
    let epoch = publisher.epoch;
    drop(publisher);
    let _ = bench.publish("other", 1, Mode::Record).await;
    let _ = bench
        .open("third", 1, Some(Mode::Append), Some((epoch, 0)))
        .await;
    assert!(before.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_cannot_be_written_to_is_no_access() {
    let world = World::new();
    let streams = world.disk.path().join("store/applications/live/streams");
    std::fs::create_dir_all(&streams).unwrap();
    std::fs::write(streams.join("_definst_"), "no folder").unwrap();
    let bench = Bench::alone(world, recording());
    let publisher = bench.publish("show", 1, Mode::Record).await;
    assert_eq!(publisher.over().await.0, RecordState::NoAccess);
}

#[tokio::test(start_paused = true)]
async fn all_recordings_together_hold_no_more_than_they_may() {
    let bench = Bench::with_config(RecordingSection {
        buffer_bytes: 1 << 20,
        buffers_bytes: 1 << 20,
        ..recording()
    });
    let mut first = bench.publish("a", 1, Mode::Record).await;
    let mut second = bench.publish("b", 2, Mode::Record).await;
    first.send(1);
    second.send(1);
    first.stored().await;
    second.stored().await;
    bench.world.vault.hang(true);
    for _ in 0..60 {
        first.send(100);
        second.send(100);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let failed: Vec<String> = [&first, &second]
        .iter()
        .filter(|it| it.progress().borrow().is_over())
        .map(|it| it.progress().borrow().status().unwrap().1)
        .collect();
    assert!(!failed.is_empty());
    assert!(
        failed.iter().any(|why| why.contains("together")),
        "{failed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_become_a_file_is_tried_seldom_and_taken_over_once() {
    let bench = Bench::new();
    let mut first = bench.publish("show", 1, Mode::Record).await;
    first.send(12);
    first.stop();
    bench.settled().await;
    let mut second = bench.publish("show", 2, Mode::Append).await;
    second.send(10);
    second.stored().await;
    // The process ends before there is a file, and somebody takes away the one to go on behind.
    let epoch = second.epoch;
    let world = bench.end().await;
    let path = "applications/live/streams/_definst_/show.flv".into();
    let before = world.objects.get(&path).await.unwrap();
    let before = before.bytes().await.unwrap();
    world.objects.delete(&path).await.unwrap();
    let bench = Bench::with(world, recording());
    for _ in 0..120 {
        let found = bench.recordings.find(&support::name("show")).await;
        let found = found.unwrap().expect("viewers see it all the same");
        assert_eq!(found.reader.kept().next.unwrap().epoch, epoch);
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
    assert_eq!(bench.world.vault.takeovers(), 1);
    let tried = bench.metric("compose_errors_total");
    assert!((8..15).contains(&tried), "{tried} times in half an hour");
    bench.world.objects.put(&path, before.into()).await.unwrap();
    bench.settled().await;
    let mut both = first.sent(0..12, 0);
    both.extend(second.sent(0..10, 0));
    assert_eq!(bench.file("show.flv").await, Some(both));
}
