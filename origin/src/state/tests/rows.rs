//! Writing and reading, opening and closing.

use super::*;

#[tokio::test]
async fn what_is_durable_can_be_read_in_the_order_of_keys() {
    let origin = Origin::new("a", &memory());
    let held = origin.hold().await;
    let mut batch = put("a/2", "two");
    batch.put("a/1", "one");
    batch.put("b", "other");
    write(&held, batch).await;
    assert_eq!(value(&held, "a/1").await.as_deref(), Some("one"));
    assert_eq!(value(&held, "a").await, None);
    let owned = |rows: &[(&str, &str)]| -> Vec<(String, String)> {
        rows.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    assert_eq!(
        rows(&held, "a/").await,
        owned(&[("a/1", "one"), ("a/2", "two")])
    );
    let mut batch = Batch::default();
    batch.delete("a/1");
    batch.put("a/2", "old");
    batch.put("a/2", "new");
    write(&held, batch).await;
    assert_eq!(rows(&held, "a").await, owned(&[("a/2", "new")]));
    // Its own row is nobody's business.
    assert_eq!(rows(&held, "").await.len(), 3);
}

#[tokio::test]
async fn tickets_become_durable_in_order_and_many_go_in_one_write() {
    let origin = Origin::new("a", &memory());
    let held = origin.hold().await;
    let tickets: Vec<_> = (0..1_000)
        .map(|it| held.write(put("key", &it.to_string())).unwrap())
        .collect();
    let (first, last) = (tickets[0].clone(), tickets[999].clone());
    soon(last.durable()).await.unwrap();
    // No waiting any more.
    assert_eq!(
        futures_util::FutureExt::now_or_never(first.durable()),
        Some(Ok(()))
    );
    assert_eq!(value(&held, "key").await.as_deref(), Some("999"));
    assert!(origin.metric("writes_total") <= 10.0);
    assert!((origin.metric("batches_total") - 1_000.0).abs() < 0.1);
    assert!(origin.metric("unflushed_bytes").abs() < 0.1);
}

#[tokio::test]
async fn rows_that_no_database_takes_are_refused() {
    let origin = Origin::new("a", &memory());
    let held = origin.hold().await;
    let long = "x".repeat(Batch::MAX_KEY);
    for key in ["", "\0owner", &format!("{long}x")] {
        let mut batch = put("good", "1");
        batch.put(key.to_owned(), "1");
        let refused = held.write(batch);
        assert!(matches!(refused, Err(StateError::TooLarge)), "{key}");
    }
    write(&held, put(&long, "1")).await;
    assert_eq!(value(&held, "good").await, None);
    let keys = || Bytes::from_static(b"x")..Bytes::from_static(b"y");
    let (rows, end) = held.scan(keys(), Batch::MAX_KEY).await.unwrap();
    assert_eq!((rows.len(), end), (0, Some(Bytes::from(long))));
    let (rows, end) = held.scan(keys(), Batch::MAX_KEY + 1).await.unwrap();
    assert_eq!((rows.len(), end), (1, None));
}

#[tokio::test]
async fn it_is_open_once_and_closed_when_nobody_holds_it() {
    let origin = Origin::new("a", &memory());
    let (one, two) = tokio::join!(origin.states.hold(3), origin.states.hold(3));
    let (one, two) = (one.unwrap(), two.unwrap());
    let other = origin.states.hold(4).await.unwrap();
    assert_eq!(one.epoch(), two.epoch());
    assert!((origin.metric("opened_total") - 2.0).abs() < 0.1);
    write(&one, put("key", "1")).await;
    drop(one);
    let three = two.clone();
    drop(two);
    // Longer than the linger time.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!((origin.metric("open") - 2.0).abs() < 0.1);
    let epoch = three.epoch();
    drop((three, other));
    origin.wait_for_metric("open", 0.0).await;
    let again = origin.hold().await;
    assert!(again.epoch() > epoch);
    assert_eq!(value(&again, "key").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn who_comes_back_within_the_linger_time_finds_it_open() {
    let origin = Origin::with("a", &memory(), |section| section.linger_ms = 60_000);
    let epoch = origin.hold().await.epoch();
    for _ in 0..10 {
        assert_eq!(origin.hold().await.epoch(), epoch);
    }
    assert!((origin.metric("opened_total") - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn holding_and_letting_go_in_turn_loses_nothing() {
    let origin = Origin::with("a", &memory(), |section| section.linger_ms = 0);
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let states = origin.states.clone();
        workers.spawn(async move {
            for round in 0..20 {
                let held = states.hold(3).await.unwrap();
                let batch = put(&format!("{worker}/{round:02}"), "1");
                let ticket = held.write(batch).unwrap();
                // Let go before it is durable: closing waits for it.
                drop(held);
                ticket.durable().await.unwrap();
            }
        });
    }
    while let Some(done) = soon(workers.join_next()).await {
        done.unwrap();
    }
    let held = origin.hold().await;
    for worker in 0..4 {
        assert_eq!(rows(&held, &format!("{worker}/")).await.len(), 20);
    }
}

#[tokio::test]
async fn what_was_written_is_durable_when_the_origin_stops() {
    let objects = memory();
    let origin = Origin::with("a", &objects, |section| section.flush_ms = 10_000);
    let held = origin.hold().await;
    write(&held, put("first", "1")).await;
    let ticket = held.write(put("second", "2")).unwrap();
    origin.stopped().await;
    assert_eq!(ticket.durable().await, Ok(()));
    assert_eq!(held.lost().await, StateError::Closed);
    assert!(matches!(
        held.write(put("third", "3")),
        Err(StateError::Closed)
    ));
    assert_eq!(held.get(b"first").await, Err(StateError::Closed));
    assert!(matches!(
        origin.states.hold(3).await,
        Err(StateError::Closed)
    ));
    let next = Origin::new("b", &objects);
    assert_eq!(rows(&next.hold().await, "").await.len(), 3);
}

#[tokio::test]
async fn one_that_is_read_piece_by_piece_is_not_read_from_the_store_each_time() {
    let (faulty, objects) = faulty::Faulty::new();
    let first = Origin::new("a", &objects);
    let held = first.hold().await;
    for object in 0..50 {
        write(&held, put(&format!("{object:02}/slot"), "value")).await;
    }
    first.stopped().await;

    let next = Origin::new("b", &objects);
    let held = next.hold().await;
    assert_eq!(rows(&held, "00/").await.len(), 1);
    let before = faulty.gets();
    for object in 0..50 {
        assert_eq!(rows(&held, &format!("{object:02}/")).await.len(), 1);
    }
    // It may look for another owner meanwhile.
    let gets = faulty.gets() - before;
    assert!(gets < 20, "{gets} requests for 50 objects");
}
