//! A client and a server whose packets pass, or do not.

use super::*;
use crate::flow::Config;
use crate::wire::chunk::Chunks;

const MILLISECOND: Duration = Duration::from_millis(1);

/// The first bytes of a key frame, of another picture, and of a codec header, in FLV's form.
const KEY: u8 = 0x17;
const PICTURE: u8 = 0x27;

struct End {
    connection: NetConnection,
    flows: FlowSet,
    came: Vec<Message>,
}

impl End {
    fn new(role: Role) -> Self {
        Self {
            connection: NetConnection::new(role),
            flows: FlowSet::new(Config::default()),
            came: Vec::new(),
        }
    }

    fn send(&mut self, now: Duration, message: &Message) {
        self.connection
            .send(now, &mut self.flows, message, true)
            .unwrap();
    }
}

/// Moves packets until there are none; those from the server to the client for which `lost` says so are lost.
fn pass(now: Duration, client: &mut End, server: &mut End, lost: impl Fn(usize) -> bool) {
    let mut number = 0;
    for _ in 0..100 {
        let mut moved = false;
        for is_up in [true, false] {
            let (from, to) = if is_up {
                (&mut *client, &mut *server)
            } else {
                (&mut *server, &mut *client)
            };
            let mut packet = Vec::new();
            while let Some(header) = from.flows.poll_transmit(now, 1_100, &mut packet) {
                moved = true;
                number += usize::from(!is_up);
                if is_up || !lost(number) {
                    let chunks = Chunks::new(&packet).map(|chunk| (chunk.kind.0, chunk.payload));
                    to.flows.handle_packet(now, &header, chunks);
                }
                packet.clear();
            }
            while let Some(happened) = to.connection.poll(now, &mut to.flows) {
                if let Happened::Message(message) = happened {
                    to.came.push(message);
                }
            }
            to.flows.handle_timeout(now);
        }
        if !moved {
            return;
        }
    }
    panic!("they send without end");
}

fn command(name: &'static [u8]) -> Message {
    Message {
        kind: MessageType::COMMAND_AMF0,
        timestamp: 0,
        stream_id: 0,
        payload: Bytes::from_static(name),
    }
}

fn video(first: u8, second: u8, number: u8) -> Message {
    let mut payload = vec![number; 1_000];
    payload[..5].copy_from_slice(&[first, second, 0, 0, 0]);
    Message {
        kind: MessageType::VIDEO,
        timestamp: u32::from(number),
        stream_id: 1,
        payload: payload.into(),
    }
}

/// A client that is connected to a server.
fn connected() -> (End, End) {
    let (mut client, mut server) = (End::new(Role::Client), End::new(Role::Server));
    client.send(MILLISECOND, &command(b"connect"));
    pass(MILLISECOND, &mut client, &mut server, |_| false);
    server.send(MILLISECOND, &command(b"_result"));
    pass(MILLISECOND, &mut client, &mut server, |_| false);
    assert_eq!(
        (client.came.len(), server.came.len()),
        (1, 1),
        "{:?}",
        client.came
    );
    client.came.clear();
    (client, server)
}

fn numbers(came: &[Message]) -> Vec<u8> {
    came.iter().map(|message| message.timestamp as u8).collect()
}

#[test]
fn a_picture_that_is_late_takes_along_what_builds_on_it() {
    let (mut client, mut server) = connected();
    let start = MILLISECOND * 10;
    // The header is of use however late it is.
    server.send(start, &video(KEY, 0, 0));
    server.send(start, &video(KEY, 1, 1));
    server.send(start, &video(PICTURE, 1, 2));
    let later = start + PICTURE_LIVES / 2;
    server.send(later, &video(PICTURE, 1, 3));
    // Nothing went out, and the first two pictures are too late: the third is of no use, and neither is the next.
    let late = start + PICTURE_LIVES + MILLISECOND;
    server.flows.handle_timeout(late);
    server.send(late, &video(PICTURE, 1, 4));
    assert_eq!(server.connection.take_left_out(), 1);
    server.send(late, &video(KEY, 1, 5));
    server.send(late, &video(PICTURE, 1, 6));
    pass(late, &mut client, &mut server, |_| false);
    assert_eq!(numbers(&client.came), [0, 5, 6]);
}

#[test]
fn what_is_late_is_given_up_to_the_newest_key_frame_that_waits() {
    let (mut client, mut server) = connected();
    let start = MILLISECOND * 10;
    server.send(start, &video(KEY, 1, 1));
    let later = start + PICTURE_LIVES / 2;
    for (first, number) in [(PICTURE, 2), (KEY, 3), (PICTURE, 4), (KEY, 5), (PICTURE, 6)] {
        server.send(later, &video(first, 1, number));
    }
    let late = start + PICTURE_LIVES + MILLISECOND;
    server.flows.handle_timeout(late);
    server.send(late, &video(PICTURE, 1, 7));
    pass(late, &mut client, &mut server, |_| false);
    assert_eq!(numbers(&client.came), [5, 6, 7]);
    assert_eq!(server.connection.take_left_out(), 0);
}

#[test]
fn pictures_behind_a_gap_are_passed_over_up_to_a_key_frame() {
    let (mut client, mut server) = connected();
    let start = MILLISECOND * 10;
    server.send(start, &video(KEY, 1, 1));
    pass(start, &mut client, &mut server, |_| false);
    server.send(start, &video(PICTURE, 1, 2));
    pass(start, &mut client, &mut server, |_| true);
    // Before the one that was lost is sent again.
    let later = start + MILLISECOND * 3;
    // It comes, and builds on one that does not.
    server.send(later, &video(PICTURE, 1, 3));
    pass(later, &mut client, &mut server, |_| false);
    assert_eq!(numbers(&client.came), [1], "in order");
    let late = start + PICTURE_LIVES + MILLISECOND;
    server.flows.handle_timeout(late);
    server.send(late, &video(PICTURE, 1, 4));
    server.send(late, &video(KEY, 0, 5));
    server.send(late, &video(KEY, 1, 6));
    server.send(late, &video(PICTURE, 1, 7));
    pass(late, &mut client, &mut server, |_| false);
    assert_eq!(numbers(&client.came), [1, 5, 6, 7]);
}

#[test]
fn a_stream_whose_flows_were_refused_can_be_used_again() {
    let (mut client, mut server) = connected();
    let start = MILLISECOND * 10;
    let status = |text: &'static [u8]| Message {
        stream_id: 1,
        ..command(text)
    };
    server.send(start, &status(b"start"));
    server.send(start, &video(KEY, 1, 1));
    pass(start, &mut client, &mut server, |_| false);
    assert_eq!(client.came.len(), 2);
    // The first is that of the connection.
    for flow in [2, 3] {
        client.connection.reject(&mut client.flows, ReceiveId(flow));
    }
    pass(start, &mut client, &mut server, |_| false);
    client.came.clear();
    server.send(start, &video(PICTURE, 1, 2));
    pass(start, &mut client, &mut server, |_| false);
    assert_eq!(client.came, []);
    server.send(start, &status(b"again"));
    server.send(start, &video(KEY, 1, 3));
    pass(start, &mut client, &mut server, |_| false);
    assert_eq!(client.came, [status(b"again"), video(KEY, 1, 3)]);
}
