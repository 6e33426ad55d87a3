//! From a name to an object: looked up in the store, made anew, dropped again.
//!
//! A name is looked up also for who wants it to be temporary: there may be a persistent object of it. Where the store is not open, or does
//! not answer in time, a temporary object is made all the same; applications go on without the store. Who wants a persistent one waits
//! for [`LOAD_LIMIT`] and is refused then.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use headwater_application::{Confirm, Unsaid};
use headwater_shared_object::master::{Keeping, Master, MasterLimits};
use headwater_shared_object::object::{
    Epoch, ObjectName, Operation, Persistence, Refusal, Version,
};
use tokio::time::Instant;

use super::object::Object;
use super::rows::{Keys, Stored, name_of};
use super::{
    Answer, Author, Command, EdgeCall, LINGER, LOAD_LIMIT, MAX_ASKS, Objects, Output, Place, Store,
    named, unavailable,
};
use crate::state::StateError;

/// Longest name of a slot, bytes: it is part of a row's key.
const MAX_SLOT_NAME: usize = 1_024;

/// Temporary objects that are remembered one by one when they are gone.
const MAX_DROPPED: usize = 10_000;

/// What somebody wants of an object.
#[derive(Debug)]
pub(super) enum Ask {
    Use {
        call: EdgeCall,
        /// What its mirror has.
        known: (Epoch, Version),
        /// None: whatever it is.
        asked: Option<Persistence>,
    },
    Request {
        call: EdgeCall,
        persistence: Persistence,
        number: u64,
        author: Author,
        operations: Vec<Operation>,
    },
    Command(Command),
}

impl Ask {
    fn asked(&self) -> Option<Persistence> {
        match self {
            Self::Use { asked, .. } => *asked,
            Self::Request { persistence, .. } => Some(*persistence),
            Self::Command(command) => Some(command.persistence()),
        }
    }
}

/// Looked for in the store, or waiting for it.
#[derive(Debug)]
pub(super) struct Loading {
    /// None: the store is not open.
    load: Option<u64>,
    pub(super) asks: Vec<Ask>,
    until: Instant,
}

/// Temporary objects of this tenure that are gone: when they come again, their versions go on.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    versions: HashMap<ObjectName, Version>,
    /// At least that of any that is not remembered by its name.
    floor: Version,
}

impl Dropped {
    fn note(&mut self, name: &ObjectName, version: Version) {
        if version == Version::NONE {
            return;
        }
        if self.versions.len() >= MAX_DROPPED {
            let newest = self.versions.values().max().copied();
            self.floor = self.floor.max(newest.unwrap_or_default());
            self.versions.clear();
        }
        self.versions.insert(name.clone(), version);
    }

    fn take(&mut self, name: &ObjectName) -> Option<Version> {
        let remembered = self.versions.remove(name);
        remembered.or_else(|| (self.floor > Version::NONE).then_some(self.floor))
    }
}

impl Objects {
    pub(super) fn ask(&mut self, now: Instant, name: &ObjectName, ask: Ask) {
        let is_full = self.objects.len() >= self.policy.max_objects;
        match self.objects.get_mut(name) {
            Some(Place::Open(_)) => self.answer(now, name, ask),
            Some(Place::Loading(loading)) if loading.asks.len() < MAX_ASKS => {
                loading.asks.push(ask);
            }
            Some(Place::Loading(_)) => self.refuse_ask(name, ask, &Refusal::Busy),
            None if is_full => {
                let full = Refusal::Other {
                    code: "SharedObject.TooManyObjects".into(),
                    description: "as many objects are in use as the application allows".into(),
                };
                self.refuse_ask(name, ask, &full);
            }
            None => self.look_for(now, name, ask),
        }
    }

    fn look_for(&mut self, now: Instant, name: &ObjectName, ask: Ask) {
        let is_absent = self.store == Store::Absent;
        if is_absent && self.would_be(&ask) == Persistence::Temporary {
            self.make(name, Persistence::Temporary, None);
            self.answer(now, name, ask);
            return;
        }
        let until = now + LOAD_LIMIT;
        let loading = Loading {
            load: None,
            asks: vec![ask],
            until,
        };
        self.deadlines.insert((until, name.clone()));
        self.place(name, Place::Loading(loading));
        if !is_absent {
            self.load(name);
        }
    }

    /// What an object is that is new with this.
    fn would_be(&self, ask: &Ask) -> Persistence {
        ask.asked().unwrap_or(match self.policy.unsaid {
            Unsaid::Temporary => Persistence::Temporary,
            Unsaid::Persistent => Persistence::Persistent,
        })
    }

    fn load(&mut self, name: &ObjectName) {
        let Some(Place::Loading(loading)) = self.objects.get_mut(name) else {
            return;
        };
        let number = self.next_load;
        self.next_load += 1;
        loading.load = Some(number);
        self.loads.insert(number, name.clone());
        let prefix = Keys::new(&self.setup.name, name).prefix().clone();
        self.outputs.push_back(Output::Load { number, prefix });
        self.metrics.loads.inc();
    }

    pub(super) fn load_waiting(&mut self) {
        let waits = |(name, place): (&ObjectName, &Place)| match place {
            Place::Loading(loading) if loading.load.is_none() => Some(name.clone()),
            _ => None,
        };
        let names: Vec<ObjectName> = self.objects.iter().filter_map(waits).collect();
        for name in &names {
            self.load(name);
        }
    }

    /// Whether what [`Output::Load`] wants is wanted still. If not, it is not looked for any more.
    pub(super) fn is_wanted(&mut self, number: u64) -> bool {
        let Some(name) = self.loads.get(&number).cloned() else {
            return false;
        };
        let asks = match self.objects.get(&name) {
            Some(Place::Loading(loading)) if loading.load == Some(number) => loading.asks.len(),
            // It was too late.
            _ => {
                self.loads.remove(&number);
                return false;
            }
        };
        if asks == 0 {
            self.loads.remove(&number);
            self.remove(&name);
        }
        asks > 0
    }

    /// What [`Output::Load`] has found.
    pub(crate) fn loaded(
        &mut self,
        now: Instant,
        number: u64,
        found: Result<Vec<(Bytes, Bytes)>, StateError>,
    ) {
        let Some(name) = self.loads.remove(&number) else {
            return;
        };
        match self.objects.get(&name) {
            Some(Place::Loading(loading)) if loading.load == Some(number) => {}
            // It was too late.
            _ => return,
        }
        let read = found.and_then(|rows| {
            let keys = Keys::new(&self.setup.name, &name);
            keys.read(&rows).map_err(StateError::corrupt)
        });
        let stored = match read {
            Ok(stored) => stored,
            Err(error) => return self.load_failed(now, &name, &error),
        };
        if let Some(Place::Loading(loading)) = self.objects.get(&name) {
            let took = LOAD_LIMIT.saturating_sub(loading.until.saturating_duration_since(now));
            self.metrics.load_seconds.observe(took.as_secs_f64());
        }
        let asks = self.loading_asks(&name);
        let Some(first) = asks.first() else {
            self.remove(&name);
            return;
        };
        let persistence = match &stored {
            Some(_) => Persistence::Persistent,
            None => self.would_be(first),
        };
        self.make(&name, persistence, stored);
        self.answer_all(now, &name, asks);
    }

    /// Those who have waited for an object that is there now.
    fn answer_all(&mut self, now: Instant, name: &ObjectName, asks: Vec<Ask>) {
        if let Some(object) = self.open_object(name) {
            object.is_new = true;
        }
        for ask in asks {
            self.answer(now, name, ask);
        }
        if let Some(object) = self.open_object(name) {
            object.is_new = false;
        }
        self.settle(now, name, Duration::ZERO);
    }

    pub(super) fn load_failed(&mut self, now: Instant, name: &ObjectName, error: &StateError) {
        self.metrics.load_failures.inc();
        tracing::warn!(instance = %self.setup.name, object = %name, %error, "a shared object was not loaded");
        let asks = self.loading_asks(name);
        let (temporary, persistent): (Vec<_>, Vec<_>) = asks
            .into_iter()
            .partition(|ask| self.would_be(ask) == Persistence::Temporary);
        for ask in persistent {
            let refusal = unavailable("the store of the object is not available");
            self.refuse_ask(name, ask, &refusal);
        }
        if temporary.is_empty() {
            self.remove(name);
            return;
        }
        self.make(name, Persistence::Temporary, None);
        self.answer_all(now, name, temporary);
    }

    /// Who waits for it; nobody does any more.
    fn loading_asks(&mut self, name: &ObjectName) -> Vec<Ask> {
        let Some(Place::Loading(loading)) = self.objects.get_mut(name) else {
            return Vec::new();
        };
        self.deadlines.remove(&(loading.until, name.clone()));
        std::mem::take(&mut loading.asks)
    }

    /// Makes the object, of what is stored of it.
    fn make(&mut self, name: &ObjectName, persistence: Persistence, stored: Option<Stored>) {
        let policy = &self.policy;
        let limits = MasterLimits {
            slots: policy.max_slots,
            value_bytes: policy.max_slot_bytes,
            object_bytes: policy.max_object_bytes,
            name_bytes: MAX_SLOT_NAME,
            removals: policy.remembered_removals,
        };
        let keeping = match (persistence, policy.confirm) {
            (Persistence::Temporary, _) => Keeping::Temporary,
            (Persistence::Persistent, Confirm::Durable) => Keeping::Durable,
            (Persistence::Persistent, Confirm::AtOnce) => Keeping::AtOnce,
        };
        let epoch = match (persistence, self.store) {
            (Persistence::Persistent, Store::Open { epoch, .. }) => epoch,
            _ => Epoch(self.setup.epoch),
        };
        let mut names = std::collections::HashSet::new();
        let master = match stored {
            Some(stored) => {
                names.extend(stored.rows.iter().map(name_of).cloned());
                Master::load(keeping, epoch, limits, &stored.meta, stored.rows)
            }
            None => match self.dropped.take(name) {
                Some(had) if keeping == Keeping::Temporary => {
                    Master::again(keeping, epoch, limits, had)
                }
                _ => Master::new(keeping, epoch, limits),
            },
        };
        let keys = Keys::new(&self.setup.name, name);
        let object = Object::new(keys, master, names);
        self.place(name, Place::Open(Box::new(object)));
    }

    fn place(&mut self, name: &ObjectName, place: Place) {
        if self.objects.insert(name.clone(), place).is_none() {
            self.metrics.objects.inc();
        }
    }

    pub(super) fn remove(&mut self, name: &ObjectName) {
        let Some(place) = self.objects.remove(name) else {
            return;
        };
        self.metrics.objects.dec();
        let deadline = match &place {
            Place::Loading(loading) => Some(loading.until),
            Place::Open(object) => object.deadline,
        };
        if let Some(at) = deadline {
            self.deadlines.remove(&(at, name.clone()));
        }
        if let Place::Open(object) = place
            && !object.is_persistent()
        {
            self.dropped.note(name, object.master.version());
        }
    }

    /// Drops an object after a while if nobody uses it, or leaves it if somebody does.
    pub(super) fn settle(&mut self, now: Instant, name: &ObjectName, after: Duration) {
        let Some(Place::Open(object)) = self.objects.get_mut(name) else {
            return;
        };
        object.is_durable = self.line.is_durable(object.written);
        if !object.is_unused() {
            if let Some(at) = object.deadline.take() {
                self.deadlines.remove(&(at, name.clone()));
            }
        } else if object.deadline.is_none() {
            let after = if object.is_persistent() {
                LINGER
            } else {
                after
            };
            if after.is_zero() {
                self.remove(name);
                return;
            }
            let at = now + after;
            object.deadline = Some(at);
            self.deadlines.insert((at, name.clone()));
        }
    }

    pub(super) fn refuse_ask(&mut self, name: &ObjectName, ask: Ask, refusal: &Refusal) {
        let asked = self.would_be(&ask);
        match ask {
            Ask::Use { call, .. } => {
                if let Some(edge) = self.edges.get_mut(&call) {
                    edge.uses.remove(name);
                    self.refuse(call, named(name, asked), 0, refusal);
                }
            }
            Ask::Request { call, number, .. } => {
                if self.edges.contains_key(&call) {
                    self.refuse(call, named(name, asked), number, refusal);
                }
            }
            Ask::Command(command) => {
                if command.command != 0 {
                    self.outputs.push_back(Output::Answer(Answer {
                        command: command.command,
                        result: Err(refusal.clone()),
                    }));
                }
            }
        }
    }
}
