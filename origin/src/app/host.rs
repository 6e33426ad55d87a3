//! The task of one instance: it waits for edges, the handler, time and orders, gives them to the [`Instance`], and does what that says.
//!
//! It never waits for an edge or for the handler: what is for an edge goes into its [`Outbox`], what is for the handler goes as the handler
//! takes it. The call to the handler runs in a task of its own.
//!
//! An instance is as long as its store is: when another origin has taken that, all calls end as unavailable, and edges ask the ring.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_proto::v1;
use headwater_proto::v1::attach_request::Request as Said;
use headwater_proto::v1::attach_response::Response as Told;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::catalogue::Policy;
use super::handler::remote::RemoteHandler;
use super::handler::{Action, Event, Handler, HandlerError, ObjectCommand, Reason, Started};
use super::instance::{CallId, Cut, Instance, Output, Setup};
use super::objects::{EdgeCall, Hosted, ObjectMetrics, Outcome};
use super::outbox::{Behind, Outbox};
use crate::state::{Held, StateError, States};

mod objects;

/// Events that wait for the call to the handler.
const EVENTS: usize = 64;

/// Actions of the handler that wait for the instance.
const ACTIONS: usize = 64;

/// Inputs that are taken before anything else is looked at.
const AT_ONCE: usize = 64;

/// How often edges that are behind are looked at.
const BEHIND_INTERVAL: Duration = Duration::from_secs(1);

/// How long the call to a handler may take to end after it was told to.
const HANG_UP_LIMIT: Duration = Duration::from_secs(3);

/// What edges' calls say to an instance.
#[derive(Debug)]
pub(super) enum Input {
    Attach(CallId, v1::AttachOpen, Arc<Outbox>),
    Said(CallId, Said),
    Gone(CallId),
}

/// What an instance is told from above: always the newest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Orders {
    /// None: the application is gone.
    pub(super) policy: Option<Arc<Policy>>,
    /// Where the instance has to go.
    pub(super) moved: Option<v1::Moved>,
    /// The origin is to end: nothing that is idle stays for later.
    pub(super) draining: bool,
}

/// An instance and its surroundings.
pub(super) struct Host {
    setup: Setup,
    instance: Instance,
    objects: Hosted,
    policy: Option<Arc<Policy>>,
    inputs: mpsc::Receiver<Input>,
    orders: watch::Receiver<Orders>,
    outboxes: HashMap<CallId, Arc<Outbox>>,
    room: Arc<Notify>,
    session: Option<Session>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A call to the handler.
struct Session {
    events: mpsc::Sender<Event>,
    actions: mpsc::Receiver<Action>,
    ended: oneshot::Receiver<HandlerError>,
    hang_up: CancellationToken,
    cut: CancellationToken,
}

/// Where an instance keeps what it keeps.
pub(super) struct Keeping {
    pub(super) states: States,
    pub(super) partition: u32,
    /// None: the store is not available now.
    pub(super) held: Option<Held>,
    pub(super) metrics: ObjectMetrics,
}

enum Next {
    Action(Action),
    Gone(HandlerError),
}

impl Host {
    pub(super) fn new(
        setup: Setup,
        keeping: Keeping,
        inputs: mpsc::Receiver<Input>,
        orders: watch::Receiver<Orders>,
        room: Arc<Notify>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let policy = orders.borrow().policy.clone();
        let section = policy.as_ref().map(|policy| policy.section.clone());
        let section = Arc::new(section.unwrap_or_default());
        let of_objects = super::objects::Setup {
            name: setup.name.clone(),
            epoch: setup.epoch,
            grace: setup.grace,
        };
        let objects = Hosted::new(
            of_objects,
            Arc::new(section.shared_objects.clone()),
            keeping.states,
            keeping.partition,
            keeping.held,
            keeping.metrics,
        );
        Self {
            objects,
            instance: Instance::new(Instant::now(), setup.clone(), section),
            setup,
            policy,
            inputs,
            orders,
            outboxes: HashMap::new(),
            room,
            session: None,
            tasks,
            stop,
        }
    }

    /// Runs until the instance has ended.
    pub(super) async fn run(mut self) {
        tracing::debug!(instance = %self.setup.name, epoch = self.setup.epoch, "the instance begins");
        loop {
            let behind = self.look_behind();
            self.instance
                .set_settled(Instant::now(), self.objects.is_settled());
            if self.do_outputs() {
                break;
            }
            if let Some(lost) = self.do_outcomes() {
                tracing::warn!(instance = %self.setup.name, error = %lost, "the instance is let go of with its state");
                break;
            }
            // What objects tell the handler, and whom they cut off.
            if self.instance.has_output() {
                continue;
            }
            let has_event = self.instance.has_event();
            let events = self.session.as_ref().map(|session| session.events.clone());
            let deadline = self.instance.poll_timeout();
            let far = Instant::now() + Duration::from_secs(3_600);
            tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(input) => self.take_inputs(input),
                    // The table has let go of it: the origin stops.
                    None => break,
                },
                next = next(&mut self.session), if !behind => self.take_action(next),
                permit = room(events.as_ref()), if has_event => {
                    if let Some(event) = self.instance.poll_event(Instant::now()) {
                        permit.send(event);
                    }
                }
                changed = self.orders.changed() => match changed {
                    Ok(()) => self.take_orders(),
                    Err(_) => break,
                },
                () = tokio::time::sleep_until(deadline.unwrap_or(far)) => {
                    self.instance.handle_timeout(Instant::now());
                }
                () = self.objects.work() => {}
                () = self.room.notified(), if behind => {}
                () = tokio::time::sleep(BEHIND_INTERVAL), if behind => {}
                () = self.stop.cancelled() => break,
            }
        }
        self.end();
        tracing::debug!(instance = %self.setup.name, "the instance is over");
    }

    fn take_inputs(&mut self, first: Input) {
        let mut next = Some(first);
        for _ in 0..AT_ONCE {
            match next {
                Some(input) => self.take_input(input),
                None => return,
            }
            next = self.inputs.try_recv().ok();
        }
        if let Some(input) = next {
            self.take_input(input);
        }
    }

    fn take_input(&mut self, input: Input) {
        let now = Instant::now();
        match input {
            Input::Attach(call, open, outbox) if self.instance.is_open() => {
                self.outboxes.insert(call, outbox);
                self.objects.attach(EdgeCall(call.0), open.edge_incarnation);
                self.instance.attach(now, call, &open);
            }
            Input::Attach(_, _, outbox) => outbox.end(Err(over())),
            Input::Said(call, said) => {
                if let Err(malformed) = self.instance.said(now, call, said) {
                    let status = Status::invalid_argument(malformed.to_string());
                    self.cut(call, Err(status), false);
                }
            }
            Input::Gone(call) => {
                self.outboxes.remove(&call);
                self.objects.detach(EdgeCall(call.0), false);
                self.instance.detached(now, call);
            }
        }
    }

    /// Ends the call of an edge; its clients stay for a while, and so does what they use, unless the edge has said all.
    fn cut(&mut self, call: CallId, end: Result<(), Status>, said_all: bool) {
        if let Some(outbox) = self.outboxes.remove(&call) {
            outbox.end(end);
        }
        self.objects.detach(EdgeCall(call.0), said_all);
        self.instance.detached(Instant::now(), call);
    }

    fn take_orders(&mut self) {
        let now = Instant::now();
        let orders = self.orders.borrow_and_update().clone();
        if orders.policy != self.policy {
            match &orders.policy {
                Some(policy) => {
                    tracing::info!(instance = %self.setup.name, "the instance follows its changed app.toml");
                    let section = Arc::new(policy.section.clone());
                    let objects = Arc::new(section.shared_objects.clone());
                    self.objects.set_policy(objects);
                    self.instance.set_policy(now, section);
                }
                None => {
                    let code = "NetConnection.Connect.InvalidApp";
                    (self.instance).end(now, code, "The application is gone.");
                }
            }
            self.policy = orders.policy;
        }
        self.instance.set_draining(now, orders.draining);
        match orders.moved {
            Some(moved) => self.instance.depart(now, moved),
            None => self.instance.stay(),
        }
    }

    fn take_action(&mut self, next: Next) {
        let now = Instant::now();
        match next {
            Next::Action(action) => self.instance.acted(now, action),
            Next::Gone(error) => {
                self.session = None;
                self.objects.handler_gone();
                self.instance.handler_gone(now, &error);
            }
        }
    }

    /// Does what the instance wants. True at its end.
    fn do_outputs(&mut self) -> bool {
        while let Some(output) = self.instance.poll_output() {
            match output {
                Output::Tell(call, told) => self.tell(call, told),
                Output::Cut(call, cut) => match cut {
                    Cut::Replaced => {
                        let status = Status::aborted("the edge has attached anew");
                        self.cut(call, Err(status), false);
                    }
                    // In order: nothing is wrong with this node.
                    Cut::Again => self.cut(call, Ok(()), false),
                    Cut::Done => self.cut(call, Ok(()), true),
                },
                Output::EdgeObject(call, said) => self.objects.said(EdgeCall(call.0), said),
                Output::HandlerObject(command) => self.handler_object(command),
                Output::CallHandler => self.call_handler(),
                Output::HangUp(reason) => self.hang_up(reason),
                Output::Ended => return true,
            }
        }
        false
    }

    fn tell(&self, call: CallId, told: Told) {
        if let Some(outbox) = self.outboxes.get(&call) {
            outbox.push(Instant::now(), told);
        }
    }

    /// Whether an edge is behind, so that the handler has to wait.
    fn look_behind(&mut self) -> bool {
        let now = Instant::now();
        let mut full = false;
        let mut hopeless = Vec::new();
        for (call, outbox) in &self.outboxes {
            match outbox.behind(now) {
                Behind::No => {}
                Behind::Full => full = true,
                Behind::Hopeless => hopeless.push(*call),
            }
        }
        for call in hopeless {
            self.setup.metrics.edges_cut.inc();
            tracing::warn!(instance = %self.setup.name, "an edge does not take what it is told, and is cut off");
            let status = Status::resource_exhausted("the edge does not take what it is told");
            self.cut(call, Err(status), false);
        }
        full
    }

    /// Passes on what objects have for others. Some: the store is lost, and the instance with it.
    fn do_outcomes(&mut self) -> Option<StateError> {
        while let Some(outcome) = self.objects.poll_outcome() {
            match outcome {
                Outcome::Tell(call, told) => self.tell(CallId(call.0), told),
                Outcome::Break(call) => {
                    let status = Status::unavailable(
                        "what the edge says of objects makes no sense, or is too much",
                    );
                    self.cut(CallId(call.0), Err(status), false);
                }
                Outcome::Answer(answer) => {
                    let answer = objects::answer(answer);
                    self.instance.object_event(Event::ObjectAnswer(answer));
                }
                Outcome::Changed(changed) => {
                    let author = changed.author;
                    let client = author.and_then(|author| {
                        self.instance.client_id(author.incarnation, author.client)
                    });
                    let changed = objects::changed(&changed, client);
                    self.instance.object_event(Event::ObjectChanged(changed));
                }
                Outcome::Lost(error) => return Some(error),
            }
        }
        None
    }

    fn handler_object(&mut self, said: ObjectCommand) {
        let number = said.command;
        match objects::command(said) {
            Ok(command) => self.objects.command(command),
            Err(error) if number != 0 => {
                let refused = objects::refused(number, &error);
                self.instance.object_event(Event::ObjectAnswer(refused));
            }
            Err(_) => {}
        }
    }

    fn call_handler(&mut self) {
        let section = self.policy.as_ref().map(|policy| &policy.section.handler);
        let Some(handler) = section.and_then(RemoteHandler::new) else {
            return;
        };
        let (events, events_out) = mpsc::channel(EVENTS);
        let (actions_in, actions) = mpsc::channel(ACTIONS);
        let (ended_in, ended) = oneshot::channel();
        let (hang_up, cut) = (CancellationToken::new(), self.stop.child_token());
        let started = Started {
            name: self.setup.name.clone(),
            origin: self.setup.node.clone(),
            epoch: self.instance.epoch(),
        };
        self.session = Some(Session {
            events,
            actions,
            ended,
            hang_up: hang_up.clone(),
            cut: cut.clone(),
        });
        self.tasks.spawn(async move {
            let hung_up = async {
                hang_up.cancelled().await;
                tokio::time::sleep(HANG_UP_LIMIT).await;
            };
            tokio::select! {
                error = handler.attach(started, events_out, actions_in) => {
                    // Err: nobody wants to know any more.
                    let _ = ended_in.send(error);
                }
                () = hung_up => {}
                () = cut.cancelled() => {}
            }
        });
    }

    fn hang_up(&mut self, reason: Option<Reason>) {
        let Some(session) = self.session.take() else {
            return;
        };
        self.objects.handler_gone();
        let Some(reason) = reason else {
            session.cut.cancel();
            return;
        };
        while let Ok(permit) = session.events.try_reserve() {
            match self.instance.poll_event(Instant::now()) {
                Some(event) => permit.send(event),
                None => {
                    permit.send(Event::Stopping(reason));
                    break;
                }
            }
        }
        session.hang_up.cancel();
    }

    fn end(&mut self) {
        if let Some(session) = self.session.take() {
            session.cut.cancel();
        }
        for (_, outbox) in self.outboxes.drain() {
            outbox.end(Err(over()));
        }
        self.inputs.close();
        while let Ok(input) = self.inputs.try_recv() {
            if let Input::Attach(_, _, outbox) = input {
                outbox.end(Err(over()));
            }
        }
    }
}

async fn next(session: &mut Option<Session>) -> Next {
    let Some(session) = session else {
        return std::future::pending().await;
    };
    match session.actions.recv().await {
        Some(action) => Next::Action(action),
        None => Next::Gone((&mut session.ended).await.unwrap_or(HandlerError::Ended)),
    }
}

async fn room(events: Option<&mpsc::Sender<Event>>) -> mpsc::Permit<'_, Event> {
    if let Some(events) = events
        && let Ok(permit) = events.reserve().await
    {
        return permit;
    }
    // The call has ended: that is heard elsewhere.
    std::future::pending().await
}

/// The edge asks the ring, and attaches again.
pub(super) fn over() -> Status {
    Status::unavailable("the instance has ended here: attach again")
}
