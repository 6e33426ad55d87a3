//! Wrong flags, configuration, addresses, folders and certificates: an exit code, and a message that says what to change.

use std::net::TcpListener;
use std::time::Duration;

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{ClientError, Connection, Publisher, Viewer};
use crate::support::judge::assert_no_loss;
use crate::support::node::{Node, headwater, run};
use crate::support::ports::Port;
use crate::support::wait::runtime;

/// Runs a command that must fail with a code and with words in its message.
fn assert_fails(arguments: &[&str], code: i32, words: &[&str]) {
    let (found, said, log) = run(arguments);
    assert_eq!(found, code, "{arguments:?}\n{said}\n{log}");
    for word in words {
        assert!(
            log.contains(word),
            "{arguments:?}: {word:?} is not in\n{log}"
        );
    }
    assert!(!said.contains("ready"), "{said}");
}

#[test]
fn wrong_flags_and_values() {
    for (arguments, words) in [
        (&["edge", "--nosuch"][..], &["--nosuch"][..]),
        (&["edge"], &["node.id", "--id e1"]),
        (&["--set", "rtmp.chunk_bytes"], &["KEY=VALUE"]),
        (
            &["--set", "rtmp.chunk_byte=1"],
            &[
                "unknown key `rtmp.chunk_byte`",
                "did you mean `rtmp.chunk_bytes`",
            ],
        ),
        (
            &["--set", "rtmp.chunk_bytes=0"],
            &["`rtmp.chunk_bytes` is 0", "128"],
        ),
        (
            &["--rtmp", "nonsense:port"],
            &["rtmp.listen", "nonsense:port"],
        ),
        (&["--log", "info,,=x"], &["log.filter"]),
        (
            &["--rtmps", "127.0.0.1:0"],
            &["rtmps.listen", "certificate"],
        ),
        (
            &["origin", "--id", "o3", "--cluster", "o1=127.0.0.1:1"],
            &["o3", "cluster.members"],
        ),
        (
            &["edge", "--id", "o1", "--cluster", "o1=127.0.0.1:1"],
            &["o1", "cluster.members"],
        ),
        (
            &["edge", "--id", "e1", "--cluster", "o1=192.0.2.1:1"],
            &["192.0.2.1", "cluster.tls"],
        ),
        (
            &["origin", "--id", "o1", "--rpc", "0.0.0.0:0"],
            &["0.0.0.0", "cluster.tls"],
        ),
        (
            &["--set", "origin.storage.url=ftp://server/media"],
            &["`origin.storage.url`", "s3://"],
        ),
        (
            &[
                "--set",
                "origin.storage.url=s3://bucket",
                "--set",
                "origin.storage.access_key=me",
            ],
            &["`origin.storage.secret_key`"],
        ),
        (
            &["--set", "virtual_hosts.tv.alias=tv.example"],
            &["unknown key `virtual_hosts.tv.alias`"],
        ),
        (
            &["--set", "virtual_hosts.tv.aliases=tv.*.example"],
            &["`virtual_hosts.tv.aliases`", "tv.*.example"],
        ),
        (
            &["--set", "applications.chat.handler.address=http://[::1]:7"],
            &[
                "`applications.chat.handler.address`",
                "`applications/chat/app.toml`",
            ],
        ),
    ] {
        assert_fails(arguments, 64, words);
    }
}

#[test]
fn a_configuration_file_with_an_unknown_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("edge.toml");
    std::fs::write(&file, "[node]\nid = \"e1\"\n\n[rtmp]\nlistn = [\"0\"]\n").expect("a file");
    let file = file.display().to_string();
    let words = [
        "edge.toml:5:1",
        "`rtmp.listn`",
        "did you mean `rtmp.listen`",
    ];
    assert_fails(&["edge", "--config", &file], 64, &words);
    let check = ["config", "--role", "edge", "--check", "--config", &file];
    assert_fails(&check, 64, &words);
    assert_fails(&["edge", "--config", "/nosuch.toml"], 64, &["/nosuch.toml"]);
}

#[test]
fn virtual_hosts_are_taken_from_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("edge.toml");
    let hosts = "[virtual_hosts.tv]\naliases = [\"tv.example\", \"*.tv.example\"]\n[virtual_hosts.\"radio.example\"]\n";
    std::fs::write(&file, format!("[node]\nid = \"e1\"\n{hosts}")).expect("a file");
    let file = file.display().to_string();
    let (code, said, log) = run(["config", "--role", "edge", "--config", &file]);
    assert_eq!(code, 0, "{log}");
    for line in [
        "[virtual_hosts.tv]",
        "aliases = [\"tv.example\", \"*.tv.example\"]",
        "[virtual_hosts.\"radio.example\"]",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
}

#[test]
fn an_environment_variable_that_is_no_key() {
    let outcome = headwater()
        .args(["config", "--check"])
        .env("HEADWATER_RTMP_LISTN", "0")
        .output()
        .expect("the program runs");
    let log = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert_eq!(outcome.status.code(), Some(64), "{log}");
    assert!(
        log.contains("did you mean `HEADWATER_RTMP_LISTEN`"),
        "{log}"
    );
    let outcome = headwater()
        .args(["config", "--role", "edge"])
        .env("HEADWATER_RTMP_LISTEN", "127.0.0.1:7,[::1]:8")
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let expected = "listen = [\"127.0.0.1:7\", \"[::1]:8\"]";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_printed_configuration_is_one_to_start_from() {
    let folder = tempfile::tempdir().expect("a folder");
    for role in ["standalone", "origin", "edge"] {
        let (code, text, log) = run(["config", "--role", role]);
        assert_eq!(code, 0, "{log}");
        let file = folder.path().join(format!("{role}.toml"));
        std::fs::write(&file, &text).expect("a file");
        let file = file.display().to_string();
        let check = [
            "config", "--role", role, "--config", &file, "--id", "n1", "--check",
        ];
        let (code, said, log) = run(check);
        assert_eq!(
            (code, said.trim()),
            (0, "the configuration is valid"),
            "{log}"
        );
    }
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its number").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().display().to_string();
    for (key, arguments) in [
        (
            "rtmp.listen",
            [
                "--data",
                &data,
                "--rtmp",
                &address,
                "--admin",
                "127.0.0.1:0",
            ],
        ),
        (
            "admin.listen",
            [
                "--data",
                &data,
                "--rtmp",
                "127.0.0.1:0",
                "--admin",
                &address,
            ],
        ),
    ] {
        assert_fails(&arguments, 69, &[key, &address, "in use"]);
    }
    let origin = [
        "origin",
        "--id",
        "o1",
        "--data",
        &data,
        "--admin",
        "127.0.0.1:0",
        "--rpc",
        &address,
    ];
    assert_fails(&origin, 69, &["rpc.listen", &address, "in use"]);
}

#[test]
fn a_data_folder_that_cannot_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("a file");
    // Also for root: one is no folder, the kernel takes no files in the other.
    for data in [file.display().to_string(), "/proc/self".to_owned()] {
        let arguments = [
            "--data",
            &data,
            "--rtmp",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ];
        assert_fails(&arguments, 73, &["origin.data_dir", &data]);
    }
}

#[test]
fn a_journal_that_cannot_be_used() {
    for part in ["frames", "unfinished"] {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = folder.path().join("journal");
        std::fs::create_dir(&journal).expect("a folder");
        std::fs::write(journal.join(part), "").expect("a file");
        let data = folder.path().display().to_string();
        let arguments = [
            "--data",
            &data,
            "--rtmp",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ];
        assert_fails(&arguments, 73, &["origin.data_dir", "journal"]);
    }
}

#[test]
fn certificates_that_do_not_match() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (certs, others) = (path("certs"), path("others"));
    for command in [
        &["certs", "init", "--dir", &certs][..],
        &["certs", "node", "o1", "--dir", &certs],
        &["certs", "node", "o2", "--dir", &certs],
        &["certs", "init", "--dir", &others],
        &["certs", "node", "o1", "--dir", &others],
    ] {
        let (code, said, log) = run(command);
        assert_eq!(code, 0, "{log}");
        assert!(said.contains("wrote"), "{said}");
    }
    // Nothing is replaced by accident.
    assert_fails(
        &["certs", "init", "--dir", &certs],
        64,
        &["ca.pem", "exists"],
    );

    let tls = |ca: &str, certificate: &str, key: &str| {
        [("ca", ca), ("certificate", certificate), ("key", key)]
            .into_iter()
            .flat_map(|(name, file)| ["--set".to_owned(), format!("cluster.tls.{name}={file}")])
            .collect::<Vec<_>>()
    };
    let file = |name: &str| format!("{certs}/{name}");
    for (id, files, words) in [
        (
            "o1",
            tls(&file("ca.pem"), &file("o1.pem"), &file("o2-key.pem")),
            &["o2-key.pem", "is not the private key of"][..],
        ),
        (
            "o1",
            tls(
                &format!("{others}/ca.pem"),
                &file("o1.pem"),
                &file("o1-key.pem"),
            ),
            &["is not signed by the authority"],
        ),
        (
            "o1",
            tls(&file("ca.pem"), &file("o2.pem"), &file("o2-key.pem")),
            &["this node is o1", "o2"],
        ),
        (
            "o1",
            tls(&file("nosuch.pem"), &file("o1.pem"), &file("o1-key.pem")),
            &["nosuch.pem"],
        ),
    ] {
        let mut arguments = vec!["origin", "--id", id, "--rpc", "127.0.0.1:0"];
        arguments.extend(files.iter().map(String::as_str));
        assert_fails(&arguments, 64, words);
    }
    let (certificate, key) = (file("o1.pem"), file("o2-key.pem"));
    let rtmps = [
        "--rtmps",
        "127.0.0.1:0",
        "--rtmps-certificate",
        &certificate,
        "--rtmps-key",
        &key,
    ];
    assert_fails(&rtmps, 64, &["rtmps.tls", "o2-key.pem", "does not belong"]);
}

#[test]
fn an_edge_without_living_origins_waits_for_them() {
    let port = Port::reserve();
    let members = format!("o1=127.0.0.1:{}", port.number());
    let common = ["--admin", "127.0.0.1:0", "--cluster", &members];
    let edge = ["edge", "--id", "e1", "--rtmp", "127.0.0.1:0"];
    let mut edge = Node::spawn("e1", edge.iter().chain(&common));
    let url = edge.url("live/a");
    let (status, text) = edge.get("/readyz");
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("0 of 1 origins"), "{text}");
    assert_eq!(edge.get("/healthz").0, 200);
    let refused = runtime().block_on(Connection::open(&url));
    let Err(ClientError::Rejected(status)) = refused else {
        panic!("refused was expected: {refused:?}");
    };
    assert_eq!(status.code, "NetConnection.Proxy.NotResponding");

    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().display().to_string();
    let origin = ["origin", "--id", "o1", "--data", &data];
    let _origin = Node::start("o1", origin.iter().chain(&common));
    edge.wait_ready();
    let viewer = Viewer::start(&url);
    let publisher = Publisher::start(&url, light());
    viewer.wait_for(30, Duration::from_secs(5));
    let sent = publisher.finish();
    viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
    assert_no_loss("the viewer", &sent, &viewer.received());
}
