//! Recordings that grow, and live streams that are recorded.

use headwater_media::frame::FrameKind;
use headwater_rtmp::command::{PlayLength, PlayReset, PlayStart};

use super::*;
use crate::player::Mark;
use crate::recorded::RecordedError;

#[test]
fn a_viewer_joins_the_live_stream_at_the_very_frame() {
    let library = Library::growing(b'S', 3_000);
    let end = library.end();
    let mut stage = Stage::new([("show", library)]);
    stage.joins = true;
    stage.play("show", PlayStart::At(0));
    stage.pass(1_000);
    let frames = stage.take_frames();
    assert_eq!(frames.len(), 90);
    assert_eq!(stage.live, [format!("join at {end}")]);
    assert!(!stage.player.is_needed(), "it is a live viewer now");
    assert_eq!(stage.player.poll_timeout(), None);
}

#[test]
fn a_viewer_in_the_past_stays_there() {
    let mut stage = Stage::new([("show", Library::growing(b'S', 30_000))]);
    stage.joins = true;
    stage.play("show", PlayStart::At(0));
    for second in 1..=20 {
        let library = stage.library.get_mut("show").unwrap();
        library.grow(30_000 + second * 1_000);
        stage.pass(1_000);
    }
    assert_eq!(stage.live, [""; 0]);
    let newest = stage.take_frames().last().map(|(_, time)| *time);
    assert!(newest.is_some_and(|newest| (22_000..24_000).contains(&newest)));
}

#[test]
fn what_the_edge_does_not_hold_yet_is_asked_for_again() {
    let mut stage = Stage::new([("show", Library::growing(b'S', 1_000))]);
    stage.play("show", PlayStart::At(0));
    let mut frames = stage.take_frames();
    for tenth in 1..=20 {
        let library = stage.library.get_mut("show").unwrap();
        library.grow(1_000 + tenth * 100);
        stage.pass(100);
    }
    stage.joins = true;
    stage.pass(2_500);
    frames.extend(stage.take_frames());
    assert_eq!(frames.len(), 90, "nothing lost, nothing twice");
    assert!(frames.is_sorted_by_key(|(_, time)| *time));
    let end = stage.library["show"].end();
    assert_eq!(stage.live.last(), Some(&format!("join at {end}")));
    assert!(!stage.player.is_needed());
}

#[test]
fn a_recording_in_which_nothing_happens_is_asked_for_less_and_less() {
    let mut stage = Stage::new([("show", Library::growing(b'S', 1_000))]);
    stage.play("show", PlayStart::At(0));
    stage.pass(60_000);
    let fetched = stage.library["show"].fetched;
    assert!((20..45).contains(&fetched), "{fetched} in a minute");
    stage.library.get_mut("show").unwrap().become_file();
    stage.pass(5_000);
    let said = stage.take_said();
    assert_eq!(
        said.last().map(String::as_str),
        Some("data NetStream.Play.Complete")
    );
}

fn watching() -> Stage {
    let mut stage = Stage::new([("show", Library::growing(b'S', 60_000))]);
    stage.watch_live("show");
    let frames = &stage.library["show"].frames;
    let sent = |it: &&headwater_media::frame::Frame| it.timestamp == 50_000;
    stage.live_mark = Some(Mark {
        offset: frames.iter().find(sent).unwrap().offset,
        kind: FrameKind::Video,
        timestamp: 50_000,
        length: 5_000,
    });
    stage
}

#[test]
fn a_live_viewer_that_pauses_goes_on_where_it_was() {
    for (at, first) in [
        // It has all that was sent: the picture, but not the audio after it.
        (50_000.0, ('a', 50_000)),
        (0.0, ('a', 50_000)),
        // It is a little behind.
        (48_730.0, ('a', 48_750)),
    ] {
        let mut stage = watching();
        stage.pause(true, at);
        assert_eq!(stage.take_said(), ["NetStream.Pause.Notify"]);
        assert_eq!(stage.live, ["pause true"]);
        assert!(stage.player.is_needed());
        stage.pass(8_000);
        stage.pause(false, at);
        let came = stage.take();
        assert_eq!(came[0], Came::Said("NetStream.Unpause.Notify".to_owned()));
        let Came::Frame(kind, _, _, time) = came[1] else {
            panic!("{:?}", came[1]);
        };
        assert_eq!((kind, time), first, "paused at {at}");
        assert_eq!(stage.live, ["pause true", "leave"]);
    }
}

#[test]
fn what_was_sent_live_and_is_not_stored_yet_is_not_sent_again() {
    let mut stage = watching();
    stage
        .library
        .insert("show".to_owned(), Library::growing(b'S', 48_500));
    stage.joins = true;
    stage.pause(true, 50_000.0);
    stage.pause(false, 50_000.0);
    assert_eq!(stage.take_frames(), []);
    let next = stage.live_mark.unwrap().offset.next();
    assert_eq!(
        stage.live,
        [
            "pause true".to_owned(),
            "leave".to_owned(),
            format!("join at {next}")
        ]
    );
    assert!(!stage.player.is_needed());
}

#[test]
fn a_live_viewer_of_what_is_not_recorded_comes_back_live() {
    let nothing = Library {
        frames: Vec::new(),
        ..Library::growing(b'S', 0)
    };
    // An older recording under the same name is another film.
    let old = Library {
        growing: false,
        ..Library::growing(b'S', 60_000)
    };
    let away = Library {
        failure: Some(RecordedError::NotFound),
        ..nothing.clone()
    };
    for library in [nothing, old, away] {
        let mut stage = watching();
        stage.library.insert("show".to_owned(), library);
        stage.pause(true, 0.0);
        stage.pause(false, 0.0);
        assert_eq!(
            stage.take_said(),
            ["NetStream.Pause.Notify", "NetStream.Unpause.Notify"]
        );
        assert_eq!(stage.live, ["pause true", "pause false"]);
        assert!(!stage.player.is_needed());
        stage.seek(10_000.0);
        assert_eq!(stage.take_said(), ["NetStream.Seek.Failed"]);
        assert_eq!(stage.live.len(), 2, "it goes on as before");
        assert!(!stage.player.is_needed());
    }
}

#[test]
fn a_live_viewer_seeks_back_and_to_the_end_again() {
    let mut stage = watching();
    stage.prompt = false;
    stage.seek(20_300.0);
    stage.answer();
    assert_eq!(
        stage.live, [""; 0],
        "it plays on until there is something else"
    );
    stage.answer();
    stage.prompt = true;
    assert_eq!(stage.live, ["leave"]);
    let came = stage.take();
    assert_eq!(came[3], Came::Said("NetStream.Seek.Notify".to_owned()));
    assert_eq!(came[10], Came::Frame('K', b'S', 20_000, 20_000));
    // Beyond the end is live.
    stage.seek(600_000.0);
    assert_eq!(stage.live, ["leave", "live show"]);
    let said = stage.take_said();
    assert_eq!(
        said[..4],
        [
            "eof",
            "begin",
            "NetStream.Seek.Notify",
            "NetStream.Play.Start"
        ],
        "it is not recorded any more"
    );
    assert!(!stage.player.is_needed());
}

#[test]
fn a_live_viewer_that_seeks_to_the_end_gets_the_newest() {
    let mut stage = watching();
    stage.seek(60_000.0);
    assert_eq!(stage.live, ["newest"]);
    assert!(
        stage
            .take_said()
            .contains(&"NetStream.Seek.Notify".to_owned())
    );
    assert!(!stage.player.is_needed());
}

#[test]
fn a_seek_while_it_comes_back_does_not_leave_it_paused() {
    // Its name is being described, or its piece is being fetched.
    for answers in [0, 1] {
        let mut stage = watching();
        stage.prompt = false;
        stage.pause(true, 0.0);
        stage.pause(false, 0.0);
        for _ in 0..answers {
            stage.answer();
        }
        stage.seek(20_000.0);
        let live = ["pause true", "pause false"];
        assert_eq!(stage.live, live, "it plays until there is something else");
        stage.library.get_mut("show").unwrap().failure = Some(RecordedError::NotFound);
        stage.answer_all();
        let said = stage.take_said();
        assert_eq!(said.last().unwrap(), "NetStream.Seek.Failed");
        assert_eq!(stage.live, live);
        assert!(!stage.player.is_needed());
    }
}

#[test]
fn a_pause_while_it_comes_back_is_a_pause() {
    let nothing = Library {
        frames: Vec::new(),
        ..Library::growing(b'S', 0)
    };
    let mut stage = watching();
    stage.library.insert("show".to_owned(), nothing);
    stage.prompt = false;
    for paused in [true, false, true] {
        stage.pause(paused, 0.0);
    }
    stage.answer_all();
    assert_eq!(stage.live, ["pause true", "pause true"]);
    stage.pause(false, 0.0);
    stage.answer_all();
    assert_eq!(stage.live[2..], ["pause false"]);
    assert!(!stage.player.is_needed());

    // The same of what is recorded.
    let mut stage = watching();
    stage.prompt = false;
    for paused in [true, false, true] {
        stage.pause(paused, 0.0);
    }
    stage.answer_all();
    assert_eq!(stage.take_frames(), []);
    assert!(!stage.player.holds_piece());
    assert_eq!(stage.live, ["pause true", "pause true", "leave"]);
    stage.pause(false, 0.0);
    stage.answer_all();
    let came = stage.take_frames();
    assert_eq!(came[..2], [('a', 50_000), ('a', 50_050)]);
}

#[test]
fn whoever_cannot_wait_to_go_on_gets_nothing_twice() {
    let mut stage = watching();
    stage.prompt = false;
    for paused in [true, false, true, false] {
        stage.pause(paused, 0.0);
    }
    stage.answer_all();
    assert_eq!(
        stage.live,
        ["pause true", "pause true", "leave"],
        "nothing is sent live meanwhile"
    );
    let came = stage.take_frames();
    assert_eq!(came[..2], [('a', 50_000), ('a', 50_050)]);
}

#[test]
fn a_live_viewer_that_seeks_to_the_end_while_it_is_paused_goes_on_there() {
    let mut stage = watching();
    stage.pause(true, 50_000.0);
    stage.seek(60_000.0);
    stage.pause(false, 0.0);
    assert_eq!(stage.live, ["pause true", "newest", "pause false"]);
    assert!(!stage.player.is_needed());
}

#[test]
fn what_was_sent_live_is_not_sent_again_after_another_pause() {
    let mut stage = watching();
    let library = Library::growing(b'S', 48_500);
    stage.library.insert("show".to_owned(), library);
    stage.full = true;
    stage.pause(true, 50_000.0);
    stage.pause(false, 50_000.0);
    stage.pause(true, 50_000.0);
    stage.library.get_mut("show").unwrap().grow(52_000);
    stage.full = false;
    stage.pause(false, 50_000.0);
    assert_eq!(stage.take_frames()[..2], [('a', 50_000), ('a', 50_050)]);
}

#[test]
fn a_live_play_that_ends_during_a_question_is_over_all_the_same() {
    for ask in [
        // To go back, and to go on after a pause.
        (|stage| stage.seek(20_000.0)) as fn(&mut Stage),
        |stage| {
            stage.pause(true, 0.0);
            stage.pause(false, 0.0);
        },
    ] {
        let mut stage = watching();
        stage.prompt = false;
        ask(&mut stage);
        let length = PlayLength::All;
        stage.play_with("film", PlayStart::At(0), length, PlayReset::Append);
        stage.live.clear();
        stage.player.live_over();
        stage.library.get_mut("show").unwrap().failure = Some(RecordedError::NotFound);
        stage.answer_all();
        assert_eq!(stage.live.last().unwrap(), "end with it", "asked again");
    }
}
