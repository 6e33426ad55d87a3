//! What the writer of a recording and its readers share: the index, and the frames that are in no segment yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_media::frame::{Frame, FrameKind, Offset};
use headwater_media::segment::{CutState, Index, Part, Point, SegmentFlags, SegmentInfo, Step};
use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::RwLock;
use tokio::time::Instant;

use super::error::ArchiveError;
use super::journal::LeftOpen;
use super::load::{self, Newer, ReadSegment};
use super::{Archives, Follows, Summary, keys};

/// What a frame costs in memory beyond its payload, in bytes.
const FRAME_COST: usize = 192;

/// One recording as it is known here.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) recording: LeftOpen,
    pub(super) folder: Path,
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) timeout: Duration,
    pub(super) segments: Option<Arc<dyn ReadSegment>>,
    pub(super) state: RwLock<State>,
    /// Somebody in this process writes it, or is about to.
    claimed: AtomicBool,
    /// A writer adds to it.
    live: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) index: Index,
    /// Frames that are in no segment that is known to be committed.
    pub(super) tail: VecDeque<Held>,
    /// How many frames were dropped from the beginning of the tail.
    base: u64,
    /// Numbers, counted from the first of all that were in the tail, of those that begin a piece.
    points: VecDeque<u64>,
    /// [`Held::cost`] of the tail.
    pub(super) held: usize,
    tail_flags: SegmentFlags,
    tail_bytes: u64,
    /// First offset and media time, while the index has no frames.
    tail_start: Option<(Offset, u64)>,
}

/// A frame in the tail.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) frame: Frame,
    pub(super) starts: bool,
    pub(super) ms: u64,
    pub(super) end_ms: u64,
    /// When it came.
    pub(super) since: Instant,
    /// Bytes that it takes here or in a segment, with what is in force where it begins a piece.
    pub(super) cost: usize,
    /// Set where it begins a piece.
    pub(super) point: Option<Box<HeldPoint>>,
}

#[derive(Debug)]
pub(super) struct HeldPoint {
    pub(super) first_start: Option<u64>,
    pub(super) state: CutState,
    pub(super) preface: Vec<Frame>,
}

impl Held {
    pub(super) fn new(frame: Frame, step: Step, preface: Vec<Frame>, since: Instant) -> Self {
        let in_force: usize = preface.iter().map(cost).sum();
        let cost = cost(&frame).saturating_add(in_force);
        let point = step.begins.map(|state| {
            Box::new(HeldPoint {
                first_start: step.starts.then_some(step.ms),
                state,
                preface,
            })
        });
        Self {
            frame,
            starts: step.starts,
            ms: step.ms,
            end_ms: step.end_ms,
            since,
            cost,
            point,
        }
    }
}

pub(super) fn cost(frame: &Frame) -> usize {
    frame.payload.len().saturating_add(FRAME_COST)
}

/// Where a piece is found.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) first: Offset,
    pub(super) next: Offset,
    pub(super) start_ms: u64,
    pub(super) end_ms: u64,
    pub(super) follows: Follows,
    /// What is in segments.
    pub(super) parts: Vec<Part>,
    /// What is in force, where there are no parts.
    pub(super) preface: Vec<Frame>,
    /// What comes after the parts.
    pub(super) frames: Vec<Frame>,
}

impl Shared {
    pub(super) fn new(archives: &Archives, recording: LeftOpen) -> Self {
        Self {
            folder: keys::generation(&recording.name, recording.generation),
            recording,
            objects: archives.inner.objects.clone(),
            timeout: archives.inner.config.store_timeout,
            segments: archives.inner.config.segments.clone(),
            state: RwLock::default(),
            claimed: AtomicBool::new(false),
            live: AtomicBool::new(false),
        }
    }

    /// A writer of this process adds to it.
    pub(super) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    pub(super) fn set_live(&self, live: bool) {
        self.live.store(live, Ordering::Release);
    }

    pub(super) fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::Acquire)
    }

    pub(super) fn set_claimed(&self, claimed: bool) {
        self.claimed.store(claimed, Ordering::Release);
    }

    /// Adds a segment that is known to be there.
    pub(super) fn push(&self, info: SegmentInfo, points: Vec<Point>) -> Result<(), ArchiveError> {
        let path = keys::segment(&self.folder, info.number);
        let pushed = self.state.write().index.push(info, points);
        pushed.map_err(|error| ArchiveError::damaged(&path, &error))
    }

    /// Reads what has been added to the index by others.
    pub(super) async fn refresh(&self) -> Result<(), ArchiveError> {
        let known = self.state.read().index.next_number();
        if known > 0
            && let Newer::Segments(segments) = load::newer(self, known).await?
        {
            return self.add(segments);
        }
        // Nothing is known, or a window has let go even of what comes next.
        self.reload().await
    }

    fn add(&self, segments: Vec<(Path, SegmentInfo, Vec<Point>)>) -> Result<(), ArchiveError> {
        if segments.is_empty() {
            return Ok(());
        }
        let mut state = self.state.write();
        for (path, info, points) in segments {
            // Others may have added it meanwhile.
            if !self.is_live() && info.number == state.index.next_number() {
                let pushed = state.index.push(info, points);
                pushed.map_err(|error| ArchiveError::damaged(&path, &error))?;
            }
        }
        if !self.is_live() {
            state.drop_what_is_indexed();
        }
        Ok(())
    }

    /// Reads the index anew: what is known of may be gone.
    pub(super) async fn reload(&self) -> Result<(), ArchiveError> {
        let index = load::load(self).await?;
        let age = |index: &Index| (index.next_number(), index.first_number());
        let mut state = self.state.write();
        if !self.is_live() && age(&index) > age(&state.index) {
            state.index = index;
            state.drop_what_is_indexed();
        }
        Ok(())
    }
}

impl State {
    /// Adds a frame at the end.
    pub(super) fn push(&mut self, held: Held) {
        let number = self.base + self.tail.len() as u64;
        if held.point.is_some() {
            self.points.push_back(number);
        } else if held.starts {
            self.note_start(held.ms);
        }
        self.tail_flags |= match held.frame.kind {
            FrameKind::Audio => SegmentFlags::AUDIO,
            FrameKind::Video => SegmentFlags::VIDEO,
            FrameKind::Data => SegmentFlags::empty(),
        };
        if self.tail_start.is_none() {
            self.tail_start = Some((held.frame.offset, held.ms));
        }
        self.held += held.cost;
        self.tail_bytes += held.frame.payload.len() as u64;
        self.tail.push_back(held);
    }

    /// A decoder can start at `ms`, in the last piece.
    fn note_start(&mut self, ms: u64) {
        let last = self.points.back().copied();
        match last.and_then(|number| self.tail_point_mut(number)) {
            Some(point) => {
                point.first_start.get_or_insert(ms);
            }
            None => self.index.note_start(ms),
        }
    }

    /// Drops the first `count` frames of the tail, which have got into the index as `points` say.
    pub(super) fn drop_stored(&mut self, count: usize) {
        for _ in 0..count {
            let Some(held) = self.tail.pop_front() else {
                break;
            };
            self.base += 1;
            self.held -= held.cost;
            self.tail_bytes -= held.frame.payload.len() as u64;
        }
        while self
            .points
            .front()
            .is_some_and(|number| *number < self.base)
        {
            self.points.pop_front();
        }
    }

    /// Drops the frames of the tail that are in the index too: a writer that was replaced has left them, and others have stored them.
    fn drop_what_is_indexed(&mut self) {
        let Some(next) = self.index.next() else {
            return;
        };
        let stored = self.tail.partition_point(|it| it.frame.offset < next);
        self.drop_stored(stored);
        // What is left of the piece that the index ends with may be where a decoder can start in it.
        let mut left = self.tail.iter().take_while(|held| held.point.is_none());
        if let Some(start) = left.find(|held| held.starts).map(|held| held.ms) {
            self.index.note_start(start);
        }
    }

    /// How many pieces there are.
    pub(super) fn pieces(&self) -> usize {
        self.index.points().len() + self.points.len()
    }

    /// How many frames have ever been in the tail.
    pub(super) fn appended(&self) -> u64 {
        self.base + self.tail.len() as u64
    }

    /// How many of them are no longer.
    pub(super) fn stored(&self) -> u64 {
        self.base
    }

    /// The tail from a frame on, counted as [`appended`](Self::appended) does.
    pub(super) fn tail_from(&self, number: u64) -> impl Iterator<Item = &Held> {
        let skip = number.saturating_sub(self.base);
        self.tail
            .iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    /// Points of the first `count` frames of the tail, as they are known now.
    pub(super) fn first_starts(&self, count: usize) -> impl Iterator<Item = Option<u64>> {
        let points = self
            .tail
            .iter()
            .take(count)
            .filter_map(|held| held.point.as_ref());
        points.map(|point| point.first_start)
    }

    pub(super) fn next(&self) -> Option<Offset> {
        let tail = self.tail.back().map(|held| held.frame.offset.next());
        tail.or_else(|| self.index.next())
    }

    pub(super) fn end_ms(&self) -> Option<u64> {
        let stored = self.index.last().filter(|_| self.index.start().is_some());
        let tail = self.tail.back().map(|held| held.end_ms);
        tail.or_else(|| stored.map(|last| last.end_ms))
    }

    pub(super) fn start(&self) -> Option<(Offset, u64)> {
        self.index.start().or(self.tail_start)
    }

    fn is_complete(&self) -> bool {
        let flags = self.index.last().map(|last| last.flags);
        self.tail.is_empty() && flags.is_some_and(|flags| flags.contains(SegmentFlags::COMPLETE))
    }

    pub(super) fn summary(&self, generation: u64) -> Summary {
        let flags = self.index.flags() | self.tail_flags;
        let start = self.start();
        Summary {
            generation,
            start_ms: start.map_or(0, |(_, ms)| ms),
            end_ms: self.end_ms().unwrap_or_default(),
            bytes: self.index.bytes().saturating_add(self.tail_bytes),
            first: start.map(|(offset, _)| offset),
            next: self.next(),
            has_audio: flags.contains(SegmentFlags::AUDIO),
            has_video: flags.contains(SegmentFlags::VIDEO),
            is_complete: self.is_complete(),
        }
    }

    fn tail_position(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.base)?).ok()
    }

    fn tail_point_mut(&mut self, number: u64) -> Option<&mut HeldPoint> {
        let at = self.tail_position(number)?;
        self.tail.get_mut(at)?.point.as_deref_mut()
    }

    /// A frame of the tail that begins a piece, by the place in `points`.
    fn tail_point(&self, at: usize) -> Option<(usize, &Held, &HeldPoint)> {
        let position = self.tail_position(*self.points.get(at)?)?;
        let held = self.tail.get(position)?;
        Some((position, held, held.point.as_deref()?))
    }

    /// First offset and media time of a piece.
    fn point(&self, piece: usize) -> Option<(Offset, u64)> {
        let stored = self.index.points();
        match stored.get(piece) {
            Some(point) => Some((point.offset, point.ms)),
            None => {
                let (_, held, _) = self.tail_point(piece - stored.len())?;
                Some((held.frame.offset, held.ms))
            }
        }
    }

    /// The piece that holds `at`, or the last one before it; the first where there is none before.
    pub(super) fn piece_at(&self, at: Offset) -> usize {
        let stored = self.index.points().len();
        let in_tail = self.points.partition_point(|number| {
            let position = self.tail_position(*number);
            position
                .and_then(|position| self.tail.get(position))
                .is_some_and(|held| held.frame.offset <= at)
        });
        match in_tail.checked_sub(1) {
            Some(last) => stored + last,
            None => self.index.piece_at(at).unwrap_or(0),
        }
    }

    /// The piece with the newest start at or before `ms`; the first where there is none.
    pub(super) fn piece_at_time(&self, ms: u64) -> usize {
        let stored = self.index.points().len();
        let in_tail = (0..self.points.len()).rev().find(|at| {
            self.tail_point(*at).is_some_and(|(_, held, point)| {
                held.ms <= ms && point.first_start.is_some_and(|start| start <= ms)
            })
        });
        match in_tail {
            Some(at) => stored + at,
            None => self.index.piece_at_time(ms).unwrap_or(0),
        }
    }

    /// Where a piece is. `None` where there are no frames at all.
    pub(super) fn plan(&self, piece: usize) -> Option<Plan> {
        let (first, start_ms) = self.point(piece)?;
        let following = self.point(piece + 1);
        let end = self.next().unwrap_or(first);
        let stored: &[Point] = self.index.points();
        let (mut parts, mut preface, mut from) = (Vec::new(), Vec::new(), 0);
        if piece < stored.len() {
            parts = self.index.parts(piece);
        } else {
            let (position, _, point) = self.tail_point(piece - stored.len())?;
            preface.clone_from(&point.preface);
            from = position;
        }
        // Up to the next piece: what of it is in the tail.
        let until = match self.points.get((piece + 1).saturating_sub(stored.len())) {
            _ if piece + 1 < stored.len() => from,
            Some(number) => self.tail_position(*number)?,
            None => self.tail.len(),
        };
        let frames = self
            .tail
            .range(from..until.max(from))
            .map(|held| held.frame.clone());
        Some(Plan {
            first,
            next: following.map_or(end, |(offset, _)| offset),
            start_ms,
            end_ms: following.map_or_else(|| self.end_ms().unwrap_or(start_ms), |(_, ms)| ms),
            follows: match following {
                Some(_) => Follows::Piece,
                None if self.is_complete() => Follows::End,
                None => Follows::Growing,
            },
            frames: frames.collect(),
            parts,
            preface,
        })
    }
}
