//! Media files, played by programs of others through an edge: every packet arrives, and seeks land where they should.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use headwater_media::flv::{FlvReader, MAX_TAG_BODY};
use headwater_rtmp::command::PlayStart;

use crate::support::cluster::{Cluster, Plan};
use crate::support::media::{CLIP_SECONDS, Packets, assert_same, clip, packets_of, tags_of};
use crate::support::steered::Steered;
use crate::support::tools::{Tool, ffmpeg, ffmpeg_play_with, has};

const LIMIT: Duration = Duration::from_secs(40);

/// An origin with a folder of files, and an edge.
struct Library {
    cluster: Cluster,
    files: PathBuf,
}

impl Library {
    fn start() -> Self {
        let cluster = Cluster::with(&Plan {
            origins: 1,
            edges: 1,
            ..Plan::default()
        });
        let files = cluster
            .folder()
            .join("o1/applications/vod/streams/_definst_");
        std::fs::create_dir_all(&files).expect("a folder");
        Self { cluster, files }
    }

    fn url(&mut self, name: &str) -> String {
        self.cluster.edges[0].url(&format!("vod/{name}"))
    }

    /// The clip in another container, or another form of it.
    fn add(&self, name: &str, options: &[&str]) -> PathBuf {
        let file = self.files.join(name);
        Tool::spawn(ffmpeg().arg("-i").arg(clip()).args(options).arg(&file)).succeed(LIMIT);
        file
    }
}

/// Plays with ffmpeg, and compares packet by packet.
fn assert_plays(library: &mut Library, name: &str, file: &Path) {
    let url = library.url(name);
    let digests = library.cluster.folder().join("digests");
    // It says that the stream is recorded, or ffmpeg would not end.
    ffmpeg_play_with(&["-rtmp_live", "recorded"], &url, &digests).succeed(LIMIT);
    let played = Packets::read(&digests);
    assert!(played.count() > 200, "{name}: {} packets", played.count());
    played.assert_all_of(&packets_of(file), name);
}

#[test]
fn ffmpeg_plays_every_format() {
    if !has("ffmpeg") {
        return;
    }
    let mut library = Library::start();
    let copy = ["-c", "copy"];
    let flv = library.add("clip.flv", &copy);
    assert_plays(&mut library, "clip", &flv);
    assert_plays(&mut library, "flv:clip", &flv);
    let mp4 = library.add("clip.mp4", &copy);
    assert_plays(&mut library, "mp4:clip.mp4", &mp4);
    let front = library.add("front.mp4", &["-c", "copy", "-movflags", "+faststart"]);
    assert_plays(&mut library, "mp4:front.mp4", &front);
    let fragmented = library.add(
        "fragmented.mp4",
        &["-c", "copy", "-movflags", "+frag_keyframe+empty_moov"],
    );
    assert_plays(&mut library, "mp4:fragmented.mp4", &fragmented);
    let mov = library.add("clip.mov", &copy);
    assert_plays(&mut library, "mp4:clip.mov", &mov);
    let f4v = library.add("clip.f4v", &["-c", "copy", "-f", "mp4"]);
    assert_plays(&mut library, "mp4:clip.f4v", &f4v);
}

#[test]
fn audio_files_play() {
    if !has("ffmpeg") {
        return;
    }
    let mut library = Library::start();
    for (name, file, options) in [
        ("mp3:song", "song.mp3", &["-vn", "-c:a", "libmp3lame"][..]),
        ("mp4:song.m4a", "song.m4a", &["-vn", "-c:a", "copy"]),
    ] {
        let file = library.add(file, options);
        let digest = |input: &str, before: &[&str]| {
            let said = Tool::spawn(
                ffmpeg()
                    .args(before)
                    .args(["-i", input, "-map", "0:a", "-c", "copy"])
                    .args(["-f", "framehash", "-hash", "md5", "-"]),
            )
            .succeed(LIMIT);
            said.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| Some(line.split(',').nth(5)?.trim().to_owned()))
                .collect::<Vec<_>>()
        };
        let url = library.url(name);
        let played = digest(&url, &["-rtmp_live", "recorded"]);
        let expected = digest(&file.display().to_string(), &[]);
        assert!(expected.len() > 100, "{name}: {}", expected.len());
        assert_same(name, &played, &expected);
    }
}

/// `rtmpdump` of a recorded stream.
fn rtmpdump(url: &str, file: &Path, options: &[&str]) -> i32 {
    Tool::spawn(
        Command::new("rtmpdump")
            .args(["--rtmp", url, "--flv"])
            .arg(file)
            .args(options),
    )
    .finish(LIMIT)
}

/// Where the first tag after a place in an FLV file ends.
fn end_of_tag(bytes: &[u8], after: usize) -> usize {
    let mut reader = FlvReader::new(MAX_TAG_BODY);
    reader.feed(bytes);
    loop {
        let event = reader.poll().expect("an FLV file");
        assert!(event.is_some(), "no tag ends after {after}");
        // Its size stands once more behind it.
        let end = reader.offset() as usize + 4;
        if end > after {
            return end;
        }
    }
}

#[test]
fn rtmpdump_gets_all_of_it_a_part_of_it_and_the_rest_of_it() {
    if !has("rtmpdump") || !has("ffmpeg") {
        return;
    }
    let mut library = Library::start();
    let clip = library.add("clip.flv", &["-c", "copy"]);
    let original = tags_of(&clip);
    let url = library.url("clip");
    let folder = library.cluster.folder().to_owned();

    let whole = folder.join("whole.flv");
    let code = rtmpdump(&url, &whole, &[]);
    // 2: it takes the time of the last frame for the end, which is less than 99.9 % of a clip this short.
    assert!(code == 0 || code == 2, "{code}");
    for (kind, tags) in tags_of(&whole) {
        assert_same(&format!("all of it: {kind}"), &tags, &original[kind]);
    }

    // A key frame each second.
    let part = folder.join("part.flv");
    let code = rtmpdump(&url, &part, &["--start", "2", "--stop", "4"]);
    assert!(code == 0 || code == 2, "{code}");
    for (kind, tags) in tags_of(&part) {
        // Codec headers come first.
        let body = &tags[1..];
        let at = original[kind]
            .windows(body.len())
            .position(|window| window == body)
            .unwrap_or_else(|| panic!("{kind}: not a part of it"));
        let total = original[kind].len();
        assert!(
            at > total / 6 && at + body.len() < total * 5 / 6,
            "{kind}: {at} and {} of {total}",
            body.len()
        );
    }

    assert_resumes(&library, &url, &whole);
}

#[test]
fn rtmpdump_gets_the_rest_of_an_mp4_file() {
    if !has("rtmpdump") || !has("ffmpeg") {
        return;
    }
    let mut library = Library::start();
    for (name, options) in [
        ("clip.mp4", &["-c", "copy"][..]),
        (
            "fragmented.mp4",
            &["-c", "copy", "-movflags", "+frag_keyframe+empty_moov"],
        ),
    ] {
        library.add(name, options);
        let url = library.url(&format!("mp4:{name}"));
        let whole = library.cluster.folder().join("whole.flv");
        let code = rtmpdump(&url, &whole, &[]);
        assert!(code == 0 || code == 2, "{code}");
        let pictures = tags_of(&whole)["video"].len();
        assert!(pictures > CLIP_SECONDS as usize * 25, "{pictures}");
        assert_resumes(&library, &url, &whole);
    }
}

/// A download that was cut off at many places, as when it was interrupted, is the whole one when it was resumed.
fn assert_resumes(library: &Library, url: &str, whole: &Path) {
    let original = tags_of(whole);
    let bytes = std::fs::read(whole).expect("the file");
    for part in [2, 5, 8] {
        let resumed = library.cluster.folder().join("resumed.flv");
        let cut = end_of_tag(&bytes, bytes.len() * part / 10);
        std::fs::write(&resumed, &bytes[..cut]).expect("a part of it");
        let code = rtmpdump(url, &resumed, &["--resume"]);
        assert!(code == 0 || code == 2, "{url}, {part}: {code}");
        for (kind, tags) in tags_of(&resumed) {
            let what = format!("{url}, resumed at {part} tenths: {kind}");
            assert_same(&what, &tags, &original[kind]);
        }
    }
}

#[test]
fn seeks_land_on_the_key_frame_before() {
    if !has("ffmpeg") {
        return;
    }
    let mut library = Library::start();
    library.add("clip.mp4", &["-c", "copy"]);
    library.add("clip.flv", &["-c", "copy"]);
    let url = library.url("clip");
    for name in ["clip", "mp4:clip.mp4"] {
        let mut player = Steered::connect(&url);
        let stream = player.create_stream();
        player.play(stream, name, PlayStart::At(0));
        for number in 0..50_u32 {
            // All over the six seconds, in no order.
            let to = (number * 1_777) % 5_900;
            let mark = player.mark();
            player.tell(|session| session.seek(stream, f64::from(to)));
            player.wait_since(mark, "the picture", Duration::from_secs(10), |came| {
                first_picture(came, stream).is_some()
            });
            let found = first_picture(player.since(mark), stream).expect("a picture");
            // A key frame each second.
            assert_eq!(found / 1_000, to / 1_000, "{name}: {found} instead of {to}");
            assert!(found % 1_000 < 100, "{name}: {found} is no key frame");
        }
    }
}

/// Timestamp of the first picture after the notice of a seek. Frames of a clip are not stamped: they look like headers.
fn first_picture(came: &[crate::support::steered::Came], stream: u32) -> Option<u32> {
    use crate::support::steered::Came;

    let told = came
        .iter()
        .position(|it| it.says(stream, "NetStream.Seek.Notify"))?;
    let mut pictures = came[told..].iter().filter_map(|it| match it {
        Came::Header {
            stream: of,
            kind: headwater_media::frame::FrameKind::Video,
            timestamp,
        } if *of == stream => Some(*timestamp),
        _ => None,
    });
    // The first one is the codec header.
    pictures.next()?;
    pictures.next()
}

#[test]
fn what_is_not_there_or_no_media_is_said() {
    let mut library = Library::start();
    std::fs::write(library.files.join("empty.mp4"), "").expect("a file");
    std::fs::write(library.files.join("text.mp4"), "no media at all").expect("a file");
    std::fs::write(library.files.join("cut.flv"), b"FLV\x01\x05\0\0").expect("a file");
    let url = library.url("clip");
    for (name, code) in [
        ("nothing", "NetStream.Play.StreamNotFound"),
        ("mp4:nothing.mp4", "NetStream.Play.StreamNotFound"),
        ("mp4:../../../o1", "NetStream.Play.StreamNotFound"),
        ("mp4:empty.mp4", "NetStream.Play.FileStructureInvalid"),
        ("mp4:text.mp4", "NetStream.Play.FileStructureInvalid"),
        ("cut", "NetStream.Play.FileStructureInvalid"),
    ] {
        let mut player = Steered::connect(&url);
        let stream = player.create_stream();
        player.ask_to_play(stream, name, PlayStart::At(0));
        player.wait_status(stream, code);
        assert_eq!(player.ended(), None, "{name}");
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_played_does_not_kill_the_node() {
    if !has("ffmpeg") {
        return;
    }
    let mut library = Library::start();
    let file = library.add("clip.flv", &["-c", "copy"]);
    let url = library.url("clip");
    let mut player = Steered::connect(&url);
    let stream = player.create_stream();
    player.tell(|session| session.set_buffer_length(stream, 100));
    player.play(stream, "clip", PlayStart::At(0));
    let cut = std::fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .expect("the file");
    cut.set_len(1_000).expect("it is cut");
    player.tell(|session| session.seek(stream, 5_000.0));
    player.read_for(Duration::from_secs(3));
    assert!(library.cluster.origins[0].is_running());
    assert!(library.cluster.edges[0].is_running());
}
