//! What one instance can do. Not run by default: `cargo test --release -p headwater-origin objects::tests::speed -- --ignored --nocapture`.

use super::super::*;
use super::hosted::{hosted, next, request, using};
use super::*;
use crate::state::tests::{Origin, memory};
use crate::store;

/// How long each measure takes.
const SPAN: Duration = Duration::from_secs(3);

const CALL: EdgeCall = EdgeCall(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "since 0.1.0, when it was added: a measure, which takes seconds and has nothing to assert; run by hand as the head of the file says"]
async fn changes_of_one_persistent_object() {
    let folder = tempfile::tempdir().unwrap();
    let store = store::tests::open(folder.path(), |_| {}).await.unwrap();
    for (place, objects) in [("memory", memory()), ("folder", store.objects().clone())] {
        for window in [1, 100, 2_000_u64] {
            let origin = Origin::with("a", &objects, |section| section.flush_ms = 10);
            let mut hosted = hosted(&origin.states, Some(origin.hold().await));
            hosted.said(CALL, using());
            let Outcome::Tell(_, Told::ObjectState(state)) = next(&mut hosted).await else {
                panic!("no state");
            };
            // Of the measure before.
            let begun = state.applied.first().map_or(0, |applied| applied.number);
            let (mut sent, mut done) = (begun, begun);
            let from = Instant::now();
            while from.elapsed() < SPAN {
                while sent < done + window {
                    sent += 1;
                    let slot = format!("slot {}", sent % 100);
                    hosted.said(CALL, request(sent, &slot, &format!("{sent:0100}")));
                }
                match next(&mut hosted).await {
                    Outcome::Tell(_, Told::ObjectUpdate(update)) => done = update.number,
                    other => panic!("{other:?}"),
                }
            }
            let rate = (done - begun) as f64 / from.elapsed().as_secs_f64();
            eprintln!("{place}, {window} at a time: {rate:.0} durable changes/s");
            drop(hosted);
            origin.stopped().await;
        }
    }
}

#[test]
#[ignore = "since 0.1.0, when it was added: a measure, which takes seconds and has nothing to assert; run by hand as the head of the file says"]
fn changes_of_a_temporary_object() {
    for edges in [1, 10, 100] {
        let mut bench = Bench::new(edges);
        for edge in 0..bench.edges.len() {
            bench.use_object(edge, "chat", Kind::Temporary);
        }
        let call = bench.edges[0].call.unwrap();
        let from = std::time::Instant::now();
        let (mut number, mut told) = (0, 0_u64);
        while from.elapsed() < SPAN {
            number += 1;
            let request = v1::ObjectRequest {
                object: Some(v1::ObjectName {
                    name: "chat".to_owned(),
                    persistent: false,
                }),
                number,
                client: 1,
                operations: wire::operations(&[set("a", &format!("{number:0100}"))]),
            };
            let said = v1::attach_request::Request::Object(request);
            bench.objects.said(bench.now, call, said);
            while bench.objects.poll_output().is_some() {
                told += 1;
            }
        }
        let seconds = from.elapsed().as_secs_f64();
        eprintln!(
            "{edges} edges: {:.0} changes/s, {:.0} updates/s",
            number as f64 / seconds,
            told as f64 / seconds,
        );
    }
}
