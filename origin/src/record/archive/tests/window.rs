//! Recordings of which only the newest part is kept.

use headwater_media::frame::{Epoch, FrameFlags, Offset};

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use super::super::{ArchiveConfig, ArchiveError, Archives, Follows, Writer};
use super::disk::TestDisk;
use super::support::{Fault, Store, config, frame, frames, model_pieces, name, read_all};

const WINDOW_MS: u64 = 4_000;

/// Segments that may be there beyond the window: those that wait to be deleted together, one that goes on over its beginning, one that
/// is being written, and the first one of all.
const BEYOND: usize = 8 + 3;

/// Segments end by their length alone.
fn archives(store: &Store, journal: &FilePath, durable_locally: bool) -> Archives {
    let config = ArchiveConfig {
        segment_bytes: 60_000,
        // Longer than anything takes that a put waits for.
        store_timeout: Duration::from_secs(60),
        ..config()
    };
    let store = Arc::new(store.clone());
    let disk = Box::new(TestDisk::default());
    Archives::with_disk(store, journal.to_owned(), durable_locally, config, disk).unwrap()
}

async fn write(writer: &mut Writer, sequences: std::ops::Range<u64>) {
    for sequence in sequences {
        writer.append(&[frame(1, sequence, 0)]).unwrap();
        if sequence % 10 == 9 {
            writer.sync().await.unwrap();
            // Time for what is done in the background.
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn count(store: &Store, what: &str) -> usize {
    let paths = store.paths().await;
    paths.iter().filter(|path| path.contains(what)).count()
}

async fn begun(archives: &Archives) -> Writer {
    let mut writer = archives.create(&name("a"), "0").await.unwrap();
    writer.keep_window(WINDOW_MS);
    writer
}

#[tokio::test]
async fn the_store_keeps_little_more_than_the_window() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, journal.path(), true);
    let mut writer = begun(&archives).await;
    let reader = writer.reader();
    let mut most = 0;
    for round in 0..12 {
        write(&mut writer, round * 500..(round + 1) * 500).await;
        most = most.max(count(&store, "/segments/").await);
        assert!(count(&store, "/indexes/").await <= 2);
    }
    let kept = WINDOW_MS / config().segment_ms;
    assert!(most <= kept as usize + BEYOND, "{most}");
    let summary = reader.summary();
    let length = summary.end_ms - summary.start_ms;
    assert!(
        (WINDOW_MS..WINDOW_MS + 10 * 800).contains(&length),
        "{length}"
    );
    assert!(summary.bytes < 6_000 * 150 / 4, "{}", summary.bytes);

    // Who asks for what is gone gets the first that is there, from which a decoder can start.
    let first = reader.piece_at(Offset::default()).await.unwrap();
    assert_eq!(Some(first.first), summary.first);
    assert!(first.frames[0].flags.contains(FrameFlags::KEY));
    assert_eq!(first.preface.len(), 3);
    let by_time = reader.piece_at_time(0).await.unwrap();
    assert_eq!(by_time, first);

    // What is left is whole, and the same for who opens it anew.
    let finished = writer.finish().await.unwrap();
    let all = read_all(&finished).await;
    let (preface, frames) = all.split_at(3);
    assert!(preface.iter().all(|frame| frame.offset < first.first));
    let expected: Vec<_> = (first.first.sequence..6_000)
        .map(|sequence| frame(1, sequence, 0))
        .collect();
    assert_eq!(frames, expected);
    let cold = archives.open(&name("a"), summary.generation).await.unwrap();
    assert_eq!(cold.summary(), finished.summary());
    assert_eq!(read_all(&cold).await, all);
    let mut at = first.first;
    let mut walked = Vec::new();
    loop {
        let piece = cold.piece_at(at).await.unwrap();
        walked.extend(piece.frames);
        at = piece.next;
        if piece.follows == Follows::End {
            break;
        }
    }
    assert_eq!(walked, expected);
    // It counts as one recording, and nothing is left of it.
    let generations = archives.generations(&name("a")).await.unwrap();
    assert_eq!(generations, [summary.generation]);
    archives
        .delete(&name("a"), summary.generation)
        .await
        .unwrap();
    assert_eq!(store.paths().await, [""; 0]);
}

#[tokio::test]
async fn readers_elsewhere_follow_the_window() {
    let store = Store::default();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [here, there] = [0, 1].map(|n: usize| archives(&store, folders[n].path(), false));
    let mut writer = begun(&here).await;
    write(&mut writer, 0..2_000).await;
    let generation = writer.generation();
    let stale = there.open(&name("a"), generation).await.unwrap();
    let fresh = there.open(&name("a"), generation).await.unwrap();
    let before = stale.summary().first.unwrap();
    // All that they know is gone.
    write(&mut writer, 2_000..6_000).await;
    let first = writer.reader().summary().first.unwrap();
    assert!(first > stale.summary().next.unwrap());
    let piece = stale.piece_at(before).await.unwrap();
    assert_eq!(piece.first, first);
    fresh.refresh().await.unwrap();
    assert_eq!(fresh.summary(), stale.summary());
    assert_eq!(fresh.piece_at_time(0).await.unwrap(), piece);
}

#[tokio::test]
async fn what_a_replaced_writer_held_leaves_with_the_window() {
    let store = Store::default();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [here, there] = [0, 1].map(|n: usize| archives(&store, folders[n].path(), false));
    let mut stale = begun(&here).await;
    stale.append(&frames(1, 100, 0)).unwrap();
    let (reader, generation) = (stale.reader(), stale.generation());
    let taken = there.take_over(&name("a"), generation, "there").await;
    let mut fresh = taken.unwrap();
    fresh.keep_window(WINDOW_MS);
    write(&mut fresh, 0..2_000).await;
    drop(stale);
    reader.refresh().await.unwrap();
    let cold = there.open(&name("a"), generation).await.unwrap();
    let stored = fresh.hand_over().await.unwrap();
    assert_eq!(reader.summary().first, cold.summary().first);
    reader.refresh().await.unwrap();
    assert_eq!(reader.summary(), stored.summary());
    assert_eq!(read_all(&reader).await, read_all(&stored).await);
}

#[tokio::test]
async fn another_owner_goes_on_as_the_one_before_would_have() {
    let store = Store::default();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [here, there] = [0, 1].map(|n: usize| archives(&store, folders[n].path(), false));
    let mut writer = begun(&here).await;
    write(&mut writer, 0..3_000).await;
    let generation = writer.generation();
    writer.hand_over().await.unwrap();
    drop(writer);
    // Deleted in between, as by a process that died before it deleted the other.
    let mut writer = there.take_over(&name("a"), generation, "1").await.unwrap();
    writer.keep_window(WINDOW_MS);
    assert_eq!(
        writer.next_offset(),
        Some(Offset {
            epoch: Epoch(1),
            sequence: 3_000
        })
    );
    write(&mut writer, 3_000..6_000).await;
    let kept = WINDOW_MS / config().segment_ms;
    let segments = count(&store, "/segments/").await;
    assert!(segments <= kept as usize + BEYOND, "{segments}");
    // The grid is that of the whole recording.
    let all = frames(1, 6_000, 0);
    let mut starts = model_pieces(&all, config().grid)
        .into_iter()
        .map(|piece| piece.frames[0].offset);
    let mut at = writer.reader().summary().first.unwrap();
    assert!(starts.any(|start| start == at));
    for start in starts {
        let piece = writer.reader().piece_at(at).await.unwrap();
        assert_eq!(piece.next, start);
        at = start;
    }
}

#[tokio::test]
async fn a_store_that_fails_keeps_what_it_cannot_let_go_of() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, journal.path(), true);
    let mut writer = begun(&archives).await;
    write(&mut writer, 0..1_000).await;
    let generation = writer.generation();
    // Dropped in the middle of its work: what was to be deleted may be there still.
    drop(writer);
    let left = count(&store, "/segments/").await;
    let mut writer = archives
        .take_over(&name("a"), generation, "1")
        .await
        .unwrap();
    writer.keep_window(WINDOW_MS);
    write(&mut writer, 1_000..4_000).await;
    let kept = WINDOW_MS / config().segment_ms;
    let segments = count(&store, "/segments/").await;
    assert!(segments <= kept as usize + BEYOND, "{left} {segments}");
    // No window any more: everything from now on stays.
    writer.keep_window(0);
    write(&mut writer, 4_000..6_000).await;
    assert!(count(&store, "/segments/").await > segments + 40);
}

#[tokio::test]
async fn a_store_that_does_not_give_the_index_does_not_make_a_recording_a_damaged_one() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, journal.path(), true);
    let mut writer = begun(&archives).await;
    write(&mut writer, 0..2_000).await;
    let finished = writer.finish().await.unwrap();
    let generation = writer.generation();
    drop(writer);
    assert!(finished.summary().first.unwrap().sequence > 0);
    // Neither an object nor the list of them.
    for what in ["/indexes/", "/indexes"] {
        store.keep_from_reading(Some(what));
        let error = archives.open(&name("a"), generation).await.unwrap_err();
        assert!(matches!(error, ArchiveError::Unavailable(_)), "{error:?}");
    }
    store.keep_from_reading(None);
    let cold = archives.open(&name("a"), generation).await.unwrap();
    assert_eq!(cold.summary(), finished.summary());
}

#[tokio::test]
async fn a_writer_that_was_replaced_finds_no_place_where_a_window_emptied_one() {
    let store = Store::default();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [here, there] = [0, 1].map(|n: usize| archives(&store, folders[n].path(), false));
    let mut stale = begun(&here).await;
    stale.append(&frames(1, 100, 0)).unwrap();
    let generation = stale.generation();
    let taken = there.take_over(&name("a"), generation, "there").await;
    let mut fresh = taken.unwrap();
    fresh.keep_window(WINDOW_MS);
    write(&mut fresh, 0..2_000).await;
    let before = stale.durable();
    let fenced = stale.finish().await.unwrap_err();
    assert!(
        matches!(&fenced, ArchiveError::Fenced { owner, term: 2 } if owner == "there"),
        "{fenced:?}"
    );
    assert_eq!(stale.durable(), before, "nothing of it is in the recording");
    // What it put there goes with what is old.
    write(&mut fresh, 2_000..4_000).await;
    let kept = WINDOW_MS / config().segment_ms;
    let segments = count(&store, "/segments/").await;
    assert!(segments <= kept as usize + BEYOND, "{segments}");
}

#[tokio::test]
async fn an_owner_that_stalls_begins_behind_what_a_window_emptied_meanwhile() {
    let store = Store::default();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [here, there] = [0, 1].map(|n: usize| archives(&store, folders[n].path(), false));
    let mut stale = begun(&here).await;
    write(&mut stale, 0..100).await;
    let generation = stale.generation();
    store.fault([Fault::Waits]);
    let wanted = name("a");
    let (taken, ()) = tokio::join!(there.take_over(&wanted, generation, "there"), async {
        store.put_waits().await;
        write(&mut stale, 100..2_000).await;
        assert!(stale.reader().summary().first.unwrap().sequence > 100);
        store.let_through();
    });
    let mut fresh = taken.unwrap();
    let stored = stale.durable().unwrap();
    assert_eq!(fresh.next_offset(), Some(stored));
    fresh.append(&frames(1, 2_100, 0)).unwrap();
    let fenced = stale.finish().await.unwrap_err();
    assert!(matches!(fenced, ArchiveError::Fenced { .. }), "{fenced:?}");
    let finished = fresh.finish().await.unwrap();
    let cold = here.open(&name("a"), generation).await.unwrap();
    assert_eq!(cold.summary(), finished.summary());
    let first = finished.summary().first.unwrap().sequence;
    let all = read_all(&cold).await;
    let sequences = all.iter().map(|frame| frame.offset.sequence);
    assert!(sequences.skip(3).eq(first..2_100), "each once, in order");
}
