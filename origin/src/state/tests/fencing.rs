//! Two origins that both think that they own a partition.

use super::*;

#[tokio::test]
async fn whoever_opens_later_fences_who_was_there_also_when_that_is_idle() {
    let objects = memory();
    let (a, b) = (Origin::new("a", &objects), Origin::new("b", &objects));
    assert_eq!(a.states.owner_of(3).await, Ok(None));
    let old = a.hold().await;
    write(&old, put("key", "a")).await;
    let owner = a.states.owner_of(3).await.unwrap().unwrap();
    assert_eq!((owner.epoch, owner.node.as_str()), (old.epoch(), "a"));

    let new = b.hold().await;
    assert!(new.epoch() > old.epoch());
    assert_eq!(value(&new, "key").await.as_deref(), Some("a"));
    // Writes nothing: the poll finds out.
    let found = timeout(Duration::from_secs(2), old.lost()).await;
    assert_eq!(found, Ok(StateError::Fenced));
    assert!(matches!(
        old.write(put("key", "late")),
        Err(StateError::Fenced)
    ));
    let owner = a.states.owner_of(3).await.unwrap().unwrap();
    assert_eq!(
        owner,
        Owner {
            epoch: new.epoch(),
            node: "b".to_owned(),
            address: "b:1".to_owned(),
            left: false,
        }
    );
    a.wait_for_metric("fenced_total", 1.0).await;
    write(&new, put("key", "b")).await;
    assert_eq!(value(&new, "key").await.as_deref(), Some("b"));
}

#[tokio::test]
async fn it_is_left_alone_for_a_while_and_can_be_taken_back_then() {
    let objects = memory();
    let (a, b) = (Origin::new("a", &objects), Origin::new("b", &objects));
    let old = a.hold().await;
    let new = b.hold().await;
    assert_eq!(soon(old.lost()).await, StateError::Fenced);
    let from = Instant::now();
    let back = soon(async {
        loop {
            match a.states.hold(3).await {
                Ok(held) => break held,
                Err(error) => assert_eq!(error, StateError::Fenced),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(from.elapsed() > Duration::from_millis(400));
    assert!(back.epoch() > new.epoch());
    assert_eq!(soon(new.lost()).await, StateError::Fenced);
    // The old one is what it was.
    assert_eq!(old.lost().await, StateError::Fenced);
}

#[tokio::test]
async fn nothing_of_a_fenced_writer_becomes_durable_and_nothing_durable_is_lost() {
    for round in 0..5_u64 {
        let objects = memory();
        let (a, b) = (Origin::new("a", &objects), Origin::new("b", &objects));
        let old = a.hold().await;
        let writing = tokio::spawn(async move {
            let mut tickets = Vec::new();
            for number in 0_u32.. {
                match old.write(put(&format!("{number:06}"), "a")) {
                    Ok(ticket) => tickets.push(ticket),
                    Err(error) => {
                        assert_eq!(error, StateError::Fenced);
                        break;
                    }
                }
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
            let mut durable = 0;
            for ticket in tickets {
                match ticket.durable().await {
                    Ok(()) => durable += 1,
                    Err(error) => assert_eq!(error, StateError::Fenced),
                }
            }
            durable
        });
        tokio::time::sleep(Duration::from_millis(7 * round)).await;
        let new = b.hold().await;
        let found = rows(&new, "").await.len() - 1;
        let durable = soon(writing).await.unwrap();
        assert!(durable <= found, "{durable} were durable, {found} are");
        // What was sent and not answered may be there; what came later is not.
        write(&new, put("z", "b")).await;
        assert_eq!(rows(&new, "").await.len() - 2, found);
    }
}

#[tokio::test]
async fn a_writer_that_was_held_up_finds_out_with_its_next_write() {
    let objects = memory();
    // Does not look for itself.
    let a = Origin::with("a", &objects, |section| section.poll_ms = 60_000);
    let b = Origin::new("b", &objects);
    let old = a.hold().await;
    let new = b.hold().await;
    let ticket = old.write(put("key", "late")).unwrap();
    assert_eq!(soon(ticket.durable()).await, Err(StateError::Fenced));
    assert_eq!(soon(old.lost()).await, StateError::Fenced);
    assert_eq!(value(&new, "key").await, None);
}

#[tokio::test]
async fn what_has_gone_to_another_origin_is_closed_when_it_is_let_go_of() {
    let objects = memory();
    let a = Origin::with("a", &objects, |section| section.linger_ms = 600_000);
    let old = a.hold().await;
    a.states.place(|partition| partition != 3);
    // Still in use: it goes on.
    write(&old, put("key", "a")).await;
    drop(old);
    a.wait_for_metric("open", 0.0).await;
    let owner = a.states.owner_of(3).await.unwrap().unwrap();
    assert!(owner.left);
    // Nothing was taken from it.
    assert!((a.metric("fenced_total")).abs() < 0.1);

    // Whoever gets it back meanwhile is the writer, and not one of before.
    let b = Origin::new("b", &objects);
    let other = b.hold().await;
    write(&other, put("key", "b")).await;
    let again = a.hold().await;
    assert!(again.epoch() > other.epoch());
    assert_eq!(value(&again, "key").await.as_deref(), Some("b"));
}

#[tokio::test]
async fn one_that_is_taken_is_not_left_to_who_has_left_it() {
    let objects = memory();
    let a = Origin::with("a", &objects, |section| section.hold_off_ms = 600_000);
    let b = Origin::new("b", &objects);
    let old = a.hold().await;
    let new = b.hold().await;
    assert_eq!(soon(old.lost()).await, StateError::Fenced);
    a.wait_for_metric("open", 0.0).await;
    assert!(matches!(a.states.hold(3).await, Err(StateError::Fenced)));
    let owner = a.states.owner_of(3).await.unwrap().unwrap();
    assert_eq!((owner.node.as_str(), owner.left), ("b", false));

    drop(new);
    b.wait_for_metric("open", 0.0).await;
    let left = soon(async {
        loop {
            let owner = a.states.owner_of(3).await.unwrap().unwrap();
            if owner.left {
                break owner;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(left.node, "b");
    let again = a.states.hold_from(3, Other::Left).await.unwrap();
    assert!(again.epoch() > left.epoch);
    // Others share it.
    assert_eq!(a.hold().await.epoch(), again.epoch());
}
