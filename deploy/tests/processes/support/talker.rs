//! A client in Node.js, of the npm package rtmp-client, that a test tells what to do.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::tools::{has, node_modules};
use super::wait::eventually;

const SCRIPT: &str = include_str!("talker.js");

/// How long a server may take for an answer.
const LIMIT: Duration = Duration::from_secs(15);

/// A client in a process of its own. It is killed with the value; a failing test shows what it said.
pub(crate) struct Talker {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    said: Arc<Mutex<Vec<Value>>>,
    collector: Option<JoinHandle<()>>,
    /// What was looked at by [`Self::next`].
    read: usize,
    calls: u64,
    _folder: tempfile::TempDir,
}

impl Talker {
    /// Starts one, if Node.js and the package are there.
    pub(crate) fn start(name: &'static str) -> Option<Self> {
        if !has("node") {
            return None;
        }
        let modules = node_modules()?;
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("talker.js");
        std::fs::write(&script, SCRIPT).expect("a script");
        let mut child = Command::new("node")
            .arg(&script)
            .env("NODE_PATH", modules)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js starts");
        let input = child.stdin.take().expect("its input");
        let output = child.stdout.take().expect("its output");
        let said = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&said);
        let collector = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                into.lock().push(value);
            }
        });
        Some(Self {
            name,
            child,
            input,
            said,
            collector: Some(collector),
            read: 0,
            calls: 0,
            _folder: folder,
        })
    }

    /// Tells it what to do: see the script.
    pub(crate) fn tell(&mut self, what: &Value) {
        writeln!(self.input, "{what}").expect("it listens");
    }

    /// Connects, and gives the status that comes of it.
    pub(crate) fn connect(&mut self, url: &str, arguments: Value) -> Value {
        self.tell(&json!({ "do": "connect", "url": url, "arguments": arguments }));
        self.next("its status", |said| said.get("status").cloned())
    }

    /// Connects and is accepted.
    pub(crate) fn join(&mut self, url: &str, arguments: Value) -> Value {
        let status = self.connect(url, arguments);
        assert_eq!(status["code"], "NetConnection.Connect.Success", "{status}");
        status
    }

    /// Calls a method, and gives the number that the answer has.
    pub(crate) fn begin_call(&mut self, name: &str, arguments: Value) -> u64 {
        self.calls += 1;
        let number = self.calls;
        self.tell(&json!({ "do": "call", "number": number, "name": name, "arguments": arguments }));
        number
    }

    /// The answer to a call: a result or an error.
    pub(crate) fn answer(&self, number: u64) -> Result<Value, Value> {
        eventually(&format!("{}: answer {number}", self.name), LIMIT, || {
            let said = self.said.lock();
            let answer = said.iter().find(|said| said["number"] == number)?;
            Some(match answer.get("result") {
                Some(result) => Ok(result.clone()),
                None => Err(answer["failed"].clone()),
            })
        })
    }

    /// Calls a method and waits for the answer.
    pub(crate) fn call(&mut self, name: &str, arguments: Value) -> Result<Value, Value> {
        let number = self.begin_call(name, arguments);
        self.answer(number)
    }

    /// Waits for the next of what it says that is what is looked for; what comes before is passed over.
    pub(crate) fn next<T>(&mut self, what: &str, look: impl Fn(&Value) -> Option<T>) -> T {
        let mut read = self.read;
        let found = eventually(&format!("{}: {what}", self.name), LIMIT, || {
            let said = self.said.lock();
            while let Some(next) = said.get(read) {
                read += 1;
                if let Some(found) = look(next) {
                    return Some(found);
                }
            }
            None
        });
        self.read = read;
        found
    }

    /// The arguments with which the server calls one of its methods next.
    pub(crate) fn called(&mut self, method: &str) -> Value {
        self.next(&format!("{method} is called"), |said| {
            (said["called"] == method).then(|| said["arguments"].clone())
        })
    }

    /// What it was told of an object so far: codes and slots, in order.
    pub(crate) fn changes(&self, object: &str) -> Vec<(String, String)> {
        let said = self.said.lock();
        let messages = said.iter().filter(|said| said["object"] == object);
        let changes = messages.filter_map(|said| said["changes"].as_array());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        changes
            .flatten()
            .map(|change| (text(&change["code"]), text(&change["name"])))
            .collect()
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // Fails when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(collector) = self.collector.take() {
            let _ = collector.join();
        }
        if std::thread::panicking() {
            let said = self.said.lock();
            let lines: Vec<_> = said.iter().map(ToString::to_string).collect();
            eprintln!("--- {} (rtmp-client)\n{}", self.name, lines.join("\n"));
        }
    }
}
