//! What the handler does with objects, and what it is told.

use std::sync::Arc;
use std::time::Duration;

use headwater_shared_object::object::{ObjectName, Operation, Persistence, Refusal, SlotName};
use headwater_shared_object::value::SlotValue;
use tokio::time::Instant;

use super::line::Due;
use super::opening::Ask;
use super::{Author, LINE_BYTES, Objects, Output, Place, Store};

/// What a handler does to an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command {
    /// 0: no answer is wanted.
    pub(crate) command: u64,
    pub(crate) object: String,
    pub(crate) persistent: bool,
    pub(crate) action: Action,
}

impl Command {
    pub(super) fn persistence(&self) -> Persistence {
        if self.persistent {
            Persistence::Persistent
        } else {
            Persistence::Temporary
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Together, under one version.
    Apply(Vec<Operation>),
    /// Empty: all slots.
    Get(Vec<String>),
    Size,
    /// Answered when all that was applied before is durable.
    Flush,
    /// Whether [`Changed`] is wanted from now on.
    Watch(bool),
}

/// The answer to a [`Command`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) command: u64,
    pub(crate) result: Result<Found, Refusal>,
}

/// How an object is after what was done.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// Those that were asked for and are there.
    pub(crate) slots: Vec<(SlotName, SlotValue)>,
    /// Number of all slots.
    pub(crate) size: u32,
    pub(crate) version: u64,
}

/// An object that the handler watches has changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Changed {
    pub(crate) object: String,
    pub(crate) persistent: bool,
    pub(crate) version: u64,
    /// None: the handler itself.
    pub(crate) author: Option<Author>,
    pub(crate) operations: Arc<[Operation]>,
}

impl Objects {
    /// The handler does something.
    pub(crate) fn command(&mut self, now: Instant, command: Command) {
        if self.store == Store::Lost {
            return;
        }
        match ObjectName::parse(&command.object) {
            Ok(name) => self.ask(now, &name, Ask::Command(command)),
            Err(error) if command.command != 0 => {
                self.outputs.push_back(Output::Answer(Answer {
                    command: command.command,
                    result: Err(Refusal::Other {
                        code: "SharedObject.BadName".into(),
                        description: error.to_string().into(),
                    }),
                }));
            }
            Err(_) => {}
        }
    }

    /// The handler is gone, watches nothing and waits for nothing any more; what it has changed is done. Another one counts anew.
    pub(crate) fn handler_gone(&mut self, now: Instant) {
        self.line.forget_answers();
        let watched = |(name, place): (&ObjectName, &mut Place)| match place {
            Place::Open(object) => std::mem::take(&mut object.is_watched).then(|| name.clone()),
            Place::Loading(loading) => {
                for ask in &mut loading.asks {
                    if let Ask::Command(command) = ask {
                        command.command = 0;
                        if let Action::Watch(watch) = &mut command.action {
                            *watch = false;
                        }
                    }
                }
                None
            }
        };
        let names: Vec<ObjectName> = self.objects.iter_mut().filter_map(watched).collect();
        for name in names {
            self.settle(now, &name, Duration::ZERO);
        }
    }

    pub(super) fn obey(&mut self, now: Instant, name: &ObjectName, command: Command) {
        let has_room = self.has_room();
        let line_is_full = self.line.bytes() >= LINE_BYTES;
        let Some(object) = self.open_object(name) else {
            return;
        };
        if object.master.persistence() != command.persistence() {
            return self.refuse_ask(name, Ask::Command(command), &Refusal::BadPersistence);
        }
        if command.command != 0 && object.waits() && line_is_full {
            return self.refuse_ask(name, Ask::Command(command), &Refusal::Busy);
        }
        let mut slots = Vec::new();
        let mut waits = false;
        match &command.action {
            Action::Apply(operations) => {
                let applied = if object.is_persistent() && !has_room {
                    Err(Refusal::Busy)
                } else {
                    object.master.apply_own(operations)
                };
                match applied {
                    Ok(applied) => {
                        object.is_touched = true;
                        self.applied(name, applied, None);
                    }
                    Err(refusal) => {
                        self.refuse_ask(name, Ask::Command(command), &refusal);
                        return self.settle(now, name, Duration::ZERO);
                    }
                }
            }
            Action::Get(names) if names.is_empty() => {
                let all = object.master.slots();
                slots.extend(all.map(|(name, value)| (SlotName::from(name), value.clone())));
            }
            Action::Get(names) => {
                let found = names.iter().filter_map(|name| {
                    let value = object.master.slot(name)?;
                    Some((SlotName::from(name.as_str()), value.clone()))
                });
                slots.extend(found);
            }
            Action::Size => {}
            Action::Flush => waits = true,
            Action::Watch(watch) => object.is_watched = *watch,
        }
        if command.command != 0
            && let Some(object) = self.open_object(name)
        {
            let found = Found {
                slots,
                size: u32::try_from(object.master.len()).unwrap_or(u32::MAX),
                version: object.master.version().0,
            };
            let answer = Answer {
                command: command.command,
                result: Ok(found),
            };
            self.publish(name, Due::Answer(answer), waits);
        }
        self.settle(now, name, Duration::ZERO);
    }
}
