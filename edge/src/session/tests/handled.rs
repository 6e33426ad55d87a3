//! Clients, an edge, real origins and a handler program, in one process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use headwater_amf::Value;
use headwater_cluster::server::{Listen, serve};
use headwater_cluster::{Cluster, ClusterConfig, Local, NodeId, Role, local};
use headwater_media::name::{DEFAULT_VHOST, InstanceName};
use headwater_node::address::ListenAddress;
use headwater_node::metrics::Metrics;
use headwater_node::readiness::Readiness;
use headwater_node::shutdown::Shutdown;
use headwater_origin::{Origin, OriginSection};
use headwater_proto::v1;
use headwater_proto::v1::handler_request::Request as Ask;
use headwater_proto::v1::handler_response::Response as Say;
use headwater_proto::v1::handler_server::{Handler, HandlerServer};
use headwater_rtmp::client::ClientEvent;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming};

use super::bench::{Client, PATIENCE, newcomer};
use crate::config::EdgeConfig;
use crate::edge::{Edge, EdgeNode};

/// A program that lets in whoever does not say `no`, answers `echo`, and passes `shout` on to all.
#[derive(Clone)]
struct Chat;

fn text(text: &str) -> v1::Value {
    v1::Value {
        value: Some(v1::value::Value::String(text.to_owned())),
    }
}

fn decide(ask: Ask) -> Vec<Say> {
    match ask {
        Ask::Started(_) => vec![Say::Hello(v1::HandlerHello {
            connect: true,
            call: true,
            ends: true,
            ..v1::HandlerHello::default()
        })],
        Ask::Connect(connecting) => vec![Say::Connect(v1::ConnectReply {
            client: connecting.client.unwrap_or_default().id,
            accept: connecting.arguments.first() != Some(&text("no")),
            description: "you said so".to_owned(),
            ..v1::ConnectReply::default()
        })],
        Ask::Call(call) => {
            let value = call.arguments.first().cloned();
            let mut said = Vec::new();
            if call.name == "shout" {
                said.push(Say::CallClient(v1::CallClient {
                    name: "heard".to_owned(),
                    arguments: call.arguments,
                    ..v1::CallClient::default()
                }));
            }
            // `slow` is never answered.
            if call.call != 0 && call.name != "slow" {
                said.push(Say::Call(v1::CallReply {
                    call: call.call,
                    failed: call.name == "fail",
                    value,
                    ..v1::CallReply::default()
                }));
            }
            said
        }
        _ => Vec::new(),
    }
}

#[tonic::async_trait]
impl Handler for Chat {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<v1::HandlerResponse, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::HandlerRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut requests = request.into_inner();
        let (answers, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                for said in request.request.map(decide).unwrap_or_default() {
                    let response = Some(said);
                    let _ = answers.send(Ok(v1::HandlerResponse { response })).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

struct Bench {
    /// Cancelled to kill an origin.
    origins: BTreeMap<&'static str, CancellationToken>,
    edge: SocketAddr,
    cluster: Cluster,
    metrics: Metrics,
    shutdown: Shutdown,
    _folders: Vec<tempfile::TempDir>,
    _stop: DropGuard,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.shutdown.stop_now("the test is over");
    }
}

impl Bench {
    async fn start() -> Self {
        let stop = CancellationToken::new();
        let handler = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = handler.local_addr().unwrap();
        let program = tonic::transport::Server::builder()
            .add_service(HandlerServer::new(Chat))
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(handler),
                stop.clone().cancelled_owned(),
            );
        tokio::spawn(program);
        let ids = ["a", "b"];
        let config = ClusterConfig {
            // Nothing listens there: nodes meet in memory or not at all.
            members: ids.iter().map(|id| format!("{id}=127.0.0.1:1")).collect(),
            ..ClusterConfig::default()
        };
        let cluster = |id: &str, role, stop| {
            let id = NodeId::new(id).unwrap();
            Cluster::start(config.clone(), Local { id, role }, None, stop).unwrap()
        };
        let mut clusters = vec![("edge", cluster("edge", Role::Edge, stop.child_token()))];
        let (mut origins, mut connectors) = (BTreeMap::new(), Vec::new());
        let mut folders = Vec::new();
        for id in ids {
            let stop = stop.child_token();
            let data = tempfile::tempdir().unwrap();
            let application = data.path().join("applications/chat");
            std::fs::create_dir_all(&application).unwrap();
            let toml = format!("[handler]\naddress = \"http://{address}\"\n");
            std::fs::write(application.join("app.toml"), toml).unwrap();
            let section = OriginSection {
                data_dir: data.path().to_owned(),
                ..OriginSection::default()
            };
            let cluster = cluster(id, Role::Origin, stop.clone());
            let metrics = Metrics::new(id, "origin");
            let origin = Origin::new(&section, cluster.clone(), &metrics, stop.clone());
            let origin = origin.await.unwrap();
            let (connector, incoming) = local::pair();
            connectors.push((NodeId::new(id).unwrap(), connector));
            clusters.push((id, cluster));
            let listen = Listen {
                tcp: None,
                local: Some(incoming),
            };
            let (config, serving) = (config.clone(), stop.clone());
            tokio::spawn(async move {
                let routes = origin.routes();
                let _ = serve(routes, listen, None, &config, serving, Duration::ZERO).await;
            });
            origins.insert(id, stop);
            folders.push(data);
        }
        for (id, cluster) in &clusters {
            for (origin, connector) in &connectors {
                if origin.as_str() != *id {
                    cluster.register_local(origin.clone(), connector.clone());
                }
            }
        }
        let cluster = clusters.swap_remove(0).1;
        tokio::time::timeout(PATIENCE, cluster.ready())
            .await
            .unwrap();
        let metrics = Metrics::new("edge", "edge");
        let shutdown = Shutdown::new(Duration::from_millis(10));
        let mut config = EdgeConfig::default();
        config.rtmp.listen = vec![ListenAddress::Socket(([127, 0, 0, 1], 0).into())];
        config.edge.fanout.workers = 2;
        let node = EdgeNode {
            id: "edge".to_owned(),
            cluster: cluster.clone(),
            metrics: metrics.clone(),
            readiness: Readiness::new(),
            shutdown: shutdown.clone(),
        };
        let edge = Edge::start(config, node).unwrap();
        Self {
            origins,
            edge: edge.listening()[0].address,
            cluster,
            metrics,
            shutdown,
            _folders: folders,
            _stop: stop.drop_guard(),
        }
    }

    async fn client(&self) -> Client {
        let mut client = newcomer(self.edge, "chat", |_| {}).await;
        client
            .wait(|event| matches!(event, ClientEvent::Connected { .. }))
            .await;
        client
    }

    /// Kills the owner of the instance.
    fn kill_owner(&self) {
        let name = InstanceName::new(DEFAULT_VHOST, "chat", "x").unwrap();
        let owner = &self.cluster.view().candidates(&name.key())[0];
        self.origins[owner.id.as_str()].cancel();
    }

    fn clients(&self) -> f64 {
        let text = self.metrics.encode();
        let mut lines = text.lines();
        let line = lines.find(|line| line.starts_with("headwater_edge_application_clients{"));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }
}

async fn called(client: &mut Client, name: &str, argument: &str) -> Result<Value, Value> {
    let asked = client.session.call(name, vec![argument.into()]).unwrap();
    let is_it = |event: &ClientEvent| matches!(event, ClientEvent::CallResult { transaction, .. } if *transaction == asked);
    match client.wait(is_it).await.into_iter().last() {
        Some(ClientEvent::CallResult { result, .. }) => result,
        other => panic!("{other:?}"),
    }
}

async fn hear(client: &mut Client) -> Vec<Value> {
    let is_it = |event: &ClientEvent| matches!(event, ClientEvent::CallRequest { name, .. } if name == "heard");
    match client.wait(is_it).await.into_iter().last() {
        Some(ClientEvent::CallRequest { arguments, .. }) => arguments,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_lets_in_answers_and_calls_and_outlives_an_origin() {
    let bench = Bench::start().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(bench.client().await);
    }
    let mut refused = newcomer(bench.edge, "chat", |it| it.arguments = vec!["no".into()]).await;
    let came = refused
        .wait(|event| matches!(event, ClientEvent::ConnectRejected { .. }))
        .await;
    let Some(ClientEvent::ConnectRejected { status, .. }) = came.last() else {
        panic!("{came:?}");
    };
    assert_eq!(status.description, "you said so");

    assert_eq!(called(&mut clients[0], "echo", "a").await, Ok("a".into()));
    let failed = called(&mut clients[1], "fail", "a").await.unwrap_err();
    let code = failed.get("code").and_then(Value::as_str);
    assert_eq!(code, Some("NetConnection.Call.Failed"));
    called(&mut clients[2], "shout", "hello").await.unwrap();
    for (number, client) in clients.iter_mut().enumerate() {
        // It heard itself before it was answered.
        if number != 2 {
            assert_eq!(hear(client).await, ["hello".into()]);
        }
    }

    // One call is under way when the owner dies. Everybody stays.
    let slow = clients[0].session.call("slow", Vec::new()).unwrap();
    assert_eq!(called(&mut clients[0], "echo", "b").await, Ok("b".into()));
    bench.kill_owner();
    let is_it = |event: &ClientEvent| matches!(event, ClientEvent::CallResult { transaction, result: Err(_) } if *transaction == slow);
    clients[0].wait(is_it).await;
    assert_eq!(called(&mut clients[3], "echo", "c").await, Ok("c".into()));
    called(&mut clients[1], "shout", "again").await.unwrap();
    for (number, client) in clients.iter_mut().enumerate() {
        if number != 1 {
            assert_eq!(hear(client).await, ["again".into()]);
        }
    }
    assert!((bench.clients() - 4.0).abs() < 0.1);
    clients.push(bench.client().await);
    drop(clients);
    let left = async {
        while bench.clients() > 0.5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, left).await.unwrap();
}
