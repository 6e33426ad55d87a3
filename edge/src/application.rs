//! Applications on an edge: what they allow, and what their origins have a say in.
//!
//! | room | what it holds |
//! |---|---|
//! | [`policies`] | what applications allow, asked of origins once and kept |
//! | [`virtual_hosts`] | which virtual host a client means |
//! | [`access`] | what a client may read and write |
//! | [`attachment`] | the call to the origin of an application instance, which carries all its clients of this edge |
//! | [`objects`] | shared objects: mirrors, and who uses them |
//! | [`room`] | what comes over that call for the clients of one worker |
//! | [`values`] | ActionScript values as they travel between nodes |
//!
//! An application without a handler is served by the edge alone, from its policy: its clients cost no origin anything. With a handler, a
//! client is said to the origin that owns the instance, which decides whether it is let in, and is asked about whatever the handler
//! wants to be asked about. `session` has the client's side of that.

pub(crate) mod access;
pub(crate) mod attachment;
mod meters;
pub(crate) mod objects;
pub(crate) mod policies;
pub(crate) mod room;
pub(crate) mod values;
mod virtual_hosts;

pub(crate) use meters::ApplicationMeters;
pub(crate) use virtual_hosts::VirtualHosts;
