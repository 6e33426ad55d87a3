//! Stored streams as this edge sees them: recordings, those that still grow included, and media files.
//!
//! A stored stream is asked for in pieces that never change (`proto/headwater/v1/recording.proto`), so one copy of a piece serves all
//! viewers of this edge: it is fetched once however many ask for it at once, made into RTMP chunks once, and kept until others
//! were used more lately. Names are described likewise, and a description holds for about a second.
//!
//! ```text
//!          cached        describe, piece                       ask (moved, retried, bounded)
//! player ----------> Cache <---------- Flights (one per piece) ----------------------------> origin
//! ```
//!
//! # Invariants
//! - Memory is bounded by `[edge.recorded]`: bytes of pieces, number of names, number of calls under way. Pieces that were let go of live on
//!   for as long as they are being sent to somebody, which is not long: see [`crate::fanout::connection`].
//! - Fetches run on the process's shared runtime: a viewer that leaves takes nothing from those who wait for the same piece. What nobody
//!   waits for any more is not asked; if it is being asked, the answer is kept.
//! - One client has [`CLIENT_QUESTIONS`] questions under way at most, those included that it does not wait for any more: however often
//!   it changes its mind, there is room for others.
//! - Nothing waits for ever: an answer, or an error once patience has ended.
//! - While no origin answers, what is here goes on being served as it is, also where it would otherwise be asked for again.
//!
//! # What it does not do
//! It knows neither viewers nor pacing, and does not read what is live: see [`crate::hub`].

use std::sync::Arc;
use std::time::Duration;

use headwater_media::name::StreamName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{Instrument as _, debug, info};

use crate::application::policies::Policies;
use crate::config::RecordedSection;
use crate::edge::Tasks;
use crate::upstream::Upstream;

mod ask;
mod cache;
mod descriptions;
mod flights;
mod info;
mod meters;
mod model;
mod piece;
#[cfg(test)]
mod tests;

use ask::{Answer, Asker, Question};
use cache::{Cache, Found, Trust};
use descriptions::Descriptions;
use flights::{Flights, Joined, Landing, wait};
use info::Turns;
pub(crate) use meters::RecordedMeters;
pub(crate) use model::{Description, Follows, Place, RecordedError, Stored};
pub(crate) use piece::{Piece, PieceFrame};

/// Most pieces, and most names, that are asked for at once, waiting calls included: some tens of megabytes of bookkeeping.
const MAX_FLIGHTS: usize = 65_536;
/// Most questions of one client that are under way at once; more wait for those. A viewer has one, and another one while it goes over to
/// another stream or something is fetched for it beforehand.
const CLIENT_QUESTIONS: usize = 8;
/// How often a place is looked at anew when what is known of it changes while somebody asks.
const LOOKS: usize = 4;

/// A question for a piece: stream, generation (0: whichever there is), place.
type PieceKey = (StreamName, u64, Place);
type Fetched = Result<Arc<Piece>, RecordedError>;
type Described = Result<Description, RecordedError>;

/// The stored streams of this edge. One per process; clones share it.
#[derive(Clone)]
pub(crate) struct Recorded {
    shared: Arc<Shared>,
    /// Room for the questions of the client that this is for.
    room: Option<Arc<Semaphore>>,
}

struct Shared {
    asker: Asker,
    tasks: Tasks,
    meters: RecordedMeters,
    cache: Cache,
    descriptions: Descriptions,
    fetches: Flights<PieceKey, Fetched>,
    describes: Flights<StreamName, Described>,
    /// Of applications in which encoders say things of their streams.
    policies: Policies,
    turns: Turns,
}

impl Recorded {
    /// `policies` say in which applications encoders say things of their streams.
    pub(crate) fn new(
        section: &RecordedSection,
        policies: Policies,
        upstream: Arc<Upstream>,
        tasks: Tasks,
    ) -> Self {
        let hold = Duration::from_millis(section.description_ms);
        let trust = Trust {
            growing: Duration::from_millis(section.growing_ms),
            ends: hold,
        };
        Self {
            shared: Arc::new(Shared {
                meters: upstream.metrics.recorded.clone(),
                cache: Cache::new(section.cache_bytes, trust),
                descriptions: Descriptions::new(hold, section.max_names),
                fetches: Flights::new(MAX_FLIGHTS),
                describes: Flights::new(MAX_FLIGHTS),
                asker: Asker::new(upstream, section),
                tasks,
                policies,
                turns: Turns::new(Duration::from_millis(section.patience_ms)),
            }),
            room: None,
        }
    }

    /// For one client: what is asked with this, or a clone of it, counts as its questions.
    pub(crate) fn for_client(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            room: Some(Arc::new(Semaphore::new(CLIENT_QUESTIONS))),
        }
    }

    /// Waits until there is room for a question of this client.
    async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(self.room.as_ref()?);
        // Never closed.
        room.acquire_owned().await.ok()
    }

    /// What there is under a name, at most [`RecordedSection::description_ms`] old; older only while no origin answers.
    pub(crate) async fn describe(&self, name: &StreamName) -> Result<Description, RecordedError> {
        if let Some(known) = self.shared.descriptions.find(name) {
            return known;
        }
        if self.shared.asker.is_cut_off(name)
            && let Some(last) = self.shared.descriptions.last(name)
        {
            return Ok(last);
        }
        let room = self.enter().await;
        let answer = match self.shared.describes.join(name.clone()) {
            Joined::Waits(answer) => answer,
            Joined::Asks(answer, landing) => {
                let shared = Arc::clone(&self.shared);
                let span = tracing::info_span!("describe", stream = %name);
                let task = async move {
                    shared.describe(landing).await;
                    drop(room);
                };
                self.shared.tasks.spawn(task.instrument(span));
                answer
            }
            Joined::Full => return Err(RecordedError::limit("the edge asks for too many names")),
        };
        wait(answer).await.unwrap_or_else(stopping)
    }

    /// The piece at a place, from the cache or fetched. `generation` 0: whatever there is; the piece says which.
    ///
    /// Callers need not come here from [`Self::cached`] first.
    pub(crate) async fn piece(
        &self,
        name: &StreamName,
        generation: u64,
        place: Place,
    ) -> Result<Arc<Piece>, RecordedError> {
        let mut described = false;
        let mut newest = None;
        for _ in 0..LOOKS {
            let known = match self.generation(name, generation) {
                0 => {
                    let stored = self.describe(name).await?.stored;
                    stored.ok_or(RecordedError::NotFound)?.generation
                }
                known => known,
            };
            let (ask, held) = match self.shared.find(name, known, place) {
                Found::Piece(piece) => {
                    // After a fetch it was counted as that.
                    if newest.is_none() {
                        self.shared.meters.hits.inc();
                    }
                    return Ok(piece);
                }
                Found::Unsure { held, .. } | Found::Grows { held, .. }
                    if self.shared.asker.is_cut_off(name) =>
                {
                    return Ok(held);
                }
                Found::Unsure { held, .. } if !described => {
                    described = true;
                    if matches!(self.describe(name).await, Err(error) if error.may_pass()) {
                        return Ok(held);
                    }
                    // Whatever became of it: the piece itself will tell.
                    continue;
                }
                Found::Unsure { ask, held } | Found::Grows { ask, held } => match newest {
                    // It was fetched a moment ago.
                    Some(newest) => return Ok(newest),
                    None => (ask, Some(held)),
                },
                Found::Missing => (place, None),
            };
            if newest.is_none() {
                self.shared.meters.misses.inc();
            }
            match self.fetch(name, known, ask).await {
                // What was last in the stream is here anew. Whether the place is in it, or in a piece after it, is seen now.
                Ok(piece) if ask != place => newest = Some(piece),
                // What is known of the name has been forgotten.
                Err(RecordedError::Replaced) if generation == 0 => newest = None,
                Err(error) if error.may_pass() => return held.ok_or(error),
                outcome => return outcome,
            }
        }
        newest.ok_or_else(|| RecordedError::unavailable("the recording changes too fast"))
    }

    /// The piece at a place from the cache alone, without waiting. `generation` 0: whatever there is, if that is known.
    pub(crate) fn cached(
        &self,
        name: &StreamName,
        generation: u64,
        place: Place,
    ) -> Option<Arc<Piece>> {
        let known = self.generation(name, generation);
        let Found::Piece(piece) = self.shared.find(name, known, place) else {
            return None;
        };
        self.shared.meters.hits.inc();
        Some(piece)
    }

    /// Has a piece fetched that will be asked for soon, unless it is here or the edge has enough to fetch.
    pub(crate) fn prefetch(&self, name: &StreamName, generation: u64, place: Place) {
        let known = self.generation(name, generation);
        let ask = match self.shared.find(name, known, place) {
            Found::Piece(_) => return,
            Found::Unsure { ask, .. } | Found::Grows { ask, .. } => ask,
            Found::Missing => place,
        };
        if self.shared.asker.is_busy() {
            return;
        }
        let room = match &self.room {
            Some(room) => match Arc::clone(room).try_acquire_owned() {
                Ok(room) => Some(room),
                Err(_) => return,
            },
            None => None,
        };
        let key = (name.clone(), known, ask);
        if let Joined::Asks(answer, landing) = self.shared.fetches.join(key) {
            // Until somebody waits for it, the task does.
            self.start_fetch(landing, (room, answer));
        }
    }

    /// Waits for a piece that is not here.
    async fn fetch(&self, name: &StreamName, generation: u64, place: Place) -> Fetched {
        let room = self.enter().await;
        let answer = match self.shared.fetches.join((name.clone(), generation, place)) {
            Joined::Waits(answer) => answer,
            Joined::Asks(answer, landing) => {
                self.start_fetch(landing, room);
                answer
            }
            Joined::Full => return Err(RecordedError::limit("the edge asks for too many pieces")),
        };
        wait(answer).await.unwrap_or_else(stopping)
    }

    /// `until_then` is held for as long as it takes.
    fn start_fetch(&self, landing: Landing<PieceKey, Fetched>, until_then: impl Send + 'static) {
        let shared = Arc::clone(&self.shared);
        let (name, _, place) = landing.key();
        let span = tracing::info_span!("fetch", stream = %name, ?place);
        let task = async move {
            shared.fetch(landing).await;
            drop(until_then);
        };
        self.shared.tasks.spawn(task.instrument(span));
    }

    /// The generation that 0 stands for, as far as that is known.
    fn generation(&self, name: &StreamName, generation: u64) -> u64 {
        if generation != 0 {
            return generation;
        }
        self.shared
            .known(name)
            .map_or(0, |stored| stored.generation)
    }
}

impl Shared {
    fn find(&self, name: &StreamName, generation: u64, place: Place) -> Found {
        if generation == 0 {
            return Found::Missing;
        }
        let closed = || {
            let stored = self.known(name)?;
            let closed = stored.generation == generation && !stored.growing;
            closed.then_some(stored.end_ms)
        };
        self.cache.find(name, generation, place, closed)
    }

    /// What is known to be stored under a name.
    fn known(&self, name: &StreamName) -> Option<Stored> {
        self.descriptions.find(name)?.ok()?.stored
    }

    async fn describe(self: Arc<Self>, landing: Landing<StreamName, Described>) {
        let name = landing.key();
        let known = || {
            let known = self.descriptions.find(name)?.ok()?;
            Some(Answer::Description(known))
        };
        let moment = self.descriptions.moment();
        let policy = self.policies.policy(&name.vhost, &name.app);
        let question = Question::Describe {
            with_info: policy.is_some_and(|policy| policy.dvr),
        };
        let abandoned = landing.abandoned();
        let Some(answer) = self.asker.ask(name, question, known, abandoned).await else {
            return;
        };
        let outcome = match answer {
            Ok(Answer::Description(description)) => Ok(description),
            Ok(_) => Err(RecordedError::unavailable("no description")),
            Err(error) => {
                note(&error, "a stream cannot be described");
                self.meters.failed(&error);
                let last = self.descriptions.last(name).filter(|_| error.may_pass());
                last.ok_or(error)
            }
        };
        let outcome = self.descriptions.insert_since(moment, name, outcome);
        landing.land(outcome);
    }

    async fn fetch(self: Arc<Self>, landing: Landing<PieceKey, Fetched>) {
        let (name, generation, place) = landing.key();
        let (generation, place) = (*generation, *place);
        let question = Question::Fetch { generation, place };
        let began = Instant::now();
        let known = || match self.find(name, generation, place) {
            Found::Piece(piece) => Some(Answer::Cached(piece)),
            _ => None,
        };
        let abandoned = landing.abandoned();
        let answer = self.asker.ask(name, question, known, abandoned);
        let Some(answer) = answer.await else {
            return;
        };
        let outcome = match answer {
            Ok(Answer::Piece(piece)) => {
                self.cache.insert(name, place, &piece);
                self.meters.cache_bytes.set(self.cache.bytes() as i64);
                self.meters.fetched(piece.size(), began.elapsed());
                if self
                    .known(name)
                    .is_some_and(|it| it.generation != piece.generation)
                {
                    self.descriptions.forget(name);
                }
                Ok(piece)
            }
            Ok(Answer::Cached(piece)) => Ok(piece),
            Ok(Answer::Description(_) | Answer::InfoSet(_)) => {
                Err(RecordedError::unavailable("no piece"))
            }
            Err(error) => {
                note(&error, "a piece cannot be fetched");
                self.meters.failed(&error);
                if matches!(error, RecordedError::Replaced | RecordedError::NotFound) {
                    self.descriptions.forget(name);
                }
                Err(error)
            }
        };
        landing.land(outcome);
    }
}

/// Clients are told less.
fn note(error: &RecordedError, what: &str) {
    match error.may_pass() {
        true => info!(%error, "{what}"),
        false => debug!(%error, "{what}"),
    }
}

fn stopping<T>() -> Result<T, RecordedError> {
    Err(RecordedError::unavailable("the edge stops"))
}
