//! Calls of methods that this server knows: how long a stream is, and those of Adobe's DVRCast application.
//!
//! DVRCast is what encoders and players (Flash Media Live Encoder, FLVPlayback, OSMF) use with `dvrcast` applications:
//! - `DVRSubscribe(name)`, `DVRUnsubscribe(name)`: answered with nothing, and with a call back as `FCSubscribe` is;
//! - `DVRGetStreamInfo(name)`: an object with `code` (`NetStream.DVRStreamInfo.Success`, `.Retry` after `data.retry` seconds,
//!   `.Failed`) and, on success, `data`: what there is of the recording, lengths in seconds.
//!
//! - `DVRSetStreamInfo(info)`: what players are to know is kept by the stream's origin, beside what is recorded, and answered with
//!   nothing. Who may publish in the application may say it. It begins and ends no recording: publishing does.
//!
//! # Calls of applications with a handler
//! Where the handler takes calls, all others are for it, and `getStreamLength`, too: methods of an application go before those that are
//! built in, as with Adobe's server. Where `dvr` is set the calls above are answered here all the same: who sets it wants that. What
//! encoders call before they publish (`FCPublish` and its like) is always answered by the protocol core.

use super::*;

use std::time::SystemTime;

use headwater_amf::Value;
use headwater_rtmp::command::TransactionId;

use crate::player::seconds;

mod dvr;

/// What a call wants to know of a stream.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Length,
    DvrSubscribe { name: String },
    DvrInfo { name: String },
}

impl Session {
    pub(super) async fn get_stream_length(&mut self, name: String, transaction: TransactionId) {
        if self.application_takes_calls() {
            let arguments = [Value::from(name)];
            self.forward_call("getStreamLength".to_owned(), transaction, &arguments)
                .await;
        } else {
            self.ask_about(&name, transaction, Asked::Length);
        }
    }

    fn application_takes_calls(&self) -> bool {
        let attached = self.attached.as_ref();
        attached.is_some_and(|attached| attached.takes_calls())
    }

    pub(super) async fn call(
        &mut self,
        name: String,
        transaction: TransactionId,
        arguments: Vec<Value>,
    ) {
        let application = self.application.as_ref();
        let dvr = application.is_some_and(|application| application.policy().dvr);
        if self.application_takes_calls() && !(dvr && name.starts_with("DVR")) {
            self.forward_call(name, transaction, &arguments).await;
        } else {
            self.call_built_in(&name, transaction, &arguments, dvr);
        }
    }

    fn call_built_in(
        &mut self,
        name: &str,
        transaction: TransactionId,
        arguments: &[Value],
        dvr: bool,
    ) {
        let stream = arguments
            .first()
            .and_then(Value::as_string)
            .map(|name| name.to_string_lossy().into_owned());
        let outcome = match (name, stream) {
            ("DVRSubscribe", Some(stream)) if dvr => {
                let asked = Asked::DvrSubscribe {
                    name: stream.clone(),
                };
                self.ask_about(&stream, transaction, asked);
                return;
            }
            ("DVRGetStreamInfo", Some(stream)) if dvr => {
                let asked = Asked::DvrInfo {
                    name: stream.clone(),
                };
                self.ask_about(&stream, transaction, asked);
                return;
            }
            ("DVRUnsubscribe", Some(stream)) if dvr => {
                let status = Status::new(StatusCode::PlayStop).describe(stream);
                let told = self
                    .core
                    .notify_client("onDVRUnsubscribe", vec![status.to_value()]);
                told.and_then(|()| self.core.answer_call(transaction, Value::Null))
            }
            ("DVRSetStreamInfo", _) if dvr => match self.set_stream_info(transaction, arguments) {
                Ok(()) => return,
                Err(why) => {
                    info!(why, "what an encoder says is refused");
                    self.core.reject_call(transaction, &why)
                }
            },
            (name, _) if dvr && name.starts_with("DVR") => {
                let why = format!("{name} has no usable stream name.");
                self.core.reject_call(transaction, &why)
            }
            _ => {
                debug!(name, "a call of an unknown method");
                let why = format!("Method not found ({name}).");
                self.core.reject_call(transaction, &why)
            }
        };
        self.note_failure(outcome);
    }

    /// Has what an encoder says kept. Gives why that is refused.
    fn set_stream_info(
        &mut self,
        transaction: TransactionId,
        arguments: &[Value],
    ) -> Result<(), String> {
        let Some(application) = &self.application else {
            return Err("Not connected to an application.".to_owned());
        };
        let policy = application.policy();
        if !policy.publish {
            return Err(format!(
                "The application {} takes no publishers.",
                application.name()
            ));
        }
        let said = dvr::said(arguments.first()).map_err(|error| error.to_string())?;
        let (name, _) = said.name.split_once('?').unwrap_or((&said.name, ""));
        if !self.may(&policy, true, name) {
            return Err(format!("The client has no write access to {name}."));
        }
        let stream = application.stream(name);
        let stream = stream.map_err(|error| format!("{name}: {error}."))?;
        let recorded = self.worker.shared.recorded.clone();
        let notes = self.notes.teller();
        // As many as there may be calls without an answer; each ends by itself. They are begun in their order.
        tokio::task::spawn_local(async move {
            let outcome = recorded.set_info(&stream, said.info).await;
            notes.tell(Note::InfoSet {
                transaction,
                outcome,
            });
        });
        Ok(())
    }

    pub(super) fn stream_info_set(
        &mut self,
        transaction: TransactionId,
        outcome: Result<(), RecordedError>,
    ) {
        let outcome = match outcome {
            Ok(()) => self.core.answer_call(transaction, Value::Null),
            Err(RecordedError::NotFound) => {
                let why = "Nothing can be recorded under this name.";
                self.core.reject_call(transaction, why)
            }
            Err(error) => self.core.reject_call(transaction, &error.to_string()),
        };
        self.note_failure(outcome);
    }

    fn ask_about(&mut self, name: &str, transaction: TransactionId, asked: Asked) {
        let (name, _) = name.split_once('?').unwrap_or((name, ""));
        let application = self.application.as_ref();
        let allowed = application.filter(|application| {
            let policy = application.policy();
            policy.play && self.may(&policy, false, name)
        });
        let Some(stream) = allowed.and_then(|application| application.stream(name).ok()) else {
            self.stream_known(transaction, asked, Err(RecordedError::NotFound));
            return;
        };
        let recorded = self.recorded();
        let notes = self.notes.teller();
        // As many as there may be calls without an answer; each ends by itself.
        tokio::task::spawn_local(async move {
            let answer = recorded.describe(&stream).await;
            notes.tell(Note::Known {
                transaction,
                asked,
                answer,
            });
        });
    }

    pub(super) fn stream_known(
        &mut self,
        transaction: TransactionId,
        asked: Asked,
        answer: Result<Description, RecordedError>,
    ) {
        let outcome = match asked {
            Asked::Length => match &answer {
                Ok(description) => self
                    .core
                    .answer_call(transaction, Value::Number(length(description))),
                Err(RecordedError::NotFound) => {
                    self.core.answer_call(transaction, Value::Number(0.0))
                }
                Err(error) => self.core.reject_call(transaction, &error.to_string()),
            },
            Asked::DvrSubscribe { name } => {
                let found = answer.is_ok_and(|it| it.publishing || it.stored.is_some());
                let code = if found {
                    StatusCode::PlayStart
                } else {
                    StatusCode::PlayStreamNotFound
                };
                let status = Status::new(code).describe(name);
                let told = self
                    .core
                    .notify_client("onDVRSubscribe", vec![status.to_value()]);
                told.and_then(|()| self.core.answer_call(transaction, Value::Null))
            }
            Asked::DvrInfo { name } => {
                let info = dvr::told(&name, answer.ok().as_ref(), SystemTime::now());
                self.core.answer_call(transaction, info)
            }
        };
        self.note_failure(outcome);
    }
}

/// Seconds of a stored stream; a live stream that is not recorded has none.
fn length(description: &Description) -> f64 {
    let stored = description.stored.as_ref();
    stored.map_or(0.0, |stored| {
        seconds(stored.end_ms.saturating_sub(stored.start_ms))
    })
}
