//! What members of a group say to each other, by the flow in which they say it.
//!
//! | metadata | message | bytes |
//! |---|---|---|
//! | `GR` `1c` | connect | `01`, an option `00` with the group's id in 64 hexadecimal digits, `01` with a proof, `03` with whom it is for |
//! | | begin | `0e`, or `0f` from one that takes part with its nearest neighbours only; `02` before it says nothing |
//! | | report | `0a`, an option `0d` with the address that the other is seen at, `0a` with one's own, `00`, then members |
//! | | leave | `0c`: the other is asked to end the session |
//! | `GR` `11` | stream | `21`, an option `00` with the name, `01` with the key of the stream, then options with its times |
//! | | end | `21`, the number of the last fragment |
//! | | map | `22`, the number of the newest fragment, then bits: which of those before it are there, the next older one first |
//! | | push | `23`, bits: fragments whose number modulo 8 is the number of a bit are wanted as they come |
//! | | pull | `2b`, the number of a fragment that is wanted |
//! | `GR` `12` | fragment | `20` whole, `30` first, `10` next, `00` last; number; what is left, of `30` and `10`; kind and time, of `20` and `30`; bytes |
//!
//! A member in a report: an option `0f` with its id within an option's bytes, seconds since it was heard of, addresses within an option `0a`,
//! `00`. Numbers are integers of variable length; what is left is one byte, how many fragments of the same message follow.
//!
//! Options of a stream, all in milliseconds: `03` for how long fragments are there, `05` how often maps come, `07` how long to wait for a
//! fragment before it is pulled. `02` and `04` are sent as clients send them; what they mean was not learnt.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use headwater_rtmp::message::MessageType;

use super::GroupId;
use crate::crypto::certificate::Fingerprint;
use crate::wire::field::{put_option, put_prefixed, put_variable};
use crate::wire::{Address, Field, Fields, Malformed};

/// Metadata of the flow in which neighbours connect and report.
pub const REPORTS: &[u8] = b"GR\x1c";

/// Metadata of the flow in which a stream is described and asked for, one for each.
pub const CONTROL: &[u8] = b"GR\x11";

/// Metadata of the flow with fragments of a stream. It answers the flow in which the stream was asked for.
pub const MEDIA: &[u8] = b"GR\x12";

const CONNECT: u8 = 0x01;
const NOTHING: u8 = 0x02;
const REPORT: u8 = 0x0a;
const LEAVE: u8 = 0x0c;
const BEGIN: u8 = 0x0e;
const BEGIN_NEAREST: u8 = 0x0f;
const STREAM: u8 = 0x21;
const MAP: u8 = 0x22;
const PUSH: u8 = 0x23;
const PULL: u8 = 0x2b;

const LAST: u8 = 0x00;
const NEXT: u8 = 0x10;
const WHOLE: u8 = 0x20;
const FIRST: u8 = 0x30;

const ADDRESSES: u64 = 0x0a;
const SEEN: u64 = 0x0d;
const MEMBER: u64 = 0x0f;

/// Bytes of the longest name of a stream that is taken.
const LONGEST_NAME: usize = 1_024;

/// Bytes of the shortest description of a stream: a shorter `21` is its end, and has ten bytes at most.
const SHORTEST_DESCRIPTION: usize = 0x24;

/// The key of a stream: tells it from others of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey(pub [u8; 32]);

/// Times that the publisher of a stream gives its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// For how long fragments are there.
    pub window: Duration,
    /// How often a member says which it has.
    pub maps: Duration,
    /// How long a member waits for a fragment before it pulls it.
    pub fetch: Duration,
}

/// Those of Flash Player.
impl Default for Times {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(8),
            maps: Duration::from_millis(100),
            fetch: Duration::from_millis(2_500),
        }
    }
}

/// A fragment of a message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Counted from 1, over all messages of the stream.
    pub number: u64,
    /// How many of the same message follow.
    pub left: u8,
    /// Kind and time of the message, of its first fragment.
    pub head: Option<(MessageType, u32)>,
    /// What it carries.
    pub data: &'a [u8],
}

/// A message of a member to its neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// It wants to be a neighbour.
    Connect {
        /// In which group.
        group: GroupId,
        /// That it knows the specification.
        proof: [u8; 32],
        /// Whom it says so to.
        to: Fingerprint,
    },
    /// Nothing that has a meaning here.
    Nothing,
    /// From now on it takes part.
    Begin,
    /// It wants to be left.
    Leave,
    /// Who is in the group. Of what it says nothing is needed here but that it came: servers name members.
    Report,
    /// It has a stream, or wants to have one that the other has.
    Stream {
        /// What it is called.
        name: &'a [u8],
        /// Which of that name.
        key: StreamKey,
    },
    /// The stream is over.
    End {
        /// The last fragment.
        last: u64,
    },
    /// Which fragments it has.
    Map {
        /// The newest.
        newest: u64,
        /// Those before it.
        bits: &'a [u8],
    },
    /// Which it wants as they come.
    Push(u8),
    /// Which it wants at once.
    Pull(u64),
    /// Here is one.
    Fragment(Fragment<'a>),
}

impl<'a> Said<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] for what is cut short, and for what has no known kind.
    pub fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(message);
        let start = fields;
        Ok(match fields.u8()? {
            CONNECT => read_connect(fields)?,
            NOTHING => Self::Nothing,
            BEGIN | BEGIN_NEAREST => Self::Begin,
            LEAVE => Self::Leave,
            REPORT => Self::Report,
            STREAM if fields.remaining() < SHORTEST_DESCRIPTION => Self::End {
                last: fields.variable()?,
            },
            STREAM => read_stream(fields)?,
            MAP => Self::Map {
                newest: fields.variable()?,
                bits: fields.rest(),
            },
            PUSH => Self::Push(fields.u8()?),
            PULL => Self::Pull(fields.variable()?),
            kind @ (WHOLE | FIRST | NEXT | LAST) => Self::Fragment(read_fragment(kind, fields)?),
            _ => return Err(start.malformed("a message of no known kind")),
        })
    }
}

fn read_connect<'a>(mut fields: Fields<'a>) -> Result<Said<'a>, Malformed> {
    let start = fields;
    let wrong = |_| start.malformed("a connect with something of a wrong length");
    let group = id_of(option(&mut fields, 0x00)?).ok_or_else(|| wrong(()))?;
    let proof = option(&mut fields, 0x01)?;
    let mut to = Fields::new(option(&mut fields, 0x03)?);
    let to = option(&mut to, MEMBER)?;
    Ok(Said::Connect {
        group,
        proof: proof.try_into().map_err(|_| wrong(()))?,
        to: Fingerprint(to.try_into().map_err(|_| wrong(()))?),
    })
}

fn read_stream<'a>(mut fields: Fields<'a>) -> Result<Said<'a>, Malformed> {
    let start = fields;
    let name = option(&mut fields, 0x00)?;
    if name.len() > LONGEST_NAME {
        return Err(start.malformed("a name that is too long"));
    }
    let key = option(&mut fields, 0x01)?.try_into();
    let key = key.map_err(|_| start.malformed("a key that has not 32 bytes"))?;
    let key = StreamKey(key);
    Ok(Said::Stream { name, key })
}

fn read_fragment<'a>(kind: u8, mut fields: Fields<'a>) -> Result<Fragment<'a>, Malformed> {
    let number = fields.variable()?;
    let left = match kind {
        FIRST | NEXT => fields.u8()?,
        _ => 0,
    };
    let head = match kind {
        WHOLE | FIRST => Some((MessageType(fields.u8()?), fields.u32()?)),
        _ => None,
    };
    Ok(Fragment {
        number,
        left,
        head,
        data: fields.rest(),
    })
}

/// The value of the next option, which has to be of a kind.
fn option<'a>(fields: &mut Fields<'a>, wanted: u64) -> Result<&'a [u8], Malformed> {
    let start = *fields;
    match fields.option()? {
        Field::Option { kind, value } if kind == wanted => Ok(value),
        _ => Err(start.malformed("an option of another kind than is due")),
    }
}

/// A group's id of its digits.
fn id_of(digits: &[u8]) -> Option<GroupId> {
    let mut id = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
        for digit in pair {
            let digit = char::from(*digit).to_digit(16)?;
            *byte = *byte << 4 | u8::try_from(digit).ok()?;
        }
    }
    Some(GroupId(id))
}

/// To become a neighbour.
#[must_use]
pub fn connect(group: &GroupId, proof: &[u8; 32], to: &Fingerprint) -> Bytes {
    let mut out = vec![CONNECT];
    put_option(0x00, group.to_string().as_bytes(), &mut out);
    put_option(0x01, proof, &mut out);
    let mut member = Vec::new();
    put_option(MEMBER, &to.0, &mut member);
    put_option(0x03, &member, &mut out);
    out.into()
}

/// What comes before [`begin`], as clients say it.
#[must_use]
pub fn nothing() -> Bytes {
    Bytes::from_static(&[NOTHING])
}

/// To take part.
#[must_use]
pub fn begin() -> Bytes {
    Bytes::from_static(&[BEGIN])
}

/// To be left.
#[must_use]
pub fn leave() -> Bytes {
    Bytes::from_static(&[LEAVE])
}

/// A member in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who.
    pub peer: Fingerprint,
    /// How long ago it was heard of.
    pub ago: Duration,
    /// Where it is seen.
    pub seen: SocketAddr,
}

/// Who is in the group, to one who is seen at `far`; `near` is where its sender can be reached.
#[must_use]
pub fn report(far: SocketAddr, near: &[Address], members: &[Heard]) -> Bytes {
    let mut out = vec![REPORT];
    let mut seen = Vec::new();
    Address::observed(far).put(&mut seen);
    put_option(SEEN, &seen, &mut out);
    put_addresses(near, &mut out);
    for member in members {
        out.push(0);
        let mut id = Vec::new();
        put_option(MEMBER, &member.peer.0, &mut id);
        put_prefixed(&id, &mut out);
        put_variable(member.ago.as_secs(), &mut out);
        put_addresses(&[Address::observed(member.seen)], &mut out);
    }
    // It ends each member, and the list of one's own addresses.
    out.push(0);
    out.into()
}

fn put_addresses(addresses: &[Address], out: &mut Vec<u8>) {
    let mut written = Vec::new();
    for address in addresses {
        address.put(&mut written);
    }
    put_option(ADDRESSES, &written, out);
}

/// A stream that there is, or that is wanted.
#[must_use]
pub fn stream(name: &str, key: &StreamKey, times: &Times) -> Bytes {
    let mut out = vec![STREAM];
    put_option(0x00, name.as_bytes(), &mut out);
    put_option(0x01, &key.0, &mut out);
    put_option(0x02, &[], &mut out);
    put_time(0x03, times.window, &mut out);
    put_time(0x04, Duration::from_secs(300), &mut out);
    put_time(0x05, times.maps, &mut out);
    put_time(0x07, times.fetch, &mut out);
    out.into()
}

fn put_time(kind: u64, time: Duration, out: &mut Vec<u8>) {
    let mut value = Vec::new();
    put_variable(
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        &mut value,
    );
    put_option(kind, &value, out);
}

/// The end of a stream.
#[must_use]
pub fn end(last: u64) -> Bytes {
    numbered(STREAM, last)
}

/// Which fragments there are: all from `oldest` to `newest`.
#[must_use]
pub fn map(oldest: u64, newest: u64) -> Bytes {
    let mut out = numbered(MAP, newest).to_vec();
    let before = newest.saturating_sub(oldest);
    out.extend((0..before / 8).map(|_| 0xff));
    let rest = before % 8;
    if rest > 0 {
        out.push((1 << rest) - 1);
    }
    out.into()
}

/// Which fragments are wanted as they come.
#[must_use]
pub fn push(mask: u8) -> Bytes {
    vec![PUSH, mask].into()
}

/// A fragment that is wanted.
#[must_use]
pub fn pull(number: u64) -> Bytes {
    numbered(PULL, number)
}

fn numbered(kind: u8, number: u64) -> Bytes {
    let mut out = vec![kind];
    put_variable(number, &mut out);
    out.into()
}

impl Fragment<'_> {
    /// The message that it is.
    #[must_use]
    pub fn to_message(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.data.len() + 17);
        out.push(match (self.head, self.left) {
            (Some(_), 0) => WHOLE,
            (Some(_), _) => FIRST,
            (None, 0) => LAST,
            (None, _) => NEXT,
        });
        put_variable(self.number, &mut out);
        if self.left > 0 {
            out.push(self.left);
        }
        if let Some((kind, time)) = self.head {
            out.push(kind.0);
            out.extend_from_slice(&time.to_be_bytes());
        }
        out.extend_from_slice(self.data);
        out.into()
    }
}

#[cfg(test)]
mod tests;
