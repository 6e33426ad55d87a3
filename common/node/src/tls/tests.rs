use std::fs;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use super::*;

struct Pair {
    certificate: String,
    key: String,
    der: CertificateDer<'static>,
}

fn pair() -> Pair {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        der: certificate.der().clone(),
    }
}

struct Files {
    folder: TempDir,
}

impl Files {
    fn new(certificate: &str, key: &str) -> Self {
        let this = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        this.write(certificate, key);
        this
    }

    fn write(&self, certificate: &str, key: &str) {
        fs::write(self.certificate(), certificate).unwrap();
        fs::write(self.key(), key).unwrap();
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }

    fn load(&self) -> Result<Arc<ReloadingCertificate>, TlsError> {
        ReloadingCertificate::load(&self.certificate(), &self.key())
    }
}

/// A handshake over real sockets: the certificate that the server showed.
async fn shown(
    server: &Arc<ServerConfig>,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let acceptor = TlsAcceptor::from(Arc::clone(server));
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut stream = acceptor.accept(stream).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await
    });
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    assert_eq!(text, "hello");
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    serving.await.unwrap()?;
    Ok(certificate)
}

#[tokio::test]
async fn a_handshake_shows_the_certificate_and_after_a_reload_the_new_one() {
    let (first, second) = (pair(), pair());
    let files = Files::new(&first.certificate, &first.key);
    let certificate = files.load().unwrap();
    let server = server_config(certificate.clone(), &[]).unwrap();
    assert_eq!(
        shown(&server, &first.der).await.unwrap(),
        first.der.to_vec()
    );
    assert_eq!(certificate.reload(), Ok(false));
    files.write(&second.certificate, &second.key);
    assert_eq!(certificate.reload(), Ok(true));
    assert_eq!(
        shown(&server, &second.der).await.unwrap(),
        second.der.to_vec()
    );
    assert!(shown(&server, &first.der).await.is_err());
}

#[test]
fn files_that_cannot_be_used_leave_the_certificate_before_in_place() {
    let (first, second) = (pair(), pair());
    let files = Files::new(&first.certificate, &first.key);
    let certificate = files.load().unwrap();
    let before = Arc::as_ptr(&certificate.current().key);
    // Half of a rotation: the new certificate is there, the new key is not yet.
    files.write(&second.certificate, &first.key);
    assert!(matches!(
        certificate.reload(),
        Err(TlsError::KeyMismatch { .. })
    ));
    fs::remove_file(files.key()).unwrap();
    assert!(matches!(certificate.reload(), Err(TlsError::Read { .. })));
    assert_eq!(Arc::as_ptr(&certificate.current().key), before);
    files.write(&second.certificate, &second.key);
    assert_eq!(certificate.reload(), Ok(true));
    assert_ne!(Arc::as_ptr(&certificate.current().key), before);
}

#[tokio::test]
async fn the_watch_follows_requests_and_changed_files() {
    let (first, second, third) = (pair(), pair(), pair());
    let files = Files::new(&first.certificate, &first.key);
    let certificate = files.load().unwrap();
    let stop = CancellationToken::new();
    let (request, mut requests) = watch::channel(0);
    let changed_from = |before: *const CertifiedKey| {
        let certificate = certificate.clone();
        async move {
            let changed = async {
                while std::ptr::eq(Arc::as_ptr(&certificate.current().key), before) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), changed)
                .await
                .expect("the certificate changes");
        }
    };
    // Asked for: the interval alone would take an hour.
    let slow = tokio::spawn(certificate.clone().watch(
        Duration::from_secs(3600),
        requests.clone(),
        stop.clone(),
    ));
    let before = Arc::as_ptr(&certificate.current().key);
    files.write(&second.certificate, &second.key);
    request.send_replace(1);
    changed_from(before).await;
    stop.cancel();
    slow.await.unwrap();
    // By looking at the files: the request is old news.
    requests.mark_unchanged();
    let stop = CancellationToken::new();
    let fast = tokio::spawn(certificate.clone().watch(
        Duration::from_millis(100),
        requests,
        stop.clone(),
    ));
    let before = Arc::as_ptr(&certificate.current().key);
    files.write(&third.certificate, &third.key);
    changed_from(before).await;
    stop.cancel();
    fast.await.unwrap();
}

#[test]
fn each_mistake_has_its_own_error() {
    let (first, second) = (pair(), pair());
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    type Check = fn(&TlsError) -> bool;
    let cases: [(&str, &str, Check); 6] = [
        ("", &first.key, |error| {
            matches!(error, TlsError::NoCertificate { .. })
        }),
        (&first.key, &first.key, |error| {
            matches!(error, TlsError::NoCertificate { .. })
        }),
        (garbage, &first.key, |error| {
            matches!(error, TlsError::BadCertificate { index: 0, .. })
        }),
        (&first.certificate, "", |error| {
            matches!(error, TlsError::NoKey { .. })
        }),
        (&first.certificate, &first.certificate, |error| {
            matches!(error, TlsError::NoKey { .. })
        }),
        (&first.certificate, &second.key, |error| {
            matches!(error, TlsError::KeyMismatch { .. })
        }),
    ];
    for (certificate, key, expected) in cases {
        let error = Files::new(certificate, key).load().unwrap_err();
        assert!(expected(&error), "{error:?}");
        assert!(
            error.to_string().contains("server."),
            "the file is named: {error}"
        );
    }
    let missing =
        ReloadingCertificate::load(Path::new("/nowhere/a.pem"), Path::new("/nowhere/a.key"))
            .unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("cannot read /nowhere/a.pem: "),
        "{missing}"
    );
}

#[test]
fn a_certificate_out_of_date_gives_a_warning() {
    let pair = pair();
    let files = Files::new(&pair.certificate, &pair.key);
    let mut certificate = Certificate::load(&files.certificate(), &files.key()).unwrap();
    assert_eq!(certificate.warning(), None);
    (certificate.not_before, certificate.not_after) = (1_000_000, 2_000_000);
    assert_eq!(certificate.warning_at(2_000_000), None);
    assert_eq!(
        certificate.warning_at(2_000_000 + 3 * 86_400).unwrap(),
        "the certificate expired 3 days ago"
    );
    assert!(
        certificate
            .warning_at(999_999)
            .unwrap()
            .contains("not valid yet")
    );
}

#[test]
fn one_file_without_the_other_is_refused() {
    let text = "certificate_file = \"a.pem\"";
    let error = crate::config::Loader::new()
        .text("edge.toml", text)
        .load::<TlsSection>()
        .unwrap_err();
    assert!(
        error.to_string().contains("`key_file` must be set"),
        "{error}"
    );
    assert_eq!(
        TlsSection::default().load().map(|loaded| loaded.is_none()),
        Ok(true)
    );
}
