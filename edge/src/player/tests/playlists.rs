//! Several entries.

use headwater_rtmp::command::{PlayLength, PlayReset, PlayStart};

use super::*;
use crate::player::entry::MAX_ENTRIES;

fn append(stage: &mut Stage, name: &str, start: PlayStart) {
    stage.play_with(name, start, PlayLength::All, PlayReset::Append);
}

fn films() -> Stage {
    Stage::new([
        ("a", Library::file(b'A', 1_000)),
        ("b", Library::file(b'B', 1_000)),
        ("c", Library::file(b'C', 1_000)),
    ])
}

#[test]
fn entries_are_played_one_after_the_other() {
    let mut stage = films();
    stage.play("a", PlayStart::At(0));
    append(&mut stage, "b", PlayStart::At(0));
    let said = stage.take_said();
    let completed = "data NetStream.Play.Complete";
    // The first is so short that it was over when the second came.
    assert_eq!(said.iter().filter(|it| *it == completed).count(), 2);
    assert!(!said.contains(&"data NetStream.Play.Switch".to_owned()));

    stage.prompt = false;
    stage.play("a", PlayStart::At(0));
    append(&mut stage, "b", PlayStart::At(500));
    append(&mut stage, "c", PlayStart::LiveOrRecorded);
    while !stage.questions.is_empty() {
        stage.answer();
    }
    let came = stage.take();
    let said: Vec<&str> = came
        .iter()
        .filter_map(|it| match it {
            Came::Said(said) => Some(said.as_str()),
            _ => None,
        })
        .collect();
    let start = [
        "NetStream.Play.Start",
        "|RtmpSampleAccess",
        "data NetStream.Data.Start",
    ];
    let next = ["data NetStream.Play.Switch", "recorded", "begin"];
    let end = ["NetStream.Play.Stop", "eof", completed];
    let expected: Vec<&str> = ["recorded", "begin", "NetStream.Play.Reset"]
        .into_iter()
        .chain(start)
        .chain(next)
        .chain(start)
        .chain(next)
        .chain(start)
        .chain(end)
        .collect();
    assert_eq!(said, expected);
    let tags: Vec<u8> = came
        .iter()
        .filter_map(|it| match it {
            Came::Frame(_, tag, ..) => Some(*tag),
            _ => None,
        })
        .collect();
    assert!(tags.is_sorted());
    assert_eq!(tags.len(), 90);
}

#[test]
fn an_entry_that_is_missing_is_told_and_left_out() {
    let mut stage = films();
    stage.prompt = false;
    stage.play("a", PlayStart::At(0));
    for name in ["nothing", "c"] {
        append(&mut stage, name, PlayStart::At(0));
    }
    while !stage.questions.is_empty() {
        stage.answer();
    }
    let came = stage.take();
    let missing = Came::Said("NetStream.Play.StreamNotFound".to_owned());
    assert!(came.contains(&missing));
    let last = came.iter().rev().find(|it| matches!(it, Came::Frame(..)));
    assert_eq!(last, Some(&Came::Frame('a', b'C', 950, 950)));
    assert_eq!(
        came.last(),
        Some(&Came::Said("data NetStream.Play.Complete".to_owned()))
    );
}

#[test]
fn a_reset_forgets_the_playlist() {
    let mut stage = films();
    stage.prompt = false;
    stage.play("a", PlayStart::At(0));
    append(&mut stage, "b", PlayStart::At(0));
    stage.play("c", PlayStart::At(0));
    while !stage.questions.is_empty() {
        stage.answer();
    }
    let came = stage.take();
    assert!(
        came.iter()
            .all(|it| !matches!(it, Came::Frame(_, b'A' | b'B', ..)))
    );
}

#[test]
fn a_live_entry_ends_with_its_publisher_if_something_follows() {
    let mut stage = films();
    stage.watch_live("show");
    append(&mut stage, "a", PlayStart::At(0));
    assert_eq!(stage.live, ["end with it"]);
    assert!(stage.player.is_needed());
    stage.player.live_over();
    stage.run();
    assert_eq!(stage.live, ["end with it", "leave"]);
    assert_eq!(
        stage.take_said()[..3],
        ["data NetStream.Play.Switch", "recorded", "begin"]
    );

    let mut stage = films();
    stage.prompt = false;
    stage.play("a", PlayStart::At(0));
    for name in ["show", "b"] {
        append(&mut stage, name, PlayStart::Live);
    }
    while !stage.questions.is_empty() {
        stage.answer();
    }
    assert_eq!(stage.live, ["live show until its end"]);
}

#[test]
fn a_playlist_is_bounded() {
    let mut stage = films();
    stage.prompt = false;
    stage.play("a", PlayStart::At(0));
    for _ in 0..MAX_ENTRIES {
        append(&mut stage, "b", PlayStart::At(0));
    }
    assert_eq!(stage.take_said(), [""; 0]);
    append(&mut stage, "b", PlayStart::At(0));
    assert_eq!(stage.take_said(), ["NetStream.Play.Failed"]);
}
