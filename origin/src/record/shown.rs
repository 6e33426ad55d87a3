//! Recordings as the front door shows them to edges.

use std::sync::Arc;

use headwater_cluster::wire as cluster_wire;
use headwater_media::name::StreamName;
use headwater_proto::v1;
use headwater_proto::v1::fetch_request::Position;

use super::NodeArchives;
use super::archive::{ArchivePiece, Follows, Reader};
use super::recordings::{Found, Recordings};
use super::stream_info::{InfoError, StreamInfo};
use super::target::{Target, TargetError};
use super::vault::{Cause, VaultError};
use crate::rpc::recordings::{Recording, RecordingIndex, Rejection};

#[tonic::async_trait]
impl RecordingIndex for Recordings<NodeArchives> {
    async fn find(&self, name: &StreamName) -> Result<Option<Arc<dyn Recording>>, Rejection> {
        let found = Self::find(self, name).await?;
        Ok(found.map(|found| Arc::new(Shown { found }) as Arc<dyn Recording>))
    }

    async fn info(&self, name: &StreamName) -> Result<Option<v1::StreamInfo>, Rejection> {
        let Ok(target) = Target::of(name) else {
            return Ok(None);
        };
        let found = self.infos().find(&target.name).await?;
        Ok(found.map(StreamInfo::to_wire))
    }

    fn last_info(&self, name: &StreamName) -> Option<v1::StreamInfo> {
        let target = Target::of(name).ok()?;
        Some(self.infos().last(&target.name)?.to_wire())
    }

    async fn set_info(&self, name: &StreamName, info: &v1::StreamInfo) -> Result<(), Rejection> {
        let info = StreamInfo::check(info)?;
        let target = Target::of(name)?;
        Ok(self.infos().set(&target.name, info).await?)
    }
}

/// A recording that was found.
struct Shown {
    found: Found<Arc<Reader>>,
}

#[tonic::async_trait]
impl Recording for Shown {
    fn stored(&self) -> v1::Stored {
        let summary = self.found.reader.summary();
        v1::Stored {
            generation: summary.generation,
            start_ms: summary.start_ms,
            end_ms: summary.end_ms,
            bytes: summary.bytes,
            growing: self.found.growing,
            has_audio: summary.has_audio,
            has_video: summary.has_video,
        }
    }

    async fn piece(&self, position: Position) -> Result<v1::Piece, Rejection> {
        let reader = &self.found.reader;
        let piece = match position {
            Position::Offset(at) => reader.newest_piece_at(cluster_wire::offset(at)).await,
            Position::TimeMs(ms) => reader.newest_piece_at_time(ms).await,
        };
        Ok(to_piece(piece.map_err(VaultError::from)?))
    }
}

fn to_piece(piece: ArchivePiece) -> v1::Piece {
    let follows = match piece.follows {
        Follows::Piece => v1::Follows::Piece,
        Follows::End => v1::Follows::End,
        // Of one that is left open nobody knows better, until it is finished.
        Follows::Growing => v1::Follows::Live,
    };
    let frames = v1::FrameBatch {
        epoch: piece.first.epoch.0,
        frames: piece.frames.iter().map(cluster_wire::to_frame).collect(),
    };
    v1::Piece {
        generation: piece.generation,
        first: Some(cluster_wire::to_offset(piece.first)),
        next: Some(cluster_wire::to_offset(piece.next)),
        follows: follows.into(),
        start_ms: piece.start_ms,
        end_ms: piece.end_ms,
        preface: piece.preface.iter().map(cluster_wire::to_frame).collect(),
        frames: Some(frames),
    }
}

impl From<InfoError> for Rejection {
    fn from(error: InfoError) -> Self {
        Self::new(v1::RecordingReason::Invalid, error.to_string())
    }
}

impl From<TargetError> for Rejection {
    fn from(error: TargetError) -> Self {
        // No recording of that name is there, nor will be.
        Self::new(v1::RecordingReason::NotFound, error.to_string())
    }
}

impl From<VaultError> for Rejection {
    fn from(error: VaultError) -> Self {
        let reason = match error.cause {
            // It became a file a moment ago.
            Cause::NotFound => v1::RecordingReason::Replaced,
            Cause::Corrupt => v1::RecordingReason::StructureInvalid,
            Cause::Fenced | Cause::Full | Cause::NoAccess | Cause::Unavailable => {
                v1::RecordingReason::Unavailable
            }
        };
        Self::new(reason, error.text)
    }
}
