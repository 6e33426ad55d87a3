//! How often a sender sends.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Longest time between two sends.
pub const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// When what is due is sent. Each time takes one `send` for each socket, which is what sending costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// With each video frame; audio rides along. What is due already when that frame is ready goes with it, so that a sender that is
    /// late sends less often.
    Frame,
    /// Each message for itself, however late.
    Message,
    /// All that is due after each such time.
    Every(Duration),
}

/// Neither a word nor a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} is not frame, message, or 1 to 10000 milliseconds")]
pub struct FlushError {
    text: String,
}

impl FromStr for Flush {
    type Err = FlushError;

    fn from_str(text: &str) -> Result<Self, FlushError> {
        match text {
            "frame" => return Ok(Self::Frame),
            "message" => return Ok(Self::Message),
            _ => {}
        }
        let milliseconds = text.parse().ok().map(Duration::from_millis);
        milliseconds
            .filter(|time| !time.is_zero() && *time <= MAX_INTERVAL)
            .map(Self::Every)
            .ok_or_else(|| FlushError {
                text: text.to_owned(),
            })
    }
}

impl fmt::Display for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame => f.write_str("frame"),
            Self::Message => f.write_str("message"),
            Self::Every(time) => write!(f, "{} ms", time.as_millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_milliseconds_are_taken() {
        for (text, flush, shown) in [
            ("frame", Flush::Frame, "frame"),
            ("message", Flush::Message, "message"),
            ("1", Flush::Every(Duration::from_millis(1)), "1 ms"),
            ("10000", Flush::Every(MAX_INTERVAL), "10000 ms"),
        ] {
            assert_eq!(text.parse(), Ok(flush));
            assert_eq!(flush.to_string(), shown);
        }
        for text in ["", "0", "10001", "-1", "1.5", "frames", "50ms"] {
            let error = text.parse::<Flush>().unwrap_err();
            assert!(error.to_string().contains("milliseconds"), "{error}");
        }
    }
}
