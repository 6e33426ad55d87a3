//! Sealed segments, read as media files are: through a map of the file, or from the local cache of a bucket's blocks.
//!
//! A segment never changes once it is there, and is deleted once. So an object of a bucket is asked for when it is opened, and then
//! stays open while it is read: what the cache has of it needs no request. A file is opened for each read, lest its space stay taken.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use headwater_media::file::ReadAt;
use object_store::path::Path;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::archive::{ArchiveError, ReadSegment};
use crate::store::{ReadError, Store};

/// Segments that are read at a time: where the store hangs, no more threads than that hang with it. Others wait.
const MAX_READING: usize = 64;

/// Segments of a bucket that stay open. Each is a name and some numbers.
const MAX_OPEN: usize = 256;

/// See the [module](self).
pub(crate) struct StoredSegments {
    store: Store,
    reading: Arc<Semaphore>,
    /// The one that was read last at the end.
    open: Mutex<VecDeque<(Path, Arc<dyn ReadAt>)>>,
}

impl fmt::Debug for StoredSegments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSegments").finish_non_exhaustive()
    }
}

impl StoredSegments {
    pub(crate) fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            reading: Arc::new(Semaphore::new(MAX_READING)),
            open: Mutex::default(),
        }
    }

    async fn open(&self, path: &Path) -> Result<Arc<dyn ReadAt>, ArchiveError> {
        if let Some(known) = self.take(path) {
            self.keep(path, &known);
            return Ok(known);
        }
        let opened = self.store.read(path).await.map_err(refusal)?.bytes;
        if self.store.is_remote() {
            self.keep(path, &opened);
        }
        Ok(opened)
    }

    fn take(&self, path: &Path) -> Option<Arc<dyn ReadAt>> {
        let mut open = self.open.lock();
        let at = open.iter().position(|(known, _)| known == path)?;
        open.remove(at).map(|(_, bytes)| bytes)
    }

    fn keep(&self, path: &Path, bytes: &Arc<dyn ReadAt>) {
        let mut open = self.open.lock();
        if open.len() >= MAX_OPEN {
            open.pop_front();
        }
        open.push_back((path.clone(), Arc::clone(bytes)));
    }
}

#[tonic::async_trait]
impl ReadSegment for StoredSegments {
    async fn read(&self, path: &Path, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        let reading = Arc::clone(&self.reading).acquire_owned().await;
        let permit = reading.map_err(|error| ArchiveError::Unavailable(error.to_string()))?;
        let bytes = self.open(path).await?;
        let is_whole = range.end <= bytes.length();
        let length = range.end.saturating_sub(range.start);
        let Some(length) = usize::try_from(length).ok().filter(|_| is_whole) else {
            return Err(ArchiveError::Damaged {
                object: path.to_string(),
                offset: bytes.length(),
                what: "shorter than it was",
            });
        };
        let reading = spawn_blocking(move || {
            // Until it is read, also when nobody waits for it any more.
            let _permit = permit;
            bytes.read_at(range.start, length)
        });
        let read = reading.await;
        let read = read.map_err(|error| ArchiveError::Unavailable(error.to_string()))?;
        read.map_err(|error| {
            self.take(path);
            refusal(error.into())
        })
    }
}

fn refusal(error: ReadError) -> ArchiveError {
    match error {
        // Deleted since it was opened: nothing else happens to it.
        ReadError::NotFound | ReadError::Replaced => ArchiveError::NotFound,
        ReadError::Denied(why) => ArchiveError::Denied(why),
        error @ ReadError::Unavailable(_) => ArchiveError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use headwater_node::metrics::Metrics;
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::config::OriginSection;

    #[tokio::test]
    async fn segments_are_read_while_they_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let section = OriginSection {
            data_dir: folder.path().to_owned(),
            ..OriginSection::default()
        };
        let metrics = Metrics::new("test", "test");
        let store = Store::open(&section, &metrics).await.unwrap();
        let segments = StoredSegments::new(&store);
        let path = Path::from("recordings/a/1/segments/0");
        let none = segments.read(&path, 0..1).await.unwrap_err();
        assert!(matches!(none, ArchiveError::NotFound), "{none:?}");
        let put = store.objects().put(&path, "content".into());
        put.await.unwrap();
        assert_eq!(segments.read(&path, 0..7).await.unwrap(), "content");
        assert_eq!(segments.read(&path, 3..4).await.unwrap(), "t");
        let short = segments.read(&path, 3..8).await.unwrap_err();
        assert!(
            matches!(short, ArchiveError::Damaged { offset: 7, .. }),
            "{short:?}"
        );
        store.objects().delete(&path).await.unwrap();
        let gone = segments.read(&path, 0..7).await.unwrap_err();
        assert!(matches!(gone, ArchiveError::NotFound), "{gone:?}");
    }
}
