//! One RTMP connection: the sans-IO client core on a socket.

use std::time::Duration;

use bytes::BytesMut;
use headwater_rtmp::client::{ClientConfig, ClientEvent, ClientSession, ConnectParameters};
use headwater_rtmp::session::SessionError;
use headwater_rtmp::status::Status;
use headwater_rtmp::url::{RtmpUrl, UrlError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::Instant;

/// Room for what one read takes.
const READ_SIZE: usize = 64 << 10;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("the address: {0}")]
    Url(#[from] UrlError),
    #[error("the socket: {0}")]
    Io(#[from] std::io::Error),
    #[error("the session: {0}")]
    Session(#[from] SessionError),
    #[error("refused: {0:?}")]
    Rejected(Box<Status>),
    #[error("the server closed the connection")]
    Closed,
    #[error("no message stream was made")]
    NoStream,
}

/// What is special about a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// What it declares of Enhanced RTMP (`capsEx`).
    pub(crate) caps_ex: u32,
    /// Receive buffer of its socket in bytes: a small one is full soon after it stops reading.
    pub(crate) receive_buffer: Option<u32>,
}

/// A connection to an application.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) session: ClientSession,
    socket: TcpStream,
    input: BytesMut,
    start: Instant,
}

impl Connection {
    /// Connects to the application of `rtmp://host:port/app/stream`, and gives the name of the stream with it.
    pub(crate) async fn open(url: &str) -> Result<(Self, String), ClientError> {
        Self::open_with(url, &Wishes::default()).await
    }

    /// The same for a client that is special.
    pub(crate) async fn open_with(
        url: &str,
        wishes: &Wishes,
    ) -> Result<(Self, String), ClientError> {
        let (application, stream) = url.rsplit_once('/').unwrap_or((url, ""));
        let application = RtmpUrl::parse(application)?;
        let host = (application.host.as_str(), application.port_or_default());
        let socket = match wishes.receive_buffer {
            None => TcpStream::connect(host).await?,
            Some(size) => {
                let address = lookup_host(host).await?.next().ok_or(ClientError::Closed)?;
                let socket = TcpSocket::new_v4()?;
                socket.set_recv_buffer_size(size)?;
                socket.connect(address).await?
            }
        };
        socket.set_nodelay(true)?;
        let session = ClientSession::new(ClientConfig::default(), random(), Duration::ZERO);
        let mut connection = Self {
            session,
            socket,
            input: BytesMut::new(),
            start: Instant::now(),
        };
        let mut parameters = ConnectParameters::new(&application);
        parameters.enhanced.caps_ex = wishes.caps_ex;
        connection.session.connect(&parameters)?;
        loop {
            match connection.next_event().await? {
                ClientEvent::Connected { .. } => return Ok((connection, stream.to_owned())),
                ClientEvent::ConnectRejected { status, .. } => {
                    return Err(ClientError::Rejected(Box::new(status)));
                }
                _ => {}
            }
        }
    }

    /// Makes a message stream.
    pub(crate) async fn create_stream(&mut self) -> Result<u32, ClientError> {
        self.session.create_stream()?;
        loop {
            match self.next_event().await? {
                ClientEvent::StreamCreated { stream_id, .. } => return Ok(stream_id),
                ClientEvent::CallResult { .. } => return Err(ClientError::NoStream),
                _ => {}
            }
        }
    }

    /// The next event, however long it takes.
    pub(crate) async fn next_event(&mut self) -> Result<ClientEvent, ClientError> {
        loop {
            if let Some(event) = self.event_until(None).await? {
                return Ok(event);
            }
        }
    }

    /// The next event, or `None` when the deadline comes first. Sends what waits to be sent. Not cancel safe.
    pub(crate) async fn event_until(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<ClientEvent>, ClientError> {
        loop {
            self.flush().await?;
            if let Some(event) = self.session.poll_event() {
                return match event {
                    ClientEvent::Closed => Err(ClientError::Closed),
                    event => Ok(Some(event)),
                };
            }
            if self.session.has_more_input() {
                let now = self.start.elapsed();
                self.session.handle_input(now, &mut self.input)?;
                continue;
            }
            let timeout = self.session.poll_timeout().map(|at| self.start + at);
            let wake = [deadline, timeout].into_iter().flatten().min();
            self.input.reserve(READ_SIZE);
            let reading = self.socket.read_buf(&mut self.input);
            let read = match wake {
                None => Some(reading.await),
                Some(wake) => tokio::time::timeout_at(wake, reading).await.ok(),
            };
            let now = self.start.elapsed();
            match read {
                Some(read) => {
                    if read? == 0 {
                        return Err(ClientError::Closed);
                    }
                    self.session.handle_input(now, &mut self.input)?;
                }
                None => {
                    if timeout.is_some_and(|timeout| timeout <= Instant::now()) {
                        self.session.handle_timeout(now)?;
                    }
                    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Sends what waits to be sent.
    pub(crate) async fn flush(&mut self) -> Result<(), ClientError> {
        while let Some(bytes) = self.session.poll_transmit() {
            self.socket.write_all(&bytes).await?;
        }
        Ok(())
    }

    /// Says goodbye as a program does that ends in order.
    pub(crate) async fn close(mut self) -> Result<(), ClientError> {
        self.flush().await?;
        self.socket.shutdown().await?;
        Ok(())
    }
}

/// The random part of the handshake.
fn random() -> [u8; 1528] {
    let mut block = [0; 1528];
    rand::fill(&mut block);
    block
}
