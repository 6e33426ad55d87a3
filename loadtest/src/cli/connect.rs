//! `headwater-loadtest connect`: clients that connect, see that they may play, and leave.

use std::io::Write;
use std::time::Duration;

use clap::Args;

use super::options::{MAX_CLIENTS, MAX_THREADS, RtmfpArgs, RunArgs, seconds, swarm_target};
use super::supervise::Supervisor;
use super::{CliError, Outcome, give, judge, limits};
use crate::affinity;
use crate::report::{ConnectSummary, count};
use crate::swarm::{ArrivalCounts, ArrivalOptions, Arrivals, SwarmTarget};

/// Most connections of one run.
const MAX_CONNECTIONS: u64 = 100_000_000;

/// Connections that may be open at once if nobody said so: without a rate, and with one.
const IN_FLIGHT: [u64; 2] = [100, 5_000];

/// Arguments of `connect`.
#[derive(Debug, Args)]
pub(super) struct ConnectArgs {
    /// Addresses of streams, which are taken in turn.
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// Connections to make.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=MAX_CONNECTIONS))]
    count: u64,
    /// Connections to begin each second, as in 500 or 500/s; 0 begins one whenever another has ended.
    #[arg(long, value_name = "PER_SECOND", default_value = "0", value_parser = rate)]
    rate: u32,
    /// Most connections that are open at once, those that are held not counted: 100, or 5000 with a rate.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_CLIENTS))]
    in_flight: Option<u64>,
    /// Wait for the first audio or video frame before leaving.
    #[arg(long, conflicts_with = "idle")]
    first_frame: bool,
    /// Play nothing: a client has what it came for when it is connected. The name of the stream means nothing then.
    #[arg(long)]
    idle: bool,
    /// Keep each connection this long after it has what it came for.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    hold: Option<Duration>,
    /// Threads for the clients.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_THREADS))]
    threads: u64,
    /// Run on these processors only, separated by commas.
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Time for each step of a connection.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
    /// Stop after this time.
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    #[command(flatten)]
    rtmfp: RtmfpArgs,
    #[command(flatten)]
    run: RunArgs,
}

impl ConnectArgs {
    fn options(&self) -> Result<ArrivalOptions, CliError> {
        let targets: Result<Vec<SwarmTarget>, _> =
            self.urls.iter().map(|url| swarm_target(url)).collect();
        let [closed, open] = IN_FLIGHT;
        let usual = if self.rate == 0 { closed } else { open };
        let in_flight = self.in_flight.unwrap_or(usual).min(self.count);
        Ok(ArrivalOptions {
            count: self.count,
            rate: self.rate,
            in_flight: usize::try_from(in_flight).unwrap_or(usize::MAX),
            first_frame: self.first_frame,
            is_idle: self.idle,
            hold: self.hold.unwrap_or_default(),
            rtmfp: self.rtmfp.manner(),
            threads: usize::try_from(self.threads).unwrap_or(1),
            timeout: self.timeout,
            ..ArrivalOptions::new(targets?)
        })
    }
}

pub(super) fn run(args: &ConnectArgs, out: &mut impl Write) -> Result<Outcome, CliError> {
    let options = args.options()?;
    // Before there are other threads, which inherit it.
    if !args.cpus.is_empty() {
        affinity::bind(&args.cpus).map_err(CliError::Start)?;
    }
    let held = match args.hold {
        None => 0,
        Some(_) => usize::try_from(args.count.min(MAX_CLIENTS)).unwrap_or(usize::MAX),
    };
    limits::raise(options.in_flight.max(options.threads).saturating_add(held))?;
    let mut supervisor = Supervisor::start().map_err(CliError::Start)?;
    let arrivals = Arrivals::start(options)?;
    supervisor.wait(
        args.seconds,
        || arrivals.has_ended(),
        || progress(&arrivals.counts(), args.count),
    );
    let summary = arrivals.report();
    supervisor.finish(async { arrivals.stop() });
    finish(args, &summary, out)
}

fn finish(
    args: &ConnectArgs,
    summary: &ConnectSummary,
    out: &mut impl Write,
) -> Result<Outcome, CliError> {
    give(&summary.table(), summary, &args.run, out)?;
    let did_something = summary.done > 0;
    Ok(judge(&args.run, summary.is_without_loss(), did_something))
}

fn progress(counts: &ArrivalCounts, total: u64) -> String {
    format!(
        "done {}/{}  failed {}  open {}  held {}",
        count(counts.done),
        count(total),
        count(counts.failed),
        count(counts.in_flight),
        count(counts.held),
    )
}

/// Parses a rate, with or without its unit.
fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    number
        .parse()
        .map_err(|_| format!("{text} is not a whole number of connections per second"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn options(arguments: &[&str]) -> ArrivalOptions {
        let all = ["headwater-loadtest", "connect", "rtmp://h/live/a"];
        let cli = Cli::try_parse_from(all.iter().chain(arguments)).unwrap();
        let Command::Connect(args) = cli.command else {
            panic!("{cli:?}");
        };
        args.options().unwrap()
    }

    #[test]
    fn rates_have_a_unit_or_none() {
        assert_eq!(
            (rate("500"), rate("500/s"), rate("0")),
            (Ok(500), Ok(500), Ok(0))
        );
        for text in ["", "/s", "x", "-1", "1.5", "500/m"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn more_are_open_at_once_with_a_rate() {
        assert_eq!(options(&[]).in_flight, 100);
        assert_eq!(options(&["--count", "9"]).in_flight, 9);
        let rate = options(&["--rate", "2000/s", "--count", "20000"]);
        assert_eq!((rate.rate, rate.in_flight), (2_000, 5_000));
        assert_eq!(options(&["--in-flight", "7"]).in_flight, 7);
    }
}
