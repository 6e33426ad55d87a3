//! Whether the far end is at another address: RFC 7016 section 3.5.4.2.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Session, SessionEvent};
use crate::crypto::mac::Mac;
use crate::wire::address::bytes_of;
use crate::wire::session::Ping;

/// The first byte of a ping that asks about an address.
const MARK: u8 = b'M';

/// The least time between two questions.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long an answer counts.
const VALID: Duration = Duration::from_secs(120);

/// Bytes of the MAC that make up a question.
const MAC: usize = 16;

/// Bytes of a question: the mark, when it was asked, the MAC.
const QUESTION: usize = 1 + 8 + MAC;

/// What is known of other addresses.
#[derive(Debug)]
pub(super) struct Mobility {
    secret: [u8; 32],
    asked: Option<Duration>,
    /// When the question was asked whose answer was taken last, in milliseconds: an older one says nothing any more.
    answered: Option<u64>,
    /// Where the last packets came from, and how many, one after the other.
    wanderer: Option<(SocketAddr, u32)>,
}

impl Mobility {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            asked: None,
            answered: None,
            wanderer: None,
        }
    }

    /// The message of a ping to another address, if one is to be sent now.
    pub(super) fn ask(&mut self, now: Duration, address: SocketAddr) -> Option<[u8; QUESTION]> {
        if self.asked.is_some_and(|asked| now < asked + ASK_EVERY) {
            return None;
        }
        self.asked = Some(now);
        let mut question = [0; QUESTION];
        let (mark, rest) = question.split_at_mut(1);
        let (at, mac) = rest.split_at_mut(8);
        mark.fill(MARK);
        at.copy_from_slice(&milliseconds(now).to_be_bytes());
        let whole = Mac::new(&self.secret).over(&[at, &bytes_of(address)]);
        mac.copy_from_slice(whole.get(..MAC)?);
        Some(question)
    }

    /// Whether the far end got a question at this address, later than the last one that it answered.
    pub(super) fn is_answer(&mut self, now: Duration, from: SocketAddr, message: &[u8]) -> bool {
        let Some(([MARK], rest)) = message.split_first_chunk::<1>() else {
            return false;
        };
        let Some((at, mac)) = rest.split_first_chunk::<8>() else {
            return false;
        };
        let asked = u64::from_be_bytes(*at);
        let is_old = milliseconds(now).saturating_sub(asked) > milliseconds(VALID)
            || self.answered.is_some_and(|answered| asked <= answered);
        if is_old || mac.len() != MAC {
            return false;
        }
        // Made anew for each: questions are rare, and each session has a secret of its own.
        if !Mac::new(&self.secret).verifies(&[at, &bytes_of(from)], mac) {
            return false;
        }
        self.answered = Some(asked);
        true
    }

    /// A packet came from another address; how many did, one after the other.
    pub(super) fn count(&mut self, from: SocketAddr) -> u32 {
        let count = match self.wanderer {
            Some((address, count)) if address == from => count.saturating_add(1),
            _ => 1,
        };
        self.wanderer = Some((from, count));
        count
    }

    /// A packet came from the address that is known.
    pub(super) fn stayed(&mut self) {
        self.wanderer = None;
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Session {
    /// A packet came from another address.
    pub(super) fn wandered(&mut self, now: Duration, from: SocketAddr) {
        if let Some(message) = self.mobility.ask(now, from) {
            self.reply(Some(from), &Ping { message: &message });
        }
        let trusted = self.config.trust_packets;
        let count = self.mobility.count(from);
        if trusted > 0 && count >= trusted && self.opener.is_authenticated() {
            self.move_to(from);
        }
    }

    pub(super) fn move_to(&mut self, to: SocketAddr) {
        let from = std::mem::replace(&mut self.address, to);
        self.mobility.stayed();
        self.flows.path_changed();
        self.events.push_back(SessionEvent::Moved { from });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn only_who_got_the_question_can_answer_it_and_once() {
        let seconds = Duration::from_secs;
        let mut mobility = Mobility::new([1; 32]);
        let question = mobility.ask(seconds(10), address(1)).unwrap();
        assert!(mobility.ask(seconds(10), address(2)).is_none(), "too soon");
        assert!(!mobility.is_answer(seconds(11), address(2), &question));
        for at in 0..question.len() {
            let mut other = question;
            other[at] ^= 1;
            assert!(!mobility.is_answer(seconds(11), address(1), &other));
            assert!(!mobility.is_answer(seconds(11), address(1), &question[..at]));
        }
        let mut longer = question.to_vec();
        longer.push(0);
        assert!(!mobility.is_answer(seconds(11), address(1), &longer));
        assert!(!Mobility::new([2; 32]).is_answer(seconds(11), address(1), &question));
        let late = mobility.ask(seconds(12), address(1)).unwrap();
        assert!(mobility.is_answer(seconds(13), address(1), &question));
        assert!(!mobility.is_answer(seconds(13), address(1), &question));
        assert!(
            !mobility.is_answer(seconds(133), address(1), &late),
            "too old"
        );
        assert!(mobility.is_answer(seconds(100), address(1), &late));
    }

    #[test]
    fn packets_count_as_long_as_they_come_from_one_address() {
        let mut mobility = Mobility::new([1; 32]);
        assert_eq!(mobility.count(address(1)), 1);
        assert_eq!(mobility.count(address(1)), 2);
        assert_eq!(mobility.count(address(2)), 1);
        mobility.stayed();
        assert_eq!(mobility.count(address(2)), 1);
    }
}
