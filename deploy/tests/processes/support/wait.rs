//! Waiting for a condition, never for luck.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_millis(20);

/// The runtime of clients and stubs.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime")
    });
    &RUNTIME
}

/// A limit, longer where the machine is said to be slow.
pub(crate) fn patience(limit: Duration) -> Duration {
    let factor = std::env::var("HEADWATER_TEST_PATIENCE")
        .ok()
        .and_then(|text| text.parse::<f64>().ok())
        .unwrap_or(1.0);
    limit.mul_f64(factor.clamp(0.1, 100.0))
}

/// Looks until there is something to see, and gives it.
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = patience(limit);
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        pause(INTERVAL);
    }
}

/// Looks until a condition holds.
pub(crate) fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    eventually(what, limit, || holds().then_some(()));
}

/// Whether a condition comes to hold in time: for a test that has more to say than that it does not.
pub(crate) fn comes_true(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let (start, limit) = (Instant::now(), patience(limit));
    while start.elapsed() < limit {
        if holds() {
            return true;
        }
        pause(INTERVAL);
    }
    false
}

/// Checks that a condition goes on to hold for a time.
pub(crate) fn holds_for(what: &str, time: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < time {
        assert!(holds(), "{what}: no more after {:?}", start.elapsed());
        pause(INTERVAL);
    }
}

/// Lets time pass that is part of what is tested, such as a stream that runs for so long.
pub(crate) fn pause(time: Duration) {
    runtime().block_on(async { tokio::time::sleep(time).await });
}
