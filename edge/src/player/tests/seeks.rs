//! Going elsewhere.

use headwater_rtmp::command::{PlayLength, PlayReset, PlayStart};

use super::*;
use crate::recorded::RecordedError;

const SOUGHT: [&str; 7] = [
    "eof",
    "recorded",
    "begin",
    "NetStream.Seek.Notify",
    "NetStream.Play.Start",
    "|RtmpSampleAccess",
    "data NetStream.Data.Start",
];

fn playing() -> Stage {
    let mut stage = Stage::new([("film", Library::file(b'F', 20_000))]);
    stage.play("film", PlayStart::At(0));
    stage.take();
    stage
}

#[test]
fn a_seek_is_told_and_begins_at_the_key_frame_before() {
    for (to, begins) in [
        (0, 0),
        (7_900, 7_000),
        (8_000, 8_000),
        (19_999, 19_000),
        (500, 0),
    ] {
        let mut stage = playing();
        stage.seek(f64::from(to));
        let came = stage.take();
        let said: Vec<Came> = SOUGHT
            .iter()
            .map(|it| Came::Said((*it).to_owned()))
            .collect();
        assert_eq!(came[..7], said);
        assert_eq!(
            came[7..12],
            [
                Came::Header('m', 0),
                Came::Header('v', begins),
                Came::Header('a', begins),
                Came::Frame('K', b'F', begins, begins),
                Came::Frame('a', b'F', begins, begins),
            ],
            "to {to}"
        );
        stage.pass(40_000);
        let rest = stage.take_frames();
        assert_eq!(
            rest.last(),
            Some(&('a', 19_950)).filter(|_| begins < 18_000)
        );
    }
}

#[test]
fn the_clock_begins_anew() {
    let mut stage = playing();
    stage.pass(500);
    stage.seek(10_000.0);
    let newest = stage.take_frames().last().map(|(_, time)| *time);
    assert_eq!(newest, Some(13_950));
    stage.pass(1_900);
    assert_eq!(stage.take_frames(), []);
    stage.pass(200);
    let newest = stage.take_frames().last().map(|(_, time)| *time);
    assert_eq!(newest, Some(15_950));
}

#[test]
fn behind_the_end_is_the_end() {
    for to in [20_000.0, 1e12] {
        let mut stage = playing();
        stage.seek(to);
        let mut expected = SOUGHT.to_vec();
        expected.extend(["NetStream.Play.Stop", "eof", "data NetStream.Play.Complete"]);
        assert_eq!(stage.take_said(), expected);
        // And back.
        stage.seek(3_000.0);
        assert_eq!(stage.take_said(), SOUGHT);
        stage.pass(60_000);
        assert_eq!(
            stage.take_said().last().map(String::as_str),
            Some("data NetStream.Play.Complete")
        );
    }
}

#[test]
fn the_end_that_was_asked_for_holds() {
    let mut stage = Stage::new([("film", Library::file(b'F', 20_000))]);
    let length = PlayLength::Milliseconds(5_000);
    stage.play_with("film", PlayStart::At(1_000), length, PlayReset::Reset);
    stage.take();
    stage.seek(5_000.0);
    stage.pass(30_000);
    let frames = stage.take_frames();
    assert_eq!(frames.last(), Some(&('a', 5_950)));
    stage.seek(6_000.0);
    assert!(stage.take_frames().is_empty());
}

#[test]
fn only_the_last_of_many_counts() {
    let mut stage = playing();
    stage.prompt = false;
    for to in [3_000.0, 9_000.0, 15_000.0] {
        stage.seek(to);
    }
    while !stage.questions.is_empty() {
        stage.answer();
    }
    assert_eq!(stage.take_frames()[0], ('K', 15_000));
}

#[test]
fn a_seek_while_it_is_paused_shows_one_picture() {
    let mut stage = playing();
    stage.pause(true, 1_000.0);
    stage.take();
    stage.seek(7_300.0);
    assert_eq!(
        stage.take()[7..],
        [
            Came::Header('m', 0),
            Came::Header('v', 7_000),
            Came::Header('a', 7_000),
            Came::Frame('K', b'F', 7_000, 7_000),
        ]
    );
    stage.pass(20_000);
    assert_eq!(stage.take(), []);
    stage.pause(false, 7_000.0);
    assert_eq!(
        stage.take_frames()[..3],
        [('a', 7_000), ('a', 7_050), ('v', 7_100)]
    );
}

#[test]
fn a_seek_before_the_first_frame_is_done_after_the_start() {
    let mut stage = Stage::new([("film", Library::file(b'F', 20_000))]);
    stage.prompt = false;
    stage.play("film", PlayStart::At(0));
    stage.seek(12_000.0);
    while !stage.questions.is_empty() {
        stage.answer();
    }
    let came = stage.take();
    assert!(came.contains(&Came::Said("NetStream.Play.Reset".to_owned())));
    let first = came.iter().find(|it| matches!(it, Came::Frame(..)));
    assert_eq!(first, Some(&Came::Frame('K', b'F', 12_000, 12_000)));
}

#[test]
fn a_seek_that_fails_goes_on_as_before() {
    let mut stage = playing();
    let failure = RecordedError::Unavailable("the store is away".into());
    stage.library.get_mut("film").unwrap().failure = Some(failure);
    stage.seek(10_000.0);
    assert_eq!(stage.take_said(), ["NetStream.Seek.Failed"]);
    stage.library.get_mut("film").unwrap().failure = None;
    stage.pass(4_000);
    assert_eq!(stage.take_frames()[0], ('K', 4_000), "no hole");
}

#[test]
fn a_seek_while_it_is_paused_is_where_it_goes_on() {
    let mut stage = playing();
    stage.pause(true, 1_000.0);
    stage.seek(7_300.0);
    stage.take();
    stage.pause(false, 0.0);
    assert_eq!(
        stage.take_frames()[..3],
        [('a', 7_000), ('a', 7_050), ('v', 7_100)]
    );
}
