//! One picture of the cluster: members, ring and who can be reached, immutable and shared.
//!
//! A view never changes; [`crate::Cluster::view`] gives the newest. Decisions that belong together (where to route, and what to
//! tell the called node about it) are taken from one view.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_media::name::StreamName;

use crate::member::{Member, NodeId};
use crate::ring::Ring;

/// Whether streams may be placed on a node, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Availability {
    /// Serving, and reachable.
    Available,
    /// Reachable, but hands its streams over: nothing new is placed there.
    Draining,
    /// Silent, gone, not yet heard of, or no member.
    Unreachable,
}

/// What this node knows of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Whether streams may be placed there.
    pub availability: Availability,
    /// Drawn at each start of its process: a change means a node without memory. 0 until it was first heard of.
    pub incarnation: u64,
    /// Fingerprint of its member list, 0 until it was first heard of. Differs while a change of the list spreads.
    pub ring_version: u64,
}

impl PeerStatus {
    pub(crate) const UNKNOWN: Self = Self {
        availability: Availability::Unreachable,
        incarnation: 0,
        ring_version: 0,
    };
}

/// Where to call for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The node to call.
    pub node: NodeId,
    /// Candidates before it that are not available, for `Routing.unreachable`: in the order of the ring.
    pub unreachable: Vec<NodeId>,
}

/// What an origin does with a stream that it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The stream belongs here.
    Own,
    /// Answer `Moved` to this node.
    Elsewhere(Arc<Member>),
    /// The caller cannot reach this node, but this one can: pass the call on.
    Relay(Arc<Member>),
}

/// An immutable picture of the cluster.
#[derive(Debug)]
pub struct View {
    ring: Arc<Ring>,
    /// By index of the ring's members.
    statuses: Vec<PeerStatus>,
    /// This node, if it is a member.
    this: Option<u16>,
    generation: u64,
}

impl View {
    pub(crate) fn new(
        ring: Arc<Ring>,
        statuses: &BTreeMap<NodeId, PeerStatus>,
        this: &NodeId,
        generation: u64,
    ) -> Self {
        let members = ring.members();
        let statuses = members
            .iter()
            .map(|member| {
                statuses
                    .get(&member.id)
                    .copied()
                    .unwrap_or(PeerStatus::UNKNOWN)
            })
            .collect();
        let this = index_of(members, this.as_str());
        Self {
            ring,
            statuses,
            this,
            generation,
        }
    }

    /// Fingerprint of the member list, for `Routing.ring_version`.
    pub fn ring_version(&self) -> u64 {
        self.ring.version()
    }

    /// Counts the views of this process.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The members, sorted by id.
    pub fn members(&self) -> &[Arc<Member>] {
        self.ring.members()
    }

    /// The member with this id.
    pub fn member(&self, id: &str) -> Option<&Arc<Member>> {
        let index = index_of(self.members(), id)?;
        self.members().get(usize::from(index))
    }

    /// The partition of a stream.
    pub fn partition(&self, name: &StreamName) -> u32 {
        self.ring.partition(name)
    }

    /// Every member in the order in which it may own the stream, the owner first.
    pub fn candidates(&self, name: &StreamName) -> Vec<Arc<Member>> {
        self.ring
            .candidates(self.ring.partition(name))
            .cloned()
            .collect()
    }

    /// Whether streams may be placed on the node.
    pub fn availability(&self, id: &NodeId) -> Availability {
        self.status(id).availability
    }

    /// What is known of the node; nothing, for one that is no member.
    pub fn status(&self, id: &NodeId) -> PeerStatus {
        index_of(self.members(), id.as_str())
            .and_then(|index| self.statuses.get(usize::from(index)))
            .copied()
            .unwrap_or(PeerStatus::UNKNOWN)
    }

    /// The node to call for a stream: the first available candidate. Where only draining nodes are left, the first of those,
    /// because a node that drains still serves. None while no member can be reached.
    pub fn route(&self, name: &StreamName) -> Option<Route> {
        let order = self.order(name);
        let find = |wanted| {
            order
                .iter()
                .position(|(_, availability)| *availability == wanted)
        };
        let chosen = find(Availability::Available).or_else(|| find(Availability::Draining))?;
        let (member, _) = order.get(chosen)?;
        Some(Route {
            node: member.id.clone(),
            unreachable: order
                .iter()
                .take(chosen)
                .map(|(member, _)| member.id.clone())
                .collect(),
        })
    }

    /// What this node does with a stream that a caller asks it for; `caller_unreachable` is `Routing.unreachable` of the call.
    ///
    /// The first candidate before this node that is available in this view has the stream: the caller is sent there, or, where
    /// it says that it cannot reach that node, the call is relayed. Without one the stream belongs here, whatever the caller
    /// thinks: two views that differ settle as soon as they agree on who is reachable. A draining node also looks behind
    /// itself in the order, and keeps the stream only where nobody else is available.
    pub fn placement(&self, name: &StreamName, caller_unreachable: &[String]) -> Placement {
        self.placement_of(self.ring.partition(name), caller_unreachable)
    }

    /// [`placement`](Self::placement) of all streams of a partition.
    pub fn placement_of(&self, partition: u32, caller_unreachable: &[String]) -> Placement {
        let order = self.ring.candidate_indices(partition);
        let before = order.iter().position(|index| Some(*index) == self.this);
        let draining = self
            .this_status()
            .is_none_or(|status| status.availability != Availability::Available);
        let considered = match before {
            Some(position) if !draining => order.get(..position).unwrap_or(order),
            _ => order,
        };
        let first = considered
            .iter()
            .filter(|index| Some(**index) != self.this)
            .find(|index| {
                self.statuses
                    .get(usize::from(**index))
                    .is_some_and(|status| status.availability == Availability::Available)
            })
            .and_then(|index| self.members().get(usize::from(*index)));
        match first {
            None => Placement::Own,
            Some(member) if caller_unreachable.iter().any(|id| id == member.id.as_str()) => {
                Placement::Relay(Arc::clone(member))
            }
            Some(member) => Placement::Elsewhere(Arc::clone(member)),
        }
    }

    fn this_status(&self) -> Option<&PeerStatus> {
        self.statuses.get(usize::from(self.this?))
    }

    fn order(&self, name: &StreamName) -> Vec<(&Arc<Member>, Availability)> {
        self.ring
            .candidate_indices(self.ring.partition(name))
            .iter()
            .filter_map(|index| {
                let index = usize::from(*index);
                Some((
                    self.members().get(index)?,
                    self.statuses.get(index)?.availability,
                ))
            })
            .collect()
    }
}

fn index_of(members: &[Arc<Member>], id: &str) -> Option<u16> {
    let index = members
        .binary_search_by(|member| member.id.as_str().cmp(id))
        .ok()?;
    u16::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Availability::{Available, Draining, Unreachable};

    fn id(id: &str) -> NodeId {
        NodeId::new(id).expect("id")
    }

    fn name() -> StreamName {
        StreamName::new("v", "live", "i", "camera").expect("name")
    }

    /// A view over as many nodes as there are availabilities, which stand in the order of the candidates for [`name`].
    /// `this` is a position in that order.
    fn view(availabilities: &[Availability], this: Option<usize>) -> View {
        let members = (0..availabilities.len()).map(|n| {
            Arc::new(Member {
                id: id(&format!("o{n}")),
                address: format!("10.0.0.{n}:7400"),
                weight: 1,
            })
        });
        let ring = Arc::new(Ring::new(members, 256));
        let order: Vec<NodeId> = ring
            .candidates(ring.partition(&name()))
            .map(|member| member.id.clone())
            .collect();
        let statuses = order
            .iter()
            .zip(availabilities)
            .map(|(id, availability)| {
                let status = PeerStatus {
                    availability: *availability,
                    incarnation: 1,
                    ring_version: 0,
                };
                (id.clone(), status)
            })
            .collect();
        let this = this.map_or_else(|| id("edge"), |position| order[position].clone());
        View::new(ring, &statuses, &this, 1)
    }

    /// The position of a node in the order of candidates.
    fn position(view: &View, node: &NodeId) -> usize {
        view.candidates(&name())
            .iter()
            .position(|member| member.id == *node)
            .expect("a candidate")
    }

    #[test]
    fn routes() {
        for (availabilities, expected) in [
            (&[][..], None),
            (&[Available], Some((0, 0))),
            (&[Available, Available, Available], Some((0, 0))),
            (&[Unreachable, Available, Available], Some((1, 1))),
            (&[Unreachable, Unreachable, Available], Some((2, 2))),
            (&[Draining, Unreachable, Available], Some((2, 2))),
            (&[Unreachable, Draining, Unreachable], Some((1, 1))),
            (&[Unreachable, Unreachable], None),
        ] {
            let view = view(availabilities, None);
            let route = view.route(&name());
            let found = route
                .as_ref()
                .map(|route| (position(&view, &route.node), route.unreachable.len()));
            assert_eq!(found, expected, "{availabilities:?}");
            for (index, node) in route
                .iter()
                .flat_map(|route| &route.unreachable)
                .enumerate()
            {
                assert_eq!(
                    position(&view, node),
                    index,
                    "the unreachable ones stand in the order of the ring"
                );
            }
        }
    }

    #[derive(Debug, PartialEq)]
    enum Place {
        Own,
        Elsewhere(usize),
        Relay(usize),
    }

    #[test]
    fn placements() {
        // Availability of the candidates in order, position of this node, positions that the caller cannot reach.
        for (availabilities, this, caller, expected) in [
            (&[Available][..], 0, &[][..], Place::Own),
            (&[Available, Available], 0, &[], Place::Own),
            // Not the owner, and the owner lives.
            (&[Available, Available], 1, &[], Place::Elsewhere(0)),
            (&[Available, Available], 1, &[0], Place::Relay(0)),
            // The owner is lost in this view: taken, whatever the caller thinks.
            (&[Unreachable, Available], 1, &[], Place::Own),
            (&[Unreachable, Available], 1, &[0], Place::Own),
            // The next after a lost owner.
            (
                &[Unreachable, Available, Available],
                2,
                &[0],
                Place::Elsewhere(1),
            ),
            (
                &[Unreachable, Available, Available],
                2,
                &[0, 1],
                Place::Relay(1),
            ),
            (
                &[Unreachable, Unreachable, Available],
                2,
                &[0, 1],
                Place::Own,
            ),
            // A draining owner takes nothing new.
            (&[Draining, Available], 1, &[], Place::Own),
            // What the caller says of nodes behind this one does not matter.
            (&[Available, Available], 0, &[1], Place::Own),
            // This node drains.
            (
                &[Draining, Available, Available],
                0,
                &[],
                Place::Elsewhere(1),
            ),
            (
                &[Draining, Unreachable, Available],
                0,
                &[],
                Place::Elsewhere(2),
            ),
            (&[Draining, Available], 0, &[1], Place::Relay(1)),
            (&[Available, Draining], 1, &[], Place::Elsewhere(0)),
            (&[Draining, Unreachable], 0, &[], Place::Own),
            (&[Draining, Draining], 0, &[], Place::Own),
        ] {
            let view = view(availabilities, Some(this));
            let caller_names: Vec<String> = caller
                .iter()
                .map(|position: &usize| view.candidates(&name())[*position].id.to_string())
                .collect();
            let found = match view.placement(&name(), &caller_names) {
                Placement::Own => Place::Own,
                Placement::Elsewhere(member) => Place::Elsewhere(position(&view, &member.id)),
                Placement::Relay(member) => Place::Relay(position(&view, &member.id)),
            };
            assert_eq!(
                found, expected,
                "{availabilities:?} at {this}, caller without {caller:?}"
            );
        }
    }

    #[test]
    fn a_node_of_no_list_is_unreachable() {
        let view = view(&[Available], None);
        assert_eq!(view.availability(&id("stranger")), Unreachable);
        assert!(view.member("stranger").is_none());
        assert!(view.member("o0").is_some());
    }
}
