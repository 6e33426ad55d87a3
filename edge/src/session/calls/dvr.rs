//! The objects of Adobe's DVRCast: what an encoder says with `DVRSetStreamInfo`, and what a player is told with `DVRGetStreamInfo`.
//!
//! | property | said as | told as |
//! |---|---|---|
//! | `streamName` | text | the name that was asked for |
//! | `callTime` | date | as said, else now |
//! | `startRec`, `stopRec` | date | as said, else when it began as far as that is known; 1970 |
//! | `maxLen` | seconds | as said, else the length of what is complete; 0 while it grows |
//! | `begOffset`, `endOffset` | seconds | as said, else 0 |
//! | `append`, `offline` | truth | as said, else true; false |
//! | `isRec`, `currLen`, `lastUpdate` | nothing | what the origin knows; `lastUpdate` is now |
//!
//! What is recorded, and when, is decided by publishing: a `startRec` begins nothing, and a `stopRec` ends nothing. A number may stand
//! for a date: milliseconds since 1970. -1 is nothing said, everywhere; for a date so is 0. Properties that are not in the table are
//! passed over.

use std::time::{SystemTime, UNIX_EPOCH};

use headwater_amf::{Object, Value};
use headwater_proto::v1;

use super::length;
use crate::player::seconds;
use crate::recorded::Description;

/// Seconds after which a player asks again for a stream that is announced, and not recorded yet.
const RETRY_AFTER: f64 = 5.0;

/// Longest length that can be said, in seconds: ten years, as origins take it.
const MAX_SECONDS: f64 = 10.0 * 366.0 * 86_400.0;

/// The dates of ActionScript: so many milliseconds before and after 1970.
const MAX_DATE: f64 = 8.64e15;

/// What an encoder said.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) name: String,
    pub(super) info: v1::StreamInfo,
}

/// Why it cannot be understood. The texts are for the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("DVRSetStreamInfo takes an object.")]
    NoObject,
    #[error("DVRSetStreamInfo has no usable streamName.")]
    NoName,
    #[error("DVRSetStreamInfo: {0} is no number of seconds, from 0 up to ten years.")]
    Length(&'static str),
    #[error("DVRSetStreamInfo: {0} is no date.")]
    Date(&'static str),
    #[error("DVRSetStreamInfo: {0} is neither true nor false.")]
    Truth(&'static str),
}

/// Reads the argument of `DVRSetStreamInfo`.
pub(super) fn said(argument: Option<&Value>) -> Result<Said, Unusable> {
    let argument = argument.filter(|it| it.as_properties().is_some());
    let object = argument.ok_or(Unusable::NoObject)?;
    let name = object.get("streamName").and_then(Value::as_string);
    let name = name.ok_or(Unusable::NoName)?.to_string_lossy();
    if name.is_empty() {
        return Err(Unusable::NoName);
    }
    let info = v1::StreamInfo {
        call_unix_ms: said_date(object, "callTime")?,
        start_unix_ms: said_date(object, "startRec")?,
        stop_unix_ms: said_date(object, "stopRec")?,
        max_length_ms: said_length(object, "maxLen")?,
        begin_offset_ms: said_length(object, "begOffset")?,
        end_offset_ms: said_length(object, "endOffset")?,
        append: said_truth(object, "append")?,
        offline: said_truth(object, "offline")?,
    };
    Ok(Said {
        name: name.into_owned(),
        info,
    })
}

/// The property, unless nothing is said with it.
fn property<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let found = object.get(name)?;
    (!found.is_nullish() && found.as_number() != Some(-1.0)).then_some(found)
}

/// Milliseconds.
fn said_length(object: &Value, name: &'static str) -> Result<Option<u64>, Unusable> {
    let Some(found) = property(object, name) else {
        return Ok(None);
    };
    let in_range = |seconds: &f64| (0.0..=MAX_SECONDS).contains(seconds);
    let seconds = found.as_number().filter(in_range);
    let seconds = seconds.ok_or(Unusable::Length(name))?;
    // In range, so nothing is cut off.
    Ok(Some((seconds * 1_000.0).round() as u64))
}

/// Milliseconds since 1970.
fn said_date(object: &Value, name: &'static str) -> Result<Option<i64>, Unusable> {
    let Some(found) = property(object, name) else {
        return Ok(None);
    };
    let milliseconds = match found {
        Value::Date { milliseconds, .. } => *milliseconds,
        other => match other.as_number() {
            Some(0.0) => return Ok(None),
            Some(number) if number > 0.0 => number,
            _ => return Err(Unusable::Date(name)),
        },
    };
    if !(-MAX_DATE..=MAX_DATE).contains(&milliseconds) {
        return Err(Unusable::Date(name));
    }
    Ok(Some(milliseconds.round() as i64))
}

fn said_truth(object: &Value, name: &'static str) -> Result<Option<bool>, Unusable> {
    match property(object, name) {
        None => Ok(None),
        Some(found) => match (found.as_bool(), found.as_number()) {
            (Some(truth), _) => Ok(Some(truth)),
            (None, Some(number)) if !number.is_nan() => Ok(Some(number != 0.0)),
            _ => Err(Unusable::Truth(name)),
        },
    }
}

/// The answer to `DVRGetStreamInfo`.
pub(super) fn told(name: &str, description: Option<&Description>, now: SystemTime) -> Value {
    let code = |code: &str| Object::new().with("code", code);
    let Some(description) = description else {
        return Value::Object(code("NetStream.DVRStreamInfo.Failed"));
    };
    let info = description.info.as_deref().copied().unwrap_or_default();
    let Some(stored) = description.stored else {
        let is_announced = description.info.is_some() && info.offline != Some(true);
        if !description.publishing && !is_announced {
            return Value::Object(code("NetStream.DVRStreamInfo.Failed"));
        }
        let data = Object::new().with("retry", RETRY_AFTER);
        return Value::Object(code("NetStream.DVRStreamInfo.Retry").with("data", data));
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let length_ms = stored.end_ms.saturating_sub(stored.start_ms);
    let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    // A recording that grows began as long ago as it is long, but for pauses of its publisher.
    let began = now_ms.saturating_sub_unsigned(length_ms);
    let length = length(description);
    let most = match info.max_length_ms {
        Some(most) if most > 0 => seconds(most),
        // Known once the recording is complete.
        _ if stored.growing => 0.0,
        _ => length,
    };
    let start = info.start_unix_ms;
    let start = start.unwrap_or(if stored.growing { began } else { 0 });
    let data = Object::new()
        .with("streamName", name)
        .with("callTime", date(info.call_unix_ms.unwrap_or(now_ms)))
        .with("lastUpdate", date(now_ms))
        .with("startRec", date(start))
        .with("stopRec", date(info.stop_unix_ms.unwrap_or(0)))
        .with("isRec", stored.growing)
        .with("offline", info.offline.unwrap_or(false))
        .with("append", info.append.unwrap_or(true))
        .with("begOffset", seconds(info.begin_offset_ms.unwrap_or(0)))
        .with("endOffset", seconds(info.end_offset_ms.unwrap_or(0)))
        .with("currLen", length)
        .with("maxLen", most);
    Value::Object(code("NetStream.DVRStreamInfo.Success").with("data", data))
}

fn date(unix_ms: i64) -> Value {
    Value::Date {
        // Exact as far as dates go.
        milliseconds: unix_ms as f64,
        timezone: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::recorded::Stored;

    fn date_of(milliseconds: f64) -> Value {
        Value::Date {
            milliseconds,
            timezone: 60,
        }
    }

    /// As encoders send it.
    fn object() -> Object {
        Object::new()
            .with("streamName", "livestream")
            .with("callTime", date_of(1_700_000_000_123.0))
            .with("startRec", date_of(1_700_000_000_123.0))
            .with("stopRec", date_of(-7_200_000.0))
            .with("maxLen", 3_600.0)
            .with("begOffset", 30.5)
            .with("endOffset", 0.0)
            .with("append", true)
            .with("offline", false)
            .with("dynamicStreamSet", "livestream")
    }

    fn info() -> v1::StreamInfo {
        v1::StreamInfo {
            call_unix_ms: Some(1_700_000_000_123),
            start_unix_ms: Some(1_700_000_000_123),
            stop_unix_ms: Some(-7_200_000),
            max_length_ms: Some(3_600_000),
            begin_offset_ms: Some(30_500),
            end_offset_ms: Some(0),
            append: Some(true),
            offline: Some(false),
        }
    }

    #[test]
    fn an_encoder_is_understood() {
        let said = said(Some(&Value::Object(object()))).unwrap();
        assert_eq!((said.name.as_str(), said.info), ("livestream", info()));
        let only = Object::new().with("streamName", "x");
        let array = Value::EcmaArray(only.properties().clone());
        for value in [Value::Object(only), array] {
            let said = super::said(Some(&value)).unwrap();
            assert_eq!(said.info, v1::StreamInfo::default());
        }
    }

    #[test]
    fn each_property_is_checked() {
        use Unusable as E;
        let number = Value::Number;
        let cases: Vec<(&'static str, Value, Result<v1::StreamInfo, E>)> = vec![
            ("streamName", Value::Null, Err(E::NoName)),
            ("streamName", number(1.0), Err(E::NoName)),
            ("streamName", "".into(), Err(E::NoName)),
            ("maxLen", number(f64::NAN), Err(E::Length("maxLen"))),
            ("maxLen", number(f64::INFINITY), Err(E::Length("maxLen"))),
            ("maxLen", number(1e12), Err(E::Length("maxLen"))),
            ("begOffset", number(-5.0), Err(E::Length("begOffset"))),
            ("begOffset", "5".into(), Err(E::Length("begOffset"))),
            ("endOffset", true.into(), Err(E::Length("endOffset"))),
            (
                "endOffset",
                number(-1.0),
                Ok(v1::StreamInfo {
                    end_offset_ms: None,
                    ..info()
                }),
            ),
            (
                "endOffset",
                number(-0.0),
                Ok(v1::StreamInfo {
                    end_offset_ms: Some(0),
                    ..info()
                }),
            ),
            (
                "maxLen",
                Value::Integer(7),
                Ok(v1::StreamInfo {
                    max_length_ms: Some(7_000),
                    ..info()
                }),
            ),
            ("startRec", date_of(f64::NAN), Err(E::Date("startRec"))),
            ("startRec", date_of(9e15), Err(E::Date("startRec"))),
            ("stopRec", number(-3.0), Err(E::Date("stopRec"))),
            ("stopRec", number(f64::NAN), Err(E::Date("stopRec"))),
            ("callTime", "now".into(), Err(E::Date("callTime"))),
            (
                "startRec",
                number(0.0),
                Ok(v1::StreamInfo {
                    start_unix_ms: None,
                    ..info()
                }),
            ),
            (
                "startRec",
                number(5_000.0),
                Ok(v1::StreamInfo {
                    start_unix_ms: Some(5_000),
                    ..info()
                }),
            ),
            ("append", "yes".into(), Err(E::Truth("append"))),
            ("offline", number(f64::NAN), Err(E::Truth("offline"))),
            (
                "offline",
                number(1.0),
                Ok(v1::StreamInfo {
                    offline: Some(true),
                    ..info()
                }),
            ),
            (
                "append",
                Value::Undefined,
                Ok(v1::StreamInfo {
                    append: None,
                    ..info()
                }),
            ),
        ];
        for (name, value, expected) in cases {
            let object = Value::Object(object().with(name, value.clone()));
            let outcome = said(Some(&object)).map(|said| said.info);
            assert_eq!(outcome, expected, "{name}: {value:?}");
        }
        for argument in [
            None,
            Some(Value::Null),
            Some("x".into()),
            Some(Value::Ancestor(0)),
        ] {
            assert_eq!(said(argument.as_ref()), Err(E::NoObject), "{argument:?}");
        }
    }

    fn description(growing: bool, info: Option<v1::StreamInfo>) -> Description {
        Description {
            publishing: growing,
            stored: Some(Stored {
                generation: 1,
                start_ms: 1_000,
                end_ms: 61_000,
                bytes: 1,
                growing,
                has_audio: true,
                has_video: true,
            }),
            info: info.map(Arc::new),
        }
    }

    #[test]
    fn players_are_told_what_was_said_and_what_is() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let number = |number| Some(Value::Number(number));
        let told = |growing, info| {
            let answer = told("x", Some(&description(growing, info)), now);
            let code = Value::from("NetStream.DVRStreamInfo.Success");
            assert_eq!(answer.get("code"), Some(&code));
            answer.get("data").cloned().unwrap()
        };
        for growing in [true, false] {
            let data = told(growing, Some(info()));
            let field = |name| data.get(name).cloned();
            assert_eq!(field("streamName"), Some("x".into()));
            assert_eq!(field("callTime"), Some(date(1_700_000_000_123)));
            assert_eq!(field("startRec"), Some(date(1_700_000_000_123)));
            assert_eq!(field("stopRec"), Some(date(-7_200_000)));
            assert_eq!(field("begOffset"), number(30.5));
            assert_eq!(field("endOffset"), number(0.0));
            assert_eq!(field("maxLen"), number(3_600.0));
            assert_eq!(field("isRec"), Some(growing.into()));
            assert_eq!(field("currLen"), number(60.0));
            assert_eq!(field("lastUpdate"), Some(date(1_800_000_000_000)));
        }
        let data = told(true, None);
        let field = |name| data.get(name).cloned();
        assert_eq!(field("startRec"), Some(date(1_799_999_940_000)));
        assert_eq!(field("stopRec"), Some(date(0)));
        assert_eq!(field("maxLen"), number(0.0));
        assert_eq!(field("append"), Some(true.into()));
        assert_eq!(field("offline"), Some(false.into()));
        let short = v1::StreamInfo {
            max_length_ms: Some(0),
            append: Some(false),
            offline: Some(true),
            ..v1::StreamInfo::default()
        };
        let data = told(false, Some(short));
        let field = |name| data.get(name).cloned();
        assert_eq!(field("maxLen"), number(60.0), "it is complete");
        assert_eq!(field("append"), Some(false.into()));
        assert_eq!(field("offline"), Some(true.into()));
    }

    #[test]
    fn of_what_is_not_there_yet_players_ask_again() {
        let offline = v1::StreamInfo {
            offline: Some(true),
            ..info()
        };
        for (publishing, info, expected) in [
            (false, None, "Failed"),
            (true, None, "Retry"),
            (false, Some(info()), "Retry"),
            (false, Some(offline), "Failed"),
            (true, Some(offline), "Retry"),
        ] {
            let description = Description {
                publishing,
                stored: None,
                info: info.map(Arc::new),
            };
            let answer = told("x", Some(&description), UNIX_EPOCH);
            let code = Value::from(format!("NetStream.DVRStreamInfo.{expected}"));
            assert_eq!(answer.get("code"), Some(&code), "{publishing} {info:?}");
        }
    }
}
