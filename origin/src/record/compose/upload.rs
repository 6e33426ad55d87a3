//! A file on its way into the store.

use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};

use crate::record::files::{Files, from_store};
use crate::record::target::Target;
use crate::record::vault::VaultError;

/// The least size of a part, in bytes; S3 takes none under 5 MiB but the last.
const PART: usize = 8 << 20;

/// Most parts of an upload that S3 takes, with some room.
const MOST_PARTS: u64 = 9_000;

/// The largest part, in bytes: what is held in memory.
const LARGEST_PART: usize = 256 << 20;

/// See the [module](self). Dropping it before it is complete lets go of what is there.
pub(super) struct Upload {
    upload: Option<Box<dyn MultipartUpload>>,
    buffer: BytesMut,
    part: usize,
    length: u64,
}

impl Upload {
    /// `expected` is how many bytes there will be.
    pub(super) async fn new(
        files: &Files,
        target: &Target,
        expected: u64,
    ) -> Result<Self, VaultError> {
        let upload = files.objects.put_multipart(&target.path).await;
        let part = usize::try_from(expected / MOST_PARTS).unwrap_or(LARGEST_PART);
        Ok(Self {
            upload: Some(upload.map_err(|error| from_store(&error))?),
            buffer: BytesMut::new(),
            part: part.clamp(PART, LARGEST_PART),
            length: 0,
        })
    }

    /// Bytes written so far.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), VaultError> {
        self.length += bytes.len() as u64;
        self.buffer.extend_from_slice(&bytes);
        while self.buffer.len() >= self.part {
            let part = self.buffer.split_to(self.part).freeze();
            self.put(part).await?;
        }
        Ok(())
    }

    /// Sends the last part.
    pub(super) async fn flush(&mut self) -> Result<(), VaultError> {
        let rest = self.buffer.split().freeze();
        match rest.is_empty() {
            true => Ok(()),
            false => self.put(rest).await,
        }
    }

    async fn put(&mut self, part: Bytes) -> Result<(), VaultError> {
        let Some(upload) = &mut self.upload else {
            return Ok(());
        };
        let sent = upload.put_part(PutPayload::from_bytes(part)).await;
        sent.map_err(|error| from_store(&error))
    }

    /// Puts the file in place.
    pub(super) async fn complete(mut self) -> Result<(), VaultError> {
        let Some(mut upload) = self.upload.take() else {
            return Ok(());
        };
        match upload.complete().await {
            Ok(_) => Ok(()),
            Err(error) => {
                abort(upload);
                Err(from_store(&error))
            }
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            abort(upload);
        }
    }
}

/// Tells the store that the parts may go. It is asked once, in the background: a store forgets unfinished uploads by a rule of its own
/// if it does not hear it.
fn abort(mut upload: Box<dyn MultipartUpload>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    runtime.spawn(async move {
        if let Err(error) = upload.abort().await {
            tracing::debug!(%error, "an unfinished upload was not aborted");
        }
    });
}
