//! The handle that every part of a node holds: newest view, channels, own state.
//!
//! Three kinds of tasks feed it: the membership source, one watch per peer, and nothing else. Each reports under one short lock,
//! which makes the next view and publishes it; readers never take the lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use headwater_proto::v1;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;

use crate::channel::{Dialer, Gate, Transport};
use crate::config::{ClusterConfig, MembershipKind, Source, alone, parse_members, refuse_plain};
use crate::error::{ChannelError, ClusterError, ConfigError};
use crate::identity::Identity;
use crate::liveness::{Control, Verdict};
use crate::local::LocalConnector;
use crate::member::{Address, MAX_MEMBERS, Member, NodeId};
use crate::membership::Change;
use crate::ring::Ring;
use crate::view::{Availability, PeerStatus, View};
use crate::{liveness, membership};

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves clients. Watches the members, is none.
    Edge,
    /// Owns streams. Is a member.
    Origin,
}

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its id, unique in the cluster.
    pub id: NodeId,
    /// What it does. A standalone node, which does both, is an origin here.
    pub role: Role,
}

/// Whether this node takes streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalState {
    /// It does.
    Serving,
    /// It hands its streams over and takes no new ones, unless nobody else can.
    Draining,
}

/// The cluster as this node sees it. Clones are cheap and share everything.
///
/// The tasks behind it run until the token given to [`Cluster::start`] is cancelled.
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) local: Local,
    pub(crate) config: ClusterConfig,
    pub(crate) shutdown: CancellationToken,
    identity: Option<Identity>,
    incarnation: u64,
    view: ArcSwap<View>,
    generation: watch::Sender<u64>,
    state: watch::Sender<LocalState>,
    inner: Mutex<Inner>,
    tasks: TaskTracker,
    /// Where connections live: channels are asked for from many runtimes, and must not die with the first that asked.
    runtime: Handle,
}

#[derive(Debug)]
struct Inner {
    members: BTreeMap<NodeId, Arc<Member>>,
    ring: Arc<Ring>,
    peers: BTreeMap<NodeId, Peer>,
    local_connectors: BTreeMap<NodeId, LocalConnector>,
    /// The membership source has given its first list.
    listed: bool,
}

/// What is held for a member, this node included.
#[derive(Debug)]
struct Peer {
    status: PeerStatus,
    /// Its watch has come to a first verdict.
    judged: bool,
    gate: Arc<Gate>,
    control: Arc<Control>,
    /// Made when first asked for, dropped when the peer is lost.
    channels: Vec<Option<Channel>>,
    /// Ends its watch; none for this node.
    watch: Option<CancellationToken>,
}

impl Cluster {
    /// Joins: reads the member list, starts to watch every other member, and returns at once. [`Cluster::ready`] waits until
    /// it is known who can be reached. Must be called on the runtime that connections shall live on.
    ///
    /// # Errors
    /// [`ClusterError`] where the configuration is not valid, or there is no runtime.
    pub fn start(
        config: ClusterConfig,
        local: Local,
        identity: Option<Identity>,
        shutdown: CancellationToken,
    ) -> Result<Self, ClusterError> {
        let runtime = Handle::try_current().map_err(|_| ClusterError::NoRuntime)?;
        let source = config.source(identity.is_some())?;
        let initial = initial_members(&config, &local, &source)?;
        let ring = Arc::new(Ring::new(initial.values().cloned(), config.partitions));
        let view = View::new(Arc::clone(&ring), &BTreeMap::new(), &local.id, 0);
        let shared = Arc::new(Shared {
            local,
            config,
            shutdown,
            identity,
            // Zero means "not yet heard of".
            incarnation: rand::random::<u64>().max(1),
            view: ArcSwap::from_pointee(view),
            generation: watch::Sender::new(0),
            state: watch::Sender::new(LocalState::Serving),
            inner: Mutex::new(Inner {
                members: initial,
                ring,
                peers: BTreeMap::new(),
                local_connectors: BTreeMap::new(),
                listed: matches!(source, Source::Static(_)),
            }),
            tasks: TaskTracker::new(),
            runtime,
        });
        shared.reconcile(&mut shared.inner.lock());
        if let Source::Dns { name, interval } = source {
            shared
                .tasks
                .spawn(membership::dns::run(Arc::clone(&shared), name, interval));
        }
        Ok(Self { shared })
    }

    /// This node's id.
    pub fn id(&self) -> &NodeId {
        &self.shared.local.id
    }

    /// What this node does.
    pub fn role(&self) -> Role {
        self.shared.local.role
    }

    /// Random, other at each start of the process.
    pub fn incarnation(&self) -> u64 {
        self.shared.incarnation
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &ClusterConfig {
        &self.shared.config
    }

    /// The newest view.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// Tells the generation of the newest view, each time there is one. Wait on it, then take [`Cluster::view`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// Waits until there is a list of members, and every member was either reached or found unreachable once. With `static`
    /// this takes no longer than the connect timeout and the silence of the configuration, with `dns` as long as the first
    /// answer of a resolver. Before that a node takes others for unreachable because it has not yet asked: an origin that
    /// serves too early takes streams that are not its own.
    pub async fn ready(&self) {
        let mut changes = self.changes();
        // Not `wait_for`: its closure runs under the lock that publishing takes.
        while !self.shared.inner.lock().is_judged() {
            // This handle holds the sender: it is not gone.
            let _ = changes.changed().await;
        }
    }

    /// A channel to a member. Streams are spread over its connections by `hash`: take [`crate::ring::stream_hash`]. Connects
    /// when it is used; fails at once while the node is known to be down. Do not keep it: ask again for each call.
    ///
    /// # Errors
    /// [`ChannelError`] where the node is no member, or its address is unusable.
    pub fn channel(&self, node: &NodeId, hash: u64) -> Result<Channel, ChannelError> {
        let shared = &self.shared;
        let mut inner = shared.inner.lock();
        let dialer = shared.dialer(&inner, node)?;
        let peer = inner
            .peers
            .get_mut(node)
            .ok_or_else(|| ChannelError::UnknownNode(node.to_string()))?;
        // The low bits give the partition: all streams of one node could share one slot.
        let slot = usize::try_from((hash >> 32) % shared.config.channel.connections.max(1) as u64)
            .unwrap_or(0);
        if peer.channels.len() <= slot {
            peer.channels.resize_with(slot + 1, || None);
        }
        let gate = Arc::clone(&peer.gate);
        let make = || {
            let _on_cluster_runtime = shared.runtime.enter();
            dialer.channel(&shared.config.channel, node.clone(), gate)
        };
        match peer.channels.get_mut(slot) {
            Some(held) => Ok(held.get_or_insert_with(make).clone()),
            None => Ok(make()),
        }
    }

    /// A channel to a node that an answer named and the member list does not hold yet: while a change of the list spreads, a
    /// called node may know more. Not kept, and not watched. Members are called through [`Cluster::channel`].
    ///
    /// # Errors
    /// [`ChannelError`] where the address is unusable, or plain text to it is not allowed.
    pub fn channel_at(&self, node: &NodeId, address: &str) -> Result<Channel, ChannelError> {
        let shared = &self.shared;
        let unusable = || ChannelError::Address {
            node: node.clone(),
            address: address.chars().take(80).collect(),
        };
        let parsed = Address::parse(address).map_err(|_| unusable())?;
        if shared.identity.is_none() && !shared.config.insecure && !parsed.is_loopback() {
            return Err(unusable());
        }
        let dialer = Dialer {
            transport: shared
                .transport(&parsed.to_string(), node.as_str())
                .ok_or_else(unusable)?,
            connect_timeout: shared.config.channel.connect_timeout(),
        };
        let _on_cluster_runtime = shared.runtime.enter();
        Ok(dialer.channel(&shared.config.channel, node.clone(), Arc::default()))
    }

    /// Says that a connection to the node broke: it is asked at once whether it lives, and is unreachable if it does not
    /// answer. A node that is lost already is dialled now instead of after its wait. Many reports cost no more than one.
    pub fn report_failure(&self, node: &NodeId) {
        if let Some(peer) = self.shared.inner.lock().peers.get(node) {
            peer.control.check();
        }
    }

    /// Reaches the node through memory from now on: for a standalone node, its own origin.
    pub fn register_local(&self, node: NodeId, connector: LocalConnector) {
        let mut inner = self.shared.inner.lock();
        inner.local_connectors.insert(node.clone(), connector);
        // Made anew over the new transport.
        inner.peers.remove(&node);
        self.shared.reconcile(&mut inner);
    }

    /// Says whether this node takes streams. Every watching node hears of it at once.
    pub fn set_state(&self, state: LocalState) {
        let mut inner = self.shared.inner.lock();
        if self.shared.state.send_replace(state) != state {
            self.shared.reconcile(&mut inner);
        }
    }

    /// Whether this node takes streams.
    pub fn state(&self) -> LocalState {
        *self.shared.state.borrow()
    }

    /// Takes a new `members` list, as after a reload of the configuration. Only for `membership = "static"`.
    ///
    /// # Errors
    /// [`ConfigError`]; the old list stays in force.
    pub fn set_members(&self, entries: &[String]) -> Result<(), ConfigError> {
        let shared = &self.shared;
        if shared.config.membership != MembershipKind::Static {
            return Err(ConfigError::Missing {
                key: "members",
                reason: "a list can only replace another list, and this cluster has membership = \"dns\"",
            });
        }
        let members = parse_members(entries)?;
        if shared.identity.is_none() && !shared.config.insecure {
            refuse_plain(&members)?;
        }
        let members = initial_members(&shared.config, &shared.local, &Source::Static(members))?;
        let mut inner = shared.inner.lock();
        inner.members = members;
        shared.rebuild(&mut inner);
        Ok(())
    }

    /// Waits until the tasks have ended after the token was cancelled.
    pub async fn stopped(&self) {
        self.shared.shutdown.cancelled().await;
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Tells each change of [`Cluster::state`], also one that an operator asked for with `Node.Drain`.
    pub fn state_changes(&self) -> watch::Receiver<LocalState> {
        self.shared.state.subscribe()
    }

    pub(crate) fn shutdown_token(&self) -> &CancellationToken {
        &self.shared.shutdown
    }

    /// What this node tells others about itself.
    pub(crate) fn status(&self, load: v1::Load) -> v1::NodeStatus {
        let state = match self.state() {
            LocalState::Serving => v1::NodeState::Serving,
            LocalState::Draining => v1::NodeState::Draining,
        };
        v1::NodeStatus {
            node: self.id().to_string(),
            incarnation: self.incarnation(),
            state: state.into(),
            ring_version: self.shared.view.load().ring_version(),
            load: Some(load),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl Shared {
    /// Takes changes of the member list. The first call, also without changes, says that the source has given a list.
    pub(crate) fn apply(self: &Arc<Self>, changes: Vec<Change>) {
        let mut inner = self.inner.lock();
        if changes.is_empty() {
            if !std::mem::replace(&mut inner.listed, true) {
                self.publish(&inner);
            }
            return;
        }
        inner.listed = true;
        for change in changes {
            match change {
                Change::Added(member) | Change::Changed(member) => {
                    if inner.members.len() >= MAX_MEMBERS && !inner.members.contains_key(&member.id)
                    {
                        tracing::warn!(node = %member.id, limit = MAX_MEMBERS, "member left out: the cluster is full");
                        continue;
                    }
                    inner.members.insert(member.id.clone(), Arc::new(member));
                }
                Change::Removed(id) if self.is_self(&id) => {}
                Change::Removed(id) => {
                    inner.members.remove(&id);
                }
            }
        }
        self.rebuild(&mut inner);
    }

    /// Takes what the watch of a peer found.
    pub(crate) fn judge(self: &Arc<Self>, id: &NodeId, control: &Arc<Control>, verdict: Verdict) {
        let mut inner = self.inner.lock();
        // A watch that was replaced may still speak once.
        let Some(peer) = inner
            .peers
            .get_mut(id)
            .filter(|peer| Arc::ptr_eq(&peer.control, control))
        else {
            return;
        };
        peer.gate.set_closed(!verdict.connected);
        if !verdict.connected {
            peer.channels.clear();
        }
        if peer.judged && peer.status == verdict.status {
            return;
        }
        let restarted =
            peer.status.incarnation != 0 && peer.status.incarnation != verdict.status.incarnation;
        tracing::info!(
            node = %id,
            availability = ?verdict.status.availability,
            restarted,
            "peer changed"
        );
        peer.judged = true;
        peer.status = verdict.status;
        self.publish(&inner);
    }

    pub(crate) fn is_reachable(&self, id: &NodeId) -> bool {
        self.view.load().availability(id) != Availability::Unreachable
    }

    pub(crate) fn is_self(&self, id: &NodeId) -> bool {
        self.local.role == Role::Origin && self.local.id == *id
    }

    /// How to reach `address` when the certificate there has to hold `name`.
    pub(crate) fn transport(&self, address: &str, name: &str) -> Option<Transport> {
        let tls = match &self.identity {
            None => None,
            Some(identity) => {
                let name = ServerName::try_from(name.to_owned()).ok()?;
                Some((identity.clone(), name))
            }
        };
        Some(Transport::Tcp {
            address: address.to_owned(),
            tls,
        })
    }

    fn dialer(&self, inner: &Inner, node: &NodeId) -> Result<Dialer, ChannelError> {
        let transport = match inner.local_connectors.get(node) {
            Some(connector) => Transport::Local(connector.clone()),
            None => {
                let member = inner
                    .members
                    .get(node)
                    .ok_or_else(|| ChannelError::UnknownNode(node.to_string()))?;
                let unusable = || ChannelError::Address {
                    node: node.clone(),
                    address: member.address.clone(),
                };
                if member.address.is_empty() {
                    return Err(unusable());
                }
                self.transport(&member.address, node.as_str())
                    .ok_or_else(unusable)?
            }
        };
        Ok(Dialer {
            transport,
            connect_timeout: self.config.channel.connect_timeout(),
        })
    }

    /// Makes the ring anew after a change of the members.
    fn rebuild(self: &Arc<Self>, inner: &mut Inner) {
        let old = Arc::clone(&inner.ring);
        inner.ring = Arc::new(Ring::new(
            inner.members.values().cloned(),
            self.config.partitions,
        ));
        tracing::info!(
            members = inner.members.len(),
            ring_version = inner.ring.version(),
            "member list changed"
        );
        // A peer that is gone or moved is watched anew.
        for member in old.members() {
            if inner
                .members
                .get(&member.id)
                .is_none_or(|now| now.address != member.address)
            {
                inner.peers.remove(&member.id);
            }
        }
        self.reconcile(inner);
    }

    /// Brings the peers in line with the members and this node's state, and publishes.
    fn reconcile(self: &Arc<Self>, inner: &mut Inner) {
        for id in inner.members.keys().cloned().collect::<Vec<_>>() {
            let this = self.is_self(&id);
            if !inner.peers.contains_key(&id) {
                let peer = self.new_peer(inner, &id, this);
                inner.peers.insert(id.clone(), peer);
            }
            if this && let Some(peer) = inner.peers.get_mut(&id) {
                peer.status = PeerStatus {
                    availability: match *self.state.borrow() {
                        LocalState::Serving => Availability::Available,
                        LocalState::Draining => Availability::Draining,
                    },
                    incarnation: self.incarnation,
                    ring_version: inner.ring.version(),
                };
            }
        }
        self.publish(inner);
    }

    fn new_peer(self: &Arc<Self>, inner: &Inner, id: &NodeId, this: bool) -> Peer {
        let control = Arc::new(Control::default());
        let watch = match self.dialer(inner, id) {
            _ if this => None,
            Ok(dialer) => {
                let stop = self.shutdown.child_token();
                let watch = liveness::watch::run(
                    Arc::clone(self),
                    id.clone(),
                    dialer,
                    Arc::clone(&control),
                    stop.clone(),
                );
                self.tasks.spawn_on(watch, &self.runtime);
                Some(stop)
            }
            Err(error) => {
                tracing::warn!(node = %id, %error, "member cannot be watched");
                None
            }
        };
        Peer {
            status: PeerStatus::UNKNOWN,
            judged: watch.is_none(),
            gate: Arc::new(Gate::default()),
            control,
            channels: Vec::new(),
            watch,
        }
    }

    fn publish(&self, inner: &Inner) {
        let statuses = inner
            .peers
            .iter()
            .map(|(id, peer)| (id.clone(), peer.status))
            .collect();
        let generation = self.view.load().generation().saturating_add(1);
        self.view.store(Arc::new(View::new(
            Arc::clone(&inner.ring),
            &statuses,
            &self.local.id,
            generation,
        )));
        self.generation.send_replace(generation);
    }
}

impl Inner {
    fn is_judged(&self) -> bool {
        self.listed && self.peers.values().all(|peer| peer.judged)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.cancel();
        }
    }
}

fn initial_members(
    config: &ClusterConfig,
    local: &Local,
    source: &Source,
) -> Result<BTreeMap<NodeId, Arc<Member>>, ConfigError> {
    let mut members: BTreeMap<_, _> = match source {
        Source::Static(members) => members
            .iter()
            .map(|member| (member.id.clone(), Arc::new(member.clone())))
            .collect(),
        Source::Dns { .. } => BTreeMap::new(),
    };
    let listed = members.contains_key(&local.id);
    match local.role {
        Role::Edge if listed => Err(ConfigError::EdgeIsMember {
            id: local.id.clone(),
        }),
        Role::Edge => Ok(members),
        Role::Origin if listed => Ok(members),
        // Alone, or found by others through DNS.
        Role::Origin if members.is_empty() => {
            members.insert(
                local.id.clone(),
                alone(&local.id, config.advertise.as_deref()),
            );
            Ok(members)
        }
        Role::Origin => Err(ConfigError::NotAMember {
            id: local.id.clone(),
        }),
    }
}
