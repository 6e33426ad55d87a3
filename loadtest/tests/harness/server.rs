//! A small RTMP server for the tests of the harness: relays what is published to who plays it, and misbehaves where a name asks for it.
//!
//! | name | what happens |
//! |---|---|
//! | application `closed` | connect is rejected |
//! | stream `taken` | publish is refused with BadName |
//! | stream not published | play is refused with StreamNotFound |
//! | stream `faulty` | video frames 20 and 21 are not relayed, 30 is relayed twice, 41 before 40 |
//! | stream `cut` | players are cut off after 20 video frames |
//! | stream `halting` | players wait 700 ms after 20 video frames |

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use headwater_media::frame::{FrameFlags, FrameKind};
use headwater_media::inspect::inspect;
use headwater_media::synthetic::read_stamp;
use headwater_rtmp::chunk::shared_wire_form;
use headwater_rtmp::command::chunk_streams;
use headwater_rtmp::handshake::RANDOM_LENGTH;
use headwater_rtmp::message::{Message, MessageType};
use headwater_rtmp::server::{
    ConnectAnswer, ConnectRejection, MediaFrame, PlayAnswer, ServerConfig, ServerEvent,
    ServerSession,
};
use headwater_rtmp::status::StatusCode;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// A server on a port of the loopback that the system chose.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    streams: Arc<Streams>,
    accepting: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let streams = Arc::new(Streams::default());
        let shared = Arc::clone(&streams);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (streams, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(accepted(socket, tls, streams));
            }
        });
        Self {
            address,
            streams,
            accepting,
        }
    }

    /// For another way to the same streams.
    pub(crate) fn streams(&self) -> Arc<Streams> {
        Arc::clone(&self.streams)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.address)
    }
}

/// Serves a client whose connection has no handshake of its own in it.
pub(crate) async fn serve_without_handshake(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    streams: Arc<Streams>,
) {
    let session = ServerSession::without_handshake(ServerConfig::default(), Duration::ZERO);
    Peer::with_session(socket, session, streams).run().await;
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[derive(Default)]
pub(crate) struct Streams {
    published: Mutex<HashMap<String, Stream>>,
}

struct Stream {
    sender: broadcast::Sender<MediaFrame>,
    /// Headers, and the frames since the last key frame.
    held: Vec<MediaFrame>,
}

impl Streams {
    fn publish(&self, name: &str) {
        let stream = Stream {
            sender: broadcast::Sender::new(1024),
            held: Vec::new(),
        };
        self.published.lock().insert(name.to_owned(), stream);
    }

    fn send(&self, name: &str, frame: MediaFrame) {
        let mut published = self.published.lock();
        let stream = published.get_mut(name).unwrap();
        if inspect(frame.kind, &frame.payload).flags == FrameFlags::KEY {
            stream
                .held
                .retain(|frame| inspect(frame.kind, &frame.payload).flags == FrameFlags::HEADER);
        }
        stream.held.push(frame.clone());
        // Nobody may be playing.
        let _players = stream.sender.send(frame);
    }

    fn play(&self, name: &str) -> Option<(Vec<MediaFrame>, broadcast::Receiver<MediaFrame>)> {
        let published = self.published.lock();
        let stream = published.get(name)?;
        Some((stream.held.clone(), stream.sender.subscribe()))
    }
}

async fn accepted(socket: TcpStream, tls: Option<TlsAcceptor>, streams: Arc<Streams>) {
    socket.set_nodelay(true).unwrap();
    match tls {
        None => Peer::new(socket, streams).run().await,
        Some(tls) => {
            if let Ok(socket) = tls.accept(socket).await {
                Peer::new(socket, streams).run().await;
            }
        }
    }
}

/// What a player is to be given, and how.
struct Playing {
    name: String,
    stream_id: u32,
    frames: broadcast::Receiver<MediaFrame>,
    video_frames: u32,
    /// A frame that is given after the next one.
    swapped: Option<MediaFrame>,
}

struct Peer<T> {
    socket: T,
    session: ServerSession,
    input: BytesMut,
    streams: Arc<Streams>,
    started: Instant,
    publishing: Option<String>,
    playing: Option<Playing>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Peer<T> {
    fn new(socket: T, streams: Arc<Streams>) -> Self {
        let random = [7; RANDOM_LENGTH];
        let session = ServerSession::new(ServerConfig::default(), random, Duration::ZERO);
        Self::with_session(socket, session, streams)
    }

    fn with_session(socket: T, session: ServerSession, streams: Arc<Streams>) -> Self {
        Self {
            socket,
            input: BytesMut::new(),
            session,
            streams,
            started: Instant::now(),
            publishing: None,
            playing: None,
        }
    }

    /// Ends with the connection, whoever ends it.
    async fn run(mut self) {
        while self.turn().await.is_some() {}
        if let Some(name) = self.publishing.take() {
            self.streams.published.lock().remove(&name);
        }
    }

    async fn turn(&mut self) -> Option<()> {
        while let Some(bytes) = self.session.poll_transmit() {
            self.socket.write_all(&bytes).await.ok()?;
        }
        if self.session.should_close() {
            self.socket.shutdown().await.ok()?;
            return None;
        }
        tokio::select! {
            count = self.socket.read_buf(&mut self.input) => {
                count.ok().filter(|&count| count > 0)?;
                self.take_input().await
            }
            frame = next_frame(&mut self.playing) => self.relay(frame).await,
        }
    }

    async fn take_input(&mut self) -> Option<()> {
        let now = self.started.elapsed();
        loop {
            self.session.handle_input(now, &mut self.input).ok()?;
            while let Some(event) = self.session.poll_event() {
                self.act(event).await?;
            }
            if !self.session.has_more_input() {
                return Some(());
            }
        }
    }

    async fn act(&mut self, event: ServerEvent) -> Option<()> {
        let session = &mut self.session;
        match event {
            ServerEvent::Connect(request) if request.path.app == "closed" => session
                .reject_connect(ConnectRejection {
                    description: Some("Come back later.".to_owned()),
                    ..ConnectRejection::new(StatusCode::ConnectRejected)
                }),
            ServerEvent::Connect(_) => session.accept_connect(ConnectAnswer::default()),
            ServerEvent::Publish(request) if request.name == "taken" => {
                let (stream, code) = (request.stream_id, StatusCode::PublishBadName);
                session.reject_publish(stream, code, "Somebody has it.")
            }
            ServerEvent::Publish(request) => {
                self.streams.publish(&request.name);
                self.publishing = Some(request.name);
                session.accept_publish(request.stream_id)
            }
            ServerEvent::Unpublish { .. } => {
                if let Some(name) = self.publishing.take() {
                    self.streams.published.lock().remove(&name);
                }
                Ok(())
            }
            ServerEvent::Media { frame, .. } => {
                if let Some(name) = &self.publishing {
                    self.streams.send(name, frame);
                }
                Ok(())
            }
            ServerEvent::Play(request) => {
                let Some((held, frames)) = self.streams.play(&request.name) else {
                    let code = StatusCode::PlayStreamNotFound;
                    return session
                        .play_failed(request.stream_id, code, &request.name, "No such stream.")
                        .ok();
                };
                let stream_id = request.stream_id;
                session
                    .play_started(stream_id, &PlayAnswer::default())
                    .ok()?;
                while let Some(bytes) = self.session.poll_transmit() {
                    self.socket.write_all(&bytes).await.ok()?;
                }
                for frame in held {
                    self.write(stream_id, frame).await?;
                }
                self.playing = Some(Playing {
                    name: request.name,
                    stream_id,
                    frames,
                    video_frames: 0,
                    swapped: None,
                });
                Ok(())
            }
            _ => Ok(()),
        }
        .ok()
    }

    async fn relay(&mut self, frame: Option<MediaFrame>) -> Option<()> {
        let playing = self.playing.as_mut()?;
        let stream_id = playing.stream_id;
        let Some(frame) = frame else {
            let name = playing.name.clone();
            self.playing = None;
            return self.session.unpublish_notify(stream_id, &name).ok();
        };
        let stamp = read_stamp(&frame.payload).filter(|_| frame.kind == FrameKind::Video);
        let Some(stamp) = stamp else {
            return self.write(stream_id, frame).await;
        };
        playing.video_frames += 1;
        let count = playing.video_frames;
        match (playing.name.as_str(), stamp.sequence) {
            ("cut", _) if count > 20 => return None,
            ("halting", _) if count == 20 => {
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
            ("faulty", 20 | 21) => return Some(()),
            ("faulty", 30) => self.write(stream_id, frame.clone()).await?,
            ("faulty", 40) => {
                playing.swapped = Some(frame);
                return Some(());
            }
            ("faulty", 41) => {
                let before = playing.swapped.take()?;
                self.write(stream_id, frame).await?;
                return self.write(stream_id, before).await;
            }
            _ => {}
        }
        self.write(stream_id, frame).await
    }

    async fn write(&mut self, stream_id: u32, frame: MediaFrame) -> Option<()> {
        let (chunk_stream, kind) = match frame.kind {
            FrameKind::Audio => (chunk_streams::AUDIO, MessageType::AUDIO),
            FrameKind::Video => (chunk_streams::VIDEO, MessageType::VIDEO),
            FrameKind::Data => (chunk_streams::DATA, MessageType::DATA_AMF0),
        };
        let message = Message {
            kind,
            timestamp: frame.timestamp,
            stream_id,
            payload: frame.payload,
        };
        let wire = shared_wire_form(chunk_stream, &message, self.session.chunk_size_out());
        self.socket.write_all(&wire.bytes).await.ok()
    }
}

/// The next frame for a player, `None` at the end of its stream. Waits for ever for who plays nothing.
async fn next_frame(playing: &mut Option<Playing>) -> Option<MediaFrame> {
    let Some(playing) = playing else {
        return std::future::pending().await;
    };
    loop {
        match playing.frames.recv().await {
            Ok(frame) => return Some(frame),
            Err(RecvError::Closed) => return None,
            Err(RecvError::Lagged(_)) => {}
        }
    }
}
