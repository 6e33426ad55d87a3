//! What clients that connect, see that they may play, and leave found.

use serde::Serialize;

use super::summary::add_endings;
use super::{Ending, Spread, Table, count, millis};

/// How a server took many connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ConnectSummary {
    /// How many were to be made.
    pub connections: u64,
    /// How many were begun.
    pub started: u64,
    /// How many reached their goal.
    pub done: u64,
    /// How many failed.
    pub failed: u64,
    /// From the first connection to the end of the last, in seconds.
    pub seconds: f64,
    /// Connections asked for each second; 0 for as many as the server takes.
    pub asked_per_s: u32,
    /// Connections each second that reached their goal.
    pub achieved_per_s: f64,
    /// Most connections that were open at once.
    pub most_in_flight: u64,
    /// From the start of connecting to the status that playing begins.
    pub setup: Spread,
    /// From the start of connecting to the first audio or video frame, if that was the goal.
    pub first_frame: Spread,
    /// The most that a connection was begun late.
    pub most_behind_ms: f64,
    /// Bytes that came.
    pub bytes: u64,
    /// Why connections failed.
    pub endings: Vec<Ending>,
    /// What the server said.
    pub statuses: Vec<Ending>,
}

impl ConnectSummary {
    /// Whether all connections were made and reached their goal.
    #[must_use]
    pub const fn is_without_loss(&self) -> bool {
        self.connections > 0 && self.done == self.connections
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new("connect");
        table.line("connections", count(self.connections));
        table.line("done", count(self.done));
        table.line("failed", count(self.failed));
        if self.asked_per_s > 0 {
            table.line("asked", format!("{}/s", count(self.asked_per_s.into())));
        }
        table.line("achieved", format!("{:.0}/s", self.achieved_per_s));
        table.line("most at once", count(self.most_in_flight));
        let spread = &self.setup;
        for (label, value) in [
            ("set-up p50", spread.p50_ms),
            ("set-up p90", spread.p90_ms),
            ("set-up p99", spread.p99_ms),
            ("set-up max", spread.max_ms),
        ] {
            let text = if spread.count == 0 {
                "-".to_owned()
            } else {
                millis(value)
            };
            table.line(label, text);
        }
        if self.first_frame.count > 0 {
            table.line("first frame", self.first_frame.to_string());
        }
        table.line("most behind", millis(self.most_behind_ms));
        add_endings(&mut table, &self.endings);
        if self.done < self.connections {
            for status in &self.statuses {
                table.note(format!("{} x told: {}", count(status.count), status.what));
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_rates_times_and_reasons() {
        let summary = ConnectSummary {
            connections: 2_000,
            started: 2_000,
            done: 1_998,
            failed: 2,
            asked_per_s: 1_000,
            achieved_per_s: 997.4,
            setup: Spread {
                count: 1_998,
                p50_ms: 1.5,
                p90_ms: 2.0,
                p99_ms: 44.0,
                max_ms: 1_100.0,
            },
            endings: vec![Ending {
                what: "closed by the server".into(),
                count: 2,
            }],
            ..ConnectSummary::default()
        };
        let text = summary.table().to_string();
        for part in [
            "1,000/s",
            "997/s",
            "44.0 ms",
            "1.10 s",
            "2 x ended: closed by the server",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("first frame"));
        assert!(!summary.is_without_loss());
        let nothing = ConnectSummary::default();
        assert!(nothing.table().to_string().contains("set-up p50    -"));
        assert!(!nothing.is_without_loss());
    }
}
