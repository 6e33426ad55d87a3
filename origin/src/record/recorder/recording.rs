//! A session that is recorded: from the intake to the keeper, until the publisher leaves, moves, or has reached a limit.

use std::time::Duration;

use headwater_media::frame::Frame;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::failure::Failure;
use super::intake::End;
use super::keeper::{self, Keeper};
use super::plan::Plan;
use super::{STOP_PATIENCE, sleep_until};
use crate::log::table::unix_millis;
use crate::record::recordings::{Entry, Found, Mode};
use crate::record::vault::{Stored, Vault};

/// Bytes that are taken from the intake at a time.
const TAKE_BYTES: usize = 1 << 20;

/// How long what waits for the store is waited for once the publisher has left.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// A session that has a place for its frames.
pub(super) struct Recording {
    pub(super) plan: Plan,
    pub(super) mode: Mode,
    /// Its publisher is to be told that it began.
    pub(super) announced: bool,
    pub(super) timeline: Option<oneshot::Sender<u64>>,
    /// By which of the keeper's writers others read it, once they can.
    pub(super) shown: Option<u32>,
}

impl Recording {
    pub(super) async fn run<V: Vault>(
        mut self,
        keeper: &mut Keeper<'_, V>,
        entry: &Entry<V>,
    ) -> Result<End, Failure> {
        let outcome = self.record(keeper, entry).await;
        if keeper.shared.stop.is_cancelled() && outcome == Err(Failure::Stopping) {
            keeper.last_words(STOP_PATIENCE).await;
        }
        outcome
    }

    async fn record<V: Vault>(
        &mut self,
        keeper: &mut Keeper<'_, V>,
        entry: &Entry<V>,
    ) -> Result<End, Failure> {
        if keeper.generation().is_some() {
            keeper.open().await?;
            self.advance(keeper, entry);
        }
        if let Some(timeline) = self.timeline.take() {
            let stored = keeper.kept().map(|kept| kept.end_ms);
            if let Some(end_ms) = stored.or(self.plan.end_ms) {
                let gap = match (self.mode, self.plan.unix_ms) {
                    (Mode::AppendWithGap, Some(then)) => unix_millis().saturating_sub(then),
                    _ => 0,
                };
                // Nobody waits for it any more: the recording has failed.
                let _ = timeline.send(end_ms.saturating_add(gap));
            }
        }
        let end = loop {
            let due = keeper.sync_due();
            if due.is_some_and(|due| due <= Instant::now()) {
                keeper.sync().await?;
                self.advance(keeper, entry);
                continue;
            }
            tokio::select! {
                biased;
                taken = keeper.intake.next(TAKE_BYTES) => match taken {
                    Ok(frames) => {
                        let (frames, quota) = self.within_limits(keeper, frames);
                        keeper.push(frames).await?;
                        self.advance(keeper, entry);
                        if let Some(quota) = quota {
                            keeper.finish().await?;
                            return Err(quota);
                        }
                    }
                    Err(end) => break end,
                },
                () = sleep_until(due) => {}
                () = keeper.session.over() => return Err(Failure::Stopping),
            }
        };
        keeper.deadline = Some(Instant::now() + END_PATIENCE);
        if end == End::Cut {
            return Err(Failure::Stopping);
        }
        keeper.hands_over = end == End::Moved && !keeper.shared.files.are_local();
        keeper.finish().await?;
        self.advance(keeper, entry);
        Ok(end)
    }

    /// After something was stored.
    fn advance<V: Vault>(&mut self, keeper: &Keeper<'_, V>, entry: &Entry<V>) {
        keeper.shared.note_buffered();
        if self.shown == Some(keeper.opened) {
            return;
        }
        let (Some(generation), Some(reader)) = (keeper.generation(), keeper.reader()) else {
            return;
        };
        let Some(next) = reader.kept().next else {
            return;
        };
        if self.shown.is_some() {
            // It was taken back from another origin.
            entry.show(self.found(generation, reader));
            self.shown = Some(keeper.opened);
            return;
        }
        // A publisher that goes on was told by the owner before, if its frames were stored there.
        let has_written = keeper.has_written();
        let known = next.epoch == keeper.session.epoch && !has_written && !self.announced;
        if !has_written && !known {
            // What is stored is of the publisher before; it is to be read nevertheless.
            entry.show(self.found(generation, reader));
            return;
        }
        keeper.session.started(!known);
        entry.show(self.found(generation, reader));
        self.shown = Some(keeper.opened);
        tracing::info!(generation, mode = ?self.mode, "recording");
    }

    fn found<R>(&self, generation: u64, reader: R) -> Found<R> {
        Found {
            generation,
            reader,
            growing: true,
        }
    }

    /// The frames that may be stored, and the limit at which the others would be past.
    fn within_limits<V: Vault>(
        &self,
        keeper: &Keeper<'_, V>,
        mut frames: Vec<Frame>,
    ) -> (Vec<Frame>, Option<Failure>) {
        let config = &keeper.shared.config;
        let (longest, largest) = (config.max_duration_ms, config.max_recording_bytes);
        if longest == 0 && largest == 0 {
            return (frames, None);
        }
        let kept = keeper.kept().unwrap_or_default();
        let start = match self.plan.place {
            // It begins with the file.
            keeper::Place::Behind { .. } => 0,
            _ if kept.next.is_some() => kept.start_ms,
            _ => frames.first().map_or(0, |frame| frame.timestamp),
        };
        let mut bytes = kept.bytes;
        let past = frames.iter().position(|frame| {
            bytes = bytes.saturating_add(frame.payload.len() as u64);
            let length = frame.timestamp.saturating_sub(start);
            (longest > 0 && length > longest) || (largest > 0 && bytes > largest)
        });
        let Some(past) = past else {
            return (frames, None);
        };
        for frame in frames.drain(past..) {
            keeper.intake.release(&frame);
        }
        let quota = match largest > 0 && bytes > largest {
            true => Failure::Size(largest),
            false => Failure::Duration(longest),
        };
        (frames, Some(quota))
    }
}
