//! The shared objects that one client uses, and what its messages ask for.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use headwater_shared_object::object::{ClientId, ObjectName, Operation, Refusal};
use headwater_shared_object::wire::{Encoding, Event, Message};

use super::Objects;
use super::local::{Asked, LocalObjects, Session, Usage, Waiting, refusal_form};
use crate::application::access;
use crate::fanout::SharedConnection;

/// A client, as far as shared objects go.
pub(crate) struct Client<'a> {
    pub(crate) objects: &'a Arc<Objects>,
    pub(crate) local: &'a Rc<LocalObjects>,
    pub(crate) connection: &'a SharedConnection,
    pub(crate) session: &'a Rc<dyn Session>,
    pub(crate) id: ClientId,
    pub(crate) encoding: Encoding,
    /// Objects that it may use at once.
    pub(crate) most: usize,
    pub(crate) read_access: &'a str,
    pub(crate) write_access: &'a str,
    /// Whether the handler is asked who may use what.
    pub(crate) is_asked: bool,
    /// Of what is sent to it, in bytes.
    pub(crate) chunk_size: u32,
}

/// What is left to be done with a client's message.
pub(crate) enum Outcome {
    Done,
    /// The owner is slow: the rest of the message has to wait for room.
    Busy(Rest),
    /// The handler has to be asked whether the client may use the object.
    Ask(Question),
}

/// The rest of a message.
pub(crate) struct Rest {
    pub(crate) name: ObjectName,
    version: u32,
    operations: Vec<Operation>,
}

/// A use that the handler decides about.
pub(crate) struct Question {
    pub(crate) name: ObjectName,
    pub(crate) waiting: Box<Waiting>,
    /// What it and later messages ask for besides.
    operations: Vec<(u32, Vec<Operation>)>,
}

/// What a client may ask for while the handler is asked: messages.
const MAX_EARLY: usize = 64;

impl Question {
    /// Keeps what a later message of the client asks for. `false`: it has asked for too much.
    pub(crate) fn keep(&mut self, message: &Message) -> bool {
        let has_room = self.operations.len() < MAX_EARLY;
        if has_room {
            self.operations
                .push((message.version, message.operations()));
        }
        has_room
    }

    /// Whether the client takes the object for a persistent one.
    pub(crate) fn persistent(&self) -> bool {
        use headwater_shared_object::object::Persistence;
        self.waiting.asked == Some(Persistence::Persistent)
    }
}

/// The objects that a client uses. They are let go when it is dropped.
#[derive(Default)]
pub(crate) struct Uses {
    uses: HashMap<ObjectName, Use>,
}

struct Use {
    usage: Usage,
    may_write: bool,
    /// The handler has nothing against it.
    is_granted: bool,
}

impl Uses {
    /// Takes a client's message.
    pub(crate) fn take(&mut self, client: &Client<'_>, message: Message) -> Outcome {
        let operations = message.operations();
        let Message {
            name,
            version,
            flags,
            events,
        } = message;
        if events.contains(&Event::Use) {
            let waiting = Waiting::new(client.id, flags, client.encoding, version);
            // A client that uses it already, and says it again, wants everything again.
            self.uses.remove(&name);
            let refusal = if !access::allows(client.read_access, name.as_str()) {
                Some(Refusal::NoReadAccess)
            } else if self.uses.len() >= client.most {
                let description = format!("a client may use {} objects", client.most);
                Some(Refusal::from_code(
                    "SharedObject.TooManyObjects",
                    &description,
                ))
            } else {
                None
            };
            if let Some(refusal) = refusal {
                refuse(client, &name, &waiting, &refusal);
                return Outcome::Done;
            }
            if client.is_asked {
                let waiting = Box::new(waiting);
                return Outcome::Ask(Question {
                    name,
                    waiting,
                    operations: vec![(version, operations)],
                });
            }
            self.join(client, &name, waiting, true);
        }
        let outcome = self.request(client, name.clone(), version, operations);
        if events.contains(&Event::Release) {
            self.uses.remove(&name);
        }
        outcome
    }

    /// The handler has decided.
    pub(crate) fn decided(
        &mut self,
        client: &Client<'_>,
        question: Question,
        may_read: bool,
        may_write: bool,
    ) -> Outcome {
        let Question {
            name,
            waiting,
            operations,
        } = question;
        if !may_read || !access::allows(client.read_access, name.as_str()) {
            refuse(client, &name, &waiting, &Refusal::NoReadAccess);
            return Outcome::Done;
        }
        if self.uses.len() >= client.most {
            let description = format!("a client may use {} objects", client.most);
            let refusal = Refusal::from_code("SharedObject.TooManyObjects", &description);
            refuse(client, &name, &waiting, &refusal);
            return Outcome::Done;
        }
        self.join(client, &name, *waiting, may_write);
        for (version, operations) in operations {
            if let Outcome::Busy(rest) = self.request(client, name.clone(), version, operations) {
                self.give_up(&rest);
            }
        }
        Outcome::Done
    }

    /// Refuses what cannot be asked.
    pub(crate) fn refuse(client: &Client<'_>, question: &Question, refusal: &Refusal) {
        refuse(client, &question.name, &question.waiting, refusal);
    }

    /// Another client took the object for something else, which it is not.
    pub(crate) fn again(&mut self, client: &Client<'_>, name: &ObjectName, waiting: Waiting) {
        // Released meanwhile, maybe.
        if let Some(old) = self.uses.remove(name) {
            let is_granted = old.is_granted;
            drop(old);
            self.join(client, name, waiting, is_granted);
        }
    }

    fn join(&mut self, client: &Client<'_>, name: &ObjectName, waiting: Waiting, is_granted: bool) {
        let may_write = is_granted && access::allows(client.write_access, name.as_str());
        let (flags, encoding) = (waiting.flags(), waiting.encoding);
        let (id, version) = (waiting.client, waiting.version);
        let joined = client.local.join(
            client.objects,
            name,
            waiting,
            client.connection,
            client.session,
        );
        match joined {
            Ok(usage) => {
                let used = Use {
                    usage,
                    may_write,
                    is_granted,
                };
                self.uses.insert(name.clone(), used);
            }
            Err(refusal) => {
                let waiting = Waiting::new(id, flags, encoding, version);
                refuse(client, name, &waiting, &refusal);
            }
        }
    }

    /// The rest of a message for which there was no room.
    pub(crate) fn retry(&mut self, client: &Client<'_>, rest: Rest) -> Outcome {
        self.request(client, rest.name, rest.version, rest.operations)
    }

    /// There is no room, and it was waited for long enough.
    pub(crate) fn give_up(&mut self, rest: &Rest) {
        if let Some(used) = self.uses.get(&rest.name) {
            used.usage.refuse(&rest.operations, &Refusal::Busy);
        }
    }

    fn request(
        &mut self,
        client: &Client<'_>,
        name: ObjectName,
        version: u32,
        operations: Vec<Operation>,
    ) -> Outcome {
        if operations.is_empty() {
            return Outcome::Done;
        }
        let Some(used) = self.uses.get(&name) else {
            client.objects.meters().ignored.inc();
            return Outcome::Done;
        };
        if !used.may_write {
            used.usage.refuse(&operations, &Refusal::NoWriteAccess);
            return Outcome::Done;
        }
        match used.usage.request(version, operations) {
            Asked::Taken => Outcome::Done,
            Asked::Busy(operations) => Outcome::Busy(Rest {
                name,
                version,
                operations,
            }),
        }
    }

    /// Completes when there may be room for the rest of a message.
    pub(crate) fn room(&self, rest: &Rest) -> Option<impl Future<Output = ()> + use<>> {
        Some(self.uses.get(&rest.name)?.usage.room())
    }

    /// What the client may do has changed.
    pub(crate) fn set_access(&mut self, read_access: &str, write_access: &str) {
        self.uses
            .retain(|name, _| access::allows(read_access, name.as_str()));
        for (name, used) in &mut self.uses {
            used.may_write = used.is_granted && access::allows(write_access, name.as_str());
        }
    }

    /// The connection has room again.
    pub(crate) fn serve(&mut self) {
        for used in self.uses.values() {
            used.usage.serve();
        }
        self.uses.retain(|_, used| !used.usage.is_over());
    }
}

fn refuse(client: &Client<'_>, name: &ObjectName, waiting: &Waiting, refusal: &Refusal) {
    client.objects.meters().refused.inc();
    let form = refusal_form(name, waiting, refusal, client.chunk_size);
    // As control messages: a client that asks and asks and does not read is closed.
    client.connection.borrow_mut().send(form);
}
