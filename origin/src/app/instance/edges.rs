//! Edges: attaching, coming back, staying away; and what waits for those that are away.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use headwater_proto::v1;
use headwater_proto::v1::attach_response::Response as Told;
use prost::Message as _;
use tokio::time::Instant;

use super::clients::{Client, ClientKey, State};
use super::link::ALL;
use super::{CallId, Counted, Cut, Instance, Output};

/// Most of what an edge that is away is to be told: messages, and their bytes.
const MAX_PARKED: usize = 1_024;
const MAX_PARKED_BYTES: usize = 1 << 20;

/// Clients that were ended and that an edge has not said to be gone: more than an edge has at a time.
pub(super) const MAX_ENDED: usize = 1 << 16;

/// How long an edge waits for the handler's hello, at most: well below what it waits for to be attached.
const OPEN_WAIT: Duration = Duration::from_millis(1_500);

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
    /// Clients that were ended, until it says that they are gone.
    pub(super) ended: HashMap<u64, Ending>,
    /// After it came back: how many clients it has still to say, and until when.
    pub(super) saying: Option<(u32, Instant)>,
}

/// The end of a client.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) end: v1::EndClient,
    /// Whether the edge has heard it on its present call, as far as that tells.
    pub(super) said: bool,
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

impl Edge {
    pub(super) fn call(&self) -> Option<CallId> {
        match &self.attached {
            Attached::Away(_) => None,
            Attached::Waiting(call, ..) | Attached::Open(call, ..) => Some(*call),
        }
    }

    pub(super) fn is_away(&self) -> bool {
        matches!(self.attached, Attached::Away(_))
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
        let timeout = Duration::from_millis(self.policy.handler.timeout_ms);
        let until = now + timeout.min(OPEN_WAIT);
        let attached = Attached::Waiting(call, until);
        // Before it is attached it says nothing.
        let said_from = if self.link.hooks_now().is_some() {
            now
        } else {
            until
        };
        let grace = said_from + self.setup.grace;
        let before = match self.edges.get_mut(&incarnation) {
            Some(edge) => {
                let before = edge.call();
                edge.attached = attached;
                edge.counted = Some(counted);
                for client in edge.clients.values_mut() {
                    client.said = false;
                }
                for ending in edge.ended.values_mut() {
                    ending.said = false;
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
            self.fail_server_calls(incarnation);
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
        self.was_used = true;
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

    /// What edges have to say.
    fn hooks_of_edges(&self, hooks: v1::Hooks) -> v1::Hooks {
        v1::Hooks {
            connect: self.wants_clients(),
            ..hooks
        }
    }

    /// Whether edges say all of their clients: as soon as anybody counts or calls them.
    pub(super) fn wants_clients(&self) -> bool {
        self.has_handler() || self.policy.max_clients > 0
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
        let leave = self.is_open();
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
    pub(super) fn said_all(&mut self, incarnation: u64, over: bool) {
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
        edge.ended.retain(|_, ending| ending.said);
        for client in gone {
            let edge = incarnation;
            self.remove_client(ClientKey { edge, client }, true);
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
