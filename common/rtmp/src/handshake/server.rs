//! The server's side of the handshake.

use bytes::{Bytes, BytesMut};

use super::digest::{self, Digest, Role};
use super::{
    HandshakeError, PACKET_LENGTH, Packet, Progress, RANDOM_LENGTH, RandomBlock, VERSION,
    has_version, hello_packet, take_confirmation, take_hello,
};

/// The version in S1 when the digest form is spoken: that of the last Adobe Media Server. Players want a major version of 3 or more.
const SERVER_VERSION: [u8; 4] = [5, 0, 17, 0];

/// The server's side: waits for C0 and C1, sends S0, S1 and S2, waits for C2.
#[derive(Debug)]
pub struct ServerHandshake {
    /// What S1 ends with: random bytes, the digest among them once S1 is made in that form.
    random: Box<RandomBlock>,
    state: State,
    transmit: Option<Bytes>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    AwaitHello,
    AwaitConfirmation(Sent),
    Done { digest: bool, confirmed: bool },
}

/// What C2 is compared with, besides an echo of S1.
#[derive(Clone, Copy, Debug)]
enum Sent {
    /// Nothing: the simple form.
    Random,
    /// The digest of S1.
    Digest(Digest),
}

impl ServerHandshake {
    /// A handshake that has not begun. It fills S1, and S2 in the digest form, from `random`.
    #[must_use]
    pub fn new(random: RandomBlock) -> Self {
        Self {
            random: Box::new(random),
            state: State::AwaitHello,
            transmit: None,
        }
    }

    /// Consumes what it can of `input`. Call it when bytes have arrived, then [`poll_transmit`](Self::poll_transmit) until that is
    /// empty. `now_ms` is the server's RTMP time, which becomes the time field of S1. Bytes after C2 stay in `input`.
    ///
    /// # Errors
    /// The first byte is not that of RTMP. The error repeats as long as the same input is given.
    pub fn handle_input(
        &mut self,
        now_ms: u32,
        input: &mut BytesMut,
    ) -> Result<Progress, HandshakeError> {
        if let State::AwaitHello = self.state
            && let Some(hello) = take_hello(input)?
        {
            let sent = self.answer(now_ms, &hello);
            self.state = State::AwaitConfirmation(sent);
        }
        if let State::AwaitConfirmation(sent) = self.state
            && let Some(packet) = take_confirmation(input)
        {
            // ffmpeg signs C1 and then, when it publishes, echoes S1 as in the simple form.
            let echoed = packet.ends_with(&*self.random);
            self.state = match sent {
                Sent::Random => State::Done {
                    digest: false,
                    confirmed: echoed,
                },
                Sent::Digest(sent) => State::Done {
                    digest: true,
                    confirmed: echoed || digest::confirms(&packet, &sent, Role::Player),
                },
            };
        }
        Ok(if self.is_done() {
            Progress::Done
        } else {
            Progress::InProgress
        })
    }

    /// Bytes for the client. Poll it after each call of [`handle_input`](Self::handle_input).
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.transmit.take()
    }

    /// Whether C2 has arrived.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done { .. })
    }

    /// Whether the client speaks the digest form; `None` until C1 has arrived.
    #[must_use]
    pub fn is_digest(&self) -> Option<bool> {
        match self.state {
            State::AwaitHello => None,
            State::AwaitConfirmation(sent) => Some(matches!(sent, Sent::Digest(_))),
            State::Done { digest, .. } => Some(digest),
        }
    }

    /// Whether C2 was the right answer to S1; `None` until it has arrived. For logs: see the module header.
    #[must_use]
    pub fn peer_confirmed(&self) -> Option<bool> {
        match self.state {
            State::Done { confirmed, .. } => Some(confirmed),
            _ => None,
        }
    }

    /// Makes S0, S1 and S2.
    fn answer(&mut self, now_ms: u32, hello: &Packet) -> Sent {
        let found = Some(hello)
            .filter(|hello| has_version(hello))
            .and_then(|hello| digest::find(hello, Role::Player));
        let mut out = BytesMut::with_capacity(1 + 2 * PACKET_LENGTH);
        out.extend_from_slice(&[VERSION]);
        let sent = match found {
            Some((layout, theirs)) => {
                let mut packet = hello_packet(now_ms, SERVER_VERSION, &self.random);
                let ours = digest::sign(&mut packet, layout, Role::MediaServer);
                out.extend_from_slice(&packet);
                out.extend_from_slice(&digest::confirmation(
                    &self.random,
                    &theirs,
                    Role::MediaServer,
                ));
                if let Some(signed) = packet.last_chunk() {
                    *self.random = *signed;
                }
                Sent::Digest(ours)
            }
            None => {
                out.extend_from_slice(&hello_packet(now_ms, [0; 4], &self.random));
                out.extend_from_slice(hello);
                Sent::Random
            }
        };
        self.transmit = Some(out.freeze());
        sent
    }
}

const _: () = assert!(PACKET_LENGTH == RANDOM_LENGTH + 8);
