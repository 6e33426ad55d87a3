//! What is counted of peers and groups.

use headwater_node::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// The metrics of peers, `headwater_peers_*`.
#[derive(Clone, Debug)]
pub(crate) struct PeersMetrics {
    pub(crate) registered: Gauge,
    pub(crate) groups: Gauge,
    pub(crate) memberships: Gauge,
    pub(crate) introduced: Counter,
    pub(crate) unknown: Counter,
    pub(crate) relayed: Counter,
    pub(crate) refused: Counter,
    pub(crate) dropped: Counter,
}

impl PeersMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let room = metrics.room("peers");
        Self {
            registered: room.gauge("registered", "RTMFP peers that can be introduced"),
            groups: room.gauge("groups", "RTMFP groups with members"),
            memberships: room.gauge("memberships", "Members of RTMFP groups, all together"),
            introduced: room.counter(
                "introduced",
                "Introductions passed on to the edge of a peer",
            ),
            unknown: room.counter(
                "unknown",
                "Introductions to peers that nobody has registered",
            ),
            relayed: room.counter(
                "relayed",
                "Commands of RTMFP peers passed on to the edges of others",
            ),
            refused: room.counter("refused", "Peers and memberships past the limits"),
            dropped: room.counter(
                "dropped",
                "Messages that were not sent to an edge because it did not take them",
            ),
        }
    }
}
