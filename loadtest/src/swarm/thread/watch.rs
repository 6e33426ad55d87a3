//! The job of watching: viewers begin one after the other, some stop reading, and what they see is published.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use parking_lot::Mutex;

use super::{BEGUN_AT_ONCE, Change, Job, Slot, Sockets};
use crate::client::ClientError;
use crate::measure::Latencies;
use crate::pacing;
use crate::report::Tally;
use crate::swarm::account::Sums;
use crate::swarm::peers::{self, Look};
use crate::swarm::plan::Plan;
use crate::swarm::seconds::Seconds;
use crate::swarm::watcher::Phase;
use crate::viewer::ViewerReport;

/// How often it is looked whether the server has closed connections that nobody reads, in nanoseconds. Each look takes tens of
/// milliseconds of processor time.
const LOOK_AT_PEERS: u64 = 5 * SECOND;

const SECOND: u64 = 1_000_000_000;

/// How often figures are published.
const PUBLISH_EVERY: u64 = SECOND / 2;

/// How long those that read again have for what is left for them: some 10 MB each.
const READ_AGAIN: u64 = 3 * SECOND;

/// How much longer those have whose server is known to have closed: their end is certain, but a sender may have become slow.
const READ_TO_THE_END: u64 = 4 * SECOND;

/// How long taking leave may take.
const FAREWELL: u64 = SECOND;

/// What a swarm asks of its threads.
#[derive(Debug)]
pub(in crate::swarm) enum Order {
    /// Count anew, and say when it is done.
    BeginWindow(Sender<()>),
    /// Tell what was seen.
    Report(Sender<Box<Told>>),
    /// Take leave of the servers, and end.
    Leave,
}

/// What a thread tells.
#[derive(Debug, Default)]
pub(in crate::swarm) struct Told {
    pub(in crate::swarm) reports: Vec<ViewerReport>,
    pub(in crate::swarm) statuses: Tally,
    /// Of the window.
    pub(in crate::swarm) sums: Sums,
    /// Of the window.
    pub(in crate::swarm) latencies: Latencies,
    /// Those that stopped reading.
    pub(in crate::swarm) stopped: Vec<Stopped>,
}

/// What became of a viewer that stopped reading.
#[derive(Clone, Debug)]
pub(in crate::swarm) struct Stopped {
    pub(in crate::swarm) had_played: bool,
    /// Whether the server has closed, although the end may not have been read.
    pub(in crate::swarm) is_closed: bool,
    pub(in crate::swarm) ending: Option<ClientError>,
    /// From stopping to the close, if it was seen.
    pub(in crate::swarm) closed_after: Option<Duration>,
    pub(in crate::swarm) last_status: Option<String>,
}

/// Figures that others look at while the thread runs.
#[derive(Debug, Default)]
pub(in crate::swarm) struct Published {
    pub(in crate::swarm) playing: AtomicU64,
    pub(in crate::swarm) ended: AtomicU64,
    pub(in crate::swarm) stopped: AtomicU64,
    pub(in crate::swarm) figures: Mutex<Figures>,
}

/// Figures of the window, and faults of the whole run.
#[derive(Debug, Default)]
pub(in crate::swarm) struct Figures {
    pub(in crate::swarm) sums: Sums,
    pub(in crate::swarm) faults: u64,
    pub(in crate::swarm) stalls: u64,
    pub(in crate::swarm) latencies: Latencies,
}

/// What a thread is to watch.
#[derive(Debug)]
pub(in crate::swarm) struct WatchPlan {
    /// Of all viewers of the swarm.
    pub(in crate::swarm) plans: Arc<[Arc<Plan>]>,
    /// Which of the threads this is, and how many there are.
    pub(in crate::swarm) thread: usize,
    pub(in crate::swarm) threads: usize,
    pub(in crate::swarm) started: u64,
    pub(in crate::swarm) ramp: u32,
    /// From which viewer on they stop reading, and when.
    pub(in crate::swarm) stop: Option<(usize, u64)>,
}

/// The job.
#[derive(Debug)]
pub(in crate::swarm) struct Watch {
    plan: WatchPlan,
    orders: Receiver<Order>,
    published: Arc<Published>,
    seconds: Arc<Mutex<Seconds>>,
    /// The next viewer of this thread.
    next: usize,
    /// What was seen of the window before the current slice.
    window: (Sums, Latencies),
    /// The second that the current slice belongs to.
    second: u64,
    next_publish: u64,
    has_stopped: bool,
    next_look: u64,
    next_look_at_peers: u64,
    look_at_peers: Option<Look>,
    /// Who waits for those that read again, with what is told already, and until when.
    reading_again: Option<(Sender<Box<Told>>, Box<Told>, u64)>,
    has_read_again: bool,
    /// Until when leave is taken.
    leaving: Option<u64>,
}

impl Watch {
    pub(in crate::swarm) fn new(
        plan: WatchPlan,
        orders: Receiver<Order>,
        published: Arc<Published>,
        seconds: Arc<Mutex<Seconds>>,
    ) -> Self {
        Self {
            next: plan.thread,
            next_publish: plan.started.saturating_add(PUBLISH_EVERY),
            plan,
            orders,
            published,
            seconds,
            window: Default::default(),
            second: 0,
            has_stopped: false,
            next_look: 0,
            next_look_at_peers: 0,
            look_at_peers: None,
            reading_again: None,
            has_read_again: false,
            leaving: None,
        }
    }

    /// Begins viewers whose time has come. Gives when the next one is due.
    fn begin(&mut self, sockets: &mut Sockets, now: u64) -> Option<u64> {
        for _ in 0..BEGUN_AT_ONCE {
            let plan = self.plan.plans.get(self.next)?;
            let after = pacing::ramp(self.next, self.plan.ramp).as_nanos() as u64;
            let due = self.plan.started.saturating_add(after);
            if due > now {
                return Some(due);
            }
            let is_apart = self.plan.stop.is_some_and(|(first, _)| self.next >= first);
            sockets.begin(plan, None, is_apart, now);
            self.next = self.next.saturating_add(self.plan.threads);
        }
        Some(now)
    }

    /// Has viewers stop reading when their time has come, and looks who closed since.
    fn stop_reading(&mut self, sockets: &mut Sockets, now: u64) -> Option<u64> {
        let (_, at) = self.plan.stop?;
        if now < at {
            return Some(at);
        }
        if self.has_read_again {
            return None;
        }
        if now < self.next_look {
            return Some(self.next_look);
        }
        self.next_look = now.saturating_add(SECOND);
        if self.has_stopped && now >= self.next_look_at_peers {
            self.next_look_at_peers = now.saturating_add(LOOK_AT_PEERS);
            self.look_at_peers = begin_look_at_peers(&sockets.slots, now);
        }
        if let Some(look) = &self.look_at_peers
            && let Some(closed) = look.closed()
        {
            note_closed(&mut sockets.slots, look.at, &closed);
            self.look_at_peers = None;
        }
        self.has_stopped = true;
        // Again each second, for viewers that were not yet let in.
        let mut stopped = 0;
        for slot in sockets.slots.iter_mut().filter(|slot| slot.is_apart) {
            if slot.reads && slot.watcher.phase() == Phase::Play {
                slot.reads = false;
                slot.stopped_at = Some(now);
                slot.watcher.keep_status();
            }
            stopped += u64::from(slot.stopped_at.is_some());
        }
        self.published.stopped.store(stopped, Ordering::Relaxed);
        Some(self.next_look)
    }

    /// Adds what was seen since the last time to its second, and to the window unless that begins now.
    fn cut(&mut self, sockets: &mut Sockets, playing: Option<u64>, window_begins: bool) {
        let counter = &mut sockets.counter;
        let (sums, latencies) = (&counter.sums, &counter.latencies);
        self.seconds
            .lock()
            .add(self.second, sums, latencies, playing);
        if window_begins {
            self.window = Default::default();
        } else {
            self.window.0.add(sums);
            self.window.1.merge(latencies);
        }
        counter.sums = Sums::default();
        counter.latencies.clear();
    }

    fn publish(&mut self, sockets: &mut Sockets, now: u64) {
        if now < self.next_publish {
            return;
        }
        let (mut faults, mut stalls, mut playing) = (0_u64, 0, 0);
        for slot in sockets.slots.iter().filter(|slot| !slot.is_apart) {
            let account = slot.watcher.account();
            faults = faults.saturating_add(account.faults());
            stalls += account.stalls();
            playing += u64::from(account.is_playing() && slot.is_open());
        }
        let second = now.saturating_sub(self.plan.started) / SECOND;
        if second > self.second {
            self.cut(sockets, Some(playing), false);
            // A thread that was held up has nothing to tell of the seconds between.
            for between in self.second.saturating_add(1)..second {
                let nothing = (Sums::default(), Latencies::default());
                let mut seconds = self.seconds.lock();
                seconds.add(between, &nothing.0, &nothing.1, Some(playing));
            }
            self.second = second;
        }
        {
            let mut figures = self.published.figures.lock();
            let figures = &mut *figures;
            figures.sums = self.window.0;
            figures.sums.add(&sockets.counter.sums);
            figures.latencies.clone_from(&self.window.1);
            figures.latencies.merge(&sockets.counter.latencies);
            (figures.faults, figures.stalls) = (faults, stalls);
        }
        let since = now.saturating_sub(self.plan.started);
        let next = (since / PUBLISH_EVERY).saturating_add(1);
        let next = next.saturating_mul(PUBLISH_EVERY);
        self.next_publish = self.plan.started.saturating_add(next);
    }

    /// What was seen up to now.
    fn tell(&mut self, sockets: &mut Sockets, now: u64) -> Box<Told> {
        self.cut(sockets, None, false);
        let mut told = Told {
            statuses: sockets.counter.statuses.clone(),
            sums: self.window.0,
            latencies: self.window.1.clone(),
            ..Told::default()
        };
        for slot in sockets.slots.iter().filter(|slot| !slot.is_apart) {
            let ending = slot.watcher.ending().cloned();
            told.reports
                .push(slot.watcher.account().report(now, ending));
        }
        Box::new(told)
    }

    /// Lets those read again that had stopped, once.
    fn read_again(&mut self, sockets: &mut Sockets) -> bool {
        if !self.has_stopped || self.has_read_again {
            return false;
        }
        self.has_read_again = true;
        let apart: Vec<usize> = (0..sockets.slots.len())
            .filter(|&index| {
                let slot = sockets.slots.get_mut(index);
                slot.is_some_and(|slot| {
                    let was_silent = slot.is_apart && !slot.reads;
                    slot.reads = true;
                    was_silent
                })
            })
            .collect();
        for index in apart {
            sockets.wake(index);
        }
        true
    }

    /// Tells of those that stopped, once they have read what was left for them.
    fn finish_reading_again(&mut self, sockets: &Sockets, now: u64) -> Option<u64> {
        let (_, _, until) = self.reading_again.as_ref()?;
        let last = until.saturating_add(READ_TO_THE_END);
        let mut apart = sockets.slots.iter().filter(|slot| slot.is_apart);
        let is_awaited = |slot: &Slot| now < *until || now < last && slot.closed_at.is_some();
        if apart.any(|slot| slot.is_open() && is_awaited(slot)) {
            return Some(if now < *until { *until } else { last });
        }
        if let Some((asker, mut told, _)) = self.reading_again.take() {
            told.stopped = stopped(sockets);
            // Who asked may be gone.
            let _unheard = asker.send(told);
        }
        None
    }

    /// Does what is ordered; false for the end.
    fn obey(&mut self, sockets: &mut Sockets, now: u64) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::BeginWindow(asker)) => {
                    self.cut(sockets, None, true);
                    self.next_publish = now;
                    let _unheard = asker.send(());
                }
                Ok(Order::Report(asker)) => {
                    let mut told = self.tell(sockets, now);
                    if self.read_again(sockets) {
                        let until = now.saturating_add(READ_AGAIN);
                        self.reading_again = Some((asker, told, until));
                    } else {
                        told.stopped = stopped(sockets);
                        let _unheard = asker.send(told);
                    }
                }
                Ok(Order::Leave) => {
                    self.next = usize::MAX;
                    self.plan.stop = None;
                    self.leaving = Some(now.saturating_add(FAREWELL));
                    for index in 0..sockets.slots.len() {
                        sockets.wake(index);
                    }
                    let Sockets { slots, kit, .. } = sockets;
                    for slot in slots.iter_mut().filter(|slot| slot.is_open()) {
                        slot.reads = true;
                        slot.watcher.take_leave();
                        if slot.watcher.phase() == Phase::Connecting {
                            slot.close();
                        } else {
                            slot.shut_down(kit, now);
                        }
                    }
                }
                Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }
}

impl Job for Watch {
    fn work(&mut self, sockets: &mut Sockets, now: u64) -> Option<u64> {
        if !self.obey(sockets, now) {
            return None;
        }
        if let Some(until) = self.leaving {
            let is_over = now >= until || !sockets.slots.iter().any(Slot::is_open);
            return (!is_over).then_some(until);
        }
        let times = [
            self.begin(sockets, now),
            self.stop_reading(sockets, now),
            self.finish_reading_again(sockets, now),
        ];
        self.publish(sockets, now);
        let first = times.into_iter().flatten().min();
        Some(first.unwrap_or(u64::MAX).min(self.next_publish))
    }

    fn take_change(&mut self, sockets: &mut Sockets, change: Change, _now: u64) {
        let published = &self.published;
        if change.began_playing {
            published.playing.fetch_add(1, Ordering::Relaxed);
        }
        if change.has_ended {
            published.ended.fetch_add(1, Ordering::Relaxed);
            let slot = sockets.slots.get(change.index);
            if slot.is_some_and(|slot| slot.watcher.account().is_playing()) {
                published.playing.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// Looks of which silent viewers the server has closed its end.
fn begin_look_at_peers(slots: &[Slot], now: u64) -> Option<Look> {
    let is_silent = |slot: &&Slot| !slot.reads && slot.closed_at.is_none();
    let silent: Vec<_> = slots
        .iter()
        .filter(is_silent)
        .filter_map(Slot::ends)
        .collect();
    if silent.is_empty() {
        return None;
    }
    Look::begin(now, silent)
}

/// Notes which silent viewers were found closed.
fn note_closed(slots: &mut [Slot], at: u64, closed: &[peers::Ends]) {
    let closed: HashSet<_> = closed.iter().collect();
    for slot in slots.iter_mut().filter(|slot| slot.closed_at.is_none()) {
        if slot.ends().is_some_and(|ends| closed.contains(&ends)) {
            slot.closed_at = Some(at);
        }
    }
}

/// What became of those that were to stop reading.
fn stopped(sockets: &Sockets) -> Vec<Stopped> {
    let apart = sockets.slots.iter().filter(|slot| slot.is_apart);
    let after = |slot: &Slot| {
        let nanoseconds = slot.closed_at?.saturating_sub(slot.stopped_at?);
        Some(Duration::from_nanos(nanoseconds))
    };
    apart
        .map(|slot| Stopped {
            had_played: slot.watcher.account().is_playing(),
            is_closed: slot.closed_at.is_some() || slot.watcher.ending().is_some(),
            ending: slot.watcher.ending().cloned(),
            closed_after: after(slot),
            last_status: slot.watcher.last_status().map(str::to_owned),
        })
        .collect()
}
