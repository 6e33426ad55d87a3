//! Readers: where each stands, and what it finds there.

use std::time::Instant;

use headwater_media::frame::{Epoch, Frame, Offset};
use headwater_media::window::Read;

use super::run::{End, Run};
use super::{Log, MAX_EPOCH_LEAD_MS, Refusal, Target, offset};

/// Where a reader wants to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the newest key frame.
    Live,
    /// At this frame.
    Offset(Offset),
}

/// What a reader is told first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Where true, no [`Item::Published`] of `epoch` follows.
    pub(crate) publishing: bool,
    pub(crate) epoch: Epoch,
    pub(crate) preface: Vec<Frame>,
}

/// What stands at a reader's position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// One or more, of one epoch, without holes.
    Frames(Vec<Frame>),
    Published(Epoch),
    Unpublished(Epoch),
    /// The frames from `from` on are gone; the next frame is `to`. `lost` is false where the reader came to a publisher that
    /// had begun on another owner: it has missed nothing that it was to get.
    Gap {
        from: Offset,
        to: Offset,
        preface: Vec<Frame>,
        lost: bool,
    },
    /// Nothing more comes from here.
    Moved(Target),
    /// The reader knows a later epoch than the one that is published here, and nobody came to publish that.
    Stale,
}

/// One reader's place in a log.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    /// Id of the run in which it is, or of the next one to come.
    run: u64,
    /// Whether the run is entered: its `PUBLISHED` is told or needs not be told.
    entered: bool,
    /// Whether the run's `UNPUBLISHED` is told or needs not be told.
    left: bool,
    /// The next frame. Of the run's epoch once the run is entered.
    next: Offset,
    /// Frames from here on are missing, and the reader has not been told yet.
    missing_from: Option<Offset>,
    /// It has not had a frame yet, and any key frame will do as the first one.
    fresh: bool,
    /// It waits for an epoch later than the one published here, until then.
    ahead_until: Option<Instant>,
}

impl Reader {
    /// When [`Log::read`] has something for the reader though the log did not change.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.ahead_until
    }

    fn at(run: &Run, next: Offset) -> Self {
        Self {
            run: run.id,
            entered: true,
            left: false,
            next,
            missing_from: None,
            fresh: false,
            ahead_until: None,
        }
    }

    /// Past `run`, waiting for the one after it.
    fn pass(&mut self, run: &Run) {
        self.run = run.id + 1;
        self.entered = false;
        self.left = false;
    }

    fn miss(&mut self) {
        if !self.fresh {
            self.missing_from.get_or_insert(self.next);
        }
    }
}

impl Log {
    /// A new reader.
    ///
    /// # Errors
    /// [`Refusal::EpochFromTheFuture`] for an offset that no node can have given.
    pub(crate) fn open_reader(
        &mut self,
        now: Instant,
        unix_millis: u64,
        start: Start,
    ) -> Result<(Reader, Opened), Refusal> {
        match start {
            Start::Live => Ok(self.open_live()),
            Start::Offset(offset)
                if offset.epoch.0 > unix_millis.saturating_add(MAX_EPOCH_LEAD_MS) =>
            {
                Err(Refusal::EpochFromTheFuture)
            }
            Start::Offset(offset) => Ok(self.open_at(now, offset)),
        }
    }

    fn open_live(&self) -> (Reader, Opened) {
        let Some(run) = self.runs.last().filter(|run| run.begun) else {
            let reader = Reader {
                run: self.runs.last().map_or(0, |run| run.id),
                entered: false,
                left: false,
                next: Offset::default(),
                missing_from: None,
                fresh: true,
                ahead_until: None,
            };
            let opened = Opened {
                publishing: false,
                epoch: Epoch::default(),
                preface: Vec::new(),
            };
            return (reader, opened);
        };
        let publishing = run.end.is_none();
        let start = self
            .window
            .live_start()
            .filter(|start| publishing && start.epoch == run.epoch);
        let next = start.unwrap_or_else(|| run.head_offset());
        let reader = Reader {
            left: !publishing,
            fresh: true,
            ..Reader::at(run, next)
        };
        let opened = Opened {
            publishing,
            epoch: run.epoch,
            preface: start.map_or_else(Vec::new, |start| self.window.preface_at(start)),
        };
        (reader, opened)
    }

    fn open_at(&mut self, now: Instant, next: Offset) -> (Reader, Opened) {
        let mut ahead_until = None;
        if self.runs.last().is_none_or(|last| last.epoch < next.epoch)
            && !self.expect(now, next.epoch)
        {
            ahead_until = Some(now + self.config.publisher_grace);
        }
        let after = || self.runs.after_epoch(next.epoch).map(|run| run.id);
        let reader = match self.runs.of(next) {
            Some(run) => Reader::at(run, next),
            None => Reader {
                run: after().unwrap_or_else(|| self.runs.next_id()),
                entered: false,
                left: false,
                next,
                // Where runs are forgotten, nobody knows what the reader has missed.
                missing_from: self.runs.have_forgotten().then_some(next),
                fresh: false,
                ahead_until,
            },
        };
        let opened = Opened {
            publishing: self.runs.current().is_some_and(|run| run.begun),
            epoch: next.epoch,
            preface: Vec::new(),
        };
        (reader, opened)
    }

    /// What the reader finds next, at most `max_frames` frames and `max_bytes` bytes; `None`: nothing before the log's
    /// version changes or [`Reader::poll_timeout`] has come. Nothing more is to be read after [`Item::Moved`] and
    /// [`Item::Stale`].
    pub(crate) fn read(
        &self,
        now: Instant,
        reader: &mut Reader,
        max_frames: usize,
        max_bytes: usize,
    ) -> Option<Item> {
        // Each turn of the loop goes on by a run, so it ends.
        loop {
            let Some(run) = self.runs.at_or_after(reader.run) else {
                return self.read_nothing(now, reader);
            };
            if run.id != reader.run {
                // The runs between are forgotten.
                reader.pass_to(run);
            }
            if !reader.entered && run.epoch < reader.next.epoch {
                // An earlier epoch than the reader knows: not for it.
                reader.run = run.id + 1;
                continue;
            }
            if !reader.entered && !run.begun && reader.next.epoch < run.epoch {
                // Perhaps nobody comes: not to be told before somebody does.
                if run.end.is_none() {
                    return self.read_nothing(now, reader);
                }
                reader.run = run.id + 1;
                continue;
            }
            if !reader.entered {
                return Some(enter(reader, run));
            }
            if let Some(item) = self.read_run(reader, run, max_frames, max_bytes) {
                return Some(item);
            }
            match run.end {
                None => return self.read_nothing(now, reader),
                Some(End::Unpublished) if !reader.left => {
                    reader.left = true;
                    return Some(Item::Unpublished(run.epoch));
                }
                Some(End::Unpublished | End::CutOff) => reader.pass(run),
            }
        }
    }

    /// Nothing is there for the reader: is there nothing to come either?
    fn read_nothing(&self, now: Instant, reader: &Reader) -> Option<Item> {
        if let Some(departure) = &self.departure
            && !self.is_published()
        {
            return Some(Item::Moved(departure.target.clone()));
        }
        reader
            .ahead_until
            .filter(|until| *until <= now)
            .map(|_| Item::Stale)
    }

    /// Frames of `run`, or a gap before them. Where the run has ended and nothing of it is left, the reader's position is at
    /// its end afterwards.
    fn read_run(
        &self,
        reader: &mut Reader,
        run: &Run,
        max_frames: usize,
        max_bytes: usize,
    ) -> Option<Item> {
        let ended = run.end.is_some();
        if ended && reader.next.sequence >= run.head {
            return None;
        }
        let left = run.head.saturating_sub(reader.next.sequence).max(1);
        let most = max_frames.min(usize::try_from(left).unwrap_or(usize::MAX));
        let to = match self.window.read_from(reader.next, most, max_bytes) {
            Read::Frames(frames) => {
                let frames: Vec<Frame> = frames.cloned().collect();
                let first = frames.first().map(|frame| frame.offset)?;
                if first == reader.next && reader.missing_from.is_none() {
                    if let Some(last) = frames.last() {
                        reader.next = last.offset.next();
                    }
                    reader.fresh = false;
                    return Some(Item::Frames(frames));
                }
                Some(first)
            }
            Read::NotYet => None,
            Read::Gap { to } => Some(to),
        };
        let in_run = |to: &Offset| to.epoch == run.epoch && (!ended || to.sequence < run.head);
        let Some(to) = to.filter(in_run) else {
            if ended {
                reader.miss();
                reader.next = run.head_offset();
            }
            return None;
        };
        Some(self.jump(reader, run, to))
    }

    /// Tells a reader that the frames before `to`, the first one of `run` that could come next, are missing.
    fn jump(&self, reader: &mut Reader, run: &Run, to: Offset) -> Item {
        let slow = reader.next.sequence >= run.start && reader.next != to;
        let key = if slow {
            // It fell behind: the oldest frame held would be gone again soon.
            self.window.live_start()
        } else {
            self.window.key_at_or_after(to)
        };
        let reachable = |key: &Offset| {
            key.epoch == run.epoch && *key >= to && (run.end.is_none() || key.sequence < run.head)
        };
        let to = key.filter(reachable).unwrap_or(to);
        let item = Item::Gap {
            from: reader.missing_from.take().unwrap_or(reader.next),
            to,
            preface: self.window.preface_at(to),
            lost: !reader.fresh,
        };
        reader.next = to;
        reader.fresh = false;
        item
    }
}

impl Reader {
    /// To a later run; whatever was between is missing.
    fn pass_to(&mut self, run: &Run) {
        self.miss();
        self.pass(run);
        self.run = run.id;
    }
}

/// The reader comes to a run of its own epoch or a later one: the next thing it is told.
fn enter(reader: &mut Reader, run: &Run) -> Item {
    reader.entered = true;
    reader.ahead_until = None;
    if reader.next.epoch == run.epoch {
        // Another run of the same epoch: the reader goes on where it is.
        return Item::Published(run.epoch);
    }
    if run.start > 0 {
        reader.miss();
    }
    reader.next = offset(run.epoch, if reader.fresh { 0 } else { run.start });
    Item::Published(run.epoch)
}
