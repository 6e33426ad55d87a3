//! What a piece of work cost.

use serde::Serialize;

use super::usage::{ThreadUsage, Usage};
use crate::report::{Table, bytes, count};

/// Bytes of a gigabyte as figures here mean it.
pub const GIGABYTE: f64 = 1e9;

/// Threads that a report names, those that used most. The others are summed up in one line.
pub const MAX_THREADS_SHOWN: usize = 32;

/// What was used between two moments, and what that is for each piece of the work done.
///
/// What cannot be told, because no bytes came, there were no viewers, or nobody knows, is missing: `null` in JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CostReport {
    /// Length of the time measured, in seconds.
    pub seconds: f64,
    /// Processes at its end.
    pub processes: u64,
    /// CPU time, user and system, in seconds.
    pub cpu_seconds: f64,
    /// The same in percent of one core.
    pub cpu_percent: f64,
    /// Bytes that were delivered meanwhile; 0 if that is not known.
    pub bytes: u64,
    /// Viewers that they were delivered to; 0 if that is not known.
    pub viewers: u64,
    /// CPU seconds for 10^9 bytes delivered.
    pub cpu_per_gb: Option<f64>,
    /// CPU milliseconds for each viewer and second.
    pub cpu_ms_per_viewer_second: Option<f64>,
    /// Resident memory at the end, in bytes.
    pub rss_bytes: u64,
    /// The most resident memory that the processes at the end ever had, in bytes.
    pub peak_rss_bytes: u64,
    /// Resident memory before the viewers came, in bytes.
    pub baseline_rss_bytes: Option<u64>,
    /// What memory grew by for each viewer since then, in bytes. Negative if it shrank.
    pub rss_per_viewer: Option<f64>,
    /// Context switches each second because a thread waited.
    pub voluntary_per_second: f64,
    /// Context switches each second because another thread was to run.
    pub involuntary_per_second: f64,
    /// The threads that used most, the most first, up to [`MAX_THREADS_SHOWN`].
    pub threads: Vec<ThreadCost>,
}

/// What one thread used.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ThreadCost {
    /// As the thread calls itself.
    pub name: String,
    /// Number of its process; 0 in lines that are sums.
    pub process: u32,
    /// CPU time in seconds.
    pub cpu_seconds: f64,
    /// The same in percent of one core.
    pub cpu_percent: f64,
    /// The same in percent of all that was used.
    pub share_percent: f64,
}

impl CostReport {
    /// Of what was used from one moment to another of the same meter, while so many bytes were delivered to so many viewers (0: not
    /// known).
    #[must_use]
    pub fn new(before: &Usage, after: &Usage, bytes: u64, viewers: u64) -> Self {
        let used = after.since(before);
        let seconds = used.at.as_secs_f64();
        let cpu_seconds = used.cpu.as_secs_f64();
        let each_second = |amount: f64| ratio(amount, seconds).unwrap_or(0.0);
        Self {
            seconds,
            processes: used.processes,
            cpu_seconds,
            cpu_percent: each_second(cpu_seconds) * 100.0,
            bytes,
            viewers,
            cpu_per_gb: ratio(cpu_seconds, bytes as f64 / GIGABYTE),
            cpu_ms_per_viewer_second: ratio(cpu_seconds * 1e3, viewers as f64 * seconds),
            rss_bytes: used.rss_bytes,
            peak_rss_bytes: used.peak_rss_bytes,
            baseline_rss_bytes: None,
            rss_per_viewer: None,
            voluntary_per_second: each_second(used.voluntary as f64),
            involuntary_per_second: each_second(used.involuntary as f64),
            threads: threads(used.threads, seconds, cpu_seconds),
        }
    }

    /// With the memory for each viewer, from what there was before the viewers came.
    #[must_use]
    pub fn with_baseline(mut self, rss_bytes: u64) -> Self {
        self.baseline_rss_bytes = Some(rss_bytes);
        let grown = self.rss_bytes as f64 - rss_bytes as f64;
        self.rss_per_viewer = ratio(grown, self.viewers as f64);
        self
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new("cost");
        let unknown = || "unknown".to_owned();
        table.line("time", format!("{:.1} s", self.seconds));
        table.line(
            "cpu",
            format!(
                "{:.3} s, {:.1} % of a core",
                self.cpu_seconds, self.cpu_percent
            ),
        );
        let amount = |bytes_known: u64, text: String| match bytes_known {
            0 => unknown(),
            _ => text,
        };
        table.line("delivered", amount(self.bytes, bytes(self.bytes)));
        table.line("viewers", amount(self.viewers, count(self.viewers)));
        let per_gb = self.cpu_per_gb.map(|cost| format!("{cost:.3} s"));
        table.line("cpu per GB", per_gb.unwrap_or_else(unknown));
        let per_viewer = self.cpu_ms_per_viewer_second;
        let per_viewer = per_viewer.map(|cost| format!("{cost:.3} ms"));
        table.line(
            "cpu per viewer and second",
            per_viewer.unwrap_or_else(unknown),
        );
        let mut memory = bytes(self.rss_bytes);
        if let Some(baseline) = self.baseline_rss_bytes {
            memory.push_str(&format!(", {} before", bytes(baseline)));
        }
        table.line("memory", memory);
        table.line("most memory ever", bytes(self.peak_rss_bytes));
        let per_viewer = self.rss_per_viewer;
        let per_viewer = per_viewer.map(|size| format!("{:.2} kB", size / 1e3));
        table.line("memory per viewer", per_viewer.unwrap_or_else(unknown));
        table.line(
            "context switches",
            format!(
                "{:.0}/s to wait, {:.0}/s for others",
                self.voluntary_per_second, self.involuntary_per_second
            ),
        );
        for thread in &self.threads {
            table.line(
                format!("thread {}", thread.name),
                format!(
                    "{:.3} s, {:.1} % of a core, {:.1} % of all",
                    thread.cpu_seconds, thread.cpu_percent, thread.share_percent
                ),
            );
        }
        table
    }
}

/// Nothing if it cannot be told.
fn ratio(amount: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| amount / of)
}

fn threads(mut used: Vec<ThreadUsage>, seconds: f64, all: f64) -> Vec<ThreadCost> {
    // Stable, so that equals stay in the order of their numbers.
    used.sort_by_key(|thread| std::cmp::Reverse(thread.cpu));
    used.retain(|thread| !thread.cpu.is_zero());
    let cost = |name: String, process: u32, cpu_seconds: f64| ThreadCost {
        name,
        process,
        cpu_seconds,
        cpu_percent: ratio(cpu_seconds, seconds).unwrap_or(0.0) * 100.0,
        share_percent: ratio(cpu_seconds, all).unwrap_or(0.0) * 100.0,
    };
    let others = used.split_off(used.len().min(MAX_THREADS_SHOWN));
    let mut threads: Vec<ThreadCost> = used
        .into_iter()
        .map(|thread| cost(thread.name, thread.process, thread.cpu.as_secs_f64()))
        .collect();
    if !others.is_empty() {
        let sum = others.iter().map(|thread| thread.cpu.as_secs_f64()).sum();
        threads.push(cost(format!("({} others)", others.len()), 0, sum));
    }
    threads
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn usage(at: u64, cpu_ms: &[u64]) -> Usage {
        let threads = cpu_ms.iter().zip(1..).map(|(&ms, id)| ThreadUsage {
            process: 1,
            id,
            name: format!("t{id}"),
            cpu: Duration::from_millis(ms),
        });
        Usage {
            at: Duration::from_secs(at),
            processes: 1,
            cpu: cpu_ms.iter().map(|&ms| Duration::from_millis(ms)).sum(),
            rss_bytes: at * 1_000_000,
            peak_rss_bytes: 99_000_000,
            voluntary: at * 100,
            involuntary: at * 10,
            threads: threads.collect(),
        }
    }

    fn close(one: Option<f64>, other: f64) -> bool {
        one.is_some_and(|one| (one - other).abs() < 1e-9)
    }

    #[test]
    fn cost_is_divided_by_the_work() {
        let report = CostReport::new(
            &usage(10, &[100, 0]),
            &usage(20, &[3_100, 1_000]),
            2_000_000_000,
            1000,
        )
        .with_baseline(8_000_000);
        assert!(close(Some(report.seconds), 10.0));
        assert!(close(Some(report.cpu_seconds), 4.0));
        assert!(close(Some(report.cpu_percent), 40.0));
        assert!(close(report.cpu_per_gb, 2.0));
        assert!(close(report.cpu_ms_per_viewer_second, 0.4));
        assert!(close(report.rss_per_viewer, 12_000.0));
        assert!(close(Some(report.voluntary_per_second), 100.0));
        assert!(close(Some(report.involuntary_per_second), 10.0));
        let shares: Vec<_> = report
            .threads
            .iter()
            .map(|thread| (&*thread.name, thread.share_percent, thread.cpu_percent))
            .collect();
        assert_eq!(shares, [("t1", 75.0, 30.0), ("t2", 25.0, 10.0)]);
        let table = report.table().to_string();
        for part in ["2.000 s", "0.400 ms", "12.00 kB", "8.00 MB before"] {
            assert!(table.contains(part), "{part}: {table}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let moment = usage(10, &[100]);
        let report = CostReport::new(&moment, &moment, 0, 0).with_baseline(50_000_000);
        assert_eq!(report.cpu_percent.to_bits(), 0.0_f64.to_bits());
        let unknown = [
            report.cpu_per_gb,
            report.cpu_ms_per_viewer_second,
            report.rss_per_viewer,
        ];
        assert_eq!(unknown, [None; 3]);
        assert!(report.threads.is_empty());
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["cpu_per_gb"].is_null(), "{json}");
        assert!(report.table().to_string().contains("unknown"));
    }

    #[test]
    fn few_threads_are_named() {
        let many: Vec<u64> = (1..=40).collect();
        let report = CostReport::new(&usage(0, &[]), &usage(1, &many), 0, 0);
        assert_eq!(report.threads.len(), MAX_THREADS_SHOWN + 1);
        assert_eq!(report.threads.first().unwrap().name, "t40");
        let last = report.threads.last().unwrap();
        assert_eq!(last.name, "(8 others)");
        assert!(close(Some(last.cpu_seconds), 0.036), "{last:?}");
        let sum: f64 = report.threads.iter().map(|thread| thread.cpu_seconds).sum();
        assert!(close(Some(sum), report.cpu_seconds));
    }
}
