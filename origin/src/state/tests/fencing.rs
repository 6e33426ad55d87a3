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
            address: "b:1".to_owned()
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
