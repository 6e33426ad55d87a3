//! Programs of others: whether they are there, and running them.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use super::wait::eventually;

/// Whether a program is there. If not, the test that asks says so and ends; where nothing may be skipped, it fails.
pub(crate) fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    });
    found || skipped(&format!("{program} is not installed"))
}

/// Where the npm packages of the tests are.
pub(crate) fn node_modules() -> Option<PathBuf> {
    let folder = std::env::var_os("HEADWATER_TEST_NODE_MODULES").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../.test-tools/node/node_modules"
            ))
        },
        PathBuf::from,
    );
    if folder.join("rtmp-client").is_dir() {
        return Some(folder);
    }
    skipped("the npm package rtmp-client is not installed");
    None
}

/// The interpreter that has the Python packages of the tests.
pub(crate) fn python() -> PathBuf {
    std::env::var_os("HEADWATER_TEST_PYTHON").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../.test-tools/python/bin/python"
            ))
        },
        PathBuf::from,
    )
}

/// An ffmpeg of PyPI's that speaks Enhanced RTMP, which those of distributions often do not yet.
pub(crate) fn enhanced_ffmpeg() -> Option<PathBuf> {
    let script = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
    let asked = Command::new(python()).args(["-c", script]).output();
    let found = asked
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok());
    match found {
        Some(path) => Some(PathBuf::from(path.trim())),
        None => {
            skipped("the Python package imageio-ffmpeg is not installed");
            None
        }
    }
}

/// Whether GStreamer is there with an element.
pub(crate) fn has_element(element: &str) -> bool {
    if !has("gst-inspect-1.0") {
        return false;
    }
    let found = Command::new("gst-inspect-1.0")
        .args(["--exists", element])
        .status()
        .is_ok_and(|status| status.success());
    found || skipped(&format!("GStreamer has no {element}"))
}

fn skipped(why: &str) -> bool {
    cannot(&format!("{why} (make tools)"))
}

/// Says why a test ends here; where nothing may be skipped, it fails. False.
pub(crate) fn cannot(why: &str) -> bool {
    let is_set = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set == value);
    assert!(
        !is_set("CI", "true") && !is_set("HEADWATER_REQUIRE_TOOLS", "1"),
        "{why}, and no test may be skipped here"
    );
    eprintln!("skipped: {why}");
    false
}

/// A program that runs beside the test. It is killed with the value; a failing test shows what it said.
pub(crate) struct Tool {
    name: String,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    collectors: Vec<JoinHandle<()>>,
}

impl Tool {
    /// Starts a program.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let said = Arc::new(Mutex::new(Vec::new()));
        let output = child.stdout.take().expect("its output");
        let errors = child.stderr.take().expect("its errors");
        let collectors = vec![collect(output, &said), collect(errors, &said)];
        Self {
            name,
            child,
            said,
            collectors,
        }
    }

    /// Waits for its end and gives its exit code.
    pub(crate) fn finish(&mut self, limit: Duration) -> i32 {
        let name = self.name.clone();
        let child = &mut self.child;
        let status = eventually(&format!("{name} ends"), limit, || {
            child.try_wait().expect("its state")
        });
        for collector in self.collectors.drain(..) {
            collector.join().expect("its lines");
        }
        status.code().unwrap_or(-1)
    }

    /// Waits for its end, which must be a good one, and gives what it said.
    pub(crate) fn succeed(&mut self, limit: Duration) -> String {
        let code = self.finish(limit);
        assert_eq!(code, 0, "{}:\n{}", self.name, self.said());
        self.said()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_none()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGINT, upon which most programs end in order.
    pub(crate) fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("the signal is sent");
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        // Fails when it has ended.
        let _ = self.child.kill();
        self.child.wait().expect("its end");
    }

    /// SIGSTOP.
    pub(crate) fn hang(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).expect("the signal is sent");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).expect("the signal is sent");
    }

    /// Standard output and standard error.
    pub(crate) fn said(&self) -> String {
        self.said.lock().join("\n")
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // Fails when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.said());
        }
    }
}

fn collect(source: impl Read + Send + 'static, into: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            into.lock().push(line);
        }
    })
}

/// `ffmpeg`, quiet but for warnings.
pub(crate) fn ffmpeg() -> Command {
    quiet_ffmpeg(Path::new("ffmpeg"))
}

/// The same of a certain one.
pub(crate) fn quiet_ffmpeg(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["-hide_banner", "-nostdin", "-loglevel", "warning", "-y"]);
    command
}

/// `ffmpeg` that publishes a file in real time, as it is.
pub(crate) fn ffmpeg_publish(file: &Path, url: &str) -> Tool {
    Tool::spawn(ffmpeg().args(["-re", "-i"]).arg(file).args([
        "-c",
        "copy",
        "-f",
        "flv",
        "-flvflags",
        "no_duration_filesize",
        url,
    ]))
}

/// `ffmpeg` that plays a stream until it ends, and writes the digest of every packet to a file.
pub(crate) fn ffmpeg_play(url: &str, digests: &Path) -> Tool {
    ffmpeg_play_with(&[], url, digests)
}

/// As [`ffmpeg_play`], with options before the address.
pub(crate) fn ffmpeg_play_with(options: &[&str], url: &str, digests: &Path) -> Tool {
    Tool::spawn(
        ffmpeg()
            .args(options)
            .args(["-i", url, "-map", "0:v", "-map", "0:a", "-c", "copy"])
            .args(["-f", "framehash", "-hash", "md5"])
            .arg(digests),
    )
}

/// `rtmpdump` that plays a live stream until it ends, into a file.
pub(crate) fn rtmpdump(url: &str, file: &Path) -> Tool {
    Tool::spawn(
        Command::new("rtmpdump")
            .args(["--live", "--rtmp", url, "--flv"])
            .arg(file),
    )
}
