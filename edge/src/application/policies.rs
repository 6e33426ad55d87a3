//! What applications allow, as this edge knows it.
//!
//! The `app.toml` of an application is in the store that all origins share, so any of them can say what is in it. It is asked for when the
//! first client of an application comes, once whoever many come, and believed until an origin says that it may have changed
//! ([`changes`]). An origin watches the files that it was asked about, so that the one that says what changes is asked first. Where there is
//! no file, or the origins are too old to know of any, what this edge is configured with holds.
//!
//! # Invariants
//! - A known application costs its clients a look into a table, and the origins nothing.
//! - While no origin answers, what was known last holds. Only an application of which nothing was ever known is waited for.
//! - A change holds for whoever connects, publishes or plays from then on; nothing that goes on is ended by it. A file that cannot be used
//!   keeps newcomers out, and those who are there have what held before.
//! - The table is bounded, but for applications that clients of this edge are connected to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use headwater_application::{ApplicationSection, parse_known};
use headwater_cluster::NodeId;
use headwater_proto::v1;
use headwater_proto::v1::policy_response::Response;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::edge::Tasks;
use crate::upstream::Upstream;

mod ask;
mod changes;
#[cfg(test)]
mod tests;

/// Applications in the table, beside those that clients are connected to. What is over is asked for again when it is wanted. Few
/// in tests, which fill it.
const MAX_KNOWN: usize = if cfg!(test) { 64 } else { 4_096 };

/// Questions that are under way at once. More wait.
const MAX_FLIGHTS: usize = 32;

/// How long no origin is asked again that did not answer. Clients that come meanwhile are told at once.
const ASK_PAUSE: Duration = Duration::from_millis(500);

/// How long it is believed that an application has no file. Origins do not look for one for ever: this is half as long as they do.
const ABSENT: Duration = Duration::from_secs(30);

/// What is believed of an application.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// There is one.
    Known(Arc<ApplicationSection>),
    /// There is none of that name.
    Unknown,
    /// There is one, and its `app.toml` cannot be used.
    Broken,
}

/// What is known of applications. Clones share it.
#[derive(Clone)]
pub(crate) struct Policies(Arc<Shared>);

struct Shared {
    configured: BTreeMap<String, Arc<ApplicationSection>>,
    /// By `vhost/app`.
    table: Mutex<HashMap<String, Arc<Application>>>,
    flights: Semaphore,
    /// The origin that says what changes.
    listening: Mutex<Option<NodeId>>,
    upstream: Arc<Upstream>,
    tasks: Tasks,
}

/// One application. Its clients hold it.
#[derive(Debug)]
pub(crate) struct Application {
    vhost: String,
    name: String,
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct State {
    verdict: Option<Verdict>,
    /// What holds for clients that are connected.
    policy: Option<Arc<ApplicationSection>>,
    /// An origin is being asked.
    asking: bool,
    /// What is believed holds meanwhile.
    holds: bool,
    /// It may have changed since.
    stale: bool,
    /// Number of changes that were announced.
    changes: u64,
    /// No origin has answered: until when none is asked again.
    pause: Option<Instant>,
    /// There is no file: until when that is believed.
    absent: Option<Instant>,
}

impl State {
    fn is_settled(&self) -> bool {
        !self.asking || self.holds
    }
}

/// What came of a question.
enum Answer {
    Said(Response),
    /// All origins are too old to know of applications.
    TooOld,
    /// No origin has answered.
    Nothing,
}

impl Application {
    pub(crate) fn vhost(&self) -> &str {
        &self.vhost
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What holds for its clients. `None`: there is no such application any more.
    pub(crate) fn policy(&self) -> Option<Arc<ApplicationSection>> {
        self.state.borrow().policy.clone()
    }

    /// What is believed, unless an origin is being asked just now. `Some(None)`: nothing is known, and no origin answers.
    pub(crate) fn verdict(&self) -> Option<Option<Verdict>> {
        let state = self.state.borrow();
        state.is_settled().then(|| state.verdict.clone())
    }

    /// Waits for what is believed. `None`: nothing is known, and no origin answers.
    pub(crate) async fn settled(&self) -> Option<Verdict> {
        let mut state = self.state.subscribe();
        // An error would mean that the sender is gone, which is here.
        let settled = state.wait_for(State::is_settled).await.ok()?;
        settled.verdict.clone()
    }
}

impl Policies {
    pub(crate) fn new(
        configured: &BTreeMap<String, ApplicationSection>,
        upstream: Arc<Upstream>,
        tasks: Tasks,
    ) -> Self {
        let configured = configured.iter();
        Self(Arc::new(Shared {
            configured: configured
                .map(|(name, section)| (name.clone(), Arc::new(section.clone())))
                .collect(),
            table: Mutex::default(),
            flights: Semaphore::new(MAX_FLIGHTS),
            listening: Mutex::default(),
            upstream,
            tasks,
        }))
    }

    /// Listens to what origins say of changes, for as long as the process lives. Once, before anything else.
    pub(crate) fn start(&self) {
        self.0.tasks.spawn(Box::pin(changes::follow(self.clone())));
    }

    /// An application that a client wants. Has an origin asked where that is needed.
    pub(crate) fn look_up(&self, vhost: &str, name: &str) -> Arc<Application> {
        let mut table = self.0.table.lock();
        let key = key(vhost, name);
        let application = match table.get(&key) {
            Some(application) => Arc::clone(application),
            None => {
                if table.len() >= MAX_KNOWN {
                    make_room(&mut table);
                }
                let application = Arc::new(Application {
                    vhost: vhost.to_owned(),
                    name: name.to_owned(),
                    state: watch::Sender::default(),
                });
                table.insert(key, Arc::clone(&application));
                application
            }
        };
        drop(table);
        self.ask_if_needed(&application);
        application
    }

    /// What holds for the clients of an application, as far as it is known.
    pub(crate) fn policy(&self, vhost: &str, name: &str) -> Option<Arc<ApplicationSection>> {
        let application = self.0.table.lock().get(&key(vhost, name)).cloned();
        match application {
            Some(application) => application.policy(),
            None => self.0.configured.get(name).cloned(),
        }
    }

    fn ask_if_needed(&self, application: &Arc<Application>) {
        let now = Instant::now();
        let begun = application.state.send_if_modified(|state| {
            let is_old = state.absent.is_some_and(|absent| now >= absent);
            let is_needed = state.stale || is_old || state.verdict.is_none();
            let begins = is_needed && !state.asking && state.pause.is_none_or(|pause| now >= pause);
            if begins {
                state.asking = true;
                // Nobody says that it has changed: whoever is known is not kept waiting for that.
                let is_known = matches!(state.verdict, Some(Verdict::Known(_)));
                state.holds = is_known && !state.stale;
            }
            begins
        });
        if begun {
            let (policies, application) = (self.clone(), Arc::clone(application));
            self.0.tasks.spawn(Box::pin(async move {
                // Again, if it changed meanwhile.
                while policies.ask(&application).await {}
            }));
        }
    }

    /// Asks once, and notes what came of it. Gives whether to ask again.
    async fn ask(&self, application: &Application) -> bool {
        let changes = application.state.borrow().changes;
        let has_last = application.state.borrow().verdict.is_some();
        // Never closed.
        let room = self.0.flights.acquire().await;
        let first = self.0.listening.lock().clone();
        let answer = ask::ask(&self.0.upstream, application, first, has_last).await;
        drop(room);
        let is_absent = matches!(answer, Answer::Said(Response::Unknown(_)));
        let meters = &self.0.upstream.metrics.applications;
        let said = match answer {
            Answer::Said(said) => Some(self.believe(application, said)),
            Answer::TooOld => Some(self.configured(&application.name)),
            Answer::Nothing => {
                meters.describes_failed.inc();
                None
            }
        };
        let mut again = false;
        application.state.send_modify(|state| {
            state.pause = said.is_none().then(|| Instant::now() + ASK_PAUSE);
            match said {
                Some(verdict) => {
                    match &verdict {
                        Verdict::Known(policy) => state.policy = Some(Arc::clone(policy)),
                        Verdict::Unknown => state.policy = None,
                        Verdict::Broken => {}
                    }
                    if state.verdict.as_ref().is_some_and(|it| *it != verdict) {
                        info!(
                            vhost = application.vhost,
                            app = application.name,
                            "the application has changed"
                        );
                    }
                    state.verdict = Some(verdict);
                    state.stale = state.changes != changes;
                    state.absent = is_absent.then(|| Instant::now() + ABSENT);
                    again = state.stale;
                }
                // What was known holds, and is asked for again when somebody comes.
                None => state.stale = true,
            }
            state.asking = again;
            state.holds &= again && !state.stale;
        });
        again
    }

    fn believe(&self, application: &Application, said: Response) -> Verdict {
        let (vhost, app) = (&application.vhost, &application.name);
        match said {
            Response::Policy(policy) if policy.stored => match parse_known(&policy.toml) {
                Ok(section) => Verdict::Known(Arc::new(section)),
                Err(error) => {
                    warn!(vhost, app, %error, "the application cannot be used: this edge does not understand what an origin says of it");
                    Verdict::Broken
                }
            },
            // What is built in at the origin, this edge has, too, unless it is configured otherwise.
            Response::Policy(_) | Response::Unknown(_) => self.configured(app),
            Response::Broken(broken) => {
                warn!(
                    vhost,
                    app,
                    reason = broken.reason,
                    "the application cannot be used: its app.toml is broken"
                );
                Verdict::Broken
            }
        }
    }

    fn configured(&self, name: &str) -> Verdict {
        match self.0.configured.get(name) {
            // Origins call it, and they know of none: nobody would be asked.
            Some(section) if !section.handler.address.is_empty() => {
                warn!(
                    app = name,
                    "the application cannot be used: its handler is configured at this edge, and not in an app.toml in the store"
                );
                Verdict::Broken
            }
            Some(section) => Verdict::Known(Arc::clone(section)),
            None => Verdict::Unknown,
        }
    }

    /// An origin says what may have changed.
    fn changed(&self, said: &v1::ChangesResponse, is_first: bool) {
        // From before the call nothing is known.
        let changed: Vec<_> = if said.all || is_first {
            self.0.table.lock().values().cloned().collect()
        } else {
            let table = self.0.table.lock();
            let named = said.changed.iter();
            named
                .filter_map(|name| table.get(&key(&name.vhost, &name.app)).cloned())
                .collect()
        };
        for application in changed {
            application.state.send_if_modified(|state| {
                state.stale = true;
                state.changes += 1;
                state.pause = None;
                state.holds = false;
                false
            });
            // Two are the table and this. The others are asked for when somebody wants them.
            if Arc::strong_count(&application) > 2 {
                self.ask_if_needed(&application);
            }
        }
    }
}

fn key(vhost: &str, name: &str) -> String {
    // No slash in the name of an application.
    format!("{vhost}/{name}")
}

/// Forgets applications that nobody is connected to: first those that are none.
fn make_room(table: &mut HashMap<String, Arc<Application>>) {
    table.retain(|_, it| {
        let is_there = matches!(it.state.borrow().verdict, Some(Verdict::Known(_)));
        Arc::strong_count(it) > 1 || is_there
    });
    if table.len() > MAX_KNOWN / 4 * 3 {
        table.retain(|_, it| Arc::strong_count(it) > 1);
    }
}
