//! The owner's object.
use std::sync::Arc;

use crate::object::{
    AppliedRequests, EdgeIncarnation, Epoch, Operation, Persistence, Refusal, SlotName, State,
    Update, Version,
};
use crate::value::SlotValue;

/// What happens to an object when its owner changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keeping {
    /// Nowhere but in mirrors.
    Temporary,
    /// In the store; updates are published when they are durable.
    Durable,
    /// In the store, but updates are published at once: mirrors may know more than the store.
    AtOnce,
}

/// Bounds on one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MasterLimits {
    /// Slots.
    pub slots: usize,
    /// Bytes of one value; also of what is sent.
    pub value_bytes: usize,
    /// Bytes of all slots, names included, and 64 for each.
    pub object_bytes: usize,
    /// Bytes of the name of a slot.
    pub name_bytes: usize,
    /// Removals that are remembered.
    pub removals: usize,
}

/// A row of a store that has changed. Rows of one change are written together with [`Rows::meta`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// The slot has this value.
    Slot {
        /// Its name, which is the row's key.
        name: SlotName,
        /// Its value.
        value: SlotValue,
        /// The object's version when it was set.
        version: Version,
    },
    /// The slot is gone, and that is remembered.
    Removed {
        /// Its name, which is the row's key.
        name: SlotName,
        /// The object's version when it was removed.
        version: Version,
    },
}

/// What is kept of an object besides its slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Of the owner that wrote it.
    pub epoch: Epoch,
    /// The object's version.
    pub version: Version,
    /// Removals up to this version are forgotten.
    pub remembered_since: Version,
    /// How far requests were applied, the least recent edge first.
    pub applied: Vec<AppliedRequests>,
}

/// Exactly what a store has to write for a change, in one transaction: first the clearing, then deletions, puts and the meta row, in
/// any order (no key is in two of them).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Delete every row of the object.
    pub clear: bool,
    /// Delete these.
    pub delete: Vec<SlotName>,
    /// Write these.
    pub put: Vec<Row>,
    /// Write this.
    pub meta: Meta,
}

/// A request that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// For every mirror, the requesting edge's too: it is the answer.
    pub update: Update,
    /// For the store of a persistent object.
    pub rows: Rows,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was applied.
    Applied(Applied),
    /// It had been applied before: nothing happens. `state_since(version())` tells the edge so, through its applied numbers.
    Duplicate,
}

/// What an edge that uses the object gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// What its mirror lacks.
    State(State),
    /// Nothing yet: its mirror knows what the owner does not. Its whole state goes to [`Master::adopt`]; then greet it again.
    Wanted,
}

/// What taking over a mirror's state has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Mirrors that have been served so far need `state_since` this; `None`: nothing has changed for them.
    pub since: Option<Version>,
    /// For the store of a persistent object.
    pub rows: Rows,
}

/// The owner's object.
#[derive(Debug)]
pub struct Master {}

impl Master {
    /// An object that nobody has known before (or that mirrors will tell of).
    pub fn new(keeping: Keeping, epoch: Epoch, limits: MasterLimits) -> Self {
        todo!()
    }

    /// An object from the store. Gives the rows to write before anything else, where the new tenure needs any ([`Keeping::AtOnce`]).
    pub fn load(
        keeping: Keeping,
        epoch: Epoch,
        limits: MasterLimits,
        meta: &Meta,
        rows: impl IntoIterator<Item = Row>,
    ) -> Self {
        todo!()
    }

    /// How it is kept.
    pub fn keeping(&self) -> Keeping {
        todo!()
    }

    /// Whether it outlives its users.
    pub fn persistence(&self) -> Persistence {
        todo!()
    }

    /// Its version.
    pub fn version(&self) -> Version {
        todo!()
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there are no slots.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Bytes as [`MasterLimits::object_bytes`] counts them.
    pub fn bytes(&self) -> usize {
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

    /// Applies a request: all of it under one version, or nothing.
    ///
    /// # Errors
    /// [`Refusal`]: nothing has changed; the request's number is not used up.
    pub fn apply(
        &mut self,
        edge: EdgeIncarnation,
        number: u64,
        operations: &[Operation],
    ) -> Result<Outcome, Refusal> {
        todo!()
    }

    /// Applies what the server itself wants.
    ///
    /// # Errors
    /// [`Refusal`]: nothing has changed.
    pub fn apply_own(&mut self, operations: &[Operation]) -> Result<Applied, Refusal> {
        todo!()
    }

    /// What an edge gets that uses the object and has this from before.
    pub fn greet(&self, epoch: Epoch, version: Version) -> Greeting {
        todo!()
    }

    /// What a mirror of this tenure lacks that is at this version: the difference if removals since are remembered, else everything.
    pub fn state_since(&self, version: Version) -> State {
        todo!()
    }

    /// Takes over what a mirror of an earlier tenure knows.
    pub fn adopt(&mut self, state: State) -> Adopted {
        todo!()
    }

    /// Everything for a store that has nothing of the object.
    pub fn rows(&self) -> Rows {
        todo!()
    }
}
