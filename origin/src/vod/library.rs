//! The media files that are open, shared by all who read them.
//!
//! A file is opened when somebody asks for it, by one call however many ask, and stays open as long as it is asked for. When it is
//! asked for and the store was not asked for a while, the store is asked whether it is still the same; if it is not, it is
//! opened anew, and has another generation from then on.
//!
//! Opening and reading block, so they run on threads of their own. Bounds: the files that are open, the threads that read at a
//! time, and the time that anything may take. A thread that does not come back keeps its place, and the others go on. One file may
//! have a quarter of the threads, and opening files half of them: readers of a file may wait for each other, whatever is slow about it.
//!
//! # Invariants
//! - Two pieces of one generation come from one version of one file, cut by one version of this program.
//! - A store that fails or hangs takes nothing away: what is open is read on, and waits for the store no longer than
//!   [`OPEN_PATIENCE`]. Who asks for anything else is told `Unavailable` at worst, and soon.
//! - What is wrong with a file is remembered as long as the file would be: it is not read over and over.
//!
//! Pieces are not kept, see [`crate::vod`].

use std::hash::Hasher;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use headwater_media::file::{FileError, FileInfo, FilePiece, MediaFile, ReadAt};
use headwater_media::name::StreamName;
use object_store::path::Path;
use parking_lot::Mutex;
use siphasher::sip::SipHasher24;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod error;

use super::config::VodSection;
use super::flight::Flights;
use super::known::{Known, Slot};
use super::metrics::VodMetrics;
use super::names::{Candidate, Format, Names};
pub(crate) use error::{StoreProblem, VodError};
use error::{broken, ended};

/// Changes whenever files are cut or read in another way than before, so that no edge mixes old pieces with new ones.
const READING: u8 = 1;

/// How long the store may take to say whether what is open is still the same. After that it is taken to be, and the store is asked
/// again when the answer is due the next time; the answer that is late counts when it comes.
///
/// A bucket answers in some tens of milliseconds. A viewer who waits for a piece has more buffered than that.
const OPEN_PATIENCE: Duration = Duration::from_millis(200);

/// Where the bytes of files come from.
#[tonic::async_trait]
pub(crate) trait FileStore: Send + Sync + 'static {
    /// Opens a file.
    async fn read(&self, path: &Path) -> Result<Bytes, StoreProblem>;

    /// What [`Bytes::version`] would be now.
    async fn version(&self, path: &Path) -> Result<u64, StoreProblem>;
}

/// The bytes of a file.
pub(crate) struct Bytes {
    pub(crate) bytes: Arc<dyn ReadAt>,
    /// Changes with them.
    pub(crate) version: u64,
}

/// Makes files of bytes.
pub(crate) trait OpenMedia: Send + Sync + 'static {
    /// Reads what it needs of a file to give pieces of it. Blocks.
    fn open(&self, format: Format, bytes: Arc<dyn ReadAt>)
    -> Result<Arc<dyn MediaFile>, FileError>;
}

/// Where a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum At {
    /// As [`MediaFile::piece_at_time`].
    Time(u64),
    /// As [`MediaFile::piece_at`].
    Position(u64),
}

/// A file that is open.
pub(crate) struct OpenFile {
    candidate: Candidate,
    version: u64,
    generation: u64,
    media: Arc<dyn MediaFile>,
    bytes: u64,
    /// Those who may read it at a time.
    reads: Arc<Semaphore>,
}

/// What stands under a name.
pub(crate) type Outcome = Result<Arc<OpenFile>, VodError>;

/// A piece of it.
pub(crate) type Read = Result<Arc<FilePiece>, VodError>;

/// All files that are open. Clones share them.
#[derive(Clone)]
pub(crate) struct Library {
    shared: Arc<Shared>,
}

struct Shared {
    names: Names,
    store: Arc<dyn FileStore>,
    formats: Arc<dyn OpenMedia>,
    idle: Duration,
    revalidate: Duration,
    timeout: Duration,
    max_reads: usize,
    reads: Arc<Semaphore>,
    opens: Arc<Semaphore>,
    known: Mutex<Known>,
    searches: Flights<StreamName, Outcome>,
    checks: Flights<Candidate, Outcome>,
    pieces: Flights<(u64, At), Read>,
    metrics: VodMetrics,
}

impl Library {
    /// Nothing is open yet. Its tasks run on `tasks` until `stop`.
    pub(crate) fn new(
        section: &VodSection,
        store: Arc<dyn FileStore>,
        formats: Arc<dyn OpenMedia>,
        metrics: VodMetrics,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let library = Self {
            shared: Arc::new(Shared {
                names: Names::new(&section.directories),
                store,
                formats,
                idle: section.idle(),
                revalidate: section.revalidate(),
                timeout: section.read_timeout(),
                max_reads: section.max_reads,
                reads: Arc::new(Semaphore::new(section.max_reads)),
                opens: Arc::new(Semaphore::new((section.max_reads / 2).max(1))),
                known: Mutex::new(Known::new(section.max_open_files, section.memory_bytes)),
                searches: Flights::new(tasks.clone(), stop.clone()),
                checks: Flights::new(tasks.clone(), stop.clone()),
                pieces: Flights::new(tasks.clone(), stop.clone()),
                metrics,
            }),
        };
        tasks.spawn(close_idle(library.clone(), stop));
        library
    }

    /// How long an answer may take.
    pub(crate) fn patience(&self) -> Duration {
        self.shared.timeout
    }

    /// The file that stands under a name.
    pub(crate) async fn find(&self, name: &StreamName) -> Outcome {
        self.soon(self.search(name)).await
    }

    /// Whether the file that stood under a name when it was looked for last is open. Asks nobody.
    pub(crate) fn is_open(&self, name: &StreamName) -> bool {
        let mut known = self.shared.known.lock();
        known
            .meaning(name)
            .is_some_and(|(candidate, _)| known.open(&candidate).is_some())
    }

    /// The file that stood under a name when it was looked for last, if it is open and of this generation still: the store is asked about
    /// that one file at most, and not whether the name means another one by now.
    pub(crate) async fn held(&self, name: &StreamName, generation: u64) -> Option<Arc<OpenFile>> {
        let candidate = {
            let mut known = self.shared.known.lock();
            let (candidate, _) = known.meaning(name)?;
            let open = known.open(&candidate)?;
            (open.generation == generation).then_some(candidate)?
        };
        let file = self.soon(self.file(&candidate)).await.ok()?;
        (file.generation == generation).then_some(file)
    }

    /// A piece of a file. Whoever asks for it meanwhile gets the same one.
    ///
    /// Positions at which no piece begins are [`VodError::Invalid`], as is a file that is damaged there.
    pub(crate) async fn piece(&self, file: &Arc<OpenFile>, at: At) -> Read {
        let read = {
            let (library, file) = (self.clone(), Arc::clone(file));
            async move { library.read(file, at).await }
        };
        let landed = self.shared.pieces.join((file.generation, at), read);
        let landing = async {
            let landed = landed.await;
            if landed.joined {
                self.shared.metrics.shared.inc();
            }
            landed.answer.unwrap_or_else(|| Err(ended()))
        };
        match self.soon(landing).await {
            // Or was it replaced since it was opened?
            Err(error @ (VodError::Invalid { .. } | VodError::Replaced)) => {
                Err(self.soon(self.explain(file, error)).await?)
            }
            other => other,
        }
    }

    /// Holds a caller no longer than an answer may take.
    async fn soon<T>(
        &self,
        answer: impl Future<Output = Result<T, VodError>>,
    ) -> Result<T, VodError> {
        match tokio::time::timeout(self.shared.timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(VodError::Unavailable(format!(
                "no answer from the store within {:?}",
                self.shared.timeout
            ))),
        }
    }

    async fn search(&self, name: &StreamName) -> Outcome {
        let meaning = self.shared.known.lock().meaning(name);
        if let Some((candidate, resolved_at)) = &meaning
            && resolved_at.elapsed() < self.shared.revalidate
        {
            match self.file(candidate).await {
                Err(VodError::NotFound) => {}
                outcome => return outcome,
            }
        }
        let resolve = {
            let (library, name) = (self.clone(), name.clone());
            // In a box each, lest the futures that contain them grow with every layer.
            Box::pin(async move { library.soon(library.resolve(&name)).await })
        };
        let resolved = self.shared.searches.join(name.clone(), resolve);
        let resolved = async { resolved.await.answer.unwrap_or_else(|| Err(ended())) };
        let Some((candidate, _)) = meaning else {
            return resolved.await;
        };
        let unresolved = || {
            let open = self.unchecked(&candidate)?;
            let mut known = self.shared.known.lock();
            known.means(name, candidate.clone(), Instant::now());
            Some(open)
        };
        self.unless_open(&candidate, resolved, unresolved).await
    }

    /// The answer of the store; but if `candidate` is open and the answer does not come, or is that there is none, what is open instead.
    async fn unless_open(
        &self,
        candidate: &Candidate,
        answer: impl Future<Output = Outcome>,
        instead: impl FnOnce() -> Option<Outcome>,
    ) -> Outcome {
        let is_open = self.shared.known.lock().open(candidate).is_some();
        let mut answer = pin!(answer);
        if !is_open {
            return answer.await;
        }
        match tokio::time::timeout(OPEN_PATIENCE, &mut answer).await {
            Ok(Err(unavailable @ VodError::Unavailable(_))) => {
                instead().unwrap_or(Err(unavailable))
            }
            Ok(outcome) => outcome,
            Err(_) => match instead() {
                Some(outcome) => outcome,
                None => answer.await,
            },
        }
    }

    /// Looks for what a name means.
    async fn resolve(&self, name: &StreamName) -> Outcome {
        for candidate in self.shared.names.lookup(name) {
            let file = match self.file(&candidate).await {
                Err(VodError::NotFound) => continue,
                outcome => outcome?,
            };
            self.shared
                .known
                .lock()
                .means(name, candidate, Instant::now());
            return Ok(file);
        }
        Err(VodError::NotFound)
    }

    async fn file(&self, candidate: &Candidate) -> Outcome {
        let now = Instant::now();
        if let Some(outcome) = self.use_slot(candidate, |slot| {
            (now.duration_since(slot.checked_at) < self.shared.revalidate).then_some(())
        }) {
            return outcome;
        }
        let unchecked = || self.unchecked(candidate);
        self.unless_open(candidate, self.checked(candidate), unchecked)
            .await
    }

    /// What is open, although the store did not say that it is the same. It is not asked again by every caller.
    fn unchecked(&self, candidate: &Candidate) -> Option<Outcome> {
        self.use_slot(candidate, |slot| {
            slot.checked_at = Instant::now();
            slot.outcome.is_ok().then_some(())
        })
    }

    /// What the store says of a file, however long that takes.
    async fn checked(&self, candidate: &Candidate) -> Outcome {
        let check = {
            let (library, candidate) = (self.clone(), candidate.clone());
            Box::pin(async move { library.check(candidate).await })
        };
        let landed = self.shared.checks.join(candidate.clone(), check).await;
        landed.answer.unwrap_or_else(|| Err(ended()))
    }

    /// What is known of a file, if `is_good` finds it to be of use.
    fn use_slot(
        &self,
        candidate: &Candidate,
        is_good: impl FnOnce(&mut Slot) -> Option<()>,
    ) -> Option<Outcome> {
        let mut known = self.shared.known.lock();
        let slot = known.file(candidate, Instant::now())?;
        is_good(slot)?;
        Some(slot.outcome.clone())
    }

    /// Asks the store for a file, and opens it if it is not open.
    async fn check(&self, candidate: Candidate) -> Outcome {
        if !self.shared.known.lock().has(&candidate) {
            return self.open(candidate).await;
        }
        let version = self.shared.store.version(&candidate.path);
        let version = match tokio::time::timeout(self.shared.timeout, version).await {
            Ok(version) => version,
            Err(_) => Err(StoreProblem::Unavailable("timeout".to_owned())),
        };
        let now = Instant::now();
        match version {
            Ok(version) => {
                let confirmed = self.use_slot(&candidate, |slot| {
                    slot.checked_at = now;
                    (slot.version == version).then_some(())
                });
                match confirmed {
                    Some(outcome) => outcome,
                    None => self.open(candidate).await,
                }
            }
            Err(StoreProblem::Unavailable(why)) => {
                let open = self.unchecked(&candidate);
                let error = StoreProblem::Unavailable(why);
                tracing::debug!(path = %candidate.path, %error, open = open.is_some(), "file not checked");
                open.unwrap_or_else(|| Err(error.into()))
            }
            Err(error) => {
                self.close(&candidate);
                Err(error.into())
            }
        }
    }

    async fn open(&self, candidate: Candidate) -> Outcome {
        let read = self.shared.store.read(&candidate.path);
        let opened = match tokio::time::timeout(self.shared.timeout, read).await {
            Ok(opened) => opened,
            Err(_) => Err(StoreProblem::Unavailable("timeout".to_owned())),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.close(&candidate);
                return Err(error.into());
            }
        };
        let (bytes, version) = (opened.bytes, opened.version);
        let length = bytes.length();
        let (formats, format) = (Arc::clone(&self.shared.formats), candidate.format);
        let media = self
            .on_thread(&self.shared.opens, move || formats.open(format, bytes))
            .await
            .and_then(|media| media.map_err(|error| VodError::of(error, &candidate.path)));
        let outcome = media.map(|media| {
            Arc::new(OpenFile {
                candidate: candidate.clone(),
                version,
                generation: generation(&candidate, version),
                media,
                bytes: length,
                reads: Arc::new(Semaphore::new((self.shared.max_reads / 4).max(1))),
            })
        });
        match &outcome {
            Ok(_) => {
                self.shared.metrics.opened.inc();
                tracing::debug!(path = %candidate.path, version, length, "file opened");
            }
            Err(error) => {
                self.shared.metrics.failed.inc();
                tracing::info!(path = %candidate.path, %error, "file cannot be played");
            }
        }
        if let Err(VodError::Unavailable(_) | VodError::Replaced) = &outcome {
            self.close(&candidate);
            return outcome;
        }
        let now = Instant::now();
        let slot = Slot {
            version,
            outcome: outcome.clone(),
            checked_at: now,
            used_at: now,
            memory: outcome.as_ref().map_or(0, |file| file.media.memory()),
        };
        let mut known = self.shared.known.lock();
        let closed = known.put(candidate, slot);
        self.shared.metrics.open(known.files(), known.memory());
        drop(known);
        // It may unmap a file: not under the lock.
        drop(closed);
        outcome
    }

    /// Forgets a file. Who reads it, reads on.
    fn close(&self, candidate: &Candidate) {
        let mut known = self.shared.known.lock();
        let closed = known.take(candidate);
        self.shared.metrics.open(known.files(), known.memory());
        drop(known);
        drop(closed);
    }

    async fn read(&self, file: Arc<OpenFile>, at: At) -> Read {
        let started = Instant::now();
        let path = file.candidate.path.clone();
        let reads = Arc::clone(&file.reads);
        let read = move || match at {
            At::Time(ms) => file.media.piece_at_time(ms),
            At::Position(position) => file.media.piece_at(position),
        };
        let piece = self.on_thread(&reads, read).await?;
        let piece = piece.map_err(|error| VodError::of(error, &path))?;
        self.shared.metrics.read(&piece, started.elapsed());
        Ok(Arc::new(piece))
    }

    /// Does what blocks, when its kind may have a thread and there is one for it. However long it takes then: who cannot wait gives up, and who asks again
    /// finds it under way, or done.
    async fn on_thread<T: Send + 'static>(
        &self,
        kind: &Arc<Semaphore>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, VodError> {
        let permits = async {
            // In this order: who waits for its kind keeps no thread from others.
            let kind = Arc::clone(kind).acquire_owned().await;
            let thread = Arc::clone(&self.shared.reads).acquire_owned().await;
            kind.and_then(|kind| Ok((kind, thread?)))
                .map_err(|_| ended())
        };
        let permits = self.soon(permits).await?;
        let working = tokio::task::spawn_blocking(move || {
            // Held until it is done, also where nobody waits any more.
            let _permits = permits;
            work()
        });
        working.await.map_err(|error| broken(&error))
    }

    /// Why a file that was open cannot be read: `error`, unless there is another one in its place by now.
    async fn explain(&self, file: &OpenFile, error: VodError) -> Result<VodError, VodError> {
        Ok(match self.checked(&file.candidate).await {
            Ok(now) if now.version == file.version => error,
            Err(unavailable @ VodError::Unavailable(_)) => unavailable,
            _ => VodError::Replaced,
        })
    }

    /// Closes what nobody has asked for in a while.
    fn close_idle(&self) {
        let mut known = self.shared.known.lock();
        let closed = known.take_idle(Instant::now(), self.shared.idle);
        self.shared.metrics.open(known.files(), known.memory());
        drop(known);
        drop(closed);
    }
}

/// Runs [`Library::close_idle`] now and then.
async fn close_idle(library: Library, stop: CancellationToken) {
    let every = library.shared.idle / 2;
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => library.close_idle(),
            () = stop.cancelled() => return,
        }
    }
}

impl OpenFile {
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Of the whole file, whatever is asked for of it.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn info(&self) -> &FileInfo {
        self.media.info()
    }
}

/// Fixed, as it has to be the same on every origin that reads the same store.
fn generation(candidate: &Candidate, version: u64) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    hasher.write(candidate.path.as_ref().as_bytes());
    // No path holds the first one.
    hasher.write(&[0xff, READING, candidate.format as u8]);
    hasher.write(&version.to_le_bytes());
    // 0 is no generation.
    hasher.finish().max(1)
}

#[cfg(test)]
pub(crate) mod tests;
