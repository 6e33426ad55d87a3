//! What other processes of this machine cost: CPU time, memory, context switches.
//!
//! Linux only: everything is read from `/proc` (proc(5)), without a helper in the processes and without stopping them.
//!
//! - CPU is the scheduler's own account of each thread in nanoseconds (`/proc/PID/task/TID/schedstat`). It disappears with its thread, so
//!   what was read last stays in the sum, and what a thread used after that is found by comparing with the time of the whole process
//!   (`/proc/PID/stat`, which keeps that of ended threads, in clock ticks).
//! - Memory is the resident set. It is counted page by page (`smaps_rollup`) where a figure is wanted, and taken from the kernel's own
//!   counters, which may be off by some pages for each processor, once a second in between.
//! - Children that were forked after the start, and theirs, are part of the cost if that is wanted.
//!
//! Nothing here asks what the processes do: what their cost is divided by, such as bytes and viewers, comes from the harness.

mod meter;
mod proc;
mod report;
mod sampler;
mod usage;

use std::io;

pub use meter::{CostMeter, MAX_PROCESSES};
pub use report::{CostReport, GIGABYTE, MAX_THREADS_SHOWN, ThreadCost};
pub use sampler::{CostSample, CostSampler, MAX_SAMPLES};
pub use usage::{ENDED_THREADS, ThreadUsage, Usage};

/// Why the cost of processes cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CostError {
    /// There is no `/proc` to read.
    #[error("the cost of processes can only be measured on linux")]
    Unsupported,
    /// Nothing to measure.
    #[error("no process is named")]
    NoProcess,
    /// Ended, or never there.
    #[error("there is no process {pid}")]
    Gone {
        /// Its number.
        pid: u32,
    },
    /// More than [`MAX_PROCESSES`].
    #[error("{count} processes are more than {MAX_PROCESSES}")]
    TooMany {
        /// So many.
        count: usize,
    },
    /// Its account is not readable.
    #[error("cannot read what process {pid} costs: {cause}")]
    Read {
        /// Its number.
        pid: u32,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start sampling: {0}")]
    Start(io::Error),
}
