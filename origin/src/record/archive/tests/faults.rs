//! One thing fails, and what the caller is told.

use std::time::{Duration, SystemTime};

use object_store::{ObjectStoreExt, PutPayload, path::Path};

use super::super::{ArchiveError, keys};
use super::disk::TestDisk;
use super::support::*;
use headwater_media::frame::Frame;

fn kind(error: &ArchiveError) -> &'static str {
    match error {
        ArchiveError::Full(_) => "full",
        ArchiveError::Denied(_) => "denied",
        ArchiveError::Unavailable(_) => "unavailable",
        _ => "another",
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_that_fails_is_tried_again_until_it_is_known() {
    for (fault, expected) in [
        (Fault::FailsBefore, "unavailable"),
        (Fault::FailsAfter, "unavailable"),
        (Fault::Hangs, "unavailable"),
        (Fault::Full, "full"),
        (Fault::Denied, "denied"),
    ] {
        let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
        let archives = archives(&store, journal.path(), false);
        let mut writer = archives.create(&name("a"), "one").await.unwrap();
        let all = frames(1, 100, 0);
        writer.append(&all).unwrap();
        store.fault([fault, fault]);
        let mut told = Vec::new();
        let mut rounds = 0;
        while writer.durable() == Some(all[0].offset) {
            match writer.sync().await {
                Ok(_) => {}
                Err(error) => told.push(kind(&error)),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            rounds += 1;
            assert!(rounds < 1_000, "{fault:?}");
        }
        // The third time it works, or it is found to be there.
        assert_eq!(told, [expected; 2], "{fault:?}");
        let reader = writer.finish().await.unwrap();
        assert_eq!(read_all(&reader).await, all, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_does_not_begin_two_recordings() {
    for fault in [Fault::FailsBefore, Fault::FailsAfter, Fault::Hangs] {
        let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
        let archives = archives(&store, journal.path(), true);
        store.fault([fault]);
        let writer = archives.create(&name("a"), "one").await.unwrap();
        let generations = archives.generations(&name("a")).await.unwrap();
        assert_eq!(generations, [writer.generation()], "{fault:?}");
        assert_eq!(store.paths().await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_recording_that_does_not_begin_leaves_nothing_in_the_journal() {
    for durable_locally in [true, false] {
        let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
        let disk = TestDisk::default();
        let archives = archives_on(&store, journal.path(), durable_locally, disk.clone());
        store.fault([Fault::FailsBefore; 3]);
        let error = archives.create(&name("a"), "one").await.unwrap_err();
        assert_eq!(kind(&error), "unavailable");
        assert_eq!(archives.left_open(), []);
        disk.set_room(Some(0));
        let created = archives.create(&name("b"), "one").await;
        assert_eq!(created.is_ok(), !durable_locally);
        drop(created);
        assert_eq!(archives.left_open(), []);
    }
}

#[tokio::test]
async fn what_ended_elsewhere_leaves_the_journal() {
    let store = Store::default();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [here, there] = [0, 1].map(|n: usize| archives(&store, folders[n].path(), false));
    let mut generations = Vec::new();
    for stream in ["a", "b"] {
        let mut writer = here.create(&name(stream), "here").await.unwrap();
        writer.append(&frames(1, 20, 0)).unwrap();
        writer.sync().await.unwrap();
        generations.push(writer.generation());
    }
    let left = here.left_open();
    assert_eq!(left.len(), 2);
    // The other origin makes a file of one of them.
    there.delete(&name("a"), generations[0]).await.unwrap();
    assert_eq!(
        here.generations(&name("b")).await.unwrap(),
        generations[1..]
    );
    assert_eq!(here.left_open(), left);
    assert_eq!(here.generations(&name("a")).await.unwrap(), [0; 0]);
    assert_eq!(here.left_open(), left[1..]);
}

#[tokio::test(start_paused = true)]
async fn what_is_being_deleted_is_not_gone_on_with() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, journal.path(), true);
    let mut writer = archives.create(&name("a"), "one").await.unwrap();
    let generation = writer.generation();
    writer.append(&frames(1, 100, 0)).unwrap();
    writer.finish().await.unwrap();
    drop(writer);
    store.allow_deletions(Some(0));
    let wanted = name("a");
    let (deleted, taken) = tokio::join!(archives.delete(&wanted, generation), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        archives.take_over(&name("a"), generation, "one").await
    });
    assert_eq!(kind(&deleted.unwrap_err()), "unavailable");
    assert!(matches!(taken, Err(ArchiveError::Open)), "{taken:?}");
    store.allow_deletions(None);
    archives.delete(&name("a"), generation).await.unwrap();
    assert_eq!(store.paths().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_was_cut_off_is_finished() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, journal.path(), true);
    let mut generations = Vec::new();
    for stream in ["a", "b"] {
        let mut writer = archives.create(&name(stream), "one").await.unwrap();
        writer.append(&frames(1, 100, 0)).unwrap();
        writer.finish().await.unwrap();
        generations.push(writer.generation());
    }
    // Up to the first segment.
    store.allow_deletions(Some(1));
    archives
        .delete(&name("a"), generations[0])
        .await
        .unwrap_err();
    store.allow_deletions(None);
    let folder = keys::generation(&name("a"), generations[0]);
    let of_a = |paths: Vec<String>| {
        let of_a = |path: &String| path.starts_with(folder.as_ref());
        paths.iter().filter(|path| of_a(path)).count()
    };
    let all = store.paths().await;
    assert!(of_a(all.clone()) > 0);
    // It may be about to begin.
    let now = SystemTime::now();
    assert_eq!(archives.finish_deletions(now).await.unwrap(), []);
    assert_eq!(store.paths().await, all);
    let later = now + Duration::from_secs(400);
    let finished = archives.finish_deletions(later).await.unwrap();
    assert_eq!(finished, std::slice::from_ref(&folder));
    let left = store.paths().await;
    assert_eq!(of_a(left.clone()), 0);
    assert_eq!(left.len() + of_a(all.clone()), all.len());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_fails_keeps_no_other_from_being_finished() {
    for (failing, other) in [("-a--", "-b--"), ("-b--", "-a--")] {
        let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
        let archives = archives(&store, journal.path(), true);
        for stream in ["a", "b"] {
            let mut writer = archives.create(&name(stream), "one").await.unwrap();
            writer.append(&frames(1, 100, 0)).unwrap();
            writer.finish().await.unwrap();
            store.allow_deletions(Some(1));
            let deleted = archives.delete(&name(stream), writer.generation()).await;
            deleted.unwrap_err();
            store.allow_deletions(None);
        }
        store.keep_from_reading(Some(failing));
        let later = SystemTime::now() + Duration::from_secs(400);
        let finished = archives.finish_deletions(later).await.unwrap();
        assert_eq!(finished.len(), 1, "{failing}");
        assert!(finished[0].as_ref().contains(other), "{failing}");
        store.keep_from_reading(None);
        let finished = archives.finish_deletions(later).await.unwrap();
        assert!(finished[0].as_ref().contains(failing), "{failing}");
        assert_eq!(store.paths().await, [""; 0]);
    }
}

#[tokio::test]
async fn what_another_origin_writes_is_told_by_its_newest_segment() {
    let store = Store::default();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [here, there] = [0, 1].map(|n: usize| archives(&store, folders[n].path(), false));
    let mut writer = here.create(&name("a"), "here").await.unwrap();
    writer.append(&frames(1, 100, 0)).unwrap();
    let (wanted, generation) = (name("a"), writer.generation());
    let now = SystemTime::now();
    let is_written = |now| there.is_being_written(&wanted, generation, now);
    assert!(is_written(now).await.unwrap());
    assert!(is_written(now - Duration::from_secs(10)).await.unwrap());
    assert!(!is_written(now + Duration::from_secs(120)).await.unwrap());
    writer.finish().await.unwrap();
    assert!(!is_written(now).await.unwrap());
}

#[tokio::test]
async fn a_writer_that_was_replaced_stops() {
    let store = Store::default();
    let (folder_a, folder_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = archives(&store, folder_a.path(), false);
    let b = archives(&store, folder_b.path(), false);
    let all = frames(1, 200, 0);
    let mut stale = a.create(&name("a"), "a").await.unwrap();
    stale.append(&all[..100]).unwrap();
    let mut fresh = b
        .take_over(&name("a"), stale.generation(), "b")
        .await
        .unwrap();
    assert_eq!(fresh.next_offset(), None);
    let error = stale.finish().await.unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Fenced { owner, term: 2 } if owner == "b"),
        "{error:?}"
    );
    assert!(matches!(
        stale.append(&all),
        Err(ArchiveError::Fenced { .. })
    ));
    assert!(matches!(
        stale.sync().await,
        Err(ArchiveError::Fenced { .. })
    ));
    drop(stale);
    assert_eq!(a.left_open(), []);
    fresh.append(&all).unwrap();
    assert_eq!(read_all(&fresh.finish().await.unwrap()).await, all);
}

#[tokio::test]
async fn of_two_new_owners_one_stops() {
    let store = Store::default();
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [a, b, c] = [0, 1, 2].map(|n: usize| archives(&store, folders[n].path(), false));
    let all = frames(1, 200, 0);
    let mut first = a.create(&name("a"), "a").await.unwrap();
    first.append(&all).unwrap();
    first.hand_over().await.unwrap();
    let generation = first.generation();
    let (wanted, owner) = (name("a"), name("a"));
    let (b, c) = tokio::join!(
        b.take_over(&wanted, generation, "b"),
        c.take_over(&owner, generation, "c")
    );
    let (mut b, mut c) = (b.unwrap(), c.unwrap());
    let more = frames(2, 100, 5_000);
    b.append(&more).unwrap();
    c.append(&more).unwrap();
    let (b, c) = (b.finish().await, c.finish().await);
    let (finished, stopped) = if b.is_ok() { (b, c) } else { (c, b) };
    assert!(
        matches!(stopped, Err(ArchiveError::Fenced { .. })),
        "{stopped:?}"
    );
    assert_eq!(read_all(&finished.unwrap()).await, [all, more].concat());
}

#[tokio::test]
async fn what_cannot_be_a_segment_is_named() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let archives = archives(&store, journal.path(), false);
    let mut writer = archives.create(&name("a"), "one").await.unwrap();
    writer.append(&frames(1, 100, 0)).unwrap();
    let first = Path::from(store.paths().await.remove(0));
    let second = Path::from(first.as_ref().replace(
        "segments/00000000000000000000",
        "segments/00000000000000000001",
    ));
    store
        .raw()
        .put(&second, PutPayload::from_static(b"something else"))
        .await
        .unwrap();
    let error = writer.finish().await.unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Damaged { object, .. } if *object == second.to_string()),
        "{error:?}"
    );
    // For good: nothing can be written after it.
    assert!(matches!(
        writer.sync().await,
        Err(ArchiveError::Damaged { .. })
    ));
}

#[tokio::test]
async fn a_full_disk_is_told_and_gets_over() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let disk = TestDisk::default();
    let local = archives_on(&store, journal.path(), true, disk.clone());
    let mut writer = local.create(&name("a"), "one").await.unwrap();
    let all = frames(1, 20, 0);
    writer.append(&all[..10]).unwrap();
    writer.sync().await.unwrap();
    // In the middle of the third record.
    disk.set_room(Some(300));
    writer.append(&all[10..15]).unwrap();
    let error = writer.sync().await.unwrap_err();
    assert!(matches!(error, ArchiveError::Full(_)), "{error:?}");
    assert_eq!(writer.durable(), Some(all[10].offset));

    // What was durable before is found by another process now.
    let seen = left(&store, journal.path()).await;
    assert_eq!(seen, all[..10]);

    disk.set_room(None);
    writer.append(&all).unwrap();
    assert_eq!(writer.sync().await.unwrap(), Some(all[19].offset.next()));
    local.inner.journal.kill();
    drop(writer);
    assert_eq!(left(&store, journal.path()).await, all);
}

/// What a process that starts now finds in the journal, of the only recording that is open. Takes nothing away.
async fn left(store: &Store, journal: &std::path::Path) -> Vec<Frame> {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(journal).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let archives = archives(store, copy.path(), true);
    let [left] = archives.left_open().try_into().unwrap();
    let slot = archives.inner.journal.open(left).unwrap();
    slot.read(None).unwrap()
}

#[tokio::test]
async fn a_failed_sync_of_the_disk_is_told_and_gets_over() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let disk = TestDisk::default();
    let local = archives_on(&store, journal.path(), true, disk.clone());
    let mut writer = local.create(&name("a"), "one").await.unwrap();
    let all = frames(1, 20, 0);
    writer.append(&all[..10]).unwrap();
    writer.sync().await.unwrap();
    writer.append(&all).unwrap();
    disk.fail_syncs(1);
    let error = writer.sync().await.unwrap_err();
    assert!(matches!(error, ArchiveError::Unavailable(_)), "{error:?}");
    assert_eq!(writer.durable(), Some(all[10].offset));
    assert_eq!(writer.sync().await.unwrap(), Some(all[19].offset.next()));
    local.inner.journal.kill();
    drop(writer);
    disk.lose_tails(0);
    assert_eq!(left(&store, journal.path()).await, all);
}

#[tokio::test]
async fn a_distant_store_is_used_without_a_journal() {
    let (store, journal) = (Store::default(), tempfile::tempdir().unwrap());
    let disk = TestDisk::default();
    disk.set_room(Some(0));
    let archives = archives_on(&store, journal.path(), false, disk);
    let mut writer = archives.create(&name("a"), "one").await.unwrap();
    let all = frames(1, 100, 0);
    writer.append(&all).unwrap();
    writer.sync().await.unwrap();
    assert_eq!(read_all(&writer.finish().await.unwrap()).await, all);

    let local = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    disk.set_room(Some(0));
    let archives = archives_on(&store, local.path(), true, disk);
    let error = archives.create(&name("b"), "one").await.unwrap_err();
    assert!(matches!(error, ArchiveError::Full(_)), "{error:?}");
    assert!(archives.generations(&name("b")).await.unwrap().is_empty());
}
