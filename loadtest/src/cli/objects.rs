//! `headwater-loadtest objects`: clients that write and read shared objects.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::options::{MAX_CLIENTS, MemberArgs, RunArgs, seconds};
use super::supervise::Supervisor;
use super::{CliError, Outcome, give, judge, limits};
use crate::members::MemberOptions;
use crate::members::objects::{Dialect, ObjectOptions, Users};
use crate::report::count;

/// Largest value, in bytes.
const MAX_BYTES: u64 = 65_000;

/// Arguments of `objects`.
#[derive(Debug, Args)]
pub(super) struct ObjectsArgs {
    #[command(flatten)]
    members: MemberArgs,
    /// How many shared objects there are.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    objects: u64,
    /// What the names of objects begin with; a number follows.
    #[arg(long, value_name = "NAME", default_value = "load")]
    prefix: String,
    /// Objects that each client uses.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    per_client: u64,
    /// Clients that write, the first ones. None: all of them read, and idle.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=MAX_CLIENTS))]
    writers: u64,
    /// Slots that each writer has in each of its objects.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    slots: u64,
    /// Bytes of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=MAX_BYTES))]
    bytes: u64,
    /// Changes each second of all writers together; 0: each slot is changed again when its last change is confirmed.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 10)]
    rate: u32,
    /// Messages to the users of objects each second, of all writers together.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 0)]
    sends: u32,
    /// The objects are persistent.
    #[arg(long)]
    persistent: bool,
    /// Say in messages what servers say among themselves, and the npm package rtmp-client.
    #[arg(long)]
    proxy: bool,
    /// Write each confirmed change to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "verify")]
    record: Option<PathBuf>,
    /// Change nothing: look whether everything is there that such a file says was confirmed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["objects", "prefix", "per_client", "writers", "slots", "bytes", "rate", "sends", "persistent"])]
    verify: Option<PathBuf>,
    /// Write for this time.
    #[arg(long, default_value = "10", value_parser = seconds)]
    seconds: Duration,
    /// How long clients may take in the end until all have the same.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    settle: Duration,
    #[command(flatten)]
    run: RunArgs,
}

impl ObjectsArgs {
    const fn dialect(&self) -> Dialect {
        if self.proxy {
            Dialect::Proxy
        } else {
            Dialect::Player
        }
    }

    fn options(&self, members: MemberOptions) -> ObjectOptions {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        ObjectOptions {
            objects: number(self.objects),
            prefix: self.prefix.clone(),
            per_member: number(self.per_client),
            writers: number(self.writers),
            slots: number(self.slots),
            bytes: number(self.bytes),
            rate: self.rate,
            sends: self.sends,
            is_persistent: self.persistent,
            dialect: self.dialect(),
            record: self.record.clone(),
            ..ObjectOptions::new(members)
        }
    }
}

pub(super) fn run(args: &ObjectsArgs, out: &mut impl Write) -> Result<Outcome, CliError> {
    let members = args.members.options()?;
    limits::raise(members.count)?;
    let joining = members.timeout;
    let mut supervisor = Supervisor::start().map_err(CliError::Start)?;
    if let Some(path) = &args.verify {
        let users = Users::verify(members, args.dialect(), path)?;
        supervisor.wait(Some(joining), || users.have_joined(), || progress(&users));
        let summary = users.verified();
        supervisor.finish(async { drop(users) });
        give(&summary.table(), &summary, &args.run, out)?;
        let is_whole = summary.is_without_loss();
        return Ok(if is_whole {
            Outcome::Done
        } else {
            Outcome::Missed
        });
    }
    let count = members.count as u64;
    let ramp = u64::from(members.ramp);
    let users = Users::start(args.options(members))?;
    // Uses that are never answered are not waited for.
    let joining = joining + Duration::from_secs(count.checked_div(ramp).unwrap_or_default());
    supervisor.wait(Some(joining), || users.have_joined(), || progress(&users));
    users.begin();
    let all_ended = || users.counts().ready == 0;
    supervisor.wait(Some(args.seconds), all_ended, || progress(&users));
    users.settle();
    supervisor.wait(
        Some(args.settle),
        || users.have_settled(),
        || progress(&users),
    );
    let summary = users.report();
    supervisor.finish(async { drop(users) });
    give(&summary.table(), &summary, &args.run, out)?;
    let did_something = summary.used > 0 && (summary.writers == 0 || summary.confirmed > 0);
    Ok(judge(&args.run, summary.is_without_loss(), did_something))
}

fn progress(users: &Users) -> String {
    let counts = users.counts();
    format!(
        "ready {}  ended {}  asked {}  confirmed {}",
        count(counts.ready),
        count(counts.ended),
        count(counts.asked),
        count(counts.answered)
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(arguments: &[&str]) -> Result<ObjectsArgs, clap::Error> {
        let all = ["headwater-loadtest", "objects", "rtmp://h/chat"];
        let cli = Cli::try_parse_from(all.iter().chain(arguments))?;
        match cli.command {
            Command::Objects(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_verified_is_not_written_at_the_same_time() {
        let args = parse(&[
            "--count",
            "20",
            "--writers",
            "3",
            "--proxy",
            "--amf",
            "both",
        ])
        .unwrap();
        let options = args.options(args.members.options().unwrap());
        assert_eq!((options.members.count, options.writers), (20, 3));
        assert_eq!(options.dialect, Dialect::Proxy);
        assert!(parse(&["--verify", "f", "--count", "2"]).is_ok());
        for wrong in [
            &["--verify", "f", "--record", "g"][..],
            &["--verify", "f", "--rate", "1"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
