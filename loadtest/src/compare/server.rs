//! A server for one measurement: started afresh in a folder of its own, or one that runs already.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use headwater_rtmp::url::Scheme;
use tempfile::TempDir;

use super::places::{Places, UnknownPlace};
use super::process::{self, Process, Start};
use super::ready::Door;
use super::schema::{Scenario, ServerKind, ServerPlan, StreamPlan};
use super::watch::Watch;
use crate::cost::CostError;
use crate::floor::FloorProtocol;
use crate::swarm::{RtmfpManner, SwarmTarget};
use crate::target::{Target, TargetError};

/// Why a measurement has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A folder or file could not be made.
    #[error("cannot prepare its folder: {0}")]
    Folder(io::Error),
    /// A process could not be started.
    #[error("{0}")]
    Start(io::Error),
    /// A placeholder that stands for nothing.
    #[error("{0}")]
    Place(String),
    /// An address.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The address of a socket.
    #[error("{address} is no address of a socket: {cause}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        cause: io::Error,
    },
    /// The number of a process that runs already.
    #[error("{path} does not hold the number of a process")]
    PidFile {
        /// The file.
        path: String,
    },
    /// It does not answer in time.
    #[error("{address} does not answer{words}")]
    Silent {
        /// The address.
        address: String,
        /// The end of its log.
        words: String,
    },
    /// A process of the server ended by itself.
    #[error("its process {name} ended ({status}){words}")]
    Ended {
        /// The process.
        name: String,
        /// How.
        status: String,
        /// The end of its log.
        words: String,
    },
    /// The stream could not be published.
    #[error("publishing: {0}")]
    Publish(String),
    /// The publisher was cut off during the measurement.
    #[error("the publisher was cut off: {0}")]
    CutOff(String),
    /// The viewers could not be started.
    #[error("viewers: {0}")]
    Viewers(String),
    /// Its processor time could not be read.
    #[error("processor time: {0}")]
    Cost(#[from] CostError),
    /// Not one viewer saw anything.
    #[error("not one viewer saw a frame{0}")]
    Nothing(String),
    /// Somebody interrupted.
    #[error("interrupted")]
    Interrupted,
}

impl RunError {
    /// Not one viewer saw anything, for these reasons.
    pub(super) fn nothing(reasons: &[String]) -> Self {
        Self::Nothing(match reasons {
            [] => String::new(),
            reasons => format!(": {}", reasons.join("; ")),
        })
    }
}

impl From<UnknownPlace> for RunError {
    fn from(error: UnknownPlace) -> Self {
        Self::Place(error.to_string())
    }
}

/// A server that is ready.
#[derive(Debug)]
pub(super) struct Running {
    processes: Vec<Process>,
    measured: Vec<u32>,
    stop_timeout: Duration,
    /// Where the stream is published; a floor makes it itself.
    pub(super) publish: Option<Target>,
    pub(super) play: SwarmTarget,
    /// How viewers speak RTMFP, where they do.
    pub(super) rtmfp: RtmfpManner,
    // Last: it goes when the processes have gone.
    folder: TempDir,
}

impl Running {
    /// Starts a server and waits until it answers. `cpus` are those of servers that name none; empty for all.
    pub(super) fn start(
        scenario: &Scenario,
        plan: &ServerPlan,
        cpus: &[usize],
        watch: &mut dyn Watch,
    ) -> Result<Self, RunError> {
        let folder = tempfile::Builder::new()
            .prefix("headwater-loadtest-")
            .tempdir()
            .map_err(RunError::Folder)?;
        let places = Places::new(&scenario.variables, folder.path()).map_err(RunError::Folder)?;
        for (name, text) in &plan.files {
            std::fs::write(folder.path().join(name), places.fill_known(text))
                .map_err(RunError::Folder)?;
        }
        let mut doors = Vec::new();
        let (publish, play) = if plan.kind == ServerKind::Floor {
            let address = resolve(&places.fill("127.0.0.1:{port}")?)?;
            match plan.protocol {
                FloorProtocol::Rtmp => {
                    doors.push(Door::Tcp(address));
                    (None, SwarmTarget::Floor(address))
                }
                FloorProtocol::Rtmfp => {
                    doors.push(Door::SealedFloor(address));
                    (None, SwarmTarget::SealedFloor(address))
                }
            }
        } else {
            let target = |url: &Option<String>| {
                let url = places.fill(url.as_deref().unwrap_or_default())?;
                Ok::<_, RunError>(Target::parse(&url)?)
            };
            let (publish, play) = (target(&plan.publish)?, target(&plan.play)?);
            for target in [&publish, &play] {
                let address = address(target)?;
                doors.push(match target.url.scheme {
                    Scheme::Rtmfp => Door::Rtmfp(address),
                    _ => Door::Tcp(address),
                });
            }
            for address in &plan.ready {
                doors.push(Door::Tcp(resolve(&places.fill(address)?)?));
            }
            (Some(publish), SwarmTarget::Rtmp(play))
        };
        let mut running = Self {
            processes: Vec::new(),
            measured: plan.running_pids()?,
            stop_timeout: Duration::from_secs_f64(plan.stop_timeout_s),
            publish,
            play,
            rtmfp: plan
                .rtmfp()
                .map_err(|error| RunError::Place(error.to_string()))?,
            folder,
        };
        running.start_processes(scenario, plan, &places, cpus, watch)?;
        doors.dedup();
        for door in doors {
            running.wait_for(door, plan, watch)?;
        }
        Ok(running)
    }

    /// Processes whose time and memory are the server's.
    pub(super) fn measured(&self) -> &[u32] {
        &self.measured
    }

    /// Whether all processes that should run do.
    pub(super) fn is_alive(&self) -> bool {
        !self.processes.iter().any(Process::has_ended)
    }

    /// Fails if a process has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), RunError> {
        match self.processes.iter_mut().find(|one| one.has_ended()) {
            None => Ok(()),
            Some(process) => Err(ended(process)),
        }
    }

    /// Ends what was started; gives the names of processes that had to be killed.
    pub(super) fn stop(self) -> Vec<String> {
        process::stop(self.processes, self.stop_timeout)
    }

    fn start_processes(
        &mut self,
        scenario: &Scenario,
        plan: &ServerPlan,
        places: &Places,
        cpus: &[usize],
        watch: &mut dyn Watch,
    ) -> Result<(), RunError> {
        let mut environment = plan.environment.clone();
        for value in environment.values_mut() {
            *value = places.fill(value)?;
        }
        let own = if plan.cpus.is_empty() {
            cpus
        } else {
            &plan.cpus
        };
        let begin = |name: &str, command: &[String], cpus: &[usize], folder: &Path| {
            let command: Result<Vec<String>, _> =
                command.iter().map(|part| places.fill(part)).collect();
            let command = command?;
            Process::start(&Start {
                name,
                command: &command,
                cpus,
                environment: &environment,
                folder,
            })
            .map_err(RunError::Start)
        };
        let folder = self.folder.path();
        let single = if plan.kind == ServerKind::Floor {
            floor_command(plan, &scenario.stream)
        } else {
            plan.command.clone()
        };
        if !single.is_empty() {
            let process = begin("server", &single, own, folder)?;
            self.measured.push(process.id());
            self.processes.push(process);
        }
        for one in &plan.processes {
            let cpus = if one.cpus.is_empty() { own } else { &one.cpus };
            let mut process = begin(&one.name, &one.command, cpus, folder)?;
            if !one.runs_to_end {
                if one.measured {
                    self.measured.push(process.id());
                }
                self.processes.push(process);
                continue;
            }
            let limit = Duration::from_secs_f64(plan.ready_timeout_s);
            let done = watch.wait(Some(limit), &mut || process.has_ended(), &|| {
                format!("preparing: {}", one.name)
            });
            if !done {
                return Err(interrupted_or(watch, || RunError::Ended {
                    name: one.name.clone(),
                    status: "not within the time to get ready".to_owned(),
                    words: words(&process),
                }));
            }
            match process.reap() {
                Ok(status) if status.success() => {}
                status => {
                    return Err(RunError::Ended {
                        name: one.name.clone(),
                        status: told(status),
                        words: words(&process),
                    });
                }
            }
        }
        Ok(())
    }

    fn wait_for(
        &mut self,
        door: Door,
        plan: &ServerPlan,
        watch: &mut dyn Watch,
    ) -> Result<(), RunError> {
        let address = door.address();
        let answers = RefCell::new(false);
        let limit = Duration::from_secs_f64(plan.ready_timeout_s);
        watch.wait(
            Some(limit),
            &mut || {
                let is_open = door.is_open();
                answers.replace(is_open);
                is_open || !self.is_alive()
            },
            &|| format!("waiting for {address}"),
        );
        self.check()?;
        if answers.into_inner() {
            return Ok(());
        }
        Err(interrupted_or(watch, || RunError::Silent {
            address: address.to_string(),
            words: self.processes.iter().map(words).collect(),
        }))
    }
}

impl ServerPlan {
    /// Numbers of processes that run already.
    fn running_pids(&self) -> Result<Vec<u32>, RunError> {
        if let Some(path) = &self.pid_file {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let pid = text
                .trim()
                .parse()
                .map_err(|_| RunError::PidFile { path: path.clone() })?;
            return Ok(vec![pid]);
        }
        Ok(self.pid.into_iter().collect())
    }
}

fn interrupted_or(watch: &dyn Watch, other: impl FnOnce() -> RunError) -> RunError {
    if watch.is_interrupted() {
        RunError::Interrupted
    } else {
        other()
    }
}

/// The command of the bare sender with the scenario's stream.
fn floor_command(plan: &ServerPlan, stream: &StreamPlan) -> Vec<String> {
    let flush = plan.flush.as_deref().unwrap_or("frame");
    let numbers = [stream.bitrate, stream.fps, stream.gop].map(|number| number.to_string());
    let [bitrate, fps, gop] = &numbers;
    let mut command: Vec<String> = [
        "{self}",
        "floor",
        "--listen",
        "127.0.0.1:{port}",
        "--protocol",
        match plan.protocol {
            FloorProtocol::Rtmp => "rtmp",
            FloorProtocol::Rtmfp => "rtmfp",
        },
        "--flush",
        flush,
        "--bitrate",
        bitrate,
        "--fps",
        fps,
        "--gop",
        gop,
    ]
    .map(str::to_owned)
    .into();
    if stream.audio_bitrate > 0 {
        command.push("--audio-bitrate".to_owned());
        command.push(stream.audio_bitrate.to_string());
    } else {
        command.push("--no-audio".to_owned());
    }
    command
}

/// The socket behind an address of a stream.
fn address(target: &Target) -> Result<SocketAddr, RunError> {
    let (host, port) = (&*target.url.host, target.url.port_or_default());
    first(&format!("{host}:{port}"), (host, port).to_socket_addrs())
}

fn resolve(address: &str) -> Result<SocketAddr, RunError> {
    first(address, address.to_socket_addrs())
}

fn first(
    address: &str,
    found: io::Result<impl Iterator<Item = SocketAddr>>,
) -> Result<SocketAddr, RunError> {
    let none = || Err(io::Error::other("there is none of this name"));
    let found = found.and_then(|mut all| all.next().map_or_else(none, Ok));
    found.map_err(|cause| RunError::Address {
        address: address.to_owned(),
        cause,
    })
}

fn ended(process: &mut Process) -> RunError {
    let status = told(process.reap());
    RunError::Ended {
        name: process.name().to_owned(),
        status,
        words: words(process),
    }
}

fn told(status: io::Result<std::process::ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

fn words(process: &Process) -> String {
    let words = process.last_words();
    if words.is_empty() {
        String::new()
    } else {
        format!("\n{}: {words}", process.name())
    }
}
