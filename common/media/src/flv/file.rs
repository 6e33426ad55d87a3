//! FLV files as closed logs of frames.
//!
//! # Specification
//! Adobe Flash Video File Format 10.1, annex E; the tags of Enhanced RTMP are tags like others. The position of a frame is the file
//! offset of its tag.
//!
//! # Time
//! A file begins at 0: that is its first picture or sound, whichever is earlier, and what is marked as earlier (codec headers and
//! metadata mostly are) is at 0 as well. Many recordings of live streams begin at the time of day of their encoder, and a player
//! would wait for it. The 32 bits of a timestamp are read on the circle around that zero, so that they may wrap once; a file is
//! expected to be shorter than 24.8 days. Steps back stay steps back; codec headers and metadata that are marked 0 are
//! where the frame before them is.
//!
//! Time 0 always is the first piece, also where several key frames are marked 0.
//!
//! The duration is that of the tags, found from the end of the file, whatever the metadata says.
//!
//! # Finding places
//! Pieces are a matter of the tags alone. To find one without reading the file from its beginning there is the seek table in
//! `onMetaData`, if it looks right wherever it is looked at; otherwise tag headers are read from the beginning up to the place, once.
//! Opening a file reads its first and last tags only.
//!
//! With a seek table, codec headers that change within the file are looked for where the table names them (files that we
//! composed), or else directly before key frames; one that is elsewhere is met by those who play on, not by those who seek.
//!
//! # What that costs
//! Opening takes a dozen small reads, and one for each of some key frames of a seek table. Whoever seeks in a file that we composed
//! reads some tags around the place, and the codec headers that the table names. In a file with another table he reads the tag before
//! each key frame up to there, once per open file: of a mapped file that is nothing, from a bucket most blocks up to there. In a file
//! without a table the blocks up to there are read in any case.
//!
//! # Damage
//! A file that was cut off ends with its last whole tag. Where something else than a tag stands, a piece ends, and the next one is
//! [`FileError::Invalid`].
//!
//! # Metadata
//! `onMetaData` is given with the true duration where it has none or a wrong one, and without the seek table, which means something
//! only within the file. Where a file has none before its first picture, one with the duration goes before each piece.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use headwater_amf::Properties;
use parking_lot::Mutex;

mod cuts;
mod hints;
mod probe;
mod scan;
mod tags;
mod tail;

pub use cuts::MAX_PIECE_FRAMES;
pub use scan::MAX_INDEX_ENTRIES;

use self::cuts::{Clock, Cutter, Places, Start, Walk};
use self::hints::{Hint, Hints, Noted};
use self::scan::{PLACE_BYTES, Scan};
use self::tags::{TagHead, TagScanner};
use super::headers::Headers;
use super::{TAG_HEADER_SIZE, metadata};
use crate::file::{FileError, FileFrame, FileInfo, FilePiece, Grid, MediaFile, ReadAt, SMALL_FILE};
use crate::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use crate::inspect::{inspect, metadata_name};
use crate::window::{Preface, Slot};

/// Beginnings of pieces that are remembered for those who read on.
const MAX_RECENT: usize = 128;

/// Longest metadata that is kept as viewers get it, in bytes: longer one is made anew for each piece.
const MAX_KEPT_METADATA: usize = SMALL_FILE / 4;

/// An FLV file that is open.
///
/// It keeps at most [`MAX_INDEX_ENTRIES`] places (56 bytes each) and [`MAX_HEADER_CHANGES`](super::MAX_HEADER_CHANGES) changes of codec headers in memory.
pub struct FlvFile {
    source: Arc<dyn ReadAt>,
    grid: Grid,
    places: Places,
    clock: Clock,
    first: u64,
    is_empty: bool,
    info: FileInfo,
    /// Bytes that the seek table takes.
    hints_memory: usize,
    /// What goes before pieces without `onMetaData`, in a file that has none at its beginning.
    metadata: Option<Bytes>,
    state: Mutex<State>,
}

struct State {
    /// `None`: there is no seek table, or it was found to lie.
    hints: Option<Hints>,
    scan: Scan,
    headers: Headers,
    recent: VecDeque<Start>,
    /// The last `onMetaData` that was given, by its position.
    metadata: Option<(u64, Bytes)>,
}

impl fmt::Debug for FlvFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlvFile")
            .field("grid", &self.grid)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl FlvFile {
    /// Opens a file: reads its beginning and its end.
    ///
    /// # Errors
    /// [`FileError::Invalid`] for what is no FLV, [`FileError::Unsupported`] where the first tags are encrypted.
    pub fn open(source: Arc<dyn ReadAt>, grid: Grid) -> Result<Self, FileError> {
        let probe = probe::probe(&*source)?;
        let (first, clock) = (probe.first, probe.clock);
        let tail = tail::tail(&*source, first, clock)?;
        let info = FileInfo {
            duration_ms: tail.end_ms,
            has_audio: probe.has_audio || tail.has_audio,
            has_video: probe.has_video || tail.has_video,
        };
        let places = match (info.has_video, info.has_audio) {
            (true, _) => Places::Keys,
            (false, true) => Places::Audio,
            (false, false) => Places::Any,
        };
        let mut headers = Headers::default();
        let table = probe
            .metadata
            .as_ref()
            .and_then(|properties| metadata::seek_table(properties, source.length()))
            .filter(|table| info.has_video && !table.keyframes.is_empty());
        let hints = match table {
            Some(table) => Hints::new(&*source, first, clock, table, &probe.headers, &mut headers)?,
            None => None,
        };
        let start = Start::of_file(first);
        let metadata = (!probe.has_metadata)
            .then(|| metadata::message(described(&info)))
            .flatten();
        Ok(Self {
            grid,
            places,
            clock,
            first,
            is_empty: probe.is_empty,
            info,
            hints_memory: hints.as_ref().map_or(0, Hints::memory),
            metadata,
            state: Mutex::new(State {
                headers: if hints.is_some() {
                    headers
                } else {
                    Headers::default()
                },
                hints,
                scan: Scan::new(Cutter::new(grid, places, clock, start), start),
                recent: VecDeque::new(),
                metadata: None,
            }),
            source,
        })
    }

    fn walk(&self, start: Start) -> Walk<'_> {
        let cutter = Cutter::new(self.grid, self.places, self.clock, start);
        Walk::new(&*self.source, cutter)
    }

    /// How to walk from the piece that begins at `position`.
    fn locate(&self, position: u64) -> Result<Start, FileError> {
        if position == self.first {
            return Ok(Start::of_file(position));
        }
        let recent = self
            .state
            .lock()
            .recent
            .iter()
            .copied()
            .find(|start| start.position == position);
        if let Some(start) = recent {
            return Ok(start);
        }
        let walk = |start| self.walk_to(start, position);
        if let Some(found) = self.by_hints(|hint| hint.position <= position, walk)? {
            return found.ok_or_else(|| no_piece(position));
        }
        self.scan(&|scan| scan.position() > position)?;
        let start = self.state.lock().scan.before(position);
        if let Some(start) = start
            && let Some(found) = walk(start)?
        {
            return Ok(found);
        }
        Err(no_piece(position))
    }

    /// `None` where the walk did not learn in time where pieces begin.
    fn walk_to(&self, start: Start, position: u64) -> Result<Option<Start>, FileError> {
        let mut walk = self.walk(start);
        while walk.cutter.position() <= position {
            let Some(step) = walk.step()? else {
                return Err(no_piece(position));
            };
            if step.head.position == position && step.begins.is_some() {
                return Ok(step.begins);
            }
        }
        if walk.cutter.is_certain() {
            Err(no_piece(position))
        } else {
            Ok(None)
        }
    }

    /// The piece that holds the newest place at or before a time.
    fn locate_time(&self, ms: u64) -> Result<Start, FileError> {
        let walk = |start| self.walk_to_time(start, ms);
        if let Some(found) = self.by_hints(|hint| hint.time <= ms, walk)? {
            return Ok(found.unwrap_or_else(|| Start::of_file(self.first)));
        }
        self.scan(&|scan| scan.reached_ms() > ms)?;
        let start = self.state.lock().scan.before_time(ms);
        let start = start.unwrap_or_else(|| Start::of_file(self.first));
        match (walk(start)?, start.known) {
            (Some(found), _) => Ok(found),
            (None, Some(known)) => self.locate(known.holder),
            (None, None) => Ok(Start::of_file(self.first)),
        }
    }

    /// `None` where the newest place is not after `start`, or in a piece that begins nobody knows where.
    fn walk_to_time(&self, start: Start, ms: u64) -> Result<Option<Start>, FileError> {
        let mut walk = self.walk(start);
        let (mut piece, mut found) = (None, None);
        while let Some(step) = walk.step()? {
            piece = step.begins.or(piece);
            if step.is_place && step.time <= ms {
                found = piece;
            } else if step.time > ms && self.places.tells_time(&step.head) {
                break;
            }
        }
        Ok(found)
    }

    /// Looks for a piece from the places of the seek table, near ones first and the beginning of the file last. `None` without a
    /// seek table, or when it is found to lie.
    fn by_hints(
        &self,
        is_before: impl Fn(&Hint) -> bool,
        walk: impl Fn(Start) -> Result<Option<Start>, FileError>,
    ) -> Result<Option<Option<Start>>, FileError> {
        let candidates = match &self.state.lock().hints {
            Some(hints) => hints.candidates(is_before),
            None => return Ok(None),
        };
        for hint in candidates {
            if !hint.is_right(&*self.source, self.first, self.clock)? {
                self.state.lock().distrust();
                return Ok(None);
            }
            let start = Start {
                position: hint.position,
                known: None,
            };
            if let Some(found) = walk(start)? {
                return Ok(Some(Some(found)));
            }
        }
        walk(Start::of_file(self.first)).map(Some)
    }

    /// Reads tag headers on until that is enough, or the end.
    fn scan(&self, is_enough: &dyn Fn(&Scan) -> bool) -> Result<(), FileError> {
        loop {
            let state = &mut *self.state.lock();
            if state
                .scan
                .advance(&*self.source, &mut state.headers, is_enough)?
            {
                return Ok(());
            }
        }
    }

    /// Where the frames in force before `position` stand.
    fn in_force(&self, position: u64) -> Result<Vec<u64>, FileError> {
        loop {
            let state = &mut *self.state.lock();
            let Some(hints) = &mut state.hints else {
                break;
            };
            match hints.note_headers(&*self.source, &mut state.headers, position)? {
                Noted::All => return Ok(state.headers.in_force(position)),
                // Others may come in between.
                Noted::Some => {}
                Noted::Wrong => state.distrust(),
            }
        }
        self.scan(&|scan| scan.position() >= position)?;
        Ok(self.state.lock().headers.in_force(position))
    }

    fn preface(&self, position: u64, timestamp: u64) -> Result<Vec<FileFrame>, FileError> {
        let mut preface = Preface::new();
        let mut scanner = TagScanner::with_block(&*self.source, 1 << 10);
        let mut has_metadata = false;
        for at in self.in_force(position)? {
            let Some(head) = scanner.head(at)? else {
                continue;
            };
            let payload = scanner.body(&head)?;
            has_metadata |= is_metadata(head.kind, &payload);
            let frame = Frame {
                offset: Offset {
                    epoch: Epoch(0),
                    sequence: position,
                },
                timestamp,
                kind: head.kind,
                flags: inspect(head.kind, &payload).flags,
                payload: self.given(&head, payload),
            };
            preface.apply(&Slot::of(frame.kind, &frame.payload), &frame);
        }
        let synthetic = self
            .metadata
            .iter()
            .filter(|_| !has_metadata)
            .map(|payload| FileFrame {
                position,
                timestamp,
                kind: FrameKind::Data,
                flags: FrameFlags::METADATA,
                payload: payload.clone(),
            });
        let frames = preface.frames(Epoch(0)).into_iter().map(|frame| FileFrame {
            position,
            timestamp,
            kind: frame.kind,
            flags: frame.flags,
            payload: frame.payload,
        });
        Ok(synthetic.chain(frames).collect())
    }

    /// A payload as viewers get it.
    fn given(&self, head: &TagHead, payload: Bytes) -> Bytes {
        if !is_metadata(head.kind, &payload) {
            return payload;
        }
        let held = self.state.lock().metadata.clone();
        if let Some((_, given)) = held.filter(|(position, _)| *position == head.position) {
            return given;
        }
        let given = metadata::for_viewers(&payload, self.info.duration_ms);
        if given.len() <= MAX_KEPT_METADATA {
            // A copy: it may be a part of a whole piece.
            let kept = Bytes::copy_from_slice(&given);
            self.state.lock().metadata = Some((head.position, kept));
        }
        given
    }

    fn read(&self, start: Start) -> Result<FilePiece, FileError> {
        let mut walk = self.walk(start);
        let mut steps = Vec::new();
        let next = loop {
            match walk.step() {
                Ok(Some(step)) if step.begins.is_some() && !steps.is_empty() => {
                    break Some((step.head.position, Some(step)));
                }
                Ok(Some(step)) => steps.push((step.head, step.time)),
                Ok(None) => break None,
                Err(FileError::Invalid { .. } | FileError::Unsupported { .. })
                    if !steps.is_empty() =>
                {
                    break Some((walk.cutter.position(), None));
                }
                Err(error) => return Err(error),
            }
        };
        let (Some((first, start_ms)), Some((last, last_ms))) = (steps.first(), steps.last()) else {
            return Err(no_piece(start.position));
        };
        // What is read is at most one piece with its tag headers, or one tag.
        let extent = usize::try_from(last.position + last.size() - first.position)
            .map_err(|_| no_piece(start.position))?;
        let bytes = self.source.read_at(first.position, extent)?;
        let frames = steps.iter().map(|&(head, timestamp)| {
            let from = (head.position - first.position) as usize + TAG_HEADER_SIZE;
            let payload = bytes.slice(from..from + head.length);
            FileFrame {
                position: head.position,
                timestamp,
                kind: head.kind,
                flags: inspect(head.kind, &payload).flags,
                payload: self.given(&head, payload),
            }
        });
        let frames = frames.collect();
        let end_ms = match &next {
            Some((_, Some(step))) => step.time,
            Some((_, None)) => *last_ms,
            None => self.info.duration_ms.max(*last_ms),
        };
        if let Some((_, Some(step))) = &next {
            let mut state = self.state.lock();
            if state.recent.len() >= MAX_RECENT {
                state.recent.pop_front();
            }
            state.recent.extend(step.begins);
        }
        Ok(FilePiece {
            first: first.position,
            next: next.map(|(position, _)| position),
            start_ms: *start_ms,
            end_ms: end_ms.max(*start_ms),
            preface: self.preface(first.position, *start_ms)?,
            frames,
        })
    }

    fn nothing(&self) -> FilePiece {
        FilePiece {
            first: self.first,
            ..FilePiece::default()
        }
    }
}

impl State {
    /// The seek table lies: what is known from it is forgotten.
    fn distrust(&mut self) {
        self.hints = None;
        self.headers = Headers::default();
    }
}

impl MediaFile for FlvFile {
    fn info(&self) -> &FileInfo {
        &self.info
    }

    /// What the tables come to when all of the file was read.
    fn memory(&self) -> usize {
        let pieces = self.info.duration_ms / self.grid.every_ms.max(1);
        let places =
            usize::try_from(pieces).map_or(MAX_INDEX_ENTRIES, |it| it.min(MAX_INDEX_ENTRIES));
        SMALL_FILE + self.hints_memory + 2 * PLACE_BYTES * places
    }

    fn piece_at_time(&self, ms: u64) -> Result<FilePiece, FileError> {
        if self.is_empty {
            return Ok(self.nothing());
        }
        if ms == 0 {
            // Whatever stands at 0: nothing of a file is before it.
            return self.read(Start::of_file(self.first));
        }
        self.read(self.locate_time(ms)?)
    }

    fn piece_at(&self, position: u64) -> Result<FilePiece, FileError> {
        if self.is_empty && position == self.first {
            return Ok(self.nothing());
        }
        self.read(self.locate(position)?)
    }
}

fn is_metadata(kind: FrameKind, payload: &Bytes) -> bool {
    kind == FrameKind::Data
        && inspect(kind, payload).flags.contains(FrameFlags::METADATA)
        && metadata_name(payload).is_some_and(|name| &name[..] == metadata::NAME.as_bytes())
}

/// Metadata of a file that has none.
fn described(info: &FileInfo) -> Properties {
    Properties::new()
        .with("duration", metadata::seconds(info.duration_ms))
        .with("hasVideo", info.has_video)
        .with("hasAudio", info.has_audio)
}

fn no_piece(position: u64) -> FileError {
    FileError::Invalid {
        offset: position,
        what: String::from("no piece begins here"),
    }
}

#[cfg(test)]
mod tests;
