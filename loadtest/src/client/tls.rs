//! Which certificates of a server are believed.
//!
//! TLS 1.2 (RFC 5246) and 1.3 (RFC 8446), with aws-lc-rs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Where distributions keep the certificates of the authorities they believe: Debian, Fedora, `OpenSSL`'s default, BSD.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why there is nothing to check a certificate against.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file could not be read, or holds no certificate.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// None of the usual places has the system's certificates.
    #[error(
        "the system has no bundle of certificate authorities; name one, or accept any certificate"
    )]
    NoSystemBundle,
    /// rustls does not take the configuration.
    #[error("tls: {0}")]
    Tls(String),
}

/// Which certificates of a server are believed. The same one is to be shared by all clients of a run: it holds their TLS sessions.
#[derive(Clone)]
pub struct Trust {
    config: Result<Arc<ClientConfig>, TrustError>,
}

impl Default for Trust {
    /// Nothing is believed until one of the constructors has found something: enough for `rtmp`.
    fn default() -> Self {
        Self {
            config: Err(TrustError::NoSystemBundle),
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("usable", &self.config.is_ok())
            .finish()
    }
}

impl Trust {
    /// What the system believes. Without a bundle it gives an error at the first connection with TLS, not before.
    #[must_use]
    pub fn system() -> Self {
        let bundle = SYSTEM_BUNDLES.iter().map(Path::new).find(|path| {
            path.metadata()
                .is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
        });
        Self {
            config: match bundle {
                Some(path) => from_file(path),
                None => Err(TrustError::NoSystemBundle),
            },
        }
    }

    /// Certificates that an authority in a PEM file has signed, or that stand in it themselves.
    ///
    /// # Errors
    /// [`TrustError`] names what is wrong with the file.
    pub fn file(path: &Path) -> Result<Self, TrustError> {
        let config = from_file(path)?;
        Ok(Self { config: Ok(config) })
    }

    /// Any certificate, even one that is expired or of another host. The connection is encrypted, but nobody knows with whom.
    #[must_use]
    pub fn anyone() -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map(|builder| {
                let config = builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(Anyone { provider }))
                    .with_no_client_auth();
                Arc::new(config)
            })
            .map_err(|error| TrustError::Tls(error.to_string()));
        Self { config }
    }

    pub(super) fn client_config(&self) -> Result<Arc<ClientConfig>, TrustError> {
        self.config.clone()
    }
}

fn from_file(path: &Path) -> Result<Arc<ClientConfig>, TrustError> {
    let wrong = |message: String| TrustError::File {
        path: path.to_owned(),
        message,
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))?;
    let mut refused = None;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        // A bundle may hold some that rustls does not take; that is no reason to refuse the others.
        if let Err(error) = roots.add(certificate) {
            refused = Some(error.to_string());
        }
    }
    if roots.is_empty() {
        return Err(wrong(
            refused.unwrap_or_else(|| "the file holds no certificate".to_owned()),
        ));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Believes every certificate; signatures are still checked, so that the peer has the key of the one it shows.
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn files_without_certificates_are_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"nothing here").unwrap();
        for path in [file.path(), Path::new("/nonexistent/ca.pem")] {
            let error = Trust::file(path).unwrap_err().to_string();
            assert!(error.starts_with(&path.display().to_string()), "{error}");
        }
        assert!(Trust::anyone().client_config().is_ok());
        assert!(Trust::default().client_config().is_err());
    }
}
