//! `headwater recordings`: lists, inspects, exports and deletes what origins have stored, by the admin listener of any of them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::TryStreamExt;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

/// How long an origin may take to answer, and then to go on. All that it gives may take as long as it takes.
const ANSWER: Duration = Duration::from_secs(60);

/// Entries that are asked for at a time.
const PAGE: &str = "1000";

#[derive(Debug, Args)]
pub(crate) struct RecordingsArgs {
    /// Admin listener of an origin, or of a standalone node
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:9935"
    )]
    admin: String,
    #[command(subcommand)]
    command: RecordingsCommand,
}

#[derive(Debug, Subcommand)]
enum RecordingsCommand {
    /// List media files, and recordings that are no files yet, a line each: size, time, id
    List {
        /// Only those whose id begins so, such as applications/live/
        #[arg(default_value = "")]
        prefix: String,
        /// One JSON object a line instead
        #[arg(long)]
        json: bool,
    },
    /// Say what is in one of them
    Inspect {
        /// Its id, as list gives it
        id: String,
    },
    /// Copy one of them to a file
    Export {
        /// Its id, as list gives it
        id: String,
        /// The file; the last part of the id if it is not given
        file: Option<PathBuf>,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Delete some of them
    Delete {
        /// Their ids, as list gives them
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot reach {url}")]
    Unreachable { url: String, source: reqwest::Error },
    /// The origin's own words.
    #[error("{0}")]
    Refused(String),
    #[error("the answer broke off")]
    Broken(#[source] reqwest::Error),
    #[error("the answer is not understood")]
    Strange(#[source] serde_json::Error),
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is there already: --force replaces it", .0.display())]
    Exists(PathBuf),
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
    #[error("{failed} of {all} could not be deleted")]
    NotAll { failed: usize, all: usize },
}

/// A page, as far as we read it.
#[derive(Debug, Deserialize)]
struct Page {
    recordings: Vec<serde_json::Value>,
    next: Option<String>,
}

/// Runs a command to its end.
///
/// # Errors
/// What could not be done.
pub(crate) fn run(args: &RecordingsArgs) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let origin = Origin::new(&args.admin)?;
        match &args.command {
            RecordingsCommand::List { prefix, json } => list(&origin, prefix, *json).await,
            RecordingsCommand::Inspect { id } => inspect(&origin, id).await,
            RecordingsCommand::Export { id, file, force } => {
                let last = id.rsplit('/').next().unwrap_or(id);
                let file = file.clone().unwrap_or_else(|| PathBuf::from(last));
                export(&origin, id, &file, *force).await
            }
            RecordingsCommand::Delete { ids } => delete(&origin, ids).await,
        }
    })
}

/// An origin's admin listener.
struct Origin {
    client: Client,
    url: String,
}

impl Origin {
    fn new(url: &str) -> Result<Self, Error> {
        let url = url.trim_end_matches('/').to_owned();
        let client = Client::builder()
            .connect_timeout(ANSWER)
            .read_timeout(ANSWER)
            .build();
        match client {
            Ok(client) => Ok(Self { client, url }),
            Err(source) => Err(Error::Unreachable { url, source }),
        }
    }

    async fn ask(
        &self,
        method: reqwest::Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Response, Error> {
        let url = format!("{}{path}", self.url);
        let unreachable = |source| Error::Unreachable {
            url: self.url.clone(),
            source,
        };
        let request = self.client.request(method, url).query(query);
        let asked = tokio::time::timeout(ANSWER, request.send()).await;
        let response = match asked {
            Ok(response) => response.map_err(unreachable)?,
            Err(_) => return Err(Error::Refused("no answer in time".to_owned())),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(Error::Broken)?;
        Err(Error::Refused(words(status, &body)))
    }
}

/// What an error answer says.
fn words(status: StatusCode, body: &[u8]) -> String {
    let said = serde_json::from_slice::<serde_json::Value>(body).ok();
    let message = said.as_ref().and_then(|it| it["error"]["message"].as_str());
    message.map_or_else(|| format!("the answer is {status}"), str::to_owned)
}

async fn list(origin: &Origin, prefix: &str, json: bool) -> Result<(), Error> {
    let mut after = String::new();
    loop {
        let query = [("prefix", prefix), ("after", &after), ("limit", PAGE)];
        let response = origin
            .ask(reqwest::Method::GET, "/recordings", &query)
            .await?;
        let body = response.bytes().await.map_err(Error::Broken)?;
        let page: Page = serde_json::from_slice(&body).map_err(Error::Strange)?;
        let mut out = io::stdout().lock();
        for entry in &page.recordings {
            if json {
                writeln!(out, "{entry}")?;
            } else {
                writeln!(out, "{}", line(entry))?;
            }
        }
        match page.next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

/// An entry for people.
fn line(entry: &serde_json::Value) -> String {
    let text = |key: &str| entry[key].as_str().unwrap_or("-");
    let size = entry["bytes"]
        .as_u64()
        .map_or_else(|| "-".to_owned(), |bytes| HumanBytes(bytes).to_string());
    let time = text("modified").get(..19).unwrap_or("-");
    let stream = entry["stream"].as_str();
    let what = stream.map_or_else(String::new, |stream| format!("  (recording of {stream})"));
    format!("{size:>12}  {time:<19}  {}{what}", text("id"))
}

async fn inspect(origin: &Origin, id: &str) -> Result<(), Error> {
    let query = [("id", id)];
    let path = "/recordings/inspect";
    let response = origin.ask(reqwest::Method::GET, path, &query).await?;
    let body = response.bytes().await.map_err(Error::Broken)?;
    let found: serde_json::Value = serde_json::from_slice(&body).map_err(Error::Strange)?;
    let mut out = io::stdout().lock();
    for (key, value) in found.as_object().into_iter().flatten() {
        match value.as_str() {
            Some(text) => writeln!(out, "{key:<12} {text}")?,
            None => writeln!(out, "{key:<12} {value}")?,
        }
    }
    Ok(())
}

async fn export(origin: &Origin, id: &str, file: &Path, force: bool) -> Result<(), Error> {
    let failed = |source| Error::File {
        path: file.to_owned(),
        source,
    };
    let may_be_written = || match file.try_exists().map_err(failed)? {
        true if !force => Err(Error::Exists(file.to_owned())),
        _ => Ok(()),
    };
    may_be_written()?;
    let query = [("id", id)];
    let path = "/recordings/export";
    let response = origin.ask(reqwest::Method::GET, path, &query).await?;
    // What is not whole does not look like a recording.
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let copied = async {
        let bytes = copy(response, &part).await?;
        may_be_written()?;
        tokio::fs::rename(&part, file).await.map_err(failed)?;
        Ok(bytes)
    };
    match copied.await {
        Ok(bytes) => {
            writeln!(io::stdout(), "{} to {}", HumanBytes(bytes), file.display())?;
            Ok(())
        }
        Err(error) => {
            // The error that counts is the first one.
            let _ = tokio::fs::remove_file(&part).await;
            Err(error)
        }
    }
}

/// Writes an answer to a file. Gives its length.
async fn copy(response: Response, file: &Path) -> Result<u64, Error> {
    let failed = |source| Error::File {
        path: file.to_owned(),
        source,
    };
    let mut out = tokio::fs::File::create(file).await.map_err(failed)?;
    let progress = match response.content_length() {
        Some(length) => {
            let template = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            let style = ProgressStyle::with_template(template);
            let bar = ProgressBar::new(length);
            match style {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        }
        None => ProgressBar::new_spinner(),
    };
    let mut parts = response.bytes_stream();
    while let Some(part) = parts.try_next().await.map_err(Error::Broken)? {
        out.write_all(&part).await.map_err(failed)?;
        progress.inc(part.len() as u64);
    }
    out.flush().await.map_err(failed)?;
    out.sync_all().await.map_err(failed)?;
    progress.finish_and_clear();
    Ok(progress.position())
}

async fn delete(origin: &Origin, ids: &[String]) -> Result<(), Error> {
    let mut failed = 0;
    for id in ids {
        let query = [("id", id.as_str())];
        let deleted = origin
            .ask(reqwest::Method::DELETE, "/recordings", &query)
            .await;
        match deleted {
            Ok(_) => writeln!(io::stdout(), "deleted {id}")?,
            Err(Error::Refused(why)) => {
                failed += 1;
                writeln!(io::stderr(), "{id}: {why}")?;
            }
            Err(error) => return Err(error),
        }
    }
    match failed {
        0 => Ok(()),
        failed => Err(Error::NotAll {
            failed,
            all: ids.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_lines() {
        let file = json!({
            "id": "applications/live/streams/_definst_/show.flv", "kind": "file", "bytes": 1_572_864,
            "modified": "2031-02-03T04:05:06.789+00:00",
        });
        assert_eq!(
            line(&file).trim_start(),
            "1.50 MiB  2031-02-03T04:05:06  applications/live/streams/_definst_/show.flv"
        );
        let recording =
            json!({ "id": "recordings/a/1", "kind": "recording", "stream": "v/live/i/show" });
        assert!(line(&recording).ends_with("recordings/a/1  (recording of v/live/i/show)"));
    }

    #[test]
    fn the_words_of_the_origin_are_told() {
        let body = br#"{"error":{"code":"not_found","message":"nothing is stored as \"x\""}}"#;
        assert_eq!(
            words(StatusCode::NOT_FOUND, body),
            "nothing is stored as \"x\""
        );
        assert_eq!(
            words(StatusCode::BAD_GATEWAY, b"<html>"),
            "the answer is 502 Bad Gateway"
        );
    }

    /// An origin that answers each request with one of these, and closes.
    fn origin(answers: &'static [&'static str]) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for answer in answers {
                let (mut peer, _) = listener.accept().unwrap();
                let mut request = [0; 4_096];
                io::Read::read(&mut peer, &mut request).unwrap();
                peer.write_all(answer.as_bytes()).unwrap();
            }
        });
        Origin::new(&url).unwrap()
    }

    #[tokio::test]
    async fn a_file_is_there_when_it_is_whole() {
        let origin = origin(&[
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nhal",
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\ncontent",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nnew",
        ]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("show.flv");
        let left = || std::fs::read_dir(folder.path()).unwrap().count();
        let broken = export(&origin, "x", &file, false).await;
        assert!(matches!(broken, Err(Error::Broken(_))), "{broken:?}");
        assert_eq!(left(), 0);
        export(&origin, "x", &file, false).await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"content");
        let there = export(&origin, "x", &file, false).await;
        assert!(matches!(there, Err(Error::Exists(_))), "{there:?}");
        export(&origin, "x", &file, true).await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(left(), 1);
    }
}
