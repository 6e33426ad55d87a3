//! What the origin counts.

use headwater_media::name::StreamName;
use headwater_node::metrics::{Metrics, StreamFamily, StreamMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::log::Counted;

/// The origin's metrics, `headwater_origin_*`.
#[derive(Clone, Debug)]
pub(crate) struct OriginMetrics {
    pub(crate) streams: Gauge,
    pub(crate) publishers: Gauge,
    pub(crate) readers: Gauge,
    pub(crate) window_bytes: Gauge,
    pub(crate) frames_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) frames_out: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) gaps: Counter,
    pub(crate) moves: Counter,
    pub(crate) relays: Counter,
    pub(crate) refused: Counter,
    epochs: Counter,
    takeovers: Counter,
    handovers: Counter,
    handover_timeouts: Counter,
    stream_bytes_in: StreamFamily<Counter>,
    stream_bytes_out: StreamFamily<Counter>,
    stream_readers: StreamFamily<Gauge>,
}

/// The metrics of one stream; its labels go when this is dropped.
#[derive(Debug)]
pub(crate) struct StreamMetrics {
    pub(crate) bytes_in: StreamMetric<Counter>,
    pub(crate) bytes_out: StreamMetric<Counter>,
    pub(crate) readers: StreamMetric<Gauge>,
}

impl OriginMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let room = metrics.room("origin");
        Self {
            streams: room.gauge("streams", "Logs of live streams in memory"),
            publishers: room.gauge("publishers", "Publishers attached"),
            readers: room.gauge("readers", "Reads open"),
            window_bytes: room.gauge("window_bytes", "Frames of live streams in memory"),
            frames_in: room.counter("frames_in", "Frames taken from publishers"),
            bytes_in: room.counter("bytes_in", "Payload bytes taken from publishers"),
            frames_out: room.counter("frames_out", "Frames given to readers"),
            bytes_out: room.counter("bytes_out", "Payload bytes given to readers"),
            gaps: room.counter(
                "gaps",
                "Readers that lost frames because they were no longer held",
            ),
            moves: room.counter("moves", "Calls and readers sent to another origin"),
            relays: room.counter(
                "relays",
                "Calls passed on for callers that could not reach the owner",
            ),
            refused: room.counter("refused", "Opens that were turned away"),
            epochs: room.counter("epochs", "Publishers that were given an epoch"),
            takeovers: room.counter(
                "takeovers",
                "Silent publishers that lost their name to another one",
            ),
            handovers: room.counter("handovers", "Publishers that moved to another origin"),
            handover_timeouts: room
                .counter("handover_timeouts", "Publishers that did not move in time"),
            stream_bytes_in: room
                .stream_family("stream_bytes_in", "Payload bytes taken, by stream"),
            stream_bytes_out: room
                .stream_family("stream_bytes_out", "Payload bytes given, by stream"),
            stream_readers: room.stream_family("stream_readers", "Reads open, by stream"),
        }
    }

    pub(crate) fn stream(&self, name: &StreamName) -> StreamMetrics {
        let name = name.to_string();
        StreamMetrics {
            bytes_in: self.stream_bytes_in.stream(&name),
            bytes_out: self.stream_bytes_out.stream(&name),
            readers: self.stream_readers.stream(&name),
        }
    }

    pub(crate) fn count(&self, counted: Counted) {
        let counter = match counted {
            Counted::Epoch => &self.epochs,
            Counted::Takeover => &self.takeovers,
            Counted::HandedOver => &self.handovers,
            Counted::HandoverTimedOut => &self.handover_timeouts,
        };
        counter.inc();
    }
}
