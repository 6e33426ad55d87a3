//! What an attachment knows: who is there, what waits for an answer, and what is to be said next. No calls, no clocks, no tasks.
//!
//! ```text
//!             opened                        broken
//!  detached ---------> attached (link n) ----------> detached ...
//!     | what is said waits, for a while      | calls under way fail; the rest is said again
//! ```
//! # How to drive it
//! After [`Core::said`], [`Core::heard`], [`Core::attached`], [`Core::broken`] and [`Core::handle_timeout`]: drain [`Core::poll_told`], and
//! [`Core::poll_request`] while a call is open and takes something; then look at [`Core::poll_timeout`] again. While [`Core::is_full`],
//! nothing more is to be given to [`Core::said`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use headwater_proto::v1;
use headwater_proto::v1::attach_request::Request;
use headwater_proto::v1::attach_response::Response;
use headwater_proto::v1::connect_decision::Decision;
use tokio::time::Instant;

use super::{Called, Refusal, Said, To, Told, What};
use crate::application::meters::ApplicationMeters;

mod clients;
#[cfg(test)]
mod tests;

/// What waits to be sent: messages, and bytes of their values.
const MAX_QUEUED: (usize, usize) = (256, 4 << 20);

/// Longest object of `connect` that is kept for the next owner, in bytes: some ten times that of Flash Player. One that is longer is said to
/// the first owner only.
const MAX_OBJECT: usize = 4_096;

const NO_ORIGIN: &str = "No origin server answers.";
const ORIGIN_LOST: &str = "The origin server was lost before it had answered.";
const TOO_MUCH: &str = "Too many calls wait for an origin server.";

/// A call of a client, or a question for it.
type Key = (u64, u64);

/// See the [module](self).
pub(super) struct Core {
    /// The number of the attachment.
    number: u64,
    /// How long what clients say waits for an owner.
    patience: Duration,
    clients: BTreeMap<u64, Client>,
    /// Clients that are let in, of each worker.
    inside: Vec<usize>,
    waiting: BTreeMap<Key, Waiting>,
    /// When a client or a question is given up.
    deadlines: BTreeSet<(Instant, Due)>,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    told: VecDeque<(usize, Told)>,
    link: Link,
    /// Number of links so far.
    links: u64,
    meters: ApplicationMeters,
}

enum Link {
    /// Until when what is said waits. `None`: not any more.
    Detached {
        until: Option<Instant>,
    },
    Attached {
        calls: bool,
    },
}

struct Client {
    worker: usize,
    /// As it is said, and said again: without its arguments, and with what it was granted, once it is let in.
    connect: Box<v1::ClientConnect>,
    pending: Option<Pending>,
}

struct Pending {
    /// When it is given up.
    due: Instant,
    /// When it is given up at the latest.
    decide_by: Instant,
}

/// What waits for an answer.
enum Waiting {
    Call {
        is_sent: bool,
    },
    Ask {
        request: Box<Request>,
        is_sent: bool,
        due: Instant,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Client(u64),
    Ask(Key),
}

enum Queued {
    /// A client is to be said, as it is then.
    Client(u64),
    /// A question is to be asked.
    Ask(Key),
    Call(Box<v1::ClientCall>),
    /// Means something to this owner only.
    Plain(Box<Request>),
}

/// What the owner wants of the attachment itself.
#[derive(Debug, PartialEq)]
pub(super) enum Turn {
    /// The instance goes to another node.
    Moved(v1::Moved),
    /// It ends. Whoever comes is at a new one.
    Ended,
}

impl Core {
    pub(super) fn new(
        number: u64,
        workers: usize,
        patience: Duration,
        meters: ApplicationMeters,
        now: Instant,
    ) -> Self {
        Self {
            number,
            patience,
            clients: BTreeMap::new(),
            inside: vec![0; workers],
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            told: VecDeque::new(),
            link: Link::Detached {
                until: Some(now + patience),
            },
            links: 0,
            meters,
        }
    }

    /// Clients that the next owner is told of again.
    pub(super) fn resumed_clients(&self) -> usize {
        self.inside.iter().sum()
    }

    /// Whether there is somebody or something that needs the owner.
    pub(super) fn is_wanted(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Whether sessions are to wait with what they say.
    pub(super) fn is_full(&self) -> bool {
        self.is_attached() && self.is_over()
    }

    fn is_over(&self) -> bool {
        self.queue.len() >= MAX_QUEUED.0 || self.queued_bytes >= MAX_QUEUED.1
    }

    fn is_attached(&self) -> bool {
        matches!(self.link, Link::Attached { .. })
    }

    /// What a session says.
    pub(super) fn said(&mut self, now: Instant, said: Said) {
        match said {
            Said::Connect {
                worker,
                connect,
                patience,
            } => self.connect(now, worker, connect, patience),
            Said::Gone { client } => self.gone(client),
            Said::Call(call) => self.call(now, call),
            Said::Answer { link, answer } => {
                // Another owner would take it for the answer to a call of its own.
                if link == self.links {
                    self.plain(Request::Answer(*answer));
                }
            }
            Said::Publish(ask, patience) => {
                let key = (ask.client, ask.ask);
                self.ask(now, key, Request::Publish(*ask), patience);
            }
            Said::Play(ask, patience) => {
                let key = (ask.client, ask.ask);
                self.ask(now, key, Request::Play(*ask), patience);
            }
            Said::UseObject(ask, patience) => {
                let key = (ask.client, ask.ask);
                self.ask(now, key, Request::AskObject(*ask), patience);
            }
            Said::Unpublished(ended) => self.plain(Request::Unpublish(*ended)),
            Said::Stopped(ended) => self.plain(Request::Stop(*ended)),
        }
    }

    /// A call to an owner is open.
    pub(super) fn attached(&mut self, hooks: &v1::Hooks) {
        self.links += 1;
        self.link = Link::Attached { calls: hooks.call };
        // First who is there, then what they want to know, then what they said meanwhile.
        let asked = self.waiting.iter();
        let asked = asked.filter(|(_, it)| matches!(it, Waiting::Ask { is_sent: true, .. }));
        let asked = asked.map(|(key, _)| Queued::Ask(*key));
        let said = std::mem::take(&mut self.queue);
        let clients = self.clients.keys().map(|client| Queued::Client(*client));
        self.queue = clients.chain(asked).chain(said).collect();
        for (client, it) in &mut self.clients {
            if let Some(pending) = &mut it.pending {
                let due = Due::Client(*client);
                self.deadlines.remove(&(pending.due, due));
                pending.due = pending.decide_by;
                self.deadlines.insert((pending.due, due));
            }
        }
    }

    /// That call is over.
    pub(super) fn broken(&mut self, now: Instant) {
        let until = now + self.patience;
        self.link = Link::Detached { until: Some(until) };
        let lost: Vec<Key> = self
            .waiting
            .iter()
            .filter(|(_, it)| matches!(it, Waiting::Call { is_sent: true }))
            .map(|(key, _)| *key)
            .collect();
        for key in lost {
            self.waiting.remove(&key);
            self.lose(key, ORIGIN_LOST);
            self.meters.call("lost");
        }
        let waiting = &self.waiting;
        self.queue.retain(|queued| match queued {
            Queued::Call(_) => true,
            Queued::Ask(key) => {
                matches!(waiting.get(key), Some(Waiting::Ask { is_sent: false, .. }))
            }
            Queued::Client(_) | Queued::Plain(_) => false,
        });
        self.queued_bytes = self.queue.iter().map(Queued::bytes).sum();
        for (client, it) in &mut self.clients {
            if let Some(pending) = &mut it.pending {
                let due = Due::Client(*client);
                self.deadlines.remove(&(pending.due, due));
                pending.due = pending.decide_by.min(until);
                self.deadlines.insert((pending.due, due));
            }
        }
    }

    /// What the owner says.
    #[must_use]
    pub(super) fn heard(&mut self, now: Instant, said: Response) -> Option<Turn> {
        match said {
            Response::Decision(decided) => self.decided(decided),
            Response::End(end) => self.tell(end.client, What::End(end)),
            Response::Call(call) => self.called(call),
            Response::Answer(answer) => {
                let key = (answer.client, answer.call);
                if let Some(Waiting::Call { .. }) = self.waiting.get(&key) {
                    self.waiting.remove(&key);
                    let outcome = if answer.failed { "failed" } else { "answered" };
                    self.meters.call(outcome);
                    self.tell(answer.client, What::Answer(answer));
                }
            }
            Response::Stream(decision) => {
                if self.answered((decision.client, decision.ask)) {
                    self.tell(decision.client, What::Stream(decision));
                }
            }
            Response::ObjectDecision(decision) => {
                if self.answered((decision.client, decision.ask)) {
                    self.tell(decision.client, What::Object(decision));
                }
            }
            Response::Granted(granted) => {
                let grant = granted.grant.unwrap_or_default();
                if let Some(client) = self.clients.get_mut(&granted.client)
                    && let Some(known) = &mut client.connect.resumed
                {
                    known.clone_from(&grant);
                    self.tell(granted.client, What::Granted(grant));
                }
            }
            Response::EndStream(end) => self.tell(end.client, What::EndStream(end)),
            Response::Moved(moved) => return Some(Turn::Moved(moved)),
            Response::Ended(ended) => {
                self.ended(now, &ended);
                return Some(Turn::Ended);
            }
            // Not said to the core: see `objects`.
            Response::ObjectState(_)
            | Response::ObjectUpdate(_)
            | Response::ObjectRefused(_)
            | Response::ObjectWanted(_)
            // The first answer, once.
            | Response::Opened(_) => {}
        }
        None
    }

    /// Whether a question waited for this answer. Now it does not any more.
    fn answered(&mut self, key: Key) -> bool {
        let Some(Waiting::Ask { due, .. }) = self.waiting.get(&key) else {
            return false;
        };
        self.deadlines.remove(&(*due, Due::Ask(key)));
        self.waiting.remove(&key);
        true
    }

    /// The next message to the owner, while a call is open.
    #[must_use]
    pub(super) fn poll_request(&mut self) -> Option<Request> {
        if !self.is_attached() {
            return None;
        }
        while let Some(queued) = self.queue.pop_front() {
            self.queued_bytes = self.queued_bytes.saturating_sub(queued.bytes());
            match queued {
                Queued::Client(client) => {
                    if let Some(client) = self.clients.get(&client) {
                        return Some(Request::Connect((*client.connect).clone()));
                    }
                }
                Queued::Ask(key) => {
                    if let Some(Waiting::Ask {
                        request, is_sent, ..
                    }) = self.waiting.get_mut(&key)
                    {
                        *is_sent = true;
                        return Some((**request).clone());
                    }
                }
                Queued::Call(call) => {
                    if let Some(Waiting::Call { is_sent }) =
                        self.waiting.get_mut(&(call.client, call.call))
                    {
                        *is_sent = true;
                    } else if call.call != 0 {
                        // It was given up meanwhile.
                        continue;
                    } else {
                        self.meters.call("unanswered");
                    }
                    return Some(Request::Call(*call));
                }
                Queued::Plain(request) => return Some(*request),
            }
        }
        None
    }

    /// Whether there is something for [`Self::poll_request`].
    pub(super) fn has_requests(&self) -> bool {
        self.is_attached() && !self.queue.is_empty()
    }

    /// The next message to the clients of a worker.
    #[must_use]
    pub(super) fn poll_told(&mut self) -> Option<(usize, Told)> {
        self.told.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let first = self.deadlines.first().map(|(at, _)| *at);
        let held = match self.link {
            Link::Detached { until } if !self.queue.is_empty() => until,
            _ => None,
        };
        first.into_iter().chain(held).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, due)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.remove(&(at, due));
            match due {
                Due::Client(client) => self.give_up(client),
                Due::Ask(key) => {
                    let asked = self.waiting.remove(&key);
                    let is_object = matches!(
                        asked,
                        Some(Waiting::Ask { request, .. }) if matches!(*request, Request::AskObject(_))
                    );
                    if is_object {
                        let decision = v1::ObjectDecision {
                            client: key.0,
                            ask: key.1,
                            ..v1::ObjectDecision::default()
                        };
                        self.tell(key.0, What::Object(decision));
                        continue;
                    }
                    let decision = v1::StreamDecision {
                        client: key.0,
                        ask: key.1,
                        description: NO_ORIGIN.to_owned(),
                        ..v1::StreamDecision::default()
                    };
                    self.tell(key.0, What::Stream(decision));
                }
            }
        }
        if let Link::Detached { until } = &mut self.link
            && until.take_if(|until| *until <= now).is_some()
        {
            for queued in std::mem::take(&mut self.queue) {
                match queued {
                    Queued::Call(call) => self.refuse_call(&call, NO_ORIGIN),
                    // Has a time of its own.
                    queued => self.queue.push_back(queued),
                }
            }
            self.queued_bytes = 0;
        }
    }

    fn call(&mut self, now: Instant, call: Box<v1::ClientCall>) {
        if !self.clients.contains_key(&call.client) {
            return;
        }
        match self.link {
            Link::Attached { calls: false } => {
                // Since it was said what is wanted: an owner that is new wants something else.
                self.refuse_call(&call, "Method not found.");
                return;
            }
            Link::Detached { until } if until.is_none_or(|until| now >= until) => {
                self.refuse_call(&call, NO_ORIGIN);
                return;
            }
            Link::Detached { .. } if self.is_over() => {
                self.refuse_call(&call, TOO_MUCH);
                return;
            }
            Link::Attached { .. } | Link::Detached { .. } => {}
        }
        if call.call != 0 {
            let key = (call.client, call.call);
            self.waiting.insert(key, Waiting::Call { is_sent: false });
        }
        self.push(Queued::Call(call));
    }

    fn refuse_call(&mut self, call: &v1::ClientCall, why: &'static str) {
        self.meters.call("refused");
        if call.call != 0 {
            let key = (call.client, call.call);
            self.waiting.remove(&key);
            self.lose(key, why);
        }
    }

    fn lose(&mut self, (client, call): Key, why: &'static str) {
        self.tell(client, What::Lost { call, why });
    }

    fn ask(&mut self, now: Instant, key: Key, request: Request, patience: Duration) {
        if !self.clients.contains_key(&key.0) {
            return;
        }
        let due = now + self.patience + patience;
        self.deadlines.insert((due, Due::Ask(key)));
        let ask = Waiting::Ask {
            request: Box::new(request),
            is_sent: false,
            due,
        };
        self.waiting.insert(key, ask);
        self.push(Queued::Ask(key));
    }

    fn called(&mut self, call: v1::ServerCall) {
        let called = Called {
            link: self.links,
            call: call.call,
            name: call.name,
            arguments: call.arguments,
        };
        let mut of_worker = vec![Vec::new(); self.inside.len()];
        let is_inside = |client: &&Client| client.pending.is_none();
        match call.clients.as_slice() {
            [] => {
                self.meters.broadcasts.inc();
                for (worker, inside) in self.inside.iter().enumerate() {
                    if *inside > 0 {
                        let told = self.message(To::All, What::Call(called.clone()));
                        self.told.push_back((worker, told));
                    }
                }
                return;
            }
            [client] => {
                if self.clients.get(client).filter(is_inside).is_some() {
                    self.tell(*client, What::Call(called));
                } else if call.call != 0 {
                    self.plain(Request::Answer(v1::ClientAnswer {
                        client: *client,
                        call: call.call,
                        failed: true,
                        value: Bytes::new(),
                    }));
                }
                return;
            }
            clients => {
                self.meters.broadcasts.inc();
                for number in clients {
                    if let Some(client) = self.clients.get(number).filter(is_inside)
                        && let Some(numbers) = of_worker.get_mut(client.worker)
                    {
                        numbers.push(*number);
                    }
                }
            }
        }
        for (worker, numbers) in of_worker.into_iter().enumerate() {
            if !numbers.is_empty() {
                let told = self.message(To::Some(numbers), What::Call(called.clone()));
                self.told.push_back((worker, told));
            }
        }
    }

    fn plain(&mut self, request: Request) {
        // Another owner would not know what it is about.
        if self.is_attached() {
            self.push(Queued::Plain(Box::new(request)));
        }
    }

    fn push(&mut self, queued: Queued) {
        self.queued_bytes += queued.bytes();
        self.queue.push_back(queued);
    }

    fn tell(&mut self, client: u64, what: What) {
        if let Some(worker) = self.clients.get(&client).map(|client| client.worker) {
            let told = self.message(To::Some(vec![client]), what);
            self.told.push_back((worker, told));
        }
    }

    fn message(&self, to: To, what: What) -> Told {
        let attachment = self.number;
        Told {
            attachment,
            to,
            what,
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let left = i64::try_from(self.clients.len()).unwrap_or(i64::MAX);
        self.meters.clients.dec_by(left);
    }
}

impl Queued {
    fn bytes(&self) -> usize {
        match self {
            Self::Call(call) => call.arguments.len(),
            Self::Plain(request) => match request.as_ref() {
                Request::Answer(answer) => answer.value.len(),
                _ => 0,
            },
            // Not counted where it is said again: it is kept all the same.
            Self::Client(_) | Self::Ask(_) => 0,
        }
    }
}
