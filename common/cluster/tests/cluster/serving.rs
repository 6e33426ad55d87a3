//! The server: in-process transport, node service, stop.

use std::time::{Duration, Instant};

use headwater_cluster::config::ClusterConfig;
use headwater_cluster::local;
use headwater_cluster::node_service::NodeService;
use headwater_cluster::server::{Listen, ServerError, serve};
use headwater_cluster::{Availability, Cluster, ClusterError, ConfigError, Local, Role};
use headwater_proto::v1;
use headwater_proto::v1::node_client::NodeClient;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::support::{Origin, Puppet, config, edge, id, listener};

fn standalone(shutdown: &CancellationToken) -> Cluster {
    let local = Local {
        id: id("alone"),
        role: Role::Origin,
    };
    Cluster::start(ClusterConfig::default(), local, None, shutdown.clone()).unwrap()
}

#[tokio::test]
async fn a_standalone_node_reaches_itself_through_memory() {
    let shutdown = CancellationToken::new();
    let cluster = standalone(&shutdown);
    cluster.ready().await;
    assert_eq!(
        cluster.view().availability(&id("alone")),
        Availability::Available
    );
    let (connector, incoming) = local::pair();
    cluster.register_local(id("alone"), connector);
    let service = NodeService::new(cluster.clone(), || v1::Load {
        published_streams: 3,
        readers: 5,
    });
    let listen = Listen {
        tcp: None,
        local: Some(incoming),
    };
    let (config, stop) = (cluster.config().clone(), shutdown.clone());
    let serving = tokio::spawn(async move {
        serve(
            Routes::new(service.into_server()),
            listen,
            None,
            &config,
            stop,
            Duration::from_secs(5),
        )
        .await
    });
    // Two hashes that take different connections.
    for hash in [0, 1 << 32] {
        let channel = cluster.channel(&id("alone"), hash).unwrap();
        let status = NodeClient::new(channel)
            .status(v1::StatusRequest {})
            .await
            .unwrap()
            .into_inner();
        assert_eq!(status.node, "alone");
        assert_eq!(status.incarnation, cluster.incarnation());
        assert_eq!(status.ring_version, cluster.view().ring_version());
        assert_eq!(status.state(), v1::NodeState::Serving);
        assert_eq!(
            status
                .load
                .map(|load| (load.published_streams, load.readers)),
            Some((3, 5))
        );
    }
    let channel = cluster.channel(&id("alone"), 0).unwrap();
    let drained = NodeClient::new(channel.clone())
        .drain(v1::DrainRequest {})
        .await
        .unwrap();
    assert_eq!(drained.into_inner().remaining_streams, 3);
    assert_eq!(
        cluster.view().availability(&id("alone")),
        Availability::Draining
    );
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    cluster.stopped().await;
    assert!(
        NodeClient::new(channel)
            .status(v1::StatusRequest {})
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_stop_ends_the_watches_of_others() {
    let listening = listener().await;
    let config = config(&[("o1", listening.local_addr().unwrap())]);
    let origin = Origin::start("o1", listening, config.clone(), None);
    let (edge, _stop) = edge(config, None);
    edge.ready().await;
    let start = Instant::now();
    origin.stop().await;
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "waited for the grace period: {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn calls_are_cut_after_the_grace_period() {
    let listening = listener().await;
    let config = config(&[("o1", listening.local_addr().unwrap())]);
    let puppet = Puppet::start("o1", listening);
    let (edge, _stop) = edge(config, None);
    edge.ready().await;
    let mut client = NodeClient::new(edge.channel(&id("o1"), 0).unwrap());
    puppet.hung.send_replace(true);
    let call = tokio::spawn(async move { client.status(v1::StatusRequest {}).await });
    // A puppet has no grace: dropping it cuts.
    drop(puppet);
    let outcome = tokio::time::timeout(Duration::from_secs(5), call)
        .await
        .unwrap()
        .unwrap();
    assert!(outcome.is_err());
}

#[tokio::test]
async fn plain_text_is_not_served_to_a_network() {
    let listen = |listener| Listen {
        tcp: Some(listener),
        local: None,
    };
    let stopped = CancellationToken::new();
    stopped.cancel();
    let mut config = ClusterConfig::default();
    let any = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = serve(
        Routes::default(),
        listen(any),
        None,
        &config,
        stopped.clone(),
        Duration::ZERO,
    )
    .await;
    assert!(
        matches!(
            refused,
            Err(ServerError::Config(ConfigError::PlainText { .. }))
        ),
        "{refused:?}"
    );
    config.insecure = true;
    let any = TcpListener::bind("0.0.0.0:0").await.unwrap();
    serve(
        Routes::default(),
        listen(any),
        None,
        &config,
        stopped,
        Duration::ZERO,
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_node_has_to_fit_into_its_list() {
    let list = config(&[("o1", "127.0.0.1:7400".parse().unwrap())]);
    let start = |name: &str, role| {
        let local = Local { id: id(name), role };
        Cluster::start(list.clone(), local, None, CancellationToken::new())
    };
    assert!(matches!(
        start("o2", Role::Origin),
        Err(ClusterError::Config(ConfigError::NotAMember { .. }))
    ));
    assert!(matches!(
        start("o1", Role::Edge),
        Err(ClusterError::Config(ConfigError::EdgeIsMember { .. }))
    ));
    assert!(start("o1", Role::Origin).is_ok());
    assert!(start("e1", Role::Edge).is_ok());
}
