//! Media files as closed logs: found by name, kept open, read piece by piece.
//!
//! | module | what it holds |
//! |---|---|
//! | [`VodSection`] | the `[origin.vod]` section of the configuration |
//! | `names` | which objects of the store a name may mean |
//! | `library` | the files that are open |
//! | `known` | what need not be asked for again |
//! | `flight` | several callers, one answer |
//!
//! Pieces are not kept here: edges keep them. An origin reads a piece about once per edge.

pub(crate) mod config;
pub(crate) mod flight;
pub(crate) mod formats;
mod known;
pub(crate) mod library;
pub(crate) mod metrics;
pub(crate) mod names;
mod store;

pub use config::{VirtualDirectory, VodSection};
