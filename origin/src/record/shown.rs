//! Recordings as the front door shows them to edges.

use std::sync::Arc;

use headwater_cluster::wire as cluster_wire;
use headwater_media::name::StreamName;
use headwater_proto::v1;
use headwater_proto::v1::fetch_request::Position;

use super::NodeArchives;
use super::archive::{ArchivePiece, Follows, Reader};
use super::recordings::{Found, Recordings};
use super::vault::{Cause, VaultError};
use crate::rpc::recordings::{Recording, RecordingIndex, Rejection};

#[tonic::async_trait]
impl RecordingIndex for Recordings<NodeArchives> {
    async fn find(&self, name: &StreamName) -> Result<Option<Arc<dyn Recording>>, Rejection> {
        let found = Self::find(self, name).await?;
        Ok(found.map(|found| Arc::new(Shown { found }) as Arc<dyn Recording>))
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
        if !reader.is_live() && !reader.summary().is_complete {
            // Whoever writes it does so elsewhere, or died.
            reader.refresh().await.map_err(VaultError::from)?;
        }
        let piece = match position {
            Position::Offset(at) => reader.piece_at(cluster_wire::offset(at)).await,
            Position::TimeMs(ms) => reader.piece_at_time(ms).await,
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
