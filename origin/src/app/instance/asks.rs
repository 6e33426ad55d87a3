//! What clients ask, and the answers.
//!
//! A question goes to the handler if it wants to be asked. It is answered by the handler, or when its time is over, or when the handler is
//! lost, as `handler.on_failure` says. Calls that nobody answers fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_amf::{Limits, Object, Value, amf0};
use headwater_application::OnFailure;
use headwater_proto::v1;
use headwater_proto::v1::attach_response::Response as Told;
use tokio::time::Instant;

use super::clients::{ClientKey, State, Stream};
use super::link::Gate;
use super::{Counted, Instance};
use crate::app::handler::{Answers, Event};

/// Of the arguments of one call.
const LIMITS: Limits = Limits {
    depth: 64,
    values: 1 << 16,
    bytes: 4 << 20,
};

/// Questions of one client that wait for an answer; what it asks beyond that fails.
const MAX_OF_CLIENT: usize = 1_024;

/// The questions without an answer, by our number.
#[derive(Debug, Default)]
pub(super) struct Asks {
    waiting: BTreeMap<u64, Ask>,
    due: BTreeSet<(Instant, u64)>,
    last: u64,
}

#[derive(Debug)]
pub(super) struct Ask {
    pub(super) client: ClientKey,
    /// The edge's number of it.
    pub(super) number: u64,
    pub(super) asked: Asked,
    since: Instant,
    due: Instant,
    /// Whether the handler has heard it.
    pub(super) told: bool,
    _counted: Counted,
}

#[derive(Clone, Debug)]
pub(super) enum Asked {
    Connect,
    Call { name: String },
    Stream { name: String, publish: bool },
    UseObject,
}

impl Asks {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Ask> {
        self.waiting.get(&number)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Ask> {
        let ask = self.waiting.remove(&number)?;
        self.due.remove(&(ask.due, number));
        Some(ask)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Those that the handler has heard, or has not.
    pub(super) fn numbers(&self, told: bool) -> Vec<u64> {
        let of = self.waiting.iter().filter(|(_, ask)| ask.told == told);
        of.map(|(number, _)| *number).collect()
    }

    /// The handler hears it now. False where nobody waits for it any more.
    pub(super) fn tell(&mut self, number: u64, now: Instant, pending: Duration) -> bool {
        let Some(ask) = self.waiting.get_mut(&number) else {
            return false;
        };
        ask.told = true;
        if matches!(ask.asked, Asked::Connect) {
            self.due.remove(&(ask.due, number));
            ask.due = now + pending;
            self.due.insert((ask.due, number));
        }
        true
    }

    fn insert(&mut self, number: u64, ask: Ask) {
        self.due.insert((ask.due, number));
        self.waiting.insert(number, ask);
    }
}

impl Instance {
    /// Asks the handler; gives our number of the question.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        client: ClientKey,
        number: u64,
        asked: Asked,
        bytes: usize,
        event: impl FnOnce(u64) -> Event,
    ) -> u64 {
        let ours = self.asks.number();
        let ask = Ask {
            client,
            number,
            asked,
            since: now,
            due: now + Duration::from_millis(self.policy.handler.timeout_ms),
            told: false,
            _counted: Counted::new(&self.setup.metrics.waiting),
        };
        self.asks.insert(ours, ask);
        self.with(client, |client| {
            client.asks.insert(number, ours);
        });
        self.setup.metrics.asks.inc();
        self.queue_ask(ours, bytes, event(ours));
        ours
    }

    /// Whether a client may ask one more thing.
    pub(super) fn may_ask(&self, key: ClientKey) -> bool {
        (self.client(key)).is_none_or(|client| client.asks.len() < MAX_OF_CLIENT)
    }

    /// The handler has answered. None where nobody waits for that.
    pub(super) fn answered(&mut self, now: Instant, number: u64) -> Option<Ask> {
        // Of what it has not heard it knows nothing.
        self.asks.get(number).filter(|ask| ask.told)?;
        let ask = self.take_ask(number)?;
        let seconds = now.saturating_duration_since(ask.since).as_secs_f64();
        self.setup.metrics.ask_seconds.observe(seconds);
        self.note_success();
        Some(ask)
    }

    fn take_ask(&mut self, number: u64) -> Option<Ask> {
        let ask = self.asks.remove(number)?;
        self.with(ask.client, |client| {
            client.asks.remove(&ask.number);
        });
        Some(ask)
    }

    /// What an answer of the handler is about, by its number.
    pub(super) fn number_of(&self, answers: &Answers) -> Option<u64> {
        match answers {
            Answers::Number(number) => Some(*number),
            Answers::Connect(id) => {
                let key = self.ids.get(id.as_str())?;
                match self.client(*key)?.state {
                    State::Pending(number) => Some(number),
                    State::Accepted => None,
                }
            }
        }
    }

    /// The handler has no say in it after all.
    pub(super) fn settle_unasked(&mut self, number: u64) {
        if let Some(ask) = self.take_ask(number) {
            self.unasked(ask.client, ask.number, &ask.asked);
        }
    }

    /// The handler gave no answer.
    pub(super) fn settle_failed(&mut self, number: u64, why: &'static str) {
        if let Some(ask) = self.take_ask(number) {
            self.failed(ask.client, ask.number, &ask.asked, why);
        }
    }

    pub(super) fn time_out_asks(&mut self, now: Instant) {
        while let Some((due, number)) = self.asks.due.first().copied()
            && due <= now
        {
            let Some(ask) = self.asks.get(number) else {
                self.asks.due.pop_first();
                continue;
            };
            // A client may be left pending on purpose.
            let is_pending = ask.told && matches!(ask.asked, Asked::Connect);
            let is_failure = !is_pending && (ask.told || self.link.is_up());
            let why = match is_pending {
                true => "The application has not decided in time.",
                false => "The application does not answer.",
            };
            self.settle_failed(number, why);
            if is_failure {
                self.note_failure(now, "it does not answer in time");
            }
        }
    }

    /// What `app.toml` says of what the handler is not asked.
    pub(super) fn unasked(&mut self, key: ClientKey, number: u64, asked: &Asked) {
        match asked {
            Asked::Connect => self.accept(key, self.granted(), Bytes::new()),
            Asked::Call { name } => {
                self.fail_call(key, number, &format!("Method not found ({name})."));
            }
            Asked::Stream { name, publish } => {
                let ours = self.asks.number();
                self.allow_stream(key, ours, number, name, *publish, String::new());
            }
            Asked::UseObject => self.decide_object(key, number, true, true),
        }
    }

    /// What `handler.on_failure` says of what the handler should have been asked.
    pub(super) fn failed(&mut self, key: ClientKey, number: u64, asked: &Asked, why: &str) {
        self.setup.metrics.ask_failures.inc();
        let open = self.policy.handler.on_failure == OnFailure::Open;
        match asked {
            Asked::Call { .. } => self.fail_call(key, number, why),
            _ if open => self.unasked(key, number, asked),
            Asked::Connect => {
                let rejected = v1::ConnectRejected {
                    description: why.to_owned(),
                    ..v1::ConnectRejected::default()
                };
                self.reject(key, rejected);
            }
            Asked::Stream { .. } => self.refuse_stream(key, number, String::new(), why.to_owned()),
            Asked::UseObject => self.decide_object(key, number, false, false),
        }
    }

    pub(super) fn client_calls(&mut self, now: Instant, key: ClientKey, said: v1::ClientCall) {
        self.setup.metrics.calls_in.inc();
        let (call, name) = (said.call, said.name);
        let Some(id) = self.asking(key, call) else {
            return;
        };
        let Some(id) = id else {
            self.fail_call(key, call, "Not connected.");
            return;
        };
        let bytes = said.arguments.len() + name.len();
        let asked = Asked::Call { name: name.clone() };
        match self.gate(now, key, |hooks| hooks.call) {
            Gate::Unasked => self.unasked(key, call, &asked),
            Gate::Refuse(why) => self.failed(key, call, &asked, why),
            Gate::Ask => {
                let arguments = match decoded(&said.arguments) {
                    Ok(arguments) => arguments,
                    Err(why) => {
                        self.fail_call(key, call, &format!("The arguments cannot be read: {why}."));
                        return;
                    }
                };
                let event = |ours| Event::Call {
                    client: id,
                    call: ours,
                    name,
                    arguments,
                };
                if call == 0 {
                    self.queue_call(bytes, event(0));
                } else {
                    self.ask(now, key, call, asked, bytes, event);
                }
            }
        }
    }

    pub(super) fn client_publishes(&mut self, now: Instant, key: ClientKey, said: v1::AskPublish) {
        let mode = said.mode();
        let (name, query) = (said.stream, said.query);
        let asked = Asked::Stream {
            name: name.clone(),
            publish: true,
        };
        self.client_asks(
            now,
            key,
            said.ask,
            asked,
            |hooks| hooks.publish,
            |client, ask| Event::Publish {
                client,
                ask,
                stream: name,
                query,
                mode,
            },
        );
    }

    pub(super) fn client_plays(&mut self, now: Instant, key: ClientKey, said: v1::AskPlay) {
        let (name, query) = (said.stream, said.query);
        let asked = Asked::Stream {
            name: name.clone(),
            publish: false,
        };
        self.client_asks(
            now,
            key,
            said.ask,
            asked,
            |hooks| hooks.play,
            |client, ask| Event::Play {
                client,
                ask,
                stream: name,
                query,
                start: said.start,
                length: said.length,
            },
        );
    }

    pub(super) fn client_uses_object(&mut self, now: Instant, key: ClientKey, said: v1::AskObject) {
        let (object, persistent) = (said.object, said.persistent);
        let hook = |hooks: v1::Hooks| hooks.use_object;
        self.client_asks(now, key, said.ask, Asked::UseObject, hook, |client, ask| {
            Event::UseObject {
                client,
                ask,
                object,
                persistent,
            }
        });
    }

    fn client_asks(
        &mut self,
        now: Instant,
        key: ClientKey,
        number: u64,
        asked: Asked,
        hook: impl Fn(v1::Hooks) -> bool,
        event: impl FnOnce(crate::app::handler::ClientId, u64) -> Event,
    ) {
        let Some(id) = self.asking(key, number) else {
            return;
        };
        let Some(id) = id else {
            match asked {
                Asked::UseObject => self.decide_object(key, number, false, false),
                _ => self.refuse_stream(key, number, String::new(), "Not connected.".to_owned()),
            }
            return;
        };
        // The edge came back before it heard the answer.
        let had = self.client(key).and_then(|client| {
            let streams = client.streams.values();
            (streams.rev()).find(|it| it.ask == number && !matches!(asked, Asked::UseObject))
        });
        if let Some(instead) = had.map(|stream| stream.instead.clone()) {
            self.tell_allowed(key, number, instead);
            return;
        }
        match self.gate(now, key, hook) {
            Gate::Unasked => self.unasked(key, number, &asked),
            Gate::Refuse(why) => self.failed(key, number, &asked, why),
            Gate::Ask => {
                self.ask(now, key, number, asked, 512, |ours| event(id, ours));
            }
        }
    }

    /// Who asks. The outer none: it has asked that already, and waits. The inner one: it is no client, or not yet.
    fn asking(&self, key: ClientKey, number: u64) -> Option<Option<crate::app::handler::ClientId>> {
        let Some(client) = self.client(key) else {
            return Some(None);
        };
        if client.state != State::Accepted {
            return Some(None);
        }
        if number != 0 && client.asks.contains_key(&number) {
            return None;
        }
        Some(Some(Arc::clone(&client.id)))
    }

    /// A client's answer to the handler.
    pub(super) fn client_answers(&mut self, key: ClientKey, said: v1::ClientAnswer) {
        let Some(call) = self.server_calls.get(&said.call).copied() else {
            return;
        };
        if call.client != key {
            return;
        }
        self.server_calls.remove(&said.call);
        self.with(key, |client| {
            client.server_calls.retain(|it| *it != said.call)
        });
        let value = decoded(&said.value)
            .ok()
            .and_then(|mut values| values.pop());
        let result = match (said.failed, value) {
            (false, Some(value)) => Ok(value),
            (_, value) => Err(value.unwrap_or_default()),
        };
        let call = call.call;
        self.notify_of(said.value.len(), Event::Answer { call, result });
    }

    pub(super) fn answer_call(&mut self, key: ClientKey, call: u64, result: Result<Bytes, Bytes>) {
        if call == 0 {
            return;
        }
        let failed = result.is_err();
        let (Ok(value) | Err(value)) = result;
        let answer = v1::CallAnswer {
            client: key.client,
            call,
            failed,
            value,
        };
        self.tell(key.edge, Told::Answer(answer));
    }

    /// As a server answers a call that it does not know.
    pub(super) fn fail_call(&mut self, key: ClientKey, call: u64, why: &str) {
        let information = Object::new()
            .with("level", "error")
            .with("code", "NetConnection.Call.Failed")
            .with("description", why);
        // Text of any length can be encoded.
        let value = amf0::encode_all(&[Value::Object(information)]).unwrap_or_default();
        self.answer_call(key, call, Err(value));
    }

    pub(super) fn allow_stream(
        &mut self,
        key: ClientKey,
        ours: u64,
        ask: u64,
        name: &str,
        publish: bool,
        stream: String,
    ) {
        let begun = Stream {
            ask,
            name: name.to_owned(),
            publish,
            instead: stream.clone(),
        };
        self.begin_stream(key, ours, begun);
        self.tell_allowed(key, ask, stream);
    }

    fn tell_allowed(&mut self, key: ClientKey, ask: u64, stream: String) {
        let decision = v1::StreamDecision {
            client: key.client,
            ask,
            allowed: true,
            stream,
            ..v1::StreamDecision::default()
        };
        self.tell(key.edge, Told::Stream(decision));
    }

    pub(super) fn refuse_stream(
        &mut self,
        key: ClientKey,
        ask: u64,
        code: String,
        description: String,
    ) {
        let decision = v1::StreamDecision {
            client: key.client,
            ask,
            code,
            description,
            ..v1::StreamDecision::default()
        };
        self.tell(key.edge, Told::Stream(decision));
    }

    pub(super) fn decide_object(&mut self, key: ClientKey, ask: u64, read: bool, write: bool) {
        let decision = v1::ObjectDecision {
            client: key.client,
            ask,
            may_read: read,
            may_write: write,
        };
        self.tell(key.edge, Told::ObjectDecision(decision));
    }
}

/// The values that an edge passes on. They do not hold on to the buffer in which they came.
pub(super) fn decoded(bytes: &Bytes) -> Result<Vec<Value>, String> {
    let bytes = Bytes::copy_from_slice(bytes);
    amf0::decode_all(&bytes, LIMITS).map_err(|error| error.to_string())
}
