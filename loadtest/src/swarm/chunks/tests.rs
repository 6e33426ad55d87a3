use bytes::{Bytes, BytesMut};
use headwater_rtmp::chunk::{ChunkReader, ChunkWriter, ReaderLimits, header};
use headwater_rtmp::message::Message;
use proptest::prelude::*;

use super::*;

/// What is compared of a message: of its payload only what is kept.
type Told = (u8, u32, u32, Vec<u8>);

fn light(bytes: &[u8], cuts: &[usize]) -> (Vec<Told>, Option<ChunkError>, u64) {
    let mut chunks = Chunks::new();
    let mut told = Vec::new();
    let mut start = 0;
    for &cut in cuts.iter().chain([&bytes.len()]) {
        let mut input = &bytes[start..cut];
        start = cut;
        loop {
            match chunks.next(&mut input) {
                Ok(Some(message)) => told.push((
                    message.kind.0,
                    message.stream_id,
                    message.length,
                    message.head.into_owned(),
                )),
                Ok(None) => break,
                Err(error) => return (told, Some(error), chunks.received()),
            }
        }
        assert!(input.is_empty());
    }
    (told, None, chunks.received())
}

fn whole(bytes: &[u8]) -> (Vec<Told>, Option<ChunkError>, u64) {
    let mut reader = ChunkReader::new(ReaderLimits::default());
    let mut input = BytesMut::from(bytes);
    let mut told = Vec::new();
    loop {
        match reader.handle_input(&mut input) {
            Ok(Some(message)) => {
                let kept = kept_of(message.kind).min(message.payload.len());
                told.push((
                    message.kind.0,
                    message.stream_id,
                    message.payload.len() as u32,
                    message.payload[..kept].to_vec(),
                ));
            }
            Ok(None) => return (told, None, reader.bytes_received()),
            Err(error) => return (told, Some(error), reader.bytes_received()),
        }
    }
}

fn message(kind: u8, timestamp: u32, length: usize) -> Message {
    let payload: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
    Message {
        kind: MessageType(kind),
        timestamp,
        stream_id: 1,
        payload: payload.into(),
    }
}

/// All header types, chunk stream ids of one to three bytes, extended timestamps, empty messages, two chunk sizes, an Abort.
fn sample() -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut writer = ChunkWriter::new();
    let times = [
        0, 0, 20, 40, 60, 0xFF_FFFE, 0xFF_FFFF, 0x100_0000, 0x100_0020,
    ];
    for (number, &time) in times.iter().enumerate() {
        writer.write(4, &message(8, time, 90), &mut out);
        writer.write(70, &message(9, time, 290 + number), &mut out);
        writer.write(900, &message(20, time, 10), &mut out);
    }
    writer.write(3, &message(18, 5, 0), &mut out);
    let size = Message {
        kind: MessageType::SET_CHUNK_SIZE,
        timestamp: 0,
        stream_id: 0,
        payload: Bytes::from_static(&[0, 0, 1, 0]),
    };
    writer.write(2, &size, &mut out);
    writer.set_chunk_size(256);
    writer.write(70, &message(9, 0x100_0040, 1_500), &mut out);
    // A message that is given up in its second chunk.
    let begun = header(80, 7, 600, MessageType::VIDEO, 1);
    out.extend_from_slice(&begun);
    out.extend_from_slice(&[1; 256]);
    let abort = Message {
        kind: MessageType::ABORT,
        payload: Bytes::from_static(&[0, 0, 0, 80]),
        ..size
    };
    writer.write(2, &abort, &mut out);
    writer.write(80, &message(9, 30, 30), &mut out);
    writer.write(4, &message(8, 0x100_0060, 90), &mut out);
    out.to_vec()
}

#[test]
fn a_stream_split_anywhere_reads_as_the_whole_reader_reads_it() {
    let bytes = sample();
    let expected = whole(&bytes);
    assert_eq!((expected.0.len(), &expected.1), (33, &None));
    assert_eq!(light(&bytes, &[]), expected);
    for cut in 0..=bytes.len() {
        assert_eq!(light(&bytes, &[cut]), expected, "{cut}");
    }
    let each: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(light(&bytes, &each), expected);
}

#[test]
fn payload_that_begins_like_an_extended_timestamp_is_found_out_late() {
    // A message of 131 bytes with an extended timestamp, whose second chunk does not repeat it, but begins as it does.
    let mut bytes = header(5, 0x0102_0304, 131, MessageType::AUDIO, 1).to_vec();
    bytes.extend([9; 128]);
    bytes.extend([0xC5, 1, 2, 9]);
    // The next message follows at once, so that the bytes held reach into its header.
    bytes.extend(header(6, 3, 1, MessageType::VIDEO, 1).to_vec());
    bytes.push(42);
    let expected = whole(&bytes);
    assert_eq!(expected.0.len(), 2, "{expected:?}");
    let each: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(light(&bytes, &each), expected);
    for cut in 0..=bytes.len() {
        assert_eq!(light(&bytes, &[cut]), expected, "{cut}");
    }
}

#[test]
fn only_the_beginning_of_media_is_held() {
    let mut chunks = Chunks::with_chunk_size(65_536);
    let bytes = header(6, 0, 60_000, MessageType::VIDEO, 1).to_vec();
    assert_eq!(chunks.next(&mut &bytes[..]), Ok(None));
    for _ in 0..59 {
        assert_eq!(chunks.next(&mut &[7; 1_000][..]), Ok(None));
    }
    assert_eq!(chunks.streams[0].kept.capacity(), MEDIA_HEAD);
    let mut last = &[7; 1_000][..];
    let message = chunks.next(&mut last).unwrap().unwrap();
    assert_eq!((message.length, message.head.len()), (60_000, MEDIA_HEAD));
    assert!(!message.is_whole());
    assert_eq!(chunks.streams[0].kept.capacity(), 0);
}

#[test]
fn broken_streams_are_told_as_the_whole_reader_tells_them() {
    let mut many = Vec::new();
    for id in 64..200 {
        many.extend(header(id, 0, 0, MessageType::DATA_AMF0, 1).to_vec());
    }
    let mut inside = header(5, 0, 200, MessageType::AUDIO, 1).to_vec();
    inside.extend([0; 128]);
    inside.extend(header(5, 0, 200, MessageType::AUDIO, 1).to_vec());
    let control = |kind, payload: &[u8]| {
        let mut bytes = header(2, 0, payload.len() as u32, kind, 0).to_vec();
        bytes.extend(payload);
        bytes
    };
    for bytes in [
        vec![0xC3],
        vec![0x83, 0, 0, 0],
        many,
        inside,
        control(MessageType::SET_CHUNK_SIZE, &[0; 4]),
        control(MessageType::SET_CHUNK_SIZE, &[0x80, 0, 0, 0]),
        control(MessageType::SET_CHUNK_SIZE, &[0, 1]),
        control(MessageType::ABORT, &[]),
    ] {
        let expected = whole(&bytes);
        assert!(expected.1.is_some());
        assert_eq!(light(&bytes, &[]).1, expected.1);
        let each: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(light(&bytes, &each).1, expected.1);
    }
}

proptest! {
    #[test]
    fn any_bytes_read_as_the_whole_reader_reads_them(
        bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 2 => Just(0), 1 => Just(0xFF), 1 => Just(0xC4), 1 => Just(4)], 0..700),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let (told, error, received) = light(&bytes, &cuts);
        let (expected, expected_error, expected_received) = whole(&bytes);
        prop_assert_eq!(told, expected);
        prop_assert_eq!(&error, &expected_error);
        if error.is_none() {
            prop_assert_eq!(received, expected_received);
        }
    }
}
