//! Objects of a bucket as bytes that can be read anywhere: by blocks, which the cache keeps.
//!
//! # Why reading cannot lock up
//! A read blocks the thread that asks, until its blocks are there or the read timeout is over. What fetches them runs on a runtime of its
//! own ([`IoRuntime`]), with threads of its own for what blocks there (writing blocks to the disk, looking up names of hosts). So a
//! fetch never waits for a thread that waits for a fetch, however many readers there are and wherever they run.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use headwater_media::file::ReadAt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

use super::cache::Cache;
use super::cache::parts::MAX_PART;
use super::version;

/// Bytes of a block: some seconds of media, and large enough that the way to the bucket costs little of the time.
pub(super) const BLOCK_BYTES: u64 = 4 << 20;

/// Threads of the runtime that fetches. They encrypt and pass on; a few keep up with any network that a node has.
const IO_THREADS: usize = 2;

/// Threads for what blocks while fetching: no more blocks than that are written to the disk at a time.
const IO_BLOCKING_THREADS: usize = 8;

/// Readers of one object whose places are remembered, to see who reads on.
const POSITIONS: usize = 16;

/// A reader that skips no more than that still reads on, bytes.
const GAP_BYTES: u64 = 256 << 10;

/// A runtime that does nothing but fetch. Dropping it waits for nothing.
pub(super) struct IoRuntime {
    handle: Handle,
    /// Taken when this is dropped.
    runtime: Option<Runtime>,
}

impl IoRuntime {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(IO_THREADS)
            .max_blocking_threads(IO_BLOCKING_THREADS)
            .thread_name("headwater-store")
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for IoRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting, as dropping does, is not allowed on threads of another runtime.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for IoRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoRuntime").finish_non_exhaustive()
    }
}

/// An object as it was when it was opened. Two that are equal have the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Object {
    pub(super) path: Path,
    pub(super) size: u64,
    tag: Option<String>,
    /// Microseconds since 1970; stands in for the tag where there is none.
    modified: i64,
}

impl Object {
    pub(super) fn new(meta: ObjectMeta) -> Self {
        Self {
            path: meta.location,
            size: meta.size,
            tag: meta.e_tag,
            modified: meta.last_modified.timestamp_micros(),
        }
    }

    pub(super) fn version(&self) -> u64 {
        version(|hash| {
            match &self.tag {
                Some(tag) => hash(tag.as_bytes()),
                None => hash(&self.modified.to_le_bytes()),
            }
            hash(&self.size.to_le_bytes());
        })
    }

    /// Whether `meta` is of this object and not of one that took its place.
    pub(super) fn is(&self, meta: &ObjectMeta) -> bool {
        self.size == meta.size
            && match &self.tag {
                Some(_) => self.tag == meta.e_tag,
                None => self.modified == meta.last_modified.timestamp_micros(),
            }
    }

    pub(super) fn blocks(&self) -> u64 {
        self.size.div_ceil(BLOCK_BYTES)
    }

    /// Bytes of the block `number`; 0 past the end.
    pub(super) fn block_length(&self, number: u64) -> u64 {
        let start = number.saturating_mul(BLOCK_BYTES).min(self.size);
        (self.size - start).min(BLOCK_BYTES)
    }

    /// The request for the block `number`, which fails where the object is another one by now.
    pub(super) fn request(&self, number: u64) -> GetOptions {
        let start = number.saturating_mul(BLOCK_BYTES);
        self.request_range(start..start + self.block_length(number))
    }

    /// The request for some bytes, which fails in the same way.
    pub(super) fn request_range(&self, range: Range<u64>) -> GetOptions {
        GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: self.tag.clone(),
            ..GetOptions::default()
        }
    }
}

/// An object that is open.
pub(super) struct RemoteFile {
    object: Arc<Object>,
    cache: Arc<Cache>,
    positions: Mutex<Positions>,
    /// Lives as long as somebody reads.
    _io: Arc<IoRuntime>,
}

impl RemoteFile {
    pub(super) fn new(object: Object, cache: Arc<Cache>, io: Arc<IoRuntime>) -> Self {
        Self {
            object: Arc::new(object),
            cache,
            positions: Mutex::default(),
            _io: io,
        }
    }
}

impl ReadAt for RemoteFile {
    fn length(&self) -> u64 {
        self.object.size
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let end = offset
            .checked_add(length as u64)
            .filter(|end| *end <= self.object.size)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let reads_on = self.positions.lock().advance(offset, end);
        let (first, last) = (offset / BLOCK_BYTES, (end - 1) / BLOCK_BYTES);
        // Asked for before anything is waited for: it comes together with the blocks of this read.
        if reads_on && (end - 1) % BLOCK_BYTES >= BLOCK_BYTES / 2 && last + 1 < self.object.blocks()
        {
            self.cache.ahead(&self.object, last + 1);
        }
        let part = |number: u64| {
            let start = number * BLOCK_BYTES;
            let (from, to) = (offset.max(start) - start, (end - start).min(BLOCK_BYTES));
            // Within a block, so it fits.
            let length = usize::try_from(to - from).map_err(io::Error::other)?;
            self.cache.read(&self.object, number, from, length)
        };
        if first == last {
            return part(first);
        }
        let mut bytes = BytesMut::with_capacity(length);
        for number in first..=last {
            bytes.extend_from_slice(&part(number)?);
        }
        Ok(bytes.freeze())
    }

    /// Small parts of blocks that are not there are fetched alone, together with others.
    fn read_each(&self, places: &[(u64, usize)]) -> Vec<io::Result<Bytes>> {
        let is_far = |&(offset, length): &(u64, usize)| {
            let end = offset.checked_add(length as u64);
            (1..=MAX_PART).contains(&length)
                && end.is_some_and(|end| end <= self.object.size)
                && !self.cache.has(&self.object, offset)
        };
        let (far, near): (Vec<_>, Vec<_>) =
            (0..places.len()).partition(|number| places.get(*number).is_some_and(is_far));
        let place = |number: &usize| places.get(*number).copied().unwrap_or_default();
        let parts = self
            .cache
            .parts(&self.object, far.iter().map(place).collect());
        let near = near.into_iter().map(|number| {
            let (offset, length) = place(&number);
            (number, self.read_at(offset, length))
        });
        let mut read: Vec<_> = far.into_iter().zip(parts).chain(near).collect();
        read.sort_by_key(|(number, _)| *number);
        read.into_iter().map(|(_, bytes)| bytes).collect()
    }
}

/// Where readers of one object are. Several may read it at a time, in different places.
#[derive(Debug, Default)]
struct Positions {
    /// Ends of what was read.
    ends: [u64; POSITIONS],
    oldest: usize,
}

impl Positions {
    /// Whether a read from `offset` to `end` goes on where another one ended. A read from the beginning of the object does.
    fn advance(&mut self, offset: u64, end: u64) -> bool {
        let goes_on = self
            .ends
            .iter_mut()
            .find(|known| (**known..=known.saturating_add(GAP_BYTES)).contains(&offset));
        if let Some(known) = goes_on {
            *known = end;
            return true;
        }
        if let Some(oldest) = self.ends.get_mut(self.oldest) {
            *oldest = end;
        }
        self.oldest = (self.oldest + 1) % POSITIONS;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(size: u64) -> Object {
        Object {
            path: Path::from("some/object"),
            size,
            tag: Some("\"tag\"".to_owned()),
            modified: 1,
        }
    }

    #[test]
    fn blocks_cover_an_object_exactly() {
        for size in [
            0,
            1,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            10 * BLOCK_BYTES + 7,
        ] {
            let object = object(size);
            let lengths: Vec<u64> = (0..object.blocks())
                .map(|number| object.block_length(number))
                .collect();
            assert_eq!(lengths.iter().sum::<u64>(), size);
            assert!(lengths.iter().all(|length| *length > 0), "{size}");
            assert_eq!(object.block_length(object.blocks()), 0);
            assert_eq!(object.block_length(u64::MAX), 0);
        }
    }

    #[test]
    fn the_version_is_that_of_the_bytes_and_the_same_everywhere() {
        let first = object(10);
        // Pinned: origins of one cluster must agree, also while some of them are newer than others.
        assert_eq!(first.version(), 10_034_746_181_349_426_875);
        let moved = Object {
            modified: 2,
            path: Path::from("other"),
            ..first.clone()
        };
        assert_eq!(moved.version(), first.version());
        let changed = Object {
            tag: Some("\"other\"".to_owned()),
            ..first.clone()
        };
        assert_ne!(changed.version(), first.version());
        assert_ne!(object(11).version(), first.version());
        let untagged = Object {
            tag: None,
            ..first.clone()
        };
        let touched = Object {
            modified: 2,
            ..untagged.clone()
        };
        assert_ne!(untagged.version(), touched.version());
    }

    #[test]
    fn a_reader_that_reads_on_is_seen_among_others() {
        let mut positions = Positions::default();
        assert!(positions.advance(0, 100));
        assert!(!positions.advance(50_000_000, 50_000_100));
        assert!(!positions.advance(90_000_000, 90_000_100));
        // Each goes on in its own place, one of them over a gap.
        assert!(positions.advance(100, 200));
        assert!(positions.advance(50_000_100 + GAP_BYTES, 50_500_000));
        assert!(positions.advance(90_000_100, 90_000_200));
        assert!(!positions.advance(90_000_201 + GAP_BYTES, 91_000_000));
        assert!(!positions.advance(89_000_000, 89_000_001));
        // Only so many are remembered.
        for reader in 0..POSITIONS as u64 {
            positions.advance(
                1_000_000_000 * (reader + 1),
                1_000_000_000 * (reader + 1) + 1,
            );
        }
        assert!(!positions.advance(50_500_000, 50_500_001));
    }
}
