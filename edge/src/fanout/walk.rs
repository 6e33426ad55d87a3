//! The walk over one worker's viewers of one stream.

use std::future::pending;
use std::rc::Weak;
use std::time::Instant;

use tokio::sync::watch;

use super::LocalHub;
use super::flush::Pace;
use super::mirror::Portions;

/// Viewers served between two chances for the worker's other tasks: about a millisecond of sends.
const VIEWERS_PER_TURN: usize = 256;

/// What a turn of the walk did, counted once for all its viewers: the counters are shared by all workers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) sends: u64,
}

/// Serves the viewers of a stream on this worker for as long as there are any.
pub(super) async fn walk(local: Weak<LocalHub>, mut tail: watch::Receiver<u64>) {
    let mut pace = Pace::default();
    loop {
        let begin = {
            let Some(local) = local.upgrade() else {
                return;
            };
            local.refresh();
            let begin = local.due().map(|due| pace.after_rest(due));
            let now = Instant::now();
            if begin.is_some_and(|begin| begin <= now) {
                serve_all(&local).await;
                pace.walked(now, Instant::now());
                continue;
            }
            begin
        };
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
        }
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
