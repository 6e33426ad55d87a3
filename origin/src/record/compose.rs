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

use super::files::{Continues, Files, Room};
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
    _room: Room,
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

/// Makes the file of a generation, if there is room for it and `keep` bytes stay free. Of what goes on behind a file, the last
/// `window_ms` of both are wanted; 0: all.
pub(crate) async fn make<R: Stored>(
    files: &Files,
    target: &Target,
    continues: Option<Continues>,
    window_ms: u64,
    reader: &R,
    keep: u64,
) -> Result<Made, ComposeError> {
    // Before it is read for nothing: the file will have the payloads, but for what the container cannot hold.
    drop(files.room(reader.kept().bytes, keep).await?);
    let mut first = continues.and_then(|continues| continues.first());
    let begin = signed(begin_of(reader, first).await?);
    let (base, shift_ms) = match continues {
        None => (None, begin.saturating_neg()),
        Some(continues) => {
            let file = open(files, target).await?.ok_or(ComposeError::NoBase)?;
            let length = file.info().duration_ms;
            let shift_ms = continues.shift_ms;
            let shift_ms = shift_ms.unwrap_or_else(|| signed(length).saturating_sub(begin));
            let end_ms = signed(reader.kept().end_ms).saturating_add(shift_ms);
            match Base::of(file, end_ms, window_ms).await? {
                Some(base) => {
                    let shift_ms = shift_ms.saturating_sub(signed(base.begin_ms));
                    (Some(base), shift_ms)
                }
                // The generation alone makes the file, with what is in force where it begins now.
                None => {
                    first = None;
                    let begin = signed(begin_of(reader, None).await?);
                    (None, begin.saturating_neg())
                }
            }
        }
    };
    let mut progress = Progress::new("looking");
    let mut survey = Survey::new(target.container);
    let mut source = Source::new(base.clone(), reader, first, shift_ms);
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
    let room = files.room(length, keep).await?;
    let mut progress = Progress::new("writing");
    let mut upload = Upload::new(files, target, length).await?;
    let (mut writer, head) = layout.writer();
    upload.write(head).await?;
    let mut source = Source::new(base, reader, first, shift_ms);
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
        _room: room,
    })
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// When the first picture or sound of a recording is. Codec headers and metadata often say 0 whatever the time is.
async fn begin_of<R: Stored>(reader: &R, first: Option<Offset>) -> Result<u64, VaultError> {
    let mut frames = reader.frames();
    while let Some(some) = frames.next().await.transpose()? {
        let is_media = |frame: &&Frame| {
            let is_new = first.is_none_or(|first| frame.offset >= first);
            is_new && frame.kind != FrameKind::Data && !frame.flags.contains(FrameFlags::HEADER)
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

/// The file to go on behind, or the end of it.
#[derive(Clone)]
struct Base {
    file: Arc<dyn MediaFile>,
    /// Where it is read next.
    next: u64,
    /// What is in force there is needed as well: it is not the beginning.
    lacks_preface: bool,
    /// The time at which the file to be begins.
    begin_ms: u64,
}

impl Base {
    /// As much of the file as belongs to the last `window_ms` before `end_ms`, from a place on where a decoder can start; `None` if that
    /// is nothing. Everything, if `window_ms` is 0.
    async fn of(
        file: Arc<dyn MediaFile>,
        end_ms: i64,
        window_ms: u64,
    ) -> Result<Option<Self>, ComposeError> {
        let from_ms = match window_ms {
            0 => 0,
            window_ms => u64::try_from(end_ms.saturating_sub(signed(window_ms))).unwrap_or(0),
        };
        if from_ms > 0 && from_ms >= file.info().duration_ms {
            return Ok(None);
        }
        let reading = Arc::clone(&file);
        let first = blocking(move || reading.piece_at_time(from_ms)).await;
        let first = first.map_err(base_error)?;
        Ok(Some(Self {
            file,
            next: first.first,
            lacks_preface: from_ms > 0,
            begin_ms: match from_ms {
                0 => 0,
                _ => first.start_ms,
            },
        }))
    }

    /// The next frames, in the times of the file to be; whether there are more.
    async fn read(&mut self) -> Result<(Vec<Frame>, bool), ComposeError> {
        let (file, at) = (Arc::clone(&self.file), self.next);
        let piece = blocking(move || file.piece_at(at)).await;
        let mut piece = piece.map_err(base_error)?;
        if std::mem::take(&mut self.lacks_preface) {
            let rest = std::mem::take(&mut piece.frames);
            piece.frames = std::mem::take(&mut piece.preface);
            piece.frames.extend(rest);
        }
        let next = piece.next;
        self.next = next.unwrap_or(self.next);
        let mut frames = of_file(piece);
        for frame in &mut frames {
            frame.timestamp = frame.timestamp.saturating_sub(self.begin_ms);
        }
        Ok((frames, next.is_some()))
    }
}

/// The frames of the file and the generation behind it, in the times of the file to be.
struct Source {
    base: Option<Base>,
    frames: BoxStream<'static, Result<Vec<Frame>, VaultError>>,
    /// Frames before it are in the file.
    first: Option<Offset>,
    shift_ms: i64,
}

impl Source {
    fn new<R: Stored>(
        base: Option<Base>,
        reader: &R,
        first: Option<Offset>,
        shift_ms: i64,
    ) -> Self {
        Self {
            base,
            frames: reader.frames(),
            first,
            shift_ms,
        }
    }

    async fn next(&mut self) -> Result<Option<Vec<Frame>>, ComposeError> {
        if let Some(base) = &mut self.base {
            let (frames, has_more) = base.read().await?;
            if !has_more {
                self.base = None;
            }
            return Ok(Some(frames));
        }
        let Some(mut frames) = self.frames.next().await.transpose()? else {
            return Ok(None);
        };
        if let Some(first) = self.first {
            frames.retain(|frame| frame.offset >= first);
        }
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
