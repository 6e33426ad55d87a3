//! A client as Flash's: one socket for its server and for its peers.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_amf::{Limits, Object, Value};
use headwater_rtmfp::connection::{Happened, NetConnection, Role};
use headwater_rtmfp::crypto::certificate::{Fingerprint, Identity};
use headwater_rtmfp::crypto::cookie::Cookies;
use headwater_rtmfp::crypto::diffie_hellman::Group;
use headwater_rtmfp::crypto::discriminator;
use headwater_rtmfp::endpoint::{Endpoint, EndpointConfig, EndpointEvent};
use headwater_rtmfp::flow::{Body, Event, FlowSet, Opening, Outgoing, Priority, SendId};
use headwater_rtmfp::group::{self, GroupId};
use headwater_rtmfp::handshake::{InitiatorConfig, ResponderConfig};
use headwater_rtmfp::session::{Session, SessionConfig, SessionEvent};
use headwater_rtmfp::wire::fragment;
use headwater_rtmp::command::{Command, ObjectEncoding, TransactionId};
use headwater_rtmp::message::MessageType;
use rand::rngs::ThreadRng;

pub(super) struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    application: &'static str,
    endpoint: Endpoint<ThreadRng>,
    identity: Arc<Identity>,
    started: Instant,
    connection: NetConnection,
    /// With the server.
    session: Option<u32>,
    is_connected: bool,
    open: BTreeSet<u32>,
    ignores_hellos: bool,
    group_flows: Vec<SendId>,
    neighbours: BTreeSet<Fingerprint>,
    relayed: Vec<Vec<Value>>,
    direct: Vec<String>,
}

/// Lets all go on for a moment.
pub(super) async fn pump(clients: &mut [Client]) {
    for client in clients {
        client.go_on();
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
}

impl Client {
    pub(super) fn new(server: SocketAddr) -> Self {
        let socket = bind();
        let mut rng = rand::rng();
        let identity = Identity::with_static_key(Group::Modp1024, &mut rng).unwrap();
        let identity = Arc::new(identity);
        let config = EndpointConfig {
            responder: ResponderConfig::new(Arc::clone(&identity)),
            session: Arc::new(SessionConfig::default()),
            sessions: 100,
            fragments: fragment::Limits::default(),
            ids: (0, 1),
        };
        Self {
            endpoint: Endpoint::new(config, Cookies::new(&mut rng), rand::rng()),
            socket,
            server,
            application: "live",
            identity,
            started: Instant::now(),
            connection: NetConnection::new(Role::Client),
            session: None,
            is_connected: false,
            open: BTreeSet::new(),
            ignores_hellos: false,
            group_flows: Vec::new(),
            neighbours: BTreeSet::new(),
            relayed: Vec::new(),
            direct: Vec::new(),
        }
    }

    pub(super) fn id(&self) -> Fingerprint {
        self.identity.certificate().fingerprint()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// To another port, and nothing is said of it.
    pub(super) fn move_away(&mut self) {
        self.socket = bind();
    }

    /// From now on; those that the server passes on, that is.
    pub(super) fn ignore_hellos(&mut self) {
        self.ignores_hellos = true;
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// To the server.
    pub(super) fn connect(&mut self) {
        self.connect_to("live");
    }

    pub(super) fn connect_to(&mut self, application: &'static str) {
        self.application = application;
        let whom = discriminator::for_uri(&format!("rtmfp://127.0.0.1/{application}"));
        self.session = Some(self.open_session(whom));
    }

    pub(super) fn ask_for(&mut self, peer: Fingerprint) -> u32 {
        self.open_session(discriminator::for_fingerprint(&peer))
    }

    fn open_session(&mut self, whom: Vec<u8>) -> u32 {
        let config = InitiatorConfig::new(Arc::clone(&self.identity), whom);
        let (now, server) = (self.now(), self.server);
        self.endpoint.connect(now, config, &[server]).unwrap()
    }

    pub(super) fn give_up(&mut self, session: u32) {
        self.endpoint.give_up(session);
    }

    pub(super) fn is_open(&self, session: u32) -> bool {
        self.open.contains(&session)
    }

    /// Sessions with peers.
    pub(super) fn peers(&self) -> usize {
        let server = self.session.iter().filter(|id| self.is_open(**id)).count();
        self.open.len() - server
    }

    pub(super) fn session(&self, session: u32) -> &Session {
        self.endpoint.session(session).unwrap()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    pub(super) fn direct(&self) -> &[String] {
        &self.direct
    }

    pub(super) fn neighbours(&self) -> &BTreeSet<Fingerprint> {
        &self.neighbours
    }

    /// Arguments of `onRelay`.
    pub(super) fn relayed(&self) -> &[Vec<Value>] {
        &self.relayed
    }

    /// Flows of groups that the server did not want.
    pub(super) fn rejected(&self) -> usize {
        let flows = self.session(self.session.unwrap()).look();
        let mine = self.group_flows.iter();
        mine.filter(|flow| !flows.is_sending(**flow)).count()
    }

    /// With no addresses of its own: loopback ones are of no use to others.
    pub(super) fn say_where(&mut self) {
        self.call(&Command::notice("setPeerInfo", Vec::new()));
    }

    pub(super) fn relay(&mut self, to: Fingerprint, word: &str) {
        let to = Value::from(to.to_string().as_str());
        self.call(&Command::notice("relay", vec![to, Value::from(word)]));
    }

    fn call(&mut self, command: &Command) {
        let message = command.to_message(ObjectEncoding::Amf0, 0).unwrap();
        let (now, session) = (self.now(), self.session.unwrap());
        let connection = &mut self.connection;
        self.endpoint.with_session(now, session, |session| {
            connection
                .send(now, session.flows(), &message, false)
                .unwrap();
        });
    }

    pub(super) fn join(&mut self, group: GroupId) {
        self.open_group_flow(&group::join(&group));
    }

    pub(super) fn open_group_flow(&mut self, first: &[u8]) {
        let session = self.session.unwrap();
        let first = Bytes::copy_from_slice(first);
        let flow = self.open_flow(session, group::METADATA, first);
        self.group_flows.push(flow);
    }

    fn open_flow(&mut self, session: u32, metadata: &[u8], first: Bytes) -> SendId {
        let now = self.now();
        let opened = self.endpoint.with_session(now, session, |session| {
            let opening = Opening {
                metadata,
                association: None,
                priority: Priority::DATA,
                time_critical: false,
            };
            let flow = session.flows().open(&opening).unwrap();
            let first = Outgoing::from(Body::from(first));
            session.flows().send(now, flow, first).unwrap();
            flow
        });
        opened.expect("a session")
    }

    pub(super) fn leave(&mut self) {
        let (now, session) = (self.now(), self.session.unwrap());
        let flow = self.group_flows.pop().unwrap();
        self.endpoint
            .with_session(now, session, |session| session.flows().close(flow));
    }

    /// To a peer.
    pub(super) fn send(&mut self, session: u32, text: &str) {
        self.open_flow(session, b"test", Bytes::copy_from_slice(text.as_bytes()));
    }

    /// The session with the server.
    pub(super) fn close(&mut self) {
        let (now, session) = (self.now(), self.session.unwrap());
        self.endpoint
            .with_session(now, session, |session| session.close(now));
    }

    pub(super) fn go_on(&mut self) {
        let mut buffer = [0; 2_048];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((count, from)) => {
                    let now = self.now();
                    self.endpoint
                        .handle_datagram(now, from, &mut buffer[..count]);
                    self.settle();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // What was sent to somebody who is gone.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => panic!("{error}"),
            }
        }
        let now = self.now();
        if self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        self.settle();
    }

    fn settle(&mut self) {
        let now = self.now();
        while let Some(event) = self.endpoint.poll_event() {
            self.happened(now, event);
        }
        let mut datagram = Vec::new();
        while let Some(to) = self.endpoint.poll_transmit(now, &mut datagram) {
            // A full buffer loses it, as any network may.
            let _ = self.socket.send_to(&datagram, to);
            datagram.clear();
        }
    }

    fn happened(&mut self, now: Duration, event: EndpointEvent) {
        match event {
            EndpointEvent::Keying { task, near_id } => {
                let accepted = task.run(near_id, &mut rand::rng());
                self.endpoint.keyed(now, near_id, accepted.ok());
            }
            EndpointEvent::Opened { session } => {
                self.open.insert(session);
                if self.session == Some(session) {
                    self.call_connect();
                }
            }
            EndpointEvent::Session {
                event: SessionEvent::ForwardedHello(hello),
                ..
            } if !self.ignores_hellos => self.endpoint.handle_forwarded(now, &hello),
            EndpointEvent::Flows { session } => self.flows(now, session),
            _ => {}
        }
    }

    fn call_connect(&mut self) {
        let object = Object::new()
            .with("app", self.application)
            .with("tcUrl", format!("rtmfp://127.0.0.1/{}", self.application))
            .with("objectEncoding", 0.0);
        let mut connect = Command::call("connect", TransactionId::new(1.0), Vec::new());
        connect.object = object.into();
        self.call(&connect);
    }

    fn flows(&mut self, now: Duration, session: u32) {
        if self.session == Some(session) {
            let mut happened = Vec::new();
            let connection = &mut self.connection;
            self.endpoint.with_session(now, session, |session| {
                while let Some(one) = connection.poll(now, session.flows()) {
                    happened.push(one);
                }
            });
            for one in happened {
                self.of_server(one);
            }
        } else {
            let direct = &mut self.direct;
            self.endpoint.with_session(now, session, |session| {
                for message in messages(session.flows()) {
                    direct.push(String::from_utf8(message.to_vec()).unwrap());
                }
            });
        }
    }

    fn of_server(&mut self, happened: Happened) {
        match happened {
            Happened::Foreign { payload, .. } => {
                self.neighbours
                    .insert(group::read_neighbour(&payload).unwrap());
            }
            Happened::Message(message) if message.kind == MessageType::COMMAND_AMF0 => {
                let command = Command::decode(false, &message.payload, Limits::default());
                let command = command.unwrap();
                match command.name.as_str() {
                    "_result" => self.is_connected = true,
                    "onRelay" => self.relayed.push(command.arguments),
                    "_error" => panic!("refused: {command:?}"),
                    // The last words of an edge that stops.
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

fn bind() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn messages(flows: &mut FlowSet) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while let Some(event) = flows.poll_event() {
        if let Event::Message { payload, .. } = event {
            messages.push(payload);
        }
    }
    messages
}
