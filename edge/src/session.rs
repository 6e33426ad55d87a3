//! One client: its NetConnection and NetStreams, whatever carries them.
//!
//! A session is one task on its worker. It waits for the socket, for what its publications and the cluster tell it, and for
//! deadlines; it feeds the protocol core of `headwater-rtmp`, acts on the core's events, and hands the core's bytes to the
//! connection. Policy is here: which application exists, who may publish and play, and what a client is told when an origin
//! does not answer. Where the application has a say at its origin, the session asks there (`attached`, and `crate::application`).
//!
//! The end is always orderly: the last words are written, the socket is shut down for writing, and what the client still
//! sends is read for a moment, because a reset would destroy the words on their way.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use headwater_media::frame::Offset;
use headwater_media::name::{InstanceName, StreamName};
use headwater_rtmp::server::{ServerConfig, ServerEvent, ServerSession};
use headwater_rtmp::session::{SessionError, SessionLimits};
use headwater_rtmp::status::{Status, StatusCode};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::{debug, info};

use crate::admission::Place;
use crate::application::policies;
use crate::config::RtmpSection;
use crate::fanout::SharedConnection;
use crate::fanout::connection::Connection;
use crate::recorded::{Description, Piece, Recorded, RecordedError};
use crate::transport::Transport;
use crate::upstream::append::PublishEvent;
use crate::worker::Worker;
use headwater_application::ApplicationSection;

mod attached;
mod calls;
mod connect;
mod farewell;
mod notes;
mod objects;
mod play;
mod publish;
#[cfg(test)]
mod tests;

use attached::Attached;
use connect::Connecting;
use notes::Notes;
pub(crate) use notes::{Note, Teller};
use objects::Objects;
use play::Question;
use publish::{Probe, Publishing};

/// How long a client may take to read its last words and close.
const FAREWELL: Duration = Duration::from_secs(2);
/// A timer that is far enough away to mean never.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// The application that a client is connected to.
#[derive(Clone, Debug)]
struct Application {
    known: Arc<policies::Application>,
    instance: String,
}

impl Application {
    fn name(&self) -> &str {
        self.known.name()
    }

    /// What holds now. Nothing is allowed in an application that is there no more.
    fn policy(&self) -> Arc<ApplicationSection> {
        self.known.policy().unwrap_or_else(|| {
            Arc::new(ApplicationSection {
                publish: false,
                play: false,
                ..ApplicationSection::default()
            })
        })
    }

    /// The stream that a client means. `flv:` says nothing: without it a name would be another stream, on another origin maybe.
    fn stream(&self, name: &str) -> Result<StreamName, headwater_media::name::NameError> {
        let name = match name.split_at_checked(4) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("flv:") => rest,
            _ => name,
        };
        StreamName::new(self.known.vhost(), self.name(), &self.instance, name)
    }
}

/// What woke the session.
enum Wake {
    Input(usize),
    Eof,
    Failed(io::Error),
    /// A closing connection has written everything.
    Drained,
    Timer,
    /// A player, or a play that is over, has something for the session to do.
    Player,
    /// There is room for what shared objects owe the client.
    Objects,
    Note(Note),
    Publishing(usize, PublishEvent),
    Drain,
    LastCall,
}

struct Session {
    worker: Rc<Worker>,
    core: ServerSession,
    connection: SharedConnection,
    peer: SocketAddr,
    started: Instant,
    input: BytesMut,
    application: Option<Application>,
    connecting: Option<Box<Connecting>>,
    /// Where the application has a say.
    attached: Option<Box<Attached>>,
    /// Made when it is needed first.
    objects: Option<Box<Objects>>,
    publishing: Vec<Publishing>,
    questions: Vec<Question>,
    /// Made when it is needed first.
    recorded: Option<Recorded>,
    /// How much the client buffers of its streams, as far as it said so.
    buffers: Vec<(u32, Duration)>,
    probes: Vec<Probe>,
    /// Numbers the players, so that a late answer to one is not taken for one to the next.
    player_number: u32,
    notes: Notes,
    timer: Pin<Box<Sleep>>,
    drain: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    last_call: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    closing: bool,
    /// It has published or played.
    set_up: bool,
    _place: Place,
}

/// Serves a client until it leaves.
///
/// The session is boxed because a future keeps room twice for what it is given: where it was, and where it went.
pub(crate) fn run(
    worker: Rc<Worker>,
    transport: Transport,
    peer: SocketAddr,
    place: Place,
) -> impl Future<Output = ()> {
    let meters = Rc::clone(&worker.meters);
    let started = Instant::now();
    let connection = Rc::new(RefCell::new(Connection::new(transport, meters, started)));
    let shared = &worker.shared;
    let core = if connection.borrow().has_handshake() {
        let config = Arc::clone(&shared.rtmp);
        ServerSession::new(config, rand::random(), Duration::ZERO)
    } else {
        ServerSession::without_handshake(Arc::clone(&shared.rtmfp), Duration::ZERO)
    };
    let shutdown = &worker.shared.shutdown;
    let mut session = Box::new(Session {
        drain: Some(Box::pin(shutdown.draining().cancelled_owned())),
        last_call: Some(Box::pin(worker.shared.last_call.clone().cancelled_owned())),
        core,
        connection,
        peer,
        started,
        input: BytesMut::new(),
        application: None,
        connecting: None,
        attached: None,
        objects: None,
        publishing: Vec::new(),
        questions: Vec::new(),
        recorded: None,
        buffers: Vec::new(),
        probes: Vec::new(),
        player_number: 0,
        notes: Notes::default(),
        timer: Box::pin(tokio::time::sleep(NEVER)),
        closing: false,
        set_up: false,
        _place: place,
        worker,
    });
    async move { session.serve().await }
}

/// The settings of the protocol core.
pub(crate) fn core_config(rtmp: &RtmpSection) -> ServerConfig {
    let handshake = Duration::from_millis(rtmp.handshake_timeout_ms);
    ServerConfig {
        chunk_size: rtmp.chunk_bytes,
        handshake_timeout: handshake,
        connect_timeout: handshake,
        ping_interval: Some(Duration::from_millis(rtmp.ping_interval_ms)),
        ping_timeout: Duration::from_millis(rtmp.ping_timeout_ms),
        limits: SessionLimits {
            message_size: rtmp.message_bytes,
            ..SessionLimits::default()
        },
        ..ServerConfig::default()
    }
}

impl Session {
    async fn serve(&mut self) {
        debug!("accepted");
        let mut heard = false;
        loop {
            self.act().await;
            if std::mem::take(&mut heard) && self.is_setting_up() {
                self.connection.borrow().acknowledge_unless_answered();
            }
            self.set_timer();
            let wake = poll_fn(|cx| self.poll(cx)).await;
            match wake {
                Wake::Input(count) => {
                    self.worker
                        .shared
                        .metrics
                        .bytes_received
                        .inc_by(count as u64);
                    heard = true;
                    if self.closing {
                        self.input.clear();
                    } else {
                        self.feed();
                        self.answer_probes();
                    }
                }
                Wake::Eof => {
                    debug!("the client closed the connection");
                    break;
                }
                Wake::Failed(error) => {
                    debug!(%error, "the connection failed");
                    break;
                }
                Wake::Drained => {
                    self.farewell().await;
                    break;
                }
                Wake::Timer => {
                    if self.is_stuck() {
                        if self.closing {
                            debug!("the client does not take its last words");
                            break;
                        }
                        self.give_up();
                    }
                    self.answer_probes();
                    let now = self.now();
                    let outcome = self.core.handle_timeout(now);
                    self.note_failure(outcome);
                    self.connection.borrow_mut().run_players(now);
                    if self.attached.is_some() {
                        Box::pin(self.give_up_calls()).await;
                    }
                }
                // What it has to do is done in every round.
                Wake::Player => {}
                Wake::Note(Note::Connect { reachable }) => self.finish_connect(reachable),
                Wake::Note(Note::Judged(verdict)) => Box::pin(self.judged(verdict)).await,
                Wake::Note(Note::Application(what)) => Box::pin(self.application_says(*what)).await,
                Wake::Note(Note::Called(call)) => Box::pin(self.application_calls(&call)).await,
                Wake::Note(Note::Overrun) => self.overrun(),
                Wake::Objects => self.serve_objects(),
                Wake::Note(Note::ObjectLost(name)) => self.object_lost(&name),
                Wake::Note(Note::ObjectAgain) => self.objects_again(),
                Wake::Note(Note::Described {
                    stream_id,
                    number,
                    answer,
                }) => self.description_came(stream_id, number, answer),
                Wake::Note(Note::Live {
                    stream_id,
                    number,
                    live,
                }) => self.live_found(stream_id, number, live),
                Wake::Note(Note::Piece {
                    stream_id,
                    number,
                    answer,
                }) => self.piece_came(stream_id, number, answer),
                Wake::Note(Note::InfoSet {
                    transaction,
                    outcome,
                }) => self.stream_info_set(transaction, outcome),
                Wake::Note(Note::Known {
                    transaction,
                    asked,
                    answer,
                }) => self.stream_known(transaction, asked, answer),
                Wake::Publishing(index, event) => self.publish_event(index, event),
                Wake::Drain => self.ask_to_reconnect(),
                Wake::LastCall => self.shut_down(),
            }
        }
        self.core.handle_disconnect();
        self.act().await;
        let ignored = self.core.ignored_messages();
        if ignored > 0 {
            debug!(
                ignored,
                "messages of the client had no meaning where they came"
            );
            self.worker.shared.metrics.messages_ignored.inc_by(ignored);
        }
        // A play holds its hub, and the hub's walk holds the connection: the ring is broken here, whatever came before.
        let plays = std::mem::take(self.connection.borrow_mut().plays());
        drop(plays);
        self.connection.borrow_mut().drop_players();
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the client still talks about what it wants, and waits for each answer.
    fn is_setting_up(&mut self) -> bool {
        self.set_up |= !self.publishing.is_empty() || self.connection.borrow().is_playing();
        !self.set_up
    }

    fn feed(&mut self) {
        let now = self.now();
        let outcome = self.core.handle_input(now, &mut self.input);
        self.note_failure(outcome);
    }

    fn note_failure(&mut self, outcome: Result<(), SessionError>) {
        let Err(error) = outcome else {
            return;
        };
        let metrics = &self.worker.shared.metrics;
        if self.application.is_some() {
            metrics.sessions_ended_by_error.inc();
            info!(%error, "the session ends");
        } else {
            metrics.handshake_failures.inc();
            debug!(%error, "the client did not get connected");
        }
    }

    /// Does what the core's events ask for, and moves the core's bytes to the connection. What may wait for an origin is boxed, but for
    /// media: a session keeps no room for what it does rarely.
    async fn act(&mut self) {
        loop {
            self.transmit();
            let Some(event) = self.core.poll_event() else {
                if self.core.has_more_input() && !self.closing {
                    self.feed();
                    continue;
                }
                break;
            };
            self.handle(event).await;
        }
        self.drive_players();
        if self.has_ends() {
            Box::pin(self.say_ends()).await;
        }
        self.transmit();
        if self.core.should_close() {
            self.closing = true;
            self.objects = None;
            let mut connection = self.connection.borrow_mut();
            connection.plays().clear();
            connection.drop_players();
        }
        if self.input.is_empty() {
            // A silent viewer keeps no buffer: all of a worker take turns with one.
            self.worker.lend(std::mem::take(&mut self.input));
        }
    }

    fn transmit(&mut self) {
        let mut connection = self.connection.borrow_mut();
        while let Some(bytes) = self.core.poll_transmit() {
            connection.send(bytes);
        }
    }

    async fn handle(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Connect(request) => Box::pin(self.connect(request)).await,
            ServerEvent::Publish(request) => Box::pin(self.publish(request)).await,
            ServerEvent::Unpublish { stream_id } => {
                self.unpublish(stream_id);
                Box::pin(self.stream_ended(stream_id)).await;
            }
            ServerEvent::Media { stream_id, frame } => self.media(stream_id, frame).await,
            ServerEvent::Play(request) => Box::pin(self.play(request)).await,
            ServerEvent::PlayStopped { stream_id } => {
                self.stop_playing(stream_id);
                Box::pin(self.stream_ended(stream_id)).await;
            }
            ServerEvent::Play2 {
                stream_id,
                parameters,
            } => Box::pin(self.play2(stream_id, parameters)).await,
            ServerEvent::Pause {
                stream_id,
                paused,
                at,
            } => self.pause(stream_id, paused, at),
            ServerEvent::Seek { stream_id, to } => self.seek(stream_id, to),
            ServerEvent::ReceiveAudio { stream_id, wanted } => {
                self.receive_audio(stream_id, wanted);
            }
            ServerEvent::ReceiveVideo {
                stream_id, wanted, ..
            } => self.receive_video(stream_id, wanted),
            ServerEvent::BufferLength {
                stream_id,
                milliseconds,
            } => self.buffer_length(stream_id, milliseconds),
            ServerEvent::Call {
                name,
                transaction,
                arguments,
                ..
            } => Box::pin(self.call(name, transaction, arguments)).await,
            ServerEvent::CallResult {
                transaction,
                result,
            } => Box::pin(self.client_answers(transaction, result)).await,
            ServerEvent::GetStreamLength { name, transaction } => {
                Box::pin(self.get_stream_length(name, transaction)).await;
            }
            ServerEvent::SharedObject { message } => {
                Box::pin(self.shared_object(message)).await;
            }
            ServerEvent::PingLatency { round_trip } => {
                debug!(round_trip_ms = round_trip.as_millis() as u64, "ping");
            }
            // Answered by the core, or of no meaning to an application without a script.
            _ => {}
        }
    }

    /// Waits for the next thing to do. Writes whatever the socket takes on the way.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        let mut connection = self.connection.borrow_mut();
        let written = connection.pump(cx);
        let is_full = written.is_pending();
        match written {
            Poll::Ready(Err(error)) => return Poll::Ready(Wake::Failed(error)),
            Poll::Ready(Ok(())) if self.closing && connection.is_drained() => {
                return Poll::Ready(Wake::Drained);
            }
            _ => {}
        }
        if connection.take_wish() {
            return Poll::Ready(Wake::Player);
        }
        if connection.takes_owed_objects() {
            return Poll::Ready(Wake::Objects);
        }
        let mut scratch = self.worker.scratch();
        let read = connection.poll_read(cx, &mut self.input, &mut scratch);
        drop(scratch);
        match read {
            Poll::Ready(Ok(0)) => return Poll::Ready(Wake::Eof),
            Poll::Ready(Ok(count)) => return Poll::Ready(Wake::Input(count)),
            Poll::Ready(Err(error)) => return Poll::Ready(Wake::Failed(error)),
            Poll::Pending => {}
        }
        drop(connection);
        if let Poll::Ready(note) = self.notes.poll(cx) {
            return Poll::Ready(Wake::Note(note));
        }
        for (index, publishing) in self.publishing.iter_mut().enumerate() {
            if let Poll::Ready(Some(event)) = publishing.events.poll_recv(cx) {
                return Poll::Ready(Wake::Publishing(index, event));
            }
        }
        if poll_once(&mut self.last_call, cx) {
            return Poll::Ready(Wake::LastCall);
        }
        if poll_once(&mut self.drain, cx) {
            return Poll::Ready(Wake::Drain);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Wake::Timer);
        }
        if is_full {
            // It may have become so just now, and nothing else would end the wait for a client that never reads again.
            self.set_timer();
            if self.timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Wake::Timer);
            }
        }
        Poll::Pending
    }

    fn set_timer(&mut self) {
        let now = self.now();
        let core = self.core.poll_timeout().map(|at| at.saturating_sub(now));
        let stuck = self.connection.borrow().stuck_for(Instant::now());
        let stuck = (stuck > Duration::ZERO).then(|| self.stuck_timeout().saturating_sub(stuck));
        let closing = self.closing.then_some(FAREWELL);
        let probe = self
            .probes
            .iter()
            .map(|probe| probe.until.saturating_sub(now))
            .min();
        let player = self.connection.borrow().player_deadline();
        let player = player.map(|at| at.saturating_sub(now));
        let let_go = self.connection.borrow().let_go_at();
        let let_go = let_go.map(|at| at.saturating_duration_since(Instant::now()));
        let call = self.attached.as_ref().and_then(|it| it.poll_timeout());
        let call = call.map(|at| at.saturating_sub(now));
        let waits = [core, stuck, closing, probe, player, let_go, call];
        let wait = waits.into_iter().flatten().min();
        // A little late rather than early: the core does nothing before its time.
        let at = tokio::time::Instant::now() + wait.unwrap_or(NEVER) + Duration::from_millis(1);
        // Moving the timer costs more than waking a little early or late.
        let difference = if at > self.timer.deadline() {
            at - self.timer.deadline()
        } else {
            self.timer.deadline() - at
        };
        if difference > Duration::from_millis(20) || self.timer.is_elapsed() {
            self.timer.as_mut().reset(at);
        }
    }
}

fn poll_once(
    signal: &mut Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    cx: &mut Context<'_>,
) -> bool {
    let ready = signal
        .as_mut()
        .is_some_and(|signal| signal.as_mut().poll(cx).is_ready());
    if ready {
        *signal = None;
    }
    ready
}
