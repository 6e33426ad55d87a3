//! A player from the client's first command to the last byte that it gets, with a clock that the test turns: the protocol cores of
//! both sides, the player, and a library that answers its questions.

mod dvr;
mod failures;
pub(crate) mod library;
mod order;
mod pacing;
mod pauses;
mod playlists;
mod seeks;
mod stage;
mod transitions;

use library::{FRAME_MS, Library};
use stage::{Came, Stage};
