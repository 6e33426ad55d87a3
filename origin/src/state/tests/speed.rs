//! What one partition can do. Not run by default: `cargo test --release -p headwater-origin state::tests::speed -- --ignored --nocapture`.

use super::*;
use crate::store;

/// How long each measure takes.
const SPAN: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "since 0.1.0, when it was added: a measure, which takes seconds and has nothing to assert; run by hand as the head of the file says"]
async fn batches_of_one_small_row() {
    let folder = tempfile::tempdir().unwrap();
    let store = store::tests::open(folder.path(), |_| {}).await.unwrap();
    for (place, objects) in [("memory", memory()), ("folder", store.objects().clone())] {
        for flush_ms in [0, 10] {
            for together in [1, 100, 5_000] {
                let origin = Origin::with("a", &objects, |section| section.flush_ms = flush_ms);
                let held = origin.hold().await;
                let value = "x".repeat(200);
                let (from, mut written, mut slowest) = (Instant::now(), 0_u32, Duration::default());
                while from.elapsed() < SPAN {
                    let began = Instant::now();
                    let mut last = None;
                    for number in 0..together {
                        last = Some(held.write(put(&format!("key {number}"), &value)).unwrap());
                    }
                    last.unwrap().durable().await.unwrap();
                    written += together;
                    slowest = slowest.max(began.elapsed());
                }
                let rounds = written / together;
                eprintln!(
                    "{place}, flush {flush_ms} ms, {together} at a time: {:.0} durable/s, {:.2} ms each time, {:.0} ms the slowest",
                    f64::from(written) / from.elapsed().as_secs_f64(),
                    from.elapsed().as_secs_f64() * 1e3 / f64::from(rounds),
                    slowest.as_secs_f64() * 1e3,
                );
                drop(held);
                origin.stopped().await;
            }
        }
    }
}
