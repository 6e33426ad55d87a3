//! Questions under way, each asked once however many wait for its answer.
//!
//! An answer lands in this order: whoever fetched it keeps it where others look first, then the question is forgotten, then those who
//! wait are told. So nobody asks again for what has just come. A question whose task ends without an answer is forgotten, too.
//! Whoever asks can find out that nobody waits any more, see [`Landing::abandoned`].

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// For whoever waits.
pub(super) type Answer<V> = watch::Receiver<Option<V>>;

/// What is asked, and who will tell the answer: those who wait are counted by their receivers.
type Table<K, V> = Mutex<HashMap<K, watch::Sender<Option<V>>>>;

/// The questions under way.
pub(super) struct Flights<K, V> {
    most: usize,
    table: Arc<Table<K, V>>,
}

/// A place among those who wait.
pub(super) enum Joined<K: Hash + Eq, V> {
    /// Somebody asks already.
    Waits(Answer<V>),
    /// The caller has to ask.
    Asks(Answer<V>, Landing<K, V>),
    /// There are as many questions as there may be.
    Full,
}

/// Held by whoever asks.
pub(super) struct Landing<K: Hash + Eq, V> {
    table: Arc<Table<K, V>>,
    key: K,
    answer: watch::Sender<Option<V>>,
}

impl<K: Hash + Eq + Clone, V> Flights<K, V> {
    /// For at most `most` questions at once.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            table: Arc::default(),
        }
    }

    /// Joins those who wait for the answer to `key`.
    pub(super) fn join(&self, key: K) -> Joined<K, V> {
        let mut table = self.table.lock();
        if let Some(answer) = table.get(&key) {
            return Joined::Waits(answer.subscribe());
        }
        if table.len() >= self.most {
            return Joined::Full;
        }
        let (sender, answer) = watch::channel(None);
        table.insert(key.clone(), sender.clone());
        let landing = Landing {
            table: Arc::clone(&self.table),
            key,
            answer: sender,
        };
        Joined::Asks(answer, landing)
    }
}

impl<K: Hash + Eq, V> Landing<K, V> {
    /// What is asked.
    pub(super) fn key(&self) -> &K {
        &self.key
    }

    /// Tells those who wait.
    pub(super) fn land(self, answer: V) {
        self.table.lock().remove(&self.key);
        self.answer.send_replace(Some(answer));
    }

    /// Ends when nobody waits any more. The question is forgotten then: whoever has it later asks anew.
    pub(super) async fn abandoned(&self) {
        loop {
            self.answer.closed().await;
            let mut table = self.table.lock();
            // Nobody joins while the table is locked.
            if self.answer.receiver_count() == 0 {
                self.forget(&mut table);
                return;
            }
        }
    }

    fn forget(&self, table: &mut HashMap<K, watch::Sender<Option<V>>>) {
        // A later question has another channel: it must stay.
        let asked = table.get(&self.key);
        if asked.is_some_and(|answer| answer.same_channel(&self.answer)) {
            table.remove(&self.key);
        }
    }
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        self.forget(&mut table);
        if table.capacity() > 256 && table.len() * 4 < table.capacity() {
            table.shrink_to_fit();
        }
    }
}

/// Waits for an answer. `None`: there will be none.
pub(super) async fn wait<V: Clone>(mut answer: Answer<V>) -> Option<V> {
    let landed = answer.wait_for(Option::is_some).await;
    landed.ok()?.clone()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn many_wait_and_one_asks() {
        let flights = Flights::<u8, u8>::new(2);
        let Joined::Asks(first, landing) = flights.join(1) else {
            panic!("somebody else asks");
        };
        let others = (0..100).map(|_| match flights.join(1) {
            Joined::Waits(answer) => answer,
            _ => panic!("asked twice"),
        });
        let others: Vec<_> = others.collect();
        landing.land(7);
        for answer in others.into_iter().chain([first]) {
            assert_eq!(wait(answer).await, Some(7));
        }
        // The answer is not kept here.
        assert!(matches!(flights.join(1), Joined::Asks(..)));
    }

    #[tokio::test]
    async fn a_question_that_was_given_up_can_be_asked_again() {
        let flights = Flights::<u8, u8>::new(1);
        let Joined::Asks(answer, landing) = flights.join(1) else {
            panic!("somebody else asks");
        };
        assert!(matches!(flights.join(2), Joined::Full));
        drop(landing);
        assert_eq!(wait(answer).await, None);
        assert!(matches!(flights.join(2), Joined::Asks(..)));
    }

    async fn is_abandoned(landing: &Landing<u8, u8>) -> bool {
        let now = tokio::time::timeout(Duration::ZERO, landing.abandoned());
        now.await.is_ok()
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_is_known_to_be_one() {
        let flights = Flights::<u8, u8>::new(1);
        let Joined::Asks(first, landing) = flights.join(1) else {
            panic!("somebody else asks");
        };
        let Joined::Waits(second) = flights.join(1) else {
            panic!("asked twice");
        };
        drop(first);
        assert!(!is_abandoned(&landing).await);
        drop(second);
        // Somebody comes at the last moment.
        let Joined::Waits(third) = flights.join(1) else {
            panic!("asked twice");
        };
        assert!(!is_abandoned(&landing).await);
        drop(third);
        assert!(is_abandoned(&landing).await);
        // It does not take a later one along.
        let Joined::Asks(_answer, _landing) = flights.join(1) else {
            panic!("it was forgotten");
        };
        drop(landing);
        assert!(matches!(flights.join(1), Joined::Waits(_)));
    }
}
