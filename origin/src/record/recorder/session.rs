//! What a recording tells the publisher that asked for it.

use std::sync::Arc;

use headwater_media::frame::Epoch;
use headwater_proto::v1::RecordState;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::failure::Failure;

/// How far the recording of one epoch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The first sequence of the epoch that is not durable, while the recording goes on.
    durable: u64,
    /// Its publisher is to know that it began, also where it ended at once.
    has_begun: bool,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of this publisher is stored yet.
    Waiting,
    Recording {
        /// Its publisher is to be told: not of one that goes on after a break.
        announced: bool,
    },
    Stopped,
    /// This origin stops, or has lost the stream; what is not durable goes to the next one.
    Suspended,
    Failed(Failure),
}

impl Progress {
    /// The first sequence that the publisher's edge has to keep, of a log that has everything before `accepted`.
    pub(crate) fn durable(&self, accepted: u64) -> u64 {
        match self.state {
            State::Waiting | State::Recording { .. } | State::Suspended => {
                self.durable.min(accepted)
            }
            State::Stopped | State::Failed(_) => accepted,
        }
    }

    /// Whether the rest is left to the next owner of the stream.
    pub(crate) fn is_left(&self) -> bool {
        self.state == State::Suspended
    }

    /// Whether nothing more will be stored.
    pub(crate) fn is_over(&self) -> bool {
        !matches!(self.state, State::Waiting | State::Recording { .. })
    }

    /// Whether the publisher is to know that the recording began, before whatever else there is to know.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// What the publisher is to know, with a description; `None` before the first frame is stored.
    pub(crate) fn status(&self) -> Option<(RecordState, String)> {
        match &self.state {
            State::Waiting | State::Suspended | State::Recording { announced: false } => None,
            State::Recording { announced: true } => Some((RecordState::Started, String::new())),
            State::Stopped => Some((RecordState::Stopped, String::new())),
            State::Failed(failure) => Some((failure.state(), failure.told())),
        }
    }
}

/// The recorder's side. Clones are the same session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) epoch: Epoch,
    /// How much of the recording is kept, in milliseconds: what is older goes while more is recorded. 0: all.
    pub(crate) window_ms: u64,
    progress: watch::Sender<Progress>,
    /// Whether frames of the epoch that are still to come will be taken.
    open: Arc<Mutex<bool>>,
}

impl Session {
    /// Of a publisher of whose frames it is not known yet whether any is stored, also where the log has some from before.
    pub(crate) fn new(epoch: Epoch) -> Self {
        let waiting = Progress {
            durable: 0,
            has_begun: false,
            state: State::Waiting,
        };
        Self {
            epoch,
            window_ms: 0,
            progress: watch::Sender::new(waiting),
            open: Arc::new(Mutex::new(true)),
        }
    }

    /// The same, of a recording that is kept for so long only.
    pub(crate) fn with_window(self, window_ms: u64) -> Self {
        Self { window_ms, ..self }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.progress.borrow().is_over()
    }

    /// Whether a publisher that came back with its epoch, after the log has it again, goes on with this session.
    pub(crate) fn is_open(&self) -> bool {
        *self.open.lock()
    }

    /// No more frames are taken, unless `still` says that they may come: asked so that nobody can find the session open afterwards.
    /// True if it is closed now.
    pub(crate) fn close_unless(&self, still: impl FnOnce() -> bool) -> bool {
        let mut open = self.open.lock();
        if *open && still() {
            return false;
        }
        *open = false;
        true
    }

    /// Ends with a failure.
    pub(crate) async fn over(&self) {
        // The sender is in this session.
        let _ = self.subscribe().wait_for(Progress::is_over).await;
    }

    /// Waits for the first frame that is stored. False if none was, and none will be.
    pub(crate) async fn begins(&self) -> bool {
        let mut progress = self.subscribe();
        let moved = progress.wait_for(|it| it.state != State::Waiting).await;
        moved.is_ok_and(|it| it.has_begun)
    }

    /// Whether a frame of a publisher that did not come back was stored.
    pub(crate) fn has_begun(&self) -> bool {
        self.progress.borrow().has_begun
    }

    /// Why it failed.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match &self.progress.borrow().state {
            State::Failed(failure) => Some(failure.clone()),
            _ => None,
        }
    }

    /// The first sequence of the epoch that is not known to be durable.
    pub(crate) fn durable(&self) -> u64 {
        self.progress.borrow().durable
    }

    /// Everything of the epoch before `durable` is.
    pub(crate) fn store(&self, durable: u64) {
        self.change(|progress| progress.durable = progress.durable.max(durable));
    }

    /// The first frame is stored.
    pub(crate) fn started(&self, announced: bool) {
        self.change(|progress| {
            if progress.state == State::Waiting {
                progress.has_begun = announced;
                progress.state = State::Recording { announced };
            }
        });
    }

    /// Everything is stored, and nothing more comes.
    pub(crate) fn stopped(&self) {
        self.change(|progress| progress.state = State::Stopped);
    }

    /// The next owner of the stream goes on.
    pub(crate) fn suspended(&self) {
        self.change(|progress| progress.state = State::Suspended);
    }

    pub(crate) fn failed(&self, failure: Failure) {
        self.change(|progress| progress.state = State::Failed(failure));
    }

    /// Nothing changes once it is over: the first reason is the one that counts.
    fn change(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_if_modified(|progress| {
            if progress.is_over() {
                return false;
            }
            let before = progress.clone();
            change(progress);
            *progress != before
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_durable_follows_the_recording_until_it_is_over() {
        let session = Session::new(Epoch(1));
        let progress = session.subscribe();
        assert_eq!(progress.borrow().durable(9), 0);
        session.store(5);
        assert_eq!(progress.borrow().durable(9), 5);
        assert_eq!(progress.borrow().status(), None);
        session.started(true);
        session.store(8);
        session.store(7);
        assert_eq!(progress.borrow().durable(9), 8);
        assert_eq!(progress.borrow().durable(6), 6, "never ahead of the log");
        session.failed(Failure::DiskFull);
        session.stopped();
        assert_eq!(progress.borrow().durable(9), 9, "nothing is to be kept");
        let status = progress.borrow().status();
        let failed = (RecordState::Failed, "the disk is full".to_owned());
        assert_eq!(status, Some(failed), "the first reason counts");
    }
}
