//! From a stream's name to the nodes that may own it: name → partition → ring → candidates.
//!
//! Everything here is a pure function of the member list (ids and weights) and the number of partitions, made of fixed bytes
//! and one fixed hash (SipHash-2-4, keys zero), so that every node of every build computes the same. Golden values in the
//! tests pin it: a change of them is a change of the protocol between nodes.
//!
//! - partition of a stream: hash of the four length-prefixed parts of its name, modulo the number of partitions;
//! - ring: [`POINTS_PER_WEIGHT`] × weight points per node;
//! - candidates of a partition: the nodes met by looking up `(partition, attempt)` for attempt 0, 1, ... without repeats, so the
//!   keys of a lost node spread over all others and not over its one neighbour; nodes that were not met follow, sorted by a hash.
//!
//! The ring knows nothing of reachability: see [`crate::view`].

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use hashring::HashRing;
use headwater_media::name::StreamName;
use siphasher::sip::SipHasher24;

use crate::member::{Member, NodeId};

/// Partitions of a cluster unless its configuration says otherwise.
pub const DEFAULT_PARTITIONS: u32 = 256;

/// Most partitions of a cluster. Bounds the table of candidates.
pub const MAX_PARTITIONS: u32 = 4096;

/// Points of the ring per unit of weight: with 160 the fullest node has about a tenth more than its share.
pub const POINTS_PER_WEIGHT: u32 = 160;

/// First byte of what is hashed, so that no two kinds of things hash the same bytes.
mod domain {
    pub(super) const STREAM: u8 = b's';
    pub(super) const POINT: u8 = b'n';
    pub(super) const LOOKUP: u8 = b'p';
    pub(super) const REST: u8 = b'r';
    pub(super) const VERSION: u8 = b'v';
}

#[derive(Clone, Copy, Debug, Default)]
struct FixedHash;

impl BuildHasher for FixedHash {
    type Hasher = SipHasher24;

    fn build_hasher(&self) -> SipHasher24 {
        SipHasher24::new_with_keys(0, 0)
    }
}

fn write_text<H: Hasher>(state: &mut H, text: &str) {
    // Names and ids are far below 4 GiB where they are made.
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    state.write(&length.to_be_bytes());
    state.write(text.as_bytes());
}

/// A stable 64-bit hash of a stream's name: its partition is this modulo the number of partitions, and calls about the stream
/// are spread over the connections to a node by it.
pub fn stream_hash(name: &StreamName) -> u64 {
    let mut state = FixedHash.build_hasher();
    state.write(&[domain::STREAM]);
    for part in [&name.vhost, &name.app, &name.instance, &name.stream] {
        write_text(&mut state, part);
    }
    state.finish()
}

/// One of the points of a node.
struct Point {
    /// Index into the sorted member list.
    index: u16,
    id: NodeId,
    replica: u32,
}

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&[domain::POINT]);
        write_text(state, self.id.as_str());
        state.write(&self.replica.to_be_bytes());
    }
}

struct Lookup {
    partition: u32,
    attempt: u32,
}

impl Hash for Lookup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&[domain::LOOKUP]);
        state.write(&self.partition.to_be_bytes());
        state.write(&self.attempt.to_be_bytes());
    }
}

/// The candidates of every partition for one member list.
#[derive(Debug)]
pub struct Ring {
    version: u64,
    partitions: u32,
    /// Sorted by id, ids are unique.
    members: Vec<Arc<Member>>,
    /// Row `p` holds the candidates of partition `p` as indices into `members`; rows are `members.len()` long.
    candidates: Vec<u16>,
}

impl Ring {
    /// Builds the ring. Of members with the same id the last one counts; members past [`u16::MAX`] are left out (the
    /// configuration refuses far smaller lists). The number of partitions is brought into 1..=[`MAX_PARTITIONS`].
    pub fn new(members: impl IntoIterator<Item = Arc<Member>>, partitions: u32) -> Self {
        let unique: BTreeMap<NodeId, Arc<Member>> = members
            .into_iter()
            .map(|member| (member.id.clone(), member))
            .collect();
        let members: Vec<Arc<Member>> = unique.into_values().take(usize::from(u16::MAX)).collect();
        let partitions = partitions.clamp(1, MAX_PARTITIONS);
        let points = points(&members);
        let mut candidates = Vec::with_capacity(members.len().saturating_mul(partitions as usize));
        for partition in 0..partitions {
            candidates.extend(candidates_of(partition, &members, &points));
        }
        Self {
            version: version(&members, partitions),
            partitions,
            members,
            candidates,
        }
    }

    /// Fingerprint of ids, weights and the number of partitions: nodes with the same version agree on every owner.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The members, sorted by id.
    pub fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// The partition of a stream, below [`Self::partitions`].
    pub fn partition(&self, name: &StreamName) -> u32 {
        let partition = stream_hash(name) % u64::from(self.partitions);
        // A remainder of a u32 fits.
        u32::try_from(partition).unwrap_or(0)
    }

    /// All members in the order in which they may own the partition, the owner first. Empty for a partition out of range.
    pub fn candidates(&self, partition: u32) -> impl Iterator<Item = &Arc<Member>> + '_ {
        self.candidate_indices(partition)
            .iter()
            .filter_map(|index| self.members.get(usize::from(*index)))
    }

    /// As [`Self::candidates`], as indices into [`Self::members`].
    pub(crate) fn candidate_indices(&self, partition: u32) -> &[u16] {
        let width = self.members.len();
        let start = (partition as usize).saturating_mul(width);
        self.candidates
            .get(start..start.saturating_add(width))
            .unwrap_or(&[])
    }
}

fn points(members: &[Arc<Member>]) -> HashRing<Point, FixedHash> {
    let mut ring = HashRing::with_hasher(FixedHash);
    let points = members.iter().zip(0_u16..).flat_map(|(member, index)| {
        (0..member.weight.saturating_mul(POINTS_PER_WEIGHT)).map(move |replica| Point {
            index,
            id: member.id.clone(),
            replica,
        })
    });
    ring.batch_add(points.collect());
    ring
}

fn candidates_of(
    partition: u32,
    members: &[Arc<Member>],
    points: &HashRing<Point, FixedHash>,
) -> Vec<u16> {
    let mut met = vec![false; members.len()];
    let mut order = Vec::with_capacity(members.len());
    // Enough attempts to meet nearly all; a light node next to heavy ones may be missed, and is appended below.
    let attempts = u32::try_from(members.len())
        .unwrap_or(u32::MAX)
        .saturating_mul(4)
        .saturating_add(16);
    for attempt in 0..attempts {
        if order.len() == members.len() {
            break;
        }
        let Some(point) = points.get(&Lookup { partition, attempt }) else {
            break;
        };
        if let Some(seen) = met.get_mut(usize::from(point.index))
            && !*seen
        {
            *seen = true;
            order.push(point.index);
        }
    }
    let mut rest: Vec<(u64, u16)> = members
        .iter()
        .zip(0_u16..)
        .zip(&met)
        .filter(|(_, seen)| !**seen)
        .map(|((member, index), _)| (rest_hash(partition, &member.id), index))
        .collect();
    rest.sort_unstable();
    order.extend(rest.into_iter().map(|(_, index)| index));
    order
}

fn rest_hash(partition: u32, id: &NodeId) -> u64 {
    let mut state = FixedHash.build_hasher();
    state.write(&[domain::REST]);
    state.write(&partition.to_be_bytes());
    write_text(&mut state, id.as_str());
    state.finish()
}

fn version(members: &[Arc<Member>], partitions: u32) -> u64 {
    let mut state = FixedHash.build_hasher();
    state.write(&[domain::VERSION]);
    state.write(&partitions.to_be_bytes());
    for member in members {
        write_text(&mut state, member.id.as_str());
        state.write(&member.weight.to_be_bytes());
    }
    state.finish()
}
