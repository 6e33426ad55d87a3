//! A bad network between clients and a server, for everything over UDP: delay, loss, repetitions, reordering, outages, and addresses that
//! change.
//!
//! | room | what it holds |
//! |---|---|
//! | [`mod@line`] | one direction: what happens to datagrams, without sockets and clocks |
//! | [`proxy`] | the sockets, and what can be done to them while it runs |
//!
//! The server sees a socket of the proxy for each client. [`Proxy::rebind`] gives each of them another port, as a router does that forgot
//! a mapping: the client notices nothing, and what the server sends to the old port is lost.
//!
//! Random numbers come from a seed, so that one run is as bad as the next; which datagrams are hit still depends on when they come.

pub mod line;
pub mod proxy;

pub use line::{Counts, Impairment};
pub use proxy::{Proxy, ProxyOptions};
