//! Metrics of the process, read from `/proc` at each scrape (proc(5)).
//!
//! What cannot be read is left out; on systems without `/proc` that is everything.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| -> fmt::Result {
            let Some(value) = value else { return Ok(()) };
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(descriptor)
        };
        let stat = fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|text| Stat::parse(&text));
        let page = rustix::param::page_size() as f64;
        let tick = rustix::param::clock_ticks_per_second() as f64;
        gauge(
            "process_resident_memory_bytes",
            "Memory of the process that is in RAM",
            stat.as_ref().map(|stat| stat.resident_pages as f64 * page),
        )?;
        gauge("process_open_fds", "Files and sockets open", open_files())?;
        gauge(
            "process_max_fds",
            "Files and sockets that may be open",
            crate::limits::open_files().soft.map(|soft| soft as f64),
        )?;
        gauge(
            "process_threads",
            "Threads of the process",
            stat.as_ref().map(|stat| stat.threads as f64),
        )?;
        gauge(
            "process_start_time_seconds",
            "When the process started, seconds since 1970",
            stat.as_ref()
                .and_then(|stat| Some(boot_time()? + stat.started_ticks as f64 / tick)),
        )?;
        if let Some(stat) = stat {
            let descriptor = encoder.encode_descriptor(
                "process_cpu_seconds",
                "CPU time used, user and system",
                None,
                MetricType::Counter,
            )?;
            ConstCounter::new(stat.cpu_ticks as f64 / tick).encode(descriptor)?;
        }
        Ok(())
    }
}

/// The fields of `/proc/self/stat` that we show.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    started_ticks: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may hold anything, also parentheses and blanks.
        let (_, after_name) = text.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        // proc(5) counts from 1 and `fields` starts with the third.
        let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.checked_add(field(15)?)?,
            threads: field(20)?,
            started_ticks: field(22)?,
            resident_pages: field(24)?,
        })
    }
}

fn open_files() -> Option<f64> {
    // The directory that is being read is an open file of its own.
    fs::read_dir("/proc/self/fd")
        .ok()
        .map(|entries| entries.count().saturating_sub(1) as f64)
}

/// When the machine started, seconds since 1970.
fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "77 (a) b (c)) S 1 77 77 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 9 0 1234 1000000 321 18446744073709551615";
        assert_eq!(
            Stat::parse(text),
            Some(Stat {
                cpu_ticks: 300,
                threads: 9,
                started_ticks: 1234,
                resident_pages: 321
            })
        );
        assert_eq!(Stat::parse("77 (a) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }
}
