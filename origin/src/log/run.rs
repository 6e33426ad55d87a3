//! The runs of a log: who published when, as readers know it.

use std::collections::VecDeque;

use headwater_media::frame::{Epoch, Offset};

use super::MAX_RUNS;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Readers are told `UNPUBLISHED`.
    Unpublished,
    /// The next run follows at once.
    CutOff,
}

/// A stretch of one epoch during which the stream is published.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Grows by one from run to run.
    pub(super) id: u64,
    pub(super) epoch: Epoch,
    /// First sequence that this log took without a hole before [`Self::head`]. The window may hold less.
    pub(super) start: u64,
    /// The next sequence.
    pub(super) head: u64,
    pub(super) end: Option<End>,
    /// False as long as a publisher is only expected, because a reader knows of it: others are not told of the run yet.
    pub(super) begun: bool,
    /// W3C traceparent of the publisher's span.
    pub(super) trace: String,
}

impl Run {
    pub(super) fn head_offset(&self) -> Offset {
        Offset {
            epoch: self.epoch,
            sequence: self.head,
        }
    }
}

/// The last [`MAX_RUNS`] runs, oldest first. All but the last have ended.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: VecDeque<Run>,
    next_id: u64,
}

impl Runs {
    /// Starts a run; one that still went on is cut off.
    pub(super) fn start(&mut self, epoch: Epoch, start: u64) {
        self.end_current(End::CutOff);
        if self.runs.len() >= MAX_RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back(Run {
            id: self.next_id,
            epoch,
            start,
            head: start,
            end: None,
            begun: true,
            trace: String::new(),
        });
        self.next_id += 1;
    }

    /// Starts a run whose publisher is not there yet, nor is it known where it will begin.
    pub(super) fn expect(&mut self, epoch: Epoch) {
        self.start(epoch, 0);
        if let Some(run) = self.current_mut() {
            run.begun = false;
        }
    }

    pub(super) fn end_current(&mut self, end: End) {
        if let Some(run) = self.current_mut() {
            run.end = Some(end);
        }
    }

    /// Whether there were runs before those that are remembered.
    pub(super) fn have_forgotten(&self) -> bool {
        self.runs.front().is_some_and(|run| run.id > 0)
    }

    /// Id of the run that starts next.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    pub(super) fn last(&self) -> Option<&Run> {
        self.runs.back()
    }

    /// The run that goes on.
    pub(super) fn current(&self) -> Option<&Run> {
        self.runs.back().filter(|run| run.end.is_none())
    }

    pub(super) fn current_mut(&mut self) -> Option<&mut Run> {
        self.runs.back_mut().filter(|run| run.end.is_none())
    }

    /// The run of this id, or the oldest one after it.
    pub(super) fn at_or_after(&self, id: u64) -> Option<&Run> {
        let first = self.runs.front()?.id;
        let index = usize::try_from(id.saturating_sub(first)).ok()?;
        self.runs.get(index)
    }

    /// The run in which a reader at `offset` is: the earliest of that epoch that has not ended before it, or the last of
    /// that epoch.
    pub(super) fn of(&self, offset: Offset) -> Option<&Run> {
        self.runs
            .iter()
            .filter(|run| run.epoch == offset.epoch)
            .find(|run| run.end.is_none() || offset.sequence <= run.head)
            .or_else(|| self.newest_of(offset.epoch))
    }

    pub(super) fn newest_of(&self, epoch: Epoch) -> Option<&Run> {
        self.runs.iter().rfind(|run| run.epoch == epoch)
    }

    /// The first run of a later epoch.
    pub(super) fn after_epoch(&self, epoch: Epoch) -> Option<&Run> {
        self.runs.iter().find(|run| run.epoch > epoch)
    }
}
