//! What a store keeps of an object.

use crate::object::{AppliedRequests, Epoch, SlotName, Version};
use crate::value::SlotValue;

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
