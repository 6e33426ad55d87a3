//! A run in which viewers watch.

use std::time::{Duration, Instant};

use super::{Live, Meters, Rounds, RunError};
use crate::compare::figures::{Figure, put};
use crate::compare::results::{Run, Second};
use crate::cost::{CostSample, CostSampler};
use crate::pacing;
use crate::report::PlaySummary;
use crate::swarm::{StopReading, Swarm, SwarmOptions, SwarmSample};

impl Rounds<'_> {
    /// Viewers come, watch, and are measured for the time of the window.
    pub(super) fn play(
        &mut self,
        live: &Live<'_>,
        run: &mut Run,
        title: &str,
    ) -> Result<(), RunError> {
        let plan = &self.scenario.run;
        let (viewers, stopping) = (run.case.viewers, run.case.stop_reading);
        let ramp = pacing::ramp(viewers, plan.ramp);
        let timeout = Duration::from_secs_f64(plan.timeout_s);
        let warm_up = Duration::from_secs_f64(plan.warm_up_s);
        let length = Duration::from_secs_f64(plan.seconds);
        let harness = &self.scenario.harness;
        let options = SwarmOptions {
            targets: vec![live.running.play.clone(); viewers],
            ramp: plan.ramp,
            threads: harness.threads,
            // Threads have those of the one that starts them.
            cpus: Vec::new(),
            buffer: Duration::from_millis(plan.buffer_ms.into()),
            look_every: Duration::from_millis(harness.look_every_ms),
            stop_reading: (stopping > 0).then(|| StopReading {
                viewers: stopping,
                after: ramp + warm_up,
            }),
            rtmfp: live.running.rtmfp,
            timeout,
        };
        let mut meters = Meters::start(live.running.measured())?;
        let sampler = match live.running.measured() {
            [] => None,
            pids => Some(CostSampler::start(pids.to_vec(), true)?),
        };
        let begun = Instant::now();
        let swarm = Swarm::start(options).map_err(|error| RunError::Viewers(error.to_string()))?;
        let all_came = || {
            let counts = swarm.counts();
            counts.playing + counts.ended >= viewers as u64 || !live.is_fine()
        };
        self.wait(title, "viewers arrive", Some(ramp + timeout), all_came)?;
        self.wait(title, "warm-up", Some(warm_up), || !live.is_fine())?;
        swarm.begin_window();
        meters.begin();
        let (from, behind) = (begun.elapsed(), live.most_behind());
        self.wait(title, "measuring", Some(length), || !live.is_fine())?;
        meters.end();
        // The report may wait for those that stopped reading.
        let to = begun.elapsed();
        let summary = swarm.report();
        let behind_after = live.most_behind();
        if behind_after > behind {
            // What was late before the window blurs nothing.
            let late = behind_after.as_secs_f64() * 1e3;
            put(&mut run.figures, Figure::PublisherBehindMs, late);
        }
        run.window = (from.as_secs_f64(), to.as_secs_f64());
        let cost = sampler.as_ref().map(CostSampler::samples);
        run.samples = seconds(&swarm.samples(), &cost.unwrap_or_default());
        swarm.stop();
        let watching = viewers.saturating_sub(stopping) as u64;
        meters.report(run, summary.bytes, watching);
        add_figures(run, &summary);
        let has_seen = summary.playing > 0;
        let reasons: Vec<String> = summary.endings.iter().map(|one| one.what.clone()).collect();
        run.play = Some(summary);
        if has_seen {
            Ok(())
        } else {
            Err(RunError::nothing(&reasons))
        }
    }
}

/// What the viewers saw in the window.
fn add_figures(run: &mut Run, summary: &PlaySummary) {
    let length = summary.seconds;
    let of_micros = |us: u64| us as f64 / 1e3;
    let latency = &summary.latency;
    let watching = summary.playing as f64;
    let mut values = vec![
        (Figure::MbitPerS, summary.bytes as f64 * 8.0 / 1e6 / length),
        (
            Figure::FpsPerViewer,
            summary.video_frames as f64 / watching / length,
        ),
        (Figure::Missing, summary.missing as f64),
        (Figure::Repeated, summary.repeated as f64),
        (Figure::Stalls, summary.stalls as f64),
        (Figure::Disconnected, summary.disconnected as f64),
        // Those that still wait for their first frame have failed as well.
        (
            Figure::Failed,
            summary.viewers.saturating_sub(summary.playing) as f64,
        ),
    ];
    if latency.count > 0 {
        values.extend([
            (Figure::LatencyP50Ms, of_micros(latency.p50_us)),
            (Figure::LatencyP90Ms, of_micros(latency.p90_us)),
            (Figure::LatencyP99Ms, of_micros(latency.p99_us)),
            (Figure::LatencyMaxMs, of_micros(latency.max_us)),
        ]);
    }
    for (spread, [half, most]) in [
        (&summary.setup, [Figure::SetupP50Ms, Figure::SetupP99Ms]),
        (
            &summary.first_frame,
            [Figure::FirstFrameP50Ms, Figure::FirstFrameP99Ms],
        ),
    ] {
        if spread.count > 0 {
            values.extend([(half, spread.p50_ms), (most, spread.p99_ms)]);
        }
    }
    if let Some(stopped) = &summary.stopped {
        values.push((Figure::StoppedClosed, stopped.closed as f64));
    }
    for (figure, value) in values {
        put(&mut run.figures, figure, value);
    }
}

/// Both kinds of samples, each where its second ends. They do not end at the same moment, so they stay apart.
fn seconds(viewers: &[SwarmSample], cost: &[CostSample]) -> Vec<Second> {
    let mut before = 0.0;
    let seen = viewers.iter().map(|sample| {
        let length = sample.seconds - before;
        before = sample.seconds;
        let timed = |us: u64| (us > 0).then_some(us as f64 / 1e3);
        Second {
            seconds: sample.seconds,
            viewers: Some(sample.playing),
            mbit_per_s: (length > 0.0).then(|| sample.bytes as f64 * 8.0 / 1e6 / length),
            latency_p50_ms: timed(sample.p50_us),
            latency_p99_ms: timed(sample.p99_us),
            ..Second::default()
        }
    });
    let used = cost.iter().map(|sample| Second {
        seconds: sample.seconds,
        cpu_percent: Some(sample.cpu_percent),
        rss_mb: Some(sample.rss_bytes as f64 / 1e6),
        ..Second::default()
    });
    let mut all: Vec<Second> = seen.chain(used).collect();
    all.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
    all
}
