//! What a measurement ran on: figures of different machines are not comparable.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// The machine, as far as it tells. What it does not tell is empty or 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Machine {
    /// Kernel and its release.
    pub kernel: String,
    /// Name of the processor.
    pub cpu: String,
    /// Processors that this program may use.
    pub processors: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Congestion control of TCP.
    pub congestion_control: String,
    /// Runnable processes of the last minute when it was looked.
    pub load_average: f64,
}

impl Machine {
    /// This machine. Before this program is bound to processors, or those are all it sees.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(Path::new(path)).unwrap_or_default();
        let system = rustix::system::uname();
        let kernel = [system.sysname(), system.release()];
        let kernel = kernel.map(|part| part.to_string_lossy().into_owned());
        Self {
            kernel: kernel.join(" "),
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: kilobytes(&field(&read("/proc/meminfo"), "MemTotal")),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control")
                .trim()
                .to_owned(),
            load_average: read("/proc/loadavg")
                .split_whitespace()
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
        }
    }

    /// Names and values, for people.
    #[must_use]
    pub fn facts(&self) -> Vec<(String, String)> {
        let unless_empty = |text: &str| {
            if text.is_empty() {
                "unknown".to_owned()
            } else {
                text.to_owned()
            }
        };
        [
            ("kernel", unless_empty(&self.kernel)),
            ("processor", unless_empty(&self.cpu)),
            ("processors", self.processors.to_string()),
            ("memory", super::bytes(self.memory_bytes)),
            ("congestion control", unless_empty(&self.congestion_control)),
            ("load before", format!("{:.2}", self.load_average)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// Seconds since 1970 as a date and time: `2026-11-21 13:05 UTC`.
#[must_use]
pub fn utc(unix: u64) -> String {
    /// Days of 400 years of the Gregorian calendar, after which it repeats.
    const CYCLE: u64 = 146_097;
    let (days, seconds) = (unix / 86_400, unix % 86_400);
    // Years begin in March here, so that the leap day is the last one; day 0 is the first of March of the year 0.
    let days = days + 719_468;
    let (cycle, day) = (days / CYCLE, days % CYCLE);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = cycle * 400 + year + next;
    let (hour, minute) = (seconds / 3_600, seconds / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> String {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(key, _)| key.trim() == name)
        .map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

/// The bytes of `123 kB`.
fn kilobytes(text: &str) -> u64 {
    let number = text.split_whitespace().next().unwrap_or_default();
    number.parse::<u64>().unwrap_or(0).saturating_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU: 3 GHz\nmodel name\t: other\n";
        assert_eq!(field(text, "model name"), "Some CPU: 3 GHz");
        assert_eq!(field(text, "model"), "");
        assert_eq!(kilobytes("24085608 kB"), 24_663_662_592);
        assert_eq!(kilobytes("much"), 0);
    }

    #[test]
    fn moments_are_dates() {
        for (unix, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_799, "2000-02-29 23:59 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59 UTC"),
            (1_795_266_300, "2026-11-21 13:05 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(utc(unix), text);
        }
    }

    #[test]
    fn this_machine_tells_something() {
        let machine = Machine::here();
        assert!(machine.processors > 0);
        assert!(machine.kernel.contains(' '), "{machine:?}");
        assert_eq!(machine.facts().len(), 6);
    }
}
