//! The data folder: there, and writable, before the origin takes its first stream.
//!
//! Live streams that are not recorded keep nothing in it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::{fs, process};

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It is not there and cannot be made.
    #[error("the data folder {} cannot be made", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file in it cannot be written.
    #[error("the data folder {} cannot be written to", path.display())]
    Write {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes the folder if it is missing, and proves that it can be written to. Blocks for some file operations.
pub(crate) fn prepare(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(|source| StoreError::Create {
        path: path.to_owned(),
        source,
    })?;
    let probe = path.join(format!(".write-test-{}", process::id()));
    let written = write(&probe);
    // Also after an error, as with a full disk; the error that counts is the first one.
    let removed = fs::remove_file(&probe);
    written.and(removed).map_err(|source| StoreError::Write {
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(b"headwater")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_is_made_and_left_empty() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        prepare(&path).unwrap();
        prepare(&path).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_folder_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "").unwrap();
        let error = prepare(&path).unwrap_err();
        assert!(matches!(error, StoreError::Create { .. }), "{error:?}");
        assert!(error.to_string().contains("file"), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_refused() {
        // Holds for root, too: the kernel takes no new files here.
        let error = prepare(Path::new("/proc/self")).unwrap_err();
        assert!(matches!(error, StoreError::Write { .. }), "{error:?}");
    }
}
