//! Client, server, player and library on one stage.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use headwater_media::frame::FrameKind;
use headwater_media::name::StreamName;
use headwater_rtmp::client::{ClientConfig, ClientEvent, ClientSession, ConnectParameters};
use headwater_rtmp::command::{Play2Parameters, PlayLength, PlayReset, PlayStart};
use headwater_rtmp::server::{ConnectAnswer, ServerConfig, ServerEvent, ServerSession};
use headwater_rtmp::url::RtmpUrl;

use super::library::{CHUNK, Library};
use crate::player::{Action, Entry, Mark, Pacing, Player, Sent, Transition};

/// What the client got, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// A status, a data message or a control message, by its name.
    Said(String),
    /// Metadata and codec headers: tag and time.
    Header(char, u64),
    /// Pictures and audio: kind (K, v, a), tag, what the payload says is its time, and the timestamp.
    Frame(char, u8, u64, u64),
}

/// A question that was not answered yet.
type Question = Action;

pub(super) struct Stage {
    pub(super) now: Duration,
    client: ClientSession,
    server: ServerSession,
    to_client: BytesMut,
    to_server: BytesMut,
    pub(super) stream_id: u32,
    pub(super) player: Player,
    pub(super) library: HashMap<String, Library>,
    /// Answers are given at once; otherwise with [`Stage::answer`].
    pub(super) prompt: bool,
    pub(super) questions: VecDeque<Question>,
    /// What was asked of the live side, in short.
    pub(super) live: Vec<String>,
    /// Whether the live side holds every frame.
    pub(super) joins: bool,
    pub(super) live_here: bool,
    /// Media time that the client counts from.
    pub(super) counts_from: u64,
    /// Whether somebody may publish.
    pub(super) may_come: bool,
    /// Whether the stream turns out to be live although nothing else said so.
    pub(super) found_live: bool,
    pub(super) live_mark: Option<Mark>,
    /// Bytes given out at once.
    pub(super) budget: usize,
    /// The socket takes nothing.
    pub(super) full: bool,
    /// The socket is full again whenever it has taken something.
    pub(super) sets_aside: bool,
    came: Vec<Came>,
    pub(super) slices: usize,
}

fn pacing() -> Pacing {
    Pacing {
        least: Duration::from_secs(2),
        most: Duration::from_secs(36_000),
    }
}

impl Stage {
    pub(super) fn new<const N: usize>(streams: [(&str, Library); N]) -> Self {
        Self::on_stream(1, streams)
    }

    /// The client plays on its message stream with this number.
    pub(super) fn on_stream<const N: usize>(stream_id: u32, streams: [(&str, Library); N]) -> Self {
        let now = Duration::from_secs(500);
        let config = ServerConfig {
            chunk_size: CHUNK,
            ..ServerConfig::default()
        };
        let streams = streams.map(|(name, library)| (name.to_owned(), library));
        let mut stage = Self {
            now,
            client: ClientSession::new(ClientConfig::default(), [9; 1528], now),
            server: ServerSession::new(config, [5; 1528], now),
            to_client: BytesMut::new(),
            to_server: BytesMut::new(),
            stream_id,
            player: Player::new(stream_id, 1, pacing()),
            library: HashMap::from(streams),
            prompt: true,
            questions: VecDeque::new(),
            live: Vec::new(),
            joins: false,
            live_here: false,
            found_live: false,
            may_come: true,
            counts_from: 0,
            live_mark: None,
            budget: usize::MAX,
            full: false,
            sets_aside: false,
            came: Vec::new(),
            slices: 0,
        };
        let url = RtmpUrl::parse("rtmp://media.example/vod").unwrap();
        stage.client.connect(&ConnectParameters::new(&url)).unwrap();
        stage.run();
        for _ in 0..stream_id {
            stage.client.create_stream().unwrap();
            stage.run();
        }
        stage.came.clear();
        stage
    }

    /// The player of a client that plays a live stream already.
    pub(super) fn watch_live(&mut self, name: &str) {
        let entry = Entry::new(name, stream(name));
        self.player = Player::of_live(self.stream_id, 1, pacing(), entry);
        // For the protocol core, too.
        let play = |client: &mut ClientSession, id| {
            client.play(id, name, PlayStart::Live, PlayLength::All, PlayReset::Reset)
        };
        play(&mut self.client, self.stream_id).unwrap();
        while let Some(bytes) = self.client.poll_transmit() {
            self.to_server.extend_from_slice(&bytes);
        }
        self.server
            .handle_input(self.now, &mut self.to_server)
            .unwrap();
        while self.server.poll_event().is_some() {}
    }

    pub(super) fn play(&mut self, name: &str, start: PlayStart) {
        self.play_with(name, start, PlayLength::All, PlayReset::Reset);
    }

    pub(super) fn play_with(
        &mut self,
        name: &str,
        start: PlayStart,
        length: PlayLength,
        reset: PlayReset,
    ) {
        self.client
            .play(self.stream_id, name, start, length, reset)
            .unwrap();
        self.run();
    }

    pub(super) fn play2(&mut self, transition: &str, name: &str, old: Option<&str>) {
        let parameters = Play2Parameters {
            stream_name: name.to_owned(),
            old_stream_name: old.map(str::to_owned),
            transition: transition.to_owned(),
            start: PlayStart::At(0),
            ..Play2Parameters::default()
        };
        self.client.play2(self.stream_id, &parameters).unwrap();
        self.run();
    }

    pub(super) fn tell(&mut self, command: impl FnOnce(&mut ClientSession, u32)) {
        command(&mut self.client, self.stream_id);
        self.run();
    }

    pub(super) fn pause(&mut self, paused: bool, at: f64) {
        self.tell(|client, id| client.pause(id, paused, at).unwrap());
    }

    pub(super) fn seek(&mut self, to: f64) {
        self.tell(|client, id| client.seek(id, to).unwrap());
    }

    pub(super) fn set_buffer(&mut self, milliseconds: u32) {
        self.tell(|client, id| client.set_buffer_length(id, milliseconds).unwrap());
    }

    /// Lets time pass, from one deadline to the next.
    pub(super) fn pass(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        while let Some(at) = self.player.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.player.handle_timeout(self.now);
            self.run();
        }
        self.now = end;
    }

    /// What came since this was asked last.
    pub(super) fn take(&mut self) -> Vec<Came> {
        std::mem::take(&mut self.came)
    }

    /// The opposite of [`Self::take`].
    pub(super) fn put_back(&mut self, came: Vec<Came>) {
        self.came = came;
    }

    /// As [`Self::take`], without the frames.
    pub(super) fn take_said(&mut self) -> Vec<String> {
        let said = self.take().into_iter().filter_map(|it| match it {
            Came::Said(said) => Some(said),
            _ => None,
        });
        said.collect()
    }

    /// As [`Self::take`], only media: kind and timestamp.
    pub(super) fn take_frames(&mut self) -> Vec<(char, u64)> {
        let frames = self.take().into_iter().filter_map(|it| match it {
            Came::Frame(kind, _, said, timestamp) => {
                let expected = said.saturating_sub(self.counts_from);
                assert_eq!(timestamp, expected, "the frame is another");
                Some((kind, said))
            }
            _ => None,
        });
        frames.collect()
    }

    /// Answers the oldest question.
    pub(super) fn answer(&mut self) {
        let question = self.questions.pop_front().expect("a question");
        self.answer_this(question);
        self.run();
    }

    fn answer_this(&mut self, question: Question) {
        let nothing = Library {
            frames: Vec::new(),
            ..Library::file(b'-', 0)
        };
        match question {
            Action::Describe { number, stream } => {
                let library = self.library.get(&stream.stream);
                let answer = library.unwrap_or(&nothing).describe();
                self.player
                    .described(self.now, number, answer, self.live_here);
            }
            Action::FindLive { number, .. } => self.player.live_found(number, self.found_live),
            Action::Fetch {
                number,
                stream,
                generation,
                place,
            } => {
                let library = self.library.get_mut(&stream.stream).expect("a stream");
                let answer = library.piece(generation, place);
                self.player.piece(self.now, number, answer);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Answers until nothing more is asked.
    pub(super) fn answer_all(&mut self) {
        while !self.questions.is_empty() {
            self.answer();
        }
    }

    /// Carries everything until all are silent.
    pub(super) fn run(&mut self) {
        loop {
            let mut moved = false;
            while let Some(bytes) = self.client.poll_transmit() {
                self.to_server.extend_from_slice(&bytes);
                moved = true;
            }
            self.server
                .handle_input(self.now, &mut self.to_server)
                .unwrap();
            while let Some(event) = self.server.poll_event() {
                self.handle(event);
                moved = true;
            }
            while let Some(action) = self.player.poll_action() {
                self.act(action);
                moved = true;
            }
            self.flush();
            let mut out = VecDeque::new();
            let mut sent = Sent::default();
            if !self.full {
                sent = self.player.poll_transmit(self.now, &mut out, self.budget);
            }
            if self.sets_aside {
                self.player.set_aside();
                assert!(!self.player.holds_piece());
            }
            moved |= sent.bytes > 0 || self.player.has_actions();
            self.slices += out.len();
            let bytes: usize = out.iter().map(bytes::Bytes::len).sum();
            assert_eq!(bytes, sent.bytes, "bytes are counted");
            for bytes in out {
                self.to_client.extend_from_slice(&bytes);
            }
            self.client
                .handle_input(self.now, &mut self.to_client)
                .unwrap();
            while let Some(event) = self.client.poll_event() {
                self.note(event);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    fn flush(&mut self) {
        while let Some(bytes) = self.server.poll_transmit() {
            self.to_client.extend_from_slice(&bytes);
        }
    }

    fn handle(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Connect(_) => self
                .server
                .accept_connect(ConnectAnswer::default())
                .unwrap(),
            ServerEvent::Play(request) => {
                let entry = Entry {
                    start: request.start,
                    length: request.length,
                    untimed: matches!(
                        request.reset,
                        PlayReset::AppendUntimed | PlayReset::ResetUntimed
                    ),
                    may_come: self.may_come,
                    ..Entry::new(request.name.as_str(), stream(&request.name))
                };
                self.player.play(entry, request.reset.resets());
            }
            ServerEvent::Play2 { parameters, .. } => {
                let name = parameters.stream_name.as_str();
                let entry = Entry {
                    start: parameters.start,
                    length: parameters.length,
                    ..Entry::new(name, stream(name))
                };
                let transition = Transition::parse(&parameters.transition);
                let old = parameters.old_stream_name.as_deref();
                self.player
                    .transition(self.now, transition, entry, old, None);
            }
            ServerEvent::Pause { paused, at, .. } => {
                self.player
                    .pause(self.now, paused, at as u64, self.live_mark);
            }
            ServerEvent::Seek { to, .. } => self.player.seek(to as u64),
            ServerEvent::BufferLength { milliseconds, .. } => {
                let buffer = Duration::from_millis(milliseconds.into());
                self.player.set_buffer(self.now, buffer);
            }
            ServerEvent::ReceiveAudio { wanted, .. } => self.player.set_audio(wanted),
            ServerEvent::ReceiveVideo { wanted, .. } => self.player.set_video(wanted),
            _ => {}
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Tell(notice) => notice.tell(&mut self.server, self.stream_id).unwrap(),
            Action::Describe { .. } | Action::FindLive { .. } | Action::Fetch { .. }
                if self.prompt =>
            {
                self.answer_this(action);
            }
            Action::Describe { .. } | Action::FindLive { .. } | Action::Fetch { .. } => {
                self.questions.push_back(action);
            }
            Action::GoLive {
                name,
                notice,
                ends,
                transition,
                ..
            } => {
                if let Some(notice) = notice {
                    notice.tell(&mut self.server, self.stream_id).unwrap();
                }
                let ends = if ends { " until its end" } else { "" };
                let transition = if transition { ", completes" } else { "" };
                self.live.push(format!("live {name}{ends}{transition}"));
            }
            Action::Join { from, .. } => {
                self.live.push(format!("join at {from}"));
                if self.joins {
                    self.player.joined();
                }
            }
            Action::PauseLive(paused) => self.live.push(format!("pause {paused}")),
            Action::RejoinLive => self.live.push("newest".to_owned()),
            Action::EndLive => self.live.push("end with it".to_owned()),
            Action::LeaveLive => self.live.push("leave".to_owned()),
        }
        self.flush();
    }

    fn note(&mut self, event: ClientEvent) {
        let said = match event {
            ClientEvent::Status { status, .. } => status.code.into_owned(),
            ClientEvent::PlayStatus { status, .. } => format!("data {}", status.code),
            ClientEvent::StreamBegin { stream_id: 0 } => return,
            ClientEvent::StreamBegin { .. } => "begin".to_owned(),
            ClientEvent::StreamEof { .. } => "eof".to_owned(),
            ClientEvent::StreamIsRecorded { .. } => "recorded".to_owned(),
            ClientEvent::Media { stream_id, frame } => {
                assert_eq!(stream_id, self.stream_id);
                self.came.push(came(&frame));
                return;
            }
            _ => return,
        };
        self.came.push(Came::Said(said));
    }
}

fn came(frame: &headwater_rtmp::server::MediaFrame) -> Came {
    let (payload, timestamp) = (&frame.payload[..], u64::from(frame.timestamp));
    let said = |from: usize| {
        let bytes: [u8; 8] = payload[from..from + 8].try_into().unwrap();
        u64::from_be_bytes(bytes)
    };
    match (frame.kind, payload) {
        (FrameKind::Data, [2, 0, 0x11, ..]) => Came::Said("|RtmpSampleAccess".to_owned()),
        (FrameKind::Data, _) => Came::Header('m', timestamp),
        (FrameKind::Video, [_, 0, ..]) => Came::Header('v', timestamp),
        (FrameKind::Audio, [_, 0, ..]) => Came::Header('a', timestamp),
        (FrameKind::Video, [0x17, ..]) => Came::Frame('K', payload[5], said(6), timestamp),
        (FrameKind::Video, _) => Came::Frame('v', payload[5], said(6), timestamp),
        (FrameKind::Audio, _) => Came::Frame('a', payload[2], said(3), timestamp),
    }
}

fn stream(name: &str) -> Arc<StreamName> {
    Arc::new(StreamName::new("v", "vod", "i", name).unwrap())
}
