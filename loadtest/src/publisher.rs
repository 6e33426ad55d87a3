//! One publishing client: connects, publishes its source in real time, and tells what it did.
//!
//! ```text
//!  waiting --> connecting --> publishing --> ended
//!     `-------------'--------------'  failure, end of the connection, stop
//! ```
//!
//! A frame is stamped when it is queued, which is when it is due. When the server takes less than the source gives, about a megabyte
//! waits; then frames are made late, and [`PublisherReport::most_behind`] says how late.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use headwater_media::frame::FrameKind;
use headwater_rtmp::client::ClientEvent;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::{ClientError, ConnectOptions, Connection, Statuses};
use crate::clock::now_ns;
use crate::pacing::Schedule;
use crate::source::{Source, SourceOptions};
use crate::target::Target;

/// How long taking leave may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Frames that are queued before what was queued is written, when many are due at once.
const MAX_BATCH: usize = 64;

/// What to publish, and where.
#[derive(Clone, Debug)]
pub struct PublisherOptions {
    /// The stream.
    pub target: Target,
    /// What to send.
    pub source: SourceOptions,
    /// How to connect.
    pub connect: ConnectOptions,
    /// How long to wait before connecting.
    pub start_after: Duration,
    /// By how much the first frame is sent after the server said that publishing began.
    pub phase: Duration,
}

impl PublisherOptions {
    /// Publishes the default synthetic stream at once.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            source: SourceOptions::default(),
            connect: ConnectOptions::default(),
            start_after: Duration::ZERO,
            phase: Duration::ZERO,
        }
    }
}

/// What a publisher did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublisherReport {
    /// From the start of connecting to the server's word that publishing began; `None` before.
    pub setup: Option<Duration>,
    /// For how long it has published.
    pub published_for: Duration,
    /// Video frames sent, without headers.
    pub video_frames: u64,
    /// Audio frames sent, without headers.
    pub audio_frames: u64,
    /// Bytes of all messages' bodies.
    pub bytes: u64,
    /// The number of the last video frame, as in its stamp.
    pub last_video: Option<u64>,
    /// The number of the last audio frame, as in its stamp.
    pub last_audio: Option<u64>,
    /// The most that a frame was sent after it was due. A millisecond or two are the timer's.
    pub most_behind: Duration,
    /// What the server said.
    pub statuses: Statuses,
    /// Why it ended, if nobody stopped it.
    pub failure: Option<ClientError>,
}

/// How far a publisher is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Publishing,
    Ended,
}

#[derive(Debug)]
struct Shared {
    report: Mutex<PublisherReport>,
    phase: watch::Sender<Phase>,
}

/// A publisher that runs. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Publisher {
    /// Starts a publisher on the current tokio runtime.
    #[must_use]
    pub fn start(options: PublisherOptions) -> Self {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            report: Mutex::default(),
            phase: watch::Sender::new(Phase::Starting),
        });
        let task = tokio::spawn(run(options, Arc::clone(&shared), stop.clone()));
        Self {
            shared,
            stop: stop.drop_guard(),
            task,
        }
    }

    /// Waits until the server said that publishing began.
    ///
    /// # Errors
    /// [`ClientError`]: it did not come to that.
    pub async fn published(&self) -> Result<(), ClientError> {
        let mut phase = self.shared.phase.subscribe();
        // The sender lives as long as `self`.
        let _open = phase.wait_for(|phase| *phase != Phase::Starting).await;
        let report = self.shared.report.lock();
        match (&report.failure, report.setup) {
            (_, Some(_)) => Ok(()),
            (Some(failure), None) => Err(failure.clone()),
            (None, None) => Err(ClientError::Closed),
        }
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&self) {
        let mut phase = self.shared.phase.subscribe();
        let _open = phase.wait_for(|phase| *phase == Phase::Ended).await;
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        *self.shared.phase.borrow() == Phase::Ended
    }

    /// What it did so far.
    #[must_use]
    pub fn report(&self) -> PublisherReport {
        self.shared.report.lock().clone()
    }

    /// Stops publishing, takes leave of the server within two seconds, and gives the last report.
    pub async fn stop(self) -> PublisherReport {
        drop(self.stop);
        // A panic of the task was told where it happened.
        let _ended = self.task.await;
        let report = self.shared.report.lock();
        report.clone()
    }
}

async fn run(options: PublisherOptions, shared: Arc<Shared>, stop: CancellationToken) {
    let work = async {
        tokio::time::sleep(options.start_after).await;
        let begun = Instant::now();
        let source =
            Source::new(&options.source).map_err(|error| ClientError::Source(error.to_string()))?;
        let mut connection = Connection::open(&options.target, &options.connect).await?;
        let stream_id = connection.publish(&options.target.stream).await?;
        {
            let mut report = shared.report.lock();
            report.setup = Some(begun.elapsed());
            report.statuses = connection.early_statuses().clone();
        }
        shared.phase.send_replace(Phase::Publishing);
        Ok::<_, ClientError>((source, connection, stream_id, begun))
    };
    // On the heap while it lasts: otherwise each client keeps room for connecting as long as it lives.
    let outcome = match stop.run_until_cancelled(Box::pin(work)).await {
        None => Ok(()),
        Some(Err(failure)) => Err(failure),
        Some(Ok((mut source, mut connection, stream_id, begun))) => {
            let frames = send_frames(
                &mut source,
                &mut connection,
                stream_id,
                &options,
                &shared,
                begun,
            );
            match stop.run_until_cancelled(frames).await {
                Some(failure) => Err(failure),
                None => {
                    let name = &options.target.stream;
                    Box::pin(connection.close(Some(stream_id), Some(name), FAREWELL)).await;
                    Ok(())
                }
            }
        }
    };
    shared.report.lock().failure = outcome.err();
    shared.phase.send_replace(Phase::Ended);
}

/// Publishes until the connection fails, which is what it gives.
async fn send_frames(
    source: &mut Source,
    connection: &mut Connection,
    stream_id: u32,
    options: &PublisherOptions,
    shared: &Shared,
    begun: Instant,
) -> ClientError {
    let first = Instant::now();
    let schedule = Schedule::new(first + options.phase);
    loop {
        let due = schedule.due(source.next_timestamp());
        let outcome = tokio::select! {
            biased;
            () = tokio::time::sleep_until(due), if connection.has_room() => {
                send_due(source, connection, stream_id, schedule, first, shared).await
            }
            turned = connection.turn() => turned,
        };
        let at = begun.elapsed();
        let mut failure = outcome.err();
        while let Some(event) = connection.poll_event() {
            shared.report.lock().statuses.note(&event, at);
            match event {
                ClientEvent::Closed => failure = failure.or(Some(ClientError::Closed)),
                ClientEvent::Status {
                    stream_id: on,
                    status,
                } if on == stream_id && status.level == headwater_rtmp::status::Level::Error => {
                    failure = Some(ClientError::refused(status));
                }
                _ => {}
            }
        }
        if let Some(failure) = failure {
            return failure;
        }
    }
}

/// Queues what is due and writes what can be written at once.
async fn send_due(
    source: &mut Source,
    connection: &mut Connection,
    stream_id: u32,
    schedule: Schedule,
    first: Instant,
    shared: &Shared,
) -> Result<(), ClientError> {
    let now = Instant::now();
    for _ in 0..MAX_BATCH {
        let due = source.next_timestamp();
        if schedule.due(due) > now || !connection.has_room() {
            break;
        }
        let frame = source.next_frame(now_ns());
        connection.send(stream_id, &frame)?;
        let mut report = shared.report.lock();
        report.bytes = report.bytes.saturating_add(frame.payload.len() as u64);
        report.published_for = now - first;
        report.most_behind = report.most_behind.max(schedule.lateness(now, due));
        if frame.is_header {
            continue;
        }
        match frame.kind {
            FrameKind::Video => {
                report.video_frames += 1;
                report.last_video = frame.sequence.or(report.last_video);
            }
            FrameKind::Audio => {
                report.audio_frames += 1;
                report.last_audio = frame.sequence.or(report.last_audio);
            }
            FrameKind::Data => {}
        }
    }
    // A full socket is for the next turn to wait for.
    poll_fn(|cx| match connection.poll_flush(cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending => Poll::Ready(Ok(())),
    })
    .await
}
