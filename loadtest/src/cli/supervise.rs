//! The life of a run, seen from the main thread: signals, time, and the progress line.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::lane::Lane;

/// How often it is looked whether all clients have ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often the progress line is drawn, in looks.
const DRAW_EVERY: u32 = 10;

/// The main thread's part of a run. Clients live on lanes.
pub(super) struct Supervisor {
    runtime: Runtime,
    signals: [Signal; 2],
    line: ProgressBar,
    begun: Instant,
    interrupted: bool,
}

impl Supervisor {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let signals = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        ];
        let begun = Instant::now();
        drop(inside);
        // Nothing is drawn where standard error is no terminal.
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise}  {wide_msg}") {
            line.set_style(style);
        }
        Ok(Self {
            runtime,
            signals,
            line,
            begun,
            interrupted: false,
        })
    }

    /// Waits until `is_over`, the limit from now on has passed, or somebody interrupts. Draws the progress line meanwhile.
    pub(super) fn wait(
        &mut self,
        limit: Option<Duration>,
        is_over: impl Fn() -> bool,
        progress: impl Fn() -> String,
    ) {
        if self.interrupted {
            return;
        }
        let is_drawn = !self.line.is_hidden();
        let [interrupt, terminate] = &mut self.signals;
        let line = &self.line;
        let watch = async {
            let mut looks = 0_u32;
            let mut tick = tokio::time::interval(LOOK_EVERY);
            while !is_over() {
                if is_drawn && looks.is_multiple_of(DRAW_EVERY) {
                    line.set_message(progress());
                    line.tick();
                }
                looks = looks.wrapping_add(1);
                tick.tick().await;
            }
        };
        let end = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        self.interrupted = self.runtime.block_on(async {
            tokio::select! {
                () = watch => false,
                () = end => false,
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
            }
        });
    }

    /// Whether somebody interrupted.
    pub(super) const fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// How long the run has taken.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Says something on standard error, above the progress line if there is one.
    pub(super) fn print(&self, text: &str) {
        if !self.line.is_hidden() {
            self.line.println(text);
            return;
        }
        // Where nobody listens, nothing is lost but words.
        let _unheard = writeln!(io::stderr().lock(), "{text}");
    }

    /// Does something that waits, without looking at signals: it must be bounded by itself.
    pub(super) fn finish<T>(&self, work: impl Future<Output = T>) -> T {
        self.line.finish_and_clear();
        self.runtime.block_on(work)
    }
}

/// Starts so many threads.
pub(super) fn lanes(name: &str, count: usize) -> io::Result<Vec<Lane>> {
    (0..count.max(1))
        .map(|number| Lane::start(&format!("{name}-{number}")))
        .collect()
}

/// Stops all of them at the same time.
pub(super) async fn all<T: Send + 'static>(
    endings: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = endings.map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        // A panic was told where it happened.
        if let Ok(result) = task.await {
            results.push(result);
        }
    }
    results
}
