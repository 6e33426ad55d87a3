//! What a player tells its client, and in which order.

use headwater_rtmp::server::{PlayAnswer, ServerSession};
use headwater_rtmp::session::SessionError;
use headwater_rtmp::status::{Status, StatusCode};

/// The client's scripts may not read audio and video samples.
const SAMPLE_ACCESS: (bool, bool) = (false, false);

/// Something to tell the client, after all media before it and before all media after it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Notice {
    /// An entry begins: StreamIsRecorded if it is, StreamBegin, `Play.Reset` after a reset, `Play.Start`, `|RtmpSampleAccess`,
    /// `Data.Start`.
    Start {
        name: String,
        reset: bool,
        recorded: bool,
    },
    /// StreamEOF, StreamIsRecorded, StreamBegin, `Seek.Notify`, and from `Play.Start` on as at the start.
    Sought {
        name: String,
        to_ms: u64,
        recorded: bool,
    },
    SeekFailed {
        why: &'static str,
    },
    Paused {
        name: String,
    },
    Unpaused {
        name: String,
    },
    /// `onPlayStatus` with `Play.Switch`: the next entry of the playlist.
    Switch {
        name: String,
    },
    /// `Play.Transition`: a switch to another stream was accepted.
    Transition {
        name: String,
        forced: bool,
    },
    /// `onPlayStatus` with `Play.TransitionComplete`.
    TransitionComplete {
        name: String,
    },
    /// `Play.Stop`, at the client's wish.
    Stop {
        name: String,
    },
    /// `Play.Stop`, StreamEOF, `onPlayStatus` with `Play.Complete`.
    Complete {
        name: String,
        /// Milliseconds of media.
        duration_ms: u64,
        /// Bytes sent.
        bytes: u64,
    },
    /// An entry cannot be played, and playback goes on with something else.
    EntryFailed {
        code: StatusCode,
        name: String,
        why: String,
    },
    /// Nothing can be played any more.
    Failed {
        code: StatusCode,
        name: String,
        why: String,
    },
}

impl Notice {
    /// Puts it into what is sent to the client.
    pub(crate) fn tell(
        &self,
        core: &mut ServerSession,
        stream_id: u32,
    ) -> Result<(), SessionError> {
        let answer = |name: &String, reset, recorded| PlayAnswer {
            name: name.clone(),
            reset,
            recorded,
            sample_access: SAMPLE_ACCESS,
        };
        match self {
            Self::Start {
                name,
                reset,
                recorded,
            } => core.play_started(stream_id, &answer(name, *reset, *recorded)),
            Self::Sought {
                name,
                to_ms,
                recorded,
            } => core.seek_done(stream_id, &answer(name, false, *recorded), *to_ms),
            Self::SeekFailed { why } => {
                let status = Status::new(StatusCode::SeekFailed).describe(*why);
                core.status(stream_id, status)
            }
            Self::Paused { name } => {
                let status = about(StatusCode::PauseNotify, name, format!("Pausing {name}."));
                core.status(stream_id, status)
            }
            Self::Unpaused { name } => {
                let status = about(
                    StatusCode::UnpauseNotify,
                    name,
                    format!("Unpausing {name}."),
                );
                core.status(stream_id, status)
            }
            Self::Switch { name } => {
                let status = about(
                    StatusCode::PlaySwitch,
                    name,
                    format!("Switching to {name}."),
                );
                core.play_status(stream_id, &status)
            }
            Self::Transition { name, forced } => {
                let reason = if *forced {
                    "NetStream.Transition.Forced"
                } else {
                    "NetStream.Transition.Success"
                };
                let text = format!("Transition to {name}.");
                let status = about(StatusCode::PlayTransition, name, text).with("reason", reason);
                core.status(stream_id, status)
            }
            Self::TransitionComplete { name } => {
                core.play_status(stream_id, &transition_complete(name))
            }
            Self::Stop { name } => core.play_stop(stream_id, name),
            Self::Complete {
                name,
                duration_ms,
                bytes,
            } => core.play_complete(stream_id, name, seconds(*duration_ms), *bytes),
            Self::EntryFailed { code, name, why } => {
                core.status(stream_id, about(*code, name, why.clone()))
            }
            Self::Failed { code, name, why } => core.play_failed(stream_id, *code, name, why),
        }
    }
}

/// What is told with the first frame of a stream that was gone over to.
pub(crate) fn transition_complete(name: &str) -> Status {
    let text = format!("Transition to {name} is complete.");
    about(StatusCode::PlayTransitionComplete, name, text)
}

fn about(code: StatusCode, name: &str, text: String) -> Status {
    Status::new(code).describe(text).with("details", name)
}

/// Seconds as AMF has them.
#[expect(
    clippy::cast_precision_loss,
    reason = "AMF has no other number, and 2^53 milliseconds are 285,000 years"
)]
pub(crate) fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1_000.0
}
