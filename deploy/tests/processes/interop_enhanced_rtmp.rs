//! HEVC and AV1 as Enhanced RTMP carries them, by an ffmpeg that speaks it: published at one edge and played at another, and files on
//! demand. Every packet arrives as it is in the file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::cluster::{Cluster, Plan};
use crate::support::media::Packets;
use crate::support::tools::{Tool, enhanced_ffmpeg, quiet_ffmpeg};
use crate::support::wait::until;

/// Length of a clip in seconds.
const CLIP_SECONDS: u32 = 4;

/// Time to make one, or to play it.
const LIMIT: Duration = Duration::from_secs(CLIP_SECONDS as u64 + 30);

/// Codecs, how clips of them are made quickly, with a key frame each second and B frames where the codec has them, and what MP4
/// calls them where that is played.
const CODECS: [(&str, &str, &[&str]); 2] = [
    (
        "hevc",
        "-c:v libx265 -preset ultrafast -x265-params log-level=error:bframes=2:keyint=25:min-keyint=25",
        &["hvc1", "hev1"],
    ),
    (
        "av1",
        "-c:v libaom-av1 -usage realtime -cpu-used 8 -g 25",
        &[],
    ),
];

/// An ffmpeg, and a cluster with a folder of files.
struct Stage {
    ffmpeg: PathBuf,
    cluster: Cluster,
    files: PathBuf,
}

impl Stage {
    fn start() -> Option<Self> {
        let ffmpeg = enhanced_ffmpeg()?;
        let cluster = Cluster::with(&Plan {
            origins: 1,
            edges: 2,
            ..Plan::default()
        });
        let files = cluster
            .folder()
            .join("o1/applications/vod/streams/_definst_");
        std::fs::create_dir_all(&files).expect("a folder");
        Some(Self {
            ffmpeg,
            cluster,
            files,
        })
    }

    fn ffmpeg(&self) -> Command {
        quiet_ffmpeg(&self.ffmpeg)
    }

    /// A clip as FLV.
    fn clip(&self, codec: &str, options: &str) -> PathBuf {
        let clip = self.files.join(format!("{codec}.flv"));
        let mut ffmpeg = self.ffmpeg();
        ffmpeg
            .args(["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"])
            .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"])
            .args(["-t", &CLIP_SECONDS.to_string(), "-pix_fmt", "yuv420p"])
            .args(options.split(' '))
            .args(["-b:v", "400k", "-c:a", "aac", "-b:a", "96k", "-f", "flv"])
            .arg(&clip);
        Tool::spawn(&mut ffmpeg).succeed(LIMIT);
        clip
    }

    /// What is in a file as MP4, under the name that MP4 has for the codec.
    fn remux(&self, file: &Path, tag: &str) -> PathBuf {
        let made = self.files.join(format!("{tag}.mp4"));
        let mut ffmpeg = self.ffmpeg();
        ffmpeg
            .arg("-i")
            .arg(file)
            .args(["-c", "copy", "-tag:v", tag])
            .arg(&made);
        Tool::spawn(&mut ffmpeg).succeed(LIMIT);
        made
    }

    /// Plays an address, or a file, until it ends.
    fn play(&self, options: &[&str], from: &str, digests: &Path) -> Tool {
        let mut ffmpeg = self.ffmpeg();
        ffmpeg
            .args(options)
            .args(["-i", from, "-map", "0:v", "-map", "0:a", "-c", "copy"])
            .args(["-f", "framehash", "-hash", "md5"])
            .arg(digests);
        Tool::spawn(&mut ffmpeg)
    }

    fn packets_of(&self, file: &Path) -> Packets {
        let digests = file.with_extension("original");
        self.play(&[], &file.display().to_string(), &digests)
            .succeed(LIMIT);
        let packets = Packets::read(&digests);
        let least = CLIP_SECONDS as usize * 25;
        assert!(packets.count() > least, "{} packets", packets.count());
        packets
    }
}

#[test]
fn what_is_published_at_one_edge_is_played_at_another() {
    let Some(mut stage) = Stage::start() else {
        return;
    };
    let mut shows = Vec::new();
    for (codec, options, _) in CODECS {
        let clip = stage.clip(codec, options);
        let digests = clip.with_extension("played");
        let url = stage.cluster.url(1, codec);
        let player = stage.play(&["-rtmp_live", "live"], &url, &digests);
        shows.push((codec, clip, digests, player));
    }
    until("the players wait", Duration::from_secs(20), || {
        stage.cluster.edges[1].metric("headwater_edge_viewers") >= shows.len() as f64
    });
    let mut publishers = Vec::new();
    for (codec, clip, ..) in &shows {
        let url = stage.cluster.url(0, codec);
        let mut ffmpeg = stage.ffmpeg();
        ffmpeg
            .args(["-re", "-i"])
            .arg(clip)
            .args(["-c", "copy", "-f", "flv", &url]);
        publishers.push(Tool::spawn(&mut ffmpeg));
    }
    for publisher in &mut publishers {
        publisher.succeed(LIMIT);
    }
    for (codec, clip, digests, mut player) in shows {
        player.succeed(LIMIT);
        Packets::read(&digests).assert_all_of(&stage.packets_of(&clip), codec);
    }
}

#[test]
fn files_on_demand_are_played() {
    let Some(mut stage) = Stage::start() else {
        return;
    };
    for (codec, options, tags) in CODECS {
        let flv = stage.clip(codec, options);
        let mut films = vec![(codec.to_owned(), flv.clone())];
        for tag in tags {
            let file = stage.remux(&flv, tag);
            films.push((format!("mp4:{tag}.mp4"), file));
        }
        for (name, file) in films {
            let url = stage.cluster.edges[1].url(&format!("vod/{name}"));
            let digests = file.with_extension("played");
            // It says that the stream is recorded, or ffmpeg would not end.
            stage
                .play(&["-rtmp_live", "recorded"], &url, &digests)
                .succeed(LIMIT);
            Packets::read(&digests).assert_all_of(&stage.packets_of(&file), &name);
        }
    }
}
