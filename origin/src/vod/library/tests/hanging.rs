//! Stores and disks that hang, are slow, or fail.

use super::*;

/// Waits for what takes time.
async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let output = future.await;
    (output, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_waited_for_no_longer_than_allowed() {
    let bench = Bench::new();
    bench.store.put(&path("show.flv"), 1, b"abcde");
    bench.store.hang(true);
    let asked = Instant::now();
    assert!(unavailable(bench.find("show").await));
    assert_eq!(asked.elapsed(), section().read_timeout());
    bench.store.hang(false);
    // The call itself is given up in the same moment.
    until(|| bench.library.shared.checks.len() + bench.library.shared.searches.len() == 0).await;
    bench.find("show").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_takes_away_nothing_that_is_open() {
    let bench = Bench::new();
    bench.store.put(&path("show.flv"), 1, b"abcde");
    let found = bench.find("show").await.unwrap();
    bench.store.fail(true);
    past(section().revalidate()).await;
    let asked = bench.store.asked();
    for _ in 0..5 {
        let still = bench.find("show").await.unwrap();
        assert_eq!(still.generation(), found.generation());
    }
    assert_eq!(bench.store.asked(), asked + 1, "not by every caller");
    assert!(unavailable(bench.find("other").await));
    bench.store.fail(false);
    bench.store.put(&path("show.flv"), 2, b"vwxyz");
    past(section().revalidate()).await;
    let new = bench.find("show").await.unwrap();
    assert_ne!(new.generation(), found.generation());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_takes_away_nothing_that_is_open() {
    let bench = Bench::new();
    bench.store.put(&path("show.flv"), 1, b"abcdefghij");
    let found = bench.find("show").await.unwrap();
    bench.store.hang(true);
    let asked = bench.store.asked();
    for turn in 0..10 {
        past(section().revalidate()).await;
        let (still, took) = timed(bench.find("show")).await;
        assert_eq!(still.unwrap().generation(), found.generation());
        assert!(took <= OPEN_PATIENCE, "{took:?}");
        let (again, took) = timed(bench.find("show")).await;
        assert_eq!(again.unwrap().generation(), found.generation());
        assert_eq!(took, Duration::ZERO, "one caller waits for all");
        let at = At::Position(turn % 5 * 2);
        let (read, took) = timed(bench.library.piece(&found, at)).await;
        assert_eq!((read.unwrap().frames.len(), took), (2, Duration::ZERO));
    }
    assert!(
        bench.store.asked() <= asked + 3,
        "the one call is waited for"
    );
    bench.store.hang(false);
    bench.store.put(&path("show.flv"), 2, b"vwxyz");
    // The call that hangs is given up, and what is late is asked for again.
    past(section().read_timeout()).await;
    until(|| bench.library.shared.checks.len() == 0).await;
    past(section().revalidate()).await;
    let new = bench.find("show").await.unwrap();
    assert_ne!(new.generation(), found.generation());
}

#[tokio::test(start_paused = true)]
async fn what_a_name_meant_is_read_on_where_the_store_cannot_say_what_it_means() {
    let bench = Bench::new();
    bench.store.put(&path("show.mov"), 1, b"mov");
    let mov = bench.find("mp4:show").await.unwrap();
    for hang in [true, false] {
        bench.store.hang(hang);
        bench.store.fail(!hang);
        past(section().revalidate()).await;
        let (still, took) = timed(bench.find("mp4:show")).await;
        assert_eq!(still.unwrap().generation(), mov.generation());
        assert!(took <= OPEN_PATIENCE, "{took:?}");
        let (_, took) = timed(bench.find("mp4:show")).await;
        assert_eq!(took, Duration::ZERO);
        bench.store.hang(false);
        bench.store.fail(false);
        past(section().read_timeout()).await;
    }
    bench.store.put(&path("show.mp4"), 1, b"mp4");
    let mp4 = bench.find("mp4:show").await.unwrap();
    assert_ne!(mp4.generation(), mov.generation());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_late_counts_when_it_comes() {
    let bench = Bench::new();
    bench.store.put(&path("show.mov"), 1, b"mov");
    let old = bench.find("mp4:show").await.unwrap();
    // Twelve requests, one after the other, take longer than anybody waits who has something to watch.
    bench.store.delay(OPEN_PATIENCE / 2);
    bench.store.put(&path("show.f4v"), 1, b"f4v");
    past(section().revalidate()).await;
    assert_eq!(
        bench.find("mp4:show").await.unwrap().generation(),
        old.generation()
    );
    past(section().revalidate()).await;
    let new = bench.find("mp4:show").await.unwrap();
    assert_ne!(new.generation(), old.generation());
}

#[tokio::test(start_paused = true)]
async fn who_names_the_generation_costs_the_store_one_look() {
    let bench = Bench::new();
    let show = name("_definst_", "mp4:show");
    assert!(bench.library.held(&show, 1).await.is_none());
    bench.store.put(&path("show.mov"), 1, b"mov");
    let found = bench.library.find(&show).await.unwrap();
    let asked = bench.store.asked();
    for turn in 1..=5 {
        past(section().revalidate()).await;
        for _ in 0..3 {
            let held = bench.library.held(&show, found.generation()).await;
            assert!(Arc::ptr_eq(&held.unwrap(), &found));
        }
        assert_eq!(bench.store.asked(), asked + turn);
    }
    let other = bench.library.held(&show, found.generation() ^ 1).await;
    assert!(other.is_none());
    // Another file takes the name, not the viewers of this one.
    bench.store.put(&path("show.mp4"), 1, b"mp4");
    past(section().revalidate()).await;
    let held = bench.library.held(&show, found.generation()).await;
    assert!(Arc::ptr_eq(&held.unwrap(), &found));
    bench.store.put(&path("show.mov"), 2, b"new");
    past(section().revalidate()).await;
    let held = bench.library.held(&show, found.generation()).await;
    assert!(held.is_none(), "it was replaced");
}

#[tokio::test(start_paused = true)]
async fn files_that_hang_keep_their_threads_and_no_more() {
    let bench = Bench::with(&VodSection {
        max_reads: 8,
        ..section()
    });
    bench.store.put(&path("show.flv"), 1, b"abcdefghij");
    let found = bench.find("show").await.unwrap();
    let hold = bench.formats.hold(Step::Read);
    let stuck: Vec<_> = [0, 2]
        .map(|at| bench.reading(&found, At::Position(at)))
        .into();
    until(|| bench.formats.held(Step::Read) == 2).await;
    let third = bench.reading(&found, At::Position(4));
    let again = bench.reading(&found, At::Position(0));
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.formats.held(Step::Read), 2);
    past(section().read_timeout()).await;
    for reader in stuck.into_iter().chain([third, again]) {
        assert!(unavailable(reader.await.unwrap()));
    }
    // Who asks again meanwhile waits for the same thread.
    let late = bench.reading(&found, At::Position(2));
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    hold.release();
    assert_eq!(text(&late.await.unwrap().unwrap()), "cd");
    let free = bench.library.piece(&found, At::Position(4)).await.unwrap();
    assert_eq!(text(&free), "ef");
    assert_eq!(bench.formats.reads(), 3);
}

/// Lets everything happen that can without time passing.
async fn settle() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_hangs_keeps_nobody_from_others() {
    let bench = Bench::with(&VodSection {
        max_reads: 8,
        ..section()
    });
    for file in ["slow", "good"] {
        let path = path(&format!("{file}.flv"));
        bench.store.put(&path, 1, b"abcdefghijklmnopqrst");
    }
    let slow = bench.find("slow").await.unwrap();
    let good = bench.find("good").await.unwrap();
    let hold = bench.formats.hold(Step::Read);
    let stuck: Vec<_> = (0..10)
        .map(|piece| bench.reading(&slow, At::Position(piece * 2)))
        .collect();
    until(|| bench.formats.held(Step::Read) == 2).await;
    settle().await;
    assert_eq!(bench.formats.held(Step::Read), 2, "a quarter");
    let others: Vec<_> = [0, 2]
        .map(|at| bench.reading(&good, At::Position(at)))
        .into();
    until(|| bench.formats.held(Step::Read) == 4).await;
    hold.release();
    for reader in stuck.into_iter().chain(others) {
        assert_eq!(text(&reader.await.unwrap().unwrap()).len(), 2);
    }
    assert_eq!(bench.library.shared.reads.available_permits(), 8);
}

#[tokio::test(start_paused = true)]
async fn files_that_hang_while_they_are_opened_keep_nobody_from_those_that_are() {
    let bench = Bench::with(&VodSection {
        max_reads: 4,
        ..section()
    });
    bench.store.put(&path("good.flv"), 1, b"abcde");
    let good = bench.find("good").await.unwrap();
    let hold = bench.formats.hold(Step::Open);
    let mut opening = Vec::new();
    for number in 0..6 {
        let file = format!("slow-{number}");
        bench
            .store
            .put(&path(&format!("{file}.flv")), 1, b"abcdefghij");
        opening.push(bench.finding(&file));
    }
    until(|| bench.formats.held(Step::Open) == 2).await;
    settle().await;
    assert_eq!(bench.formats.held(Step::Open), 2, "half");
    let read = bench.library.piece(&good, At::Position(0)).await;
    assert_eq!(text(&read.unwrap()), "ab");
    hold.release();
    for found in opening {
        found.await.unwrap().unwrap();
    }
}
