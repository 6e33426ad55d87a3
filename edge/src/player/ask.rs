//! What a player asks the cluster. Each question has a number; the stage waits for the answer to the newest one.

use std::sync::Arc;

use headwater_rtmp::status::StatusCode;

use super::{Action, Cue, How, Player, Stage, Why};
use crate::recorded::Place;

impl Player {
    pub(super) fn describe(&mut self, why: Why) {
        let Some(entry) = &self.entry else {
            return;
        };
        self.number += 1;
        self.asked = self.number;
        self.actions.push_back(Action::Describe {
            number: self.number,
            stream: Arc::clone(&entry.stream),
        });
        self.stage = Stage::Describing(why);
    }

    pub(super) fn find_live(&mut self, how: How, code: StatusCode) {
        let Some(entry) = &self.entry else {
            return;
        };
        self.number += 1;
        self.asked = self.number;
        self.actions.push_back(Action::FindLive {
            number: self.number,
            stream: Arc::clone(&entry.stream),
        });
        self.stage = Stage::Finding(how, code);
    }

    pub(super) fn fetch(&mut self, cue: Cue, place: Place) {
        let (Some(entry), Some(track)) = (&self.entry, &self.track) else {
            return;
        };
        self.number += 1;
        self.asked = self.number;
        self.actions.push_back(Action::Fetch {
            number: self.number,
            stream: Arc::clone(&entry.stream),
            generation: track.stored.generation,
            place,
        });
        self.stage = Stage::Fetching(cue);
    }

    pub(super) fn fetch_next(&mut self) {
        if let Some(track) = &self.track {
            let place = Place::Offset(track.next);
            self.fetch(Cue::Next, place);
        }
    }
}
