//! Pieces by time and by place, long recordings, and readers that come late.

use headwater_media::frame::{Epoch, FrameFlags, FrameKind, Offset};
use object_store::{ObjectStoreExt, path::Path};
use proptest::prelude::*;

use super::super::{ArchiveError, Archives, Follows, Reader};
use super::support::*;
use headwater_media::frame::Frame;

/// Writes a recording in segments of the given numbers of frames, whatever the pieces are, each by an owner of its own.
async fn write_cut(archives: &Archives, all: &[Frame], cuts: &[usize]) -> std::sync::Arc<Reader> {
    let mut writer = archives.create(&name("a"), "0").await.unwrap();
    let mut rest = all;
    let mut number = 0;
    for cut in cuts.iter().copied().chain([all.len()]) {
        let (now, later) = rest.split_at(cut.min(rest.len()));
        rest = later;
        writer.append(now).unwrap();
        writer.hand_over().await.unwrap();
        number += 1;
        let generation = writer.generation();
        let owner = format!("{number}");
        writer = archives
            .take_over(&name("a"), generation, &owner)
            .await
            .unwrap();
    }
    writer.finish().await.unwrap()
}

/// The newest start at or before a time, by looking at every frame.
fn start_before(all: &[Frame], ms: u64) -> Option<Offset> {
    let mut found = None;
    let (mut audio, mut video, mut epoch) = (false, false, Epoch(0));
    let mut high = 0;
    for piece in model_pieces(all, config().grid) {
        for frame in &piece.frames {
            if frame.offset.epoch != epoch {
                (audio, video, epoch) = (false, false, frame.offset.epoch);
            }
            high = high.max(frame.timestamp);
            let is_header = frame.flags.contains(FrameFlags::HEADER);
            let starts = !is_header
                && match frame.kind {
                    FrameKind::Video => frame.flags.contains(FrameFlags::KEY),
                    FrameKind::Audio => !video,
                    FrameKind::Data => !video && !audio,
                };
            audio |= frame.kind == FrameKind::Audio && !is_header;
            video |= frame.kind == FrameKind::Video && !is_header;
            if starts && high <= ms {
                found = Some(piece.frames[0].offset);
            }
        }
    }
    found
}

async fn check_times(reader: &Reader, all: &[Frame]) {
    let first = all[0].timestamp;
    let last = all.iter().map(|frame| frame.timestamp).max().unwrap();
    for ms in (first.saturating_sub(50)..last + 500).step_by(41) {
        let piece = reader.piece_at_time(ms).await.unwrap();
        let expected = start_before(all, ms).unwrap_or(all[0].offset);
        assert_eq!(piece.first, expected, "at {ms} ms");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn pieces_do_not_depend_on_segments(
        cuts in prop::collection::vec(1..60_usize, 0..8),
        lengths in prop::collection::vec(1..100_u64, 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
            let archives = archives(&store, journal.path(), true);
            let mut all = Vec::new();
            let mut start = 500;
            for (epoch, length) in lengths.iter().enumerate() {
                all.extend(frames(epoch as u64 + 1, *length, start));
                start += 1_000 * (epoch as u64 + 1);
            }
            let reader = write_cut(&archives, &all, &cuts).await;
            check_pieces(&reader, &all).await;
            check_times(&reader, &all).await;
            let generation = reader.summary().generation;
            let cold = archives.open(&name("a"), generation).await.unwrap();
            assert_eq!(cold.summary(), reader.summary());
            check_pieces(&cold, &all).await;
            check_times(&cold, &all).await;
            // While it grows, out of memory.
            let mut writer = archives.create(&name("b"), "0").await.unwrap();
            writer.append(&all).unwrap();
            check_pieces(&writer.reader(), &all).await;
            check_times(&writer.reader(), &all).await;
        });
    }
}

#[tokio::test]
async fn what_is_left_open_is_listed_again_at_its_end_alone() {
    let (store, folder) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, folder.path(), false);
    let mut writer = archives.create(&name("a"), "0").await.unwrap();
    let all = frames(1, 300, 0);
    writer.append(&all[..200]).unwrap();
    writer.hand_over().await.unwrap();
    let generation = writer.generation();
    let reader = archives.open(&name("a"), generation).await.unwrap();
    let known = reader.summary();
    let listed = || store.listings.swap(0, std::sync::atomic::Ordering::Relaxed);
    listed();
    // As long as more follows.
    let mut at = known.first.unwrap();
    loop {
        let piece = reader.newest_piece_at(at).await.unwrap();
        if piece.follows != Follows::Piece {
            break;
        }
        let by_time = reader.newest_piece_at_time(piece.start_ms).await.unwrap();
        assert!(by_time.first <= piece.first);
        assert_eq!(listed(), 0);
        at = piece.next;
    }
    assert_eq!(listed(), 1);
    writer = archives
        .take_over(&name("a"), generation, "1")
        .await
        .unwrap();
    writer.append(&all).unwrap();
    writer.finish().await.unwrap();
    let end = known.next.unwrap();
    for by_time in [false, true] {
        let reader = archives.open(&name("a"), generation).await.unwrap();
        let finished = reader.summary();
        assert!(finished.end_ms > known.end_ms);
        let piece = match by_time {
            false => reader.newest_piece_at(end).await.unwrap(),
            true => reader.newest_piece_at_time(finished.end_ms).await.unwrap(),
        };
        assert!(piece.next > end, "{by_time}");
    }
    // Who knew the beginning sees the rest, and then asks no more.
    assert_eq!(reader.summary(), known);
    let last = reader.newest_piece_at_time(u64::MAX).await.unwrap();
    assert_eq!(last.follows, Follows::End);
    listed();
    reader.newest_piece_at_time(u64::MAX).await.unwrap();
    assert_eq!(listed(), 0);
}

#[tokio::test]
async fn a_long_recording_is_opened_by_its_last_index() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, journal.path(), true);
    let mut writer = archives.create(&name("a"), "0").await.unwrap();
    let mut all = Vec::new();
    for sequence in 0..9_000 {
        let frame = frame(1, sequence, 0);
        all.push(frame.clone());
        writer.append(&[frame]).unwrap();
        if sequence % 10 == 9 {
            writer.sync().await.unwrap();
            tokio::task::yield_now().await;
        }
    }
    let reader = writer.finish().await.unwrap();
    let paths = store.paths().await;
    let segments = paths
        .iter()
        .filter(|path| path.contains("/segments/"))
        .count();
    let indexes: Vec<_> = paths
        .into_iter()
        .filter(|path| path.contains("/indexes/"))
        .collect();
    // Each takes the place of the one before.
    assert!(
        segments > 200 && (1..=2).contains(&indexes.len()),
        "{segments} {indexes:?}"
    );

    let generation = reader.summary().generation;
    store.reads.lock().clear();
    let cold = archives.open(&name("a"), generation).await.unwrap();
    let reads = store.reads.lock().clone();
    assert_eq!(
        reads
            .iter()
            .filter(|path| path.contains("/indexes/"))
            .count(),
        1
    );
    assert!(reads.len() <= 1 + 64, "{}", reads.len());
    assert_eq!(cold.summary(), reader.summary());
    assert_eq!(read_all(&cold).await, all);
    let middle = cold.piece_at(all[4_500].offset).await.unwrap();
    assert!(middle.frames.contains(&all[4_500]));
    let rest: Vec<Vec<Frame>> = {
        use futures_util::TryStreamExt;
        cold.frames(Some(all[4_500].offset))
            .try_collect()
            .await
            .unwrap()
    };
    assert_eq!(rest.concat(), all[4_500..]);

    // A damaged index is gone by, a missing one costs more footers.
    for index in indexes.into_iter().map(Path::from) {
        store.raw().put(&index, "rubbish".into()).await.unwrap();
        let again = archives.open(&name("a"), generation).await.unwrap();
        assert_eq!(again.summary(), reader.summary());
        store.raw().delete(&index).await.unwrap();
    }
    let again = archives.open(&name("a"), generation).await.unwrap();
    assert_eq!(again.summary(), reader.summary());
}

#[tokio::test]
async fn a_reader_elsewhere_sees_what_is_added() {
    let store = Store::default();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [here, there] = [0, 1].map(|n: usize| archives(&store, folders[n].path(), false));
    let all = frames(1, 300, 0);
    let mut writer = here.create(&name("a"), "0").await.unwrap();
    let generation = writer.generation();
    let reader = there.open(&name("a"), generation).await.unwrap();
    let empty = reader.piece_at_time(0).await.unwrap();
    assert_eq!((empty.frames.len(), empty.follows), (0, Follows::Growing));
    assert_eq!(reader.summary().first, None);
    for batch in all.chunks(100) {
        writer.append(batch).unwrap();
        writer.hand_over().await.unwrap();
        reader.refresh().await.unwrap();
        let next = batch.last().unwrap().offset.next();
        assert_eq!(reader.summary().next, Some(next));
        check_pieces(&reader, &all[..next.sequence as usize]).await;
        let last = reader.piece_at(next).await.unwrap();
        assert_eq!((last.follows, last.next), (Follows::Growing, next));
        writer = here.take_over(&name("a"), generation, "0").await.unwrap();
    }
    writer.finish().await.unwrap();
    reader.refresh().await.unwrap();
    let last = reader.piece_at(all[299].offset).await.unwrap();
    assert_eq!(last.follows, Follows::End);
    here.delete(&name("a"), generation).await.unwrap();
    assert!(matches!(
        reader.piece_at(all[0].offset).await,
        Err(ArchiveError::NotFound)
    ));
}

#[tokio::test]
async fn who_reads_what_a_replaced_writer_held_sees_it_once() {
    let all = frames(1, 270, 0);
    // What the next owner stores: the beginning of what was held, with and without the key frame, all of it, and more.
    for stored in [1, 63, 64, 152, 153, 200, 270] {
        let store = Store::default();
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [here, there] = [0, 1].map(|n: usize| archives(&store, folders[n].path(), false));
        let mut stale = here.create(&name("a"), "here").await.unwrap();
        let (reader, generation) = (stale.reader(), stale.generation());
        stale.append(&all[..200]).unwrap();
        let mut fresh = there
            .take_over(&name("a"), generation, "there")
            .await
            .unwrap();
        fresh.append(&all[..stored]).unwrap();
        fresh.hand_over().await.unwrap();
        let fenced = stale.finish().await.unwrap_err();
        assert!(matches!(fenced, ArchiveError::Fenced { .. }), "{fenced:?}");
        reader.refresh().await.unwrap();
        let seen = &all[..stored.max(200)];
        assert!(read_all(&reader).await == seen, "{stored}");
        check_pieces(&reader, seen).await;
        check_times(&reader, seen).await;
        // It holds no more than what nobody has stored.
        let held = stale.held_bytes();
        assert_eq!(held == 0, stored >= 200, "{stored}: {held} bytes");
        assert_eq!(
            reader.summary().next,
            seen.last().map(|it| it.offset.next())
        );
    }
}

#[tokio::test]
async fn damage_is_found_and_named() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, journal.path(), true);
    let all = frames(1, 100, 0);
    let mut writer = archives.create(&name("a"), "0").await.unwrap();
    writer.append(&all).unwrap();
    let reader = writer.finish().await.unwrap();
    let segments: Vec<String> = store.paths().await;
    let second = Path::from(segments[1].as_str());
    let mut data = store
        .raw()
        .get(&second)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap()
        .to_vec();
    data[2_000] ^= 4;
    store.raw().put(&second, data.clone().into()).await.unwrap();
    let read: Result<Vec<_>, _> = {
        use futures_util::TryStreamExt;
        reader.frames(None).try_collect::<Vec<_>>().await
    };
    let error = read.unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Damaged { object, offset, .. } if *object == second.to_string() && (1_000..=2_000).contains(offset)),
        "{error:?}"
    );
    let generation = reader.summary().generation;
    data.truncate(1_500);
    store.raw().put(&second, data.into()).await.unwrap();
    let error = archives.open(&name("a"), generation).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Damaged { .. }), "{error:?}");
    // In the middle.
    store.raw().delete(&second).await.unwrap();
    let error = archives.open(&name("a"), generation).await.unwrap_err();
    assert!(
        matches!(
            error,
            ArchiveError::Damaged {
                what: "a segment is missing",
                ..
            }
        ),
        "{error:?}"
    );
}
