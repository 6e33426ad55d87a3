//! Origins that end without a word.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Whatever was written and when it ended: what is there is what the first so many batches left, with all that were said to be durable.
#[tokio::test]
async fn what_is_there_after_a_crash_is_a_beginning_of_what_was_written() {
    let mut random = StdRng::seed_from_u64(6);
    let objects = memory();
    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..20 {
        // Small, so that rows go through all that they can go through.
        let origin = Origin::with("a", &objects, |section| section.memory_bytes = 65_536);
        let held = origin.hold().await;
        let mut after = vec![expected.clone()];
        let mut tickets = Vec::new();
        for _ in 0..random.random_range(0..60) {
            let mut batch = Batch::default();
            let mut state = after.last().unwrap().clone();
            for _ in 0..random.random_range(1..5) {
                let key = format!("key {}", random.random_range(0..50));
                if random.random_bool(0.3) {
                    batch.delete(key.clone());
                    state.remove(&key);
                } else {
                    let value = format!("{round} ").repeat(random.random_range(1..2_000));
                    batch.put(key.clone(), value.clone());
                    state.insert(key, value);
                }
            }
            tickets.push(held.write(batch).unwrap());
            after.push(state);
            if random.random_bool(0.1) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        held.sever();
        let mut durable = 0;
        for ticket in tickets {
            durable += usize::from(soon(ticket.durable()).await.is_ok());
        }
        drop(held);
        origin.stopped().await;

        let next = Origin::new("a", &objects);
        let held = next.hold().await;
        let found: BTreeMap<_, _> = rows_of_keys(&held).await;
        let states = &after[durable..];
        assert!(
            states.contains(&found),
            "round {round}: {durable} of {} were durable",
            after.len() - 1
        );
        expected = found;
        // In good order, every other time.
        if round % 2 == 0 {
            drop(held);
            next.stopped().await;
        } else {
            held.sever();
        }
    }
}

async fn rows_of_keys(held: &Held) -> BTreeMap<String, String> {
    rows(held, "key ").await.into_iter().collect()
}
