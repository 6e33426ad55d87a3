//! Marks on the local disk: for each name that has unfinished business here, a small file. They tell a process that starts what the
//! one before it left, however it ended.

use std::io;
use std::path::{Path, PathBuf};

use headwater_media::name::StreamName;
use serde::{Deserialize, Serialize};

use crate::record::files::key;

/// Largest mark that is read, in bytes: four names.
const MAX_MARK: u64 = 16_384;

/// The folder of the marks. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    folder: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    vhost: String,
    app: String,
    instance: String,
    stream: String,
}

impl Marks {
    /// Makes the folder if it is missing. Blocks.
    pub(crate) fn new(folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Marks a name, durably, with the name of the stream as it is published.
    pub(crate) async fn set(&self, name: &StreamName, live: &StreamName) -> io::Result<()> {
        let mark = Mark {
            vhost: live.vhost.clone(),
            app: live.app.clone(),
            instance: live.instance.clone(),
            stream: live.stream.clone(),
        };
        let path = self.path(name);
        let folder = self.folder.clone();
        blocking(move || {
            let text = serde_json::to_vec(&mark)?;
            // Not whole, it is worth nothing: it gets its name when it is.
            let part = path.with_extension("part");
            std::fs::write(&part, text)?;
            std::fs::File::open(&part)?.sync_all()?;
            std::fs::rename(&part, &path)?;
            std::fs::File::open(folder)?.sync_all()
        })
        .await
    }

    /// Marks a name that may have none. A mark that is there stays as it is.
    pub(crate) async fn set_missing(&self, name: &StreamName) -> io::Result<()> {
        let path = self.path(name);
        match blocking(move || path.try_exists()).await? {
            true => Ok(()),
            false => self.set(name, name).await,
        }
    }

    /// Takes the mark of a name away.
    pub(crate) async fn clear(&self, name: &StreamName) {
        let path = self.path(name);
        if let Err(error) = blocking(move || std::fs::remove_file(path)).await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the mark of an unfinished recording cannot be removed");
        }
    }

    /// The streams that are marked, as they were published. Marks that cannot be read are logged.
    pub(crate) async fn all(&self) -> io::Result<Vec<StreamName>> {
        let folder = self.folder.clone();
        blocking(move || {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|it| it == "json") {
                    match read(&path) {
                        Ok(name) => names.push(name),
                        Err(error) => tracing::error!(
                            path = %path.display(),
                            %error,
                            "the mark of an unfinished recording cannot be read"
                        ),
                    }
                }
            }
            Ok(names)
        })
        .await
    }

    fn path(&self, name: &StreamName) -> PathBuf {
        self.folder.join(format!("{}.json", key(name)))
    }
}

fn read(path: &Path) -> io::Result<StreamName> {
    if std::fs::metadata(path)?.len() > MAX_MARK {
        return Err(io::Error::other("it is too large"));
    }
    let mark: Mark = serde_json::from_slice(&std::fs::read(path)?)?;
    StreamName::new(&mark.vhost, &mark.app, &mark.instance, &mark.stream).map_err(io::Error::other)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(stream: &str) -> StreamName {
        StreamName::new("_defaultVHost_", "live", "_definst_", stream).unwrap()
    }

    #[tokio::test]
    async fn marks_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::new(folder.path().join("unfinished")).unwrap();
        let set = async |of: &str, live: &str| marks.set(&name(of), &name(live)).await.unwrap();
        set("a/b.flv", "flv:a/b").await;
        set("a/b.flv", "a/b").await;
        set("c.flv", "c").await;
        let mut all = marks.all().await.unwrap();
        all.sort();
        assert_eq!(all, [name("a/b"), name("c")]);
        marks.clear(&name("c.flv")).await;
        marks.clear(&name("never")).await;
        assert_eq!(marks.all().await.unwrap(), [name("a/b")]);
        marks.set_missing(&name("a/b.flv")).await.unwrap();
        assert_eq!(marks.all().await.unwrap(), [name("a/b")]);
        marks.set_missing(&name("c.flv")).await.unwrap();
        let mut all = marks.all().await.unwrap();
        all.sort();
        assert_eq!(all, [name("a/b"), name("c.flv")]);
    }

    #[tokio::test]
    async fn broken_marks_do_not_keep_the_others_from_being_read() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::new(folder.path().to_owned()).unwrap();
        marks.set(&name("a.flv"), &name("a")).await.unwrap();
        std::fs::write(folder.path().join("x.json"), "{").unwrap();
        let evil = r#"{"vhost":"v","app":"a","instance":"i","stream":"../x"}"#;
        std::fs::write(folder.path().join("y.json"), evil).unwrap();
        std::fs::write(folder.path().join("z.part"), "").unwrap();
        std::fs::write(folder.path().join("w.json"), vec![b' '; 20_000]).unwrap();
        assert_eq!(marks.all().await.unwrap(), [name("a")]);
    }
}
