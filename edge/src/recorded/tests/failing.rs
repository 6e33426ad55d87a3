//! Origins that move streams, hang, refuse and die.

use super::*;

async fn first(bench: &Bench, name: &StreamName) -> Result<Arc<Piece>, RecordedError> {
    bench.recorded.piece(name, 1, at_piece(0)).await
}

#[tokio::test(start_paused = true)]
async fn a_named_owner_is_asked_instead() {
    let bench = Bench::start(&["a", "b"], RecordedSection::default()).await;
    let show = bench.origins.stream_of("a");
    *bench.fake("a").moved.lock() = Some("b");
    bench.fake("b").put(&show, File::closed(1));
    assert!(first(&bench, &show).await.is_ok());
    assert!(
        bench
            .recorded
            .describe(&show)
            .await
            .unwrap()
            .stored
            .is_some()
    );
    assert_eq!(
        (bench.fake("a").fetches(), bench.fake("b").fetches()),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn origins_that_name_each_other_are_not_asked_for_ever() {
    let section = RecordedSection::default();
    let patience = Duration::from_millis(section.patience_ms);
    let bench = Bench::start(&["a", "b"], section).await;
    let show = bench.origins.stream_of("a");
    *bench.fake("a").moved.lock() = Some("b");
    *bench.fake("b").moved.lock() = Some("a");
    let began = Instant::now();
    let error = first(&bench, &show).await.unwrap_err();
    assert!(matches!(error, RecordedError::Unavailable(_)), "{error}");
    assert!(began.elapsed() <= patience + Duration::from_secs(1));
    // Followed once, then a pause: both as often, and not often.
    let (a, b) = (bench.fake("a").fetches(), bench.fake("b").fetches());
    assert!(a == b && a < 60, "{a} {b}");
    let errors = bench.metric("recorded_errors_total");
    assert_eq!(errors, 1.0);
}

#[tokio::test(start_paused = true)]
async fn the_next_origin_is_asked_when_one_dies() {
    let bench = Bench::start(&["a", "b"], RecordedSection::default()).await;
    let show = bench.origins.stream_of("a");
    for id in ["a", "b"] {
        bench.fake(id).put(&show, File::closed(2));
    }
    // Dies with the call in its hands.
    bench.fake("a").hung.send_replace(true);
    let asking = {
        let (recorded, show) = (bench.recorded.clone(), show.clone());
        tokio::spawn(async move { recorded.piece(&show, 1, at_piece(0)).await })
    };
    let mut waiting = bench.fake("a").waiting.subscribe();
    waiting.wait_for(|waiting| *waiting == 1).await.unwrap();
    bench.origins.kill("a");
    assert!(asking.await.unwrap().is_ok());
    assert!(bench.recorded.piece(&show, 1, at_piece(1)).await.is_ok());
    assert_eq!(bench.fake("b").fetches(), 2);
    let routings = bench.fake("b").traced.lock();
    let said = routings.last().unwrap();
    assert_eq!(said.unreachable, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_hangs_is_waited_for_no_longer_than_patience() {
    let section = RecordedSection::default();
    let longest = Duration::from_millis(section.patience_ms + section.call_timeout_ms);
    let bench = Bench::start(&["a", "b"], section).await;
    let fake = bench.fake("a");
    fake.hung.send_replace(true);
    let other = bench.origins.stream_of("b");
    bench.fake("b").put(&other, File::closed(1));
    // More than may be under way at one origin, fewer than may be in all.
    let mut asking = JoinSet::new();
    let streams: Vec<StreamName> = bench.origins.streams_of("a").take(100).collect();
    for show in &streams {
        let (recorded, show) = (bench.recorded.clone(), show.clone());
        asking.spawn(async move { recorded.piece(&show, 1, at_piece(0)).await });
    }
    let mut waiting = fake.waiting.subscribe();
    waiting.wait_for(|waiting| *waiting == 64).await.unwrap();
    let began = Instant::now();
    // Others are served meanwhile.
    assert!(first(&bench, &other).await.is_ok());
    assert!(began.elapsed() < Duration::from_millis(100));
    while let Some(outcome) = asking.join_next().await {
        let error = outcome.unwrap().unwrap_err();
        assert!(
            matches!(
                error,
                RecordedError::Unavailable(_) | RecordedError::Limit(_)
            ),
            "{error}"
        );
    }
    assert!(began.elapsed() <= longest, "{:?}", began.elapsed());
    assert!(
        began.elapsed() >= Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    // Nothing of it is left: places are free, and who asks again is answered.
    fake.hung.send_replace(false);
    fake.put(&streams[0], File::closed(1));
    assert!(first(&bench, &streams[0]).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_in_time_is_not_noticed() {
    let bench = Bench::one().await;
    let show = name("show");
    bench.fake("a").put(&show, File::closed(1));
    *bench.fake("a").refuses.lock() = Some((v1::RecordingReason::Unavailable, 3));
    assert!(first(&bench, &show).await.is_ok());
    assert_eq!(bench.fake("a").fetches(), 4);
}

#[tokio::test(start_paused = true)]
async fn refusals_say_why_and_are_asked_again_only_where_that_may_help() {
    use RecordedError as E;
    use v1::RecordingReason as R;
    let why: Arc<str> = "as the test wants".into();
    let cases = [
        (R::NotFound, E::NotFound, true),
        (R::Replaced, E::Replaced, true),
        (R::StructureInvalid, E::StructureInvalid(why.clone()), true),
        (R::NoSupportedTrack, E::NoSupportedTrack(why.clone()), true),
        (R::Invalid, E::Unavailable(why.clone()), true),
        (R::Unspecified, E::Unavailable(why.clone()), true),
        (R::Unavailable, E::Unavailable(why.clone()), false),
        (R::Limit, E::Limit(why), false),
    ];
    for (reason, expected, once) in cases {
        let bench = Bench::one().await;
        let fake = bench.fake("a");
        *fake.refuses.lock() = Some((reason, usize::MAX));
        let show = name("show");
        assert_eq!(first(&bench, &show).await.unwrap_err(), expected);
        assert_eq!(fake.fetches() == 1, once, "{reason:?}: {}", fake.fetches());
        // Of a name, that there is nothing is an answer and no error. It is known for a second, whatever it is.
        for _ in 0..2 {
            let described = bench.recorded.describe(&show).await;
            match &expected {
                E::NotFound => assert_eq!(described, Ok(Description::NOTHING)),
                expected => assert_eq!(described.as_ref(), Err(expected)),
            }
        }
        assert_eq!(
            fake.describes() == 1,
            once,
            "{reason:?}: {}",
            fake.describes()
        );
    }
}

/// In a rolling upgrade the edges may be first.
#[tokio::test(start_paused = true)]
async fn an_origin_that_knows_no_recordings_has_none() {
    let bench = Bench::with(&["a"], RecordedSection::default(), false).await;
    let show = name("show");
    let began = Instant::now();
    assert_eq!(
        bench.recorded.describe(&show).await,
        Ok(Description::NOTHING)
    );
    assert_eq!(
        first(&bench, &show).await.unwrap_err(),
        RecordedError::NotFound
    );
    assert!(began.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn without_an_origin_there_is_an_error_in_the_end() {
    let bench = Bench::one().await;
    bench.origins.kill("a");
    let began = Instant::now();
    let error = bench.recorded.describe(&name("show")).await.unwrap_err();
    assert!(matches!(error, RecordedError::Unavailable(_)), "{error}");
    assert!(
        began.elapsed() <= Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_here_is_served_while_no_origin_can_be_reached() {
    let bench = Bench::one().await;
    let (show, live) = (name("show"), name("live"));
    let fake = bench.fake("a");
    fake.put(&show, File::closed(2));
    fake.put(&live, File::growing(2, 5));
    let play = async |name: &StreamName| {
        let stored = bench.recorded.describe(name).await.unwrap().stored.unwrap();
        let mut place = Place::Time(0);
        let mut frames = 0;
        loop {
            let piece = bench.recorded.piece(name, stored.generation, place).await;
            let piece = piece.unwrap();
            frames += piece.frames.len();
            place = Place::Offset(piece.next);
            if piece.follows != Follows::Piece {
                return frames;
            }
        }
    };
    assert_eq!([play(&show).await, play(&live).await], [20, 15]);
    let (fetches, describes) = (fake.fetches(), fake.describes());
    bench.origins.kill("a");
    let node = headwater_cluster::NodeId::new("a").unwrap();
    bench.origins.upstream.lost(&node).await;
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(60)).await;
        let began = Instant::now();
        assert_eq!([play(&show).await, play(&live).await], [20, 15]);
        assert!(began.elapsed() < Duration::from_millis(50), "nobody waits");
    }
    // What is not here is not.
    let missing = bench.recorded.piece(&show, 1, at_piece(7)).await;
    assert!(matches!(missing, Err(RecordedError::Unavailable(_))));
    assert_eq!((fake.fetches(), fake.describes()), (fetches, describes));
}

/// It can be reached, and says nothing: that takes as long as patience the first time.
#[tokio::test(start_paused = true)]
async fn what_is_here_is_served_while_an_origin_hangs() {
    let bench = Bench::one().await;
    let show = name("show");
    let fake = bench.fake("a");
    fake.put(&show, File::closed(1));
    let piece = bench.recorded.piece(&show, 0, Place::Time(0)).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    fake.hung.send_replace(true);
    let began = Instant::now();
    let again = bench.recorded.piece(&show, 0, Place::Time(0)).await;
    assert!(Arc::ptr_eq(&piece.unwrap(), &again.unwrap()));
    let patience = Duration::from_millis(RecordedSection::default().patience_ms);
    assert!(
        began.elapsed() <= patience + Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}
