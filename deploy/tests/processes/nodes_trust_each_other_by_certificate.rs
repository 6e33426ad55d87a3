//! With certificates, only who has one of the cluster's authority takes part.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{Publisher, Viewer};
use crate::support::cluster::{Cluster, Plan};
use crate::support::judge::assert_no_loss;
use crate::support::node::{Node, run};
use crate::support::wait::{holds_for, patience, until};

const NAME: &str = "show";

/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// First byte of a TLS alert.
const ALERT: u8 = 21;

fn encrypted() -> Cluster {
    Cluster::with(&Plan {
        origins: 2,
        edges: 2,
        tls: true,
        ..Plan::default()
    })
}

/// Makes another authority, and a certificate of it for an edge.
fn make_others(folder: &Path, edge: &str) {
    let folder = folder.display().to_string();
    for command in [
        &["certs", "init", "--dir", &folder][..],
        &["certs", "node", edge, "--dir", &folder],
    ] {
        let (code, _, log) = run(command);
        assert_eq!(code, 0, "{log}");
    }
}

/// Starts an edge with the certificates in a folder, and waits until it has an admin listener.
fn stranger(cluster: &Cluster, certs: &Path) -> Node {
    let certs = certs.display().to_string();
    let members = cluster.members();
    let mut edge = Node::spawn(
        "e9",
        [
            "edge",
            "--id",
            "e9",
            "--rtmp",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--cluster",
            &members,
            "--certs",
            &certs,
        ],
    );
    edge.address("admin");
    edge
}

/// Waits until a node has logged a line with all these words.
fn wait_logged(node: &Node, words: &[&str]) {
    until(
        &format!("a log line with {words:?}"),
        Duration::from_secs(10),
        || {
            node.log_text()
                .lines()
                .any(|line| words.iter().all(|word| line.contains(word)))
        },
    );
}

/// Fails unless an edge finds no origin for a while, nor does anybody miss it.
fn assert_left_out(edge: &mut Node, cluster: &mut Cluster) {
    holds_for("the stranger is not ready", Duration::from_secs(2), || {
        let (status, text) = edge.get("/readyz");
        assert!(text.contains("0 of 2 origins"), "{text}");
        status == 503
    });
    assert_eq!(edge.get("/healthz").0, 200, "it runs, and goes on trying");
    for node in &mut cluster.edges {
        assert_eq!(node.get("/readyz").0, 200);
    }
}

#[test]
fn a_cluster_with_certificates_carries_a_stream() {
    let mut cluster = encrypted();
    let viewers = [0, 1].map(|edge| Viewer::start(&cluster.url(edge, NAME)));
    let publisher = Publisher::start(&cluster.url(0, NAME), light());
    for viewer in &viewers {
        viewer.wait_for(60, Duration::from_secs(10));
    }
    let sent = publisher.finish();
    for viewer in &viewers {
        viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
        assert_no_loss("a viewer", &sent, &viewer.received());
    }
}

#[test]
fn nobody_is_heard_in_plain_text() {
    let mut cluster = encrypted();
    let address = cluster.origins[0].address("rpc");
    let answer = say(address, PREFACE);
    assert!(
        answer.first().is_none_or(|first| *first == ALERT),
        "no HTTP/2 is spoken here: {answer:?}"
    );
    wait_logged(&cluster.origins[0], &["WARN", "TLS handshake", "failed"]);

    // Neither is a whole edge.
    let members = cluster.members();
    let arguments = [
        "edge",
        "--id",
        "e9",
        "--rtmp",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--cluster",
        &members,
    ];
    let mut edge = Node::spawn("e9", arguments);
    edge.address("admin");
    wait_logged(&edge, &["WARN", "peer unreachable", "node=o1"]);
    assert_left_out(&mut edge, &mut cluster);
}

#[test]
fn a_node_of_another_authority_trusts_nobody_here() {
    let mut cluster = encrypted();
    let others = cluster.folder().join("others");
    make_others(&others, "e9");
    let mut edge = stranger(&cluster, &others);
    wait_logged(
        &edge,
        &[
            "WARN",
            "peer unreachable",
            "node=o1",
            "certificate",
            "UnknownIssuer",
        ],
    );
    wait_logged(&cluster.origins[0], &["WARN", "TLS handshake", "failed"]);
    assert_left_out(&mut edge, &mut cluster);
}

#[test]
fn a_node_of_another_authority_is_not_trusted() {
    let mut cluster = encrypted();
    let others = cluster.folder().join("others");
    make_others(&others, "e9");
    // It knows the authority of the cluster, too, and so would talk to the origins.
    let known =
        std::fs::read_to_string(cluster.folder().join("certs/ca.pem")).expect("the authority");
    let own = std::fs::read_to_string(others.join("ca.pem")).expect("the other one");
    std::fs::write(others.join("ca.pem"), own + &known).expect("both");
    let mut edge = stranger(&cluster, &others);
    for origin in &cluster.origins {
        wait_logged(
            origin,
            &["WARN", "TLS handshake", "failed", "UnknownIssuer"],
        );
    }
    wait_logged(&edge, &["WARN", "peer unreachable", "node=o1"]);
    assert_left_out(&mut edge, &mut cluster);
}

#[test]
fn plain_text_on_a_network_needs_a_word() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().display().to_string();
    let arguments = [
        "origin",
        "--id",
        "o1",
        "--rpc",
        "0.0.0.0:0",
        "--admin",
        "127.0.0.1:0",
        "--data",
        &data,
    ];
    let (code, _, log) = run(arguments);
    assert_eq!(code, 64, "{log}");
    let text = log.lines().last().unwrap_or_default();
    for word in [
        "0.0.0.0",
        "plain text",
        "cluster.tls",
        "cluster.insecure = true",
    ] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    let given = ["--set", "cluster.insecure=true"];
    let mut node = Node::start("o1", arguments.iter().chain(&given));
    assert!(node.address("rpc").ip().is_unspecified());
}

/// Says something to a listener, and gives what it answers until it closes the connection or a while has passed.
fn say(address: SocketAddr, words: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .set_read_timeout(Some(patience(Duration::from_secs(2))))
        .expect("a limit");
    stream.write_all(words).expect("it takes them");
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    // An error is a reset, or the end of our patience.
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..count]);
    }
    answer
}
