//! An S3 server of others: moto's, from PyPI.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::node::get;
use super::ports::Port;
use super::tools::{Tool, python};
use super::wait::until;

/// The bucket that is there.
const BUCKET: &str = "recordings";

/// A server with one bucket. It ends with the value.
pub(crate) struct S3 {
    address: SocketAddr,
    server: Tool,
    /// Held so that nobody takes it while the server is away.
    _port: Port,
}

impl S3 {
    /// Starts a server and makes its bucket.
    pub(crate) fn start() -> Self {
        let port = Port::reserve();
        let address = ([127, 0, 0, 1], port.number()).into();
        Self {
            address,
            server: serve(address),
            _port: port,
        }
    }

    /// Ends the server at once, and with it all that was in its memory; see [`Self::restart`].
    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts the server that was killed where it was, with an empty bucket.
    pub(crate) fn restart(&mut self) {
        self.server = serve(self.address);
    }

    /// Flags of an origin that keeps its recordings here.
    pub(crate) fn flags(&self) -> Vec<String> {
        [
            format!("origin.storage.url=s3://{BUCKET}"),
            format!("origin.storage.endpoint=http://{}", self.address),
            "origin.storage.region=us-east-1".to_owned(),
            "origin.storage.access_key=test".to_owned(),
            "origin.storage.secret_key=test".to_owned(),
            "origin.storage.allow_http=true".to_owned(),
        ]
        .into_iter()
        .flat_map(|flag| ["--set".to_owned(), flag])
        .collect()
    }

    /// An object, if it is there.
    pub(crate) fn object(&self, path: &str) -> Option<Vec<u8>> {
        let (head, body) = request(self.address, "GET", &format!("/{BUCKET}/{path}"), &[]);
        head.starts_with("HTTP/1.1 200").then_some(body)
    }

    /// Puts an object.
    pub(crate) fn put(&self, path: &str, body: &[u8]) {
        put(self.address, &format!("/{BUCKET}/{path}"), body);
    }

    /// Makes the server hang.
    pub(crate) fn hang(&self) {
        self.server.hang();
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        self.server.go_on();
    }
}

/// A server that answers, with its bucket.
fn serve(address: SocketAddr) -> Tool {
    let mut server = Tool::spawn(
        Command::new(python())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p"])
            .arg(address.port().to_string()),
    );
    until("the S3 server answers", Duration::from_secs(30), || {
        assert!(server.is_running(), "{}", server.said());
        get(address, "/moto-api/").is_ok()
    });
    put(address, &format!("/{BUCKET}"), &[]);
    server
}

fn put(address: SocketAddr, path: &str, body: &[u8]) {
    let (head, _) = request(address, "PUT", path, body);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

/// An HTTP request with a signature that nobody checks: head and body of the answer.
fn request(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> (String, Vec<u8>) {
    use std::io::{Read, Write};

    let mut stream = std::net::TcpStream::connect(address).expect("the S3 server");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n",
        body.len()
    )
    .expect("a request");
    stream.write_all(body).expect("its body");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    (head, answer[end + 4..].to_vec())
}
