//! An instance's objects, a store that makes things durable when it is told to, and edges with real mirrors.

use std::collections::{BTreeMap, VecDeque};

use headwater_amf::{Limits, Value};
use headwater_application::Confirm;
use headwater_node::metrics::Metrics;
use headwater_proto::v1::attach_request::Request as Said;
use headwater_shared_object::client::{Cursor, Dialect, Served};
use headwater_shared_object::mirror::{Mirror, MirrorLimits};
use headwater_shared_object::object::{ClientId, EdgeIncarnation, Operation, Refusal, SlotName};
use headwater_shared_object::value::{Arguments, SlotValue};
use headwater_shared_object::wire::{DecodeLimits, Encoding, Event, decode};

use super::super::*;

/// A value of AMF0 with this text.
pub(super) fn text(text: &str) -> SlotValue {
    let mut bytes = vec![2];
    bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
    SlotValue::from_node(&bytes)
}

pub(super) fn set(name: &str, value: &str) -> Operation {
    Operation::Set {
        name: name.into(),
        value: text(value),
    }
}

pub(super) fn send(text: &str) -> Operation {
    Operation::Send {
        arguments: Arguments::new(&[Value::from(text)]).unwrap(),
    }
}

/// What a client says that an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Temporary,
    Persistent,
    Unsaid,
}

impl Kind {
    fn persistence(self) -> Persistence {
        match self {
            Self::Persistent => Persistence::Persistent,
            Self::Temporary | Self::Unsaid => Persistence::Temporary,
        }
    }
}

#[derive(Debug)]
pub(super) struct MirrorSim {
    pub(super) mirror: Mirror,
    cursor: Option<Cursor>,
    kind: Kind,
    /// What is unanswered is to be sent when the state has come.
    resends: bool,
}

/// An edge.
#[derive(Debug)]
pub(super) struct EdgeSim {
    pub(super) incarnation: u64,
    pub(super) call: Option<EdgeCall>,
    pub(super) mirrors: BTreeMap<String, MirrorSim>,
    /// Object, number and code.
    pub(super) refused: Vec<(String, u64, String)>,
    pub(super) wanted: usize,
    pub(super) updates: usize,
}

impl EdgeSim {
    pub(super) fn slots(&self, object: &str) -> Vec<(String, SlotValue)> {
        let mirror = &self.mirrors[object].mirror;
        mirror
            .slots()
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect()
    }

    pub(super) fn value(&self, object: &str, slot: &str) -> Option<SlotValue> {
        self.mirrors[object].mirror.slot(slot).cloned()
    }

    /// What its client has heard that was sent.
    pub(super) fn heard(&mut self, object: &str) -> Vec<String> {
        let sim = self.mirrors.get_mut(object).unwrap();
        let cursor = sim.cursor.as_mut().unwrap();
        let mut messages = Vec::new();
        loop {
            match sim.mirror.serve(cursor) {
                Served::Nothing => break,
                Served::One(message) => messages.push(message),
                Served::Several(several) => messages.extend(several),
                Served::Lost => panic!("the client is lost"),
            }
        }
        let mut heard = Vec::new();
        for message in messages {
            let message = decode(&message, DecodeLimits::default()).unwrap();
            for event in message.events {
                if let Event::Send { arguments } = event {
                    let values = arguments.decode(Limits::default()).unwrap();
                    heard.push(values[0].as_str().unwrap().to_owned());
                }
            }
        }
        heard
    }

    pub(super) fn unanswered(&self, object: &str) -> usize {
        self.mirrors[object].mirror.unanswered().len()
    }
}

pub(super) struct Bench {
    pub(super) now: Instant,
    pub(super) objects: Objects,
    /// What is durable.
    pub(super) rows: BTreeMap<Bytes, Bytes>,
    /// What was written and is not.
    pub(super) writes: VecDeque<Batch>,
    durable: u64,
    loads: VecDeque<(u64, Bytes)>,
    /// Writes become durable, and loads are answered, at once.
    pub(super) is_fast: bool,
    confirm: Confirm,
    pub(super) edges: Vec<EdgeSim>,
    next_call: u64,
    epoch: u64,
    pub(super) policy: SharedObjectsSection,
    pub(super) answers: Vec<Answer>,
    pub(super) changed: Vec<Changed>,
    pub(super) broken: usize,
    pub(super) lost: Option<StateError>,
}

impl Bench {
    pub(super) fn new(edges: u64) -> Self {
        Self::with(edges, |_| {})
    }

    pub(super) fn with(edges: u64, change: impl FnOnce(&mut SharedObjectsSection)) -> Self {
        let mut policy = SharedObjectsSection::default();
        change(&mut policy);
        let edge = |number| EdgeSim {
            incarnation: 1_000 + number,
            call: None,
            mirrors: BTreeMap::new(),
            refused: Vec::new(),
            wanted: 0,
            updates: 0,
        };
        let mut bench = Self {
            now: Instant::now(),
            objects: objects(1, &policy),
            rows: BTreeMap::new(),
            writes: VecDeque::new(),
            durable: 0,
            loads: VecDeque::new(),
            is_fast: true,
            confirm: policy.confirm,
            edges: (0..edges).map(edge).collect(),
            next_call: 1,
            epoch: 1,
            policy,
            answers: Vec::new(),
            changed: Vec::new(),
            broken: 0,
            lost: None,
        };
        bench.objects.store_opened(1);
        for edge in 0..bench.edges.len() {
            bench.attach(edge);
        }
        bench
    }

    /// Another owner, with what is durable; the edges are without one.
    pub(super) fn fail_over(&mut self) {
        self.fail_over_without_store();
        self.objects.store_opened(self.epoch);
    }

    pub(super) fn fail_over_without_store(&mut self) {
        self.epoch += 1;
        self.objects = objects(self.epoch, &self.policy);
        self.writes.clear();
        self.loads.clear();
        self.durable = 0;
        for edge in &mut self.edges {
            edge.call = None;
            for sim in edge.mirrors.values_mut() {
                sim.mirror.handle_disconnect();
            }
        }
    }

    pub(super) fn open_store(&mut self) {
        self.objects.store_opened(self.epoch);
        self.drain();
    }

    /// Calls, and uses again what it has used.
    pub(super) fn attach(&mut self, edge: usize) {
        let call = EdgeCall(self.next_call);
        self.next_call += 1;
        let sim = &mut self.edges[edge];
        sim.call = Some(call);
        self.objects.attach(call, sim.incarnation);
        let names: Vec<String> = sim.mirrors.keys().cloned().collect();
        for name in names {
            self.say_use(edge, &name);
        }
    }

    /// The call breaks, or is ended with everything said.
    pub(super) fn detach(&mut self, edge: usize, is_gone: bool) {
        let sim = &mut self.edges[edge];
        if let Some(call) = sim.call.take() {
            for sim in sim.mirrors.values_mut() {
                sim.mirror.handle_disconnect();
            }
            self.objects.detach(self.now, call, is_gone);
            self.drain();
        }
    }

    pub(super) fn use_object(&mut self, edge: usize, object: &str, kind: Kind) {
        let sim = &mut self.edges[edge];
        let mirror = Mirror::new(
            ObjectName::parse(object).unwrap(),
            kind.persistence(),
            EdgeIncarnation(sim.incarnation),
            MirrorLimits::DEFAULT,
        );
        let mirror = MirrorSim {
            mirror,
            cursor: None,
            kind,
            resends: false,
        };
        sim.mirrors.insert(object.to_owned(), mirror);
        self.say_use(edge, object);
    }

    fn say_use(&mut self, edge: usize, object: &str) {
        let sim = self.edges[edge].mirrors.get_mut(object).unwrap();
        sim.resends = true;
        let (epoch, version) = sim.mirror.known();
        let persistence = sim.mirror.persistence();
        let said = Said::UseObject(v1::UseObject {
            object: Some(named(sim.mirror.name(), persistence)),
            version: version.0,
            epoch: epoch.0,
            as_it_is: sim.kind == Kind::Unsaid,
        });
        self.say(edge, said);
    }

    pub(super) fn release(&mut self, edge: usize, object: &str) {
        let sim = self.edges[edge].mirrors.remove(object).unwrap();
        let object = Some(named(sim.mirror.name(), sim.mirror.persistence()));
        self.say(edge, Said::ReleaseObject(v1::ReleaseObject { object }));
    }

    /// A client of the edge asks for something. What is asked while no owner is there is sent later.
    pub(super) fn request(&mut self, edge: usize, object: &str, operations: Vec<Operation>) {
        let sim = &mut self.edges[edge];
        let mirror = sim.mirrors.get_mut(object).unwrap();
        let Some(cursor) = &mut mirror.cursor else {
            return;
        };
        let request = match mirror.mirror.request(cursor, 0, operations) {
            Ok(request) => request,
            Err(error) => {
                assert_eq!(error, Refusal::Busy);
                return;
            }
        };
        if sim.call.is_some() && !mirror.resends {
            let (name, is) = (mirror.mirror.name(), mirror.mirror.persistence());
            let said = wire::request(name, is, &request);
            self.say(edge, Said::Object(said));
        }
    }

    pub(super) fn say(&mut self, edge: usize, said: Said) {
        if let Some(call) = self.edges[edge].call {
            self.objects.said(self.now, call, said);
            self.drain();
        }
    }

    pub(super) fn command(&mut self, object: &str, persistent: bool, action: Action) -> u64 {
        let command = self.answers.len() as u64 + 1;
        self.objects.command(
            self.now,
            Command {
                command,
                object: object.to_owned(),
                persistent,
                action,
            },
        );
        self.drain();
        command
    }

    /// Makes so many writes durable.
    pub(super) fn make_durable(&mut self, count: usize) {
        self.write_through(count);
        self.drain();
    }

    /// The same, and nobody is told.
    pub(super) fn write_through(&mut self, count: usize) {
        for batch in self.writes.drain(..count.min(self.writes.len())) {
            for (key, value) in batch.rows() {
                match value {
                    Some(value) => self.rows.insert(key.clone(), value.clone()),
                    None => self.rows.remove(key),
                };
            }
            self.durable += 1;
        }
        self.objects.durable(self.now, self.durable);
    }

    pub(super) fn answer_loads(&mut self) {
        self.drain();
        self.load_all();
        self.drain();
    }

    fn load_all(&mut self) {
        while let Some((number, prefix)) = self.loads.pop_front() {
            let rows = self.rows.range(prefix.clone()..);
            let rows = rows.take_while(|(key, _)| key.starts_with(&prefix));
            let rows = rows
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            self.objects.loaded(self.now, number, Ok(rows));
        }
    }

    pub(super) fn fail_loads(&mut self) {
        while let Some((number, _)) = self.loads.pop_front() {
            let error = Err(StateError::unavailable("test"));
            self.objects.loaded(self.now, number, error);
        }
        self.drain();
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        while self.objects.poll_timeout().is_some_and(|at| at <= self.now) {
            self.objects.handle_timeout(self.now);
        }
        self.drain();
    }

    /// Everything comes to its end.
    pub(super) fn settle(&mut self) {
        self.is_fast = true;
        for _ in 0..10 {
            self.answer_loads();
            self.make_durable(usize::MAX);
            for edge in 0..self.edges.len() {
                if self.edges[edge].call.is_none() {
                    self.attach(edge);
                }
            }
        }
        assert!(self.objects.is_settled());
    }

    pub(super) fn master(&mut self, object: &str) -> &headwater_shared_object::master::Master {
        let name = ObjectName::parse(object).unwrap();
        &self.objects.open_object(&name).unwrap().master
    }

    pub(super) fn is_open(&mut self, object: &str) -> bool {
        let name = ObjectName::parse(object).unwrap();
        self.objects.open_object(&name).is_some()
    }

    fn drain(&mut self) {
        loop {
            while let Some(output) = self.objects.poll_output() {
                match output {
                    Output::Tell(call, told) => self.hear(call, told),
                    Output::Break(call) => {
                        self.broken += 1;
                        let edge = self.edges.iter_mut().find(|edge| edge.call == Some(call));
                        if let Some(edge) = edge {
                            edge.call = None;
                            for sim in edge.mirrors.values_mut() {
                                sim.mirror.handle_disconnect();
                            }
                        }
                    }
                    Output::Answer(answer) => self.answers.push(answer),
                    Output::Changed(changed) => self.changed.push(changed),
                    Output::Write(batch) => self.writes.push_back(batch),
                    Output::Load { number, prefix } => self.loads.push_back((number, prefix)),
                    Output::Lost(error) => self.lost = Some(error),
                }
            }
            if !self.is_fast || (self.loads.is_empty() && self.writes.is_empty()) {
                return;
            }
            self.load_all();
            self.write_through(usize::MAX);
        }
    }

    /// The version of the object that is durable.
    fn durable_version(&self, object: &ObjectName) -> u64 {
        let prefix = rows::Keys::new(&name(), object).prefix().clone();
        let mut key = prefix.to_vec();
        key.push(0);
        let row = self.rows.get(&key[..]);
        row.map_or(0, |row| u64::from_be_bytes(row[9..17].try_into().unwrap()))
    }

    fn hear(&mut self, call: EdgeCall, told: Told) {
        let Some(edge) = self.edges.iter().position(|it| it.call == Some(call)) else {
            return;
        };
        let object = match &told {
            Told::ObjectState(told) => told.object.clone(),
            Told::ObjectUpdate(told) => told.object.clone(),
            Told::ObjectRefused(told) => told.object.clone(),
            Told::ObjectWanted(told) => told.object.clone(),
            other => panic!("{other:?}"),
        };
        let object = object.unwrap();
        let version = match &told {
            Told::ObjectState(told) => told.version,
            Told::ObjectUpdate(told) => told.version,
            _ => 0,
        };
        if version > 0 && object.persistent && self.confirm == Confirm::Durable {
            let name = ObjectName::parse(&object.name).unwrap();
            let durable = self.durable_version(&name);
            assert!(
                version <= durable,
                "version {version} was told, {durable} is durable"
            );
        }
        let sim = &mut self.edges[edge];
        if let Told::ObjectRefused(told) = &told {
            let refused = (object.name.clone(), told.number, told.code.clone());
            sim.refused.push(refused);
        }
        let Some(mirror) = sim.mirrors.get_mut(&object.name) else {
            return;
        };
        match told {
            Told::ObjectState(told) => {
                mirror
                    .mirror
                    .set_persistence(wire::persistence(object.persistent));
                let done = mirror.mirror.handle_state(wire::read_state(&told)).unwrap();
                if done && mirror.cursor.is_none() {
                    let client = ClientId(edge as u64 + 1);
                    let (dialect, encoding) = (Dialect::Player, Encoding::Amf0);
                    let (cursor, _) = mirror.mirror.admit(client, dialect, encoding, 0);
                    mirror.cursor = Some(cursor);
                }
                if done && std::mem::take(&mut mirror.resends) {
                    let (name, is) = (mirror.mirror.name(), mirror.mirror.persistence());
                    let again = mirror.mirror.repeats_after(0);
                    let again = again.chain(mirror.mirror.unanswered());
                    let again: Vec<_> = again
                        .map(|request| Said::Object(wire::request(name, is, request)))
                        .collect();
                    for said in again {
                        self.objects.said(self.now, call, said);
                    }
                }
            }
            Told::ObjectUpdate(told) => {
                sim.updates += 1;
                let update = wire::read_update(&told);
                mirror.mirror.handle_update(update).unwrap();
            }
            Told::ObjectRefused(told) if told.number > 0 => {
                let refusal = Refusal::from_code(&told.code, &told.description);
                mirror.mirror.handle_refusal(told.number, &refusal);
            }
            Told::ObjectWanted(_) => {
                sim.wanted += 1;
                let name = mirror.mirror.name().clone();
                let is = mirror.mirror.persistence();
                // Small pieces, so that there are several.
                for piece in mirror.mirror.snapshot().chunks(64) {
                    let said = Said::ObjectState(wire::state(&name, is, &piece));
                    self.objects.said(self.now, call, said);
                }
            }
            _ => {}
        }
    }
}

pub(super) fn name() -> InstanceName {
    InstanceName::new("_default_", "app", "instance").unwrap()
}

fn objects(epoch: u64, policy: &SharedObjectsSection) -> Objects {
    let setup = Setup {
        name: name(),
        epoch,
        grace: Duration::from_secs(10),
    };
    let metrics = ObjectMetrics::new(&Metrics::new("test", "origin"));
    Objects::new(setup, Arc::new(policy.clone()), metrics)
}

pub(super) fn slots_of(
    master: &headwater_shared_object::master::Master,
) -> Vec<(String, SlotValue)> {
    let slots = master.slots();
    slots
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect()
}

pub(super) fn slot_names(found: &Found) -> Vec<&SlotName> {
    found.slots.iter().map(|(name, _)| name).collect()
}
