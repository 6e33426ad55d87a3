//! What encoders say of their streams (`DVRSetStreamInfo`), on its way to the origin that keeps it.
//!
//! What is said of one name through this edge arrives in the order in which it was said: the next waits for the answer to the one
//! before, no longer than patience lasts. The answer brings what there is under the name from then on, so whoever asks this edge
//! afterwards is told of it at once; other edges learn it when they ask next.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use headwater_media::name::StreamName;
use headwater_proto::v1;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tracing::{Instrument as _, debug};

use super::ask::{Answer, Question};
use super::model::RecordedError;
use super::{Recorded, Shared, stopping};

/// Names that do not wait for each other, mostly.
const TURNS: usize = 64;

/// Who may say something of a name.
pub(super) struct Turns {
    places: Vec<Arc<Mutex<()>>>,
    patience: Duration,
}

impl Turns {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            places: (0..TURNS).map(|_| Arc::default()).collect(),
            patience,
        }
    }

    /// Waits for whoever came before, from the moment at which this is first polled.
    async fn take(&self, name: &StreamName) -> Result<OwnedMutexGuard<()>, RecordedError> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or(0);
        let place = self.places.get(index).map(Arc::clone).unwrap_or_default();
        tokio::time::timeout(self.patience, place.lock_owned())
            .await
            .map_err(|_| RecordedError::limit("more is said of streams than the origins take"))
    }
}

impl Recorded {
    /// Has an origin keep what an encoder says of a stream, in place of what was said before. It is stored when this is done.
    ///
    /// # Errors
    /// [`RecordedError::NotFound`] where nothing can be recorded under the name; others as for every question. It may be kept all
    /// the same.
    pub(crate) async fn set_info(
        &self,
        name: &StreamName,
        info: v1::StreamInfo,
    ) -> Result<(), RecordedError> {
        let turn = self.shared.turns.take(name).await?;
        let (answer, answered) = oneshot::channel();
        let (shared, name) = (Arc::clone(&self.shared), name.clone());
        let span = tracing::info_span!("set_stream_info", stream = %name);
        // On its way it is seen through, also if its encoder leaves.
        let task = async move {
            let outcome = shared.set_info(&name, info).await;
            drop(turn);
            // The encoder may have left.
            let _ = answer.send(outcome);
        };
        self.shared.tasks.spawn(task.instrument(span));
        answered.await.unwrap_or_else(|_| stopping())
    }
}

impl Shared {
    async fn set_info(&self, name: &StreamName, info: v1::StreamInfo) -> Result<(), RecordedError> {
        // Seen through, also when the encoder leaves.
        let seen_through = std::future::pending();
        let question = Question::SetInfo(info);
        let asked = self.asker.ask(name, question, || None, seen_through);
        let Some(answer) = asked.await else {
            return stopping();
        };
        match answer {
            Ok(Answer::InfoSet(description)) => {
                match description {
                    Some(description) => self.descriptions.insert(name, Ok(description)),
                    None => self.descriptions.forget(name),
                }
                Ok(())
            }
            Ok(_) => Err(RecordedError::unavailable("no answer")),
            Err(error) => {
                debug!(%error, "what an encoder says is not kept");
                self.meters.failed(&error);
                // Who knows.
                self.descriptions.forget(name);
                Err(error)
            }
        }
    }
}
