//! What was sent when an owner went away.

use headwater_amf::Value;

use super::super::*;
use crate::master::{Keeping, Master, MasterLimits, Outcome};
use crate::value::Arguments;

const ONE: EdgeIncarnation = EdgeIncarnation(1);
const OTHER: EdgeIncarnation = EdgeIncarnation(2);

fn send(text: &str) -> Operation {
    Operation::Send {
        arguments: Arguments::new(&[Value::from(text)]).unwrap(),
    }
}

fn set(name: &str) -> Operation {
    Operation::Set {
        name: name.into(),
        value: SlotValue::new(&Value::from(1.0)).unwrap(),
    }
}

fn master(epoch: u64) -> Master {
    let limits = MasterLimits {
        slots: 4,
        value_bytes: 64,
        object_bytes: 1 << 16,
        name_bytes: 16,
        removals: 2,
    };
    Master::new(Keeping::Temporary, Epoch(epoch), limits)
}

fn mirror(edge: EdgeIncarnation, master: &Master) -> (Mirror, Cursor) {
    let name = ObjectName::parse("chat").unwrap();
    let limits = MirrorLimits::DEFAULT;
    let mut mirror = Mirror::new(name, Persistence::Temporary, edge, limits);
    let state = master.state_since(Version::NONE);
    assert!(mirror.handle_state(state).unwrap());
    let client = ClientId(edge.0);
    let (cursor, _) = mirror.admit(client, Dialect::Player, Encoding::Amf0, 0);
    (mirror, cursor)
}

fn apply(master: &mut Master, edge: EdgeIncarnation, request: &Request) -> Update {
    match master.apply(edge, request.number, &request.operations) {
        Ok(Outcome::Applied(applied)) => applied.update,
        other => panic!("{other:?}"),
    }
}

/// Operations that come after a position of the log.
fn heard(mirror: &Mirror, from: u64) -> Vec<Operation> {
    let entries = mirror.log.since(from);
    entries
        .flat_map(|(_, entry)| entry.operations.iter().cloned())
        .filter(Operation::is_send)
        .collect()
}

/// An owner applies two requests of one edge, and goes away when the edges have heard of so many.
fn lose_an_owner(one_has: usize, other_has: usize) -> (Vec<Operation>, Vec<Operation>) {
    let mut master = master(1);
    let (mut one, mut asker) = mirror(ONE, &master);
    let (mut other, _) = mirror(OTHER, &master);
    let from = other.log.head();
    let own_from = one.log.head();
    for operations in [vec![set("a"), send("first")], vec![send("second")]] {
        let request = one.request(&mut asker, 0, operations).unwrap();
        let update = apply(&mut master, ONE, &request);
        for (mirror, has) in [(&mut one, one_has), (&mut other, other_has)] {
            if request.number as usize <= has {
                mirror.handle_update(update.clone()).unwrap();
            }
        }
    }
    for mirror in [&mut one, &mut other] {
        mirror.handle_disconnect();
        assert!(
            mirror
                .handle_state(master.state_since(Version::NONE))
                .unwrap()
        );
    }
    assert_eq!(one.unanswered().len(), 0);
    let repeats: Vec<Request> = one.repeats_after(0).cloned().collect();
    for again in repeats {
        assert!(again.operations.iter().all(Operation::is_send));
        let outcome = master.apply(ONE, again.number, &again.operations);
        assert_eq!(outcome, Ok(Outcome::Duplicate));
        let update = master.repeat(ONE, again.number, &again.operations);
        let update = update.expect("it has sent something");
        for mirror in [&mut one, &mut other] {
            mirror.handle_update(update.clone()).unwrap();
            // It comes twice, and is heard once.
            mirror.handle_update(update.clone()).unwrap();
        }
    }
    // The owner has them.
    assert_eq!(one.repeats_after(0).count(), 0);
    (heard(&one, own_from), heard(&other, from))
}

#[test]
fn what_was_sent_comes_to_everybody_once_whatever_the_owner_had_told() {
    let all = vec![send("first"), send("second")];
    for one in 0..=2 {
        for other in 0..=2 {
            let heard = lose_an_owner(one, other);
            assert_eq!(heard, (all.clone(), all.clone()), "{one} {other}");
        }
    }
}

#[test]
fn who_comes_later_does_not_hear_of_it() {
    let mut master = master(1);
    let (mut one, mut asker) = mirror(ONE, &master);
    let request = one.request(&mut asker, 0, vec![send("early")]).unwrap();
    apply(&mut master, ONE, &request);
    let (mut late, _) = mirror(OTHER, &master);
    let from = late.log.head();
    let update = master.repeat(ONE, request.number, &request.operations);
    late.handle_update(update.unwrap()).unwrap();
    assert_eq!(heard(&late, from), []);
    assert_eq!(master.repeat(ONE, 1, &[set("a")]), None);
}
