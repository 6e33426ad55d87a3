//! The binary `headwater-loadtest`: see [`headwater_loadtest::cli`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use headwater_loadtest::cli::{self, Cli, Outcome};
use tracing_subscriber::EnvFilter;

/// What was asked for cannot be done at all: as clap ends for flags that it does not know.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Missed) => ExitCode::FAILURE,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the last words of a command")]
            {
                eprintln!("error: {error:#}");
            }
            ExitCode::from(USAGE)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<Outcome> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(anyhow::Error::from_boxed)
        .context("cannot start logging")?;
    Ok(cli::run(cli, &mut std::io::stdout().lock())?)
}
