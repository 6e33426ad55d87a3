//! The cluster as one node sees it: who its origins are, which of them owns a stream, who can be reached, and how to call them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | what an operator writes, with units and defaults |
//! | [`member`] | node ids and members |
//! | [`ring`] | stream name to partition to node; pure, the same on every node |
//! | [`view`] | one immutable picture of members, ring and reachability; routing and placement rules |
//! | [`cluster`] | the handle that keeps the picture up to date and holds the channels |
//! | [`channel`] | HTTP/2 settings shared by both ends, and the limits of a message |
//! | [`local`] | the in-process transport of a standalone node |
//! | [`node_service`] | the server side of the `Node` service |
//! | [`server`] | accept loop, mutual TLS and graceful stop of a node's gRPC listener |
//! | [`identity`], [`certs`] | certificates of nodes: loading, checking, making |
//!
//! Invariants:
//! - Nodes with the same member list agree on the owner and on the order of candidates of every stream, whatever they can reach.
//! - Only members (origins) are in the ring. An edge watches, but is never placed on.
//! - One layer retries: the watch of a peer redials; a channel to a peer that is known to be down fails at once.
//!
//! This crate does not move streams: it says where they belong, the origin and the edge act on it.

#![forbid(unsafe_code)]

pub mod certs;
pub mod channel;
pub mod cluster;
pub mod config;
mod error;
pub mod identity;
mod liveness;
pub mod local;
pub mod member;
mod membership;
pub mod node_service;
pub mod ring;
pub mod server;
pub mod view;
pub mod wire;

pub use cluster::{Cluster, Local, LocalState, Role};
pub use config::ClusterConfig;
pub use error::{ChannelError, ClusterError, ConfigError};
pub use identity::Identity;
pub use member::{Member, NodeId};
pub use view::{Availability, Placement, Route, View};
