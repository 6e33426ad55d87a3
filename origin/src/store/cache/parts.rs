//! Small parts of objects, here and there: fetched several at a time, and not kept, lest a few bytes of each block bring the whole object.

use std::io;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::fetch::FetchError;
use super::{Cache, DISK_SLACK, Entry, Key, Shared};
use crate::store::remote::{BLOCK_BYTES, Object};

/// Longest part, in bytes: what is longer is worth its block.
pub(in crate::store) const MAX_PART: usize = 64 << 10;

/// Parts of one call that are fetched at a time.
const AT_A_TIME: usize = 16;

impl Cache {
    /// Whether the block with this byte is there, or comes.
    pub(in crate::store) fn has(&self, object: &Arc<Object>, offset: u64) -> bool {
        let key = Key {
            object: Arc::clone(object),
            number: offset / BLOCK_BYTES,
        };
        let state = self.shared.state.lock();
        matches!(
            state.entries.get(&key),
            Some(Entry::Kept(_) | Entry::Coming(_))
        )
    }

    /// Parts of an object, of [`MAX_PART`] bytes at most each, in the order of the places. Blocks.
    pub(in crate::store) fn parts(
        &self,
        object: &Arc<Object>,
        places: Vec<(u64, usize)>,
    ) -> Vec<io::Result<Bytes>> {
        let count = places.len();
        if count == 0 {
            return Vec::new();
        }
        let (shared, object) = (Arc::clone(&self.shared), Arc::clone(object));
        let (sender, receiver) = mpsc::channel();
        self.io.spawn(async move {
            let limit = shared.timeout;
            let fetches = places.into_iter().enumerate().map(|(number, place)| {
                let (shared, object) = (&shared, &object);
                async move { (number, shared.part(object, place).await) }
            });
            let mut fetches = stream::iter(fetches).buffer_unordered(AT_A_TIME);
            let all = async {
                while let Some(fetched) = fetches.next().await {
                    // Nobody waits any more.
                    if sender.send(fetched).is_err() {
                        return;
                    }
                }
            };
            // What is missing then is missing.
            let _ = tokio::time::timeout(limit, all).await;
        });
        let late = || Err(io::Error::from(FetchError::TimedOut));
        let mut parts: Vec<_> = std::iter::repeat_with(late).take(count).collect();
        // The sender is dropped when the time is over; the slack is for a machine that is slow itself.
        let deadline = std::time::Instant::now() + self.shared.timeout + DISK_SLACK;
        for _ in 0..count {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let Ok((number, fetched)) = receiver.recv_timeout(left) else {
                break;
            };
            if let Some(part) = parts.get_mut(number) {
                *part = fetched.map_err(io::Error::from);
            }
        }
        parts
    }
}

impl Shared {
    async fn part(
        &self,
        object: &Object,
        (offset, length): (u64, usize),
    ) -> Result<Bytes, FetchError> {
        let range = offset..offset + length as u64;
        let request = object.request_range(range);
        let result = self.objects.get_opts(&object.path, request).await?;
        if !object.is(&result.meta) {
            return Err(FetchError::Replaced);
        }
        let bytes = result.bytes().await?;
        self.metrics.fetched_bytes.inc_by(bytes.len() as u64);
        if bytes.len() != length {
            let message = format!("{} bytes instead of {length}", bytes.len());
            return Err(FetchError::Failed(message.into()));
        }
        Ok(bytes)
    }
}
