//! RTMFP without sockets: packets and their encryption, the handshake, sessions, flows, and RTMP messages in them.
//!
//! | Specification | Where |
//! |---|---|
//! | RFC 7016 section 2: packets and chunks | [`wire`] |
//! | RFC 7425 section 4: the Flash profile's cryptography | [`crypto`] |
//! | RFC 7016 section 3.5.1: how sessions are opened | [`handshake`] |
//! | RFC 7016 section 3.5.2.2: times of packets | [`round_trip`] |
//! | RFC 7016 section 3.5.2 and appendix A: congestion | [`congestion`] |
//! | RFC 7016 section 3.6: flows | [`flow`] |
//! | RFC 7425 section 5: RTMP messages in flows, the NetConnection | [`message`], [`connection`] |
//! | RFC 7016 sections 3.5.2 to 3.5.5: sessions that are open | [`session`] |
//! | all of it, for one socket | [`endpoint`] |
//!
//! Everything takes datagrams, the time and random bytes, and gives datagrams, events and the next time at which something is due.
//! Nothing here sees a socket, a clock, or a random number that it was not given. What a peer can make this crate hold is bounded.
//!
//! Time is a [`Duration`](std::time::Duration) since a moment that the caller chooses and keeps; it never runs backwards.

#![forbid(unsafe_code)]

pub mod congestion;
pub mod connection;
pub mod crypto;
pub mod endpoint;
pub mod flow;
pub mod handshake;
pub mod message;
pub mod round_trip;
pub mod session;
pub mod wire;

#[cfg(test)]
mod random;
#[cfg(test)]
mod vectors;
