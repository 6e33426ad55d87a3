//! Written and read back, cut and damaged everywhere, and read as a later version would write it.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::file::Grid;
use crate::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use crate::name::StreamName;

fn name() -> StreamName {
    StreamName::new("_defaultVHost_", "live", "_definst_", "show").unwrap()
}

fn header(number: u64) -> SegmentHeader {
    SegmentHeader {
        name: name(),
        generation: 7,
        number,
        term: 2,
        owner: "node-1".into(),
        writer: 0x0102_0304_0506_0708,
    }
}

fn frame(epoch: u64, sequence: u64, ms: u64, kind: FrameKind, flags: FrameFlags) -> Frame {
    Frame {
        offset: Offset {
            epoch: Epoch(epoch),
            sequence,
        },
        timestamp: ms,
        kind,
        flags,
        payload: Bytes::from(vec![sequence as u8; 3 + sequence as usize % 7]),
    }
}

/// Pictures every 40 ms with a key frame every second, and a header before.
fn pictures(count: u64) -> Vec<Frame> {
    (0..count)
        .map(|n| {
            let flags = match n {
                0 => FrameFlags::HEADER | FrameFlags::KEY,
                n if n % 25 == 1 => FrameFlags::KEY,
                _ => FrameFlags::empty(),
            };
            frame(5, n, n * 40, FrameKind::Video, flags)
        })
        .collect()
}

/// One segment of some frames, which go through `cutter`.
fn build(
    number: u64,
    at: &SegmentInfo,
    frames: &[Frame],
    cutter: &mut Cutter,
    flags: SegmentFlags,
) -> (Bytes, SegmentInfo, Vec<Point>) {
    let mut builder = SegmentBuilder::new(&header(number), at, 0);
    for frame in frames {
        let step = cutter.step(frame);
        if let Some(state) = step.begins {
            let place = builder.place();
            builder.preface(frames.first());
            let point = Point {
                ms: step.ms,
                first_start: step.starts.then_some(step.ms),
                state,
                ..Point::default()
            };
            builder.point(frame, place, point);
        }
        builder.frame(frame, step.ms, step.end_ms, step.starts);
    }
    builder.finish(flags)
}

fn sample() -> (Vec<Frame>, Bytes, SegmentInfo, Vec<Point>) {
    let frames = pictures(120);
    let mut cutter = Cutter::new(Grid::default());
    let start = SegmentInfo::default();
    let (data, info, points) = build(0, &start, &frames, &mut cutter, SegmentFlags::COMPLETE);
    (frames, data, info, points)
}

#[test]
fn a_segment_is_read_back() {
    let (frames, data, info, points) = sample();
    assert_eq!(
        (info.first, info.next),
        (frames[0].offset, frames[119].offset.next())
    );
    assert_eq!((info.start_ms, info.end_ms), (0, 120 * 40));
    assert_eq!(info.flags, SegmentFlags::COMPLETE | SegmentFlags::VIDEO);
    assert_eq!(info.length, data.len() as u64);
    let places: Vec<u64> = points.iter().map(|point| point.offset.sequence).collect();
    // The first frame, and the first key frames at or after 2 and 4 seconds.
    assert_eq!(places, [0, 51, 101]);
    let (read_header, read_info, read_points, decoded) = read_segment(&data).unwrap();
    assert_eq!(read_header, header(0));
    assert_eq!((read_info, read_points), (info.clone(), points.clone()));
    assert_eq!(decoded.frames, frames);
    assert_eq!(decoded.preface, frames[..1]);
    // A piece alone.
    let range = points[1].place as usize..points[2].place as usize;
    let piece = read_frames(data.slice(range), points[1].place).unwrap();
    assert_eq!(
        (piece.preface, piece.frames),
        (frames[..1].to_vec(), frames[51..101].to_vec())
    );
    // From the end alone.
    let tail = &data[data.len() - 400..];
    assert_eq!(read_summary(tail, info.length).unwrap(), (info, points));
}

#[test]
fn a_cut_or_damaged_segment_is_refused() {
    let (_, data, ..) = sample();
    for length in 0..data.len() {
        let cut = data.slice(..length);
        assert!(read_segment(&cut).is_err(), "cut to {length}");
        let _ = read_header(&cut);
        let _ = read_summary(&cut, data.len() as u64);
    }
    for at in 0..data.len() {
        let mut damaged = data.to_vec();
        damaged[at] ^= 1 << (at % 8);
        assert!(read_segment(&damaged.into()).is_err(), "byte {at}");
    }
}

#[test]
fn damage_in_a_piece_is_found_where_it_is() {
    let (_, data, info, points) = sample();
    let range = points[1].place as usize..info.records_end as usize;
    for at in range.clone() {
        let mut damaged = data.to_vec();
        damaged[at] ^= 0x40;
        let run = Bytes::from(damaged).slice(range.clone());
        let error = read_frames(run, points[1].place).unwrap_err();
        assert!(
            (points[1].place..=at as u64).contains(&error.offset),
            "{error} at {at}"
        );
    }
}

/// The bytes of version 1: they are on disks, so they must never change.
#[test]
fn the_bytes_of_a_segment_stay_as_they_are() {
    let frames = [frame(1, 2, 3, FrameKind::Audio, FrameFlags::empty())];
    let mut cutter = Cutter::new(Grid::default());
    let (data, ..) = build(
        0,
        &SegmentInfo::default(),
        &frames,
        &mut cutter,
        SegmentFlags::TAKE_OVER,
    );
    assert_eq!(
        hex(&data),
        include_str!("tests/segment-1.hex").replace('\n', "")
    );
    let mut out = BytesMut::new();
    journal_head(&mut out);
    journal_opened(3, &name(), 7, &mut out);
    journal_frame(3, &frames[0], &mut out);
    journal_closed(3, &mut out);
    assert_eq!(
        hex(&out),
        include_str!("tests/journal-1.hex").replace('\n', "")
    );
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fields behind those that we know, and records that we do not.
#[test]
fn what_a_later_version_adds_is_skipped() {
    let (_, data, info, points) = sample();
    // A record of another type between two frames.
    let (before, after) = data.split_at(points[1].place as usize);
    let mut run = BytesMut::from(&before[points[0].place as usize..]);
    let other = [99, 1, 2, 3];
    run.put_u32(other.len() as u32);
    run.put_u32(crc32fast::hash(&other));
    run.put_slice(&other);
    run.put_slice(&after[..info.records_end as usize - before.len()]);
    assert_eq!(read_frames(run.freeze(), 0).unwrap().frames.len(), 120);

    // A longer head of a frame.
    let mut body = BytesMut::new();
    body.put_slice(&[2, 31]);
    body.put_slice(&[0; 8 + 8 + 8]);
    body.put_slice(&[1, 0, 0, 0, 1, 0xee, 0xee]);
    body.put_slice(b"payload");
    let mut run = BytesMut::new();
    run.put_u32(body.len() as u32);
    run.put_u32(crc32fast::hash(&body));
    run.put_slice(&body);
    let read = read_frames(run.freeze(), 0).unwrap();
    assert_eq!(read.frames[0].payload, "payload");

    // More fields in the footer.
    let footer = info.records_end as usize..data.len() - 24;
    let mut longer = BytesMut::from(&data[footer]);
    longer.put_slice(&[7; 12]);
    let length = longer.len();
    let total = info.length + 12;
    let place = 8 * 10 + 4 + 16;
    longer[place..place + 8].copy_from_slice(&total.to_be_bytes());
    let crc = crc32fast::hash(&longer);
    longer.put_u32(length as u32);
    longer.put_u32(crc);
    longer.put_slice(&data[data.len() - 16..]);
    let (read, read_points) = read_summary(&longer, total).unwrap();
    assert_eq!((read.next, read_points), (info.next, points));
}

#[test]
fn an_index_is_read_back_and_damage_refused() {
    let frames = pictures(300);
    let mut cutter = Cutter::new(Grid::default());
    let mut index = Index::new();
    for (number, some) in frames.chunks(70).enumerate() {
        let at = index.last().cloned().unwrap_or_default();
        let (_, info, points) = build(number as u64, &at, some, &mut cutter, SegmentFlags::empty());
        index.push(info, points).unwrap();
    }
    assert_eq!(index.next(), Some(frames[299].offset.next()));
    let data = index.encode();
    assert_eq!(Index::decode(&data).unwrap(), index);
    for length in 0..data.len() {
        assert!(Index::decode(&data[..length]).is_err(), "cut to {length}");
    }
    for at in 0..data.len() {
        let mut damaged = data.to_vec();
        damaged[at] ^= 1 << (at % 8);
        assert!(Index::decode(&damaged).is_err(), "byte {at}");
    }
    // Pieces of two seconds in segments of 2.8.
    let parts = index.parts(1);
    assert_eq!(
        parts.iter().map(|part| part.segment).collect::<Vec<_>>(),
        [0, 1]
    );
    assert_eq!(index.piece_at(frames[75].offset), Some(1));
    assert_eq!(index.piece_at(frames[50].offset), Some(0));
    assert_eq!(index.piece_at_time(4_040), Some(2));
    assert_eq!(index.piece_at_time(2_039), Some(0));
}

#[test]
fn an_index_goes_on_without_its_first_segments() {
    let frames = pictures(601);
    let mut cutter = Cutter::new(Grid::default());
    let mut index = Index::new();
    // Pieces of two seconds: every other segment begins with one.
    let (first, rest) = frames.split_at(26);
    for (number, some) in [first].into_iter().chain(rest.chunks(25)).enumerate() {
        let at = index.last().cloned().unwrap_or_default();
        let (_, info, points) = build(number as u64, &at, some, &mut cutter, SegmentFlags::empty());
        index.push(info, points).unwrap();
    }
    let (whole, start) = (index.clone(), index.start());
    assert_eq!(index.first_to_keep(frames[50].timestamp), None);
    assert_eq!(index.first_to_keep(frames[51].timestamp), Some(2));
    assert_eq!(index.first_to_keep(frames[100].timestamp), Some(2));
    assert_eq!(index.first_to_keep(u64::MAX), Some(22));
    // Not where a piece goes on.
    index.drop_before(3);
    assert_eq!(index, whole);
    index.drop_before(4);
    assert_eq!((index.first_number(), index.next_number()), (4, 24));
    assert_eq!(
        index.start(),
        Some((frames[101].offset, frames[101].timestamp))
    );
    assert_eq!(index.origin_ms(), start.map(|(_, ms)| ms));
    assert_eq!(index.piece_at(frames[100].offset), None);
    assert_eq!(index.piece_at(frames[150].offset), Some(0));
    assert_eq!(index.piece_at(frames[151].offset), Some(1));
    assert_eq!(index.parts(0), whole.parts(2));
    assert_eq!(index.parts(9), whole.parts(11));
    assert_eq!(index.first_to_keep(frames[101].timestamp), None);
    let media: u64 = frames[101..]
        .iter()
        .map(|frame| frame.payload.len() as u64)
        .sum();
    assert_eq!(index.bytes(), media);
    assert!(index.stored_bytes() < whole.stored_bytes());
    assert_eq!(Index::decode(&index.encode()).unwrap(), index);
    // And never all of it.
    index.drop_before(u64::MAX);
    assert_eq!(index.first_number(), 4);
}

#[test]
fn a_segment_that_does_not_follow_is_refused() {
    let (_, _, info, points) = sample();
    let refused = |change: fn(&mut SegmentInfo)| {
        let mut index = Index::new();
        index.push(info.clone(), points.clone()).unwrap();
        let mut next = SegmentInfo {
            number: 1,
            first: info.next,
            next: info.next,
            frames: 0,
            start_ms: info.end_ms,
            ..info.clone()
        };
        change(&mut next);
        let before = index.clone();
        let pushed = index.push(next, Vec::new());
        assert!(pushed.is_ok() || index == before);
        pushed.is_err()
    };
    assert!(!refused(|_| {}));
    assert!(refused(|next| next.number = 2));
    assert!(refused(|next| next.number = 0));
    assert!(refused(|next| next.term = 1));
    assert!(refused(|next| next.first.sequence -= 1));
    assert!(refused(|next| next.end_ms -= 1));
}

#[test]
fn a_journal_is_read_up_to_its_last_whole_record() {
    let frames = pictures(5);
    let mut out = BytesMut::new();
    journal_head(&mut out);
    let mut expected = Vec::new();
    let mut ends = vec![out.len()];
    journal_opened(3, &name(), 7, &mut out);
    expected.push(JournalEntry::Opened {
        recording: 3,
        name: name(),
        generation: 7,
    });
    ends.push(out.len());
    for frame in &frames {
        journal_frame(3, frame, &mut out);
        expected.push(JournalEntry::Frame {
            recording: 3,
            frame: frame.clone(),
        });
        ends.push(out.len());
    }
    journal_closed(3, &mut out);
    expected.push(JournalEntry::Closed { recording: 3 });
    ends.push(out.len());
    let read = |data: &[u8]| {
        let mut entries = Vec::new();
        let Some(mut reader) = JournalReader::new(data).unwrap() else {
            return (entries, 0);
        };
        while let Some((range, entry)) = reader.next_entry().unwrap() {
            assert_eq!(range.end, reader.place());
            entries.push(entry);
        }
        (entries, reader.place())
    };
    for length in 0..=out.len() {
        let whole = ends.iter().filter(|end| **end <= length).count();
        let (entries, place) = read(&out[..length]);
        assert_eq!(
            entries,
            expected[..whole.saturating_sub(1)],
            "cut to {length}"
        );
        let end = whole.checked_sub(1).map_or(0, |last| ends[last]);
        assert_eq!(place, end as u64, "cut to {length}");
        // What was there before is no longer, but its room is.
        let mut zeroed = out[..length].to_vec();
        zeroed.resize(out.len() + 100, 0);
        if length >= JOURNAL_HEAD {
            let (entries, _) = read(&zeroed);
            assert!(entries.len() + 1 >= whole && expected.starts_with(&entries));
        }
    }
    for at in JOURNAL_HEAD..out.len() {
        let mut damaged = out.to_vec();
        damaged[at] ^= 2;
        let whole = ends.iter().filter(|end| **end <= at).count();
        assert_eq!(read(&damaged).0, expected[..whole - 1], "byte {at}");
    }
    assert!(JournalReader::new(&b"HWJOURNL\0\x02rest"[..]).is_err());
}

#[test]
fn pieces_are_cut_by_time_and_by_size() {
    use FrameKind::{Audio, Data, Video};
    let (key, none, headers) = (FrameFlags::KEY, FrameFlags::empty(), FrameFlags::HEADER);
    let grid = Grid {
        every_ms: 100,
        max_bytes: 1_000,
    };
    // Kind, flags, ms, payload; whether it begins a piece, and whether a decoder can start there.
    let rows = [
        (Data, FrameFlags::METADATA, 1_000, 10, true, true),
        (Video, headers | key, 1_000, 10, false, false),
        (Video, key, 1_010, 10, false, true),
        // No start, where there is video.
        (Audio, none, 1_110, 10, false, false),
        (Video, none, 1_120, 10, false, false),
        (Video, key, 1_150, 10, true, true),
        (Video, key, 1_190, 10, false, true),
        (Video, key, 1_200, 10, true, true),
        // Too large for the same piece, and too large at all.
        (Video, none, 1_201, 900, true, false),
        (Video, none, 1_202, 9_000, true, false),
        (Video, none, 1_203, 10, true, false),
        (Video, key, 1_250, 10, false, true),
        // Back in time, and far ahead.
        (Video, key, 1_100, 10, false, true),
        (Video, key, 9_999, 10, true, true),
        (Video, key, 9_999, 10, false, true),
    ];
    let mut cutter = Cutter::new(grid);
    for (at, (kind, flags, ms, length, begins, starts)) in rows.into_iter().enumerate() {
        let mut frame = frame(1, at as u64, ms, kind, flags);
        frame.payload = Bytes::from(vec![0; length]);
        let step = cutter.step(&frame);
        assert_eq!(
            (step.begins.is_some(), step.starts),
            (begins, starts),
            "frame {at}"
        );
    }
    // Sound alone, in an epoch of its own.
    let mut begun = Vec::new();
    for n in 0..30 {
        let step = cutter.step(&frame(2, n, 10_000 + n * 20, Audio, none));
        assert!(step.starts);
        if step.begins.is_some() {
            begun.push(n);
        }
    }
    assert_eq!(begun, [0, 5, 10, 15, 20, 25]);
}

#[test]
fn frames_without_payload_do_not_make_an_endless_piece() {
    let mut cutter = Cutter::new(Grid::default());
    let mut longest = 0;
    let mut length = 0;
    for n in 0..100_000 {
        let mut frame = frame(1, n, 0, FrameKind::Data, FrameFlags::empty());
        frame.payload = Bytes::new();
        length = if cutter.step(&frame).begins.is_some() {
            1
        } else {
            length + 1
        };
        longest = longest.max(length);
    }
    assert_eq!(longest, (1 << 20) / 64);
}

prop_compose! {
    fn any_frames()(
        parts in prop::collection::vec(
            (0..3_u8, 0..32_u32, any::<u16>(), 0..300_usize, 0..20_u8), 1..80
        ),
    ) -> Vec<Frame> {
        let (mut epoch, mut sequence) = (1, 0);
        parts.into_iter().map(|(kind, flags, ms, length, jump)| {
            if jump == 0 {
                epoch += 1;
                sequence = 0;
            }
            sequence += 1 + u64::from(jump == 1);
            Frame {
                offset: Offset { epoch: Epoch(epoch), sequence },
                timestamp: ms.into(),
                kind: [FrameKind::Audio, FrameKind::Video, FrameKind::Data][usize::from(kind)],
                flags: FrameFlags::from_bits_retain(flags),
                payload: Bytes::from(vec![kind; length]),
            }
        }).collect()
    }
}

proptest! {
    /// Any frames, cut into any segments: every piece is read back, and a cutter that is resumed at any of them goes on alike.
    #[test]
    fn pieces_survive_segments(frames in any_frames(), segment in 1..40_usize) {
        let grid = Grid { every_ms: 500, max_bytes: 900 };
        let mut cutter = Cutter::new(grid);
        let (mut index, mut objects) = (Index::new(), Vec::new());
        for (number, some) in frames.chunks(segment).enumerate() {
            let at = index.last().cloned().unwrap_or_default();
            let (data, info, points) =
                build(number as u64, &at, some, &mut cutter, SegmentFlags::empty());
            let (_, read_info, read_points, decoded) = read_segment(&data).unwrap();
            prop_assert_eq!((&read_info, &read_points), (&info, &points));
            prop_assert_eq!(&decoded.frames[..], some);
            index.push(info, points).unwrap();
            objects.push(data);
        }
        prop_assert_eq!(&Index::decode(&index.encode()).unwrap(), &index);
        let mut all = Vec::new();
        for (piece, point) in index.points().iter().enumerate() {
            let mut read = Vec::new();
            for part in index.parts(piece) {
                let range = part.range.start as usize..part.range.end as usize;
                let data = objects[part.segment as usize].slice(range);
                read.extend(read_frames(data, part.range.start).unwrap().frames);
            }
            prop_assert_eq!(read[0].offset, point.offset);
            prop_assert_eq!(index.piece_at(read.last().unwrap().offset), Some(piece));
            let start = index.start().unwrap().1;
            let end = index.last().unwrap().end_ms;
            let mut resumed = Cutter::resume(grid, start, point, end);
            let rest = frames.iter().filter(|frame| frame.offset >= point.offset);
            let begun: Vec<Offset> = rest
                .filter(|frame| resumed.step(frame).begins.is_some())
                .map(|frame| frame.offset)
                .collect();
            let expected: Vec<Offset> =
                index.points()[piece + 1..].iter().map(|point| point.offset).collect();
            prop_assert_eq!(begun, expected);
            all.extend(read);
        }
        prop_assert_eq!(all, frames);
    }

    #[test]
    fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..400)) {
        let data = Bytes::from(data);
        let _ = read_segment(&data);
        let _ = read_header(&data);
        let _ = read_summary(&data, 1 << 20);
        let _ = read_frames(data.clone(), 0);
        let _ = Index::decode(&data);
        let mut reader = JournalReader::at(&data[..], 0);
        while let Ok(Some(_)) = reader.next_entry() {}
    }
}

#[test]
fn the_latest_time_there_can_be_is_read_back_as_what_was_told() {
    for flags in [FrameFlags::KEY, FrameFlags::empty()] {
        let frames = [frame(5, 0, u64::MAX, FrameKind::Video, flags)];
        let mut cutter = Cutter::new(Grid::default());
        let start = SegmentInfo::default();
        let (data, info, points) = build(0, &start, &frames, &mut cutter, SegmentFlags::empty());
        let (_, read_info, read_points, read) = read_segment(&data).unwrap();
        assert_eq!((read_info, read_points), (info, points));
        assert_eq!(read.frames, frames);
    }
}
