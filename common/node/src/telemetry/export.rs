//! The OTLP exporter, and how much it says when the collector is away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prometheus_client::metrics::counter::Counter;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::{TelemetryError, TelemetrySection};

/// What became of the spans.
#[derive(Clone, Debug, Default)]
pub(super) struct Exported {
    pub(super) sent: Counter,
    pub(super) lost: Counter,
}

pub(super) fn exporter(
    endpoint: &str,
    section: &TelemetrySection,
    exported: Exported,
) -> Result<Reporting<opentelemetry_otlp::SpanExporter>, TelemetryError> {
    let failed = |message: String| TelemetryError::Exporter {
        endpoint: endpoint.to_owned(),
        message,
    };
    // The channel's task runs in the runtime; building it elsewhere would panic.
    tokio::runtime::Handle::try_current().map_err(|error| failed(error.to_string()))?;
    let timeout = Duration::from_millis(section.timeout_ms);
    let mut target = Endpoint::from_shared(endpoint.to_owned())
        .map_err(|error| failed(error.to_string()))?
        .timeout(timeout)
        .connect_timeout(timeout);
    if let Some(path) = &section.otlp_ca_file {
        let pem = std::fs::read(path)
            .map_err(|error| failed(format!("cannot read {}: {error}", path.display())))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        target = target
            .tls_config(tls)
            .map_err(|error| failed(error.to_string()))?;
    }
    let inner = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_channel(target.connect_lazy())
        .with_timeout(timeout)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    Ok(Reporting {
        inner,
        endpoint: endpoint.to_owned(),
        failing: AtomicBool::new(false),
        exported,
    })
}

/// Counts batches and logs only when the collector goes away and when it is back.
#[derive(Debug)]
pub(super) struct Reporting<E> {
    inner: E,
    endpoint: String,
    failing: AtomicBool,
    exported: Exported,
}

impl<E: SpanExporter> SpanExporter for Reporting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.inner.export(batch).await;
        match &result {
            Ok(()) => {
                self.exported.sent.inc_by(spans);
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(endpoint = self.endpoint, "traces are sent again");
                }
            }
            Err(error) => {
                self.exported.lost.inc_by(spans);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(endpoint = self.endpoint, %error, "traces cannot be sent, they are dropped until the collector is back");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.inner.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use opentelemetry_sdk::error::OTelSdkError;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;

    #[derive(Debug)]
    struct Switch {
        up: Arc<AtomicBool>,
    }

    impl SpanExporter for Switch {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            if self.up.load(Ordering::Relaxed) {
                Ok(())
            } else {
                Err(OTelSdkError::InternalFailure("down".to_owned()))
            }
        }
    }

    /// Counts log lines.
    struct Lines(Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> Layer<S> for Lines {
        fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn the_log_has_one_line_when_the_collector_goes_and_one_when_it_is_back() {
        let (up, lines) = (
            Arc::new(AtomicBool::new(true)),
            Arc::new(AtomicUsize::new(0)),
        );
        let exporter = Reporting {
            inner: Switch {
                up: Arc::clone(&up),
            },
            endpoint: String::new(),
            failing: AtomicBool::new(false),
            exported: Exported::default(),
        };
        let _guard = tracing::subscriber::set_default(
            tracing_subscriber::registry().with(Lines(Arc::clone(&lines))),
        );
        for (is_up, expected) in [(true, 0), (false, 1), (true, 2), (false, 3)] {
            up.store(is_up, Ordering::Relaxed);
            for _ in 0..50 {
                assert_eq!(exporter.export(Vec::new()).await.is_ok(), is_up);
            }
            assert_eq!(lines.load(Ordering::Relaxed), expected);
        }
    }
}
