//! The read of one hub: from the owner of the stream into the hub's ring, for as long as somebody watches.

use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::wire;
use headwater_media::frame::Epoch;
use headwater_node::telemetry::propagation;
use headwater_proto::v1;
use headwater_proto::v1::read_response::Response;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Streaming};
use tracing::{Instrument as _, debug, info, warn};

use super::{Pause, Target, Upstream};
use crate::hub::Hub;

/// How long an origin may take to answer a read. It answers at once; a relay adds one hop.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a read ended.
enum End {
    /// Nobody watches any more.
    Idle,
    /// The stream is at another node.
    Moved(v1::Moved),
    /// The call broke, or the node does not answer.
    Broken,
    /// The origin refused; it may think better of it later.
    Rejected,
}

/// Keeps the hub's ring at the tail of the stream until the hub has been without viewers for the linger time.
pub(crate) async fn run(upstream: Arc<Upstream>, hub: Arc<Hub>) {
    let span = tracing::info_span!("hub", stream = %hub.name());
    async {
        upstream.metrics.hubs.inc();
        let mut pause = Pause::new();
        let mut followed = None;
        loop {
            let target = followed.take().or_else(|| upstream.target(hub.name()));
            let end = match target {
                Some(target) => follow(&upstream, &hub, &target, &mut pause).await,
                None => End::Broken,
            };
            match end {
                End::Idle => {
                    if upstream.hubs.close_if_idle(&hub) {
                        break;
                    }
                }
                End::Moved(moved) => {
                    followed = upstream.named(hub.name(), &moved);
                    if followed.is_none() {
                        pause.wait(&upstream).await;
                    }
                }
                End::Broken | End::Rejected => {
                    if idle_now(&hub) && upstream.hubs.close_if_idle(&hub) {
                        break;
                    }
                    pause.wait(&upstream).await;
                }
            }
        }
        upstream.metrics.hubs.dec();
    }
    .instrument(span)
    .await;
}

fn idle_now(hub: &Hub) -> bool {
    *hub.viewers().borrow() == 0
}

async fn follow(upstream: &Upstream, hub: &Hub, target: &Target, pause: &mut Pause) -> End {
    // Boxed: it is large and over soon.
    let mut call = match Box::pin(open(upstream, hub, target)).await {
        Ok(call) => call,
        Err(end) => return end,
    };
    let lost = upstream.lost(&target.node);
    tokio::pin!(lost);
    let idle = idle(hub, upstream.config.linger());
    tokio::pin!(idle);
    loop {
        let message = tokio::select! {
            biased;
            message = call.responses.message() => message,
            () = &mut lost => {
                info!(node = %target.node, "the origin does not answer");
                return End::Broken;
            }
            () = &mut idle => return End::Idle,
        };
        match message {
            Ok(Some(message)) => {
                pause.reset();
                if let Some(end) = apply(upstream, hub, message) {
                    return end;
                }
            }
            Ok(None) => {
                debug!(node = %target.node, "the origin ended the read");
                return End::Broken;
            }
            Err(status) => {
                info!(node = %target.node, %status, "the read broke");
                upstream.cluster.report_failure(&target.node);
                return End::Broken;
            }
        }
    }
}

/// An open read. It ends with this value: dropping the answers alone would not end a call whose request side is open.
struct Call {
    responses: Streaming<v1::ReadResponse>,
    /// Keeps the request side open for as long as the read: without it the call would be half closed.
    _requests: mpsc::Sender<v1::ReadRequest>,
}

async fn open(upstream: &Upstream, hub: &Hub, target: &Target) -> Result<Call, End> {
    let Some(mut client) = upstream.client(target, hub.name()) else {
        return Err(End::Broken);
    };
    let next = hub.look(|ring| ring.next_offset());
    let position = match next {
        Some(next) => v1::read_open::Position::Offset(wire::to_offset(next)),
        None => v1::read_open::Position::Live(v1::LivePosition {}),
    };
    let open = v1::ReadRequest {
        request: Some(v1::read_request::Request::Open(v1::ReadOpen {
            name: Some(wire::to_name(hub.name())),
            position: Some(position),
            routing: Some(upstream.routing(target)),
            edge: upstream.node.clone(),
        })),
    };
    let (requests, receiver) = mpsc::channel(1);
    let _ = requests.try_send(open);
    let mut request = Request::new(ReceiverStream::new(receiver));
    propagation::inject(request.metadata_mut());
    let call = tokio::time::timeout(OPEN_TIMEOUT, client.read(request));
    let outcome = tokio::select! {
        outcome = call => outcome,
        () = upstream.lost(&target.node) => return Err(End::Broken),
    };
    match outcome {
        Ok(Ok(response)) => {
            debug!(node = %target.node, from = ?next, "reading");
            Ok(Call {
                responses: response.into_inner(),
                _requests: requests,
            })
        }
        Ok(Err(status)) => {
            debug!(node = %target.node, %status, "the read was not accepted");
            upstream.cluster.report_failure(&target.node);
            Err(End::Broken)
        }
        Err(_) => {
            warn!(node = %target.node, "the origin did not answer a read in time");
            Err(End::Broken)
        }
    }
}

/// Waits until the hub has had no viewer for `linger` on end. A stream that nobody publishes is not worth any waiting.
async fn idle(hub: &Hub, linger: Duration) {
    let mut viewers = hub.viewers();
    loop {
        if viewers.wait_for(|count| *count == 0).await.is_err() {
            return;
        }
        let linger = if *hub.state().borrow() == Some(true) {
            linger
        } else {
            Duration::ZERO
        };
        let back = viewers.wait_for(|count| *count > 0);
        if tokio::time::timeout(linger, back).await.is_err() {
            return;
        }
    }
}

fn apply(upstream: &Upstream, hub: &Hub, message: v1::ReadResponse) -> Option<End> {
    let chunk_size = upstream.chunk_size;
    match message.response? {
        Response::Opened(opened) => {
            let epoch = Epoch(opened.epoch);
            let preface = wire::frames(epoch, opened.preface);
            trace_delivery(hub, &opened.traceparent);
            hub.update(|ring| ring.open(opened.publishing, epoch, &preface, chunk_size));
        }
        Response::Frames(batch) => {
            let epoch = Epoch(batch.epoch);
            let frames = wire::frames(epoch, batch.frames);
            let new = hub.update(|ring| {
                let pushed = frames.iter().map(|frame| ring.push(frame, chunk_size));
                pushed.filter(|new| *new).count()
            });
            upstream.metrics.frames_read.inc_by(new as u64);
        }
        Response::Status(status) => {
            info!(state = ?status.state(), epoch = status.epoch, "the stream changed");
            trace_delivery(hub, &status.traceparent);
            hub.update(|ring| match status.state() {
                v1::StreamState::Published => ring.set_published(Epoch(status.epoch)),
                v1::StreamState::Unpublished => ring.set_unpublished(),
                v1::StreamState::Unspecified => {}
            });
        }
        Response::Gap(gap) => {
            let to = wire::offset(gap.to?);
            warn!(from = ?gap.from, %to, "frames are lost: the origin does not hold them any more");
            upstream.metrics.upstream_gaps.inc();
            let preface = wire::frames(to.epoch, gap.preface);
            hub.update(|ring| ring.skip_to(to, &preface, chunk_size));
        }
        Response::Moved(moved) => {
            info!(owner = moved.owner, "the stream moved");
            return Some(End::Moved(moved));
        }
        Response::Rejected(rejected) => {
            warn!(reason = ?rejected.reason(), rejected.description, "the read was refused");
            if rejected.reason() == v1::RejectReason::Stale {
                hub.update(|ring| ring.forget_place());
            }
            return Some(End::Rejected);
        }
    }
    None
}

/// Puts the delivery on this edge into the trace of the publisher: one trace from the encoder to the last edge.
fn trace_delivery(hub: &Hub, traceparent: &str) {
    let Ok(value) = traceparent.parse() else {
        return;
    };
    let mut parent = MetadataMap::new();
    parent.insert("traceparent", value);
    let span = tracing::info_span!(parent: None, "deliver", stream = %hub.name());
    propagation::set_parent(&span, &parent);
    let _entered = span.enter();
    debug!("the stream is delivered here");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future that a function gives.
    fn future_size<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Each watched stream has such a task for as long as it is watched.
    #[test]
    fn the_task_of_a_stream_is_small() {
        let bytes = future_size(run);
        assert!(bytes <= 3_072, "{bytes} bytes");
    }
}
