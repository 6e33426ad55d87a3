//! What is counted of shared objects at an edge.

use headwater_node::metrics::Room;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// Of all instances. Clones share the numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectMeters {
    pub(crate) mirrors: Gauge,
    pub(crate) users: Gauge,
    pub(crate) requests: Counter,
    pub(crate) updates: Counter,
    pub(crate) served: Counter,
    pub(crate) refused: Counter,
    pub(crate) resyncs: Counter,
    pub(crate) lost: Counter,
    pub(crate) malformed: Counter,
    pub(crate) ignored: Counter,
}

impl ObjectMeters {
    /// Registers them.
    pub(crate) fn new(room: &Room) -> Self {
        let gauge = |name: &str, help| room.gauge(&format!("shared_object_{name}"), help);
        let counter = |name: &str, help| room.counter(&format!("shared_object_{name}"), help);
        Self {
            mirrors: gauge("mirrors", "Shared objects that clients of this edge use"),
            users: gauge("users", "Uses of shared objects by clients"),
            requests: counter("requests", "Messages with changes that went to owners"),
            updates: counter(
                "updates",
                "Updates that came from owners, one for each change",
            ),
            served: counter("served", "Messages about shared objects that clients got"),
            refused: counter("refused", "Changes and uses that were refused"),
            resyncs: counter(
                "resyncs",
                "Mirrors that had missed something and asked for it",
            ),
            lost: counter(
                "users_lost",
                "Clients closed because they were too far behind to be told all that they have to be told",
            ),
            malformed: counter("malformed", "Messages of clients that could not be read"),
            ignored: counter("ignored", "Changes by clients that do not use the object"),
        }
    }
}
