//! Objects as files in a folder, as [`LocalFileSystem`] has them, but not through links: that one follows them wherever they lead, when it
//! lists, too.
//!
//! Who can write into the folder, and so make links there, must not gain from it that the origin writes, deletes, reads or lists what
//! is elsewhere.
//!
//! # Invariants
//! - Nothing is read, written or deleted behind a link that was there when the operation began. Who exchanges a folder for a link in
//!   between the look and the deed can still win; [`super::Store::read`], which serves viewers, has no such gap.
//! - A link in place of a file is replaced by a write and deleted by a delete, never followed.
//! - What is no file, folder or link is not there when it is listed, and refused when it is read: a pipe would never end.

use std::fmt;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use tokio::task::spawn_blocking;

use super::{ReadError, local};

/// What errors say they come from.
const NAME: &str = "folder";

/// The files below `root`.
#[derive(Clone, Debug)]
pub(super) struct Confined {
    files: LocalFileSystem,
    root: PathBuf,
}

impl Confined {
    /// `files` must have `root` as its prefix.
    pub(super) fn new(files: LocalFileSystem, root: PathBuf) -> Self {
        Self { files, root }
    }

    /// Whether no link is on the way to `path`; with `whole`, whether it is none itself.
    async fn check(&self, path: &Path, whole: bool) -> Result<()> {
        let (root, checked) = (self.root.clone(), path.clone());
        let outcome = spawn_blocking(move || local::check(&root, &checked, whole)).await?;
        outcome.map_err(|error| refusal(path, error))
    }

    /// What is in a folder and in those below it, after `offset`.
    fn walk(
        &self,
        prefix: Option<&Path>,
        offset: Option<Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        // One folder at a time, each as it comes up: what is open and in memory does not grow with what there is.
        let open = vec![prefix.cloned().unwrap_or_default()];
        let state = (self.clone(), open, offset);
        let folders = stream::try_unfold(state, |(confined, mut open, offset)| async move {
            let Some(folder) = open.pop() else {
                return Ok::<_, object_store::Error>(None);
            };
            let entries = confined.entries(&folder, offset.clone()).await?;
            open.extend(entries.folders);
            let objects = stream::iter(entries.objects.into_iter().map(Ok));
            Ok(Some((objects, (confined, open, offset))))
        });
        folders.try_flatten().boxed()
    }

    /// What is in one folder, after `offset`.
    async fn entries(&self, folder: &Path, offset: Option<Path>) -> Result<Entries> {
        let (root, path) = (self.root.clone(), folder.clone());
        spawn_blocking(move || {
            // A name that no folder has, so that the folder itself is on the way.
            local::check(&root, &path.clone().join("x"), false)
                .map_err(|error| refusal(&path, error))?;
            read(root.join(path.as_ref()), &path, offset.as_ref()).map_err(failed)
        })
        .await?
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME} {}", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for Confined {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.check(location, false).await?;
        self.files.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check(location, false).await?;
        self.files.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check(location, true).await?;
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.check(location, true).await?;
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let confined = self.clone();
        let checked = locations.and_then(move |location| {
            let confined = confined.clone();
            async move {
                confined.check(&location, false).await?;
                Ok(location)
            }
        });
        self.files.delete_stream(checked.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix, Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let entries = self
            .entries(&prefix.cloned().unwrap_or_default(), None)
            .await?;
        Ok(ListResult {
            common_prefixes: entries.folders,
            objects: entries.objects,
            extensions: object_store::Extensions::default(),
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check(from, true).await?;
        self.check(to, false).await?;
        self.files.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.check(from, true).await?;
        self.check(to, false).await?;
        self.files.rename_opts(from, to, options).await
    }
}

/// What is in a folder, in the order of names.
#[derive(Debug, Default)]
struct Entries {
    folders: Vec<Path>,
    objects: Vec<ObjectMeta>,
}

/// Reads the folder at `path`, which is `prefix` below the root, without looking at what does not come after `offset`. What is not there
/// has nothing in it. Blocks.
fn read(path: PathBuf, prefix: &Path, offset: Option<&Path>) -> io::Result<Entries> {
    let mut entries = Entries::default();
    let listed = match fs::read_dir(path) {
        Ok(listed) => listed,
        Err(error) if is_missing(&error) => return Ok(entries),
        Err(error) => return Err(error),
    };
    for entry in listed {
        let entry = entry?;
        let Some(location) = location(prefix, &entry) else {
            continue;
        };
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(error) if is_missing(&error) => continue,
            Err(error) => return Err(error),
        };
        if kind.is_dir() {
            if offset.is_none_or(|offset| reaches_past(&location, offset)) {
                entries.folders.push(location);
            }
        } else if offset.is_some_and(|offset| location <= *offset) {
            continue;
        // Else it is being written.
        } else if kind.is_file() && local::is_object(&location) {
            match entry.metadata() {
                Ok(metadata) => entries.objects.push(describe(location, &metadata)),
                // Deleted since.
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    entries.folders.sort_unstable();
    entries
        .objects
        .sort_unstable_by(|left, right| left.location.cmp(&right.location));
    Ok(entries)
}

/// Whether a path in `folder` can come after `offset`.
fn reaches_past(folder: &Path, offset: &Path) -> bool {
    let within = format!("{folder}/");
    offset.as_ref().starts_with(&within) || *within > *offset.as_ref()
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The path of an entry; `None` for names that no object can have.
fn location(prefix: &Path, entry: &DirEntry) -> Option<Path> {
    let name = entry.file_name();
    let name = name.to_str()?;
    let joined = if prefix.is_root() {
        Path::parse(name)
    } else {
        Path::parse(format!("{prefix}/{name}"))
    };
    joined.ok()
}

fn describe(location: Path, metadata: &Metadata) -> ObjectMeta {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let since = modified
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    ObjectMeta {
        location,
        last_modified: modified.into(),
        size: metadata.len(),
        // As `LocalFileSystem` makes it.
        e_tag: Some(format!(
            "\"{:x}-{:x}-{:x}\"",
            metadata.ino(),
            since.as_micros(),
            metadata.len()
        )),
        version: None,
    }
}

fn refusal(path: &Path, error: ReadError) -> object_store::Error {
    match error {
        ReadError::NotFound | ReadError::Replaced => object_store::Error::NotFound {
            path: path.to_string(),
            source: error.into(),
        },
        ReadError::Denied(_) => object_store::Error::PermissionDenied {
            path: path.to_string(),
            source: error.into(),
        },
        ReadError::Unavailable(source) => object_store::Error::Generic {
            store: NAME,
            source,
        },
    }
}

fn failed(error: io::Error) -> object_store::Error {
    object_store::Error::Generic {
        store: NAME,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use object_store::{ObjectStoreExt, PutMode};
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// A root with files and links beside something outside, plain and confined.
    fn stores() -> (tempfile::TempDir, LocalFileSystem, Confined) {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().canonicalize().unwrap().join("root");
        fs::create_dir_all(root.join("a/b c")).unwrap();
        fs::create_dir_all(root.join("empty")).unwrap();
        fs::create_dir_all(root.join("take#1")).unwrap();
        for (path, text) in [
            ("a/b c/sp\u{e4}t.flv", "1"),
            ("a/x#", "22"),
            ("top", "333"),
            ("take#1/x", "4"),
        ] {
            fs::write(root.join(path), text).unwrap();
        }
        // Being written.
        fs::write(root.join("a/x#1"), "").unwrap();
        let files = LocalFileSystem::new_with_prefix(&root).unwrap();
        let confined = Confined::new(files.clone(), root);
        (parent, files, confined)
    }

    fn add_links(parent: &tempfile::TempDir) {
        let root = parent.path().join("root");
        fs::create_dir(parent.path().join("outside")).unwrap();
        fs::write(parent.path().join("outside/secret"), "secret").unwrap();
        symlink("../outside", root.join("folder")).unwrap();
        symlink("../outside/secret", root.join("file")).unwrap();
        symlink("nowhere", root.join("broken")).unwrap();
        mknodat(
            CWD,
            root.join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
    }

    async fn listed(store: &dyn ObjectStore, prefix: Option<&str>) -> Vec<ObjectMeta> {
        let prefix = prefix.map(|prefix| Path::parse(prefix).unwrap());
        let mut found: Vec<ObjectMeta> = store.list(prefix.as_ref()).try_collect().await.unwrap();
        found.sort_unstable_by(|left, right| left.location.cmp(&right.location));
        found
    }

    #[tokio::test]
    async fn a_listing_begins_after_an_offset() {
        let (_parent, files, confined) = stores();
        let all = listed(&confined, None).await;
        let mut offsets: Vec<String> = all.iter().map(|meta| meta.location.to_string()).collect();
        let between = [
            "a", "a/b", "a/b c", "a/b c/a", "a/b d", "a/b!", "empty", "b", "z", "0",
        ];
        offsets.extend(between.map(str::to_owned));
        for prefix in [None, Some("a"), Some("a/b c"), Some("none")] {
            for offset in &offsets {
                let offset = Path::parse(offset).unwrap();
                let prefix = prefix.map(|prefix| Path::parse(prefix).unwrap());
                let found = |store: &dyn ObjectStore| {
                    let listing = store.list_with_offset(prefix.as_ref(), &offset);
                    async move {
                        let mut found: Vec<ObjectMeta> = listing.try_collect().await.unwrap();
                        found.sort_unstable_by(|left, right| left.location.cmp(&right.location));
                        found
                    }
                };
                let (expected, found) = (found(&files).await, found(&confined).await);
                assert_eq!(found, expected, "{prefix:?} after {offset}");
            }
        }
    }

    #[tokio::test]
    async fn without_links_it_lists_as_the_file_system_does() {
        let (_parent, files, confined) = stores();
        for prefix in [
            None,
            Some("a"),
            Some("a/b c"),
            Some("empty"),
            Some("none"),
            Some("top"),
        ] {
            let found = listed(&confined, prefix).await;
            if prefix != Some("top") {
                assert_eq!(found, listed(&files, prefix).await, "{prefix:?}");
            } else {
                assert_eq!(found, []);
            }
            let prefix = prefix.map(|prefix| Path::parse(prefix).unwrap());
            if prefix
                .as_ref()
                .is_none_or(|prefix| prefix.as_ref() != "top" && prefix.as_ref() != "none")
            {
                let ours = confined.list_with_delimiter(prefix.as_ref()).await.unwrap();
                let theirs = files.list_with_delimiter(prefix.as_ref()).await.unwrap();
                assert_eq!(ours.common_prefixes, theirs.common_prefixes);
                assert_eq!(ours.objects.len(), theirs.objects.len());
            }
        }
        assert_eq!(listed(&confined, None).await.len(), 4);
    }

    #[tokio::test]
    async fn what_is_behind_links_is_not_there() {
        let (parent, _, confined) = stores();
        let before = listed(&confined, None).await;
        add_links(&parent);
        assert_eq!(listed(&confined, None).await, before);
        let folders = confined
            .list_with_delimiter(None)
            .await
            .unwrap()
            .common_prefixes;
        let names: Vec<&str> = folders.iter().map(AsRef::as_ref).collect();
        assert_eq!(names, ["a", "empty", "take#1"]);
        let behind: Result<Vec<_>> = confined
            .list(Some(&Path::from("folder")))
            .try_collect()
            .await;
        assert!(matches!(
            behind,
            Err(object_store::Error::PermissionDenied { .. })
        ));
    }

    #[tokio::test]
    async fn nothing_is_done_behind_links() {
        let (parent, _, confined) = stores();
        add_links(&parent);
        let behind = Path::from("folder/secret");
        let top = Path::from("top");
        let outcomes = [
            confined.put(&behind, "mine".into()).await.map(drop),
            confined
                .put_opts(&behind, "mine".into(), PutMode::Create.into())
                .await
                .map(drop),
            confined
                .put_multipart(&Path::from("folder/new"))
                .await
                .map(drop),
            confined.get(&behind).await.map(drop),
            confined.head(&behind).await.map(drop),
            confined.get_ranges(&behind, &[0..1, 2..3]).await.map(drop),
            confined
                .get_range(&Path::from("file"), 0..1)
                .await
                .map(drop),
            confined.get(&Path::from("file")).await.map(drop),
            confined.get(&Path::from("broken")).await.map(drop),
            confined.get(&Path::from("pipe")).await.map(drop),
            confined.delete(&behind).await,
            confined.copy(&behind, &Path::from("copy")).await,
            confined
                .copy(&Path::from("file"), &Path::from("copy"))
                .await,
            confined.copy(&top, &Path::from("folder/copy")).await,
            confined.rename(&behind, &Path::from("copy")).await,
            confined.rename(&top, &Path::from("folder/copy")).await,
        ];
        for (number, outcome) in outcomes.into_iter().enumerate() {
            assert!(
                matches!(outcome, Err(object_store::Error::PermissionDenied { .. })),
                "{number}: {outcome:?}"
            );
        }
        let outside: Vec<_> = fs::read_dir(parent.path().join("outside"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(outside, ["secret"]);
        let secret = fs::read_to_string(parent.path().join("outside/secret")).unwrap();
        assert_eq!(secret, "secret");
    }

    #[tokio::test]
    async fn a_link_in_place_of_a_file_is_replaced_or_deleted_itself() {
        let (parent, _, confined) = stores();
        add_links(&parent);
        let file = Path::from("file");
        let create = confined
            .put_opts(&file, "mine".into(), PutMode::Create.into())
            .await;
        assert!(matches!(
            create,
            Err(object_store::Error::AlreadyExists { .. })
        ));
        confined.put(&file, "mine".into()).await.unwrap();
        assert_eq!(
            confined.get(&file).await.unwrap().bytes().await.unwrap(),
            "mine"
        );
        confined.delete(&Path::from("broken")).await.unwrap();
        assert!(!parent.path().join("root/broken").is_symlink());
        let secret = fs::read_to_string(parent.path().join("outside/secret")).unwrap();
        assert_eq!(secret, "secret");
    }

    #[tokio::test]
    async fn what_is_no_link_works_as_before() {
        let (_parent, _, confined) = stores();
        let (path, copy) = (Path::from("new/folder/file"), Path::from("other/copy"));
        confined.put(&path, "content".into()).await.unwrap();
        confined.copy(&path, &copy).await.unwrap();
        assert_eq!(confined.get_range(&copy, 1..3).await.unwrap(), "on");
        assert_eq!(
            confined.get_ranges(&copy, &[0..1, 6..7]).await.unwrap(),
            ["c", "t"]
        );
        confined.rename(&copy, &Path::from("moved")).await.unwrap();
        confined.delete(&path).await.unwrap();
        for missing in [&path, &copy, &Path::from("a")] {
            let found = confined.head(missing).await;
            assert!(
                matches!(found, Err(object_store::Error::NotFound { .. })),
                "{missing}"
            );
        }
        let mut upload = confined.put_multipart(&path).await.unwrap();
        upload.put_part("in ".into()).await.unwrap();
        upload.put_part("parts".into()).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(
            confined.get(&path).await.unwrap().bytes().await.unwrap(),
            "in parts"
        );
        assert_eq!(confined.to_string().split(' ').next(), Some(NAME));
    }
}
