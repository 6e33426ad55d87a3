//! The frames of both tracks in the order of their decode times.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::boxes::{Source, invalid};
use super::description::Description;
use super::fragments::Fragment;
use super::track::{Cursor, Track};
use super::{MAX_DURATION_MS, Sample};
use crate::file::FileError;
use crate::frame::FrameKind;

/// How many bytes may lie between the samples of a piece that are read at once, for each byte of them, and besides.
const MAX_BETWEEN: (u64, u64) = (1, 64 << 10);

/// Composition times of FLV have 24 bits.
const MAX_COMPOSITION_MS: i64 = (1 << 23) - 1;

/// The tracks that are sent, and what they are read from.
pub(super) struct Frames {
    source: Source,
    fragments: Vec<Fragment>,
    pub(super) video: Option<Track>,
    pub(super) audio: Option<Track>,
    /// Where the file's timeline begins on that of its tracks, in milliseconds.
    zero: i64,
}

impl Frames {
    /// Tracks with at least one sample.
    pub(super) fn new(
        source: Source,
        fragments: Vec<Fragment>,
        video: Option<Track>,
        audio: Option<Track>,
    ) -> Self {
        let tracks = [&video, &audio].into_iter().flatten();
        let zero = tracks.map(|track| track.first_ms).min().unwrap_or(0);
        Self {
            source,
            fragments,
            video,
            audio,
            zero,
        }
    }

    /// Forgets what was kept to open the file.
    pub(super) fn forget_kept(&mut self) {
        self.source = self.source.keeping(HashMap::new());
    }

    /// The part of the file that has all of these frames, if they lie together.
    pub(super) fn extent(&self, frames: &[Frame<'_>]) -> Result<Option<Source>, FileError> {
        let samples = || frames.iter().map(|frame| &frame.sample);
        let bytes: u64 = samples().map(|sample| u64::from(sample.size)).sum();
        let samples = || samples().filter(|sample| sample.size > 0);
        let start = samples().map(|sample| sample.offset).min();
        let end = samples().map(|sample| sample.offset.saturating_add(u64::from(sample.size)));
        let (Some(start), Some(end)) = (start, end.max()) else {
            return Ok(None);
        };
        let most = bytes.saturating_mul(1 + MAX_BETWEEN.0) + MAX_BETWEEN.1;
        match usize::try_from(end - start) {
            Ok(length) if length as u64 <= most => self.source.part(start, length).map(Some),
            _ => Ok(None),
        }
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let tracks: usize = self.tracks().map(Track::memory).sum();
        tracks + size_of_val(&self.fragments[..])
    }

    pub(super) fn tracks(&self) -> impl Iterator<Item = &Track> {
        [&self.video, &self.audio].into_iter().flatten()
    }

    /// From the first frame to the end of the last.
    pub(super) fn duration_ms(&self) -> u64 {
        let end = self.tracks().map(|track| track.end_ms).max();
        let duration = end.unwrap_or(self.zero).saturating_sub(self.zero);
        u64::try_from(duration)
            .unwrap_or_default()
            .min(MAX_DURATION_MS)
    }
}

/// One frame, not read yet.
pub(super) struct Frame<'a> {
    pub(super) kind: FrameKind,
    pub(super) position: u64,
    /// Of decoding, on the file's timeline.
    pub(super) ms: u64,
    pub(super) sample: Sample,
    /// The decoder configuration, where it is another one than before.
    pub(super) header: Option<Bytes>,
    description: &'a Description,
    composition_ms: i32,
}

impl Frame<'_> {
    /// Bytes of its payload.
    pub(super) fn length(&self) -> usize {
        self.description.prefix_length(self.composition_ms) + self.sample.size as usize
    }

    /// Bytes of its payload, and of the header before it.
    pub(super) fn whole_length(&self) -> usize {
        self.length() + self.header.as_ref().map_or(0, Bytes::len)
    }

    /// A decoder of its track can start here.
    pub(super) fn is_key(&self) -> bool {
        self.kind == FrameKind::Audio || self.sample.is_sync
    }

    /// Reads it, from a part of the file that has it or else from the file, and writes its payload.
    pub(super) fn put(
        &self,
        frames: &Frames,
        extent: Option<&Source>,
        out: &mut BytesMut,
    ) -> Result<(), FileError> {
        let size = self.sample.size as usize;
        let data = if size > 0 {
            let source = extent.unwrap_or(&frames.source);
            source.read(self.sample.offset, size)?
        } else {
            Bytes::new()
        };
        self.description
            .put_prefix(self.sample.is_sync, self.composition_ms, &data, out);
        out.put_slice(&data);
        Ok(())
    }
}

/// Goes through the frames from some place on.
pub(super) struct Merge<'a> {
    frames: &'a Frames,
    video: Option<Lane<'a>>,
    audio: Option<Lane<'a>>,
}

/// A track on the way.
struct Lane<'a> {
    track: &'a Track,
    cursor: Cursor,
    /// The next sample.
    head: Option<Sample>,
    /// In force before it.
    description: u16,
}

impl<'a> Merge<'a> {
    /// Before these samples of the video and the audio track.
    pub(super) fn new(frames: &'a Frames, video: u32, audio: u32) -> Result<Self, FileError> {
        let lane = |track: &'a Option<Track>, index| {
            track
                .as_ref()
                .map(|track| Lane::new(frames, track, index))
                .transpose()
        };
        Ok(Self {
            frames,
            video: lane(&frames.video, video)?,
            audio: lane(&frames.audio, audio)?,
        })
    }

    /// The first samples that are presented.
    pub(super) fn start(frames: &'a Frames) -> Result<Self, FileError> {
        let first = |track: &Option<Track>| track.as_ref().map_or(0, |track| track.first);
        Self::new(frames, first(&frames.video), first(&frames.audio))
    }

    /// The decoder configurations in force before the next frame.
    pub(super) fn headers(&self) -> Vec<(FrameKind, Bytes)> {
        [&self.video, &self.audio]
            .into_iter()
            .flatten()
            .filter_map(|lane| {
                let description = lane.track.descriptions.get(usize::from(lane.description))?;
                Some((lane.track.kind(), description.header()?))
            })
            .collect()
    }

    /// Numbers of the next samples of both tracks.
    pub(super) fn place(&self) -> (u32, u32) {
        let place = |lane: &Option<Lane<'_>>| lane.as_ref().map_or(0, Lane::place);
        (place(&self.video), place(&self.audio))
    }

    /// The position of the next frame, or of the header before it.
    pub(super) fn position(&self) -> Option<u64> {
        let (video, audio) = self.place();
        let lane = if self.is_video_next()? {
            self.video.as_ref()?
        } else {
            self.audio.as_ref()?
        };
        let head = lane.head?;
        let description = lane.track.description(&head)?;
        let is_plain = head.description == lane.description || !description.has_header();
        Some(2 * (u64::from(video) + u64::from(audio)) + u64::from(is_plain))
    }

    /// `None` at the end.
    fn is_video_next(&self) -> Option<bool> {
        let time = |lane: &Option<Lane<'_>>| {
            let lane = lane.as_ref()?;
            Some(lane.track.dts_ms(&lane.head?))
        };
        match (time(&self.video), time(&self.audio)) {
            (Some(video), Some(audio)) => Some(video <= audio),
            (video, audio) => video.or(audio).map(|_| video.is_some()),
        }
    }

    /// The next frame, `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'a>>, FileError> {
        let Some(is_video) = self.is_video_next() else {
            return Ok(None);
        };
        let (video, audio) = self.place();
        let lane = if is_video {
            &mut self.video
        } else {
            &mut self.audio
        };
        let Some(lane) = lane else {
            return Ok(None);
        };
        let Some(sample) = lane.take(self.frames)? else {
            return Ok(None);
        };
        let track = lane.track;
        let Some(description) = track.description(&sample) else {
            // Every sample was checked when the file was opened.
            return Err(invalid(sample.offset, "a sample without a description"));
        };
        let is_new =
            std::mem::replace(&mut lane.description, sample.description) != sample.description;
        let dts = track.dts_ms(&sample);
        let composition = track.pts_ms(&sample).saturating_sub(dts);
        let composition = composition.clamp(-MAX_COMPOSITION_MS, MAX_COMPOSITION_MS);
        let ms = u64::try_from(dts.saturating_sub(self.frames.zero)).unwrap_or_default();
        if ms > MAX_DURATION_MS {
            let what = format!("a sample {ms} milliseconds after the first");
            return Err(invalid(sample.offset, what));
        }
        Ok(Some(Frame {
            kind: track.kind(),
            position: 2 * (u64::from(video) + u64::from(audio)) + 1,
            ms,
            sample,
            header: is_new.then(|| description.header()).flatten(),
            description,
            composition_ms: composition as i32,
        }))
    }
}

impl<'a> Lane<'a> {
    fn new(frames: &'a Frames, track: &'a Track, index: u32) -> Result<Self, FileError> {
        // The sample before knows which description is in force.
        let before = index.saturating_sub(1).max(track.first);
        let mut lane = Self {
            track,
            cursor: track.seek(&frames.source, &frames.fragments, before)?,
            head: None,
            description: 0,
        };
        lane.take(frames)?;
        lane.description = lane.head.map_or(0, |sample| sample.description);
        if before < index {
            lane.take(frames)?;
        }
        Ok(lane)
    }

    /// Gives the next sample, and finds the one after it.
    fn take(&mut self, frames: &Frames) -> Result<Option<Sample>, FileError> {
        let next = self
            .cursor
            .next(self.track, &frames.source, &frames.fragments)?
            .filter(|sample| sample.index < self.track.end);
        Ok(std::mem::replace(&mut self.head, next))
    }

    fn place(&self) -> u32 {
        self.head.map_or(self.track.end, |sample| sample.index)
    }
}
