//! Agreeing on keys, where nothing waits for it: a few threads for all workers.
//!
//! A power in a group of 2,048 bits takes half a millisecond, for which a worker could serve a hundred viewers. What does not fit into the
//! queue is given up: an initiator that gets no answer asks again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use headwater_rtmfp::handshake::{Accepted, KeyingTask};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

/// Keyings that may wait: those of a second or two.
const QUEUE: usize = 2_048;

/// A keying that came to its end, for the session that gets this id.
pub(crate) type Keyed = (u32, Option<Accepted>);

struct Job {
    task: Box<KeyingTask>,
    near_id: u32,
    /// As many as were asked for: bounded by the queue.
    answer: UnboundedSender<Keyed>,
}

/// The threads. They end with the last clone.
#[derive(Clone)]
pub(crate) struct KeyPool {
    jobs: SyncSender<Job>,
}

impl KeyPool {
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("keys-{number}"))
                .spawn(move || work(&queue))?;
        }
        Ok(Self { jobs })
    }

    /// Has a task done. False, and nothing will be done, if there is no room for it.
    pub(crate) fn run(
        &self,
        task: Box<KeyingTask>,
        near_id: u32,
        answer: &UnboundedSender<Keyed>,
    ) -> bool {
        let job = Job {
            task,
            near_id,
            answer: answer.clone(),
        };
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let next = queue.lock().recv();
        let Ok(job) = next else {
            return;
        };
        let accepted = job.task.run(job.near_id, &mut rand::rng());
        if let Err(refusal) = &accepted {
            tracing::debug!(%refusal, "no keys were agreed on");
        }
        // The worker may have ended.
        let _ = job.answer.send((job.near_id, accepted.ok()));
    }
}
