//! What is in a file or a recording.

use headwater_node::admin::ApiError;
use headwater_node::admin::axum::http::StatusCode;
use serde::Serialize;

use super::{Kind, Library, of_archive, of_read};
use crate::vod::formats::Formats;
use crate::vod::library::OpenMedia;
use crate::vod::names::Format;

/// What was found in it.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Inspection {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    /// `vhost/app/instance/stream` of a recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<String>,
    /// From the first frame to the end of the last.
    pub(crate) duration_ms: u64,
    /// Of a file all of it, of a recording its frames.
    pub(crate) bytes: u64,
    pub(crate) has_audio: bool,
    pub(crate) has_video: bool,
    /// Of a recording: somebody records it now, here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) growing: Option<bool>,
}

impl Library {
    pub(crate) async fn inspect(&self, id: &str) -> Result<Inspection, ApiError> {
        if let Some(listed) = self.recording(id).await? {
            let opened = self.archives.open(&listed.name, listed.generation).await;
            let reader = opened.map_err(|error| of_archive(id, error))?;
            let summary = reader.summary();
            return Ok(Inspection {
                id: id.to_owned(),
                kind: Kind::Recording,
                stream: Some(listed.name.to_string()),
                duration_ms: summary.end_ms.saturating_sub(summary.start_ms),
                bytes: summary.bytes,
                has_audio: summary.has_audio,
                has_video: summary.has_video,
                growing: Some(reader.is_live()),
            });
        }
        let path = self.file(id)?;
        let opened = self.store.read(&path).await;
        let opened = opened.map_err(|error| of_read(id, error))?;
        let bytes = opened.bytes.length();
        let format = match path.extension().map(str::to_ascii_lowercase).as_deref() {
            Some("flv") => Format::Flv,
            Some("mp3") => Format::Mp3,
            _ => Format::Mp4,
        };
        // Reading a file blocks.
        let reading =
            tokio::task::spawn_blocking(move || Formats::default().open(format, opened.bytes));
        let unreadable = |why: String| {
            let message = format!("{id}: {why}");
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unreadable", message)
        };
        let media = match reading.await {
            Ok(Ok(media)) => media,
            Ok(Err(error)) => return Err(unreadable(error.to_string())),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let info = media.info();
        Ok(Inspection {
            id: id.to_owned(),
            kind: Kind::File,
            stream: None,
            duration_ms: info.duration_ms,
            bytes,
            has_audio: info.has_audio,
            has_video: info.has_video,
            growing: None,
        })
    }
}
