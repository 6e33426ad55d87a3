//! What this edge has of peers and memberships, and what origins have been told of it.
//!
//! # Invariants
//! - Of two sessions with the same peer id the later one has it; the earlier one cannot take it away again.
//! - For each origin with an open call, what waits to be said is a set of keys: what is said of a key is what is true when it is said.
//! - Entries are as many as the clients say, whose number and memberships are bounded where they come from.

use std::collections::{BTreeSet, HashMap};

use headwater_cluster::NodeId;
use headwater_media::name::StreamName;
use headwater_proto::v1;
use headwater_proto::v1::peers_request::Request as Say;
use headwater_rtmfp::crypto::certificate::Fingerprint;
use headwater_rtmfp::group::GroupId;
use headwater_rtmfp::wire::Address;

use super::{Port, address, name};

/// What an origin is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    Peer(Fingerprint),
    Member(GroupId, Fingerprint),
}

impl Key {
    /// What the ring takes it for: members are where their group is.
    pub(super) fn name(&self) -> Option<StreamName> {
        match self {
            Self::Peer(peer) => name("peer", peer),
            Self::Member(group, _) => name("group", group),
        }
    }
}

/// Whose client it is.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) port: Port,
    pub(super) session: u32,
}

impl Holder {
    pub(super) fn new(port: &Port, session: u32) -> Self {
        Self {
            port: port.clone(),
            session,
        }
    }

    fn is(&self, port: &Port, session: u32) -> bool {
        self.port.number == port.number && self.session == session
    }
}

#[derive(Debug)]
struct Entry {
    holder: Holder,
    /// Of a peer.
    addresses: Vec<Address>,
    owner: Option<NodeId>,
}

#[derive(Debug, Default)]
struct Owner {
    /// What it owns.
    entries: usize,
    /// There is a task that has a call, or tries to have one.
    has_call: bool,
    /// The call is open: from now on it is to be told everything.
    is_open: bool,
    pending: BTreeSet<Key>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<Key, Entry>,
    owners: HashMap<NodeId, Owner>,
    peers: usize,
}

impl Table {
    pub(super) fn register(
        &mut self,
        holder: Holder,
        peer: Fingerprint,
        addresses: Vec<Address>,
        owner: Option<NodeId>,
    ) {
        self.insert(Key::Peer(peer), holder, addresses, owner);
    }

    pub(super) fn join(
        &mut self,
        holder: Holder,
        group: GroupId,
        peer: Fingerprint,
        owner: Option<NodeId>,
    ) {
        self.insert(Key::Member(group, peer), holder, Vec::new(), owner);
    }

    pub(super) fn gone(&mut self, port: &Port, session: u32, peer: &Fingerprint) {
        self.remove(port, session, Key::Peer(*peer));
    }

    pub(super) fn leave(&mut self, port: &Port, session: u32, group: GroupId, peer: Fingerprint) {
        self.remove(port, session, Key::Member(group, peer));
    }

    fn insert(&mut self, key: Key, holder: Holder, addresses: Vec<Address>, owner: Option<NodeId>) {
        let new = Entry {
            holder,
            addresses,
            // Placed below.
            owner: None,
        };
        let before = self.entries.insert(key, new);
        if before.is_none() && matches!(key, Key::Peer(_)) {
            self.peers += 1;
        }
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.owner = before.and_then(|before| before.owner);
        }
        self.place(&key, owner.clone());
        // Also if it was there already: it may have been said of another session.
        if let Some(owner) = owner {
            self.mark(key, &owner);
        }
    }

    fn remove(&mut self, port: &Port, session: u32, key: Key) {
        let entry = self.entries.get(&key);
        if !entry.is_some_and(|entry| entry.holder.is(port, session)) {
            return;
        }
        self.place(&key, None);
        self.entries.remove(&key);
        if matches!(key, Key::Peer(_)) {
            self.peers -= 1;
        }
    }

    /// The ring says that another origin owns an entry, or none.
    pub(super) fn place(&mut self, key: &Key, owner: Option<NodeId>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.owner == owner {
            return;
        }
        let before = std::mem::replace(&mut entry.owner, owner.clone());
        if let Some(before) = before {
            if let Some(before) = self.owners.get_mut(&before) {
                before.entries = before.entries.saturating_sub(1);
            }
            self.mark(*key, &before);
        }
        if let Some(owner) = owner {
            self.owners.entry(owner.clone()).or_default().entries += 1;
            self.mark(*key, &owner);
        }
    }

    fn mark(&mut self, key: Key, owner: &NodeId) {
        // Who has no call is told everything when it has one.
        if let Some(owner) = self.owners.get_mut(owner)
            && owner.is_open
        {
            owner.pending.insert(key);
        }
    }

    /// Origins that own something and have no call. The caller begins them.
    pub(super) fn without_call(&mut self) -> Vec<NodeId> {
        let missing = self.owners.iter_mut();
        let missing = missing.filter(|(_, owner)| owner.entries > 0 && !owner.has_call);
        missing
            .map(|(node, owner)| {
                owner.has_call = true;
                node.clone()
            })
            .collect()
    }

    /// The call to an origin is open.
    pub(super) fn opened(&mut self, node: &NodeId) {
        let owned = self.entries.iter();
        let owned = owned.filter(|(_, entry)| entry.owner.as_ref() == Some(node));
        let pending = owned.map(|(key, _)| *key).collect();
        let owner = self.owners.entry(node.clone()).or_default();
        owner.is_open = true;
        owner.pending = pending;
    }

    /// It is over: the origin has forgotten everything.
    pub(super) fn broken(&mut self, node: &NodeId) {
        if let Some(owner) = self.owners.get_mut(node) {
            owner.is_open = false;
            owner.pending = BTreeSet::new();
        }
    }

    /// Whether an origin owns nothing.
    pub(super) fn is_idle(&self, node: &NodeId) -> bool {
        self.owners.get(node).is_none_or(|owner| owner.entries == 0)
    }

    /// Whether the call to an origin may end. It has to, then.
    pub(super) fn end_if_idle(&mut self, node: &NodeId) -> bool {
        let is_idle = self.is_idle(node);
        if is_idle {
            self.owners.remove(node);
        }
        is_idle
    }

    /// What is to be said next in the call to an origin.
    pub(super) fn next(&mut self, node: &NodeId) -> Option<Say> {
        let key = self.owners.get_mut(node)?.pending.pop_first()?;
        let entry = self.entries.get(&key);
        let entry = entry.filter(|entry| entry.owner.as_ref() == Some(node));
        let bytes = |id: &[u8; 32]| bytes::Bytes::copy_from_slice(id);
        Some(match (key, entry) {
            (Key::Peer(peer), Some(entry)) => Say::Registered(v1::PeerRegistered {
                peer_id: bytes(&peer.0),
                addresses: address::to_wire(&entry.addresses),
            }),
            (Key::Peer(peer), None) => Say::Gone(v1::PeerGone {
                peer_id: bytes(&peer.0),
            }),
            (Key::Member(group, peer), Some(_)) => Say::Joined(v1::GroupJoined {
                group_id: bytes(&group.0),
                peer_id: bytes(&peer.0),
            }),
            (Key::Member(group, peer), None) => Say::Left(v1::GroupLeft {
                group_id: bytes(&group.0),
                peer_id: bytes(&peer.0),
            }),
        })
    }

    /// Where a peer of this edge is.
    pub(super) fn find(&self, peer: &Fingerprint) -> Option<(&Holder, &[Address])> {
        let entry = self.entries.get(&Key::Peer(*peer))?;
        Some((&entry.holder, &entry.addresses))
    }

    /// Where a member of a group is.
    pub(super) fn member(&self, group: GroupId, peer: Fingerprint) -> Option<&Holder> {
        let entry = self.entries.get(&Key::Member(group, peer))?;
        Some(&entry.holder)
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.entries.keys().copied().collect()
    }

    /// Peers, and memberships.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.peers, self.entries.len() - self.peers)
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use tokio::sync::mpsc;

    use super::*;

    const GROUP: GroupId = GroupId([9; 32]);

    fn peer(number: u8) -> Fingerprint {
        Fingerprint([number; 32])
    }

    fn node(id: &str) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn port(number: u64) -> Port {
        let (sender, _) = mpsc::channel(1);
        Port { number, sender }
    }

    fn address(port: u16) -> Vec<Address> {
        vec![Address::observed(([192, 0, 2, 1], port).into())]
    }

    /// What is said, in short.
    fn said(table: &mut Table, node: &NodeId) -> Vec<String> {
        let next = std::iter::from_fn(|| table.next(node));
        next.map(|say| match say {
            Say::Registered(said) => {
                format!("registered {} {}", said.peer_id[0], said.addresses[0].port)
            }
            Say::Gone(said) => format!("gone {}", said.peer_id[0]),
            Say::Joined(said) => format!("joined {}", said.peer_id[0]),
            Say::Left(said) => format!("left {}", said.peer_id[0]),
            Say::Open(_) => unreachable!("the call says it"),
        })
        .collect()
    }

    #[test]
    fn an_origin_is_told_everything_when_its_call_opens_and_then_what_changes() {
        let (mut table, a, port) = (Table::default(), node("a"), port(1));
        let holder = Holder::new(&port, 7);
        table.register(holder.clone(), peer(1), address(1), Some(a.clone()));
        table.join(holder.clone(), GROUP, peer(1), Some(a.clone()));
        assert_eq!(table.without_call(), slice::from_ref(&a));
        assert_eq!(table.without_call(), []);
        assert!(said(&mut table, &a).is_empty(), "there is no call yet");
        table.opened(&a);
        assert_eq!(said(&mut table, &a), ["registered 1 1", "joined 1"]);
        table.register(holder.clone(), peer(1), address(2), Some(a.clone()));
        table.register(holder.clone(), peer(1), address(3), Some(a.clone()));
        assert_eq!(said(&mut table, &a), ["registered 1 3"]);
        table.broken(&a);
        table.opened(&a);
        assert_eq!(said(&mut table, &a), ["registered 1 3", "joined 1"]);
        table.leave(&port, 7, GROUP, peer(1));
        table.gone(&port, 7, &peer(1));
        assert_eq!(said(&mut table, &a), ["gone 1", "left 1"]);
        assert_eq!(table.counts(), (0, 0));
        assert!(table.end_if_idle(&a));
        table.register(holder, peer(1), address(1), Some(a.clone()));
        assert_eq!(table.without_call(), [a]);
    }

    #[test]
    fn what_moves_to_another_origin_is_said_there_and_taken_back_here() {
        let (mut table, a, b) = (Table::default(), node("a"), node("b"));
        let holder = Holder::new(&port(1), 7);
        table.register(holder.clone(), peer(1), address(1), Some(a.clone()));
        table.register(holder, peer(2), address(2), Some(a.clone()));
        assert_eq!(table.without_call(), slice::from_ref(&a));
        table.opened(&a);
        assert_eq!(said(&mut table, &a).len(), 2);
        table.place(&Key::Peer(peer(1)), Some(b.clone()));
        assert_eq!(table.without_call(), slice::from_ref(&b));
        table.opened(&b);
        assert_eq!(said(&mut table, &a), ["gone 1"]);
        assert_eq!(said(&mut table, &b), ["registered 1 1"]);
        assert!(!table.end_if_idle(&a));
        // Nobody can be reached.
        table.place(&Key::Peer(peer(1)), None);
        assert!(table.end_if_idle(&b));
        assert!(table.find(&peer(1)).is_some());
        table.place(&Key::Peer(peer(1)), Some(a.clone()));
        assert_eq!(said(&mut table, &a), ["registered 1 1"]);
    }

    #[test]
    fn a_peer_is_of_the_session_that_said_so_last() {
        let (mut table, a) = (Table::default(), node("a"));
        let (one, two) = (port(1), port(2));
        table.register(Holder::new(&one, 7), peer(1), address(1), Some(a.clone()));
        table.register(Holder::new(&two, 7), peer(1), address(2), Some(a.clone()));
        table.gone(&one, 7, &peer(1));
        table.gone(&two, 8, &peer(1));
        let (holder, addresses) = table.find(&peer(1)).unwrap();
        assert_eq!((holder.port.number, addresses), (2, &address(2)[..]));
        table.gone(&two, 7, &peer(1));
        assert!(table.find(&peer(1)).is_none());
        assert_eq!(table.counts(), (0, 0));
    }
}
