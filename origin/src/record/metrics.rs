//! What recordings count.

use headwater_node::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::recorder::failure::Failure;

/// Bounds of the times to sync, in seconds: a disk at ease, a busy one, a store across the net, one in trouble.
const SYNC_SECONDS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Bounds of the lags, in seconds of media.
const LAG_SECONDS: [f64; 8] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Bounds of the times to make a file, in seconds.
const COMPOSE_SECONDS: [f64; 8] = [0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0];

/// Why a recording failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    reason: &'static str,
}

/// The metrics of recordings, `headwater_recording_*`.
#[derive(Clone, Debug)]
pub(crate) struct RecordingMetrics {
    pub(crate) active: Gauge,
    pub(crate) frames: Counter,
    pub(crate) bytes: Counter,
    pub(crate) holes: Counter,
    pub(crate) retries: Counter,
    pub(crate) buffered: Gauge,
    pub(crate) sync_seconds: Histogram,
    pub(crate) lag_seconds: Histogram,
    pub(crate) unfinished: Gauge,
    pub(crate) composed: Counter,
    pub(crate) compose_seconds: Histogram,
    pub(crate) compose_errors: Counter,
    pub(crate) journal_syncs: Counter,
    pub(crate) journal_bytes: Counter,
    failures: Family<FailureLabels, Counter>,
}

impl RecordingMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let room = metrics.room("recording");
        Self {
            active: room.gauge("active", "Publishers that are recorded"),
            frames: room.counter("frames", "Frames stored"),
            bytes: room.counter("bytes", "Payload bytes stored"),
            holes: room.counter(
                "missing_frames",
                "Frames that a recording lacks because they never came to this origin",
            ),
            retries: room.counter(
                "retries",
                "Recordings taken up again after the store failed",
            ),
            buffered: room.gauge("buffered_bytes", "Frames that are not durable yet"),
            sync_seconds: room.histogram(
                "sync_seconds",
                "Time to make frames durable",
                SYNC_SECONDS,
            ),
            lag_seconds: room.histogram(
                "durable_lag_seconds",
                "How far what was durable had fallen behind the live stream when more became so, media time",
                LAG_SECONDS,
            ),
            unfinished: room.gauge(
                "unfinished",
                "Streams that are recorded, or whose recording is not a file yet",
            ),
            composed: room.counter("composed", "Recordings made files"),
            compose_seconds: room.histogram(
                "compose_seconds",
                "Time to make a recording a file",
                COMPOSE_SECONDS,
            ),
            compose_errors: room.counter(
                "compose_errors",
                "Attempts to make a recording a file that failed",
            ),
            journal_syncs: room.counter(
                "journal_syncs",
                "Times that the journal was made durable, for all recordings together",
            ),
            journal_bytes: room.counter("journal_bytes", "Bytes written to the journal"),
            failures: room.register(
                "failures",
                "Recordings that ended before their publisher, by reason",
                Family::default(),
            ),
        }
    }

    pub(crate) fn failed(&self, failure: &Failure) {
        let reason = failure.reason();
        self.failures.get_or_create(&FailureLabels { reason }).inc();
    }
}
