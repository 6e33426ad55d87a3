//! The async shell around the logs: one handle per stream, shared by the calls that append and read.
//!
//! Each log has a task of its own that waits for its next deadline, and drops it when nobody has used it for a while. A call
//! holds a [`LogLease`] as long as it uses the log.
//!
//! Bounds: the number of logs and of reads; the bytes of all windows together, see [`LogTable::balance`]. A publisher's
//! connection gets few events; one that does not take them is given up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headwater_media::name::StreamName;
use headwater_media::window::Retention;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{ConnectionId, Event, Log, LogConfig, PublisherEvent};
use crate::config::OriginSection;
use crate::metrics::{OriginMetrics, StreamMetrics};

/// Events that a publisher's connection may be behind. Each of them comes once or a few times in a connection's life.
const CONNECTION_EVENTS: usize = 16;

/// How long the log of a stream stays that went to another node with its publisher. Nodes find out one after the other, within
/// a second or two, that the other node is back: who asks here meanwhile is sent there, and does not wait for a publisher that
/// will not come.
const SIGNPOST_LINGER: Duration = Duration::from_secs(3);

/// The least that a stream may keep when memory is short, in bytes: a picture of a small stream.
const LEAST_SHARE: usize = 64 << 10;

/// Why a log was not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("the origin holds as many streams as it may")]
    Streams,
    #[error("the origin has as many readers as it may")]
    Readers,
    #[error("the origin has no memory left for another stream")]
    Memory,
}

/// How many use this origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) publishers: u32,
    pub(crate) readers: u32,
}

impl Usage {
    pub(crate) fn is_idle(self) -> bool {
        self == Self::default()
    }
}

/// All logs of this origin. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct LogTable {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: LogConfig,
    linger: Duration,
    max_streams: usize,
    memory: i64,
    readers: Arc<Semaphore>,
    logs: Mutex<HashMap<StreamName, Arc<LogHandle>>>,
    /// Bytes of all windows. Signed, because the parts of a sum may be seen in any order.
    bytes: AtomicI64,
    next_connection: AtomicU64,
    usage: watch::Sender<Usage>,
    metrics: OriginMetrics,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl LogTable {
    /// No logs yet. Their tasks run on `tasks` until `stop`.
    pub(crate) fn new(
        section: &OriginSection,
        metrics: OriginMetrics,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let readers = section.max_readers.min(Semaphore::MAX_PERMITS);
        Self {
            shared: Arc::new(Shared {
                config: section.log_config(),
                linger: section.linger(),
                max_streams: section.max_streams,
                memory: i64::try_from(section.memory_bytes).unwrap_or(i64::MAX),
                readers: Arc::new(Semaphore::new(readers)),
                logs: Mutex::new(HashMap::new()),
                bytes: AtomicI64::new(0),
                next_connection: AtomicU64::new(0),
                usage: watch::Sender::new(Usage::default()),
                metrics,
                tasks,
                stop,
            }),
        }
    }

    /// The log of a stream, made if there is none.
    ///
    /// # Errors
    /// [`Full::Streams`].
    pub(crate) fn lease(&self, name: &StreamName) -> Result<LogLease, Full> {
        let mut logs = self.shared.logs.lock();
        if let Some(handle) = logs.get(name) {
            return Ok(LogLease::new(Arc::clone(handle)));
        }
        if logs.len() >= self.shared.max_streams {
            return Err(Full::Streams);
        }
        let handle = Arc::new(LogHandle::new(name.clone(), &self.shared));
        logs.insert(name.clone(), Arc::clone(&handle));
        self.shared.metrics.streams.set(count(logs.len()));
        let lease = LogLease::new(Arc::clone(&handle));
        drop(logs);
        self.shared.tasks.spawn(drive(self.clone(), handle));
        Ok(lease)
    }

    /// Whether somebody publishes a stream, or is expected back: whether its viewers take it to be published.
    pub(crate) fn is_published(&self, name: &StreamName) -> bool {
        let handle = self.shared.logs.lock().get(name).cloned();
        handle.is_some_and(|handle| handle.look(Log::is_running))
    }

    /// Whether a stream may be published that is not there yet.
    ///
    /// # Errors
    /// [`Full::Memory`].
    pub(crate) fn room_for_publisher(&self) -> Result<(), Full> {
        if self.shared.bytes.load(Ordering::Relaxed) > self.shared.memory {
            return Err(Full::Memory);
        }
        Ok(())
    }

    /// Lets a reader in: it counts until the guard is dropped.
    ///
    /// # Errors
    /// [`Full::Readers`].
    pub(crate) fn admit_reader(&self, lease: &LogLease) -> Result<ReaderGuard, Full> {
        let permit = Arc::clone(&self.shared.readers)
            .try_acquire_owned()
            .map_err(|_| Full::Readers)?;
        self.shared.metrics.readers.inc();
        lease.handle.metrics.readers.inc();
        self.shared.usage.send_modify(|usage| usage.readers += 1);
        Ok(ReaderGuard {
            handle: Arc::clone(&lease.handle),
            _permit: permit,
        })
    }

    /// A snapshot of all logs.
    pub(crate) fn handles(&self) -> Vec<Arc<LogHandle>> {
        self.shared.logs.lock().values().cloned().collect()
    }

    /// Forgets all logs, for the end: they and the table hold each other.
    pub(crate) fn clear(&self) {
        let logs = std::mem::take(&mut *self.shared.logs.lock());
        drop(logs);
    }

    /// How many publishers and readers there are.
    pub(crate) fn usage(&self) -> watch::Receiver<Usage> {
        self.shared.usage.subscribe()
    }

    pub(crate) fn metrics(&self) -> &OriginMetrics {
        &self.shared.metrics
    }

    /// Holds the windows together within the memory of the configuration: past it each log may keep its newest group of
    /// pictures and no more than an equal share; below three quarters of it, all that it wants.
    pub(crate) fn balance(&self, logs: &[Arc<LogHandle>]) {
        let bytes = self.shared.bytes.load(Ordering::Relaxed);
        self.shared.metrics.window_bytes.set(bytes);
        let wanted = self.shared.config.retention;
        let retention = if bytes > self.shared.memory {
            let share =
                usize::try_from(self.shared.memory).unwrap_or(usize::MAX) / logs.len().max(1);
            // In steps of two: a log that comes or goes changes nothing for the others.
            let share = 1_usize << share.max(LEAST_SHARE).ilog2();
            Retention {
                min_duration_ms: 0,
                max_bytes: wanted.max_bytes.min(share),
                ..wanted
            }
        } else if bytes < self.shared.memory / 4 * 3 {
            wanted
        } else {
            return;
        };
        for log in logs {
            log.update(|log, _| log.set_retention(retention));
        }
    }

    /// Forgets a log that nobody uses. False if somebody came meanwhile.
    fn remove_if_idle(&self, handle: &LogHandle) -> bool {
        let mut logs = self.shared.logs.lock();
        if *handle.users.borrow() > 0 || !handle.state.lock().log.is_idle() {
            return false;
        }
        logs.remove(&handle.name);
        if logs.capacity() > 64 && logs.len() * 4 < logs.capacity() {
            logs.shrink_to_fit();
        }
        self.shared.metrics.streams.set(count(logs.len()));
        true
    }
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// Waits for the deadlines of a log, and for the end of its use.
async fn drive(table: LogTable, handle: Arc<LogHandle>) {
    let mut deadline = handle.deadline.subscribe();
    let mut users = handle.users.subscribe();
    let stop = table.shared.stop.clone();
    let mut quiet_since = None;
    loop {
        let due = *deadline.borrow_and_update();
        let used = *users.borrow_and_update() > 0;
        let (idle, departing, handed_over) =
            handle.look(|log| (log.is_idle(), log.is_departing(), log.is_handed_over()));
        let gone_at = if used || !idle {
            quiet_since = None;
            None
        } else {
            let since = *quiet_since.get_or_insert_with(Instant::now);
            // Another node has what is to be remembered of a stream that went there.
            let linger = match (departing, handed_over) {
                (_, true) => SIGNPOST_LINGER,
                (true, false) => Duration::ZERO,
                (false, false) => table.shared.linger,
            };
            Some(since + linger)
        };
        // A sender cannot go: it is in the handle.
        tokio::select! {
            _ = deadline.changed() => {}
            _ = users.changed() => {}
            () = sleep_until(due) => handle.update(Log::handle_timeout),
            () = sleep_until(gone_at) => {
                if table.remove_if_idle(&handle) {
                    return;
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One log and who is to be told of what.
#[derive(Debug)]
pub(crate) struct LogHandle {
    name: StreamName,
    state: Mutex<State>,
    /// [`Log::version`], for readers.
    version: watch::Sender<u64>,
    /// [`Log::poll_timeout`], for the log's task.
    deadline: watch::Sender<Option<Instant>>,
    /// Leases.
    users: watch::Sender<usize>,
    pub(crate) metrics: StreamMetrics,
    table: Arc<Shared>,
}

#[derive(Debug)]
struct State {
    log: Log,
    connections: HashMap<ConnectionId, mpsc::Sender<PublisherEvent>>,
    /// As counted in [`Shared::bytes`].
    bytes: i64,
    published: bool,
}

impl LogHandle {
    fn new(name: StreamName, table: &Arc<Shared>) -> Self {
        Self {
            metrics: table.metrics.stream(&name),
            name,
            state: Mutex::new(State {
                log: Log::new(table.config),
                connections: HashMap::new(),
                bytes: 0,
                published: false,
            }),
            version: watch::Sender::new(0),
            deadline: watch::Sender::new(None),
            users: watch::Sender::new(0),
            table: Arc::clone(table),
        }
    }

    pub(crate) fn name(&self) -> &StreamName {
        &self.name
    }

    /// Changes when readers may find something new.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Looks at the log. The closure must be short: publisher and readers wait for it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Log) -> T) -> T {
        look(&self.state.lock().log)
    }

    /// Changes the log, and tells everybody who is to know.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Log, std::time::Instant) -> T) -> T {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now = Instant::now().into_std();
        let result = change(&mut state.log, now);
        self.deliver(state, now);
        self.account(state);
        let version = state.log.version();
        let deadline = state.log.poll_timeout().map(Instant::from_std);
        // Under the lock: an older deadline must not overwrite a newer one.
        self.deadline.send_if_modified(|known| {
            let changed = *known != deadline;
            *known = deadline;
            changed
        });
        drop(guard);
        self.version.send_if_modified(|known| {
            let grown = *known < version;
            *known = version.max(*known);
            grown
        });
        result
    }

    fn deliver(&self, state: &mut State, now: std::time::Instant) {
        while let Some(event) = state.log.poll_event() {
            match event {
                Event::Count(counted) => self.table.metrics.count(counted),
                Event::Publisher(connection, event) => {
                    let sent = match state.connections.get(&connection) {
                        Some(sender) => sender.try_send(event),
                        None => continue,
                    };
                    if sent.is_err() {
                        // Its task ends when it finds its queue closed.
                        state.connections.remove(&connection);
                        state.log.disconnected(now, connection);
                    }
                }
            }
        }
    }

    fn account(&self, state: &mut State) {
        let bytes = i64::try_from(state.log.bytes()).unwrap_or(i64::MAX);
        if bytes != state.bytes {
            self.table
                .bytes
                .fetch_add(bytes - state.bytes, Ordering::Relaxed);
            state.bytes = bytes;
        }
        let published = state.log.is_published();
        if published != state.published {
            state.published = published;
            if published {
                self.table.metrics.publishers.inc();
                self.table.usage.send_modify(|usage| usage.publishers += 1);
            } else {
                self.table.metrics.publishers.dec();
                self.table.usage.send_modify(|usage| usage.publishers -= 1);
            }
        }
    }

    /// A number for a publisher's connection, and the queue of what the log tells it.
    pub(crate) fn connect(self: &Arc<Self>) -> (ConnectionGuard, mpsc::Receiver<PublisherEvent>) {
        let id = ConnectionId(self.table.next_connection.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = mpsc::channel(CONNECTION_EVENTS);
        self.state.lock().connections.insert(id, sender);
        let guard = ConnectionGuard {
            id,
            handle: Arc::clone(self),
        };
        (guard, receiver)
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.table
            .bytes
            .fetch_sub(self.state.get_mut().bytes, Ordering::Relaxed);
    }
}

/// A use of a log: it stays in the table until the last lease is dropped, and for a while after.
#[derive(Debug)]
pub(crate) struct LogLease {
    pub(crate) handle: Arc<LogHandle>,
}

impl LogLease {
    /// With the table locked, so that a log is not removed between finding and using it.
    fn new(handle: Arc<LogHandle>) -> Self {
        handle.users.send_modify(|users| *users += 1);
        Self { handle }
    }
}

impl LogLease {
    /// One more use of the same log.
    pub(crate) fn another(&self) -> Self {
        // The log is in the table, because this lease is there.
        Self::new(Arc::clone(&self.handle))
    }
}

impl Drop for LogLease {
    fn drop(&mut self) {
        self.handle.users.send_modify(|users| *users -= 1);
    }
}

/// A publisher's connection: when it is dropped, the log knows that it is gone.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    pub(crate) id: ConnectionId,
    handle: Arc<LogHandle>,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.handle.state.lock().connections.remove(&self.id);
        self.handle
            .update(|log, now| log.disconnected(now, self.id));
    }
}

/// A reader that counts.
#[derive(Debug)]
pub(crate) struct ReaderGuard {
    handle: Arc<LogHandle>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        let table = &self.handle.table;
        table.metrics.readers.dec();
        self.handle.metrics.readers.dec();
        table.usage.send_modify(|usage| usage.readers -= 1);
    }
}

/// Wall-clock milliseconds since 1970; 0 before that.
pub(crate) fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
