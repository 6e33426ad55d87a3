//! When media is sent.

use headwater_rtmp::command::{PlayLength, PlayReset, PlayStart};

use super::*;

fn newest(stage: &mut Stage, before: u64) -> u64 {
    let frames = stage.take_frames();
    frames.iter().map(|(_, time)| *time).max().unwrap_or(before)
}

#[test]
fn media_is_sent_ahead_of_the_viewer_by_its_buffer() {
    // What the client asks for, and how far ahead it is sent.
    for (buffer, ahead) in [(0, 2_000), (100, 2_000), (3_000, 3_000), (30_000, 30_000)] {
        let mut stage = Stage::new([("film", Library::file(b'F', 120_000))]);
        stage.play("film", PlayStart::At(10_000));
        stage.counts_from = 10_000;
        stage.set_buffer(buffer);
        let mut sent = 0;
        for second in 0..60 {
            sent = newest(&mut stage, sent);
            let position = 10_000 + second * 1_000;
            assert!(
                sent + 50 >= position + ahead && sent < position + ahead + 2_000,
                "{buffer} ms of buffer: {sent} is sent, the viewer is at {position}"
            );
            stage.pass(1_000);
        }
    }
}

#[test]
fn each_piece_is_fetched_when_it_is_needed() {
    let mut stage = Stage::new([("film", Library::file(b'F', 120_000))]);
    stage.play("film", PlayStart::At(0));
    for seconds in 1..50 {
        stage.pass(1_000);
        let fetched = stage.library["film"].fetched as u64;
        assert!(
            fetched <= seconds / 2 + 2,
            "{fetched} pieces in {seconds} seconds"
        );
    }
}

#[test]
fn hours_of_buffer_get_the_whole_at_once() {
    let mut stage = Stage::new([("film", Library::file(b'F', 60_000))]);
    stage.play("film", PlayStart::At(0));
    assert_eq!(newest(&mut stage, 0), 3_950);
    stage.set_buffer(36_000_000);
    let came = stage.take();
    assert!(
        matches!(came.last(), Some(Came::Said(said)) if said == "data NetStream.Play.Complete")
    );
}

#[test]
fn an_untimed_play_gets_the_whole_at_once() {
    for reset in [PlayReset::AppendUntimed, PlayReset::ResetUntimed] {
        let mut stage = Stage::new([("film", Library::file(b'F', 60_000))]);
        stage.play_with("film", PlayStart::At(0), PlayLength::All, reset);
        assert_eq!(newest(&mut stage, 0), 59_950);
    }
}

#[test]
fn a_viewer_that_could_not_be_served_is_not_chased() {
    let mut stage = Stage::new([("film", Library::file(b'F', 60_000))]);
    stage.play("film", PlayStart::At(0));
    assert_eq!(newest(&mut stage, 0), 3_950);
    // The socket is full, or the session has no time: nothing runs for ten seconds.
    stage.now += std::time::Duration::from_secs(10);
    stage.player.handle_timeout(stage.now);
    stage.run();
    let sent = newest(&mut stage, 0);
    assert_eq!(sent, 7_950, "it had four seconds and waits for more");
    stage.pass(1_900);
    assert_eq!(newest(&mut stage, sent), sent);
    stage.pass(200);
    assert_eq!(newest(&mut stage, sent), 9_950);
}

#[test]
fn a_gap_in_time_is_a_gap_in_time() {
    let mut library = Library::file(b'F', 4_000);
    for frame in &mut library.frames {
        // The publisher was away for half a minute.
        if frame.timestamp >= 2_000 {
            frame.timestamp += 30_000;
        }
    }
    let mut stage = Stage::new([("show", library)]);
    stage.play("show", PlayStart::At(0));
    stage.take();
    stage.pass(29_000);
    assert_eq!(stage.take(), []);
    stage.pass(3_000);
    assert!(!stage.take().is_empty());
}
