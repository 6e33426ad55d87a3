//! Slots, removals and applied numbers: what the owner's object and a mirror both have.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::object::{
    AppliedRequests, EdgeIncarnation, Operation, RemovedSlot, Slot, SlotName, Version,
};
use crate::value::SlotValue;

/// What a slot counts besides its name and value, in bytes: about what the map takes for it.
pub(crate) const SLOT_BYTES: usize = 64;

/// How many edges' applied numbers are remembered. Edges with the least recent requests go first; an edge that is back after so many
/// others have written is one whose requests were answered long ago.
pub(crate) const APPLIED_EDGES: usize = 64;

/// A slot that is there.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) value: SlotValue,
    pub(crate) version: Version,
    /// When it was changed, in the holder's own count: a mirror's position in its log, an owner's tenure.
    pub(crate) mark: u64,
}

/// A slot that is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone {
    pub(crate) version: Version,
    pub(crate) mark: u64,
}

/// Invariants: a name is in at most one of `slots` and `gone`; `order` has exactly the entries of `gone`; `bytes` is what `slots` cost.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    slots: BTreeMap<SlotName, Held>,
    gone: HashMap<SlotName, Gone>,
    /// Removals by age.
    order: BTreeSet<(Version, SlotName)>,
    bytes: usize,
    /// Removals to remember.
    memory: usize,
    /// Removals up to this version are forgotten.
    pub(crate) remembered_since: Version,
    /// The greatest mark of a removal that is forgotten.
    pub(crate) forgotten_mark: u64,
}

impl Content {
    pub(crate) fn new(memory: usize) -> Self {
        Self {
            slots: BTreeMap::new(),
            gone: HashMap::new(),
            order: BTreeSet::new(),
            bytes: 0,
            memory,
            remembered_since: Version::NONE,
            forgotten_mark: 0,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Held> {
        self.slots.get(name)
    }

    pub(crate) fn gone(&self, name: &str) -> Option<&Gone> {
        self.gone.get(name)
    }

    pub(crate) fn slots(&self) -> impl ExactSizeIterator<Item = (&SlotName, &Held)> {
        self.slots.iter()
    }

    pub(crate) fn removals(&self) -> impl Iterator<Item = (&SlotName, &Gone)> {
        self.order
            .iter()
            .filter_map(|(_, name)| self.gone.get_key_value(name))
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// What the slots cost, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether doing this would leave everything as it is.
    pub(crate) fn is_idle(&self, operation: &Operation) -> bool {
        match operation {
            Operation::Set { name, value } => {
                self.get(name).is_some_and(|held| held.value == *value)
            }
            Operation::Remove { name } => !self.slots.contains_key(name),
            Operation::Clear => self.slots.is_empty(),
            Operation::Send { .. } => false,
        }
    }

    /// Gives the name whose removal is forgotten for it, if any.
    pub(crate) fn apply(
        &mut self,
        operation: &Operation,
        version: Version,
        mark: u64,
    ) -> Option<SlotName> {
        match operation {
            Operation::Set { name, value } => self.set(name.clone(), value.clone(), version, mark),
            Operation::Remove { name } => return self.remove(name, version, mark),
            Operation::Clear => self.clear(version, mark),
            Operation::Send { .. } => {}
        }
        None
    }

    pub(crate) fn set(&mut self, name: SlotName, value: SlotValue, version: Version, mark: u64) {
        self.unremember(&name);
        self.bytes += cost(&name, &value);
        let held = Held {
            value,
            version,
            mark,
        };
        if let Some(old) = self.slots.insert(name.clone(), held) {
            self.bytes -= cost(&name, &old.value);
        }
    }

    /// Removes a slot and remembers that; also of one that was not there. Gives the name whose removal is forgotten for it, if any.
    pub(crate) fn remove(
        &mut self,
        name: &SlotName,
        version: Version,
        mark: u64,
    ) -> Option<SlotName> {
        if let Some(old) = self.slots.remove(name) {
            self.bytes -= cost(name, &old.value);
        }
        self.unremember(name);
        self.gone.insert(name.clone(), Gone { version, mark });
        self.order.insert((version, name.clone()));
        if self.gone.len() <= self.memory {
            return None;
        }
        let (version, oldest) = self.order.pop_first()?;
        let gone = self.gone.remove(&oldest)?;
        self.forget(version, gone.mark);
        Some(oldest)
    }

    /// Removes everything. Single removals need not be remembered any more: who is older than this needs everything anyway.
    pub(crate) fn clear(&mut self, version: Version, mark: u64) {
        self.slots.clear();
        self.gone.clear();
        self.order.clear();
        self.bytes = 0;
        self.forget(version, mark);
    }

    fn forget(&mut self, version: Version, mark: u64) {
        self.remembered_since = self.remembered_since.max(version);
        self.forgotten_mark = self.forgotten_mark.max(mark);
    }

    fn unremember(&mut self, name: &SlotName) {
        if let Some(gone) = self.gone.remove(name) {
            self.order.remove(&(gone.version, name.clone()));
        }
    }

    /// Slots that were set after this version, in the order of their names.
    pub(crate) fn slots_since(&self, version: Version) -> Vec<Slot> {
        self.slots
            .iter()
            .filter(|(_, held)| held.version > version || version == Version::NONE)
            .map(|(name, held)| Slot {
                name: name.clone(),
                value: held.value.clone(),
                version: held.version,
            })
            .collect()
    }

    /// Removals after this version, the oldest first.
    pub(crate) fn removed_since(&self, version: Version) -> Vec<RemovedSlot> {
        self.order
            .iter()
            .filter(|(removed, _)| *removed > version || version == Version::NONE)
            .map(|(version, name)| RemovedSlot {
                name: name.clone(),
                version: *version,
            })
            .collect()
    }
}

/// What a slot costs, in bytes.
pub(crate) fn cost(name: &str, value: &SlotValue) -> usize {
    SLOT_BYTES + name.len() + value.as_bytes().len()
}

/// The last applied number of each edge, bounded to [`APPLIED_EDGES`].
#[derive(Clone, Debug, Default)]
pub(crate) struct AppliedNumbers {
    edges: HashMap<EdgeIncarnation, Last>,
    /// Counts notes, to find what was used least recently.
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    number: u64,
    noted: u64,
    /// Applied here, and not heard of.
    own: bool,
}

impl AppliedNumbers {
    /// 0 for an edge that has none.
    pub(crate) fn number(&self, edge: EdgeIncarnation) -> u64 {
        self.edges.get(&edge).map_or(0, |last| last.number)
    }

    /// Notes a number that was applied here.
    pub(crate) fn note(&mut self, edge: EdgeIncarnation, number: u64) {
        self.take(edge, number, true);
    }

    /// Notes a number that was applied elsewhere, unless one of that edge was applied here.
    pub(crate) fn hear(&mut self, edge: EdgeIncarnation, number: u64) {
        if !self.edges.get(&edge).is_some_and(|last| last.own) {
            self.take(edge, number, false);
        }
    }

    /// Numbers never go back.
    fn take(&mut self, edge: EdgeIncarnation, number: u64, own: bool) {
        self.clock += 1;
        let noted = self.clock;
        let new = Last { number, noted, own };
        let last = self.edges.entry(edge).or_insert(new);
        last.number = last.number.max(number);
        last.noted = noted;
        last.own |= own;
        if self.edges.len() > APPLIED_EDGES {
            let oldest = self.edges.iter().min_by_key(|(_, last)| last.noted);
            if let Some(oldest) = oldest.map(|(edge, _)| *edge) {
                self.edges.remove(&oldest);
            }
        }
    }

    /// All of them, the least recently noted first: noting them in this order gives the same.
    pub(crate) fn list(&self) -> Vec<AppliedRequests> {
        let mut edges: Vec<_> = self.edges.iter().collect();
        edges.sort_unstable_by_key(|(_, last)| last.noted);
        edges
            .into_iter()
            .map(|(edge, last)| AppliedRequests {
                edge: *edge,
                number: last.number,
            })
            .collect()
    }
}
