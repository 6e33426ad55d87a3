//! What is published: a synthetic stream, or an FLV file again and again.

pub mod file;
mod sei;

use std::sync::Arc;

use bytes::Bytes;
use headwater_media::frame::{FrameFlags, FrameKind};
use headwater_media::synthetic::{Settings, SettingsError, SyntheticStream};
use headwater_rtmp::command::DataKind;

use file::{FlvFile, Playback};

/// What a publisher is to send.
#[derive(Clone, Debug)]
pub enum SourceOptions {
    /// A synthetic stream.
    Synthetic(Settings),
    /// A file, shared by all publishers of it.
    File(Arc<FlvFile>),
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self::Synthetic(Settings::default())
    }
}

/// One message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFrame {
    /// Milliseconds from the start of the source. Never smaller than that of the frame before.
    pub timestamp: u64,
    /// Audio, video or data.
    pub kind: FrameKind,
    /// What a data message asks for.
    pub data: DataKind,
    /// Whether it is a codec header or metadata and not media.
    pub is_header: bool,
    /// The number in the frame's stamp, if it has one.
    pub sequence: Option<u64>,
    /// The body of the message.
    pub payload: Bytes,
}

/// A source at some place of it. Never ends.
#[derive(Debug)]
pub enum Source {
    /// Made as it goes. Boxed, for it is much the larger one.
    Synthetic(Box<SyntheticStream>),
    /// From a file.
    File(Playback),
}

impl Source {
    /// A source at its start.
    ///
    /// # Errors
    /// [`SettingsError`] for a synthetic stream that there cannot be.
    pub fn new(options: &SourceOptions) -> Result<Self, SettingsError> {
        Ok(match options {
            SourceOptions::Synthetic(settings) => {
                Self::Synthetic(Box::new(SyntheticStream::new(*settings)?))
            }
            SourceOptions::File(file) => Self::File(Playback::new(Arc::clone(file))),
        })
    }

    /// When the next frame is due, in milliseconds from the start.
    #[must_use]
    pub fn next_timestamp(&self) -> u64 {
        match self {
            Self::Synthetic(stream) => stream.next_timestamp(),
            Self::File(playback) => playback.next_timestamp(),
        }
    }

    /// The next frame, stamped as sent at `sent_at`, in nanoseconds of [`now_ns`](crate::clock::now_ns).
    pub fn next_frame(&mut self, sent_at: u64) -> SourceFrame {
        match self {
            Self::File(playback) => playback.next_frame(sent_at),
            Self::Synthetic(stream) => {
                let frame = stream.next_frame(sent_at);
                let is_header =
                    frame.kind == FrameKind::Data || frame.flags.contains(FrameFlags::HEADER);
                let stamp = (!is_header)
                    .then(|| headwater_media::synthetic::read_stamp(&frame.payload))
                    .flatten();
                SourceFrame {
                    timestamp: frame.timestamp,
                    kind: frame.kind,
                    data: match frame.kind {
                        FrameKind::Data => DataKind::SetDataFrame,
                        _ => DataKind::Plain,
                    },
                    is_header,
                    sequence: stamp.map(|stamp| stamp.sequence),
                    payload: frame.payload,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synthetic_source_says_when_it_is_due_and_numbers_its_frames() {
        let mut source = Source::new(&SourceOptions::default()).unwrap();
        let mut last = 0;
        let (mut video, mut audio, mut headers) = (0, 0, 0);
        for _ in 0..500 {
            let due = source.next_timestamp();
            let frame = source.next_frame(9);
            assert!(frame.is_header || frame.timestamp == due);
            assert!(frame.timestamp >= last);
            last = frame.timestamp;
            let count = match frame.kind {
                _ if frame.is_header => {
                    assert_eq!(frame.sequence, None);
                    headers += 1;
                    continue;
                }
                FrameKind::Video => &mut video,
                _ => &mut audio,
            };
            assert_eq!(frame.sequence, Some(*count));
            *count += 1;
        }
        assert_eq!(headers, 3);
        assert!(video > 100 && audio > 100);
    }
}
