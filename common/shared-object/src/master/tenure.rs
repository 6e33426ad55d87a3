//! What is taken over from the tenure before, from mirrors that know more than this owner.

use std::collections::HashMap;

use super::{Adopted, Greeting, INHERITED, Inherited, Keeping, Master, OWN, TENURE_GAP};
use crate::content::Held;
use crate::object::{Epoch, SlotName, State, Version};
use crate::value::SlotValue;

impl Master {
    /// What an edge gets that uses the object, and whose mirror has this version of that tenure; zeros: nothing.
    pub fn greet(&self, epoch: Epoch, version: Version) -> Greeting {
        if self.is_less(epoch, version) {
            Greeting::Wanted
        } else if self.is_on_the_line(epoch, version) {
            Greeting::State(self.state_since(version))
        } else {
            Greeting::State(self.whole())
        }
    }

    /// Whether a mirror has something that this owner has to have.
    fn is_less(&self, epoch: Epoch, version: Version) -> bool {
        let is_ahead = epoch != self.epoch && version > self.version;
        is_ahead || self.is_newer(epoch, version)
    }

    /// Whether a mirror knows what this owner does not.
    fn is_newer(&self, epoch: Epoch, version: Version) -> bool {
        if version == Version::NONE || epoch == self.epoch {
            return false;
        }
        match self.inherited {
            None => true,
            Some(end) if self.is_one_line(end) => version > end.newest,
            Some(end) => (epoch, version) > (end.epoch, end.newest),
        }
    }

    /// Whether the history of a mirror is the beginning of this owner's, so that a difference makes them equal.
    fn is_on_the_line(&self, epoch: Epoch, version: Version) -> bool {
        if epoch == self.epoch {
            return version <= self.version;
        }
        match self.inherited {
            None => false,
            Some(end) if self.is_one_line(end) => version <= end.line,
            Some(end) => {
                // Own changes have to have greater versions than the mirror.
                epoch == end.epoch
                    && end.newest <= self.base
                    && (version <= end.line || version == end.newest)
            }
        }
    }

    /// Whether all mirrors of all tenures are on one line.
    fn is_one_line(&self, end: Inherited) -> bool {
        self.keeping == Keeping::Durable && end.stored
    }

    /// Takes over what a mirror of an earlier tenure knows. `state` is whole ([`crate::mirror::Mirror::snapshot`]).
    pub fn adopt(&mut self, state: State) -> Adopted {
        let end = (state.epoch, state.version);
        let (epoch, newest) = end;
        if !state.is_whole() || !self.is_less(epoch, newest) {
            return Adopted {
                since: None,
                rows: None,
            };
        }
        let before = self.version;
        if self.is_newer(epoch, newest) {
            self.inherit(state);
        }
        // Of a line that was left behind: only its version counts, for those who have seen it.
        self.version = self.version.max(newest).plus(TENURE_GAP);
        if std::mem::take(&mut self.untouched) {
            self.base = self.version;
        }
        Adopted {
            since: Some(before),
            rows: (self.keeping != Keeping::Temporary).then(|| self.rows()),
        }
    }

    fn inherit(&mut self, state: State) {
        for applied in &state.applied {
            // An edge that has begun to ask again goes on with that: what came before it would be done without what comes after.
            self.applied.hear(applied.edge, applied.number);
        }
        let (epoch, newest) = (state.epoch, state.version);
        let line = if self.untouched {
            self.take(state);
            newest
        } else {
            self.merge(state);
            // Where the tenure is the same, what was on the line still is.
            self.inherited
                .filter(|inherited| inherited.epoch == epoch)
                .map_or(Version::NONE, |inherited| inherited.line)
        };
        self.inherited = Some(Inherited {
            epoch,
            line,
            newest,
            stored: false,
        });
    }

    /// As it is, versions and removals too.
    fn take(&mut self, state: State) {
        self.version = state.version;
        self.content.remembered_since = state.remembered_since;
        for slot in state.slots {
            self.content
                .set(slot.name, slot.value, slot.version, INHERITED);
        }
        for slot in state.removed {
            self.content.remove(&slot.name, slot.version, INHERITED);
        }
    }

    /// In place of what was inherited, where nothing was changed since. The versions of what it changes are the one that comes.
    fn merge(&mut self, state: State) {
        if self.content.forgotten_mark == OWN {
            // All was cleared in this tenure, or what was removed is not known any more: nothing of before can come back.
            return;
        }
        let version = self.version.max(state.version).plus(TENURE_GAP);
        let theirs: HashMap<SlotName, SlotValue> = state
            .slots
            .into_iter()
            .map(|slot| (slot.name, slot.value))
            .collect();
        let lost: Vec<SlotName> = self
            .content
            .slots()
            .filter(|(name, held)| held.mark == INHERITED && !theirs.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in lost {
            self.content.remove(&name, version, INHERITED);
        }
        for (name, value) in theirs {
            let is_own = self.content.get(&name).is_some_and(|held| held.mark == OWN)
                || self
                    .content
                    .gone(&name)
                    .is_some_and(|gone| gone.mark == OWN);
            let is_equal = |held: &Held| held.value == value;
            if !is_own && !self.content.get(&name).is_some_and(is_equal) {
                self.content.set(name, value, version, INHERITED);
            }
        }
    }
}
