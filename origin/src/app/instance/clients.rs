//! Clients: connecting, coming back, leaving.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use headwater_amf::Value;
use headwater_proto::v1;
use headwater_proto::v1::attach_response::Response as Told;
use headwater_proto::v1::connect_decision::Decision;
use prost::Message as _;
use tokio::time::Instant;

use super::asks::{Asked, decoded};
use super::edges::{Ending, MAX_ENDED};
use super::link::Gate;
use super::{Counted, Instance, Malformed, Stage};
use crate::app::handler::{ClientId, Ended, Event, Reason};

/// Largest description of a client, in bytes: its properties, its object and its arguments.
const MAX_DESCRIPTION: usize = 256 << 10;

/// Streams of a client that are remembered to be ended. More than that no client has at once.
const MAX_STREAMS: usize = 256;

/// A client: the incarnation of its edge, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    pub(super) edge: u64,
    pub(super) client: u64,
}

/// A call of the handler that a client is to answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerCall {
    pub(super) client: ClientKey,
    /// The handler's number.
    pub(super) call: u64,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: ClientId,
    pub(super) properties: Arc<v1::ClientProperties>,
    pub(super) state: State,
    pub(super) grant: v1::ClientGrant,
    /// Questions that are not answered: from the edge's numbers to ours.
    pub(super) asks: HashMap<u64, u64>,
    /// What it publishes and plays, by our number.
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) server_calls: VecDeque<u64>,
    /// Whether the handler has heard of it.
    pub(super) known: bool,
    /// Whether its edge has said it on its present call.
    pub(super) said: bool,
    _counted: Counted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// With our number of the question.
    Pending(u64),
    Accepted,
}

#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// The edge's number of it.
    pub(super) ask: u64,
    pub(super) name: String,
    pub(super) publish: bool,
    /// What the client publishes or plays instead; empty: what it asked for.
    pub(super) instead: String,
}

impl Instance {
    pub(super) fn connect(
        &mut self,
        now: Instant,
        incarnation: u64,
        said: v1::ClientConnect,
    ) -> Result<(), Malformed> {
        let key = ClientKey {
            edge: incarnation,
            client: said.client,
        };
        let resumed = said.resumed.is_some();
        let outcome = self.take_connect(now, key, said);
        if resumed
            && let Some(edge) = self.edges.get_mut(&incarnation)
            && let Some((left, _)) = &mut edge.saying
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.said_all(incarnation, false);
            }
        }
        outcome
    }

    fn take_connect(
        &mut self,
        now: Instant,
        key: ClientKey,
        said: v1::ClientConnect,
    ) -> Result<(), Malformed> {
        let Some(edge) = self.edges.get_mut(&key.edge) else {
            return Ok(());
        };
        if let Some(ending) = edge.ended.get_mut(&key.client) {
            ending.said = true;
            let end = ending.end.clone();
            self.tell(key.edge, Told::End(end));
            return Ok(());
        }
        if let Some(client) = edge.clients.get_mut(&key.client) {
            client.said = true;
            let grant = client.grant.clone();
            match (client.state, said.resumed) {
                (State::Accepted, Some(had)) if had != grant => self.tell_grant(key, grant),
                (State::Accepted, Some(_)) | (State::Pending(_), None) => {}
                // It did not hear the answer.
                (State::Accepted, None) => self.tell_accepted(key, grant, Bytes::new()),
                (State::Pending(ask), Some(had)) => {
                    self.asks.remove(ask);
                    self.accept(key, had, Bytes::new());
                }
            }
            return Ok(());
        }
        let length = said.encoded_len();
        let mut properties = said.properties.ok_or(Malformed::NoProperties)?;
        if properties.id.is_empty() {
            return Err(Malformed::NoId);
        }
        let object = std::mem::take(&mut properties.object);
        if length > MAX_DESCRIPTION {
            let why = format!("More than {MAX_DESCRIPTION} bytes to connect.");
            self.turn_away(key, why);
            return Ok(());
        }
        let moves = matches!(
            self.stage,
            Stage::Leaving {
                reason: Reason::Moved,
                ..
            }
        );
        if moves && said.resumed.is_none() {
            // Its edge says it to the next owner.
            return Ok(());
        }
        if self.ids.contains_key(properties.id.as_str()) {
            self.turn_away(key, "A client of this id is connected.".to_owned());
            return Ok(());
        }
        let most = self.policy.max_clients;
        if said.resumed.is_none() && most > 0 && self.ids.len() >= most {
            self.turn_away(key, format!("The instance has {most} clients already."));
            return Ok(());
        }
        if said.resumed.is_none() && !self.is_open() {
            self.turn_away(key, "The instance ends.".to_owned());
            return Ok(());
        }
        let gate = match said.resumed {
            Some(_) => Gate::Unasked,
            None => self.gate(now, key, |hooks| hooks.connect),
        };
        let asked = match gate {
            Gate::Ask => match (decoded(&said.arguments), decoded(&object)) {
                (Ok(arguments), Ok(object)) => Some((arguments, object)),
                (Err(why), _) | (_, Err(why)) => {
                    self.turn_away(key, format!("What the client says cannot be read: {why}."));
                    return Ok(());
                }
            },
            Gate::Unasked | Gate::Refuse(_) => None,
        };
        let id: ClientId = properties.id.as_str().into();
        let properties = Arc::new(detached(properties));
        let grant = said.resumed.clone().unwrap_or_else(|| self.granted());
        let client = Client {
            id: Arc::clone(&id),
            properties: Arc::clone(&properties),
            state: State::Accepted,
            grant: grant.clone(),
            asks: HashMap::new(),
            streams: BTreeMap::new(),
            server_calls: VecDeque::new(),
            known: false,
            said: true,
            _counted: Counted::new(&self.setup.metrics.clients),
        };
        if let Some(edge) = self.edges.get_mut(&key.edge) {
            edge.clients.insert(key.client, client);
        }
        self.ids.insert(id, key);
        match (asked, gate) {
            (Some((arguments, mut object)), _) => {
                let event = |_| Event::Connect {
                    client: properties,
                    arguments,
                    object: object.pop().unwrap_or(Value::Null),
                };
                let number = self.ask(now, key, 0, Asked::Connect, length, event);
                self.with(key, |client| client.state = State::Pending(number));
            }
            (None, Gate::Refuse(why)) => self.failed(key, 0, &Asked::Connect, why),
            (None, _) => {
                self.introduce(key);
                if said.resumed.is_none() {
                    self.tell_accepted(key, grant, Bytes::new());
                }
            }
        }
        Ok(())
    }

    /// What the application allows a client.
    pub(super) fn granted(&self) -> v1::ClientGrant {
        v1::ClientGrant {
            read_access: self.policy.read_access.clone(),
            write_access: self.policy.write_access.clone(),
        }
    }

    /// Lets a client in.
    pub(super) fn accept(&mut self, key: ClientKey, grant: v1::ClientGrant, properties: Bytes) {
        self.with(key, |client| {
            client.state = State::Accepted;
            client.asks.remove(&0);
            client.grant = grant.clone();
        });
        self.introduce(key);
        self.tell_accepted(key, grant, properties);
    }

    /// Tells the handler of a client that it has not let in itself, before that client can ask anything: it could not place what the client
    /// asks, nor that it leaves.
    fn introduce(&mut self, key: ClientKey) {
        if !self.link.is_up() {
            // It hears of all when it is there.
            return;
        }
        let Some(client) = self.client_mut(key) else {
            return;
        };
        if std::mem::replace(&mut client.known, true) {
            return;
        }
        let resumed = Event::Resumed {
            client: Arc::clone(&client.properties),
            grant: client.grant.clone(),
        };
        self.notify(resumed);
    }

    fn tell_accepted(&mut self, key: ClientKey, grant: v1::ClientGrant, properties: Bytes) {
        let accepted = Decision::Accepted(v1::ConnectAccepted {
            grant: Some(grant),
            properties,
        });
        self.decide(key, accepted);
    }

    pub(super) fn tell_grant(&mut self, key: ClientKey, grant: v1::ClientGrant) {
        let granted = v1::ClientGranted {
            client: key.client,
            grant: Some(grant),
        };
        self.tell(key.edge, Told::Granted(granted));
    }

    /// Refuses a client before it is one.
    fn turn_away(&mut self, key: ClientKey, why: String) {
        self.setup.metrics.refused.inc();
        self.decide(
            key,
            Decision::Rejected(v1::ConnectRejected {
                description: why,
                ..v1::ConnectRejected::default()
            }),
        );
    }

    /// Refuses a client that is pending.
    pub(super) fn reject(&mut self, key: ClientKey, rejected: v1::ConnectRejected) {
        self.remove_client(key, true);
        self.decide(key, Decision::Rejected(rejected));
    }

    fn decide(&mut self, key: ClientKey, decision: Decision) {
        let decision = v1::ConnectDecision {
            client: key.client,
            decision: Some(decision),
        };
        self.tell(key.edge, Told::Decision(decision));
    }

    /// Ends a client.
    pub(super) fn end_client(&mut self, key: ClientKey, code: String, description: String) {
        let Some(client) = self.client(key) else {
            return;
        };
        if let State::Pending(_) = client.state {
            let rejected = v1::ConnectRejected {
                code,
                description,
                ..v1::ConnectRejected::default()
            };
            self.reject(key, rejected);
            return;
        }
        let end = v1::EndClient {
            client: key.client,
            code,
            description,
        };
        self.remove_client(key, true);
        let Some(edge) = self.edges.get_mut(&key.edge) else {
            return;
        };
        let is_away = edge.is_away();
        // Whether it was heard is not known before the edge says that the client is gone: its call may break before.
        if edge.ended.len() < MAX_ENDED {
            let end = end.clone();
            let said = !is_away;
            edge.ended.insert(key.client, Ending { end, said });
        }
        if !is_away {
            self.tell(key.edge, Told::End(end));
        }
    }

    /// An edge says that a client of it is gone.
    pub(super) fn disconnect(&mut self, key: ClientKey) {
        if let Some(edge) = self.edges.get_mut(&key.edge) {
            edge.ended.remove(&key.client);
        }
        self.remove_client(key, true);
    }

    /// The call of an edge broke: what the handler asked clients there is not answered.
    pub(super) fn fail_server_calls(&mut self, incarnation: u64) {
        let Some(edge) = self.edges.get_mut(&incarnation) else {
            return;
        };
        let calls = edge.clients.values_mut();
        let calls: Vec<u64> = calls.flat_map(|it| it.server_calls.drain(..)).collect();
        for number in calls {
            self.fail_server_call(number);
        }
    }

    pub(super) fn fail_server_call(&mut self, number: u64) {
        let Some(call) = self.server_calls.remove(&number) else {
            return;
        };
        self.with(call.client, |client| {
            client.server_calls.retain(|it| *it != number);
        });
        self.notify(Event::Answer {
            call: call.call,
            result: Err(Value::Undefined),
        });
    }

    /// Forgets a client. `told`: the handler is to hear of it.
    pub(super) fn remove_client(&mut self, key: ClientKey, told: bool) {
        let edge = self.edges.get_mut(&key.edge);
        let Some(client) = edge.and_then(|edge| edge.clients.remove(&key.client)) else {
            return;
        };
        self.ids.remove(&client.id);
        for ask in client.asks.values() {
            self.asks.remove(*ask);
        }
        for number in &client.server_calls {
            self.fail_server_call(*number);
        }
        if !told || !client.known || !self.link.wants(|hooks| hooks.ends) {
            return;
        }
        for (ask, stream) in client.streams {
            self.notify_end(&client.id, ask, stream.name, stream.publish);
        }
        self.notify(Event::Left { client: client.id });
    }

    /// What a client published or played has ended.
    pub(super) fn stream_ended(&mut self, key: ClientKey, ask: u64, stream: &str, publish: bool) {
        let Some(client) = self.client_mut(key) else {
            return;
        };
        let found = client.streams.iter().find(|(_, it)| it.ask == ask);
        let found = found.map(|(number, it)| (*number, it.name.clone()));
        let id = Arc::clone(&client.id);
        if let Some((number, _)) = &found {
            client.streams.remove(number);
        }
        // One that began before this owner's tenure has no number here.
        let (number, name) = found.unwrap_or_else(|| (0, stream.to_owned()));
        if self.link.wants(|hooks| hooks.ends) {
            self.notify_end(&id, number, name, publish);
        }
    }

    fn notify_end(&mut self, client: &ClientId, ask: u64, stream: String, publish: bool) {
        let end = Ended {
            client: Arc::clone(client),
            stream,
            ask,
        };
        self.notify(match publish {
            true => Event::Unpublished(end),
            false => Event::Stopped(end),
        });
    }

    /// Remembers what a client may publish or play now.
    pub(super) fn begin_stream(&mut self, key: ClientKey, number: u64, stream: Stream) {
        self.with(key, |client| {
            if client.streams.len() >= MAX_STREAMS {
                client.streams.pop_first();
            }
            client.streams.insert(number, stream);
        });
    }

    pub(super) fn client(&self, key: ClientKey) -> Option<&Client> {
        self.edges.get(&key.edge)?.clients.get(&key.client)
    }

    pub(super) fn client_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.edges.get_mut(&key.edge)?.clients.get_mut(&key.client)
    }

    pub(super) fn with(&mut self, key: ClientKey, change: impl FnOnce(&mut Client)) {
        if let Some(client) = self.client_mut(key) {
            change(client);
        }
    }
}

/// Without what the network's buffers hold.
fn detached(properties: v1::ClientProperties) -> v1::ClientProperties {
    v1::ClientProperties {
        object: Bytes::new(),
        ..properties
    }
}
