//! One connection: the sans-IO client core on a socket, of TCP or, where the address says so, of RTMFP.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_amf::Value;
use headwater_loadtest::client::rtmfp::{RtmfpOptions, RtmfpStream};
use headwater_rtmp::client::{ClientConfig, ClientEvent, ClientSession, ConnectParameters};
use headwater_rtmp::command::ObjectEncoding;
use headwater_rtmp::session::SessionError;
use headwater_rtmp::status::Status;
use headwater_rtmp::url::{RtmpUrl, Scheme, UrlError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::Instant;

/// Room for what one read takes.
const READ_SIZE: usize = 64 << 10;

/// Soon enough that a server hears of a new address of a viewer before pictures are too late to be of use.
const RTMFP: RtmfpOptions = RtmfpOptions {
    keepalive: Duration::from_millis(300),
    dead_after: Duration::from_secs(30),
};

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
    /// Whether it speaks AMF3.
    pub(crate) amf3: bool,
    /// The arguments of `connect`.
    pub(crate) arguments: Vec<Value>,
    /// Receive buffer of its socket in bytes: a small one is full soon after it stops reading.
    pub(crate) receive_buffer: Option<u32>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Rtmfp(Box<RtmfpStream>),
}

impl Socket {
    async fn open(address: &RtmpUrl, wishes: &Wishes) -> Result<Self, ClientError> {
        let host = (address.host.as_str(), address.port_or_default());
        if address.scheme == Scheme::Rtmfp {
            let addresses: Vec<_> = lookup_host(host).await?.collect();
            let stream = RtmfpStream::connect(address, &addresses, RTMFP).await?;
            return Ok(Self::Rtmfp(Box::new(stream)));
        }
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
        Ok(Self::Tcp(socket))
    }

    async fn read(&mut self, input: &mut BytesMut) -> std::io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read_buf(input).await,
            Self::Rtmfp(stream) => stream.read_buf(input).await,
        }
    }

    async fn write(&mut self, bytes: &Bytes) -> std::io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.write_all(bytes).await,
            Self::Rtmfp(stream) => stream.write_all(bytes).await,
        }
    }
}

/// A connection to an application.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) session: ClientSession,
    socket: Socket,
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
        let socket = Socket::open(&application, wishes).await?;
        let config = ClientConfig::default();
        let session = match &socket {
            Socket::Tcp(_) => ClientSession::new(config, random(), Duration::ZERO),
            Socket::Rtmfp(_) => ClientSession::without_handshake(config, Duration::ZERO),
        };
        let mut connection = Self {
            session,
            socket,
            input: BytesMut::new(),
            start: Instant::now(),
        };
        let mut parameters = ConnectParameters::new(&application);
        parameters.enhanced.caps_ex = wishes.caps_ex;
        parameters.arguments.clone_from(&wishes.arguments);
        if wishes.amf3 {
            parameters.object_encoding = ObjectEncoding::Amf3;
        }
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
            let reading = self.socket.read(&mut self.input);
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
            self.socket.write(&bytes).await?;
        }
        Ok(())
    }

    /// Says goodbye as a program does that ends in order.
    pub(crate) async fn close(mut self) -> Result<(), ClientError> {
        self.flush().await?;
        match &mut self.socket {
            Socket::Tcp(socket) => socket.shutdown().await?,
            Socket::Rtmfp(stream) => stream.shutdown().await?,
        }
        Ok(())
    }

    /// Ends without a word, as a program that is killed; over TCP the system still says that it ended.
    pub(crate) fn vanish(self) {
        if let Socket::Rtmfp(stream) = self.socket {
            stream.vanish();
        }
    }
}

/// The random part of the handshake.
fn random() -> [u8; 1528] {
    let mut block = [0; 1528];
    rand::fill(&mut block);
    block
}
