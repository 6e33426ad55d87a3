//! The services over real gRPC, in one process and on a paused clock.

use std::time::Duration;

use headwater_proto::v1;
use headwater_proto::v1::append_request::Request as Append;
use headwater_proto::v1::append_response::Response as Answer;
use headwater_proto::v1::read_response::Response as Found;
use headwater_proto::v1::{CloseReason, RejectReason, StreamState};
use tokio::time::Instant;
use tonic::Code;

mod applications;
mod bench;
mod files;
mod peers;
mod recorded;
mod recordings;
mod refusing;
mod routing;
mod sizes;

use bench::{Bench, Publisher, Viewer, append_open, name, read_open, resume, section, wire_name};

#[tokio::test(start_paused = true)]
async fn viewers_that_wait_see_everything() {
    let bench = Bench::one().await;
    let name = name("camera");
    let mut viewer = bench.read("a", &name).await;
    assert!(!viewer.opened.publishing);
    let mut publisher = bench.publish("a", &name, 1).await;
    let accepted = publisher.accepted().await;
    assert_eq!((accepted.timeline, accepted.next_sequence), (None, 0));
    publisher.push(0..25).await;
    publisher.acknowledged(25).await;
    assert_eq!(
        viewer.status().await,
        (StreamState::Published, publisher.epoch)
    );
    assert_eq!(viewer.frames_until(25).await, 0);
    publisher.push(25..26).await;
    assert_eq!(viewer.frames_until(26).await, 25);
    publisher.close(CloseReason::Unpublished, None).await;
    assert_eq!(
        viewer.status().await,
        (StreamState::Unpublished, publisher.epoch)
    );
    assert_eq!(publisher.end().await.code(), Code::Ok);
    assert_eq!(bench.metric("a", "frames_in_total"), "26");
    assert_eq!(bench.metric("a", "frames_out_total"), "26");
    assert_eq!(bench.metric("a", "publishers"), "0");
    assert_eq!(bench.metric("a", "readers"), "1");
}

#[tokio::test(start_paused = true)]
async fn late_viewers_start_at_the_newest_key_frame() {
    let bench = Bench::one().await;
    let name = name("camera");
    let mut publisher = bench.publish("a", &name, 1).await;
    publisher.accepted().await;
    publisher.push(0..25).await;
    publisher.acknowledged(25).await;
    let mut viewer = bench.read("a", &name).await;
    assert!(viewer.opened.publishing);
    assert_eq!(viewer.opened.epoch, publisher.epoch);
    assert_eq!(viewer.opened.preface, [bench::frame(0, 100)]);
    assert_eq!(viewer.frames_until(25).await, 21);
    let load = bench.nodes["a"].origin.remaining();
    assert_eq!((load.publishers, load.readers), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_comes_back_repeats_nothing() {
    let bench = Bench::one().await;
    let name = name("camera");
    let mut viewer = bench.read("a", &name).await;
    let mut publisher = bench.publish("a", &name, 1).await;
    publisher.accepted().await;
    publisher.push(0..10).await;
    publisher.acknowledged(10).await;
    let epoch = publisher.epoch;
    drop(publisher);
    let mut publisher = Publisher::open(bench.client("a"), resume(&name, 1, epoch, 5)).await;
    let accepted = publisher.accepted().await;
    assert_eq!((accepted.epoch, accepted.next_sequence), (epoch, 10));
    publisher.push(5..20).await;
    publisher.acknowledged(20).await;
    viewer.status().await;
    assert_eq!(viewer.frames_until(20).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_publisher_is_missed_after_the_grace() {
    let bench = Bench::one().await;
    let name = name("camera");
    let mut viewer = bench.read("a", &name).await;
    let mut publisher = bench.publish("a", &name, 1).await;
    let epoch = publisher.accepted().await.epoch;
    publisher.push(0..3).await;
    publisher.acknowledged(3).await;
    viewer.status().await;
    viewer.frames_until(3).await;
    let lost = Instant::now();
    drop(publisher);
    assert_eq!(viewer.status().await, (StreamState::Unpublished, epoch));
    let grace = Duration::from_millis(section().publisher_grace_ms);
    assert!(
        lost.elapsed() >= grace && lost.elapsed() < grace * 2,
        "{:?}",
        lost.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_is_alive_keeps_its_name() {
    let bench = Bench::one().await;
    let name = name("camera");
    let mut first = bench.publish("a", &name, 1).await;
    first.accepted().await;
    let mut second = bench.publish("a", &name, 2).await;
    let Answer::Probe(probe) = first.told().await else {
        panic!("not probed");
    };
    assert_eq!(u64::from(probe.timeout_ms), section().takeover_silence_ms);
    let alive = v1::PublisherAlive {
        token: probe.token,
        alive: true,
    };
    first.send(Append::Alive(alive)).await;
    assert_eq!(second.rejected().await, RejectReason::Busy);
    first.push(0..2).await;
    first.acknowledged(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_publisher_loses_its_name() {
    let bench = Bench::one().await;
    let name = name("camera");
    let mut first = bench.publish("a", &name, 1).await;
    first.accepted().await;
    first.push(0..3).await;
    first.acknowledged(3).await;
    let mut viewer = bench.read("a", &name).await;
    viewer.frames_until(3).await;
    let asked = Instant::now();
    let mut second = bench.publish("a", &name, 2).await;
    let accepted = second.accepted().await;
    assert!(asked.elapsed() >= Duration::from_millis(section().takeover_silence_ms));
    assert!(accepted.epoch > first.epoch);
    assert!(accepted.timeline >= Some(80 + section().takeover_silence_ms));
    assert!(matches!(first.told().await, Answer::Probe(_)));
    match first.told().await {
        Answer::Stopped(stopped) => assert_eq!(stopped.reason(), v1::StopReason::Replaced),
        other => panic!("not stopped: {other:?}"),
    }
    assert_eq!(first.end().await.code(), Code::Ok);
    second.push(0..2).await;
    assert_eq!(
        viewer.status().await,
        (StreamState::Published, accepted.epoch)
    );
    viewer.frames_until(2).await;
    assert_eq!(bench.metric("a", "takeovers_total"), "1");
    assert_eq!(bench.metric("a", "epochs_total"), "2");
}

#[tokio::test(start_paused = true)]
async fn a_slow_viewer_jumps_and_delays_nobody() {
    const SIZE: usize = 40 << 10;
    let bench = Bench::one().await;
    let name = name("camera");
    let mut publisher = bench.publish("a", &name, 1).await;
    publisher.accepted().await;
    let mut slow = bench.read("a", &name).await;
    let mut fast = bench.read("a", &name).await;
    for start in (0..400).step_by(5) {
        publisher.push_sized(start..start + 5, SIZE).await;
        fast.frames_until(start + 5).await;
    }
    publisher.acknowledged(400).await;
    let mut seen = 0;
    let gap = loop {
        match slow.find().await {
            Found::Frames(batch) => {
                for frame in batch.frames {
                    assert_eq!(frame.sequence, seen);
                    seen += 1;
                }
            }
            Found::Gap(gap) => break gap,
            other => panic!("{other:?}"),
        }
    };
    assert!(seen < 100, "{seen} frames of {SIZE} bytes were under way");
    let (from, to) = (gap.from.unwrap(), gap.to.unwrap());
    assert_eq!(from.sequence, seen);
    assert_eq!(to.sequence, 391, "the newest key frame");
    assert_eq!(gap.preface.len(), 1);
    slow.next = to;
    assert_eq!(slow.frames_until(400).await, 391);
    assert_eq!(bench.metric("a", "gaps_total"), "1");
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_all_calls() {
    let bench = Bench::one().await;
    let name = name("camera");
    let mut publisher = bench.publish("a", &name, 1).await;
    publisher.accepted().await;
    let mut viewer = bench.read("a", &name).await;
    bench.nodes["a"].stop.cancel();
    assert_eq!(publisher.end().await.code(), Code::Unavailable);
    assert_eq!(
        viewer.try_find().await.unwrap_err().code(),
        Code::Unavailable
    );
    bench.nodes["a"].origin.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn the_publishers_trace_comes_to_its_viewers() {
    use opentelemetry::trace::TracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _traced = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

    let bench = Bench::one().await;
    let name = name("camera");
    let mut waiting = bench.read("a", &name).await;
    assert_eq!(waiting.opened.traceparent, "");
    let mut publisher = bench.publish("a", &name, 1).await;
    publisher.accepted().await;
    let late = bench.read("a", &name).await;
    let Found::Status(status) = waiting.find().await else {
        panic!("not told");
    };
    assert_eq!(late.opened.traceparent, status.traceparent);
    let mut told = status.traceparent.split('-');
    let mut caller = bench::TRACEPARENT.split('-');
    assert_eq!(told.next(), caller.next());
    assert_eq!(told.next(), caller.next(), "one trace");
    assert_ne!(told.next(), caller.next(), "the owner's own span");
}

#[tokio::test(start_paused = true)]
async fn the_largest_frame_goes_through() {
    let bench = Bench::one().await;
    let name = name("camera");
    let mut publisher = bench.publish("a", &name, 1).await;
    publisher.accepted().await;
    let mut viewer = bench.read("a", &name).await;
    publisher.push_sized(0..1, 16 << 20).await;
    assert_eq!(viewer.frames_until(1).await, 0);
    publisher.push_sized(1..2, (16 << 20) + 1).await;
    assert_eq!(publisher.end().await.code(), Code::InvalidArgument);
}

/// Real threads and a real clock: nothing is lost between tasks, and nobody waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_streams_at_once() {
    const FRAMES: u64 = 2_000;
    let section = crate::OriginSection {
        retention_ms: 600_000,
        ..section()
    };
    let bench = std::sync::Arc::new(Bench::start(&["a"], section).await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let bench = std::sync::Arc::clone(&bench);
        tasks.spawn(async move {
            let name = name(&format!("stream-{number}"));
            let mut viewers = Vec::new();
            for _ in 0..3 {
                viewers.push(bench.read("a", &name).await);
            }
            let mut publisher = bench.publish("a", &name, number).await;
            let epoch = publisher.accepted().await.epoch;
            let publishing = async {
                let mut next = 0;
                for size in (1..=10).cycle() {
                    let end = (next + size).min(FRAMES);
                    publisher.push(next..end).await;
                    next = end;
                    if next == FRAMES {
                        break;
                    }
                }
                publisher.acknowledged(FRAMES).await;
                publisher.close(CloseReason::Unpublished, None).await;
                assert_eq!(publisher.end().await.code(), Code::Ok);
            };
            let watching = async {
                for viewer in &mut viewers {
                    assert_eq!(viewer.status().await, (StreamState::Published, epoch));
                    assert_eq!(viewer.frames_until(FRAMES).await, 0);
                    assert_eq!(viewer.status().await, (StreamState::Unpublished, epoch));
                }
            };
            tokio::join!(publishing, watching);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(
        bench.metric("a", "frames_in_total"),
        (8 * FRAMES).to_string()
    );
    assert_eq!(
        bench.metric("a", "frames_out_total"),
        (24 * FRAMES).to_string()
    );
}
