//! The edge's side of the stream log: appending what clients publish here, reading what they watch here.
//!
//! One task per published stream ([`append`]) and one per watched stream ([`read`]), on the process's shared runtime, not on
//! the workers. Both find the owner through the cluster's view, follow `Moved` once, and go on with the next candidate when a
//! node does not answer; neither ever gives up while its client stays. Both are resumable at an offset, so a failover loses
//! and repeats nothing (see the design of offsets in `proto/headwater/v1/stream_log.proto`).

use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::{Availability, Cluster, Member, NodeId, ring};
use headwater_media::name::StreamName;
use headwater_proto::v1;
use headwater_proto::v1::stream_log_client::StreamLogClient;
use rand::RngExt as _;
use tonic::transport::Channel;

use crate::config::UpstreamSection;
use crate::hub::HubTable;
use crate::metrics::EdgeMetrics;

pub(crate) mod append;
mod company;
pub(crate) mod publication;
pub(crate) mod read;

/// First pause after a failed call. Short: most failures are a node that has just died, and the next one is ready.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause between two calls to a cluster that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What every upstream task needs.
pub(crate) struct Upstream {
    pub(crate) cluster: Cluster,
    pub(crate) config: UpstreamSection,
    pub(crate) hubs: HubTable,
    pub(crate) metrics: EdgeMetrics,
    /// Chunk size of the shared wire forms, in bytes.
    pub(crate) chunk_size: u32,
    /// This node's id.
    pub(crate) node: String,
}

/// Where a call goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) node: NodeId,
    unreachable: Vec<NodeId>,
}

impl Upstream {
    /// The node to call for a stream, as far as this edge can tell.
    pub(crate) fn target(&self, name: &StreamName) -> Option<Target> {
        let route = self.cluster.view().route(name)?;
        Some(Target {
            node: route.node,
            unreachable: route.unreachable,
        })
    }

    /// A node that another node named as the owner.
    pub(crate) fn named(&self, name: &StreamName, moved: &v1::Moved) -> Option<Target> {
        let view = self.cluster.view();
        let node = NodeId::new(&moved.owner).ok()?;
        let candidates = view.candidates(name);
        let place = candidates.iter().position(|member| member.id == node)?;
        // A node that this edge cannot reach is not worth a try on another's word.
        (view.availability(&node) == Availability::Available).then(|| Target {
            unreachable: candidates
                .iter()
                .take(place)
                .filter(|member| view.availability(&member.id) != Availability::Available)
                .map(|member| member.id.clone())
                .collect(),
            node,
        })
    }

    fn client(&self, target: &Target, name: &StreamName) -> Option<StreamLogClient<Channel>> {
        let channel = self
            .cluster
            .channel(&target.node, ring::stream_hash(name))
            .ok()?;
        Some(
            StreamLogClient::new(channel)
                .max_decoding_message_size(headwater_cluster::channel::MAX_MESSAGE_BYTES)
                .max_encoding_message_size(headwater_cluster::channel::MAX_MESSAGE_BYTES),
        )
    }

    /// What the called node is told about how it was found.
    pub(crate) fn routing(&self, target: &Target) -> v1::Routing {
        v1::Routing {
            ring_version: self.cluster.view().ring_version(),
            unreachable: target.unreachable.iter().map(ToString::to_string).collect(),
            relayed_by: Vec::new(),
        }
    }

    /// Whether calls to the node have a chance.
    fn answers(&self, node: &NodeId) -> bool {
        self.cluster.view().availability(node) != Availability::Unreachable
    }

    /// Whether the node is this very process, and no other could ever be asked for what it holds: what it has acknowledged
    /// cannot be missed by an owner after it. That ends when another origin joins.
    fn lives_and_dies_with(&self, owner: &NodeId) -> bool {
        // Only an origin can be found there: an edge is no member.
        let is_the_only_one =
            |members: &[Arc<Member>]| matches!(members, [member] if member.id == *owner);
        owner == self.cluster.id() && is_the_only_one(self.cluster.view().members())
    }

    /// Completes when the node is seen not to answer any more.
    pub(crate) async fn lost(&self, node: &NodeId) {
        let mut changes = self.cluster.changes();
        while self.answers(node) {
            if changes.changed().await.is_err() {
                // The cluster handle lives as long as the edge: only at the end of the process.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Pauses between tries: doubled each time, with jitter, so that a thousand streams do not call a new owner in step.
pub(crate) struct Pause {
    next: Duration,
}

impl Pause {
    pub(crate) fn new() -> Self {
        Self { next: FIRST_PAUSE }
    }

    pub(crate) fn reset(&mut self) {
        self.next = FIRST_PAUSE;
    }

    /// Waits; less if the cluster changes meanwhile.
    pub(crate) async fn wait(&mut self, upstream: &Upstream) {
        let pause = self.next.mul_f64(rand::rng().random_range(0.5..1.0));
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        let mut changes = upstream.cluster.changes();
        let _ = tokio::time::timeout(pause, changes.changed()).await;
    }
}

/// Starts the read of a new hub.
pub(crate) fn start_read(
    upstream: &Arc<Upstream>,
    hub: Arc<crate::hub::Hub>,
    tasks: &crate::edge::Tasks,
) {
    // Boxed, as `append::run`.
    tasks.spawn(Box::pin(read::run(Arc::clone(upstream), hub)));
}

#[cfg(test)]
mod tests {
    use headwater_cluster::{ClusterConfig, Local, Role};
    use headwater_node::metrics::Metrics;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Of a node with the id `only`.
    pub(super) fn upstream(members: &[&str], role: Role) -> Upstream {
        let config = ClusterConfig {
            members: members.iter().map(ToString::to_string).collect(),
            ..ClusterConfig::default()
        };
        let local = Local {
            id: NodeId::new("only").unwrap(),
            role,
        };
        let cluster = Cluster::start(config, local, None, CancellationToken::new()).unwrap();
        Upstream {
            cluster,
            config: UpstreamSection::default(),
            hubs: HubTable::new(
                crate::hub::RingLimits {
                    duration_ms: 0,
                    bytes: 0,
                    entries: 0,
                },
                1,
            ),
            metrics: EdgeMetrics::new(&Metrics::new("test", "test")),
            chunk_size: 4_096,
            node: "only".to_owned(),
        }
    }

    #[tokio::test]
    async fn only_the_one_origin_that_is_this_node_shares_its_fate() {
        const ONLY: &str = "only=127.0.0.1:1";
        const OTHER: &str = "other=127.0.0.1:2";
        let [only, other] = ["only", "other"].map(|id| NodeId::new(id).unwrap());
        for (members, role, expected) in [
            (&[][..], Role::Origin, true),
            (&[ONLY], Role::Origin, true),
            // Unreachable, but it may come.
            (&[ONLY, OTHER], Role::Origin, false),
            (&[OTHER], Role::Edge, false),
        ] {
            let upstream = upstream(members, role);
            let found = upstream.lives_and_dies_with(&only);
            assert_eq!(found, expected, "{members:?} {role:?}");
            assert!(
                !upstream.lives_and_dies_with(&other),
                "{members:?} {role:?}"
            );
        }
    }

    #[tokio::test]
    async fn that_changes_with_the_members() {
        let members =
            |list: &[&str]| -> Vec<String> { list.iter().map(ToString::to_string).collect() };
        let upstream = upstream(&["only=127.0.0.1:1"], Role::Origin);
        let only = NodeId::new("only").unwrap();
        for (list, expected) in [
            (&["only=127.0.0.1:1", "other=127.0.0.1:2"][..], false),
            (&["only=127.0.0.1:1"], true),
        ] {
            upstream.cluster.set_members(&members(list)).unwrap();
            assert_eq!(upstream.lives_and_dies_with(&only), expected, "{list:?}");
        }
    }
}
