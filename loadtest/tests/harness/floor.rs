//! The bare sender and the measuring of costs, as processes.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::commands::{finish, read_json, start};
use crate::server::Server;
use crate::{PATIENCE, publish};

/// A bare sender and where it is. What it prints after its first line is lost.
pub(crate) fn floor(arguments: &[&str]) -> (Child, String) {
    let all: Vec<&str> = ["floor"].iter().chain(arguments).copied().collect();
    let mut child = start(&all);
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening ");
    let address = address.map(str::to_owned);
    // It must not find its output closed.
    std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
    (child, address.expect("the first line"))
}

/// Reads what a sender sends until it ends.
fn drain(address: &str) -> std::thread::JoinHandle<u64> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let first = socket.read_exact(&mut [0; 1000]);
    first.unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        let mut sum = 1000;
        while let Ok(count @ 1..) = socket.read(&mut buffer) {
            sum += count as u64;
        }
        sum
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_floor_sends_until_it_is_told_to_end_and_its_cost_can_be_told() {
    let json = tempfile::NamedTempFile::new().unwrap();
    let (child, address) = floor(&[
        "--flush",
        "message",
        "--fps",
        "100",
        "--gop",
        "10",
        "--json",
        json.path().to_str().unwrap(),
    ]);
    let receiver = drain(&address);
    let cost_json = tempfile::NamedTempFile::new().unwrap();
    let pid = child.id().to_string();
    let cost = start(&[
        "cost",
        "--pid",
        &pid,
        "--viewers",
        "1",
        "--bytes",
        "1000000",
        "--json",
        cost_json.path().to_str().unwrap(),
        "--",
        "sleep",
        "1.2",
    ]);
    let (code, stdout, stderr) = finish(cost).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("cpu per GB"), "{stdout}");
    let cost = read_json(cost_json.path());
    assert!(cost["cpu_seconds"].as_f64().unwrap() > 0.0, "{cost}");
    assert!(cost["cpu_per_gb"].as_f64().unwrap() > 0.0, "{cost}");
    assert!(cost["seconds"].as_f64().unwrap() >= 1.2, "{cost}");
    assert!(cost["rss_bytes"].as_u64().unwrap() > 100_000, "{cost}");
    assert_eq!(cost["samples"].as_array().unwrap().len(), 1, "{cost}");
    assert_eq!(cost["exit_code"], 0);

    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let (code, _, stderr) = finish(child).await;
    assert_eq!(code, Some(0), "{stderr}");
    let received = receiver.join().unwrap();
    let report = read_json(json.path());
    assert_eq!(
        (&report["accepted"], &report["cut_off"]),
        (&1.into(), &0.into())
    );
    let sent = report["bytes"].as_u64().unwrap();
    assert!(received <= sent && received > 10_000, "{received} {report}");
    assert!(
        report["sends"].as_u64() <= report["messages"].as_u64(),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cost_of_a_server_is_divided_by_what_its_viewers_got() {
    let server = Server::start().await;
    let url = server.url("live/cam");
    let publisher = publish(&url).await;
    let json = tempfile::NamedTempFile::new().unwrap();
    // The server is in this process.
    let own = std::process::id().to_string();
    let cost = start(&[
        "cost",
        "--pid",
        &own,
        "--json",
        json.path().to_str().unwrap(),
        "--",
        env!("CARGO_BIN_EXE_headwater-loadtest"),
        "play",
        &url,
        "--count",
        "4",
        "--seconds",
        "1",
    ]);
    let (code, stdout, stderr) = finish(cost).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    // Both tables.
    assert!(
        stdout.contains("play\n") && stdout.contains("cost\n"),
        "{stdout}"
    );
    let cost = read_json(json.path());
    assert_eq!(cost["viewers"], 4);
    assert!(cost["bytes"].as_u64().unwrap() > 100_000, "{cost}");
    assert!(cost["cpu_per_gb"].as_f64().unwrap() > 0.0, "{cost}");
    assert!(cost["rss_per_viewer"].is_number(), "{cost}");
    assert!(!cost["threads"].as_array().unwrap().is_empty(), "{cost}");
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_fails_or_is_not_there_is_told() {
    let own = std::process::id().to_string();
    let failing = ["cost", "--pid", &own, "--", "sh", "-c", "exit 3"];
    let (code, stdout, _) = finish(start(&failing)).await;
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("ended with 3"), "{stdout}");

    // The time is over before the command, which is told to end.
    let begun = std::time::Instant::now();
    let long = [
        "cost",
        "--pid",
        &own,
        "--seconds",
        "0.2",
        "--",
        "sleep",
        "1000",
    ];
    let (code, stdout, _) = finish(start(&long)).await;
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("ended by a signal"), "{stdout}");
    assert!(begun.elapsed() < Duration::from_secs(20));

    for (arguments, words) in [
        (
            &["cost", "--pid", &own, "--", "/nonexistent/program"][..],
            "/nonexistent/program",
        ),
        (
            &["cost", "--pid", "4294967295", "--seconds", "1"],
            "no process 4294967295",
        ),
        (&["cost", "--pid", &own], "--seconds"),
        (&["floor", "--listen", "192.0.2.1:1"], "cannot listen"),
    ] {
        let (code, stdout, stderr) = finish(start(arguments)).await;
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr.contains(words), "{stderr}");
    }
}
