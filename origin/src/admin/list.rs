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
#[derive(Debug, Default, Deserialize)]
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
        // A store lists by whole segments of a path, in no order that holds for all of them.
        let may_hold = |folder: &str| {
            folder.starts_with(&request.prefix) || request.prefix.starts_with(folder)
        };
        for folder in FOLDERS.into_iter().filter(|folder| may_hold(folder)) {
            let mut files = self.store.objects().list(Some(&Path::from(folder)));
            while let Some(meta) = files.try_next().await.map_err(unavailable)? {
                if is_media(&meta.location) && is_wanted(meta.location.as_ref()) {
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
        if may_hold(RECORDINGS) {
            let mut pages = std::pin::pin!(self.archives.list());
            while let Some(page) = pages.next().await {
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
        let is_below = FOLDERS
            .iter()
            .any(|folder| path.prefix_matches(&Path::from(*folder)));
        if !is_below || !is_media(&path) {
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

/// Whether a path is one of a media file: of a known kind, in a folder of streams.
fn is_media(path: &Path) -> bool {
    let is_of_a_known_kind = path
        .extension()
        .is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()));
    is_of_a_known_kind && path.parts().any(|part| part.as_ref() == "streams")
}
