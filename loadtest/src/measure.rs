//! Accounts of what a viewer saw. Pure: times and numbers come in, figures go out, and nothing grows with the length of a run.

mod gaps;
mod latency;
mod sequence;

pub use gaps::{GapReport, Gaps, LONG_STALL, MAX_GAPS, STALL};
pub use latency::{Latencies, Latency, LatencyReport, MAX_LATENCY};
pub use sequence::{MAX_HOLES, SequenceReport, Sequences};
