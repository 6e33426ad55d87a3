//! RTMFP peers and groups of this edge's clients, and how they meet those of other edges.
//!
//! | module | what it holds |
//! |---|---|
//! | `table` | what this edge has, and which origin is to know of it, without IO |
//! | `call` | one `Attach` call for each origin that owns something of it |
//! | `ask` | introductions and relayed commands, to wherever the peer is |
//! | `address` | which addresses are told to whom |
//! | `meters` | what is counted |
//!
//! ```text
//! driver of the initiator                                     driver of the peer
//!    | Lookup                                                     ^ hello, in the peer's session
//!    v                                                            |
//!  introduce --- the table knows the peer ------------------------'
//!       `------- Introduce at the owner of the peer's id --- ForwardHello in the call of the peer's edge
//!    <---------- addresses of the peer: a redirect for the initiator
//! ```
//! Drivers are those of [`rtmfp`](crate::rtmfp); each has a [`Port`] through which it is told what comes for its clients.
//!
//! # Invariants
//! - An origin that owns a peer or a membership is told of it as soon as it can be reached, and of all of them anew when its call begins.
//!   What it is told is the state as it is then: a client that comes and goes a thousand times a second costs a message for each time that
//!   the call can take one.
//! - Nothing here waits: what cannot be passed on at once is dropped and counted. Initiators repeat themselves (RFC 7016 section
//!   3.5.1.1.1), and so do members of groups.
//!
//! Media and posts between peers never pass through here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use headwater_cluster::NodeId;
use headwater_media::name::StreamName;
use headwater_rtmfp::crypto::certificate::Fingerprint;
use headwater_rtmfp::group::GroupId;
use headwater_rtmfp::handshake::Lookup;
use headwater_rtmfp::wire::Address;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::edge::Tasks;
use crate::upstream::Upstream;

mod address;
mod ask;
mod call;
mod meters;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use address::here;
pub(crate) use ask::MAX_COMMAND;
pub(crate) use meters::PeerMeters;
use table::{Holder, Key, Table};

/// Messages that wait for a driver.
const WAITING: usize = 4_096;

/// Calls to origins, introductions and relayed commands together, that are under way.
const CALLS: usize = 1_024;

/// What a driver is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// A client is wanted: it is to be sent a hello for each address.
    Hello {
        session: u32,
        peer: Fingerprint,
        tag: Bytes,
        initiator: Vec<Address>,
    },
    /// A client is to try these members of a group.
    Neighbours {
        session: u32,
        group: GroupId,
        neighbours: Vec<Fingerprint>,
    },
    /// A client is to be sent this command.
    Command { session: u32, command: Bytes },
    /// Whom somebody asked for is there.
    Found {
        lookup: Lookup,
        addresses: Vec<Address>,
    },
}

/// Where a driver is told things. Clones are of the same driver.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    number: u64,
    sender: mpsc::Sender<Told>,
}

/// What the drivers of one edge share. Clones share it.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Shared>);

struct Shared {
    upstream: Arc<Upstream>,
    tasks: Tasks,
    meters: PeerMeters,
    table: Mutex<Table>,
    /// Changed whenever the table has something to say to an origin.
    news: watch::Sender<()>,
    ports: AtomicU64,
    calls: Arc<Semaphore>,
}

impl Peers {
    pub(crate) fn new(upstream: Arc<Upstream>, tasks: Tasks) -> Self {
        Self(Arc::new(Shared {
            meters: upstream.metrics.peers.clone(),
            upstream,
            tasks,
            table: Mutex::default(),
            news: watch::Sender::new(()),
            ports: AtomicU64::new(0),
            calls: Arc::new(Semaphore::new(CALLS)),
        }))
    }

    /// Follows the ring for as long as the process lives. Once, before anything else.
    pub(crate) fn start(&self) {
        let peers = self.clone();
        self.0.tasks.spawn(async move { peers.follow_ring().await });
    }

    /// One for a driver.
    pub(crate) fn port(&self) -> (Port, mpsc::Receiver<Told>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let number = self.0.ports.fetch_add(1, Ordering::Relaxed);
        (Port { number, sender }, receiver)
    }

    /// A client can be introduced to others, at these addresses; again when they change.
    pub(crate) fn register(
        &self,
        port: &Port,
        session: u32,
        peer: Fingerprint,
        addresses: Vec<Address>,
    ) {
        // The view is looked at within: no change of the ring can come between.
        let mut table = self.table();
        let owner = self.owner(&Key::Peer(peer));
        let holder = Holder::new(port, session);
        table.register(holder, peer, addresses, owner);
        drop(table);
        self.changed();
    }

    /// It cannot any more.
    pub(crate) fn gone(&self, port: &Port, session: u32, peer: &Fingerprint) {
        self.table().gone(port, session, peer);
        self.changed();
    }

    /// A client is a member of a group.
    pub(crate) fn join(&self, port: &Port, session: u32, group: GroupId, peer: Fingerprint) {
        let mut table = self.table();
        let owner = self.owner(&Key::Member(group, peer));
        let holder = Holder::new(port, session);
        table.join(holder, group, peer, owner);
        drop(table);
        self.changed();
    }

    /// It is not any more.
    pub(crate) fn leave(&self, port: &Port, session: u32, group: GroupId, peer: Fingerprint) {
        self.table().leave(port, session, group, peer);
        self.changed();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock()
    }

    /// The origin that is to know of it.
    fn owner(&self, key: &Key) -> Option<NodeId> {
        let target = self.0.upstream.target(&key.name()?);
        target.map(|target| target.node)
    }

    /// Tells the calls, and begins those that are missing.
    fn changed(&self) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let new = {
            let mut table = self.table();
            let (peers, memberships) = table.counts();
            // Within: whoever comes later has the later number.
            self.0.meters.registered.set(number(peers));
            self.0.meters.memberships.set(number(memberships));
            table.without_call()
        };
        for node in new {
            let peers = self.clone();
            self.0.tasks.spawn(call::run(peers, node));
        }
        self.0.news.send_replace(());
    }

    async fn follow_ring(&self) {
        let cluster = &self.0.upstream.cluster;
        let mut changes = cluster.changes();
        let mut known = None;
        loop {
            let view = cluster.view();
            let members = view.members().iter();
            let members = members.map(|member| (member.id.clone(), view.availability(&member.id)));
            let ring: (u64, Vec<_>) = (view.ring_version(), members.collect());
            if known.as_ref() != Some(&ring) {
                known = Some(ring);
                let keys = self.table().keys();
                // In portions: clients are served meanwhile.
                for keys in keys.chunks(256) {
                    let owners: Vec<_> = keys.iter().map(|key| self.owner(key)).collect();
                    let mut table = self.table();
                    for (key, owner) in keys.iter().zip(owners) {
                        table.place(key, owner);
                    }
                }
                self.changed();
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells a driver. What it does not take is lost.
    fn tell(&self, port: &Port, told: Told) -> bool {
        let is_taken = port.sender.try_send(told).is_ok();
        if !is_taken {
            self.0.meters.lost.inc();
        }
        is_taken
    }
}

/// What the ring takes a peer or a group for.
fn name(kind: &str, id: impl std::fmt::Display) -> Option<StreamName> {
    StreamName::new("rtmfp", kind, "_definst_", &id.to_string()).ok()
}
