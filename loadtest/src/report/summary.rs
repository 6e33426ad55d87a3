//! Many clients' reports in one.

use std::time::Duration;

use serde::Serialize;

use super::tally::{Ending, Spread, Tally, milliseconds};
use super::{Table, bytes, count, micros, millis};
use crate::measure::{LatencyReport, SequenceReport};
use crate::publisher::PublisherReport;
use crate::viewer::ViewerReport;

/// What publishers did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PublishSummary {
    /// How many were started.
    pub publishers: u64,
    /// How many the server let publish.
    pub published: u64,
    /// How many never published.
    pub failed: u64,
    /// How many were cut off.
    pub disconnected: u64,
    /// From the start of connecting to the start of publishing.
    pub setup: Spread,
    /// Video frames sent.
    pub video_frames: u64,
    /// Audio frames sent.
    pub audio_frames: u64,
    /// Bytes of media sent.
    pub bytes: u64,
    /// Longest time that one published, in seconds.
    pub seconds: f64,
    /// The most that any frame was late.
    pub most_behind_ms: f64,
    /// Why publishers ended, if nobody stopped them.
    pub endings: Vec<Ending>,
    /// What the server said.
    pub statuses: Vec<Ending>,
}

impl PublishSummary {
    /// Of these reports.
    #[must_use]
    pub fn of(reports: &[PublisherReport]) -> Self {
        let mut summary = Self {
            publishers: reports.len() as u64,
            ..Self::default()
        };
        let (mut endings, mut statuses) = (Tally::default(), Tally::default());
        for report in reports {
            summary.published += u64::from(report.setup.is_some());
            if let Some(failure) = &report.failure {
                endings.add(&failure.to_string());
                match report.setup {
                    Some(_) => summary.disconnected += 1,
                    None => summary.failed += 1,
                }
            }
            statuses.add_statuses(&report.statuses);
            summary.video_frames += report.video_frames;
            summary.audio_frames += report.audio_frames;
            summary.bytes += report.bytes;
            summary.seconds = summary.seconds.max(report.published_for.as_secs_f64());
            summary.most_behind_ms = summary.most_behind_ms.max(milliseconds(report.most_behind));
        }
        summary.setup = Spread::of(reports.iter().filter_map(|report| report.setup).collect());
        summary.endings = endings.sorted();
        summary.statuses = statuses.sorted();
        summary
    }

    /// Whether all of them published until they were stopped.
    #[must_use]
    pub const fn is_without_loss(&self) -> bool {
        self.publishers > 0 && self.published == self.publishers && self.disconnected == 0
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new("publish");
        table.line("publishers", count(self.publishers));
        table.line("published", count(self.published));
        table.line("failed", count(self.failed));
        table.line("disconnected", count(self.disconnected));
        table.line("set-up", self.setup.to_string());
        table.line("video frames", count(self.video_frames));
        table.line("audio frames", count(self.audio_frames));
        table.line("media", volume(self.bytes, self.seconds));
        table.line("most behind", millis(self.most_behind_ms));
        add_endings(&mut table, &self.endings);
        table
    }
}

/// What viewers saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlaySummary {
    /// How many were started.
    pub viewers: u64,
    /// How many asked the server to play.
    pub connected: u64,
    /// How many saw a frame.
    pub playing: u64,
    /// How many ended before they saw a frame.
    pub failed: u64,
    /// How many were cut off after it.
    pub disconnected: u64,
    /// Length of the run in seconds, or of its window: what bytes, frames and latencies were counted in.
    pub seconds: f64,
    /// From the start of connecting to `play`.
    pub setup: Spread,
    /// From the start of connecting to the first frame.
    pub first_frame: Spread,
    /// Video frames that came.
    pub video_frames: u64,
    /// Audio frames that came.
    pub audio_frames: u64,
    /// Bytes that came.
    pub bytes: u64,
    /// Missing frames.
    pub missing: u64,
    /// Repeated frames.
    pub repeated: u64,
    /// Frames that came late.
    pub reordered: u64,
    /// The account of all video.
    pub video: SequenceReport,
    /// The account of all audio.
    pub audio: SequenceReport,
    /// Gaps of more than 0.5 s.
    pub stalls: u64,
    /// Gaps of more than 2 s, which are among the stalls.
    pub long_stalls: u64,
    /// The longest gap of any viewer.
    pub longest_gap_ms: f64,
    /// Frames that were older than their viewer.
    pub backlog: u64,
    /// End-to-end latency over all viewers.
    pub latency: LatencyReport,
    /// Why viewers ended, if nobody stopped them.
    pub endings: Vec<Ending>,
    /// What the server said.
    pub statuses: Vec<Ending>,
    /// Viewers that stopped reading on purpose. They are in none of the other figures.
    pub stopped: Option<StoppedSummary>,
}

/// What became of viewers that stopped reading their sockets and stayed connected.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StoppedSummary {
    /// How many stopped.
    pub viewers: u64,
    /// How many of them had seen a frame by then.
    pub had_played: u64,
    /// How many the server closed.
    pub closed: u64,
    /// From stopping to the end of the connection, of those where it could be told: a server on this machine, or one that broke the
    /// connection off. A close behind unread bytes cannot be seen from afar before they are read.
    pub closed_after: Spread,
    /// The last status of each that the server closed, as it was read afterwards; `none` where there was none after stopping.
    pub last_statuses: Vec<Ending>,
    /// How their connections ended.
    pub endings: Vec<Ending>,
}

impl PlaySummary {
    /// Of these reports, a run of this length, and the histogram that all viewers filled.
    #[must_use]
    pub fn of(reports: &[ViewerReport], length: Duration, latency: LatencyReport) -> Self {
        let mut summary = Self {
            viewers: reports.len() as u64,
            seconds: length.as_secs_f64(),
            latency,
            ..Self::default()
        };
        let (mut endings, mut statuses) = (Tally::default(), Tally::default());
        for report in reports {
            summary.connected += u64::from(report.setup.is_some());
            summary.playing += u64::from(report.first_frame.is_some());
            if let Some(reason) = &report.disconnected {
                endings.add(&reason.to_string());
                match report.first_frame {
                    Some(_) => summary.disconnected += 1,
                    None => summary.failed += 1,
                }
            }
            statuses.add_statuses(&report.statuses);
            summary.video_frames += report.video_frames;
            summary.audio_frames += report.audio_frames;
            summary.bytes += report.bytes;
            summary.missing = summary.missing.saturating_add(report.missing);
            summary.repeated = summary.repeated.saturating_add(report.repeated);
            summary.reordered = summary.reordered.saturating_add(report.reordered);
            summary.video.add(&report.video);
            summary.audio.add(&report.audio);
            summary.stalls += report.stalls;
            summary.long_stalls += report.long_stalls;
            summary.longest_gap_ms = summary.longest_gap_ms.max(milliseconds(report.longest_gap));
            summary.backlog += report.backlog;
        }
        let times = |of: fn(&ViewerReport) -> Option<Duration>| {
            Spread::of(reports.iter().filter_map(of).collect())
        };
        summary.setup = times(|report| report.setup);
        summary.first_frame = times(|report| report.first_frame);
        summary.endings = endings.sorted();
        summary.statuses = statuses.sorted();
        summary
    }

    /// Whether all viewers saw everything once and none was cut off.
    #[must_use]
    pub const fn is_without_loss(&self) -> bool {
        self.viewers > 0
            && self.playing == self.viewers
            && self.missing == 0
            && self.repeated == 0
            && self.disconnected == 0
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new("play");
        table.line("viewers", count(self.viewers));
        table.line("playing", count(self.playing));
        table.line("failed", count(self.failed));
        table.line("disconnected", count(self.disconnected));
        table.line("set-up", self.setup.to_string());
        table.line("first frame", self.first_frame.to_string());
        table.line("video frames", count(self.video_frames));
        table.line("audio frames", count(self.audio_frames));
        table.line("received", volume(self.bytes, self.seconds));
        if self.video.received == 0 && self.audio.received == 0 {
            table.line("missing", "unknown: no frame has a stamp");
        } else {
            table.line("missing", count(self.missing));
            table.line("repeated", count(self.repeated));
            table.line("out of order", count(self.reordered));
        }
        if self.video.restarts + self.audio.restarts > 0 {
            let restarts = self.video.restarts.max(self.audio.restarts);
            table.line("publisher restarts", count(restarts));
        }
        table.line("stalls > 0.5 s", count(self.stalls));
        table.line("stalls > 2 s", count(self.long_stalls));
        table.line("longest gap", millis(self.longest_gap_ms));
        add_latency(&mut table, &[&self.latency]);
        add_endings(&mut table, &self.endings);
        if let Some(stopped) = &self.stopped {
            stopped.add_to(&mut table);
        }
        if self.playing < self.viewers {
            // What those who see nothing were told.
            for status in &self.statuses {
                table.note(format!("{} x told: {}", count(status.count), status.what));
            }
        }
        table
    }
}

impl StoppedSummary {
    fn add_to(&self, table: &mut Table) {
        table.line("stopped reading", count(self.viewers));
        table.line("of them closed", count(self.closed));
        table.line("closed after", self.closed_after.to_string());
        for ending in &self.endings {
            let (number, what) = (count(ending.count), &ending.what);
            table.note(format!("{number} x stopped reading, then: {what}"));
        }
        for status in &self.last_statuses {
            let (number, what) = (count(status.count), &status.what);
            table.note(format!("{number} x stopped reading, last told: {what}"));
        }
    }
}

/// What one publisher and one viewer found together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    /// Through the server.
    pub server: LatencyReport,
    /// Through a bare socket in the same run.
    pub floor: Option<LatencyReport>,
    /// What the publisher did.
    pub publish: PublishSummary,
    /// What the viewer saw.
    pub play: PlaySummary,
    /// Frames at the end of the run that the publisher sent and the viewer never saw. They are among the missing ones of the viewer.
    pub missing_at_end: u64,
}

impl LatencySummary {
    /// Whether everything came once.
    #[must_use]
    pub const fn is_without_loss(&self) -> bool {
        self.publish.is_without_loss() && self.play.is_without_loss()
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new("latency");
        let mut reports = vec![&self.server];
        if let Some(floor) = &self.floor {
            table = table.columns(&["server", "floor", "difference"]);
            reports.push(floor);
        }
        add_latency(&mut table, &reports);
        table.line("missing", count(self.play.missing));
        table.line("repeated", count(self.play.repeated));
        table.line("longest gap", millis(self.play.longest_gap_ms));
        table.line("first frame", millis(self.play.first_frame.p50_ms));
        table.line("most behind", millis(self.publish.most_behind_ms));
        add_endings(&mut table, &self.publish.endings);
        add_endings(&mut table, &self.play.endings);
        table
    }
}

type Figure = fn(&LatencyReport) -> u64;

/// Lines of distributions side by side, with the difference of the first two.
fn add_latency(table: &mut Table, reports: &[&LatencyReport]) {
    let figures: [(&str, Figure); 4] = [
        ("latency p50", |report| report.p50_us),
        ("latency p90", |report| report.p90_us),
        ("latency p99", |report| report.p99_us),
        ("latency max", |report| report.max_us),
    ];
    for (label, figure) in figures {
        let mut cells: Vec<String> = reports
            .iter()
            .map(|report| match report.count {
                0 => "-".to_owned(),
                _ => micros(figure(report)),
            })
            .collect();
        if let [server, floor] = reports
            && server.count > 0
            && floor.count > 0
        {
            let (server, floor) = (figure(server), figure(floor));
            let sign = if server < floor { "-" } else { "+" };
            cells.push(format!("{sign}{}", micros(server.abs_diff(floor))));
        }
        table.row(label, cells);
    }
    let timed = reports.iter().map(|report| count(report.count)).collect();
    table.row("frames timed", timed);
    if reports.iter().any(|report| report.foreign_clock > 0) {
        let foreign = reports.iter().map(|report| count(report.foreign_clock));
        table.row("of another clock", foreign.collect());
    }
}

pub(super) fn add_endings(table: &mut Table, endings: &[Ending]) {
    for ending in endings {
        table.note(format!("{} x ended: {}", count(ending.count), ending.what));
    }
}

pub(super) fn volume(amount: u64, seconds: f64) -> String {
    if seconds <= 0.0 {
        return bytes(amount);
    }
    let rate = amount as f64 * 8.0 / seconds / 1e6;
    format!("{} ({rate:.1} Mbit/s)", bytes(amount))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientError;

    fn viewer(missing: u64, disconnected: Option<ClientError>) -> ViewerReport {
        ViewerReport {
            setup: Some(Duration::from_millis(2)),
            first_frame: Some(Duration::from_millis(12)),
            video_frames: 100,
            bytes: 1_000_000,
            missing,
            longest_gap: Duration::from_millis(41),
            disconnected,
            ..ViewerReport::default()
        }
    }

    #[test]
    fn the_goal_is_missed_by_any_loss() {
        let summary = |reports: &[ViewerReport]| {
            PlaySummary::of(reports, Duration::from_secs(10), LatencyReport::default())
        };
        assert!(summary(&[viewer(0, None), viewer(0, None)]).is_without_loss());
        for (what, report) in [
            ("missing", viewer(1, None)),
            ("cut off", viewer(0, Some(ClientError::Closed))),
            (
                "repeated",
                ViewerReport {
                    repeated: 1,
                    ..viewer(0, None)
                },
            ),
            ("saw nothing", ViewerReport::default()),
        ] {
            let one = summary(&[viewer(0, None), report]);
            assert!(!one.is_without_loss(), "{what}");
        }
        assert!(!summary(&[]).is_without_loss());
        assert!(!PublishSummary::of(&[]).is_without_loss());
        assert!(!PublishSummary::of(&[PublisherReport::default()]).is_without_loss());
    }

    #[test]
    fn a_play_table_tells_what_happened() {
        let refused = ClientError::Refused {
            code: "NetStream.Play.StreamNotFound".into(),
            description: "gone".into(),
        };
        let reports = [
            viewer(3, None),
            ViewerReport {
                disconnected: Some(refused),
                ..ViewerReport::default()
            },
        ];
        let latency = LatencyReport {
            count: 10,
            p50_us: 120,
            p90_us: 800,
            p99_us: 1_500,
            max_us: 2_000,
            ..LatencyReport::default()
        };
        let mut summary = PlaySummary::of(&reports, Duration::from_secs(4), latency);
        assert_eq!(
            (summary.failed, summary.disconnected, summary.playing),
            (1, 0, 1)
        );
        summary.video.received = 100;
        let text = summary.table().to_string();
        for line in [
            "viewers",
            "1.00 MB (2.0 Mbit/s)",
            "missing",
            "41.0 ms",
            "120 us",
            "1.50 ms",
            "1 x ended: refused: NetStream.Play.StreamNotFound: gone",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!text.contains("another clock"));
    }

    #[test]
    fn a_latency_table_tells_the_difference_to_the_floor() {
        let report = |p50_us| LatencyReport {
            count: 5,
            p50_us,
            p90_us: p50_us,
            p99_us: p50_us,
            max_us: p50_us,
            ..LatencyReport::default()
        };
        let summary = LatencySummary {
            server: report(1_300),
            floor: Some(report(50)),
            ..LatencySummary::default()
        };
        let text = summary.table().to_string();
        assert!(text.contains("+1.25 ms"), "{text}");
        let summary = LatencySummary {
            server: report(10),
            floor: Some(report(50)),
            ..LatencySummary::default()
        };
        assert!(summary.table().to_string().contains("-40 us"));
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["server"]["p50_us"], 10);
        assert_eq!(json["play"]["viewers"], 0);
    }
}
