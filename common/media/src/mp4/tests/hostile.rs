//! Files that are cut, damaged or lie.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::made::{Plain, boxed, empty_movie, fragment, table, words};
use super::support::{AAC, AVC, both, open, pieces};
use crate::file::{FileError, Grid, MediaFile, ReadAt};
use crate::mp4::Mp4File;

/// Opens a file and reads all of it, if it can be opened.
fn walk(bytes: &Bytes) -> Result<usize, FileError> {
    let file = Mp4File::open(
        Arc::new(bytes.clone()),
        Grid {
            every_ms: 300,
            max_bytes: 4_000,
        },
    )?;
    let pieces = pieces(&file)?;
    file.piece_at_time(u64::MAX)?;
    Ok(pieces.iter().map(|piece| piece.frames.len()).sum())
}

fn seeds() -> Vec<Bytes> {
    [
        &[][..],
        &["-movflags", "faststart"],
        &["-movflags", "frag_keyframe+empty_moov+default_base_moof"],
        &["-movflags", "frag_keyframe"],
    ]
    .iter()
    .map(|flags| both(&[AVC, AAC, &["-t", "0.6"], flags], "seed.mp4"))
    .collect()
}

#[test]
fn files_cut_anywhere() {
    for (number, seed) in seeds().iter().enumerate() {
        let all = walk(seed).expect("a file");
        for length in (0..seed.len())
            .step_by(7)
            .chain(seed.len() - 64..seed.len())
        {
            match walk(&seed.slice(..length)) {
                Ok(count) => assert!(count <= all && number >= 2, "{number}, {length}"),
                Err(FileError::Invalid { offset, .. }) => {
                    assert!(
                        number >= 2 || offset <= seed.len() as u64,
                        "{number}, {length}"
                    );
                }
                Err(error) => panic!("{number}, {length}: {error}"),
            }
        }
    }
}

/// Xorshift: a failure can be repeated from its number.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state as usize
}

#[test]
fn damaged_files() {
    for (number, seed) in seeds().iter().enumerate() {
        // Tables, not media: where anything can go wrong.
        let tables: Vec<usize> = (0..seed.len() - 3)
            .filter(|at| {
                [b"moov", b"moof"]
                    .iter()
                    .any(|kind| &seed[*at..at + 4] == *kind)
            })
            .collect();
        for round in 0..1_500_u64 {
            let mut state = 0x9e37_79b9_7f4a_7c15 ^ round << 8 ^ number as u64;
            let mut data = seed.to_vec();
            for _ in 0..=random(&mut state) % 3 {
                let start = tables[random(&mut state) % tables.len()];
                let at = (start + random(&mut state) % 1_800).min(data.len() - 1);
                match random(&mut state) % 3 {
                    0 => data[at] = [0, 1, 0x7f, 0x80, 0xff][random(&mut state) % 5],
                    1 => data[at] ^= 1 << (random(&mut state) % 8),
                    _ => data[at] = random(&mut state) as u8,
                }
            }
            let outcome = std::panic::catch_unwind(|| walk(&data.into()));
            assert!(outcome.is_ok(), "seed {number}, round {round}");
        }
    }
}

#[track_caller]
fn refused(bytes: &Bytes, why: &str) {
    match walk(bytes) {
        Err(FileError::Invalid { offset, what }) => {
            assert!(what.contains(why), "{what}");
            assert!(
                offset <= bytes.len() as u64 || what.contains("past the end"),
                "{what}: {offset}"
            );
        }
        Ok(frames) => panic!("{why}: {frames} frames"),
        Err(error) => panic!("{why}: {error}"),
    }
}

fn with_tables(tables: &[Vec<u8>]) -> Plain {
    Plain {
        tables: tables.concat(),
        ..Plain::video(&[4; 6])
    }
}

#[test]
fn tables_that_lie() {
    let stts = || table(b"stts", 1, &[6, 40]);
    let stsz = || boxed(b"stsz", &[&words(&[0, 4, 6])]);
    let stsc = || table(b"stsc", 1, &[1, 6, 1]);
    assert_eq!(
        walk(&with_tables(&[stts(), stsz(), stsc()]).file()).expect("a file"),
        6
    );

    let count = |count| boxed(b"stsz", &[&words(&[0, 1, count])]);
    let cases = [
        (
            vec![stts(), count(u32::MAX), stsc()],
            "of 4294967295 entries",
        ),
        (
            vec![
                table(b"stts", 1, &[1 << 24, 1]),
                count(1 << 24),
                table(b"stsc", 1, &[1, 1 << 24, 1]),
            ],
            "past the end",
        ),
        // All of them at one byte: as many as a file of this length cannot have.
        (
            vec![
                table(b"stts", 1, &[1 << 24, 1]),
                boxed(b"stz2", &[&words(&[0, 4, 4_000]), &[0; 2_000]]),
                table(b"stsc", 1, &[1, 1 << 24, 1]),
            ],
            "more samples than a file of this length",
        ),
        (
            vec![table(b"stts", 2, &[6, 40]), stsz(), stsc()],
            "do not fit into stts",
        ),
        (
            vec![table(b"stts", u32::MAX, &[6, 40]), stsz(), stsc()],
            "of 4294967295 entries",
        ),
        (
            vec![table(b"stts", 1, &[5, 40]), stsz(), stsc()],
            "no time for sample 5",
        ),
        (vec![stsz(), stsc()], "no time for sample 0"),
        (
            vec![stts(), stsz(), table(b"stsc", 1, &[1, 5, 1])],
            "no chunk has sample 5",
        ),
        (
            vec![stts(), stsz(), table(b"stsc", 1, &[1, 0, 1])],
            "no chunk has sample 0",
        ),
        (vec![stts(), stsz()], "no samples in chunk 1"),
        (
            vec![stts(), stsz(), table(b"stsc", 1, &[2, 6, 1])],
            "no samples in chunk 1",
        ),
        (
            vec![stts(), stsz(), table(b"stsc", 1, &[1, 6, 0])],
            "sample description 0",
        ),
        (
            vec![stts(), stsz(), table(b"stsc", 1, &[1, 6, 2])],
            "sample description 2 does not exist",
        ),
        (
            vec![stts(), stsz(), table(b"stsc", 1, &[1, 6, 70_000])],
            "sample description 70000",
        ),
        (
            vec![stts(), stsz(), table(b"stsc", 1, &[1, 6, 65_536])],
            "sample description 65536 does not exist",
        ),
        (
            vec![stts(), boxed(b"stsz", &[&words(&[0, 5, 6])]), stsc()],
            "past the end",
        ),
        (
            vec![stts(), boxed(b"stsz", &[&words(&[0, 1 << 24, 1])]), stsc()],
            "a sample of 16777216 bytes",
        ),
        (
            vec![stts(), boxed(b"stz2", &[&words(&[0, 5, 6])]), stsc()],
            "sample sizes of 5 bits",
        ),
        (
            vec![stts(), stsz(), vec![0, 0, 0, 4, 1, 2, 3, 4]],
            "of 4 bytes",
        ),
        (
            vec![table(b"stts", 2, &[1, u32::MAX, 5, 1]), stsz(), stsc()],
            "milliseconds after the first",
        ),
    ];
    for (tables, why) in cases {
        refused(&with_tables(&tables).file(), why);
    }
    let far = Plain {
        is_wide: true,
        chunks: vec![u64::MAX - 5_000],
        ..Plain::video(&[4; 6])
    };
    refused(&far.file(), "past the end");
}

#[test]
fn movies_that_lie() {
    let good = Plain::video(&[4; 6]);
    let track_edit = |start: u32, duration: u32| Plain {
        track: boxed(b"edts", &[&table(b"elst", 1, &[duration, start, 0x1_0000])]),
        ..Plain::video(&[4; 6])
    };
    // Edits past the end or of nothing leave something to play.
    assert!(walk(&track_edit(i32::MAX as u32, 1).file()).is_ok());
    assert!(walk(&track_edit(0, u32::MAX).file()).is_ok());
    assert!(walk(&track_edit(u32::MAX, u32::MAX).file()).is_ok());
    let long = Plain {
        track: boxed(b"edts", &[&table(b"elst", 9, &[0, 0, 0x1_0000])]),
        ..Plain::video(&[4; 6])
    };
    refused(&long.file(), "a box ends within its fields");

    let bytes = good.file();
    let replace = |from: &[u8], to: &[u8]| {
        let at = bytes
            .windows(from.len())
            .position(|window| window == from)
            .expect("what is replaced");
        let mut out = bytes.to_vec();
        out[at..at + to.len()].copy_from_slice(to);
        Bytes::from(out)
    };
    refused(&replace(b"mvhd", b"free"), "without a timescale");
    refused(&replace(b"mdhd", b"free"), "without a timescale");
    refused(&replace(b"moov", b"free"), "no movie box");
    assert!(matches!(
        walk(&replace(b"avc1", b"xvid")),
        Err(FileError::Unsupported { .. })
    ));
    assert!(matches!(
        walk(&replace(b"stsd", b"free")),
        Err(FileError::Unsupported { .. })
    ));
    refused(&Bytes::new(), "no movie box");
    refused(&Bytes::from_static(b"FLV\x01\x05"), "ends within");
    refused(
        &Bytes::from(vec![0x47; 10_000]),
        "longer than what contains it",
    );
    // A crowd of boxes.
    let crowd = Plain {
        track: boxed(b"free", &[]).repeat(1_100),
        ..Plain::video(&[4; 6])
    };
    refused(&crowd.file(), "more than 1024 boxes");
}

#[test]
fn fragments_that_lie() {
    let file = |moof: Vec<u8>| -> Bytes {
        let rest = [moof, boxed(b"mdat", &[&[0; 64]])].concat();
        [empty_movie().movie(0), fragment(Some(0), &[1, 2]), rest]
            .concat()
            .into()
    };
    let moof = |tfhd: &[u32], time: &[u32], trun: &[u32]| {
        let traf = [
            boxed(b"tfhd", &[&words(tfhd)]),
            boxed(b"tfdt", &[&words(time)]),
            boxed(b"trun", &[&words(trun)]),
        ];
        boxed(b"moof", &[&boxed(b"traf", &[&traf.concat()])])
    };
    let head = [0x2_000a, 1, 1, 40];
    let time = [0, 0];
    assert_eq!(
        walk(&file(moof(&head, &time, &[0x201, 1, 84, 4]))).expect("a file"),
        3
    );
    // A run of samples without a byte in the file.
    refused(
        &file(moof(&head, &time, &[1, 1 << 24, 84])),
        "more samples than",
    );
    refused(
        &file(moof(&head, &time, &[1, u32::MAX, 84])),
        "a run of 4294967295",
    );
    refused(
        &file(moof(&head, &time, &[0x201, 2, 84, 4])),
        "a box ends within",
    );
    refused(
        &file(moof(&head, &time, &[0x201, 1, 84, 400])),
        "past the end",
    );
    refused(
        &file(moof(&head, &time, &[0x201, 1, 0x8000_0000, 4])),
        "a data offset of",
    );
    refused(
        &file(moof(&[0x2_000a, 1, 0, 40], &time, &[0x201, 1, 84, 4])),
        "sample description 0",
    );
    refused(
        &file(moof(&head, &[0x100_0000, u32::MAX, 0], &[0x201, 1, 84, 4])),
        "a time of",
    );
    refused(
        &file(moof(&head, &[0x100_0000, 0x1000, 0], &[0x201, 1, 84, 4])),
        "milliseconds after the first",
    );
    refused(
        &file(boxed(b"moof", &[&boxed(b"traf", &[])])),
        "of no track",
    );
    // Of a track that is not there.
    assert_eq!(
        walk(&file(moof(
            &[0x2_000a, 7, 1, 40],
            &time,
            &[0x201, 1, 84, 4]
        )))
        .expect("a file"),
        2
    );
}

/// A file that is cut after it was opened.
struct Vanishing {
    bytes: Bytes,
    is_gone: Arc<AtomicBool>,
}

impl ReadAt for Vanishing {
    fn length(&self) -> u64 {
        self.bytes.length()
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        if self.is_gone.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.bytes.read_at(offset, length)
    }
}

#[test]
fn a_file_that_is_cut_after_it_was_opened() {
    let is_gone = Arc::new(AtomicBool::new(false));
    let source = Vanishing {
        bytes: Plain::video(&[4; 6]).file(),
        is_gone: is_gone.clone(),
    };
    let file = Mp4File::open(Arc::new(source), Grid::default()).expect("a file");
    assert!(file.piece_at_time(0).is_ok());
    is_gone.store(true, Ordering::Relaxed);
    assert!(matches!(file.piece_at_time(0), Err(FileError::Read(_))));
}

#[test]
fn many_samples_may_lie_at_one_place() {
    // Chunks that all lie on the same bytes: a file may say so, within its length.
    let count = 2_000_u32;
    let made = Plain {
        tables: [
            table(b"stts", 1, &[count, 5_000]),
            boxed(b"stsz", &[&words(&[0, 60, count])]),
            table(b"stsc", 1, &[1, 1, 1]),
        ]
        .concat(),
        chunks: vec![0; count as usize],
        ..Plain::video(&[60])
    };
    let file = open(&made.file()).expect("a file");
    assert_eq!(pieces(&file).expect("pieces").len(), count as usize);
}
