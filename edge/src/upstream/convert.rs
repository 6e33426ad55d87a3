//! Frames between their two forms: in memory and in the inter-node protocol.

use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use headwater_media::name::StreamName;
use headwater_proto::v1;

/// The wire form of a stream's name.
pub(crate) fn name(name: &StreamName) -> v1::StreamName {
    v1::StreamName {
        vhost: name.vhost.clone(),
        app: name.app.clone(),
        instance: name.instance.clone(),
        stream: name.stream.clone(),
    }
}

/// The wire form of an offset.
pub(crate) fn offset(offset: Offset) -> v1::Offset {
    v1::Offset {
        epoch: offset.epoch.0,
        sequence: offset.sequence,
    }
}

/// An offset from the wire.
pub(crate) fn offset_in(offset: v1::Offset) -> Offset {
    Offset {
        epoch: Epoch(offset.epoch),
        sequence: offset.sequence,
    }
}

/// The wire form of a frame; its epoch stands beside it.
pub(crate) fn frame(frame: &Frame) -> v1::Frame {
    v1::Frame {
        sequence: frame.offset.sequence,
        timestamp: frame.timestamp,
        kind: match frame.kind {
            FrameKind::Audio => v1::FrameKind::Audio,
            FrameKind::Video => v1::FrameKind::Video,
            FrameKind::Data => v1::FrameKind::Data,
        }
        .into(),
        flags: frame.flags.bits(),
        payload: frame.payload.clone(),
    }
}

/// A frame from the wire. `None` for a kind that this version does not know: it is skipped.
pub(crate) fn frame_in(epoch: Epoch, frame: v1::Frame) -> Option<Frame> {
    let kind = match frame.kind() {
        v1::FrameKind::Audio => FrameKind::Audio,
        v1::FrameKind::Video => FrameKind::Video,
        v1::FrameKind::Data => FrameKind::Data,
        v1::FrameKind::Unspecified => return None,
    };
    Some(Frame {
        offset: Offset {
            epoch,
            sequence: frame.sequence,
        },
        timestamp: frame.timestamp,
        kind,
        flags: FrameFlags::from_bits_retain(frame.flags),
        payload: frame.payload,
    })
}

/// Frames of one epoch from the wire.
pub(crate) fn frames_in(epoch: Epoch, frames: Vec<v1::Frame>) -> Vec<Frame> {
    frames
        .into_iter()
        .filter_map(|frame| frame_in(epoch, frame))
        .collect()
}
