//! `headwater-loadtest callers`: clients that call methods and wait for results.

use std::io::Write;
use std::time::Duration;

use clap::Args;

use super::options::{MAX_CLIENTS, MemberArgs, RunArgs, seconds};
use super::supervise::Supervisor;
use super::{CliError, Outcome, give, judge, limits};
use crate::members::callers::{CallOptions, Callers};
use crate::report::count;

/// Longest padding, in bytes.
const MAX_PADDING: u64 = 65_000;

/// Arguments of `callers`.
#[derive(Debug, Args)]
pub(super) struct CallersArgs {
    #[command(flatten)]
    members: MemberArgs,
    /// The method. Its first argument is a number, unless there are others before it.
    #[arg(long, default_value = "echo")]
    method: String,
    /// Text that goes before the number: may be given several times.
    #[arg(long, value_name = "TEXT")]
    before: Vec<String>,
    /// Bytes of padding behind the number.
    #[arg(long, value_name = "BYTES", default_value_t = 32, value_parser = clap::value_parser!(u64).range(0..=MAX_PADDING))]
    padding: u64,
    /// Calls each second of all clients together; 0: each calls again when it has its result.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 0)]
    rate: u32,
    /// Calls of one client that wait for their result at once, at most.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_CLIENTS))]
    in_flight: u64,
    /// Take any result, and not only the number that was sent.
    #[arg(long)]
    any_result: bool,
    /// Call for this time.
    #[arg(long, default_value = "10", value_parser = seconds)]
    seconds: Duration,
    #[command(flatten)]
    run: RunArgs,
}

pub(super) fn run(args: &CallersArgs, out: &mut impl Write) -> Result<Outcome, CliError> {
    let members = args.members.options()?;
    limits::raise(members.count)?;
    let timeout = members.timeout;
    let options = CallOptions {
        method: args.method.clone(),
        before: args.before.clone(),
        padding: usize::try_from(args.padding).unwrap_or_default(),
        rate: args.rate,
        in_flight: usize::try_from(args.in_flight).unwrap_or(1),
        checks_result: !args.any_result,
        ..CallOptions::new(members)
    };
    let mut supervisor = Supervisor::start().map_err(CliError::Start)?;
    let callers = Callers::start(options)?;
    let progress = || {
        let counts = callers.counts();
        format!(
            "connected {}  ended {}  calls {}  answers {}",
            count(counts.ready),
            count(counts.ended),
            count(counts.asked),
            count(counts.answered)
        )
    };
    supervisor.wait(None, || callers.have_joined(), progress);
    callers.begin();
    let all_ended = || callers.counts().ready == 0;
    supervisor.wait(Some(args.seconds), all_ended, progress);
    callers.settle();
    supervisor.wait(Some(timeout), || callers.have_settled(), progress);
    let summary = callers.report();
    supervisor.finish(async { drop(callers) });
    give(&summary.table(), &summary, &args.run, out)?;
    let did_something = summary.answered > 0;
    Ok(judge(&args.run, summary.is_without_loss(), did_something))
}
