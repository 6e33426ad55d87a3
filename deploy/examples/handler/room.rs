//! One instance of the chat.

mod calls;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use headwater_proto::v1::handler_request::Request;
use headwater_proto::v1::handler_response::Response;
use headwater_proto::v1::object_change::Change;
use headwater_proto::v1::{
    CallClient, CallReply, ClientConnecting, ClientInfo, ConnectReply, HandlerHello,
    HandlerResponse, ObjectAnswer, ObjectChanged, StreamReply, Value,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Status;

use crate::values::{array, as_text, null, number, object, of_properties, text};

/// How long `slow` is pending.
const SLOW: Duration = Duration::from_millis(300);

/// What stays when a call of an origin breaks: names of clients by their ids.
pub(crate) type Rooms = Arc<Mutex<HashMap<String, String>>>;

/// The origin has hung up.
#[derive(Debug)]
pub(crate) struct HungUp;

/// What an answer is for.
enum Waiting {
    /// A client's answer, for the call of another.
    Client { asked: String, call: u64 },
    /// An object's answer, for a call.
    Object { call: u64, wanted: Wanted },
}

/// What of an object's answer a call gives.
#[derive(Clone, Copy)]
enum Wanted {
    Slots,
    Size,
    Version,
    Nothing,
}

struct Client {
    info: ClientInfo,
    name: String,
}

/// Why a call fails: a description, or an information object.
enum Failure {
    Description(String),
    Info(Value),
}

pub(crate) struct Room {
    names: Rooms,
    instance: String,
    outgoing: mpsc::Sender<Result<HandlerResponse, Status>>,
    clients: BTreeMap<String, Client>,
    waiting: HashMap<u64, Waiting>,
    next_number: u64,
    /// They end with the room.
    tasks: JoinSet<()>,
}

impl Room {
    pub(crate) fn new(
        names: Rooms,
        instance: String,
        outgoing: mpsc::Sender<Result<HandlerResponse, Status>>,
    ) -> Self {
        Self {
            names,
            instance,
            outgoing,
            clients: BTreeMap::new(),
            waiting: HashMap::new(),
            next_number: 1,
            tasks: JoinSet::new(),
        }
    }

    /// Says what the chat decides.
    pub(crate) async fn hello(&self) -> Result<(), HungUp> {
        let hello = HandlerHello {
            connect: true,
            publish: true,
            play: true,
            call: true,
            use_object: false,
            ends: true,
        };
        self.send(Response::Hello(hello)).await
    }

    /// Takes one message of the origin.
    pub(crate) async fn take(&mut self, request: Request) -> Result<(), HungUp> {
        // What tasks have ended is forgotten.
        while self.tasks.try_join_next().is_some() {}
        match request {
            Request::Connect(connecting) => self.connect(connecting).await,
            Request::Resumed(resumed) => {
                let info = resumed.client.unwrap_or_default();
                let name = self.names.lock().get(&info.id).cloned();
                let name = name.unwrap_or_else(|| "guest".to_owned());
                self.clients.insert(info.id.clone(), Client { info, name });
                Ok(())
            }
            Request::Left(left) => self.leave(&left.client).await,
            Request::Call(called) if self.clients.contains_key(&called.client) => {
                self.call(called).await
            }
            Request::Answer(answer) => match self.waiting.remove(&answer.call) {
                Some(Waiting::Client { call, .. }) if answer.failed => {
                    let info = answer.value.unwrap_or_else(null);
                    self.answer(call, Err(Failure::Info(info))).await
                }
                Some(Waiting::Client { call, .. }) => {
                    self.answer(call, Ok(answer.value.unwrap_or_else(null)))
                        .await
                }
                _ => Ok(()),
            },
            Request::ObjectAnswer(answer) => match self.waiting.remove(&answer.command) {
                Some(Waiting::Object { call, wanted }) => {
                    self.answer(call, of_object(answer, wanted)).await
                }
                _ => Ok(()),
            },
            Request::ObjectChanged(changed) => self.tell_changed(changed).await,
            Request::Publish(asked) => self.place(asked.ask, &asked.stream).await,
            Request::Play(asked) => self.place(asked.ask, &asked.stream).await,
            // Ends of streams, and what a later version may say.
            _ => Ok(()),
        }
    }

    async fn connect(&mut self, connecting: ClientConnecting) -> Result<(), HungUp> {
        let info = connecting.client.unwrap_or_default();
        let name = connecting.arguments.first().and_then(as_text);
        let name = name.unwrap_or("guest").to_owned();
        let refused = |description: &str| ConnectReply {
            client: info.id.clone(),
            description: description.to_owned(),
            ..ConnectReply::default()
        };
        let reply = match name.as_str() {
            "banned" => ConnectReply {
                application: Some(object([("reason", text("banned")), ("days", number(3.0))])),
                ..refused("You are banned.")
            },
            "moved" => ConnectReply {
                redirect: "rtmp://127.0.0.1:1/chat".to_owned(),
                ..refused("The room is elsewhere.")
            },
            _ => {
                let reply = ConnectReply {
                    client: info.id.clone(),
                    accept: true,
                    write_access: (name == "reader").then(String::new),
                    properties: Some(object([
                        ("room", text(&self.instance)),
                        ("name", text(&name)),
                    ])),
                    ..ConnectReply::default()
                };
                self.names.lock().insert(info.id.clone(), name.clone());
                let is_slow = name == "slow";
                self.clients.insert(info.id.clone(), Client { info, name });
                if is_slow {
                    self.send_later(SLOW, Response::Connect(reply));
                    return Ok(());
                }
                reply
            }
        };
        self.send(Response::Connect(reply)).await
    }

    async fn leave(&mut self, id: &str) -> Result<(), HungUp> {
        self.names.lock().remove(id);
        let unanswered = self.waiting.iter().filter_map(|(number, waiting)| {
            let of_it = matches!(waiting, Waiting::Client { asked, .. } if asked == id);
            of_it.then_some(*number)
        });
        for number in unanswered.collect::<Vec<_>>() {
            if let Some(Waiting::Client { call, .. }) = self.waiting.remove(&number) {
                let gone = Failure::Description("The client is gone.".to_owned());
                self.answer(call, Err(gone)).await?;
            }
        }
        match self.clients.remove(id) {
            Some(client) => self.tell(Vec::new(), "left", vec![text(client.name)]).await,
            None => Ok(()),
        }
    }

    /// `secret` is for nobody, `stage` is kept under another name.
    async fn place(&self, ask: u64, stream: &str) -> Result<(), HungUp> {
        let reply = match stream {
            "secret" => StreamReply {
                ask,
                description: "Nobody may.".to_owned(),
                ..StreamReply::default()
            },
            _ => StreamReply {
                ask,
                allow: true,
                stream: if stream == "stage" { "hall-7" } else { "" }.to_owned(),
                ..StreamReply::default()
            },
        };
        self.send(Response::Stream(reply)).await
    }

    /// Tells everybody what became of a watched object.
    async fn tell_changed(&self, changed: ObjectChanged) -> Result<(), HungUp> {
        let what = changed.changes.into_iter().filter_map(|each| {
            Some(text(match each.change? {
                Change::Set(slot) => format!("set {}", slot.name),
                Change::Remove(name) => format!("remove {name}"),
                Change::Clear(_) => "clear".to_owned(),
                Change::Send(send) => format!("send {}", send.name),
            }))
        });
        let arguments = vec![
            text(changed.object),
            number(changed.version as f64),
            array(what),
        ];
        self.tell(Vec::new(), "changed", arguments).await
    }

    /// Calls a method of clients, of all if none is named. There are no results.
    async fn tell(
        &self,
        clients: Vec<String>,
        method: &str,
        arguments: Vec<Value>,
    ) -> Result<(), HungUp> {
        let called = CallClient {
            clients,
            call: 0,
            name: method.to_owned(),
            arguments,
        };
        self.send(Response::CallClient(called)).await
    }

    /// Answers a call of a client, if it wants an answer.
    async fn answer(&self, call: u64, outcome: Result<Value, Failure>) -> Result<(), HungUp> {
        if call == 0 {
            return Ok(());
        }
        self.send(Response::Call(reply(call, outcome))).await
    }

    fn send_later(&mut self, delay: Duration, response: Response) {
        let outgoing = self.outgoing.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(delay).await;
            let response = HandlerResponse {
                response: Some(response),
            };
            // The origin may have hung up meanwhile.
            let _gone = outgoing.send(Ok(response)).await;
        });
    }

    async fn send(&self, response: Response) -> Result<(), HungUp> {
        let response = HandlerResponse {
            response: Some(response),
        };
        self.outgoing.send(Ok(response)).await.map_err(|_| HungUp)
    }

    /// A number for an answer that is waited for.
    fn expect(&mut self, waiting: Waiting) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.insert(number, waiting);
        number
    }
}

fn reply(call: u64, outcome: Result<Value, Failure>) -> CallReply {
    let (failed, value, description) = match outcome {
        Ok(value) => (false, Some(value), String::new()),
        Err(Failure::Info(info)) => (true, Some(info), String::new()),
        Err(Failure::Description(description)) => (true, None, description),
    };
    CallReply {
        call,
        failed,
        value,
        description,
    }
}

fn of_object(answer: ObjectAnswer, wanted: Wanted) -> Result<Value, Failure> {
    if answer.failed {
        let info = [
            ("level", text("error")),
            ("code", text(answer.code)),
            ("description", text(answer.description)),
        ];
        return Err(Failure::Info(object(info)));
    }
    Ok(match wanted {
        Wanted::Slots => of_properties(answer.slots),
        Wanted::Size => number(f64::from(answer.size)),
        Wanted::Version => number(answer.version as f64),
        Wanted::Nothing => null(),
    })
}
