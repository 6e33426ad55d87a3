//! Media files in the origin's store.

use object_store::path::Path;

use super::library::{Bytes, FileStore, StoreProblem};
use crate::store::{ReadError, Store};

#[tonic::async_trait]
impl FileStore for Store {
    async fn read(&self, path: &Path) -> Result<Bytes, StoreProblem> {
        let opened = self.read(path).await?;
        Ok(Bytes {
            bytes: opened.bytes,
            version: opened.version,
        })
    }

    async fn version(&self, path: &Path) -> Result<u64, StoreProblem> {
        Ok(self.version(path).await?)
    }
}

impl From<ReadError> for StoreProblem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotFound => Self::NotFound,
            ReadError::Denied(why) => Self::Denied(why),
            // It is being replaced: asked again, the store knows the new one.
            ReadError::Replaced => Self::Unavailable(error.to_string()),
            ReadError::Unavailable(why) => Self::Unavailable(why.to_string()),
        }
    }
}
