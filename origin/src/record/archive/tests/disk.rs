//! A disk that gets full, fails to sync, and loses what was not synced.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::journal::{Disk, DiskFile};

/// Real files, faults on demand, and no waiting for real disks. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct TestDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that may still be written.
    room: Option<usize>,
    failing_syncs: u32,
    failing_truncations: u32,
    /// Bytes of each file that were on the disk at its last sync.
    synced: BTreeMap<PathBuf, u64>,
}

impl TestDisk {
    pub(super) fn set_room(&self, room: Option<usize>) {
        self.state.lock().room = room;
    }

    pub(super) fn fail_syncs(&self, count: u32) {
        self.state.lock().failing_syncs = count;
    }

    pub(super) fn fail_truncations(&self, count: u32) {
        self.state.lock().failing_truncations = count;
    }

    /// What a crash leaves: of what was not synced, as many bytes as `keep` says in 256ths.
    pub(super) fn lose_tails(&self, keep: u8) {
        for (path, synced) in &self.state.lock().synced {
            let Ok(file) = OpenOptions::new().write(true).open(path) else {
                continue;
            };
            let length = file.metadata().unwrap().len();
            let kept = length.saturating_sub(*synced) * u64::from(keep) / 256;
            file.set_len(length.min(synced + kept)).unwrap();
        }
    }
}

impl Disk for TestDisk {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state.lock();
        if state.room == Some(0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        state.synced.insert(path.to_owned(), 0);
        Ok(Box::new(TestFile {
            file,
            path: path.to_owned(),
            state: self.state.clone(),
        }))
    }
}

struct TestFile {
    file: File,
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl DiskFile for TestFile {
    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        let fits = state.room.unwrap_or(usize::MAX).min(data.len());
        self.file.write_all(&data[..fits])?;
        if let Some(room) = &mut state.room {
            *room -= fits;
        }
        if fits < data.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            return Err(io::Error::other("input/output error"));
        }
        let length = self.file.metadata()?.len();
        state.synced.insert(self.path.clone(), length);
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.failing_truncations > 0 {
            state.failing_truncations -= 1;
            return Err(io::Error::other("input/output error"));
        }
        self.file.set_len(length)?;
        self.file.seek(SeekFrom::Start(length)).map(drop)
    }
}
