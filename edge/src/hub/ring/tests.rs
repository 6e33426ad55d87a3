//! What a ring holds, gives out and forgets.

use bytes::Bytes;

use super::*;

const CHUNK: u32 = 4096;

fn ring() -> Ring {
    Ring::new(RingLimits {
        duration_ms: 1_000,
        bytes: 1 << 20,
        entries: 1_000,
    })
}

fn frame(epoch: u64, sequence: u64, timestamp: u64, kind: FrameKind, flags: FrameFlags) -> Frame {
    Frame {
        offset: Offset {
            epoch: Epoch(epoch),
            sequence,
        },
        timestamp,
        kind,
        flags,
        payload: Bytes::from_static(&[0x17, 1, 0, 0, 0, 1, 2, 3]),
    }
}

fn video(epoch: u64, sequence: u64, key: bool) -> Frame {
    let flags = if key {
        FrameFlags::KEY
    } else {
        FrameFlags::empty()
    };
    frame(epoch, sequence, sequence * 40, FrameKind::Video, flags)
}

/// The ring's entries in short: K and f for frames, H for headers, P and U for the publisher's coming and going.
fn sketch(ring: &Ring) -> String {
    let letter = |entry: &Entry| match entry {
        Entry::Published => 'P',
        Entry::Unpublished => 'U',
        Entry::Frame(entry) if entry.frame.is_header() => 'H',
        Entry::Frame(entry) if entry.frame.is_key() => 'K',
        Entry::Frame(_) => 'f',
    };
    ring.pull(0).entries.iter().map(letter).collect()
}

#[test]
fn a_stream_that_is_there_announces_nothing() {
    let mut ring = ring();
    ring.open(true, Epoch(1), &[], CHUNK);
    for n in 0..3 {
        assert!(ring.push(&video(1, n, n == 0), CHUNK));
    }
    assert_eq!(sketch(&ring), "Kff");
    assert_eq!(ring.next_offset().map(|o| o.sequence), Some(3));
}

#[test]
fn a_stream_that_was_waited_for_is_announced() {
    let mut ring = ring();
    ring.open(false, Epoch(0), &[], CHUNK);
    assert!(!ring.publishing());
    ring.set_published(Epoch(1));
    ring.push(&video(1, 0, true), CHUNK);
    ring.set_unpublished();
    ring.set_published(Epoch(2));
    ring.push(&video(2, 0, true), CHUNK);
    assert_eq!(sketch(&ring), "PKUPK");
}

#[test]
fn a_failover_repeats_and_announces_nothing() {
    let mut ring = ring();
    ring.open(true, Epoch(1), &[], CHUNK);
    for n in 0..5 {
        ring.push(&video(1, n, n == 0), CHUNK);
    }
    // The next owner: first without the publisher, then with it, from a little before where we were.
    ring.open(false, Epoch(0), &[], CHUNK);
    ring.open(true, Epoch(1), &[], CHUNK);
    for n in 3..7 {
        assert_eq!(ring.push(&video(1, n, false), CHUNK), n >= 5);
    }
    assert_eq!(sketch(&ring), "Kffffff");
}

#[test]
fn a_publisher_that_comes_back_is_a_new_epoch() {
    let mut ring = ring();
    ring.open(true, Epoch(1), &[], CHUNK);
    let header = frame(1, 0, 0, FrameKind::Video, FrameFlags::HEADER);
    ring.push(&header, CHUNK);
    ring.push(&video(1, 1, true), CHUNK);
    ring.push(&video(2, 0, true), CHUNK);
    assert_eq!(
        sketch(&ring),
        "HKUPK",
        "told even if the status itself was lost in a failover"
    );
    let newest = ring.pull(ring.live_start()).entries.remove(0);
    let Entry::Frame(entry) = newest else {
        panic!("{newest:?}");
    };
    assert!(
        entry.preface.is_empty(),
        "headers of the publisher before are not for this one"
    );
}

#[test]
fn a_late_joiner_starts_at_the_newest_key_frame_with_its_headers() {
    let mut ring = ring();
    let header = frame(1, 0, 0, FrameKind::Video, FrameFlags::HEADER);
    ring.open(true, Epoch(1), &[header], CHUNK);
    for n in 10..40 {
        ring.push(&video(1, n, n % 10 == 0), CHUNK);
    }
    let pulled = ring.pull(ring.live_start());
    let Some(Entry::Frame(first)) = pulled.entries.first() else {
        panic!("no frame");
    };
    assert!(first.frame.is_key());
    assert_eq!(first.frame.offset.sequence, 30);
    assert_eq!(first.preface.len(), 1);
}

#[test]
fn without_video_a_late_joiner_starts_at_the_newest_frame() {
    let mut ring = ring();
    ring.open(true, Epoch(1), &[], CHUNK);
    for n in 0..10 {
        let audio = frame(1, n, n * 20, FrameKind::Audio, FrameFlags::empty());
        ring.push(&audio, CHUNK);
    }
    assert_eq!(ring.live_start(), 9);
    ring.set_unpublished();
    assert_eq!(
        ring.live_start(),
        ring.next_number(),
        "nothing to see any more"
    );
}

#[test]
fn the_ring_is_bounded_in_time_bytes_and_entries() {
    let mut ring = ring();
    ring.open(true, Epoch(1), &[], CHUNK);
    let start = Instant::now();
    for n in 0..500 {
        ring.tick(start + Duration::from_millis(40 * n));
        ring.push(&video(1, n, n % 10 == 0), CHUNK);
    }
    // A second of 25 frames, and back to a key frame at most.
    assert!(ring.entries.len() <= 37, "{}", ring.entries.len());
    let mut small = Ring::new(RingLimits {
        duration_ms: 1_000_000,
        bytes: 2_000,
        entries: 5,
    });
    small.open(true, Epoch(1), &[], CHUNK);
    for n in 0..500 {
        small.push(&video(1, n, n == 0), CHUNK);
        assert!(small.entries.len() <= 5);
        assert!(small.bytes <= 2_000);
    }
    assert_eq!(
        small.keys.len(),
        0,
        "the key frame went, and is not offered to late joiners"
    );
    assert_eq!(small.live_start(), small.next_number());
}

#[test]
fn what_comes_all_at_once_stays_for_as_long_as_what_comes_in_time() {
    let mut ring = ring();
    ring.open(true, Epoch(1), &[], CHUNK);
    let start = Instant::now();
    ring.tick(start);
    for n in 0..500 {
        ring.push(&video(1, n, n % 10 == 0), CHUNK);
    }
    assert_eq!(ring.entries.len(), 500, "20 seconds of media in no time");
    ring.tick(start + Duration::from_millis(900));
    ring.push(&video(1, 500, true), CHUNK);
    assert_eq!(ring.entries.len(), 501, "somebody may still be at it");
    ring.tick(start + Duration::from_millis(1_001));
    ring.push(&video(1, 501, false), CHUNK);
    assert!(ring.entries.len() <= 37, "{}", ring.entries.len());
}

#[test]
fn a_place_that_nobody_knows_is_forgotten() {
    let mut ring = ring();
    ring.open(true, Epoch(9), &[], CHUNK);
    ring.push(&video(9, 0, true), CHUNK);
    ring.forget_place();
    assert_eq!(ring.next_offset(), None);
    ring.open(true, Epoch(5), &[], CHUNK);
    assert!(
        ring.push(&video(5, 7, true), CHUNK),
        "an owner whose clock is behind"
    );
    assert_eq!(sketch(&ring), "KUPK");
}

#[test]
fn a_reader_joins_at_any_frame_that_is_held() {
    let at = |epoch, sequence| Offset {
        epoch: Epoch(epoch),
        sequence,
    };
    let mut ring = ring();
    assert_eq!(ring.place_of(at(1, 0)), None, "nothing is known");
    ring.open(true, Epoch(1), &[], CHUNK);
    for n in 10..20 {
        ring.push(&video(1, n, n == 10), CHUNK);
    }
    ring.push(&video(2, 0, true), CHUNK);
    assert_eq!(sketch(&ring), "KfffffffffUPK");
    for (offset, place) in [
        (at(1, 9), None),
        (at(1, 10), Some(0)),
        (at(1, 11), Some(1)),
        (at(1, 19), Some(9)),
        // It is told of the change of publishers.
        (at(1, 20), Some(10)),
        (at(2, 0), Some(10)),
        (at(2, 1), Some(13)),
        (at(2, 2), None),
    ] {
        assert_eq!(ring.place_of(offset), place, "{offset}");
    }
    let mut waiting = Ring::new(ring.limits);
    waiting.open(false, Epoch(0), &[], CHUNK);
    waiting.set_published(Epoch(1));
    assert_eq!(waiting.place_of(at(1, 0)), Some(1));
}

#[test]
fn a_reader_does_not_join_in_a_gap() {
    let at = |epoch, sequence| Offset {
        epoch: Epoch(epoch),
        sequence,
    };
    let places = |ring: &Ring, cases: &[(Offset, Option<u64>)]| {
        for (offset, place) in cases {
            assert_eq!(ring.place_of(*offset), *place, "{offset}");
        }
    };
    let mut ring = ring();
    ring.open(true, Epoch(1), &[], CHUNK);
    for n in 98..=100 {
        ring.push(&video(1, n, n == 98), CHUNK);
    }
    // This edge was too slow for its origin.
    ring.skip_to(at(1, 200), &[], CHUNK);
    let gap = [
        (at(1, 100), Some(2)),
        (at(1, 101), None),
        (at(1, 150), None),
        (at(1, 200), Some(3)),
    ];
    places(&ring, &gap);
    ring.push(&video(1, 200, true), CHUNK);
    places(&ring, &gap);
    places(&ring, &[(at(1, 201), Some(4))]);
    // And once more, beyond the end of this publisher's run.
    ring.skip_to(at(2, 30), &[], CHUNK);
    ring.push(&video(2, 30, true), CHUNK);
    assert_eq!(sketch(&ring), "KffKUPK");
    places(
        &ring,
        &[
            (at(1, 200), Some(3)),
            (at(1, 201), None),
            (at(1, 260), None),
            (at(2, 0), None),
            (at(2, 30), Some(4)),
            (at(2, 31), Some(7)),
        ],
    );
}

#[test]
fn a_read_that_breaks_before_its_first_frame_starts_live_again() {
    let mut ring = ring();
    ring.open(true, Epoch(1), &[], CHUNK);
    assert_eq!(ring.next_offset(), None);
    let mut waiting = Ring::new(ring.limits);
    waiting.open(false, Epoch(0), &[], CHUNK);
    waiting.set_published(Epoch(1));
    let first = waiting.next_offset().map(|next| next.sequence);
    assert_eq!(first, Some(0), "but who waited misses nothing");
}

#[test]
fn numbers_have_no_holes() {
    let mut ring = ring();
    ring.open(true, Epoch(1), &[], CHUNK);
    let mut seen = 0;
    for n in 0..200 {
        ring.push(&video(1, n, n % 25 == 0), CHUNK);
        let pulled = ring.pull(seen);
        assert_eq!(pulled.first, seen, "a worker that keeps up misses nothing");
        seen += pulled.entries.len() as u64;
    }
    let late = ring.pull(0);
    assert_eq!(
        late.first, late.base,
        "a worker that fell out goes on at the oldest"
    );
}
