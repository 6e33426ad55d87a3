//! A small server of applications: it answers calls and keeps shared objects, and misbehaves where the application's name asks for it.
//!
//! | application | what happens |
//! |---|---|
//! | `closed` | connect is rejected |
//! | `room` | `echo` gives back its first argument, `callMe` what the client's method gives; objects are kept |
//! | `wrong` | `echo` gives back something else |
//! | `readonly` | changes are refused |
//! | `forgetful` | the first user of an object is not told of changes |
//! | `stutter` | messages come twice |

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use headwater_amf::Value;
use headwater_rtmp::command::TransactionId;
use headwater_rtmp::handshake::RANDOM_LENGTH;
use headwater_rtmp::message::{Message, MessageType};
use headwater_rtmp::server::{
    ConnectAnswer, ConnectRejection, ServerConfig, ServerEvent, ServerSession,
};
use headwater_rtmp::status::StatusCode;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A server on a port of the loopback that the system chose.
pub(crate) struct Room {
    address: SocketAddr,
    objects: Arc<Objects>,
    accepting: JoinHandle<()>,
}

impl Room {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let objects = Arc::new(Objects::default());
        let shared = Arc::clone(&objects);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(Peer::new(socket, Arc::clone(&shared)).run());
            }
        });
        Self {
            address,
            objects,
            accepting,
        }
    }

    pub(crate) fn url(&self, app: &str) -> String {
        format!("rtmp://{}/{app}", self.address)
    }

    /// Loses a slot, as a server does that said too early that it is durable.
    pub(crate) fn lose(&self, object: &str, slot: &str) {
        let mut objects = self.objects.all.lock();
        let object = objects.get_mut(object.as_bytes()).unwrap();
        object.slots.remove(slot.as_bytes()).unwrap();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[derive(Default)]
struct Objects {
    all: Mutex<BTreeMap<Vec<u8>, Object>>,
}

#[derive(Default)]
struct Object {
    version: u32,
    slots: BTreeMap<Vec<u8>, Vec<u8>>,
    users: Vec<(usize, mpsc::UnboundedSender<Bytes>)>,
}

/// An event: its type and its data.
type Part = (u8, Vec<u8>);

fn body(name: &[u8], version: u32, parts: &[Part]) -> Bytes {
    let mut out = BytesMut::new();
    put_name(&mut out, name);
    out.put_u32(version);
    out.put_u64(0);
    for (kind, data) in parts {
        out.put_u8(*kind);
        out.put_u32(data.len() as u32);
        out.put_slice(data);
    }
    out.freeze()
}

fn put_name(out: &mut impl BufMut, name: &[u8]) {
    out.put_u16(name.len() as u16);
    out.put_slice(name);
}

fn named(name: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    put_name(&mut data, name);
    data.extend_from_slice(rest);
    data
}

fn split_name(data: &[u8]) -> (&[u8], &[u8]) {
    let length = u16::from_be_bytes([data[0], data[1]]);
    data[2..].split_at(length.into())
}

impl Objects {
    /// Does what a client's message asks for.
    fn take(&self, app: &str, user: usize, sender: &mpsc::UnboundedSender<Bytes>, body_of: &[u8]) {
        let (name, rest) = split_name(body_of);
        let is_proxy = rest[7] & 16 != 0;
        let mut events = &rest[12..];
        let mut objects = self.all.lock();
        let object = objects.entry(name.to_vec()).or_default();
        while !events.is_empty() {
            let length = u32::from_be_bytes([events[1], events[2], events[3], events[4]]);
            let (event, others) = events.split_at(5 + length as usize);
            events = others;
            object.take(app, name, (user, sender), is_proxy, event[0], &event[5..]);
        }
    }

    fn leave(&self, user: usize) {
        for object in self.all.lock().values_mut() {
            object.users.retain(|(number, _)| *number != user);
        }
    }
}

impl Object {
    fn take(
        &mut self,
        app: &str,
        name: &[u8],
        (user, sender): (usize, &mpsc::UnboundedSender<Bytes>),
        is_proxy: bool,
        kind: u8,
        data: &[u8],
    ) {
        let tell = |sender: &mpsc::UnboundedSender<Bytes>, version, part: Part| {
            // A client that is gone needs none.
            let _gone = sender.send(body(name, version, &[part]));
        };
        match kind {
            1 => {
                let mut parts = vec![(11, Vec::new()), (8, Vec::new())];
                let slots = self.slots.iter();
                parts.extend(slots.map(|(key, value)| (4, named(key, value))));
                let _gone = sender.send(body(name, self.version, &parts));
                self.users.push((user, sender.clone()));
            }
            3 if app == "readonly" => {
                let (code, level) = (b"SharedObject.NoWriteAccess", b"error");
                let mut status = named(code, &[]);
                put_name(&mut status, level);
                tell(sender, self.version, (7, status));
            }
            3 => {
                let (key, value) = split_name(data);
                self.version += 1;
                self.slots.insert(key.to_vec(), value.to_vec());
                for (number, other) in &self.users {
                    let is_first = self.users.first().is_some_and(|(first, _)| first == number);
                    let part = match (*number == user, is_proxy) {
                        (true, true) => (13, data.to_vec()),
                        (true, false) => (5, named(key, &[])),
                        (false, _) if app == "forgetful" && is_first => continue,
                        (false, _) => (4, data.to_vec()),
                    };
                    tell(other, self.version, part);
                }
            }
            6 => {
                self.version += 1;
                for (_, other) in &self.users {
                    tell(other, self.version, (6, data.to_vec()));
                    if app == "stutter" {
                        tell(other, self.version, (6, data.to_vec()));
                    }
                }
            }
            other => panic!("event {other}"),
        }
    }
}

struct Peer {
    socket: TcpStream,
    session: ServerSession,
    input: BytesMut,
    started: Instant,
    app: String,
    objects: Arc<Objects>,
    /// Calls into the client, and the calls that they answer.
    asked: Vec<(TransactionId, TransactionId)>,
    outgoing: (mpsc::UnboundedSender<Bytes>, mpsc::UnboundedReceiver<Bytes>),
}

impl Peer {
    fn new(socket: TcpStream, objects: Arc<Objects>) -> Self {
        socket.set_nodelay(true).unwrap();
        let random = [7; RANDOM_LENGTH];
        Self {
            socket,
            session: ServerSession::new(ServerConfig::default(), random, Duration::ZERO),
            input: BytesMut::new(),
            started: Instant::now(),
            app: String::new(),
            objects,
            asked: Vec::new(),
            outgoing: mpsc::unbounded_channel(),
        }
    }

    async fn run(mut self) {
        let user = self.socket.peer_addr().map_or(0, |peer| peer.port().into());
        while self.turn(user).await.is_some() {}
        self.objects.leave(user);
    }

    async fn turn(&mut self, user: usize) -> Option<()> {
        while let Some(bytes) = self.session.poll_transmit() {
            self.socket.write_all(&bytes).await.ok()?;
        }
        if self.session.should_close() {
            self.socket.shutdown().await.ok()?;
            return None;
        }
        tokio::select! {
            count = self.socket.read_buf(&mut self.input) => {
                count.ok().filter(|&count| count > 0)?;
                let now = self.started.elapsed();
                loop {
                    self.session.handle_input(now, &mut self.input).ok()?;
                    while let Some(event) = self.session.poll_event() {
                        self.act(user, event)?;
                    }
                    if !self.session.has_more_input() {
                        return Some(());
                    }
                }
            }
            Some(body) = self.outgoing.1.recv() => self.session.shared_object(body).ok(),
        }
    }

    fn act(&mut self, user: usize, event: ServerEvent) -> Option<()> {
        let session = &mut self.session;
        match event {
            ServerEvent::Connect(request) if request.path.app == "closed" => {
                let refused = ConnectRejection::new(StatusCode::ConnectRejected);
                session.reject_connect(refused).ok()
            }
            ServerEvent::Connect(request) => {
                self.app = request.path.app.to_string();
                session.accept_connect(ConnectAnswer::default()).ok()
            }
            ServerEvent::Call {
                name,
                transaction,
                arguments,
                ..
            } => match name.as_str() {
                "echo" if self.app == "wrong" => {
                    session.answer_call(transaction, Value::Number(-1.0)).ok()
                }
                "echo" => {
                    let first = arguments.into_iter().next().unwrap_or(Value::Null);
                    session.answer_call(transaction, first).ok()
                }
                "callMe" => {
                    let mut arguments = arguments.into_iter();
                    let method = arguments.next()?;
                    let asked = session.call(method.as_str()?, arguments.collect()).ok()?;
                    self.asked.push((asked, transaction));
                    Some(())
                }
                _ => session.reject_call(transaction, "No such method.").ok(),
            },
            ServerEvent::CallResult {
                transaction,
                result,
            } => {
                let place = self
                    .asked
                    .iter()
                    .position(|(asked, _)| *asked == transaction)?;
                let (_, call) = self.asked.remove(place);
                session.answer_call(call, result.ok()?).ok()
            }
            ServerEvent::SharedObject { message } => {
                let Message { kind, payload, .. } = message;
                let is_amf3 = kind == MessageType::SHARED_OBJECT_AMF3;
                let body = &payload[usize::from(is_amf3)..];
                self.objects.take(&self.app, user, &self.outgoing.0, body);
                Some(())
            }
            _ => Some(()),
        }
    }
}
