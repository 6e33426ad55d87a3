//! Frames as the bytes that an RTMP server sends to a viewer (RTMP 1.0, section 5.3), made once for all of them.

use bytes::Bytes;
use headwater_media::frame::{FrameFlags, FrameKind};
use headwater_media::inspect::inspect;
use headwater_rtmp::chunk::shared_wire_form;
use headwater_rtmp::command::chunk_streams;
use headwater_rtmp::message::{Message, MessageType};

use super::log::Batch;
use crate::source::SourceFrame;

/// Chunk size in bytes that the receivers have to know: nothing tells them.
pub const CHUNK_SIZE: u32 = 65_536;

/// What nearly every client gets for its first stream.
const STREAM_ID: u32 = 1;

/// Puts messages together until they are sent.
#[derive(Debug, Default)]
pub(super) struct Packer {
    /// The latest metadata, and codec headers of video and audio.
    headers: [Option<Bytes>; 3],
    has_video: bool,
    pending: Vec<u8>,
    /// Codec headers for sockets that begin here, and where in `pending` they go on.
    beginning: Option<(Vec<u8>, usize)>,
    timestamp: u64,
}

impl Packer {
    pub(super) fn add(&mut self, frame: &SourceFrame) {
        self.timestamp = frame.timestamp;
        if frame.is_header {
            let [metadata, video, audio] = &mut self.headers;
            let slot = match frame.kind {
                FrameKind::Data => metadata,
                FrameKind::Video => video,
                FrameKind::Audio => audio,
            };
            *slot = Some(frame.payload.clone());
        } else {
            self.has_video |= frame.kind == FrameKind::Video;
            if self.beginning.is_none() && self.can_begin_with(frame) {
                self.beginning = Some((self.preface(frame.timestamp), self.pending.len()));
            }
        }
        let wire = wire(frame.kind, frame.timestamp, &frame.payload);
        self.pending.extend_from_slice(&wire);
    }

    /// Whether there was a video frame, a codec header not counting as one.
    pub(super) const fn has_video(&self) -> bool {
        self.has_video
    }

    /// Bytes put together since the last batch.
    pub(super) const fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What was put together since the last batch, if there is anything.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if self.pending.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.pending);
        let beginning = self.beginning.take().map(|(mut preface, place)| {
            preface.extend_from_slice(bytes.get(place..).unwrap_or_default());
            preface
        });
        Some(Batch {
            bytes,
            beginning,
            timestamp: self.timestamp,
        })
    }

    /// A stream without video can be entered anywhere.
    fn can_begin_with(&self, frame: &SourceFrame) -> bool {
        match frame.kind {
            FrameKind::Video => inspect(frame.kind, &frame.payload)
                .flags
                .contains(FrameFlags::KEY),
            _ => !self.has_video,
        }
    }

    /// Metadata is about the whole stream, codec headers belong to the frame that follows.
    fn preface(&self, timestamp: u64) -> Vec<u8> {
        let kinds = [
            (FrameKind::Data, 0),
            (FrameKind::Video, timestamp),
            (FrameKind::Audio, timestamp),
        ];
        let mut preface = Vec::new();
        for (payload, (kind, timestamp)) in self.headers.iter().zip(kinds) {
            if let Some(payload) = payload {
                preface.extend_from_slice(&wire(kind, timestamp, payload));
            }
        }
        preface
    }
}

fn wire(kind: FrameKind, timestamp: u64, payload: &Bytes) -> Bytes {
    let (chunk_stream, message_type) = match kind {
        FrameKind::Audio => (chunk_streams::AUDIO, MessageType::AUDIO),
        FrameKind::Video => (chunk_streams::VIDEO, MessageType::VIDEO),
        FrameKind::Data => (chunk_streams::DATA, MessageType::DATA_AMF0),
    };
    let message = Message {
        kind: message_type,
        // RTMP timestamps are the low 32 bits.
        timestamp: (timestamp & u64::from(u32::MAX)) as u32,
        stream_id: STREAM_ID,
        payload: payload.clone(),
    };
    shared_wire_form(chunk_stream, &message, CHUNK_SIZE).bytes
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use headwater_media::synthetic::{Settings, read_stamp};
    use headwater_rtmp::chunk::{ChunkReader, ReaderLimits};

    use super::*;
    use crate::source::{Source, SourceOptions};

    /// What a viewer sees.
    fn read(bytes: &[u8]) -> Vec<Message> {
        let mut reader = ChunkReader::new(ReaderLimits::default());
        let mut input = BytesMut::new();
        input.extend_from_slice(&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]);
        input.extend_from_slice(&CHUNK_SIZE.to_be_bytes());
        input.extend_from_slice(bytes);
        let mut messages = Vec::new();
        while let Some(message) = reader.handle_input(&mut input).unwrap() {
            if message.kind != MessageType::SET_CHUNK_SIZE {
                messages.push(message);
            }
        }
        assert_eq!((input.len(), reader.partial_bytes()), (0, 0));
        messages
    }

    fn source(settings: Settings) -> Source {
        Source::new(&SourceOptions::Synthetic(settings)).unwrap()
    }

    fn kinds(messages: &[Message]) -> Vec<u8> {
        messages.iter().map(|message| message.kind.0).collect()
    }

    #[test]
    fn a_batch_is_what_a_server_sends() {
        let mut source = source(Settings {
            // A key frame of several chunks.
            video_bitrate: 20_000_000,
            ..Settings::default()
        });
        let mut packer = Packer::default();
        assert_eq!(packer.take(), None);
        let frames: Vec<_> = (0..40).map(|_| source.next_frame(1)).collect();
        for frame in &frames {
            packer.add(frame);
        }
        assert!(packer.has_video() && packer.pending() > CHUNK_SIZE as usize);
        let batch = packer.take().unwrap();
        assert_eq!(packer.pending(), 0);
        let messages = read(&batch.bytes);
        assert_eq!(messages.len(), frames.len());
        for (message, frame) in messages.iter().zip(&frames) {
            assert_eq!(message.payload, frame.payload);
            assert_eq!(u64::from(message.timestamp), frame.timestamp);
            assert_eq!(message.stream_id, STREAM_ID);
        }
        assert_eq!(batch.timestamp, frames.last().unwrap().timestamp);
        // Headers are not told twice to those who begin with the first frame.
        assert_eq!(batch.beginning.as_ref(), Some(&batch.bytes));
    }

    #[test]
    fn newcomers_begin_with_headers_and_a_key_frame() {
        let mut source = source(Settings {
            gop: 10,
            ..Settings::default()
        });
        let mut packer = Packer::default();
        let mut begun = Vec::new();
        // As many messages in a batch as make key frames fall in the middle.
        for _ in 0..20 {
            for _ in 0..7 {
                packer.add(&source.next_frame(1));
            }
            let batch = packer.take().unwrap();
            let Some(beginning) = &batch.beginning else {
                continue;
            };
            let messages = read(beginning);
            assert_eq!(kinds(&messages)[..4], [18, 9, 8, 9]);
            let key = &messages[3];
            assert!(
                inspect(FrameKind::Video, &key.payload)
                    .flags
                    .contains(FrameFlags::KEY)
            );
            let times: Vec<u32> = messages[..3].iter().map(|one| one.timestamp).collect();
            assert_eq!(times, [0, key.timestamp, key.timestamp]);
            // From there on as everybody else.
            let rest = read(&batch.bytes);
            assert!(rest.ends_with(&messages[3..]));
            begun.push(read_stamp(&key.payload).unwrap().sequence);
        }
        assert_eq!(begun[..4], [0, 10, 20, 30]);
    }

    #[test]
    fn without_video_every_frame_is_a_beginning() {
        let mut packer = Packer::default();
        let frame = |timestamp, is_header| SourceFrame {
            timestamp,
            kind: FrameKind::Audio,
            data: headwater_rtmp::command::DataKind::Plain,
            is_header,
            sequence: None,
            payload: Bytes::from_static(&[0xaf, 1, 2, 3]),
        };
        packer.add(&frame(0, true));
        assert_eq!(packer.take().unwrap().beginning, None);
        for timestamp in [20_000_000, 20_000_021] {
            packer.add(&frame(timestamp, false));
            let beginning = packer.take().unwrap().beginning.unwrap();
            let messages = read(&beginning);
            assert_eq!(kinds(&messages), [8, 8]);
            // An extended timestamp.
            assert!(
                messages
                    .iter()
                    .all(|one| u64::from(one.timestamp) == timestamp)
            );
        }
        assert!(!packer.has_video());
    }
}
