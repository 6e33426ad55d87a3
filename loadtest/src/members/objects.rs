//! Clients that use shared objects: some change them and send messages to all, everybody sees it.
//!
//! A value is text with the number of its writer, its own number and the moment in which it was handed to the session. Each slot has one
//! writer, which changes it again when the last change is confirmed. So it can be told of every client whether a value is
//! late, goes back, or is missing in the end, and what of all that was confirmed is still there later.
//!
//! Values may be left out on the way, when a newer one of the same slot overtakes them: servers merge what slow clients are
//! sent. Messages (`send`) may not: each is to come to each client once, also to its sender, and those of a sender in order.
//!
//! # What it does not do
//! It removes and clears nothing, and reads values of others only as far as it can compare them.

mod record;
mod sharing;
mod view;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::record::{RecordedObject, Recorder};
use self::sharing::{Found, Seen, Sharing, Work};
use super::callers::interval;
use super::{MemberCounts, MemberError, MemberOptions, Plan, Stage, Threads};
use crate::clock::now_ns;
use crate::report::{ObjectSummary, VerifySummary};

/// Lost slots that a summary names.
const EXAMPLES: usize = 10;

/// What clients say in the flags of their messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// As Flash Player: 0 for a temporary object, 2 for a persistent one.
    #[default]
    Player,
    /// As servers do among themselves, and the npm package rtmp-client: 16. A temporary object is not said to be one.
    Proxy,
}

impl Dialect {
    const fn flags(self, is_persistent: bool) -> u32 {
        let kind = if is_persistent { 2 } else { 0 };
        match self {
            Self::Player => kind,
            Self::Proxy => 16 | kind,
        }
    }
}

/// What users of shared objects do.
#[derive(Clone, Debug)]
pub struct ObjectOptions {
    /// Who uses them.
    pub members: MemberOptions,
    /// How many objects there are.
    pub objects: usize,
    /// What their names begin with; a number follows.
    pub prefix: String,
    /// Objects that each member uses.
    pub per_member: usize,
    /// Members that write: the first ones. The others read.
    pub writers: usize,
    /// Slots that each writer has in each of its objects.
    pub slots: usize,
    /// Bytes of a value, at least those of its stamp.
    pub bytes: usize,
    /// Changes each second, of all writers together; 0: each slot is changed again when its last change is confirmed.
    pub rate: u32,
    /// Messages with `send` each second, of all writers together.
    pub sends: u32,
    /// Whether the objects are persistent.
    pub is_persistent: bool,
    /// What messages say in their flags.
    pub dialect: Dialect,
    /// Where confirmed changes are written to.
    pub record: Option<PathBuf>,
}

impl ObjectOptions {
    /// One temporary object with one writer, ten changes each second, one slot, values of 64 bytes.
    #[must_use]
    pub fn new(members: MemberOptions) -> Self {
        Self {
            members,
            objects: 1,
            prefix: "load".to_owned(),
            per_member: 1,
            writers: 1,
            slots: 1,
            bytes: 64,
            rate: 10,
            sends: 0,
            is_persistent: false,
            dialect: Dialect::Player,
            record: None,
        }
    }
}

/// Users of shared objects. Dropping them ends them.
#[derive(Debug)]
pub struct Users {
    threads: Threads<Found>,
    options: Arc<ObjectOptions>,
    members: u64,
    expected: Option<Arc<BTreeMap<String, RecordedObject>>>,
}

impl Users {
    /// Begins to connect.
    ///
    /// # Errors
    /// [`MemberError`]: nothing runs.
    pub fn start(options: ObjectOptions) -> Result<Self, MemberError> {
        let names = (0..options.objects.max(1)).map(|number| format!("{}{number}", options.prefix));
        let objects = names.map(|name| (name, options.is_persistent)).collect();
        Self::start_with(options, objects, None)
    }

    /// Members that read everything that a file says was confirmed, and change nothing.
    ///
    /// # Errors
    /// [`MemberError`]: nothing runs, for the file as well.
    pub fn verify(
        members: MemberOptions,
        dialect: Dialect,
        path: &Path,
    ) -> Result<Self, MemberError> {
        let expected = record::read(path).map_err(|cause| failed(path, cause))?;
        let objects: Vec<_> = expected
            .iter()
            .map(|(name, object)| (name.clone(), object.is_persistent))
            .collect();
        let options = ObjectOptions {
            objects: objects.len(),
            per_member: objects.len(),
            writers: 0,
            rate: 0,
            dialect,
            ..ObjectOptions::new(members)
        };
        Self::start_with(options, objects, Some(Arc::new(expected)))
    }

    fn start_with(
        options: ObjectOptions,
        objects: Vec<(String, bool)>,
        expected: Option<Arc<BTreeMap<String, RecordedObject>>>,
    ) -> Result<Self, MemberError> {
        let recorder = match &options.record {
            Some(path) => Some(Recorder::create(path).map_err(|cause| failed(path, cause))?),
            None => None,
        };
        let plan = Arc::new(Plan::new(options.members.clone(), now_ns())?);
        let count = plan.options.thread_count();
        let options = Arc::new(options);
        let work = Arc::new(Work {
            objects,
            recorder,
            change_interval: interval(options.rate, count.min(options.writers.max(1))),
            send_interval: interval(options.sends, count.min(options.writers.max(1))),
            options: Arc::clone(&options),
            expected: expected.clone(),
        });
        let threads = Threads::start("objects", &plan, |_, progress| {
            Sharing::new(Arc::clone(&work), progress)
        })?;
        Ok(Self {
            threads,
            members: options.members.count as u64,
            options,
            expected,
        })
    }

    /// A few figures.
    #[must_use]
    pub fn counts(&self) -> MemberCounts {
        self.threads.counts()
    }

    /// Whether every member uses its objects, or is not going to.
    #[must_use]
    pub fn have_joined(&self) -> bool {
        let counts = self.counts();
        counts.ready + counts.ended >= self.members
    }

    /// Writers begin to write.
    pub fn begin(&self) {
        self.threads.progress.enter(Stage::Running, now_ns());
    }

    /// They write no more, and wait for what is under way.
    pub fn settle(&self) {
        self.threads.progress.enter(Stage::Settling, now_ns());
    }

    /// Whether everything is confirmed, all messages have come to everybody, and all clients of an object have the same.
    #[must_use]
    pub fn have_settled(&self) -> bool {
        let counts = self.counts();
        if counts.ended >= self.members {
            return true;
        }
        if counts.answered < counts.asked {
            return false;
        }
        let summary = self.report();
        summary.is_converged && summary.missing_sends == 0
    }

    /// What was found.
    #[must_use]
    pub fn report(&self) -> ObjectSummary {
        let mut all = Found::default();
        for found in self.threads.reports() {
            all.merge(found);
        }
        let seconds = self.threads.progress.ran_for().as_secs_f64();
        let per_second = |amount: u64| {
            if seconds > 0.0 {
                amount as f64 / seconds
            } else {
                0.0
            }
        };
        let (mut different, mut missing_sends) = (0, 0);
        for (object, seen) in &all.seen {
            if seen.states.len() > 1 {
                different += 1;
            }
            let sent = all.sent_to.get(object).copied().unwrap_or_default();
            let due = sent.saturating_mul(seen.users);
            missing_sends += due.saturating_sub(seen.sends);
        }
        ObjectSummary {
            members: self.members,
            connected: all.connected,
            used: all.used,
            refused_uses: all.refused_uses,
            lost: all.lost,
            objects: self.options.objects as u64,
            writers: self.options.writers as u64,
            changes: all.changes,
            confirmed: all.confirmed,
            refused: all.refused,
            unconfirmed: all.changes.saturating_sub(all.confirmed + all.refused),
            seen: all.seen_changes,
            went_back: all.went_back,
            lost_changes: all.lost_changes,
            sends: all.sends,
            seen_sends: all.seen_sends,
            missing_sends,
            repeated_sends: all.repeated_sends,
            gaps: all.gaps,
            seconds,
            asked_per_s: self.options.rate,
            changes_per_s: per_second(all.confirmed),
            seen_per_s: per_second(all.seen_changes),
            most_behind_ms: all.behind.as_secs_f64() * 1e3,
            different_objects: different,
            is_converged: different == 0,
            confirmation: all.confirmation.report(),
            latency: all.latency.report(),
            send_latency: all.send_latency.report(),
            statuses: all.statuses.sorted(),
            errors: all.errors.sorted(),
            endings: all.endings.sorted(),
            losses: all.losses.sorted(),
        }
    }

    /// What of the file was found, by members of [`Users::verify`].
    #[must_use]
    pub fn verified(&self) -> VerifySummary {
        let mut all = Found::default();
        for found in self.threads.reports() {
            all.merge(found);
        }
        let expected = self.expected.as_deref();
        let slots = expected.map_or(0, |objects| {
            objects
                .values()
                .map(|object| object.slots.len() as u64)
                .sum()
        });
        let mut lost_slots = all.lost_slots;
        lost_slots.sort();
        lost_slots.truncate(EXAMPLES);
        VerifySummary {
            members: self.members,
            used: all.used,
            objects: expected.map_or(0, |objects| objects.len() as u64),
            slots,
            held: all.held,
            newer: all.newer,
            lost: all.lost_held,
            versions_back: all.versions_back,
            lost_slots,
            statuses: all.statuses.sorted(),
            endings: all.endings.sorted(),
            losses: all.losses.sorted(),
        }
    }
}

impl Seen {
    fn merge(&mut self, other: Self) {
        self.users += other.users;
        self.sends += other.sends;
        self.states.extend(other.states);
    }
}

fn failed(path: &Path, cause: std::io::Error) -> MemberError {
    MemberError::Record {
        path: path.display().to_string(),
        cause,
    }
}
