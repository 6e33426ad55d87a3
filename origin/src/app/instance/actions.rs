//! What the handler does.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use headwater_amf::{Value, amf0};
use headwater_proto::v1;
use headwater_proto::v1::attach_response::Response as Told;
use tokio::time::Instant;

use super::asks::Asked;
use super::clients::{ClientKey, ServerCall, State};
use super::{Instance, Output};
use crate::app::handler::{Action, Answers, CallFailure, ConnectReply, Event, StreamReply};

/// Calls that a client has not answered; of more than that the oldest are taken for failed.
const MAX_SERVER_CALLS: usize = 256;

/// Letters of what a handler says of its nonsense that get into the log.
const MAX_REASON: usize = 300;

impl Instance {
    pub(super) fn act(&mut self, now: Instant, action: Action) {
        match action {
            Action::Hello(hooks) if self.link.is_calling() => {
                self.greeted(now, hooks);
                return;
            }
            Action::Hello(_) => {
                self.nonsense(now, "a second hello", None);
                return;
            }
            _ if !self.link.is_up() => {
                self.setup.metrics.handler_nonsense.inc();
                self.link_lost(now, "it does not begin with a hello", Some(None));
                return;
            }
            _ => {}
        }
        match action {
            // Above.
            Action::Hello(_) => {}
            Action::Connect { client, reply } => self.connect_reply(now, &client, reply),
            Action::Call { call, result } => self.call_reply(now, call, result),
            Action::Stream { ask, reply } => self.stream_reply(now, ask, reply),
            Action::UseObject { ask, read, write } => {
                let found = self.answered_as(now, ask, |asked| matches!(asked, Asked::UseObject));
                if let Some((client, number, _)) = found {
                    self.decide_object(client, number, read, write);
                }
            }
            Action::CallClients {
                clients,
                call,
                name,
                arguments,
            } => self.call_clients(now, &clients, call, name, &arguments),
            Action::Disconnect {
                client,
                code,
                description,
            } => {
                if let Some(key) = self.ids.get(client.as_str()).copied() {
                    self.end_client(key, code, description);
                }
            }
            Action::Grant {
                client,
                read,
                write,
            } => self.grant(&client, read, write),
            Action::Object(command) => self.outputs.push_back(Output::HandlerObject(command)),
            Action::EndStream {
                client,
                ask,
                code,
                description,
            } => self.end_stream(&client, ask, code, description),
            Action::Shutdown { description } => {
                tracing::info!(instance = %self.setup.name, "the handler ends the instance");
                self.end(now, "NetConnection.Connect.AppShutdown", &description);
            }
            Action::Nonsense { reason, answers } => self.nonsense(now, &reason, answers),
        }
    }

    /// Takes a question that the handler answers, with the edge's number.
    fn answered_as(
        &mut self,
        now: Instant,
        ask: u64,
        is: impl Fn(&Asked) -> bool,
    ) -> Option<(ClientKey, u64, Asked)> {
        // Another kind of answer than to what was asked: as if it were none.
        self.asks.get(ask).filter(|ask| is(&ask.asked))?;
        let ask = self.answered(now, ask)?;
        Some((ask.client, ask.number, ask.asked))
    }

    fn connect_reply(&mut self, now: Instant, client: &str, reply: ConnectReply) {
        let Some(key) = self.ids.get(client).copied() else {
            return;
        };
        let Some(State::Pending(number)) = self.client(key).map(|client| client.state) else {
            return;
        };
        if self.answered(now, number).is_none() {
            return;
        }
        match reply {
            ConnectReply::Accept {
                read,
                write,
                properties,
            } => {
                let allowed = self.granted();
                let grant = v1::ClientGrant {
                    read_access: read.unwrap_or(allowed.read_access),
                    write_access: write.unwrap_or(allowed.write_access),
                };
                let properties = self.encoded(now, properties.as_ref());
                self.accept(key, grant, properties);
            }
            ConnectReply::Reject {
                description,
                application,
                redirect,
            } => {
                let application = self.encoded(now, application.as_ref());
                // Who refuses a client knows that it is not there.
                self.with(key, |client| client.known = false);
                let rejected = v1::ConnectRejected {
                    description,
                    application,
                    redirect,
                    code: String::new(),
                };
                self.reject(key, rejected);
            }
        }
    }

    fn call_reply(&mut self, now: Instant, call: u64, result: Result<Value, CallFailure>) {
        let found = self.answered_as(now, call, |asked| matches!(asked, Asked::Call { .. }));
        let Some((client, number, _)) = found else {
            return;
        };
        match result {
            Ok(value) => {
                let value = self.encoded(now, Some(&value));
                self.answer_call(client, number, Ok(value));
            }
            Err(CallFailure::Information(value)) => {
                let value = self.encoded(now, Some(&value));
                self.answer_call(client, number, Err(value));
            }
            Err(CallFailure::Description(why)) => self.fail_call(client, number, &why),
        }
    }

    fn stream_reply(&mut self, now: Instant, ask: u64, reply: StreamReply) {
        let found = self.answered_as(now, ask, |asked| matches!(asked, Asked::Stream { .. }));
        let Some((client, number, Asked::Stream { name, publish })) = found else {
            return;
        };
        match reply {
            StreamReply::Allow(stream) => {
                self.allow_stream(client, ask, number, &name, publish, stream);
            }
            StreamReply::Refuse { code, description } => {
                self.refuse_stream(client, number, code, description);
            }
        }
    }

    fn call_clients(
        &mut self,
        now: Instant,
        clients: &[String],
        call: u64,
        name: String,
        arguments: &[Value],
    ) {
        let Ok(arguments) = amf0::encode_all(arguments) else {
            self.nonsense(now, "arguments that cannot be encoded", None);
            return;
        };
        let message = v1::ServerCall {
            clients: Vec::new(),
            call: 0,
            name,
            arguments,
        };
        if clients.is_empty() {
            let edges = self.edges.iter();
            let some = edges.filter(|(_, edge)| {
                (edge.clients.values()).any(|client| client.state == State::Accepted)
            });
            let edges: Vec<u64> = some.map(|(incarnation, _)| *incarnation).collect();
            for edge in edges {
                self.setup.metrics.calls_out.inc();
                self.tell(edge, Told::Call(message.clone()));
            }
            return;
        }
        let mut by_edge: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for id in clients {
            let key = self.ids.get(id.as_str()).copied();
            let accepted = key.filter(|key| {
                (self.client(*key)).is_some_and(|client| client.state == State::Accepted)
            });
            if let Some(key) = accepted {
                by_edge.entry(key.edge).or_default().push(key.client);
            }
        }
        let answered = call != 0 && clients.len() == 1;
        if answered && by_edge.is_empty() {
            let result = Err(Value::Undefined);
            self.notify(Event::Answer { call, result });
        }
        for (edge, clients) in by_edge {
            let ours = match (answered, clients.first()) {
                (true, Some(client)) => self.expect_answer(
                    ClientKey {
                        edge,
                        client: *client,
                    },
                    call,
                ),
                _ => 0,
            };
            self.setup.metrics.calls_out.inc();
            let message = v1::ServerCall {
                clients,
                call: ours,
                ..message.clone()
            };
            self.tell(edge, Told::Call(message));
        }
    }

    /// Gives our number of a call that a client is to answer.
    fn expect_answer(&mut self, client: ClientKey, call: u64) -> u64 {
        self.next_server_call = self.next_server_call.wrapping_add(1).max(1);
        let number = self.next_server_call;
        self.server_calls
            .insert(number, ServerCall { client, call });
        let mut oldest = None;
        self.with(client, |client| {
            if client.server_calls.len() >= MAX_SERVER_CALLS {
                oldest = client.server_calls.pop_front();
            }
            client.server_calls.push_back(number);
        });
        if let Some(oldest) = oldest {
            self.fail_server_call(oldest);
        }
        number
    }

    fn grant(&mut self, client: &str, read: Option<String>, write: Option<String>) {
        let Some(key) = self.ids.get(client).copied() else {
            return;
        };
        let Some(client) = self.client_mut(key) else {
            return;
        };
        client.grant.read_access = read.unwrap_or_else(|| client.grant.read_access.clone());
        client.grant.write_access = write.unwrap_or_else(|| client.grant.write_access.clone());
        let grant = client.grant.clone();
        if client.state == State::Accepted {
            self.tell_grant(key, grant);
        }
    }

    fn end_stream(&mut self, client: &str, ask: u64, code: String, description: String) {
        let Some(key) = self.ids.get(client).copied() else {
            return;
        };
        let stream = self.client(key).and_then(|client| client.streams.get(&ask));
        let Some(ask) = stream.map(|stream| stream.ask) else {
            return;
        };
        let end = v1::EndStream {
            client: key.client,
            ask,
            code,
            description,
        };
        self.tell(key.edge, Told::EndStream(end));
    }

    /// A value as edges pass it on; nothing for none.
    fn encoded(&mut self, now: Instant, value: Option<&Value>) -> Bytes {
        let Some(value) = value else {
            return Bytes::new();
        };
        match amf0::encode_all(std::slice::from_ref(value)) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.nonsense(now, &error.to_string(), None);
                Bytes::from_static(&[UNDEFINED])
            }
        }
    }

    /// The handler says something that cannot be understood.
    fn nonsense(&mut self, now: Instant, what: &str, answers: Option<Answers>) {
        self.setup.metrics.handler_nonsense.inc();
        let what: Arc<str> = what.chars().take(MAX_REASON).collect::<String>().into();
        if let Some(number) = answers.and_then(|answers| self.number_of(&answers)) {
            self.settle_failed(number, "The application answers nonsense.");
        }
        self.note_failure(now, &format!("it says what makes no sense: {what}"));
    }
}

/// The AMF0 marker of `undefined`.
const UNDEFINED: u8 = 6;
