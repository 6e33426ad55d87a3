//! What waits until something is durable.
//!
//! One line for the instance: what belongs to a write stands behind what belongs to the writes before it, and is told when its own
//! write is durable, and those are.

use std::collections::VecDeque;

use headwater_shared_object::object::{ObjectName, Operation, Refusal, State, Update};

use super::{Answer, Author, EdgeCall};

/// What an entry takes besides what is in it, bytes, about.
const ENTRY_BYTES: usize = 192;

/// What an operation, a slot or a removal takes besides its text, bytes, about.
const EACH_BYTES: usize = 96;

/// Something that is to be told.
#[derive(Debug)]
pub(super) enum Due {
    /// To all edges that use the object.
    Update {
        update: Update,
        /// None: the handler.
        author: Option<Author>,
    },
    State {
        call: EdgeCall,
        state: State,
        /// What a use is answered with, and not what has changed since.
        is_greeting: bool,
    },
    Refused {
        call: EdgeCall,
        number: u64,
        refusal: Refusal,
    },
    Answer(Answer),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) object: ObjectName,
    /// Counts all that is to be told of objects.
    pub(super) sequence: u64,
    pub(super) due: Due,
    /// The write that it waits for.
    write: u64,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Line {
    entries: VecDeque<Entry>,
    bytes: usize,
    sequence: u64,
    /// Writes so far.
    written: u64,
    /// Of which so many are durable.
    durable: u64,
    /// Whose they are.
    writes: VecDeque<(u64, ObjectName)>,
}

impl Line {
    /// What the next thing to be told gets.
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Counts a write with rows of an object.
    pub(super) fn write(&mut self, object: &ObjectName) -> u64 {
        self.written += 1;
        self.writes.push_back((self.written, object.clone()));
        self.written
    }

    pub(super) fn is_durable(&self, write: u64) -> bool {
        write <= self.durable
    }

    pub(super) fn push(&mut self, object: &ObjectName, sequence: u64, write: u64, due: Due) {
        let bytes = cost(&due);
        self.bytes += bytes;
        self.entries.push_back(Entry {
            object: object.clone(),
            sequence,
            due,
            write,
            bytes,
        });
    }

    /// Nobody waits for answers to commands any more.
    pub(super) fn forget_answers(&mut self) {
        for entry in &mut self.entries {
            if let Due::Answer(answer) = &mut entry.due {
                answer.command = 0;
            }
        }
    }

    pub(super) fn durable(&mut self, writes: u64) {
        self.durable = self.durable.max(writes.min(self.written));
    }

    /// The first one, if it has waited long enough.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let durable = self.durable;
        let entry = self.entries.pop_front_if(|entry| entry.write <= durable)?;
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// Objects with a write that has become durable since this was called last.
    pub(super) fn settled(&mut self) -> Vec<ObjectName> {
        let durable = self.durable;
        let mut names = Vec::new();
        while let Some((_, name)) = self.writes.pop_front_if(|(write, _)| *write <= durable) {
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        names
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_settled(&self) -> bool {
        self.entries.is_empty() && self.durable == self.written
    }
}

fn cost(due: &Due) -> usize {
    ENTRY_BYTES
        + match due {
            Due::Update { update, .. } => operations_cost(&update.operations),
            Due::State { state, .. } => {
                let slots = state.slots.iter();
                let slots: usize = slots.map(|slot| slot.name.len() + EACH_BYTES).sum();
                slots + EACH_BYTES * (state.removed.len() + state.applied.len())
            }
            Due::Refused { .. } => EACH_BYTES,
            // Values are shared with the object, mostly.
            Due::Answer(answer) => match &answer.result {
                Ok(found) => found.slots.len() * EACH_BYTES,
                Err(_) => EACH_BYTES,
            },
        }
}

/// What operations take, bytes, about.
pub(super) fn operations_cost(operations: &[Operation]) -> usize {
    let cost = |operation: &Operation| {
        EACH_BYTES
            + match operation {
                Operation::Set { name, value } => name.len() + value.as_bytes().len(),
                Operation::Remove { name } => name.len(),
                Operation::Clear => 0,
                Operation::Send { arguments } => arguments.as_bytes().len(),
            }
    };
    operations.iter().map(cost).sum()
}
