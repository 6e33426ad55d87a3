//! Pages of single runs: `play` and `cost`.

use super::html::{LineChart, Page, Series};
use super::{Machine, PlaySummary};
use crate::cost::{CostReport, CostSample};
use crate::swarm::SwarmSample;

/// What viewers saw, with their seconds.
#[must_use]
pub fn play_page(summary: &PlaySummary, samples: &[SwarmSample], machine: &Machine) -> Page {
    let mut page = Page::new("Play");
    let over = |value: fn(&SwarmSample) -> Option<f64>| {
        let points = samples.iter();
        points
            .filter_map(|sample| Some((sample.seconds, value(sample)?)))
            .collect::<Vec<_>>()
    };
    let mut latency = LineChart {
        is_logarithmic: true,
        ..LineChart::new("Latency", "ms")
    };
    add(&mut latency, "p50", 0, over(|sample| timed(sample.p50_us)));
    add(&mut latency, "p99", 1, over(|sample| timed(sample.p99_us)));
    add(&mut latency, "max", 2, over(|sample| timed(sample.max_us)));
    page.line_chart(latency);
    let mut viewers = LineChart::new("Viewers", "playing");
    let playing = over(|sample| Some(sample.playing as f64));
    add(&mut viewers, "playing", 0, playing);
    page.line_chart(viewers);
    let mut rate = LineChart::new("Received", "Mbit in that second");
    let megabits = over(|sample| Some(sample.bytes as f64 * 8.0 / 1e6));
    add(&mut rate, "all viewers", 0, megabits);
    page.line_chart(rate);
    page.table(summary.table());
    add_machine(&mut page, machine);
    page
}

/// What processes cost, with their seconds.
#[must_use]
pub fn cost_page(report: &CostReport, samples: &[CostSample], machine: &Machine) -> Page {
    let mut page = Page::new("Cost");
    let mut cpu = LineChart::new("Processor time", "% of one processor");
    let points = samples.iter();
    let points = points.map(|sample| (sample.seconds, sample.cpu_percent));
    add(&mut cpu, "all processes", 0, points.collect());
    page.line_chart(cpu);
    let mut memory = LineChart::new("Memory", "MB");
    let points = samples.iter();
    let points = points.map(|sample| (sample.seconds, sample.rss_bytes as f64 / 1e6));
    add(&mut memory, "all processes", 0, points.collect());
    page.line_chart(memory);
    page.table(report.table());
    add_machine(&mut page, machine);
    page
}

/// Milliseconds; nothing if nothing was timed.
fn timed(us: u64) -> Option<f64> {
    (us > 0).then_some(us as f64 / 1e3)
}

fn add(chart: &mut LineChart, name: &str, colour: usize, points: Vec<(f64, f64)>) {
    chart.series.push(Series {
        name: name.to_owned(),
        colour,
        is_dashed: false,
        points,
    });
}

fn add_machine(page: &mut Page, machine: &Machine) {
    page.heading("Machine");
    page.facts(machine.facts());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_its_seconds_and_its_table() {
        let samples: Vec<SwarmSample> = (1..4)
            .map(|second| SwarmSample {
                seconds: f64::from(second),
                playing: 3,
                bytes: 1_000_000,
                p50_us: 900,
                // Nothing was timed in the first second.
                p99_us: if second == 1 { 0 } else { 2_000 },
                ..SwarmSample::default()
            })
            .collect();
        let summary = PlaySummary {
            viewers: 3,
            ..PlaySummary::default()
        };
        let page = play_page(&summary, &samples, &Machine::default()).to_string();
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("<th>viewers</th><td>3</td>"), "{page}");
        let points = |class: &str| {
            let start = page.find(class).unwrap();
            page[start..]
                .split("\">")
                .next()
                .unwrap()
                .matches('L')
                .count()
                + 1
        };
        assert_eq!((points("class=\"s0\""), points("class=\"s1\"")), (3, 2));
    }

    #[test]
    fn a_cost_has_its_seconds_and_its_table() {
        let samples = [CostSample {
            seconds: 1.0,
            cpu_percent: 12.0,
            rss_bytes: 1_000_000,
        }];
        let report = CostReport::default();
        let page = cost_page(&report, &samples, &Machine::default()).to_string();
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(page.contains("cpu per GB"), "{page}");
    }
}
