//! A thread with a current-thread runtime, on which clients live.
//!
//! Clients never move between threads: they share its scratch buffer, and a thread costs no more than its clients. A publisher and a
//! viewer on two lanes do not wait for each other, so that a latency is not that of their own queue.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// A running thread; dropping it ends the thread and the tasks on it.
#[derive(Debug)]
pub struct Lane {
    handle: Handle,
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    /// Starts a thread with this name.
    ///
    /// # Errors
    /// The system gives no thread, or no event queue for it.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let end = CancellationToken::new();
        let ended = end.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(ended.cancelled()))?;
        Ok(Self {
            handle,
            end,
            thread: Some(thread),
        })
    }

    /// Runs something that starts tasks, so that they run here.
    pub fn enter<T>(&self, start: impl FnOnce() -> T) -> T {
        let _inside = self.handle.enter();
        start()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there was told by the thread itself.
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_run_on_the_thread() {
        let lane = Lane::start("lane-test").unwrap();
        let (said, heard) = std::sync::mpsc::channel();
        lane.enter(|| {
            tokio::spawn(async move {
                let name = std::thread::current().name().map(str::to_owned);
                said.send(name).unwrap();
            })
        });
        assert_eq!(heard.recv().unwrap().as_deref(), Some("lane-test"));
    }
}
