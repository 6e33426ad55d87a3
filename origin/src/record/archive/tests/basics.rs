//! One writer, nothing fails.

use futures_util::TryStreamExt;
use object_store::{ObjectStoreExt, path::Path};

use super::super::{ArchiveError, Listed};
use super::support::*;
use headwater_media::frame::{FrameFlags, FrameKind};

#[tokio::test]
async fn a_recording_is_written_and_read() {
    for durable_locally in [true, false] {
        let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
        let archives = archives(&store, journal.path(), durable_locally);
        let mut writer = archives.create(&name("a"), "one").await.unwrap();
        assert_eq!((writer.next_offset(), writer.durable()), (None, None));
        let all = frames(7, 300, 1_000);
        for batch in all.chunks(10) {
            writer.append(batch).unwrap();
            let durable = writer.sync().await.unwrap();
            // Lets the put go on.
            tokio::task::yield_now().await;
            if durable_locally {
                assert_eq!(durable, batch.last().map(|last| last.offset.next()));
            }
            let next = writer.next_offset().unwrap();
            check_pieces(&writer.reader(), &all[..next.sequence as usize]).await;
        }
        // Again: all of it is there.
        writer.append(&all[200..]).unwrap();
        let end = writer.reader().summary().end_ms;
        assert!(
            (all[299].timestamp..all[299].timestamp + 100).contains(&end),
            "{end}"
        );
        let reader = writer.finish().await.unwrap();
        assert_eq!(writer.durable(), Some(all[299].offset.next()));
        let summary = reader.summary();
        assert!(summary.is_complete && summary.has_audio && summary.has_video);
        assert_eq!((summary.start_ms, summary.end_ms), (1_000, end));
        assert_eq!(
            summary.bytes,
            all.iter()
                .map(|frame| frame.payload.len() as u64)
                .sum::<u64>()
        );
        assert_eq!(summary.first, Some(all[0].offset));
        drop(writer);
        assert_eq!(archives.left_open(), []);

        let generation = summary.generation;
        let cold = archives.open(&name("a"), generation).await.unwrap();
        assert_eq!(cold.summary(), summary);
        for reader in [reader, cold] {
            assert_eq!(read_all(&reader).await, all);
            check_pieces(&reader, &all).await;
        }
    }
}

#[tokio::test]
async fn a_writer_goes_on_where_another_was_dropped() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, journal.path(), true);
    let mut all = frames(3, 100, 0);
    let mut writer = archives.create(&name("a"), "one").await.unwrap();
    let generation = writer.generation();
    writer.append(&all).unwrap();
    writer.sync().await.unwrap();
    let error = archives
        .take_over(&name("a"), generation, "two")
        .await
        .unwrap_err();
    assert!(matches!(error, ArchiveError::Open), "{error:?}");
    drop(writer);
    let left = archives.left_open();
    assert_eq!(left.len(), 1);
    assert_eq!(
        (&left[0].name, left[0].generation),
        (&name("a"), generation)
    );

    let mut writer = archives
        .take_over(&name("a"), generation, "two")
        .await
        .unwrap();
    assert_eq!(writer.next_offset(), Some(all[99].offset.next()));
    assert_eq!(writer.durable(), writer.next_offset());
    all.extend(frames(4, 120, 2_000));
    writer.append(&all[90..]).unwrap();
    check_pieces(&writer.reader(), &all).await;
    writer.finish().await.unwrap();
    drop(writer);

    // And once more, though it is complete.
    let mut writer = archives
        .take_over(&name("a"), generation, "one")
        .await
        .unwrap();
    assert!(!writer.reader().summary().is_complete);
    all.extend(frames(5, 50, 4_000));
    writer.append(&all).unwrap();
    let reader = writer.hand_over().await.unwrap();
    assert!(!reader.summary().is_complete);
    drop(writer);
    let cold = archives.open(&name("a"), generation).await.unwrap();
    assert_eq!(read_all(&cold).await, all);
    check_pieces(&cold, &all).await;
    assert_eq!(archives.left_open(), []);
}

#[tokio::test]
async fn recordings_are_listed_and_deleted() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, journal.path(), true);
    let mut expected = Vec::new();
    for stream in ["a", "a", "b", "folder/c"] {
        let mut writer = archives.create(&name(stream), "one").await.unwrap();
        writer.append(&frames(1, 100, 0)).unwrap();
        writer.finish().await.unwrap();
        expected.push(Listed {
            name: name(stream),
            generation: writer.generation(),
        });
    }
    let a = archives.generations(&name("a")).await.unwrap();
    assert_eq!(a, [expected[0].generation, expected[1].generation]);
    assert!(
        archives
            .generations(&name("none"))
            .await
            .unwrap()
            .is_empty()
    );
    let list = || async {
        let pages: Vec<Vec<Listed>> = archives.list(|_| true).try_collect().await.unwrap();
        let mut listed = pages.concat();
        listed.sort_by_key(|listed| (listed.name.clone(), listed.generation));
        listed
    };
    assert_eq!(list().await, expected);

    archives.delete(&name("a"), a[0]).await.unwrap();
    assert_eq!(archives.generations(&name("a")).await.unwrap(), [a[1]]);
    let error = archives.open(&name("a"), a[0]).await.unwrap_err();
    assert!(matches!(error, ArchiveError::NotFound), "{error:?}");
    archives.delete(&name("a"), a[0]).await.unwrap();
    for listed in &expected[1..] {
        archives
            .delete(&listed.name, listed.generation)
            .await
            .unwrap();
    }
    assert_eq!(store.paths().await, [""; 0]);
    assert_eq!(list().await, []);
}

#[tokio::test]
async fn what_is_half_deleted_is_not_there() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, journal.path(), true);
    let mut writer = archives.create(&name("a"), "one").await.unwrap();
    assert!(matches!(
        archives.delete(&name("a"), writer.generation()).await,
        Err(ArchiveError::Open)
    ));
    writer.append(&frames(1, 100, 0)).unwrap();
    writer.finish().await.unwrap();
    let generation = writer.generation();
    drop(writer);
    let first = store.paths().await.into_iter().min().unwrap();
    store.raw().delete(&Path::from(first)).await.unwrap();
    let error = archives.open(&name("a"), generation).await.unwrap_err();
    assert!(matches!(error, ArchiveError::NotFound), "{error:?}");
    assert!(archives.generations(&name("a")).await.unwrap().is_empty());
    // The number is not given again.
    let next = archives.create(&name("a"), "one").await.unwrap();
    assert!(next.generation() > generation);
}

/// Metadata is in force at every piece, and a clock that runs wild makes many.
#[tokio::test]
async fn what_is_in_force_does_not_make_endless_segments() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, journal.path(), true);
    let mut writer = archives.create(&name("a"), "one").await.unwrap();
    let mut all = frames(1, 400, 0);
    let mut metadata = all[0].payload.to_vec();
    metadata.resize(3_000, 0);
    all[0].payload = metadata.into();
    for (at, frame) in all.iter_mut().enumerate() {
        frame.timestamp = at as u64 * 1_000;
        if frame.kind == FrameKind::Video {
            frame.flags |= FrameFlags::KEY;
        }
    }
    let mut from = 0;
    while let Err(error) = writer.append(&all[from..]) {
        assert!(matches!(error, ArchiveError::Behind { .. }), "{error:?}");
        from = writer.next_offset().unwrap().sequence as usize;
        writer.sync().await.unwrap();
        tokio::task::yield_now().await;
    }
    let reader = writer.finish().await.unwrap();
    check_pieces(&reader, &all).await;
    let paths = store.paths().await;
    for path in paths.into_iter().filter(|path| path.contains("/segments/")) {
        let size = store.raw().head(&Path::from(path)).await.unwrap().size;
        assert!(size < 2 * config().segment_bytes as u64, "{size}");
    }
}

#[tokio::test]
async fn what_breaks_the_rules_is_refused() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, journal.path(), true);
    let mut writer = archives.create(&name("a"), "one").await.unwrap();
    let all = frames(1, 2_000, 0);
    writer.append(&all[5..10]).unwrap();
    let refused = |result| matches!(result, Err(ArchiveError::Refused(_)));
    assert!(refused(writer.append(&all[11..12])));
    assert_eq!(writer.next_offset(), Some(all[10].offset));
    writer.skip_to(all[11].offset);
    writer.append(&all[10..12]).unwrap();
    let mut last = all[12].clone();
    last.offset.epoch.0 = 2;
    last.offset.sequence = u64::MAX;
    assert!(refused(writer.append(&[last])));

    // More than may be held: what is taken is told.
    let error = writer.append(&all).unwrap_err();
    assert!(matches!(error, ArchiveError::Behind { .. }), "{error:?}");
    let next = writer.next_offset().unwrap();
    assert!(writer.held_bytes() <= config().held_bytes);
    writer.sync().await.unwrap();
    let mut from = next.sequence as usize;
    while let Err(error) = writer.append(&all[from..]) {
        assert!(matches!(error, ArchiveError::Behind { .. }), "{error:?}");
        from = writer.next_offset().unwrap().sequence as usize;
        writer.sync().await.unwrap();
        tokio::task::yield_now().await;
    }
    let reader = writer.finish().await.unwrap();
    assert!(refused(writer.append(&all)));
    let expected: Vec<_> = all[5..]
        .iter()
        .filter(|f| f.offset.sequence != 10)
        .cloned()
        .collect();
    assert_eq!(read_all(&reader).await, expected);
}
