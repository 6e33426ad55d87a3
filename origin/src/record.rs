//! Recordings: what is stored of streams while they are published.
//!
//! | module | what it holds |
//! |---|---|
//! | `recordings` | all recordings of this origin |
//! | `recorder` | one stream: from its log into the archive, and then a file |
//! | `archive` | recordings that are not one file yet: segments in the object store, the journal before them |
//! | `archived` | the archive as recorders use it |
//! | `compose` | one file of what was recorded |
//! | `files` | the files, and what is remembered of them |
//! | `segments` | segments, read through the store's cache |
//! | `shown` | recordings as the front door shows them |
//! | `stream_info` | what encoders said of streams |
//! | `target` | which file a stream becomes |
//! | `vault` | what a recorder needs of an archive |
//! | [`RecordingSection`] | the `[origin.recording]` section of the configuration |

pub(crate) mod archive;
mod archived;
mod compose;
pub(crate) mod files;
pub(crate) mod metrics;
pub(crate) mod recorder;
pub(crate) mod recordings;
mod section;
pub(crate) mod segments;
mod shown;
pub(crate) mod stream_info;
pub(crate) mod target;
pub(crate) mod vault;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use headwater_media::name::StreamName;
use headwater_node::metrics::Metrics;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use archive::{Archives, JournalUsage};
pub(crate) use archived::NodeArchives;
use files::Files;
use metrics::RecordingMetrics;
use recordings::marks::Marks;
use recordings::{Parts, Recordings};
pub use section::RecordingSection;
use segments::StoredSegments;

use crate::OriginSection;
use crate::store::{Store, StoreError};

/// How often the journal's work is counted.
const JOURNAL_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked whether recordings that were left open here ended elsewhere.
const TIDY_INTERVAL: Duration = Duration::from_secs(300);

/// When after the start it is looked for deletions that were cut off, and how often then: it takes a request or two for each recording
/// that is no file yet.
const FIRST_FINISH: Duration = Duration::from_secs(900);
const FINISH_INTERVAL: Duration = Duration::from_secs(6 * 3_600);

/// Where recordings are made.
pub(crate) struct Home<'a> {
    pub(crate) store: &'a Store,
    /// The node's id.
    pub(crate) node: &'a str,
    /// Whether a stream belongs to this node.
    pub(crate) ours: Box<dyn Fn(&StreamName) -> bool + Send + Sync>,
    pub(crate) tasks: &'a TaskTracker,
    pub(crate) stop: &'a CancellationToken,
}

/// Opens the archive, and begins to take up what a process before this one has left. Gives the archive, too, for who
/// looks at all of it.
pub(crate) async fn start(
    section: &OriginSection,
    metrics: &Metrics,
    home: Home<'_>,
) -> Result<(Recordings<NodeArchives>, Archives), StoreError> {
    let (store, config) = (home.store, section.recording.clone());
    let objects = store.objects().clone();
    let (folder, is_local) = (store.journal_dir(), !store.is_remote());
    let mut archive = config.archive();
    archive.segments = Some(Arc::new(StoredSegments::new(store)));
    if !is_local {
        archive.store_timeout = section.storage.answer_timeout();
    }
    let opening = tokio::task::spawn_blocking(move || {
        let marks = Marks::new(folder.join("unfinished"))?;
        let archives = Archives::new(objects, folder.join("frames"), is_local, archive);
        Ok((marks, archives.map_err(io::Error::other)?))
    });
    let opened = opening.await.map_err(io::Error::other).flatten();
    let (marks, archives) = opened.map_err(|source| StoreError::Journal {
        path: store.journal_dir(),
        source,
    })?;
    mark_left_open(&archives, &marks).await;
    let metrics = RecordingMetrics::new(metrics);
    home.tasks
        .spawn(tidy_journal(archives.clone(), home.stop.clone()));
    let finishing = finish_deletions(archives.clone(), store.clone(), home.stop.clone());
    home.tasks.spawn(finishing);
    let watching = watch_journal(archives.clone(), metrics.clone(), home.stop.clone());
    home.tasks.spawn(watching);
    let recordings = Recordings::new(Parts {
        config,
        vault: NodeArchives::new(archives.clone(), home.node).tidying(store),
        files: Files::of_store(store, section.storage.follow_links),
        marks,
        metrics: metrics.clone(),
        ours: home.ours,
        tasks: home.tasks.clone(),
        stop: home.stop.clone(),
    });
    let recovering = recordings.clone();
    home.tasks.spawn(async move { recovering.recover().await });
    Ok((recordings, archives))
}

/// Lets [`Recordings::recover`] look at what the journal has of recordings, also where a recorder has given one up and left no mark:
/// somebody else may have made it a file since.
async fn mark_left_open(archives: &Archives, marks: &Marks) {
    for left in archives.left_open() {
        if let Err(error) = marks.set_missing(&left.name).await {
            tracing::warn!(%error, stream = %left.name, "a recording that was left open cannot be marked");
        }
    }
}

/// Finishes deletions that a process that died has begun, perhaps another one. Nothing else leads to them.
async fn finish_deletions(archives: Archives, store: Store, stop: CancellationToken) {
    let mut wait = FIRST_FINISH;
    while stop
        .run_until_cancelled(tokio::time::sleep(wait))
        .await
        .is_some()
    {
        wait = FINISH_INTERVAL;
        let finishing = archives.finish_deletions(SystemTime::now());
        match stop.run_until_cancelled(finishing).await {
            Some(Ok(folders)) => {
                for folder in folders.iter().flat_map(Archives::folders_in) {
                    store.remove_empty_folders(&folder).await;
                }
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "deletions that were cut off cannot be looked for");
            }
            None => return,
        }
    }
}

/// Makes room in the journal where recordings that were left open here ended elsewhere, and nobody here has asked for them since.
async fn tidy_journal(archives: Archives, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(TIDY_INTERVAL))
        .await
        .is_some()
    {
        let names: BTreeSet<StreamName> =
            (archives.left_open().into_iter().map(|left| left.name)).collect();
        for name in names {
            match stop.run_until_cancelled(archives.generations(&name)).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(%error, stream = %name, "what was left open cannot be looked for");
                }
                None => return,
            }
        }
    }
}

/// Counts what the journal does.
async fn watch_journal(archives: Archives, metrics: RecordingMetrics, stop: CancellationToken) {
    let mut known = JournalUsage::default();
    while stop
        .run_until_cancelled(tokio::time::sleep(JOURNAL_INTERVAL))
        .await
        .is_some()
    {
        let usage = archives.journal_usage();
        metrics.journal_syncs.inc_by(usage.syncs - known.syncs);
        metrics.journal_bytes.inc_by(usage.bytes - known.bytes);
        known = usage;
    }
}
