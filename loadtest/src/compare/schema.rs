//! The file that says what to compare: TOML, strict. `scenarios/README.md` says what each key means; a test holds the two together.
//!
//! Times are seconds unless the key says otherwise. [`Scenario::load`] also checks what the types cannot say, so that nothing is
//! started before everything is known to make sense.

mod check;
mod overrides;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use overrides::Override;

use crate::floor::FloorProtocol;
use crate::swarm::RtmfpManner;

/// Largest file that is read, in bytes: a scenario with the configuration of several servers is a few kilobytes.
const MAX_FILE: u64 = 1 << 20;

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The file is too long to be a scenario.
    #[error("{} is longer than {MAX_FILE} bytes", path.display())]
    Length {
        /// Its path.
        path: PathBuf,
    },
    /// Not TOML, or not of this shape. The cause names the place.
    #[error("{source_name}: {cause}")]
    Shape {
        /// The file, or the file with overrides.
        source_name: String,
        /// What is wrong, and where.
        cause: String,
    },
    /// An override that cannot be put in its place.
    #[error("--set {key}: {cause}")]
    Override {
        /// The key.
        key: String,
        /// What is wrong.
        cause: String,
    },
    /// A value makes no sense.
    #[error("{key}: {cause}")]
    Value {
        /// The key, with the name of the server where it is a server's.
        key: String,
        /// What is wrong.
        cause: String,
    },
    /// No server has the name that is asked for.
    #[error("no server is named {name}; there are {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
}

/// What to compare, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One line.
    pub title: String,
    /// What it is for and how to read the result.
    #[serde(default)]
    pub description: String,
    /// Name of the server that the others are compared with.
    #[serde(default)]
    pub baseline: Option<String>,
    /// Texts for placeholders.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// This program.
    #[serde(default)]
    pub harness: HarnessPlan,
    /// What is published.
    #[serde(default)]
    pub stream: StreamPlan,
    /// What is done to each server.
    pub run: RunPlan,
    /// The servers.
    #[serde(rename = "server")]
    pub servers: Vec<ServerPlan>,
}

/// How this program runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HarnessPlan {
    /// Processors of publisher and viewers; empty for all.
    pub cpus: Vec<usize>,
    /// Threads for the viewers.
    pub threads: usize,
    /// How often the viewers look at their sockets, in milliseconds; 0: as soon as there is something.
    pub look_every_ms: u64,
}

/// What is published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamPlan {
    /// Bits per second of video.
    pub bitrate: u32,
    /// Video frames per second.
    pub fps: u32,
    /// Frames from one key frame to the next.
    pub gop: u32,
    /// Bits per second of audio; 0 for none.
    pub audio_bitrate: u32,
}

/// What viewers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// They play for some time.
    Play,
    /// They connect, and go once the server has begun to play.
    Connect,
}

/// What is done to each server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunPlan {
    /// What viewers do.
    pub kind: RunKind,
    /// How often everything is repeated.
    #[serde(default = "default_rounds")]
    pub rounds: u32,
    /// Time between the last viewer's first frame and the measurement.
    #[serde(default = "default_warm_up")]
    pub warm_up_s: f64,
    /// Length of the measurement.
    #[serde(default = "default_seconds")]
    pub seconds: f64,
    /// Time from the start of the publisher to the first viewer.
    #[serde(default = "default_settle")]
    pub settle_s: f64,
    /// Numbers of viewers, each measured apart.
    #[serde(default)]
    pub viewers: Vec<usize>,
    /// Viewers that are started each second; 0 starts all at once.
    #[serde(default = "default_ramp")]
    pub ramp: u32,
    /// The buffer that servers are told of, in milliseconds.
    #[serde(default = "default_buffer")]
    pub buffer_ms: u32,
    /// Time for connecting, for being answered and for the first frame.
    #[serde(default = "default_timeout")]
    pub timeout_s: f64,
    /// Numbers of viewers that stop reading as the measurement begins, each measured apart.
    #[serde(default)]
    pub stop_reading: Vec<usize>,
    /// Connections per second, each measured apart; 0: the next one as soon as one is done.
    #[serde(default)]
    pub rates: Vec<u32>,
    /// Connections of each measurement.
    #[serde(default = "default_count")]
    pub count: usize,
    /// Connections at a time when the rate is 0.
    #[serde(default = "default_in_flight")]
    pub in_flight: usize,
    /// Whether a connection stays until its first frame.
    #[serde(default)]
    pub first_frame: bool,
    /// Whether a connection plays nothing, and has what it came for with the answer to `connect`.
    #[serde(default)]
    pub idle: bool,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerKind {
    /// RTMP.
    Rtmp,
    /// Nothing: the bare sender of this program, which makes the stream itself.
    Floor,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerPlan {
    /// What it is called in results.
    pub name: String,
    /// What it speaks.
    #[serde(default = "default_kind")]
    pub kind: ServerKind,
    /// Processors of its processes; empty for all.
    #[serde(default)]
    pub cpus: Vec<usize>,
    /// How its one process is started.
    #[serde(default)]
    pub command: Vec<String>,
    /// Its processes, if it is more than one.
    #[serde(default, rename = "process")]
    pub processes: Vec<ProcessPlan>,
    /// Files that are written into its folder first: name and text.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// What its processes find in their environment besides that of this program.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Where the stream is published.
    #[serde(default)]
    pub publish: Option<String>,
    /// Where it is played.
    #[serde(default)]
    pub play: Option<String>,
    /// Further addresses that must answer before it is ready.
    #[serde(default)]
    pub ready: Vec<String>,
    /// When a floor sends: `frame`, `message` or milliseconds.
    #[serde(default)]
    pub flush: Option<String>,
    /// What a floor sends.
    #[serde(default)]
    pub protocol: FloorProtocol,
    /// What viewers want of MACs and packet numbers where they speak RTMFP: `never`, `compatible`, `prefer` or `require`.
    #[serde(default = "default_protection")]
    pub protection: String,
    /// The group in which they agree on keys: 2, 5 or 14.
    #[serde(default = "default_dh_group")]
    pub dh_group: u32,
    /// A process that runs already.
    #[serde(default)]
    pub pid: Option<u32>,
    /// A file with the number of a process that runs already.
    #[serde(default)]
    pub pid_file: Option<String>,
    /// Server that this one is compared with, instead of the scenario's.
    #[serde(default)]
    pub baseline: Option<String>,
    /// Time to get ready.
    #[serde(default = "default_ready_timeout")]
    pub ready_timeout_s: f64,
    /// Time to end when it is told to, before it is killed.
    #[serde(default = "default_stop_timeout")]
    pub stop_timeout_s: f64,
}

/// One process of a server that is several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessPlan {
    /// What it is called in errors, and its log file.
    pub name: String,
    /// How it is started.
    pub command: Vec<String>,
    /// Its processors, instead of the server's.
    #[serde(default)]
    pub cpus: Vec<usize>,
    /// Whether its processor time and memory count as the server's.
    #[serde(default = "default_measured")]
    pub measured: bool,
    /// Whether it is waited for before the next one is started: for tools that prepare something.
    #[serde(default)]
    pub runs_to_end: bool,
}

const fn default_rounds() -> u32 {
    3
}

const fn default_warm_up() -> f64 {
    2.0
}

const fn default_seconds() -> f64 {
    6.0
}

const fn default_settle() -> f64 {
    1.0
}

const fn default_ramp() -> u32 {
    500
}

const fn default_buffer() -> u32 {
    100
}

const fn default_timeout() -> f64 {
    10.0
}

const fn default_count() -> usize {
    2_000
}

const fn default_in_flight() -> usize {
    500
}

const fn default_kind() -> ServerKind {
    ServerKind::Rtmp
}

pub(super) fn default_protection() -> String {
    "compatible".to_owned()
}

pub(super) const fn default_dh_group() -> u32 {
    2
}

const fn default_ready_timeout() -> f64 {
    10.0
}

const fn default_stop_timeout() -> f64 {
    5.0
}

const fn default_measured() -> bool {
    true
}

impl Default for HarnessPlan {
    fn default() -> Self {
        Self {
            cpus: Vec::new(),
            threads: 1,
            look_every_ms: 0,
        }
    }
}

impl Default for StreamPlan {
    fn default() -> Self {
        Self {
            bitrate: 1_000_000,
            fps: 30,
            gop: 60,
            audio_bitrate: 64_000,
        }
    }
}

impl Scenario {
    /// Reads a file, puts the overrides into it, and checks it.
    ///
    /// # Errors
    /// [`ScenarioError`] names the file, the key and, in the file, the line.
    pub fn load(path: &Path, overrides: &[Override]) -> Result<Self, ScenarioError> {
        let read = |cause| ScenarioError::Read {
            path: path.to_owned(),
            cause,
        };
        if std::fs::metadata(path).map_err(read)?.len() > MAX_FILE {
            return Err(ScenarioError::Length {
                path: path.to_owned(),
            });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        Self::parse(&text, &path.display().to_string(), overrides)
    }

    /// The same of a text; `name` is what errors call it.
    ///
    /// # Errors
    /// [`ScenarioError`].
    pub fn parse(text: &str, name: &str, overrides: &[Override]) -> Result<Self, ScenarioError> {
        let shape = |source_name: String, cause: toml::de::Error| ScenarioError::Shape {
            source_name,
            cause: cause.to_string().trim_end().to_owned(),
        };
        // As it is first: of a text, an error names the line.
        let mut scenario: Self =
            toml::from_str(text).map_err(|cause| shape(name.to_owned(), cause))?;
        if !overrides.is_empty() {
            let table: toml::Table =
                toml::from_str(text).map_err(|cause| shape(name.to_owned(), cause))?;
            let table = overrides::apply(table, overrides)?;
            scenario = table
                .try_into()
                .map_err(|cause| shape(format!("{name} with --set"), cause))?;
        }
        scenario.check()?;
        Ok(scenario)
    }

    /// Keeps only the servers with these names, and those that they are compared with if they are among them.
    ///
    /// # Errors
    /// There is no server of a name.
    pub fn keep_only(&mut self, names: &[String]) -> Result<(), ScenarioError> {
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if !self.servers.iter().any(|server| server.name == *name) {
                let known: Vec<&str> = self.servers.iter().map(|one| &*one.name).collect();
                return Err(ScenarioError::Unknown {
                    name: name.clone(),
                    known: known.join(", "),
                });
            }
        }
        self.servers.retain(|server| names.contains(&server.name));
        let is_gone = |baseline: &Option<String>| {
            let name = baseline.as_ref();
            name.is_some_and(|name| !names.contains(name))
        };
        if is_gone(&self.baseline) {
            self.baseline = None;
        }
        for server in &mut self.servers {
            if is_gone(&server.baseline) {
                server.baseline = None;
            }
        }
        Ok(())
    }

    /// Name of the server that this one is compared with.
    #[must_use]
    pub fn baseline_of<'a>(&'a self, server: &'a ServerPlan) -> Option<&'a str> {
        server.baseline.as_deref().or(self.baseline.as_deref())
    }
}

impl ServerPlan {
    /// Whether this program starts it.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.kind == ServerKind::Floor || !self.command.is_empty() || !self.processes.is_empty()
    }

    /// How its viewers speak RTMFP, where they do.
    ///
    /// # Errors
    /// The key that makes no sense.
    pub fn rtmfp(&self) -> Result<RtmfpManner, ScenarioError> {
        let wrong = |key: &str, cause| ScenarioError::Value {
            key: key.to_owned(),
            cause,
        };
        Ok(RtmfpManner {
            protection: RtmfpManner::protection_of(&self.protection)
                .map_err(|cause| wrong("protection", cause))?,
            group: RtmfpManner::group_of(&self.dh_group.to_string())
                .map_err(|cause| wrong("dh_group", cause))?,
        })
    }
}

#[cfg(test)]
mod tests;
