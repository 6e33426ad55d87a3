//! An edge's copy of an object: what its clients read, what they have asked for, and the log that they are served from.
//!
//! ```text
//!            request ──► unanswered ──► owner ──► update ──► slots ──► log ──► serve (each client, from its cursor)
//! client ──► refuse ─────────────────────────────────────────────────►
//! ```
//!
//! # Drain invariant
//! After anything that goes in (`handle_*`, [`Mirror::request`], [`Mirror::refuse`]) clients may be behind: call [`Mirror::serve`] for each
//! one that has room. A client without room is left alone, and gets what it missed in one piece later. Nothing is kept for a client
//! but its [`Cursor`].
//!
//! # Owners come and go
//! Requests stay in [`Mirror::unanswered`] until an update, a refusal or the applied numbers of a state answer them. After a break:
//! [`Mirror::handle_disconnect`], use the object again with [`Mirror::known`], feed the state, send what is unanswered. What the state
//! differs in from what clients have comes to them as changes. A request that was applied before the break, whose update did not come, is
//! confirmed from here, with what it sent; and what it sent goes to the owner once more ([`Mirror::repeats_after`]), for mirrors that have
//! not heard of it, together with what its requests have sent in the moment before. What was sent by an edge that does not come back is
//! lost where it was not heard.

mod serve;
mod states;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use self::serve::Cache;
use crate::client::{Cursor, Dialect};
use crate::content::{AppliedNumbers, Content};
use crate::log::{Answer, AnswerKind, Entry, Log, LogLimits, Standing};
use crate::object::{
    Assembly, AssemblyError, ClientId, EdgeIncarnation, Epoch, ObjectName, Operation, Persistence,
    Refusal, RequestId, SlotName, State, Update, Version,
};
use crate::value::SlotValue;
use crate::wire::Encoding;

/// What a mirror may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MirrorLimits {
    /// The log that clients are served from.
    pub log: LogLimits,
    /// Requests without an answer: more are refused as [`Refusal::Busy`].
    pub pending: usize,
    /// Bytes of their operations.
    pub pending_bytes: usize,
    /// Removals that are remembered.
    pub removals: usize,
    /// Bytes of a whole state: names, values, removals, and some for each.
    pub state_bytes: usize,
}

impl MirrorLimits {
    /// 1,024 requests and 16 MiB of them, 1,024 removals, states of 64 MiB.
    pub const DEFAULT: Self = Self {
        log: LogLimits::DEFAULT,
        pending: 1_024,
        pending_bytes: 16 << 20,
        removals: 1_024,
        state_bytes: 64 << 20,
    };
}

impl Default for MirrorLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A request for the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Counts the edge's requests for this object from 1.
    pub number: u64,
    /// The client that wants it.
    pub client: ClientId,
    /// What it wants.
    pub operations: Arc<[Operation]>,
}

/// Repeats that wait for an owner; the oldest go first.
const MAX_REPEATS: usize = 64;

/// Requests that have sent something, and were answered, which are repeated after a break: those of a moment.
const MAX_SENT: usize = 32;

/// Bytes of them, but for the last.
const MAX_SENT_BYTES: usize = 64 << 10;

impl Request {
    fn cost(&self) -> usize {
        self.operations.iter().map(Operation::cost).sum()
    }

    /// What it sends, without what it changes. `None`: nothing.
    fn sends(&self) -> Option<Self> {
        let operations = self.operations.iter().filter(|it| it.is_send());
        let operations: Arc<[Operation]> = operations.cloned().collect();
        (!operations.is_empty()).then(|| Self {
            number: self.number,
            client: self.client,
            operations,
        })
    }
}

/// What the owner sent does not follow what the mirror has: [`Mirror::distrust`] it, and use the object again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutOfStep {
    /// An update of another version than the next.
    #[error("update of version {found} follows version {have}")]
    Version {
        /// What the mirror has.
        have: Version,
        /// What came.
        found: Version,
    },
    /// An update before the state, or between its pieces.
    #[error("update of version {found} before the state is complete")]
    NoState {
        /// What came.
        found: Version,
    },
    /// A difference that does not begin where the mirror is, or ends before it.
    #[error("difference from version {since} to {version} does not fit a mirror of version {have}")]
    Difference {
        /// What the mirror has.
        have: Version,
        /// Where the difference begins.
        since: Version,
        /// Where it ends.
        version: Version,
    },
    /// An answer to this edge that leaves out an earlier request.
    #[error("answer to request {found} before that to request {expected}")]
    Answer {
        /// The request that waits longest.
        expected: u64,
        /// The one that was answered.
        found: u64,
    },
    /// The pieces of the state do not fit together.
    #[error(transparent)]
    Pieces(#[from] AssemblyError),
}

/// A request without an answer.
#[derive(Debug)]
struct Pending {
    request: Request,
    /// Before this position of the log the client has seen everything; 0: nothing is known.
    seen: u64,
    cost: usize,
}

/// An edge's copy of an object.
#[derive(Debug)]
pub struct Mirror {
    name: ObjectName,
    persistence: Persistence,
    /// This edge.
    edge: EdgeIncarnation,
    limits: MirrorLimits,
    /// Marks are positions in the log.
    content: Content,
    epoch: Epoch,
    version: Version,
    /// It has had a state.
    ready: bool,
    /// `content` is what an owner has had at `version`.
    trusted: bool,
    applied: AppliedNumbers,
    /// Requests whose updates came, or that were applied before this was there.
    heard: AppliedNumbers,
    /// What is to be sent again for others.
    repeats: VecDeque<Request>,
    /// What this edge's requests have sent lately. Its owner may have told this edge of it, and no other.
    sent: VecDeque<Request>,
    assembly: Assembly,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    next_number: u64,
    log: Log,
    cache: Cache,
}

impl Mirror {
    /// A mirror that knows nothing yet. `edge` is the edge's own incarnation.
    pub fn new(
        name: ObjectName,
        persistence: Persistence,
        edge: EdgeIncarnation,
        limits: MirrorLimits,
    ) -> Self {
        Self {
            name,
            persistence,
            edge,
            limits,
            content: Content::new(limits.removals),
            epoch: Epoch::default(),
            version: Version::NONE,
            ready: false,
            trusted: false,
            applied: AppliedNumbers::default(),
            heard: AppliedNumbers::default(),
            repeats: VecDeque::new(),
            sent: VecDeque::new(),
            assembly: Assembly::new(limits.state_bytes),
            pending: VecDeque::new(),
            pending_bytes: 0,
            next_number: 1,
            log: Log::new(limits.log),
            cache: Cache::default(),
        }
    }

    /// The object's name.
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    /// Whether the object is kept.
    pub fn persistence(&self) -> Persistence {
        self.persistence
    }

    /// For an edge that did not say it when it used the object: the owner has now.
    pub fn set_persistence(&mut self, persistence: Persistence) {
        if self.persistence != persistence {
            self.persistence = persistence;
            self.cache.clear();
        }
    }

    /// What the edge says when it uses the object, again or for the first time: zeros where it knows nothing.
    pub fn known(&self) -> (Epoch, Version) {
        if self.trusted {
            (self.epoch, self.version)
        } else {
            (Epoch::default(), Version::NONE)
        }
    }

    /// Whether it has had a state: clients can be admitted.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.content.len()
    }

    /// Whether there are no slots.
    pub fn is_empty(&self) -> bool {
        self.content.len() == 0
    }

    /// Value of a slot.
    pub fn slot(&self, name: &str) -> Option<&SlotValue> {
        self.content.get(name).map(|held| &held.value)
    }

    /// All slots, in the order of their names.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = (&str, &SlotValue)> {
        self.content
            .slots()
            .map(|(name, held)| (&**name, &held.value))
    }

    /// Takes an update.
    ///
    /// # Errors
    /// [`OutOfStep`]: [`Mirror::distrust`] it and use the object again.
    pub fn handle_update(&mut self, update: Update) -> Result<(), OutOfStep> {
        let Update {
            version,
            request,
            operations,
            is_repeated,
        } = update;
        if is_repeated {
            self.hear_again(request, operations);
            return Ok(());
        }
        if !self.trusted || self.assembly.is_partial() {
            return Err(OutOfStep::NoState { found: version });
        }
        if version != self.version.plus(1) {
            return Err(OutOfStep::Version {
                have: self.version,
                found: version,
            });
        }
        let own = request.filter(|request| request.edge == self.edge);
        let mut answer = None;
        if let Some(own) = own {
            let first = self.pending.front().map(|first| first.request.number);
            if let Some(expected) = first.filter(|first| *first < own.number) {
                return Err(OutOfStep::Answer {
                    expected,
                    found: own.number,
                });
            }
            // Without one, this edge had asked before it forgot the object.
            answer = self
                .pending
                .pop_front_if(|first| first.request.number == own.number);
            self.next_number = self.next_number.max(own.number.saturating_add(1));
        }
        let mark = self.log.head();
        for operation in operations.iter() {
            self.content.apply(operation, version, mark);
        }
        if let Some(request) = request {
            self.applied.note(request.edge, request.number);
            self.heard.note(request.edge, request.number);
        }
        self.version = version;
        let answer = answer.map(|pending: Pending| {
            self.pending_bytes -= pending.cost;
            self.note_sent(&pending.request);
            self.confirmation(&pending)
        });
        self.append(Entry {
            version,
            operations,
            answer,
        });
        Ok(())
    }

    /// What was sent before a break: clients get it, unless they have it.
    fn hear_again(&mut self, request: Option<RequestId>, sent: Arc<[Operation]>) {
        let Some(RequestId { edge, number }) = request else {
            return;
        };
        if edge == self.edge {
            self.repeats.retain(|it| it.number > number);
            return;
        }
        if !self.ready || number <= self.heard.number(edge) {
            return;
        }
        self.heard.note(edge, number);
        self.append(Entry {
            version: self.version,
            operations: sent,
            answer: None,
        });
    }

    /// To be made before its entry is appended.
    fn confirmation(&self, pending: &Pending) -> Answer {
        let Request {
            client, operations, ..
        } = &pending.request;
        Answer {
            client: *client,
            kind: AnswerKind::Confirmed {
                restated: self.log.restated(*client, operations, pending.seen),
                requested: operations.clone(),
            },
        }
    }

    /// Takes the owner's refusal of a request. One that is not waiting for an answer changes nothing.
    pub fn handle_refusal(&mut self, number: u64, refusal: &Refusal) {
        let is_it = |pending: &Pending| pending.request.number == number;
        let Some(at) = self.pending.iter().position(is_it) else {
            return;
        };
        if let Some(pending) = self.pending.remove(at) {
            self.pending_bytes -= pending.cost;
            self.refused(pending.request.client, &pending.request.operations, refusal);
        }
    }

    fn refused(&mut self, client: ClientId, operations: &[Operation], refusal: &Refusal) {
        self.append(Entry {
            version: self.version,
            operations: Arc::new([]),
            answer: Some(Answer {
                client,
                kind: AnswerKind::Refused {
                    refusal: refusal.clone(),
                    standing: self.standing(operations),
                },
            }),
        });
    }

    fn standing(&self, operations: &[Operation]) -> Standing {
        let mut standing = Standing {
            slots: Vec::new(),
            all: false,
        };
        let mut named = HashSet::new();
        for operation in operations {
            match operation {
                Operation::Set { name, .. } | Operation::Remove { name } => {
                    if named.insert(name) {
                        let value = self.slot(name).cloned();
                        standing.slots.push((name.clone(), value));
                    }
                }
                Operation::Clear => standing.all = true,
                Operation::Send { .. } => {}
            }
        }
        standing
    }

    fn append(&mut self, entry: Entry) {
        self.log.append(entry);
        self.cache.clear();
    }

    /// The call to the owner has ended: pieces of a state are dropped. What is known stays.
    pub fn handle_disconnect(&mut self) {
        self.assembly.reset();
        for request in std::mem::take(&mut self.sent) {
            self.repeat(request);
        }
    }

    fn note_sent(&mut self, request: &Request) {
        if let Some(sent) = request.sends() {
            self.sent.push_back(sent);
            let mut bytes: usize = self.sent.iter().map(Request::cost).sum();
            while self.sent.len() > MAX_SENT || (bytes > MAX_SENT_BYTES && self.sent.len() > 1) {
                bytes -= self.sent.pop_front().map_or(0, |oldest| oldest.cost());
            }
        }
    }

    fn repeat(&mut self, sent: Request) {
        if self.repeats.len() >= MAX_REPEATS {
            self.repeats.pop_front();
        }
        self.repeats.push_back(sent);
    }

    /// What is known may be wrong: the next use asks for everything. Clients get what that differs in.
    pub fn distrust(&mut self) {
        self.assembly.reset();
        self.trusted = false;
    }

    /// The whole object, for an owner that wants it.
    pub fn snapshot(&self) -> State {
        let (epoch, version) = self.known();
        State {
            epoch,
            version,
            since: Version::NONE,
            slots: self.content.slots_since(Version::NONE),
            removed: self.content.removed_since(Version::NONE),
            remembered_since: self.content.remembered_since,
            applied: self.applied.list(),
            more: false,
        }
    }

    /// What has to be sent to an owner before requests without an answer, in order: sent by requests of before a break, which others
    /// may not have heard of. Those with a number greater than `number`. They stay until an owner has repeated them.
    pub fn repeats_after(&self, number: u64) -> impl Iterator<Item = &Request> {
        self.repeats.iter().filter(move |it| it.number > number)
    }

    /// Requests without an answer, in order.
    pub fn unanswered(&self) -> impl ExactSizeIterator<Item = &Request> {
        self.pending.iter().map(|pending| &pending.request)
    }

    /// Of these, the ones with a greater number.
    pub fn unanswered_after(&self, number: u64) -> impl Iterator<Item = &Request> {
        let first = (self.pending).partition_point(|pending| pending.request.number <= number);
        self.pending.range(first..).map(|pending| &pending.request)
    }

    /// Admits a client, once the mirror [is ready](Self::is_ready). Gives its cursor and the answer to its Use: the whole object, or what
    /// was changed since `version`, which the client's message says that it has; 0: nothing.
    pub fn admit(
        &mut self,
        client: ClientId,
        dialect: Dialect,
        encoding: Encoding,
        version: u32,
    ) -> (Cursor, Vec<Bytes>) {
        let since = self.version.reaching_back_to(version);
        let knows = self.persistence == Persistence::Persistent
            && version != 0
            && since >= self.content.remembered_since;
        // Who says this very version later on, and has had it before, may not have read the answer yet.
        let had_before = !knows && version == self.version.low();
        let cursor = Cursor {
            client,
            position: self.log.head(),
            admitted: self.version.plus(u64::from(had_before)),
            owed: 0,
            dialect,
            encoding,
        };
        let since = if knows { since } else { Version::NONE };
        (cursor, self.welcome(&cursor, since))
    }

    /// Takes a client's request; gives what the owner has to be sent. `version` is what the client's message says.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: nothing has changed. [`Mirror::refuse`] tells the client.
    pub fn request(
        &mut self,
        cursor: &mut Cursor,
        version: u32,
        operations: Vec<Operation>,
    ) -> Result<Request, Refusal> {
        let cost = operations.iter().map(Operation::cost).sum::<usize>();
        if self.pending.len() >= self.limits.pending
            || self.pending_bytes.saturating_add(cost) > self.limits.pending_bytes
        {
            return Err(Refusal::Busy);
        }
        let request = Request {
            number: self.next_number,
            client: cursor.client,
            operations: operations.into(),
        };
        self.next_number += 1;
        self.pending_bytes += cost;
        cursor.owed = cursor.owed.saturating_add(1);
        let said = self.version.reaching_back_to(version);
        // Who asks before it has read the answer to its Use will have its copy cleared by that.
        let seen = if version == 0 || said < cursor.admitted {
            0
        } else {
            self.log.seen(said, cursor.position)
        };
        self.pending.push_back(Pending {
            request: request.clone(),
            seen,
            cost,
        });
        Ok(request)
    }

    /// Refuses a client's request without asking the owner: with the next [`Mirror::serve`] it is told, and gets the values of the
    /// slots that it wanted to change.
    pub fn refuse(&mut self, cursor: &mut Cursor, operations: &[Operation], refusal: &Refusal) {
        cursor.owed = cursor.owed.saturating_add(1);
        self.refused(cursor.client, operations, refusal);
    }
}
