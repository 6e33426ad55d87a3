//! Packets outside sessions: how they are encrypted, and cut where they are too long.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::crypto::packet::{OpenError, Opener, Sealer};
use crate::wire::chunk::{Payload, append};
use crate::wire::fragment::{self, Fragment, Reassembly};
use crate::wire::packet::TICK_MILLISECONDS;
use crate::wire::startup::{Redirect, ResponderHello};
use crate::wire::{ChunkKind, Header, Malformed, Mode, Packet};

/// Bytes of the longest datagram that is sent before the path is known: it passes through tunnels, and is what other implementations use.
const DATAGRAM: usize = 1_200;

/// Why a datagram outside sessions is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// It was not encrypted with the key that everyone knows.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It has no header.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is of a session.
    #[error("a packet of a session outside of one")]
    Mode,
}

/// Decrypts packets outside sessions, and puts fragments together.
#[derive(Debug)]
pub struct Startup {
    opener: Opener,
    reassembly: Reassembly<SocketAddr>,
}

impl Startup {
    /// One that holds as many bytes of fragments as `limits` say.
    #[must_use]
    pub fn new(limits: fragment::Limits) -> Self {
        Self {
            opener: Opener::startup(),
            reassembly: Reassembly::new(limits),
        }
    }

    /// Decrypts a datagram in place. None for a fragment of a packet that is not complete yet.
    ///
    /// # Errors
    /// [`StartupError`], at which the datagram is dropped, and counted.
    pub fn open<'a>(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &'a mut [u8],
    ) -> Result<Option<Cow<'a, [u8]>>, StartupError> {
        let data = self.opener.open(datagram)?;
        let packet = Packet::read(data)?;
        let mode = packet.header.mode;
        if mode != Mode::Startup {
            return Err(StartupError::Mode);
        }
        let mut fragments = packet
            .chunks
            .filter(|chunk| chunk.kind == ChunkKind::FRAGMENT);
        let Some(first) = fragments.next() else {
            return Ok(Some(Cow::Borrowed(data)));
        };
        // The first packet that is complete: nobody sends the ends of two in one datagram.
        let mut complete = None;
        for chunk in std::iter::once(first).chain(fragments) {
            let Ok(fragment) = Fragment::read(chunk.payload) else {
                continue;
            };
            let packet = self.reassembly.handle(now, from, mode, &fragment);
            complete = complete.or(packet);
        }
        Ok(complete.map(Cow::Owned))
    }

    /// When fragments may be due to be forgotten.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.reassembly.poll_timeout()
    }

    /// Forgets fragments that wait for too long.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.reassembly.handle_timeout(now);
    }

    /// Bytes of fragments that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.reassembly.held()
    }
}

/// The tag of the first answer to a hello in a packet: by it an endpoint finds its [`Initiator`](super::Initiator).
#[must_use]
pub fn tag_of(packet: &[u8]) -> Option<&[u8]> {
    let mut chunks = Packet::read(packet).ok()?.chunks;
    chunks.find_map(|chunk| match chunk.kind {
        ChunkKind::RESPONDER_HELLO => Some(ResponderHello::read(chunk.payload).ok()?.tag),
        ChunkKind::REDIRECT => Some(Redirect::read(chunk.payload).ok()?.tag),
        _ => None,
    })
}

/// Datagrams of a chunk outside sessions, or of the last one of a handshake: one, or as many as it takes.
pub(super) fn datagrams(
    now: Duration,
    session_id: u32,
    payload: &impl Payload,
    fragment_id: u64,
) -> Vec<Bytes> {
    let mut sealer = Sealer::startup();
    let mut packet = Vec::new();
    let ticks = now.as_millis() / u128::from(TICK_MILLISECONDS);
    let header = Header {
        timestamp: Some(ticks as u16),
        ..Header::new(Mode::Startup)
    };
    header.put(&mut packet);
    if append(payload, &mut packet).is_err() {
        return Vec::new();
    }
    let pieces = fragment::split(
        &packet,
        Mode::Startup,
        fragment_id,
        sealer.capacity(DATAGRAM),
    );
    let seal = |piece: Vec<u8>| {
        let mut out = Vec::new();
        sealer.seal(session_id, &piece, &mut out);
        Bytes::from(out)
    };
    pieces.into_iter().map(seal).collect()
}
