//! `headwater-loadtest floor-dh`: what agreeing on keys costs, without a server, a socket or a packet.
//!
//! A responder of RTMFP makes a key for each session and agrees on a secret with it: two powers, which no server with these ciphers can
//! do without. The client's is one, where it has a key already.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use headwater_rtmfp::crypto::diffie_hellman::{Group, PublicKey, SecretKey};
use rand::rngs::StdRng;
use serde::Serialize;

use super::options::{RunArgs, seconds};
use super::{CliError, Outcome, give, judge};
use crate::affinity;
use crate::report::Table;

/// Arguments of `floor-dh`.
#[derive(Debug, Args)]
pub(super) struct FloorDhArgs {
    /// Measure each of them for this time.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Run on these processors only, separated by commas.
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    cpus: Vec<usize>,
    #[command(flatten)]
    run: RunArgs,
}

/// What was found about all groups.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Agreements {
    groups: Vec<Agreement>,
}

/// What was found about one group. Times are means, on one processor.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Agreement {
    /// Its number: 2, 5 or 14.
    group: u64,
    /// Microseconds for a new key.
    key_us: f64,
    /// Microseconds for a secret, of a key and the far end's.
    secret_us: f64,
    /// Both: what a responder computes for each session.
    session_us: f64,
    /// Sessions each second that one processor can agree on keys for.
    sessions_per_s: f64,
}

pub(super) fn run(args: &FloorDhArgs, out: &mut impl Write) -> Result<Outcome, CliError> {
    if !args.cpus.is_empty() {
        affinity::bind(&args.cpus).map_err(CliError::Start)?;
    }
    let mut rng: StdRng = rand::make_rng();
    let groups = [Group::Modp1024, Group::Modp1536, Group::Modp2048];
    let groups = groups.map(|group| measure(group, args.seconds / 2, &mut rng));
    let agreements = Agreements {
        groups: groups.into(),
    };
    give(&table(&agreements), &agreements, &args.run, out)?;
    Ok(judge(&args.run, true, true))
}

fn measure(group: Group, time: Duration, rng: &mut StdRng) -> Agreement {
    let near = SecretKey::generate(group, rng);
    let far = SecretKey::generate(group, rng);
    let far = PublicKey::new(group, far.public());
    let key = mean(time, || {
        black_box(SecretKey::generate(group, rng));
    });
    let secret = mean(time, || {
        black_box(far.as_ref().ok().and_then(|far| near.agree(far)));
    });
    let session = key + secret;
    Agreement {
        group: group.id(),
        key_us: key,
        secret_us: secret,
        session_us: session,
        sessions_per_s: 1e6 / session,
    }
}

/// Microseconds that one of many takes.
fn mean(time: Duration, mut work: impl FnMut()) -> f64 {
    let begun = Instant::now();
    let mut count = 0_u32;
    loop {
        work();
        count = count.saturating_add(1);
        let took = begun.elapsed();
        if took >= time {
            return took.as_secs_f64() * 1e6 / f64::from(count);
        }
    }
}

fn table(agreements: &Agreements) -> Table {
    let mut table = Table::new("floor-dh").columns(&["key", "secret", "session", "sessions/s"]);
    for one in &agreements.groups {
        let us = |us: f64| format!("{us:.0} us");
        table.row(
            format!("group {}", one.group),
            vec![
                us(one.key_us),
                us(one.secret_us),
                us(one.session_us),
                format!("{:.0}", one.sessions_per_s),
            ],
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_groups_cost_more() {
        let mut rng: StdRng = rand::make_rng();
        let time = Duration::from_millis(20);
        let small = measure(Group::Modp1024, time, &mut rng);
        let large = measure(Group::Modp2048, time, &mut rng);
        assert!(small.secret_us > 1.0 && small.secret_us < large.secret_us);
        assert!(small.sessions_per_s > large.sessions_per_s);
        let text = table(&Agreements {
            groups: vec![small, large],
        });
        assert!(text.to_string().contains("group 14"), "{text}");
    }
}
