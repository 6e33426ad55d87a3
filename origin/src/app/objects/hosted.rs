//! The shared objects of an instance with their store, for the task of the instance.
//!
//! What goes in is done at once; [`Hosted::work`] waits for the store and for time, and [`Hosted::poll_outcome`] gives what others are to be
//! told. Both after one another, in the loop of the task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use headwater_application::SharedObjectsSection;
use headwater_proto::v1::attach_request::Request as Said;
use headwater_proto::v1::attach_response::Response as Told;
use tokio::time::{Instant, sleep_until};

use super::loading::Loads;
use super::{Answer, Changed, Command, EdgeCall, ObjectMetrics, Objects, Output, Setup};
use crate::state::{Held, StateError, States, Ticket};

/// After how long it is tried again to open the store.
const RETRY: Duration = Duration::from_secs(1);

/// What others are to be told.
#[derive(Debug)]
pub(crate) enum Outcome {
    Tell(EdgeCall, Told),
    /// The call is to end; the edge may make it again.
    Break(EdgeCall),
    Answer(Answer),
    Changed(Changed),
    /// The instance is to let go of everything: all calls end as unavailable. The last one.
    Lost(StateError),
}

/// The objects of an instance, with their store.
pub(crate) struct Hosted {
    objects: Objects,
    states: States,
    partition: u32,
    held: Option<Held>,
    /// Of the last write before ours: what an instance before this one has written may not be durable yet, and reading gives only what is.
    before: Option<Ticket>,
    opening: Option<BoxFuture<'static, Result<Held, StateError>>>,
    retry_at: Option<Instant>,
    /// Of writes that are not durable yet, in order.
    tickets: VecDeque<Ticket>,
    /// Waits for the first of them.
    first: Option<BoxFuture<'static, Result<(), StateError>>>,
    /// Writes that are durable.
    durable: u64,
    loads: Loads,
    outcomes: VecDeque<Outcome>,
}

impl Hosted {
    /// Without `held`, the store of `partition` is opened when it can be.
    pub(crate) fn new(
        setup: Setup,
        policy: Arc<SharedObjectsSection>,
        states: States,
        partition: u32,
        held: Option<Held>,
        metrics: ObjectMetrics,
    ) -> Self {
        let mut hosted = Self {
            objects: Objects::new(setup, policy, metrics),
            states,
            partition,
            held: None,
            before: None,
            opening: None,
            retry_at: None,
            tickets: VecDeque::new(),
            first: None,
            durable: 0,
            loads: Loads::default(),
            outcomes: VecDeque::new(),
        };
        match held {
            Some(held) => hosted.opened(held),
            None => hosted.retry_at = Some(Instant::now()),
        }
        hosted
    }

    pub(crate) fn set_policy(&mut self, policy: Arc<SharedObjectsSection>) {
        self.objects.set_policy(policy);
    }

    /// An edge has attached.
    pub(crate) fn attach(&mut self, call: EdgeCall, incarnation: u64) {
        self.objects.attach(call, incarnation);
    }

    /// Its call has ended; with `is_gone` it had said that it uses nothing more.
    pub(crate) fn detach(&mut self, call: EdgeCall, is_gone: bool) {
        self.input(|objects, now| objects.detach(now, call, is_gone));
    }

    /// What it says of objects.
    pub(crate) fn said(&mut self, call: EdgeCall, said: Said) {
        self.input(|objects, now| objects.said(now, call, said));
    }

    /// What the handler does with one.
    pub(crate) fn command(&mut self, command: Command) {
        self.input(|objects, now| objects.command(now, command));
    }

    pub(crate) fn handler_gone(&mut self) {
        let is_its =
            |outcome: &Outcome| matches!(outcome, Outcome::Answer(_) | Outcome::Changed(_));
        self.outcomes.retain(|outcome| !is_its(outcome));
        self.input(Objects::handler_gone);
    }

    /// Whether all that was taken is durable and was told.
    pub(crate) fn is_settled(&self) -> bool {
        self.objects.is_settled() && self.outcomes.is_empty()
    }

    /// Number of objects in memory.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    #[must_use]
    pub(crate) fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// Waits until there may be an outcome. Can be dropped and called again.
    pub(crate) async fn work(&mut self) {
        let timeout = self.objects.poll_timeout();
        let held = self.held.clone();
        tokio::select! {
            biased;
            lost = lost(held.as_ref()) => self.lost(lost),
            first = first(&mut self.first) => {
                self.first = None;
                self.landed(first);
            }
            read = self.loads.next() => {
                self.input(|objects, now| {
                    for (number, rows) in read {
                        objects.loaded(now, number, rows);
                    }
                });
            }
            held = first(&mut self.opening) => {
                self.opening = None;
                match held {
                    Ok(held) => self.opened(held),
                    // Whoever has taken the partition hosts its instances; the edges are to find him.
                    Err(error @ (StateError::Fenced | StateError::Closed)) => self.lost(error),
                    Err(error) => {
                        tracing::debug!(partition = self.partition, %error, "the state store is tried again");
                        self.retry_at = Some(Instant::now() + RETRY);
                    }
                }
            }
            () = at(self.retry_at) => {
                self.retry_at = None;
                let (states, partition) = (self.states.clone(), self.partition);
                self.opening = Some(async move { states.hold(partition).await }.boxed());
            }
            () = at(timeout) => self.input(Objects::handle_timeout),
        }
    }

    fn opened(&mut self, held: Held) {
        self.before = Some(held.newest());
        self.objects.store_opened(held.epoch());
        self.held = Some(held);
        self.perform();
    }

    fn input(&mut self, input: impl FnOnce(&mut Objects, Instant)) {
        if let Some(held) = &self.held {
            self.objects.store_has_room(held.room().is_ok());
        }
        input(&mut self.objects, Instant::now());
        self.perform();
    }

    /// Does what is to be done here, and keeps the rest for others.
    fn perform(&mut self) {
        while let Some(output) = self.objects.poll_output() {
            let outcome = match output {
                Output::Write(batch) => {
                    let written = match &self.held {
                        Some(held) => held.write_anyhow(batch),
                        None => Err(StateError::Closed),
                    };
                    match written {
                        Ok(ticket) => self.tickets.push_back(ticket),
                        // What this is of cannot be taken back.
                        Err(error) => self.objects.lost(error),
                    }
                    continue;
                }
                Output::Load { number, prefix } => {
                    self.loads.push(number, prefix);
                    continue;
                }
                Output::Tell(call, told) => Outcome::Tell(call, told),
                Output::Break(call) => Outcome::Break(call),
                Output::Answer(answer) => Outcome::Answer(answer),
                Output::Changed(changed) => Outcome::Changed(changed),
                Output::Lost(error) => {
                    // What was not told is not: it may never become true.
                    self.outcomes.clear();
                    self.tickets.clear();
                    self.first = None;
                    self.held = None;
                    Outcome::Lost(error)
                }
            };
            self.outcomes.push_back(outcome);
        }
        if self.first.is_none()
            && let Some(ticket) = self.tickets.front()
        {
            self.first = Some(ticket.clone().durable().boxed());
        }
        if let Some(held) = &self.held {
            let is_wanted = |number| self.objects.is_wanted(number);
            self.loads.begin(held, self.before.as_ref(), is_wanted);
        }
    }

    /// What became of the first write, and of those behind it that were made durable with it.
    fn landed(&mut self, first: Result<(), StateError>) {
        if let Err(error) = first {
            return self.lost(error);
        }
        while let Some(ticket) = self.tickets.front()
            && ticket.outcome() == Some(Ok(()))
        {
            self.tickets.pop_front();
            self.durable += 1;
        }
        let durable = self.durable;
        self.input(|objects, now| objects.durable(now, durable));
    }

    fn lost(&mut self, error: StateError) {
        self.objects.lost(error);
        self.perform();
    }
}

async fn lost(held: Option<&Held>) -> StateError {
    match held {
        Some(held) => held.lost().await,
        None => std::future::pending().await,
    }
}

async fn first<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn at(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
