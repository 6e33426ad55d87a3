//! A comparison as a page: bars for each server and case, lines over time, the table, and what it all ran on.

use super::figures::{Figure, Median};
use super::results::{Case, Comparison, Run, Second};
use super::schema::RunKind;
use crate::report::html::{Bar, BarChart, BarGroup, LineChart, Page, Series};
use crate::report::{Table, utc};

/// Threads of a server that the page shows: the rest has done next to nothing.
const MAX_THREADS: usize = 6;

/// One value of each second.
type Value = fn(&Second) -> Option<f64>;

impl Comparison {
    /// For people with a browser.
    #[must_use]
    pub fn page(&self) -> Page {
        let mut page = Page::new(self.scenario.title.clone());
        page.text(self.scenario.description.clone());
        page.heading("Cost and latency");
        let bars: &[(&str, &str, Figure, bool)] = match self.scenario.run.kind {
            RunKind::Play => &[
                ("Processor time per GB", "s", Figure::CpuSecondsPerGb, false),
                (
                    "Latency p99",
                    "ms, by powers of ten",
                    Figure::LatencyP99Ms,
                    true,
                ),
                (
                    "Processor time",
                    "% of one processor",
                    Figure::CpuPercent,
                    false,
                ),
                ("Memory per viewer", "kB", Figure::RssKbPerViewer, false),
            ],
            RunKind::Connect => &[
                (
                    "Processor time per connection",
                    "us",
                    Figure::CpuUsPerConnection,
                    false,
                ),
                (
                    "Set-up p99",
                    "ms, by powers of ten",
                    Figure::SetupP99Ms,
                    true,
                ),
                ("Connections", "per second", Figure::ConnectionsPerS, false),
            ],
        };
        for &(title, unit, figure, is_logarithmic) in bars {
            page.bar_chart(self.bars(title, unit, figure, is_logarithmic));
        }
        page.heading("Figures");
        page.table(self.table());
        self.add_time(&mut page);
        page.heading("Machine");
        let mut facts = self.machine.facts();
        facts.push(("headwater-loadtest".to_owned(), self.version.to_owned()));
        facts.push(("begun".to_owned(), utc(self.begun_unix)));
        page.facts(facts);
        // What it was really run with, overrides included.
        if let Ok(text) = toml::to_string_pretty(&self.scenario) {
            page.verbatim("The scenario", text);
        }
        page
    }

    fn bars(&self, title: &str, unit: &str, figure: Figure, is_logarithmic: bool) -> BarChart {
        let groups = Case::all(&self.scenario).into_iter().map(|case| {
            let of_case = self.summaries.iter().filter(|one| one.case == case);
            let bars = of_case.enumerate().map(|(colour, summary)| {
                let found = summary.figures.get(&figure);
                Bar {
                    name: summary.server.clone(),
                    colour,
                    value: found.map(|found| found.median),
                    range: found.map(|&Median { least, most, .. }| (least, most)),
                }
            });
            BarGroup {
                label: case.label(),
                bars: bars.collect(),
            }
        });
        BarChart {
            title: title.to_owned(),
            unit: unit.to_owned(),
            is_logarithmic,
            groups: groups.collect(),
        }
    }

    /// Lines over time of the run in the middle of each server.
    fn add_time(&self, page: &mut Page) {
        for case in Case::all(&self.scenario) {
            let servers = self.scenario.servers.iter().enumerate();
            let runs: Vec<(usize, &Run)> = servers
                .filter_map(|(colour, server)| {
                    Some((colour, self.typical_run(&server.name, case)?))
                })
                .filter(|(_, run)| !run.samples.is_empty())
                .collect();
            if runs.is_empty() {
                continue;
            }
            page.heading(format!("{} over time", case.label()));
            page.text(
                "Of each server the round in the middle by its cost. Seconds count from the start of the first viewer.",
            );
            let latency: &[(&str, Value, bool)] = &[
                (" p50", |second| second.latency_p50_ms, true),
                (" p99", |second| second.latency_p99_ms, false),
            ];
            let cpu: &[(&str, Value, bool)] = &[("", |second| second.cpu_percent, false)];
            let viewers: &[(&str, Value, bool)] =
                &[("", |second| second.viewers.map(|count| count as f64), false)];
            let memory: &[(&str, Value, bool)] = &[("", |second| second.rss_mb, false)];
            for (title, unit, is_logarithmic, lines) in [
                ("Latency", "ms", true, latency),
                ("Processor time", "% of one processor", false, cpu),
                ("Viewers", "playing", false, viewers),
                ("Memory", "MB", false, memory),
            ] {
                let series = series(&runs, lines);
                if !series.is_empty() {
                    page.line_chart(LineChart {
                        title: title.to_owned(),
                        unit: unit.to_owned(),
                        is_logarithmic,
                        series,
                    });
                }
            }
            if let Some(table) = threads(&runs) {
                page.table(table);
            }
        }
    }
}

/// Where the processor time went, of each server the busiest threads.
fn threads(runs: &[(usize, &Run)]) -> Option<Table> {
    let mut table = Table::new("processor time of threads")
        .corner("server and thread")
        .columns(&["% of one processor", "% of the server's"]);
    let mut is_empty = true;
    for (_, run) in runs {
        let threads = run.cost.iter().flat_map(|cost| &cost.threads);
        for thread in threads.take(MAX_THREADS) {
            is_empty = false;
            table.row(
                format!("{}: {}", run.server, thread.name),
                vec![
                    format!("{:.1}", thread.cpu_percent),
                    format!("{:.0}", thread.share_percent),
                ],
            );
        }
    }
    (!is_empty).then_some(table)
}

fn series(runs: &[(usize, &Run)], lines: &[(&str, Value, bool)]) -> Vec<Series> {
    let mut all = Vec::new();
    for &(colour, run) in runs {
        for &(suffix, value, is_dashed) in lines {
            let points = run.samples.iter();
            let points: Vec<(f64, f64)> = points
                .filter_map(|second| Some((second.seconds, value(second)?)))
                .collect();
            if !points.is_empty() {
                all.push(Series {
                    name: format!("{}{suffix}", run.server),
                    colour,
                    is_dashed,
                    points,
                });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use crate::compare::results::tests::sample;

    #[test]
    fn a_page_has_everything() {
        let page = sample().page().to_string();
        for part in [
            "<h1>two servers</h1>",
            "<p>a &lt;b&gt; &amp; c</p>",
            "Processor time per GB",
            "Latency p99",
            "10 viewers over time",
            "20 viewers over time",
            "other p50",
            "its process &lt;server&gt; ended",
            "<dt>kernel</dt>",
            "The scenario",
        ] {
            assert!(page.contains(part), "{part}");
        }
        // Four charts of bars, and of each case three of lines: nobody measured the memory.
        assert_eq!(page.matches("<svg").count(), 4 + 2 * 3);
        // Latency has two lines for each server, the others one.
        assert_eq!(page.matches("class=\"s0").count(), 2 * 4, "{page}");
        assert!(!page.contains("http"), "{page}");
    }
}
