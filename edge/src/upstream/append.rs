//! The append of one published stream: from the session that publishes to the owner of the stream.
//!
//! ```text
//!            accepted                  link breaks, node silent
//! opening ------------> publishing ----------------------------> reopening (resume)
//!    | rejected             | moved, or a better owner: opens there, closes here    | accepted
//!    v                      v client stops                                          +--> publishing
//!   end                  closing -> end
//! ```
//!
//! Invariants: the client's media is taken at once and never waits for the network (it waits in the bounded window); the
//! client is told when its publishing began, was refused or was ended by the owner, what becomes of its recording, and nothing of
//! what happens between nodes.
//!
//! A recorded stream is not over when its client has left: what is not durable yet is kept, and goes to the next owner if this one
//! dies, until an owner says that it has it all, or for [`RECORDED_CLOSE_TIMEOUT`] at the longest.
//!
//! A task as long as its stream: what it does rarely (opening, reopening, moving) is boxed, so that it holds no room for it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use headwater_media::name::StreamName;
use headwater_proto::v1;
use headwater_proto::v1::append_request::Request as Ask;
use headwater_proto::v1::append_response::Response as Answer;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Instrument as _, info, warn};

use super::company::Company;
use super::publication::{Keep, Limits, Loss, MediaMessage, Publication};
use super::{Pause, Target, Upstream};

mod link;
mod open;
#[cfg(test)]
mod tests;

use link::{CLOSE_TIMEOUT, Link, OpenError, ask, call, finish, open_message};

/// How long an owner may take to accept or refuse. Longer than the two seconds that it may need to find out whether the
/// publisher before is still there.
const OPEN_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a better owner may take to accept a stream that is doing well where it is.
const MOVE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long a client waits for its first owner before it is refused.
const FIRST_OPEN_TIMEOUT: Duration = Duration::from_secs(8);
/// How long an owner may take no frame although some wait, before the call is made anew. The watch on the node finds a dead
/// node much sooner: this is for a call that hangs on a node that lives.
const STALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long after its client has left a recorded stream may take to become durable, other owners included. Some seconds of it may
/// have to be sent again, to one that has yet to find out what the store holds.
const RECORDED_CLOSE_TIMEOUT: Duration = Duration::from_secs(20);
/// Media messages numbered before the other things are looked at again.
const MESSAGES_PER_TURN: usize = 256;

/// What a session asks for.
pub(crate) struct PublishRequest {
    pub(crate) name: StreamName,
    pub(crate) mode: v1::PublishMode,
    /// How much of a recording is kept, in milliseconds. 0: all.
    pub(crate) record_window_ms: u64,
    /// The client's address, for the owner's logs.
    pub(crate) client: String,
}

/// What a session is told about its publishing.
#[derive(Debug)]
pub(crate) enum PublishEvent {
    /// Publishing began.
    Accepted,
    /// Publishing was refused; nothing more follows.
    Refused(Refusal),
    /// The owner ended it; nothing more follows.
    Stopped(String),
    /// The owner asks whether the client is still there: answer within the time.
    Probe {
        within: Duration,
        answer: oneshot::Sender<bool>,
    },
    /// What became of the recording that the client asked for. The live stream goes on.
    Record(v1::RecordStatus),
}

/// Why publishing was refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Somebody publishes under this name.
    Busy(String),
    /// A limit, or a request that the owner does not understand.
    Denied(String),
    /// No origin answers.
    NoOrigin,
}

/// How a call to an owner ended.
enum End {
    /// The client stopped, and the owner knows.
    Closed,
    /// The owner ended the stream or no longer accepts it.
    Stopped(String),
    /// The call broke.
    Broken,
}

/// What woke the loop that feeds an owner.
enum Happened {
    Media(Option<MediaMessage>),
    Answer(Result<Option<v1::AppendResponse>, tonic::Status>),
    /// The network takes another batch, or the call is over.
    Room {
        open: bool,
    },
    Cluster,
    /// What waited for company has waited long enough.
    Due,
    Late,
}

/// Appends until the session drops its sender of media (or goes away), or the owner ends it. Boxed: each hand that a future goes
/// through on its way to the runtime may keep room for it.
pub(crate) fn run(
    upstream: Arc<Upstream>,
    request: PublishRequest,
    media: mpsc::Receiver<MediaMessage>,
    events: mpsc::UnboundedSender<PublishEvent>,
) -> Pin<Box<impl Future<Output = ()> + Send>> {
    Box::pin(append(upstream, request, media, events))
}

async fn append(
    upstream: Arc<Upstream>,
    request: PublishRequest,
    media: mpsc::Receiver<MediaMessage>,
    events: mpsc::UnboundedSender<PublishEvent>,
) {
    let span = tracing::info_span!("append", stream = %request.name, client = request.client);
    let publishers = upstream.metrics.publishers.clone();
    publishers.inc();
    let appender = Appender {
        id: rand::random::<[u8; 16]>(),
        company: Company::new(Duration::from_millis(upstream.config.audio_wait_ms)),
        upstream,
        request,
        media,
        events,
        recording: None,
        give_up: None,
        short_of_room: false,
    };
    appender.run().instrument(span).await;
    publishers.dec();
}

struct Appender {
    upstream: Arc<Upstream>,
    /// The same for as long as the client publishes: tells a return from a second publisher.
    id: [u8; 16],
    request: PublishRequest,
    media: mpsc::Receiver<MediaMessage>,
    events: mpsc::UnboundedSender<PublishEvent>,
    company: Company,
    /// What the client was told last of its recording.
    recording: Option<v1::RecordState>,
    /// When to stop trying to make a recording durable, once its client has left.
    give_up: Option<Instant>,
    /// Frames are not kept until they are durable, and the log says so.
    short_of_room: bool,
}

impl Appender {
    async fn run(mut self) {
        let Some((mut link, mut publication)) = Box::pin(self.open_first()).await else {
            return;
        };
        let mut pause = Pause::new();
        loop {
            match self.publish(&mut link, &mut publication, &mut pause).await {
                End::Closed => return,
                End::Stopped(why) => {
                    info!(why, "the owner ended the publishing");
                    let _ = self.events.send(PublishEvent::Stopped(why));
                    return;
                }
                End::Broken => {
                    publication.hold();
                    match Box::pin(self.reopen(&mut publication, &mut pause)).await {
                        Some(opened) => link = opened,
                        None => return,
                    }
                }
            }
        }
    }

    /// Feeds one owner until the call ends. The link may be replaced by one to a better owner on the way.
    async fn publish(
        &mut self,
        link: &mut Link,
        publication: &mut Publication,
        pause: &mut Pause,
    ) -> End {
        let mut changes = self.upstream.cluster.changes();
        let mut media_open = true;
        // When the frames under way must have made progress.
        let mut deadline = Instant::now() + STALL_TIMEOUT;
        let mut closing: Option<Instant> = None;
        loop {
            // What is due goes as fast as the network takes it.
            let now = Instant::now();
            let due = publication.has_unsent().then(|| match media_open {
                true => self.company.due(now),
                false => now,
            });
            let is_due = due.is_some_and(|due| due <= now);
            while is_due && publication.has_unsent() {
                let Ok(permit) = link.requests.try_reserve() else {
                    break;
                };
                if publication.in_flight() == 0 {
                    deadline = Instant::now() + STALL_TIMEOUT;
                }
                let Some(batch) = publication.next_batch() else {
                    break;
                };
                permit.send(ask(Ask::Frames(batch)));
            }
            let has_unsent = publication.has_unsent();
            if !has_unsent {
                self.company.left();
            }
            self.count_lost(publication);
            if !media_open && closing.is_none() && !has_unsent {
                let close = v1::AppendClose {
                    reason: v1::CloseReason::Unpublished.into(),
                    moved: None,
                };
                if link.requests.send(ask(Ask::Close(close))).await.is_err() {
                    return End::Broken;
                }
                closing = Some(if publication.is_recorded() {
                    // Enough time for a slow store, and as much again for another owner.
                    self.give_up()
                        .min(Instant::now() + RECORDED_CLOSE_TIMEOUT / 2)
                } else {
                    Instant::now() + CLOSE_TIMEOUT
                });
            }
            let stuck = is_due && has_unsent;
            let waits = publication.in_flight() > 0 || stuck;
            let held = due.filter(|_| !is_due);
            let wake = closing.unwrap_or(deadline);
            let happened = tokio::select! {
                biased;
                message = self.media.recv(), if media_open => Happened::Media(message),
                answer = link.responses.message() => Happened::Answer(answer),
                permit = link.requests.reserve(), if stuck => {
                    // Dropped again: the top of the loop fills it.
                    Happened::Room { open: permit.is_ok() }
                }
                _ = changes.changed() => Happened::Cluster,
                () = tokio::time::sleep_until(held.unwrap_or(now)), if held.is_some() => Happened::Due,
                () = tokio::time::sleep_until(wake), if waits || closing.is_some() => Happened::Late,
            };
            match happened {
                Happened::Media(Some(message)) => self.take(message, publication),
                Happened::Media(None) => media_open = false,
                Happened::Answer(Ok(Some(answer))) => {
                    deadline = Instant::now() + STALL_TIMEOUT;
                    // Once its client has left, a stream comes back less and less often.
                    if media_open {
                        pause.reset();
                    }
                    match answer.response {
                        Some(Answer::Acknowledged(acknowledged)) => {
                            let keep = self.keep(&link.target);
                            publication.acknowledge(&acknowledged, keep);
                            self.short_of_room &= publication.is_short_of_room();
                        }
                        Some(Answer::Moved(moved)) => {
                            let target = self.upstream.named(&self.request.name, &moved);
                            if Box::pin(self.hand_over(link, publication, target)).await {
                                // The new owner has to be told, too, that the client stopped.
                                closing = None;
                            }
                        }
                        Some(Answer::Probe(probe)) => self.answer_probe(link, &probe),
                        Some(Answer::Stopped(stopped)) => return End::Stopped(stopped.description),
                        Some(Answer::Rejected(rejected)) => {
                            return End::Stopped(rejected.description);
                        }
                        Some(Answer::Record(status)) => self.tell_recording(status),
                        Some(Answer::Accepted(_)) | None => {}
                    }
                }
                Happened::Answer(Ok(None)) if closing.is_some() => {
                    let end = self.end_of_closed(publication);
                    if matches!(end, End::Broken) {
                        info!(node = %link.target.node, "the owner has let go of a recording that is not durable");
                        // It may take the stream again at once, and let go of it again.
                        self.wait_meanwhile(publication, pause).await;
                    }
                    return end;
                }
                Happened::Answer(Ok(None)) => return End::Broken,
                Happened::Answer(Err(status)) => {
                    if closing.is_some() && publication.is_settled() {
                        return End::Closed;
                    }
                    info!(node = %link.target.node, %status, "the append broke");
                    self.upstream.cluster.report_failure(&link.target.node);
                    return End::Broken;
                }
                Happened::Room { open: true } | Happened::Due => {}
                Happened::Room { open: false } => return End::Broken,
                Happened::Cluster => {
                    if !self.upstream.answers(&link.target.node) {
                        info!(node = %link.target.node, "the owner does not answer");
                        return End::Broken;
                    }
                    if closing.is_none() {
                        let better = self.upstream.target(&self.request.name);
                        Box::pin(self.hand_over(link, publication, better)).await;
                    }
                }
                Happened::Late if closing.is_some() => return self.end_of_closed(publication),
                Happened::Late => {
                    warn!(node = %link.target.node, "the owner takes no frames");
                    return End::Broken;
                }
            }
        }
    }

    fn take(&mut self, message: MediaMessage, publication: &mut Publication) {
        let now = Instant::now();
        self.take_one(message, publication, now);
        for _ in 1..MESSAGES_PER_TURN {
            let Ok(message) = self.media.try_recv() else {
                break;
            };
            self.take_one(message, publication, now);
        }
    }

    fn take_one(&mut self, message: MediaMessage, publication: &mut Publication, now: Instant) {
        self.upstream.metrics.frames_published.inc();
        self.company.came(message.kind, message.flags, now);
        publication.push(message);
    }

    /// What to keep of what an owner has.
    fn keep(&self, owner: &Target) -> Keep {
        if self.upstream.lives_and_dies_with(&owner.node) {
            Keep::Unacknowledged
        } else {
            Keep::Window
        }
    }

    /// When to stop trying to make a recording durable: its client has left.
    fn give_up(&mut self) -> Instant {
        *self
            .give_up
            .get_or_insert_with(|| Instant::now() + RECORDED_CLOSE_TIMEOUT)
    }

    /// What the end is of a call whose owner knows that the client has left: the owner ended it, or did not in time.
    fn end_of_closed(&self, publication: &Publication) -> End {
        let is_over = self.give_up.is_none_or(|end| Instant::now() >= end);
        if publication.is_settled() || !publication.is_recorded() {
            return End::Closed;
        }
        if is_over {
            warn!("the end of a recording may be lost: no owner has made it durable in time");
            return End::Closed;
        }
        End::Broken
    }

    /// Tells the client what became of its recording. What happens between nodes is none of its business: a new owner that begins
    /// where the one before broke off is not.
    fn tell_recording(&mut self, status: v1::RecordStatus) {
        let state = status.state();
        if self.recording.replace(state) != Some(state) {
            let _ = self.events.send(PublishEvent::Record(status));
        }
    }

    fn count_lost(&mut self, publication: &mut Publication) {
        let Loss {
            unsent,
            not_durable,
        } = publication.take_loss();
        let metrics = &self.upstream.metrics;
        if unsent > 0 {
            warn!(
                lost = unsent,
                "frames are lost: no owner took them, and the window is full"
            );
            metrics.frames_lost.inc_by(unsent);
        }
        if not_durable > 0 {
            metrics.frames_not_durable.inc_by(not_durable);
            // Once for as long as it lasts: it is said of each frame.
            if !std::mem::replace(&mut self.short_of_room, true) {
                warn!(
                    "the store is slow: frames leave the window before they are durable, and are lost if their owner dies now"
                );
            }
        }
    }

    fn answer_probe(&self, link: &Link, probe: &v1::ProbePublisher) {
        let (answer, alive) = oneshot::channel();
        let within = Duration::from_millis(probe.timeout_ms.into());
        let _ = self.events.send(PublishEvent::Probe { within, answer });
        let token = probe.token;
        let requests = link.requests.clone();
        // Ends by itself: the session answers within the time or is gone.
        tokio::spawn(async move {
            let alive = alive.await.unwrap_or(false);
            let _ = requests
                .send(ask(Ask::Alive(v1::PublisherAlive { token, alive })))
                .await;
        });
    }
}
