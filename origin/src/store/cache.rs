//! Blocks of objects on the local disk, in bounded room.
//!
//! A block that is not there is fetched once, however many readers wait for it, and is read through a map of its file from then
//! on. Where there is no room, what was not read for the longest time goes. A file that goes while somebody reads it stays
//! readable for that reader: it has the file open.
//!
//! # Invariants
//! - The files take at most `limit` bytes, what is being written included; and beyond it what single reads still have open.
//! - But for small parts that are fetched without their block, in memory are at most [`MAX_FETCHES`] blocks that come, twice while they are put together, and those that the disk did not take, each as long as
//!   somebody reads it.
//! - Who waits, waits no longer than `timeout` and [`DISK_SLACK`].
//! - A file is only ever read by the process that wrote it: the folder is emptied at start, and belongs to one process at a time.

mod fetch;
pub(super) mod parts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_mapped::Mapped;
use object_store::ObjectStore;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::metrics::StoreMetrics;
use super::remote::Object;
use super::{StoreError, blocking};
use fetch::{Block, Coming, Fetch, FetchError};

/// Blocks that are fetched at a time. More would not come sooner, and each takes memory until it is on the disk.
const MAX_FETCHES: usize = 16;

/// Blocks that are fetched at a time although nobody waits for them yet.
const MAX_AHEAD: usize = 8;

/// Files that stay open, for the next read of the same block.
const MAX_OPEN: usize = 256;

/// How long writing a block to the disk may take on top of fetching it.
const DISK_SLACK: Duration = Duration::from_secs(5);

/// How long the process before us may take to give the folder up.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before the folder is asked for again.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How often a block is fetched anew for one read, because the disk lost it.
const ATTEMPTS: usize = 2;

/// How the names of our files end.
const ENDING: &str = "block";

/// The blocks.
#[derive(Debug)]
pub(super) struct Cache {
    shared: Arc<Shared>,
    io: Handle,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    limit: u64,
    timeout: Duration,
    objects: Arc<dyn ObjectStore>,
    fetches: Semaphore,
    state: Mutex<State>,
    metrics: StoreMetrics,
    /// Holds the folder for this process, until nobody writes to it any more.
    _lock: File,
}

/// Which block of which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    object: Arc<Object>,
    number: u64,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// Blocks on the disk by when they were last used.
    order: BTreeMap<u64, Key>,
    /// Of blocks on the disk, and of those that are being written.
    bytes: u64,
    /// Counts uses.
    clock: u64,
    /// Names files.
    serial: u64,
    /// Entries that were opened, oldest first. Some may be gone since.
    open: VecDeque<Key>,
    /// Blocks that come without a reader.
    ahead: usize,
    /// The disk took no block the last time.
    disk_fails: bool,
}

#[derive(Debug)]
enum Entry {
    Coming(Arc<Coming>),
    Kept(Kept),
}

/// A block on the disk.
#[derive(Debug)]
struct Kept {
    serial: u64,
    length: u64,
    used: u64,
    open: Option<Arc<Mapped>>,
}

impl Cache {
    /// Takes `folder`, which must be there, and empties it. Blocks are fetched from `objects` on the runtime of `io`.
    pub(super) async fn open(
        folder: PathBuf,
        limit: u64,
        timeout: Duration,
        objects: Arc<dyn ObjectStore>,
        io: Handle,
        metrics: StoreMetrics,
    ) -> Result<Self, StoreError> {
        let lock = take(&folder).await?;
        let folder = blocking(move || match empty(&folder) {
            Ok(()) => Ok(folder),
            Err(source) => Err(not_written(&folder, source)),
        })
        .await?;
        let shared = Shared {
            folder,
            limit,
            timeout,
            objects,
            fetches: Semaphore::new(MAX_FETCHES),
            state: Mutex::default(),
            metrics,
            _lock: lock,
        };
        Ok(Self {
            shared: Arc::new(shared),
            io,
        })
    }

    /// `length` bytes from byte `from` on of the block `number`. Blocks.
    pub(super) fn read(
        &self,
        object: &Arc<Object>,
        number: u64,
        from: u64,
        length: usize,
    ) -> io::Result<Bytes> {
        let key = Key {
            object: Arc::clone(object),
            number,
        };
        let mut attempt = 1;
        loop {
            let (block, serial) = self.block(&key)?;
            match block.read_at(from, length) {
                Ok(bytes) => return Ok(bytes),
                Err(error) if attempt == ATTEMPTS => return Err(io::Error::other(error)),
                // Somebody cut our file, or the disk has lost it.
                Err(error) => self.shared.forget(&key, serial, &error),
            }
            attempt += 1;
        }
    }

    /// Begins to fetch the block `number` if it is not there, and does not wait for it.
    pub(super) fn ahead(&self, object: &Arc<Object>, number: u64) {
        let key = Key {
            object: Arc::clone(object),
            number,
        };
        let fetch = {
            let mut state = self.shared.state.lock();
            if state.ahead >= MAX_AHEAD || state.entries.contains_key(&key) {
                return;
            }
            state.ahead += 1;
            Fetch::new(&self.shared, &mut state, key, true)
        };
        self.shared.metrics.cache_ahead.inc();
        self.io.spawn(fetch.run());
    }

    /// The block, and the number of its file if it has one.
    fn block(&self, key: &Key) -> io::Result<(Block, Option<u64>)> {
        let mut attempt = 1;
        loop {
            let (serial, length) = match self.shared.look_up(key) {
                Found::Open(serial, mapped) => return Ok((Block::Mapped(mapped), Some(serial))),
                Found::Coming(coming) => return Ok((self.wait(&coming)?, None)),
                Found::Missing(fetch) => {
                    let coming = Arc::clone(&fetch.coming);
                    // Not with the table locked: a runtime that was shut down drops it here and now.
                    self.io.spawn(fetch.run());
                    return Ok((self.wait(&coming)?, None));
                }
                Found::Closed { serial, length } => (serial, length),
            };
            match self.shared.reopen(key, serial, length) {
                Ok(open) => return Ok((Block::Mapped(open), Some(serial))),
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(error) => self.shared.forget(key, Some(serial), &error),
            }
            attempt += 1;
        }
    }

    fn wait(&self, coming: &Coming) -> Result<Block, FetchError> {
        coming.wait(self.shared.timeout + DISK_SLACK)
    }
}

/// What is known of a block.
enum Found {
    Open(u64, Arc<Mapped>),
    Closed {
        serial: u64,
        length: u64,
    },
    Coming(Arc<Coming>),
    /// Nothing until now: this must be run.
    Missing(Fetch),
}

impl Shared {
    fn look_up(self: &Arc<Self>, key: &Key) -> Found {
        let mut state = self.state.lock();
        let found = match state.used(key) {
            Some(Entry::Coming(coming)) => Found::Coming(Arc::clone(coming)),
            Some(Entry::Kept(kept)) => match &kept.open {
                Some(open) => Found::Open(kept.serial, Arc::clone(open)),
                None => Found::Closed {
                    serial: kept.serial,
                    length: kept.length,
                },
            },
            None => Found::Missing(Fetch::new(self, &mut state, key.clone(), false)),
        };
        drop(state);
        match found {
            Found::Missing(_) => self.metrics.cache_misses.inc(),
            _ => self.metrics.cache_hits.inc(),
        };
        found
    }

    fn path(&self, serial: u64) -> PathBuf {
        self.folder.join(format!("{serial:016x}.{ENDING}"))
    }

    /// Opens the file of a block that was closed.
    fn reopen(&self, key: &Key, serial: u64, length: u64) -> io::Result<Arc<Mapped>> {
        let mapped = Arc::new(Mapped::open(File::open(self.path(serial))?)?);
        if mapped.length() != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut state = self.state.lock();
        let mut closed = None;
        if let Some(Entry::Kept(kept)) = state.entries.get_mut(key)
            && kept.serial == serial
        {
            kept.open = Some(Arc::clone(&mapped));
            closed = state.opened(key.clone());
        }
        drop(state);
        drop(closed);
        Ok(mapped)
    }

    /// Drops a block whose file is not what was written to it.
    fn forget(&self, key: &Key, serial: Option<u64>, error: &io::Error) {
        self.metrics.cache_errors.inc();
        tracing::warn!(%error, folder = %self.folder.display(), "a file of the cache was damaged");
        let mut state = self.state.lock();
        let removed = match state.entries.get(key) {
            Some(Entry::Kept(kept)) if serial.is_none_or(|serial| serial == kept.serial) => {
                state.remove(key)
            }
            _ => None,
        };
        self.metrics.cache_bytes.set(gauge(state.bytes));
        drop(state);
        if let Some(kept) = removed {
            self.delete(kept.serial);
        }
    }

    fn delete(&self, serial: u64) {
        let path = self.path(serial);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.metrics.cache_errors.inc();
            tracing::warn!(%error, path = %path.display(), "a file of the cache cannot be deleted");
        }
    }

    /// Takes `length` bytes of the disk: deletes what was not used for the longest time, as far as needed. Gives a number for the file.
    fn make_room(&self, length: u64) -> u64 {
        let mut state = self.state.lock();
        let mut evicted = Vec::new();
        while state.bytes.saturating_add(length) > self.limit {
            let Some((_, key)) = state.order.first_key_value() else {
                // The rest is being written; each of those is a block, and the limit is many.
                break;
            };
            let key = key.clone();
            evicted.extend(state.remove(&key));
        }
        state.bytes += length;
        state.serial += 1;
        let serial = state.serial;
        drop(state);
        for kept in evicted {
            self.metrics.cache_evictions.inc();
            self.delete(kept.serial);
        }
        serial
    }

    /// Writes a block to the disk. Blocks.
    fn keep(&self, key: &Key, bytes: Bytes) -> Block {
        let length = bytes.len() as u64;
        let serial = self.make_room(length);
        let written = write(&self.path(serial), &bytes);
        let mut state = self.state.lock();
        let mut closed = None;
        let block = match written {
            Ok(mapped) => {
                let mapped = Arc::new(mapped);
                let used = state.tick();
                let kept = Kept {
                    serial,
                    length,
                    used,
                    open: Some(Arc::clone(&mapped)),
                };
                state.order.insert(used, key.clone());
                state.entries.insert(key.clone(), Entry::Kept(kept));
                closed = state.opened(key.clone());
                if std::mem::take(&mut state.disk_fails) {
                    tracing::info!(folder = %self.folder.display(), "the cache takes blocks again");
                }
                Block::Mapped(mapped)
            }
            Err(error) => {
                state.bytes -= length;
                state.entries.remove(key);
                self.metrics.cache_errors.inc();
                if !std::mem::replace(&mut state.disk_fails, true) {
                    tracing::warn!(
                        %error,
                        folder = %self.folder.display(),
                        "the cache takes no blocks; they are fetched for every reader"
                    );
                }
                Block::Memory(bytes)
            }
        };
        self.metrics.cache_bytes.set(gauge(state.bytes));
        drop(state);
        drop(closed);
        if matches!(block, Block::Memory(_)) {
            self.delete(serial);
        }
        block
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// The entry, which thereby is the one that was used last.
    fn used(&mut self, key: &Key) -> Option<&Entry> {
        let now = self.tick();
        let entry = self.entries.get_mut(key)?;
        if let Entry::Kept(kept) = entry {
            self.order.remove(&kept.used);
            kept.used = now;
            self.order.insert(now, key.clone());
        }
        Some(entry)
    }

    /// Takes a block that is on the disk out; its file is the caller's to delete.
    fn remove(&mut self, key: &Key) -> Option<Kept> {
        match self.entries.remove(key)? {
            Entry::Kept(kept) => {
                self.order.remove(&kept.used);
                self.bytes -= kept.length;
                Some(kept)
            }
            coming @ Entry::Coming(_) => {
                self.entries.insert(key.clone(), coming);
                None
            }
        }
    }

    /// Notes that `key` was opened. Gives what is to be closed for it, without the lock held.
    fn opened(&mut self, key: Key) -> Option<Arc<Mapped>> {
        self.open.push_back(key);
        if self.open.len() <= MAX_OPEN {
            return None;
        }
        let oldest = self.open.pop_front()?;
        match self.entries.get_mut(&oldest) {
            Some(Entry::Kept(kept)) => kept.open.take(),
            _ => None,
        }
    }
}

/// Takes the folder for this process.
async fn take(folder: &Path) -> Result<File, StoreError> {
    let deadline = tokio::time::Instant::now() + LOCK_PATIENCE;
    loop {
        let path = folder.to_owned();
        let taken =
            blocking(move || try_to_take(&path).map_err(|source| not_written(&path, source)));
        if let Some(file) = taken.await? {
            return Ok(file);
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(StoreError::CacheInUse {
                path: folder.to_owned(),
            });
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

fn try_to_take(folder: &Path) -> io::Result<Option<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn not_written(folder: &Path, source: io::Error) -> StoreError {
    StoreError::Write {
        key: "storage.cache_dir",
        path: folder.to_owned(),
        source,
    }
}

/// Deletes the files that are ours by their names.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let is_block = path.extension().is_some_and(|ending| ending == ENDING);
        if is_block && entry.file_type()?.is_file() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Writes a new file, and maps it. It need not outlive the machine, so nothing is synchronised.
fn write(path: &Path, bytes: &[u8]) -> io::Result<Mapped> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    file.write_all(bytes)?;
    Mapped::open(file)
}

fn gauge(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
