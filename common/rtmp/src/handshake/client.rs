//! The client's side of the handshake.

use bytes::{Bytes, BytesMut};

use super::digest::{self, Digest, Layout, Role};
use super::{
    HandshakeError, PACKET_LENGTH, Packet, Progress, RandomBlock, VERSION, has_version,
    hello_packet, take_confirmation, take_hello,
};

/// The version in C1 in the digest form: that of a Flash Player which knows it. Servers ask only that it is not zero.
const CLIENT_VERSION: [u8; 4] = [10, 0, 45, 2];

/// The form of the handshake that a client begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientForm {
    /// Section 5.2 of the specification. Every server takes it.
    #[default]
    Simple,
    /// With digests. A server that does not answer with one is talked to in the simple form.
    Digest,
}

/// The client's side: sends C0 and C1, waits for S0 and S1, sends C2, waits for S2.
#[derive(Debug)]
pub struct ClientHandshake {
    random: Box<RandomBlock>,
    state: State,
    transmit: Option<Bytes>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    AwaitHello {
        /// The digest of C1.
        sent: Option<Digest>,
    },
    AwaitConfirmation {
        /// The digest of C1, if the server speaks that form.
        sent: Option<Digest>,
    },
    Done {
        digest: bool,
        confirmed: bool,
    },
}

impl ClientHandshake {
    /// A handshake whose C0 and C1 are ready for [`poll_transmit`](Self::poll_transmit). `now_ms` is the client's RTMP time.
    #[must_use]
    pub fn new(form: ClientForm, random: RandomBlock, now_ms: u32) -> Self {
        let (packet, sent) = match form {
            ClientForm::Simple => (hello_packet(now_ms, [0; 4], &random), None),
            ClientForm::Digest => {
                let mut packet = hello_packet(now_ms, CLIENT_VERSION, &random);
                let sent = digest::sign(&mut packet, Layout::DigestFirst, Role::Player);
                (packet, Some(sent))
            }
        };
        let mut out = BytesMut::with_capacity(1 + PACKET_LENGTH);
        out.extend_from_slice(&[VERSION]);
        out.extend_from_slice(&packet);
        Self {
            random: Box::new(random),
            state: State::AwaitHello { sent },
            transmit: Some(out.freeze()),
        }
    }

    /// Consumes what it can of `input`. Call it when bytes have arrived, then [`poll_transmit`](Self::poll_transmit) until that is
    /// empty. Bytes after S2 stay in `input`.
    ///
    /// # Errors
    /// The first byte is not that of RTMP. The error repeats as long as the same input is given.
    pub fn handle_input(&mut self, input: &mut BytesMut) -> Result<Progress, HandshakeError> {
        if let State::AwaitHello { sent } = self.state
            && let Some(hello) = take_hello(input)?
        {
            let theirs = sent
                .filter(|_| has_version(&hello))
                .and_then(|_| digest::find(&hello, Role::MediaServer));
            // In the simple form C2 is S1 byte for byte.
            let packet = match theirs {
                Some((_, theirs)) => digest::confirmation(&self.random, &theirs, Role::Player),
                None => hello,
            };
            self.transmit = Some(Bytes::copy_from_slice(&packet));
            self.state = State::AwaitConfirmation {
                sent: sent.filter(|_| theirs.is_some()),
            };
        }
        if let State::AwaitConfirmation { sent } = self.state
            && let Some(packet) = take_confirmation(input)
        {
            self.state = State::Done {
                digest: sent.is_some(),
                confirmed: self.is_confirmed(sent, &packet),
            };
        }
        Ok(if self.is_done() {
            Progress::Done
        } else {
            Progress::InProgress
        })
    }

    /// Bytes for the server. Poll it at the start and after each call of [`handle_input`](Self::handle_input).
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.transmit.take()
    }

    /// Whether S2 has arrived. The last bytes for the server, C2, may still be waiting in [`poll_transmit`](Self::poll_transmit).
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done { .. })
    }

    /// Whether the server speaks the digest form; `None` until S1 has arrived.
    #[must_use]
    pub fn is_digest(&self) -> Option<bool> {
        match self.state {
            State::AwaitHello { .. } => None,
            State::AwaitConfirmation { sent } => Some(sent.is_some()),
            State::Done { digest, .. } => Some(digest),
        }
    }

    /// Whether S2 was the right answer to C1; `None` until it has arrived. For logs: see the module header.
    #[must_use]
    pub fn peer_confirmed(&self) -> Option<bool> {
        match self.state {
            State::Done { confirmed, .. } => Some(confirmed),
            _ => None,
        }
    }

    fn is_confirmed(&self, sent: Option<Digest>, packet: &Packet) -> bool {
        match sent {
            Some(sent) => digest::confirms(packet, &sent, Role::MediaServer),
            // Servers put times of their own in the first eight bytes.
            None => packet.ends_with(&*self.random),
        }
    }
}
