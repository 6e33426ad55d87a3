//! How much may be spent on a source: a rate for each network, in memory that does not grow.
//!
//! Networks share as many buckets as there are, by a keyed hash. Two that share one share what it has: at worst a network waits for
//! another's share to come back, and nobody can choose with whom to share.

use std::hash::Hasher;
use std::net::IpAddr;
use std::time::Duration;

use rand_core::CryptoRng;
use siphasher::sip::SipHasher13;

/// Buckets: a network of an attacker hits that of somebody else once in so many times.
const BUCKETS: usize = 1 << 14;

/// How much, how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What comes back in a second.
    pub per_second: u32,
    /// What can be spent at once, after a time of rest.
    pub burst: u32,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self {
        per_second: u32::MAX,
        burst: u32::MAX,
    };
}

/// Limits what is spent on each network: an IPv4 /24, an IPv6 /56.
pub(super) struct SourceLimiter {
    rate: Rate,
    key: (u64, u64),
    /// When each bucket is full again, in nanoseconds.
    full_at: Vec<u64>,
}

impl SourceLimiter {
    pub(super) fn new(rate: Rate, rng: &mut impl CryptoRng) -> Self {
        Self {
            rate,
            key: (rng.next_u64(), rng.next_u64()),
            full_at: vec![0; BUCKETS],
        }
    }

    /// Spends `cost` on the network of `ip`, if it is there.
    pub(super) fn take(&mut self, now: Duration, ip: IpAddr, cost: usize) -> bool {
        if self.rate == Rate::UNLIMITED {
            return true;
        }
        let Some(nanoseconds) = 1_000_000_000_u64.checked_div(u64::from(self.rate.per_second))
        else {
            return false;
        };
        let nanoseconds = nanoseconds.max(1);
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        match ip.to_canonical() {
            IpAddr::V4(ip) => hasher.write(&ip.octets()[..3]),
            IpAddr::V6(ip) => hasher.write(&ip.octets()[..7]),
        }
        let place = hasher.finish() as usize % BUCKETS;
        let Some(full_at) = self.full_at.get_mut(place) else {
            return false;
        };
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let spent = nanoseconds.saturating_mul(cost as u64);
        let debt = (*full_at).max(now).saturating_add(spent);
        let allowed = nanoseconds.saturating_mul(u64::from(self.rate.burst));
        let fits = debt.saturating_sub(now) <= allowed;
        if fits {
            *full_at = debt;
        }
        fits
    }
}

impl std::fmt::Debug for SourceLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceLimiter")
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seeded;

    #[test]
    fn a_network_spends_its_burst_and_then_its_rate() {
        let rate = Rate {
            per_second: 10,
            burst: 30,
        };
        let mut limiter = SourceLimiter::new(rate, &mut Seeded::new(1));
        let mut take = |milliseconds, ip: &str, cost| {
            let now = Duration::from_millis(milliseconds);
            limiter.take(now, ip.parse().unwrap(), cost)
        };
        assert!(!take(0, "10.0.0.1", 31), "more than a burst");
        assert!(take(0, "10.0.0.1", 20));
        assert!(take(0, "10.0.0.255", 10), "the same network");
        assert!(!take(0, "::ffff:10.0.0.7", 1), "in other clothes");
        assert!(take(0, "10.0.1.1", 30), "another network");
        assert!(!take(99, "10.0.0.1", 1));
        assert!(take(100, "10.0.0.1", 1));
        assert!(!take(100, "10.0.0.1", 1));
        assert!(take(10_000, "10.0.0.1", 30));
        assert!(!take(10_000, "10.0.0.1", 1), "rest saves up no more");
        assert!(take(0, "2001:db8:0:100::1", 30));
        assert!(!take(0, "2001:db8:0:1ff::1", 1), "the same /56");
        assert!(take(0, "2001:db8:0:200::1", 30));
    }

    #[test]
    fn no_rate_is_nothing_and_no_limit_is_everything() {
        let ip = "10.0.0.1".parse().unwrap();
        let none = Rate {
            per_second: 0,
            burst: 5,
        };
        let mut limiter = SourceLimiter::new(none, &mut Seeded::new(1));
        assert!(!limiter.take(Duration::from_secs(9), ip, 1));
        let mut limiter = SourceLimiter::new(Rate::UNLIMITED, &mut Seeded::new(1));
        assert!(limiter.take(Duration::ZERO, ip, usize::MAX));
        assert!(limiter.take(Duration::ZERO, ip, usize::MAX));
    }
}
