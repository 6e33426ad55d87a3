//! What is counted of shared objects.

use headwater_node::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Upper bounds of the time until an object is read: from what is in memory to a bucket under load.
const LOAD_SECONDS: [f64; 9] = [0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// The metrics of the shared objects that this origin owns, `headwater_origin_objects*`.
#[derive(Clone, Debug)]
pub(crate) struct ObjectMetrics {
    pub(super) objects: Gauge,
    pub(super) changes: Counter,
    pub(super) updates: Counter,
    pub(super) states: Counter,
    pub(super) refused: Counter,
    pub(super) duplicates: Counter,
    pub(super) loads: Counter,
    pub(super) load_seconds: Histogram,
    pub(super) load_failures: Counter,
    pub(super) adopted: Counter,
    pub(super) broken: Counter,
}

impl ObjectMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let room = metrics.room("origin");
        Self {
            objects: room.gauge("objects", "Shared objects in memory"),
            changes: room.counter("object_changes", "Changes of shared objects"),
            updates: room.counter("object_updates", "Updates sent to edges"),
            states: room.counter("object_states", "States of shared objects sent to edges"),
            refused: room.counter("object_refused", "Uses and requests that were refused"),
            duplicates: room.counter(
                "object_duplicates",
                "Requests that came again and had been applied",
            ),
            loads: room.counter("object_loads", "Shared objects looked for in the store"),
            load_seconds: room.histogram(
                "object_load_seconds",
                "Time from the first who asked for a shared object until it was read from the store",
                LOAD_SECONDS,
            ),
            load_failures: room.counter(
                "object_load_failures",
                "Shared objects that could not be loaded",
            ),
            adopted: room.counter(
                "object_adopted",
                "Shared objects taken over from the mirror of an edge",
            ),
            broken: room.counter(
                "object_broken_calls",
                "Calls of edges that were ended because of shared objects",
            ),
        }
    }
}
