//! A store with faults.

use std::fmt;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

use super::*;

/// What it does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Works,
    /// Answers nothing, until it does something else.
    Hangs,
    /// Takes nothing, and gives what is there.
    Full,
    /// Refuses everything.
    Refuses,
}

#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    objects: Arc<InMemory>,
    mode: watch::Sender<Mode>,
    /// Requests for what is in an object.
    gets: Arc<AtomicU64>,
}

impl Faulty {
    pub(crate) fn new() -> (Self, Arc<dyn ObjectStore>) {
        let faulty = Self {
            objects: Arc::default(),
            mode: watch::Sender::new(Mode::Works),
            gets: Arc::default(),
        };
        (faulty.clone(), Arc::new(faulty))
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub(super) fn gets(&self) -> u64 {
        self.gets.load(Ordering::Relaxed)
    }

    async fn pass(&self, is_write: bool) -> Result<()> {
        let mut mode = self.mode.subscribe();
        let now = *mode.wait_for(|mode| *mode != Mode::Hangs).await.unwrap();
        match now {
            Mode::Full if is_write => Err(failure("no space left on device")),
            Mode::Refuses => Err(failure("access denied")),
            _ => Ok(()),
        }
    }
}

fn failure(why: &'static str) -> Error {
    Error::Generic {
        store: "faulty",
        source: why.into(),
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.pass(true).await?;
        self.objects.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.pass(true).await?;
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.pass(false).await?;
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let faulty = self.clone();
        let passed = locations.and_then(move |location| {
            let faulty = faulty.clone();
            async move { faulty.pass(true).await.map(|()| location) }
        });
        self.objects.delete_stream(passed.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let faulty = self.clone();
        let listed = self.objects.list(prefix);
        listed
            .and_then(move |meta| {
                let faulty = faulty.clone();
                async move { faulty.pass(false).await.map(|()| meta) }
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.pass(false).await?;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.pass(true).await?;
        self.objects.copy_opts(from, to, options).await
    }
}
