//! RTMFP: sessions over UDP, and the NetConnections in them.
//!
//! | room | what it holds |
//! |---|---|
//! | `socket` | a UDP socket: many datagrams at a time |
//! | `driver` | one worker's endpoint: datagrams in, datagrams out, times |
//! | `client` | one session's NetConnection, and the tunnel to the session that serves it |
//! | `groups` | the groups that a client is in, by its flows |
//! | `multicast` | streams that are fed into groups |
//! | `relay` | what a client sends to another through the server |
//! | `tunnel` | a byte stream for a session, messages for flows |
//! | `keys` | threads that agree on keys |
//! | `meters` | what is counted |
//!
//! Each worker has a socket of its own for each address, and an endpoint for it. The kernel chooses the socket by the client's address;
//! a client that moves may come to another worker's, which passes its datagrams on: the number of the worker is in the id of each session.
//! Who asks for a peer may come to any worker of any edge: [`peer`](crate::peer) finds it.
//!
//! The protocol itself is in `headwater-rtmfp`, without IO. A client's NetConnection is served by the same [`session`](crate::session) as one
//! over RTMP.

mod client;
pub(crate) mod driver;
mod groups;
mod keys;
mod meters;
pub(crate) mod multicast;
pub(crate) mod relay;
mod socket;
pub(crate) mod tunnel;

pub(crate) use keys::KeyPool;
pub(crate) use meters::RtmfpMeters;
