//! The shared objects of one instance, as a state machine: the owner's side of every mirror that edges have, the handler's view of them,
//! and what becomes rows of the state store.
//!
//! | module | what it holds |
//! |---|---|
//! | `object` | one object: its master, who uses it, what of it is in the store |
//! | `opening` | from a name to an object: looked up in the store, made anew, dropped again |
//! | `using` | what edges say: uses, requests, states |
//! | `commands` | what the handler does |
//! | `line` | what waits until something is durable |
//! | `loading` | reads objects from the store, together |
//! | `rows` | objects as rows of the store |
//! | `hosted` | all that with its store, for the task of an instance |
//! | `metrics` | what is counted |
//!
//! Pure: inputs go in with the time they came; after each one [`Objects::poll_output`] is called until there is nothing, and
//! [`Objects::poll_timeout`] says when [`Objects::handle_timeout`] is due.
//!
//! # The way of a change
//! ```text
//! request ─► room? ─► master ─► Output::Write ─► durable ─► line ─► every edge that uses the object, the handler that watches it
//!              └─ no: refused, in its turn: nothing has changed
//! ```
//! Whether a change is taken is decided before the master has it, by the room in the store and in the line: what a master has taken is
//! written, so that master and store never differ but by what is on its way. Where it cannot be written any more because the store is
//! lost, the whole instance is ([`Output::Lost`]): its masters are thrown away with what was not durable, which nobody has seen.
//!
//! # Invariants
//! - An edge that uses an object gets its state, and then each update once, in order and without a gap, or its call is broken. What is
//!   repeated of before this tenure comes between, and counts for nothing there.
//! - What is confirmed when it is durable is not told to anybody before: updates, states, refusals, what the handler asks.
//! - A name is one object, temporary or persistent. A temporary object stays as long as somebody uses it, or the handler has put something in.
//! - Everything is bounded: objects by the application's limits, what waits in the line by [`LINE_BYTES`], who waits for the store by
//!   [`MAX_ASKS`] for each object and [`LOAD_LIMIT`].

mod commands;
mod hosted;
mod line;
mod loading;
mod metrics;
mod object;
mod opening;
mod rows;
#[cfg(test)]
mod tests;
mod using;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_application::{SharedObjectsSection, wire};
use headwater_media::name::InstanceName;
use headwater_proto::v1;
use headwater_proto::v1::attach_response::Response as Told;
use headwater_shared_object::object::{Epoch, ObjectName, Persistence, Refusal};
use tokio::time::Instant;

#[cfg(test)]
use commands::Found;
pub(crate) use commands::{Action, Answer, Changed, Command};
pub(crate) use hosted::{Hosted, Outcome};
pub(crate) use metrics::ObjectMetrics;

use crate::state::{Batch, StateError};
use line::Line;
use object::Object;
use opening::{Dropped, Loading};

/// The most that waits in the line of an instance, bytes; at half of it no more changes are taken, and beyond it edges that want a
/// state are sent away.
const LINE_BYTES: usize = 64 << 20;

/// How many may wait for one object to be loaded.
const MAX_ASKS: usize = 4_096;

/// How long they wait: for the store to be opened, too.
const LOAD_LIMIT: Duration = Duration::from_secs(10);

/// How long a persistent object stays in memory that nobody uses.
const LINGER: Duration = Duration::from_secs(30);

/// Size of the pieces in which a state goes to an edge, bytes: well below what a message between nodes may have.
const PIECE: usize = 256 << 10;

/// The call of an edge. Named by whoever drives this; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EdgeCall(pub(crate) u64);

/// A client of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Author {
    /// Of the edge.
    pub(crate) incarnation: u64,
    /// Its number there.
    pub(crate) client: u64,
}

/// Whose objects they are.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) name: InstanceName,
    /// Of the instance's tenure here: that of temporary objects.
    pub(crate) epoch: u64,
    /// How long a temporary object stays when the call of the last edge that used it broke: it may come back.
    pub(crate) grace: Duration,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    Tell(EdgeCall, Told),
    /// The call is to end, and may be made again: the edge says what makes no sense, or there is no more room for what it wants.
    Break(EdgeCall),
    /// For the handler, in order with [`Output::Changed`].
    Answer(Answer),
    Changed(Changed),
    /// To be written now, whatever is under way. [`Objects::durable`] counts these.
    Write(Batch),
    /// The rows that begin with `prefix` are wanted: [`Objects::loaded`] with the same number.
    Load {
        number: u64,
        prefix: Bytes,
    },
    /// The store is lost, and with it the instance: all calls end. Nothing comes after it.
    Lost(StateError),
}

/// The objects of one instance.
pub(crate) struct Objects {
    setup: Setup,
    policy: Arc<SharedObjectsSection>,
    edges: HashMap<EdgeCall, Edge>,
    objects: HashMap<ObjectName, Place>,
    /// Names by the number of their load.
    loads: HashMap<u64, ObjectName>,
    next_load: u64,
    dropped: Dropped,
    store: Store,
    line: Line,
    /// When something of an object is due.
    deadlines: BTreeSet<(Instant, ObjectName)>,
    outputs: VecDeque<Output>,
    metrics: ObjectMetrics,
}

/// An attached edge.
#[derive(Debug)]
struct Edge {
    incarnation: u64,
    uses: BTreeSet<ObjectName>,
}

/// Where a name is.
#[derive(Debug)]
enum Place {
    Loading(Loading),
    Open(Box<Object>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    /// Not open yet.
    Absent,
    Open {
        epoch: Epoch,
        /// Whether it takes changes.
        has_room: bool,
    },
    Lost,
}

impl Objects {
    pub(crate) fn new(
        setup: Setup,
        policy: Arc<SharedObjectsSection>,
        metrics: ObjectMetrics,
    ) -> Self {
        Self {
            setup,
            policy,
            edges: HashMap::new(),
            objects: HashMap::new(),
            loads: HashMap::new(),
            next_load: 1,
            dropped: Dropped::default(),
            store: Store::Absent,
            line: Line::default(),
            deadlines: BTreeSet::new(),
            outputs: VecDeque::new(),
            metrics,
        }
    }

    /// What the application allows has changed. Objects that are open keep their limits.
    pub(crate) fn set_policy(&mut self, policy: Arc<SharedObjectsSection>) {
        self.policy = policy;
    }

    /// An edge has attached.
    pub(crate) fn attach(&mut self, call: EdgeCall, incarnation: u64) {
        let edge = Edge {
            incarnation,
            uses: BTreeSet::new(),
        };
        self.edges.insert(call, edge);
    }

    /// The call of an edge has ended. With `is_gone` the edge has said that it uses nothing more, and else it may come back.
    pub(crate) fn detach(&mut self, now: Instant, call: EdgeCall, is_gone: bool) {
        let Some(edge) = self.edges.remove(&call) else {
            return;
        };
        let grace = if is_gone {
            Duration::ZERO
        } else {
            self.setup.grace
        };
        for name in edge.uses {
            self.unuse(now, call, &name, grace);
        }
    }

    /// The store can be used, in a tenure of its own.
    pub(crate) fn store_opened(&mut self, epoch: u64) {
        if self.store != Store::Absent {
            return;
        }
        self.store = Store::Open {
            epoch: Epoch(epoch),
            has_room: true,
        };
        self.load_waiting();
    }

    /// Whether the store takes changes. To be said before anything else goes in, as it is then.
    pub(crate) fn store_has_room(&mut self, now_has_room: bool) {
        if let Store::Open { has_room, .. } = &mut self.store {
            *has_room = now_has_room;
        }
    }

    /// So many [`Output::Write`] are durable, in all.
    pub(crate) fn durable(&mut self, now: Instant, writes: u64) {
        self.line.durable(writes);
        while let Some(entry) = self.line.pop() {
            if let Some(Place::Open(object)) = self.objects.get_mut(&entry.object) {
                object.lined = object.lined.saturating_sub(1);
            }
            self.emit(&entry.object, entry.sequence, entry.due);
            self.settle(now, &entry.object, LINGER);
        }
        // Those whose last change nobody waited for.
        for name in self.line.settled() {
            self.settle(now, &name, LINGER);
        }
    }

    /// The store is lost.
    pub(crate) fn lost(&mut self, error: StateError) {
        if self.store == Store::Lost {
            return;
        }
        self.store = Store::Lost;
        self.uncount();
        self.objects.clear();
        self.deadlines.clear();
        self.line = Line::default();
        self.outputs.clear();
        self.outputs.push_back(Output::Lost(error));
    }

    /// Takes what there is off the count that all instances share.
    fn uncount(&self) {
        let objects = i64::try_from(self.objects.len()).unwrap_or(i64::MAX);
        self.metrics.objects.dec_by(objects);
    }

    /// Whether all that was taken is durable and was told.
    pub(crate) fn is_settled(&self) -> bool {
        self.line.is_settled()
    }

    /// Number of objects in memory.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// When [`Objects::handle_timeout`] is due.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, name)) = self.deadlines.pop_first() {
            if at > now {
                self.deadlines.insert((at, name));
                break;
            }
            match self.objects.get_mut(&name) {
                Some(Place::Loading(_)) => {
                    let late = StateError::unavailable("it was not loaded in time");
                    self.load_failed(now, &name, &late);
                }
                Some(Place::Open(object)) => {
                    object.deadline = None;
                    if object.is_unused() {
                        self.remove(&name);
                    }
                }
                None => {}
            }
        }
    }

    #[must_use]
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn tell(&mut self, call: EdgeCall, told: Told) {
        self.outputs.push_back(Output::Tell(call, told));
    }

    fn refuse(&mut self, call: EdgeCall, object: v1::ObjectName, number: u64, refusal: &Refusal) {
        self.metrics.refused.inc();
        let refused = v1::ObjectRefused {
            object: Some(object),
            number,
            code: refusal.code().to_owned(),
            description: refusal.to_string(),
        };
        self.tell(call, Told::ObjectRefused(refused));
    }

    fn open_object(&mut self, name: &ObjectName) -> Option<&mut Object> {
        match self.objects.get_mut(name) {
            Some(Place::Open(object)) => Some(object),
            _ => None,
        }
    }

    /// Whether a change of an object is taken that is kept in the store.
    fn has_room(&self) -> bool {
        matches!(self.store, Store::Open { has_room: true, .. })
            && self.line.bytes() < LINE_BYTES / 2
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        self.uncount();
    }
}

/// What cannot be done now because of the store.
fn unavailable(why: &str) -> Refusal {
    Refusal::Other {
        code: "SharedObject.Unavailable".into(),
        description: why.into(),
    }
}

/// As edges name it.
fn named(name: &ObjectName, persistence: Persistence) -> v1::ObjectName {
    wire::object_name(name, persistence)
}
