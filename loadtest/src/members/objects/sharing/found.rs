//! What a thread found, and what several did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::view::{Slots, View};
use super::Work;
use crate::measure::Latencies;
use crate::report::Tally;

/// Lost slots that a thread names.
const EXAMPLES: usize = 10;

/// What the users of one object have.
#[derive(Clone, Debug, Default)]
pub(in crate::members::objects) struct Seen {
    /// How many there are.
    pub(in crate::members::objects) users: u64,
    /// Messages that came to them, of all together.
    pub(in crate::members::objects) sends: u64,
    /// Versions, digests and counts of slots: one, if they all have the same.
    pub(in crate::members::objects) states: BTreeSet<(u32, u64, usize)>,
}

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub(in crate::members::objects) struct Found {
    pub(in crate::members::objects) connected: u64,
    pub(in crate::members::objects) used: u64,
    pub(in crate::members::objects) refused_uses: u64,
    pub(in crate::members::objects) lost: u64,
    pub(in crate::members::objects) changes: u64,
    pub(in crate::members::objects) confirmed: u64,
    pub(in crate::members::objects) refused: u64,
    pub(in crate::members::objects) seen_changes: u64,
    pub(in crate::members::objects) went_back: u64,
    /// Slots whose writer has an older value of them than it had confirmed.
    pub(in crate::members::objects) lost_changes: u64,
    pub(in crate::members::objects) sends: u64,
    pub(in crate::members::objects) seen_sends: u64,
    pub(in crate::members::objects) repeated_sends: u64,
    pub(in crate::members::objects) gaps: u64,
    pub(in crate::members::objects) behind: Duration,
    pub(in crate::members::objects) confirmation: Latencies,
    pub(in crate::members::objects) latency: Latencies,
    pub(in crate::members::objects) send_latency: Latencies,
    /// Messages that were sent to the users of each object.
    pub(in crate::members::objects) sent_to: BTreeMap<u32, u64>,
    pub(in crate::members::objects) seen: BTreeMap<u32, Seen>,
    // Of a file with what was confirmed: slots that have the same value, a newer one, an older one or none.
    pub(in crate::members::objects) held: u64,
    pub(in crate::members::objects) newer: u64,
    pub(in crate::members::objects) lost_held: u64,
    pub(in crate::members::objects) versions_back: u64,
    pub(in crate::members::objects) lost_slots: Vec<String>,
    pub(in crate::members::objects) statuses: Tally,
    pub(in crate::members::objects) errors: Tally,
    pub(in crate::members::objects) endings: Tally,
    pub(in crate::members::objects) losses: Tally,
}

impl Found {
    /// Takes in what a member has of an object.
    pub(super) fn add_view(&mut self, view: &View, slots: &Slots, work: &Work) {
        let seen = self.seen.entry(view.object).or_default();
        seen.users += 1;
        seen.sends += view.sends;
        let state = (view.version, view.digest(slots), view.slots.len());
        seen.states.insert(state);
        let name = work.objects.get(view.object as usize).map(|(name, _)| name);
        let expected = work.expected.as_deref().zip(name);
        let Some((name, object)) =
            expected.and_then(|(expected, name)| Some((name, expected.get(name)?)))
        else {
            return;
        };
        if view.version < object.version {
            self.versions_back += 1;
        }
        for (slot, &number) in &object.slots {
            let held = slots.find(slot.as_bytes());
            let held = held.and_then(|slot| view.slots.get(&slot).copied());
            match held {
                Some(held) if held == number => self.held += 1,
                Some(held) if held > number => self.newer += 1,
                _ => {
                    self.lost_held += 1;
                    if self.lost_slots.len() < EXAMPLES {
                        let held =
                            held.map_or_else(|| "nothing".to_owned(), |held| held.to_string());
                        let text = format!("{name} {slot}: {held} instead of {number}");
                        self.lost_slots.push(text);
                    }
                }
            }
        }
    }

    pub(in crate::members::objects) fn merge(&mut self, other: Self) {
        for (figure, more) in [
            (&mut self.connected, other.connected),
            (&mut self.used, other.used),
            (&mut self.refused_uses, other.refused_uses),
            (&mut self.lost, other.lost),
            (&mut self.changes, other.changes),
            (&mut self.confirmed, other.confirmed),
            (&mut self.refused, other.refused),
            (&mut self.seen_changes, other.seen_changes),
            (&mut self.went_back, other.went_back),
            (&mut self.lost_changes, other.lost_changes),
            (&mut self.sends, other.sends),
            (&mut self.seen_sends, other.seen_sends),
            (&mut self.repeated_sends, other.repeated_sends),
            (&mut self.gaps, other.gaps),
            (&mut self.held, other.held),
            (&mut self.newer, other.newer),
            (&mut self.lost_held, other.lost_held),
            (&mut self.versions_back, other.versions_back),
        ] {
            *figure += more;
        }
        self.behind = self.behind.max(other.behind);
        for (times, more) in [
            (&mut self.confirmation, &other.confirmation),
            (&mut self.latency, &other.latency),
            (&mut self.send_latency, &other.send_latency),
        ] {
            times.merge(more);
        }
        for (tally, more) in [
            (&mut self.statuses, &other.statuses),
            (&mut self.errors, &other.errors),
            (&mut self.endings, &other.endings),
            (&mut self.losses, &other.losses),
        ] {
            tally.merge(more);
        }
        for (object, sent) in other.sent_to {
            *self.sent_to.entry(object).or_default() += sent;
        }
        for (object, seen) in other.seen {
            self.seen.entry(object).or_default().merge(seen);
        }
        self.lost_slots.extend(other.lost_slots);
    }
}
