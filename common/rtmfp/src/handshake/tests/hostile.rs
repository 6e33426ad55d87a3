//! Peers that want to be expensive, or somebody else.

use super::*;
use crate::crypto::Sealer;
use crate::wire::chunk::{Payload, append};
use crate::wire::startup::{InitiatorHello, InitiatorKeying, ResponderHello};

/// A datagram with the given plain packet.
fn sealed(packet: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Sealer::startup().seal(0, packet, &mut out);
    out
}

fn datagram(payload: &impl Payload) -> Vec<u8> {
    let mut packet = vec![0x03];
    append(payload, &mut packet).unwrap();
    sealed(&packet)
}

/// The plain packet in a datagram.
fn plain(datagram: &[u8]) -> Vec<u8> {
    let mut startup = Startup::new(fragment::Limits::default());
    let mut datagram = datagram.to_vec();
    let packet = startup.open(Duration::ZERO, at(SERVER), &mut datagram);
    packet.unwrap().unwrap().into_owned()
}

/// The IIKeying that an initiator sends to a server after its RHello.
fn keying(client: &mut Client, server: &mut Server) -> Vec<u8> {
    let hello = client.take().remove(0);
    let rhello = server
        .receive(Duration::ZERO, at(CLIENT), &hello.datagram)
        .remove(0);
    let keying = client.receive(Duration::ZERO, at(SERVER), &rhello.datagram);
    keying[0].datagram.to_vec()
}

#[test]
fn what_is_sent_to_unproved_addresses_is_limited() {
    let mut server = Server::plain(1);
    let discriminator = discriminator::for_uri(URI);
    let hello = datagram(&InitiatorHello {
        discriminator: &discriminator,
        tag: &[1; 16],
    });
    let received = 1_000 * hello.len();
    let mut sent = 0;
    let mut answers = 0;
    for port in 0..1_000 {
        // Many addresses of one network, as a forger has them.
        let from = SocketAddr::new(at(CLIENT).ip(), 1 + port);
        for answer in server.receive(Duration::ZERO, from, &hello) {
            assert_eq!(answer.to, from);
            sent += answer.datagram.len();
            answers += 1;
        }
    }
    assert!((400..600).contains(&answers), "{answers}");
    // The packet counts, which is shorter than its datagram by the session id, the checksum and padding.
    assert!(sent <= received + 65_536, "{sent}");
    let counters = server.responder.counters();
    assert_eq!(counters.hellos + counters.hellos_limited, 1_000);
    assert_eq!(server.responder.remembered(), 0, "nothing is kept");
    // After a second there is some more; another network has all of its own.
    let later = server.receive(SECOND, at(CLIENT), &hello);
    assert_eq!(later.len(), 1);
    assert_eq!(
        server
            .receive(Duration::ZERO, at("10.8.0.1:1"), &hello)
            .len(),
        1
    );
}

#[test]
fn a_hello_as_long_as_its_answer_is_always_answered() {
    let mut config = ResponderConfig::new(server_identity(&mut Seeded::new(1)));
    config.limits.unproved_bytes.per_second = 0;
    let mut server = Server::new(config, 2);
    let discriminator = discriminator::for_uri(URI);
    let hello = InitiatorHello {
        discriminator: &discriminator,
        tag: &[1; 16],
    };
    assert!(
        server
            .receive(SECOND, at(CLIENT), &datagram(&hello))
            .is_empty()
    );
    let mut packet = vec![0x03];
    append(&hello, &mut packet).unwrap();
    packet.resize(180, 0xff);
    for _ in 0..100 {
        let answers = server.receive(SECOND, at(CLIENT), &sealed(&packet));
        assert_eq!(answers.len(), 1);
        assert!(answers[0].datagram.len() <= sealed(&packet).len());
    }
    // Many hellos in one packet share its length.
    let mut packet = vec![0x03];
    for _ in 0..20 {
        append(&hello, &mut packet).unwrap();
    }
    let answers = server.receive(SECOND, at(CLIENT), &sealed(&packet));
    let sent: usize = answers.iter().map(|answer| answer.datagram.len()).sum();
    assert!(!answers.is_empty() && sent <= packet.len(), "{sent}");
}

#[test]
fn a_cookie_from_another_address_is_changed_once() {
    let (mut client, mut server) = (Client::plain(1), Server::plain(2));
    let keying = keying(&mut client, &mut server);
    // The initiator's address changed between its two packets.
    let moved = at("10.1.0.1:6000");
    let change = server.receive(SECOND, moved, &keying);
    assert_eq!(change.len(), 1);
    assert_eq!(change[0].to, moved);
    assert!(change[0].datagram.len() <= keying.len());
    assert_eq!(session_id(&change[0].datagram), Some(0x7700_0001));
    assert_eq!(server.responder.remembered(), 0, "nothing is kept");
    let again = client
        .receive(SECOND, at(SERVER), &change[0].datagram)
        .remove(0);
    assert_ne!(again.datagram, keying);
    // Not a second time.
    let twice = server.receive(SECOND, at("10.1.0.1:7000"), &again.datagram);
    assert_eq!(twice.len(), 1);
    assert!(
        client
            .receive(SECOND, at(SERVER), &twice[0].datagram)
            .is_empty()
    );
    let answer = server.receive(SECOND, moved, &again.datagram).remove(0);
    client.receive(SECOND, at(SERVER), &answer.datagram);
    talk(&mut client.opened.take().unwrap(), &mut server.sessions[0]);
    assert_eq!(server.sessions[0].address, moved);
    assert_eq!(server.responder.counters().cookies_moved, 2);
}

#[test]
fn cookies_that_are_old_or_forged_cost_nothing() {
    let (mut client, mut server) = (Client::plain(1), Server::plain(2));
    let keying = keying(&mut client, &mut server);
    assert!(server.receive(121 * SECOND, at(CLIENT), &keying).is_empty());
    assert_eq!(server.responder.counters().cookies_expired, 1);
    let mut other = Server::plain(3);
    assert!(other.receive(SECOND, at(CLIENT), &keying).is_empty());
    assert_eq!(other.responder.counters().cookies_forged, 1);
    let sessions = server.sessions.len() + other.sessions.len();
    assert_eq!(sessions, 0);
    assert_eq!(
        (server.responder.pending(), other.responder.pending()),
        (0, 0)
    );
}

#[test]
fn a_short_keying_from_elsewhere_gets_no_longer_answer() {
    let (mut client, mut server) = (Client::plain(1), Server::plain(2));
    let (_, keying) = chunks(&keying(&mut client, &mut server)).remove(0);
    let (keying, _) = InitiatorKeying::read(&keying).unwrap();
    let short = datagram(&InitiatorKeying {
        certificate: &[],
        component: &[],
        signature: &[],
        ..keying
    });
    assert!(server.receive(SECOND, at("10.4.0.1:1"), &short).is_empty());
    assert_eq!(server.responder.counters().cookies_moved, 1);
}

#[test]
fn keyings_that_wait_are_bounded_and_not_doubled() {
    let mut config = ResponderConfig::new(server_identity(&mut Seeded::new(1)));
    config.limits.pending = 3;
    config.limits.remembered = 5;
    let mut server = Server::new(config, 2);
    server.runs = false;
    let mut keyings: Vec<_> = (0..5)
        .map(|seed| keying(&mut Client::plain(seed), &mut server))
        .collect();
    for keying in &keyings {
        for _ in 0..3 {
            assert!(server.receive(SECOND, at(CLIENT), keying).is_empty());
        }
    }
    assert_eq!((server.tasks.len(), server.responder.pending()), (3, 3));
    let counters = server.responder.counters();
    assert_eq!((counters.keyings, counters.keyings_repeated), (3, 6));
    assert_eq!(counters.keyings_limited, 6);
    // One is given up, one comes to its end: there is room for two.
    let abandoned = server.tasks.remove(0);
    server.responder.abandoned(abandoned.id());
    let task = server.tasks.remove(0);
    let id = task.id();
    assert_eq!(task.source(), at(CLIENT));
    server.run(SECOND, task);
    assert_eq!(server.take(SECOND).len(), 1);
    assert_eq!(server.responder.pending(), 1);
    keyings.rotate_left(3);
    for keying in &keyings[..2] {
        server.receive(SECOND, at(CLIENT), keying);
    }
    assert_eq!((server.tasks.len(), server.responder.pending()), (3, 3));
    // What came to its end is answered again, until its initiator has shown that it knows.
    assert_eq!(server.receive(SECOND, at(CLIENT), &keyings[3]).len(), 1);
    server.responder.confirmed(id);
    // Then whoever repeats it has overheard it.
    assert!(server.receive(SECOND, at(CLIENT), &keyings[3]).is_empty());
    assert_eq!(server.tasks.len(), 3);
    assert!(server.responder.remembered() <= 5);
    server.responder.handle_timeout(121 * SECOND);
    assert_eq!(
        (server.responder.remembered(), server.responder.pending()),
        (0, 0)
    );
    assert_eq!(server.responder.poll_timeout(), None);
}

#[test]
fn keyings_of_a_network_are_limited() {
    let mut config = ResponderConfig::new(server_identity(&mut Seeded::new(1)));
    config.limits.keyings = Rate {
        per_second: 1,
        burst: 2,
    };
    config.limits.remembered = 2;
    let mut server = Server::new(config, 2);
    for seed in 0..5 {
        let keying = keying(&mut Client::plain(seed), &mut server);
        server.receive(SECOND, at(CLIENT), &keying);
    }
    assert_eq!(server.sessions.len(), 2);
    assert_eq!(server.responder.counters().keyings_limited, 3);
    assert_eq!(
        server.responder.remembered(),
        1,
        "of two places each has two"
    );
}

#[test]
fn every_cut_keying_is_dropped() {
    let (mut client, mut server) = (Client::plain(1), Server::plain(2));
    let packet = plain(&keying(&mut client, &mut server));
    let end = packet.len()
        - packet
            .iter()
            .rev()
            .take_while(|byte| **byte == 0xff)
            .count();
    // Flags, timestamp, kind, length.
    let payload = &packet[6..end];
    for length in 0..payload.len() {
        let mut cut = packet[..4].to_vec();
        cut.extend((length as u16).to_be_bytes());
        cut.extend(&payload[..length]);
        let signature = length == payload.len() - 1;
        let sent = server.receive(SECOND, at(CLIENT), &sealed(&cut));
        // Without its last byte it has no signature, and needs none.
        assert_eq!(sent.len(), usize::from(signature), "{length}");
    }
    assert_eq!(server.sessions.len(), 1);
}

#[test]
fn every_cut_answer_is_dropped() {
    let (mut client, mut server) = (Client::plain(1), Server::plain(2));
    let keying = keying(&mut client, &mut server);
    let answer = server.receive(SECOND, at(CLIENT), &keying).remove(0);
    let packet = plain(&answer.datagram);
    let end = packet.len()
        - packet
            .iter()
            .rev()
            .take_while(|byte| **byte == 0xff)
            .count();
    let payload = &packet[6..end];
    for length in 0..payload.len() - 1 {
        let mut cut = packet[..4].to_vec();
        cut.extend((length as u16).to_be_bytes());
        cut.extend(&payload[..length]);
        let id = client.initiator.near_id();
        client
            .initiator
            .handle_packet(SECOND, at(SERVER), id, &cut, &mut Seeded::new(1));
        client.take();
        assert!(client.opened.is_none(), "{length}");
    }
    assert!(client.initiator.last_refusal().is_some());
    // Nor on another session's id.
    for id in [0, 1] {
        client
            .initiator
            .handle_packet(SECOND, at(SERVER), id, &packet, &mut Seeded::new(1));
        client.take();
        assert!(client.opened.is_none());
    }
    client.receive(SECOND, at(SERVER), &answer.datagram);
    talk(&mut client.opened.take().unwrap(), &mut server.sessions[0]);
}

#[test]
fn answers_of_others_are_ignored() {
    let mut client = Client::plain(1);
    let hello = client.take().remove(0);
    let tag = client.initiator.tag().to_vec();
    // No server, and a server with another tag.
    let peer = client_identity(&mut Seeded::new(8));
    let server = server_identity(&mut Seeded::new(9));
    let cases = [
        (&tag[..], peer.certificate().as_bytes(), &[0; 64][..]),
        (&[0; 16], server.certificate().as_bytes(), &[0; 64]),
        (&tag, &[0x05, 0x00], &[0; 64]),
        (&tag, server.certificate().as_bytes(), &[0; 600]),
    ];
    for (tag, certificate, cookie) in cases {
        let rhello = datagram(&ResponderHello {
            tag,
            cookie,
            certificate,
        });
        assert!(
            client
                .receive(Duration::ZERO, at(SERVER), &rhello)
                .is_empty()
        );
    }
    assert!(client.answered.is_empty());
    // The right one is not too late.
    let mut server = Server::plain(2);
    let rhello = server
        .receive(Duration::ZERO, at(CLIENT), &hello.datagram)
        .remove(0);
    client.receive(Duration::ZERO, at(SERVER), &rhello.datagram);
    assert_eq!(client.answered, [at(SERVER)]);
}

#[test]
fn keyings_without_hope_are_refused_before_they_cost() {
    let (mut client, mut server) = (Client::plain(1), Server::plain(2));
    let (_, keying) = chunks(&keying(&mut client, &mut server)).remove(0);
    let (keying, _) = InitiatorKeying::read(&keying).unwrap();
    let weak = [&[0x81, 0x02, 0x1d, 0x02][..], &[0; 127], &[1]].concat();
    let ephemeral = [0x02, 0x15, 0x02];
    let other_group = [0x02, 0x1d, 0x0e];
    let key = |group: u8, fill: u8| [&[0x81, 0x02, 0x0d, group][..], &[fill; 128]].concat();
    let unknown = key(16, 0x55);
    let edge = key(2, 0x00);
    let asks = [
        &[0x02, 0x1d, 0x02, 0x03, 0x1a, 0x02, 0x03][..],
        &[0x02, 0x1e, 0x00],
    ]
    .concat();
    let both = [keying.component, &key(2, 0x55)].concat();
    let cases = [
        InitiatorKeying {
            session_id: 0,
            ..keying
        },
        InitiatorKeying {
            certificate: &weak,
            ..keying
        },
        InitiatorKeying {
            certificate: &[],
            ..keying
        },
        InitiatorKeying {
            certificate: &[0x05],
            ..keying
        },
        InitiatorKeying {
            component: &[],
            ..keying
        },
        InitiatorKeying {
            component: &other_group,
            ..keying
        },
        InitiatorKeying {
            component: &both,
            ..keying
        },
        InitiatorKeying {
            certificate: &ephemeral,
            component: &unknown,
            ..keying
        },
        InitiatorKeying {
            certificate: &ephemeral,
            component: &edge,
            ..keying
        },
    ];
    for (case, keying) in cases.iter().enumerate() {
        let sent = server.receive(SECOND, at(CLIENT), &datagram(keying));
        assert!(sent.is_empty(), "{case}");
    }
    let counters = server.responder.counters();
    assert_eq!(
        (counters.keyings, counters.keyings_refused),
        (0, cases.len() as u64)
    );
    assert_eq!(server.responder.remembered(), 0);
    // A MAC of three bytes that nobody asks for is nobody's business.
    let harmless = InitiatorKeying {
        component: &asks,
        ..keying
    };
    assert_eq!(
        server
            .receive(SECOND, at(CLIENT), &datagram(&harmless))
            .len(),
        1
    );
}

#[test]
fn packets_of_other_modes_and_keys_are_dropped() {
    let mut startup = Startup::new(fragment::Limits::default());
    let mut open = |packet: &[u8]| {
        let mut datagram = sealed(packet);
        startup.open(SECOND, at(CLIENT), &mut datagram).map(|_| ())
    };
    assert_eq!(open(&[0x03]), Ok(()));
    assert_eq!(open(&[0x01, 0x30, 0, 0]), Err(StartupError::Mode));
    assert_eq!(open(&[0x02]), Err(StartupError::Mode));
    assert!(matches!(open(&[0x00]), Err(StartupError::Malformed(_))));
    let error = startup.open(SECOND, at(CLIENT), &mut [0; 36]).unwrap_err();
    assert!(matches!(error, StartupError::Open(_)));
    let mut server = Server::plain(1);
    server
        .responder
        .handle_packet(SECOND, at(CLIENT), &[0x01, 0x30, 0, 1, 0]);
    server.responder.handle_packet(SECOND, at(CLIENT), &[]);
    assert_eq!(server.responder.counters().malformed, 2);
}
