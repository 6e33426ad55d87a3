//! What is counted of RTMFP, beside what is counted of all clients.

use headwater_node::metrics::Room;
use headwater_rtmfp::endpoint::{Dropped, Endpoint};
use headwater_rtmfp::{flow, handshake};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rand::rngs::ThreadRng;

/// The metrics of RTMFP on one edge; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct RtmfpMeters {
    pub(super) sessions: Gauge,
    /// Messages that were not sent because one that they build on was given up.
    pub(super) left_out: Counter,
    handshakes: Family<Outcome, Counter>,
    dropped: Family<Outcome, Counter>,
    fragments: Family<Outcome, Counter>,
    given_up: Counter,
    timeouts: Counter,
    flows_refused: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// What an endpoint has counted, as far as the metrics know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    handshakes: handshake::Counters,
    flows: flow::Counters,
    dropped: Dropped,
}

impl Counted {
    pub(super) fn of(endpoint: &Endpoint<ThreadRng>) -> Self {
        Self {
            handshakes: endpoint.counters(),
            flows: endpoint.flow_counters(),
            dropped: endpoint.dropped(),
        }
    }

    /// By outcome.
    fn of_handshakes(&self) -> [(&'static str, u64); 12] {
        let counted = &self.handshakes;
        [
            ("hello", counted.hellos),
            ("hello_limited", counted.hellos_limited),
            ("lookup", counted.lookups),
            ("lookup_limited", counted.lookups_limited),
            ("malformed", counted.malformed),
            ("cookie_forged", counted.cookies_forged),
            ("cookie_expired", counted.cookies_expired),
            ("cookie_moved", counted.cookies_moved),
            ("keying", counted.keyings),
            ("keying_repeated", counted.keyings_repeated),
            ("keying_limited", counted.keyings_limited),
            ("keying_refused", counted.keyings_refused),
        ]
    }

    fn of_fragments(&self) -> [(&'static str, u64); 6] {
        let counted = &self.flows;
        [
            ("sent", counted.sent),
            ("sent_again", counted.sent_again),
            ("lost", counted.lost),
            ("received", counted.received),
            ("no_room", counted.no_room),
            ("malformed", counted.malformed),
        ]
    }

    fn of_dropped(&self) -> [(&'static str, u64); 4] {
        let counted = &self.dropped;
        [
            ("unknown_session", counted.unknown),
            ("startup", counted.startup),
            ("session", counted.session),
            ("no_room", counted.sessions),
        ]
    }
}

impl RtmfpMeters {
    pub(crate) fn new(room: &Room) -> Self {
        Self {
            sessions: room.gauge("rtmfp_sessions", "RTMFP sessions that are open"),
            left_out: room.counter(
                "rtmfp_pictures_left_out",
                "Pictures that RTMFP viewers did not get because one that they build on was too late",
            ),
            handshakes: room.register(
                "rtmfp_handshakes",
                "What came to open RTMFP sessions, and what became of it",
                Family::default(),
            ),
            dropped: room.register(
                "rtmfp_dropped",
                "RTMFP datagrams that were dropped, and sessions that found no room",
                Family::default(),
            ),
            fragments: room.register(
                "rtmfp_fragments",
                "Fragments of messages in RTMFP flows: those sent and received, and what went wrong with some",
                Family::default(),
            ),
            given_up: room.counter(
                "rtmfp_messages_given_up",
                "Messages to RTMFP clients that were given up because they were too late, or not wanted",
            ),
            timeouts: room.counter(
                "rtmfp_timeouts",
                "Times an RTMFP client acknowledged nothing of what was under way to it",
            ),
            flows_refused: room.counter(
                "rtmfp_flows_refused",
                "Flows of RTMFP clients that were refused because they had too many",
            ),
        }
    }

    /// Adds what has happened since `before`, which is brought up to date.
    pub(super) fn count(&self, before: &mut Counted, now: Counted) {
        if *before == now {
            return;
        }
        let before = std::mem::replace(before, now);
        add(
            &self.handshakes,
            &before.of_handshakes(),
            &now.of_handshakes(),
        );
        add(&self.fragments, &before.of_fragments(), &now.of_fragments());
        add(&self.dropped, &before.of_dropped(), &now.of_dropped());
        let (before, now) = (before.flows, now.flows);
        self.given_up.inc_by(now.abandoned - before.abandoned);
        self.timeouts.inc_by(now.timeouts - before.timeouts);
        self.flows_refused.inc_by(now.refused - before.refused);
    }
}

/// Adds what each outcome has grown by.
fn add(
    family: &Family<Outcome, Counter>,
    before: &[(&'static str, u64)],
    now: &[(&'static str, u64)],
) {
    for ((outcome, before), (_, now)) in before.iter().zip(now) {
        if now > before {
            family
                .get_or_create(&Outcome { outcome })
                .inc_by(now - before);
        }
    }
}
