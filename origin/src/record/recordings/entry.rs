//! A name that has a recorder, and what others see of it.

use std::collections::VecDeque;

use headwater_media::name::StreamName;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::Found;
use crate::record::recorder::Command;
use crate::record::recorder::session::Session;
use crate::record::target::Target;
use crate::record::vault::Vault;

/// A name that has a recorder.
pub(crate) struct Entry<V: Vault> {
    pub(crate) target: Target,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) view: Mutex<View<V::Reader>>,
}

/// What others see of a recorder.
pub(super) struct View<R> {
    /// The stream, as it is published.
    pub(super) live: StreamName,
    /// The newest session, while it takes frames.
    pub(super) session: Option<Session>,
    /// What is stored; the newest last.
    pub(super) found: VecDeque<Found<R>>,
}

impl<V: Vault> Entry<V> {
    /// The stream, as it is published, or was when it was recorded last.
    pub(crate) fn live(&self) -> StreamName {
        self.view.lock().live.clone()
    }

    /// Lets others read a generation, in place of what they knew of it.
    pub(crate) fn show(&self, found: Found<V::Reader>) {
        let mut view = self.view.lock();
        match view
            .found
            .iter_mut()
            .find(|known| known.generation == found.generation)
        {
            Some(known) => *known = found,
            None => view.found.push_back(found),
        }
    }

    /// What others read, or this.
    pub(super) fn show_if_none(&self, found: Found<V::Reader>) -> Found<V::Reader> {
        let mut view = self.view.lock();
        if view.found.is_empty() {
            view.found.push_back(found.clone());
        }
        view.found.back().cloned().unwrap_or(found)
    }

    pub(crate) fn hide(&self, generation: u64) {
        let mut view = self.view.lock();
        view.found.retain(|found| found.generation != generation);
    }

    /// Nothing more comes to a generation.
    pub(crate) fn settle(&self, generation: u64) {
        for found in &mut self.view.lock().found {
            if found.generation == generation {
                found.growing = false;
            }
        }
    }
}
