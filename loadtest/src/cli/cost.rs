//! `headwater-loadtest cost`: what processes use while a command runs, or for some time.
//!
//! If the command is this program's own `play`, its result tells how many bytes and viewers the cost is divided by. The cost of
//! letting the viewers in is part of what is measured, and so are the bytes that they got until all of them were in.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tempfile::TempPath;

use super::options::seconds;
use super::supervise::Supervisor;
use super::{CliError, Outcome};
use crate::cost::{CostMeter, CostReport, CostSample, CostSampler};
use crate::report::{Machine, bytes, cost_page, write_json};

/// How long a command may take to end after it was told to.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Arguments of `cost`.
#[derive(Debug, Args)]
pub(super) struct CostArgs {
    /// Processes to measure.
    #[arg(long, required = true, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pid: Vec<u32>,
    /// Measure their children, too.
    #[arg(long)]
    children: bool,
    /// Viewers that the cost is divided by, if the command does not tell.
    #[arg(long, value_name = "N")]
    viewers: Option<u64>,
    /// Bytes that are delivered, if the command does not tell.
    #[arg(long, value_name = "BYTES")]
    bytes: Option<u64>,
    /// Stop after this time, and the command with it.
    #[arg(long, value_parser = seconds, required_unless_present = "command")]
    seconds: Option<Duration>,
    /// Write the result to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with charts to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// What to run meanwhile, after `--`. The result of our own `play` tells bytes and viewers.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The result.
#[derive(Debug, Serialize)]
struct CostSummary {
    /// What was run.
    command: Vec<String>,
    /// How it ended; missing if nothing was run, or a signal ended it.
    exit_code: Option<i32>,
    #[serde(flatten)]
    report: CostReport,
    samples: Vec<CostSample>,
}

pub(super) fn run(args: &CostArgs, out: &mut impl Write) -> Result<Outcome, CliError> {
    let mut meter = CostMeter::start(args.pid.clone(), args.children)?;
    let sampler = CostSampler::start(args.pid.clone(), args.children)?;
    let mut supervisor = Supervisor::start().map_err(CliError::Start)?;
    let line = CommandLine::of(&args.command).map_err(CliError::Start)?;
    let before = meter.mark();
    let running = RefCell::new(line.start()?);
    supervisor.wait(
        args.seconds,
        || {
            running
                .borrow_mut()
                .as_mut()
                .is_some_and(Running::has_ended)
        },
        || {
            let samples = sampler.samples();
            let Some(last) = samples.last() else {
                return "measuring".to_owned();
            };
            let memory = bytes(last.rss_bytes);
            format!("cpu {:.1} % of a core  memory {memory}", last.cpu_percent)
        },
    );
    // Before the viewers leave, if the time was set here; a command that ends by itself has let them go.
    let mut after = meter.mark();
    let status = running
        .into_inner()
        .map(|running| supervisor.finish(running.finish()));
    let samples = sampler.stop();
    if let Some(most) = samples.iter().map(|sample| sample.rss_bytes).max() {
        after.rss_bytes = after.rss_bytes.max(most);
    }
    let told = line.result();
    let delivered = args.bytes.or(told.bytes).unwrap_or(0);
    let viewers = args.viewers.or(told.viewers).unwrap_or(0);
    let mut report = CostReport::new(&before, &after, delivered, viewers);
    if !args.command.is_empty() {
        // Viewers that nobody started here were there before.
        report = report.with_baseline(before.rss_bytes);
    }
    let mut table = report.table();
    if after.processes < before.processes {
        table.note(format!(
            "{} of {} processes have ended",
            before.processes - after.processes,
            before.processes
        ));
    }
    let exit_code = status.as_ref().and_then(|status| *status);
    let is_good = status.is_none_or(|status| status == Some(0));
    if !is_good {
        let how = exit_code.map_or_else(
            || "was ended by a signal".to_owned(),
            |code| format!("ended with {code}"),
        );
        table.note(format!("the command {how}"));
    }
    write!(out, "{table}")
        .and_then(|()| out.flush())
        .map_err(CliError::Print)?;
    if let Some(path) = &args.html {
        let page = cost_page(&report, &samples, &Machine::here());
        page.write(path).map_err(|cause| CliError::Write {
            path: path.clone(),
            cause,
        })?;
    }
    if let Some(path) = &args.json {
        let command = args.command.iter();
        let summary = CostSummary {
            command: command
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            exit_code,
            report,
            samples,
        };
        write_json(path, &summary).map_err(|cause| CliError::Write {
            path: path.clone(),
            cause,
        })?;
    }
    Ok(if is_good {
        Outcome::Done
    } else {
        Outcome::Missed
    })
}

/// What to run, and where its result will be.
struct CommandLine {
    words: Vec<OsString>,
    /// Where `play` writes its result.
    json: Option<PathBuf>,
    /// The same, if it is ours and goes with us.
    _temporary: Option<TempPath>,
}

/// What `play` told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    bytes: Option<u64>,
    viewers: Option<u64>,
}

impl CommandLine {
    /// With a file for the result if the command is our own `play` and has none.
    fn of(words: &[OsString]) -> io::Result<Self> {
        let mut line = Self {
            words: words.to_vec(),
            json: None,
            _temporary: None,
        };
        if !is_our_play(words) {
            return Ok(line);
        }
        line.json = json_of(words);
        if line.json.is_none() {
            let file = tempfile::Builder::new()
                .prefix("headwater-loadtest-")
                .suffix(".json")
                .tempfile()?
                .into_temp_path();
            line.words.push("--json".into());
            line.words.push(file.as_os_str().to_owned());
            line.json = Some(file.to_path_buf());
            line._temporary = Some(file);
        }
        Ok(line)
    }

    fn start(&self) -> Result<Option<Running>, CliError> {
        let Some((program, arguments)) = self.words.split_first() else {
            return Ok(None);
        };
        let child = Command::new(program).args(arguments).spawn();
        let child = child.map_err(|cause| CliError::Command {
            program: program.to_string_lossy().into_owned(),
            cause,
        })?;
        Ok(Some(Running {
            child,
            status: None,
        }))
    }

    fn result(&self) -> Told {
        // A command that failed has written none, which is told by its exit code.
        let text = self.json.as_ref().and_then(|path| std::fs::read(path).ok());
        text.as_deref().map_or_else(Told::default, Told::of)
    }
}

impl Told {
    fn of(json: &[u8]) -> Self {
        let json: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
        let number = |key: &str| json.get(key).and_then(serde_json::Value::as_u64);
        Self {
            bytes: number("bytes"),
            viewers: number("playing"),
        }
    }
}

/// Whether a command is `headwater-loadtest play`, by whatever path.
fn is_our_play(words: &[OsString]) -> bool {
    let [program, command, ..] = words else {
        return false;
    };
    let own = std::env::current_exe().ok();
    let own = own.as_deref().and_then(Path::file_name);
    let name = Path::new(program).file_name();
    let is_ours = name.is_some_and(|name| name == "headwater-loadtest" || Some(name) == own);
    is_ours && command == "play"
}

/// The file that a command writes its result to.
fn json_of(words: &[OsString]) -> Option<PathBuf> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--json" {
            return words.next().map(PathBuf::from);
        }
        if let Some(path) = word.to_str().and_then(|word| word.strip_prefix("--json=")) {
            return Some(path.into());
        }
    }
    None
}

/// The command. It is told to end when it is dropped.
struct Running {
    child: Child,
    status: Option<std::process::ExitStatus>,
}

impl Running {
    fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            // An error means that there is nothing to wait for.
            self.status = self.child.try_wait().unwrap_or_default();
        }
        self.status.is_some()
    }

    /// Tells it to end if it has not, and waits. The exit code, if no signal ended it.
    async fn finish(mut self) -> Option<i32> {
        self.terminate();
        let ended = async {
            let mut tick = tokio::time::interval(LOOK_EVERY);
            while !self.has_ended() {
                tick.tick().await;
            }
        };
        if tokio::time::timeout(LAST_WORDS, ended).await.is_err() {
            // It was asked.
            let _gone = self.child.kill();
            self.status = self.child.wait().ok();
        }
        self.status.and_then(|status| status.code())
    }

    fn terminate(&mut self) {
        if self.has_ended() {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It is not reaped, so the number is its own.
            let _gone = kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.terminate();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn our_play_is_told_to_tell() {
        for text in [
            "headwater-loadtest play u",
            "/a/b/headwater-loadtest play u",
        ] {
            let line = CommandLine::of(&words(text)).unwrap();
            let path = line.json.clone().unwrap();
            assert_eq!(line.words.len(), 5, "{text}");
            assert!(path.exists() && line.words.last().unwrap() == path.as_os_str());
            drop(line);
            assert!(!path.exists(), "{text}");
        }
        for text in ["--json /x/y.json", "--json=/x/y.json"] {
            let all = words(&format!("headwater-loadtest play {text} u"));
            let line = CommandLine::of(&all).unwrap();
            assert_eq!(line.words, all);
            assert_eq!(line.json, Some(PathBuf::from("/x/y.json")));
        }
        for text in [
            "",
            "play u",
            "headwater-loadtest publish u",
            "ffmpeg play --json x",
        ] {
            let line = CommandLine::of(&words(text)).unwrap();
            assert_eq!((line.words.len(), line.json), (words(text).len(), None));
        }
    }

    #[test]
    fn what_play_does_not_tell_is_not_known() {
        let told = Told::of(br#"{"bytes": 1000, "playing": 3, "viewers": 4}"#);
        let expected = Told {
            bytes: Some(1000),
            viewers: Some(3),
        };
        assert_eq!(told, expected);
        for text in ["", "[]", "{}", r#"{"bytes": -1}"#, "{"] {
            assert_eq!(Told::of(text.as_bytes()), Told::default(), "{text}");
        }
    }
}
