//! Where codec headers and metadata change within a file.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use crate::frame::{FrameFlags, FrameKind};
use crate::window::{MAX_PREFACE_BYTES, MAX_PREFACE_SLOTS, Slot};

/// Most changes of codec headers and metadata that are known of a file; those after have no effect on what goes before a piece.
pub const MAX_HEADER_CHANGES: usize = 4_096;

/// Longest name of metadata that is kept in force, in bytes.
const MAX_NAME: usize = 256;

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
    /// Whether a frame with a slot, with a body of `length` bytes, can change anything that is noted.
    pub(super) fn takes(&self, position: u64, length: usize) -> bool {
        let is_new = self
            .changes
            .last()
            .is_none_or(|last| last.position < position);
        is_new && !self.is_full() && length <= MAX_PREFACE_BYTES
    }

    /// There may be changes that are not noted.
    pub(super) fn is_full(&self) -> bool {
        self.changes.len() >= MAX_HEADER_CHANGES
    }

    /// Goes past a frame that has a slot. Frames come in the order of the file; those that change nothing, and those that were
    /// noted already, cost nothing.
    pub(super) fn note(
        &mut self,
        position: u64,
        kind: FrameKind,
        flags: FrameFlags,
        payload: &Bytes,
    ) {
        if !self.takes(position, payload.len()) {
            return;
        }
        let slot = match Slot::of(kind, payload) {
            Slot::Metadata(name) if name.len() > MAX_NAME => return,
            // A copy, which does not keep the payload.
            Slot::Metadata(name) => Slot::Metadata(Bytes::copy_from_slice(&name)),
            slot => slot,
        };
        let clears = flags.contains(FrameFlags::CLEAR_METADATA);
        let mut hasher = DefaultHasher::new();
        (clears, &payload[..]).hash(&mut hasher);
        let digest = hasher.finish();
        let known = self.slots.iter().position(|(held, _)| *held == slot);
        let slot = match known {
            Some(at) => {
                if let Some((_, held)) = self.slots.get_mut(at)
                    && std::mem::replace(held, digest) == digest
                {
                    return;
                }
                at
            }
            None if self.slots.len() >= MAX_PREFACE_SLOTS => return,
            None => {
                self.slots.push((slot, digest));
                self.slots.len() - 1
            }
        };
        self.changes.push(Change {
            position,
            slot,
            clears,
        });
    }

    /// Positions of the frames that changed something.
    pub(super) fn positions(&self) -> impl Iterator<Item = u64> {
        self.changes.iter().map(|change| change.position)
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
