//! The media files that recordings become, and what is remembered of each: its *card*.
//!
//! A card is a small object, `recorded/KEY.json`. It says which generation goes on behind the file that is there, and which
//! generation the file came from last. So a crash in the middle of anything never puts the same frames into a file twice: who
//! comes after it knows whether the file in place is the one from before or the new one.

use std::fmt;
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use headwater_media::file::ReadAt;
use headwater_media::frame::{Epoch, Offset};
use headwater_media::name::StreamName;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::target::Target;
use super::vault::{Cause, VaultError};
use crate::store::{ReadError, Store, unfinished};

/// Largest card that is read, in bytes: a few numbers.
const MAX_CARD: u64 = 4_096;

/// The folder of cards, and of what else is remembered of names.
pub(crate) const CARDS: &str = "recorded";

/// How free space is asked for, in bytes; `None` where it is not known. Blocks.
pub(crate) type FreeSpace = Arc<dyn Fn(Disk) -> Option<u64> + Send + Sync>;

/// Whose free space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// That of the files alone.
    Files,
    /// All that a recording takes: the one with the least.
    All,
}

/// How an object is opened for reading; `None` if it is not there.
pub(crate) type Read = Arc<
    dyn Fn(Path) -> BoxFuture<'static, Result<Option<Arc<dyn ReadAt>>, VaultError>> + Send + Sync,
>;

/// The media files of a store. Clones share it.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) objects: Arc<dyn ObjectStore>,
    read: Read,
    /// The folder of a store on this machine.
    root: Option<PathBuf>,
    /// Whether links in it may lead anywhere.
    follow_links: bool,
    free_space: FreeSpace,
    /// Bytes that files which are being made will have.
    promised: Arc<AtomicU64>,
}

/// Room for a file that is being made. Dropped, it is given back.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: u64,
    promised: Arc<AtomicU64>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.promised.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("root", &self.root).finish()
    }
}

/// What is remembered of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// What goes on behind the file.
    pub(crate) continues: Option<Continues>,
    /// What the file came from, or is about to.
    pub(crate) placed: Option<Placed>,
    /// The generation that was recorded last, and when its last frame came, in milliseconds since 1970.
    pub(crate) ended: Option<(u64, u64)>,
    /// A generation of which not all is kept, and how much, together with the file that it goes on behind, in milliseconds.
    #[serde(default)]
    pub(crate) window: Option<(u64, u64)>,
}

impl Card {
    /// How much is kept of a generation and the file that it goes on behind, in milliseconds. 0: all.
    pub(crate) fn window_ms(&self, generation: u64) -> u64 {
        let window = self.window.filter(|(of, _)| *of == generation);
        window.map_or(0, |(_, window_ms)| window_ms)
    }
}

/// A generation that goes on behind the file, as a whole or, where another origin recorded on when it was in the file, from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Continues {
    pub(crate) generation: u64,
    /// What is added to its timestamps to get those of the file, in milliseconds. `None`: so much that it begins where the file ends.
    pub(crate) shift_ms: Option<i64>,
    /// Epoch and sequence of its first frame that is not in the file yet. `None`: nothing of it is.
    #[serde(default)]
    pub(crate) from: Option<(u64, u64)>,
}

impl Continues {
    /// The first frame that goes behind the file; `None`: all do.
    pub(crate) fn first(&self) -> Option<Offset> {
        let (epoch, sequence) = self.from?;
        Some(Offset {
            epoch: Epoch(epoch),
            sequence,
        })
    }
}

/// A generation that became a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) generation: u64,
    /// Of the file: one of another length is not the one that was put there.
    pub(crate) length: u64,
    /// The end of its timeline in milliseconds.
    pub(crate) end_ms: u64,
    /// What was added to the timestamps of the generation, in milliseconds.
    pub(crate) shift_ms: i64,
    /// The first offset that is not in it.
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    /// When its last frame came, in milliseconds since 1970.
    pub(crate) unix_ms: u64,
}

impl Placed {
    pub(crate) fn next(&self) -> Offset {
        Offset {
            epoch: Epoch(self.epoch),
            sequence: self.sequence,
        }
    }
}

impl Files {
    /// Of a node's store.
    pub(crate) fn of_store(store: &Store, follow_links: bool) -> Self {
        let root = store.local_root().map(FilePath::to_owned);
        let of_files: Vec<PathBuf> = root.iter().cloned().collect();
        let all = root
            .iter()
            .flat_map(|root| [root.clone(), store.journal_dir()]);
        let all: Vec<PathBuf> = all.collect();
        let reading = store.clone();
        Self {
            objects: Arc::clone(store.objects()),
            read: Arc::new(move |path| {
                let store = reading.clone();
                Box::pin(async move {
                    match store.read(&path).await {
                        Ok(opened) => Ok(Some(opened.bytes)),
                        Err(ReadError::NotFound) => Ok(None),
                        Err(error) => Err(VaultError {
                            cause: match error {
                                ReadError::Denied(_) => Cause::NoAccess,
                                _ => Cause::Unavailable,
                            },
                            text: error.to_string(),
                        }),
                    }
                })
            }),
            root,
            follow_links,
            free_space: Arc::new(move |disk| match disk {
                Disk::Files => free_space(&of_files),
                Disk::All => free_space(&all),
            }),
            promised: Arc::default(),
        }
    }

    /// Of objects that are read as a whole, for tests. `root` is their folder, if they have one.
    #[cfg(test)]
    pub(crate) fn of_objects(
        objects: Arc<dyn ObjectStore>,
        root: Option<PathBuf>,
        free_space: FreeSpace,
    ) -> Self {
        let reading = Arc::clone(&objects);
        Self {
            objects,
            read: Arc::new(move |path| {
                let objects = Arc::clone(&reading);
                Box::pin(async move {
                    let found = match objects.get(&path).await {
                        Ok(found) => found.bytes().await.map_err(|error| from_store(&error))?,
                        Err(object_store::Error::NotFound { .. }) => return Ok(None),
                        Err(error) => return Err(from_store(&error)),
                    };
                    Ok(Some(Arc::new(found) as Arc<dyn ReadAt>))
                })
            }),
            root,
            follow_links: false,
            free_space,
            promised: Arc::default(),
        }
    }

    /// Opens an object for reading; `None` if it is not there.
    pub(crate) async fn read(&self, path: &Path) -> Result<Option<Arc<dyn ReadAt>>, VaultError> {
        (self.read)(path.clone()).await
    }

    /// Whether nobody but this machine has them.
    pub(crate) fn are_local(&self) -> bool {
        self.root.is_some()
    }

    /// The card of a stream; an empty one if there is none, or none that can be understood.
    pub(crate) async fn card(&self, name: &StreamName) -> Result<Card, VaultError> {
        let path = card_path(name);
        let found = match self.objects.get(&path).await {
            Ok(found) if found.meta.size > MAX_CARD => return Ok(Card::default()),
            Ok(found) => found.bytes().await.map_err(|error| from_store(&error))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(Card::default()),
            Err(error) => return Err(from_store(&error)),
        };
        match serde_json::from_slice(&found) {
            Ok(card) => Ok(card),
            Err(error) => {
                tracing::warn!(%name, %error, "the card of a recording cannot be read");
                Ok(Card::default())
            }
        }
    }

    pub(crate) async fn write_card(
        &self,
        name: &StreamName,
        card: &Card,
    ) -> Result<(), VaultError> {
        let text = serde_json::to_vec(card).map_err(|error| VaultError {
            cause: Cause::Corrupt,
            text: error.to_string(),
        })?;
        let written = self.objects.put(&card_path(name), text.into()).await;
        written.map(drop).map_err(|error| from_store(&error))
    }

    /// What the store says of an object; `None` if it is not there.
    pub(crate) async fn head(&self, path: &Path) -> Result<Option<ObjectMeta>, VaultError> {
        match self.objects.head(path).await {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(from_store(&error)),
        }
    }

    /// The file that the card says was put in place, if it still is there.
    pub(crate) async fn placed(
        &self,
        target: &Target,
        card: &Card,
    ) -> Result<Option<Placed>, VaultError> {
        let Some(placed) = card.placed else {
            return Ok(None);
        };
        let found = self.head(&target.path).await?;
        let same = found.is_some_and(|found| found.size == placed.length);
        Ok(same.then_some(placed))
    }

    /// Deletes the file and its card, if they are there.
    pub(crate) async fn erase(&self, target: &Target, name: &StreamName) -> Result<(), VaultError> {
        for path in [&target.path, &card_path(name)] {
            match self.objects.delete(path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(from_store(&error)),
            }
        }
        Ok(())
    }

    /// Whether the file can be made where it is to stand. On a store that is not on this machine only its own answer tells.
    pub(crate) async fn probe(&self, target: &Target) -> Result<(), VaultError> {
        let Some(root) = self.root.clone() else {
            return Ok(());
        };
        let (path, follow_links) = (target.path.clone(), self.follow_links);
        let probed = blocking(move || probe(&root, path.as_ref(), follow_links)).await;
        probed.map_err(|error| {
            let mut error = from_io(&error);
            if error.cause == Cause::NotFound {
                error.cause = Cause::NoAccess;
            }
            error
        })
    }

    /// Removes what a process that died has left of a file that it was writing.
    pub(crate) async fn sweep(&self, target: &Target) {
        let Some(root) = self.root.clone() else {
            return;
        };
        let path = root.join(target.path.as_ref());
        if let Err(error) = blocking(move || sweep(&path)).await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "unfinished files were not looked for");
        }
    }

    /// Bytes that are free where recordings are written; `None` where that is not known, as of a store that is not on this machine.
    pub(crate) async fn free_space(&self) -> Option<u64> {
        self.space(Disk::All).await
    }

    /// Room for a file of so many bytes beside which `keep` stay free, and beside all files that are being made: trying it without
    /// would take the last of the disk from those who record, only to give it back.
    pub(crate) async fn room(&self, bytes: u64, keep: u64) -> Result<Room, VaultError> {
        let others = self.promised.fetch_add(bytes, Ordering::Relaxed);
        let room = Room {
            bytes,
            promised: Arc::clone(&self.promised),
        };
        let needed = bytes.saturating_add(keep).saturating_add(others);
        match self.space(Disk::Files).await {
            Some(free) if free < needed => Err(VaultError {
                cause: Cause::Full,
                text: format!(
                    "a file of {bytes} bytes needs {needed} on the disk, {free} are free"
                ),
            }),
            _ => Ok(room),
        }
    }

    async fn space(&self, disk: Disk) -> Option<u64> {
        let free_space = Arc::clone(&self.free_space);
        blocking(move || Ok(free_space(disk))).await.ok().flatten()
    }
}

fn card_path(name: &StreamName) -> Path {
    Path::from_iter([CARDS.to_owned(), format!("{}.json", key(name))])
}

/// A name as letters that every store takes, as many for each. What is stored is found by it: it must never change.
pub(crate) fn key(name: &StreamName) -> String {
    let mut digest = Sha256::new();
    for part in [&name.vhost, &name.app, &name.instance, &name.stream] {
        // The length first: `a/b`, `c` is another name than `a`, `b/c`.
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest = digest.finalize();
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// A folder for the file that can be written to, and no folder or read-only file in its place.
fn probe(root: &FilePath, path: &str, follow_links: bool) -> io::Result<()> {
    std::fs::create_dir_all(root)?;
    let root = std::fs::canonicalize(root)?;
    let path = root.join(path);
    let parent = path.parent().unwrap_or(&root);
    // The nearest folder that is there: nothing is made where a link leads to.
    let mut there = parent;
    while !there.try_exists()? {
        there = there.parent().unwrap_or(&root);
    }
    if !follow_links && std::fs::canonicalize(there)? != there {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the folder is a link",
        ));
    }
    if !there.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    std::fs::create_dir_all(parent)?;
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if found.is_file() && found.permissions().readonly() => {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the file is read-only",
            ));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // As local stores call a file that is being written: nobody takes it for a file of the folder.
    let test = with_mark(&path, &format!("#{}", std::process::id()));
    std::fs::write(&test, b"")?;
    std::fs::remove_file(&test)
}

/// The least free space of some folders, in bytes.
fn free_space(folders: &[PathBuf]) -> Option<u64> {
    let of = |folder: &PathBuf| {
        let found = rustix::fs::statvfs(folder).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    };
    folders.iter().filter_map(of).min()
}

/// Removes what was to become the file when it was whole.
fn sweep(path: &FilePath) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|it| it.to_str()))
    else {
        return Ok(());
    };
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        let found = entry.file_name();
        let is_part = found.to_str().and_then(unfinished) == Some(name);
        if is_part && entry.file_type()?.is_file() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn with_mark(path: &FilePath, mark: &str) -> PathBuf {
    let mut marked = path.as_os_str().to_owned();
    marked.push(mark);
    marked.into()
}

/// What to do about an error of the store.
pub(crate) fn from_store(error: &object_store::Error) -> VaultError {
    use object_store::Error;

    let cause = match error {
        Error::NotFound { .. } => Cause::NotFound,
        Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::InvalidPath { .. } => Cause::NoAccess,
        _ => io_cause(error).map_or(Cause::Unavailable, cause_of),
    };
    VaultError {
        cause,
        text: error.to_string(),
    }
}

pub(crate) fn from_io(error: &io::Error) -> VaultError {
    VaultError {
        cause: cause_of(error.kind()),
        text: error.to_string(),
    }
}

/// The first error of the system under an error.
fn io_cause(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(found) = current.downcast_ref::<io::Error>() {
            return Some(found.kind());
        }
        error = current.source();
    }
    None
}

fn cause_of(kind: io::ErrorKind) -> Cause {
    match kind {
        io::ErrorKind::NotFound => Cause::NotFound,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Cause::Full
        }
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidFilename => Cause::NoAccess,
        _ => Cause::Unavailable,
    }
}

#[cfg(test)]
mod tests;
