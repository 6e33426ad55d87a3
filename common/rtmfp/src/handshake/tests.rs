use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::crypto::certificate::{Certificate, Identity};
use crate::crypto::cookie::Cookies;
use crate::crypto::diffie_hellman::Group;
use crate::crypto::discriminator;
use crate::crypto::session_id;
use crate::crypto::signature::Password;
use crate::random::Seeded;
use crate::wire::startup::ResponderKeying;
use crate::wire::{Chunk, ChunkKind, Header, Mode, Packet, fragment};

mod glare;
mod hostile;
mod introduction;

const SERVER: &str = "10.0.0.1:1935";
const CLIENT: &str = "10.1.0.1:5000";
const URI: &str = "rtmfp://10.0.0.1/live";
const SECOND: Duration = Duration::from_secs(1);

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn server_identity(rng: &mut Seeded) -> Arc<Identity> {
    Arc::new(Identity::server(&Group::ALL, None, rng).unwrap())
}

fn client_identity(rng: &mut Seeded) -> Arc<Identity> {
    Arc::new(Identity::with_static_key(Group::Modp1024, rng).unwrap())
}

/// A responder at its address.
struct Server {
    responder: Responder,
    startup: Startup,
    rng: Seeded,
    next_id: u32,
    sessions: Vec<Opened>,
    lookups: Vec<Lookup>,
    tasks: Vec<KeyingTask>,
    /// Whether keyings are run as they come.
    runs: bool,
}

impl Server {
    fn new(config: ResponderConfig, seed: u64) -> Self {
        let mut rng = Seeded::new(seed);
        let cookies = Cookies::new(&mut rng);
        Self {
            responder: Responder::new(config, cookies, &mut rng),
            startup: Startup::new(fragment::Limits::default()),
            rng,
            next_id: 0x5000_0001,
            sessions: Vec::new(),
            lookups: Vec::new(),
            tasks: Vec::new(),
            runs: true,
        }
    }

    fn plain(seed: u64) -> Self {
        let identity = server_identity(&mut Seeded::new(seed));
        Self::new(ResponderConfig::new(identity), seed)
    }

    /// Gives it a datagram, and takes what it sends.
    fn receive(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) -> Vec<Transmit> {
        assert_eq!(session_id(datagram), Some(0));
        let mut datagram = datagram.to_vec();
        if let Ok(Some(packet)) = self.startup.open(now, from, &mut datagram) {
            self.responder.handle_packet(now, from, &packet);
        }
        self.take(now)
    }

    /// Takes what it wants and sends.
    fn take(&mut self, now: Duration) -> Vec<Transmit> {
        while let Some(event) = self.responder.poll_event() {
            match event {
                ResponderEvent::Keying(task) if self.runs => self.run(now, *task),
                ResponderEvent::Keying(task) => self.tasks.push(*task),
                ResponderEvent::Lookup(lookup) => self.lookups.push(lookup),
                ResponderEvent::Astray { .. } => panic!("nobody answers as somebody else"),
            }
        }
        std::iter::from_fn(|| self.responder.poll_transmit()).collect()
    }

    fn run(&mut self, now: Duration, task: KeyingTask) {
        let accepted = task.run(self.next_id, &mut self.rng).unwrap();
        self.next_id += 1;
        self.responder.accepted(now, &accepted);
        self.sessions.push(accepted.opened);
    }
}

/// An initiator at its address.
struct Client {
    initiator: Initiator,
    startup: Startup,
    rng: Seeded,
    opened: Option<Opened>,
    failed: Option<InitiatorFailure>,
    answered: Vec<SocketAddr>,
}

impl Client {
    fn new(now: Duration, config: InitiatorConfig, candidates: &[SocketAddr], seed: u64) -> Self {
        let mut rng = Seeded::new(seed);
        Self {
            initiator: Initiator::new(now, config, 0x7700_0001, candidates, &mut rng),
            startup: Startup::new(fragment::Limits::default()),
            rng,
            opened: None,
            failed: None,
            answered: Vec::new(),
        }
    }

    /// One of Flash Player's kind, which asks the server for an application.
    fn plain(seed: u64) -> Self {
        let identity = client_identity(&mut Seeded::new(seed));
        let config = InitiatorConfig::new(identity, discriminator::for_uri(URI));
        Self::new(Duration::ZERO, config, &[at(SERVER)], seed)
    }

    fn receive(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) -> Vec<Transmit> {
        let id = session_id(datagram).unwrap();
        let mut datagram = datagram.to_vec();
        if let Ok(Some(packet)) = self.startup.open(now, from, &mut datagram) {
            self.initiator
                .handle_packet(now, from, id, &packet, &mut self.rng);
        }
        self.take()
    }

    fn take(&mut self) -> Vec<Transmit> {
        while let Some(event) = self.initiator.poll_event() {
            match event {
                InitiatorEvent::Answered { address, .. } => self.answered.push(address),
                InitiatorEvent::Opened(opened) => self.opened = Some(*opened),
                InitiatorEvent::Failed(failure) => self.failed = Some(failure),
            }
        }
        std::iter::from_fn(|| self.initiator.poll_transmit()).collect()
    }
}

/// Passes datagrams between the two until neither sends any; gives all that were sent.
fn exchange(now: Duration, client: &mut Client, server: &mut Server) -> Vec<Transmit> {
    let mut all = Vec::new();
    let mut sent = client.take();
    while !sent.is_empty() {
        let mut next = Vec::new();
        for transmit in &sent {
            let datagram = &transmit.datagram;
            if transmit.to == at(SERVER) {
                next.extend(server.receive(now, at(CLIENT), datagram));
            } else {
                assert_eq!(transmit.to, at(CLIENT));
                next.extend(client.receive(now, at(SERVER), datagram));
            }
        }
        all.append(&mut sent);
        sent = next;
    }
    all
}

/// What both ends have fits: packets of each direction are understood by the other end, and by it alone.
fn talk(near: &mut Opened, far: &mut Opened) {
    speak(near, far);
    speak(far, near);
    assert_eq!(near.keys.near_nonce, far.keys.far_nonce);
    assert_eq!(near.keys.far_nonce, far.keys.near_nonce);
    assert_ne!(near.keys.far_nonce, near.keys.near_nonce);
    assert_eq!(near.mode, far.mode.reverse());
}

fn speak(from: &mut Opened, to: &mut Opened) {
    for count in 0..3 {
        let packet = [from.mode as u8, 0x01, 0, 1, count];
        let mut datagram = Vec::new();
        from.sealer.seal(from.far_id, &packet, &mut datagram);
        assert_eq!(session_id(&datagram), Some(to.near_id));
        let opened = to.opener.open(&mut datagram).unwrap();
        assert!(opened.starts_with(&packet));
    }
}

/// The chunks of a datagram outside sessions.
fn chunks(datagram: &[u8]) -> Vec<(ChunkKind, Vec<u8>)> {
    let mut datagram = datagram.to_vec();
    let mut startup = Startup::new(fragment::Limits::default());
    let packet = startup.open(Duration::ZERO, at(SERVER), &mut datagram);
    let packet = packet.unwrap().unwrap();
    let packet = Packet::read(&packet).unwrap();
    let own = |chunk: Chunk<'_>| (chunk.kind, chunk.payload.to_vec());
    packet.chunks.map(own).collect()
}

#[test]
fn a_session_takes_four_datagrams() {
    let (mut client, mut server) = (Client::plain(1), Server::plain(2));
    let sent = exchange(5 * SECOND, &mut client, &mut server);
    let kinds: Vec<_> = sent
        .iter()
        .map(|transmit| {
            let id = session_id(&transmit.datagram).unwrap();
            (chunks(&transmit.datagram)[0].0, id)
        })
        .collect();
    let expected = [
        (ChunkKind::INITIATOR_HELLO, 0),
        (ChunkKind::RESPONDER_HELLO, 0),
        (ChunkKind::INITIATOR_KEYING, 0),
        (ChunkKind::RESPONDER_KEYING, 0x7700_0001),
    ];
    assert_eq!(kinds, expected);
    let mut near = client.opened.take().unwrap();
    let mut far = server.sessions.pop().unwrap();
    talk(&mut near, &mut far);
    assert_eq!((near.near_id, near.far_id), (far.far_id, far.near_id));
    assert_eq!((near.address, far.address), (at(SERVER), at(CLIENT)));
    assert_eq!((near.mode, far.mode), (Mode::Initiator, Mode::Responder));
    let identity = client.initiator.poll_timeout();
    assert_eq!(identity, None, "nothing is due any more");
    assert_eq!(client.answered, [at(SERVER)]);
    let counters = server.responder.counters();
    let expected = Counters {
        hellos: 1,
        keyings: 1,
        ..Counters::default()
    };
    assert_eq!(counters, expected);
    // The timestamps are those of the clock: 5 s in units of 4 ms.
    let mut datagram = sent[1].datagram.to_vec();
    let packet = client.startup.open(SECOND, at(SERVER), &mut datagram);
    let packet = packet.unwrap().unwrap();
    let header = Packet::read(&packet).unwrap().header;
    let expected = Header {
        timestamp: Some(1_250),
        ..Header::new(Mode::Startup)
    };
    assert_eq!(header, expected);
    assert_eq!(tag_of(&packet), Some(client.initiator.tag()));
}

#[test]
fn the_hello_of_the_test_vector_is_answered() {
    let mut server = Server::plain(2);
    let hello = crate::vectors::hex(crate::vectors::HELLO_DATAGRAM);
    let sent = server.receive(SECOND, at(CLIENT), &hello);
    assert_eq!(sent.len(), 1);
    assert_eq!((hello.len(), sent[0].datagram.len()), (68, 180));
    let (kind, hello) = &chunks(&sent[0].datagram)[0];
    assert_eq!(*kind, ChunkKind::RESPONDER_HELLO);
    let tag: [u8; 16] = std::array::from_fn(|at| at as u8);
    assert_eq!(hello[1..17], tag);
}

#[test]
fn keyings_can_be_run_by_other_threads() {
    fn is_send<T: Send + 'static>() {}
    is_send::<KeyingTask>();
    is_send::<Accepted>();
    is_send::<Responder>();
    is_send::<Initiator>();
}

#[test]
fn librtmfp_gets_what_it_looks_for() {
    let (mut client, mut server) = (Client::plain(1), Server::plain(2));
    let sent = exchange(Duration::ZERO, &mut client, &mut server);
    let hello = &chunks(&sent[1].datagram)[0].1;
    // A tag of 16 bytes, a cookie of 64, a certificate of 77.
    assert_eq!((hello[0], hello[17], hello.len()), (16, 64, 17 + 65 + 77));
    let keying = &chunks(&sent[3].datagram)[0].1;
    let (keying, _) = ResponderKeying::read(keying).unwrap();
    let prefix = [0x03, 0x1a, 0, 0, 0x02, 0x1e, 0, 0x81, 0x02, 0x0d, 0x02];
    assert_eq!(keying.component[..11], prefix);
    assert_eq!(keying.component.len(), 11 + 128);
    assert_eq!(keying.signature, b"X");
}

#[test]
fn all_keys_groups_and_protections_go_together() {
    use crate::crypto::negotiation::Protection::{self, Compatible, Never, Prefer, Require};
    let mut rng = Seeded::new(9);
    for group in Group::ALL {
        // What is agreed on does not depend on the group: all of it where powers are cheap.
        let protections: &[Protection] = match group {
            Group::Modp1024 => &[Never, Compatible, Prefer, Require],
            Group::Modp1536 | Group::Modp2048 => &[Compatible, Require],
        };
        let ephemeral = |server: bool, rng: &mut Seeded| {
            let identity = if server {
                Identity::server(&[group], None, rng)
            } else {
                Identity::ephemeral(&[group], rng)
            };
            Arc::new(identity.unwrap())
        };
        let fixed = |rng: &mut Seeded| {
            let key = crate::crypto::diffie_hellman::SecretKey::generate(group, rng);
            let identity = Identity::from_static_keys(vec![key], &[0x01, 0x0a]);
            Arc::new(identity.unwrap())
        };
        let near = [ephemeral(false, &mut rng), fixed(&mut rng)];
        let far = [ephemeral(true, &mut rng), fixed(&mut rng)];
        for (near, far) in near
            .iter()
            .flat_map(|near| far.iter().map(move |far| (near, far)))
        {
            for (mac, sequence) in protections
                .iter()
                .flat_map(|mac| protections.iter().map(move |sequence| (*mac, *sequence)))
            {
                for &wish in protections {
                    let mut config =
                        InitiatorConfig::new(Arc::clone(near), discriminator::for_uri(URI));
                    config.protections = Protections {
                        mac,
                        sequence,
                        mac_length: 10,
                    };
                    let mut client = Client::new(Duration::ZERO, config, &[at(SERVER)], 3);
                    let mut config = ResponderConfig::new(Arc::clone(far));
                    config.protections = Protections::both(wish);
                    let mut server = Server::new(config, 4);
                    exchange(Duration::ZERO, &mut client, &mut server);
                    let refused = [mac, sequence].into_iter().any(|own| {
                        (own, wish) == (Require, Never) || (own, wish) == (Never, Require)
                    });
                    let what = format!("{group:?} {mac:?} {sequence:?} to {wish:?}");
                    assert_eq!(client.opened.is_some(), !refused, "{what}");
                    assert_eq!(server.sessions.len(), usize::from(!refused), "{what}");
                    let Some((mut near, mut far)) = client.opened.take().zip(server.sessions.pop())
                    else {
                        assert_eq!(server.responder.counters().keyings_refused, 1);
                        continue;
                    };
                    talk(&mut near, &mut far);
                    let (one, other) = (near.agreement, far.agreement);
                    assert_eq!((one.mac_in, one.mac_out), (other.mac_out, other.mac_in));
                    assert_eq!(
                        (one.sequence_in, one.sequence_out),
                        (other.sequence_out, other.sequence_in)
                    );
                    if mac == Require || wish == Require {
                        assert_eq!((one.mac_out, one.mac_in), (Some(10), Some(16)), "{what}");
                    }
                    if sequence == Require || wish == Require {
                        assert!(one.sequence_out && one.sequence_in, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_strongest_group_that_both_have_is_taken() {
    let mut rng = Seeded::new(1);
    let table = [
        (&Group::ALL[..], Some(Group::Modp2048)),
        (&[Group::Modp1024, Group::Modp1536], Some(Group::Modp1536)),
        (&[Group::Modp1024], Some(Group::Modp1024)),
    ];
    for (groups, expected) in table {
        let identity = Arc::new(Identity::ephemeral(groups, &mut rng).unwrap());
        let config = InitiatorConfig::new(identity, discriminator::for_uri(URI));
        let mut client = Client::new(Duration::ZERO, config, &[at(SERVER)], 3);
        let sent = exchange(Duration::ZERO, &mut client, &mut Server::plain(2));
        assert!(client.opened.is_some());
        let (_, keying) = &chunks(&sent[3].datagram)[0];
        let (keying, _) = ResponderKeying::read(keying).unwrap();
        let component = crate::crypto::components::Components::read(keying.component).unwrap();
        let group = component
            .ephemeral_key
            .and_then(|(id, _)| Group::from_id(id));
        assert_eq!(group, expected);
    }
    // None in common: the initiator says why nothing comes of it.
    let only = Identity::server(&[Group::Modp2048], None, &mut rng).unwrap();
    let mut server = Server::new(ResponderConfig::new(Arc::new(only)), 2);
    let mut client = Client::plain(1);
    exchange(Duration::ZERO, &mut client, &mut server);
    assert!(client.opened.is_none() && client.answered.is_empty());
    assert_eq!(client.initiator.last_refusal(), Some(Refusal::Group));
}

#[test]
fn a_lost_datagram_is_repeated_and_the_answer_is_the_same() {
    let (mut client, mut server) = (Client::plain(1), Server::plain(2));
    let hello = client.take().remove(0);
    assert_eq!(client.initiator.poll_timeout(), Some(SECOND));
    client.initiator.handle_timeout(SECOND);
    let repeated = client.take().remove(0);
    assert_ne!(repeated.datagram, hello.datagram, "a later timestamp");
    let rhello = server
        .receive(SECOND, at(CLIENT), &repeated.datagram)
        .remove(0);
    let keying = client
        .receive(SECOND, at(SERVER), &rhello.datagram)
        .remove(0);
    // The first answer is lost, and the second too.
    let lost = server
        .receive(SECOND, at(CLIENT), &keying.datagram)
        .remove(0);
    for time in [2 * SECOND, Duration::from_millis(4_500)] {
        assert_eq!(client.initiator.poll_timeout(), Some(time));
        client.initiator.handle_timeout(time);
        let keying = client.take().remove(0);
        let again = server.receive(time, at(CLIENT), &keying.datagram);
        assert_eq!(again, std::slice::from_ref(&lost));
    }
    assert_eq!(server.sessions.len(), 1, "one session for all of them");
    assert_eq!(server.responder.counters().keyings_repeated, 2);
    client.receive(5 * SECOND, at(SERVER), &lost.datagram);
    talk(&mut client.opened.take().unwrap(), &mut server.sessions[0]);
    // A further answer is for nobody.
    client.receive(5 * SECOND, at(SERVER), &lost.datagram);
    assert!(client.opened.is_none());
}

#[test]
fn an_initiator_gives_up_after_95_seconds() {
    let mut client = Client::plain(1);
    let mut times = Vec::new();
    let mut now = Duration::ZERO;
    loop {
        let sent = client.take();
        assert!(sent.len() <= 1 && sent.iter().all(|hello| hello.to == at(SERVER)));
        times.extend(sent.iter().map(|_| now.as_millis()));
        let Some(next) = client.initiator.poll_timeout() else {
            break;
        };
        assert!(next > now);
        now = next;
        client.initiator.handle_timeout(now);
    }
    assert_eq!(times[..5], [0, 1_000, 3_500, 7_500, 13_000]);
    assert_eq!((times.len(), now), (12, 95 * SECOND));
    assert_eq!(client.failed, Some(InitiatorFailure::NoAnswer));
    client.initiator.handle_timeout(200 * SECOND);
    assert!(client.take().is_empty());

    // The same where somebody answers, and nothing comes of it.
    let (mut client, mut server) = (Client::plain(1), Server::plain(2));
    server.runs = false;
    exchange(Duration::ZERO, &mut client, &mut server);
    client.initiator.handle_timeout(95 * SECOND);
    client.take();
    assert_eq!(client.failed, Some(InitiatorFailure::NoKeying));
}

#[test]
fn the_first_of_many_candidates_that_answers_is_taken() {
    let identity = client_identity(&mut Seeded::new(1));
    let config = InitiatorConfig::new(identity, discriminator::for_uri(URI));
    let mut candidates: Vec<_> = (2..40)
        .map(|host| at(&format!("10.0.0.{host}:1935")))
        .collect();
    candidates.insert(0, at("0.0.0.0:0"));
    candidates.insert(0, at("224.0.0.1:1935"));
    candidates.insert(0, candidates[2]);
    candidates.insert(5, at(SERVER));
    let mut client = Client::new(Duration::ZERO, config, &candidates, 3);
    let sent = client.take();
    assert_eq!(sent.len(), 24, "as many as the specification allows");
    let mut server = Server::plain(2);
    let hello = sent.iter().find(|hello| hello.to == at(SERVER)).unwrap();
    let rhello = server
        .receive(SECOND, at(CLIENT), &hello.datagram)
        .remove(0);
    // It may come from elsewhere: what matters is where it comes from.
    let sent = client.receive(SECOND, at("10.9.9.9:9"), &rhello.datagram);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].to, at("10.9.9.9:9"));
    assert!(
        client
            .receive(SECOND, at(SERVER), &rhello.datagram)
            .is_empty()
    );
    assert_eq!(client.answered, [at("10.9.9.9:9")]);
}

#[test]
fn packets_that_are_too_long_travel_in_pieces() {
    let mut rng = Seeded::new(1);
    let name = "n".repeat(3_000);
    let server = Identity::server(&Group::ALL, Some(&name), &mut rng).unwrap();
    let mut server = Server::new(ResponderConfig::new(Arc::new(server)), 2);
    let key = crate::crypto::diffie_hellman::SecretKey::generate(Group::Modp2048, &mut rng);
    let mut options = Vec::new();
    crate::wire::field::put_option(0x33, &[7; 2_000], &mut options);
    let identity = Identity::from_static_keys(vec![key], &options).unwrap();
    let config = InitiatorConfig::new(Arc::new(identity), discriminator::for_uri(URI));
    let mut client = Client::new(Duration::ZERO, config, &[at(SERVER)], 3);
    let sent = exchange(Duration::ZERO, &mut client, &mut server);
    assert!(sent.iter().all(|sent| sent.datagram.len() <= 1_200));
    assert_eq!(sent.len(), 1 + 3 + 3 + 1);
    assert_eq!((server.startup.held(), client.startup.held()), (0, 0));
    talk(&mut client.opened.unwrap(), &mut server.sessions[0]);
}

#[test]
fn passwords_are_proved_in_both_directions() {
    let password = |id: &str, secret: &str| Password {
        id: id.into(),
        secret: secret.into(),
    };
    let run = |own: Option<Password>, far: Option<Password>, required: bool| {
        let identity = client_identity(&mut Seeded::new(1));
        let mut config = InitiatorConfig::new(identity, discriminator::for_uri(URI));
        config.password = own;
        config.passwords = vec![password("far", "f")];
        config.password_required = required;
        let mut client = Client::new(Duration::ZERO, config, &[at(SERVER)], 3);
        let mut config = ResponderConfig::new(server_identity(&mut Seeded::new(2)));
        config.password = far;
        config.passwords = vec![password("near", "n")];
        config.password_required = required;
        let mut server = Server::new(config, 4);
        exchange(Duration::ZERO, &mut client, &mut server);
        let server = server.sessions.pop();
        let server = server.map(|opened| opened.authenticated_as);
        (server, client.opened.map(|opened| opened.authenticated_as))
    };
    let (near, far) = (
        || Some(password("near", "n")),
        || Some(password("far", "f")),
    );
    let known = (Some(Some(b"near".to_vec())), Some(Some(b"far".to_vec())));
    assert_eq!(run(near(), far(), true), known);
    assert_eq!(run(None, None, false), (Some(None), Some(None)));
    assert_eq!(run(None, far(), true), (None, None));
    assert_eq!(run(near(), None, true), (known.0.clone(), None));
    assert_eq!(
        run(Some(password("near", "wrong")), far(), false),
        (None, None)
    );
    let wrong = Some(password("far", "wrong"));
    assert_eq!(run(near(), wrong, false), (known.0.clone(), None));
    let unknown = Some(password("who", "n"));
    assert_eq!(run(unknown, far(), false), (Some(None), known.1.clone()));
}
