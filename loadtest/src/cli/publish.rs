//! `headwater-loadtest publish`.

use std::io::Write;
use std::time::Duration;

use clap::Args;

use super::options::{
    ConnectArgs, MAX_CLIENTS, MAX_THREADS, RunArgs, SourceArgs, frame_rate, numbered, seconds,
};
use super::supervise::{Supervisor, all, lanes};
use super::{CliError, Outcome, give, judge, limits};
use crate::pacing;
use crate::publisher::{Publisher, PublisherOptions};
use crate::report::{PublishSummary, count};
use crate::target::Target;

/// Arguments of `publish`.
#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    /// Addresses of streams, each for one publisher; with --name, of applications.
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// Publish so many streams, named by --name and a number from 0, on the addresses in turn.
    #[arg(long, value_name = "N", requires = "name", value_parser = clap::value_parser!(u64).range(1..=MAX_CLIENTS))]
    count: Option<u64>,
    /// What the names of streams begin with.
    #[arg(long, value_name = "PREFIX")]
    name: Option<String>,
    /// Publishers that are started each second; 0 starts all at once.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100)]
    ramp: u32,
    /// Threads for the publishers.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_THREADS))]
    threads: u64,
    /// Stop after this time.
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    run: RunArgs,
}

impl PublishArgs {
    fn targets(&self) -> Result<Vec<Target>, CliError> {
        let Some(prefix) = &self.name else {
            let targets: Result<_, _> = self.urls.iter().map(|url| Target::parse(url)).collect();
            return Ok(targets?);
        };
        let count = usize::try_from(self.count.unwrap_or(1)).unwrap_or(usize::MAX);
        let targets: Result<_, _> = self
            .urls
            .iter()
            .cycle()
            .take(count)
            .enumerate()
            .map(|(number, url)| Target::with_name(url, &format!("{prefix}{number}")))
            .collect();
        Ok(targets?)
    }
}

pub(super) fn run(args: &PublishArgs, out: &mut impl Write) -> Result<Outcome, CliError> {
    let targets = args.targets()?;
    let connect = args.connect.options()?;
    let source = args.source.options()?;
    limits::raise(targets.len())?;
    let mut supervisor = Supervisor::start().map_err(CliError::Start)?;
    let threads = usize::try_from(args.threads).unwrap_or(1);
    let lanes = lanes("publish", threads).map_err(CliError::Start)?;
    let (total, fps) = (targets.len(), frame_rate(&source));
    let publishers: Vec<Publisher> = targets
        .into_iter()
        .zip(lanes.iter().cycle())
        .enumerate()
        .map(|(number, (target, lane))| {
            let options = PublisherOptions {
                source: numbered(&source, number),
                connect: connect.clone(),
                start_after: pacing::ramp(number, args.ramp),
                phase: pacing::phase(number, total, fps),
                ..PublisherOptions::new(target)
            };
            lane.enter(|| Publisher::start(options))
        })
        .collect();
    supervisor.wait(
        args.seconds,
        || publishers.iter().all(Publisher::has_ended),
        || {
            let reports: Vec<_> = publishers.iter().map(Publisher::report).collect();
            let now = PublishSummary::of(&reports);
            let running = now.published - now.disconnected;
            format!(
                "publishing {running}/{total}  frames {}  failed {}  most behind {:.1} ms",
                count(now.video_frames),
                now.failed + now.disconnected,
                now.most_behind_ms,
            )
        },
    );
    let reports = supervisor.finish(all(publishers.into_iter().map(Publisher::stop)));
    let summary = PublishSummary::of(&reports);
    give(&summary.table(), &summary, &args.run, out)?;
    let did_something = summary.published > 0;
    Ok(judge(&args.run, summary.is_without_loss(), did_something))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn targets(arguments: &[&str]) -> Vec<String> {
        let all = ["headwater-loadtest", "publish"].iter().chain(arguments);
        let cli = Cli::try_parse_from(all).unwrap();
        let Command::Publish(args) = cli.command else {
            panic!("{cli:?}");
        };
        let targets = args.targets().unwrap();
        targets.iter().map(Target::to_string).collect()
    }

    #[test]
    fn streams_are_addressed_or_numbered() {
        assert_eq!(
            targets(&["rtmp://h/live/a", "rtmp://i/live/b"]),
            ["rtmp://h/live/a", "rtmp://i/live/b"]
        );
        assert_eq!(
            targets(&[
                "rtmp://h/live",
                "rtmp://i/live",
                "--name",
                "cam",
                "--count",
                "3"
            ]),
            [
                "rtmp://h/live/cam0",
                "rtmp://i/live/cam1",
                "rtmp://h/live/cam2"
            ]
        );
    }

    #[test]
    fn contradictions_are_refused() {
        for arguments in [
            &["publish"][..],
            &["publish", "rtmp://h/a/b", "--count", "2"],
            &["publish", "rtmp://h/a", "--name", "x", "--count", "0"],
            &["publish", "rtmp://h/a/b", "--file", "x.flv", "--fps", "3"],
            &["publish", "rtmp://h/a/b", "--insecure", "--ca", "x"],
            &["publish", "rtmp://h/a/b", "--seconds", "0"],
        ] {
            let all = ["headwater-loadtest"].iter().chain(arguments);
            assert!(Cli::try_parse_from(all).is_err(), "{arguments:?}");
        }
    }
}
