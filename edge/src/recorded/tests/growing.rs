//! Recordings that grow while they are played.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_last_piece_is_asked_for_again_when_it_is_old() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    let recorded = &bench.recorded;
    fake.put(&show, File::growing(2, 3));
    let piece = recorded.piece(&show, 1, at_piece(1)).await.unwrap();
    assert_eq!((piece.follows, sequence(piece.next)), (Follows::Live, 13));
    // Whoever has it all asks for what comes next. For a moment that is nothing.
    fake.put(&show, File::growing(2, 7));
    let same = recorded.piece(&show, 1, at_frame(13)).await.unwrap();
    assert!(Arc::ptr_eq(&same, &piece));
    assert_eq!(fake.fetches(), 1);
    tokio::time::advance(Duration::from_millis(500)).await;
    assert!(recorded.cached(&show, 1, at_frame(13)).is_none());
    let grown = recorded.piece(&show, 1, at_frame(13)).await.unwrap();
    assert_eq!(
        (sequence(grown.first), sequence(grown.next), grown.follows),
        (10, 17, Follows::Live)
    );
    assert_eq!(grown.index_at(same.next), 3);
    assert!(recorded.cached(&show, 1, at_frame(17)).is_some());
    assert_eq!(fake.fetches(), 2);
    // It replaced the other, in the books, too.
    assert_eq!(
        bench.metric("recorded_cache_bytes"),
        f64::from(u32::try_from(grown.size()).unwrap())
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_at_the_end_goes_on_in_the_next_piece() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    let recorded = &bench.recorded;
    fake.put(&show, File::growing(2, 10));
    let piece = recorded.piece(&show, 1, at_piece(1)).await.unwrap();
    assert_eq!((piece.follows, sequence(piece.next)), (Follows::Live, 20));
    fake.put(&show, File::growing(3, 2));
    tokio::time::advance(Duration::from_millis(500)).await;
    let next = recorded.piece(&show, 1, at_frame(20)).await.unwrap();
    assert_eq!((sequence(next.first), sequence(next.next)), (20, 22));
    // By time as well.
    fake.put(&show, File::growing(4, 5));
    tokio::time::advance(Duration::from_millis(500)).await;
    let newest = recorded.piece(&show, 1, Place::Time(u64::MAX)).await;
    assert_eq!(sequence(newest.unwrap().first), 30);
    // And the piece before is now for good.
    tokio::time::advance(Duration::from_secs(3_600)).await;
    let before = recorded.cached(&show, 1, at_piece(2)).unwrap();
    assert_eq!((before.frames.len(), before.follows), (10, Follows::Piece));
}

#[tokio::test(start_paused = true)]
async fn many_viewers_at_the_end_cost_one_fetch_for_each_moment() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    fake.put(&show, File::growing(1, 1));
    let mut viewers = JoinSet::new();
    for _ in 0..100 {
        let (recorded, show) = (bench.recorded.clone(), show.clone());
        viewers.spawn(async move {
            let end = Instant::now() + Duration::from_secs(5);
            while Instant::now() < end {
                recorded.piece(&show, 1, Place::Time(0)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    while let Some(viewer) = viewers.join_next().await {
        viewer.unwrap();
    }
    assert!((9..=12).contains(&fake.fetches()), "{}", fake.fetches());
}

/// Nobody recorded when it was cached; then somebody published with `append`.
#[tokio::test(start_paused = true)]
async fn a_recording_that_is_appended_to_has_a_new_end() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    let recorded = &bench.recorded;
    fake.put(&show, File::closed(2));
    let last = recorded.piece(&show, 1, at_piece(1)).await.unwrap();
    assert_eq!(last.follows, Follows::End);
    tokio::time::advance(Duration::from_secs(10)).await;
    // A word of the origin is enough to know that it is as it was.
    let same = recorded.piece(&show, 1, at_piece(1)).await.unwrap();
    assert!(Arc::ptr_eq(&same, &last));
    assert_eq!((fake.fetches(), fake.describes()), (1, 1));
    assert!(recorded.cached(&show, 1, at_piece(1)).is_some());
    fake.put(&show, File::growing(3, 4));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(recorded.cached(&show, 1, at_piece(1)).is_none());
    let first = recorded.piece(&show, 1, at_frame(20)).await.unwrap();
    assert_eq!((sequence(first.first), sequence(first.next)), (20, 24));
    let before = recorded.cached(&show, 1, at_piece(1)).unwrap();
    assert_eq!(before.follows, Follows::Piece);
}

/// Of a window of the last minutes the beginning moves.
#[tokio::test(start_paused = true)]
async fn the_beginning_of_a_growing_recording_is_asked_for_again() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    let recorded = &bench.recorded;
    let mut file = File::growing(4, 5);
    fake.put(&show, file.clone());
    for _ in 0..10 {
        let first = recorded.piece(&show, 1, Place::Time(0)).await.unwrap();
        assert_eq!(sequence(first.first), 0);
    }
    assert_eq!(fake.fetches(), 1);
    file.pieces.remove(0);
    fake.put(&show, file);
    tokio::time::advance(Duration::from_millis(1_001)).await;
    let first = recorded.piece(&show, 1, Place::Time(0)).await.unwrap();
    assert_eq!(sequence(first.first), 10);
}

/// Sound came first, or an encoder that joined in the middle of a group of pictures.
#[tokio::test(start_paused = true)]
async fn a_recording_that_begins_without_a_key_frame_gets_one() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    let recorded = &bench.recorded;
    let without = |mut file: File| {
        file.pieces[0].frames.as_mut().unwrap().frames[0].flags = 0;
        file
    };
    fake.put(&show, without(File::growing(1, 3)));
    let newest = async || {
        let piece = recorded.piece(&show, 1, Place::Time(u64::MAX)).await;
        sequence(piece.unwrap().first)
    };
    for _ in 0..3 {
        assert_eq!(newest().await, 0);
    }
    assert_eq!(fake.fetches(), 1);
    fake.put(&show, without(File::growing(3, 3)));
    tokio::time::advance(Duration::from_secs(2)).await;
    for _ in 0..3 {
        assert_eq!(newest().await, 20);
    }
    assert!(fake.fetches() <= 3, "{}", fake.fetches());
    fake.put(&show, without(File::closed(4)));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(newest().await, 30);
    let first = recorded.piece(&show, 1, Place::Time(500)).await.unwrap();
    assert_eq!(sequence(first.first), 0);
}
