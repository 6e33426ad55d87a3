//! The containers, as the composition sees them: frames are gone through twice, because what stands at the front of a file tells of
//! all that follows.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use headwater_media::file::{FileError, Grid, MediaFile, ReadAt};
use headwater_media::flv::{FlvFile, compose as flv};
use headwater_media::frame::Frame;
use headwater_media::mp4::{Mp4File, writer as mp4};

use super::ComposeError;
use crate::record::target::Container;

/// Opens a file of a container. Blocks.
pub(super) fn open(
    container: Container,
    source: Arc<dyn ReadAt>,
) -> Result<Arc<dyn MediaFile>, FileError> {
    let grid = Grid::default();
    Ok(match container {
        Container::Flv => Arc::new(FlvFile::open(source, grid)?),
        Container::Mp4 => Arc::new(Mp4File::open(source, grid)?),
    })
}

/// The first pass: looks at all frames.
pub(super) enum Survey {
    Flv(flv::Planner),
    Mp4(mp4::Survey),
}

impl Survey {
    /// Of frames whose time 0 is the file's.
    pub(super) fn new(container: Container) -> Self {
        match container {
            Container::Flv => Self::Flv(flv::Planner::new(0)),
            Container::Mp4 => Self::Mp4(mp4::Survey::new()),
        }
    }

    pub(super) async fn push(mut self, frames: Vec<Frame>) -> Result<Self, ComposeError> {
        busy(move || {
            for frame in &frames {
                match &mut self {
                    Self::Flv(planner) => planner.add(&frame.into()).map_err(refused)?,
                    Self::Mp4(survey) => survey
                        .push(frame.kind, frame.timestamp, &frame.payload)
                        .map_err(refused)?,
                }
            }
            Ok(self)
        })
        .await
    }

    pub(super) fn finish(self) -> Result<Layout, ComposeError> {
        Ok(match self {
            Self::Flv(planner) => Layout::Flv(planner.finish()),
            Self::Mp4(survey) => Layout::Mp4(survey.finish().map_err(refused)?),
        })
    }
}

/// What the file will be like.
pub(super) enum Layout {
    Flv(flv::Plan),
    Mp4(mp4::Layout),
}

impl Layout {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Flv(plan) => plan.size(),
            Self::Mp4(layout) => layout.length(),
        }
    }

    pub(super) fn duration_ms(&self) -> u64 {
        match self {
            Self::Flv(plan) => plan.duration_ms(),
            Self::Mp4(layout) => layout.duration_ms(),
        }
    }

    /// Frames that the container cannot hold.
    pub(super) fn left_out(&self) -> u64 {
        match self {
            Self::Flv(_) => 0,
            Self::Mp4(layout) => layout.left_out(),
        }
    }

    /// What makes the file, and its first bytes.
    pub(super) fn writer(self) -> (Writer, Bytes) {
        let mut out = BytesMut::new();
        let writer = match self {
            Self::Flv(plan) => Writer::Flv(plan.writer(&mut out)),
            Self::Mp4(layout) => {
                let writer = layout.writer();
                writer.begin(&mut out);
                Writer::Mp4(Box::new(writer))
            }
        };
        (writer, out.freeze())
    }
}

/// The second pass: makes bytes of the same frames.
pub(super) enum Writer {
    Flv(flv::Writer),
    Mp4(Box<mp4::Mp4Writer>),
}

impl Writer {
    pub(super) async fn push(mut self, frames: Vec<Frame>) -> Result<(Self, Bytes), ComposeError> {
        busy(move || {
            let mut out = BytesMut::new();
            for frame in &frames {
                match &mut self {
                    Self::Flv(writer) => writer
                        .frame(
                            frame.timestamp,
                            frame.kind,
                            frame.flags,
                            &frame.payload,
                            &mut out,
                        )
                        .map_err(refused)?,
                    Self::Mp4(writer) => writer
                        .push(frame.kind, frame.timestamp, &frame.payload, &mut out)
                        .map_err(refused)?,
                }
            }
            Ok((self, out.freeze()))
        })
        .await
    }

    /// The last bytes.
    pub(super) fn finish(self) -> Result<Bytes, ComposeError> {
        let mut out = BytesMut::new();
        match self {
            Self::Flv(writer) => writer.finish().map_err(refused)?,
            Self::Mp4(writer) => writer.finish(&mut out).map_err(refused)?,
        }
        Ok(out.freeze())
    }
}

fn refused(error: impl std::error::Error) -> ComposeError {
    ComposeError::Container(error.to_string())
}

/// Works through some megabytes where it holds up nobody.
async fn busy<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ComposeError> + Send + 'static,
) -> Result<T, ComposeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(refused(error)),
    }
}
