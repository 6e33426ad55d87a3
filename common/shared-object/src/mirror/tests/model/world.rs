//! Owner, store, edges, and what is on the way between them.

mod owner;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use headwater_amf::Value;

use self::owner::{Accepted, Done, Store};
use super::client::{Client, Map, Sent};
use crate::client::Served;
use crate::log::LogLimits;
use crate::master::{Keeping, Master, MasterLimits};
use crate::mirror::{Mirror, MirrorLimits, OutOfStep, Request};
use crate::object::{
    Assembly, EdgeIncarnation, Epoch, ObjectName, Operation, Persistence, Refusal, State, Update,
    Version,
};
use crate::value::{Arguments, SlotValue};
use crate::wire::Encoding;

/// What happens: a kind and two choices.
pub(super) type Step = (u8, u8, u8);

const EDGES: usize = 3;
const CLIENTS: usize = 3;
/// Kinds of steps.
const KINDS: u8 = 28;

enum ToOwner {
    Use(Epoch, Version),
    Request(Request),
    State(State),
}

#[derive(Clone)]
enum ToEdge {
    State(State),
    Update(Update),
    Refused(u64, Refusal),
    Wanted,
}

struct Edge {
    mirror: Mirror,
    incarnation: EdgeIncarnation,
    /// Counts its calls; what is told to an earlier one is lost.
    call: u32,
    attached: bool,
    /// It has said Use and has no state yet.
    awaiting: bool,
    /// What the owner knows: it gets updates.
    using: bool,
    /// What it said when it used the object, for when its state has come.
    said: (Epoch, Version),
    assembly: Assembly,
    up: VecDeque<ToOwner>,
    down: VecDeque<ToEdge>,
    clients: Vec<Client>,
}

pub(super) struct World {
    keeping: Keeping,
    name: ObjectName,
    master: Master,
    epoch: Epoch,
    store: Store,
    journal: VecDeque<Accepted>,
    edges: Vec<Edge>,
    /// The reference: what was applied, and the object that comes of it.
    done: Vec<Done>,
    map: Map,
    sends: Vec<Sent>,
    /// How much of `done` is durable.
    durable: usize,
    next_client: u64,
    next_send: u64,
    /// Owners have changed where nothing was stored.
    uncertain: bool,
}

fn master_limits() -> MasterLimits {
    MasterLimits {
        slots: 4,
        value_bytes: 64,
        object_bytes: 1 << 16,
        name_bytes: 16,
        removals: 2,
    }
}

fn mirror_limits() -> MirrorLimits {
    MirrorLimits {
        log: LogLimits {
            entries: 7,
            bytes: 1 << 16,
        },
        pending: 4,
        pending_bytes: 1 << 16,
        removals: 2,
        state_bytes: 1 << 16,
    }
}

impl World {
    pub(super) fn new(keeping: Keeping) -> Self {
        let epoch = Epoch(1);
        let name = ObjectName::parse("rooms/1").unwrap();
        let persistence = match keeping {
            Keeping::Temporary => Persistence::Temporary,
            _ => Persistence::Persistent,
        };
        let edges = (0..EDGES).map(|number| {
            let incarnation = EdgeIncarnation(100 + number as u64);
            Edge {
                mirror: Mirror::new(name.clone(), persistence, incarnation, mirror_limits()),
                incarnation,
                call: 0,
                attached: false,
                awaiting: false,
                using: false,
                said: (Epoch(0), Version::NONE),
                assembly: Assembly::new(1 << 16),
                up: VecDeque::new(),
                down: VecDeque::new(),
                clients: (0..CLIENTS)
                    .map(|client| Client::new((number * CLIENTS + client) as u64))
                    .collect(),
            }
        });
        let mut world = Self {
            keeping,
            edges: edges.collect(),
            name,
            master: Master::new(keeping, epoch, master_limits()),
            epoch,
            store: Store::default(),
            journal: VecDeque::new(),
            done: Vec::new(),
            map: Map::new(),
            sends: Vec::new(),
            durable: 0,
            next_client: 1_000,
            next_send: 1,
            uncertain: false,
        };
        for edge in 0..EDGES {
            world.attach(edge);
        }
        world
    }

    pub(super) fn kind(step: &Step) -> u8 {
        step.0 % KINDS
    }

    pub(super) fn step(&mut self, step: Step) {
        let (_, a, b) = step;
        let edge = usize::from(a) % EDGES;
        let client = usize::from(a) / EDGES % CLIENTS;
        match Self::kind(&step) {
            0..=5 => self.ask(edge, client, b),
            6..=9 => self.arrive_at_owner(edge),
            10..=13 => self.arrive_at_edge(edge),
            14..=16 => self.serve(edge, client),
            17..=18 => self.read(edge, client),
            19 => self.flush(),
            20 => self.leave_or_join(edge, client),
            21 => self.own(b),
            22 => self.detach(edge),
            23..=24 => self.attach(edge),
            25 => self.resync(edge),
            26 => self.join_all(edge),
            _ => {
                if b % 4 == 0 {
                    self.fail_over();
                }
            }
        }
        self.compare();
    }

    fn compare(&self) {
        let slots = self.master.slots();
        let slots: Map = slots
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect();
        assert_eq!(slots, self.map, "the owner is as the reference");
    }

    // ---- clients ----

    /// `plain`: without AMF3, which not every client can say.
    fn operations(&mut self, choice: u8, plain: bool) -> Vec<Operation> {
        let slot = |number: u8| -> Arc<str> {
            Arc::from(["a", "b", "c", "d", "e"][usize::from(number) % 5])
        };
        let value = |number: u8| match number % 7 {
            6 if !plain => Value::ByteArray(Bytes::from(vec![number; 2])),
            5 => Value::from("text"),
            _ => Value::Number(f64::from(number % 4)),
        };
        let set = |number: u8| Operation::Set {
            name: slot(number),
            value: SlotValue::new(&value(number / 5)).unwrap(),
        };
        let remove = |number: u8| Operation::Remove { name: slot(number) };
        let mut send = || {
            let number = self.next_send;
            self.next_send += 1;
            let values = [Value::from("handler"), Value::Number(number as f64)];
            Operation::Send {
                arguments: Arguments::new(&values).unwrap(),
            }
        };
        match choice % 16 {
            0..=5 => vec![set(choice)],
            6 => vec![set(choice), set(choice / 2)],
            7 | 8 => vec![remove(choice)],
            9 => vec![set(choice), send(), remove(choice / 2)],
            10 | 11 => vec![send()],
            12 => vec![remove(choice), send(), set(choice / 3), send()],
            13 => vec![Operation::Clear],
            14 => vec![set(choice), Operation::Clear, set(choice / 4)],
            // Too large: refused.
            _ => vec![
                set(choice),
                Operation::Set {
                    name: slot(choice / 2),
                    value: SlotValue::new(&Value::from("x".repeat(80))).unwrap(),
                },
            ],
        }
    }

    fn ask(&mut self, edge: usize, client: usize, choice: u8) {
        if self.edges[edge].clients[client].cursor.is_none() {
            self.leave_or_join(edge, client);
            return;
        }
        let plain = self.edges[edge].clients[client].encoding == Encoding::Amf0;
        let operations = self.operations(choice, plain);
        let edge = &mut self.edges[edge];
        let client = &mut edge.clients[client];
        let message = client.ask(&self.name, &operations);
        let cursor = client.cursor.as_mut().unwrap();
        if choice > 240 {
            edge.mirror
                .refuse(cursor, &message.operations(), &Refusal::NoWriteAccess);
            client.refuse(&operations);
            return;
        }
        match edge
            .mirror
            .request(cursor, message.version, message.operations())
        {
            Ok(request) if edge.attached && !edge.awaiting => {
                edge.up.push_back(ToOwner::Request(request));
            }
            Ok(_) => {}
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Busy);
                edge.mirror.refuse(cursor, &operations, &refusal);
                client.refuse(&operations);
            }
        }
    }

    fn leave_or_join(&mut self, edge: usize, client: usize) {
        let Self { edges, sends, .. } = self;
        let edge = &mut edges[edge];
        let client = &mut edge.clients[client];
        if client.cursor.is_some() {
            let id = self.next_client;
            self.next_client += 1;
            client.again(id);
        } else if edge.mirror.is_ready() {
            let (cursor, messages) =
                edge.mirror
                    .admit(client.id, client.dialect, client.encoding, client.version);
            client.cursor = Some(cursor);
            client.inbox.extend(messages);
            client.since = sends
                .iter()
                .filter(|sent| sent.version <= edge.mirror.version)
                .count();
            client.disturbed = !edge.attached || edge.awaiting;
        }
    }

    fn join_all(&mut self, edge: usize) {
        for client in 0..CLIENTS {
            if self.edges[edge].clients[client].cursor.is_none() {
                self.leave_or_join(edge, client);
            }
        }
    }

    fn serve(&mut self, edge: usize, client: usize) {
        let Edge {
            mirror, clients, ..
        } = &mut self.edges[edge];
        let client = &mut clients[client];
        let Some(cursor) = client.cursor.as_mut() else {
            return;
        };
        if cursor.position < mirror.log.first() {
            client.skipped = true;
        }
        match mirror.serve(cursor) {
            Served::Nothing => {}
            Served::One(message) => client.inbox.push_back(message),
            Served::Several(messages) => client.inbox.extend(messages),
            Served::Lost => {
                let id = self.next_client;
                self.next_client += 1;
                client.again(id);
            }
        }
    }

    fn read(&mut self, edge: usize, client: usize) {
        let client = &mut self.edges[edge].clients[client];
        if let Some(message) = client.inbox.pop_front() {
            client.read(&message, &self.sends);
        }
    }

    // ---- edges ----

    fn attach(&mut self, edge: usize) {
        let edge = &mut self.edges[edge];
        if edge.attached {
            return;
        }
        edge.attached = true;
        edge.call += 1;
        edge.use_object();
    }

    fn detach(&mut self, edge: usize) {
        let edge = &mut self.edges[edge];
        if edge.attached {
            edge.detach();
        }
    }

    /// The edge does not believe its mirror any more.
    fn resync(&mut self, edge: usize) {
        let edge = &mut self.edges[edge];
        // Where nothing is stored, what an edge does not believe may be all that there is.
        if self.keeping == Keeping::Durable && edge.attached && !edge.awaiting {
            edge.mirror.distrust();
            edge.disturb();
            edge.use_object();
        }
    }

    fn arrive_at_edge(&mut self, edge: usize) {
        let edge = &mut self.edges[edge];
        let Some(message) = edge.down.pop_front() else {
            return;
        };
        match message {
            ToEdge::Wanted => {
                for piece in edge.mirror.snapshot().chunks(80) {
                    edge.up.push_back(ToOwner::State(piece));
                }
            }
            ToEdge::Refused(number, refusal) => {
                let refused = edge.mirror.unanswered().find(|held| held.number == number);
                if let Some(request) = refused.cloned() {
                    let asked = edge
                        .clients
                        .iter_mut()
                        .find(|client| client.id == request.client);
                    if let Some(client) = asked {
                        client.refuse(&request.operations);
                    }
                }
                edge.mirror.handle_refusal(number, &refusal);
            }
            ToEdge::Update(update) => {
                let before = edge.mirror.version.plus(u64::from(!update.is_repeated));
                let (is_repeated, head) = (update.is_repeated, edge.mirror.log.head());
                match edge.mirror.handle_update(update) {
                    Ok(()) => assert!(edge.mirror.version >= before),
                    Err(OutOfStep::NoState { .. }) if edge.awaiting => {}
                    Err(error) => panic!("{error}"),
                }
                if is_repeated && edge.mirror.log.head() > head {
                    // It comes late, and also to clients that have joined since.
                    edge.disturb();
                }
            }
            ToEdge::State(piece) => {
                let before = edge.mirror.version;
                if edge.mirror.handle_state(piece).expect("fits") {
                    assert!(edge.mirror.version >= before);
                    if std::mem::take(&mut edge.awaiting) {
                        let repeats = edge.mirror.repeats_after(0).cloned();
                        edge.up.extend(repeats.map(ToOwner::Request));
                        let requests = edge.mirror.unanswered().cloned();
                        edge.up.extend(requests.map(ToOwner::Request));
                    }
                }
            }
        }
    }

    // ---- the end ----

    /// Everything arrives; then everybody has the same.
    pub(super) fn settle(&mut self) {
        for edge in 0..EDGES {
            self.attach(edge);
        }
        for _ in 0..10_000 {
            for edge in 0..EDGES {
                self.arrive_at_owner(edge);
                self.arrive_at_edge(edge);
            }
            self.flush();
            let is_still =
                |edge: &Edge| edge.up.is_empty() && edge.down.is_empty() && !edge.awaiting;
            if self.journal.is_empty() && self.edges.iter().all(is_still) {
                break;
            }
        }
        for edge in 0..EDGES {
            for client in 0..CLIENTS {
                self.serve(edge, client);
                for _ in 0..100 {
                    self.read(edge, client);
                }
            }
        }
        self.compare();
        let owner: Map = self.map.clone();
        let sends: Vec<u64> = self.sends.iter().map(|sent| sent.number).collect();
        for edge in &self.edges {
            let mirror = &edge.mirror;
            assert_eq!(mirror.unanswered().len(), 0, "all was answered");
            assert_eq!(mirror.version, self.master.version());
            let slots: Map = mirror
                .slots()
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect();
            assert_eq!(slots, owner, "mirror of edge {:?}", edge.incarnation);
            for client in &edge.clients {
                assert!(client.inbox.is_empty());
                client.check(&owner, (!self.uncertain).then_some(&sends));
            }
        }
        if self.keeping != Keeping::Temporary && self.store.meta.is_some() {
            let mut rows = Store::default();
            rows.write(self.master.rows());
            // A tenure that has changed nothing has written nothing.
            if self.store.meta.as_ref().map(|meta| meta.epoch) == Some(self.epoch) {
                assert_eq!(self.store.rows, rows.rows);
                assert_eq!(self.store.meta, rows.meta);
            }
        }
    }
}

impl Edge {
    fn use_object(&mut self) {
        let (epoch, version) = self.mirror.known();
        self.awaiting = true;
        self.up.push_back(ToOwner::Use(epoch, version));
    }

    fn detach(&mut self) {
        self.attached = false;
        self.awaiting = false;
        self.using = false;
        self.up.clear();
        self.down.clear();
        self.assembly.reset();
        self.mirror.handle_disconnect();
        self.disturb();
    }

    /// What others send in the meantime does not come, and what does comes late.
    fn disturb(&mut self) {
        for client in &mut self.clients {
            client.disturbed = true;
        }
    }
}
