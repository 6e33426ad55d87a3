//! Recordings: what is stored of streams while they are published.
//!
//! | module | what it holds |
//! |---|---|
//! | [`archive`] | recordings that are not one file yet: segments in the object store, the journal before them |

#[allow(dead_code, reason = "the recorder comes beside it")]
pub(crate) mod archive;
