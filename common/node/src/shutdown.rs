//! Signals, draining and the end of the process.
//!
//! ```text
//! Running --SIGTERM, SIGINT, begin()--> Draining --all tasks done--> Stopping
//!                                          |--grace over----------->    |
//!                                          '--second signal, stop_now->-'
//! ```
//!
//! Draining: take nothing new, bring what runs to a good end. Stopping: let go at once. `SIGHUP` asks for a reload
//! (certificates) and changes no phase. Phases only go forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

crate::section! {
    /// How the process ends.
    pub struct ShutdownSection {
        /// How long connections and recordings get to end after SIGTERM before they are cut, milliseconds. Keep it below
        /// the grace period of whatever supervises the process (Kubernetes: 30 s unless set otherwise).
        pub grace_ms: u64 = 25_000 => 0..=3_600_000,
    }
}

/// How long tasks get to let go once the grace period is over.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Takes traffic.
    Running,
    /// Takes nothing new, ends what it has.
    Draining,
    /// Lets go.
    Stopping,
}

/// How the draining went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every task ended by itself within the grace period.
    Clean,
    /// The grace period ended first.
    GraceOver {
        /// How many tasks were cut.
        cut: usize,
    },
    /// A second signal or [`Shutdown::stop_now`] ended it.
    Immediate {
        /// How many tasks were cut.
        cut: usize,
    },
}

/// The state of the process' end. Clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    draining: CancellationToken,
    stopping: CancellationToken,
    tracker: TaskTracker,
    grace: Duration,
    deadline: watch::Sender<Option<Instant>>,
    /// How many tasks ran when the process was told to stop at once.
    cut: AtomicUsize,
    reload: watch::Sender<u64>,
}

impl Shutdown {
    /// A running process that gets `grace` to drain.
    pub fn new(grace: Duration) -> Self {
        Self {
            inner: Arc::new(Inner {
                draining: CancellationToken::new(),
                stopping: CancellationToken::new(),
                tracker: TaskTracker::new(),
                grace,
                deadline: watch::Sender::new(None),
                cut: AtomicUsize::new(0),
                reload: watch::Sender::new(0),
            }),
        }
    }

    /// A running process with the grace period of the configuration.
    pub fn from_section(section: &ShutdownSection) -> Self {
        Self::new(Duration::from_millis(section.grace_ms))
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        if self.inner.stopping.is_cancelled() {
            Phase::Stopping
        } else if self.inner.draining.is_cancelled() {
            Phase::Draining
        } else {
            Phase::Running
        }
    }

    /// Cancelled when draining begins.
    pub fn draining(&self) -> CancellationToken {
        self.inner.draining.clone()
    }

    /// Cancelled when tasks must let go at once.
    pub fn stopping(&self) -> CancellationToken {
        self.inner.stopping.clone()
    }

    /// Tracks the tasks that [`Shutdown::drain`] waits for.
    pub fn tracker(&self) -> TaskTracker {
        self.inner.tracker.clone()
    }

    /// Spawns a task that draining waits for. It should watch [`Shutdown::draining`] and [`Shutdown::stopping`].
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.inner.tracker.spawn(task)
    }

    /// How long draining may take.
    pub fn grace(&self) -> Duration {
        self.inner.grace
    }

    /// When the grace period ends; `None` while running.
    pub fn deadline(&self) -> Option<Instant> {
        *self.inner.deadline.borrow()
    }

    /// Begins to drain. Only the first call counts.
    pub fn begin(&self, reason: &str) {
        let first = self.inner.deadline.send_if_modified(|deadline| {
            let first = deadline.is_none();
            deadline.get_or_insert_with(|| Instant::now() + self.inner.grace);
            first
        });
        if first {
            tracing::info!(reason, grace_ms = self.inner.grace.as_millis(), "draining");
            self.inner.draining.cancel();
        }
    }

    /// Ends the grace period at once.
    pub fn stop_now(&self, reason: &str) {
        self.begin(reason);
        if !self.inner.stopping.is_cancelled() {
            tracing::warn!(reason, "stopping at once");
            // Counted before they hear of it: some end the moment they do.
            self.inner
                .cut
                .store(self.inner.tracker.len(), Ordering::Relaxed);
            self.inner.stopping.cancel();
        }
    }

    /// Counts requests to reload; the value changes with every `SIGHUP`.
    pub fn reload(&self) -> watch::Receiver<u64> {
        self.inner.reload.subscribe()
    }

    /// Asks for a reload, as `SIGHUP` does.
    pub fn request_reload(&self) {
        self.inner
            .reload
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Listens for signals from now on, until stopping. Returns when draining begins, whoever began it.
    ///
    /// # Errors
    /// The operating system refused the handlers.
    pub async fn wait_for_signal(&self) -> std::io::Result<()> {
        self.listen_for_signals()?;
        self.inner.draining.cancelled().await;
        Ok(())
    }

    /// Listens for signals in a task of its own, until stopping.
    ///
    /// # Errors
    /// The operating system refused the handlers.
    pub fn listen_for_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};

        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let shutdown = self.clone();
        // Not tracked: it must outlive the tasks that draining waits for.
        tokio::spawn(async move {
            let stopping = shutdown.stopping();
            loop {
                let name = tokio::select! {
                    () = stopping.cancelled() => return,
                    Some(()) = terminate.recv() => "SIGTERM",
                    Some(()) = interrupt.recv() => "SIGINT",
                    Some(()) = hang_up.recv() => {
                        tracing::info!("reload requested by SIGHUP");
                        shutdown.request_reload();
                        continue;
                    }
                    else => return,
                };
                shutdown.signalled(name);
            }
        });
        Ok(())
    }

    /// The first signal drains, the second stops.
    fn signalled(&self, name: &str) {
        match self.phase() {
            Phase::Running => self.begin(name),
            Phase::Draining | Phase::Stopping => self.stop_now(name),
        }
    }

    /// Begins to drain if nobody did, waits for the tracked tasks until the grace period ends, then stops and gives the
    /// rest a moment to let go.
    pub async fn drain(&self) -> Outcome {
        self.begin("asked to end");
        self.inner.tracker.close();
        let deadline = self.deadline().unwrap_or_else(Instant::now);
        let outcome = tokio::select! {
            biased;
            () = self.inner.stopping.cancelled() => {
                Outcome::Immediate { cut: self.inner.cut.load(Ordering::Relaxed) }
            }
            () = self.inner.tracker.wait() => Outcome::Clean,
            () = tokio::time::sleep_until(deadline) => Outcome::GraceOver { cut: self.inner.tracker.len() },
        };
        self.inner.stopping.cancel();
        if outcome != Outcome::Clean {
            tracing::warn!(
                tasks = self.inner.tracker.len(),
                ?outcome,
                "tasks did not end by themselves"
            );
            let _ = tokio::time::timeout(STOP_DEADLINE, self.inner.tracker.wait()).await;
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn tasks_that_end_make_a_clean_end() {
        let shutdown = Shutdown::new(GRACE);
        let draining = shutdown.draining();
        shutdown.spawn(async move { draining.cancelled().await });
        assert_eq!(shutdown.phase(), Phase::Running);
        let start = Instant::now();
        assert_eq!(shutdown.drain().await, Outcome::Clean);
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(shutdown.phase(), Phase::Stopping);
    }

    #[tokio::test(start_paused = true)]
    async fn the_grace_period_counts_from_the_first_signal() {
        let shutdown = Shutdown::new(GRACE);
        let stopping = shutdown.stopping();
        shutdown.spawn(async move { stopping.cancelled().await });
        let start = Instant::now();
        shutdown.signalled("SIGTERM");
        assert_eq!(shutdown.phase(), Phase::Draining);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(shutdown.drain().await, Outcome::GraceOver { cut: 1 });
        assert!(start.elapsed() < GRACE + Duration::from_secs(1));
        assert!(
            shutdown.tracker().is_empty(),
            "the task let go when it was told"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_it_at_once() {
        let shutdown = Shutdown::new(GRACE);
        let stopping = shutdown.stopping();
        shutdown.spawn(async move { stopping.cancelled().await });
        shutdown.signalled("SIGTERM");
        let drain = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.drain().await }
        });
        tokio::task::yield_now().await;
        let start = Instant::now();
        shutdown.signalled("SIGINT");
        assert_eq!(drain.await.unwrap(), Outcome::Immediate { cut: 1 });
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_lets_go_does_not_hold_the_process() {
        let shutdown = Shutdown::new(GRACE);
        shutdown.spawn(std::future::pending::<()>());
        let start = Instant::now();
        assert_eq!(shutdown.drain().await, Outcome::GraceOver { cut: 1 });
        assert!(start.elapsed() <= GRACE + STOP_DEADLINE + Duration::from_millis(10));
    }

    #[tokio::test]
    async fn real_signals_reload_drain_and_stop() {
        use rustix::process::{Signal, getpid, kill_process};

        let shutdown = Shutdown::new(GRACE);
        shutdown.listen_for_signals().unwrap();
        let mut reload = shutdown.reload();
        kill_process(getpid(), Signal::HUP).unwrap();
        reload.changed().await.unwrap();
        assert_eq!(shutdown.phase(), Phase::Running);
        kill_process(getpid(), Signal::TERM).unwrap();
        shutdown.draining().cancelled().await;
        assert_eq!(shutdown.phase(), Phase::Draining);
        kill_process(getpid(), Signal::TERM).unwrap();
        shutdown.stopping().cancelled().await;
        assert_eq!(shutdown.phase(), Phase::Stopping);
    }
}
