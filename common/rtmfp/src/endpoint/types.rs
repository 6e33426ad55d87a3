//! What an endpoint is told, and what it tells.

use std::sync::Arc;

use crate::handshake::{InitiatorFailure, KeyingTask, Lookup, ResponderConfig};
use crate::session::{SessionConfig, SessionEvent};
use crate::wire::fragment;

/// What an endpoint is to be like.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// How it answers.
    pub responder: ResponderConfig,
    /// What its sessions are like.
    pub session: Arc<SessionConfig>,
    /// The most sessions.
    pub sessions: usize,
    /// Fragments of packets outside sessions that are held.
    pub fragments: fragment::Limits,
    /// Which ids it gives to its sessions: those that leave this rest when divided by that number. So whoever has several endpoints for
    /// one address knows whose a datagram is.
    pub ids: (u32, u32),
}

/// What the application is to know, or to do.
#[derive(Debug)]
pub enum EndpointEvent {
    /// Keys are to be agreed on, for a session with this id.
    Keying {
        /// The work.
        task: Box<KeyingTask>,
        /// The id that it gets.
        near_id: u32,
    },
    /// Somebody asks for somebody else: see [`Endpoint::introduce`](super::Endpoint::introduce).
    Lookup(Lookup),
    /// There is a session. Its far end has not shown yet that it has the keys.
    Opened {
        /// Its id.
        session: u32,
    },
    /// Something happened to a session.
    Session {
        /// Its id.
        session: u32,
        /// What.
        event: SessionEvent,
    },
    /// Something may have happened in the flows of a session.
    Flows {
        /// Its id.
        session: u32,
    },
    /// Something that waited in the flows of a session may not wait any more, and nothing else happened.
    Room {
        /// Its id.
        session: u32,
    },
    /// A session that was to be opened was not, and has no id any more.
    Failed {
        /// The id that it was to get.
        session: u32,
        /// Why.
        failure: InitiatorFailure,
    },
    /// A session is gone.
    Gone {
        /// The id that it had.
        session: u32,
    },
}

/// Datagrams that were dropped, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// For nobody.
    pub unknown: u64,
    /// Outside sessions, and not readable.
    pub startup: u64,
    /// Of a session, and not to be decrypted, repeated, or of the wrong end.
    pub session: u64,
    /// Sessions that there was no room for.
    pub sessions: u64,
}
