//! Frames as the packets of a session of RTMFP, before they are encrypted: made once for all receivers of a kind.
//!
//! They are made by what makes those of a server: the flows of `headwater-rtmfp`, one for data, audio and video each, whose far end is here
//! as well and acknowledges at once. So chunks are cut, ordered and packed as for a viewer on a network that loses nothing.

use std::time::Duration;

use headwater_media::frame::FrameKind;
use headwater_rtmfp::crypto::packet::Sealer;
use headwater_rtmfp::flow::{self, FlowSet, Opening, Order, Outgoing, Priority, SendId};
use headwater_rtmfp::message::{Metadata, body};
use headwater_rtmfp::session::SessionConfig;
use headwater_rtmfp::wire::chunk::Chunks;
use headwater_rtmfp::wire::{Header, Mode};
use headwater_rtmp::message::MessageType;

use crate::source::SourceFrame;

/// What nearly every client gets for its first stream.
const STREAM_ID: u32 = 1;

/// Bytes of a packet's header, at most.
const HEADER: usize = 5;

/// Bytes by which the number of a packet grows in the first hours: from one to three.
const NUMBER: usize = 2;

/// A packet.
#[derive(Debug)]
pub(super) struct Ready {
    header: Header,
    chunks: Vec<u8>,
}

impl Ready {
    /// Bytes of it.
    pub(super) fn length(&self) -> usize {
        self.header.length() + self.chunks.len()
    }

    /// Appends it.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        out.extend_from_slice(&self.chunks);
    }
}

/// Makes packets.
#[derive(Debug)]
pub(super) struct Packets {
    near: FlowSet,
    far: FlowSet,
    /// Data, audio, video.
    flows: [SendId; 3],
    /// Bytes of chunks in a packet.
    space: usize,
    ready: Vec<Ready>,
    waiting: Vec<(SendId, Outgoing)>,
}

impl Packets {
    /// For datagrams of the usual length that are made with such a sealer. `None`: flows cannot be opened, which does not happen.
    pub(super) fn new(sealer: &Sealer) -> Option<Self> {
        let config = SessionConfig::default();
        let numbered = sealer.length(0) > Sealer::startup().length(0);
        let number = if numbered { NUMBER } else { 0 };
        let space = sealer
            .capacity(config.datagram)
            .checked_sub(HEADER + number)?;
        let mut flows = config.flows;
        flows.segment = flows.segment.min(space);
        let mut near = FlowSet::new(flows);
        let metadata = Metadata {
            stream_id: STREAM_ID,
            order: Order::InOrder,
        };
        let mut open = |priority, time_critical| {
            let opening = Opening {
                metadata: &metadata.to_bytes(),
                association: None,
                priority,
                time_critical,
            };
            near.open(&opening).ok()
        };
        let flows = [
            open(Priority::CONTROL, false)?,
            open(Priority::AUDIO, true)?,
            open(Priority::VIDEO, true)?,
        ];
        Some(Self {
            near,
            far: FlowSet::new(flow::Config::default()),
            flows,
            space,
            ready: Vec::new(),
            waiting: Vec::new(),
        })
    }

    pub(super) fn add(&mut self, frame: &SourceFrame) {
        let [data, audio, video] = self.flows;
        let (flow, kind) = match frame.kind {
            FrameKind::Data => (data, MessageType::DATA_AMF0),
            FrameKind::Audio => (audio, MessageType::AUDIO),
            FrameKind::Video => (video, MessageType::VIDEO),
        };
        // RTMP timestamps are the low 32 bits.
        let timestamp = (frame.timestamp & u64::from(u32::MAX)) as u32;
        let message = Outgoing::from(body(kind, timestamp, frame.payload.clone()));
        self.waiting.push((flow, message));
    }

    /// Makes packets of all that was added since the last time.
    pub(super) fn make(&mut self, now: u64) {
        let now = Duration::from_nanos(now);
        self.ready.clear();
        self.far.handle_timeout(now);
        self.acknowledge(now);
        self.near.handle_timeout(now);
        for (flow, message) in self.waiting.drain(..) {
            // All was acknowledged: there is always room.
            let _sent = self.near.send(now, flow, message);
        }
        loop {
            let mut chunks = Vec::with_capacity(self.space);
            let Some(header) = self.near.poll_transmit(now, self.space, &mut chunks) else {
                break;
            };
            let read = Chunks::new(&chunks).map(|chunk| (chunk.kind.0, chunk.payload));
            self.far.handle_packet(now, &header, read);
            self.acknowledge(now);
            let header = Header {
                time_critical: header.time_critical,
                time_critical_reverse: header.time_critical_reverse,
                timestamp: header.timestamp,
                timestamp_echo: header.echo,
                ..Header::new(Mode::Responder)
            };
            self.ready.push(Ready { header, chunks });
        }
    }

    /// The packets that were made last.
    pub(super) fn ready(&self) -> &[Ready] {
        &self.ready
    }

    /// Has the far end take what came, and say so.
    fn acknowledge(&mut self, now: Duration) {
        while self.far.poll_event().is_some() {}
        let mut chunks = Vec::new();
        while let Some(header) = self.far.poll_transmit(now, self.space, &mut chunks) {
            let read = Chunks::new(&chunks).map(|chunk| (chunk.kind.0, chunk.payload));
            self.near.handle_packet(now, &header, read);
            chunks.clear();
        }
        while self.near.poll_event().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use headwater_media::synthetic::Settings;
    use headwater_rtmfp::crypto::negotiation::Protection;
    use headwater_rtmfp::flow::Event;

    use super::*;
    use crate::floor::hello::Hello;
    use crate::source::{Source, SourceOptions};

    #[test]
    fn everything_is_in_packets_that_fit_into_datagrams() {
        for protection in [Protection::Never, Protection::Require] {
            let hello = Hello::new(protection, 1, [3; 48]);
            let mut sealer = hello.sealer();
            let mut packets = Packets::new(&sealer).unwrap();
            let mut source = Source::new(&SourceOptions::Synthetic(Settings {
                // Key frames of many packets.
                video_bitrate: 8_000_000,
                gop: 30,
                ..Settings::default()
            }))
            .unwrap();
            let mut viewer = FlowSet::new(flow::Config::default());
            let (mut sent, mut came, mut longest) = (0, 0, 0);
            for flush in 0..100_u64 {
                let now = flush * 33_000_000;
                let frames: Vec<_> = (0..3).map(|_| source.next_frame(now)).collect();
                frames.iter().for_each(|frame| packets.add(frame));
                sent += frames.len();
                packets.make(now);
                assert!(!packets.ready().is_empty());
                for packet in packets.ready() {
                    let mut datagram = Vec::new();
                    let expected = sealer.length(packet.length());
                    let draft = sealer.begin(&mut datagram);
                    packet.put(&mut datagram);
                    sealer.finish(draft, 1, &mut datagram);
                    assert_eq!(datagram.len(), expected);
                    assert!(datagram.len() <= 1_200, "{protection:?}");
                    longest = longest.max(datagram.len());
                    let header = flow::Header::default();
                    let chunks = Chunks::new(&packet.chunks);
                    let chunks = chunks.map(|chunk| (chunk.kind.0, chunk.payload));
                    let now = Duration::from_nanos(now);
                    viewer.handle_packet(now, &header, chunks);
                }
                while let Some(event) = viewer.poll_event() {
                    came += usize::from(matches!(event, Event::Message { .. }));
                }
            }
            assert_eq!(came, sent, "{protection:?}");
            assert!(longest > 1_150, "{longest}");
        }
    }
}
