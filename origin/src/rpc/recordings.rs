//! What is stored of streams, piece by piece: `Recordings` of `proto/headwater/v1/recording.proto`.
//!
//! Who serves a call is decided as in [`super`]. What stands under a name:
//! 1. a recording, as long as it is made and until it is a file ([`RecordingIndex`]),
//! 2. a media file ([`crate::vod`]).
//!
//! A fetch that names a generation gets the piece of whichever of the two has it: who watches a file is not torn from it because
//! somebody begins to record under its name, only when the file is gone.
//!
//! A file's frames are of epoch [`FILE_EPOCH`], and their sequence is their position in the file.
//!
//! While somebody publishes, a store that is slow or broken keeps nobody from watching: `Describe` then says that nothing is stored.
//! Nor does it keep anybody from a file that is open here.
//!
//! Bounds: the calls at a time, see [`crate::VodSection`]; the time of an answer; the size of a piece.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::Member;
use headwater_cluster::channel::MAX_MESSAGE_BYTES;
use headwater_media::frame::Epoch;
use headwater_media::name::StreamName;
use headwater_node::telemetry::propagation;
use headwater_proto::v1;
use headwater_proto::v1::describe_response::Response as Described;
use headwater_proto::v1::fetch_request::Position;
use headwater_proto::v1::fetch_response::Response as Fetched;
use headwater_proto::v1::recordings_server::{Recordings, RecordingsServer};
use headwater_proto::v1::set_stream_info_response::Response as InfoSet;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use tracing::{Instrument, Span};

pub(super) use file::to_piece;
use file::to_stored;

use super::wire::{self, Malformed};
use super::{Serve, StreamLogService};
use crate::vod::library::{At, Library, OpenFile, VodError};
use crate::vod::metrics::VodMetrics;

mod file;
mod relay;

/// The epoch of a file's frames: publishers get greater ones.
pub(super) const FILE_EPOCH: Epoch = Epoch(1);

/// How long a description waits for the store while somebody publishes: a viewer is waiting for the live stream. The same for what may
/// be recorded under the name of a file that is open.
pub(super) const LIVE_PATIENCE: Duration = Duration::from_millis(500);

/// Payload bytes of a piece, at most: with room for what else is in the message. A piece is much smaller, but for a single frame.
pub(super) const MAX_PIECE_BYTES: usize = MAX_MESSAGE_BYTES - (4 << 20);

/// Frames of a piece, at most: they cost some bytes each, also where their payloads are empty.
pub(super) const MAX_PIECE_FRAMES: usize = 65_536;

/// Recordings that are not files, or not yet.
#[tonic::async_trait]
pub(crate) trait RecordingIndex: Send + Sync + 'static {
    /// What is recorded under a name.
    async fn find(&self, name: &StreamName) -> Result<Option<Arc<dyn Recording>>, Rejection>;

    /// What an encoder said of a stream.
    async fn info(&self, name: &StreamName) -> Result<Option<v1::StreamInfo>, Rejection>;

    /// The same as far as it is known here, without asking the store.
    fn last_info(&self, name: &StreamName) -> Option<v1::StreamInfo>;

    /// Keeps what an encoder says.
    async fn set_info(&self, name: &StreamName, info: &v1::StreamInfo) -> Result<(), Rejection>;
}

/// A recording that grows, or that is not a file yet.
#[tonic::async_trait]
pub(crate) trait Recording: Send + Sync {
    /// What there is of it now.
    fn stored(&self) -> v1::Stored;

    /// The piece that begins there, or holds that time.
    async fn piece(&self, position: Position) -> Result<v1::Piece, Rejection>;
}

/// Why a call is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) reason: v1::RecordingReason,
    pub(crate) description: String,
}

/// What the calls of one origin share.
#[derive(Clone)]
pub(crate) struct RecordingsService {
    pub(crate) streams: StreamLogService,
    /// `None`: nothing is recorded here.
    pub(crate) recordings: Option<Arc<dyn RecordingIndex>>,
    pub(crate) library: Library,
    pub(crate) metrics: VodMetrics,
    /// How long the store may take for an answer.
    patience: Duration,
    calls: Arc<Semaphore>,
}

impl RecordingsService {
    pub(crate) fn new(
        streams: StreamLogService,
        recordings: Option<Arc<dyn RecordingIndex>>,
        library: Library,
        metrics: VodMetrics,
        max_calls: usize,
    ) -> Self {
        Self {
            streams,
            recordings,
            patience: library.patience(),
            library,
            metrics,
            calls: Arc::new(Semaphore::new(max_calls.min(Semaphore::MAX_PERMITS))),
        }
    }

    pub(crate) fn into_server(self) -> RecordingsServer<Self> {
        RecordingsServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

impl fmt::Debug for RecordingsService {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RecordingsService")
            .finish_non_exhaustive()
    }
}

#[tonic::async_trait]
impl Recordings for RecordingsService {
    async fn describe(
        &self,
        request: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeResponse>, Status> {
        let (metadata, _, mut request) = request.into_parts();
        let answer = |response| {
            Ok(Response::new(v1::DescribeResponse {
                response: Some(response),
            }))
        };
        let call = match Call::check(request.name.as_ref(), request.routing.take()) {
            Ok(call) => call,
            Err(malformed) => return answer(Described::Rejected(self.reject(malformed.into()))),
        };
        let edge = wire::shortened(&request.edge);
        let span = tracing::info_span!("describe", stream = %call.name, edge);
        let serving = async {
            match self.admit(&call)? {
                Admitted::Here(_permit) => match self.told(&call.name, request.with_info).await {
                    Ok(description) => answer(Described::Description(description)),
                    Err(rejection) => answer(Described::Rejected(self.reject(rejection))),
                },
                Admitted::Moved(moved) => answer(Described::Moved(moved)),
                Admitted::Full(rejection) => answer(Described::Rejected(self.reject(rejection))),
                Admitted::Relay(owner, _permit) => {
                    relay::describe(&self.streams, &call, &owner, request.clone()).await
                }
            }
        };
        self.serve(&span, &metadata, serving).await
    }

    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::FetchResponse>, Status> {
        let (metadata, _, mut request) = request.into_parts();
        let answer = |response| {
            Ok(Response::new(v1::FetchResponse {
                response: Some(response),
            }))
        };
        let checked = Call::check(request.name.as_ref(), request.routing.take())
            .and_then(|call| Ok((call, request.position.ok_or(Malformed::NoPosition)?)));
        let (call, position) = match checked {
            Ok(checked) => checked,
            Err(malformed) => return answer(Fetched::Rejected(self.reject(malformed.into()))),
        };
        let edge = wire::shortened(&request.edge);
        let span = tracing::info_span!("fetch", stream = %call.name, edge);
        let serving = async {
            match self.admit(&call)? {
                Admitted::Here(_permit) => {
                    let piece = self.piece(&call.name, request.generation, position);
                    match piece.await {
                        Ok(piece) => answer(Fetched::Piece(piece)),
                        Err(rejection) => answer(Fetched::Rejected(self.reject(rejection))),
                    }
                }
                Admitted::Moved(moved) => answer(Fetched::Moved(moved)),
                Admitted::Full(rejection) => answer(Fetched::Rejected(self.reject(rejection))),
                Admitted::Relay(owner, _permit) => {
                    relay::fetch(&self.streams, &call, &owner, request.clone()).await
                }
            }
        };
        self.serve(&span, &metadata, serving).await
    }

    async fn set_stream_info(
        &self,
        request: Request<v1::SetStreamInfoRequest>,
    ) -> Result<Response<v1::SetStreamInfoResponse>, Status> {
        let (metadata, _, mut request) = request.into_parts();
        let answer = |response| {
            Ok(Response::new(v1::SetStreamInfoResponse {
                response: Some(response),
            }))
        };
        let checked = Call::check(request.name.as_ref(), request.routing.take())
            .and_then(|call| Ok((call, request.info.ok_or(Malformed::NoInfo)?)));
        let (call, info) = match checked {
            Ok(checked) => checked,
            Err(malformed) => return answer(InfoSet::Rejected(self.reject(malformed.into()))),
        };
        let edge = wire::shortened(&request.edge);
        let span = tracing::info_span!("set_stream_info", stream = %call.name, edge);
        let serving = async {
            match self.admit(&call)? {
                Admitted::Here(_permit) => match self.set_info(&call.name, &info).await {
                    Ok(set) => answer(InfoSet::Set(set)),
                    Err(rejection) => answer(InfoSet::Rejected(self.reject(rejection))),
                },
                Admitted::Moved(moved) => answer(InfoSet::Moved(moved)),
                Admitted::Full(rejection) => answer(InfoSet::Rejected(self.reject(rejection))),
                Admitted::Relay(owner, _permit) => {
                    relay::set_stream_info(&self.streams, &call, &owner, request.clone()).await
                }
            }
        };
        self.serve(&span, &metadata, serving).await
    }
}

/// A call that is well formed.
struct Call {
    name: StreamName,
    routing: v1::Routing,
}

impl Call {
    fn check(
        name: Option<&v1::StreamName>,
        routing: Option<v1::Routing>,
    ) -> Result<Self, Malformed> {
        Ok(Self {
            name: wire::name(name)?,
            routing: wire::routing(routing)?,
        })
    }
}

/// Who serves a call, which counts as long as the permit is held.
enum Admitted<'a> {
    Here(Counted<'a>),
    Moved(v1::Moved),
    Relay(Arc<Member>, Counted<'a>),
    Full(Rejection),
}

/// A call under way.
struct Counted<'a> {
    _permit: SemaphorePermit<'a>,
    metrics: &'a VodMetrics,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.calls.dec();
    }
}

impl RecordingsService {
    fn admit(&self, call: &Call) -> Result<Admitted<'_>, Status> {
        let served = self.streams.place(&call.name, &call.routing)?;
        if let Serve::Moved(moved) = served {
            return Ok(Admitted::Moved(moved));
        }
        let Ok(permit) = self.calls.try_acquire() else {
            return Ok(Admitted::Full(Rejection::new(
                v1::RecordingReason::Limit,
                "the origin answers as many calls as it may",
            )));
        };
        self.metrics.calls.inc();
        let counted = Counted {
            _permit: permit,
            metrics: &self.metrics,
        };
        Ok(match served {
            Serve::Relay(owner) => Admitted::Relay(owner, counted),
            Serve::Here | Serve::Moved(_) => Admitted::Here(counted),
        })
    }

    /// Runs a call until it is done or the origin stops.
    async fn serve<T>(
        &self,
        span: &Span,
        metadata: &MetadataMap,
        serving: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        propagation::set_parent(span, metadata);
        let serving = async {
            tokio::select! {
                biased;
                served = serving => served,
                () = self.streams.stop.cancelled() => Err(Status::unavailable("the origin is stopping")),
            }
        };
        serving.instrument(span.clone()).await
    }

    async fn description(&self, name: &StreamName) -> Result<v1::StreamDescription, Rejection> {
        let publishing = self.streams.logs.is_published(name);
        let stored = self.stored(name);
        let stored = if publishing {
            match tokio::time::timeout(LIVE_PATIENCE, stored).await {
                Ok(Ok(stored)) => stored,
                Ok(Err(rejection)) => {
                    tracing::debug!(?rejection, "live, and what is stored is not to be had");
                    None
                }
                Err(_) => {
                    tracing::debug!("live, and the store is slow");
                    None
                }
            }
        } else {
            stored.await?
        };
        Ok(v1::StreamDescription {
            publishing,
            stored,
            info: None,
        })
    }

    /// The description, with what an encoder said if that is wanted.
    async fn told(
        &self,
        name: &StreamName,
        with_info: bool,
    ) -> Result<v1::StreamDescription, Rejection> {
        if !with_info {
            return self.description(name).await;
        }
        let (description, info) = tokio::join!(self.description(name), self.info(name));
        Ok(v1::StreamDescription {
            info: info?,
            ..description?
        })
    }

    async fn info(&self, name: &StreamName) -> Result<Option<v1::StreamInfo>, Rejection> {
        let Some(recordings) = &self.recordings else {
            return Ok(None);
        };
        if !self.streams.logs.is_published(name) {
            return self.soon(recordings.info(name)).await;
        }
        match tokio::time::timeout(LIVE_PATIENCE, recordings.info(name)).await {
            Ok(Ok(info)) => Ok(info),
            Ok(Err(rejection)) => {
                tracing::debug!(?rejection, "live, and what was said of it is not to be had");
                Ok(recordings.last_info(name))
            }
            Err(_) => Ok(recordings.last_info(name)),
        }
    }

    async fn set_info(
        &self,
        name: &StreamName,
        info: &v1::StreamInfo,
    ) -> Result<v1::StreamInfoSet, Rejection> {
        let Some(recordings) = &self.recordings else {
            return Err(VodError::NotFound.into());
        };
        self.soon(recordings.set_info(name, info)).await?;
        tracing::debug!(?info, "an encoder says what it sends");
        // It is kept, whether the rest can be told or not.
        let description = self.told(name, true).await.ok();
        Ok(v1::StreamInfoSet { description })
    }

    async fn recorded(&self, name: &StreamName) -> Result<Option<Arc<dyn Recording>>, Rejection> {
        match &self.recordings {
            Some(recordings) => self.soon(recordings.find(name)).await,
            None => Ok(None),
        }
    }

    /// Waits for a recording no longer than for a file.
    async fn soon<T>(
        &self,
        answer: impl Future<Output = Result<T, Rejection>>,
    ) -> Result<T, Rejection> {
        match tokio::time::timeout(self.patience, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Rejection::new(
                v1::RecordingReason::Unavailable,
                format!("no answer from the store within {:?}", self.patience),
            )),
        }
    }

    /// The same where a file will do. While one is open under the name, the store may take [`LIVE_PATIENCE`] to say that there is a
    /// recording as well, and need not say it.
    async fn recorded_or_file(
        &self,
        name: &StreamName,
    ) -> Result<Option<Arc<dyn Recording>>, Rejection> {
        let recorded = self.recorded(name);
        if !self.library.is_open(name) {
            return recorded.await;
        }
        match tokio::time::timeout(LIVE_PATIENCE, recorded).await {
            Ok(Err(rejection)) if rejection.reason != v1::RecordingReason::Unavailable => {
                Err(rejection)
            }
            Ok(Ok(recorded)) => Ok(recorded),
            Ok(Err(_)) | Err(_) => {
                tracing::debug!("a file is open, and whether there is a recording is not known");
                Ok(None)
            }
        }
    }

    async fn stored(&self, name: &StreamName) -> Result<Option<v1::Stored>, Rejection> {
        if let Some(recording) = self.recorded_or_file(name).await? {
            return Ok(Some(recording.stored()));
        }
        match self.library.find(name).await {
            Ok(found) => Ok(Some(to_stored(&found))),
            Err(VodError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn piece(
        &self,
        name: &StreamName,
        generation: u64,
        position: Position,
    ) -> Result<v1::Piece, Rejection> {
        // Most calls are those of viewers of a file that is open: they cost the store nothing but a look at that file now and then.
        if generation != 0
            && let Some(found) = self.library.held(name, generation).await
        {
            return self.piece_of_file(&found, position).await;
        }
        let recording = if generation == 0 {
            self.recorded_or_file(name).await?
        } else {
            self.recorded(name).await?
        };
        if let Some(recording) = &recording
            && (generation == 0 || recording.stored().generation == generation)
        {
            return self.soon(recording.piece(position)).await;
        }
        let found = match self.library.find(name).await {
            Ok(found) => found,
            Err(VodError::NotFound) if recording.is_some() => return Err(VodError::Replaced.into()),
            Err(error) => return Err(error.into()),
        };
        if generation != 0 && found.generation() != generation {
            return Err(VodError::Replaced.into());
        }
        self.piece_of_file(&found, position).await
    }

    async fn piece_of_file(
        &self,
        found: &Arc<OpenFile>,
        position: Position,
    ) -> Result<v1::Piece, Rejection> {
        let at = match position {
            Position::TimeMs(ms) => At::Time(ms),
            Position::Offset(at) if at.epoch == FILE_EPOCH.0 => At::Position(at.sequence),
            Position::Offset(_) => {
                return Err(Rejection::new(
                    v1::RecordingReason::Invalid,
                    "no piece of a file begins there",
                ));
            }
        };
        let piece = self.library.piece(found, at).await?;
        to_piece(found.generation(), &piece)
    }

    fn reject(&self, rejection: Rejection) -> v1::RecordingRejected {
        use v1::RecordingReason::{NotFound, Replaced};

        tracing::debug!(reason = ?rejection.reason, description = rejection.description, "rejected");
        if !matches!(rejection.reason, NotFound | Replaced) {
            self.metrics.refused.inc();
        }
        v1::RecordingRejected {
            reason: rejection.reason.into(),
            description: rejection.description,
        }
    }
}

impl Rejection {
    pub(crate) fn new(reason: v1::RecordingReason, description: impl Into<String>) -> Self {
        Self {
            reason,
            description: description.into(),
        }
    }
}

impl From<VodError> for Rejection {
    fn from(error: VodError) -> Self {
        let reason = match &error {
            VodError::NotFound => v1::RecordingReason::NotFound,
            VodError::Replaced => v1::RecordingReason::Replaced,
            VodError::Invalid { .. } => v1::RecordingReason::StructureInvalid,
            VodError::Unsupported { .. } => v1::RecordingReason::NoSupportedTrack,
            VodError::Unavailable(_) => v1::RecordingReason::Unavailable,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<Malformed> for Rejection {
    fn from(malformed: Malformed) -> Self {
        Self::new(v1::RecordingReason::Invalid, malformed.to_string())
    }
}
