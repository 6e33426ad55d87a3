//! Giving out a file, or what there is of a recording.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use headwater_media::flv::{FlvHeader, write_header, write_tag};
use headwater_media::frame::Frame;
use headwater_node::admin::ApiError;
use object_store::ObjectStoreExt;

use super::{Library, of_archive, of_store};

type Parts = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// Bytes on their way.
pub(crate) struct Export {
    pub(crate) bytes: Parts,
    /// How many, where that is known before.
    pub(crate) length: Option<u64>,
}

impl Library {
    pub(crate) async fn export(&self, id: &str) -> Result<Export, ApiError> {
        if let Some(listed) = self.recording(id).await? {
            let opened = self.archives.open(&listed.name, listed.generation).await;
            let reader = opened.map_err(|error| of_archive(id, error))?;
            let summary = reader.summary();
            let mut header = BytesMut::new();
            let content = FlvHeader {
                has_audio: summary.has_audio,
                has_video: summary.has_video,
            };
            write_header(content, &mut header);
            let start = summary.start_ms;
            let tags = reader.frames(None).map(move |batch| match batch {
                Ok(frames) => Ok(tags(start, &frames)),
                Err(error) => Err(std::io::Error::other(error)),
            });
            return Ok(Export {
                bytes: Box::pin(stream::iter([Ok(header.freeze())]).chain(tags)),
                length: None,
            });
        }
        let path = self.file(id)?;
        let found = self.store.objects().get(&path).await;
        let found = found.map_err(|error| of_store(id, error))?;
        let length = found.meta.size;
        Ok(Export {
            bytes: Box::pin(found.into_stream().map_err(std::io::Error::other)),
            length: Some(length),
        })
    }
}

/// Frames as FLV tags, on a timeline that begins at `start` milliseconds.
fn tags(start: u64, frames: &[Frame]) -> Bytes {
    let mut out = BytesMut::new();
    for frame in frames {
        let timestamp = frame.timestamp.saturating_sub(start) & u64::from(u32::MAX);
        // Longer than a tag may be is no frame that came over RTMP.
        let _ = write_tag(timestamp as u32, frame.kind, &frame.payload, &mut out);
    }
    out.freeze()
}
