//! Owners that remember what they were sent, and say what a test wants.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_media::frame::{FrameFlags, FrameKind};
use headwater_media::name::StreamName;
use headwater_proto::v1;
use headwater_proto::v1::append_request::Request as Ask;
use headwater_proto::v1::append_response::Response as Answer;
use headwater_proto::v1::stream_log_server::{StreamLog, StreamLogServer};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Origins, PATIENCE};
use crate::config::UpstreamSection;
use crate::upstream::append::{PublishEvent, PublishRequest, run};
use crate::upstream::publication::MediaMessage;

/// What an owner has of one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    pub(crate) open: v1::AppendOpen,
    pub(crate) sequences: Vec<u64>,
    pub(crate) closed: bool,
}

/// A fake owner.
pub(crate) struct Owner {
    pub(crate) calls: watch::Sender<Vec<Call>>,
    /// Every frame before this one is durable, as far as it has come.
    pub(crate) durable: watch::Sender<u64>,
    /// Said of the recording at the beginning of each call.
    pub(crate) record: Mutex<Option<v1::RecordState>>,
    /// Ends a call that was closed only when all of it is durable.
    pub(crate) waits_for_store: AtomicBool,
}

impl Owner {
    fn new() -> Self {
        Self {
            calls: watch::Sender::default(),
            durable: watch::Sender::new(0),
            record: Mutex::new(None),
            waits_for_store: AtomicBool::new(true),
        }
    }

    /// Waits until `check` holds for the newest call.
    pub(crate) async fn until(&self, check: impl Fn(&Call) -> bool) -> Call {
        let mut calls = self.calls.subscribe();
        let waiting = calls.wait_for(|calls| calls.last().is_some_and(&check));
        let found = tokio::time::timeout(PATIENCE, waiting).await;
        let Ok(found) = found.map(|found| found.unwrap().last().unwrap().clone()) else {
            panic!("it did not come to that: {:?}", self.calls.borrow());
        };
        found
    }

    async fn serve(
        self: Arc<Self>,
        mut requests: Streaming<v1::AppendRequest>,
        answers: mpsc::Sender<Result<v1::AppendResponse, Status>>,
    ) -> Option<()> {
        let say = async |answer| {
            let response = Some(answer);
            let sent = answers.send(Ok(v1::AppendResponse { response })).await;
            sent.ok()
        };
        let Some(Ask::Open(open)) = requests.message().await.ok()??.request else {
            return None;
        };
        let resume = open.resume;
        let number = self.calls.borrow().len();
        self.calls.send_modify(|calls| {
            calls.push(Call {
                open,
                ..Call::default()
            });
        });
        let mut next = resume.map_or(0, |resume| resume.sequence);
        say(Answer::Accepted(v1::AppendAccepted {
            epoch: resume.map_or(5, |resume| resume.epoch),
            timeline: None,
            next_sequence: next,
        }))
        .await?;
        let record = *self.record.lock();
        if let Some(state) = record {
            say(recorded(state)).await?;
        }
        let mut durable = self.durable.subscribe();
        let mut closed = false;
        loop {
            let safe = *durable.borrow_and_update();
            let waits = self.waits_for_store.load(Ordering::Relaxed);
            if closed && (safe >= next || !waits) {
                say(recorded(v1::RecordState::Stopped)).await?;
                return Some(());
            }
            tokio::select! {
                request = requests.message() => match request.ok()?.and_then(|it| it.request) {
                    Some(Ask::Frames(batch)) => {
                        let sequences = batch.frames.iter().map(|frame| frame.sequence);
                        self.calls.send_modify(|calls| calls[number].sequences.extend(sequences));
                        next = batch.frames.last()?.sequence + 1;
                    }
                    Some(Ask::Close(_)) => {
                        closed = true;
                        self.calls.send_modify(|calls| calls[number].closed = true);
                    }
                    Some(_) => {}
                    None => std::future::pending().await,
                },
                changed = durable.changed() => changed.ok()?,
            }
            let safe = *durable.borrow();
            say(Answer::Acknowledged(v1::Acknowledged {
                accepted: next,
                durable: next.min(safe),
            }))
            .await?;
        }
    }
}

fn recorded(state: v1::RecordState) -> Answer {
    Answer::Record(v1::RecordStatus {
        state: state.into(),
        description: String::new(),
    })
}

struct Service(Arc<Owner>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl StreamLog for Service {
    type AppendStream = Answers<v1::AppendResponse>;
    type ReadStream = Answers<v1::ReadResponse>;

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (answers, receiver) = mpsc::channel(16);
        let owner = Arc::clone(&self.0);
        tokio::spawn(async move { owner.serve(request.into_inner(), answers).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn read(
        &self,
        _: Request<Streaming<v1::ReadRequest>>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        Err(Status::unimplemented("nobody reads"))
    }
}

/// Two owners, and an edge that keeps a second of what they have.
pub(crate) struct Owners {
    pub(crate) origins: Origins,
    owners: BTreeMap<&'static str, Arc<Owner>>,
}

impl Owners {
    pub(crate) async fn start() -> Self {
        Self::keeping(UpstreamSection::default().window_bytes).await
    }

    /// As [`Self::start`], with so many bytes of window for each stream.
    pub(crate) async fn keeping(window_bytes: usize) -> Self {
        let owners: BTreeMap<_, _> = ["a", "b"].map(|id| (id, Arc::new(Owner::new()))).into();
        let section = UpstreamSection {
            window_ms: 1_000,
            window_bytes,
            ..UpstreamSection::default()
        };
        let origins = Origins::start(&["a", "b"], section, |id, routes| {
            let service = Service(Arc::clone(&owners[id]));
            routes.add_service(StreamLogServer::new(service))
        })
        .await;
        Self { origins, owners }
    }

    pub(crate) fn owner(&self, id: &str) -> &Arc<Owner> {
        &self.owners[id]
    }

    pub(crate) async fn publish(&self, name: &StreamName, mode: v1::PublishMode) -> Client {
        let (media, receiver) = mpsc::channel(256);
        let (sender, events) = mpsc::unbounded_channel();
        let request = PublishRequest {
            name: name.clone(),
            mode,
            record_window_ms: 0,
            client: "a test".to_owned(),
        };
        let upstream = Arc::clone(&self.origins.upstream);
        tokio::spawn(run(upstream, request, receiver, sender));
        let mut client = Client {
            media: Some(media),
            events,
            sent: 0,
        };
        let accepted = client.event().await;
        assert!(
            matches!(accepted, Some(PublishEvent::Accepted)),
            "{accepted:?}"
        );
        client
    }
}

/// A client that publishes.
pub(crate) struct Client {
    media: Option<mpsc::Sender<MediaMessage>>,
    events: mpsc::UnboundedReceiver<PublishEvent>,
    sent: u32,
}

impl Client {
    /// Sends frames of a second each: a codec header, then key frames.
    pub(crate) async fn send(&mut self, frames: u32) {
        for _ in 0..frames {
            let header = self.sent == 0;
            let message = MediaMessage {
                kind: FrameKind::Video,
                timestamp: self.sent * 1_000,
                flags: if header {
                    FrameFlags::HEADER | FrameFlags::KEY
                } else {
                    FrameFlags::KEY
                },
                payload: vec![0x17, u8::from(!header), 0, 0, 0].into(),
            };
            self.media.as_ref().unwrap().send(message).await.unwrap();
            self.sent += 1;
        }
    }

    pub(crate) fn leave(&mut self) {
        self.media = None;
    }

    /// What it is told next; `None` when the publishing is over.
    pub(crate) async fn event(&mut self) -> Option<PublishEvent> {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("it was not told anything")
    }

    /// What it is told of its recording until the publishing is over.
    pub(crate) async fn recording(&mut self) -> Vec<v1::RecordState> {
        let mut states = Vec::new();
        while let Some(event) = self.event().await {
            match event {
                PublishEvent::Record(status) => states.push(status.state()),
                other => panic!("told {other:?}"),
            }
        }
        states
    }
}

/// Longer than the edge waits for company of audio, and for acknowledgements that are under way.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(200);
