//! The `onMetaData` at the front of a composed file.

use bytes::Bytes;
use headwater_amf::{Properties, Value};

use super::{MAX_TAG_BODY, Summary, is_media};
use crate::flv::metadata::{self, CODEC_HEADERS, KEYFRAMES, seconds};
use crate::frame::{FrameFlags, FrameKind};
use crate::inspect::{Configuration, configuration};

/// Longest time that the last frame is taken to last, in milliseconds.
const MAX_LAST_FRAME_MS: u64 = 1_000;

/// What is known better than by the publisher.
const OWN: [&str; 11] = [
    "duration",
    "lasttimestamp",
    "lastkeyframetimestamp",
    "filesize",
    "hasVideo",
    "hasAudio",
    "hasMetadata",
    "hasKeyframes",
    "canSeekToEnd",
    KEYFRAMES,
    CODEC_HEADERS,
];

/// What has been learnt of a stream.
#[derive(Debug, Default)]
pub(super) struct Description {
    /// The publisher's metadata: the newest before the first picture or sound, or else the first after it.
    publisher: Option<Properties>,
    audio: Option<Track>,
    video: Option<Track>,
    size: Option<(u32, u32)>,
    last_ms: u64,
    last_key_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Track {
    /// As `onMetaData` has it: the number of the codec, or its four characters as a number.
    codec: Option<f64>,
    /// Of the last frame, once there is one.
    last_ms: Option<u64>,
    step_ms: u64,
}

/// Where things stand, counted from the end of the metadata, which is at byte `front`.
pub(super) struct Tables<'a> {
    pub(super) keyframes: &'a [(u64, u64)],
    pub(super) headers: Option<&'a [u64]>,
    pub(super) front: u64,
}

impl Description {
    pub(super) fn add(&mut self, summary: &Summary<'_>, time: u64, is_metadata: bool) {
        let (kind, flags) = (summary.kind, summary.flags);
        let is_media = is_media(kind, flags);
        self.last_ms = self.last_ms.max(time);
        if kind == FrameKind::Video && flags.contains(FrameFlags::KEY) {
            self.last_key_ms = self.last_key_ms.max(time);
        }
        if is_metadata && (!self.has_media() || self.publisher.is_none()) {
            let detached = summary.payload.and_then(publishers);
            self.publisher = detached.or_else(|| self.publisher.take());
        }
        if self.size.is_none()
            && let Some(payload) = summary.payload
            && let Some(Configuration::Avc { size, .. }) = configuration(kind, payload)
        {
            self.size = size;
        }
        let track = match kind {
            FrameKind::Audio => &mut self.audio,
            FrameKind::Video => &mut self.video,
            FrameKind::Data => return,
        };
        let track = track.get_or_insert(Track {
            codec: None,
            last_ms: None,
            step_ms: 0,
        });
        track.codec = track
            .codec
            .or_else(|| codec_id(kind, summary.payload.map_or(&[], |payload| &payload[..])));
        if is_media {
            let step = track.last_ms.map_or(0, |last| time.saturating_sub(last));
            track.step_ms = step.min(MAX_LAST_FRAME_MS);
            track.last_ms = Some(time);
        }
    }

    pub(super) fn has_audio(&self) -> bool {
        self.audio.is_some()
    }

    pub(super) fn has_video(&self) -> bool {
        self.video.is_some()
    }

    fn has_media(&self) -> bool {
        let has_frames = |track: Option<Track>| track.is_some_and(|track| track.last_ms.is_some());
        has_frames(self.audio) || has_frames(self.video)
    }

    pub(super) fn duration_ms(&self) -> u64 {
        let end = |track: Option<Track>| Some(track?.last_ms? + track?.step_ms);
        end(self.audio).max(end(self.video)).unwrap_or(self.last_ms)
    }

    /// The message. Its length depends neither on `size` nor on the place of the tables.
    pub(super) fn message(&self, tables: &Tables<'_>, size: u64) -> Bytes {
        let publisher = self.publisher.clone().unwrap_or_default();
        [publisher, Properties::new()]
            .into_iter()
            .filter_map(|properties| metadata::message(self.properties(properties, tables, size)))
            .find(|message| message.len() <= MAX_TAG_BODY)
            .unwrap_or_default()
    }

    fn properties(&self, mut to: Properties, tables: &Tables<'_>, size: u64) -> Properties {
        to.set("duration", seconds(self.duration_ms()));
        let has_size = ["width", "height"].iter().all(|name| {
            let number = to.get(name).and_then(Value::as_number);
            number.is_some_and(|number| number > 0.0)
        });
        if let Some((width, height)) = self.size.filter(|_| !has_size) {
            to.set("width", width);
            to.set("height", height);
        }
        for (name, track) in [("videocodecid", self.video), ("audiocodecid", self.audio)] {
            if let Some(codec) = track.and_then(|track| track.codec) {
                to.set(name, codec);
            }
        }
        to.set("hasVideo", self.has_video());
        to.set("hasAudio", self.has_audio());
        to.set("hasMetadata", true);
        to.set("lasttimestamp", seconds(self.last_ms));
        to.set("filesize", size as f64);
        if !tables.keyframes.is_empty() {
            let number = |position: u64| Value::from((tables.front + position) as f64);
            let positions: Vec<Value> = tables
                .keyframes
                .iter()
                .map(|(position, _)| number(*position))
                .collect();
            let times: Vec<Value> = tables
                .keyframes
                .iter()
                .map(|(_, time)| Value::from(seconds(*time)))
                .collect();
            to.set("hasKeyframes", true);
            to.set("lastkeyframetimestamp", seconds(self.last_key_ms));
            let table = Properties::new()
                .with("filepositions", positions)
                .with("times", times);
            // libavformat, at least to release 5.1, cuts the times of a table to whole seconds, and would play from a key frame
            // after the one that was asked for. It looks at no table that is an array; other players do.
            let is_cut = tables.keyframes.iter().any(|(_, time)| time % 1_000 != 0);
            let table = if is_cut {
                Value::EcmaArray(table)
            } else {
                Value::Object(table.into())
            };
            to.set(KEYFRAMES, table);
            if let Some(headers) = tables.headers {
                let headers: Vec<Value> = headers.iter().map(|at| number(*at)).collect();
                to.set(CODEC_HEADERS, headers);
            }
        }
        to
    }
}

/// What a publisher says that is not known better, without the payload's memory. `None` for what would be longer than the payload.
fn publishers(payload: &Bytes) -> Option<Properties> {
    let properties: Properties = metadata::properties(payload)?
        .iter()
        .filter(|(name, _)| !OWN.iter().any(|own| *name == **own))
        .map(|(name, value)| (name.detached(), value.detached()))
        .collect();
    metadata::instead_of(payload, properties.clone())?;
    Some(properties)
}

/// The codec as `onMetaData` has it: the number in a tag (E.4.2.1, E.4.3.1), or with Enhanced RTMP the four characters as a number.
fn codec_id(kind: FrameKind, payload: &[u8]) -> Option<f64> {
    let &first = payload.first()?;
    let (is_extended, number) = match kind {
        FrameKind::Video => (first & 0x80 != 0, first & 0x0f),
        _ => (first >> 4 == 9, first >> 4),
    };
    if !is_extended {
        return Some(f64::from(number));
    }
    // Behind modifiers or track numbers it is not looked for.
    let simple = match kind {
        FrameKind::Video => first & 0x0f < 6,
        _ => first & 0x0f < 5,
    };
    let code = payload.get(1..)?.first_chunk::<4>().filter(|_| simple)?;
    Some(f64::from(u32::from_be_bytes(*code)))
}
