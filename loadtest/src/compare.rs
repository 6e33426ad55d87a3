//! Servers side by side: each in turn is started afresh, published to, watched, measured and stopped, round after round.
//!
//! ```text
//!  for each round, case (number of viewers, rate of connections) and server:
//!    start --> ready --> publish --> settle --> viewers --> warm-up --> window --> stop
//!                                       memory before         processor time, bytes, latency
//! ```
//!
//! Servers take turns within a round because the speed of a machine drifts: a ratio is made within one round, and medians over rounds
//! are made of ratios. What is compared is a file ([`Scenario`]); `scenarios/README.md` explains it.
//!
//! A run that fails is reported with its reason, and the others go on. Nothing is measured by asking the server: processor time and
//! memory are the kernel's account of its processes, everything else is what viewers saw.

mod figures;
mod page;
mod places;
mod process;
mod ready;
mod results;
mod run;
mod schema;
mod server;
mod table;
mod watch;

pub use figures::{Figure, Figures, Median, medians};
pub use results::{Case, Comparison, Run, Second, Summary};
pub use run::compare;
pub use schema::{
    HarnessPlan, Override, ProcessPlan, RunKind, RunPlan, Scenario, ScenarioError, ServerKind,
    ServerPlan, StreamPlan,
};
pub use server::RunError;
pub use watch::Watch;
