//! Random publishers, readers, failures and clocks against the log: whatever happens, a reader never sees a frame twice or
//! out of order, and sees every frame unless it was told of a gap.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use headwater_media::frame::{Epoch, Offset};
use headwater_media::window::Retention;
use proptest::prelude::*;

use super::tests::{UNIX, config, frame};
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Open {
        publisher: u8,
    },
    /// Comes back `behind` frames before what it had, or after a hole.
    Resume {
        publisher: u8,
        behind: u64,
        hole: u64,
    },
    /// A publisher that had its epoch elsewhere.
    Arrive {
        publisher: u8,
        ahead: u64,
        first: u64,
    },
    Push {
        count: u64,
    },
    Disconnect,
    Close {
        moved: bool,
    },
    Answer {
        alive: bool,
    },
    Pass {
        milliseconds: u64,
    },
    Depart,
    Stay,
    Retain {
        milliseconds: u64,
    },
    ReadLive,
    /// Reads again where reader `reader` stands.
    Reopen {
        reader: usize,
    },
    Read {
        reader: usize,
        items: usize,
        frames: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..3_u8).prop_map(|publisher| Step::Open { publisher }),
        2 => (0..3_u8, 0..30_u64, prop_oneof![4 => Just(0), 1 => 1..30_u64])
            .prop_map(|(publisher, behind, hole)| Step::Resume { publisher, behind, hole }),
        1 => (0..3_u8, 1..5_u64, 0..40_u64)
            .prop_map(|(publisher, ahead, first)| Step::Arrive { publisher, ahead, first }),
        8 => (1..40_u64).prop_map(|count| Step::Push { count }),
        1 => Just(Step::Disconnect),
        1 => any::<bool>().prop_map(|moved| Step::Close { moved }),
        1 => any::<bool>().prop_map(|alive| Step::Answer { alive }),
        1 => (1..6_000_u64).prop_map(|milliseconds| Step::Pass { milliseconds }),
        1 => Just(Step::Depart),
        1 => Just(Step::Stay),
        1 => (0..1_500_u64).prop_map(|milliseconds| Step::Retain { milliseconds }),
        2 => Just(Step::ReadLive),
        1 => (0..8_usize).prop_map(|reader| Step::Reopen { reader }),
        6 => (0..8_usize, 1..6_usize, 1..40_usize)
            .prop_map(|(reader, items, frames)| Step::Read { reader, items, frames }),
    ]
}

/// A reader and what it knows.
struct Witness {
    reader: Reader,
    /// Every frame from here on has to come; `None` for a live reader before its first frame.
    due: Option<Offset>,
    /// Where the next frame has to be.
    exactly: Option<Offset>,
    published: Option<Epoch>,
    ended: bool,
}

struct World {
    log: Log,
    now: Instant,
    connections: u64,
    /// Every frame that was ever taken.
    taken: BTreeSet<Offset>,
    attached: Option<ConnectionId>,
    probe: Option<u64>,
    readers: Vec<Witness>,
}

impl World {
    fn open(&mut self, publisher: u8, resume: Option<Resume>) {
        self.connections += 1;
        let request = OpenRequest {
            connection: ConnectionId(self.connections),
            publisher: [publisher; 16],
            resume,
            trace: String::new(),
        };
        self.log.open(self.now, UNIX, request);
    }

    fn resume(&mut self, publisher: u8, epoch: Epoch, first_sequence: u64) {
        let resume = Resume {
            epoch,
            first_sequence,
            preface: Vec::new(),
        };
        self.open(publisher, Some(resume));
    }

    fn step(&mut self, step: Step) {
        let head = self
            .log
            .runs
            .last()
            .map(run::Run::head_offset)
            .unwrap_or_default();
        match step {
            Step::Open { publisher } => self.open(publisher, None),
            Step::Resume {
                publisher,
                behind,
                hole,
            } => {
                let first = match hole {
                    0 => head.sequence.saturating_sub(behind),
                    hole => head.sequence + hole,
                };
                self.resume(publisher, head.epoch, first);
            }
            Step::Arrive {
                publisher,
                ahead,
                first,
            } => self.resume(publisher, Epoch(head.epoch.0.max(UNIX) + ahead), first),
            Step::Push { count } => {
                if let Some(connection) = self.log.publisher.connection() {
                    let frames = (0..count).map(|i| frame(head.epoch, head.sequence + i));
                    let offsets = frames.clone().map(|frame| frame.offset);
                    self.taken.extend(offsets);
                    let accepted = self.log.append(self.now, connection, head.epoch, frames);
                    assert_eq!(accepted, Ok(head.sequence + count));
                }
            }
            Step::Disconnect => {
                if let Some(connection) = self.attached.take() {
                    self.log.disconnected(self.now, connection);
                }
            }
            Step::Close { moved } => {
                if let Some(connection) = self.attached.take() {
                    let how = if moved {
                        CloseHow::Moved(target())
                    } else {
                        CloseHow::Unpublished
                    };
                    self.log.close(self.now, connection, how);
                }
            }
            Step::Answer { alive } => {
                if let (Some(connection), Some(token)) =
                    (self.log.publisher.connection(), self.probe.take())
                {
                    self.log.probed(self.now, connection, token, alive);
                }
            }
            Step::Pass { milliseconds } => {
                self.now += Duration::from_millis(milliseconds);
                self.log.handle_timeout(self.now);
                assert!(self.log.poll_timeout().is_none_or(|due| due > self.now));
            }
            Step::Depart => self.log.depart(self.now, target()),
            Step::Stay => self.log.stay(),
            Step::Retain { milliseconds } => self.log.set_retention(Retention {
                min_duration_ms: milliseconds,
                ..config().retention
            }),
            Step::ReadLive => self.open_reader(Start::Live),
            Step::Reopen { reader } => {
                if let Some(due) = self.witness(reader).and_then(|witness| witness.due) {
                    self.open_reader(Start::Offset(due));
                }
            }
            Step::Read {
                reader,
                items,
                frames,
            } => self.read(reader, items, frames),
        }
        self.events();
    }

    fn witness(&self, reader: usize) -> Option<&Witness> {
        self.readers.get(reader % self.readers.len().max(1))
    }

    fn open_reader(&mut self, start: Start) {
        if self.readers.len() >= 8 {
            self.readers.remove(0);
        }
        let (reader, opened) = self.log.open_reader(self.now, UNIX, start).unwrap();
        let (due, published) = match start {
            Start::Live => (None, opened.publishing.then_some(opened.epoch)),
            // It knows what it was told before.
            Start::Offset(offset) => (Some(offset), Some(offset.epoch)),
        };
        self.readers.push(Witness {
            reader,
            due,
            exactly: None,
            published,
            ended: false,
        });
    }

    /// Publishers obey: who is told to go is gone. Checks that there is never more than one.
    fn events(&mut self) {
        while let Some(event) = self.log.poll_event() {
            let Event::Publisher(connection, event) = event else {
                continue;
            };
            match event {
                PublisherEvent::Accepted { .. } => {
                    assert_eq!(self.attached, None, "two publishers");
                    self.attached = Some(connection);
                }
                PublisherEvent::Probe { token, .. } => self.probe = Some(token),
                PublisherEvent::Replaced
                | PublisherEvent::Superseded
                | PublisherEvent::Unavailable => {
                    self.attached.take_if(|attached| *attached == connection);
                }
                PublisherEvent::Rejected(_) | PublisherEvent::Move(_) => {}
            }
        }
        assert_eq!(self.attached, self.log.publisher.connection());
    }

    fn read(&mut self, reader: usize, items: usize, frames: usize) {
        let index = reader % self.readers.len().max(1);
        let Some(witness) = self.readers.get_mut(index) else {
            return;
        };
        for _ in 0..items {
            if witness.ended {
                return;
            }
            let Some(item) = self
                .log
                .read(self.now, &mut witness.reader, frames, 1 << 20)
            else {
                return;
            };
            check(witness, &self.taken, item);
        }
    }

    /// Every reader catches up; then it has seen the newest frame.
    fn finish(&mut self) {
        for index in 0..self.readers.len() {
            self.read(index, 10_000, 1_000);
            let witness = &self.readers[index];
            if let (Some(due), Some(last)) = (witness.due, self.log.window.last())
                && !witness.ended
            {
                assert!(
                    due > last.offset,
                    "stuck at {due}, the log is at {}",
                    last.offset
                );
            }
        }
    }
}

fn check(witness: &mut Witness, taken: &BTreeSet<Offset>, item: Item) {
    match item {
        Item::Frames(frames) => {
            assert!(!frames.is_empty());
            for frame in frames {
                let offset = frame.offset;
                assert_eq!(
                    witness.published,
                    Some(offset.epoch),
                    "frames of an unpublished epoch"
                );
                if let Some(exactly) = witness.exactly.take() {
                    assert_eq!(offset, exactly, "the frame after a gap");
                } else if let Some(due) = witness.due {
                    assert!(offset >= due, "{offset} came where {due} was due");
                    let missed = taken.range(due..offset).next();
                    assert_eq!(missed, None, "not told of a gap before {offset}");
                }
                witness.due = Some(offset.next());
            }
        }
        Item::Gap { from, to, .. } => {
            assert!(to > from, "{from} to {to}");
            assert_eq!(witness.published, Some(to.epoch));
            assert!(taken.contains(&to));
            if let Some(due) = witness.due {
                assert!(
                    from <= due || taken.range(due..from).next().is_none(),
                    "gap from {from}, due {due}"
                );
                assert!(to >= due);
            }
            witness.due = Some(to);
            witness.exactly = Some(to);
        }
        Item::Published(epoch) => {
            assert!(witness.published.is_none_or(|before| before <= epoch));
            assert!(witness.due.is_none_or(|due| due.epoch <= epoch));
            witness.published = Some(epoch);
        }
        Item::Unpublished(epoch) => {
            assert_eq!(witness.published, Some(epoch));
            witness.published = None;
        }
        Item::Moved(_) | Item::Stale => witness.ended = true,
    }
}

fn target() -> Target {
    Target {
        node: "other".to_owned(),
        address: "other:1".to_owned(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn readers_see_every_frame_once(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World {
            log: Log::new(config()),
            now: Instant::now(),
            connections: 0,
            taken: BTreeSet::new(),
            attached: None,
            probe: None,
            readers: Vec::new(),
        };
        for step in steps {
            world.step(step);
        }
        world.finish();
    }
}
