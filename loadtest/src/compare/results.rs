//! What a comparison found: every single run, and medians. This is also the JSON that is written.

use std::collections::BTreeMap;

use serde::Serialize;

use super::figures::{Figure, Figures, Median, medians, put};
use super::schema::{RunKind, Scenario};
use crate::cost::CostReport;
use crate::report::{ConnectSummary, Machine, PlaySummary, PublishSummary};

/// What is varied within a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Case {
    /// Viewers; 0 where connections are measured.
    pub viewers: usize,
    /// Viewers of those that stop reading.
    pub stop_reading: usize,
    /// Connections per second, 0 for as fast as they are made; `None` where viewers are measured.
    pub rate: Option<u32>,
}

impl Case {
    /// All of a scenario, in its order.
    #[must_use]
    pub fn all(scenario: &Scenario) -> Vec<Self> {
        let run = &scenario.run;
        if run.kind == RunKind::Connect {
            let rates = run.rates.iter();
            return rates
                .map(|&rate| Self {
                    rate: Some(rate),
                    ..Self::default()
                })
                .collect();
        }
        let stopping: &[usize] = if run.stop_reading.is_empty() {
            &[0]
        } else {
            &run.stop_reading
        };
        let pairs = run.viewers.iter().flat_map(|&viewers| {
            stopping.iter().map(move |&stop_reading| Self {
                viewers,
                stop_reading,
                rate: None,
            })
        });
        pairs.collect()
    }

    /// For people.
    #[must_use]
    pub fn label(&self) -> String {
        match (self.rate, self.stop_reading) {
            (Some(0), _) => "connections, closed loop".to_owned(),
            (Some(rate), _) => format!("{rate} connections/s"),
            (None, 0) => format!("{} viewers", self.viewers),
            (None, stopped) => format!("{} viewers, {stopped} stop reading", self.viewers),
        }
    }
}

/// One second of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    /// Since the first viewer was started.
    pub seconds: f64,
    /// Viewers that played.
    pub viewers: Option<u64>,
    /// What they got.
    pub mbit_per_s: Option<f64>,
    /// Half of the video frames took no longer.
    pub latency_p50_ms: Option<f64>,
    /// 99 of 100 video frames took no longer.
    pub latency_p99_ms: Option<f64>,
    /// Processor time of the server.
    pub cpu_percent: Option<f64>,
    /// Memory of the server.
    pub rss_mb: Option<f64>,
}

/// One measurement of one server.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Run {
    /// The server.
    pub server: String,
    /// What was varied.
    pub case: Case,
    /// The round, from 1.
    pub round: u32,
    /// Why there is no result.
    pub error: Option<String>,
    /// What is to be known besides.
    pub notes: Vec<String>,
    /// What servers are compared by.
    pub figures: Figures,
    /// When the measurement began and ended, in seconds since the first viewer was started.
    pub window: (f64, f64),
    /// What the viewers saw.
    pub play: Option<PlaySummary>,
    /// How connections were made.
    pub connect: Option<ConnectSummary>,
    /// What the publisher did.
    pub publish: Option<PublishSummary>,
    /// What it cost.
    pub cost: Option<CostReport>,
    /// How it went, second by second.
    pub samples: Vec<Second>,
}

/// All rounds of one server and case.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The server.
    pub server: String,
    /// What was varied.
    pub case: Case,
    /// What the ratio is to.
    pub baseline: Option<String>,
    /// Runs with a result.
    pub runs: usize,
    /// Runs without one.
    pub failed_runs: usize,
    /// Medians over the rounds.
    pub figures: BTreeMap<Figure, Median>,
}

/// A whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What was compared.
    pub scenario: Scenario,
    /// On what.
    pub machine: Machine,
    /// Version of this program.
    pub version: &'static str,
    /// When it began, in seconds since 1970.
    pub begun_unix: u64,
    /// Whether somebody interrupted it.
    pub interrupted: bool,
    /// Medians, case by case in the order of the scenario.
    pub summaries: Vec<Summary>,
    /// Every run, in the order in which they were made.
    pub runs: Vec<Run>,
}

impl Comparison {
    /// Puts the runs together.
    pub(super) fn new(
        scenario: Scenario,
        machine: Machine,
        begun_unix: u64,
        interrupted: bool,
        mut runs: Vec<Run>,
    ) -> Self {
        add_ratios(&scenario, &mut runs);
        let mut summaries = Vec::new();
        for case in Case::all(&scenario) {
            for server in &scenario.servers {
                let of = runs
                    .iter()
                    .filter(|run| run.case == case && run.server == server.name);
                let (good, bad): (Vec<&Run>, Vec<&Run>) = of.partition(|run| run.error.is_none());
                let figures: Vec<&Figures> = good.iter().map(|run| &run.figures).collect();
                summaries.push(Summary {
                    server: server.name.clone(),
                    case,
                    baseline: scenario.baseline_of(server).map(str::to_owned),
                    runs: good.len(),
                    failed_runs: bad.len(),
                    figures: medians(&figures),
                });
            }
        }
        Self {
            scenario,
            machine,
            version: env!("CARGO_PKG_VERSION"),
            begun_unix,
            interrupted,
            summaries,
            runs,
        }
    }

    /// Whether every run has a result.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.interrupted && self.runs.iter().all(|run| run.error.is_none())
    }

    /// The run that is in the middle by its cost, or by its latency where the cost is unknown: the one to draw.
    #[must_use]
    pub fn typical_run(&self, server: &str, case: Case) -> Option<&Run> {
        let by = |run: &Run| {
            let figures = [
                Figure::CpuSecondsPerGb,
                Figure::LatencyP99Ms,
                Figure::SetupP50Ms,
            ];
            let mut values = figures.iter().filter_map(|figure| run.figures.get(figure));
            values.next().copied().unwrap_or(0.0)
        };
        let mut runs: Vec<&Run> = self
            .runs
            .iter()
            .filter(|run| run.case == case && run.server == server && run.error.is_none())
            .collect();
        runs.sort_by(|one, other| by(one).total_cmp(&by(other)));
        runs.get(runs.len().saturating_sub(1) / 2).copied()
    }
}

/// Compares each run with the baseline's run of the same round: the speed of a machine drifts.
fn add_ratios(scenario: &Scenario, runs: &mut [Run]) {
    let cost = match scenario.run.kind {
        RunKind::Play => Figure::CpuSecondsPerGb,
        RunKind::Connect => Figure::CpuUsPerConnection,
    };
    let costs: Vec<(String, Case, u32, f64)> = runs
        .iter()
        .filter(|run| run.error.is_none())
        .filter_map(|run| {
            let cost = run.figures.get(&cost)?;
            Some((run.server.clone(), run.case, run.round, *cost))
        })
        .collect();
    for run in runs {
        let server = scenario.servers.iter().find(|one| one.name == run.server);
        let Some(baseline) = server.and_then(|server| scenario.baseline_of(server)) else {
            continue;
        };
        let base = costs.iter().find(|(name, case, round, _)| {
            name == baseline && (*case, *round) == (run.case, run.round)
        });
        if let (Some((.., base)), Some(&own)) = (base, run.figures.get(&cost)) {
            put(&mut run.figures, Figure::Ratio, own / base);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const SCENARIO: &str = r#"
title = "two servers"
description = "a <b> & c"
baseline = "floor"
[run]
kind = "play"
rounds = 3
viewers = [10, 20]
[[server]]
name = "floor"
kind = "floor"
[[server]]
name = "other"
publish = "rtmp://127.0.0.1/live/a"
play = "rtmp://127.0.0.1/live/a"
"#;

    fn run(server: &str, viewers: usize, round: u32, cost: f64) -> Run {
        Run {
            server: server.to_owned(),
            case: Case {
                viewers,
                ..Case::default()
            },
            round,
            figures: Figures::from([
                (Figure::CpuSecondsPerGb, cost),
                (Figure::LatencyP99Ms, cost * 3.0),
            ]),
            window: (1.0, 3.0),
            samples: (0..4)
                .map(|second| Second {
                    seconds: f64::from(second),
                    viewers: Some(viewers as u64),
                    cpu_percent: Some(10.0),
                    latency_p50_ms: (second > 0).then_some(1.0),
                    latency_p99_ms: (second > 0).then_some(2.0),
                    ..Second::default()
                })
                .collect(),
            ..Run::default()
        }
    }

    /// Two servers, two cases, three rounds; one run failed.
    pub(in crate::compare) fn sample() -> Comparison {
        let scenario = Scenario::parse(SCENARIO, "sample", &[]).unwrap();
        let mut runs = Vec::new();
        for (round, drift) in [(1, 1.0), (2, 1.5), (3, 1.2)] {
            for viewers in [10, 20] {
                runs.push(run("floor", viewers, round, drift));
                runs.push(run("other", viewers, round, 2.0 * drift));
            }
        }
        let last = runs.last_mut().unwrap();
        last.error = Some("its process <server> ended".to_owned());
        last.figures.clear();
        Comparison::new(scenario, Machine::default(), 0, false, runs)
    }

    #[test]
    fn ratios_are_to_the_same_round() {
        let comparison = sample();
        assert!(!comparison.is_complete());
        assert_eq!(comparison.summaries.len(), 4);
        for summary in &comparison.summaries {
            let ratio = summary.figures[&Figure::Ratio];
            let expected = if summary.server == "floor" { 1.0 } else { 2.0 };
            // The drift is in the cost, not in the ratio.
            assert_eq!(
                (ratio.least, ratio.most),
                (expected, expected),
                "{summary:?}"
            );
            assert!(summary.figures[&Figure::CpuSecondsPerGb].most > expected);
        }
        let last = comparison.summaries.last().unwrap();
        assert_eq!((last.runs, last.failed_runs), (2, 1));
    }

    #[test]
    fn the_typical_run_is_the_one_in_the_middle() {
        let comparison = sample();
        let case = comparison.summaries[0].case;
        let run = comparison.typical_run("floor", case).unwrap();
        assert_eq!(run.round, 3);
        assert!(comparison.typical_run("none", case).is_none());
    }

    #[test]
    fn cases_are_all_combinations() {
        let mut scenario = Scenario::parse(SCENARIO, "sample", &[]).unwrap();
        scenario.run.stop_reading = vec![0, 2];
        let labels: Vec<String> = Case::all(&scenario).iter().map(Case::label).collect();
        assert_eq!(
            labels,
            [
                "10 viewers",
                "10 viewers, 2 stop reading",
                "20 viewers",
                "20 viewers, 2 stop reading"
            ]
        );
        scenario.run.kind = RunKind::Connect;
        scenario.run.rates = vec![500, 0];
        let labels: Vec<String> = Case::all(&scenario).iter().map(Case::label).collect();
        assert_eq!(labels, ["500 connections/s", "connections, closed loop"]);
    }
}
