//! Writer and reader together, and the writer's choice of headers.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::message::{Message, MessageType};

fn message(kind: u8, timestamp: u32, stream_id: u32, payload: &[u8]) -> Message {
    Message {
        kind: MessageType(kind),
        timestamp,
        stream_id,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn written(writer: &mut ChunkWriter, chunk_stream: u32, message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    writer.write(chunk_stream, message, &mut out);
    out.to_vec()
}

fn read_all(reader: &mut ChunkReader, wire: &[u8], piece: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut input = BytesMut::new();
    for piece in wire.chunks(piece) {
        input.extend_from_slice(piece);
        while let Some(message) = reader.handle_input(&mut input).expect("a chunk stream") {
            messages.push(message);
        }
    }
    assert!(input.is_empty());
    messages
}

#[test]
fn headers_shrink_as_messages_repeat() {
    let mut writer = ChunkWriter::new();
    for (message, wire) in [
        (
            message(8, 100, 1, &[1]),
            &[4, 0, 0, 100, 0, 0, 1, 8, 1, 0, 0, 0, 1][..],
        ),
        // After a type 0 never a type 3, though the delta is its time.
        (message(8, 200, 1, &[2]), &[0x84, 0, 0, 100, 2]),
        (message(8, 300, 1, &[3]), &[0xC4, 3]),
        (message(8, 400, 1, &[4]), &[0xC4, 4]),
        (message(8, 401, 1, &[5]), &[0x84, 0, 0, 1, 5]),
        (
            message(8, 402, 1, &[6, 6]),
            &[0x44, 0, 0, 1, 0, 0, 2, 8, 6, 6],
        ),
        (
            message(9, 403, 1, &[7, 7]),
            &[0x44, 0, 0, 1, 0, 0, 2, 9, 7, 7],
        ),
        (message(9, 404, 1, &[8, 8]), &[0xC4, 8, 8]),
        (
            message(9, 405, 2, &[9, 9]),
            &[4, 0, 1, 0x95, 0, 0, 2, 9, 2, 0, 0, 0, 9, 9],
        ),
        (
            message(9, 404, 2, &[9, 9]),
            &[4, 0, 1, 0x94, 0, 0, 2, 9, 2, 0, 0, 0, 9, 9],
        ),
        (message(9, 404, 2, &[9, 9]), &[0x84, 0, 0, 0, 9, 9]),
        (message(9, 404, 2, &[9, 9]), &[0xC4, 9, 9]),
    ] {
        assert_eq!(written(&mut writer, 4, &message), wire, "{message:?}");
    }
}

#[test]
fn chunk_streams_do_not_compress_against_each_other() {
    let mut writer = ChunkWriter::new();
    assert_eq!(written(&mut writer, 4, &message(8, 0, 1, &[1])).len(), 13);
    assert_eq!(written(&mut writer, 5, &message(8, 0, 1, &[1])).len(), 13);
    assert_eq!(written(&mut writer, 4, &message(8, 0, 1, &[1])).len(), 5);
}

/// An extended timestamp is written on type 0 only: on large differences and across the wrap too.
#[test]
fn extended_timestamps_are_absolute_and_repeated() {
    let mut writer = ChunkWriter::new();
    writer.set_chunk_size(2);
    let payload = [1, 2, 3];
    for (timestamp, wire) in [
        (0, &[4, 0, 0, 0, 0, 0, 3, 8, 1, 0, 0, 0, 1, 2, 0xC4, 3][..]),
        (0x00FF_FFFE, &[0x84, 255, 255, 254, 1, 2, 0xC4, 3]),
        (0x00FF_FFFF, &[0x84, 0, 0, 1, 1, 2, 0xC4, 3]),
        (
            0x0200_0000,
            &[
                4, 255, 255, 255, 0, 0, 3, 8, 1, 0, 0, 0, 2, 0, 0, 0, 1, 2, 0xC4, 2, 0, 0, 0, 3,
            ],
        ),
        (0x0200_0001, &[0x84, 0, 0, 1, 1, 2, 0xC4, 3]),
        (
            u32::MAX,
            &[
                4, 255, 255, 255, 0, 0, 3, 8, 1, 0, 0, 0, 255, 255, 255, 255, 1, 2, 0xC4, 255, 255,
                255, 255, 3,
            ],
        ),
        (3, &[4, 0, 0, 3, 0, 0, 3, 8, 1, 0, 0, 0, 1, 2, 0xC4, 3]),
    ] {
        assert_eq!(
            written(&mut writer, 4, &message(8, timestamp, 1, &payload)),
            wire,
            "{timestamp:#x}"
        );
    }
}

#[test]
fn chunk_size_of_the_writer_is_clamped() {
    let mut writer = ChunkWriter::new();
    assert_eq!(writer.chunk_size(), DEFAULT_CHUNK_SIZE);
    writer.set_chunk_size(0);
    assert_eq!(writer.chunk_size(), 1);
    writer.set_chunk_size(u32::MAX);
    assert_eq!(writer.chunk_size(), MAX_CHUNK_SIZE);
}

#[test]
fn shared_form_on_the_wire() {
    let message = message(9, 0x0100_0000, 1, &[1, 2, 3, 4, 5]);
    let shared = shared_wire_form(6, &message, 2);
    assert_eq!(
        &shared.bytes[..],
        [
            6, 255, 255, 255, 0, 0, 5, 9, 1, 0, 0, 0, 1, 0, 0, 0, 1, 2, 0xC6, 1, 0, 0, 0, 3, 4,
            0xC6, 1, 0, 0, 0, 5
        ]
    );
    assert_eq!(shared.header_length, 16);
    let empty = shared_wire_form(
        6,
        &Message {
            payload: Bytes::new(),
            ..message
        },
        2,
    );
    assert_eq!(empty.bytes.len(), empty.header_length);
}

/// A run of messages is the same as one after the other, and takes exactly the room that it is said to take.
#[test]
fn shared_forms_stand_one_after_the_other() {
    let mut run = BytesMut::new();
    let mut parts = Vec::new();
    for (timestamp, length, chunk_size) in [
        (7, 0, 128),
        (7, 128, 128),
        (0x00FF_FFFF, 129, 128),
        (u32::MAX, 5_000, 4_096),
    ] {
        let message = message(9, timestamp, 1, &vec![0x5A; length]);
        let alone = shared_wire_form(6, &message, chunk_size);
        let stated = shared_wire_length(6, timestamp, length, chunk_size);
        assert_eq!(stated, alone.bytes.len(), "{timestamp} {length}");
        let header = put_shared_wire_form(6, &message, chunk_size, &mut run);
        assert_eq!(header, alone.header_length);
        parts.extend_from_slice(&alone.bytes);
    }
    assert_eq!(run, parts);
}

/// Shared bytes behind another first header are the same message on another message stream.
#[test]
fn first_header_is_all_that_a_receiver_swaps() {
    for (timestamp, length, chunk_size) in [
        (7, 0, 128),
        (7, 128, 128),
        (7, 129, 128),
        (0x00FF_FFFF, 300, 128),
        (u32::MAX, 5000, 4096),
    ] {
        let original = message(9, timestamp, 1, &vec![0x5A; length]);
        let shared = shared_wire_form(6, &original, chunk_size);
        let other = header(6, timestamp, length as u32, MessageType::VIDEO, 77);
        let mut wire = set_chunk_size(chunk_size);
        wire.extend_from_slice(&other);
        wire.extend_from_slice(&shared.bytes[shared.header_length..]);
        let messages = read_all(
            &mut ChunkReader::new(ReaderLimits::default()),
            &wire,
            wire.len(),
        );
        assert_eq!(
            messages[1],
            Message {
                stream_id: 77,
                ..original
            }
        );
    }
}

fn set_chunk_size(size: u32) -> Vec<u8> {
    let message = message(1, 0, 0, &size.to_be_bytes());
    shared_wire_form(2, &message, 128).bytes.to_vec()
}

fn timestamps() -> impl Strategy<Value = u32> {
    prop_oneof![
        0u32..200,
        (0u32..200).prop_map(|offset| 0x00FF_FF9C + offset),
        (0u32..200).prop_map(|offset| 0xFFFF_FF9Cu32.wrapping_add(offset)),
        any::<u32>(),
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    (
        prop_oneof![Just(3u8), Just(8), Just(9), Just(18), Just(20), Just(200)],
        timestamps(),
        0u32..3,
        prop_oneof![
            Just(0usize),
            Just(1),
            120usize..140,
            0usize..1500,
            Just(20_000)
        ],
        any::<u8>(),
    )
        .prop_map(|(kind, timestamp, stream_id, length, seed)| {
            let payload: Vec<u8> = (0..length)
                .map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed))
                .collect();
            message(kind, timestamp, stream_id, &payload)
        })
}

fn chunk_streams() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(3u32),
        Just(4),
        Just(63),
        Just(64),
        Just(319),
        Just(320),
        Just(65_599)
    ]
}

fn chunk_sizes() -> impl Strategy<Value = u32> {
    prop_oneof![
        1u32..10,
        100u32..200,
        Just(4096),
        Just(65_536),
        Just(MAX_CHUNK_SIZE)
    ]
}

/// Cuts a message into its chunks with type 0 and type 3 headers, for interleaving.
fn chunks_of(chunk_stream: u32, message: &Message, chunk_size: u32) -> Vec<Vec<u8>> {
    let shared = shared_wire_form(chunk_stream, message, chunk_size);
    let basic = match chunk_stream {
        ..=63 => 1,
        64..=319 => 2,
        _ => 3,
    };
    let next = basic
        + if message.timestamp >= EXTENDED_TIMESTAMP {
            4
        } else {
            0
        };
    let mut rest = &shared.bytes[..];
    let mut chunks = Vec::new();
    let mut header = shared.header_length;
    let mut left = message.payload.len();
    loop {
        let size = left.min(chunk_size as usize);
        let (chunk, more) = rest.split_at(header + size);
        chunks.push(chunk.to_vec());
        rest = more;
        left -= size;
        header = next;
        if left == 0 {
            break;
        }
    }
    assert!(rest.is_empty());
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_read(
        steps in prop::collection::vec(
            (chunk_streams(), messages(), prop::option::weighted(0.2, chunk_sizes())),
            1..20,
        ),
        piece in prop_oneof![1usize..50, 1000usize..5000, Just(1 << 20)],
        share_from in prop_oneof![Just(0usize), Just(1000), Just(usize::MAX)],
    ) {
        let mut writer = ChunkWriter::new();
        let mut out = BytesMut::new();
        let mut sent = Vec::new();
        for (chunk_stream, message, chunk_size) in steps {
            if let Some(size) = chunk_size {
                let announcement = self::message(1, 0, 0, &size.to_be_bytes());
                writer.write(CONTROL_CHUNK_STREAM, &announcement, &mut out);
                writer.set_chunk_size(size);
                sent.push(announcement);
            }
            writer.write(chunk_stream, &message, &mut out);
            sent.push(message);
        }
        let mut reader = ChunkReader::new(ReaderLimits { share_from, ..ReaderLimits::default() });
        prop_assert_eq!(read_all(&mut reader, &out, piece), sent);
        prop_assert_eq!(reader.partial_bytes(), 0);
        prop_assert_eq!(reader.bytes_received(), out.len() as u64);
    }

    #[test]
    fn interleaved_chunks_are_sorted_out(
        streams in prop::collection::vec(messages(), 1..6),
        chunk_size in prop_oneof![100u32..200, Just(4096)],
        order in prop::collection::vec(any::<prop::sample::Index>(), 400),
        piece in prop_oneof![1usize..50, Just(1 << 20)],
    ) {
        let ids = [3u32, 63, 64, 320, 65_599, 5];
        let mut waiting: Vec<_> = streams
            .iter()
            .zip(ids)
            .map(|(message, id)| (message, chunks_of(id, message, chunk_size).into_iter().peekable()))
            .collect();
        let mut wire = set_chunk_size(chunk_size);
        let mut finished = Vec::new();
        let mut order = order.iter().cycle();
        while !waiting.is_empty() {
            let at = order.next().expect("endless").index(waiting.len());
            let (message, chunks) = &mut waiting[at];
            wire.extend(chunks.next().expect("a chunk"));
            if chunks.peek().is_none() {
                finished.push((*message).clone());
                drop(waiting.remove(at));
            }
        }
        let mut reader = ChunkReader::new(ReaderLimits::default());
        let messages = read_all(&mut reader, &wire, piece);
        prop_assert_eq!(&messages[1..], &finished[..]);
    }
}
