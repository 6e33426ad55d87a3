//! Log lines and traces.
//!
//! Log lines go to standard error through a thread of their own and a bounded buffer: a reader that stalls costs lines and
//! delays nobody. Spans go to an OTLP collector over gRPC when one is configured: sampled at the root,
//! the choice is inherited by every node (parent-based), queued in a bounded buffer and sent in batches from a thread of
//! their own. A collector that is down costs the spans that do not fit the buffer and one line in the log, nothing else.
//!
//! Not here: metrics, which Prometheus collects.

mod export;
pub mod propagation;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};
use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::metrics::Metrics;

crate::choice! {
    /// How a log line looks.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

crate::section! {
    /// The log, written to standard error.
    pub struct LogSection {
        /// What is logged: a level (error, warn, info, debug, trace), and levels for parts of the program, such as
        /// "info,headwater_edge=debug".
        pub filter: String = "info".to_owned(),
        /// How a line looks.
        pub format: LogFormat = LogFormat::Text,
    }
    validate |section, problems| {
        if let Err(error) = filter("log.filter", &section.filter) {
            problems.push("filter", error.to_string());
        }
    }
}

crate::section! {
    /// Traces, sent to an OpenTelemetry collector.
    pub struct TelemetrySection {
        /// Where the collector takes OTLP over gRPC, such as "http://127.0.0.1:4317". Unset: no traces.
        pub otlp_endpoint: Option<String> = None,
        /// PEM file with the authority that signed the collector's certificate, for an https endpoint.
        pub otlp_ca_file: Option<PathBuf> = None,
        /// The name of the service in traces.
        pub service_name: String = "headwater".to_owned(),
        /// Which part of the traces that begin at this node is kept. A node that continues a trace keeps what the
        /// beginner kept.
        pub sample_ratio: f64 = 0.05 => 0.0..=1.0,
        /// What becomes a span, written as log.filter. The transport's own parts are always left out.
        pub filter: String = "info".to_owned(),
        /// How many finished spans wait to be sent at most; more are dropped.
        pub queue_spans: usize = 4096 => 128..=1_048_576,
        /// How long spans wait for others to be sent with, milliseconds.
        pub batch_ms: u64 = 2000 => 10..=60_000,
        /// How long the collector may take to answer, milliseconds.
        pub timeout_ms: u64 = 3000 => 100..=60_000,
    }
    validate |section, problems| {
        if let Err(error) = filter("telemetry.filter", &section.filter) {
            problems.push("filter", error.to_string());
        }
        if let Some(endpoint) = &section.otlp_endpoint {
            match endpoint.parse::<http::Uri>().ok().as_ref().and_then(http::Uri::scheme_str) {
                Some("https") if section.otlp_ca_file.is_none() => {
                    problems.push("otlp_ca_file", "must be set for an https endpoint");
                }
                Some("http" | "https") => {}
                _ => problems.push("otlp_endpoint", "must be a URL that starts with http:// or https://"),
            }
        }
    }
}

/// Log lines that wait for a reader that is slow; more are dropped. A few megabytes at the most.
const LOG_LINES: usize = 16_384;

/// Parts of the program whose spans the exporter itself would make: sending them would make more of them.
const NEVER_TRACED: [&str; 7] = [
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
    "tower",
    "opentelemetry",
    "rustls",
];

/// Why telemetry could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// A filter cannot be understood.
    #[error("is no valid filter: {message}")]
    Filter {
        /// The key of the configuration.
        key: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The exporter cannot be set up.
    #[error("cannot export traces to {endpoint}: {message}")]
    Exporter {
        /// The collector.
        endpoint: String,
        /// What is wrong.
        message: String,
    },
    /// The process has a subscriber already.
    #[error("telemetry was set up already")]
    AlreadySet,
}

/// Who this process is, in traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name of the node, `service.instance.id`.
    pub node: String,
    /// The role, `headwater.role`.
    pub role: String,
}

/// Sets up log and traces for the whole process. Call it inside the tokio runtime, once.
///
/// # Errors
/// See [`TelemetryError`].
pub fn init(
    log: &LogSection,
    telemetry: &TelemetrySection,
    identity: &Identity,
) -> Result<Telemetry, TelemetryError> {
    let (subscriber, telemetry) = build(log, telemetry, identity)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::AlreadySet)?;
    Ok(telemetry)
}

/// As [`init`], without making it the subscriber of the process: for tests with several nodes in one process.
///
/// # Errors
/// See [`TelemetryError`].
pub fn build(
    log: &LogSection,
    telemetry: &TelemetrySection,
    identity: &Identity,
) -> Result<(impl Subscriber + Send + Sync + 'static, Telemetry), TelemetryError> {
    // Whoever reads the log may stop reading, and a full pipe must not stop a worker in the middle of its viewers.
    let (writer, log_flush) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LOG_LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(log.format == LogFormat::Text && std::io::stderr().is_terminal());
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
    };
    let lines = lines.with_filter(filter("log.filter", &log.filter)?);
    let exported = export::Exported::default();
    let provider = match &telemetry.otlp_endpoint {
        Some(endpoint) => Some(provider(endpoint, telemetry, identity, exported.clone())?),
        None => None,
    };
    let spans = match &provider {
        Some(provider) => {
            let mut directives = telemetry.filter.clone();
            for part in NEVER_TRACED {
                directives.push_str(&format!(",{part}=off"));
            }
            let tracer = provider.tracer("headwater");
            // Source lines and thread names in every span cost more than they tell.
            let layer = tracing_opentelemetry::layer()
                .with_tracer(tracer)
                .with_location(false)
                .with_threads(false);
            Some(layer.with_filter(filter("telemetry.filter", &directives)?))
        }
        None => None,
    };
    Ok((
        Registry::default().with(spans).with(lines),
        Telemetry {
            provider,
            exported,
            _log_flush: log_flush,
        },
    ))
}

fn provider(
    endpoint: &str,
    section: &TelemetrySection,
    identity: &Identity,
    exported: export::Exported,
) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = export::exporter(endpoint, section, exported)?;
    let batch = BatchConfigBuilder::default()
        .with_max_queue_size(section.queue_spans)
        .with_max_export_batch_size(section.queue_spans.min(512))
        .with_scheduled_delay(Duration::from_millis(section.batch_ms))
        .build();
    let resource = Resource::builder()
        .with_service_name(section.service_name.clone())
        .with_attributes([
            KeyValue::new("service.instance.id", identity.node.clone()),
            KeyValue::new("service.version", crate::VERSION),
            KeyValue::new("headwater.role", identity.role.clone()),
        ])
        .build();
    Ok(SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            section.sample_ratio,
        ))))
        .with_resource(resource)
        .with_span_processor(
            BatchSpanProcessor::builder(exporter)
                .with_batch_config(batch)
                .build(),
        )
        .build())
}

fn filter(key: &'static str, directives: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(directives)
        .map_err(|error| TelemetryError::Filter {
            key,
            message: error.to_string(),
        })
}

/// Keeps telemetry alive; end it with [`Telemetry::shutdown`] so that the last spans are sent.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    exported: export::Exported,
    /// Writes the lines that wait when it is dropped, for a moment at most.
    _log_flush: WorkerGuard,
}

impl Telemetry {
    /// Adds counters of spans sent and lost to the metrics.
    pub fn register(&self, metrics: &Metrics) {
        let room = metrics.room("telemetry");
        room.register(
            "spans_exported",
            "Spans that the collector took",
            self.exported.sent.clone(),
        );
        room.register(
            "spans_lost",
            "Spans that could not be sent to the collector",
            self.exported.lost.clone(),
        );
    }

    /// Sends what is left, for at most `deadline`. Spans that end later are lost.
    pub async fn shutdown(self, deadline: Duration) {
        let Some(provider) = self.provider else {
            return;
        };
        // A plain thread, not the runtime's: one that hangs must not hold the end of the runtime.
        let (done, finished) = tokio::sync::oneshot::channel();
        let flushing = std::thread::Builder::new()
            .name("telemetry-flush".to_owned())
            .spawn(move || {
                let result = provider.shutdown_with_timeout(deadline);
                let _ = done.send(result);
            });
        if flushing.is_err() {
            return;
        }
        match tokio::time::timeout(deadline, finished).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans were not sent"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last spans were not sent in time"),
        }
    }
}

#[cfg(test)]
mod tests;
