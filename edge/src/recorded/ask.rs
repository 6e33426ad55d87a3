//! Questions to origins: which one, how long, how often, how many at once.
//!
//! Every question is idempotent. It goes to the owner of the stream as this edge sees it; `Moved` is followed once, and where a node
//! does not answer, or its store does not, the question is asked again after a pause, until patience ends or nobody waits for the answer.
//! A call that is under way then is let come to its end: an origin that is called and left in the lurch by the hundred takes that for an
//! attack, and ends the connection that all share.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::{NodeId, ring, wire};
use headwater_media::name::StreamName;
use headwater_node::telemetry::propagation;
use headwater_proto::v1;
use headwater_proto::v1::describe_response::Response as Described;
use headwater_proto::v1::fetch_response::Response as Fetched;
use headwater_proto::v1::recordings_client::RecordingsClient;
use headwater_proto::v1::set_stream_info_response::Response as InfoSet;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tracing::{debug, info, warn};

use super::model::{Description, Place, RecordedError};
use super::piece::Piece;
use crate::config::RecordedSection;
use crate::upstream::{Pause, Target, Upstream};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    /// With what an encoder said, or without.
    Describe {
        with_info: bool,
    },
    Fetch {
        generation: u64,
        place: Place,
    },
    /// Not quite a question: what an encoder says, to be kept.
    SetInfo(v1::StreamInfo),
}

/// What was answered.
pub(super) enum Answer {
    Description(Description),
    Piece(Arc<Piece>),
    /// The answer came while the question waited, with the answer to another one.
    Cached(Arc<Piece>),
    /// It is kept; what there is under the name now, if that is known.
    InfoSet(Option<Description>),
}

/// What became of one try.
enum Outcome {
    Answer(Answer),
    Moved(v1::Moved),
    /// Asking again changes nothing.
    Final(RecordedError),
    /// Asking again may help.
    Again(RecordedError),
    /// Nobody waits for the answer.
    Abandoned,
}

/// How many questions may be under way.
pub(super) struct Bounds {
    all: Arc<Semaphore>,
    each: usize,
    origins: Mutex<HashMap<NodeId, Arc<Semaphore>>>,
}

impl Bounds {
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            each: each.min(Semaphore::MAX_PERMITS),
            origins: Mutex::default(),
        }
    }

    /// Whether a question would have to wait, at whatever origin.
    pub(super) fn is_exhausted(&self) -> bool {
        self.all.available_permits() == 0
    }

    /// Waits for a place, first at the origin: one that hangs must not hold places that others could use.
    async fn enter(&self, upstream: &Upstream, node: &NodeId) -> Option<[OwnedSemaphorePermit; 2]> {
        let origin = self.origin(upstream, node).acquire_owned().await.ok()?;
        let any = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some([origin, any])
    }

    fn origin(&self, upstream: &Upstream, node: &NodeId) -> Arc<Semaphore> {
        let mut origins = self.origins.lock();
        if let Some(origin) = origins.get(node) {
            return Arc::clone(origin);
        }
        // Members come and go; those that left are done with.
        let view = upstream.cluster.view();
        origins.retain(|known, _| view.member(known.as_str()).is_some());
        let origin = origins.entry(node.clone());
        Arc::clone(origin.or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

/// Whoever asks.
pub(super) struct Asker {
    pub(super) upstream: Arc<Upstream>,
    fetches: Bounds,
    describes: Bounds,
    call_timeout: Duration,
    patience: Duration,
}

impl Asker {
    pub(super) fn new(upstream: Arc<Upstream>, section: &RecordedSection) -> Self {
        let bounds = || Bounds::new(section.max_fetches, section.max_fetches_per_origin);
        Self {
            upstream,
            fetches: bounds(),
            describes: bounds(),
            call_timeout: Duration::from_millis(section.call_timeout_ms),
            patience: Duration::from_millis(section.patience_ms),
        }
    }

    /// Whether a fetch would have to wait.
    pub(super) fn is_busy(&self) -> bool {
        self.fetches.is_exhausted()
    }

    /// Whether no origin can be reached that could be asked about a name.
    pub(super) fn is_cut_off(&self, name: &StreamName) -> bool {
        self.upstream.target(name).is_none()
    }

    /// Asks until there is an answer, or patience ends. `here` is looked at before each call: the answer may have come meanwhile,
    /// with the answer to another question. `None` if nobody waits any more, as `abandoned` tells by its end, before there is one.
    pub(super) async fn ask(
        &self,
        name: &StreamName,
        question: Question,
        here: impl Fn() -> Option<Answer> + Send + Sync,
        abandoned: impl Future<Output = ()> + Send,
    ) -> Option<Result<Answer, RecordedError>> {
        tokio::pin!(abandoned);
        let deadline = Instant::now() + self.patience;
        let mut pause = Pause::new();
        let mut followed: Option<Target> = None;
        let mut why = RecordedError::unavailable("no origin can be reached");
        loop {
            let was_named = followed.is_some();
            let target = followed.take().or_else(|| self.upstream.target(name));
            if let Some(target) = target {
                let gone = abandoned.as_mut();
                let outcome = self.attempt(name, question, &target, deadline, &here, gone);
                match outcome.await {
                    Outcome::Answer(answer) => return Some(Ok(answer)),
                    Outcome::Final(error) => return Some(Err(error)),
                    Outcome::Abandoned => return None,
                    Outcome::Again(error) => why = error,
                    Outcome::Moved(moved) if !was_named => {
                        debug!(owner = moved.owner, "asking elsewhere");
                        followed = self.upstream.named(name, &moved);
                        if followed.is_some() {
                            continue;
                        }
                    }
                    Outcome::Moved(_) => {}
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let waited = tokio::select! {
                waited = tokio::time::timeout(left, pause.wait(&self.upstream)) => waited,
                () = abandoned.as_mut() => return None,
            };
            if waited.is_err() {
                return Some(Err(why));
            }
        }
    }

    /// One call.
    async fn attempt(
        &self,
        name: &StreamName,
        question: Question,
        target: &Target,
        deadline: Instant,
        here: &(impl Fn() -> Option<Answer> + Send + Sync),
        abandoned: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Outcome {
        let bounds = match question {
            Question::Describe { .. } | Question::SetInfo(_) => &self.describes,
            Question::Fetch { .. } => &self.fetches,
        };
        let lost = self.upstream.lost(&target.node);
        tokio::pin!(lost);
        let place = bounds.enter(&self.upstream, &target.node);
        let place = tokio::select! {
            place = tokio::time::timeout_at(deadline, place) => place,
            () = &mut lost => return again("the origin does not answer"),
            () = abandoned => return Outcome::Abandoned,
        };
        let Ok(Some(_place)) = place else {
            return Outcome::Again(RecordedError::limit("too many calls to the origin"));
        };
        if let Some(answer) = here() {
            return Outcome::Answer(answer);
        }
        let Some(client) = self.client(target, name) else {
            return again("the origin has no address");
        };
        let call = async {
            match question {
                Question::Describe { with_info } => {
                    self.describe(client, name, target, with_info).await
                }
                Question::SetInfo(info) => self.set_info(client, name, target, info).await,
                Question::Fetch { generation, place } => {
                    self.fetch(client, name, target, generation, place).await
                }
            }
        };
        // Not before one whole call was tried: patience may be short.
        let until = Instant::now() + self.call_timeout;
        let outcome = tokio::select! {
            outcome = tokio::time::timeout_at(until, call) => outcome,
            () = &mut lost => return again("the origin does not answer"),
        };
        match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(status)) => self.failed(question, target, &status),
            Err(_) => {
                info!(node = %target.node, ?question, "the origin did not answer in time");
                again("the origin does not answer in time")
            }
        }
    }

    fn failed(&self, question: Question, target: &Target, status: &Status) -> Outcome {
        match status.code() {
            // A node of before recordings could be asked for: nothing is stored there.
            Code::Unimplemented => match question {
                Question::Describe { .. } => {
                    Outcome::Answer(Answer::Description(Description::NOTHING))
                }
                Question::SetInfo(_) => Outcome::Final(RecordedError::unavailable(
                    "the origin is of a version that keeps no stream info",
                )),
                Question::Fetch { .. } => Outcome::Final(RecordedError::NotFound),
            },
            Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted => {
                warn!(node = %target.node, ?question, %status, "the origin does not take the question");
                Outcome::Final(RecordedError::unavailable(
                    "the origin does not take the question",
                ))
            }
            _ => {
                debug!(node = %target.node, ?question, %status, "the call broke");
                self.upstream.cluster.report_failure(&target.node);
                again("the origin does not answer")
            }
        }
    }

    async fn describe(
        &self,
        mut client: RecordingsClient<Channel>,
        name: &StreamName,
        target: &Target,
        with_info: bool,
    ) -> Result<Outcome, Status> {
        let request = self.request(v1::DescribeRequest {
            name: Some(wire::to_name(name)),
            routing: Some(self.upstream.routing(target)),
            edge: self.upstream.node.clone(),
            with_info,
        });
        self.upstream.metrics.recorded.described();
        let response = client.describe(request).await?.into_inner();
        Ok(match response.response {
            Some(Described::Description(description)) => {
                Outcome::Answer(Answer::Description(Description::from_wire(&description)))
            }
            Some(Described::Moved(moved)) => Outcome::Moved(moved),
            Some(Described::Rejected(rejected)) => match refusal(&rejected) {
                // In an answer to this question it is no error.
                Outcome::Final(RecordedError::NotFound) => {
                    Outcome::Answer(Answer::Description(Description::NOTHING))
                }
                other => other,
            },
            None => again("the origin gives an answer that this edge does not know"),
        })
    }

    async fn fetch(
        &self,
        mut client: RecordingsClient<Channel>,
        name: &StreamName,
        target: &Target,
        generation: u64,
        place: Place,
    ) -> Result<Outcome, Status> {
        let request = self.request(v1::FetchRequest {
            name: Some(wire::to_name(name)),
            generation,
            position: Some(place.to_wire()),
            routing: Some(self.upstream.routing(target)),
            edge: self.upstream.node.clone(),
        });
        let response = client.fetch(request).await?.into_inner();
        Ok(match response.response {
            Some(Fetched::Piece(piece)) => {
                let other = generation != 0 && piece.generation != generation;
                match Piece::from_wire(piece, self.upstream.chunk_size) {
                    _ if other => Outcome::Final(RecordedError::Replaced),
                    Ok(piece) => Outcome::Answer(Answer::Piece(Arc::new(piece))),
                    Err(error) => {
                        warn!(node = %target.node, %error, "the origin gives what it must not");
                        Outcome::Final(RecordedError::unavailable("the origin gives no piece"))
                    }
                }
            }
            Some(Fetched::Moved(moved)) => Outcome::Moved(moved),
            Some(Fetched::Rejected(rejected)) => refusal(&rejected),
            None => again("the origin gives an answer that this edge does not know"),
        })
    }

    async fn set_info(
        &self,
        mut client: RecordingsClient<Channel>,
        name: &StreamName,
        target: &Target,
        info: v1::StreamInfo,
    ) -> Result<Outcome, Status> {
        let request = self.request(v1::SetStreamInfoRequest {
            name: Some(wire::to_name(name)),
            info: Some(info),
            routing: Some(self.upstream.routing(target)),
            edge: self.upstream.node.clone(),
        });
        let response = client.set_stream_info(request).await?.into_inner();
        Ok(match response.response {
            Some(InfoSet::Set(set)) => {
                let description = set.description.as_ref().map(Description::from_wire);
                Outcome::Answer(Answer::InfoSet(description))
            }
            Some(InfoSet::Moved(moved)) => Outcome::Moved(moved),
            Some(InfoSet::Rejected(rejected)) => refusal(&rejected),
            None => again("the origin gives an answer that this edge does not know"),
        })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        // The origin need not work for a caller that is gone.
        request.set_timeout(self.call_timeout);
        propagation::inject(request.metadata_mut());
        request
    }

    fn client(&self, target: &Target, name: &StreamName) -> Option<RecordingsClient<Channel>> {
        let hash = ring::stream_hash(name);
        let channel = self.upstream.cluster.channel(&target.node, hash).ok()?;
        let most = headwater_cluster::channel::MAX_MESSAGE_BYTES;
        Some(
            RecordingsClient::new(channel)
                .max_decoding_message_size(most)
                .max_encoding_message_size(most),
        )
    }
}

fn again(why: &str) -> Outcome {
    Outcome::Again(RecordedError::unavailable(why))
}

fn refusal(rejected: &v1::RecordingRejected) -> Outcome {
    let why: Arc<str> = rejected.description.as_str().into();
    match rejected.reason() {
        v1::RecordingReason::NotFound => Outcome::Final(RecordedError::NotFound),
        v1::RecordingReason::Replaced => Outcome::Final(RecordedError::Replaced),
        v1::RecordingReason::StructureInvalid => {
            Outcome::Final(RecordedError::StructureInvalid(why))
        }
        v1::RecordingReason::NoSupportedTrack => {
            Outcome::Final(RecordedError::NoSupportedTrack(why))
        }
        v1::RecordingReason::Invalid | v1::RecordingReason::Unspecified => {
            warn!(reason = ?rejected.reason(), %why, "the origin refuses the question");
            Outcome::Final(RecordedError::Unavailable(why))
        }
        v1::RecordingReason::Unavailable => Outcome::Again(RecordedError::Unavailable(why)),
        v1::RecordingReason::Limit => Outcome::Again(RecordedError::Limit(why)),
    }
}
