//! Congestion control by a model of the way: how fast it is, and how long.
//!
//! The rate of the way is the greatest at which packets were seen to arrive lately, its length the least round trip of the last seconds.
//! Their product is what fits into it: packets leave at that rate, and at most twice the product is under way, so that a queue of one's
//! own is no longer than the way. Four phases look after the two numbers:
//!
//! - *Filling*: at the beginning the rate doubles with each round trip, until three of them in which there was enough to send show no more.
//! - *Draining*: what that has put into the queue leaves it.
//! - *Cycling*: for one round trip an eighth more is sent and five packets, to see whether more arrives; for one a fifth less; then six
//!   as measured. The greatest rates of this cycle and the one before count.
//! - *Measuring*: when no round trip was near the least for ten seconds, little is sent for a moment, so that the way is seen without
//!   a queue. One that is much longer than it was is filled anew.
//!
//! A live stream has seldom more to send than it may. What is seen then never lowers the rate.
//!
//! # Loss
//! Radio loses packets without any queue, and that says nothing about the rate. So a loss counts where round trips are longer than the
//! least by a quarter: one of some 64 packets is enough to lower the rate. Elsewhere it takes a share of them: 15 %, or 20 % where what
//! this session sends is time-critical, or 2 % for who has to give way. What remains of the rate is three quarters, seven eighths, or half.
//! Then nothing is measured for a round trip, for it would be what was sent before.
//!
//! # Why this is no more than TCP would take
//! RFC 7016 asks for no more aggression over time than that of TCP. The rate is measured behind the bottleneck: who competes there gets what
//! arrives, not what was sent. Where a queue loses packets, the rate goes down by a factor and up by packets, as that of TCP does, and who
//! has much gives to who has little; the least under way is what TCP has for its least, and so is the beginning: ten packets, the same after
//! a pause, two after a timeout. What a queue holds of one session is bounded by the length of the way, where TCP fills it. Only where
//! packets are lost without a queue it takes what the way has, and TCP that halves at each loss does not. Two sessions share a bottleneck
//! about evenly; one beside the algorithm of the appendix takes between a fifth and four fifths, less where queues are long and more where
//! they are short: the tests of the flows say so.
//!
//! Who has to give way (section 3.5.2.1) looks for more by a twentieth, keeps a quarter of the way's length in the queue and not all of it,
//! and loses half where others lose a quarter.

use std::time::Duration;

use super::{Congestion, Feedback};

/// Packets under way at the beginning, and after a pause.
const INITIAL: usize = 10;

/// Fewer packets are under way only after a timeout: acknowledgements are for each second one, and repair takes three.
const LEAST: usize = 4;

/// Packets under way after a timeout.
const AFTER_TIMEOUT: usize = 2;

/// Packets beyond what the model says: acknowledgements come in pairs, and timers are not exact.
const EXTRA: usize = 3;

/// What is under way at most, in percent of the product; and for who has to give way.
const WINDOW: u64 = 200;
const WINDOW_GIVING_WAY: u64 = 125;

/// The rate in the phase of filling, in percent: twice as much in each round trip takes 2 / ln 2 times what was seen to arrive.
const FILLING: u64 = 289;
const FILLING_GIVING_WAY: u64 = 150;

/// The rate in the phase of draining: the reverse.
const DRAINING: u64 = 35;

/// Steps of a cycle, each of one round trip.
const STEPS: u8 = 8;

/// The rates of the first two, in percent.
const MORE: u64 = 112;
const MORE_GIVING_WAY: u64 = 105;
const LESS: u64 = 80;

/// Packets in a round trip that are tried beside that: they let who has little catch up with who has much.
const MORE_PACKETS: usize = 5;

/// So many round trips without growth end the filling, where growth is at least a quarter.
const FILLED: u8 = 3;

/// A least round trip that is older is measured again.
const ROUND_TRIP_LIVES: Duration = Duration::from_secs(10);

/// How long that takes, or as long as the way is.
const MEASURING: Duration = Duration::from_millis(200);

/// Round trips are held to these bounds: shorter ones are not worth a timer, longer ones are outages.
const ROUND_TRIPS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(4));

/// Packets over which a share of losses is counted: with fewer, five in a hundred that are lost at random look like fifteen too often.
const COUNTED: usize = 64;

/// Shares of losses in percent that lower the rate: whatever the reason; and where there is a queue, which is no more than one packet.
const MUCH: u64 = 15;
const MUCH_TIME_CRITICAL: u64 = 20;
const MUCH_GIVING_WAY: u64 = 2;
const SOME: u64 = 1;

/// What remains of the rate then, in percent.
const KEEP: u64 = 75;
const KEEP_TIME_CRITICAL: u64 = 88;
const KEEP_GIVING_WAY: u64 = 50;

/// After it was lowered, the rate is not measured for so many round trips: the first sees what was sent before.
const DEAF: u8 = 2;

/// No rate is greater, in bytes each second; products stay within their types.
const MAX_RATE: u64 = 1 << 34;

/// A window beyond this is no limit any more, in bytes.
const MAX_WINDOW: usize = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Filling,
    Draining,
    Cycling { step: u8 },
    Measuring { least: Duration, rounds: u8 },
}

/// The greatest rates of this cycle and the one before, in bytes each second.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    before: u64,
    now: u64,
    /// Whether there was enough to send in this one: otherwise it does not replace the one before.
    sufficed: bool,
}

impl Rates {
    fn greatest(&self) -> u64 {
        self.before.max(self.now)
    }

    fn add(&mut self, rate: u64, limited: bool) {
        self.now = self.now.max(rate.min(MAX_RATE));
        self.sufficed |= !limited;
    }

    fn turn(&mut self) {
        if self.sufficed {
            *self = Self {
                before: self.now,
                ..Self::default()
            };
        }
    }

    fn keep(&mut self, percent: u64) {
        self.before = self.before * percent / 100;
        self.now = self.now * percent / 100;
    }
}

/// What was lost and what came since it was last judged.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    lost: usize,
    /// Of it, while there was a queue.
    queued: usize,
    came: usize,
}

/// The least round trip, and when one was near it.
#[derive(Clone, Copy, Debug)]
struct Length {
    round_trip: Duration,
    seen: Duration,
}

impl Length {
    /// Whether a round trip had next to no queue in it.
    fn is_near(&self, round_trip: Duration) -> bool {
        round_trip <= self.round_trip + self.round_trip / 128 + Duration::from_micros(500)
    }

    /// Whether there is a queue in it.
    fn is_queued(&self, round_trip: Duration) -> bool {
        round_trip > self.round_trip + self.round_trip / 4 + Duration::from_millis(5)
    }

    /// Whether there is a long queue in it.
    fn is_far(&self, round_trip: Duration) -> bool {
        round_trip > self.round_trip + self.round_trip / 2 + Duration::from_millis(10)
    }
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Modelled {
    segment: usize,
    window: usize,
    rates: Rates,
    length: Option<Length>,
    phase: Phase,
    /// When the phase began, or the step of the cycle.
    since: Duration,
    /// The rate when it grew last while filling, and round trips since.
    filling: (u64, u8),
    losses: Losses,
    /// Timeouts since something came.
    timeouts: u8,
    gives_way: bool,
    /// The least round trip of those since the last of them was over.
    lately: Option<Duration>,
    latest: Duration,
    /// Round trips whose rates do not count, because what is seen in them was sent before the rate was lowered.
    deaf: u8,
}

impl Modelled {
    /// For packets of `segment` bytes.
    #[must_use]
    pub fn new(segment: usize) -> Self {
        let segment = segment.clamp(1, usize::from(u16::MAX));
        Self {
            segment,
            window: INITIAL * segment,
            rates: Rates::default(),
            length: None,
            phase: Phase::Filling,
            since: Duration::ZERO,
            filling: (0, 0),
            losses: Losses::default(),
            timeouts: 0,
            gives_way: false,
            lately: None,
            latest: Duration::ZERO,
            deaf: 0,
        }
    }

    fn round_trip(&self) -> Option<Duration> {
        let (least, most) = ROUND_TRIPS;
        Some(self.length?.round_trip.clamp(least, most))
    }

    /// Bytes that fit into the way.
    fn product(&self) -> Option<usize> {
        let bytes = self.rates.greatest() * self.round_trip()?.as_micros() as u64 / 1_000_000;
        Some(usize::try_from(bytes).unwrap_or(MAX_WINDOW))
    }

    /// What should be under way at most.
    fn target(&self) -> Option<usize> {
        let gain = if self.gives_way {
            WINDOW_GIVING_WAY
        } else {
            WINDOW
        };
        let product = self.product()?.min(MAX_WINDOW) as u64;
        let bytes = (product * gain / 100) as usize + EXTRA * self.segment;
        Some(bytes.clamp(LEAST * self.segment, MAX_WINDOW))
    }

    fn enter(&mut self, phase: Phase, now: Duration) {
        self.phase = phase;
        self.since = now;
    }

    fn note_round_trip(&mut self, now: Duration, round_trip: Duration) {
        self.latest = round_trip;
        self.lately = Some(
            self.lately
                .map_or(round_trip, |least| least.min(round_trip)),
        );
        if let Phase::Measuring { least, .. } = &mut self.phase {
            *least = round_trip.min(*least);
        }
        let Some(length) = self
            .length
            .as_mut()
            .filter(|length| round_trip >= length.round_trip)
        else {
            self.length = Some(Length {
                round_trip,
                seen: now,
            });
            return;
        };
        if length.is_near(round_trip) {
            length.seen = now;
        } else if now.saturating_sub(length.seen) > ROUND_TRIP_LIVES
            && !matches!(self.phase, Phase::Measuring { .. } | Phase::Draining)
        {
            self.enter(
                Phase::Measuring {
                    least: round_trip,
                    rounds: 0,
                },
                now,
            );
        }
    }

    /// Judges what was lost when enough of it is known.
    fn note_losses(&mut self, feedback: &Feedback, round: bool) {
        let losses = &mut self.losses;
        losses.lost = losses.lost.saturating_add(feedback.lost);
        if self.length.is_some_and(|it| it.is_queued(self.latest)) {
            losses.queued = losses.queued.saturating_add(feedback.lost);
        }
        losses.came = losses.came.saturating_add(feedback.acknowledged);
        let counted = COUNTED * self.segment;
        let all = losses.lost.saturating_add(losses.came);
        let gives_way = feedback.gives_way();
        let (much, keep) = match (gives_way, feedback.time_critical) {
            (true, _) => (MUCH_GIVING_WAY, KEEP_GIVING_WAY),
            (false, true) => (MUCH_TIME_CRITICAL, KEEP_TIME_CRITICAL),
            (false, false) => (MUCH, KEEP),
        };
        let exceeds = |lost: usize, percent: u64, of: usize| {
            u128::from(percent) * (of as u128) < 100 * lost as u128
        };
        // What comes yet of the number that is counted cannot change that.
        let judge = |of| exceeds(losses.lost, much, of) || exceeds(losses.queued, SOME, of);
        if !round || (all < counted && !judge(counted)) {
            return;
        }
        let lowers = judge(all);
        self.losses = Losses::default();
        if lowers {
            self.rates.keep(keep);
            self.deaf = DEAF;
            if self.phase == Phase::Filling {
                self.filling.1 = FILLED;
                self.enter(Phase::Draining, feedback.now);
            }
        }
    }

    /// Goes on to the next phase if this one is over. `left` bytes are under way.
    fn advance(&mut self, feedback: &Feedback, left: usize) {
        let Feedback { now, sample, .. } = *feedback;
        let (Some(round_trip), Some(product)) = (self.round_trip(), self.product()) else {
            return;
        };
        let elapsed = now.saturating_sub(self.since);
        let sample = sample.unwrap_or_default();
        let lately = sample.round.then(|| self.lately.take()).flatten();
        match &mut self.phase {
            Phase::Filling => {
                if !sample.round || sample.limited {
                    return;
                }
                let queue = lately.zip(self.length);
                if queue.is_some_and(|(lately, length)| length.is_far(lately)) {
                    self.filling.1 = FILLED;
                    self.enter(Phase::Draining, now);
                    return;
                }
                let rate = self.rates.greatest();
                if rate >= self.filling.0 + self.filling.0 / 4 {
                    self.filling = (rate, 0);
                    return;
                }
                self.filling.1 += 1;
                if self.filling.1 >= FILLED {
                    self.enter(Phase::Draining, now);
                }
            }
            Phase::Draining => {
                if left <= product || elapsed > round_trip * 4 {
                    // Sessions that began together do not look for more together.
                    let step = 2 + (now.as_micros() % u128::from(STEPS - 2)) as u8;
                    self.enter(Phase::Cycling { step }, now);
                }
            }
            Phase::Cycling { step } => {
                let over = match step {
                    0 => {
                        let reached = left as u64 * 100 >= product as u64 * MORE;
                        let enough = reached || feedback.lost > 0 || sample.limited;
                        elapsed > round_trip && (enough || elapsed > round_trip * 3)
                    }
                    1 => left <= product || elapsed > round_trip,
                    _ => elapsed > round_trip,
                };
                if over {
                    let step = (*step + 1) % STEPS;
                    if step == 0 {
                        self.rates.turn();
                    }
                    self.enter(Phase::Cycling { step }, now);
                }
            }
            Phase::Measuring { least, rounds } => {
                *rounds = rounds.saturating_add(u8::from(sample.round));
                if elapsed < MEASURING.max(round_trip) || *rounds < 2 {
                    return;
                }
                let least = *least;
                if self.length.is_some_and(|length| length.is_far(least)) {
                    // Another way, and the rate was measured with a window that was too small for it.
                    self.filling = (0, 0);
                }
                self.length = Some(Length {
                    round_trip: least,
                    seen: now,
                });
                let phase = if self.filling.1 >= FILLED {
                    Phase::Cycling { step: 2 }
                } else {
                    Phase::Filling
                };
                self.enter(phase, now);
                self.window = self.target().unwrap_or(self.window).max(self.window);
            }
        }
    }

    fn resize(&mut self, acknowledged: usize) {
        let more = if self.gives_way && self.phase == Phase::Filling {
            acknowledged.div_ceil(4)
        } else {
            acknowledged
        };
        let grown = self.window.saturating_add(more).min(MAX_WINDOW);
        let initial = INITIAL * self.segment;
        let target = self.target();
        self.window = match self.phase {
            // As long as the model is young it may be low.
            Phase::Filling => {
                let target = target.unwrap_or(0).max(2 * initial);
                if self.window < target {
                    grown.min(target)
                } else {
                    self.window
                }
            }
            Phase::Draining | Phase::Cycling { .. } => grown.min(target.unwrap_or(initial)),
            Phase::Measuring { .. } => {
                let little = self.product().unwrap_or(initial) / 4;
                grown.min(little.max(LEAST * self.segment))
            }
        };
    }
}

impl Congestion for Modelled {
    fn window(&self) -> usize {
        self.window
    }

    fn rate(&self) -> Option<u64> {
        let micros = self.round_trip()?.as_micros() as u64;
        let packets = |count: usize| (count * self.segment) as u64 * 1_000_000 / micros;
        let known = self.rates.greatest();
        let (percent, least) = match (self.phase, self.gives_way) {
            (Phase::Filling, false) => (FILLING, INITIAL),
            (Phase::Filling, true) => (FILLING_GIVING_WAY, INITIAL),
            (Phase::Draining, _) => (DRAINING, LEAST),
            (Phase::Cycling { step: 0 }, false) => (MORE, LEAST),
            (Phase::Cycling { step: 0 }, true) => (MORE_GIVING_WAY, LEAST),
            (Phase::Cycling { step: 1 }, _) => (LESS, LEAST),
            (Phase::Cycling { .. } | Phase::Measuring { .. }, _) => (100, LEAST),
        };
        let rate = known.max(packets(least)) * percent / 100;
        let tries = matches!(self.phase, Phase::Cycling { step: 0 }) && !self.gives_way;
        Some(rate + if tries { packets(MORE_PACKETS) } else { 0 })
    }

    fn acknowledged(&mut self, feedback: &Feedback) {
        self.timeouts = 0;
        self.gives_way = feedback.gives_way();
        let sample = feedback.sample.unwrap_or_default();
        if let Some(round_trip) = sample.round_trip {
            self.note_round_trip(feedback.now, round_trip);
        }
        // What came within less than a round trip came together.
        let length = self.length.map(|it| it.round_trip);
        self.deaf = self.deaf.saturating_sub(u8::from(sample.round));
        if let Some(rate) = sample.rate
            && self.deaf == 0
            && length.is_some_and(|length| sample.interval >= length)
        {
            self.rates.add(rate, sample.limited);
        }
        self.note_losses(feedback, sample.round);
        let gone = feedback.acknowledged.saturating_add(feedback.lost);
        self.advance(feedback, feedback.outstanding.saturating_sub(gone));
        self.resize(feedback.acknowledged);
    }

    fn timed_out(&mut self, loss: bool) {
        self.losses = Losses::default();
        if !loss {
            self.window = self.window.min(INITIAL * self.segment);
            return;
        }
        self.window = AFTER_TIMEOUT * self.segment;
        self.timeouts = self.timeouts.saturating_add(1);
        if self.timeouts == 2 {
            // That was no packet but the way; it may be another one now.
            self.rates.keep(50);
            self.filling = (0, 0);
            self.phase = Phase::Filling;
        }
    }

    fn path_changed(&mut self) {
        *self = Self::new(self.segment);
    }
}

#[cfg(test)]
mod tests;
