//! Clients of application instances, as their origins know them.
//!
//! ```text
//!  session --- Said ---> attachment ----- Attach -----> origin that owns the instance
//!  session <-- room <--- Told ------ <----
//! ```
//! One attachment for each instance that some client of this edge needs at its origin: a task on the process's shared runtime that holds
//! the call of all of them ([`task`]), around a core that knows who is there and what waits for an answer ([`core`]). Sessions say things
//! through an [`Attachment`]; what comes for them goes to the [`Room`](super::room) of their worker, one message for all of a worker.
//!
//! # Invariants
//! - What one client says reaches the origin in its order. A session that says more than the call takes waits; nobody else does.
//! - When a call breaks, calls that are under way fail; everything else is asked or said again at the owner of then: who is there, who
//!   is pending, who waits to publish or play.
//! - An attachment ends some time after its last client, and not while a session holds it.
//!
//! Shared objects of an instance pass through its attachment, too, and not through its core: they know by themselves what is to be said
//! again, and who is to be told (see [`objects`](super::objects)).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use headwater_media::name::InstanceName;
use headwater_proto::v1;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use headwater_application::SharedObjectsSection;

use super::objects::Objects;
use crate::edge::Tasks;
use crate::upstream::Upstream;

mod core;
mod open;
mod task;

/// Messages of sessions that an attachment has not taken yet. A session beyond that waits.
const SAID: usize = 64;

/// Messages that a worker has not taken yet. It takes them as they come.
const TOLD: usize = 1_024;

/// What a session says to an origin. Clients are named by their numbers, which are never used twice in a process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// It wants to connect; and how long the application may leave it pending.
    Connect {
        /// The number of its worker.
        worker: usize,
        connect: Box<v1::ClientConnect>,
        patience: Duration,
    },
    /// It has left, or was never let in.
    Gone {
        client: u64,
    },
    Call(Box<v1::ClientCall>),
    /// The answer to a call that came in the attachment's call of this number.
    Answer {
        link: u64,
        answer: Box<v1::ClientAnswer>,
    },
    /// It wants to publish, and how long it may be waited for an answer.
    Publish(Box<v1::AskPublish>, Duration),
    /// It wants to play, likewise.
    Play(Box<v1::AskPlay>, Duration),
    Unpublished(Box<v1::StreamEnded>),
    Stopped(Box<v1::StreamEnded>),
    /// It wants to use a shared object, likewise.
    UseObject(Box<v1::AskObject>, Duration),
}

/// What clients of one worker are told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    /// The number of the attachment.
    pub(crate) attachment: u64,
    pub(crate) to: To,
    pub(crate) what: What,
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// All clients of the instance that are let in.
    All,
    /// These.
    Some(Vec<u64>),
}

/// See [`Told`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    Accepted(v1::ConnectAccepted),
    Refused(Refusal),
    /// The client is to go.
    End(v1::EndClient),
    /// A method of the client is called; in the attachment's call of this number.
    Call(Called),
    /// A call of the client is answered.
    Answer(v1::CallAnswer),
    /// A call of the client has failed on its way.
    Lost {
        call: u64,
        why: &'static str,
    },
    /// Whether it may publish or play.
    Stream(v1::StreamDecision),
    /// Whether it may use a shared object.
    Object(v1::ObjectDecision),
    /// What it may do from now on.
    Granted(v1::ClientGrant),
    EndStream(v1::EndStream),
    /// The instance ends, and with it all its clients.
    Ended(v1::InstanceEnded),
}

/// A call to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) link: u64,
    /// 0: no answer is wanted.
    pub(crate) call: u64,
    pub(crate) name: String,
    pub(crate) arguments: Bytes,
}

/// Why a client was not let in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    /// The application says so.
    Rejected(v1::ConnectRejected),
    /// The owner of the instance was not reached.
    NoOwner,
    /// The application has not decided in time.
    NoAnswer,
}

/// What an application wants to be asked, as its origin said last.
#[derive(Debug, Default)]
struct Hooks(AtomicU8);

const PUBLISH: u8 = 1;
const PLAY: u8 = 2;
const CALL: u8 = 4;
const USE_OBJECT: u8 = 8;

impl Hooks {
    fn set(&self, hooks: &v1::Hooks) {
        let bits = [
            (hooks.publish, PUBLISH),
            (hooks.play, PLAY),
            (hooks.call, CALL),
            (hooks.use_object, USE_OBJECT),
        ];
        let set = bits.iter().filter(|(is_wanted, _)| *is_wanted);
        let set = set.fold(0, |all, (_, bit)| all | bit);
        self.0.store(set, Ordering::Relaxed);
    }

    fn has(&self, bit: u8) -> bool {
        self.0.load(Ordering::Relaxed) & bit != 0
    }
}

/// The way to the origin of an instance. It stays for as long as somebody holds this.
#[derive(Clone)]
pub(crate) struct Attachment {
    number: u64,
    said: mpsc::Sender<Said>,
    hooks: Arc<Hooks>,
    objects: Arc<Objects>,
}

impl Attachment {
    /// Tells it from others in [`Told`].
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn hooks_publish(&self) -> bool {
        self.hooks.has(PUBLISH)
    }

    pub(crate) fn hooks_play(&self) -> bool {
        self.hooks.has(PLAY)
    }

    pub(crate) fn hooks_call(&self) -> bool {
        self.hooks.has(CALL)
    }

    pub(crate) fn hooks_use_object(&self) -> bool {
        self.hooks.has(USE_OBJECT)
    }

    /// The shared objects of the instance.
    pub(crate) fn objects(&self) -> &Arc<Objects> {
        &self.objects
    }

    /// Says something; waits where too much was said already. `false`: the process stops.
    pub(crate) async fn say(&self, said: Said) -> bool {
        self.said.send(said).await.is_ok()
    }

    /// As [`Self::say`], for somebody who cannot wait: gives back what has no room.
    fn try_say(&self, said: Said) -> Result<(), Said> {
        match self.said.try_send(said) {
            Err(mpsc::error::TrySendError::Full(said)) => Err(said),
            // Nobody is there to hear it, or it was said.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}

/// The attachments of this edge. Clones share them.
#[derive(Clone)]
pub(crate) struct Attachments(Arc<Shared>);

struct Shared {
    upstream: Arc<Upstream>,
    tasks: Tasks,
    /// To the workers.
    told: Vec<mpsc::Sender<Told>>,
    table: Mutex<HashMap<InstanceName, Attachment>>,
    /// Of this process.
    incarnation: u64,
    /// No clients come any more.
    draining: CancellationToken,
    attachments: AtomicU64,
    clients: AtomicU64,
}

impl Attachments {
    /// And for each worker what comes for its clients.
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        tasks: Tasks,
        workers: usize,
        draining: CancellationToken,
    ) -> (Self, Vec<mpsc::Receiver<Told>>) {
        let (told, receivers) = (0..workers).map(|_| mpsc::channel(TOLD)).unzip();
        let attachments = Self(Arc::new(Shared {
            upstream,
            tasks,
            told,
            table: Mutex::default(),
            incarnation: rand::random(),
            draining,
            attachments: AtomicU64::new(0),
            clients: AtomicU64::new(0),
        }));
        (attachments, receivers)
    }

    /// A number for a client, and what the cluster knows it by.
    pub(crate) fn new_client(&self) -> (u64, String) {
        let number = self.0.clients.fetch_add(1, Ordering::Relaxed) + 1;
        (number, format!("{:016x}{number:x}", self.0.incarnation))
    }

    /// The attachment of an instance, which is begun if there is none.
    pub(crate) fn of(&self, name: &InstanceName) -> Attachment {
        let mut table = self.0.table.lock();
        if let Some(attachment) = table.get(name) {
            return attachment.clone();
        }
        let (said, receiver) = mpsc::channel(SAID);
        let attachment = Attachment {
            number: self.0.attachments.fetch_add(1, Ordering::Relaxed),
            said,
            hooks: Arc::default(),
            objects: Objects::new(
                self.0.incarnation,
                SharedObjectsSection::default(),
                self.0.upstream.metrics.objects.clone(),
            ),
        };
        table.insert(name.clone(), attachment.clone());
        drop(table);
        let task = task::run(self.clone(), name.clone(), &attachment, receiver);
        self.0.tasks.spawn(Box::pin(task));
        attachment
    }

    /// Ends a client's stay. The client has said everything before this.
    pub(crate) fn leave(&self, attachment: &Attachment, client: u64) {
        if let Err(said) = attachment.try_say(Said::Gone { client }) {
            let attachment = attachment.clone();
            // As many as there were clients; each is done when the attachment has taken what waits.
            self.0.tasks.spawn(async move {
                attachment.say(said).await;
            });
        }
    }

    /// Ends an attachment that nobody holds but the table.
    fn end_if_unused(&self, name: &InstanceName, said: &mpsc::Receiver<Said>) -> bool {
        let mut table = self.0.table.lock();
        // With the table locked nobody gets another one.
        let is_unused = said.is_empty() && said.sender_strong_count() <= 1;
        if is_unused {
            table.remove(name);
        }
        is_unused
    }
}
