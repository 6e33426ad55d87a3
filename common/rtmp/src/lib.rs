//! RTMP without sockets: handshake, chunk stream, messages, and the NetConnection and NetStream commands on top of them.
//!
//! | Specification | Where |
//! |---|---|
//! | Adobe RTMP 1.0, section 5.2 and the digest handshake of Flash Player 9 | [`handshake`] |
//! | section 5.3, 5.4.1, 5.4.2 | [`chunk`] |
//! | section 5.4, 7.1.7 | [`control`] |
//! | section 6 | [`message`] |
//! | section 7.1.6 | [`aggregate`] |
//! | section 7.2 | [`command`], [`status`], and the sessions [`server`] and [`client`] |
//!
//! Everything takes bytes and gives messages, events and bytes to send. Nothing here sees a socket, a clock, or a random number that
//! it was not given. What a peer can make this crate hold is bounded.

#![forbid(unsafe_code)]

pub mod aggregate;
pub mod chunk;
pub mod client;
pub mod command;
pub mod control;
pub mod handshake;
pub mod message;
pub mod server;
pub mod session;
pub mod status;
pub mod url;
