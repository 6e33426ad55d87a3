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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn member(id: &str, weight: u32) -> Arc<Member> {
        Arc::new(Member {
            id: NodeId::new(id).expect("id"),
            address: format!("{id}:7400"),
            weight,
        })
    }

    fn ring(nodes: usize) -> Ring {
        Ring::new(
            (0..nodes).map(|n| member(&format!("o{n}"), 1)),
            DEFAULT_PARTITIONS,
        )
    }

    fn name(stream: &str) -> StreamName {
        StreamName::new("_defaultVHost_", "live", "_definst_", stream).expect("name")
    }

    fn ids(ring: &Ring, partition: u32) -> Vec<&str> {
        ring.candidates(partition)
            .map(|member| member.id.as_str())
            .collect()
    }

    /// These values are a contract between nodes of all versions: a change breaks every rolling upgrade.
    #[test]
    fn golden_values_do_not_change() {
        let ring = ring(3);
        assert_eq!(ring.version(), 0x92a0_82ff_0d46_afda);
        for (stream, hash, partition, candidates) in [
            ("camera", 0x2675_05f0_e7a4_1376, 118, ["o1", "o0", "o2"]),
            ("camera2", 0x180c_11d1_b422_17f8, 248, ["o1", "o2", "o0"]),
            ("a/b", 0x3369_5c3a_287e_fccc, 204, ["o1", "o0", "o2"]),
            (
                "mp4:show.f4v",
                0xdeca_f5e0_abc5_ea88,
                136,
                ["o1", "o0", "o2"],
            ),
            ("größe", 0xf8eb_3276_d542_f2cf, 207, ["o1", "o0", "o2"]),
        ] {
            let name = name(stream);
            assert_eq!(stream_hash(&name), hash, "{stream}");
            assert_eq!(ring.partition(&name), partition, "{stream}");
            assert_eq!(ids(&ring, partition), candidates, "{stream}");
        }
        // Owners of the first partitions among five nodes of different weights.
        let weighted = Ring::new((1..=5).map(|n| member(&format!("origin-{n}"), n)), 256);
        let owners: Vec<&str> = (0..8)
            .map(|partition| ids(&weighted, partition)[0])
            .collect();
        let expected = [3, 5, 3, 5, 5, 4, 3, 3].map(|n| format!("origin-{n}"));
        assert_eq!(owners, expected);
    }

    #[test]
    fn parts_of_a_name_do_not_run_together() {
        let made = |app: &str, instance: &str, stream: &str| {
            stream_hash(&StreamName::new("v", app, instance, stream).expect("name"))
        };
        assert_ne!(made("ab", "c", "d"), made("a", "bc", "d"));
        assert_ne!(made("a", "b/c", "d"), made("a", "b", "c/d"));
    }

    /// Keys per unit of weight, looked up as partitions are, but enough of them to measure the points of the ring.
    fn shares(members: &[Arc<Member>], keys: u32) -> Vec<f64> {
        let points = points(members);
        let mut counts = vec![0.0_f64; members.len()];
        for partition in 0..keys {
            let point = points
                .get(&Lookup {
                    partition,
                    attempt: 0,
                })
                .expect("point");
            counts[usize::from(point.index)] += 1.0;
        }
        counts
            .iter()
            .zip(members)
            .map(|(count, member)| count / f64::from(member.weight))
            .collect()
    }

    fn max_over_mean(shares: &[f64]) -> f64 {
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        shares.iter().copied().fold(0.0, f64::max) / mean
    }

    /// A share of 160 points scatters by a twelfth of itself, so the fullest of some nodes is a matter of their names: judged
    /// over many clusters.
    #[test]
    fn load_is_balanced() {
        for nodes in [3, 10] {
            let ratios: Vec<f64> = (0..20)
                .map(|cluster| {
                    let members: Vec<_> = (0..nodes)
                        .map(|n| member(&format!("origin-{n}.c{cluster}"), 1))
                        .collect();
                    max_over_mean(&shares(&members, 10_000))
                })
                .collect();
            let mean = ratios.iter().sum::<f64>() / 20.0;
            assert!(mean < 1.15, "{nodes} nodes: {ratios:?}");
            assert!(
                ratios.iter().all(|ratio| *ratio < 1.3),
                "{nodes} nodes: {ratios:?}"
            );
        }
    }

    #[test]
    fn weights_count() {
        let members = [member("big", 4), member("middle", 2), member("small", 1)];
        let ratio = max_over_mean(&shares(&members, 100_000));
        assert!(ratio < 1.15, "fullest has {ratio} of its weighted share");
    }

    #[test]
    fn a_new_node_takes_its_share_and_no_more() {
        let (before, after) = (ring(10), ring(11));
        let mut moved = 0;
        for partition in 0..before.partitions() {
            let (old, new) = (ids(&before, partition)[0], ids(&after, partition)[0]);
            if old != new {
                assert_eq!(new, "o10", "partition {partition} moved between old nodes");
                moved += 1;
            }
        }
        // 256 / 11 is 23.
        assert!(
            (10..=40).contains(&moved),
            "{moved} of 256 partitions moved"
        );
    }

    #[test]
    fn keys_of_a_lost_node_spread_over_all_others() {
        let ring = ring(5);
        let mut heirs = BTreeMap::new();
        for partition in 0..ring.partitions() {
            let order = ids(&ring, partition);
            if order[0] == "o0" {
                *heirs.entry(order[1]).or_insert(0) += 1;
            }
        }
        assert_eq!(heirs.len(), 4, "{heirs:?}");
    }

    #[test]
    fn every_node_is_a_candidate_once() {
        for nodes in [1, 2, 3, 50] {
            let ring = ring(nodes);
            for partition in 0..ring.partitions() {
                let mut order = ids(&ring, partition);
                order.sort_unstable();
                order.dedup();
                assert_eq!(order.len(), nodes, "{nodes} nodes, partition {partition}");
            }
        }
        // A light node beside heavy ones is met late or never: it is appended.
        let mut members = vec![member("light", 1)];
        members.extend((0..6).map(|n| member(&format!("heavy{n}"), 16)));
        let ring = Ring::new(members, 64);
        assert!((0..64).all(|partition| ids(&ring, partition).len() == 7));
        assert!((0..64).all(|partition| ids(&ring, partition).contains(&"light")));
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let members = ["c", "a", "b"].map(|id| member(id, 1));
        let one = Ring::new(members.clone(), 256);
        let other = Ring::new(members.into_iter().rev(), 256);
        assert_eq!(one.version(), other.version());
        assert!((0..256).all(|partition| ids(&one, partition) == ids(&other, partition)));
    }

    #[test]
    fn the_version_tells_lists_apart() {
        let base = Ring::new([member("a", 1), member("b", 1)], 256).version();
        for (what, ring) in [
            ("a node less", Ring::new([member("a", 1)], 256)),
            (
                "another weight",
                Ring::new([member("a", 2), member("b", 1)], 256),
            ),
            (
                "other partitions",
                Ring::new([member("a", 1), member("b", 1)], 128),
            ),
            (
                "another id",
                Ring::new([member("a", 1), member("c", 1)], 256),
            ),
        ] {
            assert_ne!(ring.version(), base, "{what}");
        }
    }

    #[test]
    fn an_empty_ring_has_no_candidates() {
        let ring = Ring::new([], 256);
        assert_eq!(ring.candidates(ring.partition(&name("camera"))).count(), 0);
        assert_eq!(
            Ring::new([member("a", 1)], 4).candidates(4).count(),
            0,
            "partition out of range"
        );
    }
}
