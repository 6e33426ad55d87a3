//! Peers and groups, without IO.
//!
//! # Groups
//! The members of a group stand in a ring, by the hash that group members themselves order each other by. Who joins is told of the
//! members around it and of some others, and they are told of it: the members' own protocol does the rest.
//!
//! # Invariants
//! - What a call has said is gone with it.
//! - Of two calls that register the same peer the later one has it; the earlier one cannot take it away again.
//! - What there is, is bounded by [`Limits`].

use std::collections::{BTreeMap, HashMap, HashSet};

use headwater_proto::v1::PeerAddress;
use sha2::{Digest, Sha256};

/// Members told of on each side of a newcomer.
const NEIGHBOURS: usize = 3;

/// Members told of beyond these, from all around the ring: a group must not fall apart into arcs.
const FAR: u8 = 2;

/// A fingerprint of a certificate.
pub(super) type PeerId = [u8; 32];

/// A hash of a group's specification.
pub(super) type GroupId = [u8; 32];

/// Where a member stands in the ring of its group.
type MemberId = [u8; 32];

/// An edge's call.
pub(super) type CallId = u64;

/// How much there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) peers: usize,
    /// Of all groups together.
    pub(super) memberships: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            peers: 1_000_000,
            memberships: 1_000_000,
        }
    }
}

/// There is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Who is to be told of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) call: CallId,
    pub(super) peer: PeerId,
    pub(super) neighbours: Vec<PeerId>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Registry {
    limits: Limits,
    peers: HashMap<PeerId, Registration>,
    groups: HashMap<GroupId, BTreeMap<MemberId, Member>>,
    memberships: usize,
    calls: HashMap<CallId, Said>,
    next_call: CallId,
}

#[derive(Debug)]
struct Registration {
    call: CallId,
    addresses: Vec<PeerAddress>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    peer: PeerId,
    call: CallId,
}

/// What a call has said.
#[derive(Debug, Default)]
struct Said {
    peers: HashSet<PeerId>,
    memberships: HashSet<(GroupId, PeerId)>,
}

impl Registry {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    pub(super) fn attach(&mut self) -> CallId {
        let call = self.next_call;
        self.next_call += 1;
        self.calls.insert(call, Said::default());
        call
    }

    pub(super) fn detach(&mut self, call: CallId) {
        let Some(said) = self.calls.remove(&call) else {
            return;
        };
        for peer in said.peers {
            self.forget(call, &peer);
        }
        for (group, peer) in said.memberships {
            self.take_out(call, &group, &peer);
        }
    }

    pub(super) fn register(
        &mut self,
        call: CallId,
        peer: PeerId,
        addresses: Vec<PeerAddress>,
    ) -> Result<(), Full> {
        let is_new = !self.peers.contains_key(&peer);
        if is_new && self.peers.len() >= self.limits.peers {
            return Err(Full);
        }
        let Some(said) = self.calls.get_mut(&call) else {
            return Ok(());
        };
        said.peers.insert(peer);
        let registration = Registration { call, addresses };
        if let Some(before) = self.peers.insert(peer, registration)
            && before.call != call
            && let Some(said) = self.calls.get_mut(&before.call)
        {
            said.peers.remove(&peer);
        }
        Ok(())
    }

    pub(super) fn gone(&mut self, call: CallId, peer: &PeerId) {
        if let Some(said) = self.calls.get_mut(&call) {
            said.peers.remove(peer);
        }
        self.forget(call, peer);
    }

    fn forget(&mut self, call: CallId, peer: &PeerId) {
        if self.peers.get(peer).is_some_and(|known| known.call == call) {
            self.peers.remove(peer);
        }
    }

    /// The call of the edge that holds a peer, and the peer's addresses.
    pub(super) fn find(&self, peer: &PeerId) -> Option<(CallId, &[PeerAddress])> {
        let found = self.peers.get(peer)?;
        Some((found.call, &found.addresses))
    }

    /// Adds a member. Gives who is to be told.
    pub(super) fn join(
        &mut self,
        call: CallId,
        group: GroupId,
        peer: PeerId,
    ) -> Result<Vec<Notice>, Full> {
        let id = member_id(&peer);
        let known = self
            .groups
            .get(&group)
            .and_then(|members| members.get(&id).copied());
        if known.is_none() && self.memberships >= self.limits.memberships {
            return Err(Full);
        }
        let Some(said) = self.calls.get_mut(&call) else {
            return Ok(Vec::new());
        };
        said.memberships.insert((group, peer));
        match known {
            None => self.memberships += 1,
            Some(before) if before.call != call => {
                if let Some(said) = self.calls.get_mut(&before.call) {
                    said.memberships.remove(&(group, peer));
                }
            }
            Some(_) => {}
        }
        let members = self.groups.entry(group).or_default();
        members.insert(id, Member { peer, call });
        let around = around(members, &id);
        let mut notices: Vec<Notice> = around
            .iter()
            .map(|member| Notice {
                call: member.call,
                peer: member.peer,
                neighbours: vec![peer],
            })
            .collect();
        if !around.is_empty() {
            notices.push(Notice {
                call,
                peer,
                neighbours: around.iter().map(|member| member.peer).collect(),
            });
        }
        Ok(notices)
    }

    pub(super) fn leave(&mut self, call: CallId, group: &GroupId, peer: &PeerId) {
        if let Some(said) = self.calls.get_mut(&call) {
            said.memberships.remove(&(*group, *peer));
        }
        self.take_out(call, group, peer);
    }

    fn take_out(&mut self, call: CallId, group: &GroupId, peer: &PeerId) {
        let Some(members) = self.groups.get_mut(group) else {
            return;
        };
        let id = member_id(peer);
        if members.get(&id).is_some_and(|member| member.call == call) {
            members.remove(&id);
            self.memberships -= 1;
        }
        if members.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Peers, groups, and members of all groups.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.peers.len(), self.groups.len(), self.memberships)
    }
}

/// The members next to a place in the ring, and some from far away, each once and without whoever stands there.
fn around(members: &BTreeMap<MemberId, Member>, at: &MemberId) -> Vec<Member> {
    let after = || members.range(*at..).chain(members.range(..*at));
    let before = || members.range(..*at).rev().chain(members.range(*at..).rev());
    let far = (0..FAR).filter_map(|number| {
        let place: MemberId = Sha256::new()
            .chain_update(at)
            .chain_update([number])
            .finalize()
            .into();
        members.range(place..).chain(members.iter()).next()
    });
    let near = after().skip(1).take(NEIGHBOURS);
    let near = near.chain(before().take(NEIGHBOURS));
    let mut found: BTreeMap<MemberId, Member> =
        near.chain(far).map(|(id, member)| (*id, *member)).collect();
    found.remove(at);
    found.into_values().collect()
}

/// As members themselves make it: the hash of the peer id as an endpoint discriminator (RFC 7425 section 4.4.4).
fn member_id(peer: &PeerId) -> MemberId {
    let digest = Sha256::new()
        .chain_update([0x21, 0x0f])
        .chain_update(peer)
        .finalize();
    digest.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> PeerId {
        Sha256::digest(number.to_be_bytes()).into()
    }

    fn address(port: u32) -> PeerAddress {
        PeerAddress {
            ip: vec![127, 0, 0, 1].into(),
            port,
            origin: 2,
        }
    }

    const GROUP: GroupId = [7; 32];

    #[test]
    fn a_peer_is_of_the_call_that_said_so_last() {
        let mut registry = Registry::default();
        let (one, two) = (registry.attach(), registry.attach());
        registry.register(one, peer(1), vec![address(1)]).unwrap();
        assert_eq!(registry.find(&peer(1)), Some((one, &[address(1)][..])));
        assert_eq!(registry.find(&peer(2)), None);
        registry.register(one, peer(1), vec![address(9)]).unwrap();
        assert_eq!(registry.find(&peer(1)), Some((one, &[address(9)][..])));
        registry.register(two, peer(1), vec![address(2)]).unwrap();
        registry.gone(one, &peer(1));
        assert_eq!(registry.find(&peer(1)), Some((two, &[address(2)][..])));
        registry.detach(one);
        assert_eq!(registry.find(&peer(1)), Some((two, &[address(2)][..])));
        registry.detach(two);
        assert_eq!(registry.find(&peer(1)), None);
        registry.register(two, peer(1), vec![address(2)]).unwrap();
        assert_eq!(registry.counts(), (0, 0, 0), "the call is over");
    }

    #[test]
    fn who_joins_and_those_around_are_told_of_each_other() {
        let mut registry = Registry::default();
        let calls = [registry.attach(), registry.attach()];
        assert_eq!(registry.join(calls[0], GROUP, peer(0)), Ok(Vec::new()));
        let notices = registry.join(calls[1], GROUP, peer(1)).unwrap();
        let told = |call, to, of| Notice {
            call,
            peer: to,
            neighbours: vec![of],
        };
        assert_eq!(
            notices,
            [
                told(calls[0], peer(0), peer(1)),
                told(calls[1], peer(1), peer(0))
            ]
        );
        for number in 2..200 {
            let call = calls[number as usize % 2];
            let notices = registry.join(call, GROUP, peer(number)).unwrap();
            let (own, others) = notices.split_last().unwrap();
            assert_eq!((own.call, own.peer), (call, peer(number)));
            let most = 2 * NEIGHBOURS + usize::from(FAR);
            assert!((2.min(number as usize)..=most).contains(&own.neighbours.len()));
            assert!(!own.neighbours.contains(&peer(number)));
            let told: Vec<PeerId> = others.iter().map(|notice| notice.peer).collect();
            assert_eq!(told, own.neighbours);
        }
        // The nearest are among those that are told of.
        let newcomer = peer(1_000);
        let notices = registry.join(calls[0], GROUP, newcomer).unwrap();
        let mut ring: Vec<(MemberId, PeerId)> = (0..200)
            .chain([1_000])
            .map(|number| (member_id(&peer(number)), peer(number)))
            .collect();
        ring.sort_unstable();
        let at = ring.iter().position(|(_, peer)| *peer == newcomer).unwrap();
        let own = &notices.last().unwrap().neighbours;
        for distance in 1..=NEIGHBOURS {
            for place in [at + distance, at + ring.len() - distance] {
                assert!(own.contains(&ring[place % ring.len()].1));
            }
        }
        assert_eq!(registry.counts(), (0, 1, 201));
    }

    #[test]
    fn members_go_with_their_call_or_when_they_leave() {
        let mut registry = Registry::default();
        let calls = [registry.attach(), registry.attach()];
        for number in 0..20 {
            registry
                .join(calls[number as usize % 2], GROUP, peer(number))
                .unwrap();
        }
        registry.leave(calls[1], &GROUP, &peer(0));
        assert_eq!(registry.counts().2, 20, "it is of the other call");
        registry.leave(calls[0], &GROUP, &peer(0));
        registry.leave(calls[0], &GROUP, &peer(0));
        assert_eq!(registry.counts().2, 19);
        registry.detach(calls[1]);
        assert_eq!(registry.counts(), (0, 1, 9));
        let late = registry.attach();
        let notices = registry.join(late, GROUP, peer(50)).unwrap();
        assert!(notices.iter().all(|notice| notice.call != calls[1]));
        // A member that came back on another edge.
        registry.join(late, GROUP, peer(2)).unwrap();
        assert_eq!(registry.counts().2, 10);
        registry.detach(calls[0]);
        assert_eq!(registry.counts(), (0, 1, 2));
        registry.detach(late);
        assert_eq!(registry.counts(), (0, 0, 0));
    }

    #[test]
    fn there_is_no_more_than_there_may_be() {
        let mut registry = Registry::new(Limits {
            peers: 2,
            memberships: 2,
        });
        let call = registry.attach();
        for number in 0..2 {
            registry.register(call, peer(number), Vec::new()).unwrap();
            registry.join(call, GROUP, peer(number)).unwrap();
        }
        assert_eq!(registry.register(call, peer(2), Vec::new()), Err(Full));
        assert_eq!(registry.join(call, GROUP, peer(2)), Err(Full));
        assert_eq!(registry.join(call, [8; 32], peer(0)), Err(Full));
        // What there is already may be said again.
        registry.register(call, peer(1), vec![address(1)]).unwrap();
        assert_eq!(registry.join(call, GROUP, peer(1)).unwrap().len(), 2);
        registry.gone(call, &peer(0));
        registry.register(call, peer(2), Vec::new()).unwrap();
    }
}
