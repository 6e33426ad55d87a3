//! Users of shared objects on one worker: admitted when the object is there, served when it changes, let go.
//!
//! A user is a place in a list. What it has got is a cursor of the mirror; what it lacks is asked of the mirror when its connection has
//! room. Updates that come while the worker walks over the users go to those that it has not reached in the same message: the busier the
//! worker, the fewer messages a change costs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use headwater_rtmp::chunk::shared_wire_form;
use headwater_rtmp::command::chunk_streams;
use headwater_rtmp::message::{Message, MessageType};
use headwater_shared_object::client::{Cursor, Dialect, Served};
use headwater_shared_object::mirror::Mirror;
use headwater_shared_object::object::{ClientId, ObjectName, Operation, Persistence, Refusal};
use headwater_shared_object::wire::{self, Encoding, Flags};

use super::Objects;
use super::shared::{Inbox, Look, SharedObject};
use crate::fanout::SharedConnection;

/// Users served between two chances for the worker's other tasks, and for the mirror's other users.
const USERS_PER_TURN: usize = 64;

/// What a user may ask for before the object is there.
const EARLY: (usize, usize) = (64, 64 << 10);

/// The objects that clients of one worker use.
pub(crate) struct LocalObjects {
    inbox: Arc<Inbox>,
    locals: RefCell<HashMap<Key, Rc<LocalObject>>>,
    /// Of what is sent to clients, in bytes.
    chunk_size: u32,
}

/// Of an object, by address: it stays where it is while it has users.
type Key = *const SharedObject;

/// An object that has users here.
pub(super) struct LocalObject {
    objects: Arc<Objects>,
    shared: Arc<SharedObject>,
    home: Rc<LocalObjects>,
    users: RefCell<Vec<Option<User>>>,
}

/// What a user needs to be told of what becomes of it.
pub(crate) trait Session {
    /// It cannot be told all that it has to be told: the connection has to be closed.
    fn lost(&self, object: &ObjectName);

    /// It was refused what another client took the object for: it is to join again with what it takes it for itself.
    fn again(&self, object: &ObjectName, waiting: Box<Waiting>);
}

struct User {
    place: Place,
    /// There was something for it, and its connection had no room.
    had_no_room: bool,
    connection: SharedConnection,
    session: Rc<dyn Session>,
}

enum Place {
    /// The object is not there yet.
    Waiting(Box<Waiting>),
    At(Cursor),
    /// It is about to join again.
    Leaving,
    /// It was told that it cannot use the object, or that it has to go.
    Over,
}

/// A user who comes.
pub(crate) struct Waiting {
    pub(super) client: ClientId,
    pub(super) asked: Option<Persistence>,
    pub(super) dialect: Dialect,
    pub(super) encoding: Encoding,
    /// What it has of an earlier use.
    pub(super) version: u32,
    flags: Flags,
    early: Vec<Early>,
    early_bytes: usize,
}

/// What a user asked for before the object was there.
enum Early {
    Wanted(u32, Vec<Operation>),
    /// It may not: it is told when it is admitted.
    Refused(Vec<Operation>, Refusal),
}

impl Waiting {
    /// Keeps what was asked for; gives it back where there is no room.
    fn keep(&mut self, early: Early) -> Result<(), Early> {
        let (Early::Wanted(_, operations) | Early::Refused(operations, _)) = &early;
        let bytes: usize = operations.iter().map(size_of_operation).sum();
        if self.early.len() >= EARLY.0 || self.early_bytes + bytes > EARLY.1 {
            return Err(early);
        }
        self.early_bytes += bytes;
        self.early.push(early);
        Ok(())
    }
}

/// A use of an object. It ends when this is dropped.
pub(super) struct Usage {
    local: Rc<LocalObject>,
    slot: usize,
}

/// What became of a request.
pub(super) enum Asked {
    Taken,
    /// The owner is slow: to be asked again when there is room.
    Busy(Vec<Operation>),
}

impl LocalObjects {
    /// None yet. Must be called on the worker: the walk is a task of its own there.
    pub(crate) fn start(chunk_size: u32) -> Rc<Self> {
        let this = Rc::new(Self {
            inbox: Arc::default(),
            locals: RefCell::default(),
            chunk_size,
        });
        let inbox = Arc::clone(&this.inbox);
        let weak = Rc::downgrade(&this);
        tokio::task::spawn_local(async move {
            loop {
                let shared = inbox.next().await;
                let Some(this) = weak.upgrade() else {
                    return;
                };
                shared.taken(&inbox);
                let local = this.locals.borrow().get(&Arc::as_ptr(&shared)).cloned();
                if let Some(local) = local {
                    local.serve_all().await;
                }
            }
        });
        this
    }

    /// Lets a client use an object: it is admitted as soon as the object is there.
    ///
    /// # Errors
    /// As [`Objects::open`].
    pub(super) fn join(
        self: &Rc<Self>,
        objects: &Arc<Objects>,
        name: &ObjectName,
        waiting: Waiting,
        connection: &SharedConnection,
        session: &Rc<dyn Session>,
    ) -> Result<Usage, Refusal> {
        let shared = objects.open(name, waiting.asked)?;
        let key = Arc::as_ptr(&shared);
        let local = Rc::clone(self.locals.borrow_mut().entry(key).or_insert_with(|| {
            shared.listen(&self.inbox);
            Rc::new(LocalObject {
                objects: Arc::clone(objects),
                shared,
                home: Rc::clone(self),
                users: RefCell::default(),
            })
        }));
        let user = User {
            place: Place::Waiting(Box::new(waiting)),
            had_no_room: false,
            connection: Rc::clone(connection),
            session: Rc::clone(session),
        };
        let slot = {
            let mut users = local.users.borrow_mut();
            match users.iter().position(Option::is_none) {
                Some(slot) => {
                    users[slot] = Some(user);
                    slot
                }
                None => {
                    users.push(Some(user));
                    users.len() - 1
                }
            }
        };
        objects.meters().users.inc();
        local.serve(slot);
        Ok(Usage { local, slot })
    }
}

impl Waiting {
    pub(super) fn new(client: ClientId, flags: Flags, encoding: Encoding, version: u32) -> Self {
        Self {
            client,
            asked: Dialect::persistence(flags),
            dialect: Dialect::of(flags),
            encoding,
            version,
            flags,
            early: Vec::new(),
            early_bytes: 0,
        }
    }

    pub(super) fn flags(&self) -> Flags {
        self.flags
    }
}

impl Usage {
    /// Gives the client what it lacks, if its connection has room.
    pub(super) fn serve(&self) {
        self.local.serve(self.slot);
    }

    /// What it wants to be done, in its message of that version.
    pub(super) fn request(&self, version: u32, operations: Vec<Operation>) -> Asked {
        // The object may have come, and the walk not got to this user.
        self.admit();
        let mut users = self.local.users.borrow_mut();
        let Some(User { place, .. }) = users.get_mut(self.slot).and_then(Option::as_mut) else {
            return Asked::Taken;
        };
        let cursor = match place {
            Place::At(cursor) => cursor,
            Place::Over => return Asked::Taken,
            Place::Leaving => return Asked::Busy(operations),
            Place::Waiting(waiting) => {
                return match waiting.keep(Early::Wanted(version, operations)) {
                    Ok(()) => Asked::Taken,
                    Err(Early::Wanted(_, operations) | Early::Refused(operations, _)) => {
                        Asked::Busy(operations)
                    }
                };
            }
        };
        let outcome = self.local.shared.look(|look| match look {
            Look::Open(mirror) => ask(mirror, cursor, version, operations),
            // It is about to be told so.
            Look::Opening | Look::Refused(..) => Asked::Taken,
        });
        drop(users);
        if matches!(outcome, Asked::Taken) {
            self.local.objects.queue(&self.local.shared);
        }
        outcome
    }

    fn admit(&self) {
        let is_waiting = {
            let users = self.local.users.borrow();
            let user = users.get(self.slot).and_then(Option::as_ref);
            user.is_some_and(|user| matches!(user.place, Place::Waiting(_)))
        };
        if is_waiting {
            self.local.serve(self.slot);
        }
    }

    /// Refuses what it wants to be done.
    pub(super) fn refuse(&self, operations: &[Operation], refusal: &Refusal) {
        let mut users = self.local.users.borrow_mut();
        let user = users.get_mut(self.slot).and_then(Option::as_mut);
        match user.map(|user| &mut user.place) {
            Some(Place::At(cursor)) => self.local.shared.look(|look| {
                if let Look::Open(mirror) = look {
                    mirror.refuse(cursor, operations, refusal);
                }
            }),
            Some(Place::Waiting(waiting)) => {
                // Beyond what is kept it hears nothing: it has asked for a lot, and may do none of it.
                let _ = waiting.keep(Early::Refused(operations.to_vec(), refusal.clone()));
            }
            Some(Place::Leaving | Place::Over) | None => {}
        }
        drop(users);
        self.local.objects.meters().refused.inc();
        self.local.serve(self.slot);
    }

    /// Completes when there may be room for more requests.
    pub(super) fn room(&self) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.local.shared);
        async move { shared.room().await }
    }

    /// Whether it was told that it cannot use the object.
    pub(super) fn is_over(&self) -> bool {
        let users = self.local.users.borrow();
        let user = users.get(self.slot).and_then(Option::as_ref);
        user.is_none_or(|user| matches!(user.place, Place::Over))
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        let local = &self.local;
        let (user, is_last) = {
            let mut users = local.users.borrow_mut();
            let user = users.get_mut(self.slot).and_then(Option::take);
            while matches!(users.last(), Some(None)) {
                users.pop();
            }
            (user, users.is_empty())
        };
        local.objects.meters().users.dec();
        if is_last {
            let key = Arc::as_ptr(&local.shared);
            let removed = local.home.locals.borrow_mut().remove(&key);
            if removed.is_some() {
                local.shared.leave(&local.home.inbox);
            }
        }
        // What a client has asked for is done, also when it is gone.
        drop(user);
    }
}

fn size_of_operation(operation: &Operation) -> usize {
    64 + match operation {
        Operation::Set { name, value } => name.len() + value.as_bytes().len(),
        Operation::Remove { name } => name.len(),
        Operation::Clear => 0,
        Operation::Send { arguments } => arguments.as_bytes().len(),
    }
}

fn ask(
    mirror: &mut Mirror,
    cursor: &mut Cursor,
    version: u32,
    operations: Vec<Operation>,
) -> Asked {
    match mirror.request(cursor, version, operations.clone()) {
        Ok(_) => Asked::Taken,
        Err(_) => Asked::Busy(operations),
    }
}

/// Bodies for one user.
enum Given {
    Nothing,
    Bodies(Encoding, Vec<Bytes>),
    Refused(Box<Waiting>, Refusal),
    /// Refused for what another one took the object for.
    Again(Box<Waiting>),
    Lost,
}

/// The wire form of the body that was made last: users who get the same body get the same bytes.
#[derive(Default)]
struct Form(Option<(Bytes, Bytes)>);

impl Form {
    fn of(&mut self, encoding: Encoding, body: Bytes, chunk_size: u32) -> Bytes {
        if let Some((made_of, form)) = &self.0
            && made_of.as_ptr() == body.as_ptr()
            && made_of.len() == body.len()
        {
            return form.clone();
        }
        let message = Message {
            kind: MessageType(encoding.message_type()),
            timestamp: 0,
            stream_id: 0,
            payload: body.clone(),
        };
        let form = shared_wire_form(chunk_streams::SHARED_OBJECT, &message, chunk_size).bytes;
        self.0 = Some((body, form.clone()));
        form
    }
}

impl LocalObject {
    /// Serves every user that has room, some at a time.
    async fn serve_all(&self) {
        let mut form = Form::default();
        let mut slot = 0;
        loop {
            let end = slot + USERS_PER_TURN;
            if !self.serve_some(slot..end, &mut form) {
                return;
            }
            slot = end;
            tokio::task::yield_now().await;
        }
    }

    fn serve(&self, slot: usize) {
        self.serve_some(slot..slot + 1, &mut Form::default());
    }

    /// Serves the users of these slots. Gives whether there are more behind them.
    fn serve_some(&self, slots: Range<usize>, form: &mut Form) -> bool {
        let from = slots.start;
        let mut given = Vec::new();
        let more = {
            let mut users = self.users.borrow_mut();
            let more = users.len() > slots.end;
            let end = slots.end.min(users.len());
            let some = users.get_mut(from..end).unwrap_or_default();
            self.shared.look(|mut look| {
                for (offset, user) in some.iter_mut().enumerate() {
                    let Some(user) = user else {
                        continue;
                    };
                    if !user.connection.borrow_mut().has_room_for_objects() {
                        user.had_no_room = true;
                        continue;
                    }
                    match Self::give(user, &mut look) {
                        Given::Nothing => {}
                        something => given.push((from + offset, something)),
                    }
                }
            });
            more
        };
        for (slot, given) in given {
            self.hand_over(slot, given, form);
        }
        more
    }

    /// What a user gets now.
    fn give(user: &mut User, look: &mut Look<'_>) -> Given {
        match (&mut user.place, look) {
            (Place::Over | Place::Leaving, _) | (Place::Waiting(_), Look::Opening) => {
                Given::Nothing
            }
            // It was there before: it will be there again.
            (Place::At(_), Look::Opening) => Given::Nothing,
            (Place::At(cursor), Look::Open(mirror)) => {
                let encoding = cursor.encoding();
                // Changes of a slot are merged for one that is behind, and for nobody else.
                let served = if std::mem::take(&mut user.had_no_room) {
                    mirror.serve(cursor)
                } else {
                    mirror.serve_each(cursor)
                };
                match served {
                    Served::Nothing => Given::Nothing,
                    Served::One(body) => Given::Bodies(encoding, vec![body]),
                    Served::Several(bodies) => Given::Bodies(encoding, bodies),
                    Served::Lost => {
                        user.place = Place::Over;
                        Given::Lost
                    }
                }
            }
            (Place::At(cursor), Look::Refused(refusal, asked)) => {
                let waiting = Waiting {
                    client: cursor.client(),
                    asked: None,
                    dialect: cursor.dialect(),
                    encoding: cursor.encoding(),
                    version: 0,
                    flags: Flags(match (cursor.dialect(), asked) {
                        (Dialect::Proxy, _) => Flags::PROXY,
                        (Dialect::Player, Some(Persistence::Persistent)) => Flags::PERSISTENT,
                        (Dialect::Player, _) => 0,
                    }),
                    early: Vec::new(),
                    early_bytes: 0,
                };
                user.place = Place::Over;
                Given::Refused(Box::new(waiting), refusal.clone())
            }
            (place @ Place::Waiting(_), look) => {
                let Place::Waiting(mut waiting) = std::mem::replace(place, Place::Over) else {
                    return Given::Nothing;
                };
                match look {
                    Look::Open(mirror) => {
                        let other = |asked| asked != mirror.persistence();
                        if waiting.asked.is_some_and(other) {
                            return Given::Refused(waiting, Refusal::BadPersistence);
                        }
                        let (mut cursor, bodies) = mirror.admit(
                            waiting.client,
                            waiting.dialect,
                            waiting.encoding,
                            waiting.version,
                        );
                        for early in std::mem::take(&mut waiting.early) {
                            let (operations, refusal) = match early {
                                Early::Refused(operations, refusal) => (operations, refusal),
                                Early::Wanted(version, operations) => {
                                    match ask(mirror, &mut cursor, version, operations) {
                                        Asked::Taken => continue,
                                        Asked::Busy(operations) => (operations, Refusal::Busy),
                                    }
                                }
                            };
                            mirror.refuse(&mut cursor, &operations, &refusal);
                        }
                        *place = Place::At(cursor);
                        Given::Bodies(waiting.encoding, bodies)
                    }
                    Look::Refused(Refusal::BadPersistence, asked) if waiting.asked != *asked => {
                        *place = Place::Leaving;
                        Given::Again(waiting)
                    }
                    Look::Refused(refusal, _) => Given::Refused(waiting, refusal.clone()),
                    Look::Opening => Given::Nothing,
                }
            }
        }
    }

    fn hand_over(&self, slot: usize, given: Given, form: &mut Form) {
        let (connection, session) = {
            let users = self.users.borrow();
            let Some(Some(user)) = users.get(slot) else {
                return;
            };
            (Rc::clone(&user.connection), Rc::clone(&user.session))
        };
        match given {
            Given::Nothing => {}
            Given::Bodies(encoding, bodies) => {
                let was_admitted = !bodies.is_empty();
                for body in bodies {
                    let form = form.of(encoding, body, self.home.chunk_size);
                    connection.borrow_mut().send_object(form);
                    self.objects.meters().served.inc();
                }
                if was_admitted && self.shared_has_requests() {
                    self.objects.queue(&self.shared);
                }
            }
            Given::Refused(waiting, refusal) => {
                let chunk_size = self.home.chunk_size;
                let form = refusal_form(self.shared.name(), &waiting, &refusal, chunk_size);
                connection.borrow_mut().send_object(form);
                self.objects.meters().refused.inc();
            }
            Given::Again(waiting) => session.again(self.shared.name(), waiting),
            Given::Lost => {
                self.objects.meters().lost.inc();
                session.lost(self.shared.name());
            }
        }
    }

    fn shared_has_requests(&self) -> bool {
        self.shared.has_more_to_say()
    }
}

/// The wire form of what tells a client that it cannot use an object.
pub(super) fn refusal_form(
    name: &ObjectName,
    waiting: &Waiting,
    refusal: &Refusal,
    chunk_size: u32,
) -> Bytes {
    let flags = Dialect::status_flags(waiting.flags);
    let body = wire::status(waiting.encoding, name, flags, refusal);
    Form::default().of(waiting.encoding, body, chunk_size)
}
