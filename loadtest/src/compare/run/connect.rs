//! A run in which viewers only arrive.

use std::time::{Duration, Instant};

use super::{Live, Meters, Rounds, RunError};
use crate::compare::figures::{Figure, put};
use crate::compare::results::Run;
use crate::report::ConnectSummary;
use crate::swarm::{ArrivalOptions, Arrivals};

impl Rounds<'_> {
    /// Connections are made and measured from the first to the last.
    pub(super) fn connect(
        &mut self,
        live: &Live<'_>,
        run: &mut Run,
        title: &str,
    ) -> Result<(), RunError> {
        let plan = &self.scenario.run;
        let rate = run.case.rate.unwrap_or(0);
        let timeout = Duration::from_secs_f64(plan.timeout_s);
        let options = ArrivalOptions {
            targets: vec![live.running.play.clone()],
            count: plan.count as u64,
            rate,
            // A rate is not held back by those that are not answered yet.
            in_flight: if rate == 0 {
                plan.in_flight
            } else {
                plan.count
            },
            first_frame: plan.first_frame,
            is_idle: plan.idle,
            is_introducible: false,
            hold: Duration::ZERO,
            rtmfp: live.running.rtmfp,
            threads: self.scenario.harness.threads,
            // Threads have those of the one that starts them.
            cpus: Vec::new(),
            buffer: Duration::from_millis(plan.buffer_ms.into()),
            timeout,
        };
        let mut meters = Meters::start(live.running.measured())?;
        meters.begin();
        let begun = Instant::now();
        let arrivals =
            Arrivals::start(options).map_err(|error| RunError::Viewers(error.to_string()))?;
        self.wait(title, "viewers arrive", None, || {
            arrivals.has_ended() || !live.is_fine()
        })?;
        meters.end();
        run.window = (0.0, begun.elapsed().as_secs_f64());
        let summary = arrivals.report();
        arrivals.stop();
        meters.report(run, 0, 0);
        add_figures(run, &summary);
        let has_any = summary.done > 0;
        let reasons: Vec<String> = summary.endings.iter().map(|one| one.what.clone()).collect();
        run.connect = Some(summary);
        if has_any {
            Ok(())
        } else {
            Err(RunError::nothing(&reasons))
        }
    }
}

fn add_figures(run: &mut Run, summary: &ConnectSummary) {
    if let Some(cost) = &run.cost {
        let each = cost.cpu_seconds * 1e6 / summary.done as f64;
        put(&mut run.figures, Figure::CpuUsPerConnection, each);
    }
    // Those that have left again hold no memory that could be divided.
    run.figures.remove(&Figure::RssKbPerViewer);
    let mut values = vec![
        (Figure::ConnectionsPerS, summary.achieved_per_s),
        (Figure::Failed, summary.failed as f64),
    ];
    if summary.setup.count > 0 {
        values.extend([
            (Figure::SetupP50Ms, summary.setup.p50_ms),
            (Figure::SetupP99Ms, summary.setup.p99_ms),
        ]);
    }
    if summary.first_frame.count > 0 {
        values.extend([
            (Figure::FirstFrameP50Ms, summary.first_frame.p50_ms),
            (Figure::FirstFrameP99Ms, summary.first_frame.p99_ms),
        ]);
    }
    for (figure, value) in values {
        put(&mut run.figures, figure, value);
    }
}
