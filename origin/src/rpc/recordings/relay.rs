//! Passing a call on to the owner of a stream for a caller that cannot reach it, once.

use std::time::Duration;

use headwater_cluster::channel::MAX_MESSAGE_BYTES;
use headwater_cluster::{Member, ring};
use headwater_node::telemetry::propagation;
use headwater_proto::v1;
use headwater_proto::v1::recordings_client::RecordingsClient;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::super::relay::misplaced;
use super::{Call, StreamLogService};

/// How long the owner may take. Longer than it lets its own store take, unless that is configured to be very patient.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn describe(
    service: &StreamLogService,
    call: &Call,
    owner: &Member,
    request: v1::DescribeRequest,
) -> Result<Response<v1::DescribeResponse>, Status> {
    let mut client = client(service, call, owner)?;
    let request = with_trace(v1::DescribeRequest {
        routing: Some(signed(service, call)),
        ..request
    });
    pass_on(service, call, owner, client.describe(request)).await
}

pub(super) async fn fetch(
    service: &StreamLogService,
    call: &Call,
    owner: &Member,
    request: v1::FetchRequest,
) -> Result<Response<v1::FetchResponse>, Status> {
    let mut client = client(service, call, owner)?;
    let request = with_trace(v1::FetchRequest {
        routing: Some(signed(service, call)),
        ..request
    });
    pass_on(service, call, owner, client.fetch(request)).await
}

pub(super) async fn set_stream_info(
    service: &StreamLogService,
    call: &Call,
    owner: &Member,
    request: v1::SetStreamInfoRequest,
) -> Result<Response<v1::SetStreamInfoResponse>, Status> {
    let mut client = client(service, call, owner)?;
    let request = with_trace(v1::SetStreamInfoRequest {
        routing: Some(signed(service, call)),
        ..request
    });
    pass_on(service, call, owner, client.set_stream_info(request)).await
}

fn client(
    service: &StreamLogService,
    call: &Call,
    owner: &Member,
) -> Result<RecordingsClient<Channel>, Status> {
    let channel = service
        .cluster
        .channel(&owner.id, ring::stream_hash(&call.name))
        .map_err(|error| Status::unavailable(error.to_string()))?;
    service.logs.metrics().relays.inc();
    tracing::debug!(owner = %owner.id, "relayed");
    Ok(RecordingsClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

/// The routing of the call, with who relays it.
fn signed(service: &StreamLogService, call: &Call) -> v1::Routing {
    let mut routing = call.routing.clone();
    routing.ring_version = service.ring_version();
    routing.relayed_by.push(service.cluster.id().to_string());
    routing
}

fn with_trace<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    propagation::inject(request.metadata_mut());
    request
}

/// Waits for the owner's answer as long as it is the owner, and reachable.
async fn pass_on<T>(
    service: &StreamLogService,
    call: &Call,
    owner: &Member,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, Status> {
    let outcome = tokio::select! {
        outcome = answer => outcome,
        () = misplaced(&service.cluster, &call.name, owner, &call.routing.unreachable) => {
            Err(Status::unavailable(format!(
                "node {} is out of reach or not the owner any more: retry",
                owner.id
            )))
        }
        () = tokio::time::sleep(TIMEOUT) => {
            Err(Status::deadline_exceeded(format!("node {} does not answer", owner.id)))
        }
    };
    match outcome {
        Ok(response) => Ok(Response::new(response.into_inner())),
        Err(status) => {
            if status.code() == Code::Unavailable {
                service.cluster.report_failure(&owner.id);
            }
            Err(status)
        }
    }
}
