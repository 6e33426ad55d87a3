//! Media as Headwater sees it: a stream is a log of [`frame::Frame`]s.
//!
//! This crate is pure: no sockets, no clocks, no `async`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`frame`] | frames, offsets, epochs, kinds and flags |
//! | [`name`] | names of virtual hosts, applications, instances and streams |

pub mod frame;
pub mod name;
