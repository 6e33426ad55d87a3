//! Files that are cut off, broken or made to do harm.

use super::*;

#[test]
fn a_file_cut_anywhere_plays_to_its_last_whole_tag() {
    let bytes = synthetic(60, 0);
    let whole = tags(&bytes);
    for end in 0..bytes.len() {
        let cut = bytes.slice(..end);
        let file = match FlvFile::open(Arc::new(cut), SMALL) {
            Ok(file) => file,
            Err(error) => {
                assert!(
                    end < 9 && matches!(error, FileError::Invalid { .. }),
                    "{error}"
                );
                continue;
            }
        };
        assert!(end >= 9);
        let tag_end = |(position, tag): &&(u64, Tag)| {
            *position as usize + TAG_HEADER_SIZE + tag.body.len() <= end
        };
        let expected: Vec<u64> = whole
            .iter()
            .take_while(tag_end)
            .map(|(position, _)| *position)
            .collect();
        let pieces = walk(&file).expect("it plays");
        let found = pieces.iter().flat_map(|piece| &piece.frames);
        assert_eq!(
            found.map(|frame| frame.position).collect::<Vec<_>>(),
            expected,
            "cut at {end}"
        );
        let last = pieces
            .iter()
            .flat_map(|piece| &piece.frames)
            .map(|frame| frame.timestamp)
            .max();
        let duration = file.info().duration_ms;
        let last = last.unwrap_or(0);
        assert!(
            (last..=last + 100).contains(&duration),
            "cut at {end}: {duration}"
        );
    }
}

/// A source that counts what is read of it.
struct Counted {
    bytes: Bytes,
    read: AtomicU64,
}

impl ReadAt for Counted {
    fn length(&self) -> u64 {
        self.bytes.length()
    }

    fn read_at(&self, offset: u64, length: usize) -> std::io::Result<Bytes> {
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        self.bytes.read_at(offset, length)
    }
}

/// About 100 MB, every tag a megabyte.
fn large() -> BytesMut {
    let key = [KEY, &vec![0; 1 << 20]].concat();
    let mut out = BytesMut::new();
    write_header(FlvHeader::default(), &mut out);
    for n in 0..100_u32 {
        assert!(write_tag(n * 1_000, FrameKind::Video, &key, &mut out));
    }
    out
}

#[test]
fn opening_and_the_beginning_do_not_read_all_of_a_file() {
    let whole = large().freeze();
    let cut = whole.slice(..whole.len() - 700_000);
    for (what, bytes, tags, most) in [("whole", whole, 100, 12), ("cut off", cut, 99, 16)] {
        let counted = Arc::new(Counted {
            bytes,
            read: AtomicU64::new(0),
        });
        let file = FlvFile::open(counted.clone(), Grid::default()).expect("it opens");
        assert_eq!(file.info().duration_ms, tags * 1_000, "{what}");
        let first = file.piece_at_time(0).expect("a piece");
        file.piece_at(first.next.expect("another piece"))
            .expect("a piece");
        let read = counted.read.load(Ordering::Relaxed);
        assert!(read < most << 20, "{what}: {read}");
    }
}

#[test]
fn garbage_ends_a_piece_and_fails_the_next() {
    let bytes = synthetic(100, 0);
    let whole = tags(&bytes);
    let (at, _) = whole[60];
    for garbage in [0_u8, 7, 0x49, 0xff] {
        let mut broken = bytes.to_vec();
        broken[at as usize] = garbage;
        let broken = Bytes::from(broken);
        let file = open(&broken, SMALL);
        let mut pieces = vec![file.piece_at_time(0).expect("a piece")];
        let error = loop {
            let next = pieces
                .last()
                .and_then(|piece| piece.next)
                .expect("it does not end");
            match file.piece_at(next) {
                Ok(piece) => pieces.push(piece),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, FileError::Invalid { offset, .. } if offset == at),
            "{error}"
        );
        let frames: usize = pieces.iter().map(|piece| piece.frames.len()).sum();
        assert_eq!(frames, 60);
        let again = open(&broken, SMALL).piece_at(at).expect_err("garbage");
        assert!(
            matches!(again, FileError::Invalid { offset, .. } if offset == at),
            "{again}"
        );
        let beyond = open(&broken, SMALL).piece_at_time(file.info().duration_ms);
        assert!(matches!(beyond, Err(FileError::Invalid { offset, .. }) if offset == at));
        assert_eq!(
            &open(&broken, SMALL).piece_at_time(0).expect("a piece"),
            &pieces[0]
        );
    }
}

#[test]
fn encrypted_tags_are_not_supported() {
    let mut bytes = synthetic(10, 0).to_vec();
    bytes[13] |= 0x20;
    let error = FlvFile::open(Arc::new(Bytes::from(bytes)), SMALL).expect_err("encrypted");
    assert!(matches!(error, FileError::Unsupported { .. }));
}

#[test]
fn wrong_previous_tag_sizes_do_not_matter() {
    let bytes = synthetic(100, 0);
    let mut wrong = bytes.to_vec();
    for (position, tag) in tags(&bytes) {
        let at = position as usize + TAG_HEADER_SIZE + tag.body.len();
        wrong[at..at + 4].copy_from_slice(&[0xff; 4]);
    }
    let wrong = Bytes::from(wrong);
    assert_eq!(
        walk(&open(&wrong, SMALL)).expect("pieces"),
        walk(&open(&bytes, SMALL)).expect("pieces")
    );
}

/// A file that got shorter after it had been opened.
struct Shrunk(Bytes);

impl ReadAt for Shrunk {
    fn length(&self) -> u64 {
        self.0.length()
    }

    fn read_at(&self, offset: u64, length: usize) -> std::io::Result<Bytes> {
        if offset + length as u64 > self.length() / 2 && offset + (length as u64) < self.length() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.0.read_at(offset, length)
    }
}

#[test]
fn a_file_that_shrinks_is_an_error() {
    let file = FlvFile::open(Arc::new(Shrunk(large().freeze())), Grid::default());
    let error = file
        .and_then(|file| walk(&file))
        .expect_err("it is not there");
    assert!(matches!(error, FileError::Read(_)), "{error}");
}

/// A way to go through whatever can be gone through.
fn exercise(bytes: &Bytes) {
    let Ok(file) = FlvFile::open(Arc::new(bytes.clone()), SMALL) else {
        return;
    };
    let mut positions = Vec::new();
    let mut next = file.piece_at_time(0).ok();
    while let Some(piece) = next {
        assert!(positions.last().is_none_or(|last| *last < piece.first));
        positions.push(piece.first);
        next = piece.next.and_then(|next| file.piece_at(next).ok());
    }
    for ms in [1, 500, 1_000, u64::MAX] {
        let _ = file.piece_at_time(ms);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_change_can_be_read(changes in prop::collection::vec((0_usize..6_000, any::<u8>()), 1..6)) {
        let mut bytes = synthetic(60, 0).to_vec();
        for (at, value) in changes {
            let length = bytes.len();
            bytes[at % length] = value;
        }
        exercise(&bytes.into());
    }

    #[test]
    fn any_tail_can_be_read(noise: Vec<u8>, at in 0_usize..3_000) {
        let bytes = synthetic(60, 0);
        exercise(&[&bytes[..at.min(bytes.len())], &noise[..]].concat().into());
    }
}
