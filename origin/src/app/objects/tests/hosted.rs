//! With the real state store.

use std::sync::Arc;

use headwater_application::SharedObjectsSection;
use headwater_node::metrics::Metrics;
use headwater_proto::v1::attach_request::Request as Said;
use headwater_shared_object::object::ObjectName;
use object_store::ObjectStore;
use tokio::time::timeout;

use super::super::*;
use super::bench::name;
use super::*;
use crate::state::tests::faulty::{Faulty, Mode};
use crate::state::tests::{Origin, memory, soon};
use crate::state::{Held, StateSection, States};

const CALL: EdgeCall = EdgeCall(1);

pub(super) fn hosted(states: &States, held: Option<Held>) -> Hosted {
    let setup = Setup {
        name: name(),
        epoch: held.as_ref().map_or(1, Held::epoch),
        grace: Duration::from_secs(1),
    };
    let policy = Arc::new(SharedObjectsSection::default());
    let metrics = ObjectMetrics::new(&Metrics::new("test", "origin"));
    let mut hosted = Hosted::new(setup, policy, states.clone(), 3, held, metrics);
    hosted.attach(CALL, 7);
    hosted
}

fn object() -> Option<v1::ObjectName> {
    let name = ObjectName::parse("kept").unwrap();
    Some(named(&name, Persistence::Persistent))
}

pub(super) fn using() -> Said {
    Said::UseObject(v1::UseObject {
        object: object(),
        ..v1::UseObject::default()
    })
}

pub(super) fn request(number: u64, slot: &str, value: &str) -> Said {
    Said::Object(v1::ObjectRequest {
        object: object(),
        number,
        client: 1,
        operations: wire::operations(&[set(slot, value)]),
    })
}

/// The next outcome.
pub(super) async fn next(hosted: &mut Hosted) -> Outcome {
    soon(async {
        loop {
            if let Some(outcome) = hosted.poll_outcome() {
                return outcome;
            }
            hosted.work().await;
        }
    })
    .await
}

async fn told(hosted: &mut Hosted) -> Told {
    match next(hosted).await {
        Outcome::Tell(call, told) => {
            assert_eq!(call, CALL);
            told
        }
        other => panic!("{other:?}"),
    }
}

async fn state(hosted: &mut Hosted) -> v1::ObjectState {
    match told(hosted).await {
        Told::ObjectState(state) => state,
        other => panic!("{other:?}"),
    }
}

async fn update(hosted: &mut Hosted) -> u64 {
    match told(hosted).await {
        Told::ObjectUpdate(update) => update.number,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_told_is_there_for_the_next_owner() {
    let objects = memory();
    let a = Origin::new("a", &objects);
    let mut first = hosted(&a.states, Some(a.hold().await));
    first.said(CALL, using());
    assert_eq!(state(&mut first).await.version, 0);
    for number in 1..=50 {
        first.said(CALL, request(number, &format!("slot {number}"), "1"));
    }
    for number in 1..=20 {
        assert_eq!(update(&mut first).await, number);
    }
    assert!(!first.is_settled() || first.poll_outcome().is_none());

    // Opened by the objects themselves.
    let b = Origin::new("b", &objects);
    let mut second = hosted(&b.states, None);
    second.said(CALL, using());
    let found = state(&mut second).await;
    assert!((20..=50).contains(&found.version), "{}", found.version);
    assert_eq!(found.slots.len() as u64, found.version);
    assert_eq!(found.applied[0].number, found.version);
    second.said(CALL, request(51, "new", "1"));
    assert_eq!(update(&mut second).await, 51);
    assert_eq!(second.len(), 1);

    let lost = loop {
        match next(&mut first).await {
            Outcome::Lost(error) => break error,
            Outcome::Tell(_, Told::ObjectUpdate(update)) => {
                assert!(update.version <= found.version);
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(lost, StateError::Fenced);
    first.said(CALL, request(52, "late", "1"));
    assert!(first.poll_outcome().is_none());
}

#[tokio::test]
async fn a_store_that_takes_nothing_has_changes_refused_and_loses_nothing() {
    let (faulty, objects): (Faulty, Arc<dyn ObjectStore>) = Faulty::new();
    let small = |section: &mut StateSection| section.unflushed_bytes = 65_536;
    let origin = Origin::with("a", &objects, small);
    let mut hosted = hosted(&origin.states, Some(origin.hold().await));
    hosted.said(CALL, using());
    state(&mut hosted).await;
    faulty.set(Mode::Full);
    let value = "x".repeat(1_000);
    for number in 1..=100 {
        hosted.said(CALL, request(number, "slot", &format!("{number}{value}")));
    }
    assert!(hosted.poll_outcome().is_none());
    faulty.set(Mode::Works);
    let (mut applied, mut refused) = (0, 0);
    for number in 1..=100 {
        match told(&mut hosted).await {
            Told::ObjectUpdate(update) => {
                assert_eq!((update.number, refused), (number, 0));
                applied += 1;
            }
            Told::ObjectRefused(answer) => {
                assert_eq!(answer.number, number);
                assert_eq!(answer.code, "SharedObject.Busy");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((40..70).contains(&applied), "{applied}");
    assert_eq!(applied + refused, 100);
    soon(async {
        while !hosted.is_settled() {
            hosted.work().await;
        }
    })
    .await;
    hosted.said(CALL, request(101, "slot", "after"));
    assert_eq!(update(&mut hosted).await, 101);
}

#[tokio::test]
async fn an_origin_that_stops_lets_go() {
    let origin = Origin::new("a", &memory());
    let mut hosted = hosted(&origin.states, Some(origin.hold().await));
    hosted.said(CALL, using());
    state(&mut hosted).await;
    origin.stopped().await;
    match next(&mut hosted).await {
        Outcome::Lost(error) => assert_eq!(error, StateError::Closed),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_the_instance_before_wrote_is_there_however_slow_the_store_is() {
    let (faulty, objects): (Faulty, Arc<dyn ObjectStore>) = Faulty::new();
    let origin = Origin::new("a", &objects);
    let mut first = hosted(&origin.states, Some(origin.hold().await));
    first.said(CALL, using());
    state(&mut first).await;
    faulty.set(Mode::Hangs);
    for number in 1..=3 {
        first.said(CALL, request(number, &format!("slot {number}"), "1"));
    }
    assert!(!first.is_settled());
    // The database stays open.
    let held = origin.hold().await;
    drop(first);

    let mut second = hosted(&origin.states, Some(held));
    second.said(CALL, using());
    let early = timeout(Duration::from_millis(200), second.work()).await;
    assert!(early.is_err() && second.poll_outcome().is_none());
    faulty.set(Mode::Works);
    let found = state(&mut second).await;
    assert_eq!((found.version, found.slots.len()), (3, 3));
}

#[tokio::test]
async fn an_instance_that_waits_for_a_store_which_was_taken_lets_go() {
    let objects = memory();
    let a = Origin::with("a", &objects, |section| section.hold_off_ms = 30_000);
    let fenced = a.hold().await;
    let b = Origin::new("b", &objects);
    let _theirs = b.hold().await;
    assert_eq!(soon(fenced.lost()).await, StateError::Fenced);
    drop(fenced);
    let mut late = hosted(&a.states, None);
    late.said(CALL, using());
    match next(&mut late).await {
        Outcome::Lost(error) => assert_eq!(error, StateError::Fenced),
        other => panic!("{other:?}"),
    }
}
