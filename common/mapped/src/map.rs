//! A map of a whole file, and the copying out of it.
#![expect(
    unsafe_code,
    reason = "a map is raw memory that others may change; it is only ever copied from"
)]

use std::fs::File;
use std::io;
use std::ptr;
use std::sync::atomic::{Ordering, fence};

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};

use crate::registry::{Registration, Registry};
use crate::{reserve, signal};

/// A read-only map. Fields are dropped in this order: the range is released before it is unmapped.
#[derive(Debug)]
pub(crate) struct Map {
    registration: Registration<'static>,
    raw: MmapRaw,
}

impl Map {
    /// Maps the first `length` bytes of `file`. `None` where that cannot be done, or cannot be done safely.
    ///
    /// Only what is registered in [`signal::REGISTRY`] is protected; tests try others with files that nobody cuts.
    pub(crate) fn new<const N: usize>(
        file: &File,
        length: u64,
        registry: &'static Registry<N>,
    ) -> Option<Self> {
        // The kernel maps no empty file.
        let length = usize::try_from(length).ok().filter(|length| *length > 0)?;
        if !signal::install() {
            return None;
        }
        let raw = MmapOptions::new()
            .len(length)
            .map_raw_read_only(file)
            .ok()?;
        let start = raw.as_ptr() as usize;
        let end = start.checked_add(length)?;
        let registration = registry.claim(start, end)?;
        Some(Self { registration, raw })
    }

    /// Copies `length` bytes from `offset` on, which must be within the map.
    pub(crate) fn copy(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let offset = usize::try_from(offset)
            .ok()
            .filter(|offset| {
                offset
                    .checked_add(length)
                    .is_some_and(|end| end <= self.raw.len())
            })
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        self.whole()?;
        let mut bytes = reserve(length)?;
        // SAFETY: `offset` and `length` are within the map, which `self` keeps, and `bytes` has room for `length`; the two do not overlap.
        // A page that is not there is replaced by zeros while this runs. Other processes may write to the file meanwhile: the
        // bytes are then a mix of old and new, as with `read`, and nothing but bytes is made of them.
        unsafe {
            ptr::copy_nonoverlapping(self.raw.as_ptr().add(offset), bytes.as_mut_ptr(), length);
        }
        // The mark is looked at after the last byte was read.
        fence(Ordering::SeqCst);
        self.whole()?;
        // SAFETY: all `length` bytes were written above.
        unsafe { bytes.set_len(length) };
        Ok(bytes.into())
    }

    fn whole(&self) -> io::Result<()> {
        if self.registration.is_torn() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file was cut while it was mapped",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    const LENGTH: usize = 256 * 4_096 + 17;

    fn mapped() -> (File, Map) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; LENGTH]).unwrap();
        let map = Map::new(&file, LENGTH as u64, &signal::REGISTRY).unwrap();
        (file, map)
    }

    /// Without the check of the size that comes before it in production, so that every copy past the cut meets the signal.
    #[test]
    fn a_fault_is_an_error_and_the_map_is_never_read_again() {
        for cut in [0, 4_096, 200_000] {
            let (file, map) = mapped();
            assert_eq!(map.copy(0, LENGTH).unwrap(), vec![7; LENGTH]);
            file.set_len(cut).unwrap();
            let last = LENGTH - 1;
            let error = map.copy(last as u64, 1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
            // Also when the file is whole again: what it holds now is another one's.
            file.set_len(LENGTH as u64).unwrap();
            assert!(map.copy(0, 1).is_err());
            let again = Map::new(&file, LENGTH as u64, &signal::REGISTRY).unwrap();
            assert_eq!(again.copy(last as u64, 1).unwrap(), vec![0]);
        }
    }

    #[test]
    fn a_page_is_readable_up_to_its_end_even_where_the_file_ends_within_it() {
        let (file, map) = mapped();
        file.set_len(5_000).unwrap();
        assert_eq!(map.copy(0, 5_000).unwrap(), vec![7; 5_000]);
    }

    #[test]
    fn a_fault_in_one_map_leaves_the_others_alone() {
        let (first, torn) = mapped();
        let (_second, whole) = mapped();
        first.set_len(0).unwrap();
        assert!(torn.copy(0, LENGTH).is_err());
        assert_eq!(whole.copy(0, LENGTH).unwrap(), vec![7; LENGTH]);
    }

    /// Threads copy all the time while the file is cut: every copy is what the file held, or an error.
    #[test]
    fn zeros_never_get_out_whoever_copies_when_the_file_is_cut() {
        const THREADS: usize = 4;
        for round in 0..200 {
            let (file, map) = mapped();
            let start = Barrier::new(THREADS + 1);
            thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (map, start) = (&map, &start);
                    scope.spawn(move || {
                        start.wait();
                        let offset = thread * 4_096;
                        loop {
                            match map.copy(offset as u64, LENGTH - offset) {
                                // Zeros within the last page of what is left are what the kernel promises, not a fault; so
                                // the file is cut between pages.
                                Ok(bytes) => assert!(bytes.iter().all(|byte| *byte == 7)),
                                Err(error) => {
                                    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                                    break;
                                }
                            }
                        }
                    });
                }
                start.wait();
                for _ in 0..round * 50 {
                    std::hint::spin_loop();
                }
                file.set_len((round % 8) * 32 * 4_096).unwrap();
            });
        }
    }

    #[test]
    fn without_a_free_place_nothing_is_mapped() {
        static SMALL: Registry<1> = Registry::new();
        let (file, _map) = mapped();
        let first = Map::new(&file, LENGTH as u64, &SMALL).unwrap();
        assert!(Map::new(&file, LENGTH as u64, &SMALL).is_none());
        drop(first);
        assert!(Map::new(&file, LENGTH as u64, &SMALL).is_some());
    }

    #[test]
    fn what_is_outside_is_not_copied() {
        let (_file, map) = mapped();
        for (offset, length) in [
            (LENGTH as u64, 1),
            (0, LENGTH + 1),
            (u64::MAX, 1),
            (1, usize::MAX),
        ] {
            assert!(map.copy(offset, length).is_err());
        }
    }
}
