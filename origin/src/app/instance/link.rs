//! The call to the handler: when it is made, what waits for it, and when it is left alone.
//!
//! ```text
//!  none --- an address ---> calling -- hello --> up
//!                             ^  |               |
//!                   the wait  |  | no hello      | the call breaks
//!                    is over  |  v               v
//!                             +-- waiting <------+
//! ```
//!
//! Failures one after the other open the breaker: until it closes, nothing is asked, and nothing is called. Then one question, or one call,
//! shows whether it was right to.

use std::collections::VecDeque;
use std::hash::Hasher as _;
use std::time::Duration;

use headwater_media::name::InstanceName;
use headwater_proto::v1;
use siphasher::sip::SipHasher13;
use tokio::time::Instant;

use super::clients::{ClientKey, State};
use super::{Counted, Instance, Output};
use crate::app::handler::{Event, Reason};

/// Everything is asked and told.
pub(super) const ALL: v1::Hooks = v1::Hooks {
    connect: true,
    publish: true,
    play: true,
    call: true,
    use_object: true,
    ends: true,
};

/// Nothing is.
const NONE: v1::Hooks = v1::Hooks {
    connect: false,
    publish: false,
    play: false,
    call: false,
    use_object: false,
    ends: false,
};

/// The wait before the handler is called again: the first one, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What may wait for the handler, by an estimate of its size in memory. Past it questions fail at once.
const MAX_QUEUED_BYTES: usize = 32 << 20;

/// Past this the handler does not take what it has to hear, and its call is ended.
const MAX_TOLD_BYTES: usize = 64 << 20;

/// Events of nobody that may stay in the queue.
const SLACK: usize = 1_024;

/// What an event is charged for besides what it carries, and how much larger values are in memory than on the wire.
const EVENT_BYTES: usize = 256;
const VALUES_PER_BYTE: usize = 8;

/// What stands between an instance and its handler.
#[derive(Debug)]
pub(super) struct Link {
    state: LinkState,
    /// What the handler is to hear, in order.
    events: VecDeque<Queued>,
    bytes: usize,
    /// Failures one after the other.
    failures: u32,
    /// Calls that failed one after the other.
    attempts: u32,
    breaker: Option<(Instant, Counted)>,
    /// So that the instances of an origin do not call all at once.
    spread: u64,
}

#[derive(Debug)]
enum LinkState {
    /// There is no handler.
    None,
    /// Until when a hello has to come.
    Calling(Instant),
    Up {
        hooks: v1::Hooks,
        since: Instant,
        _counted: Counted,
    },
    /// Until when the next call waits.
    Waiting(Instant),
}

#[derive(Debug)]
struct Queued {
    event: Event,
    bytes: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Our number of the question. It waits for the next call, as long as somebody waits for it.
    Ask(u64),
    /// A call without an answer: it waits for the next call of the handler.
    Call,
    /// Of interest to the handler that is called now.
    Notice,
}

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Ask,
    /// The handler has no say in it.
    Unasked,
    /// It has, and cannot be asked.
    Refuse(&'static str),
}

impl Link {
    pub(super) fn new(name: &InstanceName) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(name.to_string().as_bytes());
        Self {
            state: LinkState::None,
            events: VecDeque::new(),
            bytes: 0,
            failures: 0,
            attempts: 0,
            breaker: None,
            spread: hasher.finish(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Up { .. })
    }

    pub(super) fn is_calling(&self) -> bool {
        matches!(self.state, LinkState::Calling(_))
    }

    pub(super) fn wants(&self, hook: impl Fn(v1::Hooks) -> bool) -> bool {
        match &self.state {
            LinkState::Up { hooks, .. } => hook(*hooks),
            _ => false,
        }
    }

    /// What edges are to ask and say, if that is known, or the handler is not there to say it.
    pub(super) fn hooks_now(&self) -> Option<v1::Hooks> {
        match &self.state {
            LinkState::None => Some(NONE),
            LinkState::Up { hooks, .. } => Some(*hooks),
            LinkState::Calling(_) | LinkState::Waiting(_) => self.breaker.is_some().then_some(ALL),
        }
    }

    pub(super) fn has_event(&self) -> bool {
        self.is_up() && !self.events.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = match &self.state {
            LinkState::Calling(until) | LinkState::Waiting(until) => Some(*until),
            // At once.
            LinkState::Up { since, .. } if self.bytes > MAX_TOLD_BYTES => Some(*since),
            LinkState::None | LinkState::Up { .. } => None,
        };
        let breaker = self.breaker.as_ref().map(|(until, _)| *until);
        state.into_iter().chain(breaker).min()
    }

    #[cfg(test)]
    pub(super) fn has_fewer_than(&self, events: usize) -> bool {
        self.events.len() < events
    }

    fn push(&mut self, kind: Kind, bytes: usize, event: Event) {
        let bytes = charged(bytes);
        self.bytes += bytes;
        self.events.push_back(Queued { event, bytes, kind });
    }

    fn forget(&mut self, keep: impl Fn(Kind) -> bool) {
        self.events.retain(|queued| {
            let keep = keep(queued.kind);
            if !keep {
                self.bytes -= queued.bytes;
            }
            keep
        });
    }
}

fn charged(bytes: usize) -> usize {
    EVENT_BYTES.saturating_add(bytes.saturating_mul(VALUES_PER_BYTE))
}

impl Instance {
    pub(super) fn has_handler(&self) -> bool {
        !self.policy.handler.address.is_empty()
    }

    /// Whether a client's question goes to the handler.
    pub(super) fn gate(
        &mut self,
        now: Instant,
        client: ClientKey,
        hook: impl Fn(v1::Hooks) -> bool,
    ) -> Gate {
        match &self.link.state {
            LinkState::None => return Gate::Unasked,
            LinkState::Up { hooks, .. } if !hook(*hooks) => return Gate::Unasked,
            _ => {}
        }
        self.close_breaker(now);
        if self.link.breaker.is_some() {
            return Gate::Refuse("The application is not available.");
        }
        let full = self.asks.len() >= self.policy.handler.max_waiting
            || self.link.bytes >= MAX_QUEUED_BYTES
            || !self.may_ask(client);
        if full {
            self.setup.metrics.refused.inc();
            return Gate::Refuse("The application is too busy.");
        }
        Gate::Ask
    }

    pub(super) fn queue_ask(&mut self, number: u64, bytes: usize, event: Event) {
        // While the handler is away, what nobody waits for any more would fill the queue.
        if !self.link.is_up() && self.link.events.len() > 2 * self.asks.len() + SLACK {
            let asks = &self.asks;
            self.link.forget(|kind| match kind {
                Kind::Ask(number) => asks.get(number).is_some(),
                Kind::Call | Kind::Notice => true,
            });
        }
        self.link.push(Kind::Ask(number), bytes, event);
    }

    /// A call that wants no answer.
    pub(super) fn queue_call(&mut self, bytes: usize, event: Event) {
        self.link.push(Kind::Call, bytes, event);
    }

    /// Tells the handler something, if it is there.
    pub(super) fn notify(&mut self, event: Event) {
        self.notify_of(0, event);
    }

    pub(super) fn notify_of(&mut self, bytes: usize, event: Event) {
        // Past it, the call is about to be ended.
        if self.link.is_up() && self.link.bytes <= MAX_TOLD_BYTES {
            self.link.push(Kind::Notice, bytes, event);
        }
    }

    pub(super) fn next_event(&mut self, now: Instant) -> Option<Event> {
        if !self.link.is_up() {
            return None;
        }
        let pending = Duration::from_millis(self.policy.handler.pending_ms);
        loop {
            let queued = self.link.events.pop_front()?;
            self.link.bytes -= queued.bytes;
            if let Kind::Ask(number) = queued.kind {
                if !self.asks.tell(number, now, pending) {
                    continue;
                }
                if let Event::Connect { client, .. } = &queued.event
                    && let Some(key) = self.ids.get(client.id.as_str()).copied()
                {
                    self.with(key, |client| client.known = true);
                }
            }
            return Some(queued.event);
        }
    }

    /// Has the handler called.
    pub(super) fn call_handler(&mut self, now: Instant) {
        let timeout = Duration::from_millis(self.policy.handler.timeout_ms);
        self.link.state = LinkState::Calling(now + timeout);
        self.outputs.push_back(Output::CallHandler);
    }

    /// The handler is there, and says what it decides.
    pub(super) fn greeted(&mut self, now: Instant, hooks: v1::Hooks) {
        let counted = Counted::new(&self.setup.metrics.handlers);
        self.link.state = LinkState::Up {
            hooks,
            since: now,
            _counted: counted,
        };
        self.link.attempts = 0;
        tracing::info!(
            instance = %self.setup.name,
            address = self.policy.handler.address,
            "the handler is there"
        );
        self.resume_clients();
        for number in self.asks.numbers(false) {
            let asked = self.asks.get(number).map(|ask| ask.asked.clone());
            let wanted = asked.is_some_and(|asked| match asked {
                super::asks::Asked::Connect => hooks.connect,
                super::asks::Asked::Call { .. } => hooks.call,
                super::asks::Asked::Stream { publish: true, .. } => hooks.publish,
                super::asks::Asked::Stream { publish: false, .. } => hooks.play,
                super::asks::Asked::UseObject => hooks.use_object,
            });
            if !wanted {
                self.settle_unasked(number);
            }
        }
        if !hooks.call {
            self.link.forget(|kind| kind != Kind::Call);
        }
        self.open_edges(hooks);
        self.reconsider_hooks();
    }

    /// Says the clients that are there, before anything else that waits.
    fn resume_clients(&mut self) {
        let mut said = Vec::new();
        for edge in self.edges.values_mut() {
            for client in edge.clients.values_mut() {
                if client.state == State::Accepted {
                    client.known = true;
                    said.push(Event::Resumed {
                        client: std::sync::Arc::clone(&client.properties),
                        grant: client.grant.clone(),
                    });
                }
            }
        }
        for event in said {
            let bytes = charged(0);
            self.link.bytes += bytes;
            let kind = Kind::Notice;
            self.link.events.push_front(Queued { event, bytes, kind });
        }
    }

    /// The call to the handler is over. With what to tell it, if it can still hear.
    pub(super) fn link_lost(&mut self, now: Instant, why: &str, hang_up: Option<Option<Reason>>) {
        let up_for = match &self.link.state {
            LinkState::None | LinkState::Waiting(_) => return,
            LinkState::Calling(_) => None,
            LinkState::Up { since, .. } => Some(now.saturating_duration_since(*since)),
        };
        if let Some(reason) = hang_up {
            self.outputs.push_back(Output::HangUp(reason));
        }
        self.forget_call(now);
        let breaker_ms = Duration::from_millis(self.policy.handler.breaker_ms);
        if up_for.is_some_and(|up| up >= breaker_ms) {
            self.link.failures = 0;
        }
        self.note_failure(now, why);
        self.link.attempts = self.link.attempts.saturating_add(1);
        let wait = self.wait();
        let breaker = self.link.breaker.as_ref().map(|(until, _)| *until);
        let until = (now + wait).max(breaker.unwrap_or(now));
        self.link.state = LinkState::Waiting(until);
        if let Some(hooks) = self.link.hooks_now() {
            self.open_edges(hooks);
        }
    }

    /// What the handler has heard it will not answer any more.
    fn forget_call(&mut self, now: Instant) {
        // Nobody hears now what becomes of the clients.
        self.link.state = LinkState::Waiting(now);
        self.link.forget(|kind| kind != Kind::Notice);
        for number in self.asks.numbers(true) {
            self.settle_failed(number, "The application is not available.");
        }
        self.server_calls.clear();
        for edge in self.edges.values_mut() {
            for client in edge.clients.values_mut() {
                client.known = false;
                client.server_calls.clear();
            }
        }
    }

    /// The application has another handler, or none, or has one now.
    pub(super) fn change_handler(&mut self, now: Instant) {
        if !matches!(self.link.state, LinkState::None | LinkState::Waiting(_)) {
            self.outputs.push_back(Output::HangUp(Some(Reason::Reload)));
            self.forget_call(now);
        }
        self.link.failures = 0;
        self.link.attempts = 0;
        self.link.breaker = None;
        if self.has_handler() {
            self.call_handler(now);
            return;
        }
        self.link.state = LinkState::None;
        for number in self.asks.numbers(false) {
            self.settle_unasked(number);
        }
        self.link.forget(|_| false);
        self.open_edges(NONE);
    }

    /// Doubles from call to call, give or take a fourth.
    fn wait(&self) -> Duration {
        let doubled = FIRST_WAIT.saturating_mul(1 << self.link.attempts.saturating_sub(1).min(16));
        let wait = doubled.min(LONGEST_WAIT);
        let part = (self.link.spread.rotate_left(self.link.attempts) % 512) as u32;
        wait * 3 / 4 + wait * part / 1_024
    }

    pub(super) fn note_success(&mut self) {
        self.link.failures = 0;
        if self.link.breaker.take().is_some() {
            tracing::info!(instance = %self.setup.name, "the handler answers again");
        }
    }

    pub(super) fn note_failure(&mut self, now: Instant, why: &str) {
        let handler = &self.policy.handler;
        self.setup.metrics.handler_failures.inc();
        self.link.failures = self.link.failures.saturating_add(1);
        tracing::warn!(
            instance = %self.setup.name,
            address = handler.address,
            failures = self.link.failures,
            reason = why,
            "the handler failed"
        );
        if self.link.failures < handler.breaker_failures || self.link.breaker.is_some() {
            return;
        }
        let until = now + Duration::from_millis(handler.breaker_ms);
        let counted = Counted::new(&self.setup.metrics.breakers_open);
        self.link.breaker = Some((until, counted));
        tracing::warn!(
            instance = %self.setup.name,
            address = handler.address,
            milliseconds = handler.breaker_ms,
            "the handler is left alone for a while, and clients are treated as handler.on_failure says"
        );
        for number in self.asks.numbers(false) {
            self.settle_failed(number, "The application is not available.");
        }
    }

    /// Once its time is over, one failure more opens it again.
    fn close_breaker(&mut self, now: Instant) {
        if self
            .link
            .breaker
            .as_ref()
            .is_some_and(|(until, _)| *until <= now)
        {
            self.link.breaker = None;
            self.link.failures = self.policy.handler.breaker_failures.saturating_sub(1);
        }
    }

    pub(super) fn time_out_link(&mut self, now: Instant) {
        self.close_breaker(now);
        if self.link.bytes > MAX_TOLD_BYTES && self.link.is_up() {
            self.link_lost(now, "it does not take what it is told", Some(None));
        }
        match self.link.state {
            LinkState::Calling(until) if until <= now => {
                self.link_lost(now, "it says no hello in time", Some(None));
            }
            LinkState::Waiting(until) if until <= now => self.call_handler(now),
            _ => {}
        }
    }
}
