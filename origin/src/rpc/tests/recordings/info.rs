//! What encoders say of streams.

use headwater_proto::v1::set_stream_info_response::Response as InfoSet;
use tonic::Status;

use super::*;

fn info() -> v1::StreamInfo {
    v1::StreamInfo {
        call_unix_ms: Some(1_700_000_000_000),
        begin_offset_ms: Some(30_000),
        offline: Some(false),
        ..v1::StreamInfo::default()
    }
}

fn set(stream: &StreamName) -> v1::SetStreamInfoRequest {
    v1::SetStreamInfoRequest {
        name: Some(wire_name(stream)),
        info: Some(info()),
        edge: "edge".to_owned(),
        ..v1::SetStreamInfoRequest::default()
    }
}

async fn tell(
    bench: &Bench,
    node: &str,
    request: v1::SetStreamInfoRequest,
) -> Result<InfoSet, Status> {
    let answer = bench.client(node).set_stream_info(request).await?;
    Ok(answer.into_inner().response.unwrap())
}

async fn told(bench: &Bench, node: &str, stream: &StreamName) -> v1::StreamDescription {
    let request = v1::DescribeRequest {
        with_info: true,
        ..describe(stream)
    };
    match bench.describe(node, request).await.unwrap() {
        Described::Description(description) => description,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_said_is_told_to_who_wants_to_know() {
    let bench = Bench::one().await;
    let show = name("show");
    assert_eq!(told(&bench, "a", &show).await.info, None);
    bench.nodes["a"].index.put(&show, 77, true);
    let InfoSet::Set(done) = tell(&bench, "a", set(&show)).await.unwrap() else {
        panic!("not set");
    };
    let description = told(&bench, "a", &show).await;
    assert_eq!(done.description, Some(description));
    assert_eq!(description.info, Some(info()));
    assert_eq!(description.stored.unwrap().generation, 77);
    assert_eq!(bench.description("a", &show).await.info, None, "not wanted");
    assert_eq!(told(&bench, "a", &name("other")).await.info, None);

    let less = v1::SetStreamInfoRequest {
        info: Some(v1::StreamInfo::default()),
        ..set(&show)
    };
    tell(&bench, "a", less).await.unwrap();
    let description = told(&bench, "a", &show).await;
    let nothing = Some(v1::StreamInfo::default());
    assert_eq!(description.info, nothing, "in place of what was said");
    assert_eq!(bench.metric("a", "recordings_calls"), "0");
}

#[tokio::test(start_paused = true)]
async fn calls_that_say_nothing_are_rejected() {
    let bench = Bench::one().await;
    let show = name("show");
    for request in [
        v1::SetStreamInfoRequest {
            info: None,
            ..set(&show)
        },
        v1::SetStreamInfoRequest {
            name: None,
            ..set(&show)
        },
        v1::SetStreamInfoRequest {
            routing: Some(v1::Routing {
                unreachable: vec!["b".to_owned(); 100_000],
                ..v1::Routing::default()
            }),
            ..set(&show)
        },
    ] {
        match tell(&bench, "a", request).await.unwrap() {
            InfoSet::Rejected(rejected) => assert_eq!(rejected.reason(), RecordingReason::Invalid),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told(&bench, "a", &show).await.info, None);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_loses_nothing_that_was_said() {
    let bench = Bench::one().await;
    let show = name("show");
    let index = &bench.nodes["a"].index;
    tell(&bench, "a", set(&show)).await.unwrap();
    index.fail(true);
    let other = v1::SetStreamInfoRequest {
        info: Some(v1::StreamInfo::default()),
        ..set(&show)
    };
    match tell(&bench, "a", other).await.unwrap() {
        InfoSet::Rejected(rejected) => {
            assert_eq!(rejected.reason(), RecordingReason::Unavailable);
        }
        other => panic!("{other:?}"),
    }
    let wanted = v1::DescribeRequest {
        with_info: true,
        ..describe(&show)
    };
    match bench.describe("a", wanted).await.unwrap() {
        Described::Rejected(rejected) => {
            assert_eq!(rejected.reason(), RecordingReason::Unavailable);
        }
        other => panic!("{other:?}"),
    }
    // What is live is described all the same, with what is known.
    let mut publisher = Publisher::open(bench.streams("a"), append_open(&show, 1)).await;
    publisher.accepted().await;
    assert_eq!(told(&bench, "a", &show).await.info, Some(info()));
    index.fail(false);
    index.hang();
    let asked = Instant::now();
    let live = told(&bench, "a", &show).await;
    assert!(live.publishing && live.info == Some(info()), "{live:?}");
    assert!(asked.elapsed() < LIVE_PATIENCE * 2, "{:?}", asked.elapsed());
    // It is kept, and the answer says so, although the store says nothing else.
    let InfoSet::Set(done) = tell(&bench, "a", set(&name("other"))).await.unwrap() else {
        panic!("not set");
    };
    assert_eq!(done.description, None);
}

#[tokio::test(start_paused = true)]
async fn it_is_said_to_the_owner() {
    let bench = Bench::start(&["a", "b"], VodSection::default()).await;
    let show = bench.stream_of("b");
    match tell(&bench, "a", set(&show)).await.unwrap() {
        InfoSet::Moved(moved) => assert_eq!(moved.owner, "b"),
        other => panic!("{other:?}"),
    }
    assert_eq!(told(&bench, "b", &show).await.info, None);
    let routing = v1::Routing {
        unreachable: vec!["b".to_owned()],
        ..v1::Routing::default()
    };
    let relayed = v1::SetStreamInfoRequest {
        routing: Some(routing.clone()),
        ..set(&show)
    };
    match tell(&bench, "a", relayed.clone()).await.unwrap() {
        InfoSet::Set(done) => assert_eq!(done.description.unwrap().info, Some(info())),
        other => panic!("{other:?}"),
    }
    assert_eq!(told(&bench, "b", &show).await.info, Some(info()));
    assert_eq!(bench.metric("a", "relays_total"), "1");
    let again = v1::SetStreamInfoRequest {
        routing: Some(v1::Routing {
            relayed_by: vec!["c".to_owned()],
            ..routing
        }),
        ..relayed
    };
    let refused = tell(&bench, "a", again).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
}
