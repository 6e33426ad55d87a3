//! The threads of a swarm, and what is asked of them.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Waker;

use super::SwarmError;
use super::thread::{Job, Manner, Sockets, run};
use crate::affinity;

/// How long a thread may take to answer. Viewers that read again may take seven seconds; much more is a thread that is stuck.
const PATIENCE: Duration = Duration::from_secs(12);

/// Threads that take orders. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Crew<O> {
    hands: Vec<Hand<O>>,
}

#[derive(Debug)]
struct Hand<O> {
    orders: Sender<O>,
    waker: Waker,
    thread: JoinHandle<()>,
}

impl<O> Default for Crew<O> {
    fn default() -> Self {
        Self { hands: Vec::new() }
    }
}

impl<O: Send + 'static> Crew<O> {
    /// Starts one more thread with this job.
    pub(super) fn start<J: Job + Send + 'static>(
        &mut self,
        name: &str,
        manner: Manner,
        cpus: &[usize],
        job: impl FnOnce(Receiver<O>) -> J,
    ) -> Result<(), SwarmError> {
        let mut sockets = Sockets::new(manner)?;
        let waker = sockets.waker()?;
        let (orders, ordered) = channel();
        let mut job = job(ordered);
        let (bound, is_bound) = channel();
        let cpus = cpus.to_vec();
        let thread = std::thread::Builder::new()
            .name(format!("{name}-{}", self.hands.len()))
            .spawn(move || {
                let binding = match cpus.as_slice() {
                    [] => Ok(()),
                    cpus => affinity::bind(cpus),
                };
                let is_fine = binding.is_ok();
                let _heard = bound.send(binding);
                if is_fine {
                    // The event queue can only fail if it is misused; then the sockets close, and the thread answers no more.
                    let _failed = run(&mut sockets, &mut job);
                }
            })?;
        self.hands.push(Hand {
            orders,
            waker,
            thread,
        });
        is_bound
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the thread is gone")))?;
        Ok(())
    }

    /// Gives all of them an order.
    pub(super) fn tell(&self, order: impl Fn() -> O) {
        for hand in &self.hands {
            // One that has ended needs no order.
            let _gone = hand.orders.send(order()).is_ok() && hand.waker.wake().is_ok();
        }
    }

    /// Asks all of them, and waits for the answers of those that answer.
    pub(super) fn ask<T>(&self, question: impl Fn(Sender<T>) -> O) -> Vec<T> {
        let (answer, answers) = channel();
        self.tell(|| question(answer.clone()));
        drop(answer);
        let until = Instant::now() + PATIENCE;
        let mut all = Vec::with_capacity(self.hands.len());
        while all.len() < self.hands.len() {
            let left = until.saturating_duration_since(Instant::now());
            match answers.recv_timeout(left) {
                Ok(answer) => all.push(answer),
                Err(_) => break,
            }
        }
        all
    }

    /// Whether a thread has ended by itself.
    pub(super) fn has_lost_one(&self) -> bool {
        self.hands.iter().any(|hand| hand.thread.is_finished())
    }

    /// Waits until they end, as they were told to.
    pub(super) fn join(mut self) {
        for hand in self.hands.drain(..) {
            // A panic there was told by the thread itself. Until then it can be given orders.
            let _ended = hand.thread.join();
        }
    }
}

impl<O> Drop for Crew<O> {
    fn drop(&mut self) {
        let hands = self.hands.drain(..).map(|hand| {
            drop(hand.orders);
            // A thread that has ended needs no waking.
            let _gone = hand.waker.wake();
            // What is dropped before the thread has looked does not wake it.
            (hand.thread, hand.waker)
        });
        for (thread, _waker) in hands.collect::<Vec<_>>() {
            let _ended = thread.join();
        }
    }
}
