//! RTMFP peers and groups: which edge holds a peer, and who is in a group.
//!
//! | module | what it holds |
//! |---|---|
//! | `registry` | peers and groups, without IO |
//! | `service` | the `Peers` service over it |
//! | `metrics` | what is counted |
//!
//! Nothing of it is stored. What an edge says is true as long as its call lasts; edges say it all again to an owner that comes after
//! this one. Media and posts never pass through here.

pub(crate) mod metrics;
mod registry;
pub(crate) mod service;
