//! Origins with stored streams, and an edge that asks them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use headwater_application::ApplicationSection;
use headwater_media::frame::{FrameFlags, Offset};
use headwater_media::name::StreamName;
use headwater_proto::v1;
use headwater_proto::v1::recordings_server::{Recordings, RecordingsServer};
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::super::{Place, Recorded};
use crate::application::policies::Policies;
use crate::config::{RecordedSection, UpstreamSection};
use crate::edge::Tasks;
use crate::testing::Origins;

/// Media time of a piece, in milliseconds.
pub(super) const PIECE_MS: u64 = 2_000;
/// Frames of a piece, each 200 milliseconds.
const FRAMES: u64 = 10;

/// A stream as an origin has it.
#[derive(Clone)]
pub(super) struct File {
    pub(super) generation: u64,
    pub(super) growing: bool,
    pub(super) pieces: Vec<v1::Piece>,
}

impl File {
    /// A closed one with so many pieces.
    pub(super) fn closed(pieces: u64) -> Self {
        let mut file = Self {
            generation: 1,
            growing: false,
            pieces: (0..pieces).map(|number| piece(number, FRAMES)).collect(),
        };
        file.finish(v1::Follows::End);
        file
    }

    /// One that is being recorded, the last piece of which has so many frames.
    pub(super) fn growing(pieces: u64, last: u64) -> Self {
        let mut file = Self {
            generation: 1,
            growing: true,
            pieces: (0..pieces)
                .map(|number| piece(number, if number + 1 < pieces { FRAMES } else { last }))
                .collect(),
        };
        file.finish(v1::Follows::Live);
        file
    }

    fn finish(&mut self, follows: v1::Follows) {
        for piece in &mut self.pieces {
            piece.generation = self.generation;
        }
        if let Some(last) = self.pieces.last_mut() {
            last.follows = follows.into();
        }
    }

    pub(super) fn generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        for piece in &mut self.pieces {
            piece.generation = generation;
        }
        self
    }

    fn stored(&self) -> v1::Stored {
        v1::Stored {
            generation: self.generation,
            start_ms: self.pieces.first().map_or(0, |piece| piece.start_ms),
            end_ms: self.pieces.last().map_or(0, |piece| piece.end_ms),
            bytes: 1,
            growing: self.growing,
            has_audio: false,
            has_video: true,
        }
    }

    fn at(&self, request: &v1::FetchRequest) -> Option<v1::Piece> {
        let found = match request.position? {
            v1::fetch_request::Position::Offset(offset) => self
                .pieces
                .iter()
                .find(|piece| piece.first == Some(offset))?,
            v1::fetch_request::Position::TimeMs(ms) => {
                let starts = |piece: &&v1::Piece| {
                    let frames = &piece.frames.as_ref().unwrap().frames;
                    frames
                        .iter()
                        .any(|frame| frame.flags & 1 != 0 && frame.timestamp <= ms)
                };
                let newest = self.pieces.iter().rfind(starts);
                newest.or_else(|| self.pieces.first())?
            }
        };
        Some(found.clone())
    }
}

/// The piece with this number: a key frame, then others. The file begins at 100 ms.
pub(super) fn piece(number: u64, frames: u64) -> v1::Piece {
    let first = number * FRAMES;
    let at = |sequence| 100 + sequence * (PIECE_MS / FRAMES);
    let frame = |sequence: u64| v1::Frame {
        sequence,
        timestamp: at(sequence),
        kind: v1::FrameKind::Video.into(),
        flags: if sequence == first {
            FrameFlags::KEY.bits()
        } else {
            0
        },
        payload: Bytes::from(vec![u8::try_from(sequence % 256).unwrap(); 1_000]),
    };
    v1::Piece {
        generation: 1,
        first: Some(offset(first)),
        next: Some(offset(first + frames)),
        follows: v1::Follows::Piece.into(),
        start_ms: at(first),
        end_ms: at(first + frames),
        preface: Vec::new(),
        frames: Some(v1::FrameBatch {
            epoch: 3,
            frames: (first..first + frames).map(frame).collect(),
        }),
    }
}

fn offset(sequence: u64) -> v1::Offset {
    v1::Offset { epoch: 3, sequence }
}

pub(super) fn at_piece(number: u64) -> Place {
    at_frame(number * FRAMES)
}

pub(super) fn at_frame(sequence: u64) -> Place {
    Place::Offset(headwater_cluster::wire::offset(offset(sequence)))
}

/// The sequence of an offset.
pub(super) fn sequence(offset: Offset) -> u64 {
    offset.sequence
}

/// An origin's stored streams, and how it behaves.
pub(super) struct Fake {
    pub(super) files: Mutex<HashMap<String, File>>,
    pub(super) fetches: AtomicUsize,
    pub(super) describes: AtomicUsize,
    /// What was said of streams, and how often anything was.
    pub(super) infos: Mutex<HashMap<String, v1::StreamInfo>>,
    pub(super) said: AtomicUsize,
    /// Whether whoever says something is told what there is.
    pub(super) tells: AtomicBool,
    /// Answers nothing while it hangs.
    pub(super) hung: watch::Sender<bool>,
    /// Calls that wait for that.
    pub(super) waiting: watch::Sender<usize>,
    /// Sends callers there.
    pub(super) moved: Mutex<Option<&'static str>>,
    /// Refuses for this reason, so many times.
    pub(super) refuses: Mutex<Option<(v1::RecordingReason, usize)>>,
    pub(super) traced: Mutex<Vec<v1::Routing>>,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            files: Mutex::default(),
            fetches: AtomicUsize::new(0),
            describes: AtomicUsize::new(0),
            infos: Mutex::default(),
            said: AtomicUsize::new(0),
            tells: AtomicBool::new(true),
            hung: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
            moved: Mutex::new(None),
            refuses: Mutex::new(None),
            traced: Mutex::default(),
        })
    }

    pub(super) fn put(&self, name: &StreamName, file: File) {
        self.files.lock().insert(name.stream.clone(), file);
    }

    pub(super) fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }

    pub(super) fn describes(&self) -> usize {
        self.describes.load(Ordering::Relaxed)
    }

    async fn awake(&self, routing: Option<v1::Routing>) {
        self.traced.lock().extend(routing);
        self.waiting.send_modify(|waiting| *waiting += 1);
        let waits = Waits(&self.waiting);
        let _ = self.hung.subscribe().wait_for(|hung| !hung).await;
        drop(waits);
    }

    fn moved(&self) -> Option<v1::Moved> {
        let owner = (*self.moved.lock())?;
        Some(v1::Moved {
            owner: owner.to_owned(),
            address: String::new(),
            ring_version: 0,
        })
    }

    fn refusal(&self) -> Option<v1::RecordingRejected> {
        let mut refuses = self.refuses.lock();
        let (reason, left) = refuses.as_mut()?;
        *left = left.checked_sub(1)?;
        Some(rejected(*reason))
    }

    fn file(&self, name: Option<v1::StreamName>) -> Option<File> {
        self.files.lock().get(&name?.stream).cloned()
    }
}

/// Counts a call that waits, also if it is given up.
struct Waits<'a>(&'a watch::Sender<usize>);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

fn rejected(reason: v1::RecordingReason) -> v1::RecordingRejected {
    v1::RecordingRejected {
        reason: reason.into(),
        description: "as the test wants".to_owned(),
    }
}

#[derive(Clone)]
struct Service(Arc<Fake>);

#[tonic::async_trait]
impl Recordings for Service {
    async fn describe(
        &self,
        request: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeResponse>, Status> {
        use v1::describe_response::Response as Answer;
        let request = request.into_inner();
        self.0.describes.fetch_add(1, Ordering::Relaxed);
        self.0.awake(request.routing).await;
        let answer = match (self.0.moved(), self.0.refusal()) {
            (Some(moved), _) => Answer::Moved(moved),
            (None, Some(rejected)) => Answer::Rejected(rejected),
            (None, None) => Answer::Description(v1::StreamDescription {
                publishing: false,
                info: request.name.as_ref().and_then(|name| {
                    let info = self.0.infos.lock().get(&name.stream).copied();
                    info.filter(|_| request.with_info)
                }),
                stored: self.0.file(request.name).map(|file| file.stored()),
            }),
        };
        Ok(Response::new(v1::DescribeResponse {
            response: Some(answer),
        }))
    }

    async fn set_stream_info(
        &self,
        request: Request<v1::SetStreamInfoRequest>,
    ) -> Result<Response<v1::SetStreamInfoResponse>, Status> {
        use v1::set_stream_info_response::Response as Answer;
        let request = request.into_inner();
        self.0.said.fetch_add(1, Ordering::Relaxed);
        self.0.awake(request.routing).await;
        let answer = match (self.0.moved(), self.0.refusal()) {
            (Some(moved), _) => Answer::Moved(moved),
            (None, Some(rejected)) => Answer::Rejected(rejected),
            (None, None) => {
                let (name, info) = (request.name.unwrap(), request.info.unwrap());
                self.0.infos.lock().insert(name.stream.clone(), info);
                let description = v1::StreamDescription {
                    publishing: false,
                    info: Some(info),
                    stored: self.0.file(Some(name)).map(|file| file.stored()),
                };
                let tells = self.0.tells.load(Ordering::Relaxed);
                Answer::Set(v1::StreamInfoSet {
                    description: tells.then_some(description),
                })
            }
        };
        Ok(Response::new(v1::SetStreamInfoResponse {
            response: Some(answer),
        }))
    }

    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::FetchResponse>, Status> {
        use v1::fetch_response::Response as Answer;
        let request = request.into_inner();
        self.0.fetches.fetch_add(1, Ordering::Relaxed);
        self.0.awake(request.routing.clone()).await;
        let file = self.0.file(request.name.clone());
        let answer = match (self.0.moved(), self.0.refusal()) {
            (Some(moved), _) => Answer::Moved(moved),
            (None, Some(rejected)) => Answer::Rejected(rejected),
            (None, None) => match file {
                None => Answer::Rejected(rejected(v1::RecordingReason::NotFound)),
                Some(file) if ![0, file.generation].contains(&request.generation) => {
                    Answer::Rejected(rejected(v1::RecordingReason::Replaced))
                }
                Some(file) => match file.at(&request) {
                    Some(piece) => Answer::Piece(piece),
                    None => Answer::Rejected(rejected(v1::RecordingReason::Invalid)),
                },
            },
        };
        Ok(Response::new(v1::FetchResponse {
            response: Some(answer),
        }))
    }
}

/// Origins, and an edge that can reach them all.
pub(super) struct Bench {
    pub(super) origins: Origins,
    pub(super) recorded: Recorded,
    fakes: BTreeMap<&'static str, Arc<Fake>>,
}

impl Bench {
    pub(super) async fn one() -> Self {
        Self::start(&["a"], RecordedSection::default()).await
    }

    pub(super) async fn start(ids: &[&'static str], section: RecordedSection) -> Self {
        Self::with(ids, section, true).await
    }

    /// `recordings`: whether the origins know the service.
    pub(super) async fn with(
        ids: &[&'static str],
        section: RecordedSection,
        recordings: bool,
    ) -> Self {
        let fakes: BTreeMap<_, _> = ids.iter().map(|id| (*id, Fake::new())).collect();
        let add = |id, routes: Routes| {
            let service = RecordingsServer::new(Service(Arc::clone(&fakes[id])));
            if recordings {
                routes.add_service(service)
            } else {
                routes
            }
        };
        let origins = Origins::start(ids, UpstreamSection::default(), add).await;
        let tasks = Tasks::new(origins.stop.child_token());
        let vod = ApplicationSection {
            dvr: true,
            ..ApplicationSection::default()
        };
        let applications = BTreeMap::from([("vod".to_owned(), vod)]);
        let upstream = Arc::clone(&origins.upstream);
        Self {
            recorded: Recorded::new(
                &section,
                Policies::new(&applications, upstream, tasks.clone()),
                Arc::clone(&origins.upstream),
                tasks,
            ),
            origins,
            fakes,
        }
    }

    pub(super) fn fake(&self, id: &str) -> &Arc<Fake> {
        &self.fakes[id]
    }

    pub(super) fn metric(&self, metric: &str) -> f64 {
        self.origins.metric(metric)
    }
}
