//! What a recorder needs of the archive of segments: little, so that its tests can do with memory and failures to order.

use std::future::Future;

use futures_util::stream::BoxStream;
use headwater_media::frame::{Frame, Offset};
use headwater_media::name::StreamName;

/// Why the archive did not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct VaultError {
    pub(crate) cause: Cause,
    pub(crate) text: String,
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Another owner has taken the recording over.
    Fenced,
    /// It is not there.
    NotFound,
    /// What is stored cannot be read.
    Corrupt,
    /// The disk, or a quota of it, is full.
    Full,
    /// Permissions, a read-only disk, a folder where a file should be or the other way round.
    NoAccess,
    /// The store does not answer, or fails otherwise, or more waits for it than may: worth another try. A writer stays good.
    Unavailable,
}

impl Cause {
    /// Whether asking again finds the same.
    pub(crate) fn is_of_what_is_stored(self) -> bool {
        matches!(self, Self::NotFound | Self::Corrupt)
    }
}

/// What is stored of one generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The first offset that is not stored; `None` where nothing is.
    pub(crate) next: Option<Offset>,
    /// Media time of the first frame and the end of the last, in milliseconds.
    pub(crate) start_ms: u64,
    pub(crate) end_ms: u64,
    /// Payload bytes.
    pub(crate) bytes: u64,
    /// It was finished, and nobody has taken it over since.
    pub(crate) is_complete: bool,
}

/// Generations of recordings, by the stream's name.
pub(crate) trait Vault: Clone + Send + Sync + 'static {
    type Writer: Ledger<Reader = Self::Reader>;
    type Reader: Stored;

    /// Those that are stored, oldest first.
    fn generations(
        &self,
        name: &StreamName,
    ) -> impl Future<Output = Result<Vec<u64>, VaultError>> + Send;

    /// A new one, newer than all.
    fn create(
        &self,
        name: &StreamName,
    ) -> impl Future<Output = Result<Self::Writer, VaultError>> + Send;

    /// Writes on behind what is stored, whoever wrote that; the writer before finds itself fenced.
    fn take_over(
        &self,
        name: &StreamName,
        generation: u64,
    ) -> impl Future<Output = Result<Self::Writer, VaultError>> + Send;

    /// Reads what is stored, perhaps without what only this machine has of it.
    fn open(
        &self,
        name: &StreamName,
        generation: u64,
    ) -> impl Future<Output = Result<Self::Reader, VaultError>> + Send;

    /// What is stored, with what only this machine has of it.
    fn kept(
        &self,
        name: &StreamName,
        generation: u64,
    ) -> impl Future<Output = Result<Kept, VaultError>> + Send;

    /// Whether this machine has something of it that readers cannot find yet.
    fn is_left_open(&self, name: &StreamName, generation: u64) -> bool;

    fn delete(
        &self,
        name: &StreamName,
        generation: u64,
    ) -> impl Future<Output = Result<(), VaultError>> + Send;
}

/// One generation that is being written.
pub(crate) trait Ledger: Send + Sync + 'static {
    type Reader: Stored;

    fn generation(&self) -> u64;

    /// What is written, durable or not.
    fn kept(&self) -> Kept;

    /// Lets go of what is older than the newest `ms` milliseconds, little by little. 0: keeps all.
    fn keep_window(&mut self, ms: u64);

    /// Writes frames, which may leave holes but never go back.
    fn append(&mut self, frames: &[Frame]) -> impl Future<Output = Result<(), VaultError>> + Send;

    /// Makes durable what can be now, and gives the first offset that is not durable; `None` where nothing is stored.
    fn sync(&mut self) -> impl Future<Output = Result<Option<Offset>, VaultError>> + Send;

    /// Leaves what is not durable where this machine finds it again, and waits until it is there.
    fn journal(&mut self) -> impl Future<Output = Result<(), VaultError>> + Send;

    /// Makes everything durable where others find it. Nothing more is to come.
    fn finish(&mut self) -> impl Future<Output = Result<(), VaultError>> + Send;

    /// The same, but another owner goes on.
    fn hand_over(&mut self) -> impl Future<Output = Result<(), VaultError>> + Send;

    /// Whether there is nothing left to do for [`Self::sync`].
    fn is_settled(&self) -> bool;

    /// Sees what is written from now on, too.
    fn reader(&self) -> Self::Reader;
}

/// One generation that can be read.
pub(crate) trait Stored: Clone + Send + Sync + 'static {
    fn kept(&self) -> Kept;

    /// All frames that there are, in their order, in batches that fit into memory. Ends after the first error.
    fn frames(&self) -> BoxStream<'static, Result<Vec<Frame>, VaultError>>;
}
