//! The cache's answers against those that an origin would give, whatever was asked before.

use headwater_media::frame::FrameFlags;
use proptest::prelude::*;

use super::super::cache::{Cache, Found, MOST_BACK, Trust};
use super::*;

const LONG: Duration = Duration::from_secs(3_600);

/// A frame of the file: milliseconds after the one before, whether a decoder can start there, whether a piece begins there.
type Shape = (u64, bool, bool);

/// A file, cut anywhere: pieces need not begin at key frames.
fn file(shapes: &[Shape], video: bool, start: u64) -> Vec<Arc<Piece>> {
    let kind = if video {
        v1::FrameKind::Video
    } else {
        v1::FrameKind::Audio
    };
    let mut timestamp = start;
    let mut cut: Vec<Vec<v1::Frame>> = Vec::new();
    for (sequence, &(after, key, begins)) in shapes.iter().enumerate() {
        timestamp += after;
        let frame = v1::Frame {
            sequence: sequence as u64 * 3,
            timestamp,
            kind: kind.into(),
            flags: if key && video {
                FrameFlags::KEY.bits()
            } else {
                0
            },
            payload: vec![0; 10].into(),
        };
        match cut.last_mut().filter(|_| !begins) {
            Some(piece) => piece.push(frame),
            None => cut.push(vec![frame]),
        }
    }
    let begins: Vec<(u64, u64)> = cut
        .iter()
        .map(|frames| (frames[0].sequence, frames[0].timestamp))
        .collect();
    let at = |sequence| Some(v1::Offset { epoch: 9, sequence });
    let pieces = cut.into_iter().enumerate().map(|(number, frames)| {
        let next = begins.get(number + 1);
        let follows = match next {
            Some(_) => v1::Follows::Piece,
            None => v1::Follows::End,
        };
        let header = v1::Frame {
            flags: FrameFlags::HEADER.bits(),
            ..frames[0].clone()
        };
        let piece = v1::Piece {
            generation: 1,
            first: at(begins[number].0),
            next: at(next.map_or(1_000_000, |next| next.0)),
            follows: follows.into(),
            start_ms: begins[number].1,
            end_ms: next.map_or(timestamp + 40, |next| next.1),
            preface: vec![header],
            frames: Some(v1::FrameBatch { epoch: 9, frames }),
        };
        Arc::new(Piece::from_wire(piece, 128).unwrap())
    });
    pieces.collect()
}

/// What the contract says of a time: the piece with the newest place at or before it where a decoder can start.
fn answer(pieces: &[Arc<Piece>], video: bool, ms: u64) -> &Arc<Piece> {
    let starts = |piece: &&Arc<Piece>| {
        let mut frames = piece.frames.iter();
        frames.any(|frame| frame.timestamp <= ms && (frame.is_key() || !video))
    };
    pieces.iter().rfind(starts).unwrap_or(&pieces[0])
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let frame = (
        0..200_u64,
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.3),
    );
    prop::collection::vec(frame, 1..40)
}

/// A file with one key frame and many pieces.
#[tokio::test(start_paused = true)]
async fn no_place_is_looked_for_too_far_back() {
    let shapes: Vec<Shape> = (0..300).map(|number| (100, number == 0, true)).collect();
    let pieces = file(&shapes, true, 0);
    let trust = Trust {
        growing: LONG,
        ends: LONG,
    };
    let cache = Cache::new(usize::MAX, trust);
    let show = name("show");
    for piece in &pieces {
        cache.insert(&show, Place::Offset(piece.first), piece);
    }
    for number in [0, 1, MOST_BACK - 1] {
        let ms = pieces[number].start_ms;
        let found = cache.find(&show, 1, Place::Time(ms), || None);
        let Found::Piece(found) = found else {
            panic!("{number}: {found:?}");
        };
        assert_eq!(found.first, pieces[0].first, "{number}");
    }
    for number in [MOST_BACK, 250] {
        let place = Place::Time(pieces[number].start_ms);
        let found = cache.find(&show, 1, place, || None);
        assert!(matches!(found, Found::Missing), "{number}: {found:?}");
        // An origin is asked each time, and its answer is of use.
        cache.insert(&show, place, &pieces[0]);
    }
}

proptest! {
    #[test]
    fn a_time_leads_where_the_origin_would(
        shapes in shapes(),
        video: bool,
        start in prop_oneof![Just(0_u64), 0..500_u64],
        asked in prop::collection::vec((0..6_000_u64, any::<bool>()), 1..60),
        room in prop_oneof![Just(usize::MAX), 1_000..6_000_usize],
    ) {
        let pieces = file(&shapes, video, start);
        let trust = Trust { growing: LONG, ends: LONG };
        let cache = Cache::new(room, trust);
        let show = name("show");
        for (value, by_time) in asked {
            let (place, expected) = if by_time {
                (Place::Time(value), answer(&pieces, video, value))
            } else {
                let piece = &pieces[value as usize % pieces.len()];
                (Place::Offset(piece.first), piece)
            };
            match cache.find(&show, 1, place, || None) {
                Found::Piece(found) => prop_assert_eq!(found.first, expected.first, "{:?}", place),
                Found::Missing => {
                    cache.insert(&show, place, expected);
                    // At once it is there, however little room there is.
                    let found = cache.find(&show, 1, place, || None);
                    let Found::Piece(found) = found else {
                        return Err(TestCaseError::fail(format!("{place:?}: {found:?}")));
                    };
                    prop_assert!(Arc::ptr_eq(&found, expected));
                }
                other => prop_assert!(false, "{:?}", other),
            }
            prop_assert!(cache.bytes() <= room.max(expected.size()));
        }
    }
}
