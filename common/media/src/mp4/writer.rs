//! Fragmented MP4 from RTMP messages, for recordings.
//!
//! # Specification
//! ISO/IEC 14496-12: `moov` without samples (8.2, 8.8.1), `sidx` (8.16.3), a `moof` and an `mdat` for each fragment (8.8), `mfra`
//! (8.8.9). Brand `iso5`: data offsets count from `moof`.
//!
//! # Two passes
//! What stands at the front of a file that players seek in is known at its end only: all decoder configurations, the duration, and
//! the length of each fragment. So the caller goes through the frames twice, which it can as they are stored:
//!
//! ```
//! # use bytes::{Bytes, BytesMut};
//! # use headwater_media::mp4::writer::{Survey, WriteError};
//! # use headwater_media::synthetic::{Settings, SyntheticStream};
//! # fn main() -> Result<(), WriteError> {
//! # let stored: Vec<_> = SyntheticStream::new(Settings::default()).unwrap().take(200).collect();
//! let mut survey = Survey::new();
//! for frame in &stored {
//!     survey.push(frame.kind, frame.timestamp, &frame.payload)?;
//! }
//! let (mut writer, mut out) = (survey.finish()?.writer(), BytesMut::new());
//! writer.begin(&mut out);
//! for frame in &stored {
//!     writer.push(frame.kind, frame.timestamp, &frame.payload, &mut out)?;
//! }
//! writer.finish(&mut out)?;
//! # assert!(out.len() > 100_000);
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//! - Every coded frame of the first video codec and the first audio codec is in the file once, in order, byte by byte; what is
//!   not (other codecs and tracks, frames before their decoder configuration) is counted in [`Layout::left_out`].
//! - Both passes run the same code, so that lengths agree; frames that are not those of the first pass are [`WriteError::Changed`].
//! - In memory are one fragment (at most [`MAX_FRAGMENT_BYTES`] and one frame) and some 60 bytes for each fragment before it.
//! - Decode times are those of the messages from the first frame on, in milliseconds. Audio that follows the clock of its samples to
//!   3 ms is on that clock.
//!
//! # What it does not do
//! Data messages, captions, encryption, codecs other than H.264, HEVC, AAC and MP3, and Enhanced RTMP's further tracks.

use bytes::{BufMut, Bytes};

mod boxes;
mod lane;
mod unit;

use self::lane::{Lane, Pushed};
use super::MAX_FRAGMENTS;
use crate::frame::FrameKind;

/// How long a fragment is at the least, in milliseconds: it ends before the next key frame after that.
pub const FRAGMENT_MS: u64 = 2_000;

/// How long a fragment is at the most, in milliseconds: without a key frame it ends at the next frame of whatever kind.
pub const MAX_FRAGMENT_MS: u64 = 10_000;

/// How much media a fragment may have, in bytes, before it ends at the next frame of whatever kind.
pub const MAX_FRAGMENT_BYTES: usize = 8 << 20;

/// Most samples of a fragment.
const MAX_FRAGMENT_SAMPLES: usize = 1 << 14;

/// Most decoder configurations of a track. Adobe's server takes 20.
pub const MAX_CONFIGURATIONS: usize = 64;

/// Track ids.
const VIDEO: u32 = 1;
const AUDIO: u32 = 2;

/// Why frames make no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// There is no frame that an MP4 file can hold.
    #[error("there is no frame of H.264, HEVC, AAC or MP3")]
    Empty,
    /// A frame is larger than any RTMP message.
    #[error("a frame of {length} bytes, at most {max} can be written")]
    TooLarge {
        /// Of its data.
        length: usize,
        /// See [`MAX_SAMPLE`](super::MAX_SAMPLE).
        max: usize,
    },
    /// The decoder configuration changes more often than [`MAX_CONFIGURATIONS`] times.
    #[error("more than {MAX_CONFIGURATIONS} decoder configurations")]
    TooManyConfigurations,
    /// The stream is longer than a file can be that [`Mp4File`](super::Mp4File) reads.
    #[error("more than {MAX_FRAGMENTS} fragments")]
    TooLong,
    /// In the second pass there were other frames than in the first.
    #[error("fragment {fragment} is not what it was in the first pass")]
    Changed {
        /// Its number, from 0.
        fragment: usize,
    },
}

/// The first pass: what the file will be like.
#[derive(Debug, Default)]
pub struct Survey {
    cutter: Cutter,
    fragments: Vec<Extent>,
}

impl Survey {
    /// Before the first frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next frame: any audio, video or data message, at this time in milliseconds.
    ///
    /// # Errors
    /// [`WriteError`]; nothing can be written then.
    pub fn push(
        &mut self,
        kind: FrameKind,
        timestamp: u64,
        payload: &Bytes,
    ) -> Result<(), WriteError> {
        if let Some(fragment) = self.cutter.push(kind, timestamp, payload)? {
            self.note(&fragment)?;
        }
        Ok(())
    }

    /// After the last frame.
    ///
    /// # Errors
    /// [`WriteError::Empty`], or as [`push`](Self::push).
    pub fn finish(mut self) -> Result<Layout, WriteError> {
        if let Some(fragment) = self.cutter.finish() {
            self.note(&fragment)?;
        }
        if self.fragments.is_empty() {
            return Err(WriteError::Empty);
        }
        let mut layout = Layout {
            tracks: self.cutter.tracks(),
            left_out: self.cutter.left_out,
            fragments: self.fragments,
            head: Bytes::new(),
            length: 0,
        };
        layout.head = boxes::head(&layout);
        let media: u64 = layout
            .fragments
            .iter()
            .map(|fragment| fragment.length)
            .sum();
        let tail = boxes::tail(&layout).len();
        layout.length = (layout.head.len() + tail) as u64 + media;
        Ok(layout)
    }

    fn note(&mut self, fragment: &Fragment) -> Result<(), WriteError> {
        if self.fragments.len() == MAX_FRAGMENTS {
            return Err(WriteError::TooLong);
        }
        let number = self.fragments.len();
        self.fragments.push(Extent {
            length: boxes::fragment_length(fragment, number),
            starts: fragment.parts.each_ref().map(|part| {
                let first = part.as_ref()?.samples.first()?;
                Some((first.time, first.is_sync))
            }),
        });
        Ok(())
    }
}

/// What the file will be like: made by the first pass, used by the second.
#[derive(Debug)]
pub struct Layout {
    tracks: [Option<TrackLayout>; 2],
    left_out: u64,
    fragments: Vec<Extent>,
    /// Everything before the first fragment.
    head: Bytes,
    length: u64,
}

impl Layout {
    /// Bytes of the file.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// From the first frame to the end of the last, in milliseconds.
    #[must_use]
    pub fn duration_ms(&self) -> u64 {
        let ends = self.tracks.iter().flatten().map(TrackLayout::end_ms);
        ends.max().unwrap_or(0)
    }

    /// How many audio and video frames are not in the file, because MP4 or this writer has no place for them.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The second pass.
    #[must_use]
    pub fn writer(self) -> Mp4Writer {
        Mp4Writer {
            layout: self,
            cutter: Cutter {
                keeps_media: true,
                ..Cutter::default()
            },
            written: 0,
        }
    }
}

/// The second pass: the same frames in, bytes out.
#[derive(Debug)]
pub struct Mp4Writer {
    layout: Layout,
    cutter: Cutter,
    /// Fragments.
    written: usize,
}

impl Mp4Writer {
    /// Writes what comes before the first fragment. Once, before the first [`push`](Self::push).
    pub fn begin(&self, out: &mut impl BufMut) {
        out.put_slice(&self.layout.head);
    }

    /// The next frame. Writes a fragment whenever one is complete.
    ///
    /// # Errors
    /// [`WriteError`]; what was written is no whole file then.
    pub fn push(
        &mut self,
        kind: FrameKind,
        timestamp: u64,
        payload: &Bytes,
        out: &mut impl BufMut,
    ) -> Result<(), WriteError> {
        match self.cutter.push(kind, timestamp, payload)? {
            Some(fragment) => self.write(&fragment, out),
            None => Ok(()),
        }
    }

    /// Writes the last fragment, and what comes after it.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self, out: &mut impl BufMut) -> Result<(), WriteError> {
        if let Some(fragment) = self.cutter.finish() {
            self.write(&fragment, out)?;
        }
        if self.written != self.layout.fragments.len() {
            return Err(WriteError::Changed {
                fragment: self.written,
            });
        }
        out.put_slice(&boxes::tail(&self.layout));
        Ok(())
    }

    fn write(&mut self, fragment: &Fragment, out: &mut impl BufMut) -> Result<(), WriteError> {
        let number = self.written;
        let length = boxes::fragment_length(fragment, number);
        let planned = self.layout.fragments.get(number);
        if planned.is_none_or(|planned| planned.length != length) {
            return Err(WriteError::Changed { fragment: number });
        }
        boxes::put_fragment(fragment, number, out);
        self.written += 1;
        Ok(())
    }
}

/// What is kept of a fragment.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// Bytes of `moof` and `mdat`.
    length: u64,
    /// When video and audio begin in it, in ticks of their own, and whether a decoder can start there.
    starts: [Option<(u64, bool)>; 2],
}

/// What the movie box says of a track.
#[derive(Debug)]
struct TrackLayout {
    id: u32,
    /// Ticks per second.
    timescale: u32,
    /// Sample entries, in the order of their indices.
    descriptions: Vec<Bytes>,
    /// In samples.
    width: u32,
    height: u32,
    /// When the first sample is presented, and when the last ends, in ticks.
    start: u64,
    end: u64,
}

impl TrackLayout {
    fn end_ms(&self) -> u64 {
        (self.end.saturating_mul(1_000)).div_ceil(u64::from(self.timescale.max(1)))
    }
}

/// Samples of both tracks, video first.
#[derive(Debug)]
struct Fragment {
    parts: [Option<Part>; 2],
}

/// A track's samples in a fragment.
#[derive(Debug)]
struct Part {
    id: u32,
    /// From 1.
    description: u32,
    samples: Vec<FragmentSample>,
    /// Their data, in order; none in the first pass.
    media: Vec<Bytes>,
    /// Bytes of their data.
    bytes: u64,
}

/// A sample in a fragment.
#[derive(Clone, Copy, Debug)]
struct FragmentSample {
    /// In ticks.
    time: u64,
    duration: u32,
    composition: i32,
    size: u32,
    is_sync: bool,
}

/// Cuts frames into fragments.
#[derive(Debug, Default)]
struct Cutter {
    keeps_media: bool,
    lanes: [Option<Lane>; 2],
    /// Timestamp of the first frame that is written, and of the first one in the fragment.
    zero: Option<u64>,
    start: Option<u64>,
    left_out: u64,
}

impl Cutter {
    /// Takes a frame, and gives the fragment that ends before it, if one does.
    fn push(
        &mut self,
        kind: FrameKind,
        timestamp: u64,
        payload: &Bytes,
    ) -> Result<Option<Fragment>, WriteError> {
        let number = match kind {
            FrameKind::Video => 0,
            FrameKind::Audio => 1,
            FrameKind::Data => return Ok(None),
        };
        let Some(unit) = unit::read(kind, payload) else {
            self.left_out += 1;
            return Ok(None);
        };
        let Some(place) = self.lanes.get_mut(number) else {
            return Ok(None);
        };
        let lane = place.get_or_insert_with(|| Lane::new(unit.coding));
        let sample = match lane.take(unit)? {
            Pushed::Nothing => return Ok(None),
            Pushed::LeftOut => {
                self.left_out += 1;
                return Ok(None);
            }
            Pushed::Sample(sample) => sample,
        };
        let is_new_description = lane.is_new_description();
        let fragment = if self.ends_before(number, timestamp, sample.is_key, is_new_description) {
            self.cut(Some((number, timestamp)))
        } else {
            None
        };
        let zero = *self.zero.get_or_insert(timestamp);
        self.start.get_or_insert(timestamp);
        if let Some(Some(lane)) = self.lanes.get_mut(number) {
            lane.push(sample, timestamp.saturating_sub(zero), self.keeps_media);
        }
        Ok(fragment)
    }

    fn ends_before(
        &self,
        lane: usize,
        timestamp: u64,
        is_key: bool,
        is_new_description: bool,
    ) -> bool {
        let Some(start) = self.start else {
            return false;
        };
        let length = timestamp.saturating_sub(start);
        let lanes = self.lanes.iter().flatten();
        let (bytes, samples) = lanes.fold((0, 0), |(bytes, samples), lane| {
            (bytes + lane.bytes(), samples + lane.samples())
        });
        let has_video = self
            .lanes
            .first()
            .is_some_and(|lane| lane.as_ref().is_some_and(Lane::has_begun));
        let is_start = is_key && (lane == 0 || !has_video);
        is_new_description
            || bytes >= MAX_FRAGMENT_BYTES as u64
            || samples >= MAX_FRAGMENT_SAMPLES
            || length >= MAX_FRAGMENT_MS
            || is_start && length >= FRAGMENT_MS
    }

    /// Ends the fragment. `next` is the lane and the timestamp of the frame after it.
    fn cut(&mut self, next: Option<(usize, u64)>) -> Option<Fragment> {
        self.start = None;
        let zero = self.zero.unwrap_or(0);
        let mut parts = [None, None];
        for (number, (lane, part)) in self.lanes.iter_mut().zip(&mut parts).enumerate() {
            let next = next
                .filter(|(lane, _)| *lane == number)
                .map(|(_, timestamp)| timestamp.saturating_sub(zero));
            let id = if number == 0 { VIDEO } else { AUDIO };
            *part = lane.as_mut().and_then(|lane| lane.cut(id, next));
        }
        parts
            .iter()
            .any(Option::is_some)
            .then_some(Fragment { parts })
    }

    fn finish(&mut self) -> Option<Fragment> {
        self.cut(None)
    }

    fn tracks(&self) -> [Option<TrackLayout>; 2] {
        let mut tracks = [None, None];
        for ((lane, track), id) in self.lanes.iter().zip(&mut tracks).zip([VIDEO, AUDIO]) {
            *track = lane.as_ref().and_then(|lane| lane.layout(id));
        }
        tracks
    }
}

#[cfg(test)]
mod tests;
