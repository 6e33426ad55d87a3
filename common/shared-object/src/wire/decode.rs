//! From bytes to events.

use std::sync::Arc;

use bytes::Bytes;
use headwater_amf::{Limits, amf0};

use super::{Event, Flags, Message, WireError, kind};
use crate::object::{ObjectName, SlotName};
use crate::value::{Arguments, SlotValue, survey};

/// What a message may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Of all values of the message together.
    pub values: Limits,
    /// Events, and pairs and keys within events.
    pub events: usize,
}

impl DecodeLimits {
    /// 4,096 events; values as [`Limits::DEFAULT`] has it, but no more than 8 MiB.
    pub const DEFAULT: Self = Self {
        values: Limits {
            bytes: 8 << 20,
            ..Limits::DEFAULT
        },
        events: 4_096,
    };
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Decodes the body of a message of type 19.
///
/// # Errors
/// [`WireError`] names the byte where it is wrong.
pub fn decode(body: &Bytes, limits: DecodeLimits) -> Result<Message, WireError> {
    Decoder::new(body, 0, limits).message()
}

/// Decodes the body of a message of type 16.
///
/// # Errors
/// [`WireError`] names the byte where it is wrong.
pub fn decode_amf3(body: &Bytes, limits: DecodeLimits) -> Result<Message, WireError> {
    match body.first() {
        Some(0) => Decoder::new(body, 1, limits).message(),
        Some(&found) => Err(WireError::UnknownFormat { found }),
        None => Err(WireError::UnexpectedEnd {
            offset: 0,
            expected: "a zero byte",
            missing: 1,
        }),
    }
}

/// Invariant: `position <= end <= body.len()`.
struct Decoder<'a> {
    body: &'a Bytes,
    position: usize,
    /// Where the message or the event ends.
    end: usize,
    limits: DecodeLimits,
    /// What is left for values.
    left: Limits,
    events: Vec<Event>,
}

impl<'a> Decoder<'a> {
    fn new(body: &'a Bytes, position: usize, limits: DecodeLimits) -> Self {
        Self {
            body,
            position,
            end: body.len(),
            limits,
            left: limits.values,
            events: Vec::new(),
        }
    }

    fn message(mut self) -> Result<Message, WireError> {
        let length = usize::from(self.u16("the length of the name")?);
        let offset = self.position;
        let name = ObjectName::from_bytes(self.take(length, "the name")?)
            .map_err(|error| WireError::Name { offset, error })?;
        let version = self.u32("the version")?;
        let flags = Flags(self.u32("the flags")?);
        self.u32("the flags")?;
        while self.remaining() > 0 {
            let kind = self.array::<1>("an event")?[0];
            let length = self.u32("the length of an event")? as usize;
            let data = self
                .expect_room(length, "an event")
                .map(|()| self.position)?;
            self.end = data + length;
            self.event(kind)?;
            self.position = self.end;
            self.end = self.body.len();
        }
        Ok(Message {
            name,
            version,
            flags,
            events: self.events,
        })
    }

    fn event(&mut self, kind: u8) -> Result<(), WireError> {
        match kind {
            kind::USE => self.push(Event::Use),
            kind::RELEASE => self.push(Event::Release),
            kind::REQUEST_CHANGE => self.pairs(|name, value| Event::RequestChange { name, value }),
            kind::CHANGE => self.pairs(|name, value| Event::Change { name, value }),
            kind::CHANGE_ECHO => self.pairs(|name, value| Event::ChangeEcho { name, value }),
            kind::SUCCESS => self.keys(|name| Event::Success { name }),
            kind::REMOVE => self.keys(|name| Event::Remove { name }),
            kind::REQUEST_REMOVE => self.keys(|name| Event::RequestRemove { name }),
            kind::SEND => self.send(),
            kind::STATUS => {
                let code = self.text("the code of a status")?.to_owned();
                let level = if self.remaining() == 0 {
                    String::new()
                } else {
                    self.text("the level of a status")?.to_owned()
                };
                self.push(Event::Status { code, level })
            }
            kind::CLEAR => self.push(Event::Clear),
            kind::USE_SUCCESS => self.push(Event::UseSuccess),
            kind::REQUEST_CLEAR => self.push(Event::RequestClear),
            _ => Ok(()),
        }
    }

    fn push(&mut self, event: Event) -> Result<(), WireError> {
        if self.events.len() >= self.limits.events {
            return Err(WireError::TooManyEvents {
                offset: self.position,
                maximum: self.limits.events,
            });
        }
        self.events.push(event);
        Ok(())
    }

    fn pairs(&mut self, event: impl Fn(SlotName, SlotValue) -> Event) -> Result<(), WireError> {
        while self.remaining() > 0 {
            let name: SlotName = Arc::from(self.text("the name of a slot")?);
            let value = if self.remaining() == 0 {
                SlotValue::undefined()
            } else {
                self.value()?
            };
            self.push(event(name, value))?;
        }
        Ok(())
    }

    fn keys(&mut self, event: impl Fn(SlotName) -> Event) -> Result<(), WireError> {
        while self.remaining() > 0 {
            let name: SlotName = Arc::from(self.text("the name of a slot")?);
            self.push(event(name))?;
        }
        Ok(())
    }

    /// One value, with references of its own: it will stand alone.
    fn value(&mut self) -> Result<SlotValue, WireError> {
        let offset = self.position;
        let input = self.body.slice(offset..self.end);
        let mut decoder = amf0::Decoder::new(&input, self.left);
        let value = decoder.decode().map_err(|error| WireError::Value {
            offset: offset + error.offset(),
            error,
        })?;
        self.position = offset + decoder.position();
        let written = SlotValue::new(&value).map_err(|_| WireError::Unwritable { offset })?;
        self.charge(survey(&value).values, written.as_bytes().len());
        Ok(written)
    }

    fn send(&mut self) -> Result<(), WireError> {
        let offset = self.position;
        let input = self.body.slice(offset..self.end);
        let values = amf0::decode_all(&input, self.left).map_err(|error| WireError::Value {
            offset: offset + error.offset(),
            error,
        })?;
        let arguments = Arguments::new(&values).map_err(|_| WireError::Unwritable { offset })?;
        let count = values.iter().map(|value| survey(value).values).sum();
        self.charge(count, arguments.as_bytes().len());
        self.push(Event::Send { arguments })
    }

    /// Values that were read leave less for those that follow, so that many small references cannot make a large message of a
    /// small one.
    fn charge(&mut self, values: usize, bytes: usize) {
        self.left.values = self.left.values.saturating_sub(values);
        self.left.bytes = self.left.bytes.saturating_sub(bytes);
    }

    fn text(&mut self, expected: &'static str) -> Result<&'a str, WireError> {
        let length = usize::from(self.u16(expected)?);
        let offset = self.position;
        std::str::from_utf8(self.take(length, expected)?).map_err(|error| WireError::NotUtf8 {
            offset: offset + error.valid_up_to(),
            what: expected,
        })
    }

    fn remaining(&self) -> usize {
        self.end - self.position
    }

    fn expect_room(&self, length: usize, expected: &'static str) -> Result<(), WireError> {
        match length.checked_sub(self.remaining()) {
            None | Some(0) => Ok(()),
            Some(missing) => Err(WireError::UnexpectedEnd {
                offset: self.position,
                expected,
                missing,
            }),
        }
    }

    fn take(&mut self, length: usize, expected: &'static str) -> Result<&'a [u8], WireError> {
        self.expect_room(length, expected)?;
        let start = self.position;
        self.position += length;
        Ok(&self.body[start..self.position])
    }

    fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, expected)?);
        Ok(array)
    }

    fn u16(&mut self, expected: &'static str) -> Result<u16, WireError> {
        self.array(expected).map(u16::from_be_bytes)
    }

    fn u32(&mut self, expected: &'static str) -> Result<u32, WireError> {
        self.array(expected).map(u32::from_be_bytes)
    }
}
