//! What playing files costs.

use std::time::Duration;

use headwater_media::file::FilePiece;
use headwater_node::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Upper bounds in seconds: from a file in memory to a store that is about to be given up.
const READ_SECONDS: [f64; 8] = [0.0005, 0.002, 0.01, 0.05, 0.2, 1.0, 2.0, 5.0];

/// `headwater_origin_vod_*`.
#[derive(Clone, Debug)]
pub(crate) struct VodMetrics {
    files: Gauge,
    memory: Gauge,
    pub(super) opened: Counter,
    pub(super) failed: Counter,
    pub(super) shared: Counter,
    pieces: Counter,
    bytes: Counter,
    seconds: Histogram,
    pub(crate) calls: Gauge,
    pub(crate) refused: Counter,
}

impl VodMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let room = metrics.room("origin");
        Self {
            files: room.gauge("vod_files", "Media files that are known, most of them open"),
            memory: room.gauge(
                "vod_memory_bytes",
                "What open media files keep in memory, about",
            ),
            opened: room.counter("vod_opened", "Media files that were opened"),
            failed: room.counter("vod_failed", "Media files that could not be played"),
            shared: room.counter(
                "vod_shared_reads",
                "Pieces that somebody else was already reading",
            ),
            pieces: room.counter("vod_pieces", "Pieces of media files that were read"),
            bytes: room.counter("vod_bytes", "Payload bytes of pieces that were read"),
            seconds: room.histogram(
                "vod_read_seconds",
                "Time from asking for a piece to having it, waiting included",
                READ_SECONDS,
            ),
            calls: room.gauge("recordings_calls", "Calls for what is stored under way"),
            refused: room.counter(
                "recordings_refused",
                "Calls for what is stored that were turned away",
            ),
        }
    }

    pub(super) fn open(&self, files: usize, memory: usize) {
        self.files.set(i64::try_from(files).unwrap_or(i64::MAX));
        self.memory.set(i64::try_from(memory).unwrap_or(i64::MAX));
    }

    pub(super) fn read(&self, piece: &FilePiece, took: Duration) {
        let frames = piece.frames.iter().chain(&piece.preface);
        let bytes: usize = frames.map(|frame| frame.payload.len()).sum();
        self.pieces.inc();
        self.bytes.inc_by(bytes as u64);
        self.seconds.observe(took.as_secs_f64());
    }
}
