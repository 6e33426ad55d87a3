//! The examples of handlers, in Python and in Rust, answer an origin alike.

use std::time::Duration;

use headwater_proto::v1::handler_client::HandlerClient;
use headwater_proto::v1::handler_request::Request;
use headwater_proto::v1::handler_response::Response;
use headwater_proto::v1::value::Value as Kind;
use headwater_proto::v1::{
    ClientAnswers, ClientCalls, ClientConnecting, ClientInfo, ClientLeft, ClientPlays,
    ClientPublishes, ClientResumed, HandlerRequest, InstanceStarted, ObjectAnswer, ObjectChange,
    ObjectChanged, ObjectValue, Property, Value, object_change,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::support::handler::Handler;
use crate::support::wait::{patience, runtime};

/// How long a program may take for an answer.
const LIMIT: Duration = Duration::from_secs(10);

/// An origin's end of one call.
struct Origin {
    requests: mpsc::Sender<HandlerRequest>,
    responses: Streaming<headwater_proto::v1::HandlerResponse>,
}

impl Origin {
    async fn attach(handler: &Handler) -> Self {
        let mut client = HandlerClient::connect(handler.address().to_owned())
            .await
            .expect("a connection");
        let (requests, said) = mpsc::channel(16);
        let started = Request::Started(InstanceStarted {
            app: "chat".to_owned(),
            instance: "room".to_owned(),
            epoch: 1,
            ..InstanceStarted::default()
        });
        let origin = requests.clone();
        let first = HandlerRequest {
            request: Some(started),
        };
        requests.send(first).await.expect("room");
        let responses = client.attach(ReceiverStream::new(said)).await;
        Self {
            requests: origin,
            responses: responses.expect("a call").into_inner(),
        }
    }

    async fn say(&self, request: Request) {
        let request = HandlerRequest {
            request: Some(request),
        };
        self.requests.send(request).await.expect("the call stands");
    }

    async fn hear(&mut self) -> Response {
        let heard = tokio::time::timeout(patience(LIMIT), self.responses.message()).await;
        let heard = heard.expect("an answer in time").expect("the call stands");
        heard.and_then(|heard| heard.response).expect("an answer")
    }

    /// Says something and gives so many answers.
    async fn ask(&mut self, request: Request, answers: usize) -> Vec<Response> {
        self.say(request).await;
        let mut all = Vec::new();
        for _ in 0..answers {
            all.push(self.hear().await);
        }
        all
    }
}

fn text(text: &str) -> Value {
    Value {
        value: Some(Kind::String(text.to_owned())),
    }
}

fn number(number: f64) -> Value {
    Value {
        value: Some(Kind::Number(number)),
    }
}

fn object(slots: &[(&str, Value)]) -> Value {
    let properties = slots.iter().map(|(name, value)| Property {
        name: (*name).to_owned(),
        value: Some(value.clone()),
    });
    Value {
        value: Some(Kind::Object(ObjectValue {
            properties: properties.collect(),
            ..ObjectValue::default()
        })),
    }
}

fn connecting(id: &str, name: &str) -> Request {
    Request::Connect(ClientConnecting {
        client: Some(ClientInfo {
            id: id.to_owned(),
            ip: "192.0.2.1".to_owned(),
            ..ClientInfo::default()
        }),
        arguments: vec![text(name)],
        object: None,
    })
}

fn calling(call: u64, name: &str, arguments: &[Value]) -> Request {
    Request::Call(ClientCalls {
        client: "1".to_owned(),
        call,
        name: name.to_owned(),
        arguments: arguments.to_vec(),
    })
}

/// What a program answers to the life of a room.
async fn life_of(handler: &Handler) -> Vec<Response> {
    let mut origin = Origin::attach(handler).await;
    let mut all = vec![origin.hear().await];
    let resumed = ClientInfo {
        id: "0".to_owned(),
        ..ClientInfo::default()
    };
    origin
        .say(Request::Resumed(ClientResumed {
            client: Some(resumed),
            ..ClientResumed::default()
        }))
        .await;
    for (id, name) in [
        ("1", "anna"),
        ("2", "banned"),
        ("3", "moved"),
        ("4", "reader"),
        ("5", "slow"),
    ] {
        all.extend(origin.ask(connecting(id, name), 1).await);
    }
    let deep = object(&[("a", number(1.0)), ("b", object(&[("c", text("x"))]))]);
    for (name, arguments, answers) in [
        ("echo", vec![deep.clone()], 1),
        ("echo", vec![], 1),
        ("sum", vec![number(1.0), number(2.5)], 1),
        ("whoami", vec![], 1),
        ("later", vec![number(20.0), text("late")], 1),
        ("fail", vec![text("no")], 1),
        ("failWith", vec![deep.clone()], 1),
        ("nothing", vec![], 1),
        ("say", vec![text("hello")], 2),
        ("tell", vec![text("slow"), text("psst")], 2),
        ("tell", vec![text("nobody"), text("psst")], 1),
        ("kick", vec![text("reader")], 2),
        ("mute", vec![text("slow")], 2),
    ] {
        let call = all.len() as u64;
        all.extend(origin.ask(calling(call, name, &arguments), answers).await);
    }
    // A call that wants no answer has none: the next answer is that of the next call.
    origin.say(calling(0, "echo", &[text("unheard")])).await;

    // Calls into clients, whose answers are those of calls.
    for failed in [false, true] {
        let asked = origin
            .ask(calling(90, "callMe", &[text("mine"), number(1.0)]), 1)
            .await;
        let Some(Response::CallClient(called)) = asked.first() else {
            panic!("{asked:?}");
        };
        let answer = ClientAnswers {
            call: called.call,
            failed,
            value: Some(deep.clone()),
        };
        all.extend(asked.clone());
        let told = origin.ask(Request::Answer(answer), 1).await;
        if failed {
            let [Response::Call(reply)] = &told[..] else {
                panic!("{told:?}");
            };
            assert!(reply.failed, "{reply:?}");
        } else {
            all.extend(told);
        }
    }

    // Streams.
    for stream in ["secret", "stage", "other"] {
        let publishing = Request::Publish(ClientPublishes {
            client: "1".to_owned(),
            ask: 7,
            stream: stream.to_owned(),
            ..ClientPublishes::default()
        });
        let playing = Request::Play(ClientPlays {
            client: "1".to_owned(),
            ask: 8,
            stream: stream.to_owned(),
            ..ClientPlays::default()
        });
        all.extend(origin.ask(publishing, 1).await);
        all.extend(origin.ask(playing, 1).await);
    }

    // Objects.
    let slots = object(&[("x", number(1.0))]);
    for (name, arguments) in [
        ("objectGet", vec![text("o"), text("x")]),
        ("objectSet", vec![text("persistent:o"), slots]),
        ("objectRemove", vec![text("o"), text("x"), text("y")]),
        ("objectClear", vec![text("o")]),
        ("objectSend", vec![text("o"), text("hello"), number(1.0)]),
        ("objectSize", vec![text("o")]),
        ("objectFlush", vec![text("o")]),
        ("objectWatch", vec![text("o")]),
    ] {
        for failed in [false, true] {
            let asked = origin.ask(calling(91, name, &arguments), 1).await;
            let Some(Response::Object(command)) = asked.first() else {
                panic!("{asked:?}");
            };
            let answer = ObjectAnswer {
                command: command.command,
                failed,
                code: "SharedObject.Mine".to_owned(),
                slots: vec![Property {
                    name: "x".to_owned(),
                    value: Some(number(2.0)),
                }],
                size: 3,
                version: 4,
                ..ObjectAnswer::default()
            };
            all.extend(asked.clone());
            all.extend(origin.ask(Request::ObjectAnswer(answer), 1).await);
        }
    }
    let changes = [
        object_change::Change::Clear(true),
        object_change::Change::Remove("x".to_owned()),
    ];
    let changes = changes.map(|change| ObjectChange {
        change: Some(change),
    });
    let changed = ObjectChanged {
        object: "o".to_owned(),
        version: 9,
        changes: changes.to_vec(),
        ..ObjectChanged::default()
    };
    all.extend(origin.ask(Request::ObjectChanged(changed), 1).await);

    // One that leaves without its answer.
    let asked = origin
        .ask(calling(92, "ask", &[text("slow"), text("theirs")]), 1)
        .await;
    all.extend(asked);
    let left = ClientLeft {
        client: "5".to_owned(),
    };
    let mut told = origin.ask(Request::Left(left), 2).await;
    // The one who asked, and everybody, are told in any order.
    told.sort_by_key(|told| matches!(told, Response::Call(_)));
    all.extend(told);
    all
}

#[test]
fn those_in_python_and_in_rust_answer_alike() {
    let (Some(python), Some(rust)) = (Handler::chat(), Handler::chat_in_rust()) else {
        return;
    };
    let [python, rust] = [python, rust].map(|handler| runtime().block_on(life_of(&handler)));
    assert_eq!(python.len(), rust.len());
    for (number, (python, rust)) in python.iter().zip(&rust).enumerate() {
        assert_eq!(python, rust, "answer {number}");
    }
    let said = format!("{python:?}");
    for part in [
        "hall-7",
        "You are banned.",
        "rtmp://127.0.0.1:1/chat",
        "The client is gone.",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}
