//! `Peers` of `proto/headwater/v1/peers.proto`.
//!
//! Who serves an introduction is decided by the ring as for streams; an edge attaches to whichever origin it takes for the owner, and what
//! it says there is found by those who ask there. Where views of the ring differ for a moment, an introduction finds nobody, and the
//! initiator asks again: RTMFP repeats its IHello until it has an answer.
//!
//! Bounds: what there is of peers and groups ([`Limits`]); messages that wait for an edge, past which they are dropped and counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::{Cluster, Placement};
use headwater_media::name::StreamName;
use headwater_proto::v1;
use headwater_proto::v1::introduce_response::Response as Answer;
use headwater_proto::v1::peers_request::Request as Said;
use headwater_proto::v1::peers_response::Response as Told;
use headwater_proto::v1::peers_server::{Peers, PeersServer};
use headwater_proto::v1::relay_response::Response as Passed;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::metrics::PeersMetrics;
use super::registry::{CallId, Full, Limits, PeerId, Registry};

/// Messages that may wait for an edge.
const WAITING: usize = 4_096;

/// How long an edge may take to open its call.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses of a peer or an initiator that are kept; RTMFP's own limit of candidates is 24.
const MAX_ADDRESSES: usize = 24;

/// Longest tag, in bytes. Clients send 16.
const MAX_TAG: usize = 64;

/// Longest command that is relayed, in bytes: text between people, not media.
const MAX_COMMAND: usize = 16 << 10;

/// Largest message of an edge, in bytes.
const MAX_MESSAGE: usize = 64 << 10;

/// The service. Clones share what it knows.
#[derive(Clone, Debug)]
pub(crate) struct PeersService {
    cluster: Cluster,
    state: Arc<Mutex<State>>,
    metrics: PeersMetrics,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    registry: Registry,
    edges: HashMap<CallId, Edge>,
}

#[derive(Debug)]
struct Edge {
    name: String,
    messages: mpsc::Sender<Result<v1::PeersResponse, Status>>,
}

impl PeersService {
    pub(crate) fn new(
        cluster: Cluster,
        metrics: PeersMetrics,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let state = State {
            registry: Registry::new(Limits::default()),
            ..State::default()
        };
        Self {
            cluster,
            state: Arc::new(Mutex::new(state)),
            metrics,
            tasks,
            stop,
        }
    }

    pub(crate) fn into_server(self) -> PeersServer<Self> {
        PeersServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}

#[tonic::async_trait]
impl Peers for PeersService {
    type AttachStream = ReceiverStream<Result<v1::PeersResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::PeersRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (messages, receiver) = mpsc::channel(WAITING);
        let service = self.clone();
        let inbound = request.into_inner();
        self.tasks.spawn(async move {
            let closed = messages.clone();
            let outcome = tokio::select! {
                biased;
                () = closed.closed() => return,
                outcome = service.serve(inbound, messages) => outcome,
                () = service.stop.cancelled() => Err(Status::unavailable("the origin is stopping")),
            };
            if let Err(status) = outcome {
                tracing::debug!(%status, "an edge's peers are gone");
                // Full or gone: then it learns from the end of the call.
                let _ = closed.try_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn introduce(
        &self,
        request: Request<v1::IntroduceRequest>,
    ) -> Result<Response<v1::IntroduceResponse>, Status> {
        let request = request.into_inner();
        let peer = id(&request.peer_id)?;
        if request.tag.len() > MAX_TAG || request.initiator.len() > MAX_ADDRESSES {
            return Err(Status::invalid_argument("a tag or a list that is too long"));
        }
        if let Some(moved) = self.moved(&peer, request.routing.as_ref()) {
            return Ok(answer(Answer::Moved(moved)));
        }
        let mut state = self.state.lock();
        let State { registry, edges } = &mut *state;
        let found = registry.find(&peer).and_then(|(call, addresses)| {
            let edge = edges.get(&call)?;
            Some((edge, addresses.to_vec()))
        });
        let Some((edge, addresses)) = found else {
            self.metrics.unknown.inc();
            return Ok(answer(Answer::Unknown(v1::PeerUnknown {})));
        };
        let hello = v1::ForwardHello {
            peer_id: request.peer_id,
            tag: request.tag,
            initiator: request.initiator,
        };
        self.tell(edge, Told::Hello(hello));
        self.metrics.introduced.inc();
        Ok(answer(Answer::Introduced(v1::Introduced {
            addresses,
            edge: edge.name.clone(),
        })))
    }

    async fn relay(
        &self,
        request: Request<v1::RelayRequest>,
    ) -> Result<Response<v1::RelayResponse>, Status> {
        let request = request.into_inner();
        let peer = id(&request.peer_id)?;
        if request.command.len() > MAX_COMMAND {
            return Err(Status::invalid_argument("a command that is too long"));
        }
        if let Some(moved) = self.moved(&peer, request.routing.as_ref()) {
            return Ok(passed(Passed::Moved(moved)));
        }
        let state = self.state.lock();
        let found = state.registry.find(&peer);
        let Some(edge) = found.and_then(|(call, _)| state.edges.get(&call)) else {
            return Ok(passed(Passed::Unknown(v1::PeerUnknown {})));
        };
        let relayed = v1::RelayedCommand {
            peer_id: request.peer_id,
            command: request.command,
        };
        self.tell(edge, Told::Relayed(relayed));
        self.metrics.relayed.inc();
        Ok(passed(Passed::Relayed(v1::Relayed {})))
    }
}

impl PeersService {
    /// One edge, as long as its call lasts.
    async fn serve(
        &self,
        mut inbound: Streaming<v1::PeersRequest>,
        messages: mpsc::Sender<Result<v1::PeersResponse, Status>>,
    ) -> Result<(), Status> {
        let first = tokio::time::timeout(OPEN_TIMEOUT, inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the call was not opened"))??;
        let Some(Said::Open(open)) = first.and_then(|first| first.request) else {
            return Err(Status::invalid_argument(
                "the first message has to be an open",
            ));
        };
        let name: String = open.edge.chars().take(256).collect();
        let call = {
            let mut state = self.state.lock();
            let call = state.registry.attach();
            let edge = Edge {
                name: name.clone(),
                messages,
            };
            self.tell(&edge, Told::Opened(v1::PeersOpened {}));
            state.edges.insert(call, edge);
            call
        };
        // Also when this is dropped.
        let _attached = Attached {
            service: self,
            call,
        };
        tracing::debug!(edge = name, "an edge attaches its peers");
        while let Some(message) = inbound.message().await? {
            if let Some(said) = message.request {
                self.take(call, said)?;
            }
        }
        Ok(())
    }

    fn take(&self, call: CallId, said: Said) -> Result<(), Status> {
        let mut state = self.state.lock();
        let State { registry, edges } = &mut *state;
        let taken = match said {
            Said::Open(_) => return Err(Status::invalid_argument("the call is open already")),
            Said::Registered(said) => {
                let mut addresses = said.addresses;
                addresses.truncate(MAX_ADDRESSES);
                addresses.retain(|address| matches!(address.ip.len(), 4 | 16));
                for address in &mut addresses {
                    // A slice would keep all of the buffer in which it came.
                    address.ip = bytes::Bytes::copy_from_slice(&address.ip);
                }
                registry.register(call, id(&said.peer_id)?, addresses)
            }
            Said::Gone(said) => {
                registry.gone(call, &id(&said.peer_id)?);
                Ok(())
            }
            Said::Joined(said) => {
                let joined = registry.join(call, id(&said.group_id)?, id(&said.peer_id)?);
                joined.map(|notices| {
                    for notice in notices {
                        let Some(edge) = edges.get(&notice.call) else {
                            continue;
                        };
                        let neighbours = notice.neighbours.iter();
                        let neighbours = v1::GroupNeighbours {
                            group_id: said.group_id.clone(),
                            peer_id: notice.peer.to_vec().into(),
                            neighbours: neighbours.map(|peer| peer.to_vec().into()).collect(),
                        };
                        self.tell(edge, Told::Neighbours(neighbours));
                    }
                })
            }
            Said::Left(said) => {
                registry.leave(call, &id(&said.group_id)?, &id(&said.peer_id)?);
                Ok(())
            }
        };
        if taken == Err(Full) {
            self.metrics.refused.inc();
            tracing::debug!("a peer or a membership past the limits");
        }
        self.count(registry);
        Ok(())
    }

    fn tell(&self, edge: &Edge, told: Told) {
        let message = v1::PeersResponse {
            response: Some(told),
        };
        if edge.messages.try_send(Ok(message)).is_err() {
            self.metrics.dropped.inc();
        }
    }

    fn count(&self, registry: &Registry) {
        let (peers, groups, memberships) = registry.counts();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.registered.set(number(peers));
        self.metrics.groups.set(number(groups));
        self.metrics.memberships.set(number(memberships));
    }

    /// Where to ask instead, if another origin owns the peer and the caller can reach it.
    fn moved(&self, peer: &PeerId, routing: Option<&v1::Routing>) -> Option<v1::Moved> {
        let view = self.cluster.view();
        let unreachable = routing.map_or(&[][..], |routing| &routing.unreachable);
        match view.placement(&peer_name(peer)?, unreachable) {
            // What the caller's edges say they say here as well: they cannot reach the owner either.
            Placement::Own | Placement::Relay(_) => None,
            Placement::Elsewhere(member) => Some(v1::Moved {
                owner: member.id.to_string(),
                address: member.address.clone(),
                ring_version: view.ring_version(),
            }),
        }
    }
}

/// Takes a call out of the registry when it ends, however it does.
struct Attached<'a> {
    service: &'a PeersService,
    call: CallId,
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        let mut state = self.service.state.lock();
        state.edges.remove(&self.call);
        state.registry.detach(self.call);
        self.service.count(&state.registry);
    }
}

/// What the ring takes a peer for.
fn peer_name(peer: &PeerId) -> Option<StreamName> {
    use std::fmt::Write as _;

    let mut digits = String::with_capacity(64);
    for byte in peer {
        write!(digits, "{byte:02x}").ok()?;
    }
    StreamName::new("rtmfp", "peer", "_definst_", &digits).ok()
}

fn id(bytes: &[u8]) -> Result<PeerId, Status> {
    PeerId::try_from(bytes).map_err(|_| Status::invalid_argument("an id that has not 32 bytes"))
}

fn answer(answer: Answer) -> Response<v1::IntroduceResponse> {
    Response::new(v1::IntroduceResponse {
        response: Some(answer),
    })
}

fn passed(passed: Passed) -> Response<v1::RelayResponse> {
    Response::new(v1::RelayResponse {
        response: Some(passed),
    })
}
