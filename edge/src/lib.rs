//! The edge role: it terminates clients' connections, and holds no state that cannot be made anew.
//!
//! | room | what it holds |
//! |---|---|
//! | [`edge`] | the edge as a whole: start, addresses, drain |
//! | `listen` | sockets, TLS, accepting |
//! | `admission` | who may connect |
//! | `worker` | one thread with its own runtime: a connection never leaves it |
//! | `session` | one NetConnection, whatever carries it: connect, publish, play |
//! | `hub` | one per watched stream: the tail of its log, in the form in which viewers get it |
//! | `fanout` | the walk over the viewers of a stream, and what slow ones lose |
//! | `upstream` | calls to origins: append what is published, read what is watched, resume both after a break |
//! | [`config`] | the edge's part of the configuration |
//!
//! # The way of a frame
//! socket, `session` (bytes to messages), `upstream::append` (numbered, kept, sent), gRPC, origin, gRPC, `upstream::read`,
//! `hub` (wire form made once), `fanout` (shared bytes to every socket). Sessions and fan-out run on the workers, one thread
//! per processor; `upstream` runs on the process's shared runtime. Nothing on that way waits for something behind it: a
//! publisher's frames wait in a bounded window, a viewer is a place in a bounded ring.
#![forbid(unsafe_code)]

mod admission;
pub mod config;
pub mod edge;
mod fanout;
mod hub;
mod listen;
mod metrics;
mod session;
mod transport;
mod upstream;
mod worker;

pub use admission::SPARE_FILES;
pub use config::EdgeConfig;
pub use edge::{Edge, EdgeError, EdgeNode, Listening};
