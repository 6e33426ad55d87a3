//! What a bare sender did.

use serde::Serialize;

use crate::report::{Table, bytes, count, micros, millis};

/// What a bare sender did, from its start on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SenderReport {
    /// How often it sent: `frame`, `message`, or a time.
    pub flush: String,
    /// Length of the run in seconds.
    pub seconds: f64,
    /// Sockets that connected, or receivers that asked for the stream.
    pub accepted: u64,
    /// Most sockets at once.
    pub most: u64,
    /// Sockets that were closed by the other side.
    pub left: u64,
    /// Sockets that were closed because they were behind by more than the log holds, or receivers that were silent for too long.
    pub cut_off: u64,
    /// How often a socket could not be accepted, such as for want of open files.
    pub refused: u64,
    /// Messages made.
    pub messages: u64,
    /// Video frames among them.
    pub video_frames: u64,
    /// Times that all sockets were sent to.
    pub flushes: u64,
    /// Calls of `send`, those that a full socket refused included.
    pub sends: u64,
    /// Datagrams sent, over UDP.
    pub datagrams: u64,
    /// Calls of `send` that took less than there was, or nothing.
    pub full: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Mean time of a `send` in microseconds, with what is between two of them.
    pub send_us: f64,
    /// The longest time that sending to all sockets took, in milliseconds.
    pub longest_flush_ms: f64,
    /// Latest that something left after it was due, in milliseconds. More than a time between two sends means that the processor is
    /// full.
    pub most_behind_ms: f64,
    /// CPU time of the sending thread in seconds, the making of the stream included.
    pub cpu_seconds: f64,
}

impl SenderReport {
    /// Whether nobody was cut off or refused.
    #[must_use]
    pub const fn is_without_loss(&self) -> bool {
        self.cut_off == 0 && self.refused == 0
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new("floor");
        table.line("flush", self.flush.clone());
        table.line("time", format!("{:.1} s", self.seconds));
        table.line("sockets", count(self.accepted));
        table.line("at once", count(self.most));
        table.line("left", count(self.left));
        table.line("cut off", count(self.cut_off));
        if self.refused > 0 {
            table.line("refused", count(self.refused));
        }
        table.line("messages", count(self.messages));
        table.line("video frames", count(self.video_frames));
        table.line("flushes", count(self.flushes));
        table.line("sends", count(self.sends));
        if self.datagrams > 0 {
            table.line("datagrams", count(self.datagrams));
        }
        table.line("sends to a full socket", count(self.full));
        table.line("sent", bytes(self.bytes));
        table.line("time of a send", format!("{:.2} us", self.send_us));
        table.line("longest flush", millis(self.longest_flush_ms));
        // A float becomes the nearest whole number that there is.
        table.line("most behind", micros((self.most_behind_ms * 1e3) as u64));
        table.line("cpu", format!("{:.3} s", self.cpu_seconds));
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_what_was_done() {
        let report = SenderReport {
            flush: "frame".to_owned(),
            accepted: 1200,
            bytes: 5_000_000,
            most_behind_ms: 0.087,
            ..SenderReport::default()
        };
        assert!(report.is_without_loss());
        let table = report.table().to_string();
        for part in ["frame", "1,200", "5.00 MB", "87 us"] {
            assert!(table.contains(part), "{part}: {table}");
        }
        assert!(!table.contains("refused"), "{table}");
        let lossy = SenderReport {
            refused: 1,
            ..report
        };
        assert!(!lossy.is_without_loss());
        assert!(lossy.table().to_string().contains("refused"));
    }
}
