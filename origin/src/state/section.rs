//! The `[origin.state]` section: how the state of applications is kept.

use std::time::Duration;

headwater_node::section! {
    /// How the state of applications is kept: their persistent shared objects, and who hosts them. It is in the store of recordings and media
    /// files, below `state/`, in one database for each partition of the ring.
    pub struct StateSection {
        /// The least time between two writes of a partition to the store, milliseconds. What comes meanwhile goes together. With a
        /// bucket each write is a request that costs money, at most so many for each busy partition: 10 is 100 a second.
        pub flush_ms: u64 = 10 => 0..=10_000,
        /// The most that one partition has written and not yet made durable, bytes. Past it changes are refused: the store
        /// is too slow, full or gone.
        pub unflushed_bytes: usize = 8 << 20 => 65_536..=1 << 30,
        /// How much of a partition's newest rows is kept in memory before it goes to the store in order, bytes. A partition
        /// that is in use takes up to twice this.
        pub memory_bytes: usize = 1 << 20 => 65_536..=1 << 28,
        /// How much of what was read of merged rows is kept in memory, bytes, for all partitions of an origin together. Objects are
        /// read in several scans when a partition is taken over: without this each of them reads the same blocks again.
        pub cache_bytes: u64 = 16 << 20 => 0..=1 << 34,
        /// How often each open partition looks whether it has files of rows to be merged, milliseconds. Each look is some requests to
        /// a bucket; files that were not merged are read by whoever takes the partition over, and changes wait when there are too many.
        pub merge_ms: u64 = 2_000 => 100..=30_000,
        /// How often each open partition looks whether another origin has taken it, milliseconds. Each look is one request to
        /// a bucket. An origin that writes finds out with that.
        pub poll_ms: u64 = 1_000 => 50..=60_000,
        /// How long a partition may take to be opened, to be closed, or to answer, milliseconds.
        pub open_timeout_ms: u64 = 10_000 => 100..=600_000,
        /// How long a partition stays open when nothing uses it any more, milliseconds. One that has gone to another origin is closed at once.
        pub linger_ms: u64 = 30_000 => 0..=3_600_000,
        /// How long a partition that another origin has taken is left to it, milliseconds: two that both think that they own it
        /// would take it from each other in turn. A quarter of it where the other one
        /// cannot be reached or drains; nothing where it has left.
        pub hold_off_ms: u64 = 5_000 => 0..=600_000,
    }
}

impl StateSection {
    pub(super) fn flush(&self) -> Duration {
        Duration::from_millis(self.flush_ms)
    }

    pub(super) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    pub(super) fn merge(&self) -> Duration {
        Duration::from_millis(self.merge_ms)
    }

    pub(super) fn open_timeout(&self) -> Duration {
        Duration::from_millis(self.open_timeout_ms)
    }

    pub(super) fn linger(&self) -> Duration {
        Duration::from_millis(self.linger_ms)
    }

    pub(super) fn hold_off(&self) -> Duration {
        Duration::from_millis(self.hold_off_ms)
    }
}
