//! A store that hangs, is full, refuses, or holds something else.

use futures_util::FutureExt;
use object_store::ObjectStoreExt;

use super::faulty::{Faulty, Mode};
use super::*;

fn small(section: &mut StateSection) {
    section.unflushed_bytes = 65_536;
    section.open_timeout_ms = 300;
}

#[tokio::test]
async fn a_store_that_hangs_or_is_full_takes_later_what_it_was_given() {
    for mode in [Mode::Hangs, Mode::Full] {
        let (faulty, objects) = Faulty::new();
        let origin = Origin::with("a", &objects, small);
        let held = origin.hold().await;
        write(&held, put("before", "1")).await;
        faulty.set(mode);
        let mut tickets = Vec::new();
        let refused = loop {
            let key = format!("key {:03}", tickets.len());
            match held.write(put(&key, &"x".repeat(1_000))) {
                Ok(ticket) => tickets.push(ticket),
                Err(error) => break error,
            }
        };
        assert_eq!(refused, StateError::Busy);
        assert!((55..=65).contains(&tickets.len()), "{}", tickets.len());
        tokio::time::sleep(Duration::from_millis(500)).await;
        for ticket in &tickets {
            assert_eq!(ticket.clone().durable().now_or_never(), None);
        }
        assert!(origin.metric("unflushed_bytes") > 55_000.0);
        faulty.set(Mode::Works);
        for ticket in tickets {
            soon(ticket.durable()).await.unwrap();
        }
        assert!(origin.metric("unflushed_bytes").abs() < 0.1);
        write(&held, put("after", "1")).await;
        assert!(held.lost().now_or_never().is_none());
        assert!(rows(&held, "key ").await.len() >= 55);
    }
}

#[tokio::test]
async fn opening_waits_for_no_longer_than_it_should_and_says_why() {
    let (faulty, objects) = Faulty::new();
    let origin = Origin::with("a", &objects, small);
    for (mode, why) in [
        (Mode::Hangs, "no answer in time"),
        (Mode::Full, "no space left"),
        (Mode::Refuses, "access denied"),
    ] {
        faulty.set(mode);
        let from = Instant::now();
        let refused = origin.states.hold(3).await.unwrap_err();
        assert!(from.elapsed() < Duration::from_secs(5));
        assert!(
            matches!(&refused, StateError::Unavailable { reason } if reason.contains(why)),
            "{refused:?}"
        );
    }
    assert!((origin.metric("failures_total") - 3.0).abs() < 0.1);
    faulty.set(Mode::Works);
    write(&origin.hold().await, put("key", "1")).await;
}

#[tokio::test]
async fn reading_waits_for_no_longer_than_it_should() {
    let (faulty, objects) = Faulty::new();
    {
        let origin = Origin::with("a", &objects, small);
        write(&origin.hold().await, put("key", "1")).await;
        origin.stopped().await;
    }
    // What was read for opening would not be read again.
    let origin = Origin::with("a", &objects, |section| {
        small(section);
        section.cache_bytes = 0;
    });
    let held = origin.hold().await;
    faulty.set(Mode::Hangs);
    let everything = Bytes::new()..Bytes::from_static(b"~");
    for refused in [
        held.get(b"key").await.map(drop),
        held.scan(everything, 1_000).await.map(drop),
        origin.states.owner_of(3).await.map(drop),
    ] {
        assert!(matches!(refused, Err(StateError::Unavailable { .. })));
    }
    faulty.set(Mode::Works);
    assert_eq!(value(&held, "key").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn who_comes_while_it_is_being_closed_waits_for_that() {
    let (faulty, objects) = Faulty::new();
    let origin = Origin::with("a", &objects, |section| section.linger_ms = 50);
    let held = origin.hold().await;
    let epoch = held.epoch();
    write(&held, put("key", "1")).await;
    faulty.set(Mode::Hangs);
    let ticket = held.write(put("last", "2")).unwrap();
    drop(held);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let states = origin.states.clone();
    let waiting = tokio::spawn(async move { states.hold(3).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    faulty.set(Mode::Works);
    let held = soon(waiting).await.unwrap().unwrap();
    assert!(held.epoch() > epoch);
    assert_eq!(ticket.durable().await, Ok(()));
    assert_eq!(value(&held, "last").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_store_that_hangs_does_not_keep_the_origin_from_stopping() {
    let (faulty, objects) = Faulty::new();
    let origin = Origin::with("a", &objects, small);
    let held = origin.hold().await;
    faulty.set(Mode::Hangs);
    let ticket = held.write(put("key", "1")).unwrap();
    let from = Instant::now();
    origin.stopped().await;
    assert!(from.elapsed() < Duration::from_secs(5));
    assert_eq!(ticket.durable().await, Err(StateError::Closed));
    assert_eq!(held.lost().await, StateError::Closed);
    // What was cut off writes nothing, later.
    faulty.set(Mode::Works);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let next = Origin::new("b", &objects);
    assert_eq!(value(&next.hold().await, "key").await, None);
}

#[tokio::test]
async fn who_gives_up_opening_leaves_nothing_behind() {
    let (faulty, objects) = Faulty::new();
    let origin = Origin::new("a", &objects);
    faulty.set(Mode::Hangs);
    let given_up = timeout(Duration::from_millis(100), origin.states.hold(3)).await;
    assert!(given_up.is_err());
    faulty.set(Mode::Works);
    let held = origin.hold().await;
    write(&held, put("key", "1")).await;
    // Longer than a poll: nobody else has it open.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(held.lost().now_or_never().is_none());
}

#[tokio::test]
async fn what_is_something_else_is_said_to_be_corrupt() {
    let objects = memory();
    let origin = Origin::new("a", &objects);
    let manifest = Path::from("state/0003/manifest/00000000000000000001.manifest");
    objects.put(&manifest, "nonsense".into()).await.unwrap();
    let refused = origin.states.hold(3).await.unwrap_err();
    assert!(matches!(refused, StateError::Corrupt { .. }), "{refused:?}");
    // Others are not concerned.
    origin.states.hold(4).await.unwrap();
}
