//! Bodies of shared object messages (RTMP 1.0, section 7.1.3), as far as the harness writes and reads them.
//!
//! ```text
//! name: length u16, UTF-8 | version u32 | flags u32, u32 | events: { type u8, length u32, data }
//! ```
//! Written here once more, and not taken from the server's own, so that an error of that one is seen. What cannot be read ends
//! the iteration; the account shows it as something that did not come.

use bytes::{BufMut, Bytes, BytesMut};
use headwater_rtmp::command::ObjectEncoding;

/// Event types.
pub(super) mod kind {
    pub(in crate::members::objects) const USE: u8 = 1;
    pub(in crate::members::objects) const REQUEST_CHANGE: u8 = 3;
    pub(in crate::members::objects) const CHANGE: u8 = 4;
    pub(in crate::members::objects) const SUCCESS: u8 = 5;
    pub(in crate::members::objects) const SEND: u8 = 6;
    pub(in crate::members::objects) const STATUS: u8 = 7;
    pub(in crate::members::objects) const CLEAR: u8 = 8;
    pub(in crate::members::objects) const REMOVE: u8 = 9;
    pub(in crate::members::objects) const USE_SUCCESS: u8 = 11;
    pub(in crate::members::objects) const ECHO: u8 = 13;
}

/// AMF0 string.
const STRING: u8 = 2;
/// AMF0: the value that follows is AMF3.
const SWITCH: u8 = 0x11;
/// AMF3 string.
const STRING_3: u8 = 6;

/// The beginning of a body and one event, whose data is appended by `data`.
pub(super) fn body(
    name: &str,
    version: u32,
    flags: u32,
    kind: u8,
    data: impl FnOnce(&mut BytesMut),
) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + name.len());
    put_name(&mut out, name.as_bytes());
    out.put_u32(version);
    out.put_u32(flags);
    out.put_u32(0);
    out.put_u8(kind);
    let place = out.len();
    out.put_u32(0);
    data(&mut out);
    let length = u32::try_from(out.len() - place - 4).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(place..place + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    out.freeze()
}

/// A name or key: no longer than its length can say, which the options see to.
pub(super) fn put_name(out: &mut BytesMut, name: &[u8]) {
    out.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
    out.put_slice(name);
}

/// A string as clients of this encoding write it.
pub(super) fn put_string(out: &mut BytesMut, encoding: ObjectEncoding, text: &[u8]) {
    match encoding {
        ObjectEncoding::Amf0 => {
            out.put_u8(STRING);
            put_name(out, text);
        }
        ObjectEncoding::Amf3 => {
            out.put_u8(SWITCH);
            out.put_u8(STRING_3);
            put_u29(out, (u32::try_from(text.len()).unwrap_or(0) << 1) | 1);
            out.put_slice(text);
        }
    }
}

fn put_u29(out: &mut BytesMut, value: u32) {
    for shift in [21, 14, 7] {
        if value >> shift != 0 {
            out.put_u8(((value >> shift) & 0x7F) as u8 | 0x80);
        }
    }
    out.put_u8((value & 0x7F) as u8);
}

/// What is read, from its front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

/// A message without its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header<'a> {
    pub(super) name: &'a [u8],
    pub(super) version: u32,
}

impl<'a> Reader<'a> {
    /// The beginning of a message's body, which has a format byte before it where it is type 16.
    pub(super) fn header(&mut self, is_amf3: bool) -> Option<Header<'a>> {
        if is_amf3 {
            self.take(1)?;
        }
        let name = self.name()?;
        let version = self.u32()?;
        self.take(8)?;
        Some(Header { name, version })
    }

    /// The next event and its data.
    pub(super) fn event(&mut self) -> Option<(u8, Self)> {
        let kind = *self.take(1)?.first()?;
        let length = usize::try_from(self.u32()?).ok()?;
        Some((kind, Self(self.take(length)?)))
    }

    pub(super) fn name(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(*self.take(2)?.first_chunk()?);
        self.take(usize::from(length))
    }

    /// A string in either encoding.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        match *self.take(1)?.first()? {
            STRING => self.name(),
            SWITCH => {
                if self.take(1)? != [STRING_3] {
                    return None;
                }
                let length = self.u29()?;
                // The lowest bit says that the string stands here. Nothing of ours refers to another one.
                if length & 1 == 0 {
                    return None;
                }
                self.take(usize::try_from(length >> 1).ok()?)
            }
            _ => None,
        }
    }

    fn u29(&mut self) -> Option<u32> {
        let mut value = 0;
        for _ in 0..4 {
            let byte = *self.take(1)?.first()?;
            value = (value << 7) | u32::from(byte & 0x7F);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.take(4)?.first_chunk()?))
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

/// What a value of the harness says: who wrote it, the how manieth it is, and when it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) writer: u32,
    /// From 1.
    pub(super) number: u64,
    /// Nanoseconds of the harness's clock.
    pub(super) sent: u64,
}

impl Stamp {
    /// As text, with padding up to so many bytes.
    pub(super) fn text(self, length: usize) -> String {
        let Self {
            writer,
            number,
            sent,
        } = self;
        let mut text = format!("hw {writer} {number} {sent} ");
        while text.len() < length {
            text.push('.');
        }
        text
    }

    /// `None` for what is no value of the harness.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = text.strip_prefix(b"hw ")?;
        let mut parts = text.split(|&byte| byte == b' ');
        let mut number = || -> Option<u64> {
            let digits = parts.next().filter(|digits| !digits.is_empty())?;
            digits.iter().try_fold(0_u64, |number, digit| {
                let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
                number.checked_mul(10)?.checked_add(digit.into())
            })
        };
        Some(Self {
            writer: u32::try_from(number()?).ok()?,
            number: number()?,
            sent: number()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_in_either_encoding_is_read_as_it_was_written() {
        let stamp = Stamp {
            writer: 7,
            number: 12,
            sent: u64::MAX,
        };
        for encoding in [ObjectEncoding::Amf0, ObjectEncoding::Amf3] {
            // Long enough for a length of two bytes in AMF3.
            let text = stamp.text(300);
            let body = body("chat", 5, 2, kind::REQUEST_CHANGE, |out| {
                put_name(out, b"w7.0");
                put_string(out, encoding, text.as_bytes());
            });
            let mut reader = Reader(&body);
            let header = reader.header(false).unwrap();
            assert_eq!((header.name, header.version), (&b"chat"[..], 5));
            let (kind, mut data) = reader.event().unwrap();
            assert_eq!((kind, data.name()), (3, Some(&b"w7.0"[..])));
            assert_eq!(Stamp::parse(data.string().unwrap()), Some(stamp));
            assert!(data.0.is_empty() && reader.event().is_none());
            // As Flash Player writes a slot.
            assert_eq!(body.get(18), Some(&3));
        }
    }

    #[test]
    fn what_is_cut_off_or_foreign_is_none() {
        let whole = body("a", 1, 0, kind::CHANGE, |out| {
            put_name(out, b"k");
            put_string(out, ObjectEncoding::Amf0, b"hw 1 2 3 ");
        });
        for length in 0..whole.len() {
            let mut reader = Reader(whole.get(..length).unwrap());
            let event = reader.header(false).and_then(|_| reader.event());
            assert!(event.is_none(), "{length}");
        }
        for text in [
            &b""[..],
            b"hw",
            b"hw 1 2",
            b"hw 1 2 x",
            b"hw 1  3",
            b"other 1 2 3",
        ] {
            assert_eq!(Stamp::parse(text), None, "{text:?}");
        }
        assert_eq!(Reader(&[0x11, 6, 2]).string(), None);
        assert_eq!(Reader(&[0, 1, 2]).string(), None);
    }
}
