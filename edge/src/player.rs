//! A player: one NetStream that plays what is stored, and what is live in between.
//!
//! Adobe's RTMP specification, section 7.2.2 (play, play2, seek, pause, receiveAudio, receiveVideo), and Adobe Media Server's order of
//! messages where the specification is silent.
//!
//! ```text
//!        describe            fetch               bytes             clock
//! entry ----------> stored --------> first piece ------> sending <--------> resting --> next entry, or the end
//!            |                                             |
//!            `----> live                                   `--> tail of a recording that grows --> live, at that very frame
//! ```
//!
//! # How to drive it
//! After every call that takes `&mut self`, do what [`Player::poll_action`] gives, in order, until it gives nothing. Only then
//! [`Player::poll_transmit`] gives media: that is how statuses and media keep their order. Call [`Player::handle_timeout`] when
//! [`Player::poll_timeout`] has passed.
//!
//! # Invariants
//! - A question to the cluster has a number; an answer is dropped unless the player still waits for it, see
//!   [`Player::waits_for`]. So a client that changes its mind as often as it likes gets what it wanted last.
//! - A viewer holds one piece while it is sent, and none while it rests, is paused or was told to put it away because its socket is full:
//!   what is held beside the cache is little, however many viewers are slow.
//! - Timestamps are the stream's own, recorded and live alike, but for a client that begins in the middle of a file, which counts from
//!   there as with Adobe's server, until it seeks. No frame is sent twice or left out where a viewer goes from one to the
//!   other, but for what it asked to have again.
//!
//! # What it does not do
//! No sockets, no clock, no calls: time and answers come in. The live stream itself is played by [`crate::fanout`]; a viewer that is live
//! costs what a live viewer costs, and needs no player, see [`Player::is_needed`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_media::name::StreamName;
use headwater_rtmp::command::{PlayLength, PlayStart};
use headwater_rtmp::status::StatusCode;

use crate::recorded::{Description, Follows, Piece, Place, RecordedError, Stored};

mod action;
mod answer;
mod ask;
mod change;
mod command;
mod entry;
mod feed;
mod notice;
mod pace;
mod passage;
#[cfg(test)]
pub(crate) mod tests;
mod track;

pub(crate) use action::Action;
use change::Change;
pub(crate) use change::Transition;
pub(crate) use entry::Entry;
use entry::Playlist;
use feed::{Feed, Limit, Reached, Wishes};
pub(crate) use feed::{Mark, Sent};
pub(crate) use notice::{Notice, seconds, transition_complete};
use pace::Clock;
pub(crate) use pace::Pacing;
use track::Track;

/// How long a viewer at the tail of a recording waits before it asks for more of it: doubled each time that there is none.
const TAIL_WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Pause between two tries for a piece that cannot be had, after all tries of the edge itself.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// How long a piece may be out of reach before playback fails: longer than it takes to replace an origin.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a recording may change under a viewer before the next picture.
const MAX_REPLACED: u8 = 4;

/// How an entry begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct How {
    /// The playlist was emptied for it.
    reset: bool,
    /// It follows another entry.
    switch: bool,
    /// The client asked for a transition, and is told when it is done instead of being told of a start.
    transition: bool,
}

/// Why a name is described.
#[derive(Clone, Copy, Debug)]
enum Why {
    Begin(How),
    Seek(u64),
    /// A live viewer goes on after a pause.
    Unpause(Cue),
    /// What was stored is not there any more.
    Replaced,
}

/// What to do with the piece that was asked for.
#[derive(Clone, Copy, Debug)]
enum Cue {
    /// Begin.
    Begin(How),
    /// Seek to this media time.
    Seek(u64),
    /// Go on where the track stands.
    Next,
    /// Go on behind this media time: the client says that it has what came before.
    After(u64),
    /// Go on behind this frame.
    Behind(Mark),
}

/// What the player does.
#[derive(Debug, Default)]
enum Stage {
    /// Nothing.
    #[default]
    Idle,
    Describing(Why),
    /// Nothing is stored, or nobody knows; if nothing is live either, this is what the client is told.
    Finding(How, StatusCode),
    Fetching(Cue),
    Sending(Feed),
    /// The socket is full: what is being sent was put away. It is asked for again when there is room.
    Aside {
        /// Media time at which the piece ends, in milliseconds.
        end_ms: u64,
    },
    /// Everything that is due was sent.
    Resting,
    /// At the end of a recording that grows.
    Tail {
        again: Duration,
    },
    /// A piece cannot be had now.
    Retrying {
        at: Duration,
        cue: Cue,
        place: Place,
    },
    /// The live stream is played.
    Live,
    /// The last entry was played. The client may seek back.
    Ended,
}

/// A pause.
#[derive(Clone, Copy, Debug)]
struct Pause {
    /// Where the client says that it is, in milliseconds; 0 if it does not say.
    at: u64,
    /// What the live play had sent.
    live: Option<Mark>,
}

/// One NetStream that plays.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) stream_id: u32,
    pacing: Pacing,
    /// What the client buffers.
    buffer: Duration,
    wishes: Wishes,
    playlist: Playlist,
    entry: Option<Entry>,
    stage: Stage,
    track: Option<Track>,
    /// The connection plays the live stream.
    live: bool,
    paused: Option<Pause>,
    /// One picture is to be sent although it is paused.
    snapshot: bool,
    /// Where the client wants to be as soon as the entry has begun.
    seek_first: Option<u64>,
    change: Option<Box<Change>>,
    /// A transition whose media is about to be sent.
    transition: bool,
    actions: VecDeque<Action>,
    /// How many questions were asked, and which of them is the one that the stage waits for.
    number: u64,
    asked: u64,
    /// How long it waits at the tail of a recording before it asks again.
    tail_wait: Duration,
    /// It has come to the end of its playlist.
    ended: bool,
    /// Of the playlist so far: bytes sent, milliseconds of media.
    bytes: u64,
    duration_ms: u64,
}

impl Player {
    /// A player of nothing yet. `number` tells its questions from those of the session's other players.
    pub(crate) fn new(stream_id: u32, number: u32, pacing: Pacing) -> Self {
        Self {
            stream_id,
            pacing,
            buffer: Duration::ZERO,
            wishes: Wishes::of(stream_id),
            playlist: Playlist::default(),
            entry: None,
            stage: Stage::Idle,
            track: None,
            live: false,
            paused: None,
            snapshot: false,
            seek_first: None,
            change: None,
            transition: false,
            actions: VecDeque::new(),
            number: u64::from(number) << 32,
            asked: 0,
            tail_wait: TAIL_WAITS.0,
            ended: false,
            bytes: 0,
            duration_ms: 0,
        }
    }

    /// A player for a client whose connection plays this live stream already.
    pub(crate) fn of_live(stream_id: u32, number: u32, pacing: Pacing, entry: Entry) -> Self {
        Self {
            entry: Some(entry),
            stage: Stage::Live,
            live: true,
            ..Self::new(stream_id, number, pacing)
        }
    }

    /// What to do next. To be called after every call that takes `&mut self`, until there is nothing.
    #[must_use]
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if self.actions.is_empty() && self.actions.capacity() > 0 {
            // Thousands of viewers rest most of the time.
            self.actions = VecDeque::new();
        }
        action
    }

    /// Whether [`Self::poll_action`] has something.
    pub(crate) fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// When to call [`Self::handle_timeout`], if at all.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Resting if self.may_advance() => {
                let track = self.track.as_ref()?;
                Some(track.clock.due(track.position, self.ahead()))
            }
            Stage::Tail { again } if self.paused.is_none() => Some(*again),
            Stage::Retrying { at, .. } if self.paused.is_none() => Some(*at),
            _ => None,
        }
    }

    /// Does what is due at this time.
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        match &self.stage {
            Stage::Resting => self.advance(now),
            Stage::Tail { again } if self.paused.is_none() && *again <= now => self.fetch_next(),
            Stage::Retrying { at, cue, place } if self.paused.is_none() && *at <= now => {
                let (cue, place) = (*cue, *place);
                self.fetch(cue, place);
            }
            _ => {}
        }
    }

    /// Moves media to `out`, about `budget` bytes of it: nothing while there are actions, and nothing before it is due.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Duration,
        out: &mut VecDeque<Bytes>,
        budget: usize,
    ) -> Sent {
        if self.has_actions() || (self.paused.is_some() && !self.snapshot) {
            return Sent::default();
        }
        if matches!(self.stage, Stage::Aside { .. }) {
            self.fetch_next();
            return Sent::default();
        }
        let limit = self.limit();
        let (Stage::Sending(feed), Some(track)) = (&mut self.stage, &mut self.track) else {
            return Sent::default();
        };
        let (sent, reached) = feed.emit(&mut self.wishes, limit, out, budget, &mut track.mark);
        track.position = feed.position();
        self.bytes = self.bytes.saturating_add(sent.bytes as u64);
        if sent.frames > 0 {
            track.replaced = 0;
            if std::mem::take(&mut self.transition)
                && let Some(entry) = &self.entry
            {
                let name = entry.name.clone();
                self.tell(Notice::TransitionComplete { name });
            }
        }
        match reached {
            Reached::Budget => {}
            Reached::Limit => self.limit_reached(),
            Reached::End => self.piece_sent(now),
        }
        sent
    }

    /// Whether it holds a piece.
    pub(crate) fn holds_piece(&self) -> bool {
        matches!(self.stage, Stage::Sending(_))
    }

    /// Puts the piece away that is being sent, because there will be no room for it soon.
    pub(crate) fn set_aside(&mut self) {
        if let Stage::Sending(feed) = &self.stage {
            let end_ms = feed.piece().end_ms;
            self.hold();
            self.stage = Stage::Aside { end_ms };
        }
    }

    /// Whether the session has to keep it: a client that plays a live stream and has nothing else to come does not need one.
    pub(crate) fn is_needed(&self) -> bool {
        let idle = match self.stage {
            Stage::Live => self.playlist.is_empty(),
            Stage::Idle => self.playlist.is_empty(),
            _ => false,
        };
        !idle || self.paused.is_some() || self.change.is_some() || self.has_actions()
    }

    /// Whether the answer to a question is still wanted.
    pub(crate) fn waits_for(&self, number: u64) -> bool {
        let waits = matches!(
            self.stage,
            Stage::Describing(_) | Stage::Finding(..) | Stage::Fetching(_)
        );
        let change = self.change.as_deref();
        (waits && self.asked == number)
            || change.is_some_and(|change| change.is_asking() && change.number == number)
    }

    /// The stream that the answer to a question would be taken for: the one that is gone over to, or the one that plays.
    pub(crate) fn asked_about(&self, number: u64) -> Option<&StreamName> {
        let change = self.change.as_deref();
        match change.filter(|change| change.number == number) {
            Some(change) => Some(change.stream()),
            None => self.entry.as_ref().map(|entry| entry.stream.as_ref()),
        }
    }

    /// The place that will be asked for as soon as this piece, which has just been taken, was sent.
    pub(crate) fn needs_soon(&self, now: Duration, piece: &Piece) -> Option<(&StreamName, Place)> {
        let (Stage::Sending(feed), Some(track)) = (&self.stage, &self.track) else {
            return None;
        };
        let taken = std::ptr::eq(feed.piece(), piece) && piece.follows == Follows::Piece;
        let over = track.until.is_some_and(|until| piece.end_ms >= until);
        let soon = track.clock.due(piece.end_ms, self.ahead()) <= now;
        let wanted = taken && !over && soon && self.paused.is_none();
        let entry = self.entry.as_ref()?;
        wanted.then(|| (entry.stream.as_ref(), Place::Offset(piece.next)))
    }

    /// Whether the client is served from what is stored, or waits to be.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// What it plays, as the client calls it.
    pub(crate) fn name(&self) -> &str {
        self.entry.as_ref().map_or("", |entry| entry.name.as_str())
    }

    /// What the client wants of the media.
    pub(crate) fn receives(&self) -> (bool, bool) {
        (self.wishes.audio, self.wishes.video)
    }

    fn limit(&self) -> Limit {
        let still = self.entry.as_ref().map(|entry| entry.length) == Some(PlayLength::OneFrame);
        if self.snapshot || still {
            return Limit::OnePicture;
        }
        let until = self.track.as_ref().and_then(|track| track.until);
        let change = self.change.as_ref().and_then(|change| change.at());
        match (until, change) {
            (Some(until), Some(change)) => Limit::Until(until.min(change)),
            (Some(only), None) | (None, Some(only)) => Limit::Until(only),
            (None, None) => Limit::Piece,
        }
    }

    fn limit_reached(&mut self) {
        if std::mem::take(&mut self.snapshot) && self.paused.is_some() {
            self.hold();
        } else if !self.change_if_due() {
            self.finish_entry();
        }
    }

    /// The last frame of a piece is out.
    fn piece_sent(&mut self, now: Duration) {
        let Stage::Sending(feed) = std::mem::take(&mut self.stage) else {
            return;
        };
        let Some(track) = &mut self.track else {
            return;
        };
        let piece = feed.piece();
        (track.next, track.from) = (piece.next, track.from.max(piece.next));
        track.position = track.position.max(piece.end_ms);
        track.fresh = feed.is_fresh();
        let (follows, over) = (piece.follows, track.is_over());
        self.stage = Stage::Resting;
        if self.change_if_due() {
            return;
        }
        match follows {
            Follows::End => self.finish_entry(),
            _ if over => self.finish_entry(),
            Follows::Piece => self.advance(now),
            Follows::Live => self.wait_at_tail(now, TAIL_WAITS.0),
        }
    }

    /// Asks for the next piece if the viewer needs it.
    fn advance(&mut self, now: Duration) {
        if !self.may_advance() {
            return;
        }
        let ahead = self.ahead();
        let Some(track) = &mut self.track else {
            return;
        };
        track.clock.wait_at(now, track.position);
        if track.clock.due(track.position, ahead) <= now {
            self.fetch_next();
        }
    }

    /// Whether time alone decides when it goes on.
    fn may_advance(&self) -> bool {
        let position = self.track.as_ref().map_or(0, |track| track.position);
        let held = |change: &Change| change.holds(position);
        self.paused.is_none() && !self.change.as_deref().is_some_and(held)
    }

    /// How far ahead of the viewer's clock media is sent.
    fn ahead(&self) -> Duration {
        let untimed = self.entry.as_ref().is_some_and(|entry| entry.untimed);
        if untimed {
            return Duration::MAX;
        }
        self.buffer.min(self.pacing.most).max(self.pacing.least)
    }

    fn wait_at_tail(&mut self, now: Duration, wait: Duration) {
        self.tail_wait = wait;
        if self.paused.is_some() {
            self.stage = Stage::Resting;
            return;
        }
        let again = now.saturating_add(wait);
        self.stage = Stage::Tail { again };
        if self.change.is_some() {
            return;
        }
        let (Some(entry), Some(track)) = (&self.entry, &self.track) else {
            return;
        };
        let length = track.until.map_or(PlayLength::All, |until| {
            let left = until.saturating_sub(track.position);
            PlayLength::Milliseconds(u32::try_from(left).unwrap_or(u32::MAX))
        });
        self.actions.push_back(Action::Join {
            name: entry.name.clone(),
            stream: Arc::clone(&entry.stream),
            from: track.from,
            length,
            ends: !self.playlist.is_empty(),
        });
    }

    /// Puts the piece away that is being sent; it is asked for again when it is needed.
    fn hold(&mut self) {
        if let Stage::Sending(feed) = &self.stage
            && let Some(track) = &mut self.track
        {
            let piece = feed.piece();
            let (next, from) = feed.next().map_or((piece.next, piece.next), |frame| {
                (piece.first, frame.offset)
            });
            // What the client has live may be ahead of what is stored.
            (track.next, track.from) = (next, track.from.max(from));
            track.position = feed.position();
            track.fresh = feed.is_fresh();
        }
        self.stage = Stage::Resting;
    }

    fn tell(&mut self, notice: Notice) {
        self.actions.push_back(Action::Tell(notice));
    }
}
