//! The task that writes to the database of a partition.
//!
//! All batches that are there go to the store together, as one object; while that is under way the next ones gather. A lone batch goes at
//! once, and none within the flush time after another: so a write costs one request, and never waits for more than one that it is not in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use object_store::path::Path;
use slatedb::config::{FlushOptions, FlushType};
use slatedb::{Db, DbStatus, WriteBatch};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::database::gauged;
use super::leash::Leash;
use super::owner::{self, Owner};
use super::{Batch, StateError, StateMetrics};

/// The most that goes to the store in one object, bytes, but for a batch that is larger by itself.
const MAX_WRITE_BYTES: usize = 4 << 20;

/// Writes after which what is in memory goes to the store in order, so that whoever opens it after a crash has no more of them to read.
const MAX_REPLAY: u32 = 64;

/// How long the store may take for a write before an operator should know.
const STALLED: Duration = Duration::from_secs(10);

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) batch: Batch,
    pub(super) number: u64,
    pub(super) since: Instant,
}

/// How far a database has got.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// The number of the newest batch that is durable; those before it are.
    durable: u64,
    /// Why nothing becomes durable any more.
    pub(super) lost: Option<StateError>,
}

/// A batch that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    number: u64,
    progress: watch::Receiver<Progress>,
}

impl Ticket {
    pub(super) fn new(number: u64, progress: watch::Receiver<Progress>) -> Self {
        Self { number, progress }
    }

    /// What [`durable`](Self::durable) would give, if it were known.
    pub(crate) fn outcome(&self) -> Option<Result<(), StateError>> {
        let progress = self.progress.borrow();
        if progress.durable >= self.number {
            return Some(Ok(()));
        }
        progress.lost.clone().map(Err)
    }

    /// Waits until the batch is durable, and so are those that were taken before it.
    ///
    /// # Errors
    /// Why it will not be said to be: the database was lost first. It may be durable all the same, if it is not [`StateError::Fenced`] that
    /// was found before it was sent to the store.
    pub(crate) async fn durable(mut self) -> Result<(), StateError> {
        let number = self.number;
        let found = self
            .progress
            .wait_for(|progress| progress.durable >= number || progress.lost.is_some())
            .await;
        match found {
            Ok(progress) if progress.durable >= number => Ok(()),
            Ok(progress) => Err(progress.lost.clone().unwrap_or(StateError::Closed)),
            // The task was aborted with the runtime.
            Err(_) => Err(StateError::Closed),
        }
    }
}

/// Why a writer has stopped to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nobody has held the database for the linger time, or nobody does and it is another origin's.
    Unused,
    /// It can write no more, or should not.
    Over,
}

/// Writes to one database.
pub(super) struct Writer {
    db: Db,
    leash: Leash,
    path: Path,
    owner: Owner,
    flush: Duration,
    batches: mpsc::UnboundedReceiver<Queued>,
    /// Taken from the queue for a write that was full without it.
    left_over: Option<Queued>,
    progress: watch::Sender<Progress>,
    unflushed: Arc<AtomicUsize>,
    holds: watch::Receiver<usize>,
    /// Whether the partition is another origin's.
    elsewhere: watch::Receiver<bool>,
    status: watch::Receiver<DbStatus>,
    flight: Option<Flight>,
    /// Writes since what is in memory went to the store in order.
    unordered: u32,
    /// It goes there.
    ordering: Option<BoxFuture<'static, Result<(), slatedb::Error>>>,
    /// When the next write may begin.
    next: Instant,
    lost: Option<StateError>,
    /// Somebody held it when it was lost.
    was_held: bool,
    metrics: StateMetrics,
}

/// A write that is under way.
struct Flight {
    done: BoxFuture<'static, Result<(), slatedb::Error>>,
    /// Of its last batch.
    number: u64,
    batches: u64,
    cost: usize,
    /// When its first batch was taken.
    since: Instant,
    /// When it is told that it takes long.
    warn_at: Option<Instant>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Writer {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        db: Db,
        leash: Leash,
        (path, owner): (Path, Owner),
        flush: Duration,
        batches: mpsc::UnboundedReceiver<Queued>,
        progress: watch::Sender<Progress>,
        unflushed: Arc<AtomicUsize>,
        (holds, elsewhere): (watch::Receiver<usize>, watch::Receiver<bool>),
        metrics: StateMetrics,
    ) -> Self {
        Self {
            status: db.subscribe(),
            db,
            leash,
            path,
            owner,
            flush,
            batches,
            left_over: None,
            progress,
            unflushed,
            holds,
            elsewhere,
            flight: None,
            unordered: 0,
            ordering: None,
            next: Instant::now(),
            lost: None,
            was_held: false,
            metrics,
        }
    }

    /// Whether somebody held the database when it was lost.
    pub(super) fn was_held(&self) -> bool {
        self.was_held
    }

    /// Writes until the database is lost or unused, or `stop` is cancelled.
    pub(super) async fn run(&mut self, linger: Duration, stop: &CancellationToken) -> Ended {
        loop {
            let is_free = self.flight.is_none();
            let next = self.next;
            let warn_at = self.flight.as_ref().and_then(|flight| flight.warn_at);
            tokio::select! {
                biased;
                lost = closed(&mut self.status) => {
                    self.lose(lost);
                    return Ended::Over;
                }
                landed = landed(self.flight.as_mut().map(|flight| &mut flight.done)) => {
                    if let Err(error) = landed {
                        self.lose(error.into());
                        return Ended::Over;
                    }
                    self.land();
                }
                () = stop.cancelled() => return Ended::Over,
                queued = next_of(&mut self.batches, &mut self.left_over, next), if is_free => {
                    // The queue ends when the database is dropped, which this task holds.
                    let Some(queued) = queued else {
                        return Ended::Unused;
                    };
                    self.take_off(queued);
                }
                ordered = landed(self.ordering.as_mut()) => {
                    // Where it failed for good, the database has ended.
                    if let Err(error) = ordered {
                        tracing::debug!(path = %self.path, %error, "state was not put in order");
                    }
                    self.ordering = None;
                }
                () = stalled(warn_at) => self.warn(),
                () = unused(&mut self.holds, &mut self.elsewhere, linger) => return Ended::Unused,
            }
        }
    }

    /// Writes what was taken, unless the database was lost, closes it, and says what is to be said of it from now on. Takes as long as `limit`
    /// at the most; what is not written by then is not.
    pub(super) async fn finish(mut self, limit: Duration) -> StateError {
        let deadline = Instant::now() + limit;
        self.batches.close();
        if self.lost.is_none() {
            let written = timeout_at(deadline, self.write_all()).await;
            if self.lost.is_none() && written.is_err() {
                let error = self.leash.silence();
                tracing::warn!(path = %self.path, %error, "state was not written before it was closed");
            } else if self.lost.is_none() && timeout_at(deadline, self.say_left()).await.is_err() {
                tracing::debug!(path = %self.path, "a state store is left without a word");
            }
        }
        let lost = self.lost.get_or_insert(StateError::Closed).clone();
        self.progress.send_modify(|progress| {
            progress.lost.get_or_insert_with(|| lost.clone());
        });
        match timeout_at(deadline, self.db.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(path = %self.path, %error, "a state store was not closed");
            }
            Err(_) => {
                let error = self.leash.silence();
                tracing::warn!(path = %self.path, %error, "a state store was not closed in time");
            }
        }
        self.leash.cut();
        // What was not written.
        let left = self.unflushed.swap(0, Ordering::AcqRel);
        self.metrics.unflushed_bytes.dec_by(gauged(left));
        lost
    }

    /// Leaves word that nobody has to wait for us.
    async fn say_left(&mut self) {
        self.owner.left = true;
        let Ok(row) = self.owner.to_row() else {
            return;
        };
        let mut write = WriteBatch::new();
        write.put(owner::KEY, row);
        let said = async {
            self.db.write(write).await?;
            self.db.flush().await
        };
        // Where somebody else has it already, that is found here.
        if let Err(error) = said.await {
            tracing::debug!(path = %self.path, %error, "a state store is left without a word");
        }
    }

    async fn write_all(&mut self) {
        loop {
            if let Err(error) = match &mut self.flight {
                Some(flight) => (&mut flight.done).await,
                None => Ok(()),
            } {
                self.lose(error.into());
                return;
            }
            self.land();
            let now = Instant::now();
            match next_of(&mut self.batches, &mut self.left_over, now).await {
                Some(queued) => self.take_off(queued),
                None => return,
            }
        }
    }

    /// Writes what is there, `first` first.
    fn take_off(&mut self, first: Queued) {
        let mut write = WriteBatch::new();
        let since = first.since;
        let (mut number, mut batches, mut cost) = (0, 0, 0);
        let mut queued = Some(first);
        while let Some(taken) = queued {
            number = taken.number;
            batches += 1;
            cost += taken.batch.cost();
            taken.batch.append_to(&mut write);
            queued = self.batches.try_recv().ok();
            if let Some(next) = queued.take_if(|it| cost + it.batch.cost() > MAX_WRITE_BYTES) {
                self.left_over = Some(next);
            }
        }
        let db = self.db.clone();
        let done = async move {
            if !write.is_empty() {
                db.write(write).await?;
            }
            db.flush().await
        };
        let now = Instant::now();
        self.next = now + self.flush;
        self.flight = Some(Flight {
            done: done.boxed(),
            number,
            batches,
            cost,
            since,
            warn_at: Some(now + STALLED),
        });
    }

    /// What was under way is durable.
    fn land(&mut self) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        self.unflushed.fetch_sub(flight.cost, Ordering::AcqRel);
        self.metrics.unflushed_bytes.dec_by(gauged(flight.cost));
        self.metrics.batches.inc_by(flight.batches);
        self.metrics.writes.inc();
        let took = flight.since.elapsed();
        self.metrics.durable_seconds.observe(took.as_secs_f64());
        if flight.warn_at.is_none() {
            tracing::info!(path = %self.path, "state is written again");
        }
        self.progress
            .send_modify(|progress| progress.durable = flight.number);
        self.unordered = self.unordered.saturating_add(1);
        if self.unordered >= MAX_REPLAY && self.ordering.is_none() {
            self.unordered = 0;
            let db = self.db.clone();
            let options = FlushOptions {
                flush_type: FlushType::MemTable,
            };
            self.ordering = Some(async move { db.flush_with_options(options).await }.boxed());
        }
    }

    fn lose(&mut self, lost: StateError) {
        // What failed says less than why the database ended.
        let lost = match &self.status.borrow().close_reason {
            Some(reason) if self.lost.is_none() => StateError::of_close(*reason),
            _ => lost,
        };
        match &lost {
            StateError::Closed => {}
            StateError::Fenced => {
                tracing::info!(path = %self.path, "another origin has taken the state");
            }
            error => tracing::warn!(path = %self.path, %error, "the state store is lost"),
        }
        self.lost = Some(lost.clone());
        // Before those who hold it hear of it, and let go.
        self.was_held = *self.holds.borrow() > 0;
        self.progress.send_modify(|progress| {
            progress.lost.get_or_insert(lost);
        });
    }

    fn warn(&mut self) {
        if let Some(flight) = &mut self.flight {
            flight.warn_at = None;
            let error = self.leash.silence();
            tracing::warn!(path = %self.path, %error, "state is not written: the store hangs, is full or gone");
        }
    }
}

/// The next batch, when one may be written.
async fn next_of(
    batches: &mut mpsc::UnboundedReceiver<Queued>,
    left_over: &mut Option<Queued>,
    from: Instant,
) -> Option<Queued> {
    sleep_until(from).await;
    match left_over.take() {
        Some(queued) => Some(queued),
        None => batches.recv().await,
    }
}

async fn landed(
    flight: Option<&mut BoxFuture<'static, Result<(), slatedb::Error>>>,
) -> Result<(), slatedb::Error> {
    match flight {
        Some(flight) => flight.await,
        None => std::future::pending().await,
    }
}

async fn stalled(warn_at: Option<Instant>) {
    match warn_at {
        Some(warn_at) => sleep_until(warn_at).await,
        None => std::future::pending().await,
    }
}

/// Completes when the database has ended by itself.
async fn closed(status: &mut watch::Receiver<DbStatus>) -> StateError {
    let found = status
        .wait_for(|status| status.close_reason.is_some())
        .await;
    let reason = found.ok().and_then(|status| status.close_reason);
    reason.map_or(StateError::Closed, StateError::of_close)
}

/// Completes when nobody has held the database for `linger`, or nobody holds it and it is another origin's.
async fn unused(
    holds: &mut watch::Receiver<usize>,
    elsewhere: &mut watch::Receiver<bool>,
    linger: Duration,
) {
    loop {
        // An error: whoever counts is gone, and so are all who held it.
        if holds.wait_for(|holds| *holds == 0).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(linger) => return,
            // An error: the origin has ended.
            _ = elsewhere.wait_for(|elsewhere| *elsewhere) => return,
            _ = holds.wait_for(|holds| *holds > 0) => {}
        }
    }
}
