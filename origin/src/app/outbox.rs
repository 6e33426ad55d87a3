//! What waits for an edge: between the instance, which never waits, and the edge's call, which goes as fast as the edge reads.
//!
//! Nothing in it is dropped. Past [`SOFT_BYTES`] or [`SOFT_COUNT`] the instance takes nothing from its handler until the edge has caught up;
//! past [`HARD_BYTES`], or when an edge does not catch up within [`STALLED`], the edge's call is ended: it comes back and is told anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use headwater_proto::v1;
use headwater_proto::v1::attach_response::Response as Told;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Status;

/// What may wait before the handler is held up.
const SOFT_BYTES: usize = 4 << 20;
const SOFT_COUNT: usize = 4_096;

/// What may wait at all: room for the states of large objects.
const HARD_BYTES: usize = 256 << 20;

/// How long an edge may be behind.
const STALLED: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    /// Told when there is room again.
    room: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(Told, usize)>,
    bytes: usize,
    full_since: Option<Instant>,
    end: Option<Result<(), Status>>,
}

/// How far behind an edge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    No,
    /// The handler has to wait.
    Full,
    /// Too far.
    Hopeless,
}

impl Outbox {
    pub(super) fn new(room: Arc<Notify>) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            room,
        }
    }

    pub(super) fn push(&self, now: Instant, told: Told) {
        let message = v1::AttachResponse {
            response: Some(told),
        };
        let bytes = message.encoded_len() + 64;
        let Some(told) = message.response else {
            return;
        };
        let mut state = self.state.lock();
        if state.end.is_some() {
            return;
        }
        state.bytes += bytes;
        state.queue.push_back((told, bytes));
        if state.is_full() && state.full_since.is_none() {
            state.full_since = Some(now);
        }
        drop(state);
        self.filled.notify_one();
    }

    pub(super) fn behind(&self, now: Instant) -> Behind {
        let state = self.state.lock();
        match state.full_since {
            None => Behind::No,
            Some(since) if state.bytes > HARD_BYTES || now >= since + STALLED => Behind::Hopeless,
            Some(_) => Behind::Full,
        }
    }

    /// Ends the call: at once with an error, and after what waits without one.
    pub(super) fn end(&self, end: Result<(), Status>) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            if end.is_err() {
                state.queue.clear();
                state.bytes = 0;
                state.full_since = None;
            }
            state.end = Some(end);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// The next message; none at the end. For one caller.
    ///
    /// # Errors
    /// How the call ends.
    pub(super) async fn next(&self) -> Result<Option<Told>, Status> {
        loop {
            {
                let mut state = self.state.lock();
                if let Some((told, bytes)) = state.queue.pop_front() {
                    state.bytes -= bytes;
                    if state.full_since.is_some() && !state.is_full() {
                        state.full_since = None;
                        self.room.notify_one();
                    }
                    return Ok(Some(told));
                }
                match &state.end {
                    Some(Ok(())) => return Ok(None),
                    Some(Err(status)) => return Err(status.clone()),
                    None => {}
                }
            }
            self.filled.notified().await;
        }
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.bytes > SOFT_BYTES || self.queue.len() > SOFT_COUNT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(length: usize) -> Told {
        Told::Call(v1::ServerCall {
            arguments: vec![0; length].into(),
            ..v1::ServerCall::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_edge_that_is_behind_holds_up_the_handler_and_then_loses_its_call() {
        let room = Arc::new(Notify::new());
        let outbox = Outbox::new(Arc::clone(&room));
        let now = Instant::now();
        outbox.push(now, call(1));
        assert_eq!(outbox.behind(now), Behind::No);
        outbox.push(now, call(SOFT_BYTES));
        assert_eq!(outbox.behind(now), Behind::Full);
        assert_eq!(outbox.behind(now + STALLED), Behind::Hopeless);
        assert_eq!(outbox.next().await.unwrap(), Some(call(1)));
        assert_eq!(outbox.behind(now), Behind::Full);
        outbox.next().await.unwrap();
        assert_eq!(outbox.behind(now + STALLED), Behind::No);
        room.notified().await;
        for _ in 0..=HARD_BYTES / SOFT_BYTES {
            outbox.push(now, call(SOFT_BYTES));
        }
        assert_eq!(outbox.behind(now), Behind::Hopeless);
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_end_comes_last_and_a_bad_one_at_once() {
        let now = Instant::now();
        let outbox = Outbox::new(Arc::default());
        outbox.push(now, call(1));
        outbox.end(Ok(()));
        outbox.push(now, call(2));
        outbox.end(Err(Status::unavailable("late")));
        assert_eq!(outbox.next().await.unwrap(), Some(call(1)));
        assert_eq!(outbox.next().await.unwrap(), None);
        let outbox = Outbox::new(Arc::default());
        outbox.push(now, call(1));
        outbox.end(Err(Status::unavailable("now")));
        assert_eq!(outbox.next().await.unwrap_err().message(), "now");
    }
}
