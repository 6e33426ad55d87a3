//! Clients that ask for shared objects in ways that make no sense, or for too many: they are told why, stay where they can, and cost
//! nobody else anything.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_loadtest::members::MemberOptions;
use headwater_loadtest::members::objects::ObjectOptions;
use headwater_loadtest::target::Target;
use headwater_rtmp::client::ClientEvent;
use headwater_shared_object::wire::{self, DecodeLimits, Event, Message};
use tokio::runtime::Runtime;

use crate::shared_objects::share;
use crate::support::client::{ClientError, Connection};
use crate::support::cluster::{Cluster, Plan};
use crate::support::wait::{runtime, until};

const LIMIT: Duration = Duration::from_secs(20);

/// Objects that one client may use, as `app.toml` has it where it says nothing.
const MOST: usize = 1_000;

const USE: u8 = 1;
const REQUEST_CHANGE: u8 = 3;

/// A cluster of one origin and one edge, with the applications that every cluster has.
fn small() -> Cluster {
    Cluster::with(&Plan {
        origins: 1,
        edges: 1,
        ..Plan::default()
    })
}

/// A client whose messages a test makes by hand.
struct Client {
    connection: Connection,
    runtime: &'static Runtime,
}

impl Client {
    fn join(url: &str) -> Self {
        let runtime = runtime();
        let opened = runtime.block_on(Connection::open(&format!("{url}/-")));
        Self {
            connection: opened.expect("a connection").0,
            runtime,
        }
    }

    fn send(&mut self, message: Bytes) {
        let sent = self.connection.session.shared_object(message);
        sent.expect("a message");
        let flushed = self.runtime.block_on(self.connection.flush());
        flushed.expect("a connection");
    }

    /// The next that the server says: an object's message, or a status of the connection.
    fn next(&mut self) -> Result<Heard, ClientError> {
        let heard = async {
            loop {
                match self.connection.next_event().await? {
                    ClientEvent::SharedObject { message } => {
                        let decoded = wire::decode(&message.payload, DecodeLimits::default());
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
        let heard = async { tokio::time::timeout(LIMIT, heard).await };
        self.runtime.block_on(heard).expect("an answer in time")
    }

    /// The next message of an object: its name, and what it holds.
    fn object(&mut self) -> (String, Vec<Event>) {
        match self.next().expect("a connection") {
            Heard::Object(message) => (message.name.as_str().to_owned(), message.events),
            Heard::Status(code, description) => panic!("{code}: {description}"),
        }
    }

    /// Uses an object, as whoever keeps to the rules.
    fn uses(&mut self, name: &str) {
        self.send(message(name.as_bytes(), &[(USE, &[])]));
        let (object, events) = self.object();
        assert_eq!(object, name);
        assert!(events.contains(&Event::UseSuccess), "{events:?}");
    }
}

#[derive(Debug)]
enum Heard {
    Object(Message),
    Status(String, String),
}

/// A message of type 19.
fn message(name: &[u8], events: &[(u8, &[u8])]) -> Bytes {
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
fn change(slot: &str, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(slot.len()).expect("short").to_be_bytes();
    [&length[..], slot.as_bytes(), value].concat()
}

/// A long text in AMF0.
fn text(length: u32) -> Vec<u8> {
    let mut value = vec![12];
    value.extend_from_slice(&length.to_be_bytes());
    value.resize(value.len() + length as usize, b'x');
    value
}

#[test]
fn messages_that_make_no_sense_are_answered_and_are_not_taken_for_ever() {
    let mut cluster = small();
    let url = cluster.edges[0].url("live/room");
    let mut client = Client::join(&url);
    let long = [b'x'; 5_000];
    let deep = [10, 0, 0, 0, 1].repeat(10_000);
    let mut nonsense: Vec<Bytes> = [
        &b".."[..],
        b"a/../b",
        b"a//b",
        b"",
        b"a\x07b",
        b"\xff\xfe",
        &long,
    ]
    .iter()
    .map(|name| message(name, &[(USE, &[])]))
    .collect();
    nonsense.push(message(
        b"good",
        &[(USE, &[]), (REQUEST_CHANGE, &change("deep", &deep))],
    ));
    nonsense.push(Bytes::from_static(b"\x00\x04go"));
    for nonsense in &nonsense {
        client.send(nonsense.clone());
        let heard = client.next().expect("a connection");
        let Heard::Status(code, description) = &heard else {
            panic!("{heard:?}");
        };
        assert_eq!(code, "NetConnection.Call.BadVersion");
        assert!(!description.is_empty());
    }
    // It is no worse off for it.
    client.uses("good");
    let closed = (0..32).find_map(|_| {
        client.send(message(b"..", &[(USE, &[])]));
        client.next().err()
    });
    assert!(matches!(closed, Some(ClientError::Closed)), "{closed:?}");
    Client::join(&url).uses("good");
}

#[test]
fn a_client_with_ten_thousand_objects_has_as_many_as_it_may_and_holds_up_nobody() {
    let mut cluster = small();
    let url = cluster.edges[0].url("live/room");
    let mut greedy = Client::join(&url);
    let target = Target::with_name(&url, "").expect("an address");
    let options = ObjectOptions {
        prefix: "of others".to_owned(),
        writers: 4,
        rate: 200,
        ..ObjectOptions::new(MemberOptions {
            count: 4,
            ..MemberOptions::new(vec![target])
        })
    };
    let others = share(options, |_| {
        let (mut used, mut refused) = (0, 0);
        for batch in 0..100 {
            for object in 0..100 {
                let name = format!("object {batch}/{object}");
                greedy.send(message(name.as_bytes(), &[(USE, &[])]));
            }
            for _ in 0..100 {
                let (object, events) = greedy.object();
                match events.as_slice() {
                    [Event::Status { code, level }] => {
                        assert_eq!(&**code, "SharedObject.TooManyObjects", "{object}");
                        assert_eq!(&**level, "error");
                        refused += 1;
                    }
                    events => {
                        assert!(events.contains(&Event::UseSuccess), "{events:?}");
                        used += 1;
                    }
                }
            }
        }
        assert_eq!((used, refused), (MOST, 10_000 - MOST));
    });
    assert!(others.is_without_loss(), "{}", others.table());
    assert!(others.confirmed > 20, "{}", others.table());
    drop(greedy);
    for (node, name) in [
        (
            &mut cluster.edges[0],
            "headwater_edge_shared_object_mirrors",
        ),
        (&mut cluster.origins[0], "headwater_origin_objects"),
    ] {
        until("its objects are let go of", 2 * LIMIT, || {
            node.metric(name) < 1.0
        });
    }
}

#[test]
fn a_value_that_is_too_large_is_refused_and_what_is_not_used_is_not_changed() {
    let mut cluster = small();
    let url = cluster.edges[0].url("live/room");
    let (mut writer, mut reader) = (Client::join(&url), Client::join(&url));
    reader.uses("state");
    // Nobody who does not use it writes to it.
    let small = change("stray", &[1, 1]);
    let one = change("a", &[0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
    for _ in 0..100 {
        writer.send(message(b"state", &[(REQUEST_CHANGE, &small)]));
    }
    writer.uses("state");
    // What is in one message is done, or none of it.
    let large = change("large", &text(65_536));
    let both = [(REQUEST_CHANGE, &large[..]), (REQUEST_CHANGE, &one)];
    writer.send(message(b"state", &both));
    let (_, events) = writer.object();
    let [Event::Status { code, .. }, given_back @ ..] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(code, "SharedObject.ValueTooLarge");
    let mut given_back: Vec<_> = (given_back.iter())
        .map(|event| match event {
            Event::Remove { name } => name.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    given_back.sort();
    assert_eq!(given_back, ["a", "large"]);
    writer.send(message(b"state", &[(REQUEST_CHANGE, &one)]));
    let (_, events) = writer.object();
    let confirmed = events
        .iter()
        .any(|event| matches!(event, Event::Success { name } if name.to_string() == "a"));
    assert!(confirmed, "{events:?}");
    let (_, events) = reader.object();
    let slots: Vec<_> = (events.iter())
        .filter_map(|event| match event {
            Event::Change { name, .. } => Some(name.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(slots, ["a"], "{events:?}");
}
