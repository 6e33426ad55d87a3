//! From events to bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Encoding, Event, Flags, Message, kind};
use crate::object::{ObjectName, Operation, Refusal};
use crate::value::{Arguments, SlotValue};

/// Bytes before the name of a slot in an event: its type, its length and the name's length.
pub(crate) const EVENT_BYTES: usize = 7;

/// Writes the body of one message, event by event.
#[derive(Debug)]
pub struct Writer {
    body: BytesMut,
    encoding: Encoding,
    /// Bytes before the first event.
    head: usize,
}

impl Writer {
    /// A message without events.
    pub fn new(encoding: Encoding, name: &ObjectName, version: u32, flags: Flags) -> Self {
        let mut body = BytesMut::with_capacity(64);
        if encoding == Encoding::Amf3 {
            body.put_u8(0);
        }
        put_text(&mut body, name.as_str());
        body.put_u32(version);
        body.put_u32(flags.0);
        body.put_u32(0);
        Self {
            head: body.len(),
            body,
            encoding,
        }
    }

    /// Adds an event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Use => self.bare(kind::USE),
            Event::Release => self.bare(kind::RELEASE),
            Event::RequestChange { name, value } => self.pair(kind::REQUEST_CHANGE, name, value),
            Event::Change { name, value } => self.change(name, value),
            Event::Success { name } => self.success(name),
            Event::Send { arguments } => self.send(arguments),
            Event::Status { code, level } => self.status(code, level),
            Event::Clear => self.clear(),
            Event::Remove { name } => self.remove(name),
            Event::RequestRemove { name } => self.key(kind::REQUEST_REMOVE, name),
            Event::UseSuccess => self.use_success(),
            Event::ChangeEcho { name, value } => self.echo(name, value),
            Event::RequestClear => self.bare(kind::REQUEST_CLEAR),
        }
    }

    /// Adds what a client asks to be done.
    pub fn request(&mut self, operation: &Operation) {
        match operation {
            Operation::Set { name, value } => self.pair(kind::REQUEST_CHANGE, name, value),
            Operation::Remove { name } => self.key(kind::REQUEST_REMOVE, name),
            Operation::Clear => self.bare(kind::REQUEST_CLEAR),
            Operation::Send { arguments } => self.send(arguments),
        }
    }

    pub(crate) fn change(&mut self, name: &str, value: &SlotValue) {
        self.pair(kind::CHANGE, name, value);
    }

    pub(crate) fn echo(&mut self, name: &str, value: &SlotValue) {
        self.pair(kind::CHANGE_ECHO, name, value);
    }

    pub(crate) fn success(&mut self, name: &str) {
        self.key(kind::SUCCESS, name);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.key(kind::REMOVE, name);
    }

    pub(crate) fn clear(&mut self) {
        self.bare(kind::CLEAR);
    }

    pub(crate) fn use_success(&mut self) {
        self.bare(kind::USE_SUCCESS);
    }

    pub(crate) fn send(&mut self, arguments: &Arguments) {
        match self.encoding {
            Encoding::Amf3 => self.data(kind::SEND, arguments.as_bytes()),
            Encoding::Amf0 => {
                let plain = arguments.plain();
                self.data(kind::SEND, &plain);
            }
        }
    }

    pub(crate) fn status(&mut self, code: &str, level: &str) {
        self.framed(kind::STATUS, |body| {
            put_text(body, code);
            put_text(body, level);
        });
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether there is no event yet.
    pub fn is_empty(&self) -> bool {
        self.body.len() == self.head
    }

    /// The body.
    pub fn finish(self) -> Bytes {
        self.body.freeze()
    }

    fn bare(&mut self, kind: u8) {
        self.body.put_u8(kind);
        self.body.put_u32(0);
    }

    fn key(&mut self, kind: u8, name: &str) {
        self.framed(kind, |body| put_text(body, name));
    }

    fn pair(&mut self, kind: u8, name: &str, value: &SlotValue) {
        let value = match self.encoding {
            Encoding::Amf0 => value.plain(),
            Encoding::Amf3 => value.as_bytes(),
        };
        self.framed(kind, |body| {
            put_text(body, name);
            body.put_slice(value);
        });
    }

    fn data(&mut self, kind: u8, data: &[u8]) {
        self.framed(kind, |body| body.put_slice(data));
    }

    fn framed(&mut self, kind: u8, data: impl FnOnce(&mut BytesMut)) {
        self.body.put_u8(kind);
        let length_at = self.body.len();
        self.body.put_u32(0);
        data(&mut self.body);
        let length = self.body.len() - length_at - 4;
        // A body beyond 4 GiB is refused by the message layer, whose length has 24 bits.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.body[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// Names of slots are cut where their length field ends; the owner's limit is far below.
fn put_text(body: &mut BytesMut, text: &str) {
    let mut length = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    body.put_u16(length as u16);
    body.put_slice(&text.as_bytes()[..length]);
}

/// The body of a message.
pub fn encode(message: &Message, encoding: Encoding) -> Bytes {
    let mut writer = Writer::new(encoding, &message.name, message.version, message.flags);
    for event in &message.events {
        writer.event(event);
    }
    writer.finish()
}

/// The body of a message that tells a client, who does not use the object, why: level `error`.
pub fn status(encoding: Encoding, name: &ObjectName, flags: Flags, refusal: &Refusal) -> Bytes {
    let mut writer = Writer::new(encoding, name, 0, flags);
    writer.status(refusal.code(), "error");
    writer.finish()
}
