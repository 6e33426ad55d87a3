//! Reading a recording, by pieces and as a whole.

use std::sync::Arc;

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use headwater_media::frame::{Frame, Offset};
use headwater_media::segment::Part;

use super::error::ArchiveError;
use super::shared::{Shared, State};
use super::{ArchivePiece, Follows, Summary, load};

/// Segments that are read ahead when a recording is read as a whole: bounds memory to as many, and hides a distant store's delay.
const READ_AHEAD: usize = 3;

/// Reads one recording. Clones of its `Arc` are for as many readers as there are.
#[derive(Debug)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The recording as a whole, as far as it is known.
    pub(crate) fn summary(&self) -> Summary {
        let generation = self.shared.recording.generation;
        self.shared.state.read().summary(generation)
    }

    /// A writer of this process adds to it: nothing needs to be [refreshed](Self::refresh).
    pub(crate) fn is_live(&self) -> bool {
        self.shared.is_live()
    }

    /// Looks what has been added by other processes.
    ///
    /// # Errors
    /// [`ArchiveError`]; [`ArchiveError::NotFound`] where the recording has been deleted.
    pub(crate) async fn refresh(&self) -> Result<(), ArchiveError> {
        if self.shared.is_live() {
            return Ok(());
        }
        self.shared.refresh().await
    }

    /// The piece with the newest place at or before `ms` from which a decoder can start; the first piece where there is none.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(crate) async fn piece_at_time(&self, ms: u64) -> Result<ArchivePiece, ArchiveError> {
        self.piece(|state| state.piece_at_time(ms)).await
    }

    /// The piece that holds the frame at `at`; where there is no such frame, the last piece before it, the first for what is before all.
    /// So a position within a piece gives the same piece as its beginning: frames before `at` are there, too.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(crate) async fn piece_at(&self, at: Offset) -> Result<ArchivePiece, ArchiveError> {
        self.piece(|state| state.piece_at(at)).await
    }

    /// [`piece_at_time`](Self::piece_at_time), with what others have added since where that can make a difference. One request to the
    /// store more then, and none else.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(crate) async fn newest_piece_at_time(&self, ms: u64) -> Result<ArchivePiece, ArchiveError> {
        let piece = self.piece_at_time(ms).await?;
        // A later piece in which no decoder can start yet is not given.
        let is_last = piece.follows == Follows::Growing || ms >= self.summary().end_ms;
        if !is_last || !self.may_grow() {
            return Ok(piece);
        }
        self.refresh().await?;
        self.piece_at_time(ms).await
    }

    /// [`piece_at`](Self::piece_at), in the same way.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(crate) async fn newest_piece_at(&self, at: Offset) -> Result<ArchivePiece, ArchiveError> {
        let piece = self.piece_at(at).await?;
        if piece.follows != Follows::Growing || !self.may_grow() {
            return Ok(piece);
        }
        self.refresh().await?;
        self.piece_at(at).await
    }

    /// Whoever writes it does so elsewhere, or died.
    fn may_grow(&self) -> bool {
        !self.is_live() && !self.summary().is_complete
    }

    async fn piece(
        &self,
        which: impl Fn(&State) -> usize + Send + Sync,
    ) -> Result<ArchivePiece, ArchiveError> {
        match self.known_piece(&which).await {
            Err(ArchiveError::NotFound) => {
                // A window has let go of it, here or elsewhere, or all of it is gone.
                if !self.is_live() {
                    self.shared.reload().await?;
                }
                self.known_piece(&which).await
            }
            known => known,
        }
    }

    async fn known_piece(
        &self,
        which: impl Fn(&State) -> usize,
    ) -> Result<ArchivePiece, ArchiveError> {
        let generation = self.shared.recording.generation;
        let plan = {
            let state = self.shared.state.read();
            state.plan(which(&state))
        };
        let Some(plan) = plan else {
            let is_complete = self.summary().is_complete;
            return Ok(ArchivePiece {
                generation,
                first: Offset::default(),
                next: Offset::default(),
                start_ms: 0,
                end_ms: 0,
                preface: Vec::new(),
                frames: Vec::new(),
                follows: if is_complete {
                    Follows::End
                } else {
                    Follows::Growing
                },
            });
        };
        let mut piece = ArchivePiece {
            generation,
            first: plan.first,
            next: plan.next,
            start_ms: plan.start_ms,
            end_ms: plan.end_ms,
            preface: plan.preface,
            frames: Vec::new(),
            follows: plan.follows,
        };
        if plan.parts.is_empty() {
            piece.frames = plan.frames;
        } else {
            let stored = load::read_parts(&self.shared, plan.parts).await?;
            piece.preface = stored.preface;
            piece.frames = stored.frames;
            piece.frames.extend(plan.frames);
        }
        Ok(piece)
    }

    /// All frames that there are now from `from` on, or from the beginning, in batches and in order. Some segments are in memory at a
    /// time. Ends after the first error. Where the beginning was [let go](super::Writer::keep_window), codec headers and metadata in
    /// force come first.
    pub(crate) fn frames(
        &self,
        from: Option<Offset>,
    ) -> impl Stream<Item = Result<Vec<Frame>, ArchiveError>> + Send + use<> {
        let is_whole = from.is_none();
        let from = from.unwrap_or_default();
        let (parts, tail, mut lacks_preface) = {
            let state = self.shared.state.read();
            let lacks_preface = is_whole && state.index.first_number() > 0;
            let parts: Vec<Part> = (state.index.segments().iter())
                .filter(|segment| segment.frames > 0 && segment.next > from)
                .map(|segment| Part {
                    segment: segment.number,
                    range: segment.records_start..segment.records_end,
                })
                .collect();
            let tail: Vec<Frame> = state.tail.iter().map(|held| held.frame.clone()).collect();
            (parts, tail, lacks_preface)
        };
        let shared = self.shared.clone();
        let stored = stream::iter(parts)
            .map(move |part| {
                let shared = shared.clone();
                async move { load::read_part(&shared, part).await }
            })
            .buffered(READ_AHEAD)
            .map_ok(move |read| {
                let mut frames = Vec::new();
                if std::mem::take(&mut lacks_preface) {
                    frames = read.preface;
                }
                frames.extend(read.frames);
                frames
            });
        let mut failed = false;
        stored
            .chain(stream::iter([Ok(tail)]))
            .map(move |batch| {
                batch.map(|mut frames| {
                    frames.retain(|frame| frame.offset >= from);
                    frames
                })
            })
            .take_while(move |batch| {
                let goes_on = !failed;
                failed |= batch.is_err();
                std::future::ready(goes_on)
            })
            .filter(|batch| std::future::ready(!batch.as_ref().is_ok_and(Vec::is_empty)))
    }
}
