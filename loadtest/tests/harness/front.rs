//! RTMFP before the small server of these tests: clients play the same streams, and are introduced to each other.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headwater_rtmfp::connection::{Happened, NetConnection, NotSent, Role};
use headwater_rtmfp::crypto::certificate::Identity;
use headwater_rtmfp::crypto::cookie::Cookies;
use headwater_rtmfp::crypto::diffie_hellman::Group;
use headwater_rtmfp::crypto::discriminator::Discriminator;
use headwater_rtmfp::endpoint::{Endpoint, EndpointConfig, EndpointEvent};
use headwater_rtmfp::handshake::{Lookup, ResponderConfig};
use headwater_rtmfp::session::SessionConfig;
use headwater_rtmfp::translator::Translator;
use headwater_rtmfp::wire::{Address, fragment};
use headwater_rtmp::message::Message;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::server::{Server, Streams, serve_without_handshake};

/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(2);

/// A way to a server's streams over RTMFP.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Front {
    pub(crate) async fn start(server: &Server) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let driver = Driver::new(socket, server.streams());
        Self {
            address,
            task: tokio::spawn(driver.run()),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtmfp://{}/{path}", self.address)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the server's end of a session says, by the number of the session.
type Said = (u32, Vec<u8>);

struct Client {
    connection: NetConnection,
    translator: Translator,
    held: VecDeque<Message>,
    heard: UnboundedSender<Vec<u8>>,
    tasks: [JoinHandle<()>; 3],
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

struct Driver {
    socket: UdpSocket,
    endpoint: Endpoint<StdRng>,
    clients: HashMap<u32, Client>,
    streams: Arc<Streams>,
    say: UnboundedSender<Said>,
    said: UnboundedReceiver<Said>,
    started: Instant,
}

impl Driver {
    fn new(socket: UdpSocket, streams: Arc<Streams>) -> Self {
        let mut rng: StdRng = rand::make_rng();
        let identity = Identity::server(&Group::ALL, None, &mut rng).unwrap();
        let config = EndpointConfig {
            responder: ResponderConfig::new(Arc::new(identity)),
            session: Arc::new(SessionConfig::default()),
            sessions: 100,
            fragments: fragment::Limits::default(),
            ids: (0, 1),
        };
        let cookies = Cookies::new(&mut rng);
        let (say, said) = unbounded_channel();
        Self {
            socket,
            endpoint: Endpoint::new(config, cookies, rng),
            clients: HashMap::new(),
            streams,
            say,
            said,
            started: Instant::now(),
        }
    }

    async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        let mut buffer = vec![0; 65_536];
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    if let Ok((length, from)) = received {
                        let now = self.started.elapsed();
                        self.endpoint.handle_datagram(now, from, &mut buffer[..length]);
                    }
                }
                said = self.said.recv() => self.take_said(said),
                _ = tick.tick() => self.endpoint.handle_timeout(self.started.elapsed()),
            }
            self.settle();
            self.send().await;
        }
    }

    fn take_said(&mut self, said: Option<Said>) {
        if let Some((session, bytes)) = said
            && let Some(client) = self.clients.get_mut(&session)
        {
            client.translator.write(&bytes).unwrap();
        }
    }

    fn settle(&mut self) {
        let now = self.started.elapsed();
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                EndpointEvent::Keying { task, near_id } => {
                    let mut rng: StdRng = rand::make_rng();
                    let accepted = task.run(near_id, &mut rng).ok();
                    self.endpoint.keyed(now, near_id, accepted);
                }
                EndpointEvent::Opened { session } => self.serve(session),
                EndpointEvent::Lookup(lookup) => self.introduce(now, &lookup),
                EndpointEvent::Gone { session } => drop(self.clients.remove(&session)),
                EndpointEvent::Session { .. }
                | EndpointEvent::Flows { .. }
                | EndpointEvent::Room { .. }
                | EndpointEvent::Failed { .. } => {}
            }
        }
        for (id, client) in &mut self.clients {
            self.endpoint.with_session(now, *id, |session| {
                client.exchange(now, session.flows());
            });
        }
    }

    fn serve(&mut self, session: u32) {
        let (near, far) = tokio::io::duplex(1 << 20);
        let serving = tokio::spawn(serve_without_handshake(far, Arc::clone(&self.streams)));
        let (mut read, mut write) = tokio::io::split(near);
        let say = self.say.clone();
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            while let Ok(count @ 1..) = read.read(&mut buffer).await {
                if say.send((session, buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
        });
        let (heard, mut hears) = unbounded_channel::<Vec<u8>>();
        let writing = tokio::spawn(async move {
            while let Some(bytes) = hears.recv().await {
                if write.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let client = Client {
            connection: NetConnection::new(Role::Server),
            translator: Translator::default(),
            held: VecDeque::new(),
            heard,
            tasks: [serving, reading, writing],
        };
        self.clients.insert(session, client);
    }

    fn introduce(&mut self, now: Duration, lookup: &Lookup) {
        let asked = Discriminator::read(&lookup.discriminator).unwrap();
        let found = asked.fingerprint.and_then(|peer| self.endpoint.peer(&peer));
        if let Some(found) = found {
            let address = self.endpoint.session(found).unwrap().address();
            let addresses = [Address::observed(address)];
            self.endpoint.introduce(now, lookup, found, &addresses);
        }
    }

    async fn send(&mut self) {
        let mut datagram = Vec::new();
        loop {
            let now = self.started.elapsed();
            datagram.clear();
            let next = self.endpoint.poll_transmit(now, &mut datagram);
            let Some(to) = next else {
                return;
            };
            self.socket.send_to(&datagram, to).await.unwrap();
        }
    }
}

impl Client {
    fn exchange(&mut self, now: Duration, flows: &mut headwater_rtmfp::flow::FlowSet) {
        while let Some(happened) = self.connection.poll(now, flows) {
            match happened {
                Happened::Message(message) => self.translator.deliver(&message),
                Happened::OpenedForeign { flow, .. } => self.connection.reject(flows, flow),
                _ => {}
            }
        }
        let input = self.translator.input();
        if !input.is_empty() {
            // The server may have ended the connection.
            let _gone = self.heard.send(input.to_vec());
        }
        while let Some(message) = self.translator.take() {
            self.held.push_back(message);
        }
        while let Some(message) = self.held.front() {
            match self.connection.send(now, flows, message, false) {
                Ok(()) => drop(self.held.pop_front()),
                Err(NotSent::NotConnected) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
