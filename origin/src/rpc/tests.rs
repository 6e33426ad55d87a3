//! The services over real gRPC, in one process and on a paused clock.

use std::time::Duration;

use headwater_proto::v1;
use headwater_proto::v1::append_request::Request as Append;
use headwater_proto::v1::append_response::Response as Answer;
use headwater_proto::v1::read_response::Response as Found;
use headwater_proto::v1::{CloseReason, RejectReason, StreamState};
use tokio::time::Instant;
use tonic::Code;

mod bench;

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
async fn calls_go_to_the_owner() {
    let bench = Bench::start(&["a", "b"], section()).await;
    let name = bench.stream_of("b");
    let mut publisher = bench.publish("a", &name, 1).await;
    match publisher.told().await {
        Answer::Moved(moved) => {
            assert_eq!(moved.owner, "b");
            assert_eq!(moved.address, "127.0.0.1:1");
            assert_eq!(
                moved.ring_version,
                bench.nodes["a"].cluster.view().ring_version()
            );
        }
        other => panic!("not moved: {other:?}"),
    }
    let open = v1::read_request::Request::Open(read_open(&name));
    let mut viewer = Viewer::start(bench.client("a"), open).await;
    assert_eq!(viewer.moved().await.owner, "b");
    assert_eq!(bench.metric("a", "moves_total"), "2");
    assert_eq!(bench.metric("a", "streams"), "0");
}

#[tokio::test(start_paused = true)]
async fn a_drained_origin_hands_its_streams_over_without_loss() {
    let bench = Bench::start(&["a", "b"], section()).await;
    let name = bench.stream_of("a");
    let mut publisher = bench.publish("a", &name, 1).await;
    let epoch = publisher.accepted().await.epoch;
    let mut viewer = bench.read("a", &name).await;
    publisher.push(0..15).await;
    viewer.frames_until(15).await;
    let mut idle = bench.read("a", &bench.streams_of("a")[1]).await;
    assert!(!idle.opened.publishing);
    let origin = bench.nodes["a"].origin.clone();
    let draining = tokio::spawn(async move { origin.drain(Duration::from_secs(30)).await });
    let moved = match publisher.told().await {
        Answer::Moved(moved) => moved,
        other => panic!("not moved: {other:?}"),
    };
    assert_eq!(moved.owner, "b");
    // The edge goes on with what it retains, here from the last key frame on; then it closes at the old owner.
    let open = v1::AppendOpen {
        preface: vec![bench::frame(0, 100)],
        ..resume(&name, 1, epoch, 11)
    };
    let mut moved_publisher = Publisher::open(bench.client("b"), open).await;
    assert_eq!(moved_publisher.accepted().await.next_sequence, 11);
    moved_publisher.epoch = epoch;
    moved_publisher.push(11..20).await;
    moved_publisher.acknowledged(20).await;
    publisher.close(CloseReason::Moved, Some(moved)).await;
    assert_eq!(publisher.end().await.code(), Code::Ok);
    let to = viewer.moved().await;
    assert_eq!(to.owner, "b");
    let open = v1::ReadOpen {
        position: Some(v1::read_open::Position::Offset(viewer.next)),
        ..read_open(&name)
    };
    let mut moved_viewer = Viewer::open(bench.client("b"), open).await;
    assert!(moved_viewer.opened.publishing && moved_viewer.opened.preface.is_empty());
    assert_eq!(moved_viewer.frames_until(20).await, 15);
    let late = bench.read("b", &name).await;
    assert_eq!(late.opened.preface.len(), 1);
    assert_eq!(idle.moved().await.owner, "b");
    let left = draining.await.unwrap();
    assert_eq!((left.publishers, left.readers), (0, 0));
    assert_eq!(bench.metric("a", "handovers_total"), "1");
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_does_not_move_is_left_behind() {
    let bench = Bench::start(&["a", "b"], section()).await;
    let name = bench.stream_of("a");
    let mut publisher = bench.publish("a", &name, 1).await;
    publisher.accepted().await;
    let mut viewer = bench.read("a", &name).await;
    publisher.push(0..5).await;
    viewer.frames_until(5).await;
    let left = bench.nodes["a"].origin.drain(Duration::from_secs(30)).await;
    assert_eq!((left.publishers, left.readers), (0, 0));
    assert_eq!(publisher.end().await.code(), Code::Unavailable);
    assert_eq!(viewer.moved().await.owner, "b");
    assert_eq!(bench.metric("a", "handover_timeouts_total"), "1");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_comes_back_gets_its_streams() {
    let bench = Bench::apart(&["a", "b"], section()).await;
    let name = bench.stream_of("b");
    let mut publisher = bench.publish("a", &name, 1).await;
    let epoch = publisher.accepted().await.epoch;
    let mut viewer = bench.read("a", &name).await;
    publisher.push(0..5).await;
    viewer.frames_until(5).await;
    bench.connect("b");
    bench.placed_at("a", &name, "b").await;
    let moved = match publisher.told().await {
        Answer::Moved(moved) => moved,
        other => panic!("{other:?}"),
    };
    let mut there = Publisher::open(bench.client("b"), resume(&name, 1, epoch, 0)).await;
    there.accepted().await;
    there.push(0..7).await;
    let moved = v1::Moved {
        address: String::new(),
        ..moved
    };
    publisher.close(CloseReason::Moved, Some(moved)).await;
    assert_eq!(
        viewer.moved().await.address,
        "127.0.0.1:1",
        "the origin knows it"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_are_relayed_once_for_callers_that_cannot_reach_the_owner() {
    let bench = Bench::start(&["a", "b"], section()).await;
    let name = bench.stream_of("b");
    let routing = v1::Routing {
        ring_version: 0,
        unreachable: vec!["b".to_owned()],
        relayed_by: Vec::new(),
    };
    let open = v1::AppendOpen {
        routing: Some(routing.clone()),
        ..append_open(&name, 1)
    };
    let mut publisher = Publisher::open(bench.client("a"), open.clone()).await;
    publisher.accepted().await;
    let read = v1::ReadOpen {
        routing: Some(routing.clone()),
        ..read_open(&name)
    };
    let mut viewer = Viewer::open(bench.client("a"), read).await;
    let mut direct = bench.read("b", &name).await;
    publisher.push(0..15).await;
    publisher.acknowledged(15).await;
    assert_eq!(viewer.frames_until(15).await, 0);
    assert_eq!(direct.frames_until(15).await, 0);
    assert_eq!(bench.metric("a", "relays_total"), "2");
    assert_eq!(bench.metric("a", "publishers"), "0");
    assert_eq!(bench.metric("b", "publishers"), "1");

    let again = v1::AppendOpen {
        routing: Some(v1::Routing {
            relayed_by: vec!["c".to_owned()],
            ..routing
        }),
        ..open
    };
    let mut second = Publisher::open(bench.client("a"), again).await;
    assert_eq!(second.end().await.code(), Code::Unavailable);

    // The caller's end breaks: the owner knows.
    drop(publisher);
    assert_eq!(viewer.status().await.0, StreamState::Unpublished);

    // The owner dies: the relay ends.
    bench.nodes["b"].stop.cancel();
    let ended = loop {
        match viewer.try_find().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended without a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_relay_ends_when_the_owner_is_not_the_owner_any_more() {
    let bench = Bench::start(&["a", "b"], section()).await;
    let name = bench.stream_of("b");
    let open = v1::ReadOpen {
        routing: Some(v1::Routing {
            unreachable: vec!["b".to_owned()],
            ..v1::Routing::default()
        }),
        ..read_open(&name)
    };
    let mut viewer = Viewer::open(bench.client("a"), open).await;
    let alone = ["a=127.0.0.1:1".to_owned()];
    bench.nodes["a"].cluster.set_members(&alone).unwrap();
    let ended = viewer.try_find().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.message().contains("retry"), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn malformed_opens_are_rejected() {
    let bench = Bench::one().await;
    let name = name("camera");
    let good = append_open(&name, 1);
    let nameless = v1::StreamName {
        stream: String::new(),
        ..wire_name(&name)
    };
    for bad in [
        v1::AppendOpen {
            name: None,
            ..good.clone()
        },
        v1::AppendOpen {
            name: Some(nameless.clone()),
            ..good.clone()
        },
        v1::AppendOpen {
            publisher_id: vec![1; 15].into(),
            ..good.clone()
        },
        v1::AppendOpen {
            mode: 0,
            ..good.clone()
        },
        v1::AppendOpen {
            mode: 99,
            ..good.clone()
        },
        resume(&name, 1, u64::MAX, 0),
        v1::AppendOpen {
            preface: vec![v1::Frame::default()],
            ..resume(&name, 1, 5, 0)
        },
        v1::AppendOpen {
            routing: Some(v1::Routing {
                unreachable: vec![String::new(); 100_000],
                ..v1::Routing::default()
            }),
            ..good.clone()
        },
    ] {
        let mut publisher = Publisher::open(bench.client("a"), bad.clone()).await;
        assert_eq!(publisher.rejected().await, RejectReason::Invalid, "{bad:?}");
    }
    let good = read_open(&name);
    for bad in [
        v1::ReadOpen {
            name: Some(nameless),
            ..good.clone()
        },
        v1::ReadOpen {
            position: None,
            ..good.clone()
        },
        v1::ReadOpen {
            position: Some(v1::read_open::Position::Offset(v1::Offset {
                epoch: u64::MAX,
                sequence: 0,
            })),
            ..good.clone()
        },
    ] {
        let request = v1::read_request::Request::Open(bad.clone());
        let mut viewer = Viewer::start(bench.client("a"), request).await;
        match viewer.find().await {
            Found::Rejected(rejected) => assert_eq!(rejected.reason(), RejectReason::Invalid),
            other => panic!("{bad:?}: {other:?}"),
        }
    }
    assert_eq!(bench.metric("a", "publishers"), "0");
}

#[tokio::test(start_paused = true)]
async fn calls_out_of_order_end_with_a_status() {
    let bench = Bench::one().await;
    let name = name("camera");
    let frames = |epoch, sequences: &[u64]| {
        Append::Frames(v1::FrameBatch {
            epoch,
            frames: sequences.iter().map(|it| bench::frame(*it, 1)).collect(),
        })
    };
    let mut publisher = Publisher::start(bench.client("a"), frames(0, &[0])).await;
    assert_eq!(
        publisher.end().await.code(),
        Code::InvalidArgument,
        "frames first"
    );

    let mut silent = Publisher::open(bench.client("a"), append_open(&name, 1)).await;
    silent.accepted().await;
    let mut waiting = Publisher::open(bench.client("a"), append_open(&name, 2)).await;
    waiting.send(frames(0, &[0])).await;
    assert_eq!(
        waiting.end().await.code(),
        Code::InvalidArgument,
        "frames too early"
    );

    for (number, bad) in [
        (10, Append::Open(append_open(&name, 10))),
        (11, frames(1, &[0])),
        (12, Append::Close(v1::AppendClose::default())),
        (
            13,
            Append::Close(v1::AppendClose {
                reason: CloseReason::Moved.into(),
                moved: None,
            }),
        ),
    ] {
        let name = bench::name(&format!("s{number}"));
        let mut publisher = bench.publish("a", &name, number).await;
        publisher.accepted().await;
        publisher.send(bad.clone()).await;
        assert_eq!(
            publisher.end().await.code(),
            Code::InvalidArgument,
            "{bad:?}"
        );
    }

    let holes = bench::name("holes");
    let mut publisher = bench.publish("a", &holes, 3).await;
    let epoch = publisher.accepted().await.epoch;
    publisher.send(frames(epoch, &[0, 1, 3])).await;
    let status = publisher.end().await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("frame 3 came where 2 was due"),
        "{status:?}"
    );

    let large = bench::name("large");
    let mut publisher = bench.publish("a", &large, 4).await;
    publisher.accepted().await;
    publisher.push_sized(0..5_000, 1).await;
    assert_eq!(
        publisher.end().await.code(),
        Code::InvalidArgument,
        "a batch too large"
    );
}

#[tokio::test(start_paused = true)]
async fn limits_are_kept() {
    let section = crate::OriginSection {
        max_streams: 2,
        max_readers: 1,
        log_linger_ms: 1_000,
        ..section()
    };
    let bench = Bench::start(&["a"], section).await;
    let mut first = bench.publish("a", &name("one"), 1).await;
    first.accepted().await;
    let viewer = bench.read("a", &name("two")).await;
    let mut third = bench.publish("a", &name("three"), 3).await;
    assert_eq!(third.rejected().await, RejectReason::Limit);
    let request = v1::read_request::Request::Open(read_open(&name("one")));
    let mut second = Viewer::start(bench.client("a"), request).await;
    match second.find().await {
        Found::Rejected(rejected) => assert_eq!(rejected.reason(), RejectReason::Limit),
        other => panic!("{other:?}"),
    }
    // An unused log goes, and makes room.
    drop(viewer);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(bench.metric("a", "streams"), "1");
    let mut third = bench.publish("a", &name("three"), 3).await;
    third.accepted().await;
}

#[tokio::test(start_paused = true)]
async fn memory_is_held_within_its_bound() {
    let section = crate::OriginSection {
        memory_bytes: 1 << 20,
        retention_ms: 60_000,
        retention_bytes: 1 << 20,
        ..section()
    };
    let bench = Bench::start(&["a"], section).await;
    let mut publishers = Vec::new();
    for number in 0..4 {
        let mut publisher = bench.publish("a", &name(&number.to_string()), number).await;
        publisher.accepted().await;
        publishers.push(publisher);
    }
    for publisher in &mut publishers {
        publisher.push_sized(0..60, 10 << 10).await;
        publisher.acknowledged(60).await;
    }
    let mut refused = bench.publish("a", &name("more"), 9).await;
    assert_eq!(refused.rejected().await, RejectReason::Limit);
    let second = Duration::from_millis(1_100);
    tokio::time::sleep(second).await;
    for publisher in &mut publishers {
        publisher.push_sized(60..65, 10 << 10).await;
        publisher.acknowledged(65).await;
    }
    tokio::time::sleep(second).await;
    let bytes: usize = bench.metric("a", "window_bytes").parse().unwrap();
    assert!(bytes <= 1 << 20, "{bytes}");
    assert!(
        bytes >= 4 * 4 * (10 << 10),
        "the newest pictures stay: {bytes}"
    );
    let mut allowed = bench.publish("a", &name("more"), 9).await;
    allowed.accepted().await;
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
