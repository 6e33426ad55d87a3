//! RTMP: handshake, chunk stream, and both session cores.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_media::frame::FrameKind;
use headwater_media::inspect::inspect as inspect_payload;
use headwater_media::window::Slot;
use headwater_rtmp::chunk::{ChunkReader, ReaderLimits};
use headwater_rtmp::client::{ClientConfig, ClientEvent, ClientSession};
use headwater_rtmp::command::TransactionId;
use headwater_rtmp::handshake::{RANDOM_LENGTH, ServerHandshake};
use headwater_rtmp::message::Message;
use headwater_rtmp::server::{
    ConnectAnswer, ConnectRejection, PlayAnswer, ServerConfig, ServerEvent, ServerSession,
};
use headwater_rtmp::status::StatusCode;
use headwater_rtmp::url::RtmpUrl;

/// Bounds that a short input can reach.
fn limits() -> ReaderLimits {
    ReaderLimits {
        message_length: 1 << 16,
        chunk_streams: 16,
        total_partial_bytes: 1 << 17,
        ..ReaderLimits::default()
    }
}

/// The server's side of the handshake, in one piece and byte by byte.
pub fn handshake(data: &[u8]) {
    let run = |step: usize| {
        let mut handshake = ServerHandshake::new([7; RANDOM_LENGTH]);
        let mut input = BytesMut::new();
        let mut output = Vec::new();
        for piece in data.chunks(step.max(1)) {
            input.extend_from_slice(piece);
            let failed = handshake.handle_input(0, &mut input).is_err();
            while let Some(bytes) = handshake.poll_transmit() {
                output.extend_from_slice(&bytes);
            }
            if failed {
                return (false, false, output);
            }
        }
        (true, handshake.is_done(), output)
    };
    assert_eq!(run(data.len()), run(97), "pieces make no difference");
}

/// The chunk stream, in one piece and in small ones.
pub fn chunk(data: &[u8]) {
    let run = |step: usize| {
        let mut reader = ChunkReader::new(limits());
        let mut input = BytesMut::new();
        let mut messages: Vec<Message> = Vec::new();
        for piece in data.chunks(step.max(1)) {
            input.extend_from_slice(piece);
            loop {
                match reader.handle_input(&mut input) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(_) => return (messages, false),
                }
            }
            assert!(reader.partial_bytes() <= limits().total_partial_bytes);
        }
        (messages, true)
    };
    assert_eq!(run(data.len()), run(7), "pieces make no difference");
}

/// A client's side of a handshake that always succeeds, so that the input begins with chunks.
fn simple_handshake() -> BytesMut {
    let mut bytes = BytesMut::from(&[3][..]);
    bytes.extend_from_slice(&[0; 2 * (8 + RANDOM_LENGTH)]);
    bytes
}

/// The server's session behind the handshake: chunks, control messages, commands, and the answers of an application that
/// decides by the bytes themselves.
pub fn command(data: &[u8]) {
    let mut session =
        ServerSession::new(ServerConfig::default(), [7; RANDOM_LENGTH], Duration::ZERO);
    let mut input = simple_handshake();
    let mut now = Duration::ZERO;
    let mut choice = data.iter().copied().cycle();
    for piece in data.chunks(300) {
        input.extend_from_slice(piece);
        now += Duration::from_millis(10);
        let alive = session.handle_input(now, &mut input).is_ok();
        answer(&mut session, &mut choice);
        while session.poll_transmit().is_some() {}
        if !alive || session.should_close() {
            break;
        }
        if session.poll_timeout().is_some_and(|at| at <= now) {
            let _ = session.handle_timeout(now);
        }
    }
    session.handle_disconnect();
    answer(&mut session, &mut choice);
}

fn answer(session: &mut ServerSession, choice: &mut impl Iterator<Item = u8>) {
    while let Some(event) = session.poll_event() {
        let yes = choice.next().unwrap_or(0) > 63;
        // A failure is the session's own affair: it repeats at the next input.
        let _ = match event {
            ServerEvent::Connect(_) if yes => session.accept_connect(ConnectAnswer::default()),
            ServerEvent::Connect(_) => {
                session.reject_connect(ConnectRejection::new(StatusCode::ConnectInvalidApp))
            }
            ServerEvent::Publish(request) if yes => session.accept_publish(request.stream_id),
            ServerEvent::Publish(request) => {
                session.reject_publish(request.stream_id, StatusCode::PublishBadName, "no")
            }
            ServerEvent::Play(request) if yes => session.play_started(
                request.stream_id,
                &PlayAnswer {
                    name: request.name,
                    reset: request.reset.resets(),
                    ..PlayAnswer::default()
                },
            ),
            ServerEvent::Play(request) => session.play_failed(
                request.stream_id,
                StatusCode::PlayStreamNotFound,
                &request.name,
                "no",
            ),
            ServerEvent::Call {
                transaction,
                arguments,
                ..
            } if yes => {
                let value = arguments.into_iter().next();
                session.answer_call(transaction, value.unwrap_or(headwater_amf::Value::Null))
            }
            ServerEvent::Call { transaction, .. } => session.reject_call(transaction, "no"),
            ServerEvent::GetStreamLength { transaction, .. } => {
                session.answer_call(transaction, headwater_amf::Value::Number(0.0))
            }
            _ => Ok(()),
        };
    }
}

/// The client's session behind the handshake, fed with a server's chunks.
pub fn client(data: &[u8]) {
    let Ok(url) = RtmpUrl::parse("rtmp://localhost/live") else {
        return;
    };
    let mut session =
        ClientSession::new(ClientConfig::default(), [7; RANDOM_LENGTH], Duration::ZERO);
    let _ = session.connect(&headwater_rtmp::client::ConnectParameters::new(&url));
    // S0, S1 and S2 of a server that speaks the simple form; S2 need not be right.
    let mut input = simple_handshake();
    for piece in data.chunks(300) {
        input.extend_from_slice(piece);
        let alive = session
            .handle_input(Duration::from_millis(5), &mut input)
            .is_ok();
        while let Some(event) = session.poll_event() {
            if let ClientEvent::Connected { .. } = event {
                let _: Result<TransactionId, _> = session.create_stream();
            }
        }
        while session.poll_transmit().is_some() {}
        if !alive {
            break;
        }
    }
    session.handle_disconnect();
}

/// What a media payload says of itself. The first byte chooses the kind.
pub fn inspect(data: &[u8]) {
    let Some((first, payload)) = data.split_first() else {
        return;
    };
    let kind = match first % 3 {
        0 => FrameKind::Audio,
        1 => FrameKind::Video,
        _ => FrameKind::Data,
    };
    let payload = Bytes::copy_from_slice(payload);
    let _ = inspect_payload(kind, &payload);
    let _ = Slot::of(kind, &payload);
}
