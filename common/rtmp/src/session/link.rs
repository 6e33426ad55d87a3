//! From bytes to messages and back, with what the specification's section 5.4 wants answered.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{SessionError, SessionLimits};
use crate::chunk::{ChunkReader, ChunkWriter, ReaderLimits, header, shared_wire_form};
use crate::command::{Command, CommandError, chunk_streams};
use crate::control::{Control, UserControl};
use crate::message::{Message, MessageType};

/// From how many bytes on a media payload is passed on as it is and not copied behind its header. Below it a copy costs less than
/// another slice in the caller's vectored write.
const SHARE_FROM: usize = 4 * 1024;

/// Largest chunk size that is announced: a message header states no more, and some readers hold 24 bits.
const MAX_CHUNK_SIZE_OUT: u32 = 0x00FF_FFFF;

/// What came from the peer.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A control message that is dealt with.
    Handled,
    /// A user control message that is for the session.
    UserControl(UserControl),
    /// A message of any other type.
    Message(Message),
}

/// One connection below commands: chunk streams, acknowledgements, pings that are answered, and the bytes to send.
#[derive(Debug)]
pub(crate) struct Link {
    reader: ChunkReader,
    writer: ChunkWriter,
    /// Finished pieces, before `tail`.
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
    tail: BytesMut,
    /// Messages written before the handshake was done: they go behind it.
    held: BytesMut,
    handshaking: bool,
    output_limit: usize,
    /// How much may come between two acknowledgements of ours.
    window: u32,
    /// What the last acknowledgement said, before it wrapped.
    acknowledged: u64,
    /// What we last told the peer of its window.
    announced_window: Option<u32>,
    peer_acknowledged: Option<u32>,
}

impl Link {
    pub(crate) fn new(limits: &SessionLimits, window: u32) -> Self {
        Self {
            reader: ChunkReader::new(reader_limits(limits.message_size)),
            writer: ChunkWriter::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            tail: BytesMut::new(),
            held: BytesMut::new(),
            handshaking: true,
            output_limit: limits.pending_output,
            window: window.max(1),
            acknowledged: 0,
            announced_window: None,
            peer_acknowledged: None,
        }
    }

    /// Holds the peer to messages of this many bytes: little, until it has been let in.
    pub(crate) fn limit_messages(&mut self, size: usize) {
        self.reader.set_limits(reader_limits(size));
    }

    /// The next message. `None` if more input is needed.
    pub(crate) fn read(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, SessionError> {
        let Some(message) = self.reader.handle_input(input)? else {
            return Ok(None);
        };
        let Some(control) = Control::parse(&message) else {
            return Ok(Some(Incoming::Message(message)));
        };
        match control? {
            // The reader has obeyed these two.
            Control::SetChunkSize(_) | Control::Abort { .. } => {}
            Control::Acknowledgement(received) => self.peer_acknowledged = Some(received),
            Control::WindowAckSize(size) => {
                // 0 would mean to acknowledge for ever.
                if size != 0 {
                    self.window = size;
                }
            }
            Control::SetPeerBandwidth { size, .. } => {
                // Section 5.4.5: the answer is a window size, if it is another one than the last.
                if size != 0 && self.announced_window != Some(size) {
                    self.announce_window(size)?;
                }
            }
            Control::UserControl(UserControl::PingRequest { timestamp }) => {
                self.send_user_control(UserControl::PingResponse { timestamp })?;
            }
            Control::UserControl(event) => return Ok(Some(Incoming::UserControl(event))),
        }
        Ok(Some(Incoming::Handled))
    }

    /// Acknowledges what was read, if the window asks for it: at most once for each piece of input, however small the window.
    pub(crate) fn acknowledge(&mut self) -> Result<(), SessionError> {
        let received = self.reader.bytes_received();
        if received.saturating_sub(self.acknowledged) < u64::from(self.window) {
            return Ok(());
        }
        self.acknowledged = received;
        let sequence = u32::try_from(received & u64::from(u32::MAX)).unwrap_or(0);
        self.send_control(&Control::Acknowledgement(sequence))
    }

    pub(crate) const fn peer_acknowledged(&self) -> Option<u32> {
        self.peer_acknowledged
    }

    pub(crate) fn bytes_received(&self) -> u64 {
        self.reader.bytes_received()
    }

    pub(crate) fn chunk_size_out(&self) -> u32 {
        self.writer.chunk_size()
    }

    /// Appends bytes of the handshake.
    pub(crate) fn send_handshake(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.check_room(bytes.len())?;
        self.tail.extend_from_slice(bytes);
        Ok(())
    }

    /// The handshake is written: messages may follow.
    pub(crate) fn end_handshake(&mut self) {
        self.handshaking = false;
        let held = std::mem::take(&mut self.held);
        self.tail.extend_from_slice(&held);
    }

    /// Writes a message with the header the chunk stream allows.
    pub(crate) fn send(
        &mut self,
        chunk_stream: u32,
        message: &Message,
    ) -> Result<(), SessionError> {
        self.check_room(message.payload.len())?;
        let out = if self.handshaking {
            &mut self.held
        } else {
            &mut self.tail
        };
        self.writer.write(chunk_stream, message, out);
        Ok(())
    }

    /// Writes a message with a full header that builds on none and on which none builds, and a long payload without a copy.
    pub(crate) fn send_media(
        &mut self,
        chunk_stream: u32,
        message: &Message,
    ) -> Result<(), SessionError> {
        let length = message.payload.len();
        self.check_room(length)?;
        let chunk_size = self.chunk_size_out();
        let one_chunk = u32::try_from(length)
            .ok()
            .filter(|length| *length <= chunk_size && !self.handshaking);
        let Some(stated) = one_chunk else {
            let wire = shared_wire_form(chunk_stream, message, chunk_size);
            if self.handshaking {
                self.held.extend_from_slice(&wire.bytes);
            } else {
                self.push_ready(wire.bytes);
            }
            return Ok(());
        };
        let first = header(
            chunk_stream,
            message.timestamp,
            stated,
            message.kind,
            message.stream_id,
        );
        self.tail.extend_from_slice(&first);
        if length < SHARE_FROM {
            self.tail.extend_from_slice(&message.payload);
        } else {
            self.push_ready(message.payload.clone());
        }
        Ok(())
    }

    /// Puts a finished piece behind what was written so far.
    fn push_ready(&mut self, bytes: Bytes) {
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.ready_bytes += tail.len();
            self.ready.push_back(tail);
        }
        self.ready_bytes += bytes.len();
        self.ready.push_back(bytes);
    }

    pub(crate) fn send_control(&mut self, control: &Control) -> Result<(), SessionError> {
        self.send(chunk_streams::CONTROL, &control.to_message())
    }

    pub(crate) fn send_user_control(&mut self, event: UserControl) -> Result<(), SessionError> {
        self.send_control(&Control::UserControl(event))
    }

    pub(crate) fn send_ping(&mut self, timestamp: u32) -> Result<(), SessionError> {
        self.send_user_control(UserControl::PingRequest { timestamp })
    }

    /// Tells the peer how much it may receive before it must acknowledge.
    pub(crate) fn announce_window(&mut self, size: u32) -> Result<(), SessionError> {
        self.announced_window = Some(size);
        self.send_control(&Control::WindowAckSize(size))
    }

    /// Announces a chunk size, and writes with it from the next message on.
    pub(crate) fn set_chunk_size_out(&mut self, size: u32) -> Result<(), SessionError> {
        let size = size.clamp(1, MAX_CHUNK_SIZE_OUT);
        self.send_control(&Control::SetChunkSize(size))?;
        self.writer.set_chunk_size(size);
        Ok(())
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.ready.pop_front() {
            self.ready_bytes -= bytes.len();
            return Some(bytes);
        }
        if self.tail.is_empty() {
            return None;
        }
        // Taken whole: an idle connection keeps no buffer.
        Some(std::mem::take(&mut self.tail).freeze())
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.ready.is_empty() || !self.tail.is_empty()
    }

    /// The limit counts payloads; headers come on top, a few bytes for each message.
    fn check_room(&self, more: usize) -> Result<(), SessionError> {
        let waiting = self
            .ready_bytes
            .saturating_add(self.tail.len())
            .saturating_add(self.held.len());
        if waiting.saturating_add(more) > self.output_limit {
            return Err(SessionError::TooMuchOutput(self.output_limit));
        }
        Ok(())
    }
}

/// Room for one message of the greatest length, and for what is interleaved with it.
fn reader_limits(message_size: usize) -> ReaderLimits {
    ReaderLimits {
        message_length: u32::try_from(message_size).unwrap_or(u32::MAX),
        total_partial_bytes: message_size.saturating_mul(2),
        ..ReaderLimits::default()
    }
}

/// Decodes a message if it is a command.
pub(crate) fn decode_command(
    message: &Message,
    limits: &SessionLimits,
) -> Option<Result<Command, CommandError>> {
    let amf3 = match message.kind {
        MessageType::COMMAND_AMF0 => false,
        MessageType::COMMAND_AMF3 => true,
        _ => return None,
    };
    let length = message.payload.len();
    if length > limits.command_size {
        return Some(Err(CommandError::TooLong {
            length,
            maximum: limits.command_size,
        }));
    }
    Some(Command::decode(amf3, &message.payload, limits.amf))
}
