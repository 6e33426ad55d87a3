//! The `[origin.applications]` section of a node's configuration.

use std::time::Duration;

headwater_node::section! {
    /// Applications: folders with an `app.toml` in the store, and the instances that this origin hosts.
    pub struct ApplicationsSection {
        /// How often it is looked whether an `app.toml` has changed, milliseconds. Each look costs one small request for each application
        /// in use; edges are told of a change at once.
        pub reload_ms: u64 = 2_000 => 50..=3_600_000,
        /// The most instances at a time; edges that come for further ones are refused.
        pub max_instances: usize = 100_000 => 1..=10_000_000,
        /// How long the clients of an edge stay in an instance when the edge's call broke, milliseconds. An edge that lives is back within
        /// it; past it the handler is told that they left.
        pub edge_grace_ms: u64 = 5_000 => 0..=300_000,
        /// How long an instance that goes to another origin waits for answers of its handler, and then for its edges to leave,
        /// milliseconds.
        pub handover_ms: u64 = 2_000 => 10..=60_000,
    }
}

impl ApplicationsSection {
    pub(crate) fn reload(&self) -> Duration {
        Duration::from_millis(self.reload_ms)
    }

    pub(crate) fn edge_grace(&self) -> Duration {
        Duration::from_millis(self.edge_grace_ms)
    }

    pub(crate) fn handover(&self) -> Duration {
        Duration::from_millis(self.handover_ms)
    }
}
