//! A node's certificate: loaded, checked before anything is bound, and turned into TLS settings for both directions.
//!
//! Both ends of a connection between nodes show a certificate of the cluster's authority (mutual TLS, rustls with aws-lc-rs,
//! HTTP/2 agreed by ALPN). The caller also checks the name: the certificate of the called node has to hold its node id as a DNS
//! name. The called node takes any certificate of the authority: the authority signs nodes only.
//!
//! An identity can be loaded anew while the node runs ([`Identity::reload`]): new connections use the new certificate.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, OtherError, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Largest PEM file that is read, in bytes. A chain has some kilobytes.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// The one application protocol between nodes.
const ALPN_HTTP2: &[u8] = b"h2";

/// What is wrong with a node's certificate files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("{path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file has no PEM section of the kind it is for.
    #[error("{path}: no {expected} in PEM form is in it{detail}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// "certificate" or "private key".
        expected: &'static str,
        /// More, where there is more to say.
        detail: String,
    },
    /// A certificate or a key that is PEM, but not what it says.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("{key} is not the private key of {certificate}")]
    KeyMismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// The time of the certificate is over.
    #[error("{path}: the certificate expired on {on}")]
    Expired {
        /// The file.
        path: PathBuf,
        /// When.
        on: String,
    },
    /// The time of the certificate has not come.
    #[error("{path}: the certificate is valid only from {from} on, check this machine's clock")]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// When.
        from: String,
    },
    /// Another authority signed the certificate.
    #[error("{certificate} is not signed by the authority in {ca}")]
    WrongAuthority {
        /// The certificate file.
        certificate: PathBuf,
        /// The authority's file.
        ca: PathBuf,
    },
    /// The certificate may not be used for both directions.
    #[error("{path}: the certificate is not made for the {purpose} end of TLS, a node needs both")]
    Purpose {
        /// The file.
        path: PathBuf,
        /// "client" or "server".
        purpose: &'static str,
    },
    /// The TLS library refuses it for another reason.
    #[error("{path}: {reason}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// The library's words.
        reason: String,
    },
}

/// This node's certificate and the authority that it trusts. Clones share everything.
#[derive(Clone)]
pub struct Identity {
    files: Arc<Files>,
    loaded: Arc<ArcSwap<Loaded>>,
}

struct Files {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

struct Loaded {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    names: Vec<String>,
    expires: SystemTime,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certificate", &self.files.certificate)
            .field("names", &self.loaded.load().names)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Loads PEM files and checks that they fit together: the key is the certificate's, the authority signed it, it is valid
    /// now and for both ends.
    ///
    /// # Errors
    /// [`IdentityError`] with the file and what is wrong with it.
    pub fn load(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let files = Files {
            ca: ca.to_owned(),
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        let loaded = Arc::new(ArcSwap::from_pointee(files.load()?));
        Ok(Self {
            files: Arc::new(files),
            loaded,
        })
    }

    /// Loads the same files again, for connections made from now on.
    ///
    /// # Errors
    /// As [`Identity::load`]; the certificate that was loaded stays in use.
    pub fn reload(&self) -> Result<(), IdentityError> {
        self.loaded.store(Arc::new(self.files.load()?));
        Ok(())
    }

    /// The DNS names and addresses in this node's certificate.
    pub fn names(&self) -> Vec<String> {
        self.loaded.load().names.clone()
    }

    /// When this node's certificate ends.
    pub fn expires(&self) -> SystemTime {
        self.loaded.load().expires
    }

    /// Settings for calling other nodes.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.loaded.load().client)
    }

    /// Settings for being called by other nodes.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.load().server)
    }
}

/// The names (DNS names and addresses) that a certificate holds; none for one that cannot be read.
pub fn certificate_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    X509Certificate::from_der(certificate)
        .map(|(_, parsed)| names_of(&parsed))
        .unwrap_or_default()
}

impl Files {
    fn load(&self) -> Result<Loaded, IdentityError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(self.roots()?);
        let chain = certificates(&self.certificate)?;
        let key = private_key(&self.key)?;
        // `certificates` gives at least one.
        let leaf = chain
            .first()
            .ok_or_else(|| no_pem(&self.certificate, "certificate", ""))?;
        let (names, expires) = self.check_leaf(leaf)?;
        let malformed = |path: &Path, error: rustls::Error| IdentityError::Malformed {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        match CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider) {
            Ok(_) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(IdentityError::KeyMismatch {
                    certificate: self.certificate.clone(),
                    key: self.key.clone(),
                });
            }
            Err(error) => return Err(malformed(&self.key, error)),
        }
        self.check_signature(&chain, &roots, &provider)?;

        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| IdentityError::Tls {
                    path: self.ca.clone(),
                    reason: error.to_string(),
                })?;
        let tls = |error: rustls::Error| IdentityError::Tls {
            path: self.certificate.clone(),
            reason: error.to_string(),
        };
        // Both ends are ours: no need for the older version.
        let versions = &[&rustls::version::TLS13];
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(tls)?;
        server.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(tls)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(tls)?;
        client.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        Ok(Loaded {
            client: Arc::new(client),
            server: Arc::new(server),
            names,
            expires,
        })
    }

    fn roots(&self) -> Result<RootCertStore, IdentityError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots
                .add(certificate)
                .map_err(|error| IdentityError::Malformed {
                    path: self.ca.clone(),
                    reason: error.to_string(),
                })?;
        }
        Ok(roots)
    }

    /// What can be said about the certificate alone: the dates come first, because the TLS library says less about them.
    fn check_leaf(
        &self,
        leaf: &CertificateDer<'_>,
    ) -> Result<(Vec<String>, SystemTime), IdentityError> {
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|error| IdentityError::Malformed {
                path: self.certificate.clone(),
                reason: error.to_string(),
            })?;
        let validity = parsed.validity();
        let now = x509_parser::time::ASN1Time::now();
        if now > validity.not_after {
            return Err(IdentityError::Expired {
                path: self.certificate.clone(),
                on: validity.not_after.to_string(),
            });
        }
        if now < validity.not_before {
            return Err(IdentityError::NotYetValid {
                path: self.certificate.clone(),
                from: validity.not_before.to_string(),
            });
        }
        let expires = u64::try_from(validity.not_after.timestamp()).unwrap_or(0);
        let expires = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(expires);
        Ok((names_of(&parsed), expires))
    }

    /// Verifies the chain as both ends will.
    fn check_signature(
        &self,
        chain: &[CertificateDer<'static>],
        roots: &Arc<RootCertStore>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(), IdentityError> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Ok(());
        };
        let authority = |error: rustls::client::VerifierBuilderError| IdentityError::Malformed {
            path: self.ca.clone(),
            reason: error.to_string(),
        };
        let now = UnixTime::now();
        let as_client =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
                .build()
                .map_err(authority)?;
        as_client
            .verify_client_cert(leaf, intermediates, now)
            .map_err(|error| self.refused(error, "client"))?;
        let as_server =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
                .build()
                .map_err(authority)?;
        // The name is the caller's business: any will do here.
        let name = ServerName::try_from("node.headwater")
            .map_err(|_| self.refused(rustls::Error::General(String::new()), "server"))?;
        match as_server.verify_server_cert(leaf, intermediates, &name, &[], now) {
            Ok(_)
            | Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(()),
            Err(error) => Err(self.refused(error, "server")),
        }
    }

    fn refused(&self, error: rustls::Error, purpose: &'static str) -> IdentityError {
        match error {
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => IdentityError::WrongAuthority {
                certificate: self.certificate.clone(),
                ca: self.ca.clone(),
            },
            rustls::Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            ) => IdentityError::Purpose {
                path: self.certificate.clone(),
                purpose,
            },
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
                IdentityError::Tls {
                    path: self.certificate.clone(),
                    reason: other.to_string(),
                }
            }
            other => IdentityError::Tls {
                path: self.certificate.clone(),
                reason: other.to_string(),
            },
        }
    }
}

fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address_of(bytes),
            _ => None,
        })
        .collect()
}

fn address_of(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(v6).to_string())
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let refused = |reason: String| IdentityError::Read {
        path: path.to_owned(),
        reason,
    };
    let length = std::fs::metadata(path)
        .map_err(|error| refused(error.to_string()))?
        .len();
    if length > MAX_PEM_BYTES {
        return Err(refused(format!(
            "{length} bytes are too many for a PEM file"
        )));
    }
    std::fs::read(path).map_err(|error| refused(error.to_string()))
}

fn no_pem(path: &Path, expected: &'static str, detail: &str) -> IdentityError {
    IdentityError::Pem {
        path: path.to_owned(),
        expected,
        detail: detail.to_owned(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let text = read(path)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(no_pem(path, "certificate", "")),
        Err(error) => Err(no_pem(path, "certificate", &format!(": {error}"))),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => no_pem(path, "private key", ""),
        // The library's text may quote a line of the file, and this file is secret.
        _ => no_pem(path, "private key", ": the file is damaged"),
    })
}

#[cfg(test)]
mod tests;
