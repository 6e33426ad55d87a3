//! Endpoints, and a network between them: fake time, seeds, addresses that change.

mod network;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::network::{CLIENT, Net, SERVER, client, new_identity, server, uri};
use super::{Endpoint, EndpointConfig, EndpointEvent};
use crate::crypto::discriminator;
use crate::crypto::negotiation::Protection;
use crate::crypto::packet;
use crate::flow::{self, Body, Opening, Outgoing, Priority};
use crate::handshake::{InitiatorConfig, Protections};
use crate::random::Seeded;
use crate::session::{CloseReason, SessionConfig, SessionEvent};
use crate::wire::Address;
use crate::wire::startup::ForwardedHello;

const SECOND: Duration = Duration::from_secs(1);

/// Opens a session from the client to the server; gives its ids at both.
fn opened(net: &mut Net) -> (u32, u32) {
    let here = net.connect(net.identity());
    net.run_for(SECOND);
    let there = net.opened_at(SERVER).last().copied().expect("a session");
    assert_eq!(net.opened_at(CLIENT), [here]);
    (here, there)
}

/// Opens a flow and sends messages in it.
fn send(net: &mut Net, end: usize, session: u32, messages: &[&str]) {
    let now = net.now;
    let sent = net.ends[end]
        .endpoint
        .with_session(now, session, |session| {
            let flow = session.flows().open(&Opening {
                metadata: b"test",
                association: None,
                priority: Priority::DATA,
                time_critical: false,
            });
            let flow = flow.unwrap();
            for message in messages {
                let body = Body::from(Bytes::copy_from_slice(message.as_bytes()));
                session
                    .flows()
                    .send(now, flow, Outgoing::from(body))
                    .unwrap();
            }
        });
    sent.expect("the session");
}

#[test]
fn a_session_carries_messages_both_ways_and_ends_in_order() {
    let mut net = Net::new(1, client(), server());
    let (here, there) = opened(&mut net);
    send(&mut net, CLIENT, here, &["one", "two"]);
    send(&mut net, SERVER, there, &["three"]);
    net.run_for(SECOND);
    assert_eq!(net.messages_at(SERVER), ["one", "two"]);
    assert_eq!(net.messages_at(CLIENT), ["three"]);
    let peer = net.identity().certificate().fingerprint();
    assert_eq!(net.ends[SERVER].endpoint.peer(&peer), Some(there));
    let now = net.now;
    net.ends[CLIENT]
        .endpoint
        .with_session(now, here, |session| session.close(now));
    net.run_for(SECOND);
    assert_eq!(net.closed_at(CLIENT), [(here, CloseReason::Near)]);
    assert_eq!(net.closed_at(SERVER), [(there, CloseReason::Far)]);
    assert!(net.ends[CLIENT].endpoint.is_empty());
    // It answers whoever has not heard it.
    assert_eq!(net.ends[SERVER].endpoint.len(), 1);
    net.run_for(SECOND * 20);
    assert!(net.ends[SERVER].endpoint.is_empty());
    assert_eq!(net.ends[SERVER].endpoint.peer(&peer), None);
    let ends = net.ends.iter();
    let counted: Vec<_> = ends.map(|end| end.endpoint.flow_counters()).collect();
    assert!(
        counted.iter().all(|counted| counted.sent >= 1),
        "{counted:?}"
    );
    assert_eq!(counted[SERVER].received, counted[CLIENT].sent);
}

#[test]
fn what_came_just_before_the_end_is_not_lost() {
    let mut net = Net::new(9, client(), server());
    let (here, there) = opened(&mut net);
    send(&mut net, CLIENT, here, &["last"]);
    net.run_for(Duration::ZERO);
    let now = net.now;
    net.ends[CLIENT]
        .endpoint
        .with_session(now, here, |session| session.close(now));
    net.run_for(SECOND);
    assert_eq!(net.closed_at(SERVER), [(there, CloseReason::Far)]);
    assert_eq!(net.messages_at(SERVER), ["last"]);
    let nothing = net.ends[SERVER]
        .endpoint
        .with_session(now, there, |session| {
            session.forget_flows();
            session.flows().receiving()
        });
    assert_eq!(nothing, Some(0));
}

#[test]
fn who_closes_and_hears_nothing_waits_no_longer_than_for_a_silent_peer() {
    let mut net = Net::new(10, client(), server());
    let (here, there) = opened(&mut net);
    send(&mut net, CLIENT, here, &["there"]);
    net.run_for(SECOND);
    net.cut(true);
    let now = net.now;
    net.ends[SERVER]
        .endpoint
        .with_session(now, there, |session| session.close(now));
    net.run_for(SECOND * 44);
    assert_eq!(net.ends[SERVER].endpoint.len(), 1);
    net.run_for(SECOND * 2);
    assert!(net.ends[SERVER].endpoint.is_empty());
}

#[test]
fn each_second_packet_with_data_is_to_be_acknowledged_before_the_next() {
    let mut net = Net::new(11, client(), server());
    let (here, _) = opened(&mut net);
    let long = "a message of several packets ".repeat(200);
    send(&mut net, CLIENT, here, &[&long]);
    let (from, now) = (net.ends[CLIENT].address, net.now);
    let (mut datagram, mut owes) = (Vec::new(), Vec::new());
    while let Some(_to) = net.ends[CLIENT].endpoint.poll_transmit(now, &mut datagram) {
        let server = &mut net.ends[SERVER].endpoint;
        let due = server.handle_datagram(now, from, &mut datagram);
        owes.push(due);
        datagram.clear();
        if due {
            let answer = server.poll_transmit(now, &mut datagram);
            assert!(answer.is_some());
            datagram.clear();
        }
    }
    // The first of a flow is acknowledged at once, whatever follows.
    assert!(owes.len() >= 4, "{owes:?}");
    assert!(owes.windows(2).all(|pair| pair[0] || pair[1]), "{owes:?}");
    assert!(owes.contains(&false), "{owes:?}");
}

#[test]
fn a_peer_that_vanishes_is_asked_and_then_gone() {
    let mut net = Net::new(2, client(), server());
    let (_, there) = opened(&mut net);
    // Silent, but there: kept.
    net.run_for(SECOND * 200);
    assert_eq!(net.closed_at(SERVER), []);
    net.cut(true);
    let since = net.now;
    // It may have been heard last when it was asked last.
    net.run_for(SECOND * 29);
    assert_eq!(net.closed_at(SERVER), []);
    net.run_for(SECOND * 17);
    assert_eq!(net.closed_at(SERVER), [(there, CloseReason::Silent)]);
    assert!(net.ends[SERVER].endpoint.is_empty());
    assert!(net.now - since < SECOND * 47);
}

#[test]
fn an_outage_is_survived_and_what_waited_comes() {
    let mut net = Net::new(3, client(), server());
    let (here, _) = opened(&mut net);
    net.cut(true);
    send(&mut net, CLIENT, here, &["late"]);
    net.run_for(SECOND * 5);
    assert_eq!(net.messages_at(SERVER), [""; 0]);
    net.cut(false);
    net.run_for(SECOND * 11);
    assert_eq!(net.messages_at(SERVER), ["late"]);
}

#[test]
fn a_client_that_moves_is_followed_and_a_forger_is_not() {
    let mut net = Net::new(4, client(), server());
    let (here, there) = opened(&mut net);
    send(&mut net, CLIENT, here, &["one"]);
    net.run_for(SECOND);
    // Somebody repeats the client's packets from elsewhere.
    let elsewhere = "192.0.2.66:666".parse().unwrap();
    for mut datagram in net.overheard() {
        let now = net.now;
        net.ends[SERVER]
            .endpoint
            .handle_datagram(now, elsewhere, &mut datagram);
    }
    net.run_for(SECOND * 2);
    let address = net.ends[SERVER].endpoint.session(there).unwrap().address();
    assert_eq!(address, net.ends[CLIENT].address);
    // The client's port changes: what it sends tells the server, and what the server sends comes.
    net.move_client("192.0.2.1:4444".parse().unwrap());
    send(&mut net, CLIENT, here, &["two"]);
    net.run_for(SECOND * 3);
    let address = net.ends[SERVER].endpoint.session(there).unwrap().address();
    assert_eq!(address, net.ends[CLIENT].address);
    send(&mut net, SERVER, there, &["three"]);
    net.run_for(SECOND * 3);
    assert_eq!(net.messages_at(SERVER), ["one", "two"]);
    assert_eq!(net.messages_at(CLIENT), ["three"]);
    let moves = net.events_at(SERVER, |event| matches!(event, SessionEvent::Moved { .. }));
    assert_eq!(moves, 1);
}

#[test]
fn the_same_certificate_ends_the_session_before_once_it_has_shown_its_keys() {
    let mut net = Net::new(5, client(), server());
    let (here, there) = opened(&mut net);
    send(&mut net, CLIENT, here, &["one"]);
    net.run_for(SECOND);
    // The client has forgotten everything but who it is.
    let identity = net.identity();
    net.ends[CLIENT].endpoint = Endpoint::new(client(), network::cookies(9), Seeded::new(99));
    let again = net.connect(identity);
    net.run_for(SECOND * 2);
    // Keys alone do not end it: its far end must have shown them.
    let second = *net.opened_at(SERVER).last().unwrap();
    assert_ne!(second, there);
    send(&mut net, CLIENT, again, &["here"]);
    net.run_for(SECOND);
    assert_eq!(net.closed_at(SERVER), [(there, CloseReason::Near)]);
    assert_ne!(here, again);
    assert_eq!(net.messages_at(SERVER), ["one", "here"]);
}

#[test]
fn sessions_that_never_show_their_keys_go_and_there_is_a_most() {
    let mut config = server();
    config.sessions = 3;
    let mut net = Net::new(6, client(), config);
    let address = net.ends[SERVER].address;
    let uri = uri();
    for _ in 0..5 {
        let config = InitiatorConfig::new(new_identity(net.next_seed()), uri.clone());
        let now = net.now;
        net.ends[CLIENT]
            .endpoint
            .connect(now, config, &[address])
            .unwrap();
    }
    net.run_for(SECOND / 2);
    assert_eq!(net.ends[SERVER].endpoint.len(), 3);
    assert!(net.ends[SERVER].endpoint.dropped().sessions > 0);
    net.cut(true);
    net.run_for(SECOND * 31);
    assert_eq!(net.ends[SERVER].endpoint.len(), 0);
}

#[test]
fn who_tries_checksums_does_not_show_that_it_has_the_keys() {
    use rand_core::Rng as _;

    let mut config = server();
    config.responder.protections = Protections::both(Protection::Never);
    let mut net = Net::new(12, client(), config);
    let mut random = Seeded::new(12);
    let mut guess = |net: &mut Net, session: u32| {
        let mut datagram = vec![0; 20];
        random.fill_bytes(&mut datagram[4..]);
        let other = packet::session_id(&datagram).unwrap();
        datagram[..4].copy_from_slice(&(other ^ session).to_be_bytes());
        let (now, from) = (net.now, net.ends[CLIENT].address);
        net.ends[SERVER]
            .endpoint
            .handle_datagram(now, from, &mut datagram);
    };
    let (here, there) = opened(&mut net);
    send(&mut net, CLIENT, here, &["here"]);
    net.run_for(SECOND);
    for _ in 0..1_000 {
        guess(&mut net, there);
    }
    net.run_for(SECOND);
    assert_eq!(net.closed_at(SERVER), [], "it has shown its keys before");
    let config = InitiatorConfig::new(new_identity(77), uri());
    let (now, address) = (net.now, net.ends[SERVER].address);
    let client = &mut net.ends[CLIENT].endpoint;
    client.connect(now, config, &[address]).expect("room");
    net.run_for(SECOND);
    let there = *net.opened_at(SERVER).last().unwrap();
    for _ in 0..100 {
        guess(&mut net, there);
    }
    net.run_for(Duration::ZERO);
    assert_eq!(net.closed_at(SERVER), [(there, CloseReason::Near)]);
    assert!(net.ends[SERVER].endpoint.session(there).is_none());
}

#[test]
fn answers_to_one_datagram_go_out_together() {
    let mut net = Net::new(13, client(), server());
    let (_, there) = opened(&mut net);
    let now = net.now;
    let endpoint = &mut net.ends[SERVER].endpoint;
    endpoint.with_session(now, there, |session| {
        for tag in [b"one", b"two", b"ten"] {
            session.forward_hello(&ForwardedHello {
                discriminator: b"somebody",
                reply_to: Address::observed("192.0.2.9:1".parse().unwrap()),
                tag,
            });
        }
    });
    let mut out = Vec::new();
    let to = endpoint.poll_transmit(now, &mut out);
    assert!(to.is_some());
    assert_eq!(endpoint.poll_transmit(now, &mut out), None);
}

#[test]
fn who_does_not_accept_any_more_opens_no_session_for_a_cookie_from_before() {
    let mut net = Net::new(14, client(), server());
    net.connect(net.identity());
    // The hello and its answer.
    net.run_for(Duration::from_millis(45));
    net.ends[SERVER].endpoint.set_accepting(false);
    net.run_for(SECOND * 5);
    assert_eq!(net.opened_at(SERVER), []);
}

#[test]
fn what_came_just_before_an_abrupt_end_is_not_lost() {
    let mut net = Net::new(15, client(), server());
    let (here, there) = opened(&mut net);
    net.cut(true);
    let before = net.overheard().len();
    send(&mut net, CLIENT, here, &["last"]);
    net.run_for(Duration::ZERO);
    let now = net.now;
    net.ends[CLIENT]
        .endpoint
        .with_session(now, here, |session| session.abort());
    net.run_for(Duration::ZERO);
    let from = net.ends[CLIENT].address;
    let endpoint = &mut net.ends[SERVER].endpoint;
    for mut datagram in net.overheard.split_off(before) {
        endpoint.handle_datagram(now, from, &mut datagram);
    }
    // An acknowledgement for somebody else goes out before the events are looked at.
    let mut out = Vec::new();
    while endpoint.poll_transmit(now, &mut out).is_some() {}
    net.run_for(SECOND);
    assert_eq!(net.closed_at(SERVER), [(there, CloseReason::Far)]);
    assert_eq!(net.messages_at(SERVER), ["last"]);
    assert!(net.ends[SERVER].endpoint.is_empty());
}

#[test]
fn two_clients_are_introduced_and_talk_without_the_server() {
    let mut net = Net::new(7, client(), server());
    let (_, there) = opened(&mut net);
    let wanted = net.identity().certificate().fingerprint();
    let third = net.add(client());
    let now = net.now;
    let config = InitiatorConfig::new(new_identity(77), discriminator::for_fingerprint(&wanted));
    let server = net.ends[SERVER].address;
    let direct = net.ends[third]
        .endpoint
        .connect(now, config, &[server])
        .unwrap();
    net.run_for(SECOND / 10);
    let lookup = net.lookup_at(SERVER).expect("a lookup");
    let address = net.ends[SERVER].endpoint.session(there).unwrap().address();
    let now = net.now;
    net.ends[SERVER]
        .endpoint
        .introduce(now, &lookup, there, &[Address::observed(address)]);
    net.run_for(SECOND);
    send(&mut net, third, direct, &["hello"]);
    net.run_for(SECOND);
    assert_eq!(net.messages_at(CLIENT), ["hello"]);
    assert_eq!(net.ends[SERVER].endpoint.len(), 1);
}

#[test]
fn whatever_comes_does_no_harm() {
    let mut net = Net::new(8, client(), server());
    let (here, there) = opened(&mut net);
    for _ in 0..10 {
        send(&mut net, CLIENT, here, &["some"]);
        net.run_for(SECOND);
    }
    let mut overheard = net.overheard();
    let overheard = overheard.split_off(4);
    let mut random = Seeded::new(8);
    use rand_core::Rng as _;
    for round in 0..3_000_usize {
        let mut datagram = vec![0; round % 200];
        random.fill_bytes(&mut datagram);
        if round % 3 == 0
            && let Some(overheard) = overheard.get(round % 7)
        {
            datagram = overheard.clone();
            let at = random.next_u32() as usize % datagram.len().max(1);
            if let Some(byte) = datagram.get_mut(at) {
                *byte ^= 1 << (round % 8);
            }
        }
        let (now, from) = (net.now, net.ends[CLIENT].address);
        net.ends[SERVER]
            .endpoint
            .handle_datagram(now, from, &mut datagram);
    }
    send(&mut net, CLIENT, here, &["still here"]);
    net.run_for(SECOND);
    assert_eq!(net.messages_at(SERVER).last().unwrap(), "still here");
    assert!(net.ends[SERVER].endpoint.session(there).is_some());
    let dropped = net.ends[SERVER].endpoint.dropped();
    assert!(
        dropped.unknown > 1_000 && dropped.session > 100,
        "{dropped:?}"
    );
}

#[test]
fn packets_from_elsewhere_move_a_session_of_a_peer_that_does_not_echo_pings() {
    for trust in [0, 4] {
        let mut config = server();
        config.responder.protections = Protections::both(Protection::Require);
        config.session = Arc::new(SessionConfig {
            trust_packets: trust,
            flows: flow::Config::default(),
            ..SessionConfig::default()
        });
        let mut net = Net::new(9, client(), config);
        let (here, there) = opened(&mut net);
        net.drop_ping_replies = true;
        net.move_client("192.0.2.1:4444".parse().unwrap());
        for _ in 0..5 {
            send(&mut net, CLIENT, here, &["again"]);
            net.run_for(SECOND);
        }
        let address = net.ends[SERVER].endpoint.session(there).unwrap().address();
        assert_eq!(address == net.ends[CLIENT].address, trust > 0, "{trust}");
    }
}

#[test]
fn ids_leave_the_rest_that_they_should() {
    let mut config = client();
    config.ids = (3, 4);
    let mut endpoint = Endpoint::new(config, network::cookies(1), Seeded::new(1));
    for _ in 0..64 {
        let config = InitiatorConfig::new(new_identity(5), uri());
        let id = endpoint.connect(Duration::ZERO, config, &[]).unwrap();
        assert_eq!(id % 4, 3);
    }
}

#[test]
fn an_endpoint_is_a_peer_beside_itself() {
    let mut net = Net::new(70, client(), server());
    let alias = new_identity(71);
    let name = alias.certificate().fingerprint();
    let few = Arc::new(SessionConfig {
        datagram: 600,
        ..SessionConfig::default()
    });
    let number = net.ends[SERVER].endpoint.add_alias(alias, few).unwrap();
    let server = net.connect(net.identity());
    net.run_for(SECOND);
    let config = InitiatorConfig::new(net.identity(), discriminator::for_fingerprint(&name));
    let (now, to) = (net.now, net.ends[SERVER].address);
    let client = &mut net.ends[CLIENT].endpoint;
    let peer = client.connect(now, config, &[to]).unwrap();
    net.run_for(SECOND);
    send(&mut net, CLIENT, server, &["to the server"]);
    send(&mut net, CLIENT, peer, &["to the peer"]);
    net.run_for(SECOND);
    assert_eq!(net.messages_at(SERVER), ["to the server", "to the peer"]);
    // Both sessions are of the same two addresses, and of the same client.
    let of = |id: u32| net.ends[CLIENT].endpoint.session(id).unwrap();
    assert!(of(server).is_open() && of(peer).is_open());
    assert_eq!(of(peer).fingerprint(), name);
    assert_ne!(of(server).fingerprint(), name);
    let opened = net.opened_at(SERVER);
    let near = |id: &u32| net.ends[SERVER].endpoint.session(*id).unwrap().near();
    assert_eq!(opened.len(), 2);
    assert_eq!(near(&opened[1]), name);
    assert_ne!(near(&opened[0]), name);
    let client = net.identity().certificate().fingerprint();
    let found = net.ends[SERVER].endpoint.peer(&client);
    assert_eq!(found, Some(opened[0]), "the one in which it is itself");
    assert!(!opened.contains(&number));
}

#[test]
fn a_keying_for_an_alias_finds_the_endpoint_that_has_it() {
    let share = |number| EndpointConfig {
        ids: (number, 2),
        ..server()
    };
    let cookies = network::cookies(80);
    let endpoint = |number: u32| {
        let seed = Seeded::new(u64::from(number) + 81);
        Endpoint::new(share(number), cookies.clone(), seed)
    };
    let [mut here, mut there] = [endpoint(0), endpoint(1)];
    let alias = new_identity(83);
    let name = alias.certificate().fingerprint();
    let session = Arc::new(SessionConfig::default());
    let number = there.add_alias(alias, session).unwrap();
    assert_eq!(number % 2, 1);
    let from = SocketAddr::from(([192, 0, 2, 9], 1_000));
    let to = SocketAddr::from(([192, 0, 2, 1], 1_935));
    let config = InitiatorConfig::new(new_identity(84), discriminator::for_fingerprint(&name));
    let mut initiator = Endpoint::new(client(), network::cookies(85), Seeded::new(86));
    let now = Duration::from_secs(5);
    initiator.connect(now, config, &[to]);
    let take = |endpoint: &mut Endpoint<Seeded>| {
        let mut out = Vec::new();
        let sent = endpoint.poll_transmit(now, &mut out);
        sent.map(|_| out)
    };
    // The hello comes to the one that has it, the keying to the other.
    let mut hello = take(&mut initiator).unwrap();
    there.handle_datagram(now, from, &mut hello);
    let mut answer = take(&mut there).unwrap();
    initiator.handle_datagram(now, to, &mut answer);
    let mut keying = take(&mut initiator).unwrap();
    here.handle_datagram(now, from, &mut keying);
    assert!(here.poll_event().is_none());
    let astray = here.poll_astray().unwrap();
    assert_eq!((astray.whom, astray.from), (number, from));
    assert!(here.poll_astray().is_none());
    here.handle_astray(now, &astray);
    assert!(here.poll_event().is_none() && here.poll_astray().is_none());
    there.handle_astray(now, &astray);
    let event = there.poll_event();
    assert!(
        matches!(&event, Some(EndpointEvent::Keying { task, .. }) if task.near() == name),
        "{event:?}"
    );
    there.remove_alias(number);
    there.handle_astray(now, &astray);
    assert!(there.poll_event().is_none());
}

#[test]
fn an_answer_finds_the_endpoint_that_has_asked() {
    let endpoint = |number: u32| {
        let config = EndpointConfig {
            ids: (number, 2),
            ..server()
        };
        let seed = Seeded::new(u64::from(number) + 91);
        Endpoint::new(config, network::cookies(90), seed)
    };
    let [mut here, mut there] = [endpoint(0), endpoint(1)];
    let mut net = Net::new(93, client(), server());
    let whom = net.identity().certificate().fingerprint();
    let asked = discriminator::for_fingerprint(&whom);
    let config = InitiatorConfig::new(new_identity(94), asked);
    let (to, from) = (
        net.ends[CLIENT].address,
        SocketAddr::from(([192, 0, 2, 9], 1_000)),
    );
    let now = SECOND;
    let session = there.connect(now, config, &[to]).unwrap();
    let take = |endpoint: &mut Endpoint<Seeded>| {
        let mut out = Vec::new();
        let sent = endpoint.poll_transmit(now, &mut out);
        sent.map(|_| out)
    };
    let mut hello = take(&mut there).unwrap();
    let far = &mut net.ends[CLIENT].endpoint;
    far.handle_datagram(now, from, &mut hello);
    let mut answer = take(far).unwrap();
    here.handle_datagram(now, to, &mut answer);
    let astray = here.poll_astray().unwrap();
    assert_eq!(astray.whom, session);
    assert!(take(&mut there).is_none());
    there.handle_astray(now, &astray);
    assert!(take(&mut there).is_some(), "the keying");
    // It is not asked any more.
    there.give_up(session);
    there.handle_astray(now, &astray);
    assert!(take(&mut there).is_none());
}
