//! SIGTERM: nothing new, an orderly end for what runs, and exit code 0.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::a_cluster_carries_live_streams::light;
use crate::standalone::standalone;
use crate::support::client::{Publisher, Viewer};
use crate::support::cluster::{Cluster, Plan};
use crate::support::judge::assert_no_loss;
use crate::support::wait::until;

#[test]
fn a_node_without_clients_ends_at_once() {
    let (mut node, _folder) = standalone(&[]);
    let asked = Instant::now();
    node.terminate();
    assert!(node.wait_exit(Duration::from_secs(5)).success());
    println!("ended after {:?}", asked.elapsed());
}

#[test]
fn a_draining_edge_turns_newcomers_away_and_asks_clients_to_reconnect() {
    let (mut node, _folder) = standalone(&["--set", "shutdown.grace_ms=4000"]);
    let url = node.url("live/a");
    let viewer = Viewer::start(&url);
    let publisher = Publisher::start(&url, light());
    viewer.wait_for(30, Duration::from_secs(5));
    let address = node.address("rtmp");
    let asked = Instant::now();
    node.terminate();
    until("it is not ready", Duration::from_secs(2), || {
        node.get("/readyz").0 == 503
    });
    assert_eq!(node.get("/healthz").0, 200);
    until("it takes no connections", Duration::from_secs(2), || {
        TcpStream::connect(address).is_err()
    });
    let seen = viewer.count();
    viewer.wait_for(seen + 15, Duration::from_secs(2));
    let status = node.wait_exit(Duration::from_secs(10));
    assert!(status.success(), "{status}");
    let took = asked.elapsed();
    assert!(
        took < Duration::from_secs(7),
        "the grace period is 4 s, it took {took:?}"
    );
    until("the viewer hears of it", Duration::from_secs(2), || {
        viewer.ended().is_some()
    });
    until("the publisher hears of it", Duration::from_secs(2), || {
        publisher.ended().is_some()
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (mut node, _folder) = standalone(&[]);
    let viewer = Viewer::start(&node.url("live/nothing"));
    node.terminate();
    until("it drains", Duration::from_secs(2), || {
        node.get("/readyz").0 == 503
    });
    assert!(node.is_running());
    viewer.assert_connected();
    let asked = Instant::now();
    node.terminate();
    assert!(node.wait_exit(Duration::from_secs(5)).success());
    println!("ended after {:?}", asked.elapsed());
}

#[test]
fn a_draining_origin_hands_its_streams_over_without_loss() {
    let mut cluster = Cluster::with(&Plan {
        origins: 2,
        edges: 2,
        flags: vec!["--set".to_owned(), "shutdown.grace_ms=8000".to_owned()],
        ..Plan::default()
    });
    let names = cluster.names(4);
    let shows: Vec<_> = names
        .iter()
        .map(|name| {
            let viewer = Viewer::start(&cluster.url(1, name));
            (Publisher::start(&cluster.url(0, name), light()), viewer)
        })
        .collect();
    for (_, viewer) in &shows {
        viewer.wait_for(60, Duration::from_secs(10));
    }
    let asked = Instant::now();
    cluster.origins[0].terminate();
    let status = cluster.origins[0].wait_exit(Duration::from_secs(15));
    assert!(status.success(), "{status}");
    let took = asked.elapsed();
    println!("handed over in {took:?}");
    assert!(
        took < Duration::from_secs(5),
        "well within the grace period: {took:?}"
    );
    for (publisher, viewer) in shows {
        let seen = viewer.count();
        viewer.wait_for(seen + 60, Duration::from_secs(10));
        let sent = publisher.finish();
        viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
        assert_no_loss("a viewer", &sent, &viewer.received());
    }
}
