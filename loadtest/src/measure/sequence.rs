//! Which numbers of a track's frames came, which did not, and which came twice or late.

use std::collections::VecDeque;
use std::ops::Range;

use headwater_media::synthetic::Stamp;
use serde::Serialize;

/// Runs of missing frames that are remembered, so that a late frame can be told from a repeated one. One that is older counts as repeated.
pub const MAX_HOLES: usize = 256;

/// The account of one track: stamps in, counts out.
///
/// A viewer may join anywhere, so the first number that comes is where counting starts. A publisher that begins anew counts from 0 again
/// with later send times; its frames are then expected from 0.
#[derive(Clone, Debug, Default)]
pub struct Sequences {
    report: SequenceReport,
    /// The number after the highest that came.
    next: Option<u64>,
    /// Send time of the highest number that came.
    sent_at: u64,
    /// What did not come, ascending.
    holes: VecDeque<Range<u64>>,
}

/// The counts of one track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SequenceReport {
    /// Frames with a stamp.
    pub received: u64,
    /// Frames that did not come, between the first and the last that did.
    pub missing: u64,
    /// Frames that came more than once, each time but the first.
    pub repeated: u64,
    /// Frames that came after one with a higher number. They are not missing.
    pub reordered: u64,
    /// How often the publisher began anew.
    pub restarts: u64,
    /// The first number that came.
    pub first: Option<u64>,
    /// The highest number that came since the publisher last began.
    pub last: Option<u64>,
}

impl SequenceReport {
    /// Adds the counts of another track or viewer. First and last keep their own meaning only within one track, and stay as they are.
    pub fn add(&mut self, other: &Self) {
        self.received = self.received.saturating_add(other.received);
        self.missing = self.missing.saturating_add(other.missing);
        self.repeated = self.repeated.saturating_add(other.repeated);
        self.reordered = self.reordered.saturating_add(other.reordered);
        self.restarts = self.restarts.saturating_add(other.restarts);
    }
}

impl Sequences {
    /// Takes the stamp of a frame that came.
    pub fn record(&mut self, stamp: Stamp) {
        let report = &mut self.report;
        report.received = report.received.saturating_add(1);
        let number = stamp.sequence;
        let expected = match self.next {
            None => {
                report.first = Some(number);
                number
            }
            // A repeated frame has its old send time.
            Some(next) if number < next && stamp.sent_at > self.sent_at => {
                report.restarts = report.restarts.saturating_add(1);
                self.holes.clear();
                0
            }
            Some(next) => next,
        };
        if number < expected {
            if fill(&mut self.holes, number) {
                report.reordered = report.reordered.saturating_add(1);
                report.missing = report.missing.saturating_sub(1);
            } else {
                report.repeated = report.repeated.saturating_add(1);
            }
            return;
        }
        if number > expected {
            report.missing = report.missing.saturating_add(number - expected);
            if self.holes.len() >= MAX_HOLES {
                self.holes.pop_front();
            }
            self.holes.push_back(expected..number);
        }
        self.next = Some(number.saturating_add(1));
        self.sent_at = stamp.sent_at;
        report.last = Some(number);
    }

    /// The counts so far.
    #[must_use]
    pub const fn report(&self) -> SequenceReport {
        self.report
    }
}

/// Takes a number out of the holes; false if it is in none.
fn fill(holes: &mut VecDeque<Range<u64>>, number: u64) -> bool {
    let place = holes.partition_point(|hole| hole.end <= number);
    let Some(hole) = holes.get_mut(place).filter(|hole| hole.contains(&number)) else {
        return false;
    };
    let after = number.saturating_add(1)..hole.end;
    hole.end = number;
    let before_is_empty = hole.is_empty();
    match (before_is_empty, after.is_empty()) {
        (true, true) => {
            holes.remove(place);
        }
        (true, false) => *hole = after,
        (false, true) => {}
        // One more than the bound at most for each frame that came late; the next hole pushes it out.
        (false, false) => {
            holes.insert(place + 1, after);
            if holes.len() > MAX_HOLES {
                holes.pop_front();
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// As high as a stamp may say and still have a successor with a send time.
    const HIGH: u64 = u64::MAX - 1_001;

    fn run(numbers: &[u64]) -> SequenceReport {
        let mut sequences = Sequences::default();
        for &sequence in numbers {
            sequences.record(Stamp {
                sequence,
                sent_at: 1_000 + sequence,
            });
        }
        sequences.report()
    }

    #[test]
    fn numbers_are_accounted_for() {
        // What came; missing, repeated, reordered.
        for (numbers, missing, repeated, reordered) in [
            (&[][..], 0, 0, 0),
            (&[7, 8, 9], 0, 0, 0),
            (&[7, 9, 12], 3, 0, 0),
            (&[0, 0, 1, 1, 1], 0, 3, 0),
            (&[0, 2, 1, 3], 0, 0, 1),
            (&[0, 2, 1, 1], 0, 1, 1),
            (&[0, 9, 4, 5, 3, 1, 4], 4, 1, 4),
            (&[0, 9, 8, 1, 8], 6, 1, 2),
            (&[5, 3], 0, 1, 0),
            (&[0, HIGH, HIGH], HIGH - 1, 1, 0),
        ] {
            let report = run(numbers);
            assert_eq!(
                (report.missing, report.repeated, report.reordered),
                (missing, repeated, reordered),
                "{numbers:?}"
            );
            assert_eq!(report.received, numbers.len() as u64);
            assert_eq!(report.first, numbers.first().copied());
            assert_eq!(report.last, numbers.iter().copied().max());
        }
    }

    #[test]
    fn a_publisher_may_begin_anew() {
        let mut sequences = Sequences::default();
        for (sequence, sent_at) in [(40, 140), (41, 141), (0, 200), (2, 202), (1, 201), (0, 200)] {
            sequences.record(Stamp { sequence, sent_at });
        }
        let report = sequences.report();
        assert_eq!(
            (
                report.missing,
                report.repeated,
                report.reordered,
                report.restarts
            ),
            (0, 1, 1, 1)
        );
        assert_eq!((report.first, report.last), (Some(40), Some(2)));
        // A new run is expected from its first frame on.
        sequences.record(Stamp {
            sequence: 1,
            sent_at: 900,
        });
        assert_eq!(
            (sequences.report().missing, sequences.report().restarts),
            (1, 2)
        );
    }

    #[test]
    fn the_memory_of_holes_is_bounded() {
        let odd: Vec<u64> = (0..10_000).map(|number| number * 2).collect();
        let mut sequences = Sequences::default();
        for &sequence in &odd {
            sequences.record(Stamp {
                sequence,
                sent_at: sequence,
            });
        }
        assert_eq!(sequences.report().missing, 9_999);
        assert_eq!(sequences.holes.len(), MAX_HOLES);
        // Splitting holes does not grow it either.
        sequences.record(Stamp {
            sequence: 100_000,
            sent_at: 100_000,
        });
        for sequence in (30_000..100_000).step_by(2) {
            sequences.record(Stamp {
                sequence,
                sent_at: sequence,
            });
            assert!(sequences.holes.len() <= MAX_HOLES);
        }
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_set(numbers in prop::collection::vec(0_u64..60, 0..120)) {
            let report = run(&numbers);
            let Some((&first, rest)) = numbers.split_first() else { return Ok(()) };
            let mut seen = BTreeSet::from([first]);
            let (mut repeated, mut reordered, mut highest) = (0, 0, first);
            for &number in rest {
                // What was before the viewer joined cannot be told from what it had.
                if number < first || !seen.insert(number) {
                    repeated += 1;
                } else if number < highest {
                    reordered += 1;
                }
                highest = highest.max(number);
            }
            let missing = (first..highest).filter(|number| !seen.contains(number)).count() as u64;
            prop_assert_eq!(
                (report.missing, report.repeated, report.reordered),
                (missing, repeated, reordered)
            );
        }
    }
}
