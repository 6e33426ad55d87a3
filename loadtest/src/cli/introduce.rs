//! `headwater-loadtest introduce`: RTMFP clients that ask a server for others.

use std::io::Write;
use std::net::ToSocketAddrs;
use std::time::Duration;

use clap::Args;
use headwater_rtmp::url::Scheme;

use super::options::{MAX_CLIENTS, RtmfpArgs, RunArgs, seconds};
use super::supervise::Supervisor;
use super::{CliError, Outcome, give, judge, limits};
use crate::affinity;
use crate::introduce::{AskOptions, Askers};
use crate::report::{IntroduceSummary, count};
use crate::swarm::{ArrivalOptions, Arrivals, SwarmError, SwarmTarget};
use crate::target::Target;

/// Sockets of askers, at most, and what else the system gives for them.
const SOCKETS: usize = 1_100;

/// How long targets stay: longer than any run.
const STAY: Duration = Duration::from_secs(31_536_000);

/// Arguments of `introduce`.
#[derive(Debug, Args)]
pub(super) struct IntroduceArgs {
    /// Application that the clients are connected to who are asked for, as in rtmfp://host/live: one that has peers meet.
    #[arg(value_name = "URL")]
    connected_to: String,
    /// The server that is asked for them, if it is another one of the same cluster.
    #[arg(value_name = "URL")]
    asked: Option<String>,
    /// Clients that are asked for.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pairs: u64,
    /// Introductions each second; 0 asks for the next one as soon as one has come about.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 0)]
    rate: u32,
    /// Introductions under way at once, at most: 100, or 5000 with a rate.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_CLIENTS))]
    in_flight: Option<u64>,
    /// Clients that are connected each second before.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 200)]
    ramp: u32,
    /// Time between the last client's connection and the first question: other servers have to hear of it.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    settle: Duration,
    /// Ask for this time.
    #[arg(long, default_value = "10", value_parser = seconds)]
    seconds: Duration,
    /// Time for an introduction, and for each step of a connection.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    timeout: Duration,
    /// Run on these processors only, separated by commas.
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    cpus: Vec<usize>,
    #[command(flatten)]
    rtmfp: RtmfpArgs,
    #[command(flatten)]
    run: RunArgs,
}

pub(super) fn run(args: &IntroduceArgs, out: &mut impl Write) -> Result<Outcome, CliError> {
    let target = application(&args.connected_to)?;
    let asked = args.asked.as_deref().unwrap_or(&args.connected_to);
    let asked = application(asked)?;
    let place = (asked.url.host.as_str(), asked.url.port_or_default());
    let resolve = |cause| SwarmError::Resolve {
        host: asked.url.host.clone(),
        cause,
    };
    let server = place.to_socket_addrs().map_err(resolve)?.next();
    let server = server.ok_or_else(|| resolve(std::io::ErrorKind::NotFound.into()))?;
    // Before there are other threads, which inherit it.
    if !args.cpus.is_empty() {
        affinity::bind(&args.cpus).map_err(CliError::Start)?;
    }
    let pairs = usize::try_from(args.pairs).unwrap_or(usize::MAX);
    limits::raise(pairs.saturating_add(SOCKETS))?;
    let mut supervisor = Supervisor::start().map_err(CliError::Start)?;
    let arrivals = Arrivals::start(ArrivalOptions {
        count: args.pairs,
        rate: args.ramp,
        in_flight: pairs,
        is_idle: true,
        is_introducible: true,
        hold: STAY,
        rtmfp: args.rtmfp.manner(),
        timeout: args.timeout,
        ..ArrivalOptions::new(vec![SwarmTarget::Rtmp(target)])
    })?;
    let has_arrived = || {
        let counts = arrivals.counts();
        counts.done + counts.failed >= args.pairs
    };
    supervisor.wait(None, has_arrived, || {
        format!("connected {}", count(arrivals.counts().held))
    });
    supervisor.wait(Some(args.settle), || false, || "settling".to_owned());
    let targets = arrivals.introducible();
    let mut summary = IntroduceSummary::default();
    if !targets.is_empty() && !supervisor.is_interrupted() {
        let usual = if args.rate == 0 { 100 } else { 5_000 };
        let askers = Askers::start(AskOptions {
            server,
            targets,
            rate: args.rate,
            in_flight: usize::try_from(args.in_flight.unwrap_or(usual)).unwrap_or(usize::MAX),
            timeout: args.timeout,
            cpus: Vec::new(),
        })
        .map_err(CliError::Start)?;
        supervisor.wait(
            Some(args.seconds),
            || false,
            || {
                let (asked, done, failed) = askers.counts();
                format!(
                    "asked {}  done {}  failed {}",
                    count(asked),
                    count(done),
                    count(failed)
                )
            },
        );
        summary = askers.finish();
    }
    let connected = arrivals.report();
    summary.pairs = args.pairs;
    summary.connected = connected.done.saturating_sub(connected.lost);
    summary.endings = connected.endings;
    summary.endings.extend(connected.losses);
    supervisor.finish(async { arrivals.stop() });
    give(&summary.table(), &summary, &args.run, out)?;
    let did_something = summary.done > 0;
    Ok(judge(&args.run, summary.is_without_loss(), did_something))
}

/// An application of RTMFP.
fn application(url: &str) -> Result<Target, CliError> {
    let target = Target::with_name(url, "")?;
    if target.url.scheme == Scheme::Rtmfp {
        Ok(target)
    } else {
        Err(CliError::NotRtmfp {
            url: url.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_rtmfp_are_taken() {
        assert!(application("rtmfp://127.0.0.1/live").is_ok());
        let error = application("rtmp://127.0.0.1/live").unwrap_err();
        assert!(error.to_string().contains("rtmfp"), "{error}");
        assert!(application("live").is_err());
    }
}
