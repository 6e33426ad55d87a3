//! What every process of a Headwater cluster needs, whatever its role.
//!
//! | module | what it gives |
//! |---|---|
//! | [`config`] | layered, strict configuration: defaults, file, environment, flags |
//! | [`telemetry`] | log lines and traces; trace context across gRPC |
//! | [`metrics`] | the Prometheus registry, families bounded per stream |
//! | [`admin`] | the HTTP listener for health, readiness, metrics and the effective configuration |
//! | [`readiness`] | named checks that decide whether the node takes traffic |
//! | [`tls`] | certificates and keys for listeners, reloaded while running |
//! | [`shutdown`] | signals, draining, the grace period |
//! | [`limits`] | the number of files that the process may open |
//! | [`address`] | listen addresses and bound sockets |
//!
//! The crate knows nothing of streams, origins or edges; it may be used by any process, including tools.
#![forbid(unsafe_code)]

// The `section!` and `choice!` macros name this crate by its outside name, also from within.
extern crate self as headwater_node;

pub mod address;
pub mod admin;
pub mod config;
pub mod limits;
pub mod metrics;
pub mod readiness;
pub mod shutdown;
pub mod telemetry;
pub mod tls;

/// Names that the macros of this crate expand to; not for direct use.
#[doc(hidden)]
pub mod __private {
    pub use serde;
    pub use toml;
}

/// The version of the program, as in its Cargo manifest.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
