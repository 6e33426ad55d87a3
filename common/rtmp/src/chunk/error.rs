//! What can be wrong with a chunk stream.

use thiserror::Error;

/// Why a [`ChunkReader`](super::ChunkReader) gave up. There is no way to find the next chunk again, so the connection is lost.
///
/// `offset` counts the bytes that the reader consumed before the chunk in question, from the end of the handshake.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// A header refers to an earlier one, but there is none on this chunk stream. A broken peer, or bytes that are no RTMP.
    #[error(
        "chunk stream {chunk_stream} starts with a header of type {header_type} at byte {offset}"
    )]
    NoPreviousHeader {
        /// The chunk stream.
        chunk_stream: u32,
        /// The header type, 2 or 3.
        header_type: u8,
        /// Where the chunk starts.
        offset: u64,
    },
    /// A header other than type 3 while a message on the chunk stream is incomplete.
    #[error(
        "header of type {header_type} at byte {offset} inside a message on chunk stream {chunk_stream}"
    )]
    HeaderInsideMessage {
        /// The chunk stream.
        chunk_stream: u32,
        /// The header type, 0 to 2.
        header_type: u8,
        /// Where the chunk starts.
        offset: u64,
    },
    /// A message header states more than the limit.
    #[error(
        "message of {length} bytes on chunk stream {chunk_stream} at byte {offset}, the limit is {limit}"
    )]
    MessageTooLong {
        /// The chunk stream.
        chunk_stream: u32,
        /// The stated length in bytes.
        length: u32,
        /// The limit in bytes.
        limit: u32,
        /// Where the chunk starts.
        offset: u64,
    },
    /// One chunk stream more than the limit.
    #[error("chunk stream {chunk_stream} at byte {offset} is one more than the limit of {limit}")]
    TooManyChunkStreams {
        /// The chunk stream that is too much.
        chunk_stream: u32,
        /// The limit.
        limit: usize,
        /// Where the chunk starts.
        offset: u64,
    },
    /// The incomplete messages of all chunk streams together hold more than the limit.
    #[error(
        "incomplete messages of more than {limit} bytes, the last on chunk stream {chunk_stream} at byte {offset}"
    )]
    TooManyPartialBytes {
        /// The chunk stream that crossed the limit.
        chunk_stream: u32,
        /// The limit in bytes.
        limit: usize,
        /// Bytes consumed when it was crossed.
        offset: u64,
    },
    /// A Set Chunk Size of 0, or with the first bit set.
    #[error("chunk size {size} at byte {offset} is not allowed")]
    ChunkSize {
        /// The field as it came.
        size: u32,
        /// Bytes consumed when it was read.
        offset: u64,
    },
    /// A Set Chunk Size or Abort of less than 4 bytes.
    #[error("message of type {kind} at byte {offset} is too short: {length} bytes")]
    ControlTooShort {
        /// The message type.
        kind: u8,
        /// The payload length in bytes.
        length: usize,
        /// Bytes consumed when it was read.
        offset: u64,
    },
}
