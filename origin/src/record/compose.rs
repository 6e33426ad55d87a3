//! Makes one playable file of what was recorded: of a generation, or of a file and the generation behind it.
//!
//! The file is written part by part into an upload of the store, which is nothing that anybody sees until it is put in place as a whole:
//! a local store gives the new file its name when it is on the disk, others when they have all parts. Memory is bounded by a few
//! parts and what the container needs of an index, however long the recording.
//!
//! # Time
//! A file begins at 0. What goes on behind a file has the file's times already, because its publisher was told where that ends; see
//! [`Continues::shift_ms`].

use std::io;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use headwater_media::file::{FileError, FilePiece, MediaFile};
use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use tokio::time::Instant;

mod encoder;
mod upload;

use encoder::Survey;
use upload::Upload;

use super::files::{Continues, Files};
use super::target::Target;
use super::vault::{Cause, Stored, VaultError};

/// The time between two lines in the log about a long composition.
const REPORT_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// The epoch of frames that come from the file before: less than any publisher's.
const FILE_EPOCH: Epoch = Epoch(0);

/// Why no file could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComposeError {
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("the file to go on behind cannot be read: {0}")]
    Base(FileError),
    #[error("the recording does not fit into its container: {0}")]
    Container(String),
    #[error("the file to go on behind is gone")]
    NoBase,
}

/// A file that is whole but for its name. Dropping it lets go of its parts.
pub(crate) struct Made {
    upload: Upload,
    end_ms: u64,
    shift_ms: i64,
}

impl Made {
    /// Bytes of the file.
    pub(crate) fn length(&self) -> u64 {
        self.upload.length()
    }

    /// The end of its timeline in milliseconds.
    pub(crate) fn end_ms(&self) -> u64 {
        self.end_ms
    }

    /// What was added to the timestamps of the generation.
    pub(crate) fn shift_ms(&self) -> i64 {
        self.shift_ms
    }

    /// Puts it in place, whatever stands there.
    pub(crate) async fn place(self) -> Result<(), VaultError> {
        self.upload.complete().await
    }
}

/// Makes the file of a generation.
pub(crate) async fn make<R: Stored>(
    files: &Files,
    target: &Target,
    continues: Option<Continues>,
    reader: &R,
) -> Result<Made, ComposeError> {
    let base = match continues {
        Some(_) => Some(open(files, target).await?.ok_or(ComposeError::NoBase)?),
        None => None,
    };
    let begin = signed(begin_of(reader).await?);
    let shift_ms = match (continues.map(|it| it.shift_ms), &base) {
        (Some(Some(shift_ms)), _) => shift_ms,
        (Some(None), Some(base)) => signed(base.info().duration_ms).saturating_sub(begin),
        (None, _) | (_, None) => begin.saturating_neg(),
    };
    let mut progress = Progress::new("looking");
    let mut survey = Survey::new(target.container);
    let mut source = Source::new(base.clone(), reader, shift_ms);
    while let Some(frames) = source.next().await? {
        progress.pass(&frames);
        survey = survey.push(frames).await?;
    }
    let layout = survey.finish()?;
    if layout.left_out() > 0 {
        tracing::warn!(
            frames = layout.left_out(),
            "the container cannot hold all frames"
        );
    }
    let (length, end_ms) = (layout.length(), layout.duration_ms());
    let mut progress = Progress::new("writing");
    let mut upload = Upload::new(files, target, length).await?;
    let (mut writer, head) = layout.writer();
    upload.write(head).await?;
    let mut source = Source::new(base, reader, shift_ms);
    while let Some(frames) = source.next().await? {
        progress.pass(&frames);
        let bytes;
        (writer, bytes) = writer.push(frames).await?;
        upload.write(bytes).await?;
    }
    upload.write(writer.finish()?).await?;
    upload.flush().await?;
    if upload.length() != length {
        let why = format!("it has {} bytes instead of {length}", upload.length());
        return Err(ComposeError::Container(why));
    }
    Ok(Made {
        upload,
        end_ms,
        shift_ms,
    })
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// When the first picture or sound of a recording is. Codec headers and metadata often say 0 whatever the time is.
async fn begin_of<R: Stored>(reader: &R) -> Result<u64, VaultError> {
    let mut frames = reader.frames();
    while let Some(some) = frames.next().await.transpose()? {
        let is_media = |frame: &&Frame| {
            frame.kind != FrameKind::Data && !frame.flags.contains(FrameFlags::HEADER)
        };
        if let Some(first) = some.iter().find(is_media) {
            return Ok(first.timestamp);
        }
    }
    Ok(reader.kept().start_ms)
}

/// The end of the timeline of a file, in milliseconds.
pub(crate) async fn end_of(files: &Files, target: &Target) -> Result<u64, VaultError> {
    match open(files, target).await {
        Ok(Some(file)) => Ok(file.info().duration_ms),
        Ok(None) => Ok(0),
        Err(ComposeError::Vault(error)) => Err(error),
        Err(error) => Err(VaultError {
            cause: Cause::NoAccess,
            text: error.to_string(),
        }),
    }
}

/// Opens the file that is in place; `None` if there is none.
async fn open(files: &Files, target: &Target) -> Result<Option<Arc<dyn MediaFile>>, ComposeError> {
    let Some(source) = files.read(&target.path).await? else {
        return Ok(None);
    };
    let container = target.container;
    let opened = blocking(move || encoder::open(container, source)).await;
    opened.map(Some).map_err(base_error)
}

/// An error of the store stays one: it may be over when it is tried again.
fn base_error(error: FileError) -> ComposeError {
    match error {
        FileError::Read(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            ComposeError::Vault(super::files::from_io(&error))
        }
        error => ComposeError::Base(error),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(FileError::Read(io::Error::other(error))),
    }
}

/// The frames of the file and the generation behind it, in the times of the file to be.
struct Source {
    base: Option<Arc<dyn MediaFile>>,
    /// Where the file goes on; `None` before its first piece.
    base_next: Option<u64>,
    frames: BoxStream<'static, Result<Vec<Frame>, VaultError>>,
    shift_ms: i64,
}

impl Source {
    fn new<R: Stored>(base: Option<Arc<dyn MediaFile>>, reader: &R, shift_ms: i64) -> Self {
        Self {
            base,
            base_next: None,
            frames: reader.frames(),
            shift_ms,
        }
    }

    async fn next(&mut self) -> Result<Option<Vec<Frame>>, ComposeError> {
        if let Some(base) = self.base.clone() {
            let at = self.base_next;
            let piece = blocking(move || match at {
                None => base.piece_at_time(0),
                Some(at) => base.piece_at(at),
            });
            let piece = piece.await.map_err(base_error)?;
            self.base_next = piece.next;
            if piece.next.is_none() {
                self.base = None;
            }
            return Ok(Some(of_file(piece)));
        }
        let Some(mut frames) = self.frames.next().await.transpose()? else {
            return Ok(None);
        };
        for frame in &mut frames {
            frame.timestamp = frame.timestamp.saturating_add_signed(self.shift_ms);
        }
        Ok(Some(frames))
    }
}

fn of_file(piece: FilePiece) -> Vec<Frame> {
    let frames = piece.frames.into_iter().map(|frame| Frame {
        offset: Offset {
            epoch: FILE_EPOCH,
            sequence: frame.position,
        },
        timestamp: frame.timestamp,
        kind: frame.kind,
        flags: frame.flags,
        payload: frame.payload,
    });
    frames.collect()
}

/// Tells the log now and then how far a long composition is.
struct Progress {
    what: &'static str,
    bytes: u64,
    ms: u64,
    told: Instant,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            bytes: 0,
            ms: 0,
            told: Instant::now(),
        }
    }

    fn pass(&mut self, frames: &[Frame]) {
        let bytes = frames.iter().map(|frame| frame.payload.len() as u64);
        self.bytes = self.bytes.saturating_add(bytes.sum());
        self.ms = frames.last().map_or(self.ms, |frame| frame.timestamp);
        if self.told.elapsed() >= REPORT_EVERY {
            self.told = Instant::now();
            tracing::info!(
                bytes = self.bytes,
                ms = self.ms,
                what = self.what,
                "making a file"
            );
        }
    }
}
