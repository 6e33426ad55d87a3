//! What was said of a recording goes when another takes its place.

use std::time::Duration;

use headwater_media::name::StreamName;
use tokio_util::sync::CancellationToken;

use super::session::Session;
use crate::record::stream_info::StreamInfos;

/// How long it may take to go. Its session ends no sooner.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to go when a recording begins.
pub(super) struct Renewal<'a> {
    pub(super) infos: &'a StreamInfos,
    pub(super) name: &'a StreamName,
    /// When the publisher came, in milliseconds since 1970.
    pub(super) unix_ms: u64,
    pub(super) stop: &'a CancellationToken,
}

impl Renewal<'_> {
    /// Runs a session. What was said of the recording before stays until a frame of this one is stored: until then that is what
    /// there is.
    pub(super) async fn beside<T>(self, session: &Session, running: impl Future<Output = T>) -> T {
        let renewing = async {
            if session.begins().await {
                self.renew().await;
            }
        };
        tokio::pin!(renewing, running);
        tokio::select! {
            outcome = &mut running => {
                if session.has_begun() {
                    renewing.await;
                }
                outcome
            }
            () = &mut renewing => running.await,
        }
    }

    async fn renew(&self) {
        let renewing = self.infos.renew(self.name, self.unix_ms);
        let renewed = tokio::select! {
            renewed = tokio::time::timeout(PATIENCE, renewing) => renewed,
            () = self.stop.cancelled() => return,
        };
        let why = match renewed {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store did not answer in time".to_owned(),
        };
        tracing::warn!(
            why,
            "what was said of the recording before is still said of the new one"
        );
    }
}
