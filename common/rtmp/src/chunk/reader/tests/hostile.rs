//! Peers that are broken or mean harm.

use proptest::prelude::*;

use super::*;

/// Header of type 0 for a message of `length` bytes at time 0.
fn start(chunk_stream: u8, length: u32) -> Vec<u8> {
    let [_, l0, l1, l2] = length.to_be_bytes();
    vec![chunk_stream, 0, 0, 0, l0, l1, l2, 9, 1, 0, 0, 0]
}

fn set_chunk_size(size: u32) -> Vec<u8> {
    let mut wire = vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
    wire.extend(size.to_be_bytes());
    wire
}

fn held(reader: &ChunkReader) -> usize {
    reader
        .streams
        .iter()
        .map(|stream| stream.assembled.capacity())
        .sum()
}

#[test]
fn chunk_sizes_that_are_not_allowed() {
    for size in [0, 0x8000_0000, u32::MAX] {
        assert_eq!(
            failure(&set_chunk_size(size)),
            ChunkError::ChunkSize { size, offset: 16 }
        );
    }
    assert_eq!(
        failure(&[2, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 1]),
        ChunkError::ControlTooShort {
            kind: 1,
            length: 3,
            offset: 15
        }
    );
    assert_eq!(
        failure(&[2, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]),
        ChunkError::ControlTooShort {
            kind: 2,
            length: 0,
            offset: 12
        }
    );
}

#[test]
fn headers_without_a_previous_one() {
    for (wire, header_type) in [([0x84, 0, 0, 0, 0], 2), ([0xC4, 0, 0, 0, 0], 3)] {
        assert_eq!(
            failure(&wire),
            ChunkError::NoPreviousHeader {
                chunk_stream: 4,
                header_type,
                offset: 0
            }
        );
    }
}

#[test]
fn headers_inside_a_message() {
    for header_type in 0..3 {
        let wire = [&start(6, 200)[..], &[0; 128], &[header_type << 6 | 6]].concat();
        assert_eq!(
            failure(&wire),
            ChunkError::HeaderInsideMessage {
                chunk_stream: 6,
                header_type,
                offset: 140
            }
        );
    }
}

#[test]
fn messages_above_the_limit() {
    let limits = ReaderLimits {
        message_length: 1000,
        ..ReaderLimits::default()
    };
    let refused = |offset| ChunkError::MessageTooLong {
        chunk_stream: 6,
        length: 1001,
        limit: 1000,
        offset,
    };
    let (_, error) = read_every_way(limits, &start(6, 1001));
    assert_eq!(error, Some(refused(0)));
    let wire = [&start(6, 1)[..], &[0xAA, 0x46, 0, 0, 0, 0, 0x03, 0xE9, 9]].concat();
    let (messages, error) = read_every_way(limits, &wire);
    assert_eq!((messages.len(), error), (1, Some(refused(13))));
    let (_, error) = read_every_way(limits, &start(6, 1000));
    assert_eq!(error, None);
}

#[test]
fn lower_limits_hold_for_repeated_headers() {
    let mut reader = ChunkReader::new(ReaderLimits::default());
    let mut input = BytesMut::from(&start(6, 2)[..]);
    input.extend_from_slice(&[1, 2]);
    assert!(matches!(reader.handle_input(&mut input), Ok(Some(_))));
    reader.set_limits(ReaderLimits {
        message_length: 1,
        ..ReaderLimits::default()
    });
    input.extend_from_slice(&[0xC6, 1, 2]);
    assert!(matches!(
        reader.handle_input(&mut input),
        Err(ChunkError::MessageTooLong { length: 2, .. })
    ));
}

#[test]
fn one_chunk_stream_too_many() {
    let limits = ReaderLimits {
        chunk_streams: 10,
        ..ReaderLimits::default()
    };
    let wire: Vec<u8> = (2..=12).flat_map(|id| start(id, 0)).collect();
    let (messages, error) = read_every_way(limits, &wire);
    assert_eq!(messages.len(), 10);
    assert_eq!(
        error,
        Some(ChunkError::TooManyChunkStreams {
            chunk_stream: 12,
            limit: 10,
            offset: 120
        })
    );
}

/// 64 messages of nearly 16 MiB, of which only the first chunk comes: nothing is held for the promise.
#[test]
fn promises_cost_nothing() {
    let mut reader = ChunkReader::new(ReaderLimits::default());
    let mut input = BytesMut::new();
    for id in 2..=63 {
        input.extend_from_slice(&start(id, 0x00FF_FFFF));
        input.extend_from_slice(&[0; 128]);
    }
    for id in [0, 1] {
        input.extend_from_slice(&[0, id]);
        input.extend_from_slice(&start(0, 0x00FF_FFFF)[1..]);
        input.extend_from_slice(&[0; 128]);
    }
    assert_eq!(reader.handle_input(&mut input), Ok(None));
    assert_eq!(reader.streams.len(), 64);
    assert_eq!(reader.partial_bytes(), 64 * 128);
    assert!(held(&reader) <= 64 * 1024, "{} bytes held", held(&reader));
}

#[test]
fn incomplete_messages_are_bounded_together() {
    let limits = ReaderLimits {
        total_partial_bytes: 1 << 20,
        ..ReaderLimits::default()
    };
    let mut reader = ChunkReader::new(limits);
    let mut input = BytesMut::from(&set_chunk_size(4096)[..]);
    assert!(matches!(reader.handle_input(&mut input), Ok(Some(_))));
    let mut error = None;
    'feed: for round in 0.. {
        for id in 3..63u8 {
            if round == 0 {
                input.extend_from_slice(&start(id, 0x00FF_FFFF));
            } else {
                input.extend_from_slice(&[0xC0 | id]);
            }
            input.extend_from_slice(&[0; 4096]);
            match reader.handle_input(&mut input) {
                Ok(message) => assert_eq!(message, None),
                Err(found) => {
                    error = Some(found);
                    break 'feed;
                }
            }
            assert!(held(&reader) <= 4 << 20);
        }
    }
    assert!(matches!(
        error,
        Some(ChunkError::TooManyPartialBytes {
            limit: 0x0010_0000,
            ..
        })
    ));
    assert!(reader.partial_bytes() <= 1 << 20);
}

#[test]
fn finished_and_aborted_messages_leave_nothing() {
    let mut reader = ChunkReader::new(ReaderLimits::default());
    let mut input = BytesMut::from(&[&start(6, 200)[..], &[0; 128]].concat()[..]);
    assert_eq!(reader.handle_input(&mut input), Ok(None));
    assert_eq!(reader.partial_bytes(), 128);
    input.extend_from_slice(&[2, 0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0, 0, 6]);
    assert!(matches!(reader.handle_input(&mut input), Ok(Some(_))));
    assert_eq!((reader.partial_bytes(), held(&reader)), (0, 0));

    input.extend_from_slice(&[&[0xC6][..], &[0; 128], &[0xC6], &[0; 72]].concat());
    assert!(matches!(reader.handle_input(&mut input), Ok(Some(_))));
    assert_eq!((reader.partial_bytes(), held(&reader)), (0, 0));
}

/// A message that was assembled has no more memory than its length.
#[test]
fn assembled_messages_are_not_larger_than_stated() {
    let mut stream = ChunkStream {
        length: 5000,
        ..ChunkStream::default()
    };
    for _ in 0..50 {
        stream.append(&[1; 100]);
        assert!(stream.assembled.capacity() <= (4 * stream.assembled.len()).max(1024));
    }
    assert_eq!(stream.assembled.capacity(), 5000);
}

/// Bytes that are likely to go on for a while: headers on few chunk streams, small lengths.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let chunk = prop_oneof![
        (2u8..6, any::<[u8; 3]>(), 0u8..200, 1u8..30).prop_map(
            |(id, [t0, t1, t2], length, kind)| {
                let mut bytes = vec![id, t0, t1, t2, 0, 0, length, kind, 1, 0, 0, 0];
                bytes.extend(vec![0; usize::from(length.min(128))]);
                bytes
            }
        ),
        (2u8..6, prop::collection::vec(any::<u8>(), 0..130)).prop_map(|(id, mut rest)| {
            rest.insert(0, 0xC0 | id);
            rest
        }),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(chunk, 0..12).prop_map(|chunks| chunks.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Garbage gives an error or nothing, the same however it is cut, and memory stays within the bounds.
    #[test]
    fn garbage_reads_the_same_in_any_pieces(wire in plausible(), pieces in 1usize..40) {
        let limits = ReaderLimits { message_length: 4096, chunk_streams: 4, total_partial_bytes: 8192, share_from: 64 };
        let whole = read_pieces(limits, [&wire[..]]);
        prop_assert_eq!(&read_pieces(limits, wire.chunks(pieces)), &whole);
        prop_assert_eq!(&read_pieces(limits, wire.chunks(1)), &whole);
    }
}
