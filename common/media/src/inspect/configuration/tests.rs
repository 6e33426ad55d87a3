use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Bytes {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
        .collect()
}

/// Header, profile, constraints, level, picture size.
type Vector = (&'static str, u8, u8, u8, (u32, u32));

/// Headers that libx264 made, by way of ffmpeg 5.1, with the picture sizes it was asked for.
const X264: [Vector; 6] = [
    (
        "17000000000164001fffe1001a6764001facd9405005bb0110000003001000000303c0f183196001000668ebe3cb22c0fdf8f800",
        100,
        0,
        31,
        (1280, 720),
    ),
    (
        "170000000001640028ffe1001b67640028acd940780227e5c044000003000400000300c83c60c65801000668ebe3cb22c0fdf8f800",
        100,
        0,
        40,
        (1920, 1080),
    ),
    (
        "17000000000142c01fffe100196742c01fd900d83de6f0110000030001000003003c0f18324801000568cb83cb20",
        66,
        0xc0,
        31,
        (854, 480),
    ),
    // 4:2:2, interlaced.
    (
        "1700000000017a001effe10018677a001ebcd940b424d8088000000300800000190f8a14cb01000668fba3cb22c0fef8f800",
        122,
        0,
        30,
        (720, 576),
    ),
    // 4:4:4.
    (
        "170000000001f4001effe1001b67f4001e919b281405ff138088000003000800000301e078b16cb001000668ebe3c44844fff8f800",
        244,
        0,
        30,
        (640, 360),
    ),
    (
        "170000000001f4000dffe1001867f4000d919b282c12d808800000030080000019078a14cb01000868ebe3c44c000440fff8f800",
        244,
        0,
        13,
        (352, 288),
    ),
];

#[test]
fn avc_headers_tell_profile_and_size() {
    for (header, profile, constraints, level, size) in X264 {
        let legacy = bytes(header);
        let extended: Bytes = [&b"\x90avc1"[..], &legacy[5..]].concat().into();
        let expected = Configuration::Avc {
            profile,
            constraints,
            level,
            size: Some(size),
        };
        for payload in [legacy, extended] {
            assert_eq!(configuration(FrameKind::Video, &payload), Some(expected));
        }
    }
}

/// A sequence parameter set of ones and zeros, after its profile, constraints and level.
fn with_parameters(profile: u8, bits: &str) -> Bytes {
    let bits: String = bits.split_whitespace().collect();
    let mut unit = vec![0x67, profile, 0, 30];
    for byte in format!("{bits}1000000").as_bytes().chunks_exact(8) {
        unit.push(byte.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0')));
    }
    let head = [0x17, 0, 0, 0, 0, 1, profile, 0, 30, 0xff, 0xe1, 0];
    [&head[..], &[unit.len() as u8], &unit].concat().into()
}

#[test]
fn rare_parameters_are_passed_over() {
    // max_num_ref_frames 1, no gaps, 20 by 12 macroblocks, frames only, direct 8x8, not cropped, no VUI.
    let end = "010 0 000010100 0001100 1 1 0 0";
    // A list in use from the start (delta -8), a flat one of 16 (15 deltas of 0 after one of 8), six absent ones.
    let lists = format!("1 1 000010001 1 000010000 {} 000000", "1".repeat(15));
    for (what, profile, bits) in [
        ("order count of type 2", 66, format!("1 1 011 {end}")),
        ("order count of type 0", 77, format!("1 1 1 1 {end}")),
        (
            "order count of type 1 with two offsets",
            77,
            format!("1 1 010 0 1 00101 011 1 010 {end}"),
        ),
        (
            "scaling lists",
            100,
            format!("1 010 1 1 0 {lists} 1 011 {end}"),
        ),
        (
            "separate colour planes",
            244,
            format!("1 00100 1 1 1 0 0 1 011 {end}"),
        ),
    ] {
        let found = configuration(FrameKind::Video, &with_parameters(profile, &bits));
        let Some(Configuration::Avc { size, .. }) = found else {
            panic!("{what}: {found:?}");
        };
        assert_eq!(size, Some((320, 192)), "{what}");
    }
}

#[test]
fn sizes_that_make_no_sense_are_not_told() {
    for (what, bits) in [
        (
            "cropped to nothing",
            "1 1 011 010 0 1 1 1 1 1 1 0001001 1 1",
        ),
        (
            "a size of 36 bits",
            &format!("1 1 011 010 0 {}{} 1 1 1 0", "0".repeat(31), "1".repeat(32)),
        ),
        ("a code without end", &"0".repeat(80)),
    ] {
        let found = configuration(FrameKind::Video, &with_parameters(66, bits));
        assert!(
            matches!(found, Some(Configuration::Avc { size: None, .. })),
            "{what}: {found:?}"
        );
    }
}

#[test]
fn aac_headers_tell_rate_and_channels() {
    for (header, expected) in [
        ("af001190", Some((2, 48_000, 2))),
        ("af00120856e500", Some((2, 44_100, 1))),
        ("906d7034611190", Some((2, 48_000, 2))),
        // HE-AAC; a rate that is spelled out; an object type above 31.
        ("af002b11", Some((5, 24_000, 2))),
        ("af0017803e8010", Some((2, 32_000, 2))),
        ("af00f84840", Some((34, 44_100, 2))),
        ("af0017", None),
        ("af001690", None),
        ("af00", None),
        ("af011190", None),
        ("2f001190", None),
    ] {
        let expected = expected.map(|(object_type, sample_rate, channels)| Configuration::Aac {
            object_type,
            sample_rate,
            channels,
        });
        assert_eq!(
            configuration(FrameKind::Audio, &bytes(header)),
            expected,
            "{header}"
        );
    }
}

#[test]
fn headers_of_other_codecs_and_tracks_say_nothing() {
    for payload in [
        &b"\x90hvc1\x01\x02\x03\x04\x05\x06\x07\x08\x09"[..],
        b"\x96\x00avc1\x01\x01\x02\x03\x04\x05\x06\x07\x08\x09",
        b"\x97\x00\x00\x00avc1\x01\x02\x03\x04\x05\x06\x07\x08",
        b"\x17\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"",
    ] {
        let payload = Bytes::from_static(payload);
        assert_eq!(configuration(FrameKind::Video, &payload), None);
        assert_eq!(configuration(FrameKind::Data, &payload), None);
    }
}

proptest! {
    #[test]
    fn any_header_can_be_read(profile in 0..X264.len(), at in 5_usize..40, noise: Vec<u8>, video: bool) {
        let start = if video { bytes(X264[profile].0) } else { bytes("af00120856e500") };
        let payload: Bytes = [&start[..at.min(start.len())], &noise[..]].concat().into();
        let kind = if video { FrameKind::Video } else { FrameKind::Audio };
        let _ = configuration(kind, &payload);
    }
}
