//! The clients of one thread, and the loop that turns them.
//!
//! Sockets are registered once, for edges, as in [`swarm`](crate::swarm); all of them read into one buffer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use headwater_rtmp::client::{ClientEvent, ClientSession};
use headwater_rtmp::handshake::RANDOM_LENGTH;
use mio::{Events, Poll, Token};

use super::member::Member;
use super::{Plan, Progress, Stage};
use crate::client::ClientError;
use crate::clock::now_ns;
use crate::pacing;
use crate::report::Tally;

/// Bytes that are read at once, at most.
const READ_SIZE: usize = 64 * 1024;

/// Events that are taken from the system at once.
const EVENTS: usize = 1024;

/// Members that are begun before the others have their turn.
const BEGUN_AT_ONCE: usize = 64;

/// Longest sleep, so that a new stage and questions are seen in time, in nanoseconds.
const LONGEST_SLEEP: u64 = 20_000_000;

/// How often it is looked whether a member takes too long, in nanoseconds.
const CHECK_EVERY: u64 = 250_000_000;

/// What the members of a thread do.
pub(super) trait Duty {
    /// What it tells of them.
    type Report: Send + 'static;

    /// A member is accepted.
    fn take_connected(&mut self, hall: &mut Hall, index: usize, now: u64);

    /// The server said something to one that was accepted.
    fn take_event(&mut self, hall: &mut Hall, index: usize, event: ClientEvent, now: u64);

    /// A member that was accepted is gone.
    fn take_lost(&mut self, hall: &Hall, index: usize);

    /// Does what is due at this stage. Gives when it wants to be called again at the latest.
    fn work(&mut self, hall: &mut Hall, stage: Stage, now: u64) -> Option<u64>;

    /// What was found so far.
    fn report(&mut self, hall: &Hall) -> Self::Report;
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Hall {
    pub(super) members: Vec<Member>,
    /// Why members could not connect.
    pub(super) endings: Tally,
    /// Why members that were accepted are gone.
    pub(super) losses: Tally,
    plan: Arc<Plan>,
    progress: Arc<Progress>,
    thread: usize,
    threads: usize,
    /// How many members were begun, with those that ended at once.
    begun: usize,
    poll: Poll,
    buffer: Box<[u8]>,
    /// Members that have more to read.
    again: Vec<usize>,
    /// Members that may have something to say.
    unsaid: Vec<usize>,
    next_check: u64,
}

impl Hall {
    pub(super) fn new(
        plan: Arc<Plan>,
        progress: Arc<Progress>,
        thread: usize,
        threads: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            members: Vec::new(),
            endings: Tally::default(),
            losses: Tally::default(),
            plan,
            progress,
            thread,
            threads,
            begun: 0,
            poll: Poll::new()?,
            buffer: vec![0; READ_SIZE].into_boxed_slice(),
            again: Vec::new(),
            unsaid: Vec::new(),
            next_check: 0,
        })
    }

    /// The session of a member that lives. What it is asked for is said before the thread sleeps.
    pub(super) fn speak(&mut self, index: usize) -> Option<&mut ClientSession> {
        let member = self.members.get_mut(index)?;
        if !member.is_alive() || !member.session.is_connected() {
            return None;
        }
        self.unsaid.push(index);
        Some(&mut member.session)
    }

    /// Turns members until the run is over or nobody asks any more.
    pub(super) fn run<D: Duty>(
        &mut self,
        duty: &mut D,
        questions: &Receiver<Sender<D::Report>>,
    ) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let stage = self.progress.stage();
            let now = now_ns();
            if stage == Stage::Over {
                self.take_leave();
                return Ok(());
            }
            while let Ok(asker) = questions.try_recv() {
                // Who asked may be gone.
                let _unheard = asker.send(duty.report(self));
            }
            self.check_times(duty, now);
            let begin = self.begin(now);
            let work = duty.work(self, stage, now);
            self.say(duty);
            let due = begin.into_iter().chain(work).min().unwrap_or(u64::MAX);
            let due = due.min(now.saturating_add(LONGEST_SLEEP));
            let left = if self.again.is_empty() {
                Duration::from_nanos(due.saturating_sub(now_ns()))
            } else {
                Duration::ZERO
            };
            match self.poll.poll(&mut events, Some(left)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for index in std::mem::take(&mut self.again) {
                self.turn(duty, index);
            }
            for event in &events {
                self.turn(duty, event.token().0);
            }
            self.say(duty);
        }
    }

    /// Begins members whose time has come. Gives when the next one is due.
    fn begin(&mut self, now: u64) -> Option<u64> {
        for _ in 0..BEGUN_AT_ONCE {
            let number = self.thread + self.begun * self.threads;
            let options = &self.plan.options;
            if number >= options.count {
                return None;
            }
            let after = pacing::ramp(number, options.ramp).as_nanos() as u64;
            let due = self.plan.started.saturating_add(after);
            if due > now {
                return Some(due);
            }
            self.begun += 1;
            if let Err(failure) = self.connect(number, now) {
                self.endings.add(&failure.to_string());
                self.progress.ended.fetch_add(1, Ordering::AcqRel);
            }
        }
        Some(now)
    }

    fn connect(&mut self, number: usize, now: u64) -> Result<(), ClientError> {
        let (address, parameters) = self.plan.place(number).ok_or(ClientError::Closed)?;
        let mut random = [0; RANDOM_LENGTH];
        rand::fill(&mut random[..]);
        let now = self.since(now);
        let mut session = ClientSession::new(Arc::clone(&self.plan.config), random, now);
        session.connect(&parameters)?;
        let token = Token(self.members.len());
        let registry = self.poll.registry();
        let encoding = parameters.object_encoding;
        let member = Member::begin(number, encoding, session, address, registry, token)?;
        self.members.push(member);
        Ok(())
    }

    fn turn<D: Duty>(&mut self, duty: &mut D, index: usize) {
        let now = now_ns();
        let since = self.since(now);
        let Some(member) = self.members.get_mut(index) else {
            return;
        };
        if !member.is_alive() {
            return;
        }
        let mut events = Vec::new();
        let outcome = member.read(since, &mut self.buffer, &mut events);
        self.unsaid.push(index);
        for event in events {
            self.take_event(duty, index, event, now);
        }
        match outcome {
            Ok(true) => self.again.push(index),
            Ok(false) => {}
            Err(failure) => self.end(duty, index, &failure),
        }
    }

    fn take_event<D: Duty>(&mut self, duty: &mut D, index: usize, event: ClientEvent, now: u64) {
        match event {
            ClientEvent::Connected { .. } => {
                if let Some(member) = self.members.get_mut(index) {
                    member.was_accepted = true;
                }
                duty.take_connected(self, index, now);
            }
            ClientEvent::ConnectRejected { status, redirect } => {
                let failure = ClientError::Rejected {
                    code: status.code.into_owned(),
                    description: status.description,
                    redirect,
                };
                self.end(duty, index, &failure);
            }
            ClientEvent::Closed => self.end(duty, index, &ClientError::Closed),
            event => duty.take_event(self, index, event, now),
        }
    }

    /// A member is over, because of this.
    fn end<D: Duty>(&mut self, duty: &mut D, index: usize, failure: &ClientError) {
        let Some(member) = self
            .members
            .get_mut(index)
            .filter(|member| member.is_alive())
        else {
            return;
        };
        member.close();
        self.progress.ended.fetch_add(1, Ordering::AcqRel);
        if member.was_accepted {
            self.losses.add(&failure.to_string());
            duty.take_lost(self, index);
        } else {
            self.endings.add(&failure.to_string());
        }
    }

    /// Has members say what they have to say.
    fn say<D: Duty>(&mut self, duty: &mut D) {
        for index in std::mem::take(&mut self.unsaid) {
            let outcome = self.members.get_mut(index).map_or(Ok(()), Member::write);
            if let Err(failure) = outcome {
                self.end(duty, index, &failure);
            }
        }
    }

    /// Ends members that take too long.
    fn check_times<D: Duty>(&mut self, duty: &mut D, now: u64) {
        if now < self.next_check {
            return;
        }
        self.next_check = now.saturating_add(CHECK_EVERY);
        let since = self.since(now);
        for index in 0..self.members.len() {
            let Some(member) = self
                .members
                .get_mut(index)
                .filter(|member| member.is_alive())
            else {
                continue;
            };
            if member
                .session
                .poll_timeout()
                .is_some_and(|due| due <= since)
                && let Err(failure) = member.session.handle_timeout(since)
            {
                self.end(duty, index, &failure.into());
            }
        }
    }

    fn take_leave(&mut self) {
        for member in &mut self.members {
            member.session.close();
            // One that cannot be told sees that the connection ends.
            let _untold = member.write();
            member.close();
        }
    }

    fn since(&self, now: u64) -> Duration {
        Duration::from_nanos(now.saturating_sub(self.plan.started))
    }
}
