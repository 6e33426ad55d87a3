//! The state of an object between nodes, and its way in pieces.

use super::{AppliedRequests, Epoch, RemovedSlot, Slot, Version};

/// What an object is, or what a mirror has missed of it: whole, or one of several pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The tenure it is of.
    pub epoch: Epoch,
    /// The version it is of.
    pub version: Version,
    /// [`Version::NONE`]: the whole object. Otherwise what has changed since: slots that are not named are as they were.
    pub since: Version,
    /// The slots, in the order of their names.
    pub slots: Vec<Slot>,
    /// With `since`, what was removed after it; otherwise the removals that are remembered.
    pub removed: Vec<RemovedSlot>,
    /// Removals up to this version are forgotten: who is older needs everything.
    pub remembered_since: Version,
    /// How far the requests of edges were applied.
    pub applied: Vec<AppliedRequests>,
    /// More of it follows.
    pub more: bool,
}

impl State {
    /// Whether it replaces all that a mirror has.
    pub fn is_whole(&self) -> bool {
        self.since == Version::NONE
    }

    /// The same in pieces of about `bytes` (of names and values, and some for each), at least one. A slot is never cut.
    pub fn chunks(self, bytes: usize) -> Vec<Self> {
        let Self {
            slots,
            removed,
            applied,
            ..
        } = self;
        let empty = Self {
            slots: Vec::new(),
            removed: Vec::new(),
            applied: Vec::new(),
            more: true,
            ..self
        };
        let mut chunks = Vec::new();
        let mut chunk = empty.clone();
        let mut size = 0;
        let mut charge = |chunk: &mut Self, cost: usize| {
            if size > 0 && size + cost > bytes {
                chunks.push(std::mem::replace(chunk, empty.clone()));
                size = 0;
            }
            size += cost;
        };
        for slot in slots {
            charge(&mut chunk, slot_cost(&slot));
            chunk.slots.push(slot);
        }
        for slot in removed {
            charge(&mut chunk, EACH + slot.name.len());
            chunk.removed.push(slot);
        }
        for applied in applied {
            charge(&mut chunk, EACH);
            chunk.applied.push(applied);
        }
        chunk.more = false;
        chunks.push(chunk);
        chunks
    }

    /// About what it takes, in bytes.
    pub(crate) fn cost(&self) -> usize {
        let slots: usize = self.slots.iter().map(slot_cost).sum();
        let removed: usize = self.removed.iter().map(|slot| EACH + slot.name.len()).sum();
        slots + removed + EACH * self.applied.len()
    }
}

/// What a slot, a removal or an applied number counts besides its text, in bytes.
const EACH: usize = 32;

fn slot_cost(slot: &Slot) -> usize {
    EACH + slot.name.len() + slot.value.as_bytes().len()
}

/// Puts the pieces of states together again.
#[derive(Debug)]
pub struct Assembly {
    /// Most that a state may take, in bytes.
    bytes: usize,
    held: usize,
    partial: Option<State>,
}

/// Why pieces are no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssemblyError {
    /// It has more bytes than it may have.
    #[error("state of more than {maximum} bytes")]
    TooLarge {
        /// The limit.
        maximum: usize,
    },
    /// A piece is of another state than the one before.
    #[error("a piece of version {found} follows one of version {expected}")]
    Mixed {
        /// The version of the pieces so far.
        expected: Version,
        /// That of the piece.
        found: Version,
    },
}

impl Assembly {
    /// One for states of at most so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self {
            bytes,
            held: 0,
            partial: None,
        }
    }

    /// Takes a piece; gives the state when it is complete.
    ///
    /// # Errors
    /// [`AssemblyError`]; the pieces so far are dropped.
    pub fn push(&mut self, piece: State) -> Result<Option<State>, AssemblyError> {
        let partial = self.partial.take();
        self.held = piece.cost() + if partial.is_some() { self.held } else { 0 };
        if self.held > self.bytes {
            return Err(AssemblyError::TooLarge {
                maximum: self.bytes,
            });
        }
        let mut state = match partial {
            None => piece,
            Some(mut state) => {
                if (state.epoch, state.version, state.since)
                    != (piece.epoch, piece.version, piece.since)
                {
                    return Err(AssemblyError::Mixed {
                        expected: state.version,
                        found: piece.version,
                    });
                }
                state.slots.extend(piece.slots);
                state.removed.extend(piece.removed);
                state.applied.extend(piece.applied);
                state.more = piece.more;
                state
            }
        };
        if state.more {
            self.partial = Some(state);
            return Ok(None);
        }
        state.more = false;
        Ok(Some(state))
    }

    /// Whether more has to come.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// Drops the pieces so far: what sent them is gone.
    pub fn reset(&mut self) {
        self.partial = None;
    }
}
