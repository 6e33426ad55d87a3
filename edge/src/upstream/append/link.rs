//! One call to an owner: how it is opened, what goes through it, how it is ended in order.

use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::wire;
use headwater_media::name::StreamName;
use headwater_node::telemetry::propagation;
use headwater_proto::v1;
use headwater_proto::v1::append_request::Request as Ask;
use headwater_proto::v1::append_response::Response as Answer;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};
use tracing::{debug, warn};

use super::PublishRequest;
use crate::upstream::{Target, Upstream};

/// How long a stream that ended may take to tell its owner.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Batches handed to gRPC and not yet taken by the network. Small: what waits, waits in the window.
const BATCHES_UNDER_WAY: usize = 4;

/// Why a call could not be opened.
pub(super) enum OpenError {
    Moved(v1::Moved),
    Rejected(v1::AppendRejected),
    Broken,
}

/// Messages to an owner. Boxed: a queue holds room for some thirty messages at a time, whatever its bound, and most of the
/// streams of an edge have none under way.
pub(super) type Requests = mpsc::Sender<Box<v1::AppendRequest>>;

/// An open call.
pub(super) struct Link {
    pub(super) target: Target,
    pub(super) requests: Requests,
    pub(super) responses: Streaming<v1::AppendResponse>,
}

pub(super) fn ask(request: Ask) -> Box<v1::AppendRequest> {
    Box::new(v1::AppendRequest {
        request: Some(request),
    })
}

pub(super) fn open_message(
    upstream: &Upstream,
    request: &PublishRequest,
    id: [u8; 16],
    target: &Target,
    resume: Option<(v1::Offset, Vec<v1::Frame>)>,
) -> v1::AppendOpen {
    let (resume, preface) = resume.unzip();
    v1::AppendOpen {
        name: Some(wire::to_name(&request.name)),
        mode: request.mode.into(),
        publisher_id: bytes::Bytes::copy_from_slice(&id),
        resume,
        preface: preface.unwrap_or_default(),
        routing: Some(upstream.routing(target)),
        edge: upstream.node.clone(),
        client: request.client.clone(),
        record_window_ms: request.record_window_ms,
    }
}

/// Opens one call and waits for the owner's first answer.
pub(super) async fn call(
    upstream: Arc<Upstream>,
    open: v1::AppendOpen,
    name: StreamName,
    target: Target,
    timeout: Duration,
) -> Result<(Link, v1::AppendAccepted), OpenError> {
    let Some(mut client) = upstream.client(&target, &name) else {
        return Err(OpenError::Broken);
    };
    let (requests, receiver) = mpsc::channel(BATCHES_UNDER_WAY);
    let _ = requests.try_send(ask(Ask::Open(open)));
    let mut request = Request::new(ReceiverStream::new(receiver).map(|message| *message));
    propagation::inject(request.metadata_mut());
    let opening = async {
        let mut responses = client.append(request).await?.into_inner();
        let first = responses.message().await?;
        Ok::<_, tonic::Status>((responses, first))
    };
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(timeout, opening) => outcome,
        () = upstream.lost(&target.node) => return Err(OpenError::Broken),
    };
    match outcome {
        Ok(Ok((responses, first))) => match first.and_then(|first| first.response) {
            Some(Answer::Accepted(accepted)) => {
                let link = Link {
                    target,
                    requests,
                    responses,
                };
                Ok((link, accepted))
            }
            Some(Answer::Moved(moved)) => Err(OpenError::Moved(moved)),
            Some(Answer::Rejected(rejected)) => Err(OpenError::Rejected(rejected)),
            other => {
                debug!(node = %target.node, ?other, "not an answer to an open");
                Err(OpenError::Broken)
            }
        },
        Ok(Err(status)) => {
            debug!(node = %target.node, %status, "the append was not accepted");
            upstream.cluster.report_failure(&target.node);
            Err(OpenError::Broken)
        }
        Err(_) => {
            warn!(node = %target.node, "the owner did not answer in time");
            Err(OpenError::Broken)
        }
    }
}

/// Ends a call in order: the close message, the end of our side, then whatever the owner still says.
pub(super) async fn finish(mut link: Link, close: v1::AppendClose) {
    let closing = async {
        if link.requests.send(ask(Ask::Close(close))).await.is_err() {
            return;
        }
        drop(link.requests);
        while let Ok(Some(_)) = link.responses.message().await {}
    };
    if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
        debug!("the former owner did not end the call");
    }
}
