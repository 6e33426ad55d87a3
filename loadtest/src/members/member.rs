//! One client: its socket and its session.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use headwater_rtmp::client::{ClientEvent, ClientSession};
use headwater_rtmp::command::ObjectEncoding;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::client::ClientError;

/// Reads of one socket before others have their turn.
const READS_PER_TURN: usize = 8;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Member {
    /// In the run, over all threads.
    pub(super) number: usize,
    pub(super) encoding: ObjectEncoding,
    pub(super) session: ClientSession,
    /// Whether the server has accepted it.
    pub(super) was_accepted: bool,
    address: SocketAddr,
    socket: Option<TcpStream>,
    is_open: bool,
    input: BytesMut,
    /// What of the session's output the socket has not taken.
    output: Bytes,
}

impl Member {
    /// A member that begins to connect. It has ended at once if the system refuses.
    pub(super) fn begin(
        number: usize,
        encoding: ObjectEncoding,
        session: ClientSession,
        address: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, ClientError> {
        let failed = |error: std::io::Error| ClientError::Connect {
            address: address.to_string(),
            kind: error.kind(),
            message: error.to_string(),
        };
        let mut socket = TcpStream::connect(address).map_err(failed)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry
            .register(&mut socket, token, interest)
            .map_err(failed)?;
        Ok(Self {
            number,
            encoding,
            session,
            was_accepted: false,
            address,
            socket: Some(socket),
            is_open: false,
            input: BytesMut::new(),
            output: Bytes::new(),
        })
    }

    pub(super) const fn is_alive(&self) -> bool {
        self.socket.is_some()
    }

    /// Closes the socket.
    pub(super) fn close(&mut self) {
        self.socket = None;
        self.input = BytesMut::new();
        self.output = Bytes::new();
    }

    /// Reads what has come and appends what it means to `events`. Whether there is more to read. `buffer` is scratch space.
    pub(super) fn read(
        &mut self,
        now: Duration,
        buffer: &mut [u8],
        events: &mut Vec<ClientEvent>,
    ) -> Result<bool, ClientError> {
        if !self.finish_connecting()? {
            return Ok(false);
        }
        for _ in 0..READS_PER_TURN {
            let Some(socket) = &mut self.socket else {
                return Ok(false);
            };
            let count = match socket.read(buffer) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(ClientError::io(&error)),
            };
            self.input
                .extend_from_slice(buffer.get(..count).unwrap_or_default());
            loop {
                let outcome = self.session.handle_input(now, &mut self.input);
                while let Some(event) = self.session.poll_event() {
                    events.push(event);
                }
                outcome?;
                if !self.session.has_more_input() {
                    break;
                }
            }
            if self.input.is_empty() {
                // One that idles keeps no buffer.
                self.input = BytesMut::new();
            }
        }
        Ok(true)
    }

    /// Writes what the session has to say, as far as the socket takes it.
    pub(super) fn write(&mut self) -> Result<(), ClientError> {
        if !self.is_open {
            return Ok(());
        }
        let Some(socket) = &mut self.socket else {
            return Ok(());
        };
        loop {
            if self.output.is_empty() {
                match self.session.poll_transmit() {
                    Some(bytes) => self.output = bytes,
                    None => return Ok(()),
                }
            }
            match socket.write(&self.output) {
                Ok(count) => self.output.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ClientError::io(&error)),
            }
        }
    }

    /// Whether the connection is there.
    fn finish_connecting(&mut self) -> Result<bool, ClientError> {
        let Some(socket) = self.socket.as_ref().filter(|_| !self.is_open) else {
            return Ok(self.is_open);
        };
        let failed = |error: std::io::Error| ClientError::Connect {
            address: self.address.to_string(),
            kind: error.kind(),
            message: error.to_string(),
        };
        if let Some(error) = socket.take_error().map_err(failed)? {
            return Err(failed(error));
        }
        match socket.peer_addr() {
            Ok(_) => {
                // What is asked is to leave at once.
                socket.set_nodelay(true).map_err(failed)?;
                self.is_open = true;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }
}
