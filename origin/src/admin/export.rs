//! Giving out a file, or what there is of a recording.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use headwater_media::flv::{FlvHeader, write_header, write_tag};
use headwater_media::frame::Frame;
use headwater_node::admin::ApiError;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt};

use super::{Library, of_archive, of_store};

/// Bytes that are asked of a bucket at a time.
const PART_BYTES: usize = 8 << 20;

/// Parts that are asked for at the same time, and so in memory.
const PARTS: usize = 2;

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
        let objects = self.store.objects();
        if self.store.is_remote() {
            let found = objects.head(&path).await;
            let found = found.map_err(|error| of_store(id, error))?;
            return Ok(Export {
                length: Some(found.size),
                bytes: ranges(Arc::clone(objects), found),
            });
        }
        let found = objects.get(&path).await;
        let found = found.map_err(|error| of_store(id, error))?;
        let length = found.meta.size;
        Ok(Export {
            bytes: Box::pin(found.into_stream().map_err(std::io::Error::other)),
            length: Some(length),
        })
    }
}

/// An object by its parts: each is a request, which may take so long and is tried again, where one for all of it would be cut. Ends with
/// an error where the object is replaced meanwhile.
fn ranges(objects: Arc<dyn ObjectStore>, object: ObjectMeta) -> Parts {
    let starts = (0..object.size).step_by(PART_BYTES);
    let parts = stream::iter(starts).map(move |start| {
        let (objects, path) = (Arc::clone(&objects), object.location.clone());
        let end = start.saturating_add(PART_BYTES as u64).min(object.size);
        let options = GetOptions {
            range: Some((start..end).into()),
            if_match: object.e_tag.clone(),
            ..GetOptions::default()
        };
        async move { objects.get_opts(&path, options).await?.bytes().await }
    });
    Box::pin(parts.buffered(PARTS).map_err(std::io::Error::other))
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

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::*;

    #[tokio::test]
    async fn an_object_comes_in_parts_and_whole() {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("show.flv");
        for length in [0, 1, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 7] {
            let content: Bytes = (0..length).map(|at| (at / 977) as u8).collect();
            objects.put(&path, content.clone().into()).await.unwrap();
            let meta = objects.head(&path).await.unwrap();
            let parts = ranges(Arc::clone(&objects), meta);
            let parts: Vec<Bytes> = parts.try_collect().await.unwrap();
            assert_eq!(parts.len(), length.div_ceil(PART_BYTES));
            assert!(parts.concat() == content, "{length}");
        }
    }

    #[tokio::test]
    async fn two_objects_are_not_mixed() {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("show.flv");
        let put = |byte| objects.put(&path, vec![byte; (PARTS + 2) * PART_BYTES].into());
        put(1).await.unwrap();
        let meta = objects.head(&path).await.unwrap();
        let mut parts = ranges(Arc::clone(&objects), meta);
        assert_eq!(parts.try_next().await.unwrap().unwrap()[0], 1);
        put(2).await.unwrap();
        let rest: Result<Vec<Bytes>, _> = parts.try_collect().await;
        assert!(rest.is_err());
    }
}
