//! `play2`: going over to another stream while one is played.
//!
//! A switch between stored streams is meant to be unseen: both have the same content, so the new one begins at a key frame at the
//! very media time at which the old one ends. The old one goes on while the new one is looked up, up to the end of the piece that
//! is being sent; the client has its buffer meanwhile. Where either of them is live the switch is a cut.

use std::sync::Arc;
use std::time::Duration;

use headwater_media::frame::Offset;
use headwater_rtmp::command::{PlayLength, PlayStart};
use headwater_rtmp::status::StatusCode;

use super::answer::{Found, code_of, found};
use super::feed;
use super::*;
use crate::recorded::Place;

/// Pieces looked at for a key frame to switch at: more means that the streams do not fit each other.
const MAX_LOOKS: u8 = 4;

/// The word of a `play2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transition {
    /// Empty the playlist and play.
    Reset,
    /// Play after what is in the playlist.
    Append,
    /// As before, but do not begin.
    AppendAndWait,
    /// Stop, and empty the playlist.
    Stop,
    /// Play this in the place of another entry.
    Swap,
    /// The same content in another form.
    Switch,
    /// Go on at the place where another connection ended.
    Resume,
}

impl Transition {
    /// Reads the word; any other is a switch, which is what Adobe's players mean by none.
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "reset" => Self::Reset,
            "append" => Self::Append,
            "appendAndWait" => Self::AppendAndWait,
            "stop" => Self::Stop,
            "swap" => Self::Swap,
            "resume" => Self::Resume,
            _ => Self::Switch,
        }
    }
}

/// A switch under way.
#[derive(Debug)]
pub(super) struct Change {
    entry: Entry,
    /// Of the question that is asked for it.
    pub(super) number: u64,
    step: Step,
    /// Media time before which the client does not want it.
    not_before: u64,
    looks: u8,
}

#[derive(Debug)]
enum Step {
    Describing,
    /// Looking for a key frame at or after this media time, at which the old stream waits.
    Fetching {
        stored: Stored,
        from: u64,
    },
    /// Found: the piece that begins at `next` and this frame of it, which stands at this media time.
    Ready {
        stored: Stored,
        next: Offset,
        from: Offset,
        at: u64,
    },
}

impl Change {
    pub(super) fn stream(&self) -> &StreamName {
        &self.entry.stream
    }

    /// Whether its question is not answered yet.
    pub(super) fn is_asking(&self) -> bool {
        !matches!(self.step, Step::Ready { .. })
    }

    /// Media time of the switch, once it is known.
    pub(super) fn at(&self) -> Option<u64> {
        match self.step {
            Step::Ready { at, .. } => Some(at),
            _ => None,
        }
    }

    /// Whether the old stream must not go on beyond here yet.
    pub(super) fn holds(&self, position: u64) -> bool {
        match self.step {
            Step::Describing => false,
            Step::Fetching { from, .. } => position >= from,
            Step::Ready { at, .. } => position >= at,
        }
    }
}

impl Player {
    /// `play2`. `old` is the entry that it is about, if not the one that plays; `offset` is in milliseconds.
    pub(crate) fn transition(
        &mut self,
        now: Duration,
        transition: Transition,
        mut entry: Entry,
        old: Option<&str>,
        offset: Option<u64>,
    ) {
        let playing = self.entry.is_some() && !matches!(self.stage, Stage::Idle | Stage::Ended);
        match transition {
            Transition::Reset => self.play(entry, true),
            Transition::Append => self.play(entry, false),
            Transition::AppendAndWait => {
                self.append(entry);
            }
            Transition::Stop => self.stop(),
            Transition::Resume => {
                if let Some(offset) = offset {
                    entry.start = PlayStart::At(u32::try_from(offset).unwrap_or(u32::MAX));
                }
                self.play(entry, false);
            }
            Transition::Swap if old.is_some_and(|old| old != self.name()) => {
                let name = entry.name.clone();
                let forced = false;
                if self.playlist.swap(old.unwrap_or_default(), entry) {
                    self.tell(Notice::Transition { name, forced });
                } else {
                    let why = "The entry to be replaced is not in the playlist.".to_owned();
                    let code = StatusCode::PlayFailed;
                    self.tell(Notice::EntryFailed { code, name, why });
                }
            }
            Transition::Switch | Transition::Swap if playing => self.switch(entry, offset),
            Transition::Switch | Transition::Swap => self.play(entry, true),
        }
        self.handle_timeout(now);
    }

    fn switch(&mut self, entry: Entry, offset: Option<u64>) {
        self.number += 1;
        let change = Change {
            number: self.number,
            step: Step::Describing,
            not_before: offset.unwrap_or(0),
            looks: 0,
            entry,
        };
        if change.entry.start == PlayStart::Live {
            self.cut(change.entry);
            return;
        }
        // What is asked for the stream that plays keeps its own number: an answer to it is still wanted.
        self.actions.push_back(Action::Describe {
            number: self.number,
            stream: Arc::clone(&change.entry.stream),
        });
        self.change = Some(Box::new(change));
    }

    /// Goes over at once.
    fn cut(&mut self, entry: Entry) {
        self.tell(Notice::Transition {
            name: entry.name.clone(),
            forced: !self.live,
        });
        let how = How {
            transition: true,
            ..How::default()
        };
        self.start_entry(entry, how);
    }

    /// The answer to what [`Self::switch`] asked.
    pub(super) fn change_described(
        &mut self,
        answer: Result<Description, RecordedError>,
        live_here: bool,
    ) {
        let Some(mut change) = self.change.take() else {
            return;
        };
        let description = match answer {
            Ok(description) => description,
            Err(error) => {
                self.refuse_change(&change.entry, code_of(&error), error.told());
                return;
            }
        };
        let stored = match found(&change.entry, &description, live_here) {
            Found::Stored(stored) => stored,
            Found::Live => {
                change.entry.start = PlayStart::Live;
                self.cut(change.entry);
                return;
            }
            Found::Nothing => {
                let why = format!("There is no stream \"{}\".", change.entry.name);
                self.refuse_change(&change.entry, StatusCode::PlayStreamNotFound, why);
                return;
            }
        };
        let Some(track) = &self.track else {
            self.cut(change.entry);
            return;
        };
        let reached = match &self.stage {
            Stage::Sending(feed) => feed.piece().end_ms,
            Stage::Aside { end_ms } => *end_ms,
            _ => track.position,
        };
        let from = reached.max(change.not_before);
        if from >= stored.end_ms && !stored.growing {
            let why = "The stream is shorter than the one that plays.".to_owned();
            self.refuse_change(&change.entry, StatusCode::PlayFailed, why);
            return;
        }
        self.tell(Notice::Transition {
            name: change.entry.name.clone(),
            forced: false,
        });
        change.step = Step::Fetching { stored, from };
        self.fetch_change(change, stored, Place::Time(from));
    }

    fn fetch_change(&mut self, mut change: Box<Change>, stored: Stored, place: Place) {
        self.number += 1;
        change.number = self.number;
        change.looks += 1;
        self.actions.push_back(Action::Fetch {
            number: self.number,
            stream: Arc::clone(&change.entry.stream),
            generation: stored.generation,
            place,
        });
        self.change = Some(change);
    }

    pub(super) fn change_piece(
        &mut self,
        now: Duration,
        answer: Result<Arc<Piece>, RecordedError>,
    ) {
        let Some(mut change) = self.change.take() else {
            return;
        };
        let Step::Fetching { stored, from } = change.step else {
            self.change = Some(change);
            return;
        };
        let piece = match answer {
            Ok(piece) => piece,
            Err(error) => {
                self.refuse_change(&change.entry, code_of(&error), error.told());
                self.go_on(now);
                return;
            }
        };
        let found = feed::onward(&piece, from);
        let more = piece.follows == Follows::Piece && change.looks < MAX_LOOKS;
        let index = match found {
            None if more => {
                self.fetch_change(change, stored, Place::Offset(piece.next));
                return;
            }
            found => found.unwrap_or_else(|| piece.start_at(from)),
        };
        let first = piece.frames.get(index);
        // The piece is let go of until it is needed: the old stream may be paused for hours.
        change.step = Step::Ready {
            stored,
            next: piece.first,
            from: first.map_or(piece.first, |frame| frame.offset),
            at: first.map_or(from, |frame| frame.timestamp.max(from)),
        };
        self.change = Some(change);
        self.go_on(now);
    }

    /// The old stream may go on, or is where the new one begins.
    fn go_on(&mut self, now: Duration) {
        // Also while the old one is waited for, which may be the very reason for the switch.
        let waits = matches!(
            self.stage,
            Stage::Resting
                | Stage::Tail { .. }
                | Stage::Fetching(Cue::Next)
                | Stage::Retrying { cue: Cue::Next, .. }
        );
        if waits && !self.change_if_due() {
            self.handle_timeout(now);
        }
    }

    /// Goes over to the new stream if the old one has come to where it begins.
    pub(super) fn change_if_due(&mut self) -> bool {
        let position = match &self.stage {
            Stage::Sending(feed) => feed.position(),
            _ => self.track.as_ref().map_or(0, |track| track.position),
        };
        let due = |change: &mut Box<Change>| change.at().is_some_and(|at| position >= at);
        let (Some(change), Some(track)) = (self.change.take_if(due), &mut self.track) else {
            return false;
        };
        let Change { entry, step, .. } = *change;
        let Step::Ready {
            stored,
            next,
            from,
            at,
        } = step
        else {
            return false;
        };
        track.stored = stored;
        track.until = match entry.length {
            PlayLength::Milliseconds(length) => Some(at.saturating_add(length.into())),
            PlayLength::All | PlayLength::OneFrame => None,
        };
        track.mark = None;
        (track.next, track.from, track.fresh) = (next, from, true);
        track.failing = None;
        self.entry = Some(Entry {
            length: PlayLength::All,
            ..entry
        });
        self.transition = true;
        self.fetch_next();
        true
    }

    /// The old stream ended before the new one could begin.
    pub(super) fn fail_change(&mut self, why: &str) {
        if let Some(change) = self.change.take() {
            self.refuse_change(&change.entry, StatusCode::PlayFailed, why.to_owned());
        }
    }

    fn refuse_change(&mut self, entry: &Entry, code: StatusCode, why: String) {
        let code = match code {
            StatusCode::PlayStreamNotFound => code,
            _ => StatusCode::PlayFailed,
        };
        let name = entry.name.clone();
        self.tell(Notice::EntryFailed { code, name, why });
    }
}
