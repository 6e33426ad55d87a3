//! Writes the frames of a session to the archive, until they are durable, through everything that a store may do.
//!
//! # Invariants
//! - A frame is held until it is durable. When another owner had the recording in between, it is taken back, and what that one did
//!   not store is written again: offsets make that exact.
//! - Nothing waits for longer than the session: it fails when too much waits, and then so does what waits for the store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use headwater_media::frame::{Frame, Offset};
use headwater_media::name::StreamName;
use tokio::time::Instant;

use super::failure::Failure;
use super::intake::Intake;
use super::session::Session;
use crate::record::files::Continues;
use crate::record::recordings::Shared;
use crate::record::target::Target;
use crate::record::vault::{Cause, Kept, Ledger, Vault, VaultError};

/// The pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The pause before a recording is taken back from another origin: whoever is right, the publisher is there soon.
const FENCED_PAUSE: Duration = Duration::from_secs(1);

/// How often a recording is taken back from others, with nothing stored in between, before it is left to them.
const MOST_FENCED: u32 = 5;

/// The time between two syncs when everything is durable, but not yet where it is to be in the end.
const IDLE_SYNC: Duration = Duration::from_secs(1);

/// The least time between two looks at the free space.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// Where frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A new generation, made with the first frame.
    New,
    /// The same, that goes on behind the file.
    Behind {
        /// See [`Continues`].
        shift_ms: Option<i64>,
    },
    Generation(u64),
}

/// See the [module](self).
pub(super) struct Keeper<'a, V: Vault> {
    pub(super) shared: &'a Arc<Shared<V>>,
    pub(super) target: &'a Target,
    /// The stream, as it is published.
    live: &'a StreamName,
    pub(super) session: &'a Session,
    pub(super) intake: &'a Intake,
    place: Place,
    /// Set where the generation is to go on behind the file: its shift.
    behind: Option<Option<i64>>,
    /// There is nothing more to [remember](Self::remember).
    is_remembered: bool,
    writer: Option<V::Writer>,
    /// How often a writer was made: what readers of one before it see does not grow any more.
    pub(super) opened: u32,
    /// Not durable yet, oldest first.
    held: VecDeque<Frame>,
    /// How many of them the writer has.
    written: usize,
    /// The first offset that never came here, or came and is past.
    next: Option<Offset>,
    /// When waiting for the store ends, once the session has.
    pub(super) deadline: Option<Instant>,
    /// The publisher went to another owner, which goes on.
    pub(super) hands_over: bool,
    last_sync: Instant,
    last_space: Option<Instant>,
    fenced: u32,
    /// Frames that were stored for this session.
    pub(super) stored: u64,
}

impl<'a, V: Vault> Keeper<'a, V> {
    /// `skip` is the first offset that is not stored already.
    pub(super) fn new(
        shared: &'a Arc<Shared<V>>,
        target: &'a Target,
        session: &'a Session,
        intake: &'a Intake,
        place: Place,
        skip: Option<Offset>,
        live: &'a StreamName,
    ) -> Self {
        Self {
            shared,
            target,
            live,
            session,
            intake,
            place,
            behind: match place {
                Place::Behind { shift_ms } => Some(shift_ms),
                Place::New | Place::Generation(_) => None,
            },
            is_remembered: place == Place::New && session.window_ms == 0,
            writer: None,
            opened: 0,
            held: VecDeque::new(),
            written: 0,
            next: skip,
            deadline: None,
            hands_over: false,
            last_sync: Instant::now(),
            last_space: None,
            fenced: 0,
            stored: 0,
        }
    }

    /// The generation that is written, once there is one.
    pub(super) fn generation(&self) -> Option<u64> {
        match self.place {
            Place::Generation(generation) => Some(generation),
            Place::New | Place::Behind { .. } => None,
        }
    }

    /// Whether the archive has a frame of this session.
    pub(super) fn has_written(&self) -> bool {
        self.stored > 0 || self.written > 0
    }

    pub(super) fn kept(&self) -> Option<Kept> {
        self.writer.as_ref().map(Ledger::kept)
    }

    pub(super) fn reader(&self) -> Option<V::Reader> {
        self.writer.as_ref().map(Ledger::reader)
    }

    /// The writer, for whoever makes the recording a file.
    pub(super) fn into_writer(self) -> Option<V::Writer> {
        self.writer
    }

    /// When [`Self::sync`] is due.
    pub(super) fn sync_due(&self) -> Option<Instant> {
        if !self.held.is_empty() {
            return Some(self.last_sync + self.shared.config.sync());
        }
        let writer = self.writer.as_ref()?;
        (!writer.is_settled()).then(|| self.last_sync + IDLE_SYNC)
    }

    /// Opens what is there, for a recording that goes on.
    pub(super) async fn open(&mut self) -> Result<(), Failure> {
        self.persist(Until::Open).await
    }

    /// Writes frames. Of those that are stored already nothing is done.
    pub(super) async fn push(&mut self, frames: Vec<Frame>) -> Result<(), Failure> {
        self.hold(frames);
        if self.held.is_empty() {
            return Ok(());
        }
        let first = self.generation().is_none();
        self.persist(Until::Written).await?;
        if first || self.sync_due().is_some_and(|due| due <= Instant::now()) {
            self.sync().await?;
        }
        Ok(())
    }

    fn hold(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            match self.next {
                Some(next) if frame.offset < next => {
                    self.intake.release(&frame);
                    continue;
                }
                Some(next) if frame.offset.epoch == next.epoch && frame.offset > next => {
                    self.count_hole(frame.offset.sequence - next.sequence);
                }
                // Another epoch: its publisher may have come from elsewhere, with its first frames lost.
                Some(next) if frame.offset.epoch > next.epoch && frame.offset.sequence > 0 => {
                    self.count_hole(frame.offset.sequence);
                }
                None if frame.offset.sequence > 0 => self.count_hole(frame.offset.sequence),
                Some(_) | None => {}
            }
            self.next = Some(frame.offset.next());
            self.held.push_back(frame);
        }
    }

    fn count_hole(&self, frames: u64) {
        self.shared.metrics.holes.inc_by(frames);
        tracing::warn!(
            frames,
            "the recording lacks frames that never came to this origin"
        );
    }

    /// Makes durable what can be, and tells the session.
    pub(super) async fn sync(&mut self) -> Result<(), Failure> {
        self.check_space().await?;
        self.persist(Until::Synced).await
    }

    /// Makes everything durable where others find it.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        if self.generation().is_none() && self.held.is_empty() {
            // Not a frame came.
            return Ok(());
        }
        self.persist(match self.hands_over {
            true => Until::HandedOver,
            false => Until::Finished,
        })
        .await
    }

    /// Leaves what is not durable on this machine when the process is about to stop, also where the store does not answer.
    pub(super) async fn last_words(&mut self, patience: Duration) {
        let syncing = async {
            while let Ok(frames) = self.intake.next(usize::MAX).await {
                self.hold(frames);
            }
            if let Some(writer) = &mut self.writer {
                let new = self.held.make_contiguous().get(self.written..);
                writer.append(new.unwrap_or_default()).await?;
                writer.journal().await?;
            }
            Ok::<(), VaultError>(())
        };
        match tokio::time::timeout(patience, syncing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last frames were not stored"),
            Err(_) => tracing::warn!("the last frames were not stored in time"),
        }
    }

    async fn check_space(&mut self) -> Result<(), Failure> {
        let least = self.shared.config.min_free_bytes;
        let now = Instant::now();
        // To a store that is not on this machine the disk is of use, but no need.
        if least == 0
            || !self.shared.files.are_local()
            || self
                .last_space
                .is_some_and(|last| now < last + SPACE_INTERVAL)
        {
            return Ok(());
        }
        self.last_space = Some(now);
        match self.shared.files.free_space().await {
            Some(free) if free < least => Err(Failure::LittleSpace(least)),
            _ => Ok(()),
        }
    }

    /// Tries until it is done, or there is no use in trying.
    async fn persist(&mut self, until: Until) -> Result<(), Failure> {
        let mut pause = FIRST_PAUSE;
        let session = self.session;
        let shared = self.shared;
        let deadline = self.deadline;
        loop {
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let outcome = tokio::select! {
                biased;
                outcome = self.attempt(until) => outcome,
                // Its reason stands there already.
                () = session.over() => return Err(Failure::Storage("it did not answer".to_owned())),
                () = late => return Err(Failure::Storage("it did not answer in time".to_owned())),
                () = shared.stop.cancelled() => return Err(Failure::Stopping),
            };
            let Err(error) = outcome else {
                return Ok(());
            };
            let wait = match error.cause {
                Cause::Unavailable => {
                    self.count_written();
                    pause
                }
                Cause::Fenced => {
                    self.writer = None;
                    self.written = 0;
                    self.fenced += 1;
                    let ours = self.shared.is_ours(self.live);
                    if !ours || self.fenced > MOST_FENCED || self.deadline.is_some() {
                        return Err(Failure::Fenced);
                    }
                    FENCED_PAUSE
                }
                Cause::NotFound | Cause::Corrupt | Cause::Full | Cause::NoAccess => {
                    return Err(error.into());
                }
            };
            self.shared.metrics.retries.inc();
            tracing::warn!(%error, "the store failed, the recording tries again");
            pause = (pause * 2).min(LONGEST_PAUSE);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = session.over() => return Err(error.into()),
                () = shared.stop.cancelled() => return Err(Failure::Stopping),
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(error.into());
            }
        }
    }

    async fn attempt(&mut self, until: Until) -> Result<(), VaultError> {
        self.prepare().await?;
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        if self.written < self.held.len() {
            let frames = self.held.make_contiguous();
            let new = frames.get(self.written..).unwrap_or_default();
            let count = new.len();
            if let Err(error) = writer.append(new).await {
                // More may be held than may be; what can go, goes now.
                if error.cause == Cause::Unavailable {
                    let durable = writer.sync().await?;
                    self.let_go(durable);
                }
                return Err(error);
            }
            self.written += count;
        }
        let durable = match until {
            Until::Open | Until::Written => return Ok(()),
            Until::Synced => {
                let started = Instant::now();
                let durable = writer.sync().await?;
                let took = started.elapsed();
                self.shared.metrics.sync_seconds.observe(took.as_secs_f64());
                durable
            }
            Until::Finished => {
                writer.finish().await?;
                writer.kept().next
            }
            Until::HandedOver => {
                writer.hand_over().await?;
                writer.kept().next
            }
        };
        self.last_sync = Instant::now();
        let stored = self.stored;
        self.let_go(durable);
        if self.stored > stored {
            // Whoever else wanted the recording has left it to this origin.
            self.fenced = 0;
        }
        Ok(())
    }

    /// A writer that knows what is stored, and only frames that are not.
    async fn prepare(&mut self) -> Result<(), VaultError> {
        if self.writer.is_some() {
            return Ok(());
        }
        let name = &self.target.name;
        let mut writer = match self.generation() {
            None => self.shared.vault.create(name).await?,
            Some(generation) => {
                self.remember(generation).await?;
                self.shared.vault.take_over(name, generation).await?
            }
        };
        writer.keep_window(self.session.window_ms);
        let generation = writer.generation();
        self.place = Place::Generation(generation);
        self.remember(generation).await?;
        if let Some(stored) = writer.kept().next {
            self.let_go(Some(stored));
            if self.next.is_none_or(|next| next < stored) {
                self.next = Some(stored);
            }
        }
        self.written = 0;
        self.opened = self.opened.saturating_add(1);
        self.writer = Some(writer);
        Ok(())
    }

    /// Remembers what whoever makes a file of a generation cannot see in it. Before its first frame, and before the first that its
    /// window lets go of: whoever finds a frame knows where it belongs.
    async fn remember(&mut self, generation: u64) -> Result<(), VaultError> {
        if self.is_remembered {
            return Ok(());
        }
        let name = &self.target.name;
        let before = self.shared.files.card(name).await?;
        let mut card = before.clone();
        if let Some(shift_ms) = self.behind {
            card.continues = Some(Continues {
                generation,
                shift_ms,
                from: None,
            });
        }
        let window_ms = self.session.window_ms;
        if card.window_ms(generation) != window_ms {
            card.window = Some((generation, window_ms));
        }
        if card != before {
            self.shared.files.write_card(name, &card).await?;
        }
        self.is_remembered = true;
        Ok(())
    }

    /// Finds out how many of the frames that are held the writer has taken.
    fn count_written(&mut self) {
        let next = self.kept().and_then(|kept| kept.next);
        self.written = match next {
            Some(next) => self.held.partition_point(|frame| frame.offset < next),
            None => 0,
        };
    }

    /// Everything before `durable` is.
    fn let_go(&mut self, durable: Option<Offset>) {
        let Some(durable) = durable else {
            return;
        };
        let mut span: Option<(u64, u64)> = None;
        while let Some(frame) = self.held.pop_front_if(|frame| frame.offset < durable) {
            let (oldest, _) = *span.get_or_insert((frame.timestamp, frame.timestamp));
            span = Some((oldest, frame.timestamp));
            self.intake.release(&frame);
            self.shared.metrics.frames.inc();
            self.shared.metrics.bytes.inc_by(frame.payload.len() as u64);
            self.stored += 1;
            self.written = self.written.saturating_sub(1);
        }
        if durable.epoch == self.session.epoch {
            self.session.store(durable.sequence);
        }
        if let Some((oldest, newest)) = span {
            let newest = self.held.back().map_or(newest, |frame| frame.timestamp);
            let lag = newest.saturating_sub(oldest) as f64 / 1_000.0;
            self.shared.metrics.lag_seconds.observe(lag);
        }
    }
}

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Open,
    Written,
    Synced,
    Finished,
    HandedOver,
}
