//! The boxes of a fragmented file.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Fragment, Layout, Part, TrackLayout, VIDEO};
use crate::mp4::description::{Coding, Description};

/// Most references of a `sidx`: their count has 16 bits.
const MAX_REFERENCES: usize = u16::MAX as usize;

/// Sample flags: depends on no other sample; depends on others, and is no sync sample.
const SYNC: u32 = 0x0200_0000;
const NON_SYNC: u32 = 0x0101_0000;

/// `tfhd`: a description, default flags, offsets count from `moof`.
const TFHD: u32 = 0x2_0022;

/// `trun`: data offset, durations, sizes; and for video flags and composition times.
const TRUN_AUDIO: u32 = 0x301;
const TRUN_VIDEO: u32 = 0xf01;

/// The unity matrix.
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// Milliseconds.
const MOVIE_TIMESCALE: u32 = 1_000;

/// Writes a box around what `body` writes. A box here is far below 4 GiB: fragments and tables have bounds.
fn boxed(out: &mut BytesMut, kind: &[u8; 4], body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_slice(kind);
    body(out);
    patch(out, start, (out.len() - start) as u32);
}

/// As [`boxed`], with version and flags.
fn full(
    out: &mut BytesMut,
    kind: &[u8; 4],
    (version, flags): (u8, u32),
    body: impl FnOnce(&mut BytesMut),
) {
    boxed(out, kind, |out| {
        out.put_u32(u32::from(version) << 24 | flags);
        body(out);
    });
}

/// Overwrites four bytes that were written.
fn patch(out: &mut BytesMut, at: usize, value: u32) {
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

fn put_words(out: &mut BytesMut, words: &[u32]) {
    for word in words {
        out.put_u32(*word);
    }
}

/// Everything before the first fragment.
pub(super) fn head(layout: &Layout) -> Bytes {
    let mut out = BytesMut::new();
    boxed(&mut out, b"ftyp", |out| {
        out.put_slice(b"iso5\0\0\x02\0iso5iso6mp41");
    });
    boxed(&mut out, b"moov", |out| movie(out, layout));
    index(&mut out, layout);
    out.freeze()
}

fn movie(out: &mut BytesMut, layout: &Layout) {
    let duration = layout.duration_ms();
    full(out, b"mvhd", (1, 0), |out| {
        out.put_bytes(0, 16); // creation and modification
        out.put_u32(MOVIE_TIMESCALE);
        out.put_u64(duration);
        put_words(out, &[0x1_0000, 0x0100_0000, 0, 0]); // rate, volume
        put_words(out, &MATRIX);
        out.put_bytes(0, 24);
        out.put_u32(3); // next track
    });
    for track in layout.tracks.iter().flatten() {
        boxed(out, b"trak", |out| put_track(out, track));
    }
    boxed(out, b"mvex", |out| {
        full(out, b"mehd", (1, 0), |out| out.put_u64(duration));
        for track in layout.tracks.iter().flatten() {
            full(out, b"trex", (0, 0), |out| {
                put_words(out, &[track.id, 1, 0, 0, 0]);
            });
        }
    });
}

fn put_track(out: &mut BytesMut, track: &TrackLayout) {
    let is_video = track.id == VIDEO;
    // Enabled, and part of the presentation.
    full(out, b"tkhd", (1, 3), |out| {
        out.put_bytes(0, 16);
        put_words(out, &[track.id, 0]);
        out.put_u64(track.end_ms());
        put_words(out, &[0, 0, 0]); // layer and group
        out.put_u16(if is_video { 0 } else { 0x100 }); // volume
        out.put_u16(0);
        put_words(out, &MATRIX);
        put_words(out, &[track.width << 16, track.height << 16]);
    });
    boxed(out, b"mdia", |out| {
        full(out, b"mdhd", (1, 0), |out| {
            out.put_bytes(0, 16);
            out.put_u32(track.timescale);
            out.put_u64(track.end);
            put_words(out, &[0x55c4_0000]); // language: und
        });
        full(out, b"hdlr", (0, 0), |out| {
            out.put_u32(0);
            out.put_slice(if is_video { b"vide" } else { b"soun" });
            out.put_bytes(0, 12);
            out.put_slice(if is_video { b"video\0" } else { b"sound\0" });
        });
        boxed(out, b"minf", |out| {
            if is_video {
                full(out, b"vmhd", (0, 1), |out| out.put_bytes(0, 8));
            } else {
                full(out, b"smhd", (0, 0), |out| out.put_u32(0));
            }
            boxed(out, b"dinf", |out| {
                full(out, b"dref", (0, 0), |out| {
                    out.put_u32(1);
                    full(out, b"url ", (0, 1), |_| {}); // in this file
                });
            });
            boxed(out, b"stbl", |out| {
                full(out, b"stsd", (0, 0), |out| {
                    out.put_u32(track.descriptions.len() as u32);
                    for description in &track.descriptions {
                        out.put_slice(description);
                    }
                });
                full(out, b"stts", (0, 0), |out| out.put_u32(0));
                full(out, b"stsc", (0, 0), |out| out.put_u32(0));
                full(out, b"stsz", (0, 0), |out| out.put_u64(0));
                full(out, b"stco", (0, 0), |out| out.put_u32(0));
            });
        });
    });
}

/// A sample entry of `stsd`.
pub(super) fn sample_entry(description: &Description) -> Bytes {
    let mut out = BytesMut::new();
    boxed(&mut out, &description.code, |out| {
        out.put_bytes(0, 6);
        out.put_u16(1); // data reference
        match description.coding {
            Some(Coding::Avc) => visual(out, description, b"avcC"),
            Some(Coding::Hevc) => visual(out, description, b"hvcC"),
            _ => {
                out.put_bytes(0, 8);
                out.put_u16(description.channels);
                out.put_u16(16); // bits of a sample
                out.put_u32(0);
                // 16 bits; what is above stands in the decoder configuration.
                let rate = u16::try_from(description.sample_rate).unwrap_or_default();
                out.put_u32(u32::from(rate) << 16);
                full(out, b"esds", (0, 0), |out| {
                    elementary_stream(out, description)
                });
            }
        }
    });
    out.freeze()
}

fn visual(out: &mut BytesMut, description: &Description, configuration: &[u8; 4]) {
    out.put_bytes(0, 16);
    out.put_u16(description.width);
    out.put_u16(description.height);
    put_words(out, &[0x48_0000, 0x48_0000, 0]); // 72 dots per inch
    out.put_u16(1); // frames in a sample
    out.put_bytes(0, 32); // compressor name
    out.put_u16(24); // depth
    out.put_u16(0xffff);
    boxed(out, configuration, |out| {
        out.put_slice(&description.configuration)
    });
}

fn elementary_stream(out: &mut BytesMut, description: &Description) {
    let configuration = &description.configuration;
    let object_type = match (description.coding, description.sample_rate) {
        // MPEG-1 audio, and the low rates of MPEG-2.
        (Some(Coding::Mp3), 32_000..) => 0x6b,
        (Some(Coding::Mp3), _) => 0x69,
        _ => 0x40,
    };
    let specific = if configuration.is_empty() {
        0
    } else {
        configuration.len() + 5
    };
    put_descriptor(out, 3, 3 + 5 + 13 + specific + 5 + 1);
    out.put_bytes(0, 3); // id, flags
    put_descriptor(out, 4, 13 + specific);
    out.put_u8(object_type);
    out.put_u8(0x15); // audio stream
    out.put_bytes(0, 11); // buffer, bit rates
    if !configuration.is_empty() {
        put_descriptor(out, 5, configuration.len());
        out.put_slice(configuration);
    }
    put_descriptor(out, 6, 1);
    out.put_u8(2);
}

/// Tag and length, in five bytes.
fn put_descriptor(out: &mut BytesMut, tag: u8, length: usize) {
    out.put_u8(tag);
    for shift in [21, 14, 7] {
        out.put_u8((length >> shift & 0x7f) as u8 | 0x80);
    }
    out.put_u8((length & 0x7f) as u8);
}

/// `sidx`: where the subsegments are. One of them is one fragment, or more in a file with more than a `sidx` can refer to.
fn index(out: &mut BytesMut, layout: &Layout) {
    let Some((number, track)) = layout
        .tracks
        .iter()
        .enumerate()
        .find_map(|(number, track)| Some((number, track.as_ref()?)))
    else {
        return;
    };
    let each = layout.fragments.len().div_ceil(MAX_REFERENCES).max(1);
    let subsegments = layout.fragments.chunks(each);
    let start_of = |fragments: &[super::Extent]| {
        let mut starts = fragments
            .iter()
            .filter_map(|fragment| *fragment.starts.get(number)?);
        starts.next().map(|(time, _)| time)
    };
    // Where the track has nothing, a subsegment takes no time.
    let mut ends: Vec<u64> = Vec::with_capacity(subsegments.len());
    let mut next = track.end;
    for subsegment in subsegments.clone().rev() {
        ends.push(next);
        next = start_of(subsegment).unwrap_or(next);
    }
    full(out, b"sidx", (1, 0), |out| {
        put_words(out, &[track.id, track.timescale]);
        out.put_u64(track.start);
        out.put_u64(0); // the first subsegment follows
        out.put_u16(0);
        out.put_u16(subsegments.len() as u16);
        let mut start = next;
        for (subsegment, end) in subsegments.zip(ends.into_iter().rev()) {
            let length: u64 = subsegment.iter().map(|fragment| fragment.length).sum();
            out.put_u32(u32::try_from(length).unwrap_or(u32::MAX) & 0x7fff_ffff);
            out.put_u32(u32::try_from(end - start).unwrap_or(u32::MAX));
            let first = subsegment
                .first()
                .and_then(|fragment| *fragment.starts.get(number)?);
            // It starts with a stream access point of type 1.
            out.put_u32(if first.is_some_and(|(_, is_key)| is_key) {
                0x9000_0000
            } else {
                0
            });
            start = end;
        }
    });
}

/// `moof`, and where in it the data offsets stand.
fn fragment_head(fragment: &Fragment, number: usize) -> BytesMut {
    let mut out = BytesMut::new();
    let mut offsets = Vec::new();
    boxed(&mut out, b"moof", |out| {
        full(out, b"mfhd", (0, 0), |out| out.put_u32(number as u32 + 1));
        for part in fragment.parts.iter().flatten() {
            boxed(out, b"traf", |out| offsets.push(track_fragment(out, part)));
        }
    });
    let mut data = out.len() as u64 + 8;
    for (at, part) in offsets.into_iter().zip(fragment.parts.iter().flatten()) {
        patch(&mut out, at, data as u32);
        data += part.bytes;
    }
    out
}

/// Gives where the data offset stands.
fn track_fragment(out: &mut BytesMut, part: &Part) -> usize {
    let is_video = part.id == VIDEO;
    full(out, b"tfhd", (0, TFHD), |out| {
        put_words(out, &[part.id, part.description, SYNC]);
    });
    full(out, b"tfdt", (1, 0), |out| {
        out.put_u64(part.samples.first().map_or(0, |sample| sample.time));
    });
    let flags = if is_video { TRUN_VIDEO } else { TRUN_AUDIO };
    let mut offset = 0;
    full(out, b"trun", (1, flags), |out| {
        out.put_u32(part.samples.len() as u32);
        offset = out.len();
        out.put_u32(0);
        for sample in &part.samples {
            put_words(out, &[sample.duration, sample.size]);
            if is_video {
                out.put_u32(if sample.is_sync { SYNC } else { NON_SYNC });
                out.put_i32(sample.composition);
            }
        }
    });
    offset
}

fn media_length(fragment: &Fragment) -> u64 {
    fragment.parts.iter().flatten().map(|part| part.bytes).sum()
}

/// Bytes that [`put_fragment`] writes.
pub(super) fn fragment_length(fragment: &Fragment, number: usize) -> u64 {
    fragment_head(fragment, number).len() as u64 + 8 + media_length(fragment)
}

/// Writes a fragment: `moof` and `mdat`.
pub(super) fn put_fragment(fragment: &Fragment, number: usize, out: &mut impl BufMut) {
    out.put_slice(&fragment_head(fragment, number));
    out.put_u32(8 + media_length(fragment) as u32);
    out.put_slice(b"mdat");
    for part in fragment.parts.iter().flatten() {
        for data in &part.media {
            out.put_slice(data);
        }
    }
}

/// `mfra`: where each track can be started.
pub(super) fn tail(layout: &Layout) -> Bytes {
    let mut out = BytesMut::new();
    boxed(&mut out, b"mfra", |out| {
        for (number, track) in layout.tracks.iter().enumerate() {
            if let Some(track) = track {
                full(out, b"tfra", (1, 0), |out| {
                    random_access(out, layout, number, track)
                });
            }
        }
        // The size of `mfra`, this box included.
        let length = out.len() as u32 + 16;
        full(out, b"mfro", (0, 0), |out| out.put_u32(length));
    });
    out.freeze()
}

fn random_access(out: &mut BytesMut, layout: &Layout, number: usize, track: &TrackLayout) {
    put_words(out, &[track.id, 0]); // numbers of one byte each
    let place = out.len();
    out.put_u32(0);
    let mut count = 0;
    let mut offset = layout.head.len() as u64;
    for fragment in &layout.fragments {
        if let Some(Some((time, true))) = fragment.starts.get(number) {
            count += 1;
            out.put_u64(*time);
            out.put_u64(offset);
            let before = fragment.starts.iter().take(number).flatten().count();
            out.put_slice(&[before as u8 + 1, 1, 1]); // traf, trun, sample
        }
        offset += fragment.length;
    }
    patch(out, place, count);
}
