//! What is counted of applications.

use std::time::Duration;

use headwater_node::metrics::Room;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Upper bounds of the time until an instance is attached again, in seconds: a call that broke, an origin that was killed, one that hung.
const BUCKETS: [f64; 8] = [0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 5.0, 15.0];

/// The metrics of applications on one edge; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ApplicationMeters {
    pub(super) describes: Counter,
    pub(super) describes_failed: Counter,
    pub(super) attachments: Gauge,
    pub(super) clients: Gauge,
    pub(super) broken: Counter,
    pub(super) reattach_seconds: Histogram,
    pub(super) broadcasts: Counter,
    calls: Family<Outcome, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl ApplicationMeters {
    pub(crate) fn new(room: &Room) -> Self {
        Self {
            describes: room.counter(
                "application_describes",
                "Questions to origins what an application allows",
            ),
            describes_failed: room.counter(
                "application_describes_failed",
                "Questions what an application allows that no origin answered",
            ),
            attachments: room.gauge(
                "application_attachments",
                "Application instances that this edge is attached to, or tries to be",
            ),
            clients: room.gauge(
                "application_clients",
                "Clients that are said to the origin of their application instance",
            ),
            broken: room.counter(
                "application_attachments_broken",
                "Times the call to the origin of an application instance broke",
            ),
            reattach_seconds: room.histogram(
                "application_reattach_seconds",
                "Time from such a break until the instance was attached again",
                BUCKETS,
            ),
            broadcasts: room.counter(
                "application_broadcasts",
                "Calls of an application to several clients of this edge at once",
            ),
            calls: room.register(
                "application_calls",
                "Calls of clients that were passed on to their application, by outcome: `answered` and `failed` by it, \
                 `unanswered` where none was wanted, `lost` with its origin, `refused` because there was no way to it",
                Family::default(),
            ),
        }
    }

    pub(super) fn call(&self, outcome: &'static str) {
        self.calls.get_or_create(&Outcome { outcome }).inc();
    }

    pub(super) fn attached_again(&self, after: Duration) {
        self.reattach_seconds.observe(after.as_secs_f64());
    }
}
