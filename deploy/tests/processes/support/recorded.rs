//! What is in a recorded file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use headwater_media::flv::{FlvEvent, FlvReader, MAX_TAG_BODY};
use headwater_media::frame::FrameKind;
use headwater_media::synthetic::read_stamp;

use super::client::{FrameId, Sent};
use super::media::{assert_same, hash};
use super::tools::{Tool, ffmpeg};
use super::wait::{eventually, until};

/// A frame of a recorded file. Metadata and codec headers are not among them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded {
    pub(crate) id: FrameId,
    /// Milliseconds.
    pub(crate) timestamp: u32,
}

/// Where a node with a local store puts the recording of a stream of the application `live`.
pub(crate) fn file_of(data: &Path, stream: &str) -> PathBuf {
    data.join(format!("applications/live/streams/_definst_/{stream}"))
}

/// Waits until a recording is there as one file, and gives its frames.
pub(crate) fn wait_recorded(file: &Path) -> Vec<Recorded> {
    let what = format!("{} is there", file.display());
    until(&what, Duration::from_secs(30), || file.is_file());
    frames_of(file)
}

/// Waits until a recording is there with so many frames: it is replaced when something was appended.
pub(crate) fn wait_frames(file: &Path, count: usize) -> Vec<Recorded> {
    let what = format!("{} has {count} frames", file.display());
    eventually(&what, Duration::from_secs(30), || {
        if !file.is_file() {
            return None;
        }
        let frames = frames_of(file);
        (frames.len() >= count).then_some(frames)
    })
}

/// The frames of an FLV file of a synthetic stream.
pub(crate) fn frames_of(file: &Path) -> Vec<Recorded> {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    frames_in(&bytes)
}

/// The frames of an FLV of a synthetic stream.
pub(crate) fn frames_in(bytes: &[u8]) -> Vec<Recorded> {
    let mut reader = FlvReader::new(MAX_TAG_BODY);
    reader.feed(bytes);
    let mut frames = Vec::new();
    while let Some(event) = reader.poll().expect("an FLV file") {
        let FlvEvent::Tag(tag) = event else {
            continue;
        };
        let Some(stamp) = read_stamp(&tag.body).filter(|_| tag.kind != FrameKind::Data) else {
            continue;
        };
        frames.push(Recorded {
            id: FrameId {
                kind: tag.kind,
                number: stamp.sequence,
                hash: hash(&tag.body),
            },
            timestamp: tag.timestamp,
        });
    }
    reader.finish().expect("a whole FLV file");
    frames
}

/// Fails unless a file has every frame that was sent, once and in order, on a timeline that never goes back.
pub(crate) fn assert_whole(who: &str, recorded: &[Recorded], sent: &[Sent]) {
    let got: Vec<_> = recorded.iter().map(|frame| frame.id).collect();
    let expected: Vec<_> = sent.iter().map(|frame| frame.id).collect();
    assert_same(who, &got, &expected);
    assert!(
        recorded.is_sorted_by_key(|frame| frame.timestamp),
        "{who}: timestamps go back"
    );
}

/// Fails unless a file has the frames that were sent from the first one on, once and in order; gives how many.
pub(crate) fn assert_beginning(who: &str, recorded: &[Recorded], sent: &[Sent]) -> usize {
    let count = recorded.len();
    assert!(count <= sent.len(), "{who}: {count} of {}", sent.len());
    assert_whole(who, recorded, &sent[..count]);
    count
}

/// Fails unless ffmpeg reads a file without a word.
pub(crate) fn assert_playable(file: &Path) {
    let said = Tool::spawn(
        Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-i"])
            .arg(file)
            .args(["-f", "null", "-"]),
    )
    .succeed(Duration::from_secs(60));
    assert_eq!(said, "", "{}", file.display());
}

/// The length of a file in seconds as ffprobe sees it.
pub(crate) fn duration_of(file: &Path) -> f64 {
    let said = Tool::spawn(
        Command::new("ffprobe")
            .args([
                "-v",
                "error",
                "-show_entries",
                "format=duration",
                "-of",
                "csv=p=0",
            ])
            .arg(file),
    )
    .succeed(Duration::from_secs(30));
    said.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{}: no duration in {said:?}", file.display()))
}

/// The media time in seconds of the first key frame that ffmpeg finds when it seeks in a file.
pub(crate) fn sought(file: &Path, seconds: f64) -> f64 {
    let said = Tool::spawn(
        ffmpeg()
            .args(["-ss", &seconds.to_string(), "-copyts", "-i"])
            .arg(file)
            .args([
                "-map",
                "0:v",
                "-c",
                "copy",
                "-frames:v",
                "1",
                "-f",
                "framehash",
                "-",
            ]),
    )
    .succeed(Duration::from_secs(30));
    let line = said
        .lines()
        .find(|line| !line.starts_with('#'))
        .unwrap_or_else(|| panic!("{}: nothing at {seconds}", file.display()));
    // Timestamps of FLV are milliseconds.
    let timestamp = line.split(',').nth(2).map(str::trim);
    timestamp
        .and_then(|text| text.parse::<f64>().ok())
        .map(|milliseconds| milliseconds / 1_000.0)
        .unwrap_or_else(|| panic!("{}: {line}", file.display()))
}
