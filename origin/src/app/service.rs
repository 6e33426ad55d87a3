//! `Application` of `proto/headwater/v1/application.proto`.
//!
//! `Describe` and `Changes` are answered by any origin, from the store. An edge attaches to the owner of the instance, by the ring as for
//! streams: another origin answers `Moved`, or passes the call on where the edge cannot reach the owner.
//!
//! Each call is served by a task of its own, which ends with the call, with the instance, or with the origin.

use std::pin::Pin;

use headwater_cluster::channel::MAX_MESSAGE_BYTES;
use headwater_cluster::{Cluster, Placement};
use headwater_media::name::InstanceName;
use headwater_proto::v1;
use headwater_proto::v1::application_server::{Application, ApplicationServer};
use headwater_proto::v1::attach_request::Request as Said;
use headwater_proto::v1::attach_response::Response as Told;
use headwater_proto::v1::policy_response::Response as Described;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::catalogue::{Key, Known};
use super::hosting::{Hosting, NotAttached};
use crate::rpc::{Serve, end_with_status, first, not_opened, wire};

mod relay;

/// Messages to an edge that are under way; what waits beyond that waits in its outbox.
const UNDER_WAY: usize = 4;

/// Changes that are under way to an edge.
const CHANGES: usize = 4;

/// The service. Clones share what it knows.
#[derive(Clone, Debug)]
pub(crate) struct ApplicationService {
    cluster: Cluster,
    hosting: Hosting,
    tasks: TaskTracker,
    stop: CancellationToken,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl ApplicationService {
    pub(crate) fn new(
        cluster: Cluster,
        hosting: Hosting,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            cluster,
            hosting,
            tasks,
            stop,
        }
    }

    pub(crate) fn into_server(self) -> ApplicationServer<Self> {
        ApplicationServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[tonic::async_trait]
impl Application for ApplicationService {
    type AttachStream = Answers<v1::AttachResponse>;
    type ChangesStream = Answers<v1::ChangesResponse>;

    async fn describe(
        &self,
        request: Request<v1::PolicyRequest>,
    ) -> Result<Response<v1::PolicyResponse>, Status> {
        let v1::PolicyRequest { vhost, app } = request.into_inner();
        let known = self.hosting.catalogue().describe(&vhost, &app).await;
        let known = known.map_err(|unavailable| Status::unavailable(unavailable.to_string()))?;
        let response = match known {
            Known::Policy(policy) => Described::Policy(v1::ApplicationPolicy {
                version: policy.version,
                toml: policy.text.clone(),
                stored: policy.stored,
            }),
            Known::Unknown => Described::Unknown(v1::ApplicationUnknown {}),
            Known::Broken(reason) => Described::Broken(v1::ApplicationBroken { reason }),
        };
        Ok(Response::new(v1::PolicyResponse {
            response: Some(response),
        }))
    }

    async fn changes(
        &self,
        request: Request<v1::ChangesRequest>,
    ) -> Result<Response<Self::ChangesStream>, Status> {
        let edge = request.into_inner().edge;
        tracing::debug!(
            edge = wire::shortened(&edge),
            "an edge wants to hear of changes"
        );
        let (answers, receiver) = mpsc::channel(CHANGES);
        let changes = self.hosting.catalogue().changes();
        let call = Box::pin(tell_changes(changes, answers.clone()));
        self.tasks
            .spawn(end_with_status(call, answers, self.stop.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn attach(
        &self,
        request: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (answers, receiver) = mpsc::channel(UNDER_WAY);
        let inbound = request.into_inner();
        let service = self.clone();
        let told = answers.clone();
        let call = Box::pin(async move { service.serve(inbound, told).await });
        self.tasks
            .spawn(end_with_status(call, answers, self.stop.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl ApplicationService {
    /// One edge and one instance, as long as the call lasts.
    async fn serve(
        &self,
        mut inbound: Streaming<v1::AttachRequest>,
        answers: mpsc::Sender<Result<v1::AttachResponse, Status>>,
    ) -> Result<(), Status> {
        let Some(Said::Open(mut open)) = first(&mut inbound).await?.request else {
            return Err(not_opened());
        };
        let invalid = |error: &dyn ToString| Status::invalid_argument(error.to_string());
        let name = open.name.take();
        let name = name.ok_or_else(|| Status::invalid_argument("the instance has no name"))?;
        let name = InstanceName::new(&name.vhost, &name.app, &name.instance);
        let name = name.map_err(|error| invalid(&error))?;
        let routing = wire::routing(open.routing.take()).map_err(|error| invalid(&error))?;
        match self.place(&name, &routing)? {
            Serve::Here => {}
            Serve::Moved(moved) => return send_away(answers, moved).await,
            Serve::Relay(owner) => {
                open.name = Some(v1::InstanceName {
                    vhost: name.vhost.clone(),
                    app: name.app.clone(),
                    instance: name.instance.clone(),
                });
                open.routing = Some(routing);
                return relay::attach(self, &name, &owner, open, inbound, answers).await;
            }
        }
        let attached = match self.hosting.attach(&name, open).await {
            Ok(attached) => attached,
            Err(NotAttached::Failed(status)) => return Err(status),
            Err(NotAttached::Moved(moved)) => return send_away(answers, moved).await,
        };
        let outcome = {
            let hear = async {
                let mut closed = false;
                while let Ok(Some(message)) = inbound.message().await {
                    // None: something that a newer version has added.
                    let Some(said) = message.request else {
                        continue;
                    };
                    closed |= matches!(said, Said::Close(_));
                    if !attached.say(said).await {
                        closed = true;
                        break;
                    }
                }
                // The instance has ended the call, or does: how is said on the other way, after what waits there.
                if closed {
                    return std::future::pending().await;
                }
                Ok(())
            };
            let tell = async {
                while let Some(told) = attached.outbox.next().await? {
                    let response = Some(told);
                    let response = v1::AttachResponse { response };
                    if answers.send(Ok(response)).await.is_err() {
                        break;
                    }
                }
                Ok(())
            };
            tokio::select! {
                outcome = hear => outcome,
                outcome = tell => outcome,
            }
        };
        attached.leave().await;
        outcome
    }

    fn place(&self, name: &InstanceName, routing: &v1::Routing) -> Result<Serve, Status> {
        let view = self.cluster.view();
        match view.placement(&name.key(), &routing.unreachable) {
            Placement::Own => Ok(Serve::Here),
            Placement::Elsewhere(member) => {
                self.hosting.metrics().moves.inc();
                Ok(Serve::Moved(v1::Moved {
                    owner: member.id.to_string(),
                    address: member.address.clone(),
                    ring_version: view.ring_version(),
                }))
            }
            Placement::Relay(member) if routing.relayed_by.is_empty() => Ok(Serve::Relay(member)),
            Placement::Relay(member) => Err(Status::unavailable(format!(
                "the instance belongs to node {}, and the call was relayed already: retry",
                member.id
            ))),
        }
    }
}

async fn send_away(
    answers: mpsc::Sender<Result<v1::AttachResponse, Status>>,
    moved: v1::Moved,
) -> Result<(), Status> {
    let moved = v1::AttachResponse {
        response: Some(Told::Moved(moved)),
    };
    // Err: the edge is gone.
    let _ = answers.send(Ok(moved)).await;
    Ok(())
}

async fn tell_changes(
    mut changes: broadcast::Receiver<Key>,
    answers: mpsc::Sender<Result<v1::ChangesResponse, Status>>,
) -> Result<(), Status> {
    let everything = v1::ChangesResponse {
        all: true,
        changed: Vec::new(),
    };
    let mut response = everything.clone();
    // Err: the edge is gone.
    while answers.send(Ok(response)).await.is_ok() {
        response = match changes.recv().await {
            Ok((vhost, app)) => v1::ChangesResponse {
                all: false,
                changed: vec![v1::ApplicationName { vhost, app }],
            },
            Err(broadcast::error::RecvError::Lagged(_)) => everything.clone(),
            Err(broadcast::error::RecvError::Closed) => break,
        };
    }
    Ok(())
}
