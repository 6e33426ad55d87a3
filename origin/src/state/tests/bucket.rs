//! In a bucket.

use super::*;
use crate::StorageSection;
use crate::store;
use crate::store::tests::moto::Moto;

#[tokio::test]
async fn it_is_in_the_bucket_and_a_second_opener_fences_the_first() {
    let Some(moto) = Moto::start(&[]) else {
        return;
    };
    moto.make_bucket();
    let folder = tempfile::tempdir().unwrap();
    let bucket = |section: &mut StorageSection| {
        section.url = "s3://bucket/prefix".to_owned();
        section.endpoint = format!("http://{}", moto.address);
        section.allow_http = true;
        section.access_key = "test".to_owned();
        section.secret_key = headwater_node::config::Secret::new("test");
    };
    let store = store::tests::open(folder.path(), bucket).await.unwrap();
    let a = Origin::new("a", store.objects());
    let b = Origin::new("b", store.objects());
    let old = a.hold().await;
    for number in 0..20 {
        write(&old, put(&format!("key {number:02}"), "a")).await;
    }
    let new = b.hold().await;
    assert_eq!(rows(&new, "key ").await.len(), 20);
    assert_eq!(soon(old.lost()).await, StateError::Fenced);
    let owner = a.states.owner_of(3).await.unwrap().unwrap();
    assert_eq!(owner.node, "b");
    write(&new, put("key 20", "b")).await;
    new.sever();
    let c = Origin::new("c", store.objects());
    assert_eq!(rows(&c.hold().await, "key ").await.len(), 21);
}
