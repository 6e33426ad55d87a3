//! What readers find: starts, gaps, statuses.

use super::*;

#[test]
fn a_live_reader_starts_at_the_newest_key_frame() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench
        .log
        .append(bench.now, connection, epoch, [header(epoch, 0)])
        .unwrap();
    bench.push(connection, epoch, 1..25);
    let (mut reader, opened) = bench.reader(Start::Live);
    assert!(opened.publishing);
    assert_eq!(opened.preface, [header(epoch, 0)]);
    assert_eq!(bench.read(&mut reader), ["0:20..=24"]);
    bench.push(connection, epoch, 25..26);
    assert_eq!(bench.read(&mut reader), ["0:25..=25"]);
}

#[test]
fn statuses_stand_where_they_happened() {
    let mut bench = Bench::new();
    let (mut reader, opened) = bench.reader(Start::Live);
    assert!(!opened.publishing);
    assert!(bench.read(&mut reader).is_empty());
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..3);
    bench
        .log
        .close(bench.now, connection, CloseHow::Unpublished);
    let (connection, epoch) = bench.publish(BERT);
    bench.push(connection, epoch, 0..2);
    let (mut late, opened) = bench.reader(at(0, 1));
    assert!(opened.publishing);
    assert_eq!(
        bench.read(&mut reader),
        [
            "published 0",
            "0:0..=2",
            "unpublished 0",
            "published 1",
            "1:0..=1"
        ]
    );
    assert_eq!(
        bench.read(&mut late),
        ["0:1..=2", "unpublished 0", "published 1", "1:0..=1"]
    );
}

#[test]
fn a_resumed_stream_starts_where_its_publisher_has_frames() {
    let mut bench = Bench::new();
    let epoch = Epoch(UNIX + 7);
    // Readers come first: one that needs a frame that the publisher still has, one that needs an older one, one that waits.
    let (mut near, _) = bench.reader(at(7, 505));
    let (mut far, opened) = bench.reader(at(7, 480));
    assert!(!opened.publishing, "the publisher is only expected");
    let (mut fresh, opened) = bench.reader(Start::Live);
    assert!(!opened.publishing);
    assert!(bench.read(&mut fresh).is_empty());
    let connection = bench.resume(ANNA, epoch, 500);
    assert!(matches!(
        bench.told()[..],
        [(
            _,
            PublisherEvent::Accepted {
                next_sequence: 500,
                ..
            }
        )]
    ));
    bench.push(connection, epoch, 500..503);
    assert!(bench.read(&mut near).is_empty(), "it has those");
    assert_eq!(
        bench.read(&mut far),
        ["gap 7:480->7:500 preface 1 lost true", "7:500..=502"]
    );
    assert_eq!(
        bench.read(&mut fresh),
        [
            "published 7",
            "gap 7:0->7:500 preface 1 lost false",
            "7:500..=502"
        ]
    );
    bench.push(connection, epoch, 503..510);
    assert_eq!(bench.read(&mut near), ["7:505..=509"]);
    let (_, opened) = bench.reader(Start::Live);
    assert_eq!(opened.preface.len(), 1);
}

#[test]
fn a_hole_after_what_is_there_is_a_gap() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..5);
    let (mut reader, _) = bench.reader(Start::Live);
    assert_eq!(bench.read(&mut reader), ["0:0..=4"]);
    bench.log.disconnected(bench.now, connection);
    let back = bench.resume(ANNA, epoch, 18);
    bench.push(back, epoch, 18..25);
    assert_eq!(
        bench.read(&mut reader),
        ["gap 0:5->0:20 preface 1 lost true", "0:20..=24"]
    );
}

#[test]
fn a_slow_reader_goes_on_at_the_newest_key_frame() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..3);
    let (mut reader, _) = bench.reader(Start::Live);
    assert_eq!(bench.read(&mut reader), ["0:0..=2"]);
    bench.push(connection, epoch, 3..195);
    assert_eq!(
        bench.read(&mut reader),
        ["gap 0:3->0:190 preface 0 lost true", "0:190..=194"]
    );
}

#[test]
fn a_slow_reader_is_told_of_all_epochs() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..3);
    let (mut reader, _) = bench.reader(Start::Live);
    assert_eq!(bench.read(&mut reader), ["0:0..=2"]);
    bench.push(connection, epoch, 3..5);
    bench
        .log
        .close(bench.now, connection, CloseHow::Unpublished);
    let (connection, epoch) = bench.publish(BERT);
    bench.push(connection, epoch, 0..195);
    assert_eq!(
        bench.read(&mut reader),
        [
            "unpublished 0",
            "published 1",
            "gap 0:3->1:190 preface 0 lost true",
            "1:190..=194"
        ]
    );
}

#[test]
fn readers_of_forgotten_runs_have_a_gap() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..3);
    let (mut reader, _) = bench.reader(Start::Live);
    for _ in 0..MAX_RUNS + 5 {
        let (connection, epoch) = bench.publish(ANNA);
        bench.push(connection, epoch, 0..1);
    }
    let found = bench.read(&mut reader);
    assert_eq!(found[0], "published 6");
    let (mut late, _) = bench.reader(at(0, 2));
    assert_eq!(bench.read(&mut late)[0], "published 6");
    let gaps = found.iter().filter(|item| item.starts_with("gap")).count();
    assert_eq!(gaps, 0, "it had not had a frame: {found:?}");
}

#[test]
fn an_expected_publisher_that_does_not_come_is_gone() {
    let mut bench = Bench::new();
    let (mut early, _) = bench.reader(Start::Live);
    let (mut reader, _) = bench.reader(at(7, 480));
    let (mut late, _) = bench.reader(Start::Live);
    bench.pass(4_999);
    assert!(bench.read(&mut reader).is_empty());
    bench.pass(1);
    assert_eq!(bench.read(&mut reader), ["unpublished 7"]);
    let (connection, epoch) = bench.publish(BERT);
    assert_eq!(epoch, Epoch(UNIX + 8), "later than what readers know");
    bench.push(connection, epoch, 0..1);
    for reader in [&mut reader, &mut early, &mut late] {
        assert_eq!(bench.read(reader), ["published 8", "8:0..=0"]);
    }
}

#[test]
fn a_reader_ahead_of_the_publisher_is_stale_after_the_grace() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..3);
    let (mut waits, _) = bench.reader(at(9, 3));
    let (mut lucky, _) = bench.reader(at(9, 3));
    assert!(bench.read(&mut waits).is_empty());
    assert_eq!(
        waits.poll_timeout(),
        Some(bench.now + config().publisher_grace)
    );
    bench.now += config().publisher_grace;
    assert_eq!(bench.read(&mut waits), ["stale"]);
    let later = bench.resume(BERT, Epoch(UNIX + 9), 0);
    assert_eq!(bench.told()[0], (connection.0, PublisherEvent::Replaced));
    bench.push(later, Epoch(UNIX + 9), 0..5);
    assert_eq!(bench.read(&mut lucky), ["published 9", "9:3..=4"]);
}
