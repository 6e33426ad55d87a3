//! The call to one origin that owns some of this edge's peers and groups, opened again for as long as it does.

use std::time::Duration;

use headwater_cluster::NodeId;
use headwater_proto::v1;
use headwater_proto::v1::peers_client::PeersClient;
use headwater_proto::v1::peers_request::Request as Say;
use headwater_proto::v1::peers_response::Response as Answer;
use headwater_rtmfp::crypto::certificate::Fingerprint;
use headwater_rtmfp::group::GroupId;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use tracing::{debug, info};

use super::{Peers, Told, address};
use crate::upstream::Pause;

/// How long an origin may take to answer a call. It answers at once.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a call stays that nothing is said in: clients come and go.
const LINGER: Duration = Duration::from_secs(30);

/// Messages to an origin that are under way.
const UNDER_WAY: usize = 64;

/// Members of a group that a client is told of at once.
const NEIGHBOURS: usize = 32;

/// Why a call ended.
enum End {
    /// The origin owns nothing any more.
    Idle,
    /// The call broke, or the origin does not answer.
    Broken(&'static str),
}

/// An open call.
struct Call {
    requests: mpsc::Sender<v1::PeersRequest>,
    answers: Streaming<v1::PeersResponse>,
}

/// Keeps an origin informed until it owns nothing.
pub(super) async fn run(peers: Peers, node: NodeId) {
    let mut pause = Pause::new();
    loop {
        // Boxed: it is large.
        match Box::pin(serve(&peers, &node, &mut pause)).await {
            End::Idle => {}
            End::Broken(why) => {
                peers.table().broken(&node);
                peers.0.meters.calls_broken.inc();
                info!(%node, why, "an origin does not know of this edge's peers");
                pause.wait(&peers.0.upstream).await;
            }
        }
        if peers.table().end_if_idle(&node) {
            return;
        }
    }
}

async fn serve(peers: &Peers, node: &NodeId, pause: &mut Pause) -> End {
    let upstream = &peers.0.upstream;
    let lost = upstream.lost(node);
    tokio::pin!(lost);
    let opened = tokio::select! {
        opened = tokio::time::timeout(OPEN_TIMEOUT, open(peers, node)) => opened,
        () = &mut lost => return End::Broken("it cannot be reached"),
    };
    let Call {
        requests,
        mut answers,
    } = match opened {
        Ok(Ok(call)) => call,
        Ok(Err(why)) => return End::Broken(why),
        Err(_) => return End::Broken("it did not answer in time"),
    };
    debug!(%node, "an origin is told of this edge's peers");
    pause.reset();
    // Before the first look at the table.
    let mut news = peers.0.news.subscribe();
    peers.table().opened(node);
    let mut waiting: Option<Say> = None;
    let mut idle_until = None;
    loop {
        if waiting.is_none() {
            waiting = peers.table().next(node);
        }
        if waiting.is_none() && peers.table().is_idle(node) {
            idle_until.get_or_insert_with(|| Instant::now() + LINGER);
        } else {
            idle_until = None;
        }
        tokio::select! {
            biased;
            answer = answers.message() => match answer {
                Ok(Some(answer)) => take(peers, answer),
                Ok(None) => return End::Broken("it ended the call"),
                Err(status) => {
                    debug!(%node, %status, "a call for peers broke");
                    upstream.cluster.report_failure(node);
                    return End::Broken("the call broke");
                }
            },
            () = &mut lost => return End::Broken("it cannot be reached"),
            permit = requests.reserve(), if waiting.is_some() => {
                let Ok(permit) = permit else {
                    return End::Broken("the call broke");
                };
                let request = waiting.take();
                permit.send(v1::PeersRequest { request });
            }
            changed = news.changed(), if waiting.is_none() => {
                // The sender is the table's, which outlives this.
                if changed.is_err() {
                    return End::Idle;
                }
            }
            () = until(idle_until) => return End::Idle,
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn open(peers: &Peers, node: &NodeId) -> Result<Call, &'static str> {
    let upstream = &peers.0.upstream;
    let channel = upstream.cluster.channel(node, 0);
    let channel = channel.map_err(|_| "there is no way to it")?;
    let mut client: PeersClient<Channel> = PeersClient::new(channel);
    let (requests, receiver) = mpsc::channel(UNDER_WAY);
    let open = Say::Open(v1::PeersOpen {
        edge: upstream.node.clone(),
    });
    let request = Some(open);
    let _ = requests.try_send(v1::PeersRequest { request });
    let answers = client.attach(ReceiverStream::new(receiver)).await;
    let mut answers = match answers {
        Ok(answers) => answers.into_inner(),
        Err(status) => {
            debug!(%node, %status, "a call for peers was not accepted");
            upstream.cluster.report_failure(node);
            return Err("it did not accept the call");
        }
    };
    match answers.message().await {
        Ok(Some(v1::PeersResponse {
            response: Some(Answer::Opened(_)),
        })) => Ok(Call { requests, answers }),
        _ => Err("it did not open the call"),
    }
}

fn take(peers: &Peers, answer: v1::PeersResponse) {
    match answer.response {
        Some(Answer::Hello(hello)) => {
            let Some(peer) = id(&hello.peer_id).map(Fingerprint) else {
                return;
            };
            let initiator = address::from_wire(&hello.initiator);
            if peers.hello(peer, hello.tag, &initiator).is_none() {
                debug!(%peer, "asked for, and gone meanwhile");
            }
        }
        Some(Answer::Neighbours(told)) => {
            let group = id(&told.group_id).map(GroupId);
            let peer = id(&told.peer_id).map(Fingerprint);
            let (Some(group), Some(peer)) = (group, peer) else {
                return;
            };
            let neighbours = told.neighbours.iter().take(NEIGHBOURS);
            let neighbours: Vec<_> = neighbours
                .filter_map(|it| id(it).map(Fingerprint))
                .collect();
            let holder = peers.table().member(group, peer).cloned();
            if let Some(holder) = holder {
                peers.0.meters.neighbours.inc_by(neighbours.len() as u64);
                let session = holder.session;
                let told = Told::Neighbours {
                    session,
                    group,
                    neighbours,
                };
                peers.tell(&holder.port, told);
            }
        }
        Some(Answer::Relayed(relayed)) => {
            if let Some(peer) = id(&relayed.peer_id).map(Fingerprint) {
                peers.command(peer, relayed.command);
            }
        }
        Some(Answer::Opened(_)) | None => {}
    }
}

fn id(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.try_into().ok()
}
