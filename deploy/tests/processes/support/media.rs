//! A clip that ffmpeg makes, and the digests of what is in a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater_media::flv::{FlvEvent, FlvReader, MAX_TAG_BODY};
use headwater_media::frame::FrameKind;
use sha2::{Digest, Sha256};

use super::tools::{Tool, ffmpeg};

/// Length of the clip in seconds: long enough that viewers can join late.
pub(crate) const CLIP_SECONDS: u32 = 6;

/// What stands for a payload.
pub(crate) type Hash = [u8; 16];

pub(crate) fn hash(payload: &[u8]) -> Hash {
    let digest = Sha256::digest(payload);
    let mut hash = Hash::default();
    hash.copy_from_slice(&digest[..16]);
    hash
}

/// An FLV file: H.264 with B frames and a key frame each second, AAC. Made once for all test runs.
pub(crate) fn clip() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let clip = folder.join(format!("clip-{CLIP_SECONDS}s-1.flv"));
    if clip.is_file() {
        return clip;
    }
    // Several tests may make it at once: the last one wins, with the same content.
    let fresh = folder.join(format!("clip-{}.flv", std::process::id()));
    let size = "testsrc2=size=320x180:rate=25";
    Tool::spawn(
        ffmpeg()
            .args([
                "-f",
                "lavfi",
                "-i",
                size,
                "-f",
                "lavfi",
                "-i",
                "sine=frequency=440:sample_rate=44100",
            ])
            .args(["-t", &CLIP_SECONDS.to_string(), "-pix_fmt", "yuv420p"])
            .args([
                "-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "25", "-b:v", "600k",
            ])
            .args(["-c:a", "aac", "-b:a", "96k", "-ac", "2", "-f", "flv"])
            .arg(&fresh),
    )
    .succeed(Duration::from_secs(60));
    std::fs::rename(&fresh, &clip).expect("the clip gets its name");
    clip
}

/// Digests of the packets of a file, by ffmpeg: the file is demuxed, nothing is decoded.
pub(crate) fn packets_of(file: &Path) -> Packets {
    let folder = tempfile::tempdir().expect("a folder");
    let digests = folder.path().join("digests");
    super::tools::ffmpeg_play(&file.display().to_string(), &digests)
        .succeed(Duration::from_secs(30));
    Packets::read(&digests)
}

/// Digests of packets by kind, in order: `video` and `audio`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packets {
    of_kind: BTreeMap<String, Vec<String>>,
}

impl Packets {
    /// Reads what ffmpeg's `framehash` has written.
    pub(crate) fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut kinds = BTreeMap::new();
        let mut of_kind: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            if let Some(fact) = line.strip_prefix("#media_type ") {
                let (index, kind) = fact.split_once(": ").expect("a kind for a stream");
                kinds.insert(index.to_owned(), kind.to_owned());
                of_kind.entry(kind.to_owned()).or_default();
            } else if !line.starts_with('#') {
                let fields: Vec<&str> = line.split(',').map(str::trim).collect();
                let [index, _dts, _pts, _duration, size, digest, ..] = fields[..] else {
                    panic!("no packet: {line}");
                };
                let kind = kinds.get(index).expect("a known stream");
                of_kind
                    .entry(kind.clone())
                    .or_default()
                    .push(format!("{size} {digest}"));
            }
        }
        Self { of_kind }
    }

    pub(crate) fn count(&self) -> usize {
        self.of_kind.values().map(Vec::len).sum()
    }

    /// Every packet of `whole`, in order.
    pub(crate) fn assert_all_of(&self, whole: &Self, who: &str) {
        for (kind, expected) in &whole.of_kind {
            let got = self.of_kind.get(kind).map_or(&[][..], Vec::as_slice);
            assert_same(&format!("{who}: {kind}"), got, expected);
        }
    }

    /// Every packet of `whole` from some packet on, as one who joined late gets them; at least `least` of video.
    pub(crate) fn assert_rest_of(&self, whole: &Self, least: usize, who: &str) {
        for (kind, expected) in &whole.of_kind {
            let got = self.of_kind.get(kind).map_or(&[][..], Vec::as_slice);
            if kind == "video" {
                assert!(
                    got.len() >= least,
                    "{who}: only {} video packets",
                    got.len()
                );
            }
            let skipped = expected.len().saturating_sub(got.len());
            assert_same(&format!("{who}: {kind}"), got, &expected[skipped..]);
        }
    }
}

/// Longest video tag that librtmp passes over, because nothing of a picture fits into it: the end of a sequence, for one.
const TOO_SHORT: usize = 5;

/// Digests of the audio and video tags of an FLV file, in order for each kind, without those that librtmp passes over.
pub(crate) fn tags_of(file: &Path) -> BTreeMap<&'static str, Vec<Hash>> {
    let mut reader = FlvReader::new(MAX_TAG_BODY);
    reader.feed(&std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
    let mut tags: BTreeMap<_, Vec<Hash>> = BTreeMap::new();
    while let Some(event) = reader.poll().expect("an FLV file") {
        let FlvEvent::Tag(tag) = event else {
            continue;
        };
        let kind = match tag.kind {
            FrameKind::Audio => "audio",
            FrameKind::Video if tag.body.len() <= TOO_SHORT => continue,
            FrameKind::Video => "video",
            FrameKind::Data => continue,
        };
        tags.entry(kind).or_default().push(hash(&tag.body));
    }
    tags
}

/// Compares two sequences, and says where they part instead of printing both.
pub(crate) fn assert_same<T: PartialEq + std::fmt::Debug>(what: &str, got: &[T], expected: &[T]) {
    let differs = got
        .iter()
        .zip(expected)
        .position(|(got, expected)| got != expected);
    assert!(
        differs.is_none() && got.len() == expected.len(),
        "{what}: {} instead of {}, first difference at {differs:?}: {:?} instead of {:?}",
        got.len(),
        expected.len(),
        differs.map(|at| &got[at]),
        differs.map(|at| &expected[at]),
    );
}
