//! What reading our own files takes.

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::file::{FilePiece, ReadAt};
use crate::mp4::Mp4File;

/// Notes what is read: each call with all of its places.
struct Noting {
    bytes: Bytes,
    calls: Mutex<Vec<Vec<(u64, usize)>>>,
}

impl ReadAt for Noting {
    fn length(&self) -> u64 {
        self.bytes.length()
    }

    fn read_at(&self, offset: u64, length: usize) -> std::io::Result<Bytes> {
        self.calls.lock().push(vec![(offset, length)]);
        self.bytes.read_at(offset, length)
    }

    fn read_each(&self, places: &[(u64, usize)]) -> Vec<std::io::Result<Bytes>> {
        self.calls.lock().push(places.to_vec());
        let places = places.iter();
        places
            .map(|(offset, length)| self.bytes.read_at(*offset, *length))
            .collect()
    }
}

/// Five minutes, some 30 MB.
fn five_minutes() -> Bytes {
    let settings = Settings {
        video_bitrate: 800_000,
        ..Settings::default()
    };
    write(&synthetic(settings, 20_000))
}

fn walk(file: &Mp4File) -> Vec<FilePiece> {
    let mut pieces = vec![file.piece_at_time(0).expect("a piece")];
    while let Some(next) = pieces.last().and_then(|piece| piece.next) {
        pieces.push(file.piece_at(next).expect("a piece"));
    }
    pieces
}

#[test]
fn a_recording_is_opened_by_a_few_reads_of_a_small_part_of_it() {
    let bytes = five_minutes();
    let fragments = boxes_of(&bytes, b"moof");
    assert!(fragments.len() > 130, "{}", fragments.len());
    let source = Arc::new(Noting {
        bytes: bytes.clone(),
        calls: Mutex::default(),
    });
    let file = Mp4File::open(source.clone(), Grid::default()).expect("a file");
    let calls = std::mem::take(&mut *source.calls.lock());
    let around = |at: usize| {
        let places = calls.iter().flatten();
        places
            .filter(|(offset, length)| {
                (*offset..*offset + *length as u64).contains(&(at as u64 + 100))
            })
            .count()
    };
    for fragment in &fragments {
        assert_eq!(around(*fragment), 1, "at {fragment}");
    }
    let batches = fragments.len().div_ceil(64);
    assert!(calls.len() < 120 + batches, "{} calls", calls.len());
    let read: usize = calls.iter().flatten().map(|place| place.1).sum();
    assert!(read < bytes.len() / 5, "{read} of {}", bytes.len());

    // A piece: its samples at once, and the tables of each track.
    let pieces = walk(&file);
    let calls = source.calls.lock().len();
    assert!(
        calls < 8 * pieces.len(),
        "{calls} for {} pieces",
        pieces.len()
    );
}

#[test]
fn an_index_that_lies_changes_nothing() {
    let bytes = five_minutes();
    let open = |bytes: &Bytes| Mp4File::open(Arc::new(bytes.clone()), Grid::default());
    let honest = walk(&open(&bytes).expect("a file"));
    let index = boxes_of(&bytes, b"sidx")[0];
    let count = usize::from(u16::from_be_bytes([bytes[index + 38], bytes[index + 39]]));
    assert!(count > 130, "{count}");
    type Lie<'a> = &'a dyn Fn(usize, u32) -> u32;
    let lies: [(&str, Lie<'_>); 6] = [
        ("all too short", &|_, size| size - 1),
        ("none", &|_, _| 0),
        ("one too long", &|n, size| size + u32::from(n == 70)),
        ("other indices", &|_, size| size | 1 << 31),
        ("far out", &|_, _| u32::MAX >> 1),
        ("to and fro", &|n, size| size + 8 - 16 * (n as u32 % 2)),
    ];
    for (what, lie) in lies {
        let mut lying = bytes.to_vec();
        for n in 0..count {
            let at = index + 40 + 12 * n;
            let size = word(&lying, at);
            lying[at..at + 4].copy_from_slice(&lie(n, size).to_be_bytes());
        }
        let lying = Bytes::from(lying);
        assert_eq!(walk(&open(&lying).expect("a file")), honest, "{what}");
    }
}
