//! The recent past of an object, for clients that have not got it yet.
//!
//! Entries have positions, which count up from 1 and say nothing outside of the mirror. An entry is an update, for everybody; and
//! where a client of this edge has asked for it, an answer to that client. A refusal is an entry too, with an answer alone: so that
//! it is bounded like the rest, and comes in order with it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::object::{ClientId, Operation, Refusal, SlotName, Version};
use crate::value::SlotValue;

/// How much a log holds. Whatever the numbers, the newest entry is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Entries.
    pub entries: usize,
    /// Bytes of operations, and about a hundred for each.
    pub bytes: usize,
}

impl LogLimits {
    /// 1,024 entries, 4 MiB: some seconds of a busy object.
    pub const DEFAULT: Self = Self {
        entries: 1_024,
        bytes: 4 << 20,
    };
}

impl Default for LogLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One thing that has happened.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The object's version with it.
    pub(crate) version: Version,
    /// What it has changed, for all but who gets the answer.
    pub(crate) operations: Arc<[Operation]>,
    pub(crate) answer: Option<Answer>,
}

/// What a client gets in place of the operations.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) client: ClientId,
    pub(crate) kind: AnswerKind,
}

#[derive(Debug)]
pub(crate) enum AnswerKind {
    /// All that it wanted was done.
    Confirmed {
        requested: Arc<[Operation]>,
        /// Slots that others had changed before, unknown to the client: its copy may have their value.
        restated: Restated,
    },
    /// It was done, unless it was refused: the answer did not come, and the object is what it is.
    Late {
        requested: Arc<[Operation]>,
        standing: Standing,
    },
    /// Nothing was.
    Refused {
        refusal: Refusal,
        standing: Standing,
    },
}

/// How the slots are that a request wanted to change.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) slots: Vec<(SlotName, Option<SlotValue>)>,
    /// It wanted to change all of them.
    pub(crate) all: bool,
}

impl Standing {
    fn cost(&self) -> usize {
        let each = |(name, value): &(SlotName, Option<SlotValue>)| {
            64 + name.len() + value.as_ref().map_or(0, |value| value.as_bytes().len())
        };
        self.slots.iter().map(each).sum()
    }
}

/// Which slots a confirmation has to give with their values, to a client that is told only names otherwise.
#[derive(Debug)]
pub(crate) enum Restated {
    These(Vec<SlotName>),
    All,
}

impl Restated {
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::These(names) => names.iter().any(|restated| **restated == *name),
            Self::All => true,
        }
    }
}

impl Entry {
    pub(crate) fn answer_to(&self, client: ClientId) -> Option<&Answer> {
        self.answer
            .as_ref()
            .filter(|answer| answer.client == client)
    }

    fn sends(&self) -> bool {
        let is_send = |operation: &Operation| matches!(operation, Operation::Send { .. });
        self.operations.iter().any(is_send)
    }

    fn cost(&self) -> usize {
        /// About what an entry takes besides what it holds.
        const EACH: usize = 128;
        let operations = |list: &[Operation]| list.iter().map(Operation::cost).sum::<usize>();
        let names = |list: &[SlotName]| list.iter().map(|name| 16 + name.len()).sum::<usize>();
        let answer = match self.answer.as_ref().map(|answer| &answer.kind) {
            Some(AnswerKind::Confirmed {
                requested,
                restated,
            }) => {
                // The same values, mostly: counted once where nothing was left out of the update.
                let requested = match requested.len() == self.operations.len() {
                    true => 0,
                    false => operations(requested),
                };
                requested
                    + match restated {
                        Restated::These(slots) => names(slots),
                        Restated::All => 0,
                    }
            }
            Some(AnswerKind::Late {
                requested,
                standing,
            }) => operations(requested) + standing.cost(),
            Some(AnswerKind::Refused { standing, .. }) => standing.cost(),
            None => 0,
        };
        EACH + operations(&self.operations) + answer
    }
}

/// Invariants: `entries` are at the positions from `first` on, and `bytes` is what they cost.
#[derive(Debug)]
pub(crate) struct Log {
    limits: LogLimits,
    entries: VecDeque<Entry>,
    first: u64,
    bytes: usize,
    /// The object's version before the first entry.
    floor: Version,
    /// Whoever has not got the entry before this position has missed something that was sent.
    lost: u64,
}

impl Log {
    pub(crate) fn new(limits: LogLimits) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            first: 1,
            bytes: 0,
            floor: Version::NONE,
            lost: 0,
        }
    }

    /// The position of the next entry.
    pub(crate) fn head(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The position of the oldest entry that is held.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Whether something was sent at or after this position that is not held any more.
    pub(crate) fn has_lost_since(&self, position: u64) -> bool {
        position < self.lost
    }

    /// The object's version before anything is appended.
    pub(crate) fn begin(&mut self, version: Version) {
        self.floor = version;
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        self.bytes += entry.cost();
        self.entries.push_back(entry);
        while self.entries.len() > 1
            && (self.entries.len() > self.limits.entries || self.bytes > self.limits.bytes)
        {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= oldest.cost();
            self.first += 1;
            self.floor = oldest.version;
            if oldest.sends() {
                self.lost = self.first;
            }
        }
    }

    /// The entries from a position on, or from the oldest that is held.
    pub(crate) fn since(&self, position: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let skipped = position.saturating_sub(self.first);
        let skipped = usize::try_from(skipped).map_or(self.entries.len(), |skipped| {
            skipped.min(self.entries.len())
        });
        let from = self.first + skipped as u64;
        (from..).zip(self.entries.range(skipped..))
    }

    /// The position before which a client has seen everything that says that it has seen this version, and has been given the entries
    /// before `position`. 0: not known.
    pub(crate) fn seen(&self, version: Version, position: u64) -> u64 {
        if version < self.floor {
            return 0;
        }
        // Several entries may have one version; of those only the first is certain.
        let mut seen = self.first;
        for entry in &self.entries {
            if entry.version > version {
                break;
            }
            seen += 1;
            if entry.version == version {
                break;
            }
        }
        position.min(seen)
    }

    /// Of the slots that a client sets, those whose value in its copy may be another than it was when the client asked: something
    /// has come since `seen`, or will come, that gives them one or removes them.
    pub(crate) fn restated(
        &self,
        client: ClientId,
        requested: &[Operation],
        seen: u64,
    ) -> Restated {
        if seen < self.first {
            return Restated::All;
        }
        let mut touched = Touched::default();
        for (_, entry) in self.since(seen) {
            touched.by_entry(entry, client);
        }
        let mut restated = Vec::new();
        for operation in requested {
            match operation {
                Operation::Set { name, .. } if touched.has(name) => restated.push(name.clone()),
                Operation::Set { .. } | Operation::Send { .. } => {}
                Operation::Remove { .. } | Operation::Clear => touched.by(operation),
            }
        }
        Restated::These(restated)
    }
}

/// Slots that a client was told something of.
#[derive(Default)]
struct Touched<'a> {
    names: Vec<&'a str>,
    all: bool,
}

impl<'a> Touched<'a> {
    fn has(&self, name: &str) -> bool {
        self.all || self.names.contains(&name)
    }

    fn by(&mut self, operation: &'a Operation) {
        match operation {
            Operation::Set { name, .. } | Operation::Remove { name } => self.names.push(name),
            Operation::Clear => self.all = true,
            Operation::Send { .. } => {}
        }
    }

    fn by_entry(&mut self, entry: &'a Entry, client: ClientId) {
        match entry.answer_to(client).map(|answer| &answer.kind) {
            None => entry.operations.iter().for_each(|told| self.by(told)),
            Some(AnswerKind::Confirmed {
                requested,
                restated,
            }) => {
                for operation in requested.iter() {
                    match operation {
                        // Its own value is there already, unless it comes once more.
                        Operation::Set { name, .. } if !restated.has(name) => {}
                        _ => self.by(operation),
                    }
                }
            }
            Some(AnswerKind::Late { standing, .. } | AnswerKind::Refused { standing, .. }) => {
                self.all |= standing.all;
                self.names
                    .extend(standing.slots.iter().map(|(name, _)| &**name));
            }
        }
    }
}
