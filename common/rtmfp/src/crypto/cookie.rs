//! Cookies, which prove an address without memory: RFC 7016 section 3.5.1.1.2.
//!
//! ```text
//! milliseconds (8) | whom it is for (4) | MAC over both (20) | MAC over all of it and the address (32)
//! ```
//!
//! Whom it is for is a number: whoever answers as several says as whom it did, because an initiator's next packet does not. 0 is itself.
//!
//! Librtmfp and MonaServer2 take cookies of 64 bytes alone. The first MAC tells that a cookie is ours where the address is another one: an
//! initiator that moved between two packets is then told of it.
//!
//! The secret of one period makes that of the next, and cannot be told from it. Whoever starts from the same seed and has the same clock
//! makes the same cookies, so that it does not matter which of several sockets the initiator's next packet comes to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::mac::{self, Mac};

/// Bytes of a cookie.
pub const LENGTH: usize = 64;

/// How long a cookie is good: the specification asks for 95 seconds at least, which is how long an initiator tries.
pub const LIFETIME: Duration = Duration::from_secs(120);

/// How long a secret makes cookies; it proves them for as long again. No shorter than [`LIFETIME`].
const PERIOD: Duration = Duration::from_secs(128);

const TIME: usize = 8;
const WHOM: usize = 4;
const FIRST: usize = 20;

/// Bytes of what the first MAC is over.
const STAMP: usize = TIME + WHOM;

/// A cookie.
pub type Cookie = [u8; LENGTH];

/// What a cookie proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// That its sender receives what is sent to the address.
    Address,
    /// That its sender received what was sent to another address.
    Elsewhere,
    /// That its sender did so too long ago.
    Expired,
    /// Nothing: it is not ours.
    Forged,
}

/// Makes cookies and looks at them.
#[derive(Clone)]
pub struct Cookies {
    period: u64,
    current: Secret,
    previous: Option<Secret>,
}

#[derive(Clone)]
struct Secret(Zeroizing<[u8; mac::LENGTH]>);

impl Secret {
    fn next(&self) -> Self {
        Self(Zeroizing::new(mac::hmac(self.0.as_ref(), b"next period")))
    }

    fn first(&self, time: &[u8]) -> [u8; FIRST] {
        let whole = Mac::new(self.0.as_ref()).over(&[b"time", time]);
        std::array::from_fn(|at| whole.get(at).copied().unwrap_or_default())
    }

    fn second(&self, first: &[u8], address: SocketAddr) -> [u8; mac::LENGTH] {
        let port = address.port().to_be_bytes();
        let mac = Mac::new(self.0.as_ref());
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => mac.over(&[b"from4", first, &ip.octets(), &port]),
            IpAddr::V6(ip) => mac.over(&[b"from6", first, &ip.octets(), &port]),
        }
    }
}

impl Cookies {
    /// From a secret seed. Copies for other sockets have to begin with the same seed, or be clones.
    #[must_use]
    pub fn new(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; mac::LENGTH]);
        rng.fill_bytes(seed.as_mut());
        Self {
            period: 0,
            current: Secret(seed),
            previous: None,
        }
    }

    /// Moves on to the period of `now`. A year without a packet takes a quarter of a million steps, some tens of milliseconds.
    fn advance(&mut self, now: Duration) {
        let period = period(now);
        while self.period < period {
            let next = self.current.next();
            self.previous = Some(std::mem::replace(&mut self.current, next));
            self.period += 1;
        }
    }

    /// A cookie for an address, and for whom.
    #[must_use]
    pub fn make(&mut self, now: Duration, address: SocketAddr, whom: u32) -> Cookie {
        self.advance(now);
        let time = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut cookie = [0; LENGTH];
        let (head, second) = cookie.split_at_mut(STAMP + FIRST);
        let (stamp, first) = head.split_at_mut(STAMP);
        let (at, to) = stamp.split_at_mut(TIME);
        at.copy_from_slice(&time.to_be_bytes());
        to.copy_from_slice(&whom.to_be_bytes());
        first.copy_from_slice(&self.current.first(stamp));
        second.copy_from_slice(&self.current.second(head, address));
        cookie
    }

    /// What a cookie that came from an address proves.
    #[must_use]
    pub fn verify(&mut self, now: Duration, address: SocketAddr, cookie: &[u8]) -> Proof {
        self.advance(now);
        let Ok(cookie) = <&Cookie>::try_from(cookie) else {
            return Proof::Forged;
        };
        let (head, second) = cookie.split_at(STAMP + FIRST);
        let (stamp, first) = head.split_at(STAMP);
        let made = stamp.first_chunk().copied();
        let made = made.map_or(u64::MAX, u64::from_be_bytes);
        let made = Duration::from_millis(made);
        let age = now.checked_sub(made);
        // What is from the time to come, or from a period whose secret is gone, cannot be looked at.
        let secret = match self.period.checked_sub(period(made)) {
            Some(0) => Some(&self.current),
            Some(1) => self.previous.as_ref(),
            Some(_) => return Proof::Expired,
            None => None,
        };
        let (Some(secret), Some(age)) = (secret, age) else {
            return Proof::Forged;
        };
        if !equal(&secret.first(stamp), first) {
            return Proof::Forged;
        }
        if age > LIFETIME {
            return Proof::Expired;
        }
        if equal(&secret.second(head, address), second) {
            Proof::Address
        } else {
            Proof::Elsewhere
        }
    }
}

/// Whom a cookie is for. To be believed of one that proves something.
#[must_use]
pub fn whom(cookie: &[u8]) -> u32 {
    let whom = cookie.get(TIME..).and_then(<[u8]>::first_chunk).copied();
    whom.map_or(0, u32::from_be_bytes)
}

fn period(time: Duration) -> u64 {
    time.as_secs() / PERIOD.as_secs()
}

fn equal(one: &[u8], other: &[u8]) -> bool {
    subtle::ConstantTimeEq::ct_eq(one, other).into()
}

impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cookies")
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seeded;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_cookie_proves_its_address_for_two_minutes() {
        let mut cookies = Cookies::new(&mut Seeded::new(1));
        let here: SocketAddr = "10.0.0.1:1935".parse().unwrap();
        // Within a period, across two, and from the last moment of one on.
        for made in [0, 5, 100, 127, 128, 1_000_000] {
            let cookie = cookies.make(at(made), here, 7);
            for age in [0, 1, 95, 120] {
                let proof = cookies.clone().verify(at(made + age), here, &cookie);
                assert_eq!(proof, Proof::Address, "{made} and {age}");
                assert_eq!(whom(&cookie), 7);
            }
            for age in [121, 127, 255, 256, 5_000] {
                let proof = cookies.clone().verify(at(made + age), here, &cookie);
                assert_eq!(proof, Proof::Expired, "{made} and {age}");
            }
        }
    }

    #[test]
    fn a_cookie_from_another_address_is_known_as_such() {
        let mut cookies = Cookies::new(&mut Seeded::new(1));
        let here: SocketAddr = "10.0.0.1:1935".parse().unwrap();
        let cookie = cookies.make(at(5), here, 7);
        for other in ["10.0.0.1:1936", "10.0.0.2:1935", "[2001:db8::1]:1935"] {
            let other = other.parse().unwrap();
            assert_eq!(cookies.verify(at(6), other, &cookie), Proof::Elsewhere);
            let change = cookies.make(at(6), other, 7);
            assert_eq!(cookies.verify(at(7), other, &change), Proof::Address);
        }
        // An IPv4 address is the same in the clothes of IPv6, as sockets for both give it.
        let mapped = "[::ffff:10.0.0.1]:1935".parse().unwrap();
        assert_eq!(cookies.verify(at(6), mapped, &cookie), Proof::Address);
    }

    #[test]
    fn forged_cookies_prove_nothing() {
        let mut cookies = Cookies::new(&mut Seeded::new(1));
        let here: SocketAddr = "10.0.0.1:1935".parse().unwrap();
        let cookie = cookies.make(at(200), here, 7);
        for bit in 0..8 * LENGTH {
            let mut changed = cookie;
            changed[bit / 8] ^= 1 << (bit % 8);
            let proof = cookies.verify(at(201), here, &changed);
            let known = bit >= 8 * (STAMP + FIRST);
            assert_eq!(proof == Proof::Elsewhere, known, "bit {bit}");
            assert_ne!(proof, Proof::Address, "bit {bit}");
        }
        for length in 0..LENGTH {
            assert_eq!(
                cookies.verify(at(201), here, &cookie[..length]),
                Proof::Forged
            );
        }
        let long = [&cookie[..], &[0]].concat();
        assert_eq!(cookies.verify(at(201), here, &long), Proof::Forged);
        let mut others = Cookies::new(&mut Seeded::new(2));
        assert_eq!(others.verify(at(201), here, &cookie), Proof::Forged);
        // One that is not made yet, in this period and in the next.
        for time in [199, 100] {
            let mut early = Cookies::new(&mut Seeded::new(1));
            assert_eq!(early.verify(at(time), here, &cookie), Proof::Forged);
        }
    }

    #[test]
    fn copies_know_each_others_cookies() {
        let mut one = Cookies::new(&mut Seeded::new(1));
        let mut other = one.clone();
        let here: SocketAddr = "[2001:db8::1]:1935".parse().unwrap();
        let cookie = one.make(at(10_000), here, 7);
        assert_eq!(other.verify(at(10_001), here, &cookie), Proof::Address);
        assert_ne!(*one.current.0, *Cookies::new(&mut Seeded::new(1)).current.0);
    }
}
