//! What edges say of objects, and what they are told.

use headwater_application::wire;
use headwater_proto::v1;
use headwater_proto::v1::attach_request::Request as Said;
use headwater_proto::v1::attach_response::Response as Told;
use headwater_shared_object::master::{Applied, Greeting, Outcome};
use headwater_shared_object::object::{
    Assembly, EdgeIncarnation, Epoch, ObjectName, Persistence, Refusal, Version,
};
use std::time::Duration;
use tokio::time::Instant;

use super::line::Due;
use super::object::User;
use super::opening::Ask;
use super::{
    Answer, Author, Changed, EdgeCall, LINE_BYTES, LINGER, Objects, Output, PIECE, Place, Store,
    named, unavailable,
};

/// What the state of an edge may take besides what the application allows for an object, bytes: versions, removals, and what was allowed
/// before.
const STATE_OVERHEAD: usize = 64 << 20;

impl Objects {
    /// What an edge says on its call; what is not about objects is nobody's business here.
    pub(crate) fn said(&mut self, now: Instant, call: EdgeCall, said: Said) {
        if self.store == Store::Lost {
            return;
        }
        // A call that was broken may still say something.
        let Some(edge) = self.edges.get_mut(&call) else {
            return;
        };
        match said {
            Said::UseObject(said) => {
                let (name, persistence) = match wire::read_object_name(said.object.as_ref()) {
                    Ok(read) => read,
                    Err(error) => {
                        let refusal = Refusal::Other {
                            code: "SharedObject.BadName".into(),
                            description: error.to_string().into(),
                        };
                        return self.refuse(call, said.object.unwrap_or_default(), 0, &refusal);
                    }
                };
                edge.uses.insert(name.clone());
                let ask = Ask::Use {
                    call,
                    known: (Epoch(said.epoch), Version(said.version)),
                    asked: (!said.as_it_is).then_some(persistence),
                };
                self.ask(now, &name, ask);
            }
            Said::ReleaseObject(said) => {
                if let Ok((name, _)) = wire::read_object_name(said.object.as_ref()) {
                    edge.uses.remove(&name);
                    self.unuse(now, call, &name, Duration::ZERO);
                }
            }
            Said::Object(said) => {
                let incarnation = edge.incarnation;
                match wire::read_object_name(said.object.as_ref()) {
                    Ok((name, persistence)) => {
                        let ask = Ask::Request {
                            call,
                            persistence,
                            number: said.number,
                            author: Author {
                                incarnation,
                                client: said.client,
                            },
                            operations: wire::read_operations(&said.operations),
                        };
                        self.request(now, &name, ask);
                    }
                    Err(_) => self.break_call(now, call),
                }
            }
            Said::ObjectState(said) => match wire::read_object_name(said.object.as_ref()) {
                Ok((name, _)) => self.state(now, call, &name, &said),
                Err(_) => self.break_call(now, call),
            },
            _ => {}
        }
    }

    /// Only edges that have its state have something to ask of an object.
    fn request(&mut self, now: Instant, name: &ObjectName, ask: Ask) {
        if let Some(Place::Open(_)) = self.objects.get(name) {
            self.answer(now, name, ask);
        } else {
            self.refuse_ask(name, ask, &unavailable("the edge does not use the object"));
        }
    }

    /// Does what somebody wants of an object that is open.
    pub(super) fn answer(&mut self, now: Instant, name: &ObjectName, ask: Ask) {
        match ask {
            Ask::Use { call, known, asked } => self.begin_use(now, name, call, known, asked),
            Ask::Request { .. } => self.apply(now, name, ask),
            Ask::Command(command) => self.obey(now, name, command),
        }
    }

    fn begin_use(
        &mut self,
        now: Instant,
        name: &ObjectName,
        call: EdgeCall,
        known: (Epoch, Version),
        asked: Option<Persistence>,
    ) {
        if !self.edges.contains_key(&call) {
            return;
        }
        let line_is_full = self.line.bytes() >= LINE_BYTES;
        let Some(object) = self.open_object(name) else {
            return;
        };
        let is = object.master.persistence();
        if asked.is_some_and(|asked| asked != is) {
            let ask = Ask::Use { call, known, asked };
            self.refuse_ask(name, ask, &Refusal::BadPersistence);
            return;
        }
        if object.waits() && line_is_full {
            return self.break_call(now, call);
        }
        let greeting = object.master.greet(known.0, known.1);
        match greeting {
            Greeting::State(state) => {
                let sequence = self.line.next_sequence();
                if let Some(object) = self.open_object(name) {
                    object.users.insert(call, User::Served(sequence));
                }
                let due = Due::State {
                    call,
                    state,
                    is_greeting: true,
                };
                self.publish_as(name, sequence, due, false);
                let repeats = self.open_object(name).map(|object| object.repeats(now));
                // Others have heard of them, and know that.
                for update in repeats.unwrap_or_default() {
                    let author = None;
                    self.publish(name, Due::Update { update, author }, false);
                }
            }
            Greeting::Wanted => {
                let bytes = self.policy.max_object_bytes.saturating_mul(2) + STATE_OVERHEAD;
                if let Some(object) = self.open_object(name) {
                    let user = User::Wanted(Assembly::new(bytes));
                    object.users.insert(call, user);
                }
                let wanted = v1::ObjectWanted {
                    object: Some(named(name, is)),
                };
                self.tell(call, Told::ObjectWanted(wanted));
            }
        }
        self.settle(now, name, LINGER);
    }

    pub(super) fn unuse(
        &mut self,
        now: Instant,
        call: EdgeCall,
        name: &ObjectName,
        grace: Duration,
    ) {
        match self.objects.get_mut(name) {
            Some(Place::Open(object)) => {
                object.users.remove(&call);
                self.settle(now, name, grace);
            }
            Some(Place::Loading(loading)) => {
                loading
                    .asks
                    .retain(|ask| !matches!(ask, Ask::Use { call: other, .. } if *other == call));
            }
            None => {}
        }
    }

    fn apply(&mut self, now: Instant, name: &ObjectName, ask: Ask) {
        let has_room = self.has_room();
        let line_is_full = self.line.bytes() >= LINE_BYTES;
        let Ask::Request {
            call,
            number,
            author,
            operations,
            ..
        } = &ask
        else {
            return;
        };
        let (call, number, author) = (*call, *number, *author);
        let Some(object) = self.open_object(name) else {
            return;
        };
        if !matches!(object.users.get(&call), Some(User::Served(_))) {
            let refusal = unavailable("the edge does not use the object");
            return self.refuse_ask(name, ask, &refusal);
        }
        if object.waits() && line_is_full {
            return self.break_call(now, call);
        }
        let mut repeated = None;
        let edge = EdgeIncarnation(author.incarnation);
        // What was done needs no room.
        let is_done = object.master.has_applied(edge, number);
        let outcome = if object.is_persistent() && !has_room && !is_done {
            Err(Refusal::Busy)
        } else {
            object.master.apply(edge, number, operations)
        };
        let due = match outcome {
            Ok(Outcome::Applied(applied)) => {
                return self.applied(name, applied, Some(author));
            }
            // Its applied numbers say so.
            Ok(Outcome::Duplicate) => {
                repeated = object.master.repeat(edge, number, operations);
                let state = object.master.state_since(object.master.version());
                self.metrics.duplicates.inc();
                Due::State {
                    call,
                    state,
                    is_greeting: false,
                }
            }
            Err(refusal) => Due::Refused {
                call,
                number,
                refusal,
            },
        };
        self.publish(name, due, false);
        if let Some(update) = repeated {
            if let Some(object) = self.open_object(name) {
                object.keep_repeat(now, &update);
            }
            let author = Some(author);
            self.publish(name, Due::Update { update, author }, false);
        }
    }

    /// Writes and tells what a master has taken.
    pub(super) fn applied(&mut self, name: &ObjectName, applied: Applied, author: Option<Author>) {
        self.metrics.changes.inc();
        let Applied { update, rows } = applied;
        if let Some(object) = self.open_object(name)
            && object.is_persistent()
        {
            let batch = object.batch(rows);
            self.write(name, batch);
        }
        self.publish(name, Due::Update { update, author }, false);
    }

    fn write(&mut self, name: &ObjectName, batch: crate::state::Batch) {
        let write = self.line.write(name);
        if let Some(object) = self.open_object(name) {
            object.written = write;
            object.is_durable = false;
        }
        self.outputs.push_back(Output::Write(batch));
    }

    /// The state that was wanted of a mirror that knows more, or a piece of it.
    fn state(&mut self, now: Instant, call: EdgeCall, name: &ObjectName, said: &v1::ObjectState) {
        let Some(object) = self.open_object(name) else {
            return;
        };
        // Otherwise it was not wanted, or not any more.
        let Some(User::Wanted(assembly)) = object.users.get_mut(&call) else {
            return;
        };
        let state = match assembly.push(wire::read_state(said)) {
            Ok(None) => return,
            Ok(Some(state)) => state,
            Err(error) => {
                tracing::warn!(object = %name, %error, "the state of a mirror cannot be used");
                return self.break_call(now, call);
            }
        };
        let known = (state.epoch, state.version);
        let adopted = object.master.adopt(state);
        let is_persistent = object.is_persistent();
        if adopted.since.is_some() {
            self.metrics.adopted.inc();
        }
        if let Some(rows) = adopted.rows
            && is_persistent
            && let Some(object) = self.open_object(name)
        {
            let batch = object.batch(rows);
            self.write(name, batch);
        }
        if let Some(since) = adopted.since {
            self.tell_others(name, call, since);
        }
        // What it knows is known now; if it is still not, it gets what there is.
        let Some(object) = self.open_object(name) else {
            return;
        };
        let known = match object.master.greet(known.0, known.1) {
            Greeting::State(_) => known,
            Greeting::Wanted => (Epoch::default(), Version::NONE),
        };
        self.begin_use(now, name, call, known, None);
    }

    /// What has changed since, to those who are served.
    fn tell_others(&mut self, name: &ObjectName, but: EdgeCall, since: Version) {
        let Some(object) = self.open_object(name) else {
            return;
        };
        let state = object.master.state_since(since);
        let others: Vec<EdgeCall> = (object.users.iter())
            .filter(|(call, user)| **call != but && matches!(user, User::Served(_)))
            .map(|(call, _)| *call)
            .collect();
        for call in others {
            let due = Due::State {
                call,
                state: state.clone(),
                is_greeting: false,
            };
            self.publish(name, due, false);
        }
    }

    pub(super) fn publish(&mut self, name: &ObjectName, due: Due, waits: bool) {
        let sequence = self.line.next_sequence();
        self.publish_as(name, sequence, due, waits);
    }

    /// Tells it, in its turn. With `waits` it waits for what was written also where changes do not.
    fn publish_as(&mut self, name: &ObjectName, sequence: u64, due: Due, waits: bool) {
        let Some(Place::Open(object)) = self.objects.get_mut(name) else {
            return;
        };
        let is_behind = object.lined > 0 || !self.line.is_durable(object.written);
        if is_behind && (waits || object.waits()) {
            object.lined += 1;
            self.line.push(name, sequence, object.written, due);
        } else {
            self.emit(name, sequence, due);
        }
    }

    /// Tells it.
    pub(super) fn emit(&mut self, name: &ObjectName, sequence: u64, due: Due) {
        let due = match due {
            // Who asked is gone.
            Due::Answer(Answer { command: 0, .. }) => return,
            Due::Answer(answer) => return self.outputs.push_back(Output::Answer(answer)),
            due => due,
        };
        let Some(Place::Open(object)) = self.objects.get(name) else {
            return;
        };
        let persistence = object.master.persistence();
        match due {
            Due::Update { update, author } => {
                let served = object
                    .users
                    .iter()
                    .filter(|(_, user)| matches!(user, User::Served(since) if *since < sequence));
                let calls: Vec<EdgeCall> = served.map(|(call, _)| *call).collect();
                if object.is_watched && !update.is_repeated {
                    self.outputs.push_back(Output::Changed(Changed {
                        object: name.to_string(),
                        persistent: persistence == Persistence::Persistent,
                        version: update.version.0,
                        author,
                        operations: update.operations.clone(),
                    }));
                }
                let Some((last, others)) = calls.split_last() else {
                    return;
                };
                let told = wire::update(name, persistence, &update);
                self.metrics.updates.inc_by(calls.len() as u64);
                for call in others {
                    self.tell(*call, Told::ObjectUpdate(told.clone()));
                }
                self.tell(*last, Told::ObjectUpdate(told));
            }
            Due::State {
                call,
                state,
                is_greeting,
            } => {
                let is_due = match object.users.get(&call) {
                    Some(User::Served(since)) if is_greeting => *since == sequence,
                    Some(User::Served(since)) => *since < sequence,
                    _ => false,
                };
                if !is_due {
                    return;
                }
                self.metrics.states.inc();
                for piece in state.chunks(PIECE) {
                    let told = wire::state(name, persistence, &piece);
                    self.tell(call, Told::ObjectState(told));
                }
            }
            Due::Refused {
                call,
                number,
                refusal,
            } => {
                if object.users.contains_key(&call) {
                    self.refuse(call, named(name, persistence), number, &refusal);
                }
            }
            Due::Answer(_) => {}
        }
    }

    fn break_call(&mut self, now: Instant, call: EdgeCall) {
        self.metrics.broken.inc();
        self.detach(now, call, false);
        self.outputs.push_back(Output::Break(call));
    }
}
