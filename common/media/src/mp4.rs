//! MP4 and its relatives (F4V, MOV, M4A, M4V, 3GP): files read as logs of RTMP messages, and fragmented files [written](writer).
//!
//! # Specifications
//! - ISO/IEC 14496-12 (boxes, sample tables, edit lists, fragments), -14 (`mp4a`), -15 (`avc1`, `avc3`, `hvc1`, `hev1`); the
//!   QuickTime File Format Specification where `.mov` differs.
//! - Bodies of messages: Adobe Flash Video File Format 10.1, annex E.4; HEVC as in Enhanced RTMP, with FourCC `hvc1`.
//!
//! # How a file is read
//! [`Mp4File::open`] goes through the tables of the first video and the first audio track that can be sent, once: it checks every
//! sample against the length of the file, and cuts the [`Grid`]'s pieces. What stays in memory are the tables as the file has them
//! (runs are not expanded), a bookmark every 1,024 samples, 16 bytes for each fragment and track, and 20 bytes for each piece. Media are
//! only read when a piece is asked for.
//!
//! - Frames of both tracks are in the order of their decode times, video first among equals. The earliest frame is at 0.
//! - Edit lists: empty edits at the beginning are a delay; the first edit with media chooses where the media begins (at the key
//!   frame before, and with the audio that primes its decoder) and ends: audio there, video before the next key frame, as what comes
//!   until then may be shown before it. Later edits are not followed: the media goes on.
//! - A track whose decoder configuration changes has the new one as a frame before the first that needs it.
//! - A fragmented file that was cut ends before the fragment that was cut.
//!
//! # What opening costs
//! - A file with tables: a read for each box at the top and in the movie box, and the tables.
//! - A fragmented file: the tables of each fragment, once, as far as they fit into 16 MiB (those of four hours of ours), and three
//!   times more what is beyond. Where a `sidx` says before where they are, as in the files that we write, 16 KiB for each, 64 at a time:
//!   two hours are 3,600 small reads in 57 batches, some 60 MB, whatever the bitrate. Where none does, from box to box, which of a
//!   source that is read by blocks takes most of the blocks.
//!
//! A piece costs a read for all of its samples where they lie together, or else one for each, and the tables of its fragments for
//! each track: where a whole film is one fragment, each piece goes through the tables of the whole film, some milliseconds an hour.
//!
//! # Invariants
//! - Nothing panics, and memory is bounded by a small multiple of the file's length and by the constants below, whatever a file
//!   holds. No box is entered by recursion: only boxes that are known contain others, eight deep at most.
//! - The position of a frame is 1 plus twice the number of samples before it, in the order above; a changed decoder configuration
//!   has the even number before.
//!
//! # Why a reader of its own
//! `shiguredo_mp4` and `mp4-atom` are well kept, and decode boxes into lists. The former expands the tables to 8 bytes and more for each
//! sample by what a count of four bytes says, takes no file without `ftyp` and no fragment with an absolute data offset (ffmpeg
//! writes them), and neither seeks among samples of fragments nor applies edit lists; the latter stops at boxes. What is left to do is
//! the larger part, and a hostile file must cost what it is long, not what it claims.
//!
//! # What it does not do
//! Encrypted tracks, compressed movie boxes, samples in other files, codecs other than H.264, HEVC, AAC and MP3, and more than one
//! track of a kind (others are named in `trackinfo`).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

mod boxes;
mod description;
mod fragments;
mod merge;
mod metadata;
mod movie;
mod pieces;
mod scan;
mod tables;
mod track;
pub mod writer;

use self::boxes::{Source, invalid};
use self::fragments::Fragment;
use self::merge::{Frames, Merge};
use self::movie::Movie;
use self::pieces::Plan;
use self::track::{Budget, Track};
use crate::file::{FileError, FileFrame, FileInfo, FilePiece, Grid, MediaFile, ReadAt};
use crate::frame::{FrameFlags, FrameKind};
use crate::inspect::inspect;

/// Most samples of a file: 24 hours of 60 pictures and 94 AAC frames a second are 13 million. A file has at most one for each
/// four of its bytes.
pub const MAX_SAMPLES: u32 = 1 << 24;

/// Bytes of a file, of tables or of media, that each sample takes at the least.
const MIN_SAMPLE_COST: u64 = 4;

/// Largest sample, in bytes: with what comes before it, the body of an RTMP message, whose length has 24 bits.
pub const MAX_SAMPLE: u32 = (1 << 24) - 1 - 16;

/// Most fragments of a file: 24 days of one every two seconds.
pub const MAX_FRAGMENTS: usize = 1 << 20;

/// Most boxes at the top of a file: a fragment may have some around it.
const MAX_TOP_BOXES: usize = 4 * MAX_FRAGMENTS;

/// Longest timeline, in milliseconds: 49 days, what the 32 bits of an RTMP timestamp hold.
pub const MAX_DURATION_MS: u64 = u32::MAX as u64 - 1;

/// One sample of a track.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// From 0.
    index: u32,
    /// In the file.
    offset: u64,
    /// In bytes.
    size: u32,
    /// Of decoding, in ticks.
    time: u64,
    /// In ticks.
    duration: u32,
    /// From decoding to presentation, in ticks.
    composition: i32,
    is_sync: bool,
    /// From 0.
    description: u16,
}

/// An MP4 file that is open.
pub struct Mp4File {
    frames: Frames,
    plan: Plan,
    info: FileInfo,
    metadata: Bytes,
}

impl Mp4File {
    /// Opens a file: reads its tables, not its media.
    ///
    /// # Errors
    /// [`FileError`]; [`FileError::Unsupported`] where no track can be sent.
    pub fn open(source: Arc<dyn ReadAt>, grid: Grid) -> Result<Self, FileError> {
        let source = Source::new(source);
        let (movie, mut fragments, source) = scan::scan(&source)?;
        let movie = movie::read(&source, &movie)?;
        if !movie.is_fragmented {
            fragments = Vec::new();
        }
        let mut metadata = metadata::Metadata::new(&movie);
        let mut frames = open_tracks(source, movie, fragments)?;
        let duration_ms = frames.duration_ms();
        let plan = Plan::make(&frames, grid, |ms, offset| metadata.seek_point(ms, offset))?;
        frames.forget_kept();
        let info = FileInfo {
            duration_ms,
            has_audio: frames.audio.is_some(),
            has_video: frames.video.is_some(),
        };
        let metadata = metadata.finish(&info, &frames);
        Ok(Self {
            frames,
            plan,
            info,
            metadata,
        })
    }

    /// The piece with this number.
    fn piece(&self, number: usize) -> Result<FilePiece, FileError> {
        let Some(cut) = self.plan.piece(number) else {
            return Ok(FilePiece {
                preface: vec![self.metadata_frame(0, 0)],
                ..FilePiece::default()
            });
        };
        let next = self.plan.piece(number + 1);
        let count = next.map_or(u64::MAX, |next| next.number() - cut.number());
        let mut merge = Merge::new(&self.frames, cut.video, cut.audio)?;
        let headers = merge.headers();

        let mut placed = Vec::new();
        let mut bytes = 0;
        while (placed.len() as u64) < count
            && let Some(frame) = merge.next()?
        {
            bytes += frame.length();
            placed.push(frame);
        }
        let extent = self.frames.extent(&placed)?;
        let mut buffer = BytesMut::with_capacity(bytes);
        let mut ends = Vec::with_capacity(placed.len());
        for frame in &placed {
            frame.put(&self.frames, extent.as_ref(), &mut buffer)?;
            ends.push(buffer.len());
        }
        let buffer = buffer.freeze();
        let mut frames = Vec::with_capacity(placed.len());
        let mut start = 0;
        for (frame, end) in placed.iter().zip(ends) {
            if let Some(header) = &frame.header {
                frames.push(made(
                    frame.position - 1,
                    frame.ms,
                    frame.kind,
                    header.clone(),
                ));
            }
            let payload = buffer.slice(start..end);
            frames.push(made(frame.position, frame.ms, frame.kind, payload));
            start = end;
        }

        let start_ms = u64::from(cut.start_ms);
        let first = frames.first().map_or(0, |frame| frame.position);
        let mut preface = vec![self.metadata_frame(first, start_ms)];
        preface.extend(
            headers
                .into_iter()
                .map(|(kind, payload)| made(first, start_ms, kind, payload)),
        );
        Ok(FilePiece {
            first,
            next: match next {
                Some(_) => merge.position(),
                None => None,
            },
            start_ms,
            end_ms: next.map_or(self.info.duration_ms, |next| u64::from(next.start_ms)),
            preface,
            frames,
        })
    }

    fn metadata_frame(&self, position: u64, timestamp: u64) -> FileFrame {
        FileFrame {
            position,
            timestamp,
            kind: FrameKind::Data,
            flags: FrameFlags::METADATA,
            payload: self.metadata.clone(),
        }
    }
}

impl MediaFile for Mp4File {
    fn info(&self) -> &FileInfo {
        &self.info
    }

    fn memory(&self) -> usize {
        self.frames.memory() + self.plan.memory() + self.metadata.len()
    }

    fn piece_at_time(&self, ms: u64) -> Result<FilePiece, FileError> {
        self.piece(self.plan.at_time(ms))
    }

    fn piece_at(&self, position: u64) -> Result<FilePiece, FileError> {
        let no_piece = || invalid(0, format!("no piece begins at position {position}"));
        let number = self.plan.at_number(position / 2).ok_or_else(no_piece)?;
        let piece = self.piece(number)?;
        if piece.first != position {
            return Err(no_piece());
        }
        Ok(piece)
    }
}

fn made(position: u64, timestamp: u64, kind: FrameKind, payload: Bytes) -> FileFrame {
    FileFrame {
        position,
        timestamp,
        kind,
        flags: inspect(kind, &payload).flags,
        payload,
    }
}

/// Opens the first track of each kind that can be sent.
fn open_tracks(
    source: Source,
    movie: Movie,
    fragments: Vec<Fragment>,
) -> Result<Frames, FileError> {
    let most = source.end() / MIN_SAMPLE_COST;
    let mut budget = Budget {
        left: MAX_SAMPLES.min(u32::try_from(most).unwrap_or(u32::MAX)),
    };
    let codes: Vec<String> = movie
        .tracks
        .iter()
        .filter_map(|track| track.descriptions.first())
        .map(|description| boxes::name(description.code))
        .collect();
    let mut found: [Option<Track>; 2] = [None, None];
    let mut is_playable = false;
    for header in movie.tracks {
        let place = match header.kind() {
            Some(FrameKind::Video) => &mut found[0],
            Some(FrameKind::Audio) => &mut found[1],
            _ => continue,
        };
        if place.is_none() {
            is_playable = true;
            *place = Track::open(&source, header, movie.timescale, &fragments, &mut budget)?
                .filter(|track| track.count() > 0);
        }
    }
    if !is_playable {
        let what = format!("no track can be played: {}", codes.join(", "));
        return Err(FileError::Unsupported { what });
    }
    let [video, audio] = found;
    Ok(Frames::new(source, fragments, video, audio))
}

#[cfg(test)]
mod tests;
