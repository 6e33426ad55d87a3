//! The `onMetaData` message that Adobe's server makes for files that have none of their own.

use bytes::Bytes;
use headwater_amf::{Object, Properties, Value, amf0};

use super::boxes;
use super::description::{Coding, Description};
use super::merge::Frames;
use super::movie::Movie;
use super::track::Track;
use crate::file::FileInfo;
use crate::frame::FrameKind;
use crate::inspect::{Configuration, configuration};

/// Most seek points listed. Of more key frames every second, fourth... is, so that the message, which goes with every piece, stays
/// below 20 KB.
const MAX_SEEK_POINTS: usize = 256;

/// What the message says, as far as it is known.
pub(super) struct Metadata {
    tracks: Vec<Value>,
    movie_offset: u64,
    /// Time in milliseconds, and place.
    seek_points: Vec<(u64, u64)>,
    /// One of so many key frames is in the list.
    every: usize,
    key_frames: usize,
}

impl Metadata {
    pub(super) fn new(movie: &Movie) -> Self {
        let tracks = movie.tracks.iter().map(|track| {
            let descriptions = track
                .descriptions
                .iter()
                .take(16)
                .map(|description| {
                    let code = boxes::name(description.code);
                    Object::new().with("sampletype", code).into()
                })
                .collect::<Vec<Value>>();
            Object::new()
                .with("length", track.duration as f64)
                .with("timescale", f64::from(track.timescale))
                .with("language", track.language.as_str())
                .with("sampledescription", descriptions)
                .into()
        });
        Self {
            tracks: tracks.collect(),
            movie_offset: movie.offset,
            seek_points: Vec::new(),
            every: 1,
            key_frames: 0,
        }
    }

    /// A video key frame, in order.
    pub(super) fn seek_point(&mut self, ms: u64, offset: u64) {
        if self.key_frames.is_multiple_of(self.every) {
            if self.seek_points.len() == MAX_SEEK_POINTS {
                let mut number = 0;
                self.seek_points.retain(|_| {
                    number += 1;
                    number % 2 == 1
                });
                self.every *= 2;
            }
            if self.key_frames.is_multiple_of(self.every) {
                self.seek_points.push((ms, offset));
            }
        }
        self.key_frames += 1;
    }

    /// The message.
    pub(super) fn finish(self, info: &FileInfo, frames: &Frames) -> Bytes {
        let mut properties = Properties::new()
            .with("duration", info.duration_ms as f64 / 1_000.0)
            .with("moovPosition", self.movie_offset as f64);
        if let Some(track) = &frames.video
            && let Some(description) = track.descriptions.first()
        {
            video(&mut properties, track, description);
        }
        if let Some(track) = &frames.audio
            && let Some(description) = track.descriptions.first()
        {
            audio(&mut properties, description);
        }
        properties.push("trackinfo", self.tracks);
        if info.has_video {
            let points = self.seek_points.iter().map(|(ms, offset)| {
                Object::new()
                    .with("time", *ms as f64 / 1_000.0)
                    .with("offset", *offset as f64)
                    .into()
            });
            properties.push("seekpoints", points.collect::<Vec<Value>>());
        }
        // Encoding fails for texts and nesting far above these.
        amf0::encode_all(&["onMetaData".into(), Value::EcmaArray(properties)]).unwrap_or_default()
    }
}

fn video(properties: &mut Properties, track: &Track, description: &Description) {
    let code = match description.coding {
        Some(Coding::Hevc) => "hvc1",
        _ => "avc1",
    };
    let mut size = (u32::from(description.width), u32::from(description.height));
    let header = description.header();
    match header.and_then(|header| configuration(FrameKind::Video, &header)) {
        Some(Configuration::Avc {
            profile,
            level,
            size: coded,
            ..
        }) => {
            properties.push("avcprofile", f64::from(profile));
            properties.push("avclevel", f64::from(level));
            size = coded.unwrap_or(size);
        }
        Some(Configuration::Hevc { size: coded, .. }) => size = coded.unwrap_or(size),
        _ => {}
    }
    properties.push("videocodecid", code);
    properties.push("width", f64::from(size.0));
    properties.push("height", f64::from(size.1));
    let ms = track.end_ms.saturating_sub(track.first_ms);
    if ms > 0 {
        let rate = f64::from(track.count()) * 1_000.0 / ms as f64;
        let rate = (rate * 1_000.0).round() / 1_000.0;
        properties.push("framerate", rate);
        properties.push("videoframerate", rate);
    }
}

fn audio(properties: &mut Properties, description: &Description) {
    let code = match description.coding {
        Some(Coding::Mp3) => ".mp3",
        _ => "mp4a",
    };
    properties.push("audiocodecid", code);
    let mut rate = description.sample_rate;
    let mut channels = u32::from(description.channels);
    if let Some(header) = description.header()
        && let Some(Configuration::Aac {
            object_type,
            sample_rate,
            channels: coded,
        }) = configuration(FrameKind::Audio, &header)
    {
        properties.push("aacaot", f64::from(object_type));
        rate = sample_rate;
        channels = match coded {
            0 => channels,
            7 => 8,
            coded => u32::from(coded),
        };
    }
    properties.push("audiosamplerate", f64::from(rate));
    properties.push("audiochannels", f64::from(channels));
}
