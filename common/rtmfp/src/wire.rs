//! What is in a packet once it is decrypted: RFC 7016 section 2.
//!
//! | module | what it holds |
//! |---|---|
//! | [`field`] | integers, variable-length integers, options |
//! | [`address`] | addresses with their origin |
//! | [`packet`] | the header of a packet: its mode and its timestamps |
//! | [`chunk`] | what follows it: kinds, how to read them and how to write them |
//! | [`startup`] | the chunks of the handshake |
//! | [`session`] | pings, and the end of a session |
//! | [`fragment`] | packets in pieces, and how they come together |
//! | [`user_data`] | fragments of messages in flows |
//! | [`acknowledgement`] | what has come of a flow |
//! | [`flow_control`] | buffer probes and exceptions |
//!
//! All integers are big endian; nothing is aligned. A chunk that is malformed is skipped by itself, a packet never is for its sake.

pub mod acknowledgement;
pub mod address;
pub mod chunk;
pub mod field;
pub mod flow_control;
pub mod fragment;
pub mod packet;
pub mod session;
pub mod startup;
pub mod user_data;

pub use acknowledgement::Acknowledgement;
pub use address::{Address, Origin};
pub use chunk::{Chunk, ChunkKind, Chunks};
pub use field::{Field, Fields, Malformed};
pub use flow_control::{BufferProbe, FlowException};
pub use packet::{Header, Mode, Packet};
pub use user_data::{Part, Startup, StartupFault, UserData};
