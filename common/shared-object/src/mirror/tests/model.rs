//! Owner, store, edges and clients together, against what should come of it.
//!
//! A case is a list of steps: what clients do, which message arrives where, what becomes durable, what breaks. Clients talk in the
//! bytes of the wire and keep a map of their own. The reference is the list of applied requests, one after the other; a new owner
//! keeps what was durable of it.
//!
//! At every step: the owner is as the reference. At every send that a client gets: its map is as the reference was at that send,
//! unless it had to leave something out. At the end, when everything has arrived: mirrors, clients and store are as the owner,
//! each request was applied once and answered once, and each send came once and in order.

mod client;
mod world;

use proptest::prelude::*;

use self::world::{Step, World};
use crate::master::Keeping;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 1..220)
}

/// No calls end, and the owner stays.
fn is_calm(step: &Step) -> bool {
    !matches!(World::kind(step), 22..=27)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn without_breaks_everybody_gets_everything(steps in steps(), persistent: bool) {
        let keeping = if persistent { Keeping::Durable } else { Keeping::Temporary };
        let mut world = World::new(keeping);
        for step in steps.into_iter().filter(is_calm) {
            world.step(step);
        }
        world.settle();
    }

    #[test]
    fn what_is_durable_outlives_owners(steps in steps()) {
        let mut world = World::new(Keeping::Durable);
        for step in steps {
            world.step(step);
        }
        world.settle();
    }

    #[test]
    fn temporary_objects_are_rebuilt_from_mirrors(steps in steps()) {
        let mut world = World::new(Keeping::Temporary);
        for step in steps {
            world.step(step);
        }
        world.settle();
    }

    #[test]
    fn mirrors_that_know_more_than_the_store_are_heard(steps in steps()) {
        let mut world = World::new(Keeping::AtOnce);
        for step in steps {
            world.step(step);
        }
        world.settle();
    }
}
