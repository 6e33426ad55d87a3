//! Owners come and go.

use std::time::Duration;

use headwater_proto::v1;

use super::*;

#[test]
fn a_temporary_object_is_rebuilt_from_the_mirrors_of_edges() {
    let mut bench = Bench::new(3);
    for edge in 0..3 {
        bench.use_object(edge, "chat", Kind::Temporary);
    }
    bench.request(0, "chat", vec![set("a", "1"), set("b", "1")]);
    // The third edge lags behind.
    bench.detach(2, false);
    bench.request(1, "chat", vec![set("a", "2")]);
    bench.fail_over();
    bench.attach(2);
    assert_eq!(bench.edges[2].wanted, 1);
    bench.request(2, "chat", vec![set("b", "new")]);
    assert_eq!(bench.edges[2].value("chat", "a"), Some(text("1")));
    // One that knows more of before; what has changed since stays.
    bench.attach(0);
    bench.attach(1);
    assert_eq!(bench.edges[0].wanted, 1);
    for edge in 0..3 {
        assert_eq!(bench.edges[edge].value("chat", "a"), Some(text("2")));
        assert_eq!(bench.edges[edge].value("chat", "b"), Some(text("new")));
    }
}

#[test]
fn requests_of_before_are_applied_once_whoever_owns_the_object() {
    for kind in [Kind::Temporary, Kind::Persistent] {
        let mut bench = Bench::new(2);
        bench.use_object(0, "chat", kind);
        bench.use_object(1, "chat", kind);
        bench.request(0, "chat", vec![set("a", "1")]);
        bench.is_fast = false;
        bench.request(0, "chat", vec![set("a", "2")]);
        bench.fail_over();
        bench.request(0, "chat", vec![set("b", "3")]);
        bench.is_fast = true;
        bench.attach(0);
        bench.attach(1);
        for edge in 0..2 {
            assert_eq!(bench.edges[edge].value("chat", "a"), Some(text("2")));
            assert_eq!(bench.edges[edge].value("chat", "b"), Some(text("3")));
        }
        assert_eq!(bench.edges[0].unanswered("chat"), 0);
    }
}

#[test]
fn what_was_told_at_once_and_not_written_comes_from_a_mirror() {
    let mut bench = Bench::with(2, |policy| {
        policy.confirm = headwater_application::Confirm::AtOnce
    });
    bench.use_object(0, "kept", Kind::Persistent);
    bench.use_object(1, "kept", Kind::Persistent);
    bench.request(0, "kept", vec![set("a", "1")]);
    bench.is_fast = false;
    bench.request(0, "kept", vec![set("a", "2")]);
    bench.fail_over();
    bench.is_fast = true;
    bench.attach(0);
    bench.attach(1);
    assert_eq!(bench.edges[0].wanted, 1);
    assert_eq!(bench.edges[1].value("kept", "a"), Some(text("2")));
    // And is stored now.
    bench.fail_over();
    bench.edges[0].mirrors.clear();
    bench.attach(0);
    bench.use_object(0, "kept", Kind::Persistent);
    assert_eq!(bench.edges[0].value("kept", "a"), Some(text("2")));
}

#[test]
fn a_state_that_nobody_wants_is_left_out() {
    let mut bench = Bench::new(2);
    bench.use_object(0, "chat", Kind::Temporary);
    bench.request(0, "chat", vec![set("a", "1")]);
    let state = v1::ObjectState {
        object: Some(v1::ObjectName {
            name: "chat".to_owned(),
            persistent: false,
        }),
        epoch: 9,
        version: 100,
        ..v1::ObjectState::default()
    };
    for edge in 0..2 {
        let said = v1::attach_request::Request::ObjectState(state.clone());
        bench.say(edge, said);
    }
    assert_eq!(bench.edges[0].value("chat", "a"), Some(text("1")));
    assert_eq!(bench.broken, 0);
}

#[test]
fn what_was_sent_and_told_to_nobody_comes_to_everybody_once() {
    for later in [false, true] {
        let mut bench = Bench::new(3);
        for edge in 0..3 {
            bench.use_object(edge, "kept", Kind::Persistent);
        }
        for edge in 0..3 {
            bench.request(edge, "kept", vec![set("a", "1"), send("before")]);
        }
        for edge in 0..3 {
            assert_eq!(bench.edges[edge].heard("kept").len(), 3);
        }
        bench.is_fast = false;
        bench.request(0, "kept", vec![set("a", "2"), send("first")]);
        bench.request(0, "kept", vec![send("second")]);
        // The store has it, and the owner does not live to hear of that.
        bench.write_through(usize::MAX);
        bench.fail_over();
        bench.is_fast = true;
        bench.attach(0);
        if later {
            bench.pass(Duration::from_secs(10));
        }
        bench.attach(1);
        bench.attach(2);
        bench.settle();
        for edge in 0..3 {
            let heard = bench.edges[edge].heard("kept");
            assert_eq!(heard, ["first", "second"], "edge {edge}");
            assert_eq!(bench.edges[edge].unanswered("kept"), 0);
        }
        // Whoever comes later has nothing to do with it.
        bench.detach(2, true);
        bench.edges[2].mirrors.clear();
        bench.attach(2);
        bench.use_object(2, "kept", Kind::Persistent);
        assert_eq!(bench.edges[2].heard("kept"), [""; 0]);
    }
}
