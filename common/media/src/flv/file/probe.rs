//! The beginning of a file: its header, what it holds, and where its time begins.

use headwater_amf::Properties;

use super::cuts::Clock;
use super::tags::TagScanner;
use crate::file::{FileError, ReadAt};
use crate::flv::{FlvError, FlvEvent, FlvReader, metadata};
use crate::frame::{FrameFlags, FrameKind};

/// Most bytes looked at for the file header, which may be longer than the nine bytes that it has.
const MAX_HEADER: usize = 2_048;

/// Most tags looked at in search of the first audio and the first video.
const MAX_TAGS: usize = 1_024;

/// The same in bytes. What comes in later is found at the end of the file.
const MAX_BYTES: u64 = 2 << 20;

/// What the first tags say.
#[derive(Debug)]
pub(super) struct Probe {
    /// Position of the first tag; the length of a file without one.
    pub(super) first: u64,
    /// There are no tags.
    pub(super) is_empty: bool,
    /// Whose zero is the first picture or sound, whichever is earlier, or the first tag where there is neither.
    pub(super) clock: Clock,
    pub(super) has_audio: bool,
    pub(super) has_video: bool,
    /// The `onMetaData` before the first picture or sound, if it can be read.
    pub(super) metadata: Option<Properties>,
    /// There is an `onMetaData` there.
    pub(super) has_metadata: bool,
    /// Positions of the codec headers and metadata there.
    pub(super) headers: Vec<u64>,
}

/// Looks at the beginning of a file.
///
/// # Errors
/// [`FileError::Invalid`] where it does not begin with a file header and a tag, [`FileError::Unsupported`] where the first tags are
/// encrypted.
pub(super) fn probe(source: &dyn ReadAt) -> Result<Probe, FileError> {
    let first = first_tag(source)?;
    let mut scanner = TagScanner::new(source);
    let mut probe = Probe {
        first,
        is_empty: true,
        clock: Clock { zero: 0 },
        has_audio: false,
        has_video: false,
        metadata: None,
        has_metadata: false,
        headers: Vec::new(),
    };
    let (mut any, mut audio, mut video) = (None, None, None);
    let mut position = first;
    for _ in 0..MAX_TAGS {
        let head = match scanner.head(position) {
            Ok(Some(head)) => head,
            // What comes before can be played.
            Err(FileError::Invalid { .. } | FileError::Unsupported { .. }) if any.is_some() => {
                break;
            }
            Ok(None) => break,
            Err(error) => return Err(error),
        };
        any = any.or(Some(head.timestamp));
        match head.kind {
            FrameKind::Audio if head.coded => audio = audio.or(Some(head.timestamp)),
            FrameKind::Video if head.coded => video = video.or(Some(head.timestamp)),
            _ if head.has_slot() && audio.or(video).is_none() => {
                probe.headers.push(position);
                let is_metadata = head.kind == FrameKind::Data
                    && head.flags.contains(FrameFlags::METADATA)
                    && !probe.has_metadata;
                if is_metadata {
                    let payload = scanner.body(&head)?;
                    probe.has_metadata = crate::inspect::metadata_name(&payload)
                        .is_some_and(|name| &name[..] == metadata::NAME.as_bytes());
                    probe.metadata = metadata::properties(&payload);
                }
            }
            _ => {}
        }
        position = head.next;
        if (audio.is_some() && video.is_some()) || position - first > MAX_BYTES {
            break;
        }
    }
    probe.is_empty = any.is_none();
    probe.has_audio = audio.is_some();
    probe.has_video = video.is_some();
    let media = match (audio, video) {
        (Some(audio), Some(video)) => Some(earlier(audio, video)),
        (audio, video) => audio.or(video),
    };
    probe.clock.zero = media.or(any).unwrap_or(0);
    Ok(probe)
}

/// On the circle.
fn earlier(one: u32, other: u32) -> u32 {
    if other.wrapping_sub(one).cast_signed() < 0 {
        other
    } else {
        one
    }
}

fn first_tag(source: &dyn ReadAt) -> Result<u64, FileError> {
    let length =
        usize::try_from(source.length()).map_or(MAX_HEADER, |length| length.min(MAX_HEADER));
    let mut reader = FlvReader::new(0);
    reader.feed(&source.read_at(0, length)?);
    match reader.poll() {
        // The first PreviousTagSize follows.
        Ok(Some(FlvEvent::Header(_))) => Ok((reader.offset() + 4).min(source.length())),
        Ok(_) => Err(invalid(&FlvError::Truncated { offset: 0 })),
        Err(error) => Err(invalid(&error)),
    }
}

fn invalid(error: &FlvError) -> FileError {
    let offset = match error {
        FlvError::Version { .. } => 3,
        FlvError::HeaderLength { .. } => 5,
        _ => 0,
    };
    FileError::Invalid {
        offset,
        what: error.to_string(),
    }
}
