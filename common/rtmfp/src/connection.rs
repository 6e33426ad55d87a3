//! A NetConnection and its streams over the flows of a session: RFC 7425 section 5.3, for both ends.
//!
//! ```text
//! FlowSet events  --> poll  --> messages of the far end
//! messages        --> send  --> flows
//! ```
//! The client opens the control flow; everything the server sends answers it, and everything else the client sends answers the server's
//! first control flow. A stream has three lanes, each a flow of its own that is opened with its first message: one for commands, data and
//! user control, one for audio, one for video. So audio never waits for a lost piece of a picture. Where order between them matters, before
//! a command or an event that says something about media, the lanes of the stream are synchronised (section 5.2).
//!
//! # Late pictures
//! Video of a live stream is given up when it is too late to be of use, and then up to the newest key frame: what waits behind a picture
//! that is late is late as well, and cannot be decoded without it. Audio and what is stored are not given up.
//!
//! Of what comes, pictures behind a gap are passed over up to the next key frame.
//!
//! # Bad input
//! Flows that answer nothing, or name no stream, are rejected. When the far end closes or rejects the control flow the connection is over.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use headwater_media::frame::{FrameFlags, FrameKind};
use headwater_media::inspect;
use headwater_rtmp::message::{Message, MessageType};

use crate::few::Few;
use crate::flow::{
    FlowSet, MessageId, OpenError, Opening, Order, Outgoing, Priority, ReceiveId, SendError, SendId,
};
use crate::message::{FlowSync, Inbox, Incoming, Keepalive, Metadata, body};

/// How long a picture of a live stream may take to the far end.
const PICTURE_LIVES: Duration = Duration::from_secs(2);

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It connects.
    Client,
    /// It is connected to.
    Server,
}

/// What came from the far end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A message. The stream id says of which stream.
    Message(Message),
    /// The far end has opened a flow of something else, a group, say. To be rejected by who does not know it.
    OpenedForeign {
        /// The flow.
        flow: ReceiveId,
        /// What it is for.
        metadata: Bytes,
    },
    /// A message of something else.
    Foreign {
        /// The flow in which it came.
        flow: ReceiveId,
        /// All of it.
        payload: Bytes,
    },
    /// The far end has closed a flow of something else.
    EndedForeign {
        /// The flow.
        flow: ReceiveId,
    },
    /// The server says how often it wants to be asked whether it is there.
    Keepalive(Keepalive),
    /// The far end does not go on with the connection.
    Ended,
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The control flow of the far end is not there (yet, or any more).
    #[error("there is no connection")]
    NotConnected,
    /// No flow could be opened for it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The flow does not take it.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// What shares a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Control,
    Audio,
    Video,
}

#[derive(Debug)]
struct Out {
    flow: SendId,
    /// It has had media since the lanes were synchronised.
    is_ahead: bool,
    /// The newest message of the flow that was given up, as far as is known here.
    given_up: Option<MessageId>,
    /// The newest key frame.
    key: Option<MessageId>,
    /// A picture was given up: those that build on it are of no use.
    awaits_key: bool,
    /// The far end does not want it.
    is_rejected: bool,
}

impl Out {
    /// Gives up what builds on a picture that was given up.
    fn give_up(&mut self, flows: &mut FlowSet) {
        let newest = |flows: &FlowSet| flows.send_state(self.flow)?.newest_abandoned;
        let given_up = newest(flows);
        if given_up <= self.given_up {
            return;
        }
        let end = self.key.filter(|key| Some(*key) > given_up);
        flows.abandon_perishable_before(self.flow, end.unwrap_or(MessageId::AFTER_ALL));
        self.awaits_key |= end.is_none();
        self.given_up = newest(flows);
    }
}

/// See the [module](self). Always used with the flows of the same session.
#[derive(Debug)]
pub struct NetConnection {
    role: Role,
    inbox: Inbox,
    far_control: Option<ReceiveId>,
    lanes: Few<(u32, Lane), Out>,
    next_sync: u32,
    left_out: u64,
    /// Flows with a gap behind which no key frame has come.
    gaps: BTreeSet<ReceiveId>,
}

impl NetConnection {
    /// One without flows.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Self {
            role,
            inbox: Inbox::default(),
            far_control: None,
            lanes: Few::default(),
            next_sync: 0,
            left_out: 0,
            gaps: BTreeSet::new(),
        }
    }

    /// What has happened. Call it until there is nothing, in the place of [`FlowSet::poll_event`].
    #[must_use]
    pub fn poll(&mut self, now: Duration, flows: &mut FlowSet) -> Option<Happened> {
        loop {
            let happened = match self.inbox.poll(now, flows)? {
                Incoming::Opened {
                    flow,
                    stream_id,
                    association,
                } => {
                    self.opened(flows, flow, stream_id, association);
                    None
                }
                Incoming::OpenedForeign { flow, metadata, .. } => {
                    Some(Happened::OpenedForeign { flow, metadata })
                }
                Incoming::Message { flow, message } => {
                    let is_useful = self.is_decodable(flow, &message);
                    is_useful.then_some(Happened::Message(message))
                }
                Incoming::Foreign { flow, payload } => Some(Happened::Foreign { flow, payload }),
                Incoming::Keepalive(keepalive) => Some(Happened::Keepalive(keepalive)),
                Incoming::Ended { flow, .. } if self.far_control == Some(flow) => {
                    self.far_control = None;
                    Some(Happened::Ended)
                }
                Incoming::Ended { flow, .. } => {
                    self.gaps.remove(&flow);
                    Some(Happened::EndedForeign { flow })
                }
                Incoming::Rejected { flow, .. } => self.rejected(flow),
                Incoming::Gap { flow } => {
                    self.gaps.retain(|known| flows.is_receiving(*known));
                    self.gaps.insert(flow);
                    None
                }
                Incoming::Closed { .. } => None,
            };
            if happened.is_some() {
                return happened;
            }
        }
    }

    /// False for a picture behind a gap.
    fn is_decodable(&mut self, flow: ReceiveId, message: &Message) -> bool {
        if message.kind != MessageType::VIDEO || !self.gaps.contains(&flow) {
            return true;
        }
        let flags = inspect::inspect(FrameKind::Video, &message.payload).flags;
        if flags.contains(FrameFlags::KEY) {
            self.gaps.remove(&flow);
            return true;
        }
        flags.contains(FrameFlags::HEADER)
    }

    fn opened(
        &mut self,
        flows: &mut FlowSet,
        flow: ReceiveId,
        stream_id: u32,
        association: Option<SendId>,
    ) {
        let is_ours = |near: SendId| self.lanes.values().any(|out| out.flow == near);
        let fits = match (self.role, association) {
            // The flow that begins it all.
            (Role::Server, None) => stream_id == 0 && self.far_control.is_none(),
            (_, Some(near)) => is_ours(near),
            (Role::Client, None) => false,
        };
        if !fits {
            self.inbox.reject(flows, flow, 0);
        } else if stream_id == 0 && self.far_control.is_none() {
            self.far_control = Some(flow);
        }
    }

    fn rejected(&mut self, flow: SendId) -> Option<Happened> {
        let mut lanes = self.lanes.iter_mut();
        let found = lanes.find(|(_, out)| out.flow == flow);
        let ((stream_id, _), out) = found?;
        out.is_rejected = true;
        out.is_ahead = false;
        (*stream_id == 0).then_some(Happened::Ended)
    }

    /// Rejects a flow of something else.
    pub fn reject(&mut self, flows: &mut FlowSet, flow: ReceiveId) {
        self.inbox.reject(flows, flow, 0);
    }

    /// Sends a message; those of the chunk stream's own kinds (1, 2, 3, 5, 6) are left out. `is_live`: what is late need not come.
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn send(
        &mut self,
        now: Duration,
        flows: &mut FlowSet,
        message: &Message,
        is_live: bool,
    ) -> Result<(), NotSent> {
        if message.kind.is_protocol_control() {
            return Ok(());
        }
        let (id, lane) = (message.stream_id, lane_of(message));
        if lane == Lane::Control && id != 0 {
            self.synchronise(now, flows, id)?;
        }
        let mut outgoing = Outgoing::from(body(
            message.kind,
            message.timestamp,
            message.payload.clone(),
        ));
        let out = self.lane(flows, id, lane)?;
        if out.is_rejected {
            return Ok(());
        }
        let mut is_key = false;
        if lane == Lane::Video && is_live {
            let flags = inspect::inspect(FrameKind::Video, &message.payload).flags;
            out.give_up(flows);
            is_key = flags.contains(FrameFlags::KEY);
            if flags.contains(FrameFlags::HEADER) {
                // Of use for all that comes later.
                is_key = false;
            } else if out.awaits_key && !is_key {
                self.left_out += 1;
                return Ok(());
            } else {
                out.awaits_key = false;
                outgoing.finish_by = Some(now + PICTURE_LIVES);
            }
        }
        out.is_ahead |= lane != Lane::Control;
        let sent = flows.send(now, out.flow, outgoing)?;
        if is_key {
            out.key = Some(sent);
        }
        Ok(())
    }

    /// What comes next in the control lane of a stream is handed over after all media before it, and before all after it.
    fn synchronise(
        &mut self,
        now: Duration,
        flows: &mut FlowSet,
        stream_id: u32,
    ) -> Result<(), NotSent> {
        // Whatever was refused may be wanted again.
        self.lanes
            .retain(|(id, _), out| *id != stream_id || !out.is_rejected);
        let lanes = [Lane::Audio, Lane::Video].map(|lane| (stream_id, lane));
        let is_ahead = |key: &(u32, Lane)| self.lanes.get(key).is_some_and(|out| out.is_ahead);
        if !lanes.iter().any(is_ahead) {
            return Ok(());
        }
        let lanes = lanes.into_iter().chain([(stream_id, Lane::Control)]);
        let mut together = Vec::new();
        for key in lanes {
            if let Some(out) = self.lanes.get_mut(&key) {
                out.is_ahead = false;
                together.push(out.flow);
            }
        }
        if together.len() < 2 {
            return Ok(());
        }
        self.next_sync = self.next_sync.wrapping_add(1);
        let sync = FlowSync {
            id: self.next_sync,
            count: together.len() as u32,
        };
        let message = sync.to_message();
        for flow in together {
            let body = body(message.kind, 0, message.payload.clone());
            flows.send(now, flow, Outgoing::from(body))?;
        }
        Ok(())
    }

    fn lane(
        &mut self,
        flows: &mut FlowSet,
        stream_id: u32,
        lane: Lane,
    ) -> Result<&mut Out, NotSent> {
        let key = (stream_id, lane);
        if !self.lanes.contains_key(&key) {
            let begins = self.role == Role::Client && stream_id == 0;
            let association = match self.far_control {
                Some(far) => Some(far),
                None if begins => None,
                None => return Err(NotSent::NotConnected),
            };
            let metadata = Metadata {
                stream_id,
                order: Order::InOrder,
            };
            let flow = flows.open(&Opening {
                metadata: &metadata.to_bytes(),
                association,
                priority: match lane {
                    Lane::Control => Priority::CONTROL,
                    Lane::Audio => Priority::AUDIO,
                    Lane::Video => Priority::VIDEO,
                },
                time_critical: lane != Lane::Control,
            })?;
            let out = Out {
                flow,
                is_ahead: false,
                given_up: None,
                key: None,
                awaits_key: false,
                is_rejected: false,
            };
            self.lanes.insert(key, out);
        }
        self.lanes.get_mut(&key).ok_or(NotSent::NotConnected)
    }

    /// Closes all that this end sends. What waits is sent before.
    pub fn close(&mut self, flows: &mut FlowSet) {
        for out in std::mem::take(&mut self.lanes).values() {
            flows.close(out.flow);
        }
    }

    /// Pictures that were not sent because one that they build on was given up, since this was asked. Those that were given up are
    /// counted by the flows.
    pub fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.inbox.poll_timeout()
    }

    /// Lets flows go on that have waited for others for too long.
    pub fn handle_timeout(&mut self, now: Duration, flows: &mut FlowSet) {
        self.inbox.handle_timeout(now, flows);
    }
}

fn lane_of(message: &Message) -> Lane {
    match message.kind {
        _ if message.stream_id == 0 => Lane::Control,
        MessageType::AUDIO => Lane::Audio,
        MessageType::VIDEO => Lane::Video,
        _ => Lane::Control,
    }
}

#[cfg(test)]
mod tests;
