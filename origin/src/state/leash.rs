//! The object store as one database sees it.
//!
//! A database has tasks of its own that try again for ever what the store refuses, so a store that hangs would keep them, and what they
//! hold, also when nobody wants the database any more. Once its leash is cut, every request of it fails at once, for good, those included
//! that are under way: it can write nothing more, and its tasks end.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
    UploadPart,
};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::StateError;

/// A store that can be cut off. Clones are cut together.
#[derive(Clone, Debug)]
pub(super) struct Leash {
    objects: Arc<dyn ObjectStore>,
    cut: CancellationToken,
    notes: Arc<Notes>,
}

/// What went wrong.
#[derive(Debug)]
struct Notes {
    errors: Counter,
    /// Of the newest request that failed; none since one went well.
    newest: Mutex<Option<String>>,
}

impl Leash {
    pub(super) fn new(objects: Arc<dyn ObjectStore>, errors: Counter) -> Self {
        Self {
            objects,
            cut: CancellationToken::new(),
            notes: Arc::new(Notes {
                errors,
                newest: Mutex::default(),
            }),
        }
    }

    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    /// Cuts it when it is dropped, unless it is disarmed.
    pub(super) fn guard(&self) -> DropGuard {
        self.cut.clone().drop_guard()
    }

    /// Why there was no answer in time.
    pub(super) fn silence(&self) -> StateError {
        match &*self.notes.newest.lock() {
            Some(error) => StateError::unavailable(error),
            None => StateError::unavailable("no answer in time"),
        }
    }

    async fn leashed<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let outcome = tokio::select! {
            biased;
            () = self.cut.cancelled() => return Err(cut_off()),
            outcome = request => outcome,
        };
        self.notes.take(outcome.as_ref().err());
        outcome
    }

    fn leashed_stream<T: Send + 'static>(
        &self,
        found: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let cut = self.cut.clone();
        // An end must not look like that of a whole listing.
        let end = stream::once(async move { cut.is_cancelled().then(|| Err(cut_off())) });
        let end = end.filter_map(|end| async { end });
        let notes = Arc::clone(&self.notes);
        found
            .inspect(move |found| notes.take(found.as_ref().err()))
            .take_until(self.cut.clone().cancelled_owned())
            .chain(end)
            .boxed()
    }
}

impl Notes {
    fn take(&self, error: Option<&Error>) {
        let failed = error.filter(|error| !is_answer(error));
        if let Some(error) = failed {
            self.errors.inc();
            tracing::debug!(%error, "a request of a state store failed");
        }
        *self.newest.lock() = failed.map(ToString::to_string);
    }
}

/// Whether it says something about the object, not about the store.
fn is_answer(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound { .. }
            | Error::AlreadyExists { .. }
            | Error::Precondition { .. }
            | Error::NotModified { .. }
            | Error::NotImplemented { .. }
            | Error::NotSupported { .. }
    )
}

/// Of the kind that is not tried again.
fn cut_off() -> Error {
    Error::NotSupported {
        source: "the database is cut off from the store".into(),
    }
}

impl fmt::Display for Leash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Leash {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.leashed(self.objects.put_opts(location, payload, options))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self
            .leashed(self.objects.put_multipart_opts(location, options))
            .await?;
        Ok(Box::new(Upload {
            upload,
            leash: self.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.leashed(self.objects.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.leashed(self.objects.get_ranges(location, ranges))
            .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.leashed_stream(self.objects.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.leashed_stream(self.objects.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.leashed_stream(self.objects.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.leashed(self.objects.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.leashed(self.objects.copy_opts(from, to, options))
            .await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.leashed(self.objects.rename_opts(from, to, options))
            .await
    }
}

/// An upload in parts, as long as the leash holds.
#[derive(Debug)]
struct Upload {
    upload: Box<dyn MultipartUpload>,
    leash: Leash,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, leash) = (self.upload.put_part(data), self.leash.clone());
        async move { leash.leashed(part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.leash.leashed(self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.leash.leashed(self.upload.abort()).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn what_is_cut_off_gets_errors_and_no_half_listings() {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let errors = Counter::default();
        let leash = Leash::new(Arc::clone(&objects), errors.clone());
        let path = Path::from("a/b");
        leash.put(&path, "1".into()).await.unwrap();
        let mut upload = leash.put_multipart(&Path::from("c")).await.unwrap();
        let other = leash.clone();
        let listed: Vec<_> = leash.list(None).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1);
        let listing = leash.list(None);
        other.cut();
        let listed: Result<Vec<_>> = listing.try_collect().await;
        assert!(matches!(listed, Err(Error::NotSupported { .. })));
        let outcomes = [
            leash.put(&path, "2".into()).await.map(drop),
            leash.get(&path).await.map(drop),
            leash.delete(&path).await,
            upload.put_part("2".into()).await,
            upload.complete().await.map(drop),
        ];
        for outcome in outcomes {
            assert!(matches!(outcome, Err(Error::NotSupported { .. })));
        }
        let left = objects.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(left, "1");
        assert_eq!(errors.get(), 0);
    }

    #[tokio::test]
    async fn the_guard_cuts_unless_it_is_disarmed() {
        let leash = Leash::new(Arc::new(InMemory::new()), Counter::default());
        leash.guard().disarm();
        let path = Path::from("a");
        leash.put(&path, "1".into()).await.unwrap();
        drop(leash.guard());
        leash.put(&path, "2".into()).await.unwrap_err();
    }
}
