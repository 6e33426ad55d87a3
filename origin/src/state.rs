//! The state store: rows that outlive the process, one database (SlateDB) for each partition of the ring, in the store that the origins of
//! a cluster share.
//!
//! | module | what it holds |
//! |---|---|
//! | `section` | the `[origin.state]` section |
//! | `database` | opening, reading and closing the database of one partition |
//! | `writer` | the task that writes to it, and notices when it is lost |
//! | `owner` | the row that says whose it is, and the epoch of his tenure |
//! | `batch` | rows that are written together |
//! | `leash` | the object store as one database sees it, until it is cut off |
//! | `error` | what goes wrong |
//! | `metrics` | what is counted |
//!
//! [`States::hold`] opens the database of a partition as its one writer, which fences whoever wrote before: nothing that he writes from then
//! on becomes durable, and [`Held::lost`] tells him so within about a poll interval, also when he writes nothing.
//!
//! # Invariants
//! - A [`Ticket`] that is durable stays: in a folder its bytes were synced to the disk, in a bucket the store has answered. Batches become
//!   durable in the order in which they were written, each as a whole or not at all.
//! - [`Held::epoch`] is greater than that of any writer before, on whatever machine.
//! - Reading gives what is durable, and nothing else.
//! - A database is open once in this process, however many hold it, and is closed when none has held it for the linger time, or none does
//!   and its partition is another origin's: what is kept open while another one may write would be found out only when it is used again.
//! - What is written and not durable yet is bounded for each partition; what waits for the store waits for a bounded time, except for
//!   tickets, which last as long as the database does: a store that comes back takes what it was given.
//!
//! # What stays
//! Whoever opens a database leaves a fence in it, an empty object among the written batches. Fences are not deleted with the batches: a
//! writer that was stopped for long could write again where one was. So there is one for each time that the database was opened.
//!
//! # What it does not do
//! It decides nothing about who should own a partition: the ring does, and who is wrong about it is fenced.

mod batch;
mod database;
mod error;
mod leash;
mod metrics;
mod owner;
mod section;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::Mutex;
use slatedb::db_cache::DbCache;
use slatedb::db_cache::moka::{MokaCache, MokaCacheOptions};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use batch::Batch;
pub(crate) use error::StateError;
pub(crate) use metrics::StateMetrics;
pub(crate) use owner::Owner;
pub use section::StateSection;
pub(crate) use writer::Ticket;

use database::{Database, Opening};
use owner::Tenure;
use writer::Writer;

/// Below it are the databases, each in a folder that is named after its partition.
const FOLDER: &str = "state";

/// How long what was read is kept that nobody reads again.
const CACHE_IDLE: Duration = Duration::from_secs(60);

/// The databases of an origin. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct States {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    section: StateSection,
    objects: Arc<dyn ObjectStore>,
    /// Whether `objects` is a bucket.
    is_remote: bool,
    /// What is written about whose a database is, but for the epoch.
    identity: Identity,
    /// By partition. As many as the cluster has, at most.
    entries: Mutex<HashMap<u32, Arc<Entry>>>,
    /// What was read of all databases.
    cache: Option<Cache>,
    metrics: StateMetrics,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Cache {
    cache: Arc<dyn DbCache>,
    /// The next that is given to a database.
    number: AtomicU64,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

/// What is known of the origin that took a partition from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Other {
    MayWrite,
    /// It drains, or we cannot reach it: it may be dead, or on the other side of a network that is cut, with edges that take it for the owner.
    Unreachable,
    /// It said that it writes no more.
    Left,
}

/// Who we are, for those who come after us.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The node id.
    pub(crate) node: String,
    /// Where other nodes reach it.
    pub(crate) address: String,
}

/// One partition.
#[derive(Debug, Default)]
struct Entry {
    /// Held while the database is being opened or closed.
    gate: tokio::sync::Mutex<Gate>,
    /// Whether it is another origin's: then it is closed as soon as nobody holds it.
    elsewhere: watch::Sender<bool>,
    /// Whose it was when that was looked for last, and when that began. Held meanwhile.
    owner: tokio::sync::Mutex<Option<(Instant, Option<Owner>)>>,
}

#[derive(Debug, Default)]
struct Gate {
    open: Option<Arc<Database>>,
    /// It was taken from us while it was in use, or while we opened it (`true`), and is not to be taken back at once.
    fenced: Option<(Instant, bool)>,
}

impl States {
    /// The databases below the root of `objects`. Their tasks are in `tasks`; when `stop` is cancelled, all are closed, and what was written
    /// before is made durable as far as the store takes it in time. Must be used on a tokio runtime. Once per `metrics`.
    pub(crate) fn new(
        section: &StateSection,
        (objects, is_remote): (Arc<dyn ObjectStore>, bool),
        identity: Identity,
        metrics: StateMetrics,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let cache = (section.cache_bytes > 0).then(|| Cache {
            cache: Arc::new(MokaCache::new_with_opts(MokaCacheOptions {
                max_capacity: section.cache_bytes,
                time_to_live: None,
                time_to_idle: Some(CACHE_IDLE),
            })),
            number: AtomicU64::new(0),
        });
        let shared = Shared {
            section: section.clone(),
            objects,
            is_remote,
            identity,
            entries: Mutex::default(),
            cache,
            metrics,
            tasks,
            stop,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Opens the database of `partition` as its one writer, or shares it where it is open.
    ///
    /// # Errors
    /// [`StateError::Fenced`] for the hold-off time after it was taken from us; [`StateError::Unavailable`] after the open timeout at the
    /// latest; [`StateError::Closed`] when the origin stops; others as the store has them.
    pub(crate) async fn hold(&self, partition: u32) -> Result<Held, StateError> {
        self.hold_from(partition, Other::MayWrite).await
    }

    /// Says which partitions are ours: others are not kept open for who might come back.
    pub(crate) fn place(&self, is_ours: impl Fn(u32) -> bool) {
        for (partition, entry) in self.shared.entries.lock().iter() {
            let elsewhere = !is_ours(*partition);
            entry.elsewhere.send_if_modified(|was| {
                let changed = *was != elsewhere;
                *was = elsewhere;
                changed
            });
        }
    }

    fn entry(&self, partition: u32) -> Arc<Entry> {
        Arc::clone(self.shared.entries.lock().entry(partition).or_default())
    }

    /// As [`hold`](Self::hold), where something is known of whoever took it from us.
    ///
    /// # Errors
    /// As [`hold`](Self::hold).
    pub(crate) async fn hold_from(&self, partition: u32, other: Other) -> Result<Held, StateError> {
        let shared = &self.shared;
        let entry = self.entry(partition);
        let deadline = Instant::now() + shared.section.open_timeout();
        let held = tokio::select! {
            held = self.hold_of(&entry, partition, other, deadline) => held,
            () = shared.stop.cancelled() => Err(StateError::Closed),
        };
        if let Err(error) = &held {
            shared.metrics.failed(error);
        }
        held
    }

    async fn hold_of(
        &self,
        entry: &Arc<Entry>,
        partition: u32,
        other: Other,
        deadline: Instant,
    ) -> Result<Held, StateError> {
        let shared = &self.shared;
        let mut gate = timeout_at(deadline, entry.gate.lock())
            .await
            .map_err(|_| StateError::unavailable("it is being opened or closed"))?;
        if shared.stop.is_cancelled() {
            return Err(StateError::Closed);
        }
        if let Some(open) = &gate.open {
            // Else the writer is about to take it away.
            open.check()?;
            return Ok(Held::new(open));
        }
        let hold_off = match other {
            Other::MayWrite => shared.section.hold_off(),
            Other::Unreachable => shared.section.hold_off() / 4,
            // What is known is of before whoever fenced us while we opened it.
            Other::Left if matches!(gate.fenced, Some((_, true))) => shared.section.hold_off() / 4,
            Other::Left => Duration::ZERO,
        };
        if gate.fenced.is_some_and(|(at, _)| at.elapsed() < hold_off) {
            return Err(StateError::Fenced);
        }
        let opening = Opening {
            objects: shared.objects.clone(),
            path: path(partition),
            section: &shared.section,
            is_remote: shared.is_remote,
            cache: shared.cache.as_ref().map(|cache| {
                let number = cache.number.fetch_add(1, Ordering::Relaxed);
                (Arc::clone(&cache.cache), number)
            }),
            tenure: Tenure::of(&shared.identity),
            elsewhere: entry.elsewhere.subscribe(),
            deadline,
        };
        let opened = Database::open(opening, &shared.metrics).await;
        if matches!(opened, Err(StateError::Fenced)) {
            // Somebody else opens it, and has not said yet who he is.
            gate.fenced = Some((Instant::now(), true));
        }
        let (database, writer) = opened?;
        let database = Arc::new(database);
        let held = Held::new(&database);
        gate.open = Some(Arc::clone(&database));
        gate.fenced = None;
        shared.metrics.opened.inc();
        shared.metrics.open.inc();
        let (entry, shared_again) = (Arc::clone(entry), Arc::clone(shared));
        shared
            .tasks
            .spawn(attend(writer, database, entry, shared_again));
        Ok(held)
    }

    /// Whose the database of `partition` is, by its newest durable row. `None` where there is none yet. It opens nothing for writing, so it is
    /// for whoever was fenced; who has just fenced him may not have written his row yet.
    ///
    /// # Errors
    /// [`StateError`]; [`StateError::Unavailable`] after the open timeout at the latest.
    pub(crate) async fn owner_of(&self, partition: u32) -> Result<Option<Owner>, StateError> {
        let shared = &self.shared;
        let entry = self.entry(partition);
        let path = path(partition);
        let asked = Instant::now();
        let found = async {
            // Instances of one partition ask at the same time: one answer is for all who asked before it was looked for.
            let mut known = entry.owner.lock().await;
            if let Some((from, owner)) = &*known
                && *from > asked
            {
                return Ok(owner.clone());
            }
            let from = Instant::now();
            let owner = database::owner(shared.objects.clone(), &path, &shared.metrics).await?;
            *known = Some((from, owner.clone()));
            Ok(owner)
        };
        timeout(shared.section.open_timeout(), found)
            .await
            .unwrap_or_else(|_| Err(StateError::unavailable("no answer in time")))
    }
}

fn path(partition: u32) -> Path {
    Path::from(FOLDER).join(format!("{partition:04}"))
}

/// Runs the writer of a database until that is lost, unused or to be closed, and closes it.
async fn attend(
    mut writer: Writer,
    database: Arc<Database>,
    entry: Arc<Entry>,
    shared: Arc<Shared>,
) {
    let linger = shared.section.linger();
    let mut gate = loop {
        let ended = writer.run(linger, &shared.stop).await;
        // Nobody gets it any more, or it is opened anew, before it is closed.
        let gate = entry.gate.lock().await;
        if ended == writer::Ended::Unused && database.is_held() {
            continue;
        }
        break gate;
    };
    let limit = shared.section.open_timeout();
    let was_held = writer.was_held();
    let lost = writer.finish(limit).await;
    gate.open = None;
    if lost == StateError::Fenced {
        // One that lingered was not taken from anybody: its instances had gone to whoever has it now, and may come back.
        gate.fenced = was_held.then(|| (Instant::now(), false));
        shared.metrics.fenced.inc();
    } else if lost != StateError::Closed {
        shared.metrics.failed(&lost);
    }
    shared.metrics.open.dec();
}

/// The database of a partition, whose one writer this process is. Clones share it; it is closed some time after the last one went.
pub(crate) struct Held {
    database: Arc<Database>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self::new(&self.database)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.database.release();
    }
}

impl Held {
    fn new(database: &Arc<Database>) -> Self {
        database.share();
        Self {
            database: Arc::clone(database),
        }
    }

    /// Of this tenure: greater than any before it.
    pub(crate) fn epoch(&self) -> u64 {
        self.database.epoch()
    }

    /// The durable value of `key`.
    ///
    /// # Errors
    /// [`StateError`]; [`StateError::Unavailable`] after the open timeout at the latest.
    #[cfg(test)]
    pub(crate) async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.database.get(key).await
    }

    /// The durable rows whose keys are in `keys`, in the order of keys, as many as keys and values of `limit` bytes allow; and the key of
    /// the first that was left out.
    ///
    /// # Errors
    /// [`StateError`]; [`StateError::Unavailable`] after the open timeout at the latest.
    pub(crate) async fn scan(
        &self,
        keys: Range<Bytes>,
        limit: usize,
    ) -> Result<(Vec<(Bytes, Bytes)>, Option<Bytes>), StateError> {
        self.database.scan(keys, limit).await
    }

    /// Takes rows to be written, all or none, after all that were taken before. Does not wait.
    ///
    /// # Errors
    /// [`StateError::Busy`] where too much is not durable yet: nothing was taken. [`StateError::TooLarge`] for a key or value that no
    /// database takes. What made it end where it has.
    #[cfg(test)]
    pub(crate) fn write(&self, batch: Batch) -> Result<Ticket, StateError> {
        self.database.write(batch, false)
    }

    /// As [`write`](Self::write), however much is not durable yet: for what follows from something that was done when there
    /// was [`room`](Self::room).
    ///
    /// # Errors
    /// As [`write`](Self::write), but for [`StateError::Busy`].
    pub(crate) fn write_anyhow(&self, batch: Batch) -> Result<Ticket, StateError> {
        self.database.write(batch, true)
    }

    /// Whether something may be done that is to be written then.
    ///
    /// # Errors
    /// [`StateError::Busy`] where too much is not durable yet; what made the database end where it has.
    pub(crate) fn room(&self) -> Result<(), StateError> {
        self.database.room()
    }

    /// Of the newest batch that was taken from anybody who holds the database: once it is durable, reading gives all that was written
    /// until now.
    pub(crate) fn newest(&self) -> Ticket {
        self.database.newest()
    }

    /// Completes when this process is the writer no longer, and says why: fenced, failed for good, or closed because the origin stops.
    pub(crate) async fn lost(&self) -> StateError {
        self.database.lost().await
    }

    /// Cuts the database off as the end of the process would.
    #[cfg(test)]
    fn sever(&self) {
        self.database.sever();
    }
}
