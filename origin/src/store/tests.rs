//! The store as a whole, in a folder.

mod buckets;
pub(crate) mod moto;

use std::os::unix::fs::symlink;

use futures_util::TryStreamExt;

use super::*;

/// A store in `data_dir`, with a section that is changed first.
pub(crate) async fn open(
    data_dir: &Path,
    change: impl FnOnce(&mut StorageSection),
) -> Result<Store, StoreError> {
    let mut section = OriginSection {
        data_dir: data_dir.to_owned(),
        ..OriginSection::default()
    };
    change(&mut section.storage);
    Store::open(&section, &Metrics::new("test", "origin")).await
}

async fn opened(store: &Store, path: &str) -> Opened {
    store.read(&ObjectPath::from(path)).await.unwrap()
}

fn all(opened: &Opened) -> bytes::Bytes {
    let length = usize::try_from(opened.bytes.length()).unwrap();
    opened.bytes.read_at(0, length).unwrap()
}

#[test]
fn a_missing_folder_is_made_and_left_empty() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b");
    folder("data_dir", &path).unwrap();
    folder("data_dir", &path).unwrap();
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
}

#[test]
fn what_is_no_folder_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("file");
    fs::write(&path, "").unwrap();
    let error = folder("data_dir", &path).unwrap_err();
    assert!(matches!(error, StoreError::Create { .. }), "{error:?}");
    assert!(error.to_string().contains("file"), "{error}");
    assert_eq!(error.key(), "origin.data_dir");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_refused() {
    // Holds for root, too: the kernel takes no new files here.
    let error = folder("data_dir", Path::new("/proc/self")).unwrap_err();
    assert!(matches!(error, StoreError::Write { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_written_is_in_the_data_folder_and_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| {}).await.unwrap();
    let root = folder.path().canonicalize().unwrap();
    assert_eq!(store.local_root(), Some(root.as_path()));
    assert!(!store.is_remote());
    assert_eq!(store.journal_dir(), root.join("journal"));
    assert!(store.journal_dir().is_dir());
    let left: Vec<_> = store.objects().list(None).try_collect().await.unwrap();
    assert_eq!(left, [], "the probe is gone");
    assert!(!root.join(PROBE_FOLDER).exists());

    let path = ObjectPath::parse("applications/live/streams/a \u{fc}/b.flv").unwrap();
    let put = |text: &'static str| {
        let create = PutMode::Create.into();
        store.objects().put_opts(&path, text.into(), create)
    };
    put("first").await.unwrap();
    assert!(matches!(
        put("second").await,
        Err(object_store::Error::AlreadyExists { .. })
    ));
    assert_eq!(fs::read(root.join(path.as_ref())).unwrap(), b"first");
    let opened = store.read(&path).await.unwrap();
    assert_eq!(store.version(&path).await.unwrap(), opened.version);
    assert_eq!(all(&opened), "first");
    assert_eq!(opened.bytes.read_at(1, 3).unwrap(), "irs");
}

#[tokio::test]
async fn another_folder_by_its_url() {
    let parent = tempfile::tempdir().unwrap();
    let (data, media) = (parent.path().join("data"), parent.path().join("my media"));
    let url = url::Url::from_directory_path(&media).unwrap().to_string();
    let store = open(&data, |section| section.url = url).await.unwrap();
    assert_eq!(
        store.local_root(),
        Some(media.canonicalize().unwrap().as_path())
    );
    assert_eq!(
        store.journal_dir(),
        data.canonicalize().unwrap().join("journal")
    );
    fs::write(media.join("file"), "content").unwrap();
    assert_eq!(all(&opened(&store, "file").await), "content");
}

#[tokio::test]
async fn what_was_opened_stays_when_it_is_replaced_or_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| {}).await.unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "old content").unwrap();
    let old = opened(&store, "file").await;

    let new = folder.path().join("new");
    fs::write(&new, "new content").unwrap();
    fs::rename(&new, &path).unwrap();
    assert_eq!(all(&old), "old content");
    let replaced = opened(&store, "file").await;
    assert_eq!(all(&replaced), "new content");
    assert_ne!(replaced.version, old.version);

    fs::remove_file(&path).unwrap();
    assert_eq!(all(&replaced), "new content");
    let gone = store.read(&ObjectPath::from("file")).await;
    assert!(matches!(gone, Err(ReadError::NotFound)), "{gone:?}");
}

#[tokio::test]
async fn what_is_cut_while_it_is_open_is_an_error_and_no_crash() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| {}).await.unwrap();
    let path = folder.path().join("file");
    fs::write(&path, vec![7; 100_000]).unwrap();
    let opened = opened(&store, "file").await;
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(50_000)
        .unwrap();
    assert_eq!(opened.bytes.read_at(0, 50_000).unwrap(), vec![7; 50_000]);
    let error = opened.bytes.read_at(0, 50_001).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(matches!(ReadError::from(error), ReadError::Replaced));
    assert_ne!(self::opened(&store, "file").await.version, opened.version);
}

#[tokio::test]
async fn links_out_of_the_folder_are_for_the_operator_to_allow() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    fs::create_dir(parent.path().join("nas")).unwrap();
    fs::write(parent.path().join("nas/show.flv"), "show").unwrap();
    for follow in [false, true] {
        let store = open(&data, |section| section.follow_links = follow)
            .await
            .unwrap();
        if !follow {
            symlink("../nas", data.join("media")).unwrap();
        }
        let read = store.read(&ObjectPath::from("media/show.flv")).await;
        match (follow, read) {
            (false, Err(ReadError::Denied(_))) => {}
            (true, Ok(opened)) => assert_eq!(all(&opened), "show"),
            (_, other) => panic!("{follow}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn folders_that_became_empty_go_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| {}).await.unwrap();
    let generation = folder.path().join("recordings/key/1");
    fs::create_dir_all(&generation).unwrap();
    fs::create_dir_all(folder.path().join("recordings/other")).unwrap();
    fs::write(generation.join("0"), "").unwrap();
    let path = ObjectPath::from("recordings/key/1");
    store.remove_empty_folders(&path).await;
    assert!(generation.exists());
    fs::remove_file(generation.join("0")).unwrap();
    store.remove_empty_folders(&path).await;
    assert!(!folder.path().join("recordings/key").exists());
    assert!(folder.path().join("recordings/other").exists());
}

#[tokio::test]
async fn what_a_process_that_died_was_writing_goes_with_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| {}).await.unwrap();
    let segments = folder.path().join("recordings/key/1/segments");
    fs::create_dir_all(&segments).unwrap();
    let left = [
        format!("{:020}#1", 7),
        format!("{:020}#2", 8),
        "x#1".to_owned(),
    ];
    for name in &left {
        fs::write(segments.join(name), "half").unwrap();
    }
    // Not the newest, which may be coming still.
    for name in [&left[0], &left[2]] {
        let file = fs::File::options()
            .write(true)
            .open(segments.join(name))
            .unwrap();
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(60);
        file.set_modified(long_ago).unwrap();
    }
    let path = ObjectPath::from("recordings/key/1/segments");
    store.remove_empty_folders(&path).await;
    assert!(!segments.join(&left[0]).exists());
    assert!(segments.join(&left[1]).exists() && segments.join(&left[2]).exists());
    fs::remove_file(segments.join(&left[1])).unwrap();
    fs::remove_file(segments.join(&left[2])).unwrap();
    fs::write(segments.join(&left[0]), "half").unwrap();
    let file = fs::File::options()
        .write(true)
        .open(segments.join(&left[0]))
        .unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    store.remove_empty_folders(&path).await;
    assert!(!folder.path().join("recordings/key").exists());
}

#[tokio::test]
async fn a_data_folder_that_is_gone_is_not_a_file_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), |_| {}).await.unwrap();
    drop(folder);
    let read = store.read(&ObjectPath::from("file")).await;
    assert!(matches!(read, Err(ReadError::Unavailable(_))), "{read:?}");
}
