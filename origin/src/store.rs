//! Where recordings and media files are: a folder, or a bucket of an object store.
//!
//! | module | what it holds |
//! |---|---|
//! | `section` | the `[origin.storage]` section |
//! | `place` | what its `url` names, and the client for it |
//! | `local` | opening files in a folder |
//! | `confined` | objects as files in a folder, without links |
//! | `remote` | reading objects of a bucket, by blocks |
//! | `cache` | those blocks, on the local disk |
//! | `error` | what goes wrong |
//! | `metrics` | what is counted |
//!
//! Objects are written, listed and deleted through [`Store::objects`]; what is read for viewers is opened with [`Store::read`], which
//! maps files into memory and fetches objects by parts.
//!
//! # Invariants
//! - An object that was created with `PutMode::Create` is durable, and exists once; a store that cannot promise that is refused at start.
//! - Reading for viewers takes a bounded part of the disk and of memory, and never waits for longer than the read timeout.
//!
//! # What it does not do
//! It does not write to the journal; it only says where that is.

mod cache;
mod confined;
mod error;
mod local;
mod metrics;
mod place;
mod remote;
mod section;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::fs;
use std::hash::Hasher;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use headwater_mapped::Mapped;
use headwater_media::file::ReadAt;
use headwater_node::metrics::Metrics;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use siphasher::sip::SipHasher13;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

pub(crate) use error::ReadError;
pub use error::StoreError;
pub(crate) use local::unfinished;
pub use section::StorageSection;

use crate::OriginSection;
use cache::Cache;
use confined::Confined;
use metrics::StoreMetrics;
use place::{Bucket, Place};
use remote::{IoRuntime, Object, RemoteFile};

/// Files in a folder that are being opened or looked at at a time: where the disk hangs, no more threads than that hang with it.
const MAX_OPENING: usize = 64;

/// Below it the store is tried at start; nothing else is ever there.
const PROBE_FOLDER: &str = ".headwater-probe";

/// Something that is open for reading.
#[derive(Clone)]
pub(crate) struct Opened {
    /// Its bytes. Reading blocks, for no longer than the read timeout where they are remote: it belongs on a thread that may block, and
    /// needs no other such thread to come to an end.
    ///
    /// Errors: [`io::ErrorKind::UnexpectedEof`] where it was cut; [`io::ErrorKind::StaleNetworkFileHandle`] where the object was replaced or
    /// deleted; [`io::ErrorKind::TimedOut`]; others as the store has them. [`ReadError`] can be made of them.
    pub(crate) bytes: Arc<dyn ReadAt>,
    /// Changes when the object is replaced. The same on every origin that uses the store, and never 0.
    pub(crate) version: u64,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("length", &self.bytes.length())
            .field("version", &self.version)
            .finish()
    }
}

/// The store of an origin. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    objects: Arc<dyn ObjectStore>,
    journal_dir: PathBuf,
    read_timeout: Duration,
    kind: Kind,
    metrics: StoreMetrics,
}

#[derive(Debug)]
enum Kind {
    Local(Folder),
    Remote {
        cache: Arc<Cache>,
        /// Where objects are fetched; see [`IoRuntime`].
        io: Arc<IoRuntime>,
    },
}

/// A folder that holds the objects.
#[derive(Debug)]
struct Folder {
    /// Canonical.
    root: PathBuf,
    follow_links: bool,
    opening: Arc<Semaphore>,
}

impl Folder {
    /// Runs `work` on a thread, when there is one for it.
    async fn on_thread<T: Send + 'static>(
        &self,
        path: &ObjectPath,
        work: impl FnOnce(&Path, &ObjectPath, bool) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let permit = Arc::clone(&self.opening)
            .acquire_owned()
            .await
            .map_err(ReadError::unavailable)?;
        let (root, path, follow_links) = (self.root.clone(), path.clone(), self.follow_links);
        let working = spawn_blocking(move || {
            // Until it is done, also when nobody waits for it any more.
            let _permit = permit;
            work(&root, &path, follow_links)
        });
        working.await.map_err(ReadError::unavailable)?
    }
}

impl Store {
    /// Prepares the data folder, the cache and the store, and tries whether it creates what is not there, and only that. A bucket that does
    /// not answer at all is no error: live streams go on without it, and it may come back. Once per [`Metrics`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn open(
        section: &OriginSection,
        metrics: &Metrics,
    ) -> Result<Self, StoreError> {
        let storage = &section.storage;
        let data_dir = blocking({
            let path = section.data_dir.clone();
            move || folder("data_dir", &path)
        })
        .await?;
        let journal_dir = blocking({
            let path = data_dir.join("journal");
            move || folder("data_dir", &path)
        })
        .await?;
        let metrics = StoreMetrics::new(metrics);
        let problem = |problem: place::PlaceProblem| StoreError::Section {
            key: problem.key,
            message: problem.message,
        };
        let (objects, kind) = match place::resolve(storage).map_err(problem)? {
            Place::DataDir => Self::local(data_dir, storage)?,
            Place::Folder(root) => {
                let root = blocking(move || folder("storage.url", &root)).await?;
                Self::local(root, storage)?
            }
            Place::Bucket(bucket) => {
                let objects = bucket.connect(storage).map_err(problem)?;
                let kind = Self::remote(&bucket, storage, &data_dir, &metrics).await?;
                (objects, kind)
            }
        };
        let shared = Shared {
            objects,
            journal_dir,
            read_timeout: storage.read_timeout(),
            kind,
            metrics,
        };
        let store = Self {
            shared: Arc::new(shared),
        };
        store.probe().await?;
        Ok(store)
    }

    fn local(
        root: PathBuf,
        storage: &StorageSection,
    ) -> Result<(Arc<dyn ObjectStore>, Kind), StoreError> {
        let files = LocalFileSystem::new_with_prefix(&root)
            .map_err(StoreError::Refused)?
            .with_fsync(true);
        let objects: Arc<dyn ObjectStore> = if storage.follow_links {
            Arc::new(files)
        } else {
            Arc::new(Confined::new(files, root.clone()))
        };
        let kind = Kind::Local(Folder {
            root,
            follow_links: storage.follow_links,
            opening: Arc::new(Semaphore::new(MAX_OPENING)),
        });
        Ok((objects, kind))
    }

    async fn remote(
        bucket: &Bucket,
        storage: &StorageSection,
        data_dir: &Path,
        metrics: &StoreMetrics,
    ) -> Result<Kind, StoreError> {
        let path = if storage.cache_dir.as_os_str().is_empty() {
            data_dir.join("cache")
        } else {
            storage.cache_dir.clone()
        };
        let path = blocking(move || folder("storage.cache_dir", &path)).await?;
        // A client of its own, so that its connections belong to the runtime that fetches.
        let objects = bucket
            .connect(storage)
            .map_err(|problem| StoreError::Section {
                key: problem.key,
                message: problem.message,
            })?;
        let io = Arc::new(IoRuntime::new().map_err(StoreError::Setup)?);
        let cache = Cache::open(
            path,
            storage.cache_bytes,
            storage.read_timeout(),
            objects,
            io.handle().clone(),
            metrics.clone(),
        )
        .await?;
        Ok(Kind::Remote {
            cache: Arc::new(cache),
            io,
        })
    }

    /// The objects, with paths relative to the root of the store. What `put` says was written is durable.
    ///
    /// `PutMode::Create` may say that the object exists when it is our own, whose answer was lost: compare what is there.
    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.shared.objects
    }

    /// The folder that holds the objects, where they are files.
    pub(crate) fn local_root(&self) -> Option<&Path> {
        match &self.shared.kind {
            Kind::Local(folder) => Some(&folder.root),
            Kind::Remote { .. } => None,
        }
    }

    /// Whether the objects are elsewhere than on this machine's disks.
    pub(crate) fn is_remote(&self) -> bool {
        matches!(self.shared.kind, Kind::Remote { .. })
    }

    /// Where what is not in the store yet is kept. Always a folder of this machine, and there.
    pub(crate) fn journal_dir(&self) -> PathBuf {
        self.shared.journal_dir.clone()
    }

    /// Opens what is at `path`, for reading all of it or parts.
    ///
    /// A file stays readable as it was when it is replaced by another one, or deleted. An object does not, except for what the cache
    /// has of it; but never are bytes of two objects mixed.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Unavailable`] after the read timeout at the latest.
    pub(crate) async fn read(&self, path: &ObjectPath) -> Result<Opened, ReadError> {
        self.soon(self.open_now(path)).await
    }

    /// What [`Opened::version`] would be now. Costs less than opening: a look at the file, one request for an object.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) async fn version(&self, path: &ObjectPath) -> Result<u64, ReadError> {
        self.soon(self.version_now(path)).await
    }

    /// Waits no longer than the read timeout.
    async fn soon<T>(
        &self,
        answer: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        let shared = &self.shared;
        let answer = timeout(shared.read_timeout, answer)
            .await
            .unwrap_or_else(|_| Err(ReadError::unavailable("no answer in time")));
        if matches!(answer, Err(ReadError::Unavailable(_))) {
            shared.metrics.errors.inc();
        }
        answer
    }

    async fn version_now(&self, path: &ObjectPath) -> Result<u64, ReadError> {
        match &self.shared.kind {
            Kind::Local(folder) => folder.on_thread(path, local::version).await,
            Kind::Remote { .. } => Ok(self.head(path).await?.version()),
        }
    }

    async fn open_now(&self, path: &ObjectPath) -> Result<Opened, ReadError> {
        match &self.shared.kind {
            Kind::Local(folder) => {
                let open = |root: &Path, path: &ObjectPath, follow_links| {
                    let found = local::open(root, path, follow_links)?;
                    let mapped = Mapped::open(found.file).map_err(ReadError::unavailable)?;
                    Ok(Opened {
                        bytes: Arc::new(local::Bytes(mapped)),
                        version: found.version,
                    })
                };
                folder.on_thread(path, open).await
            }
            Kind::Remote { cache, io } => {
                let object = self.head(path).await?;
                let version = object.version();
                let file = RemoteFile::new(object, Arc::clone(cache), Arc::clone(io));
                Ok(Opened {
                    bytes: Arc::new(file),
                    version,
                })
            }
        }
    }

    async fn head(&self, path: &ObjectPath) -> Result<Object, ReadError> {
        let meta = self.shared.objects.head(path).await;
        meta.map(Object::new).map_err(read_error)
    }

    /// Deletes `folder` and those above it as far as they are empty folders; a bucket has none. What is below another folder
    /// than our own is not for us to tidy up, so `folder` should be one that this program made. What a process that died was writing
    /// of numbered objects in `folder` goes with it.
    pub(crate) async fn remove_empty_folders(&self, folder: &ObjectPath) {
        let Kind::Local(local) = &self.shared.kind else {
            return;
        };
        let (root, follow_links, last) = (local.root.clone(), local.follow_links, folder.clone());
        let folders: Vec<PathBuf> = std::iter::successors(Some(folder.clone()), ObjectPath::parent)
            .take_while(|path| path.parts_count() > 1)
            .map(|path| root.join(path.as_ref()))
            .collect();
        // An error of the task is a panic, which was logged.
        let _ = spawn_blocking(move || {
            local::remove_unfinished(&root, &last, follow_links);
            // The first one that is not empty, or not there, is the last.
            let _ = folders.iter().try_for_each(fs::remove_dir);
        })
        .await;
    }

    /// Tries whether the store creates an object once, and only once.
    async fn probe(&self) -> Result<(), StoreError> {
        let objects = self.objects();
        let name = format!(
            "{PROBE_FOLDER}/{}-{:016x}",
            process::id(),
            rand::random::<u64>()
        );
        let path = ObjectPath::from(name);
        let create = || {
            let put = objects.put_opts(&path, "headwater".into(), PutMode::Create.into());
            timeout(self.shared.read_timeout, put)
        };
        let first = match create().await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(object_store::Error::NotImplemented { .. })) => Err(StoreError::NotConditional),
            Ok(Err(error)) => return self.judge(error),
            Err(_) => return self.judge_silence(),
        };
        let second = match create().await {
            Ok(Err(object_store::Error::AlreadyExists { .. })) => Ok(()),
            Ok(Ok(_)) => Err(StoreError::NotConditional),
            Ok(Err(error)) => self.judge(error),
            Err(_) => self.judge_silence(),
        };
        // What is left behind where this fails does no harm.
        let _ = timeout(self.shared.read_timeout, objects.delete(&path)).await;
        self.remove_probe_folder().await;
        first.and(second)
    }

    /// Whether an error of the probe is one to stop for.
    fn judge(&self, error: object_store::Error) -> Result<(), StoreError> {
        use object_store::Error;
        let refused = matches!(
            error,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::NotFound { .. }
        );
        if refused || !self.is_remote() {
            return Err(StoreError::Refused(error));
        }
        tracing::warn!(%error, "the object store is not available");
        Ok(())
    }

    fn judge_silence(&self) -> Result<(), StoreError> {
        if !self.is_remote() {
            let source = io::Error::from(io::ErrorKind::TimedOut);
            return Err(StoreError::Setup(source));
        }
        tracing::warn!("the object store does not answer");
        Ok(())
    }

    async fn remove_probe_folder(&self) {
        if let Some(root) = self.local_root() {
            let path = root.join(PROBE_FOLDER);
            // Not empty: another origin tries the same store just now.
            let _ = spawn_blocking(move || fs::remove_dir(path)).await;
        }
    }
}

/// What an error of the object store means for a reader.
fn read_error(error: object_store::Error) -> ReadError {
    match error {
        object_store::Error::NotFound { .. } | object_store::Error::InvalidPath { .. } => {
            ReadError::NotFound
        }
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => ReadError::Denied(error.to_string()),
        object_store::Error::Precondition { .. } => ReadError::Replaced,
        error => ReadError::unavailable(error),
    }
}

/// A number that depends on what `feed` gives to its argument, and on nothing else: the same on every machine. Not 0.
fn version(feed: impl FnOnce(&mut dyn FnMut(&[u8]))) -> u64 {
    let mut hasher = SipHasher13::new();
    feed(&mut |bytes| {
        // So that no two sequences of parts look alike.
        hasher.write(&(bytes.len() as u64).to_le_bytes());
        hasher.write(bytes);
    });
    hasher.finish().max(1)
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(StoreError::Setup(io::Error::other(error))))
}

/// Makes the folder that `key` names if it is missing, proves that it can be written to, and gives its path without links. Blocks.
fn folder(key: &'static str, path: &Path) -> Result<PathBuf, StoreError> {
    let not_made = |source| StoreError::Create {
        key,
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(path).map_err(not_made)?;
    let probe = path.join(format!(".write-test-{}", process::id()));
    let written = write(&probe);
    // Also after an error, as with a full disk; the error that counts is the first one.
    let removed = fs::remove_file(&probe);
    written.and(removed).map_err(|source| StoreError::Write {
        key,
        path: path.to_owned(),
        source,
    })?;
    path.canonicalize().map_err(not_made)
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(b"headwater")?;
    file.sync_all()
}
