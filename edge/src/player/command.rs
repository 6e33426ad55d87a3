//! What the client asks for.

use super::*;

impl Player {
    /// `play`: at once after a reset, else after what is in the playlist.
    pub(crate) fn play(&mut self, entry: Entry, reset: bool) {
        if reset {
            self.playlist.clear();
            (self.bytes, self.duration_ms) = (0, 0);
            let how = How {
                reset: true,
                ..How::default()
            };
            self.start_entry(entry, how);
            return;
        }
        if !self.append(entry) {
            return;
        }
        if matches!(self.stage, Stage::Idle | Stage::Ended)
            && let Some(first) = self.playlist.pop()
        {
            self.start_entry(first, How::default());
        }
    }

    /// Puts an entry behind the others.
    pub(super) fn append(&mut self, entry: Entry) -> bool {
        let name = entry.name.clone();
        let first = self.playlist.is_empty();
        let appended = self.playlist.push(entry);
        if !appended {
            self.tell(Notice::EntryFailed {
                code: StatusCode::PlayFailed,
                name,
                why: "The playlist is full.".to_owned(),
            });
        } else if first && self.live {
            self.actions.push_back(Action::EndLive);
        }
        appended
    }

    /// Stops, and forgets the playlist.
    pub(super) fn stop(&mut self) {
        self.leave_live();
        self.playlist.clear();
        self.change = None;
        self.track = None;
        self.paused = None;
        self.stage = Stage::Idle;
        if let Some(entry) = self.entry.take() {
            self.tell(Notice::Stop { name: entry.name });
        }
    }

    /// How much the client buffers.
    pub(crate) fn set_buffer(&mut self, now: Duration, buffer: Duration) {
        self.buffer = buffer;
        if matches!(self.stage, Stage::Resting) {
            self.advance(now);
        }
    }

    /// `receiveAudio`.
    pub(crate) fn set_audio(&mut self, wanted: bool) {
        self.wishes.audio = wanted;
    }

    /// `receiveVideo`. Video comes again from the next key frame on.
    pub(crate) fn set_video(&mut self, wanted: bool) {
        self.wishes.await_key |= wanted && !self.wishes.video;
        self.wishes.video = wanted;
    }

    /// `pause`. The client says where it is in media time, in milliseconds, and 0 if it does not say. `live` is the last frame that
    /// the live play has sent, if it is the live stream that is played.
    pub(crate) fn pause(&mut self, now: Duration, paused: bool, at: u64, live: Option<Mark>) {
        let name = self.name().to_owned();
        let at = if at > 0 && !self.live {
            at.saturating_add(self.wishes.shift)
        } else {
            at
        };
        if paused {
            self.tell(Notice::Paused { name });
            if self.paused.is_some() || self.entry.is_none() {
                return;
            }
            self.paused = Some(Pause { at, live });
            match &self.stage {
                Stage::Sending(_) => self.hold(),
                // Asked for again afterwards, however long that may be.
                Stage::Aside { .. }
                | Stage::Fetching(Cue::Next)
                | Stage::Retrying { cue: Cue::Next, .. } => self.stage = Stage::Resting,
                // One picture of what begins.
                Stage::Describing(Why::Begin(_) | Why::Seek(_))
                | Stage::Finding(..)
                | Stage::Fetching(Cue::Begin(_) | Cue::Seek(_)) => self.snapshot = true,
                _ => {}
            }
            if let Some(track) = &mut self.track {
                track.failing = None;
            }
            if self.live {
                self.actions.push_back(Action::PauseLive(true));
            }
            return;
        }
        self.tell(Notice::Unpaused { name });
        let Some(pause) = self.paused.take() else {
            return;
        };
        let snapshot = std::mem::take(&mut self.snapshot);
        let asked = match self.stage {
            Stage::Fetching(Cue::After(at))
            | Stage::Retrying {
                cue: Cue::After(at),
                ..
            } => at,
            _ => 0,
        };
        let at = [at, pause.at, asked].into_iter().find(|at| *at > 0);
        let is_coming_back = self.is_coming_back();
        match (&self.stage, &mut self.track) {
            (Stage::Live, _) => {
                let cue = match (at, pause.live) {
                    (Some(at), Some(mark)) if at >= mark.timestamp => Cue::Behind(mark),
                    (Some(at), _) => Cue::After(at),
                    (None, Some(mark)) => Cue::Behind(mark),
                    // It had nothing yet.
                    (None, None) => {
                        self.actions.push_back(Action::PauseLive(false));
                        return;
                    }
                };
                self.describe(Why::Unpause(cue));
            }
            // It paused while it was coming back from another pause.
            _ if is_coming_back => {}
            (
                Stage::Resting
                | Stage::Tail { .. }
                | Stage::Sending(_)
                | Stage::Aside { .. }
                | Stage::Retrying { .. }
                | Stage::Fetching(Cue::After(_) | Cue::Behind(_)),
                Some(track),
            ) => {
                track.failing = None;
                let sent = track.mark.map_or(0, |mark| mark.timestamp);
                match at {
                    Some(at) if at < sent && !snapshot => {
                        track.clock = Clock::start(now, at);
                        self.fetch(Cue::After(at), Place::Time(at));
                    }
                    at => {
                        let at = at.unwrap_or(track.position).min(track.position);
                        track.clock = Clock::start(now, at);
                        match &mut self.stage {
                            Stage::Resting | Stage::Tail { .. } => {
                                self.stage = Stage::Resting;
                                self.advance(now);
                            }
                            Stage::Retrying { at, .. } => *at = now,
                            _ => {}
                        }
                    }
                }
            }
            _ if self.live => self.actions.push_back(Action::PauseLive(false)),
            _ => {}
        }
    }

    /// `seek` to a media time in milliseconds.
    pub(crate) fn seek(&mut self, to: u64) {
        if matches!(
            self.stage,
            Stage::Describing(Why::Begin(_)) | Stage::Finding(..) | Stage::Fetching(Cue::Begin(_))
        ) {
            self.seek_first = Some(to);
            return;
        }
        if self.entry.is_none() {
            self.tell(Notice::SeekFailed {
                why: "Nothing is being played.",
            });
            return;
        }
        self.fail_change("The client went elsewhere.");
        self.hold_if_sending();
        if self.is_coming_back() {
            // As it would if it could not go on where it was: until there is something else, and if there is nothing else.
            self.actions.push_back(Action::PauseLive(false));
        }
        match &self.track {
            Some(track) if !track.stored.growing => {
                let stored = track.stored;
                self.seek_in(to, stored);
            }
            _ => self.describe(Why::Seek(to)),
        }
    }

    /// Whether the live play is still held after the end of a pause, until it is known where it goes on.
    fn is_coming_back(&self) -> bool {
        let asks = matches!(
            self.stage,
            Stage::Describing(Why::Unpause(_)) | Stage::Fetching(Cue::After(_) | Cue::Behind(_))
        );
        self.live && self.paused.is_none() && asks
    }

    pub(super) fn hold_if_sending(&mut self) {
        if matches!(self.stage, Stage::Sending(_)) {
            self.hold();
        }
    }
}
