//! A client that uses shared objects and whose messages a test makes by hand, on our own client.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_amf::Value;
use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::message::MessageType;
use headwater_shared_object::object::ObjectName;
use headwater_shared_object::value::SlotValue;
use headwater_shared_object::wire::{self, DecodeLimits, Encoding, Event, Flags, Message};
use tokio::runtime::Runtime;

use super::client::{ClientError, Connection, Wishes};
use super::wait::{patience, runtime};

/// How long a server may take for an answer.
const LIMIT: Duration = Duration::from_secs(20);

/// The event with which a client begins to use an object.
pub(crate) const USE: u8 = 1;

/// The event with which it changes a slot.
pub(crate) const REQUEST_CHANGE: u8 = 3;

/// A client whose messages a test makes by hand.
pub(crate) struct ObjectUser {
    connection: Connection,
    runtime: &'static Runtime,
    /// What the last message of an object said.
    version: u32,
}

impl ObjectUser {
    pub(crate) fn join(url: &str) -> Self {
        Self::join_with(url, &Wishes::default())
    }

    pub(crate) fn join_with(url: &str, wishes: &Wishes) -> Self {
        let runtime = runtime();
        let opened = runtime.block_on(Connection::open_with(&format!("{url}/-"), wishes));
        Self {
            connection: opened.expect("a connection").0,
            runtime,
            version: 0,
        }
    }

    pub(crate) fn send(&mut self, message: Bytes) {
        let sent = self.connection.session.shared_object(message);
        sent.expect("a message");
        let flushed = self.runtime.block_on(self.connection.flush());
        flushed.expect("a connection");
    }

    /// The next that the server says: an object's message, or a status of the connection.
    pub(crate) fn next(&mut self) -> Result<Heard, ClientError> {
        let heard = async {
            loop {
                match self.connection.next_event().await? {
                    ClientEvent::SharedObject { message } => {
                        let decoded = match message.kind {
                            MessageType::SHARED_OBJECT_AMF3 => {
                                wire::decode_amf3(&message.payload, DecodeLimits::default())
                            }
                            _ => wire::decode(&message.payload, DecodeLimits::default()),
                        };
                        return Ok(Heard::Object(decoded.expect("a message of an object")));
                    }
                    ClientEvent::Status { status, .. } => {
                        let description = status.description;
                        return Ok(Heard::Status(status.code.into_owned(), description));
                    }
                    _ => {}
                }
            }
        };
        let heard = async { tokio::time::timeout(patience(LIMIT), heard).await };
        self.runtime.block_on(heard).expect("an answer in time")
    }

    /// The next message of an object: its name, and what it holds.
    pub(crate) fn object(&mut self) -> (String, Vec<Event>) {
        match self.next().expect("a connection") {
            Heard::Object(message) => {
                self.version = message.version;
                (message.name.as_str().to_owned(), message.events)
            }
            Heard::Status(code, description) => panic!("{code}: {description}"),
        }
    }

    /// Changes a slot of an object that it uses.
    pub(crate) fn change(&mut self, object: &str, slot: &str, value: &Value, amf3: bool) {
        let change = Event::RequestChange {
            name: slot.into(),
            value: SlotValue::new(value).expect("a value"),
        };
        let message = Message {
            name: ObjectName::parse(object).expect("a name"),
            version: self.version,
            flags: Flags(0),
            events: vec![change],
        };
        self.send(match amf3 {
            false => wire::encode(&message, Encoding::Amf0),
            // The session puts its own zero before it.
            true => wire::encode(&message, Encoding::Amf3).slice(1..),
        });
    }

    /// Uses an object, as whoever keeps to the rules.
    pub(crate) fn uses(&mut self, name: &str) {
        self.send(message(name.as_bytes(), &[(USE, &[])]));
        let (object, events) = self.object();
        assert_eq!(object, name);
        assert!(events.contains(&Event::UseSuccess), "{events:?}");
    }
}

#[derive(Debug)]
pub(crate) enum Heard {
    Object(Message),
    Status(String, String),
}

/// A message of type 19.
pub(crate) fn message(name: &[u8], events: &[(u8, &[u8])]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&u16::try_from(name.len()).expect("short").to_be_bytes());
    bytes.extend_from_slice(name);
    // Version and flags.
    bytes.extend_from_slice(&[0; 12]);
    for (kind, data) in events {
        bytes.extend_from_slice(&[*kind]);
        let length = u32::try_from(data.len()).expect("a length");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(data);
    }
    bytes.freeze()
}

/// What is changed, with a value in AMF0.
pub(crate) fn change(slot: &str, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(slot.len()).expect("short").to_be_bytes();
    [&length[..], slot.as_bytes(), value].concat()
}
