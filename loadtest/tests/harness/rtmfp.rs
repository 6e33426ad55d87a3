//! Light clients over RTMFP, the floor that encrypts, and introductions, as processes.

use serde_json::Value;

use crate::commands::{finish, read_json, start};
use crate::floor::floor;
use crate::front::Front;
use crate::publish;
use crate::server::Server;

/// Runs a command that has to succeed, and gives its result.
async fn run(arguments: &[&str]) -> Value {
    let json = tempfile::NamedTempFile::new().unwrap();
    let path = json.path().to_str().unwrap();
    let all: Vec<&str> = arguments.iter().copied().chain(["--json", path]).collect();
    let (code, stdout, stderr) = finish(start(&all)).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    read_json(json.path())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn light_viewers_play_over_rtmfp_whatever_the_group_and_the_protection() {
    let server = Server::start().await;
    let front = Front::start(&server).await;
    let publisher = publish(&server.url("live/cam")).await;
    let url = front.url("live/cam");
    for manner in [
        &["--dh-group", "2"][..],
        &["--dh-group", "14", "--protection", "prefer"],
    ] {
        let usual = [
            "play",
            &url,
            "--count",
            "4",
            "--seconds",
            "2",
            "--expect-no-loss",
        ];
        let all: Vec<&str> = usual.iter().chain(manner).copied().collect();
        let json = run(&all).await;
        assert_eq!(json["playing"], 4, "{json}");
        // 200 frames a second, less the time to connect.
        let frames = json["video_frames"].as_u64().unwrap();
        assert!((4 * 50..=4 * 500).contains(&frames), "{json}");
        assert!(json["latency"]["count"].as_u64().unwrap() > 100, "{json}");
        assert!(json["bytes"].as_u64().unwrap() > 100_000, "{json}");
    }
    let missing = front.url("live/nobody");
    let json = tempfile::NamedTempFile::new().unwrap();
    let path = json.path().to_str().unwrap();
    let arguments = ["play", &missing, "--seconds", "5", "--json", path];
    let (code, stdout, _) = finish(start(&arguments)).await;
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("StreamNotFound"), "{stdout}");
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_connect_over_rtmfp_stay_and_go() {
    let server = Server::start().await;
    let front = Front::start(&server).await;
    let url = front.url("live/cam");
    let json = run(&[
        "connect",
        &url,
        "--count",
        "20",
        "--idle",
        "--hold",
        "0.5",
        "--expect-no-loss",
    ])
    .await;
    assert_eq!((&json["done"], &json["lost"]), (&20.into(), &0.into()));
    assert!(json["most_held"].as_u64().unwrap() > 1, "{json}");
    assert_eq!(json["opened"]["count"], 20);
    assert_eq!(json["setup"]["count"], 20);
    // Nobody is there.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmfp://{}/live/cam", silent.local_addr().unwrap());
    let arguments = [
        "connect",
        &url,
        "--count",
        "2",
        "--idle",
        "--timeout",
        "0.3",
    ];
    let (code, stdout, _) = finish(start(&arguments)).await;
    assert_eq!(code, Some(1), "{stdout}");
    assert!(
        stdout.contains("2 x ended: the connection took"),
        "{stdout}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn introductions_are_timed_until_both_answers() {
    let server = Server::start().await;
    let front = Front::start(&server).await;
    let url = front.url("live");
    let json = run(&[
        "introduce",
        &url,
        "--pairs",
        "5",
        "--rate",
        "100",
        "--seconds",
        "1",
        "--settle",
        "0.1",
        "--timeout",
        "10",
        "--expect-no-loss",
    ])
    .await;
    let asked = json["asked"].as_u64().unwrap();
    assert!((20..=150).contains(&asked), "{json}");
    assert_eq!(json["done"], json["asked"]);
    for answer in ["redirect", "answer"] {
        assert_eq!(json[answer]["count"], json["asked"], "{json}");
        assert!(json[answer]["p50_us"].as_u64().unwrap() > 0, "{json}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_encrypting_floor_sends_is_seen_by_each_receiver() {
    for protection in ["compatible", "require"] {
        let arguments = ["--protocol", "rtmfp", "--fps", "100", "--gop", "20"];
        let (mut child, address) = floor(&arguments);
        let url = format!("floor+rtmfp://{address}");
        let json = run(&[
            "play",
            &url,
            "--protection",
            protection,
            "--count",
            "3",
            "--seconds",
            "1.5",
            "--expect-no-loss",
        ])
        .await;
        assert_eq!(json["playing"], 3, "{json}");
        assert!(json["video_frames"].as_u64().unwrap() > 3 * 30, "{json}");
        assert!(json["audio_frames"].as_u64().unwrap() > 3 * 10, "{json}");
        assert!(json["latency"]["count"].as_u64().unwrap() > 60, "{json}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agreeing_on_keys_is_timed_for_each_group() {
    let json = run(&["floor-dh", "--seconds", "0.1"]).await;
    let groups = json["groups"].as_array().unwrap();
    let numbers: Vec<u64> = groups
        .iter()
        .map(|one| one["group"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [2, 5, 14]);
    let cost = |place: usize| groups[place]["session_us"].as_f64().unwrap();
    assert!(cost(0) < cost(2), "{json}");
}
