//! Fan-out on one worker: the walk over the viewers of a stream.
//!
//! | room | what it holds |
//! |---|---|
//! | `mirror` | the hub's ring as this worker sees it, and what of it viewers may have |
//! | `flush` | when that is: which frames wait for company, and what a busy worker does |
//! | `walk` | one send to each viewer in turn |
//! | `connection` | a client's socket and what waits for it |
//! | `play` | which frames a viewer gets, and what it loses when it is slow |
//! | `lag` | how far behind a viewer is |
//!
//! # Why it looks as it does
//! Serving a viewer is a system call, `send`, and what the kernel does in it: the copy of some kilobytes, and on a loopback the
//! receiver's half of TCP, too. It costs about four microseconds, whatever is sent. That leaves two things to do.
//!
//! **Send less often.** Frames go out with the next picture (see [`flush`]), which is 30 sends a second for the usual stream
//! of 77 messages.
//!
//! **Do nothing else.** For each flush the worker puts what has come into one piece of memory, the *portion*, and gives the same
//! piece to `send` for every viewer that is up to date, which is nearly all of them. For such a viewer there is no queue, no
//! list of slices, no count of references, no lock, no task that is woken and no clock that is read: its place is a number
//! that is set when the socket has taken all. Everything else, a viewer that joins, that is behind, that wants no video, that
//! has another stream id, goes the general way in [`connection`], which looks at the entries one by one.
//!
//! The walk serves viewers in turn and gives way to the worker's other tasks every quarter of a thousand. Frames that come
//! while it walks go to those that it has not yet reached, in the same send: the slower the walk, the fewer sends a frame
//! costs. A walk is followed by a rest in proportion to its length, so that a worker with too many viewers sends more at once
//! instead of falling behind, and has time for newcomers.
//!
//! Where a socket is full, the session's own waker is registered with it and the session goes on from its number when there is
//! room. What a slow viewer loses is decided in [`play`]; nobody else notices.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use headwater_media::name::StreamName;

use crate::hub::{Hub, HubLease};
use crate::metrics::{ConnectionMeters, HubMeter};

pub(crate) mod connection;
pub(crate) mod flush;
mod lag;
mod mirror;
pub(crate) mod play;
mod walk;

use connection::Connection;
use flush::FlushPolicy;
use mirror::Mirror;
pub(crate) use walk::Tally;

/// A connection as the worker's walk and its own session share it. Both are on one thread and borrow it only between awaits.
pub(crate) type SharedConnection = Rc<RefCell<Connection>>;

/// What a worker needs to serve a stream.
pub(crate) struct HubSetup {
    pub(crate) lease: HubLease,
    pub(crate) policy: FlushPolicy,
    pub(crate) meter: HubMeter,
    pub(crate) meters: Rc<ConnectionMeters>,
}

/// A stream on one worker.
pub(crate) struct LocalHub {
    lease: HubLease,
    mirror: RefCell<Mirror>,
    meter: HubMeter,
    meters: Rc<ConnectionMeters>,
    viewers: RefCell<Vec<Option<SharedConnection>>>,
}

impl LocalHub {
    fn start(setup: HubSetup) -> Rc<Self> {
        // Before the first look, so that nothing falls between the two.
        let tail = setup.lease.hub().tail();
        let mut mirror = Mirror::new(setup.policy);
        mirror.refresh(setup.lease.hub());
        // There is nobody yet for whom it could be too early.
        mirror.release();
        let local = Rc::new(Self {
            lease: setup.lease,
            mirror: RefCell::new(mirror),
            meter: setup.meter,
            meters: setup.meters,
            viewers: RefCell::default(),
        });
        // The walk ends by itself when it is the last that holds the stream.
        let walk = walk::walk(Rc::clone(&local), tail);
        tokio::task::spawn_local(tokio::task::unconstrained(walk));
        local
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        self.lease.hub()
    }

    pub(crate) fn mirror(&self) -> std::cell::Ref<'_, Mirror> {
        self.mirror.borrow()
    }

    fn refresh(&self) {
        self.mirror.borrow_mut().refresh(self.lease.hub());
    }

    fn due(&self) -> Option<Instant> {
        self.mirror.borrow().due()
    }

    fn release(&self) {
        self.mirror.borrow_mut().release();
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
        self.meter.joined();
        Membership {
            hub: Rc::clone(self),
            slot,
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
        self.hub.meter.left();
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

/// The streams that one worker has viewers of.
#[derive(Default)]
pub(crate) struct LocalHubs {
    hubs: RefCell<HashMap<StreamName, Weak<LocalHub>>>,
    /// How many entries there may be before those of streams without viewers are dropped.
    look_through_at: Cell<usize>,
}

impl LocalHubs {
    /// This worker's share of a stream, made with what `set_up` gives if there is none yet. `None` if that gives none.
    pub(crate) fn open(
        &self,
        name: &StreamName,
        set_up: impl FnOnce() -> Option<HubSetup>,
    ) -> Option<Rc<LocalHub>> {
        if let Some(local) = self.hubs.borrow().get(name).and_then(Weak::upgrade) {
            return Some(local);
        }
        let local = LocalHub::start(set_up()?);
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
