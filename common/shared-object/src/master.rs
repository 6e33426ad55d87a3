//! The owner's object: what requests do to it, what mirrors and the store are told, and what is taken over from the tenure before.
//!
//! # What counts as a change
//! One request is one version, whatever it does: that is what its number is remembered under. A set to an equal value, a removal of
//! what is not there and a clearing of nothing change nothing: their author has success all the same, from its own edge, and nobody
//! else hears of it. Red5 does so, and what is known of Adobe's server does not contradict; a client that wants to be heard sends a
//! message.
//!
//! # Tenures
//! ```text
//! temporary, at-once   v0 .... v1 | v1 + 65536 ....      what the new owner inherits ends at v1, its own changes begin after the gap
//! durable              v0 .... v1 | v1 + 1 ....          no mirror knows more than the store: one line of history
//! ```
//!
//! Where an owner begins with less than a mirror knows, it wants that mirror's state ([`Greeting::Wanted`], [`Master::adopt`]). The first
//! one is taken as it is. One that comes later and knows more replaces what was inherited, except what was changed since. The gap
//! keeps versions from going back for anybody, and from meaning two things. Between tenures a request may be lost with the mirrors that
//! knew it, and one whose mirror comes late may be applied again: nothing else is possible where nothing is stored.
//!
//! Not here: who may do what, and when an update is durable. For [`Keeping::Durable`] the shell publishes an update, a state or a
//! refusal only after everything that was accepted before it has become durable, in that order.

mod rows;
mod tenure;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub use self::rows::{Meta, Row, Rows};
use crate::content::{AppliedNumbers, Content, cost};
use crate::object::{
    EdgeIncarnation, Epoch, Operation, Persistence, Refusal, RequestId, SlotName, State, Update,
    Version,
};
use crate::value::SlotValue;

/// Versions between what a tenure inherits and its own: more than an owner can have applied without any mirror telling of it, as long
/// as edges bound their unanswered requests.
const TENURE_GAP: u64 = 1 << 16;

/// Mark of what was there before this tenure.
const INHERITED: u64 = 0;

/// Mark of what was changed in it.
const OWN: u64 = 1;

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

/// A request that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// For every mirror, the requesting edge's too: it is the answer.
    pub update: Update,
    /// For the store of a persistent object; empty for a temporary one.
    pub rows: Rows,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was applied.
    Applied(Applied),
    /// It had been applied before: nothing happens. `state_since(version())` tells the edge so, through its applied numbers; and
    /// [`Master::repeat`] is for the others.
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
    /// Mirrors that have been served so far need [`Master::state_since`] this; `None`: nothing has changed for them.
    pub since: Option<Version>,
    /// For the store of a persistent object: everything.
    pub rows: Option<Rows>,
}

/// The owner's object.
#[derive(Debug)]
pub struct Master {
    keeping: Keeping,
    epoch: Epoch,
    limits: MasterLimits,
    content: Content,
    version: Version,
    applied: AppliedNumbers,
    /// The end of what was taken over.
    inherited: Option<Inherited>,
    /// Own changes have greater versions than this.
    base: Version,
    /// Nothing has happened to it: the first mirror that knows anything is right in everything.
    untouched: bool,
}

#[derive(Clone, Copy, Debug)]
struct Inherited {
    /// The tenure that it was of.
    epoch: Epoch,
    /// Up to this version, mirrors of that tenure are on the line of what was inherited.
    line: Version,
    /// So is a mirror of exactly this version, the newest.
    newest: Version,
    /// From the store, and not from a mirror.
    stored: bool,
}

impl Master {
    /// An object that this owner has not had before. Mirrors of an earlier tenure may know it.
    pub fn new(keeping: Keeping, epoch: Epoch, limits: MasterLimits) -> Self {
        Self {
            keeping,
            epoch,
            limits,
            content: Content::new(limits.removals),
            version: Version::NONE,
            applied: AppliedNumbers::default(),
            inherited: None,
            base: Version::NONE,
            untouched: true,
        }
    }

    /// An object in place of one that this owner has had in this tenure and dropped, at the version `had` or before: a mirror that comes
    /// back late has to see that it is another one.
    pub fn again(keeping: Keeping, epoch: Epoch, limits: MasterLimits, had: Version) -> Self {
        let mut master = Self::new(keeping, epoch, limits);
        master.version = had.plus(1);
        master.base = master.version;
        master.content.remembered_since = master.version;
        master.untouched = false;
        master
    }

    /// An object from the store.
    pub fn load(
        keeping: Keeping,
        epoch: Epoch,
        limits: MasterLimits,
        meta: &Meta,
        rows: impl IntoIterator<Item = Row>,
    ) -> Self {
        let mut master = Self::new(keeping, epoch, limits);
        master.content.remembered_since = meta.remembered_since;
        for row in rows {
            match row {
                Row::Slot {
                    name,
                    value,
                    version,
                } => master.content.set(name, value, version, INHERITED),
                Row::Removed { name, version } => {
                    master.content.remove(&name, version, INHERITED);
                }
            }
        }
        for applied in &meta.applied {
            master.applied.hear(applied.edge, applied.number);
        }
        master.untouched = false;
        master.inherited = Some(Inherited {
            epoch: meta.epoch,
            line: meta.version,
            newest: meta.version,
            stored: true,
        });
        master.version = meta.version;
        if keeping != Keeping::Durable {
            // Somebody may have seen versions that never reached the store. Whoever is of before the gap gets everything.
            master.version = meta.version.plus(TENURE_GAP);
            master.content.remembered_since = master.version;
        }
        master.base = master.version;
        master
    }

    /// How it is kept.
    pub fn keeping(&self) -> Keeping {
        self.keeping
    }

    /// Whether it outlives its users.
    pub fn persistence(&self) -> Persistence {
        match self.keeping {
            Keeping::Temporary => Persistence::Temporary,
            Keeping::Durable | Keeping::AtOnce => Persistence::Persistent,
        }
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.content.len()
    }

    /// Whether there are no slots.
    pub fn is_empty(&self) -> bool {
        self.content.len() == 0
    }

    /// Bytes as [`MasterLimits::object_bytes`] counts them.
    pub fn bytes(&self) -> usize {
        self.content.bytes()
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

    /// Applies a request: all of it under one version, or nothing.
    ///
    /// # Errors
    /// [`Refusal`]: nothing has changed, and the request's number is not used up.
    pub fn apply(
        &mut self,
        edge: EdgeIncarnation,
        number: u64,
        operations: &[Operation],
    ) -> Result<Outcome, Refusal> {
        if self.has_applied(edge, number) {
            return Ok(Outcome::Duplicate);
        }
        self.check(operations)?;
        self.applied.note(edge, number);
        let request = RequestId { edge, number };
        Ok(Outcome::Applied(self.change(operations, Some(request))))
    }

    /// Whether a request was applied, now or before.
    #[must_use]
    pub fn has_applied(&self, edge: EdgeIncarnation, number: u64) -> bool {
        number <= self.applied.number(edge)
    }

    /// What a request has sent that was applied before, for mirrors that have not heard of it: the owner that applied it may have told
    /// nobody. `None`: nothing, or what is never applied.
    #[must_use]
    pub fn repeat(
        &self,
        edge: EdgeIncarnation,
        number: u64,
        operations: &[Operation],
    ) -> Option<Update> {
        let sent: Arc<[Operation]> = operations
            .iter()
            .filter(|it| it.is_send())
            .cloned()
            .collect();
        (!sent.is_empty() && self.check(&sent).is_ok()).then(|| Update {
            version: self.version,
            request: Some(RequestId { edge, number }),
            operations: sent,
            is_repeated: true,
        })
    }

    /// Applies what the server itself wants.
    ///
    /// # Errors
    /// [`Refusal`]: nothing has changed.
    pub fn apply_own(&mut self, operations: &[Operation]) -> Result<Applied, Refusal> {
        self.check(operations)?;
        Ok(self.change(operations, None))
    }

    fn change(&mut self, operations: &[Operation], request: Option<RequestId>) -> Applied {
        self.version = self.version.plus(1);
        self.untouched = false;
        let mut effective = Vec::with_capacity(operations.len());
        let mut cleared = false;
        let mut touched = BTreeSet::new();
        for operation in operations {
            if self.content.is_idle(operation) {
                continue;
            }
            touched.extend(self.content.apply(operation, self.version, OWN));
            match operation {
                Operation::Set { name, .. } | Operation::Remove { name } => {
                    touched.insert(name.clone());
                }
                Operation::Clear => {
                    cleared = true;
                    touched.clear();
                }
                Operation::Send { .. } => {}
            }
            effective.push(operation.clone());
        }
        let rows = match self.keeping {
            Keeping::Temporary => Rows::default(),
            Keeping::Durable | Keeping::AtOnce => self.rows_of(cleared, touched),
        };
        Applied {
            update: Update {
                is_repeated: false,
                version: self.version,
                request,
                operations: effective.into(),
            },
            rows,
        }
    }

    /// Whether the object would still be within its limits. One that is beyond them already, because they were lowered, may not grow.
    fn check(&self, operations: &[Operation]) -> Result<(), Refusal> {
        let limits = &self.limits;
        let (mut count, mut bytes) = (self.content.len(), self.content.bytes());
        // What slots would cost that were named so far.
        let mut named: HashMap<&str, Option<usize>> = HashMap::new();
        let mut cleared = false;
        for operation in operations {
            let (name, new) = match operation {
                Operation::Send { arguments } => {
                    self.check_value(arguments.as_bytes().len())?;
                    continue;
                }
                Operation::Clear => {
                    cleared = true;
                    named.clear();
                    (count, bytes) = (0, 0);
                    continue;
                }
                Operation::Remove { name } => (name, None),
                Operation::Set { name, value } => {
                    if name.len() > limits.name_bytes {
                        return Err(Refusal::SlotNameTooLong {
                            length: name.len(),
                            maximum: limits.name_bytes,
                        });
                    }
                    self.check_value(value.as_bytes().len())?;
                    (name, Some(cost(name, value)))
                }
            };
            let old = match named.insert(name, new) {
                Some(old) => old,
                None if cleared => None,
                None => self.content.get(name).map(|held| cost(name, &held.value)),
            };
            count = count + usize::from(new.is_some()) - usize::from(old.is_some());
            bytes = bytes + new.unwrap_or(0) - old.unwrap_or(0);
        }
        if count > limits.slots.max(self.content.len()) {
            return Err(Refusal::TooManySlots {
                maximum: limits.slots,
            });
        }
        if bytes > limits.object_bytes.max(self.content.bytes()) {
            return Err(Refusal::ObjectTooLarge {
                length: bytes,
                maximum: limits.object_bytes,
            });
        }
        Ok(())
    }

    fn check_value(&self, length: usize) -> Result<(), Refusal> {
        let maximum = self.limits.value_bytes;
        if length > maximum {
            return Err(Refusal::ValueTooLarge { length, maximum });
        }
        Ok(())
    }

    /// What a mirror of this tenure lacks that is at this version: the difference if the removals since are remembered, else everything.
    pub fn state_since(&self, version: Version) -> State {
        if version == Version::NONE
            || version < self.content.remembered_since
            || version > self.version
        {
            return self.whole();
        }
        State {
            since: version,
            slots: self.content.slots_since(version),
            removed: self.content.removed_since(version),
            ..self.frame()
        }
    }

    fn whole(&self) -> State {
        State {
            slots: self.content.slots_since(Version::NONE),
            removed: self.content.removed_since(Version::NONE),
            ..self.frame()
        }
    }

    fn frame(&self) -> State {
        State {
            epoch: self.epoch,
            version: self.version,
            remembered_since: self.content.remembered_since,
            applied: self.applied.list(),
            ..State::default()
        }
    }

    /// Everything, for a store that has nothing of the object or something else.
    pub fn rows(&self) -> Rows {
        let names = self.content.slots().map(|(name, _)| name.clone());
        let removed = self.content.removals().map(|(name, _)| name.clone());
        self.rows_of(true, names.chain(removed).collect())
    }

    /// How these names stand now.
    fn rows_of(&self, clear: bool, names: BTreeSet<SlotName>) -> Rows {
        let mut rows = Rows {
            clear,
            meta: Meta {
                epoch: self.epoch,
                version: self.version,
                remembered_since: self.content.remembered_since,
                applied: self.applied.list(),
            },
            ..Rows::default()
        };
        for name in names {
            if let Some(held) = self.content.get(&name) {
                rows.put.push(Row::Slot {
                    value: held.value.clone(),
                    version: held.version,
                    name,
                });
            } else if let Some(gone) = self.content.gone(&name) {
                rows.put.push(Row::Removed {
                    version: gone.version,
                    name,
                });
            } else if !clear {
                rows.delete.push(name);
            }
        }
        rows
    }
}
