//! What ffmpeg and ffprobe make of files that were written.

use std::process::Command;

use super::*;

/// Runs a program on a file, and gives what it prints.
pub(super) fn run(program: &str, before: &[&str], file: &Bytes, after: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.mp4");
    std::fs::write(&path, file).expect("a file");
    let out = Command::new(program)
        .args(before)
        .arg(&path)
        .args(after)
        .output()
        .expect("it runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8([out.stdout, out.stderr].concat()).expect("text")
}

pub(super) fn decodes(file: &Bytes) {
    let said = run(
        "ffmpeg",
        &["-nostdin", "-v", "error", "-i"],
        file,
        &["-f", "null", "-"],
    );
    assert!(said.is_empty(), "{:.500}", said);
}

fn duration(file: &Bytes) -> f64 {
    let said = run(
        "ffprobe",
        &[
            "-v",
            "error",
            "-show_entries",
            "format=duration",
            "-of",
            "csv=p=0",
        ],
        file,
        &[],
    );
    said.trim().parse().expect("a number")
}

#[test]
fn what_ffmpeg_made_comes_back_packet_by_packet() {
    let hevc: &[&str] = &[
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=none:bframes=2",
    ];
    let mp3: &[&str] = &["-c:a", "libmp3lame", "-ar", "44100"];
    let low: &[&str] = &["-c:a", "libmp3lame", "-ar", "22050", "-ac", "1"];
    let cases: [(&str, &[&[&str]]); 4] = [
        ("avc-aac", &[AVC, AAC]),
        ("hevc-aac", &[hevc, AAC, &["-tag:v", "hvc1"]]),
        ("avc-mp3", &[AVC, mp3]),
        ("avc-mp3-low", &[AVC, low]),
    ];
    for (name, arguments) in cases {
        let input = messages(&both(arguments, "in.mp4"), 123_456);
        let file = write(&input);
        same(&file, &input);
        compare(&file, name);
        decodes(&file);
        let said = duration(&file);
        assert!((2.0..2.15).contains(&said), "{name}: {said}");
        let ours = open(&file).expect("a file").info().duration_ms as f64 / 1_000.0;
        assert!((ours - said).abs() < 0.1, "{name}: {ours}, {said}");
    }
}

/// Seeking gives the picture that is there.
#[test]
fn ffmpeg_seeks_to_key_frames() {
    let input = long();
    let file = write(&input);
    let start = input[1].1;
    for second in [0.0, 3.3, 11.0, 17.9, 29.5] {
        let text = second.to_string();
        let said = run(
            "ffprobe",
            &[
                "-v",
                "error",
                "-select_streams",
                "v",
                "-show_packets",
                "-show_data_hash",
                "CRC32",
                "-show_entries",
                "packet=pts_time,data_hash",
                "-of",
                "csv=p=0",
                "-read_intervals",
                &format!("{text}%+#1"),
            ],
            &file,
            &[],
        );
        let expected = input
            .iter()
            .filter(|(kind, _, payload)| {
                *kind == FrameKind::Video && inspect(*kind, payload).flags.contains(FrameFlags::KEY)
            })
            .rfind(|(_, timestamp, _)| (timestamp - start) as f64 <= second * 1_000.0)
            .expect("a key frame");
        let crc = format!("CRC32:{:08x}", crc32fast::hash(&expected.2[5..]));
        assert!(
            said.contains(&crc),
            "{second}: {said}, expected {crc} at {}",
            expected.1 - start
        );
    }
    let last = (input[input.len() - 1].1 - start) as f64 / 1_000.0;
    let said = duration(&file);
    assert!((last..last + 0.1).contains(&said), "{said} for {last}");
}
