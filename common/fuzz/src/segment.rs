//! What recordings are stored as: segments, the index over them, the journal.
//!
//! Everything stored has checksums, which random changes break. So the first byte of the input chooses a part, and the rest gets checksums
//! that fit before it is read.

use bytes::{BufMut, Bytes, BytesMut};
use headwater_media::file::Grid;
use headwater_media::name::StreamName;
use headwater_media::segment::{
    Cutter, Index, JournalEntry, JournalReader, Point, SegmentBuilder, SegmentFlags, SegmentHeader,
    SegmentInfo, journal_closed, journal_frame, journal_head, journal_opened, read_frames,
    read_header, read_segment, read_summary, read_trailer,
};

/// Longest record of the input, in bytes.
const RECORD: usize = 4_096;

/// What stands behind the footer fields of a segment.
const TRAILER: usize = 24;

/// Segments, indexes and journals.
pub fn segment(data: &[u8]) {
    let Some((part, data)) = data.split_first() else {
        return;
    };
    match part % 5 {
        0 => whole(&Bytes::copy_from_slice(data)),
        1 => footer(data),
        2 => frames(data),
        3 => index(data),
        _ => journal(data),
    }
}

fn whole(data: &Bytes) {
    let _ = read_header(data);
    let _ = read_trailer(data, data.len() as u64);
    if let Ok((header, info, points, decoded)) = read_segment(data) {
        assert_eq!(decoded.frames.len() as u64, info.frames);
        let mut index = Index::new();
        let followed = index.push(info, points);
        assert!(followed.is_err() || header.number == 0);
    }
}

/// The fields of a footer, with a trailer behind them, at the end of an object as long as they say.
fn footer(data: &[u8]) {
    // Where the length stands: behind ten numbers, the flags, and two more numbers.
    let length = data
        .get(8 * 10 + 4 + 16..)
        .and_then(|rest| rest.first_chunk());
    let Some(length) = length.copied().map(u64::from_be_bytes) else {
        return;
    };
    let mut tail = BytesMut::from(data);
    tail.put_u32(data.len() as u32);
    tail.put_u32(crc32fast::hash(data));
    tail.put_u32(0);
    tail.put_u32(1);
    tail.put_slice(b"HWSEGEND");
    if let Ok((info, points)) = read_summary(&tail, length) {
        assert_eq!(info.length, length);
        assert_eq!(info.records_end + (data.len() + TRAILER) as u64, length);
        assert!(points.len() * 8 <= data.len());
        push(&mut Index::new(), info, points);
    }
}

fn push(index: &mut Index, info: SegmentInfo, points: Vec<Point>) {
    if index.push(info, points).is_err() {
        return;
    }
    for (piece, point) in index.points().iter().enumerate() {
        assert_eq!(index.piece_at(point.offset), Some(piece));
        for part in index.parts(piece) {
            assert!(part.range.start < part.range.end);
        }
    }
    let again = Index::decode(&index.encode()).expect("what was encoded can be decoded");
    assert_eq!(&again, index, "encoding is stable");
}

/// Gives each record of a run a checksum that fits.
fn sealed(data: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    let mut rest = data;
    while let Some((head, behind)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize % RECORD;
        let (body, behind) = behind.split_at(length.min(behind.len()));
        out.put_u32(body.len() as u32);
        out.put_u32(crc32fast::hash(body));
        out.put_slice(body);
        rest = behind;
    }
    out.freeze()
}

/// Frames that are read can be cut into pieces, written and read again.
fn frames(data: &[u8]) {
    let Ok(decoded) = read_frames(sealed(data), 0) else {
        return;
    };
    let Ok(name) = StreamName::new("v", "a", "i", "s") else {
        return;
    };
    let header = SegmentHeader {
        name,
        generation: 1,
        number: 0,
        term: 1,
        owner: String::new(),
        writer: 0,
    };
    // The last number of all has none after it; a writer refuses it.
    if decoded
        .frames
        .iter()
        .any(|frame| frame.offset.sequence == u64::MAX)
    {
        return;
    }
    let mut builder = SegmentBuilder::new(&header, &SegmentInfo::default(), 0);
    let mut cutter = Cutter::new(Grid {
        every_ms: 100,
        max_bytes: 256,
    });
    for frame in &decoded.frames {
        let step = cutter.step(frame);
        if let Some(state) = step.begins {
            let place = builder.place();
            builder.preface(&decoded.preface);
            let point = Point {
                ms: step.ms,
                state,
                ..Default::default()
            };
            builder.point(frame, place, point);
        }
        builder.frame(frame, step.ms, step.end_ms, step.starts);
    }
    let (data, info, points) = builder.finish(SegmentFlags::empty());
    let read = read_segment(&data).expect("what was written can be read");
    assert_eq!((&read.1, &read.2), (&info, &points));
    assert_eq!(read.3.frames, decoded.frames);
    push(&mut Index::new(), info, points);
}

fn index(data: &[u8]) {
    let mut sealed = BytesMut::from(data);
    sealed.put_u32(crc32fast::hash(data));
    if let Ok(index) = Index::decode(&sealed) {
        let again = Index::decode(&index.encode()).expect("what was encoded can be decoded");
        assert_eq!(again, index, "encoding is stable");
        for piece in 0..index.points().len() {
            assert!(index.parts(piece).len() <= index.segments().len());
        }
        let _ = index.piece_at_time(u64::from(data.len() as u32));
    }
}

/// A journal that is read can be written and read again.
fn journal(data: &[u8]) {
    let _ = JournalReader::new(data);
    let mut out = BytesMut::new();
    journal_head(&mut out);
    out.put_slice(&sealed(data));
    let entries = entries(&out);
    let mut again = BytesMut::new();
    journal_head(&mut again);
    for entry in &entries {
        match entry {
            JournalEntry::Opened {
                recording,
                name,
                generation,
            } => journal_opened(*recording, name, *generation, &mut again),
            JournalEntry::Frame { recording, frame } => {
                journal_frame(*recording, frame, &mut again);
            }
            JournalEntry::Closed { recording } => journal_closed(*recording, &mut again),
        }
    }
    assert_eq!(entries, self::entries(&again), "writing is stable");
}

fn entries(data: &[u8]) -> Vec<JournalEntry> {
    let mut entries = Vec::new();
    if let Ok(Some(mut reader)) = JournalReader::new(data) {
        while let Ok(Some((range, entry))) = reader.next_entry() {
            assert_eq!(range.end, reader.place());
            entries.push(entry);
        }
    }
    entries
}
