//! `play2`.

use headwater_rtmp::command::PlayStart;

use super::*;
use crate::recorded::RecordedError;

fn rates() -> Stage {
    let mut stage = Stage::new([
        ("low", Library::file(b'L', 20_000)),
        ("high", Library::file(b'H', 20_000)),
        ("short", Library::file(b'S', 1_000)),
    ]);
    stage.play("low", PlayStart::At(0));
    stage.pass(3_000);
    stage
}

fn frames(came: &[Came]) -> Vec<(u8, char, u64)> {
    let frames = came.iter().filter_map(|it| match it {
        Came::Frame(kind, tag, time, _) => Some((*tag, *kind, *time)),
        _ => None,
    });
    frames.collect()
}

#[test]
fn a_switch_is_at_a_key_frame_and_loses_and_repeats_nothing() {
    // As the client says it, and whether its socket is full all the time.
    for (word, full) in [
        ("switch", false),
        ("swap", false),
        ("", false),
        ("switch", true),
    ] {
        let mut stage = rates();
        stage.sets_aside = full;
        stage.budget = if full { 3_000 } else { usize::MAX };
        let old = (word == "swap").then_some("low");
        stage.play2(word, "high", old);
        stage.pass(40_000);
        let came = stage.take();
        let frames = frames(&came);
        assert_eq!(frames.len(), 600, "{word}");
        assert!(frames.is_sorted_by_key(|(_, _, time)| *time));
        let first = frames.iter().position(|(tag, ..)| *tag == b'H').unwrap();
        assert_eq!(frames[first], (b'H', 'K', 6_000));
        assert!(frames[first..].iter().all(|(tag, ..)| *tag == b'H'));
        let place = |wanted: &Came| came.iter().position(|it| it == wanted).unwrap();
        let told = place(&Came::Said("NetStream.Play.Transition".to_owned()));
        let header = place(&Came::Header('v', 6_000));
        let key = place(&Came::Frame('K', b'H', 6_000, 6_000));
        let complete = place(&Came::Said(
            "data NetStream.Play.TransitionComplete".to_owned(),
        ));
        assert!(told < header && header < key && key < complete);
    }
}

#[test]
fn streams_whose_key_frames_differ_are_switched_at_the_next() {
    let mut stage = rates();
    let high = stage.library.get_mut("high").unwrap();
    for frame in &mut high.frames {
        // Half a second later than in the other one.
        if !frame.is_preface() {
            frame.timestamp += 500;
        }
    }
    stage.play2("switch", "high", None);
    stage.pass(40_000);
    let came = stage.take();
    let times: Vec<u64> = came
        .iter()
        .filter_map(|it| match it {
            Came::Frame(.., time) => Some(*time),
            _ => None,
        })
        .collect();
    assert!(times.is_sorted(), "time never runs back");
    let key = came
        .iter()
        .position(|it| *it == Came::Frame('K', b'H', 6_000, 6_500));
    let before = came
        .iter()
        .rposition(|it| *it == Came::Frame('a', b'L', 6_450, 6_450));
    assert!(before.zip(key).is_some_and(|(before, key)| before < key));
}

#[test]
fn a_switch_that_cannot_be_goes_on_as_before() {
    for (name, code) in [
        ("nothing", "NetStream.Play.StreamNotFound"),
        ("short", "NetStream.Play.Failed"),
    ] {
        let mut stage = rates();
        stage.take();
        stage.play2("switch", name, None);
        assert_eq!(stage.take_said(), [code]);
        stage.pass(40_000);
        let came = stage.take();
        assert_eq!(frames(&came).first(), Some(&(b'L', 'K', 6_000)));
        assert_eq!(frames(&came).len(), 600 - 180);
    }
}

#[test]
fn to_what_is_live_it_is_a_cut() {
    let mut stage = rates();
    stage.take();
    let live = Library {
        publishing: true,
        frames: Vec::new(),
        ..Library::file(b'-', 0)
    };
    stage.library.insert("show".to_owned(), live);
    stage.play2("switch", "show", None);
    // The client is told with the first frame.
    assert_eq!(stage.live, ["live show, completes"]);
    assert_eq!(stage.take_said(), ["NetStream.Play.Transition"]);
}

#[test]
fn from_what_is_live_it_is_a_cut() {
    let mut stage = rates();
    stage.watch_live("show");
    stage.take();
    stage.play2("switch", "high", None);
    assert_eq!(stage.live, ["leave"]);
    let came = stage.take();
    assert_eq!(came[0], Came::Said("NetStream.Play.Transition".to_owned()));
    assert_eq!(frames(&came).first(), Some(&(b'H', 'K', 0)));
}

#[test]
fn the_other_words() {
    let mut stage = rates();
    stage.take();
    stage.play2("appendAndWait", "high", None);
    stage.play2("swap", "short", Some("high"));
    assert_eq!(stage.take_said(), ["NetStream.Play.Transition"]);
    stage.play2("swap", "short", Some("high"));
    assert_eq!(stage.take_said(), ["NetStream.Play.Failed"], "it is gone");
    stage.pass(40_000);
    let came = stage.take();
    let last = frames(&came).last().copied();
    assert_eq!(last, Some((b'S', 'a', 950)), "the other came in its place");

    stage.play2("reset", "low", None);
    let said = stage.take_said();
    assert_eq!(said[..3], ["recorded", "begin", "NetStream.Play.Reset"]);
    stage.play2("stop", "low", None);
    assert_eq!(stage.take_said(), ["NetStream.Play.Stop"]);
    stage.pass(40_000);
    assert_eq!(stage.take(), []);

    // Nothing plays: an entry waits until there is another one.
    stage.play2("appendAndWait", "short", None);
    assert_eq!(stage.take(), []);
    stage.play2("append", "high", None);
    let came = stage.take();
    assert_eq!(frames(&came).first(), Some(&(b'S', 'K', 0)));
    stage.play2("resume", "low", None);
    stage.pass(100_000);
    assert_eq!(frames(&stage.take()).last(), Some(&(b'L', 'a', 19_950)));
}

#[test]
fn a_switch_helps_where_the_old_stream_cannot_be_read() {
    let away = RecordedError::Unavailable("the store is away".into());
    // The old stream is tried again now and then, or its fetch is under way.
    for prompt in [true, false] {
        let mut stage = rates();
        stage.take();
        stage.library.get_mut("low").unwrap().failure = Some(away.clone());
        stage.prompt = prompt;
        stage.pass(3_000);
        let under_way = stage.questions.pop_front();
        assert_eq!(under_way.is_none(), prompt);
        stage.prompt = true;
        stage.play2("switch", "high", None);
        assert_eq!(frames(&stage.take()).first(), Some(&(b'H', 'K', 6_000)));
    }
}

#[test]
fn a_switch_that_is_ready_holds_no_piece_and_waits_no_longer_than_it_must() {
    let away = RecordedError::Unavailable("the store is away".into());
    let mut stage = rates();
    stage.take();
    stage.prompt = false;
    stage.pass(3_000);
    stage.play2("switch", "high", None);
    // The piece of the old stream is the last of what is answered, and cannot be had.
    let old = stage.questions.pop_front().unwrap();
    stage.answer_all();
    stage.questions.push_back(old);
    stage.library.get_mut("low").unwrap().failure = Some(away);
    stage.answer_all();
    assert_eq!(frames(&stage.take()).first(), Some(&(b'H', 'K', 6_000)));
}
