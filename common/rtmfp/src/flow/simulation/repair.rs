//! How soon what was lost comes after all.

use std::time::Duration;

use super::network::Path;
use super::{Pair, ms, open, pattern, reliable};
use crate::flow::set::Config;
use crate::flow::{Priority, SendId};

/// A pair whose round trip is known, and one of its flows.
fn acquainted(delay: u64) -> (Pair, SendId) {
    let mut pair = Pair::new(&Config::default(), &Path::with_delay(delay), 1);
    let flow = open(&mut pair.here.flows, Priority::VIDEO);
    for _ in 0..40 {
        send(&mut pair, flow, 1_500);
        pair.run_for(ms(50));
    }
    pair.run_for(Duration::from_secs(1));
    (pair, flow)
}

fn send(pair: &mut Pair, flow: SendId, length: usize) {
    let message = reliable(pattern(length, 0));
    pair.here.flows.send(pair.now, flow, message).unwrap();
    pair.drain();
}

/// The same, and all packets of it are lost.
fn send_in_vain(pair: &mut Pair, flow: SendId, length: usize) {
    pair.here.link.path.loss = 1_000;
    send(pair, flow, length);
    pair.here.link.path.loss = 0;
}

/// How long after `since` the last of `count` messages came.
fn came(pair: &Pair, flow: SendId, count: usize, since: Duration) -> Duration {
    let messages = pair.there.messages(flow.0);
    assert_eq!(messages.len(), count);
    messages[count - 1].0 - since
}

#[test]
fn the_end_of_a_burst_is_missed_soon() {
    let (mut pair, flow) = acquainted(80);
    let timeout = pair.here.flows.round_trip().timeout();
    let sent = pair.now;
    send(&mut pair, flow, 3_000);
    send_in_vain(&mut pair, flow, 3_000);
    pair.run_for(Duration::from_secs(3));
    let took = came(&pair, flow, 42, sent);
    let counters = pair.here.flows.counters();
    println!("{took:?}, timeout {timeout:?}, {counters:?}");
    assert_eq!(counters.timeouts, 0);
    // There and back for what came, as long again in vain and some patience, there and back for the ends, and there for what is between.
    assert!(took < ms(160 + (160 + 40) + 160 + 80 + 20), "{took:?}");
}

#[test]
fn what_is_lost_again_is_sent_again() {
    let (mut pair, flow) = acquainted(80);
    let sent = pair.now;
    send_in_vain(&mut pair, flow, 500);
    // What comes behind it tells of it; what was sent again is lost as well.
    for number in 0..40 {
        pair.run_for(ms(20));
        pair.here.link.path.loss = if number == 8 { 1_000 } else { 0 };
        send(&mut pair, flow, 500);
    }
    pair.here.link.path.loss = 0;
    let again = pair.here.flows.counters().sent_again;
    pair.run_for(Duration::from_secs(3));
    let messages = pair.there.messages(flow.0);
    assert_eq!(messages.len(), 81);
    let took = messages[40].0 - sent;
    println!("{took:?} after {again}");
    assert!(took < ms(600), "{took:?}");
    assert_eq!(pair.here.flows.counters().timeouts, 0);
}

#[test]
fn what_was_sent_twice_and_came_once_loses_nothing_else() {
    // The far end is slow to answer now and then, longer than anyone expects.
    let (mut pair, flow) = acquainted(20);
    for _ in 0..50 {
        pair.there.link.path.delay = ms(120);
        send(&mut pair, flow, 6_000);
        pair.run_for(ms(100));
        pair.there.link.path.delay = ms(20);
        send(&mut pair, flow, 6_000);
        pair.run_for(ms(500));
    }
    assert_eq!(pair.there.messages(flow.0).len(), 140);
    let counters = pair.here.flows.counters();
    println!("{counters:?}");
    assert_eq!(counters.timeouts, 0);
    assert!(counters.sent_again <= 100, "{counters:?}");
}
