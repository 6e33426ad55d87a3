//! With real files and real syncs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::local::LocalFileSystem;

use super::super::{ArchiveConfig, ArchiveError, Archives};
use super::support::*;

fn folder_store(folder: &std::path::Path) -> Arc<LocalFileSystem> {
    let store = LocalFileSystem::new_with_prefix(folder).unwrap();
    Arc::new(store.with_fsync(true).with_automatic_cleanup(true))
}

#[tokio::test]
async fn a_folder_holds_recordings_through_restarts() {
    let (data, journal) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = || {
        let store = folder_store(data.path());
        Archives::new(store, journal.path().to_owned(), true, config()).unwrap()
    };
    let all = frames(1, 400, 0);
    let mut archives = start();
    assert!(archives.generations(&name("a")).await.unwrap().is_empty());
    let mut writer = archives.create(&name("a"), "one").await.unwrap();
    let generation = writer.generation();
    for (number, batch) in all.chunks(25).enumerate() {
        writer.append(batch).unwrap();
        let durable = writer.sync().await.unwrap();
        assert_eq!(durable, batch.last().map(|last| last.offset.next()));
        if number % 5 == 4 {
            // The process dies.
            archives.inner.journal.kill();
            drop(writer);
            archives = start();
            let [left] = archives.left_open().try_into().unwrap();
            assert_eq!((left.name, left.generation), (name("a"), generation));
            writer = archives
                .take_over(&name("a"), generation, "one")
                .await
                .unwrap();
            assert_eq!(writer.next_offset(), durable);
            check_pieces(&writer.reader(), &all[..(number + 1) * 25]).await;
        }
    }
    let reader = writer.finish().await.unwrap();
    check_pieces(&reader, &all).await;
    assert_eq!(
        archives.generations(&name("a")).await.unwrap(),
        [generation]
    );
    let cold = start().open(&name("a"), generation).await.unwrap();
    assert_eq!(read_all(&cold).await, all);
    archives.delete(&name("a"), generation).await.unwrap();
    let error = cold.piece_at(all[0].offset).await.unwrap_err();
    assert!(matches!(error, ArchiveError::NotFound), "{error:?}");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn any_number_of_recordings_shares_the_syncs() {
    let (data, journal) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = ArchiveConfig {
        sync_ms: 50,
        ..ArchiveConfig::default()
    };
    let store = folder_store(data.path());
    let archives = Archives::new(store, journal.path().to_owned(), true, config).unwrap();
    let recordings = 40;
    let names: Vec<_> = (0..recordings).map(|n| name(&format!("s{n}"))).collect();
    let begun = names.iter().map(|name| archives.create(name, "one"));
    let mut writers = futures_util::future::try_join_all(begun).await.unwrap();
    let (before, start) = (archives.journal_usage(), Instant::now());
    for number in 0..20 {
        for writer in &mut writers {
            writer.append(&[frame(1, number, 0)]).unwrap();
        }
        let synced = writers.iter_mut().map(|writer| writer.sync());
        futures_util::future::try_join_all(synced).await.unwrap();
    }
    let syncs = archives.journal_usage().syncs - before.syncs;
    let most = start.elapsed().as_millis() / Duration::from_millis(50).as_millis() + 2;
    assert!(
        u128::from(syncs) <= most,
        "{syncs} syncs, at most {most} are due"
    );
    for writer in &writers {
        assert_eq!(writer.durable(), Some(frame(1, 20, 0).offset));
    }
}
