//! What was found about introductions.

use serde::Serialize;

use super::summary::add_endings;
use super::{Ending, Table, count, micros, millis};
use crate::measure::LatencyReport;

/// How a server brought peers together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct IntroduceSummary {
    /// Peers that were to be asked for.
    pub pairs: u64,
    /// Those of them that were connected.
    pub connected: u64,
    /// Hellos said.
    pub asked: u64,
    /// Hellos to which both answers came.
    pub done: u64,
    /// Hellos to which one of them did not come in time, or neither.
    pub failed: u64,
    /// Hellos without a redirect.
    pub no_redirect: u64,
    /// Hellos without an answer of the peer.
    pub no_answer: u64,
    /// From the first hello until no more were said, in seconds.
    pub seconds: f64,
    /// Hellos asked for each second; 0 for as many as the server takes.
    pub asked_per_s: u32,
    /// Introductions each second, within this time.
    pub achieved_per_s: f64,
    /// Most hellos that waited at once.
    pub most_in_flight: u64,
    /// The most that a hello was late.
    pub most_behind_ms: f64,
    /// From a hello to the redirect.
    pub redirect: LatencyReport,
    /// From a hello to the answer of the peer.
    pub answer: LatencyReport,
    /// Why peers were not connected, or not any more.
    pub endings: Vec<Ending>,
}

impl IntroduceSummary {
    /// Whether all peers were connected and all hellos answered.
    #[must_use]
    pub const fn is_without_loss(&self) -> bool {
        self.pairs > 0 && self.connected == self.pairs && self.asked > 0 && self.done == self.asked
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new("introduce");
        table.line("pairs", count(self.pairs));
        table.line("connected", count(self.connected));
        table.line("asked", count(self.asked));
        table.line("done", count(self.done));
        table.line("failed", count(self.failed));
        if self.failed > 0 {
            table.line("no redirect", count(self.no_redirect));
            table.line("no answer", count(self.no_answer));
        }
        if self.asked_per_s > 0 {
            table.line("rate", format!("{}/s", count(self.asked_per_s.into())));
        }
        table.line("achieved", format!("{:.0}/s", self.achieved_per_s));
        table.line("most at once", count(self.most_in_flight));
        for (name, latency) in [("redirect", &self.redirect), ("answer", &self.answer)] {
            for (label, value) in [
                ("p50", latency.p50_us),
                ("p99", latency.p99_us),
                ("max", latency.max_us),
            ] {
                table.line(format!("{name} {label}"), micros(value));
            }
        }
        table.line("most behind", millis(self.most_behind_ms));
        add_endings(&mut table, &self.endings);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_both_times_and_what_did_not_come() {
        let summary = IntroduceSummary {
            pairs: 500,
            connected: 500,
            asked: 10_000,
            done: 9_990,
            failed: 10,
            no_answer: 10,
            achieved_per_s: 1_998.0,
            answer: LatencyReport {
                p99_us: 870,
                ..LatencyReport::default()
            },
            ..IntroduceSummary::default()
        };
        assert!(!summary.is_without_loss());
        let text = summary.table().to_string();
        for part in ["9,990", "no answer", "1998/s", "870 us"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let whole = IntroduceSummary {
            done: 10_000,
            failed: 0,
            ..summary
        };
        assert!(whole.is_without_loss());
        assert!(!whole.table().to_string().contains("no answer"));
    }
}
