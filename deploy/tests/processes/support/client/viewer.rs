//! A viewer that records what it gets.

use std::sync::Arc;
use std::time::Duration;

use headwater_media::frame::FrameKind;
use headwater_media::synthetic::read_stamp;
use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::command::{PlayLength, PlayReset, PlayStart};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::{ClientError, Connection, FrameId, clock};
use crate::support::media::hash;
use crate::support::wait::{runtime, until};

/// A frame that came. Metadata and codec headers are not among them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) id: FrameId,
    /// When it came, by [`clock`].
    pub(crate) at: Duration,
    /// From being sent to being here.
    pub(crate) latency: Duration,
    /// RTMP timestamp in milliseconds.
    pub(crate) timestamp: u32,
}

#[derive(Debug, Default)]
struct State {
    received: Vec<Received>,
    /// Codec headers and metadata.
    headers: usize,
    /// What came before the first frame that is none of them.
    headers_first: usize,
    statuses: Vec<String>,
    ended: Option<String>,
}

/// A viewer that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Viewer {
    url: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Viewer {
    /// Begins to play, and waits until the server has agreed.
    pub(crate) fn start(url: &str) -> Self {
        let viewer = Self::spawn(url, PlayStart::Live);
        until(&format!("{url} is played"), Duration::from_secs(10), || {
            viewer.assert_connected();
            viewer.has_status("NetStream.Play.Start")
        });
        viewer
    }

    /// Begins to play, and waits for nothing.
    pub(crate) fn spawn(url: &str, start: PlayStart) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let running = run(url.to_owned(), start, Arc::clone(&state));
        let task = runtime().spawn({
            let state = Arc::clone(&state);
            async move {
                let Err(error) = running.await;
                state.lock().ended = Some(error.to_string());
            }
        });
        Self {
            url: url.to_owned(),
            state,
            task,
        }
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

    /// How many frames came.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().received.len()
    }

    /// How many headers and metadata came before the first other frame.
    pub(crate) fn headers_first(&self) -> usize {
        self.state.lock().headers_first
    }

    pub(crate) fn has_status(&self, code: &str) -> bool {
        self.state.lock().statuses.iter().any(|found| found == code)
    }

    /// The status codes that came, in order.
    pub(crate) fn statuses(&self) -> Vec<String> {
        self.state.lock().statuses.clone()
    }

    /// What came so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.lock().received.clone()
    }

    /// Waits until so many frames have come.
    pub(crate) fn wait_for(&self, count: usize, limit: Duration) {
        until(&format!("{}: {count} frames", self.url), limit, || {
            self.assert_connected();
            self.count() >= count
        });
    }

    /// Waits until this frame has come.
    pub(crate) fn wait_for_frame(&self, id: FrameId, limit: Duration) {
        until(&format!("{}: {id:?}", self.url), limit, || {
            self.assert_connected();
            let state = self.state.lock();
            state.received.iter().rev().any(|frame| frame.id == id)
        });
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    url: String,
    start: PlayStart,
    state: Arc<Mutex<State>>,
) -> Result<std::convert::Infallible, ClientError> {
    let (mut connection, name) = Connection::open(&url).await?;
    let id = connection.create_stream().await?;
    connection
        .session
        .play(id, &name, start, PlayLength::All, PlayReset::Reset)?;
    connection.session.set_buffer_length(id, 500)?;
    loop {
        match connection.next_event().await? {
            ClientEvent::Status { status, .. } | ClientEvent::PlayStatus { status, .. } => {
                state.lock().statuses.push(status.code.into_owned());
            }
            ClientEvent::ReconnectRequest { .. } => {
                let code = "NetConnection.Connect.ReconnectRequest";
                state.lock().statuses.push(code.to_owned());
            }
            ClientEvent::Media { frame, .. } => {
                let at = clock();
                let mut state = state.lock();
                match read_stamp(&frame.payload).filter(|_| frame.kind != FrameKind::Data) {
                    Some(stamp) => state.received.push(Received {
                        id: FrameId {
                            kind: frame.kind,
                            number: stamp.sequence,
                            hash: hash(&frame.payload),
                        },
                        at,
                        latency: at.saturating_sub(Duration::from_nanos(stamp.sent_at)),
                        timestamp: frame.timestamp,
                    }),
                    None => {
                        state.headers += 1;
                        if state.received.is_empty() {
                            state.headers_first += 1;
                        }
                    }
                }
            }
            _ => {}
        }
    }
}
