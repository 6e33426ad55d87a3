//! Edges use objects and change them.

use super::super::*;
use super::bench::slots_of;
use super::*;
use headwater_shared_object::object::Operation;

#[test]
fn a_change_reaches_all_who_use_the_object_once() {
    for kind in [Kind::Temporary, Kind::Persistent] {
        let mut bench = Bench::new(3);
        bench.use_object(0, "chat", kind);
        bench.use_object(1, "chat", kind);
        bench.use_object(2, "other", kind);
        bench.request(0, "chat", vec![set("a", "1"), set("b", "2")]);
        bench.request(1, "chat", vec![set("a", "3")]);
        for edge in 0..2 {
            assert_eq!(bench.edges[edge].value("chat", "a"), Some(text("3")));
            assert_eq!(bench.edges[edge].value("chat", "b"), Some(text("2")));
            assert_eq!(bench.edges[edge].updates, 2);
            assert_eq!(bench.edges[edge].unanswered("chat"), 0);
        }
        assert_eq!(bench.edges[2].updates, 0);
        // Who comes later gets the whole.
        bench.use_object(2, "chat", kind);
        let expected = slots_of(bench.master("chat"));
        assert_eq!(bench.edges[2].slots("chat"), expected);
    }
}

#[test]
fn nothing_is_told_before_it_is_durable_and_then_in_order() {
    let mut bench = Bench::new(3);
    bench.use_object(0, "chat", Kind::Persistent);
    bench.use_object(1, "chat", Kind::Persistent);
    bench.is_fast = false;
    bench.request(0, "chat", vec![set("a", "1")]);
    bench.request(1, "chat", vec![set("a", "2")]);
    // A refusal stands in the line, too.
    bench.request(0, "chat", vec![set(&"long".repeat(300), "x")]);
    bench.use_object(2, "chat", Kind::Persistent);
    bench.answer_loads();
    assert_eq!(bench.edges[0].updates, 0);
    assert_eq!(bench.edges[0].refused, []);
    assert!(!bench.edges[2].mirrors["chat"].mirror.is_ready());
    assert!(!bench.objects.is_settled());
    bench.make_durable(1);
    assert_eq!(bench.edges[0].value("chat", "a"), Some(text("1")));
    assert_eq!(bench.edges[1].value("chat", "a"), Some(text("1")));
    assert_eq!(bench.edges[0].unanswered("chat"), 1);
    bench.make_durable(1);
    assert_eq!(bench.edges[0].value("chat", "a"), Some(text("2")));
    assert_eq!(bench.edges[0].unanswered("chat"), 0);
    let refused = (
        "chat".to_owned(),
        2,
        "SharedObject.SlotNameTooLong".to_owned(),
    );
    assert_eq!(bench.edges[0].refused, [refused]);
    // It had come in between, and gets the state of then, and no update of before.
    assert_eq!(bench.edges[2].value("chat", "a"), Some(text("2")));
    assert_eq!(bench.edges[2].updates, 0);
    assert!(bench.objects.is_settled());
}

#[test]
fn a_temporary_object_waits_for_nobody() {
    let mut bench = Bench::new(1);
    bench.use_object(0, "kept", Kind::Persistent);
    bench.use_object(0, "chat", Kind::Temporary);
    bench.is_fast = false;
    bench.request(0, "kept", vec![set("a", "1")]);
    bench.request(0, "chat", vec![set("a", "1")]);
    assert_eq!(bench.edges[0].value("chat", "a"), Some(text("1")));
    assert_eq!(bench.edges[0].value("kept", "a"), None);
    assert_eq!(bench.writes.len(), 1);
}

#[test]
fn confirmed_at_once_it_is_told_at_once_and_written_behind() {
    let mut bench = Bench::with(2, |policy| {
        policy.confirm = headwater_application::Confirm::AtOnce
    });
    bench.use_object(0, "kept", Kind::Persistent);
    bench.use_object(1, "kept", Kind::Persistent);
    bench.is_fast = false;
    bench.request(0, "kept", vec![set("a", "1")]);
    assert_eq!(bench.edges[1].value("kept", "a"), Some(text("1")));
    let flush = bench.command("kept", true, Action::Flush);
    assert_eq!(bench.answers, []);
    bench.make_durable(1);
    assert_eq!(bench.answers[0].command, flush);
    assert_eq!(bench.answers[0].result.as_ref().unwrap().version, 1);
}

#[test]
fn a_name_is_one_object_temporary_or_persistent() {
    let mut bench = Bench::new(3);
    bench.use_object(0, "a", Kind::Temporary);
    bench.use_object(1, "a", Kind::Persistent);
    bench.use_object(0, "b", Kind::Persistent);
    bench.request(0, "b", vec![set("x", "1")]);
    bench.use_object(1, "b", Kind::Temporary);
    bench.use_object(2, "b", Kind::Unsaid);
    bench.use_object(2, "a", Kind::Unsaid);
    bench.use_object(2, "new", Kind::Unsaid);
    let bad = |name: &str| (name.to_owned(), 0, "SharedObject.BadPersistence".to_owned());
    assert_eq!(bench.edges[1].refused, [bad("a"), bad("b")]);
    assert_eq!(bench.edges[2].refused, []);
    assert_eq!(bench.edges[2].value("b", "x"), Some(text("1")));
    let is = |bench: &Bench, name: &str| bench.edges[2].mirrors[name].mirror.persistence();
    assert_eq!(is(&bench, "b"), Persistence::Persistent);
    assert_eq!(is(&bench, "a"), Persistence::Temporary);
    assert_eq!(is(&bench, "new"), Persistence::Temporary);
    // Also when nobody has it in memory.
    bench.release(0, "b");
    bench.release(2, "b");
    bench.pass(LINGER);
    assert!(!bench.is_open("b"));
    bench.use_object(1, "b", Kind::Temporary);
    assert_eq!(bench.edges[1].refused.last(), Some(&bad("b")));
}

#[test]
fn what_is_unsaid_and_new_is_as_the_application_has_it() {
    let mut bench = Bench::with(1, |policy| {
        policy.unsaid = headwater_application::Unsaid::Persistent;
    });
    bench.use_object(0, "new", Kind::Unsaid);
    bench.request(0, "new", vec![set("x", "1")]);
    let mirror = &bench.edges[0].mirrors["new"].mirror;
    assert_eq!(mirror.persistence(), Persistence::Persistent);
    assert!(!bench.rows.is_empty());
}

#[test]
fn a_temporary_object_goes_with_its_last_user_and_its_versions_go_on() {
    let mut bench = Bench::new(2);
    bench.use_object(0, "chat", Kind::Temporary);
    bench.use_object(1, "chat", Kind::Temporary);
    for value in ["1", "2", "3"] {
        bench.request(0, "chat", vec![set("a", value)]);
    }
    bench.release(0, "chat");
    assert!(bench.is_open("chat"));
    // May come back: its mirror knows everything.
    bench.detach(1, false);
    assert!(bench.is_open("chat"));
    bench.pass(Duration::from_secs(5));
    bench.attach(1);
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.edges[1].value("chat", "a"), Some(text("3")));
    bench.detach(1, true);
    assert!(!bench.is_open("chat"));
    bench.use_object(0, "chat", Kind::Temporary);
    assert_eq!(bench.edges[0].slots("chat"), []);
    assert!(bench.master("chat").version().0 > 3);
    // It has missed that.
    bench.attach(1);
    assert_eq!(bench.edges[1].slots("chat"), []);
}

#[test]
fn a_request_that_comes_again_is_applied_once() {
    let mut bench = Bench::new(1);
    bench.use_object(0, "chat", Kind::Persistent);
    bench.is_fast = false;
    let send = Operation::Send {
        arguments: headwater_shared_object::value::Arguments::from_node(&[2, 0, 1, b'f']),
    };
    bench.request(0, "chat", vec![set("a", "1"), send]);
    // The answer does not come, the owner does not change.
    bench.detach(0, false);
    bench.make_durable(1);
    let version = bench.master("chat").version();
    bench.attach(0);
    assert_eq!(bench.edges[0].unanswered("chat"), 0);
    assert_eq!(bench.master("chat").version(), version);
    let again = v1::ObjectRequest {
        object: Some(named(
            &ObjectName::parse("chat").unwrap(),
            Persistence::Persistent,
        )),
        number: 1,
        client: 1,
        operations: wire::operations(&[set("a", "again")]),
    };
    bench.say(0, v1::attach_request::Request::Object(again));
    assert_eq!(bench.master("chat").version(), version);
    assert_eq!(bench.edges[0].value("chat", "a"), Some(text("1")));
}

#[test]
fn who_uses_nothing_changes_nothing() {
    let mut bench = Bench::new(2);
    bench.use_object(0, "chat", Kind::Temporary);
    let request = |name: &str| {
        v1::attach_request::Request::Object(v1::ObjectRequest {
            object: Some(named(
                &ObjectName::parse(name).unwrap(),
                Persistence::Temporary,
            )),
            number: 1,
            client: 1,
            operations: wire::operations(&[set("a", "1")]),
        })
    };
    bench.say(1, request("chat"));
    bench.say(1, request("none"));
    let refused = |name: &str| (name.to_owned(), 1, "SharedObject.Unavailable".to_owned());
    assert_eq!(bench.edges[1].refused, [refused("chat"), refused("none")]);
    assert_eq!(bench.edges[0].updates, 0);
    let bad = v1::UseObject {
        object: Some(v1::ObjectName {
            name: "../x".to_owned(),
            persistent: true,
        }),
        ..v1::UseObject::default()
    };
    bench.say(1, v1::attach_request::Request::UseObject(bad));
    assert_eq!(bench.edges[1].refused[2].2, "SharedObject.BadName");
    let nameless = v1::ObjectRequest::default();
    bench.say(1, v1::attach_request::Request::Object(nameless));
    assert_eq!(bench.broken, 1);
    assert_eq!(bench.edges[1].call, None::<EdgeCall>);
    let _: &EdgeSim = &bench.edges[1];
}
