//! One direction of a bad network: datagrams go in, and come out late, twice, in another order, or not at all.
//!
//! ```text
//! push(now, datagram) --> queue by the time at which it is due --> pop(now)
//! ```
//! A datagram is lost, or comes after [`Impairment::delay`]; one that is reordered comes later by [`Impairment::hold`], behind those that
//! were sent after it.
//!
//! # Bounds
//! No more than [`MOST_BYTES`] are under way; what comes then is lost, as at a router whose queue is full.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Bytes under way in one direction: half a second of a gigabit.
pub const MOST_BYTES: usize = 64 * 1024 * 1024;

/// What one datagram counts beyond its bytes.
const OVERHEAD: usize = 64;

/// What happens to datagrams, in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairment {
    /// How long each is under way.
    pub delay: Duration,
    /// Share of datagrams that are lost, 0 to 1.
    pub loss: f64,
    /// Share of datagrams that come twice, 0 to 1.
    pub duplicate: f64,
    /// Share of datagrams that come later than those behind them, 0 to 1.
    pub reorder: f64,
    /// How much later.
    pub hold: Duration,
}

impl Default for Impairment {
    /// Nothing happens.
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            hold: Duration::from_millis(20),
        }
    }
}

/// What happened to datagrams in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Datagrams that came.
    pub came: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Those that were lost.
    pub lost: u64,
    /// Those that were sent twice.
    pub duplicated: u64,
    /// Those that were held back.
    pub reordered: u64,
}

/// See the [module](self). `W` says where a datagram goes to.
#[derive(Debug)]
pub struct Line<W> {
    impairment: Impairment,
    is_cut: bool,
    random: StdRng,
    queue: BTreeMap<(Duration, u64), (W, Vec<u8>)>,
    bytes: usize,
    number: u64,
    counts: Counts,
}

impl<W: Clone> Line<W> {
    /// One with nothing under way.
    #[must_use]
    pub fn new(impairment: Impairment, seed: u64) -> Self {
        Self {
            impairment,
            is_cut: false,
            random: StdRng::seed_from_u64(seed),
            queue: BTreeMap::new(),
            bytes: 0,
            number: 0,
            counts: Counts::default(),
        }
    }

    /// Changes what happens to datagrams that come from now on.
    pub fn set(&mut self, impairment: Impairment) {
        self.impairment = impairment;
    }

    /// Whether all that comes from now on is lost.
    pub fn cut(&mut self, is_cut: bool) {
        self.is_cut = is_cut;
    }

    /// What happened up to now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// A datagram came. False: it is lost.
    pub fn push(&mut self, now: Duration, to: &W, datagram: &[u8]) -> bool {
        self.counts.came += 1;
        self.counts.bytes += datagram.len() as u64;
        // All are drawn for each datagram, so that one setting does not change what another one hits.
        let [lost, twice, held] = [(); 3].map(|()| self.random.random::<f64>());
        if self.is_cut || lost < self.impairment.loss {
            self.counts.lost += 1;
            return false;
        }
        let mut at = now + self.impairment.delay;
        if held < self.impairment.reorder {
            self.counts.reordered += 1;
            at += self.impairment.hold;
        }
        if !self.enqueue(at, to, datagram) {
            self.counts.lost += 1;
            return false;
        }
        if twice < self.impairment.duplicate && self.enqueue(at, to, datagram) {
            self.counts.duplicated += 1;
        }
        true
    }

    fn enqueue(&mut self, at: Duration, to: &W, datagram: &[u8]) -> bool {
        let size = datagram.len() + OVERHEAD;
        if self.bytes + size > MOST_BYTES {
            return false;
        }
        self.bytes += size;
        self.number += 1;
        let place = (at, self.number);
        self.queue.insert(place, (to.clone(), datagram.to_vec()));
        true
    }

    /// The next datagram that is due.
    #[must_use]
    pub fn pop(&mut self, now: Duration) -> Option<(W, Vec<u8>)> {
        let first = self.queue.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let (to, datagram) = first.remove();
        self.bytes -= datagram.len() + OVERHEAD;
        Some((to, datagram))
    }

    /// When the next one is due.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        self.queue.keys().next().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Sends a thousand datagrams, one each millisecond; gives when each came, by its number.
    fn came(impairment: Impairment, seed: u64) -> (Vec<(Duration, u32)>, Counts) {
        let mut line = Line::new(impairment, seed);
        let mut came = Vec::new();
        for step in 0..2_000 {
            let now = MILLISECOND * step;
            while let Some(((), datagram)) = line.pop(now) {
                let number = u32::from_be_bytes(datagram.try_into().unwrap());
                came.push((now, number));
            }
            if step < 1_000 {
                line.push(now, &(), &step.to_be_bytes());
            }
        }
        assert_eq!((line.bytes, line.due()), (0, None));
        (came, line.counts())
    }

    #[test]
    fn all_come_in_order_after_their_time() {
        let delay = MILLISECOND * 80;
        let (came, counts) = came(
            Impairment {
                delay,
                ..Impairment::default()
            },
            1,
        );
        let expected: Vec<_> = (0..1_000).map(|n| (MILLISECOND * n + delay, n)).collect();
        assert_eq!(came, expected);
        assert_eq!((counts.came, counts.bytes, counts.lost), (1_000, 4_000, 0));
    }

    #[test]
    fn shares_are_kept_and_a_seed_repeats() {
        let bad = Impairment {
            loss: 0.05,
            duplicate: 0.1,
            reorder: 0.2,
            hold: MILLISECOND * 5,
            ..Impairment::default()
        };
        let (first, counts) = came(bad, 7);
        assert_eq!((first.clone(), counts), came(bad, 7));
        assert_ne!(first, came(bad, 8).0);
        for (count, share) in [
            (counts.lost, 50),
            (counts.duplicated, 95),
            (counts.reordered, 190),
        ] {
            assert!(
                count > share / 2 && count < share * 3 / 2,
                "{count} of about {share}"
            );
        }
        assert_eq!(first.len() as u64, 1_000 - counts.lost + counts.duplicated);
        assert!(!first.is_sorted_by_key(|(_, number)| *number));
    }

    #[test]
    fn what_does_not_fit_is_lost() {
        let mut line = Line::new(Impairment::default(), 1);
        let datagram = vec![0; 60_000];
        let mut taken = 0;
        while line.push(Duration::ZERO, &(), &datagram) {
            taken += datagram.len();
        }
        assert!(taken > MOST_BYTES - 200_000 && taken <= MOST_BYTES);
        assert_eq!(line.counts().lost, 1);
        assert!(line.pop(Duration::ZERO).is_some());
        assert!(line.push(Duration::ZERO, &(), &datagram));
    }
}
