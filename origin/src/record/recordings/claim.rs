//! What a session holds while it goes on: the file that it is for, and its place among those that may go on at a time.

use std::sync::Arc;

use headwater_media::name::StreamName;
use object_store::path::Path;

use super::Shared;
use crate::record::target::Target;
use crate::record::vault::Vault;

/// A file that a stream is recorded in: by one stream at a time, however many sessions it has one after the other.
pub(super) struct Claim<V: Vault> {
    shared: Arc<Shared<V>>,
    path: Path,
}

impl<V: Vault> Claim<V> {
    pub(super) fn new(shared: &Arc<Shared<V>>, target: &Target, live: &StreamName) -> Option<Self> {
        let mut claims = shared.claims.lock();
        let (holder, sessions) = claims
            .entry(target.path.clone())
            .or_insert_with(|| (live.clone(), 0));
        if holder != live {
            return None;
        }
        *sessions += 1;
        Some(Self {
            shared: Arc::clone(shared),
            path: target.path.clone(),
        })
    }
}

impl<V: Vault> Drop for Claim<V> {
    fn drop(&mut self) {
        let mut claims = self.shared.claims.lock();
        if let Some((_, sessions)) = claims.get_mut(&self.path) {
            *sessions -= 1;
            if *sessions == 0 {
                claims.remove(&self.path);
            }
        }
    }
}

/// A session that counts.
pub(super) struct Active<V: Vault> {
    shared: Arc<Shared<V>>,
}

impl<V: Vault> Active<V> {
    /// `None`: there are as many as there may be.
    pub(super) fn new(shared: &Arc<Shared<V>>) -> Option<Self> {
        let most = shared.config.max_recordings;
        let admitted = shared.active.send_if_modified(|active| {
            let room = most == 0 || *active < most;
            *active += usize::from(room);
            room
        });
        shared.metrics.active.inc_by(i64::from(admitted));
        admitted.then(|| Self {
            shared: Arc::clone(shared),
        })
    }
}

impl<V: Vault> Drop for Active<V> {
    fn drop(&mut self) {
        self.shared.metrics.active.dec();
        self.shared.active.send_modify(|active| *active -= 1);
    }
}
