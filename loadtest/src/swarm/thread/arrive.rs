//! The job of arriving: clients that connect, get what they came for, and leave.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use super::{BEGUN_AT_ONCE, Change, Job, Slot, Sockets};
use crate::measure::Latencies;
use crate::pacing;
use crate::report::Tally;
use crate::swarm::plan::Plan;

/// What is asked of the threads.
#[derive(Debug)]
pub(in crate::swarm) enum ArriveOrder {
    /// Tell what was found.
    Report(Sender<Box<Found>>),
}

/// What a thread found.
#[derive(Clone, Debug, Default)]
pub(in crate::swarm) struct Found {
    /// From the start of connecting to the TCP connection, or the open session of RTMFP.
    pub(in crate::swarm) opened: Latencies,
    /// From the start of connecting to the status that playing begins.
    pub(in crate::swarm) setup: Latencies,
    /// From the start of connecting to the first frame.
    pub(in crate::swarm) first_frame: Latencies,
    /// The most that a connection was begun late.
    pub(in crate::swarm) behind: Duration,
    pub(in crate::swarm) most_at_once: u64,
    pub(in crate::swarm) most_held: u64,
    /// Why held connections ended before their time.
    pub(in crate::swarm) lost: Tally,
    pub(in crate::swarm) bytes: u64,
    /// When the last connection came to its goal, or to its end without.
    pub(in crate::swarm) last_end: u64,
    pub(in crate::swarm) endings: Tally,
    pub(in crate::swarm) statuses: Tally,
}

/// Figures that others look at while the thread runs.
#[derive(Debug, Default)]
pub(in crate::swarm) struct Progress {
    pub(in crate::swarm) started: AtomicU64,
    pub(in crate::swarm) done: AtomicU64,
    pub(in crate::swarm) failed: AtomicU64,
    pub(in crate::swarm) held: AtomicU64,
    pub(in crate::swarm) has_ended: AtomicBool,
}

/// What a thread is to do.
#[derive(Debug)]
pub(in crate::swarm) struct ArrivePlan {
    pub(in crate::swarm) plans: Arc<[Arc<Plan>]>,
    /// Which of the threads this is, and how many there are.
    pub(in crate::swarm) thread: u64,
    pub(in crate::swarm) threads: u64,
    pub(in crate::swarm) started: u64,
    /// Connections of all threads.
    pub(in crate::swarm) count: u64,
    /// Connections of all threads that are begun each second, 0 for as many as there is room for.
    pub(in crate::swarm) rate: u32,
    /// Most connections of this thread that are open at once.
    pub(in crate::swarm) in_flight: usize,
    /// How long a connection stays that has what it came for, in nanoseconds.
    pub(in crate::swarm) hold: u64,
}

/// The job.
#[derive(Debug)]
pub(in crate::swarm) struct Arrive {
    plan: ArrivePlan,
    orders: Receiver<ArriveOrder>,
    progress: Arc<Progress>,
    /// The number of the next connection.
    next: u64,
    open: usize,
    /// Connections that stay, and until when: in the order in which they came.
    held: VecDeque<(u64, usize)>,
    /// How many of them are still there.
    held_count: u64,
    /// Slots without a client.
    free: Vec<usize>,
    found: Found,
}

impl Arrive {
    pub(in crate::swarm) fn new(
        plan: ArrivePlan,
        orders: Receiver<ArriveOrder>,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            next: plan.thread,
            plan,
            orders,
            progress,
            open: 0,
            held: VecDeque::new(),
            held_count: 0,
            free: Vec::new(),
            found: Found::default(),
        }
    }

    /// Begins connections whose time has come and that there is room for. Gives when the next one is due.
    fn begin(&mut self, sockets: &mut Sockets, now: u64) -> Option<u64> {
        for _ in 0..BEGUN_AT_ONCE {
            if self.next >= self.plan.count || self.open >= self.plan.in_flight {
                return None;
            }
            let number = usize::try_from(self.next).unwrap_or(usize::MAX);
            let after = pacing::ramp(number, self.plan.rate);
            let due = self.plan.started.saturating_add(after.as_nanos() as u64);
            if due > now {
                return Some(due);
            }
            let plan = self.plan.plans.get(number % self.plan.plans.len().max(1))?;
            if self.plan.rate > 0 {
                let behind = Duration::from_nanos(now - due);
                self.found.behind = self.found.behind.max(behind);
            }
            sockets.begin(plan, self.free.pop(), false, now);
            self.next = self.next.saturating_add(self.plan.threads);
            self.open += 1;
            let most = &mut self.found.most_at_once;
            *most = (*most).max(self.open as u64);
            self.progress.started.fetch_add(1, Ordering::Relaxed);
        }
        Some(now)
    }

    /// Ends connections that have stayed as long as they were to. Gives when the next one is due.
    fn let_go(&mut self, sockets: &mut Sockets, now: u64) -> Option<u64> {
        while let Some((until, index)) = self.held.front().copied() {
            if until > now {
                return Some(until);
            }
            self.held.pop_front();
            if sockets.slots.get(index).is_some_and(Slot::is_open) {
                self.held_count = self.held_count.saturating_sub(1);
            }
            self.leave(sockets, index, now);
        }
        None
    }

    /// Ends one that has what it came for.
    fn leave(&mut self, sockets: &mut Sockets, index: usize, now: u64) {
        let Sockets { slots, kit, .. } = sockets;
        if let Some(slot) = slots.get_mut(index) {
            slot.watcher.take_leave();
            slot.shut_down(kit, now);
            slot.close();
        }
        self.free.push(index);
    }

    fn obey(&mut self, sockets: &Sockets) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(ArriveOrder::Report(asker)) => {
                    let found = Found {
                        bytes: sockets.counter.sums.bytes,
                        statuses: sockets.counter.statuses.clone(),
                        ..self.found.clone()
                    };
                    // Who asked may be gone.
                    let _unheard = asker.send(Box::new(found));
                }
                Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }
}

impl Job for Arrive {
    fn work(&mut self, sockets: &mut Sockets, now: u64) -> Option<u64> {
        if !self.obey(sockets) {
            return None;
        }
        let times = [self.begin(sockets, now), self.let_go(sockets, now)];
        self.progress.held.store(self.held_count, Ordering::Release);
        if self.next >= self.plan.count && self.open == 0 && self.held.is_empty() {
            self.progress.has_ended.store(true, Ordering::Release);
        }
        // Without one that is due, an end or an order wakes the thread.
        let due = times.into_iter().flatten().min();
        Some(due.unwrap_or_else(|| now.saturating_add(1_000_000_000)))
    }

    fn take_change(&mut self, sockets: &mut Sockets, change: Change, now: u64) {
        if !change.has_ended && !change.has_reached {
            return;
        }
        let Some(slot) = sockets.slots.get_mut(change.index) else {
            return;
        };
        let account = slot.watcher.account();
        if slot.is_held {
            self.held_count = self.held_count.saturating_sub(1);
            let failure = slot.watcher.ending().map(ToString::to_string);
            self.found.lost.add(failure.as_deref().unwrap_or("closed"));
            slot.close();
            // The slot is not free before its time is over, so that no other one is taken for it.
            return;
        }
        self.open = self.open.saturating_sub(1);
        self.found.last_end = now;
        if !change.has_reached {
            self.progress.failed.fetch_add(1, Ordering::Relaxed);
            if let Some(failure) = slot.watcher.ending() {
                self.found.endings.add(&failure.to_string());
            }
            slot.close();
            self.free.push(change.index);
            return;
        }
        for (time, all) in [
            (account.until_opened(), &mut self.found.opened),
            (account.until_started(), &mut self.found.setup),
            (account.until_first_frame(), &mut self.found.first_frame),
        ] {
            if let Some(time) = time {
                all.record(0, time.as_nanos() as u64);
            }
        }
        self.progress.done.fetch_add(1, Ordering::Relaxed);
        if self.plan.hold == 0 || change.has_ended {
            self.leave(sockets, change.index, now);
            return;
        }
        slot.is_held = true;
        self.held_count += 1;
        self.found.most_held = self.found.most_held.max(self.held_count);
        let until = now.saturating_add(self.plan.hold);
        self.held.push_back((until, change.index));
    }
}
