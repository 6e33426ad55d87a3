//! The frames of an MP3 file in pieces.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use headwater_amf::{Properties, Value, amf0};
use parking_lot::Mutex;

use super::header::NoHeader;
use super::reader::{Found, Reader, Track};
use super::{id3, length};
use crate::file::{FileError, FileFrame, FileInfo, FilePiece, Grid, MediaFile, ReadAt, SMALL_FILE};
use crate::frame::{FrameFlags, FrameKind};
use crate::thinned::Thinned;

/// Most beginnings of pieces that are kept in memory, 16 bytes each; of a longer file every second one, or every fourth, and so on.
const MAX_INDEX_ENTRIES: usize = 16_384;

/// Frames that are read at a time: others who want the file may come in between.
const CHUNK: usize = 4_096;

/// Beginnings of pieces that are remembered for those who read on.
const MAX_RECENT: usize = 64;

/// An MP3 file that is open.
pub struct Mp3File {
    source: Arc<dyn ReadAt>,
    grid: Grid,
    track: Track,
    info: FileInfo,
    metadata: Bytes,
    state: Mutex<State>,
}

struct State {
    entries: Thinned<Start>,
    /// How far the file has been read.
    walk: Walk,
    is_over: bool,
    recent: VecDeque<Start>,
}

/// Where a piece begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    position: u64,
    /// Of the frame there, from 0.
    number: u64,
}

/// Goes from frame to frame and finds where pieces begin.
#[derive(Clone, Copy, Debug)]
struct Walk {
    /// After the last frame.
    position: u64,
    /// Of the next frame.
    number: u64,
    /// The current piece; `None` before its first frame.
    piece: Option<Start>,
}

/// A frame, and whether a piece begins with it.
struct Step {
    found: Found,
    number: u64,
    begins: bool,
}

impl Walk {
    fn new(start: Start) -> Self {
        Self {
            position: start.position,
            number: start.number,
            piece: None,
        }
    }

    fn step(
        &mut self,
        reader: &mut Reader<'_>,
        track: &Track,
        grid: &Grid,
    ) -> Result<Option<Step>, FileError> {
        let Some(found) = reader.next(self.position, track.end, Some(&track.header))? else {
            return Ok(None);
        };
        let number = self.number;
        let begins = self.piece.is_none_or(|piece| {
            let bucket = |number| track.time(number) / grid.every_ms.max(1);
            // The payloads are the frames with a byte before each; garbage in between counts as well.
            let frames = number - piece.number + 1;
            let bytes = (found.end() - piece.position).saturating_add(frames);
            number.checked_sub(1).map(bucket) != Some(bucket(number))
                || bytes > grid.max_bytes as u64
        });
        if begins {
            self.piece = Some(Start {
                position: found.position,
                number,
            });
        }
        self.position = found.end();
        self.number += 1;
        Ok(Some(Step {
            found,
            number,
            begins,
        }))
    }
}

impl fmt::Debug for Mp3File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mp3File")
            .field("grid", &self.grid)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl Mp3File {
    /// Opens a file: reads its tags, its first frames, and as much as is needed to know how long it is.
    ///
    /// # Errors
    /// [`FileError::Invalid`] for what is no MPEG audio, [`FileError::Unsupported`] for layers I and II, free format, and files that
    /// have tags alone.
    pub fn open(source: Arc<dyn ReadAt>, grid: Grid) -> Result<Self, FileError> {
        let extent = id3::extent(&*source)?;
        if extent.start >= extent.end && source.length() > 0 {
            return Err(FileError::Unsupported {
                what: String::from("there is nothing but tags"),
            });
        }
        let mut reader = Reader::new(&*source);
        let reason = match reader.header(extent.start, extent.end)? {
            Some(Err(NoHeader::OtherLayer)) => Some("MPEG audio of layer I or II"),
            Some(Err(NoHeader::FreeFormat)) => Some("MP3 of free format"),
            _ => None,
        };
        if let Some(what) = reason {
            return Err(FileError::Unsupported {
                what: String::from(what),
            });
        }
        let first = reader.next(extent.start, extent.end, None)?;
        let first = first.ok_or_else(|| FileError::Invalid {
            offset: extent.start,
            what: String::from("no MPEG audio frame"),
        })?;
        let encoder = length::encoder_header(&mut reader, &first)?;
        let track = Track {
            first: if encoder.is_some() {
                first.end()
            } else {
                first.position
            },
            end: extent.end,
            header: first.header,
        };
        let encoder = encoder.map(|encoder| (encoder, first.position));
        let frames = length::frames(&mut reader, &track, encoder)?;
        let duration_ms = track.time(frames);
        let start = Start {
            position: track.first,
            number: 0,
        };
        Ok(Self {
            grid,
            track,
            info: FileInfo {
                duration_ms,
                has_audio: true,
                has_video: false,
            },
            metadata: metadata(&track, duration_ms),
            state: Mutex::new(State {
                entries: Thinned::new(MAX_INDEX_ENTRIES),
                walk: Walk::new(start),
                is_over: false,
                recent: VecDeque::new(),
            }),
            source,
        })
    }

    /// Reads on until that is enough, or the end.
    fn scan(&self, is_enough: impl Fn(&Walk) -> bool) -> Result<(), FileError> {
        loop {
            let state = &mut *self.state.lock();
            let mut reader = Reader::new(&*self.source);
            for _ in 0..CHUNK {
                if state.is_over || is_enough(&state.walk) {
                    return Ok(());
                }
                match state.walk.step(&mut reader, &self.track, &self.grid) {
                    Ok(Some(step)) if step.begins => state.entries.push(Start {
                        position: step.found.position,
                        number: step.number,
                    }),
                    Ok(Some(_)) => {}
                    // Whoever gets there meets the same.
                    Ok(None) | Err(FileError::Invalid { .. }) => state.is_over = true,
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn first(&self) -> Start {
        Start {
            position: self.track.first,
            number: 0,
        }
    }

    fn locate(&self, position: u64) -> Result<Start, FileError> {
        if position == self.track.first {
            // Also where there is no frame at all.
            return Ok(self.first());
        }
        let recent = {
            let state = self.state.lock();
            state
                .recent
                .iter()
                .copied()
                .find(|start| start.position == position)
        };
        if let Some(start) = recent {
            return Ok(start);
        }
        self.scan(|walk| walk.position > position)?;
        let start = {
            let state = self.state.lock();
            let entries = state.entries.entries();
            let after = entries.partition_point(|start| start.position <= position);
            after.checked_sub(1).and_then(|at| entries.get(at)).copied()
        };
        let mut walk = Walk::new(start.unwrap_or_else(|| self.first()));
        let mut reader = Reader::new(&*self.source);
        while walk.position <= position {
            let Some(step) = walk.step(&mut reader, &self.track, &self.grid)? else {
                break;
            };
            if step.begins && step.found.position == position {
                return Ok(Start {
                    position,
                    number: step.number,
                });
            }
        }
        Err(FileError::Invalid {
            offset: position,
            what: String::from("no piece begins here"),
        })
    }

    fn locate_time(&self, ms: u64) -> Result<Start, FileError> {
        self.scan(|walk| self.track.time(walk.number) > ms)?;
        let start = {
            let state = self.state.lock();
            let entries = state.entries.entries();
            let after = entries.partition_point(|start| self.track.time(start.number) <= ms);
            after.checked_sub(1).and_then(|at| entries.get(at)).copied()
        };
        let mut walk = Walk::new(start.unwrap_or_else(|| self.first()));
        let mut reader = Reader::new(&*self.source);
        let mut found = walk.piece;
        while self.track.time(walk.number) <= ms {
            if walk.step(&mut reader, &self.track, &self.grid)?.is_none() {
                break;
            }
            found = walk.piece;
        }
        Ok(found.unwrap_or_else(|| self.first()))
    }

    fn read(&self, start: Start) -> Result<FilePiece, FileError> {
        let mut walk = Walk::new(start);
        let mut reader = Reader::new(&*self.source);
        let mut steps: Vec<Step> = Vec::new();
        let next = loop {
            match walk.step(&mut reader, &self.track, &self.grid) {
                Ok(Some(step)) if step.begins && !steps.is_empty() => {
                    let next = Start {
                        position: step.found.position,
                        number: step.number,
                    };
                    let mut state = self.state.lock();
                    if state.recent.len() >= MAX_RECENT {
                        state.recent.pop_front();
                    }
                    state.recent.push_back(next);
                    break Some(next.position);
                }
                Ok(Some(step)) => steps.push(step),
                Ok(None) => break None,
                Err(FileError::Invalid { offset, .. }) if !steps.is_empty() => break Some(offset),
                Err(error) => return Err(error),
            }
        };
        let (first_ms, end_number) = match (steps.first(), steps.last()) {
            (Some(first), Some(last)) => (self.track.time(first.number), last.number + 1),
            _ => (self.track.time(start.number), start.number),
        };
        let frames = self.frames(&steps)?;
        let first = steps
            .first()
            .map_or(start.position, |step| step.found.position);
        Ok(FilePiece {
            first,
            next,
            start_ms: first_ms,
            end_ms: self.track.time(end_number),
            preface: vec![FileFrame {
                position: first,
                timestamp: first_ms,
                kind: FrameKind::Data,
                flags: FrameFlags::METADATA,
                payload: self.metadata.clone(),
            }],
            frames,
        })
    }

    /// The payloads of frames: each with a byte before it.
    fn frames(&self, steps: &[Step]) -> Result<Vec<FileFrame>, FileError> {
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
            return Ok(Vec::new());
        };
        let from = first.found.position;
        // At most a piece, or a frame.
        let extent = usize::try_from(last.found.end() - from)
            .map_err(|_| FileError::Read(std::io::ErrorKind::OutOfMemory.into()))?;
        let bytes = self.source.read_at(from, extent)?;
        let mut payloads = BytesMut::with_capacity(extent + steps.len());
        let mut frames = Vec::with_capacity(steps.len());
        for step in steps {
            let at = (step.found.position - from) as usize;
            payloads.put_u8(step.found.header.sound_byte());
            payloads.put_slice(&bytes[at..at + step.found.header.size]);
            frames.push(FileFrame {
                position: step.found.position,
                timestamp: self.track.time(step.number),
                kind: FrameKind::Audio,
                flags: FrameFlags::empty(),
                payload: payloads.split().freeze(),
            });
        }
        Ok(frames)
    }
}

impl MediaFile for Mp3File {
    fn info(&self) -> &FileInfo {
        &self.info
    }

    /// What the beginnings of pieces come to when all of the file was read.
    fn memory(&self) -> usize {
        let by_time = self.info.duration_ms / self.grid.every_ms.max(1);
        let by_size = (self.track.end - self.track.first) / self.grid.max_bytes.max(1) as u64;
        let pieces = usize::try_from(by_time.saturating_add(by_size));
        let pieces = pieces.map_or(MAX_INDEX_ENTRIES, |it| it.min(MAX_INDEX_ENTRIES));
        SMALL_FILE + 2 * size_of::<Start>() * pieces
    }

    fn piece_at_time(&self, ms: u64) -> Result<FilePiece, FileError> {
        self.read(self.locate_time(ms)?)
    }

    fn piece_at(&self, position: u64) -> Result<FilePiece, FileError> {
        self.read(self.locate(position)?)
    }
}

/// What a player is told of the file.
fn metadata(track: &Track, duration_ms: u64) -> Bytes {
    let bytes = (track.end - track.first) as f64;
    let properties = Properties::new()
        .with("duration", duration_ms as f64 / 1_000.0)
        .with("audiocodecid", 2)
        .with("audiosamplerate", track.header.sample_rate)
        .with("stereo", track.header.is_stereo)
        // Bytes in a millisecond are kilobytes in a second.
        .with("audiodatarate", bytes * 8.0 / duration_ms.max(1) as f64)
        .with("hasAudio", true)
        .with("hasVideo", false);
    // Numbers and booleans can always be written.
    amf0::encode_all(&["onMetaData".into(), Value::EcmaArray(properties)]).unwrap_or_default()
}
