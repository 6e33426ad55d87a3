//! What is not served: nonsense, and too much.

use super::*;

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
