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
//!   to and fro. The very first contact is trusted at once, also after dials that failed: there is nothing to return from, and
//!   nodes that start together find each other without taking each other's streams.

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
    /// It was heard at least once.
    met: bool,
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
            met: false,
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
        let met = std::mem::replace(&mut self.met, true);
        match self.phase {
            Phase::Never => self.phase = Phase::Reachable,
            Phase::Reachable => {}
            Phase::Lost if !met || self.settings.settle_ms == 0 => self.phase = Phase::Reachable,
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn monitor(now: Instant) -> Monitor {
        Monitor::new(LivenessConfig::default(), now)
    }

    /// Heartbeats every 200 ms from `from` to `to`, in milliseconds after `start`.
    fn beat(monitor: &mut Monitor, start: Instant, from: u64, to: u64) {
        let mut at = from;
        while at <= to {
            monitor.handle_heartbeat(start + ms(at));
            at += 200;
        }
    }

    #[test]
    fn the_first_contact_is_trusted_at_once() {
        let start = Instant::now();
        let mut monitor = monitor(start);
        monitor.handle_dial(start);
        assert!(!monitor.is_reachable());
        monitor.handle_heartbeat(start + ms(1));
        assert!(monitor.is_reachable());
    }

    #[test]
    fn the_first_contact_after_failed_dials_is_trusted_at_once() {
        let start = Instant::now();
        let mut monitor = monitor(start);
        monitor.handle_broken();
        monitor.handle_broken();
        monitor.handle_heartbeat(start + ms(300));
        assert!(monitor.is_reachable());
        monitor.handle_broken();
        monitor.handle_heartbeat(start + ms(400));
        assert!(!monitor.is_reachable(), "the second is not");
    }

    #[test]
    fn silence_is_a_hang_after_its_limit() {
        let start = Instant::now();
        let mut monitor = monitor(start);
        monitor.handle_heartbeat(start);
        assert!(!monitor.handle_tick(start + ms(700), ms(0)));
        assert!(monitor.is_reachable());
        assert!(monitor.handle_tick(start + ms(701), ms(0)));
        assert!(!monitor.is_reachable());
        assert!(!monitor.is_connected());
    }

    #[test]
    fn a_break_is_a_loss_at_once() {
        let start = Instant::now();
        let mut monitor = monitor(start);
        monitor.handle_heartbeat(start);
        monitor.handle_broken();
        assert!(!monitor.is_reachable());
    }

    #[test]
    fn a_starved_watcher_does_not_blame_the_peer() {
        let start = Instant::now();
        let mut monitor = monitor(start);
        monitor.handle_heartbeat(start);
        // Woken 800 ms after it wanted: the peer gets that time.
        assert!(!monitor.handle_tick(start + ms(890), ms(800)));
        assert!(!monitor.handle_tick(start + ms(1_500), ms(0)));
        assert!(monitor.handle_tick(start + ms(1_501), ms(0)));
    }

    #[test]
    fn starvation_gives_no_more_than_its_bound() {
        let start = Instant::now();
        let mut monitor = monitor(start);
        monitor.handle_heartbeat(start);
        let mut lost_at = None;
        for at in (100..5_000).step_by(100) {
            if monitor.handle_tick(start + ms(at), ms(90)) {
                lost_at = Some(at);
                break;
            }
        }
        assert_eq!(
            lost_at,
            Some(1_800),
            "700 ms of silence, 1,000 ms of slack, noticed at the next tick"
        );
    }

    #[test]
    fn a_heartbeat_takes_the_slack_back() {
        let start = Instant::now();
        let mut monitor = monitor(start);
        monitor.handle_heartbeat(start);
        assert!(!monitor.handle_tick(start + ms(890), ms(800)));
        monitor.handle_heartbeat(start + ms(900));
        assert!(monitor.handle_tick(start + ms(1_601), ms(0)));
    }

    #[test]
    fn jitter_of_timers_is_no_starvation() {
        let start = Instant::now();
        let mut monitor = monitor(start);
        monitor.handle_heartbeat(start);
        for at in (0..700).step_by(100) {
            assert!(!monitor.handle_tick(start + ms(at), ms(10)));
        }
        assert!(monitor.handle_tick(start + ms(701), ms(1)));
    }

    #[test]
    fn a_returned_peer_has_to_settle() {
        let start = Instant::now();
        let mut monitor = monitor(start);
        monitor.handle_heartbeat(start);
        monitor.handle_broken();
        beat(&mut monitor, start, 1_000, 1_400);
        assert!(!monitor.is_reachable());
        assert!(
            monitor.is_connected(),
            "it answers, it is only not trusted yet"
        );
        monitor.handle_heartbeat(start + ms(1_600));
        assert!(monitor.is_reachable(), "600 ms of heartbeats");
    }

    #[test]
    fn a_gap_starts_the_settling_anew() {
        let start = Instant::now();
        let mut monitor = monitor(start);
        monitor.handle_heartbeat(start);
        monitor.handle_broken();
        beat(&mut monitor, start, 1_000, 1_400);
        // 450 ms of nothing: not silent enough for a loss, but not steady.
        beat(&mut monitor, start, 1_850, 2_250);
        assert!(!monitor.is_reachable());
        monitor.handle_heartbeat(start + ms(2_450));
        assert!(monitor.is_reachable());
    }

    #[test]
    fn a_break_while_settling_is_a_loss() {
        let start = Instant::now();
        let mut monitor = monitor(start);
        monitor.handle_heartbeat(start);
        monitor.handle_broken();
        beat(&mut monitor, start, 1_000, 1_200);
        monitor.handle_broken();
        beat(&mut monitor, start, 1_400, 1_600);
        assert!(
            !monitor.is_reachable(),
            "the time before the break does not count"
        );
    }

    #[test]
    fn waits_grow_to_their_bound() {
        let settings = LivenessConfig {
            redial_max_ms: 1_000,
            ..LivenessConfig::default()
        };
        let mut backoff = Backoff::new(&settings);
        let waits: Vec<_> = (0..7).map(|_| backoff.wait(0.0)).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1_000, 1_000].map(ms));
        assert_eq!(backoff.wait(1.0), ms(500), "jitter takes up to half");
        backoff.reset();
        assert_eq!(backoff.wait(0.0), ms(50));
    }
}
