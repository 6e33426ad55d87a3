//! The origin role: the logs of live streams, and the gRPC services over them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`AdminSlot`] | what operators do with what is stored, over HTTP |
//! | `app` | applications: what they allow, their instances, and the programs that decide in them |
//! | [`ApplicationsSection`] | the `[origin.applications]` section |
//! | `log` | the live log of one stream, a pure state machine, and the table of all logs |
//! | `peers` | which edge holds an RTMFP peer, and who is in a group |
//! | `record` | recordings: from a live log into the archive, and then a file |
//! | [`RecordingSection`] | the `[origin.recording]` section |
//! | `rpc` | the `StreamLog` service: appending, reading, relaying |
//! | `vod` | media files as closed logs: names, the files that are open |
//! | [`OriginSection`] | the `[origin]` section of the configuration |
//! | `state` | the state store: rows of applications, one database for each partition |
//! | [`StateSection`] | the `[origin.state]` section |
//! | `store` | the folder or bucket of recordings and media files |
//! | [`StorageSection`] | the `[origin.storage]` section |
//! | [`Origin`] | all of it, for the process that serves it |
//!
//! What an origin promises:
//! - a publisher's frames get to every reader once and in order, or the reader is told of a gap;
//! - a slow reader delays nobody and costs no more memory than a fast one, beyond two messages;
//! - a stream that goes to another origin, because that came back or this one drains, loses nothing on the way;
//! - what it says is durable of a recorded stream is in the recording, once, whoever dies;
//! - a client of an application instance stays connected when its handler, its edge's call or this origin is lost, and what it asks has one
//!   answer.

#![forbid(unsafe_code)]

mod admin;
mod app;
mod config;
mod log;
mod metrics;
mod origin;
mod peers;
mod record;
mod rpc;
mod state;
mod store;
mod vod;

pub use admin::AdminSlot;
pub use app::ApplicationsSection;
pub use config::OriginSection;
pub use origin::{Origin, Remaining};
pub use record::RecordingSection;
pub use state::StateSection;
pub use store::{StorageSection, StoreError};
pub use vod::{VirtualDirectory, VodSection};
