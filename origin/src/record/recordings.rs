//! All recordings of one origin: who records, what can be read, what is yet to become a file.
//!
//! Each name has at most one recorder, a task that does everything about the name one after the other. It lives from the first
//! publisher that asks to be recorded until the recording is a file, and a mark on the local disk (a file of the folder
//! `unfinished`) lives as long: a process that starts looks at these marks alone, however much is stored.
//!
//! Who looks for a recording that nobody here knows of finds it in the store, and a recorder then makes a file of it: so does a
//! stream's new owner when the machine of the old one is gone for good.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use headwater_media::frame::Epoch;
use headwater_media::name::StreamName;
use headwater_proto::v1::RecordState;
use object_store::path::Path;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::files::Files;
use super::metrics::RecordingMetrics;
use super::recorder::failure::Failure;
use super::recorder::intake::{Budget, Intake, Source};
use super::recorder::session::{Progress, Session};
use super::recorder::{Begin, Command, Recorder};
use super::section::RecordingSection;
use super::stream_info::StreamInfos;
use super::target::Target;
use super::vault::{Cause, Stored, Vault, VaultError};
use crate::log::table::{LogLease, unix_millis};

mod claim;
mod entry;
pub(crate) mod marks;
#[cfg(test)]
mod tests;

use claim::{Active, Claim};
pub(crate) use entry::Entry;
use entry::View;
use marks::Marks;

/// How long a publisher that goes on behind a recording waits to be told where that ends. Its edge waits for twice as long.
const TIMELINE_PATIENCE: Duration = Duration::from_secs(2);

/// Commands that a recorder may be behind. Each is a publisher's beginning or an order to erase.
const COMMANDS: usize = 16;

/// How long it is remembered that nothing is recorded under a name. Only another origin can change it without this one knowing.
const ABSENT_FOR: Duration = Duration::from_secs(5);

/// Names of which that is remembered.
const MOST_ABSENT: usize = 16_384;

/// Publishers of which is remembered that their recording failed, lest it begins anew when they reconnect.
const MOST_FAILED: usize = 4_096;

/// How long who looks for a recording waits for it to be taken up after a crash, and how often it is looked whether that has happened.
const TAKEN_UP_PATIENCE: Duration = Duration::from_secs(2);
const TAKEN_UP_LOOK: Duration = Duration::from_millis(20);

/// How a publisher wants to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Anew, in place of what is there.
    Record,
    /// Behind what is there.
    Append,
    /// The same, with the time that has passed since.
    AppendWithGap,
}

/// A publisher that is to be recorded. The log has it already.
pub(crate) struct Opening<'a> {
    pub(crate) lease: &'a LogLease,
    pub(crate) epoch: Epoch,
    pub(crate) mode: Mode,
    /// How much of the recording is kept, in milliseconds. 0: all.
    pub(crate) window_ms: u64,
    /// It goes on after a break or a move.
    pub(crate) resumes: bool,
}

/// What a publisher is to know of its recording.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) progress: watch::Receiver<Progress>,
    /// Where the timeline stands, in milliseconds, if the recording decides it.
    pub(crate) timeline: Option<u64>,
    /// What it knows already, from the call before.
    pub(crate) told: Option<RecordState>,
}

/// Begins recordings; what the front door needs of [`Recordings`].
#[tonic::async_trait]
pub(crate) trait Record: Send + Sync + fmt::Debug {
    /// Begins to record. Takes no longer than some seconds, whatever the store does.
    async fn begin(&self, opening: Opening<'_>) -> Begun;

    /// A publisher that is not recorded begins.
    fn publishes_live(&self, name: &StreamName);
}

/// Records nothing, for tests of other things.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct NoRecordings;

#[cfg(test)]
#[tonic::async_trait]
impl Record for NoRecordings {
    async fn begin(&self, opening: Opening<'_>) -> Begun {
        let session = Session::new(opening.epoch);
        session.failed(Failure::TooMany);
        Begun {
            progress: session.subscribe(),
            timeline: None,
            told: None,
        }
    }

    fn publishes_live(&self, _: &StreamName) {}
}

/// A recording that can be read.
#[derive(Clone, Debug)]
pub(crate) struct Found<R> {
    pub(crate) generation: u64,
    pub(crate) reader: R,
    /// There will be more.
    pub(crate) growing: bool,
}

/// All recordings of one origin. Clones share them.
pub(crate) struct Recordings<V: Vault> {
    shared: Arc<Shared<V>>,
}

impl<V: Vault> fmt::Debug for Recordings<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recordings").finish_non_exhaustive()
    }
}

impl<V: Vault> Clone for Recordings<V> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

/// What recorders share.
pub(crate) struct Shared<V: Vault> {
    pub(crate) config: RecordingSection,
    pub(crate) vault: V,
    pub(crate) files: Files,
    pub(crate) infos: StreamInfos,
    pub(crate) metrics: RecordingMetrics,
    pub(crate) composing: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) marks: Marks,
    budget: Arc<Budget>,
    /// Whether a stream belongs to this origin.
    ours: Box<dyn Fn(&StreamName) -> bool + Send + Sync>,
    /// Sessions that go on, and those that wait to begin.
    active: watch::Sender<usize>,
    entries: Mutex<HashMap<StreamName, Arc<Entry<V>>>>,
    /// Which stream becomes which file, and in how many sessions.
    claims: Mutex<HashMap<Path, (StreamName, usize)>>,
    absent: Mutex<HashMap<StreamName, Instant>>,
    failed: Mutex<HashMap<StreamName, (Epoch, Failure)>>,
}

/// What a process needs to record.
pub(crate) struct Parts<V: Vault> {
    pub(crate) config: RecordingSection,
    pub(crate) vault: V,
    pub(crate) files: Files,
    pub(crate) marks: Marks,
    pub(crate) metrics: RecordingMetrics,
    pub(crate) ours: Box<dyn Fn(&StreamName) -> bool + Send + Sync>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl<V: Vault> Recordings<V> {
    /// Looks at nothing yet; see [`Self::recover`].
    pub(crate) fn new(parts: Parts<V>) -> Self {
        let Parts {
            config,
            vault,
            files,
            marks,
            metrics,
            ours,
            tasks,
            stop,
        } = parts;
        let shared = Shared {
            composing: Arc::new(Semaphore::new(config.max_composing)),
            budget: Arc::new(Budget::new(config.buffers_bytes)),
            config,
            vault,
            infos: StreamInfos::new(Arc::clone(&files.objects)),
            files,
            metrics,
            tasks,
            stop,
            marks,
            ours,
            active: watch::Sender::new(0),
            entries: Mutex::new(HashMap::new()),
            claims: Mutex::new(HashMap::new()),
            absent: Mutex::new(HashMap::new()),
            failed: Mutex::new(HashMap::new()),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes up what a process before this one has left. Done when it is known what that is, not when it is finished.
    pub(crate) async fn recover(&self) {
        let names = match self.shared.marks.all().await {
            Ok(names) => names,
            Err(error) => {
                tracing::error!(%error, "unfinished recordings of before cannot be looked for");
                return;
            }
        };
        if !names.is_empty() {
            tracing::info!(
                recordings = names.len(),
                "recordings of before are unfinished"
            );
        }
        for name in names {
            match Target::of(&name) {
                Ok(target) => drop(self.shared.recorder(&target, &name)),
                Err(error) => tracing::error!(%name, %error, "an unfinished recording has no file"),
            }
        }
    }

    /// The recording of a name that is not a file yet, or grows.
    ///
    /// # Errors
    /// What the store says; a name of which nothing was ever recorded is no error.
    pub(crate) async fn find(
        &self,
        name: &StreamName,
    ) -> Result<Option<Found<V::Reader>>, VaultError> {
        let Ok(target) = Target::of(name) else {
            return Ok(None);
        };
        if let Some(found) = self.shared.shown(&target.name) {
            return Ok(Some(found));
        }
        if self.shared.is_absent(&target.name) {
            return Ok(None);
        }
        let generations = self.shared.vault.generations(&target.name).await?;
        for generation in generations.into_iter().rev() {
            let reader = self.shared.vault.open(&target.name, generation).await?;
            if reader.kept().next.is_none() {
                if self.shared.vault.is_left_open(&target.name, generation) {
                    return self.taken_up(&target, name).await.map(Some);
                }
                continue;
            }
            let found = Found {
                generation,
                reader,
                growing: false,
            };
            // Nobody else may look after it.
            let entry = self.shared.recorder(&target, name);
            return Ok(Some(entry.show_if_none(found)));
        }
        self.shared.note_absent(&target.name);
        Ok(None)
    }

    /// Waits for a recording of which all that there is was in memory and in the journal when the process before this one died: its
    /// publisher comes back, or a file is made of it.
    async fn taken_up(
        &self,
        target: &Target,
        name: &StreamName,
    ) -> Result<Found<V::Reader>, VaultError> {
        let _recorder = self.shared.recorder(target, name);
        let until = Instant::now() + TAKEN_UP_PATIENCE;
        loop {
            if let Some(found) = self.shared.shown(&target.name) {
                return Ok(found);
            }
            if Instant::now() >= until {
                return Err(VaultError {
                    cause: Cause::Unavailable,
                    text: "the recording is yet to be taken up".to_owned(),
                });
            }
            tokio::time::sleep(TAKEN_UP_LOOK).await;
        }
    }

    /// What encoders said of streams.
    pub(crate) fn infos(&self) -> &StreamInfos {
        &self.shared.infos
    }

    /// Waits until no session goes on, as when all publishers have left: what they sent is stored then.
    pub(crate) async fn quiet(&self) {
        // The sender is in `shared`.
        let _ = self.shared.active.subscribe().wait_for(|it| *it == 0).await;
    }
}

#[tonic::async_trait]
impl<V: Vault> Record for Recordings<V> {
    async fn begin(&self, opening: Opening<'_>) -> Begun {
        let live = opening.lease.handle.name().clone();
        let epoch = opening.epoch;
        let refuse = |failure: Failure| {
            let session = Session::new(epoch);
            tracing::warn!(stream = %live, reason = %failure, "the stream is not recorded");
            self.shared.metrics.failed(&failure);
            session.failed(failure);
            Begun {
                progress: session.subscribe(),
                timeline: None,
                told: None,
            }
        };
        let target = match Target::of(&live) {
            Ok(target) => target,
            Err(error) => return refuse(Failure::NoAccess(error.to_string())),
        };
        if opening.resumes {
            if let Some(begun) = self.shared.known(&target.name, epoch) {
                return begun;
            }
        } else {
            self.shared.failed.lock().remove(&target.name);
        }
        let Some(claim) = Claim::new(&self.shared, &target, &live) else {
            let why = "another stream is recorded in the same file".to_owned();
            return refuse(Failure::NoAccess(why));
        };
        let Some(active) = Active::new(&self.shared) else {
            return refuse(Failure::TooMany);
        };
        let start = opening.lease.handle.look(|log| log.start_of(epoch));
        let start = start.unwrap_or(0);
        let first = match opening.resumes {
            true => self.shared.first_to_store(&target.name, &opening, start),
            false => start,
        };
        let session = Session::new(epoch).with_window(opening.window_ms);
        let source = Source {
            lease: opening.lease.another(),
            session: session.clone(),
            first,
            resumes: opening.resumes,
        };
        let shared = &self.shared;
        let limit = shared.config.buffer_bytes;
        let (intake, reading) =
            Intake::new(source, Arc::clone(&shared.budget), limit, &shared.stop);
        shared.tasks.spawn(reading);
        let (timeline, answer) = oneshot::channel();
        let begin = Begin {
            live,
            session: session.clone(),
            intake,
            mode: opening.mode,
            resumes: opening.resumes,
            first: start,
            unix_ms: unix_millis(),
            timeline,
            claim: Box::new(claim),
            active: Box::new(active),
        };
        shared.send(&target, begin);
        let mut begun = Begun {
            progress: session.subscribe(),
            timeline: None,
            told: None,
        };
        if !opening.resumes && opening.mode != Mode::Record {
            // Also over when the recording has failed.
            begun.timeline = match tokio::time::timeout(TIMELINE_PATIENCE, answer).await {
                Ok(answer) => answer.ok(),
                Err(_) => {
                    let failure =
                        Failure::Storage("it did not say where the recording ends".to_owned());
                    session.failed(failure);
                    None
                }
            };
        }
        begun
    }

    fn publishes_live(&self, name: &StreamName) {
        if self.shared.config.erase_on_publish
            && let Ok(target) = Target::of(name)
        {
            self.shared
                .command(&target, name, Command::Erase(unix_millis()));
        }
    }
}

impl<V: Vault> Shared<V> {
    /// Whether a stream belongs to this origin.
    pub(crate) fn is_ours(&self, name: &StreamName) -> bool {
        (self.ours)(name)
    }

    /// The recorder of a file, made if there is none.
    fn recorder(self: &Arc<Self>, target: &Target, live: &StreamName) -> Arc<Entry<V>> {
        let mut entries = self.entries.lock();
        self.recorder_of(&mut entries, target, live)
    }

    fn recorder_of(
        self: &Arc<Self>,
        entries: &mut HashMap<StreamName, Arc<Entry<V>>>,
        target: &Target,
        live: &StreamName,
    ) -> Arc<Entry<V>> {
        if let Some(entry) = entries.get(&target.name) {
            return Arc::clone(entry);
        }
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let entry = Arc::new(Entry {
            target: target.clone(),
            commands,
            view: Mutex::new(View {
                live: live.clone(),
                session: None,
                found: VecDeque::new(),
            }),
        });
        entries.insert(target.name.clone(), Arc::clone(&entry));
        self.metrics.unfinished.inc();
        let recorder = Recorder::new(Arc::clone(self), Arc::clone(&entry), receiver);
        self.tasks.spawn(recorder.run());
        entry
    }

    fn send(self: &Arc<Self>, target: &Target, begin: Begin) {
        let (session, live) = (begin.session.clone(), begin.live.clone());
        if !self.command(target, &live, Command::Begin(Box::new(begin))) {
            session.failed(Failure::Storage(
                "it is busy with publishers before".to_owned(),
            ));
        } else if let Some(entry) = self.entries.lock().get(&target.name) {
            let mut view = entry.view.lock();
            view.live = live;
            view.session = Some(session);
        }
    }

    /// Gives a command to a recorder. Under the lock, so that the recorder does not leave meanwhile. False if it has too many.
    fn command(self: &Arc<Self>, target: &Target, live: &StreamName, command: Command) -> bool {
        let mut entries = self.entries.lock();
        let entry = self.recorder_of(&mut entries, target, live);
        entry.commands.try_send(command).is_ok()
    }

    /// A recorder that has nothing to do goes. False if it has.
    pub(crate) fn leave(&self, entry: &Entry<V>, commands: &mpsc::Receiver<Command>) -> bool {
        let mut entries = self.entries.lock();
        if !commands.is_empty() {
            return false;
        }
        entries.remove(&entry.target.name);
        if entries.capacity() > 64 && entries.len() * 4 < entries.capacity() {
            entries.shrink_to_fit();
        }
        self.metrics.unfinished.dec();
        true
    }

    fn shown(&self, name: &StreamName) -> Option<Found<V::Reader>> {
        let entry = self.entries.lock().get(name).cloned()?;
        let view = entry.view.lock();
        view.found.back().cloned()
    }

    /// The recording of a publisher that was away, if this origin knows what became of it.
    fn known(&self, name: &StreamName, epoch: Epoch) -> Option<Begun> {
        let entry = self.entries.lock().get(name).cloned();
        let session = entry.and_then(|entry| entry.view.lock().session.clone());
        let goes_on = |it: &Session| it.is_open() && !it.subscribe().borrow().is_left();
        let open = session.filter(|it| it.epoch == epoch && goes_on(it));
        let session = match open {
            Some(session) => session,
            None => {
                let failed = self.failed.lock().get(name).cloned();
                let (_, failure) = failed.filter(|(failed, _)| *failed == epoch)?;
                let session = Session::new(epoch);
                session.failed(failure);
                session
            }
        };
        let progress = session.subscribe();
        // Whether the call before had time to tell what there is to tell is not known, so it is told again: its edge tells its client
        // once. But that it began is nothing to come back to once it is over.
        let told = progress.borrow().is_over().then_some(RecordState::Started);
        Some(Begun {
            progress,
            timeline: None,
            told,
        })
    }

    /// Where the log is to be read from for a publisher that was away: what its session before has sent on its way to the store may
    /// never get there. `start` is where its newest run begins.
    fn first_to_store(&self, name: &StreamName, opening: &Opening<'_>, start: u64) -> u64 {
        let epoch = opening.epoch;
        let entry = self.entries.lock().get(name).cloned();
        let before = entry.and_then(|entry| entry.view.lock().session.clone());
        let before = before.filter(|session| session.epoch == epoch);
        let durable = before.map_or(0, |session| session.durable());
        let oldest = opening.lease.handle.look(|log| log.oldest_of(epoch));
        oldest.map_or(start, |oldest| oldest.max(durable))
    }

    /// Remembers that the recording of an epoch is over though its publisher is not.
    pub(crate) fn note_failed(&self, name: &StreamName, epoch: Epoch, failure: Failure) {
        let mut failed = self.failed.lock();
        if failed.len() >= MOST_FAILED {
            failed.clear();
        }
        failed.insert(name.clone(), (epoch, failure));
    }

    fn is_absent(&self, name: &StreamName) -> bool {
        let absent = self.absent.lock();
        absent
            .get(name)
            .is_some_and(|until| Instant::now() < *until)
    }

    fn note_absent(&self, name: &StreamName) {
        let now = Instant::now();
        let mut absent = self.absent.lock();
        if absent.len() >= MOST_ABSENT {
            absent.retain(|_, until| now < *until);
        }
        if absent.len() < MOST_ABSENT {
            absent.insert(name.clone(), now + ABSENT_FOR);
        }
    }

    /// Bytes of the disk that are not for files: what would end the recordings that go on.
    pub(crate) fn kept_free(&self) -> u64 {
        match *self.active.borrow() {
            0 => 0,
            _ => self.config.min_free_bytes,
        }
    }

    pub(crate) fn note_buffered(&self) {
        let used = i64::try_from(self.budget.used()).unwrap_or(i64::MAX);
        self.metrics.buffered.set(used);
    }
}
