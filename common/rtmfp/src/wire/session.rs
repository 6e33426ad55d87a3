//! The chunks that a session as a whole exchanges: RFC 7016 sections 2.3.9, 2.3.10, 2.3.17 and 2.3.18.

use super::chunk::{ChunkKind, Payload};

/// Ping: to be answered at once, with the same message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping<'a> {
    /// What the answer has to repeat; only who sent it knows what it means. Empty in a keep-alive.
    pub message: &'a [u8],
}

impl Payload for Ping<'_> {
    const KIND: ChunkKind = ChunkKind::PING;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.message);
    }
}

/// Ping Reply. Some peers answer without the message (librtmfp and MonaServer2 do).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingReply<'a> {
    /// The message of the Ping.
    pub message: &'a [u8],
}

impl Payload for PingReply<'_> {
    const KIND: ChunkKind = ChunkKind::PING_REPLY;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.message);
    }
}

/// Session Close Request: the session is over for its sender, who waits for the [`CloseAcknowledgement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseRequest;

impl Payload for CloseRequest {
    const KIND: ChunkKind = ChunkKind::CLOSE_REQUEST;

    fn put(&self, _out: &mut Vec<u8>) {}
}

/// Session Close Acknowledgement: the session is over. Sent unasked, it ends a session at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseAcknowledgement;

impl Payload for CloseAcknowledgement {
    const KIND: ChunkKind = ChunkKind::CLOSE_ACKNOWLEDGEMENT;

    fn put(&self, _out: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use super::super::chunk::append;
    use super::*;

    #[test]
    fn session_chunks_are_written_with_their_codes() {
        let mut out = Vec::new();
        append(&Ping { message: b"ab" }, &mut out).unwrap();
        append(&PingReply { message: b"ab" }, &mut out).unwrap();
        append(&CloseRequest, &mut out).unwrap();
        append(&CloseAcknowledgement, &mut out).unwrap();
        let expected = b"\x01\x00\x02ab\x41\x00\x02ab\x0c\x00\x00\x4c\x00\x00";
        assert_eq!(out, expected);
    }
}
