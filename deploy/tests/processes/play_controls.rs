//! What a player may ask of a live stream while it plays, and several streams on one connection.

use std::collections::HashSet;
use std::time::Duration;

use headwater_media::frame::FrameKind::{Audio, Video};
use headwater_media::synthetic::Settings;
use headwater_rtmp::command::{Play2Parameters, PlayStart};

use crate::a_cluster_carries_live_streams::light;
use crate::standalone::standalone;
use crate::support::client::Publisher;
use crate::support::node::Node;
use crate::support::steered::{Came, Steered, assert_decodable, assert_time_goes_on, frames};
use crate::support::wait::until;

/// A node, two streams on it, and a player that plays neither.
struct Stage {
    node: Node,
    publishers: [Publisher; 2],
    player: Steered,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn start() -> Self {
        let (mut node, folder) = standalone(&[]);
        let publishers = [("a", 1), ("b", 2)].map(|(name, seed)| {
            let settings = Settings { seed, ..light() };
            Publisher::start(&node.url(&format!("live/{name}")), settings)
        });
        for publisher in &publishers {
            until("the stream runs", Duration::from_secs(5), || {
                publisher.count() > 40
            });
        }
        let player = Steered::connect(&node.url("live/a"));
        Self {
            node,
            publishers,
            player,
            _folder: folder,
        }
    }

    /// Plays a stream on a new message stream, and waits for the picture.
    fn play(&mut self, name: &str) -> u32 {
        let stream = self.player.create_stream();
        self.player.play(stream, name, PlayStart::Live);
        self.player.wait_frames(0, stream, Video, 20);
        stream
    }

    /// The newest key frame that a publisher has sent.
    fn newest_key(&self, publisher: usize) -> u64 {
        let sent = self.publishers[publisher].sent();
        let newest = sent.iter().rev().find(|sent| sent.is_key);
        newest.expect("a key frame").id.number
    }

    /// Fails unless all frames of a message stream are those of a publisher.
    fn assert_source(&self, stream: u32, publisher: usize) {
        assert_source(self.player.came(), stream, &self.publishers[publisher]);
    }
}

fn assert_source(came: &[Came], wanted: u32, publisher: &Publisher) {
    let sent: HashSet<_> = publisher.sent().iter().map(|sent| sent.id.hash).collect();
    let mut count = 0;
    for it in came {
        if let Came::Frame { stream, id, .. } = it
            && *stream == wanted
        {
            assert!(sent.contains(&id.hash), "{id:?} is of another stream");
            count += 1;
        }
    }
    assert!(count > 0, "no frames on {wanted}");
}

/// Where a status stands in what came.
fn place_of(came: &[Came], stream: u32, code: &str) -> usize {
    came.iter()
        .position(|it| it.says(stream, code))
        .unwrap_or_else(|| panic!("no {code}"))
}

#[test]
fn a_pause_is_followed_by_the_newest_key_frame() {
    let mut stage = Stage::start();
    let stream = stage.play("a");
    let mark = stage.player.mark();
    stage
        .player
        .tell(|session| session.pause(stream, true, 0.0));
    stage.player.wait_status(stream, "NetStream.Pause.Notify");
    let paused = mark + place_of(stage.player.since(mark), stream, "NetStream.Pause.Notify");
    let before = frames(stage.player.came(), stream, Video)
        .last()
        .expect("frames")
        .0;
    // More than two groups of pictures.
    stage.player.read_for(Duration::from_millis(1_200));
    assert_eq!(
        stage.player.since(paused).len(),
        1,
        "nothing comes while it is paused"
    );

    let newest = stage.newest_key(0);
    let mark = stage.player.mark();
    stage
        .player
        .tell(|session| session.pause(stream, false, 0.0));
    stage.player.wait_frames(mark, stream, Video, 20);
    let came = stage.player.since(mark);
    assert!(
        came[0].says(stream, "NetStream.Unpause.Notify"),
        "{:?}",
        came[0]
    );
    let video = frames(came, stream, Video);
    assert_decodable("after the pause", &video);
    assert!(video[0].0 > before + 15, "{} after {before}", video[0].0);
    assert!(
        video[0].0 + 15 >= newest,
        "{} is not live, {newest} is",
        video[0].0
    );
    assert_time_goes_on("the player", stage.player.came(), stream);
}

#[test]
fn a_short_pause_repeats_nothing() {
    let mut stage = Stage::start();
    let stream = stage.play("a");
    for _ in 0..3 {
        let mark = stage.player.mark();
        stage
            .player
            .tell(|session| session.pause(stream, true, 0.0));
        stage
            .player
            .tell(|session| session.pause(stream, false, 0.0));
        stage.player.wait_frames(mark, stream, Video, 5);
    }
    let came = stage.player.came();
    assert_decodable("video", &frames(came, stream, Video));
    assert!(frames(came, stream, Audio).is_sorted_by(|one, next| one.0 < next.0));
    assert_time_goes_on("the player", came, stream);
}

#[test]
fn video_and_audio_can_be_switched_off_and_on() {
    let mut stage = Stage::start();
    let stream = stage.play("a");

    // Frames that are on their way when the command is sent still come.
    stage
        .player
        .tell(|session| session.receive_video(stream, false));
    stage.player.read_for(Duration::from_millis(200));
    let mark = stage.player.mark();
    stage.player.wait_frames(mark, stream, Audio, 40);
    let came = stage.player.since(mark);
    assert_eq!(frames(came, stream, Video), []);
    let audio = frames(came, stream, Audio);
    assert!(
        audio.is_sorted_by(|one, next| next.0 == one.0 + 1),
        "audio has no holes"
    );
    let mark = stage.player.mark();
    stage
        .player
        .tell(|session| session.receive_video(stream, true));
    stage.player.wait_frames(mark, stream, Video, 20);
    assert_decodable(
        "video again",
        &frames(stage.player.since(mark), stream, Video),
    );

    stage
        .player
        .tell(|session| session.receive_audio(stream, false));
    stage.player.read_for(Duration::from_millis(200));
    let mark = stage.player.mark();
    stage.player.wait_frames(mark, stream, Video, 20);
    let came = stage.player.since(mark);
    assert_eq!(frames(came, stream, Audio), []);
    let video = frames(came, stream, Video);
    assert!(
        video.is_sorted_by(|one, next| next.0 == one.0 + 1),
        "video has no holes"
    );
    let mark = stage.player.mark();
    stage
        .player
        .tell(|session| session.receive_audio(stream, true));
    stage.player.wait_frames(mark, stream, Audio, 20);
    assert_time_goes_on("the player", stage.player.came(), stream);
}

#[test]
fn a_connection_plays_several_streams_at_once() {
    let mut stage = Stage::start();
    let (first, second, third) = (stage.play("a"), stage.play("b"), stage.play("a"));
    assert_eq!((first, second, third), (1, 2, 3));
    until("three viewers count", Duration::from_secs(2), || {
        stage.node.metric("headwater_edge_viewers") == 3.0
    });
    let mark = stage.player.mark();
    for stream in [first, second, third] {
        stage.player.wait_frames(mark, stream, Video, 30);
    }
    for (stream, publisher) in [(first, 0), (second, 1), (third, 0)] {
        let came = stage.player.came();
        let what = format!("stream {stream}");
        let video = frames(came, stream, Video);
        assert_decodable(&what, &video);
        assert!(
            video.is_sorted_by(|one, next| next.0 == one.0 + 1),
            "{what} has holes"
        );
        assert_time_goes_on(&what, came, stream);
        stage.assert_source(stream, publisher);
    }
    // Statuses go to the stream that they are about.
    let mark = stage.player.mark();
    stage
        .player
        .tell(|session| session.pause(second, true, 0.0));
    stage.player.wait_status(second, "NetStream.Pause.Notify");
    let paused = stage.player.mark();
    stage.player.wait_frames(paused, first, Video, 20);
    let came = stage.player.since(mark);
    assert!(
        came[place_of(came, second, "NetStream.Pause.Notify")..]
            .iter()
            .all(|it| !it.is(second, Video))
    );
}

#[test]
fn a_stream_that_is_closed_is_silent_and_the_others_go_on() {
    let mut stage = Stage::start();
    let (first, second) = (stage.play("a"), stage.play("b"));
    stage.player.tell(|session| session.close_stream(first));
    stage.player.read_for(Duration::from_millis(200));
    let mark = stage.player.mark();
    stage.player.wait_frames(mark, second, Video, 20);
    assert!(
        !stage
            .player
            .since(mark)
            .iter()
            .any(|it| it.is(first, Video) || it.is(first, Audio))
    );
    assert_eq!(stage.node.metric("headwater_edge_viewers"), 1.0);

    // A closed stream may be used again, a deleted one is gone.
    let mark = stage.player.mark();
    stage.player.play(first, "b", PlayStart::Live);
    stage.player.wait_frames(mark, first, Video, 20);
    assert_decodable(
        "the closed stream",
        &frames(stage.player.since(mark), first, Video),
    );
    assert_source(stage.player.since(mark), first, &stage.publishers[1]);
    for stream in [first, second] {
        stage.player.tell(|session| session.delete_stream(stream));
    }
    until("nobody plays", Duration::from_secs(2), || {
        stage.node.metric("headwater_edge_viewers") == 0.0
    });
    stage.player.ask_to_play(second, "a", PlayStart::Live);
    stage.player.wait_status(second, "NetStream.Play.Failed");
    assert_eq!(stage.player.ended(), None);
}

#[test]
fn a_player_switches_to_another_stream() {
    let mut stage = Stage::start();
    let stream = stage.play("a");
    let mark = stage.player.mark();
    let to = Play2Parameters {
        stream_name: "b".to_owned(),
        old_stream_name: Some("a".to_owned()),
        transition: "switch".to_owned(),
        start: PlayStart::LiveOrRecorded,
        ..Play2Parameters::default()
    };
    stage.player.tell(|session| session.play2(stream, &to));
    stage
        .player
        .wait_since(mark, "the switch", Duration::from_secs(5), |came| {
            came.iter()
                .any(|it| it.says(stream, "NetStream.Play.Transition"))
        });
    let switched = mark
        + place_of(
            stage.player.since(mark),
            stream,
            "NetStream.Play.Transition",
        );
    stage.player.wait_frames(switched, stream, Video, 20);
    let came = stage.player.since(switched);
    assert_decodable("the other stream", &frames(came, stream, Video));
    assert_source(came, stream, &stage.publishers[1]);
    let headers = came
        .iter()
        .position(|it| it.is(stream, Video))
        .expect("video");
    assert!(
        came[..headers]
            .iter()
            .any(|it| matches!(it, Came::Header { kind: Video, .. })),
        "its own codec headers come first: {:?}",
        &came[..headers]
    );
    until("it counts once", Duration::from_secs(2), || {
        stage.node.metric("headwater_edge_viewers") == 1.0
    });
}

#[test]
fn what_a_live_stream_cannot_do_is_refused() {
    let mut stage = Stage::start();
    let stream = stage.play("a");
    stage.player.tell(|session| session.seek(stream, 1_000.0));
    stage.player.wait_status(stream, "NetStream.Seek.Failed");
    let mark = stage.player.mark();
    stage.player.wait_frames(mark, stream, Video, 20);
    let video = frames(stage.player.came(), stream, Video);
    assert!(
        video.is_sorted_by(|one, next| next.0 == one.0 + 1),
        "it goes on as before"
    );

    // From the start of a recording that is not there, which is also how many players ask for a live stream.
    let other = stage.player.create_stream();
    stage.player.ask_to_play(other, "nothing", PlayStart::At(0));
    stage
        .player
        .wait_status(other, "NetStream.Play.StreamNotFound");
    let mark = stage.player.mark();
    stage.player.play(other, "b", PlayStart::At(0));
    stage.player.wait_frames(mark, other, Video, 20);
    assert_decodable(
        "the live stream",
        &frames(stage.player.since(mark), other, Video),
    );
}
