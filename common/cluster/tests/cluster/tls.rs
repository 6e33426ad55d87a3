//! Mutual TLS between nodes: who is let in, and who is not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::Availability::{Available, Unreachable};
use headwater_cluster::{Identity, NodeId, certs};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Origin, config, edge, id, listener, until};

fn authority() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    certs::create_authority(dir.path(), 30, false).unwrap();
    dir
}

fn identity(dir: &Path, node: &str) -> Identity {
    let written = certs::issue(dir, &NodeId::new(node).unwrap(), &[], 30, false).unwrap();
    Identity::load(
        &dir.join(certs::AUTHORITY_CERTIFICATE),
        &written.certificate,
        &written.key,
    )
    .unwrap()
}

#[tokio::test]
async fn nodes_of_one_authority_reach_each_other() {
    let dir = authority();
    let listening = listener().await;
    let config = config(&[("o_1.eu", listening.local_addr().unwrap())]);
    let origin = Origin::start(
        "o_1.eu",
        listening,
        config.clone(),
        Some(identity(dir.path(), "o_1.eu")),
    );
    let (edge, _stop) = edge(config, Some(identity(dir.path(), "edge")));
    edge.ready().await;
    assert_eq!(edge.view().availability(&id("o_1.eu")), Available);
    origin.stop().await;
}

#[tokio::test]
async fn a_node_of_another_authority_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let listening = listener().await;
    let config = config(&[("o1", listening.local_addr().unwrap())]);
    let _origin = Origin::start(
        "o1",
        listening,
        config.clone(),
        Some(identity(ours.path(), "o1")),
    );
    let (stranger, _stop) = edge(config, Some(identity(theirs.path(), "edge")));
    stranger.ready().await;
    assert_eq!(stranger.view().availability(&id("o1")), Unreachable);
}

/// The other half: a caller that would trust the origin, with a certificate that the origin does not trust, and one with none.
#[tokio::test]
async fn a_caller_without_a_certificate_of_the_authority_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let listening = listener().await;
    let address = listening.local_addr().unwrap();
    let _origin = Origin::start(
        "o1",
        listening,
        config(&[("o1", address)]),
        Some(identity(ours.path(), "o1")),
    );
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ours.path().join(certs::AUTHORITY_CERTIFICATE)).unwrap())
        .unwrap();
    let builder = || {
        rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
    };
    let signed = |dir: &TempDir| {
        let written = certs::issue(dir.path(), &id("caller"), &[], 30, false).unwrap();
        let chain = vec![CertificateDer::from_pem_file(written.certificate).unwrap()];
        let key = rustls_pki_types::PrivateKeyDer::from_pem_file(written.key).unwrap();
        builder().with_client_auth_cert(chain, key).unwrap()
    };
    for (who, mut tls, welcome) in [
        ("no certificate", builder().with_no_client_auth(), false),
        ("another authority's", signed(&theirs), false),
        ("ours", signed(&ours), true),
    ] {
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("o1").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(tls))
            .connect(name, stream)
            .await
            .unwrap();
        // With TLS 1.3 the caller learns of the refusal when it reads. The server's settings come first otherwise.
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
        let _ = stream.write_all(preface).await;
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_u8())
            .await
            .unwrap();
        assert_eq!(read.is_ok(), welcome, "{who}: {read:?}");
    }
}

#[tokio::test]
async fn a_certificate_with_another_name_is_refused() {
    let dir = authority();
    let listening = listener().await;
    let config = config(&[("o1", listening.local_addr().unwrap())]);
    // Says that it is o1, and cannot prove it.
    let _impostor = Origin::start(
        "o1",
        listening,
        config.clone(),
        Some(identity(dir.path(), "o2")),
    );
    let (edge, _stop) = edge(config, Some(identity(dir.path(), "edge")));
    edge.ready().await;
    assert_eq!(edge.view().availability(&id("o1")), Unreachable);
}

#[tokio::test]
async fn plain_text_is_refused_where_certificates_are_asked_for() {
    let dir = authority();
    let listening = listener().await;
    let config = config(&[("o1", listening.local_addr().unwrap())]);
    let _origin = Origin::start(
        "o1",
        listening,
        config.clone(),
        Some(identity(dir.path(), "o1")),
    );
    let (plain, _stop) = edge(config, None);
    plain.ready().await;
    assert_eq!(plain.view().availability(&id("o1")), Unreachable);
}

#[tokio::test]
async fn a_reloaded_certificate_is_used_for_new_connections() {
    let (old, new) = (authority(), authority());
    let files = tempfile::tempdir().unwrap();
    let place = |dir: &TempDir, node: &str| {
        let written = certs::issue(dir.path(), &id(node), &[], 30, true).unwrap();
        for (from, to) in [
            (dir.path().join(certs::AUTHORITY_CERTIFICATE), "ca.pem"),
            (written.certificate, "node.pem"),
            (written.key, "key.pem"),
        ] {
            std::fs::copy(from, files.path().join(to)).unwrap();
        }
    };
    place(&old, "edge");
    let at = |file: &str| files.path().join(file);
    let changing = Identity::load(&at("ca.pem"), &at("node.pem"), &at("key.pem")).unwrap();
    let listening = listener().await;
    let config = config(&[("o1", listening.local_addr().unwrap())]);
    let _origin = Origin::start(
        "o1",
        listening,
        config.clone(),
        Some(identity(new.path(), "o1")),
    );
    let (edge, _stop) = edge(config, Some(changing.clone()));
    edge.ready().await;
    assert_eq!(edge.view().availability(&id("o1")), Unreachable);
    place(&new, "edge");
    changing.reload().unwrap();
    until(&edge, "o1", Available).await;
}
