//! What light viewers saw: one account for each, and sums for each thread.

use std::time::Duration;

use bytes::Bytes;
use headwater_media::frame::{FrameFlags, FrameKind};
use headwater_media::inspect::inspect;
use headwater_media::synthetic::read_stamp;

use super::chunks::Light;
use crate::client::ClientError;
use crate::measure::{Gaps, Latencies, Sequences};
use crate::report::Tally;
use crate::viewer::ViewerReport;

/// Gaps are not kept one by one.
const KEEP_NO_GAPS: Duration = Duration::MAX;

/// Bytes of a payload that tell what it is. None of the tag headers that are known is longer.
const TAG_HEADER: usize = 64;

/// What the viewers of one thread saw together.
#[derive(Debug, Default)]
pub(super) struct Counter {
    pub(super) sums: Sums,
    pub(super) latencies: Latencies,
    pub(super) statuses: Tally,
}

/// Sums over viewers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) bytes: u64,
    pub(super) video_frames: u64,
    pub(super) audio_frames: u64,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.video_frames = self.video_frames.saturating_add(other.video_frames);
        self.audio_frames = self.audio_frames.saturating_add(other.audio_frames);
    }
}

/// What one viewer saw. Times are nanoseconds of the harness's clock.
#[derive(Debug)]
pub(super) struct Account {
    /// When it began to connect.
    begun: u64,
    /// When there was a TCP connection, or an open session of RTMFP.
    opened: Option<u64>,
    /// When the server was asked to play.
    asked: Option<u64>,
    /// When the server said that playing begins.
    started: Option<u64>,
    /// When the first message of the stream came.
    joined: Option<u64>,
    first_frame: Option<u64>,
    ended: Option<u64>,
    /// Whether gaps and latency are those of video.
    has_video: bool,
    video: Sequences,
    audio: Sequences,
    gaps: Gaps,
    bytes: u64,
    video_frames: u64,
    audio_frames: u64,
    data_messages: u64,
    backlog: u64,
}

impl Account {
    pub(super) fn new(begun: u64) -> Self {
        Self {
            begun,
            opened: None,
            asked: None,
            started: None,
            joined: None,
            first_frame: None,
            ended: None,
            has_video: false,
            video: Sequences::default(),
            audio: Sequences::default(),
            gaps: Gaps::new(KEEP_NO_GAPS),
            bytes: 0,
            video_frames: 0,
            audio_frames: 0,
            data_messages: 0,
            backlog: 0,
        }
    }

    pub(super) const fn take_bytes(&mut self, count: u64, counter: &mut Counter) {
        self.bytes = self.bytes.saturating_add(count);
        counter.sums.bytes = counter.sums.bytes.saturating_add(count);
    }

    pub(super) fn take_opened(&mut self, now: u64) {
        self.opened.get_or_insert(now);
    }

    pub(super) fn take_asked(&mut self, now: u64) {
        self.asked.get_or_insert(now);
    }

    pub(super) fn take_started(&mut self, now: u64) {
        self.started.get_or_insert(now);
    }

    pub(super) fn take_ended(&mut self, now: u64) {
        self.ended.get_or_insert(now);
    }

    /// The stream said that nothing more comes for now.
    pub(super) const fn take_pause(&mut self) {
        self.gaps.end();
    }

    pub(super) fn take_data(&mut self, now: u64) {
        self.joined.get_or_insert(now);
        self.data_messages += 1;
    }

    /// An audio or video message came.
    pub(super) fn take_media(
        &mut self,
        is_video: bool,
        message: &Light<'_>,
        now: u64,
        counter: &mut Counter,
    ) {
        let joined = *self.joined.get_or_insert(now);
        if is_video && !self.has_video {
            self.has_video = true;
            // Audio that came before the first picture leaves no trace in the gaps.
            self.gaps.restart();
        }
        let stamp = read_stamp(&message.head);
        // Codec headers have no stamp: what has one need not be looked at.
        if message.length == 0 || stamp.is_none() && is_header(is_video, &message.head) {
            return;
        }
        self.first_frame.get_or_insert(now);
        let (own, all, sequences) = if is_video {
            let sums = &mut counter.sums.video_frames;
            (&mut self.video_frames, sums, &mut self.video)
        } else {
            let sums = &mut counter.sums.audio_frames;
            (&mut self.audio_frames, sums, &mut self.audio)
        };
        *own += 1;
        *all += 1;
        if let Some(stamp) = stamp {
            sequences.record(stamp);
        }
        if is_video != self.has_video {
            return;
        }
        self.gaps.record(now);
        match stamp {
            Some(stamp) if stamp.sent_at < joined => self.backlog += 1,
            Some(stamp) => counter.latencies.record(stamp.sent_at, now),
            None => {}
        }
    }

    pub(super) const fn is_started(&self) -> bool {
        self.started.is_some()
    }

    pub(super) const fn is_playing(&self) -> bool {
        self.first_frame.is_some()
    }

    /// From the start of connecting to the TCP connection, or the open session of RTMFP.
    pub(super) fn until_opened(&self) -> Option<Duration> {
        self.since_begun(self.opened)
    }

    /// From the start of connecting to the status that playing begins.
    pub(super) fn until_started(&self) -> Option<Duration> {
        self.since_begun(self.started)
    }

    /// From the start of connecting to the first frame.
    pub(super) fn until_first_frame(&self) -> Option<Duration> {
        self.since_begun(self.first_frame)
    }

    /// Missing and repeated frames so far.
    pub(super) const fn faults(&self) -> u64 {
        let (video, audio) = (self.video.report(), self.audio.report());
        let video = video.missing.saturating_add(video.repeated);
        video.saturating_add(audio.missing.saturating_add(audio.repeated))
    }

    /// Stalls so far, without one that is still open.
    pub(super) const fn stalls(&self) -> u64 {
        self.gaps.stalls()
    }

    /// What the full viewer would report, but for single gaps and statuses.
    pub(super) fn report(&self, now: u64, disconnected: Option<ClientError>) -> ViewerReport {
        let gaps = self.gaps.report(self.ended.unwrap_or(now));
        let (video, audio) = (self.video.report(), self.audio.report());
        ViewerReport {
            setup: self.since_begun(self.asked),
            first_frame: self.until_first_frame(),
            video_frames: self.video_frames,
            audio_frames: self.audio_frames,
            data_messages: self.data_messages,
            bytes: self.bytes,
            missing: video.missing.saturating_add(audio.missing),
            repeated: video.repeated.saturating_add(audio.repeated),
            reordered: video.reordered.saturating_add(audio.reordered),
            video,
            audio,
            backlog: self.backlog,
            gaps: Vec::new(),
            longest_gap: gaps.longest,
            stalls: gaps.stalls,
            long_stalls: gaps.long_stalls,
            disconnected,
            ..ViewerReport::default()
        }
    }

    fn since_begun(&self, moment: Option<u64>) -> Option<Duration> {
        moment.map(|moment| Duration::from_nanos(moment.saturating_sub(self.begun)))
    }
}

/// Whether a payload is a codec header, from its first bytes.
fn is_header(is_video: bool, head: &[u8]) -> bool {
    let kind = if is_video {
        FrameKind::Video
    } else {
        FrameKind::Audio
    };
    let first = head.get(..TAG_HEADER).unwrap_or(head);
    let inspection = inspect(kind, &Bytes::copy_from_slice(first));
    inspection.flags.contains(FrameFlags::HEADER)
}
