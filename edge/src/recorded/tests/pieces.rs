//! The wire form of pieces, read back by a client's chunk reader.

use bytes::{Bytes, BytesMut};
use headwater_media::frame::{Epoch, FrameFlags, FrameKind, Offset};
use headwater_proto::v1;
use headwater_rtmp::chunk::{ChunkReader, ReaderLimits};
use headwater_rtmp::message::{Message, MessageType};

use super::super::piece::{Malformed, Piece};

const CHUNK: u32 = 128;

fn frame(sequence: u64, timestamp: u64, kind: v1::FrameKind, flags: FrameFlags) -> v1::Frame {
    // From less than a chunk to several, whole ones included.
    let length = [0, 1, 127, 128, 129, 256, 700][usize::try_from(sequence % 7).unwrap()];
    v1::Frame {
        sequence,
        timestamp,
        kind: kind.into(),
        flags: flags.bits(),
        payload: (0..length).map(|n| (n * 7 + sequence) as u8).collect(),
    }
}

/// Video with a key frame every ten, audio between, a codec header in the middle.
fn piece(start: u64) -> v1::Piece {
    let frames = (0..40).map(|sequence| {
        let (kind, flags) = match sequence {
            14 => (v1::FrameKind::Video, FrameFlags::HEADER | FrameFlags::KEY),
            _ if sequence % 2 == 1 => (v1::FrameKind::Audio, FrameFlags::empty()),
            _ if sequence % 10 == 0 => (v1::FrameKind::Video, FrameFlags::KEY),
            _ => (v1::FrameKind::Video, FrameFlags::empty()),
        };
        frame(sequence, start + sequence * 20, kind, flags)
    });
    v1::Piece {
        generation: 5,
        first: Some(v1::Offset {
            epoch: 2,
            sequence: 0,
        }),
        next: Some(v1::Offset {
            epoch: 2,
            sequence: 40,
        }),
        follows: v1::Follows::Piece.into(),
        start_ms: start,
        end_ms: start + 800,
        preface: vec![v1::Frame {
            payload: Bytes::from_static(&[0x17, 0, 0, 0, 0, 1]),
            ..frame(0, start, v1::FrameKind::Video, FrameFlags::HEADER)
        }],
        frames: Some(v1::FrameBatch {
            epoch: 2,
            frames: frames.collect(),
        }),
    }
}

fn made(start: u64) -> Piece {
    Piece::from_wire(piece(start), CHUNK).unwrap()
}

/// What a client makes of bytes.
fn read(parts: impl IntoIterator<Item = Bytes>) -> Vec<Message> {
    let mut reader = ChunkReader::new(ReaderLimits::default());
    assert_eq!(reader.chunk_size(), CHUNK);
    let mut input = BytesMut::new();
    for part in parts {
        input.extend_from_slice(&part);
    }
    let mut messages = Vec::new();
    while let Some(message) = reader.handle_input(&mut input).unwrap() {
        messages.push(message);
    }
    assert_eq!((input.len(), reader.partial_bytes()), (0, 0));
    messages
}

fn expected(frame: &v1::Frame, stream_id: u32, timestamp: u64) -> Message {
    Message {
        kind: match frame.kind() {
            v1::FrameKind::Audio => MessageType::AUDIO,
            v1::FrameKind::Video => MessageType::VIDEO,
            _ => MessageType::DATA_AMF0,
        },
        timestamp: timestamp as u32,
        stream_id,
        payload: frame.payload.clone(),
    }
}

/// Before the extended timestamp, across its beginning, within, and past the wrap of 32 bits.
const STARTS: [u64; 4] = [0, 0x00FF_FFFF - 300, 0x0100_0000, (1 << 32) - 300];

#[test]
fn spans_are_the_frames_as_they_were() {
    for start in STARTS {
        let (piece, frames) = (made(start), piece(start).frames.unwrap().frames);
        let all: Vec<Message> = frames
            .iter()
            .map(|frame| expected(frame, 1, frame.timestamp))
            .collect();
        assert_eq!(read([piece.span(0..40)]), all, "{start}");
        let parts = [piece.span(0..13), piece.span(13..14), piece.span(14..40)];
        assert_eq!(read(parts), all, "{start}");
        for range in [0..0, 40..40, 13..13, 30..41, 50..60] {
            assert!(piece.span(range).is_empty());
        }
        let lengths = piece.frames.iter().map(|frame| frame.wire_length());
        assert_eq!(lengths.sum::<usize>(), piece.span(0..40).len());
    }
}

#[test]
fn a_frame_can_have_any_stream_and_time() {
    for start in STARTS {
        let (piece, frames) = (made(start), piece(start).frames.unwrap().frames);
        for shift in [0, 1, 5_000, 0x00FF_FFFF, 0x0200_0000] {
            let parts = piece.frames.iter().flat_map(|frame| {
                let (header, rest) = piece.rewritten(frame, 9, frame.timestamp + shift);
                [header, rest]
            });
            let all: Vec<Message> = frames
                .iter()
                .map(|frame| expected(frame, 9, frame.timestamp + shift))
                .collect();
            assert_eq!(read(parts), all, "{start} + {shift}");
        }
    }
}

#[test]
fn payloads_are_what_they_were() {
    for start in STARTS {
        let (piece, frames) = (made(start), piece(start).frames.unwrap().frames);
        for (frame, original) in piece.frames.iter().zip(&frames) {
            assert_eq!(piece.payload(frame), original.payload);
            assert_eq!(frame.payload_length as usize, original.payload.len());
        }
    }
}

#[test]
fn the_bytes_are_made_once() {
    let piece = made(0);
    let whole = piece.span(0..40);
    let frame = piece.frames[7];
    assert!(frame.payload_length <= CHUNK);
    let within = |part: &Bytes| {
        let (from, to) = (
            whole.as_ptr() as usize,
            whole.as_ptr() as usize + whole.len(),
        );
        (from..=to).contains(&(part.as_ptr() as usize))
    };
    assert!(within(&piece.payload(&frame)));
    for frame in &piece.frames {
        assert!(within(&piece.rewritten(frame, 9, frame.timestamp).1));
    }
    // No room is wasted: what is counted is what is held.
    assert_eq!(piece.frames.capacity(), piece.frames.len());
}

#[test]
fn decoders_start_at_key_frames() {
    let piece = made(1_000);
    for (ms, index) in [
        (0, 0),
        (1_000, 0),
        (1_199, 0),
        (1_200, 10),
        // Not at the codec header that looks like one.
        (1_290, 10),
        (1_400, 20),
        (9_000, 30),
    ] {
        assert_eq!(piece.start_at(ms), index, "{ms}");
    }
    let mut sound = super::pieces::piece(1_000);
    sound.preface.clear();
    let frames = &mut sound.frames.as_mut().unwrap().frames;
    frames.retain(|frame| frame.kind() == v1::FrameKind::Audio);
    let sound = Piece::from_wire(sound, CHUNK).unwrap();
    for (ms, index) in [(0, 0), (1_020, 0), (1_059, 0), (1_060, 1), (9_000, 19)] {
        assert_eq!(sound.start_at(ms), index, "{ms}");
    }
}

#[test]
fn codec_headers_are_those_in_force() {
    let piece = made(0);
    let before = piece.preface_at(14);
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].kind, FrameKind::Video);
    assert!(std::sync::Arc::ptr_eq(&before, &piece.preface));
    let after = piece.preface_at(15);
    assert_eq!(after.len(), 1, "it takes the place of the other");
    assert_eq!(after[0].offset.sequence, 14);
    assert_eq!(piece.preface_at(1_000).len(), 1);
}

#[test]
fn places_within_a_piece_are_found() {
    let piece = made(0);
    let at = |epoch, sequence| {
        piece.index_at(Offset {
            epoch: Epoch(epoch),
            sequence,
        })
    };
    assert_eq!(
        [at(1, 9), at(2, 0), at(2, 7), at(2, 40), at(3, 0)],
        [0, 0, 7, 40, 40]
    );
}

#[test]
fn malformed_pieces_are_refused() {
    let refused = |change: fn(&mut v1::Piece)| {
        let mut piece = piece(0);
        change(&mut piece);
        Piece::from_wire(piece, CHUNK).is_err()
    };
    assert!(!refused(|_| {}));
    assert!(refused(|piece| piece.generation = 0));
    assert!(refused(|piece| piece.first = None));
    assert!(refused(|piece| piece.next = None));
    assert!(refused(|piece| piece.follows = 0));
    assert!(refused(|piece| piece.follows = 99));
    // A player would go round in a circle.
    assert!(refused(|piece| piece.next = piece.first));
    assert!(refused(|piece| piece.next = Some(v1::Offset {
        epoch: 1,
        sequence: 99
    })));
    // Frames that are none of the piece's, or not in order.
    assert!(refused(|piece| piece.next = Some(v1::Offset {
        epoch: 2,
        sequence: 39
    })));
    assert!(refused(|piece| piece.frames.as_mut().unwrap().epoch = 1));
    assert!(refused(|piece| piece
        .frames
        .as_mut()
        .unwrap()
        .frames
        .swap(3, 4)));
    assert!(refused(|piece| {
        let frames = &mut piece.frames.as_mut().unwrap().frames;
        frames[3].payload = Bytes::from(vec![0; 1 << 24]);
    }));
    let empty = v1::Piece {
        frames: None,
        next: piece(0).first,
        follows: v1::Follows::Live.into(),
        ..piece(0)
    };
    let empty = Piece::from_wire(empty, CHUNK).unwrap();
    assert!(empty.span(0..0).is_empty());
    assert_eq!(empty.start_at(5), 0);
    // Nothing is known of a kind of a later version: it is left out.
    let mut later = piece(0);
    later.frames.as_mut().unwrap().frames[3].kind = 99;
    assert_eq!(
        Piece::from_wire(later, CHUNK).map(|it| it.frames.len()),
        Ok(39)
    );
    assert_eq!(
        Piece::from_wire(v1::Piece::default(), CHUNK).err(),
        Some(Malformed("no generation"))
    );
}
