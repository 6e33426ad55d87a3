//! An edge's copy of an object, and what each of its clients gets.
use std::sync::Arc;

use bytes::Bytes;

use crate::client::{Cursor, Dialect, Served};
use crate::log::LogLimits;
use crate::object::{
    AssemblyError, ClientId, EdgeIncarnation, Epoch, ObjectName, Operation, Persistence, Refusal,
    State, Update, Version,
};
use crate::value::SlotValue;
use crate::wire::{Encoding, Flags};

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
    /// Bytes of a whole state, names, values and removals.
    pub state_bytes: usize,
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

/// What the owner sent does not follow what the mirror has: it has to be used again, from [`Mirror::known`].
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

/// An edge's copy of an object.
#[derive(Debug)]
pub struct Mirror {}

impl Mirror {
    /// A mirror that knows nothing yet. `edge` is the edge's own incarnation.
    pub fn new(
        name: ObjectName,
        persistence: Persistence,
        edge: EdgeIncarnation,
        limits: MirrorLimits,
    ) -> Self {
        todo!()
    }

    /// The object's name.
    pub fn name(&self) -> &ObjectName {
        todo!()
    }

    /// Whether the object is kept.
    pub fn persistence(&self) -> Persistence {
        todo!()
    }

    /// What the edge says when it uses the object (again): both [`Version::NONE`]-like zero where it knows nothing.
    pub fn known(&self) -> (Epoch, Version) {
        todo!()
    }

    /// Whether it has had a state: clients can be admitted.
    pub fn is_ready(&self) -> bool {
        todo!()
    }

    /// Slots.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there are no slots.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Value of a slot.
    pub fn slot(&self, name: &str) -> Option<&SlotValue> {
        todo!()
    }

    /// All slots, in the order of their names.
    pub fn slots(&self) -> impl Iterator<Item = (&str, &SlotValue)> {
        std::iter::empty()
    }

    /// Takes a state, or a piece of one; `true` when it was the last piece and the mirror has what it says. [`Mirror::unanswered`] is then
    /// what still has to be sent (again), if the owner is another one or the call is new.
    ///
    /// # Errors
    /// [`OutOfStep`]: the object has to be used again.
    pub fn handle_state(&mut self, piece: State) -> Result<bool, OutOfStep> {
        todo!()
    }

    /// Takes an update.
    ///
    /// # Errors
    /// [`OutOfStep`]: the object has to be used again.
    pub fn handle_update(&mut self, update: Update) -> Result<(), OutOfStep> {
        todo!()
    }

    /// Takes the owner's refusal of a request.
    pub fn handle_refusal(&mut self, number: u64, refusal: &Refusal) {
        todo!()
    }

    /// The call to the owner has ended: pieces of a state are dropped. What is known stays.
    pub fn handle_disconnect(&mut self) {
        todo!()
    }

    /// Forgets that anything is known, so that the next use asks for everything. What clients have stays; they get the difference.
    pub fn distrust(&mut self) {
        todo!()
    }

    /// The whole object for an owner that wants it.
    pub fn snapshot(&self) -> State {
        todo!()
    }

    /// Requests without an answer, in order.
    pub fn unanswered(&self) -> impl Iterator<Item = &Request> {
        std::iter::empty()
    }

    /// Admits a client. Gives its cursor and the answer to its Use. `version` is what the client has, as it says in its message; 0: nothing.
    pub fn admit(
        &mut self,
        client: ClientId,
        dialect: Dialect,
        encoding: Encoding,
        version: u32,
    ) -> (Cursor, Vec<Bytes>) {
        todo!()
    }

    /// A client's request: gives what the owner has to be sent. `version` is what the client's message says.
    /// An empty list of operations is none: do not ask.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: pass it to [`Mirror::refuse`].
    pub fn request(
        &mut self,
        cursor: &mut Cursor,
        version: u32,
        operations: Vec<Operation>,
    ) -> Result<Request, Refusal> {
        todo!()
    }

    /// Refuses a client's request without asking the owner: it is told, and gets the values of the slots that it wanted to change, in order
    /// with everything else ([`Mirror::serve`]).
    pub fn refuse(&mut self, cursor: &mut Cursor, operations: &[Operation], refusal: &Refusal) {
        todo!()
    }

    /// What a client has not got yet. When to call: after anything that this mirror was told, for each client whose connection has room.
    pub fn serve(&mut self, cursor: &mut Cursor) -> Served {
        todo!()
    }

    /// Whether there is anything that a client has not got: cheap.
    pub fn is_behind(&self, cursor: &Cursor) -> bool {
        todo!()
    }

    /// Flags of a message that is not about a change: with [`crate::wire::status`].
    pub fn answer_flags(&self, dialect: Dialect) -> Flags {
        todo!()
    }
}
