//! The commands of the binary.
//!
//! A command runs until its time is over, every client has ended, or it is interrupted; then it prints what was done, whatever it was.
//! The exit code is 0, or 1 if `--expect-no-loss` was missed or not one client could do its work, or 2 if nothing could be started.

mod callers;
mod compare;
mod connect;
mod cost;
mod floor;
mod floor_dh;
mod impair;
mod introduce;
mod latency;
mod limits;
mod objects;
mod options;
mod play;
mod publish;
mod supervise;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use headwater_media::synthetic::SettingsError;

use crate::client::TrustError;
use crate::compare::ScenarioError;
use crate::cost::CostError;
use crate::floor::FloorError;
use crate::members::MemberError;
use crate::report::{Table, write_json};
use crate::source::file::FileError;
use crate::swarm::SwarmError;
use crate::target::TargetError;

/// Loads an RTMP server with publishers and viewers, and measures what comes through.
#[derive(Debug, Parser)]
#[command(name = "headwater-loadtest", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish synthetic streams, or an FLV file, in real time.
    Publish(publish::PublishArgs),
    /// Play streams with any number of viewers and check what comes.
    Play(play::PlayArgs),
    /// Connect many clients that leave when they may play, and tell how fast they were let in.
    Connect(connect::ConnectArgs),
    /// Call methods of an application, and tell how long results take.
    Callers(callers::CallersArgs),
    /// Write and read shared objects, and tell who sees changes when, and whether all have the same in the end.
    Objects(objects::ObjectsArgs),
    /// Publish one stream, play it with one viewer, and tell the end-to-end latency.
    Latency(latency::LatencyArgs),
    /// Send a stream to sockets at the least cost there can be: what servers are compared with.
    Floor(floor::FloorArgs),
    /// Tell what agreeing on keys for sessions of RTMFP costs on one processor.
    FloorDh(floor_dh::FloorDhArgs),
    /// Have an RTMFP server introduce clients to each other, and tell how fast it does.
    Introduce(introduce::IntroduceArgs),
    /// Stand before a server as a bad network: delay, loss, reordering, changing ports. For RTMFP.
    Impair(impair::ImpairArgs),
    /// Tell what processes of this machine use while a command runs: CPU time, memory.
    Cost(cost::CostArgs),
    /// Measure servers in turn, as a scenario says, and compare them.
    Compare(compare::CompareArgs),
}

/// How a command that could be started ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Done,
    /// The goal was missed, or not one client could do its work.
    Missed,
}

/// Why a command could not be started, or its result not be given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// An address.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The certificates to believe.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The file to publish.
    #[error(transparent)]
    File(#[from] FileError),
    /// What to compare.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The stream to make.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The floor to compare with.
    #[error(transparent)]
    Floor(#[from] FloorError),
    /// The clients to start.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    /// The clients of an application.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// A bare sender's address.
    #[error(
        "{url}: a bare sender is floor://ADDRESS:PORT or floor+rtmfp://ADDRESS:PORT, with a numeric address"
    )]
    FloorAddress {
        /// As given.
        url: String,
    },
    /// An address of another protocol.
    #[error("{url}: only rtmfp is spoken here")]
    NotRtmfp {
        /// As given.
        url: String,
    },
    /// The processes to measure.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// The command to run.
    #[error("cannot run {program}: {cause}")]
    Command {
        /// Its program.
        program: String,
        /// What the operating system said.
        cause: io::Error,
    },
    /// More sockets than the system gives.
    #[error("{needed} open files are needed, but the limit is {allowed}; raise it (ulimit -n)")]
    OpenFiles {
        /// For the sockets and what else is open.
        needed: u64,
        /// The hard limit of this process.
        allowed: u64,
    },
    /// The system gives no thread, timer or signal.
    #[error("cannot start: {0}")]
    Start(io::Error),
    /// The result could not be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The terminal or pipe is gone.
    #[error("cannot print the result: {0}")]
    Print(io::Error),
}

/// Runs a command and prints its result to `out`.
///
/// # Errors
/// [`CliError`] if it cannot be started, or its result not be given.
pub fn run(cli: Cli, out: &mut impl Write) -> Result<Outcome, CliError> {
    match cli.command {
        Command::Publish(args) => publish::run(&args, out),
        Command::Play(args) => play::run(&args, out),
        Command::Connect(args) => connect::run(&args, out),
        Command::Callers(args) => callers::run(&args, out),
        Command::Objects(args) => objects::run(&args, out),
        Command::Latency(args) => latency::run(&args, out),
        Command::Floor(args) => floor::run(&args, out),
        Command::FloorDh(args) => floor_dh::run(&args, out),
        Command::Introduce(args) => introduce::run(&args, out),
        Command::Impair(args) => impair::run(&args, out),
        Command::Cost(args) => cost::run(&args, out),
        Command::Compare(args) => compare::run(&args, out),
    }
}

/// Gives the result: a table, and JSON if it is wanted.
fn give(
    table: &Table,
    summary: &impl serde::Serialize,
    options: &options::RunArgs,
    out: &mut impl Write,
) -> Result<(), CliError> {
    write!(out, "{table}")
        .and_then(|()| out.flush())
        .map_err(CliError::Print)?;
    if let Some(path) = &options.json {
        write_json(path, summary).map_err(|cause| CliError::Write {
            path: path.clone(),
            cause,
        })?;
    }
    Ok(())
}

/// Whether the goal was met, or at least some work was done if there was no goal.
const fn judge(options: &options::RunArgs, is_without_loss: bool, did_something: bool) -> Outcome {
    let is_good = if options.expect_no_loss {
        is_without_loss
    } else {
        did_something
    };
    if is_good {
        Outcome::Done
    } else {
        Outcome::Missed
    }
}
