//! `headwater-loadtest latency`: one publisher and one viewer, each on a thread of its own.

use std::io::Write;
use std::time::Duration;

use clap::Args;

use super::options::{ConnectArgs, RunArgs, SourceArgs, frame_rate, seconds};
use super::supervise::Supervisor;
use super::{CliError, Outcome, give, judge};
use crate::floor::Floor;
use crate::lane::Lane;
use crate::publisher::{Publisher, PublisherOptions, PublisherReport};
use crate::report::{LatencySummary, PlaySummary, PublishSummary, micros};
use crate::target::Target;
use crate::viewer::{Viewer, ViewerOptions, ViewerReport};

/// How long the last frames may take to the viewer after the publisher has stopped.
const LAST_FRAMES: Duration = Duration::from_secs(2);

/// Arguments of `latency`.
#[derive(Debug, Args)]
pub(super) struct LatencyArgs {
    /// Address of the stream for the publisher.
    #[arg(long, value_name = "URL")]
    publish: String,
    /// Address of the same stream for the viewer: the same, or that of another server behind.
    #[arg(long, value_name = "URL")]
    play: String,
    /// For how long to measure.
    #[arg(long, default_value = "20", value_parser = seconds)]
    seconds: Duration,
    /// Send the same frames through a bare TCP connection of the loopback at the same time, to tell what the server costs.
    #[arg(long)]
    floor: bool,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    run: RunArgs,
}

pub(super) fn run(args: &LatencyArgs, out: &mut impl Write) -> Result<Outcome, CliError> {
    let (publish, play) = (Target::parse(&args.publish)?, Target::parse(&args.play)?);
    let connect = args.connect.options()?;
    let source = args.source.options()?;
    let mut supervisor = Supervisor::start().map_err(CliError::Start)?;
    let sending = Lane::start("publish").map_err(CliError::Start)?;
    let receiving = Lane::start("play").map_err(CliError::Start)?;
    let options = PublisherOptions {
        source: source.clone(),
        connect: connect.clone(),
        ..PublisherOptions::new(publish)
    };
    let publisher = sending.enter(|| Publisher::start(options));
    supervisor.wait(
        None,
        || publisher.has_ended() || publisher.report().setup.is_some(),
        || "connecting the publisher".to_owned(),
    );
    let mut latency = None;
    let (mut seen, mut floor) = (None, None);
    let begun = supervisor.elapsed();
    if !publisher.has_ended() && !supervisor.is_interrupted() {
        if args.floor {
            // Between the frames of the publisher, so that they do not wait for each other.
            let between = Duration::from_secs(1) / frame_rate(&source).max(1) / 2;
            floor = Some(Floor::start(&source, between, &sending, &receiving)?);
        }
        let options = ViewerOptions {
            connect,
            ..ViewerOptions::new(play)
        };
        let viewer = receiving.enter(|| Viewer::start(options));
        supervisor.wait(
            Some(args.seconds),
            || viewer.has_ended() || publisher.has_ended(),
            || {
                let now = viewer.latency();
                let [p50, p99, max] = [now.p50_us, now.p99_us, now.max_us].map(micros);
                format!("frames {}  p50 {p50}  p99 {p99}  max {max}", now.count)
            },
        );
        latency = Some(viewer);
    }
    let length = supervisor.elapsed() - begun;
    let floor_report = floor.as_ref().map(Floor::latency);
    drop(floor);
    let published = supervisor.finish(publisher.stop());
    let mut missing_at_end = 0;
    let mut server = crate::measure::LatencyReport::default();
    if let Some(viewer) = latency {
        let last = |report: &ViewerReport| unseen(&published, report) == 0;
        supervisor.finish(viewer.wait_until(LAST_FRAMES, last));
        server = viewer.latency();
        let mut report = supervisor.finish(viewer.stop());
        missing_at_end = unseen(&published, &report);
        report.missing = report.missing.saturating_add(missing_at_end);
        seen = Some(report);
    }
    let summary = LatencySummary {
        server,
        floor: floor_report,
        publish: PublishSummary::of(&[published]),
        play: PlaySummary::of(seen.as_slice(), length, server),
        missing_at_end,
    };
    give(&summary.table(), &summary, &args.run, out)?;
    let did_something = summary.play.playing > 0;
    Ok(judge(&args.run, summary.is_without_loss(), did_something))
}

/// Frames with a number that were sent after the last one that came. None if not one came: then the report says so itself.
fn unseen(published: &PublisherReport, seen: &ViewerReport) -> u64 {
    let behind = |sent: Option<u64>, came: Option<u64>| match (sent, came) {
        (Some(sent), Some(came)) => sent.saturating_sub(came),
        _ => 0,
    };
    behind(published.last_video, seen.video.last) + behind(published.last_audio, seen.audio.last)
}
