//! Introductions: how fast a server brings RTMFP peers together (RFC 7016 section 3.5.1.4).
//!
//! ```text
//! asker                        server                         target, connected
//!   IHello(peer id, tag)  ───▶    │
//!   ◀── Redirect(where) ──────────┤
//!                                 └── FIHello(asker, tag) ──▶
//!   ◀── RHello(tag) ───────────────────────────────────────────┘
//! ```
//! An asker measures both: until it is told where its peer is, and until the peer itself has answered. There it stops: what follows is
//! between the two, and costs the server nothing. Askers have no sessions, targets one each, in this process; so are their shares in the
//! times.
//!
//! # What it does not do
//! A hello that is not answered is not repeated: it has failed when its time is over.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use headwater_rtmfp::crypto::certificate::Fingerprint;
use headwater_rtmfp::crypto::discriminator;
use headwater_rtmfp::crypto::packet::Opener;
use headwater_rtmfp::wire::startup::{InitiatorHello, Redirect, ResponderHello};
use headwater_rtmfp::wire::{ChunkKind, Packet};
use mio::{Events, Interest, Poll, Token};
use parking_lot::Mutex;

use crate::affinity;
use crate::clock::now_ns;
use crate::measure::Latencies;
use crate::pacing;
use crate::report::IntroduceSummary;
use crate::swarm::put_startup;
use crate::udp::{Inbox, Received, Udp};

/// Sockets of askers, at most. On this machine each is in a network of its own, and servers limit what they spend on one.
const SOCKETS: usize = 1_024;

/// The number of the first asker's network: those before are of targets.
const FIRST_NETWORK: u32 = 30_000;

/// Bytes of a tag: as many as known peers have.
const TAG: usize = 16;

/// Hellos that are said before answers are taken.
const ASKED_AT_ONCE: usize = 32;

/// How often it is looked which hellos have waited for too long, in nanoseconds.
const CHECK_EVERY: u64 = 50_000_000;

/// Longest sleep, so that an end is seen in time, in nanoseconds.
const LONGEST_SLEEP: u64 = 50_000_000;

/// Events that are taken from the system at once.
const EVENTS: usize = 1_024;

/// What askers do.
#[derive(Clone, Debug)]
pub struct AskOptions {
    /// The server that is asked.
    pub server: SocketAddr,
    /// Who is asked for, in turn.
    pub targets: Vec<Fingerprint>,
    /// Hellos each second; 0 for the next one as soon as one is answered.
    pub rate: u32,
    /// Hellos that wait for an answer at once, at most.
    pub in_flight: usize,
    /// How long a hello waits for both answers.
    pub timeout: Duration,
    /// Processors that the thread may run on; empty for those of the thread that starts it.
    pub cpus: Vec<usize>,
}

/// Askers that ask. Dropping them ends them.
#[derive(Debug)]
pub struct Askers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    rate: u32,
    started: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    asked: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    found: Mutex<Found>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
struct Found {
    redirect: Latencies,
    answer: Latencies,
    no_redirect: u64,
    no_answer: u64,
    behind: Duration,
    most_in_flight: u64,
}

/// A hello that waits.
#[derive(Clone, Copy, Debug)]
struct Pending {
    sent: u64,
    is_redirected: bool,
    is_answered: bool,
}

struct Asking {
    options: AskOptions,
    sockets: Vec<Udp>,
    poll: Poll,
    shared: Arc<Shared>,
    discriminators: Vec<Vec<u8>>,
    pending: HashMap<u64, Pending>,
    next: u64,
    started: u64,
    next_check: u64,
    /// Distinguishes tags of this run from all others.
    mark: u64,
    opener: Opener,
    packet: Vec<u8>,
    datagram: Vec<u8>,
}

impl Askers {
    /// Begins to ask.
    ///
    /// # Errors
    /// There is nobody to ask for, or the system gives no sockets or thread.
    pub fn start(options: AskOptions) -> io::Result<Self> {
        if options.targets.is_empty() {
            return Err(io::Error::other("there is nobody to ask for"));
        }
        let poll = Poll::new()?;
        let count = options.targets.len().min(SOCKETS);
        let mut sockets = Vec::with_capacity(count);
        for number in 0..count {
            let network = FIRST_NETWORK.saturating_add(u32::try_from(number).unwrap_or(0));
            let mut socket = Udp::toward(options.server, network)?;
            let registry = poll.registry();
            registry.register(socket.source(), Token(number), Interest::READABLE)?;
            sockets.push(socket);
        }
        let shared = Arc::new(Shared::default());
        let started = now_ns();
        let targets = options.targets.iter();
        let (rate, cpus) = (options.rate, options.cpus.clone());
        let mut asking = Asking {
            discriminators: targets.map(discriminator::for_fingerprint).collect(),
            options,
            sockets,
            poll,
            shared: Arc::clone(&shared),
            pending: HashMap::new(),
            next: 0,
            started,
            next_check: 0,
            mark: rand::random(),
            opener: Opener::startup(),
            packet: Vec::new(),
            datagram: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("introduce".to_owned())
            .spawn(move || {
                let is_bound = cpus.is_empty() || affinity::bind(&cpus).is_ok();
                if is_bound {
                    // The event queue can only fail if it is misused; then nobody asks any more, which shows.
                    let _failed = asking.run();
                }
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
            rate,
            started,
        })
    }

    /// How many were asked for, brought together, and not brought together so far.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        let figure = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let shared = &self.shared;
        (
            figure(&shared.asked),
            figure(&shared.done),
            figure(&shared.failed),
        )
    }

    /// Asks no more, waits for the answers that are due, and tells what was found.
    #[must_use]
    pub fn finish(mut self) -> IntroduceSummary {
        let seconds = now_ns().saturating_sub(self.started) as f64 / 1e9;
        let (_, done_in_time, _) = self.counts();
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
        let (asked, done, failed) = self.counts();
        let found = self.shared.found.lock().clone();
        IntroduceSummary {
            asked,
            done,
            failed,
            no_redirect: found.no_redirect,
            no_answer: found.no_answer,
            seconds,
            asked_per_s: self.rate,
            achieved_per_s: if seconds > 0.0 {
                done_in_time as f64 / seconds
            } else {
                0.0
            },
            most_in_flight: found.most_in_flight,
            most_behind_ms: found.behind.as_secs_f64() * 1e3,
            redirect: found.redirect.report(),
            answer: found.answer.report(),
            ..IntroduceSummary::default()
        }
    }
}

impl Drop for Askers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Asking {
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut inbox = Inbox::default();
        let mut again: Vec<usize> = Vec::new();
        loop {
            let is_over = self.shared.stop.load(Ordering::Relaxed);
            if is_over && self.pending.is_empty() {
                return Ok(());
            }
            let now = now_ns();
            let due = if is_over { None } else { self.ask(now) };
            self.give_up(now);
            let wake = due.unwrap_or(u64::MAX).min(now + LONGEST_SLEEP);
            let left = if again.is_empty() {
                Duration::from_nanos(wake.saturating_sub(now_ns()))
            } else {
                Duration::ZERO
            };
            match self.poll.poll(&mut events, Some(left)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let ready = std::mem::take(&mut again);
            let ready = ready
                .into_iter()
                .chain(events.iter().map(|one| one.token().0));
            for number in ready.collect::<Vec<_>>() {
                if self.hear(number, &mut inbox) {
                    again.push(number);
                }
            }
        }
    }

    /// Says what is due. Gives when the next hello is; `None` if an answer has to come first.
    fn ask(&mut self, now: u64) -> Option<u64> {
        for _ in 0..ASKED_AT_ONCE {
            if self.pending.len() >= self.options.in_flight.max(1) {
                return None;
            }
            let number = usize::try_from(self.next).unwrap_or(usize::MAX);
            let after = pacing::ramp(number, self.options.rate).as_nanos() as u64;
            let due = self.started.saturating_add(after);
            if due > now {
                return Some(due);
            }
            let place = number % self.discriminators.len().max(1);
            let discriminator = self.discriminators.get(place)?;
            let socket = self.sockets.get(number % self.sockets.len().max(1))?;
            let mut tag = [0; TAG];
            let parts = self
                .next
                .to_be_bytes()
                .into_iter()
                .chain(self.mark.to_be_bytes());
            tag.iter_mut()
                .zip(parts)
                .for_each(|(place, byte)| *place = byte);
            let hello = InitiatorHello {
                discriminator,
                tag: &tag,
            };
            self.datagram.clear();
            put_startup(&hello, &mut self.packet, &mut self.datagram);
            let sent = now_ns();
            socket.send(&self.datagram, self.options.server);
            let pending = Pending {
                sent,
                is_redirected: false,
                is_answered: false,
            };
            self.pending.insert(self.next, pending);
            self.next += 1;
            self.shared.asked.fetch_add(1, Ordering::Relaxed);
            let mut found = self.shared.found.lock();
            found.most_in_flight = found.most_in_flight.max(self.pending.len() as u64);
            if self.options.rate > 0 {
                let behind = Duration::from_nanos(sent.saturating_sub(due));
                found.behind = found.behind.max(behind);
            }
        }
        Some(now)
    }

    /// Takes answers. Whether there may be more.
    fn hear(&mut self, number: usize, inbox: &mut Inbox) -> bool {
        let Self {
            sockets,
            pending,
            shared,
            mark,
            opener,
            ..
        } = self;
        let Some(socket) = sockets.get(number) else {
            return false;
        };
        let received = socket.receive(inbox, |_, datagram| {
            let now = now_ns();
            if let Some((tag, is_redirect)) = answer(opener, datagram, *mark) {
                take(pending, shared, tag, is_redirect, now);
            }
        });
        matches!(received, Ok(Received::Some))
    }

    fn give_up(&mut self, now: u64) {
        if now < self.next_check {
            return;
        }
        self.next_check = now + CHECK_EVERY;
        let timeout = self.options.timeout.as_nanos() as u64;
        let mut found = self.shared.found.lock();
        let before = self.pending.len();
        self.pending.retain(|_, one| {
            let is_late = now.saturating_sub(one.sent) > timeout;
            if is_late {
                found.no_redirect += u64::from(!one.is_redirected);
                found.no_answer += u64::from(!one.is_answered);
            }
            !is_late
        });
        let late = (before - self.pending.len()) as u64;
        self.shared.failed.fetch_add(late, Ordering::Relaxed);
    }
}

/// The number of the hello that a datagram answers, and whether it is a redirect.
fn answer(opener: &mut Opener, datagram: &mut [u8], mark: u64) -> Option<(u64, bool)> {
    let packet = Packet::read(opener.open(datagram).ok()?).ok()?;
    packet.chunks.into_iter().find_map(|chunk| {
        let (tag, is_redirect) = match chunk.kind {
            ChunkKind::REDIRECT => (Redirect::read(chunk.payload).ok()?.tag, true),
            ChunkKind::RESPONDER_HELLO => (ResponderHello::read(chunk.payload).ok()?.tag, false),
            _ => return None,
        };
        let (number, rest) = tag.split_first_chunk()?;
        let is_own = rest == mark.to_be_bytes();
        is_own.then_some((u64::from_be_bytes(*number), is_redirect))
    })
}

/// Notes an answer; both are wanted, each once.
fn take(
    pending: &mut HashMap<u64, Pending>,
    shared: &Shared,
    number: u64,
    is_redirect: bool,
    now: u64,
) {
    let Some(one) = pending.get_mut(&number) else {
        return;
    };
    let has_come = if is_redirect {
        &mut one.is_redirected
    } else {
        &mut one.is_answered
    };
    if std::mem::replace(has_come, true) {
        return;
    }
    let mut found = shared.found.lock();
    if is_redirect {
        found.redirect.record(one.sent, now);
    } else {
        found.answer.record(one.sent, now);
    }
    if one.is_redirected && one.is_answered {
        pending.remove(&number);
        shared.done.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use headwater_rtmfp::wire::startup::RedirectTo;

    use super::*;

    #[test]
    fn both_answers_are_wanted_and_each_counts_once() {
        let (mut opener, mark) = (Opener::startup(), 7_u64);
        let tag = |number: u64, mark: u64| [number.to_be_bytes(), mark.to_be_bytes()].concat();
        let datagram = |payload: &dyn Fn(&mut Vec<u8>, &mut Vec<u8>) -> bool| {
            let (mut packet, mut datagram) = (Vec::new(), Vec::new());
            assert!(payload(&mut packet, &mut datagram));
            datagram
        };
        let redirect = |tag: &[u8]| {
            datagram(&|packet, out| {
                let redirect = RedirectTo {
                    tag,
                    addresses: &[],
                };
                put_startup(&redirect, packet, out)
            })
        };
        let hello = |tag: &[u8]| {
            datagram(&|packet, out| {
                let hello = ResponderHello {
                    tag,
                    cookie: b"cookie",
                    certificate: b"certificate",
                };
                put_startup(&hello, packet, out)
            })
        };
        let mut heard = |mut datagram: Vec<u8>| answer(&mut opener, &mut datagram, mark);
        assert_eq!(heard(redirect(&tag(3, mark))), Some((3, true)));
        assert_eq!(heard(hello(&tag(4, mark))), Some((4, false)));
        assert_eq!(heard(hello(&tag(4, mark + 1))), None);
        assert_eq!(heard(hello(b"short")), None);
        assert_eq!(heard(vec![1; 40]), None);

        let shared = Shared::default();
        let waiting = Pending {
            sent: 1_000,
            is_redirected: false,
            is_answered: false,
        };
        let mut pending = HashMap::from([(3, waiting)]);
        for (is_redirect, done) in [(true, 0), (true, 0), (false, 1), (false, 1)] {
            take(&mut pending, &shared, 3, is_redirect, 9_000);
            assert_eq!(shared.done.load(Ordering::Relaxed), done);
        }
        let found = shared.found.lock();
        assert_eq!(found.redirect.report().count, 1);
        assert_eq!(found.answer.report().max_us, 8);
        assert!(pending.is_empty());
    }
}
