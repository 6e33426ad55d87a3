//! Which sequence numbers of a flow have come: RFC 7016 section 3.6.3.2.

use std::collections::BTreeMap;

/// Runs of numbers above the cumulative one that are remembered. A flow of small messages in which every second packet is lost makes
/// this many within a window of 256 KiB; what comes beyond counts as lost.
const MAX_RUNS: usize = 1_024;

/// What a number is to the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It was not there before.
    New,
    /// It was.
    Before,
    /// It is not, and there is no room for it.
    NoRoom,
}

/// A set of sequence numbers. All numbers up to [`cumulative`](Self::cumulative) are in it, and the next is not.
#[derive(Clone, Debug, Default)]
pub(super) struct SequenceSet {
    cumulative: u64,
    /// Runs by their first number, with their last; apart from one another and from the cumulative number.
    runs: BTreeMap<u64, u64>,
}

impl SequenceSet {
    pub(super) fn cumulative(&self) -> u64 {
        self.cumulative
    }

    /// The greatest number.
    pub(super) fn greatest(&self) -> u64 {
        let last = self.runs.last_key_value();
        last.map_or(self.cumulative, |(_, last)| *last)
    }

    /// Runs above the cumulative number.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        self.runs.iter().map(|(first, last)| (*first, *last))
    }

    pub(super) fn has_gaps(&self) -> bool {
        !self.runs.is_empty()
    }

    /// What [`insert`](Self::insert) would say.
    pub(super) fn look(&self, number: u64) -> Seen {
        if number <= self.cumulative {
            return Seen::Before;
        }
        let before = self.runs.range(..=number).next_back();
        match before {
            Some((_, last)) if *last >= number => return Seen::Before,
            Some((_, last)) if *last + 1 == number => return Seen::New,
            _ => {}
        }
        let joins = number == self.cumulative + 1
            || number
                .checked_add(1)
                .is_some_and(|next| self.runs.contains_key(&next));
        if joins || self.runs.len() < MAX_RUNS {
            Seen::New
        } else {
            Seen::NoRoom
        }
    }

    /// Adds a number.
    pub(super) fn insert(&mut self, number: u64) -> Seen {
        let seen = self.look(number);
        if seen != Seen::New {
            return seen;
        }
        let mut first = number;
        let mut last = number;
        if let Some(next) = number.checked_add(1)
            && let Some(end) = self.runs.remove(&next)
        {
            last = end;
        }
        if number == self.cumulative + 1 {
            self.cumulative = last;
            return seen;
        }
        if let Some((start, end)) = self.runs.range(..number).next_back()
            && *end + 1 == number
        {
            first = *start;
        }
        self.runs.insert(first, last);
        seen
    }

    /// Adds all numbers up to this one. Returns how many of them had not come.
    pub(super) fn forward(&mut self, number: u64) -> u64 {
        if number <= self.cumulative {
            return 0;
        }
        let mut missing = number - self.cumulative;
        self.cumulative = number;
        while let Some(run) = self.runs.first_entry() {
            let (first, last) = (*run.key(), *run.get());
            if first > self.cumulative.saturating_add(1) {
                break;
            }
            run.remove();
            missing -= (number.min(last) + 1).saturating_sub(first);
            self.cumulative = self.cumulative.max(last);
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_at_the_end_of_the_integers_are_numbers() {
        let mut set = SequenceSet::default();
        assert_eq!(set.insert(u64::MAX), Seen::New);
        assert_eq!(set.insert(u64::MAX - 1), Seen::New);
        assert_eq!(set.runs().collect::<Vec<_>>(), [(u64::MAX - 1, u64::MAX)]);
        assert_eq!(set.forward(u64::MAX - 3), u64::MAX - 3);
        assert_eq!(set.insert(u64::MAX - 2), Seen::New);
        assert_eq!(set.cumulative(), u64::MAX);
        assert_eq!(set.insert(u64::MAX), Seen::Before);
        assert_eq!(set.forward(u64::MAX), 0);
    }

    #[test]
    fn runs_have_a_bound_and_what_fills_a_hole_has_room() {
        let mut set = SequenceSet::default();
        for run in 0..MAX_RUNS as u64 {
            assert_eq!(set.insert(3 + 2 * run), Seen::New);
        }
        assert_eq!(set.insert(9_999), Seen::NoRoom);
        assert_eq!(set.look(4), Seen::New);
        assert_eq!(set.insert(4), Seen::New);
        assert_eq!(set.insert(9_999), Seen::New);
        assert_eq!(set.insert(1), Seen::New);
        assert_eq!(set.insert(2), Seen::New);
        assert_eq!(set.cumulative(), 5);
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((1..40_u64, any::<bool>()), 0..80)) {
            let mut set = SequenceSet::default();
            let mut model = BTreeSet::from([0_u64]);
            for (number, forward) in steps {
                if forward && number < 20 {
                    let missing = (0..=number).filter(|number| model.insert(*number)).count();
                    prop_assert_eq!(set.forward(number), missing as u64);
                } else {
                    let new = model.insert(number);
                    prop_assert_eq!(set.insert(number) == Seen::New, new);
                }
                let runs = set.runs().flat_map(|(first, last)| first..=last);
                let all: Vec<u64> = (0..=set.cumulative()).chain(runs).collect();
                prop_assert_eq!(all, model.iter().copied().collect::<Vec<_>>());
                prop_assert!(!model.contains(&(set.cumulative() + 1)));
                prop_assert_eq!(set.greatest(), *model.last().unwrap());
                prop_assert_eq!(set.has_gaps(), set.greatest() > set.cumulative());
            }
        }
    }
}
