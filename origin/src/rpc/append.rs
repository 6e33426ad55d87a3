//! One publisher's call: open, frames in, acknowledgements out.
//!
//! A stream that is not recorded is never durable beyond this node's memory: `durable` is always `accepted`, so that the
//! publisher's edge need not keep frames for the sake of a recording. One that is recorded is durable as far as its recorder says,
//! until the recording fails. A publisher that closes hears first that everything is stored, if that takes no longer than
//! [`STORE_TIMEOUT`].

use std::sync::Arc;
use std::time::Duration;

use headwater_media::frame::Epoch;
use headwater_node::telemetry::propagation;
use headwater_proto::v1;
use headwater_proto::v1::append_request::Request;
use headwater_proto::v1::append_response::Response;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};
use tracing::{Instrument, Span};

use super::wire::{self, Malformed};
use super::{Serve, StreamLogService, first, not_opened, relay};
use crate::log::table::{ConnectionGuard, LogHandle, LogLease, unix_millis};
use crate::log::{
    AppendError, CloseHow, MAX_BATCH_FRAMES, OpenRequest, PublisherEvent, Refusal, Target,
};
use crate::record::recorder::session::Progress;
use crate::record::recordings::{Mode, Opening};

/// The least time between two acknowledgements. One for each batch would double the messages of a stream of lone frames.
const ACKNOWLEDGE_INTERVAL: Duration = Duration::from_millis(50);

/// How long a publisher's edge may leave an answer untaken before its connection counts as broken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a publisher that closes is kept until everything is stored. Its edge waits for ten seconds and then asks again, with what is
/// not durable: a call that ended before that would tell it that there is nothing more to wait for.
const STORE_TIMEOUT: Duration = Duration::from_secs(12);

/// How long a publisher may stay here after the next owner of its stream has taken its recording. Its edge needs some seconds to come to
/// terms with that one; if it does not, it is sent to look who the owner is.
const LEFT_TIMEOUT: Duration = Duration::from_secs(6);

type Answers = mpsc::Sender<Result<v1::AppendResponse, Status>>;

pub(super) async fn serve(
    service: StreamLogService,
    metadata: MetadataMap,
    inbound: Streaming<v1::AppendRequest>,
    answers: Answers,
) -> Result<(), Status> {
    // Boxed, because it is large and soon over, and what follows lasts as long as the stream.
    let Some(admitted) = Box::pin(admit(&service, metadata, inbound, &answers)).await? else {
        return Ok(());
    };
    let Admitted {
        lease,
        life,
        opening,
        open,
        inbound,
    } = admitted;
    let (guard, events) = lease.handle.connect();
    let publication = Publication {
        service: &service,
        lease: &lease,
        handle: &lease.handle,
        guard,
        answers: &answers,
        opening: Some(opening),
        epoch: None,
        resumes: open.resume.is_some(),
        mode: open.recording,
        window_ms: open.record_window_ms,
        recording: None,
        leave_at: None,
        status: None,
        acknowledged: None,
        last_acknowledged: None,
    };
    publication
        .run(open, inbound, events)
        .instrument(life)
        .await
}

/// A call whose stream belongs here.
struct Admitted {
    lease: LogLease,
    life: Span,
    opening: Span,
    open: wire::AppendOpen,
    inbound: Streaming<v1::AppendRequest>,
}

/// Takes the open of a call and finds out who serves it. `None`: all is said and done.
async fn admit(
    service: &StreamLogService,
    metadata: MetadataMap,
    mut inbound: Streaming<v1::AppendRequest>,
    answers: &Answers,
) -> Result<Option<Admitted>, Status> {
    let Some(Request::Open(mut open)) = first(&mut inbound).await?.request else {
        return Err(not_opened());
    };
    let checked = wire::name(open.name.as_ref())
        .and_then(|name| Ok((name, wire::routing(open.routing.take())?)));
    let (name, routing) = match checked {
        Ok(checked) => checked,
        Err(malformed) => return reject(service, answers, invalid(&malformed)).await,
    };
    let edge = wire::shortened(&open.edge);
    let opening = tracing::info_span!("append", stream = %name, edge);
    propagation::set_parent(&opening, &metadata);
    let life = tracing::info_span!("publication", stream = %name, edge);
    let admitting = async {
        match service.place(&name, &routing)? {
            Serve::Moved(moved) => {
                answer(answers, Response::Moved(moved)).await?;
                Ok(None)
            }
            Serve::Relay(member) => {
                open.routing = Some(routing);
                let answers = answers.clone();
                relay::append(service, &name, &member, opening, open, inbound, answers).await?;
                Ok(None)
            }
            Serve::Here => {
                let client = wire::shortened(&open.client).to_owned();
                let open = match wire::append_open(open) {
                    Ok(open) => open,
                    Err(malformed) => return reject(service, answers, invalid(&malformed)).await,
                };
                let lease = match service.logs.lease(&name) {
                    Ok(lease) => lease,
                    Err(full) => return reject(service, answers, limit(&full)).await,
                };
                let anew = open.resume.is_none() && lease.handle.look(|log| log.is_idle());
                if anew && let Err(full) = service.logs.room_for_publisher() {
                    return reject(service, answers, limit(&full)).await;
                }
                tracing::debug!(client, resumes = open.resume.is_some(), "publisher opens");
                Ok(Some(Admitted {
                    lease,
                    life: life.clone(),
                    opening,
                    open,
                    inbound,
                }))
            }
        }
    };
    admitting.instrument(life.clone()).await
}

fn invalid(malformed: &Malformed) -> v1::AppendRejected {
    v1::AppendRejected {
        reason: v1::RejectReason::Invalid.into(),
        description: malformed.to_string(),
    }
}

fn limit(full: &crate::log::table::Full) -> v1::AppendRejected {
    v1::AppendRejected {
        reason: v1::RejectReason::Limit.into(),
        description: full.to_string(),
    }
}

async fn reject(
    service: &StreamLogService,
    answers: &Answers,
    rejected: v1::AppendRejected,
) -> Result<Option<Admitted>, Status> {
    service.logs.metrics().refused.inc();
    answer(answers, Response::Rejected(rejected)).await?;
    Ok(None)
}

async fn answer(answers: &Answers, response: Response) -> Result<(), Status> {
    let response = v1::AppendResponse {
        response: Some(response),
    };
    match answers.send_timeout(Ok(response), ANSWER_TIMEOUT).await {
        Ok(()) => Ok(()),
        Err(_) => Err(Status::deadline_exceeded(
            "the caller does not take its answers",
        )),
    }
}

/// What happens to a call next.
enum Turn {
    GoOn,
    /// The publisher stopped: what it sent is to be stored.
    Closed,
    Done,
}

/// A call that publishes, or waits to.
struct Publication<'a> {
    service: &'a StreamLogService,
    lease: &'a LogLease,
    handle: &'a Arc<LogHandle>,
    /// Dropped with this: the log then knows that the connection is gone.
    guard: ConnectionGuard,
    answers: &'a Answers,
    /// The span of the opening, until it is done.
    opening: Option<Span>,
    /// Set once the publisher is accepted.
    epoch: Option<Epoch>,
    resumes: bool,
    /// How it is to be recorded, if it is.
    mode: Option<Mode>,
    /// How much of the recording is kept, in milliseconds. 0: all.
    window_ms: u64,
    /// How far that is, until it is over.
    recording: Option<watch::Receiver<Progress>>,
    /// When the call ends because another owner records.
    leave_at: Option<Instant>,
    /// What the publisher knows of it.
    status: Option<v1::RecordState>,
    /// What was acknowledged last, as accepted and as durable, and when.
    acknowledged: Option<(u64, u64)>,
    last_acknowledged: Option<Instant>,
}

impl Publication<'_> {
    async fn run(
        mut self,
        open: wire::AppendOpen,
        mut inbound: Streaming<v1::AppendRequest>,
        mut events: mpsc::Receiver<PublisherEvent>,
    ) -> Result<(), Status> {
        let request = OpenRequest {
            connection: self.guard.id,
            publisher: open.publisher,
            resume: open.resume,
            trace: self.opening.as_ref().map(traceparent).unwrap_or_default(),
        };
        let wall_clock = unix_millis();
        self.handle
            .update(|log, now| log.open(now, wall_clock, request));
        loop {
            let due = self.acknowledgement_due();
            let turn = tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(event) => self.told(event).await?,
                    None => return Err(Status::unavailable("the caller was too slow: retry")),
                },
                () = sleep_until(due) => {
                    self.acknowledge().await?;
                    Turn::GoOn
                }
                () = sleep_until(self.leave_at) => {
                    return Err(Status::unavailable("another owner records the stream: retry"));
                }
                () = changed(self.recording.as_mut()) => {
                    Box::pin(self.tell_status()).await?;
                    Turn::GoOn
                }
                message = inbound.message() => match message {
                    Ok(Some(message)) => self.received(message)?,
                    // Broken without a close: the guard says so.
                    Ok(None) => return Ok(()),
                    Err(status) => {
                        tracing::debug!(%status, "publisher's connection broke");
                        return Ok(());
                    }
                },
            };
            match turn {
                Turn::GoOn => {}
                // Rarely under way: no room is kept for it.
                Turn::Closed => return Box::pin(self.stored()).await,
                Turn::Done => return Ok(()),
            }
        }
    }

    /// The log has something to say.
    async fn told(&mut self, event: PublisherEvent) -> Result<Turn, Status> {
        match event {
            PublisherEvent::Accepted {
                epoch,
                timeline,
                next_sequence,
            } => {
                if let Some(opening) = self.opening.take() {
                    let _entered = opening.enter();
                    tracing::info!(epoch = epoch.0, next_sequence, "published");
                }
                let recorded = Box::pin(self.begin_recording(epoch)).await;
                self.epoch = Some(epoch);
                self.acknowledged = Some(match self.recording {
                    Some(_) => (next_sequence, 0),
                    None => (next_sequence, next_sequence),
                });
                let accepted = v1::AppendAccepted {
                    epoch: epoch.0,
                    timeline: recorded.or(timeline),
                    next_sequence,
                };
                answer(self.answers, Response::Accepted(accepted)).await?;
                Box::pin(self.tell_status()).await?;
                Ok(Turn::GoOn)
            }
            PublisherEvent::Probe { token, timeout } => {
                let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
                let probe = v1::ProbePublisher { token, timeout_ms };
                answer(self.answers, Response::Probe(probe)).await?;
                Ok(Turn::GoOn)
            }
            PublisherEvent::Move(target) => {
                tracing::info!(to = target.node, "publisher is asked to move");
                let moved = wire::to_moved(&target, self.service.ring_version());
                self.service.logs.metrics().moves.inc();
                answer(self.answers, Response::Moved(moved)).await?;
                Ok(Turn::GoOn)
            }
            PublisherEvent::Rejected(refusal) => {
                reject(self.service, self.answers, rejected(refusal)).await?;
                Ok(Turn::Done)
            }
            PublisherEvent::Replaced => {
                tracing::info!("another publisher took the name over");
                let stopped = v1::AppendStopped {
                    reason: v1::StopReason::Replaced.into(),
                    description: "another publisher took the name over".to_owned(),
                };
                answer(self.answers, Response::Stopped(stopped)).await?;
                Ok(Turn::Done)
            }
            PublisherEvent::Superseded => Err(Status::aborted(
                "the publisher came back on another connection",
            )),
            PublisherEvent::Unavailable => Err(Status::unavailable(
                "the stream belongs to another node: retry",
            )),
        }
    }

    /// The stream is the publisher's: it is recorded if it asked for it. Gives where the timeline stands, if that depends on the
    /// recording.
    async fn begin_recording(&mut self, epoch: Epoch) -> Option<u64> {
        let recordings = &self.service.recordings;
        let Some(mode) = self.mode else {
            if !self.resumes {
                recordings.publishes_live(self.handle.name());
            }
            return None;
        };
        let opening = Opening {
            lease: self.lease,
            epoch,
            mode,
            window_ms: self.window_ms,
            resumes: self.resumes,
        };
        let begun = recordings.begin(opening).await;
        self.status = begun.told;
        self.recording = Some(begun.progress);
        begun.timeline
    }

    /// Tells the publisher what became of its recording, if that is new.
    async fn tell_status(&mut self) -> Result<(), Status> {
        let Some(recording) = &mut self.recording else {
            return Ok(());
        };
        let progress = recording.borrow_and_update().clone();
        if progress.is_left() {
            // What is not durable stays so: its edge keeps it for the next owner.
            self.leave_at
                .get_or_insert_with(|| Instant::now() + LEFT_TIMEOUT);
        } else if progress.is_over() {
            self.recording = None;
        }
        if progress.has_begun() && self.status.is_none() {
            self.say_status(v1::RecordState::Started, String::new())
                .await?;
        }
        match progress.status() {
            Some((state, _)) if self.status == Some(state) => Ok(()),
            Some((state, description)) => self.say_status(state, description).await,
            None => Ok(()),
        }
    }

    async fn say_status(
        &mut self,
        state: v1::RecordState,
        description: String,
    ) -> Result<(), Status> {
        self.status = Some(state);
        let status = v1::RecordStatus {
            state: state.into(),
            description,
        };
        answer(self.answers, Response::Record(status)).await
    }

    /// The publisher has stopped: tells it when everything is stored.
    async fn stored(mut self) -> Result<(), Status> {
        let Some(mut recording) = self.recording.clone() else {
            return Ok(());
        };
        let over = recording.wait_for(Progress::is_over);
        if tokio::time::timeout(STORE_TIMEOUT, over).await.is_err() {
            tracing::warn!("the publisher is not kept any longer for what is not stored yet");
            return Ok(());
        }
        self.acknowledge().await?;
        self.tell_status().await
    }

    /// The caller has something to say.
    fn received(&mut self, message: v1::AppendRequest) -> Result<Turn, Status> {
        match message.request {
            Some(Request::Frames(batch)) => {
                self.append(batch)?;
                Ok(Turn::GoOn)
            }
            Some(Request::Alive(alive)) => {
                let id = self.guard.id;
                self.handle
                    .update(|log, now| log.probed(now, id, alive.token, alive.alive));
                Ok(Turn::GoOn)
            }
            Some(Request::Close(close)) => {
                let how = self.close(close)?;
                tracing::info!(?how, "publisher closes");
                let id = self.guard.id;
                let stops = how == CloseHow::Unpublished;
                self.handle.update(|log, now| log.close(now, id, how));
                Ok(if stops { Turn::Closed } else { Turn::Done })
            }
            Some(Request::Open(_)) => Err(Status::invalid_argument("the call is open already")),
            // Of a later version.
            None => Ok(Turn::GoOn),
        }
    }

    fn append(&mut self, batch: v1::FrameBatch) -> Result<(), Status> {
        let invalid = |error: &dyn std::error::Error| Status::invalid_argument(error.to_string());
        if batch.frames.len() > MAX_BATCH_FRAMES {
            return Err(Status::invalid_argument(format!(
                "{} frames in a batch, at most {MAX_BATCH_FRAMES} are allowed",
                batch.frames.len()
            )));
        }
        let epoch = Epoch(batch.epoch);
        let frames = wire::frames(epoch, batch.frames).map_err(|error| invalid(&error))?;
        let count = frames.len() as u64;
        let bytes: usize = frames.iter().map(|frame| frame.payload.len()).sum();
        let id = self.guard.id;
        match self
            .handle
            .update(|log, now| log.append(now, id, epoch, frames))
        {
            Ok(accepted) => {
                tracing::trace!(accepted, count, bytes, "frames");
                let metrics = self.service.logs.metrics();
                metrics.frames_in.inc_by(count);
                metrics.bytes_in.inc_by(bytes as u64);
                self.handle.metrics.bytes_in.inc_by(bytes as u64);
                Ok(())
            }
            Err(AppendError::NotAttached) if self.epoch.is_none() => Err(Status::invalid_argument(
                "frames before the publisher was accepted",
            )),
            // Lost the name a moment ago; why, is on its way.
            Err(AppendError::NotAttached) => Ok(()),
            Err(error @ (AppendError::WrongEpoch { .. } | AppendError::Hole { .. })) => {
                Err(invalid(&error))
            }
        }
    }

    fn close(&self, close: v1::AppendClose) -> Result<CloseHow, Status> {
        match v1::CloseReason::try_from(close.reason) {
            Ok(v1::CloseReason::Unpublished) => Ok(CloseHow::Unpublished),
            Ok(v1::CloseReason::Moved) => match close.moved {
                Some(moved) if !moved.owner.is_empty() => {
                    let address = if moved.address.is_empty() {
                        self.service.address(&moved.owner)
                    } else {
                        moved.address
                    };
                    let node = moved.owner;
                    Ok(CloseHow::Moved(Target { node, address }))
                }
                _ => Err(Status::invalid_argument("moved, but not where")),
            },
            Ok(v1::CloseReason::Unspecified) | Err(_) => {
                Err(Status::invalid_argument("closed without a reason"))
            }
        }
    }

    /// When the next acknowledgement is due, if there is something to acknowledge.
    fn acknowledgement_due(&self) -> Option<Instant> {
        if self.acknowledged == Some(self.progress()?) {
            return None;
        }
        Some(match self.last_acknowledged {
            Some(last) => last + ACKNOWLEDGE_INTERVAL,
            None => Instant::now(),
        })
    }

    /// The first sequences that are not accepted, not durable.
    fn progress(&self) -> Option<(u64, u64)> {
        let epoch = self.epoch?;
        let accepted = self.handle.look(|log| log.accepted_of(epoch));
        let recording = self.recording.as_ref();
        let durable = recording.map_or(accepted, |it| it.borrow().durable(accepted));
        Some((accepted, durable))
    }

    async fn acknowledge(&mut self) -> Result<(), Status> {
        let Some((accepted, durable)) = self.progress() else {
            return Ok(());
        };
        self.acknowledged = Some((accepted, durable));
        self.last_acknowledged = Some(Instant::now());
        let acknowledged = v1::Acknowledged { accepted, durable };
        answer(self.answers, Response::Acknowledged(acknowledged)).await
    }
}

fn rejected(refusal: Refusal) -> v1::AppendRejected {
    let (reason, description) = match refusal {
        Refusal::Busy => (v1::RejectReason::Busy, "somebody publishes under this name"),
        Refusal::BusyOpening => (
            v1::RejectReason::Busy,
            "another publisher asked for this name a moment ago",
        ),
        Refusal::Stale => (v1::RejectReason::Stale, "a later epoch exists"),
        Refusal::EpochFromTheFuture => (
            v1::RejectReason::Invalid,
            "the epoch is further ahead of the clock than any node could have given",
        ),
    };
    v1::AppendRejected {
        reason: reason.into(),
        description: description.to_owned(),
    }
}

/// A span in W3C form; empty without traces.
fn traceparent(span: &Span) -> String {
    let mut metadata = MetadataMap::new();
    propagation::inject_span(span, &mut metadata);
    metadata
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// Waits for news of a recording.
async fn changed(recording: Option<&mut watch::Receiver<Progress>>) {
    if let Some(recording) = recording
        && recording.changed().await.is_ok()
    {
        return;
    }
    // Its recorder is gone only with the origin.
    std::future::pending().await
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
