//! What is known of a stored stream, where it can be asked for, and why it cannot be had.

use std::sync::Arc;

use headwater_media::frame::Offset;
use headwater_proto::v1;

/// What there is under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    /// Somebody publishes now.
    pub(crate) publishing: bool,
    pub(crate) stored: Option<Stored>,
    /// What an encoder said of it; `None` in applications without `dvr`.
    pub(crate) info: Option<Arc<v1::StreamInfo>>,
}

impl Description {
    /// Nobody publishes, and nothing is stored.
    pub(crate) const NOTHING: Self = Self {
        publishing: false,
        stored: None,
        info: None,
    };

    pub(super) fn from_wire(description: &v1::StreamDescription) -> Self {
        Self {
            publishing: description.publishing,
            stored: description.stored.map(Stored::from_wire),
            info: description.info.map(Arc::new),
        }
    }
}

/// Something that is stored: a recording, one that still grows included, or a media file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Changes whenever a position may mean another frame than before.
    pub(crate) generation: u64,
    /// Media time of the first frame, in milliseconds on the stream's timeline: what a client calls the beginning.
    pub(crate) start_ms: u64,
    /// Media time at which the last frame ends. Of a growing recording it was so at most
    /// [`description_ms`](crate::config::RecordedSection::description_ms) ago.
    pub(crate) end_ms: u64,
    /// Of what is stored.
    pub(crate) bytes: u64,
    /// It is being recorded: there will be more.
    pub(crate) growing: bool,
    pub(crate) has_audio: bool,
    pub(crate) has_video: bool,
}

impl Stored {
    fn from_wire(stored: v1::Stored) -> Self {
        Self {
            generation: stored.generation,
            start_ms: stored.start_ms,
            end_ms: stored.end_ms.max(stored.start_ms),
            bytes: stored.bytes,
            growing: stored.growing,
            has_audio: stored.has_audio,
            has_video: stored.has_video,
        }
    }
}

/// Where in a stored stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// The piece that begins here, [`Piece::next`](super::Piece::next) of the one before. After the last piece of a growing
    /// recording (`Follows::Live`): that piece again, with whatever came since; frames before the offset are to be skipped.
    Offset(Offset),
    /// The piece with the newest place at or before this media time, in milliseconds, from which a decoder can start; past
    /// the end the last such piece, before the beginning the first.
    Time(u64),
}

impl Place {
    pub(super) fn to_wire(self) -> v1::fetch_request::Position {
        match self {
            Self::Offset(offset) => {
                v1::fetch_request::Position::Offset(headwater_cluster::wire::to_offset(offset))
            }
            Self::Time(ms) => v1::fetch_request::Position::TimeMs(ms),
        }
    }
}

/// What comes after a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Another piece, at its `next`.
    Piece,
    /// Nothing: the end of what is stored, and nobody records.
    End,
    /// What is not stored yet: the live stream goes on at its `next`; or ask again later.
    Live,
}

impl Follows {
    pub(super) fn from_wire(follows: v1::Follows) -> Option<Self> {
        match follows {
            v1::Follows::Piece => Some(Self::Piece),
            v1::Follows::End => Some(Self::End),
            v1::Follows::Live => Some(Self::Live),
            v1::Follows::Unspecified => None,
        }
    }
}

/// Why a stored stream cannot be had. The texts are for the log: see [`RecordedError::told`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordedError {
    /// `NetStream.Play.StreamNotFound`.
    #[error("nothing is stored under this name")]
    NotFound,
    /// It is not what it was. Describe it again, and go on at the media time.
    #[error("the recording was replaced")]
    Replaced,
    /// `NetStream.Play.FileStructureInvalid`.
    #[error("the file is damaged: {0}")]
    StructureInvalid(Arc<str>),
    /// `NetStream.Play.NoSupportedTrackFound`.
    #[error("nothing in the file can be played: {0}")]
    NoSupportedTrack(Arc<str>),
    /// No origin answers, or its store does not. It may be there, and the edge has asked more than once.
    #[error("the recording cannot be reached now: {0}")]
    Unavailable(Arc<str>),
    /// A limit of the origin or of this edge.
    #[error("too much is asked for at once: {0}")]
    Limit(Arc<str>),
}

impl RecordedError {
    pub(super) fn unavailable(why: &str) -> Self {
        Self::Unavailable(why.into())
    }

    pub(super) fn limit(why: &str) -> Self {
        Self::Limit(why.into())
    }

    /// What a client is told: not what origins say of their stores, which has addresses in it.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Unavailable(_) => "the recording cannot be reached now".to_owned(),
            Self::Limit(_) => "too much is asked for at once".to_owned(),
            Self::NotFound
            | Self::Replaced
            | Self::StructureInvalid(_)
            | Self::NoSupportedTrack(_) => self.to_string(),
        }
    }

    /// Whether it says nothing about what is stored: only that it cannot be had now.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Limit(_))
    }

    /// For metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Replaced => "replaced",
            Self::StructureInvalid(_) => "structure_invalid",
            Self::NoSupportedTrack(_) => "no_supported_track",
            Self::Unavailable(_) => "unavailable",
            Self::Limit(_) => "limit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_not_told_where_a_store_is() {
        let why = "error performing GET http://store.internal/bucket";
        for error in [RecordedError::unavailable(why), RecordedError::limit(why)] {
            assert!(error.to_string().contains(why), "{error}");
            assert!(!error.told().contains("store"), "{}", error.told());
        }
        let damaged = RecordedError::StructureInvalid("no moov box".into());
        assert_eq!(damaged.told(), "the file is damaged: no moov box");
    }
}
