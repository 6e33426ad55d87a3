//! Whatever happens in whatever order, edges end with what the owner has; and hear nothing before it is durable, which the bench checks.

use std::time::Duration;

use headwater_shared_object::object::Operation;
use proptest::prelude::*;

use super::bench::slots_of;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Request(usize, bool, Vec<Operation>),
    Command(bool, Vec<Operation>),
    Durable(usize),
    Load,
    Room(bool),
    Detach(usize),
    Attach(usize),
    FailOver,
    Pass(u64),
    Again(usize, bool),
}

fn operation() -> impl Strategy<Value = Operation> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        6 => (name(), "[x-z]{1,2}").prop_map(|(name, value)| set(name, &value)),
        3 => name().prop_map(|name| Operation::Remove { name: name.into() }),
        1 => Just(Operation::Clear),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let operations = || prop::collection::vec(operation(), 0..3);
    prop_oneof![
        12 => (0..3_usize, any::<bool>(), operations())
            .prop_map(|(edge, kept, operations)| Step::Request(edge, kept, operations)),
        2 => (any::<bool>(), operations())
            .prop_map(|(kept, operations)| Step::Command(kept, operations)),
        6 => (0..4_usize).prop_map(Step::Durable),
        4 => Just(Step::Load),
        1 => any::<bool>().prop_map(Step::Room),
        2 => (0..3_usize).prop_map(Step::Detach),
        4 => (0..3_usize).prop_map(Step::Attach),
        1 => Just(Step::FailOver),
        1 => (0..40_u64).prop_map(Step::Pass),
        1 => (0..3_usize, any::<bool>()).prop_map(|(edge, kept)| Step::Again(edge, kept)),
    ]
}

fn names(kept: bool) -> (&'static str, Kind) {
    if kept {
        ("kept", Kind::Persistent)
    } else {
        ("chat", Kind::Temporary)
    }
}

fn run(steps: Vec<Step>, confirm: headwater_application::Confirm) {
    let mut bench = Bench::with(3, |policy| {
        policy.confirm = confirm;
        policy.remembered_removals = 2;
    });
    for edge in 0..3 {
        for kept in [false, true] {
            let (name, kind) = names(kept);
            bench.use_object(edge, name, kind);
        }
    }
    bench.is_fast = false;
    for step in steps {
        match step {
            Step::Request(edge, kept, operations) => {
                bench.request(edge, names(kept).0, operations);
            }
            Step::Command(kept, operations) => {
                bench.command(names(kept).0, kept, super::super::Action::Apply(operations));
            }
            Step::Durable(count) => bench.make_durable(count),
            Step::Load => bench.answer_loads(),
            Step::Room(room) => bench.objects.store_has_room(room),
            Step::Detach(edge) => bench.detach(edge, false),
            Step::Attach(edge) => {
                if bench.edges[edge].call.is_none() {
                    bench.attach(edge);
                }
            }
            Step::FailOver => bench.fail_over(),
            // Not long enough for uses to be refused.
            Step::Pass(tenths) => {
                bench.answer_loads();
                bench.pass(Duration::from_millis(tenths * 100));
            }
            Step::Again(edge, kept) => {
                let (name, kind) = names(kept);
                bench.release(edge, name);
                bench.use_object(edge, name, kind);
            }
        }
    }
    bench.objects.store_has_room(true);
    bench.settle();
    for kept in [false, true] {
        let (name, _) = names(kept);
        let expected = slots_of(bench.master(name));
        let version = bench.master(name).version();
        for edge in &bench.edges {
            assert_eq!(edge.slots(name), expected, "{name}");
            assert_eq!(edge.mirrors[name].mirror.known().1, version, "{name}");
            assert_eq!(edge.unanswered(name), 0, "{name}");
        }
    }
    // What is stored is what was told.
    let expected = slots_of(bench.master("kept"));
    bench.fail_over();
    for edge in &mut bench.edges {
        edge.mirrors.clear();
    }
    bench.attach(0);
    bench.use_object(0, "kept", Kind::Persistent);
    assert_eq!(bench.edges[0].slots("kept"), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn durable(steps in prop::collection::vec(step(), 0..120)) {
        run(steps, headwater_application::Confirm::Durable);
    }

    #[test]
    fn at_once(steps in prop::collection::vec(step(), 0..120)) {
        run(steps, headwater_application::Confirm::AtOnce);
    }
}
