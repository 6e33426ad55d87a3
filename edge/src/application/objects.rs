//! Shared objects of one application instance at this edge.
//!
//! | room | what it holds |
//! |---|---|
//! | `shared` | one object: its mirror, who listens to it, and what is to be said of it to the owner |
//! | `local` | users of objects on one worker: admitted, served, let go |
//! | `uses` | the objects that one client uses, and what its messages ask for |
//! | `meters` | what is counted |
//!
//! # The way of a change
//! A client's message is decoded by its session, on its worker, and numbered by the mirror. The attachment, which is one task for the
//! instance, takes requests out of the mirrors ([`Objects::next`]) as fast as the owner takes them. Updates of the owner go into the mirror
//! ([`Objects::handle`]), and each worker that has users of the object is woken, once for however many updates: it walks its users and
//! gives those whose connection has room what they lack, the same bytes to all who lack the same. Who has no room stays where it is in
//! the mirror's log, and is served by its own session when it has written what waits.
//!
//! # Invariants
//! - An update costs the owner one message for this edge, and this edge one message body for each kind of receiver.
//! - A mirror's lock is held for no more than some users at a time, and never while a socket is written.
//! - What waits for the owner is bounded by the mirrors, and their number by the application's policy. While no owner is attached,
//!   nothing is queued: all is said anew from the mirrors when one is.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use headwater_application::{SharedObjectsSection, wire};
use headwater_proto::v1::attach_request::Request as Say;
use headwater_proto::v1::attach_response::Response as Told;
use headwater_shared_object::log::LogLimits;
use headwater_shared_object::mirror::MirrorLimits;
use headwater_shared_object::object::{EdgeIncarnation, ObjectName, Persistence, Refusal};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::debug;

pub(crate) mod local;
pub(crate) mod meters;
mod shared;
#[cfg(test)]
mod tests;
pub(crate) mod uses;

use meters::ObjectMeters;
use shared::SharedObject;

/// How long a mirror stays that nobody uses any more: a client that comes back finds all as it was, and the owner is not asked.
const LINGER: Duration = Duration::from_secs(2);

/// Size of the pieces in which a whole object goes to its owner, in bytes.
const PIECE: usize = 256 << 10;

/// Requests of this edge for one object that wait for their answer, and their bytes. Beyond that clients have to wait.
const PENDING: (usize, usize) = (4_096, 4 << 20);

/// Entries of the log of an object, whatever their size.
const LOG_ENTRIES: usize = 4_096;

/// Room in the memory of a whole object for what it has besides its names and values: removals that are remembered, and versions.
const STATE_OVERHEAD: usize = 16 << 20;

/// The shared objects of one instance. One for all workers of the edge and the instance's attachment.
pub(crate) struct Objects {
    edge: EdgeIncarnation,
    table: Mutex<Table>,
    /// Objects of which something is to be said to the owner, each at most once.
    queue: Mutex<VecDeque<Arc<SharedObject>>>,
    news: Notify,
    meters: ObjectMeters,
}

struct Table {
    objects: HashMap<ObjectName, Arc<SharedObject>>,
    policy: SharedObjectsSection,
    attached: bool,
}

impl Objects {
    /// None yet, and no owner attached. `edge` is the incarnation of this process.
    pub(crate) fn new(edge: u64, policy: SharedObjectsSection, meters: ObjectMeters) -> Arc<Self> {
        Arc::new(Self {
            edge: EdgeIncarnation(edge),
            table: Mutex::new(Table {
                objects: HashMap::new(),
                policy,
                attached: false,
            }),
            queue: Mutex::default(),
            news: Notify::new(),
            meters,
        })
    }

    /// The application's policy has changed. Objects that are open keep the bounds that they were opened with.
    pub(crate) fn set_policy(&self, policy: &SharedObjectsSection) {
        let mut table = self.table.lock();
        if table.policy != *policy {
            table.policy = policy.clone();
        }
    }

    /// Whether nobody uses an object here, and nothing is waited for.
    pub(crate) fn is_idle(&self) -> bool {
        self.table.lock().objects.is_empty()
    }

    /// Waits until somebody uses an object.
    pub(crate) async fn wanted(&self) {
        while self.is_idle() {
            self.news.notified().await;
        }
    }

    pub(crate) fn meters(&self) -> &ObjectMeters {
        &self.meters
    }

    /// The object of that name, opened if it is not. `asked` is what its user takes it for; `None` if that is not said.
    ///
    /// # Errors
    /// [`Refusal::BadPersistence`] where it is known to be the other; a refusal where there are as many as there may be.
    pub(super) fn open(
        self: &Arc<Self>,
        name: &ObjectName,
        asked: Option<Persistence>,
    ) -> Result<Arc<SharedObject>, Refusal> {
        let mut table = self.table.lock();
        if let Some(object) = table.objects.get(name) {
            let known = object.known_persistence();
            if known
                .zip(asked)
                .is_some_and(|(known, asked)| known != asked)
            {
                return Err(Refusal::BadPersistence);
            }
            object.touch();
            return Ok(Arc::clone(object));
        }
        let most = table.policy.max_objects;
        if table.objects.len() >= most {
            return Err(Refusal::from_code(
                "SharedObject.TooManyObjects",
                &format!("more than {most} objects of the instance are in use"),
            ));
        }
        let limits = mirror_limits(&table.policy);
        let object = SharedObject::new(name.clone(), asked, self.edge, limits);
        table.objects.insert(name.clone(), Arc::clone(&object));
        self.meters.mirrors.inc();
        let attached = table.attached;
        drop(table);
        if attached {
            object.say_use();
        }
        // Said or not, the attachment has to know that it is needed.
        self.queue(&object);
        Ok(object)
    }

    /// Something of the object is to be said to the owner.
    pub(super) fn queue(&self, object: &Arc<SharedObject>) {
        if object.mark_queued() {
            self.queue.lock().push_back(Arc::clone(object));
        }
        self.news.notify_one();
    }

    /// An owner is attached that knows nothing of this edge's objects.
    pub(crate) fn attached(&self) {
        let objects: Vec<_> = {
            let mut table = self.table.lock();
            table.attached = true;
            table.objects.values().cloned().collect()
        };
        for object in objects {
            object.say_use();
            self.queue(&object);
        }
    }

    /// The owner is gone.
    pub(crate) fn detached(&self) {
        let objects: Vec<_> = {
            let mut table = self.table.lock();
            table.attached = false;
            table.objects.values().cloned().collect()
        };
        for object in std::mem::take(&mut *self.queue.lock()) {
            object.unmark_queued();
        }
        for object in objects {
            object.detached();
        }
    }

    /// What there is to say to the owner next; waits until there is something. Losing the future loses nothing.
    pub(crate) async fn next(&self) -> Say {
        loop {
            if let Some(say) = self.poll_next() {
                return say;
            }
            self.news.notified().await;
        }
    }

    /// As [`Self::next`], if there is anything.
    pub(crate) fn poll_next(&self) -> Option<Say> {
        if !self.table.lock().attached {
            return None;
        }
        loop {
            let object = self.queue.lock().pop_front()?;
            if let Some(say) = object.take_next() {
                if object.has_more_to_say() {
                    self.queue(&object);
                }
                if matches!(say, Say::Object(_)) {
                    self.meters.requests.inc();
                }
                return Some(say);
            }
        }
    }

    /// Takes what the owner says of objects. Anything else is not for here.
    pub(crate) fn handle(self: &Arc<Self>, told: Told) {
        let (name, told) = match told {
            Told::ObjectState(state) => (state.object.clone(), Told::ObjectState(state)),
            Told::ObjectUpdate(update) => (update.object.clone(), Told::ObjectUpdate(update)),
            Told::ObjectRefused(refused) => (refused.object.clone(), Told::ObjectRefused(refused)),
            Told::ObjectWanted(wanted) => (wanted.object.clone(), Told::ObjectWanted(wanted)),
            _ => return,
        };
        let Ok((name, persistence)) = wire::read_object_name(name.as_ref()) else {
            debug!("the owner speaks of an object whose name is none");
            return;
        };
        let Some(object) = self.table.lock().objects.get(&name).cloned() else {
            // Released meanwhile.
            return;
        };
        match told {
            Told::ObjectState(state) => object.handle_state(persistence, &state),
            Told::ObjectUpdate(update) => {
                self.meters.updates.inc();
                if let Err(error) = object.handle_update(&update) {
                    self.meters.resyncs.inc();
                    debug!(%name, %error, "a mirror asks for what it has missed");
                }
            }
            Told::ObjectRefused(refused) => {
                self.meters.refused.inc();
                let refusal = Refusal::from_code(&refused.code, &refused.description);
                if refused.number > 0 {
                    object.handle_refusal(refused.number, &refusal);
                } else {
                    debug!(%name, %refusal, "an object cannot be used");
                    // Whoever asks from now on asks anew.
                    self.forget(&object);
                    object.refuse(refusal);
                }
            }
            Told::ObjectWanted(_) => object.give_whole(PIECE),
            _ => {}
        }
        if object.has_more_to_say() {
            self.queue(&object);
        }
    }

    /// Lets go of objects that nobody has used for a while. To be called every second or so.
    pub(crate) fn sweep(&self, now: Instant) {
        // With the table locked: who opens the object anew says so after this.
        let mut table = self.table.lock();
        let attached = table.attached;
        table.objects.retain(|_, object| {
            let keep = !object.is_idle(now, LINGER);
            if !keep {
                self.meters.mirrors.dec();
                if attached {
                    object.say_release();
                    self.queue(object);
                }
            }
            keep
        });
    }

    fn forget(&self, object: &Arc<SharedObject>) {
        let mut table = self.table.lock();
        let is_it = |it: &Arc<SharedObject>| Arc::ptr_eq(it, object);
        if table.objects.get(object.name()).is_some_and(is_it) {
            table.objects.remove(object.name());
            self.meters.mirrors.dec();
        }
    }

    /// What is known of an object, for tests and for people.
    #[cfg(test)]
    fn known(&self, name: &str) -> Option<shared::Known> {
        let name = ObjectName::parse(name).ok()?;
        let object = self.table.lock().objects.get(&name).cloned()?;
        Some(object.known())
    }
}

fn mirror_limits(policy: &SharedObjectsSection) -> MirrorLimits {
    MirrorLimits {
        log: LogLimits {
            entries: LOG_ENTRIES,
            bytes: policy.log_bytes,
        },
        pending: PENDING.0,
        pending_bytes: PENDING.1.max(policy.max_slot_bytes),
        removals: policy.remembered_removals,
        state_bytes: policy.max_object_bytes.saturating_add(STATE_OVERHEAD),
    }
}
