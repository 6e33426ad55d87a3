//! Opening files below a folder, and nothing else: no device, no pipe, and nothing that a link leads to.
//!
//! The way is gone component by component from the root (openat(2), `O_NOFOLLOW`), and what was opened is looked at once more, so it
//! makes no difference what somebody changes in the folder meanwhile. Names are taken as they are: no case, no Unicode forms.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use headwater_mapped::Mapped;
use headwater_media::file::ReadAt;
use object_store::path::Path as ObjectPath;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, Stat, accessat, openat, statat};
use rustix::io::Errno;

use super::{ReadError, version as hashed};

/// For folders on the way: to search in them, which needs no permission to list them.
#[cfg(target_os = "linux")]
const WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const WAY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// Without `NONBLOCK` a pipe that took the place of a file would hold us up.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// How long a file in a folder of deleted objects is not touched before nobody writes it any more.
const UNFINISHED_AGE: Duration = Duration::from_secs(10);

/// A file that is open.
#[derive(Debug)]
pub(super) struct LocalFile {
    pub(super) file: File,
    pub(super) version: u64,
}

/// A file that is mapped.
pub(super) struct Bytes(pub(super) Mapped);

impl ReadAt for Bytes {
    fn length(&self) -> u64 {
        self.0.length()
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<bytes::Bytes> {
        self.0.read_at(offset, length)
    }
}

/// Opens the file at `path` below `root`. Blocks.
pub(super) fn open(
    root: &Path,
    path: &ObjectPath,
    follow_links: bool,
) -> Result<LocalFile, ReadError> {
    let (folders, name) = split(path).ok_or(ReadError::NotFound)?;
    let folder = walk(root, folders, follow_links)?;
    // Looked at before it is opened, because opening a device can do something.
    look_at(&folder, name, follow_links)?;
    let no_follow = if follow_links {
        OFlags::empty()
    } else {
        OFlags::NOFOLLOW
    };
    let file = openat(&folder, name, READ | no_follow, Mode::empty()).map_err(refused)?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(ReadError::unavailable)?;
    if !metadata.is_file() {
        return Err(denied("it is no regular file"));
    }
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    let version = version_of(metadata.ino(), modified, metadata.len());
    Ok(LocalFile { file, version })
}

/// The version that [`open`] would find, without opening anything. Blocks.
pub(super) fn version(
    root: &Path,
    path: &ObjectPath,
    follow_links: bool,
) -> Result<u64, ReadError> {
    let (folders, name) = split(path).ok_or(ReadError::NotFound)?;
    let folder = walk(root, folders, follow_links)?;
    let found = look_at(&folder, name, follow_links)?;
    accessat(&folder, name, Access::READ_OK, AtFlags::empty()).map_err(refused)?;
    // As the standard library gives them.
    let modified = (found.st_mtime, found.st_mtime_nsec as i64);
    let length = found.st_size as u64;
    Ok(version_of(found.st_ino, modified, length))
}

/// What is there, if it is a regular file.
fn look_at(folder: &OwnedFd, name: &str, follow_links: bool) -> Result<Stat, ReadError> {
    let at = if follow_links {
        AtFlags::empty()
    } else {
        AtFlags::SYMLINK_NOFOLLOW
    };
    let found = statat(folder, name, at).map_err(refused)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Ok(found),
        FileType::Directory => Err(ReadError::NotFound),
        FileType::Symlink => Err(denied("it is a symbolic link")),
        _ => Err(denied("it is no regular file")),
    }
}

fn version_of(inode: u64, (seconds, nanoseconds): (i64, i64), length: u64) -> u64 {
    hashed(|hash| {
        hash(&inode.to_le_bytes());
        hash(&seconds.to_le_bytes());
        hash(&nanoseconds.to_le_bytes());
        hash(&length.to_le_bytes());
    })
}

/// Whether the way to `path` below `root` leads through folders only, as far as it is there; with `whole`, also whether what is at its end is
/// a regular file or a folder. Blocks.
pub(super) fn check(root: &Path, path: &ObjectPath, whole: bool) -> Result<(), ReadError> {
    let (folders, name) = split(path).ok_or(ReadError::NotFound)?;
    let folder = match walk(root, folders, false) {
        Ok(folder) => folder,
        Err(ReadError::NotFound) => return Ok(()),
        Err(error) => return Err(error),
    };
    if !whole {
        return Ok(());
    }
    let kind = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(refused) {
        Ok(found) => FileType::from_raw_mode(found.st_mode),
        Err(ReadError::NotFound) => return Ok(()),
        Err(error) => return Err(error),
    };
    match kind {
        FileType::RegularFile | FileType::Directory => Ok(()),
        FileType::Symlink => Err(denied("it is a symbolic link")),
        _ => Err(denied("it is no regular file")),
    }
}

/// Goes from `root` through `folders`.
fn walk<'p>(
    root: &Path,
    folders: impl Iterator<Item = &'p str>,
    follow_links: bool,
) -> Result<OwnedFd, ReadError> {
    let no_follow = if follow_links {
        OFlags::empty()
    } else {
        OFlags::NOFOLLOW
    };
    // The root itself may be a link: the operator named it.
    let mut folder = openat(CWD, root, WAY, Mode::empty()).map_err(unavailable)?;
    for part in folders {
        folder = match openat(&folder, part, WAY | no_follow, Mode::empty()) {
            Ok(next) => next,
            // Also what a link in place of a folder gives.
            Err(Errno::NOTDIR) => {
                let found = statat(&folder, part, AtFlags::SYMLINK_NOFOLLOW).map_err(refused)?;
                return Err(match FileType::from_raw_mode(found.st_mode) {
                    FileType::Symlink if !follow_links => denied("a symbolic link is on the way"),
                    _ => ReadError::NotFound,
                });
            }
            Err(error) => return Err(refused(error)),
        };
    }
    Ok(folder)
}

/// Whether `path` can be that of an object.
pub(super) fn is_object(path: &ObjectPath) -> bool {
    split(path).is_some()
}

/// What a local store writes to before it gives it the name, `NAME#DIGITS`, and so never gives out: the name that it is to get. `None`
/// for other names.
pub(crate) fn unfinished(name: &str) -> Option<&str> {
    let (whole, digits) = name.rsplit_once('#')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    is_number.then_some(whole)
}

/// Removes what a process that died has left of numbered objects that it was writing. An error leaves the folder as it is. Blocks.
pub(super) fn remove_unfinished(root: &Path, folder: &ObjectPath, follow_links: bool) {
    // A name that is not there, so that the folder itself is on the way.
    if !follow_links && check(root, &folder.clone().join("x"), false).is_err() {
        return;
    }
    let Ok(entries) = fs::read_dir(root.join(folder.as_ref())) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let whole = name.to_str().and_then(unfinished);
        let is_number =
            |whole: &str| whole.len() == 20 && whole.bytes().all(|it| it.is_ascii_digit());
        let is_old = |found: fs::Metadata| {
            let age = found.modified().map(|since| since.elapsed());
            found.is_file() && age.is_ok_and(|age| age.is_ok_and(|age| age > UNFINISHED_AGE))
        };
        if whole.is_some_and(is_number) && entry.metadata().is_ok_and(is_old) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Folders and name of a path; `None` for what names no file.
fn split(path: &ObjectPath) -> Option<(impl Iterator<Item = &str>, &str)> {
    let raw = path.as_ref();
    let well_formed = raw
        .split('/')
        .all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
    let (folders, name) = raw.rsplit_once('/').unwrap_or(("", raw));
    let folders = folders.split('/').filter(|part| !part.is_empty());
    (well_formed && unfinished(name).is_none()).then_some((folders, name))
}

fn refused(error: Errno) -> ReadError {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => {
            ReadError::NotFound
        }
        Errno::ACCESS | Errno::PERM => denied("no permission"),
        Errno::LOOP => denied("a symbolic link is on the way"),
        // A device or socket without anybody behind it, that came after we looked.
        Errno::NXIO | Errno::NODEV => denied("it is no regular file"),
        error => unavailable(error),
    }
}

fn unavailable(error: Errno) -> ReadError {
    ReadError::unavailable(io::Error::from(error))
}

fn denied(why: &str) -> ReadError {
    ReadError::Denied(why.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::time::SystemTime;

    use rustix::fs::{CWD, mknodat};

    use super::*;

    /// What opening gives; looking at the version alone gives the same.
    fn opened_with(root: &Path, path: &str, follow_links: bool) -> Result<LocalFile, ReadError> {
        let path = ObjectPath::parse(path).unwrap();
        let opened = open(root, &path, follow_links);
        let looked_at = version(root, &path, follow_links);
        match (&opened, &looked_at) {
            (Ok(file), Ok(version)) => assert_eq!(file.version, *version, "{path}"),
            (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string(), "{path}"),
            _ => panic!("{path}: {opened:?}, {looked_at:?}"),
        }
        opened
    }

    fn opened(root: &Path, path: &str) -> Result<LocalFile, ReadError> {
        opened_with(root, path, false)
    }

    fn content(opened: Result<LocalFile, ReadError>) -> String {
        let mut text = String::new();
        opened.unwrap().file.read_to_string(&mut text).unwrap();
        text
    }

    /// `root` with a file in a folder, beside something that nobody may read.
    fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "content").unwrap();
        fs::write(root.join("top"), "top").unwrap();
        fs::create_dir(parent.path().join("outside")).unwrap();
        fs::write(parent.path().join("outside/secret"), "secret").unwrap();
        (parent, root)
    }

    #[test]
    fn files_are_opened_by_their_exact_names() {
        let (_parent, root) = folder();
        assert_eq!(content(opened(&root, "top")), "top");
        assert_eq!(content(opened(&root, "a/b/file")), "content");
        for name in ["späße 100%.flv", "a#b.flv", "x#", "#1x", "-f", "a b", "~"] {
            fs::write(root.join(name), name).unwrap();
            assert_eq!(content(opened(&root, name)), name);
        }
        for path in [
            "A/b/file",
            "a/b/FILE",
            "a/b/file/more",
            "a/b",
            "a",
            "none",
            "a/none/file",
        ] {
            let error = opened(&root, path).unwrap_err();
            assert!(matches!(error, ReadError::NotFound), "{path}: {error:?}");
        }
        let long = "x".repeat(300);
        assert!(matches!(opened(&root, &long), Err(ReadError::NotFound)));
        assert!(matches!(
            open(&root, &ObjectPath::ROOT, false),
            Err(ReadError::NotFound)
        ));
        for half in ["half#12", "take#x#1"] {
            fs::write(root.join(half), "half").unwrap();
            assert!(matches!(opened(&root, half), Err(ReadError::NotFound)));
        }
    }

    #[test]
    fn links_are_not_followed_unless_the_operator_wants_that() {
        let (_parent, root) = folder();
        symlink("../outside", root.join("folder")).unwrap();
        symlink("../outside/secret", root.join("link")).unwrap();
        symlink("top", root.join("inside")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("nowhere", root.join("broken")).unwrap();
        symlink("top", root.join("to_file")).unwrap();
        for path in [
            "folder/secret",
            "link",
            "inside",
            "loop",
            "loop/x",
            "broken",
            "to_file/x",
        ] {
            let error = opened(&root, path).unwrap_err();
            assert!(matches!(error, ReadError::Denied(_)), "{path}: {error:?}");
        }
        let follow = |path: &str| opened_with(&root, path, true);
        assert_eq!(content(follow("folder/secret")), "secret");
        assert_eq!(content(follow("link")), "secret");
        assert_eq!(content(follow("inside")), "top");
        assert!(matches!(follow("loop"), Err(ReadError::Denied(_))));
        assert!(matches!(follow("broken"), Err(ReadError::NotFound)));
        assert!(matches!(follow("to_file/x"), Err(ReadError::NotFound)));
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let (_parent, root) = folder();
        let mode = Mode::from_raw_mode(0o644);
        mknodat(CWD, root.join("pipe"), FileType::Fifo, mode, 0).unwrap();
        let _socket = UnixListener::bind(root.join("socket")).unwrap();
        for path in ["pipe", "socket"] {
            for follow in [false, true] {
                let error = opened_with(&root, path, follow).unwrap_err();
                assert!(matches!(error, ReadError::Denied(_)), "{path}: {error:?}");
            }
        }
        let error = opened(Path::new("/dev"), "null").unwrap_err();
        assert!(matches!(error, ReadError::Denied(_)), "{error:?}");
    }

    #[test]
    fn a_root_that_is_gone_is_not_a_file_that_is_not_there() {
        let (parent, _) = folder();
        let error = opened(&parent.path().join("gone"), "top").unwrap_err();
        assert!(matches!(error, ReadError::Unavailable(_)), "{error:?}");
    }

    #[test]
    fn the_version_changes_with_the_file_and_only_then() {
        let (parent, root) = folder();
        let version = || opened(&root, "top").unwrap().version;
        let first = version();
        assert_eq!(version(), first);
        let mut seen = vec![first];
        let path = root.join("top");

        fs::write(&path, "longer").unwrap();
        seen.push(version());

        let file = File::options().write(true).open(&path).unwrap();
        let other = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        file.set_modified(other).unwrap();
        seen.push(version());

        // Another file with the same length and time.
        let copy = parent.path().join("copy");
        fs::write(&copy, "Longer").unwrap();
        let file = File::options().write(true).open(&copy).unwrap();
        file.set_modified(other).unwrap();
        fs::rename(&copy, &path).unwrap();
        seen.push(version());

        let mut distinct = seen.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), seen.len(), "{seen:?}");
        assert!(!seen.contains(&0));
    }

    #[test]
    fn a_file_without_permission_is_denied() {
        use std::os::unix::fs::PermissionsExt;

        let (_parent, root) = folder();
        for (path, locked) in [("top", "top"), ("a/b/file", "a/b")] {
            let locked = root.join(locked);
            fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
            let result = opened(&root, path);
            fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
            if rustix::process::geteuid().is_root() {
                // Root may read everything.
                assert_eq!(content(result).len(), content(opened(&root, path)).len());
            } else {
                let error = result.unwrap_err();
                assert!(matches!(error, ReadError::Denied(_)), "{path}: {error:?}");
            }
        }
        // Whoever we are: the two errors that the kernel gives.
        for error in [Errno::ACCESS, Errno::PERM] {
            assert!(matches!(refused(error), ReadError::Denied(_)));
        }
    }
}
