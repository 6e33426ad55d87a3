//! An edge with one worker, an origin whose streams the test makes, and clients.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use headwater_cluster::node_service::NodeService;
use headwater_cluster::server::{Listen, serve};
use headwater_cluster::{Cluster, ClusterConfig, Local, NodeId, Role, local, wire};
use headwater_media::frame::{Frame, FrameFlags};
use headwater_node::address::ListenAddress;
use headwater_node::metrics::Metrics;
use headwater_node::readiness::Readiness;
use headwater_node::shutdown::Shutdown;
use headwater_proto::v1;
use headwater_proto::v1::application_server::ApplicationServer;
use headwater_proto::v1::recordings_server::{Recordings, RecordingsServer};
use headwater_proto::v1::stream_log_server::{StreamLog, StreamLogServer};
use headwater_rtmp::client::{ClientConfig, ClientEvent, ClientSession, ConnectParameters};
use headwater_rtmp::url::RtmpUrl;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::config::{EdgeConfig, VirtualHostSection};
use crate::edge::{Edge, EdgeNode};
use crate::player::tests::library::Library;
use crate::recorded::Place;
use crate::testing::application::Applications;
use headwater_application::ApplicationSection;

/// Longer than anything takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The streams of the origin.
#[derive(Clone)]
pub(super) struct Origin {
    /// What was said of streams.
    infos: Arc<Mutex<HashMap<String, v1::StreamInfo>>>,
    streams: Arc<Mutex<HashMap<String, Library>>>,
    changes: watch::Sender<u64>,
    /// Questions about stored streams are not answered for as long as this is set.
    pub(super) hung: watch::Sender<bool>,
    /// Questions about stored streams that came so far: descriptions, pieces.
    asked: watch::Sender<(usize, usize)>,
    /// What is published, and how many frames have come of it.
    published: watch::Sender<Vec<(String, u64)>>,
}

impl Origin {
    /// Makes a stream, or changes one.
    pub(super) fn put(&self, name: &str, library: Library) {
        self.streams.lock().insert(name.to_owned(), library);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Waits until so many descriptions and pieces were asked for.
    pub(super) async fn until_asked(&self, describes: usize, fetches: usize) {
        let mut asked = self.asked.subscribe();
        let enough = asked.wait_for(|asked| asked.0 >= describes && asked.1 >= fetches);
        let outcome = tokio::time::timeout(PATIENCE, enough).await.is_ok();
        assert!(outcome, "asked {:?}", self.asked());
    }

    /// How many descriptions and pieces were asked for so far.
    pub(super) fn asked(&self) -> (usize, usize) {
        *self.asked.borrow()
    }

    /// Waits until this is published and so many frames have come, or until nothing is.
    pub(super) async fn until_published(&self, expected: Option<(&str, u64)>) {
        let mut published = self.published.subscribe();
        let is_it = |all: &Vec<(String, u64)>| match expected {
            Some((name, frames)) => {
                matches!(all.as_slice(), [it] if it.0 == name && it.1 >= frames)
            }
            None => all.is_empty(),
        };
        let outcome = tokio::time::timeout(PATIENCE, published.wait_for(is_it)).await;
        assert!(outcome.is_ok(), "{:?}", self.published.borrow());
    }

    async fn hang(&self) {
        let mut hung = self.hung.subscribe();
        let _ = hung.wait_for(|hung| !hung).await;
    }

    fn find(&self, name: Option<v1::StreamName>) -> Option<Library> {
        self.streams.lock().get(&name?.stream).cloned()
    }
}

#[tonic::async_trait]
impl Recordings for Origin {
    async fn describe(
        &self,
        request: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeResponse>, Status> {
        use v1::describe_response::Response as Answer;
        self.asked.send_modify(|asked| asked.0 += 1);
        self.hang().await;
        let request = request.into_inner();
        let info = request.name.as_ref();
        let info = info.and_then(|name| self.infos.lock().get(&name.stream).copied());
        let found = self.find(request.name);
        let description = found.map(|library| library.describe().unwrap());
        let publishing = description.as_ref().is_some_and(|it| it.publishing);
        let stored = description.and_then(|it| it.stored).map(|it| v1::Stored {
            generation: it.generation,
            start_ms: it.start_ms,
            end_ms: it.end_ms,
            bytes: it.bytes,
            growing: it.growing,
            has_audio: it.has_audio,
            has_video: it.has_video,
        });
        Ok(Response::new(v1::DescribeResponse {
            response: Some(Answer::Description(v1::StreamDescription {
                publishing,
                stored,
                info: info.filter(|_| request.with_info),
            })),
        }))
    }

    async fn set_stream_info(
        &self,
        request: Request<v1::SetStreamInfoRequest>,
    ) -> Result<Response<v1::SetStreamInfoResponse>, Status> {
        use v1::set_stream_info_response::Response as Answer;
        let request = request.into_inner();
        let name = request.name.expect("a name").stream;
        let answer = if name == "mp3:song" {
            Answer::Rejected(v1::RecordingRejected {
                reason: v1::RecordingReason::NotFound.into(),
                description: "not here".to_owned(),
            })
        } else {
            let info = request.info.expect("something said");
            self.infos.lock().insert(name, info);
            Answer::Set(v1::StreamInfoSet { description: None })
        };
        Ok(Response::new(v1::SetStreamInfoResponse {
            response: Some(answer),
        }))
    }

    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::FetchResponse>, Status> {
        use v1::fetch_request::Position;
        use v1::fetch_response::Response as Answer;
        self.asked.send_modify(|asked| asked.1 += 1);
        self.hang().await;
        let request = request.into_inner();
        let library = self.find(request.name).expect("a stream");
        let place = match request.position.expect("a position") {
            Position::Offset(offset) => Place::Offset(wire::offset(offset)),
            Position::TimeMs(ms) => Place::Time(ms),
        };
        Ok(Response::new(v1::FetchResponse {
            response: Some(Answer::Piece(library.wire_piece(place))),
        }))
    }
}

#[tonic::async_trait]
impl StreamLog for Origin {
    type AppendStream = ReceiverStream<Result<v1::AppendResponse, Status>>;
    type ReadStream = ReceiverStream<Result<v1::ReadResponse, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        use v1::append_request::Request as Ask;
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|it| it.request);
        let Some(Ask::Open(open)) = first else {
            return Err(Status::invalid_argument("no open"));
        };
        let name = open.name.expect("a name");
        let name = format!("{}/{}/{}", name.vhost, name.app, name.stream);
        let accepted = v1::append_response::Response::Accepted(v1::AppendAccepted {
            epoch: 1,
            timeline: None,
            next_sequence: 0,
        });
        let (answers, receiver) = mpsc::channel(16);
        let response = Some(accepted);
        let _ = answers.try_send(Ok(v1::AppendResponse { response }));
        let published = self.published.clone();
        tokio::spawn(async move {
            published.send_modify(|all| all.push((name.clone(), 0)));
            while let Ok(Some(request)) = requests.message().await {
                let Some(Ask::Frames(batch)) = request.request else {
                    // Closed.
                    break;
                };
                let last = batch.frames.last().map_or(0, |frame| frame.sequence + 1);
                published.send_modify(|all| {
                    for (_, frames) in all.iter_mut().filter(|(it, _)| *it == name) {
                        *frames += batch.frames.len() as u64;
                    }
                });
                let acknowledged = v1::append_response::Response::Acknowledged(v1::Acknowledged {
                    accepted: last,
                    durable: last,
                });
                let response = Some(acknowledged);
                let _ = answers.send(Ok(v1::AppendResponse { response })).await;
            }
            published.send_modify(|all| all.retain(|(it, _)| *it != name));
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn read(
        &self,
        request: Request<Streaming<v1::ReadRequest>>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|it| it.request);
        let Some(v1::read_request::Request::Open(open)) = first else {
            return Err(Status::invalid_argument("no open"));
        };
        let (answers, receiver) = mpsc::channel(16);
        let origin = self.clone();
        tokio::spawn(async move {
            let _requests = requests;
            let _ = origin.follow(open, &answers).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

type Answers = mpsc::Sender<Result<v1::ReadResponse, Status>>;

impl Origin {
    /// Gives the live end of a stream for as long as somebody listens.
    async fn follow(&self, open: v1::ReadOpen, answers: &Answers) -> Option<()> {
        use v1::read_response::Response as Answer;
        let mut changes = self.changes.subscribe();
        let mut next = None;
        loop {
            let library = self.find(open.name.clone());
            let library = library.filter(|library| library.publishing);
            let frames = library.map(|it| it.frames).unwrap_or_default();
            let from = match next {
                Some(next) => next,
                None => {
                    let key = |frame: &Frame| frame.flags.contains(FrameFlags::KEY);
                    let from = frames.iter().rposition(key).unwrap_or(0);
                    let headers = frames[..from].iter().filter(|it| it.is_preface());
                    let opened = v1::ReadOpened {
                        publishing: !frames.is_empty(),
                        epoch: 1,
                        preface: headers.map(wire::to_frame).collect(),
                        traceparent: String::new(),
                    };
                    send(answers, Answer::Opened(opened)).await?;
                    from
                }
            };
            if frames.len() > from {
                let batch = v1::FrameBatch {
                    epoch: 1,
                    frames: frames[from..].iter().map(wire::to_frame).collect(),
                };
                send(answers, Answer::Frames(batch)).await?;
            }
            next = Some(frames.len().max(from));
            tokio::select! {
                changed = changes.changed() => changed.ok()?,
                () = answers.closed() => return None,
            }
        }
    }
}

async fn send(answers: &Answers, response: v1::read_response::Response) -> Option<()> {
    let response = Some(response);
    answers.send(Ok(v1::ReadResponse { response })).await.ok()
}

/// A running edge.
pub(super) struct Bench {
    pub(super) origin: Origin,
    pub(super) applications: Applications,
    origin_stop: CancellationToken,
    metrics: Metrics,
    address: SocketAddr,
    shutdown: Shutdown,
    _stop: DropGuard,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.shutdown.stop_now("the test is over");
    }
}

impl Bench {
    pub(super) async fn start() -> Self {
        let stop = CancellationToken::new();
        let config = ClusterConfig {
            // Nothing listens there: the nodes meet in memory.
            members: vec!["origin=127.0.0.1:1".to_owned()],
            ..ClusterConfig::default()
        };
        let start = |id: &str, role| {
            let id = NodeId::new(id).unwrap();
            Cluster::start(config.clone(), Local { id, role }, None, stop.child_token()).unwrap()
        };
        let cluster = start("edge", Role::Edge);
        let node = NodeService::new(start("origin", Role::Origin), v1::Load::default);
        let origin = Origin {
            infos: Arc::default(),
            streams: Arc::default(),
            changes: watch::Sender::new(0),
            hung: watch::Sender::new(false),
            asked: watch::Sender::default(),
            published: watch::Sender::default(),
        };
        let applications = Applications::new();
        let routes = Routes::new(node.into_server())
            .add_service(ApplicationServer::new(applications.clone()))
            .add_service(RecordingsServer::new(origin.clone()))
            .add_service(StreamLogServer::new(origin.clone()));
        let (connector, incoming) = local::pair();
        let listen = Listen {
            tcp: None,
            local: Some(incoming),
        };
        let origin_stop = stop.child_token();
        let (of_server, token) = (config.clone(), origin_stop.clone());
        tokio::spawn(async move {
            serve(routes, listen, None, &of_server, token, Duration::ZERO).await
        });
        cluster.register_local(NodeId::new("origin").unwrap(), connector);
        tokio::time::timeout(PATIENCE, cluster.ready())
            .await
            .unwrap();

        let mut config = EdgeConfig::default();
        config.rtmp.listen = vec![ListenAddress::Socket(([127, 0, 0, 1], 0).into())];
        config.edge.fanout.workers = 1;
        // So that what changes is seen.
        config.edge.recorded.description_ms = 0;
        let aliases = vec!["*.other.example".to_owned()];
        let other = VirtualHostSection { aliases };
        config.virtual_hosts.insert("other".to_owned(), other);
        // Of a cluster that has just lost its origins.
        config.edge.upstream.connect_wait_ms = 1_000;
        let watched = ApplicationSection {
            publish: false,
            dvr: true,
            ..ApplicationSection::default()
        };
        config.applications.insert("watched".to_owned(), watched);
        let metrics = Metrics::new("edge", "edge");
        let shutdown = Shutdown::new(Duration::from_millis(10));
        let node = EdgeNode {
            id: "edge".to_owned(),
            cluster,
            metrics: metrics.clone(),
            readiness: Readiness::new(),
            shutdown: shutdown.clone(),
        };
        let edge = Edge::start(config, node).unwrap();
        Self {
            origin,
            applications,
            origin_stop,
            metrics,
            address: edge.listening()[0].address,
            shutdown,
            _stop: stop.drop_guard(),
        }
    }

    /// Live viewers, and players of what is stored.
    pub(super) fn gauges(&self) -> (u64, u64) {
        let text = self.metrics.encode();
        let value = |name: &str| {
            let mut lines = text.lines().filter(|line| line.starts_with(name));
            let line = lines.next().unwrap_or_else(|| panic!("no {name}: {text}"));
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        (
            value("headwater_edge_viewers"),
            value("headwater_edge_players"),
        )
    }

    /// The value of a metric without labels of its own, or of those that are named.
    pub(super) fn metric(&self, metric: &str, label: &str) -> f64 {
        let text = self.metrics.encode();
        let start = format!("headwater_edge_{metric}{{");
        let is_it = |line: &&str| line.starts_with(&start) && line.contains(label);
        let line = text.lines().find(is_it);
        line.map_or(0.0, |line| {
            line.rsplit(' ').next().unwrap().parse().unwrap()
        })
    }

    /// As SIGKILL: its calls are cut.
    pub(super) fn stop_origin(&self) {
        self.origin_stop.cancel();
    }

    /// A client that wants to connect.
    pub(super) async fn newcomer(
        &self,
        application: &str,
        change: impl FnOnce(&mut ConnectParameters),
    ) -> Client {
        newcomer(self.address, application, change).await
    }

    /// A client of an application, with a message stream.
    pub(super) async fn client(&self, application: &str) -> Client {
        let mut client = self.newcomer(application, |_| {}).await;
        client
            .wait(|event| matches!(event, ClientEvent::Connected { .. }))
            .await;
        client.session.create_stream().unwrap();
        client
            .wait(|event| matches!(event, ClientEvent::StreamCreated { stream_id: 1, .. }))
            .await;
        client
    }
}

/// A client that wants to connect to the instance `x` of an application.
pub(super) async fn newcomer(
    edge: SocketAddr,
    application: &str,
    change: impl FnOnce(&mut ConnectParameters),
) -> Client {
    let url = format!("rtmp://{edge}/{application}/x");
    let url = RtmpUrl::parse(&url).unwrap();
    let mut client = Client {
        session: ClientSession::new(ClientConfig::default(), [3; 1528], Duration::ZERO),
        socket: TcpStream::connect(edge).await.unwrap(),
        input: BytesMut::new(),
    };
    let mut parameters = ConnectParameters::new(&url);
    change(&mut parameters);
    client.session.connect(&parameters).unwrap();
    client
}

pub(super) struct Client {
    pub(super) session: ClientSession,
    socket: TcpStream,
    input: BytesMut,
}

impl Client {
    /// What comes up to the first event of this kind.
    pub(super) async fn wait(
        &mut self,
        is_last: impl Fn(&ClientEvent) -> bool,
    ) -> Vec<ClientEvent> {
        let mut came = Vec::new();
        let outcome = tokio::time::timeout(PATIENCE, self.collect(&mut came, is_last)).await;
        assert!(outcome.is_ok(), "it did not come: {came:?}");
        came
    }

    async fn collect(
        &mut self,
        came: &mut Vec<ClientEvent>,
        is_last: impl Fn(&ClientEvent) -> bool,
    ) {
        loop {
            self.send().await;
            while let Some(event) = self.session.poll_event() {
                let last = is_last(&event);
                came.push(event);
                if last {
                    return;
                }
            }
            if !self.session.has_more_input() {
                let count = self.socket.read_buf(&mut self.input).await.unwrap();
                assert!(count > 0, "the edge closed the connection: {came:?}");
            }
            self.session
                .handle_input(Duration::ZERO, &mut self.input)
                .unwrap();
        }
    }

    /// Sends what the client has to say, without waiting for an answer.
    pub(super) async fn send(&mut self) {
        while let Some(bytes) = self.session.poll_transmit() {
            self.socket.write_all(&bytes).await.unwrap();
        }
    }

    pub(super) async fn wait_status(&mut self, code: &str) -> Vec<ClientEvent> {
        self.wait(|event| says(event, code)).await
    }

    /// What comes up to the frame with this timestamp, or a later one.
    pub(super) async fn wait_time(&mut self, timestamp: u32) -> Vec<ClientEvent> {
        self.wait(|event| {
            matches!(event, ClientEvent::Media { frame, .. } if frame.timestamp >= timestamp)
        })
        .await
    }
}

/// Whether it is this status, of a stream or in its data.
pub(super) fn says(event: &ClientEvent, code: &str) -> bool {
    match event {
        ClientEvent::Status { status, .. } | ClientEvent::PlayStatus { status, .. } => {
            status.code == code
        }
        _ => false,
    }
}
