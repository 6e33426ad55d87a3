//! What single clients get, event by event.

use headwater_amf::Value;

use super::super::*;
use crate::client::Served;
use crate::object::{RequestId, Slot};
use crate::value::Arguments;
use crate::wire::{self, DecodeLimits, Event, Flags, Message};

mod messages;

const EDGE: EdgeIncarnation = EdgeIncarnation(7);
const OTHER: EdgeIncarnation = EdgeIncarnation(8);

fn mirror(limits: MirrorLimits) -> Mirror {
    let name = ObjectName::parse("so").unwrap();
    let mut mirror = Mirror::new(name, Persistence::Persistent, EDGE, limits);
    let state = State {
        epoch: Epoch(1),
        version: Version(10),
        slots: vec![Slot {
            name: "a".into(),
            value: value(1.0),
            version: Version(9),
        }],
        remembered_since: Version(5),
        ..State::default()
    };
    assert_eq!(mirror.known(), (Epoch(0), Version::NONE));
    assert!(!mirror.is_ready());
    assert_eq!(mirror.handle_state(state), Ok(true));
    assert_eq!(mirror.known(), (Epoch(1), Version(10)));
    mirror
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

fn send(text: &str) -> Operation {
    Operation::Send {
        arguments: Arguments::new(&[text.into()]).unwrap(),
    }
}

fn remove(name: &str) -> Operation {
    Operation::Remove { name: name.into() }
}

fn update(mirror: &mut Mirror, own: Option<u64>, operations: &[Operation]) {
    let version = mirror.known().1.plus(1);
    let request = own.map(|number| RequestId { edge: EDGE, number });
    let update = Update {
        version,
        request,
        operations: operations.into(),
        is_repeated: false,
    };
    mirror.handle_update(update).unwrap();
}

/// Version, flags and events, shortly.
fn read(message: &Bytes) -> String {
    let Message {
        version,
        flags,
        events,
        ..
    } = wire::decode(message, DecodeLimits::default()).unwrap();
    let number = |value: &SlotValue| match value.decode(headwater_amf::Limits::default()) {
        Ok(Value::Number(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    let events = events.iter().map(|event| match event {
        Event::UseSuccess => "use".to_owned(),
        Event::Clear => "clear".to_owned(),
        Event::Change { name, value } => format!("{name}={}", number(value)),
        Event::ChangeEcho { name, value } => format!("echo {name}={}", number(value)),
        Event::Success { name } => format!("ok {name}"),
        Event::Remove { name } => format!("-{name}"),
        Event::Send { arguments } => {
            let values = arguments.decode(headwater_amf::Limits::default()).unwrap();
            format!("!{}", values[0].as_str().unwrap())
        }
        Event::Status { code, level } => format!("{level} {code}"),
        other => panic!("{other:?}"),
    });
    let events: Vec<String> = events.collect();
    format!("{version}/{}: {}", flags.0, events.join(" "))
}

fn admit(mirror: &mut Mirror, client: u64, dialect: Dialect) -> Cursor {
    mirror.admit(ClientId(client), dialect, Encoding::Amf0, 0).0
}

fn serve(mirror: &mut Mirror, cursor: &mut Cursor) -> String {
    match mirror.serve(cursor) {
        Served::Nothing => String::new(),
        Served::One(message) => read(&message),
        Served::Several(messages) => {
            let messages: Vec<String> = messages.iter().map(read).collect();
            messages.join(" | ")
        }
        Served::Lost => "lost".to_owned(),
    }
}

#[test]
fn the_answer_to_use_is_whole_or_since_a_version() {
    let mut mirror = mirror(MirrorLimits::DEFAULT);
    update(&mut mirror, None, &[set("b", 2.0)]);
    update(&mut mirror, None, &[remove("a")]);
    let mut answer = |dialect, version| {
        let (_, messages) = mirror.admit(ClientId(1), dialect, Encoding::Amf0, version);
        assert_eq!(messages.len(), 1);
        read(&messages[0])
    };
    assert_eq!(answer(Dialect::Player, 0), "12/2: use clear b=2");
    assert_eq!(answer(Dialect::Proxy, 0), "12/48: use clear b=2");
    assert_eq!(answer(Dialect::Player, 11), "12/2: use -a");
    assert_eq!(answer(Dialect::Player, 10), "12/2: use b=2 -a");
    assert_eq!(answer(Dialect::Player, 12), "12/2: use");
    // Before removals are remembered, and from the future.
    assert_eq!(answer(Dialect::Player, 4), "12/2: use clear b=2");
    assert_eq!(answer(Dialect::Player, 13), "12/2: use clear b=2");
    // A temporary object has nothing that a client could have kept.
    mirror.set_persistence(Persistence::Temporary);
    let (_, messages) = mirror.admit(ClientId(1), Dialect::Player, Encoding::Amf0, 11);
    assert_eq!(read(&messages[0]), "12/0: use clear b=2");
}

#[test]
fn authors_are_answered_in_their_dialects_and_others_told() {
    let mut mirror = mirror(MirrorLimits::DEFAULT);
    let mut player = admit(&mut mirror, 1, Dialect::Player);
    let mut proxy = admit(&mut mirror, 2, Dialect::Proxy);
    let mut other = admit(&mut mirror, 3, Dialect::Proxy);
    let asked = vec![set("b", 2.0), send("hi"), remove("a"), remove("x")];
    let effective = asked[..3].to_vec();
    let request = mirror.request(&mut player, 10, asked.clone()).unwrap();
    assert_eq!((request.number, request.client), (1, ClientId(1)));
    update(&mut mirror, Some(1), &effective);
    assert_eq!(serve(&mut mirror, &mut player), "11/2: ok b !hi -a -x");
    assert_eq!(serve(&mut mirror, &mut other), "11/32: b=2 !hi -a");
    assert_eq!(serve(&mut mirror, &mut proxy), "11/32: b=2 !hi -a");
    mirror.request(&mut proxy, 11, asked).unwrap();
    // Equal and gone already: only its author hears of it.
    update(&mut mirror, Some(2), &[send("hi")]);
    assert_eq!(serve(&mut mirror, &mut player), "12/2: !hi");
    assert_eq!(serve(&mut mirror, &mut proxy), "12/48: echo b=2 !hi -a -x");
    assert_eq!(mirror.unanswered().len(), 0);
    assert!(!mirror.is_behind(&player) && mirror.is_behind(&other));
}

#[test]
fn clients_that_get_the_same_share_it() {
    let mut mirror = mirror(MirrorLimits::DEFAULT);
    let mut cursors: Vec<Cursor> = (0..6)
        .map(|client| {
            let encoding = if client < 4 {
                Encoding::Amf0
            } else {
                Encoding::Amf3
            };
            mirror
                .admit(ClientId(client), Dialect::Player, encoding, 0)
                .0
        })
        .collect();
    update(&mut mirror, None, &[set("b", 2.0)]);
    let messages: Vec<Bytes> = cursors
        .iter_mut()
        .map(|cursor| match mirror.serve(cursor) {
            Served::One(message) => message,
            other => panic!("{other:?}"),
        })
        .collect();
    let same = |one: usize, other: usize| messages[one].as_ptr() == messages[other].as_ptr();
    assert!(same(0, 1) && same(0, 3) && same(4, 5) && !same(0, 4));
    assert_eq!(messages[4][0], 0);
    assert_eq!(messages[4][1..], messages[0][..]);
    // So do those who join.
    let mut whole = |client| {
        let (_, messages) = mirror.admit(ClientId(client), Dialect::Player, Encoding::Amf0, 0);
        messages[0].as_ptr()
    };
    assert_eq!(whole(10), whole(11));
    // And what is kept is not kept for too long.
    update(&mut mirror, None, &[set("b", 3.0)]);
    assert_eq!(serve(&mut mirror, &mut cursors[0]), "12/2: b=3");
}

#[test]
fn changes_between_sends_are_merged_and_sends_are_not() {
    let mut mirror = mirror(MirrorLimits::DEFAULT);
    let mut slow = admit(&mut mirror, 1, Dialect::Player);
    let mut proxy = admit(&mut mirror, 2, Dialect::Proxy);
    for operations in [
        &[set("x", 1.0), set("y", 1.0)][..],
        &[set("x", 2.0)],
        &[send("one")],
        &[set("x", 3.0), remove("y")],
        &[set("y", 4.0), set("x", 4.0), send("two")],
        &[send("two")],
        &[set("x", 5.0), Operation::Clear, set("z", 1.0)],
        &[set("z", 2.0)],
    ] {
        update(&mut mirror, None, operations);
    }
    let told = "y=1 x=2 !one y=4 x=4 !two !two clear z=2";
    assert_eq!(serve(&mut mirror, &mut slow), format!("18/2: {told}"));
    // Answers to own requests are not merged away.
    serve(&mut mirror, &mut proxy);
    mirror.request(&mut proxy, 18, vec![set("x", 1.0)]).unwrap();
    mirror.request(&mut proxy, 18, vec![set("x", 2.0)]).unwrap();
    update(&mut mirror, None, &[set("x", 0.0)]);
    update(&mut mirror, Some(1), &[set("x", 1.0)]);
    update(&mut mirror, None, &[set("x", 9.0)]);
    update(&mut mirror, Some(2), &[set("x", 2.0)]);
    update(&mut mirror, None, &[set("x", 3.0)]);
    assert_eq!(
        serve(&mut mirror, &mut proxy),
        "23/48: echo x=1 echo x=2 x=3"
    );
}

#[test]
fn a_refused_author_gets_what_is_there_in_order() {
    let mut mirror = mirror(MirrorLimits::DEFAULT);
    let mut player = admit(&mut mirror, 1, Dialect::Player);
    let mut other = admit(&mut mirror, 2, Dialect::Player);
    let asked = [set("a", 5.0), set("b", 5.0)];
    mirror.refuse(&mut player, &asked, &Refusal::NoWriteAccess);
    update(&mut mirror, None, &[set("a", 2.0), send("hi")]);
    let told = "error SharedObject.NoWriteAccess a=1 -b a=2 !hi";
    assert_eq!(serve(&mut mirror, &mut player), format!("11/2: {told}"));
    assert_eq!(serve(&mut mirror, &mut other), "11/2: a=2 !hi");
    // The owner's refusal, too. A clearing concerns everything.
    mirror
        .request(&mut player, 11, vec![Operation::Clear])
        .unwrap();
    let refusal = Refusal::from_code("SharedObject.Custom", "no");
    mirror.handle_refusal(1, &refusal);
    mirror.handle_refusal(1, &refusal);
    assert_eq!(
        serve(&mut mirror, &mut player),
        "11/2: error SharedObject.Custom a=2"
    );
    assert_eq!(serve(&mut mirror, &mut other), "");
    assert_eq!(mirror.unanswered().len(), 0);
}

#[test]
fn a_player_whose_copy_may_differ_gets_the_value_with_its_confirmation() {
    let mut mirror = mirror(MirrorLimits::DEFAULT);
    let mut player = admit(&mut mirror, 1, Dialect::Player);
    // Another's change is on its way to the client when it sets the same slot: its copy ends with that.
    update(&mut mirror, None, &[set("a", 2.0)]);
    assert_eq!(serve(&mut mirror, &mut player), "11/2: a=2");
    mirror
        .request(&mut player, 10, vec![set("a", 3.0)])
        .unwrap();
    update(&mut mirror, Some(1), &[set("a", 3.0)]);
    assert_eq!(serve(&mut mirror, &mut player), "12/2: ok a a=3");
    // It had seen all of it: the name is enough, for other slots' changes and its own.
    mirror
        .request(&mut player, 12, vec![set("a", 4.0)])
        .unwrap();
    mirror
        .request(&mut player, 12, vec![set("a", 5.0)])
        .unwrap();
    update(&mut mirror, None, &[set("b", 2.0)]);
    update(&mut mirror, Some(2), &[set("a", 4.0)]);
    update(&mut mirror, Some(3), &[set("a", 5.0)]);
    assert_eq!(serve(&mut mirror, &mut player), "15/2: b=2 ok a ok a");
    // It asks before it has read the answer to its Use, which clears its copy.
    let mut eager = admit(&mut mirror, 2, Dialect::Player);
    mirror.request(&mut eager, 0, vec![set("a", 6.0)]).unwrap();
    update(&mut mirror, Some(4), &[set("a", 6.0)]);
    assert_eq!(serve(&mut mirror, &mut eager), "16/2: ok a a=6");
}

#[test]
fn who_fell_out_of_the_log_gets_the_difference_and_then_the_log() {
    let limits = MirrorLimits {
        log: LogLimits {
            entries: 3,
            bytes: 1 << 20,
        },
        ..MirrorLimits::DEFAULT
    };
    let mut mirror = mirror(limits);
    let mut slow = admit(&mut mirror, 1, Dialect::Player);
    for operations in [
        &[set("x", 1.0), set("y", 1.0), remove("a")][..],
        &[set("x", 2.0)],
        &[set("z", 1.0)],
        &[set("x", 3.0), send("hi")],
        &[set("z", 2.0)],
    ] {
        update(&mut mirror, None, operations);
    }
    let mut cursor = slow;
    // Before the log: `x` was changed, but again later; so was nothing else.
    assert_eq!(
        serve(&mut mirror, &mut cursor),
        "15/2: y=1 -a z=1 x=3 !hi z=2"
    );
    // After a clearing that it has not seen it begins anew.
    update(&mut mirror, None, &[Operation::Clear, set("y", 7.0)]);
    update(&mut mirror, None, &[set("x", 4.0)]);
    update(&mut mirror, None, &[set("x", 5.0)]);
    update(&mut mirror, None, &[set("x", 6.0)]);
    assert_eq!(serve(&mut mirror, &mut cursor), "19/2: clear y=7 x=6");
    // The other one has missed what was sent.
    assert_eq!(serve(&mut mirror, &mut slow), "lost");
    assert_eq!(serve(&mut mirror, &mut slow), "lost");
}

#[test]
fn who_missed_an_answer_of_its_own_is_lost() {
    let limits = MirrorLimits {
        log: LogLimits {
            entries: 2,
            bytes: 1 << 20,
        },
        ..MirrorLimits::DEFAULT
    };
    let mut mirror = mirror(limits);
    let mut player = admit(&mut mirror, 1, Dialect::Player);
    let mut waiting = admit(&mut mirror, 2, Dialect::Player);
    mirror
        .request(&mut player, 10, vec![set("a", 3.0)])
        .unwrap();
    mirror
        .request(&mut waiting, 10, vec![set("b", 3.0)])
        .unwrap();
    update(&mut mirror, Some(1), &[set("a", 3.0)]);
    for number in 0..3 {
        update(&mut mirror, None, &[set("c", f64::from(number))]);
    }
    assert_eq!(serve(&mut mirror, &mut player), "lost");
    // One that still waits for it is not.
    assert_eq!(serve(&mut mirror, &mut waiting), "14/2: a=3 c=2");
    update(&mut mirror, Some(2), &[set("b", 3.0)]);
    assert_eq!(serve(&mut mirror, &mut waiting), "15/2: ok b b=3");
}

#[test]
fn a_new_owner_is_told_again_what_was_not_answered() {
    let mut mirror = mirror(MirrorLimits::DEFAULT);
    let mut player = admit(&mut mirror, 1, Dialect::Player);
    let mut other = admit(&mut mirror, 2, Dialect::Player);
    for operations in [
        vec![set("a", 5.0), send("hi")],
        vec![set("b", 5.0)],
        vec![set("c", 5.0)],
    ] {
        mirror.request(&mut player, 10, operations).unwrap();
    }
    mirror.handle_disconnect();
    assert_eq!(mirror.known(), (Epoch(1), Version(10)));
    let state = State {
        epoch: Epoch(2),
        version: Version(70_000),
        since: Version(10),
        slots: vec![
            Slot {
                name: "a".into(),
                value: value(5.0),
                version: Version(11),
            },
            Slot {
                name: "b".into(),
                value: value(6.0),
                version: Version(13),
            },
        ],
        remembered_since: Version(5),
        applied: vec![crate::object::AppliedRequests {
            edge: EDGE,
            number: 2,
        }],
        ..State::default()
    };
    let pieces = state.chunks(1);
    assert_eq!(pieces.len(), 3);
    assert_eq!(mirror.handle_state(pieces[0].clone()), Ok(false));
    // The call breaks in the middle of it, and all of it comes again.
    mirror.handle_disconnect();
    assert_eq!(serve(&mut mirror, &mut other), "");
    let done: Vec<bool> = pieces
        .into_iter()
        .map(|piece| mirror.handle_state(piece).unwrap())
        .collect();
    assert_eq!(done, [false, false, true]);
    let waiting: Vec<u64> = mirror.unanswered().map(|request| request.number).collect();
    assert_eq!(waiting, [3]);
    let told = "a=5 b=6";
    assert_eq!(
        serve(&mut mirror, &mut other),
        format!("70000/2: {told} !hi")
    );
    assert_eq!(
        serve(&mut mirror, &mut player),
        format!("70000/2: {told} ok a !hi a=5 ok b b=6")
    );
    let snapshot = mirror.snapshot();
    assert_eq!(
        (snapshot.epoch, snapshot.version, snapshot.slots.len()),
        (Epoch(2), Version(70_000), 2)
    );
    // Numbers go on where they were, for a mirror that is new as well.
    let request = mirror.request(&mut player, 0, vec![send("x")]).unwrap();
    assert_eq!(request.number, 4);
    let mut new = Mirror::new(
        mirror.name().clone(),
        Persistence::Persistent,
        EDGE,
        MirrorLimits::DEFAULT,
    );
    new.handle_state(snapshot).unwrap();
    let mut cursor = admit(&mut new, 1, Dialect::Player);
    let request = new.request(&mut cursor, 0, vec![send("x")]).unwrap();
    assert_eq!(request.number, 3);
}

#[test]
fn what_does_not_follow_is_refused_and_mended() {
    let mut mirror = mirror(MirrorLimits::DEFAULT);
    let mut player = admit(&mut mirror, 1, Dialect::Player);
    let update = |version, request| Update {
        version: Version(version),
        request,
        operations: vec![set("b", 1.0)].into(),
        is_repeated: false,
    };
    for version in [10, 12] {
        let error = OutOfStep::Version {
            have: Version(10),
            found: Version(version),
        };
        assert_eq!(mirror.handle_update(update(version, None)), Err(error));
    }
    mirror
        .request(&mut player, 10, vec![set("b", 1.0)])
        .unwrap();
    mirror
        .request(&mut player, 10, vec![set("b", 1.0)])
        .unwrap();
    let second = RequestId {
        edge: EDGE,
        number: 2,
    };
    let error = OutOfStep::Answer {
        expected: 1,
        found: 2,
    };
    assert_eq!(mirror.handle_update(update(11, Some(second))), Err(error));
    let difference = |since, version| State {
        epoch: Epoch(1),
        version: Version(version),
        since: Version(since),
        ..State::default()
    };
    for (since, version) in [(11, 12), (8, 9)] {
        let error = OutOfStep::Difference {
            have: Version(10),
            since: Version(since),
            version: Version(version),
        };
        assert_eq!(mirror.handle_state(difference(since, version)), Err(error));
    }
    // Nothing of all that has changed anything.
    assert_eq!(serve(&mut mirror, &mut player), "");
    assert_eq!(mirror.slot("b"), None);
    mirror.distrust();
    assert_eq!(mirror.known(), (Epoch(0), Version::NONE));
    let error = OutOfStep::NoState { found: Version(11) };
    assert_eq!(mirror.handle_update(update(11, None)), Err(error));
    let whole = State {
        epoch: Epoch(1),
        version: Version(14),
        slots: vec![Slot {
            name: "c".into(),
            value: value(1.0),
            version: Version(12),
        }],
        ..State::default()
    };
    assert_eq!(mirror.handle_state(whole), Ok(true));
    assert_eq!(serve(&mut mirror, &mut player), "14/2: -a c=1");
    assert_eq!(mirror.unanswered().len(), 2);
    // Another edge's request of the same number is nobody's here.
    let others = RequestId {
        edge: OTHER,
        number: 1,
    };
    mirror.handle_update(update(15, Some(others))).unwrap();
    assert_eq!(serve(&mut mirror, &mut player), "15/2: b=1");
}

#[test]
fn a_snapshot_tells_the_next_owner_of_all_edges_requests() {
    use crate::object::AppliedRequests;
    let mut mirror = mirror(MirrorLimits::DEFAULT);
    let third = EdgeIncarnation(9);
    let state = State {
        epoch: Epoch(1),
        version: Version(12),
        since: Version(10),
        applied: vec![
            AppliedRequests {
                edge: third,
                number: 4,
            },
            AppliedRequests {
                edge: OTHER,
                number: 2,
            },
        ],
        ..State::default()
    };
    mirror.handle_state(state.clone()).unwrap();
    let applied = Update {
        version: Version(13),
        request: Some(RequestId {
            edge: third,
            number: 5,
        }),
        operations: vec![remove("a")].into(),
        is_repeated: false,
    };
    mirror.handle_update(applied).unwrap();
    let snapshot = mirror.snapshot();
    assert_eq!(snapshot.applied.len(), 2);
    assert_eq!(snapshot.applied[0], state.applied[1]);
    assert_eq!(snapshot.applied[1].number, 5);
    assert_eq!(snapshot.removed.len(), 1);
    assert!(snapshot.slots.is_empty() && snapshot.is_whole());
}

#[test]
fn requests_that_wait_are_bounded() {
    let limits = MirrorLimits {
        pending: 2,
        pending_bytes: 400,
        ..MirrorLimits::DEFAULT
    };
    let mut mirror = mirror(limits);
    let mut player = admit(&mut mirror, 1, Dialect::Player);
    let large = || vec![send(&"x".repeat(300))];
    let mut ask = |mirror: &mut Mirror, what| mirror.request(&mut player, 0, what).map(|_| ());
    assert_eq!(ask(&mut mirror, large()), Ok(()));
    assert_eq!(ask(&mut mirror, large()), Err(Refusal::Busy));
    update(&mut mirror, Some(1), &large());
    assert_eq!(ask(&mut mirror, vec![send("1")]), Ok(()));
    assert_eq!(ask(&mut mirror, vec![send("2")]), Ok(()));
    assert_eq!(ask(&mut mirror, vec![send("3")]), Err(Refusal::Busy));
}
