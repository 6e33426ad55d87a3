//! What goes wrong.

use std::sync::Arc;
use std::time::Duration;

use headwater_rtmp::command::PlayStart;

use super::*;
use crate::player::PATIENCE;
use crate::recorded::RecordedError;

fn away() -> RecordedError {
    RecordedError::Unavailable(Arc::from("the store is away"))
}

#[test]
fn a_file_that_cannot_be_played_is_told_why() {
    let why: Arc<str> = Arc::from("byte 7");
    for (failure, code) in [
        (RecordedError::NotFound, "NetStream.Play.StreamNotFound"),
        (
            RecordedError::StructureInvalid(Arc::clone(&why)),
            "NetStream.Play.FileStructureInvalid",
        ),
        (
            RecordedError::NoSupportedTrack(Arc::clone(&why)),
            "NetStream.Play.NoSupportedTrackFound",
        ),
        (RecordedError::Limit(why), "NetStream.Play.Failed"),
        (away(), "NetStream.Play.Failed"),
    ] {
        // When it is described, and when it is fetched.
        for answers in [0, 1] {
            let mut stage = Stage::new([("film", Library::file(b'F', 5_000))]);
            stage.prompt = false;
            stage.play("film", PlayStart::At(0));
            for _ in 0..answers {
                stage.answer();
            }
            stage.library.get_mut("film").unwrap().failure = Some(failure.clone());
            stage.prompt = true;
            stage.answer();
            assert_eq!(stage.take_said(), [code], "{failure:?}");
            assert!(!stage.player.is_needed());
            assert_eq!(stage.player.poll_timeout(), None);
        }
    }
}

#[test]
fn a_live_stream_is_waited_for_while_no_origin_answers() {
    let mut library = Library::file(b'F', 5_000);
    library.failure = Some(away());
    let mut stage = Stage::new([("show", library)]);
    stage.play("show", PlayStart::LiveOrRecorded);
    assert_eq!(stage.live, ["live show"]);
}

#[test]
fn playback_waits_for_an_origin_that_is_replaced() {
    let mut stage = Stage::new([("film", Library::file(b'F', 20_000))]);
    stage.play("film", PlayStart::At(0));
    let mut frames = stage.take_frames();
    stage.library.get_mut("film").unwrap().failure = Some(away());
    stage.pass(10_000);
    assert_eq!(stage.take(), []);
    stage.library.get_mut("film").unwrap().failure = None;
    stage.pass(40_000);
    frames.extend(stage.take_frames());
    assert_eq!(frames.len(), 200 + 400, "nothing lost, nothing twice");
}

#[test]
fn but_not_for_ever() {
    let mut stage = Stage::new([("film", Library::file(b'F', 20_000))]);
    stage.play("film", PlayStart::At(0));
    stage.take();
    stage.library.get_mut("film").unwrap().failure = Some(away());
    stage.pass(u64::try_from(PATIENCE.as_millis()).unwrap() + 3_000);
    assert_eq!(stage.take_said(), ["NetStream.Play.Failed"]);
    assert_eq!(stage.player.poll_timeout(), None);
}

#[test]
fn a_recording_that_becomes_a_file_goes_on_at_the_next_frame() {
    for at in [500, 2_500, 4_100, 9_000] {
        let mut library = Library::file(b'F', 20_000);
        library.growing = true;
        let mut stage = Stage::new([("show", library)]);
        stage.play("show", PlayStart::At(0));
        stage.pass(at);
        let mut frames = stage.take_frames();
        stage.library.get_mut("show").unwrap().become_file();
        stage.pass(60_000);
        frames.extend(stage.take_frames());
        assert_eq!(frames.len(), 200 + 400, "after {at} ms");
        assert!(frames.is_sorted_by_key(|(_, time)| *time));
    }
}

#[test]
fn another_film_under_the_name_goes_on_at_the_media_time() {
    let mut stage = Stage::new([("film", Library::file(b'F', 20_000))]);
    stage.play("film", PlayStart::At(0));
    stage.take();
    let other = Library {
        generation: 8,
        frames: {
            let mut frames = Library::file(b'G', 20_000).frames;
            for frame in &mut frames {
                frame.timestamp += 7;
            }
            frames
        },
        ..Library::file(b'G', 0)
    };
    stage.library.insert("film".to_owned(), other);
    stage.pass(2_500);
    let came = stage.take();
    assert!(matches!(
        came[..3],
        [
            Came::Header('m', 0),
            Came::Header('v', _),
            Came::Header('a', _)
        ]
    ));
    // The client has four seconds of the other one.
    assert_eq!(came[3], Came::Frame('K', b'G', 3_000, 3_007));
}

#[test]
fn a_file_that_is_deleted_is_not_found() {
    let mut stage = Stage::new([("film", Library::file(b'F', 20_000))]);
    stage.play("film", PlayStart::At(0));
    stage.take();
    let library = stage.library.get_mut("film").unwrap();
    library.generation += 1;
    library.frames.clear();
    stage.pass(3_000);
    assert_eq!(stage.take_said(), ["NetStream.Play.StreamNotFound"]);
}

#[test]
fn late_answers_are_not_taken_for_new_ones() {
    let mut stage = Stage::new([
        ("a", Library::file(b'A', 5_000)),
        ("b", Library::file(b'B', 5_000)),
    ]);
    stage.prompt = false;
    stage.play("a", PlayStart::At(0));
    let about_a = stage.questions.pop_front().unwrap();
    stage.play("b", PlayStart::At(0));
    stage.questions.push_front(about_a);
    while !stage.questions.is_empty() {
        stage.answer();
    }
    let came = stage.take();
    assert!(
        came.iter()
            .all(|it| !matches!(it, Came::Frame(_, b'A', ..)))
    );
    assert!(came.iter().any(|it| matches!(it, Came::Frame(_, b'B', ..))));
}

#[test]
fn a_player_is_small() {
    // Thousands of viewers have one each.
    let bytes = size_of::<crate::player::Player>();
    assert!(bytes <= 768, "{bytes} bytes");
    let mut stage = Stage::new([("film", Library::file(b'F', 20_000))]);
    stage.play("film", PlayStart::At(0));
    stage.now += Duration::from_millis(1);
    assert!(!stage.player.has_actions());
}
