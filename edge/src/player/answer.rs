//! What the cluster answers.

use super::feed::{self, Place as FeedPlace};
use super::*;

/// What there is to play under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Stored(Stored),
    Live,
    Nothing,
}

/// What to play of what there is. `live_here`: this edge plays the live stream to others, whatever the origin says.
pub(super) fn found(entry: &Entry, description: &Description, live_here: bool) -> Found {
    let publishing = description.publishing || live_here;
    match (entry.start, description.stored) {
        (PlayStart::Live, _) => Found::Live,
        (PlayStart::LiveOrRecorded, _) if publishing => Found::Live,
        (PlayStart::LiveOrRecorded, None) if entry.waits() => Found::Live,
        (_, Some(stored)) => Found::Stored(stored),
        // Many players ask for "from the start" and mean whatever there is.
        (PlayStart::At(_), None) if publishing => Found::Live,
        (PlayStart::LiveOrRecorded | PlayStart::At(_), None) => Found::Nothing,
    }
}

/// What a client is told.
pub(super) fn code_of(error: &RecordedError) -> StatusCode {
    match error {
        RecordedError::NotFound => StatusCode::PlayStreamNotFound,
        RecordedError::StructureInvalid(_) => StatusCode::PlayFileStructureInvalid,
        RecordedError::NoSupportedTrack(_) => StatusCode::PlayNoSupportedTrackFound,
        RecordedError::Replaced | RecordedError::Unavailable(_) | RecordedError::Limit(_) => {
            StatusCode::PlayFailed
        }
    }
}

/// Whether it may be there all the same.
fn passes(error: &RecordedError) -> bool {
    matches!(
        error,
        RecordedError::Unavailable(_) | RecordedError::Limit(_)
    )
}

impl Player {
    /// The answer to [`Action::Describe`]. `live_here`: this edge plays the live stream.
    pub(crate) fn described(
        &mut self,
        now: Duration,
        number: u64,
        answer: Result<Description, RecordedError>,
        live_here: bool,
    ) {
        if self
            .change
            .as_ref()
            .is_some_and(|change| change.number == number)
        {
            self.change_described(answer, live_here);
            return;
        }
        if self.asked != number {
            return;
        }
        let Stage::Describing(why) = self.stage else {
            return;
        };
        match why {
            Why::Begin(how) => self.begin(how, answer, live_here),
            Why::Seek(to) => self.seek_described(now, to, answer),
            Why::Unpause(cue) => self.unpause_described(cue, answer),
            Why::Replaced => self.replaced_described(now, answer),
        }
    }

    fn begin(&mut self, how: How, answer: Result<Description, RecordedError>, live_here: bool) {
        let Some(entry) = &self.entry else {
            return;
        };
        let start = entry.start;
        let found = match &answer {
            Ok(description) => found(entry, description, live_here),
            // A live stream is waited for while no origin answers.
            Err(error) if passes(error) && entry.waits() => Found::Live,
            Err(error) if passes(error) && live_here => Found::Live,
            Err(RecordedError::NotFound) if entry.waits() => Found::Live,
            Err(RecordedError::NotFound) => Found::Nothing,
            Err(error) if passes(error) && entry.may_come => {
                self.find_live(how, code_of(error));
                return;
            }
            Err(error) => {
                self.fail_entry(code_of(error), error.told());
                return;
            }
        };
        let stored = match found {
            Found::Stored(stored) => stored,
            Found::Live => {
                self.begin_live(how);
                return;
            }
            // What is known of a name may be a second old: a publisher may have come since.
            Found::Nothing if entry.may_come => {
                self.find_live(how, StatusCode::PlayStreamNotFound);
                return;
            }
            Found::Nothing => {
                self.not_found();
                return;
            }
        };
        let begin = match start {
            PlayStart::At(ms) => u64::from(ms).max(stored.start_ms),
            PlayStart::LiveOrRecorded | PlayStart::Live => stored.start_ms,
        };
        let until = match entry.length {
            PlayLength::Milliseconds(length) => Some(begin.saturating_add(length.into())),
            PlayLength::All | PlayLength::OneFrame => None,
        };
        let replaced = self.track.take().map_or(0, |track| track.replaced);
        self.track = Some(Track {
            replaced,
            ..Track::new(stored, begin, until)
        });
        self.fetch(Cue::Begin(how), Place::Time(begin));
    }

    fn begin_live(&mut self, how: How) {
        self.go_live(how);
        if let Some(to) = self.seek_first.take() {
            self.describe(Why::Seek(to));
        }
    }

    /// The answer to [`Action::FindLive`].
    pub(crate) fn live_found(&mut self, number: u64, live: bool) {
        let Stage::Finding(how, code) = self.stage else {
            return;
        };
        if self.asked != number {
            return;
        }
        if live {
            self.begin_live(how);
            return;
        }
        if code == StatusCode::PlayStreamNotFound {
            self.not_found();
        } else {
            let why = format!("\"{}\" cannot be reached now.", self.name());
            self.fail_entry(code, why);
        }
    }

    fn not_found(&mut self) {
        let why = format!("There is no stream \"{}\".", self.name());
        self.fail_entry(StatusCode::PlayStreamNotFound, why);
    }

    fn seek_described(
        &mut self,
        now: Duration,
        to: u64,
        answer: Result<Description, RecordedError>,
    ) {
        let usable = answer
            .ok()
            .and_then(|it| self.still_recorded(&it))
            // What was played may have become a file meanwhile.
            .or_else(|| self.track.as_ref().map(|track| track.stored));
        match usable {
            Some(stored) => self.seek_in(to, stored),
            None => self.seek_failed(now),
        }
    }

    /// What is stored of the stream that the client watches: not an older recording under its name.
    fn still_recorded(&self, description: &Description) -> Option<Stored> {
        let stored = description.stored?;
        (!self.live || stored.growing || !description.publishing).then_some(stored)
    }

    pub(super) fn seek_in(&mut self, to: u64, stored: Stored) {
        let Some(entry) = &self.entry else {
            return;
        };
        let name = entry.name.clone();
        let begin = stored.start_ms;
        let track = self
            .track
            .get_or_insert_with(|| Track::new(stored, begin, None));
        track.stored = stored;
        let over = track.until.is_some_and(|until| to >= until);
        if to < stored.end_ms && !over {
            self.fetch(Cue::Seek(to), Place::Time(to));
            return;
        }
        self.forget_where_it_paused();
        let recorded = over || !stored.growing;
        let sought = Notice::Sought {
            name,
            to_ms: to,
            recorded,
        };
        if recorded {
            // The end of what there is.
            self.leave_live();
            self.tell(sought);
            self.finish_entry();
        } else if self.live {
            self.tell(sought);
            self.actions.push_back(Action::RejoinLive);
            self.stay_live();
        } else {
            self.play_live(Some(sought));
        }
    }

    fn seek_failed(&mut self, now: Duration) {
        self.tell(Notice::SeekFailed {
            why: "The stream cannot be sought.",
        });
        self.stay(now);
    }

    /// Goes on with what was played before the question.
    fn stay(&mut self, now: Duration) {
        if self.live {
            self.stay_live();
        } else if self.ended {
            self.stage = Stage::Ended;
        } else {
            self.stage = Stage::Resting;
            self.advance(now);
        }
    }

    fn unpause_described(&mut self, cue: Cue, answer: Result<Description, RecordedError>) {
        let at = match cue {
            Cue::After(at) => at,
            Cue::Behind(mark) => mark.timestamp,
            _ => return,
        };
        let stored = answer
            .ok()
            .and_then(|it| self.still_recorded(&it))
            .filter(|stored| stored.growing || at < stored.end_ms);
        match stored {
            Some(stored) => {
                self.track = Some(Track::new(stored, stored.start_ms, None));
                self.fetch(cue, Place::Time(at));
            }
            None => self.unpause_live(),
        }
    }

    /// A live stream goes on without a viewer that pauses; it comes back at the newest key frame.
    fn unpause_live(&mut self) {
        if self.paused.is_none() {
            self.actions.push_back(Action::PauseLive(false));
        }
        self.stay_live();
    }

    fn stay_live(&mut self) {
        self.track = None;
        self.stage = Stage::Live;
        if !self.playlist.is_empty() {
            // It may have ended meanwhile.
            self.actions.push_back(Action::EndLive);
        }
    }

    fn replaced_described(&mut self, now: Duration, answer: Result<Description, RecordedError>) {
        let Some(track) = &mut self.track else {
            return;
        };
        match answer {
            Ok(Description {
                stored: Some(stored),
                ..
            }) => {
                track.stored = stored;
                track.replaced += 1;
                if track.replaced > MAX_REPLACED {
                    let why = "The stream changes all the time.".to_owned();
                    self.fail_entry(StatusCode::PlayFailed, why);
                    return;
                }
                let (cue, at) = match track.mark {
                    Some(mark) => (Cue::Behind(mark), mark.timestamp),
                    None => (Cue::Seek(track.position), track.position),
                };
                self.fetch(cue, Place::Time(at));
            }
            Ok(Description {
                publishing: true, ..
            }) => self.play_live(None),
            Ok(_) => {
                let why = "The stream was deleted.".to_owned();
                self.fail_entry(StatusCode::PlayStreamNotFound, why);
            }
            Err(error) => {
                let (cue, place) = (Cue::Next, Place::Offset(track.next));
                self.retry(now, &error, cue, place);
            }
        }
    }

    /// The answer to [`Action::Fetch`].
    pub(crate) fn piece(
        &mut self,
        now: Duration,
        number: u64,
        answer: Result<Arc<Piece>, RecordedError>,
    ) {
        if self
            .change
            .as_ref()
            .is_some_and(|change| change.number == number)
        {
            self.change_piece(now, answer);
            return;
        }
        if self.asked != number {
            return;
        }
        let Stage::Fetching(cue) = self.stage else {
            return;
        };
        match answer {
            Ok(piece) => self.take(now, cue, piece),
            Err(error) => self.no_piece(now, cue, &error),
        }
    }

    fn take(&mut self, now: Duration, cue: Cue, piece: Arc<Piece>) {
        let Some(track) = &mut self.track else {
            return;
        };
        track.failing = None;
        let place = match cue {
            Cue::Begin(_) => FeedPlace {
                index: piece.start_at(track.begin),
                fresh: true,
            },
            Cue::Seek(to) => FeedPlace {
                index: piece.start_at(to),
                fresh: true,
            },
            Cue::Next => FeedPlace {
                index: piece.index_at(track.from),
                fresh: track.fresh,
            },
            Cue::After(at) => feed::after(&piece, at),
            Cue::Behind(mark) => feed::behind(&piece, &mark, track.stored.growing),
        };
        self.wishes.shift = match (cue, self.entry.as_ref().map(|entry| entry.start)) {
            // Adobe's server counts from where a client began, and clients that resume a download count on it; after a seek
            // it does not, and in a recording that grows the live stream follows, which has one time for all.
            (Cue::Begin(_), Some(PlayStart::At(1..))) if !track.stored.growing => track.begin,
            (Cue::Begin(_) | Cue::Seek(_), _) => 0,
            _ => self.wishes.shift,
        };
        track.from = match cue {
            Cue::Next => track.from,
            // What the client has live may not be stored yet.
            Cue::Behind(mark) if track.stored.growing => mark.offset.next(),
            _ => piece.first,
        };
        let feed = Feed::new(piece, place);
        let position = feed.position();
        match cue {
            Cue::Begin(_) | Cue::Seek(_) => {
                track.clock = Clock::start(now, position);
                track.position = position;
                track.mark = None;
            }
            // A viewer that was live has its clock started here.
            Cue::After(at) if self.live => track.clock = Clock::start(now, at),
            Cue::Behind(mark) if self.live => track.clock = Clock::start(now, mark.timestamp),
            _ => {}
        }
        if feed.next().is_none()
            && matches!(cue, Cue::Next)
            && feed.piece().follows == Follows::Live
        {
            // Nothing new: ask less often.
            let piece = feed.piece();
            (track.next, track.from) = (piece.next, track.from.max(piece.next));
            track.position = track.position.max(piece.end_ms);
            let wait = self.tail_wait.saturating_mul(2).min(TAIL_WAITS.1);
            self.wait_at_tail(now, wait);
            return;
        }
        self.stage = Stage::Sending(feed);
        self.tail_wait = TAIL_WAITS.0;
        self.ended = false;
        self.leave_live();
        match cue {
            Cue::Begin(how) => self.begun(how),
            Cue::Seek(to) => self.sought(to),
            _ => {}
        }
        if self.paused.is_some() && !self.snapshot {
            self.hold_if_sending();
        }
    }

    fn begun(&mut self, how: How) {
        let name = self.name().to_owned();
        self.transition = how.transition;
        if let Some(notice) = self.start_notice(how, name, true) {
            self.tell(notice);
        }
        self.snapshot = self.paused.is_some();
        if let Some(to) = self.seek_first.take() {
            self.seek(to);
        }
    }

    /// The client went elsewhere: where it was when it paused means nothing any more.
    fn forget_where_it_paused(&mut self) {
        if let Some(pause) = &mut self.paused {
            *pause = Pause { at: 0, live: None };
        }
    }

    fn sought(&mut self, to: u64) {
        self.forget_where_it_paused();
        let name = self.name().to_owned();
        self.tell(Notice::Sought {
            name,
            to_ms: to,
            recorded: true,
        });
        self.snapshot = self.paused.is_some();
    }

    fn no_piece(&mut self, now: Duration, cue: Cue, error: &RecordedError) {
        let Some(track) = &mut self.track else {
            return;
        };
        let replaced = matches!(error, RecordedError::Replaced | RecordedError::NotFound);
        match cue {
            Cue::Begin(how) if *error == RecordedError::Replaced => {
                track.replaced += 1;
                if track.replaced > MAX_REPLACED {
                    self.fail_entry(code_of(error), error.told());
                } else {
                    self.describe(Why::Begin(how));
                }
            }
            Cue::Begin(_) => self.fail_entry(code_of(error), error.told()),
            Cue::Seek(to) if *error == RecordedError::Replaced => {
                track.replaced += 1;
                if track.replaced > MAX_REPLACED {
                    self.seek_failed(now);
                } else {
                    self.describe(Why::Seek(to));
                }
            }
            Cue::Seek(_) => self.seek_failed(now),
            // It was paused live, and goes on live.
            Cue::After(_) | Cue::Behind(_) if self.live => self.unpause_live(),
            Cue::Next | Cue::After(_) | Cue::Behind(_) if replaced => self.describe(Why::Replaced),
            Cue::Next => {
                let place = Place::Offset(track.next);
                if !self.change_if_due() {
                    self.retry(now, error, cue, place);
                }
            }
            Cue::After(at) => self.retry(now, error, cue, Place::Time(at)),
            Cue::Behind(mark) => self.retry(now, error, cue, Place::Time(mark.timestamp)),
        }
    }

    fn retry(&mut self, now: Duration, error: &RecordedError, cue: Cue, place: Place) {
        let Some(track) = &mut self.track else {
            return;
        };
        let since = *track.failing.get_or_insert(now);
        if passes(error) && now.saturating_sub(since) < PATIENCE {
            let at = now.saturating_add(RETRY_WAIT);
            self.stage = Stage::Retrying { at, cue, place };
        } else {
            self.fail_entry(code_of(error), error.told());
        }
    }

    /// The answer to [`Action::Join`], if the connection plays the live stream now.
    pub(crate) fn joined(&mut self) {
        if matches!(self.stage, Stage::Tail { .. }) {
            self.stage = Stage::Live;
            self.track = None;
            self.live = true;
            if self.paused.is_some() {
                self.actions.push_back(Action::PauseLive(true));
            }
        }
    }

    /// The answer to [`Action::GoLive`], if that cannot be.
    pub(crate) fn live_failed(&mut self, why: &str) {
        self.live = false;
        self.fail_entry(StatusCode::PlayFailed, why.to_owned());
    }

    /// The live play ended: as long as asked for, or with its publisher.
    pub(crate) fn live_over(&mut self) {
        if self.live && matches!(self.stage, Stage::Live) && !self.playlist.is_empty() {
            self.next_entry();
        }
    }
}
