//! What is stored, played through a session.

use headwater_amf::{Object, Value};
use headwater_media::frame::FrameKind;
use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::command::{Play2Parameters, PlayLength, PlayReset, PlayStart};

use super::bench::{Bench, Client, says};
use crate::player::tests::library::Library;

fn play(client: &mut Client, name: &str, start: PlayStart) {
    client
        .session
        .play(1, name, start, PlayLength::All, PlayReset::Reset)
        .unwrap();
}

/// Timestamps of the frames, without headers.
fn times(events: &[ClientEvent], kind: FrameKind) -> Vec<u32> {
    let frames = events.iter().filter_map(|event| match event {
        ClientEvent::Media { frame, .. } if frame.kind == kind && frame.payload[1] != 0 => {
            Some(frame.timestamp)
        }
        _ => None,
    });
    frames.collect()
}

fn all_times(until: u32) -> Vec<u32> {
    (0..until).step_by(50).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_gets_the_whole_file_at_once() {
    let bench = Bench::start().await;
    bench.origin.put("film", Library::file(b'F', 60_000));
    let mut client = bench.client("vod").await;
    play(&mut client, "film", PlayStart::At(0));
    client.session.set_buffer_length(1, 36_000_000).unwrap();
    let came = client.wait_status("NetStream.Play.Complete").await;
    assert_eq!(times(&came, FrameKind::Audio), all_times(60_000));
    assert_eq!(times(&came, FrameKind::Video).len(), 600);
    // It stays a player.
    client.session.seek(1, 59_400.0).unwrap();
    let came = client.wait_status("NetStream.Play.Complete").await;
    assert!(came.iter().any(|it| says(it, "NetStream.Seek.Notify")));
    assert_eq!(times(&came, FrameKind::Video).first(), Some(&59_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_is_served_in_time_and_pauses() {
    let bench = Bench::start().await;
    bench.origin.put("film", Library::file(b'F', 600_000));
    let mut client = bench.client("vod").await;
    play(&mut client, "film", PlayStart::At(0));
    let began = std::time::Instant::now();
    let mut came = client.wait_time(3_900).await;
    came.extend(client.wait_time(5_900).await);
    let took = began.elapsed().as_millis();
    assert!((1_800..8_000).contains(&took), "{took} ms");
    client.session.pause(1, true, 2_000.0).unwrap();
    came.extend(client.wait_status("NetStream.Pause.Notify").await);
    let times_before = times(&came, FrameKind::Video);
    assert_eq!(times_before.first(), Some(&0));
    assert!(times_before.windows(2).all(|pair| pair[1] == pair[0] + 100));
    client.session.pause(1, false, 2_000.0).unwrap();
    let came = client.wait_time(3_000).await;
    assert!(says(&came[0], "NetStream.Unpause.Notify"));
    assert_eq!(times(&came, FrameKind::Video)[0], 2_100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_viewer_catches_up_with_the_live_stream() {
    let bench = Bench::start().await;
    let mut show = Library::growing(b'S', 5_000);
    bench.origin.put("show", show.clone());
    let mut client = bench.client("live").await;
    play(&mut client, "show", PlayStart::At(0));
    client.session.set_buffer_length(1, 60_000).unwrap();
    let mut came = client.wait_time(4_950).await;
    for length in (5_100..12_000).step_by(100) {
        show.grow(length);
        bench.origin.put("show", show.clone());
        came.extend(client.wait_time(u32::try_from(length).unwrap() - 50).await);
    }
    assert_eq!(
        times(&came, FrameKind::Audio),
        all_times(11_900),
        "nothing lost, nothing twice"
    );
    assert_eq!(bench.gauges(), (1, 0), "a live viewer, and nothing else");

    // Back, and to the live end again.
    client.session.seek(1, 3_000.0).unwrap();
    let came = client.wait_time(11_850).await;
    assert_eq!(
        times(&came, FrameKind::Audio),
        (3_000..11_900).step_by(50).collect::<Vec<_>>()
    );
    client.session.seek(1, 1e9).unwrap();
    client.wait_status("NetStream.Seek.Notify").await;
    show.grow(12_100);
    bench.origin.put("show", show.clone());
    let came = client.wait_time(12_000).await;
    assert_eq!(times(&came, FrameKind::Video).last(), Some(&12_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_viewer_pauses_what_is_recorded() {
    let bench = Bench::start().await;
    let mut show = Library::growing(b'S', 5_000);
    bench.origin.put("show", show.clone());
    let mut client = bench.client("live").await;
    play(&mut client, "show", PlayStart::LiveOrRecorded);
    let came = client.wait_time(4_950).await;
    assert_eq!(times(&came, FrameKind::Video).first(), Some(&4_000));
    client.session.pause(1, true, 4_950.0).unwrap();
    client.wait_status("NetStream.Pause.Notify").await;
    show.grow(30_000);
    bench.origin.put("show", show.clone());
    client.session.pause(1, false, 4_950.0).unwrap();
    let came = client.wait_time(7_000).await;
    assert_eq!(
        times(&came, FrameKind::Audio),
        (5_000..7_000).step_by(50).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_mind_take_nothing_from_what_plays() {
    let bench = Bench::start().await;
    for (name, tag) in [("film", b'F'), ("low", b'L'), ("high", b'H')] {
        bench.origin.put(name, Library::file(tag, 60_000));
    }
    let mut client = bench.client("vod").await;
    play(&mut client, "film", PlayStart::At(0));
    client.wait_time(3_900).await;
    // The next piece is being fetched while the client changes its mind twice.
    bench.origin.hung.send_replace(true);
    let (describes, fetches) = bench.origin.asked();
    client.session.set_buffer_length(1, 20_000).unwrap();
    client.send().await;
    bench.origin.until_asked(describes, fetches + 1).await;
    for (count, name) in ["low", "high"].into_iter().enumerate() {
        let parameters = Play2Parameters {
            stream_name: name.to_owned(),
            transition: "switch".to_owned(),
            start: PlayStart::At(0),
            ..Play2Parameters::default()
        };
        client.session.play2(1, &parameters).unwrap();
        client.send().await;
        let describes = describes + 1 + count;
        bench.origin.until_asked(describes, fetches + 1).await;
    }
    bench.origin.hung.send_replace(false);
    client
        .wait_status("NetStream.Play.TransitionComplete")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_appended_to_a_live_play_that_is_over_is_played() {
    let bench = Bench::start().await;
    bench.origin.put("show", Library::growing(b'S', 5_000));
    bench.origin.put("film", Library::file(b'F', 1_000));
    let mut client = bench.client("live").await;
    let length = PlayLength::Milliseconds(500);
    client
        .session
        .play(1, "show", PlayStart::Live, length, PlayReset::Reset)
        .unwrap();
    client.wait_status("NetStream.Play.Stop").await;
    let session = &mut client.session;
    session
        .play(
            1,
            "film",
            PlayStart::At(0),
            PlayLength::All,
            PlayReset::Append,
        )
        .unwrap();
    let came = client.wait_status("NetStream.Play.Complete").await;
    assert_eq!(times(&came, FrameKind::Audio), all_times(1_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_to_a_live_stream_is_complete_with_its_first_frame() {
    let bench = Bench::start().await;
    bench.origin.put("film", Library::file(b'F', 60_000));
    bench.origin.put("show", Library::growing(b'S', 5_000));
    let mut client = bench.client("live").await;
    play(&mut client, "film", PlayStart::At(0));
    client.wait_time(3_900).await;
    let parameters = Play2Parameters {
        stream_name: "show".to_owned(),
        transition: "switch".to_owned(),
        start: PlayStart::Live,
        ..Play2Parameters::default()
    };
    client.session.play2(1, &parameters).unwrap();
    client.wait_status("NetStream.Play.Transition").await;
    let came = client
        .wait_status("NetStream.Play.TransitionComplete")
        .await;
    assert_eq!(times(&came, FrameKind::Video).first(), Some(&4_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_a_client_wants_last_is_fetched() {
    let bench = Bench::start().await;
    bench.origin.put("film", Library::file(b'F', 600_000));
    let mut client = bench.client("vod").await;
    play(&mut client, "film", PlayStart::At(0));
    client.wait_time(3_900).await;
    bench.origin.hung.send_replace(true);
    let (describes, fetches) = bench.origin.asked();
    for seconds in 1..=50 {
        client.session.seek(1, f64::from(seconds) * 10e3).unwrap();
    }
    // Answered when all of that was heard.
    client.session.create_stream().unwrap();
    client
        .wait(|event| matches!(event, ClientEvent::StreamCreated { .. }))
        .await;
    bench.origin.until_asked(describes, fetches + 1).await;
    bench.origin.hung.send_replace(false);
    let came = client.wait_time(500_000).await;
    let notified = came.iter().filter(|it| says(it, "NetStream.Seek.Notify"));
    assert_eq!(notified.count(), 1);
    let fetched = bench.origin.asked().1 - fetches;
    assert!(fetched <= 5, "{fetched} pieces were fetched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_not_found() {
    let bench = Bench::start().await;
    let mut client = bench.client("vod").await;
    // Nobody publishes in this application, so there is nothing to wait for.
    for start in [
        PlayStart::At(0),
        PlayStart::At(10_000),
        PlayStart::LiveOrRecorded,
    ] {
        play(&mut client, "nothing", start);
        client.wait_status("NetStream.Play.StreamNotFound").await;
    }
    for (name, code) in [
        ("../secret", "NetStream.Play.StreamNotFound"),
        ("a//b", "NetStream.Play.StreamNotFound"),
    ] {
        play(&mut client, name, PlayStart::At(0));
        client.wait_status(code).await;
    }
    // The session is as it was.
    bench.origin.put("film", Library::file(b'F', 1_000));
    play(&mut client, "film", PlayStart::At(0));
    client.wait_status("NetStream.Play.Complete").await;
}

async fn call(client: &mut Client, name: &str, argument: impl Into<Value>) -> Result<Value, Value> {
    let arguments = vec![argument.into()];
    let asked = client.session.call(name, arguments).unwrap();
    let came = client
        .wait(|event| {
            matches!(event, ClientEvent::CallResult { transaction, .. } if *transaction == asked)
        })
        .await;
    match came.last() {
        Some(ClientEvent::CallResult { result, .. }) => result.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_about_streams_are_answered() {
    let bench = Bench::start().await;
    bench.origin.put("film", Library::file(b'F', 61_500));
    bench.origin.put("show", Library::growing(b'S', 20_000));
    let announced = Library {
        frames: Vec::new(),
        publishing: true,
        ..Library::file(b'N', 0)
    };
    bench.origin.put("new", announced);

    let mut client = bench.client("vod").await;
    for (name, length) in [
        ("film", 61.5),
        ("film?key=1", 61.5),
        ("nothing", 0.0),
        ("new", 0.0),
    ] {
        let answer = call(&mut client, "getStreamLength", name).await;
        assert_eq!(answer, Ok(Value::Number(length)), "{name}");
    }
    // Not here.
    assert!(call(&mut client, "DVRGetStreamInfo", "show").await.is_err());

    let mut client = bench.client("dvrcast").await;
    for (name, code) in [
        ("show", "NetStream.DVRStreamInfo.Success"),
        ("film", "NetStream.DVRStreamInfo.Success"),
        ("new", "NetStream.DVRStreamInfo.Retry"),
        ("nothing", "NetStream.DVRStreamInfo.Failed"),
    ] {
        let answer = call(&mut client, "DVRGetStreamInfo", name).await.unwrap();
        assert_eq!(answer.get("code"), Some(&Value::from(code)), "{name}");
        let Some(data) = answer.get("data") else {
            assert_eq!(name, "nothing");
            continue;
        };
        let field = |field| data.get(field).cloned();
        let (growing, closed) = (name == "show", name == "film");
        if growing || closed {
            assert_eq!(field("streamName"), Some(Value::from(name)));
            assert_eq!(field("isRec"), Some(Value::Boolean(growing)));
            let (length, most) = if growing { (20.0, 0.0) } else { (61.5, 61.5) };
            assert_eq!(field("currLen"), Some(Value::Number(length)));
            assert_eq!(field("maxLen"), Some(Value::Number(most)));
            assert!(matches!(field("startRec"), Some(Value::Date { .. })));
        } else {
            assert_eq!(field("retry"), Some(Value::Number(5.0)));
        }
    }
    client
        .session
        .call("DVRSubscribe", vec![Value::from("show")])
        .unwrap();
    let came = client
        .wait(|event| matches!(event, ClientEvent::CallRequest { .. }))
        .await;
    assert!(
        matches!(came.last(), Some(ClientEvent::CallRequest { name, .. }) if name == "onDVRSubscribe")
    );
    assert!(call(&mut client, "nonsense", "show").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_encoder_says_players_are_told() {
    let bench = Bench::start().await;
    bench.origin.put("show", Library::growing(b'S', 20_000));
    let said = |name: &str, offset: f64| {
        let object = Object::new().with("streamName", name).with("offline", true);
        Value::Object(object.with("begOffset", offset))
    };
    let mut encoder = bench.client("dvrcast").await;
    // Encoders do not wait for answers.
    for offset in [3.0, 4.0, 5.0] {
        let arguments = vec![said("show?key=1", offset)];
        encoder.session.call("DVRSetStreamInfo", arguments).unwrap();
    }
    let answer = call(&mut encoder, "DVRSetStreamInfo", said("flv:show", 6.5)).await;
    assert_eq!(answer, Ok(Value::Null));
    let mut player = bench.client("dvrcast").await;
    let answer = call(&mut player, "DVRGetStreamInfo", "show").await.unwrap();
    let data = answer.get("data").unwrap();
    assert_eq!(data.get("begOffset"), Some(&Value::Number(6.5)));
    assert_eq!(data.get("offline"), Some(&Value::Boolean(true)));
    // As it is, whatever was said.
    assert_eq!(data.get("currLen"), Some(&Value::Number(20.0)));
    assert_eq!(data.get("isRec"), Some(&Value::Boolean(true)));

    for (application, argument, why) in [
        ("dvrcast", said("show", -4.0), "begOffset"),
        ("dvrcast", Value::from("show"), "object"),
        ("dvrcast", said("a/../b", 0.0), "a/../b"),
        ("dvrcast", said("mp3:song", 0.0), "recorded"),
        ("watched", said("show", 0.0), "no publishers"),
        ("live", said("show", 0.0), "Method not found"),
    ] {
        let mut client = bench.client(application).await;
        let answer = call(&mut client, "DVRSetStreamInfo", argument).await;
        let error = answer.unwrap_err();
        let described = error.get("description").and_then(Value::as_str);
        let described = described.unwrap_or_default();
        assert!(described.contains(why), "{application}: {error:?}");
    }
    // Nothing of that is kept; who may only watch is told, too.
    let mut watcher = bench.client("watched").await;
    let answer = call(&mut watcher, "DVRGetStreamInfo", "show")
        .await
        .unwrap();
    let data = answer.get("data").unwrap();
    assert_eq!(data.get("begOffset"), Some(&Value::Number(6.5)));
}
