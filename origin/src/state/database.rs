//! The database of one partition, as those who hold it see it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::Mutex;
use slatedb::config::{
    CompactionWorkerOptions, CompactorOptions, DbReaderOptions, DurabilityLevel,
    GarbageCollectorDirectoryOptions, GarbageCollectorOptions, ReadOptions, ScanOptions, Settings,
};
use slatedb::db_cache::DbCache;
use slatedb::{Db, DbReader, DbReaderMode, WriteBatch};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::leash::Leash;
use super::owner::{self, Owner, Tenure};
use super::writer::{Progress, Queued, Ticket, Writer};
use super::{Batch, StateError, StateMetrics, StateSection};

/// Files of rows in order that may wait to be merged before writers have to wait: at 1 MiB each, some seconds of the most that a partition
/// can write.
const MAX_UNMERGED: usize = 64;

/// The largest file of merged rows, bytes.
const MERGED_BYTES: usize = 16 << 20;

/// What is read at a time in order to merge, bytes.
const MERGE_READ_BYTES: usize = 256 << 10;

/// How often, and when they are how old, written batches are deleted whose rows are elsewhere by now.
const SWEEP: Duration = Duration::from_secs(60);

/// How old files must be in a folder, whose deletion cannot be conditional, before they are deleted that a process which was stopped
/// meanwhile might make anew.
const LOCAL_SWEEP_AGE: Duration = Duration::from_secs(3600);

/// What is read ahead in a scan, bytes: from each file of rows that it goes over.
const READ_AHEAD_BYTES: usize = 256 << 10;

/// Requests in which that is read.
const READ_AHEAD_TASKS: usize = 2;

/// An open database.
pub(super) struct Database {
    db: Db,
    leash: Leash,
    owner: Owner,
    queue: Mutex<Queue>,
    /// What was written and is not durable, bytes.
    unflushed: Arc<AtomicUsize>,
    unflushed_limit: usize,
    progress: watch::Receiver<Progress>,
    holds: watch::Sender<usize>,
    answer_timeout: Duration,
    metrics: StateMetrics,
}

/// What it takes to open one.
pub(super) struct Opening<'a> {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) path: Path,
    pub(super) section: &'a StateSection,
    /// Whether `objects` is a bucket.
    pub(super) is_remote: bool,
    /// With a number that is of this opening alone: who wrote meanwhile may have given other things the same names.
    pub(super) cache: Option<(Arc<dyn DbCache>, u64)>,
    pub(super) tenure: Tenure,
    /// Whether the partition is another origin's.
    pub(super) elsewhere: watch::Receiver<bool>,
    pub(super) deadline: Instant,
}

struct Queue {
    batches: mpsc::UnboundedSender<Queued>,
    /// Counts batches.
    newest: u64,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Opens it as its one writer. What was begun is cut off when this is dropped.
    pub(super) async fn open(
        opening: Opening<'_>,
        metrics: &StateMetrics,
    ) -> Result<(Self, Writer), StateError> {
        let Opening {
            objects,
            path,
            section,
            is_remote,
            cache,
            tenure,
            elsewhere,
            deadline,
        } = opening;
        let since = Instant::now();
        let leash = Leash::new(objects, metrics.store_errors.clone());
        let guard = leash.guard();
        let begun = async {
            let builder = Db::builder(path.clone(), Arc::new(leash.clone()))
                .with_settings(settings(section, is_remote));
            let builder = match cache {
                Some((cache, id)) => builder.with_db_cache(cache, id),
                None => builder.with_db_cache_disabled(),
            };
            let db = builder.build().await?;
            let before = db.get_with_options(owner::KEY, &reading()).await?;
            let before = before.map(|row| Owner::read(&row)).transpose()?;
            let owner = tenure.begin(before.as_ref());
            let mut row = WriteBatch::new();
            row.put(owner::KEY, owner.to_row()?);
            db.write(row).await?;
            db.flush().await?;
            Ok((db, owner))
        };
        let (db, owner) = timeout_at(deadline, begun)
            .await
            .unwrap_or_else(|_| Err(leash.silence()))?;
        guard.disarm();
        metrics.open_seconds.observe(since.elapsed().as_secs_f64());
        let (queue, batches) = mpsc::unbounded_channel();
        let (progress, progressed) = watch::channel(Progress::default());
        let holds = watch::Sender::new(0);
        let unflushed = Arc::new(AtomicUsize::new(0));
        let writer = Writer::new(
            db.clone(),
            leash.clone(),
            (path, owner.clone()),
            section.flush(),
            batches,
            progress,
            Arc::clone(&unflushed),
            (holds.subscribe(), elsewhere),
            metrics.clone(),
        );
        let database = Self {
            db,
            leash,
            owner,
            queue: Mutex::new(Queue {
                batches: queue,
                newest: 0,
            }),
            unflushed,
            unflushed_limit: section.unflushed_bytes,
            progress: progressed,
            holds,
            answer_timeout: section.open_timeout(),
            metrics: metrics.clone(),
        };
        Ok((database, writer))
    }

    pub(super) fn share(&self) {
        self.holds.send_modify(|holds| *holds += 1);
    }

    pub(super) fn release(&self) {
        self.holds.send_modify(|holds| *holds -= 1);
    }

    pub(super) fn is_held(&self) -> bool {
        *self.holds.borrow() > 0
    }

    pub(super) fn epoch(&self) -> u64 {
        self.owner.epoch
    }

    /// Whether it can be used, as far as is known.
    pub(super) fn check(&self) -> Result<(), StateError> {
        match &self.progress.borrow().lost {
            None => Ok(()),
            Some(lost) => Err(lost.clone()),
        }
    }

    pub(super) async fn lost(&self) -> StateError {
        let mut progress = self.progress.clone();
        let found = progress.wait_for(|progress| progress.lost.is_some()).await;
        found
            .ok()
            .and_then(|progress| progress.lost.clone())
            // The task of the writer was aborted with the runtime.
            .unwrap_or(StateError::Closed)
    }

    #[cfg(test)]
    pub(super) async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let found = async {
            let found = self.db.get_with_options(key, &reading()).await?;
            // A slice of a block: who keeps it would keep that.
            Ok(found.map(|value| Bytes::copy_from_slice(&value)))
        };
        self.soon(found).await
    }

    pub(super) async fn scan(
        &self,
        keys: Range<Bytes>,
        limit: usize,
    ) -> Result<(Vec<(Bytes, Bytes)>, Option<Bytes>), StateError> {
        let found = async {
            let mut rows = Vec::new();
            let mut left = limit;
            let options = ScanOptions {
                durability_filter: DurabilityLevel::Remote,
                read_ahead_bytes: READ_AHEAD_BYTES,
                max_fetch_tasks: READ_AHEAD_TASKS,
                cache_blocks: true,
                ..ScanOptions::default()
            };
            let mut scan = self.db.scan_with_options(keys, &options).await?;
            while let Some(row) = scan.next().await? {
                let Some(now_left) = left.checked_sub(row.key.len() + row.value.len()) else {
                    return Ok((rows, Some(Bytes::copy_from_slice(&row.key))));
                };
                left = now_left;
                rows.push((
                    Bytes::copy_from_slice(&row.key),
                    Bytes::copy_from_slice(&row.value),
                ));
            }
            Ok((rows, None))
        };
        self.soon(found).await
    }

    async fn soon<T>(
        &self,
        answer: impl Future<Output = Result<T, StateError>>,
    ) -> Result<T, StateError> {
        self.check()?;
        timeout(self.answer_timeout, answer)
            .await
            .unwrap_or_else(|_| Err(self.leash.silence()))
    }

    pub(super) fn room(&self) -> Result<(), StateError> {
        self.check()?;
        if self.unflushed.load(Ordering::Acquire) >= self.unflushed_limit {
            return Err(StateError::Busy);
        }
        Ok(())
    }

    pub(super) fn write(&self, batch: Batch, anyhow: bool) -> Result<Ticket, StateError> {
        batch.check()?;
        self.check()?;
        let cost = batch.cost();
        let mut queue = self.queue.lock();
        if queue.batches.is_closed() {
            return Err(StateError::Closed);
        }
        let unflushed = self.unflushed.load(Ordering::Acquire);
        // One that is too large by itself goes alone, rather than never.
        let is_full = unflushed > 0 && unflushed.saturating_add(cost) > self.unflushed_limit;
        if is_full && !anyhow {
            self.metrics.busy.inc();
            return Err(StateError::Busy);
        }
        let number = queue.newest + 1;
        let queued = Queued {
            batch,
            number,
            since: Instant::now(),
        };
        // Before it is sent: it is taken off when it is durable.
        self.unflushed.fetch_add(cost, Ordering::AcqRel);
        self.metrics.unflushed_bytes.inc_by(gauged(cost));
        if queue.batches.send(queued).is_err() {
            self.unflushed.fetch_sub(cost, Ordering::AcqRel);
            self.metrics.unflushed_bytes.dec_by(gauged(cost));
            return Err(StateError::Closed);
        }
        queue.newest = number;
        Ok(Ticket::new(number, self.progress.clone()))
    }

    /// Of the newest batch that was taken, whoever wrote it.
    pub(super) fn newest(&self) -> Ticket {
        Ticket::new(self.queue.lock().newest, self.progress.clone())
    }

    #[cfg(test)]
    pub(super) fn sever(&self) {
        self.leash.cut();
    }
}

/// As gauges count.
pub(super) fn gauged(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Whose the database at `path` is.
pub(super) async fn owner(
    objects: Arc<dyn ObjectStore>,
    path: &Path,
    metrics: &StateMetrics,
) -> Result<Option<Owner>, StateError> {
    let leash = Leash::new(objects, metrics.store_errors.clone());
    // Its tasks end with this, also when nobody waits for the answer.
    let _guard = leash.guard();
    let manifests = path.clone().join("manifest");
    let mut listed = leash.list(Some(&manifests));
    let first = futures_util::StreamExt::next(&mut listed).await;
    if first
        .transpose()
        .map_err(StateError::unavailable)?
        .is_none()
    {
        return Ok(None);
    }
    let reader = DbReader::builder(path.clone(), Arc::new(leash.clone()))
        .with_reader_mode(DbReaderMode::FollowLatest)
        .with_options(DbReaderOptions {
            max_memtable_bytes: 1 << 20,
            ..DbReaderOptions::default()
        })
        .with_db_cache_disabled()
        .build()
        .await?;
    let row = reader.get(owner::KEY).await?;
    row.map(|row| Owner::read(&row)).transpose()
}

fn reading() -> ReadOptions {
    ReadOptions {
        durability_filter: DurabilityLevel::Remote,
        ..ReadOptions::default()
    }
}

/// As small as a database can be that is one of hundreds. The writer alone says when something is written to the store.
fn settings(section: &StateSection, is_remote: bool) -> Settings {
    let sweep = GarbageCollectorDirectoryOptions {
        interval: Some(SWEEP),
        min_age: SWEEP,
        dry_run: false,
    };
    let mut collector = GarbageCollectorOptions {
        wal_options: Some(sweep),
        detach_options: None,
        boundary_files_enabled: is_remote,
        ..GarbageCollectorOptions::default()
    };
    if !is_remote {
        let sweep = GarbageCollectorDirectoryOptions {
            min_age: LOCAL_SWEEP_AGE,
            ..GarbageCollectorDirectoryOptions::default()
        };
        collector.manifest_options = Some(sweep);
        collector.compactions_options = Some(sweep);
    }
    Settings {
        flush_interval: None,
        manifest_poll_interval: section.poll(),
        l0_sst_size_bytes: section.memory_bytes,
        l0_max_ssts: MAX_UNMERGED,
        l0_max_ssts_per_key: MAX_UNMERGED,
        l0_flush_parallelism: 1,
        max_unflushed_bytes: section
            .memory_bytes
            .saturating_mul(3)
            .saturating_add(section.unflushed_bytes.saturating_mul(2)),
        compactor_options: Some(CompactorOptions {
            poll_interval: section.merge(),
            commit_compacted_interval: section.merge(),
            max_concurrent_compactions: 1,
            worker: Some(CompactionWorkerOptions {
                max_concurrent_compactions: 1,
                compactions_poll_interval: section.merge(),
                max_sst_size: MERGED_BYTES,
                max_fetch_tasks: 1,
                bytes_to_fetch: MERGE_READ_BYTES,
                max_subcompactions: 1,
                ..CompactionWorkerOptions::default()
            }),
            ..CompactorOptions::default()
        }),
        garbage_collector_options: Some(collector),
        ..Settings::default()
    }
}
