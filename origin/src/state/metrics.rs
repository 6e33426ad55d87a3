//! What is counted of the state store.

use headwater_node::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::StateError;

/// Upper bounds of the time until something is durable: a disk takes 1 to 20 ms, a bucket 20 to 200 ms.
const DURABLE_SECONDS: [f64; 11] = [
    0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0,
];

/// Upper bounds of the time until a partition is open: a folder takes some milliseconds, a bucket some tens of requests.
const OPEN_SECONDS: [f64; 9] = [0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// The metrics of the state store, `headwater_origin_state_*`.
#[derive(Clone, Debug)]
pub(crate) struct StateMetrics {
    pub(super) open: Gauge,
    pub(super) opened: Counter,
    pub(super) open_seconds: Histogram,
    pub(super) batches: Counter,
    pub(super) writes: Counter,
    pub(super) durable_seconds: Histogram,
    pub(super) unflushed_bytes: Gauge,
    pub(super) busy: Counter,
    pub(super) fenced: Counter,
    pub(super) store_errors: Counter,
    failures: Counter,
}

impl StateMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let room = metrics.room("origin");
        Self {
            open: room.gauge("state_open", "Partitions whose state is open here"),
            opened: room.counter("state_opened", "Partitions whose state was opened"),
            open_seconds: room.histogram(
                "state_open_seconds",
                "Time until a partition was open, with what had to be read for it",
                OPEN_SECONDS,
            ),
            batches: room.counter("state_batches", "Batches of rows that became durable"),
            writes: room.counter(
                "state_writes",
                "Writes to the store, each with all batches that were there",
            ),
            durable_seconds: room.histogram(
                "state_durable_seconds",
                "Time from the first batch of a write until it was durable",
                DURABLE_SECONDS,
            ),
            unflushed_bytes: room.gauge(
                "state_unflushed_bytes",
                "Bytes that were written and are not durable yet",
            ),
            busy: room.counter(
                "state_busy",
                "Batches that were refused because too much was not durable yet",
            ),
            fenced: room.counter("state_fenced", "Partitions that another origin has taken"),
            store_errors: room.counter(
                "state_store_errors",
                "Requests to the store that failed, those included that were tried again",
            ),
            failures: room.counter(
                "state_failures",
                "Partitions that could not be opened or failed for good",
            ),
        }
    }

    /// Counts what is a failure of the store, and not the way of the world.
    pub(super) fn failed(&self, error: &StateError) {
        match error {
            StateError::Fenced | StateError::Closed | StateError::Busy | StateError::TooLarge => {}
            StateError::Unavailable { .. }
            | StateError::Corrupt { .. }
            | StateError::Failed { .. } => {
                self.failures.inc();
            }
        }
    }
}
