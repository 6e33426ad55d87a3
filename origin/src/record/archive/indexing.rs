//! The stored index of a recording that is written, and the end of segments that nobody is to read any more.
//!
//! # Windows
//! A recording with a window is kept as long as that, and a little more: when enough segments are older, an index without them is
//! stored, and after it they are deleted. Who finds the index knows that they are not missing but gone. The recording's very first
//! segment, which has no frames, stays: as long as it is there, there is a recording.
//!
//! A process that dies in between leaves segments that no index has. The next trimming deletes them.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use headwater_media::segment::Index;
use object_store::path::Path;
use object_store::{ObjectStore, PutOptions};
use tokio_util::task::AbortOnDropHandle;

use super::error::ArchiveError;
use super::keys;
use super::load::limited;
use super::shared::Shared;

/// Segments after which the index over all of them is stored, in place of the one before: what a recording costs to open beyond its
/// index is at most as many footers.
const SEGMENTS_PER_INDEX: u64 = 64;

/// Segments that have left the window before they are deleted, together.
const SEGMENTS_PER_TRIM: u64 = 8;

/// See the [module](self). Nothing of it is waited for.
#[derive(Debug)]
pub(super) struct Indexing {
    /// How much of the recording is kept, milliseconds. 0: all.
    pub(super) window_ms: u64,
    /// Segments that were in the last index that was stored, about.
    indexed: u64,
    task: Option<AbortOnDropHandle<()>>,
}

impl Indexing {
    /// Of a recording that has `segments` now.
    pub(super) fn new(segments: u64) -> Self {
        Self {
            window_ms: 0,
            indexed: segments - segments % SEGMENTS_PER_INDEX,
            task: None,
        }
    }

    /// Stores the index when it is time to, and trims. An index saves time later, nothing depends on it but what is trimmed: an error is
    /// left to the next one.
    pub(super) fn after_segment(&mut self, shared: &Arc<Shared>) {
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let state = shared.state.read();
        let count = state.index.next_number();
        let first = self.first_to_keep(&state.index);
        if first.is_none() && count - self.indexed.min(count) < SEGMENTS_PER_INDEX {
            return;
        }
        let mut index = state.index.clone();
        drop(state);
        if let Some(first) = first {
            index.drop_before(first);
        }
        self.indexed = count;
        let work = store(Arc::clone(shared), index, first);
        self.task = Some(AbortOnDropHandle::new(tokio::spawn(work)));
    }

    fn first_to_keep(&self, index: &Index) -> Option<u64> {
        let end_ms = index.last()?.end_ms;
        let first = index.first_to_keep(end_ms.checked_sub(self.window_ms)?)?;
        let dropped = index.segments().iter().take_while(|it| it.number < first);
        let is_enough = dropped.count() as u64 >= SEGMENTS_PER_TRIM;
        (self.window_ms > 0 && is_enough).then_some(first)
    }
}

async fn store(shared: Arc<Shared>, index: Index, first: Option<u64>) {
    let Some(number) = index.next_number().checked_sub(1) else {
        return;
    };
    let path = keys::index(&shared.folder, number);
    let put = shared
        .objects
        .put_opts(&path, index.encode().into(), PutOptions::default());
    if let Err(error) = limited(shared.timeout, put).await {
        tracing::debug!(index = %path, %error, "an index cannot be stored");
        return;
    }
    if let Some(first) = first {
        shared.state.write().index.drop_before(first);
    }
    if let Err(error) = tidy(&shared, first, number).await {
        tracing::debug!(%error, stream = %shared.recording.name, "what is old cannot be deleted now");
    }
}

/// Deletes the segments before `first`, but the very first one, and the indexes before `index`.
async fn tidy(shared: &Shared, first: Option<u64>, index: u64) -> Result<(), ArchiveError> {
    if let Some(first) = first {
        let segments = keys::segments(&shared.folder);
        let begin = keys::segment(&shared.folder, 0);
        let is_gone = |number| 0 < number && number < first;
        delete(shared, &segments, &begin, is_gone).await?;
    }
    let indexes = keys::indexes(&shared.folder);
    delete(shared, &indexes, &indexes, |number| number < index).await
}

/// Deletes what is in a folder after `offset`, by number.
async fn delete(
    shared: &Shared,
    folder: &Path,
    offset: &Path,
    which: impl Fn(u64) -> bool,
) -> Result<(), ArchiveError> {
    let listing = shared.objects.list_with_offset(Some(folder), offset);
    let listed = limited(shared.timeout, listing.try_collect::<Vec<_>>()).await?;
    let paths: Vec<_> = (listed.into_iter().map(|meta| meta.location))
        .filter(|path| keys::number(path).is_some_and(&which))
        .map(Ok)
        .collect();
    let deleting = shared
        .objects
        .delete_stream(futures_util::stream::iter(paths).boxed());
    let mut deleting = std::pin::pin!(deleting);
    loop {
        match limited(shared.timeout, async { deleting.next().await.transpose() }).await {
            Ok(Some(_)) | Err(ArchiveError::NotFound) => {}
            Ok(None) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
