//! Files made box by box: what ffmpeg does not write.

use bytes::Bytes;

use super::support::{frames, open, open_with, pieces, unwrap};
use crate::file::{FileFrame, Grid, MediaFile};
use crate::frame::{FrameFlags, FrameKind};

pub(super) fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut out = (body.len() as u32 + 8).to_be_bytes().to_vec();
    out.extend_from_slice(kind);
    out.extend_from_slice(&body);
    out
}

pub(super) fn words(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect()
}

/// A table: version and flags, a count, entries.
pub(super) fn table(kind: &[u8; 4], count: u32, entries: &[u32]) -> Vec<u8> {
    boxed(kind, &[&words(&[0, count]), &words(entries)])
}

/// A description of H.264 of 64 x 48 with this configuration.
pub(super) fn avc1(configuration: &[u8]) -> Vec<u8> {
    let mut fields = [0; 78];
    fields[25] = 64;
    fields[27] = 48;
    boxed(b"avc1", &[&fields, &boxed(b"avcC", &[configuration])])
}

/// `esds` of AAC-LC, 44.1 kHz, stereo.
fn esds() -> Vec<u8> {
    let descriptors: &[u8] = &[
        3, 0x80, 0x80, 0x80, 22, 0, 1, 0, 4, 17, 0x40, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 2,
        0x12, 0x10,
    ];
    boxed(b"esds", &[&words(&[0]), descriptors])
}

/// A sound description of QuickTime with what its version adds.
fn mp4a(version: u8, added: &[u8], children: &[u8]) -> Vec<u8> {
    let mut fields = [0; 28];
    fields[9] = version;
    fields[17] = 2;
    fields[24..26].copy_from_slice(&44_100_u16.to_be_bytes());
    boxed(b"mp4a", &[&fields, added, children])
}

/// What a plain file is made of.
pub(super) struct Plain {
    pub(super) handler: &'static [u8; 4],
    pub(super) descriptions: Vec<Vec<u8>>,
    /// Boxes of `stbl` but `stsd` and chunk offsets.
    pub(super) tables: Vec<u8>,
    /// Where chunks begin in the media.
    pub(super) chunks: Vec<u64>,
    pub(super) is_wide: bool,
    pub(super) version: u8,
    /// More boxes of `trak`, and of `moov`.
    pub(super) track: Vec<u8>,
    pub(super) movie: Vec<u8>,
    pub(super) media: Vec<u8>,
}

impl Plain {
    /// Samples of these sizes in one chunk, 40 ms each, every third a key frame.
    pub(super) fn video(sizes: &[u32]) -> Self {
        let count = sizes.len() as u32;
        let total: u32 = sizes.iter().sum();
        let syncs: Vec<u32> = (0..count).step_by(3).map(|index| index + 1).collect();
        Self {
            handler: b"vide",
            descriptions: vec![avc1(&[1, 66, 0, 10])],
            tables: [
                table(b"stts", 1, &[count, 40]),
                table(b"stss", syncs.len() as u32, &syncs),
                boxed(b"stsz", &[&words(&[0, 0, count]), &words(sizes)]),
                table(b"stsc", 1, &[1, count, 1]),
            ]
            .concat(),
            chunks: vec![0],
            is_wide: false,
            version: 0,
            track: Vec::new(),
            movie: Vec::new(),
            media: (0..total).map(|at| at as u8).collect(),
        }
    }

    pub(super) fn movie(&self, media_at: u64) -> Vec<u8> {
        let times = |more: &[u32]| {
            let width = if self.version == 0 { 2 } else { 4 };
            [
                vec![u32::from(self.version) << 24],
                vec![0; width],
                more.to_vec(),
            ]
            .concat()
        };
        // The duration of version 1 has two words.
        let duration = vec![0; usize::from(self.version) + 1];
        let mvhd = boxed(b"mvhd", &[&words(&times(&[1_000])), &words(&duration)]);
        let tkhd = boxed(b"tkhd", &[&words(&times(&[1, 0])), &words(&duration)]);
        let mdhd = boxed(
            b"mdhd",
            &[
                &words(&times(&[1_000])),
                &words(&duration),
                &words(&[0x55c4_0000]),
            ],
        );
        let hdlr = boxed(
            b"hdlr",
            &[&words(&[0, 0]), self.handler, &words(&[0, 0, 0])],
        );
        let count = self.chunks.len() as u32;
        let offsets = self.chunks.iter().map(|offset| offset + media_at);
        let chunks = if self.is_wide {
            let entries: Vec<u8> = offsets.flat_map(u64::to_be_bytes).collect();
            boxed(b"co64", &[&words(&[0, count]), &entries])
        } else {
            let entries: Vec<u32> = offsets.map(|offset| offset as u32).collect();
            table(b"stco", count, &entries)
        };
        let descriptions = self.descriptions.concat();
        let stsd = [words(&[0, self.descriptions.len() as u32]), descriptions].concat();
        let stbl = boxed(b"stbl", &[&boxed(b"stsd", &[&stsd]), &self.tables, &chunks]);
        let mdia = boxed(b"mdia", &[&mdhd, &hdlr, &boxed(b"minf", &[&stbl])]);
        let trak = boxed(b"trak", &[&tkhd, &self.track, &mdia]);
        boxed(b"moov", &[&mvhd, &trak, &self.movie])
    }

    pub(super) fn file(&self) -> Bytes {
        let head = self.movie(0).len() as u64 + 8;
        [self.movie(head), boxed(b"mdat", &[&self.media])]
            .concat()
            .into()
    }
}

fn data(frames: &[FileFrame]) -> Vec<Bytes> {
    frames.iter().map(|frame| unwrap(frame).0).collect()
}

#[test]
fn sample_sizes_of_4_8_and_16_bits() {
    for bits in [4_u32, 8, 16] {
        let sizes = [3_u32, 15, 7, 1, 2];
        let mut entries = Vec::new();
        match bits {
            4 => entries.extend([0x3f, 0x71, 0x20]),
            8 => entries.extend(sizes.map(|size| size as u8)),
            _ => entries.extend(sizes.iter().flat_map(|size| (*size as u16).to_be_bytes())),
        }
        let compact = boxed(b"stz2", &[&words(&[0, bits, 5]), &entries]);
        let usual = Plain::video(&sizes);
        let made = Plain {
            tables: [
                table(b"stts", 1, &[5, 40]),
                table(b"stss", 2, &[1, 4]),
                compact,
                table(b"stsc", 1, &[1, 5, 1]),
            ]
            .concat(),
            ..Plain::video(&sizes)
        };
        assert_eq!(frames(&made.file()), frames(&usual.file()), "{bits} bits");
        let lengths: Vec<_> = data(&frames(&made.file())).iter().map(Bytes::len).collect();
        assert_eq!(lengths, [3, 15, 7, 1, 2]);
    }
}

#[test]
fn wide_offsets_versions_and_sizes() {
    let usual = Plain::video(&[5; 8]);
    let expected = frames(&usual.file());
    let wide = Plain {
        is_wide: true,
        version: 1,
        ..Plain::video(&[5; 8])
    };
    assert_eq!(frames(&wide.file()), expected);
    let movie = wide.movie(0).len() as u64;
    // A 64-bit size; to the end of the file; media before the movie.
    let mut long = wide.movie(movie + 16);
    long.extend([0, 0, 0, 1]);
    long.extend(b"mdat");
    long.extend((wide.media.len() as u64 + 16).to_be_bytes());
    long.extend(&wide.media);
    assert_eq!(frames(&long.into()), expected);
    let mut rest = wide.movie(movie + 8);
    rest.extend([0, 0, 0, 0]);
    rest.extend(b"mdat");
    rest.extend(&wide.media);
    assert_eq!(frames(&rest.into()), expected);
    let before = [boxed(b"mdat", &[&wide.media]), wide.movie(8)].concat();
    assert_eq!(frames(&before.into()), expected);
}

#[test]
fn chunks_of_different_lengths_out_of_order() {
    let made = Plain {
        tables: [
            table(b"stts", 2, &[2, 40, 4, 20]),
            boxed(b"stsz", &[&words(&[0, 4, 6])]),
            table(b"stsc", 2, &[1, 1, 1, 3, 4, 1]),
        ]
        .concat(),
        chunks: vec![20, 0, 4],
        ..Plain::video(&[4; 6])
    };
    let found = frames(&made.file());
    let starts: Vec<_> = data(&found).iter().map(|data| data[0]).collect();
    assert_eq!(starts, [20, 0, 4, 8, 12, 16]);
    let times: Vec<_> = found.iter().map(|frame| frame.timestamp).collect();
    assert_eq!(times, [0, 40, 80, 100, 120, 140]);
    let file = open(&made.file()).expect("a file");
    assert_eq!(file.info().duration_ms, 160);
    // Without `stss` every sample is a key frame.
    assert!(found.iter().all(|frame| frame.flags == FrameFlags::KEY));
}

#[test]
fn a_new_decoder_configuration_comes_before_its_first_frame() {
    let made = Plain {
        descriptions: vec![avc1(&[1, 66, 0, 10]), avc1(&[1, 77, 0, 20])],
        tables: [
            table(b"stts", 1, &[6, 40]),
            table(b"stss", 2, &[1, 4]),
            boxed(b"stsz", &[&words(&[0, 4, 6])]),
            table(b"stsc", 2, &[1, 3, 1, 2, 3, 2]),
        ]
        .concat(),
        chunks: vec![0, 12],
        ..Plain::video(&[4; 6])
    };
    let bytes = made.file();
    let header = |profile, level| -> Bytes { vec![0x17, 0, 0, 0, 0, 1, profile, 0, level].into() };
    let found = frames(&bytes);
    assert_eq!(found.len(), 7);
    assert_eq!(found[3].payload, header(77, 20));
    assert_eq!(found[3].flags, FrameFlags::HEADER);
    assert_eq!((found[3].timestamp, found[3].position), (120, 6));
    assert_eq!(found[4].position, 7);
    for (every_ms, in_force) in [(1, header(66, 10)), (130, header(77, 20))] {
        let grid = Grid {
            every_ms,
            max_bytes: if every_ms == 1 { 1 << 20 } else { 20 },
        };
        let file = open_with(&bytes, grid).expect("a file");
        let pieces = pieces(&file).expect("pieces");
        let joined: Vec<_> = pieces
            .iter()
            .flat_map(|piece| piece.frames.clone())
            .collect();
        assert_eq!(joined, found);
        // The piece with the change begins with what was in force before it; the last one with the new one.
        let piece = match every_ms {
            1 => file.piece_at_time(120).expect("a piece"),
            _ => pieces.last().expect("a piece").clone(),
        };
        assert_eq!(piece.preface[1].payload, in_force);
    }
    let file = open_with(
        &bytes,
        Grid {
            every_ms: 1,
            max_bytes: 1 << 20,
        },
    )
    .expect("a file");
    let changed = file.piece_at_time(120).expect("a piece");
    assert_eq!(
        (changed.first, changed.frames[0].flags),
        (6, FrameFlags::HEADER)
    );
    assert_eq!(file.piece_at(6).expect("a piece"), changed);
    assert!(file.piece_at(7).is_err());
}

#[test]
fn sound_descriptions_of_quicktime() {
    let mut version2 = vec![0; 36];
    version2[4..12].copy_from_slice(&48_000_f64.to_bits().to_be_bytes());
    version2[15] = 2;
    for (version, added, rate) in [
        (0, Vec::new(), 44_100),
        (1, vec![0; 16], 44_100),
        (2, version2, 48_000),
    ] {
        for is_wrapped in [false, true] {
            let children = if is_wrapped {
                let inner = [boxed(b"frma", &[b"mp4a"]), esds(), vec![0; 8]].concat();
                // A terminator of 8 bytes that says it is as long.
                let inner = [&inner[..inner.len() - 8], &[0, 0, 0, 8, 0, 0, 0, 0]].concat();
                boxed(b"wave", &[&inner])
            } else {
                esds()
            };
            let made = Plain {
                handler: b"soun",
                descriptions: vec![mp4a(version, &added, &children)],
                ..Plain::video(&[4; 6])
            };
            let file = open(&made.file()).expect("a file");
            let piece = file.piece_at_time(0).expect("a piece");
            assert_eq!(
                &piece.preface[1].payload[..],
                [0xaf, 0, 0x12, 0x10],
                "{version}"
            );
            assert_eq!(piece.frames.len(), 6);
            assert_eq!(&piece.frames[0].payload[..], [0xaf, 1, 0, 1, 2, 3]);
            assert_eq!(piece.frames[0].kind, FrameKind::Audio);
        }
        // MP3 takes the rate from the description.
        let mut entry = mp4a(version, &added, &[]);
        entry[4..8].copy_from_slice(b".mp3");
        let made = Plain {
            handler: b"soun",
            descriptions: vec![entry],
            ..Plain::video(&[4; 6])
        };
        let found = frames(&made.file());
        assert_eq!(&found[0].payload[..], [0x2f, 0, 1, 2, 3], "{rate}");
    }
}

/// A fragment of one run: what `tfhd` and `trun` say, and the time.
pub(super) fn fragment(time: Option<u32>, sizes: &[u32]) -> Vec<u8> {
    let made = |offset: u32| {
        // The base is the fragment; description 1, 40 ticks each.
        let tfhd = boxed(b"tfhd", &[&words(&[0x2_000a, 1, 1, 40])]);
        let tfdt = time.map_or_else(Vec::new, |time| boxed(b"tfdt", &[&words(&[0, time])]));
        let head = words(&[0x201, sizes.len() as u32, offset]);
        let trun = boxed(b"trun", &[&head, &words(sizes)]);
        let mfhd = boxed(b"mfhd", &[&words(&[0, 1])]);
        boxed(b"moof", &[&mfhd, &boxed(b"traf", &[&tfhd, &tfdt, &trun])])
    };
    let length = made(0).len() as u32;
    let total: u32 = sizes.iter().sum();
    let media: Vec<u8> = (0..total).map(|at| at as u8).collect();
    [made(length + 8), boxed(b"mdat", &[&media])].concat()
}

/// A movie without samples of its own, for fragments.
pub(super) fn empty_movie() -> Plain {
    Plain {
        tables: [
            table(b"stts", 0, &[]),
            boxed(b"stsz", &[&words(&[0, 0, 0])]),
            table(b"stsc", 0, &[]),
        ]
        .concat(),
        chunks: Vec::new(),
        movie: boxed(b"mvex", &[&boxed(b"trex", &[&words(&[0, 1, 1, 0, 0, 0])])]),
        media: Vec::new(),
        ..Plain::video(&[1])
    }
}

#[test]
fn fragments_with_and_without_times() {
    let bytes: Bytes = [
        empty_movie().movie(0),
        fragment(Some(1_000), &[1, 2]),
        // Goes on where the one before ends.
        fragment(None, &[3]),
        // A hole.
        fragment(Some(2_000), &[4, 5]),
        // Back in time: goes on.
        fragment(Some(500), &[6]),
        fragment(Some(3_000), &[7]),
    ]
    .concat()
    .into();
    let found = frames(&bytes);
    let times: Vec<_> = found.iter().map(|frame| frame.timestamp).collect();
    assert_eq!(times, [0, 40, 80, 1_000, 1_040, 1_080, 2_000]);
    let lengths: Vec<_> = data(&found).iter().map(Bytes::len).collect();
    assert_eq!(lengths, [1, 2, 3, 4, 5, 6, 7]);
    // Any of them can be the beginning of a piece.
    let file = open_with(
        &bytes,
        Grid {
            every_ms: 1,
            max_bytes: 1,
        },
    )
    .expect("a file");
    for frame in &found {
        let piece = file.piece_at(frame.position).expect("a piece");
        assert_eq!(piece.frames, std::slice::from_ref(frame));
    }
}

#[test]
fn a_fragmented_file_ends_before_the_fragment_that_was_cut() {
    let head = [empty_movie().movie(0), fragment(Some(0), &[1, 2])].concat();
    let whole = [head.clone(), fragment(Some(80), &[3, 4])].concat();
    for length in head.len()..whole.len() {
        let bytes = Bytes::copy_from_slice(&whole[..length]);
        let file = open(&bytes).expect("a file");
        assert_eq!(file.info().duration_ms, 80, "{length}");
        assert_eq!(frames(&bytes).len(), 2, "{length}");
    }
    assert_eq!(frames(&whole.clone().into()).len(), 4);
    // What follows the last box and is none does not matter.
    let garbage = [whole, vec![0, 0, 0, 3, 9, 9, 9, 9, 9]].concat();
    assert_eq!(frames(&garbage.into()).len(), 4);
}

#[test]
fn a_file_without_frames_has_one_empty_piece() {
    let bytes: Bytes = empty_movie().movie(0).into();
    let file = open(&bytes).expect("a file");
    let info = file.info();
    assert_eq!(
        (info.duration_ms, info.has_audio, info.has_video),
        (0, false, false)
    );
    let piece = file.piece_at_time(9).expect("a piece");
    assert_eq!((piece.first, piece.next, piece.frames.len()), (0, None, 0));
    assert_eq!(file.piece_at(0).expect("a piece"), piece);
    assert!(file.piece_at(1).is_err() && file.piece_at(2).is_err());
}

/// Without an edit list nothing is cut off, also what comes before the first key frame.
#[test]
fn frames_before_the_first_key_frame_are_kept() {
    let made = Plain {
        tables: [
            table(b"stts", 1, &[6, 0]),
            table(b"stss", 2, &[2, 5]),
            boxed(b"stsz", &[&words(&[0, 4, 6])]),
            table(b"stsc", 1, &[1, 6, 1]),
        ]
        .concat(),
        ..Plain::video(&[4; 6])
    };
    assert_eq!(frames(&made.file()).len(), 6);
}

#[test]
fn what_is_wrong_in_a_track_of_another_kind_does_not_matter() {
    let broken = |handler| Plain {
        handler,
        descriptions: vec![vec![0, 0, 0, 90, 1, 2, 3, 4]],
        ..Plain::video(&[4; 3])
    };
    let extra = |handler| {
        let movie = broken(handler).movie(0);
        let at = movie.windows(4).position(|kind| kind == b"trak");
        movie[at.expect("a track") - 4..].to_vec()
    };
    for (handler, is_fine) in [(b"text", true), (b"vide", false)] {
        let made = Plain {
            movie: extra(handler),
            ..Plain::video(&[4; 6])
        };
        assert_eq!(open(&made.file()).is_ok(), is_fine);
    }
}

/// MP3 has no decoder configuration that could change.
#[test]
fn descriptions_of_mp3_change_without_a_frame_of_their_own() {
    let entry = || {
        let mut entry = mp4a(0, &[], &[]);
        entry[4..8].copy_from_slice(b".mp3");
        entry
    };
    let made = Plain {
        handler: b"soun",
        descriptions: vec![entry(), entry()],
        tables: [
            table(b"stts", 1, &[6, 40]),
            boxed(b"stsz", &[&words(&[0, 4, 6])]),
            table(b"stsc", 2, &[1, 3, 1, 2, 3, 2]),
        ]
        .concat(),
        chunks: vec![0, 12],
        ..Plain::video(&[4; 6])
    };
    let grid = Grid {
        every_ms: 1,
        max_bytes: 1,
    };
    let file = open_with(&made.file(), grid).expect("a file");
    let firsts: Vec<_> = pieces(&file)
        .expect("pieces")
        .iter()
        .map(|piece| piece.first)
        .collect();
    assert_eq!(firsts, [1, 3, 5, 7, 9, 11]);
}
