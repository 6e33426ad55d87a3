//! A certificate that is replaced while listeners use it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Certificate, TlsError, read};

/// Gives every handshake the newest certificate that could be used.
pub struct ReloadingCertificate {
    certificate_path: PathBuf,
    key_path: PathBuf,
    current: ArcSwap<Certificate>,
    /// What the files held when they were last used. Compared instead of times: a mounted secret changes by renaming a
    /// link, and a restored file may look older than it is.
    contents: Mutex<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for ReloadingCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ReloadingCertificate")
            .field("certificate_path", &self.certificate_path)
            .finish_non_exhaustive()
    }
}

impl ReloadingCertificate {
    /// Reads and checks a pair of PEM files.
    ///
    /// # Errors
    /// The files cannot be used. A certificate out of date is used and logged.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let contents = (read(certificate)?, read(key)?);
        let loaded = Certificate::from_pem(certificate, &contents.0, key, &contents.1)?;
        let this = Self {
            certificate_path: certificate.to_owned(),
            key_path: key.to_owned(),
            current: ArcSwap::from_pointee(loaded),
            contents: Mutex::new(contents),
        };
        this.log_warning();
        Ok(Arc::new(this))
    }

    /// The certificate in use.
    pub fn current(&self) -> Arc<Certificate> {
        self.current.load_full()
    }

    /// Reads the files again and says whether they gave a new certificate. Blocks on files.
    ///
    /// # Errors
    /// The files cannot be used; the certificate stays the one before.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let fresh = (read(&self.certificate_path)?, read(&self.key_path)?);
        let mut contents = self.contents.lock();
        if *contents == fresh {
            return Ok(false);
        }
        let loaded =
            Certificate::from_pem(&self.certificate_path, &fresh.0, &self.key_path, &fresh.1)?;
        self.current.store(Arc::new(loaded));
        *contents = fresh;
        Ok(true)
    }

    /// Reloads every `interval` and whenever `requests` changes, until `stop`. A failure is logged once, not every time.
    pub async fn watch(
        self: Arc<Self>,
        interval: Duration,
        mut requests: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        // A zero interval would panic; nobody needs it faster than this.
        let mut tick = tokio::time::interval(interval.max(Duration::from_millis(100)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        let mut requests_open = true;
        let mut logged = None;
        loop {
            let requested = tokio::select! {
                () = stop.cancelled() => return,
                changed = requests.changed(), if requests_open => {
                    requests_open = changed.is_ok();
                    requests_open
                }
                _ = tick.tick() => false,
            };
            let this = Arc::clone(&self);
            let Ok(result) = tokio::task::spawn_blocking(move || this.reload()).await else {
                continue;
            };
            match result {
                Ok(changed) => {
                    if changed {
                        tracing::info!(file = %self.certificate_path.display(), "certificate reloaded");
                        self.log_warning();
                    } else if requested {
                        tracing::info!(file = %self.certificate_path.display(), "certificate unchanged");
                    }
                    logged = None;
                }
                Err(error) => {
                    if requested || logged.as_ref() != Some(&error) {
                        tracing::error!(%error, "certificate not reloaded, the one before stays in use");
                    }
                    logged = Some(error);
                }
            }
        }
    }

    fn log_warning(&self) {
        if let Some(warning) = self.current.load().warning() {
            tracing::warn!(file = %self.certificate_path.display(), "{warning}");
        }
    }
}

impl ResolvesServerCert for ReloadingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().key))
    }
}
