//! Whether a peer lives: a pure state machine over heartbeats, and the watch that feeds it.
//!
//! ```text
//!            heartbeat                    broken call, refused connection, or silence
//!   Never ──────────────► Reachable ─────────────────────────────────────────────► Lost
//!                             ▲                                                   │  ▲
//!                             │ heartbeats without a gap for the settling time    │  │ the same
//!                             └──────────────────── Settling ◄────────────────────┘  │
//!                                                       └─────────────────────────────┘
//! ```
//!
//! - A broken call or a refused connection means that the process is gone: lost at once.
//! - Silence on a standing call means that it hangs: lost after `silence_ms`.
//! - A watcher that did not get the processor itself cannot blame the peer for a silence: heartbeats may lie unread in a socket.
//!   The watch ticks several times per silence; what a tick comes late is added to the time that the peer has, up to
//!   [`MAX_SLACK`] per silence, so that even on an overloaded machine a hung peer is left behind within two seconds.
//! - A node that comes back is trusted after a settling time, so that one that dies again and again does not pull its streams
//!   to and fro. The very first contact is trusted at once: there is nothing to return from.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::LivenessConfig;
use crate::view::PeerStatus;

pub(crate) mod watch;

/// Most time that the watcher's own delays give to a silent peer.
const MAX_SLACK: Duration = Duration::from_secs(1);

/// A tick this late is ordinary jitter of timers.
const TICK_TOLERANCE: Duration = Duration::from_millis(15);

/// Least time between two checks that callers ask for. More reports within it cost nothing.
const CHECK_SPACING: Duration = Duration::from_millis(100);

/// What a watch found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(crate) status: PeerStatus,
    /// The peer answers, whether or not it is trusted yet: calls to it may try.
    pub(crate) connected: bool,
}

/// The way from callers to the watch of a peer.
#[derive(Debug, Default)]
pub(crate) struct Control {
    check: Notify,
    last: Mutex<Option<Instant>>,
}

impl Control {
    /// Asks for a check now.
    pub(crate) fn check(&self) {
        let now = Instant::now();
        let mut last = self.last.lock();
        if last.is_none_or(|last| now.saturating_duration_since(last) >= CHECK_SPACING) {
            *last = Some(now);
            self.check.notify_one();
        }
    }

    async fn checked(&self) {
        self.check.notified().await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Never,
    Reachable,
    Settling { since: Instant },
    Lost,
}

/// The state machine of one peer. Time comes from outside.
#[derive(Debug)]
pub(crate) struct Monitor {
    settings: LivenessConfig,
    phase: Phase,
    /// When it was last heard, or when the call to it stood.
    heard: Instant,
    /// What own delays since then give to the peer.
    slack: Duration,
}

impl Monitor {
    pub(crate) fn new(settings: LivenessConfig, now: Instant) -> Self {
        Self {
            settings,
            phase: Phase::Never,
            heard: now,
            slack: Duration::ZERO,
        }
    }

    /// A call to the peer is under way: from now on silence counts.
    pub(crate) fn handle_dial(&mut self, now: Instant) {
        self.heard = now;
        self.slack = Duration::ZERO;
    }

    /// The peer was heard.
    pub(crate) fn handle_heartbeat(&mut self, now: Instant) {
        let gap = now
            .saturating_duration_since(self.heard)
            .saturating_sub(self.slack);
        self.heard = now;
        self.slack = Duration::ZERO;
        match self.phase {
            Phase::Never => self.phase = Phase::Reachable,
            Phase::Reachable => {}
            Phase::Lost if self.settings.settle_ms == 0 => self.phase = Phase::Reachable,
            Phase::Lost => self.phase = Phase::Settling { since: now },
            Phase::Settling { since } => {
                if gap > self.settings.heartbeat().saturating_mul(2) {
                    self.phase = Phase::Settling { since: now };
                } else if now.saturating_duration_since(since) >= self.settings.settle() {
                    self.phase = Phase::Reachable;
                }
            }
        }
    }

    /// The call or the connection broke, or never came to stand.
    pub(crate) fn handle_broken(&mut self) {
        self.phase = Phase::Lost;
    }

    /// Time passed; `late` is how much later than it had asked for the watcher was woken. Returns whether the peer hangs: it
    /// is lost then, and the call to it is to be given up.
    #[must_use]
    pub(crate) fn handle_tick(&mut self, now: Instant, late: Duration) -> bool {
        if late > TICK_TOLERANCE {
            self.slack = self.slack.saturating_add(late).min(MAX_SLACK);
        }
        let hangs = now.saturating_duration_since(self.heard)
            > self.settings.silence().saturating_add(self.slack);
        if hangs {
            self.phase = Phase::Lost;
        }
        hangs
    }

    /// How often to call [`Self::handle_tick`].
    pub(crate) fn tick_interval(&self) -> Duration {
        (self.settings.silence() / 8).clamp(Duration::from_millis(10), Duration::from_millis(200))
    }

    pub(crate) fn is_reachable(&self) -> bool {
        self.phase == Phase::Reachable
    }

    /// Whether the peer answers, trusted or not.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Reachable | Phase::Settling { .. })
    }
}

/// Waits between dials: doubling, with jitter so that the watchers of one peer do not knock together.
#[derive(Debug)]
struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    fn new(settings: &LivenessConfig) -> Self {
        let min = Duration::from_millis(settings.redial_min_ms);
        Self {
            min,
            max: Duration::from_millis(settings.redial_max_ms),
            next: min,
        }
    }

    fn reset(&mut self) {
        self.next = self.min;
    }

    /// The next wait; `random` from 0 to 1 takes up to half of it away.
    fn wait(&mut self, random: f64) -> Duration {
        let wait = self.next;
        self.next = self.next.saturating_mul(2).min(self.max);
        wait.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
    }
}
