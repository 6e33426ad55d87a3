//! Shared objects: messages of clients, and an object as a sequence of operations.

use std::collections::VecDeque;

use bytes::Bytes;
use headwater_shared_object::client::{Cursor, Dialect, Served};
use headwater_shared_object::log::LogLimits;
use headwater_shared_object::master::{Greeting, Keeping, Master, MasterLimits, Outcome};
use headwater_shared_object::mirror::{Mirror, MirrorLimits};
use headwater_shared_object::object::{
    ClientId, EdgeIncarnation, Epoch, ObjectName, Operation, Persistence, Refusal, State, Update,
};
use headwater_shared_object::wire::{
    self, DecodeLimits, Encoding, Event, Flags, Message, WireError,
};

/// Bounds that a short input can reach.
fn limits() -> DecodeLimits {
    DecodeLimits {
        values: headwater_amf::Limits {
            depth: 16,
            values: 1_000,
            bytes: 1 << 17,
        },
        events: 200,
    }
}

/// The body of a message, as both types.
pub fn shared_object_wire(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let _ = wire::decode_amf3(&body, limits());
    let message = match wire::decode(&body, limits()) {
        Ok(message) => message,
        Err(error) => {
            assert!(error.offset() <= data.len(), "{error}");
            return;
        }
    };
    assert!(message.events.len() <= limits().events);
    let _ = message.operations();
    // What was read can be written and read again, by those who know AMF3 as it is.
    let written = wire::encode(&message, Encoding::Amf3);
    assert_eq!(again(wire::decode_amf3(&written, whole())), message);
    let plain = wire::encode(&message, Encoding::Amf0);
    let plain = again(wire::decode(&plain, whole()));
    assert_eq!(plain.events.len(), message.events.len());
    let twice = wire::encode(&plain, Encoding::Amf0);
    assert_eq!(again(wire::decode(&twice, whole())), plain);
}

/// Limits that hold whatever was read within the others.
fn whole() -> DecodeLimits {
    DecodeLimits {
        events: limits().events,
        ..DecodeLimits::DEFAULT
    }
}

fn again(decoded: Result<Message, WireError>) -> Message {
    decoded.expect("what was written can be read")
}

/// Operations on one object: an owner, its mirror on an edge, and clients, with what is between them held up, lost and begun anew.
struct Session {
    master: Master,
    mirror: Mirror,
    clients: Vec<Option<Cursor>>,
    /// From the owner, in order.
    down: VecDeque<Told>,
    awaiting: bool,
    name: ObjectName,
}

enum Told {
    State(State),
    Update(Update),
    Refused(u64, Refusal),
}

/// This edge, and another one that is only heard of.
const EDGES: [EdgeIncarnation; 2] = [EdgeIncarnation(1), EdgeIncarnation(2)];

/// Operations that are done at most, so that an input has an end.
const OPERATIONS: usize = 400;

/// An object: the input says what clients ask for and send, what the owner does, and what arrives.
pub fn shared_object(data: &[u8]) {
    let Ok(name) = ObjectName::parse("room") else {
        return;
    };
    let mirror_limits = MirrorLimits {
        log: LogLimits {
            entries: 8,
            bytes: 4_096,
        },
        pending: 6,
        pending_bytes: 8_192,
        removals: 4,
        state_bytes: 1 << 20,
    };
    let mirror = Mirror::new(
        name.clone(),
        Persistence::Persistent,
        EDGES[0],
        mirror_limits,
    );
    let mut session = Session {
        master: Master::new(Keeping::Durable, Epoch(1), master_limits()),
        mirror,
        clients: vec![None; 4],
        down: VecDeque::new(),
        awaiting: false,
        name,
    };
    session.use_object();
    let mut input = data;
    for _ in 0..OPERATIONS {
        let Some((operation, rest)) = input.split_first() else {
            break;
        };
        let length = usize::from(operation >> 3).min(rest.len());
        let (argument, rest) = rest.split_at(length);
        input = rest;
        session.operate(operation & 7, argument);
    }
    session.settle();
}

fn master_limits() -> MasterLimits {
    MasterLimits {
        slots: 6,
        value_bytes: 256,
        object_bytes: 2_048,
        name_bytes: 16,
        removals: 4,
    }
}

impl Session {
    fn use_object(&mut self) {
        let (epoch, version) = self.mirror.known();
        // What is on the way is of the call before.
        self.down.clear();
        self.mirror.handle_disconnect();
        self.awaiting = true;
        match self.master.greet(epoch, version) {
            Greeting::State(state) => {
                self.down
                    .extend(state.chunks(300).into_iter().map(Told::State));
            }
            Greeting::Wanted => panic!("the owner has lost nothing"),
        }
    }

    fn operate(&mut self, operation: u8, argument: &[u8]) {
        let choice = argument.first().copied().unwrap_or(0);
        let client = usize::from(choice) % self.clients.len();
        match operation {
            0 => self.ask(client, argument.get(1..).unwrap_or(&[])),
            1 => self.arrive(),
            2 => self.serve(client),
            3 => self.admit(client, choice),
            4 => self.other(choice, argument.get(1..).unwrap_or(&[])),
            5 => self.use_object(),
            6 => {
                self.mirror.distrust();
                self.use_object();
            }
            _ => self.clients[client] = None,
        }
    }

    /// The events of a message that a client could send: what the input has, behind a head of ours.
    fn message(&self, version: u32, events: &[u8]) -> Option<Message> {
        let empty = Message {
            name: self.name.clone(),
            version,
            flags: Flags(0),
            events: Vec::new(),
        };
        let mut body = wire::encode(&empty, Encoding::Amf0).to_vec();
        // Short forms of what is valid, so that the fuzzer need not find lengths.
        if let Some((&kind, data)) = events.split_first() {
            body.push(kind % 16);
            body.extend((data.len() as u32).to_be_bytes());
            body.extend(data);
        }
        wire::decode(&body.into(), limits()).ok()
    }

    fn ask(&mut self, client: usize, events: &[u8]) {
        let version = u32::from(events.last().copied().unwrap_or(0) & 7);
        let Some(message) = self.message(version, events) else {
            return;
        };
        let Some(cursor) = self.clients[client].as_mut() else {
            return;
        };
        let operations = message.operations();
        if message.events.contains(&Event::Release) {
            self.clients[client] = None;
            return;
        }
        match self.mirror.request(cursor, version, operations.clone()) {
            Ok(request) if !self.awaiting => self.apply(request.number, &request.operations),
            Ok(_) => {}
            Err(refusal) => self.mirror.refuse(cursor, &operations, &refusal),
        }
    }

    fn apply(&mut self, number: u64, operations: &[Operation]) {
        match self.master.apply(EDGES[0], number, operations) {
            Ok(Outcome::Applied(applied)) => self.down.push_back(Told::Update(applied.update)),
            Ok(Outcome::Duplicate) => {}
            Err(refusal) => self.down.push_back(Told::Refused(number, refusal)),
        }
    }

    fn other(&mut self, number: u8, events: &[u8]) {
        let Some(message) = self.message(0, events) else {
            return;
        };
        let outcome = self
            .master
            .apply(EDGES[1], number.into(), &message.operations());
        if let Ok(Outcome::Applied(applied)) = outcome {
            self.down.push_back(Told::Update(applied.update));
        }
    }

    fn arrive(&mut self) {
        match self.down.pop_front() {
            None => {}
            Some(Told::Refused(number, refusal)) => self.mirror.handle_refusal(number, &refusal),
            Some(Told::Update(update)) => {
                self.mirror.handle_update(update).expect("follows");
            }
            Some(Told::State(piece)) => {
                let is_whole = self.mirror.handle_state(piece).expect("fits");
                self.ask_again(is_whole);
            }
        }
    }

    fn ask_again(&mut self, is_whole: bool) {
        if is_whole {
            self.awaiting = false;
            let waiting: Vec<_> = self.mirror.unanswered().cloned().collect();
            for request in waiting {
                self.apply(request.number, &request.operations);
            }
        }
    }

    fn admit(&mut self, client: usize, choice: u8) {
        if !self.mirror.is_ready() {
            return;
        }
        let dialect = if choice & 16 == 0 {
            Dialect::Player
        } else {
            Dialect::Proxy
        };
        let encoding = Encoding::of_object_encoding(u32::from(choice >> 6));
        let version = u32::from(choice >> 5 & 3);
        let (cursor, messages) =
            self.mirror
                .admit(ClientId(client as u64), dialect, encoding, version);
        for message in &messages {
            read(encoding, message);
        }
        self.clients[client] = Some(cursor);
    }

    fn serve(&mut self, client: usize) {
        let Some(cursor) = self.clients[client].as_mut() else {
            return;
        };
        match self.mirror.serve(cursor) {
            Served::Nothing => {}
            Served::One(message) => read(cursor.encoding(), &message),
            Served::Several(messages) => {
                messages
                    .iter()
                    .for_each(|message| read(cursor.encoding(), message));
            }
            Served::Lost => self.clients[client] = None,
        }
    }

    /// Everything arrives: the mirror is as the owner, and clients have nothing left to get.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.down.is_empty() {
                break;
            }
            self.arrive();
        }
        assert!(self.down.is_empty(), "the owner tells without end");
        assert_eq!(self.mirror.unanswered().len(), 0);
        assert_eq!(self.mirror.known(), (Epoch(1), self.master.version()));
        assert!(self.mirror.slots().eq(self.master.slots()));
        assert!(self.master.len() <= master_limits().slots);
        assert!(self.master.bytes() <= master_limits().object_bytes);
        for client in 0..self.clients.len() {
            self.serve(client);
            if let Some(cursor) = &self.clients[client] {
                assert!(!self.mirror.is_behind(cursor));
            }
        }
    }
}

fn read(encoding: Encoding, message: &Bytes) {
    let message = match encoding {
        Encoding::Amf0 => wire::decode(message, whole()),
        Encoding::Amf3 => wire::decode_amf3(message, whole()),
    };
    assert!(!again(message).events.is_empty());
}
