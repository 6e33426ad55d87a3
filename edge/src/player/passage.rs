//! From one entry of the playlist to the next, and from what is stored to what is live and back.

use std::sync::Arc;

use headwater_rtmp::command::PlayStart;
use headwater_rtmp::status::StatusCode;

use super::{Action, Entry, How, Notice, Player, Stage, Why};

impl Player {
    /// Begins an entry, whatever was played before.
    pub(super) fn start_entry(&mut self, entry: Entry, how: How) {
        self.leave_live();
        self.ended = false;
        self.track = None;
        self.change = None;
        self.paused = None;
        self.snapshot = false;
        self.seek_first = None;
        self.transition = false;
        let start = entry.start;
        self.entry = Some(entry);
        match start {
            PlayStart::Live => self.go_live(how),
            PlayStart::LiveOrRecorded | PlayStart::At(_) => self.describe(Why::Begin(how)),
        }
    }

    pub(super) fn next_entry(&mut self) -> bool {
        let Some(entry) = self.playlist.pop() else {
            return false;
        };
        self.start_entry(
            entry,
            How {
                switch: true,
                ..How::default()
            },
        );
        true
    }

    /// The entry was played.
    pub(super) fn finish_entry(&mut self) {
        self.fail_change("The stream ended before the switch.");
        if let Some(track) = &self.track {
            self.duration_ms = self.duration_ms.saturating_add(track.duration_ms());
        }
        self.stage = Stage::Ended;
        if self.next_entry() {
            return;
        }
        self.ended = true;
        let complete = Notice::Complete {
            name: self.name().to_owned(),
            duration_ms: std::mem::take(&mut self.duration_ms),
            bytes: std::mem::take(&mut self.bytes),
        };
        self.tell(complete);
    }

    /// The entry cannot be played.
    pub(super) fn fail_entry(&mut self, code: StatusCode, why: String) {
        self.leave_live();
        let name = self.name().to_owned();
        self.track = None;
        self.stage = Stage::Idle;
        if self.playlist.is_empty() {
            self.entry = None;
            self.paused = None;
            self.change = None;
            self.tell(Notice::Failed { code, name, why });
        } else {
            self.tell(Notice::EntryFailed { code, name, why });
            self.next_entry();
        }
    }

    pub(super) fn go_live(&mut self, how: How) {
        let name = self.name().to_owned();
        let notice = self.start_notice(how, name, false);
        self.transition = how.transition;
        self.play_live(notice);
    }

    /// Has the connection play the live stream from its newest key frame on.
    pub(super) fn play_live(&mut self, notice: Option<Notice>) {
        let Some(entry) = &self.entry else {
            return;
        };
        self.actions.push_back(Action::GoLive {
            name: entry.name.clone(),
            stream: Arc::clone(&entry.stream),
            notice,
            length: entry.length,
            ends: !self.playlist.is_empty(),
            transition: std::mem::take(&mut self.transition),
        });
        self.stage = Stage::Live;
        self.ended = false;
        self.track = None;
        self.live = true;
        if self.paused.is_some() {
            self.actions.push_back(Action::PauseLive(true));
        }
    }

    /// What is told at the start of an entry; before it, that the playlist goes on.
    pub(super) fn start_notice(
        &mut self,
        how: How,
        name: String,
        recorded: bool,
    ) -> Option<Notice> {
        if how.transition {
            return None;
        }
        if how.switch {
            self.tell(Notice::Switch { name: name.clone() });
        }
        Some(Notice::Start {
            name,
            reset: how.reset,
            recorded,
        })
    }

    pub(super) fn leave_live(&mut self) {
        if std::mem::take(&mut self.live) {
            self.actions.push_back(Action::LeaveLive);
        }
    }
}
