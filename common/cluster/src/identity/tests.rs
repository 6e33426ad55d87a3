//! Good and bad certificates, made on the spot.

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::certs;
use crate::member::NodeId;

fn authority() -> TempDir {
    let dir = tempfile::tempdir().expect("dir");
    certs::create_authority(dir.path(), 30, false).expect("authority");
    dir
}

fn issue(dir: &TempDir, node: &str) -> certs::Written {
    let names = ["10.0.0.1".to_owned(), "origins.example".to_owned()];
    certs::issue(
        dir.path(),
        &NodeId::new(node).expect("id"),
        &names,
        30,
        false,
    )
    .expect("certificate")
}

fn load(ca: &TempDir, certificate: &Path, key: &Path) -> Result<Identity, IdentityError> {
    Identity::load(
        &ca.path().join(certs::AUTHORITY_CERTIFICATE),
        certificate,
        key,
    )
}

/// A certificate for node `odd`, signed by the authority, with whatever `edit` makes of it.
fn issue_odd(dir: &TempDir, edit: impl FnOnce(&mut CertificateParams)) -> (PathBuf, PathBuf) {
    let text = |file| std::fs::read_to_string(dir.path().join(file)).expect("file");
    let key = KeyPair::from_pem(&text(certs::AUTHORITY_KEY)).expect("key");
    let issuer =
        Issuer::from_ca_cert_pem(&text(certs::AUTHORITY_CERTIFICATE), key).expect("authority");
    let mut params = CertificateParams::new(vec!["odd".to_owned()]).expect("params");
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    edit(&mut params);
    let key = KeyPair::generate().expect("key");
    let certificate = params.signed_by(&key, &issuer).expect("certificate");
    let paths = (dir.path().join("odd.pem"), dir.path().join("odd-key.pem"));
    std::fs::write(&paths.0, certificate.pem()).expect("write");
    std::fs::write(&paths.1, key.serialize_pem()).expect("write");
    paths
}

#[test]
fn a_good_certificate_loads() {
    let dir = authority();
    let written = issue(&dir, "o1");
    let identity = load(&dir, &written.certificate, &written.key).expect("identity");
    assert_eq!(identity.names(), ["o1", "10.0.0.1", "origins.example"]);
    let days = identity
        .expires()
        .duration_since(SystemTime::now())
        .expect("future")
        .as_secs()
        / 86_400;
    assert!((29..=30).contains(&days), "{days}");
    identity.reload().expect("reload");
}

#[test]
fn what_is_wrong_with_files_is_said() {
    let dir = authority();
    let (one, two) = (issue(&dir, "o1"), issue(&dir, "o2"));
    let other = authority();
    let missing = dir.path().join("missing.pem");
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").expect("write");
    let garbage = dir.path().join("garbage.pem");
    std::fs::write(
        &garbage,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .expect("write");
    let broken = dir.path().join("broken.pem");
    std::fs::write(
        &broken,
        "-----BEGIN PRIVATE KEY-----\nsecret!\n-----END PRIVATE KEY-----\n",
    )
    .expect("write");
    for (what, result, expected) in [
        (
            "no file",
            load(&dir, &missing, &one.key),
            "missing.pem: No such file",
        ),
        (
            "no key file",
            load(&dir, &one.certificate, &missing),
            "missing.pem: No such file",
        ),
        (
            "empty file",
            load(&dir, &empty, &one.key),
            "empty.pem: no certificate in PEM form",
        ),
        (
            "a certificate for a key",
            load(&dir, &one.certificate, &one.certificate),
            "no private key in PEM form",
        ),
        ("garbage", load(&dir, &garbage, &one.key), "garbage.pem: "),
        (
            "damaged key",
            load(&dir, &one.certificate, &broken),
            "the file is damaged",
        ),
        (
            "the key of another",
            load(&dir, &one.certificate, &two.key),
            "o2-key.pem is not the private key of",
        ),
        (
            "another authority",
            load(&other, &one.certificate, &one.key),
            "is not signed by the authority in",
        ),
    ] {
        let error = result.expect_err(what).to_string();
        assert!(error.contains(expected), "{what}: {error}");
        assert!(!error.contains("secret"), "{what}: {error}");
    }
}

#[test]
fn dates_and_purposes_are_checked() {
    let dir = authority();
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let (certificate, key) = issue_odd(&dir, |params| params.not_after = year(2001));
    assert!(matches!(
        load(&dir, &certificate, &key),
        Err(IdentityError::Expired { .. })
    ));
    let (certificate, key) = issue_odd(&dir, |params| params.not_before = year(4000));
    assert!(matches!(
        load(&dir, &certificate, &key),
        Err(IdentityError::NotYetValid { .. })
    ));
    for (usage, missing) in [
        (ExtendedKeyUsagePurpose::ServerAuth, "client"),
        (ExtendedKeyUsagePurpose::ClientAuth, "server"),
    ] {
        let (certificate, key) = issue_odd(&dir, |params| params.extended_key_usages = vec![usage]);
        match load(&dir, &certificate, &key) {
            Err(IdentityError::Purpose { purpose, .. }) => assert_eq!(purpose, missing),
            other => panic!("{missing}: {other:?}"),
        }
    }
    let (certificate, key) = issue_odd(&dir, |_| {});
    assert!(
        load(&dir, &certificate, &key).is_ok(),
        "the odd one is good without an edit"
    );
}

#[test]
fn a_failed_reload_keeps_what_was_loaded() {
    let dir = authority();
    let written = issue(&dir, "o1");
    let identity = load(&dir, &written.certificate, &written.key).expect("identity");
    std::fs::write(&written.certificate, "").expect("write");
    assert!(identity.reload().is_err());
    assert_eq!(identity.names().first().map(String::as_str), Some("o1"));
}

#[test]
fn debug_shows_no_key() {
    let dir = authority();
    let written = issue(&dir, "o1");
    let identity = load(&dir, &written.certificate, &written.key).expect("identity");
    let shown = format!("{identity:?}");
    assert!(
        shown.contains("o1.pem") && !shown.contains("key"),
        "{shown}"
    );
}
