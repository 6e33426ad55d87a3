//! Names, offsets and frames between their two forms: in memory, and in the protocol between nodes.
//!
//! Both ends of every call use these, so the two forms cannot drift apart. What a peer sends is only translated here; what it
//! may send is for the receiver to judge.

use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use headwater_media::name::StreamName;
use headwater_proto::v1;

/// The wire form of a stream's name.
#[must_use]
pub fn to_name(name: &StreamName) -> v1::StreamName {
    v1::StreamName {
        vhost: name.vhost.clone(),
        app: name.app.clone(),
        instance: name.instance.clone(),
        stream: name.stream.clone(),
    }
}

/// The wire form of an offset.
#[must_use]
pub fn to_offset(offset: Offset) -> v1::Offset {
    v1::Offset {
        epoch: offset.epoch.0,
        sequence: offset.sequence,
    }
}

/// An offset from the wire.
#[must_use]
pub fn offset(offset: v1::Offset) -> Offset {
    Offset {
        epoch: Epoch(offset.epoch),
        sequence: offset.sequence,
    }
}

/// The wire form of a frame; its epoch stands beside it.
#[must_use]
pub fn to_frame(frame: &Frame) -> v1::Frame {
    let kind = match frame.kind {
        FrameKind::Audio => v1::FrameKind::Audio,
        FrameKind::Video => v1::FrameKind::Video,
        FrameKind::Data => v1::FrameKind::Data,
    };
    v1::Frame {
        sequence: frame.offset.sequence,
        timestamp: frame.timestamp,
        kind: kind.into(),
        flags: frame.flags.bits(),
        payload: frame.payload.clone(),
    }
}

/// A frame from the wire. `None` for a kind that this version does not know.
#[must_use]
pub fn frame(epoch: Epoch, frame: v1::Frame) -> Option<Frame> {
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
        // Bits of a later version travel on to nodes that know them.
        flags: FrameFlags::from_bits_retain(frame.flags),
        payload: frame.payload,
    })
}

/// Frames of one epoch from the wire; those of a kind that this version does not know are left out.
#[must_use]
pub fn frames(epoch: Epoch, frames: Vec<v1::Frame>) -> Vec<Frame> {
    frames
        .into_iter()
        .filter_map(|it| frame(epoch, it))
        .collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_frame_survives_the_way() {
        for kind in [FrameKind::Audio, FrameKind::Video, FrameKind::Data] {
            let sent = Frame {
                offset: Offset {
                    epoch: Epoch(7),
                    sequence: 9,
                },
                timestamp: 1 << 40,
                kind,
                flags: FrameFlags::KEY | FrameFlags::from_bits_retain(1 << 30),
                payload: Bytes::from_static(b"payload"),
            };
            assert_eq!(frame(Epoch(7), to_frame(&sent)), Some(sent));
        }
    }

    #[test]
    fn a_kind_of_a_later_version_is_left_out() {
        let unknown = v1::Frame {
            kind: 99,
            ..v1::Frame::default()
        };
        let known = v1::Frame {
            kind: v1::FrameKind::Audio.into(),
            ..v1::Frame::default()
        };
        assert_eq!(frames(Epoch(1), vec![unknown, known]).len(), 1);
    }

    #[test]
    fn names_and_offsets_survive_the_way() {
        let name = StreamName::new("v", "live", "a/b", "show").unwrap();
        let sent = to_name(&name);
        let parts = [&sent.vhost, &sent.app, &sent.instance, &sent.stream];
        assert_eq!(parts, ["v", "live", "a/b", "show"]);
        let at = Offset {
            epoch: Epoch(3),
            sequence: 4,
        };
        assert_eq!(offset(to_offset(at)), at);
    }
}
