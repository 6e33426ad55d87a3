//! What encoders say of streams.

use std::sync::atomic::Ordering;

use super::*;
use crate::config::RecordedSection;

fn said(begin_offset_ms: u64) -> v1::StreamInfo {
    v1::StreamInfo {
        begin_offset_ms: Some(begin_offset_ms),
        ..v1::StreamInfo::default()
    }
}

async fn told(bench: &Bench, name: &StreamName) -> Option<v1::StreamInfo> {
    let description = bench.recorded.describe(name).await.unwrap();
    description.info.as_deref().copied()
}

#[tokio::test(start_paused = true)]
async fn who_says_something_sees_it_at_once() {
    for tells in [true, false] {
        let bench = Bench::one().await;
        let (fake, show) = (bench.fake("a"), name("show"));
        fake.put(&show, File::closed(1));
        fake.tells.store(tells, Ordering::Relaxed);
        assert_eq!(told(&bench, &show).await, None);
        for ms in [1, 2] {
            bench.recorded.set_info(&show, said(ms)).await.unwrap();
            assert_eq!(told(&bench, &show).await, Some(said(ms)), "tells: {tells}");
        }
        let described = bench.recorded.describe(&show).await.unwrap();
        assert!(described.stored.is_some());
        // The answers tell, or else the origin is asked again.
        assert_eq!(fake.describes(), if tells { 1 } else { 3 });
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_under_way_does_not_hide_it() {
    let bench = Bench::one().await;
    let (fake, show) = (bench.fake("a"), name("show"));
    fake.put(&show, File::closed(1));
    let mut waiting = fake.waiting.subscribe();
    fake.hung.send_replace(true);
    let recorded = bench.recorded.clone();
    let asked = tokio::spawn({
        let show = show.clone();
        async move { recorded.describe(&show).await }
    });
    waiting.wait_for(|waiting| *waiting == 1).await.unwrap();
    // It comes back to the edge before the answer to the question that was asked first, which knows nothing of it.
    bench.recorded.shared.descriptions.insert(
        &show,
        Ok(Description {
            info: Some(Arc::new(said(1))),
            ..Description::NOTHING
        }),
    );
    fake.hung.send_replace(false);
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.info.as_deref(), Some(&said(1)));
    assert_eq!(told(&bench, &show).await, Some(said(1)));
}

#[tokio::test(start_paused = true)]
async fn what_is_said_arrives_in_its_order() {
    let bench = Bench::one().await;
    let (fake, show) = (bench.fake("a"), name("show"));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let all: Vec<_> = (0..50)
                .map(|ms| {
                    let (recorded, show) = (bench.recorded.clone(), show.clone());
                    tokio::task::spawn_local(
                        async move { recorded.set_info(&show, said(ms)).await },
                    )
                })
                .collect();
            for one in all {
                one.await.unwrap().unwrap();
            }
        })
        .await;
    assert_eq!(fake.said.load(Ordering::Relaxed), 50);
    assert_eq!(told(&bench, &show).await, Some(said(49)));
}

#[tokio::test(start_paused = true)]
async fn it_is_seen_through_although_its_encoder_leaves() {
    let bench = Bench::one().await;
    let (fake, show) = (bench.fake("a"), name("show"));
    let mut waiting = fake.waiting.subscribe();
    fake.hung.send_replace(true);
    let saying = tokio::spawn({
        let (recorded, show) = (bench.recorded.clone(), show.clone());
        async move { recorded.set_info(&show, said(5)).await }
    });
    waiting.wait_for(|waiting| *waiting == 1).await.unwrap();
    saying.abort();
    fake.hung.send_replace(false);
    // Behind it.
    bench.recorded.set_info(&show, said(6)).await.unwrap();
    assert_eq!(fake.said.load(Ordering::Relaxed), 2);
    assert_eq!(told(&bench, &show).await, Some(said(6)));
}

#[tokio::test(start_paused = true)]
async fn moves_are_followed_and_refusals_passed_on() {
    let bench = Bench::start(&["a", "b"], RecordedSection::default()).await;
    let show = bench.origins.stream_of("a");
    *bench.fake("a").moved.lock() = Some("b");
    bench.recorded.set_info(&show, said(1)).await.unwrap();
    assert_eq!(told(&bench, &show).await, Some(said(1)));
    assert!(bench.fake("a").infos.lock().is_empty());

    use v1::RecordingReason as R;
    for (reason, times, expected) in [
        (R::NotFound, usize::MAX, Err(RecordedError::NotFound)),
        (R::Unavailable, 2, Ok(())),
        (R::Limit, 2, Ok(())),
    ] {
        *bench.fake("b").refuses.lock() = Some((reason, times));
        let outcome = bench.recorded.set_info(&show, said(2)).await;
        assert_eq!(outcome, expected, "{reason:?}");
    }
}

/// In a rolling upgrade the edges may be first.
#[tokio::test(start_paused = true)]
async fn an_origin_of_before_keeps_nothing_and_says_so() {
    let bench = Bench::with(&["a"], RecordedSection::default(), false).await;
    let began = Instant::now();
    let outcome = bench.recorded.set_info(&name("show"), said(1)).await;
    assert!(
        matches!(outcome, Err(RecordedError::Unavailable(_))),
        "{outcome:?}"
    );
    assert!(began.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn it_does_not_wait_for_ever() {
    let bench = Bench::one().await;
    bench.fake("a").hung.send_replace(true);
    let began = Instant::now();
    let show = name("show");
    let (one, two) = tokio::join!(
        bench.recorded.set_info(&show, said(1)),
        bench.recorded.set_info(&show, said(2)),
    );
    assert!(matches!(one, Err(RecordedError::Unavailable(_))), "{one:?}");
    assert!(two.is_err());
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "{:?}",
        began.elapsed()
    );
}
