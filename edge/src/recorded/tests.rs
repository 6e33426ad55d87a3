//! The edge's view of stored streams over real gRPC, in one process and on a paused clock.

use std::time::Duration;

use headwater_media::name::StreamName;
use headwater_proto::v1;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

mod bench;
mod failing;
mod growing;
mod index;
mod info;
mod pieces;

use crate::testing::name;
use bench::{Bench, File, at_frame, at_piece, sequence};

#[tokio::test(start_paused = true)]
async fn many_viewers_of_one_file_cost_one_fetch_each_piece() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    fake.put(&show, File::closed(3));
    // Nobody is answered before all have asked.
    fake.hung.send_replace(true);
    let mut viewers = JoinSet::new();
    for _ in 0..500 {
        let (recorded, show) = (bench.recorded.clone(), show.clone());
        viewers.spawn(async move {
            let stored = recorded.describe(&show).await.unwrap().stored.unwrap();
            let mut place = Place::Time(0);
            let mut frames = 0;
            loop {
                let piece = recorded.piece(&show, stored.generation, place).await;
                let piece = piece.unwrap();
                frames += piece.frames.len();
                if piece.follows == Follows::End {
                    return frames;
                }
                place = Place::Offset(piece.next);
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    fake.hung.send_replace(false);
    while let Some(frames) = viewers.join_next().await {
        assert_eq!(frames.unwrap(), 30);
    }
    assert_eq!((fake.describes(), fake.fetches()), (1, 3));
    let (hits, misses) = (
        bench.metric("recorded_hits_total"),
        bench.metric("recorded_misses_total"),
    );
    assert!(misses >= 3.0 && hits + misses == 1_500.0, "{hits} {misses}");
    assert_eq!(bench.metric("recorded_fetch_seconds_count"), 3.0);
    let cached = bench.metric("recorded_cache_bytes");
    assert!((30_000.0..60_000.0).contains(&cached), "{cached}");
}

#[tokio::test(start_paused = true)]
async fn what_is_cached_needs_no_waiting() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    fake.put(&show, File::closed(3));
    let recorded = &bench.recorded;
    assert!(recorded.cached(&show, 1, at_piece(0)).is_none());
    assert_eq!(fake.fetches(), 0);
    let fetched = recorded.piece(&show, 0, at_piece(1)).await.unwrap();
    assert_eq!(fetched.generation, 1);
    for place in [
        at_piece(1),
        at_frame(13),
        Place::Time(2_100),
        Place::Time(4_099),
    ] {
        let cached = recorded.cached(&show, 1, place);
        assert!(
            cached.is_some_and(|cached| Arc::ptr_eq(&cached, &fetched)),
            "{place:?}"
        );
    }
    // Known from the description.
    assert!(recorded.cached(&show, 0, at_piece(1)).is_some());
    assert!(recorded.cached(&show, 2, at_piece(1)).is_none());
    assert!(recorded.cached(&show, 1, Place::Time(2_099)).is_none());
    assert!(recorded.cached(&show, 1, Place::Time(4_100)).is_none());
    assert!(recorded.cached(&show, 1, at_piece(2)).is_none());
    assert!(recorded.cached(&name("other"), 1, at_piece(1)).is_none());
    assert_eq!(fake.fetches(), 1);
}

/// What the player asks for first: 0, although the first frame of a file is seldom there.
#[tokio::test(start_paused = true)]
async fn the_beginning_is_cached_too() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    fake.put(&show, File::closed(3));
    for _ in 0..50 {
        let first = bench.recorded.piece(&show, 0, Place::Time(0)).await;
        assert_eq!(sequence(first.unwrap().first), 0);
        tokio::time::advance(Duration::from_millis(700)).await;
    }
    assert_eq!(fake.fetches(), 1);
    // Whether it was appended to has to be asked now and then, but not for each viewer.
    assert!(fake.describes() <= 26, "{}", fake.describes());
}

#[tokio::test(start_paused = true)]
async fn places_past_the_end_are_in_the_last_piece() {
    let bench = Bench::one().await;
    let show = name("show");
    bench.fake("a").put(&show, File::closed(3));
    for _ in 0..2 {
        let last = bench.recorded.piece(&show, 1, Place::Time(1_000_000)).await;
        let last = last.unwrap();
        assert_eq!((sequence(last.first), last.follows), (20, Follows::End));
    }
    assert_eq!(bench.fake("a").fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_prefetched_piece_is_here_when_it_is_asked_for() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    fake.put(&show, File::closed(3));
    bench.recorded.prefetch(&show, 1, at_piece(1));
    bench.recorded.prefetch(&show, 1, at_piece(1));
    // Joins the one that is under way.
    bench.recorded.piece(&show, 1, at_piece(1)).await.unwrap();
    bench.recorded.prefetch(&show, 1, at_piece(1));
    assert!(bench.recorded.cached(&show, 1, at_piece(1)).is_some());
    assert_eq!(fake.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_prefetched_while_there_is_enough_to_fetch() {
    let section = RecordedSection {
        max_fetches: 1,
        ..RecordedSection::default()
    };
    let bench = Bench::start(&["a"], section).await;
    let show = name("show");
    let fake = bench.fake("a");
    fake.put(&show, File::closed(3));
    fake.hung.send_replace(true);
    bench.recorded.prefetch(&show, 1, at_piece(0));
    let mut waiting = fake.waiting.subscribe();
    waiting.wait_for(|waiting| *waiting == 1).await.unwrap();
    bench.recorded.prefetch(&show, 1, at_piece(1));
    fake.hung.send_replace(false);
    // After the one that holds the only place.
    bench.recorded.piece(&show, 1, at_piece(2)).await.unwrap();
    assert!(bench.recorded.cached(&show, 1, at_piece(0)).is_some());
    assert!(bench.recorded.cached(&show, 1, at_piece(1)).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_leaves_takes_nothing_from_others() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    fake.put(&show, File::closed(1));
    fake.hung.send_replace(true);
    let ask = || {
        let (recorded, show) = (bench.recorded.clone(), show.clone());
        tokio::spawn(async move { recorded.piece(&show, 1, at_piece(0)).await })
    };
    let first = ask();
    let mut waiting = fake.waiting.subscribe();
    waiting.wait_for(|waiting| *waiting == 1).await.unwrap();
    let second = ask();
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    fake.hung.send_replace(false);
    assert!(second.await.unwrap().is_ok());
    assert_eq!(fake.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_is_not_asked() {
    let section = RecordedSection {
        max_fetches_per_origin: 1,
        ..RecordedSection::default()
    };
    let bench = Bench::start(&["a"], section).await;
    let show = name("show");
    let fake = bench.fake("a");
    fake.put(&show, File::closed(3));
    fake.hung.send_replace(true);
    let ask = |number| {
        let (recorded, show) = (bench.recorded.clone(), show.clone());
        tokio::spawn(async move { recorded.piece(&show, 1, at_piece(number)).await })
    };
    let (first, second, third) = (ask(0), ask(1), ask(2));
    let mut waiting = fake.waiting.subscribe();
    waiting.wait_for(|waiting| *waiting == 1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    first.abort();
    second.abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    fake.hung.send_replace(false);
    assert!(third.await.unwrap().is_ok());
    assert_eq!(fake.fetches(), 2);
    // It was being asked already.
    assert!(bench.recorded.cached(&show, 1, at_piece(0)).is_some());
    assert!(bench.recorded.cached(&show, 1, at_piece(1)).is_none());
    // Nobody failed.
    assert!(ask(1).await.unwrap().is_ok());
    assert_eq!(bench.metric("recorded_fetch_seconds_count"), 3.0);
}

#[tokio::test(start_paused = true)]
async fn one_client_leaves_room_for_others() {
    let section = RecordedSection {
        max_fetches_per_origin: CLIENT_QUESTIONS + 1,
        ..RecordedSection::default()
    };
    let bench = Bench::start(&["a"], section).await;
    let show = name("show");
    let fake = bench.fake("a");
    fake.put(&show, File::closed(200));
    fake.hung.send_replace(true);
    let greedy = bench.recorded.for_client();
    let ask = |recorded: &Recorded, number| {
        let (recorded, show) = (recorded.clone(), show.clone());
        async move { recorded.piece(&show, 1, at_piece(number)).await }
    };
    let mut asking = JoinSet::new();
    for round in 0..5 {
        for number in 0..20 {
            asking.spawn(ask(&greedy, round * 20 + number));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        greedy.prefetch(&show, 1, at_piece(150));
        // What it asked for is under way still.
        asking.abort_all();
        while asking.join_next().await.is_some() {}
        assert_eq!(*fake.waiting.borrow(), CLIENT_QUESTIONS);
    }
    let other = tokio::spawn(ask(&bench.recorded.for_client(), 199));
    let mut waiting = fake.waiting.subscribe();
    waiting
        .wait_for(|waiting| *waiting == CLIENT_QUESTIONS + 1)
        .await
        .unwrap();
    fake.hung.send_replace(false);
    assert!(other.await.unwrap().is_ok());
    assert!(ask(&greedy, 150).await.is_ok(), "and for itself");
    assert_eq!(fake.fetches(), CLIENT_QUESTIONS + 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_used_for_the_longest_time_goes_first() {
    let section = RecordedSection {
        // Below what the configuration allows: two and a half pieces.
        cache_bytes: 28_000,
        ..RecordedSection::default()
    };
    let bench = Bench::start(&["a"], section).await;
    let show = name("show");
    let fake = bench.fake("a");
    fake.put(&show, File::closed(5));
    let recorded = &bench.recorded;
    for number in [0, 1, 0, 2] {
        recorded.piece(&show, 1, at_piece(number)).await.unwrap();
    }
    let held = |number| recorded.cached(&show, 1, at_piece(number)).is_some();
    assert_eq!([0, 1, 2].map(held), [true, false, true]);
    assert!(bench.metric("recorded_cache_bytes") <= 28_000.0);
    // Times lead nowhere either.
    assert!(recorded.cached(&show, 1, Place::Time(2_500)).is_none());
    assert_eq!(fake.fetches(), 3);
    recorded.piece(&show, 1, Place::Time(2_500)).await.unwrap();
    assert_eq!(fake.fetches(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_replaced_is_another_one() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    let recorded = &bench.recorded;
    fake.put(&show, File::closed(3));
    let old = recorded.piece(&show, 0, at_piece(0)).await.unwrap();
    fake.put(&show, File::closed(3).generation(2));
    // What is here of the old one is still that.
    let again = recorded.piece(&show, 1, at_piece(0)).await.unwrap();
    assert!(Arc::ptr_eq(&old, &again));
    assert_eq!(
        recorded.piece(&show, 1, at_piece(1)).await.unwrap_err(),
        RecordedError::Replaced
    );
    // Known at once, not when the description is too old.
    let stored = recorded.describe(&show).await.unwrap().stored.unwrap();
    assert_eq!(stored.generation, 2);
    let new = recorded.piece(&show, 0, at_piece(0)).await.unwrap();
    assert_eq!(new.generation, 2);
    assert!(recorded.cached(&show, 1, at_piece(0)).is_some());
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_any_generation_is_not_told_of_a_replacement() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    let recorded = &bench.recorded;
    fake.put(&show, File::closed(3));
    recorded.piece(&show, 0, at_piece(0)).await.unwrap();
    fake.put(&show, File::closed(3).generation(2));
    let new = recorded.piece(&show, 0, at_piece(1)).await.unwrap();
    assert_eq!(new.generation, 2);
}

#[tokio::test(start_paused = true)]
async fn descriptions_are_shared_for_a_second_those_of_nothing_too() {
    let bench = Bench::one().await;
    let fake = bench.fake("a");
    let (show, missing) = (name("show"), name("missing"));
    fake.put(&show, File::closed(3));
    let expected = Stored {
        generation: 1,
        start_ms: 100,
        end_ms: 6_100,
        bytes: 1,
        growing: false,
        has_audio: false,
        has_video: true,
    };
    for name in [&show, &missing] {
        for round in 1..=2 {
            let before = fake.describes();
            for _ in 0..10 {
                let found = bench.recorded.describe(name).await.unwrap();
                assert_eq!(found.stored, (*name == show).then_some(expected));
                assert!(!found.publishing);
            }
            assert_eq!(fake.describes(), before + 1, "{name} {round}");
            tokio::time::advance(Duration::from_millis(1_001)).await;
        }
    }
    let error = bench.recorded.piece(&missing, 0, Place::Time(0)).await;
    assert_eq!(error.unwrap_err(), RecordedError::NotFound);
    assert_eq!(fake.fetches(), 0);
    let error = bench.recorded.piece(&missing, 1, Place::Time(0)).await;
    assert_eq!(error.unwrap_err(), RecordedError::NotFound);
    assert_eq!(fake.fetches(), 1);
}

/// Seeks to many places of one piece, at once.
#[tokio::test(start_paused = true)]
async fn a_piece_that_came_meanwhile_is_not_fetched_again() {
    let section = RecordedSection {
        max_fetches_per_origin: 2,
        ..RecordedSection::default()
    };
    let bench = Bench::start(&["a"], section).await;
    let show = name("show");
    let fake = bench.fake("a");
    fake.put(&show, File::closed(3));
    fake.hung.send_replace(true);
    let mut viewers = JoinSet::new();
    for ms in 2_100..2_200 {
        let (recorded, show) = (bench.recorded.clone(), show.clone());
        viewers.spawn(async move { recorded.piece(&show, 1, Place::Time(ms)).await });
    }
    let mut waiting = fake.waiting.subscribe();
    waiting.wait_for(|waiting| *waiting == 2).await.unwrap();
    fake.hung.send_replace(false);
    while let Some(piece) = viewers.join_next().await {
        assert_eq!(sequence(piece.unwrap().unwrap().first), 10);
    }
    assert_eq!(fake.fetches(), 2);
    assert_eq!(bench.metric("recorded_fetch_seconds_count"), 2.0);
}
