//! How a mirror becomes what an owner says that the object is.

use super::*;

impl Mirror {
    /// Takes a state, or a piece of one. `true`: that was the last piece, and the mirror is what it says; if the call or the owner is
    /// new, what is still [`Mirror::unanswered`] has to be sent now.
    ///
    /// # Errors
    /// [`OutOfStep`]: [`Mirror::distrust`] it and use the object again.
    pub fn handle_state(&mut self, piece: State) -> Result<bool, OutOfStep> {
        let Some(state) = self.assembly.push(piece)? else {
            return Ok(false);
        };
        let fits = state.since <= self.version && self.version <= state.version;
        let is_usable = state.is_whole() || (self.trusted && fits);
        if !is_usable {
            return Err(OutOfStep::Difference {
                have: self.known().1,
                since: state.since,
                version: state.version,
            });
        }
        for applied in &state.applied {
            self.applied.note(applied.edge, applied.number);
        }
        let own = self.applied.number(self.edge);
        self.next_number = self.next_number.max(own.saturating_add(1));
        let version = state.version;
        self.epoch = state.epoch;
        let operations = self.become_as(state);
        self.version = version;
        self.trusted = true;
        self.cache.clear();
        if !std::mem::replace(&mut self.ready, true) {
            self.log.begin(version);
            self.heard = self.applied.clone();
        } else if !operations.is_empty() {
            self.append(Entry {
                version,
                operations: operations.into(),
                answer: None,
            });
        }
        while let Some(pending) = self
            .pending
            .pop_front_if(|first| first.request.number <= own)
        {
            self.confirm_late(pending);
        }
        Ok(true)
    }

    /// A request that was dealt with, and whose update or refusal will not come. What it has changed came with the state; what it
    /// has sent comes from here.
    fn confirm_late(&mut self, pending: Pending) {
        self.pending_bytes -= pending.cost;
        let sent = pending.request.sends();
        if let Some(sent) = &sent {
            self.repeat(sent.clone());
        }
        let sent = sent.map_or_else(|| Arc::from([]), |sent| sent.operations);
        let Request {
            client, operations, ..
        } = pending.request;
        self.append(Entry {
            version: self.version,
            operations: sent,
            answer: Some(Answer {
                client,
                kind: AnswerKind::Late {
                    standing: self.standing(&operations),
                    requested: operations,
                },
            }),
        });
    }

    /// Gives what has changed by it.
    fn become_as(&mut self, state: State) -> Vec<Operation> {
        let mark = self.log.head();
        let mut operations = Vec::new();
        if state.is_whole() {
            let kept: HashSet<&SlotName> = state.slots.iter().map(|slot| &slot.name).collect();
            let gone: Vec<SlotName> = self
                .content
                .slots()
                .map(|(name, _)| name)
                .filter(|name| !kept.contains(*name))
                .cloned()
                .collect();
            let removed: HashMap<&SlotName, Version> = state
                .removed
                .iter()
                .map(|slot| (&slot.name, slot.version))
                .collect();
            for name in gone {
                let version = removed.get(&name).copied().unwrap_or(state.version);
                self.content.remove(&name, version, mark);
                operations.push(Operation::Remove { name });
            }
            self.content.remembered_since = state.remembered_since;
        }
        for slot in state.removed {
            let present = self.content.get(&slot.name).is_some();
            // What was not there was removed for nobody: the mark of the removal stays.
            let mark = match self.content.gone(&slot.name) {
                _ if present => mark,
                Some(gone) => gone.mark,
                None => 0,
            };
            self.content.remove(&slot.name, slot.version, mark);
            if present {
                operations.push(Operation::Remove { name: slot.name });
            }
        }
        for slot in state.slots {
            let mark = match self.content.get(&slot.name) {
                Some(held) if held.value == slot.value => held.mark,
                _ => {
                    operations.push(Operation::Set {
                        name: slot.name.clone(),
                        value: slot.value.clone(),
                    });
                    mark
                }
            };
            self.content.set(slot.name, slot.value, slot.version, mark);
        }
        operations
    }
}
