//! One thread with the sockets of its clients, and the loop that turns them.
//!
//! All clients of a thread read into one buffer. Sockets are registered once, for edges: a read that did not fill the buffer has
//! emptied the socket, and whatever comes later wakes the thread again, except for an end that was told already.

pub(super) mod arrive;
pub(super) mod watch;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use super::account::Counter;
use super::plan::Plan;
use super::watcher::{Goal, Phase, Watcher};
use crate::client::ClientError;
use crate::clock::now_ns;

/// Bytes that are read at once, at most. More only makes the first message of a burst look late.
const READ_SIZE: usize = 64 * 1024;

/// Reads of one client before others have their turn.
const READS_PER_TURN: usize = 8;

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
    socket: Option<TcpStream>,
    /// Counted apart, because it is to stop reading.
    pub(super) is_apart: bool,
    /// Whether it reads.
    pub(super) reads: bool,
    /// When it stopped reading.
    pub(super) stopped_at: Option<u64>,
    /// When the other side was seen to have closed, of one that does not read.
    pub(super) closed_at: Option<u64>,
    /// Whether the job knows that it is over or has what it came for.
    is_told: bool,
}

impl Slot {
    /// Whether there is a socket.
    pub(super) const fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Both ends of the connection, if there is one.
    pub(super) fn ends(&self) -> Option<(std::net::SocketAddr, std::net::SocketAddr)> {
        let socket = self.socket.as_ref()?;
        Some((socket.local_addr().ok()?, socket.peer_addr().ok()?))
    }

    /// Says that nothing more will be said.
    pub(super) fn shut_down(&self) {
        if let Some(socket) = &self.socket {
            // A socket that is gone needs no good-bye.
            let _gone = socket.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self, now: u64) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        while !self.watcher.output().is_empty() {
            match socket.write(self.watcher.output()) {
                Ok(count) => self.watcher.take_sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.watcher.end(ClientError::io(&error), now),
            }
        }
    }

    /// Closes the socket.
    pub(super) fn close(&mut self) {
        self.socket = None;
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
    poll: Poll,
    manner: Manner,
    buffer: Box<[u8]>,
    /// Clients that have more to read.
    again: Vec<usize>,
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
            poll: Poll::new()?,
            manner,
            buffer: vec![0; READ_SIZE].into_boxed_slice(),
            again: Vec::new(),
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
            socket: None,
            is_apart,
            reads: true,
            stopped_at: None,
            closed_at: None,
            is_told: false,
        };
        let index = match place.and_then(|index| Some((index, self.slots.get_mut(index)?))) {
            Some((index, old)) => {
                *old = slot;
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
        slot.socket = None;
        while let Some(address) = slot.watcher.address() {
            let connected = TcpStream::connect(address).and_then(|mut socket| {
                // Without it the small messages at the start wait for each other's acknowledgements.
                socket.set_nodelay(true)?;
                let interest = Interest::READABLE | Interest::WRITABLE;
                let registry = self.poll.registry();
                registry.register(&mut socket, Token(index), interest)?;
                Ok(socket)
            });
            match connected {
                Ok(socket) => {
                    slot.socket = Some(socket);
                    return;
                }
                Err(error) => {
                    if !slot.watcher.take_refusal(&error, now) {
                        return;
                    }
                }
            }
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
        if slot.is_open() && slot.watcher.phase() == Phase::Connecting {
            match finish_connecting(slot) {
                Ok(false) => return None,
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
            let counter = if slot.is_apart {
                &mut self.apart
            } else {
                &mut self.counter
            };
            // An end that the event tells of lies behind what is read, and is not told again.
            let is_edge = event.is_some_and(|event| !event.is_read_closed() && !event.is_error());
            let has_more;
            (has_more, now) = read(slot, &mut self.buffer, is_edge, counter, now);
            if has_more {
                self.again.push(index);
            }
        } else if event.is_some_and(|event| event.is_read_closed() || event.is_error()) {
            slot.closed_at.get_or_insert(now);
        }
        slot.flush(now);
        let has_ended = slot.watcher.phase() == Phase::Ended;
        if has_ended {
            slot.close();
        }
        let began_playing = !was_playing && slot.watcher.account().is_playing();
        let has_reached = slot.watcher.has_reached(self.manner.goal);
        slot.is_told = has_ended || has_reached;
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

/// Whether the TCP connection is there.
fn finish_connecting(slot: &Slot) -> io::Result<bool> {
    let Some(socket) = &slot.socket else {
        return Ok(false);
    };
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads what there is, up to a bound. Gives whether there may be more, and when it read last. If `is_edge`, whatever comes behind what
/// is here now wakes the thread again, so that a read that did not fill the buffer is the last; else the socket has to say that it is
/// empty.
fn read(
    slot: &mut Slot,
    buffer: &mut [u8],
    is_edge: bool,
    counter: &mut Counter,
    mut now: u64,
) -> (bool, u64) {
    for _ in 0..READS_PER_TURN {
        let Some(socket) = &mut slot.socket else {
            return (false, now);
        };
        match socket.read(buffer) {
            Ok(0) => slot.watcher.end(ClientError::Closed, now),
            Ok(count) => {
                now = now_ns();
                let input = buffer.get(..count).unwrap_or_default();
                slot.watcher.receive(input, now, counter);
                let is_last = is_edge && count < buffer.len();
                if !is_last && slot.watcher.phase() != Phase::Ended {
                    continue;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => slot.watcher.end(ClientError::io(&error), now),
        }
        return (false, now);
    }
    (true, now)
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
