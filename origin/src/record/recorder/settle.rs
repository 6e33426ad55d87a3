//! From what is stored of a name to its file.
//!
//! Only the newest generation with frames becomes the file; older ones were replaced by it and go. It is taken over and finished first,
//! unless it is complete: each of these leaves a segment behind, however often no file can be made. Whoever adds to one that is complete
//! is found out when the file is ready.
//!
//! # What a crash may do
//! It may come at any point. Generations are deleted only after the card says that they are in the file, and the file has the length
//! that the card says; a file that is put in place but not remembered is made again from what it was made from before, because the card
//! is written before the file is put there: see [`Files::placed`](crate::record::files::Files::placed).
//!
//! # What another origin may do
//! Go on with a generation at any time, also with one that is in the file. So what is in the file goes by offsets: the frames behind
//! are put behind the file, and nothing is deleted that was gone on with. Or make a file of the same generation: who finds that the
//! card speaks of another file than before begins anew, lest it puts its frames behind a file that has them.

use std::sync::Arc;

use headwater_media::name::StreamName;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::log::table::unix_millis;
use crate::record::compose::{self, ComposeError, Made};
use crate::record::files::{Card, Continues, Placed};
use crate::record::recordings::{Entry, Found, Shared};
use crate::record::vault::{Cause, Ledger, Stored, Vault, VaultError};

/// What is to be done.
pub(super) struct Work<V: Vault> {
    pub(super) shared: Arc<Shared<V>>,
    pub(super) entry: Arc<Entry<V>>,
    /// Of the newest generation, if nothing of it is left to be finished.
    pub(super) finished: Option<V::Writer>,
    /// Generations that are in the file.
    pub(super) placed: Vec<u64>,
    /// Ends it, up to the moment when the file is put in place.
    pub(super) cancel: CancellationToken,
}

/// It is done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// What is in the file now and may go.
    pub(super) placed: Option<Placed>,
}

/// Why it is not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unsettled {
    Cancelled,
    /// Another try does not help.
    GivenUp(String),
    Failed(String),
}

impl From<VaultError> for Unsettled {
    fn from(error: VaultError) -> Self {
        match error.cause {
            Cause::Corrupt | Cause::Fenced => Self::GivenUp(error.to_string()),
            Cause::NotFound | Cause::Full | Cause::NoAccess | Cause::Unavailable => {
                Self::Failed(error.to_string())
            }
        }
    }
}

impl From<ComposeError> for Unsettled {
    fn from(error: ComposeError) -> Self {
        // The store gets over it, or an operator sees to it: the file to go on behind comes back, or the recording goes. Until then
        // it is tried more and more seldom.
        Self::Failed(error.to_string())
    }
}

impl<V: Vault> Work<V> {
    pub(super) async fn run(mut self) -> Result<Settled, Unsettled> {
        let cancel = self.cancel.clone();
        let ready = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Unsettled::Cancelled),
            ready = self.prepare() => ready?,
        };
        match ready {
            Ready::Nothing => Ok(Settled::default()),
            Ready::Placed(placed) => Ok(Settled {
                placed: Some(placed),
            }),
            // From here on it is seen through: the card says what is about to be there.
            Ready::File(file) => self.place(*file).await,
        }
    }

    fn name(&self) -> &StreamName {
        &self.entry.target.name
    }

    /// Makes the file, but for its last step.
    async fn prepare(&mut self) -> Result<Ready, Unsettled> {
        let (shared, entry) = (Arc::clone(&self.shared), Arc::clone(&self.entry));
        let name = &entry.target.name;
        let mut card = shared.files.card(name).await?;
        let in_file = shared.files.placed(&entry.target, &card).await?;
        let mut generations = shared.vault.generations(name).await?;
        generations.retain(|generation| !self.placed.contains(generation));
        while let Some(generation) = generations.pop() {
            if let Some(placed) = in_file.filter(|placed| placed.generation == generation) {
                if !self.has_more(&placed).await? {
                    self.delete_all(&generations).await?;
                    return Ok(Ready::Placed(placed));
                }
                // Before the file is replaced: a crash in between finds what goes behind the one that is there.
                card.continues = Some(behind(&placed));
                shared.files.write_card(name, &card).await?;
            }
            if let Some(ready) = self.compose(generation, &card).await? {
                self.delete_all(&generations).await?;
                return Ok(ready);
            }
            // Without a frame.
            self.entry.hide(generation);
            shared.vault.delete(name, generation).await?;
        }
        // Its session ended in order a moment ago, with frames.
        let written = self.finished.take().map(|writer| writer.kept());
        if written.is_some_and(|kept| kept.next.is_some()) {
            let why = "the store has lost the parts of a recording";
            return Err(Unsettled::GivenUp(why.to_owned()));
        }
        Ok(Ready::Nothing)
    }

    /// Whether there is more of a generation than is in the file.
    async fn has_more(&self, placed: &Placed) -> Result<bool, Unsettled> {
        let (vault, generation) = (&self.shared.vault, placed.generation);
        let kept = match vault.kept(self.name(), generation).await {
            Ok(kept) => kept,
            // It has begun to be deleted.
            Err(error) if error.cause.is_of_what_is_stored() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let end = Some(placed.next());
        if kept.next == end && !kept.is_complete {
            // Somebody took it over and may be about to add to it.
            if !self.shared.files.are_local() {
                self.leave_to_its_owner(generation).await?;
            }
            let mut writer = vault.take_over(self.name(), generation).await?;
            writer.finish().await?;
            return Ok(writer.kept().next > end);
        }
        Ok(kept.next > end)
    }

    /// Deletes what a newer generation has replaced. What cannot be read is left to the operator.
    async fn delete_all(&self, generations: &[u64]) -> Result<(), VaultError> {
        for generation in generations {
            let deleting = async {
                self.shared.vault.open(self.name(), *generation).await?;
                self.entry.hide(*generation);
                self.shared.vault.delete(self.name(), *generation).await
            };
            match deleting.await {
                Ok(()) => tracing::info!(generation, "a recording was replaced by a newer one"),
                Err(error) if error.cause == Cause::NotFound => {}
                Err(error) if error.cause == Cause::Corrupt => {
                    tracing::error!(%error, generation, "a recording cannot be read, and is left as it is");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// `None` for a generation without a frame.
    async fn compose(&mut self, generation: u64, card: &Card) -> Result<Option<Ready>, Unsettled> {
        let (shared, entry) = (Arc::clone(&self.shared), Arc::clone(&self.entry));
        let finished = self.finished.take();
        let reader = match finished.filter(|writer| writer.generation() == generation) {
            Some(writer) => writer.reader(),
            None => match self.complete(generation).await? {
                Some(reader) => reader,
                None => self.take_over(generation).await?,
            },
        };
        let kept = reader.kept();
        let Some(next) = kept.next else {
            return Ok(None);
        };
        entry.show(Found {
            generation,
            reader: reader.clone(),
            growing: false,
        });
        let permit = Arc::clone(&shared.composing).acquire_owned().await;
        let started = Instant::now();
        self.check_not_made(card.placed).await?;
        shared.files.sweep(&entry.target).await;
        let continues = card.continues.filter(|it| it.generation == generation);
        let keep = shared.kept_free();
        let made = compose::make(
            &shared.files,
            &entry.target,
            continues,
            card.window_ms(generation),
            &reader,
            keep,
        )
        .await?;
        drop(permit);
        // Whoever took it over meanwhile makes a file of all of it.
        let now = shared
            .vault
            .open(&entry.target.name, generation)
            .await?
            .kept();
        if now.next != kept.next || !now.is_complete {
            let why = "somebody records on behind it";
            return Err(Unsettled::GivenUp(why.to_owned()));
        }
        let ended = card.ended.filter(|(ended, _)| *ended == generation);
        let placed = Placed {
            generation,
            length: made.length(),
            end_ms: made.end_ms(),
            shift_ms: made.shift_ms(),
            epoch: next.epoch.0,
            sequence: next.sequence,
            unix_ms: ended.map_or_else(unix_millis, |(_, unix_ms)| unix_ms),
        };
        Ok(Some(Ready::File(Box::new(File {
            made,
            placed,
            before: card.placed,
            started,
        }))))
    }

    /// Reads a generation to which nothing is to be added, neither by whoever wrote it nor from what this machine has of it.
    async fn complete(&self, generation: u64) -> Result<Option<V::Reader>, VaultError> {
        let (vault, name) = (&self.shared.vault, self.name());
        if vault.is_left_open(name, generation) {
            return Ok(None);
        }
        let reader = vault.open(name, generation).await?;
        let kept = reader.kept();
        Ok((kept.is_complete && kept.next.is_some()).then_some(reader))
    }

    /// Finishes a generation, if it has frames.
    async fn take_over(&self, generation: u64) -> Result<V::Reader, Unsettled> {
        if !self.shared.files.are_local() {
            self.leave_to_its_owner(generation).await?;
        }
        let mut writer = self.shared.vault.take_over(self.name(), generation).await?;
        if writer.kept().next.is_some() {
            writer.finish().await?;
        }
        Ok(writer.reader())
    }

    /// Whether the file in place is the one that the card spoke of `before`.
    async fn check_not_made(&self, before: Option<Placed>) -> Result<Card, Unsettled> {
        let card = self.shared.files.card(self.name()).await?;
        if card.placed != before {
            let why = "another origin has made a file of it";
            return Err(Unsettled::Failed(why.to_owned()));
        }
        Ok(card)
    }

    /// Waits whether another origin writes a generation that this one did not finish: it may have been left open here and gone on with
    /// there, or was found under another name of the same file.
    async fn leave_to_its_owner(&self, generation: u64) -> Result<(), Unsettled> {
        let name = self.name();
        let before = self.shared.vault.open(name, generation).await?.kept();
        tokio::time::sleep(self.shared.config.recovery_grace()).await;
        let now = self.shared.vault.open(name, generation).await?.kept();
        if now != before {
            let why = "another origin records on";
            return Err(Unsettled::GivenUp(why.to_owned()));
        }
        Ok(())
    }

    async fn place(self, file: File) -> Result<Settled, Unsettled> {
        let File {
            made,
            placed,
            before,
            started,
        } = file;
        let (files, target) = (&self.shared.files, &self.entry.target);
        let mut card = self.check_not_made(before).await?;
        card.placed = Some(placed);
        files.write_card(&target.name, &card).await?;
        made.place().await?;
        if files.placed(target, &card).await?.is_none() {
            let why = "the file is not as long as it was made";
            return Err(Unsettled::Failed(why.to_owned()));
        }
        let took = started.elapsed();
        self.shared.metrics.composed.inc();
        self.shared
            .metrics
            .compose_seconds
            .observe(took.as_secs_f64());
        tracing::info!(
            path = %target.path,
            bytes = placed.length,
            ms = placed.end_ms,
            ?took,
            "a recording is a file now"
        );
        Ok(Settled {
            placed: Some(placed),
        })
    }
}

/// What goes behind the file that has the beginning of its generation.
fn behind(placed: &Placed) -> Continues {
    Continues {
        generation: placed.generation,
        shift_ms: Some(placed.shift_ms),
        from: Some((placed.epoch, placed.sequence)),
    }
}

/// What was found to do.
enum Ready {
    Nothing,
    /// It is in the file already: a process before this one had no time to delete it.
    Placed(Placed),
    File(Box<File>),
}

/// A file that is to be put in place.
struct File {
    made: Made,
    placed: Placed,
    /// What the card said when it was begun.
    before: Option<Placed>,
    started: Instant,
}
