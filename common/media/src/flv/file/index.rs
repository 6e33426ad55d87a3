//! What is kept of a file in memory: where walks may start, and where codec headers and metadata change.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use super::cuts::Start;
use super::tags::{TagHead, TagScanner};
use crate::file::FileError;
use crate::frame::FrameFlags;
use crate::window::{MAX_PREFACE_BYTES, MAX_PREFACE_SLOTS, Slot};

/// Most places in a file that are kept in memory, 48 bytes each: those of nine hours at two seconds. Of a longer file every second
/// one is kept, or every fourth, and so on.
pub const MAX_INDEX_ENTRIES: usize = 16_384;

/// Most changes of codec headers and metadata that are known of a file; those after have no effect on what goes before a piece.
pub const MAX_HEADER_CHANGES: usize = 4_096;

/// Longest name of metadata that is kept in force, in bytes.
const MAX_NAME: usize = 256;

/// Places in the order of the file, thinned out where they are too many.
#[derive(Debug)]
pub(super) struct Thinned<T> {
    entries: Vec<T>,
    max: usize,
    /// One in so many is kept.
    stride: usize,
    pushed: usize,
}

impl<T> Thinned<T> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            entries: Vec::new(),
            max: max.max(2),
            stride: 1,
            pushed: 0,
        }
    }

    pub(super) fn push(&mut self, entry: T) {
        let number = self.pushed;
        self.pushed += 1;
        if number.is_multiple_of(self.stride) && self.entries.len() >= self.max {
            let mut index = 0_usize;
            self.entries.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.stride = self.stride.saturating_mul(2);
        }
        if number.is_multiple_of(self.stride) {
            self.entries.push(entry);
        }
    }

    pub(super) fn entries(&self) -> &[T] {
        &self.entries
    }

    pub(super) fn into_entries(self) -> Vec<T> {
        self.entries
    }
}

/// A place from which a walk may start, and its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) start: Start,
    /// Not before the place that is known of; in milliseconds.
    pub(super) time: u64,
}

/// Which codec headers and metadata are in force where.
#[derive(Debug, Default)]
pub(super) struct Headers {
    /// With a digest of the payload in force.
    slots: Vec<(Slot, u64)>,
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    position: u64,
    slot: usize,
    clears: bool,
}

impl Headers {
    /// Goes past a frame that has a slot. Frames come in the order of the file; those that change nothing, and those that were
    /// noted already, cost nothing.
    pub(super) fn note(
        &mut self,
        scanner: &mut TagScanner<'_>,
        head: &TagHead,
    ) -> Result<(), FileError> {
        let is_new = self
            .changes
            .last()
            .is_none_or(|last| last.position < head.position);
        if !is_new || self.changes.len() >= MAX_HEADER_CHANGES || head.length > MAX_PREFACE_BYTES {
            return Ok(());
        }
        let payload = scanner.body(head)?;
        let slot = match Slot::of(head.kind, &payload) {
            Slot::Metadata(name) if name.len() > MAX_NAME => return Ok(()),
            // A copy, which does not keep the payload.
            Slot::Metadata(name) => Slot::Metadata(Bytes::copy_from_slice(&name)),
            slot => slot,
        };
        let clears = head.flags.contains(FrameFlags::CLEAR_METADATA);
        let mut hasher = DefaultHasher::new();
        (clears, &payload[..]).hash(&mut hasher);
        let digest = hasher.finish();
        let known = self.slots.iter().position(|(held, _)| *held == slot);
        let slot = match known {
            Some(at) => {
                if let Some((_, held)) = self.slots.get_mut(at)
                    && std::mem::replace(held, digest) == digest
                {
                    return Ok(());
                }
                at
            }
            None if self.slots.len() >= MAX_PREFACE_SLOTS => return Ok(()),
            None => {
                self.slots.push((slot, digest));
                self.slots.len() - 1
            }
        };
        self.changes.push(Change {
            position: head.position,
            slot,
            clears,
        });
        Ok(())
    }

    /// Positions of the frames in force before the frame at `position`, in order.
    pub(super) fn in_force(&self, position: u64) -> Vec<u64> {
        let to = self
            .changes
            .partition_point(|change| change.position < position);
        let mut seen = [false; MAX_PREFACE_SLOTS];
        let mut found = Vec::new();
        for change in self.changes.iter().take(to).rev() {
            let Some(seen) = seen.get_mut(change.slot) else {
                continue;
            };
            if !std::mem::replace(seen, true) && !change.clears {
                found.push(change.position);
            }
        }
        found.reverse();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_thinned_evenly() {
        for count in 0..200_usize {
            let mut thinned = Thinned::new(8);
            for number in 0..count {
                thinned.push(number);
            }
            let entries = thinned.into_entries();
            assert!(entries.len() <= 8 && (count == 0 || entries.len() >= count.min(4)));
            let stride = entries.get(1).copied().unwrap_or(1);
            assert!(stride.is_power_of_two());
            let expected: Vec<usize> = (0..count).step_by(stride).collect();
            assert_eq!(entries, expected, "of {count}");
        }
    }
}
