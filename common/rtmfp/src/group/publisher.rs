//! A member of a group that publishes a stream, and plays none.
//!
//! ```text
//! sessions with members  --> opened, talk, gone      talk --> what is said in their flows
//! the stream             --> push, end
//! the time               --> talk with each session  poll_timeout --> when to do so
//! ```
//! After [`Publisher::push`], after [`Publisher::end`] and when the [time](Publisher::poll_timeout) has come, [`talk`](Publisher::talk) with each of
//! the [sessions](Publisher::sessions); after a datagram with the session that it came in. Where it says so the session is to be closed. The publisher does not open sessions, and need not know who else is in the group: servers tell members of each other.
//!
//! # What it feeds in
//! All messages of the stream as they come, cut into fragments. So that a member that comes later can play, what decoders begin with (the
//! description of the stream, and the first message of each codec) is repeated: before a key frame, or once a second where there are no pictures.
//!
//! # Bounds
//! [`PublisherConfig`]: neighbours, and bytes that are kept. All neighbours together make it send no more than what the sessions with them take.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use headwater_media::window::{Preface, Slot};
use headwater_rtmp::command::{Command, ObjectEncoding};
use headwater_rtmp::message::{Message, MessageType};

use super::Specification;
use super::kept::Kept;
use super::message::{Heard, StreamKey, Times};
use super::neighbour::{Neighbour, Surroundings};
use crate::crypto::certificate::Fingerprint;
use crate::session::Session;
use crate::wire::{Address, Mode};

/// How much longer than it says a publisher keeps fragments: members pull them late.
const MARGIN: Duration = Duration::from_secs(2);

/// How often what decoders begin with is repeated, at most.
const REPEAT_AFTER: Duration = Duration::from_millis(900);

/// How long the sessions stay once the stream is over, so that what members have not pulled yet can be.
const LINGER: Duration = Duration::from_secs(5);

/// Members that one is told of.
const REPORTED: usize = 32;

/// Which stream a member publishes in which group.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The group.
    pub specification: Specification,
    /// Who the member is in it.
    pub peer: Fingerprint,
    /// Where it can be reached, as far as is known.
    pub addresses: Vec<Address>,
    /// What the stream is called.
    pub name: String,
    /// Which of that name it is: unguessable, so that nobody else publishes in its place.
    pub key: StreamKey,
    /// Its times.
    pub times: Times,
}

/// What a publisher may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherConfig {
    /// Sessions with members, those that have not shown to be one included. Default 32: the stream goes on from member to member.
    pub neighbours: usize,
    /// Bytes of fragments. Default 16 MiB: ten seconds at 13 Mbit/s.
    pub bytes: usize,
}

impl Default for PublisherConfig {
    fn default() -> Self {
        Self {
            neighbours: 32,
            bytes: 16 << 20,
        }
    }
}

/// What decoders begin with.
#[derive(Debug, Default)]
struct Prefaces {
    in_force: Preface<Frame>,
    has_pictures: bool,
    /// When it was said last.
    repeated: Option<Duration>,
}

impl Prefaces {
    /// What is to be said before a message.
    fn before(&mut self, now: Duration, message: &Message, flags: FrameFlags) -> Vec<Message> {
        let Some(kind) = frame_kind(message) else {
            return Vec::new();
        };
        self.has_pictures |= kind == FrameKind::Video;
        if flags.intersects(FrameFlags::HEADER | FrameFlags::METADATA | FrameFlags::CLEAR_METADATA)
        {
            let frame = Frame {
                offset: Offset::default(),
                timestamp: message.timestamp.into(),
                kind,
                flags,
                payload: message.payload.clone(),
            };
            let slot = Slot::of(kind, &frame.payload);
            self.in_force.apply(&slot, &frame);
            self.repeated = Some(now);
            return Vec::new();
        }
        let is_start = match kind {
            FrameKind::Video => flags.contains(FrameFlags::KEY),
            FrameKind::Audio => !self.has_pictures,
            FrameKind::Data => false,
        };
        if !is_start || self.repeated.is_some_and(|at| now < at + REPEAT_AFTER) {
            return Vec::new();
        }
        self.repeated = Some(now);
        let in_force = self.in_force.clone().frames(Epoch::default());
        let again = |frame: Frame| Message {
            kind: message_type(frame.kind),
            payload: frame.payload,
            ..message.clone()
        };
        in_force.into_iter().map(again).collect()
    }
}

fn message_type(kind: FrameKind) -> MessageType {
    match kind {
        FrameKind::Audio => MessageType::AUDIO,
        FrameKind::Video => MessageType::VIDEO,
        FrameKind::Data => MessageType::DATA_AMF0,
    }
}

fn frame_kind(message: &Message) -> Option<FrameKind> {
    match message.kind {
        MessageType::AUDIO => Some(FrameKind::Audio),
        MessageType::VIDEO => Some(FrameKind::Video),
        MessageType::DATA_AMF0 => Some(FrameKind::Data),
        _ => None,
    }
}

/// What comes of talking with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talked {
    /// The session goes on.
    On,
    /// It is to be closed.
    Over,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Publisher {
    stream: Stream,
    config: PublisherConfig,
    kept: Kept,
    prefaces: Prefaces,
    neighbours: BTreeMap<u32, Neighbour>,
    /// Since when the stream is over.
    ended: Option<Duration>,
    timestamp: u32,
}

impl Publisher {
    /// One without neighbours.
    #[must_use]
    pub fn new(stream: Stream, config: PublisherConfig) -> Self {
        Self {
            kept: Kept::new(stream.times.window + MARGIN, config.bytes),
            stream,
            config,
            prefaces: Prefaces::default(),
            neighbours: BTreeMap::new(),
            ended: None,
            timestamp: 0,
        }
    }

    /// What it publishes.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether it wants to be told of more members: it has too few neighbours.
    #[must_use]
    pub fn wants_neighbours(&self) -> bool {
        self.ended.is_none() && self.neighbours.len() < self.config.neighbours
    }

    /// Whether somebody is its neighbour, or about to be.
    #[must_use]
    pub fn has(&self, peer: &Fingerprint) -> bool {
        self.neighbours.values().any(|it| it.peer == *peer)
    }

    /// Sessions with members.
    pub fn sessions(&self) -> impl Iterator<Item = u32> {
        self.neighbours.keys().copied()
    }

    /// Members that have asked for the stream.
    #[must_use]
    pub fn fed(&self) -> usize {
        self.neighbours.values().filter(|it| it.is_fed()).count()
    }

    /// There is a session, as whom it publishes. [`talk`](Self::talk) follows.
    pub fn opened(&mut self, now: Duration, session: &Session) -> Talked {
        if self.ended.is_some() {
            return Talked::Over;
        }
        if self.neighbours.len() >= self.config.neighbours {
            // Anybody can open sessions: who has not shown to be a member gives way.
            let doubtful = self.neighbours.values_mut();
            let doubtful = doubtful.filter(|it| !it.is_member() && !it.is_over(now));
            match doubtful.min_by_key(|it| it.heard) {
                Some(oldest) => oldest.give_way(now),
                None => return Talked::Over,
            }
        }
        let neighbour = Neighbour::new(
            now,
            session.fingerprint(),
            session.address(),
            session.mode() == Mode::Initiator,
            session.nonces(),
        );
        self.neighbours.insert(session.near_id(), neighbour);
        Talked::On
    }

    /// A session is gone.
    pub fn gone(&mut self, session: u32) {
        self.neighbours.remove(&session);
    }

    /// A message of the stream, and what it is.
    pub fn push(&mut self, now: Duration, message: &Message, flags: FrameFlags) {
        if self.ended.is_some() {
            return;
        }
        self.timestamp = message.timestamp;
        for preface in self.prefaces.before(now, message, flags) {
            self.kept.push(now, &preface);
        }
        if !flags.contains(FrameFlags::CLEAR_METADATA) {
            // Members have no such command: they would take it for a description with nothing in it.
            self.kept.push(now, message);
        }
    }

    /// The stream is over; so is the member, some seconds later.
    pub fn end(&mut self, now: Duration) {
        if self.ended.is_some() {
            return;
        }
        let close = Command::notice("closeStream", Vec::new());
        if let Ok(close) = close.to_message(ObjectEncoding::Amf3, 0) {
            let timestamp = self.timestamp;
            self.kept.push(now, &Message { timestamp, ..close });
        }
        self.ended = Some(now);
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_over(&self, now: Duration) -> bool {
        self.ended.is_some_and(|at| now >= at + LINGER)
    }

    /// Takes what came in the flows of a session, and says in them what is to be said.
    pub fn talk(&mut self, now: Duration, session: &mut Session) -> Talked {
        self.kept.forget(now);
        let members = self.members(now);
        let around = Surroundings {
            stream: &self.stream,
            kept: &self.kept,
            members: &members,
            is_ended: self.ended.is_some(),
        };
        let Some(neighbour) = self.neighbours.get_mut(&session.near_id()) else {
            return Talked::Over;
        };
        neighbour.seen = session.address();
        neighbour.receive(now, session.flows(), &around);
        neighbour.send(now, session.flows(), &around);
        if neighbour.is_over(now) || self.is_over(now) {
            return Talked::Over;
        }
        Talked::On
    }

    fn members(&self, now: Duration) -> Vec<Heard> {
        let members = self.neighbours.values().filter(|it| it.is_member());
        let heard = |it: &Neighbour| Heard {
            peer: it.peer,
            ago: now.saturating_sub(it.heard),
            seen: it.seen,
        };
        members.take(REPORTED).map(heard).collect()
    }

    /// When something is due: maps, or to talk with each session.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let neighbours = self.neighbours.values();
        let neighbours = neighbours.filter_map(|it| it.poll_timeout(&self.stream, &self.kept));
        let over = self.ended.map(|at| at + LINGER);
        neighbours.chain(over).min()
    }
}

#[cfg(test)]
mod tests;
