//! Writing a recording: frames come in, are made durable, and go into segments.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use headwater_media::frame::{Frame, Offset};
use headwater_media::segment::{
    Cutter, MAX_PAYLOAD, Point, SegmentBuilder, SegmentFlags, SegmentHeader, journal_frame,
};
use headwater_media::window::Preface;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::commit::{Outcome, commit, commit_last};
use super::create::{Claim, Owner, Sealed, apply};
use super::error::ArchiveError;
use super::indexing::Indexing;
use super::journal::Slot;
use super::reader::Reader;
use super::shared::{Held, Shared, State, cost};
use super::{Archives, keys};

/// Wait before a segment that could not be put is put again: the first, and what it doubles up to.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The most pieces of a recording: seven weeks of two seconds each, and a bound on the index of one whose clock runs wild.
const MAX_PIECES: usize = 1 << 21;

/// What a sealed segment takes beyond its payloads, in bytes, for each frame.
const RECORD_COST: usize = 48;

/// Writes one recording. Dropped before it is [finished](Self::finish), it leaves the recording open, with what is durable.
#[derive(Debug)]
pub(crate) struct Writer {
    archives: Archives,
    /// Let go of before the claim.
    slot: Option<Slot>,
    claim: Claim,
    owner: Owner,
    cutter: Cutter,
    /// In force at the end.
    preface: Preface<Frame>,
    /// In force where the tail begins.
    stored_preface: Preface<Frame>,
    next: Option<Offset>,
    /// Frames that the journal has for certain, counted as [`State::appended`].
    journalled: u64,
    /// Frames on their way to the journal, up to which, and the answer.
    journalling: Option<(u64, oneshot::Receiver<Result<(), ArchiveError>>)>,
    /// The next segment. Its bytes stay as they are until it is known to be there.
    sealed: Option<Arc<Sealed>>,
    putting: Option<AbortOnDropHandle<Result<Outcome, ArchiveError>>>,
    pause: Duration,
    not_before: Option<Instant>,
    indexing: Indexing,
    /// Why nothing more can be written.
    ended: Option<ArchiveError>,
    is_finished: bool,
}

/// What a writer begins with.
pub(super) struct Beginning {
    pub(super) owner: Owner,
    pub(super) cutter: Cutter,
    pub(super) preface: Preface<Frame>,
    pub(super) stored_preface: Preface<Frame>,
    /// Frames that are in the journal already.
    pub(super) journalled: Vec<Frame>,
}

impl Writer {
    pub(super) fn new(
        archives: Archives,
        claim: Claim,
        slot: Option<Slot>,
        beginning: Beginning,
    ) -> Self {
        let shared = &claim.shared;
        let next = shared.state.read().next();
        let indexed = shared.state.read().index.next_number();
        shared.set_live(true);
        let mut writer = Self {
            archives,
            slot,
            owner: beginning.owner,
            cutter: beginning.cutter,
            preface: beginning.preface,
            stored_preface: beginning.stored_preface,
            next,
            journalled: 0,
            journalling: None,
            sealed: None,
            putting: None,
            pause: FIRST_PAUSE,
            not_before: None,
            indexing: Indexing::new(indexed),
            ended: None,
            is_finished: false,
            claim,
        };
        let now = Instant::now();
        {
            let shared = writer.claim.shared.clone();
            let mut state = shared.state.write();
            for frame in beginning.journalled {
                writer.take(frame, now, &mut state);
            }
            writer.journalled = state.appended();
        }
        writer
    }

    /// Which of the stream's recordings it is.
    pub(crate) fn generation(&self) -> u64 {
        self.shared().recording.generation
    }

    /// The first offset that is not in it: what comes before is ignored by [`append`](Self::append). `None`: nothing is in it yet.
    pub(crate) fn next_offset(&self) -> Option<Offset> {
        self.next
    }

    /// Bytes that are held because they are in no segment yet.
    pub(crate) fn held_bytes(&self) -> usize {
        self.shared().state.read().held
    }

    /// The first offset that is not durable; `None`: nothing is in it yet.
    pub(crate) fn durable(&self) -> Option<Offset> {
        let state = self.shared().state.read();
        let durable = if self.archives.inner.durable_locally {
            self.journalled.max(state.stored())
        } else {
            state.stored()
        };
        let first = state.tail_from(durable).next();
        first.map(|held| held.frame.offset).or(self.next)
    }

    /// Lets go of what is older than the newest `ms` milliseconds, by whole segments and now and then, so that the store keeps little more
    /// than that. 0: keeps all.
    pub(crate) fn keep_window(&mut self, ms: u64) {
        self.indexing.window_ms = ms;
    }

    /// Reads what is written.
    pub(crate) fn reader(&self) -> Arc<Reader> {
        Arc::new(Reader::new(self.shared().clone()))
    }

    /// Takes frames, in order. Those that are in it already are ignored.
    ///
    /// # Errors
    /// [`ArchiveError::Behind`] when more than [`held_bytes`](super::ArchiveConfig::held_bytes) would be held. Frames before that one
    /// are taken: [`next_offset`](Self::next_offset) tells. [`ArchiveError::Refused`] in the same way for a frame that follows with a
    /// hole, unless [`skip_to`](Self::skip_to) allowed it, and for what cannot be stored. [`ArchiveError::Full`] for a recording that is
    /// longer than any may be. And why writing ended, if it did.
    pub(crate) fn append(&mut self, frames: &[Frame]) -> Result<(), ArchiveError> {
        self.check_open()?;
        let now = Instant::now();
        let limit = self.archives.inner.config.held_bytes;
        let shared = self.shared().clone();
        let mut state = shared.state.write();
        for frame in frames {
            if self.next.is_some_and(|next| frame.offset < next) {
                continue;
            }
            let follows = |next: Offset| frame.offset == next || frame.offset.epoch > next.epoch;
            if !self.next.is_none_or(follows) {
                return Err(ArchiveError::Refused("frames are missing before this one"));
            }
            if frame.payload.len() > MAX_PAYLOAD || frame.offset.sequence == u64::MAX {
                return Err(ArchiveError::Refused("a frame that cannot be stored"));
            }
            if state.pieces() >= MAX_PIECES {
                return Err(ArchiveError::Full("a recording has no more pieces".into()));
            }
            let held = state.held.saturating_add(cost(frame));
            if held > limit && !state.tail.is_empty() {
                let held = state.held;
                return Err(ArchiveError::Behind { held, limit });
            }
            self.take(frame.clone(), now, &mut state);
        }
        Ok(())
    }

    /// Frames before `to` are missing, and will not come.
    pub(crate) fn skip_to(&mut self, to: Offset) {
        if self.next.is_none_or(|next| next < to) {
            self.next = Some(to);
        }
    }

    fn take(&mut self, frame: Frame, now: Instant, state: &mut State) {
        let step = self.cutter.step(&frame);
        let preface = if step.begins.is_some() {
            self.preface.clone().frames(frame.offset.epoch)
        } else {
            Vec::new()
        };
        apply(&mut self.preface, &frame);
        self.next = Some(frame.offset.next());
        state.push(Held::new(frame, step, preface, now));
    }

    /// Makes durable what was appended, and seals segments that are due; a segment goes to the store while more is appended. Gives the
    /// first offset that is not durable.
    ///
    /// Call it some times a second, also when nothing comes. Nothing is lost when the call is dropped.
    ///
    /// # Errors
    /// [`ArchiveError::Fenced`] for good. Others may pass: what was appended is held and tried again at the next calls, with pauses;
    /// what is durable all the same is told by [`durable`](Self::durable).
    pub(crate) async fn sync(&mut self) -> Result<Option<Offset>, ArchiveError> {
        self.check_open()?;
        let before = self.reap().await;
        self.seal_if_due();
        self.put();
        let journalled = self.journal().await;
        let after = self.reap().await;
        before.and(journalled).and(after)?;
        Ok(self.durable())
    }

    /// Puts everything into segments; the last one says that the recording is complete. After success nothing more is taken; after an
    /// error call again, or drop the writer: then somebody may take the recording over later.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(crate) async fn finish(&mut self) -> Result<Arc<Reader>, ArchiveError> {
        self.close(SegmentFlags::COMPLETE).await
    }

    /// Puts everything into segments, for another node to go on. As [`finish`](Self::finish) else.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(crate) async fn hand_over(&mut self) -> Result<Arc<Reader>, ArchiveError> {
        self.close(SegmentFlags::empty()).await
    }

    async fn close(&mut self, flags: SegmentFlags) -> Result<Arc<Reader>, ArchiveError> {
        if self.is_finished {
            return Ok(self.reader());
        }
        self.check_open()?;
        if !self.archives.inner.durable_locally {
            // The store may need many tries: as long, the journal has what is to come. It is not waited for.
            self.journal().await?;
            if self.journalling.is_none() {
                self.journal().await?;
            }
        }
        loop {
            if self.sealed.is_none() {
                let done = {
                    let state = self.shared().state.read();
                    let last = state.index.last().map(|last| last.flags);
                    state.tail.is_empty() && last.is_some_and(|last| last.contains(flags))
                };
                if done {
                    break;
                }
                self.seal_rest(flags);
            }
            // The caller paces its tries.
            self.not_before = None;
            self.put();
            self.wait().await?;
        }
        if let Some(slot) = self.slot.take() {
            slot.close();
        }
        self.is_finished = true;
        self.claim.release();
        Ok(self.reader())
    }

    /// Waits until the journal has everything that was appended and is in no segment.
    ///
    /// # Errors
    /// [`ArchiveError`], where the journal cannot be written.
    pub(crate) async fn journal_rest(&mut self) -> Result<(), ArchiveError> {
        self.check_open()?;
        loop {
            if self.journalling.is_none() {
                self.journalling = self.submit();
            }
            let Some((up_to, answer)) = &mut self.journalling else {
                return Ok(());
            };
            let answered = answer.await;
            let up_to = *up_to;
            self.journalling = None;
            answered.unwrap_or_else(|_| Err(journal_ended()))?;
            self.journalled = self.journalled.max(up_to);
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.claim.shared
    }

    fn check_open(&self) -> Result<(), ArchiveError> {
        if self.is_finished {
            return Err(ArchiveError::Refused("the recording is finished"));
        }
        self.ended.clone().map_or(Ok(()), Err)
    }

    /// Hands to the journal what it does not have. With a local store it waits for it.
    async fn journal(&mut self) -> Result<(), ArchiveError> {
        if self.slot.is_none() {
            return Ok(());
        }
        let is_waited_for = self.archives.inner.durable_locally;
        if self.journalling.is_none() {
            self.journalling = self.submit();
        }
        let Some((up_to, answer)) = &mut self.journalling else {
            return Ok(());
        };
        let answered = if is_waited_for {
            answer.await
        } else {
            match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return Ok(()),
                answered => Ok(answered.unwrap_or_else(|_| Err(journal_ended()))),
            }
        };
        let up_to = *up_to;
        self.journalling = None;
        match answered.unwrap_or_else(|_| Err(journal_ended())) {
            Ok(()) => {
                self.journalled = self.journalled.max(up_to);
                Ok(())
            }
            Err(error) if is_waited_for => Err(error),
            Err(error) => {
                tracing::debug!(%error, stream = %self.shared().recording.name, "the journal cannot be written");
                Ok(())
            }
        }
    }

    fn submit(&self) -> Option<(u64, oneshot::Receiver<Result<(), ArchiveError>>)> {
        let slot = self.slot.as_ref()?;
        let replace = slot.must_carry();
        let state = self.shared().state.read();
        let from = if replace { 0 } else { self.journalled };
        let mut records = BytesMut::new();
        let mut next = None;
        for held in state.tail_from(from) {
            journal_frame(slot.id(), &held.frame, &mut records);
            next = Some(held.frame.offset.next());
        }
        if next.is_none() && !replace {
            return None;
        }
        let answer = slot.submit(records.freeze(), next, replace);
        Some((state.appended(), answer))
    }

    /// Makes the next segment of what is due, if it is.
    fn seal_if_due(&mut self) {
        if self.sealed.is_some() {
            return;
        }
        let count = {
            let state = self.shared().state.read();
            self.due(&state, Instant::now())
        };
        if count > 0 {
            self.sealed = Some(Arc::new(self.seal(count, SegmentFlags::empty())));
        }
    }

    /// Makes the next segment of as much as may be in one; with `flags` if that is all.
    fn seal_rest(&mut self, flags: SegmentFlags) {
        let (count, is_all) = {
            let state = self.shared().state.read();
            let count = self.fitting(&state);
            (count, count == state.tail.len())
        };
        let flags = if is_all { flags } else { SegmentFlags::empty() };
        self.sealed = Some(Arc::new(self.seal(count, flags)));
    }

    /// How many frames of the tail make the next segment now; 0: none is due.
    fn due(&self, state: &State, now: Instant) -> usize {
        let config = &self.archives.inner.config;
        let (Some(first), Some(last)) = (state.tail.front(), state.tail.back()) else {
            return 0;
        };
        if state.held >= config.segment_bytes {
            let fitting = self.fitting(state);
            if fitting < state.tail.len() {
                return fitting;
            }
        }
        let length = last.ms.saturating_sub(first.ms);
        let late = config.segment_ms.saturating_mul(2);
        if length >= config.segment_ms {
            let cut = state.tail.iter().rposition(|held| held.point.is_some());
            if let Some(cut) = cut.filter(|cut| *cut > 0) {
                return cut;
            }
        }
        let age = now.saturating_duration_since(first.since);
        if length >= late || age >= Duration::from_millis(late) {
            return state.tail.len();
        }
        0
    }

    /// How many frames of the tail go into one segment: all, or as many as fit, up to where a piece begins if there is such a place.
    fn fitting(&self, state: &State) -> usize {
        let limit = self.archives.inner.config.segment_bytes;
        let (mut bytes, mut cut) = (0_usize, 0);
        for (at, held) in state.tail.iter().enumerate() {
            if at > 0 && held.point.is_some() {
                cut = at;
            }
            bytes = bytes.saturating_add(held.cost);
            if bytes > limit && at > 0 {
                return if cut > 0 { cut } else { at };
            }
        }
        state.tail.len()
    }

    fn seal(&self, count: usize, flags: SegmentFlags) -> Sealed {
        let shared = self.shared();
        let state = shared.state.read();
        let last = state.index.last().cloned().unwrap_or_default();
        let bytes = |held: &Held| {
            let in_force = held.point.iter().flat_map(|point| &point.preface);
            let frames = in_force.chain([&held.frame]);
            frames
                .map(|frame| frame.payload.len() + RECORD_COST)
                .sum::<usize>()
        };
        let capacity = state.tail.iter().take(count).map(bytes).sum::<usize>() + 4_096;
        let header = self
            .owner
            .header(&shared.recording, state.index.next_number());
        let mut builder = SegmentBuilder::new(&header, &last, capacity);
        for (at, held) in state.tail.iter().take(count).enumerate() {
            let place = builder.place();
            if let Some(point) = &held.point {
                builder.preface(&point.preface);
                let point = Point {
                    ms: held.ms,
                    first_start: point.first_start,
                    state: point.state,
                    ..Point::default()
                };
                builder.point(&held.frame, place, point);
            } else if at == 0 {
                let preface = self.stored_preface.clone();
                builder.preface(&preface.frames(held.frame.offset.epoch));
            }
            builder.frame(&held.frame, held.ms, held.end_ms, held.starts);
        }
        let (data, info, points) = builder.finish(flags);
        Sealed {
            info,
            points,
            data,
            count,
        }
    }

    /// Sends the next segment to the store, unless it is on its way or has to wait after an error.
    fn put(&mut self) {
        let Some(sealed) = self.sealed.clone() else {
            return;
        };
        let waits = self.not_before.is_some_and(|at| Instant::now() < at);
        if self.putting.is_some() || waits {
            return;
        }
        let shared = self.shared().clone();
        let has_window = self.indexing.window_ms > 0;
        let task = tokio::spawn(async move {
            let (number, data) = (sealed.info.number, &sealed.data);
            if has_window {
                return commit_last(&shared, number, data).await;
            }
            let path = keys::segment(&shared.folder, number);
            commit(&*shared.objects, &path, data, shared.timeout).await
        });
        self.putting = Some(AbortOnDropHandle::new(task));
    }

    /// Takes note of a put that has ended, and sends the next segment if one is due.
    async fn reap(&mut self) -> Result<(), ArchiveError> {
        while self.putting.as_ref().is_some_and(|put| put.is_finished()) {
            self.wait().await?;
            self.seal_if_due();
            self.put();
        }
        Ok(())
    }

    /// Waits for the put to end.
    async fn wait(&mut self) -> Result<(), ArchiveError> {
        let Some(put) = &mut self.putting else {
            return Ok(());
        };
        let ended = put.await;
        self.putting = None;
        let outcome =
            ended.unwrap_or_else(|error| Err(ArchiveError::Unavailable(error.to_string())));
        match outcome {
            Ok(Outcome::Committed) => {
                self.pause = FIRST_PAUSE;
                self.not_before = None;
                self.committed()
            }
            Ok(Outcome::Foreign(foreign)) => Err(self.replaced_by(foreign.header)),
            Ok(Outcome::Behind(newest)) => Err(self.replaced_by(*newest)),
            Err(error @ ArchiveError::Damaged { .. }) => Err(self.end(error)),
            Err(error) => {
                self.not_before = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                Err(error)
            }
        }
    }

    /// Whoever wrote that had a term of its own, which it got after ours: see the module's head.
    fn replaced_by(&mut self, other: SegmentHeader) -> ArchiveError {
        if let Some(slot) = self.slot.take() {
            slot.close();
        }
        self.end(ArchiveError::Fenced {
            owner: other.owner,
            term: other.term,
        })
    }

    fn end(&mut self, error: ArchiveError) -> ArchiveError {
        self.shared().set_live(false);
        self.ended.insert(error).clone()
    }

    /// The sealed segment is in the store.
    fn committed(&mut self) -> Result<(), ArchiveError> {
        let Some(sealed) = self.sealed.take() else {
            return Ok(());
        };
        let shared = self.shared().clone();
        {
            let mut state = shared.state.write();
            for held in state.tail.iter().take(sealed.count) {
                apply(&mut self.stored_preface, &held.frame);
            }
            let mut points = sealed.points.clone();
            let starts: Vec<_> = state.first_starts(sealed.count).collect();
            for (point, start) in points.iter_mut().zip(starts) {
                point.first_start = start;
            }
            let pushed = state.index.push(sealed.info.clone(), points);
            pushed.map_err(|error| {
                let path = keys::segment(&shared.folder, sealed.info.number);
                ArchiveError::damaged(&path, &error)
            })?;
            state.drop_stored(sealed.count);
        }
        if let Some(slot) = self.slot.as_ref().filter(|_| sealed.count > 0) {
            slot.stored(sealed.info.next);
        }
        self.indexing.after_segment(&shared);
        Ok(())
    }
}

fn journal_ended() -> ArchiveError {
    ArchiveError::Unavailable("the journal has ended".into())
}
