//! RTMFP for a client whose session speaks the chunk stream: a socket, an endpoint with one session, and its NetConnection, as one byte
//! stream.
//!
//! ```text
//! session's bytes  --> poll_write --> Translator --> NetConnection --> flows --> datagrams
//! session          <-- poll_read  <-- Translator <-- NetConnection <-- flows <-- datagrams
//! ```
//! There is no task: whichever call is polled turns all of it. So a client that is not polled answers nothing, as one that hangs, and is
//! given up by the server when its time is over. All calls are to be polled from one task.
//!
//! # Bounds
//! Writes wait while `ROOM` bytes have not been taken by the flows, and these take no more than `WAITING`; what was not read is
//! bounded by `UNREAD`, past which the flows are held up.
//!
//! # Lateness
//! Everything that is written comes, however late: a publisher here tests what the server makes of a stream, so that all of it has to
//! reach the server.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use headwater_rtmfp::connection::{Happened, NetConnection, NotSent, Role};
use headwater_rtmfp::crypto::certificate::Identity;
use headwater_rtmfp::crypto::cookie::Cookies;
use headwater_rtmfp::crypto::diffie_hellman::Group;
use headwater_rtmfp::crypto::discriminator;
use headwater_rtmfp::endpoint::{Endpoint, EndpointConfig, EndpointEvent};
use headwater_rtmfp::handshake::{InitiatorConfig, ResponderConfig};
use headwater_rtmfp::session::{SessionConfig, SessionEvent};
use headwater_rtmfp::translator::Translator;
use headwater_rtmfp::wire::fragment;
use headwater_rtmp::message::Message;
use headwater_rtmp::url::RtmpUrl;
use rand::rngs::StdRng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UdpSocket;
use tokio::time::{Instant, Sleep};

/// Bytes of messages that wait for the flows before writes wait.
const ROOM: usize = 64 * 1024;

/// Bytes that wait in the flows, sent or not, before they are given no more.
const WAITING: usize = 256 * 1024;

/// Bytes that wait to be read before the flows are held up.
const UNREAD: usize = 256 * 1024;

/// Datagrams that are taken before what came is answered.
const TURN: usize = 64;

/// The longest datagram: UDP has none that is longer.
const LONGEST: usize = 65_536;

thread_local! {
    static RECEIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; LONGEST].into());
}

/// How long a server may take that has addresses of both families, before it is tried at the other one.
const FAMILY_PATIENCE: Duration = Duration::from_secs(3);

/// What a client is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtmfpOptions {
    /// A server that has said nothing for so long is asked whether it is there. It is also how soon a server hears of a client's new
    /// address that has nothing to say.
    pub keepalive: Duration,
    /// A server that has said nothing for so long is gone.
    pub dead_after: Duration,
}

impl Default for RtmfpOptions {
    fn default() -> Self {
        let usual = SessionConfig::default();
        Self {
            keepalive: usual.keepalive,
            dead_after: usual.dead_after,
        }
    }
}

#[derive(Debug)]
enum State {
    Opening,
    Open,
    /// Nothing more comes. Read to its end, or an error to be told once.
    Over(Option<io::Error>),
}

/// See the [module](self).
#[derive(Debug)]
pub struct RtmfpStream {
    socket: UdpSocket,
    endpoint: Endpoint<StdRng>,
    session: u32,
    connection: NetConnection,
    translator: Translator,
    /// Taken from the translator before there was a connection for it.
    held: Option<Message>,
    /// What the session reads.
    input: bytes::BytesMut,
    /// For the socket, and it has not taken it.
    unsent: Option<SocketAddr>,
    datagram: Vec<u8>,
    started: Instant,
    timer: Pin<Box<Sleep>>,
    state: State,
    is_shut: bool,
    is_silent: bool,
}

impl RtmfpStream {
    /// Opens a session with the server of an address, at the first family of its addresses that answers. The caller bounds the time.
    ///
    /// # Errors
    /// What the socket said, or that nobody answered.
    pub async fn connect(
        url: &RtmpUrl,
        addresses: &[SocketAddr],
        options: RtmfpOptions,
    ) -> io::Result<Self> {
        let of_family = |v6: bool| -> Vec<SocketAddr> {
            let same = addresses.iter().filter(|address| address.is_ipv6() == v6);
            same.copied().collect()
        };
        let first_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let (first, second) = (of_family(first_v6), of_family(!first_v6));
        let opening = Self::open(url, &first, options);
        if second.is_empty() {
            return opening.await;
        }
        match tokio::time::timeout(FAMILY_PATIENCE, opening).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(_)) | Err(_) => Self::open(url, &second, options).await,
        }
    }

    async fn open(
        url: &RtmpUrl,
        addresses: &[SocketAddr],
        options: RtmfpOptions,
    ) -> io::Result<Self> {
        let any = match addresses.first() {
            None => return Err(no_answer("the host has no address")),
            Some(SocketAddr::V4(_)) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            Some(SocketAddr::V6(_)) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any).await?;
        let mut rng: StdRng = rand::make_rng();
        let identity = Identity::with_static_key(Group::Modp1024, &mut rng);
        let identity = Arc::new(identity.map_err(io::Error::other)?);
        let config = EndpointConfig {
            responder: ResponderConfig::new(Arc::clone(&identity)),
            session: Arc::new(SessionConfig {
                keepalive: options.keepalive,
                dead_after: options.dead_after,
                ..SessionConfig::default()
            }),
            sessions: 1,
            fragments: fragment::Limits::default(),
            ids: (0, 1),
        };
        let mut endpoint = Endpoint::new(config, Cookies::new(&mut rng), rng);
        endpoint.set_accepting(false);
        let wanted = InitiatorConfig::new(identity, discriminator::for_uri(&url.to_string()));
        let session = endpoint
            .connect(Duration::ZERO, wanted, addresses)
            .ok_or_else(|| io::Error::other("no room for a session"))?;
        let started = Instant::now();
        let mut stream = Self {
            socket,
            endpoint,
            session,
            connection: NetConnection::new(Role::Client),
            translator: Translator::default(),
            held: None,
            input: bytes::BytesMut::new(),
            unsent: None,
            datagram: Vec::new(),
            started,
            timer: Box::pin(tokio::time::sleep_until(started)),
            state: State::Opening,
            is_shut: false,
            is_silent: false,
        };
        std::future::poll_fn(|cx| {
            stream.turn(cx)?;
            match &mut stream.state {
                State::Opening => Poll::Pending,
                State::Open => Poll::Ready(Ok(())),
                State::Over(error) => Poll::Ready(Err(error
                    .take()
                    .unwrap_or_else(|| no_answer("closed by the server")))),
            }
        })
        .await?;
        Ok(stream)
    }

    /// Ends without a word, as a program that is killed.
    pub fn vanish(mut self) {
        self.is_silent = true;
    }

    /// The address of the client's socket. The host is that of any of its interfaces.
    ///
    /// # Errors
    /// What the socket says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Does all that can be done at once.
    fn turn(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let has_more = self.receive(cx)?;
            let now = self.now();
            let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
            if is_due(self.endpoint.poll_timeout()) {
                self.endpoint.handle_timeout(now);
            }
            self.settle(now);
            self.transmit(cx, now)?;
            if has_more {
                // Others have their turn before.
                cx.waker().wake_by_ref();
                return Ok(());
            }
            let timers = [self.endpoint.poll_timeout(), self.connection.poll_timeout()];
            let Some(at) = timers.into_iter().flatten().min() else {
                return Ok(());
            };
            self.timer.as_mut().reset(self.started + at);
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
        }
    }

    /// Takes datagrams from the socket. True: there may be more.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        RECEIVED.with_borrow_mut(|received| {
            for _ in 0..TURN {
                let mut buffer = ReadBuf::new(received);
                match self.socket.poll_recv_from(cx, &mut buffer) {
                    Poll::Pending => return Ok(false),
                    Poll::Ready(Ok(from)) => {
                        let now = self.started.elapsed();
                        let datagram = buffer.filled_mut();
                        self.endpoint.handle_datagram(now, from, datagram);
                    }
                    // Nobody listens there now: that may change.
                    Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    }
                    Poll::Ready(Err(error)) => return Err(error),
                }
            }
            Ok(true)
        })
    }

    /// Does what follows from what has happened.
    fn settle(&mut self, now: Duration) {
        loop {
            self.talk(now);
            let Some(event) = self.endpoint.poll_event() else {
                return;
            };
            match event {
                EndpointEvent::Opened { .. } => self.state = State::Open,
                EndpointEvent::Failed { failure, .. } => {
                    self.over(Some(no_answer(&failure.to_string())));
                }
                EndpointEvent::Session {
                    event: SessionEvent::Closed(_),
                    ..
                }
                | EndpointEvent::Gone { .. } => self.over(None),
                // Nobody opens a session to this end.
                EndpointEvent::Keying { near_id, .. } => self.endpoint.abandoned(near_id),
                EndpointEvent::Lookup(_)
                | EndpointEvent::Flows { .. }
                | EndpointEvent::Room { .. }
                | EndpointEvent::Session { .. } => {}
            }
        }
    }

    fn over(&mut self, error: Option<io::Error>) {
        if !matches!(self.state, State::Over(_)) {
            self.state = State::Over(error);
        }
    }

    /// Moves messages between the flows and the translator.
    fn talk(&mut self, now: Duration) {
        if !matches!(self.state, State::Open) {
            return;
        }
        let Self {
            endpoint,
            connection,
            translator,
            held,
            input,
            ..
        } = self;
        let outcome = endpoint.with_session(now, self.session, |session| {
            if !session.is_open() {
                return Ok(true);
            }
            let flows = session.flows();
            while translator.unread() + input.len() < UNREAD {
                match connection.poll(now, flows) {
                    None => break,
                    Some(Happened::Message(message)) => translator.deliver(&message),
                    Some(Happened::OpenedForeign { flow, .. }) => connection.reject(flows, flow),
                    Some(Happened::Ended) => return Ok(true),
                    Some(
                        Happened::Foreign { .. }
                        | Happened::EndedForeign { .. }
                        | Happened::Keepalive(_),
                    ) => {}
                }
            }
            connection.handle_timeout(now, flows);
            while flows.waiting().0 < WAITING {
                let Some(message) = held.take().or_else(|| translator.take()) else {
                    break;
                };
                match connection.send(now, flows, &message, false) {
                    Ok(()) => {}
                    Err(NotSent::NotConnected) => {
                        *held = Some(message);
                        break;
                    }
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
            Ok(false)
        });
        match outcome {
            Some(Ok(false)) => {}
            Some(Ok(true)) | None => self.over(None),
            Some(Err(error)) => self.over(Some(error)),
        }
    }

    fn transmit(&mut self, cx: &mut Context<'_>, now: Duration) -> io::Result<()> {
        loop {
            let to = match self.unsent.take() {
                Some(to) => to,
                None => {
                    self.datagram.clear();
                    let next = self.endpoint.poll_transmit(now, &mut self.datagram);
                    match next {
                        Some(to) => to,
                        None => return Ok(()),
                    }
                }
            };
            match self.socket.poll_send_to(cx, &self.datagram, to) {
                Poll::Pending => {
                    self.unsent = Some(to);
                    return Ok(());
                }
                Poll::Ready(Ok(_)) => {}
                // As if it were lost on its way.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
    }

    /// Messages that the server has not acknowledged.
    fn waiting(&self) -> usize {
        let session = self.endpoint.session(self.session);
        session.map_or(0, |session| session.look().waiting().1)
    }

    /// What stops writing, if anything does.
    fn broken(&mut self) -> Option<io::Error> {
        match &mut self.state {
            State::Over(error) => {
                let error = error.take();
                Some(error.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()))
            }
            State::Opening | State::Open => None,
        }
    }
}

impl AsyncRead for RtmfpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.turn(cx)?;
        if this.input.is_empty() {
            this.input = this.translator.input();
        }
        if this.input.is_empty() {
            return match &mut this.state {
                State::Opening | State::Open => Poll::Pending,
                State::Over(error) => Poll::Ready(error.take().map_or(Ok(()), Err)),
            };
        }
        let count = this.input.len().min(buffer.remaining());
        buffer.put_slice(&this.input.split_to(count));
        if this.input.is_empty() && matches!(this.state, State::Open) {
            // The flows may have been held up.
            this.turn(cx)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for RtmfpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.translator.waiting() >= ROOM {
            this.turn(cx)?;
        }
        if let Some(error) = this.broken() {
            return Poll::Ready(Err(error));
        }
        if this.translator.waiting() >= ROOM {
            return Poll::Pending;
        }
        this.translator.write(bytes).map_err(io::Error::other)?;
        this.turn(cx)?;
        Poll::Ready(Ok(bytes.len()))
    }

    /// What was written is under way, or waits for those before it: as with the kernel, it goes on by itself while this is polled.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.turn(cx)?;
        Poll::Ready(Ok(()))
    }

    /// Waits until the server has all that was written, and tells it that nothing more comes.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.turn(cx)?;
        if !matches!(this.state, State::Open) {
            return Poll::Ready(Ok(()));
        }
        let is_written = this.translator.is_empty() && this.held.is_none();
        // Closed flows may end before those that still wait for something that was lost, and the server then hears no more of these.
        if is_written && this.waiting() == 0 && !this.is_shut {
            this.is_shut = true;
            let now = this.now();
            let connection = &mut this.connection;
            this.endpoint.with_session(now, this.session, |session| {
                connection.close(session.flows())
            });
            this.turn(cx)?;
        }
        if this.is_shut && this.waiting() == 0 {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl Drop for RtmfpStream {
    fn drop(&mut self) {
        if self.is_silent {
            return;
        }
        let now = self.now();
        self.endpoint
            .with_session(now, self.session, |session| session.abort());
        self.datagram.clear();
        // A few: the last word is the first of them.
        for _ in 0..TURN {
            let next = self.endpoint.poll_transmit(now, &mut self.datagram);
            let Some(to) = next else {
                break;
            };
            // A socket that takes nothing now is left without a word.
            let _ = self.socket.try_send_to(&self.datagram, to);
            self.datagram.clear();
        }
    }
}

fn no_answer(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why.to_owned())
}
