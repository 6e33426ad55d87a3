//! What is left of receiving flows that are over: RFC 7016 section 3.6.3.8.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long a flow that is over is remembered, so that a late repetition does not open it again.
pub(super) const LINGER: Duration = Duration::from_secs(120);

/// Flows that are remembered. Who closes more of them within the time loses but the protection against itself.
const MAX_LINGERING: usize = 256;

/// Answers that wait for a packet. What finds no room is answered when it is sent again.
const MAX_REPLIES: usize = 64;

/// Receiving flows that are over: their last number, and the exception of those that were rejected.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    flows: BTreeMap<u64, (u64, Option<u64>)>,
    until: VecDeque<(Duration, u64)>,
}

impl Lingering {
    pub(super) fn add(&mut self, now: Duration, flow: u64, last: u64, exception: Option<u64>) {
        if self.until.len() >= MAX_LINGERING
            && let Some((_, oldest)) = self.until.pop_front()
        {
            self.flows.remove(&oldest);
        }
        if self.flows.insert(flow, (last, exception)).is_none() {
            self.until.push_back((now + LINGER, flow));
        }
    }

    pub(super) fn get(&self, flow: u64) -> Option<(u64, Option<u64>)> {
        self.flows.get(&flow).copied()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn until(&self) -> Option<Duration> {
        self.until.front().map(|(until, _)| *until)
    }

    pub(super) fn expire(&mut self, now: Duration) {
        while let Some((_, flow)) = self.until.pop_front_if(|(until, _)| *until <= now) {
            self.flows.remove(&flow);
        }
    }
}

/// An acknowledgement of a flow that has no state here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) flow: u64,
    pub(super) exception: Option<u64>,
    pub(super) cumulative: u64,
    /// One more that came.
    pub(super) also: Option<u64>,
}

/// Acknowledgements that wait, one for each flow.
#[derive(Debug, Default)]
pub(super) struct Replies(VecDeque<Reply>);

impl Replies {
    pub(super) fn add(&mut self, reply: Reply) {
        if let Some(other) = self.0.iter_mut().find(|other| other.flow == reply.flow) {
            *other = reply;
        } else if self.0.len() < MAX_REPLIES {
            self.0.push_back(reply);
        }
    }

    pub(super) fn first(&self) -> Option<&Reply> {
        self.0.front()
    }

    pub(super) fn remove_first(&mut self) {
        self.0.pop_front();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
