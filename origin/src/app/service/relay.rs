//! Passing an edge's call on to the owner of an instance that it cannot reach, once.
//!
//! Both directions go through as they are, except that the open says who relayed it. It ends with `UNAVAILABLE` as soon as this node, too,
//! finds the owner out of reach, or another owner.

use headwater_cluster::channel::MAX_MESSAGE_BYTES;
use headwater_cluster::{Member, ring};
use headwater_media::name::InstanceName;
use headwater_proto::v1;
use headwater_proto::v1::application_client::ApplicationClient;
use headwater_proto::v1::attach_request::Request as Said;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, Streaming};

use super::ApplicationService;
use crate::rpc::relay::misplaced;

pub(super) async fn attach(
    service: &ApplicationService,
    name: &InstanceName,
    owner: &Member,
    mut open: v1::AttachOpen,
    inbound: Streaming<v1::AttachRequest>,
    answers: mpsc::Sender<Result<v1::AttachResponse, Status>>,
) -> Result<(), Status> {
    let cluster = &service.cluster;
    let key = name.key();
    let channel = cluster
        .channel(&owner.id, ring::stream_hash(&key))
        .map_err(|error| Status::unavailable(error.to_string()))?;
    service.hosting.metrics().relays.inc();
    tracing::debug!(owner = %owner.id, instance = %name, "relayed");
    let routing = open.routing.get_or_insert_default();
    let unreachable = routing.unreachable.clone();
    routing.ring_version = cluster.view().ring_version();
    routing.relayed_by.push(cluster.id().to_string());
    let open = v1::AttachRequest {
        request: Some(Said::Open(open)),
    };
    // Where the caller's end breaks, the owner finds the call ended without a close.
    let rest = inbound.map_while(|message| message.ok());
    let request = tokio_stream::iter([open]).chain(rest);
    let mut client = ApplicationClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let pipe = async {
        let mut outbound = client.attach(request).await?.into_inner();
        while let Some(message) = outbound.message().await? {
            if answers.send(Ok(message)).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let outcome = tokio::select! {
        outcome = pipe => outcome,
        () = misplaced(cluster, &key, owner, &unreachable) => Err(Status::unavailable(format!(
            "node {} is out of reach or not the owner any more: retry",
            owner.id
        ))),
    };
    if let Err(status) = &outcome
        && status.code() == Code::Unavailable
    {
        cluster.report_failure(&owner.id);
    }
    outcome
}
