//! Edges and their clients: connecting, coming back, leaving.

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
use super::link::{ALL, Gate};
use super::{CallId, Counted, Cut, Instance, Malformed, Output, Stage};
use crate::app::handler::{ClientId, Ended, Event};

/// Most of what an edge that is away is to be told: messages, and their bytes.
const MAX_PARKED: usize = 1_024;
const MAX_PARKED_BYTES: usize = 1 << 20;

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

/// An edge's process.
#[derive(Debug)]
pub(super) struct Edge {
    name: String,
    attached: Attached,
    /// Its call.
    counted: Option<Counted>,
    pub(super) clients: HashMap<u64, Client>,
    parked: VecDeque<Told>,
    parked_bytes: usize,
    /// Clients that were ended while it was away.
    ended: HashMap<u64, v1::EndClient>,
    /// After it came back: how many clients it has still to say, and until when.
    saying: Option<(u32, Instant)>,
}

#[derive(Debug)]
enum Attached {
    /// Its call broke; it is missed at this time.
    Away(Instant),
    /// It waits for the handler, so that it knows what to ask.
    Waiting(CallId, Instant),
    Open(CallId, v1::Hooks),
}

/// Too much waits already.
pub(super) struct Lost;

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
    said: bool,
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

impl Edge {
    pub(super) fn call(&self) -> Option<CallId> {
        match &self.attached {
            Attached::Away(_) => None,
            Attached::Waiting(call, ..) | Attached::Open(call, ..) => Some(*call),
        }
    }

    pub(super) fn lost(&mut self, until: Instant) {
        self.attached = Attached::Away(until);
        self.counted = None;
        self.saying = None;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let attached = match &self.attached {
            Attached::Away(until) | Attached::Waiting(_, until) => Some(*until),
            Attached::Open(..) => None,
        };
        let saying = self.saying.map(|(_, until)| until);
        attached.into_iter().chain(saying).min()
    }

    /// Gives back what is to be told now.
    pub(super) fn take(&mut self, told: Told) -> Result<Option<(CallId, Told)>, Lost> {
        if let Attached::Open(call, ..) = &self.attached {
            return Ok(Some((*call, told)));
        }
        let bytes = v1::AttachResponse {
            response: Some(told.clone()),
        }
        .encoded_len();
        if self.parked.len() >= MAX_PARKED || self.parked_bytes + bytes > MAX_PARKED_BYTES {
            return Err(Lost);
        }
        self.parked_bytes += bytes;
        self.parked.push_back(told);
        Ok(None)
    }
}

impl Instance {
    /// An edge attaches.
    pub(crate) fn attach(&mut self, now: Instant, call: CallId, open: &v1::AttachOpen) {
        let incarnation = open.edge_incarnation;
        let metrics = &self.setup.metrics;
        let counted = Counted::new(&metrics.edges);
        let timeout = std::time::Duration::from_millis(self.policy.handler.timeout_ms);
        let attached = Attached::Waiting(call, now + timeout);
        let grace = now + self.setup.grace;
        let before = match self.edges.get_mut(&incarnation) {
            Some(edge) => {
                let before = edge.call();
                edge.attached = attached;
                edge.counted = Some(counted);
                for client in edge.clients.values_mut() {
                    client.said = false;
                }
                before
            }
            None => {
                let edge = Edge {
                    name: open.edge.chars().take(256).collect(),
                    attached,
                    counted: Some(counted),
                    clients: HashMap::new(),
                    parked: VecDeque::new(),
                    parked_bytes: 0,
                    ended: HashMap::new(),
                    saying: None,
                };
                self.edges.insert(incarnation, edge);
                None
            }
        };
        if let Some(edge) = self.edges.get_mut(&incarnation) {
            edge.saying = Some((open.resumed_clients, grace));
            tracing::debug!(instance = %self.setup.name, edge = edge.name, "an edge attaches");
        }
        if let Some(before) = before {
            self.calls.remove(&before);
            self.outputs.push_back(Output::Cut(before, Cut::Replaced));
        }
        self.calls.insert(call, incarnation);
        if open.resumed_clients == 0 {
            self.said_all(incarnation, false);
        }
        if let Some(hooks) = self.link.hooks_now() {
            self.open_edge(incarnation, hooks);
        }
        self.idle_since = None;
    }

    /// Tells an edge that waits that it is attached, and what happened while it was away.
    fn open_edge(&mut self, incarnation: u64, hooks: v1::Hooks) {
        let hooks = self.hooks_of_edges(hooks);
        let Some(edge) = self.edges.get_mut(&incarnation) else {
            return;
        };
        let Attached::Waiting(call, ..) = edge.attached else {
            return;
        };
        edge.attached = Attached::Open(call, hooks);
        edge.parked_bytes = 0;
        let opened = Told::Opened(v1::AttachOpened {
            epoch: self.setup.epoch,
            hooks: Some(hooks),
            owner: self.setup.node.clone(),
        });
        let all = std::iter::once(opened).chain(edge.parked.drain(..));
        self.outputs
            .extend(all.map(|told| Output::Tell(call, told)));
    }

    /// Those that wait know now what to ask.
    pub(super) fn open_edges(&mut self, hooks: v1::Hooks) {
        let waiting: Vec<u64> = (self.edges.iter())
            .filter(|(_, edge)| matches!(edge.attached, Attached::Waiting(..)))
            .map(|(incarnation, _)| *incarnation)
            .collect();
        for incarnation in waiting {
            self.open_edge(incarnation, hooks);
        }
    }

    /// What edges have to say: clients as soon as anybody counts or calls them.
    fn hooks_of_edges(&self, hooks: v1::Hooks) -> v1::Hooks {
        v1::Hooks {
            connect: self.has_handler() || self.policy.max_clients > 0,
            ..hooks
        }
    }

    /// Edges that were told to say less than what is wanted now attach anew.
    pub(super) fn reconsider_hooks(&mut self) {
        let Some(hooks) = self.link.hooks_now() else {
            return;
        };
        let wanted = self.hooks_of_edges(hooks);
        for edge in self.edges.values() {
            if let Attached::Open(call, told) = &edge.attached
                && lacks(*told, wanted)
            {
                self.outputs.push_back(Output::Cut(*call, Cut::Again));
            }
        }
    }

    pub(super) fn time_out_edges(&mut self, now: Instant) {
        let due: Vec<u64> = (self.edges.iter())
            .filter(|(_, edge)| edge.deadline().is_some_and(|deadline| deadline <= now))
            .map(|(incarnation, _)| *incarnation)
            .collect();
        for incarnation in due {
            let Some(edge) = self.edges.get(&incarnation) else {
                continue;
            };
            let saying = edge.saying;
            match &edge.attached {
                Attached::Away(until) if *until <= now => {
                    tracing::info!(
                        instance = %self.setup.name,
                        edge = edge.name,
                        clients = edge.clients.len(),
                        "an edge did not come back, and its clients are gone"
                    );
                    self.remove_edge(incarnation, true);
                    continue;
                }
                // The handler does not come: everything is said until it does.
                Attached::Waiting(_, until) if *until <= now => {
                    self.open_edge(incarnation, ALL);
                }
                _ => {}
            }
            if saying.is_some_and(|(_, until)| until <= now) {
                self.said_all(incarnation, true);
            }
        }
    }

    /// An edge that goes elsewhere has said all.
    pub(super) fn close_edge(&mut self, call: CallId) {
        let Some(incarnation) = self.calls.remove(&call) else {
            return;
        };
        // Clients that it has not taken leave of go on at another owner, which says them to its handler.
        let leave = matches!(self.stage, Stage::Serving);
        self.remove_edge(incarnation, leave);
    }

    /// Forgets an edge and its clients. `told`: the handler is to hear of them.
    pub(super) fn remove_edge(&mut self, incarnation: u64, told: bool) {
        let Some(edge) = self.edges.get(&incarnation) else {
            return;
        };
        let clients: Vec<u64> = edge.clients.keys().copied().collect();
        for client in clients {
            self.remove_client(
                ClientKey {
                    edge: incarnation,
                    client,
                },
                told,
            );
        }
        self.edges.remove(&incarnation);
    }

    /// An edge that came back has said the clients that it has: the others are gone. Those that are pending it may still ask for, until
    /// its time is over.
    fn said_all(&mut self, incarnation: u64, over: bool) {
        let Some(edge) = self.edges.get_mut(&incarnation) else {
            return;
        };
        let unsaid = |client: &Client| !client.said;
        let is_gone = |client: &Client| unsaid(client) && (over || client.state == State::Accepted);
        let gone = edge.clients.iter().filter(|(_, client)| is_gone(client));
        let gone: Vec<u64> = gone.map(|(client, _)| *client).collect();
        if over || edge.clients.values().filter(|it| unsaid(it)).count() == gone.len() {
            edge.saying = None;
        }
        edge.ended.clear();
        for client in gone {
            let edge = incarnation;
            self.remove_client(ClientKey { edge, client }, true);
        }
    }

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
        if let Some(end) = edge.ended.remove(&key.client) {
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
            (None, _) if said.resumed.is_some() => {
                if self.link.is_up() {
                    self.with(key, |client| client.known = true);
                    let client = properties;
                    self.notify(Event::Resumed { client, grant });
                }
            }
            (None, _) => self.tell_accepted(key, grant, Bytes::new()),
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
        self.tell_accepted(key, grant, properties);
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
        match self.edges.get_mut(&key.edge) {
            Some(edge) if matches!(edge.attached, Attached::Away(_)) => {
                edge.ended.insert(key.client, end);
            }
            _ => self.tell(key.edge, Told::End(end)),
        }
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
            if let Some(call) = self.server_calls.remove(number) {
                self.notify(Event::Answer {
                    call: call.call,
                    result: Err(Value::Undefined),
                });
            }
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

/// Whether an edge that was told the one thing would not say all of the other.
fn lacks(told: v1::Hooks, wanted: v1::Hooks) -> bool {
    let pairs = [
        (told.connect, wanted.connect),
        (told.publish, wanted.publish),
        (told.play, wanted.play),
        (told.call, wanted.call),
        (told.use_object, wanted.use_object),
        (told.ends, wanted.ends),
    ];
    pairs.into_iter().any(|(told, wanted)| wanted && !told)
}

/// Without what the network's buffers hold.
fn detached(properties: v1::ClientProperties) -> v1::ClientProperties {
    v1::ClientProperties {
        object: Bytes::new(),
        ..properties
    }
}
