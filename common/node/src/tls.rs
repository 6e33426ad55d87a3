//! Certificates and keys of listeners.
//!
//! One crypto provider, aws-lc-rs; TLS 1.2 (RFC 5246) and 1.3 (RFC 8446). Flash-era clients that know only TLS 1.0 need
//! a proxy in front. A certificate is read when the process starts, on `SIGHUP` and when its files change; connections
//! that stand keep what they began with. A set of files that cannot be used never replaces one that works.
//!
//! Not here: the identity of nodes towards each other, which `headwater-cluster` keeps.

mod reload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub use reload::ReloadingCertificate;

crate::section! {
    /// The certificate of a TLS listener.
    pub struct TlsSection {
        /// PEM file with the certificate of the server, followed by the intermediate ones.
        pub certificate_file: Option<PathBuf> = None,
        /// PEM file with the private key: PKCS#8, PKCS#1 or SEC1, without a password.
        pub key_file: Option<PathBuf> = None,
        /// How often the files are looked at for a change, seconds. SIGHUP reads them at once.
        pub reload_s: u64 = 60 => 1..=86_400,
    }
    validate |section, problems| {
        match (&section.certificate_file, &section.key_file) {
            (Some(_), None) => problems.push("key_file", "must be set when certificate_file is"),
            (None, Some(_)) => problems.push("certificate_file", "must be set when key_file is"),
            _ => {}
        }
    }
}

impl TlsSection {
    /// Loads the certificate, or gives `None` when none is set.
    ///
    /// # Errors
    /// The files cannot be used.
    pub fn load(&self) -> Result<Option<Arc<ReloadingCertificate>>, TlsError> {
        match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                ReloadingCertificate::load(certificate, key).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// Why a certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {}: {message}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        message: String,
    },
    /// A file is not PEM (RFC 7468).
    #[error("{} is no valid PEM file: {message}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// There is no certificate in the file.
    #[error("{} holds no certificate (no CERTIFICATE section)", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A section that says it is a certificate is none.
    #[error("certificate {} of {} cannot be read: {message}", index + 1, path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// Which one, from 0.
        index: usize,
        /// What is wrong.
        message: String,
    },
    /// There is no private key in the file.
    #[error("{} holds no private key (no PRIVATE KEY section; keys with a password are not supported)", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is of a kind that cannot be used.
    #[error("the private key in {} cannot be used: {message}", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Key and certificate are not a pair.
    #[error("the private key in {} does not belong to the first certificate in {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// The TLS library refused the configuration.
    #[error("cannot set up TLS: {message}")]
    Setup {
        /// What it said.
        message: String,
    },
}

/// Makes aws-lc-rs the provider of the process. Call it first in `main`; further calls do nothing.
pub fn install_crypto_provider() {
    // Err means that a provider is installed already, which is what we want.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// A certificate chain with its key, and until when it holds.
#[derive(Clone, Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    not_before: i64,
    not_after: i64,
}

impl Certificate {
    /// Reads and checks a pair of PEM files.
    ///
    /// # Errors
    /// The files cannot be used; a certificate out of date is no error, see [`Certificate::warning`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let (chain_text, key_text) = (read(certificate)?, read(key)?);
        Self::from_pem(certificate, &chain_text, key, &key_text)
    }

    /// As [`Certificate::load`], from what was read already.
    fn from_pem(
        certificate_path: &Path,
        certificate: &[u8],
        key_path: &Path,
        key: &[u8],
    ) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsError::Pem {
                path: certificate_path.to_owned(),
                message: error.to_string(),
            })?;
        let mut validity = None;
        for (index, der) in chain.iter().enumerate() {
            let (_, parsed) = x509_parser::parse_x509_certificate(der).map_err(|error| {
                TlsError::BadCertificate {
                    path: certificate_path.to_owned(),
                    index,
                    message: error.to_string(),
                }
            })?;
            let dates = parsed.validity();
            validity
                .get_or_insert_with(|| (dates.not_before.timestamp(), dates.not_after.timestamp()));
        }
        let Some((not_before, not_after)) = validity else {
            return Err(TlsError::NoCertificate {
                path: certificate_path.to_owned(),
            });
        };
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            rustls_pki_types::pem::Error::NoItemsFound => TlsError::NoKey {
                path: key_path.to_owned(),
            },
            error => TlsError::Pem {
                path: key_path.to_owned(),
                message: error.to_string(),
            },
        })?;
        let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(
            |error| match error {
                rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch {
                    certificate: certificate_path.to_owned(),
                    key: key_path.to_owned(),
                },
                rustls::Error::InvalidCertificate(error) => TlsError::BadCertificate {
                    path: certificate_path.to_owned(),
                    index: 0,
                    message: error.to_string(),
                },
                error => TlsError::BadKey {
                    path: key_path.to_owned(),
                    message: error.to_string(),
                },
            },
        )?;
        Ok(Self {
            key: Arc::new(key),
            not_before,
            not_after,
        })
    }

    /// When the certificate of the server ends, seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// A warning for the operator when the certificate does not hold now.
    pub fn warning(&self) -> Option<String> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        self.warning_at(i64::try_from(now).unwrap_or(i64::MAX))
    }

    fn warning_at(&self, now: i64) -> Option<String> {
        if now > self.not_after {
            Some(format!(
                "the certificate expired {} days ago",
                now.saturating_sub(self.not_after) / 86_400
            ))
        } else if now < self.not_before {
            Some("the certificate is not valid yet; is the clock right?".to_owned())
        } else {
            None
        }
    }
}

/// The configuration of a TLS listener: TLS 1.2 and 1.3, no client certificate, session tickets, `alpn` in order of
/// preference (empty for RTMPS).
///
/// Tickets are encrypted with keys of this process: a client that comes back to another edge makes a full handshake.
///
/// # Errors
/// [`TlsError::Setup`].
pub fn server_config(
    certificate: Arc<dyn ResolvesServerCert>,
    alpn: &[&str],
) -> Result<Arc<ServerConfig>, TlsError> {
    let setup = |error: rustls::Error| TlsError::Setup {
        message: error.to_string(),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(setup)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = alpn
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect();
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(setup)?;
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Read {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
