//! The edge role: it terminates clients' connections, and holds no state that cannot be made anew.
//!
//! | room | what it holds |
//! |---|---|
//! | [`edge`] | the edge as a whole: start, addresses, drain |
//! | `listen` | sockets, TLS, accepting |
//! | `admission` | who may connect |
//! | `worker` | one thread with its own runtime: a connection never leaves it |
//! | `session` | one NetConnection, whatever carries it: connect, publish, play, call |
//! | `application` | what applications allow, and the calls to the origins of those that have a say in it |
//! | `hub` | one per watched stream: the tail of its log, in the form in which viewers get it |
//! | `fanout` | the walk over the viewers of a stream, and what slow ones lose |
//! | `player` | one NetStream that plays what is stored: playlist, pace, seek, pause, and over to live at the end |
//! | `rtmfp` | sessions over UDP |
//! | `peer` | RTMFP clients of this edge and others, introduced to each other |
//! | `recorded` | stored streams in pieces: fetched once, kept for all viewers |
//! | `upstream` | calls to origins: append what is published, read what is watched, resume both after a break |
//! | [`config`] | the edge's part of the configuration |
//!
//! # The way of a frame
//! socket, `session` (bytes to messages), `upstream::append` (numbered, kept, sent), gRPC, origin, gRPC, `upstream::read`,
//! `hub` (wire form made once), `fanout` (shared bytes to every socket). Sessions and fan-out run on the workers, one thread
//! per processor; `upstream` runs on the process's shared runtime. Nothing on that way waits for something behind it: a
//! publisher's frames wait in a bounded window, a viewer is a place in a bounded ring.
//!
//! # The hot path
//! Of a worker's time with a thousand viewers, nine tenths are the kernel's (`send`, and TCP below it), so the number of sends
//! is what counts, and after it that nothing is done twice. `fanout` says at its head how that shaped it; `loadtest/RESULTS.md`
//! has the figures. What else was measured and kept:
//! - options of sockets are set where they are inherited from, on the listener, and an acknowledgement is asked of the kernel only
//!   where no answer carries it: a client that sets up costs four writes and six reads;
//! - silent clients have no buffer: those of a worker read into one, in turn;
//! - a session is two kilobytes: rare states are boxed, and a future keeps nothing twice;
//! - a stream is kept for a second after its last viewer on a worker, because to take up a stream costs more than to let a viewer in.
#![forbid(unsafe_code)]

mod admission;
mod application;
pub mod config;
pub mod edge;
mod fanout;
mod hub;
mod listen;
mod metrics;
mod peer;
mod player;
mod recorded;
mod rtmfp;
mod session;
#[cfg(test)]
mod testing;
mod transport;
mod upstream;
mod worker;

pub use admission::SPARE_FILES;
pub use config::EdgeConfig;
pub use edge::{Edge, EdgeError, EdgeNode, Listening};
