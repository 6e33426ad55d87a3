//! What is counted of the store.

use headwater_node::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// The store's metrics, `headwater_origin_store_*`.
#[derive(Clone, Debug)]
pub(super) struct StoreMetrics {
    /// What could not be opened or fetched, because the store did not answer or failed.
    pub(super) errors: Counter,
    pub(super) cache_hits: Counter,
    pub(super) cache_misses: Counter,
    /// Blocks that were asked for before a reader came to them.
    pub(super) cache_ahead: Counter,
    pub(super) cache_evictions: Counter,
    pub(super) fetched_bytes: Counter,
    pub(super) cache_bytes: Gauge,
    /// Blocks that could not be written to the cache's disk, or not be read from it.
    pub(super) cache_errors: Counter,
}

impl StoreMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let room = metrics.room("origin");
        Self {
            errors: room.counter(
                "store_errors",
                "What could not be opened or fetched because the store failed",
            ),
            cache_hits: room.counter("store_cache_hits", "Blocks that were read from the cache"),
            cache_misses: room
                .counter("store_cache_misses", "Blocks that a reader had to wait for"),
            cache_ahead: room.counter(
                "store_cache_ahead",
                "Blocks that were fetched before a reader came to them",
            ),
            cache_evictions: room.counter(
                "store_cache_evictions",
                "Blocks that were deleted to make room",
            ),
            fetched_bytes: room.counter("store_fetched_bytes", "Bytes fetched into the cache"),
            cache_bytes: room.gauge("store_cache_bytes", "Bytes on the cache's disk"),
            cache_errors: room.counter(
                "store_cache_errors",
                "Blocks that the cache's disk did not take or give",
            ),
        }
    }
}
