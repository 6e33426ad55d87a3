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
    fn this_machine_tells_something() {
        let machine = Machine::here();
        assert!(machine.processors > 0);
        assert!(machine.kernel.contains(' '), "{machine:?}");
        assert_eq!(machine.facts().len(), 6);
    }
}
