//! Between the messages of the contract and our types; everything that a peer sends is checked here.

use headwater_cluster::wire::{offset, to_frame, to_offset};
use headwater_media::frame::{Epoch, Frame};
use headwater_media::name::{NameError, StreamName};
use headwater_proto::v1;

use crate::log::{Item, MAX_PAYLOAD, MAX_PREFACE_FRAMES, PublisherId, Resume, Start, Target};
use crate::record::recordings::Mode;

/// Most node ids in one list of a routing: the size of the largest cluster.
const MAX_ROUTING_NODES: usize = headwater_cluster::member::MAX_MEMBERS;

/// Letters of a caller's own description (edge, client) that we keep for logs.
const MAX_DESCRIPTION: usize = 256;

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the stream has no name")]
    NoName,
    #[error("stream name: {0}")]
    Name(#[from] NameError),
    #[error("the publisher id has {0} bytes instead of 16")]
    PublisherId(usize),
    #[error("unknown publish mode {0}")]
    Mode(i32),
    #[error("{0} frames of preface, at most {MAX_PREFACE_FRAMES} are allowed")]
    Preface(usize),
    #[error("the routing names {0} nodes, more than a cluster has")]
    Routing(usize),
    #[error("frame {sequence} is of unknown kind {kind}")]
    Kind { sequence: u64, kind: i32 },
    #[error("frame {sequence} has {length} bytes, at most {MAX_PAYLOAD} are allowed")]
    Payload { sequence: u64, length: usize },
    #[error("the read has no position")]
    NoPosition,
    #[error("nothing is said of the stream")]
    NoInfo,
}

/// [`v1::AppendOpen`], checked.
#[derive(Debug)]
pub(crate) struct AppendOpen {
    pub(crate) publisher: PublisherId,
    /// How the stream is recorded, if it is.
    pub(crate) recording: Option<Mode>,
    /// How much of the recording is kept, in milliseconds. 0: all.
    pub(crate) record_window_ms: u64,
    pub(crate) resume: Option<Resume>,
}

pub(crate) fn name(name: Option<&v1::StreamName>) -> Result<StreamName, Malformed> {
    let name = name.ok_or(Malformed::NoName)?;
    Ok(StreamName::new(
        &name.vhost,
        &name.app,
        &name.instance,
        &name.stream,
    )?)
}

pub(crate) fn routing(routing: Option<v1::Routing>) -> Result<v1::Routing, Malformed> {
    let routing = routing.unwrap_or_default();
    let longest = routing.unreachable.len().max(routing.relayed_by.len());
    if longest > MAX_ROUTING_NODES {
        return Err(Malformed::Routing(longest));
    }
    Ok(routing)
}

pub(crate) fn append_open(open: v1::AppendOpen) -> Result<AppendOpen, Malformed> {
    let publisher = PublisherId::try_from(&open.publisher_id[..])
        .map_err(|_| Malformed::PublisherId(open.publisher_id.len()))?;
    let recording = match v1::PublishMode::try_from(open.mode) {
        Ok(v1::PublishMode::Live) => None,
        Ok(v1::PublishMode::Record) => Some(Mode::Record),
        Ok(v1::PublishMode::Append) => Some(Mode::Append),
        Ok(v1::PublishMode::AppendWithGap) => Some(Mode::AppendWithGap),
        Ok(v1::PublishMode::Unspecified) | Err(_) => return Err(Malformed::Mode(open.mode)),
    };
    if open.preface.len() > MAX_PREFACE_FRAMES {
        return Err(Malformed::Preface(open.preface.len()));
    }
    let resume = match open.resume {
        Some(at) => Some(Resume {
            epoch: Epoch(at.epoch),
            first_sequence: at.sequence,
            preface: frames(Epoch(at.epoch), open.preface)?,
        }),
        None => None,
    };
    Ok(AppendOpen {
        publisher,
        recording,
        record_window_ms: open.record_window_ms,
        resume,
    })
}

pub(crate) fn start(position: Option<v1::read_open::Position>) -> Result<Start, Malformed> {
    match position {
        Some(v1::read_open::Position::Live(_)) => Ok(Start::Live),
        Some(v1::read_open::Position::Offset(at)) => Ok(Start::Offset(offset(at))),
        None => Err(Malformed::NoPosition),
    }
}

pub(crate) fn frames(epoch: Epoch, frames: Vec<v1::Frame>) -> Result<Vec<Frame>, Malformed> {
    frames.into_iter().map(|it| frame(epoch, it)).collect()
}

fn frame(epoch: Epoch, frame: v1::Frame) -> Result<Frame, Malformed> {
    let (sequence, kind, length) = (frame.sequence, frame.kind, frame.payload.len());
    if length > MAX_PAYLOAD {
        return Err(Malformed::Payload { sequence, length });
    }
    let made = headwater_cluster::wire::frame(epoch, frame);
    let mut made = made.ok_or(Malformed::Kind { sequence, kind })?;
    // It came as a slice of a network buffer, of which it must not hold the rest; and once nothing holds it, the buffer takes
    // the next message.
    made.payload = made.payload.to_vec().into();
    Ok(made)
}

pub(crate) fn to_frames(frames: &[Frame]) -> Vec<v1::Frame> {
    frames.iter().map(to_frame).collect()
}

pub(crate) fn to_moved(target: &Target, ring_version: u64) -> v1::Moved {
    v1::Moved {
        owner: target.node.clone(),
        address: target.address.clone(),
        ring_version,
    }
}

/// An answer to a reader. `trace` is the publisher's traceparent, for an item that begins a run.
pub(crate) fn to_response(item: Item, ring_version: u64, trace: String) -> v1::ReadResponse {
    use v1::read_response::Response;

    let status = |state: v1::StreamState, epoch: Epoch, traceparent| {
        Response::Status(v1::StreamStatus {
            state: state.into(),
            epoch: epoch.0,
            traceparent,
        })
    };
    let response = match item {
        Item::Frames(frames) => Response::Frames(v1::FrameBatch {
            epoch: frames.first().map_or(0, |frame| frame.offset.epoch.0),
            frames: to_frames(&frames),
        }),
        Item::Published(epoch) => status(v1::StreamState::Published, epoch, trace),
        Item::Unpublished(epoch) => status(v1::StreamState::Unpublished, epoch, String::new()),
        Item::Gap {
            from, to, preface, ..
        } => Response::Gap(v1::Gap {
            from: Some(to_offset(from)),
            to: Some(to_offset(to)),
            preface: to_frames(&preface),
        }),
        Item::Moved(target) => Response::Moved(to_moved(&target, ring_version)),
        Item::Stale => Response::Rejected(v1::ReadRejected {
            reason: v1::RejectReason::Stale.into(),
            description: "the stream is published in an earlier epoch here".to_owned(),
        }),
    };
    v1::ReadResponse {
        response: Some(response),
    }
}

/// The beginning of a text that a caller chose, for logs.
pub(crate) fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MAX_DESCRIPTION);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use headwater_media::frame::{FrameFlags, FrameKind, Offset};

    use super::*;

    #[test]
    fn frames_go_there_and_back() {
        let frame = Frame {
            offset: Offset {
                epoch: Epoch(7),
                sequence: 8,
            },
            timestamp: 1 << 33,
            kind: FrameKind::Data,
            flags: FrameFlags::METADATA | FrameFlags::from_bits_retain(1 << 20),
            payload: vec![1, 2, 3].into(),
        };
        let there = to_frame(&frame);
        assert_eq!(frames(Epoch(7), vec![there]), Ok(vec![frame]));
    }

    #[test]
    fn bad_frames_are_refused() {
        let good = v1::Frame {
            sequence: 3,
            kind: v1::FrameKind::Audio.into(),
            ..v1::Frame::default()
        };
        assert!(frames(Epoch(1), vec![good.clone()]).is_ok());
        for (bad, expected) in [
            (
                v1::Frame {
                    kind: 0,
                    ..good.clone()
                },
                Malformed::Kind {
                    sequence: 3,
                    kind: 0,
                },
            ),
            (
                v1::Frame {
                    kind: 77,
                    ..good.clone()
                },
                Malformed::Kind {
                    sequence: 3,
                    kind: 77,
                },
            ),
            (
                v1::Frame {
                    payload: vec![0; MAX_PAYLOAD + 1].into(),
                    ..good.clone()
                },
                Malformed::Payload {
                    sequence: 3,
                    length: MAX_PAYLOAD + 1,
                },
            ),
        ] {
            assert_eq!(frames(Epoch(1), vec![good.clone(), bad]), Err(expected));
        }
    }

    #[test]
    fn long_descriptions_are_cut_between_letters() {
        assert_eq!(shortened("edge"), "edge");
        let long = "ä".repeat(MAX_DESCRIPTION);
        assert_eq!(shortened(&long).len(), MAX_DESCRIPTION);
        let odd = format!("x{long}");
        assert_eq!(shortened(&odd).len(), MAX_DESCRIPTION - 1);
    }
}
