//! `onMetaData` in files: what it says, and what it should say.
//!
//! The properties are those of Adobe Flash Video File Format 10.1, E.5, and the seek table `keyframes` that FLV tools agree on. One is
//! ours: `codecHeaders`, the file positions of all codec headers and metadata after the first picture or sound, by which a reader
//! knows what is in force at a key frame without having read everything before it. It goes with `filesize`: a file of another size
//! was changed since.
//!
//! # Invariant
//! A message that is written again is longer than the one that was read by at most [`MAX_GROWTH`]. References of AMF0 are read as
//! copies of what they lead to, and written as such: some kilobytes of them can say as much as 16 MiB.

use bytes::Bytes;
use headwater_amf::{Limits, Properties, Value, amf0};

use crate::inspect::{DataRole, data_message};

/// The name of the metadata.
pub(super) const NAME: &str = "onMetaData";

/// The seek table.
pub(super) const KEYFRAMES: &str = "keyframes";

/// Where codec headers stand.
pub(super) const CODEC_HEADERS: &str = "codecHeaders";

/// How far the metadata's duration may be from the true one, in milliseconds. Writers disagree about the last frame.
const DURATION_TOLERANCE_MS: u64 = 1_000;

/// How much longer a message may be when it is written again, in bytes: a duration takes 19.
pub(super) const MAX_GROWTH: usize = 32;

/// What a byte of a message can come to by the count of [`Limits::bytes`], where it has no references: a value of one byte counts 48.
const MAX_DECODED_PER_BYTE: usize = 48;

/// The properties of an `onMetaData` message, with `@setDataFrame` or without.
pub(super) fn properties(payload: &Bytes) -> Option<Properties> {
    let message = data_message(payload)?;
    if message.role != DataRole::SetMetadata || &message.name[..] != NAME.as_bytes() {
        return None;
    }
    // No message without references comes to more; one that does is not worth the memory.
    let limits = Limits {
        values: Limits::DEFAULT.values.min(payload.len()),
        bytes: Limits::DEFAULT
            .bytes
            .min(payload.len().saturating_mul(MAX_DECODED_PER_BYTE)),
        ..Limits::DEFAULT
    };
    // Two values, whatever follows: some writers pad.
    let mut decoder = amf0::Decoder::new(&message.body, limits);
    decoder.decode().ok()?;
    match decoder.decode().ok()? {
        Value::EcmaArray(properties) => Some(properties),
        Value::Object(object) => Some(object.into_properties()),
        _ => None,
    }
}

/// The message with these properties. `None` if they cannot be written.
pub(super) fn message(properties: Properties) -> Option<Bytes> {
    amf0::encode_all(&[NAME.into(), Value::EcmaArray(properties)]).ok()
}

/// The message with these properties, which takes the place of `payload`. `None` if it cannot be written, or would be longer by more
/// than [`MAX_GROWTH`].
pub(super) fn instead_of(payload: &Bytes, properties: Properties) -> Option<Bytes> {
    message(properties).filter(|message| message.len() <= payload.len() + MAX_GROWTH)
}

/// The message as viewers get it: with the true duration, and without what only means something in the file.
pub(super) fn for_viewers(payload: &Bytes, duration_ms: u64) -> Bytes {
    let Some(mut properties) = properties(payload) else {
        return payload.clone();
    };
    let mut is_changed = false;
    for name in [KEYFRAMES, CODEC_HEADERS] {
        is_changed |= properties.remove(name).is_some();
    }
    let claimed = properties.get("duration").and_then(Value::as_number);
    let is_true = claimed.is_some_and(|claimed| {
        milliseconds(claimed).abs_diff(duration_ms) <= DURATION_TOLERANCE_MS
    }) && claimed != Some(0.0);
    if !is_true && duration_ms > 0 {
        properties.set("duration", seconds(duration_ms));
        is_changed = true;
    }
    if !is_changed {
        return payload.clone();
    }
    instead_of(payload, properties).unwrap_or_else(|| payload.clone())
}

/// What `onMetaData` says of where key frames stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SeekTable {
    /// File position, and timestamp in milliseconds as the tag has it.
    pub(super) keyframes: Vec<(u64, u64)>,
    /// Positions of codec headers and metadata after the first frame, where they are known to be all.
    pub(super) codec_headers: Option<Vec<u64>>,
}

/// The seek table in the metadata of a file of `length` bytes, as it stands there.
pub(super) fn seek_table(properties: &Properties, length: u64) -> Option<SeekTable> {
    let table = properties.get(KEYFRAMES)?;
    let positions = table.get("filepositions")?.as_array()?;
    let times = table.get("times")?.as_array()?;
    if positions.len() != times.len() {
        return None;
    }
    let keyframes = positions
        .iter()
        .zip(times)
        .map(|(position, time)| Some((whole(position)?, milliseconds(time.as_number()?))))
        .collect::<Option<Vec<_>>>()?;
    let is_of_this_file = properties.get("filesize").and_then(whole) == Some(length);
    let codec_headers = properties
        .get(CODEC_HEADERS)
        .filter(|_| is_of_this_file)
        .and_then(Value::as_array)
        .and_then(|positions| positions.iter().map(whole).collect());
    Some(SeekTable {
        keyframes,
        codec_headers,
    })
}

/// Seconds, as metadata has them.
pub(super) fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1_000.0
}

fn milliseconds(seconds: f64) -> u64 {
    // Saturates, and takes what is no number for 0.
    (seconds * 1_000.0).round() as u64
}

fn whole(value: &Value) -> Option<u64> {
    value
        .as_number()
        .filter(|number| *number >= 0.0 && number.fract() == 0.0)
        .map(|number| number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(properties: Properties) -> Bytes {
        message(properties).expect("it can be written")
    }

    #[test]
    fn viewers_get_the_true_duration() {
        let text = || Properties::new().with("title", "a");
        for (what, given, expected) in [
            ("right", text().with("duration", 4.9), None),
            ("none", text(), Some(text().with("duration", 5.0))),
            (
                "zero",
                text().with("duration", 0.0),
                Some(text().with("duration", 5.0)),
            ),
            (
                "a lie",
                text().with("duration", 3_600.0),
                Some(text().with("duration", 5.0)),
            ),
            (
                "no number",
                text().with("duration", "5"),
                Some(text().with("duration", 5.0)),
            ),
            (
                "with a seek table",
                text().with("duration", 5.0).with(KEYFRAMES, 1.0),
                Some(text().with("duration", 5.0)),
            ),
        ] {
            let given = of(given);
            let expected = expected.map_or_else(|| given.clone(), of);
            assert_eq!(for_viewers(&given, 5_000), expected, "{what}");
        }
        let other = Bytes::from_static(b"\x02\0\x05onCue\x05");
        assert_eq!(for_viewers(&other, 5_000), other);
        let cut = of(text());
        let cut = cut.slice(..cut.len() - 4);
        assert_eq!(for_viewers(&cut, 5_000), cut, "what cannot be read stays");
    }

    /// A text, and so many references to it.
    fn referring(text: usize, references: usize) -> Bytes {
        let mut body = b"\x02\0\x0aonMetaData\x08\0\0\0\0\0\x01a\x0a\0\0\0\x01\x02".to_vec();
        body.extend_from_slice(&u16::try_from(text).expect("short").to_be_bytes());
        body.resize(body.len() + text, b'x');
        for _ in 0..references {
            // The table of references holds the properties, and then the array with the text.
            body.extend_from_slice(b"\0\x01b\x07\0\x01");
        }
        body.extend_from_slice(b"\0\0\x09");
        body.into()
    }

    #[test]
    fn references_do_not_make_messages_longer() {
        let honest = referring(5, 1);
        let read = properties(&honest).expect("references can be read");
        assert_eq!(
            read.get("b").and_then(Value::as_array).map(<[Value]>::len),
            Some(1)
        );
        for (text, references) in [(60, 1), (2_000, 1), (7_000, 1_100), (60_000, 250)] {
            let bomb = referring(text, references);
            assert_eq!(for_viewers(&bomb, 5_000), bomb, "{references} of {text}");
        }
    }

    #[test]
    fn what_has_no_references_can_be_read_however_small_its_values_are() {
        let nothing = vec![Value::Null; 50_000];
        let most = of(Properties::new().with("", nothing));
        assert!(properties(&most).is_some());
        let many: Properties = (0..1_000).map(|_| ("".into(), Value::Null)).collect();
        assert!(properties(&of(many)).is_some());
        assert!(properties(&of(Properties::new())).is_some());
    }

    #[test]
    fn set_data_frame_and_padding_are_read() {
        let plain = of(Properties::new().with("width", 320.0));
        let mut wrapped = b"\x02\0\x0d@setDataFrame".to_vec();
        wrapped.extend_from_slice(&plain);
        wrapped.extend_from_slice(&[0, 0, 9]);
        let read = properties(&wrapped.into()).expect("it is metadata");
        assert_eq!(read.get("width").and_then(Value::as_number), Some(320.0));
    }

    #[test]
    fn seek_tables_are_read() {
        let numbers = |numbers: &[f64]| {
            Value::from(numbers.iter().map(|&n| n.into()).collect::<Vec<Value>>())
        };
        let table = |positions: &[f64], times: &[f64]| {
            Properties::new()
                .with("filepositions", numbers(positions))
                .with("times", numbers(times))
        };
        let with = |keyframes: Properties| {
            Properties::new()
                .with(KEYFRAMES, keyframes)
                .with("filesize", 1_000.0)
                .with(CODEC_HEADERS, numbers(&[400.0]))
        };
        let good = with(table(&[100.0, 500.0], &[0.0, 2.0015]));
        let expected = SeekTable {
            keyframes: vec![(100, 0), (500, 2_002)],
            codec_headers: Some(vec![400]),
        };
        assert_eq!(seek_table(&good, 1_000), Some(expected.clone()));
        let changed = SeekTable {
            codec_headers: None,
            ..expected
        };
        assert_eq!(seek_table(&good, 1_001), Some(changed));
        for bad in [
            table(&[100.0], &[0.0, 2.0]),
            table(&[100.5], &[0.0]),
            table(&[-1.0], &[0.0]),
            table(&[f64::NAN], &[0.0]),
            Properties::new(),
        ] {
            assert_eq!(seek_table(&with(bad), 1_000), None);
        }
    }
}
