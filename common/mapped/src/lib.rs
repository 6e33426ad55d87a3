//! Files mapped into memory for reading, which somebody else may cut short at any time.
//!
//! A page of a map that lies past the end of its file, because the file was truncated after it had been mapped, or that the disk
//! cannot give, raises SIGBUS in the thread that touches it (POSIX.1-2017 `mmap`, mmap(2)), and SIGBUS ends the process. Media
//! files belong to their users, who replace them with `cp` and cut them while they are played, so this crate turns that signal
//! into an error of the one read that met it.
//!
//! | module | what it holds |
//! |---|---|
//! | `map` | a map and the copying out of it |
//! | `registry` | where the maps of the process are, readable from a signal handler |
//! | `signal` | the handler of SIGBUS |
//!
//! # Why this is sound
//! - *Nobody ever has a reference into a map.* Bytes are copied out of it through raw pointers into memory of our own; what another
//!   process writes into the file while they are copied changes what the copy holds, not what Rust may assume.
//! - *A range is registered exactly while it is mapped and in use*: registered after `mmap`, released before `munmap`. So registered
//!   ranges never overlap, and a thread that faults within one holds the map, which therefore stays as it is until the handler is
//!   done.
//! - *The handler does nothing that a handler may not do*: it reads and writes atomics, and makes the one system call `mmap`. It takes no
//!   lock, allocates nothing, and keeps `errno`.
//! - *Torn before mended.* The handler first marks the map as torn, then lays zero pages over all of it. A copy looks at the mark after
//!   its last byte; a copy that read a zero page sees the mark, because putting pages in place of others makes every processor of
//!   the process give up what it knew of them (a TLB shootdown), which orders the mark before the pages. So zeros never get out.
//! - *Signals of others stay theirs.* What is not a fault within a registered map goes to the handler that was there before; with
//!   none, the process ends as it would have.
//!
//! # What it does not do
//! It does not notice bytes that were changed in place: who needs to know compares times of modification. It maps on Linux only;
//! elsewhere, and where too many maps are in use, it reads with `pread`. A library that installs a handler of SIGBUS after the first map was
//! made, and does not pass on what is not its own, takes the protection away.

#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(target_os = "linux")]
mod map;
#[cfg(target_os = "linux")]
mod registry;
#[cfg(target_os = "linux")]
mod signal;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

/// A file that is open for reading, mapped where that is possible. It keeps the file open.
#[derive(Debug)]
pub struct Mapped {
    #[cfg(target_os = "linux")]
    map: Option<map::Map>,
    file: File,
    length: u64,
}

impl Mapped {
    /// Maps all of `file`, as long as it is now. The first call of the process installs a handler of SIGBUS.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for what is no regular file; what `fstat` gives. A file that cannot be mapped is no error, it
    /// is read without.
    pub fn open(file: File) -> io::Result<Self> {
        let opened = Self::open_without_map(file)?;
        #[cfg(target_os = "linux")]
        let opened = Self {
            map: map::Map::new(&opened.file, opened.length, &signal::REGISTRY),
            ..opened
        };
        Ok(opened)
    }

    fn open_without_map(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(Self {
            #[cfg(target_os = "linux")]
            map: None,
            length: metadata.len(),
            file,
        })
    }

    /// Bytes of the file when it was opened.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether it is read through a map.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        #[cfg(target_os = "linux")]
        return self.map.is_some();
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// Reads exactly `length` bytes from byte `offset` on. Blocks while the disk works.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the file ends before that, or ended when it was read; after a fault, for every read.
    /// [`io::ErrorKind::OutOfMemory`] where there is none for so many bytes; others as the file system has them.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let end = offset
            .checked_add(length as u64)
            .filter(|end| *end <= self.length)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        #[cfg(target_os = "linux")]
        if let Some(map) = &self.map {
            // Cheaper than a fault. The file may still be cut between this and the copy.
            self.reaches(end)?;
            let bytes = map.copy(offset, length)?;
            // A cut within a page raises no signal, it makes the rest of that page zeros.
            self.reaches(end)?;
            return Ok(bytes);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = end;
        let mut bytes = reserve(length)?;
        bytes.resize(length, 0);
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

#[cfg(target_os = "linux")]
impl Mapped {
    /// Whether the file still has all bytes before `end`.
    fn reaches(&self, end: u64) -> io::Result<()> {
        if self.file.metadata()?.len() < end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// An empty vector with room for exactly `length` bytes.
fn reserve(length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(length)
        .map_err(|_| io::ErrorKind::OutOfMemory)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;

    fn file(folder: &Path, bytes: &[u8]) -> File {
        let path = folder.join("file");
        File::create(&path).unwrap().write_all(bytes).unwrap();
        File::open(path).unwrap()
    }

    /// Mapped and not mapped must not differ.
    fn both(folder: &Path, bytes: &[u8]) -> [Mapped; 2] {
        let mapped = Mapped::open(file(folder, bytes)).unwrap();
        let plain = Mapped::open_without_map(file(folder, bytes)).unwrap();
        assert_eq!(
            mapped.is_mapped(),
            cfg!(target_os = "linux") && !bytes.is_empty()
        );
        assert!(!plain.is_mapped());
        [mapped, plain]
    }

    #[test]
    fn every_range_is_what_the_file_holds() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..10_007_u32).map(|at| (at % 251) as u8).collect();
        for mapped in both(folder.path(), &bytes) {
            assert_eq!(mapped.length(), 10_007);
            for (offset, length) in [
                (0, 10_007),
                (0, 0),
                (10_007, 0),
                (1, 4_096),
                (4_095, 2),
                (10_006, 1),
            ] {
                let read = mapped.read_at(offset as u64, length).unwrap();
                assert_eq!(read, &bytes[offset..offset + length]);
            }
        }
    }

    #[test]
    fn what_is_past_the_end_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for mapped in both(folder.path(), b"abc") {
            for (offset, length) in [(0, 4), (3, 1), (4, 0), (u64::MAX, 1), (1, usize::MAX)] {
                let error = mapped.read_at(offset, length).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{offset}");
            }
        }
    }

    #[test]
    fn an_empty_file_has_nothing_to_read() {
        let folder = tempfile::tempdir().unwrap();
        for mapped in both(folder.path(), b"") {
            assert_eq!(mapped.length(), 0);
            assert_eq!(mapped.read_at(0, 0).unwrap(), Bytes::new());
            assert!(mapped.read_at(0, 1).is_err());
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for path in ["/dev/null", "/"] {
            let error = Mapped::open(File::open(path).unwrap()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }

    #[test]
    fn a_file_that_was_cut_gives_what_is_left_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for cut in [0, 1, 4_096, 5_000] {
            for mapped in both(folder.path(), &[7; 10_000]) {
                let writer = File::options().write(true).open(&path).unwrap();
                writer.set_len(cut).unwrap();
                let kept = usize::try_from(cut).unwrap();
                assert_eq!(mapped.read_at(0, kept).unwrap(), vec![7; kept]);
                let error = mapped.read_at(0, kept + 1).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                assert_eq!(mapped.length(), 10_000);
            }
        }
    }

    #[test]
    fn a_file_that_was_replaced_stays_readable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for mapped in both(folder.path(), &[7; 10_000]) {
            let other = folder.path().join("other");
            File::create(&other).unwrap().write_all(&[8; 100]).unwrap();
            std::fs::rename(&other, &path).unwrap();
            assert_eq!(mapped.read_at(0, 10_000).unwrap(), vec![7; 10_000]);
        }
    }
}
