use proptest::prelude::*;

use super::*;

const MAX: usize = 1_000;

/// Everything in the input, fed in pieces of `piece` bytes.
fn read(input: &[u8], piece: usize) -> (Vec<FlvEvent>, Result<(), FlvError>) {
    let mut reader = FlvReader::new(MAX);
    let mut events = Vec::new();
    for bytes in input.chunks(piece.max(1)) {
        reader.feed(bytes);
        loop {
            match reader.poll() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.poll(), Err(error.clone()), "stays at the error");
                    assert_eq!(reader.finish(), Err(error.clone()));
                    return (events, Err(error));
                }
            }
        }
    }
    let end = reader.finish();
    (events, end)
}

/// Written by hand after annex E: a header, an audio tag at 0x01020304 ms, a filtered data tag, an empty video tag.
const SAMPLE: &[u8] = &[
    b'F', b'L', b'V', 1, 5, 0, 0, 0, 9, // header
    0, 0, 0, 0, //
    8, 0, 0, 2, 2, 3, 4, 1, 0, 0, 0, 0xaf, 1, // audio
    0, 0, 0, 13, //
    0x32, 0, 0, 1, 0, 0, 5, 0, 0, 0, 0, 2, // data
    0xff, 0xff, 0xff, 0xff, // wrong
    9, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, // video
    0, 0, 0, 11,
];

fn sample_events() -> Vec<FlvEvent> {
    let tag = |timestamp, kind, filtered, body: &'static [u8]| {
        FlvEvent::Tag(Tag {
            timestamp,
            kind,
            filtered,
            body: Bytes::from_static(body),
        })
    };
    vec![
        FlvEvent::Header(FlvHeader {
            has_audio: true,
            has_video: true,
        }),
        tag(0x0102_0304, FrameKind::Audio, false, &[0xaf, 1]),
        tag(5, FrameKind::Data, true, &[2]),
        tag(6, FrameKind::Video, false, &[]),
    ]
}

#[test]
fn a_file_is_read_in_pieces_of_any_size() {
    for piece in 1..=SAMPLE.len() {
        assert_eq!(read(SAMPLE, piece), (sample_events(), Ok(())), "{piece}");
    }
}

#[test]
fn a_file_may_end_only_between_tags() {
    // Where each header or tag starts (after the PreviousTagSize before it) and ends.
    let parts = [(0, 9), (13, 26), (30, 42), (46, 57)];
    for end in 0..SAMPLE.len() {
        let (events, result) = read(&SAMPLE[..end], 7);
        let whole = parts.iter().filter(|(_, to)| *to <= end).count();
        assert_eq!(events, sample_events()[..whole], "cut at {end}");
        let cut = parts
            .iter()
            .find(|(from, to)| (end == 0 && *from == 0) || (*from < end && end < *to));
        let expected = match cut {
            Some(&(offset, _)) => Err(FlvError::Truncated {
                offset: offset as u64,
            }),
            None => Ok(()),
        };
        assert_eq!(result, expected, "cut at {end}");
    }
}

#[test]
fn what_is_no_flv_is_refused_where_it_shows() {
    for (what, input, error) in [
        ("text", &b"GIF"[..], FlvError::Signature),
        ("text, short", &b"FX"[..], FlvError::Signature),
        ("version", &b"FLV\x02"[..], FlvError::Version { version: 2 }),
        (
            "short header",
            &b"FLV\x01\x05\0\0\0\x08"[..],
            FlvError::HeaderLength { length: 8 },
        ),
        (
            "long header",
            &b"FLV\x01\x05\0\0\x10\0"[..],
            FlvError::HeaderLength { length: 4096 },
        ),
        (
            "tag type",
            &b"FLV\x01\x05\0\0\0\x09\0\0\0\0\x07"[..],
            FlvError::TagType {
                offset: 13,
                tag_type: 7,
            },
        ),
        (
            "long tag",
            &b"FLV\x01\x05\0\0\0\x09\0\0\0\0\x08\0\x03\xe9\0\0\0\0\0\0\0"[..],
            FlvError::TagTooLong {
                offset: 13,
                length: 1001,
                max: MAX,
            },
        ),
    ] {
        for piece in [1, input.len()] {
            assert_eq!(read(input, piece).1, Err(error.clone()), "{what}");
        }
    }
}

#[test]
fn a_longer_header_is_skipped() {
    let mut input = b"FLV\x01\x04\0\0\0\x0bxx\0\0\0\0".to_vec();
    assert!(write_tag(1, FrameKind::Audio, b"body", &mut input));
    let (events, end) = read(&input, 2);
    assert_eq!((events.len(), end), (2, Ok(())));
}

#[test]
fn tags_that_do_not_fit_are_not_written() {
    let mut out = Vec::new();
    assert!(!write_tag(
        0,
        FrameKind::Video,
        &vec![0; MAX_TAG_BODY + 1],
        &mut out
    ));
    assert!(out.is_empty());
    assert!(write_tag(
        0,
        FrameKind::Video,
        &vec![0; MAX_TAG_BODY],
        &mut out
    ));
    assert_eq!(out.len(), TAG_HEADER_SIZE + MAX_TAG_BODY + 4);
}

#[test]
fn the_writer_writes_the_sample() {
    let mut out = Vec::new();
    let both = FlvHeader {
        has_audio: true,
        has_video: true,
    };
    write_header(both, &mut out);
    assert_eq!(out.len(), FLV_HEADER_SIZE);
    assert!(write_tag(
        0x0102_0304,
        FrameKind::Audio,
        &[0xaf, 1],
        &mut out
    ));
    assert_eq!(out, SAMPLE[..30]);
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        has_audio: bool,
        has_video: bool,
        tags in prop::collection::vec((any::<u32>(), 0..3, prop::collection::vec(any::<u8>(), 0..MAX)), 0..8),
        piece in 1_usize..5_000,
    ) {
        let header = FlvHeader { has_audio, has_video };
        let mut input = Vec::new();
        write_header(header, &mut input);
        let mut expected = vec![FlvEvent::Header(header)];
        for (timestamp, kind, body) in tags {
            let kind = [FrameKind::Audio, FrameKind::Video, FrameKind::Data][kind as usize];
            prop_assert!(write_tag(timestamp, kind, &body, &mut input));
            expected.push(FlvEvent::Tag(Tag { timestamp, kind, filtered: false, body: body.into() }));
        }
        prop_assert_eq!(read(&input, piece), (expected, Ok(())));
    }

    #[test]
    fn any_bytes_can_be_read(start in 0..SAMPLE.len(), noise: Vec<u8>, piece in 1_usize..50) {
        let _ = read(&[&SAMPLE[..start], &noise[..]].concat(), piece);
    }
}
