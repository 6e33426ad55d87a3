//! Bounds, and a store that is full or lost.

use super::super::*;
use super::*;

#[test]
fn what_cannot_be_written_is_refused_and_changes_nothing() {
    let mut bench = Bench::new(2);
    for edge in 0..2 {
        bench.use_object(edge, "kept", Kind::Persistent);
        bench.use_object(edge, "chat", Kind::Temporary);
    }
    bench.request(0, "kept", vec![set("a", "1")]);
    bench.objects.store_has_room(false);
    bench.request(0, "kept", vec![set("a", "2")]);
    bench.request(0, "chat", vec![set("a", "2")]);
    let refused = bench.command("kept", true, Action::Apply(vec![set("a", "3")]));
    assert_eq!(bench.answers[0].command, refused);
    assert!(matches!(bench.answers[0].result, Err(Refusal::Busy)));
    let busy = ("kept".to_owned(), 2, "SharedObject.Busy".to_owned());
    assert_eq!(bench.edges[0].refused, [busy]);
    assert_eq!(bench.master("kept").slot("a"), Some(&text("1")));
    assert_eq!(bench.edges[1].value("chat", "a"), Some(text("2")));
    // Later it is taken.
    bench.objects.store_has_room(true);
    bench.request(0, "kept", vec![set("a", "4")]);
    assert_eq!(bench.edges[1].value("kept", "a"), Some(text("4")));
}

#[test]
fn a_lost_store_is_a_lost_instance_and_nothing_that_waited_is_told() {
    let mut bench = Bench::new(1);
    bench.use_object(0, "kept", Kind::Persistent);
    bench.is_fast = false;
    bench.request(0, "kept", vec![set("a", "1")]);
    bench.objects.lost(StateError::Fenced);
    bench.make_durable(1);
    bench.use_object(0, "chat", Kind::Temporary);
    bench.command("chat", false, Action::Size);
    assert_eq!(bench.lost, Some(StateError::Fenced));
    assert_eq!(bench.edges[0].updates, 0);
    assert_eq!(bench.answers, []);
    assert_eq!(
        (bench.objects.len(), bench.objects.poll_timeout()),
        (0, None)
    );
}

#[test]
fn there_are_as_many_objects_as_the_application_allows() {
    let mut bench = Bench::with(1, |policy| policy.max_objects = 2);
    for name in ["a", "b", "c"] {
        bench.use_object(0, name, Kind::Temporary);
    }
    let full = ("c".to_owned(), 0, "SharedObject.TooManyObjects".to_owned());
    assert_eq!(bench.edges[0].refused, [full]);
    bench.release(0, "a");
    bench.use_object(0, "d", Kind::Temporary);
    assert!(bench.edges[0].mirrors["d"].mirror.is_ready());
}

#[test]
fn what_waits_for_one_object_is_bounded() {
    let mut bench = Bench::new(1);
    bench.is_fast = false;
    for command in 1..=MAX_ASKS as u64 + 1 {
        bench.objects.command(
            bench.now,
            Command {
                command,
                object: "kept".to_owned(),
                persistent: true,
                action: Action::Size,
            },
        );
    }
    bench.answer_loads();
    assert_eq!(bench.answers.len(), MAX_ASKS + 1);
    assert!(matches!(bench.answers[0].result, Err(Refusal::Busy)));
    assert!(bench.answers[1].result.is_ok());
}

#[test]
fn what_waits_for_the_store_is_bounded() {
    let mut bench = Bench::new(3);
    for edge in 0..3 {
        bench.use_object(edge, "kept", Kind::Persistent);
    }
    bench.is_fast = false;
    for number in 0..600 {
        let large = format!("{number:065000}");
        bench.request(number % 3, "kept", vec![set("a", &large)]);
    }
    let taken = bench.writes.len();
    assert!((500..520).contains(&taken), "{taken}");
    assert!(bench.objects.line.bytes() < LINE_BYTES);
    bench.make_durable(usize::MAX);
    let refused = bench.edges.iter().flat_map(|edge| &edge.refused);
    let busy = refused.filter(|(_, _, code)| code == "SharedObject.Busy");
    assert_eq!(taken + busy.count(), 600);
    for edge in &bench.edges {
        assert_eq!(edge.updates, taken);
        assert_eq!(edge.unanswered("kept"), 0);
    }
}

#[test]
fn an_edge_that_wants_more_than_there_is_room_for_is_sent_away() {
    let mut bench = Bench::new(2);
    bench.use_object(0, "kept", Kind::Persistent);
    bench.use_object(1, "chat", Kind::Temporary);
    bench.is_fast = false;
    bench.request(0, "kept", vec![set("a", "1")]);
    let number = |number| {
        v1::attach_request::Request::Object(v1::ObjectRequest {
            object: Some(named(
                &ObjectName::parse("kept").unwrap(),
                Persistence::Persistent,
            )),
            number,
            client: 1,
            operations: wire::operations(&[set(&"n".repeat(2_000), "1")]),
        })
    };
    let mut said = 0;
    while bench.broken == 0 {
        said += 1;
        assert!(said < 1_000_000, "{}", bench.objects.line.bytes());
        bench.say(0, number(said + 1));
    }
    assert!(bench.objects.line.bytes() <= LINE_BYTES + 1_000);
    bench.request(1, "chat", vec![set("a", "1")]);
    assert_eq!(bench.edges[1].value("chat", "a"), Some(text("1")));
    bench.make_durable(1);
    assert_eq!(bench.objects.line.bytes(), 0);
}

#[test]
fn what_nobody_waits_for_any_more_is_not_loaded() {
    let mut bench = Bench::new(1);
    bench.is_fast = false;
    bench.use_object(0, "kept", Kind::Persistent);
    assert!(bench.objects.is_wanted(1));
    bench.release(0, "kept");
    assert!(!bench.objects.is_wanted(1));
    assert_eq!(
        (bench.objects.len(), bench.objects.poll_timeout()),
        (0, None)
    );
}

#[test]
fn an_instance_takes_what_it_had_off_the_count_of_all() {
    let metrics = ObjectMetrics::new(&headwater_node::metrics::Metrics::new("test", "origin"));
    let policy = Arc::new(SharedObjectsSection::default());
    let with = |names: &[&str]| {
        let setup = Setup {
            name: bench::name(),
            epoch: 1,
            grace: Duration::ZERO,
        };
        let mut objects = Objects::new(setup, Arc::clone(&policy), metrics.clone());
        for name in names {
            let command = Command {
                command: 0,
                object: (*name).to_owned(),
                persistent: false,
                action: Action::Watch(true),
            };
            objects.command(Instant::now(), command);
        }
        objects
    };
    let (mut lost, dropped, stays) = (with(&["a"]), with(&["a", "b"]), with(&["c"]));
    assert_eq!(metrics.objects.get(), 4);
    lost.lost(StateError::Fenced);
    assert_eq!(metrics.objects.get(), 3);
    drop(lost);
    drop(dropped);
    assert_eq!(metrics.objects.get(), 1);
    drop(stays);
    assert_eq!(metrics.objects.get(), 0);
}
