//! The default: both roles in one process.

use std::net::TcpListener;
use std::time::Duration;

use headwater_media::synthetic::Settings;

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{Publisher, Viewer};
use crate::support::judge::assert_no_loss;
use crate::support::node::{Node, run};
use crate::support::wait::until;

/// A standalone node on free ports, and its folder.
pub(crate) fn standalone(flags: &[&str]) -> (Node, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data").display().to_string();
    let common = [
        "--rtmp",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--data",
        &data,
    ];
    let node = Node::start("standalone", common.iter().chain(flags));
    (node, folder)
}

#[test]
fn it_says_where_it_is_and_carries_a_stream() {
    let (mut node, folder) = standalone(&[]);
    let url = node.url("live/a");
    let said = node.output_text();
    assert!(
        said.contains(&format!("url {}", url.replace("/a", "/NAME"))),
        "{said}"
    );
    let viewer = Viewer::start(&url);
    let publisher = Publisher::start(&url, light());
    viewer.wait_for(60, Duration::from_secs(5));
    let sent = publisher.finish();
    viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
    assert_no_loss("the viewer", &sent, &viewer.received());
    assert!(folder.path().join("data").is_dir());
}

#[test]
fn it_tells_operators_how_it_is() {
    let (mut node, _folder) = standalone(&["--id", "alone"]);
    assert_eq!(node.get("/healthz").0, 200);
    let (status, text) = node.get("/readyz");
    assert_eq!(status, 200, "{text}");
    let (_, config) = node.get("/config");
    assert!(config.contains("listen = [\"127.0.0.1:0\"]"), "{config}");
    let (_, version) = node.get("/version");
    assert!(version.contains("alone"), "{version}");

    let publisher = Publisher::start(&node.url("live/measured"), light());
    until("the stream shows", Duration::from_secs(5), || {
        node.metric("headwater_edge_publishers") == 1.0
    });
    let (_, metrics) = node.get("/metrics");
    assert!(metrics.contains("live/_definst_/measured"), "{metrics}");
    publisher.finish();
    until("and ends", Duration::from_secs(5), || {
        node.metric("headwater_edge_publishers") == 0.0
    });
}

#[test]
fn a_bare_port_is_reached_over_both_families() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let (mut node, _folder) = standalone(&["--set", "rtmp.listen=0"]);
    let port = node.address("rtmp").port();
    let viewer = Viewer::start(&format!("rtmp://[::1]:{port}/live/both"));
    let publisher = Publisher::start(&format!("rtmp://127.0.0.1:{port}/live/both"), light());
    viewer.wait_for(30, Duration::from_secs(5));
    publisher.finish();
}

#[test]
fn instances_are_apart() {
    let (mut node, _folder) = standalone(&[]);
    let (one, two) = (node.url("live/one/a"), node.url("live/two/a"));
    let viewers = [Viewer::start(&one), Viewer::start(&two)];
    let publishers = [
        Publisher::start(&one, light()),
        Publisher::start(&two, Settings { seed: 5, ..light() }),
    ];
    for viewer in &viewers {
        viewer.wait_for(60, Duration::from_secs(5));
    }
    for (publisher, viewer) in publishers.into_iter().zip(&viewers) {
        let sent = publisher.finish();
        viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
        assert_no_loss("the viewer of an instance", &sent, &viewer.received());
    }
}

#[test]
fn the_ready_file_comes_and_goes_with_the_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ready");
    let (mut node, _data) = standalone(&["--ready-file", &file.display().to_string()]);
    let text = std::fs::read_to_string(&file).expect("the ready file");
    assert!(text.ends_with("ready\n"), "{text}");
    let listening = format!("listening rtmp {}", node.address("rtmp"));
    assert!(text.contains(&listening), "{text}");
    node.terminate();
    assert!(node.wait_exit(Duration::from_secs(10)).success());
    assert!(!file.is_file());
}

#[test]
fn it_tells_its_version() {
    let (code, said, _) = run(["version"]);
    assert_eq!(
        (code, said.trim()),
        (0, concat!("headwater ", env!("CARGO_PKG_VERSION")))
    );
}
