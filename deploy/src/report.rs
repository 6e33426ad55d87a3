//! What a node says on standard output, and in the ready file: one fact a line, for people and for scripts.
//!
//! ```text
//! listening rtmp 127.0.0.1:1935
//! listening admin 127.0.0.1:9935
//! url rtmp://127.0.0.1:1935/live/NAME
//! ready
//! ```
//!
//! `ready` comes when the node takes traffic for the first time: for an edge, when it can reach an origin.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// The lines so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: String,
    file: Option<PathBuf>,
}

impl Report {
    /// `file` is written when the node is ready.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self {
            lines: String::new(),
            file,
        }
    }

    pub(crate) fn listening(&mut self, what: &str, address: SocketAddr) {
        self.line(&format!("listening {what} {address}"));
    }

    pub(crate) fn url(&mut self, url: &str) {
        self.line(&format!("url {url}"));
    }

    pub(crate) fn ready(&mut self) {
        self.line("ready");
        if let Some(file) = &self.file
            && let Err(error) = write_whole(file, &self.lines)
        {
            tracing::warn!(file = %file.display(), %error, "the ready file cannot be written");
        }
    }

    fn line(&mut self, line: &str) {
        self.lines.push_str(line);
        self.lines.push('\n');
        // Nobody may be listening there: that is no reason to stop.
        let _ = writeln!(io::stdout(), "{line}");
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Never written, or removed by somebody else.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// A reader never sees half a file.
fn write_whole(file: &std::path::Path, text: &str) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let fresh = PathBuf::from(name);
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, file)
}

/// How a program on this machine reaches a listener.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        // A socket for both families is an IPv6 one.
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip == Ipv4Addr::LOCALHOST.to_ipv6_mapped() => {
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        }
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
