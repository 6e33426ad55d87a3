//! Streams that are recorded, over two owners.

use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_proto::v1;
use headwater_proto::v1::{PublishMode, RecordState};
use tokio::time::Instant;

use super::super::{PublishEvent, RECORDED_CLOSE_TIMEOUT};
use crate::testing::owner::{A_MOMENT, Owners};

#[tokio::test(start_paused = true)]
async fn the_next_owner_is_sent_all_that_is_not_durable() {
    for (mode, first) in [
        (PublishMode::Live, 48),
        (PublishMode::Record, 20),
        (PublishMode::Append, 20),
        (PublishMode::AppendWithGap, 20),
    ] {
        let bench = Owners::start().await;
        let show = bench.origins.stream_of("a");
        let (a, b) = (bench.owner("a"), bench.owner("b"));
        let recorded = mode != PublishMode::Live;
        a.durable.send_replace(if recorded { 20 } else { u64::MAX });
        let mut client = bench.publish(&show, mode).await;
        client.send(50).await;
        let call = a.until(|call| call.sequences.len() == 50).await;
        assert_eq!(call.open.mode(), mode);
        assert_eq!(call.open.resume, None);
        tokio::time::sleep(A_MOMENT).await;
        bench.origins.kill("a");
        let call = b.until(|call| call.sequences.last() == Some(&49)).await;
        let open = call.open;
        assert_eq!(open.mode(), mode);
        let resume = v1::Offset {
            epoch: 5,
            sequence: first,
        };
        assert_eq!(open.resume, Some(resume), "{mode:?}");
        assert_eq!(open.preface.len(), 1, "the codec header left long ago");
        assert_eq!(call.sequences, Vec::from_iter(first..50), "{mode:?}");
        // It goes on there.
        client.send(5).await;
        b.until(|call| call.sequences.last() == Some(&54)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_becomes_durable_is_let_go_of() {
    let bench = Owners::start().await;
    let show = bench.origins.stream_of("a");
    let (a, b) = (bench.owner("a"), bench.owner("b"));
    let mut client = bench.publish(&show, PublishMode::Record).await;
    client.send(50).await;
    a.until(|call| call.sequences.len() == 50).await;
    // Nothing is sent, and nothing is accepted, but the store has got further.
    for durable in [10, 30] {
        a.durable.send_replace(durable);
        tokio::time::sleep(A_MOMENT).await;
    }
    bench.origins.kill("a");
    let call = b.until(|call| call.sequences.last() == Some(&49)).await;
    assert_eq!(call.sequences.first(), Some(&30));
}

#[tokio::test(start_paused = true)]
async fn the_client_is_told_of_its_recording_and_nothing_of_what_happens_between_nodes() {
    let bench = Owners::start().await;
    let show = bench.origins.stream_of("a");
    for id in ["a", "b"] {
        *bench.owner(id).record.lock() = Some(RecordState::Started);
        bench.owner(id).durable.send_replace(u64::MAX);
    }
    let mut client = bench.publish(&show, PublishMode::Record).await;
    client.send(10).await;
    bench
        .owner("a")
        .until(|call| call.sequences.len() == 10)
        .await;
    bench.origins.kill("a");
    client.send(10).await;
    let b = bench.owner("b");
    b.until(|call| call.sequences.last() == Some(&19)).await;
    client.leave();
    let told = client.recording().await;
    assert_eq!(told, [RecordState::Started, RecordState::Stopped]);
}

#[tokio::test(start_paused = true)]
async fn a_recording_that_fails_costs_no_frame_of_the_live_stream() {
    let bench = Owners::start().await;
    let show = bench.origins.stream_of("a");
    let a = bench.owner("a");
    *a.record.lock() = Some(RecordState::Failed);
    // Nothing has to be kept for its sake.
    a.durable.send_replace(u64::MAX);
    let mut client = bench.publish(&show, PublishMode::Record).await;
    let Some(PublishEvent::Record(status)) = client.event().await else {
        panic!("not told");
    };
    assert_eq!(status.state(), RecordState::Failed);
    client.send(50).await;
    a.until(|call| call.sequences.len() == 50).await;
    tokio::time::sleep(A_MOMENT).await;
    bench.origins.kill("a");
    let call = bench
        .owner("b")
        .until(|call| !call.sequences.is_empty())
        .await;
    assert_eq!(call.sequences.first(), Some(&48));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_recording_survives_its_owner_after_the_client_has_left() {
    let bench = Owners::start().await;
    let show = bench.origins.stream_of("a");
    let (a, b) = (bench.owner("a"), bench.owner("b"));
    a.durable.send_replace(40);
    let mut client = bench.publish(&show, PublishMode::Append).await;
    client.send(50).await;
    client.leave();
    a.until(|call| call.closed).await;
    tokio::time::sleep(A_MOMENT).await;
    b.durable.send_replace(u64::MAX);
    bench.origins.kill("a");
    let call = b.until(|call| call.closed).await;
    assert_eq!(call.sequences, Vec::from_iter(40..50));
    assert_eq!(client.recording().await, [RecordState::Stopped]);
    assert_eq!(bench.origins.metric("publishers"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_ends_the_call_too_early_is_not_the_end_of_a_recording() {
    let bench = Owners::start().await;
    let show = bench.origins.stream_of("a");
    let a = bench.owner("a");
    a.durable.send_replace(40);
    a.waits_for_store.store(false, Ordering::Relaxed);
    let mut client = bench.publish(&show, PublishMode::Append).await;
    client.send(50).await;
    client.leave();
    a.until(|call| call.closed).await;
    // What is missing is sent again, but not without a pause.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let calls = a.calls.borrow().clone();
    assert!((3..60).contains(&calls.len()), "{} calls", calls.len());
    for call in &calls[1..calls.len() - 1] {
        assert_eq!(call.sequences, Vec::from_iter(40..50));
    }
    a.durable.send_replace(u64::MAX);
    assert_eq!(client.recording().await, [RecordState::Stopped]);
    assert_eq!(bench.origins.metric("publishers"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn owners_that_end_every_call_too_early_are_not_asked_for_ever() {
    let bench = Owners::start().await;
    let show = bench.origins.stream_of("a");
    let a = bench.owner("a");
    a.waits_for_store.store(false, Ordering::Relaxed);
    let mut client = bench.publish(&show, PublishMode::Record).await;
    client.send(50).await;
    a.until(|call| call.sequences.len() == 50).await;
    client.leave();
    let began = Instant::now();
    client.recording().await;
    let took = began.elapsed();
    assert!(took >= RECORDED_CLOSE_TIMEOUT / 2, "{took:?}");
    assert!(took < RECORDED_CLOSE_TIMEOUT * 2, "{took:?}");
    assert_eq!(bench.origins.metric("publishers"), 0.0);
}

/// As before: whoever has all of a live stream has all that there is to have.
#[tokio::test(start_paused = true)]
async fn a_live_stream_ends_with_its_client() {
    let bench = Owners::start().await;
    let show = bench.origins.stream_of("a");
    let mut client = bench.publish(&show, PublishMode::Live).await;
    client.send(50).await;
    client.leave();
    bench.owner("a").until(|call| call.closed).await;
    tokio::time::sleep(A_MOMENT).await;
    bench.origins.kill("a");
    assert_eq!(client.recording().await, []);
    assert!(bench.owner("b").calls.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_has_it_is_not_waited_for_for_ever() {
    let bench = Owners::start().await;
    let show = bench.origins.stream_of("a");
    for id in ["a", "b"] {
        bench.owner(id).durable.send_replace(10);
    }
    let mut client = bench.publish(&show, PublishMode::Record).await;
    client.send(50).await;
    bench
        .owner("a")
        .until(|call| call.sequences.len() == 50)
        .await;
    client.leave();
    let began = Instant::now();
    assert_eq!(client.recording().await, []);
    assert!(
        began.elapsed() >= RECORDED_CLOSE_TIMEOUT,
        "{:?}",
        began.elapsed()
    );
    assert!(
        began.elapsed() < RECORDED_CLOSE_TIMEOUT * 2,
        "{:?}",
        began.elapsed()
    );
    assert_eq!(bench.origins.metric("publishers"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_is_counted_and_the_stream_goes_on() {
    let bench = Owners::keeping(1 << 20).await;
    let show = bench.origins.stream_of("a");
    let a = bench.owner("a");
    let mut client = bench.publish(&show, PublishMode::Record).await;
    // Each frame counts its place: as many as the window has places for, and some.
    let places = u32::try_from(bench.origins.upstream.config.window_bytes / 100).unwrap();
    client.send(places + 1_000).await;
    let all = u64::from(places) + 1_000;
    a.until(|call| call.sequences.len() as u64 == all).await;
    assert_eq!(bench.origins.metric("frames_not_durable_total"), 1_000.0);
    assert_eq!(bench.origins.metric("frames_lost_total"), 0.0);
}
