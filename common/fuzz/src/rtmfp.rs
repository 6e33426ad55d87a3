//! RTMFP: packets and their chunks, what stands for an identity in them, and the handshake as a sequence of operations.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use headwater_rtmfp::crypto::certificate::{Certificate, Identity};
use headwater_rtmfp::crypto::components::Components;
use headwater_rtmfp::crypto::cookie::Cookies;
use headwater_rtmfp::crypto::diffie_hellman::Group;
use headwater_rtmfp::crypto::discriminator::{self, Discriminator};
use headwater_rtmfp::crypto::signature::{self, Password};
use headwater_rtmfp::crypto::{Opener, Sealer, session_id};
use headwater_rtmfp::handshake::{
    Initiator, InitiatorConfig, InitiatorEvent, KeyingTask, Opened, Responder, ResponderConfig,
    ResponderEvent, Startup, Transmit,
};
use headwater_rtmfp::wire::chunk::{Payload, append};
use headwater_rtmfp::wire::fragment::{self, Fragment, Reassembly};
use headwater_rtmfp::wire::startup::{
    CookieChange, ForwardedHello, InitiatorHello, InitiatorKeying, Redirect, RedirectTo,
    ResponderHello, ResponderKeying,
};
use headwater_rtmfp::wire::{ChunkKind, Chunks, Fields, Header, Mode, Packet};
use rand_core::{TryCryptoRng, TryRng};

/// Random numbers that a seed decides: what is found can be repeated.
struct Seeded(u64);

impl TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| number as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let number = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Ok(number ^ number >> 31)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = (self.try_next_u64()? >> 32) as u8;
        }
        Ok(())
    }
}

impl TryCryptoRng for Seeded {}

/// Bytes of a packet that are looked at: more than a path carries.
const LONGEST: usize = 4_096;

/// The payload of a chunk that is written.
fn written(payload: &impl Payload) -> Vec<u8> {
    let mut out = Vec::new();
    payload.put(&mut out);
    out
}

/// Packets: the datagram, the header, the chunks of the handshake, fragments.
pub fn rtmfp_packet(data: &[u8]) {
    let data = data.get(..LONGEST).unwrap_or(data);
    let _ = session_id(data);
    let _ = Opener::startup().open(&mut data.to_vec());
    let mut datagram = Vec::new();
    Sealer::startup().seal(7, data, &mut datagram);
    assert_eq!(session_id(&datagram), Some(7));
    let opened = Opener::startup();
    let opened = { opened }
        .open(&mut datagram)
        .map(|packet| packet.starts_with(data));
    assert_eq!(opened, Ok(true), "what was sealed can be opened");

    let Ok(packet) = Packet::read(data) else {
        return;
    };
    let mut out = Vec::new();
    packet.header.put(&mut out);
    let again = Header::read(&mut Fields::new(&out));
    assert_eq!(again, Ok(packet.header));
    let mut reassembly = Reassembly::new(fragment::Limits::default());
    let mut now = Duration::ZERO;
    for chunk in packet.chunks {
        let data = chunk.payload;
        match chunk.kind {
            ChunkKind::INITIATOR_HELLO => {
                if let Ok(read) = InitiatorHello::read(data) {
                    assert_eq!(InitiatorHello::read(&written(&read)), Ok(read));
                }
            }
            ChunkKind::FORWARDED_HELLO => {
                if let Ok(read) = ForwardedHello::read(data) {
                    let bytes = written(&read);
                    let again = ForwardedHello::read(&bytes);
                    // IPv4 addresses in the clothes of IPv6 are written as what they are.
                    let again = again.map(|again| (again.discriminator, again.tag));
                    assert_eq!(again, Ok((read.discriminator, read.tag)));
                }
            }
            ChunkKind::RESPONDER_HELLO => {
                if let Ok(read) = ResponderHello::read(data) {
                    assert_eq!(ResponderHello::read(&written(&read)), Ok(read));
                }
            }
            ChunkKind::REDIRECT => {
                if let Ok(read) = Redirect::read(data) {
                    let addresses: Vec<_> = read.addresses().collect();
                    let bytes = written(&RedirectTo {
                        tag: read.tag,
                        addresses: &addresses,
                    });
                    let again = Redirect::read(&bytes).map(|again| again.addresses().count());
                    assert_eq!(again, Ok(addresses.len()));
                }
            }
            ChunkKind::COOKIE_CHANGE => {
                if let Ok(read) = CookieChange::read(data) {
                    assert_eq!(CookieChange::read(&written(&read)), Ok(read));
                }
            }
            ChunkKind::INITIATOR_KEYING => {
                if let Ok((read, signed)) = InitiatorKeying::read(data) {
                    assert_eq!(signed.len() + read.signature.len(), data.len());
                    let bytes = written(&read);
                    let again = InitiatorKeying::read(&bytes).map(|(again, _)| again);
                    assert_eq!(again, Ok(read));
                }
            }
            ChunkKind::RESPONDER_KEYING => {
                if let Ok((read, signed)) = ResponderKeying::read(data) {
                    assert_eq!(signed.len() + read.signature.len(), data.len());
                    let bytes = written(&read);
                    let again = ResponderKeying::read(&bytes).map(|(again, _)| again);
                    assert_eq!(again, Ok(read));
                }
            }
            ChunkKind::FRAGMENT => {
                let Ok(read) = Fragment::read(data) else {
                    continue;
                };
                assert_eq!(Fragment::read(&written(&read)), Ok(read));
                let source = read.packet % 3;
                let complete = reassembly.handle(now, source, packet.header.mode, &read);
                if let Some(complete) = complete {
                    let header = Header::read(&mut Fields::new(&complete));
                    assert_eq!(header.map(|header| header.mode), Ok(packet.header.mode));
                }
                assert!(reassembly.held() <= fragment::Limits::default().total);
                now += Duration::from_millis(100);
            }
            _ => {}
        }
        let mut out = Vec::new();
        if append(&Raw(data), &mut out).is_ok() {
            let again = Chunks::new(&out).next().map(|chunk| chunk.payload);
            assert_eq!(again, Some(data), "a chunk survives writing");
        }
    }
    reassembly.handle_timeout(now + Duration::from_secs(100));
    assert_eq!(reassembly.held(), 0);
    // What is cut comes together.
    let limit = 20 + data.len() / 7;
    let pieces = fragment::split(data, packet.header.mode, 5, limit);
    if let [one] = pieces.as_slice() {
        assert_eq!(one, data);
        return;
    }
    let mut whole = None;
    for piece in pieces {
        assert!(piece.len() <= limit);
        let Some(read) = Packet::read(&piece)
            .ok()
            .and_then(|piece| { piece.chunks }.next())
        else {
            return;
        };
        if read.kind == ChunkKind::FRAGMENT
            && let Ok(fragment) = Fragment::read(read.payload)
        {
            whole = reassembly.handle(now, 9, packet.header.mode, &fragment);
        }
    }
    assert_eq!(whole.as_deref(), Some(data), "nothing is lost");
}

/// A chunk of any bytes.
struct Raw<'a>(&'a [u8]);

impl Payload for Raw<'_> {
    const KIND: ChunkKind = ChunkKind::PING;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0);
    }
}

/// Certificates, discriminators, components and signatures, all from the same bytes.
pub fn rtmfp_identity(data: &[u8]) {
    let certificate = Certificate::read(data);
    if let Ok(certificate) = &certificate {
        assert_eq!(certificate.as_bytes(), data);
        let canonical = certificate.canonical_section();
        assert!(data.starts_with(canonical));
        let again = Certificate::read(canonical).map(|again| again.fingerprint());
        assert_eq!(
            again,
            Ok(certificate.fingerprint()),
            "nothing else has a part in it"
        );
        assert!(certificate.groups().len() <= Group::ALL.len());
        let own = discriminator::for_fingerprint(&certificate.fingerprint());
        let own = Discriminator::read(&own).map(|own| own.selects(certificate));
        assert_eq!(own, Ok(true));
    }
    if let Ok(asked) = Discriminator::read(data) {
        for identity in [&*SERVER, &*CLIENT] {
            let selects = asked.selects(identity.certificate());
            let asks = asked.fingerprint.is_some()
                || asked.hostname.is_some()
                || asked.ancillary_data.is_some();
            assert!(asks || !selects, "nobody is asked for");
        }
    }
    let _ = Components::read(data);
    let password = Password {
        id: data.get(34..).unwrap_or_default().to_vec(),
        secret: b"secret".to_vec(),
    };
    let known = [password];
    let verdict = signature::verify(data, &[data], &known);
    assert!(
        !matches!(verdict, signature::Verdict::Knows(_)),
        "nobody can sign a signature with itself"
    );
}

static SERVER: LazyLock<Arc<Identity>> = LazyLock::new(|| {
    let identity = Identity::server(&Group::ALL, None, &mut Seeded(1));
    Arc::new(identity.expect("there are groups"))
});

static CLIENT: LazyLock<Arc<Identity>> = LazyLock::new(|| {
    let identity = Identity::with_static_key(Group::Modp1024, &mut Seeded(2));
    Arc::new(identity.expect("the generator gives numbers"))
});

/// Keyings that one input may run: each takes as long as thousands of other steps.
const KEYINGS: usize = 2;

/// Two ends and what is between them.
struct Handshake {
    now: Duration,
    rng: Seeded,
    initiator: Initiator,
    responder: Responder,
    startup: Startup,
    /// To the server, to the client.
    queues: [VecDeque<Transmit>; 2],
    tasks: VecDeque<KeyingTask>,
    ran: usize,
    near: Vec<Opened>,
    far: Vec<Opened>,
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 1935))
}

/// The handshake, as a sequence of operations: datagrams that arrive, are lost, doubled or changed, packets that nobody sent, time.
pub fn rtmfp_handshake(data: &[u8]) {
    let mut rng = Seeded(3);
    let cookies = Cookies::new(&mut rng);
    let wanted = discriminator::for_uri("rtmfp://h/a");
    let config = InitiatorConfig::new(Arc::clone(&CLIENT), wanted);
    let mut handshake = Handshake {
        now: Duration::ZERO,
        initiator: Initiator::new(Duration::ZERO, config, 77, &[address(1)], &mut rng),
        responder: Responder::new(ResponderConfig::new(Arc::clone(&SERVER)), cookies, &mut rng),
        rng,
        startup: Startup::new(fragment::Limits::default()),
        queues: Default::default(),
        tasks: VecDeque::new(),
        ran: 0,
        near: Vec::new(),
        far: Vec::new(),
    };
    handshake.take();
    let mut operations = Fields::new(data);
    // A hundred steps say all there is to say.
    for _ in 0..120 {
        if handshake.step(&mut operations).is_none() {
            break;
        }
        handshake.take();
        assert!(handshake.responder.pending() <= handshake.responder.remembered());
        assert!(handshake.near.len() <= 1, "an initiator opens one session");
    }
    let Handshake { near, far, .. } = &mut handshake;
    for near in near {
        let same = |far: &&mut Opened| {
            far.keys.near_nonce == near.keys.far_nonce && far.keys.far_nonce == near.keys.near_nonce
        };
        if let Some(far) = far.iter_mut().find(same) {
            talk(near, far);
            talk(far, near);
        }
    }
}

fn talk(from: &mut Opened, to: &mut Opened) {
    let mut datagram = Vec::new();
    from.sealer
        .seal(from.far_id, &[from.mode as u8, 1, 0, 0], &mut datagram);
    assert!(
        to.opener.open(&mut datagram).is_ok(),
        "both ends have the same keys"
    );
}

impl Handshake {
    /// None at the end of the operations.
    fn step(&mut self, operations: &mut Fields<'_>) -> Option<()> {
        let operation = operations.u8().ok()?;
        let to = usize::from(operation >> 7);
        match operation & 0x07 {
            0 => {
                let transmit = self.queues.get_mut(to)?.pop_front();
                if let Some(transmit) = transmit {
                    self.deliver(to, &transmit.datagram, address(operation >> 5 & 1));
                }
            }
            1 => drop(self.queues.get_mut(to)?.pop_front()),
            2 => {
                let queue = self.queues.get_mut(to)?;
                if queue.len() < 64 {
                    queue.extend(queue.front().cloned());
                }
            }
            3 => {
                let place = operations.u16().ok()?;
                let change = operations.u8().ok()?;
                self.change(to, place, change);
            }
            4 => {
                let length = operations.u8().ok()?;
                let length = usize::from(length).min(operations.remaining());
                let mut packet = vec![Mode::Startup as u8];
                packet.extend_from_slice(operations.bytes(length).ok()?);
                let id = if operation & 0x40 == 0 { 0 } else { 77 };
                self.packet(to, id, &packet, address(operation >> 3 & 7));
            }
            5 => {
                let task = self.tasks.pop_front();
                if let Some(task) = task {
                    self.run(task, operation & 0x40 == 0);
                }
            }
            6 => {
                let step = Duration::from_millis(100) * u32::from(operations.u8().ok()?);
                self.now += step;
                self.initiator.handle_timeout(self.now);
                self.responder.handle_timeout(self.now);
                self.startup.handle_timeout(self.now);
            }
            _ => {
                let length = operations.u8().ok()?;
                let length = usize::from(length).min(operations.remaining());
                let payload = operations.bytes(length).ok()?;
                self.responder.handle_forwarded(self.now, payload);
                self.responder.set_accepting(operation & 0x40 == 0);
            }
        }
        Some(())
    }

    /// Delivers the next datagram with a byte of its packet changed, and leaves it where it is.
    fn change(&mut self, to: usize, place: u16, change: u8) -> Option<()> {
        let mut datagram = self.queues.get(to)?.front()?.datagram.to_vec();
        let id = session_id(&datagram).unwrap_or(0);
        let packet = self.startup.open(self.now, address(9), &mut datagram);
        let mut packet = packet.ok()??.into_owned();
        let length = packet.len();
        *packet.get_mut(usize::from(place) % length)? ^= change;
        self.packet(to, id, &packet, address(0));
        Some(())
    }

    fn deliver(&mut self, to: usize, datagram: &[u8], from: SocketAddr) {
        let id = session_id(datagram).unwrap_or(0);
        let mut datagram = datagram.to_vec();
        if let Ok(Some(packet)) = self.startup.open(self.now, from, &mut datagram) {
            let packet = packet.into_owned();
            self.packet(to, id, &packet, from);
        }
    }

    fn packet(&mut self, to: usize, id: u32, packet: &[u8], from: SocketAddr) {
        if to == 0 {
            self.responder.handle_packet(self.now, from, packet);
        } else {
            self.initiator
                .handle_packet(self.now, from, id, packet, &mut self.rng);
        }
    }

    fn run(&mut self, task: KeyingTask, wanted: bool) {
        let id = task.id();
        self.ran += 1;
        if !wanted || self.ran > KEYINGS {
            self.responder.abandoned(id);
            return;
        }
        let near_id = 1_000 + self.ran as u32;
        match task.run(near_id, &mut self.rng) {
            Ok(accepted) => {
                self.responder.accepted(self.now, &accepted);
                self.far.push(accepted.opened);
            }
            Err(_) => self.responder.abandoned(id),
        }
    }

    /// Takes what both ends have to say.
    fn take(&mut self) {
        while let Some(event) = self.responder.poll_event() {
            match event {
                ResponderEvent::Keying(task) => self.tasks.push_back(*task),
                ResponderEvent::Lookup(lookup) => {
                    self.responder.redirect(self.now, &lookup, &[]);
                }
                ResponderEvent::Astray { .. } => panic!("nobody answers as somebody else"),
            }
        }
        while let Some(event) = self.initiator.poll_event() {
            if let InitiatorEvent::Opened(opened) = event {
                self.near.push(*opened);
            }
        }
        let [server, client] = &mut self.queues;
        server.extend(std::iter::from_fn(|| self.initiator.poll_transmit()));
        client.extend(std::iter::from_fn(|| self.responder.poll_transmit()));
        server.truncate(64);
        client.truncate(64);
    }
}
