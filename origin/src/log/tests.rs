//! The log against tables of what may happen to publishers; readers are in the files below.

use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use headwater_media::window::Retention;

use super::*;

mod departing;
mod reading;

pub(super) const UNIX: u64 = 1_700_000_000_000;
const ANNA: PublisherId = [1; 16];
const BERT: PublisherId = [2; 16];
const CARL: PublisherId = [3; 16];

pub(super) fn config() -> LogConfig {
    LogConfig {
        retention: Retention {
            min_duration_ms: 1_000,
            max_bytes: 10_000,
            max_frames: 50,
        },
        publisher_grace: Duration::from_secs(5),
        takeover_silence: Duration::from_secs(2),
        probe_slack: Duration::from_millis(500),
        handover: Duration::from_secs(10),
    }
}

/// A video frame every 40 ms, a key frame every ten.
pub(super) fn frame(epoch: Epoch, sequence: u64) -> Frame {
    let flags = if sequence.is_multiple_of(10) {
        FrameFlags::KEY
    } else {
        FrameFlags::empty()
    };
    Frame {
        offset: Offset { epoch, sequence },
        timestamp: sequence * 40,
        kind: FrameKind::Video,
        flags,
        payload: Bytes::from_static(b"picture"),
    }
}

/// A codec header.
fn header(epoch: Epoch, sequence: u64) -> Frame {
    Frame {
        flags: FrameFlags::HEADER,
        payload: Bytes::from_static(&[0x17, 0, 0, 0, 0]),
        ..frame(epoch, sequence)
    }
}

struct Bench {
    log: Log,
    now: Instant,
    connections: u64,
}

impl Bench {
    fn new() -> Self {
        Self {
            log: Log::new(config()),
            now: Instant::now(),
            connections: 0,
        }
    }

    fn open(&mut self, publisher: PublisherId, resume: Option<Resume>) -> ConnectionId {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.log.open(
            self.now,
            UNIX,
            OpenRequest {
                connection,
                publisher,
                resume,
                trace: String::new(),
            },
        );
        connection
    }

    fn resume(&mut self, publisher: PublisherId, epoch: Epoch, first: u64) -> ConnectionId {
        let preface = vec![header(epoch, 0)];
        self.open(
            publisher,
            Some(Resume {
                epoch,
                first_sequence: first,
                preface,
            }),
        )
    }

    /// Opens, and expects to be accepted at once.
    fn publish(&mut self, publisher: PublisherId) -> (ConnectionId, Epoch) {
        let connection = self.open(publisher, None);
        let events = self.events();
        for event in &events {
            if let Event::Publisher(id, PublisherEvent::Accepted { epoch, .. }) = event
                && *id == connection
            {
                return (connection, *epoch);
            }
        }
        panic!("not accepted: {events:?}");
    }

    fn push(&mut self, connection: ConnectionId, epoch: Epoch, range: std::ops::Range<u64>) {
        self.log
            .append(self.now, connection, epoch, range.map(|s| frame(epoch, s)))
            .unwrap();
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        self.log.handle_timeout(self.now);
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.log.poll_event()).collect()
    }

    /// Events for connections.
    fn told(&mut self) -> Vec<(u64, PublisherEvent)> {
        self.events()
            .into_iter()
            .filter_map(|event| match event {
                Event::Publisher(connection, event) => Some((connection.0, event)),
                Event::Count(_) => None,
            })
            .collect()
    }

    fn reader(&mut self, start: Start) -> (Reader, Opened) {
        self.log.open_reader(self.now, UNIX, start).unwrap()
    }

    /// Everything that the reader finds, in short form.
    fn read(&self, reader: &mut Reader) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(item) = self.log.read(self.now, reader, 1_000, 1 << 20) {
            let end = matches!(item, Item::Moved(_) | Item::Stale);
            found.push(match item {
                Item::Frames(frames) => format!(
                    "{}..={}",
                    short(frames.first().unwrap().offset),
                    frames.last().unwrap().offset.sequence
                ),
                Item::Published(epoch) => format!("published {}", epoch.0 - UNIX),
                Item::Unpublished(epoch) => format!("unpublished {}", epoch.0 - UNIX),
                Item::Gap {
                    from,
                    to,
                    preface,
                    lost,
                } => format!(
                    "gap {}->{} preface {} lost {lost}",
                    short(from),
                    short(to),
                    preface.len()
                ),
                Item::Moved(target) => format!("moved {}", target.node),
                Item::Stale => "stale".to_owned(),
            });
            if end {
                break;
            }
        }
        found
    }
}

/// Epochs count from 0 here.
fn short(offset: Offset) -> String {
    format!("{}:{}", offset.epoch.0 - UNIX, offset.sequence)
}

fn at(epoch: u64, sequence: u64) -> Start {
    Start::Offset(Offset {
        epoch: Epoch(UNIX + epoch),
        sequence,
    })
}

fn target(node: &str) -> Target {
    Target {
        node: node.to_owned(),
        address: format!("{node}:1"),
    }
}

#[test]
fn epochs_grow_from_the_wall_clock() {
    let mut bench = Bench::new();
    let (first, epoch) = bench.publish(ANNA);
    assert_eq!(epoch, Epoch(UNIX));
    bench.log.close(bench.now, first, CloseHow::Unpublished);
    let (_, epoch) = bench.publish(BERT);
    assert_eq!(epoch, Epoch(UNIX + 1), "the same millisecond");
}

#[test]
fn the_timeline_goes_on_by_the_clock() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..11);
    bench
        .log
        .close(bench.now, connection, CloseHow::Unpublished);
    bench.pass(1_500);
    let second = bench.open(ANNA, None);
    assert_eq!(
        bench.told(),
        [(
            second.0,
            PublisherEvent::Accepted {
                epoch: Epoch(UNIX + 1),
                timeline: Some(400 + 1_500),
                next_sequence: 0,
            }
        )]
    );
}

#[test]
fn frames_are_taken_once_and_in_order() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..5);
    bench.push(connection, epoch, 3..8);
    assert_eq!(bench.log.accepted_of(epoch), 8);
    let now = bench.now;
    let hole = bench.log.append(now, connection, epoch, [frame(epoch, 9)]);
    assert_eq!(
        hole,
        Err(AppendError::Hole {
            expected: 8,
            got: 9
        })
    );
    let other = bench.log.append(now, connection, Epoch(1), []);
    assert!(matches!(other, Err(AppendError::WrongEpoch { .. })));
    let stranger = bench.log.append(now, ConnectionId(99), epoch, []);
    assert_eq!(stranger, Err(AppendError::NotAttached));
}

#[test]
fn a_lost_publisher_has_a_time_of_grace() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..3);
    let (mut reader, _) = bench.reader(Start::Live);
    bench.log.disconnected(bench.now, connection);
    bench.pass(4_999);
    assert_eq!(bench.read(&mut reader), ["0:0..=2"]);
    let back = bench.resume(ANNA, epoch, 0);
    bench.push(back, epoch, 0..5);
    assert_eq!(
        bench.read(&mut reader),
        ["0:3..=4"],
        "as if nothing had been"
    );
    bench.log.disconnected(bench.now, back);
    bench.pass(5_000);
    assert_eq!(bench.read(&mut reader), ["unpublished 0"]);
    let late = bench.resume(ANNA, epoch, 2);
    bench.push(late, epoch, 2..6);
    assert_eq!(bench.read(&mut reader), ["published 0", "0:5..=5"]);
}

#[test]
fn a_fresh_publisher_takes_the_place_of_a_lost_one() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..3);
    let (mut reader, _) = bench.reader(Start::Live);
    bench.log.disconnected(bench.now, connection);
    let (second, epoch) = bench.publish(BERT);
    bench.push(second, epoch, 0..1);
    assert_eq!(
        bench.read(&mut reader),
        ["0:0..=2", "published 1", "1:0..=0"]
    );
    let refused = bench.resume(ANNA, Epoch(UNIX), 3);
    let stale = PublisherEvent::Rejected(Refusal::Stale);
    assert_eq!(bench.told(), [(refused.0, stale)]);
}

#[test]
fn the_same_publisher_replaces_its_old_connection() {
    let mut bench = Bench::new();
    let (first, epoch) = bench.publish(ANNA);
    bench.push(first, epoch, 0..3);
    let second = bench.resume(ANNA, epoch, 1);
    let told = bench.told();
    assert_eq!(told[0], (first.0, PublisherEvent::Superseded));
    assert!(
        matches!(told[1], (id, PublisherEvent::Accepted { next_sequence: 3, .. }) if id == second.0)
    );
    // The old connection's end is of no interest any more.
    bench.log.disconnected(bench.now, first);
    assert!(bench.log.is_published());
    let third = bench.open(ANNA, None);
    let told = bench.told();
    assert_eq!(told[0], (second.0, PublisherEvent::Superseded));
    assert!(matches!(told[1], (id, PublisherEvent::Accepted { .. }) if id == third.0));
}

#[test]
fn a_second_publisher_waits_for_the_probe() {
    enum Then {
        Alive,
        Silent,
        NoAnswer,
        Breaks,
        Closes,
    }
    for (then, wins) in [
        (Then::Alive, false),
        (Then::Silent, true),
        (Then::NoAnswer, true),
        (Then::Breaks, true),
        (Then::Closes, true),
    ] {
        let mut bench = Bench::new();
        let (first, epoch) = bench.publish(ANNA);
        bench.push(first, epoch, 0..1);
        let second = bench.open(BERT, None);
        let token = match &bench.told()[..] {
            [(to, PublisherEvent::Probe { token, timeout })] => {
                assert_eq!((*to, timeout.as_millis()), (first.0, 2_000));
                *token
            }
            other => panic!("{other:?}"),
        };
        let third = bench.open(CARL, None);
        let busy = PublisherEvent::Rejected(Refusal::BusyOpening);
        assert_eq!(bench.told(), [(third.0, busy)], "one probe at a time");
        // Nobody else may answer, nor with another token.
        bench.log.probed(bench.now, second, token, false);
        bench.log.probed(bench.now, first, token + 1, false);
        bench.pass(2_400);
        assert!(bench.told().is_empty());
        match then {
            Then::Alive => bench.log.probed(bench.now, first, token, true),
            Then::Silent => bench.log.probed(bench.now, first, token, false),
            Then::NoAnswer => bench.pass(100),
            Then::Breaks => bench.log.disconnected(bench.now, first),
            Then::Closes => bench.log.close(bench.now, first, CloseHow::Unpublished),
        }
        let told = bench.told();
        let accepted = told
            .iter()
            .any(|(to, event)| *to == second.0 && matches!(event, PublisherEvent::Accepted { .. }));
        assert_eq!(accepted, wins, "{told:?}");
        let replaced = told.contains(&(first.0, PublisherEvent::Replaced));
        assert_eq!(replaced, matches!(then, Then::Silent | Then::NoAnswer));
        assert_eq!(
            bench.log.publisher.connection(),
            Some(if wins { second } else { first })
        );
    }
}

#[test]
fn a_newcomer_that_leaves_ends_its_probe() {
    let mut bench = Bench::new();
    let (first, _) = bench.publish(ANNA);
    let second = bench.open(BERT, None);
    bench.log.disconnected(bench.now, second);
    bench.pass(10_000);
    assert_eq!(bench.log.publisher.connection(), Some(first));
    // The next one gets a probe of its own.
    bench.told();
    bench.open(CARL, None);
    assert!(matches!(
        bench.told()[..],
        [(_, PublisherEvent::Probe { token: 1, .. })]
    ));
}

#[test]
fn epochs_from_the_future_are_refused() {
    let mut bench = Bench::new();
    let epoch = Epoch(UNIX + MAX_EPOCH_LEAD_MS + 1);
    let start = Start::Offset(Offset { epoch, sequence: 0 });
    let refused = bench.log.open_reader(bench.now, UNIX, start);
    assert_eq!(refused.err(), Some(Refusal::EpochFromTheFuture));
    let connection = bench.resume(ANNA, epoch, 0);
    let rejected = PublisherEvent::Rejected(Refusal::EpochFromTheFuture);
    assert_eq!(bench.told(), [(connection.0, rejected)]);
}

#[test]
fn retention_can_shrink_and_grow() {
    let mut bench = Bench::new();
    let (connection, epoch) = bench.publish(ANNA);
    bench.push(connection, epoch, 0..1);
    let (mut reader, _) = bench.reader(Start::Live);
    assert_eq!(bench.read(&mut reader), ["0:0..=0"]);
    bench.push(connection, epoch, 1..25);
    let before = bench.log.bytes();
    let small = Retention {
        min_duration_ms: 0,
        ..config().retention
    };
    bench.log.set_retention(small);
    bench.push(connection, epoch, 25..26);
    assert!(bench.log.bytes() < before);
    assert_eq!(
        bench.read(&mut reader),
        ["gap 0:1->0:20 preface 0 lost true", "0:20..=25"]
    );
    bench.log.set_retention(config().retention);
    bench.push(connection, epoch, 26..45);
    assert_eq!(bench.read(&mut reader), ["0:26..=44"]);
}
