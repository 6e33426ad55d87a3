//! Listing, and finding one by its id.

use std::collections::BTreeSet;
use std::time::SystemTime;

use futures_util::{StreamExt, TryStreamExt};
use headwater_node::admin::ApiError;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::{Entry, Kind, Library, bad_request, not_found, of_archive, of_store, unavailable};
use crate::record::archive::{ArchiveError, Archives, Listed};
use crate::record::files::from_store;
use crate::record::target::Target;

/// Most entries of a page.
pub(crate) const MAX_PAGE: usize = 1_000;

/// Entries of a page whose size nobody asked for.
const USUAL_PAGE: usize = 100;

/// Folders below which media files are. The second one is of virtual hosts.
const FOLDERS: [&str; 2] = ["applications", "vhosts"];

/// Folder below which recordings are that are no files.
const RECORDINGS: &str = "recordings";

/// What a media file's name ends with.
const EXTENSIONS: [&str; 10] = [
    "flv", "mp4", "f4v", "mov", "m4v", "m4a", "f4a", "3gp", "3g2", "mp3",
];

/// What is to be listed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Request {
    /// Beginning of the ids.
    prefix: String,
    /// The last id of the page before.
    after: String,
    /// Most entries, up to [`MAX_PAGE`].
    limit: Option<usize>,
}

/// Some of what is stored.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Page {
    pub(crate) recordings: Vec<Entry>,
    /// What to ask for as `after`; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// The first entries in the order of their ids, however they come.
struct First {
    limit: usize,
    entries: BTreeSet<Entry>,
    is_cut: bool,
}

impl First {
    /// Nothing in `folder`, nor what comes after what was taken, would stay.
    fn is_full_before(&self, folder: &str) -> bool {
        let last = self.entries.last().filter(|_| self.is_cut);
        last.is_some_and(|last| last.id.as_str() < folder || last.kind == Kind::Recording)
    }

    fn take(&mut self, entry: Entry) {
        self.entries.insert(entry);
        if self.entries.len() > self.limit {
            self.entries.pop_last();
            self.is_cut = true;
        }
    }
}

impl Library {
    pub(crate) async fn list(&self, request: &Request) -> Result<Page, ApiError> {
        let limit = request.limit.unwrap_or(USUAL_PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            let message = format!("limit must be between 1 and {MAX_PAGE}");
            return Err(bad_request(message));
        }
        let mut first = First {
            limit,
            entries: BTreeSet::new(),
            is_cut: false,
        };
        let is_wanted = |id: &str| id.starts_with(&request.prefix) && id > request.after.as_str();
        // What is no path comes after none, as far as the store is asked.
        let after = Path::parse(&request.after).unwrap_or_default();
        // A store lists by whole segments of a path, in no order that holds for all of them.
        for folder in self.folders() {
            let Some(begin) = begin(&folder, &request.prefix) else {
                continue;
            };
            let mut files = (self.store.objects()).list_with_offset(Some(&begin), &after);
            while let Some(meta) = files.try_next().await.map_err(unavailable)? {
                if self.is_media(&meta.location) && is_wanted(meta.location.as_ref()) {
                    first.take(Entry {
                        id: meta.location.to_string(),
                        kind: Kind::File,
                        stream: None,
                        bytes: Some(meta.size),
                        modified: Some(meta.last_modified.to_rfc3339()),
                    });
                }
            }
        }
        // Each of them costs a request.
        if begin(&Path::from(RECORDINGS), &request.prefix).is_some() {
            let wanted = request.clone();
            let may_hold = move |folder: &Path| {
                let within = format!("{folder}/");
                let prefix = &wanted.prefix;
                let holds_prefix = within.starts_with(prefix) || prefix.starts_with(&within);
                holds_prefix && (within > wanted.after || wanted.after.starts_with(&within))
            };
            let mut pages = std::pin::pin!(self.archives.list(may_hold));
            // They come in order.
            while !first.is_full_before(RECORDINGS)
                && let Some(page) = pages.next().await
            {
                for listed in page.map_err(|error| of_archive("", error))? {
                    let entry = recording(&listed);
                    if is_wanted(&entry.id) {
                        first.take(entry);
                    }
                }
            }
        }
        let next = first.entries.last().map(|entry| entry.id.clone());
        Ok(Page {
            recordings: first.entries.into_iter().collect(),
            next: next.filter(|_| first.is_cut),
        })
    }

    /// Below which all media files are, none of them within another.
    fn folders(&self) -> BTreeSet<Path> {
        let all = || {
            FOLDERS
                .map(Path::from)
                .into_iter()
                .chain(self.directories.iter().cloned())
        };
        all()
            .filter(|folder| !all().any(|other| is_below(folder, &other)))
            .collect()
    }

    /// Whether a path is one of a media file: of a known kind, in a folder of streams or in a virtual directory.
    fn is_media(&self, path: &Path) -> bool {
        let extension = path.extension().map(str::to_ascii_lowercase);
        let is_of_a_known_kind = extension.is_some_and(|it| EXTENSIONS.contains(&it.as_str()));
        let is_of_streams = || {
            let is_below = FOLDERS.iter().any(|it| is_below(path, &Path::from(*it)));
            is_below && path.parts().any(|part| part.as_ref() == "streams")
        };
        let is_in_a_directory = || self.directories.iter().any(|it| is_below(path, it));
        is_of_a_known_kind && (is_of_streams() || is_in_a_directory())
    }

    /// The recording with an id of one, or `None` for the id of a file.
    pub(super) async fn recording(&self, id: &str) -> Result<Option<Listed>, ApiError> {
        let path = Path::parse(id).map_err(|_| bad_request(format!("{id:?} is no path")))?;
        match self.archives.at(&path).await {
            Ok(found) => Ok(found),
            Err(error) => Err(of_archive(id, error)),
        }
    }

    /// The path of a media file.
    pub(super) fn file(&self, id: &str) -> Result<Path, ApiError> {
        let path = Path::parse(id).map_err(|_| bad_request(format!("{id:?} is no path")))?;
        if !self.is_media(&path) {
            return Err(not_found(id));
        }
        Ok(path)
    }

    pub(crate) async fn delete(&self, id: &str) -> Result<(), ApiError> {
        if let Some(listed) = self.recording(id).await? {
            if self.store.is_remote() {
                let now = SystemTime::now();
                let (name, generation) = (&listed.name, listed.generation);
                let writing = self.archives.is_being_written(name, generation, now).await;
                if writing.map_err(|error| of_archive(id, error))? {
                    return Err(of_archive(id, ArchiveError::Open));
                }
            }
            let deleted = self.archives.delete(&listed.name, listed.generation).await;
            deleted.map_err(|error| of_archive(id, error))?;
            for folder in Archives::folders(&listed.name, listed.generation) {
                self.store.remove_empty_folders(&folder).await;
            }
            self.forget_info(Target::of(&listed.name).ok()).await;
            return Ok(());
        }
        let path = self.file(id)?;
        // Deleting what is not there is no error everywhere.
        let objects = self.store.objects();
        objects
            .head(&path)
            .await
            .map_err(|error| of_store(id, error))?;
        objects
            .delete(&path)
            .await
            .map_err(|error| of_store(id, error))?;
        self.forget_info(Target::at(&path)).await;
        Ok(())
    }

    /// What an encoder said of a recording goes with the last of it.
    async fn forget_info(&self, target: Option<Target>) {
        let Some(target) = target else {
            return;
        };
        let forgetting = async {
            let is_file = match self.store.objects().head(&target.path).await {
                Ok(_) => true,
                Err(object_store::Error::NotFound { .. }) => false,
                Err(error) => return Err(from_store(&error)),
            };
            if !is_file && self.archives.generations(&target.name).await?.is_empty() {
                self.infos.forget(&target.name).await?;
            }
            Ok(())
        };
        if let Err(error) = forgetting.await {
            tracing::warn!(stream = %target.name, %error, "what was said of a deleted recording is still said");
        }
    }
}

fn recording(listed: &Listed) -> Entry {
    Entry {
        id: listed.id(),
        kind: Kind::Recording,
        stream: Some(listed.name.to_string()),
        bytes: None,
        modified: None,
    }
}

/// Where listing begins to find everything in `folder` whose path begins with `prefix`. `None` where there is nothing.
fn begin(folder: &Path, prefix: &str) -> Option<Path> {
    let within = format!("{folder}/");
    if prefix.starts_with(&within) {
        let (deepest, _) = prefix.rsplit_once('/')?;
        return Path::parse(deepest).ok();
    }
    within.starts_with(prefix).then(|| folder.clone())
}

fn is_below(path: &Path, folder: &Path) -> bool {
    path != folder && path.prefix_matches(folder)
}
