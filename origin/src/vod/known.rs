//! What need not be asked for again: files that are open, or cannot be, and which of its objects a name means.
//!
//! # Invariants
//! - There are no more files than may be, and they take no more memory than they may; but one may always be open.
//! - What goes first is what was not asked for longest.
//!
//! What goes is given back: closing a file takes time, and is nothing to do under a lock.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use headwater_media::name::StreamName;
use lru::LruCache;
use tokio::time::Instant;

use super::library::{OpenFile, Outcome};
use super::names::Candidate;

/// Names whose files are known, for each file that may be open.
const NAMES_PER_FILE: usize = 4;

/// A file that is open, or why it cannot be.
pub(super) struct Slot {
    pub(super) version: u64,
    pub(super) outcome: Outcome,
    /// When the store last said, or was last asked in vain, that this is its version.
    pub(super) checked_at: Instant,
    pub(super) used_at: Instant,
    /// Bytes.
    pub(super) memory: usize,
}

/// Which of the objects that a name may mean is there.
struct Resolved {
    candidate: Candidate,
    at: Instant,
}

pub(super) struct Known {
    files: LruCache<Candidate, Slot>,
    names: LruCache<StreamName, Resolved>,
    memory: usize,
    max_memory: usize,
}

impl Known {
    pub(super) fn new(max_files: usize, max_memory: usize) -> Self {
        let entries = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        Self {
            files: LruCache::new(entries(max_files)),
            names: LruCache::new(entries(max_files.saturating_mul(NAMES_PER_FILE))),
            memory: 0,
            max_memory,
        }
    }

    /// What is known of a file, which counts as asked for.
    pub(super) fn file(&mut self, candidate: &Candidate, now: Instant) -> Option<&mut Slot> {
        let slot = self.files.get_mut(candidate)?;
        slot.used_at = now;
        Some(slot)
    }

    /// A file, if it is open.
    pub(super) fn open(&self, candidate: &Candidate) -> Option<Arc<OpenFile>> {
        self.files.peek(candidate)?.outcome.clone().ok()
    }

    pub(super) fn has(&self, candidate: &Candidate) -> bool {
        self.files.contains(candidate)
    }

    /// Takes a file, and gives those that go for it.
    #[must_use]
    pub(super) fn put(&mut self, candidate: Candidate, slot: Slot) -> Vec<Slot> {
        self.memory = self.memory.saturating_add(slot.memory);
        let mut gone: Vec<Slot> = Vec::new();
        if let Some((_, slot)) = self.files.push(candidate, slot) {
            self.memory = self.memory.saturating_sub(slot.memory);
            gone.push(slot);
        }
        while self.memory > self.max_memory && self.files.len() > 1 {
            gone.extend(self.pop_oldest());
        }
        gone
    }

    /// Forgets a file, and gives it.
    #[must_use]
    pub(super) fn take(&mut self, candidate: &Candidate) -> Option<Slot> {
        let slot = self.files.pop(candidate)?;
        self.memory = self.memory.saturating_sub(slot.memory);
        Some(slot)
    }

    /// Forgets what was not asked for in a while, and gives the files.
    #[must_use]
    pub(super) fn take_idle(&mut self, now: Instant, idle: Duration) -> Vec<Slot> {
        let is_idle = |used_at: Instant| now.duration_since(used_at) >= idle;
        let mut gone = Vec::new();
        while let Some((_, slot)) = self.files.peek_lru()
            && is_idle(slot.used_at)
        {
            gone.extend(self.pop_oldest());
        }
        while let Some((_, resolved)) = self.names.peek_lru()
            && is_idle(resolved.at)
        {
            self.names.pop_lru();
        }
        gone
    }

    fn pop_oldest(&mut self) -> Option<Slot> {
        let (_, slot) = self.files.pop_lru()?;
        self.memory = self.memory.saturating_sub(slot.memory);
        Some(slot)
    }

    /// What a name meant when it was looked for last, and when that was.
    pub(super) fn meaning(&mut self, name: &StreamName) -> Option<(Candidate, Instant)> {
        let resolved = self.names.get(name)?;
        Some((resolved.candidate.clone(), resolved.at))
    }

    pub(super) fn means(&mut self, name: &StreamName, candidate: Candidate, now: Instant) {
        let resolved = Resolved { candidate, at: now };
        self.names.put(name.clone(), resolved);
    }

    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    /// Bytes of all files.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }
}
