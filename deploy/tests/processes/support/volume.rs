//! A small disk of the test's own: a tmpfs that is mounted in a mount namespace, where nobody else sees it. Nodes are started
//! within, and the test looks at the same files through `/proc`.
//!
//! The namespace needs the right to mount, or to make a user namespace that has it. Where neither is given, tests that want a disk are
//! skipped as where a program is missing.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::tools::{Tool, cannot, has};
use super::wait::until;

/// What `unshare` is asked for: as root of the machine, or as root of a namespace only.
const WAYS: [&[&str]; 2] = [&["--mount"], &["--mount", "--user", "--map-root-user"]];

/// How long mounting may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Bytes that are written at a time to fill the disk.
const BLOCK: usize = 64 << 10;

/// A disk. It goes with the value, and with it all that is on it.
pub(crate) struct Volume {
    /// Where it is mounted; empty outside of the namespace.
    folder: TempDir,
    /// Keeps the namespace.
    holder: Tool,
    flags: &'static [&'static str],
}

impl Volume {
    /// Makes a disk of so many bytes. `None`, with a word about it, where that is not possible.
    pub(crate) fn make(bytes: u64) -> Option<Self> {
        if !has("unshare") || !has("nsenter") || !has("mount") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let Some(flags) = WAYS
            .into_iter()
            .find(|flags| can_mount(flags, folder.path()))
        else {
            cannot("no mount namespace can be made here, as root nor in a user namespace");
            return None;
        };
        // It ends by itself should nobody be left to end it.
        let script = r#"mount -t tmpfs -o "size=$1,mode=755" tmpfs "$0" && exec sleep 600"#;
        let mut holder = Tool::spawn(
            Command::new("unshare")
                .args(flags)
                .args(["--propagation", "private", "--", "sh", "-c", script])
                .arg(folder.path())
                .arg(bytes.to_string()),
        );
        let outside = device(folder.path());
        let inside = seen(&holder, folder.path());
        until("the disk is mounted", LIMIT, || {
            assert!(holder.is_running(), "{}", holder.said());
            device(&inside) != outside
        });
        Some(Self {
            folder,
            holder,
            flags,
        })
    }

    /// The folder as nodes on the disk see it.
    pub(crate) fn inside(&self) -> &Path {
        self.folder.path()
    }

    /// The folder as the test sees it.
    pub(crate) fn path(&self) -> PathBuf {
        seen(&self.holder, self.folder.path())
    }

    /// What stands before a command that is to see the disk.
    pub(crate) fn wrapper(&self) -> Vec<String> {
        let mut words = vec!["nsenter".to_owned(), "--target".to_owned()];
        words.push(self.holder.id().to_string());
        words.push("--mount".to_owned());
        if self.flags.contains(&"--user") {
            words.extend(["--user", "--preserve-credentials"].map(str::to_owned));
        }
        words.push("--".to_owned());
        words
    }

    /// Lets nothing be free but so many bytes.
    pub(crate) fn fill(&self, leave: u64) {
        let mut ballast = File::create(self.ballast()).expect("a file that fills the disk");
        let mut block = vec![0x5a; BLOCK];
        while !block.is_empty() {
            match ballast.write(&block) {
                Ok(_) => {}
                // What is left may be less than a block.
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    block.truncate(block.len() / 2);
                }
                Err(error) => panic!("filling the disk: {error}"),
            }
        }
        let length = ballast.metadata().expect("its length").len();
        ballast
            .set_len(length.saturating_sub(leave))
            .expect("room is left");
    }

    /// Gives back what was filled.
    pub(crate) fn clear(&self) {
        fs::remove_file(self.ballast()).expect("the file that fills the disk");
    }

    /// Lets nothing be written below a folder of the disk by who opens it from now on.
    pub(crate) fn freeze(&self, folder: &str) {
        let folder = self.text(folder);
        self.mount(&["--bind", &folder, &folder]);
        self.mount(&["-o", "remount,bind,ro", &folder]);
    }

    /// Undoes [`Self::freeze`].
    pub(crate) fn thaw(&self, folder: &str) {
        self.run("umount", &["--lazy", &self.text(folder)]);
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    fn text(&self, folder: &str) -> String {
        self.inside().join(folder).display().to_string()
    }

    fn mount(&self, arguments: &[&str]) {
        self.run("mount", arguments);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let wrapper = self.wrapper();
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(program).args(arguments);
        Tool::spawn(&mut command).succeed(LIMIT);
    }
}

fn can_mount(flags: &[&str], folder: &Path) -> bool {
    let tried = Command::new("unshare")
        .args(flags)
        .args(["--propagation", "private", "--"])
        .args(["mount", "-t", "tmpfs", "tmpfs"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// A path in the namespace of a process.
fn seen(holder: &Tool, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", holder.id()));
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The device of a folder; `None` where it cannot be seen, as before its process has begun.
fn device(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.dev())
}
