//! What decides in an application: a program of the operator's, behind one trait wherever it runs.
//!
//! An instance attaches to its handler, tells it [`Event`]s in order, and does what its [`Action`]s say in order. The first action is a
//! [`Action::Hello`]; then the instance says the clients that are there ([`Event::Resumed`]), and everything that happens.
//!
//! The numbers of calls and asks are the instance's own: each is given once, whoever's it is.
//!
//! | module | what it holds |
//! |---|---|
//! | [`remote`] | a program that is called over gRPC |
//! | [`value`] | values, in the words of its protocol |
//! | [`wire`] | events and actions, likewise |

use std::fmt::Debug;
use std::sync::Arc;

use headwater_amf::Value;
use headwater_media::name::InstanceName;
use headwater_proto::v1;
use tokio::sync::mpsc;

pub(crate) mod remote;
mod value;
mod wire;

/// Who a handler is told that it decides for.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub(crate) name: InstanceName,
    /// Node id of this origin.
    pub(crate) origin: String,
    /// Of this origin's tenure of the instance.
    pub(crate) epoch: u64,
}

/// The id of a client, unique in the cluster.
pub(crate) type ClientId = Arc<str>;

/// What happened in an instance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// A client wants to connect: [`Action::Connect`] is waited for.
    Connect {
        client: Arc<v1::ClientProperties>,
        arguments: Vec<Value>,
        /// What the client said of itself.
        object: Value,
    },
    /// A client that was accepted before this handler was called, or without it.
    Resumed {
        client: Arc<v1::ClientProperties>,
        grant: v1::ClientGrant,
    },
    Left {
        client: ClientId,
    },
    /// A client calls. [`Action::Call`] with this number is waited for, unless it is 0.
    Call {
        client: ClientId,
        call: u64,
        name: String,
        arguments: Vec<Value>,
    },
    /// A client's answer to [`Action::CallClients`]. The error is what the client says of it.
    Answer {
        call: u64,
        result: Result<Value, Value>,
    },
    /// A client wants to publish: [`Action::Stream`] is waited for.
    Publish {
        client: ClientId,
        ask: u64,
        stream: String,
        query: String,
        mode: v1::PublishMode,
    },
    /// A client wants to play: [`Action::Stream`] is waited for.
    Play {
        client: ClientId,
        ask: u64,
        stream: String,
        query: String,
        /// Seconds, as the client has it: -2 live or recorded, -1 live.
        start: f64,
        length: f64,
    },
    Unpublished(Ended),
    Stopped(Ended),
    /// A client wants to use an object: [`Action::UseObject`] is waited for.
    UseObject {
        client: ClientId,
        ask: u64,
        object: String,
        persistent: bool,
    },
    ObjectAnswer(ObjectAnswer),
    ObjectChanged(ObjectChanged),
    /// The last one.
    Stopping(Reason),
}

/// What a client published or played has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) client: ClientId,
    pub(crate) stream: String,
    pub(crate) ask: u64,
}

/// Why an instance lets go of its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nobody is there any more.
    Unload,
    /// It ends.
    Shutdown,
    /// It goes to another origin.
    Moved,
    /// The application has another handler, or none.
    Reload,
}

/// What a handler has done with an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObjectAnswer {
    pub(crate) command: u64,
    pub(crate) result: Result<ObjectResult, ObjectFailure>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ObjectResult {
    pub(crate) slots: Vec<(String, Value)>,
    pub(crate) size: u32,
    pub(crate) version: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectFailure {
    pub(crate) code: String,
    pub(crate) description: String,
}

/// An object that the handler watches has changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObjectChanged {
    pub(crate) object: String,
    pub(crate) persistent: bool,
    pub(crate) version: u64,
    /// Who did it; none: the handler itself.
    pub(crate) client: Option<ClientId>,
    pub(crate) changes: Vec<ObjectChange>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ObjectChange {
    Set(String, Value),
    Remove(String),
    Clear,
    Send(String, Vec<Value>),
}

/// What a handler does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// What it decides; the first one.
    Hello(v1::Hooks),
    Connect {
        client: String,
        reply: ConnectReply,
    },
    /// The answer to [`Event::Call`]. The error is the information object, or a description of it.
    Call {
        call: u64,
        result: Result<Value, CallFailure>,
    },
    /// The answer to [`Event::Publish`] and [`Event::Play`].
    Stream {
        ask: u64,
        reply: StreamReply,
    },
    UseObject {
        ask: u64,
        read: bool,
        write: bool,
    },
    CallClients {
        /// Empty: all.
        clients: Vec<String>,
        /// 0: no answer is wanted.
        call: u64,
        name: String,
        arguments: Vec<Value>,
    },
    Disconnect {
        client: String,
        code: String,
        description: String,
    },
    Grant {
        client: String,
        read: Option<String>,
        write: Option<String>,
    },
    Object(ObjectCommand),
    EndStream {
        client: String,
        ask: u64,
        code: String,
        description: String,
    },
    /// Ends the instance.
    Shutdown {
        description: String,
    },
    /// Something that makes no sense, and what it was to answer.
    Nonsense {
        reason: String,
        answers: Option<Answers>,
    },
}

/// What an answer is an answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// The connect of a client.
    Connect(String),
    Number(u64),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ConnectReply {
    Accept {
        /// None: everything that the application allows.
        read: Option<String>,
        write: Option<String>,
        /// Further properties of the information object: an object.
        properties: Option<Value>,
    },
    Reject {
        description: String,
        application: Option<Value>,
        redirect: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CallFailure {
    Information(Value),
    Description(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamReply {
    /// With the name of another stream, or nothing.
    Allow(String),
    Refuse {
        code: String,
        description: String,
    },
}

/// What a handler does to a shared object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObjectCommand {
    /// 0: no answer is wanted.
    pub(crate) command: u64,
    pub(crate) object: String,
    pub(crate) persistent: bool,
    pub(crate) action: ObjectAction,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ObjectAction {
    /// Together, under one version.
    Apply(Vec<ObjectChange>),
    /// Empty: all slots.
    Get(Vec<String>),
    Size,
    Flush,
    Watch(bool),
}

/// Why a handler is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandlerError {
    #[error("the address {address} cannot be used: {reason}")]
    Address { address: String, reason: String },
    #[error("ca_file {path}: {reason}")]
    CaFile { path: String, reason: String },
    #[error("not reached: {0}")]
    Connect(String),
    #[error("its call broke: {0}")]
    Broken(String),
    #[error("it ended the call")]
    Ended,
}

/// A handler. One serves any number of instances.
#[tonic::async_trait]
pub(crate) trait Handler: Debug + Send + Sync {
    /// Attaches to an instance. Hears `events` until they end, then ends by itself, and soon; says `actions` as they come.
    ///
    /// Ends, too, when the handler is gone: whoever called it calls again. Must not go on when its future is dropped.
    async fn attach(
        &self,
        started: Started,
        events: mpsc::Receiver<Event>,
        actions: mpsc::Sender<Action>,
    ) -> HandlerError;
}
