//! Places that files can be made in, places that they cannot, and cards.

use std::os::unix::fs::{PermissionsExt, symlink};

use object_store::memory::InMemory;

use super::*;

fn target() -> Target {
    Target::of(&name()).unwrap()
}

fn name() -> StreamName {
    StreamName::new("_defaultVHost_", "live", "_definst_", "a/show").unwrap()
}

fn files(root: Option<PathBuf>) -> Files {
    Files::of_objects(Arc::new(InMemory::new()), root, Arc::new(|_| None))
}

#[tokio::test]
async fn places_are_probed() {
    type Prepare = fn(&FilePath, &FilePath);
    let cases: [(&str, Prepare, bool); 7] = [
        ("nothing there", |_, _| {}, true),
        (
            "a file to be replaced",
            |_, path| std::fs::write(path, "old").unwrap(),
            true,
        ),
        (
            "a folder in its place",
            |_, path| std::fs::create_dir(path).unwrap(),
            false,
        ),
        (
            "a read-only file",
            |_, path| {
                std::fs::write(path, "old").unwrap();
                let read_only = std::fs::Permissions::from_mode(0o444);
                std::fs::set_permissions(path, read_only).unwrap();
            },
            false,
        ),
        (
            "a file where the folder is to be",
            |_, path| {
                let parent = path.parent().unwrap();
                std::fs::remove_dir(parent).unwrap();
                std::fs::write(parent, "").unwrap();
            },
            false,
        ),
        (
            "a link out of the store",
            |elsewhere, path| {
                let parent = path.parent().unwrap();
                std::fs::remove_dir(parent).unwrap();
                symlink(elsewhere, parent).unwrap();
            },
            false,
        ),
        (
            "a link where a folder above is to be",
            |elsewhere, path| {
                let above = path.parent().unwrap().parent().unwrap();
                std::fs::remove_dir_all(above).unwrap();
                symlink(elsewhere, above).unwrap();
            },
            false,
        ),
    ];
    for (what, prepare, good) in cases {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = root.path().join(target().path.as_ref());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        prepare(elsewhere.path(), &path);
        let probed = files(Some(root.path().to_owned())).probe(&target()).await;
        match probed {
            Ok(()) => assert!(good, "{what}"),
            Err(error) => assert_eq!((good, error.cause), (false, Cause::NoAccess), "{what}"),
        }
        assert_eq!(
            std::fs::read_dir(elsewhere.path()).unwrap().count(),
            0,
            "{what}"
        );
        if good {
            let left = std::fs::read_dir(path.parent().unwrap()).unwrap();
            assert!(left.count() <= 1, "{what}: the probe is left");
        }
    }
}

#[tokio::test]
async fn what_a_dead_process_left_of_a_file_is_swept() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(target().path.as_ref());
    let folder = path.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    for file in [
        "show.flv",
        "show.flv#1",
        "show.flv#23",
        "show.flv#x",
        "other.flv#1",
    ] {
        std::fs::write(folder.join(file), "").unwrap();
    }
    files(Some(root.path().to_owned())).sweep(&target()).await;
    let left = std::fs::read_dir(folder).unwrap();
    let mut left: Vec<String> = left
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["other.flv#1", "show.flv", "show.flv#x"]);
}

#[tokio::test]
async fn cards_are_kept_and_only_believed_of_the_file_they_speak_of() {
    let files = files(None);
    assert_eq!(files.card(&name()).await.unwrap(), Card::default());
    let card = Card {
        continues: None,
        placed: Some(Placed {
            generation: 7,
            length: 4,
            end_ms: 1_000,
            shift_ms: -5,
            epoch: 1,
            sequence: 2,
            unix_ms: 3,
        }),
        ended: Some((7, 8)),
        window: Some((7, 9)),
    };
    files.write_card(&name(), &card).await.unwrap();
    assert_eq!(files.card(&name()).await.unwrap(), card);
    assert_eq!(
        files.placed(&target(), &card).await.unwrap(),
        None,
        "no file"
    );
    for (content, known) in [("abcd", true), ("abcde", false)] {
        let put = files.objects.put(&target().path, content.into()).await;
        put.unwrap();
        let placed = files.placed(&target(), &card).await.unwrap();
        assert_eq!(placed.is_some(), known, "{content}");
    }
    files
        .objects
        .put(&card_path(&name()), "{".into())
        .await
        .unwrap();
    assert_eq!(files.card(&name()).await.unwrap(), Card::default());
    files.erase(&target(), &name()).await.unwrap();
    files.erase(&target(), &name()).await.unwrap();
    assert_eq!(files.head(&target().path).await.unwrap(), None);
}

#[test]
fn errors_are_told_apart() {
    for (kind, cause) in [
        (io::ErrorKind::StorageFull, Cause::Full),
        (io::ErrorKind::ReadOnlyFilesystem, Cause::NoAccess),
        (io::ErrorKind::NotADirectory, Cause::NoAccess),
        (io::ErrorKind::TimedOut, Cause::Unavailable),
    ] {
        let error = object_store::Error::Generic {
            store: "test",
            source: io::Error::from(kind).into(),
        };
        assert_eq!(from_store(&error).cause, cause, "{kind:?}");
    }
}

#[tokio::test]
async fn room_is_promised_once_and_given_back() {
    let files = Files::of_objects(Arc::new(InMemory::new()), None, Arc::new(|_| Some(1_000)));
    let first = files.room(600, 300).await.unwrap();
    let second = files.room(600, 300).await.unwrap_err();
    assert_eq!(second.cause, Cause::Full);
    let third = files.room(400, 0).await.unwrap();
    drop((first, third));
    drop(files.room(1_000, 0).await.unwrap());
    assert!(files.room(1_000, 1).await.is_err());
    assert!(files.room(u64::MAX, u64::MAX).await.is_err());
    drop(files.room(1_000, 0).await.unwrap());
}
