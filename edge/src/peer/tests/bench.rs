//! Origins and edges in one process: in-process calls between them, real sockets for clients.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use headwater_cluster::server::{Listen, serve};
use headwater_cluster::{Availability, Cluster, ClusterConfig, Local, NodeId, Role, local};
use headwater_node::metrics::Metrics;
use headwater_node::readiness::Readiness;
use headwater_node::shutdown::Shutdown;
use headwater_origin::{Origin, OriginSection};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::{Client, pump};
use crate::config::EdgeConfig;
use crate::{Edge, EdgeNode};
use headwater_application::ApplicationSection;

/// Longer than anything that a test waits for: an origin that dies is noticed within two seconds, and initiators repeat themselves after
/// one, 2.5, 4 and 5.5 seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

struct OneOrigin {
    stop: CancellationToken,
    metrics: Metrics,
    _data: tempfile::TempDir,
}

struct OneEdge {
    address: SocketAddr,
    metrics: Metrics,
    shutdown: Shutdown,
}

pub(super) struct Bench {
    origins: BTreeMap<&'static str, OneOrigin>,
    edges: Vec<OneEdge>,
    _stop: DropGuard,
}

impl Bench {
    pub(super) async fn start(ids: &[&'static str], edges: usize) -> Self {
        let stop = CancellationToken::new();
        let config = ClusterConfig {
            // Nothing listens there: nodes meet in memory or not at all.
            members: ids.iter().map(|id| format!("{id}=127.0.0.1:1")).collect(),
            ..ClusterConfig::default()
        };
        let cluster = |id: &str, role, stop| {
            let id = NodeId::new(id).unwrap();
            Cluster::start(config.clone(), Local { id, role }, None, stop).unwrap()
        };
        let (mut origins, mut clusters) = (BTreeMap::new(), BTreeMap::new());
        let mut connectors = Vec::new();
        for id in ids {
            let stop = stop.child_token();
            let metrics = Metrics::new(id, "origin");
            let data = tempfile::tempdir().unwrap();
            let section = OriginSection {
                data_dir: data.path().to_owned(),
                ..OriginSection::default()
            };
            let cluster = cluster(id, Role::Origin, stop.clone());
            let origin = Origin::new(&section, cluster.clone(), &metrics, stop.clone());
            let origin = origin.await.unwrap();
            let (connector, incoming) = local::pair();
            connectors.push((NodeId::new(id).unwrap(), connector));
            clusters.insert(*id, cluster);
            let listen = Listen {
                tcp: None,
                local: Some(incoming),
            };
            let (config, serving) = (config.clone(), stop.clone());
            tokio::spawn(async move {
                let routes = origin.routes();
                let _ = serve(routes, listen, None, &config, serving, Duration::ZERO).await;
            });
            let one = OneOrigin {
                stop,
                metrics,
                _data: data,
            };
            origins.insert(*id, one);
        }
        let mut all = Vec::new();
        for number in 0..edges {
            let id = format!("edge-{number}");
            let shutdown = Shutdown::new(Duration::from_secs(1));
            let cluster = cluster(&id, Role::Edge, shutdown.stopping());
            clusters.insert(["edge-0", "edge-1", "edge-2"][number], cluster.clone());
            let metrics = Metrics::new(&id, "edge");
            let node = EdgeNode {
                id,
                cluster,
                metrics: metrics.clone(),
                readiness: Readiness::new(),
                shutdown: shutdown.clone(),
            };
            let mut config = EdgeConfig::default();
            config.rtmp.listen = Vec::new();
            config.rtmfp.listen = vec!["127.0.0.1:0".parse().unwrap()];
            config.edge.fanout.workers = 2;
            let apart = ApplicationSection {
                peers: false,
                ..ApplicationSection::default()
            };
            config.applications.insert("apart".to_owned(), apart);
            let edge = Edge::start(config, node).unwrap();
            all.push(OneEdge {
                address: edge.listening()[0].address,
                metrics,
                shutdown,
            });
        }
        for (id, cluster) in &clusters {
            for (origin, connector) in &connectors {
                if origin.as_str() != *id {
                    cluster.register_local(origin.clone(), connector.clone());
                }
            }
        }
        let met = async {
            for cluster in clusters.values() {
                let mut changes = cluster.changes();
                let all = || {
                    let view = cluster.view();
                    let mut origins = connectors.iter();
                    origins.all(|(id, _)| view.availability(id) == Availability::Available)
                };
                while !all() {
                    changes.changed().await.unwrap();
                }
            }
        };
        tokio::time::timeout(PATIENCE, met)
            .await
            .expect("the nodes do not meet");
        Self {
            origins,
            edges: all,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) fn address(&self, edge: usize) -> SocketAddr {
        self.edges[edge].address
    }

    /// A client of each of these edges, that has said where it is.
    pub(super) async fn clients(&self, edges: &[usize]) -> Vec<Client> {
        let known = self.origin_metric("peers_registered");
        let mut clients: Vec<Client> = edges
            .iter()
            .map(|edge| {
                let mut client = Client::new(self.address(*edge));
                client.connect();
                client
            })
            .collect();
        until("connections", &mut clients, |all| {
            all.iter().all(Client::is_connected)
        })
        .await;
        for client in &mut clients {
            client.say_where();
        }
        let all = known + edges.len() as f64;
        until("registrations", &mut clients, |_| {
            self.origin_metric("peers_registered") == all
        })
        .await;
        clients
    }

    /// As SIGKILL: its calls are cut.
    pub(super) fn kill(&mut self, id: &str) {
        if let Some(origin) = self.origins.remove(id) {
            origin.stop.cancel();
        }
    }

    /// The same.
    pub(super) fn kill_edge(&self, edge: usize) {
        self.edges[edge].shutdown.stop_now("the test wants it");
    }

    /// Of an edge.
    pub(super) fn metric(&self, edge: usize, metric: &str) -> f64 {
        sample(
            &self.edges[edge].metrics,
            &format!("headwater_edge_{metric}{{"),
        )
        .unwrap_or(0.0)
    }

    pub(super) fn introductions(&self, edge: usize, outcome: &str) -> u64 {
        let text = self.edges[edge].metrics.encode();
        let outcome = format!("outcome=\"{outcome}\"");
        let mut lines = text.lines();
        let line = lines.find(|line| {
            line.starts_with("headwater_edge_peer_introductions_total{") && line.contains(&outcome)
        });
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// The sum over the origins that live.
    pub(super) fn origin_metric(&self, metric: &str) -> f64 {
        let name = format!("headwater_{metric}{{");
        let origins = self.origins.values();
        origins
            .map(|origin| sample(&origin.metrics, &name).unwrap())
            .sum()
    }

    pub(super) async fn stop(&mut self) {
        for edge in &self.edges {
            edge.shutdown.stop_now("the test is over");
        }
        for edge in &self.edges {
            let drained = tokio::time::timeout(PATIENCE, edge.shutdown.drain()).await;
            drained.expect("an edge does not end");
        }
    }
}

fn sample(metrics: &Metrics, start: &str) -> Option<f64> {
    let text = metrics.encode();
    let line = text.lines().find(|line| line.starts_with(start))?;
    Some(line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Lets clients go on until it has come to that.
pub(super) async fn until(
    what: &str,
    clients: &mut [Client],
    mut check: impl FnMut(&mut [Client]) -> bool,
) {
    let come = async {
        while !check(clients) {
            pump(clients).await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, come).await;
    assert!(came.is_ok(), "it did not come to {what}");
}
