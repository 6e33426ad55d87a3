//! Reading from the store: the index of a recording, and runs of its frames.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use headwater_media::segment::{
    Decoded, Index, Part, Point, SegmentHeader, SegmentInfo, read_frames, read_header,
    read_summary, read_trailer,
};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::error::ArchiveError;
use super::keys;
use super::shared::Shared;

/// Bytes read from the beginning of a segment to see whose it is: the longest header there can be is not much longer than four names.
pub(super) const HEAD: u64 = 8 << 10;

/// Bytes read from the end of a segment at first: far more than a common footer has.
const TAIL: u64 = 16 << 10;

/// The largest footer and index that are read, in bytes. An index of a whole month of 4-second segments stays below it.
const MAX_INDEX: u64 = 256 << 20;

/// The largest run of records that is read at once, in bytes: a piece of the coarsest grid that a configuration allows.
const MAX_RUN: u64 = 128 << 20;

/// Reads at the same time.
const PARALLEL: usize = 16;

/// How often an index is read anew because a segment is missing: a store may list while segments are added, and while a window moves.
const LISTINGS: u32 = 3;

/// Reads sealed segments, which never change.
#[tonic::async_trait]
pub(crate) trait ReadSegment: fmt::Debug + Send + Sync {
    /// Bytes of the segment at `path`; [`ArchiveError::NotFound`] where it is not there, or no longer.
    async fn read(&self, path: &Path, range: Range<u64>) -> Result<Bytes, ArchiveError>;
}

/// What the store has beyond some segment.
pub(super) enum Newer {
    /// All of it, by number.
    Segments(Vec<(Path, SegmentInfo, Vec<Point>)>),
    /// There is more, but not this segment: others have come since the store began to list, or a window let go of it.
    Missing(u64),
}

/// Reads the index of a recording as it is stored now.
///
/// # Errors
/// [`ArchiveError`]. [`ArchiveError::Damaged`] for a segment that is missing only where the store has told all that it has: of a
/// recording with a window, the stored index alone says that it is not missing but gone.
pub(super) async fn load(shared: &Shared) -> Result<Index, ArchiveError> {
    let mut missing = 0;
    for _ in 0..LISTINGS {
        let (index, unread) = stored_index(shared).await;
        let mut index = index.unwrap_or_default();
        match newer(shared, index.next_number()).await? {
            Newer::Segments(segments) => {
                for (path, info, points) in segments {
                    let pushed = index.push(info, points);
                    pushed.map_err(|error| ArchiveError::damaged(&path, &error))?;
                }
                if index.next_number() == 0 {
                    return Err(ArchiveError::NotFound);
                }
                return Ok(index);
            }
            // Being deleted.
            Newer::Missing(0) => return Err(ArchiveError::NotFound),
            Newer::Missing(number) => match unread {
                Some(error) => return Err(error),
                None => missing = number,
            },
        }
    }
    Err(ArchiveError::Damaged {
        object: keys::segment(&shared.folder, missing).to_string(),
        offset: 0,
        what: "a segment is missing",
    })
}

/// Looks for segments from number `next` on.
pub(super) async fn newer(shared: &Shared, next: u64) -> Result<Newer, ArchiveError> {
    let listed = list(shared, next.checked_sub(1)).await?;
    if let Some((missing, _)) = (next..).zip(&listed).find(|(number, (is, _))| number != is) {
        return Ok(Newer::Missing(missing));
    }
    let footers = stream::iter(listed)
        .map(|(_, meta)| footer(shared, meta))
        .buffered(PARALLEL);
    Ok(Newer::Segments(footers.try_collect().await?))
}

/// Who wrote the newest segment after number `number`, as its header says; `None` if there is none.
pub(super) async fn newest_after(
    shared: &Shared,
    number: u64,
) -> Result<Option<SegmentHeader>, ArchiveError> {
    let listed = list(shared, Some(number)).await?;
    let Some((_, meta)) = listed.into_iter().next_back() else {
        return Ok(None);
    };
    let head = range(shared, &meta.location, 0..meta.size.min(HEAD)).await?;
    let header = read_header(&head);
    let header = header.map_err(|error| ArchiveError::damaged(&meta.location, &error))?;
    Ok(Some(header))
}

/// The newest index that can be read. Without one, every footer is read instead. And why a newer one may be there all the same: the
/// first error of the store, which may be over when it is asked again.
async fn stored_index(shared: &Shared) -> (Option<Index>, Option<ArchiveError>) {
    let folder = keys::indexes(&shared.folder);
    let listing = shared.objects.list(Some(&folder)).try_collect::<Vec<_>>();
    let mut found = match limited(shared.timeout, listing).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%folder, %error, "indexes cannot be listed");
            return (None, Some(error));
        }
    };
    let mut unread = None;
    found.retain(|meta| keys::number(&meta.location).is_some() && meta.size <= MAX_INDEX);
    found.sort_by(|a, b| b.location.cmp(&a.location));
    for meta in found {
        let read = async { shared.objects.get(&meta.location).await?.bytes().await };
        let decoded = match limited(shared.timeout, read).await {
            Ok(data) => {
                Index::decode(&data).map_err(|error| ArchiveError::damaged(&meta.location, &error))
            }
            Err(error) => Err(error),
        };
        match decoded {
            Ok(index) if index.next_number().checked_sub(1) == keys::number(&meta.location) => {
                return (Some(index), unread);
            }
            Ok(_) => tracing::warn!(index = %meta.location, "an index by a wrong name"),
            Err(error) => {
                tracing::warn!(index = %meta.location, %error, "an index cannot be read");
                let is_known =
                    matches!(error, ArchiveError::NotFound | ArchiveError::Damaged { .. });
                if !is_known {
                    unread.get_or_insert(error);
                }
            }
        }
    }
    (None, unread)
}

/// Segments after number `after`, by number.
async fn list(shared: &Shared, after: Option<u64>) -> Result<Vec<(u64, ObjectMeta)>, ArchiveError> {
    let folder = keys::segments(&shared.folder);
    let listing = match after {
        Some(after) => {
            let offset = keys::segment(&shared.folder, after);
            shared.objects.list_with_offset(Some(&folder), &offset)
        }
        None => shared.objects.list(Some(&folder)),
    };
    let numbered = listing.try_filter_map(|meta| async move {
        Ok(keys::number(&meta.location).map(|number| (number, meta)))
    });
    let mut found = limited(shared.timeout, numbered.try_collect::<Vec<_>>()).await?;
    found.sort_by_key(|(number, _)| *number);
    Ok(found)
}

async fn footer(
    shared: &Shared,
    meta: ObjectMeta,
) -> Result<(Path, SegmentInfo, Vec<Point>), ArchiveError> {
    let path = meta.location;
    let damaged = |error| ArchiveError::damaged(&path, &error);
    let mut tail = range(shared, &path, meta.size.saturating_sub(TAIL)..meta.size).await?;
    let trailer = read_trailer(&tail, meta.size).map_err(damaged)?;
    let needed = meta.size - trailer.footer_start.min(meta.size);
    if needed > tail.len() as u64 {
        if needed > MAX_INDEX {
            return Err(too_long(&path));
        }
        tail = range(shared, &path, trailer.footer_start..meta.size).await?;
    }
    let (info, points) = read_summary(&tail, meta.size).map_err(damaged)?;
    Ok((path, info, points))
}

/// Reads some records of a segment.
pub(super) async fn read_part(shared: &Shared, part: Part) -> Result<Decoded, ArchiveError> {
    let path = keys::segment(&shared.folder, part.segment);
    let start = part.range.start;
    let data = match &shared.segments {
        Some(segments) => {
            check_length(&path, &part.range)?;
            segments.read(&path, part.range).await?
        }
        None => range(shared, &path, part.range).await?,
    };
    read_frames(data, start).map_err(|error| ArchiveError::damaged(&path, &error))
}

/// Reads the records of a piece, which are in one segment or in a few.
pub(super) async fn read_parts(shared: &Shared, parts: Vec<Part>) -> Result<Decoded, ArchiveError> {
    let runs = stream::iter(parts)
        .map(|part| read_part(shared, part))
        .buffered(PARALLEL);
    let mut runs = std::pin::pin!(runs);
    let mut whole = Decoded::default();
    while let Some(run) = runs.try_next().await? {
        if whole.frames.is_empty() {
            whole = run;
        } else {
            // What is in force at the beginning of a segment that goes on with a piece is known from the piece's beginning.
            whole.frames.extend(run.frames);
        }
    }
    Ok(whole)
}

async fn range(shared: &Shared, path: &Path, range: Range<u64>) -> Result<Bytes, ArchiveError> {
    let length = check_length(path, &range)?;
    if length == 0 {
        return Ok(Bytes::new());
    }
    let data = limited(shared.timeout, shared.objects.get_range(path, range)).await?;
    if data.len() as u64 != length {
        return Err(ArchiveError::Damaged {
            object: path.to_string(),
            offset: 0,
            what: "shorter than it was",
        });
    }
    Ok(data)
}

fn check_length(path: &Path, range: &Range<u64>) -> Result<u64, ArchiveError> {
    let length = range.end.saturating_sub(range.start);
    if length > MAX_RUN {
        return Err(too_long(path));
    }
    Ok(length)
}

fn too_long(path: &Path) -> ArchiveError {
    ArchiveError::Damaged {
        object: path.to_string(),
        offset: 0,
        what: "more bytes in one run than any writer makes",
    }
}

/// Waits for a store, but not for ever.
pub(super) async fn limited<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, object_store::Error>>,
) -> Result<T, ArchiveError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| ArchiveError::store(&error)),
        Err(_) => Err(ArchiveError::timeout(limit)),
    }
}
