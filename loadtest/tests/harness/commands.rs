//! The binary, as people use it.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::server::Server;
use crate::{publish, watch};

pub(crate) fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_headwater-loadtest"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) async fn finish(child: Child) -> (Option<i32>, String, String) {
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let Output {
        status,
        stdout,
        stderr,
    } = tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

pub(crate) fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency_is_told_beside_its_floor() {
    let server = Server::start().await;
    let json = tempfile::NamedTempFile::new().unwrap();
    let (url, path) = (server.url("live/cam"), json.path().to_str().unwrap());
    let child = start(&[
        "latency",
        "--publish",
        &url,
        "--play",
        &url,
        "--seconds",
        "1",
        "--fps",
        "60",
        "--floor",
        "--json",
        path,
        "--expect-no-loss",
    ]);
    let (code, stdout, stderr) = finish(child).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(
        stdout.contains("difference") && stdout.contains("latency p99"),
        "{stdout}"
    );
    let json = read_json(json.path());
    for way in ["server", "floor"] {
        let timed = json[way]["count"].as_u64().unwrap();
        assert!((20..=70).contains(&timed), "{json}");
        assert!(json[way]["p50_us"].as_u64().unwrap() > 0);
    }
    assert_eq!(json["missing_at_end"], 0);
    assert_eq!(json["play"]["missing"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_play_what_several_publish_until_somebody_interrupts() {
    let server = Server::start().await;
    let (app, json) = (server.url("live"), tempfile::NamedTempFile::new().unwrap());
    let publishing = start(&[
        "publish",
        &app,
        "--name",
        "cam",
        "--count",
        "3",
        "--ramp",
        "0",
        "--bitrate",
        "300000",
    ]);
    // The binary publishes when somebody can watch it.
    for number in 0..3 {
        let url = server.url(&format!("live/cam{number}"));
        let mut tries = tokio::time::interval(Duration::from_millis(20));
        tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                tries.tick().await;
                let viewer = headwater_loadtest::viewer::Viewer::start(crate::viewer(&url));
                if viewer
                    .wait_until(Duration::from_secs(5), |report| report.video_frames > 0)
                    .await
                {
                    break;
                }
            }
        })
        .await
        .unwrap();
    }
    let playing = start(&[
        "play",
        &app,
        "--name",
        "cam",
        "--streams",
        "3",
        "--count",
        "30",
        "--ramp",
        "0",
        "--seconds",
        "1",
        "--expect-no-loss",
        "--json",
        json.path().to_str().unwrap(),
    ]);
    let (code, stdout, stderr) = finish(playing).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let played = read_json(json.path());
    assert_eq!(
        (&played["viewers"], &played["playing"]),
        (&30.into(), &30.into())
    );
    assert!(
        played["video_frames"].as_u64().unwrap() >= 30 * 15,
        "{played}"
    );

    kill_process(Pid::from_child(&publishing), Signal::INT).unwrap();
    let (code, stdout, stderr) = finish(publishing).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("published     3\n"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missed_goal_and_a_bad_start_have_their_own_exit_codes() {
    let server = Server::start().await;
    let cut = server.url("live/cut");
    let publisher = publish(&cut).await;
    let (code, stdout, _) = finish(start(&["play", &cut, "--expect-no-loss"])).await;
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("ended: closed by the server"), "{stdout}");
    // Without the goal it did play.
    let (code, ..) = finish(start(&["play", &cut])).await;
    assert_eq!(code, Some(0));
    drop(watch(&cut, 1).await);
    publisher.stop().await;

    let (code, stdout, _) = finish(start(&["play", &server.url("live/nobody")])).await;
    assert_eq!(code, Some(1));
    assert!(stdout.contains("NetStream.Play.StreamNotFound"), "{stdout}");

    for (arguments, words) in [
        (&["play", "http://h/live/cam"][..], "scheme"),
        (
            &[
                "publish",
                "rtmp://127.0.0.1:1/a/b",
                "--file",
                "/nonexistent.flv",
            ],
            "/nonexistent.flv",
        ),
        (
            &["publish", "rtmp://127.0.0.1:1/a/b", "--fps", "0"],
            "frame rate",
        ),
    ] {
        let (code, stdout, stderr) = finish(start(arguments)).await;
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr.contains(words), "{stderr}");
    }
}
