//! Media files as closed logs of frames.
//!
//! A file is read in *pieces*: runs of frames that begin where a decoder can start. The cuts between pieces depend on the file
//! alone, never on where a reader came from, so that whoever caches pieces can share them between readers; see [`Grid`].
//!
//! # Invariants
//! - Nothing here panics or takes memory out of proportion whatever the file holds; what a format allows and this crate does not
//!   read is [`FileError::Unsupported`], what no format allows is [`FileError::Invalid`].
//! - Frames come in the order of their timestamps as far as the file interleaves them so; payloads are bodies of RTMP messages.
//!
//! # What it does not do
//! It opens nothing: bytes come from a [`ReadAt`], which may be a mapped file, a cached object or a slice in a test.

use std::io;

use bytes::Bytes;

use crate::frame::{FrameFlags, FrameKind};

/// Bytes that can be read anywhere, from any thread. Reads may block.
pub trait ReadAt: Send + Sync {
    /// How many bytes there are. Does not change.
    fn length(&self) -> u64;

    /// Reads exactly `length` bytes from byte `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the bytes end before that, also if they were cut after they had been opened; others as
    /// the source has them.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes>;

    /// Reads bytes here and there, each so many from an offset on, each as [`read_at`](Self::read_at) would: for those who know before
    /// what they need. A source that is far away may read them together, and nothing around them.
    fn read_each(&self, places: &[(u64, usize)]) -> Vec<io::Result<Bytes>> {
        let places = places.iter();
        places
            .map(|(offset, length)| self.read_at(*offset, *length))
            .collect()
    }
}

impl ReadAt for Bytes {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|from| Some(from..from.checked_add(length)?))
            .filter(|range| range.end <= self.len());
        range
            .map(|range| self.slice(range))
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It breaks the rules of its format: `NetStream.Play.FileStructureInvalid`.
    #[error("byte {offset}: {what}")]
    Invalid {
        /// Of what is wrong, from the beginning of the file.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// It is well formed, and nothing in it can be played: `NetStream.Play.NoSupportedTrackFound`.
    #[error("{what}")]
    Unsupported {
        /// What there is instead.
        what: String,
    },
    /// The bytes cannot be read.
    #[error("reading failed: {0}")]
    Read(#[from] io::Error),
}

/// What a file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileInfo {
    /// Milliseconds from the first frame to the end of the last.
    pub duration_ms: u64,
    /// There is audio that can be played.
    pub has_audio: bool,
    /// There is video that can be played.
    pub has_video: bool,
}

/// One frame of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFrame {
    /// Where it stands: grows from frame to frame, with holes. Never changes while the file does not.
    pub position: u64,
    /// Milliseconds since the beginning of the file's timeline.
    pub timestamp: u64,
    /// Audio, video or data.
    pub kind: FrameKind,
    /// As the publishing edge would have found them, see [`crate::inspect`].
    pub flags: FrameFlags,
    /// The body of the RTMP message.
    pub payload: Bytes,
}

/// How a log is cut into pieces.
///
/// A piece begins at the first frame, and then at the first place at or after each multiple of `every_ms` where a decoder can start: a
/// video key frame, or any audio frame where there is no video. Where that makes a piece of more than `max_bytes`, it is cut
/// after the last frame that fits, and the rest begins wherever that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Milliseconds of media time.
    pub every_ms: u64,
    /// Bytes of payload.
    pub max_bytes: usize,
}

impl Default for Grid {
    /// Two seconds, a mebibyte.
    fn default() -> Self {
        Self {
            every_ms: 2_000,
            max_bytes: 1 << 20,
        }
    }
}

/// Some frames of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePiece {
    /// Position of the first frame.
    pub first: u64,
    /// Where the next piece begins; `None` at the end of the file.
    pub next: Option<u64>,
    /// Media time that it covers, in milliseconds: from its first frame to before the first of the next piece, or the end of the
    /// file.
    pub start_ms: u64,
    /// See `start_ms`.
    pub end_ms: u64,
    /// Codec headers and metadata in force at the first frame, metadata first. They have the position and timestamp of that frame.
    pub preface: Vec<FileFrame>,
    /// In order. Empty only in a file without frames.
    pub frames: Vec<FileFrame>,
}

/// What [`MediaFile::memory`] is of files that keep no tables, in bytes: codec headers, metadata, some places.
pub(crate) const SMALL_FILE: usize = 16 << 10;

/// A file that is open. Reads may block.
pub trait MediaFile: Send + Sync {
    /// What the file says of itself.
    fn info(&self) -> &FileInfo;

    /// About how many bytes of memory it may keep as long as it is open. Takes no time.
    fn memory(&self) -> usize {
        SMALL_FILE
    }

    /// The piece that holds the newest place at or before `ms` from which a decoder can start; the first one, if there is none.
    ///
    /// # Errors
    /// [`FileError`].
    fn piece_at_time(&self, ms: u64) -> Result<FilePiece, FileError>;

    /// The piece that begins at `position`, the [`FilePiece::next`] of the one before. Positions that are none of a piece's
    /// beginning are an error.
    ///
    /// # Errors
    /// [`FileError`]; [`FileError::Invalid`] for a position at which no frame begins.
    fn piece_at(&self, position: u64) -> Result<FilePiece, FileError>;
}
