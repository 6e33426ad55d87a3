//! Handler programs of applications: those in `deploy/examples`, and scripts of the tests beside the one in Python.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::tools::{Tool, cannot, python};
use super::wait::eventually;

/// Where the example in Python is.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/handlers/python");

/// A program that runs. It ends with the value.
pub(crate) struct Handler {
    program: Tool,
    address: String,
}

impl Handler {
    /// The chat in Python, if gRPC for Python is there.
    pub(crate) fn chat() -> Option<Self> {
        Self::of_script(&Path::new(PYTHON).join("chat.py"))
    }

    /// The chat in Rust, if it is built: `cargo test` and `cargo nextest run` without a filter of targets do that.
    pub(crate) fn chat_in_rust() -> Option<Self> {
        let built = Path::new(env!("CARGO_BIN_EXE_headwater")).with_file_name("examples");
        let program = built.join("handler");
        if !program.is_file() {
            cannot(
                "the example `handler` is not built (cargo build -p headwater --example handler)",
            );
            return None;
        }
        Some(Self::listening(Command::new(program).arg("127.0.0.1:0")))
    }

    /// Another script that is made of the example's `handler.py`.
    pub(crate) fn script(folder: &Path, text: &str) -> Option<Self> {
        let path = folder.join("script.py");
        std::fs::write(&path, text).expect("a script");
        Self::of_script(&path)
    }

    fn of_script(path: &Path) -> Option<Self> {
        let asked = Command::new(python())
            .args(["-c", "import grpc, grpc_tools"])
            .output();
        if !asked.is_ok_and(|output| output.status.success()) {
            cannot("gRPC for Python is not installed (make tools)");
            return None;
        }
        Some(Self::listening(
            Command::new(python())
                .arg(path)
                .args(["--listen", "127.0.0.1:0"])
                .env("PYTHONPATH", PYTHON)
                // The examples' folder is no place for what is compiled.
                .env("PYTHONDONTWRITEBYTECODE", "1"),
        ))
    }

    fn listening(command: &mut Command) -> Self {
        let program = Tool::spawn(command);
        let address = eventually("the handler listens", Duration::from_secs(30), || {
            let said = program.said();
            let mut lines = said.lines();
            lines.find_map(|line| Some(line.strip_prefix("listening on ")?.to_owned()))
        });
        Self { program, address }
    }

    /// Where it listens: `http://HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What `app.toml` says of it.
    pub(crate) fn toml(&self) -> String {
        format!("[handler]\naddress = \"{}\"\n", self.address)
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.program.kill();
    }
}
