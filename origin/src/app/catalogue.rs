//! The applications in the store: what their `app.toml` says, and when it says something else.
//!
//! | in the store | built in | answer |
//! |---|---|---|
//! | a file that can be used | - | what it says |
//! | a file that cannot | - | what it said before, if anybody asked before; otherwise broken |
//! | no file | yes | what is built in |
//! | no file | no | unknown |
//! | the store does not answer | - | what it said before; otherwise an error |
//!
//! A file is read when its application is first asked for, and looked at again every `reload_ms` as long as the application is in use:
//! asked for within [`IN_USE`], or built in, or there. Whoever subscribes hears of what has changed.
//!
//! Bounds: [`MAX_KNOWN`] applications, [`MAX_FILE`] bytes of a file. Names are checked, so nobody reads anything else than an `app.toml`.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use headwater_application::{ApplicationSection, app_file, default_applications, parse};
use headwater_node::config::print_commented;
use object_store::GetOptions;
use object_store::path::Path;
use parking_lot::Mutex;
use siphasher::sip::SipHasher13;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::metrics::ApplicationMetrics;
use crate::store::Store;

/// Applications that are known at a time. More than that are asked for by nobody but attackers; those that are not in the store go first.
const MAX_KNOWN: usize = 10_000;

/// Largest `app.toml`, in bytes.
const MAX_FILE: u64 = 256 << 10;

/// How long an application that is not in the store is looked for after somebody asked for it.
const IN_USE: Duration = Duration::from_secs(60);

/// Changes that a subscriber may be behind before it has to ask for everything again.
const BEHIND: usize = 256;

/// Letters of a reason that edges are told.
const MAX_REASON: usize = 1_000;

/// How long the store may take for an `app.toml`.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Files that are looked at at a time.
const AT_ONCE: usize = 16;

/// `vhost`, `app`.
pub(crate) type Key = (String, String);

/// What an application allows.
#[derive(Debug, PartialEq)]
pub(crate) struct Policy {
    pub(crate) section: ApplicationSection,
    /// The effective `app.toml`.
    pub(crate) text: String,
    /// A number that depends on the text.
    pub(crate) version: u64,
    /// Whether it is in the store.
    pub(crate) stored: bool,
}

impl Policy {
    pub(crate) fn new(section: ApplicationSection, stored: bool) -> Arc<Self> {
        let text = print_commented(&section);
        let version = hash(&text);
        Arc::new(Self {
            section,
            text,
            version,
            stored,
        })
    }
}

/// What is known of an application.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Known {
    Policy(Arc<Policy>),
    Unknown,
    /// With the reason.
    Broken(String),
}

/// The store does not answer, and nothing is known from before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has no answer for {path}: {reason}")]
pub(crate) struct Unavailable {
    path: String,
    reason: String,
}

/// The catalogue. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    reload: Duration,
    built_in: BTreeMap<String, Arc<Policy>>,
    entries: Mutex<HashMap<Key, Entry>>,
    changes: broadcast::Sender<Key>,
    metrics: ApplicationMetrics,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    /// Of the file, while there is one.
    tag: Option<String>,
    /// Whether the file that is there now cannot be used.
    broken: bool,
    /// Whether the last look at the store failed.
    failing: bool,
    asked: Instant,
}

/// What a look at the store gives.
enum Found {
    Same,
    None,
    File {
        tag: Option<String>,
        text: Result<String, String>,
    },
}

impl Catalogue {
    pub(crate) fn new(store: Store, reload: Duration, metrics: ApplicationMetrics) -> Self {
        let built_in = default_applications().into_iter();
        let shared = Shared {
            store,
            reload,
            built_in: built_in
                .map(|(name, section)| (name, Policy::new(section, false)))
                .collect(),
            entries: Mutex::default(),
            changes: broadcast::channel(BEHIND).0,
            metrics,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What an application allows.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn describe(&self, vhost: &str, app: &str) -> Result<Known, Unavailable> {
        let key = (vhost.to_owned(), app.to_owned());
        if let Some(entry) = self.shared.entries.lock().get_mut(&key) {
            entry.asked = Instant::now();
            return Ok(entry.known.clone());
        }
        let Some(path) = app_file(vhost, app) else {
            return Ok(Known::Unknown);
        };
        let found = self.look(&path, None).await?;
        let known = self.take(&key, &path, found);
        Ok(known)
    }

    /// Goes on looking for an application.
    pub(crate) fn keep(&self, vhost: &str, app: &str) {
        let key = (vhost.to_owned(), app.to_owned());
        if let Some(entry) = self.shared.entries.lock().get_mut(&key) {
            entry.asked = Instant::now();
        }
    }

    /// The names of applications whose description has changed, from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Key> {
        self.shared.changes.subscribe()
    }

    /// Looks at what is in use again and again, until `stop`.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        loop {
            let round = async {
                tokio::time::sleep(self.shared.reload).await;
                self.look_again().await;
            };
            tokio::select! {
                () = round => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn look_again(&self) {
        let now = Instant::now();
        let due: Vec<(Key, Option<String>)> = {
            let mut entries = self.shared.entries.lock();
            entries.retain(|(_, app), entry| {
                let there = entry.tag.is_some() || self.shared.built_in.contains_key(app);
                there || entry.asked + IN_USE > now
            });
            (entries.iter())
                .map(|(key, entry)| (key.clone(), entry.tag.clone()))
                .collect()
        };
        let looks = futures_util::stream::iter(due);
        let look = |(key, tag): (Key, Option<String>)| async move {
            let Some(path) = app_file(&key.0, &key.1) else {
                return;
            };
            match self.look(&path, tag).await {
                Ok(found) => {
                    self.take(&key, &path, found);
                }
                Err(error) => self.note_failure(&key, &error),
            }
        };
        looks.for_each_concurrent(AT_ONCE, look).await;
    }

    /// Reads the file unless it is the one that `tag` names.
    async fn look(&self, path: &str, tag: Option<String>) -> Result<Found, Unavailable> {
        let unavailable = |reason: String| {
            self.shared.metrics.store_errors.inc();
            Unavailable {
                path: path.to_owned(),
                reason,
            }
        };
        let location = Path::parse(path).map_err(|error| unavailable(error.to_string()))?;
        let options = GetOptions {
            if_none_match: tag,
            ..GetOptions::default()
        };
        let objects = self.shared.store.objects();
        let read = async {
            let result = match objects.get_opts(&location, options).await {
                Ok(result) => result,
                Err(object_store::Error::NotModified { .. }) => return Ok(Found::Same),
                Err(object_store::Error::NotFound { .. }) => return Ok(Found::None),
                Err(error) => return Err(unavailable(error.to_string())),
            };
            let tag = result.meta.e_tag.clone();
            let text = if result.meta.size > MAX_FILE {
                Err(format!("{path} is larger than {MAX_FILE} bytes"))
            } else {
                let bytes = result.bytes().await;
                let bytes = bytes.map_err(|error| unavailable(error.to_string()))?;
                String::from_utf8(bytes.to_vec()).map_err(|error| format!("{path}: {error}"))
            };
            Ok(Found::File { tag, text })
        };
        let read = tokio::time::timeout(READ_TIMEOUT, read).await;
        read.unwrap_or_else(|_| Err(unavailable("no answer in time".to_owned())))
    }

    /// Takes over what was found, and says so where it changes something.
    fn take(&self, key: &Key, path: &str, found: Found) -> Known {
        let now = Instant::now();
        let mut entries = self.shared.entries.lock();
        if entries.len() >= MAX_KNOWN && !entries.contains_key(key) {
            let oldest = (entries.iter())
                .filter(|(_, entry)| entry.tag.is_none())
                .min_by_key(|(_, entry)| entry.asked)
                .map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                entries.remove(&oldest);
            }
        }
        let before = entries.get(key);
        let (known, tag, broken) = match found {
            Found::Same => match entries.get_mut(key) {
                Some(entry) => {
                    entry.failing = false;
                    return entry.known.clone();
                }
                // It was forgotten meanwhile.
                None => return Known::Unknown,
            },
            Found::None => {
                let built_in = self.shared.built_in.get(&key.1);
                let known = built_in.map_or(Known::Unknown, |it| Known::Policy(Arc::clone(it)));
                (known, None, false)
            }
            Found::File { tag, text } => {
                let read =
                    text.and_then(|text| parse(path, &text).map_err(|error| error.to_string()));
                let tag = tag.or_else(|| Some(String::new()));
                match read {
                    Ok(section) => (Known::Policy(Policy::new(section, true)), tag, false),
                    Err(reason) => {
                        if before.is_none_or(|before| before.tag != tag) {
                            tracing::warn!(path, reason, "an application cannot be used as it is");
                        }
                        let reason = shortened(reason);
                        let good = before.map(|before| before.known.clone());
                        let good = good.filter(
                            |known| matches!(known, Known::Policy(policy) if policy.stored),
                        );
                        (good.unwrap_or(Known::Broken(reason)), tag, true)
                    }
                }
            }
        };
        let was_broken = before.is_some_and(|before| before.broken);
        let changed = before.is_some_and(|before| before.known != known);
        let asked = before.map_or(now, |before| before.asked);
        let entry = Entry {
            known: known.clone(),
            tag,
            broken,
            failing: false,
            asked,
        };
        entries.insert(key.clone(), entry);
        let all_broken = entries.values().filter(|entry| entry.broken).count();
        let all_broken = i64::try_from(all_broken).unwrap_or(i64::MAX);
        self.shared.metrics.broken.set(all_broken);
        drop(entries);
        if was_broken && !broken {
            tracing::info!(path, "an application can be used again");
        }
        if changed {
            tracing::info!(path, "an application has changed");
            self.shared.metrics.changes.inc();
            // Err: nobody listens.
            let _ = self.shared.changes.send(key.clone());
        }
        known
    }

    fn note_failure(&self, key: &Key, error: &Unavailable) {
        if let Some(entry) = self.shared.entries.lock().get_mut(key)
            && !std::mem::replace(&mut entry.failing, true)
        {
            tracing::warn!(%error, "what an application allows is not known anew, and stays as it was");
        }
    }
}

/// The same on every machine.
fn hash(text: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

fn shortened(mut reason: String) -> String {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}
