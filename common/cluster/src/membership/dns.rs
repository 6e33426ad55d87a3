//! Members behind one DNS name, such as a headless service: one address per origin.
//!
//! Addresses are not names: a pod that restarts has a new one, and a ring over addresses would move its streams. So a node is
//! asked for its id (`Node.Status`) when its address is first seen, and becomes a member when it answers; from then on it stays
//! one as long as its address is listed, reachable or not. An address that answers with an id already known replaces the old
//! address. The address of a member that cannot be reached is asked again: another node may have come to live there. With TLS the certificate of each origin has to hold the looked-up name (for the question) and the node id (for
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
    fn is_reachable(&self, node: &NodeId) -> bool;
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
            let changes = source.look_up(&lookup).await;
            if source.answered {
                shared.apply(changes);
            }
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

    fn is_reachable(&self, node: &NodeId) -> bool {
        self.shared.is_reachable(node)
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
    /// The resolver has answered once.
    answered: bool,
}

impl Source {
    fn new(this: NodeId) -> Self {
        Self {
            this,
            known: BTreeMap::new(),
            waiting: BTreeSet::new(),
            members: BTreeMap::new(),
            answered: false,
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
        self.answered = true;
        self.known.retain(|address, _| listed.contains(address));
        // Those of lost members too: who is there now?
        self.waiting = listed
            .into_iter()
            .filter(|address| match self.known.get(address) {
                None => true,
                Some(id) => *id != self.this && !lookup.is_reachable(id),
            })
            .collect();
        let mut changes = self.ask(lookup).await;
        // Removed after new answers are in: a node that moved is a change of its address and no more.
        let gone: Vec<NodeId> = self
            .members
            .iter()
            .filter(|(id, address)| self.known.get(address) != Some(id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            // A node may be listed twice, once per protocol version or while it moves.
            let other = self
                .known
                .iter()
                .find(|(_, known)| **known == id)
                .map(|(address, _)| *address);
            match other {
                Some(address) => {
                    self.members.insert(id.clone(), address);
                    changes.push(Change::Changed(member(id, address)));
                }
                None => {
                    self.members.remove(&id);
                    changes.push(Change::Removed(id));
                }
            }
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
            let member = member(id.clone(), address);
            match self.members.insert(id, address) {
                None => changes.push(Change::Added(member)),
                Some(old) if old != address => changes.push(Change::Changed(member)),
                Some(_) => {}
            }
        }
        changes
    }
}

fn member(id: NodeId, address: SocketAddr) -> Member {
    Member {
        id,
        address: address.to_string(),
        weight: 1,
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// What the network says, as a test wants it.
    #[derive(Default)]
    struct Fake {
        /// None: the resolver fails.
        listed: Mutex<Option<Vec<SocketAddr>>>,
        nodes: Mutex<BTreeMap<SocketAddr, NodeId>>,
        unreachable: Mutex<BTreeSet<NodeId>>,
        questions: Mutex<usize>,
    }

    impl Lookup for Fake {
        async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
            self.listed
                .lock()
                .clone()
                .ok_or_else(|| io::Error::other("no resolver"))
        }

        async fn identify(&self, address: SocketAddr) -> Result<NodeId, String> {
            *self.questions.lock() += 1;
            self.nodes
                .lock()
                .get(&address)
                .cloned()
                .ok_or_else(|| "refused".to_owned())
        }

        fn is_reachable(&self, node: &NodeId) -> bool {
            !self.unreachable.lock().contains(node)
        }
    }

    impl Fake {
        fn list(&self, hosts: &[u8]) {
            *self.listed.lock() = Some(hosts.iter().map(|host| address(*host)).collect());
        }

        fn put(&self, host: u8, node: &str) {
            self.nodes.lock().insert(address(host), id(node));
        }
    }

    fn address(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 7400))
    }

    fn id(id: &str) -> NodeId {
        NodeId::new(id).expect("id")
    }

    fn member(node: &str, host: u8) -> Member {
        super::member(id(node), address(host))
    }

    fn added(node: &str, host: u8) -> Change {
        Change::Added(member(node, host))
    }

    fn source() -> Source {
        Source::new(id("me"))
    }

    #[tokio::test]
    async fn members_come_and_go_with_the_answers() {
        let (fake, mut source) = (Fake::default(), source());
        fake.put(1, "a");
        fake.put(2, "b");
        fake.list(&[1, 2]);
        assert_eq!(source.look_up(&fake).await, [added("a", 1), added("b", 2)]);
        assert_eq!(source.look_up(&fake).await, []);
        assert_eq!(
            *fake.questions.lock(),
            2,
            "known addresses are not asked again"
        );
        fake.list(&[2]);
        assert_eq!(source.look_up(&fake).await, [Change::Removed(id("a"))]);
        fake.list(&[1, 2]);
        assert_eq!(source.look_up(&fake).await, [added("a", 1)]);
    }

    #[tokio::test]
    async fn a_failing_resolver_changes_nothing() {
        let (fake, mut source) = (Fake::default(), source());
        assert_eq!(source.look_up(&fake).await, []);
        assert!(!source.answered);
        fake.put(1, "a");
        fake.list(&[1]);
        assert_eq!(source.look_up(&fake).await, [added("a", 1)]);
        *fake.listed.lock() = None;
        assert_eq!(source.look_up(&fake).await, []);
        fake.list(&[]);
        assert_eq!(
            source.look_up(&fake).await,
            [],
            "an empty answer is no answer"
        );
        assert!(source.members.contains_key(&id("a")));
    }

    #[tokio::test]
    async fn an_address_is_no_member_until_it_says_who_it_is() {
        let (fake, mut source) = (Fake::default(), source());
        fake.list(&[1]);
        assert_eq!(source.look_up(&fake).await, []);
        assert_eq!(source.ask(&fake).await, []);
        fake.put(1, "a");
        assert_eq!(source.ask(&fake).await, [added("a", 1)]);
    }

    #[tokio::test]
    async fn this_node_is_not_its_own_member() {
        let (fake, mut source) = (Fake::default(), source());
        fake.put(1, "me");
        fake.list(&[1]);
        assert_eq!(source.look_up(&fake).await, []);
        assert!(source.waiting.is_empty());
    }

    #[tokio::test]
    async fn a_node_that_moved_is_a_change() {
        let (fake, mut source) = (Fake::default(), source());
        fake.put(1, "a");
        fake.list(&[1]);
        source.look_up(&fake).await;
        fake.put(2, "a");
        fake.list(&[2]);
        assert_eq!(
            source.look_up(&fake).await,
            [Change::Changed(member("a", 2))]
        );
    }

    #[tokio::test]
    async fn a_node_that_is_listed_twice_stays_while_one_address_does() {
        let (fake, mut source) = (Fake::default(), source());
        fake.put(1, "a");
        fake.put(2, "a");
        fake.list(&[1, 2]);
        assert_eq!(
            source.look_up(&fake).await,
            [added("a", 1), Change::Changed(member("a", 2))]
        );
        fake.list(&[1]);
        assert_eq!(
            source.look_up(&fake).await,
            [Change::Changed(member("a", 1))]
        );
        fake.put(3, "b");
        fake.list(&[3]);
        assert_eq!(
            source.look_up(&fake).await,
            [added("b", 3), Change::Removed(id("a"))]
        );
    }

    #[tokio::test]
    async fn another_node_at_the_address_of_a_lost_one_is_found() {
        let (fake, mut source) = (Fake::default(), source());
        fake.put(1, "a");
        fake.list(&[1]);
        source.look_up(&fake).await;
        fake.put(1, "b");
        assert_eq!(source.look_up(&fake).await, [], "reachable: nobody asks");
        fake.unreachable.lock().insert(id("a"));
        assert_eq!(
            source.look_up(&fake).await,
            [added("b", 1), Change::Removed(id("a"))]
        );
    }
}
