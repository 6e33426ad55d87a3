//! Fan-out on one worker: the walk over the viewers of a stream.
//!
//! A worker is one thread. For each stream that it has viewers of it keeps a mirror of the hub's ring (shared pointers to the
//! entries), brought up to date once per wake; then it writes to each viewer's socket in turn, straight from the shared wire
//! forms. No lock is held while it writes, no task is woken per viewer, and no viewer has a queue: a viewer is a number, the
//! next entry it needs. Where a socket is full, the session's own waker is registered with it and the session goes on
//! from that number when there is room.
//!
//! What a slow viewer loses is decided in [`play`]; nobody else notices.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use headwater_media::name::StreamName;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::hub::{Entry, Hub, HubLease};

pub(crate) mod connection;
mod lag;
pub(crate) mod play;

use connection::Connection;

/// Viewers served between two chances for the worker's other tasks: about a millisecond of sends.
const VIEWERS_PER_TURN: usize = 256;

/// A connection as the worker's walk and its own session share it. Both are on one thread and borrow it only between awaits.
pub(crate) type SharedConnection = Rc<RefCell<Connection>>;

/// The hub's ring as one worker sees it.
#[derive(Default)]
pub(crate) struct Mirror {
    base: u64,
    /// The entries, and when they came to this worker.
    entries: VecDeque<(Entry, Instant)>,
    /// Media time of the newest frame, in milliseconds.
    newest_time: u64,
    /// Where a viewer that joins or jumps starts.
    live_start: u64,
}

impl Mirror {
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub(crate) fn live_start(&self) -> u64 {
        self.live_start.max(self.base)
    }

    pub(crate) fn newest_time(&self) -> u64 {
        self.newest_time
    }

    /// An entry, and when it came to this worker.
    pub(crate) fn entry(&self, number: u64) -> Option<&(Entry, Instant)> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.entries.get(index)
    }

    fn refresh(&mut self, hub: &Hub) {
        let (pulled, live_start) =
            hub.look(|ring| (ring.pull(self.next_number()), ring.live_start()));
        if pulled.first != self.next_number() {
            // The ring has moved past this worker: its viewers fall out and jump.
            self.entries.clear();
            self.base = pulled.first;
        }
        while self.base < pulled.base && self.entries.pop_front().is_some() {
            self.base += 1;
        }
        let now = Instant::now();
        for entry in pulled.entries {
            if let Entry::Frame(frame) = &entry {
                self.newest_time = frame.frame.timestamp;
            }
            self.entries.push_back((entry, now));
        }
        self.live_start = live_start;
        if self.entries.capacity() > 256 && self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }
}

/// A stream on one worker.
pub(crate) struct LocalHub {
    lease: HubLease,
    mirror: RefCell<Mirror>,
    viewers: RefCell<Vec<Option<SharedConnection>>>,
    walk: RefCell<Option<JoinHandle<()>>>,
}

impl LocalHub {
    fn start(lease: HubLease) -> Rc<Self> {
        let hub = Arc::clone(lease.hub());
        let local = Rc::new(Self {
            lease,
            mirror: RefCell::default(),
            viewers: RefCell::default(),
            walk: RefCell::new(None),
        });
        // Before the first look, so that nothing falls between the two.
        let tail = hub.tail();
        local.mirror.borrow_mut().refresh(&hub);
        let walk = tokio::task::spawn_local(tokio::task::unconstrained(walk(
            Rc::downgrade(&local),
            tail,
        )));
        *local.walk.borrow_mut() = Some(walk);
        local
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        self.lease.hub()
    }

    pub(crate) fn mirror(&self) -> std::cell::Ref<'_, Mirror> {
        self.mirror.borrow()
    }

    /// Brings the mirror up to date, for a viewer that joins between two walks.
    pub(crate) fn refresh(&self) {
        self.mirror.borrow_mut().refresh(self.lease.hub());
    }

    /// Adds a viewer to the walk. It is taken out when the returned value is dropped.
    pub(crate) fn join(self: &Rc<Self>, connection: &SharedConnection) -> Membership {
        let mut viewers = self.viewers.borrow_mut();
        let slot = viewers.iter().position(Option::is_none);
        let slot = slot.unwrap_or_else(|| {
            viewers.push(None);
            viewers.len() - 1
        });
        viewers[slot] = Some(Rc::clone(connection));
        drop(viewers);
        Membership {
            hub: Rc::clone(self),
            slot,
        }
    }
}

impl Drop for LocalHub {
    fn drop(&mut self) {
        if let Some(walk) = self.walk.borrow_mut().take() {
            walk.abort();
        }
    }
}

/// A viewer's place in the walk.
pub(crate) struct Membership {
    hub: Rc<LocalHub>,
    slot: usize,
}

impl Membership {
    pub(crate) fn hub(&self) -> &Rc<LocalHub> {
        &self.hub
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut viewers = self.hub.viewers.borrow_mut();
        viewers[self.slot] = None;
        while viewers.last().is_some_and(Option::is_none) {
            viewers.pop();
        }
        if viewers.capacity() > 64 && viewers.len() * 4 < viewers.capacity() {
            let keep = viewers.len() * 2;
            viewers.shrink_to(keep);
        }
    }
}

async fn walk(local: Weak<LocalHub>, mut tail: watch::Receiver<u64>) {
    loop {
        if tail.changed().await.is_err() {
            return;
        }
        let Some(local) = local.upgrade() else {
            return;
        };
        local.refresh();
        let mut next = 0;
        loop {
            let last = serve(&local, next);
            match last {
                Some(slot) => next = slot,
                None => break,
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Writes to the viewers from slot `from` on; returns where to go on when the turn is over.
fn serve(local: &LocalHub, from: usize) -> Option<usize> {
    let mut slot = from;
    for _ in 0..VIEWERS_PER_TURN {
        let viewer = {
            let viewers = local.viewers.borrow();
            if slot >= viewers.len() {
                return None;
            }
            viewers[slot].clone()
        };
        slot += 1;
        if let Some(viewer) = viewer {
            viewer.borrow_mut().pump_from_walk();
        }
    }
    Some(slot)
}

/// The streams that one worker has viewers of.
#[derive(Default)]
pub(crate) struct LocalHubs {
    hubs: RefCell<HashMap<StreamName, Weak<LocalHub>>>,
    /// How many entries there may be before those of streams without viewers are dropped.
    look_through_at: Cell<usize>,
}

impl LocalHubs {
    /// This worker's share of a stream, made by `lease` if it has none yet. `None` if that gives none.
    pub(crate) fn open(
        &self,
        name: &StreamName,
        lease: impl FnOnce() -> Option<HubLease>,
    ) -> Option<Rc<LocalHub>> {
        if let Some(local) = self.hubs.borrow().get(name).and_then(Weak::upgrade) {
            return Some(local);
        }
        let local = LocalHub::start(lease()?);
        let mut hubs = self.hubs.borrow_mut();
        // Looked through only when it has doubled since the last time: a thousand streams are not a thousand look-throughs.
        if hubs.len() >= self.look_through_at.get() {
            hubs.retain(|_, hub| hub.strong_count() > 0);
            self.look_through_at.set((hubs.len() * 2).max(16));
        }
        hubs.insert(name.clone(), Rc::downgrade(&local));
        Some(local)
    }
}
