//! `headwater config`: prints the configuration in force, or checks it.

use std::io::{self, Write};

use crate::cli::ConfigArgs;
use crate::config::{Settings, SettingsError, print};

/// Why the configuration was not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

/// Prints what a node of the role would run with, from the same layers; with `--check`, only whether it would.
pub(crate) fn run(args: &ConfigArgs) -> Result<(), Error> {
    let loader = args.node.loader(Vec::new()).process_environment();
    let mut output = io::stdout().lock();
    if args.check {
        Settings::load(args.role, loader)?;
        writeln!(output, "the configuration is valid")?;
    } else {
        let text = print(args.role, loader).map_err(SettingsError::from)?;
        output.write_all(text.as_bytes())?;
    }
    Ok(())
}
