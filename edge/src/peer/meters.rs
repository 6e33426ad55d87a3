//! What is counted of peers.

use std::sync::Arc;

use headwater_node::metrics::Room;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// The metrics of peers on one edge; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PeerMeters {
    pub(super) registered: Gauge,
    pub(super) memberships: Gauge,
    introductions: Family<Outcome, Counter>,
    relays: Family<Outcome, Counter>,
    pub(super) forwarded: Counter,
    pub(super) neighbours: Counter,
    pub(super) lost: Counter,
    pub(super) calls_broken: Counter,
    /// Behind one pointer: clones of all of these are kept for each stream.
    pub(crate) feeding: Arc<FeedingMeters>,
}

/// The metrics of streams that are fed into groups.
#[derive(Debug)]
pub(crate) struct FeedingMeters {
    pub(crate) members: Gauge,
    pub(crate) not_fed: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl PeerMeters {
    pub(crate) fn new(room: &Room) -> Self {
        Self {
            registered: room.gauge("peers", "RTMFP clients that can be introduced to others"),
            memberships: room.gauge(
                "peer_memberships",
                "Memberships of RTMFP clients in groups",
            ),
            introductions: room.register(
                "peer_introductions",
                "Times an RTMFP client asked for another, and what came of it",
                Family::default(),
            ),
            relays: room.register(
                "peer_relays",
                "Commands that RTMFP clients sent to others through the server, and what came of them",
                Family::default(),
            ),
            forwarded: room.counter(
                "peer_hellos_forwarded",
                "Times an RTMFP client was told that somebody asks for it",
            ),
            neighbours: room.counter(
                "peer_neighbours",
                "Members of groups that RTMFP clients were told of",
            ),
            lost: room.counter(
                "peer_messages_lost",
                "Messages for RTMFP clients that their worker did not take because it was behind",
            ),
            calls_broken: room.counter(
                "peer_calls_broken",
                "Times an origin that knew of this edge's peers was lost",
            ),
            feeding: Arc::new(FeedingMeters {
            members: room.gauge(
                "peer_members",
                "Members of RTMFP groups that this edge is itself, each for a stream that it feeds in",
            ),
            not_fed: room.counter(
                "peer_media_not_fed",
                "Media messages that were not fed into an RTMFP group because the worker was behind",
            ),
            }),
        }
    }

    pub(super) fn introduction(&self, outcome: &'static str) {
        self.introductions.get_or_create(&Outcome { outcome }).inc();
    }

    pub(super) fn relay(&self, outcome: &'static str) {
        self.relays.get_or_create(&Outcome { outcome }).inc();
    }
}
