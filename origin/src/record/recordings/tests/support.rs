//! A node that records, publishers, and what becomes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use headwater_media::flv::{FlvEvent, FlvReader};
use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use headwater_media::name::StreamName;
use headwater_node::metrics::Metrics;
use headwater_proto::v1::RecordState;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::marks::Marks;
use super::super::{Mode, Opening, Parts, Record, Recordings};
use super::fake::FakeVault;
use crate::OriginSection;
use crate::log::table::{ConnectionGuard, LogLease, LogTable};
use crate::log::{CloseHow, OpenRequest, PublisherEvent, Resume, Target};
use crate::metrics::OriginMetrics;
use crate::record::files::{Files, FreeSpace};
use crate::record::metrics::RecordingMetrics;
use crate::record::recorder::session::Progress;
use crate::record::section::RecordingSection;

/// Longer than anything that a test waits for; the clock is paused, so waiting costs nothing.
const PATIENCE: Duration = Duration::from_secs(600);

/// What outlives a node: the shared store.
#[derive(Clone)]
pub(super) struct World {
    pub(super) vault: FakeVault,
    pub(super) objects: Arc<InMemory>,
    pub(super) free: Arc<Mutex<Option<u64>>>,
    pub(super) disk: Arc<tempfile::TempDir>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            vault: FakeVault::new(),
            objects: Arc::new(InMemory::new()),
            free: Arc::default(),
            disk: Arc::new(tempfile::tempdir().unwrap()),
        }
    }
}

pub(super) struct Bench {
    pub(super) world: World,
    pub(super) recordings: Recordings<FakeVault>,
    pub(super) logs: LogTable,
    pub(super) metrics: Metrics,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// What publishers ask to have kept.
    pub(super) window_ms: u64,
    /// Whether streams belong to this node.
    ours: Arc<AtomicBool>,
    marks: Marks,
}

pub(super) fn recording() -> RecordingSection {
    RecordingSection {
        sync_ms: 100,
        buffer_bytes: 1 << 20,
        buffers_bytes: 4 << 20,
        parts_linger_ms: 5_000,
        recovery_grace_ms: 10_000,
        ..RecordingSection::default()
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(World::new(), recording())
    }

    pub(super) fn with_config(config: RecordingSection) -> Self {
        Self::with(World::new(), config)
    }

    /// A node of the world.
    pub(super) fn with(world: World, config: RecordingSection) -> Self {
        Self::start(world, config, false)
    }

    /// A node that has the store for itself.
    pub(super) fn alone(world: World, config: RecordingSection) -> Self {
        Self::start(world, config, true)
    }

    fn start(world: World, config: RecordingSection, is_local: bool) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let metrics = Metrics::new("a", "origin");
        let section = OriginSection {
            retention_ms: 2_000,
            retention_bytes: 1 << 20,
            publisher_grace_ms: 1_000,
            ..OriginSection::default()
        };
        let logs = LogTable::new(
            &section,
            OriginMetrics::new(&metrics),
            tasks.clone(),
            stop.clone(),
        );
        let free = Arc::clone(&world.free);
        let root = is_local.then(|| world.disk.path().join("store"));
        let free: FreeSpace = Arc::new(move |_| *free.lock());
        let files = Files::of_objects(world.objects.clone(), root, free);
        let marks = Marks::new(world.disk.path().join("unfinished")).unwrap();
        let ours = Arc::new(AtomicBool::new(true));
        let is_ours = Arc::clone(&ours);
        let recordings = Recordings::new(Parts {
            config,
            vault: world.vault.clone(),
            files,
            marks: marks.clone(),
            metrics: RecordingMetrics::new(&metrics),
            ours: Box::new(move |_| is_ours.load(Ordering::Relaxed)),
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        Self {
            world,
            recordings,
            logs,
            metrics,
            stop,
            tasks,
            window_ms: 0,
            ours,
            marks,
        }
    }

    /// The ring gives streams to this node, or to another.
    pub(super) fn owns(&self, ours: bool) {
        self.ours.store(ours, Ordering::Relaxed);
    }

    /// Ends the process in order, but for its publishers.
    pub(super) async fn end(self) -> World {
        self.stop.cancel();
        self.logs.clear();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait())
            .await
            .unwrap();
        self.world
    }

    pub(super) async fn publish(&self, stream: &str, publisher: u8, mode: Mode) -> Publisher {
        self.open(stream, publisher, Some(mode), None).await
    }

    /// The first publisher of a stream, so many of whose frames are stored.
    pub(super) async fn recorded(&self, stream: &str, frames: u64) -> Publisher {
        let mut publisher = self.publish(stream, 1, Mode::Record).await;
        publisher.send(frames);
        publisher.stored().await;
        publisher
    }

    pub(super) async fn open(
        &self,
        stream: &str,
        publisher: u8,
        mode: Option<Mode>,
        resume: Option<(Epoch, u64)>,
    ) -> Publisher {
        let lease = self.logs.lease(&name(stream)).unwrap();
        let (guard, mut events) = lease.handle.connect();
        let request = OpenRequest {
            connection: guard.id,
            publisher: [publisher; 16],
            resume: resume.map(|(epoch, first_sequence)| Resume {
                epoch,
                first_sequence,
                preface: Vec::new(),
            }),
            trace: String::new(),
        };
        let wall_clock = crate::log::table::unix_millis();
        lease
            .handle
            .update(|log, now| log.open(now, wall_clock, request));
        let accepted = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap();
        let Some(PublisherEvent::Accepted {
            epoch,
            next_sequence,
            ..
        }) = accepted
        else {
            panic!("{accepted:?}");
        };
        let begun = match mode {
            Some(mode) => Some(
                self.recordings
                    .begin(Opening {
                        lease: &lease,
                        epoch,
                        mode,
                        window_ms: self.window_ms,
                        resumes: resume.is_some(),
                    })
                    .await,
            ),
            None => {
                self.recordings.publishes_live(&name(stream));
                None
            }
        };
        let timeline = begun.as_ref().and_then(|begun| begun.timeline);
        Publisher {
            lease,
            guard,
            _events: events,
            epoch,
            next: next_sequence,
            timeline: timeline.unwrap_or(0),
            given: timeline,
            told: begun.as_ref().and_then(|begun| begun.told),
            progress: begun.map(|begun| begun.progress),
        }
    }

    /// The frames of the file, as timestamp and payload; `None` if there is none.
    pub(super) async fn file(&self, path: &str) -> Option<Vec<(u32, Bytes)>> {
        let path = format!("applications/live/streams/_definst_/{path}");
        let found = self.world.objects.get(&path.into()).await.ok()?;
        let mut reader = FlvReader::new(1 << 20);
        reader.feed(&found.bytes().await.unwrap());
        let mut frames = Vec::new();
        while let Some(event) = reader.poll().unwrap() {
            if let FlvEvent::Tag(tag) = event
                && tag.kind != FrameKind::Data
            {
                frames.push((tag.timestamp, tag.body));
            }
        }
        Some(frames)
    }

    /// Waits until nothing is left to do, and says what the marks are: none.
    pub(super) async fn settled(&self) {
        let settled = async {
            loop {
                let left = self.recordings.shared.entries.lock().len();
                if left == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled)
            .await
            .expect("not settled");
        assert_eq!(self.marks.all().await.unwrap(), []);
    }

    /// No file is made as long as this is held.
    pub(super) async fn keep_from_composing(&self) -> OwnedSemaphorePermit {
        let shared = &self.recordings.shared;
        let all = u32::try_from(shared.config.max_composing).unwrap();
        let composing = Arc::clone(&shared.composing);
        composing.acquire_many_owned(all).await.unwrap()
    }

    pub(super) async fn marked(&self) -> usize {
        self.marks.all().await.unwrap().len()
    }

    /// The value of a metric, with its labels if it has any.
    pub(super) fn metric(&self, metric: &str) -> u64 {
        let text = self.metrics.encode();
        let start = format!("headwater_recording_{metric}{{");
        let lines = text.lines().filter(|line| line.starts_with(&start));
        let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
        values.sum()
    }
}

pub(super) fn name(stream: &str) -> StreamName {
    StreamName::new("_defaultVHost_", "live", "_definst_", stream).unwrap()
}

pub(super) struct Publisher {
    pub(super) lease: LogLease,
    guard: ConnectionGuard,
    _events: mpsc::Receiver<PublisherEvent>,
    pub(super) epoch: Epoch,
    pub(super) next: u64,
    /// Of its first frame.
    pub(super) timeline: u64,
    pub(super) given: Option<u64>,
    pub(super) told: Option<RecordState>,
    progress: Option<watch::Receiver<Progress>>,
}

impl Publisher {
    /// Frame `sequence` of an epoch: a picture every 40 ms, a key frame every ten, a codec header with the first.
    pub(super) fn frame(&self, sequence: u64) -> Frame {
        let flags = match sequence {
            0 => FrameFlags::HEADER,
            _ if sequence % 10 == 1 => FrameFlags::KEY,
            _ => FrameFlags::empty(),
        };
        let mut payload = match sequence {
            0 => vec![0x17, 0, 0, 0, 0],
            _ if sequence % 10 == 1 => vec![0x17, 1, 0, 0, 0],
            _ => vec![0x27, 1, 0, 0, 0],
        };
        payload.extend(format!("{}:{sequence}", self.epoch.0).as_bytes());
        Frame {
            offset: Offset {
                epoch: self.epoch,
                sequence,
            },
            timestamp: self.timeline + sequence.saturating_sub(1) * 40,
            kind: FrameKind::Video,
            flags,
            payload: payload.into(),
        }
    }

    /// Sends the next frames.
    pub(super) fn send(&mut self, count: u64) {
        let frames: Vec<Frame> = (self.next..self.next + count)
            .map(|it| self.frame(it))
            .collect();
        self.next += count;
        self.append(frames);
    }

    pub(super) fn append(&self, frames: Vec<Frame>) {
        let (id, epoch) = (self.guard.id, self.epoch);
        let handle = &self.lease.handle;
        let appended = handle.update(|log, now| log.append(now, id, epoch, frames));
        appended.unwrap();
    }

    /// What was sent in `range`, as it is in a file whose time 0 is `start`.
    pub(super) fn sent(&self, range: std::ops::Range<u64>, start: u64) -> Vec<(u32, Bytes)> {
        let frames = range.map(|sequence| self.frame(sequence));
        let tags = frames.map(|it| ((it.timestamp - start) as u32, it.payload));
        tags.collect()
    }

    pub(super) fn progress(&self) -> &watch::Receiver<Progress> {
        self.progress.as_ref().expect("not recorded")
    }

    pub(super) fn durable(&self) -> u64 {
        self.progress().borrow().durable(self.next)
    }

    pub(super) fn status(&self) -> Option<RecordState> {
        self.progress().borrow().status().map(|(state, _)| state)
    }

    /// Waits until everything that was sent is durable.
    pub(super) async fn stored(&self) {
        let mut progress = self.progress().clone();
        let stored = progress.wait_for(|it| it.durable(self.next) == self.next);
        tokio::time::timeout(PATIENCE, stored)
            .await
            .expect("not stored")
            .unwrap();
    }

    /// Waits until this node records no more of it, whatever the reason.
    pub(super) async fn left(&self) {
        let mut progress = self.progress().clone();
        let over = progress.wait_for(Progress::is_over);
        let over = tokio::time::timeout(PATIENCE, over).await;
        drop(over.expect("not over").unwrap());
    }

    /// Waits for the end of the recording: what the publisher is told, and why.
    pub(super) async fn over(&self) -> (RecordState, String) {
        let mut progress = self.progress().clone();
        let over = progress.wait_for(Progress::is_over);
        let over = tokio::time::timeout(PATIENCE, over)
            .await
            .expect("not over");
        over.unwrap().status().unwrap()
    }

    pub(super) fn stop(&self) {
        let id = self.guard.id;
        let handle = &self.lease.handle;
        handle.update(|log, now| log.close(now, id, CloseHow::Unpublished));
    }

    /// Goes to another node.
    pub(super) fn move_away(&self) {
        let id = self.guard.id;
        let target = Target {
            node: "b".to_owned(),
            address: "b:1".to_owned(),
        };
        let handle = &self.lease.handle;
        handle.update(|log, now| log.close(now, id, CloseHow::Moved(target)));
    }
}
