//! A client that does only what the test tells it: it reads nothing, and so answers nothing, unless the test waits for
//! something. All that came is kept in its order.

use std::time::Duration;

use headwater_amf::Value;
use headwater_media::frame::FrameKind;
use headwater_media::synthetic::{SyntheticFrame, SyntheticStream, read_stamp};
use headwater_rtmp::client::{ClientEvent, ClientSession};
use headwater_rtmp::command::{PlayLength, PlayReset, PlayStart, PublishMode};
use headwater_rtmp::server::MediaFrame;
use tokio::time::Instant;

use super::client::{Connection, FrameId, Sent, Wishes, message, sent};
use super::media::hash;
use super::wait::{patience, runtime};

/// How much of what came a failure shows.
const SHOWN: usize = 12;

/// How long a server may take to answer a command.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A thing that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// `onStatus`, of a stream or of the connection (0).
    Status { stream: u32, code: String },
    /// `onMetaData`.
    Metadata { stream: u32, timestamp: u32 },
    /// A codec header.
    Header {
        stream: u32,
        kind: FrameKind,
        timestamp: u32,
    },
    /// A frame of a [`SyntheticStream`].
    Frame {
        stream: u32,
        id: FrameId,
        is_key: bool,
        timestamp: u32,
        /// From being sent to being read.
        latency: Duration,
    },
    /// The server asked to connect elsewhere.
    ReconnectRequest,
}

impl Came {
    /// Whether it is a frame of this stream and kind.
    pub(crate) fn is(&self, wanted: u32, kind: FrameKind) -> bool {
        matches!(self, Self::Frame { stream, id, .. } if *stream == wanted && id.kind == kind)
    }

    /// Whether it is this status of this stream.
    pub(crate) fn says(&self, wanted: u32, text: &str) -> bool {
        matches!(self, Self::Status { stream, code } if *stream == wanted && code == text)
    }
}

/// Clients that are steered have one connection each.
#[derive(Debug)]
pub(crate) struct Steered {
    connection: Connection,
    /// Name of the stream in the address that it was made with.
    name: String,
    came: Vec<Came>,
    ended: Option<String>,
}

impl Steered {
    /// Connects to the application of an address.
    pub(crate) fn connect(url: &str) -> Self {
        Self::connect_with(url, &Wishes::default())
    }

    /// Connects in a certain way.
    pub(crate) fn connect_with(url: &str, wishes: &Wishes) -> Self {
        let opening = async {
            tokio::time::timeout(patience(ANSWER_LIMIT), Connection::open_with(url, wishes)).await
        };
        let (connection, name) = runtime()
            .block_on(opening)
            .unwrap_or_else(|_| panic!("{url}: no answer"))
            .unwrap_or_else(|error| panic!("{url}: {error}"));
        Self {
            connection,
            name,
            came: Vec::new(),
            ended: None,
        }
    }

    /// Plays the stream of an address from the live end, on a new message stream.
    pub(crate) fn play_live(url: &str) -> (Self, u32) {
        let mut player = Self::connect(url);
        let stream = player.create_stream();
        player.play_it(stream);
        (player, stream)
    }

    /// Publishes the stream of an address, on a new message stream.
    pub(crate) fn publish(url: &str) -> (Self, u32) {
        Self::publish_as(url, PublishMode::Live)
    }

    /// Publishes the stream of an address in a certain mode.
    pub(crate) fn publish_as(url: &str, mode: PublishMode) -> (Self, u32) {
        let mut publisher = Self::connect(url);
        let name = publisher.name.clone();
        let stream = publisher.create_stream();
        publisher.tell(|session| session.publish(stream, &name, mode).map(drop));
        publisher.wait_status(stream, "NetStream.Publish.Start");
        (publisher, stream)
    }

    /// Makes a message stream.
    pub(crate) fn create_stream(&mut self) -> u32 {
        let mut made = None;
        self.connection.session.create_stream().expect("a call");
        let deadline = Instant::now() + patience(ANSWER_LIMIT);
        while made.is_none() {
            assert!(Instant::now() < deadline, "no stream was made");
            if let Some(ClientEvent::StreamCreated { stream_id, .. }) = self.read(deadline) {
                made = Some(stream_id);
            }
        }
        made.unwrap_or_default()
    }

    /// Plays the stream of the address on a message stream.
    pub(crate) fn play_it(&mut self, stream: u32) {
        let name = self.name.clone();
        self.play(stream, &name, PlayStart::Live);
    }

    /// Plays on a message stream, and waits until the server has agreed.
    pub(crate) fn play(&mut self, stream: u32, name: &str, start: PlayStart) {
        let mark = self.mark();
        self.ask_to_play(stream, name, start);
        self.wait_since(mark, "it plays", ANSWER_LIMIT, |came| {
            came.iter()
                .any(|it| it.says(stream, "NetStream.Play.Start"))
        });
    }

    /// Sends `play`.
    pub(crate) fn ask_to_play(&mut self, stream: u32, name: &str, start: PlayStart) {
        self.tell(|session| session.play(stream, name, start, PlayLength::All, PlayReset::Reset));
    }

    /// Sends a command.
    pub(crate) fn tell<E: std::fmt::Debug>(
        &mut self,
        command: impl FnOnce(&mut ClientSession) -> Result<(), E>,
    ) {
        command(&mut self.connection.session).expect("a command");
        self.flush();
    }

    /// Sends the next frames of a publisher, in real time, for a stretch of media time. Reads on the way.
    pub(crate) fn send(
        &mut self,
        stream: u32,
        source: &mut SyntheticStream,
        stretch: Duration,
    ) -> Vec<Sent> {
        let begin = source.next_timestamp();
        let start = Instant::now();
        let mut all = Vec::new();
        loop {
            let elapsed = Duration::from_millis(source.next_timestamp() - begin);
            if elapsed > stretch {
                return all;
            }
            self.read_until(start + elapsed);
            let frame: SyntheticFrame = source.next_frame(super::client::stamp());
            all.extend(sent(&frame));
            let message = message(frame);
            self.tell(|session| session.send_media(stream, &message));
        }
    }

    /// Sends the next frames of a publisher, as fast as they are taken: what a stalled encoder does when it can again.
    pub(crate) fn send_at_once(
        &mut self,
        stream: u32,
        source: &mut SyntheticStream,
        stretch: Duration,
    ) -> Vec<Sent> {
        let end = source.next_timestamp() + stretch.as_millis() as u64;
        let mut all = Vec::new();
        while source.next_timestamp() < end {
            let frame: SyntheticFrame = source.next_frame(super::client::stamp());
            all.extend(sent(&frame));
            let message = message(frame);
            self.tell(|session| session.send_media(stream, &message));
        }
        all
    }

    /// A place in what came.
    pub(crate) fn mark(&self) -> usize {
        self.came.len()
    }

    /// What came since then.
    pub(crate) fn since(&self, mark: usize) -> &[Came] {
        &self.came[mark..]
    }

    /// All that came.
    pub(crate) fn came(&self) -> &[Came] {
        &self.came
    }

    /// Why the connection ended, if it did.
    pub(crate) fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    /// Reads until a condition holds for all that came.
    pub(crate) fn wait(&mut self, what: &str, limit: Duration, holds: impl FnMut(&[Came]) -> bool) {
        self.wait_since(0, what, limit, holds);
    }

    /// Reads until a condition holds for what came since a place.
    pub(crate) fn wait_since(
        &mut self,
        mark: usize,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut(&[Came]) -> bool,
    ) {
        let limit = patience(limit);
        let deadline = Instant::now() + limit;
        while !holds(self.since(mark)) {
            let last = &self.came[self.came.len().saturating_sub(SHOWN)..];
            assert!(
                self.ended.is_none(),
                "{what}: {:?} after {last:#?}",
                self.ended
            );
            assert!(
                Instant::now() < deadline,
                "{what}: not within {limit:?}, the last that came: {last:#?}"
            );
            // In small steps: the condition may look at something else as well.
            self.read(deadline.min(Instant::now() + Duration::from_millis(20)));
        }
    }

    /// Reads until a status has come.
    pub(crate) fn wait_status(&mut self, stream: u32, code: &str) {
        self.wait(code, ANSWER_LIMIT, |came| {
            came.iter().any(|it| it.says(stream, code))
        });
    }

    /// Reads until so many frames of a stream have come since a place.
    pub(crate) fn wait_frames(&mut self, mark: usize, stream: u32, kind: FrameKind, count: usize) {
        self.wait_since(mark, &format!("{count} frames"), ANSWER_LIMIT, |came| {
            came.iter().filter(|it| it.is(stream, kind)).count() >= count
        });
    }

    /// Reads until the server has closed the connection.
    pub(crate) fn wait_end(&mut self, limit: Duration) {
        let limit = patience(limit);
        let deadline = Instant::now() + limit;
        while self.ended.is_none() {
            assert!(
                Instant::now() < deadline,
                "the connection ends: not within {limit:?}"
            );
            self.read(deadline);
        }
    }

    /// Reads all that comes for a time.
    pub(crate) fn read_for(&mut self, time: Duration) {
        self.read_until(Instant::now() + time);
    }

    /// Calls a method with one argument, and waits for its answer.
    pub(crate) fn call(&mut self, method: &str, argument: Value) -> Result<Value, Value> {
        let called = self.connection.session.call(method, vec![argument]);
        let called = called.expect("a call");
        let deadline = Instant::now() + patience(ANSWER_LIMIT);
        loop {
            assert!(
                Instant::now() < deadline && self.ended.is_none(),
                "{method}: no answer, the connection: {:?}",
                self.ended
            );
            match self.read(deadline) {
                Some(ClientEvent::CallResult {
                    transaction,
                    result,
                    ..
                }) if transaction == called => return result,
                _ => {}
            }
        }
    }

    fn read_until(&mut self, deadline: Instant) {
        while Instant::now() < deadline && self.ended.is_none() {
            self.read(deadline);
        }
    }

    /// Reads one event, and keeps what is of interest.
    fn read(&mut self, deadline: Instant) -> Option<ClientEvent> {
        let event = match runtime().block_on(self.connection.event_until(Some(deadline))) {
            Ok(event) => event?,
            Err(error) => {
                self.ended = Some(error.to_string());
                return None;
            }
        };
        let came = match &event {
            ClientEvent::Status { stream_id, status } => Some(Came::Status {
                stream: *stream_id,
                code: status.code.clone().into_owned(),
            }),
            ClientEvent::ReconnectRequest { .. } => Some(Came::ReconnectRequest),
            ClientEvent::Media { stream_id, frame } => media(*stream_id, frame),
            _ => None,
        };
        self.came.extend(came);
        Some(event)
    }

    fn flush(&mut self) {
        if let Err(error) = runtime().block_on(self.connection.flush()) {
            self.ended = Some(error.to_string());
        }
    }
}

/// What a media message is. None for messages of no interest, such as `|RtmpSampleAccess`.
fn media(stream: u32, frame: &MediaFrame) -> Option<Came> {
    let timestamp = frame.timestamp;
    if frame.kind == FrameKind::Data {
        let is_metadata = frame.payload.windows(10).any(|part| part == b"onMetaData");
        return is_metadata.then_some(Came::Metadata { stream, timestamp });
    }
    let Some(stamp) = read_stamp(&frame.payload) else {
        return Some(Came::Header {
            stream,
            kind: frame.kind,
            timestamp,
        });
    };
    Some(Came::Frame {
        stream,
        id: FrameId {
            kind: frame.kind,
            number: stamp.sequence,
            hash: hash(&frame.payload),
        },
        // The upper half of the first byte of FLV video: 1 is a key frame.
        is_key: frame.kind == FrameKind::Video
            && frame.payload.first().is_some_and(|first| first >> 4 == 1),
        timestamp,
        latency: super::client::clock().saturating_sub(Duration::from_nanos(stamp.sent_at)),
    })
}

/// The frames of one stream and kind among what came.
pub(crate) fn frames(came: &[Came], wanted: u32, wanted_kind: FrameKind) -> Vec<(u64, bool)> {
    came.iter()
        .filter(|it| it.is(wanted, wanted_kind))
        .filter_map(|it| match it {
            Came::Frame { id, is_key, .. } => Some((id.number, *is_key)),
            _ => None,
        })
        .collect()
}

/// Fails unless frames start with a key frame and have no hole, or go on after one with a key frame.
pub(crate) fn assert_decodable(what: &str, frames: &[(u64, bool)]) {
    let mut before: Option<u64> = None;
    for &(number, is_key) in frames {
        let fits = is_key || before.is_some_and(|before| number == before + 1);
        let forward = before.is_none_or(|before| number > before);
        assert!(
            fits && forward,
            "{what}: frame {number} (key: {is_key}) after {before:?}"
        );
        before = Some(number);
    }
}

/// Fails unless the timestamps of a stream never go back. Those of metadata say nothing.
pub(crate) fn assert_time_goes_on(what: &str, came: &[Came], wanted: u32) {
    let mut newest = 0;
    for it in came {
        let (stream, timestamp) = match it {
            Came::Header {
                stream, timestamp, ..
            }
            | Came::Frame {
                stream, timestamp, ..
            } => (*stream, *timestamp),
            Came::Metadata { .. } | Came::Status { .. } | Came::ReconnectRequest => continue,
        };
        if stream == wanted {
            assert!(timestamp >= newest, "{what}: {it:?} after {newest} ms");
            newest = timestamp;
        }
    }
}
