//! RTMP messages in flows: RFC 7425 section 5.
//!
//! The metadata of a flow name the message stream, so a message is its type, its timestamp and its payload. What belongs to the chunk
//! stream (types 1, 2, 3, 5 and 6) is not sent, and ignored where it comes. Two user control events are of RTMFP alone: [`FlowSync`]
//! and [`Keepalive`].
//!
//! [`Inbox`] stands between a [`FlowSet`](crate::flow::FlowSet) and the session of a NetConnection: it turns what flows tell into
//! messages, and holds flows where they have to wait for one another.

mod inbox;
mod sync;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_rtmp::control::{Control, UserControl};
use headwater_rtmp::message::{Message, MessageType};

pub use self::inbox::{Inbox, Incoming};
pub use self::sync::{Arrival, Synchronizer, Tree};
use crate::flow::{Body, Head, Order};
use crate::wire::field::{Fields, put_variable};

/// Type and timestamp of a message, in bytes.
pub const HEADER: usize = 5;

/// How the metadata of such a flow begin.
const SIGNATURE: [u8; 2] = *b"TC";

/// Flag: the stream is named. It has to be.
const STREAM: u8 = 0x04;

/// Flag: the sender would like messages to be handed over as they come.
const NETWORK_ORDER: u8 = 0x01;

/// User control event: flows wait for one another.
const FLOW_SYNC: u16 = 34;

/// User control event: how often the ends look whether the other is there.
const SET_KEEPALIVE: u16 = 41;

/// No client pings more often, whatever a server says (section 5.3.4).
const LEAST_KEEPALIVE: Duration = Duration::from_secs(5);

/// What a flow is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// The message stream; 0 is the NetConnection.
    pub stream_id: u32,
    /// How messages are to be handed over.
    pub order: Order,
}

/// Why metadata are not those of a flow of RTMP messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// It is for something else: a group, say.
    #[error("the metadata do not begin with TC")]
    Signature,
    /// The flow does not say for which stream it is.
    #[error("the metadata name no stream")]
    Stream,
}

impl Metadata {
    /// Reads the metadata of a flow.
    ///
    /// # Errors
    /// [`MetadataError`]: the flow is to be rejected, unless the application knows it.
    pub fn read(metadata: &[u8]) -> Result<Self, MetadataError> {
        let rest = metadata.strip_prefix(&SIGNATURE);
        let mut fields = Fields::new(rest.ok_or(MetadataError::Signature)?);
        let flags = fields.u8().unwrap_or_default();
        if flags & STREAM == 0 {
            return Err(MetadataError::Stream);
        }
        let stream = fields.variable().ok();
        let stream_id = stream.and_then(|stream| u32::try_from(stream).ok());
        Ok(Self {
            stream_id: stream_id.ok_or(MetadataError::Stream)?,
            order: if flags & NETWORK_ORDER == 0 {
                Order::InOrder
            } else {
                Order::Network
            },
        })
    }

    /// The metadata as they are given to [`FlowSet::open`](crate::flow::FlowSet::open).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.push(match self.order {
            Order::InOrder => STREAM,
            Order::Network => STREAM | NETWORK_ORDER,
        });
        put_variable(self.stream_id.into(), &mut out);
        out
    }
}

/// A message as a flow carries it. The payload is shared, not copied.
#[must_use]
pub fn body(kind: MessageType, timestamp: u32, payload: Bytes) -> Body {
    let [a, b, c, d] = timestamp.to_be_bytes();
    Body {
        head: Head::new([kind.0, a, b, c, d]),
        shared: payload,
    }
}

/// Reads a message of a flow; `None` for one that ends before its payload begins.
#[must_use]
pub fn read(stream_id: u32, mut message: Bytes) -> Option<Message> {
    let [kind, timestamp @ ..] = *message.first_chunk::<HEADER>()?;
    Some(Message {
        kind: MessageType(kind),
        timestamp: u32::from_be_bytes(timestamp),
        stream_id,
        payload: message.split_off(HEADER),
    })
}

/// Flows wait after this until it has come in as many of them as it says (section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSync {
    /// Which occasion it is.
    pub id: u32,
    /// In how many flows.
    pub count: u32,
}

/// How often the ends look whether the other is there (section 5.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// For a session with the server.
    pub server: Duration,
    /// For sessions between clients.
    pub peer: Duration,
}

/// The two numbers of an event, if the message is such a one.
fn numbers(message: &Message, wanted: u16) -> Option<(u32, u32)> {
    let Some(Ok(Control::UserControl(UserControl::Unknown { event, data }))) =
        Control::parse(message)
    else {
        return None;
    };
    let mut fields = Fields::new(&data);
    let numbers = (fields.u32().ok()?, fields.u32().ok()?);
    (event == wanted).then_some(numbers)
}

fn event(event: u16, first: u32, second: u32) -> Message {
    let mut data = BytesMut::with_capacity(8);
    data.extend_from_slice(&first.to_be_bytes());
    data.extend_from_slice(&second.to_be_bytes());
    let data = data.freeze();
    Control::from(UserControl::Unknown { event, data }).to_message()
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

impl FlowSync {
    /// Reads it, if it is one.
    #[must_use]
    pub fn read(message: &Message) -> Option<Self> {
        let (id, count) = numbers(message, FLOW_SYNC)?;
        Some(Self { id, count })
    }

    /// The message.
    #[must_use]
    pub fn to_message(&self) -> Message {
        event(FLOW_SYNC, self.id, self.count)
    }
}

impl Keepalive {
    /// Reads it, if it is one. Times of less than five seconds are five seconds.
    #[must_use]
    pub fn read(message: &Message) -> Option<Self> {
        let (server, peer) = numbers(message, SET_KEEPALIVE)?;
        let time = |value: u32| Duration::from_millis(value.into()).max(LEAST_KEEPALIVE);
        Some(Self {
            server: time(server),
            peer: time(peer),
        })
    }

    /// The message.
    #[must_use]
    pub fn to_message(&self) -> Message {
        let (server, peer) = (milliseconds(self.server), milliseconds(self.peer));
        event(SET_KEEPALIVE, server, peer)
    }
}

#[cfg(test)]
mod tests;
