//! The recorder of one name: everything about its recordings, one after the other.
//!
//! ```text
//!             a publisher is to be recorded            it ends, or the recording fails
//!   Idle ------------------------------------> Session --------------------------------> Idle
//!    |  ^
//!    |  +-- nothing is left to do: the recorder goes
//!    +----- what is stored becomes a file (see `settle`), as often as it takes
//! ```
//!
//! # A session
//! records one epoch: from the first frame that the log has of it to the end of its run, or until it fails. The [`intake`] takes frames
//! from the log whatever the store does; the [`keeper`] writes them, and knows what is durable; the [`session`] tells the publisher.
//! - `record` makes a new generation with the first frame; from then on nobody sees what was there before.
//! - `append` goes on in the newest generation that is not a file yet, or else in a new one that goes on behind the file.
//! - A publisher that comes back with its epoch goes on where the generation, or the file, that holds the beginning of the epoch ends.
//!
//! # Invariants
//! - No publisher and no viewer waits for the store, but a publisher that asks to `append`, for two seconds at most, to be told where.
//! - Every frame from the session's first on is stored once, or the publisher is told that the recording failed, or the missing
//!   frames are counted because they never came here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use headwater_media::name::StreamName;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) mod failure;
pub(crate) mod intake;
mod keeper;
mod plan;
mod recording;
mod renewal;
pub(crate) mod session;
mod settle;

use failure::Failure;
use intake::{End, Intake};
use keeper::Keeper;
use recording::Recording;
use renewal::Renewal;
use session::Session;
use settle::{Settled, Unsettled};

use super::files::Placed;
use super::recordings::{Entry, Mode, Shared};
use super::vault::{Cause, Kept, Ledger, Stored, Vault};
use crate::log::table::unix_millis;

/// How long the last frames may take when the process stops.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// The pauses between attempts to make a file.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What a recorder is told.
pub(crate) enum Command {
    Begin(Box<Begin>),
    /// Nothing is to be left of what is stored, for a publisher that came then, in milliseconds since 1970.
    Erase(u64),
}

/// A publisher that is to be recorded.
pub(crate) struct Begin {
    /// The stream, as it is published.
    pub(crate) live: StreamName,
    pub(crate) session: Session,
    pub(crate) intake: Intake,
    pub(crate) mode: Mode,
    pub(crate) resumes: bool,
    /// The first sequence that the log has of the epoch.
    pub(crate) first: u64,
    /// When it came, in milliseconds since 1970.
    pub(crate) unix_ms: u64,
    /// Told where the timeline stands, in milliseconds, if it goes on behind something.
    pub(crate) timeline: oneshot::Sender<u64>,
    /// Held as long as the session goes on.
    pub(crate) claim: Box<dyn Send>,
    pub(crate) active: Box<dyn Send>,
}

/// See the [module](self).
pub(crate) struct Recorder<V: Vault> {
    shared: Arc<Shared<V>>,
    entry: Arc<Entry<V>>,
    commands: mpsc::Receiver<Command>,
    /// Whether there may be generations that are to become a file.
    unsettled: bool,
    /// The writer of the newest generation, if its session ended in order.
    finished: Option<V::Writer>,
    settling: Option<Settling>,
    /// When to settle, and how long to wait after the next failure.
    settle_at: Instant,
    pause: Duration,
    /// What is in the file and may go, oldest first, and when.
    lingering: VecDeque<(Instant, Placed)>,
    marked: bool,
}

/// Generations that are being made a file.
struct Settling {
    task: tokio::task::JoinHandle<Result<Settled, Unsettled>>,
    cancel: CancellationToken,
}

/// What woke an idle recorder.
enum Woken {
    Command(Option<Command>),
    Settled(Result<Settled, Unsettled>),
    Settle,
    Linger,
    Stop,
}

impl<V: Vault> Recorder<V> {
    /// Looks into the store for what is to become a file when no publisher came for [`RecordingSection::recovery_grace_ms`].
    ///
    /// [`RecordingSection::recovery_grace_ms`]: crate::record::section::RecordingSection
    pub(crate) fn new(
        shared: Arc<Shared<V>>,
        entry: Arc<Entry<V>>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let settle_at = Instant::now() + shared.config.recovery_grace();
        Self {
            shared,
            entry,
            commands,
            unsettled: true,
            finished: None,
            settling: None,
            settle_at,
            pause: FIRST_PAUSE,
            lingering: VecDeque::new(),
            marked: false,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            match self.wake().await {
                Woken::Command(Some(Command::Begin(begin))) => self.begin(*begin).await,
                Woken::Command(Some(Command::Erase(unix_ms))) => self.erase(unix_ms).await,
                Woken::Settled(outcome) => self.settled(outcome),
                Woken::Settle => self.settle().await,
                Woken::Linger => self.let_go().await,
                Woken::Command(None) | Woken::Stop => return,
            }
            let busy = self.unsettled || self.settling.is_some() || !self.lingering.is_empty();
            if !busy && self.commands.is_empty() {
                // Before the recorder goes: the next one sets it again.
                self.shared.marks.clear(&self.entry.target.name).await;
                self.marked = false;
                if self.shared.leave(&self.entry, &self.commands) {
                    return;
                }
            }
        }
    }

    async fn wake(&mut self) -> Woken {
        let settles = self.settling.is_some();
        let linger = self.lingering.front().map(|(at, _)| *at);
        let settled = async {
            match &mut self.settling {
                Some(settling) => joined((&mut settling.task).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => Woken::Stop,
            command = self.commands.recv() => Woken::Command(command),
            outcome = settled => Woken::Settled(outcome),
            () = tokio::time::sleep_until(self.settle_at), if self.unsettled && !settles => Woken::Settle,
            () = sleep_until(linger) => Woken::Linger,
        }
    }

    async fn begin(&mut self, begin: Begin) {
        let name = self.entry.target.name.clone();
        let span =
            tracing::info_span!("recording", stream = %begin.live, epoch = begin.session.epoch.0);
        let session = begin.session.clone();
        tracing::Instrument::instrument(self.record(begin), span).await;
        debug_assert!(
            session.is_over() || self.shared.stop.is_cancelled(),
            "{name}"
        );
        self.settle_at = Instant::now();
        self.pause = FIRST_PAUSE;
    }

    /// One session, from its beginning to its end.
    async fn record(&mut self, begin: Begin) {
        let Begin {
            live,
            session,
            intake,
            mode,
            resumes,
            first,
            unix_ms,
            timeline,
            claim,
            active,
        } = begin;
        let _held = (claim, active);
        self.unsettled = true;
        let (shared, entry) = (Arc::clone(&self.shared), Arc::clone(&self.entry));
        let planning = async {
            self.quiet().await;
            self.mark().await?;
            self.plan(mode, resumes, session.epoch, first, &session)
                .await
        };
        let planned = tokio::select! {
            planned = planning => planned,
            () = session.over() => Err(Failure::Storage("it did not answer".to_owned())),
            () = shared.stop.cancelled() => Err(Failure::Stopping),
        };
        let plan = match planned {
            Ok(plan) => plan,
            Err(failure) => {
                let ours = shared.is_ours(&live);
                return match self.is_left_to_next(&session, &failure, !ours) {
                    true => self.leave_to_next(&session, &failure, None),
                    false => self.fail(&session, failure, None),
                };
            }
        };
        let mut keeper = Keeper::new(
            &shared,
            &entry.target,
            &session,
            &intake,
            plan.place,
            plan.skip,
            &live,
        );
        if let Some(skip) = plan.skip.filter(|skip| skip.epoch == session.epoch) {
            session.store(skip.sequence);
        }
        let recording = Recording {
            plan,
            mode,
            announced: !resumes,
            timeline: Some(timeline),
            shown: None,
        };
        let running = recording.run(&mut keeper, &entry);
        let outcome = if mode == Mode::Record && !resumes {
            let renewal = Renewal {
                infos: &shared.infos,
                name: &entry.target.name,
                unix_ms,
                stop: &shared.stop,
            };
            renewal.beside(&session, running).await
        } else {
            running.await
        };
        let generation = keeper.generation();
        match outcome {
            Ok(end) => {
                let kept = keeper.kept().unwrap_or_default();
                tracing::info!(
                    ?end,
                    generation,
                    frames = keeper.stored,
                    ms = kept.end_ms.saturating_sub(kept.start_ms),
                    bytes = kept.bytes,
                    "the recording ends with its publisher"
                );
                let finished = keeper.into_writer();
                session.stopped();
                if let Some(generation) = generation {
                    entry.settle(generation);
                    self.note_end(generation).await;
                }
                if end == End::Moved && !self.shared.files.are_local() {
                    // The next owner goes on.
                    self.unsettled = false;
                    if let Some(generation) = generation {
                        entry.hide(generation);
                    }
                } else {
                    self.finished = finished;
                }
            }
            Err(failure) => {
                let quota = failure.is_quota();
                let moved = keeper.hands_over || !shared.is_ours(&live);
                let finished = keeper.into_writer();
                if self.is_left_to_next(&session, &failure, moved) {
                    return self.leave_to_next(&session, &failure, generation);
                }
                self.fail(&session, failure, generation);
                if quota {
                    self.finished = finished;
                    if let Some(generation) = generation {
                        self.note_end(generation).await;
                    }
                }
            }
        }
    }

    /// Whether a session that cannot go on, of a stream that has `moved`, is a matter of the next owner: it may have begun before this
    /// one had stored all, and has what is missing from the publisher's edge.
    fn is_left_to_next(&self, session: &Session, failure: &Failure, moved: bool) -> bool {
        let is_lost = matches!(failure, Failure::Fenced | Failure::Storage(_));
        // What failed before is the reason for this, and stands.
        moved && is_lost && session.failure().is_none() && !self.shared.files.are_local()
    }

    fn leave_to_next(&mut self, session: &Session, reason: &Failure, generation: Option<u64>) {
        tracing::info!(generation, %reason, "the recording is left to the next owner of the stream");
        session.suspended();
        self.unsettled = false;
        if let Some(generation) = generation {
            self.entry.hide(generation);
        }
    }

    /// Remembers when a recording ended, for a publisher that goes on behind it with the time between.
    async fn note_end(&self, generation: u64) {
        let (files, name) = (&self.shared.files, &self.entry.target.name);
        let noting = async {
            let mut card = files.card(name).await?;
            card.ended = Some((generation, unix_millis()));
            files.write_card(name, &card).await
        };
        let noted = tokio::time::timeout(STOP_PATIENCE, noting).await;
        if !matches!(noted, Ok(Ok(()))) {
            tracing::debug!(generation, "when the recording ended is not remembered");
        }
    }

    /// The recording is over, its publisher is not.
    fn fail(&self, session: &Session, failure: Failure, generation: Option<u64>) {
        if failure == Failure::Stopping && self.shared.stop.is_cancelled() {
            tracing::info!(generation, "the recording waits for the next start");
            session.suspended();
            return;
        }
        session.failed(failure);
        // The first reason, which is what led to the others.
        let Some(failure) = session.failure() else {
            return;
        };
        if failure.is_quota() {
            tracing::info!(generation, reason = %failure, "the recording ends");
        } else {
            tracing::warn!(generation, reason = %failure, "the recording failed, the live stream goes on");
        }
        self.shared.metrics.failed(&failure);
        let name = &self.entry.target.name;
        self.shared.note_failed(name, session.epoch, failure);
        if let Some(generation) = generation {
            self.entry.settle(generation);
        }
    }

    /// Nothing is made a file afterwards until it is asked for again.
    async fn quiet(&mut self) {
        if let Some(settling) = &mut self.settling {
            settling.cancel.cancel();
            let outcome = joined((&mut settling.task).await);
            self.settled(outcome);
        }
        self.finished = None;
    }

    async fn mark(&mut self) -> Result<(), Failure> {
        if !self.marked {
            let name = &self.entry.target.name;
            match self.shared.marks.set(name, &self.entry.live()).await {
                Ok(()) => self.marked = true,
                // Who looks for the recording finds it in the store, and sees to it then.
                Err(error) if !self.shared.files.are_local() => {
                    tracing::warn!(%error, "an unfinished recording is not marked");
                }
                Err(error) => return Err(super::files::from_io(&error).into()),
            }
        }
        Ok(())
    }

    /// Begins to make a file of what is stored.
    async fn settle(&mut self) {
        if let Err(failure) = self.mark().await {
            // What there is to do is in the store: it can be done without.
            tracing::debug!(%failure, "an unfinished recording is not marked");
        }
        if let Some(gone_on) = self.finished.as_ref().map(Ledger::generation) {
            // Also where it was in the file already: there is more of it now.
            self.lingering.retain(|(_, it)| it.generation != gone_on);
        }
        let cancel = self.shared.stop.child_token();
        let work = settle::Work {
            shared: Arc::clone(&self.shared),
            entry: Arc::clone(&self.entry),
            finished: self.finished.take(),
            placed: self.lingering.iter().map(|(_, it)| it.generation).collect(),
            cancel: cancel.clone(),
        };
        let span = tracing::info_span!("composing", stream = %self.entry.target.name);
        let work = tracing::Instrument::instrument(work.run(), span);
        let task = self.shared.tasks.spawn(work);
        self.settling = Some(Settling { task, cancel });
    }

    fn settled(&mut self, outcome: Result<Settled, Unsettled>) {
        self.settling = None;
        match outcome {
            Ok(settled) => {
                let at = Instant::now() + self.shared.config.parts_linger();
                let placed = settled.placed.into_iter();
                self.lingering.extend(placed.map(|placed| (at, placed)));
                self.unsettled = false;
                self.pause = FIRST_PAUSE;
            }
            Err(Unsettled::Cancelled) => {}
            Err(Unsettled::GivenUp(why)) => {
                tracing::error!(why, "what is recorded is left as it is");
                self.unsettled = false;
            }
            Err(Unsettled::Failed(why)) => {
                self.shared.metrics.compose_errors.inc();
                tracing::warn!(why, again_in = ?self.pause, "a recording was not made a file");
                self.settle_at = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Deletes what nobody reads any more, unless another origin has gone on with it. What cannot be read is left to the operator.
    async fn let_go(&mut self) {
        let Some((_, placed)) = self.lingering.pop_front() else {
            return;
        };
        let generation = placed.generation;
        let (vault, name) = (&self.shared.vault, &self.entry.target.name);
        let deleting = async {
            let kept = match vault.open(name, generation).await {
                Ok(reader) => reader.kept(),
                Err(error) if error.cause == Cause::NotFound => Kept::default(),
                // Nobody can tell whether it was gone on with.
                Err(error) if error.cause == Cause::Corrupt => {
                    tracing::error!(%error, generation, "the parts of a recording cannot be read, and are left as they are");
                    return Ok(true);
                }
                Err(error) => return Err(error),
            };
            let end = Some(placed.next());
            if kept.next > end || (kept.next == end && !kept.is_complete) {
                return Ok(false);
            }
            self.entry.hide(generation);
            vault.delete(name, generation).await?;
            Ok(true)
        };
        let let_go = tokio::select! {
            let_go = deleting => let_go,
            () = self.shared.stop.cancelled() => return,
        };
        match let_go {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!(
                    generation,
                    "the recording was gone on with when it was a file"
                );
                self.unsettled = true;
                self.settle_at = Instant::now();
            }
            Err(error) => {
                tracing::warn!(%error, generation, "the parts of a recording were not deleted");
                self.lingering
                    .push_front((Instant::now() + self.pause, placed));
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    async fn erase(&mut self, unix_ms: u64) {
        self.quiet().await;
        let erased = async {
            let name = &self.entry.target.name;
            for generation in self.shared.vault.generations(name).await? {
                self.entry.hide(generation);
                self.shared.vault.delete(name, generation).await?;
            }
            self.shared.files.erase(&self.entry.target, name).await?;
            self.shared.infos.renew(name, unix_ms).await
        };
        let erased = tokio::select! {
            erased = erased => erased,
            () = self.shared.stop.cancelled() => return,
        };
        match erased {
            Ok(()) => {
                tracing::info!(stream = %self.entry.target.name, "what was recorded is erased");
                self.lingering.clear();
                self.unsettled = false;
            }
            Err(error) => {
                tracing::warn!(%error, "what was recorded was not erased");
                self.unsettled = true;
            }
        }
    }
}

/// A task that panicked is to be seen, and what it did is to be done again.
fn joined(
    outcome: Result<Result<Settled, Unsettled>, tokio::task::JoinError>,
) -> Result<Settled, Unsettled> {
    outcome.unwrap_or_else(|error| Err(Unsettled::Failed(error.to_string())))
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
