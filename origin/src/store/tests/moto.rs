//! moto's S3 server (PyPI `moto`), as a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How long the server may take to begin to listen, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server; stopped when this is dropped.
pub(crate) struct Moto {
    child: Child,
    /// Host and port.
    pub(crate) address: String,
}

impl Moto {
    /// `None` where moto is not installed, which was said; where nothing may be skipped, the test fails.
    pub(crate) fn start(environment: &[(&str, &str)]) -> Option<Self> {
        Self::start_with(environment, &[])
    }

    /// As [`Moto::start`], with more arguments.
    pub(crate) fn start_with(environment: &[(&str, &str)], arguments: &[&str]) -> Option<Self> {
        let python = std::env::var("HEADWATER_TEST_PYTHON").unwrap_or_else(|_| {
            concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../.test-tools/python/bin/python"
            )
            .to_owned()
        });
        let installed = Command::new(&python)
            .args(["-c", "import moto.server"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !installed {
            skipped(&format!("{python} cannot import moto.server"));
            return None;
        }
        let mut child = Command::new(&python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (said, address) = mpsc::channel();
        // Reads on to the end, so that the server never waits for us.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, address)) = line
                    .split_once("Running on ")
                    .and_then(|(_, url)| url.split_once("://"))
                {
                    // Nobody listens any more when the test is over.
                    let _ = said.send(address.trim().to_owned());
                }
            }
        });
        let address = address.recv_timeout(PATIENCE);
        let mut moto = Self {
            child,
            address: String::new(),
        };
        moto.address = address.expect("moto says where it listens");
        Some(moto)
    }

    /// Status and body of the answer to a request without a signature.
    pub(crate) fn request(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.address
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (status, body)
    }

    pub(crate) fn make_bucket(&self) {
        let (status, body) = self.request("PUT", "/bucket");
        assert_eq!(status, 200, "{body}");
    }

    /// Stops its threads as they are; the kernel goes on taking connections for it.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn skipped(why: &str) {
    let is_set = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set == value);
    assert!(
        !is_set("CI", "true") && !is_set("HEADWATER_REQUIRE_TOOLS", "1"),
        "{why}, and no test may be skipped here: run `make tools`"
    );
    eprintln!("skipped: {why} (make tools)");
}
