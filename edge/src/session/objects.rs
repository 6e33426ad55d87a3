//! Shared objects of one client: its messages, and what becomes of them.
//!
//! The session decodes a message and hands it to [`Uses`]; what the client gets is written by the worker's walk or, when its connection
//! had no room, by the session when it has. A client that asks for more than the owner takes waits, and nobody else does.

use super::*;

use headwater_proto::v1;
use headwater_rtmp::command::ObjectEncoding;
use headwater_rtmp::message::{Message, MessageType};
use headwater_shared_object::object::{ClientId, ObjectName, Refusal};
use headwater_shared_object::wire::{self, DecodeLimits, Encoding, Event, WireError};

use crate::application::attachment::{Attachment, Said};
use crate::application::objects::local::{Session as Told, Waiting};
use crate::application::objects::uses::{Client, Outcome, Question as Asks, Uses};

/// How long a message of a client waits for an owner that is slow, before what it asks for is refused.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is looked for room at least.
const ROOM_STEP: Duration = Duration::from_millis(100);

/// Messages of a client that make no sense, after which it is closed.
const MAX_MALFORMED: u32 = 32;

/// Questions of a client whether it may use an object.
const MAX_ASKED: usize = 1_024;

/// The objects of a client.
pub(super) struct Objects {
    attachment: Attachment,
    client: u64,
    told: Rc<dyn Told>,
    /// Objects that the client has to join again.
    again: Again,
    uses: Uses,
    asked: Vec<(u64, Asks)>,
    malformed: u32,
}

type Again = Rc<RefCell<Vec<(ObjectName, Box<Waiting>)>>>;

/// Puts notes before the session.
struct Notifier(Teller, Again);

impl Told for Notifier {
    fn lost(&self, object: &ObjectName) {
        self.0.tell(Note::ObjectLost(object.clone()));
    }

    fn again(&self, object: &ObjectName, waiting: Box<Waiting>) {
        // The session may be in the middle of a message, and not get to its notes before it needs this.
        self.1.borrow_mut().push((object.clone(), waiting));
        self.0.tell(Note::ObjectAgain);
    }
}

impl Session {
    /// Takes a shared object message of the client.
    pub(super) async fn shared_object(&mut self, message: Message) {
        let limits = DecodeLimits::default();
        let decoded = match message.kind {
            MessageType::SHARED_OBJECT_AMF3 => wire::decode_amf3(&message.payload, limits),
            _ => wire::decode(&message.payload, limits),
        };
        if self.closing || self.open_objects().is_none() {
            return;
        }
        match decoded {
            Ok(message) => {
                if self.is_asking(&message) {
                    return;
                }
                let outcome = self.with_uses(|uses, client| uses.take(client, message));
                self.object_outcome(outcome).await;
            }
            Err(error) => self.malformed_object(&error),
        }
    }

    /// Whether the handler is being asked about the object of a message, which then waits for the answer.
    fn is_asking(&mut self, message: &wire::Message) -> bool {
        let Some(objects) = self.objects.as_deref_mut() else {
            return false;
        };
        let asked = objects.asked.iter();
        let Some(place) = asked.rev().position(|(_, it)| it.name == message.name) else {
            return false;
        };
        let place = objects.asked.len() - 1 - place;
        let releases = message.events.contains(&Event::Release);
        if message.events.contains(&Event::Use) || releases {
            // The answer to the old question is for nobody any more.
            objects.asked.remove(place);
            return releases;
        }
        let Some((_, question)) = objects.asked.get_mut(place) else {
            return false;
        };
        if !question.keep(message) {
            objects.attachment.objects().meters().ignored.inc();
        }
        true
    }

    fn open_objects(&mut self) -> Option<&mut Objects> {
        let application = self.application.as_ref()?;
        if self.objects.is_none() {
            let name = InstanceName::new(
                application.known.vhost(),
                application.name(),
                &application.instance,
            );
            let attachments = &self.worker.shared.attachments;
            let attachment = attachments.of(&name.ok()?);
            let client = match &self.attached {
                Some(attached) => attached.client(),
                None => attachments.new_client().0,
            };
            let again = Again::default();
            self.objects = Some(Box::new(Objects {
                attachment,
                client,
                told: Rc::new(Notifier(self.notes.teller(), Rc::clone(&again))),
                again,
                uses: Uses::default(),
                asked: Vec::new(),
                malformed: 0,
            }));
        }
        self.objects.as_deref_mut()
    }

    /// Does something with the client's objects. `None`: it has none, or no application.
    fn with_uses<T>(&mut self, act: impl FnOnce(&mut Uses, &Client<'_>) -> T) -> Option<T> {
        let objects = self.objects.as_deref_mut()?;
        let policy = self.application.as_ref()?.policy();
        let shared = &policy.shared_objects;
        let known = objects.attachment.objects();
        known.set_policy(shared);
        let attached = self.attached.as_ref();
        let grant = attached.and_then(|attached| attached.grant.as_ref());
        let client = Client {
            objects: known,
            local: &self.worker.objects,
            connection: &self.connection,
            session: &objects.told,
            id: ClientId(objects.client),
            encoding: match self.core.object_encoding() {
                ObjectEncoding::Amf0 => Encoding::Amf0,
                ObjectEncoding::Amf3 => Encoding::Amf3,
            },
            most: shared.max_objects_per_client,
            read_access: grant.map_or(&policy.read_access, |grant| &grant.read_access),
            write_access: grant.map_or(&policy.write_access, |grant| &grant.write_access),
            is_asked: attached.is_some() && objects.attachment.hooks_use_object(),
            chunk_size: self.worker.shared.config.rtmp.chunk_bytes,
        };
        for (name, waiting) in objects.again.take() {
            objects.uses.again(&client, &name, *waiting);
        }
        Some(act(&mut objects.uses, &client))
    }

    async fn object_outcome(&mut self, outcome: Option<Outcome>) {
        let mut rest = match outcome {
            None | Some(Outcome::Done) => return,
            Some(Outcome::Ask(asks)) => return self.ask_for_object(asks).await,
            Some(Outcome::Busy(rest)) => rest,
        };
        let until = tokio::time::Instant::now() + ROOM_TIMEOUT;
        loop {
            let room = self.objects.as_ref().and_then(|it| it.uses.room(&rest));
            let Some(room) = room else {
                return;
            };
            // Looked at again now and then: room that comes before this waits is not told.
            let step = tokio::time::Instant::now() + ROOM_STEP;
            let _ = tokio::time::timeout_at(step.min(until), room).await;
            let is_late = tokio::time::Instant::now() >= until;
            match self.with_uses(|uses, client| uses.retry(client, rest)) {
                Some(Outcome::Busy(again)) if is_late => {
                    info!(object = %again.name, "the owner of a shared object takes no more: a change is refused");
                    if let Some(objects) = &mut self.objects {
                        objects.uses.give_up(&again);
                    }
                    return;
                }
                Some(Outcome::Busy(again)) => rest = again,
                _ => return,
            }
        }
    }

    async fn ask_for_object(&mut self, asks: Asks) {
        let (Some(objects), Some(attached)) = (&mut self.objects, &mut self.attached) else {
            return;
        };
        if objects.asked.len() >= MAX_ASKED {
            self.with_uses(|_, client| Uses::refuse(client, &asks, &Refusal::Busy));
            return;
        }
        let ask = v1::AskObject {
            client: objects.client,
            ask: attached.number(),
            object: asks.name.as_str().to_owned(),
            persistent: asks.persistent(),
        };
        objects.asked.push((ask.ask, asks));
        let said = Said::UseObject(Box::new(ask), attached.patience());
        attached.say(said).await;
    }

    /// The application has decided whether the client may use an object.
    pub(super) async fn object_decided(&mut self, decision: &v1::ObjectDecision) {
        let Some(objects) = &mut self.objects else {
            return;
        };
        let Some(place) = (objects.asked.iter()).position(|(ask, _)| *ask == decision.ask) else {
            return;
        };
        let (_, asks) = objects.asked.swap_remove(place);
        let (may_read, may_write) = (decision.may_read, decision.may_write);
        let outcome =
            self.with_uses(|uses, client| uses.decided(client, asks, may_read, may_write));
        self.object_outcome(outcome).await;
    }

    /// The client has to join objects again.
    pub(super) fn objects_again(&mut self) {
        self.with_uses(|_, _| ());
    }

    /// What the client may do has changed.
    pub(super) fn objects_granted(&mut self) {
        self.with_uses(|uses, client| uses.set_access(client.read_access, client.write_access));
    }

    /// The connection has room again.
    pub(super) fn serve_objects(&mut self) {
        if let Some(objects) = &mut self.objects {
            objects.uses.serve();
        }
    }

    /// The client is so far behind that it cannot be told all that it has to be told.
    pub(super) fn object_lost(&mut self, name: &ObjectName) {
        info!(object = %name, "a client that takes its messages too slowly is closed");
        let status = Status::new(StatusCode::ConnectClosed)
            .describe("The client takes the messages of a shared object too slowly.");
        let outcome = self.core.close(&status);
        self.note_failure(outcome);
    }

    fn malformed_object(&mut self, error: &WireError) {
        debug!(%error, "a shared object message makes no sense");
        let Some(objects) = &mut self.objects else {
            return;
        };
        objects.attachment.objects().meters().malformed.inc();
        objects.malformed += 1;
        // There may be no name to say it of.
        let status = Status::new(StatusCode::CallBadVersion).describe(error.to_string());
        let outcome = if objects.malformed < MAX_MALFORMED {
            self.core.status(0, status)
        } else {
            info!(%error, "a client whose shared object messages make no sense is closed");
            self.core.close(&status)
        };
        self.note_failure(outcome);
    }
}
