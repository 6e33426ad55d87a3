//! One process of `headwater`.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use super::wait::{eventually, patience};

/// How long a node may take to start: a debug build on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Lines of a node's log that a failing test shows.
const SHOWN_LINES: usize = 150;

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_headwater");

/// The program as a command.
pub(crate) fn headwater() -> Command {
    command(&[])
}

/// The program behind the words of another one that starts it, and becomes it.
fn command(wrapper: &[String]) -> Command {
    let mut command = match wrapper {
        [] => Command::new(PROGRAM),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(PROGRAM);
            command
        }
    };
    // Variables of the tests are no keys of the configuration.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEADWATER_") {
            command.env_remove(name);
        }
    }
    command
}

/// A node that runs, or ran. It is killed with the value; a failing test shows its log.
pub(crate) struct Node {
    name: String,
    wrapper: Vec<String>,
    command: Vec<String>,
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
    log: Arc<Mutex<Vec<String>>>,
    collectors: Vec<JoinHandle<()>>,
}

impl Node {
    /// Starts a node and waits until it is ready.
    pub(crate) fn start<A: AsRef<OsStr>>(
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self::start_within(&[], name, arguments)
    }

    /// The same, started by another program that becomes the node: see [`Volume::wrapper`](super::volume::Volume::wrapper).
    pub(crate) fn start_within<A: AsRef<OsStr>>(
        wrapper: &[String],
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut node = Self::spawn_command(name, wrapper.to_vec(), texts(arguments));
        node.wait_ready();
        node
    }

    /// Starts a node, and waits for nothing.
    pub(crate) fn spawn<A: AsRef<OsStr>>(
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self::spawn_command(name, Vec::new(), texts(arguments))
    }

    /// The same, started by another program that becomes the node.
    pub(crate) fn spawn_within<A: AsRef<OsStr>>(
        wrapper: &[String],
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self::spawn_command(name, wrapper.to_vec(), texts(arguments))
    }

    fn spawn_command(name: &str, wrapper: Vec<String>, command: Vec<String>) -> Self {
        let mut child = self::command(&wrapper)
            .args(&command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (output, of_output) = collect(child.stdout.take().expect("its output"));
        let (log, of_log) = collect(child.stderr.take().expect("its log"));
        Self {
            name: name.to_owned(),
            wrapper,
            command,
            child,
            output,
            log,
            collectors: vec![of_output, of_log],
        }
    }

    /// Waits until all that it said before its end has been collected.
    fn wait_collected(&mut self) {
        for collector in self.collectors.drain(..) {
            collector.join().expect("its lines");
        }
    }

    /// Starts the node again as it was started before. It must have ended.
    pub(crate) fn restart(&mut self) {
        self.child.wait().expect("its end");
        let fresh = Self::spawn_command(&self.name, self.wrapper.clone(), self.command.clone());
        // The old value would kill its process, which is gone, and show its log.
        let old = std::mem::replace(self, fresh);
        if std::thread::panicking() {
            old.show();
        }
        self.wait_ready();
    }

    pub(crate) fn wait_ready(&mut self) {
        self.wait_line("it is ready", |line| (line == "ready").then_some(()));
    }

    /// The address of a listener, once it is known: `rtmp`, `rtmps`, `rtmfp`, `rpc` or `admin`.
    pub(crate) fn address(&mut self, listener: &str) -> SocketAddr {
        let prefix = format!("listening {listener} ");
        self.wait_line(&format!("it listens for {listener}"), |line| {
            line.strip_prefix(&prefix)?.parse().ok()
        })
    }

    /// Waits for a line on standard output.
    fn wait_line<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let name = self.name.clone();
        eventually(&format!("{name}: {what}"), START_LIMIT, || {
            if let Some(found) = self.output.lock().iter().find_map(|line| find(line)) {
                return Some(found);
            }
            if let Some(status) = self.child.try_wait().expect("its state") {
                self.wait_collected();
                panic!("{name} ended with {status}:\n{}", self.log_text());
            }
            None
        })
    }

    /// What it has said on standard output.
    pub(crate) fn output_text(&self) -> String {
        self.output.lock().join("\n")
    }

    /// What it has logged.
    pub(crate) fn log_text(&self) -> String {
        self.log.lock().join("\n")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_none()
    }

    /// The address of a stream for clients.
    pub(crate) fn url(&mut self, app_and_stream: &str) -> String {
        format!("rtmp://{}/{app_and_stream}", self.address("rtmp"))
    }

    /// The address of a stream for clients over RTMFP.
    pub(crate) fn rtmfp_url(&mut self, app_and_stream: &str) -> String {
        format!("rtmfp://{}/{app_and_stream}", self.address("rtmfp"))
    }

    /// Memory that the process has in use, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).expect("the state of the process");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kilobytes
            .and_then(|number| number.parse::<u64>().ok())
            .expect("its resident size")
            * 1024
    }

    /// Time on a processor that the process has used.
    pub(crate) fn processor_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = std::fs::read_to_string(path).expect("the state of the process");
        // Behind the name, which may hold anything: the state is the third field, `utime` and `stime` are the 14th and 15th.
        let (_, fields) = text.rsplit_once(')').expect("its name");
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks
            .map(|field| field.parse::<u64>().expect("ticks"))
            .sum();
        // Linux counts in hundredths of a second here, whatever its own clock does.
        Duration::from_millis(ticks * 10)
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("its end");
    }

    /// SIGSTOP: the process hangs, its sockets stay.
    pub(crate) fn hang(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGHUP.
    pub(crate) fn reload(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the signal is sent");
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        let child = &mut self.child;
        eventually(&format!("{name} ends"), limit, || {
            child.try_wait().expect("its state")
        })
    }

    /// Asks the admin listener: status code and body.
    pub(crate) fn get(&mut self, path: &str) -> (u16, String) {
        let address = self.address("admin");
        get(address, path).unwrap_or_else(|error| panic!("{} {path}: {error}", self.name))
    }

    /// The sum of a metric over its labels; 0 where it does not show.
    pub(crate) fn metric(&mut self, name: &str) -> f64 {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200, "{text}");
        text.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    fn show(&self) {
        let log = self.log.lock();
        let skipped = log.len().saturating_sub(SHOWN_LINES);
        eprintln!("--- {} ({skipped} lines left out)", self.name);
        for line in log.iter().skip(skipped) {
            eprintln!("{line}");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Fails when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.show();
        }
    }
}

fn texts<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Vec<String> {
    arguments
        .into_iter()
        .map(|argument| argument.as_ref().to_string_lossy().into_owned())
        .collect()
}

/// Collects lines as they come, in a thread that ends with its source.
fn collect(source: impl Read + Send + 'static) -> (Arc<Mutex<Vec<String>>>, JoinHandle<()>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&lines);
    let collector = std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            collected.lock().push(line);
        }
    });
    (lines, collector)
}

/// An HTTP request: status code and body.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let limit = patience(Duration::from_secs(5));
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| std::io::Error::other(format!("no HTTP: {answer:?}")))?;
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default();
    Ok((status, body))
}

/// Runs a command of the program that ends by itself: exit code, standard output, standard error.
pub(crate) fn run<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
) -> (i32, String, String) {
    let mut node = Node::spawn("headwater", arguments);
    let status = node.wait_exit(Duration::from_secs(20));
    let code = status.code().expect("it ended by itself");
    node.wait_collected();
    (code, node.output_text(), node.log_text())
}
