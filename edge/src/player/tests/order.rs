//! What a player gets, and in which order.

use headwater_rtmp::command::{PlayLength, PlayReset, PlayStart};

use super::*;
use crate::recorded::RecordedError;

fn said(text: &str) -> Came {
    Came::Said(text.to_owned())
}

/// How recorded playback is announced, from StreamIsRecorded on.
fn announcement(reset: bool) -> Vec<Came> {
    let mut all = vec!["recorded", "begin"];
    if reset {
        all.push("NetStream.Play.Reset");
    }
    all.extend([
        "NetStream.Play.Start",
        "|RtmpSampleAccess",
        "data NetStream.Data.Start",
    ]);
    all.into_iter().map(said).collect()
}

#[test]
fn a_file_is_announced_played_and_completed() {
    let mut stage = Stage::new([("film", Library::file(b'F', 250))]);
    stage.play("film", PlayStart::At(0));
    let mut expected = announcement(true);
    expected.extend([
        Came::Header('m', 0),
        Came::Header('v', 0),
        Came::Header('a', 0),
        Came::Frame('K', b'F', 0, 0),
        Came::Frame('a', b'F', 0, 0),
        Came::Frame('a', b'F', 50, 50),
        Came::Frame('v', b'F', 100, 100),
        Came::Frame('a', b'F', 100, 100),
        Came::Frame('a', b'F', 150, 150),
        Came::Frame('v', b'F', 200, 200),
        Came::Frame('a', b'F', 200, 200),
        said("NetStream.Play.Stop"),
        said("eof"),
        said("data NetStream.Play.Complete"),
    ]);
    assert_eq!(stage.take(), expected);
    assert!(stage.player.is_needed(), "it may seek back");
    assert_eq!(stage.player.poll_timeout(), None);
}

#[test]
fn playback_begins_at_the_key_frame_before() {
    // Where the client wants to begin, and where it does.
    for (start, begins) in [
        (0, 0),
        (999, 0),
        (1_000, 1_000),
        (3_700, 3_000),
        (9_999, 9_000),
    ] {
        let mut stage = Stage::new([("film", Library::file(b'F', 10_000))]);
        stage.play("film", PlayStart::At(start));
        let came = stage.take();
        let media = &came[announcement(true).len()..];
        assert_eq!(
            media[..5],
            [
                Came::Header('m', 0),
                Came::Header('v', 0),
                Came::Header('a', 0),
                Came::Frame('K', b'F', begins, 0),
                Came::Frame('a', b'F', begins, 0),
            ],
            "from {start}"
        );
        // Media time is counted from where the client wanted to begin.
        for it in media {
            if let Came::Frame(_, _, time, timestamp) = it {
                assert_eq!(
                    *timestamp,
                    time.saturating_sub(start.into()),
                    "from {start}"
                );
            }
        }
    }
}

#[test]
fn without_video_it_begins_anywhere() {
    let mut stage = Stage::new([("mp3:song", Library::audio(b'S', 10_000))]);
    stage.play("mp3:song", PlayStart::At(3_720));
    let came = stage.take();
    let media = &came[announcement(true).len()..];
    assert_eq!(
        media[..3],
        [
            Came::Header('m', 0),
            Came::Header('a', 0),
            Came::Frame('a', b'S', 3_700, 0),
        ]
    );
}

#[test]
fn every_frame_comes_once_whatever_the_stream_and_the_budget() {
    let library = Library::file(b'F', 7_000);
    let expected: Vec<(char, u64)> = (0..7_000)
        .step_by(50)
        .flat_map(|ms| {
            let video = match ms {
                _ if ms % 1_000 == 0 => Some('K'),
                _ if ms % FRAME_MS == 0 => Some('v'),
                _ => None,
            };
            video.into_iter().chain(['a']).map(move |kind| (kind, ms))
        })
        .collect();
    for stream_id in [1, 2] {
        for budget in [1, 3_000, 100_000, usize::MAX] {
            for sets_aside in [false, true] {
                let mut stage = Stage::on_stream(stream_id, [("film", library.clone())]);
                stage.budget = budget;
                stage.sets_aside = sets_aside;
                stage.play("film", PlayStart::At(0));
                stage.pass(20_000);
                let came = stage.take();
                let headers = came.iter().filter(|it| matches!(it, Came::Header(..)));
                assert_eq!(headers.count(), 3);
                stage.put_back(came);
                let came = stage.take_frames();
                assert_eq!(
                    came, expected,
                    "stream {stream_id}, {budget} bytes at once, {sets_aside}"
                );
            }
        }
    }
}

#[test]
fn a_piece_is_one_slice_for_who_wants_all_of_it() {
    let mut stage = Stage::new([("film", Library::file(b'F', 10_000))]);
    stage.set_buffer(3_600_000);
    stage.play("film", PlayStart::At(0));
    assert_eq!(stage.library["film"].fetched, 5);
    // Three headers in two slices each, and five pieces.
    assert_eq!(stage.slices, 6 + 5);
}

#[test]
fn as_much_is_played_as_was_asked_for() {
    let stop = ["NetStream.Play.Stop", "eof", "data NetStream.Play.Complete"];
    for (start, length, first, last) in [
        (0, 1_000, 0, 950),
        (500, 2_000, 0, 2_450),
        (3_200, 100, 3_000, 3_250),
        (9_000, 60_000, 9_000, 9_950),
    ] {
        let mut stage = Stage::new([("film", Library::file(b'F', 10_000))]);
        stage.play_with(
            "film",
            PlayStart::At(start),
            PlayLength::Milliseconds(length),
            PlayReset::Reset,
        );
        stage.pass(30_000);
        let came = stage.take();
        let end: Vec<Came> = stop.iter().map(|text| said(text)).collect();
        assert!(
            came.ends_with(&end),
            "{start} + {length}: {:?}",
            came.last()
        );
        let times = came.iter().filter_map(|it| match it {
            Came::Frame(_, _, time, _) => Some(*time),
            _ => None,
        });
        let times: Vec<u64> = times.collect();
        assert_eq!(
            (times.first(), times.last()),
            (Some(&first), Some(&last)),
            "{start} + {length}"
        );
    }
}

#[test]
fn one_picture_is_one_picture() {
    let mut stage = Stage::new([("film", Library::file(b'F', 10_000))]);
    stage.play_with(
        "film",
        PlayStart::At(4_300),
        PlayLength::OneFrame,
        PlayReset::Reset,
    );
    let came = stage.take();
    let expected = [
        Came::Header('m', 0),
        Came::Header('v', 0),
        Came::Header('a', 0),
        Came::Frame('K', b'F', 4_000, 0),
        said("NetStream.Play.Stop"),
        said("eof"),
        said("data NetStream.Play.Complete"),
    ];
    assert_eq!(came[announcement(true).len()..], expected);
}

#[test]
fn what_is_played_depends_on_the_start_and_on_what_there_is() {
    let stored = Library::file(b'F', 1_000);
    let both = Library {
        publishing: true,
        ..stored.clone()
    };
    let live = Library {
        publishing: true,
        frames: Vec::new(),
        ..stored.clone()
    };
    let nothing = Library {
        publishing: false,
        ..live.clone()
    };
    let recorded = PlayStart::At(0);
    let any = PlayStart::LiveOrRecorded;
    for (name, start, library, expected) in [
        ("from the start, stored", recorded, &stored, "recorded"),
        ("from the start, both", recorded, &both, "recorded"),
        ("from the start, live", recorded, &live, "live"),
        ("from the start, nothing", recorded, &nothing, "error"),
        ("any, stored", any, &stored, "recorded"),
        ("any, both", any, &both, "live"),
        ("any, live", any, &live, "live"),
        ("any, nothing", any, &nothing, "live"),
        ("live, stored", PlayStart::Live, &stored, "live"),
        ("live, nothing", PlayStart::Live, &nothing, "live"),
    ] {
        let mut stage = Stage::new([("it", library.clone())]);
        stage.play("it", start);
        let said = stage.take_said();
        let first = said.first().map(String::as_str);
        match expected {
            "recorded" => assert_eq!((first, stage.live.len()), (Some("recorded"), 0), "{name}"),
            "live" => {
                assert_eq!(stage.live, ["live it"], "{name}");
                assert_eq!(
                    said[..3],
                    ["begin", "NetStream.Play.Reset", "NetStream.Play.Start"],
                    "{name}"
                );
                assert!(!stage.player.is_needed(), "{name}");
            }
            _ => {
                assert_eq!(said, ["NetStream.Play.StreamNotFound"], "{name}");
                assert!(!stage.player.is_needed(), "{name}");
            }
        }
    }
}

#[test]
fn where_nobody_publishes_nothing_is_waited_for() {
    let away = Library {
        failure: Some(RecordedError::Unavailable("away".into())),
        ..Library::file(b'F', 5_000)
    };
    let mut stage = Stage::new([("away", away)]);
    stage.may_come = false;
    for (name, code) in [
        ("nothing", "NetStream.Play.StreamNotFound"),
        ("away", "NetStream.Play.Failed"),
    ] {
        for start in [PlayStart::LiveOrRecorded, PlayStart::At(0)] {
            stage.play(name, start);
            assert_eq!(stage.take_said(), [code], "{name}");
        }
    }
    assert_eq!(stage.live, [""; 0]);
}

#[test]
fn what_this_edge_plays_is_live_whatever_the_origin_says() {
    let nothing = Library {
        frames: Vec::new(),
        ..Library::file(b'F', 0)
    };
    let mut stage = Stage::new([("it", nothing)]);
    stage.live_here = true;
    stage.play("it", PlayStart::At(0));
    assert_eq!(stage.live, ["live it"]);
}

#[test]
fn a_publisher_that_has_just_come_is_found() {
    for name in ["it", "nothing"] {
        let mut library = Library::file(b'F', 5_000);
        library.failure = Some(RecordedError::Unavailable("away".into()));
        let mut stage = Stage::new([("it", library)]);
        stage.found_live = true;
        stage.play(name, PlayStart::At(0));
        assert_eq!(stage.live, [format!("live {name}")]);
    }
}

#[test]
fn audio_and_video_can_be_left_out() {
    let mut stage = Stage::new([("film", Library::file(b'F', 10_000))]);
    stage.tell(|client, id| client.receive_video(id, false).unwrap());
    stage.play("film", PlayStart::At(0));
    assert!(stage.take_frames().iter().all(|(kind, _)| *kind == 'a'));
    stage.tell(|client, id| {
        client.receive_video(id, true).unwrap();
        client.receive_audio(id, false).unwrap();
    });
    stage.pass(2_000);
    let came = stage.take_frames();
    assert!(came.iter().all(|(kind, _)| *kind != 'a'));
    assert_eq!(came.first(), Some(&('K', 4_000)), "from a key frame on");
}
