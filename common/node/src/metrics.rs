//! The Prometheus registry of the process.
//!
//! Names are `headwater_ROOM_NAME`, units last (`_seconds`, `_bytes`); every sample carries the labels `node` and
//! `role`. Metrics of the process itself keep the names that dashboards expect (`process_resident_memory_bytes`).
//! Labels of streams are bounded, see [`StreamFamily`].
//!
//! Cost: hot paths clone the metric once and then only touch an atomic; the registry is locked to register and to encode.

mod process;
mod stream;

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

pub use stream::{OTHER_STREAMS, StreamFamily, StreamLabels, StreamMetric};

crate::section! {
    /// What is measured.
    pub struct MetricsSection {
        /// How many streams at most get a label of their own; the rest are counted together as `_other_`. Every labelled
        /// stream costs the process some kilobytes and the metrics store a few series.
        pub max_streams: usize = 1000 => 0..=100_000,
    }
}

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The registry. Clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    slots: stream::Slots,
}

impl Metrics {
    /// A registry for the node named `node` in `role`, with the metrics of the process and of the build, and the default
    /// bound on labelled streams.
    pub fn new(node: &str, role: &str) -> Self {
        Self::with_section(node, role, &MetricsSection::default())
    }

    /// As [`Metrics::new`], with the bounds of the configuration.
    pub fn with_section(node: &str, role: &str, section: &MetricsSection) -> Self {
        let labels = [("node", node), ("role", role)];
        let mut registry = Registry::with_labels(
            labels
                .map(|(name, value)| (name.into(), value.to_owned().into()))
                .into_iter(),
        );
        registry.register(
            "headwater_build",
            "The program that runs",
            Info::new(vec![("version", crate::VERSION)]),
        );
        registry.register_collector(Box::new(process::ProcessCollector));
        Self {
            registry: Arc::new(Mutex::new(registry)),
            slots: stream::Slots::new(section.max_streams),
        }
    }

    /// Where a room of the program registers its metrics; `name` becomes part of theirs.
    pub fn room(&self, name: &'static str) -> Room {
        Room {
            metrics: self.clone(),
            name,
        }
    }

    /// All metrics in the OpenMetrics text format, see [`CONTENT_TYPE`]. Reads `/proc`, so it may block for milliseconds
    /// where many files are open.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail; a collector that fails leaves its part out.
        if encode(&mut text, &self.registry.lock()).is_err() {
            tracing::warn!("some metrics could not be written");
        }
        text
    }
}

/// Registers the metrics of one room of the program.
#[derive(Clone, Debug)]
pub struct Room {
    metrics: Metrics,
    name: &'static str,
}

impl Room {
    /// Registers `metric` as `headwater_ROOM_NAME`, and gives it back. Register a name once.
    ///
    /// Counters get `_total` from the format. `help` has no full stop: the format adds it.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.metrics.registry.lock().register(
            format!("headwater_{}_{name}", self.name),
            help,
            metric.clone(),
        );
        metric
    }

    /// As [`Room::register`]; the unit becomes the end of the name.
    pub fn register_with_unit<M: Metric + Clone>(
        &self,
        name: &str,
        help: &str,
        unit: Unit,
        metric: M,
    ) -> M {
        let name = format!("headwater_{}_{name}", self.name);
        self.metrics
            .registry
            .lock()
            .register_with_unit(name, help, unit, metric.clone());
        metric
    }

    /// A counter.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// A gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// A histogram with the upper bounds `buckets`; the name should end in its unit.
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: impl IntoIterator<Item = f64>,
    ) -> Histogram {
        self.register(name, help, Histogram::new(buckets))
    }

    /// A metric per stream, bounded; all families of the process share the bound.
    pub fn stream_family<M>(&self, name: &str, help: &str) -> StreamFamily<M>
    where
        M: Metric + prometheus_client::metrics::TypedMetric + Clone + Default,
    {
        let family = StreamFamily::new(self.metrics.slots.clone());
        self.register(name, help, family.inner());
        family
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_and_values() {
        let metrics = Metrics::new("edge-1", "edge");
        let room = metrics.room("rtmp");
        room.counter("accepted", "Connections accepted").inc_by(3);
        room.gauge("connections", "Connections open").set(2);
        room.histogram("handshake_seconds", "Time of a handshake", [0.1, 1.0])
            .observe(0.5);
        let text = metrics.encode();
        for line in [
            "headwater_rtmp_accepted_total{node=\"edge-1\",role=\"edge\"} 3",
            "headwater_rtmp_connections{node=\"edge-1\",role=\"edge\"} 2",
            "# HELP headwater_rtmp_accepted Connections accepted.",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
        assert!(text.contains("headwater_build_info{"), "{text}");
        assert!(
            text.contains(&format!("version=\"{}\"", crate::VERSION)),
            "{text}"
        );
    }

    #[test]
    fn metrics_of_the_process_are_read_at_every_scrape() {
        let metrics = Metrics::new("edge-1", "edge");
        let value = |name: &str| {
            let text = metrics.encode();
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{name}{{")))
                .unwrap()
                .to_owned();
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_start_time_seconds") > 1.6e9);
        assert!(value("process_max_fds") >= 1.0);
        let before = value("process_open_fds");
        let files: Vec<_> = (0..50)
            .map(|_| std::fs::File::open("/proc/self/stat").unwrap())
            .collect();
        assert!(value("process_open_fds") > before + 25.0);
        drop(files);
    }
}
