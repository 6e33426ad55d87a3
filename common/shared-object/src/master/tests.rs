//! Tables for the owner's object. What comes of it together with mirrors is in the model of the mirror's tests.

use headwater_amf::Value;

use super::*;
use crate::object::{AppliedRequests, RemovedSlot, Slot};
use crate::value::Arguments;

const EDGE: EdgeIncarnation = EdgeIncarnation(7);

fn limits() -> MasterLimits {
    MasterLimits {
        slots: 3,
        value_bytes: 40,
        object_bytes: 400,
        name_bytes: 8,
        removals: 2,
    }
}

fn value(value: impl Into<Value>) -> SlotValue {
    SlotValue::new(&value.into()).unwrap()
}

fn set(name: &str, number: f64) -> Operation {
    Operation::Set {
        name: name.into(),
        value: value(number),
    }
}

fn remove(name: &str) -> Operation {
    Operation::Remove { name: name.into() }
}

fn send(text: &str) -> Operation {
    Operation::Send {
        arguments: Arguments::new(&[text.into()]).unwrap(),
    }
}

fn object(keeping: Keeping) -> Master {
    Master::new(keeping, Epoch(1), limits())
}

fn applied(outcome: Result<Outcome, Refusal>) -> Applied {
    match outcome {
        Ok(Outcome::Applied(applied)) => applied,
        other => panic!("{other:?}"),
    }
}

fn names(master: &Master) -> Vec<&str> {
    master.slots().map(|(name, _)| name).collect()
}

#[test]
fn a_request_is_one_version_and_applied_once() {
    let mut master = object(Keeping::Durable);
    let request = [set("a", 1.0), send("hi"), set("b", 2.0), remove("a")];
    let done = applied(master.apply(EDGE, 1, &request));
    assert_eq!(done.update.version, Version(1));
    assert_eq!(&done.update.operations[..], &request);
    let id = RequestId {
        edge: EDGE,
        number: 1,
    };
    assert_eq!(done.update.request, Some(id));
    let again = master.apply(EDGE, 1, &request);
    assert_eq!(again, Ok(Outcome::Duplicate));
    assert_eq!(master.version(), Version(1));
    // Another edge has numbers of its own; numbers may be left out, as those of requests that were refused.
    let other = EdgeIncarnation(8);
    applied(master.apply(other, 1, &[remove("b")]));
    applied(master.apply(EDGE, 5, &[set("c", 3.0)]));
    assert_eq!(master.apply(EDGE, 4, &request), Ok(Outcome::Duplicate));
    assert_eq!(names(&master), ["c"]);
    assert_eq!(master.apply_own(&[]).unwrap().update.request, None);
    assert_eq!(master.version(), Version(4));
}

#[test]
fn what_changes_nothing_is_left_out_of_the_update() {
    let mut master = object(Keeping::Durable);
    applied(master.apply(EDGE, 1, &[set("a", 1.0)]));
    let idle = [set("a", 1.0), remove("b")];
    let done = applied(master.apply(EDGE, 2, &idle));
    assert!(done.update.operations.is_empty());
    assert_eq!(done.update.version, Version(2));
    // The number is to be remembered all the same.
    assert!(done.rows.put.is_empty() && done.rows.delete.is_empty() && !done.rows.clear);
    let number = AppliedRequests {
        edge: EDGE,
        number: 2,
    };
    assert_eq!(done.rows.meta.applied, [number]);
    let clears = [Operation::Clear, Operation::Clear];
    let done = applied(master.apply(EDGE, 3, &clears));
    assert_eq!(&done.update.operations[..], [Operation::Clear]);
}

#[test]
fn a_refused_request_leaves_no_trace() {
    let mut master = object(Keeping::Durable);
    applied(master.apply(EDGE, 1, &[set("a", 1.0), set("b", 1.0)]));
    let before = master.rows();
    let long = Operation::Set {
        name: "x".into(),
        value: value("x".repeat(50)),
    };
    let large = |count: usize| -> Vec<Operation> {
        (0..count)
            .map(|number| Operation::Set {
                name: ["a", "b", "c"][number].into(),
                value: value("y".repeat(37)),
            })
            .collect()
    };
    let table: [(Vec<Operation>, Refusal); 6] = [
        (
            vec![set("c", 1.0), set("d", 1.0)],
            Refusal::TooManySlots { maximum: 3 },
        ),
        (
            vec![remove("a"), set("c", 1.0), long],
            Refusal::ValueTooLarge {
                length: 53,
                maximum: 40,
            },
        ),
        (
            vec![set("c", 1.0), set("ninebytes", 1.0)],
            Refusal::SlotNameTooLong {
                length: 9,
                maximum: 8,
            },
        ),
        (
            vec![set("c", 1.0), send(&"z".repeat(40))],
            Refusal::ValueTooLarge {
                length: 43,
                maximum: 40,
            },
        ),
        (
            vec![
                Operation::Clear,
                set("a", 1.0),
                set("b", 1.0),
                set("c", 1.0),
                set("d", 1.0),
            ],
            Refusal::TooManySlots { maximum: 3 },
        ),
        (
            [remove("zz")].into_iter().chain(large(3)).collect(),
            Refusal::ObjectTooLarge {
                length: 3 * (64 + 1 + 40),
                maximum: 300,
            },
        ),
    ];
    master.limits.object_bytes = 300;
    for (operations, refusal) in table {
        assert_eq!(master.apply(EDGE, 2, &operations), Err(refusal.clone()));
        assert_eq!(master.rows(), before, "{refusal}");
    }
    // Its number is free, and there is room where something goes.
    applied(master.apply(EDGE, 2, &[remove("a"), set("c", 1.0), set("d", 1.0)]));
    assert_eq!(names(&master), ["b", "c", "d"]);
}

#[test]
fn an_object_beyond_lowered_limits_may_not_grow() {
    let mut master = object(Keeping::Durable);
    applied(master.apply(EDGE, 1, &[set("a", 1.0), set("b", 1.0), set("c", 1.0)]));
    master.limits.slots = 1;
    applied(master.apply(EDGE, 2, &[set("a", 2.0)]));
    applied(master.apply(EDGE, 3, &[remove("a"), set("d", 2.0)]));
    let refused = master.apply(EDGE, 4, &[set("e", 2.0)]);
    assert_eq!(refused, Err(Refusal::TooManySlots { maximum: 1 }));
}

#[test]
fn rows_are_exactly_what_a_request_has_changed() {
    let mut master = object(Keeping::AtOnce);
    let rows = applied(master.apply(EDGE, 1, &[set("a", 1.0), set("b", 1.0)])).rows;
    assert_eq!(
        (rows.clear, rows.put.len(), rows.delete.len()),
        (false, 2, 0)
    );
    let rows = applied(master.apply(EDGE, 2, &[remove("a"), set("c", 1.0), set("c", 2.0)])).rows;
    let put = [
        Row::Removed {
            name: "a".into(),
            version: Version(2),
        },
        Row::Slot {
            name: "c".into(),
            value: value(2.0),
            version: Version(2),
        },
    ];
    assert_eq!(rows.put, put);
    // Two removals are remembered: the third forgets the first.
    let rows = applied(master.apply(EDGE, 3, &[remove("b"), remove("c")])).rows;
    assert_eq!(rows.delete, ["a".into()]);
    assert_eq!(rows.put.len(), 2);
    assert_eq!(rows.meta.remembered_since, Version(2));
    let rows =
        applied(master.apply(EDGE, 4, &[set("x", 1.0), Operation::Clear, set("y", 1.0)])).rows;
    assert!(rows.clear && rows.delete.is_empty());
    // Nothing was there to clear before `x`: but `x` was.
    assert_eq!(rows.put.len(), 1);
    assert_eq!(rows.meta.remembered_since, Version(4));
    let temporary = &mut object(Keeping::Temporary);
    let rows = applied(temporary.apply(EDGE, 1, &[set("a", 1.0)])).rows;
    assert_eq!(rows, Rows::default());
}

#[test]
fn differences_go_as_far_back_as_removals_are_remembered() {
    let mut master = object(Keeping::Durable);
    for (number, operation) in [set("a", 1.0), set("b", 1.0), remove("a"), set("c", 1.0)]
        .into_iter()
        .enumerate()
    {
        applied(master.apply(EDGE, 1 + number as u64, &[operation]));
    }
    let state = master.state_since(Version(2));
    assert_eq!((state.since, state.version), (Version(2), Version(4)));
    let slot = Slot {
        name: "c".into(),
        value: value(1.0),
        version: Version(4),
    };
    assert_eq!(state.slots, [slot]);
    let gone = RemovedSlot {
        name: "a".into(),
        version: Version(3),
    };
    assert_eq!(state.removed, [gone]);
    assert!(master.state_since(Version(4)).slots.is_empty());
    assert!(master.state_since(Version(0)).is_whole());
    assert!(master.state_since(Version(9)).is_whole());
    applied(master.apply(EDGE, 5, &[remove("b"), remove("c")]));
    assert!(master.state_since(Version(2)).is_whole());
    assert!(!master.state_since(Version(3)).is_whole());
}

#[test]
fn a_state_goes_in_pieces_and_comes_together() {
    use crate::object::{Assembly, AssemblyError};
    let mut master = object(Keeping::Durable);
    applied(master.apply(EDGE, 1, &[set("a", 1.0), set("b", 1.0), set("c", 1.0)]));
    applied(master.apply(EDGE, 2, &[remove("b")]));
    let state = master.state_since(Version::NONE);
    for bytes in [0, 1, 50, 90, 1_000] {
        let pieces = state.clone().chunks(bytes);
        assert_eq!(pieces.len() == 1, bytes == 1_000, "{bytes}");
        assert!(pieces.iter().rev().skip(1).all(|piece| piece.more));
        let mut assembly = Assembly::new(1_000);
        let mut whole = None;
        for piece in pieces.clone() {
            assert_eq!(whole, None);
            whole = assembly.push(piece).unwrap();
        }
        assert_eq!(whole.as_ref(), Some(&state));
        let mut small = Assembly::new(100);
        let mut results = pieces.clone().into_iter().map(|piece| small.push(piece));
        assert!(results.any(|result| result == Err(AssemblyError::TooLarge { maximum: 100 })));
        if let [first, .., last] = &pieces[..] {
            let mut other = last.clone();
            other.version = Version(9);
            let mut assembly = Assembly::new(1_000);
            assembly.push(first.clone()).unwrap();
            let error = AssemblyError::Mixed {
                expected: Version(2),
                found: Version(9),
            };
            assert_eq!(assembly.push(other), Err(error));
            assert!(!assembly.is_partial());
        }
    }
}

#[test]
fn the_numbers_of_the_least_recent_edges_are_forgotten() {
    let mut master = object(Keeping::Durable);
    for edge in 0..64 {
        applied(master.apply(EdgeIncarnation(edge), 1, &[]));
    }
    applied(master.apply(EdgeIncarnation(0), 2, &[]));
    applied(master.apply(EdgeIncarnation(64), 1, &[]));
    let known = |master: &Master| -> Vec<u64> {
        let applied = master.rows().meta.applied;
        applied.iter().map(|applied| applied.edge.0).collect()
    };
    let expected: Vec<u64> = (2..64).chain([0, 64]).collect();
    assert_eq!(known(&master), expected);
    // The order is kept in the store.
    let rows = master.rows();
    let mut loaded = Master::load(Keeping::Durable, Epoch(2), limits(), &rows.meta, rows.put);
    applied(loaded.apply(EdgeIncarnation(65), 1, &[]));
    assert_eq!(known(&loaded)[0], 3);
}

#[test]
fn a_durable_object_goes_on_where_the_store_ends() {
    let mut master = object(Keeping::Durable);
    applied(master.apply(EDGE, 1, &[set("a", 1.0), set("b", 1.0)]));
    applied(master.apply(EDGE, 2, &[remove("a")]));
    let rows = master.rows();
    let mut next = Master::load(
        Keeping::Durable,
        Epoch(2),
        limits(),
        &rows.meta,
        rows.put.clone(),
    );
    assert_eq!(next.rows().put, rows.put);
    assert_eq!(next.version(), Version(2));
    assert_eq!(next.apply(EDGE, 2, &[]), Ok(Outcome::Duplicate));
    // A mirror of any tenure is on the line.
    let Greeting::State(state) = next.greet(Epoch(1), Version(1)) else {
        panic!("nothing is missing");
    };
    assert_eq!((state.since, state.removed.len()), (Version(1), 1));
    // Unless the store has lost something.
    assert_eq!(next.greet(Epoch(1), Version(3)), Greeting::Wanted);
}

/// A mirror's state of the first tenure.
fn known(version: u64, slots: &[(&str, f64)]) -> State {
    let slots = slots.iter().map(|(name, number)| Slot {
        name: (*name).into(),
        value: value(*number),
        version: Version(version),
    });
    State {
        epoch: Epoch(1),
        version: Version(version),
        slots: slots.collect(),
        applied: vec![AppliedRequests {
            edge: EDGE,
            number: version,
        }],
        ..State::default()
    }
}

#[test]
fn a_temporary_object_is_taken_over_from_the_first_mirror_that_knows_it() {
    let mut master = Master::new(Keeping::Temporary, Epoch(2), limits());
    assert_eq!(master.greet(Epoch(1), Version(5)), Greeting::Wanted);
    let adopted = master.adopt(known(5, &[("a", 1.0), ("b", 1.0)]));
    assert_eq!(adopted.since, Some(Version::NONE));
    assert_eq!(adopted.rows, None);
    assert_eq!(master.version(), Version(5 + 65_536));
    assert_eq!(names(&master), ["a", "b"]);
    assert_eq!(master.apply(EDGE, 5, &[]), Ok(Outcome::Duplicate));
    // That mirror lacks nothing, and one that had less is on its line.
    let Greeting::State(state) = master.greet(Epoch(1), Version(5)) else {
        panic!("nothing is missing");
    };
    assert_eq!((state.since, state.slots.len()), (Version(5), 0));
    let Greeting::State(state) = master.greet(Epoch(1), Version(4)) else {
        panic!("nothing is missing");
    };
    assert_eq!((state.since, state.slots.len()), (Version(4), 2));
    // One that knew nothing gets everything; it is not heard twice.
    let Greeting::State(state) = master.greet(Epoch(0), Version::NONE) else {
        panic!("nothing is missing");
    };
    assert!(state.is_whole());
    assert_eq!(master.adopt(known(5, &[])).since, None);
}

#[test]
fn a_mirror_that_knew_more_is_merged_in_except_what_was_changed_since() {
    let mut master = Master::new(Keeping::Temporary, Epoch(2), limits());
    master.adopt(known(5, &[("a", 1.0), ("b", 1.0), ("c", 1.0)]));
    let other = EdgeIncarnation(8);
    applied(master.apply(other, 1, &[set("a", 9.0), remove("c")]));
    let before = master.version();
    // It has seen three more versions: all slots were set, `b` was removed, `d` is new.
    assert_eq!(master.greet(Epoch(1), Version(8)), Greeting::Wanted);
    let adopted = master.adopt(known(8, &[("a", 2.0), ("c", 2.0), ("d", 2.0)]));
    assert_eq!(adopted.since, Some(before));
    let slots: Vec<_> = master
        .slots()
        .map(|(name, held)| (name, held.clone()))
        .collect();
    assert_eq!(slots, [("a", value(9.0)), ("d", value(2.0))]);
    assert_eq!(master.version(), Version(before.0 + 65_536));
    let difference = master.state_since(before);
    assert_eq!((difference.slots.len(), difference.removed.len()), (1, 1));
    assert_eq!(master.apply(EDGE, 8, &[]), Ok(Outcome::Duplicate));
    // Between the two nobody knows what a mirror has seen.
    let Greeting::State(state) = master.greet(Epoch(1), Version(7)) else {
        panic!("nothing is missing");
    };
    assert!(state.is_whole());
}

#[test]
fn nothing_of_before_comes_back_after_a_clearing() {
    let mut master = Master::new(Keeping::Temporary, Epoch(2), limits());
    master.adopt(known(5, &[("a", 1.0)]));
    applied(master.apply(EdgeIncarnation(8), 1, &[Operation::Clear]));
    master.adopt(known(8, &[("a", 2.0), ("d", 2.0)]));
    assert!(master.is_empty());
    // But what was applied before is not applied again.
    assert_eq!(
        master.apply(EDGE, 8, &[set("a", 1.0)]),
        Ok(Outcome::Duplicate)
    );
}

#[test]
fn an_edge_that_has_begun_to_ask_again_goes_on() {
    let mut master = Master::new(Keeping::Temporary, Epoch(2), limits());
    applied(master.apply(EDGE, 3, &[set("a", 1.0)]));
    master.adopt(known(8, &[("b", 1.0)]));
    applied(master.apply(EDGE, 4, &[set("c", 1.0)]));
    assert_eq!(names(&master), ["a", "b", "c"]);
}

#[test]
fn an_object_in_place_of_one_that_was_dropped_is_another() {
    let mut master = object(Keeping::Temporary);
    applied(master.apply(EDGE, 1, &[set("a", 1.0)]));
    let next = Master::again(Keeping::Temporary, Epoch(1), limits(), master.version());
    for version in [Version(0), Version(1)] {
        let Greeting::State(state) = next.greet(Epoch(1), version) else {
            panic!("nothing is missing");
        };
        assert!(state.is_whole() && state.slots.is_empty());
        assert_eq!(state.version, Version(2));
    }
}

#[test]
fn what_never_reached_the_store_has_no_versions_in_common_with_what_follows() {
    let mut master = object(Keeping::AtOnce);
    let rows = applied(master.apply(EDGE, 1, &[set("a", 1.0)])).rows;
    // Mirrors and clients see this one; the store does not.
    applied(master.apply(EDGE, 2, &[set("b", 1.0)]));
    let load = |rows: &Rows| {
        let put = rows.put.clone();
        Master::load(Keeping::AtOnce, Epoch(2), limits(), &rows.meta, put)
    };
    let mut next = load(&rows);
    let base = Version(1 + 65_536);
    assert_eq!(next.version(), base);
    assert_eq!(next.greet(Epoch(1), Version(2)), Greeting::Wanted);
    let Greeting::State(state) = next.greet(Epoch(1), Version(1)) else {
        panic!("nothing is missing");
    };
    // A client of before is not to be given differences either.
    assert_eq!((state.is_whole(), state.remembered_since), (true, base));
    next.adopt(master.state_since(Version::NONE));
    assert_eq!(names(&next), ["a", "b"]);
}

#[test]
fn versions_do_not_go_back_for_a_mirror_of_a_line_that_was_left() {
    let mut master = Master::new(Keeping::Temporary, Epoch(3), limits());
    let mut newer = known(5, &[("a", 1.0)]);
    newer.epoch = Epoch(2);
    master.adopt(newer);
    let ahead = Version(200_000);
    assert_eq!(master.greet(Epoch(1), ahead), Greeting::Wanted);
    let before = master.version();
    let adopted = master.adopt(known(ahead.0, &[("b", 1.0)]));
    assert_eq!(adopted.since, Some(before));
    // What it knows is of an owner before the last.
    assert_eq!(names(&master), ["a"]);
    let Greeting::State(state) = master.greet(Epoch(1), ahead) else {
        panic!("nothing is missing");
    };
    assert!(state.is_whole() && state.version > ahead);
}
