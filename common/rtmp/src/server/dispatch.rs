//! Messages from the client, up to commands: user control, media, data, aggregates, shared objects.

use std::time::Duration;

use bytes::Bytes;
use headwater_media::frame::FrameKind;

use super::{MediaFrame, Phase, ServerEvent, ServerSession};
use crate::aggregate;
use crate::command::{Command, CommandError, DataKind, normalise_data};
use crate::control::UserControl;
use crate::message::{Message, MessageType};
use crate::session::{Incoming, SessionError, decode_command};
use crate::status::{Status, StatusCode};

/// Most messages that are taken out of one aggregate: some hundred times what Flash Player puts there, and a bound on the events
/// that one message can make.
pub(crate) const MAX_AGGREGATE_PARTS: usize = 4096;

impl ServerSession {
    pub(super) fn dispatch(
        &mut self,
        now: Duration,
        incoming: Incoming,
    ) -> Result<(), SessionError> {
        if let Incoming::UserControl(UserControl::PingResponse { timestamp }) = incoming {
            if let Some(round_trip) = self.liveness.answered(now, timestamp) {
                self.events
                    .push_back(ServerEvent::PingLatency { round_trip });
            }
            return Ok(());
        }
        match (&self.phase, incoming) {
            (_, Incoming::Handled) | (Phase::Handshake(_) | Phase::Closing, _) => Ok(()),
            (Phase::Pending(_), incoming) => self.defer(incoming),
            (Phase::AwaitingConnect, Incoming::Message(message)) => {
                self.handle_first_message(&message)
            }
            (Phase::AwaitingConnect | Phase::Connected, incoming) => self.handle(incoming),
        }
    }

    fn handle(&mut self, incoming: Incoming) -> Result<(), SessionError> {
        match incoming {
            Incoming::Handled => Ok(()),
            Incoming::UserControl(event) => {
                self.handle_user_control(event);
                Ok(())
            }
            Incoming::Message(message) => self.handle_message(message),
        }
    }

    /// Goes through what came while the connection was pending.
    pub(super) fn handle_deferred(&mut self) -> Result<(), SessionError> {
        self.deferred_bytes = 0;
        while let Some(incoming) = self.deferred.pop_front() {
            self.handle(incoming)?;
        }
        Ok(())
    }

    fn defer(&mut self, incoming: Incoming) -> Result<(), SessionError> {
        let limits = &self.config.limits;
        if let Incoming::Message(message) = &incoming {
            self.deferred_bytes = self.deferred_bytes.saturating_add(message.payload.len());
        }
        if self.deferred.len() >= limits.deferred_messages
            || self.deferred_bytes > limits.deferred_bytes
        {
            return Err(SessionError::TooMuchDeferred);
        }
        self.deferred.push_back(incoming);
        Ok(())
    }

    fn handle_user_control(&mut self, event: UserControl) {
        match event {
            UserControl::SetBufferLength { stream_id, length } => {
                self.events.push_back(ServerEvent::BufferLength {
                    stream_id,
                    milliseconds: length,
                });
            }
            UserControl::SwfVerificationResponse(response) => {
                self.events
                    .push_back(ServerEvent::SwfVerification { response });
            }
            _ => self.ignored_messages += 1,
        }
    }

    /// The first message must be `connect`.
    fn handle_first_message(&mut self, message: &Message) -> Result<(), SessionError> {
        let Some(decoded) = decode_command(message, &self.config.limits) else {
            let error = SessionError::MessageBeforeConnect(message.kind);
            self.say_goodbye(&Command::notice(
                "onStatus",
                vec![Status::new(StatusCode::ConnectFailed).to_value()],
            ))?;
            return Err(error);
        };
        match decoded {
            Ok(command) => self.handle_connect(command),
            Err(error) => {
                self.say_goodbye(&Command::notice(
                    "onStatus",
                    vec![Status::new(StatusCode::CallBadVersion).to_value()],
                ))?;
                Err(SessionError::Connect(error))
            }
        }
    }

    fn handle_message(&mut self, message: Message) -> Result<(), SessionError> {
        match message.kind {
            MessageType::COMMAND_AMF0 | MessageType::COMMAND_AMF3 => self.handle_command(&message),
            MessageType::AUDIO
            | MessageType::VIDEO
            | MessageType::DATA_AMF0
            | MessageType::DATA_AMF3 => {
                self.handle_media(message);
                Ok(())
            }
            MessageType::SHARED_OBJECT_AMF0 | MessageType::SHARED_OBJECT_AMF3 => {
                self.events.push_back(ServerEvent::SharedObject { message });
                Ok(())
            }
            MessageType::AGGREGATE => {
                // A malformed aggregate gives what stands before the fault: media is never a reason to lose a publisher.
                for part in aggregate::split(&message).take(MAX_AGGREGATE_PARTS) {
                    let Ok(part) = part else {
                        self.ignored_messages += 1;
                        break;
                    };
                    self.handle_media(part);
                }
                Ok(())
            }
            _ => {
                self.ignored_messages += 1;
                Ok(())
            }
        }
    }

    fn handle_media(&mut self, message: Message) {
        let Message {
            kind,
            timestamp,
            stream_id,
            payload,
        } = message;
        let media = self
            .streams
            .publisher_of(stream_id)
            .zip(media_of(kind, payload));
        let Some((stream_id, (kind, data, payload))) = media else {
            self.ignored_messages += 1;
            return;
        };
        self.events.push_back(ServerEvent::Media {
            stream_id,
            frame: MediaFrame {
                kind,
                data,
                timestamp,
                payload,
            },
        });
    }

    fn handle_command(&mut self, message: &Message) -> Result<(), SessionError> {
        match decode_command(message, &self.config.limits) {
            Some(Ok(command)) => self.handle_decoded_command(command, message.stream_id),
            Some(Err(error)) => self.handle_bad_command(error),
            None => Ok(()),
        }
    }

    /// A command that cannot be decoded leaves the chunk stream whole, so the connection may live on, a few times.
    fn handle_bad_command(&mut self, error: CommandError) -> Result<(), SessionError> {
        self.bad_commands += 1;
        let status = Status::new(StatusCode::CallBadVersion);
        let notice = Command::notice("onStatus", vec![status.to_value()]);
        if self.bad_commands >= self.config.limits.bad_commands {
            self.say_goodbye(&notice)?;
            return Err(SessionError::TooManyBadCommands(error));
        }
        self.send_command(0, &notice)
    }

    /// The last words: a notice or an answer, then `close`, which Flash Player and librtmp take as the order to hang up.
    pub(super) fn say_goodbye(&mut self, last: &Command) -> Result<(), SessionError> {
        self.send_command(0, last)?;
        self.send_command(0, &Command::notice("close", Vec::new()))?;
        self.phase = Phase::Closing;
        Ok(())
    }
}

/// What a message is as media. `None` for other types.
pub(crate) fn media_of(kind: MessageType, payload: Bytes) -> Option<(FrameKind, DataKind, Bytes)> {
    match kind {
        MessageType::AUDIO => Some((FrameKind::Audio, DataKind::Plain, payload)),
        MessageType::VIDEO => Some((FrameKind::Video, DataKind::Plain, payload)),
        MessageType::DATA_AMF0 | MessageType::DATA_AMF3 => {
            let (data, payload) = normalise_data(kind == MessageType::DATA_AMF3, payload);
            Some((FrameKind::Data, data, payload))
        }
        _ => None,
    }
}
