//! Packet numbers, and the window against replayed ones: RFC 7425 sections 4.6.6 and 4.7.3.3.

/// How many numbers below the highest are still told apart. The specification asks for 32; datagrams in flight over a fast and far path
/// can overtake each other by more.
pub const WINDOW: u64 = 1_024;

const WORDS: usize = (WINDOW / 64) as usize;

/// Which numbers were received: those of the last [`WINDOW`], and none below.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// The highest number received, and 1: 0 before the first.
    next: u64,
    /// One bit for each number of the window, at the number's remainder.
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// Nothing received.
    #[must_use]
    pub fn new() -> Self {
        Self {
            next: 0,
            seen: [0; WORDS],
        }
    }

    /// Takes a number. False for one that was there, and for one that is too old to tell.
    #[must_use]
    pub fn accept(&mut self, number: u64) -> bool {
        // The last number there is cannot be told from having none behind it. No sender comes near.
        let Some(next) = number.checked_add(1) else {
            return false;
        };
        if next > self.next {
            self.advance(next);
        } else if self.next - next >= WINDOW {
            return false;
        }
        let bit = 1 << (number % 64);
        let place = (number / 64) as usize % WORDS;
        let Some(word) = self.seen.get_mut(place) else {
            return false;
        };
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    /// Forgets what leaves the window when it ends at `next`.
    fn advance(&mut self, next: u64) {
        if next - self.next >= WINDOW {
            self.seen = [0; WORDS];
        } else {
            for number in self.next..next {
                if let Some(word) = self.seen.get_mut((number / 64) as usize % WORDS) {
                    *word &= !(1 << (number % 64));
                }
            }
        }
        self.next = next;
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_accepted_once_and_within_the_window() {
        let mut window = ReplayWindow::new();
        assert!(window.accept(0));
        assert!(!window.accept(0));
        assert!(window.accept(WINDOW));
        assert!(!window.accept(0), "it left the window");
        assert!(window.accept(1), "the lowest in the window");
        assert!(!window.accept(1));
        assert!(window.accept(WINDOW - 1));
        assert!(window.accept(u64::MAX - 1));
        assert!(!window.accept(u64::MAX - 1));
        assert!(window.accept(u64::MAX - WINDOW));
        assert!(!window.accept(u64::MAX - WINDOW - 1));
        assert!(!window.accept(u64::MAX));
    }

    proptest! {
        /// Against a set that remembers everything.
        #[test]
        fn the_window_is_as_one_that_forgets_nothing(steps in prop::collection::vec((-1_100_i64..1_100, any::<bool>()), 1..400)) {
            let mut window = ReplayWindow::new();
            let mut seen = HashSet::new();
            let mut highest: Option<u64> = None;
            for (step, from_highest) in steps {
                let base = if from_highest { highest.unwrap_or(0) } else { 0 };
                let number = base.saturating_add_signed(step);
                let inside = highest.is_none_or(|highest| number + WINDOW > highest);
                prop_assert_eq!(window.accept(number), inside && !seen.contains(&number), "{}", number);
                if inside {
                    seen.insert(number);
                    highest = highest.max(Some(number));
                }
            }
        }
    }
}
