//! Beginning a recording, and going on with one.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use headwater_media::frame::{Frame, FrameFlags};
use headwater_media::name::StreamName;
use headwater_media::segment::{
    Cutter, Point, SegmentBuilder, SegmentFlags, SegmentHeader, SegmentInfo,
};
use headwater_media::window::{Preface, Slot as PrefaceSlot};
use tokio::time::Instant;

use super::commit::{Outcome, commit_last};
use super::error::ArchiveError;
use super::journal::{LeftOpen, Slot};
use super::shared::{Held, Shared};
use super::writer::{Beginning, Writer};
use super::{Archives, Summary, keys, load};

/// Rounds after which an owner gives up to begin: each lost one means that another owner began or wrote.
const ROUNDS: u32 = 64;

/// How often an owner's first segment is put again when it is not known whether it is there, and how long it waits between.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

impl Archives {
    /// Begins a recording, with a generation greater than those there are, and at least the wall clock in milliseconds.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(crate) async fn create(
        &self,
        name: &StreamName,
        owner: &str,
    ) -> Result<Writer, ArchiveError> {
        let known = self.generations_in(&keys::stream(name)).await?;
        let clock = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        let mut generation = known
            .last()
            .map_or(0, |last| last.saturating_add(1))
            .max(clock);
        for _ in 0..ROUNDS {
            let recording = LeftOpen {
                name: name.clone(),
                generation,
            };
            let Some(claim) = Claim::new(self, recording.clone()) else {
                generation += 1;
                continue;
            };
            let slot = self.slot(&recording).await;
            if !matches!(slot, Ok(Some(_))) {
                // Nothing is in it yet.
                self.forget(&recording);
            }
            let slot = slot?;
            let shared = claim.shared.clone();
            let me = Owner {
                owner: owner.to_owned(),
                term: 1,
                writer: rand::random(),
            };
            let first = me.first_segment(&shared, 0, &SegmentInfo::default());
            match put_first(&shared, &first).await {
                Ok(Outcome::Committed) => {
                    shared.push(first.info, first.points)?;
                    let beginning = Beginning {
                        owner: me,
                        cutter: Cutter::new(self.inner.config.grid),
                        preface: Preface::new(),
                        stored_preface: Preface::new(),
                        journalled: Vec::new(),
                    };
                    return Ok(Writer::new(self.clone(), claim, slot, beginning));
                }
                // Somebody began one in the same millisecond.
                Ok(Outcome::Foreign(_) | Outcome::Behind(_)) => generation += 1,
                Err(error) => {
                    close(slot);
                    return Err(error);
                }
            }
            close(slot);
        }
        Err(ArchiveError::Unavailable(
            "others begin recordings of the same name all the time".into(),
        ))
    }

    /// Goes on with a recording: after what is stored of it, and what this machine's journal has beyond that. Other writers of it find
    /// out and stop.
    ///
    /// # Errors
    /// [`ArchiveError`]; [`ArchiveError::Open`] while it is written in this process.
    pub(crate) async fn take_over(
        &self,
        name: &StreamName,
        generation: u64,
        owner: &str,
    ) -> Result<Writer, ArchiveError> {
        let recording = LeftOpen {
            name: name.clone(),
            generation,
        };
        let claim = Claim::new(self, recording.clone()).ok_or(ArchiveError::Open)?;
        let shared = claim.shared.clone();
        shared.refresh().await?;
        let slot = self.slot(&recording).await?;
        let me = self.begin(&shared, owner).await?;
        let (cutter, preface) = self.state_at_end(&shared).await?;
        let (slot, journalled) = self.left_in_journal(slot, &shared).await?;
        let beginning = Beginning {
            owner: me,
            cutter,
            stored_preface: preface.clone(),
            preface,
            journalled,
        };
        Ok(Writer::new(self.clone(), claim, slot, beginning))
    }

    /// What [`take_over`](Self::take_over) would find of a recording that was left open. Takes nothing over.
    ///
    /// # Errors
    /// [`ArchiveError`]; [`ArchiveError::Open`] while it is written in this process.
    pub(crate) async fn left_to_take_over(
        &self,
        name: &StreamName,
        generation: u64,
    ) -> Result<Summary, ArchiveError> {
        let recording = LeftOpen {
            name: name.clone(),
            generation,
        };
        let claim = Claim::new(self, recording.clone()).ok_or(ArchiveError::Open)?;
        let shared = &claim.shared;
        shared.refresh().await?;
        let slot = self.inner.journal.open(recording);
        let (mut cutter, _) = self.state_at_end(shared).await?;
        let (_slot, journalled) = self.left_in_journal(slot, shared).await?;
        let now = Instant::now();
        let mut state = shared.state.write();
        for frame in journalled {
            let step = cutter.step(&frame);
            state.push(Held::new(frame, step, Vec::new(), now));
        }
        Ok(state.summary(generation))
    }

    /// A place in the journal, which says so already on the disk. `None` where the journal cannot be written and need not be.
    async fn slot(&self, recording: &LeftOpen) -> Result<Option<Slot>, ArchiveError> {
        let journal = &self.inner.journal;
        let slot = journal.open(recording.clone()).ok_or(ArchiveError::Open)?;
        let written = slot.submit(Bytes::new(), None, false).await;
        match written.unwrap_or_else(|_| Err(ended())) {
            Ok(()) => Ok(Some(slot)),
            Err(error) if self.inner.durable_locally => Err(error),
            Err(error) => {
                tracing::warn!(%error, stream = %recording.name, "recording without a journal");
                Ok(None)
            }
        }
    }

    /// Commits the first segment of a new term.
    async fn begin(&self, shared: &Shared, owner: &str) -> Result<Owner, ArchiveError> {
        let mut me = Owner {
            owner: owner.to_owned(),
            term: 0,
            writer: rand::random(),
        };
        for _ in 0..ROUNDS {
            let (number, last) = {
                let state = shared.state.read();
                let last = state.index.last().cloned().unwrap_or_default();
                (state.index.next_number(), last)
            };
            me.term = me.term.max(last.term.saturating_add(1));
            let first = me.first_segment(shared, number, &last);
            let (info, points) = match put_first(shared, &first).await? {
                Outcome::Committed => {
                    shared.push(first.info, first.points)?;
                    return Ok(me);
                }
                // The owner before was quicker once more, or another new one: its frames stand, and we go on after them.
                Outcome::Foreign(foreign) => (foreign.info, foreign.points),
                // It has come so far that a window let go of what was there. Ours is in no index, and goes with the next trimming.
                Outcome::Behind(_) => {
                    shared.reload().await?;
                    // Of two that begin at the same time one is to be first.
                    tokio::time::sleep(PAUSE.mul_f64(rand::random())).await;
                    continue;
                }
            };
            shared.push(info, points)?;
        }
        Err(ArchiveError::Unavailable(
            "others write the same recording all the time".into(),
        ))
    }

    /// What the grid, and what is in force, come to at the end of what is stored.
    async fn state_at_end(
        &self,
        shared: &Shared,
    ) -> Result<(Cutter, Preface<Frame>), ArchiveError> {
        let grid = self.inner.config.grid;
        let (origin_ms, point, end_ms, parts) = {
            let state = shared.state.read();
            let points = state.index.points();
            let piece = points.len().saturating_sub(1);
            let point = points.get(piece).cloned();
            (
                state.index.origin_ms(),
                point,
                state.end_ms().unwrap_or_default(),
                state.index.parts(piece),
            )
        };
        let mut preface = Preface::new();
        let (Some(origin_ms), Some(point)) = (origin_ms, point) else {
            return Ok((Cutter::new(grid), preface));
        };
        let mut cutter = Cutter::resume(grid, origin_ms, &point, end_ms);
        let last = load::read_parts(shared, parts).await?;
        for frame in &last.preface {
            apply(&mut preface, frame);
        }
        for frame in &last.frames {
            cutter.step(frame);
            apply(&mut preface, frame);
        }
        Ok((cutter, preface))
    }

    /// What the journal has beyond the store.
    async fn left_in_journal(
        &self,
        slot: Option<Slot>,
        shared: &Shared,
    ) -> Result<(Option<Slot>, Vec<Frame>), ArchiveError> {
        let Some(slot) = slot else {
            return Ok((None, Vec::new()));
        };
        let next = shared.state.read().index.next();
        if let Some(next) = next {
            slot.stored(next);
        }
        let reading = tokio::task::spawn_blocking(move || {
            let read = slot.read(next);
            (slot, read)
        });
        let (slot, read) = reading
            .await
            .map_err(|error| ArchiveError::Unavailable(error.to_string()))?;
        let frames = read.map_err(|error| ArchiveError::file(&error))?;
        Ok((Some(slot), frames))
    }
}

fn close(slot: Option<Slot>) {
    if let Some(slot) = slot {
        slot.close();
    }
}

fn ended() -> ArchiveError {
    ArchiveError::Unavailable("the journal has ended".into())
}

/// Takes a frame into what is in force.
pub(super) fn apply(preface: &mut Preface<Frame>, frame: &Frame) {
    let has_slot = FrameFlags::HEADER | FrameFlags::METADATA | FrameFlags::CLEAR_METADATA;
    if frame.flags.intersects(has_slot) {
        preface.apply(&PrefaceSlot::of(frame.kind, &frame.payload), frame);
    }
}

/// A recording that is written or deleted in this process, and by nobody else there.
#[derive(Debug)]
pub(super) struct Claim {
    archives: Archives,
    pub(super) shared: Arc<Shared>,
}

impl Claim {
    /// `None` if somebody has it.
    pub(super) fn new(archives: &Archives, recording: LeftOpen) -> Option<Self> {
        let mut open = archives.inner.open.lock();
        let known = open.get(&recording).and_then(Weak::upgrade);
        if known.is_some_and(|shared| shared.is_claimed()) {
            return None;
        }
        let shared = Arc::new(Shared::new(archives, recording.clone()));
        shared.set_claimed(true);
        open.insert(recording, Arc::downgrade(&shared));
        Some(Self {
            archives: archives.clone(),
            shared,
        })
    }
}

impl Claim {
    /// Lets others write the recording, or delete it.
    pub(super) fn release(&self) {
        self.shared.set_live(false);
        self.shared.set_claimed(false);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.release();
        let mut open = self.archives.inner.open.lock();
        let ours = Arc::downgrade(&self.shared);
        if open
            .get(&self.shared.recording)
            .is_some_and(|known| known.ptr_eq(&ours))
        {
            open.remove(&self.shared.recording);
        }
    }
}

/// Who writes.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) owner: String,
    pub(super) term: u64,
    pub(super) writer: u64,
}

/// A segment that is ready.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub(super) info: SegmentInfo,
    pub(super) points: Vec<Point>,
    pub(super) data: Bytes,
    /// How many frames of the tail are in it.
    pub(super) count: usize,
}

impl Owner {
    pub(super) fn header(&self, recording: &LeftOpen, number: u64) -> SegmentHeader {
        SegmentHeader {
            name: recording.name.clone(),
            generation: recording.generation,
            number,
            term: self.term,
            owner: self.owner.clone(),
            writer: self.writer,
        }
    }

    fn first_segment(&self, shared: &Shared, number: u64, at: &SegmentInfo) -> Sealed {
        let header = self.header(&shared.recording, number);
        let builder = SegmentBuilder::new(&header, at, 1_024);
        let (data, info, points) = builder.finish(SegmentFlags::TAKE_OVER);
        Sealed {
            info,
            points,
            data,
            count: 0,
        }
    }
}

async fn put_first(shared: &Shared, first: &Sealed) -> Result<Outcome, ArchiveError> {
    let mut tries = 1;
    loop {
        match commit_last(shared, first.info.number, &first.data).await {
            Err(ArchiveError::Unavailable(_)) if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}
