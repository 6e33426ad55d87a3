//! One block on its way: asked for, waited for, and told of to all who wait.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_mapped::Mapped;
use headwater_media::file::ReadAt;
use parking_lot::{Condvar, Mutex};
use tokio::sync::SemaphorePermit;
use tokio::task::spawn_blocking;

use super::{Entry, Key, Shared, State};

/// A block that comes.
#[derive(Debug, Default)]
pub(super) struct Coming {
    outcome: Mutex<Option<Result<Block, FetchError>>>,
    arrived: Condvar,
}

/// A block that can be read.
#[derive(Clone, Debug)]
pub(super) enum Block {
    Mapped(Arc<Mapped>),
    /// The disk did not take it.
    Memory(Bytes),
}

/// Why a block did not come.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the object was replaced or deleted")]
    Replaced,
    #[error("denied: {0}")]
    Denied(Arc<str>),
    #[error("the store did not answer in time")]
    TimedOut,
    #[error("the store failed: {0}")]
    Failed(Arc<str>),
}

impl From<object_store::Error> for FetchError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error;
        match &error {
            Error::NotFound { .. } | Error::Precondition { .. } => Self::Replaced,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                Self::Denied(error.to_string().into())
            }
            _ => Self::Failed(error.to_string().into()),
        }
    }
}

impl From<FetchError> for io::Error {
    fn from(error: FetchError) -> Self {
        let kind = match &error {
            FetchError::Replaced => io::ErrorKind::StaleNetworkFileHandle,
            FetchError::Denied(_) => io::ErrorKind::PermissionDenied,
            FetchError::TimedOut => io::ErrorKind::TimedOut,
            FetchError::Failed(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl Coming {
    pub(super) fn wait(&self, patience: Duration) -> Result<Block, FetchError> {
        let deadline = Instant::now() + patience;
        let mut outcome = self.outcome.lock();
        loop {
            if let Some(outcome) = &*outcome {
                return outcome.clone();
            }
            if self.arrived.wait_until(&mut outcome, deadline).timed_out() {
                return Err(FetchError::TimedOut);
            }
        }
    }
}

impl Block {
    pub(super) fn read_at(&self, from: u64, length: usize) -> io::Result<Bytes> {
        match self {
            Self::Mapped(mapped) => mapped.read_at(from, length),
            Self::Memory(bytes) => bytes.read_at(from, length),
        }
    }
}

/// A block that is being fetched. Whoever waits for it hears of it when this is dropped at the latest.
pub(super) struct Fetch {
    shared: Arc<Shared>,
    key: Key,
    pub(super) coming: Arc<Coming>,
    ahead: bool,
}

impl Fetch {
    /// Enters `key` as coming. Must be run, or dropped without the table locked.
    pub(super) fn new(shared: &Arc<Shared>, state: &mut State, key: Key, ahead: bool) -> Self {
        let coming = Arc::new(Coming::default());
        state
            .entries
            .insert(key.clone(), Entry::Coming(Arc::clone(&coming)));
        Self {
            shared: Arc::clone(shared),
            key,
            coming,
            ahead,
        }
    }

    pub(super) async fn run(self) {
        let fetched = tokio::time::timeout(self.shared.timeout, self.fetch())
            .await
            .unwrap_or(Err(FetchError::TimedOut));
        let outcome = match fetched {
            Ok((bytes, _permit)) => {
                let (shared, key) = (Arc::clone(&self.shared), self.key.clone());
                spawn_blocking(move || shared.keep(&key, bytes))
                    .await
                    .map_err(|error| FetchError::Failed(error.to_string().into()))
            }
            Err(error) => Err(error),
        };
        self.finish(outcome);
    }

    /// The bytes, and what allows to have them in memory.
    async fn fetch(&self) -> Result<(Bytes, SemaphorePermit<'_>), FetchError> {
        let (object, number) = (&self.key.object, self.key.number);
        let permit = self
            .shared
            .fetches
            .acquire()
            .await
            .map_err(|error| FetchError::Failed(error.to_string().into()))?;
        let result = self
            .shared
            .objects
            .get_opts(&object.path, object.request(number))
            .await?;
        if !object.is(&result.meta) {
            return Err(FetchError::Replaced);
        }
        let bytes = result.bytes().await?;
        self.shared.metrics.fetched_bytes.inc_by(bytes.len() as u64);
        if bytes.len() as u64 != object.block_length(number) {
            let message = format!("{} bytes instead of a block", bytes.len());
            return Err(FetchError::Failed(message.into()));
        }
        Ok((bytes, permit))
    }

    fn finish(&self, outcome: Result<Block, FetchError>) {
        if self.coming.outcome.lock().is_some() {
            return;
        }
        match &outcome {
            // An object that was replaced is no failure of the store.
            Ok(_) | Err(FetchError::Replaced) => {}
            Err(error) => {
                self.shared.metrics.errors.inc();
                tracing::debug!(%error, object = %self.key.object.path, "a block was not fetched");
            }
        }
        {
            let mut state = self.shared.state.lock();
            state.ahead -= usize::from(self.ahead);
            let ours = matches!(
                state.entries.get(&self.key),
                Some(Entry::Coming(coming)) if Arc::ptr_eq(coming, &self.coming)
            );
            // Before anybody hears of it: who asks again then must not be given this failure.
            if ours {
                state.entries.remove(&self.key);
            }
        }
        *self.coming.outcome.lock() = Some(outcome);
        self.coming.arrived.notify_all();
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.finish(Err(FetchError::Failed("the store was closed".into())));
    }
}
