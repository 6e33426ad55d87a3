use proptest::prelude::*;

use super::*;

fn stream(settings: Settings) -> SyntheticStream {
    SyntheticStream::new(settings).expect("valid settings")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The NAL units of a video tag, by their type; panics where lengths do not add up.
fn nal_types(payload: &[u8]) -> Vec<u8> {
    let mut rest = &payload[5..];
    let mut types = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().expect("a length");
        let (unit, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        types.push(unit[0] & 0x1f);
        rest = after;
    }
    types
}

#[test]
fn a_stream_starts_with_metadata_and_headers() {
    let start: Vec<SyntheticFrame> = stream(Settings::default()).take(5).collect();
    let shape: Vec<_> = start
        .iter()
        .map(|frame| (frame.kind, frame.flags, frame.timestamp))
        .collect();
    assert_eq!(
        shape,
        [
            (FrameKind::Data, FrameFlags::METADATA, 0),
            (FrameKind::Video, FrameFlags::HEADER, 0),
            (FrameKind::Audio, FrameFlags::HEADER, 0),
            (FrameKind::Video, FrameFlags::KEY, 0),
            (FrameKind::Audio, FrameFlags::empty(), 0),
        ]
    );
    // As ffprobe reads them: constrained baseline, level 4.0, 320 x 180, 30 frames per second; AAC-LC, 48 kHz, stereo.
    assert_eq!(
        hex(&start[1].payload),
        "17000000000142c028ffe100136742c028da05067e7840000003004000000f2101000468ce3c80"
    );
    assert_eq!(hex(&start[2].payload), "af001190");
    assert_eq!(nal_types(&start[3].payload), [6, 5, 12]);

    let without: Vec<_> = stream(Settings {
        audio: None,
        ..Settings::default()
    })
    .take(200)
    .collect();
    assert!(without.iter().all(|frame| frame.kind != FrameKind::Audio));
    assert_eq!(without[2].flags, FrameFlags::KEY);
}

/// The smallest frames, as ffmpeg 5.1 decodes them without a word: a grey picture, silence.
#[test]
fn the_bit_streams_are_as_verified() {
    let smallest = Settings {
        video_bitrate: 0,
        gop: 20,
        audio: Some(AudioSettings {
            bitrate: 0,
            ..AudioSettings::default()
        }),
        ..Settings::default()
    };
    let video: Vec<Bytes> = stream(smallest)
        .filter(|frame| frame.kind == FrameKind::Video)
        .map(|frame| frame.payload)
        .skip(1)
        .take(41)
        .collect();
    let slice = |at: usize| hex(&video[at][5 + 4 + 52 + 4..]);
    let key = format!("658884a2{}78", "72".repeat(239));
    assert_eq!(slice(0), key);
    assert_ne!(slice(0), slice(20), "neighbours differ in idr_pic_id");
    assert_eq!(slice(0), slice(40));
    assert_eq!(slice(1), "419a228078c0");
    assert_eq!(slice(17), slice(1), "frame_num wraps");
    assert_ne!(slice(16), slice(1));

    let audio = |stereo| {
        let frame = aac::frame(stereo, 0, Stamp::default());
        hex(&frame[4 + stamp::STAMP_SIZE..])
    };
    assert_eq!(
        (audio(true).as_str(), audio(false).as_str()),
        ("21000000001c", "00000007")
    );
}

#[test]
fn bit_rates_are_as_asked() {
    for (video_bitrate, fps, gop, audio_bitrate, sample_rate, stereo) in [
        (2_500_000, 30, 60, 128_000, 48_000, true),
        (500_000, 25, 250, 64_000, 44_100, false),
        (20_000_000, 60, 30, 320_000, 48_000, true),
        (300_000, 10, 1, 48_000, 22_050, false),
    ] {
        let settings = Settings {
            video_bitrate,
            fps,
            gop,
            audio: Some(AudioSettings {
                bitrate: audio_bitrate,
                sample_rate,
                stereo,
            }),
            seed: 7,
        };
        let seconds = 60;
        let (mut video, mut audio) = (0, 0);
        let frames = stream(settings).skip(3);
        for frame in frames.take_while(|frame| frame.timestamp < seconds * 1000) {
            let bits = frame.payload.len() as u64 * 8;
            match frame.kind {
                FrameKind::Video => video += bits,
                _ => audio += bits,
            }
        }
        for (got, asked) in [(video, video_bitrate), (audio, audio_bitrate)] {
            let got = got / seconds;
            assert!(
                got.abs_diff(asked.into()) < u64::from(asked) / 20,
                "{got} instead of {asked} in {settings:?}"
            );
        }
    }
}

#[test]
fn frames_are_numbered_in_order_of_time() {
    let settings = Settings {
        fps: 24,
        gop: 12,
        ..Settings::default()
    };
    let mut stream = stream(settings);
    let (mut video, mut audio, mut last) = (0, 0, 0);
    for _ in 0..2_000 {
        let due = stream.next_timestamp();
        let frame = stream.next_frame(due * 1_000_000);
        assert_eq!(frame.timestamp, due);
        assert!(due >= last);
        last = due;
        let Some(stamp) = read_stamp(&frame.payload) else {
            assert!(
                frame
                    .flags
                    .intersects(FrameFlags::HEADER | FrameFlags::METADATA)
            );
            continue;
        };
        let counter = if frame.kind == FrameKind::Video {
            assert_eq!(frame.flags.contains(FrameFlags::KEY), video % 12 == 0);
            assert_eq!(due, video * 1000 / 24);
            &mut video
        } else {
            &mut audio
        };
        let expected = Stamp {
            sequence: *counter,
            sent_at: due * 1_000_000,
        };
        assert_eq!(stamp, expected);
        *counter += 1;
    }
    assert!(video > 500 && audio > 1_000);
}

#[test]
fn the_same_settings_give_the_same_bytes() {
    let frames = |seed| -> Vec<_> {
        let settings = Settings {
            seed,
            ..Settings::default()
        };
        stream(settings).take(100).collect()
    };
    assert_eq!(frames(1), frames(1));
    assert_ne!(frames(1), frames(2));
}

#[test]
fn settings_are_checked() {
    let good = Settings::default();
    let sound = AudioSettings::default();
    for (settings, error) in [
        (
            Settings { fps: 0, ..good },
            SettingsError::FrameRate { fps: 0 },
        ),
        (
            Settings { fps: 1_001, ..good },
            SettingsError::FrameRate { fps: 1_001 },
        ),
        (Settings { gop: 0, ..good }, SettingsError::EmptyGop),
        (
            Settings {
                video_bitrate: u32::MAX,
                ..good
            },
            SettingsError::Bitrate { bitrate: u32::MAX },
        ),
        (
            Settings {
                audio: Some(AudioSettings {
                    sample_rate: 48_001,
                    ..sound
                }),
                ..good
            },
            SettingsError::SampleRate {
                sample_rate: 48_001,
            },
        ),
    ] {
        assert_eq!(SyntheticStream::new(settings).err(), Some(error));
    }
    // The largest ones neither overflow nor take all memory.
    let largest = Settings {
        video_bitrate: MAX_BITRATE,
        fps: 1,
        gop: u32::MAX,
        audio: Some(AudioSettings {
            bitrate: MAX_BITRATE,
            ..sound
        }),
        seed: u64::MAX,
    };
    assert!(
        stream(largest)
            .take(10)
            .all(|frame| frame.payload.len() <= 9 << 20)
    );
}

#[test]
fn publishers_say_set_data_frame() {
    let metadata = stream(Settings::default()).next_frame(0).payload;
    let message = crate::inspect::data_message(&set_data_frame(&metadata)).expect("named");
    assert_eq!(message.name, "onMetaData");
    assert_eq!(message.body, metadata);
}

#[test]
fn a_stamp_is_found_after_other_nal_units() {
    let payload = stream(Settings::default()).nth(3).expect("endless").payload;
    let delimiter = [0, 0, 0, 2, 9, 0xf0];
    let repacked = [&payload[..5], &delimiter, &payload[5..]].concat();
    assert_eq!(read_stamp(&repacked), read_stamp(&payload));
    assert!(read_stamp(&repacked).is_some());
    for end in 0..5 + 4 + 3 + stamp::STAMP_SIZE {
        assert_eq!(read_stamp(&payload[..end]), None);
    }
}

proptest! {
    #[test]
    fn stamps_are_read_and_written_over(sequence: u64, sent_at: u64, size in 0_usize..2_000, stereo: bool) {
        let stamp = Stamp { sequence, sent_at };
        let pictures = avc::Pictures::new();
        for mut payload in [
            aac::frame(stereo, size, Stamp::default()),
            pictures.frame(0, 0, size, Stamp::default()),
            pictures.frame(0, 1, size, Stamp::default()),
        ] {
            prop_assert_eq!(read_stamp(&payload), Some(Stamp::default()));
            prop_assert!(write_stamp(&mut payload, stamp));
            prop_assert_eq!(read_stamp(&payload), Some(stamp));
        }
        prop_assert_eq!(&aac::frame(stereo, size, stamp)[4..4 + stamp::STAMP_SIZE], &stamp::encode(stamp));
    }

    #[test]
    fn frames_have_the_size_asked_for(size in 400_usize..1_400) {
        let pictures = avc::Pictures::new();
        prop_assert_eq!(pictures.frame(0, 0, size, Stamp::default()).len(), size);
        prop_assert_eq!(pictures.frame(0, 1, size, Stamp::default()).len(), size);
        let audio = aac::frame(true, size, Stamp::default()).len();
        prop_assert!(audio.abs_diff(size) <= 4, "{} instead of {}", audio, size);
    }

    #[test]
    fn any_bytes_can_be_searched_for_a_stamp(mut payload: Vec<u8>) {
        prop_assert_eq!(read_stamp(&payload), None);
        prop_assert!(!write_stamp(&mut payload, Stamp::default()));
    }
}
