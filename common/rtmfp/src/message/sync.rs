//! Flows that wait for one another: RFC 7425 section 5.2.
//!
//! Bounded in number and in time: what would wait beyond goes on, because a far end that never comes with the rest must not stop its own
//! flows for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use super::FlowSync;
use crate::flow::{ReceiveId, SendId};

/// Occasions at which flows wait at once. A client has one for each stream that ends.
const MAX_OCCASIONS: usize = 32;

/// Flows that wait at one occasion: audio, video and data of a stream are three.
const MAX_FLOWS: u32 = 32;

/// Flows that are associated with one another, by the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tree {
    /// It began with a flow of the far end.
    Far(ReceiveId),
    /// It began with a flow of this end.
    Near(SendId),
}

/// What to do with a flow in which a synchronisation came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It waits.
    Hold,
    /// It does not wait, and these do no longer.
    Release(Vec<ReceiveId>),
}

#[derive(Debug)]
struct Occasion {
    flows: Vec<ReceiveId>,
    /// Flows of which it has come, those that are closed included.
    arrived: u32,
    until: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Synchronizer {
    patience: Duration,
    occasions: BTreeMap<(Tree, u32), Occasion>,
}

impl Synchronizer {
    /// Flows wait no longer than this.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self {
            patience,
            occasions: BTreeMap::new(),
        }
    }

    /// A synchronisation came in a flow.
    pub fn arrived(
        &mut self,
        now: Duration,
        tree: Tree,
        flow: ReceiveId,
        sync: FlowSync,
    ) -> Arrival {
        let key = (tree, sync.id);
        let full = self.occasions.len() >= MAX_OCCASIONS && !self.occasions.contains_key(&key);
        if full || sync.count > MAX_FLOWS {
            return Arrival::Release(Vec::new());
        }
        let occasion = self.occasions.entry(key).or_insert_with(|| Occasion {
            flows: Vec::new(),
            arrived: 0,
            until: now + self.patience,
        });
        occasion.arrived += 1;
        if occasion.arrived < sync.count {
            occasion.flows.push(flow);
            return Arrival::Hold;
        }
        let done = self.occasions.remove(&key);
        Arrival::Release(done.map(|done| done.flows).unwrap_or_default())
    }

    /// A flow is no more, and need not be released.
    pub fn closed(&mut self, flow: ReceiveId) {
        for occasion in self.occasions.values_mut() {
            occasion.flows.retain(|waiting| *waiting != flow);
        }
        self.occasions
            .retain(|_, occasion| !occasion.flows.is_empty());
    }

    /// When some flow has waited long enough.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let occasions = self.occasions.values();
        occasions.map(|occasion| occasion.until).min()
    }

    /// Flows that have waited long enough.
    pub fn handle_timeout(&mut self, now: Duration) -> Vec<ReceiveId> {
        let mut released = Vec::new();
        self.occasions.retain(|_, occasion| {
            let waits = occasion.until > now;
            if !waits {
                released.append(&mut occasion.flows);
            }
            waits
        });
        released
    }
}
