//! The walk over one worker's viewers of one stream.

use std::future::pending;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::LocalHub;
use super::flush::Pace;
use super::mirror::Portions;

/// Viewers served between two chances for the worker's other tasks. Few: what RTMFP viewers get is made into packets by one of these, best
/// while it is still near the processor.
const VIEWERS_PER_TURN: usize = 16;

/// What a turn of the walk did, counted once for all its viewers: the counters are shared by all workers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) sends: u64,
}

/// A stream that nobody on this worker watches is kept for this long: the next viewer finds all as it was.
const LINGER: Duration = Duration::from_secs(1);

/// Serves the viewers of a stream on this worker until there have been none for a moment.
pub(super) async fn walk(local: Rc<LocalHub>, mut tail: watch::Receiver<u64>) {
    let mut pace = Pace::default();
    let mut abandoned = Abandoned::default();
    let mut look = tokio::time::interval(LINGER / 2);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        local.refresh();
        let begin = local.due().map(|due| pace.after_rest(due));
        let now = Instant::now();
        if begin.is_some_and(|begin| begin <= now) {
            serve_all(&local).await;
            pace.walked(now, Instant::now());
            continue;
        }
        let due = async {
            match begin {
                Some(begin) => tokio::time::sleep_until(begin.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = tail.changed() => if changed.is_err() { return },
            () = due => {}
            _ = look.tick() => {
                // Whoever watches the stream, or waits to, holds the other ends.
                if abandoned.is_over(Rc::strong_count(&local) == 1, Instant::now()) {
                    return;
                }
            }
        }
    }
}

/// Since when nobody has been there.
#[derive(Default)]
struct Abandoned {
    since: Option<Instant>,
}

impl Abandoned {
    /// Whether nobody has been there for as long as a stream is kept.
    fn is_over(&mut self, is_alone: bool, now: Instant) -> bool {
        if !is_alone {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now.saturating_duration_since(since) >= LINGER
    }
}

/// Releases what is held and brings every viewer up to it.
async fn serve_all(local: &LocalHub) {
    let mut portions = Portions::default();
    let mut slot = 0;
    local.release();
    while let Some(next) = turn(local, &mut portions, slot) {
        slot = next;
        tokio::task::yield_now().await;
        // What is due by now goes along with this walk: whoever comes later in it gets both with one send.
        local.refresh();
        if local.due().is_some_and(|due| due <= Instant::now()) {
            local.release();
        }
    }
}

/// Serves viewers from slot `from` on; returns where to go on when the turn is over.
fn turn(local: &LocalHub, portions: &mut Portions, from: usize) -> Option<usize> {
    let mut tally = Tally::default();
    let mut slot = from;
    let next = loop {
        if slot == from + VIEWERS_PER_TURN {
            break Some(slot);
        }
        let viewer = {
            let viewers = local.viewers.borrow();
            match viewers.get(slot) {
                Some(viewer) => viewer.clone(),
                None => break None,
            }
        };
        slot += 1;
        if let Some(viewer) = viewer {
            viewer.borrow_mut().serve(local, portions, &mut tally);
        }
    };
    local.meters.count(&tally);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_kept_for_the_next_viewer() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut abandoned = Abandoned::default();
        assert!(!abandoned.is_over(false, at(0)));
        assert!(!abandoned.is_over(true, at(500)));
        assert!(!abandoned.is_over(true, at(1_400)));
        assert!(!abandoned.is_over(false, at(1_450)), "somebody came");
        assert!(!abandoned.is_over(true, at(2_000)));
        assert!(abandoned.is_over(true, at(3_000)));
    }
}
