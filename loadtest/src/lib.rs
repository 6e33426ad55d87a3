//! A load harness for RTMP servers: Headwater's own, and any other.
//!
//! It publishes synthetic or recorded streams in real time, plays them with thousands of viewers in one process, and tells what the
//! viewers saw: missing and repeated frames, stalls, time to the first frame, end-to-end latency. Every video frame carries its number
//! and the time it was sent ([`headwater_media::synthetic`]), so that nothing has to be asked of the server.
//!
//! | room | what it holds |
//! |---|---|
//! | [`client`] | one connection: sockets, TLS and RTMFP around the session core of `headwater-rtmp` |
//! | [`source`] | what is published: synthetic streams and FLV files |
//! | [`pacing`] | when a frame is due |
//! | [`publisher`], [`viewer`] | one publishing and one playing client; tests use them as they are |
//! | [`swarm`] | playing clients that cost little: thousands on one thread |
//! | [`introduce`] | RTMFP clients that ask for others |
//! | [`members`] | clients of applications: calls, and shared objects |
//! | [`measure`] | accounts: frame numbers, gaps, latency |
//! | [`floor`] | the same frames through a bare socket: what a server's figures are compared with |
//! | [`impair`] | a bad network for everything over UDP |
//! | [`cost`] | what servers use meanwhile: CPU time, memory |
//! | [`affinity`] | which processors threads run on |
//! | [`compare`] | servers side by side, as a scenario says |
//! | [`lane`] | threads with a runtime each, on which clients live |
//! | [`report`] | tables and JSON |
//! | [`cli`] | the commands of the binary |
//!
//! # The clock
//! Send times are nanoseconds of the machine's monotonic clock ([`clock`]). Latency means something only where publisher and viewers
//! run on the same machine, in one process or in several.

#![forbid(unsafe_code)]

pub mod affinity;
pub mod cli;
pub mod client;
pub mod clock;
pub mod compare;
pub mod cost;
pub mod floor;
pub mod impair;
pub mod introduce;
pub mod lane;
pub mod measure;
pub mod members;
pub mod pacing;
pub mod publisher;
pub mod report;
pub mod source;
pub mod swarm;
pub mod target;
mod udp;
pub mod viewer;
