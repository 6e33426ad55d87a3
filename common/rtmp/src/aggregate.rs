//! Aggregate messages: several messages in one payload.
//!
//! Adobe RTMP 1.0, section 7.1.6. Each part has the form of an FLV tag (11 bytes of header, body, 4 bytes of back pointer). Their
//! timestamps are moved by one offset, so that the first gets the timestamp of the aggregate, and all get the message stream of the
//! aggregate: what the parts say of theirs is void.
//!
//! Back pointers are skipped and never looked at: nobody needs to walk backwards, and a wrong one would lead astray. The last may be
//! missing.
//!
//! The parts share the memory of the aggregate's payload. There are at most as many as it has room for headers.

use bytes::{Buf, Bytes};
use thiserror::Error;

use crate::message::{Message, MessageType};

/// Bytes of a part's header: type 1, length 3, timestamp 3 and its upper byte 1, stream 3.
const PART_HEADER: usize = 11;

/// Bytes after each part's body that give the length of the part.
const BACK_POINTER: usize = 4;

/// Why the rest of an aggregate is lost.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AggregateError {
    /// The payload ends inside a part.
    #[error(
        "aggregate ends inside a part at byte {offset}: {needed} bytes are needed, {remaining} are left"
    )]
    Truncated {
        /// Where the part starts in the payload.
        offset: usize,
        /// Bytes that the part needs, as far as it can be told.
        needed: usize,
        /// Bytes from there to the end.
        remaining: usize,
    },
    /// A part is itself an aggregate.
    #[error("aggregate inside an aggregate at byte {offset}")]
    Nested {
        /// Where the part starts in the payload.
        offset: usize,
    },
}

/// The messages of an aggregate, in order. See [`split`].
#[derive(Clone, Debug)]
pub struct Parts {
    rest: Bytes,
    length: usize,
    timestamp: u32,
    stream_id: u32,
    /// What is added to a part's timestamp; known from the first part on.
    shift: Option<u32>,
}

/// Splits the payload of an aggregate message (type 22).
///
/// After an error there is nothing more; what came before it is good, so that a caller may keep it and let the truncated tail go.
#[must_use]
pub fn split(aggregate: &Message) -> Parts {
    Parts {
        rest: aggregate.payload.clone(),
        length: aggregate.payload.len(),
        timestamp: aggregate.timestamp,
        stream_id: aggregate.stream_id,
        shift: None,
    }
}

impl Parts {
    fn next_part(&mut self) -> Result<Message, AggregateError> {
        let offset = self.length - self.rest.len();
        let truncated = |needed, rest: &Bytes| AggregateError::Truncated {
            offset,
            needed,
            remaining: rest.len(),
        };
        let Some(&[kind, l0, l1, l2, t0, t1, t2, t3, ..]) = self.rest.first_chunk::<PART_HEADER>()
        else {
            return Err(truncated(PART_HEADER, &self.rest));
        };
        let kind = MessageType(kind);
        if kind == MessageType::AGGREGATE {
            return Err(AggregateError::Nested { offset });
        }
        let end = PART_HEADER + u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if end > self.rest.len() {
            return Err(truncated(end, &self.rest));
        }
        let payload = self.rest.slice(PART_HEADER..end);
        self.rest.advance((end + BACK_POINTER).min(self.rest.len()));

        // As in FLV, the upper byte comes last.
        let own = u32::from_be_bytes([t3, t0, t1, t2]);
        let shift = *self
            .shift
            .get_or_insert_with(|| self.timestamp.wrapping_sub(own));
        Ok(Message {
            kind,
            timestamp: own.wrapping_add(shift),
            stream_id: self.stream_id,
            payload,
        })
    }
}

impl Iterator for Parts {
    type Item = Result<Message, AggregateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let part = self.next_part();
        if part.is_err() {
            self.rest = Bytes::new();
        }
        Some(part)
    }
}

impl std::iter::FusedIterator for Parts {}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(kind: u8, timestamp: u32, body: &[u8], back_pointer: u32) -> Vec<u8> {
        let [t3, t0, t1, t2] = timestamp.to_be_bytes();
        let [_, l0, l1, l2] = (body.len() as u32).to_be_bytes();
        let mut bytes = vec![kind, l0, l1, l2, t0, t1, t2, t3, 9, 9, 9];
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&back_pointer.to_be_bytes());
        bytes
    }

    fn aggregate(timestamp: u32, payload: Vec<u8>) -> Message {
        Message {
            kind: MessageType::AGGREGATE,
            timestamp,
            stream_id: 1,
            payload: payload.into(),
        }
    }

    fn message(kind: MessageType, timestamp: u32, body: &'static [u8]) -> Message {
        Message {
            kind,
            timestamp,
            stream_id: 1,
            payload: Bytes::from_static(body),
        }
    }

    #[test]
    fn parts_move_to_the_time_of_the_aggregate_and_its_stream() {
        let payload = [
            part(8, 1000, b"one", 14),
            part(9, 1040, b"", 0xFFFF_FFFF),
            part(18, 0x0102_0304, b"three", 0),
        ]
        .concat();
        let parts: Result<Vec<_>, _> = split(&aggregate(5000, payload)).collect();
        assert_eq!(
            parts,
            Ok(vec![
                message(MessageType::AUDIO, 5000, b"one"),
                message(MessageType::VIDEO, 5040, b""),
                message(MessageType::DATA_AMF0, 0x0102_0304 + 4000, b"three"),
            ])
        );
    }

    #[test]
    fn time_wraps() {
        let payload = [part(8, 10, b"a", 0), part(8, 30, b"b", 0)].concat();
        let times: Vec<_> = split(&aggregate(u32::MAX - 9, payload))
            .map(|part| part.expect("a part").timestamp)
            .collect();
        assert_eq!(times, [u32::MAX - 9, 10]);
    }

    #[test]
    fn every_truncation_keeps_the_parts_before_it() {
        let first = part(8, 0, b"first", 16);
        let second = part(9, 7, b"second", 17);
        let whole = [first.clone(), second].concat();
        for length in 0..=whole.len() {
            let parts: Vec<_> = split(&aggregate(0, whole[..length].to_vec())).collect();
            let good = parts.iter().filter(|part| part.is_ok()).count();
            let bodies_in = |ends: &[usize]| ends.iter().filter(|&&end| length >= end).count();
            assert_eq!(good, bodies_in(&[16, 37]), "{length} bytes");
            // Between a body's end and the next part there is at most a back pointer, which may be missing.
            let clean = length == 0 || (16..=20).contains(&length) || length >= 37;
            assert_eq!(parts.len() - good, usize::from(!clean), "{length} bytes");
        }
    }

    #[test]
    fn errors_say_where() {
        let mut payload = part(8, 0, b"a", 0);
        payload.extend(part(22, 0, b"", 0));
        assert_eq!(
            split(&aggregate(0, payload)).last(),
            Some(Err(AggregateError::Nested { offset: 16 }))
        );
        let lies = vec![8, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 1, 2];
        assert_eq!(
            split(&aggregate(0, lies)).collect::<Vec<_>>(),
            [Err(AggregateError::Truncated {
                offset: 0,
                needed: 0x0100_000A,
                remaining: 13
            })]
        );
    }
}
