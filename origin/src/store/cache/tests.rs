//! The cache over a store in memory, which can be slowed down.

use std::thread;
use std::time::Instant;

use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStoreExt, PutPayload};

use headwater_media::file::ReadAt;
use headwater_node::metrics::Metrics;

use super::super::remote::{BLOCK_BYTES, IoRuntime, RemoteFile};
use super::*;

/// As short as a test can wait for it, and long enough for a busy machine to fetch from memory.
const TIMEOUT: Duration = Duration::from_secs(5);

struct Fixture {
    folder: tempfile::TempDir,
    objects: Arc<ThrottledStore<InMemory>>,
    io: Arc<IoRuntime>,
    metrics: StoreMetrics,
    cache: Arc<Cache>,
}

impl Fixture {
    async fn new(limit: u64, timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ThrottledStore::new(InMemory::new(), ThrottleConfig::default());
        let objects = Arc::new(store);
        let io = Arc::new(IoRuntime::new().unwrap());
        let metrics = StoreMetrics::new(&Metrics::new("test", "origin"));
        let cache = Cache::open(
            folder.path().to_owned(),
            limit,
            timeout,
            Arc::clone(&objects) as _,
            io.handle().clone(),
            metrics.clone(),
        )
        .await
        .unwrap();
        Self {
            folder,
            objects,
            io,
            metrics,
            cache: Arc::new(cache),
        }
    }

    /// Puts an object of so many blocks and seven bytes, whose bytes tell where they are.
    async fn put(&self, name: &str, blocks: u64) -> Bytes {
        let bytes =
            Bytes::from_iter((0..blocks * BLOCK_BYTES + 7).map(|at| (at / 4_096 * 31) as u8));
        let payload = PutPayload::from(bytes.clone());
        self.objects
            .put(&ObjectPath::from(name), payload)
            .await
            .unwrap();
        bytes
    }

    async fn file(&self, name: &str) -> RemoteFile {
        let meta = self.objects.head(&ObjectPath::from(name)).await.unwrap();
        RemoteFile::new(
            Object::new(meta),
            Arc::clone(&self.cache),
            Arc::clone(&self.io),
        )
    }

    /// Makes every request take that long.
    fn slow(&self, wait: Duration) {
        self.objects
            .config_mut(|config| config.wait_get_per_call = wait);
    }

    /// Names and sizes of the files.
    fn files(&self) -> Vec<(PathBuf, u64)> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name() != "lock")
            .map(|entry| (entry.path(), entry.metadata().unwrap().len()))
            .collect();
        files.sort();
        files
    }

    fn bytes_on_disk(&self) -> u64 {
        self.files().iter().map(|(_, length)| length).sum()
    }

    /// Closes every file, so that the next read of a block opens its file again.
    fn close_all(&self) {
        let mut state = self.cache.shared.state.lock();
        state.open.clear();
        for entry in state.entries.values_mut() {
            if let Entry::Kept(kept) = entry {
                kept.open = None;
            }
        }
    }

    /// What the table says must be what the disk holds.
    fn check(&self) {
        let state = self.cache.shared.state.lock();
        let kept: Vec<_> = state
            .entries
            .iter()
            .filter_map(|(key, entry)| match entry {
                Entry::Kept(kept) => Some((key, kept)),
                Entry::Coming(_) => None,
            })
            .collect();
        assert_eq!(kept.len(), state.order.len());
        for (key, kept) in &kept {
            assert_eq!(state.order.get(&kept.used), Some(*key));
        }
        let length: u64 = kept.iter().map(|(_, kept)| kept.length).sum();
        assert_eq!(length, state.bytes);
        assert_eq!(self.bytes_on_disk(), state.bytes);
        assert_eq!(self.metrics.cache_bytes.get(), gauge(state.bytes));
    }
}

fn at(bytes: &Bytes, offset: u64, length: usize) -> Bytes {
    bytes
        .slice(usize::try_from(offset).unwrap()..)
        .slice(..length)
}

#[tokio::test]
async fn any_range_is_what_the_object_holds() {
    let fixture = Fixture::new(100 * BLOCK_BYTES, TIMEOUT).await;
    let bytes = fixture.put("object", 2).await;
    let file = fixture.file("object").await;
    let size = 2 * BLOCK_BYTES + 7;
    assert_eq!(file.length(), size);
    let block = usize::try_from(BLOCK_BYTES).unwrap();
    for (offset, length) in [
        (0, 0),
        (0, 1),
        (size, 0),
        (BLOCK_BYTES - 1, 2),
        (BLOCK_BYTES, block),
        (BLOCK_BYTES - 1, block + 2),
        (2 * BLOCK_BYTES, 7),
        (0, 2 * block + 7),
    ] {
        assert_eq!(
            file.read_at(offset, length).unwrap(),
            at(&bytes, offset, length)
        );
    }
    for (offset, length) in [
        (size, 1),
        (0, 2 * block + 8),
        (u64::MAX, 1),
        (1, usize::MAX),
    ] {
        let error = file.read_at(offset, length).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
    assert_eq!(fixture.metrics.fetched_bytes.get(), size);
    fixture.check();
}

#[tokio::test]
async fn an_empty_object_is_never_fetched() {
    let fixture = Fixture::new(100 * BLOCK_BYTES, TIMEOUT).await;
    fixture
        .objects
        .put(&ObjectPath::from("empty"), PutPayload::new())
        .await
        .unwrap();
    let file = fixture.file("empty").await;
    assert_eq!(file.read_at(0, 0).unwrap(), "");
    assert!(file.read_at(0, 1).is_err());
    assert_eq!(fixture.metrics.cache_misses.get(), 0);
}

#[tokio::test]
async fn the_disk_is_never_taken_beyond_the_limit_and_what_is_used_stays() {
    let limit = 3 * BLOCK_BYTES;
    let fixture = Fixture::new(limit, TIMEOUT).await;
    let bytes = fixture.put("object", 8).await;
    let file = fixture.file("object").await;
    for round in 0..3 {
        for number in (0..8).rev() {
            let offset = number * BLOCK_BYTES + round;
            assert_eq!(file.read_at(offset, 100).unwrap(), at(&bytes, offset, 100));
            assert!(fixture.bytes_on_disk() <= limit);
            fixture.check();
            // Used all the time, so it is never the one that goes.
            assert_eq!(file.read_at(round, 100).unwrap(), at(&bytes, round, 100));
        }
    }
    // Block 0 once, the seven others every time.
    assert_eq!(fixture.metrics.cache_misses.get(), 1 + 3 * 7);
    assert_eq!(fixture.metrics.cache_evictions.get(), 1 + 3 * 7 - 3);
}

#[tokio::test]
async fn a_block_is_fetched_once_however_many_want_it() {
    let fixture = Fixture::new(100 * BLOCK_BYTES, TIMEOUT).await;
    let bytes = fixture.put("object", 1).await;
    fixture.slow(Duration::from_millis(200));
    let files = [fixture.file("object").await, fixture.file("object").await];
    thread::scope(|scope| {
        for reader in 0..32_u64 {
            let (file, bytes) = (&files[usize::from(reader % 2 == 0)], &bytes);
            scope.spawn(move || {
                let offset = reader * 1_000;
                assert_eq!(
                    file.read_at(offset, 1_000).unwrap(),
                    at(bytes, offset, 1_000)
                );
            });
        }
    });
    assert_eq!(fixture.metrics.fetched_bytes.get(), BLOCK_BYTES);
    assert_eq!(fixture.metrics.cache_misses.get(), 1);
    assert_eq!(fixture.metrics.cache_hits.get(), 31);
}

#[tokio::test]
async fn who_reads_on_finds_the_next_block_there() {
    let fixture = Fixture::new(100 * BLOCK_BYTES, TIMEOUT).await;
    let bytes = fixture.put("object", 8).await;
    let file = fixture.file("object").await;
    let step = 1 << 20;
    for offset in (0..8 * BLOCK_BYTES).step_by(step) {
        assert_eq!(
            file.read_at(offset, step).unwrap(),
            at(&bytes, offset, step)
        );
    }
    let ahead = fixture.metrics.cache_ahead.get();
    // Every block but the first; the last seven bytes are a block, too.
    assert_eq!((fixture.metrics.cache_misses.get(), ahead), (1, 8));
    assert!(fixture.metrics.fetched_bytes.get() >= 8 * BLOCK_BYTES);

    // Who jumps does not.
    let jumps = fixture.put("jumps", 8).await;
    let file = fixture.file("jumps").await;
    for number in [7, 2, 5, 0, 4] {
        let offset = (number + 1) * BLOCK_BYTES - 1_000;
        assert_eq!(
            file.read_at(offset, 1_000).unwrap(),
            at(&jumps, offset, 1_000)
        );
    }
    assert_eq!(fixture.metrics.cache_ahead.get(), ahead);
}

#[tokio::test]
async fn a_file_that_was_damaged_is_fetched_again() {
    let fixture = Fixture::new(100 * BLOCK_BYTES, TIMEOUT).await;
    let bytes = fixture.put("object", 0).await;
    let file = fixture.file("object").await;
    let read = || file.read_at(0, 7).unwrap();
    assert_eq!(read(), bytes);
    let cut = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(3).unwrap();
    };
    for (round, close) in [(1, false), (2, true), (3, true)] {
        let [(path, 7)] = &fixture.files()[..] else {
            panic!("{:?}", fixture.files());
        };
        match round {
            3 => fs::remove_file(path).unwrap(),
            _ => cut(path),
        }
        if close {
            fixture.close_all();
        }
        assert_eq!(read(), bytes);
        assert_eq!(fixture.metrics.cache_errors.get(), round);
        fixture.check();
    }
    // Only closed: that is no damage.
    fixture.close_all();
    assert_eq!(read(), bytes);
    assert_eq!(fixture.metrics.cache_errors.get(), 3);
    assert_eq!(fixture.metrics.cache_misses.get(), 4);
}

#[tokio::test]
async fn without_a_disk_every_reader_still_reads() {
    let fixture = Fixture::new(100 * BLOCK_BYTES, TIMEOUT).await;
    let bytes = fixture.put("object", 1).await;
    let file = fixture.file("object").await;
    fs::remove_dir_all(fixture.folder.path()).unwrap();
    for _ in 0..2 {
        assert_eq!(file.read_at(5, 100).unwrap(), at(&bytes, 5, 100));
    }
    assert_eq!(fixture.metrics.cache_misses.get(), 2);
    let state = fixture.cache.shared.state.lock();
    assert_eq!((state.bytes, state.entries.len()), (0, 0));
    drop(state);
    fs::create_dir(fixture.folder.path()).unwrap();
    for _ in 0..2 {
        assert_eq!(file.read_at(5, 100).unwrap(), at(&bytes, 5, 100));
    }
    assert_eq!(fixture.metrics.cache_misses.get(), 3);
    fixture.check();
}

#[tokio::test]
async fn what_takes_too_long_is_an_error_and_may_be_asked_for_again() {
    let fixture = Fixture::new(100 * BLOCK_BYTES, Duration::from_millis(300)).await;
    let bytes = fixture.put("object", 0).await;
    let file = fixture.file("object").await;
    fixture.slow(Duration::from_secs(3_600));
    let asked = Instant::now();
    let error = file.read_at(0, 7).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(asked.elapsed() < DISK_SLACK, "{:?}", asked.elapsed());
    assert_eq!(fixture.metrics.errors.get(), 1);
    fixture.slow(Duration::ZERO);
    assert_eq!(file.read_at(0, 7).unwrap(), bytes);
}

#[tokio::test]
async fn more_readers_than_threads_do_not_lock_up() {
    let fixture = Fixture::new(3 * BLOCK_BYTES, Duration::from_secs(60)).await;
    let bytes = fixture.put("object", 40).await;
    fixture.slow(Duration::from_millis(5));
    let file = Arc::new(fixture.file("object").await);
    // A runtime with fewer threads for blocking than there are readers, all of which wait.
    let readers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(4)
        .build()
        .unwrap();
    let reads: Vec<_> = (0..40)
        .map(|number| {
            let file = Arc::clone(&file);
            readers.spawn_blocking(move || file.read_at(number * BLOCK_BYTES, 10).unwrap())
        })
        .collect();
    for (number, read) in reads.into_iter().enumerate() {
        assert_eq!(
            read.await.unwrap(),
            at(&bytes, number as u64 * BLOCK_BYTES, 10)
        );
    }
    readers.shutdown_background();
    fixture.check();
}

#[tokio::test]
async fn an_object_that_was_replaced_is_not_mixed_with_the_new_one() {
    let fixture = Fixture::new(100 * BLOCK_BYTES, TIMEOUT).await;
    let old = fixture.put("object", 2).await;
    let file = fixture.file("object").await;
    assert_eq!(file.read_at(0, 10).unwrap(), at(&old, 0, 10));
    let new = fixture.put("object", 2).await;
    // What is there of the old one stays.
    assert_eq!(file.read_at(20, 10).unwrap(), at(&old, 20, 10));
    let error = file.read_at(BLOCK_BYTES, 10).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StaleNetworkFileHandle);
    let again = fixture.file("object").await;
    assert_eq!(
        again.read_at(BLOCK_BYTES, 10).unwrap(),
        at(&new, BLOCK_BYTES, 10)
    );

    fixture
        .objects
        .delete(&ObjectPath::from("object"))
        .await
        .unwrap();
    let error = again.read_at(0, 10).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StaleNetworkFileHandle);
    // That is no failure of the store.
    assert_eq!(fixture.metrics.errors.get(), 0);
}

#[tokio::test]
async fn a_reader_that_outlives_the_store_gets_an_error() {
    let fixture = Fixture::new(100 * BLOCK_BYTES, TIMEOUT).await;
    fixture.put("object", 0).await;
    let meta = fixture
        .objects
        .head(&ObjectPath::from("object"))
        .await
        .unwrap();
    let object = Arc::new(Object::new(meta));
    drop(fixture.io);
    let error = fixture.cache.read(&object, 0, 0, 7).unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    fixture.cache.ahead(&object, 0);
    let state = fixture.cache.shared.state.lock();
    assert_eq!((state.entries.len(), state.ahead), (0, 0));
}

#[tokio::test]
async fn the_folder_is_emptied_of_what_is_ours_and_belongs_to_one() {
    let fixture = Fixture::new(100 * BLOCK_BYTES, TIMEOUT).await;
    fixture.put("object", 0).await;
    fixture.file("object").await.read_at(0, 7).unwrap();
    let folder = fixture.folder.path().to_owned();
    fs::write(folder.join("notes.txt"), "").unwrap();
    assert_eq!(fixture.files().len(), 2);
    let again = |objects| {
        Cache::open(
            folder.clone(),
            1,
            TIMEOUT,
            objects,
            fixture.io.handle().clone(),
            fixture.metrics.clone(),
        )
    };
    tokio::time::pause();
    let error = again(Arc::clone(&fixture.objects) as _).await.unwrap_err();
    assert!(matches!(error, StoreError::CacheInUse { .. }), "{error:?}");
    tokio::time::resume();
    assert_eq!(fixture.files().len(), 2);

    drop(fixture.cache);
    let _cache = again(Arc::clone(&fixture.objects) as _).await.unwrap();
    let left: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().ends_with(ENDING))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn small_parts_here_and_there_do_not_bring_their_blocks() {
    let fixture = Fixture::new(100 * BLOCK_BYTES, TIMEOUT).await;
    let bytes = fixture.put("object", 12).await;
    let file = Arc::new(fixture.file("object").await);
    let read = |places: Vec<(u64, usize)>| {
        let file = Arc::clone(&file);
        tokio::task::spawn_blocking(move || file.read_each(&places))
    };
    let inside: Vec<_> = (0..12).map(|n| (n * BLOCK_BYTES + 1_000, 500)).collect();
    // Some of them across blocks, twice the same, too long, empty, past the end.
    let odd = [
        (BLOCK_BYTES - 10, 20),
        (5_000, 100),
        (5_000, 100),
        (7, 0),
        (bytes.length() - 1, 2),
        (u64::MAX, 5),
    ];
    let started = Instant::now();
    fixture.slow(Duration::from_millis(100));
    let parts = read(inside.clone()).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(1), "together");
    for (part, (offset, length)) in parts.into_iter().zip(inside) {
        assert_eq!(part.unwrap(), bytes.read_at(offset, length).unwrap());
    }
    assert_eq!(fixture.files(), [], "no block came");
    fixture.slow(Duration::ZERO);
    for (part, (offset, length)) in read(odd.to_vec()).await.unwrap().into_iter().zip(odd) {
        match bytes.read_at(offset, length) {
            Ok(expected) => assert_eq!(part.unwrap(), expected),
            Err(error) => assert_eq!(part.unwrap_err().kind(), error.kind()),
        }
    }
    fixture
        .objects
        .delete(&ObjectPath::from("object"))
        .await
        .unwrap();
    let gone = read(vec![(9 * BLOCK_BYTES, 10)]).await.unwrap().remove(0);
    let kind = gone.unwrap_err().kind();
    assert_eq!(kind, io::ErrorKind::StaleNetworkFileHandle);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_waited_for_no_longer_than_allowed() {
    let timeout = Duration::from_millis(300);
    let fixture = Fixture::new(100 * BLOCK_BYTES, timeout).await;
    fixture.put("object", 2).await;
    let file = Arc::new(fixture.file("object").await);
    fixture.slow(Duration::from_secs(60));
    let started = Instant::now();
    let read = tokio::task::spawn_blocking(move || file.read_each(&[(0, 10), (9, 10)]));
    for part in read.await.unwrap() {
        assert_eq!(part.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}
