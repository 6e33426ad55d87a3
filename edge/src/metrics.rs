//! What the edge counts.

use headwater_media::name::StreamName;
use headwater_node::metrics::{Metrics, StreamFamily, StreamMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::application::ApplicationMeters;
use crate::application::objects::meters::ObjectMeters;
use crate::fanout::Tally;
use crate::fanout::play::Selected;
use crate::peer::PeerMeters;
use crate::player::Sent;
use crate::recorded::RecordedMeters;
use crate::rtmfp::RtmfpMeters;

/// The metrics of one edge; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct EdgeMetrics {
    pub(crate) connections: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) handshake_failures: Counter,
    pub(crate) sessions_ended_by_error: Counter,
    pub(crate) messages_ignored: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) publishers: Gauge,
    pub(crate) viewers: Gauge,
    pub(crate) players: Gauge,
    pub(crate) hubs: Gauge,
    pub(crate) frames_published: Counter,
    pub(crate) frames_lost: Counter,
    pub(crate) frames_not_durable: Counter,
    pub(crate) frames_read: Counter,
    pub(crate) frames_sent: Counter,
    pub(crate) sends: Counter,
    pub(crate) frames_dropped: Counter,
    pub(crate) viewer_jumps: Counter,
    pub(crate) viewers_stuck: Counter,
    pub(crate) upstream_gaps: Counter,
    pub(crate) resumptions: Counter,
    pub(crate) stream_viewers: StreamFamily<Gauge>,
    pub(crate) recorded: RecordedMeters,
    pub(crate) peers: PeerMeters,
    pub(crate) rtmfp: RtmfpMeters,
    pub(crate) applications: ApplicationMeters,
    pub(crate) objects: ObjectMeters,
}

impl EdgeMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let room = metrics.room("edge");
        Self {
            connections: room.gauge("connections", "Client connections that are open"),
            accepted: room.counter("connections_accepted", "Client connections accepted"),
            refused: room.counter(
                "connections_refused",
                "Client connections closed at once because of the limit",
            ),
            handshake_failures: room.counter(
                "handshake_failures",
                "Clients that failed before they were connected",
            ),
            sessions_ended_by_error: room.counter(
                "session_errors",
                "Sessions ended because the client broke the protocol or fell silent",
            ),
            messages_ignored: room.counter(
                "messages_ignored",
                "Messages of clients that had no meaning where they came, media of no publisher for one",
            ),
            bytes_received: room.counter("received_bytes", "Bytes received from clients"),
            bytes_sent: room.counter("sent_bytes", "Bytes sent to clients"),
            publishers: room.gauge("publishers", "Streams published through this edge"),
            viewers: room.gauge("viewers", "Streams played by clients of this edge"),
            players: room.gauge(
                "players",
                "Players of recordings and files: clients that are not at the live end of a stream, or have a playlist",
            ),
            hubs: room.gauge("hubs", "Streams read from origins"),
            frames_published: room.counter("frames_published", "Frames taken from publishers"),
            frames_lost: room.counter(
                "frames_lost",
                "Frames of publishers that left the window before an origin took them",
            ),
            frames_not_durable: room.counter(
                "frames_not_durable",
                "Frames of recorded streams that left the window before they were durable: lost if their origin died then",
            ),
            frames_read: room.counter("frames_read", "Frames read from origins"),
            frames_sent: room.counter("frames_sent", "Frames sent to viewers"),
            sends: room.counter(
                "sends",
                "Writes to the sockets of clients: what fan-out costs; frames for each tell how well they go together",
            ),
            frames_dropped: room.counter("frames_dropped", "Frames that slow viewers did not get"),
            viewer_jumps: room.counter(
                "viewer_jumps",
                "Times a slow viewer went on at a later key frame",
            ),
            viewers_stuck: room.counter(
                "viewers_stuck",
                "Viewers closed because their socket took nothing",
            ),
            upstream_gaps: room.counter(
                "upstream_gaps",
                "Times frames were lost between an origin and this edge",
            ),
            resumptions: room.counter(
                "publish_resumptions",
                "Times a published stream went on at an origin after a break",
            ),
            stream_viewers: room
                .stream_family("stream_viewers", "Viewers of a stream on this edge"),
            recorded: RecordedMeters::new(&room),
            peers: PeerMeters::new(&room),
            rtmfp: RtmfpMeters::new(&room),
            applications: ApplicationMeters::new(&room),
            objects: ObjectMeters::new(&room),
        }
    }

    /// Counts the viewers of a stream.
    pub(crate) fn hub(&self, stream: &StreamName) -> HubMeter {
        HubMeter {
            viewers: self.viewers.clone(),
            of_stream: self.stream_viewers.stream(&stream.to_string()),
        }
    }

    pub(crate) fn connection(&self) -> ConnectionMeters {
        ConnectionMeters {
            bytes_sent: self.bytes_sent.clone(),
            frames_sent: self.frames_sent.clone(),
            sends: self.sends.clone(),
            frames_dropped: self.frames_dropped.clone(),
            viewer_jumps: self.viewer_jumps.clone(),
            players: self.players.clone(),
        }
    }
}

/// The viewers of one stream as they are counted.
pub(crate) struct HubMeter {
    viewers: Gauge,
    of_stream: StreamMetric<Gauge>,
}

impl HubMeter {
    pub(crate) fn joined(&self) {
        self.viewers.inc();
        self.of_stream.inc();
    }

    pub(crate) fn left(&self) {
        self.viewers.dec();
        self.of_stream.dec();
    }
}

/// What a connection's writing side counts.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionMeters {
    bytes_sent: Counter,
    frames_sent: Counter,
    sends: Counter,
    frames_dropped: Counter,
    viewer_jumps: Counter,
    players: Gauge,
}

/// A player as it is counted.
pub(crate) struct PlayerCount(Gauge);

impl Drop for PlayerCount {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ConnectionMeters {
    pub(crate) fn player(&self) -> PlayerCount {
        self.players.inc();
        PlayerCount(self.players.clone())
    }

    pub(crate) fn recorded(&self, sent: &Sent) {
        self.frames_sent.inc_by(sent.frames);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_sent.inc_by(bytes as u64);
        self.sends.inc();
    }

    pub(crate) fn count(&self, tally: &Tally) {
        self.bytes_sent.inc_by(tally.bytes);
        self.frames_sent.inc_by(tally.frames);
        self.sends.inc_by(tally.sends);
    }

    pub(crate) fn dropped(&self, frames: u64) {
        self.frames_dropped.inc_by(frames);
    }

    pub(crate) fn played(&self, selected: &Selected) {
        self.frames_sent.inc_by(selected.frames);
        if selected.dropped > 0 {
            self.frames_dropped.inc_by(selected.dropped);
        }
        if selected.jumps > 0 {
            self.viewer_jumps.inc_by(selected.jumps);
        }
    }
}
