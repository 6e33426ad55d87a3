//! One object: its master, who uses it, and what of it is in the store.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use headwater_shared_object::master::{Keeping, Master, Rows};
use headwater_shared_object::object::{Assembly, Operation, Persistence, SlotName, Update};
use tokio::time::Instant;

use super::EdgeCall;
use super::rows::Keys;
use crate::state::Batch;

/// How long after a failover edges may come that have not heard of what was sent before it.
const REPEATS_KEPT: Duration = Duration::from_secs(30);

/// Messages that are kept for them; the oldest go first.
const MAX_REPEATS: usize = 64;

/// Bytes of them, but for the last.
const MAX_REPEAT_BYTES: usize = 256 << 10;

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
    /// What was sent before this tenure, and edges that have not come back yet may not have heard of.
    repeats: VecDeque<(Instant, Update)>,
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
            repeats: VecDeque::new(),
        }
    }

    /// Keeps what was sent before this tenure for edges that come later.
    pub(super) fn keep_repeat(&mut self, now: Instant, update: &Update) {
        self.forget_repeats(now);
        self.repeats.push_back((now, update.clone()));
        let cost = |(_, update): &(Instant, Update)| -> usize {
            update.operations.iter().map(Operation::cost).sum()
        };
        let mut bytes: usize = self.repeats.iter().map(cost).sum();
        while self.repeats.len() > MAX_REPEATS
            || (bytes > MAX_REPEAT_BYTES && self.repeats.len() > 1)
        {
            bytes -= self.repeats.pop_front().as_ref().map_or(0, cost);
        }
    }

    /// What an edge that comes now may not have heard of.
    pub(super) fn repeats(&mut self, now: Instant) -> Vec<Update> {
        self.forget_repeats(now);
        let updates = self.repeats.iter();
        updates.map(|(_, update)| update.clone()).collect()
    }

    fn forget_repeats(&mut self, now: Instant) {
        let is_old = |(at, _): &mut (Instant, Update)| now.duration_since(*at) > REPEATS_KEPT;
        while self.repeats.pop_front_if(is_old).is_some() {}
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
