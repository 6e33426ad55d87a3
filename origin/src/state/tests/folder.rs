//! In the data folder.

use super::*;
use crate::store;

#[tokio::test]
async fn it_is_below_the_data_folder_and_there_after_a_crash() {
    for follow_links in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let store = store::tests::open(folder.path(), |section| {
            section.follow_links = follow_links;
        })
        .await
        .unwrap();
        let origin = Origin::with("a", store.objects(), |section| {
            section.memory_bytes = 65_536;
        });
        let held = origin.hold().await;
        for number in 0..200 {
            let row = put(&format!("key {number:03}"), &"x".repeat(1_000));
            write(&held, row).await;
        }
        held.sever();
        assert!(folder.path().join("state/0003/wal").is_dir());
        let next = Origin::new("b", store.objects());
        let again = next.hold().await;
        assert_eq!(rows(&again, "key ").await.len(), 200);
        write(&again, put("key 200", "1")).await;
        drop(again);
        next.wait_for_metric("open", 0.0).await;
        assert_eq!(rows(&next.hold().await, "key ").await.len(), 201);
    }
}

#[tokio::test]
async fn two_origins_that_share_a_folder_fence_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = store::tests::open(folder.path(), |_| {}).await.unwrap();
    let a = Origin::new("a", store.objects());
    let b = Origin::new("b", store.objects());
    let old = a.hold().await;
    write(&old, put("key", "a")).await;
    let new = b.hold().await;
    assert_eq!(soon(old.lost()).await, StateError::Fenced);
    assert_eq!(value(&new, "key").await.as_deref(), Some("a"));
    let owner = a.states.owner_of(3).await.unwrap().unwrap();
    assert_eq!(owner.node, "b");
}
