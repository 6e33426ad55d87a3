//! Child processes: each in a process group of its own, on the processors it was given, ended before its folder goes.
//!
//! Only children that were started here are ever signalled. A group is only killed while its first process is not yet reaped, so its
//! number cannot have become another's. Where a child runs is the affair of `taskset`, which becomes the command: setting it between
//! fork and exec would need unsafe code.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

/// How much of the end of a log is shown when a process failed, in bytes.
const LOG_SHOWN: u64 = 2_000;

/// How long a killed process may take to be gone. It cannot refuse, but the kernel may be busy with its memory.
const GONE_AFTER_KILL: Duration = Duration::from_secs(5);

/// How often it is looked whether a process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What to start.
#[derive(Debug)]
pub(super) struct Start<'a> {
    /// What it is called, and its log.
    pub(super) name: &'a str,
    /// Program and arguments.
    pub(super) command: &'a [String],
    /// Its processors; empty for those of this program.
    pub(super) cpus: &'a [usize],
    /// Besides the environment of this program.
    pub(super) environment: &'a BTreeMap<String, String>,
    /// Where it runs and its log is.
    pub(super) folder: &'a Path,
}

/// A child. Dropping it kills it and what it started in its group.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    pid: Pid,
    log: PathBuf,
    is_reaped: bool,
}

impl Process {
    /// Starts it.
    pub(super) fn start(start: &Start<'_>) -> io::Result<Self> {
        let log = start.folder.join(format!("{}.log", start.name));
        let out = File::create(&log)?;
        let pinned;
        let mut arguments = start.command.iter();
        let program = if start.cpus.is_empty() {
            arguments.next().map_or("", String::as_str)
        } else {
            "taskset"
        };
        let mut command = Command::new(program);
        if !start.cpus.is_empty() {
            let cpus: Vec<String> = start.cpus.iter().map(usize::to_string).collect();
            pinned = cpus.join(",");
            command.args(["-c", &pinned]);
        }
        let child = command
            .args(arguments)
            .envs(start.environment)
            .current_dir(start.folder)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            // What interrupts this program must not interrupt it first.
            .process_group(0)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot start {program}: {error}"))
            })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the child has no number"))?;
        Ok(Self {
            name: start.name.to_owned(),
            child,
            pid,
            log,
            is_reaped: false,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended. It stays a zombie, so that its number stays its own.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error means that there is nothing to wait for any more.
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None))
    }

    /// Tells it to end.
    pub(super) fn terminate(&self) {
        if !self.has_ended() {
            // It may end just now.
            let _gone = kill_process(self.pid, Signal::TERM);
        }
    }

    /// The status of one that has ended, after its group was ended, too.
    pub(super) fn reap(&mut self) -> io::Result<ExitStatus> {
        if !self.is_reaped {
            // Workers that outlived their master; most often there are none.
            let _none_left = kill_process_group(self.pid, Signal::KILL);
            self.is_reaped = true;
        }
        self.child.wait()
    }

    /// The end of what it wrote.
    pub(super) fn last_words(&self) -> String {
        let read = || {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            let from = length.saturating_sub(LOG_SHOWN);
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(LOG_SHOWN).read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        read().unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_reaped {
            let _status = self.reap();
        }
    }
}

/// Ends processes, the last one first: tells each, waits so long for all of them together, then kills. Gives the names of those that
/// had to be killed.
pub(super) fn stop(mut processes: Vec<Process>, timeout: Duration) -> Vec<String> {
    for process in processes.iter().rev() {
        process.terminate();
    }
    wait(timeout, || processes.iter().all(Process::has_ended));
    let mut killed = Vec::new();
    for process in &processes {
        if !process.has_ended() {
            killed.push(process.name.clone());
            let _gone = kill_process_group(process.pid, Signal::KILL);
        }
    }
    wait(GONE_AFTER_KILL, || processes.iter().all(Process::has_ended));
    for process in &mut processes {
        if process.has_ended() {
            let _status = process.reap();
        }
    }
    killed
}

/// Waits until it is so, at most so long, and tells whether it is.
fn wait(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let begun = std::time::Instant::now();
    loop {
        if is_so() {
            return true;
        }
        if begun.elapsed() >= limit {
            return false;
        }
        // On the thread that has nothing else to do.
        std::thread::park_timeout(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(folder: &Path, script: &str, cpus: &[usize]) -> Process {
        let command = ["sh", "-c", script].map(str::to_owned);
        Process::start(&Start {
            name: "child",
            command: &command,
            cpus,
            environment: &BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
            folder,
        })
        .unwrap()
    }

    fn until(is_so: impl Fn() -> bool) {
        assert!(wait(Duration::from_secs(10), is_so));
    }

    fn is_alive(pid: i32) -> bool {
        // A zombie whose parent is another process's affair.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or("").trim_start();
        !stat.is_empty() && !state.starts_with('Z')
    }

    #[test]
    fn one_that_ends_by_itself_leaves_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = start(folder.path(), "echo $GREETING; pwd; exit 3", &[]);
        until(|| process.has_ended());
        assert_eq!(process.reap().unwrap().code(), Some(3));
        let words = process.last_words();
        assert!(words.starts_with("hello\n"), "{words}");
        assert!(words.ends_with(folder.path().file_name().unwrap().to_str().unwrap()));
    }

    #[test]
    fn one_that_does_not_listen_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000";
        let process = start(folder.path(), script, &[]);
        until(|| !process.last_words().is_empty());
        let grandchild: i32 = process.last_words().parse().unwrap();
        assert!(is_alive(grandchild));
        let killed = stop(vec![process], Duration::from_millis(50));
        assert_eq!(killed, ["child"]);
        until(|| !is_alive(grandchild));
    }

    #[test]
    fn one_that_listens_is_not_killed() {
        let folder = tempfile::tempdir().unwrap();
        let process = start(
            folder.path(),
            "trap 'exit 0' TERM; echo on; while :; do sleep 0.01; done",
            &[],
        );
        until(|| !process.last_words().is_empty());
        assert!(stop(vec![process], Duration::from_secs(10)).is_empty());
    }

    #[test]
    fn dropping_one_kills_it() {
        let folder = tempfile::tempdir().unwrap();
        let process = start(folder.path(), "echo $$; sleep 1000", &[]);
        until(|| !process.last_words().is_empty());
        let pid: i32 = process.last_words().parse().unwrap();
        drop(process);
        assert!(!is_alive(pid));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_runs_where_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let script = "grep Cpus_allowed_list /proc/self/status";
        let process = start(folder.path(), script, &[0]);
        until(|| process.has_ended());
        let words = process.last_words();
        assert_eq!(words.split_whitespace().last(), Some("0"), "{words}");
    }
}
