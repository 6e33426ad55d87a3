//! What callers found.

use serde::Serialize;

use super::summary::add_endings;
use super::{Ending, Table, count, micros, millis};
use crate::measure::LatencyReport;

/// Calls and their answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CallSummary {
    /// Clients that were to call.
    pub callers: u64,
    /// Those that were connected.
    pub connected: u64,
    /// Those whose connection ended.
    pub lost: u64,
    /// Calls.
    pub calls: u64,
    /// Calls with a result.
    pub answered: u64,
    /// Calls with an error.
    pub failed: u64,
    /// Results that are not what was sent.
    pub wrong: u64,
    /// Calls that were not answered.
    pub unanswered: u64,
    /// Calls of the server into clients.
    pub called_back: u64,
    /// How long calls were made, in seconds.
    pub seconds: f64,
    /// Calls each second that were asked for; 0 for as many as there are answers.
    pub asked_per_s: u32,
    /// Results each second.
    pub achieved_per_s: f64,
    /// The most that a call was late.
    pub most_behind_ms: f64,
    /// From the call to its result.
    pub round_trip: LatencyReport,
    /// What errors said.
    pub errors: Vec<Ending>,
    /// Why clients could not connect.
    pub endings: Vec<Ending>,
    /// Why clients were lost.
    pub losses: Vec<Ending>,
}

impl CallSummary {
    /// Whether all clients connected and stayed, and every call had the right result.
    #[must_use]
    pub const fn is_without_loss(&self) -> bool {
        self.connected == self.callers
            && self.lost == 0
            && self.calls > 0
            && self.answered == self.calls
            && self.wrong == 0
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new("callers");
        table.line("callers", count(self.callers));
        table.line("connected", count(self.connected));
        table.line("calls", count(self.calls));
        table.line("results", count(self.answered));
        table.line("errors", count(self.failed));
        table.line("unanswered", count(self.unanswered));
        if self.wrong > 0 {
            table.line("wrong results", count(self.wrong));
        }
        if self.called_back > 0 {
            table.line("called back", count(self.called_back));
        }
        if self.asked_per_s > 0 {
            table.line("asked", format!("{}/s", count(self.asked_per_s.into())));
        }
        table.line("achieved", format!("{:.0}/s", self.achieved_per_s));
        add_latency(&mut table, "round trip", &self.round_trip);
        if self.asked_per_s > 0 {
            table.line("most behind", millis(self.most_behind_ms));
        }
        add_endings(&mut table, &self.endings);
        add_notes(&mut table, "lost", &self.losses);
        add_notes(&mut table, "error", &self.errors);
        table
    }
}

/// The usual quantiles of a time, if it was measured.
pub(super) fn add_latency(table: &mut Table, label: &str, latency: &LatencyReport) {
    if latency.count == 0 {
        return;
    }
    for (quantile, value) in [
        ("p50", latency.p50_us),
        ("p90", latency.p90_us),
        ("p99", latency.p99_us),
        ("max", latency.max_us),
    ] {
        table.line(format!("{label} {quantile}"), micros(value));
    }
}

pub(super) fn add_notes(table: &mut Table, what: &str, endings: &[Ending]) {
    for ending in endings {
        table.note(format!("{} x {what}: {}", count(ending.count), ending.what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_the_round_trip_and_what_errors_said() {
        let whole = CallSummary {
            callers: 10,
            connected: 10,
            calls: 1_000,
            answered: 1_000,
            achieved_per_s: 99.6,
            round_trip: LatencyReport {
                count: 1_000,
                p99_us: 870,
                ..LatencyReport::default()
            },
            ..CallSummary::default()
        };
        assert!(whole.is_without_loss());
        assert!(whole.table().to_string().contains("870 us"));
        let broken = CallSummary {
            answered: 998,
            failed: 2,
            errors: vec![Ending {
                what: "NetConnection.Call.Failed".to_owned(),
                count: 2,
            }],
            ..whole
        };
        assert!(!broken.is_without_loss());
        let text = broken.table().to_string();
        assert!(
            text.contains("2 x error: NetConnection.Call.Failed"),
            "{text}"
        );
    }
}
