//! `headwater-loadtest play`.

use std::io::Write;
use std::time::Duration;

use clap::Args;

use super::options::{ConnectArgs, MAX_CLIENTS, MAX_THREADS, RunArgs, seconds};
use super::supervise::{Supervisor, all, lanes};
use super::{CliError, Outcome, give, judge, limits};
use crate::measure::Latency;
use crate::pacing;
use crate::report::{PlaySummary, bytes, count, micros};
use crate::target::Target;
use crate::viewer::{Viewer, ViewerOptions};

/// Arguments of `play`.
#[derive(Debug, Args)]
pub(super) struct PlayArgs {
    /// Addresses of streams; with --name, of applications.
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
    /// Stop after this time.
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    run: RunArgs,
}

impl PlayArgs {
    /// One for each viewer.
    fn targets(&self) -> Result<Vec<Target>, CliError> {
        let streams: Result<Vec<Target>, _> = match &self.name {
            None => self.urls.iter().map(|url| Target::parse(url)).collect(),
            // As `publish` spreads them.
            Some(prefix) => (0..self.streams)
                .zip(self.urls.iter().cycle())
                .map(|(number, url)| Target::with_name(url, &format!("{prefix}{number}")))
                .collect(),
        };
        let streams = streams?;
        let count = self.count.map_or(streams.len(), |count| {
            usize::try_from(count).unwrap_or(usize::MAX)
        });
        Ok(streams.iter().cycle().take(count).cloned().collect())
    }
}

pub(super) fn run(args: &PlayArgs, out: &mut impl Write) -> Result<Outcome, CliError> {
    let targets = args.targets()?;
    let connect = args.connect.options()?;
    limits::raise(targets.len())?;
    let mut supervisor = Supervisor::start().map_err(CliError::Start)?;
    let threads = usize::try_from(args.threads).unwrap_or(1);
    let lanes = lanes("play", threads).map_err(CliError::Start)?;
    let latency = Latency::default();
    let total = targets.len();
    let viewers: Vec<Viewer> = targets
        .into_iter()
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
        || progress(&viewers, total, &latency),
    );
    // Before they are stopped: what a server does to clients that leave is not part of the run.
    let reports: Vec<_> = viewers.iter().map(Viewer::report).collect();
    let summary = PlaySummary::of(&reports, supervisor.elapsed(), latency.report());
    supervisor.finish(all(viewers.into_iter().map(Viewer::stop)));
    give(&summary.table(), &summary, &args.run, out)?;
    let did_something = summary.playing > 0;
    Ok(judge(&args.run, summary.is_without_loss(), did_something))
}

fn progress(viewers: &[Viewer], total: usize, latency: &Latency) -> String {
    let (mut playing, mut ended) = (0_usize, 0_usize);
    let (mut frames, mut amount, mut faults, mut stalls) = (0_u64, 0_u64, 0_u64, 0_u64);
    for viewer in viewers {
        let counts = viewer.counts();
        let has_ended = viewer.has_ended();
        ended += usize::from(has_ended);
        playing += usize::from(counts.is_playing && !has_ended);
        frames += counts.frames;
        amount += counts.bytes;
        faults = faults.saturating_add(counts.faults);
        stalls += counts.stalls;
    }
    let latency = latency.report();
    format!(
        "playing {playing}/{total}  ended {ended}  frames {}  {}  lost or twice {}  stalls {}  p50 {}  p99 {}",
        count(frames),
        bytes(amount),
        count(faults),
        count(stalls),
        micros(latency.p50_us),
        micros(latency.p99_us),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn targets(arguments: &[&str]) -> Vec<String> {
        let all = ["headwater-loadtest", "play"].iter().chain(arguments);
        let cli = Cli::try_parse_from(all).unwrap();
        let Command::Play(args) = cli.command else {
            panic!("{cli:?}");
        };
        let targets = args.targets().unwrap();
        targets.iter().map(Target::to_string).collect()
    }

    #[test]
    fn viewers_are_spread_over_streams() {
        assert_eq!(targets(&["rtmp://h/live/a"]), ["rtmp://h/live/a"]);
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
