//! Peers that find each other through a server, and servers that send clients elsewhere.

use super::*;
use crate::wire::chunk::{Payload, append};
use crate::wire::startup::{InitiatorHello, Redirect, RedirectTo};
use crate::wire::{Address, Origin};

const PEER: &str = "10.2.0.1:6000";

#[test]
fn a_peer_is_reached_through_a_server_that_knows_it() {
    let mut server = Server::plain(1);
    // A peer that answers as well: both roles with one identity.
    let identity = client_identity(&mut Seeded::new(2));
    let fingerprint = identity.certificate().fingerprint();
    let mut peer = Server::new(ResponderConfig::new(identity), 3);
    let wanted = discriminator::for_fingerprint(&fingerprint);
    let own = client_identity(&mut Seeded::new(4));
    let config = InitiatorConfig::new(own, wanted.clone());
    let mut client = Client::new(Duration::ZERO, config, &[at(SERVER)], 5);

    let hello = client.take().remove(0);
    assert!(
        server
            .receive(SECOND, at(CLIENT), &hello.datagram)
            .is_empty()
    );
    let lookup = server.lookups.remove(0);
    assert_eq!((lookup.from, &lookup.discriminator), (at(CLIENT), &wanted));
    assert_eq!(lookup.tag, client.initiator.tag());

    // To the peer within its session, and to whoever asks.
    let mut forwarded = Vec::new();
    lookup.forwarded().put(&mut forwarded);
    let addresses = [
        Address::observed(at(PEER)),
        Address {
            socket: at("192.168.1.5:6000"),
            origin: Origin::Reported,
        },
    ];
    assert!(server.responder.redirect(SECOND, &lookup, &addresses));
    let redirect = server.take(SECOND).remove(0);
    assert_eq!(redirect.to, at(CLIENT));
    let (kind, payload) = &chunks(&redirect.datagram)[0];
    assert_eq!(*kind, ChunkKind::REDIRECT);
    let read = Redirect::read(payload).unwrap();
    assert_eq!(read.addresses().collect::<Vec<_>>(), addresses);

    // Either of the two is enough: the peer answers by itself, and is asked at its addresses.
    let asked = client.receive(SECOND, at(SERVER), &redirect.datagram);
    let asked: Vec<_> = asked.iter().map(|hello| hello.to).collect();
    // The server itself once more, as a second has passed.
    assert_eq!(asked, [at(SERVER), at(PEER), at("192.168.1.5:6000")]);
    peer.responder.handle_forwarded(SECOND, &forwarded);
    let rhello = peer.take(SECOND).remove(0);
    assert_eq!(rhello.to, at(CLIENT));
    let keying = client.receive(SECOND, at(PEER), &rhello.datagram).remove(0);
    assert_eq!(keying.to, at(PEER));
    let answer = peer.receive(SECOND, at(CLIENT), &keying.datagram).remove(0);
    client.receive(SECOND, at(PEER), &answer.datagram);
    let mut near = client.opened.take().unwrap();
    assert_eq!(near.fingerprint(), fingerprint);
    talk(&mut near, &mut peer.sessions[0]);
    assert_eq!(server.sessions.len(), 0);
}

#[test]
fn a_server_that_ends_sends_clients_elsewhere() {
    let mut server = Server::plain(1);
    server.responder.set_accepting(false);
    let mut client = Client::plain(2);
    let hello = client.take().remove(0);
    assert!(
        server
            .receive(SECOND, at(CLIENT), &hello.datagram)
            .is_empty()
    );
    let lookup = server.lookups.remove(0);
    assert_eq!(lookup.discriminator, discriminator::for_uri(URI));
    let other = [Address::observed(at(PEER))];
    server.responder.redirect(SECOND, &lookup, &other);
    let redirect = server.take(SECOND).remove(0);
    let asked = client.receive(Duration::ZERO, at(SERVER), &redirect.datagram);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].to, at(PEER));
    let mut second = Server::plain(3);
    let rhello = second
        .receive(SECOND, at(CLIENT), &asked[0].datagram)
        .remove(0);
    client.receive(SECOND, at(PEER), &rhello.datagram);
    assert_eq!(client.answered, [at(PEER)]);
    // Redirects that come later change nothing.
    assert!(
        client
            .receive(SECOND, at(SERVER), &redirect.datagram)
            .is_empty()
    );
}

/// A datagram with one chunk.
fn datagram(payload: &impl Payload) -> Vec<u8> {
    let mut packet = vec![0x03];
    append(payload, &mut packet).unwrap();
    let mut out = Vec::new();
    crate::crypto::Sealer::startup().seal(0, &packet, &mut out);
    out
}

#[test]
fn redirects_add_addresses_up_to_a_bound() {
    let mut client = Client::plain(1);
    client.take();
    let tag = client.initiator.tag().to_vec();
    // One without addresses means where it comes from; one with another tag means nothing.
    let empty = datagram(&RedirectTo {
        tag: &tag,
        addresses: &[],
    });
    let asked = client.receive(Duration::ZERO, at(PEER), &empty);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].to, at(PEER));
    let foreign = datagram(&RedirectTo {
        tag: b"another",
        addresses: &[],
    });
    assert!(
        client
            .receive(Duration::ZERO, at("10.7.7.7:7"), &foreign)
            .is_empty()
    );
    // MonaServer2's way to say that it does not know a peer.
    let nowhere = datagram(&RedirectTo {
        tag: &tag,
        addresses: &[Address::observed(at("0.0.0.0:0"))],
    });
    assert!(
        client
            .receive(Duration::ZERO, at(SERVER), &nowhere)
            .is_empty()
    );
    let many: Vec<_> = (0..200)
        .map(|host| Address::observed(at(&format!("10.3.0.{host}:1935"))))
        .collect();
    let many = datagram(&RedirectTo {
        tag: &tag,
        addresses: &many,
    });
    let asked = client.receive(Duration::ZERO, at(SERVER), &many);
    assert_eq!(asked.len(), 22, "24 with the two that are there");
}

#[test]
fn hellos_that_are_passed_on_are_answered_by_whom_they_ask_for() {
    let identity = client_identity(&mut Seeded::new(2));
    let fingerprint = identity.certificate().fingerprint();
    let mut peer = Server::new(ResponderConfig::new(identity), 3);
    let mut forward = |asked: &[u8], to: &str, tag: &[u8]| {
        let hello = crate::wire::startup::ForwardedHello {
            discriminator: asked,
            reply_to: Address::observed(at(to)),
            tag,
        };
        let mut payload = Vec::new();
        hello.put(&mut payload);
        peer.responder.handle_forwarded(SECOND, &payload);
        peer.take(SECOND).len()
    };
    let own = discriminator::for_fingerprint(&fingerprint);
    assert_eq!(forward(&own, CLIENT, b"tag"), 1);
    let other = discriminator::for_uri(URI);
    assert_eq!(forward(&other, CLIENT, b"tag"), 0, "it is no server");
    for nowhere in [
        "0.0.0.0:5",
        "10.0.0.1:0",
        "224.0.0.1:5",
        "255.255.255.255:5",
        "[ff02::1]:5",
    ] {
        assert_eq!(forward(&own, nowhere, b"tag"), 0, "{nowhere}");
    }
    assert_eq!(forward(&own, CLIENT, &[0; 65]), 0);
    assert_eq!(peer.responder.counters().malformed, 7);
}

#[test]
fn lookups_of_a_network_are_limited() {
    let identity = server_identity(&mut Seeded::new(1));
    let mut config = ResponderConfig::new(identity);
    config.limits.lookups = Rate {
        per_second: 10,
        burst: 20,
    };
    let mut server = Server::new(config, 2);
    let asked = discriminator::for_fingerprint(&crate::crypto::Fingerprint([7; 32]));
    let hello = datagram(&InitiatorHello {
        discriminator: &asked,
        tag: &[1; 16],
    });
    for _ in 0..100 {
        server.receive(SECOND, at(CLIENT), &hello);
    }
    assert_eq!(server.lookups.len(), 20);
    let counters = server.responder.counters();
    assert_eq!((counters.lookups, counters.lookups_limited), (20, 80));
    server.receive(SECOND, at("10.9.0.1:1"), &hello);
    assert_eq!(server.lookups.len(), 21, "others are not affected");
}
