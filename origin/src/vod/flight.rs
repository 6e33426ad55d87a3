//! Several callers, one answer: who asks for what somebody already waits for, waits for the same.
//!
//! # Invariants
//! - There is at most one call under way for a key, and its task ends whether or not anybody waits for it.
//! - An answer goes to those who came before it. Who comes later starts a new call: nothing is kept.
//!
//! How many calls there are at a time, and how long one takes, is up to the caller.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type Waiting<K, V> = Mutex<HashMap<K, watch::Receiver<Option<V>>>>;

/// Calls under way, by what they ask for. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Flights<K, V> {
    waiting: Arc<Waiting<K, V>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Landed<V> {
    /// `None`: it ended without an answer, by a panic or because the node stops.
    pub(crate) answer: Option<V>,
    /// Somebody else had asked before.
    pub(crate) joined: bool,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// No calls yet. They run on `tasks` until `stop`.
    pub(crate) fn new(tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self {
            waiting: Arc::default(),
            tasks,
            stop,
        }
    }

    /// The answer to the call that is under way for `key`, or else to this one.
    pub(crate) async fn join(
        &self,
        key: K,
        call: impl Future<Output = V> + Send + 'static,
    ) -> Landed<V> {
        let (mut receiver, joined) = self.enter(key, call);
        let answer = match receiver.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone(),
            Err(_) => None,
        };
        Landed { answer, joined }
    }

    fn enter(
        &self,
        key: K,
        call: impl Future<Output = V> + Send + 'static,
    ) -> (watch::Receiver<Option<V>>, bool) {
        let mut waiting = self.waiting.lock();
        if let Some(receiver) = waiting.get(&key) {
            return (receiver.clone(), true);
        }
        let (sender, receiver) = watch::channel(None);
        waiting.insert(key.clone(), receiver.clone());
        drop(waiting);
        let landing = Landing {
            waiting: Arc::clone(&self.waiting),
            key,
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let answer = tokio::select! {
                answer = call => Some(answer),
                () = stop.cancelled() => None,
            };
            // Before the answer: whoever has seen it and asks again starts a new call.
            drop(landing);
            sender.send_replace(answer);
        });
        (receiver, false)
    }

    /// How many calls are under way.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().len()
    }
}

/// Takes a call off the list, also when it panics.
struct Landing<K: Eq + Hash, V> {
    waiting: Arc<Waiting<K, V>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    fn flights() -> Flights<&'static str, usize> {
        Flights::new(TaskTracker::new(), CancellationToken::new())
    }

    #[tokio::test]
    async fn who_comes_while_a_call_is_under_way_gets_its_answer() {
        let flights = flights();
        let calls = Arc::new(AtomicUsize::new(0));
        let (go, gone) = oneshot::channel();
        let count = Arc::clone(&calls);
        let first = tokio::spawn({
            let flights = flights.clone();
            async move {
                let call = async move {
                    gone.await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed) + 1
                };
                flights.join("a", call).await
            }
        });
        while flights.len() == 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..10)
            .map(|_| {
                let (flights, count) = (flights.clone(), Arc::clone(&calls));
                tokio::spawn(async move {
                    let call = async move { count.fetch_add(1, Ordering::Relaxed) + 1 };
                    flights.join("a", call).await
                })
            })
            .collect();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let other = flights.join("b", async { 7 }).await;
        assert_eq!((other.answer, other.joined), (Some(7), false));
        go.send(()).unwrap();
        let first = first.await.unwrap();
        assert_eq!((first.answer, first.joined), (Some(1), false));
        for other in others {
            let other = other.await.unwrap();
            assert_eq!((other.answer, other.joined), (Some(1), true));
        }
        assert_eq!(flights.len(), 0);
        let again = flights.join("a", async { 9 }).await;
        assert_eq!((again.answer, again.joined), (Some(9), false));
    }

    #[tokio::test]
    async fn a_call_goes_on_when_who_started_it_leaves() {
        let flights = flights();
        let (go, gone) = oneshot::channel::<usize>();
        let call = async move { gone.await.unwrap() };
        let started = flights.join("a", call);
        assert!(futures_util::FutureExt::now_or_never(started).is_none());
        assert_eq!(flights.len(), 1);
        let second = tokio::spawn({
            let flights = flights.clone();
            async move { flights.join("a", async { 0 }).await }
        });
        tokio::task::yield_now().await;
        go.send(5).unwrap();
        let second = second.await.unwrap();
        assert_eq!((second.answer, second.joined), (Some(5), true));
    }

    #[tokio::test]
    async fn a_call_that_panics_or_is_stopped_leaves_nothing_behind() {
        let flights = flights();
        let landed = flights.join("a", async { panic!("on purpose") }).await;
        assert_eq!(landed.answer, None);
        assert_eq!(flights.len(), 0);
        let stuck = tokio::spawn({
            let flights = flights.clone();
            async move { flights.join("a", std::future::pending()).await }
        });
        while flights.len() == 0 {
            tokio::task::yield_now().await;
        }
        flights.stop.cancel();
        assert_eq!(stuck.await.unwrap().answer, None);
        assert_eq!(flights.len(), 0);
    }
}
