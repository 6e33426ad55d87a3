//! A comparison as one table: a line for each case and server.

use super::figures::{Figure, Median};
use super::results::{Comparison, Summary};
use super::schema::RunKind;
use crate::report::Table;

/// Above this share of a processor the viewers may have been late themselves.
const HARNESS_FULL: f64 = 90.0;

/// A frame that was published later than this blurs latencies.
const PUBLISHER_LATE_MS: f64 = 20.0;

/// What the headings of [`PLAY`] are short for.
const LEGEND: [&str; 2] = [
    "ms/v s: processor time for each viewer and second; ms p50...: latency of video; kB each: memory that each viewer added;",
    "first ms: time to the first frame; put off: times that the server had to let another process run",
];

type Cell = fn(&Summary) -> String;

const PLAY: [(&str, Cell); 15] = [
    ("CPU % (min-max)", cpu),
    ("s/GB", |of| one(of, Figure::CpuSecondsPerGb, 3)),
    ("ms/v s", |of| one(of, Figure::CpuMsPerViewerSecond, 3)),
    ("x base", |of| one(of, Figure::Ratio, 2)),
    ("Mbit/s", |of| one(of, Figure::MbitPerS, 0)),
    ("fps", |of| one(of, Figure::FpsPerViewer, 2)),
    ("ms p50/p90/p99/max", latency),
    ("missing", |of| worst(of, Figure::Missing)),
    ("twice", |of| worst(of, Figure::Repeated)),
    ("stalls", |of| worst(of, Figure::Stalls)),
    ("cut off", |of| worst(of, Figure::Disconnected)),
    ("failed", |of| worst(of, Figure::Failed)),
    ("kB each", |of| one(of, Figure::RssKbPerViewer, 1)),
    ("first ms p50/p99", |of| {
        several(of, &[Figure::FirstFrameP50Ms, Figure::FirstFrameP99Ms], 0)
    }),
    ("waits/s+put off", |of| {
        let figures = [Figure::WaitsPerS, Figure::PreemptionsPerS];
        several(of, &figures, 0).replace('/', "+")
    }),
];

const CONNECT: [(&str, Cell); 6] = [
    ("achieved/s", |of| one(of, Figure::ConnectionsPerS, 0)),
    ("set-up ms p50/p99", |of| {
        several(of, &[Figure::SetupP50Ms, Figure::SetupP99Ms], 1)
    }),
    ("CPU us/connection", |of| {
        one(of, Figure::CpuUsPerConnection, 0)
    }),
    ("x base", |of| one(of, Figure::Ratio, 2)),
    ("CPU % (min-max)", cpu),
    ("failed", |of| worst(of, Figure::Failed)),
];

const STOPPED: (&str, Cell) = ("stopped closed", |of| one(of, Figure::StoppedClosed, 0));

impl Comparison {
    /// For people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut columns: Vec<(&str, Cell)> = match self.scenario.run.kind {
            RunKind::Play => PLAY.to_vec(),
            RunKind::Connect => CONNECT.to_vec(),
        };
        if self.summaries.iter().any(|one| one.case.stop_reading > 0) {
            columns.push(STOPPED);
        }
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let mut table = Table::new(self.scenario.title.clone())
            .corner("server")
            .columns(&names);
        let mut case = None;
        for summary in &self.summaries {
            if case != Some(summary.case) {
                table.row(summary.case.label(), Vec::new());
                case = Some(summary.case);
            }
            let cells = columns.iter().map(|(_, cell)| {
                if summary.runs == 0 {
                    "-".to_owned()
                } else {
                    cell(summary)
                }
            });
            table.row(format!("  {}", summary.server), cells.collect());
        }
        for note in self.notes() {
            table.note(note);
        }
        table
    }

    /// What is to be known when the table is read.
    fn notes(&self) -> Vec<String> {
        let rounds = self.scenario.run.rounds;
        let mut notes = vec![format!(
            "medians of {rounds} rounds; of missing, twice, stalls, cut off and failed the most"
        )];
        if self.scenario.run.kind == RunKind::Play {
            notes.extend(LEGEND.map(str::to_owned));
        }
        let baselines: std::collections::BTreeSet<&str> = self
            .summaries
            .iter()
            .filter_map(|summary| summary.baseline.as_deref())
            .collect();
        if !baselines.is_empty() {
            let names: Vec<&str> = baselines.into_iter().collect();
            let per = match self.scenario.run.kind {
                RunKind::Play => "byte",
                RunKind::Connect => "connection",
            };
            let names = names.join(" or ");
            notes.push(format!(
                "x base: processor time per {per} over that of {names} in the same round"
            ));
        }
        if self.interrupted {
            notes.push("interrupted: rounds are missing".to_owned());
        }
        let high = |figure, limit| {
            let summaries = self.summaries.iter();
            summaries
                .filter(|summary| most(summary, figure).is_some_and(|most| most > limit))
                .map(|summary| format!("{} at {}", summary.server, summary.case.label()))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let full = high(Figure::HarnessCpuPercent, self.harness_limit());
        if !full.is_empty() {
            notes.push(format!(
                "the viewers' own processors were full, so latency is theirs as well: {full}"
            ));
        }
        let late = high(Figure::PublisherBehindMs, PUBLISHER_LATE_MS);
        if !late.is_empty() {
            notes.push(format!(
                "frames were published more than {PUBLISHER_LATE_MS} ms late: {late}"
            ));
        }
        for run in &self.runs {
            let place = format!("{}, {}, round {}", run.server, run.case.label(), run.round);
            let error = run.error.iter().map(|error| format!("no result: {error}"));
            for text in error.chain(run.notes.iter().cloned()) {
                notes.push(format!("{place}: {text}"));
            }
        }
        notes
    }

    /// Percent of one processor at which the harness counts as full.
    fn harness_limit(&self) -> f64 {
        let cpus = &self.scenario.harness.cpus;
        let processors = if cpus.is_empty() {
            self.machine.processors
        } else {
            cpus.len()
        };
        HARNESS_FULL * processors.max(1) as f64
    }
}

fn median(summary: &Summary, figure: Figure) -> Option<f64> {
    summary.figures.get(&figure).map(|median| median.median)
}

fn most(summary: &Summary, figure: Figure) -> Option<f64> {
    summary.figures.get(&figure).map(|median| median.most)
}

fn written(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn one(summary: &Summary, figure: Figure, digits: usize) -> String {
    written(median(summary, figure), digits)
}

fn worst(summary: &Summary, figure: Figure) -> String {
    written(most(summary, figure), 0)
}

fn several(summary: &Summary, figures: &[Figure], digits: usize) -> String {
    let figures = figures.iter();
    let cells: Vec<String> = figures
        .map(|&figure| one(summary, figure, digits))
        .collect();
    if cells.iter().all(|cell| cell == "-") {
        return "-".to_owned();
    }
    cells.join("/")
}

fn cpu(summary: &Summary) -> String {
    summary.figures.get(&Figure::CpuPercent).map_or_else(
        || "-".to_owned(),
        |&Median {
             median,
             least,
             most,
         }| format!("{median:.1} ({least:.1}-{most:.1})"),
    )
}

fn latency(summary: &Summary) -> String {
    let figures = [
        Figure::LatencyP50Ms,
        Figure::LatencyP90Ms,
        Figure::LatencyP99Ms,
        Figure::LatencyMaxMs,
    ];
    several(summary, &figures, 1)
}

#[cfg(test)]
mod tests {
    use crate::compare::results::tests::sample;

    #[test]
    fn each_case_and_server_has_a_line() {
        let text = sample().table().to_string();
        for part in [
            "two servers",
            "10 viewers",
            "20 viewers",
            "medians of 3 rounds",
            "over that of floor in the same round",
            "other, 20 viewers, round 3: no result: its process <server> ended",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let line = text.lines().find(|line| line.trim().starts_with("other"));
        let line = line.unwrap();
        assert!(line.contains("2.400") && line.contains("2.00"), "{line}");
        let markdown = sample().table().markdown();
        assert!(markdown.contains("|   other |"), "{markdown}");
    }
}
