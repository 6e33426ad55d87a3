//! One reader's call: what stands in the log from its position on, as long as it stays.
//!
//! Everything that is there goes out in one message, up to [`MAX_FRAMES`] and [`MAX_BYTES`]; a lone frame goes at once. The log
//! is only asked when there is room for the answer, so a slow reader holds no more than two messages, and finds out about a
//! gap when it is ready to hear of it.
//!
//! A status may come again after a reader opened anew at its offset: the origin does not know what it was told elsewhere.

use headwater_node::telemetry::propagation;
use headwater_proto::v1;
use headwater_proto::v1::read_request::Request;
use headwater_proto::v1::read_response::Response;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};
use tracing::{Instrument, Span};

use super::wire::{self, Malformed};
use super::{Serve, StreamLogService, first, not_opened, relay};
use crate::log::table::{Full, LogLease, ReaderGuard, unix_millis};
use crate::log::{Item, Opened, Reader, Refusal, Start};

/// Most frames in one message.
const MAX_FRAMES: usize = 256;

/// Most payload bytes in one message, unless a single frame is larger.
const MAX_BYTES: usize = 1 << 20;

type Answers = mpsc::Sender<Result<v1::ReadResponse, Status>>;

pub(super) async fn serve(
    service: StreamLogService,
    metadata: MetadataMap,
    inbound: Streaming<v1::ReadRequest>,
    answers: Answers,
) -> Result<(), Status> {
    // Boxed, because it is large and soon over, and what follows lasts as long as the reader stays.
    let admitted = Box::pin(admit(&service, metadata, inbound, &answers)).await?;
    match admitted {
        Some(admitted) => {
            let life = admitted.life.clone();
            let following = follow(&service, &answers, admitted);
            following.instrument(life).await
        }
        None => Ok(()),
    }
}

/// A call whose stream belongs here.
struct Admitted {
    lease: LogLease,
    _counted: ReaderGuard,
    life: Span,
    opening: Span,
    start: Start,
    caller: Caller,
}

/// Takes the open of a call and finds out who serves it. `None`: all is said and done.
async fn admit(
    service: &StreamLogService,
    metadata: MetadataMap,
    mut inbound: Streaming<v1::ReadRequest>,
    answers: &Answers,
) -> Result<Option<Admitted>, Status> {
    let Some(Request::Open(mut open)) = first(&mut inbound).await?.request else {
        return Err(not_opened());
    };
    let checked = wire::name(open.name.as_ref()).and_then(|name| {
        let routing = wire::routing(open.routing.take())?;
        Ok((name, routing, wire::start(open.position)?))
    });
    let (name, routing, start) = match checked {
        Ok(checked) => checked,
        Err(malformed) => return reject(service, answers, invalid(&malformed)).await,
    };
    let edge = wire::shortened(&open.edge);
    let opening = tracing::info_span!("read", stream = %name, edge);
    propagation::set_parent(&opening, &metadata);
    let life = tracing::info_span!("reader", stream = %name, edge);
    let admitting = async {
        match service.place(&name, &routing)? {
            Serve::Moved(moved) => {
                answer(answers, Response::Moved(moved)).await;
                Ok(None)
            }
            Serve::Relay(member) => {
                open.routing = Some(routing);
                let answers = answers.clone();
                relay::read(service, &name, &member, opening, open, inbound, answers).await?;
                Ok(None)
            }
            Serve::Here => {
                let lease = match service.logs.lease(&name) {
                    Ok(lease) => lease,
                    Err(full) => return reject(service, answers, limit(full)).await,
                };
                let counted = match service.logs.admit_reader(&lease) {
                    Ok(counted) => counted,
                    Err(full) => return reject(service, answers, limit(full)).await,
                };
                Ok(Some(Admitted {
                    lease,
                    _counted: counted,
                    life: life.clone(),
                    opening,
                    start,
                    caller: Caller::Speaking(Box::new(inbound)),
                }))
            }
        }
    };
    admitting.instrument(life.clone()).await
}

async fn follow(
    service: &StreamLogService,
    answers: &Answers,
    admitted: Admitted,
) -> Result<(), Status> {
    let Admitted {
        lease,
        _counted,
        life: _,
        opening,
        start,
        mut caller,
    } = admitted;
    let handle = &lease.handle;
    let mut version = handle.version();
    let wall_clock = unix_millis();
    let opened = handle.update(|log, now| {
        let (reader, opened) = log.open_reader(now, wall_clock, start)?;
        let trace = log.trace_of(opened.epoch).to_owned();
        Ok::<_, Refusal>((reader, opened, trace))
    });
    let Ok((mut reader, opened, trace)) = opened else {
        let rejected = v1::ReadRejected {
            reason: v1::RejectReason::Invalid.into(),
            description: "the epoch is further ahead of the clock than any node could have given"
                .to_owned(),
        };
        reject(service, answers, rejected).await?;
        return Ok(());
    };
    opening.in_scope(|| tracing::debug!(?start, publishing = opened.publishing, "reader opens"));
    drop(opening);
    answer(answers, Response::Opened(to_opened(opened, trace))).await;
    loop {
        let Ok(permit) = answers.reserve().await else {
            return Ok(());
        };
        // Before looking, so that no change goes unseen.
        version.mark_unchanged();
        let found = handle.look(|log| {
            let now = Instant::now().into_std();
            let item = log.read(now, &mut reader, MAX_FRAMES, MAX_BYTES)?;
            let trace = match &item {
                Item::Published(epoch) => log.trace_of(*epoch).to_owned(),
                _ => String::new(),
            };
            Some((item, trace))
        });
        let Some((item, trace)) = found else {
            drop(permit);
            tokio::select! {
                // The sender is in the handle.
                _ = version.changed() => {}
                () = timeout(&reader) => {}
                spoken = caller.next() => spoken?,
            }
            continue;
        };
        note(service, &lease, &item);
        let last = matches!(item, Item::Moved(_) | Item::Stale);
        permit.send(Ok(wire::to_response(item, service.ring_version(), trace)));
        if last {
            return Ok(());
        }
    }
}

/// What the reader's end of the call does: nothing, until it leaves.
enum Caller {
    Speaking(Box<Streaming<v1::ReadRequest>>),
    /// It said that nothing more comes. It reads on.
    Silent,
}

impl Caller {
    async fn next(&mut self) -> Result<(), Status> {
        let Self::Speaking(inbound) = self else {
            return std::future::pending().await;
        };
        match inbound.message().await? {
            Some(v1::ReadRequest {
                request: Some(Request::Open(_)),
            }) => Err(Status::invalid_argument("the call is open already")),
            // Of a later version.
            Some(v1::ReadRequest { request: None }) => Ok(()),
            None => {
                *self = Self::Silent;
                Ok(())
            }
        }
    }
}

async fn timeout(reader: &Reader) {
    match reader.poll_timeout() {
        Some(at) => tokio::time::sleep_until(Instant::from_std(at)).await,
        None => std::future::pending().await,
    }
}

/// Counts and logs what a reader is given.
fn note(service: &StreamLogService, lease: &LogLease, item: &Item) {
    let metrics = service.logs.metrics();
    match item {
        Item::Frames(frames) => {
            let bytes: usize = frames.iter().map(|frame| frame.payload.len()).sum();
            metrics.frames_out.inc_by(frames.len() as u64);
            metrics.bytes_out.inc_by(bytes as u64);
            lease.handle.metrics.bytes_out.inc_by(bytes as u64);
        }
        Item::Gap { from, to, lost, .. } => {
            if *lost {
                metrics.gaps.inc();
            }
            tracing::debug!(%from, %to, lost, "reader jumps");
        }
        Item::Moved(target) => {
            metrics.moves.inc();
            tracing::debug!(to = target.node, "reader is sent away");
        }
        Item::Stale => tracing::info!("reader knows a later epoch than is published here"),
        Item::Published(_) | Item::Unpublished(_) => {}
    }
}

fn to_opened(opened: Opened, traceparent: String) -> v1::ReadOpened {
    v1::ReadOpened {
        publishing: opened.publishing,
        epoch: opened.epoch.0,
        preface: wire::to_frames(&opened.preface),
        traceparent: if opened.publishing {
            traceparent
        } else {
            String::new()
        },
    }
}

fn invalid(malformed: &Malformed) -> v1::ReadRejected {
    v1::ReadRejected {
        reason: v1::RejectReason::Invalid.into(),
        description: malformed.to_string(),
    }
}

fn limit(full: Full) -> v1::ReadRejected {
    v1::ReadRejected {
        reason: v1::RejectReason::Limit.into(),
        description: full.to_string(),
    }
}

async fn reject(
    service: &StreamLogService,
    answers: &Answers,
    rejected: v1::ReadRejected,
) -> Result<Option<Admitted>, Status> {
    service.logs.metrics().refused.inc();
    answer(answers, Response::Rejected(rejected)).await;
    Ok(None)
}

async fn answer(answers: &Answers, response: Response) {
    let response = v1::ReadResponse {
        response: Some(response),
    };
    // Err: the caller is gone.
    let _ = answers.send(Ok(response)).await;
}
