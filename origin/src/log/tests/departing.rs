//! Streams that go to another node.

use super::*;

#[test]
fn a_departing_stream_takes_its_publisher_along() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..3);
    let (mut reader, _) = bench.reader(Start::Live);
    bench.told();
    bench.log.depart(bench.now, target("b"));
    bench.log.depart(bench.now, target("b"));
    assert_eq!(
        bench.told(),
        [(connection.0, PublisherEvent::Move(target("b")))]
    );
    bench.pass(1_000);
    bench.log.depart(bench.now, target("b"));
    assert_eq!(bench.told().len(), 1, "asked again");
    bench.push(connection, epoch, 3..5);
    assert_eq!(bench.read(&mut reader), ["0:0..=4"], "not yet");
    bench
        .log
        .close(bench.now, connection, CloseHow::Moved(target("b")));
    assert_eq!(bench.read(&mut reader), ["moved b"]);
    assert!(bench.log.is_idle());
    assert_eq!(bench.log.poll_timeout(), None);
}

#[test]
fn readers_do_not_wait_for_ever_for_a_departing_publisher() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..3);
    let (mut reader, _) = bench.reader(Start::Live);
    bench.told();
    bench.log.depart(bench.now, target("b"));
    bench.told();
    assert_eq!(
        bench.log.poll_timeout(),
        Some(bench.now + config().handover)
    );
    bench.pass(10_000);
    assert_eq!(bench.told(), [(connection.0, PublisherEvent::Unavailable)]);
    assert_eq!(bench.read(&mut reader), ["0:0..=2", "moved b"]);
}

#[test]
fn readers_without_a_publisher_go_at_once() {
    let mut bench = Bench::new();
    let (mut reader, _) = bench.reader(Start::Live);
    bench.log.depart(bench.now, target("b"));
    assert_eq!(bench.read(&mut reader), ["moved b"]);
}

#[test]
fn a_stream_may_stay_after_all() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..3);
    let (mut reader, _) = bench.reader(Start::Live);
    bench.log.depart(bench.now, target("b"));
    bench.log.stay();
    assert_eq!(bench.log.poll_timeout(), None);
    // Its edge comes back with the window; or it had handed over already, and then comes back.
    let back = bench.resume(ANNA, epoch, 0);
    bench.push(back, epoch, 0..5);
    bench
        .log
        .close(bench.now, connection, CloseHow::Moved(target("b")));
    assert_eq!(bench.read(&mut reader), ["0:0..=4"]);
    bench.log.depart(bench.now, target("b"));
    bench
        .log
        .close(bench.now, back, CloseHow::Moved(target("b")));
    bench.log.stay();
    let mut early = reader.clone();
    assert_eq!(
        bench.read(&mut early),
        ["moved b"],
        "it follows the publisher"
    );
    let back = bench.resume(ANNA, epoch, 0);
    bench.push(back, epoch, 4..7);
    assert_eq!(bench.read(&mut reader), ["0:5..=6"]);
}
