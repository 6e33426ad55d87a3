//! Where the frames of a session go.

use std::time::Duration;

use headwater_media::frame::{Epoch, Offset};

use super::failure::Failure;
use super::keeper::Place;
use super::session::Session;
use super::{Mode, Recorder};
use crate::record::compose;
use crate::record::files::Placed;
use crate::record::vault::{Cause, Kept, Vault, VaultError};

/// The pause before a store that did not answer is asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// Where the frames of a session go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) place: Place,
    /// Frames before this offset are in the file already.
    pub(super) skip: Option<Offset>,
    /// The end of the file, in milliseconds.
    pub(super) end_ms: Option<u64>,
    /// When the end of what is there came, in milliseconds since 1970.
    pub(super) unix_ms: Option<u64>,
}

impl Plan {
    const NEW: Self = Self {
        place: Place::New,
        skip: None,
        end_ms: None,
        unix_ms: None,
    };
}

impl<V: Vault> Recorder<V> {
    /// Asks the store for as long as the session can wait.
    pub(super) async fn plan(
        &self,
        mode: Mode,
        resumes: bool,
        epoch: Epoch,
        first: u64,
        session: &Session,
    ) -> Result<Plan, Failure> {
        loop {
            match self.decide(mode, resumes, epoch, first).await {
                Ok(plan) => return Ok(plan),
                Err(error) if error.cause == Cause::Unavailable && !session.is_over() => {
                    tracing::warn!(%error, "the store does not say what is recorded, the recording waits");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn decide(
        &self,
        mode: Mode,
        resumes: bool,
        epoch: Epoch,
        first: u64,
    ) -> Result<Plan, VaultError> {
        let (files, target) = (&self.shared.files, &self.entry.target);
        files.probe(target).await?;
        if !resumes && mode == Mode::Record {
            return Ok(Plan::NEW);
        }
        let card = files.card(&target.name).await?;
        let placed = files.placed(target, &card).await?;
        let newest = self.newest(placed).await?;
        if resumes {
            if let Some((generation, kept)) = &newest
                && kept.next.is_some_and(|next| next.epoch == epoch)
            {
                return Ok(Plan {
                    place: Place::Generation(*generation),
                    ..Plan::NEW
                });
            }
            if newest.is_none()
                && let Some(placed) = placed.filter(|it| it.next().epoch == epoch)
            {
                return Ok(Plan {
                    place: Place::Behind {
                        shift_ms: Some(placed.shift_ms),
                    },
                    skip: Some(placed.next()),
                    end_ms: Some(placed.end_ms),
                    unix_ms: Some(placed.unix_ms),
                });
            }
            if mode == Mode::Record && first == 0 {
                return Ok(Plan::NEW);
            }
            // The beginning of the epoch is not here. Whatever is stored may be it: nothing is replaced.
        }
        // Who goes on is not told where its timeline stands: it knows, but not the file.
        let shift_ms = (!resumes).then_some(0);
        if let Some((generation, _)) = newest {
            let ended = card.ended.filter(|(ended, _)| *ended == generation);
            return Ok(Plan {
                place: Place::Generation(generation),
                unix_ms: ended.map(|(_, unix_ms)| unix_ms),
                ..Plan::NEW
            });
        }
        if let Some(placed) = placed {
            return Ok(Plan {
                place: Place::Behind { shift_ms },
                skip: None,
                end_ms: Some(placed.end_ms),
                unix_ms: Some(placed.unix_ms),
            });
        }
        let Some(found) = files.head(&target.path).await? else {
            return Ok(Plan::NEW);
        };
        let end_ms = compose::end_of(files, target).await?;
        Ok(Plan {
            place: Place::Behind { shift_ms },
            skip: None,
            end_ms: Some(end_ms),
            unix_ms: u64::try_from(found.last_modified.timestamp_millis()).ok(),
        })
    }

    /// The newest generation that holds something that is not in the file. One that cannot be read is left alone.
    async fn newest(&self, in_file: Option<Placed>) -> Result<Option<(u64, Kept)>, VaultError> {
        let name = &self.entry.target.name;
        let generations = self.shared.vault.generations(name).await?;
        for generation in generations.into_iter().rev() {
            let placed = in_file.filter(|placed| placed.generation == generation);
            match self.shared.vault.kept(name, generation).await {
                // Those before it were replaced, or are in it. Another origin may have gone on with it when it was made the file.
                Ok(kept) if placed.is_some_and(|it| kept.next <= Some(it.next())) => {
                    return Ok(None);
                }
                Err(error) if placed.is_some() && error.cause.is_of_what_is_stored() => {
                    return Ok(None);
                }
                Ok(kept) => {
                    if kept.next.is_some() {
                        return Ok(Some((generation, kept)));
                    }
                }
                Err(error) if error.cause == Cause::NotFound => {}
                Err(error) if error.cause == Cause::Corrupt => {
                    tracing::error!(%error, generation, "a recording cannot be read, another is begun");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
