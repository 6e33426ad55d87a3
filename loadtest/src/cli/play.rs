//! `headwater-loadtest play`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use headwater_rtmp::url::Scheme;

use super::options::{
    ConnectArgs, MAX_CLIENTS, MAX_THREADS, RtmfpArgs, RunArgs, seconds, swarm_target,
};
use super::supervise::{Supervisor, all, lanes};
use super::{CliError, Outcome, give, judge, limits};
use crate::affinity;
use crate::measure::Latency;
use crate::pacing;
use crate::report::{Machine, PlaySummary, bytes, count, micros, play_page};
use crate::swarm::{StopReading, Swarm, SwarmCounts, SwarmError, SwarmOptions, SwarmTarget};
use crate::target::Target;
use crate::viewer::{Viewer, ViewerOptions};

/// Arguments of `play`.
#[derive(Debug, Args)]
pub(super) struct PlayArgs {
    /// Addresses of streams, or floor://ADDRESS:PORT or floor+rtmfp://ADDRESS:PORT of a bare sender; with --name, of applications.
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// Viewers, spread over the streams in turn. One for each stream if it is not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_CLIENTS))]
    count: Option<u64>,
    /// What the names of streams begin with: plays what `publish` with the same --name publishes.
    #[arg(long, value_name = "PREFIX")]
    name: Option<String>,
    /// How many streams of that name there are.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "name", value_parser = clap::value_parser!(u64).range(1..=MAX_CLIENTS))]
    streams: u64,
    /// Viewers that are started each second; 0 starts all at once.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 500)]
    ramp: u32,
    /// Threads for the viewers.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_THREADS))]
    threads: u64,
    /// The buffer that the server is told of.
    #[arg(long, value_name = "SECONDS", default_value = "0.1", value_parser = seconds)]
    buffer: Duration,
    /// Count bytes, frames and latencies only after this time; --seconds begins then.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    warm_up: Option<Duration>,
    /// Stop after this time.
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    /// The last so many viewers stop reading and stay connected.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_CLIENTS))]
    stop_reading: Option<u64>,
    /// When they stop, from the start.
    #[arg(long, value_name = "SECONDS", default_value = "5", requires = "stop_reading", value_parser = seconds)]
    stop_after: Duration,
    /// Look at the sockets only this often, which saves processor time and makes latencies look longer by as much.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    look_every: Option<Duration>,
    /// Run on these processors only, separated by commas.
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Write a page with charts to this file; not with rtmps.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    rtmfp: RtmfpArgs,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    run: RunArgs,
}

impl PlayArgs {
    /// One for each viewer.
    fn targets(&self) -> Result<Vec<SwarmTarget>, CliError> {
        let streams: Result<Vec<SwarmTarget>, _> = match &self.name {
            None => self.urls.iter().map(|url| swarm_target(url)).collect(),
            // As `publish` spreads them.
            Some(prefix) => (0..self.streams)
                .zip(self.urls.iter().cycle())
                .map(|(number, url)| {
                    let target = Target::with_name(url, &format!("{prefix}{number}"))?;
                    Ok(SwarmTarget::Rtmp(target))
                })
                .collect(),
        };
        let streams = streams?;
        let count = self.count.map_or(streams.len(), |count| {
            usize::try_from(count).unwrap_or(usize::MAX)
        });
        Ok(streams.iter().cycle().take(count).cloned().collect())
    }

    fn threads(&self) -> usize {
        usize::try_from(self.threads).unwrap_or(1)
    }
}

pub(super) fn run(args: &PlayArgs, out: &mut impl Write) -> Result<Outcome, CliError> {
    let targets = args.targets()?;
    // Before this program is bound to processors, and before there are other threads, which inherit them.
    let machine = Machine::here();
    if !args.cpus.is_empty() {
        affinity::bind(&args.cpus).map_err(CliError::Start)?;
    }
    limits::raise(targets.len())?;
    let is_heavy = |target: &&SwarmTarget| matches!(target, SwarmTarget::Rtmp(target) if target.url.scheme == Scheme::Rtmps);
    if let Some(heavy) = targets.iter().find(is_heavy) {
        if let (Some(_), SwarmTarget::Rtmp(target)) = (args.stop_reading, heavy) {
            let url = target.to_string();
            return Err(SwarmError::Tls { url }.into());
        }
        return run_in_full(args, targets, out);
    }
    let total = targets.len();
    let options = SwarmOptions {
        ramp: args.ramp,
        threads: args.threads(),
        buffer: args.buffer,
        look_every: args.look_every.unwrap_or_default(),
        stop_reading: args.stop_reading.map(|viewers| StopReading {
            viewers: usize::try_from(viewers).unwrap_or(usize::MAX),
            after: args.stop_after,
        }),
        rtmfp: args.rtmfp.manner(),
        timeout: args.connect.timeout(),
        ..SwarmOptions::new(targets)
    };
    let mut supervisor = Supervisor::start().map_err(CliError::Start)?;
    let swarm = Swarm::start(options)?;
    let has_ended = || swarm.counts().ended >= total as u64;
    let progress = || progress(&swarm.counts(), total);
    if args.warm_up.is_some() {
        supervisor.wait(args.warm_up, has_ended, progress);
        swarm.begin_window();
    }
    supervisor.wait(args.seconds, has_ended, progress);
    // Before they are stopped: what a server does to clients that leave is not part of the run.
    let summary = swarm.report();
    let samples = swarm.samples();
    supervisor.finish(async { swarm.stop() });
    if let Some(path) = &args.html {
        let page = play_page(&summary, &samples, &machine);
        page.write(path).map_err(|cause| CliError::Write {
            path: path.clone(),
            cause,
        })?;
    }
    finish(args, &summary, out)
}

fn finish(
    args: &PlayArgs,
    summary: &PlaySummary,
    out: &mut impl Write,
) -> Result<Outcome, CliError> {
    give(&summary.table(), summary, &args.run, out)?;
    let did_something = summary.playing > 0;
    Ok(judge(&args.run, summary.is_without_loss(), did_something))
}

/// With the full client, which speaks TLS.
fn run_in_full(
    args: &PlayArgs,
    targets: Vec<SwarmTarget>,
    out: &mut impl Write,
) -> Result<Outcome, CliError> {
    let connect = args.connect.options()?;
    let total = targets.len();
    let mut supervisor = Supervisor::start().map_err(CliError::Start)?;
    let lanes = lanes("play", args.threads()).map_err(CliError::Start)?;
    let latency = Latency::default();
    let targets = targets.into_iter().filter_map(|target| match target {
        SwarmTarget::Rtmp(target) => Some(target),
        SwarmTarget::Floor(_) | SwarmTarget::SealedFloor(_) => None,
    });
    let viewers: Vec<Viewer> = targets
        .zip(lanes.iter().cycle())
        .enumerate()
        .map(|(number, (target, lane))| {
            let options = ViewerOptions {
                connect: connect.clone(),
                start_after: pacing::ramp(number, args.ramp),
                buffer: args.buffer,
                latency: Some(latency.clone()),
                ..ViewerOptions::new(target)
            };
            lane.enter(|| Viewer::start(options))
        })
        .collect();
    supervisor.wait(
        args.seconds,
        || viewers.iter().all(Viewer::has_ended),
        || progress(&counts(&viewers, &latency), total),
    );
    let reports: Vec<_> = viewers.iter().map(Viewer::report).collect();
    let summary = PlaySummary::of(&reports, supervisor.elapsed(), latency.report());
    supervisor.finish(all(viewers.into_iter().map(Viewer::stop)));
    finish(args, &summary, out)
}

fn counts(viewers: &[Viewer], latency: &Latency) -> SwarmCounts {
    let latency = latency.report();
    let mut all = SwarmCounts {
        p50_us: latency.p50_us,
        p99_us: latency.p99_us,
        ..SwarmCounts::default()
    };
    for viewer in viewers {
        let counts = viewer.counts();
        let has_ended = viewer.has_ended();
        all.ended += u64::from(has_ended);
        all.playing += u64::from(counts.is_playing && !has_ended);
        all.frames += counts.frames;
        all.bytes += counts.bytes;
        all.faults = all.faults.saturating_add(counts.faults);
        all.stalls += counts.stalls;
    }
    all
}

fn progress(counts: &SwarmCounts, total: usize) -> String {
    let stopped = match counts.stopped {
        0 => String::new(),
        stopped => format!("  not reading {}", count(stopped)),
    };
    format!(
        "playing {}/{total}  ended {}{stopped}  frames {}  {}  lost or twice {}  stalls {}  p50 {}  p99 {}",
        counts.playing,
        counts.ended,
        count(counts.frames),
        bytes(counts.bytes),
        count(counts.faults),
        count(counts.stalls),
        micros(counts.p50_us),
        micros(counts.p99_us),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    fn targets(arguments: &[&str]) -> Vec<String> {
        let all = ["headwater-loadtest", "play"].iter().chain(arguments);
        let cli = Cli::try_parse_from(all).unwrap();
        let Command::Play(args) = cli.command else {
            panic!("{cli:?}");
        };
        let targets = args.targets().unwrap();
        targets.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn viewers_are_spread_over_streams() {
        assert_eq!(targets(&["rtmp://h/live/a"]), ["rtmp://h/live/a"]);
        assert_eq!(
            targets(&["floor://127.0.0.1:9", "--count", "2"]),
            ["floor://127.0.0.1:9", "floor://127.0.0.1:9"]
        );
        assert_eq!(
            targets(&["floor+rtmfp://127.0.0.1:9"]),
            ["floor+rtmfp://127.0.0.1:9"]
        );
        assert_eq!(
            targets(&["rtmp://h/live/a", "rtmp://h/live/b", "--count", "3"]),
            ["rtmp://h/live/a", "rtmp://h/live/b", "rtmp://h/live/a"]
        );
        assert_eq!(
            targets(&[
                "rtmp://h/a",
                "rtmp://i/a",
                "--name",
                "s",
                "--streams",
                "3",
                "--count",
                "4"
            ]),
            [
                "rtmp://h/a/s0",
                "rtmp://i/a/s1",
                "rtmp://h/a/s2",
                "rtmp://h/a/s0"
            ]
        );
    }
}
