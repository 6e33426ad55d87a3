//! One connection to a server: a socket, TLS or RTMFP where the address says so, and the client's session core around which they turn.
//!
//! # Shape
//! [`Connection::turn`] waits until something happened (bytes came, a deadline passed, all output is written) and does one bounded
//! piece of work. Then the caller drains [`Connection::poll_event`] and says what it has to say. Everything else here is made of that.
//!
//! # Cost
//! A connection that waits holds no buffers: all connections of a thread read into one scratch buffer, payloads are slices of it, and
//! what the core leaves over is a part of a chunk header. The scratch buffer is used again without an allocation if the
//! caller has dropped the payloads by the next turn of any connection of the thread.
//!
//! # What it does not do
//! It does not follow redirects or reconnect requests, and does not connect again.

mod error;
mod output;
pub mod rtmfp;
mod status;
mod tls;
mod transport;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use headwater_rtmp::client::{ClientConfig, ClientEvent, ClientSession, ConnectParameters};
use headwater_rtmp::command::{PlayLength, PlayReset, PlayStart, PublishMode};
use headwater_rtmp::handshake::RANDOM_LENGTH;
use headwater_rtmp::message::MAX_MESSAGE_LENGTH;
use headwater_rtmp::server::MediaFrame;
use headwater_rtmp::session::SessionLimits;
use headwater_rtmp::status::{Level, Status, StatusCode};
use headwater_rtmp::url::Scheme;
use tokio::io::AsyncWrite as _;
use tokio::time::{Instant, Sleep};
use tokio_util::io::{poll_read_buf, poll_write_buf};

pub use error::ClientError;
pub use status::{MAX_STATUSES, SeenStatus, Statuses};
pub use tls::{Trust, TrustError};

use crate::clock::now_ns;
use crate::source::SourceFrame;
use crate::target::Target;
use output::Output;
use rtmfp::RtmfpOptions;
use transport::Transport;

/// Bytes that are read at once, at most: a second of 2 Mbit/s at a quarter of it. More only makes the first message of a burst look late.
const READ_SIZE: usize = 64 * 1024;

/// Bytes that may wait for the socket before [`Connection::has_room`] says no.
const OUTPUT_BOUND: usize = 1024 * 1024;

/// Messages that were dropped from the events while an answer was awaited, before the server counts as one that does not answer.
const MAX_EVENTS_BEFORE_ANSWER: usize = 10_000;

thread_local! {
    static SCRATCH: RefCell<BytesMut> = RefCell::default();
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Which certificates of a server are believed.
    pub trust: Trust,
    /// How long the TCP connection and the TLS handshake may take.
    pub connect_timeout: Duration,
    /// How long the server may take to answer each of connect, createStream and publish.
    pub answer_timeout: Duration,
    /// What is special about a client of RTMFP.
    pub rtmfp: RtmfpOptions,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            trust: Trust::default(),
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(15),
            rtmfp: RtmfpOptions::default(),
        }
    }
}

/// A connection that the server has accepted.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    session: Box<ClientSession>,
    /// Where the times of the session begin.
    started: Instant,
    /// What the session left over: a part of a chunk header, or whole messages while too many events wait.
    rest: BytesMut,
    output: Output,
    /// The timer of the session's deadline, while it has one.
    timer: Option<Pin<Box<Sleep>>>,
    read_at: u64,
    bytes_in: u64,
    answer_timeout: Duration,
    /// What the server said while an answer was awaited.
    statuses: Statuses,
}

impl Connection {
    /// Connects, shakes hands and has the server accept the application.
    ///
    /// # Errors
    /// [`ClientError`] with what the server or the network said.
    pub async fn open(target: &Target, options: &ConnectOptions) -> Result<Self, ClientError> {
        let transport = tokio::time::timeout(
            options.connect_timeout,
            Transport::connect(&target.url, &options.trust, options.rtmfp),
        )
        .await
        .map_err(|_| ClientError::Timeout {
            what: "the connection",
            after: options.connect_timeout,
        })??;
        let config = ClientConfig {
            handshake_timeout: options.answer_timeout,
            connect_timeout: options.answer_timeout,
            limits: SessionLimits {
                pending_output: 2 * MAX_MESSAGE_LENGTH,
                ..SessionLimits::default()
            },
            ..ClientConfig::default()
        };
        let session = if target.url.scheme == Scheme::Rtmfp {
            ClientSession::without_handshake(config, Duration::ZERO)
        } else {
            let mut random = [0; RANDOM_LENGTH];
            rand::fill(&mut random[..]);
            ClientSession::new(config, random, Duration::ZERO)
        };
        let mut connection = Self {
            transport,
            session: Box::new(session),
            started: Instant::now(),
            rest: BytesMut::new(),
            output: Output::default(),
            timer: None,
            read_at: now_ns(),
            bytes_in: 0,
            answer_timeout: options.answer_timeout,
            statuses: Statuses::default(),
        };
        connection
            .session
            .connect(&ConnectParameters::new(&target.url))?;
        // The session core watches the time here.
        loop {
            match connection.next_event().await? {
                ClientEvent::Connected { .. } => return Ok(connection),
                ClientEvent::ConnectRejected { status, redirect } => {
                    return Err(ClientError::Rejected {
                        code: status.code.into_owned(),
                        description: status.description,
                        redirect,
                    });
                }
                ClientEvent::Closed => return Err(ClientError::Closed),
                _ => {}
            }
        }
    }

    /// Makes a stream and publishes on it, after the commands that encoders send before. Gives the message stream.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's status, or what went wrong.
    pub async fn publish(&mut self, name: &str) -> Result<u32, ClientError> {
        self.session.release_stream(name)?;
        self.session.fc_publish(name)?;
        let stream_id = self.create_stream().await?;
        self.session.publish(stream_id, name, PublishMode::Live)?;
        let patience = self.answer_timeout;
        let started = self.started_status(stream_id);
        timed("the answer to publish", patience, started).await?;
        Ok(stream_id)
    }

    /// Makes a stream and asks to play on it. Gives the message stream; the answers are statuses among the events.
    ///
    /// # Errors
    /// [`ClientError`] if no stream can be made.
    pub async fn play(&mut self, name: &str, buffer: Duration) -> Result<u32, ClientError> {
        let stream_id = self.create_stream().await?;
        let buffer = u32::try_from(buffer.as_millis()).unwrap_or(u32::MAX);
        self.session.set_buffer_length(stream_id, buffer)?;
        self.session.play(
            stream_id,
            name,
            PlayStart::LiveOrRecorded,
            PlayLength::All,
            PlayReset::Reset,
        )?;
        Ok(stream_id)
    }

    /// Queues a frame. [`Connection::turn`] writes it.
    ///
    /// # Errors
    /// [`ClientError`] if the session is over.
    pub fn send(&mut self, stream_id: u32, frame: &SourceFrame) -> Result<(), ClientError> {
        self.session.send_media(
            stream_id,
            &MediaFrame {
                kind: frame.kind,
                data: frame.data,
                // Timestamps wrap: the low 32 bits are what RTMP carries.
                timestamp: (frame.timestamp & u64::from(u32::MAX)) as u32,
                payload: frame.payload.clone(),
            },
        )?;
        self.collect_output();
        Ok(())
    }

    /// Whether another frame may be queued, or the server is slower than the frames.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.output.len() < OUTPUT_BOUND
    }

    /// Bytes that wait for the socket.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.output.len()
    }

    /// The statuses among the answers to connect, createStream and publish. Those among the events of [`Connection::poll_event`] are
    /// not here.
    #[must_use]
    pub const fn early_statuses(&self) -> &Statuses {
        &self.statuses
    }

    /// Waits until something happened, and does it: bytes were read, a deadline has passed, or the last waiting byte was written.
    /// Drain [`Connection::poll_event`] after it. May be dropped and called again.
    ///
    /// # Errors
    /// [`ClientError`]: the connection is over. Events that came before are still there.
    pub async fn turn(&mut self) -> Result<(), ClientError> {
        poll_fn(|cx| self.poll_turn(cx)).await
    }

    /// Writes what can be written at once.
    ///
    /// # Errors
    /// [`ClientError::Io`]: the connection is over.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        while !self.output.is_empty() {
            let transport = Pin::new(&mut self.transport);
            match ready!(poll_write_buf(transport, cx, &mut self.output)) {
                Ok(0) => return Poll::Ready(Err(ClientError::Closed)),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(ClientError::io(&error))),
            }
        }
        Pin::new(&mut self.transport)
            .poll_flush(cx)
            .map_err(|e| ClientError::io(&e))
    }

    /// The next event, oldest first. Payloads are slices of a buffer of the thread: drop them before the next wait.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.session.poll_event()
    }

    /// When the events of the last turn were read from the socket, in nanoseconds of [`now_ns`].
    #[must_use]
    pub const fn read_at(&self) -> u64 {
        self.read_at
    }

    /// Bytes read from the server, without those of TLS.
    #[must_use]
    pub const fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// Takes leave: ends publishing of `stream`, if any, deletes the message stream and closes, within `patience`.
    pub async fn close(
        mut self,
        stream_id: Option<u32>,
        published: Option<&str>,
        patience: Duration,
    ) {
        let said = (|| {
            if let Some(name) = published {
                self.session.fc_unpublish(name)?;
            }
            if let Some(stream_id) = stream_id {
                self.session.delete_stream(stream_id)?;
            }
            Ok::<_, ClientError>(())
        })();
        if said.is_err() {
            return;
        }
        self.collect_output();
        // A server that does not take it in time is left without a word.
        let farewell = async {
            poll_fn(|cx| self.poll_flush(cx)).await?;
            poll_fn(|cx| Pin::new(&mut self.transport).poll_shutdown(cx))
                .await
                .map_err(|error| ClientError::io(&error))?;
            // What the server still says is read until it closes: a socket closed with unread bytes resets the connection, and may
            // take what was just written with it.
            loop {
                poll_fn(|cx| self.poll_turn(cx)).await?;
                while self.session.poll_event().is_some() {}
            }
        };
        let _: Result<Result<(), ClientError>, _> = tokio::time::timeout(patience, farewell).await;
    }

    async fn create_stream(&mut self) -> Result<u32, ClientError> {
        let patience = self.answer_timeout;
        let wanted = self.session.create_stream()?;
        let created = async {
            for _ in 0..MAX_EVENTS_BEFORE_ANSWER {
                match self.next_event().await? {
                    ClientEvent::StreamCreated {
                        transaction,
                        stream_id,
                    } if transaction == wanted => return Ok(stream_id),
                    ClientEvent::CallResult {
                        transaction,
                        result: Err(value),
                    } if transaction == wanted => {
                        let status = Status::from_value(&value)
                            .unwrap_or_else(|| Status::new(StatusCode::CallFailed));
                        return Err(ClientError::refused(status));
                    }
                    ClientEvent::Closed => return Err(ClientError::Closed),
                    _ => {}
                }
            }
            Err(ClientError::NoAnswer("createStream"))
        };
        timed("the answer to createStream", patience, created).await
    }

    /// Waits for the status that tells that publishing began.
    async fn started_status(&mut self, stream: u32) -> Result<(), ClientError> {
        for _ in 0..MAX_EVENTS_BEFORE_ANSWER {
            match self.next_event().await? {
                // Some servers answer on message stream 0.
                ClientEvent::Status { stream_id, status }
                    if stream_id == stream || stream_id == 0 =>
                {
                    if status.code == StatusCode::PublishStart.as_str() {
                        return Ok(());
                    }
                    if status.level == Level::Error {
                        return Err(ClientError::refused(status));
                    }
                }
                ClientEvent::Closed => return Err(ClientError::Closed),
                _ => {}
            }
        }
        Err(ClientError::NoAnswer("publish"))
    }
}

impl Connection {
    /// The next event, waiting for it. Not for media: see [`Connection::poll_event`].
    async fn next_event(&mut self) -> Result<ClientEvent, ClientError> {
        let mut outcome = Ok(());
        loop {
            // What the server said before it went away explains more than that it went; the error comes again.
            if let Some(event) = self.poll_event() {
                self.statuses.note(&event, self.started.elapsed());
                return Ok(event);
            }
            outcome?;
            outcome = self.turn().await;
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.collect_output();
        let had_output = !self.output.is_empty();
        let is_drained = self.poll_flush(cx)?.is_ready() && had_output;
        if self.session.has_more_input() {
            let now = self.started.elapsed();
            self.session.handle_input(now, &mut self.rest)?;
        } else if self.poll_deadline(cx).is_ready() {
            self.session.handle_timeout(self.started.elapsed())?;
        } else if self.poll_read(cx)?.is_pending() {
            return if is_drained {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        }
        // Acknowledgements and pings.
        self.collect_output();
        if !self.output.is_empty() {
            let _: Poll<()> = self.poll_flush(cx)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and gives it to the session.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.reserve(READ_SIZE);
            let read = poll_read_buf(Pin::new(&mut self.transport), cx, scratch);
            match ready!(read) {
                Ok(0) => return Poll::Ready(Err(ClientError::Closed)),
                Ok(count) => self.bytes_in = self.bytes_in.saturating_add(count as u64),
                Err(error) => return Poll::Ready(Err(ClientError::io(&error))),
            }
            self.read_at = now_ns();
            let now = self.started.elapsed();
            if self.rest.is_empty() {
                let outcome = self.session.handle_input(now, scratch);
                // Dropped rather than cleared, so that a connection without a rest holds no memory for it.
                self.rest = BytesMut::new();
                self.rest.extend_from_slice(scratch);
                outcome?;
            } else {
                self.rest.extend_from_slice(scratch);
                self.session.handle_input(now, &mut self.rest)?;
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Ready when the session's deadline has passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.session.poll_timeout() else {
            self.timer = None;
            return Poll::Pending;
        };
        let Some(deadline) = self.started.checked_add(deadline) else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }

    fn collect_output(&mut self) {
        while let Some(bytes) = self.session.poll_transmit() {
            self.output.push(bytes);
        }
    }
}

/// Puts a bound on a wait.
async fn timed<T>(
    what: &'static str,
    after: Duration,
    wait: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(after, wait)
        .await
        .unwrap_or(Err(ClientError::Timeout { what, after }))
}
