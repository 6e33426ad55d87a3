//! The `[origin]` section of a node's configuration.

use std::path::PathBuf;
use std::time::Duration;

use headwater_media::window::Retention;

use crate::app::ApplicationsSection;
use crate::log::LogConfig;
use crate::record::RecordingSection;
use crate::state::StateSection;
use crate::store::StorageSection;
use crate::vod::VodSection;

/// How long the edge of a probed publisher may take for its answer on top of the silence that it was asked for: the way there
/// and back, and a timer that fires late on a busy machine.
const PROBE_SLACK: Duration = Duration::from_millis(500);

/// Most frames per stream, whatever their size: minutes of audio, and a bound on what tiny frames cost beyond their bytes.
const MAX_WINDOW_FRAMES: usize = 16_384;

headwater_node::section! {
    /// The origin: stream logs and who may use them.
    pub struct OriginSection {
        /// Where the origin keeps what must outlive it. Created if it is missing; the origin does not start where it cannot
        /// write.
        pub data_dir: PathBuf = PathBuf::from("data"),
        /// The least media time that a live stream keeps for readers that come back after a break, milliseconds. Must
        /// outlast the detection of a dead node (1 to 2 seconds) and the reconnects after it. What is older goes by whole
        /// groups of pictures; the newest group always stays, so that late joiners start with a picture.
        pub retention_ms: u64 = 4_000 => 500..=600_000,
        /// The most that one live stream keeps, bytes: at 20 Mbit/s still more than six seconds. Past it the oldest frames go.
        pub retention_bytes: usize = 16 << 20 => 65_536..=1 << 30,
        /// The most that all live streams together keep, bytes. Past it every stream keeps only its newest group of
        /// pictures and at most its equal share, and nobody may publish anew until there is room; publishers that are there,
        /// or come back, go on. Checked every second.
        pub memory_bytes: usize = 1 << 30 => 1 << 20..=1 << 40,
        /// How long a publisher whose connection broke may stay away before viewers are told that it is gone, milliseconds.
        pub publisher_grace_ms: u64 = 5_000 => 0..=300_000,
        /// How long a publisher must have been silent before another one may take its name, milliseconds.
        pub takeover_silence_ms: u64 = 2_000 => 100..=60_000,
        /// How long the log of a stream without publisher and readers stays in memory, milliseconds: a publisher that comes
        /// back within it goes on on the same timeline.
        pub log_linger_ms: u64 = 30_000 => 0..=3_600_000,
        /// How long a publisher may take to move to the stream's new owner before its viewers are sent there without it,
        /// milliseconds.
        pub handover_ms: u64 = 10_000 => 100..=300_000,
        /// The most streams at a time, those included for which viewers only wait.
        pub max_streams: usize = 20_000 => 1..=1_000_000,
        /// The most reads at a time. An edge has one per stream, however many viewers it has.
        pub max_readers: usize = 100_000 => 1..=4_000_000,
        /// Where recordings and media files are.
        pub storage: StorageSection = StorageSection::default(),
        /// Playing media files.
        pub vod: VodSection = VodSection::default(),
        /// How live streams are recorded.
        pub recording: RecordingSection = RecordingSection::default(),
        /// How the state of applications is kept.
        pub state: StateSection = StateSection::default(),
        /// Applications and their instances.
        pub applications: ApplicationsSection = ApplicationsSection::default(),
    }
    validate |section, problems| {
        if section.memory_bytes < section.retention_bytes {
            problems.push("memory_bytes", "must not be less than retention_bytes, what one stream may keep");
        }
    }
}

impl OriginSection {
    pub(crate) fn log_config(&self) -> LogConfig {
        LogConfig {
            retention: Retention {
                min_duration_ms: self.retention_ms,
                max_bytes: self.retention_bytes,
                max_frames: MAX_WINDOW_FRAMES,
            },
            publisher_grace: Duration::from_millis(self.publisher_grace_ms),
            takeover_silence: Duration::from_millis(self.takeover_silence_ms),
            probe_slack: PROBE_SLACK,
            handover: Duration::from_millis(self.handover_ms),
        }
    }

    pub(crate) fn linger(&self) -> Duration {
        Duration::from_millis(self.log_linger_ms)
    }
}

#[cfg(test)]
mod tests {
    use headwater_node::config::{Field, Problems};

    use super::*;

    fn problems(section: &OriginSection) -> Vec<String> {
        let mut problems = Problems::default();
        section.check(&mut problems);
        problems
            .into_vec()
            .into_iter()
            .map(|problem| problem.key)
            .collect()
    }

    #[test]
    fn the_defaults_are_valid_and_what_is_not_is_named() {
        assert_eq!(problems(&OriginSection::default()), [""; 0]);
        let bad = OriginSection {
            retention_bytes: 1 << 25,
            memory_bytes: 1 << 24,
            max_readers: 0,
            ..OriginSection::default()
        };
        assert_eq!(problems(&bad), ["max_readers", "memory_bytes"]);
    }
}
