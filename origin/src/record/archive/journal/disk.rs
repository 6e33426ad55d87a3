//! The few things that the journal asks of a file system.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// Makes files.
pub(in crate::record::archive) trait Disk: Send {
    /// A new file, whose name is on the disk when this returns.
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
}

/// A file that is written from its beginning.
pub(in crate::record::archive) trait DiskFile: Send {
    /// Writes all of it at the end.
    fn append(&mut self, data: &[u8]) -> io::Result<()>;

    /// When this returns, what was written is on the disk.
    fn sync(&mut self) -> io::Result<()>;

    /// Drops what stands after `length`.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

/// The operating system's.
#[derive(Debug)]
pub(in crate::record::archive) struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Box::new(LocalFile(file)))
    }
}

struct LocalFile(File);

impl DiskFile for LocalFile {
    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.0.write_all(data)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)?;
        self.0.seek(SeekFrom::Start(length)).map(drop)
    }
}
