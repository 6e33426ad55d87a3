//! What is in the store, and what is made of it.

use headwater_shared_object::object::Operation;

use super::super::*;
use super::bench::slots_of;
use super::*;

#[test]
fn an_object_comes_back_from_its_rows_as_it_was() {
    let mut bench = Bench::with(1, |policy| policy.remembered_removals = 2);
    bench.use_object(0, "kept", Kind::Persistent);
    bench.use_object(0, "kept/too", Kind::Persistent);
    bench.request(0, "kept/too", vec![set("x", "1")]);
    for slot in ["a", "b", "c", "d", "e"] {
        bench.request(0, "kept", vec![set(slot, "1")]);
    }
    for slot in ["a", "b", "c"] {
        let name = slot.into();
        bench.request(0, "kept", vec![Operation::Remove { name }]);
    }
    let remove = |name: &str| Operation::Remove { name: name.into() };
    bench.request(0, "kept", vec![remove("none"), set("d", "2")]);
    let (expected, version) = (
        slots_of(bench.master("kept")),
        bench.master("kept").version(),
    );
    bench.release(0, "kept");
    bench.pass(LINGER);
    assert!(!bench.is_open("kept"));
    // Two slots, the two removals that are remembered, and the meta row; two of the other.
    assert_eq!(bench.rows.len(), 7, "{:?}", bench.rows);
    bench.use_object(0, "kept", Kind::Persistent);
    assert_eq!(bench.edges[0].slots("kept"), expected);
    assert_eq!(bench.master("kept").version(), version);
    bench.request(0, "kept", vec![Operation::Clear, set("f", "1")]);
    assert_eq!(bench.rows.len(), 4, "{:?}", bench.rows);
    bench.fail_over();
    bench.attach(0);
    assert_eq!(bench.edges[0].slots("kept"), [("f".to_owned(), text("1"))]);
    assert_eq!(bench.edges[0].slots("kept/too").len(), 1);
}

#[test]
fn an_object_stays_in_memory_until_it_is_durable_and_unused_for_a_while() {
    let mut bench = Bench::new(1);
    bench.use_object(0, "kept", Kind::Persistent);
    bench.is_fast = false;
    bench.request(0, "kept", vec![set("a", "1")]);
    bench.release(0, "kept");
    bench.pass(LINGER * 3);
    assert!(bench.is_open("kept"));
    bench.make_durable(1);
    bench.pass(LINGER / 2);
    assert!(bench.is_open("kept"));
    bench.pass(LINGER / 2);
    assert!(!bench.is_open("kept"));
}

#[test]
fn without_the_store_temporary_objects_go_on_and_persistent_ones_wait_for_a_while() {
    let mut bench = Bench::new(2);
    bench.use_object(0, "kept", Kind::Persistent);
    bench.request(0, "kept", vec![set("a", "1")]);
    bench.fail_over_without_store();
    bench.attach(0);
    bench.attach(1);
    bench.use_object(1, "chat", Kind::Temporary);
    bench.request(1, "chat", vec![set("a", "1")]);
    assert_eq!(bench.edges[1].value("chat", "a"), Some(text("1")));
    bench.request(0, "kept", vec![set("a", "2")]);
    assert_eq!(bench.edges[0].unanswered("kept"), 1);
    bench.use_object(1, "late", Kind::Persistent);
    bench.pass(LOAD_LIMIT / 2);
    bench.open_store();
    assert_eq!(bench.edges[0].value("kept", "a"), Some(text("2")));
    assert!(bench.edges[1].mirrors["late"].mirror.is_ready());

    bench.fail_over_without_store();
    bench.attach(0);
    bench.pass(LOAD_LIMIT);
    let refused = ("kept".to_owned(), 0, "SharedObject.Unavailable".to_owned());
    assert_eq!(bench.edges[0].refused, [refused]);
}

#[test]
fn where_the_store_does_not_answer_only_persistent_objects_are_refused() {
    let mut bench = Bench::new(2);
    bench.is_fast = false;
    bench.use_object(0, "a", Kind::Persistent);
    bench.use_object(0, "b", Kind::Temporary);
    bench.use_object(1, "a", Kind::Temporary);
    bench.fail_loads();
    let refused = ("a".to_owned(), 0, "SharedObject.Unavailable".to_owned());
    assert_eq!(bench.edges[0].refused, [refused]);
    assert!(bench.edges[0].mirrors["b"].mirror.is_ready());
    assert!(bench.edges[1].mirrors["a"].mirror.is_ready());
}

#[test]
fn rows_that_are_something_else_are_refused_and_left_alone() {
    let mut bench = Bench::new(1);
    bench.use_object(0, "kept", Kind::Persistent);
    bench.request(0, "kept", vec![set("a", "1")]);
    let good = bench.rows.clone();
    let keys: Vec<Bytes> = good.keys().cloned().collect();
    let bad: [(usize, &'static [u8]); 5] = [
        (0, b""),
        (0, b"\x02nonsense"),
        (0, b"\x01\0\0\0\0\0\0\0\x01"),
        (1, b"\x01"),
        (1, b"\x07\0\0\0\0\0\0\0\x01\x05"),
    ];
    for (key, row) in bad {
        bench
            .rows
            .insert(keys[key].clone(), Bytes::from_static(row));
        bench.fail_over();
        bench.edges[0].refused.clear();
        bench.attach(0);
        let code = &bench.edges[0].refused[0].2;
        assert_eq!(code, "SharedObject.Unavailable", "{row:?}");
        assert!(bench.writes.is_empty());
        bench.rows = good.clone();
    }
    bench.rows.remove(&keys[0]);
    bench.fail_over();
    bench.edges[0].refused.clear();
    bench.attach(0);
    assert_eq!(bench.edges[0].refused.len(), 1);
}
