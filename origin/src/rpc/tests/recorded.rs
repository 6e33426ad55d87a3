//! What a publisher that is recorded is told, in real time: what it is told depends on the disk.

use super::*;

/// Sends 30 frames and closes; gives what was told besides acknowledgements, and the last acknowledgement.
async fn publish(
    bench: &Bench,
    stream: &str,
    mode: v1::PublishMode,
) -> (Option<u64>, Vec<v1::RecordState>, (u64, u64)) {
    let open = v1::AppendOpen {
        mode: mode.into(),
        ..append_open(&name(stream), 1)
    };
    let mut publisher = Publisher::open(bench.client("a"), open).await;
    let timeline = publisher.accepted().await.timeline;
    publisher.push(0..30).await;
    publisher.close(CloseReason::Unpublished, None).await;
    let (mut states, mut last) = (Vec::new(), (0, 0));
    while let Some(answer) = publisher.answer().await.unwrap() {
        match answer {
            Answer::Acknowledged(it) => {
                assert!(it.durable <= it.accepted);
                assert!((it.accepted, it.durable) >= last);
                last = (it.accepted, it.durable);
            }
            Answer::Record(status) => states.push(status.state()),
            other => panic!("{other:?}"),
        }
    }
    (timeline, states, last)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_told_when_all_is_stored_before_its_call_ends() {
    let bench = Bench::one().await;
    let all = vec![v1::RecordState::Started, v1::RecordState::Stopped];
    let (_, states, last) = publish(&bench, "show", v1::PublishMode::Record).await;
    assert_eq!((states, last), (all.clone(), (30, 30)));
    // 29 pictures of 40 ms; whether it is a file by now or not.
    let (timeline, states, last) = publish(&bench, "show", v1::PublishMode::Append).await;
    let timeline = timeline.expect("no timeline");
    assert!((1_100..1_300).contains(&timeline), "{timeline}");
    assert_eq!((states, last), (all, (30, 30)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_cannot_be_recorded_publishes_all_the_same() {
    let bench = Bench::one().await;
    let (_, states, last) = publish(&bench, "mp3:song", v1::PublishMode::Record).await;
    assert_eq!(states, [v1::RecordState::NoAccess]);
    assert!(last == (0, 0) || last == (30, 30), "{last:?}");
    let (_, states, _) = publish(&bench, "show", v1::PublishMode::Live).await;
    assert_eq!(states, []);
}
