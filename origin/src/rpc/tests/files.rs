//! Media files that ffmpeg made, in the data folder of an origin, fetched piece by piece as an edge does, and compared with what
//! ffprobe sees in them.

use headwater_proto::v1;
use headwater_proto::v1::describe_response::Response as Described;
use headwater_proto::v1::fetch_request::Position;
use headwater_proto::v1::fetch_response::Response as Fetched;
use headwater_proto::v1::{Follows, FrameKind, RecordingReason};

use super::bench::{Bench, name, section, wire_name};
use crate::OriginSection;
use crate::vod::VodSection;

mod support;

use support::{Packet, data, ffmpeg, folder, probe};

const PICTURE: &[&str] = &[
    "-f",
    "lavfi",
    "-i",
    "testsrc=size=160x120:rate=25:duration=7",
];
const TONE: &[&str] = &[
    "-f",
    "lavfi",
    "-i",
    "sine=frequency=440:sample_rate=44100:duration=7",
];
const AVC: &[&str] = &[
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-bf",
    "2",
    "-g",
    "12",
    "-pix_fmt",
    "yuv420p",
];
const HEVC: &[&str] = &[
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-x265-params",
    "log-level=none:bframes=2:keyint=12",
    "-tag:v",
    "hvc1",
];
const AAC: &[&str] = &["-c:a", "aac", "-b:a", "48k"];
const MP3: &[&str] = &["-c:a", "libmp3lame", "-b:a", "64k"];
const TITLE: &[&str] = &["-metadata", "title=Some Song", "-id3v2_version", "3"];

impl Bench {
    async fn ask(&self, stream: &str) -> Described {
        let request = v1::DescribeRequest {
            name: Some(wire_name(&name(stream))),
            ..v1::DescribeRequest::default()
        };
        let answer = self.recordings("a").describe(request).await.unwrap();
        answer.into_inner().response.unwrap()
    }

    async fn stored(&self, stream: &str) -> v1::Stored {
        match self.ask(stream).await {
            Described::Description(description) => description.stored.expect(stream),
            other => panic!("{stream}: {other:?}"),
        }
    }

    async fn fetch(&self, stream: &str, generation: u64, position: Position) -> Fetched {
        let request = v1::FetchRequest {
            name: Some(wire_name(&name(stream))),
            generation,
            position: Some(position),
            ..v1::FetchRequest::default()
        };
        let answer = self.recordings("a").fetch(request).await.unwrap();
        answer.into_inner().response.unwrap()
    }

    async fn fetch_piece(&self, stream: &str, generation: u64, position: Position) -> v1::Piece {
        match self.fetch(stream, generation, position).await {
            Fetched::Piece(piece) => piece,
            other => panic!("{stream} at {position:?}: {other:?}"),
        }
    }

    /// All pieces, in order.
    async fn pieces(&self, stream: &str) -> Vec<v1::Piece> {
        let generation = self.stored(stream).await.generation;
        let mut pieces = vec![
            self.fetch_piece(stream, generation, Position::TimeMs(0))
                .await,
        ];
        while let Some(last) = pieces.last()
            && last.follows() == Follows::Piece
        {
            let next = last.next.unwrap();
            let piece = self
                .fetch_piece(stream, generation, Position::Offset(next))
                .await;
            assert_eq!(piece.first, Some(next), "{stream}");
            assert_eq!(piece.start_ms, last.end_ms, "{stream}");
            assert_eq!(piece.generation, generation);
            pieces.push(piece);
        }
        assert_eq!(pieces.last().unwrap().follows(), Follows::End);
        pieces
    }
}

fn frames(pieces: &[v1::Piece]) -> Vec<v1::Frame> {
    let batches = pieces.iter().map(|piece| piece.frames.clone().unwrap());
    batches.flat_map(|batch| batch.frames).collect()
}

/// Every packet is there once, in its order, at its time, with its data.
fn compare(stream: &str, frames: &[v1::Frame], packets: &[Packet]) {
    assert!(!packets.is_empty(), "{stream}");
    let start = packets
        .iter()
        .map(|it| it.dts)
        .fold(f64::INFINITY, f64::min);
    for kind in [FrameKind::Video, FrameKind::Audio] {
        // No codec headers, and no mark of the end of a picture's stream.
        let media = |frame: &&v1::Frame| {
            frame.kind() == kind && frame.flags & 2 == 0 && !data(frame).is_empty()
        };
        let found: Vec<_> = frames.iter().filter(media).collect();
        let expected: Vec<_> = packets.iter().filter(|it| it.kind == kind).collect();
        assert_eq!(found.len(), expected.len(), "{stream}: {kind:?}");
        for (number, (frame, packet)) in found.into_iter().zip(expected).enumerate() {
            let context = format!("{stream}: {kind:?} {number}, {packet:?}");
            assert_eq!(crc32fast::hash(&data(frame)), packet.crc, "{context}");
            let late = frame.timestamp as f64 - (packet.dts - start) * 1_000.0;
            assert!(late.abs() <= 1.5, "{context} is {late} ms late");
            if kind == FrameKind::Video {
                assert_eq!(frame.flags & 1 == 1, packet.is_key, "{context}");
            }
        }
    }
}

/// At every time, a piece with the newest place at or before it from which a decoder can start.
async fn compare_seeks(bench: &Bench, stream: &str, pieces: &[v1::Piece]) {
    let has_video = bench.stored(stream).await.has_video;
    let all = frames(pieces);
    let is_start = |frame: &&v1::Frame| match has_video {
        true => frame.kind() == FrameKind::Video && frame.flags & 1 == 1,
        false => frame.kind() == FrameKind::Audio && frame.flags & 2 == 0,
    };
    for ms in [
        0, 1, 479, 480, 481, 1_999, 2_000, 3_333, 5_000, 6_900, 60_000,
    ] {
        let mut starts = all.iter().filter(is_start);
        let wanted = starts.rfind(|it| it.timestamp <= ms);
        let piece = bench.fetch_piece(stream, 0, Position::TimeMs(ms)).await;
        assert!(pieces.contains(&piece), "{stream} at {ms}: another cut");
        match wanted {
            Some(wanted) => {
                let has_it = frames(std::slice::from_ref(&piece)).contains(wanted);
                assert!(has_it, "{stream} at {ms}: {wanted:?} is not in it");
            }
            None => assert_eq!(piece, pieces[0], "{stream} at {ms}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_has_the_packets_that_ffprobe_sees() {
    let bench = Bench::one().await;
    let both = [PICTURE, TONE].concat();
    let cases = [
        ("film", "film.flv", [&both[..], AVC, AAC]),
        (
            "flv:a/b/old.flv",
            "a/b/old.flv",
            [&both, &["-c:v", "flv", "-g", "12"], MP3],
        ),
        ("flv:talk", "talk.flv", [TONE, MP3, &[]]),
        ("mp4:plain.mp4", "plain.mp4", [&both, AVC, AAC]),
        (
            "mp4:start",
            "start.mp4",
            [&both, AVC, &["-movflags", "faststart"]],
        ),
        (
            "frag.mp4",
            "frag.mp4",
            [
                &both,
                AVC,
                &["-movflags", "frag_keyframe+empty_moov+default_base_moof"],
            ],
        ),
        ("mp4:book.mov", "book.mov", [&both, AVC, AAC]),
        ("MP4:flash", "flash.f4v", [&both, AVC, MP3]),
        ("mp4:hevc.mp4", "hevc.mp4", [&both, HEVC, AAC]),
        ("tone.m4a", "tone.m4a", [TONE, AAC, &[]]),
        ("mp3:song", "song.mp3", [TONE, MP3, TITLE]),
    ];
    for (stream, file, arguments) in cases {
        let path = folder(&bench).join(file);
        ffmpeg(&arguments, &path);
        let packets = probe(&path);
        let stored = bench.stored(stream).await;
        assert_eq!(stored.bytes, path.metadata().unwrap().len(), "{stream}");
        let has = |kind| packets.iter().any(|it| it.kind == kind);
        assert_eq!(stored.has_video, has(FrameKind::Video), "{stream}");
        assert_eq!(stored.has_audio, has(FrameKind::Audio), "{stream}");
        assert!(
            (6_900..7_200).contains(&stored.end_ms),
            "{stream}: {stored:?}"
        );
        assert!(!stored.growing);

        let pieces = bench.pieces(stream).await;
        assert!(pieces.len() >= 3, "{stream}: {}", pieces.len());
        assert_eq!(pieces.last().unwrap().end_ms, stored.end_ms, "{stream}");
        compare(stream, &frames(&pieces), &packets);
        compare_seeks(&bench, stream, &pieces).await;
        for piece in &pieces[1..] {
            let headers = piece.preface.iter().filter(|it| it.flags & 2 != 0).count();
            let expected = match file {
                "talk.flv" | "song.mp3" | "a/b/old.flv" => 0,
                "flash.f4v" | "tone.m4a" => 1,
                _ => 2,
            };
            assert_eq!(headers, expected, "{stream}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tags_of_a_song_are_a_stream() {
    let bench = Bench::one().await;
    ffmpeg(&[TONE, MP3, TITLE], &folder(&bench).join("song.mp3"));
    let stored = bench.stored("id3:song").await;
    assert!(!stored.has_audio && !stored.has_video);
    let pieces = bench.pieces("id3:song").await;
    let tags = frames(&pieces);
    assert_eq!((pieces.len(), tags.len()), (1, 1));
    assert_eq!(tags[0].kind(), FrameKind::Data);
    let has = |text: &[u8]| tags[0].payload.windows(text.len()).any(|it| it == text);
    assert!(has(b"onId3") && has(b"Some Song"), "{tags:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_are_told_from_those_of_other_codecs() {
    use RecordingReason::{NoSupportedTrack, StructureInvalid};

    let bench = Bench::one().await;
    let folder = folder(&bench);
    let both = [PICTURE, TONE].concat();
    ffmpeg(&[&both, AVC, AAC], &folder.join("whole.mp4"));
    ffmpeg(&[&both, AVC, AAC], &folder.join("whole.flv"));
    ffmpeg(&[PICTURE, &["-c:v", "mpeg4"]], &folder.join("codec.mp4"));
    ffmpeg(&[TONE, &["-c:a", "libopus"]], &folder.join("codec.mov.mp4"));
    let mp4 = std::fs::read(folder.join("whole.mp4")).unwrap();
    let flv = std::fs::read(folder.join("whole.flv")).unwrap();
    let write = |file: &str, bytes: &[u8]| std::fs::write(folder.join(file), bytes).unwrap();
    for file in ["empty.flv", "empty.mp4", "empty.mp3"] {
        write(file, b"");
    }
    write("half.mp4", &mp4[..mp4.len() / 2]);
    write("head.flv", &flv[..8]);
    write("other.flv", &mp4);
    write("other.mp4", &flv);
    write("text.mp3", b"This is no song, and was never one.\n");
    for (stream, reason) in [
        ("empty", StructureInvalid),
        ("mp4:empty", StructureInvalid),
        ("mp3:empty", StructureInvalid),
        ("mp4:half", StructureInvalid),
        ("head", StructureInvalid),
        ("other", StructureInvalid),
        ("mp4:other", StructureInvalid),
        ("mp3:text", StructureInvalid),
        ("mp4:codec", NoSupportedTrack),
        ("mp4:codec.mov.mp4", NoSupportedTrack),
    ] {
        match bench.ask(stream).await {
            Described::Rejected(rejected) => {
                assert_eq!(rejected.reason(), reason, "{stream}: {rejected:?}");
            }
            other => panic!("{stream}: {other:?}"),
        }
        match bench.fetch(stream, 0, Position::TimeMs(0)).await {
            Fetched::Rejected(rejected) => assert_eq!(rejected.reason(), reason, "{stream}"),
            other => panic!("{stream}: {other:?}"),
        }
    }
    // However it was cut, the answer is one of these.
    for cut in (0..flv.len()).step_by(flv.len() / 40) {
        let file = format!("cut-{cut}");
        write(&format!("{file}.flv"), &flv[..cut]);
        write(&format!("{file}.mp4"), &mp4[..cut.min(mp4.len())]);
        for stream in [file.clone(), format!("mp4:{file}")] {
            match bench.fetch(&stream, 0, Position::TimeMs(1_000)).await {
                Fetched::Piece(piece) => assert!(!frames(&[piece]).is_empty(), "{stream}"),
                Fetched::Rejected(rejected) => {
                    assert_eq!(
                        rejected.reason(),
                        StructureInvalid,
                        "{stream}: {rejected:?}"
                    );
                }
                other @ Fetched::Moved(_) => panic!("{stream}: {other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outside_of_the_folders_is_found() {
    let bench = Bench::one().await;
    let folder = folder(&bench);
    ffmpeg(&[TONE, MP3], &folder.join("show.flv"));
    let outside = tempfile::tempdir().unwrap();
    for secret in [
        outside.path().join("secret.flv"),
        folder.join("../../secret.flv"),
        bench.nodes["a"].data.path().join("secret.flv"),
    ] {
        std::fs::copy(folder.join("show.flv"), secret).unwrap();
    }
    std::os::unix::fs::symlink(outside.path(), folder.join("link")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.flv"), folder.join("link.flv")).unwrap();
    std::fs::create_dir(folder.join("folder.flv")).unwrap();
    let absolute = outside.path().join("secret").display().to_string();
    for stream in [
        "flv:../../secret",
        "flv:..",
        "mp4:../show.flv",
        &format!("flv:{absolute}"),
        "flv:/etc/passwd",
        "..%2F..%2Fsecret",
        "link/secret",
        "link",
        "folder",
        "SHOW",
        "show.FLV",
        "show.flv.flv",
        "raw:show",
        "flv:show\\",
    ] {
        let asked = v1::DescribeRequest {
            name: Some(v1::StreamName {
                stream: stream.to_owned(),
                ..wire_name(&name("x"))
            }),
            ..v1::DescribeRequest::default()
        };
        let answer = bench.recordings("a").describe(asked).await.unwrap();
        match answer.into_inner().response.unwrap() {
            Described::Description(description) => {
                assert_eq!(description, v1::StreamDescription::default(), "{stream}");
            }
            Described::Rejected(rejected) => {
                let reasons = [RecordingReason::Invalid, RecordingReason::Unavailable];
                assert!(
                    reasons.contains(&rejected.reason()),
                    "{stream}: {rejected:?}"
                );
            }
            other @ Described::Moved(_) => panic!("{stream}: {other:?}"),
        }
    }
    bench.stored("flv:show.flv").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_replaced_while_it_is_played() {
    let section = OriginSection {
        vod: VodSection {
            revalidate_ms: 10,
            ..VodSection::default()
        },
        ..section()
    };
    let bench = Bench::start(&["a"], section).await;
    let path = folder(&bench).join("film.flv");
    let both = [PICTURE, TONE].concat();
    ffmpeg(&[&both, AVC, AAC], &path);
    let generation = bench.stored("film").await.generation;
    let first = bench
        .fetch_piece("film", generation, Position::TimeMs(0))
        .await;
    let next = Position::Offset(first.next.unwrap());
    bench.fetch_piece("film", generation, next).await;

    let new = path.with_extension("new");
    ffmpeg(&[TONE, MP3, &["-f", "flv"]], &new);
    std::fs::rename(new, &path).unwrap();
    let replaced = async {
        loop {
            match bench.fetch("film", generation, next).await {
                Fetched::Rejected(rejected) => break rejected.reason(),
                Fetched::Piece(_) => tokio::task::yield_now().await,
                other @ Fetched::Moved(_) => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(replaced.await, RecordingReason::Replaced);
    let now = bench.stored("film").await;
    assert!(now.generation != generation && !now.has_video);

    // Cut in place, where it stands mapped.
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(100).unwrap();
    let last = bench
        .fetch("film", now.generation, Position::TimeMs(6_000))
        .await;
    let Fetched::Rejected(rejected) = last else {
        panic!("{last:?}");
    };
    let reasons = [RecordingReason::Replaced, RecordingReason::StructureInvalid];
    assert!(reasons.contains(&rejected.reason()), "{rejected:?}");
}
