//! Origins found behind a DNS name. Here it is `localhost`, so that there is one at a time.

use std::time::Duration;

use headwater_media::frame::FrameKind;
use tempfile::TempDir;

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{Publisher, Viewer};
use crate::support::judge::{assert_no_loss, longest_gap};
use crate::support::node::Node;
use crate::support::ports::Port;
use crate::support::steered::{Steered, assert_decodable, frames};
use crate::support::wait::{holds_for, until};

/// The name with its port, and a folder for the data of origins.
struct Name {
    port: Port,
    folder: TempDir,
}

impl Name {
    fn new() -> Self {
        Self {
            port: Port::reserve(),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn flags(&self) -> Vec<String> {
        let port = self.port.number();
        let keys = [
            "membership=dns".to_owned(),
            format!("dns_name=localhost:{port}"),
            "dns_interval_ms=500".to_owned(),
        ];
        keys.iter()
            .flat_map(|key| ["--set".to_owned(), format!("cluster.{key}")])
            .collect()
    }

    fn origin(&self, id: &str) -> Node {
        let address = format!("127.0.0.1:{}", self.port.number());
        let data = self.folder.path().join(id).display().to_string();
        let advertise = format!("cluster.advertise={address}");
        let own = [
            "origin", "--id", id, "--rpc", &address, "--data", &data, "--set", &advertise,
        ];
        self.spawn(id, &own)
    }

    fn edge(&self, id: &str) -> Node {
        self.spawn(id, &["edge", "--id", id, "--rtmp", "127.0.0.1:0"])
    }

    fn spawn(&self, id: &str, own: &[&str]) -> Node {
        let common = ["--admin", "127.0.0.1:0", "--log", "info,headwater=debug"];
        let mut arguments: Vec<String> = own
            .iter()
            .chain(&common)
            .map(|&part| part.to_owned())
            .collect();
        arguments.extend(self.flags());
        Node::spawn(id, arguments)
    }
}

#[test]
fn an_edge_finds_the_origin_behind_a_name() {
    let name = Name::new();
    let mut edge = name.edge("e1");
    edge.address("admin");
    holds_for("there is no origin yet", Duration::from_millis(500), || {
        edge.get("/readyz").0 == 503
    });
    let mut origin = name.origin("o1");
    origin.wait_ready();
    edge.wait_ready();
    let (_, text) = edge.get("/readyz");
    assert!(text.contains("1 of 1 origins"), "{text}");

    let url = edge.url("live/show");
    let viewer = Viewer::start(&url);
    let publisher = Publisher::start(&url, light());
    viewer.wait_for(60, Duration::from_secs(5));
    let sent = publisher.finish();
    viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
    assert_no_loss("the viewer", &sent, &viewer.received());
}

#[test]
fn a_stream_goes_on_when_the_origin_is_replaced() {
    let name = Name::new();
    let mut origin = name.origin("o1");
    origin.wait_ready();
    let mut edges = ["e1", "e2"].map(|id| name.edge(id));
    for edge in &mut edges {
        edge.wait_ready();
    }
    let viewer = Viewer::start(&edges[1].url("live/show"));
    let publisher = Publisher::start(&edges[0].url("live/show"), light());
    viewer.wait_for(60, Duration::from_secs(5));

    // First by itself, then by another one at the same address.
    origin.kill();
    origin.restart();
    viewer.wait_for(viewer.count() + 120, Duration::from_secs(15));
    println!(
        "longest pause {:?}",
        longest_gap(&viewer.received(), Duration::ZERO)
    );
    origin.kill();
    let mut other = name.origin("o2");
    other.wait_ready();
    viewer.wait_for(viewer.count() + 120, Duration::from_secs(15));
    println!(
        "longest pause {:?}",
        longest_gap(&viewer.received(), Duration::ZERO)
    );
    for edge in &mut edges {
        until(
            "the edge knows the other one only",
            Duration::from_secs(10),
            || edge.get("/readyz").1.contains("1 of 1 origins"),
        );
    }
    assert_eq!(other.metric("headwater_origin_publishers"), 1.0);
    let (mut late, stream) = Steered::play_live(&edges[1].url("live/show"));
    late.wait_frames(0, stream, FrameKind::Video, 20);
    assert_decodable(
        "a late viewer",
        &frames(late.came(), stream, FrameKind::Video),
    );

    assert!(!viewer.has_status("NetStream.Play.UnpublishNotify"));
    let sent = publisher.finish();
    viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
    assert_no_loss("the viewer", &sent, &viewer.received());
}
