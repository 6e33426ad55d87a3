//! One playing client: connects, plays, reads the stamps of what comes, and tells what it saw.
//!
//! Missing, repeated and late frames are counted for video and audio apart. Gaps and latency are those of video, or of audio
//! while no video has come.
//!
//! # The backlog
//! A server may begin with frames that it held, up to a group of pictures: they were sent before the viewer came, so that their age says
//! nothing about the way. What was sent before the first message came counts as backlog and is not timed.

use std::sync::Arc;
use std::time::Duration;

use headwater_media::frame::{FrameFlags, FrameKind};
use headwater_media::inspect::inspect;
use headwater_media::synthetic::read_stamp;
use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::server::MediaFrame;
use headwater_rtmp::status::{Level, StatusCode};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::{ClientError, ConnectOptions, Connection, Statuses};
use crate::clock::now_ns;
use crate::measure::{Gaps, Latency, LatencyReport, SequenceReport, Sequences};
use crate::target::Target;

/// How long taking leave may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What to play, and how to look at it.
#[derive(Clone, Debug)]
pub struct ViewerOptions {
    /// The stream.
    pub target: Target,
    /// How to connect.
    pub connect: ConnectOptions,
    /// How long to wait before connecting.
    pub start_after: Duration,
    /// The buffer that the server is told of.
    pub buffer: Duration,
    /// From what length on gaps between frames are kept one by one in the report.
    pub keep_gaps_from: Duration,
    /// The histogram to fill, which many viewers may share. One of its own is made if there is none.
    pub latency: Option<Latency>,
}

impl ViewerOptions {
    /// Plays at once, with a buffer of 100 ms, and keeps gaps from 100 ms on.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            connect: ConnectOptions::default(),
            start_after: Duration::ZERO,
            buffer: Duration::from_millis(100),
            keep_gaps_from: Duration::from_millis(100),
            latency: None,
        }
    }
}

/// What a viewer saw so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ViewerReport {
    /// From the start of connecting until the server was asked to play; `None` before.
    pub setup: Option<Duration>,
    /// From the start of connecting to the first audio or video frame that is no header.
    pub first_frame: Option<Duration>,
    /// Video frames, without headers, stamped or not.
    pub video_frames: u64,
    /// Audio frames, without headers, stamped or not.
    pub audio_frames: u64,
    /// Data messages.
    pub data_messages: u64,
    /// Bytes of RTMP that came.
    pub bytes: u64,
    /// Missing frames of both tracks.
    pub missing: u64,
    /// Repeated frames of both tracks.
    pub repeated: u64,
    /// Frames of both tracks that came late.
    pub reordered: u64,
    /// The account of video.
    pub video: SequenceReport,
    /// The account of audio.
    pub audio: SequenceReport,
    /// Frames that were sent before the viewer came, and so not timed.
    pub backlog: u64,
    /// Gaps between frames that were long enough to be kept, with the one that is still open.
    pub gaps: Vec<Duration>,
    /// The longest gap.
    pub longest_gap: Duration,
    /// Gaps longer than [`STALL`](crate::measure::STALL).
    pub stalls: u64,
    /// Gaps longer than [`LONG_STALL`](crate::measure::LONG_STALL).
    pub long_stalls: u64,
    /// What the server said.
    pub statuses: Statuses,
    /// Why it ended, if nobody stopped it.
    pub disconnected: Option<ClientError>,
}

impl ViewerReport {
    /// Whether it saw something, everything of it once, and was not cut off.
    #[must_use]
    pub const fn is_without_loss(&self) -> bool {
        self.first_frame.is_some()
            && self.missing == 0
            && self.repeated == 0
            && self.disconnected.is_none()
    }
}

/// The figures of a progress line: cheap to take of thousands of viewers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewerCounts {
    /// Whether a frame came.
    pub is_playing: bool,
    /// Video and audio frames.
    pub frames: u64,
    /// Bytes of RTMP that came.
    pub bytes: u64,
    /// Missing and repeated frames.
    pub faults: u64,
    /// Gaps longer than [`STALL`](crate::measure::STALL), without one that is still open.
    pub stalls: u64,
}

/// A viewer that runs. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Viewer {
    shared: Arc<Shared>,
    latency: Latency,
    stop: DropGuard,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    seen: Mutex<Seen>,
    /// Counts turns of the connection, and tells the end.
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    turns: u64,
    has_ended: bool,
}

impl Viewer {
    /// Starts a viewer on the current tokio runtime.
    #[must_use]
    pub fn start(mut options: ViewerOptions) -> Self {
        let stop = CancellationToken::new();
        let latency = options.latency.take().unwrap_or_default();
        let shared = Arc::new(Shared {
            seen: Mutex::new(Seen::new(options.keep_gaps_from)),
            progress: watch::Sender::new(Progress::default()),
        });
        let run = run(options, latency.clone(), Arc::clone(&shared), stop.clone());
        Self {
            task: tokio::spawn(run),
            shared,
            latency,
            stop: stop.drop_guard(),
        }
    }

    /// What it saw so far.
    #[must_use]
    pub fn report(&self) -> ViewerReport {
        self.shared.seen.lock().report(now_ns())
    }

    /// A few figures of the report.
    #[must_use]
    pub fn counts(&self) -> ViewerCounts {
        let seen = self.shared.seen.lock();
        let (video, audio) = (seen.video.report(), seen.audio.report());
        let faults = [video.missing, video.repeated, audio.missing, audio.repeated];
        ViewerCounts {
            is_playing: seen.report.first_frame.is_some(),
            frames: seen.report.video_frames + seen.report.audio_frames,
            bytes: seen.report.bytes,
            faults: faults.into_iter().fold(0, u64::saturating_add),
            stalls: seen.gaps.stalls(),
        }
    }

    /// The latencies of the histogram that it fills: its own, unless it was given one.
    #[must_use]
    pub fn latency(&self) -> LatencyReport {
        self.latency.report()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.shared.progress.borrow().has_ended
    }

    /// Waits until the report is as wished, it has ended, or the patience is over. Gives whether the report is as wished.
    pub async fn wait_until(
        &self,
        patience: Duration,
        mut is_reached: impl FnMut(&ViewerReport) -> bool,
    ) -> bool {
        let mut progress = self.shared.progress.subscribe();
        let reached = async {
            loop {
                let has_ended = progress.borrow_and_update().has_ended;
                if is_reached(&self.report()) {
                    return true;
                }
                if has_ended || progress.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(patience, reached)
            .await
            .unwrap_or(false)
    }

    /// Stops playing, takes leave of the server within a second, and gives the report as it was before.
    pub async fn stop(self) -> ViewerReport {
        let report = self.report();
        drop(self.stop);
        // A panic of the task was told where it happened.
        let _ended = self.task.await;
        report
    }
}

async fn run(
    options: ViewerOptions,
    latency: Latency,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let work = async {
        tokio::time::sleep(options.start_after).await;
        let begun = Instant::now();
        let begun_ns = now_ns();
        let mut connection = Connection::open(&options.target, &options.connect).await?;
        let stream_id = connection
            .play(&options.target.stream, options.buffer)
            .await?;
        {
            let mut seen = shared.seen.lock();
            seen.begun = begun_ns;
            seen.stream_id = stream_id;
            seen.report.setup = Some(begun.elapsed());
            seen.report.statuses = connection.early_statuses().clone();
        }
        Ok::<_, ClientError>(connection)
    };
    // On the heap while it lasts: otherwise each client keeps room for connecting as long as it lives.
    let outcome = match stop.run_until_cancelled(Box::pin(work)).await {
        None => Ok(()),
        Some(Err(failure)) => Err(failure),
        Some(Ok(mut connection)) => {
            let watching = watch_stream(&mut connection, &latency, &shared);
            match stop.run_until_cancelled(watching).await {
                Some(failure) => Err(failure),
                None => {
                    let stream_id = shared.seen.lock().stream_id;
                    Box::pin(connection.close(Some(stream_id), None, FAREWELL)).await;
                    Ok(())
                }
            }
        }
    };
    {
        let mut seen = shared.seen.lock();
        seen.ended_at = Some(now_ns());
        seen.report.disconnected = outcome.err();
    }
    shared
        .progress
        .send_modify(|progress| progress.has_ended = true);
}

/// Plays until the connection fails or the server refuses, which is what it gives.
async fn watch_stream(
    connection: &mut Connection,
    latency: &Latency,
    shared: &Shared,
) -> ClientError {
    loop {
        let mut failure = connection.turn().await.err();
        {
            let mut seen = shared.seen.lock();
            seen.report.bytes = connection.bytes_in();
            while let Some(event) = connection.poll_event() {
                if let Err(refusal) = seen.take(&event, connection.read_at(), latency) {
                    failure = Some(refusal);
                }
            }
        }
        // What was seen is written down before this look: who subscribes after it finds it.
        if shared.progress.receiver_count() > 0 {
            shared
                .progress
                .send_modify(|progress| progress.turns = progress.turns.wrapping_add(1));
        }
        if let Some(failure) = failure {
            return failure;
        }
    }
}

/// What was seen, while it is seen. Times are nanoseconds of [`now_ns`].
#[derive(Debug)]
struct Seen {
    /// What needs no account of its own.
    report: ViewerReport,
    stream_id: u32,
    begun: u64,
    /// When the first message of the stream came.
    joined: Option<u64>,
    ended_at: Option<u64>,
    /// Whether gaps and latency are those of video.
    has_video: bool,
    video: Sequences,
    audio: Sequences,
    gaps: Gaps,
}

impl Seen {
    fn new(keep_gaps_from: Duration) -> Self {
        Self {
            report: ViewerReport::default(),
            stream_id: 0,
            begun: now_ns(),
            joined: None,
            ended_at: None,
            has_video: false,
            video: Sequences::default(),
            audio: Sequences::default(),
            gaps: Gaps::new(keep_gaps_from),
        }
    }

    /// Takes an event that was read at `now`. An error ends the viewer.
    fn take(
        &mut self,
        event: &ClientEvent,
        now: u64,
        latency: &Latency,
    ) -> Result<(), ClientError> {
        let at = Duration::from_nanos(now.saturating_sub(self.begun));
        match event {
            ClientEvent::Media { frame, .. } => {
                self.take_frame(frame, now, at, latency);
                return Ok(());
            }
            ClientEvent::StreamEof { .. } => self.gaps.end(),
            ClientEvent::Closed => return Err(ClientError::Closed),
            ClientEvent::Status { stream_id, status }
            | ClientEvent::PlayStatus { stream_id, status } => {
                self.report.statuses.note(event, at);
                if status.level == Level::Error && [0, self.stream_id].contains(stream_id) {
                    return Err(ClientError::refused(status.clone()));
                }
                let ends = [
                    StatusCode::PlayUnpublishNotify,
                    StatusCode::PlayStop,
                    StatusCode::PlayComplete,
                ];
                if ends.iter().any(|code| status.code == code.as_str()) {
                    self.gaps.end();
                }
            }
            other => self.report.statuses.note(other, at),
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: &MediaFrame, now: u64, at: Duration, latency: &Latency) {
        let joined = *self.joined.get_or_insert(now);
        if frame.kind == FrameKind::Data {
            self.report.data_messages += 1;
            return;
        }
        let is_video = frame.kind == FrameKind::Video;
        if is_video && !self.has_video {
            self.has_video = true;
            // Audio that came before the first picture leaves no trace in the gaps.
            self.gaps.restart();
        }
        let inspection = inspect(frame.kind, &frame.payload);
        if inspection.flags.contains(FrameFlags::HEADER) || frame.payload.is_empty() {
            return;
        }
        self.report.first_frame.get_or_insert(at);
        let (count, sequences) = if is_video {
            (&mut self.report.video_frames, &mut self.video)
        } else {
            (&mut self.report.audio_frames, &mut self.audio)
        };
        *count += 1;
        let stamp = read_stamp(&frame.payload);
        if let Some(stamp) = stamp {
            sequences.record(stamp);
        }
        if is_video != self.has_video {
            return;
        }
        self.gaps.record(now);
        match stamp {
            Some(stamp) if stamp.sent_at < joined => self.report.backlog += 1,
            Some(stamp) => latency.record(stamp.sent_at, now),
            None => {}
        }
    }

    fn report(&self, now: u64) -> ViewerReport {
        let gaps = self.gaps.report(self.ended_at.unwrap_or(now));
        let (video, audio) = (self.video.report(), self.audio.report());
        ViewerReport {
            missing: video.missing.saturating_add(audio.missing),
            repeated: video.repeated.saturating_add(audio.repeated),
            reordered: video.reordered.saturating_add(audio.reordered),
            video,
            audio,
            gaps: gaps.gaps,
            longest_gap: gaps.longest,
            stalls: gaps.stalls,
            long_stalls: gaps.long_stalls,
            ..self.report.clone()
        }
    }
}
