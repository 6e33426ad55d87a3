//! A store that fails when it is told to, frames, and a plain model of pieces.

use std::collections::VecDeque;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use headwater_media::file::Grid;
use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use headwater_media::name::StreamName;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::{ArchiveConfig, Archives, Follows, Reader};
use super::disk::TestDisk;

/// What happens to a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Works,
    /// Fails, and nothing is there.
    FailsBefore,
    /// Fails, and it is there.
    FailsAfter,
    /// Works, and no answer ever comes.
    Hangs,
    /// No space.
    Full,
    Denied,
    /// Does not get to the store before it is [let through](Store::let_through).
    Waits,
}

/// An [`InMemory`] with faults for the next puts. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    inner: Arc<InMemory>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    /// How many objects may still be deleted, before that hangs.
    deletions: Arc<Mutex<Option<usize>>>,
    /// What is part of the paths that cannot be read or listed now.
    unreadable: Arc<Mutex<Option<&'static str>>>,
    /// What lets puts through that wait.
    gate: Arc<Notify>,
    /// How often it was listed.
    pub(super) listings: Arc<AtomicUsize>,
    /// Objects that were asked for.
    pub(super) reads: Arc<Mutex<Vec<String>>>,
}

impl Store {
    pub(super) fn fault(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().extend(faults);
    }

    pub(super) fn heal(&self) {
        self.faults.lock().clear();
    }

    /// Reading or listing what has this in its path fails from now on, as with a store that is busy.
    pub(super) fn keep_from_reading(&self, what: Option<&'static str>) {
        *self.unreadable.lock() = what;
    }

    fn check_readable(&self, path: &Path) -> Result<()> {
        let unreadable = *self.unreadable.lock();
        match unreadable.is_some_and(|what| path.as_ref().contains(what)) {
            true => Err(failure(std::io::ErrorKind::ConnectionReset)),
            false => Ok(()),
        }
    }

    pub(super) fn allow_deletions(&self, count: Option<usize>) {
        *self.deletions.lock() = count;
    }

    /// Waits for the put that is to wait.
    pub(super) async fn put_waits(&self) {
        while !self.faults.lock().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// The put that waits goes on.
    pub(super) fn let_through(&self) {
        self.gate.notify_one();
    }

    /// Paths of all objects.
    pub(super) async fn paths(&self) -> Vec<String> {
        let listed: Vec<ObjectMeta> = self.inner.list(None).try_collect().await.unwrap();
        listed
            .into_iter()
            .map(|meta| meta.location.to_string())
            .collect()
    }

    /// Past all faults.
    pub(super) fn raw(&self) -> &InMemory {
        &self.inner
    }
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty")
    }
}

fn failure(source: std::io::ErrorKind) -> object_store::Error {
    object_store::Error::Generic {
        store: "faulty",
        source: std::io::Error::from(source).into(),
    }
}

#[async_trait::async_trait]
impl ObjectStore for Store {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.faults.lock().pop_front().unwrap_or(Fault::Works);
        match fault {
            Fault::FailsBefore => return Err(failure(std::io::ErrorKind::ConnectionReset)),
            Fault::Full => return Err(failure(std::io::ErrorKind::StorageFull)),
            Fault::Denied => return Err(failure(std::io::ErrorKind::PermissionDenied)),
            Fault::Waits => self.gate.notified().await,
            Fault::Works | Fault::FailsAfter | Fault::Hangs => {}
        }
        let put = self.inner.put_opts(location, payload, options).await;
        match fault {
            Fault::FailsAfter => Err(failure(std::io::ErrorKind::ConnectionReset)),
            Fault::Hangs => std::future::pending().await,
            _ => put,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reads.lock().push(location.to_string());
        self.check_readable(location)?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let allowed = self.deletions.clone();
        let admitted = locations.then(move |location| {
            let hangs = match &mut *allowed.lock() {
                Some(0) => true,
                Some(count) => {
                    *count -= 1;
                    false
                }
                None => false,
            };
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                location
            }
        });
        self.inner.delete_stream(admitted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listings.fetch_add(1, Ordering::Relaxed);
        match prefix.map_or(Ok(()), |prefix| self.check_readable(prefix)) {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures_util::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

pub(super) fn name(stream: &str) -> StreamName {
    StreamName::new("_defaultVHost_", "live", "_definst_", stream).unwrap()
}

/// Small segments and pieces, and no wait between syncs.
pub(super) fn config() -> ArchiveConfig {
    ArchiveConfig {
        segment_ms: 400,
        segment_bytes: 8_000,
        held_bytes: 128_000,
        grid: Grid {
            every_ms: 200,
            max_bytes: 4_000,
        },
        sync_ms: 0,
        journal_file_bytes: 16_000,
        store_timeout: std::time::Duration::from_secs(2),
        segments: None,
    }
}

pub(super) fn archives(store: &Store, journal: &FilePath, durable_locally: bool) -> Archives {
    archives_on(store, journal, durable_locally, TestDisk::default())
}

pub(super) fn archives_on(
    store: &Store,
    journal: &FilePath,
    durable_locally: bool,
    disk: TestDisk,
) -> Archives {
    let store = Arc::new(store.clone());
    let disk = Box::new(disk);
    Archives::with_disk(store, journal.to_owned(), durable_locally, config(), disk).unwrap()
}

/// The frame at `sequence` of a stream with metadata, headers, pictures of about 40 ms with a key frame every 5, and sound. An epoch's
/// frames begin at `start_ms`.
pub(super) fn frame(epoch: u64, sequence: u64, start_ms: u64) -> Frame {
    let (kind, flags) = match sequence {
        0 => (FrameKind::Data, FrameFlags::METADATA),
        1 => (FrameKind::Video, FrameFlags::HEADER),
        2 => (FrameKind::Audio, FrameFlags::HEADER),
        // Once more, in the middle.
        37 => (FrameKind::Video, FrameFlags::HEADER),
        n if n % 15 == 3 => (FrameKind::Video, FrameFlags::KEY),
        n if n % 3 == 0 => (FrameKind::Video, FrameFlags::empty()),
        n if n % 31 == 1 => (FrameKind::Data, FrameFlags::empty()),
        _ => (FrameKind::Audio, FrameFlags::empty()),
    };
    let mut payload = match (kind, flags.contains(FrameFlags::HEADER)) {
        (FrameKind::Data, _) => b"\x02\x00\x0aonMetaData\x05".to_vec(),
        (FrameKind::Video, true) => vec![0x17, 0, 0, 0, 0],
        (FrameKind::Video, false) => vec![0x27, 1, 0, 0, 0],
        (FrameKind::Audio, true) => vec![0xaf, 0],
        (FrameKind::Audio, false) => vec![0xaf, 1],
    };
    payload.extend_from_slice(&epoch.to_be_bytes());
    payload.extend_from_slice(&sequence.to_be_bytes());
    let longer = if flags.contains(FrameFlags::KEY) {
        700
    } else {
        40 + sequence as usize % 50
    };
    payload.resize(payload.len() + longer, sequence as u8);
    Frame {
        offset: Offset {
            epoch: Epoch(epoch),
            sequence,
        },
        timestamp: start_ms + sequence.saturating_sub(3) * 13,
        kind,
        flags,
        payload: Bytes::from(payload),
    }
}

pub(super) fn frames(epoch: u64, count: u64, start_ms: u64) -> Vec<Frame> {
    (0..count)
        .map(|sequence| frame(epoch, sequence, start_ms))
        .collect()
}

/// Everything that a reader has, as a whole.
pub(super) async fn read_all(reader: &Reader) -> Vec<Frame> {
    let batches: Vec<Vec<Frame>> = reader.frames(None).try_collect().await.unwrap();
    batches.concat()
}

/// A piece by the words of the grid, looking at all frames at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ModelPiece {
    pub(super) frames: Vec<Frame>,
    pub(super) preface: Vec<Frame>,
}

/// Cuts a whole recording.
pub(super) fn model_pieces(all: &[Frame], grid: Grid) -> Vec<ModelPiece> {
    const COST: usize = 64;
    let mut pieces: Vec<ModelPiece> = Vec::new();
    let Some(first) = all.first() else {
        return pieces;
    };
    let mut cell = 0;
    for (at, frame) in all.iter().enumerate() {
        let in_epoch: Vec<&Frame> = (all[..at].iter())
            .filter(|before| before.offset.epoch == frame.offset.epoch)
            .collect();
        let has = |kind: FrameKind| {
            in_epoch
                .iter()
                .any(|f| f.kind == kind && !f.flags.contains(FrameFlags::HEADER))
        };
        let starts = !frame.flags.contains(FrameFlags::HEADER)
            && match frame.kind {
                FrameKind::Video => frame.flags.contains(FrameFlags::KEY),
                FrameKind::Audio => !has(FrameKind::Video),
                FrameKind::Data => !has(FrameKind::Video) && !has(FrameKind::Audio),
            };
        let own = frame.timestamp.saturating_sub(first.timestamp) / grid.every_ms;
        let is_new = in_epoch.is_empty();
        let is_due = starts && own > cell;
        let bytes: usize = pieces.last().map_or(0, |piece| {
            piece.frames.iter().map(|f| f.payload.len() + COST).sum()
        });
        if is_new || is_due {
            cell = cell.max(own);
        }
        if is_new || is_due || bytes + frame.payload.len() + COST > grid.max_bytes {
            // The newest of each: by kind is enough for these frames.
            let newest = |kind: FrameKind| {
                let in_force = FrameFlags::HEADER | FrameFlags::METADATA;
                let mut found = in_epoch.iter().rev();
                found
                    .find(|f| f.kind == kind && f.flags.intersects(in_force))
                    .copied()
            };
            let preface = [FrameKind::Data, FrameKind::Video, FrameKind::Audio];
            pieces.push(ModelPiece {
                frames: Vec::new(),
                preface: preface.into_iter().filter_map(newest).cloned().collect(),
            });
        }
        pieces.last_mut().unwrap().frames.push(frame.clone());
    }
    pieces
}

/// Walks all pieces from the beginning and compares them with the model of `all`.
pub(super) async fn check_pieces(reader: &Reader, all: &[Frame]) {
    let expected = model_pieces(all, config().grid);
    let mut at = Offset::default();
    for (number, model) in expected.iter().enumerate() {
        let piece = reader.piece_at(at).await.unwrap();
        assert_eq!(piece.frames, model.frames, "piece {number}");
        assert_eq!(piece.preface, model.preface, "piece {number}");
        assert_eq!(piece.first, model.frames[0].offset);
        let is_last = number + 1 == expected.len();
        assert_eq!(piece.follows == Follows::Piece, !is_last, "piece {number}");
        if !is_last {
            assert_eq!(piece.next, expected[number + 1].frames[0].offset);
        }
        for frame in model.frames.iter().step_by(7) {
            assert_eq!(
                reader.piece_at(frame.offset).await.unwrap().first,
                piece.first
            );
        }
        at = piece.next;
    }
    let end = all.last().map(|last| last.offset.next());
    assert_eq!(at, end.unwrap_or_default());
}
