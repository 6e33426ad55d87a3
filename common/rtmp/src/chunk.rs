//! The chunk stream: messages cut into chunks that interleave on one byte stream.
//!
//! Adobe RTMP 1.0, section 5.3 (chunking) and sections 5.4.1 and 5.4.2 (Set Chunk Size and Abort, which [`ChunkReader`] obeys
//! itself). [`ChunkReader`] puts messages together, [`ChunkWriter`] cuts them up for one receiver, and [`shared_wire_form`] makes
//! bytes once that many receivers share.
//!
//! No sockets, no clock, no handshake, and no opinion about what a payload means.

mod error;
mod header;
mod reader;
mod writer;

pub use error::ChunkError;
pub use header::{HeaderBytes, MAX_HEADER_LENGTH, header};
pub use reader::{ChunkReader, ReaderLimits};
pub use writer::{
    ChunkWriter, SharedWire, put_shared_wire_form, shared_wire_form, shared_wire_length,
};

/// The chunk size of both directions until a Set Chunk Size message says otherwise, in bytes (section 5.4.1).
pub const DEFAULT_CHUNK_SIZE: u32 = 128;

/// The largest chunk size that can be announced, in bytes: the first bit of the field must be zero (section 5.4.1).
pub const MAX_CHUNK_SIZE: u32 = 0x7FFF_FFFF;

/// The smallest chunk stream ID that a chunk can have (section 5.3.1.1).
pub const MIN_CHUNK_STREAM: u32 = 2;

/// The largest chunk stream ID, in the three-byte form (section 5.3.1.1).
pub const MAX_CHUNK_STREAM: u32 = 65_599;

/// The chunk stream of protocol control messages (section 5.4).
pub const CONTROL_CHUNK_STREAM: u32 = 2;

/// The value of the 24-bit timestamp field that says that an extended timestamp follows (section 5.3.1.3). A timestamp from here on
/// needs the extended field.
pub const EXTENDED_TIMESTAMP: u32 = 0x00FF_FFFF;

#[cfg(test)]
mod tests;
