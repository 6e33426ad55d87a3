//! Comparisons of servers, with short runs and few viewers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::commands::{finish, read_json, start};
use crate::server::Server;

struct Scenario {
    folder: tempfile::TempDir,
}

impl Scenario {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("scenario.toml"), text).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let mut all = vec!["compare".to_owned()];
        all.push(self.path("scenario.toml").display().to_string());
        for kind in ["html", "json", "markdown"] {
            all.push(format!("--{kind}"));
            all.push(self.path(kind).display().to_string());
        }
        all.extend(more.iter().map(|&one| one.to_owned()));
        all
    }

    async fn run(&self, more: &[&str]) -> (Option<i32>, String, String) {
        let arguments = self.arguments(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        finish(start(&arguments)).await
    }
}

/// A server of the test's own process, and one that ends as soon as it is started.
fn text(server: &Server, run: &str) -> String {
    let (url, own) = (server.url("live/cam"), std::process::id());
    format!(
        r#"
title = "a comparison"
[run]
rounds = 2
settle_s = 0.2
warm_up_s = 0.2
seconds = 1
ramp = 0
{run}
[[server]]
name = "here"
publish = "{url}"
play = "{url}"
pid = {own}
[[server]]
name = "gone"
publish = "rtmp://127.0.0.1:{{port}}/live/cam"
play = "rtmp://127.0.0.1:{{port}}/live/cam"
command = ["sh", "-c", "cat words; exit 3"]
[server.files]
words = "no <licence> for {{port}}"
"#
    )
}

fn run_of<'a>(json: &'a Value, server: &str, round: u64) -> &'a Value {
    let runs = json["runs"].as_array().unwrap();
    runs.iter()
        .find(|run| run["server"] == server && run["round"] == round)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_take_turns_and_one_that_fails_does_not_stop_the_others() {
    let server = Server::start().await;
    let scenario = Scenario::new(&text(&server, "kind = \"play\"\nviewers = [3]"));
    let (code, stdout, stderr) = scenario.run(&[]).await;
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    let json = read_json(&scenario.path("json"));
    let order: Vec<(&str, u64)> = json["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| {
            let server = run["server"].as_str().unwrap();
            (server, run["round"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(order, [("here", 1), ("gone", 1), ("here", 2), ("gone", 2)]);
    let here = run_of(&json, "here", 1);
    assert_eq!(here["error"], Value::Null, "{here}");
    let figures = &here["figures"];
    let frames = figures["fps_per_viewer"].as_f64().unwrap();
    assert!((15.0..=45.0).contains(&frames), "{figures}");
    for (key, least, most) in [
        ("missing", 0.0, 0.0),
        ("disconnected", 0.0, 0.0),
        ("mbit_per_s", 1.5, 6.0),
        ("latency_p50_ms", 0.001, 500.0),
        ("cpu_percent", 0.01, 200.0),
        ("cpu_seconds_per_gb", 0.01, 10_000.0),
    ] {
        let value = figures[key].as_f64().unwrap_or(f64::NAN);
        assert!((least..=most).contains(&value), "{key}: {figures}");
    }
    let gone = run_of(&json, "gone", 2);
    let error = gone["error"].as_str().unwrap();
    for part in ["exit status: 3", "no <licence> for 2"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(
        stdout.contains("3 viewers") && stdout.contains("no result"),
        "{stdout}"
    );
    let page = std::fs::read_to_string(scenario.path("html")).unwrap();
    assert!(page.contains("no &lt;licence&gt;") && page.contains("<svg"));
    assert!(!page.contains("<licence>"));
    let markdown = std::fs::read_to_string(scenario.path("markdown")).unwrap();
    assert!(markdown.contains("| server |"), "{markdown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_compared_with_the_bare_sender() {
    let server = Server::start().await;
    let run = "kind = \"play\"\nviewers = [2]\n[[server]]\nname = \"floor\"\nkind = \"floor\"";
    let scenario =
        Scenario::new(&text(&server, run).replacen("[run]", "baseline = \"floor\"\n[run]", 1));
    let more = ["--only", "floor,here", "--rounds", "1"];
    let (code, stdout, stderr) = scenario.run(&more).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let json = read_json(&scenario.path("json"));
    let ratio = |server| run_of(&json, server, 1)["figures"]["ratio"].as_f64();
    assert_eq!(ratio("floor"), Some(1.0), "{json:#}");
    assert!(ratio("here").unwrap() > 0.0);
    let floor = run_of(&json, "floor", 1);
    assert_eq!(floor["play"]["playing"], 2, "{floor}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_counted() {
    let server = Server::start().await;
    let run = "kind = \"connect\"\nrates = [0, 200]\ncount = 20\nin_flight = 4";
    let scenario = Scenario::new(&text(&server, run));
    let more = ["--only", "here", "--rounds", "1"];
    let (code, stdout, stderr) = scenario.run(&more).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let json = read_json(&scenario.path("json"));
    for run in json["runs"].as_array().unwrap() {
        let figures = &run["figures"];
        assert!(
            figures["connections_per_s"].as_f64().unwrap() > 1.0,
            "{run}"
        );
        assert!(
            figures["cpu_us_per_connection"].as_f64().unwrap() > 1.0,
            "{run}"
        );
        assert_eq!(figures["failed"], 0.0, "{run}");
    }
    assert!(stdout.contains("closed loop"), "{stdout}");
}

/// A server of several processes behind the test's own, the first of which prepares something.
fn text_of_many(server: &Server, prepare: &str) -> String {
    let url = server.url("live/cam");
    format!(
        r#"
title = "many processes"
[run]
kind = "play"
rounds = 1
viewers = [1]
settle_s = 0.1
warm_up_s = 0.1
seconds = 0.5
[[server]]
name = "many"
publish = "{url}"
play = "{url}"
environment = {{ WORD = "ready in {{dir}}" }}
[[server.process]]
name = "prepare"
runs_to_end = true
command = ["sh", "-c", "{prepare}"]
[[server.process]]
name = "one"
command = ["sh", "-c", "test \"$(cat prepared)\" = \"ready in $PWD\" && exec sleep 1000"]
[[server.process]]
name = "other"
measured = false
command = ["sleep", "1000"]
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_are_prepared_and_those_that_count_are_measured() {
    let server = Server::start().await;
    let scenario = Scenario::new(&text_of_many(&server, "echo $WORD > prepared"));
    let (code, stdout, stderr) = scenario.run(&[]).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let json = read_json(&scenario.path("json"));
    let run = run_of(&json, "many", 1);
    assert_eq!(run["cost"]["processes"], 1, "{run}");

    let scenario = Scenario::new(&text_of_many(&server, "echo no disk; exit 4"));
    let (code, stdout, stderr) = scenario.run(&[]).await;
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    for part in ["prepare", "exit status: 4", "no disk"] {
        assert!(stdout.contains(part), "{stdout}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_comparison_leaves_no_process() {
    let server = Server::start().await;
    let run = "kind = \"play\"\nviewers = [1]";
    let scenario = Scenario::new(&text(&server, run));
    let pid_file = scenario.path("pid");
    // It is the test's own server that answers; this one only has to be ended.
    let command = format!("echo $$ > {}; exec sleep 1000", pid_file.display());
    let (url, set) = (server.url("live/cam"), |key: &str, value: &str| {
        format!("server.gone.{key}={value}")
    });
    let more = [
        "--only".to_owned(),
        "gone".to_owned(),
        "--set".to_owned(),
        "run.seconds=1000".to_owned(),
        "--set".to_owned(),
        set("publish", &url),
        "--set".to_owned(),
        set("play", &url),
        "--set".to_owned(),
        set("command", &format!("[\"sh\", \"-c\", \"{command}\"]")),
    ];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let arguments = scenario.arguments(&more);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let child = start(&arguments);
    let server_pid = wait_for_pid(&pid_file).await;
    assert!(test_kill_process(server_pid).is_ok());
    let own = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(own.unwrap(), Signal::TERM).unwrap();
    let (code, stdout, stderr) = finish(child).await;
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stdout.contains("interrupted"), "{stdout}");
    assert!(test_kill_process(server_pid).is_err());
}

async fn wait_for_pid(path: &Path) -> Pid {
    let found = async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) {
                return pid;
            }
            tick.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found)
        .await
        .unwrap()
}
