//! What a publishing edge keeps of a stream: the numbered frames that the owner, or the next owner, may still need.
//!
//! Pure: no task, no socket, no clock. Invariants:
//! - frames are numbered once, in the order in which the client sent them, and never again;
//! - what has not been acknowledged stays, up to the bounds of [`Limits`]; what has been acknowledged stays for
//!   [`Limits::window_ms`] at least and from the newest key frame on, so that a new owner starts with history;
//! - what is recorded stays, moreover, until it is durable, up to the same bounds: the next owner gets it and puts it into the
//!   recording. What the bounds do not allow goes, oldest first, and is counted ([`Loss`]): the live stream never waits for a store;
//! - where there can be no new owner ([`Keep::Unacknowledged`]), what has been acknowledged goes, but for the newest frame.

use bytes::Bytes;
use headwater_cluster::wire;
use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use headwater_media::timeline::{Timeline, TimestampUnwrapper};
use headwater_media::window::{Read, Retention, Window};
use headwater_proto::v1;

/// Most frames and bytes of one batch: an answer to a failover leaves in few messages, none of them near gRPC's limit.
const BATCH_FRAMES: usize = 256;
const BATCH_BYTES: usize = 1 << 20;

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Media time that is kept although it was acknowledged, in milliseconds.
    pub(crate) window_ms: u64,
    /// Most bytes kept, acknowledged or not.
    pub(crate) bytes: usize,
}

/// Frames that left the window too early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    /// No owner had them: viewers do not see them, and a recording has not got them.
    pub(crate) unsent: u64,
    /// An owner had them, but not yet durably: a recording lacks them if that owner dies now.
    pub(crate) not_durable: u64,
}

/// What to keep of what the owner has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The window: the owner may die, and readers may come to the next one from behind.
    Window,
    /// Nothing: the owner is this process, and no other origin could take over. Once there is one, the window grows from what
    /// is kept then; nothing is missed, because readers leave an owner that lives only when they have all that it has.
    Unacknowledged,
}

/// A media message as the client sent it.
#[derive(Debug)]
pub(crate) struct MediaMessage {
    pub(crate) kind: FrameKind,
    /// RTMP timestamp in milliseconds, wrapping.
    pub(crate) timestamp: u32,
    pub(crate) flags: FrameFlags,
    pub(crate) payload: Bytes,
}

/// One client's run as a publisher, once its epoch is known.
pub(crate) struct Publication {
    limits: Limits,
    epoch: Epoch,
    window: Window<Frame>,
    unwrapper: TimestampUnwrapper,
    timeline: Timeline,
    next_sequence: u64,
    /// The next frame to send on the open call.
    send_next: u64,
    /// Every frame before this one is at an owner.
    acknowledged: u64,
    /// The client asked for a recording.
    is_recorded: bool,
    /// Of a recorded stream: what is kept from here on because it is not durable yet, as far as it could be kept. `None` where that
    /// is of no use, or nothing is known.
    pending_from: Option<u64>,
    /// Frames left the window that are not durable yet.
    is_short_of_room: bool,
    loss: Loss,
}

impl Publication {
    pub(crate) fn new(
        limits: Limits,
        mode: v1::PublishMode,
        accepted: &v1::AppendAccepted,
    ) -> Self {
        let is_recorded = match mode {
            v1::PublishMode::Record | v1::PublishMode::Append | v1::PublishMode::AppendWithGap => {
                true
            }
            v1::PublishMode::Live | v1::PublishMode::Unspecified => false,
        };
        Self {
            is_recorded,
            pending_from: is_recorded.then_some(0),
            is_short_of_room: false,
            limits,
            epoch: Epoch(accepted.epoch),
            window: Window::new(retention(limits, true)),
            unwrapper: TimestampUnwrapper::new(),
            timeline: Timeline::new(accepted.timeline),
            next_sequence: 0,
            send_next: 0,
            acknowledged: 0,
            loss: Loss::default(),
        }
    }

    /// Numbers a message and keeps it.
    pub(crate) fn push(&mut self, message: MediaMessage) {
        let timestamp = self.unwrapper.unwrap(message.timestamp);
        let is_media =
            message.kind != FrameKind::Data && !message.flags.contains(FrameFlags::HEADER);
        let frame = Frame {
            offset: Offset {
                epoch: self.epoch,
                sequence: self.next_sequence,
            },
            timestamp: self.timeline.place(timestamp, is_media),
            kind: message.kind,
            flags: message.flags,
            // A slice of the socket's buffer would keep all of it for as long as the window.
            payload: Bytes::copy_from_slice(&message.payload),
        };
        self.next_sequence += 1;
        let _ = self.window.push(frame);
        let Some(first) = self.window.first_offset().map(|first| first.sequence) else {
            return;
        };
        if let Some(pending) = self.pending_from.filter(|pending| *pending < first) {
            self.loss.not_durable += first.min(self.send_next).saturating_sub(pending);
            self.pending_from = Some(first);
            self.is_short_of_room = true;
        }
        if first > self.send_next {
            self.loss.unsent += first - self.send_next;
            self.send_next = first;
        }
    }

    /// What comes next for the owner, if anything.
    pub(crate) fn next_batch(&mut self) -> Option<v1::FrameBatch> {
        let from = self.offset(self.send_next);
        let Read::Frames(frames) = self.window.read_from(from, BATCH_FRAMES, BATCH_BYTES) else {
            return None;
        };
        let frames: Vec<v1::Frame> = frames.map(wire::to_frame).collect();
        let last = frames.last()?;
        self.send_next = last.sequence + 1;
        Some(v1::FrameBatch {
            epoch: self.epoch.0,
            frames,
        })
    }

    pub(crate) fn has_unsent(&self) -> bool {
        self.send_next < self.next_sequence
    }

    /// Frames that were sent but not acknowledged.
    pub(crate) fn in_flight(&self) -> u64 {
        self.send_next.saturating_sub(self.acknowledged)
    }

    pub(crate) fn acknowledge(&mut self, acknowledged: &v1::Acknowledged, keep: Keep) {
        let accepted = acknowledged.accepted.min(self.next_sequence);
        self.acknowledged = self.acknowledged.max(accepted);
        match keep {
            // With the owner close behind, the window is enough, but for what a store has not got.
            Keep::Window => {
                self.note_durable(acknowledged.durable.min(self.next_sequence));
                let pending = self.pending_from.unwrap_or(u64::MAX);
                let held_from = self.offset(pending.min(self.acknowledged));
                self.window.hold_from(Some(held_from));
                self.window.set_retention(retention(self.limits, false));
            }
            Keep::Unacknowledged => {
                self.pending_from = None;
                self.window.hold_from(None);
                // Lets go of all but the newest, for this once: what comes now has to stay until it is acknowledged.
                let unacknowledged = self.next_sequence - self.acknowledged;
                let hold = retention(self.limits, true);
                self.window.set_retention(Retention {
                    max_frames: usize::try_from(unacknowledged).unwrap_or(usize::MAX).max(1),
                    ..hold
                });
                self.window.set_retention(hold);
            }
        }
    }

    fn note_durable(&mut self, durable: u64) {
        if !self.is_recorded {
            return;
        }
        let first = self.window.first_offset().map_or(0, |first| first.sequence);
        // What was let go of while the owner was alone is not missed: see [`Keep::Unacknowledged`].
        let pending = self.pending_from.unwrap_or(first);
        self.is_short_of_room &= durable < pending;
        self.pending_from = Some(pending.max(durable));
    }

    fn offset(&self, sequence: u64) -> Offset {
        Offset {
            epoch: self.epoch,
            sequence,
        }
    }

    /// Whether nobody needs this edge any more for what was published: an owner has it all, and durably what is recorded.
    pub(crate) fn is_settled(&self) -> bool {
        let durable = self
            .pending_from
            .is_none_or(|pending| pending >= self.next_sequence);
        durable && self.acknowledged >= self.next_sequence
    }

    /// Whether the window has no room for all that is not durable.
    pub(crate) fn is_short_of_room(&self) -> bool {
        self.is_short_of_room
    }

    /// The client asked for a recording.
    pub(crate) fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// The owner is gone: nothing may be forgotten until the next one has it.
    pub(crate) fn hold(&mut self) {
        self.window.set_retention(retention(self.limits, true));
    }

    /// What to tell the next owner: where the window starts, and the codec headers in force there.
    pub(crate) fn resume(&self) -> (v1::Offset, Vec<v1::Frame>) {
        let none = self.offset(self.next_sequence);
        let first = self.window.first_offset().unwrap_or(none);
        let preface = self.window.preface_at(first);
        (
            wire::to_offset(first),
            preface.iter().map(wire::to_frame).collect(),
        )
    }

    /// The next owner has everything before `next_sequence`.
    pub(crate) fn resumed(&mut self, next_sequence: u64) {
        let first = self.window.first_offset().map_or(0, |first| first.sequence);
        let first = first.min(self.next_sequence);
        self.send_next = next_sequence.clamp(first, self.next_sequence);
        self.acknowledged = self.send_next;
        // What was durable there need not be so here: the next acknowledgement tells.
        self.pending_from = self.is_recorded.then_some(first);
    }

    /// Takes what was lost since the last call.
    pub(crate) fn take_loss(&mut self) -> Loss {
        std::mem::take(&mut self.loss)
    }
}

fn retention(limits: Limits, hold: bool) -> Retention {
    Retention {
        min_duration_ms: if hold { u64::MAX } else { limits.window_ms },
        max_bytes: limits.bytes,
        // A frame of a few bytes costs its place in the queue: about a hundred bytes.
        max_frames: (limits.bytes / 100).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted() -> v1::AppendAccepted {
        v1::AppendAccepted {
            epoch: 7,
            timeline: None,
            next_sequence: 0,
        }
    }

    fn message(timestamp: u32, key: bool) -> MediaMessage {
        MediaMessage {
            kind: FrameKind::Video,
            timestamp,
            flags: if key {
                FrameFlags::KEY
            } else {
                FrameFlags::empty()
            },
            payload: Bytes::from(vec![0_u8; 100]),
        }
    }

    fn publication(bytes: usize) -> Publication {
        published(bytes, v1::PublishMode::Live)
    }

    fn published(bytes: usize, mode: v1::PublishMode) -> Publication {
        let limits = Limits {
            window_ms: 1_000,
            bytes,
        };
        Publication::new(limits, mode, &accepted())
    }

    fn sequences(batch: Option<v1::FrameBatch>) -> Vec<u64> {
        batch.map_or_else(Vec::new, |batch| {
            batch.frames.iter().map(|frame| frame.sequence).collect()
        })
    }

    fn up_to(accepted: u64) -> v1::Acknowledged {
        v1::Acknowledged {
            accepted,
            durable: accepted,
        }
    }

    fn held(publication: &Publication) -> Vec<u64> {
        let frames = publication.window.iter();
        frames.map(|frame| frame.offset.sequence).collect()
    }

    #[test]
    fn frames_are_numbered_once_and_sent_once() {
        let mut publication = publication(1 << 20);
        publication.push(message(0, true));
        publication.push(message(40, false));
        assert_eq!(sequences(publication.next_batch()), [0, 1]);
        assert!(publication.next_batch().is_none());
        publication.push(message(80, false));
        assert!(publication.has_unsent());
        assert_eq!(sequences(publication.next_batch()), [2]);
        assert_eq!(publication.in_flight(), 3);
    }

    #[test]
    fn a_new_owner_gets_the_window_and_only_what_it_lacks() {
        let mut publication = publication(1 << 20);
        for n in 0..10 {
            publication.push(message(n * 40, n == 0));
        }
        while publication.next_batch().is_some() {}
        let (first, _) = publication.resume();
        assert_eq!((first.epoch, first.sequence), (7, 0));
        publication.resumed(6);
        assert_eq!(sequences(publication.next_batch()), [6, 7, 8, 9]);
    }

    #[test]
    fn nothing_unacknowledged_is_forgotten_while_there_is_no_owner() {
        let mut publication = publication(1 << 20);
        for n in 0..100 {
            // A key frame each second for a hundred seconds: far beyond the window.
            publication.push(message(n * 1_000, true));
        }
        assert_eq!(publication.take_loss().unsent, 0);
        assert_eq!(sequences(publication.next_batch()).len(), 100);
        publication.acknowledge(&up_to(100), Keep::Window);
        publication.push(message(100_000, true));
        let (first, _) = publication.resume();
        assert!(first.sequence >= 98, "only the window is kept: {first:?}");
    }

    /// An encoder that sends a minute at once: none of it has been sent when it is already older than the window.
    #[test]
    fn nothing_unacknowledged_is_forgotten_behind_an_owner_either() {
        let mut publication = publication(1 << 20);
        send(&mut publication, 0..10);
        publication.acknowledge(&up_to(10), Keep::Window);
        send(&mut publication, 10..70);
        assert_eq!(publication.take_loss(), Loss::default());
        assert_eq!(held(&publication), Vec::from_iter(10..70));
        publication.acknowledge(&up_to(60), Keep::Window);
        assert_eq!(held(&publication), Vec::from_iter(60..70));
        publication.acknowledge(&up_to(70), Keep::Window);
        assert_eq!(held(&publication), [68, 69]);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut publication = publication(1_000);
        for n in 0..100 {
            publication.push(message(n * 40, n % 10 == 0));
        }
        let lost = publication.take_loss().unsent;
        assert!(lost >= 90, "{lost}");
        let sent = sequences(publication.next_batch());
        assert_eq!(sent.first().copied(), Some(lost));
        assert_eq!(sent.last().copied(), Some(99));
    }

    #[test]
    fn for_an_owner_that_nobody_can_follow_only_the_unacknowledged_is_kept() {
        let mut publication = publication(1 << 20);
        for n in 0..100 {
            publication.push(message(n * 40, n % 10 == 0));
        }
        while publication.next_batch().is_some() {}
        publication.acknowledge(&up_to(90), Keep::Unacknowledged);
        assert_eq!(held(&publication), Vec::from_iter(90..100));
        // Late, and said before: changes nothing.
        publication.acknowledge(&up_to(40), Keep::Unacknowledged);
        assert_eq!(held(&publication), Vec::from_iter(90..100));
        // However long the owner takes: it is far beyond the window.
        for n in 100..200 {
            publication.push(message(n * 1_000, true));
        }
        assert_eq!(held(&publication), Vec::from_iter(90..200));
        // It lost what it had not acknowledged.
        publication.hold();
        let (first, _) = publication.resume();
        assert_eq!(first.sequence, 90);
        publication.resumed(90);
        assert_eq!(sequences(publication.next_batch()).len(), 110);
        publication.acknowledge(&up_to(200), Keep::Unacknowledged);
        assert_eq!(held(&publication), [199]);
        assert_eq!(publication.take_loss().unsent, 0);
        assert!(!publication.has_unsent());
        assert!(
            publication.window.bytes() <= 100,
            "{}",
            publication.window.bytes()
        );
    }

    #[test]
    fn the_window_grows_again_when_another_origin_joins() {
        let mut publication = publication(1 << 20);
        let header = MediaMessage {
            flags: FrameFlags::HEADER | FrameFlags::KEY,
            payload: Bytes::from_static(&[0x17, 0, 0, 0, 0, 1]),
            ..message(0, true)
        };
        publication.push(header);
        for n in 1..50 {
            publication.push(message(n * 40, n % 10 == 0));
            while publication.next_batch().is_some() {}
            publication.acknowledge(&up_to(n.into()), Keep::Unacknowledged);
        }
        assert_eq!(held(&publication), [49]);
        // The next owner starts there, with the codec header that left long ago, and without a hole.
        publication.hold();
        let (first, preface) = publication.resume();
        assert_eq!(first.sequence, 49);
        assert_eq!(preface.len(), 1);
        publication.resumed(first.sequence);
        for n in 50..100 {
            publication.push(message(n * 40, n % 10 == 0));
            while publication.next_batch().is_some() {}
            publication.acknowledge(&up_to((n + 1).into()), Keep::Window);
        }
        // Now as if it had been so from the start: a second of history, by whole groups.
        assert_eq!(held(&publication), Vec::from_iter(70..100));
        assert_eq!(publication.take_loss().unsent, 0);
    }

    fn said(accepted: u64, durable: u64) -> v1::Acknowledged {
        v1::Acknowledged { accepted, durable }
    }

    /// Pushes and sends frames of a second each, all of them key frames.
    fn send(publication: &mut Publication, frames: std::ops::Range<u32>) {
        for n in frames {
            publication.push(message(n * 1_000, true));
        }
        while publication.next_batch().is_some() {}
    }

    #[test]
    fn what_is_recorded_is_kept_until_it_is_durable() {
        use v1::PublishMode::{Append, AppendWithGap, Live, Record};
        for (mode, recorded) in [
            (Live, false),
            (Record, true),
            (Append, true),
            (AppendWithGap, true),
        ] {
            let mut publication = published(1 << 20, mode);
            send(&mut publication, 0..100);
            publication.acknowledge(&said(100, 40), Keep::Window);
            send(&mut publication, 100..110);
            let first = publication.resume().0.sequence;
            assert_eq!(first, if recorded { 40 } else { 100 }, "{mode:?}");
            assert!(!publication.is_settled(), "{mode:?}");
            publication.acknowledge(&said(110, 70), Keep::Window);
            let first = publication.resume().0.sequence;
            assert_eq!(first, if recorded { 70 } else { 108 }, "{mode:?}");
            assert_eq!(publication.is_settled(), !recorded, "{mode:?}");
            // Late, and said before: changes nothing.
            publication.acknowledge(&said(110, 50), Keep::Window);
            assert_eq!(publication.resume().0.sequence, first, "{mode:?}");
            publication.acknowledge(&said(110, 110), Keep::Window);
            assert_eq!(publication.resume().0.sequence, 108, "{mode:?}");
            assert!(publication.is_settled());
            assert_eq!(publication.take_loss(), Loss::default());
        }
    }

    #[test]
    fn the_next_owner_of_a_recording_gets_all_that_is_not_durable() {
        let mut publication = published(1 << 20, v1::PublishMode::Record);
        let header = MediaMessage {
            flags: FrameFlags::HEADER | FrameFlags::KEY,
            payload: Bytes::from_static(&[0x17, 0, 0, 0, 0, 1]),
            ..message(0, true)
        };
        publication.push(header);
        send(&mut publication, 1..100);
        publication.acknowledge(&said(100, 30), Keep::Window);
        publication.hold();
        let (first, preface) = publication.resume();
        assert_eq!((first.epoch, first.sequence), (7, 30));
        // It left long ago.
        assert_eq!(preface.len(), 1);
        publication.resumed(30);
        assert_eq!(sequences(publication.next_batch()), Vec::from_iter(30..100));
        // Its word on what is durable counts, not that of the one before.
        publication.acknowledge(&said(100, 32), Keep::Window);
        send(&mut publication, 100..101);
        assert_eq!(publication.resume().0.sequence, 32);
        // This one has the frames, but not durably.
        publication.hold();
        publication.resumed(101);
        assert!(!publication.is_settled());
        publication.acknowledge(&said(101, 32), Keep::Window);
        assert_eq!(publication.resume().0.sequence, 32);
        publication.acknowledge(&said(101, 101), Keep::Window);
        assert!(publication.is_settled());
    }

    #[test]
    fn a_store_that_is_slow_costs_no_more_than_the_window() {
        let mut publication = published(1_000, v1::PublishMode::Append);
        for n in 0..100 {
            send(&mut publication, n..n + 1);
            publication.acknowledge(&said(n as u64 + 1, 20.min(n as u64)), Keep::Window);
            assert!(publication.window.bytes() <= 1_000);
        }
        // Ten frames of a hundred bytes fit.
        assert_eq!(publication.resume().0.sequence, 90);
        assert!(publication.is_short_of_room());
        let expected = Loss {
            unsent: 0,
            not_durable: 70,
        };
        assert_eq!(publication.take_loss(), expected);
        // What goes now was counted.
        publication.acknowledge(&said(100, 95), Keep::Window);
        assert!(!publication.is_short_of_room());
        send(&mut publication, 100..103);
        assert_eq!(publication.take_loss(), Loss::default());
        // No owner at all: each frame is counted once, as what it is.
        for n in 103..200 {
            publication.push(message(n * 1_000, true));
        }
        let expected = Loss {
            unsent: 190 - 103,
            not_durable: 103 - 95,
        };
        assert_eq!(publication.take_loss(), expected);
    }

    #[test]
    fn for_an_owner_that_nobody_can_follow_a_recording_is_not_kept_either() {
        let mut publication = published(1 << 20, v1::PublishMode::Record);
        send(&mut publication, 0..100);
        publication.acknowledge(&said(90, 10), Keep::Unacknowledged);
        assert_eq!(held(&publication), Vec::from_iter(90..100));
        publication.acknowledge(&said(100, 10), Keep::Unacknowledged);
        assert!(publication.is_settled());
        assert_eq!(publication.take_loss(), Loss::default());
        // Another origin joins: from here on there is somebody to send it to.
        send(&mut publication, 100..110);
        publication.acknowledge(&said(110, 10), Keep::Window);
        send(&mut publication, 110..120);
        assert_eq!(held(&publication), Vec::from_iter(99..120));
        assert_eq!(publication.take_loss(), Loss::default());
    }
}
