//! The pieces that this edge holds, shared by all its viewers.
//!
//! Invariants:
//! - bounded in bytes; what was not used for the longest time goes first, whatever stream it is of;
//! - one short lock: pieces are made, copied and freed outside of it, and each step under it is O(log n). A media time is looked for
//!   in [`MOST_BACK`] pieces at most: a file may have a key frame an hour;
//! - a piece that more pieces follow is right for as long as it is held. The last one of a stream may come again with more frames, so
//!   it has to be looked after: see [`Found::Unsure`] and [`Found::Grows`].
//!
//! It asks nobody: what is not here is [`Found::Missing`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use headwater_media::frame::{Epoch, Offset};
use headwater_media::name::StreamName;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::model::{Follows, Place};
use super::piece::Piece;

/// Pieces that are looked at for the place from which a decoder can start at some media time: minutes of media, where key frames are
/// seconds apart in nearly every file. An origin is asked for what is farther back.
pub(super) const MOST_BACK: usize = 64;

/// Sorts after every other place of the same media time.
const LAST: Offset = Offset {
    epoch: Epoch(u64::MAX),
    sequence: u64::MAX,
};

/// What the cache has for a place.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Piece(Arc<Piece>),
    /// What is here was right, and still is if the stream was not appended to: a description tells. If it was, `ask` for this.
    Unsure {
        ask: Place,
        held: Arc<Piece>,
    },
    /// What is here is the last piece of a growing recording, and too old: ask for this.
    Grows {
        ask: Place,
        held: Arc<Piece>,
    },
    Missing,
}

/// How long to believe what may change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trust {
    /// The last piece of a growing recording.
    pub(super) growing: Duration,
    /// The ends of a stream of which nothing else is known.
    pub(super) ends: Duration,
}

/// The cache of one edge.
pub(super) struct Cache {
    limit: usize,
    trust: Trust,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bytes: usize,
    /// Counts uses.
    clock: u64,
    /// A stream has more than one generation here for as long as viewers of an old one are about.
    streams: HashMap<Arc<StreamName>, Vec<Generation>>,
    /// Least recently used first.
    recent: BTreeMap<u64, Key>,
}

struct Key {
    name: Arc<StreamName>,
    generation: u64,
    first: Offset,
}

struct Generation {
    number: u64,
    pieces: BTreeMap<Offset, Held>,
    /// By media time of the beginning.
    times: BTreeSet<(u64, Offset)>,
    beginning: Option<Beginning>,
}

/// The first piece, which answers times before it, too.
#[derive(Clone, Copy)]
struct Beginning {
    first: Offset,
    /// The latest time that an origin answered with it, and when it did.
    until: u64,
    since: Instant,
}

struct Held {
    piece: Arc<Piece>,
    since: Instant,
    used: u64,
    /// The latest time that an origin answered with this piece once more pieces followed it: no decoder can start between the piece
    /// and that.
    until: u64,
}

impl Cache {
    pub(super) fn new(limit: usize, trust: Trust) -> Self {
        Self {
            limit,
            trust,
            state: Mutex::default(),
        }
    }

    /// What is here for a place. `closed` tells, where it is needed, the end in milliseconds of a stream that is known not to grow
    /// now; it must be quick.
    pub(super) fn find(
        &self,
        name: &StreamName,
        generation: u64,
        place: Place,
        closed: impl Fn() -> Option<u64>,
    ) -> Found {
        let mut state = self.state.lock();
        let State {
            clock,
            streams,
            recent,
            ..
        } = &mut *state;
        let Some(run) = streams
            .get_mut(name)
            .and_then(|runs| runs.iter_mut().find(|run| run.number == generation))
        else {
            return Found::Missing;
        };
        let now = Instant::now();
        let Some((first, by_beginning)) = run.locate(place) else {
            return Found::Missing;
        };
        let beginning = run.beginning;
        let Some(held) = run.pieces.get_mut(&first) else {
            return Found::Missing;
        };
        let piece = || Arc::clone(&held.piece);
        let old = |since: Instant, trust| now.saturating_duration_since(since) >= trust;
        if by_beginning
            && beginning.is_none_or(|it| old(it.since, self.trust.ends))
            && closed().is_none()
        {
            return Found::Unsure {
                ask: place,
                held: piece(),
            };
        }
        let ask = Place::Offset(first);
        match held.piece.follows {
            Follows::Piece => {}
            Follows::Live if old(held.since, self.trust.growing) => {
                let held = piece();
                return Found::Grows { ask, held };
            }
            Follows::End
                if old(held.since, self.trust.ends)
                    && closed().is_none_or(|end| end > held.piece.end_ms) =>
            {
                let held = piece();
                return Found::Unsure { ask, held };
            }
            Follows::Live | Follows::End => {}
        }
        *clock += 1;
        if let Some(key) = recent.remove(&held.used) {
            recent.insert(*clock, key);
        }
        held.used = *clock;
        Found::Piece(Arc::clone(&held.piece))
    }

    /// Takes a piece that was asked for by `place`.
    pub(super) fn insert(&self, name: &StreamName, place: Place, piece: &Arc<Piece>) {
        let now = Instant::now();
        let mut freed = Vec::new();
        let mut state = self.state.lock();
        state.put(name, place, piece, now, &mut freed);
        while state.bytes > self.limit && state.recent.len() > 1 {
            state.evict(&mut freed);
        }
        drop(state);
        // Here, not under the lock: the last one to let go of a piece frees a mebibyte.
        drop(freed);
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

impl State {
    fn put(
        &mut self,
        name: &StreamName,
        place: Place,
        piece: &Arc<Piece>,
        now: Instant,
        freed: &mut Vec<Arc<Piece>>,
    ) {
        let name = match self.streams.get_key_value(name) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(name.clone()),
        };
        let runs = self.streams.entry(Arc::clone(&name)).or_default();
        let index = match runs.iter().position(|run| run.number == piece.generation) {
            Some(index) => index,
            None => {
                runs.push(Generation::new(piece.generation));
                runs.len() - 1
            }
        };
        let Some(run) = runs.get_mut(index) else {
            return;
        };
        if let Some(held) = run.pieces.get_mut(&piece.first) {
            // Two answers may cross: pieces only ever grow.
            let newer = held.piece.follows != Follows::Piece && held.piece.next <= piece.next;
            if !newer {
                run.learn(place, piece, now);
                return;
            }
            self.bytes = (self.bytes + piece.size()).saturating_sub(held.piece.size());
            run.times.remove(&(held.piece.start_ms, held.piece.first));
            run.times.insert((piece.start_ms, piece.first));
            held.since = now;
            freed.push(std::mem::replace(&mut held.piece, Arc::clone(piece)));
            run.learn(place, piece, now);
            return;
        }
        self.clock += 1;
        self.bytes += piece.size();
        run.times.insert((piece.start_ms, piece.first));
        let held = Held {
            piece: Arc::clone(piece),
            since: now,
            used: self.clock,
            until: 0,
        };
        run.pieces.insert(piece.first, held);
        run.learn(place, piece, now);
        let key = Key {
            name,
            generation: piece.generation,
            first: piece.first,
        };
        self.recent.insert(self.clock, key);
    }

    /// Lets go of what was not used for the longest time.
    fn evict(&mut self, freed: &mut Vec<Arc<Piece>>) {
        let Some((_, key)) = self.recent.pop_first() else {
            return;
        };
        let Some(runs) = self.streams.get_mut(&key.name) else {
            return;
        };
        if let Some(run) = runs.iter_mut().find(|run| run.number == key.generation)
            && let Some(held) = run.pieces.remove(&key.first)
        {
            self.bytes = self.bytes.saturating_sub(held.piece.size());
            run.times.remove(&(held.piece.start_ms, key.first));
            freed.push(held.piece);
        }
        runs.retain(|run| !run.pieces.is_empty());
        if runs.is_empty() {
            self.streams.remove(&key.name);
            if self.streams.capacity() > 256 && self.streams.len() * 4 < self.streams.capacity() {
                self.streams.shrink_to(self.streams.len() * 2);
            }
        }
    }
}

impl Generation {
    fn new(number: u64) -> Self {
        Self {
            number,
            pieces: BTreeMap::new(),
            times: BTreeSet::new(),
            beginning: None,
        }
    }

    /// The piece that answers a place, and whether it does only because nothing is before it.
    fn locate(&self, place: Place) -> Option<(Offset, bool)> {
        match place {
            Place::Offset(offset) => Some((self.at_offset(offset)?, false)),
            Place::Time(ms) => self.at_time(ms),
        }
    }

    fn at_offset(&self, offset: Offset) -> Option<Offset> {
        let (first, held) = self.pieces.range(..=offset).next_back()?;
        let piece = &held.piece;
        // At the end of the last piece there may be more by now, and it belongs to that piece until that is full.
        let waits = offset == piece.next && piece.follows != Follows::Piece;
        (*first == offset || offset < piece.next || waits).then_some(*first)
    }

    fn at_time(&self, ms: u64) -> Option<(Offset, bool)> {
        if let Some(beginning) = self.beginning
            && ms <= beginning.until
        {
            return Some((beginning.first, true));
        }
        // Whether every piece from the one that is looked at to the one that holds `ms` is here.
        let mut whole = true;
        let mut after = None;
        for (_, first) in self.times.range(..=(ms, LAST)).rev().take(MOST_BACK) {
            let held = self.pieces.get(first)?;
            let piece = &held.piece;
            whole &= match after {
                Some(after) => piece.next == after,
                None => ms < piece.end_ms || piece.follows != Follows::Piece,
            };
            if piece.starts_at(ms) {
                return (whole || ms <= held.until).then_some((*first, false));
            }
            // It was cut for its size and begins within a group of pictures: the key frame is in one before.
            after = Some(*first);
        }
        let beginning = self.beginning?.first;
        (whole && after == Some(beginning)).then_some((beginning, true))
    }

    /// Learns from what an origin gave for a place. Later times have the same answer or a later one.
    fn learn(&mut self, place: Place, piece: &Piece, now: Instant) {
        let Place::Time(ms) = place else {
            return;
        };
        if piece.starts_at(ms) {
            self.beginning = self.beginning.filter(|it| it.until < ms);
            if let Some(held) = self.pieces.get_mut(&piece.first)
                && piece.follows == Follows::Piece
            {
                held.until = held.until.max(ms);
            }
            return;
        }
        // A piece in which nothing starts by then is given only where there is none before it. Of one that grows there is more to
        // come, and it may start there.
        let ms = match piece.follows {
            Follows::Piece => ms,
            Follows::Live | Follows::End => ms.min(piece.start_ms),
        };
        let known = self.beginning.filter(|it| it.first == piece.first);
        self.beginning = Some(Beginning {
            first: piece.first,
            until: known.map_or(ms, |it| it.until.max(ms)),
            since: now,
        });
    }
}
