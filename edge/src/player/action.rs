//! What a player asks of its session.

use std::sync::Arc;

use headwater_media::frame::Offset;
use headwater_media::name::StreamName;
use headwater_rtmp::command::PlayLength;

use super::notice::Notice;
use crate::recorded::Place;

/// Something for the session to do. In order, and before any media that the player gives out afterwards.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Tell(Notice),
    /// What is there? The answer goes to [`Player::described`](super::Player::described).
    Describe {
        number: u64,
        stream: Arc<StreamName>,
    },
    /// Is the live stream published? The answer goes to [`Player::live_found`](super::Player::live_found).
    FindLive {
        number: u64,
        stream: Arc<StreamName>,
    },
    /// A piece; it goes to [`Player::piece`](super::Player::piece).
    Fetch {
        number: u64,
        stream: Arc<StreamName>,
        /// 0: whatever there is.
        generation: u64,
        place: Place,
    },
    /// Play the live stream from its newest key frame on, or wait for it. If that cannot be,
    /// [`Player::live_failed`](super::Player::live_failed).
    GoLive {
        name: String,
        stream: Arc<StreamName>,
        /// To be told first, once it is certain that the stream can be played.
        notice: Option<Notice>,
        length: PlayLength,
        /// Something follows in the playlist, so the end of the publisher is the end of this.
        ends: bool,
        /// The client is to be told with the first frame that its transition is complete.
        transition: bool,
    },
    /// Play the live stream from exactly this frame on, if this edge holds it:
    /// [`Player::joined`](super::Player::joined), else nothing.
    Join {
        name: String,
        stream: Arc<StreamName>,
        from: Offset,
        length: PlayLength,
        ends: bool,
    },
    /// Hold the live play, or let it go on at the newest key frame.
    PauseLive(bool),
    /// Let the live play go on at the newest key frame.
    RejoinLive,
    /// The live play ends with its publisher from now on. When it has, or if it was over already:
    /// [`Player::live_over`](super::Player::live_over).
    EndLive,
    /// Stop the live play.
    LeaveLive,
}

impl Action {
    /// The number of the question that it asks, if it does.
    pub(crate) fn question(&self) -> Option<u64> {
        match self {
            Self::Describe { number, .. }
            | Self::FindLive { number, .. }
            | Self::Fetch { number, .. } => Some(*number),
            _ => None,
        }
    }
}
