//! RTMFP without sockets: packets and their encryption, the handshake, sessions, flows, and RTMP messages in them.
//!
//! | Specification | Where |
//! |---|---|
//! | RFC 7016 section 2: packets and chunks | [`wire`] |
//!
//! Everything takes datagrams, the time and random bytes, and gives datagrams, events and the next time at which something is due.
//! Nothing here sees a socket, a clock, or a random number that it was not given. What a peer can make this crate hold is bounded.

#![forbid(unsafe_code)]

pub mod wire;
