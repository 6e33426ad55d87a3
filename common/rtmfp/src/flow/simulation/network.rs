//! One direction of a network: delay, jitter, loss, repetition, a bottleneck with a queue.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a direction is like.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) delay: Duration,
    /// Up to so much more, for each packet anew: packets overtake one another.
    pub(super) jitter: Duration,
    /// Of a thousand packets so many are lost.
    pub(super) loss: u64,
    /// Of a thousand packets so many come twice.
    pub(super) repeat: u64,
    /// Bytes each second; 0 for no bound.
    pub(super) bandwidth: u64,
    /// Bytes that wait before the bottleneck; what comes then is lost.
    pub(super) queue: u64,
}

impl Path {
    pub(super) fn with_delay(milliseconds: u64) -> Self {
        Self {
            delay: Duration::from_millis(milliseconds),
            jitter: Duration::ZERO,
            loss: 0,
            repeat: 0,
            bandwidth: 0,
            queue: 100_000,
        }
    }
}

/// A small generator (xorshift), so that a failure can be repeated from its seed.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }
}

/// Packets on their way.
#[derive(Debug)]
pub(super) struct Link<P> {
    pub(super) path: Path,
    random: Random,
    /// When the bottleneck has sent what waits before it.
    free_at: Duration,
    under_way: BTreeMap<(Duration, u64), P>,
    number: u64,
    pub(super) dropped: u64,
    /// The longest that a packet waited before the bottleneck.
    pub(super) longest_wait: Duration,
}

impl<P: Clone> Link<P> {
    pub(super) fn new(path: Path, seed: u64) -> Self {
        Self {
            path,
            random: Random::new(seed),
            free_at: Duration::ZERO,
            under_way: BTreeMap::new(),
            number: 0,
            dropped: 0,
            longest_wait: Duration::ZERO,
        }
    }

    pub(super) fn send(&mut self, now: Duration, size: usize, packet: P) {
        if self.random.below(1_000) < self.path.loss {
            self.dropped += 1;
            return;
        }
        let mut at = now;
        if self.path.bandwidth > 0 {
            let time = |bytes: u64| Duration::from_micros(bytes * 1_000_000 / self.path.bandwidth);
            let wait = self.free_at.saturating_sub(now);
            if wait > time(self.path.queue) {
                self.dropped += 1;
                return;
            }
            self.longest_wait = self.longest_wait.max(wait);
            self.free_at = now + wait + time(size as u64);
            at = self.free_at;
        }
        let copies = 1 + u64::from(self.random.below(1_000) < self.path.repeat);
        for _ in 0..copies {
            let jitter = self.random.below(self.path.jitter.as_micros() as u64 + 1);
            let arrival = at + self.path.delay + Duration::from_micros(jitter);
            self.number += 1;
            self.under_way
                .insert((arrival, self.number), packet.clone());
        }
    }

    pub(super) fn next_arrival(&self) -> Option<Duration> {
        self.under_way.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn arrival(&mut self, now: Duration) -> Option<P> {
        let first = self.under_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
