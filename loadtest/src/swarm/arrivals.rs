//! Many clients that connect one after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_rtmfp::crypto::certificate::Fingerprint;

use super::crew::Crew;
use super::plan::{Carrier, Manners, Plan};
use super::thread::Manner;
use super::thread::arrive::{Arrive, ArriveOrder, ArrivePlan, Found, Progress};
use super::watcher::Goal;
use super::{ArrivalOptions, MAX_SWARM_THREADS, SwarmError, plan};
use crate::clock::now_ns;
use crate::report::{ConnectSummary, Ending, Spread};

/// The figures of a progress line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrivalCounts {
    /// Connections that were begun.
    pub started: u64,
    /// Those that reached their goal.
    pub done: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that are open and do not have what they came for.
    pub in_flight: u64,
    /// Those that have it and stay.
    pub held: u64,
}

/// Clients that connect, see that they may play, and leave. Dropping it cuts off those that are left.
#[derive(Debug)]
pub struct Arrivals {
    crew: Crew<ArriveOrder>,
    plans: Arc<[Arc<Plan>]>,
    progress: Vec<Arc<Progress>>,
    started: u64,
    count: u64,
    rate: u32,
    wants_frame: bool,
}

impl Arrivals {
    /// Begins.
    ///
    /// # Errors
    /// [`SwarmError`]: nothing runs.
    pub fn start(options: ArrivalOptions) -> Result<Self, SwarmError> {
        if options.targets.is_empty() {
            return Err(SwarmError::NoTarget);
        }
        let most = usize::try_from(options.count.max(1)).unwrap_or(usize::MAX);
        let threads = options.threads.clamp(1, MAX_SWARM_THREADS).min(most);
        let manners = Manners {
            buffer: options.buffer,
            is_idle: options.is_idle,
            is_introducible: options.is_introducible,
            rtmfp: options.rtmfp,
        };
        let plans: Arc<[_]> = plan::plans(&options.targets, &manners)?.into();
        let manner = Manner {
            goal: if options.first_frame {
                Goal::FirstFrame
            } else {
                Goal::PlayStart
            },
            timeout: options.timeout,
            look_every: Duration::ZERO,
        };
        let started = now_ns();
        let mut crew = Crew::default();
        let mut progress = Vec::with_capacity(threads);
        for thread in 0..threads {
            let figures = Arc::new(Progress::default());
            progress.push(Arc::clone(&figures));
            // What does not divide goes to the first threads.
            let share = options.in_flight / threads;
            let rest = usize::from(thread < options.in_flight % threads);
            let plan = ArrivePlan {
                plans: Arc::clone(&plans),
                thread: thread as u64,
                threads: threads as u64,
                started,
                count: options.count,
                rate: options.rate,
                in_flight: (share + rest).max(1),
                hold: u64::try_from(options.hold.as_nanos()).unwrap_or(u64::MAX),
            };
            crew.start("arrive", manner, &options.cpus, |orders| {
                Arrive::new(plan, orders, figures)
            })?;
        }
        Ok(Self {
            crew,
            plans,
            progress,
            started,
            count: options.count,
            rate: options.rate,
            wants_frame: options.first_frame,
        })
    }

    /// A few figures.
    #[must_use]
    pub fn counts(&self) -> ArrivalCounts {
        let mut counts = ArrivalCounts::default();
        for progress in &self.progress {
            // In this order, so that none that has ended is missing among those that were begun.
            counts.failed += progress.failed.load(Ordering::Acquire);
            counts.done += progress.done.load(Ordering::Acquire);
            counts.held += progress.held.load(Ordering::Acquire);
            counts.started += progress.started.load(Ordering::Acquire);
        }
        counts.in_flight = counts.started.saturating_sub(counts.done + counts.failed);
        counts
    }

    /// Who has said that others may be introduced to it so far.
    #[must_use]
    pub fn introducible(&self) -> Vec<Fingerprint> {
        let mut all = Vec::new();
        for (number, plan) in self.plans.iter().enumerate() {
            let is_new = !self
                .plans
                .iter()
                .take(number)
                .any(|one| Arc::ptr_eq(one, plan));
            if let Carrier::Rtmfp(rtmfp) = &plan.carrier
                && is_new
            {
                all.extend(rtmfp.introducible());
            }
        }
        all
    }

    /// Whether all have come and gone.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut all = self.progress.iter();
        all.all(|one| one.has_ended.load(Ordering::Acquire)) || self.crew.has_lost_one()
    }

    /// What was found up to now.
    #[must_use]
    pub fn report(&self) -> ConnectSummary {
        let mut all = Found::default();
        let answers = self.crew.ask(ArriveOrder::Report);
        let silent = self.progress.len() - answers.len();
        let (mut most_in_flight, mut most_held) = (0, 0);
        for found in answers {
            all.opened.merge(&found.opened);
            all.setup.merge(&found.setup);
            all.first_frame.merge(&found.first_frame);
            all.behind = all.behind.max(found.behind);
            all.bytes = all.bytes.saturating_add(found.bytes);
            all.last_end = all.last_end.max(found.last_end);
            all.endings.merge(&found.endings);
            all.statuses.merge(&found.statuses);
            all.lost.merge(&found.lost);
            most_in_flight += found.most_at_once;
            most_held += found.most_held;
        }
        let counts = self.counts();
        let until = if self.has_ended() || counts.started >= self.count && counts.in_flight == 0 {
            // Those that stay have arrived.
            all.last_end
        } else {
            now_ns()
        };
        let seconds = Duration::from_nanos(until.saturating_sub(self.started)).as_secs_f64();
        let mut endings = all.endings.sorted();
        let lost = all.lost.sorted();
        if silent > 0 {
            endings.push(Ending {
                what: "a thread of the harness does not answer".to_owned(),
                count: silent as u64,
            });
        }
        ConnectSummary {
            connections: self.count,
            started: counts.started,
            done: counts.done,
            failed: counts.failed,
            seconds,
            asked_per_s: self.rate,
            achieved_per_s: if seconds > 0.0 {
                counts.done as f64 / seconds
            } else {
                0.0
            },
            most_in_flight,
            most_held,
            lost: lost.iter().map(|one| one.count).sum(),
            opened: Spread::from(&all.opened.report()),
            setup: Spread::from(&all.setup.report()),
            // Without that goal only those have one whose first frame came along.
            first_frame: if self.wants_frame {
                Spread::from(&all.first_frame.report())
            } else {
                Spread::default()
            },
            most_behind_ms: all.behind.as_secs_f64() * 1e3,
            bytes: all.bytes,
            endings,
            losses: lost,
            statuses: all.statuses.sorted(),
        }
    }

    /// Cuts off those that are left.
    pub fn stop(self) {
        drop(self);
    }
}
