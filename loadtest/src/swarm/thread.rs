//! One thread with the sockets of its clients, and the loop that turns them.
//!
//! All clients of a thread read into one buffer. Sockets are registered once, for edges: a read that did not fill the buffer has
//! emptied the socket, and whatever comes later wakes the thread again, except for an end that was told already.
//!
//! Clients of RTMFP have times at which something is due as well; each has its earliest one in an ordered set.

pub(super) mod arrive;
pub(super) mod watch;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};

use super::account::Counter;
use super::link::{Link, Turn};
use super::plan::Plan;
use super::rtmfp::Kit;
use super::watcher::{Goal, Phase, Watcher};
use crate::clock::now_ns;

/// Bytes that are read at once, at most. More only makes the first message of a burst look late.
const READ_SIZE: usize = 64 * 1024;

/// Events that are taken from the system at once.
const EVENTS: usize = 1024;

/// Clients that are begun before the others have their turn: connecting takes the system some 20 us.
pub(super) const BEGUN_AT_ONCE: usize = 64;

/// How often it is looked whether a step takes too long.
const CHECK_EVERY: u64 = 100_000_000;

/// The token of orders.
const ORDERS: Token = Token(usize::MAX);

/// What a thread does with its clients.
pub(super) trait Job {
    /// Does what is due: orders, clients that begin, accounts to publish. Gives when it wants to be called again at the latest, or
    /// `None` for the end of the thread.
    fn work(&mut self, sockets: &mut Sockets, now: u64) -> Option<u64>;

    /// Something became of a client.
    fn take_change(&mut self, sockets: &mut Sockets, change: Change, now: u64);
}

/// What became of a client in one turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) index: usize,
    /// It saw its first frame.
    pub(super) began_playing: bool,
    /// It has ended.
    pub(super) has_ended: bool,
    /// It has what it came for.
    pub(super) has_reached: bool,
}

/// One client and its socket.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) watcher: Watcher,
    link: Option<Link>,
    /// When it has a turn although nothing came.
    timer: Option<u64>,
    /// Counted apart, because it is to stop reading.
    pub(super) is_apart: bool,
    /// Whether it reads.
    pub(super) reads: bool,
    /// When it stopped reading.
    pub(super) stopped_at: Option<u64>,
    /// When the other side was seen to have closed, of one that does not read.
    pub(super) closed_at: Option<u64>,
    /// Whether it has what it came for and stays.
    pub(super) is_held: bool,
    /// Whether the job knows that it is over.
    is_told: bool,
    /// Whether the job knows that it has what it came for.
    is_reached: bool,
}

impl Slot {
    /// Whether there is a socket.
    pub(super) const fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// Both ends of the connection, if there is one.
    pub(super) fn ends(&self) -> Option<(std::net::SocketAddr, std::net::SocketAddr)> {
        self.link.as_ref()?.ends()
    }

    /// Writes what waits, as far as the socket takes it, and says that nothing more will be said.
    pub(super) fn shut_down(&mut self, kit: &mut Kit, now: u64) {
        self.flush(kit, now);
        if let Some(link) = &mut self.link
            && !link.shut_down(kit, now)
        {
            self.close();
        }
    }

    /// Writes what waits, as far as the socket takes it.
    fn flush(&mut self, kit: &mut Kit, now: u64) {
        if let Some(link) = &mut self.link {
            link.flush(&mut self.watcher, kit, now);
        }
    }

    /// Closes the socket.
    pub(super) fn close(&mut self) {
        self.link = None;
    }
}

/// How a thread looks at its clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) goal: Goal,
    pub(super) timeout: Duration,
    pub(super) look_every: Duration,
}

/// The clients of one thread.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) slots: Vec<Slot>,
    /// What the clients saw that are not counted apart.
    pub(super) counter: Counter,
    /// What the others saw.
    pub(super) apart: Counter,
    /// What datagrams are read and made with.
    pub(super) kit: Kit,
    poll: Poll,
    manner: Manner,
    buffer: Box<[u8]>,
    /// Clients that have more to read.
    again: Vec<usize>,
    /// Clients, and when they have a turn although nothing came.
    timers: BTreeSet<(u64, usize)>,
    /// Whether a step of some client may take too long.
    is_awaited: bool,
    next_check: u64,
    last_look: u64,
}

impl Sockets {
    pub(super) fn new(manner: Manner) -> io::Result<Self> {
        Ok(Self {
            slots: Vec::new(),
            counter: Counter::default(),
            apart: Counter::default(),
            kit: Kit::default(),
            poll: Poll::new()?,
            manner,
            buffer: vec![0; READ_SIZE].into_boxed_slice(),
            again: Vec::new(),
            timers: BTreeSet::new(),
            is_awaited: false,
            next_check: 0,
            last_look: 0,
        })
    }

    /// What wakes the thread for orders.
    pub(super) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), ORDERS)
    }

    /// Begins a client in a new slot, or in this one.
    pub(super) fn begin(
        &mut self,
        plan: &Arc<Plan>,
        place: Option<usize>,
        is_apart: bool,
        now: u64,
    ) -> usize {
        let slot = Slot {
            watcher: Watcher::new(Arc::clone(plan), now),
            link: None,
            timer: None,
            is_apart,
            reads: true,
            stopped_at: None,
            closed_at: None,
            is_held: false,
            is_told: false,
            is_reached: false,
        };
        let index = match place.and_then(|index| Some((index, self.slots.get_mut(index)?))) {
            Some((index, old)) => {
                let old = std::mem::replace(old, slot);
                if let Some(timer) = old.timer {
                    self.timers.remove(&(timer, index));
                }
                index
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.is_awaited = true;
        self.connect(index, now);
        if !self.slots.get(index).is_some_and(Slot::is_open) {
            // It has failed at once: that is told in its turn, as every end is.
            self.again.push(index);
        }
        index
    }

    /// Gives this client a turn although nothing has come.
    pub(super) fn wake(&mut self, index: usize) {
        self.again.push(index);
    }

    /// Connects to one of the addresses after the other until one does not fail at once.
    fn connect(&mut self, index: usize, now: u64) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        slot.link = None;
        while let Some(address) = slot.watcher.address() {
            let link = Link::connect(&slot.watcher, address, &mut self.kit, now);
            let registered = link.and_then(|mut link| {
                link.register(self.poll.registry(), Token(index))?;
                Ok(link)
            });
            match registered {
                Ok(link) => {
                    slot.link = Some(link);
                    break;
                }
                Err(error) => {
                    if !slot.watcher.take_refusal(&error, now) {
                        return;
                    }
                }
            }
        }
        self.set_timer(index);
    }

    /// Notes when a client has a turn although nothing comes. One that is to have it later has it as before, and then notes the later time:
    /// so nothing changes with each packet.
    fn set_timer(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let due = slot.link.as_ref().filter(|_| slot.reads);
        let Some(due) = due.and_then(Link::due) else {
            return;
        };
        if slot.timer.is_some_and(|timer| timer <= due) {
            return;
        }
        if let Some(timer) = slot.timer.replace(due) {
            self.timers.remove(&(timer, index));
        }
        self.timers.insert((due, index));
    }

    /// Has those have a turn whose time has come.
    fn take_due(&mut self, now: u64) {
        while let Some((at, index)) = self.timers.first().copied() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            if let Some(slot) = self.slots.get_mut(index) {
                slot.timer = None;
            }
            self.again.push(index);
        }
    }

    /// Waits until something happened, `wake` at the latest.
    fn wait(&mut self, events: &mut Events, wake: u64) -> io::Result<()> {
        let look_every = self.manner.look_every.as_nanos() as u64;
        if look_every > 0 {
            let due = self.last_look.saturating_add(look_every);
            let left = due.saturating_sub(now_ns());
            if left > 0 {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "this thread has no runtime, and waiting blindly is what was asked for"
                )]
                std::thread::sleep(Duration::from_nanos(left));
            }
            self.last_look = now_ns();
        }
        let wake = if self.is_awaited {
            wake.min(self.next_check)
        } else {
            wake
        };
        let timer = self.timers.first().map_or(u64::MAX, |(at, _)| *at);
        let wake = wake.min(timer);
        let left = if self.again.is_empty() {
            Duration::from_nanos(wake.saturating_sub(now_ns()))
        } else {
            Duration::ZERO
        };
        match self.poll.poll(events, Some(left)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Turns one client.
    fn turn(&mut self, index: usize, event: Option<&Event>) -> Option<Change> {
        let slot = self.slots.get_mut(index).filter(|slot| !slot.is_told)?;
        let was_playing = slot.watcher.account().is_playing();
        let mut now = now_ns();
        if let Some(link) = &slot.link
            && slot.watcher.phase() == Phase::Connecting
        {
            match link.finish_connecting() {
                Ok(false) if matches!(link, Link::Tcp(_)) => return None,
                Ok(false) => {}
                Ok(true) => slot.watcher.take_connection(now),
                Err(error) => {
                    if slot.watcher.take_refusal(&error, now) {
                        self.connect(index, now);
                    }
                }
            }
        }
        let slot = self.slots.get_mut(index)?;
        if slot.reads {
            if let Some(link) = &mut slot.link {
                let turn = Turn {
                    kit: &mut self.kit,
                    buffer: &mut self.buffer,
                    counter: if slot.is_apart {
                        &mut self.apart
                    } else {
                        &mut self.counter
                    },
                    // An end that the event tells of lies behind what is read, and is not told again.
                    is_edge: event
                        .is_some_and(|event| !event.is_read_closed() && !event.is_error()),
                };
                let has_more;
                (has_more, now) = link.turn(&mut slot.watcher, turn, now);
                if has_more {
                    self.again.push(index);
                }
            }
        } else if event.is_some_and(|event| event.is_read_closed() || event.is_error()) {
            slot.closed_at.get_or_insert(now);
        }
        if !slot.watcher.output().is_empty() {
            slot.flush(&mut self.kit, now);
        }
        let has_ended = slot.watcher.phase() == Phase::Ended;
        if has_ended {
            slot.close();
        }
        let began_playing = !was_playing && slot.watcher.account().is_playing();
        let has_reached = !slot.is_reached && slot.watcher.has_reached(self.manner.goal);
        slot.is_told = has_ended;
        slot.is_reached |= has_reached;
        self.set_timer(index);
        (began_playing || has_ended || has_reached).then_some(Change {
            index,
            began_playing,
            has_ended,
            has_reached,
        })
    }

    /// Ends those whose step takes too long; they have a turn afterwards.
    fn check_times(&mut self, now: u64) {
        if !self.is_awaited || now < self.next_check {
            return;
        }
        self.next_check = now.saturating_add(CHECK_EVERY);
        self.is_awaited = false;
        let Manner { goal, timeout, .. } = self.manner;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.is_open() && slot.watcher.is_awaited(goal) {
                self.is_awaited = true;
                slot.watcher.check_time(now, timeout, goal);
                if slot.watcher.phase() == Phase::Ended {
                    self.again.push(index);
                }
            }
        }
    }
}

/// Runs a thread's job until it ends.
pub(super) fn run(sockets: &mut Sockets, job: &mut impl Job) -> io::Result<()> {
    let mut events = Events::with_capacity(EVENTS);
    loop {
        let now = now_ns();
        sockets.check_times(now);
        let Some(wake) = job.work(sockets, now) else {
            return Ok(());
        };
        sockets.wait(&mut events, wake)?;
        sockets.take_due(now_ns());
        for index in std::mem::take(&mut sockets.again) {
            if let Some(change) = sockets.turn(index, None) {
                job.take_change(sockets, change, now_ns());
            }
        }
        for event in &events {
            if event.token() == ORDERS {
                continue;
            }
            if let Some(change) = sockets.turn(event.token().0, Some(event)) {
                job.take_change(sockets, change, now_ns());
            }
        }
    }
}
