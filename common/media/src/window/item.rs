//! What a window can hold: frames, in whatever form their owner keeps them.

use std::sync::Arc;

use super::Slot;
use crate::frame::{Frame, FrameFlags, FrameKind, Offset};

/// What a window needs to know of its items. Cloning must be cheap.
pub trait WindowItem: Clone {
    /// Place in the log.
    fn offset(&self) -> Offset;
    /// Media time in milliseconds, unwrapped.
    fn timestamp(&self) -> u64;
    /// Audio, video or data.
    fn kind(&self) -> FrameKind;
    /// What is known of the payload.
    fn flags(&self) -> FrameFlags;
    /// Bytes that the item holds in memory.
    fn size(&self) -> usize;
    /// The slot of the item; asked once, and only of items with the flag `HEADER`, `METADATA` or `CLEAR_METADATA`.
    /// [`Slot::of`] finds it from the payload.
    fn slot(&self) -> Slot;
}

impl WindowItem for Frame {
    fn offset(&self) -> Offset {
        self.offset
    }

    fn timestamp(&self) -> u64 {
        self.timestamp
    }

    fn kind(&self) -> FrameKind {
        self.kind
    }

    fn flags(&self) -> FrameFlags {
        self.flags
    }

    fn size(&self) -> usize {
        self.payload.len()
    }

    fn slot(&self) -> Slot {
        Slot::of(self.kind, &self.payload)
    }
}

impl<F: WindowItem> WindowItem for Arc<F> {
    fn offset(&self) -> Offset {
        (**self).offset()
    }

    fn timestamp(&self) -> u64 {
        (**self).timestamp()
    }

    fn kind(&self) -> FrameKind {
        (**self).kind()
    }

    fn flags(&self) -> FrameFlags {
        (**self).flags()
    }

    fn size(&self) -> usize {
        (**self).size()
    }

    fn slot(&self) -> Slot {
        (**self).slot()
    }
}
