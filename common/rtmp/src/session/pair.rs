//! A client and a server session wired to each other in memory, with a clock that the test turns.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_amf::{Limits, Object, Value};

use super::{SessionError, decode_command};
use crate::chunk::{ChunkReader, ReaderLimits};
use crate::client::{ClientConfig, ClientEvent, ClientSession, ConnectParameters};
use crate::command::{
    Command, ObjectEncoding, PlayLength, PlayReset, PlayStart, PublishMode, TransactionId,
};
use crate::handshake::{PACKET_LENGTH, RandomBlock};
use crate::message::Message;
use crate::server::{ConnectAnswer, ServerConfig, ServerEvent, ServerSession};
use crate::session::SessionLimits;
use crate::status::Status;
use crate::url::RtmpUrl;

pub(crate) const SERVER_RANDOM: RandomBlock = [5; 1528];
pub(crate) const CLIENT_RANDOM: RandomBlock = [9; 1528];

pub(crate) struct Pair {
    pub(crate) server: ServerSession,
    pub(crate) client: ClientSession,
    pub(crate) now: Duration,
    to_server: BytesMut,
    to_client: BytesMut,
    /// Everything each side sent.
    pub(crate) client_sent: Vec<u8>,
    pub(crate) server_sent: Vec<u8>,
    pub(crate) server_events: Vec<ServerEvent>,
    pub(crate) client_events: Vec<ClientEvent>,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with(ServerConfig::default(), ClientConfig::default())
    }

    pub(crate) fn with(server: ServerConfig, client: ClientConfig) -> Self {
        let now = Duration::from_secs(1000);
        Self {
            server: ServerSession::new(server, SERVER_RANDOM, now),
            client: ClientSession::new(client, CLIENT_RANDOM, now),
            now,
            to_server: BytesMut::new(),
            to_client: BytesMut::new(),
            client_sent: Vec::new(),
            server_sent: Vec::new(),
            server_events: Vec::new(),
            client_events: Vec::new(),
        }
    }

    /// A pair whose connection is accepted.
    pub(crate) fn connected() -> Self {
        Self::connected_with(ServerConfig::default(), &parameters())
    }

    pub(crate) fn connected_with(config: ServerConfig, parameters: &ConnectParameters) -> Self {
        let mut pair = Self::with(config, ClientConfig::default());
        pair.client.connect(parameters).unwrap();
        pair.drive();
        assert!(matches!(
            pair.take_server_events()[..],
            [ServerEvent::Connect(_)]
        ));
        pair.server
            .accept_connect(ConnectAnswer::default())
            .unwrap();
        pair.drive();
        assert!(pair.client.is_connected());
        pair.take_client_events();
        pair
    }

    /// Carries bytes until both are silent.
    pub(crate) fn drive(&mut self) {
        self.try_drive().unwrap();
    }

    pub(crate) fn try_drive(&mut self) -> Result<(), SessionError> {
        loop {
            let mut moved = false;
            while let Some(bytes) = self.client.poll_transmit() {
                self.client_sent.extend_from_slice(&bytes);
                self.to_server.extend_from_slice(&bytes);
                moved = true;
            }
            while let Some(bytes) = self.server.poll_transmit() {
                self.server_sent.extend_from_slice(&bytes);
                self.to_client.extend_from_slice(&bytes);
                moved = true;
            }
            if !moved && !self.server.has_more_input() && !self.client.has_more_input() {
                return Ok(());
            }
            let outcome = self.server.handle_input(self.now, &mut self.to_server);
            while let Some(event) = self.server.poll_event() {
                self.server_events.push(event);
            }
            let last_words = outcome.is_err();
            if last_words {
                while let Some(bytes) = self.server.poll_transmit() {
                    self.to_client.extend_from_slice(&bytes);
                }
            }
            let other = self.client.handle_input(self.now, &mut self.to_client);
            while let Some(event) = self.client.poll_event() {
                self.client_events.push(event);
            }
            outcome.and(other)?;
        }
    }

    /// Bytes that the owner of the server session writes between those of the session.
    pub(crate) fn deliver_to_client(&mut self, bytes: &[u8]) {
        self.to_client.extend_from_slice(bytes);
        let outcome = self.client.handle_input(self.now, &mut self.to_client);
        while let Some(event) = self.client.poll_event() {
            self.client_events.push(event);
        }
        outcome.unwrap();
    }

    pub(crate) fn take_server_events(&mut self) -> Vec<ServerEvent> {
        std::mem::take(&mut self.server_events)
    }

    pub(crate) fn take_client_events(&mut self) -> Vec<ClientEvent> {
        std::mem::take(&mut self.client_events)
    }

    /// Makes a message stream. What happened before is forgotten.
    pub(crate) fn create_stream(&mut self) -> u32 {
        self.drive();
        self.take_server_events();
        self.take_client_events();
        self.client.create_stream().unwrap();
        self.drive();
        let events = self.take_client_events();
        let [ClientEvent::StreamCreated { stream_id, .. }] = events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(
            self.take_server_events(),
            [ServerEvent::StreamCreated { stream_id }]
        );
        stream_id
    }

    /// A stream that publishes.
    pub(crate) fn publish(&mut self, name: &str) -> u32 {
        let stream_id = self.create_stream();
        self.client
            .publish(stream_id, name, PublishMode::Live)
            .unwrap();
        self.drive();
        self.server.accept_publish(stream_id).unwrap();
        self.drive();
        self.take_server_events();
        self.take_client_events();
        stream_id
    }

    /// A stream that plays.
    pub(crate) fn play(&mut self, name: &str) -> u32 {
        let stream_id = self.create_stream();
        self.client
            .play(
                stream_id,
                name,
                PlayStart::Live,
                PlayLength::All,
                PlayReset::Reset,
            )
            .unwrap();
        self.drive();
        self.take_server_events();
        stream_id
    }

    /// The codes of the statuses that came to the client, and their streams.
    pub(crate) fn take_codes(&mut self) -> Vec<(u32, String)> {
        self.take_client_events()
            .into_iter()
            .filter_map(|event| match event {
                ClientEvent::Status { stream_id, status } => {
                    Some((stream_id, status.code.into_owned()))
                }
                _ => None,
            })
            .collect()
    }
}

pub(crate) fn parameters() -> ConnectParameters {
    ConnectParameters::new(&RtmpUrl::parse("rtmp://media.example/live/room").unwrap())
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A command on a message stream, as AMF0.
pub(crate) fn command(stream_id: u32, name: &str, transaction: f64, rest: Vec<Value>) -> Message {
    Command::call(name, TransactionId::new(transaction), rest)
        .to_message(ObjectEncoding::Amf0, stream_id)
        .unwrap()
}

pub(crate) fn text(text: &str) -> Value {
    Value::from(text)
}

pub(crate) fn object(entries: &[(&str, Value)]) -> Value {
    let mut object = Object::new();
    for (name, value) in entries {
        object.push(*name, value.clone());
    }
    Value::Object(object)
}

/// The messages in what one side sent, behind its handshake.
pub(crate) fn messages(sent: &[u8]) -> Vec<Message> {
    let mut reader = ChunkReader::new(ReaderLimits::default());
    let mut input = BytesMut::from(&sent[1 + 2 * PACKET_LENGTH..]);
    let mut messages = Vec::new();
    while let Some(message) = reader.handle_input(&mut input).unwrap() {
        messages.push(message);
    }
    assert!(input.is_empty());
    messages
}

/// The commands in what one side sent.
pub(crate) fn commands(sent: &[u8]) -> Vec<(u32, Command)> {
    let limits = SessionLimits {
        amf: Limits::DEFAULT,
        ..SessionLimits::default()
    };
    messages(sent)
        .iter()
        .filter_map(|message| {
            Some((
                message.stream_id,
                decode_command(message, &limits)?.unwrap(),
            ))
        })
        .collect()
}

/// The status in the first argument.
pub(crate) fn status_of(value: &Value) -> Status {
    Status::from_value(value).unwrap()
}

pub(crate) fn bytes(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}
