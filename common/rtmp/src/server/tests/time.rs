use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::client::{ClientConfig, ClientEvent};
use crate::control::{BandwidthLimit, Control, UserControl};
use crate::message::{Message, MessageType};
use crate::server::{ServerConfig, ServerEvent, ServerSession};
use crate::session::SessionError;
use crate::session::pair::{Pair, SERVER_RANDOM, messages, parameters, seconds};

#[test]
fn half_a_handshake_times_out() {
    let start = seconds(50);
    let mut server = ServerSession::new(ServerConfig::default(), SERVER_RANDOM, start);
    let mut input = BytesMut::from(&[3; 100][..]);
    server.handle_input(seconds(51), &mut input).unwrap();
    assert_eq!(server.poll_timeout(), Some(seconds(60)));
    server.handle_timeout(seconds(59)).unwrap();
    assert_eq!(
        server.handle_timeout(seconds(60)),
        Err(SessionError::HandshakeTimeout(seconds(10)))
    );
    assert_eq!(server.poll_timeout(), None);
    assert!(server.should_close());
}

#[test]
fn a_client_that_does_not_connect_times_out() {
    let mut pair = Pair::new();
    pair.now += seconds(4);
    pair.drive();
    assert_eq!(pair.server.poll_timeout(), Some(pair.now + seconds(10)));
    assert_eq!(
        pair.server.handle_timeout(pair.now + seconds(10)),
        Err(SessionError::ConnectTimeout(seconds(10)))
    );
}

#[test]
fn a_pending_client_waits_as_long_as_it_lives() {
    let mut pair = Pair::new();
    pair.client.connect(&parameters()).unwrap();
    pair.drive();
    for _ in 0..20 {
        pair.now = pair.server.poll_timeout().unwrap();
        pair.server.handle_timeout(pair.now).unwrap();
        pair.drive();
    }
    assert!(pair.now > seconds(1250));
}

#[test]
fn a_silent_client_is_pinged_and_given_up() {
    let mut pair = Pair::connected();
    pair.now = pair.server.poll_timeout().unwrap();
    assert_eq!(pair.now, seconds(1015));
    pair.server.handle_timeout(pair.now).unwrap();
    // It is not there any more.
    while pair.server.poll_transmit().is_some() {}
    let deadline = pair.server.poll_timeout().unwrap();
    assert_eq!(deadline, seconds(1030));
    pair.server.handle_timeout(deadline - seconds(1)).unwrap();
    assert_eq!(
        pair.server.handle_timeout(deadline),
        Err(SessionError::PingTimeout(seconds(30)))
    );
}

#[test]
fn a_living_client_is_measured() {
    let mut pair = Pair::connected();
    pair.now += seconds(20);
    pair.server.handle_timeout(pair.now).unwrap();
    let sent = pair.now;
    let ping = pair.server.poll_transmit().unwrap();
    assert!(ping.ends_with(&(1_020_000_u32).to_be_bytes()));
    let mut input = BytesMut::from(&ping[..]);
    pair.client.handle_input(pair.now, &mut input).unwrap();
    pair.now += Duration::from_millis(80);
    pair.drive();
    assert_eq!(
        pair.take_server_events(),
        [ServerEvent::PingLatency {
            round_trip: Duration::from_millis(80)
        }]
    );
    assert_eq!(pair.server.last_heard(), pair.now);
    assert_eq!(pair.server.poll_timeout(), Some(pair.now + seconds(15)));
    assert!(pair.now > sent);
}

#[test]
fn pings_may_be_off_and_asked_for() {
    let config = ServerConfig {
        ping_interval: None,
        ..ServerConfig::default()
    };
    let mut pair = Pair::connected_with(config, &parameters());
    assert_eq!(pair.server.poll_timeout(), None);
    pair.server.ping(pair.now).unwrap();
    assert_eq!(pair.server.poll_timeout(), Some(pair.now + seconds(15)));
    pair.drive();
    assert!(matches!(
        pair.take_server_events()[..],
        [ServerEvent::PingLatency { .. }]
    ));
    assert_eq!(pair.server.poll_timeout(), None);
}

#[test]
fn the_clients_pings_are_answered_with_the_same_value() {
    let mut pair = Pair::connected();
    pair.client.ping(pair.now).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_client_events(),
        [ClientEvent::PingLatency {
            round_trip: Duration::ZERO
        }]
    );
    let answers: Vec<Message> = messages(&pair.server_sent)
        .into_iter()
        .filter(|message| message.payload.starts_with(&[0, 7]))
        .collect();
    let expected = Control::UserControl(UserControl::PingResponse {
        timestamp: 1_000_000,
    });
    assert_eq!(answers, [expected.to_message()]);
}

fn acknowledgements(sent: &[u8]) -> Vec<u32> {
    messages(sent)
        .iter()
        .filter_map(|message| match Control::parse(message) {
            Some(Ok(Control::Acknowledgement(received))) => Some(received),
            _ => None,
        })
        .collect()
}

#[test]
fn input_is_acknowledged_by_the_peers_window() {
    let mut pair = Pair::connected();
    let message = Message {
        kind: MessageType::AUDIO,
        timestamp: 0,
        stream_id: 1,
        payload: Bytes::from(vec![0; 1_000_000]),
    };
    for _ in 0..3 {
        pair.client.send_message(&message).unwrap();
        pair.drive();
    }
    // Before the client names a window, ours: 2,500,000.
    let received = u32::try_from(pair.server.bytes_received()).unwrap();
    assert_eq!(acknowledgements(&pair.server_sent), [received]);
    assert_eq!(pair.client.acknowledged(), Some(received));

    let window = |size| Control::WindowAckSize(size).to_message();
    pair.client.send_message(&window(500_000)).unwrap();
    for _ in 0..3 {
        pair.client.send_message(&message).unwrap();
        pair.drive();
    }
    assert_eq!(acknowledgements(&pair.server_sent).len(), 4);
    // A window of nothing is no window, and one of a byte is one acknowledgement for each piece of input.
    pair.client.send_message(&window(0)).unwrap();
    pair.client.send_message(&window(1)).unwrap();
    pair.drive();
    assert_eq!(acknowledgements(&pair.server_sent).len(), 5);
}

#[test]
fn a_new_bandwidth_is_answered_with_a_window() {
    let mut pair = Pair::connected();
    let windows = |sent: &[u8]| {
        messages(sent)
            .iter()
            .filter_map(|message| match Control::parse(message) {
                Some(Ok(Control::WindowAckSize(size))) => Some(size),
                _ => None,
            })
            .collect::<Vec<u32>>()
    };
    // The client answered the server's.
    assert_eq!(windows(&pair.client_sent), [2_500_000]);
    for size in [2_500_000, 300_000, 300_000, 0] {
        let message = Control::SetPeerBandwidth {
            size,
            limit: BandwidthLimit::Hard,
        };
        pair.client.send_message(&message.to_message()).unwrap();
    }
    pair.drive();
    assert_eq!(windows(&pair.server_sent), [2_500_000, 300_000]);
}

#[test]
fn a_silent_server_times_out() {
    let mut pair = Pair::with(ServerConfig::default(), ClientConfig::default());
    assert_eq!(pair.client.poll_timeout(), Some(seconds(1010)));
    assert_eq!(
        pair.client.handle_timeout(seconds(1010)),
        Err(SessionError::HandshakeTimeout(seconds(10)))
    );

    let mut pair = Pair::new();
    pair.client.connect(&parameters()).unwrap();
    pair.drive();
    assert_eq!(pair.client.poll_timeout(), Some(seconds(1030)));
    assert_eq!(
        pair.client.handle_timeout(seconds(1030)),
        Err(SessionError::ConnectTimeout(seconds(30)))
    );
    assert!(pair.client.should_close());
}
