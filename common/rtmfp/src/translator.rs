//! A chunk stream on one side, messages on the other: what stands between a session of `headwater-rtmp`, of either end, and flows.
//!
//! ```text
//! session's bytes  --> write    --> take     messages for the far end
//! session          <-- input    <-- deliver  messages of the far end
//! ```
//! A session speaks the chunk stream, whatever carries it. What it writes is read back into messages here, and what the far end sends is
//! written as a chunk stream for it; so it need not know that it is spoken to over RTMFP.
//!
//! # Bounds
//! None of its own but that of a message's length. A caller stops writing while [`waiting`](Translator::waiting), and stops delivering
//! while [`unread`](Translator::unread), are more than it wants to keep.

use std::collections::VecDeque;

use bytes::BytesMut;
use headwater_rtmp::chunk::{
    CONTROL_CHUNK_STREAM, ChunkError, ChunkReader, ChunkWriter, ReaderLimits,
};
use headwater_rtmp::control::Control;
use headwater_rtmp::message::Message;

/// The chunk size of what the session reads, in bytes: the largest there is, so that a message is one chunk.
const CHUNK_SIZE: u32 = 0x00ff_ffff;

/// The chunk stream of what the session reads. One is enough: messages do not interleave.
const CHUNK_STREAM: u32 = 3;

/// See the [module](self).
#[derive(Debug)]
pub struct Translator {
    writer: ChunkWriter,
    input: BytesMut,
    reader: ChunkReader,
    partial: BytesMut,
    output: VecDeque<Message>,
    output_bytes: usize,
}

impl Default for Translator {
    fn default() -> Self {
        let mut writer = ChunkWriter::new();
        let mut input = BytesMut::new();
        let announced = Control::SetChunkSize(CHUNK_SIZE).to_message();
        writer.write(CONTROL_CHUNK_STREAM, &announced, &mut input);
        writer.set_chunk_size(CHUNK_SIZE);
        Self {
            writer,
            input,
            reader: ChunkReader::new(ReaderLimits {
                message_length: CHUNK_SIZE,
                total_partial_bytes: 2 * CHUNK_SIZE as usize,
                ..ReaderLimits::default()
            }),
            partial: BytesMut::new(),
            output: VecDeque::new(),
            output_bytes: 0,
        }
    }
}

impl Translator {
    /// A message of the far end, for the session.
    pub fn deliver(&mut self, message: &Message) {
        self.writer.write(CHUNK_STREAM, message, &mut self.input);
    }

    /// What the session is to read next, all of it.
    #[must_use]
    pub fn input(&mut self) -> BytesMut {
        std::mem::take(&mut self.input)
    }

    /// Bytes that the session has not read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.input.len()
    }

    /// Bytes of the session, cut anywhere.
    ///
    /// # Errors
    /// [`ChunkError`]: it is no chunk stream.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ChunkError> {
        self.partial.extend_from_slice(bytes);
        loop {
            match self.reader.handle_input(&mut self.partial) {
                Ok(Some(message)) => {
                    self.output_bytes += message.payload.len();
                    self.output.push_back(message);
                }
                Ok(None) => break,
                Err(error) => {
                    // Nothing that follows can be read, and so nothing of it is kept.
                    self.partial = BytesMut::new();
                    return Err(error);
                }
            }
        }
        if self.partial.is_empty() {
            // Whoever says nothing keeps no buffer.
            self.partial = BytesMut::new();
        }
        Ok(())
    }

    /// A message for the far end, as it is. Not between two parts of one that is [written](Self::write).
    pub fn send(&mut self, message: Message) {
        self.output_bytes += message.payload.len();
        self.output.push_back(message);
    }

    /// The next message for the far end.
    #[must_use]
    pub fn take(&mut self) -> Option<Message> {
        let message = self.output.pop_front()?;
        self.output_bytes -= message.payload.len();
        if self.output.is_empty() {
            // Most of the time nothing waits, and whoever is idle keeps nothing.
            self.output = VecDeque::new();
        }
        Some(message)
    }

    /// Bytes of messages that have not been taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.output_bytes
    }

    /// Messages that have not been taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.output.len()
    }

    /// Whether all messages have been taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.output.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use headwater_rtmp::chunk::shared_wire_form;
    use headwater_rtmp::message::MessageType;

    use super::*;

    fn message(kind: MessageType, payload: &'static [u8]) -> Message {
        Message {
            kind,
            timestamp: 5,
            stream_id: 1,
            payload: Bytes::from_static(payload),
        }
    }

    #[test]
    fn what_the_far_end_says_is_a_chunk_stream() {
        let mut translator = Translator::default();
        let said = message(MessageType::COMMAND_AMF0, b"connect and more");
        translator.deliver(&said);
        let mut input = translator.input();
        let mut reader = ChunkReader::new(ReaderLimits::default());
        let mut read = || reader.handle_input(&mut input).unwrap().expect("a message");
        assert_eq!(read().kind, MessageType::SET_CHUNK_SIZE);
        assert_eq!(read(), said);
        assert_eq!((input.len(), translator.unread()), (0, 0));
    }

    #[test]
    fn what_a_session_writes_comes_out_as_messages_however_it_is_cut() {
        let mut translator = Translator::default();
        let sent = [
            message(MessageType::AUDIO, b"\xaf\x01sound"),
            message(MessageType::VIDEO, b"\x17\x01a picture in several chunks"),
        ];
        let mut bytes = BytesMut::new();
        for message in &sent {
            // Of a small chunk size, as before the connection is accepted.
            bytes.extend_from_slice(&shared_wire_form(6, message, 128).bytes);
        }
        for cut in 1..bytes.len() {
            for part in [&bytes[..cut], &bytes[cut..]] {
                translator.write(part).unwrap();
            }
            let waiting: usize = sent.iter().map(|message| message.payload.len()).sum();
            assert_eq!(translator.waiting(), waiting);
            for message in &sent {
                assert_eq!(translator.take().as_ref(), Some(message));
            }
            assert!(translator.is_empty());
            assert_eq!(translator.take(), None);
        }
    }

    #[test]
    fn what_is_no_chunk_stream_is_an_error() {
        // A set chunk size of zero.
        let bad = b"\x02\0\0\0\0\0\x04\x01\0\0\0\0\0\0\0\0";
        let mut translator = Translator::default();
        assert!(translator.write(bad).is_err());
        assert!(translator.partial.is_empty());
    }
}
