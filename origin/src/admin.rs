//! What operators do with what is stored, over the admin listener.
//!
//! | request | answer |
//! |---|---|
//! | `GET /recordings?prefix=&after=&limit=` | media files, in the order of their ids, and recordings that are no files yet; a page of them |
//! | `GET /recordings/inspect?id=` | what is in one of them |
//! | `GET /recordings/export?id=` | its bytes; of what is no file yet, an FLV of what there is |
//! | `DELETE /recordings?id=` | deletes it |
//!
//! An id is a path in the store: of a file, `applications/live/streams/_definst_/show.flv`; of a recording that goes on or is still to
//! be made into a file, its folder. Media files are those in folders of streams and in virtual directories. Every origin answers for the whole store, so origins that share one give the same answers.
//!
//! # Bounds
//! A page has at most [`list::MAX_PAGE`] entries; listing looks through the folders that can hold what is asked for, and holds no more
//! than a page. Exports are streamed.

use std::sync::{Arc, OnceLock};

use headwater_node::admin::axum::Json;
use headwater_node::admin::axum::body::Body;
use headwater_node::admin::axum::extract::{Query, State};
use headwater_node::admin::axum::http::{StatusCode, header};
use headwater_node::admin::axum::response::{IntoResponse, Response};
use headwater_node::admin::axum::routing::get;
use headwater_node::admin::{ApiError, Router};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::record::archive::{ArchiveError, Archives};
use crate::record::stream_info::StreamInfos;
use crate::store::{ReadError, Store};

mod export;
mod inspect;
mod list;

/// Where an origin is put once it has started: the listener answers before that.
#[derive(Clone, Debug, Default)]
pub struct AdminSlot(Arc<OnceLock<Library>>);

impl AdminSlot {
    /// The routes, for [`headwater_node::admin::Admin::merge`]. They say that the node is starting until there is an origin.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/recordings", get(list_all).delete(delete))
            .route("/recordings/inspect", get(inspect_one))
            .route("/recordings/export", get(export_one))
            .with_state(self.clone())
    }

    pub(crate) fn fill(&self, library: Library) {
        // A node has one origin, once.
        let _ = self.0.set(library);
    }

    fn library(&self) -> Result<&Library, ApiError> {
        self.0.get().ok_or_else(|| {
            let message = "the origin is starting";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "starting", message)
        })
    }
}

/// What is stored.
#[derive(Clone, Debug)]
pub(crate) struct Library {
    pub(crate) store: Store,
    pub(crate) archives: Archives,
    pub(crate) infos: StreamInfos,
    /// Folders below which media files are, besides those of applications.
    pub(crate) directories: Vec<Path>,
    /// Where deletions go on.
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// Which one.
#[derive(Debug, Deserialize)]
struct Which {
    id: String,
}

/// One of those that are stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Entry {
    /// Path in the store.
    pub(crate) id: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// `vhost/app/instance/stream` of a recording that is no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<String>,
    /// Of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// When a file was last written, as RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) modified: Option<String>,
}

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A media file.
    File,
    /// A recording that goes on, or is still to be made into a file.
    Recording,
}

async fn list_all(
    State(slot): State<AdminSlot>,
    Query(request): Query<list::Request>,
) -> Result<Response, ApiError> {
    let page = slot.library()?.list(&request).await?;
    Ok(Json(page).into_response())
}

async fn inspect_one(
    State(slot): State<AdminSlot>,
    Query(which): Query<Which>,
) -> Result<Response, ApiError> {
    let found = slot.library()?.inspect(&which.id).await?;
    Ok(Json(found).into_response())
}

async fn export_one(
    State(slot): State<AdminSlot>,
    Query(which): Query<Which>,
) -> Result<Response, ApiError> {
    let export = slot.library()?.export(&which.id).await?;
    let mut response = Body::from_stream(export.bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/octet-stream"),
    );
    if let Some(length) = export.length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(response)
}

async fn delete(
    State(slot): State<AdminSlot>,
    Query(which): Query<Which>,
) -> Result<Response, ApiError> {
    let library = slot.library()?.clone();
    let (tasks, stop, id) = (
        library.tasks.clone(),
        library.stop.clone(),
        which.id.clone(),
    );
    // Whoever asked for it may leave before it is done.
    let deleting = async move { library.delete(&id).await };
    let deleted = tasks
        .spawn(async move { stop.run_until_cancelled(deleting).await })
        .await;
    match deleted {
        Ok(deleted) => deleted.unwrap_or_else(|| Err(unavailable("the origin stops")))?,
        Err(error) => return Err(unavailable(error)),
    }
    tracing::info!(id = which.id, "deleted by an operator");
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn not_found(id: &str) -> ApiError {
    let message = format!("nothing is stored as {id:?}");
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

fn bad_request(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "bad_request", message)
}

fn unavailable(error: impl std::fmt::Display) -> ApiError {
    let message = format!("the store: {error}");
    ApiError::new(StatusCode::BAD_GATEWAY, "store", message)
}

fn of_store(id: &str, error: object_store::Error) -> ApiError {
    match error {
        object_store::Error::NotFound { .. } => not_found(id),
        error => unavailable(error),
    }
}

fn of_archive(id: &str, error: ArchiveError) -> ApiError {
    match error {
        ArchiveError::NotFound => not_found(id),
        ArchiveError::Open => {
            let message = "it is being recorded, here or at another origin: end the stream first";
            ApiError::new(StatusCode::CONFLICT, "in_use", message)
        }
        error => unavailable(error),
    }
}

fn of_read(id: &str, error: ReadError) -> ApiError {
    match error {
        ReadError::NotFound => not_found(id),
        ReadError::Denied(why) => ApiError::new(StatusCode::FORBIDDEN, "denied", why),
        error => unavailable(error),
    }
}

#[cfg(test)]
mod tests;
