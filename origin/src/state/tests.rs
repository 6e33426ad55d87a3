//! The state store as a whole.

mod bucket;
mod crashes;
mod faults;
pub(crate) mod faulty;
mod fencing;
mod folder;
mod rows;
mod speed;

use std::time::Duration;

use headwater_node::metrics::Metrics;
use object_store::memory::InMemory;

use super::*;

/// Longer than anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// An origin's databases.
pub(crate) struct Origin {
    pub(crate) states: States,
    metrics: Metrics,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Origin {
    pub(crate) fn new(node: &str, objects: &Arc<dyn ObjectStore>) -> Self {
        Self::with(node, objects, |_| {})
    }

    pub(crate) fn with(
        node: &str,
        objects: &Arc<dyn ObjectStore>,
        change: impl FnOnce(&mut StateSection),
    ) -> Self {
        let mut section = StateSection {
            flush_ms: 1,
            poll_ms: 200,
            linger_ms: 100,
            open_timeout_ms: 5_000,
            hold_off_ms: 500,
            ..StateSection::default()
        };
        change(&mut section);
        let metrics = Metrics::new(node, "origin");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let identity = Identity {
            node: node.to_owned(),
            address: format!("{node}:1"),
        };
        let states = States::new(
            &section,
            (Arc::clone(objects), false),
            identity,
            StateMetrics::new(&metrics),
            tasks.clone(),
            stop.clone(),
        );
        Self {
            states,
            metrics,
            tasks,
            stop,
        }
    }

    /// Of a metric without labels of its own.
    fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.encode();
        let name = format!("headwater_origin_state_{name}{{");
        let line = text.lines().find(|line| line.starts_with(&name));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) async fn hold(&self) -> Held {
        self.states.hold(3).await.unwrap()
    }

    async fn wait_for_metric(&self, name: &str, value: f64) {
        soon(async {
            while (self.metric(name) - value).abs() > 0.1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    pub(crate) async fn stopped(&self) {
        self.stop.cancel();
        self.tasks.close();
        soon(self.tasks.wait()).await;
    }
}

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("in time")
}

pub(crate) fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

fn put(key: &str, value: &str) -> Batch {
    let mut batch = Batch::default();
    batch.put(key.to_owned(), value.to_owned());
    batch
}

async fn write(held: &Held, batch: Batch) {
    soon(held.write(batch).unwrap().durable()).await.unwrap();
}

async fn value(held: &Held, key: &str) -> Option<String> {
    let found = held.get(key.as_bytes()).await.unwrap();
    found.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// Keys and values, as text.
async fn rows(held: &Held, prefix: &str) -> Vec<(String, String)> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let keys = Bytes::from(prefix.to_owned())..Bytes::from(format!("{prefix}~"));
    let (found, end) = held.scan(keys, 1 << 20).await.unwrap();
    assert_eq!(end, None);
    found
        .into_iter()
        .map(|(key, value)| (text(key), text(value)))
        .collect()
}
