//! Pausing, and going on exactly there.

use std::collections::VecDeque;

use headwater_rtmp::command::PlayStart;

use super::*;
use crate::recorded::RecordedError;

#[test]
fn nothing_comes_while_it_is_paused() {
    let mut stage = Stage::new([("film", Library::file(b'F', 60_000))]);
    stage.play("film", PlayStart::At(0));
    stage.take();
    stage.pause(true, 1_200.0);
    assert_eq!(stage.take_said(), ["NetStream.Pause.Notify"]);
    stage.pass(30_000);
    stage.set_buffer(10_000);
    assert_eq!(stage.take(), []);
    assert_eq!(stage.player.poll_timeout(), None);
}

#[test]
fn it_goes_on_behind_what_the_client_has() {
    let mut stage = Stage::new([("film", Library::file(b'F', 60_000))]);
    stage.play("film", PlayStart::At(0));
    stage.take();
    stage.pause(true, 1_230.0);
    stage.pass(30_000);
    stage.take();
    stage.pause(false, 1_230.0);
    let came = stage.take();
    assert_eq!(came[0], Came::Said("NetStream.Unpause.Notify".to_owned()));
    assert_eq!(
        came[1..4],
        [
            Came::Frame('a', b'F', 1_250, 1_250),
            Came::Frame('v', b'F', 1_300, 1_300),
            Came::Frame('a', b'F', 1_300, 1_300),
        ],
        "no header, no repetition, no hole"
    );
    // The clock runs from there.
    let newest = came.iter().rev().find_map(|it| match it {
        Came::Frame(_, _, time, _) => Some(*time),
        _ => None,
    });
    assert_eq!(newest, Some(3_950));
}

#[test]
fn a_client_that_has_all_that_was_sent_loses_and_repeats_nothing() {
    // What the client says, when it pauses and when it goes on.
    for (paused_at, at) in [
        (3_950.0, 3_950.0),
        (0.0, 0.0),
        (3_990.0, 0.0),
        (5_000.0, 5_000.0),
    ] {
        let mut stage = Stage::new([("film", Library::file(b'F', 6_000))]);
        stage.play("film", PlayStart::At(0));
        let mut all = stage.take_frames();
        stage.pause(true, paused_at);
        stage.pass(5_000);
        stage.pause(false, at);
        stage.pass(30_000);
        all.extend(stage.take_frames());
        assert_eq!(all.len(), 60 + 120, "{paused_at} {at}");
        assert!(all.is_sorted_by_key(|(_, time)| *time));
    }
}

#[test]
fn a_pause_in_the_middle_of_a_piece_goes_on_there() {
    let mut stage = Stage::new([("film", Library::file(b'F', 6_000))]);
    // A socket that takes a little.
    stage.prompt = false;
    stage.play("film", PlayStart::At(0));
    stage.answer();
    stage.budget = 0;
    stage.answer();
    stage.budget = usize::MAX;
    stage.pause(true, 0.0);
    let before = stage.take_frames();
    stage.pause(false, 0.0);
    while !stage.questions.is_empty() {
        stage.answer();
    }
    stage.prompt = true;
    stage.pass(30_000);
    let mut all = before;
    all.extend(stage.take_frames());
    assert_eq!(all.len(), 60 + 120);
}

#[test]
fn a_client_that_pauses_before_it_begins_sees_the_first_picture() {
    let mut stage = Stage::new([("film", Library::file(b'F', 6_000))]);
    stage.prompt = false;
    stage.counts_from = 2_500;
    stage.play("film", PlayStart::At(2_500));
    stage.pause(true, 0.0);
    stage.answer();
    stage.answer();
    assert_eq!(stage.take_frames(), [('K', 2_000)]);
    stage.prompt = true;
    stage.pause(false, 2_000.0);
    assert_eq!(stage.take_frames()[..2], [('a', 2_000), ('a', 2_050)]);
}

#[test]
fn a_client_that_began_in_the_middle_counts_from_there() {
    let mut stage = Stage::new([("film", Library::file(b'F', 60_000))]);
    stage.play("film", PlayStart::At(10_000));
    stage.counts_from = 10_000;
    stage.take();
    stage.pause(true, 1_230.0);
    stage.pause(false, 1_230.0);
    assert_eq!(stage.take_frames()[..2], [('a', 11_250), ('v', 11_300)]);
    // After a seek media time is the stream's own.
    stage.seek(30_000.0);
    stage.counts_from = 0;
    assert_eq!(stage.take_frames()[0], ('K', 30_000));
}

#[test]
fn pauses_that_are_none_change_nothing() {
    let mut stage = Stage::new([("film", Library::file(b'F', 6_000))]);
    stage.pause(true, 0.0);
    stage.pause(false, 0.0);
    assert_eq!(stage.take(), [], "nothing plays");
    stage.play("film", PlayStart::At(0));
    let before = stage.take_frames().len();
    stage.pause(false, 100.0);
    assert_eq!(stage.take_said(), ["NetStream.Unpause.Notify"]);
    stage.pass(30_000);
    assert_eq!(before + stage.take_frames().len(), 180);
}

fn away() -> RecordedError {
    RecordedError::Unavailable("the store is away".into())
}

#[test]
fn a_pause_outlasts_an_origin_that_is_away() {
    // Where the client says that it is, and where it goes on: behind all that was sent, or behind what it has.
    for (at, first) in [(0.0, ('K', 4_000)), (1_230.0, ('a', 1_250))] {
        let mut stage = Stage::new([("film", Library::file(b'F', 60_000))]);
        stage.play("film", PlayStart::At(0));
        stage.take();
        stage.library.get_mut("film").unwrap().failure = Some(away());
        stage.pass(5_000);
        stage.pause(true, at);
        stage.pass(60_000);
        assert_eq!(stage.take_said(), ["NetStream.Pause.Notify"]);
        // Still away: the time that it may take begins now.
        stage.pause(false, at);
        stage.pass(20_000);
        assert_eq!(stage.take_said(), ["NetStream.Unpause.Notify"]);
        stage.pause(true, at);
        assert_eq!(stage.player.poll_timeout(), None);
        stage.pass(60_000);
        stage.library.get_mut("film").unwrap().failure = None;
        assert_eq!(stage.take_said(), ["NetStream.Pause.Notify"]);
        stage.pause(false, at);
        stage.pass(1_000);
        assert_eq!(stage.take_frames()[0], first, "paused at {at}");
    }
}

#[test]
fn a_pause_while_a_piece_comes_holds_nothing_and_forgets_nothing() {
    for (at, first) in [(0.0, ('K', 4_000)), (1_230.0, ('a', 1_250))] {
        // The piece comes during the pause, or after it.
        for during in [true, false] {
            let mut stage = Stage::new([("film", Library::file(b'F', 60_000))]);
            stage.play("film", PlayStart::At(0));
            stage.take();
            stage.prompt = false;
            stage.pass(3_000);
            assert_eq!(stage.questions.len(), 1);
            stage.pause(true, at);
            if during {
                stage.answer();
            }
            assert!(!stage.player.holds_piece());
            assert_eq!(stage.take_frames(), []);
            stage.pause(false, at);
            stage.answer_all();
            assert_eq!(stage.take_frames()[0], first, "{at} {during}");
        }
    }
}

#[test]
fn who_pauses_before_the_codec_headers_gets_them_afterwards() {
    let mut stage = Stage::new([("film", Library::file(b'F', 60_000))]);
    stage.full = true;
    stage.play("film", PlayStart::At(0));
    stage.pause(true, 0.0);
    assert!(!stage.player.holds_piece());
    stage.full = false;
    stage.pause(false, 0.0);
    let came = stage.take();
    let headers = came.iter().filter(|it| matches!(it, Came::Header(..)));
    assert_eq!(headers.count(), 3);
}

#[test]
fn a_full_socket_forgets_nothing() {
    // What the client does meanwhile, and where it goes on; `None`: behind what it got.
    for (ask, first) in [
        ((|_| {}) as fn(&mut Stage), None),
        (|stage| stage.pause(true, 0.0), None),
        (|stage| stage.pause(true, 430.0), Some(('a', 450))),
        (|stage| stage.seek(9_000.0), Some(('K', 9_000))),
        (
            |stage| {
                stage.library.get_mut("film").unwrap().failure = Some(away());
                stage.seek(9_000.0);
                stage.library.get_mut("film").unwrap().failure = None;
            },
            None,
        ),
    ] {
        let mut stage = Stage::new([("film", Library::file(b'F', 60_000))]);
        stage.full = true;
        stage.play("film", PlayStart::At(0));
        // Half of a piece.
        let sent = stage
            .player
            .poll_transmit(stage.now, &mut VecDeque::new(), 9_000);
        assert!(sent.frames > 10);
        let mark = stage.player.track.as_ref().and_then(|track| track.mark);
        let got = mark.map(|mark| mark.timestamp).unwrap();
        assert!((500..1_900).contains(&got));
        stage.player.set_aside();
        assert!(!stage.player.holds_piece());
        assert_eq!(stage.player.poll_timeout(), None, "it waits for room");
        ask(&mut stage);
        stage.full = false;
        stage.pause(false, 0.0);
        // Longer than until the next try.
        stage.pass(1_000);
        let came = stage.take_frames()[0];
        match first {
            Some(first) => assert_eq!(came, first),
            None => assert!((got..=got + 50).contains(&came.1), "{came:?} after {got}"),
        }
    }
}
