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
    /// Connections each second that reached their goal, each with its handshake.
    pub achieved_per_s: f64,
    /// Most connections that were open at once, those that were held not counted.
    pub most_in_flight: u64,
    /// Most connections that were held at once.
    pub most_held: u64,
    /// Connections that ended while they were held.
    pub lost: u64,
    /// From the start of connecting to the TCP connection, or the open session of RTMFP.
    pub opened: Spread,
    /// From the start of connecting to the status that playing begins, or to the answer to `connect` where nothing is played.
    pub setup: Spread,
    /// From the start of connecting to the first audio or video frame, if that was the goal.
    pub first_frame: Spread,
    /// The most that a connection was begun late.
    pub most_behind_ms: f64,
    /// Bytes that came.
    pub bytes: u64,
    /// Why connections failed.
    pub endings: Vec<Ending>,
    /// Why connections ended while they were held.
    pub losses: Vec<Ending>,
    /// What the server said.
    pub statuses: Vec<Ending>,
}

impl ConnectSummary {
    /// Whether all connections were made and reached their goal, and none ended while it was held.
    #[must_use]
    pub const fn is_without_loss(&self) -> bool {
        self.connections > 0 && self.done == self.connections && self.lost == 0
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
        if self.most_held > 0 {
            table.line("most held", count(self.most_held));
            table.line("lost", count(self.lost));
        }
        if self.opened.count > 0 {
            table.line("open", self.opened.to_string());
        }
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
        for loss in &self.losses {
            table.note(format!("{} x lost: {}", count(loss.count), loss.what));
        }
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
            most_held: 1_998,
            lost: 1,
            losses: vec![Ending {
                what: "silent".into(),
                count: 1,
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
            "most held     1,998",
            "1 x lost: silent",
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
