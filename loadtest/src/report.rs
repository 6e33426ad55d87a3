//! What a run found, for people as a table and for programs as JSON.
//!
//! Numbers in JSON name their unit in their name. The shapes here are what other programs read: fields may be added, none changes its meaning.

mod calls;
mod connect;
pub mod html;
mod introduce;
mod machine;
mod objects;
mod pages;
mod summary;
mod table;
mod tally;

use std::io;
use std::path::Path;

use serde::Serialize;

pub use calls::CallSummary;
pub use connect::ConnectSummary;
pub use introduce::IntroduceSummary;
pub use machine::{Machine, utc};
pub use objects::{ObjectSummary, VerifySummary};
pub use pages::{cost_page, play_page};
pub use summary::{LatencySummary, PlaySummary, PublishSummary, StoppedSummary};
pub use table::{Table, bytes, count, micros, millis};
pub use tally::{Ending, MAX_KINDS, Spread, Tally};

/// Writes a summary as JSON, indented, with a line break at its end.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, summary: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(summary).map_err(io::Error::other)?;
    text.push('\n');
    std::fs::write(path, text)
}
