//! What is to be played: the entries of a playlist.

use std::collections::VecDeque;
use std::sync::Arc;

use headwater_media::name::StreamName;
use headwater_rtmp::command::{PlayLength, PlayStart};

/// Most entries that wait in a playlist. A client that wants more is told so.
pub(super) const MAX_ENTRIES: usize = 256;

/// One entry of a playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As the client calls it.
    pub(crate) name: String,
    pub(crate) stream: Arc<StreamName>,
    pub(crate) start: PlayStart,
    pub(crate) length: PlayLength,
    /// Everything at once, without regard to time.
    pub(crate) untimed: bool,
    /// Somebody may publish it: a stream that is not there may be waited for.
    pub(crate) may_come: bool,
}

impl Entry {
    /// An entry as `play(name)` makes it.
    pub(crate) fn new(name: impl Into<String>, stream: Arc<StreamName>) -> Self {
        Self {
            name: name.into(),
            stream,
            start: PlayStart::default(),
            length: PlayLength::default(),
            untimed: false,
            may_come: true,
        }
    }

    /// Whether it is waited for if nothing is there.
    pub(super) fn waits(&self) -> bool {
        self.start == PlayStart::LiveOrRecorded && self.may_come
    }
}

/// The entries that wait for the one that plays.
#[derive(Debug, Default)]
pub(super) struct Playlist {
    entries: VecDeque<Entry>,
}

impl Playlist {
    /// Puts an entry behind the others; `false` if there are too many.
    #[must_use]
    pub(super) fn push(&mut self, entry: Entry) -> bool {
        let has_room = self.entries.len() < MAX_ENTRIES;
        if has_room {
            self.entries.push_back(entry);
        }
        has_room
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front();
        if self.entries.is_empty() {
            // Most players never have a playlist again.
            self.entries = VecDeque::new();
        }
        entry
    }

    pub(super) fn clear(&mut self) {
        self.entries = VecDeque::new();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts `entry` in the place of the first one with this name; `false` if there is none.
    #[must_use]
    pub(super) fn swap(&mut self, old: &str, entry: Entry) -> bool {
        let place = self.entries.iter_mut().find(|entry| entry.name == old);
        let found = place.is_some();
        if let Some(place) = place {
            *place = entry;
        }
        found
    }
}
