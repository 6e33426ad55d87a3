//! One call to the owner of an instance: how it is opened.

use std::time::Duration;

use headwater_cluster::channel::MAX_MESSAGE_BYTES;
use headwater_cluster::ring;
use headwater_media::name::{InstanceName, StreamName};
use headwater_node::telemetry::propagation;
use headwater_proto::v1;
use headwater_proto::v1::application_client::ApplicationClient;
use headwater_proto::v1::attach_request::Request as Ask;
use headwater_proto::v1::attach_response::Response as Answer;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};
use tracing::{debug, warn};

use crate::upstream::{Target, Upstream};

/// How long an owner may take to answer. It may have to take over the state of the instance first.
const OPEN_TIMEOUT: Duration = Duration::from_secs(4);

/// Messages handed to gRPC and not yet taken by the network. Small: what waits, waits in the core.
const UNDER_WAY: usize = 16;

/// Why a call could not be opened.
pub(super) enum OpenError {
    Moved(v1::Moved),
    Broken,
}

/// An open call. Messages are boxed: a queue holds room for some thirty at a time, and most instances of an edge have none under way.
pub(super) struct Link {
    pub(super) target: Target,
    pub(super) requests: mpsc::Sender<Box<v1::AttachRequest>>,
    pub(super) responses: Streaming<v1::AttachResponse>,
}

pub(super) fn message(request: Ask) -> Box<v1::AttachRequest> {
    Box::new(v1::AttachRequest {
        request: Some(request),
    })
}

/// What an owner is told of the instance and of this edge.
pub(super) fn open_message(
    upstream: &Upstream,
    name: &InstanceName,
    target: &Target,
    incarnation: u64,
    resumed_clients: usize,
) -> v1::AttachOpen {
    v1::AttachOpen {
        name: Some(v1::InstanceName {
            vhost: name.vhost.clone(),
            app: name.app.clone(),
            instance: name.instance.clone(),
        }),
        edge: upstream.node.clone(),
        edge_incarnation: incarnation,
        routing: Some(upstream.routing(target)),
        resumed_clients: u32::try_from(resumed_clients).unwrap_or(u32::MAX),
    }
}

/// Opens a call and waits for the owner's first answer.
pub(super) async fn open(
    upstream: &Upstream,
    key: &StreamName,
    target: Target,
    open: v1::AttachOpen,
) -> Result<(Link, v1::AttachOpened), OpenError> {
    let hash = ring::stream_hash(key);
    let channel = upstream.cluster.channel(&target.node, hash);
    let channel = channel.map_err(|_| OpenError::Broken)?;
    let mut client = ApplicationClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (requests, receiver) = mpsc::channel(UNDER_WAY);
    let _ = requests.try_send(message(Ask::Open(open)));
    let mut request = Request::new(ReceiverStream::new(receiver).map(|message| *message));
    propagation::inject(request.metadata_mut());
    let opening = async {
        let mut responses = client.attach(request).await?.into_inner();
        let first = responses.message().await?;
        Ok::<_, tonic::Status>((responses, first))
    };
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(OPEN_TIMEOUT, opening) => outcome,
        () = upstream.lost(&target.node) => return Err(OpenError::Broken),
    };
    match outcome {
        Ok(Ok((responses, first))) => match first.and_then(|first| first.response) {
            Some(Answer::Opened(opened)) => {
                let link = Link {
                    target,
                    requests,
                    responses,
                };
                Ok((link, opened))
            }
            Some(Answer::Moved(moved)) => Err(OpenError::Moved(moved)),
            other => {
                debug!(node = %target.node, ?other, "not an answer to an open");
                Err(OpenError::Broken)
            }
        },
        Ok(Err(status)) => {
            debug!(node = %target.node, %status, "the attachment was not accepted");
            upstream.cluster.report_failure(&target.node);
            Err(OpenError::Broken)
        }
        Err(_) => {
            warn!(node = %target.node, "the owner of an application instance did not answer in time");
            Err(OpenError::Broken)
        }
    }
}
