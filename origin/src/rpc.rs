//! The gRPC front door: `StreamLog` of `proto/headwater/v1/stream_log.proto`.
//!
//! Each call is served by a task of its own, which ends with the call, or with the origin. What is answered goes through a
//! short queue, so HTTP/2 flow control holds up the task of a slow caller and nobody else.
//!
//! | the stream | answer |
//! |---|---|
//! | belongs here | served by [`append`] or [`read`] |
//! | belongs to another origin | `Moved` |
//! | belongs to another origin that the caller cannot reach | passed on by [`relay`], once |
//!
//! Of each call two spans are made: a short one for its opening (`append`, `read`), a child of the caller's, which is exported when
//! the call stands and not hours later; and one for its life (`publication`, `reader`), for the log.
//!
//! Malformed opens are answered with a rejection (`INVALID`); a call that does not keep to the order of messages, or to the
//! rules for frames, ends with the status `INVALID_ARGUMENT`. `UNAVAILABLE` means: ask the ring again, and retry.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::channel::MAX_MESSAGE_BYTES;
use headwater_cluster::{Cluster, Member, Placement, View};
use headwater_media::name::StreamName;
use headwater_proto::v1;
use headwater_proto::v1::stream_log_server::{StreamLog, StreamLogServer};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::log::Target;
use crate::log::table::LogTable;
use crate::record::recordings::Record;

mod append;
mod read;
pub(crate) mod recordings;
pub(crate) mod relay;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

/// How long a caller may take for its first message.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a caller that does not take its answers is waited for to tell it why its call ends.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers to a publisher that are under way: small ones.
const APPEND_ANSWERS: usize = 16;

/// Answers to a reader that are under way, up to a megabyte each: one waits for the transport while the next is made.
const READ_ANSWERS: usize = 1;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the calls of one origin share.
#[derive(Clone, Debug)]
pub(crate) struct StreamLogService {
    pub(crate) cluster: Cluster,
    pub(crate) logs: LogTable,
    pub(crate) recordings: Arc<dyn Record>,
    pub(crate) tasks: TaskTracker,
    /// Ends all calls.
    pub(crate) stop: CancellationToken,
}

impl StreamLogService {
    pub(crate) fn into_server(self) -> StreamLogServer<Self> {
        StreamLogServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[tonic::async_trait]
impl StreamLog for StreamLogService {
    type AppendStream = Answers<v1::AppendResponse>;
    type ReadStream = Answers<v1::ReadResponse>;

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (answers, receiver) = mpsc::channel(APPEND_ANSWERS);
        let (metadata, _, inbound) = request.into_parts();
        let call = Box::pin(append::serve(
            self.clone(),
            metadata,
            inbound,
            answers.clone(),
        ));
        self.tasks
            .spawn(end_with_status(call, answers, self.stop.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn read(
        &self,
        request: Request<Streaming<v1::ReadRequest>>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let (answers, receiver) = mpsc::channel(READ_ANSWERS);
        let (metadata, _, inbound) = request.into_parts();
        let call = Box::pin(read::serve(
            self.clone(),
            metadata,
            inbound,
            answers.clone(),
        ));
        self.tasks
            .spawn(end_with_status(call, answers, self.stop.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Runs a call until it is done, its caller is gone, or the origin stops. Takes it boxed: a future that is passed on by value
/// has room for its argument twice.
pub(crate) async fn end_with_status<T>(
    call: Pin<Box<impl Future<Output = Result<(), Status>>>>,
    answers: mpsc::Sender<Result<T, Status>>,
    stop: CancellationToken,
) {
    let outcome = tokio::select! {
        biased;
        () = answers.closed() => return,
        outcome = call => outcome,
        () = stop.cancelled() => Err(Status::unavailable("the origin is stopping")),
    };
    if let Err(status) = outcome {
        tracing::debug!(%status, "call ended");
        // The caller may be gone, or stuck: then it does not learn why.
        let _ = tokio::time::timeout(END_TIMEOUT, answers.send(Err(status))).await;
    }
}

/// The first message of a call.
pub(crate) async fn first<T>(inbound: &mut Streaming<T>) -> Result<T, Status> {
    match tokio::time::timeout(OPEN_TIMEOUT, inbound.message()).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(Status::invalid_argument(
            "the call ended before it was opened",
        )),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(Status::deadline_exceeded("the call was not opened")),
    }
}

pub(crate) fn not_opened() -> Status {
    Status::invalid_argument("the first message has to be an open")
}

/// Who serves a call.
pub(crate) enum Serve {
    Here,
    Moved(v1::Moved),
    Relay(Arc<Member>),
}

impl StreamLogService {
    fn place(&self, name: &StreamName, routing: &v1::Routing) -> Result<Serve, Status> {
        let view = self.cluster.view();
        match view.placement(name, &routing.unreachable) {
            Placement::Own => Ok(Serve::Here),
            Placement::Elsewhere(member) => {
                self.logs.metrics().moves.inc();
                let target = target(&member);
                Ok(Serve::Moved(wire::to_moved(&target, view.ring_version())))
            }
            Placement::Relay(member) if routing.relayed_by.is_empty() => Ok(Serve::Relay(member)),
            Placement::Relay(member) => Err(Status::unavailable(format!(
                "the stream belongs to node {}, and the call was relayed already: retry",
                member.id
            ))),
        }
    }

    /// The address of a member, where a caller named only its id.
    fn address(&self, node: &str) -> String {
        let view = self.cluster.view();
        view.member(node)
            .map_or_else(String::new, |member| member.address.clone())
    }

    fn ring_version(&self) -> u64 {
        self.cluster.view().ring_version()
    }
}

/// Another owner of the stream, by the ring alone.
pub(crate) fn other_owner(view: &View, name: &StreamName) -> Option<Target> {
    match view.placement(name, &[]) {
        Placement::Own => None,
        Placement::Elsewhere(member) | Placement::Relay(member) => Some(target(&member)),
    }
}

fn target(member: &Member) -> Target {
    Target {
        node: member.id.to_string(),
        address: member.address.clone(),
    }
}
