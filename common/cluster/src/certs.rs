//! Makes the authority of a cluster and the certificates of its nodes, for clusters that have no authority of their own.
//!
//! A folder holds one authority, `ca.pem` and `ca-key.pem`, and the nodes it signed, `<node>.pem` and `<node>-key.pem`. Nodes
//! get `ca.pem` and their own two files; `ca-key.pem` stays where certificates are made. Keys are ECDSA P-256, readable by their
//! owner only. No file is ever replaced unless the caller says so.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::member::NodeId;

/// File of the authority's certificate.
pub const AUTHORITY_CERTIFICATE: &str = "ca.pem";

/// File of the authority's private key.
pub const AUTHORITY_KEY: &str = "ca-key.pem";

/// Longest life of a certificate in days.
pub const MAX_DAYS: u32 = 36_500;

/// How long ago a new certificate became valid: clocks of nodes differ.
const BACKDATED: Duration = Duration::from_secs(3_600);

const DAY: Duration = Duration::from_secs(86_400);

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertsError {
    /// A file is there already.
    #[error("{0} exists, and is only replaced with force")]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("{path}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No life, or too long a life.
    #[error("a certificate lives from 1 to {MAX_DAYS} days, not {0}")]
    Days(u32),
    /// The file name of a node's certificate would be the authority's.
    #[error("a node cannot be called {0} where its authority's files are")]
    Name(NodeId),
    /// A name that cannot stand in a certificate, or an authority that cannot be read.
    #[error("{what}: {source}")]
    Certificate {
        /// What was done.
        what: String,
        /// What the library says.
        source: rcgen::Error,
    },
}

/// The files that were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key, mode 0600.
    pub key: PathBuf,
}

/// Makes an authority in `dir`, which is made if it is not there.
///
/// # Errors
/// [`CertsError::Exists`] where one is there and `force` is not set; [`CertsError`] for what else may fail.
pub fn create_authority(dir: &Path, days: u32, force: bool) -> Result<Written, CertsError> {
    let written = Written {
        certificate: dir.join(AUTHORITY_CERTIFICATE),
        key: dir.join(AUTHORITY_KEY),
    };
    let failed = |source| CertsError::Certificate {
        what: "cannot make an authority".to_owned(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(|source| file_error(dir, source))?;
    refuse_existing(&written, force)?;
    let mut params = CertificateParams::default();
    set_validity(&mut params, days)?;
    // Two authorities with one name, one of them long replaced, would be hard to tell apart.
    let name = format!("Headwater cluster authority {:08x}", rand::random::<u32>());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Signs nodes, and no further authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    write(&written, &certificate.pem(), &key.serialize_pem(), force)?;
    Ok(written)
}

/// Makes a certificate for a node, signed by the authority in `dir`. It holds the node id as a DNS name, then `names`: further
/// DNS names and addresses under which the node is called, such as the name of a headless service.
///
/// # Errors
/// [`CertsError`], as [`create_authority`].
pub fn issue(
    dir: &Path,
    node: &NodeId,
    names: &[String],
    days: u32,
    force: bool,
) -> Result<Written, CertsError> {
    let written = Written {
        certificate: dir.join(format!("{node}.pem")),
        key: dir.join(format!("{node}-key.pem")),
    };
    let authority = Written {
        certificate: dir.join(AUTHORITY_CERTIFICATE),
        key: dir.join(AUTHORITY_KEY),
    };
    if [&written.certificate, &written.key]
        .iter()
        .any(|file| [&authority.certificate, &authority.key].contains(file))
    {
        return Err(CertsError::Name(node.clone()));
    }
    refuse_existing(&written, force)?;
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| CertsError::Certificate { what, source }
    };
    let certificate = std::fs::read_to_string(&authority.certificate)
        .map_err(|source| file_error(&authority.certificate, source))?;
    let key = std::fs::read_to_string(&authority.key)
        .map_err(|source| file_error(&authority.key, source))?;
    let key = KeyPair::from_pem(&key).map_err(failed("cannot read the authority's key"))?;
    let issuer = Issuer::from_ca_cert_pem(&certificate, key)
        .map_err(failed("cannot read the authority's certificate"))?;

    let mut all = vec![node.to_string()];
    all.extend(names.iter().filter(|name| *name != node.as_str()).cloned());
    let mut params =
        CertificateParams::new(all).map_err(failed("a name cannot stand in a certificate"))?;
    set_validity(&mut params, days)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, node.as_str());
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().map_err(failed("cannot make a key"))?;
    let certificate = params
        .signed_by(&key, &issuer)
        .map_err(failed("cannot sign"))?;
    write(&written, &certificate.pem(), &key.serialize_pem(), force)?;
    Ok(written)
}

fn set_validity(params: &mut CertificateParams, days: u32) -> Result<(), CertsError> {
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(CertsError::Days(days));
    }
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + DAY.saturating_mul(days)).into();
    Ok(())
}

fn file_error(path: &Path, source: io::Error) -> CertsError {
    CertsError::File {
        path: path.to_owned(),
        source,
    }
}

/// Checked for both files before the first is written, so that a refusal leaves no half.
fn refuse_existing(files: &Written, force: bool) -> Result<(), CertsError> {
    for path in [&files.certificate, &files.key] {
        let exists = path
            .try_exists()
            .map_err(|source| file_error(path, source))?;
        if exists && !force {
            return Err(CertsError::Exists(path.clone()));
        }
    }
    Ok(())
}

fn write(files: &Written, certificate: &str, key: &str, force: bool) -> Result<(), CertsError> {
    write_file(&files.key, key, 0o600, force)?;
    write_file(&files.certificate, certificate, 0o644, force)
}

fn write_file(path: &Path, text: &str, mode: u32, force: bool) -> Result<(), CertsError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => CertsError::Exists(path.to_owned()),
        _ => file_error(path, source),
    };
    if force {
        // A file that is there would keep its mode.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn id(id: &str) -> NodeId {
        NodeId::new(id).expect("id")
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("file").permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_for_their_owner_only() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = dir.path().join("made/if/missing");
        let authority = create_authority(&folder, 30, false).expect("authority");
        let node = issue(&folder, &id("o1"), &[], 30, false).expect("node");
        for key in [&authority.key, &node.key] {
            assert_eq!(mode(key), 0o600, "{}", key.display());
        }
        // Also where a file with more rights is replaced.
        std::fs::set_permissions(&node.key, std::fs::Permissions::from_mode(0o644)).expect("mode");
        issue(&folder, &id("o1"), &[], 30, true).expect("node");
        assert_eq!(mode(&node.key), 0o600);
    }

    #[test]
    fn nothing_is_replaced_without_force() {
        let dir = tempfile::tempdir().expect("dir");
        let authority = create_authority(dir.path(), 30, false).expect("authority");
        let node = issue(dir.path(), &id("o1"), &[], 30, false).expect("node");
        let read = |path: &Path| std::fs::read_to_string(path).expect("file");
        let before = [
            read(&authority.certificate),
            read(&authority.key),
            read(&node.certificate),
            read(&node.key),
        ];
        assert!(matches!(
            create_authority(dir.path(), 30, false),
            Err(CertsError::Exists(_))
        ));
        // One of the two is enough.
        std::fs::remove_file(&node.certificate).expect("remove");
        assert!(matches!(
            issue(dir.path(), &id("o1"), &[], 30, false),
            Err(CertsError::Exists(_))
        ));
        assert!(!node.certificate.exists(), "a refusal leaves no half");
        assert_eq!(read(&authority.key), before[1]);
        assert_eq!(read(&node.key), before[3]);
        issue(dir.path(), &id("o1"), &[], 30, true).expect("forced");
        assert_ne!(read(&node.key), before[3]);
        create_authority(dir.path(), 30, true).expect("forced");
        assert_ne!(read(&authority.certificate), before[0]);
    }

    #[test]
    fn refusals() {
        let dir = tempfile::tempdir().expect("dir");
        assert!(
            matches!(
                issue(dir.path(), &id("o1"), &[], 30, false),
                Err(CertsError::File { .. })
            ),
            "no authority"
        );
        create_authority(dir.path(), 30, false).expect("authority");
        for days in [0, MAX_DAYS + 1] {
            assert!(
                matches!(
                    issue(dir.path(), &id("o1"), &[], days, false),
                    Err(CertsError::Days(_))
                ),
                "{days}"
            );
        }
        for name in ["ca", "ca-key"] {
            assert!(
                matches!(
                    issue(dir.path(), &id(name), &[], 30, true),
                    Err(CertsError::Name(_))
                ),
                "{name}"
            );
        }
        let names = ["größe".to_owned()];
        assert!(matches!(
            issue(dir.path(), &id("o1"), &names, 30, false),
            Err(CertsError::Certificate { .. })
        ));
        assert!(!dir.path().join("o1.pem").exists());
    }
}
