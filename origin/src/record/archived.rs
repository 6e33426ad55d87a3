//! The archive as recorders use it: [`Archives`] behind [`Vault`].

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use headwater_media::frame::{Frame, Offset};
use headwater_media::name::StreamName;

use crate::store::Store;

use super::archive::{ArchiveError, Archives, LeftOpen, Reader, Summary, Writer};
use super::vault::{Cause, Kept, Ledger, Stored, Vault, VaultError};

/// The archive of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeArchives {
    archives: Archives,
    /// The node's id.
    owner: Arc<str>,
    /// Where folders are left empty behind recordings.
    store: Option<Store>,
}

impl NodeArchives {
    pub(crate) fn new(archives: Archives, owner: &str) -> Self {
        Self {
            archives,
            owner: owner.into(),
            store: None,
        }
    }

    /// Removes the folders of deleted recordings from a store that has folders.
    pub(crate) fn tidying(self, store: &Store) -> Self {
        Self {
            store: Some(store.clone()),
            ..self
        }
    }
}

impl From<ArchiveError> for VaultError {
    fn from(error: ArchiveError) -> Self {
        let cause = match &error {
            ArchiveError::NotFound => Cause::NotFound,
            ArchiveError::Fenced { .. } => Cause::Fenced,
            ArchiveError::Full(_) => Cause::Full,
            ArchiveError::Denied(_) => Cause::NoAccess,
            ArchiveError::Damaged { .. } | ArchiveError::Refused(_) => Cause::Corrupt,
            ArchiveError::Unavailable(_) | ArchiveError::Behind { .. } | ArchiveError::Open => {
                Cause::Unavailable
            }
        };
        Self {
            cause,
            text: error.to_string(),
        }
    }
}

fn kept(summary: &Summary) -> Kept {
    Kept {
        next: summary.first.and(summary.next),
        start_ms: summary.start_ms,
        end_ms: summary.end_ms,
        bytes: summary.bytes,
        is_complete: summary.is_complete,
    }
}

impl Vault for NodeArchives {
    type Writer = ArchiveWriter;
    type Reader = Arc<Reader>;

    async fn generations(&self, name: &StreamName) -> Result<Vec<u64>, VaultError> {
        Ok(self.archives.generations(name).await?)
    }

    async fn create(&self, name: &StreamName) -> Result<ArchiveWriter, VaultError> {
        let writer = self.archives.create(name, &self.owner).await?;
        Ok(ArchiveWriter { writer })
    }

    async fn take_over(
        &self,
        name: &StreamName,
        generation: u64,
    ) -> Result<ArchiveWriter, VaultError> {
        let writer = self
            .archives
            .take_over(name, generation, &self.owner)
            .await?;
        Ok(ArchiveWriter { writer })
    }

    async fn open(&self, name: &StreamName, generation: u64) -> Result<Arc<Reader>, VaultError> {
        Ok(self.archives.open(name, generation).await?)
    }

    async fn kept(&self, name: &StreamName, generation: u64) -> Result<Kept, VaultError> {
        if self.is_left_open(name, generation) {
            let summary = self.archives.left_to_take_over(name, generation).await?;
            return Ok(kept(&summary));
        }
        Ok(self.open(name, generation).await?.kept())
    }

    fn is_left_open(&self, name: &StreamName, generation: u64) -> bool {
        let left = LeftOpen {
            name: name.clone(),
            generation,
        };
        self.archives.left_open().contains(&left)
    }

    async fn delete(&self, name: &StreamName, generation: u64) -> Result<(), VaultError> {
        self.archives.delete(name, generation).await?;
        if let Some(store) = &self.store {
            for folder in Archives::folders(name, generation) {
                store.remove_empty_folders(&folder).await;
            }
        }
        Ok(())
    }
}

/// A recording that is written.
pub(crate) struct ArchiveWriter {
    writer: Writer,
}

impl Ledger for ArchiveWriter {
    type Reader = Arc<Reader>;

    fn generation(&self) -> u64 {
        self.writer.generation()
    }

    fn kept(&self) -> Kept {
        kept(&self.writer.reader().summary())
    }

    fn keep_window(&mut self, ms: u64) {
        self.writer.keep_window(ms);
    }

    async fn append(&mut self, frames: &[Frame]) -> Result<(), VaultError> {
        let mut rest = frames;
        while let Some(first) = rest.first() {
            if self.writer.next_offset().is_some() {
                self.writer.skip_to(first.offset);
            }
            // Up to the next hole.
            let gap = rest.windows(2).position(|pair| match pair {
                [one, two] => two.offset != one.offset.next(),
                _ => false,
            });
            let (run, after) = rest.split_at(gap.map_or(rest.len(), |at| at + 1));
            self.writer.append(run)?;
            rest = after;
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<Option<Offset>, VaultError> {
        Ok(self.writer.sync().await?)
    }

    async fn journal(&mut self) -> Result<(), VaultError> {
        Ok(self.writer.journal_rest().await?)
    }

    async fn finish(&mut self) -> Result<(), VaultError> {
        self.writer.finish().await?;
        Ok(())
    }

    async fn hand_over(&mut self) -> Result<(), VaultError> {
        self.writer.hand_over().await?;
        Ok(())
    }

    fn is_settled(&self) -> bool {
        self.writer.held_bytes() == 0
    }

    fn reader(&self) -> Arc<Reader> {
        self.writer.reader()
    }
}

impl Stored for Arc<Reader> {
    fn kept(&self) -> Kept {
        kept(&self.summary())
    }

    fn frames(&self) -> BoxStream<'static, Result<Vec<Frame>, VaultError>> {
        let frames = Reader::frames(self, None);
        frames.map(|some| Ok(some?)).boxed()
    }
}

#[cfg(test)]
mod tests;
