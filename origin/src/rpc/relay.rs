//! Passing a call on to the owner of a stream for a caller that cannot reach it.
//!
//! Both directions go through as they are, except that the open says who relayed it. The relay ends with `UNAVAILABLE` as soon
//! as this node, too, finds the owner out of reach, or another owner: the caller then asks its ring again. Nothing is kept here:
//! flow control of the two calls holds up whoever is too fast.

use headwater_cluster::channel::MAX_MESSAGE_BYTES;
use headwater_cluster::{Availability, Cluster, Member, Placement, ring};
use headwater_media::name::StreamName;
use headwater_node::telemetry::propagation;
use headwater_proto::v1;
use headwater_proto::v1::stream_log_client::StreamLogClient;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tracing::{Instrument, Span};

use super::StreamLogService;

type Answers<T> = mpsc::Sender<Result<T, Status>>;

/// Relays a publisher's call.
pub(super) async fn append(
    service: &StreamLogService,
    name: &StreamName,
    owner: &Member,
    opening: Span,
    mut open: v1::AppendOpen,
    inbound: Streaming<v1::AppendRequest>,
    answers: Answers<v1::AppendResponse>,
) -> Result<(), Status> {
    let mut relay = Relay::new(service, name, owner)?;
    relay.sign(&mut open.routing);
    let open = v1::AppendRequest {
        request: Some(v1::append_request::Request::Open(open)),
    };
    let request = relay.request(open, inbound, &opening);
    let mut client = relay.client.clone();
    relay
        .run(client.append(request).instrument(opening), answers)
        .await
}

/// Relays a reader's call.
pub(super) async fn read(
    service: &StreamLogService,
    name: &StreamName,
    owner: &Member,
    opening: Span,
    mut open: v1::ReadOpen,
    inbound: Streaming<v1::ReadRequest>,
    answers: Answers<v1::ReadResponse>,
) -> Result<(), Status> {
    let mut relay = Relay::new(service, name, owner)?;
    relay.sign(&mut open.routing);
    let open = v1::ReadRequest {
        request: Some(v1::read_request::Request::Open(open)),
    };
    let request = relay.request(open, inbound, &opening);
    let mut client = relay.client.clone();
    relay
        .run(client.read(request).instrument(opening), answers)
        .await
}

struct Relay<'a> {
    service: &'a StreamLogService,
    name: &'a StreamName,
    owner: &'a Member,
    client: StreamLogClient<Channel>,
    /// What the caller said of whom it cannot reach.
    unreachable: Vec<String>,
}

impl<'a> Relay<'a> {
    fn new(
        service: &'a StreamLogService,
        name: &'a StreamName,
        owner: &'a Member,
    ) -> Result<Self, Status> {
        let channel = service
            .cluster
            .channel(&owner.id, ring::stream_hash(name))
            .map_err(|error| Status::unavailable(error.to_string()))?;
        service.logs.metrics().relays.inc();
        tracing::debug!(owner = %owner.id, "relayed");
        Ok(Self {
            service,
            name,
            owner,
            client: StreamLogClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            unreachable: Vec::new(),
        })
    }

    /// Says in the open who relays.
    fn sign(&mut self, routing: &mut Option<v1::Routing>) {
        let routing = routing.get_or_insert_default();
        self.unreachable.clone_from(&routing.unreachable);
        routing.ring_version = self.service.ring_version();
        routing
            .relayed_by
            .push(self.service.cluster.id().to_string());
    }

    fn request<T>(
        &self,
        open: T,
        inbound: Streaming<T>,
        opening: &Span,
    ) -> Request<impl Stream<Item = T> + Send + 'static>
    where
        T: Send + 'static,
    {
        // Where the caller's end breaks, the owner finds the call ended without a close.
        let rest = inbound.map_while(|message| message.ok());
        let mut request = Request::new(tokio_stream::iter([open]).chain(rest));
        propagation::inject_span(opening, request.metadata_mut());
        request
    }

    async fn run<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<Streaming<T>>, Status>>,
        answers: Answers<T>,
    ) -> Result<(), Status> {
        let pipe = async {
            let mut outbound = call.await?.into_inner();
            while let Some(message) = outbound.message().await? {
                if answers.send(Ok(message)).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let outcome = tokio::select! {
            outcome = pipe => outcome,
            () = misplaced(&self.service.cluster, self.name, self.owner, &self.unreachable) => Err(Status::unavailable(format!(
                "node {} is out of reach or not the owner any more: retry",
                self.owner.id
            ))),
        };
        if let Err(status) = &outcome
            && status.code() == Code::Unavailable
        {
            self.service.cluster.report_failure(&self.owner.id);
        }
        outcome
    }
}

/// Waits until the stream is not to be relayed to this owner any more. `unreachable` is what the caller said.
pub(crate) async fn misplaced(
    cluster: &Cluster,
    name: &StreamName,
    owner: &Member,
    unreachable: &[String],
) {
    let mut changes = cluster.changes();
    loop {
        changes.mark_unchanged();
        let view = cluster.view();
        let reachable = view.availability(&owner.id) != Availability::Unreachable;
        let placed = match view.placement(name, unreachable) {
            Placement::Relay(member) | Placement::Elsewhere(member) => member.id == owner.id,
            Placement::Own => false,
        };
        // While the owner drains, it tells the caller itself where to go.
        let draining = view.availability(&owner.id) == Availability::Draining;
        if !reachable || !(placed || draining) {
            return;
        }
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
