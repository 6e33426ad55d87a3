use bytes::Bytes;
use proptest::prelude::*;

use std::sync::Arc;

use super::*;

mod model;

const VIDEO_HEADER: &[u8] = &[0x17, 0, 0, 0, 0];
const AUDIO_HEADER: &[u8] = &[0xaf, 0];

fn at(epoch: u64, sequence: u64) -> Offset {
    Offset {
        epoch: Epoch(epoch),
        sequence,
    }
}

fn frame(offset: Offset, timestamp: u64, kind: FrameKind, flags: FrameFlags) -> Frame {
    Frame {
        offset,
        timestamp,
        kind,
        flags,
        payload: Bytes::from_static(&[0; 10]),
    }
}

fn key(epoch: u64, sequence: u64, timestamp: u64) -> Frame {
    frame(
        at(epoch, sequence),
        timestamp,
        FrameKind::Video,
        FrameFlags::KEY,
    )
}

fn inter(epoch: u64, sequence: u64, timestamp: u64) -> Frame {
    frame(
        at(epoch, sequence),
        timestamp,
        FrameKind::Video,
        FrameFlags::empty(),
    )
}

fn audio(epoch: u64, sequence: u64, timestamp: u64) -> Frame {
    frame(
        at(epoch, sequence),
        timestamp,
        FrameKind::Audio,
        FrameFlags::empty(),
    )
}

fn header(epoch: u64, sequence: u64, kind: FrameKind, more: u8) -> Frame {
    let start = if kind == FrameKind::Video {
        VIDEO_HEADER
    } else {
        AUDIO_HEADER
    };
    Frame {
        payload: [start, &[more]].concat().into(),
        ..frame(at(epoch, sequence), 0, kind, FrameFlags::HEADER)
    }
}

fn metadata(epoch: u64, sequence: u64, name: &str, more: usize) -> Frame {
    let mut payload = vec![2, 0, name.len() as u8];
    payload.extend_from_slice(name.as_bytes());
    payload.resize(payload.len() + more, 5);
    Frame {
        payload: payload.into(),
        ..frame(
            at(epoch, sequence),
            0,
            FrameKind::Data,
            FrameFlags::METADATA,
        )
    }
}

fn clear(epoch: u64, sequence: u64, name: &str) -> Frame {
    Frame {
        flags: FrameFlags::CLEAR_METADATA,
        ..metadata(epoch, sequence, name, 0)
    }
}

/// 1 second, 1,000 bytes, 50 frames.
const SMALL: Retention = Retention {
    min_duration_ms: 1_000,
    max_bytes: 1_000,
    max_frames: 50,
};

fn window(retention: Retention, frames: impl IntoIterator<Item = Frame>) -> Window {
    let mut window = Window::new(retention);
    for frame in frames {
        assert!(window.push(frame).is_new());
    }
    window
}

fn offsets(read: Read<'_, Frame>) -> Vec<Offset> {
    match read {
        Read::Frames(frames) => frames.map(|frame| frame.offset).collect(),
        other => panic!("no frames: {other:?}"),
    }
}

fn read_all(window: &Window, offset: Offset) -> Vec<Offset> {
    offsets(window.read_from(offset, usize::MAX, usize::MAX))
}

#[test]
fn a_window_that_is_told_the_time_keeps_what_came_all_at_once() {
    let start = Instant::now();
    let mut window = window(Retention::default(), []);
    let ten_minutes = (0..600).map(|n| key(1, n, n * 1_000));
    window.tick(start);
    for frame in ten_minutes {
        assert!(window.push(frame).is_new());
    }
    assert_eq!(window.first_offset(), Some(at(1, 0)));
    for second in 1..=11 {
        window.tick(start + Duration::from_secs(second));
        let number = 599 + second;
        assert!(window.push(key(1, number, number * 1_000)).is_new());
        let first = window.first_offset().map_or(0, |first| first.sequence);
        if second < 10 {
            assert_eq!(first, 0, "after {second} seconds");
        }
    }
    let first = window.first_offset().map(|first| first.sequence);
    assert_eq!(first, Some(600), "now media time decides");
    // Need is stronger than time.
    window.set_retention(SMALL);
    assert!(window.bytes() <= SMALL.max_bytes);
}

#[test]
fn an_empty_window_has_nothing_yet() {
    let window: Window = Window::new(Retention::default());
    assert!(window.is_empty() && window.next_offset().is_none() && window.live_start().is_none());
    assert!(window.last().is_none() && window.first_offset().is_none());
    assert!(window.preface_at(at(1, 0)).is_empty());
    assert!(matches!(
        window.read_from(Offset::default(), 1, 1),
        Read::NotYet
    ));
}

#[test]
fn appending_is_idempotent() {
    let mut window = window(SMALL, [key(1, 0, 0), inter(1, 1, 40), inter(1, 2, 80)]);
    for sequence in 0..3 {
        assert_eq!(window.push(inter(1, sequence, 999)), Pushed::Duplicate);
    }
    assert_eq!(window.push(inter(0, 100, 999)), Pushed::Duplicate);
    assert_eq!(window.push(inter(1, 3, 120)), Pushed::Appended);
    assert_eq!(window.len(), 4);
    assert_eq!(window.next_offset(), Some(at(1, 4)));
    assert_eq!(window.last().map(|frame| frame.timestamp), Some(120));
}

#[test]
fn a_hole_restarts_the_window_and_keeps_what_is_in_force() {
    let mut window = window(SMALL, [header(1, 0, FrameKind::Video, 1), key(1, 1, 0)]);
    let expected = at(1, 2);
    assert_eq!(window.push(key(1, 5, 200)), Pushed::Restarted { expected });
    assert_eq!(window.len(), 1);
    assert_eq!(
        window.preface_at(at(1, 5)),
        [header(1, 0, FrameKind::Video, 1)]
    );
    for lost in [at(1, 0), at(1, 2), at(1, 4)] {
        assert!(
            matches!(window.read_from(lost, 1, 1), Read::Gap { to } if to == at(1, 5)),
            "{lost}"
        );
    }
    // Frame 0 of the later epoch is missing, so it is a hole too, and nothing of the old epoch stays in force.
    let expected = at(1, 6);
    assert_eq!(window.push(inter(2, 1, 0)), Pushed::Restarted { expected });
    assert!(window.preface_at(at(2, 1)).is_empty());
    assert_eq!(window.live_start(), Some(at(2, 1)));
}

#[test]
fn a_reader_passes_from_one_epoch_to_the_next() {
    let mut window = window(SMALL, [key(1, 7, 0), inter(1, 8, 40)]);
    assert_eq!(window.push(key(5, 0, 80)), Pushed::EpochStarted);
    assert_eq!(window.push(inter(5, 1, 120)), Pushed::Appended);

    assert_eq!(
        read_all(&window, at(1, 7)),
        [at(1, 7), at(1, 8)],
        "one epoch at a time"
    );
    assert_eq!(
        read_all(&window, at(1, 9)),
        [at(5, 0), at(5, 1)],
        "then the next one"
    );
    assert_eq!(
        read_all(&window, at(1, 99)),
        [at(5, 0), at(5, 1)],
        "also from beyond the end"
    );
    assert_eq!(read_all(&window, at(3, 0)), [at(5, 0), at(5, 1)]);
    assert!(matches!(window.read_from(at(5, 2), 9, 9), Read::NotYet));
    assert!(matches!(window.read_from(at(9, 0), 9, 9), Read::NotYet));
    assert!(matches!(window.read_from(at(1, 6), 9, 9), Read::Gap { to } if to == at(1, 7)));
}

#[test]
fn a_reader_passes_the_boundary_after_the_old_epoch_has_left() {
    let window = window(SMALL, [key(1, 0, 0), key(2, 0, 5_000)]);
    assert_eq!(
        window.first_offset(),
        Some(at(1, 0)),
        "epoch 2 is not a second long yet"
    );
    let window = self::window(SMALL, [key(1, 0, 0), key(2, 0, 5_000), inter(2, 1, 6_000)]);
    assert_eq!(window.first_offset(), Some(at(2, 0)), "epoch 1 has left");
    assert_eq!(
        read_all(&window, at(1, 1)),
        [at(2, 0), at(2, 1)],
        "nothing is missing"
    );
    assert!(matches!(window.read_from(at(1, 0), 1, 1), Read::Gap { .. }));
}

#[test]
fn reads_are_bounded_but_never_empty() {
    let window = window(SMALL, (0..10).map(|n| inter(1, n, n)));
    for (max_frames, max_bytes, expected) in [
        (3, usize::MAX, 3),
        (usize::MAX, 25, 2),
        (usize::MAX, 30, 3),
        (usize::MAX, 0, 1),
        (0, 0, 1),
        (100, 1_000, 8),
    ] {
        let read = offsets(window.read_from(at(1, 2), max_frames, max_bytes));
        assert_eq!(
            read.len(),
            expected,
            "{max_frames} frames, {max_bytes} bytes"
        );
        assert_eq!(read.first(), Some(&at(1, 2)));
    }
}

#[test]
fn old_gops_go_and_the_duration_stays() {
    let roomy = Retention {
        max_bytes: usize::MAX,
        max_frames: usize::MAX,
        ..SMALL
    };
    // A key frame every 400 ms, a frame every 40 ms.
    let frames = (0..1_000).map(|n| {
        if n % 10 == 0 {
            key(1, n, n * 40)
        } else {
            inter(1, n, n * 40)
        }
    });
    let mut window = Window::new(roomy);
    for frame in frames {
        let newest = frame.timestamp;
        assert!(window.push(frame).is_new());
        let first = window.iter().next().expect("not empty");
        assert!(first.flags.contains(FrameFlags::KEY));
        let kept = newest - first.timestamp;
        assert!(
            kept < 1_400 && (newest < 1_400 || kept >= 1_000),
            "{kept} ms at {newest}"
        );
    }
}

#[test]
fn the_newest_gop_stays_however_long() {
    let frames = std::iter::once(key(1, 0, 0)).chain((1..40).map(|n| inter(1, n, n * 1_000)));
    assert_eq!(window(SMALL, frames).first_offset(), Some(at(1, 0)));
}

#[test]
fn streams_without_key_frames_go_by_frames() {
    let window = window(SMALL, (0..1_000).map(|n| audio(1, n, n * 100)));
    assert_eq!(window.len(), 11);
    assert_eq!(window.live_start(), Some(at(1, 999)));
}

#[test]
fn the_bounds_hold_within_one_gop() {
    let tight = Retention {
        max_frames: 20,
        max_bytes: 155,
        ..SMALL
    };
    let mut window = window(
        tight,
        (0..100).map(|n| if n == 0 { key(1, 0, 0) } else { inter(1, n, n) }),
    );
    assert_eq!((window.len(), window.bytes()), (15, 150));
    assert_eq!(window.live_start(), Some(at(1, 99)), "no key frame is left");
    assert!(matches!(window.read_from(at(1, 3), 1, 1), Read::Gap { to } if to == at(1, 85)));

    let large = Frame {
        payload: Bytes::from(vec![0; 10_000]),
        ..inter(1, 100, 100)
    };
    let _ = window.push(large);
    assert_eq!(window.len(), 1, "the newest frame stays");
    let _ = window.push(inter(1, 101, 101));
    assert_eq!((window.len(), window.bytes()), (1, 10));
}

#[test]
fn retention_may_change() {
    let hold = Retention {
        min_duration_ms: u64::MAX,
        max_bytes: usize::MAX,
        max_frames: usize::MAX,
    };
    let mut window = window(hold, (0..100).map(|n| key(1, n, n * 1_000)));
    assert_eq!(window.len(), 100);
    window.set_retention(SMALL);
    assert_eq!(window.first_offset(), Some(at(1, 98)));
    assert_eq!(window.retention(), SMALL);
    assert!(matches!(window.read_from(at(1, 97), 1, 1), Read::Gap { to } if to == at(1, 98)));
    Window::<Frame>::new(hold).set_retention(SMALL);
}

#[test]
fn what_is_held_stays_up_to_the_bounds() {
    // A key frame each second, three more frames between.
    let frames = |range: std::ops::Range<u64>| {
        range.map(|n| match n % 4 {
            0 => key(1, n, n * 250),
            _ => inter(1, n, n * 250),
        })
    };
    let retention = Retention {
        min_duration_ms: 1_000,
        max_bytes: 600,
        max_frames: 1_000,
    };
    let mut window = Window::new(retention);
    window.hold_from(Some(at(1, 6)));
    for frame in frames(0..40) {
        let _ = window.push(frame);
    }
    // From the key frame before: groups go as a whole.
    assert_eq!(window.first_offset(), Some(at(1, 4)));
    window.hold_from(Some(at(1, 21)));
    assert_eq!(window.first_offset(), Some(at(1, 20)));
    for frame in frames(40..100) {
        let _ = window.push(frame);
    }
    // Sixty frames of ten bytes is all there may be.
    assert_eq!(window.first_offset(), Some(at(1, 40)));
    window.hold_from(None);
    assert_eq!(window.first_offset(), Some(at(1, 92)));
    // Without key frames by frames.
    let mut window = Window::new(retention);
    window.hold_from(Some(at(1, 6)));
    for n in 0..40 {
        let _ = window.push(audio(1, n, n * 250));
    }
    assert_eq!(window.first_offset(), Some(at(1, 6)));
}

#[test]
fn late_joiners_start_at_the_newest_key_frame() {
    let mut window = window(
        SMALL,
        [
            key(1, 0, 0),
            inter(1, 1, 40),
            key(1, 2, 80),
            audio(1, 3, 90),
        ],
    );
    assert_eq!(window.live_start(), Some(at(1, 2)));
    let _ = window.push(audio(1, 4, 80 + VIDEO_SILENCE_MS));
    assert_eq!(window.live_start(), Some(at(1, 2)));
    let _ = window.push(audio(1, 5, 81 + VIDEO_SILENCE_MS));
    assert_eq!(
        window.live_start(),
        Some(at(1, 5)),
        "the pictures have stopped"
    );
    let _ = window.push(audio(2, 0, 90));
    assert_eq!(
        window.live_start(),
        Some(at(2, 0)),
        "the key frame is another publisher's"
    );
}

#[test]
fn key_frames_are_found() {
    let window = window(
        SMALL,
        [
            inter(1, 0, 0),
            key(1, 1, 40),
            inter(1, 2, 80),
            key(1, 3, 120),
            key(2, 0, 150),
        ],
    );
    for (offset, before, after) in [
        (at(1, 0), None, Some(at(1, 1))),
        (at(1, 1), Some(at(1, 1)), Some(at(1, 1))),
        (at(1, 2), Some(at(1, 1)), Some(at(1, 3))),
        (at(1, 4), Some(at(1, 3)), Some(at(2, 0))),
        (at(2, 1), Some(at(2, 0)), None),
    ] {
        assert_eq!(window.key_at_or_before(offset), before, "{offset}");
        assert_eq!(window.key_at_or_after(offset), after, "{offset}");
    }
    assert_eq!(window.get(at(1, 3)).map(|frame| frame.timestamp), Some(120));
    assert!(window.get(at(1, 4)).is_none() && window.get(at(0, 0)).is_none());
}

#[test]
fn the_preface_is_what_is_in_force() {
    let frames = [
        header(1, 0, FrameKind::Audio, 1),
        header(1, 1, FrameKind::Video, 1),
        metadata(1, 2, "onMetaData", 1),
        key(1, 3, 0),
        metadata(1, 4, "second", 1),
        header(1, 5, FrameKind::Video, 2),
        metadata(1, 6, "onMetaData", 2),
        clear(1, 7, "second"),
        key(1, 8, 1),
        audio(2, 0, 2),
    ];
    let sequences = |window: &Window, offset| -> Vec<u64> {
        let preface = window.preface_at(offset);
        preface.iter().map(|frame| frame.offset.sequence).collect()
    };
    let small = window(
        Retention {
            max_frames: 2,
            ..SMALL
        },
        frames.clone(),
    );
    let window = window(SMALL, frames);
    for (offset, expected) in [
        (at(1, 0), vec![]),
        (at(1, 2), vec![1, 0]),
        (at(1, 3), vec![2, 1, 0]),
        (at(1, 6), vec![2, 4, 5, 0]),
        (at(1, 7), vec![6, 4, 5, 0]),
        (at(1, 8), vec![6, 5, 0]),
        (at(2, 0), vec![]),
        (at(1, 9), vec![]),
        (at(2, 1), vec![]),
    ] {
        assert_eq!(sequences(&window, offset), expected, "{offset}");
    }
    // The same once the headers have left the window.
    assert_eq!(small.first_offset(), Some(at(1, 8)));
    assert_eq!(sequences(&small, at(1, 8)), [6, 5, 0]);
    assert!(small.bytes() > 20, "the preface counts");
}

#[test]
fn a_preface_can_be_kept_without_a_window() {
    let mut preface = Preface::new();
    for frame in [
        header(1, 0, FrameKind::Video, 1),
        metadata(1, 1, "onMetaData", 1),
        header(1, 2, FrameKind::Video, 2),
    ] {
        preface.apply(&frame.slot(), &frame);
    }
    let in_force = [
        metadata(1, 1, "onMetaData", 1),
        header(1, 2, FrameKind::Video, 2),
    ];
    let bytes: usize = in_force.iter().map(WindowItem::size).sum();
    assert_eq!(preface.bytes(), bytes);
    assert_eq!(preface.clone().frames(Epoch(1)), in_force);
    assert!(preface.clone().frames(Epoch(2)).is_empty());
    let next = header(2, 0, FrameKind::Audio, 1);
    preface.apply(&next.slot(), &next);
    assert_eq!(preface.frames(Epoch(2)), [next]);
}

#[test]
fn a_new_owner_is_told_the_preface() {
    let preface = [
        metadata(3, 0, "onMetaData", 1),
        header(3, 1, FrameKind::Video, 1),
    ];
    let mut fresh = Window::new(SMALL);
    fresh.install_preface(preface.clone());
    assert_eq!(fresh.push(key(3, 50, 0)), Pushed::Appended);
    assert_eq!(fresh.preface_at(at(3, 50)), preface);

    // The same with an old epoch in the window, in either order.
    let mut old = window(SMALL, [header(2, 0, FrameKind::Video, 9), key(2, 1, 0)]);
    assert!(matches!(old.push(key(3, 50, 0)), Pushed::Restarted { .. }));
    old.install_preface(preface.clone());
    assert_eq!(old.preface_at(at(3, 50)), preface);

    let mut old = window(SMALL, [header(2, 0, FrameKind::Video, 9), key(2, 1, 0)]);
    old.restart(preface.clone());
    assert!(old.is_empty());
    assert_eq!(old.push(key(2, 1, 0)), Pushed::Duplicate);
    assert_eq!(old.push(key(3, 50, 0)), Pushed::Appended);
    assert_eq!(old.preface_at(at(3, 50)), preface);
    assert!(matches!(old.read_from(at(2, 2), 1, 1), Read::Gap { to } if to == at(3, 50)));

    // What is not older than the window's first frame is not in force before it; what has no slot is no preface.
    old.install_preface([header(3, 51, FrameKind::Video, 1), key(3, 1, 0)]);
    assert!(old.preface_at(at(3, 50)).is_empty());
}

#[test]
fn the_preface_is_bounded() {
    let mut window = Window::new(Retention {
        max_frames: 1,
        ..SMALL
    });
    for n in 0..1_000 {
        let _ = window.push(metadata(1, n, &format!("name {n}"), 0));
    }
    let preface = window.preface_at(at(1, 1_000));
    assert_eq!(preface.len(), MAX_PREFACE_SLOTS);
    // A codec header always finds a place.
    let _ = window.push(header(1, 1_000, FrameKind::Video, 1));
    let _ = window.push(key(1, 1_001, 0));
    let preface = window.preface_at(at(1, 1_001));
    assert_eq!(preface.len(), MAX_PREFACE_SLOTS);
    assert_eq!(
        preface.last().map(|frame| frame.kind),
        Some(FrameKind::Video)
    );

    let mut window = Window::new(Retention {
        max_frames: 1,
        ..SMALL
    });
    for n in 0..20 {
        let _ = window.push(metadata(1, n, &format!("name {n}"), MAX_PREFACE_BYTES / 10));
    }
    let _ = window.push(header(1, 20, FrameKind::Audio, 1));
    // One that is too large takes its predecessor out of force all the same.
    let _ = window.push(metadata(1, 21, "name 0", MAX_PREFACE_BYTES));
    let _ = window.push(audio(1, 22, 0));
    assert!(window.bytes() <= MAX_PREFACE_BYTES + 10);
    let preface = window.preface_at(at(1, 22));
    assert_eq!(preface.len(), 9, "eight metadata and the header");
    assert_eq!(preface.last(), Some(&header(1, 20, FrameKind::Audio, 1)));
}

#[test]
fn memory_is_given_back_after_a_peak() {
    let wide = Retention {
        max_frames: 100_000,
        max_bytes: usize::MAX,
        ..SMALL
    };
    let mut window = window(wide, (0..50_000).map(|n| audio(1, n, 0)));
    assert!(window.frames.capacity() >= 50_000);
    for n in 50_000..50_100 {
        let _ = window.push(audio(1, n, 1_000_000 + n * 100));
    }
    assert!(
        window.frames.capacity() < 200,
        "{}",
        window.frames.capacity()
    );
}

#[test]
fn shared_items_can_be_held() {
    let mut window: Window<Arc<Frame>> = Window::new(SMALL);
    let _ = window.push(Arc::new(header(1, 0, FrameKind::Video, 1)));
    let _ = window.push(Arc::new(key(1, 1, 0)));
    assert_eq!(window.live_start(), Some(at(1, 1)));
    assert_eq!(window.preface_at(at(1, 1)).len(), 1);
}
