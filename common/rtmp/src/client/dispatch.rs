//! What the server says.

use std::time::Duration;

use bytes::Bytes;
use headwater_amf::{Limits, Value, amf0};
use headwater_media::frame::FrameKind;

use super::{ClientEvent, ClientSession, Pending, Phase};
use crate::aggregate;
use crate::command::{Command, DataKind, EnhancedCapabilities, TransactionId, values};
use crate::control::UserControl;
use crate::message::{Message, MessageType};
use crate::server::{MAX_AGGREGATE_PARTS, MediaFrame, media_of};
use crate::session::{Incoming, SessionError, decode_command};
use crate::status::{Status, StatusCode};

impl ClientSession {
    pub(super) fn dispatch(
        &mut self,
        now: Duration,
        incoming: Incoming,
    ) -> Result<(), SessionError> {
        match incoming {
            Incoming::Handled => Ok(()),
            Incoming::UserControl(event) => {
                self.handle_user_control(now, &event);
                Ok(())
            }
            Incoming::Message(message) => self.handle_message(message),
        }
    }

    fn handle_user_control(&mut self, now: Duration, event: &UserControl) {
        let event = match *event {
            UserControl::StreamBegin { stream_id } => ClientEvent::StreamBegin { stream_id },
            UserControl::StreamEof { stream_id } => ClientEvent::StreamEof { stream_id },
            UserControl::StreamDry { stream_id } => ClientEvent::StreamDry { stream_id },
            UserControl::StreamIsRecorded { stream_id } => {
                ClientEvent::StreamIsRecorded { stream_id }
            }
            UserControl::PingResponse { timestamp } => {
                let Some(round_trip) = self.liveness.answered(now, timestamp) else {
                    return;
                };
                ClientEvent::PingLatency { round_trip }
            }
            _ => {
                self.ignored_messages += 1;
                return;
            }
        };
        self.events.push_back(event);
    }

    fn handle_message(&mut self, message: Message) -> Result<(), SessionError> {
        match message.kind {
            MessageType::COMMAND_AMF0 | MessageType::COMMAND_AMF3 => {
                match decode_command(&message, &self.config.limits) {
                    Some(Ok(command)) => return self.handle_command(command, message.stream_id),
                    _ => self.ignored_messages += 1,
                }
            }
            MessageType::AGGREGATE => {
                for part in aggregate::split(&message).take(MAX_AGGREGATE_PARTS) {
                    let Ok(part) = part else {
                        self.ignored_messages += 1;
                        break;
                    };
                    self.handle_media(part);
                }
            }
            MessageType::SHARED_OBJECT_AMF0 | MessageType::SHARED_OBJECT_AMF3 => {
                self.events.push_back(ClientEvent::SharedObject { message });
            }
            _ => self.handle_media(message),
        }
        Ok(())
    }

    fn handle_media(&mut self, message: Message) {
        let Message {
            kind,
            timestamp,
            stream_id,
            payload,
        } = message;
        let Some((kind, data, payload)) = media_of(kind, payload) else {
            self.ignored_messages += 1;
            return;
        };
        if kind == FrameKind::Data
            && data == DataKind::Plain
            && let Some(status) = data_status(&payload)
        {
            self.events
                .push_back(ClientEvent::PlayStatus { stream_id, status });
            return;
        }
        self.events.push_back(ClientEvent::Media {
            stream_id,
            frame: MediaFrame {
                kind,
                data,
                timestamp,
                payload,
            },
        });
    }

    fn handle_command(&mut self, command: Command, stream_id: u32) -> Result<(), SessionError> {
        match command.name.as_str() {
            "_result" => {
                self.handle_answer(command, true);
                Ok(())
            }
            "_error" => {
                self.handle_answer(command, false);
                Ok(())
            }
            "onStatus" => {
                self.handle_status(&command, stream_id);
                Ok(())
            }
            "close" => {
                self.handle_disconnect();
                Ok(())
            }
            "onBWDone" => {
                self.events.push_back(ClientEvent::BandwidthDone {
                    arguments: command.arguments,
                });
                self.answer_at_once(command.transaction, Value::Undefined)
            }
            "onBWCheck" | "_onbwcheck" => {
                // The server weighs the payload and waits for the count.
                self.bandwidth_checks = self.bandwidth_checks.wrapping_add(1);
                let count = Value::Number(f64::from(self.bandwidth_checks));
                self.answer_at_once(command.transaction, count)
            }
            "_onbwdone" => Ok(()),
            _ => {
                let wanted = command.transaction.wants_answer();
                if wanted && !self.unanswered.push(command.transaction, ()) {
                    let status = Status::new(StatusCode::CallFailed);
                    let refusal = Command::error(command.transaction, status.to_value());
                    return self.send_command(0, &refusal);
                }
                self.events.push_back(ClientEvent::CallRequest {
                    stream_id,
                    name: command.name,
                    transaction: command.transaction,
                    arguments: command.arguments,
                });
                Ok(())
            }
        }
    }

    fn answer_at_once(
        &mut self,
        transaction: TransactionId,
        value: Value,
    ) -> Result<(), SessionError> {
        if transaction.wants_answer() {
            self.send_command(0, &Command::result(transaction, value))
        } else {
            Ok(())
        }
    }

    fn handle_answer(&mut self, command: Command, good: bool) {
        let transaction = command.transaction;
        let Some(pending) = self.calls.take(transaction) else {
            self.ignored_messages += 1;
            return;
        };
        let value = command.arguments.into_iter().next().unwrap_or(Value::Null);
        let event = match pending {
            Pending::Connect if good => {
                self.phase = Phase::Connected;
                self.deadline = None;
                let mut enhanced = EnhancedCapabilities::from_value(&command.object);
                if enhanced.is_empty() {
                    enhanced = EnhancedCapabilities::from_value(&value);
                }
                ClientEvent::Connected {
                    properties: command.object,
                    status: status_or_code(&value, StatusCode::ConnectSuccess),
                    enhanced,
                }
            }
            Pending::Connect => ClientEvent::ConnectRejected {
                redirect: values::field(&value, "ex")
                    .and_then(|ex| values::field(ex, "redirect"))
                    .and_then(values::text),
                status: status_or_code(&value, StatusCode::ConnectRejected),
            },
            Pending::CreateStream => match values::number(&value).filter(|_| good) {
                Some(id) => ClientEvent::StreamCreated {
                    transaction,
                    stream_id: values::saturating_u32(id),
                },
                None => ClientEvent::CallResult {
                    transaction,
                    result: Err(value),
                },
            },
            Pending::Call => ClientEvent::CallResult {
                transaction,
                result: if good { Ok(value) } else { Err(value) },
            },
        };
        self.events.push_back(event);
    }

    fn handle_status(&mut self, command: &Command, stream_id: u32) {
        let Some(status) = command.arguments.first().and_then(Status::from_value) else {
            self.ignored_messages += 1;
            return;
        };
        if status.code == StatusCode::ConnectReconnectRequest.as_str() {
            let tc_url = status
                .properties
                .iter()
                .find(|(name, _)| name == "tcUrl")
                .and_then(|(_, value)| values::text(value));
            self.events.push_back(ClientEvent::ReconnectRequest {
                tc_url,
                description: status.description,
            });
            return;
        }
        self.events
            .push_back(ClientEvent::Status { stream_id, status });
    }
}

fn status_or_code(value: &Value, code: StatusCode) -> Status {
    Status::from_value(value).unwrap_or_else(|| Status::new(code))
}

/// The status in a data message `onStatus` or `onPlayStatus`.
fn data_status(payload: &Bytes) -> Option<Status> {
    if ![&b"\x02\x00\x08onStatus"[..], b"\x02\x00\x0conPlayStatus"]
        .iter()
        .any(|prefix| payload.starts_with(prefix))
    {
        return None;
    }
    let values = amf0::decode_all(payload, Limits::DEFAULT).ok()?;
    values.get(1).and_then(Status::from_value)
}
