//! The `[origin.recording]` section of a node's configuration.

use std::time::Duration;

use super::archive::ArchiveConfig;

headwater_node::section! {
    /// Recording live streams: publishers that ask for `record`, `append` or `appendWithGap`. Where a limit ends a recording,
    /// the live stream goes on, and what was stored becomes a file.
    pub struct RecordingSection {
        /// The media time of one part of a recording in the store, milliseconds; it ends where the next key frame comes, or after
        /// twice as long. In a store that is not on this machine, so much of each recorded stream waits in the memory of
        /// its publisher's edge.
        pub segment_ms: u64 = 4_000 => 500..=60_000,
        /// The size at which a part of a recording ends, bytes of frames. Parts are written, and read again, as a whole.
        pub segment_bytes: usize = 8 << 20 => 65_536..=64 << 20,
        /// How often what was recorded is made durable, milliseconds. So much of a recording can be lost when the origin and the
        /// publisher's edge die together; and an edge keeps at least so much of each recorded stream in memory.
        pub sync_ms: u64 = 250 => 10..=10_000,
        /// How much may wait for a store that is slow, by recording, bytes of frames. Past it the recording fails.
        pub buffer_bytes: usize = 64 << 20 => 1 << 20..=1 << 30,
        /// How much may wait for the store in all recordings together, bytes of frames. Past it those fail whose frames come
        /// next.
        pub buffers_bytes: usize = 1 << 30 => 1 << 20..=1 << 40,
        /// The most recordings at a time; others are refused. 0: no limit.
        pub max_recordings: usize = 1_000 => 0..=100_000,
        /// The longest recording, milliseconds of media time, with what an `append` goes on behind. 0: no limit.
        pub max_duration_ms: u64 = 0 => 0..=31_536_000_000,
        /// The largest recording, bytes of frames, without what an `append` goes on behind. 0: no limit.
        pub max_recording_bytes: u64 = 0 => 0..=1 << 50,
        /// The free space on the disk below which recordings end, bytes. 0: none is kept free. While others record, a recording
        /// is made a file only where so much is free afterwards; until then its parts stay, and are played. Where the store is
        /// not on this machine it does not apply: recordings go on without the disk, but what is in no part yet is then lost if
        /// the origin and the publisher's edge die together.
        pub min_free_bytes: u64 = 256 << 20 => 0..=1 << 50,
        /// Whether a publisher who does not record erases the recording that is stored under the stream's name. Adobe's servers
        /// do so if not told otherwise (`EraseOnPublish`); here nothing is lost unless asked for.
        pub erase_on_publish: bool = false,
        /// How long a recording that a crash of the origin cut off waits for its publisher before it is made a file, milliseconds.
        pub recovery_grace_ms: u64 = 15_000 => 0..=3_600_000,
        /// The most recordings that are made files at a time. Each reads and writes as fast as the store lets it.
        pub max_composing: usize = 2 => 1..=64,
        /// How long the parts of a recording stay after it was made a file, milliseconds, for viewers that read them.
        pub parts_linger_ms: u64 = 10_000 => 0..=3_600_000,
    }
    validate |section, problems| {
        if section.buffer_bytes < section.segment_bytes.saturating_mul(2) {
            problems.push("buffer_bytes", "must not be less than twice segment_bytes: one part waits while the next comes");
        }
        if section.buffers_bytes < section.buffer_bytes {
            problems.push("buffers_bytes", "must not be less than buffer_bytes, what one recording may keep");
        }
    }
}

impl RecordingSection {
    pub(crate) fn archive(&self) -> ArchiveConfig {
        ArchiveConfig {
            segment_ms: self.segment_ms,
            segment_bytes: self.segment_bytes,
            held_bytes: self.buffer_bytes,
            sync_ms: self.sync_ms,
            ..ArchiveConfig::default()
        }
    }

    pub(crate) fn sync(&self) -> Duration {
        Duration::from_millis(self.sync_ms)
    }

    pub(crate) fn recovery_grace(&self) -> Duration {
        Duration::from_millis(self.recovery_grace_ms)
    }

    pub(crate) fn parts_linger(&self) -> Duration {
        Duration::from_millis(self.parts_linger_ms)
    }
}

#[cfg(test)]
mod tests {
    use headwater_node::config::{Field, Problems};

    use super::*;

    fn problems(section: &RecordingSection) -> Vec<String> {
        let mut problems = Problems::default();
        section.check(&mut problems);
        let problems = problems.into_vec().into_iter();
        problems.map(|problem| problem.key).collect()
    }

    #[test]
    fn the_defaults_are_valid_and_what_is_not_is_named() {
        assert_eq!(problems(&RecordingSection::default()), [""; 0]);
        let bad = RecordingSection {
            sync_ms: 1,
            segment_bytes: 2 << 20,
            buffer_bytes: 3 << 20,
            buffers_bytes: 1 << 20,
            ..RecordingSection::default()
        };
        assert_eq!(problems(&bad), ["sync_ms", "buffer_bytes", "buffers_bytes"]);
        let too_large = RecordingSection {
            segment_bytes: 65 << 20,
            buffer_bytes: 130 << 20,
            ..RecordingSection::default()
        };
        assert_eq!(problems(&too_large), ["segment_bytes"]);
    }
}
