use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::file::{FileFrame, Grid, MediaFile};
use crate::frame::FrameFlags;
use crate::inspect::{Packet, inspect};
use crate::mp4::tests::support::{
    AAC, AVC, both, compare, ffmpeg, frames as read, open, open_with, pieces, unwrap,
};
use crate::synthetic::{AudioSettings, Settings, SyntheticStream};

mod programs;
mod reading;

use programs::{decodes, run};

type Input = (FrameKind, u64, Bytes);

fn layout(input: &[Input]) -> Result<Layout, WriteError> {
    let mut survey = Survey::new();
    for (kind, timestamp, payload) in input {
        survey.push(*kind, *timestamp, payload)?;
    }
    survey.finish()
}

fn second_pass(layout: Layout, input: &[Input]) -> Result<Bytes, WriteError> {
    let mut writer = layout.writer();
    let mut out = BytesMut::new();
    writer.begin(&mut out);
    for (kind, timestamp, payload) in input {
        writer.push(*kind, *timestamp, payload, &mut out)?;
    }
    writer.finish(&mut out)?;
    Ok(out.freeze())
}

fn write(input: &[Input]) -> Bytes {
    let layout = layout(input).expect("a layout");
    let length = layout.length();
    let out = second_pass(layout, input).expect("a file");
    assert_eq!(out.len() as u64, length);
    out
}

/// What a publisher would send of a file, from some time on.
fn messages(file: &Bytes, start: u64) -> Vec<Input> {
    let file = open(file).expect("a file");
    let pieces = pieces(&file).expect("pieces");
    let preface = pieces[0].preface.clone();
    preface
        .into_iter()
        .chain(pieces.into_iter().flat_map(|piece| piece.frames))
        .map(|frame| (frame.kind, start + frame.timestamp, frame.payload))
        .collect()
}

fn synthetic(settings: Settings, count: usize) -> Vec<Input> {
    SyntheticStream::new(settings)
        .expect("settings")
        .take(count)
        .map(|frame| (frame.kind, 7_000 + frame.timestamp, frame.payload))
        .collect()
}

fn is_coded(input: &Input) -> bool {
    let (kind, _, payload) = input;
    *kind != FrameKind::Data && !inspect(*kind, payload).flags.contains(FrameFlags::HEADER)
}

/// Every coded frame is there, with its data, its flags and its time.
fn same(file: &Bytes, input: &[Input]) {
    let found = read(file);
    let start = input
        .iter()
        .find(|input| is_coded(input))
        .expect("a frame")
        .1;
    for kind in [FrameKind::Video, FrameKind::Audio] {
        let expected: Vec<&Input> = input
            .iter()
            .filter(|input| input.0 == kind && is_coded(input))
            .collect();
        let found: Vec<&FileFrame> = found
            .iter()
            .filter(|frame| frame.kind == kind && !frame.flags.contains(FrameFlags::HEADER))
            .collect();
        assert_eq!(found.len(), expected.len(), "{kind:?}");
        for (frame, (_, timestamp, payload)) in found.into_iter().zip(expected) {
            let most = if kind == FrameKind::Video { 0 } else { 3 };
            assert!(
                frame.timestamp.abs_diff(timestamp - start) <= most,
                "{kind:?} {timestamp}"
            );
            assert_eq!(frame.payload, payload, "{kind:?} {timestamp}");
        }
    }
}

#[test]
fn single_tracks() {
    let tone: &[&str] = &["-f", "lavfi", "-i", "sine=duration=9"];
    let audio = messages(&ffmpeg(&[tone, AAC], "in.m4a"), 0);
    let file = write(&audio);
    same(&file, &audio);
    compare(&file, "audio");
    decodes(&file);
    assert_eq!(boxes_of(&file, b"moof").len(), 5);
    let picture: &[&str] = &[
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=320x240:rate=30:duration=3",
    ];
    let video = messages(&ffmpeg(&[picture, AVC], "in.mp4"), 0);
    let file = write(&video);
    same(&file, &video);
    compare(&file, "video");
    decodes(&file);
    let size = run(
        "ffprobe",
        &[
            "-v",
            "error",
            "-show_entries",
            "stream=width,height",
            "-of",
            "csv=p=0",
        ],
        &file,
        &[],
    );
    assert_eq!(size.trim(), "320,240");
}

fn long() -> Vec<Input> {
    let settings = Settings {
        video_bitrate: 200_000,
        fps: 25,
        gop: 25,
        audio: Some(AudioSettings {
            bitrate: 32_000,
            sample_rate: 44_100,
            stereo: true,
        }),
        seed: 1,
    };
    synthetic(settings, 2_000)
}

/// Offsets of the boxes of a kind at the top of the file.
fn boxes_of(file: &Bytes, kind: &[u8; 4]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < file.len() {
        if &file[at + 4..at + 8] == kind {
            found.push(at);
        }
        at += word(file, at) as usize;
    }
    assert_eq!(at, file.len());
    found
}

fn word(file: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(file[at..at + 4].try_into().expect("4 bytes"))
}

fn long_word(file: &[u8], at: usize) -> u64 {
    u64::from(word(file, at)) << 32 | u64::from(word(file, at + 4))
}

#[test]
fn fragments_are_found_through_both_indices() {
    let input = long();
    let file = write(&input);
    same(&file, &input);
    decodes(&file);
    let fragments = boxes_of(&file, b"moof");
    assert!(fragments.len() > 12, "{}", fragments.len());

    // `sidx` comes right before the first fragment, and its references lead from one to the next.
    let sidx = boxes_of(&file, b"sidx")[0];
    assert_eq!(sidx + word(&file, sidx) as usize, fragments[0]);
    let count = usize::from(word(&file, sidx + 36) as u16);
    assert_eq!(count, fragments.len());
    let mut at = fragments[0];
    let mut ticks = 0;
    for (number, fragment) in fragments.iter().enumerate() {
        assert_eq!(at, *fragment);
        let reference = sidx + 40 + number * 12;
        at += word(&file, reference) as usize;
        ticks += word(&file, reference + 4);
        assert_eq!(word(&file, reference + 8), 0x9000_0000);
    }
    let mfra = boxes_of(&file, b"mfra")[0];
    assert_eq!(at, mfra);
    let opened = open(&file).expect("a file");
    let video: Vec<_> = input
        .iter()
        .filter(|input| input.0 == FrameKind::Video)
        .collect();
    let (first, last) = (video[1].1, video[video.len() - 1].1);
    assert_eq!(u64::from(ticks), last - first + 40);

    // `mfra` ends the file, and names each fragment with its time.
    assert_eq!(word(&file, file.len() - 4) as usize, file.len() - mfra);
    let tfra = mfra + 8;
    assert_eq!(&file[tfra + 4..tfra + 8], b"tfra");
    assert_eq!(word(&file, tfra + 20) as usize, fragments.len());
    for (number, fragment) in fragments.iter().enumerate() {
        let entry = tfra + 24 + number * 19;
        assert_eq!(long_word(&file, entry + 8), *fragment as u64);
        let piece = opened
            .piece_at_time(long_word(&file, entry))
            .expect("a piece");
        let starts: Vec<_> = piece.frames.iter().map(|frame| frame.timestamp).collect();
        assert!(starts.contains(&long_word(&file, entry)));
    }
}

#[test]
fn audio_that_keeps_its_clock_is_on_it_and_a_gap_stays() {
    let mut input = long();
    let ticks: Vec<u64> = {
        let file = write(&input);
        let packets = run(
            "ffprobe",
            &[
                "-v",
                "error",
                "-select_streams",
                "a",
                "-show_entries",
                "packet=dts",
                "-of",
                "csv=p=0",
            ],
            &file,
            &[],
        );
        packets
            .lines()
            .filter_map(|line| line.trim_matches(',').parse().ok())
            .collect()
    };
    assert!(ticks.len() > 500);
    assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] == 1_024));
    // Ten seconds later.
    let half = input.len() / 2;
    for frame in &mut input[half..] {
        frame.1 += 10_000;
    }
    let file = write(&input);
    same(&file, &input);
    decodes(&file);
}

/// A publisher that came back with another encoder: the recording goes on.
#[test]
fn a_new_configuration_has_a_description_of_its_own() {
    let first = messages(&both(&[AVC, AAC], "a.mp4"), 0);
    let second = both(
        &[
            &[
                "-vf",
                "scale=320:240",
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-pix_fmt",
                "yuv420p",
            ],
            &["-ac", "2"],
            AAC,
        ],
        "b.mp4",
    );
    let second = messages(&second, 2_500);
    let third = messages(&both(&[AVC, AAC], "c.mp4"), 5_000);
    let input = [first, second, third].concat();
    let file = write(&input);
    same(&file, &input);
    // The reader sends the configuration whenever it changes.
    let headers: Vec<_> = read(&file)
        .into_iter()
        .filter(|frame| frame.flags.contains(FrameFlags::HEADER))
        .map(|frame| (frame.kind, frame.payload))
        .collect();
    let sent: Vec<_> = input
        .iter()
        .filter(|(kind, _, payload)| inspect(*kind, payload).flags.contains(FrameFlags::HEADER))
        .skip(2)
        .map(|(kind, _, payload)| (*kind, payload.clone()))
        .collect();
    for kind in [FrameKind::Video, FrameKind::Audio] {
        let of = |all: &[(FrameKind, Bytes)]| -> Vec<Bytes> {
            let kept = all.iter().filter(|one| one.0 == kind);
            kept.map(|one| one.1.clone()).collect()
        };
        assert_eq!(of(&headers), of(&sent), "{kind:?}");
    }
}

#[test]
fn enhanced_messages_are_the_same_file() {
    let plain = messages(&both(&[AVC, AAC], "a.mp4"), 0);
    let enhanced: Vec<Input> = plain
        .iter()
        .map(|(kind, timestamp, payload)| {
            let mut out = Vec::new();
            let rest = match (kind, payload[1]) {
                (FrameKind::Data, _) => return (*kind, *timestamp, payload.clone()),
                (FrameKind::Video, 0) => {
                    out.extend(b"\x90avc1");
                    &payload[5..]
                }
                (FrameKind::Video, _) => {
                    out.push(0x80 | payload[0] & 0x70 | 1);
                    out.extend(b"avc1");
                    &payload[2..]
                }
                (FrameKind::Audio, packet) => {
                    out.push(0x90 | packet);
                    out.extend(b"mp4a");
                    &payload[2..]
                }
            };
            out.extend(rest);
            (*kind, *timestamp, out.into())
        })
        .collect();
    assert_eq!(write(&enhanced), write(&plain));
}

#[test]
fn what_has_no_place_is_counted() {
    let mut input = synthetic(Settings::default(), 100);
    let before = layout(&input).expect("a layout").left_out();
    assert_eq!(before, 0);
    let header = input.remove(1);
    // The first picture comes before its configuration now.
    input.insert(4, header);
    input.push((FrameKind::Video, 9_000, Bytes::from_static(&[0x14, 1, 2])));
    input.push((FrameKind::Audio, 9_000, Bytes::from_static(&[0xb0, 1, 2])));
    input.push((FrameKind::Video, 9_000, Bytes::new()));
    let layout = layout(&input).expect("a layout");
    assert!(
        (4..=5).contains(&layout.left_out()),
        "{}",
        layout.left_out()
    );
    assert!(second_pass(layout, &input).is_ok());
}

#[test]
fn what_cannot_be_written_is_an_error() {
    assert_eq!(layout(&[]).expect_err("nothing"), WriteError::Empty);
    let data = (FrameKind::Data, 0, Bytes::from_static(&[2, 0, 0]));
    assert_eq!(layout(&[data]).expect_err("nothing"), WriteError::Empty);
    let mut input = synthetic(Settings::default(), 4);
    let mut large = BytesMut::from(&[0x17, 1, 0, 0, 0][..]);
    large.resize(crate::mp4::MAX_SAMPLE as usize + 6, 0);
    input.push((FrameKind::Video, 9_000, large.freeze()));
    assert!(matches!(layout(&input), Err(WriteError::TooLarge { .. })));

    let mut input = synthetic(Settings::default(), 4);
    for number in 0..=MAX_CONFIGURATIONS as u8 {
        let header = vec![0x17, 0, 0, 0, 0, 1, number, 0, 10];
        input.push((FrameKind::Video, 8_000, header.into()));
    }
    let error = layout(&input).expect_err("too many");
    assert_eq!(error, WriteError::TooManyConfigurations);
}

#[test]
fn other_frames_in_the_second_pass_are_an_error() {
    let input = long();
    let changed = |change: &dyn Fn(&mut Vec<Input>)| {
        let mut other = input.clone();
        change(&mut other);
        second_pass(layout(&input).expect("a layout"), &other)
    };
    assert!(changed(&|_| {}).is_ok());
    let shorter = changed(&|input| input.truncate(900));
    assert!(matches!(shorter, Err(WriteError::Changed { .. })));
    let longer = changed(&|input| input.extend(long()));
    assert!(matches!(longer, Err(WriteError::Changed { .. })));
    let without = changed(&|input| drop(input.remove(700)));
    assert!(matches!(without, Err(WriteError::Changed { .. })));
}

/// Frames of any size at any time, in any order: the file says what it says, and can be read.
fn anything() -> impl Strategy<Value = Vec<Input>> {
    let payload = prop_oneof![
        Just(vec![0x17, 0, 0, 0, 0, 1, 66, 0, 10]),
        Just(vec![0x17, 0, 0, 0, 0, 1, 77, 0, 20]),
        (any::<bool>(), any::<u8>(), 0_usize..40).prop_map(|(is_key, composition, length)| {
            let mut out = vec![if is_key { 0x17 } else { 0x27 }, 1, 0, 0, composition];
            out.resize(5 + length, 7);
            out
        }),
        Just(vec![0xaf, 0, 0x12, 0x10]),
        (0_usize..40).prop_map(|length| {
            let mut out = vec![0xaf, 1];
            out.resize(2 + length, 9);
            out
        }),
        proptest::collection::vec(any::<u8>(), 0..12),
    ];
    let frame = (any::<bool>(), 0_u64..1_500, payload).prop_map(|(is_video, ms, payload)| {
        let is_audio = payload.first() == Some(&0xaf) || !is_video && payload.len() < 8;
        let kind = if is_audio {
            FrameKind::Audio
        } else {
            FrameKind::Video
        };
        (kind, ms, Bytes::from(payload))
    });
    proptest::collection::vec(frame, 0..120).prop_map(|mut frames| {
        let mut time = 0;
        for (number, frame) in frames.iter_mut().enumerate() {
            // Mostly forward.
            time = if number % 17 == 16 {
                time / 2
            } else {
                time + frame.1 / 8
            };
            frame.1 = time;
        }
        frames
    })
}

proptest! {
    #[test]
    fn any_frames_make_a_file_or_an_error(input in anything()) {
        let Ok(layout) = layout(&input) else {
            return Ok(());
        };
        let (length, duration, left_out) = (layout.length(), layout.duration_ms(), layout.left_out());
        let file = second_pass(layout, &input).expect("a file");
        prop_assert_eq!(file.len() as u64, length);
        let grid = Grid { every_ms: 200, max_bytes: 200 };
        let opened = open_with(&file, grid).expect("a file");
        let found: Vec<FileFrame> = pieces(&opened)
            .expect("pieces")
            .into_iter()
            .flat_map(|piece| piece.frames)
            .filter(|frame| !frame.flags.contains(FrameFlags::HEADER))
            .collect();
        let coded = input.iter().filter(|input| {
            inspect(input.0, &input.2).packet == Packet::Coded
        });
        prop_assert!(found.len() as u64 + left_out >= coded.count() as u64);
        for frame in &found {
            let (data, _) = unwrap(frame);
            prop_assert!(input.iter().any(|input| input.2.ends_with(&data)));
        }
        // Decode times go as far ahead of negative composition times.
        prop_assert!(opened.info().duration_ms <= duration + 10_000);
    }
}

/// Pictures without a key frame, and sound after the pictures stopped.
#[test]
fn a_fragment_without_an_end_of_its_own_is_cut() {
    let mut input = synthetic(
        Settings {
            gop: 10_000,
            ..Settings::default()
        },
        2_500,
    );
    let file = write(&input);
    assert_eq!(boxes_of(&file, b"moof").len(), 4, "of 10 seconds each");
    same(&file, &input);
    decodes(&file);
    input.retain(|(kind, timestamp, _)| *kind != FrameKind::Video || *timestamp < 9_000);
    let file = write(&input);
    assert_eq!(boxes_of(&file, b"moof").len(), 4);
    same(&file, &input);
}
