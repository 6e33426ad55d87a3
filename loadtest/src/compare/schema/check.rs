//! What the types of a scenario cannot say.

use std::collections::BTreeSet;

use headwater_media::synthetic::{AudioSettings, Settings, SyntheticStream};
use headwater_rtmp::url::Scheme;

use super::{
    RunKind, RunPlan, Scenario, ScenarioError, ServerKind, ServerPlan, StreamPlan,
    default_dh_group, default_protection,
};
use crate::compare::places::{self, Places};
use crate::floor::FloorProtocol;
use crate::target::Target;

/// Most servers of a scenario, and processes of a server: results stay readable, and the machine alive.
const MAX_SERVERS: usize = 32;

/// Most values of one list of a run.
const MAX_CASES: usize = 32;

/// Most viewers or connections, as with the other commands.
const MAX_CLIENTS: usize = 100_000;

/// Most threads for viewers.
const MAX_THREADS: usize = 256;

/// Highest number of a processor: what the kernel's masks hold.
const MAX_CPU: usize = 1_023;

/// Longest time of one step, in seconds.
const MAX_SECONDS: f64 = 3_600.0;

/// Most repetitions.
const MAX_ROUNDS: u32 = 100;

/// Longest time between looks at the sockets, and the most that is said to be buffered, in milliseconds.
const MAX_MILLISECONDS: u64 = 10_000;

/// Longest time between sends of a floor, in milliseconds.
const MAX_FLUSH: u32 = 10_000;

fn wrong(key: impl Into<String>, cause: impl Into<String>) -> ScenarioError {
    ScenarioError::Value {
        key: key.into(),
        cause: cause.into(),
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    key: &str,
    value: T,
    least: T,
    most: T,
) -> Result<(), ScenarioError> {
    // A number that is none is in no range.
    if value >= least && value <= most {
        Ok(())
    } else {
        let cause = format!("{value} is not between {least} and {most}");
        Err(wrong(key, cause))
    }
}

fn check_cpus(key: &str, cpus: &[usize]) -> Result<(), ScenarioError> {
    cpus.iter()
        .try_for_each(|&cpu| within(key, cpu, 0, MAX_CPU))
}

impl Scenario {
    /// Checks everything that can be known before something is started.
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        check_cpus("harness.cpus", &self.harness.cpus)?;
        within("harness.threads", self.harness.threads, 1, MAX_THREADS)?;
        let look_every = self.harness.look_every_ms;
        within("harness.look_every_ms", look_every, 0, MAX_MILLISECONDS)?;
        SyntheticStream::new(self.stream.settings())
            .map_err(|error| wrong("stream", error.to_string()))?;
        self.run.check()?;
        for name in self.variables.keys() {
            if !places::is_name(name) {
                let cause = "names of placeholders are small letters, digits and _";
                return Err(wrong(format!("variables.{name}"), cause));
            }
        }
        within("server: how many", self.servers.len(), 1, MAX_SERVERS)?;
        let mut names = BTreeSet::new();
        for server in &self.servers {
            if server.name.trim().is_empty() {
                return Err(wrong("server.name", "is empty"));
            }
            if !names.insert(&*server.name) {
                let cause = format!("two servers are named {}", server.name);
                return Err(wrong("server.name", cause));
            }
        }
        let baselines = self.servers.iter().filter_map(|one| one.baseline.as_ref());
        for baseline in baselines.chain(&self.baseline) {
            if !names.contains(&**baseline) {
                return Err(wrong("baseline", format!("no server is named {baseline}")));
            }
        }
        self.servers.iter().try_for_each(|server| {
            server.check(self).map_err(|error| match error {
                ScenarioError::Value { key, cause } => {
                    wrong(format!("server {}: {key}", server.name), cause)
                }
                other => other,
            })
        })
    }
}

impl StreamPlan {
    /// As the source of frames takes them.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            video_bitrate: self.bitrate,
            fps: self.fps,
            gop: self.gop,
            audio: (self.audio_bitrate > 0).then(|| AudioSettings {
                bitrate: self.audio_bitrate,
                ..AudioSettings::default()
            }),
            seed: 0,
        }
    }
}

impl RunPlan {
    fn check(&self) -> Result<(), ScenarioError> {
        within("run.rounds", self.rounds, 1, MAX_ROUNDS)?;
        within("run.warm_up_s", self.warm_up_s, 0.0, MAX_SECONDS)?;
        within("run.seconds", self.seconds, 0.1, MAX_SECONDS)?;
        within("run.settle_s", self.settle_s, 0.0, MAX_SECONDS)?;
        within("run.timeout_s", self.timeout_s, 0.1, MAX_SECONDS)?;
        within("run.buffer_ms", self.buffer_ms.into(), 0, MAX_MILLISECONDS)?;
        if self.idle && (self.kind == RunKind::Play || self.first_frame) {
            let cause = "is for runs of kind connect that do not wait for a frame";
            return Err(wrong("run.idle", cause));
        }
        match self.kind {
            RunKind::Play => {
                within("run.viewers: how many", self.viewers.len(), 1, MAX_CASES)?;
                for &viewers in &self.viewers {
                    within("run.viewers", viewers, 1, MAX_CLIENTS)?;
                }
                let stopping = self.stop_reading.len();
                within("run.stop_reading: how many", stopping, 0, MAX_CASES)?;
                let least = self.viewers.iter().min().copied().unwrap_or(0);
                for &stopping in &self.stop_reading {
                    if stopping >= least {
                        let cause = format!("{stopping} of {least} viewers leave none to measure");
                        return Err(wrong("run.stop_reading", cause));
                    }
                }
                if !self.rates.is_empty() {
                    return Err(wrong("run.rates", "is for runs of kind connect"));
                }
            }
            RunKind::Connect => {
                within("run.rates: how many", self.rates.len(), 1, MAX_CASES)?;
                for &rate in &self.rates {
                    within("run.rates", rate, 0, 1_000_000)?;
                }
                within("run.count", self.count, 1, MAX_CLIENTS)?;
                within("run.in_flight", self.in_flight, 1, MAX_CLIENTS)?;
                if !self.viewers.is_empty() || !self.stop_reading.is_empty() {
                    let cause = "viewers and stop_reading are for runs of kind play";
                    return Err(wrong("run", cause));
                }
            }
        }
        Ok(())
    }
}

impl ServerPlan {
    fn check(&self, scenario: &Scenario) -> Result<(), ScenarioError> {
        check_cpus("cpus", &self.cpus)?;
        within("ready_timeout_s", self.ready_timeout_s, 0.1, MAX_SECONDS)?;
        within("stop_timeout_s", self.stop_timeout_s, 0.1, MAX_SECONDS)?;
        within("process: how many", self.processes.len(), 0, MAX_SERVERS)?;
        let places = Places::sample(&scenario.variables);
        let fill = |key: &str, text: &str| {
            places
                .fill(text)
                .map_err(|unknown| wrong(key, unknown.to_string()))
        };
        let speaks_rtmfp = self.protocol == FloorProtocol::Rtmfp
            || self
                .play
                .as_ref()
                .is_some_and(|url| url.starts_with("rtmfp:"));
        let is_usual =
            self.protection == default_protection() && self.dh_group == default_dh_group();
        if !speaks_rtmfp && !is_usual {
            let cause = "protection and dh_group are for servers that are played over rtmfp";
            return Err(wrong("play", cause));
        }
        self.rtmfp()?;
        if self.kind == ServerKind::Floor {
            return self.check_floor(scenario.run.kind);
        }
        if self.protocol != FloorProtocol::Rtmp {
            return Err(wrong("protocol", "is for servers of kind floor"));
        }
        if self.flush.is_some() {
            return Err(wrong("flush", "is for servers of kind floor"));
        }
        for (key, url) in [("publish", &self.publish), ("play", &self.play)] {
            let url = url.as_ref().ok_or_else(|| wrong(key, "is missing"))?;
            let url = fill(key, url)?;
            let target = Target::parse(&url).map_err(|error| wrong(key, error.to_string()))?;
            if key == "play" && target.url.scheme == Scheme::Rtmps {
                return Err(wrong(
                    key,
                    "the viewers of comparisons speak rtmp and rtmfp only",
                ));
            }
        }
        for address in &self.ready {
            fill("ready", address)?;
        }
        if !self.command.is_empty() && !self.processes.is_empty() {
            return Err(wrong(
                "command",
                "there are processes, too; give one or the other",
            ));
        }
        for process in &self.processes {
            check_cpus("process.cpus", &process.cpus)?;
            if process.command.is_empty() {
                return Err(wrong("process.command", "is empty"));
            }
            check_file_name("process.name", &process.name)?;
        }
        let names: BTreeSet<&str> = self.processes.iter().map(|one| &*one.name).collect();
        if names.len() < self.processes.len() {
            return Err(wrong("process.name", "is there twice"));
        }
        let commands = self.processes.iter().map(|process| &process.command);
        for argument in commands.chain([&self.command]).flatten() {
            fill("command", argument)?;
        }
        for value in self.environment.values() {
            fill("environment", value)?;
        }
        for name in self.files.keys() {
            check_file_name("files", name)?;
        }
        if self.is_started() && (self.pid.is_some() || self.pid_file.is_some()) {
            return Err(wrong("pid", "is for servers that run already"));
        }
        if self.pid.is_some() && self.pid_file.is_some() {
            return Err(wrong("pid", "there is a pid_file, too"));
        }
        if !self.is_started() && !self.files.is_empty() {
            return Err(wrong("files", "nothing is started that could read them"));
        }
        Ok(())
    }

    fn check_floor(&self, kind: RunKind) -> Result<(), ScenarioError> {
        if kind == RunKind::Connect {
            return Err(wrong(
                "kind",
                "a floor takes no connections: it speaks no RTMP",
            ));
        }
        let is_rtmp_only = !self.command.is_empty()
            || !self.processes.is_empty()
            || !self.files.is_empty()
            || !self.environment.is_empty()
            || !self.ready.is_empty()
            || self.publish.is_some()
            || self.play.is_some()
            || self.pid.is_some()
            || self.pid_file.is_some()
            || self.dh_group != default_dh_group();
        if is_rtmp_only {
            let cause = "a floor has a name, protocol, protection, flush, cpus, baseline and times, and nothing else";
            return Err(wrong("kind", cause));
        }
        let flush = self.flush.as_deref().unwrap_or("frame");
        if ["frame", "message"].contains(&flush) {
            return Ok(());
        }
        let milliseconds = flush.parse::<u32>().ok();
        if milliseconds.is_some_and(|ms| (1..=MAX_FLUSH).contains(&ms)) {
            return Ok(());
        }
        Err(wrong(
            "flush",
            format!("{flush} is not frame, message or 1 to {MAX_FLUSH} milliseconds"),
        ))
    }
}

/// Names of files must stay in their folder.
fn check_file_name(key: &str, name: &str) -> Result<(), ScenarioError> {
    let is_plain = !name.is_empty()
        && !name.starts_with('.')
        && name
            .chars()
            .all(|one| one.is_ascii_alphanumeric() || "._-".contains(one));
    if is_plain {
        Ok(())
    } else {
        let cause = format!("{name} is no plain name of a file: letters, digits, . _ -");
        Err(wrong(key, cause))
    }
}
