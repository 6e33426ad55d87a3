//! What is stored: recordings of a name, recordings of all names, and their end.

use std::time::{Duration, SystemTime};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use headwater_media::name::StreamName;
use headwater_media::segment::read_header;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::create::Claim;
use super::error::ArchiveError;
use super::journal::LeftOpen;
use super::load::{HEAD, limited};
use super::{Archives, keys};

/// Streams of which the recordings are looked up at the same time, and that make a page.
const PAGE: usize = 64;

/// How much longer than a segment may be nothing may come of a recording that somebody writes.
const WRITTEN_SLACK: Duration = Duration::from_secs(60);

/// How long a recording may have no first segment because it is only being begun, beyond what the store takes to answer a few times.
const BEGINS_WITHIN: Duration = Duration::from_secs(300);
const BEGINS_TIMEOUTS: u32 = 4;

/// Requests at the same time.
const PARALLEL: usize = 16;

/// One stored recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The stream.
    pub(crate) name: StreamName,
    /// Which of its recordings.
    pub(crate) generation: u64,
}

impl Listed {
    /// Path of its folder in the store.
    pub(crate) fn id(&self) -> String {
        keys::generation(&self.name, self.generation).to_string()
    }
}

impl Archives {
    /// The recording whose folder a path is; `None` for a path that is none of a recording's folder.
    ///
    /// # Errors
    /// [`ArchiveError`]; [`ArchiveError::NotFound`] where there is no recording in that folder.
    pub(crate) async fn at(&self, folder: &Path) -> Result<Option<Listed>, ArchiveError> {
        let is_below = folder.prefix_matches(&keys::root()) && folder.parts_count() == 3;
        let Some(generation) = keys::number(folder).filter(|_| is_below) else {
            return Ok(None);
        };
        let listed = self.listed(folder, generation).await?;
        // What stands in the segment has to lead back to where it was found.
        let listed = listed.filter(|listed| listed.id() == folder.as_ref());
        listed.ok_or(ArchiveError::NotFound).map(Some)
    }

    /// Generations of a name, newest last. What is only half there, because it was being deleted or begun when a process died, is left
    /// out. What the journal has of generations that are gone, which ended elsewhere or were deleted there, is
    /// [forgotten](Self::forget).
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(crate) async fn generations(&self, name: &StreamName) -> Result<Vec<u64>, ArchiveError> {
        // Before the store is asked: what is left open after that may have begun after that.
        let mut left = self.left_open();
        left.retain(|left| left.name == *name);
        let stored = self.stored_generations(name).await?;
        for gone in left {
            if !stored.contains(&gone.generation) {
                tracing::info!(stream = %name, generation = gone.generation, "a recording that was left open here is gone");
                self.forget(&gone);
            }
        }
        Ok(stored)
    }

    async fn stored_generations(&self, name: &StreamName) -> Result<Vec<u64>, ArchiveError> {
        let folder = keys::stream(name);
        let checked = stream::iter(self.generations_in(&folder).await?)
            .map(|generation| async move {
                let first = keys::segment(&keys::generation(name, generation), 0);
                match self.limited(self.inner.objects.head(&first)).await {
                    Ok(_) => Ok(Some(generation)),
                    Err(ArchiveError::NotFound) => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .buffered(PARALLEL);
        checked
            .try_filter_map(|generation| std::future::ready(Ok(generation)))
            .try_collect()
            .await
    }

    /// Every generation of a stream that the store has anything of, oldest first.
    pub(super) async fn generations_in(&self, folder: &Path) -> Result<Vec<u64>, ArchiveError> {
        let listing = self.inner.objects.list_with_delimiter(Some(folder));
        let listed = self.limited(listing).await?;
        let mut generations: Vec<u64> = (listed.common_prefixes.iter())
            .filter_map(keys::number)
            .collect();
        generations.sort_unstable();
        Ok(generations)
    }

    /// All recordings in the store, in pages and in the order of their ids, of streams whose folders are `wanted`. One request or two for
    /// each: for tools, not for players.
    pub(crate) fn list<F: Fn(&Path) -> bool + Send + 'static>(
        &self,
        wanted: F,
    ) -> impl Stream<Item = Result<Vec<Listed>, ArchiveError>> + Send + use<F> {
        let archives = self.clone();
        stream::once(async move {
            let root = keys::root();
            let listing = archives.inner.objects.list_with_delimiter(Some(&root));
            let mut streams = archives.limited(listing).await?.common_prefixes;
            streams.retain(wanted);
            streams.sort_by_cached_key(|stream| format!("{stream}/"));
            let pages = stream::iter(streams)
                .chunks(PAGE)
                .then(move |streams| archives.clone().page(streams));
            Ok::<_, ArchiveError>(pages)
        })
        .try_flatten()
        .try_filter(|page| std::future::ready(!page.is_empty()))
    }

    async fn page(self, streams: Vec<Path>) -> Result<Vec<Listed>, ArchiveError> {
        let archives = &self;
        let found = stream::iter(streams)
            .map(|folder| async move {
                let mut listed = Vec::new();
                for generation in archives.generations_in(&folder).await? {
                    let path = keys::in_stream(&folder, generation);
                    listed.extend(archives.listed(&path, generation).await?);
                }
                Ok::<_, ArchiveError>(listed)
            })
            .buffered(PARALLEL);
        Ok(found.try_collect::<Vec<_>>().await?.concat())
    }

    /// Who a recording is of, as its first segment says. What has none, or one that is damaged, is left out.
    async fn listed(&self, folder: &Path, generation: u64) -> Result<Option<Listed>, ArchiveError> {
        let first = keys::segment(folder, 0);
        let head = match self
            .limited(self.inner.objects.get_range(&first, 0..HEAD))
            .await
        {
            Ok(head) => head,
            Err(ArchiveError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        match read_header(&head) {
            Ok(header) => Ok(Some(Listed {
                name: header.name,
                generation,
            })),
            Err(error) => {
                tracing::warn!(segment = %first, %error, "a recording cannot be listed");
                Ok(None)
            }
        }
    }

    /// Whether somebody, perhaps elsewhere, is likely to write it: it is not complete, and its newest segment is not older than one may
    /// take to be followed by the next.
    ///
    /// # Errors
    /// [`ArchiveError`]; none for a recording that is damaged.
    pub(crate) async fn is_being_written(
        &self,
        name: &StreamName,
        generation: u64,
        now: SystemTime,
    ) -> Result<bool, ArchiveError> {
        match self.open(name, generation).await {
            Ok(reader) if reader.summary().is_complete => return Ok(false),
            Ok(_) => {}
            Err(ArchiveError::Damaged { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let folder = keys::segments(&keys::generation(name, generation));
        let listing = self.inner.objects.list(Some(&folder));
        let newest = listing.try_fold(SystemTime::UNIX_EPOCH, |newest, meta| {
            std::future::ready(Ok(newest.max(meta.last_modified.into())))
        });
        let age = now.duration_since(self.limited(newest).await?);
        let longest = Duration::from_millis(self.inner.config.segment_ms.saturating_mul(2));
        // Of a store whose clock is ahead, too.
        Ok(age.unwrap_or_default() < longest + WRITTEN_SLACK)
    }

    /// The folders with the objects of a recording.
    pub(crate) fn folders(name: &StreamName, generation: u64) -> [Path; 2] {
        Self::folders_in(&keys::generation(name, generation))
    }

    /// Those in its folder.
    pub(crate) fn folders_in(folder: &Path) -> [Path; 2] {
        [keys::segments(folder), keys::indexes(folder)]
    }

    /// Deletes a recording: its indexes, then its first segment, after which it counts as gone, then the others. May be called again
    /// after an error.
    ///
    /// # Errors
    /// [`ArchiveError`]; [`ArchiveError::Open`] while it is written, or deleted, in this process.
    pub(crate) async fn delete(
        &self,
        name: &StreamName,
        generation: u64,
    ) -> Result<(), ArchiveError> {
        let recording = LeftOpen {
            name: name.clone(),
            generation,
        };
        // Who went on with it meanwhile would lose what is added.
        let _claim = Claim::new(self, recording.clone()).ok_or(ArchiveError::Open)?;
        self.delete_objects(&keys::generation(name, generation))
            .await?;
        self.forget(&recording);
        Ok(())
    }

    /// Deletes what is left of recordings whose deletion was cut off, because a process died: what is without its first segment. Those
    /// that may just be beginning are left alone, and those that cannot be deleted now to the next call. Gives their folders.
    ///
    /// # Errors
    /// [`ArchiveError`], where it cannot be said which recordings there are.
    pub(crate) async fn finish_deletions(
        &self,
        now: SystemTime,
    ) -> Result<Vec<Path>, ArchiveError> {
        let root = keys::root();
        let listing = self.inner.objects.list_with_delimiter(Some(&root));
        let streams = self.limited(listing).await?.common_prefixes;
        let age = BEGINS_WITHIN + self.inner.config.store_timeout * BEGINS_TIMEOUTS;
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        // A generation is not less than the time at which it began.
        let before = now.saturating_sub(age).as_millis();
        let mut finished = Vec::new();
        for stream in streams {
            let generations = match self.generations_in(&stream).await {
                Ok(generations) => generations,
                Err(error) => {
                    tracing::debug!(%stream, %error, "deletions that were cut off are not looked for");
                    continue;
                }
            };
            for generation in generations {
                if u128::from(generation) >= before {
                    continue;
                }
                let folder = keys::in_stream(&stream, generation);
                match self.finish_deletion(&folder).await {
                    Ok(true) => {
                        tracing::info!(%folder, "the deletion of a recording is finished");
                        finished.push(folder);
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::debug!(%folder, %error, "the deletion of a recording cannot be finished now");
                    }
                }
            }
        }
        Ok(finished)
    }

    /// Deletes what is left of a recording without its first segment. False where that is there.
    async fn finish_deletion(&self, folder: &Path) -> Result<bool, ArchiveError> {
        if self.has_begun(folder).await? {
            return Ok(false);
        }
        self.delete_objects(folder).await?;
        Ok(true)
    }

    /// Whether a recording's first segment is there. Asked in two ways: what is not there is deleted.
    async fn has_begun(&self, folder: &Path) -> Result<bool, ArchiveError> {
        let first = keys::segment(folder, 0);
        match self.limited(self.inner.objects.head(&first)).await {
            Ok(_) => return Ok(true),
            Err(ArchiveError::NotFound) => {}
            Err(error) => return Err(error),
        }
        let listing = self.inner.objects.list(Some(&keys::segments(folder)));
        let found = listing.try_any(|meta| std::future::ready(meta.location == first));
        self.limited(found).await
    }

    pub(super) async fn delete_objects(&self, folder: &Path) -> Result<(), ArchiveError> {
        self.delete_all(&keys::indexes(folder)).await?;
        match self
            .limited(self.inner.objects.delete(&keys::segment(folder, 0)))
            .await
        {
            Ok(()) | Err(ArchiveError::NotFound) => {}
            Err(error) => return Err(error),
        }
        self.delete_all(folder).await
    }

    async fn delete_all(&self, folder: &Path) -> Result<(), ArchiveError> {
        let found = self.inner.objects.list(Some(folder));
        let paths = found.map_ok(|meta| meta.location).boxed();
        let mut deleted = self.inner.objects.delete_stream(paths);
        loop {
            let next = async { deleted.next().await.transpose() };
            match self.limited(next).await {
                Ok(Some(_)) | Err(ArchiveError::NotFound) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn limited<T>(
        &self,
        answer: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, ArchiveError> {
        limited(self.inner.config.store_timeout, answer).await
    }
}
