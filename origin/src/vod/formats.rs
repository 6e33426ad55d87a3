//! The readers of media files.

use std::sync::Arc;

use headwater_media::file::{FileError, Grid, MediaFile, ReadAt};
use headwater_media::flv::FlvFile;
use headwater_media::mp3::{Id3File, Mp3File};
use headwater_media::mp4::Mp4File;

use super::library::OpenMedia;
use super::names::Format;

/// Reads what this program can read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Formats {
    grid: Grid,
}

impl OpenMedia for Formats {
    fn open(
        &self,
        format: Format,
        bytes: Arc<dyn ReadAt>,
    ) -> Result<Arc<dyn MediaFile>, FileError> {
        Ok(match format {
            Format::Flv => Arc::new(FlvFile::open(bytes, self.grid)?),
            Format::Mp4 => Arc::new(Mp4File::open(bytes, self.grid)?),
            Format::Mp3 => Arc::new(Mp3File::open(bytes, self.grid)?),
            Format::Id3 => Arc::new(Id3File::open(bytes, self.grid)?),
        })
    }
}
