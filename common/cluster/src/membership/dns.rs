//! Members behind one DNS name, such as a headless service: one address per origin.
//!
//! Addresses are not names: a pod that restarts has a new one, and a ring over addresses would move its streams. So a node is
//! asked for its id (`Node.Status`) when its address is first seen, and becomes a member when it answers; from then on it stays
//! one as long as its address is listed, reachable or not. An address that answers with an id already known replaces the old
//! address. With TLS the certificate of each origin has to hold the looked-up name (for the question) and the node id (for
//! everything after it).
//!
//! A resolver that fails, or has no answer at all, changes nothing: the last good answer is kept. All members weigh 1.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::Change;
use crate::channel::Dialer;
use crate::cluster::Shared;
use crate::liveness::watch::ask;
use crate::member::{Address, MAX_MEMBERS, Member, NodeId};

/// How long the question for an id may take.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// How often addresses that have not answered yet are asked again between two look-ups. A cluster that starts up forms
/// within this.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Finds addresses and ids. A seam for tests.
pub(crate) trait Lookup: Send + Sync {
    fn resolve(&self) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
    fn identify(&self, address: SocketAddr) -> impl Future<Output = Result<NodeId, String>> + Send;
}

/// Looks up and asks until the cluster stops.
pub(crate) async fn run(shared: Arc<Shared>, name: Address, interval: Duration) {
    let lookup = Network {
        shared: Arc::clone(&shared),
        name,
    };
    let mut source = Source::new(shared.local.id.clone());
    let watching = async {
        loop {
            let next_lookup = tokio::time::Instant::now() + interval;
            shared.apply(source.look_up(&lookup).await);
            loop {
                let wait = tokio::time::Instant::now() + ASK_AGAIN;
                if source.waiting.is_empty() || wait >= next_lookup {
                    break;
                }
                tokio::time::sleep_until(wait).await;
                shared.apply(source.ask(&lookup).await);
            }
            tokio::time::sleep_until(next_lookup).await;
        }
    };
    let stop = shared.shutdown.clone();
    // The loop has no end of its own.
    let _: Option<()> = stop.run_until_cancelled(watching).await;
}

struct Network {
    shared: Arc<Shared>,
    name: Address,
}

impl Lookup for Network {
    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((self.name.host.as_str(), self.name.port)).await?;
        Ok(found.collect())
    }

    async fn identify(&self, address: SocketAddr) -> Result<NodeId, String> {
        let transport = self
            .shared
            .transport(&address.to_string(), &self.name.host)
            .ok_or_else(|| format!("{} cannot stand in a certificate", self.name.host))?;
        let dialer = Dialer {
            transport,
            connect_timeout: self.shared.config.channel.connect_timeout(),
        };
        let status = ask(dialer, &self.shared.config.channel, ASK_LIMIT).await?;
        NodeId::new(&status.node).map_err(|error| error.to_string())
    }
}

/// What is known of the addresses behind the name. Pure but for the [`Lookup`].
struct Source {
    this: NodeId,
    /// Addresses whose node is known.
    known: BTreeMap<SocketAddr, NodeId>,
    /// Addresses that have not answered yet.
    waiting: BTreeSet<SocketAddr>,
    /// The address that counts for each member.
    members: BTreeMap<NodeId, SocketAddr>,
}

impl Source {
    fn new(this: NodeId) -> Self {
        Self {
            this,
            known: BTreeMap::new(),
            waiting: BTreeSet::new(),
            members: BTreeMap::new(),
        }
    }

    /// Resolves the name, asks new addresses, and tells what changed.
    async fn look_up(&mut self, lookup: &impl Lookup) -> Vec<Change> {
        let listed: BTreeSet<SocketAddr> = match lookup.resolve().await {
            Ok(found) if !found.is_empty() => found.into_iter().take(MAX_MEMBERS).collect(),
            Ok(_) => {
                tracing::warn!("cluster.dns_name has no addresses, the last ones are kept");
                return self.ask(lookup).await;
            }
            Err(error) => {
                tracing::warn!(%error, "cluster.dns_name cannot be resolved, the last addresses are kept");
                return self.ask(lookup).await;
            }
        };
        self.known.retain(|address, _| listed.contains(address));
        self.waiting = listed
            .into_iter()
            .filter(|address| !self.known.contains_key(address))
            .collect();
        let mut changes = self.ask(lookup).await;
        // Removed after new answers are in: a node that moved is a change of its address and no more.
        let gone: Vec<NodeId> = self
            .members
            .iter()
            .filter(|(_, address)| !self.known.contains_key(address))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.members.remove(&id);
            changes.push(Change::Removed(id));
        }
        changes
    }

    /// Asks the addresses that have not answered yet.
    async fn ask(&mut self, lookup: &impl Lookup) -> Vec<Change> {
        let questions = self
            .waiting
            .iter()
            .map(|address| async move { (*address, lookup.identify(*address).await) });
        let mut changes = Vec::new();
        for (address, answer) in join_all(questions).await {
            let id = match answer {
                Ok(id) => id,
                Err(error) => {
                    tracing::debug!(%address, %error, "a listed address does not say who it is");
                    continue;
                }
            };
            self.waiting.remove(&address);
            self.known.insert(address, id.clone());
            if id == self.this {
                continue;
            }
            let member = Member {
                id: id.clone(),
                address: address.to_string(),
                weight: 1,
            };
            match self.members.insert(id, address) {
                None => changes.push(Change::Added(member)),
                Some(old) if old != address => changes.push(Change::Changed(member)),
                Some(_) => {}
            }
        }
        changes
    }
}
