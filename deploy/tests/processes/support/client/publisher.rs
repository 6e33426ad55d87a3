//! A publisher of synthetic frames in real time.

use std::sync::Arc;
use std::time::Duration;

use headwater_media::frame::{FrameFlags, FrameKind};
use headwater_media::synthetic::{Settings, SyntheticFrame, SyntheticStream, read_stamp};
use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::command::{DataKind, PublishMode};
use headwater_rtmp::server::MediaFrame;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ClientError, Connection, FrameId, clock};
use crate::support::media::hash;
use crate::support::wait::{runtime, until};

/// A frame that was sent. Metadata and codec headers are not among them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) id: FrameId,
    pub(crate) is_key: bool,
}

#[derive(Debug, Default)]
struct State {
    sent: Vec<Sent>,
    publishing: bool,
    statuses: Vec<String>,
    ended: Option<String>,
}

/// A publisher that runs until it is told to end.
#[derive(Debug)]
pub(crate) struct Publisher {
    url: String,
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Begins to publish at an address, and waits until the server has agreed.
    pub(crate) fn start(url: &str, settings: Settings) -> Self {
        Self::start_as(url, settings, PublishMode::Live)
    }

    /// Begins to publish and have recorded, and waits until the server has agreed.
    pub(crate) fn start_as(url: &str, settings: Settings, mode: PublishMode) -> Self {
        let publisher = Self::spawn_as(url, settings, mode);
        until(
            &format!("{url} is published"),
            Duration::from_secs(10),
            || {
                let state = publisher.state.lock();
                assert!(state.ended.is_none(), "{url}: {:?}", state.ended);
                state.publishing
            },
        );
        publisher
    }

    /// Begins to publish, and waits for nothing.
    pub(crate) fn spawn(url: &str, settings: Settings) -> Self {
        Self::spawn_as(url, settings, PublishMode::Live)
    }

    fn spawn_as(url: &str, settings: Settings, mode: PublishMode) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let stop = CancellationToken::new();
        let running = run(
            url.to_owned(),
            settings,
            mode,
            Arc::clone(&state),
            stop.clone(),
        );
        let task = runtime().spawn({
            let state = Arc::clone(&state);
            async move {
                let outcome = running.await;
                state.lock().ended = Some(match outcome {
                    Ok(()) => "as told".to_owned(),
                    Err(error) => error.to_string(),
                });
            }
        });
        Self {
            url: url.to_owned(),
            state,
            stop,
            task: Some(task),
        }
    }

    /// How many frames were sent.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().sent.len()
    }

    /// What was sent so far.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.state.lock().sent.clone()
    }

    /// Fails if it is not connected any more.
    pub(crate) fn assert_connected(&self) {
        let state = self.state.lock();
        assert!(state.ended.is_none(), "{}: {:?}", self.url, state.ended);
    }

    /// Why it ended, if it did.
    pub(crate) fn ended(&self) -> Option<String> {
        self.state.lock().ended.clone()
    }

    /// Waits until a status has come.
    pub(crate) fn wait_status(&self, code: &str, limit: Duration) {
        until(&format!("{}: {code}", self.url), limit, || {
            self.assert_connected();
            self.statuses().iter().any(|found| found == code)
        });
    }

    /// The status codes that came, in order.
    pub(crate) fn statuses(&self) -> Vec<String> {
        self.state.lock().statuses.clone()
    }

    /// Ends in order, and gives what was sent. It must have been connected all the time.
    pub(crate) fn finish(mut self) -> Vec<Sent> {
        self.assert_connected();
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            runtime().block_on(task).expect("it ends");
        }
        let state = self.state.lock();
        assert_eq!(state.ended.as_deref(), Some("as told"), "{}", self.url);
        state.sent.clone()
    }

    /// Breaks off without a word, and gives what was sent.
    pub(crate) fn vanish(mut self) -> Vec<Sent> {
        if let Some(task) = self.task.take() {
            task.abort();
            // It may be sending at this very moment.
            let _ = runtime().block_on(task);
        }
        self.state.lock().sent.clone()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn run(
    url: String,
    settings: Settings,
    mode: PublishMode,
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
) -> Result<(), ClientError> {
    let mut stream = SyntheticStream::new(settings).expect("settings in range");
    let (mut connection, name) = Connection::open(&url).await?;
    let id = connection.create_stream().await?;
    connection.session.publish(id, &name, mode)?;
    while !state.lock().publishing {
        note(connection.next_event().await?, &state);
    }
    let start = Instant::now();
    while !stop.is_cancelled() {
        let due = start + Duration::from_millis(stream.next_timestamp());
        while due > Instant::now() {
            let Some(event) = connection.event_until(Some(due)).await? else {
                break;
            };
            note(event, &state);
        }
        let frame = stream.next_frame(stamp());
        state.lock().sent.extend(sent(&frame));
        connection.session.send_media(id, &message(frame))?;
        connection.flush().await?;
    }
    connection.session.unpublish(id)?;
    connection.session.delete_stream(id)?;
    connection.close().await
}

fn note(event: ClientEvent, state: &Mutex<State>) {
    if let ClientEvent::Status { status, .. } = event {
        let mut state = state.lock();
        state.publishing |= status.code == "NetStream.Publish.Start";
        state.statuses.push(status.code.into_owned());
    }
}

/// The time of sending for the stamp of a frame.
pub(crate) fn stamp() -> u64 {
    u64::try_from(clock().as_nanos()).unwrap_or(u64::MAX)
}

/// A frame as it is recorded. None for metadata and codec headers.
pub(crate) fn sent(frame: &SyntheticFrame) -> Option<Sent> {
    let stamp = read_stamp(&frame.payload)?;
    Some(Sent {
        id: FrameId {
            kind: frame.kind,
            number: stamp.sequence,
            hash: hash(&frame.payload),
        },
        is_key: frame.kind == FrameKind::Video && frame.flags.contains(FrameFlags::KEY),
    })
}

/// A frame as a message.
pub(crate) fn message(frame: SyntheticFrame) -> MediaFrame {
    MediaFrame {
        kind: frame.kind,
        data: match frame.kind {
            FrameKind::Data => DataKind::SetDataFrame,
            FrameKind::Audio | FrameKind::Video => DataKind::Plain,
        },
        // RTMP's clock wraps.
        timestamp: u32::try_from(frame.timestamp & u64::from(u32::MAX)).unwrap_or(0),
        payload: frame.payload,
    }
}
