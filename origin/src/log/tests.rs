use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use headwater_media::window::Retention;

use super::*;

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
    assert_eq!(bench.log.accepted(), 8);
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
