//! What the handler does and hears.

use headwater_shared_object::object::Operation;

use super::super::*;
use super::bench::slot_names;
use super::*;

fn found(bench: &Bench, command: u64) -> &Found {
    let answer = bench.answers.iter().find(|it| it.command == command);
    answer.unwrap().result.as_ref().unwrap()
}

fn code(bench: &Bench, command: u64) -> String {
    let answer = bench.answers.iter().find(|it| it.command == command);
    let refusal = answer.unwrap().result.as_ref().unwrap_err();
    refusal.code().to_owned()
}

#[test]
fn it_changes_objects_and_reads_them() {
    for (kind, persistent) in [(Kind::Temporary, false), (Kind::Persistent, true)] {
        let mut bench = Bench::new(1);
        let changes = vec![set("a", "1"), set("b", "2")];
        let apply = bench.command("score", persistent, Action::Apply(changes));
        assert_eq!(found(&bench, apply).version, 1);
        bench.use_object(0, "score", kind);
        assert_eq!(bench.edges[0].value("score", "b"), Some(text("2")));
        bench.command("score", persistent, Action::Apply(vec![Operation::Clear]));
        bench.command("score", persistent, Action::Apply(vec![set("c", "3")]));
        assert_eq!(bench.edges[0].slots("score").len(), 1);
        bench.request(0, "score", vec![set("a", "4")]);
        let all = bench.command("score", persistent, Action::Get(Vec::new()));
        assert_eq!(slot_names(found(&bench, all)), [&"a".into(), &"c".into()]);
        let some = Action::Get(vec!["c".to_owned(), "none".to_owned()]);
        let some = bench.command("score", persistent, some);
        assert_eq!(found(&bench, some).slots, [("c".into(), text("3"))]);
        let size = bench.command("score", persistent, Action::Size);
        assert_eq!(found(&bench, size).size, 2);
        let wrong = bench.command("score", !persistent, Action::Size);
        assert_eq!(code(&bench, wrong), "SharedObject.BadPersistence");
        let none = bench.command("/", persistent, Action::Size);
        assert_eq!(code(&bench, none), "SharedObject.BadName");
    }
}

#[test]
fn it_hears_of_changes_of_what_it_watches_in_order_with_answers() {
    let mut bench = Bench::new(1);
    bench.use_object(0, "score", Kind::Persistent);
    bench.request(0, "score", vec![set("a", "0")]);
    bench.command("score", true, Action::Watch(true));
    bench.is_fast = false;
    bench.request(0, "score", vec![set("a", "1")]);
    let apply = bench.command("score", true, Action::Apply(vec![set("b", "1")]));
    let flush = bench.command("score", true, Action::Flush);
    assert_eq!(bench.changed, []);
    bench.make_durable(1);
    assert_eq!(bench.changed.len(), 1);
    assert_eq!(bench.answers.len(), 1, "the watch's own");
    bench.make_durable(1);
    assert_eq!(bench.changed.len(), 2);
    assert_eq!(bench.answers.len(), 3);
    // As numbers they are the same here: none was answered in between.
    assert_eq!(apply, flush);
    let author = Author {
        incarnation: 1_000,
        client: 1,
    };
    assert_eq!(bench.changed[0].author, Some(author));
    assert_eq!(*bench.changed[0].operations, [set("a", "1")]);
    assert_eq!(
        (bench.changed[1].author, bench.changed[1].version),
        (None, 3)
    );
    bench.is_fast = true;
    bench.command("score", true, Action::Watch(false));
    bench.request(0, "score", vec![set("a", "2")]);
    assert_eq!(bench.changed.len(), 2);
}

#[test]
fn what_it_has_put_into_a_temporary_object_stays_and_what_it_watches() {
    let mut bench = Bench::new(1);
    bench.command("looked at", false, Action::Size);
    bench.command("watched", false, Action::Watch(true));
    bench.command("filled", false, Action::Apply(vec![set("a", "1")]));
    bench.pass(Duration::from_secs(3_600));
    assert!(!bench.is_open("looked at"));
    assert!(bench.is_open("watched") && bench.is_open("filled"));
    bench.objects.handler_gone(bench.now);
    bench.command("filled", false, Action::Apply(vec![Operation::Clear]));
    assert!(!bench.is_open("watched") && !bench.is_open("filled"));
    assert_eq!(bench.objects.len(), 0);
}

#[test]
fn commands_wait_for_the_object_and_fail_where_it_does_not_come() {
    let mut bench = Bench::new(0);
    bench.is_fast = false;
    let apply = bench.command("score", true, Action::Apply(vec![set("a", "1")]));
    assert_eq!(bench.answers, []);
    bench.pass(LOAD_LIMIT);
    assert_eq!(code(&bench, apply), "SharedObject.Unavailable");
    // What comes late makes no difference.
    bench.answer_loads();
    assert_eq!(bench.objects.len(), 0);
    bench.is_fast = true;
    let apply = bench.command("score", true, Action::Apply(vec![set("a", "1")]));
    assert_eq!(found(&bench, apply).version, 1);
}

#[test]
fn one_that_is_gone_is_not_answered_and_what_it_has_changed_stays() {
    let mut bench = Bench::new(1);
    bench.use_object(0, "score", Kind::Persistent);
    bench.is_fast = false;
    bench.command("score", true, Action::Apply(vec![set("a", "1")]));
    bench.command("later", true, Action::Apply(vec![set("b", "1")]));
    bench.command("watched", true, Action::Watch(true));
    bench.objects.handler_gone(bench.now);
    bench.is_fast = true;
    bench.answer_loads();
    bench.make_durable(usize::MAX);
    assert_eq!(bench.answers, []);
    assert_eq!(bench.edges[0].value("score", "a"), Some(text("1")));
    assert_eq!(bench.master("later").slot("b"), Some(&text("1")));
    bench.use_object(0, "watched", Kind::Persistent);
    bench.request(0, "watched", vec![set("c", "1")]);
    assert_eq!(bench.changed, []);
}
