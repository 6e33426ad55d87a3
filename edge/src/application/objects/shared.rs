//! One shared object at this edge: its mirror, the workers that have users of it, and what is to be said of it to the owner.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use headwater_application::wire;
use headwater_proto::v1;
use headwater_proto::v1::attach_request::Request as Say;
use headwater_shared_object::mirror::{Mirror, MirrorLimits, OutOfStep};
use headwater_shared_object::object::{EdgeIncarnation, ObjectName, Persistence, Refusal};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A worker's list of objects that have something for its users.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    objects: Mutex<VecDeque<Arc<SharedObject>>>,
    news: Notify,
}

impl Inbox {
    fn push(&self, object: Arc<SharedObject>) {
        self.objects.lock().push_back(object);
        self.news.notify_one();
    }

    /// The next object with news; waits for one. Losing the future loses nothing.
    pub(super) async fn next(&self) -> Arc<SharedObject> {
        loop {
            if let Some(object) = self.objects.lock().pop_front() {
                return object;
            }
            self.news.notified().await;
        }
    }
}

/// An object. Workers and the attachment of the instance share it.
#[derive(Debug)]
pub(crate) struct SharedObject {
    name: ObjectName,
    edge: EdgeIncarnation,
    limits: MirrorLimits,
    inner: Mutex<Inner>,
    /// Clients wait here until the owner has answered some of what waits for it.
    room: Notify,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// What the first user takes it for.
    asked: Option<Persistence>,
    listeners: Vec<Listener>,
    /// Since when nobody uses it.
    idle_since: Option<Instant>,
    /// It stands in the queue of objects of which something is to be said.
    queued: bool,
    wants_use: bool,
    wants_release: bool,
    /// The owner of now has told the state: requests may go to it.
    in_step: bool,
    /// The last request that went to the owner of now.
    sent: u64,
    /// The newest repeat that went to this owner.
    repeated: u64,
    /// Pieces of the whole object, which the owner wants.
    pieces: VecDeque<v1::ObjectState>,
}

#[derive(Debug)]
enum Phase {
    /// The owner has not told anything yet.
    Opening,
    Open(Box<Mirror>),
    Refused(Refusal),
}

#[derive(Debug)]
struct Listener {
    inbox: Arc<Inbox>,
    /// It stands in the inbox.
    told: bool,
}

/// What is known of an object.
#[cfg(test)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) version: u64,
    pub(super) slots: Vec<(String, Vec<u8>)>,
    pub(super) unanswered: usize,
}

/// How an object is for a user who comes.
pub(super) enum Look<'a> {
    Opening,
    Open(&'a mut Mirror),
    /// And what it was opened as.
    Refused(Refusal, Option<Persistence>),
}

impl SharedObject {
    pub(super) fn new(
        name: ObjectName,
        asked: Option<Persistence>,
        edge: EdgeIncarnation,
        limits: MirrorLimits,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            edge,
            limits,
            inner: Mutex::new(Inner {
                phase: Phase::Opening,
                asked,
                listeners: Vec::new(),
                // A user who opens it and is gone before it listens leaves it behind.
                idle_since: Some(Instant::now()),
                queued: false,
                wants_use: false,
                wants_release: false,
                in_step: false,
                sent: 0,
                repeated: 0,
                pieces: VecDeque::new(),
            }),
            room: Notify::new(),
        })
    }

    pub(super) fn name(&self) -> &ObjectName {
        &self.name
    }

    /// What it is, or is asked to be; `None` while nobody has said it.
    pub(super) fn known_persistence(&self) -> Option<Persistence> {
        match &self.inner.lock().phase {
            Phase::Open(mirror) => Some(mirror.persistence()),
            Phase::Opening | Phase::Refused(_) => None,
        }
    }

    /// Looks at it. The lock is held meanwhile: not for long.
    pub(super) fn look<T>(&self, look: impl FnOnce(Look<'_>) -> T) -> T {
        let inner = &mut *self.inner.lock();
        match &mut inner.phase {
            Phase::Opening => look(Look::Opening),
            Phase::Open(mirror) if mirror.is_ready() => look(Look::Open(mirror)),
            Phase::Open(_) => look(Look::Opening),
            Phase::Refused(refusal) => look(Look::Refused(refusal.clone(), inner.asked)),
        }
    }

    /// Completes when there may be room for more requests.
    pub(super) async fn room(&self) {
        self.room.notified().await;
    }

    /// A worker has users of it.
    pub(super) fn listen(self: &Arc<Self>, inbox: &Arc<Inbox>) {
        let mut inner = self.inner.lock();
        inner.idle_since = None;
        if !(inner.listeners.iter()).any(|it| Arc::ptr_eq(&it.inbox, inbox)) {
            inner.listeners.push(Listener {
                inbox: Arc::clone(inbox),
                told: false,
            });
        }
    }

    /// It has none any more.
    pub(super) fn leave(&self, inbox: &Arc<Inbox>) {
        let mut inner = self.inner.lock();
        (inner.listeners).retain(|it| !Arc::ptr_eq(&it.inbox, inbox));
        if inner.listeners.is_empty() {
            inner.idle_since = Some(Instant::now());
        }
    }

    /// The worker has taken it out of its inbox, and looks at it now.
    pub(super) fn taken(&self, inbox: &Arc<Inbox>) {
        let mut inner = self.inner.lock();
        let listener = inner.listeners.iter_mut();
        for listener in listener.filter(|it| Arc::ptr_eq(&it.inbox, inbox)) {
            listener.told = false;
        }
    }

    fn tell(self: &Arc<Self>, inner: &mut Inner) {
        for listener in inner.listeners.iter_mut().filter(|it| !it.told) {
            listener.told = true;
            listener.inbox.push(Arc::clone(self));
        }
    }

    /// Somebody is about to listen to it.
    pub(super) fn touch(&self) {
        let mut inner = self.inner.lock();
        if inner.idle_since.is_some() {
            inner.idle_since = Some(Instant::now());
        }
    }

    /// Nobody uses it, and nothing waits for an answer.
    pub(super) fn is_idle(&self, now: Instant, linger: Duration) -> bool {
        let inner = self.inner.lock();
        let unanswered = match &inner.phase {
            Phase::Open(mirror) => {
                let waiting = mirror.unanswered();
                let mut waiting = waiting.chain(mirror.repeats_after(inner.repeated));
                waiting.next().is_some()
            }
            Phase::Opening | Phase::Refused(_) => false,
        };
        let idle = |since| now.saturating_duration_since(since) >= linger;
        inner.idle_since.is_some_and(idle) && !unanswered
    }

    pub(super) fn mark_queued(&self) -> bool {
        !std::mem::replace(&mut self.inner.lock().queued, true)
    }

    pub(super) fn unmark_queued(&self) {
        self.inner.lock().queued = false;
    }

    pub(super) fn say_use(&self) {
        let mut inner = self.inner.lock();
        inner.wants_use = true;
        inner.in_step = false;
        inner.sent = 0;
        inner.repeated = 0;
    }

    pub(super) fn say_release(&self) {
        let mut inner = self.inner.lock();
        inner.wants_use = false;
        inner.wants_release = true;
    }

    /// The owner is gone.
    pub(super) fn detached(&self) {
        let mut inner = self.inner.lock();
        inner.wants_use = false;
        inner.wants_release = false;
        inner.in_step = false;
        inner.sent = 0;
        inner.repeated = 0;
        inner.pieces = VecDeque::new();
        if let Phase::Open(mirror) = &mut inner.phase {
            mirror.handle_disconnect();
        }
    }

    /// What there is to say next. The object has been taken out of the queue.
    pub(super) fn take_next(&self) -> Option<Say> {
        let mut inner = self.inner.lock();
        inner.queued = false;
        if std::mem::take(&mut inner.wants_release) {
            let object = Some(self.wire_name(&inner));
            return Some(Say::ReleaseObject(v1::ReleaseObject { object }));
        }
        if let Some(piece) = inner.pieces.pop_front() {
            return Some(Say::ObjectState(piece));
        }
        if std::mem::take(&mut inner.wants_use) {
            return Some(Say::UseObject(self.use_object(&inner)));
        }
        let Inner {
            phase: Phase::Open(mirror),
            sent,
            repeated,
            in_step: true,
            ..
        } = &mut *inner
        else {
            return None;
        };
        if let Some(again) = mirror.repeats_after(*repeated).next() {
            *repeated = again.number;
            let again = wire::request(&self.name, mirror.persistence(), again);
            return Some(Say::Object(again));
        }
        let request = mirror.unanswered_after(*sent).next()?;
        *sent = request.number;
        let request = wire::request(&self.name, mirror.persistence(), request);
        Some(Say::Object(request))
    }

    pub(super) fn has_more_to_say(&self) -> bool {
        let inner = self.inner.lock();
        let requests = match &inner.phase {
            Phase::Open(mirror) if inner.in_step => {
                let mut requests = mirror
                    .repeats_after(inner.repeated)
                    .chain(mirror.unanswered_after(inner.sent));
                requests.next().is_some()
            }
            _ => false,
        };
        requests || inner.wants_use || inner.wants_release || !inner.pieces.is_empty()
    }

    fn wire_name(&self, inner: &Inner) -> v1::ObjectName {
        let persistence = match &inner.phase {
            Phase::Open(mirror) => mirror.persistence(),
            Phase::Opening | Phase::Refused(_) => inner.asked.unwrap_or(Persistence::Temporary),
        };
        wire::object_name(&self.name, persistence)
    }

    fn use_object(&self, inner: &Inner) -> v1::UseObject {
        let (epoch, version, as_it_is) = match &inner.phase {
            Phase::Open(mirror) => {
                let (epoch, version) = mirror.known();
                (epoch.0, version.0, false)
            }
            Phase::Opening | Phase::Refused(_) => (0, 0, inner.asked.is_none()),
        };
        v1::UseObject {
            object: Some(self.wire_name(inner)),
            version,
            epoch,
            as_it_is,
        }
    }

    pub(super) fn handle_state(
        self: &Arc<Self>,
        persistence: Persistence,
        state: &v1::ObjectState,
    ) {
        let inner = &mut *self.inner.lock();
        if let Phase::Opening = inner.phase {
            let mirror = Mirror::new(self.name.clone(), persistence, self.edge, self.limits);
            inner.phase = Phase::Open(Box::new(mirror));
        }
        let Phase::Open(mirror) = &mut inner.phase else {
            return;
        };
        match mirror.handle_state(wire::read_state(state)) {
            Ok(false) => {}
            Ok(true) => {
                // What went to this owner since its first state is on its way.
                if !std::mem::replace(&mut inner.in_step, true) {
                    inner.sent = 0;
                    inner.repeated = 0;
                }
                self.room.notify_waiters();
                self.tell(inner);
            }
            Err(_) => {
                // What does not fit at all is asked for whole.
                mirror.distrust();
                inner.wants_use = true;
                inner.in_step = false;
            }
        }
    }

    /// # Errors
    /// [`OutOfStep`]: it is asked for what was missed.
    pub(super) fn handle_update(
        self: &Arc<Self>,
        update: &v1::ObjectUpdate,
    ) -> Result<(), OutOfStep> {
        let inner = &mut *self.inner.lock();
        let Phase::Open(mirror) = &mut inner.phase else {
            // Of a use before this one.
            return Ok(());
        };
        if !inner.in_step && !update.repeated {
            // It is in the state that was asked for.
            return Ok(());
        }
        let outcome = mirror.handle_update(wire::read_update(update));
        if outcome.is_err() {
            inner.wants_use = true;
            inner.in_step = false;
        }
        self.room.notify_waiters();
        self.tell(inner);
        outcome
    }

    pub(super) fn handle_refusal(self: &Arc<Self>, number: u64, refusal: &Refusal) {
        let inner = &mut *self.inner.lock();
        if let Phase::Open(mirror) = &mut inner.phase {
            mirror.handle_refusal(number, refusal);
        }
        self.room.notify_waiters();
        self.tell(inner);
    }

    /// Nobody can use it, any more or at all.
    pub(super) fn refuse(self: &Arc<Self>, refusal: Refusal) {
        let inner = &mut *self.inner.lock();
        inner.phase = Phase::Refused(refusal);
        inner.in_step = false;
        inner.wants_use = false;
        self.room.notify_waiters();
        self.tell(inner);
    }

    /// The owner wants the whole object, in pieces of so many bytes.
    pub(super) fn give_whole(&self, piece: usize) {
        let inner = &mut *self.inner.lock();
        if let Phase::Open(mirror) = &mut inner.phase {
            let persistence = mirror.persistence();
            let pieces = mirror.snapshot().chunks(piece);
            let wire = |piece| wire::state(&self.name, persistence, &piece);
            inner.pieces = pieces.into_iter().map(wire).collect();
        }
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> Known {
        let inner = self.inner.lock();
        match &inner.phase {
            Phase::Open(mirror) => Known {
                version: mirror.known().1.0,
                slots: (mirror.slots())
                    .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
                    .collect(),
                unanswered: mirror.unanswered().count(),
            },
            Phase::Opening | Phase::Refused(_) => Known {
                version: 0,
                slots: Vec::new(),
                unanswered: 0,
            },
        }
    }
}
