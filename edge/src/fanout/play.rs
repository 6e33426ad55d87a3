//! One viewer of one stream: which entries it gets, and what it loses when it is slow.
//!
//! A viewer that falls behind loses, in this order: disposable video frames; all video up to a newer key frame, with audio
//! going on; and, when it is so far behind that the ring has moved past it or its audio is old too, everything up to the
//! newest key frame. Codec headers and metadata are never lost. How far behind a viewer is, is for
//! [`Lag`] to say: one that starts at a key frame ten seconds old is not slow.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use headwater_media::frame::{FrameFlags, FrameKind};
use headwater_rtmp::chunk;
use headwater_rtmp::command::{ObjectEncoding, PlayLength, chunk_streams};
use headwater_rtmp::status::{Status, StatusCode, on_play_status_message, on_status_message};

use super::lag::Lag;
use super::mirror::{Mirror, Portion};
use super::{LocalHub, Membership};
use crate::hub::{Entry, SHARED_STREAM_ID, StreamEntry, WireFrame, chunk_stream};
use crate::player::{Mark, transition_complete};

/// Behind by this much media time, a viewer loses disposable frames.
const DROP_DISPOSABLE_AFTER_MS: u64 = 500;
/// Behind by this much, it loses video up to a newer key frame.
const DROP_VIDEO_AFTER_MS: u64 = 1_500;
/// A viewer that waits for a key frame gets what there is after this much media time: longer than the distance of key frames in
/// nearly every live stream.
const KEY_FRAME_PATIENCE_MS: u64 = 20_000;
/// Behind by this much, it loses audio as well.
const DROP_ALL_AFTER_MS: u64 = 4_000;

/// Entries looked at for the last frame that a viewer got: more than ever stand together without one.
const MARK_SEARCH: usize = 256;

/// What [`Play::select`] did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Selected {
    pub(crate) frames: u64,
    pub(crate) bytes: usize,
    pub(crate) dropped: u64,
    /// How often the viewer had to go on at a later key frame.
    pub(crate) jumps: u64,
}

/// How a client's connection writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireSettings {
    /// Bytes of a chunk.
    pub(crate) chunk_size: u32,
    pub(crate) encoding: ObjectEncoding,
}

/// A NetStream that plays.
pub(crate) struct Play {
    pub(crate) stream_id: u32,
    pub(crate) name: String,
    membership: Membership,
    /// Number of the next entry.
    next: u64,
    /// The next frame needs codec headers and metadata first.
    fresh: bool,
    /// Video is left out until this entry, a key frame.
    skip_video_until: Option<u64>,
    /// Video is left out until any key frame: the edge may hold none where the viewer starts, if a group of pictures is larger
    /// than the ring.
    await_key: bool,
    /// Media time of the first frame that was left out for that, in milliseconds.
    awaiting_since: Option<u64>,
    lag: Lag,
    audio: bool,
    video: bool,
    paused: bool,
    /// What is still to be played, if the viewer asked for an end.
    length: PlayLength,
    /// Media time of the first frame, in milliseconds.
    began_at: Option<u64>,
    /// Video frames sent.
    pictures: u64,
    /// The client waits to be told that its transition to this stream is complete.
    transition: bool,
    /// It ends with its publisher, because something else follows.
    ends: bool,
    /// The viewer got all that it asked for.
    complete: bool,
    /// That it is complete is known to the session.
    reported: bool,
    total: Selected,
    chunk_size: u32,
    encoding: ObjectEncoding,
}

impl Play {
    pub(crate) fn new(
        stream_id: u32,
        name: String,
        membership: Membership,
        wire: WireSettings,
    ) -> Self {
        let next = membership.hub().mirror().live_start();
        Self {
            stream_id,
            name,
            membership,
            next,
            fresh: true,
            skip_video_until: None,
            await_key: true,
            awaiting_since: None,
            lag: Lag::new(),
            audio: true,
            video: true,
            paused: false,
            length: PlayLength::All,
            began_at: None,
            pictures: 0,
            transition: false,
            ends: false,
            complete: false,
            reported: false,
            total: Selected::default(),
            chunk_size: wire.chunk_size,
            encoding: wire.encoding,
        }
    }

    /// Goes on with this entry for a viewer that has everything before it.
    pub(crate) fn join_at(&mut self, number: u64) {
        self.next = number;
        self.fresh = false;
        self.await_key = false;
    }

    /// Tells the client with the first frame that its transition to this stream is complete.
    pub(crate) fn complete_transition(&mut self) {
        self.transition = true;
    }

    /// Ends with its publisher: something else follows.
    pub(crate) fn end_with_publisher(&mut self) {
        self.ends = true;
        // Nobody cared when it came to its end, if it has.
        self.reported = false;
    }

    /// Whether it has come to its end since this was asked last.
    pub(crate) fn take_completion(&mut self) -> bool {
        self.complete && !std::mem::replace(&mut self.reported, true)
    }

    /// Whether its end is news.
    pub(crate) fn has_completed(&self) -> bool {
        self.complete && !self.reported
    }

    pub(crate) fn hub(&self) -> &Rc<LocalHub> {
        self.membership.hub()
    }

    /// What the viewer wants: audio, video.
    pub(crate) fn receives(&self) -> (bool, bool) {
        (self.audio, self.video)
    }

    /// The last frame that the viewer got, if it is not so long ago that nobody knows.
    pub(crate) fn last_sent(&self) -> Option<Mark> {
        let mirror = self.membership.hub().mirror();
        let numbers = (mirror.base()..self.next).rev().take(MARK_SEARCH);
        numbers
            .filter_map(|number| match mirror.entry(number) {
                Some((Entry::Frame(entry), _)) => Some(&entry.frame),
                _ => None,
            })
            .find(|frame| !frame.is_header() && frame.kind != FrameKind::Data)
            .map(|frame| Mark {
                offset: frame.offset,
                kind: frame.kind,
                timestamp: frame.timestamp,
                length: frame.payload_length(),
            })
    }

    /// Ends after so much media time, or after one picture.
    pub(crate) fn set_length(&mut self, length: PlayLength) {
        self.length = length;
    }

    /// Stops a live stream for this viewer, or goes on with it at the newest key frame.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        if self.paused && !paused {
            self.rejoin();
        }
        self.paused = paused;
    }

    pub(crate) fn set_audio(&mut self, audio: bool) {
        self.audio = audio;
    }

    /// Video again, after the viewer had asked for none: from the next key frame on.
    pub(crate) fn set_video(&mut self, video: bool) {
        if video && !self.video {
            self.await_key = true;
        }
        self.video = video;
    }

    /// Goes on at the newest key frame.
    pub(crate) fn rejoin(&mut self) {
        let start = self.membership.hub().mirror().live_start();
        if start > self.next {
            self.next = start;
            self.await_key = true;
        }
        self.fresh = true;
        self.skip_video_until = None;
        self.lag = Lag::new();
    }

    /// Whether entries wait for this viewer.
    pub(crate) fn is_behind(&self) -> bool {
        !self.paused && !self.complete && self.next < self.membership.hub().mirror().released()
    }

    /// How many entries it did not get that others did.
    pub(crate) fn missed(&self) -> u64 {
        let released = self.membership.hub().mirror().released();
        released.saturating_sub(self.next)
    }

    /// The number of the next entry, if this viewer gets everything of this stream as it is: nothing to be left out, nothing to
    /// be put in, nothing to be waited for.
    pub(crate) fn in_step(&self, hub: &LocalHub) -> Option<u64> {
        let everything = self.audio && self.video && self.stream_id == SHARED_STREAM_ID;
        let nothing_else = !self.fresh
            && !self.await_key
            && !self.paused
            && !self.complete
            && self.skip_video_until.is_none()
            && matches!(self.length, PlayLength::All);
        let here = std::ptr::eq(Rc::as_ptr(self.membership.hub()), hub);
        (everything && nothing_else && here).then_some(self.next)
    }

    /// A viewer in step got this.
    pub(crate) fn sent(&mut self, portion: &Portion) {
        self.next = portion.end();
        self.pictures += portion.pictures();
        self.total.frames += portion.frames();
    }

    /// Moves what comes next to `out`, about `budget` bytes of it.
    pub(crate) fn select(&mut self, out: &mut VecDeque<Bytes>, budget: usize) -> Selected {
        let mut selected = Selected::default();
        if self.paused || self.complete {
            return selected;
        }
        let hub = Rc::clone(self.membership.hub());
        let mirror = hub.mirror();
        if self.next < mirror.base() {
            self.jump(&mirror, &mut selected);
        }
        let now = Instant::now();
        while selected.bytes < budget {
            let Some((entry, arrived)) = mirror.entry(self.next) else {
                break;
            };
            match entry {
                Entry::Published => {
                    self.tell(
                        out,
                        &mut selected,
                        StatusCode::PlayPublishNotify,
                        "is now published",
                    );
                }
                Entry::Unpublished => {
                    self.tell(
                        out,
                        &mut selected,
                        StatusCode::PlayUnpublishNotify,
                        "is now unpublished",
                    );
                    if self.ends {
                        self.complete = true;
                        self.next += 1;
                        break;
                    }
                }
                Entry::Frame(entry) => {
                    let behind = mirror.newest_time().saturating_sub(entry.frame.timestamp);
                    let behind = self.lag.of(behind, *arrived, now);
                    if behind > DROP_ALL_AFTER_MS && mirror.live_start() > self.next {
                        self.jump(&mirror, &mut selected);
                        continue;
                    }
                    if self.is_over(&entry.frame) {
                        self.complete = true;
                        self.tell(
                            out,
                            &mut selected,
                            StatusCode::PlayStop,
                            "has been played as long as asked",
                        );
                        break;
                    }
                    if self.wants(entry, behind, &mirror, &mut selected) {
                        self.emit(entry, out, &mut selected);
                    }
                }
            }
            self.next += 1;
        }
        if selected.frames > 0 && std::mem::take(&mut self.transition) {
            self.tell_transition(out, &mut selected);
        }
        self.total.frames += selected.frames;
        self.total.dropped += selected.dropped;
        self.total.jumps += selected.jumps;
        selected
    }

    /// What the viewer got and lost so far; bytes are not added up.
    pub(crate) fn total(&self) -> Selected {
        self.total
    }

    /// Whether the viewer has what it asked for before this frame.
    fn is_over(&mut self, frame: &WireFrame) -> bool {
        if frame.is_header() {
            return false;
        }
        let began_at = *self.began_at.get_or_insert(frame.timestamp);
        let played = frame.timestamp.saturating_sub(began_at);
        match self.length {
            PlayLength::All => false,
            PlayLength::OneFrame => self.pictures > 0 || played > DROP_ALL_AFTER_MS,
            PlayLength::Milliseconds(length) => played >= u64::from(length),
        }
    }

    fn jump(&mut self, mirror: &Mirror, selected: &mut Selected) {
        let start = mirror.live_start();
        selected.dropped += start.saturating_sub(self.next);
        selected.jumps += 1;
        self.next = start;
        self.fresh = true;
        self.await_key = true;
        self.skip_video_until = None;
        self.lag = Lag::new();
    }

    fn wants(
        &mut self,
        entry: &StreamEntry,
        behind: u64,
        mirror: &Mirror,
        selected: &mut Selected,
    ) -> bool {
        let frame = &entry.frame;
        if frame.is_header() {
            return true;
        }
        match frame.kind {
            FrameKind::Audio => self.audio,
            FrameKind::Data => true,
            FrameKind::Video if !self.video => false,
            FrameKind::Video => {
                if behind > DROP_VIDEO_AFTER_MS
                    && self.skip_video_until.is_none()
                    && mirror.live_start() > self.next
                {
                    self.skip_video_until = Some(mirror.live_start());
                    self.await_key = true;
                    selected.jumps += 1;
                }
                if self.skip_video_until.is_some_and(|until| self.next < until) {
                    selected.dropped += 1;
                    return false;
                }
                self.skip_video_until = None;
                if self.await_key && !frame.is_key() {
                    let since = *self.awaiting_since.get_or_insert(frame.timestamp);
                    // A stream in which nobody finds a key frame is relayed as it is: the player may know better.
                    if frame.timestamp.saturating_sub(since) < KEY_FRAME_PATIENCE_MS {
                        return false;
                    }
                }
                self.await_key = false;
                self.awaiting_since = None;
                let disposable = frame.flags.contains(FrameFlags::DISPOSABLE);
                if disposable && behind > DROP_DISPOSABLE_AFTER_MS {
                    selected.dropped += 1;
                    return false;
                }
                true
            }
        }
    }

    fn emit(&mut self, entry: &StreamEntry, out: &mut VecDeque<Bytes>, selected: &mut Selected) {
        if self.fresh {
            self.fresh = false;
            for header in entry.preface.iter() {
                let (first, rest) = header.before(self.stream_id, entry.frame.timestamp);
                out.push_back(first);
                out.push_back(rest);
                selected.bytes += header.wire_length();
            }
        }
        self.push(&entry.frame, out);
        selected.bytes += entry.frame.wire_length();
        selected.frames += 1;
        if entry.frame.kind == FrameKind::Video && !entry.frame.is_header() {
            self.pictures += 1;
        }
    }

    fn push(&self, frame: &WireFrame, out: &mut VecDeque<Bytes>) {
        if self.stream_id == SHARED_STREAM_ID {
            out.push_back(frame.shared().clone());
        } else {
            let (first, rest) = frame.for_stream(self.stream_id);
            out.push_back(first);
            out.push_back(rest);
        }
    }

    fn tell_transition(&self, out: &mut VecDeque<Bytes>, selected: &mut Selected) {
        let status = transition_complete(&self.name);
        // As in `tell`.
        let Ok(message) = on_play_status_message(self.stream_id, &status) else {
            return;
        };
        let stream = chunk_stream(FrameKind::Data);
        let bytes = chunk::shared_wire_form(stream, &message, self.chunk_size).bytes;
        selected.bytes += bytes.len();
        out.push_back(bytes);
    }

    fn tell(
        &self,
        out: &mut VecDeque<Bytes>,
        selected: &mut Selected,
        code: StatusCode,
        what: &str,
    ) {
        let status = Status::new(code)
            .describe(format!("{} {what}.", self.name))
            .with("details", self.name.as_str());
        // Text and numbers only: that can always be written.
        let Ok(message) = on_status_message(self.stream_id, &status, self.encoding) else {
            return;
        };
        let bytes =
            chunk::shared_wire_form(chunk_streams::SHARED_STATUS, &message, self.chunk_size).bytes;
        selected.bytes += bytes.len();
        out.push_back(bytes);
    }
}
