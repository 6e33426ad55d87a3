//! Instances that go elsewhere, or end.

use super::*;

fn moved() -> v1::Moved {
    v1::Moved {
        owner: "b".to_owned(),
        ..v1::Moved::default()
    }
}

#[test]
fn an_instance_goes_elsewhere_when_its_questions_are_answered() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    bench.say(1, call(1, 1, "f"));
    let Event::Call { call: asked, .. } = bench.event() else {
        panic!("not asked");
    };
    bench.instance.depart(bench.now, moved());
    assert_eq!(bench.outputs(), []);
    bench.act(Action::Call {
        call: asked,
        result: Ok(Value::Null),
    });
    let told = bench.told();
    assert!(
        matches!(&told[..], [(1, Told::Answer(_)), (1, Told::Moved(moved))] if moved.owner == "b"),
        "{told:?}"
    );
    bench.instance.stay();
    assert!(!bench.instance.is_open(), "edges know already");
    bench.say(1, Said::Close(v1::AttachClose {}));
    assert_eq!(bench.events(), [], "its clients go on there");
    assert_eq!(
        bench.outputs(),
        [
            Output::Cut(CallId(1), Cut::Done),
            Output::HangUp(Some(Reason::Moved)),
            Output::Ended
        ]
    );
}

#[test]
fn going_elsewhere_is_bounded_and_can_be_called_off() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    bench.say(1, call(1, 1, "f"));
    bench.events();
    bench
        .instance
        .set_policy(bench.now, policy(&HANDLER.replace("1000", "60000")));
    bench.say(1, call(1, 2, "f"));
    bench.events();
    bench.instance.depart(bench.now, moved());
    bench.instance.stay();
    bench.wait(500);
    assert_eq!(bench.outputs(), []);
    bench.instance.depart(bench.now, moved());
    bench.wait(2_001);
    let told = bench.told();
    assert!(
        told.iter().any(|(_, told)| matches!(told, Told::Moved(_))),
        "{told:?}"
    );
    bench.wait(5_001);
    let outputs = bench.outputs();
    assert!(
        outputs.contains(&Output::Cut(CallId(1), Cut::Done)),
        "{outputs:?}"
    );
    assert_eq!(outputs.last(), Some(&Output::Ended));
}

#[test]
fn an_instance_ends_when_the_handler_or_the_operator_says_so() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    bench.act(Action::Shutdown {
        description: "closing time".to_owned(),
    });
    let told = bench.told_one();
    let expected = v1::InstanceEnded {
        description: "closing time".to_owned(),
        code: "NetConnection.Connect.AppShutdown".to_owned(),
    };
    assert_eq!(told, Told::Ended(expected));
    assert!(!bench.instance.is_open());
    bench.say(1, connect(2));
    assert_eq!(
        rejected(&bench.told_one()).description,
        "The instance ends."
    );
    bench.instance.detached(bench.now, CallId(1));
    assert_eq!(
        bench.outputs(),
        [Output::HangUp(Some(Reason::Shutdown)), Output::Ended]
    );
}

#[test]
fn an_origin_that_ends_waits_for_nobody_who_may_come() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    bench.instance.set_draining(bench.now, true);
    assert_eq!(bench.outputs(), []);
    bench.say(1, disconnect(1));
    assert_eq!(
        bench.outputs(),
        [
            Output::Cut(CallId(1), Cut::Done),
            Output::HangUp(Some(Reason::Unload)),
            Output::Ended
        ]
    );
    // Edges that say objects alone may have clients.
    let mut bench = Bench::new("");
    bench.attach(1, 10, 0);
    bench.told();
    bench.instance.set_draining(bench.now, true);
    assert_eq!(bench.outputs(), []);
}

#[test]
fn who_comes_while_an_instance_moves_is_not_turned_away() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    bench.say(1, call(1, 1, "f"));
    bench.events();
    bench.instance.depart(bench.now, moved());
    // Until then a break is one like any other.
    bench.instance.detached(bench.now, CallId(1));
    assert_eq!(bench.metric("clients"), 1);
    bench.attach(2, 10, 1);
    bench.say(2, resume(1));
    bench.outputs();
    bench.wait(2_001);
    let told = bench.told();
    assert!(
        told.iter().any(|(_, told)| matches!(told, Told::Moved(_))),
        "{told:?}"
    );
    bench.say(2, connect(2));
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.metric("clients"), 1);
}

#[test]
fn an_instance_waits_for_the_edge_that_it_was_made_for() {
    let mut bench = Bench::new("idle_ms = 0\n");
    bench.wait(999);
    assert_eq!(bench.outputs(), []);
    bench.attach(1, 10, 0);
    bench.told_one();
    bench.wait(5_000);
    assert_eq!(bench.outputs(), []);
    bench.instance.detached(bench.now, CallId(1));
    bench.wait(0);
    assert_eq!(bench.outputs().last(), Some(&Output::Ended));
}
