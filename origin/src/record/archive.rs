//! Recordings that are not one file yet: made, gone on with after a crash, read while they grow.
//!
//! A recording is a row of segments in an object store; see [`headwater_media::segment`] for their form and `keys` for their names.
//! Between two segments its frames are in a [journal](journal) on the local disk, and in memory.
//!
//! # Owners
//! Creating the segment of a number, which a store does for one caller only, is what commits it. Each owner begins with an empty
//! segment that carries its *term*, greater than all before. It has read every segment before its own, so terms never fall along the
//! row, and an owner that finds a greater one where it wanted to write knows that it was replaced: [`ArchiveError::Fenced`]. What an
//! earlier owner committed before that stands; the new one goes on after it.
//!
//! A [window](Writer::keep_window) empties places, and who stalled for as long finds one that can be made again. So whoever begins a
//! term, and whoever writes with a window, looks behind each segment that it has put: if there is one, it was replaced. Its own is then
//! in no index, nobody was told that it is durable, and the next trimming deletes it.
//!
//! A put whose answer is lost may have worked. The same bytes are put again until it is known: what is found there then is ours if the
//! bytes are the same.
//!
//! # Invariants
//! - What [`Writer::sync`] told to be durable is in the recording, once and in order, whoever dies and when.
//! - A piece whose end is known never changes: the grid goes by frames alone, and the places where pieces begin are stored.
//! - Memory per recording is bounded by [`ArchiveConfig::held_bytes`], twice for moments (a batch on its way to the disk, a segment on
//!   its way to the store), and some hundred bytes per stored segment and piece.
//!
//! # What readers see
//! All that has been appended, as live viewers do. What is lost when an origin dies before it is durable comes again from the
//! publisher's edge, with the same offsets. Only if that dies at the same time, a reader has seen frames that are in no recording.
//!
//! # What it does not do
//! It wakes nobody and starts no work of its own accord: somebody calls [`Writer::sync`] some times a second for each recording.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use headwater_media::file::Grid;
use headwater_media::frame::{Frame, Offset};
use headwater_media::name::StreamName;
use object_store::ObjectStore;
use parking_lot::Mutex;

mod commit;
mod create;
mod error;
mod indexing;
mod journal;
mod keys;
mod list;
mod load;
mod reader;
mod shared;
mod writer;

pub(crate) use error::ArchiveError;
pub(crate) use journal::{JournalUsage, LeftOpen};
pub(crate) use list::Listed;
pub(crate) use load::ReadSegment;
pub(crate) use reader::Reader;
pub(crate) use writer::Writer;

use journal::{Disk, Journal, JournalConfig, LocalDisk};
use shared::Shared;

/// How recordings are stored.
#[derive(Clone, Debug)]
pub(crate) struct ArchiveConfig {
    /// Media time after which a segment is sealed where the next piece begins; after twice as much, of media time or by the clock, it is
    /// sealed wherever that is. Milliseconds.
    pub(crate) segment_ms: u64,
    /// Bytes of payload after which a segment is sealed.
    pub(crate) segment_bytes: usize,
    /// Bytes that a recording may hold in memory because they are in no segment yet.
    pub(crate) held_bytes: usize,
    /// How recordings are cut into pieces.
    pub(crate) grid: Grid,
    /// The least time from one sync of the journal to the next, for all recordings together, milliseconds. What is appended is durable
    /// locally after at most about so long.
    pub(crate) sync_ms: u64,
    /// Bytes after which the journal begins another file.
    pub(crate) journal_file_bytes: u64,
    /// How long the store may take for one answer, what its client tries again included.
    pub(crate) store_timeout: Duration,
    /// How the frames of sealed segments are read. `None`: as all objects.
    pub(crate) segments: Option<Arc<dyn ReadSegment>>,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self {
            segment_ms: 4_000,
            segment_bytes: 8 << 20,
            held_bytes: 32 << 20,
            grid: Grid::default(),
            sync_ms: 250,
            journal_file_bytes: 64 << 20,
            store_timeout: Duration::from_secs(30),
            segments: None,
        }
    }
}

/// All recordings of one store. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Archives {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    objects: Arc<dyn ObjectStore>,
    journal: Journal,
    durable_locally: bool,
    config: ArchiveConfig,
    /// Recordings that are written in this process.
    open: Mutex<HashMap<LeftOpen, Weak<Shared>>>,
}

impl Archives {
    /// `journal` is a folder for this process alone. `durable_locally`: what is in the journal counts as durable, as the store is on
    /// the same machine; if not, only what is in a segment does.
    ///
    /// Blocks: it reads what recordings that were open had not stored.
    ///
    /// # Errors
    /// [`ArchiveError`] where the journal folder cannot be used.
    pub(crate) fn new(
        objects: Arc<dyn ObjectStore>,
        journal: PathBuf,
        durable_locally: bool,
        config: ArchiveConfig,
    ) -> Result<Self, ArchiveError> {
        let disk = Box::new(LocalDisk);
        Self::with_disk(objects, journal, durable_locally, config, disk)
    }

    fn with_disk(
        objects: Arc<dyn ObjectStore>,
        journal: PathBuf,
        durable_locally: bool,
        config: ArchiveConfig,
        disk: Box<dyn Disk>,
    ) -> Result<Self, ArchiveError> {
        let journal = JournalConfig {
            folder: journal,
            sync_every: Duration::from_millis(config.sync_ms),
            file_bytes: config.journal_file_bytes,
        };
        let journal = Journal::start(journal, disk).map_err(|error| ArchiveError::file(&error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                objects,
                journal,
                durable_locally,
                config,
                open: Mutex::default(),
            }),
        })
    }

    /// What was open when this machine's process died, and what writers that were dropped left open. From the journal alone: a
    /// recording may have been gone on with elsewhere since, or be complete, or be gone.
    pub(crate) fn left_open(&self) -> Vec<LeftOpen> {
        self.inner.journal.left_open()
    }

    /// Drops what the journal has of a recording that was left open: what is not stored of it is lost.
    pub(crate) fn forget(&self, left: &LeftOpen) {
        self.inner.journal.forget(left);
    }

    /// What the journal has done since the start.
    pub(crate) fn journal_usage(&self) -> JournalUsage {
        self.inner.journal.usage()
    }

    /// Opens a recording to read. While it is written in this process, the reader sees what is appended; else what is stored now, and
    /// more after each [`Reader::refresh`].
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(crate) async fn open(
        &self,
        name: &StreamName,
        generation: u64,
    ) -> Result<Arc<Reader>, ArchiveError> {
        let key = LeftOpen {
            name: name.clone(),
            generation,
        };
        let live = self.inner.open.lock().get(&key).and_then(Weak::upgrade);
        if let Some(shared) = live.filter(|shared| shared.is_live()) {
            return Ok(Arc::new(Reader::new(shared)));
        }
        let shared = Shared::new(self, key);
        shared.refresh().await?;
        Ok(Arc::new(Reader::new(Arc::new(shared))))
    }
}

/// What is known of a recording as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Which of the stream's recordings.
    pub(crate) generation: u64,
    /// Media time of the first frame, in milliseconds.
    pub(crate) start_ms: u64,
    /// The end of the last frame.
    pub(crate) end_ms: u64,
    /// Bytes of all payloads.
    pub(crate) bytes: u64,
    /// The first frame; `None` as long as there is none.
    pub(crate) first: Option<Offset>,
    /// After the last frame.
    pub(crate) next: Option<Offset>,
    /// There are audio frames.
    pub(crate) has_audio: bool,
    /// There are video frames.
    pub(crate) has_video: bool,
    /// Its writer finished it. Somebody may still go on with it later.
    pub(crate) is_complete: bool,
}

/// What comes after a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Another piece. This one never changes.
    Piece,
    /// Nothing: the recording is complete.
    End,
    /// What is not there yet. This piece may come again with more frames.
    Growing,
}

/// Some seconds of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArchivePiece {
    /// Which of the stream's recordings.
    pub(crate) generation: u64,
    /// The first frame. Of a recording without frames 0:0.
    pub(crate) first: Offset,
    /// Where the next piece begins, or after the last frame there is.
    pub(crate) next: Offset,
    /// Media time of the first frame, in milliseconds.
    pub(crate) start_ms: u64,
    /// Where the next piece begins, or the end of what there is.
    pub(crate) end_ms: u64,
    /// Codec headers and metadata in force at the first frame, metadata first, as they came.
    pub(crate) preface: Vec<Frame>,
    /// In order, of one epoch. Empty only in a recording without frames.
    pub(crate) frames: Vec<Frame>,
    /// What comes after it.
    pub(crate) follows: Follows,
}

#[cfg(test)]
mod tests;
