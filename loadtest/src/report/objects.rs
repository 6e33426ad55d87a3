//! What users of shared objects found.

use serde::Serialize;

use super::calls::{add_latency, add_notes};
use super::summary::add_endings;
use super::{Ending, Table, count, millis};
use crate::measure::LatencyReport;

/// Changes, messages, and what everybody had in the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ObjectSummary {
    /// Clients that were to use objects.
    pub members: u64,
    /// Those that were connected.
    pub connected: u64,
    /// Those that came to use all of their objects.
    pub used: u64,
    /// Uses that were refused.
    pub refused_uses: u64,
    /// Clients whose connection ended.
    pub lost: u64,
    /// Objects.
    pub objects: u64,
    /// Clients that wrote.
    pub writers: u64,
    /// Changes that were asked for.
    pub changes: u64,
    /// Changes whose author was told that they are made.
    pub confirmed: u64,
    /// Changes that were refused.
    pub refused: u64,
    /// Changes whose author was told nothing.
    pub unconfirmed: u64,
    /// Changes that others saw, of all clients together. Some are overtaken and left out.
    pub seen: u64,
    /// Values that came behind a newer one.
    pub went_back: u64,
    /// Slots whose writer had an older value in the end than it had confirmed.
    pub lost_changes: u64,
    /// Messages to the users of an object.
    pub sends: u64,
    /// Messages that came, of all clients together.
    pub seen_sends: u64,
    /// Messages that did not come to clients that were there until the end.
    pub missing_sends: u64,
    /// Messages that came twice, or behind a later one of the same sender.
    pub repeated_sends: u64,
    /// How often messages came that are not the next ones of their sender.
    pub gaps: u64,
    /// How long writers wrote, in seconds.
    pub seconds: f64,
    /// Changes each second that were asked for; 0 for as many as are confirmed.
    pub asked_per_s: u32,
    /// Confirmations each second.
    pub changes_per_s: f64,
    /// Changes each second that others saw, of all clients together.
    pub seen_per_s: f64,
    /// The most that a change was late.
    pub most_behind_ms: f64,
    /// Objects of which clients had different versions or values in the end.
    pub different_objects: u64,
    /// Whether there is none.
    pub is_converged: bool,
    /// From a change to its author's confirmation.
    pub confirmation: LatencyReport,
    /// From a change to each other client.
    pub latency: LatencyReport,
    /// From a message to each client, its sender too.
    pub send_latency: LatencyReport,
    /// Statuses of objects.
    pub statuses: Vec<Ending>,
    /// What could not be said, or not be read.
    pub errors: Vec<Ending>,
    /// Why clients could not connect.
    pub endings: Vec<Ending>,
    /// Why clients were lost.
    pub losses: Vec<Ending>,
}

impl ObjectSummary {
    /// Whether everybody came and stayed, everything that was asked for was done and came to everybody, once and in order, and all
    /// clients of an object had the same in the end.
    #[must_use]
    pub const fn is_without_loss(&self) -> bool {
        self.used == self.members
            && self.lost == 0
            && self.confirmed == self.changes
            && self.went_back == 0
            && self.lost_changes == 0
            && self.missing_sends == 0
            && self.repeated_sends == 0
            && self.gaps == 0
            && self.is_converged
            && self.errors.is_empty()
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new("shared objects");
        table.line("clients", count(self.members));
        table.line("connected", count(self.connected));
        table.line("in use by", count(self.used));
        if self.lost > 0 {
            table.line("lost", count(self.lost));
        }
        table.line("objects", count(self.objects));
        table.line("writers", count(self.writers));
        table.line("changes", count(self.changes));
        table.line("confirmed", count(self.confirmed));
        for (label, value) in [
            ("refused", self.refused),
            ("unconfirmed", self.unconfirmed),
            ("went back", self.went_back),
            ("lost changes", self.lost_changes),
        ] {
            if value > 0 {
                table.line(label, count(value));
            }
        }
        table.line("seen by others", count(self.seen));
        if self.asked_per_s > 0 {
            table.line("asked", format!("{}/s", count(self.asked_per_s.into())));
        }
        table.line("achieved", format!("{:.0}/s", self.changes_per_s));
        table.line("seen", format!("{:.0}/s", self.seen_per_s));
        add_latency(&mut table, "confirmation", &self.confirmation);
        add_latency(&mut table, "to others", &self.latency);
        if self.sends > 0 {
            table.line("messages", count(self.sends));
            table.line("messages seen", count(self.seen_sends));
            table.line("messages missing", count(self.missing_sends));
            table.line("messages repeated", count(self.repeated_sends));
            table.line("gaps", count(self.gaps));
            add_latency(&mut table, "message", &self.send_latency);
        }
        if self.asked_per_s > 0 {
            table.line("most behind", millis(self.most_behind_ms));
        }
        let same = if self.is_converged {
            "all have the same".to_owned()
        } else {
            format!("{} objects differ", count(self.different_objects))
        };
        table.line("in the end", same);
        add_endings(&mut table, &self.endings);
        add_notes(&mut table, "lost", &self.losses);
        add_notes(&mut table, "told", &self.statuses);
        add_notes(&mut table, "error", &self.errors);
        table
    }
}

/// What is left of what was confirmed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifySummary {
    /// Clients that read.
    pub members: u64,
    /// Those that came to use all objects.
    pub used: u64,
    /// Objects in the record.
    pub objects: u64,
    /// Slots in the record.
    pub slots: u64,
    /// Slots that have the last confirmed value, of all clients together.
    pub held: u64,
    /// Slots that have a newer one, whose confirmation did not come any more.
    pub newer: u64,
    /// Slots that have an older one, or none.
    pub lost: u64,
    /// Objects, of all clients together, whose version is smaller than it was.
    pub versions_back: u64,
    /// Some of what is lost.
    pub lost_slots: Vec<String>,
    /// Statuses of objects.
    pub statuses: Vec<Ending>,
    /// Why clients could not connect.
    pub endings: Vec<Ending>,
    /// Why clients were lost.
    pub losses: Vec<Ending>,
}

impl VerifySummary {
    /// Whether every client read all of it.
    #[must_use]
    pub const fn is_without_loss(&self) -> bool {
        self.slots > 0
            && self.used == self.members
            && self.lost == 0
            && self.versions_back == 0
            && self.held + self.newer == self.slots * self.members
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new("what was confirmed");
        table.line("clients", count(self.members));
        table.line("in use by", count(self.used));
        table.line("objects", count(self.objects));
        table.line("slots", count(self.slots));
        table.line("held", count(self.held));
        table.line("newer", count(self.newer));
        table.line("lost", count(self.lost));
        table.line("versions back", count(self.versions_back));
        for lost in &self.lost_slots {
            table.note(format!("lost: {lost}"));
        }
        add_endings(&mut table, &self.endings);
        add_notes(&mut table, "lost client", &self.losses);
        add_notes(&mut table, "told", &self.statuses);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_what_is_different_in_the_end() {
        let whole = ObjectSummary {
            members: 10,
            connected: 10,
            used: 10,
            objects: 2,
            changes: 100,
            confirmed: 100,
            seen: 400,
            is_converged: true,
            ..ObjectSummary::default()
        };
        assert!(whole.is_without_loss());
        assert!(whole.table().to_string().contains("all have the same"));
        for broken in [
            ObjectSummary {
                different_objects: 1,
                is_converged: false,
                ..whole.clone()
            },
            ObjectSummary {
                confirmed: 99,
                unconfirmed: 1,
                ..whole.clone()
            },
            ObjectSummary {
                sends: 5,
                missing_sends: 1,
                ..whole.clone()
            },
            ObjectSummary {
                went_back: 1,
                ..whole.clone()
            },
        ] {
            assert!(!broken.is_without_loss(), "{broken:?}");
        }
        let text = ObjectSummary {
            different_objects: 1,
            is_converged: false,
            ..whole
        }
        .table()
        .to_string();
        assert!(text.contains("1 objects differ"), "{text}");
    }

    #[test]
    fn what_is_lost_is_named() {
        let whole = VerifySummary {
            members: 2,
            used: 2,
            objects: 1,
            slots: 3,
            held: 5,
            newer: 1,
            ..VerifySummary::default()
        };
        assert!(whole.is_without_loss());
        let broken = VerifySummary {
            held: 4,
            lost: 1,
            lost_slots: vec!["a w1.0: 3 instead of 4".to_owned()],
            ..whole
        };
        assert!(!broken.is_without_loss());
        assert!(broken.table().to_string().contains("3 instead of 4"));
        assert!(!VerifySummary::default().is_without_loss());
    }
}
