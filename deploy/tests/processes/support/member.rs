//! A client over RTMFP that is a member of a group and plays a stream there, as Flash Player does: a session with an edge, which tells it of
//! other members, and sessions with these, from one socket.
//!
//! It runs on a thread of its own until it is dropped, keeps every frame that it got, and passes none on.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headwater_amf::{Object, Value};
use headwater_media::frame::FrameKind;
use headwater_media::synthetic::read_stamp;
use headwater_rtmfp::connection::{Happened, NetConnection, Role};
use headwater_rtmfp::crypto::certificate::Identity;
use headwater_rtmfp::crypto::cookie::Cookies;
use headwater_rtmfp::crypto::diffie_hellman::Group;
use headwater_rtmfp::crypto::discriminator;
use headwater_rtmfp::endpoint::{Endpoint, EndpointConfig, EndpointEvent};
use headwater_rtmfp::flow::{Body, Opening, Outgoing, Priority};
use headwater_rtmfp::group::{self, Specification, Talked, Viewer};
use headwater_rtmfp::handshake::{InitiatorConfig, ResponderConfig};
use headwater_rtmfp::session::{SessionConfig, SessionEvent};
use headwater_rtmfp::wire::fragment;
use headwater_rtmp::command::{Command, ObjectEncoding, TransactionId};
use headwater_rtmp::message::{Message, MessageType};
use parking_lot::Mutex;
use rand::rngs::ThreadRng;

use super::client::FrameId;
use super::media::hash;

/// How long it waits for a datagram before it looks at the time.
const TURN: Duration = Duration::from_millis(5);

/// What came.
#[derive(Default)]
pub(crate) struct Came {
    /// In the order in which it was put together, without metadata and headers.
    pub(crate) frames: Vec<FrameId>,
    /// Headers of codecs, and metadata.
    pub(crate) headers: usize,
    /// The whole stream has come, up to its end.
    pub(crate) is_over: bool,
    /// Where the members are that it had sessions with.
    pub(crate) neighbours: Vec<SocketAddr>,
}

/// See the [module](self).
pub(crate) struct Member {
    came: Arc<Mutex<Came>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    /// Connects to an application of an edge, joins a group, and plays.
    pub(crate) fn start(edge: SocketAddr, app: &str, specification: &str, stream: &str) -> Self {
        Self::run(edge, app, specification, stream, false)
    }

    /// The same for one that opens no sessions to members that it is told of.
    pub(crate) fn shy(edge: SocketAddr, app: &str, specification: &str, stream: &str) -> Self {
        Self::run(edge, app, specification, stream, true)
    }

    fn run(edge: SocketAddr, app: &str, specification: &str, stream: &str, is_shy: bool) -> Self {
        let came = Arc::new(Mutex::new(Came::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let specification = Specification::parse(specification).expect("a groupspec");
        let (app, stream) = (app.to_owned(), stream.to_owned());
        let (shared, until) = (Arc::clone(&came), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut client = Client::new(edge, app, specification, stream, shared);
            client.is_shy = is_shy;
            while !until.load(Ordering::Relaxed) {
                client.go_on();
            }
        });
        Self {
            came,
            stop,
            thread: Some(thread),
        }
    }

    /// Looks at what came.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Came) -> T) -> T {
        look(&self.came.lock())
    }

    /// Frames of a kind.
    pub(crate) fn count(&self, kind: FrameKind) -> usize {
        self.look(|came| came.frames.iter().filter(|it| it.kind == kind).count())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It may have failed, which the test has seen by what did not come.
            let _ = thread.join();
        }
    }
}

struct Client {
    socket: UdpSocket,
    edge: SocketAddr,
    app: String,
    specification: Specification,
    stream: String,
    endpoint: Endpoint<ThreadRng>,
    identity: Arc<Identity>,
    started: Instant,
    connection: NetConnection,
    /// With the edge.
    server: u32,
    viewers: BTreeMap<u32, Viewer>,
    is_shy: bool,
    came: Arc<Mutex<Came>>,
}

impl Client {
    fn new(
        edge: SocketAddr,
        app: String,
        specification: Specification,
        stream: String,
        came: Arc<Mutex<Came>>,
    ) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(TURN)).expect("a timeout");
        let mut rng = rand::rng();
        let identity = Identity::with_static_key(Group::Modp1024, &mut rng);
        let identity = Arc::new(identity.expect("an identity"));
        let config = EndpointConfig {
            responder: ResponderConfig::new(Arc::clone(&identity)),
            session: Arc::new(SessionConfig::default()),
            sessions: 100,
            fragments: fragment::Limits::default(),
            ids: (0, 1),
        };
        let mut endpoint = Endpoint::new(config, Cookies::new(&mut rng), rng);
        let whom = discriminator::for_uri(&format!("rtmfp://{edge}/{app}"));
        let config = InitiatorConfig::new(Arc::clone(&identity), whom);
        let server = endpoint.connect(Duration::ZERO, config, &[edge]);
        Self {
            server: server.expect("room"),
            socket,
            edge,
            app,
            specification,
            stream,
            endpoint,
            identity,
            started: Instant::now(),
            connection: NetConnection::new(Role::Client),
            viewers: BTreeMap::new(),
            is_shy: false,
            came,
        }
    }

    fn go_on(&mut self) {
        let mut datagram = [0; 2_048];
        let received = self.socket.recv_from(&mut datagram);
        let now = self.started.elapsed();
        if let Ok((length, from)) = received {
            let datagram = datagram.get_mut(..length).unwrap_or_default();
            self.endpoint.handle_datagram(now, from, datagram);
        }
        if self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        while let Some(event) = self.endpoint.poll_event() {
            self.happened(now, event);
        }
        let due = self.viewers.iter();
        let due = due.filter(|(_, it)| it.poll_timeout().is_some_and(|at| at <= now));
        let due: Vec<u32> = due.map(|(session, _)| *session).collect();
        for session in due {
            self.view(now, session);
        }
        let mut out = Vec::new();
        while let Some(to) = self.endpoint.poll_transmit(now, &mut out) {
            // A full buffer loses it, as any network may.
            let _ = self.socket.send_to(&out, to);
            out.clear();
        }
    }

    fn happened(&mut self, now: Duration, event: EndpointEvent) {
        match event {
            EndpointEvent::Keying { task, near_id } => {
                let accepted = task.run(near_id, &mut rand::rng());
                self.endpoint.keyed(now, near_id, accepted.ok());
            }
            EndpointEvent::Opened { session } if session == self.server => {
                let object = Object::new()
                    .with("app", self.app.as_str())
                    .with("tcUrl", format!("rtmfp://{}/{}", self.edge, self.app))
                    .with("objectEncoding", 0.0);
                let mut connect = Command::call("connect", TransactionId::new(1.0), Vec::new());
                connect.object = object.into();
                self.call(now, &connect);
            }
            EndpointEvent::Opened { session } => {
                let at = self.endpoint.session(session).map(|it| it.address());
                self.came.lock().neighbours.extend(at);
                let viewer = Viewer::new(self.specification.clone(), self.stream.clone());
                self.viewers.insert(session, viewer);
                self.view(now, session);
            }
            EndpointEvent::Session {
                event: SessionEvent::ForwardedHello(hello),
                ..
            } => self.endpoint.handle_forwarded(now, &hello),
            EndpointEvent::Flows { session } if session == self.server => self.of_server(now),
            EndpointEvent::Flows { session } => self.view(now, session),
            EndpointEvent::Gone { session } => {
                self.viewers.remove(&session);
            }
            _ => {}
        }
    }

    fn call(&mut self, now: Duration, command: &Command) {
        let message = command.to_message(ObjectEncoding::Amf0, 0);
        let message = message.expect("a command");
        let connection = &mut self.connection;
        self.endpoint.with_session(now, self.server, |session| {
            let sent = connection.send(now, session.flows(), &message, false);
            sent.expect("a connection");
        });
    }

    fn of_server(&mut self, now: Duration) {
        let (connection, mut happened) = (&mut self.connection, Vec::new());
        self.endpoint.with_session(now, self.server, |session| {
            happened.extend(std::iter::from_fn(|| connection.poll(now, session.flows())));
        });
        for happened in happened {
            match happened {
                Happened::Message(message) if is_result(&message) => self.connected(now),
                Happened::Foreign { payload, .. } if !self.is_shy => {
                    let peer = group::read_neighbour(&payload).expect("a neighbour");
                    let whom = discriminator::for_fingerprint(&peer);
                    let config = InitiatorConfig::new(Arc::clone(&self.identity), whom);
                    self.endpoint.connect(now, config, &[self.edge]);
                }
                _ => {}
            }
        }
    }

    /// Says where it is, which is nothing that the edge does not see, and joins.
    fn connected(&mut self, now: Duration) {
        self.call(now, &Command::notice("setPeerInfo", vec![Value::Null]));
        let join = group::join(&self.specification.id());
        self.endpoint.with_session(now, self.server, |session| {
            let opening = Opening {
                metadata: group::METADATA,
                association: None,
                priority: Priority::DATA,
                time_critical: false,
            };
            let flow = session.flows().open(&opening).expect("a flow");
            let join = Outgoing::from(Body::from(join));
            session.flows().send(now, flow, join).expect("room");
        });
    }

    fn view(&mut self, now: Duration, session: u32) {
        let Some(viewer) = self.viewers.get_mut(&session) else {
            return;
        };
        self.endpoint.with_session(now, session, |session| {
            if viewer.talk(now, session) == Talked::Over {
                session.close(now);
            }
        });
        let mut came = self.came.lock();
        while let Some(message) = viewer.poll_message() {
            came.take(&message);
        }
        came.is_over |= viewer.is_over();
    }
}

impl Came {
    fn take(&mut self, message: &Message) {
        let kind = match message.kind {
            MessageType::AUDIO => FrameKind::Audio,
            MessageType::VIDEO => FrameKind::Video,
            MessageType::DATA_AMF0 => FrameKind::Data,
            _ => return,
        };
        match read_stamp(&message.payload).filter(|_| kind != FrameKind::Data) {
            Some(stamp) => self.frames.push(FrameId {
                kind,
                number: stamp.sequence,
                hash: hash(&message.payload),
            }),
            None => self.headers += 1,
        }
    }
}

fn is_result(message: &Message) -> bool {
    message.kind == MessageType::COMMAND_AMF0 && message.payload.starts_with(b"\x02\0\x07_result")
}
