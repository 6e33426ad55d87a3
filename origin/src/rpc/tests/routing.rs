//! Several origins: who serves a stream, handing it over, relaying.

use super::*;

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
async fn readers_that_come_late_are_sent_after_the_publisher() {
    let bench = Bench::apart(&["a", "b"], section()).await;
    let name = bench.stream_of("b");
    let mut publisher = bench.publish("a", &name, 1).await;
    let epoch = publisher.accepted().await.epoch;
    publisher.push(0..5).await;
    publisher.acknowledged(5).await;
    // The publisher's edge has seen that b is back; this node has not, nor has the edge of the reader.
    let to_b = v1::Moved {
        owner: "b".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        ring_version: 0,
    };
    publisher.close(CloseReason::Moved, Some(to_b)).await;
    assert_eq!(publisher.end().await.code(), Code::Ok);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let at = v1::Offset { epoch, sequence: 5 };
    let open = v1::ReadOpen {
        position: Some(v1::read_open::Position::Offset(at)),
        ..read_open(&name)
    };
    let mut late = Viewer::open(bench.client("a"), open).await;
    assert_eq!(late.moved().await.owner, "b");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(bench.metric("a", "streams"), "0", "not for ever");
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
