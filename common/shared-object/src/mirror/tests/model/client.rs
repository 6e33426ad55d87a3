//! A client: a map that follows the messages it gets.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use headwater_amf::Limits;

use crate::client::{Cursor, Dialect};
use crate::object::{ClientId, ObjectName, Operation, Version};
use crate::value::SlotValue;
use crate::wire::{self, DecodeLimits, Encoding, Event, Flags, Message, Writer};

pub(super) type Map = BTreeMap<String, SlotValue>;

/// What a client without AMF3 sees.
pub(super) fn seen(map: &Map, encoding: Encoding) -> Map {
    let plain = |value: &SlotValue| match encoding {
        Encoding::Amf0 if value.holds_switch() => SlotValue::undefined(),
        _ => value.clone(),
    };
    map.iter()
        .map(|(name, value)| (name.clone(), plain(value)))
        .collect()
}

/// A send as the reference has it.
pub(super) struct Sent {
    pub(super) number: u64,
    /// The object's version with it.
    pub(super) version: Version,
    /// The object at that moment; `None`: not known any more, an owner has gone in between.
    pub(super) map: Option<Map>,
}

pub(super) struct Client {
    pub(super) id: ClientId,
    pub(super) dialect: Dialect,
    pub(super) encoding: Encoding,
    pub(super) cursor: Option<Cursor>,
    pub(super) map: Map,
    pub(super) version: u32,
    /// Messages on their way to it.
    pub(super) inbox: VecDeque<Bytes>,
    /// Slots of its sets without an answer, oldest first.
    pub(super) open: Vec<String>,
    /// Sets that were confirmed, asked for, and refused.
    pub(super) confirmed: usize,
    pub(super) asked: usize,
    pub(super) refused: usize,
    /// Numbers of the sends that it got.
    pub(super) got: Vec<u64>,
    /// What was sent before it was there.
    pub(super) since: usize,
    /// A call or an owner went away while it was there: what others sent at that moment may be missing.
    pub(super) disturbed: bool,
    /// It has skipped a part of the log.
    pub(super) skipped: bool,
    /// Slots of its sets that were refused, before it knows.
    refusals: VecDeque<Vec<String>>,
}

impl Client {
    pub(super) fn new(id: u64) -> Self {
        let encoding = match id % 4 {
            0 | 1 => Encoding::Amf0,
            _ => Encoding::Amf3,
        };
        let dialect = match id % 2 {
            0 => Dialect::Player,
            _ => Dialect::Proxy,
        };
        Self {
            id: ClientId(id),
            dialect,
            encoding,
            cursor: None,
            map: Map::new(),
            version: 0,
            inbox: VecDeque::new(),
            open: Vec::new(),
            confirmed: 0,
            asked: 0,
            refused: 0,
            got: Vec::new(),
            since: 0,
            disturbed: false,
            skipped: false,
            refusals: VecDeque::new(),
        }
    }

    /// The next of it, after a pause: with a new number and what it had.
    pub(super) fn again(&mut self, id: u64) {
        let mut next = Self::new(id);
        next.dialect = self.dialect;
        next.encoding = self.encoding;
        // What it has changed without an answer is in its map, and no resync would take it out.
        if self.open.is_empty() {
            next.map = std::mem::take(&mut self.map);
            next.version = self.version;
        }
        *self = next;
    }

    /// Sets slots locally, if it is of that kind, and gives the message that asks for it, in the form that an edge makes of its bytes.
    pub(super) fn ask(&mut self, name: &ObjectName, operations: &[Operation]) -> Message {
        let flags = match self.dialect {
            Dialect::Player => Flags(0),
            Dialect::Proxy => Flags(Flags::PROXY),
        };
        // Clients of both kinds send what they mean: the bytes hold AMF3 where it is needed.
        let mut writer = Writer::new(Encoding::Amf3, name, self.version, flags);
        for operation in operations {
            writer.request(operation);
            if let Operation::Set { name, value } = operation {
                self.asked += 1;
                self.open.push(name.to_string());
                if self.dialect == Dialect::Player {
                    self.map.insert(name.to_string(), value.clone());
                }
            }
        }
        let message = wire::decode_amf3(&writer.finish(), DecodeLimits::default());
        let message = message.expect("what clients write is read");
        assert_eq!(message.operations(), operations);
        assert_eq!(Dialect::of(message.flags), self.dialect);
        message
    }

    /// Reads one message.
    pub(super) fn read(&mut self, body: &Bytes, sends: &[Sent]) {
        let limits = DecodeLimits::default();
        let message = match self.encoding {
            Encoding::Amf0 => wire::decode(body, limits),
            Encoding::Amf3 => wire::decode_amf3(body, limits),
        };
        let message = message.expect("what edges write is read");
        assert!(!message.events.is_empty(), "a message says something");
        if message.version != 0 {
            assert!(
                message.version >= self.version,
                "version {} after {}",
                message.version,
                self.version
            );
            self.version = message.version;
        }
        for event in message.events {
            self.event(event, sends);
        }
    }

    fn event(&mut self, event: Event, sends: &[Sent]) {
        match event {
            Event::Change { name, value } => {
                assert!(self.encoding == Encoding::Amf3 || !value.holds_switch());
                self.map.insert(name.to_string(), value);
            }
            Event::ChangeEcho { name, value } => {
                assert_eq!(self.dialect, Dialect::Proxy);
                self.answered(&name);
                self.confirmed += 1;
                self.map.insert(name.to_string(), value);
            }
            Event::Success { name } => {
                assert_eq!(self.dialect, Dialect::Player);
                self.answered(&name);
                self.confirmed += 1;
            }
            Event::Remove { name } => {
                self.map.remove(&*name);
            }
            Event::Clear => self.map.clear(),
            Event::Send { arguments } => self.send(&arguments, sends),
            Event::UseSuccess => {}
            Event::Status { level, .. } => {
                assert_eq!(level, "error");
                let slots = self.refusals.pop_front().expect("something was refused");
                slots.iter().for_each(|slot| self.answered(slot));
            }
            Event::Use
            | Event::Release
            | Event::RequestChange { .. }
            | Event::RequestRemove { .. }
            | Event::RequestClear => panic!("{event:?} is for servers"),
        }
    }

    fn answered(&mut self, name: &str) {
        let at = self.open.iter().position(|open| open == name);
        self.open
            .remove(at.expect("confirms what was asked for, once"));
    }

    /// The edge has refused a request of it, or knows that the owner has.
    pub(super) fn refuse(&mut self, operations: &[Operation]) {
        let slots: Vec<String> = operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::Set { name, .. } => Some(name.to_string()),
                _ => None,
            })
            .collect();
        self.refused += slots.len();
        self.refusals.push_back(slots);
    }

    fn send(&mut self, arguments: &crate::value::Arguments, sends: &[Sent]) {
        let values = arguments.decode(Limits::default()).expect("values");
        assert_eq!(values[0].as_str(), Some("handler"));
        let number = values[1].as_number().expect("a number") as u64;
        self.got.push(number);
        if self.disturbed || self.skipped {
            return;
        }
        let sent = sends.iter().find(|sent| sent.number == number);
        let sent = sent.expect("sent by somebody and applied");
        if let Some(map) = &sent.map {
            let known = |map: &Map| -> Map {
                let is_open = |name: &str| self.open.iter().any(|open| open == name);
                let open = |name: &str| self.dialect == Dialect::Player && is_open(name);
                map.iter()
                    .filter(|(name, _)| !open(name))
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect()
            };
            assert_eq!(
                known(&self.map),
                known(&seen(map, self.encoding)),
                "client {:?} at send {number}",
                self.id
            );
        }
    }

    /// At the end.
    pub(super) fn check(&self, owner: &Map, sends: Option<&[u64]>) {
        if self.cursor.is_none() {
            return;
        }
        assert_eq!(
            seen(&self.map, self.encoding),
            seen(owner, self.encoding),
            "client {:?}",
            self.id
        );
        assert_eq!(
            self.confirmed + self.refused,
            self.asked,
            "answers to client {:?}",
            self.id
        );
        assert!(self.open.is_empty());
        let Some(sends) = sends else {
            return;
        };
        if !self.disturbed {
            assert_eq!(self.got, &sends[self.since..], "sends to {:?}", self.id);
        }
        let mut got = std::collections::HashSet::new();
        for number in &self.got {
            assert!(
                sends.contains(number) && got.insert(number),
                "send {number} came twice, or from nobody, to client {:?}: {:?} of {sends:?}",
                self.id,
                self.got
            );
        }
    }
}
