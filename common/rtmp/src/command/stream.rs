//! The arguments of the `NetStream` commands `publish`, `play` and `play2`.
//!
//! Adobe's RTMP specification, sections 7.2.2.1 (play), 7.2.2.2 (play2) and 7.2.2.6 (publish).
//!
//! # Seconds or milliseconds
//! The specification gives the `start` and `duration` of `play` in seconds, but clients put milliseconds on the wire:
//! Flash Player multiplies what a script passes by 1000, librtmp sends -1000 for a live stream and otherwise the place to resume in
//! milliseconds (0 if there is none), FFmpeg sends -2000, -1000 or 0. A few clients follow the text and send -2 or -1. So
//! -1 and -1000 are "live", every other negative number is "live, or else recorded", and all else is milliseconds.

use headwater_amf::Value;

use super::values;
use super::{Command, CommandError, TransactionId};
use crate::url::split_query;

/// How a stream is to be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PublishMode {
    /// Not recorded.
    #[default]
    Live,
    /// Recorded to a new file.
    Record,
    /// Recorded behind what is there.
    Append,
    /// Recorded behind what is there, keeping the gap in time.
    AppendWithGap,
}

impl PublishMode {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Record => "record",
            Self::Append => "append",
            Self::AppendWithGap => "appendWithGap",
        }
    }

    /// Reads the word; what is not one of the four is `live`, as Adobe's server takes it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        [Self::Record, Self::Append, Self::AppendWithGap]
            .into_iter()
            .find(|mode| mode.as_str().eq_ignore_ascii_case(text))
            .unwrap_or_default()
    }
}

/// A client's `publish`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishRequest {
    /// The message stream.
    pub stream_id: u32,
    /// Name as sent, without its query: a prefix like `mp4:` is still there.
    pub name: String,
    /// What followed the first `?` of the name.
    pub query: Option<String>,
    /// How to publish.
    pub mode: PublishMode,
    /// The transaction of the command. The answer is a status, so this is for logs.
    pub transaction: TransactionId,
}

/// Which media a player wants first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PlayStart {
    /// -2: the live stream, else the recorded one, else wait for a live one.
    #[default]
    LiveOrRecorded,
    /// -1: the live stream; wait for it.
    Live,
    /// The recorded stream from this media time in milliseconds.
    At(u32),
}

impl PlayStart {
    /// Reads the number on the wire; see the module text for its unit.
    #[must_use]
    pub fn from_wire(number: f64) -> Self {
        if number >= 0.0 {
            Self::At(values::saturating_u32(number))
        } else if number == -1.0 || number == -1000.0 {
            Self::Live
        } else {
            Self::LiveOrRecorded
        }
    }

    /// The number on the wire, in milliseconds as Flash Player and FFmpeg send it.
    #[must_use]
    pub fn to_wire(self) -> f64 {
        match self {
            Self::LiveOrRecorded => -2000.0,
            Self::Live => -1000.0,
            Self::At(milliseconds) => f64::from(milliseconds),
        }
    }
}

/// How much media a player wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PlayLength {
    /// Negative: all there is.
    #[default]
    All,
    /// 0: one frame.
    OneFrame,
    /// This many milliseconds.
    Milliseconds(u32),
}

impl PlayLength {
    /// Reads the number on the wire; see the module text for its unit.
    #[must_use]
    pub fn from_wire(number: f64) -> Self {
        if number == 0.0 {
            Self::OneFrame
        } else if number > 0.0 {
            Self::Milliseconds(values::saturating_u32(number.ceil()))
        } else {
            Self::All
        }
    }

    /// The number on the wire.
    #[must_use]
    pub fn to_wire(self) -> f64 {
        match self {
            Self::All => -1000.0,
            Self::OneFrame => 0.0,
            Self::Milliseconds(milliseconds) => f64::from(milliseconds),
        }
    }
}

/// What a `play` does with the player's playlist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PlayReset {
    /// false or 0: appends to the playlist.
    Append,
    /// true or 1: empties the playlist and plays.
    #[default]
    Reset,
    /// 2: appends, and delivers all messages at once without regard to time.
    AppendUntimed,
    /// 3: empties the playlist, and delivers all messages at once without regard to time.
    ResetUntimed,
}

impl PlayReset {
    /// Whether the playlist is emptied.
    #[must_use]
    pub const fn resets(self) -> bool {
        matches!(self, Self::Reset | Self::ResetUntimed)
    }

    fn from_value(value: &Value) -> Self {
        if let Some(flag) = values::boolean(value) {
            return if flag { Self::Reset } else { Self::Append };
        }
        match values::number(value).map(values::saturating_u32) {
            Some(0) => Self::Append,
            Some(2) => Self::AppendUntimed,
            Some(3) => Self::ResetUntimed,
            _ => Self::Reset,
        }
    }

    /// The value on the wire.
    #[must_use]
    pub fn to_value(self) -> Value {
        match self {
            Self::Append => Value::Boolean(false),
            Self::Reset => Value::Boolean(true),
            Self::AppendUntimed => Value::Number(2.0),
            Self::ResetUntimed => Value::Number(3.0),
        }
    }
}

/// A client's `play`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlayRequest {
    /// The message stream.
    pub stream_id: u32,
    /// Name as sent, without its query: a prefix like `mp4:` is still there.
    pub name: String,
    /// What followed the first `?` of the name.
    pub query: Option<String>,
    /// Where to begin.
    pub start: PlayStart,
    /// How much to play.
    pub length: PlayLength,
    /// What to do with the playlist.
    pub reset: PlayReset,
    /// The transaction of the command. The answer is a status, so this is for logs.
    pub transaction: TransactionId,
}

/// The object of a `play2` command (`NetStreamPlayOptions`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Play2Parameters {
    /// Stream to switch to.
    pub stream_name: String,
    /// Stream to switch from, if it is not the current one.
    pub old_stream_name: Option<String>,
    /// How: `reset`, `append`, `appendAndWait`, `stop`, `swap`, `switch` or `resume`.
    pub transition: String,
    /// As for `play`.
    pub start: PlayStart,
    /// As for `play`.
    pub length: PlayLength,
    /// Media time in seconds at which to resume or to switch, if given.
    pub offset: Option<f64>,
}

/// Reads a `publish`. `None` asks to stop publishing: `publish(false)`, or no name at all.
pub(crate) fn publish_request(command: &Command, stream_id: u32) -> Option<PublishRequest> {
    let full_name = command.arguments.first().and_then(values::text)?;
    let (name, query) = split_query(&full_name);
    Some(PublishRequest {
        stream_id,
        name: name.to_owned(),
        query: query.map(str::to_owned),
        mode: command
            .arguments
            .get(1)
            .and_then(values::text)
            .map(|word| PublishMode::parse(&word))
            .unwrap_or_default(),
        transaction: command.transaction,
    })
}

/// Reads a `play`. `Ok(None)` asks to stop: `play(false)`.
pub(crate) fn play_request(
    command: &Command,
    stream_id: u32,
) -> Result<Option<PlayRequest>, CommandError> {
    let first = command.arguments.first();
    if first.and_then(values::boolean) == Some(false) {
        return Ok(None);
    }
    let full_name = first
        .and_then(values::text)
        .ok_or(CommandError::MissingArgument {
            command: "play",
            argument: "name",
        })?;
    let (name, query) = split_query(&full_name);
    let number = |index: usize| command.arguments.get(index).and_then(values::number);
    Ok(Some(PlayRequest {
        stream_id,
        name: name.to_owned(),
        query: query.map(str::to_owned),
        start: number(1).map(PlayStart::from_wire).unwrap_or_default(),
        length: number(2).map(PlayLength::from_wire).unwrap_or_default(),
        reset: command
            .arguments
            .get(3)
            .map(PlayReset::from_value)
            .unwrap_or_default(),
        transaction: command.transaction,
    }))
}

/// Reads a `play2`.
pub(crate) fn play2_parameters(command: &Command) -> Result<Play2Parameters, CommandError> {
    let missing = |argument| CommandError::MissingArgument {
        command: "play2",
        argument,
    };
    let options = command
        .arguments
        .first()
        .ok_or_else(|| missing("options"))?;
    let text = |name| values::field(options, name).and_then(values::text);
    let number = |name| values::field(options, name).and_then(values::number);
    Ok(Play2Parameters {
        stream_name: text("streamName").ok_or_else(|| missing("streamName"))?,
        old_stream_name: text("oldStreamName").filter(|name| !name.is_empty()),
        transition: text("transition").unwrap_or_else(|| "switch".to_owned()),
        start: number("start")
            .map(PlayStart::from_wire)
            .unwrap_or_default(),
        length: number("len").map(PlayLength::from_wire).unwrap_or_default(),
        // Flash Player fills absent options with -1 or NaN.
        offset: number("offset").filter(|offset| *offset >= 0.0),
    })
}

impl Play2Parameters {
    /// The object on the wire.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut entries = vec![
            ("streamName", Value::from(self.stream_name.as_str())),
            ("transition", Value::from(self.transition.as_str())),
            ("start", Value::Number(self.start.to_wire())),
            ("len", Value::Number(self.length.to_wire())),
        ];
        if let Some(name) = &self.old_stream_name {
            entries.push(("oldStreamName", Value::from(name.as_str())));
        }
        if let Some(offset) = self.offset {
            entries.push(("offset", Value::Number(offset)));
        }
        values::object(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_as_clients_send_them() {
        for (number, start) in [
            (-2000.0, PlayStart::LiveOrRecorded), // FFmpeg -rtmp_live any, Flash Player
            (-1000.0, PlayStart::Live),           // FFmpeg -rtmp_live live, librtmp live=1
            (0.0, PlayStart::At(0)),              // librtmp without live=1
            (-2.0, PlayStart::LiveOrRecorded),    // by the text of the specification
            (-1.0, PlayStart::Live),
            (-3.0, PlayStart::LiveOrRecorded),
            (-0.5, PlayStart::LiveOrRecorded),
            (f64::NAN, PlayStart::LiveOrRecorded),
            (61_500.0, PlayStart::At(61_500)),
            (1e300, PlayStart::At(u32::MAX)),
        ] {
            assert_eq!(PlayStart::from_wire(number), start, "{number}");
        }
    }

    #[test]
    fn lengths_are_read_as_clients_send_them() {
        for (number, length) in [
            (-1.0, PlayLength::All),
            (-1000.0, PlayLength::All),
            (f64::NAN, PlayLength::All),
            (0.0, PlayLength::OneFrame),
            (0.25, PlayLength::Milliseconds(1)),
            (5000.0, PlayLength::Milliseconds(5000)),
        ] {
            assert_eq!(PlayLength::from_wire(number), length, "{number}");
        }
    }

    #[test]
    fn resets_are_numbers_or_flags() {
        for (value, reset) in [
            (Value::Boolean(false), PlayReset::Append),
            (Value::Boolean(true), PlayReset::Reset),
            (Value::Number(0.0), PlayReset::Append),
            (Value::Number(1.0), PlayReset::Reset),
            (Value::Number(2.0), PlayReset::AppendUntimed),
            (Value::Number(3.0), PlayReset::ResetUntimed),
            (Value::Null, PlayReset::Reset),
        ] {
            assert_eq!(PlayReset::from_value(&value), reset, "{value:?}");
        }
    }

    #[test]
    fn publish_modes_fall_back_to_live() {
        for (text, mode) in [
            ("live", PublishMode::Live),
            ("record", PublishMode::Record),
            ("append", PublishMode::Append),
            ("appendWithGap", PublishMode::AppendWithGap),
            ("RECORD", PublishMode::Record),
            ("", PublishMode::Live),
            ("nonsense", PublishMode::Live),
        ] {
            assert_eq!(PublishMode::parse(text), mode, "{text}");
        }
    }
}
