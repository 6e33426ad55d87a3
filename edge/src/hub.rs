//! One hub per stream and edge: the tail of the stream's log, shared by every viewer on this edge.
//!
//! ```text
//! origin --Read--> upstream::read --> Hub (Ring, one per stream) --> fanout::LocalHub (a mirror per worker) --> viewers
//! ```
//!
//! Invariants:
//! - a hub has at most one read open at its origin, however many viewers it has;
//! - a frame's wire form is made once, here, and shared by all viewers on all workers;
//! - entries are numbered without holes, and numbers are never used twice, so a viewer is nothing but a number;
//! - the ring is bounded in bytes and in entries: a viewer that falls out of it goes on at the newest key frame.
//!
//! A hub does not know viewers or sockets, only how many there are; see [`crate::fanout`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use headwater_media::name::StreamName;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

mod ring;
mod wire;

pub(crate) use ring::{Entry, Ring, RingLimits, StreamEntry};
pub(crate) use wire::{Preface, SHARED_STREAM_ID, WireFrame, chunk_stream, message_type, wrapped};

/// One stream on this edge.
pub(crate) struct Hub {
    name: StreamName,
    ring: RwLock<Ring>,
    /// Number of the next entry; a change wakes the workers that mirror this hub.
    tail: watch::Sender<u64>,
    viewers: watch::Sender<usize>,
    /// Whether somebody publishes; `None` until the origin has answered.
    state: watch::Sender<Option<bool>>,
}

impl Hub {
    pub(crate) fn new(name: StreamName, limits: RingLimits) -> Self {
        Self {
            name,
            ring: RwLock::new(Ring::new(limits)),
            tail: watch::Sender::new(0),
            viewers: watch::Sender::new(0),
            state: watch::Sender::new(None),
        }
    }

    pub(crate) fn name(&self) -> &StreamName {
        &self.name
    }

    /// Changes the ring and wakes the workers once.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Ring) -> T) -> T {
        let mut ring = self.ring.write();
        ring.tick(Instant::now());
        let result = change(&mut ring);
        let tail = ring.next_number();
        let state = ring.is_open().then(|| ring.publishing());
        drop(ring);
        self.state.send_if_modified(|known| {
            let changed = *known != state;
            *known = state;
            changed
        });
        self.tail.send_if_modified(|known| {
            let moved = *known != tail;
            *known = tail;
            moved
        });
        result
    }

    /// Looks at the ring. The closure must be short: the upstream task waits for it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Ring) -> T) -> T {
        look(&self.ring.read())
    }

    pub(crate) fn tail(&self) -> watch::Receiver<u64> {
        self.tail.subscribe()
    }

    /// Whether somebody publishes; `None` until the origin has answered.
    pub(crate) fn state(&self) -> watch::Receiver<Option<bool>> {
        self.state.subscribe()
    }

    /// How many viewers there are, to notice the last one leaving.
    pub(crate) fn viewers(&self) -> watch::Receiver<usize> {
        self.viewers.subscribe()
    }
}

/// A viewer's share of a hub: while one is held the hub stays open.
pub(crate) struct HubLease(Arc<Hub>);

impl HubLease {
    fn new(hub: Arc<Hub>) -> Self {
        hub.viewers.send_modify(|count| *count += 1);
        Self(hub)
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.0
    }
}

impl Drop for HubLease {
    fn drop(&mut self) {
        self.0
            .viewers
            .send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Every hub of this edge.
pub(crate) struct HubTable {
    limits: RingLimits,
    most: usize,
    hubs: Mutex<HashMap<StreamName, Arc<Hub>>>,
}

impl HubTable {
    /// For at most `most` streams at once.
    pub(crate) fn new(limits: RingLimits, most: usize) -> Self {
        Self {
            limits,
            most,
            hubs: Mutex::new(HashMap::new()),
        }
    }

    /// The hub of a stream, and whether it is new: the caller of a new one starts its upstream read. `None` if there are as
    /// many hubs as there may be.
    pub(crate) fn lease(&self, name: &StreamName) -> Option<(HubLease, bool)> {
        let mut hubs = self.hubs.lock();
        if let Some(hub) = hubs.get(name) {
            return Some((HubLease::new(Arc::clone(hub)), false));
        }
        if hubs.len() >= self.most {
            return None;
        }
        let hub = Arc::new(Hub::new(name.clone(), self.limits));
        hubs.insert(name.clone(), Arc::clone(&hub));
        Some((HubLease::new(hub), true))
    }

    /// Whether this edge reads the stream, and somebody publishes it.
    pub(crate) fn is_published(&self, name: &StreamName) -> bool {
        let hubs = self.hubs.lock();
        hubs.get(name)
            .is_some_and(|hub| *hub.state.borrow() == Some(true))
    }

    /// Forgets a hub that nobody watches. False if somebody came meanwhile: then its read goes on.
    pub(crate) fn close_if_idle(&self, hub: &Arc<Hub>) -> bool {
        let mut hubs = self.hubs.lock();
        if *hub.viewers.borrow() > 0 {
            return false;
        }
        if hubs
            .get(hub.name())
            .is_some_and(|held| Arc::ptr_eq(held, hub))
        {
            hubs.remove(hub.name());
        }
        if hubs.capacity() > 64 && hubs.len() * 4 < hubs.capacity() {
            hubs.shrink_to_fit();
        }
        true
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.hubs.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(stream: &str) -> StreamName {
        StreamName::new("v", "live", "i", stream).unwrap()
    }

    fn limits() -> RingLimits {
        RingLimits {
            duration_ms: 1_000,
            bytes: 1 << 20,
            entries: 100,
        }
    }

    #[test]
    fn viewers_share_a_hub_and_the_last_one_closes_it() {
        let table = HubTable::new(limits(), 1);
        let (first, new) = table.lease(&name("a")).unwrap();
        assert!(new);
        let (second, new) = table.lease(&name("a")).unwrap();
        assert!(!new);
        assert!(table.lease(&name("b")).is_none(), "there may be one only");
        let hub = Arc::clone(first.hub());
        assert!(Arc::ptr_eq(&hub, second.hub()));
        drop(first);
        assert!(!table.close_if_idle(&hub), "somebody still watches");
        drop(second);
        assert_eq!(*hub.viewers().borrow(), 0);
        assert!(table.close_if_idle(&hub));
        assert_eq!(table.len(), 0);
        assert!(
            table.lease(&name("a")).unwrap().1,
            "a later viewer opens it anew"
        );
    }
}
