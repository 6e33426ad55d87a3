//! From what flows tell to messages of streams.

use std::time::Duration;

use bytes::Bytes;
use headwater_rtmp::message::{Message, MessageType};

use super::{Arrival, FlowSync, Keepalive, Metadata, MetadataError, Synchronizer, Tree, read};
use crate::few::Few;
use crate::flow::{Event, FlowSet, ReceiveId, SendId};

/// How long a flow waits for the others that are to be synchronised with it. Longer than a lost packet takes to come again; a viewer who
/// waits longer would rather see the end of a stream too early.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the application is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The far end has opened a flow of messages.
    Opened {
        /// The flow.
        flow: ReceiveId,
        /// Its stream; 0 is the NetConnection.
        stream_id: u32,
        /// The flow to which it is the answer.
        association: Option<SendId>,
    },
    /// The far end has opened a flow of something else. It is to be rejected by who does not know it; its messages come as
    /// [`Incoming::Foreign`].
    OpenedForeign {
        /// The flow.
        flow: ReceiveId,
        /// What it is for.
        metadata: Bytes,
        /// The flow to which it is the answer.
        association: Option<SendId>,
    },
    /// A message.
    Message {
        /// The flow in which it came.
        flow: ReceiveId,
        /// All of it.
        message: Message,
    },
    /// A message of something else.
    Foreign {
        /// The flow in which it came.
        flow: ReceiveId,
        /// All of it.
        payload: Bytes,
    },
    /// The server says how often it wants to be asked whether it is there.
    Keepalive(Keepalive),
    /// One message or more of a flow will not come.
    Gap {
        /// The flow.
        flow: ReceiveId,
    },
    /// The far end has closed a flow, or it was rejected because of a message that is longer than may be.
    Ended {
        /// The flow.
        flow: ReceiveId,
        /// Whether the far end closed it.
        orderly: bool,
    },
    /// The far end does not want a flow.
    Rejected {
        /// The flow.
        flow: SendId,
        /// Why.
        code: u64,
    },
    /// A flow that was closed is gone.
    Closed {
        /// The flow.
        flow: SendId,
    },
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// None for a flow of something else.
    stream_id: Option<u32>,
    tree: Tree,
}

/// See [`message`](super). Its flows are those of the set that it is given, always the same.
#[derive(Debug)]
pub struct Inbox {
    open: Few<ReceiveId, Open>,
    sync: Synchronizer,
    malformed: u64,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            open: Few::default(),
            sync: Synchronizer::new(PATIENCE),
            malformed: 0,
        }
    }
}

impl Inbox {
    /// What has happened. Call it until there is nothing, in the place of [`FlowSet::poll_event`].
    #[must_use]
    pub fn poll(&mut self, now: Duration, flows: &mut FlowSet) -> Option<Incoming> {
        // What has waited for too long is taken with the rest.
        self.handle_timeout(now, flows);
        loop {
            let event = flows.poll_event()?;
            if let Some(incoming) = self.take(now, flows, event) {
                return Some(incoming);
            }
        }
    }

    fn take(&mut self, now: Duration, flows: &mut FlowSet, event: Event) -> Option<Incoming> {
        match event {
            Event::Opened {
                flow,
                metadata,
                association,
            } => self.opened(flows, flow, metadata, association),
            Event::Message { flow, payload } => self.message(now, flows, flow, payload),
            Event::Gap { flow } => Some(Incoming::Gap { flow }),
            Event::Finished { flow } => self.ended(flow, true),
            Event::Broken { flow } => self.ended(flow, false),
            Event::Rejected { flow, code } => Some(Incoming::Rejected { flow, code }),
            Event::Closed { flow } => Some(Incoming::Closed { flow }),
        }
    }

    fn opened(
        &mut self,
        flows: &mut FlowSet,
        flow: ReceiveId,
        metadata: Bytes,
        association: Option<SendId>,
    ) -> Option<Incoming> {
        // Who was rejected before it said anything has no end.
        self.open.retain(|open, _| flows.is_receiving(*open));
        let tree = self.tree(flows, flow, association);
        match Metadata::read(&metadata) {
            Ok(Metadata { stream_id, order }) => {
                flows.set_order(flow, order);
                let open = Open {
                    stream_id: Some(stream_id),
                    tree,
                };
                self.open.insert(flow, open);
                Some(Incoming::Opened {
                    flow,
                    stream_id,
                    association,
                })
            }
            Err(MetadataError::Signature) => {
                let stream_id = None;
                self.open.insert(flow, Open { stream_id, tree });
                Some(Incoming::OpenedForeign {
                    flow,
                    metadata,
                    association,
                })
            }
            Err(MetadataError::Stream) => {
                flows.reject(flow, 0);
                None
            }
        }
    }

    /// Where the associations of a flow begin.
    fn tree(&self, flows: &FlowSet, flow: ReceiveId, association: Option<SendId>) -> Tree {
        let Some(near) = association else {
            return Tree::Far(flow);
        };
        let far = flows.association(near).and_then(|far| self.open.get(&far));
        far.map_or(Tree::Near(near), |far| far.tree)
    }

    fn message(
        &mut self,
        now: Duration,
        flows: &mut FlowSet,
        flow: ReceiveId,
        payload: Bytes,
    ) -> Option<Incoming> {
        let open = *self.open.get(&flow)?;
        let Some(stream_id) = open.stream_id else {
            return Some(Incoming::Foreign { flow, payload });
        };
        let Some(message) = read(stream_id, payload) else {
            self.malformed += 1;
            return None;
        };
        if message.kind.is_protocol_control() {
            return None;
        }
        if message.kind == MessageType::USER_CONTROL {
            if let Some(keepalive) = Keepalive::read(&message) {
                return Some(Incoming::Keepalive(keepalive));
            }
            if let Some(sync) = FlowSync::read(&message) {
                match self.sync.arrived(now, open.tree, flow, sync) {
                    Arrival::Hold => flows.hold(flow, true),
                    Arrival::Release(waiting) => release(flows, &waiting),
                }
                return None;
            }
        }
        Some(Incoming::Message { flow, message })
    }

    fn ended(&mut self, flow: ReceiveId, orderly: bool) -> Option<Incoming> {
        self.forget(flow);
        Some(Incoming::Ended { flow, orderly })
    }

    fn forget(&mut self, flow: ReceiveId) {
        self.open.remove(&flow);
        self.sync.closed(flow);
    }

    /// Rejects a flow, in the place of [`FlowSet::reject`].
    pub fn reject(&mut self, flows: &mut FlowSet, flow: ReceiveId, code: u64) {
        self.forget(flow);
        flows.reject(flow, code);
    }

    /// The stream of a flow of messages.
    #[must_use]
    pub fn stream(&self, flow: ReceiveId) -> Option<u32> {
        self.open.get(&flow)?.stream_id
    }

    /// Messages that ended before their payload began.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.sync.poll_timeout()
    }

    /// Lets flows go on that have waited for too long.
    pub fn handle_timeout(&mut self, now: Duration, flows: &mut FlowSet) {
        let waiting = self.sync.handle_timeout(now);
        release(flows, &waiting);
    }
}

fn release(flows: &mut FlowSet, waiting: &[ReceiveId]) {
    for flow in waiting {
        flows.hold(*flow, false);
    }
}
