//! The instances that this origin hosts.
//!
//! One comes to life when the first edge attaches, follows its application's `app.toml`, goes to another origin when the ring says so, and
//! is forgotten when it has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use headwater_cluster::{Availability, Cluster, NodeId, Placement, View};
use headwater_media::name::InstanceName;
use headwater_proto::v1;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::catalogue::{Catalogue, Key, Known, Policy};
use super::host::{Host, Input, Keeping, Orders, over};
use super::instance::{CallId, Setup};
use super::metrics::ApplicationMetrics;
use super::objects::ObjectMetrics;
use super::outbox::Outbox;
use super::section::ApplicationsSection;
use crate::log::table::unix_millis;
use crate::rpc::other_owner;
use crate::state::{Held, Other, StateError, States};

/// What edges have said that an instance has not taken yet.
const INPUTS: usize = 256;

/// How long an instance waits for its state store before it is hosted without it: less than edges wait to be attached, with what they wait
/// for the handler.
const HOLD_WAIT: Duration = Duration::from_millis(1_500);

/// The instances. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Hosting {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cluster: Cluster,
    catalogue: Catalogue,
    section: ApplicationsSection,
    states: States,
    metrics: ApplicationMetrics,
    object_metrics: ObjectMetrics,
    instances: Mutex<HashMap<InstanceName, Arc<Handle>>>,
    count: watch::Sender<usize>,
    epochs: AtomicU64,
    calls: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A running instance.
#[derive(Debug)]
struct Handle {
    inputs: mpsc::Sender<Input>,
    orders: watch::Sender<Orders>,
    room: Arc<Notify>,
}

/// Why an edge is not attached.
#[derive(Debug)]
pub(crate) enum NotAttached {
    Failed(Status),
    /// Another origin has taken the instance.
    Moved(v1::Moved),
}

impl From<Status> for NotAttached {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// Who has taken a partition.
enum Taken {
    By(v1::Moved),
    /// Nobody whom an edge could be sent to.
    From(Other),
    Unknown,
}

/// The call of an edge that is attached. When it is dropped, the edge is away.
#[derive(Debug)]
pub(crate) struct Attached {
    call: CallId,
    inputs: mpsc::Sender<Input>,
    pub(super) outbox: Arc<Outbox>,
    tasks: TaskTracker,
    gone: bool,
}

impl Hosting {
    pub(crate) fn new(
        cluster: Cluster,
        catalogue: Catalogue,
        section: ApplicationsSection,
        states: States,
        (metrics, object_metrics): (ApplicationMetrics, ObjectMetrics),
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let hosting = Self {
            shared: Arc::new(Shared {
                cluster,
                catalogue,
                section,
                states,
                metrics,
                object_metrics,
                instances: Mutex::default(),
                count: watch::Sender::new(0),
                epochs: AtomicU64::new(0),
                calls: AtomicU64::new(0),
                tasks: tasks.clone(),
                stop: stop.clone(),
            }),
        };
        let changes = hosting.shared.catalogue.changes();
        tasks.spawn(hosting.clone().follow(changes, stop));
        hosting
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.shared.catalogue
    }

    pub(crate) fn metrics(&self) -> &ApplicationMetrics {
        &self.shared.metrics
    }

    /// How many instances there are.
    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.shared.count.subscribe()
    }

    /// Attaches an edge; the instance comes to life if it is not there.
    ///
    /// # Errors
    /// What the call ends with.
    pub(crate) async fn attach(
        &self,
        name: &InstanceName,
        open: v1::AttachOpen,
    ) -> Result<Attached, NotAttached> {
        let handle = self.instance(name).await?;
        let call = CallId(self.shared.calls.fetch_add(1, Ordering::Relaxed) + 1);
        let outbox = Arc::new(Outbox::new(Arc::clone(&handle.room)));
        let input = Input::Attach(call, open, Arc::clone(&outbox));
        let inputs = handle.inputs.clone();
        inputs.send(input).await.map_err(|_| over())?;
        Ok(Attached {
            call,
            inputs,
            outbox,
            tasks: self.shared.tasks.clone(),
            gone: false,
        })
    }

    async fn instance(&self, name: &InstanceName) -> Result<Arc<Handle>, NotAttached> {
        if let Some(handle) = self.shared.instances.lock().get(name) {
            return Ok(Arc::clone(handle));
        }
        let policy = match self.policy(name).await? {
            Some(policy) => policy,
            // The edge knows it from its own configuration.
            None => Policy::new(Default::default(), false),
        };
        let partition = self.shared.cluster.view().partition(&name.key());
        // In a task of its own: it is opened also when the edge that asked for it asks again meanwhile, and the next one finds it open.
        let hosting = self.clone();
        let is_taken = Arc::new(AtomicBool::new(false));
        let said = Arc::clone(&is_taken);
        let held = self
            .shared
            .tasks
            .spawn(async move { hosting.hold(partition, &said).await });
        let held = match tokio::time::timeout(HOLD_WAIT, held).await {
            Ok(held) => held.map_err(|_| Status::unavailable("the origin is stopping"))??,
            Err(_) if is_taken.load(Ordering::Relaxed) => {
                return Err(Status::unavailable("another origin has taken the instance").into());
            }
            // The instance takes it when it is open.
            Err(_) => None,
        };
        let keeping = Keeping {
            states: self.shared.states.clone(),
            partition,
            held,
            metrics: self.shared.object_metrics.clone(),
        };
        let handle = self.enter(name, policy, keeping)?;
        // It may have changed since it was read, when nobody was there yet to be told.
        self.refresh(name, &handle).await;
        Ok(handle)
    }

    /// Starts an instance, unless somebody else has meanwhile.
    fn enter(
        &self,
        name: &InstanceName,
        policy: Arc<Policy>,
        keeping: Keeping,
    ) -> Result<Arc<Handle>, Status> {
        let mut instances = self.shared.instances.lock();
        if let Some(handle) = instances.get(name) {
            return Ok(Arc::clone(handle));
        }
        if instances.len() >= self.shared.section.max_instances {
            self.shared.metrics.refused.inc();
            let most = self.shared.section.max_instances;
            return Err(Status::resource_exhausted(format!(
                "there are {most} instances here already"
            )));
        }
        let handle = self.start(name, policy, keeping);
        instances.insert(name.clone(), Arc::clone(&handle));
        self.counted(&instances);
        Ok(handle)
    }

    /// Takes the state store of a partition: who writes it hosts its instances. None while it is not available: an instance is hosted without
    /// it then, and persistent objects wait.
    async fn hold(
        &self,
        partition: u32,
        is_taken: &AtomicBool,
    ) -> Result<Option<Held>, NotAttached> {
        let mut held = self.shared.states.hold(partition).await;
        if matches!(held, Err(StateError::Fenced)) {
            is_taken.store(true, Ordering::Relaxed);
            held = match self.taken_by(partition).await {
                Taken::By(moved) => return Err(NotAttached::Moved(moved)),
                Taken::From(other) => self.shared.states.hold_from(partition, other).await,
                Taken::Unknown => Err(StateError::Fenced),
            };
        }
        match held {
            Ok(held) => Ok(Some(held)),
            Err(error) => not_held(partition, &error),
        }
    }

    /// Who has taken a partition from us.
    async fn taken_by(&self, partition: u32) -> Taken {
        let Ok(Some(owner)) = self.shared.states.owner_of(partition).await else {
            return Taken::Unknown;
        };
        let view = self.shared.cluster.view();
        match NodeId::new(&owner.node) {
            _ if owner.left => Taken::From(Other::Left),
            // It has not said yet who it is.
            Ok(id) if id == *self.shared.cluster.id() => Taken::Unknown,
            // One that drains would send everybody back.
            Ok(id) if view.availability(&id) == Availability::Available => Taken::By(v1::Moved {
                owner: owner.node,
                address: owner.address,
                ring_version: view.ring_version(),
            }),
            _ => Taken::From(Other::Unreachable),
        }
    }

    /// None for an application that is unknown here.
    async fn policy(&self, name: &InstanceName) -> Result<Option<Arc<Policy>>, Status> {
        let known = self.shared.catalogue.describe(&name.vhost, &name.app).await;
        match known {
            Ok(Known::Policy(policy)) => Ok(Some(policy)),
            Ok(Known::Unknown) => Ok(None),
            Ok(Known::Broken(reason)) => Err(Status::failed_precondition(reason)),
            Err(unavailable) => Err(Status::unavailable(unavailable.to_string())),
        }
    }

    fn start(&self, name: &InstanceName, policy: Arc<Policy>, keeping: Keeping) -> Arc<Handle> {
        let shared = &self.shared;
        let (inputs, inputs_out) = mpsc::channel(INPUTS);
        let (orders, orders_out) = watch::channel(Orders {
            policy: Some(policy),
            ..Orders::default()
        });
        let room = Arc::new(Notify::new());
        let setup = Setup {
            name: name.clone(),
            node: shared.cluster.id().to_string(),
            epoch: self.next_epoch(keeping.held.as_ref().map_or(0, Held::epoch)),
            grace: shared.section.edge_grace(),
            handover: shared.section.handover(),
            metrics: shared.metrics.clone(),
        };
        let host = Host::new(
            setup,
            keeping,
            inputs_out,
            orders_out,
            Arc::clone(&room),
            shared.tasks.clone(),
            shared.stop.clone(),
        );
        let (hosting, name) = (self.clone(), name.clone());
        shared.tasks.spawn(async move {
            host.run().await;
            let mut instances = hosting.shared.instances.lock();
            instances.remove(&name);
            hosting.counted(&instances);
        });
        Arc::new(Handle {
            inputs,
            orders,
            room,
        })
    }

    fn counted(&self, instances: &HashMap<InstanceName, Arc<Handle>>) {
        let count = instances.len();
        self.shared.count.send_replace(count);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.shared.metrics.instances.set(count);
    }

    /// Greater than any before it: here, and as far as the store or clocks tell on other nodes.
    fn next_epoch(&self, least: u64) -> u64 {
        let now = unix_millis().max(least);
        let next = |last: u64| now.max(last + 1);
        let epochs = &self.shared.epochs;
        let last = epochs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| Some(next(it)));
        // It always succeeds.
        next(last.unwrap_or_else(|last| last))
    }

    /// Keeps the instances in line with the ring, and with what is to become of the origin.
    pub(crate) fn place(&self, view: &View, may_depart: bool, draining: bool) {
        if may_depart {
            let is_ours = |partition| matches!(view.placement_of(partition, &[]), Placement::Own);
            self.shared.states.place(is_ours);
        }
        let instances = self.shared.instances.lock();
        for (name, handle) in instances.iter() {
            // Where it is not in the store, it would be forgotten, and not noticed when it comes.
            self.shared.catalogue.keep(&name.vhost, &name.app);
            let target = other_owner(view, &name.key());
            if target.is_some() && !may_depart {
                continue;
            }
            // Alone, it goes nowhere.
            let draining = draining && target.is_none();
            let moved = target.map(|target| v1::Moved {
                owner: target.node,
                address: target.address,
                ring_version: view.ring_version(),
            });
            handle.orders.send_if_modified(|orders| {
                let changed = orders.moved != moved || orders.draining != draining;
                orders.moved = moved;
                orders.draining = draining;
                changed
            });
        }
    }

    /// Tells instances what their applications allow now.
    async fn follow(self, mut changes: broadcast::Receiver<Key>, stop: CancellationToken) {
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = stop.cancelled() => return,
            };
            let changed = match change {
                Ok(key) => Some(key),
                Err(broadcast::error::RecvError::Lagged(_)) => None,
                Err(broadcast::error::RecvError::Closed) => return,
            };
            let running: Vec<(InstanceName, Arc<Handle>)> = {
                let instances = self.shared.instances.lock();
                let of = |name: &InstanceName| {
                    let is = |key: &Key| key.0 == name.vhost && key.1 == name.app;
                    changed.as_ref().is_none_or(is)
                };
                (instances.iter())
                    .filter(|(name, _)| of(name))
                    .map(|(name, handle)| (name.clone(), Arc::clone(handle)))
                    .collect()
            };
            for (name, handle) in running {
                self.refresh(&name, &handle).await;
            }
        }
    }

    /// Tells an instance what its application allows now.
    async fn refresh(&self, name: &InstanceName, handle: &Handle) {
        // Broken or unavailable: what is good stays.
        let Ok(policy) = self.policy(name).await else {
            return;
        };
        handle.orders.send_if_modified(|orders| {
            let was_stored = orders.policy.as_ref().is_some_and(|it| it.stored);
            // One that only its edges know is still not there.
            let changed = orders.policy != policy && (policy.is_some() || was_stored);
            if changed {
                orders.policy = policy;
            }
            changed
        });
    }
}

impl Attached {
    /// Passes on what the edge says. False when the instance is over.
    pub(crate) async fn say(&self, said: v1::attach_request::Request) -> bool {
        self.inputs.send(Input::Said(self.call, said)).await.is_ok()
    }

    /// The call has ended, after everything that was said.
    pub(crate) async fn leave(mut self) {
        // Err: the instance is over.
        let _ = self.inputs.send(Input::Gone(self.call)).await;
        // Not before: this may be dropped while it waits for room.
        self.gone = true;
    }
}

/// What follows from a state store that is not to be had. None: what it is for does without.
fn not_held(partition: u32, error: &StateError) -> Result<Option<Held>, NotAttached> {
    match error {
        StateError::Fenced => {
            Err(Status::unavailable("another origin has taken the instance: retry").into())
        }
        StateError::Closed => Err(Status::unavailable("the origin is stopping").into()),
        error => {
            tracing::warn!(partition, %error, "instances are hosted without their state store");
            Ok(None)
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        let gone = Input::Gone(self.call);
        if let Err(mpsc::error::TrySendError::Full(gone)) = self.inputs.try_send(gone) {
            // It takes what it has first; then it ends, or takes this.
            let inputs = self.inputs.clone();
            self.tasks.spawn(async move {
                let _ = inputs.send(gone).await;
            });
        }
    }
}
