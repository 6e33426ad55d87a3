//! RTMFP without sockets: packets and their encryption, the handshake, sessions, flows, and RTMP messages in them.
//!
//! | Specification | Where |
//! |---|---|
//! | RFC 7016 section 2: packets and chunks | [`wire`] |
//! | RFC 7425 section 4: the Flash profile's cryptography | [`crypto`] |
//! | RFC 7016 section 3.5.1: how sessions are opened | [`handshake`] |
//! | RFC 7016 section 3.5.2.2: times of packets | [`round_trip`] |
//! | RFC 7016 section 3.5.2: congestion; by a model of the way, or by appendix A | [`congestion`] |
//! | RFC 7016 section 3.6: flows | [`flow`] |
//! | RFC 7425 section 5: RTMP messages in flows, the NetConnection | [`message`], [`connection`] |
//! | none: groups, what is said of them and in them | [`group`] |
//! | none: what lets a session of the chunk stream speak through flows | [`translator`] |
//! | RFC 7016 sections 3.5.2 to 3.5.5: sessions that are open | [`session`] |
//! | all of it, for one socket | [`endpoint`] |
//!
//! Everything takes datagrams, the time and random bytes, and gives datagrams, events and the next time at which something is due.
//! Nothing here sees a socket, a clock, or a random number that it was not given. What a peer can make this crate hold is bounded.
//!
//! # Tried with
//! By hand, over the loopback interface, through an edge; all messages of the source came unless the table says otherwise.
//!
//! | Peer | What works |
//! |---|---|
//! | rtmfp-cpp 0917f42: `fcclient`, `tcconn` | sessions with ephemeral keys, with and without MAC, with and without packet numbers: all four |
//! | the same: `tcpublish` | publishes; watched by `tcconn`, rtmpdump 2.4 and ffmpeg 5.1 |
//! | the same: `tcconn` | plays what `tcpublish`, ffmpeg and librtmfp publish, FLV and MP4 files, recordings |
//! | the same: `tcserver`, with ephemeral keys and with static ones (`-x`), with and without `-H` and `-S` | clients of the load harness, which have static keys, open sessions, play and publish: all eight. One that wants neither MAC nor numbers is refused where one of them is required |
//! | the same: `tcrelay` | carries what ffmpeg publishes over RTMP to an RTMFP edge |
//! | librtmfp 787eb39: `TestClient` | publishes and plays (`--write`, `--syncread`), with static keys of group 2 and checksums |
//! | the same, with `--netGroup` | plays in a group what an edge feeds into it: one alone, and three that pass it on |
//!
//! | What does not work | Why |
//! |---|---|
//! | the last message of `tcpublish` may be missing | it closes its session with the last message: that message comes, or does not, with a server of its own kind, too |
//! | the last message in a file of `TestClient --syncread` may be cut | it stops when it hears that the stream is over |
//! | the last tenth of a second of a stream in a group, with `TestClient` | it pulls what it lacks only while it hears of more |
//! | librtmfp as it is, with OpenSSL 3 | it leaves the padding of the cipher on, and takes none of what is sent to it: to be built with `EVP_CIPHER_CTX_set_padding(context, 0)` |
//!
//! What peers taught beyond the specifications: librtmfp reads a time in each packet, whether the header says that there is one or not; it
//! asks for streams with transaction 0 and wants to be answered; and it takes cookies of 64 bytes and server certificates of 77 bytes only.
//!
//! Time is a [`Duration`](std::time::Duration) since a moment that the caller chooses and keeps; it never runs backwards.

#![forbid(unsafe_code)]

pub mod congestion;
pub mod connection;
pub mod crypto;
pub mod endpoint;
mod few;
pub mod flow;
pub mod group;
pub mod handshake;
pub mod message;
pub mod round_trip;
pub mod session;
pub mod translator;
pub mod wire;

#[cfg(test)]
mod random;
#[cfg(test)]
mod vectors;
