//! What the helpers of a session tell it. They are tasks on the session's own thread, so this is a queue and a waker and nothing
//! that has to be shared between threads; a session that never has a helper pays a pointer's worth of memory for it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use headwater_rtmp::command::TransactionId;

use super::calls::Asked;
use headwater_shared_object::object::ObjectName;

use crate::application::attachment::What;
use crate::application::policies::Verdict;
use crate::application::room::Call;
use crate::recorded::{Description, Piece, RecordedError};

/// Notes from an application that wait for their session. A session takes them as they come, unless it waits for an origin itself; and
/// what a client is told is never left out, so that a session for which more comes ends.
const MAX_WAITING: usize = 4_096;

/// Room that a session keeps for notes. A burst of them leaves no more.
const KEPT: usize = 32;

/// What a helper says.
pub(crate) enum Note {
    /// What is believed of the application that the client wants. `None`: nothing, and no origin answers.
    Judged(Option<Verdict>),
    /// Something comes from the client's application.
    Application(Box<What>),
    /// The application calls a method of this client and maybe others.
    Called(Rc<Call>),
    /// The client is too far behind in a shared object.
    ObjectLost(ObjectName),
    /// The client has to join a shared object again.
    ObjectAgain,
    /// More came from the application than may wait.
    Overrun,
    /// An origin can be reached, or none was within the time.
    Connect { reachable: bool },
    /// What a player asked for: what there is under a name.
    Described {
        stream_id: u32,
        number: u64,
        answer: Result<Description, RecordedError>,
    },
    /// What a player asked for: whether somebody publishes the stream.
    Live {
        stream_id: u32,
        number: u64,
        live: bool,
    },
    /// What a player asked for: a piece of a stored stream.
    Piece {
        stream_id: u32,
        number: u64,
        answer: Result<Arc<Piece>, RecordedError>,
    },
    /// What became of what an encoder said of a stream.
    InfoSet {
        transaction: TransactionId,
        outcome: Result<(), RecordedError>,
    },
    /// What a call asked for: what there is under a name.
    Known {
        transaction: TransactionId,
        asked: Asked,
        answer: Result<Description, RecordedError>,
    },
}

#[derive(Default)]
struct Shared {
    notes: VecDeque<Note>,
    waker: Option<Waker>,
    is_overrun: bool,
}

/// The session's end.
#[derive(Default)]
pub(super) struct Notes(Rc<RefCell<Shared>>);

/// A helper's end. It does not keep anything alive: what is told to a session that is gone falls on the floor.
#[derive(Clone)]
pub(crate) struct Teller(Weak<RefCell<Shared>>);

impl Notes {
    pub(super) fn teller(&self) -> Teller {
        Teller(Rc::downgrade(&self.0))
    }

    /// The next note.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Note> {
        let mut shared = self.0.borrow_mut();
        if let Some(note) = shared.notes.pop_front() {
            return Poll::Ready(note);
        }
        if shared.notes.capacity() > KEPT {
            shared.notes = VecDeque::new();
        }
        let known = shared.waker.as_ref();
        if !known.is_some_and(|waker| waker.will_wake(cx.waker())) {
            shared.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Teller {
    pub(crate) fn tell(&self, note: Note) {
        if let Some(shared) = self.0.upgrade() {
            shared.borrow_mut().push(note);
        }
    }

    /// As [`Self::tell`], for what comes however fast somebody else makes it.
    pub(crate) fn tell_bounded(&self, note: Note) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        let mut shared = shared.borrow_mut();
        if shared.is_overrun {
            return;
        }
        shared.is_overrun = shared.notes.len() >= MAX_WAITING;
        if shared.is_overrun {
            shared.notes.clear();
            shared.push(Note::Overrun);
        } else {
            shared.push(note);
        }
    }
}

impl Shared {
    fn push(&mut self, note: Note) {
        self.notes.push_back(note);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_note_wakes_the_session_and_nobody_else_is_needed() {
        let local = tokio::task::LocalSet::new();
        let told = local.run_until(async {
            let notes = Notes::default();
            let teller = notes.teller();
            let early = teller.clone();
            early.tell(Note::Connect { reachable: false });
            let first = poll_fn(|cx| notes.poll(cx)).await;
            assert!(matches!(first, Note::Connect { reachable: false }));
            // Told while the session waits.
            let helper = tokio::task::spawn_local(async move {
                tokio::task::yield_now().await;
                teller.tell(Note::Connect { reachable: true });
                teller
            });
            let second = poll_fn(|cx| notes.poll(cx)).await;
            assert!(matches!(second, Note::Connect { reachable: true }));
            let teller = helper.await.unwrap();
            drop(notes);
            teller.tell(Note::Connect { reachable: true });
        });
        told.await;
    }

    #[tokio::test]
    async fn a_session_that_does_not_listen_ends() {
        let notes = Notes::default();
        let teller = notes.teller();
        let note = || Note::Connect { reachable: true };
        for _ in 0..2 * MAX_WAITING {
            teller.tell_bounded(note());
        }
        let first = poll_fn(|cx| notes.poll(cx)).await;
        assert!(matches!(first, Note::Overrun));
        let nothing = poll_fn(|cx| Poll::Ready(notes.poll(cx).is_pending())).await;
        assert!(nothing);
        // What it asked for itself still comes.
        teller.tell(note());
        let next = poll_fn(|cx| notes.poll(cx)).await;
        assert!(matches!(next, Note::Connect { .. }));
    }
}
