//! What is counted of stored streams.

use std::time::Duration;

use headwater_node::metrics::Room;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::model::RecordedError;

/// Upper bounds of the time that a fetch takes, in seconds: from memory of a near origin to a store that has to be asked twice.
const BUCKETS: [f64; 9] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

/// The metrics of stored streams on one edge; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct RecordedMeters {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) cache_bytes: Gauge,
    pub(super) fetched_bytes: Counter,
    fetch_seconds: Histogram,
    describes: Counter,
    errors: Family<Reason, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl RecordedMeters {
    pub(crate) fn new(room: &Room) -> Self {
        Self {
            hits: room.counter(
                "recorded_hits",
                "Pieces of recordings and files that were found in the cache",
            ),
            misses: room.counter(
                "recorded_misses",
                "Pieces of recordings and files that were not, those that somebody else had asked for already included",
            ),
            cache_bytes: room.gauge(
                "recorded_cache_bytes",
                "Bytes of recordings and files in the cache",
            ),
            fetched_bytes: room.counter(
                "recorded_fetched_bytes",
                "Bytes of recordings and files fetched from origins",
            ),
            fetch_seconds: room.histogram(
                "recorded_fetch_seconds",
                "Time until an origin has given a piece, tries that failed included",
                BUCKETS,
            ),
            describes: room.counter(
                "recorded_describes",
                "Questions to origins what is stored under a name",
            ),
            errors: room.register(
                "recorded_errors",
                "Questions about recordings and files that were answered with an error",
                Family::default(),
            ),
        }
    }

    pub(super) fn fetched(&self, bytes: usize, took: Duration) {
        self.fetched_bytes.inc_by(bytes as u64);
        self.fetch_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn described(&self) {
        self.describes.inc();
    }

    pub(super) fn failed(&self, error: &RecordedError) {
        let reason = error.reason();
        self.errors.get_or_create(&Reason { reason }).inc();
    }
}
