use std::net::SocketAddr;
use std::sync::LazyLock;

use headwater_media::frame::FrameKind;
use headwater_media::synthetic::{Settings, SyntheticStream, read_stamp};
use headwater_rtmp::chunk::shared_wire_form;
use headwater_rtmp::command::{DataKind, chunk_streams};
use headwater_rtmp::server::{
    ConnectAnswer, ConnectRejection, MediaFrame, PlayAnswer, ServerConfig, ServerEvent,
    ServerSession,
};
use proptest::prelude::*;

use super::*;
use crate::swarm::SwarmTarget;
use crate::swarm::plan::{Manners, plans};
use crate::target::Target;
use crate::viewer::ViewerReport;

const MS: u64 = 1_000_000;

fn manners() -> Manners {
    Manners {
        buffer: Duration::from_millis(100),
        ..Manners::default()
    }
}

fn plan() -> Arc<Plan> {
    let target = Target::parse("rtmp://127.0.0.1:1/live/cam?key=1").unwrap();
    plans(&[SwarmTarget::Rtmp(target)], &manners()).unwrap()[0].clone()
}

fn floor() -> Arc<Plan> {
    let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
    plans(&[SwarmTarget::Floor(address)], &Manners::default()).unwrap()[0].clone()
}

fn connected(plan: Arc<Plan>) -> Watcher {
    let mut watcher = Watcher::new(plan, 1);
    watcher.take_connection(2);
    watcher
}

/// A server that plays a stream of 20 pictures with sound, pings, and ends the stream, and what it is asked.
struct Played {
    session: ServerSession,
    events: Vec<ServerEvent>,
    said: Vec<u8>,
}

impl Played {
    fn new() -> Self {
        let config = ServerConfig::default();
        Self {
            session: ServerSession::new(config, [7; RANDOM_LENGTH], Duration::ZERO),
            events: Vec::new(),
            said: Vec::new(),
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let mut input = BytesMut::from(bytes);
        self.session
            .handle_input(Duration::ZERO, &mut input)
            .unwrap();
        while let Some(event) = self.session.poll_event() {
            match &event {
                ServerEvent::Connect(_) => self
                    .session
                    .accept_connect(ConnectAnswer::default())
                    .unwrap(),
                ServerEvent::Play(request) => {
                    let stream = request.stream_id;
                    let answer = PlayAnswer::default();
                    self.session.play_started(stream, &answer).unwrap();
                    self.session.ping(Duration::from_secs(1)).unwrap();
                    self.drain();
                    self.send_stream(stream);
                    self.session.unpublish_notify(stream, "cam").unwrap();
                }
                _ => {}
            }
            self.events.push(event);
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(bytes) = self.session.poll_transmit() {
            self.said.extend_from_slice(&bytes);
        }
    }

    fn send_stream(&mut self, stream: u32) {
        let settings = Settings {
            video_bitrate: 400_000,
            gop: 10,
            ..Settings::default()
        };
        let mut source = SyntheticStream::new(settings).unwrap();
        let mut pictures = 0;
        while pictures < 20 {
            let frame = source.next_frame(source.next_timestamp() * MS);
            let is_stamped = read_stamp(&frame.payload).is_some();
            pictures += u32::from(frame.kind == FrameKind::Video && is_stamped);
            // Number 5 is lost; number 8 comes twice.
            let times = match pictures {
                _ if frame.kind != FrameKind::Video => 1,
                6 => 0,
                9 => 2,
                _ => 1,
            };
            for _ in 0..times {
                let frame = MediaFrame {
                    kind: frame.kind,
                    data: DataKind::Plain,
                    timestamp: frame.timestamp as u32,
                    payload: frame.payload.clone(),
                };
                self.send_frame(stream, &frame);
            }
        }
    }

    fn send_frame(&mut self, stream: u32, frame: &MediaFrame) {
        let (chunk_stream, kind) = match frame.kind {
            FrameKind::Audio => (chunk_streams::AUDIO, MessageType::AUDIO),
            FrameKind::Video => (chunk_streams::VIDEO, MessageType::VIDEO),
            FrameKind::Data => (chunk_streams::DATA, MessageType::DATA_AMF0),
        };
        let message = Message {
            kind,
            timestamp: frame.timestamp,
            stream_id: stream,
            payload: frame.payload.clone(),
        };
        let size = self.session.chunk_size_out();
        let wire = shared_wire_form(chunk_stream, &message, size);
        self.said.extend_from_slice(&wire.bytes);
    }
}

/// What the server says to a watcher from first to last.
static TRANSCRIPT: LazyLock<Vec<u8>> = LazyLock::new(transcript);

fn transcript() -> Vec<u8> {
    let mut server = Played::new();
    let mut watcher = connected(plan());
    let mut counter = Counter::default();
    let mut heard = 0;
    loop {
        let said = watcher.output().to_vec();
        watcher.take_sent(said.len());
        server.hear(&said);
        if server.said.len() == heard {
            break;
        }
        watcher.receive(&server.said[heard..], 3, &mut counter);
        heard = server.said.len();
        assert_eq!(watcher.ending(), None);
    }
    let told = |wanted: fn(&ServerEvent) -> bool| server.events.iter().any(wanted);
    assert!(told(
        |event| matches!(event, ServerEvent::Connect(request) if request.path.app == "live")
    ));
    assert!(told(
        |event| matches!(event, ServerEvent::Play(request) if request.name == "cam")
    ));
    server.said
}

/// A watcher that reads these bytes in pieces, at the time 1 ms.
fn watch(bytes: &[u8], cuts: &[usize]) -> (ViewerReport, Counter, Vec<u8>) {
    let mut watcher = connected(plan());
    let mut counter = Counter::default();
    let (mut start, mut said) = (0, Vec::new());
    for &cut in cuts.iter().chain([&bytes.len()]) {
        watcher.receive(&bytes[start..cut], MS, &mut counter);
        start = cut;
        // C0 and C1 are random.
        said.extend_from_slice(watcher.output());
        watcher.take_sent(usize::MAX);
    }
    let ending = watcher.ending().cloned();
    let said = said.split_off(1 + 1536);
    (watcher.account().report(2 * MS, ending), counter, said)
}

#[test]
fn a_stream_split_anywhere_has_the_same_account() {
    let bytes = &TRANSCRIPT[..];
    let (report, counter, said) = watch(bytes, &[]);
    assert_eq!((report.video_frames, report.video.received), (20, 20));
    assert_eq!((report.missing, report.repeated), (1, 1));
    assert!(report.audio_frames > 20 && report.audio.missing == 0);
    assert_eq!(
        (report.data_messages, report.disconnected.clone()),
        (2, None)
    );
    assert_eq!(report.bytes, bytes.len() as u64);
    assert!(report.setup.is_some() && report.first_frame.is_some());
    // Only what was sent before it was read is backlog or timed; the rest is of the future.
    let latency = counter.latencies.report();
    assert_eq!(report.backlog + latency.count + latency.foreign_clock, 20);
    assert_eq!(counter.sums.video_frames, 20);
    let told: Vec<_> = counter.statuses.sorted();
    let has = |code: &str| told.iter().any(|ending| ending.what == code);
    assert!(has("NetStream.Play.Start") && has("NetStream.Play.UnpublishNotify"));
    // The first kilobytes hold all commands; of the rest a step that meets every phase of a chunk.
    let cuts = (0..6_000).chain((6_000..bytes.len()).step_by(61));
    for cut in cuts {
        let (split, _, answers) = watch(bytes, &[cut]);
        assert_eq!(split, report, "{cut}");
        assert_eq!(answers, said, "{cut}");
    }
    let each: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(watch(bytes, &each).0, report);
}

#[test]
fn pings_and_windows_are_answered() {
    let mut watcher = connected(floor());
    assert!(watcher.output().is_empty());
    let mut counter = Counter::default();
    let ping = Control::UserControl(UserControl::PingRequest { timestamp: 77 });
    watcher.receive(&control_wire(&ping), 5, &mut counter);
    let pong = Control::UserControl(UserControl::PingResponse { timestamp: 77 });
    assert_eq!(watcher.output(), &control_wire(&pong)[..]);
    watcher.take_sent(usize::MAX);
    // A bare sender gets no acknowledgements.
    watcher.receive(&control_wire(&Control::WindowAckSize(1)), 5, &mut counter);
    assert!(watcher.output().is_empty());

    let (_, _, said) = watch(&TRANSCRIPT, &[]);
    let mut reader = headwater_rtmp::chunk::ChunkReader::new(Default::default());
    let mut input = BytesMut::from(&said[1536..]);
    let mut controls = Vec::new();
    while let Some(message) = reader.handle_input(&mut input).unwrap() {
        controls.extend(Control::parse(&message).map(Result::unwrap));
    }
    let is_pong = |control: &Control| {
        matches!(
            control,
            Control::UserControl(UserControl::PingResponse { .. })
        )
    };
    assert!(controls.iter().any(is_pong), "{controls:?}");
    assert!(
        controls
            .iter()
            .any(|control| matches!(control, Control::WindowAckSize(_))),
        "{controls:?}"
    );
}

#[test]
fn acknowledgements_follow_the_window_of_the_server() {
    let bytes = &TRANSCRIPT[..];
    let mut watcher = connected(plan());
    let mut counter = Counter::default();
    watcher.receive(bytes, 3, &mut counter);
    watcher.take_sent(usize::MAX);
    watcher.receive(
        &control_wire(&Control::WindowAckSize(1_000)),
        3,
        &mut counter,
    );
    let at = watcher.chunks.received();
    let expected = control_wire(&Control::Acknowledgement(at as u32));
    assert_eq!(watcher.output(), &expected[..]);
    watcher.take_sent(usize::MAX);
    watcher.receive(
        &control_wire(&Control::UserControl(UserControl::StreamDry {
            stream_id: 1,
        })),
        3,
        &mut counter,
    );
    assert!(watcher.output().is_empty());
}

#[test]
fn a_server_that_refuses_is_quoted() {
    let mut session =
        ServerSession::new(ServerConfig::default(), [7; RANDOM_LENGTH], Duration::ZERO);
    let mut watcher = connected(plan());
    let mut counter = Counter::default();
    for _ in 0..4 {
        let mut input = BytesMut::from(watcher.output());
        watcher.take_sent(usize::MAX);
        session.handle_input(Duration::ZERO, &mut input).unwrap();
        while let Some(event) = session.poll_event() {
            if let ServerEvent::Connect(_) = event {
                let rejection = ConnectRejection {
                    description: Some("Not now.".to_owned()),
                    ..ConnectRejection::new(StatusCode::ConnectRejected)
                };
                session.reject_connect(rejection).unwrap();
            }
        }
        while let Some(bytes) = session.poll_transmit() {
            watcher.receive(&bytes, 9, &mut counter);
        }
    }
    let words = watcher.ending().unwrap().to_string();
    assert_eq!(words, "rejected: NetConnection.Connect.Rejected: Not now.");
    assert_eq!(watcher.phase(), Phase::Ended);
    // After its end it takes and says nothing.
    watcher.take_leave();
    assert!(watcher.output().is_empty());
}

#[test]
fn each_step_has_its_time() {
    let second = Duration::from_secs(1);
    let late = |watcher: &mut Watcher, goal| {
        watcher.check_time(900 * MS, second, goal);
        assert_eq!(watcher.ending(), None);
        watcher.check_time(1_900 * MS, second, goal);
        watcher.ending().map(ToString::to_string)
    };
    let mut connecting = Watcher::new(plan(), 1);
    assert_eq!(
        late(&mut connecting, Goal::Watch).unwrap(),
        "the connection took longer than 1s"
    );
    assert_eq!(
        late(&mut connected(plan()), Goal::Watch).unwrap(),
        "the handshake took longer than 1s"
    );
    // Who watches waits for a stream for ever.
    assert_eq!(late(&mut connected(floor()), Goal::Watch), None);
    assert_eq!(
        late(&mut connected(floor()), Goal::FirstFrame).unwrap(),
        "the first frame took longer than 1s"
    );
}

#[test]
fn the_next_address_is_tried() {
    let target = Target::parse("rtmp://127.0.0.1:1/live/cam").unwrap();
    let plan = plans(&[SwarmTarget::Rtmp(target)], &Manners::default()).unwrap();
    let mut plan = Arc::into_inner(plan.into_iter().next().unwrap()).unwrap();
    let other: SocketAddr = "127.0.0.2:1".parse().unwrap();
    plan.addresses.push(other);
    let mut watcher = Watcher::new(Arc::new(plan), 1);
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    assert!(watcher.take_refusal(&refused, 2));
    assert_eq!(watcher.address(), Some(other));
    assert!(!watcher.take_refusal(&refused, 3));
    let words = watcher.ending().unwrap().to_string();
    assert!(
        words.starts_with("cannot connect to 127.0.0.1:1"),
        "{words}"
    );
}

#[test]
fn a_bare_sender_is_watched_from_its_first_byte() {
    let mut watcher = connected(floor());
    let mut counter = Counter::default();
    let mut source = SyntheticStream::new(Settings::default()).unwrap();
    let mut pictures = 0;
    for _ in 0..200 {
        let frame = source.next_frame(MS);
        let message = Message {
            kind: match frame.kind {
                FrameKind::Audio => MessageType::AUDIO,
                FrameKind::Video => MessageType::VIDEO,
                FrameKind::Data => MessageType::DATA_AMF0,
            },
            timestamp: frame.timestamp as u32,
            stream_id: 1,
            payload: frame.payload,
        };
        pictures += u64::from(message.kind == MessageType::VIDEO);
        let wire = shared_wire_form(6, &message, FLOOR_CHUNK_SIZE);
        watcher.receive(&wire.bytes, 0, &mut counter);
    }
    let report = watcher.account().report(1, watcher.ending().cloned());
    assert_eq!(report.disconnected, None);
    // But for the codec header.
    assert_eq!((report.video_frames, report.missing), (pictures - 1, 0));
    watcher.take_leave();
    assert!(watcher.output().is_empty());
}

#[test]
fn a_watcher_is_small() {
    assert!(size_of::<Watcher>() <= 760, "{}", size_of::<Watcher>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_server_makes_a_watcher_panic_or_hoard(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(2), Just(3), Just(20)], 0..600),
        after in 0_usize..9_000,
    ) {
        // Noise behind a good beginning of any length.
        let mut all = TRANSCRIPT[..after.min(TRANSCRIPT.len())].to_vec();
        all.extend(bytes);
        let mut watcher = connected(plan());
        let mut counter = Counter::default();
        for piece in all.chunks(997) {
            watcher.receive(piece, MS, &mut counter);
            prop_assert!(watcher.output().len() <= OUTPUT_BOUND);
            if watcher.phase() == Phase::Ended {
                break;
            }
        }
    }
}
