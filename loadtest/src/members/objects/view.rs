//! What one client has of one object.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Names of slots of one thread as numbers, so that clients need not keep them.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    numbers: HashMap<Box<[u8]>, u32>,
    /// Of each, something that is the same in all threads.
    marks: Vec<u64>,
}

impl Slots {
    pub(super) fn number(&mut self, name: &[u8]) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = u32::try_from(self.marks.len()).unwrap_or(u32::MAX);
        self.numbers.insert(name.into(), number);
        self.marks.push(hash_of(&name));
        number
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    fn mark(&self, number: u32) -> u64 {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        self.marks.get(place).copied().unwrap_or_default()
    }
}

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// Which object.
    pub(super) object: u32,
    /// Whether the server has said that it is used.
    pub(super) is_using: bool,
    /// As the last message had it.
    pub(super) version: u32,
    /// The number that each slot's value has; of a value that is none of the harness, a hash.
    pub(super) slots: HashMap<u32, u64>,
    /// Messages with `send` that came.
    pub(super) sends: u64,
    /// Of each writer, the number of the last of its messages.
    pub(super) last_sends: HashMap<u32, u64>,
}

/// What a message with `send` is, after those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The next one, or the first.
    Next,
    /// One that has come before, or one that comes behind a later one.
    Repeated,
    /// Some before it have not come.
    Gap,
}

impl View {
    /// A slot has this value. Whether it is older than what was there.
    pub(super) fn set(&mut self, slot: u32, number: u64) -> bool {
        let before = self.slots.insert(slot, number);
        before.is_some_and(|before| before > number)
    }

    /// A message with `send` came.
    pub(super) fn take_send(&mut self, writer: u32, number: u64) -> Sent {
        let last = self.last_sends.entry(writer).or_default();
        if number <= *last {
            return Sent::Repeated;
        }
        let is_next = number == *last + 1;
        *last = number;
        self.sends += 1;
        if is_next { Sent::Next } else { Sent::Gap }
    }

    /// Something that is the same for clients that have the same slots with the same values.
    pub(super) fn digest(&self, slots: &Slots) -> u64 {
        self.slots.iter().fold(0, |digest, (&slot, &number)| {
            digest ^ hash_of(&(slots.mark(slot), number))
        })
    }
}

/// The same in all threads and processes.
pub(super) fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_have_the_same_have_the_same_digest() {
        let (mut one, mut other) = (Slots::default(), Slots::default());
        assert_eq!(other.number(b"x"), 0);
        let (a, b) = (one.number(b"a"), one.number(b"b"));
        let (b2, a2) = (other.number(b"b"), other.number(b"a"));
        let (mut first, mut second) = (View::default(), View::default());
        first.set(a, 1);
        first.set(b, 2);
        second.set(b2, 2);
        assert_ne!(first.digest(&one), second.digest(&other));
        second.set(a2, 1);
        assert_eq!(first.digest(&one), second.digest(&other));
        // Not those whose values are exchanged.
        second.set(a2, 2);
        second.set(b2, 1);
        assert_ne!(first.digest(&one), second.digest(&other));
        assert_eq!((one.find(b"a"), one.find(b"z")), (Some(a), None));
    }

    #[test]
    fn what_goes_back_and_what_is_missing_or_repeated_is_seen() {
        let mut view = View::default();
        assert!(!view.set(0, 5) && !view.set(0, 6) && !view.set(0, 6));
        assert!(view.set(0, 5));
        let came: Vec<_> = [1, 2, 2, 5, 4, 6]
            .into_iter()
            .map(|number| view.take_send(3, number))
            .collect();
        use Sent::{Gap, Next, Repeated};
        assert_eq!(came, [Next, Next, Repeated, Gap, Repeated, Next]);
        assert_eq!(view.sends, 4);
        assert_eq!(view.take_send(4, 1), Next);
    }
}
