//! Recordings with the real archive, over a folder and over objects in memory, in real time.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_media::file::{Grid, MediaFile};
use headwater_media::flv::FlvFile;
use headwater_media::frame::{Epoch, Frame, FrameKind};
use headwater_media::mp4::Mp4File;
use headwater_media::name::StreamName;
use headwater_media::synthetic::{Settings, SyntheticStream};
use headwater_node::metrics::Metrics;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::OriginSection;
use crate::log::table::{ConnectionGuard, LogLease, LogTable, unix_millis};
use crate::log::{CloseHow, OpenRequest, Resume};
use crate::metrics::OriginMetrics;
use crate::record::files::Files;
use crate::record::mark_left_open;
use crate::record::metrics::RecordingMetrics;
use crate::record::recordings::marks::Marks;
use crate::record::recordings::{Begun, Mode, Opening, Parts, Record, Recordings};
use crate::record::section::RecordingSection;

mod owners;

/// Longer than anything should take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine: its disk, and what it records to.
#[derive(Clone)]
struct Machine {
    objects: Arc<dyn ObjectStore>,
    /// Of the store, if it is on this disk.
    is_local: bool,
    disk: Arc<tempfile::TempDir>,
}

impl Machine {
    fn local() -> Self {
        let disk = tempfile::tempdir().unwrap();
        let store = disk.path().join("store");
        std::fs::create_dir(&store).unwrap();
        let objects = LocalFileSystem::new_with_prefix(store)
            .unwrap()
            .with_fsync(true);
        Self {
            objects: Arc::new(objects),
            is_local: true,
            disk: Arc::new(disk),
        }
    }

    fn remote() -> Self {
        Self {
            objects: Arc::new(InMemory::new()),
            is_local: false,
            disk: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    /// Another one with the same store.
    fn next(&self) -> Self {
        Self {
            disk: Arc::new(tempfile::tempdir().unwrap()),
            ..self.clone()
        }
    }

    fn store(&self) -> std::path::PathBuf {
        self.disk.path().join("store")
    }

    fn journal(&self) -> std::path::PathBuf {
        self.disk.path().join("journal")
    }
}

struct Node {
    machine: Machine,
    recordings: Recordings<NodeArchives>,
    logs: LogTable,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Node {
    async fn start(machine: Machine, id: &str) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let metrics = Metrics::new(id, "origin");
        let section = OriginSection {
            publisher_grace_ms: 200,
            ..OriginSection::default()
        };
        let config = RecordingSection {
            sync_ms: 20,
            segment_ms: 500,
            recovery_grace_ms: 300,
            parts_linger_ms: 100,
            ..RecordingSection::default()
        };
        let origin = OriginMetrics::new(&metrics);
        let logs = LogTable::new(&section, origin, tasks.clone(), stop.clone());
        let root = machine.is_local.then(|| machine.store());
        let files = Files::of_objects(machine.objects.clone(), root, Arc::new(|_| None));
        let archives = Archives::new(
            machine.objects.clone(),
            machine.journal().join("frames"),
            machine.is_local,
            config.archive(),
        );
        let archives = archives.unwrap();
        let marks = Marks::new(machine.journal().join("unfinished")).unwrap();
        mark_left_open(&archives, &marks).await;
        let recordings = Recordings::new(Parts {
            config,
            vault: NodeArchives::new(archives, id),
            files,
            marks,
            metrics: RecordingMetrics::new(&metrics),
            ours: Box::new(|_| true),
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        recordings.recover().await;
        Self {
            machine,
            recordings,
            logs,
            stop,
            tasks,
        }
    }

    async fn open(&self, stream: &str, mode: Mode, resume: Option<(Epoch, u64)>) -> Publisher {
        let name = StreamName::new("_defaultVHost_", "live", "_definst_", stream).unwrap();
        let lease = self.logs.lease(&name).unwrap();
        let (guard, _events) = lease.handle.connect();
        let request = OpenRequest {
            connection: guard.id,
            publisher: [1; 16],
            resume: resume.map(|(epoch, first_sequence)| Resume {
                epoch,
                first_sequence,
                preface: Vec::new(),
            }),
            trace: String::new(),
        };
        let clock = unix_millis();
        let handle = &lease.handle;
        let epoch = handle.update(|log, now| {
            log.open(now, clock, request);
            let mut newest = None;
            while let Some(event) = log.poll_event() {
                if let crate::log::Event::Publisher(
                    _,
                    crate::log::PublisherEvent::Accepted { epoch, .. },
                ) = event
                {
                    newest = Some(epoch);
                }
            }
            newest.expect("not accepted")
        });
        let begun = self
            .recordings
            .begin(Opening {
                lease: &lease,
                epoch,
                mode,
                window_ms: 0,
                resumes: resume.is_some(),
            })
            .await;
        Publisher {
            lease,
            guard,
            epoch,
            begun,
        }
    }

    /// Dies: nothing is flushed but what the operating system has.
    async fn die(self) -> Machine {
        self.stop.cancel();
        self.logs.clear();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait())
            .await
            .unwrap();
        self.machine
    }

    /// The bytes of the file, once it is there and nothing else is left.
    async fn file(&self, file: &str) -> Bytes {
        let path = format!("applications/live/streams/_definst_/{file}").into();
        let wait = async {
            loop {
                if self.machine.objects.head(&path).await.is_ok() && self.parts().await == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("no file");
        let found = self.machine.objects.get(&path).await.unwrap();
        found.bytes().await.unwrap()
    }

    /// How many objects recordings have that are not files.
    async fn parts(&self) -> usize {
        let parts = self.machine.objects.list(Some(&"recordings".into()));
        parts.count().await
    }
}

struct Publisher {
    lease: LogLease,
    guard: ConnectionGuard,
    epoch: Epoch,
    begun: Begun,
}

impl Publisher {
    fn send(&self, frames: &[Frame]) {
        let (id, epoch) = (self.guard.id, self.epoch);
        let frames = frames.iter().cloned().map(|mut frame| {
            frame.offset.epoch = epoch;
            frame
        });
        let handle = &self.lease.handle;
        handle
            .update(|log, now| log.append(now, id, epoch, frames))
            .unwrap();
    }

    /// Sends as the store takes it.
    async fn send_slowly(&self, frames: &[Frame]) {
        for some in frames.chunks(50) {
            self.send(some);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stored(&self, next: u64) {
        let mut progress = self.begun.progress.clone();
        let stored = progress.wait_for(|it| it.durable(next) == next);
        tokio::time::timeout(PATIENCE, stored)
            .await
            .expect("not stored")
            .unwrap();
    }

    fn stop(&self) {
        let id = self.guard.id;
        let handle = &self.lease.handle;
        handle.update(|log, now| log.close(now, id, CloseHow::Unpublished));
    }
}

/// A stream with pictures and sound, as an encoder sends it, from `start` on.
fn show(seconds: u64, start: u64) -> Vec<Frame> {
    let stream = SyntheticStream::new(Settings::default()).unwrap();
    let frames = stream.take_while(|frame| frame.timestamp < seconds * 1_000);
    let numbered = (0..).zip(frames);
    let frames = numbered.map(|(sequence, frame)| Frame {
        offset: Offset {
            epoch: Epoch(0),
            sequence,
        },
        timestamp: frame.timestamp + start,
        kind: frame.kind,
        flags: frame.flags,
        payload: frame.payload,
    });
    frames.collect()
}

/// Pictures and sounds by kind, in their order.
fn media<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> BTreeMap<bool, Vec<(u64, Bytes)>> {
    let mut media: BTreeMap<bool, Vec<(u64, Bytes)>> = BTreeMap::new();
    for frame in frames {
        let is_header = frame
            .flags
            .contains(headwater_media::frame::FrameFlags::HEADER);
        if frame.kind != FrameKind::Data && !is_header {
            let all = media.entry(frame.kind == FrameKind::Video).or_default();
            all.push((frame.timestamp, frame.payload.clone()));
        }
    }
    media
}

/// What a file holds, by the same.
fn played(file: &dyn MediaFile) -> BTreeMap<bool, Vec<(u64, Bytes)>> {
    let mut frames = Vec::new();
    let mut piece = file.piece_at_time(0).unwrap();
    loop {
        frames.extend(piece.frames.into_iter().map(|frame| Frame {
            offset: Offset::default(),
            timestamp: frame.timestamp,
            kind: frame.kind,
            flags: frame.flags,
            payload: frame.payload,
        }));
        match piece.next {
            Some(next) => piece = file.piece_at(next).unwrap(),
            None => return media(&frames),
        }
    }
}

fn flv(bytes: Bytes) -> FlvFile {
    FlvFile::open(Arc::new(bytes), Grid::default()).unwrap()
}

/// Runs a program that is to say nothing of errors, and gives what it says otherwise.
fn run(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .arg(file)
        .args(
            (program == "ffmpeg")
                .then_some(["-f", "null", "-"])
                .into_iter()
                .flatten(),
        )
        .output()
        .expect("the program is needed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && errors.is_empty(),
        "{program}: {errors}"
    );
    String::from_utf8(output.stdout).unwrap()
}

fn check_with_ffmpeg(bytes: &Bytes, extension: &str, seconds: f64, pictures: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("show.{extension}"));
    std::fs::write(&path, bytes).unwrap();
    let count = [
        "-v",
        "error",
        "-count_packets",
        "-select_streams",
        "v:0",
        "-show_entries",
        "stream=nb_read_packets:format=duration",
        "-of",
        "default=noprint_wrappers=1",
    ];
    let said = run("ffprobe", &count, &path);
    let value = |key: &str| {
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("no {key} in {said}"))
            .parse::<f64>()
            .unwrap()
    };
    assert_eq!(value("nb_read_packets"), pictures as f64);
    assert!((value("duration") - seconds).abs() < 0.2, "{said}");
    run("ffmpeg", &["-v", "error", "-xerror", "-i"], &path);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_a_file_that_others_play() {
    for machine in [Machine::local(), Machine::remote()] {
        let node = Node::start(machine, "a").await;
        let frames = show(6, 50_000);
        let publisher = node.open("show", Mode::Record, None).await;
        publisher.send_slowly(&frames).await;
        publisher.stop();
        publisher.stored(frames.len() as u64).await;
        let bytes = node.file("show.flv").await;
        let expected = media(&show(6, 0));
        assert_eq!(played(&flv(bytes.clone())), expected);
        check_with_ffmpeg(&bytes, "flv", 6.0, expected[&true].len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_an_mp4_file_if_its_name_says_so() {
    let node = Node::start(Machine::local(), "a").await;
    let frames = show(6, 0);
    let publisher = node.open("mp4:show.f4v", Mode::Record, None).await;
    publisher.send_slowly(&frames).await;
    publisher.stop();
    let bytes = node.file("show.f4v").await;
    let expected = media(&frames);
    check_with_ffmpeg(&bytes, "mp4", 6.0, expected[&true].len());
    let file = Mp4File::open(Arc::new(bytes), Grid::default()).unwrap();
    let payloads = |media: BTreeMap<bool, Vec<(u64, Bytes)>>| {
        media
            .into_values()
            .map(|frames| frames.into_iter().map(|(_, payload)| payload).collect())
            .collect::<Vec<Vec<Bytes>>>()
    };
    assert_eq!(payloads(played(&file)), payloads(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_dies_again_and_again_loses_nothing() {
    for machine in [Machine::local(), Machine::remote()] {
        let frames = show(10, 0);
        let mut node = Node::start(machine, "a").await;
        let mut publisher = node.open("show", Mode::Record, None).await;
        let epoch = publisher.epoch;
        let mut from = 0;
        for round in 1..5 {
            let until = frames.len() * round / 5;
            publisher.send_slowly(&frames[from..until]).await;
            let durable = publisher.begun.progress.borrow().durable(until as u64);
            drop(publisher);
            let machine = node.die().await;
            // Where the store is shared, another machine goes on.
            let machine = match machine.is_local {
                true => machine,
                false => machine.next(),
            };
            node = Node::start(machine, "a").await;
            // The edge has kept what it was not told to be durable, and a little more.
            let first = durable.saturating_sub(7);
            publisher = node.open("show", Mode::Record, Some((epoch, first))).await;
            from = usize::try_from(first).unwrap();
        }
        publisher.send_slowly(&frames[from..]).await;
        publisher.stop();
        let bytes = node.file("show.flv").await;
        assert_eq!(played(&flv(bytes)), media(&frames));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_has_becomes_a_file_without_a_mark() {
    let node = Node::start(Machine::local(), "a").await;
    let frames = show(4, 0);
    let publisher = node.open("show", Mode::Record, None).await;
    publisher.send(&frames);
    publisher.stored(frames.len() as u64).await;
    drop(publisher);
    let machine = node.die().await;
    std::fs::remove_dir_all(machine.journal().join("unfinished")).unwrap();
    let node = Node::start(machine, "a").await;
    let bytes = node.file("show.flv").await;
    assert_eq!(played(&flv(bytes)), media(&frames));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_for_what_only_the_journal_has_waits_for_it() {
    let node = Node::start(Machine::local(), "a").await;
    // Less than a segment.
    let mut frames = show(1, 0);
    frames.truncate(10);
    let frames = &frames[..];
    let publisher = node.open("show", Mode::Record, None).await;
    publisher.send(frames);
    publisher.stored(frames.len() as u64).await;
    let epoch = publisher.epoch;
    drop(publisher);
    let node = Node::start(node.die().await, "a").await;
    let name = StreamName::new("_defaultVHost_", "live", "_definst_", "show").unwrap();
    let looking = {
        let recordings = node.recordings.clone();
        tokio::spawn(async move { recordings.find(&name).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let resume = Some((epoch, frames.len() as u64));
    let _publisher = node.open("show", Mode::Record, resume).await;
    let found = looking.await.unwrap().unwrap().expect("it is there");
    let next = found.reader.summary().next.unwrap();
    assert_eq!(next.sequence, frames.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_open_becomes_a_file_and_is_gone_on_behind() {
    let node = Node::start(Machine::local(), "a").await;
    let frames = show(4, 0);
    let publisher = node.open("show", Mode::Record, None).await;
    publisher.send(&frames);
    publisher.stored(frames.len() as u64).await;
    drop(publisher);
    let node = Node::start(node.die().await, "a").await;
    let bytes = node.file("show.flv").await;
    assert_eq!(played(&flv(bytes.clone())), media(&frames));
    let second = node.open("show", Mode::Append, None).await;
    let end = second.begun.timeline.expect("no timeline");
    assert_eq!(end, flv(bytes).info().duration_ms);
    let more = show(4, end);
    second.send(&more);
    second.stop();
    second.stored(more.len() as u64).await;
    let composed = async {
        loop {
            let bytes = node.file("show.flv").await;
            if flv(bytes.clone()).info().duration_ms > end + 1_000 {
                return bytes;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let bytes = tokio::time::timeout(PATIENCE, composed)
        .await
        .expect("not composed");
    let all = media(frames.iter().chain(&more));
    assert_eq!(played(&flv(bytes.clone())), all);
    check_with_ffmpeg(&bytes, "flv", 8.0, all[&true].len());
    assert_eq!(
        std::fs::read_dir(node.machine.journal().join("unfinished"))
            .unwrap()
            .count(),
        0
    );
}
