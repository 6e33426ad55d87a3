//! Writing: changes and messages, as they are due.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::wire::{Stamp, body, kind, put_name, put_string};
use super::{HANDLER, Sharing};
use crate::members::hall::Hall;

impl Sharing {
    /// Changes a slot whose last change is confirmed.
    pub(super) fn change(&mut self, hall: &mut Hall, place: usize, now: u64) -> bool {
        let work = Arc::clone(&self.work);
        let Some(pen) = self.pens.get(place).filter(|pen| pen.pending.is_none()) else {
            return false;
        };
        let (index, number) = (pen.index, pen.number + 1);
        let (Some(member), Some(view)) = (
            hall.members.get(index),
            self.users
                .get(index)
                .and_then(|user| user.views.get(pen.place)),
        ) else {
            return false;
        };
        let Some((name, _)) = work
            .objects
            .get(view.object as usize)
            .filter(|_| view.is_using)
        else {
            return false;
        };
        let stamp = Stamp {
            writer: u32::try_from(member.number).unwrap_or(u32::MAX),
            number,
            sent: now,
        };
        let text = stamp.text(work.options.bytes);
        let (encoding, flags) = (member.encoding, self.flags(view.object as usize));
        let message = body(name, view.version, flags, kind::REQUEST_CHANGE, |out| {
            put_name(out, pen.key.as_bytes());
            put_string(out, encoding, text.as_bytes());
        });
        if !self.say(hall, index, message) {
            return false;
        }
        if let Some(pen) = self.pens.get_mut(place) {
            pen.number = number;
            pen.pending = Some(now);
        }
        self.found.changes += 1;
        self.progress.asked.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// Sends a message to the users of an object.
    fn send(&mut self, hall: &mut Hall, place: usize, now: u64) -> bool {
        let work = Arc::clone(&self.work);
        let Some(voice) = self.voices.get(place) else {
            return false;
        };
        let (index, number) = (voice.index, voice.number + 1);
        let (Some(member), Some(view)) = (
            hall.members.get(index),
            self.users
                .get(index)
                .and_then(|user| user.views.get(voice.place)),
        ) else {
            return false;
        };
        let object = view.object;
        let Some((name, _)) = work.objects.get(object as usize).filter(|_| view.is_using) else {
            return false;
        };
        let stamp = Stamp {
            writer: u32::try_from(member.number).unwrap_or(u32::MAX),
            number,
            sent: now,
        };
        let text = stamp.text(work.options.bytes);
        let (encoding, flags) = (member.encoding, self.flags(object as usize));
        let message = body(name, view.version, flags, kind::SEND, |out| {
            put_string(out, encoding, HANDLER);
            put_string(out, encoding, text.as_bytes());
        });
        if !self.say(hall, index, message) {
            return false;
        }
        if let Some(voice) = self.voices.get_mut(place) {
            voice.number = number;
        }
        self.found.sends += 1;
        *self.found.sent_to.entry(object).or_default() += 1;
        self.progress.asked.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// Makes the changes that are due. Gives when the next one is.
    pub(super) fn change_in_turn(&mut self, hall: &mut Hall, now: u64) -> Option<u64> {
        let interval = self.work.change_interval;
        if self.pens.is_empty() {
            return None;
        }
        if interval == 0 {
            if self.next_change == 0 {
                self.next_change = 1;
                for place in 0..self.pens.len() {
                    self.change(hall, place, now);
                }
            }
            return None;
        }
        if self.next_change == 0 {
            self.next_change = now;
        }
        while self.next_change <= now {
            let mut is_made = false;
            for _ in 0..self.pens.len() {
                self.next_pen = (self.next_pen + 1) % self.pens.len();
                is_made = self.change(hall, self.next_pen, now);
                if is_made {
                    break;
                }
            }
            if !is_made {
                // All of them wait: what is due stays due.
                break;
            }
            let behind = Duration::from_nanos(now - self.next_change);
            self.found.behind = self.found.behind.max(behind);
            self.next_change += interval;
        }
        Some(self.next_change.max(now + 1_000_000))
    }

    /// Sends the messages that are due. Gives when the next one is.
    pub(super) fn send_in_turn(&mut self, hall: &mut Hall, now: u64) -> Option<u64> {
        let interval = self.work.send_interval;
        if interval == 0 || self.voices.is_empty() {
            return None;
        }
        if self.next_send == 0 {
            self.next_send = now;
        }
        while self.next_send <= now {
            self.next_voice = (self.next_voice + 1) % self.voices.len();
            self.send(hall, self.next_voice, now);
            self.next_send += interval;
        }
        Some(self.next_send)
    }
}
