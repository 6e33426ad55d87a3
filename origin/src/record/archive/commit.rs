//! Making a segment: only one caller can, for each number, as long as it is there.

use std::time::Duration;

use bytes::Bytes;
use headwater_media::segment::{Point, SegmentHeader, SegmentInfo, read_segment};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::error::ArchiveError;
use super::keys;
use super::load::{self, limited};
use super::shared::Shared;

/// The largest object that is read because it stands where ours was to go, in bytes: far above any segment.
const MAX_FOREIGN: u64 = 256 << 20;

/// What became of a put.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Ours is there.
    Committed,
    /// Somebody else's is.
    Foreign(Box<Foreign>),
    /// Ours is there, and nobody reads it: a window had emptied its place, and others have come further. Whoever wrote last.
    Behind(Box<SegmentHeader>),
}

/// Another writer's segment.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) header: SegmentHeader,
    pub(super) info: SegmentInfo,
    pub(super) points: Vec<Point>,
}

/// Puts an object where there is none. After an error it is not known whether it is there: call again with the same bytes.
pub(super) async fn commit(
    objects: &dyn ObjectStore,
    path: &Path,
    data: &Bytes,
    limit: Duration,
) -> Result<Outcome, ArchiveError> {
    let options = PutOptions::from(PutMode::Create);
    let put = objects.put_opts(path, PutPayload::from_bytes(data.clone()), options);
    match tokio::time::timeout(limit, put).await {
        Ok(Ok(_)) => Ok(Outcome::Committed),
        Ok(Err(object_store::Error::AlreadyExists { .. })) => {
            compare(objects, path, data, limit).await
        }
        Ok(Err(error)) => Err(unknown(ArchiveError::store(&error))),
        Err(_) => Err(ArchiveError::timeout(limit)),
    }
}

/// The same, for a segment that is to be the last one of its recording, also where a window empties places.
pub(super) async fn commit_last(
    shared: &Shared,
    number: u64,
    data: &Bytes,
) -> Result<Outcome, ArchiveError> {
    let path = keys::segment(&shared.folder, number);
    let outcome = commit(&*shared.objects, &path, data, shared.timeout).await?;
    if let Outcome::Committed = outcome {
        let newest = load::newest_after(shared, number).await.map_err(unknown)?;
        return Ok(newest.map_or(outcome, |newest| Outcome::Behind(Box::new(newest))));
    }
    Ok(outcome)
}

/// Ours after a lost answer, or not ours.
async fn compare(
    objects: &dyn ObjectStore,
    path: &Path,
    data: &Bytes,
    limit: Duration,
) -> Result<Outcome, ArchiveError> {
    let read = async {
        let found = objects.get(path).await?;
        if found.meta.size > MAX_FOREIGN {
            return Ok(None);
        }
        found.bytes().await.map(Some)
    };
    let found = limited(limit, read).await.map_err(unknown)?;
    let Some(found) = found else {
        return Err(ArchiveError::Damaged {
            object: path.to_string(),
            offset: 0,
            what: "far longer than any segment",
        });
    };
    if found == *data {
        return Ok(Outcome::Committed);
    }
    let (header, info, points, _) =
        read_segment(&found).map_err(|error| ArchiveError::damaged(path, &error))?;
    Ok(Outcome::Foreign(Box::new(Foreign {
        header,
        info,
        points,
    })))
}

/// That something is not there says nothing about a put.
fn unknown(error: ArchiveError) -> ArchiveError {
    match error {
        ArchiveError::NotFound => ArchiveError::Unavailable("the store vanished".into()),
        error => error,
    }
}
