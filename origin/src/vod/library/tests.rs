//! The library over a store and files that do what the test says, on a paused clock. Files are read on real threads.

pub(crate) mod fakes;
mod hanging;

use std::sync::Weak;

use headwater_media::name::{DEFAULT_INSTANCE, DEFAULT_VHOST};
use headwater_node::metrics::Metrics;
use tokio::task::JoinSet;

use super::super::config::VirtualDirectory;
use super::*;
use fakes::{FakeFormats, FakeStore, Step};

const FOLDER: &str = "applications/vod/streams/_definst_";

struct Bench {
    library: Library,
    store: Arc<FakeStore>,
    formats: Arc<FakeFormats>,
    metrics: Metrics,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn section() -> VodSection {
    VodSection {
        directories: Vec::new(),
        ..VodSection::default()
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(&section())
    }

    fn with(section: &VodSection) -> Self {
        let (store, formats) = (
            Arc::new(FakeStore::default()),
            Arc::new(FakeFormats::default()),
        );
        let metrics = Metrics::new("a", "origin");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let library = Library::new(
            section,
            Arc::clone(&store) as Arc<dyn FileStore>,
            Arc::clone(&formats) as Arc<dyn OpenMedia>,
            VodMetrics::new(&metrics),
            &tasks,
            stop.clone(),
        );
        Self {
            library,
            store,
            formats,
            metrics,
            tasks,
            stop,
        }
    }

    async fn find(&self, stream: &str) -> Outcome {
        self.library.find(&name("_definst_", stream)).await
    }

    /// Starts to look for a stream.
    fn finding(&self, stream: &str) -> tokio::task::JoinHandle<Outcome> {
        let (library, name) = (self.library.clone(), name("_definst_", stream));
        tokio::spawn(async move { library.find(&name).await })
    }

    fn reading(&self, found: &Arc<OpenFile>, at: At) -> tokio::task::JoinHandle<Read> {
        let (library, found) = (self.library.clone(), found.clone());
        tokio::spawn(async move { library.piece(&found, at).await })
    }

    fn metric(&self, metric: &str) -> String {
        let text = self.metrics.encode();
        let start = format!("headwater_origin_{metric}{{node=");
        let line = text.lines().find(|line| line.starts_with(&start));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    }
}

fn name(instance: &str, stream: &str) -> StreamName {
    StreamName::new(DEFAULT_VHOST, "vod", instance, stream).unwrap()
}

fn path(file: &str) -> String {
    format!("{FOLDER}/{file}")
}

fn text(piece: &FilePiece) -> String {
    let bytes = piece.frames.iter().flat_map(|frame| frame.payload.to_vec());
    String::from_utf8(bytes.collect()).unwrap()
}

async fn past(duration: Duration) {
    tokio::time::advance(duration).await;
}

/// Lets everything happen that can without time passing.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..1_000_000 {
        if what() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it does not happen");
}

fn unavailable<T>(outcome: Result<T, VodError>) -> bool {
    matches!(outcome, Err(VodError::Unavailable(_)))
}

#[tokio::test(start_paused = true)]
async fn a_file_is_read_piece_by_piece() {
    let bench = Bench::new();
    bench.store.put(&path("show.flv"), 1, b"abcde");
    let found = bench.find("show").await.unwrap();
    assert_eq!(found.bytes(), 5);
    assert_eq!(found.info().duration_ms, 5_000);
    let first = bench.library.piece(&found, At::Time(0)).await.unwrap();
    assert_eq!((text(&first).as_str(), first.next), ("ab", Some(2)));
    let second = bench.library.piece(&found, At::Position(2)).await.unwrap();
    assert_eq!((text(&second).as_str(), second.next), ("cd", Some(4)));
    let last = bench.library.piece(&found, At::Time(99_999)).await.unwrap();
    assert_eq!((text(&last).as_str(), last.next), ("e", None));
    let nowhere = bench.library.piece(&found, At::Position(3)).await;
    assert!(
        matches!(nowhere, Err(VodError::Invalid { .. })),
        "{nowhere:?}"
    );
    assert_eq!(bench.metric("vod_pieces_total"), "3");
    assert_eq!(
        bench.metric("vod_bytes_total"),
        (5 + 3 * fakes::ON_META_DATA.len()).to_string()
    );
    assert_eq!(bench.find("other").await.err().unwrap(), VodError::NotFound);
}

#[tokio::test(start_paused = true)]
async fn many_callers_open_a_file_once_and_read_a_piece_once() {
    let bench = Bench::new();
    bench.store.put(&path("show.flv"), 1, b"abcde");
    let open = bench.formats.hold(Step::Open);
    let callers: Vec<_> = (0..50).map(|_| bench.finding("show")).collect();
    until(|| bench.formats.held(Step::Open) == 1).await;
    open.release();
    let mut found = Vec::new();
    for caller in callers {
        found.push(caller.await.unwrap().unwrap());
    }
    assert_eq!(bench.store.asked(), 1);
    assert_eq!(bench.formats.opened(), 1);
    let generations: Vec<_> = found.iter().map(|it| it.generation()).collect();
    assert!(
        generations
            .iter()
            .all(|it| *it == generations[0] && *it != 0)
    );

    let read = bench.formats.hold(Step::Read);
    let readers: Vec<_> = found
        .iter()
        .map(|found| bench.reading(found, At::Time(0)))
        .collect();
    until(|| bench.formats.held(Step::Read) == 1).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    read.release();
    let mut pieces = Vec::new();
    for reader in readers {
        pieces.push(reader.await.unwrap().unwrap());
    }
    assert!(pieces.iter().all(|piece| Arc::ptr_eq(piece, &pieces[0])));
    assert_eq!(bench.formats.reads(), 1);
    assert_eq!(bench.metric("vod_shared_reads_total"), "49");
    // Nothing is kept.
    bench.library.piece(&found[0], At::Time(0)).await.unwrap();
    assert_eq!(bench.formats.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_store_is_asked_now_and_then_whether_a_file_is_the_same() {
    let bench = Bench::new();
    bench.store.put(&path("show.flv"), 1, b"abcde");
    let first = bench.find("show").await.unwrap();
    let asked = bench.store.asked();
    for _ in 0..9 {
        past(Duration::from_millis(100)).await;
        bench.find("show").await.unwrap();
    }
    assert_eq!(bench.store.asked(), asked);
    past(Duration::from_millis(100)).await;
    let again = bench.find("show").await.unwrap();
    assert_eq!(bench.store.asked(), asked + 1);
    assert_eq!(again.generation(), first.generation());
    assert_eq!(bench.formats.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_file_is_another_generation() {
    let bench = Bench::new();
    bench.store.put(&path("show.flv"), 1, b"abcde");
    let old = bench.find("show").await.unwrap();
    bench.store.put(&path("show.flv"), 2, b"vwxyz");
    assert_eq!(
        bench.find("show").await.unwrap().generation(),
        old.generation(),
        "for a moment"
    );
    past(section().revalidate()).await;
    let new = bench.find("show").await.unwrap();
    assert_ne!(new.generation(), old.generation());
    let piece = |found, at| bench.library.piece(found, at);
    assert_eq!(text(&piece(&new, At::Time(0)).await.unwrap()), "vw");
    // A call that found the old one just before gets what it asked for.
    assert_eq!(text(&piece(&old, At::Time(0)).await.unwrap()), "ab");
    // The same file again is the same generation: it depends on nothing else.
    bench.store.put(&path("show.flv"), 1, b"abcde");
    past(section().revalidate()).await;
    let back = bench.find("show").await.unwrap();
    assert_eq!(back.generation(), old.generation());
    let other = Bench::new();
    other.store.put(&path("show.flv"), 1, b"abcde");
    let elsewhere = other.find("show").await.unwrap();
    assert_eq!(elsewhere.generation(), old.generation());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_cut_and_replaced_is_found_out_at_once() {
    let bench = Bench::new();
    bench.store.put(&path("show.flv"), 1, b"abcde");
    let old = bench.find("show").await.unwrap();
    bench.store.cut(&path("show.flv"), 3);
    let cut = bench.library.piece(&old, At::Position(4)).await;
    assert!(matches!(cut, Err(VodError::Invalid { .. })), "{cut:?}");
    bench.store.put(&path("show.flv"), 2, b"vwxyz");
    let replaced = bench.library.piece(&old, At::Position(4)).await;
    assert_eq!(replaced.unwrap_err(), VodError::Replaced);
    let new = bench.find("show").await.unwrap();
    assert_eq!(
        text(&bench.library.piece(&new, At::Position(4)).await.unwrap()),
        "z"
    );
    bench.store.cut(&path("show.flv"), 0);
    bench.store.remove(&path("show.flv"));
    let gone = bench.library.piece(&new, At::Position(4)).await;
    assert_eq!(gone.unwrap_err(), VodError::Replaced);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_gone_is_not_found() {
    let bench = Bench::new();
    bench.store.put(&path("show.flv"), 1, b"abcde");
    bench.find("show").await.unwrap();
    bench.store.remove(&path("show.flv"));
    past(section().revalidate()).await;
    let gone = bench.find("show").await;
    assert_eq!(gone.err().unwrap(), VodError::NotFound);
    assert_eq!(bench.metric("vod_files"), "0");
}

#[tokio::test(start_paused = true)]
async fn the_first_object_that_is_there_is_meant() {
    let bench = Bench::new();
    bench.store.put(&path("show.mov"), 1, b"mov");
    let mov = bench.find("mp4:show").await.unwrap();
    let asked = bench.store.asked();
    assert_eq!(asked, 3, "mp4, f4v, mov");
    bench.find("mp4:show").await.unwrap();
    assert_eq!(bench.store.asked(), asked, "known by now");
    bench.store.put(&path("show.mp4"), 1, b"mp4");
    past(section().revalidate()).await;
    let mp4 = bench.find("mp4:show").await.unwrap();
    assert_ne!(mp4.generation(), mov.generation());
    // Not the next one, where it is there and cannot be read.
    bench.store.deny(&path("show.mp4"), true);
    past(section().revalidate()).await;
    assert!(unavailable(bench.find("mp4:show").await));
    bench.store.deny(&path("show.mp4"), false);
    bench.store.remove(&path("show.mp4"));
    past(section().revalidate()).await;
    let back = bench.find("mp4:show").await.unwrap();
    assert_eq!(back.generation(), mov.generation());
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_file_is_remembered() {
    let bench = Bench::new();
    bench.store.put(&path("bad.flv"), 1, b"!invalid");
    bench.store.put(&path("codec.flv"), 1, b"!unsupported");
    bench.store.put(&path("cut.flv"), 1, b"!eof");
    for _ in 0..5 {
        past(section().revalidate()).await;
        let bad = bench.find("bad").await.err().unwrap();
        assert!(matches!(bad, VodError::Invalid { .. }), "{bad:?}");
        assert!(bad.to_string().contains("bad.flv"), "{bad}");
        let codec = bench.find("codec").await.err().unwrap();
        assert!(matches!(codec, VodError::Unsupported { .. }), "{codec:?}");
        let cut = bench.find("cut").await.err().unwrap();
        assert!(matches!(cut, VodError::Invalid { .. }), "{cut:?}");
    }
    assert_eq!(bench.formats.opened(), 3);
    assert_eq!(bench.metric("vod_failed_total"), "3");
    bench.store.put(&path("bad.flv"), 2, b"good");
    past(section().revalidate()).await;
    bench.find("bad").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_store_is_not() {
    let bench = Bench::new();
    bench.store.put(&path("show.flv"), 1, b"!broken");
    assert!(unavailable(bench.find("show").await));
    assert!(unavailable(bench.find("show").await));
    assert_eq!(bench.formats.opened(), 2);
    assert_eq!(bench.metric("vod_files"), "0");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_panics_harms_nobody_else() {
    let bench = Bench::new();
    bench.store.put(&path("show.flv"), 1, b"!panic");
    bench.store.put(&path("good.flv"), 1, b"abcde");
    assert!(unavailable(bench.find("show").await));
    bench.find("good").await.unwrap();
    assert_eq!(bench.library.shared.reads.available_permits(), 16);
}

#[tokio::test(start_paused = true)]
async fn no_more_files_are_open_than_may_be() {
    let bench = Bench::with(&VodSection {
        max_open_files: 2,
        ..section()
    });
    let mut media: Vec<Weak<dyn MediaFile>> = Vec::new();
    for file in ["a", "b", "a", "c"] {
        bench.store.put(&path(&format!("{file}.flv")), 1, b"abcde");
        let found = bench.find(file).await.unwrap();
        media.push(Arc::downgrade(&found.media));
    }
    let open: Vec<_> = media.iter().map(|it| it.strong_count() > 0).collect();
    assert_eq!(open, [true, false, true, true], "b was used longest ago");
    assert_eq!(bench.metric("vod_files"), "2");
    assert_eq!(bench.metric("vod_opened_total"), "3");
    for number in 0..100 {
        let missing = bench.find(&format!("missing-{number}")).await;
        assert_eq!(missing.err().unwrap(), VodError::NotFound);
    }
    assert_eq!(bench.metric("vod_files"), "2", "those are there");
}

#[tokio::test(start_paused = true)]
async fn files_take_no_more_memory_than_they_may() {
    let megabytes = 6;
    let bench = Bench::with(&VodSection {
        memory_bytes: megabytes << 20,
        ..section()
    });
    // Of a fake file each byte takes a mebibyte.
    for (file, bytes, open) in [
        ("a", 2, "2"),
        ("b", 4, "6"),
        ("a", 2, "6"),
        ("c", 1, "3"),
        ("d", 9, "9"),
        ("e", 1, "1"),
    ] {
        let path = path(&format!("{file}.flv"));
        bench.store.put(&path, 1, &vec![b'x'; bytes]);
        bench.find(file).await.unwrap();
        let memory: usize = bench.metric("vod_memory_bytes").parse().unwrap();
        assert_eq!((memory >> 20).to_string(), open, "{file}");
    }
    assert_eq!(bench.metric("vod_files"), "1");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_nobody_asks_for_is_closed() {
    let bench = Bench::new();
    bench.store.put(&path("a.flv"), 1, b"abcde");
    bench.store.put(&path("b.flv"), 1, b"abcde");
    let a = Arc::downgrade(&bench.find("a").await.unwrap().media);
    let b = Arc::downgrade(&bench.find("b").await.unwrap().media);
    for _ in 0..4 {
        tokio::time::sleep(section().idle() / 2).await;
        bench.find("a").await.unwrap();
    }
    assert_eq!((a.strong_count(), b.strong_count()), (1, 0));
    assert_eq!(bench.metric("vod_files"), "1");
    let known = bench.library.shared.known.lock();
    assert_eq!((known.files(), known.names()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_tags_of_a_file_are_another_file() {
    let bench = Bench::new();
    bench.store.put(&path("song.mp3"), 1, b"abcde");
    let song = bench.find("mp3:song").await.unwrap();
    let same = bench.find("song.mp3").await.unwrap();
    let tags = bench.find("id3:song").await.unwrap();
    assert_eq!(song.generation(), same.generation());
    assert_ne!(song.generation(), tags.generation());
    assert_eq!(bench.formats.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn instances_share_what_stands_in_a_common_folder() {
    let bench = Bench::with(&VodSection {
        directories: vec![VirtualDirectory {
            app: "vod".to_owned(),
            folder: "media".to_owned(),
            ..VirtualDirectory::default()
        }],
        ..section()
    });
    bench.store.put("media/show.flv", 1, b"common");
    bench
        .store
        .put("applications/vod/streams/own/show.flv", 1, b"own");
    let mut generations = Vec::new();
    for instance in [DEFAULT_INSTANCE, "room", "own"] {
        let found = bench.library.find(&name(instance, "show")).await.unwrap();
        generations.push(found.generation());
    }
    assert_eq!(generations[0], generations[1]);
    assert_ne!(generations[0], generations[2], "its own comes first");
    assert_eq!(bench.formats.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn stopping_leaves_nobody_waiting() {
    let bench = Bench::new();
    bench.store.put(&path("show.flv"), 1, b"abcde");
    let found = bench.find("show").await.unwrap();
    let hold = bench.formats.hold(Step::Read);
    let reader = bench.reading(&found, At::Time(0));
    until(|| bench.formats.held(Step::Read) == 1).await;
    bench.stop.cancel();
    assert!(unavailable(reader.await.unwrap()));
    bench.tasks.close();
    bench.tasks.wait().await;
    hold.release();
}

/// Real threads and a real clock: files are replaced while many read them, and no piece mixes two versions.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pieces_of_one_generation_are_of_one_version() {
    let bench = Arc::new(Bench::with(&VodSection {
        revalidate_ms: 10,
        max_open_files: 3,
        ..section()
    }));
    let put = |file: usize, version: u64| {
        let letter = b'a' + u8::try_from(version % 26).unwrap();
        bench
            .store
            .put(&path(&format!("{file}.flv")), version, &[letter; 40]);
    };
    for file in 0..5 {
        put(file, 1);
    }
    let mut readers = JoinSet::new();
    for reader in 0..8_usize {
        let bench = Arc::clone(&bench);
        readers.spawn(async move {
            let mut seen = std::collections::HashMap::new();
            for turn in 0..300 {
                let found = bench
                    .find(&((reader + turn) % 5).to_string())
                    .await
                    .unwrap();
                let at = At::Position((turn as u64 % 20) * 2);
                let piece = bench.library.piece(&found, at).await.unwrap();
                let letters = text(&piece);
                assert_eq!(letters.as_bytes()[0], letters.as_bytes()[1]);
                let known = seen
                    .entry(found.generation())
                    .or_insert_with(|| letters.clone());
                assert_eq!(*known, letters);
            }
            seen.len()
        });
    }
    let replacing = async {
        for version in 2_u64.. {
            put(usize::try_from(version % 5).unwrap(), version);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let generations = tokio::select! {
        seen = readers.join_all() => seen.into_iter().sum::<usize>(),
        () = replacing => unreachable!("it does not end"),
    };
    assert!(generations > 8 * 5, "nothing was replaced meanwhile");
}
