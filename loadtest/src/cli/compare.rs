//! `headwater-loadtest compare`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::supervise::Supervisor;
use super::{CliError, Outcome, limits};
use crate::compare::{Override, RunKind, Scenario, Watch, compare};
use crate::report::{Machine, write_json};

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// What to compare: a scenario, see loadtest/scenarios.
    #[arg(value_name = "FILE.toml")]
    scenario: PathBuf,
    /// Write a page with charts to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write every single run to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table as Markdown to this file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// How often everything is repeated, instead of what the scenario says.
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Only these servers of the scenario.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// A value instead of the scenario's, such as run.viewers=[100] or server.NAME.cpus=[1]; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Override>,
}

impl CompareArgs {
    fn scenario(&self) -> Result<Scenario, CliError> {
        let mut overrides = self.set.clone();
        if let Some(rounds) = self.rounds {
            overrides.push(Override::new("run.rounds", i64::from(rounds)));
        }
        let mut scenario = Scenario::load(&self.scenario, &overrides)?;
        scenario.keep_only(&self.only)?;
        Ok(scenario)
    }
}

pub(super) fn run(args: &CompareArgs, out: &mut impl Write) -> Result<Outcome, CliError> {
    let scenario = args.scenario()?;
    let clients = match scenario.run.kind {
        RunKind::Play => scenario.run.viewers.iter().max().copied().unwrap_or(0),
        RunKind::Connect => scenario.run.count,
    };
    limits::raise(clients)?;
    // Files that cannot be written are told now, not in an hour.
    for path in [&args.html, &args.json, &args.markdown]
        .into_iter()
        .flatten()
    {
        std::fs::File::create(path).map_err(|cause| CliError::Write {
            path: path.clone(),
            cause,
        })?;
    }
    let machine = Machine::here();
    let mut supervisor = Supervisor::start().map_err(CliError::Start)?;
    let comparison = compare(scenario, machine, &mut supervisor).map_err(CliError::Start)?;
    write!(out, "{}", comparison.table())
        .and_then(|()| out.flush())
        .map_err(CliError::Print)?;
    type Writing<'a> = &'a dyn Fn(&std::path::Path) -> std::io::Result<()>;
    let files: [(&Option<PathBuf>, Writing<'_>); 3] = [
        (&args.json, &|path| write_json(path, &comparison)),
        (&args.markdown, &|path| {
            std::fs::write(path, comparison.table().markdown())
        }),
        (&args.html, &|path| comparison.page().write(path)),
    ];
    for (path, write) in files {
        if let Some(path) = path {
            write(path).map_err(|cause| CliError::Write {
                path: path.clone(),
                cause,
            })?;
        }
    }
    Ok(if comparison.is_complete() {
        Outcome::Done
    } else {
        Outcome::Missed
    })
}

impl Watch for Supervisor {
    fn wait(
        &mut self,
        limit: Option<Duration>,
        is_over: &mut dyn FnMut() -> bool,
        progress: &dyn Fn() -> String,
    ) -> bool {
        let over = std::cell::Cell::new(false);
        let is_over = std::cell::RefCell::new(is_over);
        let look = || {
            // Not called again once it was so.
            if !over.get() {
                over.set((is_over.borrow_mut())());
            }
            over.get()
        };
        Self::wait(self, limit, look, progress);
        over.get()
    }

    fn is_interrupted(&self) -> bool {
        Self::is_interrupted(self)
    }

    fn say(&mut self, text: &str) {
        self.print(text);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn scenario(arguments: &[&str]) -> Result<Scenario, CliError> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/fan-out.toml");
        let all = ["headwater-loadtest", "compare", path];
        let cli = Cli::try_parse_from(all.iter().chain(arguments)).unwrap();
        let Command::Compare(args) = cli.command else {
            panic!("{cli:?}");
        };
        args.scenario()
    }

    #[test]
    fn flags_go_before_the_file() {
        let scenario = scenario(&[
            "--rounds",
            "1",
            "--only",
            "nginx,headwater",
            "--set",
            "run.viewers=[5]",
            "--set",
            "run.seconds=1",
        ])
        .unwrap();
        assert_eq!(scenario.run.rounds, 1);
        assert_eq!(scenario.run.viewers, [5]);
        assert_eq!(scenario.servers.len(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (arguments, part) in [
            (["--rounds", "0"], "run.rounds"),
            (["--only", "other"], "no server is named other"),
            (["--set", "run.sconds=1"], "sconds"),
        ] {
            let error = scenario(&arguments).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
