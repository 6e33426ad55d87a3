//! A playable FLV file out of stored frames.
//!
//! # Specification
//! Adobe Flash Video File Format 10.1, annex E; the properties of `onMetaData` are those of E.5, and what FLV tools agree on: a seek
//! table `keyframes`, `lasttimestamp`, `filesize`, `hasVideo` and so on.
//!
//! # How
//! The metadata stands at the front and tells of all that follows, so the frames are gone through twice: a [`Planner`] is shown what they
//! are like and makes a [`Plan`]; a [`Writer`] then turns each of them into a tag.
//!
//! ```
//! use bytes::Bytes;
//! use headwater_media::flv::compose::{Planner, Summary};
//! use headwater_media::frame::{FrameFlags, FrameKind};
//!
//! let frames = [(7_000, Bytes::from_static(&[0x2f, 1])), (7_026, Bytes::from_static(&[0x2f, 2]))];
//! let mut planner = Planner::new(7_000);
//! for (timestamp, payload) in &frames {
//!     planner.add(&Summary::new(*timestamp, FrameKind::Audio, FrameFlags::empty(), payload))?;
//! }
//! let plan = planner.finish();
//! let mut file = Vec::new();
//! let mut writer = plan.writer(&mut file);
//! for (timestamp, payload) in &frames {
//!     writer.frame(*timestamp, FrameKind::Audio, FrameFlags::empty(), payload, &mut file)?;
//! }
//! writer.finish()?;
//! assert_eq!(file.len() as u64, plan.size());
//! # Ok::<(), headwater_media::flv::compose::ComposeError>(())
//! ```
//!
//! # What becomes of frames
//! Each is a tag, in order, with its payload as it is. Only `onMetaData` is different: those before the first picture or sound go into the
//! one at the front, whose own properties are kept but for those that are known better; later ones stay where they are, with the true
//! duration and without `@setDataFrame`, which files do not have.
//!
//! Timestamps are those of the frames less the base, and 32 bits of that. What is before the base is at 0.

use bytes::{BufMut, Bytes};

mod description;

use self::description::Description;
use super::headers::Headers;
use super::{
    FLV_HEADER_SIZE, FlvHeader, MAX_TAG_BODY, TAG_HEADER_SIZE, metadata, write_header, write_tag,
};
use crate::frame::{Frame, FrameFlags, FrameKind};
use crate::inspect::data_message;
use crate::thinned::Thinned;

/// Most key frames in the seek table. Of more, every second one is listed, or every fourth, and so on: 18 bytes each make 288 KiB of
/// metadata at most.
pub const MAX_KEYFRAMES: usize = 16_384;

/// Why frames cannot be made into a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// A tag cannot be as long.
    #[error("frame {number} has {length} bytes, at most {MAX_TAG_BODY} are possible")]
    TooLong {
        /// Of the frame, from 0.
        number: u64,
        /// Of its payload, in bytes.
        length: usize,
    },
    /// Metadata can only be planned with its payload.
    #[error("frame {number} is metadata and was shown without its payload")]
    WithoutPayload {
        /// Of the frame, from 0.
        number: u64,
    },
    /// The frames that are written are not those that were planned.
    #[error(
        "{written} bytes and {frames} frames are not the {planned} bytes and {planned_frames} frames of the plan"
    )]
    OtherFrames {
        /// Bytes written.
        written: u64,
        /// Frames written.
        frames: u64,
        /// Bytes planned.
        planned: u64,
        /// Frames planned.
        planned_frames: u64,
    },
}

/// What a plan needs to know of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    /// Media time in milliseconds.
    pub timestamp: u64,
    /// Audio, video or data.
    pub kind: FrameKind,
    /// What is known of the payload.
    pub flags: FrameFlags,
    /// Of the payload, in bytes.
    pub length: usize,
    /// Needed of frames with one of the flags `METADATA`, `CLEAR_METADATA` and `HEADER`. Of the first audio and video frame it tells the
    /// codec, if no header did.
    pub payload: Option<&'a Bytes>,
}

impl<'a> Summary<'a> {
    /// Of a frame that is there as a whole.
    #[must_use]
    pub fn new(timestamp: u64, kind: FrameKind, flags: FrameFlags, payload: &'a Bytes) -> Self {
        Self {
            timestamp,
            kind,
            flags,
            length: payload.len(),
            payload: Some(payload),
        }
    }
}

impl<'a> From<&'a Frame> for Summary<'a> {
    fn from(frame: &'a Frame) -> Self {
        Self::new(frame.timestamp, frame.kind, frame.flags, &frame.payload)
    }
}

/// The first pass: goes past all frames. Its memory is bounded by [`MAX_KEYFRAMES`], the newest metadata and
/// [`MAX_HEADER_CHANGES`](super::MAX_HEADER_CHANGES).
#[derive(Debug)]
pub struct Planner {
    base: u64,
    frames: u64,
    /// Bytes of the tags after the metadata at the front.
    body: u64,
    has_media: bool,
    /// Key frames by their place after the metadata at the front, and their time.
    keyframes: Thinned<(u64, u64)>,
    /// Of codec headers and metadata after the first picture or sound, by the same.
    headers: Headers,
    description: Description,
}

impl Planner {
    /// A plan of a file whose time 0 is the media time `base`, in milliseconds: that of the first picture or sound, as a rule. Players
    /// wait, and [`FlvFile`](super::FlvFile) begins with it, where it comes later.
    #[must_use]
    pub fn new(base: u64) -> Self {
        Self {
            base,
            frames: 0,
            body: 0,
            has_media: false,
            keyframes: Thinned::new(MAX_KEYFRAMES),
            headers: Headers::default(),
            description: Description::default(),
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`ComposeError`], after which the plan is as it was before.
    pub fn add(&mut self, summary: &Summary<'_>) -> Result<(), ComposeError> {
        let number = self.frames;
        let (kind, flags) = (summary.kind, summary.flags);
        let has_slot = flags
            .intersects(FrameFlags::HEADER | FrameFlags::METADATA | FrameFlags::CLEAR_METADATA);
        if has_slot && summary.payload.is_none() {
            return Err(ComposeError::WithoutPayload { number });
        }
        let replaced = summary
            .payload
            .and_then(|payload| Replaced::of(kind, flags, payload, self.has_media, 0));
        let length = match &replaced {
            Some(Replaced::Left) => None,
            Some(Replaced::By(payload)) => Some(payload.len()),
            None => Some(summary.length),
        };
        if let Some(length) = length.filter(|length| *length > MAX_TAG_BODY) {
            return Err(ComposeError::TooLong { number, length });
        }
        let time = summary.timestamp.saturating_sub(self.base);
        self.frames += 1;
        self.has_media |= is_media(kind, flags);
        self.description.add(summary, time, replaced.is_some());
        if kind == FrameKind::Video && flags.contains(FrameFlags::KEY) {
            self.keyframes.push((self.body, time));
        }
        if has_slot
            && self.has_media
            && let Some(payload) = summary.payload
        {
            self.headers.note(self.body, kind, flags, payload);
        }
        if let Some(length) = length {
            self.body += tag_size(length);
        }
        Ok(())
    }

    /// The plan, after the last frame.
    #[must_use]
    pub fn finish(self) -> Plan {
        let keyframes = self.keyframes.into_entries();
        let listed: Option<Vec<u64>> =
            (!self.headers.is_full()).then(|| self.headers.positions().collect());
        // Numbers have the same length whatever they are, so the first try tells where all begins.
        let describe = |size, front| {
            let tables = description::Tables {
                keyframes: &keyframes,
                headers: listed.as_deref(),
                front,
            };
            self.description.message(&tables, size)
        };
        let front = FLV_HEADER_SIZE as u64 + tag_size(describe(0, 0).len());
        let size = front + self.body;
        Plan {
            base: self.base,
            duration_ms: self.description.duration_ms(),
            size,
            frames: self.frames,
            header: FlvHeader {
                has_audio: self.description.has_audio(),
                has_video: self.description.has_video(),
            },
            metadata: describe(size, front),
        }
    }
}

/// What will be written.
#[derive(Clone, Debug)]
pub struct Plan {
    base: u64,
    duration_ms: u64,
    size: u64,
    frames: u64,
    header: FlvHeader,
    metadata: Bytes,
}

impl Plan {
    /// Bytes of the whole file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Milliseconds to the end of the last frame.
    #[must_use]
    pub fn duration_ms(&self) -> u64 {
        self.duration_ms
    }

    /// How many frames there are.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Writes the file header and the metadata, and gives what writes the rest.
    #[must_use]
    pub fn writer(&self, out: &mut impl BufMut) -> Writer {
        write_header(self.header, out);
        // No metadata is made that is too long.
        let _ = write_tag(0, FrameKind::Data, &self.metadata, out);
        Writer {
            base: self.base,
            duration_ms: self.duration_ms,
            planned: self.size,
            planned_frames: self.frames,
            written: FLV_HEADER_SIZE as u64 + tag_size(self.metadata.len()),
            frames: 0,
            has_media: false,
        }
    }
}

/// The second pass: makes tags of the same frames.
#[derive(Debug)]
pub struct Writer {
    base: u64,
    duration_ms: u64,
    planned: u64,
    planned_frames: u64,
    written: u64,
    frames: u64,
    has_media: bool,
}

impl Writer {
    /// Writes the next frame: nothing for metadata that stands at the front already, a tag for all else.
    ///
    /// # Errors
    /// [`ComposeError`] where the frame is none of the plan's. Nothing is written then.
    pub fn frame(
        &mut self,
        timestamp: u64,
        kind: FrameKind,
        flags: FrameFlags,
        payload: &Bytes,
        out: &mut impl BufMut,
    ) -> Result<(), ComposeError> {
        let replaced = Replaced::of(kind, flags, payload, self.has_media, self.duration_ms);
        let payload = match &replaced {
            Some(Replaced::Left) => None,
            Some(Replaced::By(payload)) => Some(payload),
            None => Some(payload),
        };
        let size = payload.map_or(0, |payload| tag_size(payload.len()));
        if self.frames >= self.planned_frames || self.written + size > self.planned {
            return Err(self.other_frames());
        }
        if let Some(payload) = payload {
            // 32 bits of it, as players expect of a file of more than 49 days.
            let time = timestamp.saturating_sub(self.base) as u32;
            if !write_tag(time, kind, payload, out) {
                return Err(ComposeError::TooLong {
                    number: self.frames,
                    length: payload.len(),
                });
            }
        }
        self.frames += 1;
        self.written += size;
        self.has_media |= is_media(kind, flags);
        Ok(())
    }

    /// Says that this was the last frame.
    ///
    /// # Errors
    /// [`ComposeError::OtherFrames`] where that is not what was planned: the file is none.
    pub fn finish(self) -> Result<(), ComposeError> {
        if self.written == self.planned && self.frames == self.planned_frames {
            Ok(())
        } else {
            Err(self.other_frames())
        }
    }

    fn other_frames(&self) -> ComposeError {
        ComposeError::OtherFrames {
            written: self.written,
            frames: self.frames,
            planned: self.planned,
            planned_frames: self.planned_frames,
        }
    }
}

/// What is written in place of a payload.
enum Replaced {
    /// Nothing.
    Left,
    By(Bytes),
}

impl Replaced {
    /// `None`: the payload is written as it is. The length of what is written does not depend on the duration.
    fn of(
        kind: FrameKind,
        flags: FrameFlags,
        payload: &Bytes,
        has_media: bool,
        duration_ms: u64,
    ) -> Option<Self> {
        if kind != FrameKind::Data || !flags.contains(FrameFlags::METADATA) {
            return None;
        }
        let message = data_message(payload)?;
        if &message.name[..] != metadata::NAME.as_bytes() {
            return None;
        }
        if !has_media {
            return Some(Self::Left);
        }
        let described = metadata::properties(payload).and_then(|mut properties| {
            properties.remove(metadata::KEYFRAMES);
            properties.remove(metadata::CODEC_HEADERS);
            properties.set("duration", metadata::seconds(duration_ms));
            metadata::instead_of(payload, properties)
        });
        Some(Self::By(described.unwrap_or(message.body)))
    }
}

fn is_media(kind: FrameKind, flags: FrameFlags) -> bool {
    kind != FrameKind::Data && !flags.contains(FrameFlags::HEADER)
}

fn tag_size(length: usize) -> u64 {
    (TAG_HEADER_SIZE + length) as u64 + 4
}

#[cfg(test)]
mod tests;
