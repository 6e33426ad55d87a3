//! Commands from the client.

use headwater_amf::Value;

use super::streams::Activity;
use super::{Phase, ServerEvent, ServerSession};
use crate::command::{
    Command, ConnectRequest, TransactionId, play_request, play2_parameters, publish_request, values,
};
use crate::session::SessionError;
use crate::status::{Status, StatusCode};

impl ServerSession {
    /// The first command.
    pub(super) fn handle_connect(&mut self, command: Command) -> Result<(), SessionError> {
        let transaction = command.transaction;
        if command.name != "connect" {
            let name = command.name;
            let status = Status::new(StatusCode::CallFailed).describe("connect first");
            self.say_goodbye(&Command::error(transaction, status.to_value()))?;
            return Err(SessionError::CommandBeforeConnect(name));
        }
        match ConnectRequest::from_command(command) {
            Ok(request) => {
                self.encoding = request.object_encoding;
                self.enhanced = request.enhanced.clone();
                self.phase = Phase::Pending(transaction);
                self.deadline = None;
                self.events
                    .push_back(ServerEvent::Connect(Box::new(request)));
                Ok(())
            }
            Err(error) => {
                let status = Status::new(StatusCode::ConnectRejected).describe(error.to_string());
                self.say_goodbye(&Command::error(transaction, status.to_value()))?;
                Err(SessionError::Connect(error))
            }
        }
    }

    /// A command of a connected client.
    pub(super) fn handle_decoded_command(
        &mut self,
        command: Command,
        stream_id: u32,
    ) -> Result<(), SessionError> {
        match command.name.as_str() {
            "publish" => self.handle_publish(&command, stream_id),
            "play" => self.handle_play(&command, stream_id),
            "play2" => self.handle_play2(&command, stream_id),
            "pause" | "pauseRaw" => self.handle_pause(&command, stream_id),
            "seek" => self.handle_seek(&command, stream_id),
            "receiveAudio" => self.handle_receive_audio(&command, stream_id),
            "receiveVideo" | "receiveVideoFPS" => self.handle_receive_video(&command, stream_id),
            "closeStream" => {
                self.stop(stream_id)?;
                self.send_result(command.transaction, Value::Null)
            }
            "createStream" => self.handle_create_stream(command.transaction),
            "initStream" => self.send_result(command.transaction, Value::Null),
            "deleteStream" => self.handle_delete_stream(&command, stream_id),
            "releaseStream" | "FCPublish" | "FCUnpublish" | "FCSubscribe" | "FCUnsubscribe" => {
                self.handle_encoder_command(&command)
            }
            "getStreamLength" => self.handle_get_stream_length(&command),
            "checkBandwidth" => self.handle_check_bandwidth(command.transaction),
            "_checkbw" => {
                // librtmp and FFmpeg send it when they hear `onBWDone`. We do not measure: it is over at once.
                self.send_command(0, &Command::notice("_onbwdone", Vec::new()))?;
                self.send_result(command.transaction, Value::Null)
            }
            "_result" | "_error" => {
                self.handle_answer(command);
                Ok(())
            }
            "connect" => self.send_error(
                command.transaction,
                StatusCode::CallFailed,
                "the connection is connected already",
            ),
            _ => self.handle_unknown(command, stream_id),
        }
    }

    fn handle_publish(&mut self, command: &Command, stream_id: u32) -> Result<(), SessionError> {
        let Some(request) = publish_request(command, stream_id) else {
            return self.stop(stream_id);
        };
        let refusal = match self.streams.get_mut(stream_id) {
            None => "there is no such message stream",
            Some(Activity::Publishing { .. }) => "the message stream publishes already",
            Some(Activity::Playing) => "the message stream plays",
            Some(_) if request.name.is_empty() => "the stream name is empty",
            Some(idle) => {
                *idle = Activity::Publishing {
                    name: request.name.clone(),
                    accepted: false,
                };
                self.events.push_back(ServerEvent::Publish(request));
                return Ok(());
            }
        };
        let status = Status::new(StatusCode::PublishBadName)
            .describe(refusal)
            .with("details", request.name);
        self.send_status(stream_id, status)
    }

    fn handle_play(&mut self, command: &Command, stream_id: u32) -> Result<(), SessionError> {
        let request = match play_request(command, stream_id) {
            Ok(Some(request)) => request,
            Ok(None) => return self.stop(stream_id),
            Err(error) => return self.refuse_play(stream_id, error.to_string()),
        };
        match self.streams.get_mut(stream_id) {
            None => self.refuse_play(stream_id, "there is no such message stream"),
            Some(Activity::Publishing { .. }) => {
                self.refuse_play(stream_id, "the message stream publishes")
            }
            Some(activity) => {
                *activity = Activity::Playing;
                self.events.push_back(ServerEvent::Play(request));
                Ok(())
            }
        }
    }

    fn handle_play2(&mut self, command: &Command, stream_id: u32) -> Result<(), SessionError> {
        let parameters = match play2_parameters(command) {
            Ok(parameters) => parameters,
            Err(error) => return self.refuse_play(stream_id, error.to_string()),
        };
        match self.streams.get_mut(stream_id) {
            None => self.refuse_play(stream_id, "there is no such message stream"),
            Some(Activity::Publishing { .. }) => {
                self.refuse_play(stream_id, "the message stream publishes")
            }
            Some(activity) => {
                // A first `play2` with transition `reset` or `append` is a `play`.
                *activity = Activity::Playing;
                self.events.push_back(ServerEvent::Play2 {
                    stream_id,
                    parameters,
                });
                Ok(())
            }
        }
    }

    fn refuse_play(
        &mut self,
        stream_id: u32,
        description: impl Into<String>,
    ) -> Result<(), SessionError> {
        let status = Status::new(StatusCode::PlayFailed).describe(description);
        self.send_status(stream_id, status)
    }

    fn handle_pause(&mut self, command: &Command, stream_id: u32) -> Result<(), SessionError> {
        if !self.streams.is_playing(stream_id) {
            return self.ignore(command);
        }
        let Some(paused) = argument(command, 0).and_then(values::boolean) else {
            return self.missing(command, "flag");
        };
        let at = time_argument(command, 1).unwrap_or(0.0);
        self.events.push_back(ServerEvent::Pause {
            stream_id,
            paused,
            at,
        });
        Ok(())
    }

    fn handle_seek(&mut self, command: &Command, stream_id: u32) -> Result<(), SessionError> {
        let Some(to) = time_argument(command, 0) else {
            let status = Status::new(StatusCode::SeekFailed).describe("seek has no time");
            return self.send_status(stream_id, status);
        };
        if !self.streams.is_playing(stream_id) {
            let status = Status::new(StatusCode::SeekFailed).describe("nothing is being played");
            return self.send_status(stream_id, status);
        }
        self.events.push_back(ServerEvent::Seek { stream_id, to });
        Ok(())
    }

    fn handle_receive_audio(
        &mut self,
        command: &Command,
        stream_id: u32,
    ) -> Result<(), SessionError> {
        let Some(wanted) = argument(command, 0).and_then(values::boolean) else {
            return self.missing(command, "flag");
        };
        if self.streams.get(stream_id).is_none() {
            return self.ignore(command);
        }
        self.events
            .push_back(ServerEvent::ReceiveAudio { stream_id, wanted });
        Ok(())
    }

    fn handle_receive_video(
        &mut self,
        command: &Command,
        stream_id: u32,
    ) -> Result<(), SessionError> {
        let value = argument(command, 0);
        let frame_rate = value
            .and_then(values::number)
            .filter(|rate| rate.is_finite() && *rate >= 0.0);
        let wanted = match (value.and_then(values::boolean), frame_rate) {
            (Some(wanted), _) => wanted,
            (None, Some(rate)) => rate > 0.0,
            (None, None) => return self.missing(command, "flag"),
        };
        if self.streams.get(stream_id).is_none() {
            return self.ignore(command);
        }
        self.events.push_back(ServerEvent::ReceiveVideo {
            stream_id,
            wanted,
            frame_rate,
        });
        Ok(())
    }

    fn handle_create_stream(&mut self, transaction: TransactionId) -> Result<(), SessionError> {
        let Some(stream_id) = self.streams.create() else {
            return self.send_error(
                transaction,
                StatusCode::CallFailed,
                "the connection has too many streams",
            );
        };
        self.events
            .push_back(ServerEvent::StreamCreated { stream_id });
        // Nobody asks for a stream without wanting to know which it is; some say transaction 0 all the same.
        let result = Command::result(transaction, Value::Number(f64::from(stream_id)));
        self.send_command(0, &result)
    }

    fn handle_delete_stream(
        &mut self,
        command: &Command,
        message_stream: u32,
    ) -> Result<(), SessionError> {
        // Some clients send it on the stream itself, without its number.
        let stream_id = argument(command, 0)
            .and_then(values::number)
            .map_or(message_stream, values::saturating_u32);
        self.stop(stream_id)?;
        self.streams.delete(stream_id);
        self.send_result(command.transaction, Value::Null)
    }

    /// Stops what a stream is used for, at the client's wish.
    fn stop(&mut self, stream_id: u32) -> Result<(), SessionError> {
        match self.end_activity(stream_id) {
            Activity::Publishing { name, .. } => {
                let status = Status::new(StatusCode::UnpublishSuccess).with("details", name);
                self.send_status(stream_id, status)
            }
            Activity::Playing | Activity::Idle => Ok(()),
        }
    }

    /// The commands of Flash Media Live Encoder and its descendants. They name a stream, and are answered twice: `_result` for the
    /// call, and a call back with a status.
    fn handle_encoder_command(&mut self, command: &Command) -> Result<(), SessionError> {
        let Some(name) = argument(command, 0).and_then(values::text) else {
            return self.missing(command, "name");
        };
        let (event, answer) = match command.name.as_str() {
            "releaseStream" => (ServerEvent::ReleaseStream { name: name.clone() }, None),
            "FCPublish" => (
                ServerEvent::FcPublish { name: name.clone() },
                Some(("onFCPublish", StatusCode::PublishStart)),
            ),
            "FCUnpublish" => (
                ServerEvent::FcUnpublish { name: name.clone() },
                Some(("onFCUnpublish", StatusCode::UnpublishSuccess)),
            ),
            "FCSubscribe" => (
                ServerEvent::FcSubscribe { name: name.clone() },
                Some(("onFCSubscribe", StatusCode::PlayStart)),
            ),
            _ => (
                ServerEvent::FcUnsubscribe { name: name.clone() },
                Some(("onFCUnsubscribe", StatusCode::PlayStop)),
            ),
        };
        self.events.push_back(event);
        if command.name == "FCUnpublish" {
            let (published, _) = crate::url::split_query(&name);
            for stream_id in self.streams.publishing(published) {
                self.stop(stream_id)?;
            }
        }
        if let Some((method, code)) = answer {
            let status = Status::new(code).describe(name);
            self.send_command(0, &Command::notice(method, vec![status.to_value()]))?;
        }
        self.send_result(command.transaction, Value::Null)
    }

    fn handle_get_stream_length(&mut self, command: &Command) -> Result<(), SessionError> {
        let Some(name) = argument(command, 0).and_then(values::text) else {
            return self.missing(command, "name");
        };
        let transaction = command.transaction;
        if !self.expect_answer(transaction)? {
            return Ok(());
        }
        let (name, _) = crate::url::split_query(&name);
        self.events.push_back(ServerEvent::GetStreamLength {
            name: name.to_owned(),
            transaction,
        });
        Ok(())
    }

    fn handle_check_bandwidth(&mut self, transaction: TransactionId) -> Result<(), SessionError> {
        if self.config.answer_check_bandwidth {
            self.bandwidth_done()?;
            self.send_result(transaction, Value::Null)?;
        } else if !self.expect_answer(transaction)? {
            return Ok(());
        }
        self.events
            .push_back(ServerEvent::CheckBandwidth { transaction });
        Ok(())
    }

    fn handle_answer(&mut self, command: Command) {
        if self.calls.take(command.transaction).is_none() {
            self.ignored_messages += 1;
            return;
        }
        let value = command.arguments.into_iter().next().unwrap_or(Value::Null);
        let result = if command.name == "_result" {
            Ok(value)
        } else {
            Err(value)
        };
        self.events.push_back(ServerEvent::CallResult {
            transaction: command.transaction,
            result,
        });
    }

    fn handle_unknown(&mut self, command: Command, stream_id: u32) -> Result<(), SessionError> {
        if !self.expect_answer(command.transaction)? {
            return Ok(());
        }
        self.events.push_back(ServerEvent::Call {
            stream_id,
            name: command.name,
            transaction: command.transaction,
            arguments: command.arguments,
        });
        Ok(())
    }

    /// Notes that the caller owes an answer. `false` if it owes too many: the call was then refused.
    fn expect_answer(&mut self, transaction: TransactionId) -> Result<bool, SessionError> {
        if !transaction.wants_answer() || self.unanswered.push(transaction, ()) {
            return Ok(true);
        }
        self.send_error(
            transaction,
            StatusCode::CallFailed,
            "too many calls wait for an answer",
        )?;
        Ok(false)
    }

    fn missing(&mut self, command: &Command, argument: &'static str) -> Result<(), SessionError> {
        self.ignored_messages += 1;
        self.send_error(
            command.transaction,
            StatusCode::CallFailed,
            format!("{} has no usable argument {argument:?}", command.name),
        )
    }

    /// A command for a stream that is not there or does something else: it may have crossed the end of the stream.
    fn ignore(&mut self, command: &Command) -> Result<(), SessionError> {
        self.ignored_messages += 1;
        self.send_error(
            command.transaction,
            StatusCode::CallFailed,
            format!("{} does not fit the message stream", command.name),
        )
    }
}

fn argument(command: &Command, index: usize) -> Option<&Value> {
    command.arguments.get(index)
}

/// A media time in milliseconds.
fn time_argument(command: &Command, index: usize) -> Option<f64> {
    argument(command, index)
        .and_then(values::number)
        .filter(|time| time.is_finite())
        .map(|time| time.max(0.0))
}
