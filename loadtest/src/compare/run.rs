//! The rounds of a comparison, and the life of one run.

mod connect;
mod play;

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::{Builder, Runtime};

use super::figures::{Figure, put};
use super::results::{Case, Comparison, Run};
use super::schema::{RunKind, Scenario, ServerPlan};
use super::server::{RunError, Running};
use super::watch::Watch;
use crate::affinity;
use crate::client::ConnectOptions;
use crate::cost::{CostMeter, CostReport, Usage};
use crate::lane::Lane;
use crate::publisher::{Publisher, PublisherOptions};
use crate::report::{Machine, PublishSummary};
use crate::source::SourceOptions;
use crate::target::Target;

/// Runs a scenario. Runs that fail are in the result with their reason.
///
/// # Errors
/// This program cannot have the processors, threads or timers that it needs.
pub fn compare(
    scenario: Scenario,
    machine: Machine,
    watch: &mut dyn Watch,
) -> io::Result<Comparison> {
    let begun_unix = SystemTime::now().duration_since(UNIX_EPOCH);
    let begun_unix = begun_unix.map_or(0, |since| since.as_secs());
    let mut server_cpus = Vec::new();
    if !scenario.harness.cpus.is_empty() {
        // Children would inherit the processors of this thread.
        server_cpus = affinity::allowed()?;
        affinity::bind(&scenario.harness.cpus)?;
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let plan: Vec<(u32, Case, usize)> = (1..=scenario.run.rounds)
        .flat_map(|round| {
            let cases = Case::all(&scenario).into_iter();
            let servers = scenario.servers.len();
            cases.flat_map(move |case| (0..servers).map(move |server| (round, case, server)))
        })
        .collect();
    let mut rounds = Rounds {
        scenario: &scenario,
        server_cpus,
        runtime,
        watch,
        begun: Instant::now(),
        done: 0,
        all: plan.len(),
    };
    let mut runs = Vec::with_capacity(plan.len());
    for (round, case, server) in plan {
        let Some(server) = scenario.servers.get(server) else {
            continue;
        };
        let run = rounds.one(server, case, round);
        if rounds.watch.is_interrupted() {
            // What was cut short is no measurement.
            break;
        }
        let words = brief(&run);
        rounds.watch.say(&words);
        runs.push(run);
    }
    let interrupted = rounds.watch.is_interrupted();
    drop(rounds);
    Ok(Comparison::new(
        scenario,
        machine,
        begun_unix,
        interrupted,
        runs,
    ))
}

/// One line about a run that is done.
fn brief(run: &Run) -> String {
    let head = format!("round {}, {}, {}", run.round, run.case.label(), run.server);
    if let Some(error) = &run.error {
        return format!("{head}: no result: {error}");
    }
    let shown = [
        (Figure::CpuPercent, "CPU", "%"),
        (Figure::CpuSecondsPerGb, "", "s/GB"),
        (Figure::ConnectionsPerS, "", "connections/s"),
        (Figure::LatencyP99Ms, "p99", "ms"),
        (Figure::SetupP99Ms, "set-up p99", "ms"),
    ];
    let figures = shown.iter().filter_map(|(figure, name, unit)| {
        let value = run.figures.get(figure)?;
        Some(format!("{name} {value:.2} {unit}").trim_start().to_owned())
    });
    format!("{head}: {}", figures.collect::<Vec<_>>().join(", "))
}

/// A comparison under way.
struct Rounds<'a> {
    scenario: &'a Scenario,
    /// Processors of servers that name none; empty for all.
    server_cpus: Vec<usize>,
    runtime: Runtime,
    watch: &'a mut dyn Watch,
    begun: Instant,
    done: usize,
    all: usize,
}

impl Rounds<'_> {
    /// Measures one server once.
    fn one(&mut self, server: &ServerPlan, case: Case, round: u32) -> Run {
        let mut run = Run {
            server: server.name.clone(),
            case,
            round,
            ..Run::default()
        };
        let title = self.title(&run);
        let started = Running::start(self.scenario, server, &self.server_cpus, self.watch);
        let result = started.and_then(|mut running| {
            let measured = self.measure(&mut running, &mut run, &title);
            // That it died says more than what its death led to.
            let result = running.check().and(measured);
            let killed = running.stop();
            if !killed.is_empty() {
                run.notes.push(format!(
                    "killed, because it did not end when it was told to: {}",
                    killed.join(", ")
                ));
            }
            result
        });
        if let Err(error) = result {
            run.error = Some(error.to_string());
            run.figures.clear();
        }
        self.done += 1;
        run
    }

    fn measure(
        &mut self,
        running: &mut Running,
        run: &mut Run,
        title: &str,
    ) -> Result<(), RunError> {
        let lane = Lane::start("publish").map_err(RunError::Start)?;
        let publisher = match running.publish.clone() {
            None => None,
            Some(target) => Some(self.publish(&lane, target, running, title)?),
        };
        let live = Live {
            running,
            publisher: publisher.as_ref(),
        };
        let result = self.with_stream(&live, run, title);
        if let Some(publisher) = publisher {
            let report = self.runtime.block_on(publisher.stop());
            run.publish = Some(PublishSummary::of(&[report]));
        }
        result
    }

    /// Publishes; a server that answers but cannot yet take a stream is asked again until its time is over.
    fn publish(
        &mut self,
        lane: &Lane,
        target: Target,
        running: &Running,
        title: &str,
    ) -> Result<Publisher, RunError> {
        let deadline = Instant::now() + Duration::from_secs_f64(self.scenario.run.timeout_s);
        loop {
            let options = PublisherOptions {
                source: SourceOptions::Synthetic(self.scenario.stream.settings()),
                connect: self.connect_options(),
                ..PublisherOptions::new(target.clone())
            };
            let publisher = lane.enter(|| Publisher::start(options));
            let is_over = || {
                publisher.has_ended() || publisher.report().setup.is_some() || !running.is_alive()
            };
            let left = deadline.saturating_duration_since(Instant::now());
            self.wait(title, "publishing", Some(left), is_over)?;
            if publisher.report().setup.is_some() && !publisher.has_ended() {
                return Ok(publisher);
            }
            let failure = self.runtime.block_on(publisher.stop()).failure;
            if Instant::now() >= deadline || !running.is_alive() {
                let failure = failure.map_or_else(
                    || "the server does not answer".to_owned(),
                    |failure| failure.to_string(),
                );
                return Err(RunError::Publish(failure));
            }
            self.wait(title, "publishing", Some(AGAIN), || !running.is_alive())?;
        }
    }

    fn with_stream(&mut self, live: &Live<'_>, run: &mut Run, title: &str) -> Result<(), RunError> {
        let settle = Duration::from_secs_f64(self.scenario.run.settle_s);
        self.wait(title, "settling", Some(settle), || !live.is_fine())?;
        let result = match self.scenario.run.kind {
            RunKind::Play => self.play(live, run, title),
            RunKind::Connect => self.connect(live, run, title),
        };
        if let Some(publisher) = live.publisher.filter(|one| one.has_ended()) {
            let failure = publisher.report().failure;
            return Err(RunError::CutOff(failure.map_or_else(
                || "it ended".to_owned(),
                |failure| failure.to_string(),
            )));
        }
        result
    }

    fn connect_options(&self) -> ConnectOptions {
        let timeout = Duration::from_secs_f64(self.scenario.run.timeout_s);
        ConnectOptions {
            connect_timeout: timeout,
            answer_timeout: timeout,
            ..ConnectOptions::default()
        }
    }

    /// Waits until it is over or the time is; an interruption is an error. Tells whether it is over.
    fn wait(
        &mut self,
        title: &str,
        step: &str,
        limit: Option<Duration>,
        mut is_over: impl FnMut() -> bool,
    ) -> Result<bool, RunError> {
        let is_over = self
            .watch
            .wait(limit, &mut is_over, &|| format!("{title}: {step}"));
        if self.watch.is_interrupted() {
            return Err(RunError::Interrupted);
        }
        Ok(is_over)
    }

    /// What the progress line says of a run.
    fn title(&self, run: &Run) -> String {
        let left = self.all - self.done;
        let each = if self.done == 0 {
            self.expected()
        } else {
            self.begun.elapsed() / u32::try_from(self.done).unwrap_or(u32::MAX)
        };
        let left = each.saturating_mul(u32::try_from(left).unwrap_or(u32::MAX));
        format!(
            "{}/{}, {} left  {}, {}, round {}",
            self.done + 1,
            self.all,
            span(left),
            run.server,
            run.case.label(),
            run.round,
        )
    }

    /// How long a run should take, before one is done.
    fn expected(&self) -> Duration {
        let run = &self.scenario.run;
        let cases = Case::all(self.scenario);
        let arriving = cases.iter().map(|case| match case.rate {
            None => case.viewers as f64 / f64::from(run.ramp.max(1)) + run.warm_up_s + run.seconds,
            Some(rate) => run.count as f64 / f64::from(rate.max(1_000)),
        });
        let arriving: f64 = arriving.sum::<f64>() / cases.len().max(1) as f64;
        Duration::from_secs_f64(run.settle_s + arriving + 1.0)
    }
}

/// Between attempts to publish.
const AGAIN: Duration = Duration::from_millis(200);

/// A time that need not be exact.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..90 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

/// What has to go on during a run.
struct Live<'a> {
    running: &'a Running,
    /// `None` of a floor, which makes the stream itself.
    publisher: Option<&'a Publisher>,
}

impl Live<'_> {
    fn is_fine(&self) -> bool {
        self.running.is_alive() && self.publisher.is_none_or(|one| !one.has_ended())
    }

    /// The most that a frame was published late so far.
    fn most_behind(&self) -> Duration {
        self.publisher
            .map_or(Duration::ZERO, |one| one.report().most_behind)
    }
}

/// The kernel's account of the server and of this program during one run.
#[derive(Debug)]
struct Meters {
    /// `None` if it is not known which processes the server is.
    server: Option<CostMeter>,
    /// `None` where such an account cannot be read.
    harness: Option<CostMeter>,
    before: Option<Usage>,
    server_window: Option<(Usage, Usage)>,
    harness_window: Option<(Usage, Usage)>,
}

impl Meters {
    /// Before the first viewer.
    fn start(pids: &[u32]) -> Result<Self, RunError> {
        let mut server = match pids {
            [] => None,
            pids => Some(CostMeter::start(pids.to_vec(), true)?),
        };
        Ok(Self {
            before: server.as_mut().map(CostMeter::mark),
            server,
            harness: CostMeter::start(vec![std::process::id()], false).ok(),
            server_window: None,
            harness_window: None,
        })
    }

    /// The window begins.
    fn begin(&mut self) {
        let mark = |meter: &mut CostMeter| {
            let now = meter.mark();
            (now.clone(), now)
        };
        self.harness_window = self.harness.as_mut().map(mark);
        self.server_window = self.server.as_mut().map(mark);
    }

    /// The window ends.
    fn end(&mut self) {
        let windows = [
            (&mut self.server, &mut self.server_window),
            (&mut self.harness, &mut self.harness_window),
        ];
        for (meter, window) in windows {
            if let (Some(meter), Some(window)) = (meter, window) {
                window.1 = meter.mark();
            }
        }
    }

    /// What the window cost, for so many bytes and viewers (0 where there are none).
    fn report(&self, run: &mut Run, bytes: u64, viewers: u64) {
        if let Some((from, to)) = &self.harness_window {
            let harness = CostReport::new(from, to, 0, 0);
            let figure = Figure::HarnessCpuPercent;
            put(&mut run.figures, figure, harness.cpu_percent);
        }
        let Some((from, to)) = &self.server_window else {
            return;
        };
        let mut cost = CostReport::new(from, to, bytes, viewers);
        if let Some(before) = &self.before {
            cost = cost.with_baseline(before.rss_bytes);
        }
        for (figure, value) in [
            (Figure::CpuPercent, Some(cost.cpu_percent)),
            (Figure::CpuSecondsPerGb, cost.cpu_per_gb),
            (Figure::CpuMsPerViewerSecond, cost.cpu_ms_per_viewer_second),
            (Figure::RssMb, Some(cost.rss_bytes as f64 / 1e6)),
            (
                Figure::RssKbPerViewer,
                cost.rss_per_viewer.map(|bytes| bytes / 1e3),
            ),
            (Figure::WaitsPerS, Some(cost.voluntary_per_second)),
            (Figure::PreemptionsPerS, Some(cost.involuntary_per_second)),
        ] {
            if let Some(value) = value {
                put(&mut run.figures, figure, value);
            }
        }
        run.cost = Some(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rough() {
        assert_eq!(span(Duration::from_secs(5)), "5 s");
        assert_eq!(span(Duration::from_secs(600)), "10 min");
    }
}
