//! Files made by ffmpeg, with seek tables and without.

use super::*;

fn properties(bytes: &Bytes) -> Properties {
    let (_, tag) = tags(bytes).into_iter().next().expect("a tag");
    metadata::properties(&tag.body).expect("it begins with metadata")
}

fn table(bytes: &Bytes) -> metadata::SeekTable {
    metadata::seek_table(&properties(bytes), bytes.length()).expect("a seek table")
}

fn has_hints(file: &FlvFile) -> bool {
    file.state.lock().hints.is_some()
}

/// The first tag with other properties, of just the same length.
fn with_properties(bytes: &Bytes, change: impl FnOnce(&mut Properties)) -> Bytes {
    let (_, tag) = tags(bytes).into_iter().next().expect("a tag");
    let mut properties = properties(bytes);
    change(&mut properties);
    let body = metadata::message(properties).expect("it can be written");
    let mut padded = body.to_vec();
    assert!(padded.len() <= tag.body.len(), "it fits");
    padded.resize(tag.body.len(), 0);
    let mut out = bytes[..13].to_vec();
    assert!(write_tag(0, FrameKind::Data, &padded, &mut out));
    out.extend_from_slice(&bytes[out.len()..]);
    out.into()
}

fn set_positions(properties: &mut Properties, change: impl Fn(usize, u64) -> u64) {
    let numbers = |name| {
        let table = properties.get("keyframes")?.get(name)?.as_array()?;
        Some(table.to_vec())
    };
    let (positions, times) = (numbers("filepositions"), numbers("times"));
    let positions: Vec<headwater_amf::Value> = positions
        .expect("positions")
        .iter()
        .enumerate()
        .map(|(n, value)| (change(n, value.as_number().expect("a number") as u64) as f64).into())
        .collect();
    let table = headwater_amf::Object::new()
        .with("times", times.expect("times"))
        .with("filepositions", positions);
    properties.set("keyframes", table);
}

#[test]
fn a_file_of_ffmpeg_gives_its_packets() {
    let bytes = ffmpeg(AUDIO_VIDEO);
    for grid in [SMALL, Grid::default()] {
        let pieces = check(&bytes, grid);
        assert!(pieces[1..].iter().all(|piece| piece.preface.len() == 3));
    }
    let file = open(&bytes, SMALL);
    assert!(!has_hints(&file));
    let info = file.info();
    assert!((3_000..3_100).contains(&info.duration_ms), "{info:?}");
    assert!(info.has_audio && info.has_video);

    // What ffprobe makes of the file: times in order, and digests of the packets.
    let packets = packets(&bytes);
    for (kind, name, head) in [
        (FrameKind::Video, "video", 5),
        (FrameKind::Audio, "audio", 2),
    ] {
        let expected: Vec<(u64, u64)> = packets
            .iter()
            .filter(|packet| packet.0 == name)
            .map(|packet| (packet.1, packet.2))
            .collect();
        let found: Vec<(u64, u64)> = walk(&file)
            .expect("pieces")
            .iter()
            .flat_map(|piece| &piece.frames)
            .filter(|frame| {
                frame.kind == kind
                    && inspect(kind, &frame.payload).packet == crate::inspect::Packet::Coded
            })
            .map(|frame| (frame.timestamp, adler32(&frame.payload[head..])))
            .collect();
        assert!(!found.is_empty());
        assert_eq!(found, expected, "{name}");
    }
}

/// Kind, decoding time in milliseconds, and Adler-32 of the data of each packet, from ffprobe.
fn packets(bytes: &Bytes) -> Vec<(String, u64, u64)> {
    let path =
        std::env::temp_dir().join(format!("headwater-media-{}-probe.flv", std::process::id()));
    std::fs::write(&path, bytes).expect("it can be written");
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_packets", "-show_data_hash", "adler32"])
        .args([
            "-show_entries",
            "packet=codec_type,dts,data_hash",
            "-of",
            "csv=p=0",
        ])
        .arg(&path)
        .output()
        .expect("ffprobe runs");
    std::fs::remove_file(&path).expect("it is there");
    assert!(output.status.success() && output.stderr.is_empty());
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let hash = fields[2].trim_start_matches("adler32:");
            (
                fields[0].to_owned(),
                fields[1].parse().expect("milliseconds"),
                u64::from_str_radix(hash, 16).expect("a digest"),
            )
        })
        .collect()
}

fn adler32(bytes: &[u8]) -> u64 {
    let (a, b) = bytes.iter().fold((1_u64, 0_u64), |(a, b), byte| {
        let a = (a + u64::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

#[test]
fn a_seek_table_saves_reading_and_changes_nothing() {
    let bytes = ffmpeg(&format!("{AUDIO_VIDEO} -flvflags add_keyframe_index"));
    assert!(table(&bytes).keyframes.len() >= 8);
    let file = open(&bytes, SMALL);
    assert!(has_hints(&file));
    check(&bytes, SMALL);
    check(&bytes, Grid::default());
    let last = walk(&file).expect("pieces").pop().expect("a piece");
    assert!(has_hints(&file), "it is trusted to the end");
    assert_eq!(
        file.state.lock().scan.position(),
        file.first,
        "nothing was read in between"
    );

    // The metadata that viewers get has no seek table.
    let metadata = metadata::properties(&last.preface[0].payload).expect("metadata");
    assert!(metadata.get("keyframes").is_none() && metadata.get("width").is_some());
}

/// From the number of an entry and its true position.
type Lie<'a> = dyn Fn(usize, u64) -> u64 + 'a;

#[test]
fn a_lying_seek_table_is_not_trusted() {
    let bytes = ffmpeg(&format!("{AUDIO_VIDEO} -flvflags add_keyframe_index"));
    let honest = walk(&open(&bytes, SMALL)).expect("pieces");
    let count = table(&bytes).keyframes.len();
    let lies: [(&str, &Lie<'_>); 5] = [
        ("all beside", &|_, position| position + 1),
        ("one far out", &|n, position| {
            if n + 1 == count { 1 << 52 } else { position }
        }),
        ("backward", &|n, _| 10_000 - n as u64),
        ("all the same", &|_, _| 600),
        ("the tag header of something else", &|n, position| {
            if n == 3 { position + 15 } else { position }
        }),
    ];
    for (what, lie) in lies {
        let bytes = with_properties(&bytes, |properties| set_positions(properties, lie));
        let file = open(&bytes, SMALL);
        assert!(!has_hints(&file), "{what}");
        check(&bytes, SMALL);
    }
    // A lie between the places that are looked at is found when it is met.
    let long = ffmpeg(
        &AUDIO_VIDEO
            .replace("-t 3", "-t 3 -flvflags add_keyframe_index")
            .replace("-g 10", "-g 1"),
    );
    let entries = table(&long).keyframes;
    let beside = with_properties(&long, |properties| {
        set_positions(
            properties,
            |n, position| if n == 37 { position + 1 } else { position },
        );
    });
    let file = open(&beside, SMALL);
    assert!(has_hints(&file), "not looked at: {}", entries.len());
    file.piece_at_time(entries[37].1).expect("a piece");
    assert!(!has_hints(&file));
    check(&beside, SMALL);
    assert!(!honest.is_empty());
}

#[test]
fn lying_metadata_does_not_change_the_duration() {
    let bytes = ffmpeg(AUDIO_VIDEO);
    for claim in [0.0, 1.0, 86_400.0, -5.0, f64::NAN] {
        let lie = with_properties(&bytes, |properties| {
            properties.set("duration", claim);
        });
        let file = open(&lie, SMALL);
        assert!((3_000..3_100).contains(&file.info().duration_ms));
        let pieces = walk(&file).expect("pieces");
        let metadata = metadata::properties(&pieces[0].frames[0].payload).expect("metadata");
        let duration = metadata.get("duration").and_then(|value| value.as_number());
        assert_eq!(
            duration,
            Some(metadata::seconds(file.info().duration_ms)),
            "{claim}"
        );
        assert_eq!(pieces[1].preface[0].payload, pieces[0].frames[0].payload);
    }
}

#[test]
fn other_codecs_and_lone_tracks_are_read() {
    for arguments in [
        "-f lavfi -i sine=r=44100 -t 2 -c:a libmp3lame -b:a 64k",
        "-f lavfi -i sine=r=44100 -t 2 -c:a aac",
        "-f lavfi -i testsrc=s=64x48:r=25 -t 2 -c:v flv -g 10",
        "-f lavfi -i testsrc=s=64x48:r=25 -t 2 -c:v libx264 -g 10 -bf 2",
    ] {
        let pieces = check(&ffmpeg(arguments), SMALL);
        assert!(pieces.len() > 4, "{arguments}");
    }
}
