//! Several nodes in one process, over real sockets of the loopback interface.

#![allow(clippy::unwrap_used)]

#[path = "cluster/liveness.rs"]
mod liveness;
#[path = "cluster/serving.rs"]
mod serving;
#[path = "cluster/support.rs"]
mod support;
#[path = "cluster/tls.rs"]
mod tls;
