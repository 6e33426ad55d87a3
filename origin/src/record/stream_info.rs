//! What encoders said of streams (`DVRSetStreamInfo` of Adobe's DVRCast), kept in the store with the names of their recordings.
//!
//! What was said of a name is an object of its own, `recorded/KEY.info.json`, beside the card of [`files`](super::files): the card is
//! read, changed and written by the recorder of the name, this object only ever is written as a whole, by whoever says something. So
//! neither undoes what the other did.
//!
//! # How long it holds
//! As long as what it was said of: it goes when that is deleted, erased, or recorded anew. An encoder may say it before it publishes;
//! so what was said within [`ANNOUNCED`] before a publisher came stands for what that publisher brings. Who appends changes nothing.
//!
//! # Invariants
//! - On one origin, changes of a name and looks into the store for it come one after the other: what [`StreamInfos::set`] wrote is
//!   never deleted as older, and never hidden by what was read before.
//! - What is remembered is bounded in names, and believed for [`BELIEVED`]: only another origin can change it without this one knowing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use headwater_media::name::StreamName;
use headwater_proto::v1;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::files::{CARDS, from_store, key};
use super::vault::{Cause, VaultError};
use crate::log::table::unix_millis;

/// Longest length that can be said, in milliseconds: ten years.
const MAX_LENGTH_MS: u64 = 10 * 366 * 86_400_000;

/// The dates of ActionScript: so many milliseconds before and after 1970.
const MAX_UNIX_MS: i64 = 8_640_000_000_000_000;

/// Largest object that is read, in bytes: a few numbers.
const MAX_OBJECT: u64 = 4_096;

/// How long before a publisher its encoder may say what it brings: time to connect, and to press a button.
const ANNOUNCED: Duration = Duration::from_secs(60);

/// How long what the store said of a name is believed. While a show is watched, its edges ask each second.
const BELIEVED: Duration = Duration::from_secs(5);

/// Names of which it is remembered.
const MOST_KNOWN: usize = 16_384;

/// Names that do not wait for each other, mostly.
const TURNS: usize = 64;

/// What may be wrong with what was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InfoError {
    #[error("a date of the stream info is no date")]
    Date,
    #[error("a length of the stream info is longer than ten years")]
    Length,
}

/// What an encoder said; see `StreamInfo` of `proto/headwater/v1/recording.proto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StreamInfo {
    call_unix_ms: Option<i64>,
    start_unix_ms: Option<i64>,
    stop_unix_ms: Option<i64>,
    max_length_ms: Option<u64>,
    begin_offset_ms: Option<u64>,
    end_offset_ms: Option<u64>,
    append: Option<bool>,
    offline: Option<bool>,
}

impl StreamInfo {
    /// Checks what came over the wire, or out of the store.
    pub(crate) fn check(info: &v1::StreamInfo) -> Result<Self, InfoError> {
        let dates = [info.call_unix_ms, info.start_unix_ms, info.stop_unix_ms];
        if dates
            .iter()
            .flatten()
            .any(|date| !(-MAX_UNIX_MS..=MAX_UNIX_MS).contains(date))
        {
            return Err(InfoError::Date);
        }
        let lengths = [info.max_length_ms, info.begin_offset_ms, info.end_offset_ms];
        if lengths.iter().flatten().any(|ms| *ms > MAX_LENGTH_MS) {
            return Err(InfoError::Length);
        }
        Ok(Self {
            call_unix_ms: info.call_unix_ms,
            start_unix_ms: info.start_unix_ms,
            stop_unix_ms: info.stop_unix_ms,
            max_length_ms: info.max_length_ms,
            begin_offset_ms: info.begin_offset_ms,
            end_offset_ms: info.end_offset_ms,
            append: info.append,
            offline: info.offline,
        })
    }

    pub(crate) fn to_wire(self) -> v1::StreamInfo {
        v1::StreamInfo {
            call_unix_ms: self.call_unix_ms,
            start_unix_ms: self.start_unix_ms,
            stop_unix_ms: self.stop_unix_ms,
            max_length_ms: self.max_length_ms,
            begin_offset_ms: self.begin_offset_ms,
            end_offset_ms: self.end_offset_ms,
            append: self.append,
            offline: self.offline,
        }
    }
}

/// The object of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    /// When an origin was told, in milliseconds since 1970.
    unix_ms: u64,
    info: StreamInfo,
}

/// What was said of streams, by the names of their recordings. Clones share it.
#[derive(Clone)]
pub(crate) struct StreamInfos {
    shared: Arc<Shared>,
}

struct Shared {
    objects: Arc<dyn ObjectStore>,
    /// Held while the store is asked about a name that falls to it.
    turns: Vec<tokio::sync::Mutex<()>>,
    known: Mutex<HashMap<StreamName, Known>>,
}

/// What the store said of a name last.
#[derive(Clone, Copy)]
struct Known {
    since: Instant,
    said: Option<Said>,
}

impl std::fmt::Debug for StreamInfos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamInfos").finish_non_exhaustive()
    }
}

impl StreamInfos {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            shared: Arc::new(Shared {
                objects,
                turns: (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect(),
                known: Mutex::default(),
            }),
        }
    }

    /// What was said of a recording.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn find(&self, name: &StreamName) -> Result<Option<StreamInfo>, VaultError> {
        let fresh = || {
            let known = self.known(name)?;
            (known.since.elapsed() < BELIEVED).then_some(known.said)
        };
        let info = |said: Option<Said>| said.map(|said| said.info);
        if let Some(said) = fresh() {
            return Ok(info(said));
        }
        let _turn = self.turn(name).await;
        // Somebody may have looked meanwhile.
        if let Some(said) = fresh() {
            return Ok(info(said));
        }
        let said = self.read(name).await?;
        self.know(name, said);
        Ok(info(said))
    }

    /// What was known of it last, although it may not hold any more: the store is not asked.
    pub(crate) fn last(&self, name: &StreamName) -> Option<StreamInfo> {
        Some(self.known(name)?.said?.info)
    }

    /// Keeps what is said, in place of what was said before. It is stored when this is done.
    ///
    /// # Errors
    /// What the store says: it may be stored all the same.
    pub(crate) async fn set(&self, name: &StreamName, info: StreamInfo) -> Result<(), VaultError> {
        let _turn = self.turn(name).await;
        // Should this end half-way, the store knows what is there.
        self.shared.known.lock().remove(name);
        let said = Said {
            unix_ms: unix_millis(),
            info,
        };
        let text = serde_json::to_vec(&said).map_err(|error| VaultError {
            cause: Cause::Corrupt,
            text: error.to_string(),
        })?;
        let written = self.shared.objects.put(&path(name), text.into()).await;
        written.map_err(|error| from_store(&error))?;
        self.know(name, Some(said));
        Ok(())
    }

    /// What it was said of is no more.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn forget(&self, name: &StreamName) -> Result<(), VaultError> {
        let _turn = self.turn(name).await;
        self.delete(name).await
    }

    /// A publisher came at `unix_ms`, and what was there is no more, or about to be replaced: what was said of that goes. What its
    /// own encoder said stays.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn renew(&self, name: &StreamName, unix_ms: u64) -> Result<(), VaultError> {
        let announced = u64::try_from(ANNOUNCED.as_millis()).unwrap_or(u64::MAX);
        let _turn = self.turn(name).await;
        match self.read(name).await? {
            Some(said) if said.unix_ms.saturating_add(announced) < unix_ms => {
                self.delete(name).await
            }
            _ => Ok(()),
        }
    }

    async fn turn(&self, name: &StreamName) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or(0);
        Some(self.shared.turns.get(index)?.lock().await)
    }

    async fn read(&self, name: &StreamName) -> Result<Option<Said>, VaultError> {
        let found = match self.shared.objects.get(&path(name)).await {
            Ok(found) if found.meta.size > MAX_OBJECT => {
                tracing::warn!(%name, "the stream info of a recording is too large to be one");
                return Ok(None);
            }
            Ok(found) => found.bytes().await.map_err(|error| from_store(&error))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(from_store(&error)),
        };
        let said = serde_json::from_slice::<Said>(&found);
        let checked = said.map_err(|error| error.to_string()).and_then(|said| {
            let checked = StreamInfo::check(&said.info.to_wire());
            checked.map(|_| said).map_err(|error| error.to_string())
        });
        if let Err(error) = &checked {
            tracing::warn!(%name, error, "the stream info of a recording cannot be read");
        }
        Ok(checked.ok())
    }

    async fn delete(&self, name: &StreamName) -> Result<(), VaultError> {
        self.shared.known.lock().remove(name);
        match self.shared.objects.delete(&path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {
                self.know(name, None);
                Ok(())
            }
            Err(error) => Err(from_store(&error)),
        }
    }

    fn known(&self, name: &StreamName) -> Option<Known> {
        self.shared.known.lock().get(name).copied()
    }

    fn know(&self, name: &StreamName, said: Option<Said>) {
        let since = Instant::now();
        let mut known = self.shared.known.lock();
        if known.len() >= MOST_KNOWN && !known.contains_key(name) {
            known.retain(|_, it| it.since.elapsed() < BELIEVED);
            if known.len() >= MOST_KNOWN {
                return;
            }
        }
        known.insert(name.clone(), Known { since, said });
    }
}

fn path(name: &StreamName) -> Path {
    Path::from_iter([CARDS.to_owned(), format!("{}.info.json", key(name))])
}

#[cfg(test)]
mod tests;
