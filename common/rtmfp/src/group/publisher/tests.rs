use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use headwater_media::inspect;
use rand_core::Rng as _;

use super::super::Viewer;
use super::super::message::{self, REPORTS, StreamKey};
use super::super::neighbour;
use super::*;
use crate::crypto::certificate::Identity;
use crate::crypto::cookie::Cookies;
use crate::crypto::diffie_hellman::Group;
use crate::crypto::discriminator;
use crate::endpoint::{Endpoint, EndpointConfig, EndpointEvent};
use crate::flow::{Event, Priority, SendId};
use crate::handshake::{InitiatorConfig, ResponderConfig};
use crate::random::Seeded;
use crate::session::SessionConfig;
use crate::wire::fragment;

const TEST: &str = "G:027f0201010103010c050e74657374011b00";
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The endpoint with the publisher; the others are members.
const PUBLISHER: usize = 0;

fn identity(seed: u64) -> Arc<Identity> {
    Arc::new(Identity::with_static_key(Group::Modp1024, &mut Seeded::new(seed)).unwrap())
}

fn specification() -> Specification {
    Specification::parse(TEST).unwrap()
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + number as u8], 1_935))
}

/// Who is at the other end of the publisher's sessions.
enum Far {
    Viewer(Box<Viewer>, Vec<Message>),
    /// It says this in its first flow, and counts what comes.
    Speaker(Vec<Bytes>, Option<SendId>, usize),
}

struct End {
    endpoint: Endpoint<Seeded>,
    identity: Arc<Identity>,
    far: Option<Far>,
    session: u32,
}

impl End {
    fn poll_timeout(&self) -> Option<Duration> {
        match &self.far {
            Some(Far::Viewer(viewer, _)) => viewer.poll_timeout(),
            _ => None,
        }
    }
}

/// A server that is a publisher, too, and members that have a session with it; a datagram of a number is lost.
struct Net {
    now: Duration,
    ends: Vec<End>,
    publisher: Publisher,
    alias: u32,
    under_way: BTreeMap<(Duration, u64), (usize, usize, Vec<u8>)>,
    number: u64,
    one_lost_of: u64,
    rng: Seeded,
}

impl Net {
    fn new(config: PublisherConfig) -> Self {
        let server = Identity::server(&Group::ALL, None, &mut Seeded::new(1)).unwrap();
        let mut endpoint = endpoint(Arc::new(server), 1);
        let identity = identity(2);
        let session = Arc::new(SessionConfig::default());
        let alias = endpoint.add_alias(Arc::clone(&identity), session).unwrap();
        let stream = Stream {
            specification: specification(),
            peer: identity.certificate().fingerprint(),
            addresses: vec![Address::observed(address(PUBLISHER))],
            name: "cam".to_owned(),
            key: StreamKey([5; 32]),
            times: Times::default(),
        };
        Self {
            now: SECOND,
            ends: vec![End {
                endpoint,
                identity,
                far: None,
                session: 0,
            }],
            publisher: Publisher::new(stream, config),
            alias,
            under_way: BTreeMap::new(),
            number: 0,
            one_lost_of: u64::MAX,
            rng: Seeded::new(99),
        }
    }

    /// Somebody who opens a session to the publisher.
    fn join(&mut self, far: Far) -> usize {
        let number = self.ends.len();
        let identity = identity(10 + number as u64);
        let mut endpoint = endpoint(Arc::clone(&identity), 10 + number as u64);
        let publisher = self.publisher.stream().peer;
        let asked = discriminator::for_fingerprint(&publisher);
        let config = InitiatorConfig::new(Arc::clone(&identity), asked);
        endpoint.connect(self.now, config, &[address(PUBLISHER)]);
        self.ends.push(End {
            endpoint,
            identity,
            far: Some(far),
            session: 0,
        });
        number
    }

    fn view(&mut self, text: &str) -> usize {
        let specification = Specification::parse(text).unwrap();
        let viewer = Viewer::new(specification, "cam".to_owned());
        self.join(Far::Viewer(Box::new(viewer), Vec::new()))
    }

    fn push(&mut self, message: &Message) {
        let kind = frame_kind(message);
        let flags = kind.map(|kind| inspect::inspect(kind, &message.payload).flags);
        self.publisher
            .push(self.now, message, flags.unwrap_or_default());
        self.talk_with_all();
    }

    fn talk_with_all(&mut self) {
        let sessions: Vec<u32> = self.publisher.sessions().collect();
        for session in sessions {
            self.talk(session);
        }
    }

    fn talk(&mut self, session: u32) {
        let (now, publisher) = (self.now, &mut self.publisher);
        let endpoint = &mut self.ends[PUBLISHER].endpoint;
        let talked = endpoint.with_session(now, session, |session| {
            let talked = publisher.talk(now, session);
            if talked == Talked::Over {
                session.close(now);
            }
            talked
        });
        if talked != Some(Talked::On) {
            publisher.gone(session);
        }
    }

    fn drain(&mut self, index: usize) {
        let now = self.now;
        while let Some(event) = self.ends[index].endpoint.poll_event() {
            match event {
                EndpointEvent::Keying { task, near_id } => {
                    let accepted = task.run(near_id, &mut Seeded::new(u64::from(near_id)));
                    let end = &mut self.ends[index];
                    end.endpoint.keyed(now, near_id, accepted.ok());
                }
                EndpointEvent::Opened { session } if index == PUBLISHER => {
                    let endpoint = &mut self.ends[PUBLISHER].endpoint;
                    let opened = endpoint.session(session).unwrap();
                    assert_eq!(opened.near(), self.publisher.stream().peer);
                    if self.publisher.opened(now, opened) == Talked::Over {
                        endpoint.with_session(now, session, |session| session.close(now));
                    }
                }
                EndpointEvent::Gone { session } if index == PUBLISHER => {
                    self.publisher.gone(session);
                }
                EndpointEvent::Flows { session } | EndpointEvent::Opened { session } => {
                    if index == PUBLISHER {
                        self.talk(session);
                    } else {
                        self.ends[index].session = session;
                        self.far_talks(index);
                    }
                }
                _ => {}
            }
        }
        let mut out = Vec::new();
        while let Some(to) = self.ends[index].endpoint.poll_transmit(now, &mut out) {
            let datagram = std::mem::take(&mut out);
            let to = (0..self.ends.len()).find(|number| address(*number) == to);
            self.number += 1;
            if let Some(to) = to.filter(|_| !self.number.is_multiple_of(self.one_lost_of)) {
                let arrival = now + MILLISECOND * (5 + self.rng.next_u32() % 5);
                self.under_way
                    .insert((arrival, self.number), (index, to, datagram));
            }
        }
    }

    fn far_talks(&mut self, index: usize) {
        let now = self.now;
        let End {
            endpoint,
            far,
            session,
            ..
        } = &mut self.ends[index];
        endpoint.with_session(now, *session, |session| match far {
            Some(Far::Viewer(viewer, played)) => {
                if viewer.talk(now, session) == Talked::Over {
                    session.close(now);
                }
                played.extend(std::iter::from_fn(|| viewer.poll_message()));
            }
            Some(Far::Speaker(said, flow, came)) => {
                let flows = session.flows();
                let events = std::iter::from_fn(|| flows.poll_event());
                *came += events
                    .filter(|it| matches!(it, Event::Message { .. }))
                    .count();
                if flow.is_none() {
                    *flow = neighbour::open(flows, REPORTS, None, Priority::CONTROL);
                }
                for message in said.drain(..) {
                    neighbour::send(now, flows, *flow, message);
                }
            }
            None => {}
        });
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        let mut still = 0;
        loop {
            for index in 0..self.ends.len() {
                self.drain(index);
            }
            let ends = self.ends.iter();
            let timeouts = ends.filter_map(|end| end.endpoint.poll_timeout());
            let arrival = self.under_way.keys().next().map(|(at, _)| *at);
            let due = self.publisher.poll_timeout();
            // Its owner lets go of it then.
            let due = due.filter(|_| !self.publisher.is_over(self.now));
            let viewers = self.ends.iter().filter_map(End::poll_timeout);
            let next = timeouts.chain(arrival).chain(due).chain(viewers).min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            still = if next <= self.now { still + 1 } else { 0 };
            assert!(still < 1_000, "the time stands still at {:?}", self.now);
            self.now = self.now.max(next);
            while let Some(entry) = self.under_way.first_entry()
                && entry.key().0 <= self.now
            {
                let (from, to, mut datagram) = entry.remove();
                let end = &mut self.ends[to].endpoint;
                end.handle_datagram(self.now, address(from), &mut datagram);
            }
            for end in &mut self.ends {
                end.endpoint.handle_timeout(self.now);
            }
            for index in 0..self.ends.len() {
                let due = self.ends[index].poll_timeout();
                if due.is_some_and(|at| at <= self.now) {
                    self.far_talks(index);
                }
            }
            if due.is_some_and(|at| at <= self.now) {
                self.talk_with_all();
            }
        }
    }

    fn played(&self, index: usize) -> &[Message] {
        match &self.ends[index].far {
            Some(Far::Viewer(_, played)) => played,
            _ => panic!("no viewer"),
        }
    }

    fn is_over(&self, index: usize) -> bool {
        matches!(&self.ends[index].far, Some(Far::Viewer(viewer, _)) if viewer.is_over())
    }
}

fn endpoint(identity: Arc<Identity>, seed: u64) -> Endpoint<Seeded> {
    let config = EndpointConfig {
        responder: ResponderConfig::new(identity),
        session: Arc::new(SessionConfig::default()),
        sessions: 100,
        fragments: fragment::Limits::default(),
        ids: (0, 1),
    };
    let cookies = Cookies::new(&mut Seeded::new(seed));
    Endpoint::new(config, cookies, Seeded::new(seed))
}

fn message(kind: MessageType, timestamp: u32, payload: &[u8]) -> Message {
    Message {
        kind,
        timestamp,
        stream_id: 0,
        payload: Bytes::copy_from_slice(payload),
    }
}

/// A picture of some length: AVC, with a key frame now and then.
fn picture(at: u32) -> Message {
    let kind = if at.is_multiple_of(1_000) { 0x17 } else { 0x27 };
    let mut payload = vec![kind, 1, 0, 0, 0];
    payload.resize(if kind == 0x17 { 20_000 } else { 1_500 }, at as u8);
    message(MessageType::VIDEO, at, &payload)
}

fn video_header() -> Message {
    message(MessageType::VIDEO, 0, &[0x17, 0, 0, 0, 0, 1, 2, 3])
}

fn audio_header() -> Message {
    message(MessageType::AUDIO, 0, &[0xaf, 0, 0x12, 0x10])
}

/// Ten seconds of a stream with two viewers; what was pushed.
fn stream(net: &mut Net, seconds: u32) -> Vec<Message> {
    let mut pushed = vec![video_header(), audio_header()];
    for at in (0..seconds * 1_000).step_by(40) {
        pushed.push(picture(at));
        pushed.push(message(MessageType::AUDIO, at, &[0xaf, 1, at as u8]));
    }
    for message in &pushed {
        net.push(message);
        if message.kind == MessageType::AUDIO && message.payload[1] == 1 {
            net.run_for(MILLISECOND * 40);
        }
    }
    pushed
}

/// What says which message it was, without what is repeated.
fn media(messages: &[Message]) -> Vec<(u8, u32, usize)> {
    let media = messages.iter().filter(|it| it.payload.get(1) == Some(&1));
    media
        .map(|it| (it.kind.0, it.timestamp, it.payload.len()))
        .collect()
}

#[test]
fn members_get_all_of_the_stream_with_and_without_loss() {
    for one_lost_of in [u64::MAX, 20] {
        let mut net = Net::new(PublisherConfig::default());
        net.one_lost_of = one_lost_of;
        let first = net.view(TEST);
        net.run_for(SECOND * 2);
        let pushed = stream(&mut net, 5);
        let late = net.view(TEST);
        net.run_for(SECOND * 2);
        assert_eq!(net.publisher.fed(), 2);
        net.publisher.end(net.now);
        net.talk_with_all();
        net.run_for(SECOND * 4);
        for viewer in [first, late] {
            assert_eq!(media(net.played(viewer)), media(&pushed), "{one_lost_of}");
            let last = net.played(viewer).last().unwrap();
            assert_eq!(last.kind, MessageType::COMMAND_AMF3);
            assert!(last.payload.windows(11).any(|it| it == b"closeStream"));
            assert!(net.is_over(viewer));
        }
        // What decoders begin with came again, before a key frame.
        let played = net.played(late);
        let headers = |it: &Message| played.iter().filter(|m| m.payload == it.payload).count();
        let repeated = (headers(&video_header()), headers(&audio_header()));
        assert!(repeated.0 >= 4 && repeated.1 >= 4, "{repeated:?}");
        net.run_for(SECOND * 5);
        assert_eq!(net.publisher.sessions().count(), 0, "its time is over");
        assert!(net.publisher.is_over(net.now));
    }
}

#[test]
fn who_comes_late_gets_what_is_kept_and_a_description_of_it() {
    let mut net = Net::new(PublisherConfig::default());
    let pushed = stream(&mut net, 20);
    let late = net.view(TEST);
    net.run_for(SECOND * 4);
    let played = media(net.played(late));
    let (_, first, _) = *played.first().unwrap();
    assert!(
        (9_000..=10_500).contains(&first),
        "{first}: ten seconds are kept"
    );
    let all = media(&pushed);
    let expected = &all[all.len() - played.len()..];
    assert_eq!(played, expected);
}

#[test]
fn who_does_not_know_the_specification_gets_nothing() {
    let mut net = Net::new(PublisherConfig::default());
    let stranger = net.view("G:027f0201010103010c050e74657375011b00");
    net.run_for(SECOND);
    assert_eq!(net.publisher.sessions().count(), 0, "closed at once");
    // It knows the group's id, and not more.
    let publisher = net.publisher.stream().peer;
    let connect = message::connect(&specification().id(), &[0; 32], &publisher);
    net.join(Far::Speaker(vec![connect], None, 0));
    // It says nothing.
    net.join(Far::Speaker(Vec::new(), None, 0));
    net.run_for(SECOND);
    assert_eq!(net.publisher.sessions().count(), 1);
    net.run_for(SECOND * 10);
    assert_eq!(net.publisher.sessions().count(), 0);
    stream(&mut net, 1);
    assert!(net.played(stranger).is_empty());
}

#[test]
fn there_are_never_more_neighbours_than_may_be() {
    let mut net = Net::new(PublisherConfig {
        neighbours: 2,
        ..PublisherConfig::default()
    });
    for _ in 0..4 {
        net.view(TEST);
    }
    net.run_for(SECOND * 3);
    assert_eq!(net.publisher.sessions().count(), 2);
    assert!(!net.publisher.wants_neighbours());
    let who = net.ends.iter().map(|end| end.identity.certificate());
    let who = who.filter(|it| net.publisher.has(&it.fingerprint()));
    assert_eq!(who.count(), 2);
}

#[test]
fn who_has_not_shown_to_be_a_member_gives_way() {
    let mut net = Net::new(PublisherConfig {
        neighbours: 2,
        ..PublisherConfig::default()
    });
    for _ in 0..2 {
        net.join(Far::Speaker(Vec::new(), None, 0));
    }
    net.run_for(SECOND);
    assert_eq!(net.publisher.sessions().count(), 2);
    net.view(TEST);
    net.run_for(SECOND * 2);
    assert_eq!(net.publisher.fed(), 1);
    assert_eq!(net.publisher.sessions().count(), 2);
}

#[test]
fn what_decoders_begin_with_is_repeated_once_for_all_that_come_later() {
    const HEADER: FrameFlags = FrameFlags::HEADER;
    const METADATA: FrameFlags = FrameFlags::METADATA;

    let on_metadata = b"\x02\0\x0aonMetaData\x03\0\0\x09";
    let description = message(MessageType::DATA_AMF0, 0, on_metadata);
    let configuration = message(MessageType::VIDEO, 0, b"\x90hvc1 configuration");
    let colours = message(MessageType::VIDEO, 0, b"\x94hvc1 colours");
    let sound = message(MessageType::AUDIO, 0, b"\xaf\0 configuration");
    let mut prefaces = Prefaces::default();
    let mut before = |at: u32, message: &Message, flags: FrameFlags| {
        let now = MILLISECOND * at;
        let said = prefaces.before(now, message, flags);
        assert!(said.iter().all(|it| it.timestamp == message.timestamp));
        said.into_iter().map(|it| it.payload).collect::<Vec<_>>()
    };
    let payloads =
        |all: &[&Message]| -> Vec<Bytes> { all.iter().map(|it| it.payload.clone()).collect() };
    assert_eq!(before(0, &description, METADATA), payloads(&[]));
    assert_eq!(before(0, &sound, HEADER), payloads(&[]));
    let heard = message(MessageType::AUDIO, 1_000, b"\xaf\x01 sound");
    let nothing = FrameFlags::empty();
    assert_eq!(
        before(1_000, &heard, nothing),
        payloads(&[&description, &sound]),
        "no pictures yet"
    );
    assert_eq!(before(1_500, &heard, nothing), payloads(&[]));
    assert_eq!(before(1_500, &configuration, HEADER), payloads(&[]));
    assert_eq!(before(1_500, &colours, HEADER), payloads(&[]));
    assert_eq!(
        before(3_000, &heard, nothing),
        payloads(&[]),
        "with pictures"
    );
    let seen = message(MessageType::VIDEO, 3_000, b"\x91hvc1 a picture");
    assert_eq!(before(3_000, &seen, nothing), payloads(&[]), "no key frame");
    let all = [&description, &configuration, &colours, &sound];
    assert_eq!(before(3_000, &seen, FrameFlags::KEY), payloads(&all));
    assert_eq!(before(3_500, &seen, FrameFlags::KEY), payloads(&[]));
    assert_eq!(
        before(4_000, &description, FrameFlags::CLEAR_METADATA),
        payloads(&[])
    );
    assert_eq!(before(5_000, &seen, FrameFlags::KEY), payloads(&all[1..]));
}

#[test]
fn a_publisher_that_opens_the_session_is_a_neighbour_all_the_same() {
    let mut net = Net::new(PublisherConfig::default());
    // A viewer that is there and opens nothing.
    let viewer = Viewer::new(specification(), "cam".to_owned());
    let identity = identity(30);
    let far = identity.certificate().fingerprint();
    net.ends.push(End {
        endpoint: endpoint(Arc::clone(&identity), 30),
        identity,
        far: Some(Far::Viewer(Box::new(viewer), Vec::new())),
        session: 0,
    });
    let own = Arc::clone(&net.ends[PUBLISHER].identity);
    let config = InitiatorConfig::new(own, discriminator::for_fingerprint(&far));
    let opening = net.ends[PUBLISHER].endpoint.connect(net.now, config, &[]);
    let tag = net.ends[PUBLISHER]
        .endpoint
        .tag(opening.unwrap())
        .unwrap()
        .to_vec();
    let found = [Address::observed(address(1))];
    let endpoint = &mut net.ends[PUBLISHER].endpoint;
    assert!(!endpoint.introduced(net.now, b"another tag", &found));
    assert!(endpoint.introduced(net.now, &tag, &found));
    net.run_for(SECOND);
    let pushed = stream(&mut net, 2);
    net.run_for(SECOND * 2);
    assert_eq!(media(net.played(1)), media(&pushed));
    // The alias is gone, and with it whoever asks for it.
    let alias = net.alias;
    net.ends[PUBLISHER].endpoint.remove_alias(alias);
    net.view(TEST);
    net.run_for(SECOND);
    assert_eq!(net.publisher.sessions().count(), 1);
}

#[test]
fn a_neighbour_that_reports_without_end_is_answered_now_and_then() {
    let mut net = Net::new(PublisherConfig::default());
    let publisher = net.publisher.stream().peer;
    let speaker = net.join(Far::Speaker(Vec::new(), None, 0));
    net.run_for(MILLISECOND * 100);
    let near = net.publisher.sessions().next().unwrap();
    let end = &mut net.ends[speaker];
    let nonce = *end.endpoint.session(end.session).unwrap().nonces().1;
    let proof = specification().proof(&nonce);
    let mut said = vec![message::connect(&specification().id(), &proof, &publisher)];
    said.extend((0..5_000).map(|_| message::report(address(0), &[], &[])));
    end.far = Some(Far::Speaker(said, None, 0));
    net.far_talks(speaker);
    net.run_for(MILLISECOND * 2_500);
    assert_eq!(net.publisher.sessions().next(), Some(near));
    let Some(Far::Speaker(_, _, came)) = &net.ends[speaker].far else {
        panic!("no speaker");
    };
    // Connect, begin, what is before it, the description of the stream, and a report now and then.
    assert!((5..12).contains(came), "{came}");
}
