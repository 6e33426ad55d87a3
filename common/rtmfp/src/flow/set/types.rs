//! What a set of flows takes and gives.

use bytes::Bytes;

use super::super::{MessageId, Priority, ReceiveId, SendId};
use crate::congestion::Algorithm;

/// Bounds of the flows of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of chunks in a full packet, for congestion control. Default 1,160: a datagram of 1,200 bytes less what encryption takes.
    pub segment: usize,
    /// Flows that may be open for sending at once. Default 128.
    pub sending_flows: usize,
    /// Flows that the far end may have open at once. A flow beyond is rejected. Default 128: clients use a handful for each stream.
    pub receiving_flows: usize,
    /// Bytes of messages that may wait to be sent or acknowledged, shared ones included. Default 32 MiB: one message of the greatest
    /// length, and what is behind it.
    pub send_bytes: usize,
    /// Messages that may wait so. Default 16,384.
    pub send_messages: usize,
    /// Bytes of one receiving flow that may be kept back: out of order, or not taken. Default 256 KiB: 13 Mbit/s at a round trip of
    /// 160 ms.
    pub receive_window: usize,
    /// Bytes that all receiving flows may keep together, messages that are being put together included. Default 32 MiB.
    pub receive_bytes: usize,
    /// The longest message that is received, in bytes. Default: the longest of RTMP, with its header.
    pub message_bytes: usize,
    /// Packets with data that may be sent at once: more of them wait for their time, or for an acknowledgement where congestion control gives
    /// no rate. Default 6 (section 3.5.2.3).
    pub burst: u32,
    /// How much may be under way.
    pub congestion: Algorithm,
    /// Say to the far end that time-critical data come from elsewhere, so that it gives way. Default off: to a server they always come.
    pub ask_to_give_way: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment: 1_160,
            sending_flows: 128,
            receiving_flows: 128,
            send_bytes: 32 << 20,
            send_messages: 16_384,
            receive_window: 256 << 10,
            receive_bytes: 32 << 20,
            message_bytes: 0x00ff_ffff + 5,
            burst: 6,
            congestion: Algorithm::default(),
            ask_to_give_way: false,
        }
    }
}

/// What the header of a packet says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// There are time-critical data in it.
    pub time_critical: bool,
    /// Its sender gets time-critical data from elsewhere.
    pub time_critical_reverse: bool,
    /// The sender's time.
    pub timestamp: Option<u16>,
    /// The receiver's time, sent back.
    pub echo: Option<u16>,
}

/// What the application is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The far end has opened a flow. The application may reject it; what follows of it is in order unless the application says otherwise.
    Opened {
        /// The flow.
        flow: ReceiveId,
        /// What it is for.
        metadata: Bytes,
        /// The flow to which it is the answer; it was open when this one came.
        association: Option<SendId>,
    },
    /// A message has come.
    Message {
        /// Its flow.
        flow: ReceiveId,
        /// All of it.
        payload: Bytes,
    },
    /// One message or more, before the next of this flow, will not come.
    Gap {
        /// The flow.
        flow: ReceiveId,
    },
    /// The far end has closed the flow, and this was all.
    Finished {
        /// The flow.
        flow: ReceiveId,
    },
    /// The flow was rejected, because of a message that is longer than may be.
    Broken {
        /// The flow.
        flow: ReceiveId,
    },
    /// The far end does not want a flow. It is closed, and its messages are given up.
    Rejected {
        /// The flow.
        flow: SendId,
        /// Why; 0 where the far end says no more.
        code: u64,
    },
    /// A flow that was closed is gone: everything came, or was given up.
    Closed {
        /// The flow.
        flow: SendId,
    },
}

/// A flow to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening<'a> {
    /// What it is for: at most 512 bytes.
    pub metadata: &'a [u8],
    /// The far end's flow to which it is the answer.
    pub association: Option<ReceiveId>,
    /// Who goes first.
    pub priority: Priority,
    /// Whether other traffic should give way to it.
    pub time_critical: bool,
}

/// Why a flow cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There are as many as may be.
    #[error("{0} flows are open for sending")]
    TooMany(usize),
    /// The metadata do not fit into their option.
    #[error("metadata of {0} bytes")]
    MetadataTooLong(usize),
    /// The far end would reject an answer to a flow that is not open.
    #[error("flow {} of the far end is not open", .0.0)]
    NotOpen(ReceiveId),
}

/// Why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The flow was closed, or rejected, or never was.
    #[error("flow {} is not open", .0.0)]
    NotOpen(SendId),
    /// It is longer than a message can be.
    #[error("a message of {0} bytes")]
    TooLong(usize),
    /// As much waits as may be.
    #[error("{bytes} bytes in {messages} messages wait to be sent")]
    Full {
        /// Bytes that wait.
        bytes: usize,
        /// Messages that wait.
        messages: usize,
    },
}

/// How a sending flow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendState {
    /// Messages that are not over: they wait, or have not all been acknowledged.
    pub messages: usize,
    /// What they keep in memory, in bytes.
    pub bytes: usize,
    /// Bytes under way.
    pub in_flight: usize,
    /// What the far end could take beside that, in bytes.
    pub room: usize,
    /// Messages that were given up until now.
    pub abandoned: u64,
    /// The newest of them.
    pub newest_abandoned: Option<MessageId>,
}

/// What happened so far. Counts go on as long as the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that were given up, in all sending flows.
    pub abandoned: u64,
    /// Fragments that were sent.
    pub sent: u64,
    /// Fragments that were sent again.
    pub sent_again: u64,
    /// Fragments that counted as lost.
    pub lost: u64,
    /// Times at which no acknowledgement had come in time.
    pub timeouts: u64,
    /// Fragments that came.
    pub received: u64,
    /// Fragments that came and found no room.
    pub no_room: u64,
    /// Flows that were rejected here without asking the application.
    pub refused: u64,
    /// Chunks that made no sense.
    pub malformed: u64,
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.abandoned += other.abandoned;
        self.sent += other.sent;
        self.sent_again += other.sent_again;
        self.lost += other.lost;
        self.timeouts += other.timeouts;
        self.received += other.received;
        self.no_room += other.no_room;
        self.refused += other.refused;
        self.malformed += other.malformed;
    }
}
