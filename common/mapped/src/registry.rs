//! Where the maps of the process are, for a signal handler: a fixed table of atomics.
//!
//! # Invariants
//! - A slot belongs to the [`Registration`] that claimed it, which alone changes its range. While a range changes, its `turn` is odd, and
//!   `turn` never has the same value again: who reads the same even value before and after has read one range, not parts of two.
//! - Ranges that are registered at the same time do not overlap; see the crate's documentation.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// Ranges of addresses, at most `N` at a time.
#[derive(Debug)]
pub(crate) struct Registry<const N: usize> {
    slots: [Slot; N],
    /// Where to begin to look for a free slot.
    hint: AtomicUsize,
}

#[derive(Debug)]
struct Slot {
    turn: AtomicUsize,
    start: AtomicUsize,
    /// Address after the last byte; 0 where the slot is free.
    end: AtomicUsize,
    torn: AtomicBool,
}

/// A range of addresses, registered until this is dropped.
#[derive(Debug)]
pub(crate) struct Registration<'r> {
    slot: &'r Slot,
}

/// What [`Registry::find`] found.
#[derive(Debug)]
pub(crate) struct Found<'r> {
    slot: &'r Slot,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl<const N: usize> Registry<N> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: [const { Slot::new() }; N],
            hint: AtomicUsize::new(0),
        }
    }

    /// Registers the addresses from `start` to before `end`; `None` where all slots are taken.
    pub(crate) fn claim(&self, start: usize, end: usize) -> Option<Registration<'_>> {
        debug_assert!(start < end);
        let hint = self.hint.fetch_add(1, Ordering::Relaxed);
        let slot = (0..N)
            .filter_map(|step| self.slots.get(hint.wrapping_add(step) % N))
            .find(|slot| slot.claim(start, end))?;
        Some(Registration { slot })
    }

    /// The range that holds `address`. Lock-free, for signal handlers. The range stays as it is only as long as the caller knows
    /// that somebody holds its registration.
    pub(crate) fn find(&self, address: usize) -> Option<Found<'_>> {
        self.slots.iter().find_map(|slot| {
            let (start, end) = slot.range()?;
            (start..end)
                .contains(&address)
                .then_some(Found { slot, start, end })
        })
    }
}

impl Slot {
    const fn new() -> Self {
        Self {
            turn: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            torn: AtomicBool::new(false),
        }
    }

    fn claim(&self, start: usize, end: usize) -> bool {
        let turn = self.turn.load(Ordering::Acquire);
        let free = turn.is_multiple_of(2) && self.end.load(Ordering::Acquire) == 0;
        // Whoever claimed it since has moved the turn on.
        let ours = free
            && self
                .turn
                .compare_exchange(
                    turn,
                    turn.wrapping_add(1),
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                )
                .is_ok();
        if ours {
            fence(Ordering::Release);
            self.torn.store(false, Ordering::Relaxed);
            self.start.store(start, Ordering::Relaxed);
            self.end.store(end, Ordering::Relaxed);
            self.turn.store(turn.wrapping_add(2), Ordering::Release);
        }
        ours
    }

    fn release(&self) {
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.end.store(0, Ordering::Relaxed);
        self.start.store(0, Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(2), Ordering::Release);
    }

    /// The range, unless it is free or changes just now.
    fn range(&self) -> Option<(usize, usize)> {
        let before = self.turn.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Relaxed);
        let end = self.end.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let after = self.turn.load(Ordering::Relaxed);
        (before == after && before.is_multiple_of(2) && end != 0).then_some((start, end))
    }
}

impl Registration<'_> {
    /// Whether [`Found::tear`] was called on it.
    pub(crate) fn is_torn(&self) -> bool {
        self.slot.torn.load(Ordering::Acquire)
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.slot.release();
    }
}

impl Found<'_> {
    pub(crate) fn tear(&self) {
        self.slot.torn.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    fn found<const N: usize>(registry: &Registry<N>, address: usize) -> Option<(usize, usize)> {
        registry.find(address).map(|found| (found.start, found.end))
    }

    #[test]
    fn an_address_is_found_within_its_range_and_nowhere_else() {
        let registry = Registry::<4>::new();
        assert_eq!(found(&registry, 0), None);
        let first = registry.claim(4_096, 8_192).unwrap();
        let second = registry.claim(8_192, 12_288).unwrap();
        let cases = [
            (0, None),
            (4_095, None),
            (4_096, Some((4_096, 8_192))),
            (8_191, Some((4_096, 8_192))),
            (8_192, Some((8_192, 12_288))),
            (12_288, None),
        ];
        for (address, range) in cases {
            assert_eq!(found(&registry, address), range, "{address}");
        }
        drop(first);
        assert_eq!(found(&registry, 4_096), None);
        drop(second);
        assert_eq!(found(&registry, 8_192), None);
    }

    #[test]
    fn a_full_registry_takes_no_more_until_one_goes() {
        let registry = Registry::<2>::new();
        let first = registry.claim(1, 2).unwrap();
        let _second = registry.claim(2, 3).unwrap();
        assert!(registry.claim(3, 4).is_none());
        drop(first);
        assert!(registry.claim(3, 4).is_some());
    }

    #[test]
    fn a_slot_that_is_used_again_is_whole() {
        let registry = Registry::<1>::new();
        let first = registry.claim(1, 2).unwrap();
        registry.find(1).unwrap().tear();
        assert!(first.is_torn());
        drop(first);
        assert!(!registry.claim(1, 2).unwrap().is_torn());
    }

    /// While others come and go, a range that is held is always found, and no range is found that nobody registered.
    #[test]
    fn parts_of_two_ranges_are_never_taken_for_one() {
        const PAGE: usize = 4_096;
        let registry = Registry::<8>::new();
        let done = AtomicBool::new(false);
        let held = registry.claim(100 * PAGE, 101 * PAGE).unwrap();
        thread::scope(|scope| {
            for thread in 0..3_usize {
                let (registry, done) = (&registry, &done);
                scope.spawn(move || {
                    let mut turn = 0_usize;
                    while !done.load(Ordering::Relaxed) {
                        // Below, above, and wide apart: a mix of an old start and a new end would cover the held one.
                        let start = if turn.is_multiple_of(2) {
                            thread
                        } else {
                            200 + thread
                        };
                        turn += 1;
                        drop(registry.claim((start * 2 + 1) * PAGE, (start * 2 + 2) * PAGE));
                    }
                });
            }
            for _ in 0..200_000 {
                assert_eq!(
                    found(&registry, 100 * PAGE + 7),
                    Some((100 * PAGE, 101 * PAGE))
                );
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(!held.is_torn());
    }
}
