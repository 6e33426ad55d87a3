//! What origins said of names a moment ago; that there is nothing, too. For somewhat longer it stays here in case no origin answers.
//!
//! Every entry stays equally long, so the order in which they came is the order in which they go: all steps are O(1).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use headwater_media::name::StreamName;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::model::{Description, RecordedError};

/// How long what was said of a name is kept for the case that no origin answers any more.
const KEEP: Duration = Duration::from_secs(600);

pub(super) type Outcome = Result<Description, RecordedError>;

/// The newest word on each name.
pub(super) struct Descriptions {
    hold: Duration,
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<Arc<StreamName>, Known>,
    /// Oldest first. An entry counts only if its number is that of the name's newest word.
    order: VecDeque<(u64, Arc<StreamName>)>,
    numbers: u64,
}

struct Known {
    outcome: Outcome,
    since: Instant,
    number: u64,
}

impl Descriptions {
    /// Holds each for `hold`, `most` at once.
    pub(super) fn new(hold: Duration, most: usize) -> Self {
        Self {
            hold,
            most,
            state: Mutex::default(),
        }
    }

    /// What was said of a name, if that still holds.
    pub(super) fn find(&self, name: &StreamName) -> Option<Outcome> {
        let state = self.state.lock();
        let known = state.known.get(name)?;
        (known.since.elapsed() < self.hold).then(|| known.outcome.clone())
    }

    /// What was said of a name last, although it may not hold any more.
    pub(super) fn last(&self, name: &StreamName) -> Option<Description> {
        self.state.lock().known.get(name)?.outcome.clone().ok()
    }

    /// Now, in the order of what is said.
    pub(super) fn moment(&self) -> u64 {
        self.state.lock().numbers
    }

    /// Takes what was said of a name.
    pub(super) fn insert(&self, name: &StreamName, outcome: Outcome) {
        self.state.lock().put(name, outcome, self.hold, self.most);
    }

    /// Takes what was said to a question of that moment, unless something was said since: what counts is given back.
    pub(super) fn insert_since(&self, moment: u64, name: &StreamName, outcome: Outcome) -> Outcome {
        let mut state = self.state.lock();
        if let Some(known) = state.known.get(name)
            && known.number > moment
        {
            return known.outcome.clone();
        }
        state.put(name, outcome.clone(), self.hold, self.most);
        outcome
    }

    /// What was said of a name holds no longer.
    pub(super) fn forget(&self, name: &StreamName) {
        self.state.lock().known.remove(name);
    }
}

impl State {
    fn put(&mut self, name: &StreamName, outcome: Outcome, hold: Duration, most: usize) {
        let now = Instant::now();
        self.numbers += 1;
        let name = Arc::new(name.clone());
        let known = Known {
            outcome,
            since: now,
            number: self.numbers,
        };
        self.known.insert(Arc::clone(&name), known);
        self.order.push_back((self.numbers, name));
        while let Some((number, name)) = self.order.front() {
            let current = self.known.get(name).filter(|it| it.number == *number);
            let over = self.order.len() > most;
            let keep = hold.max(KEEP);
            if current.is_some_and(|it| now.duration_since(it.since) < keep) && !over {
                break;
            }
            if current.is_some() {
                self.known.remove(name);
            }
            self.order.pop_front();
        }
        if self.known.capacity() > 256 && self.known.len() * 4 < self.known.capacity() {
            self.known.shrink_to(self.known.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(stream: &str) -> StreamName {
        StreamName::new("v", "vod", "i", stream).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn words_hold_for_their_time() {
        let descriptions = Descriptions::new(Duration::from_secs(1), 10);
        descriptions.insert(&name("a"), Err(RecordedError::NotFound));
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(
            descriptions.find(&name("a")),
            Some(Err(RecordedError::NotFound))
        );
        let published = Description {
            publishing: true,
            ..Description::NOTHING
        };
        descriptions.insert(&name("a"), Ok(published.clone()));
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(descriptions.find(&name("a")), Some(Ok(published.clone())));
        descriptions.insert(&name("b"), Ok(Description::NOTHING));
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(descriptions.find(&name("a")), None);
        assert_eq!(descriptions.last(&name("a")), Some(published));
        descriptions.forget(&name("b"));
        assert_eq!(descriptions.find(&name("b")), None);
        assert_eq!(descriptions.last(&name("b")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_does_not_undo_what_was_said_since_the_question() {
        let descriptions = Descriptions::new(Duration::from_secs(1), 10);
        let published = Description {
            publishing: true,
            ..Description::NOTHING
        };
        let (old, new) = (Ok(Description::NOTHING), Ok(published));
        let asked = descriptions.moment();
        descriptions.insert(&name("other"), old.clone());
        let counts = descriptions.insert_since(asked, &name("a"), old.clone());
        assert_eq!(counts, old, "of this one nothing was said since");
        let asked = descriptions.moment();
        descriptions.insert(&name("a"), new.clone());
        let counts = descriptions.insert_since(asked, &name("a"), old.clone());
        assert_eq!(counts, new);
        assert_eq!(descriptions.find(&name("a")), Some(new));
        let asked = descriptions.moment();
        let counts = descriptions.insert_since(asked, &name("a"), old.clone());
        assert_eq!(counts, old);
        assert_eq!(descriptions.find(&name("a")), Some(old));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_names_than_allowed_are_remembered() {
        let descriptions = Descriptions::new(Duration::from_secs(1), 10);
        for n in 0..100 {
            descriptions.insert(&name(&n.to_string()), Ok(Description::NOTHING));
            // Said again and again: takes no room of its own.
            descriptions.insert(&name("again"), Ok(Description::NOTHING));
        }
        {
            let state = descriptions.state.lock();
            assert!(state.known.len() <= 10, "{}", state.known.len());
            assert!(state.order.len() <= 10, "{}", state.order.len());
            assert!(state.known.contains_key(&name("99")));
            assert!(state.known.contains_key(&name("again")));
        }
        tokio::time::advance(KEEP).await;
        descriptions.insert(&name("late"), Ok(Description::NOTHING));
        assert_eq!(descriptions.state.lock().known.len(), 1);
    }
}
