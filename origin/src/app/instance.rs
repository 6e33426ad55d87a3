//! One application instance, as a state machine: the clients that edges have of it, what they ask, and the handler that decides.
//!
//! Pure: inputs of edges, of the handler and of time go in with the time they came; what is to be told comes out of
//! [`Instance::poll_output`], and of [`Instance::poll_event`] what the handler is to hear, as fast as it takes that. After each input
//! outputs are polled until there are none, and [`Instance::poll_timeout`] says when [`Instance::handle_timeout`] is due.
//!
//! What always holds:
//! - What a client says is handled in its order, what the handler says is delivered in its order.
//! - Each question of a client gets one answer: the handler's, or where the handler has no say in it what `app.toml` allows, or where it
//!   should have a say and gives no answer in time what `handler.on_failure` says.
//! - A client whose edge lost its call stays for a grace time; what it is told meanwhile waits, and it hears it when its edge is back.
//! - Nothing grows without bound: questions, events and what waits for an edge are counted, and refused or lost and counted past their limits.
//!
//! | module | what it holds |
//! |---|---|
//! | [`actions`] | what the handler does |
//! | [`asks`] | what clients ask, and the answers |
//! | [`clients`] | clients: connecting, coming back, leaving |
//! | [`edges`] | edges: attaching, coming back, staying away |
//! | [`link`] | the call to the handler: when it is made, and when it is left alone |

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use headwater_application::ApplicationSection;
use headwater_media::name::InstanceName;
use headwater_proto::v1;
use headwater_proto::v1::attach_request::Request as Said;
use headwater_proto::v1::attach_response::Response as Told;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::handler::{Action, ClientId, Event, ObjectCommand, Reason};
use super::metrics::ApplicationMetrics;

mod actions;
mod asks;
mod clients;
mod edges;
mod link;
#[cfg(test)]
mod tests;

use asks::Asks;
use clients::{ClientKey, ServerCall};
use edges::Edge;
use link::Link;

/// How long edges may take to leave once they were told where to go.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// How long an instance waits for the edge that it was made for, at least.
const FIRST_IDLE: Duration = Duration::from_secs(1);

/// The call of an edge. Counts in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallId(pub(crate) u64);

/// What an instance is made of.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) name: InstanceName,
    /// Node id of this origin.
    pub(crate) node: String,
    pub(crate) epoch: u64,
    /// How long the clients of an edge without a call stay.
    pub(crate) grace: Duration,
    /// How long answers are waited for before the instance goes elsewhere.
    pub(crate) handover: Duration,
    pub(crate) metrics: ApplicationMetrics,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Output {
    Tell(CallId, Told),
    /// The call of an edge is to end.
    Cut(CallId, Cut),
    /// What an edge says of shared objects.
    EdgeObject(CallId, Said),
    /// What the handler does with one.
    HandlerObject(ObjectCommand),
    /// The handler is to be called, and the call kept.
    CallHandler,
    /// Its call is to end; with a reason, it hears that first.
    HangUp(Option<Reason>),
    /// Nothing is left.
    Ended,
}

/// Why the call of an edge ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The edge has made a new one.
    Replaced,
    /// It is to be made again: the handler wants to hear more than the edge was told.
    Again,
    /// Everything was said.
    Done,
}

/// What an edge must not say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the call is open already")]
    Open,
    #[error("a client without properties")]
    NoProperties,
    #[error("a client without an id")]
    NoId,
}

/// The instance.
#[derive(Debug)]
pub(crate) struct Instance {
    setup: Setup,
    policy: Arc<ApplicationSection>,
    /// By incarnation.
    edges: HashMap<u64, Edge>,
    calls: HashMap<CallId, u64>,
    ids: HashMap<ClientId, ClientKey>,
    asks: Asks,
    link: Link,
    /// Calls of the handler that clients have not answered.
    server_calls: BTreeMap<u64, ServerCall>,
    next_server_call: u64,
    stage: Stage,
    /// Whether everybody knows what was done to objects.
    settled: bool,
    /// The origin ends soon: nothing stays for those who may come.
    draining: bool,
    /// Since when nobody is there.
    idle_since: Option<Instant>,
    /// Whether an edge has attached.
    was_used: bool,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum Stage {
    Serving,
    /// It goes elsewhere as soon as its questions are answered.
    Departing {
        moved: v1::Moved,
        until: Instant,
    },
    /// Edges know that they have to go.
    Leaving {
        reason: Reason,
        until: Instant,
    },
    Ended,
}

impl Instance {
    pub(crate) fn new(now: Instant, setup: Setup, policy: Arc<ApplicationSection>) -> Self {
        let mut instance = Self {
            // Numbers of another owner are not taken for ours.
            next_server_call: setup.epoch.wrapping_shl(20),
            asks: Asks::default(),
            link: Link::new(&setup.name),
            setup,
            policy,
            edges: HashMap::new(),
            calls: HashMap::new(),
            ids: HashMap::new(),
            server_calls: BTreeMap::new(),
            stage: Stage::Serving,
            settled: true,
            draining: false,
            idle_since: Some(now),
            was_used: false,
            outputs: VecDeque::new(),
        };
        if instance.has_handler() {
            instance.call_handler(now);
        }
        instance
    }

    /// Whether edges may still attach.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Serving | Stage::Departing { .. })
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.setup.epoch
    }

    /// The incarnation of the edge whose call it is.
    pub(crate) fn edge_of(&self, call: CallId) -> Option<u64> {
        self.calls.get(&call).copied()
    }

    /// The id of a client of an edge, while it is there.
    pub(crate) fn client_id(&self, edge: u64, client: u64) -> Option<ClientId> {
        let client = self.client(ClientKey { edge, client })?;
        Some(Arc::clone(&client.id))
    }

    /// What an edge says on its call.
    ///
    /// # Errors
    /// [`Malformed`]: its call has to end.
    pub(crate) fn said(&mut self, now: Instant, call: CallId, said: Said) -> Result<(), Malformed> {
        // A call that was cut may still say something.
        let Some(edge) = self.edge_of(call) else {
            return Ok(());
        };
        let key = |client: u64| ClientKey { edge, client };
        match said {
            Said::Open(_) => return Err(Malformed::Open),
            Said::Connect(said) => self.connect(now, edge, said)?,
            Said::Disconnect(said) => self.disconnect(key(said.client)),
            Said::Call(said) => self.client_calls(now, key(said.client), said),
            Said::Answer(said) => self.client_answers(key(said.client), said),
            Said::Publish(said) => self.client_publishes(now, key(said.client), said),
            Said::Play(said) => self.client_plays(now, key(said.client), said),
            Said::AskObject(said) => self.client_uses_object(now, key(said.client), said),
            Said::Unpublish(said) => {
                self.stream_ended(key(said.client), said.ask, &said.stream, true)
            }
            Said::Stop(said) => self.stream_ended(key(said.client), said.ask, &said.stream, false),
            said @ (Said::UseObject(_)
            | Said::ReleaseObject(_)
            | Said::Object(_)
            | Said::ObjectState(_)) => self.outputs.push_back(Output::EdgeObject(call, said)),
            Said::Close(_) => {
                self.outputs.push_back(Output::Cut(call, Cut::Done));
                self.close_edge(call);
            }
        }
        self.advance(now);
        Ok(())
    }

    /// The call of an edge has ended.
    pub(crate) fn detached(&mut self, now: Instant, call: CallId) {
        let Some(incarnation) = self.calls.remove(&call) else {
            return;
        };
        if let Some(edge) = self.edges.get_mut(&incarnation) {
            edge.lost(now + self.setup.grace);
            let is_empty = edge.clients.is_empty() && edge.ended.is_empty();
            self.fail_server_calls(incarnation);
            if is_empty || !self.is_open() {
                self.remove_edge(incarnation, self.is_open());
            }
        }
        self.advance(now);
    }

    /// What the handler does. Only while it is called.
    pub(crate) fn acted(&mut self, now: Instant, action: Action) {
        self.act(now, action);
        self.advance(now);
    }

    /// The call to the handler has ended.
    pub(crate) fn handler_gone(&mut self, now: Instant, error: &super::handler::HandlerError) {
        self.link_lost(now, &error.to_string(), None);
        self.advance(now);
    }

    /// What became of something that the handler did with an object, or an object that it watches has changed.
    pub(crate) fn object_event(&mut self, event: Event) {
        self.notify(event);
    }

    /// The next thing that the handler is to hear, once there is room for it.
    #[must_use]
    pub(crate) fn poll_event(&mut self, now: Instant) -> Option<Event> {
        self.next_event(now)
    }

    /// Whether [`Instance::poll_event`] may have something.
    pub(crate) fn has_event(&self) -> bool {
        self.link.has_event()
    }

    /// The application allows something else now.
    pub(crate) fn set_policy(&mut self, now: Instant, policy: Arc<ApplicationSection>) {
        let before = std::mem::replace(&mut self.policy, policy);
        let other = |section: &ApplicationSection| {
            let handler = &section.handler;
            (handler.address.clone(), handler.ca_file.clone())
        };
        if other(&before) != other(&self.policy) && self.is_open() {
            self.change_handler(now);
        }
        self.reconsider_hooks();
        self.advance(now);
    }

    /// Another origin owns the instance now: its edges go there as soon as what they have asked is answered.
    pub(crate) fn depart(&mut self, now: Instant, moved: v1::Moved) {
        match &mut self.stage {
            Stage::Serving => {
                let until = now + self.setup.handover;
                self.stage = Stage::Departing { moved, until };
                tracing::info!(instance = %self.setup.name, "the instance goes to another origin");
            }
            Stage::Departing { moved: target, .. } => *target = moved,
            Stage::Leaving { .. } | Stage::Ended => {}
        }
        self.advance(now);
    }

    /// It stays here after all.
    pub(crate) fn stay(&mut self) {
        if matches!(self.stage, Stage::Departing { .. }) {
            self.stage = Stage::Serving;
        }
    }

    /// Whether everybody knows what was done to objects. As long as they do not, the instance goes nowhere.
    pub(crate) fn set_settled(&mut self, now: Instant, settled: bool) {
        if std::mem::replace(&mut self.settled, settled) != settled {
            self.advance(now);
        }
    }

    /// Whether the origin is to end: then an instance without clients does not wait for new ones.
    pub(crate) fn set_draining(&mut self, now: Instant, draining: bool) {
        self.draining = draining;
        self.advance(now);
    }

    /// Ends the instance: its clients are told why.
    pub(crate) fn end(&mut self, now: Instant, code: &str, description: &str) {
        if !self.is_open() {
            return;
        }
        let ended = v1::InstanceEnded {
            code: code.to_owned(),
            description: description.to_owned(),
        };
        self.leave(now, Reason::Shutdown, &Told::Ended(ended));
        self.advance(now);
    }

    /// Tells every edge to go.
    fn leave(&mut self, now: Instant, reason: Reason, told: &Told) {
        for call in self.calls.keys() {
            self.outputs.push_back(Output::Tell(*call, told.clone()));
        }
        let until = now + LEAVE_LIMIT;
        self.stage = Stage::Leaving { reason, until };
        // Those without a call find out when they come.
        let away: Vec<u64> = (self.edges.iter())
            .filter(|(_, edge)| edge.call().is_none())
            .map(|(incarnation, _)| *incarnation)
            .collect();
        for incarnation in away {
            self.remove_edge(incarnation, false);
        }
    }

    /// When [`Instance::handle_timeout`] is due.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let stage = match &self.stage {
            Stage::Serving => self.idle_since.map(|since| since + self.idle()),
            Stage::Departing { until, .. } | Stage::Leaving { until, .. } => Some(*until),
            Stage::Ended => return None,
        };
        let edges = self.edges.values().filter_map(Edge::deadline).min();
        let all = [stage, edges, self.asks.deadline(), self.link.deadline()];
        all.into_iter().flatten().min()
    }

    /// How long it stays when nobody is there.
    fn idle(&self) -> Duration {
        let idle = Duration::from_millis(self.policy.idle_ms);
        match self.was_used {
            true => idle,
            false => idle.max(FIRST_IDLE),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.time_out_link(now);
        self.time_out_asks(now);
        self.time_out_edges(now);
        let idle = self.idle();
        if matches!(self.stage, Stage::Serving)
            && self.idle_since.is_some_and(|since| now >= since + idle)
        {
            let until = now;
            let reason = Reason::Unload;
            self.stage = Stage::Leaving { reason, until };
        }
        self.advance(now);
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    #[must_use]
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes the next step of leaving, where it is due.
    fn advance(&mut self, now: Instant) {
        self.idle_since = match self.edges.is_empty() {
            true => self.idle_since.or(Some(now)),
            false => None,
        };
        // Without a handler, and without limits, edges say of their clients only what they do with objects.
        let is_unused = self.edges.is_empty() || (self.ids.is_empty() && self.wants_clients());
        if self.draining && is_unused && matches!(self.stage, Stage::Serving) {
            let reason = Reason::Unload;
            self.stage = Stage::Leaving { reason, until: now };
        }
        if let Stage::Departing { moved, until } = &self.stage
            && ((self.asks.is_empty() && self.settled) || now >= *until)
        {
            let moved = Told::Moved(moved.clone());
            self.setup.metrics.moves.inc();
            self.leave(now, Reason::Moved, &moved);
        }
        if let Stage::Leaving { reason, until } = self.stage
            && (self.calls.is_empty() || now >= until)
        {
            for call in std::mem::take(&mut self.calls).into_keys() {
                self.outputs.push_back(Output::Cut(call, Cut::Done));
            }
            self.stage = Stage::Ended;
            self.outputs.push_back(Output::HangUp(Some(reason)));
            self.outputs.push_back(Output::Ended);
        }
    }

    /// Tells an edge something, now or when it is back.
    fn tell(&mut self, edge: u64, told: Told) {
        let Some(edge) = self.edges.get_mut(&edge) else {
            return;
        };
        let asked = match &told {
            Told::Call(call) => call.call,
            _ => 0,
        };
        match edge.take(told) {
            Ok(Some((call, told))) => self.outputs.push_back(Output::Tell(call, told)),
            Ok(None) => {}
            Err(edges::Lost) => {
                self.setup.metrics.lost_calls.inc();
                self.fail_server_call(asked);
            }
        }
    }
}

/// Counts as long as it is there.
#[derive(Debug)]
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
