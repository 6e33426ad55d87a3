//! Clients that do not keep to the protocol get a clear answer, and cost nobody else anything: in each test a well-behaved
//! publisher and its viewer go on without a lost frame.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use headwater_amf::Value;
use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::command::PublishMode;

use crate::a_cluster_carries_live_streams::light;
use crate::standalone::standalone;
use crate::support::client::{ClientError, Connection, Publisher, Viewer};
use crate::support::judge::assert_no_loss;
use crate::support::node::Node;
use crate::support::wait::{patience, runtime};

/// Length of C1, C2, S1 and S2.
const HELLO: usize = 1536;

/// Runs a test against a node with a stream that must not notice.
fn beside_a_stream(flags: &[&str], test: impl FnOnce(&mut Node)) {
    let (mut node, _folder) = standalone(flags);
    let url = node.url("live/bystander");
    let viewer = Viewer::start(&url);
    let publisher = Publisher::start(&url, light());
    viewer.wait_for(10, Duration::from_secs(5));
    test(&mut node);
    let seen = viewer.count();
    viewer.wait_for(seen + 20, Duration::from_secs(5));
    let sent = publisher.finish();
    viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
    assert_no_loss("the bystander", &sent, &viewer.received());
    assert!(node.is_running());
    let log = node.log_text();
    assert!(!log.contains("panicked"), "{log}");
}

/// A socket that the server is expected to close.
struct Raw(TcpStream);

impl Raw {
    fn open(node: &mut Node) -> Self {
        let socket = TcpStream::connect(node.address("rtmp")).expect("a connection");
        let limit = patience(Duration::from_secs(6));
        socket.set_read_timeout(Some(limit)).expect("a limit");
        socket.set_write_timeout(Some(limit)).expect("a limit");
        Self(socket)
    }

    /// After a handshake in the simple form.
    fn after_handshake(node: &mut Node) -> Self {
        let mut raw = Self::open(node);
        let mut hello = vec![0; 1 + HELLO];
        hello[0] = 3;
        for (index, byte) in hello.iter_mut().enumerate().skip(9) {
            *byte = (index % 251) as u8;
        }
        raw.0.write_all(&hello).expect("C0 and C1");
        let mut answer = vec![0; 1 + 2 * HELLO];
        raw.0.read_exact(&mut answer).expect("S0, S1 and S2");
        assert_eq!(answer[0], 3);
        assert_eq!(answer[1 + HELLO + 8..], hello[9..], "S2 repeats C1");
        raw.0.write_all(&answer[1..=HELLO]).expect("C2");
        raw
    }

    /// Sends, though the server may close meanwhile.
    fn send(&mut self, bytes: &[u8]) {
        // A reset is one of the answers that are looked for.
        let _ = self.0.write_all(bytes);
    }

    /// Reads until the server closes, and gives what it said.
    fn read_to_close(mut self) -> Vec<u8> {
        let mut said = Vec::new();
        match self.0.read_to_end(&mut said) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server did not close: {error}"),
        }
        said
    }
}

/// A message in one chunk with a full header, on chunk stream 3 and message stream 0.
fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![3, 0, 0, 0];
    let length = u32::try_from(payload.len()).expect("a length");
    bytes.extend_from_slice(&length.to_be_bytes()[1..]);
    bytes.push(kind);
    bytes.extend_from_slice(&[0; 4]);
    // Chunks of 128 bytes, as both sides begin.
    for (index, chunk) in payload.chunks(128).enumerate() {
        if index > 0 {
            bytes.push(0xc3);
        }
        bytes.extend_from_slice(chunk);
    }
    bytes
}

fn amf_text(text: &str) -> Vec<u8> {
    let mut bytes = vec![2];
    bytes.extend_from_slice(&u16::try_from(text.len()).expect("short").to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[test]
fn garbage_before_the_handshake() {
    beside_a_stream(&[], |node| {
        let endless = vec![0xff; 1 << 20];
        for garbage in [&b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"[..], &[0], &endless] {
            let mut raw = Raw::open(node);
            raw.send(garbage);
            raw.read_to_close();
        }
    });
}

#[test]
fn half_a_handshake() {
    beside_a_stream(&["--set", "rtmp.handshake_timeout_ms=700"], |node| {
        for length in [0, 1, 700, 1 + HELLO, HELLO + 500] {
            let mut raw = Raw::open(node);
            raw.send(&vec![3; length]);
            raw.read_to_close();
        }
        // A whole one, and then nothing.
        Raw::after_handshake(node).read_to_close();
    });
}

#[test]
fn chunk_sizes_of_zero_and_two_to_the_31() {
    beside_a_stream(&[], |node| {
        for size in [0_u32, 1 << 31, u32::MAX] {
            let mut raw = Raw::after_handshake(node);
            raw.send(&message(1, &size.to_be_bytes()));
            raw.read_to_close();
        }
    });
}

#[test]
fn messages_above_the_limit() {
    beside_a_stream(&["--set", "rtmp.message_bytes=65536"], |node| {
        let mut raw = Raw::after_handshake(node);
        raw.send(&[3, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0, 2, 0, 7]);
        raw.read_to_close();
    });
}

#[test]
fn amf_bombs() {
    beside_a_stream(&[], |node| {
        let number = [0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0];
        let deep = [10, 0, 0, 0, 1].repeat(50_000);
        let long = [10, 0xff, 0xff, 0xff, 0xff].to_vec();
        let references = [&[10, 0, 0, 0xff, 0xff][..], &[7, 0, 0].repeat(20_000)].concat();
        for bomb in [deep, long, references] {
            let mut raw = Raw::after_handshake(node);
            let connect = [&amf_text("connect")[..], &number, &bomb].concat();
            raw.send(&message(20, &connect));
            raw.read_to_close();
        }
    });
}

#[test]
fn commands_before_connect() {
    beside_a_stream(&[], |node| {
        let number = [0, 0x40, 0, 0, 0, 0, 0, 0, 0];
        let publish = [&amf_text("publish")[..], &number, &[5], &amf_text("a")].concat();
        let mut raw = Raw::after_handshake(node);
        raw.send(&message(20, &publish));
        raw.read_to_close();
    });
}

#[test]
fn an_application_that_is_not_there() {
    beside_a_stream(&[], |node| {
        let url = node.url("nosuch/a");
        let outcome = runtime().block_on(Connection::open(&url));
        let Err(ClientError::Rejected(status)) = outcome else {
            panic!("refused was expected: {outcome:?}");
        };
        assert_eq!(status.code, "NetConnection.Connect.InvalidApp");
        assert!(status.description.contains("nosuch"), "{status:?}");
    });
}

#[test]
fn a_refused_client_is_disconnected() {
    beside_a_stream(&[], |node| {
        let number = [0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0];
        let mut connect = [&amf_text("connect")[..], &number, &[3, 0, 3]].concat();
        connect.extend_from_slice(b"app");
        connect.extend(amf_text("nosuch"));
        connect.extend_from_slice(&[0, 0, 9]);
        let mut raw = Raw::after_handshake(node);
        raw.send(&message(20, &connect));
        let said = String::from_utf8_lossy(&raw.read_to_close()).into_owned();
        for word in ["_error", "NetConnection.Connect.InvalidApp"] {
            assert!(said.contains(word), "{word} is not in {said:?}");
        }
    });
}

#[test]
fn a_method_that_is_not_there() {
    beside_a_stream(&[], |node| {
        let url = node.url("live/a");
        runtime().block_on(async {
            let (mut connection, _) = Connection::open(&url).await.expect("connected");
            for _ in 0..3 {
                let arguments = vec![Value::from("argument")];
                let asked = connection.session.call("noSuchMethod", arguments);
                let asked = asked.expect("a call");
                let answer = loop {
                    let event = connection.next_event().await.expect("still connected");
                    if let ClientEvent::CallResult {
                        transaction,
                        result,
                    } = event
                        && transaction == asked
                    {
                        break result;
                    }
                };
                let text = format!("{:?}", answer.expect_err("an error"));
                assert!(text.contains("NetConnection.Call.Failed"), "{text}");
                assert!(text.contains("noSuchMethod"), "{text}");
            }
        });
    });
}

#[test]
fn publishing_twice_on_one_message_stream() {
    beside_a_stream(&[], |node| {
        let url = node.url("live/first");
        let codes = runtime().block_on(async {
            let (mut connection, name) = Connection::open(&url).await.expect("connected");
            let id = connection.create_stream().await.expect("a stream");
            let session = &mut connection.session;
            for name in [name.as_str(), "second"] {
                session.publish(id, name, PublishMode::Live).expect("sent");
            }
            let mut codes: Vec<String> = Vec::new();
            while codes.len() < 2 {
                let event = connection.next_event().await.expect("still connected");
                if let ClientEvent::Status { status, .. } = event {
                    codes.push(status.code.into_owned());
                }
            }
            codes
        });
        assert!(
            codes.iter().any(|code| code == "NetStream.Publish.Start"),
            "{codes:?}"
        );
        assert!(
            codes.iter().any(|code| code == "NetStream.Publish.BadName"),
            "{codes:?}"
        );
    });
}

#[test]
fn names_that_are_no_names() {
    beside_a_stream(&[], |node| {
        for name in ["..", "a/../b", "a\\b", &"x".repeat(600)] {
            let url = node.url("live/");
            let code = runtime().block_on(async {
                let (mut connection, _) = Connection::open(&url).await.expect("connected");
                let id = connection.create_stream().await.expect("a stream");
                let session = &mut connection.session;
                session.publish(id, name, PublishMode::Live).expect("sent");
                loop {
                    let event = connection.next_event().await.expect("still connected");
                    if let ClientEvent::Status { status, .. } = event {
                        return status.code.into_owned();
                    }
                }
            });
            assert_eq!(code, "NetStream.Publish.BadName", "{name:?}");
        }
    });
}

#[test]
fn connections_that_come_and_go() {
    beside_a_stream(&[], |node| {
        for _ in 0..200 {
            let raw = Raw::open(node);
            drop(raw);
        }
        let idle: Vec<_> = (0..200).map(|_| Raw::open(node)).collect();
        assert_eq!(node.get("/healthz").0, 200);
        drop(idle);
    });
}
