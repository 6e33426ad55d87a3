//! The program `headwater`: a node of the cluster, and the tools around it.

#![forbid(unsafe_code)]

mod certs;
mod cli;
mod config;
mod config_command;
mod recordings;
mod report;
mod run;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use headwater_node::config::{EXIT_BAD_CONFIG, Loader};

use cli::{Cli, Command};
use config::{Role, Settings};

/// Exit code of a command that could not do what it was to do.
const FAILED: u8 = 1;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    headwater_node::tls::install_crypto_provider();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Also `--help` and `--version` come as errors; nothing can be done if they cannot be printed.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(EXIT_BAD_CONFIG)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let outcome = match cli.command {
        None => {
            let args = cli.standalone;
            node(Role::Standalone, args.loader(), args.node.ready_file)
        }
        Some(Command::Standalone(args)) => {
            node(Role::Standalone, args.loader(), args.node.ready_file)
        }
        Some(Command::Origin(args)) => node(Role::Origin, args.loader(), args.node.ready_file),
        Some(Command::Edge(args)) => node(Role::Edge, args.loader(), args.node.ready_file),
        Some(Command::Certs { command }) => certs::run(command).map_err(|error| failure(&error)),
        Some(Command::Config(args)) => config_command::run(&args).map_err(|error| failure(&error)),
        Some(Command::Recordings(args)) => {
            recordings::run(&args).map_err(|error| (FAILED, chain(&error)))
        }
        Some(Command::Version) => version().map_err(|error| failure(&error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            let _ = writeln!(std::io::stderr(), "headwater: {message}");
            ExitCode::from(code)
        }
    }
}

/// Runs a node until it is told to end.
fn node(role: Role, loader: Loader, ready_file: Option<PathBuf>) -> Result<(), (u8, String)> {
    let loader = loader.process_environment();
    let settings = Settings::load(role, loader).map_err(|error| failure(&error))?;
    run::run(settings, ready_file).map_err(|error| (error.exit_code(), chain(&error)))
}

fn version() -> std::io::Result<()> {
    writeln!(std::io::stdout(), "headwater {}", headwater_node::VERSION)
}

/// What was wrong with a command or its files.
fn failure(error: &dyn std::error::Error) -> (u8, String) {
    (EXIT_BAD_CONFIG, chain(error))
}

/// The error and its causes in one line, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}
