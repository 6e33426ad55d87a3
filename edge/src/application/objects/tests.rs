//! Clients on sockets, and an owner that answers when it is told to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant as Clock;

use bytes::BytesMut;
use headwater_amf::Value;
use headwater_node::metrics::Metrics;
use headwater_rtmp::chunk::{ChunkReader, ReaderLimits};
use headwater_shared_object::master::{
    Greeting, Keeping, Master, MasterLimits, Outcome as Applied,
};
use headwater_shared_object::object::{ClientId, Epoch, Operation, Version};
use headwater_shared_object::value::{Arguments, SlotValue};
use headwater_shared_object::wire::{
    self as objects_wire, DecodeLimits, Encoding, Event, Flags, Message,
};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio_util::io::poll_read_buf;

use super::local::{LocalObjects, Session, Waiting};
use super::uses::{Client as UsesClient, Outcome, Uses};
use super::*;
use crate::fanout::SharedConnection;
use crate::fanout::connection::Connection;
use crate::metrics::EdgeMetrics;
use crate::testing::PATIENCE;
use crate::transport::Transport;
use headwater_proto::v1;

mod breaks;

const PLAYER: Flags = Flags(0);
const PERSISTENT: Flags = Flags(Flags::PERSISTENT);
const PROXY: Flags = Flags(Flags::PROXY);

/// The origin's side of the objects.
struct Owner {
    epoch: Epoch,
    masters: BTreeMap<String, (Persistence, Master)>,
    /// Requests that came, in order.
    requests: Vec<u64>,
    released: Vec<String>,
    uses: usize,
}

impl Owner {
    fn new(epoch: u64) -> Self {
        Self {
            epoch: Epoch(epoch),
            masters: BTreeMap::new(),
            requests: Vec::new(),
            released: Vec::new(),
            uses: 0,
        }
    }

    fn answer(&mut self, say: Say) -> Vec<Told> {
        match say {
            Say::UseObject(use_object) => {
                self.uses += 1;
                let (name, asked) = wire::read_object_name(use_object.object.as_ref()).unwrap();
                let epoch = self.epoch;
                let (persistence, master) = self
                    .masters
                    .entry(name.as_str().to_owned())
                    .or_insert_with(|| {
                        let keeping = match asked {
                            Persistence::Temporary => Keeping::Temporary,
                            Persistence::Persistent => Keeping::Durable,
                        };
                        (asked, Master::new(keeping, epoch, limits()))
                    });
                if asked != *persistence && !use_object.as_it_is {
                    return vec![Told::ObjectRefused(v1::ObjectRefused {
                        object: use_object.object,
                        number: 0,
                        code: Refusal::BadPersistence.code().to_owned(),
                        description: String::new(),
                    })];
                }
                let persistence = *persistence;
                match master.greet(Epoch(use_object.epoch), Version(use_object.version)) {
                    Greeting::Wanted => vec![Told::ObjectWanted(v1::ObjectWanted {
                        object: use_object.object,
                    })],
                    Greeting::State(state) => (state.chunks(200).iter())
                        .map(|piece| Told::ObjectState(wire::state(&name, persistence, piece)))
                        .collect(),
                }
            }
            Say::ObjectState(state) => {
                let (name, _) = wire::read_object_name(state.object.as_ref()).unwrap();
                let (persistence, master) = self.masters.get_mut(name.as_str()).unwrap();
                assert!(!state.more, "small objects are used here");
                master.adopt(wire::read_state(&state));
                let whole = master.state_since(Version::NONE);
                vec![Told::ObjectState(wire::state(&name, *persistence, &whole))]
            }
            Say::Object(request) => {
                let (name, _) = wire::read_object_name(request.object.as_ref()).unwrap();
                let (persistence, master) = self.masters.get_mut(name.as_str()).unwrap();
                self.requests.push(request.number);
                let operations = wire::read_operations(&request.operations);
                match master.apply(EdgeIncarnation(7), request.number, &operations) {
                    Ok(Applied::Applied(applied)) => {
                        let update = wire::update(&name, *persistence, &applied.update);
                        vec![Told::ObjectUpdate(update)]
                    }
                    Ok(Applied::Duplicate) => {
                        let state = master.state_since(master.version());
                        let state = wire::state(&name, *persistence, &state);
                        let again = master.repeat(EdgeIncarnation(7), request.number, &operations);
                        let again = again.map(|again| wire::update(&name, *persistence, &again));
                        let again = again.map(Told::ObjectUpdate);
                        [Told::ObjectState(state)]
                            .into_iter()
                            .chain(again)
                            .collect()
                    }
                    Err(refusal) => vec![Told::ObjectRefused(v1::ObjectRefused {
                        object: request.object,
                        number: request.number,
                        code: refusal.code().to_owned(),
                        description: refusal.to_string(),
                    })],
                }
            }
            Say::ReleaseObject(release) => {
                self.released.push(release.object.unwrap().name);
                Vec::new()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Answers all that is said.
    fn drive(&mut self, objects: &Arc<Objects>) {
        while let Some(say) = objects.poll_next() {
            for told in self.answer(say) {
                objects.handle(told);
            }
        }
    }
}

fn limits() -> MasterLimits {
    MasterLimits {
        slots: 10,
        value_bytes: 20_000,
        object_bytes: 100_000,
        name_bytes: 100,
        removals: 10,
    }
}

#[derive(Default)]
struct Heard {
    lost: RefCell<Vec<String>>,
    again: RefCell<Vec<(ObjectName, Box<Waiting>)>>,
}

impl Session for Heard {
    fn lost(&self, object: &ObjectName) {
        self.lost.borrow_mut().push(object.as_str().to_owned());
    }

    fn again(&self, object: &ObjectName, waiting: Box<Waiting>) {
        self.again.borrow_mut().push((object.clone(), waiting));
    }
}

struct Stage {
    objects: Arc<Objects>,
    local: Rc<LocalObjects>,
    meters: Rc<crate::metrics::ConnectionMeters>,
}

/// A client and its session, as far as objects go.
struct Client {
    id: u64,
    connection: SharedConnection,
    heard: Rc<Heard>,
    uses: Uses,
    socket: TcpStream,
    reader: ChunkReader,
    input: BytesMut,
    encoding: Encoding,
    /// Of the last message about each object.
    versions: BTreeMap<String, u32>,
    read_access: &'static str,
    write_access: &'static str,
}

impl Stage {
    fn start() -> Self {
        let metrics = Metrics::new("edge", "edge");
        let meters = EdgeMetrics::new(&metrics);
        let policy = SharedObjectsSection::default();
        Self {
            objects: Objects::new(7, policy, ObjectMeters::new(&metrics.room("edge"))),
            local: LocalObjects::start(4_096),
            meters: Rc::new(meters.connection()),
        }
    }

    async fn client(&self, id: u64, encoding: Encoding) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16_384).unwrap();
        let address = listener.local_addr().unwrap();
        let (socket, accepted) = tokio::join!(socket.connect(address), listener.accept());
        let (served, _) = accepted.unwrap();
        SockRef::from(&served).set_send_buffer_size(16_384).unwrap();
        let meters = Rc::clone(&self.meters);
        let connection = Connection::new(Transport::Tcp(served), meters, Clock::now());
        let mut reader = ChunkReader::new(ReaderLimits::default());
        // As the server says it in every session.
        let mut size = BytesMut::from(&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 16, 0][..]);
        let _told = reader.handle_input(&mut size);
        let client = Client {
            id,
            connection: Rc::new(RefCell::new(connection)),
            heard: Rc::default(),
            uses: Uses::default(),
            socket: socket.unwrap(),
            reader,
            input: BytesMut::new(),
            encoding,
            versions: BTreeMap::new(),
            read_access: "/",
            write_access: "/",
        };
        client.pump().await;
        client
    }
}

impl Client {
    /// The session's own turn: its waker is registered, what waits is written, owed objects are served.
    async fn pump(&self) {
        poll_fn(|cx| {
            let _full = self.connection.borrow_mut().pump(cx);
            std::task::Poll::Ready(())
        })
        .await;
    }

    fn with<T>(&mut self, stage: &Stage, act: impl FnOnce(&mut Uses, &UsesClient<'_>) -> T) -> T {
        let session: Rc<dyn Session> = self.heard.clone();
        let client = UsesClient {
            objects: &stage.objects,
            local: &stage.local,
            connection: &self.connection,
            session: &session,
            id: ClientId(self.id),
            encoding: self.encoding,
            most: 3,
            read_access: self.read_access,
            write_access: self.write_access,
            is_asked: false,
            chunk_size: 4_096,
        };
        act(&mut self.uses, &client)
    }

    fn say(&mut self, stage: &Stage, name: &str, flags: Flags, events: Vec<Event>) -> Outcome {
        let message = Message {
            name: ObjectName::parse(name).unwrap(),
            version: self.versions.get(name).copied().unwrap_or(0),
            flags,
            events,
        };
        self.with(stage, |uses, client| uses.take(client, message))
    }

    fn set(&mut self, stage: &Stage, name: &str, flags: Flags, slot: &str, value: &str) {
        let event = Event::RequestChange {
            name: slot.into(),
            value: text(value),
        };
        assert!(matches!(
            self.say(stage, name, flags, vec![event]),
            Outcome::Done
        ));
    }

    /// Reads what comes, while the session writes what waits.
    async fn read(&mut self) -> usize {
        poll_fn(|cx| {
            let _full = self.connection.borrow_mut().pump(cx);
            if self.connection.borrow_mut().takes_owed_objects() {
                self.uses.serve();
            }
            poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.input)
        })
        .await
        .unwrap()
    }

    /// The next message.
    async fn next(&mut self) -> Message {
        let reading = async {
            loop {
                if let Some(message) = self.reader.handle_input(&mut self.input).unwrap() {
                    assert_eq!(message.kind.0, self.encoding.message_type());
                    let body = message.payload;
                    let limits = DecodeLimits::default();
                    let message = match self.encoding {
                        Encoding::Amf0 => objects_wire::decode(&body, limits),
                        Encoding::Amf3 => objects_wire::decode_amf3(&body, limits),
                    };
                    let message = message.unwrap();
                    let name = message.name.as_str().to_owned();
                    self.versions.insert(name, message.version);
                    return message;
                }
                assert!(self.read().await > 0);
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap()
    }

    async fn events(&mut self) -> Vec<Event> {
        self.next().await.events
    }
}

fn text(text: &str) -> SlotValue {
    SlotValue::new(&Value::from(text)).unwrap()
}

fn change(slot: &str, value: &str) -> Event {
    Event::Change {
        name: slot.into(),
        value: text(value),
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_change_costs_one_request_and_everybody_gets_it_in_its_own_way() {
    run(async {
        let stage = Stage::start();
        let mut owner = Owner::new(1);
        let mut proxy = stage.client(1, Encoding::Amf0).await;
        let mut player = stage.client(2, Encoding::Amf3).await;
        let mut early = stage.client(3, Encoding::Amf0).await;
        // It uses and changes the object before anybody knows of it.
        early.say(&stage, "chat", PLAYER, vec![Event::Use]);
        early.set(&stage, "chat", PLAYER, "a", "1");
        stage.objects.attached();
        owner.drive(&stage.objects);
        assert_eq!(early.events().await, [Event::UseSuccess, Event::Clear]);
        owner.drive(&stage.objects);
        let success = Event::Success { name: "a".into() };
        // What it had set by itself was cleared meanwhile.
        assert_eq!(early.events().await, [success, change("a", "1")]);

        proxy.say(&stage, "chat", PROXY, vec![Event::Use]);
        player.say(&stage, "chat", PLAYER, vec![Event::Use]);
        for client in [&mut proxy, &mut player] {
            let whole = [Event::UseSuccess, Event::Clear, change("a", "1")];
            assert_eq!(client.events().await, whole);
        }
        proxy.set(&stage, "chat", PROXY, "b", "2");
        owner.drive(&stage.objects);
        let echo = Event::ChangeEcho {
            name: "b".into(),
            value: text("2"),
        };
        assert_eq!(proxy.events().await, [echo]);
        assert_eq!(player.events().await, [change("b", "2")]);
        assert_eq!(early.events().await, [change("b", "2")]);
        assert_eq!((owner.uses, owner.requests.as_slice()), (1, &[1, 2][..]));
    });
}

#[test]
fn who_takes_it_for_the_other_kind_is_told_and_the_others_are_not_disturbed() {
    run(async {
        let stage = Stage::start();
        let mut owner = Owner::new(1);
        let kept = Master::new(Keeping::Durable, Epoch(1), limits());
        (owner.masters).insert("kept".to_owned(), (Persistence::Persistent, kept));
        stage.objects.attached();
        let mut wrong = stage.client(1, Encoding::Amf0).await;
        let mut right = stage.client(2, Encoding::Amf0).await;
        // Both before the owner has said which it is; the wrong one opens it.
        wrong.say(&stage, "kept", PLAYER, vec![Event::Use]);
        right.say(&stage, "kept", PERSISTENT, vec![Event::Use]);
        owner.drive(&stage.objects);
        let bad = Event::Status {
            code: "SharedObject.BadPersistence".to_owned(),
            level: "error".to_owned(),
        };
        assert_eq!(wrong.events().await, std::slice::from_ref(&bad));
        let (name, waiting) = {
            let again = async {
                while right.heard.again.borrow().is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, again).await.unwrap();
            right.heard.again.borrow_mut().pop().unwrap()
        };
        right.with(&stage, |uses, client| uses.again(client, &name, *waiting));
        owner.drive(&stage.objects);
        assert_eq!(right.events().await, [Event::UseSuccess, Event::Clear]);
        // Now it is known here, and nobody is asked.
        wrong.say(&stage, "kept", PLAYER, vec![Event::Use]);
        assert_eq!(wrong.events().await, [bad]);
        assert_eq!(owner.uses, 2);
    });
}

#[test]
fn access_and_the_number_of_objects_are_bounded() {
    run(async {
        let stage = Stage::start();
        let mut owner = Owner::new(1);
        stage.objects.attached();
        let mut client = stage.client(1, Encoding::Amf0).await;
        client.read_access = "public;mine";
        client.write_access = "mine";
        let status = |code: &str| {
            [Event::Status {
                code: format!("SharedObject.{code}"),
                level: "error".to_owned(),
            }]
        };
        client.say(&stage, "secret", PLAYER, vec![Event::Use]);
        assert_eq!(client.events().await, status("NoReadAccess"));
        for name in ["public/1", "mine", "public/2"] {
            client.say(&stage, name, PLAYER, vec![Event::Use]);
            owner.drive(&stage.objects);
            let admitted = [Event::UseSuccess, Event::Clear];
            assert_eq!(client.events().await, admitted, "{name}");
        }
        client.say(&stage, "public/3", PLAYER, vec![Event::Use]);
        assert_eq!(client.events().await, status("TooManyObjects"));
        client.set(&stage, "public/1", PLAYER, "a", "1");
        let events = client.events().await;
        assert_eq!(events[..1], status("NoWriteAccess"));
        assert!(
            matches!(&events[1..], [Event::Remove { name }] if &**name == "a"),
            "the value that it has: {events:?}"
        );
        client.set(&stage, "mine", PLAYER, "a", "0");
        owner.drive(&stage.objects);
        let success = Event::Success { name: "a".into() };
        let events = client.events().await;
        assert_eq!(events.first(), Some(&success));
        client.set(&stage, "mine", PLAYER, "a", "1");
        // Not in use: nobody hears of it.
        client.set(&stage, "public/3", PLAYER, "a", "1");
        owner.drive(&stage.objects);
        assert_eq!(client.events().await, [success]);
        assert_eq!(owner.requests, [1, 2]);
        // What may be used is taken back.
        client.uses.set_access("mine", "");
        client.set(&stage, "mine", PLAYER, "a", "2");
        let events = client.events().await;
        assert_eq!(events[1..], [change("a", "1")], "{events:?}");
    });
}
