//! Wire vectors, each read whole, byte by byte and cut in two at every offset.

use super::*;
use crate::chunk::MAX_HEADER_LENGTH;

mod hostile;

/// Reads pieces one after the other, as a connection gets them.
fn read_pieces<'a>(
    limits: ReaderLimits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Message>, Option<ChunkError>) {
    let mut reader = ChunkReader::new(limits);
    let mut input = BytesMut::new();
    let mut messages = Vec::new();
    let mut given = 0;
    for piece in pieces {
        given += piece.len();
        input.extend_from_slice(piece);
        loop {
            match reader.handle_input(&mut input) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.handle_input(&mut input), Err(error.clone()));
                    return (messages, Some(error));
                }
            }
        }
        assert!(input.len() < MAX_HEADER_LENGTH);
        assert_eq!(reader.bytes_received(), (given - input.len()) as u64);
    }
    (messages, None)
}

/// What `wire` gives, after a check that it gives the same however it is cut.
fn read_every_way(limits: ReaderLimits, wire: &[u8]) -> (Vec<Message>, Option<ChunkError>) {
    let whole = read_pieces(limits, [wire]);
    assert_eq!(read_pieces(limits, wire.chunks(1)), whole, "byte by byte");
    for cut in 0..=wire.len() {
        let (first, second) = wire.split_at(cut);
        assert_eq!(read_pieces(limits, [first, second]), whole, "cut at {cut}");
    }
    whole
}

fn read(wire: &[u8]) -> Vec<Message> {
    let (messages, error) = read_every_way(ReaderLimits::default(), wire);
    assert_eq!(error, None);
    messages
}

fn failure(wire: &[u8]) -> ChunkError {
    let (_, error) = read_every_way(ReaderLimits::default(), wire);
    error.expect("an error")
}

fn message(kind: u8, timestamp: u32, stream_id: u32, payload: &[u8]) -> Message {
    Message {
        kind: MessageType(kind),
        timestamp,
        stream_id,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn times(wire: &[u8]) -> Vec<u32> {
    read(wire).iter().map(|message| message.timestamp).collect()
}

/// A message of type 8 on chunk stream 4 and message stream 1, with a one-byte payload.
fn type_0(timestamp: [u8; 3]) -> Vec<u8> {
    let [t0, t1, t2] = timestamp;
    vec![0x04, t0, t1, t2, 0, 0, 1, 8, 1, 0, 0, 0, 0xAA]
}

#[test]
fn header_types_and_what_each_inherits() {
    let wire = [
        &[0x04, 0, 0, 100, 0, 0, 2, 8, 1, 2, 0, 0, 0xA0, 0xA1][..],
        &[0x44, 0, 0, 20, 0, 0, 1, 9, 0xB0],
        &[0x84, 0, 0, 30, 0xC0],
        &[0xC4, 0xD0],
        &[0xC4, 0xE0],
    ]
    .concat();
    assert_eq!(
        read(&wire),
        [
            message(8, 100, 0x0201, &[0xA0, 0xA1]),
            message(9, 120, 0x0201, &[0xB0]),
            message(9, 150, 0x0201, &[0xC0]),
            message(9, 180, 0x0201, &[0xD0]),
            message(9, 210, 0x0201, &[0xE0]),
        ]
    );
}

#[test]
fn chunk_stream_id_forms() {
    for (basic, twin) in [
        (&[2][..], &[0xC2][..]),
        (&[63], &[0xFF]),
        (&[0, 0], &[0xC0, 0]),
        (&[0, 255], &[0xC0, 255]),
        (&[1, 0, 1], &[0xC1, 0, 1]),
        (&[1, 255, 255], &[0xC1, 255, 255]),
        // The same ID, 64, in two bytes and in three.
        (&[0, 0], &[0xC1, 0, 0]),
    ] {
        let wire = [
            basic,
            &[0, 0, 7, 0, 0, 1, 8, 1, 0, 0, 0, 0xAA],
            twin,
            &[0xBB],
        ]
        .concat();
        assert_eq!(
            read(&wire),
            [message(8, 7, 1, &[0xAA]), message(8, 14, 1, &[0xBB])],
            "{basic:?}"
        );
    }
}

/// The first example of section 5.3.2: four audio messages, the last two with one-byte headers.
#[test]
fn example_1_of_the_specification() {
    let body = [0x5A; 32];
    let wire = [
        &[0x03, 0, 0x03, 0xE8, 0, 0, 32, 8, 0x39, 0x30, 0, 0][..],
        &body,
        &[0x83, 0, 0, 20],
        &body,
        &[0xC3],
        &body,
        &[0xC3],
        &body,
    ]
    .concat();
    assert_eq!(
        read(&wire),
        [1000, 1020, 1040, 1060].map(|time| message(8, time, 12345, &body))
    );
}

/// The second: 307 bytes of video in three chunks.
#[test]
fn example_2_of_the_specification() {
    let body: Vec<u8> = (0..307u16).map(|byte| byte as u8).collect();
    let wire = [
        &[0x04, 0, 0x03, 0xE8, 0, 1, 51, 9, 0x3A, 0x30, 0, 0][..],
        &body[..128],
        &[0xC4],
        &body[128..256],
        &[0xC4],
        &body[256..],
    ]
    .concat();
    assert_eq!(wire.len(), 307 + 12 + 2);
    assert_eq!(read(&wire), [message(9, 1000, 12346, &body)]);
}

/// FMLE writes this, and most servers read it so.
#[test]
fn type_3_after_type_0_adds_its_time() {
    let wire = [type_0([0, 0, 26]), vec![0xC4, 0xBB], vec![0xC4, 0xCC]].concat();
    assert_eq!(times(&wire), [26, 52, 78]);
}

#[test]
fn type_3_after_an_extended_type_0_is_at_the_same_time() {
    let first = [
        0x04, 255, 255, 255, 0, 0, 5, 8, 1, 0, 0, 0, 1, 2, 3, 4, 9, 9, 9, 9, 9,
    ];
    let repeated = [&first[..], &[0xC4, 1, 2, 3, 4, 8, 8, 8, 8, 8]].concat();
    let omitted = [&first[..], &[0xC4, 8, 8, 8, 8, 8]].concat();
    for wire in [repeated, omitted] {
        assert_eq!(
            read(&wire),
            [
                message(8, 0x0102_0304, 1, &[9; 5]),
                message(8, 0x0102_0304, 1, &[8; 5])
            ]
        );
    }
}

/// librtmp answers a ping so, on a chunk stream that it never used before.
#[test]
fn type_1_on_a_fresh_chunk_stream() {
    let wire = [0x42, 0, 0, 0, 0, 0, 6, 4, 0, 7, 0, 0, 0x0D, 0x0F];
    assert_eq!(read(&wire), [message(4, 0, 0, &[0, 7, 0, 0, 0x0D, 0x0F])]);
}

#[test]
fn extended_timestamp_repeated_or_not() {
    let body: Vec<u8> = (100..240).collect();
    let header = [0x06, 255, 255, 255, 0, 0, 140, 9, 1, 0, 0, 0, 0x01, 0, 0, 0];
    let expected = [message(9, 0x0100_0000, 1, &body)];
    let repeated = [
        &header[..],
        &body[..128],
        &[0xC6, 0x01, 0, 0, 0],
        &body[128..],
    ]
    .concat();
    assert_eq!(read(&repeated), expected);
    let omitted = [&header[..], &body[..128], &[0xC6], &body[128..]].concat();
    assert_eq!(read(&omitted), expected);
}

#[test]
fn extended_delta_repeated_or_not_as_delta_or_as_time() {
    let body: Vec<u8> = (100..240).collect();
    let first = type_0([0, 0, 7]);
    for header in [
        // Type 1, and type 2 after a type 1 that states the length.
        &[0x44, 255, 255, 255, 0, 0, 140, 9, 0x01, 0x02, 0, 0][..],
        &[0x84, 255, 255, 255, 0x01, 0x02, 0, 0],
    ] {
        let first = if header[0] == 0x84 {
            let mut first = first.clone();
            first[6] = 140;
            first[7] = 9;
            first.truncate(12);
            [&first[..], &body[..128], &[0xC4], &body[128..]].concat()
        } else {
            first.clone()
        };
        for repeat in [&[1, 2, 0, 0][..], &[1, 2, 0, 7], &[]] {
            let wire = [
                &first[..],
                header,
                &body[..128],
                &[0xC4],
                repeat,
                &body[128..],
            ]
            .concat();
            let messages = read(&wire);
            assert_eq!(
                messages[1],
                message(9, 0x0102_0007, 1, &body),
                "{header:?} {repeat:?}"
            );
        }
    }
}

/// The last chunk is shorter than the field that might be repeated: it is read without waiting, unless it could be that field.
#[test]
fn short_last_chunk_without_repeated_timestamp() {
    let header = [
        0x06, 255, 255, 255, 0, 0, 130, 9, 1, 0, 0, 0, 0x01, 0x02, 0x03, 0x04,
    ];
    let wire = [&header[..], &[9; 128], &[0xC6, 7, 7]].concat();
    assert_eq!(read(&wire).len(), 1);
    let ambiguous = [&header[..], &[9; 128], &[0xC6, 1, 2]].concat();
    assert_eq!(read(&ambiguous).len(), 0);
    let settled = [&ambiguous[..], &[0x02, 0, 0, 0]].concat();
    assert_eq!(read(&settled).len(), 1);
}

#[test]
fn an_extended_field_that_was_not_needed() {
    let wire = [
        0x04, 255, 255, 255, 0, 0, 1, 8, 1, 0, 0, 0, 0, 0, 0, 9, 0xAA, 0x84, 255, 255, 255, 0, 0,
        0, 5, 0xBB,
    ];
    assert_eq!(times(&wire), [9, 14]);
}

#[test]
fn no_extended_field_below_the_mark() {
    assert_eq!(times(&type_0([255, 255, 254])), [0x00FF_FFFE]);
}

#[test]
fn a_plain_header_ends_the_repetition() {
    let body = [3; 140];
    let wire = [
        &[0x06, 255, 255, 255, 0, 0, 1, 9, 1, 0, 0, 0, 1, 0, 0, 0, 9][..],
        &[0x46, 0, 0, 40, 0, 0, 140, 9],
        &body[..128],
        // Had the field been repeated, this would be it.
        &[0xC6],
        &body[128..],
    ]
    .concat();
    assert_eq!(times(&wire), [0x0100_0000, 0x0100_0028]);
}

#[test]
fn time_wraps_at_32_bits() {
    let wire = [
        &[
            0x04, 255, 255, 255, 0, 0, 1, 8, 1, 0, 0, 0, 255, 255, 255, 246, 0xAA,
        ][..],
        &[0x84, 0, 0, 20, 0xBB],
        &[0xC4, 0xCC],
    ]
    .concat();
    assert_eq!(times(&wire), [u32::MAX - 9, 10, 30]);
}

#[test]
fn chunk_streams_interleave() {
    let audio = [0xA5; 130];
    let video = [0x5A; 300];
    let wire = [
        &[0x06, 0, 0, 40, 0, 1, 44, 9, 1, 0, 0, 0][..],
        &video[..128],
        &[0x04, 0, 0, 41, 0, 0, 130, 8, 1, 0, 0, 0],
        &audio[..128],
        &[0xC6],
        &video[128..256],
        &[0xC4],
        &audio[128..],
        &[0xC6],
        &video[256..],
    ]
    .concat();
    assert_eq!(
        read(&wire),
        [message(8, 41, 1, &audio), message(9, 40, 1, &video)]
    );
}

#[test]
fn chunk_size_changes_at_once_even_inside_a_message() {
    let video = [0x5A; 400];
    let wire = [
        &[0x06, 0, 0, 40, 0, 1, 144, 9, 1, 0, 0, 0][..],
        &video[..128],
        &[0x02, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 200],
        &[0xC6],
        &video[128..328],
        &[0xC6],
        &video[328..],
    ]
    .concat();
    assert_eq!(
        read(&wire),
        [message(1, 0, 0, &[0, 0, 0, 200]), message(9, 40, 1, &video)]
    );
}

#[test]
fn chunk_size_above_the_longest_message_is_clamped() {
    let mut reader = ChunkReader::new(ReaderLimits::default());
    let mut input = BytesMut::from(&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0x7F, 255, 255, 255][..]);
    assert!(matches!(reader.handle_input(&mut input), Ok(Some(_))));
    assert_eq!(reader.chunk_size(), MAX_MESSAGE_LENGTH as u32);
}

#[test]
fn empty_messages() {
    let wire = [
        0x04, 0, 0, 10, 0, 0, 0, 8, 1, 0, 0, 0, 0x84, 0, 0, 5, 0xC4, 0xC4,
    ];
    assert_eq!(
        read(&wire),
        [10, 15, 20, 25].map(|time| message(8, time, 1, &[]))
    );
}

#[test]
fn abort_forgets_what_has_come_but_not_the_header() {
    let wire = [
        &[0x06, 0, 0, 40, 0, 1, 44, 9, 1, 0, 0, 0][..],
        &[1; 128],
        &[0x02, 0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0, 0, 6],
        &[0x46, 0, 0, 2, 0, 0, 1, 9, 0xAA],
        // Nothing is there to abort: a second time, and on a chunk stream that nobody opened.
        &[0xC2, 0, 0, 0, 6],
        &[0xC2, 0, 0, 0, 99],
    ]
    .concat();
    assert_eq!(
        read(&wire),
        [
            message(2, 0, 0, &[0, 0, 0, 6]),
            message(9, 42, 1, &[0xAA]),
            message(2, 0, 0, &[0, 0, 0, 6]),
            message(2, 0, 0, &[0, 0, 0, 99]),
        ]
    );
}

#[test]
fn long_payloads_share_the_input_and_short_ones_do_not() {
    let mut wire = vec![0x02, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 1, 0, 0];
    wire.extend([0x04, 0, 0, 0, 0, 0x40, 0, 8, 1, 0, 0, 0]);
    wire.extend([7; 0x4000]);
    wire.extend([0x44, 0, 0, 0, 0, 0x3F, 0xFF, 8]);
    wire.extend([8; 0x3FFF]);
    let mut input = BytesMut::from(&wire[..]);
    let memory = input.as_ptr_range();
    let mut reader = ChunkReader::new(ReaderLimits::default());
    let mut shared = Vec::new();
    while let Ok(Some(message)) = reader.handle_input(&mut input) {
        shared.push(memory.contains(&message.payload.as_ptr()));
    }
    assert_eq!(shared, [false, true, false]);
}
