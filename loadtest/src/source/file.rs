//! FLV files as sources: read once, shared by all publishers, played in a loop with timestamps that go on.
//!
//! Timestamps that go back are taken as the one before. H.264 frames get a stamp as synthetic ones have; other video goes as it is, and
//! viewers can then count it but not number it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use headwater_media::flv::{FlvError, FlvEvent, FlvReader, MAX_TAG_BODY, Tag};
use headwater_media::frame::{FrameFlags, FrameKind};
use headwater_media::inspect::inspect;
use headwater_media::synthetic::Stamp;
use headwater_media::timeline::TimestampUnwrapper;
use headwater_rtmp::command::{DataKind, normalise_data};

use super::SourceFrame;
use super::sei::{self, Stamper};

/// Largest file, in bytes: it is held in memory.
pub const MAX_FILE_SIZE: u64 = 2 * 1024 * 1024 * 1024;

/// Shortest time that a pass through a file takes, in milliseconds: one frame at 25 frames per second.
const MIN_PERIOD_MS: u64 = 40;

const READ_SIZE: usize = 256 * 1024;

/// Why a file cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}: {message}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        message: String,
    },
    /// It is not FLV.
    #[error("{}: {cause}", path.display())]
    Flv {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: FlvError,
    },
    /// More than [`MAX_FILE_SIZE`].
    #[error("{} is larger than {MAX_FILE_SIZE} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// No audio or video but headers.
    #[error("{} holds no audio or video", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// A file in memory.
#[derive(Debug)]
pub struct FlvFile {
    frames: Vec<FileFrame>,
    /// Milliseconds from the first frame of one pass to that of the next.
    period: u64,
    stamper: Option<Stamper>,
}

#[derive(Debug)]
struct FileFrame {
    frame: SourceFrame,
    /// Bytes of the lengths of NAL units, if the frame can be stamped.
    length_size: Option<usize>,
}

impl FlvFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`]. A file that ends within a tag is played up to there, as recordings that were cut off often do.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let unreadable = |error: std::io::Error| FileError::Read {
            path: path.to_owned(),
            message: error.to_string(),
        };
        let broken = |cause| FileError::Flv {
            path: path.to_owned(),
            cause,
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let mut reader = FlvReader::new(MAX_TAG_BODY);
        let mut loading = Loading::default();
        let mut buffer = vec![0; READ_SIZE];
        let mut total = 0_u64;
        loop {
            let count = file.read(&mut buffer).map_err(unreadable)?;
            total = total.saturating_add(count as u64);
            if total > MAX_FILE_SIZE {
                return Err(FileError::TooLarge {
                    path: path.to_owned(),
                });
            }
            reader.feed(buffer.get(..count).unwrap_or(&[]));
            while let Some(event) = reader.poll().map_err(broken)? {
                if let FlvEvent::Tag(tag) = event {
                    loading.add(tag);
                }
            }
            if count == 0 {
                break;
            }
        }
        loading.finish().ok_or_else(|| {
            reader.finish().map_or_else(broken, |()| FileError::Empty {
                path: path.to_owned(),
            })
        })
    }

    /// Frames of one pass.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// How long one pass takes, in milliseconds.
    #[must_use]
    pub const fn period(&self) -> u64 {
        self.period
    }

    /// Video frames per second of a pass, at least 1.
    #[must_use]
    pub fn fps(&self) -> u32 {
        let video = self
            .frames
            .iter()
            .filter(|entry| entry.frame.kind == FrameKind::Video && !entry.frame.is_header)
            .count() as u64;
        u32::try_from(video.saturating_mul(1000) / self.period.max(1))
            .unwrap_or(u32::MAX)
            .max(1)
    }
}

/// A file while it is read.
#[derive(Default)]
struct Loading {
    frames: Vec<FileFrame>,
    unwrapper: TimestampUnwrapper,
    first: Option<u64>,
    last: u64,
    /// Time of the last coded frame of each kind, and the step to it: video, audio.
    steps: [Option<(u64, u64)>; 2],
    length_size: Option<usize>,
    media: bool,
}

impl Loading {
    fn add(&mut self, tag: Tag) {
        if tag.filtered {
            return;
        }
        let time = self.unwrapper.unwrap(tag.timestamp);
        let kind = tag.kind;
        let (data, payload) = match kind {
            FrameKind::Data => match normalise_data(false, tag.body) {
                (DataKind::Plain, body) if body.starts_with(b"\x02\x00\x0aonMetaData") => {
                    (DataKind::SetDataFrame, body)
                }
                other => other,
            },
            _ => (DataKind::Plain, tag.body),
        };
        let is_header =
            kind == FrameKind::Data || inspect(kind, &payload).flags.contains(FrameFlags::HEADER);
        // Headers often have time 0 in a file that starts later.
        if !is_header {
            self.media = true;
            let first = *self.first.get_or_insert(time);
            self.last = self.last.max(time.saturating_sub(first));
            let step = match kind {
                FrameKind::Video => self.steps.first_mut(),
                _ => self.steps.last_mut(),
            };
            if let Some(step) = step {
                *step = Some(match *step {
                    Some((before, _)) => (self.last, self.last - before.min(self.last)),
                    None => (self.last, 0),
                });
            }
        }
        if kind == FrameKind::Video
            && let Some(size) = sei::length_size(&payload)
        {
            self.length_size = Some(size);
        }
        let can_be_stamped = kind == FrameKind::Video && !is_header && sei::is_coded(&payload);
        self.frames.push(FileFrame {
            length_size: self.length_size.filter(|_| can_be_stamped),
            frame: SourceFrame {
                timestamp: self.last,
                kind,
                data,
                is_header,
                sequence: None,
                payload,
            },
        });
    }

    /// `None` if there is nothing to play.
    fn finish(self) -> Option<FlvFile> {
        if !self.media {
            return None;
        }
        // The last frame lasts as long as the one before it.
        let [video, audio] = self.steps;
        let period = [video, audio]
            .into_iter()
            .flatten()
            .map(|(last, step)| last.saturating_add(step))
            .max()
            .unwrap_or(0);
        Some(FlvFile {
            period: period.max(self.last).max(MIN_PERIOD_MS),
            frames: self.frames,
            stamper: Stamper::new(),
        })
    }
}

/// A place in a file that is played in a loop.
#[derive(Debug)]
pub struct Playback {
    file: Arc<FlvFile>,
    next: usize,
    /// Where this pass begins, in milliseconds.
    offset: u64,
    /// Number of the next stamp.
    sequence: u64,
}

impl Playback {
    pub(super) const fn new(file: Arc<FlvFile>) -> Self {
        Self {
            file,
            next: 0,
            offset: 0,
            sequence: 0,
        }
    }

    pub(super) fn next_timestamp(&self) -> u64 {
        let timestamp = self
            .file
            .frames
            .get(self.next)
            .map_or(0, |entry| entry.frame.timestamp);
        self.offset.saturating_add(timestamp)
    }

    pub(super) fn next_frame(&mut self, sent_at: u64) -> SourceFrame {
        let timestamp = self.next_timestamp();
        let mut frame = match self.file.frames.get(self.next) {
            Some(entry) => {
                let mut frame = entry.frame.clone();
                if let Some((payload, sequence)) = self.stamped(entry, sent_at) {
                    frame.payload = payload;
                    frame.sequence = Some(sequence);
                }
                frame
            }
            // A file always has a frame; nothing is sent for one that has not.
            None => SourceFrame {
                timestamp,
                kind: FrameKind::Data,
                data: DataKind::Plain,
                is_header: true,
                sequence: None,
                payload: Bytes::new(),
            },
        };
        frame.timestamp = timestamp;
        self.sequence += u64::from(frame.sequence.is_some());
        self.next += 1;
        if self.next >= self.file.frames.len() {
            self.next = 0;
            self.offset = self.offset.saturating_add(self.file.period);
        }
        frame
    }

    fn stamped(&self, entry: &FileFrame, sent_at: u64) -> Option<(Bytes, u64)> {
        let stamp = Stamp {
            sequence: self.sequence,
            sent_at,
        };
        let stamper = self.file.stamper.as_ref()?;
        let payload = stamper.stamp(&entry.frame.payload, entry.length_size?, stamp)?;
        Some((payload, self.sequence))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bytes::BytesMut;
    use headwater_media::flv::{FlvHeader, write_header, write_tag};
    use headwater_media::synthetic::{Settings, SyntheticStream, read_stamp};

    use super::*;
    use crate::source::{Source, SourceOptions};

    fn file(tags: &[(u32, FrameKind, &[u8])]) -> tempfile::NamedTempFile {
        let mut out = BytesMut::new();
        write_header(
            FlvHeader {
                has_audio: true,
                has_video: true,
            },
            &mut out,
        );
        for (timestamp, kind, body) in tags {
            assert!(write_tag(*timestamp, *kind, body, &mut out));
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&out).unwrap();
        file
    }

    const HEADER: &[u8] = &[0x17, 0, 0, 0, 0, 1, 66, 0, 30, 0xff];
    const PICTURE: &[u8] = &[0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, 1];

    #[test]
    fn a_file_goes_on_where_it_ended() {
        let on_meta_data = b"\x02\x00\x0aonMetaData\x03\x00\x00\x09";
        let file = file(&[
            (0, FrameKind::Data, on_meta_data),
            (0, FrameKind::Video, HEADER),
            (1000, FrameKind::Video, PICTURE),
            (1010, FrameKind::Audio, &[0xaf, 1, 9]),
            (1040, FrameKind::Video, PICTURE),
        ]);
        let file = Arc::new(FlvFile::load(file.path()).unwrap());
        assert_eq!((file.frames(), file.period(), file.fps()), (5, 80, 25));
        let mut source = Source::new(&SourceOptions::File(file)).unwrap();
        let mut seen = Vec::new();
        for pass in 0..3 {
            for _ in 0..5 {
                let due = source.next_timestamp();
                let frame = source.next_frame(1_000 + pass);
                assert_eq!(frame.timestamp, due);
                let stamp = read_stamp(&frame.payload);
                assert_eq!(stamp.map(|stamp| stamp.sequence), frame.sequence);
                if let Some(stamp) = stamp {
                    assert_eq!(stamp.sent_at, 1_000 + pass);
                }
                assert_eq!(
                    frame.data == DataKind::SetDataFrame,
                    frame.kind == FrameKind::Data
                );
                seen.push((due, frame.sequence));
            }
        }
        assert_eq!(
            seen,
            [
                (0, None),
                (0, None),
                (0, Some(0)),
                (10, None),
                (40, Some(1)),
                (80, None),
                (80, None),
                (80, Some(2)),
                (90, None),
                (120, Some(3)),
                (160, None),
                (160, None),
                (160, Some(4)),
                (170, None),
                (200, Some(5)),
            ]
        );
    }

    #[test]
    fn time_never_goes_back_and_a_pass_takes_its_time() {
        let file = file(&[
            (500, FrameKind::Audio, &[0xaf, 1, 1]),
            (400, FrameKind::Audio, &[0xaf, 1, 2]),
        ]);
        let file = Arc::new(FlvFile::load(file.path()).unwrap());
        let mut source = Source::new(&SourceOptions::File(file)).unwrap();
        let times: Vec<u64> = (0..4).map(|_| source.next_frame(0).timestamp).collect();
        assert_eq!(times, [0, 0, MIN_PERIOD_MS, MIN_PERIOD_MS]);
    }

    #[test]
    fn recorded_synthetic_frames_get_new_stamps() {
        let settings = Settings {
            audio: None,
            ..Settings::default()
        };
        let frames: Vec<_> = SyntheticStream::new(settings).unwrap().take(4).collect();
        let tags: Vec<_> = frames
            .iter()
            .map(|frame| (frame.timestamp as u32, frame.kind, &frame.payload[..]))
            .collect();
        let file = file(&tags);
        let file = Arc::new(FlvFile::load(file.path()).unwrap());
        let mut source = Source::new(&SourceOptions::File(file)).unwrap();
        let stamps: Vec<_> = (0..8)
            .filter_map(|_| read_stamp(&source.next_frame(5).payload))
            .collect();
        let expected: Vec<_> = (0..4)
            .map(|sequence| Stamp {
                sequence,
                sent_at: 5,
            })
            .collect();
        assert_eq!(stamps, expected);
    }

    #[test]
    fn what_cannot_be_played_is_told() {
        let empty = file(&[(0, FrameKind::Video, HEADER)]);
        assert!(matches!(
            FlvFile::load(empty.path()),
            Err(FileError::Empty { .. })
        ));
        let mut text = tempfile::NamedTempFile::new().unwrap();
        text.write_all(b"text").unwrap();
        assert!(matches!(
            FlvFile::load(text.path()),
            Err(FileError::Flv {
                cause: FlvError::Signature,
                ..
            })
        ));
        assert!(matches!(
            FlvFile::load(Path::new("/nonexistent.flv")),
            Err(FileError::Read { .. })
        ));
    }
}
