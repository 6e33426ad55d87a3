//! Clients that call a method of the server and wait for its result.
//!
//! The first argument of a call is its number, the second is padding. Where the method is one that gives back its first argument, as
//! `echo` of the example handlers does, the result is compared with it.
//!
//! The round trip is measured from the moment in which the call is handed to the session. A server that calls a method of the client is given
//! back its first argument, so that calls into the client and back can be measured as well.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_amf::Value;
use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::command::TransactionId;
use headwater_rtmp::session::SessionError;

use super::hall::{Duty, Hall};
use super::{MemberCounts, MemberError, MemberOptions, Plan, Progress, Stage, Threads};
use crate::clock::now_ns;
use crate::measure::Latencies;
use crate::report::{CallSummary, Tally};

/// What callers do.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// Who calls.
    pub members: MemberOptions,
    /// The method.
    pub method: String,
    /// Strings before the number: for methods that take a name first, such as one of the caller's own.
    pub before: Vec<String>,
    /// Bytes of padding behind the number.
    pub padding: usize,
    /// Calls each second, of all callers together; 0: each caller calls again when it has its answer.
    pub rate: u32,
    /// Calls of one caller that wait for their answer at once, at most.
    pub in_flight: usize,
    /// Whether results are compared with the number.
    pub checks_result: bool,
}

impl CallOptions {
    /// `echo`, one call after the other, results compared.
    #[must_use]
    pub fn new(members: MemberOptions) -> Self {
        Self {
            members,
            method: "echo".to_owned(),
            before: Vec::new(),
            padding: 32,
            rate: 0,
            in_flight: 1,
            checks_result: true,
        }
    }
}

/// Callers at work. Dropping them ends them.
#[derive(Debug)]
pub struct Callers {
    threads: Threads<Found>,
    members: u64,
    rate: u32,
}

impl Callers {
    /// Begins to connect.
    ///
    /// # Errors
    /// [`MemberError`]: nothing runs.
    pub fn start(options: CallOptions) -> Result<Self, MemberError> {
        let plan = Arc::new(Plan::new(options.members.clone(), now_ns())?);
        let threads = plan.options.thread_count();
        let (members, rate) = (options.members.count as u64, options.rate);
        let options = Arc::new(options);
        let threads = Threads::start("callers", &plan, |_, progress| Calling {
            options: Arc::clone(&options),
            progress,
            interval: interval(rate, threads),
            callers: Vec::new(),
            active: Vec::new(),
            turn: 0,
            next: 0,
            number: 0,
            found: Found::default(),
        })?;
        Ok(Self {
            threads,
            members,
            rate,
        })
    }

    /// A few figures.
    #[must_use]
    pub fn counts(&self) -> MemberCounts {
        self.threads.counts()
    }

    /// Whether every caller is connected, or is not going to be.
    #[must_use]
    pub fn have_joined(&self) -> bool {
        let counts = self.counts();
        counts.ready + counts.ended >= self.members
    }

    /// They begin to call.
    pub fn begin(&self) {
        self.threads.progress.enter(Stage::Running, now_ns());
    }

    /// They call no more, and wait for what is under way.
    pub fn settle(&self) {
        self.threads.progress.enter(Stage::Settling, now_ns());
    }

    /// Whether nothing is under way any more, or nobody is left to answer.
    #[must_use]
    pub fn have_settled(&self) -> bool {
        let counts = self.counts();
        counts.answered >= counts.asked || counts.ended >= self.members
    }

    /// What was found.
    #[must_use]
    pub fn report(&self) -> CallSummary {
        let mut all = Found::default();
        for found in self.threads.reports() {
            all.merge(&found);
        }
        let seconds = self.threads.progress.ran_for().as_secs_f64();
        let per_second = |amount: u64| {
            if seconds > 0.0 {
                amount as f64 / seconds
            } else {
                0.0
            }
        };
        CallSummary {
            callers: self.members,
            connected: all.connected,
            lost: all.lost,
            calls: all.calls,
            answered: all.answered,
            failed: all.failed,
            wrong: all.wrong,
            unanswered: all.calls.saturating_sub(all.answered + all.failed),
            called_back: all.called_back,
            seconds,
            asked_per_s: self.rate,
            achieved_per_s: per_second(all.answered),
            most_behind_ms: all.behind.as_secs_f64() * 1e3,
            round_trip: all.round_trip.report(),
            errors: all.errors.sorted(),
            endings: all.endings.sorted(),
            losses: all.losses.sorted(),
        }
    }
}

/// Time between two of a thread's share of so many each second, in nanoseconds; 0 where there is no rate.
pub(super) fn interval(rate: u32, threads: usize) -> u64 {
    match u64::from(rate) {
        0 => 0,
        rate => (1_000_000_000 * threads as u64).div_ceil(rate),
    }
}

#[derive(Clone, Debug, Default)]
struct Found {
    connected: u64,
    lost: u64,
    calls: u64,
    answered: u64,
    failed: u64,
    wrong: u64,
    called_back: u64,
    behind: Duration,
    round_trip: Latencies,
    errors: Tally,
    endings: Tally,
    losses: Tally,
}

impl Found {
    fn merge(&mut self, other: &Self) {
        self.connected += other.connected;
        self.lost += other.lost;
        self.calls += other.calls;
        self.answered += other.answered;
        self.failed += other.failed;
        self.wrong += other.wrong;
        self.called_back += other.called_back;
        self.behind = self.behind.max(other.behind);
        self.round_trip.merge(&other.round_trip);
        self.errors.merge(&other.errors);
        self.endings.merge(&other.endings);
        self.losses.merge(&other.losses);
    }
}

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    transaction: TransactionId,
    number: u64,
    sent: u64,
}

/// The duty of one thread.
#[derive(Debug)]
struct Calling {
    options: Arc<CallOptions>,
    progress: Arc<Progress>,
    /// Between two calls of this thread, in nanoseconds; 0 where there is no rate.
    interval: u64,
    /// What each member waits for, oldest first.
    callers: Vec<VecDeque<Waiting>>,
    /// Members that may call.
    active: Vec<usize>,
    /// Whose turn it is among them.
    turn: usize,
    /// When the next call is due; 0 before the first.
    next: u64,
    number: u64,
    found: Found,
}

impl Calling {
    /// Calls once, if there is a member with room for a call.
    fn call_in_turn(&mut self, hall: &mut Hall, now: u64) -> bool {
        for _ in 0..self.active.len() {
            self.turn = (self.turn + 1) % self.active.len().max(1);
            let Some(&index) = self.active.get(self.turn) else {
                return false;
            };
            let waits = self.callers.get(index).map_or(0, VecDeque::len);
            if waits < self.options.in_flight && self.call(hall, index, now) {
                return true;
            }
        }
        false
    }

    fn call(&mut self, hall: &mut Hall, index: usize, now: u64) -> bool {
        let Some(session) = hall.speak(index) else {
            return false;
        };
        let number = self.number;
        let mut arguments: Vec<Value> = self
            .options
            .before
            .iter()
            .map(|text| text.as_str().into())
            .collect();
        arguments.push(Value::Number(number as f64));
        if self.options.padding > 0 {
            arguments.push(Value::from("x".repeat(self.options.padding)));
        }
        match session.call(&self.options.method, arguments) {
            Ok(transaction) => {
                self.number += 1;
                self.found.calls += 1;
                self.progress.asked.fetch_add(1, Ordering::AcqRel);
                let waiting = Waiting {
                    transaction,
                    number,
                    sent: now,
                };
                if let Some(caller) = self.callers.get_mut(index) {
                    caller.push_back(waiting);
                }
                true
            }
            Err(SessionError::TooManyCalls(_)) => false,
            Err(error) => {
                self.found.errors.add(&error.to_string());
                false
            }
        }
    }

    fn take_answer(&mut self, waiting: Waiting, result: Result<Value, Value>, now: u64) {
        self.progress.answered.fetch_add(1, Ordering::AcqRel);
        match result {
            Ok(value) => {
                self.found.answered += 1;
                self.found.round_trip.record(waiting.sent, now);
                if self.options.checks_result && value != Value::Number(waiting.number as f64) {
                    self.found.wrong += 1;
                }
            }
            Err(info) => {
                self.found.failed += 1;
                let code = info
                    .get("code")
                    .and_then(Value::as_str)
                    .unwrap_or("no code");
                let description = info.get("description").and_then(Value::as_str);
                self.found.errors.add(&match description {
                    Some(description) => format!("{code}: {description}"),
                    None => code.to_owned(),
                });
            }
        }
    }
}

impl Duty for Calling {
    type Report = Found;

    fn take_connected(&mut self, _: &mut Hall, index: usize, _: u64) {
        while self.callers.len() <= index {
            self.callers.push(VecDeque::new());
        }
        self.active.push(index);
        self.found.connected += 1;
        self.progress.ready.fetch_add(1, Ordering::AcqRel);
    }

    fn take_event(&mut self, hall: &mut Hall, index: usize, event: ClientEvent, now: u64) {
        match event {
            ClientEvent::CallResult {
                transaction,
                result,
            } => {
                let Some(caller) = self.callers.get_mut(index) else {
                    return;
                };
                let place = caller
                    .iter()
                    .position(|waiting| waiting.transaction == transaction);
                if let Some(waiting) = place.and_then(|place| caller.remove(place)) {
                    self.take_answer(waiting, result, now);
                    if self.interval == 0 && self.progress.stage() == Stage::Running {
                        self.call(hall, index, now);
                    }
                }
            }
            ClientEvent::CallRequest {
                transaction,
                arguments,
                ..
            } => {
                self.found.called_back += 1;
                let value = arguments.into_iter().next().unwrap_or(Value::Null);
                if transaction.wants_answer()
                    && let Some(session) = hall.speak(index)
                    && let Err(error) = session.answer_call(transaction, value)
                {
                    self.found.errors.add(&error.to_string());
                }
            }
            _ => {}
        }
    }

    fn take_lost(&mut self, _: &Hall, index: usize) {
        self.found.lost += 1;
        self.active.retain(|&active| active != index);
        self.progress.ready.fetch_sub(1, Ordering::AcqRel);
    }

    fn work(&mut self, hall: &mut Hall, stage: Stage, now: u64) -> Option<u64> {
        if stage != Stage::Running {
            return None;
        }
        if self.interval == 0 {
            if self.next == 0 {
                self.next = 1;
                for index in self.active.clone() {
                    for _ in 0..self.options.in_flight {
                        self.call(hall, index, now);
                    }
                }
            }
            return None;
        }
        if self.next == 0 {
            self.next = now;
        }
        while self.next <= now {
            if !self.call_in_turn(hall, now) {
                // All of them wait: what is due stays due.
                break;
            }
            let behind = Duration::from_nanos(now - self.next);
            self.found.behind = self.found.behind.max(behind);
            self.next += self.interval;
        }
        Some(self.next.max(now + 1_000_000))
    }

    fn report(&mut self, hall: &Hall) -> Found {
        Found {
            endings: hall.endings.clone(),
            losses: hall.losses.clone(),
            ..self.found.clone()
        }
    }
}
