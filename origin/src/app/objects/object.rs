//! One object: its master, who uses it, and what of it is in the store.

use std::collections::{HashMap, HashSet};

use headwater_shared_object::master::{Keeping, Master, Rows};
use headwater_shared_object::object::{Assembly, Persistence, SlotName};
use tokio::time::Instant;

use super::EdgeCall;
use super::rows::Keys;
use crate::state::Batch;

#[derive(Debug)]
pub(super) struct Object {
    pub(super) keys: Keys,
    pub(super) master: Master,
    /// Names of its rows in the store.
    stored: HashSet<SlotName>,
    pub(super) users: HashMap<EdgeCall, User>,
    /// The handler wants to hear of its changes.
    pub(super) is_watched: bool,
    /// The handler has changed it.
    pub(super) is_touched: bool,
    /// Those who have waited for it are still being answered.
    pub(super) is_new: bool,
    /// Entries of it in the line.
    pub(super) lined: usize,
    /// The number of the last write with rows of it.
    pub(super) written: u64,
    /// Whether that is durable.
    pub(super) is_durable: bool,
    /// When it is looked at again.
    pub(super) deadline: Option<Instant>,
}

/// An edge that uses it.
#[derive(Debug)]
pub(super) enum User {
    /// Its mirror knows more: its whole state is awaited.
    Wanted(Assembly),
    /// It gets what comes after this in the line.
    Served(u64),
}

impl Object {
    pub(super) fn new(keys: Keys, master: Master, stored: HashSet<SlotName>) -> Self {
        Self {
            keys,
            master,
            stored,
            users: HashMap::new(),
            is_watched: false,
            is_touched: false,
            is_new: false,
            lined: 0,
            written: 0,
            is_durable: true,
            deadline: None,
        }
    }

    pub(super) fn is_persistent(&self) -> bool {
        self.master.persistence() == Persistence::Persistent
    }

    /// Whether what becomes of it is told when it is durable.
    pub(super) fn waits(&self) -> bool {
        self.master.keeping() == Keeping::Durable
    }

    /// Whether it can be dropped from memory.
    pub(super) fn is_unused(&self) -> bool {
        let keeps_for_handler = self.is_touched && !self.is_persistent() && !self.master.is_empty();
        self.users.is_empty()
            && !self.is_watched
            && !self.is_new
            && !keeps_for_handler
            && self.lined == 0
            && self.is_durable
    }

    /// What is to be written for a change.
    pub(super) fn batch(&mut self, rows: Rows) -> Batch {
        self.keys.batch(rows, &mut self.stored)
    }
}
