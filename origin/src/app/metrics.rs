//! What is counted of applications.

use headwater_node::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Upper bounds of how long a handler takes for an answer, in seconds: from a program beside us to one that asks somebody else.
const ASK_SECONDS: [f64; 11] = [
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// The metrics of applications, `headwater_applications_*`.
#[derive(Clone, Debug)]
pub(crate) struct ApplicationMetrics {
    pub(crate) broken: Gauge,
    pub(crate) changes: Counter,
    pub(crate) store_errors: Counter,
    pub(crate) instances: Gauge,
    pub(crate) edges: Gauge,
    pub(crate) clients: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) moves: Counter,
    pub(crate) relays: Counter,
    pub(crate) refused: Counter,
    pub(crate) edges_cut: Counter,
    pub(crate) asks: Counter,
    pub(crate) ask_failures: Counter,
    pub(crate) ask_seconds: Histogram,
    pub(crate) calls_in: Counter,
    pub(crate) calls_out: Counter,
    pub(crate) lost_calls: Counter,
    pub(crate) handlers: Gauge,
    pub(crate) handler_failures: Counter,
    pub(crate) handler_nonsense: Counter,
    pub(crate) breakers_open: Gauge,
}

impl ApplicationMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let room = metrics.room("applications");
        Self {
            broken: room.gauge(
                "broken",
                "Applications in use whose app.toml cannot be used",
            ),
            changes: room.counter("changes", "Changes of an app.toml that were taken over"),
            store_errors: room.counter("store_errors", "Times that an app.toml could not be read"),
            instances: room.gauge("instances", "Application instances hosted"),
            edges: room.gauge("edges", "Calls of edges for their clients of an instance"),
            clients: room.gauge("clients", "Clients in instances, pending ones included"),
            waiting: room.gauge("waiting", "Questions to handlers without an answer yet"),
            moves: room.counter("moves", "Calls and instances sent to another origin"),
            relays: room.counter(
                "relays",
                "Calls passed on for edges that could not reach the owner",
            ),
            refused: room.counter("refused", "Clients and calls turned away by a limit"),
            edges_cut: room.counter(
                "edges_cut",
                "Calls of edges that were ended because they did not take what they were told",
            ),
            asks: room.counter("asks", "Questions to handlers"),
            ask_failures: room.counter(
                "ask_failures",
                "Questions that handlers did not answer, or not in time",
            ),
            ask_seconds: room.histogram("ask_seconds", "Time of an answer", ASK_SECONDS),
            calls_in: room.counter("calls_in", "Calls of clients"),
            calls_out: room.counter("calls_out", "Calls to clients, one for each edge"),
            lost_calls: room.counter(
                "lost_calls",
                "Messages to clients that were lost while their edge was away",
            ),
            handlers: room.gauge("handlers", "Handlers that are connected"),
            handler_failures: room.counter(
                "handler_failures",
                "Calls to handlers that failed, and answers that did not come",
            ),
            handler_nonsense: room.counter(
                "handler_nonsense",
                "Messages of handlers that make no sense",
            ),
            breakers_open: room.gauge(
                "breakers_open",
                "Instances whose handler is left alone because it failed",
            ),
        }
    }
}
