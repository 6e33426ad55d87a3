//! Calls of methods that this server knows: how long a stream is, and those of Adobe's DVRCast application.
//!
//! DVRCast is what encoders and players (Flash Media Live Encoder, FLVPlayback, OSMF) use with `dvrcast` applications:
//! - `DVRSubscribe(name)`, `DVRUnsubscribe(name)`: answered with nothing, and with a call back as `FCSubscribe` is;
//! - `DVRGetStreamInfo(name)`: an object with `code` (`NetStream.DVRStreamInfo.Success`, `.Retry` after `data.retry` seconds,
//!   `.Failed`) and, on success, `data`: what there is of the recording, lengths in seconds.
//!
//! `DVRSetStreamInfo` is refused: no node keeps what an encoder would say with it.

use super::*;

use std::time::{SystemTime, UNIX_EPOCH};

use headwater_amf::{Object, Value};
use headwater_rtmp::command::TransactionId;

use crate::player::seconds;

/// Seconds after which a player asks again for a stream that is announced, and not recorded yet.
const RETRY_AFTER: f64 = 5.0;

/// What a call wants to know of a stream.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Length,
    DvrSubscribe { name: String },
    DvrInfo { name: String },
}

impl Session {
    pub(super) fn get_stream_length(&mut self, name: &str, transaction: TransactionId) {
        self.ask_about(name, transaction, Asked::Length);
    }

    pub(super) fn call(&mut self, name: &str, transaction: TransactionId, arguments: &[Value]) {
        let dvr = self
            .application
            .as_ref()
            .is_some_and(|application| application.policy.dvr);
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
            ("DVRSetStreamInfo", _) if dvr => {
                info!("an encoder wants to say what is to be recorded");
                let why = "Publish with record or append: that is what is recorded here.";
                self.core.reject_call(transaction, why)
            }
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

    fn ask_about(&mut self, name: &str, transaction: TransactionId, asked: Asked) {
        let (name, _) = name.split_once('?').unwrap_or((name, ""));
        let application = self.application.as_ref();
        let allowed = application.filter(|application| application.policy.play);
        let Some(stream) = allowed.and_then(|application| application.stream(name).ok()) else {
            self.stream_known(transaction, asked, Err(RecordedError::NotFound));
            return;
        };
        let recorded = self.worker.shared.recorded.clone();
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
                let info = dvr_info(&name, answer.ok().as_ref(), SystemTime::now());
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

/// The answer to `DVRGetStreamInfo`.
fn dvr_info(name: &str, description: Option<&Description>, now: SystemTime) -> Value {
    let Some((description, stored)) = description.and_then(|it| Some((it, it.stored?))) else {
        let publishing = description.is_some_and(|it| it.publishing);
        if !publishing {
            return Value::Object(Object::new().with("code", "NetStream.DVRStreamInfo.Failed"));
        }
        let data = Object::new().with("retry", RETRY_AFTER);
        return Value::Object(
            Object::new()
                .with("code", "NetStream.DVRStreamInfo.Retry")
                .with("data", data),
        );
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let length_ms = stored.end_ms.saturating_sub(stored.start_ms);
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    // A recording that grows began as long ago as it is long, but for pauses of its publisher.
    let began = now_ms.saturating_sub(length_ms);
    let length = length(description);
    let data = Object::new()
        .with("streamName", name)
        .with("callTime", date(now_ms))
        .with("lastUpdate", date(now_ms))
        .with("startRec", date(if stored.growing { began } else { 0 }))
        .with("stopRec", date(0))
        .with("isRec", stored.growing)
        .with("offline", false)
        .with("append", true)
        .with("begOffset", 0.0)
        .with("endOffset", 0.0)
        .with("currLen", length)
        // Known once the recording is complete.
        .with("maxLen", if stored.growing { 0.0 } else { length });
    Value::Object(
        Object::new()
            .with("code", "NetStream.DVRStreamInfo.Success")
            .with("data", data),
    )
}

fn date(milliseconds: u64) -> Value {
    Value::Date {
        milliseconds: seconds(milliseconds) * 1_000.0,
        timezone: 0,
    }
}
