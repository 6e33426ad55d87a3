//! Pages of single runs: `play` and `cost`.

use super::html::{LineChart, Page, Series};
use super::{Machine, PlaySummary};
use crate::cost::{CostReport, CostSample};
use crate::swarm::SwarmSample;

/// What viewers saw, with their seconds.
#[must_use]
pub fn play_page(summary: &PlaySummary, samples: &[SwarmSample], machine: &Machine) -> Page {
    let mut page = Page::new("Play");
    let over = |value: &dyn Fn(&SwarmSample) -> Option<f64>| {
        let points = samples.iter();
        points
            .filter_map(|sample| Some((sample.seconds, value(sample)?)))
            .collect::<Vec<_>>()
    };
    let timed = |us: u64| move |_: &SwarmSample| (us > 0).then_some(us as f64 / 1e3);
    let mut latency = LineChart {
        is_logarithmic: true,
        ..LineChart::new("Latency", "ms")
    };
    let figures: [(&str, fn(&SwarmSample) -> u64); 3] = [
        ("p50", |sample| sample.p50_us),
        ("p99", |sample| sample.p99_us),
        ("max", |sample| sample.max_us),
    ];
    for (colour, (name, figure)) in figures.into_iter().enumerate() {
        let points = over(&|sample| timed(figure(sample))(sample));
        add(&mut latency, name, colour, points);
    }
    page.line_chart(latency);
    let mut viewers = LineChart::new("Viewers", "playing");
    add(
        &mut viewers,
        "playing",
        0,
        over(&|sample| Some(sample.playing as f64)),
    );
    page.line_chart(viewers);
    let mut rate = LineChart::new("Received", "Mbit in that second");
    let megabits = |sample: &SwarmSample| Some(sample.bytes as f64 * 8.0 / 1e6);
    add(&mut rate, "all viewers", 0, over(&megabits));
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
