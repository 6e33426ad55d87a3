//! Calls that wait for their answer.

use crate::command::TransactionId;

/// A bounded list of transactions. Short, so it is searched from the front; a number that is used twice is answered twice.
#[derive(Debug)]
pub(crate) struct Outstanding<T> {
    calls: Vec<(TransactionId, T)>,
    limit: usize,
}

impl<T> Outstanding<T> {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            calls: Vec::new(),
            limit,
        }
    }

    /// Whether another call may wait.
    pub(crate) fn has_room(&self) -> bool {
        self.calls.len() < self.limit
    }

    /// Notes a call. Gives whether there was room.
    pub(crate) fn push(&mut self, transaction: TransactionId, what: T) -> bool {
        let room = self.has_room();
        if room {
            self.calls.push((transaction, what));
        }
        room
    }

    /// Takes the oldest call with this number.
    pub(crate) fn take(&mut self, transaction: TransactionId) -> Option<T> {
        let index = self.calls.iter().position(|(id, _)| *id == transaction)?;
        Some(self.calls.remove(index).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_bounded_and_answers_once() {
        let mut calls = Outstanding::new(2);
        let [a, b] = [TransactionId::new(1.0), TransactionId::new(2.5)];
        assert!(calls.push(a, "first"));
        assert!(calls.push(b, "second"));
        assert!(!calls.push(a, "third"));
        assert_eq!(calls.take(b), Some("second"));
        assert_eq!(calls.take(b), None);
        assert!(calls.push(a, "third"));
        assert_eq!(calls.take(a), Some("first"));
        assert_eq!(calls.take(a), Some("third"));
    }
}
