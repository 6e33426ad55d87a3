//! `headwater-loadtest impair`: a bad network before a server.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::options::{MAX_CLIENTS, seconds};
use super::supervise::Supervisor;
use super::{CliError, Outcome, limits};
use crate::impair::{Counts, Impairment, Proxy, ProxyOptions};
use crate::lane::Lane;
use crate::report::{Table, bytes, count};

/// Longest delay, in milliseconds.
const MAX_MILLISECONDS: u64 = 60_000;

/// Arguments of `impair`.
#[derive(Debug, Args)]
pub(super) struct ImpairArgs {
    /// Where clients send their datagrams; port 0 takes any.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The server.
    #[arg(long, value_name = "ADDRESS")]
    to: SocketAddr,
    /// How long each datagram is under way, in each direction.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=MAX_MILLISECONDS))]
    delay_ms: u64,
    /// Datagrams that are lost.
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = share)]
    loss: f64,
    /// Datagrams that come twice.
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = share)]
    duplicate: f64,
    /// Datagrams that come later than those behind them.
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = share)]
    reorder: f64,
    /// How much later.
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=MAX_MILLISECONDS))]
    hold_ms: u64,
    /// Give each client another port at the server this often. SIGUSR1 does it at once.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    rebind_every: Option<Duration>,
    /// Clients at once; one more takes the place of the most silent one.
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u64).range(1..=MAX_CLIENTS))]
    clients: u64,
    /// Where random numbers begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop after this time.
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
}

impl ImpairArgs {
    fn options(&self) -> ProxyOptions {
        ProxyOptions {
            listen: self.listen,
            impairment: Impairment {
                delay: Duration::from_millis(self.delay_ms),
                loss: self.loss,
                duplicate: self.duplicate,
                reorder: self.reorder,
                hold: Duration::from_millis(self.hold_ms),
            },
            seed: self.seed,
            rebind_every: self.rebind_every,
            clients: usize::try_from(self.clients).unwrap_or(usize::MAX),
            ..ProxyOptions::new(self.to)
        }
    }
}

pub(super) fn run(args: &ImpairArgs, out: &mut impl Write) -> Result<Outcome, CliError> {
    let options = args.options();
    limits::raise(options.clients)?;
    let mut supervisor = Supervisor::start().map_err(CliError::Start)?;
    let lane = Lane::start("impair").map_err(CliError::Start)?;
    let starting = lane.enter(|| tokio::spawn(Proxy::start(options)));
    let proxy = supervisor.finish(starting);
    let proxy = proxy.map_err(|error| CliError::Start(error.into()))?;
    let proxy = proxy.map_err(CliError::Start)?;
    writeln!(out, "listening {}", proxy.address())
        .and_then(|()| out.flush())
        .map_err(CliError::Print)?;
    let asked = lane.enter(|| signal(SignalKind::user_defined1()));
    let asked = std::cell::RefCell::new(asked.map_err(CliError::Start)?);
    let rebind_if_asked = || {
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        if asked.borrow_mut().poll_recv(&mut nobody).is_ready() {
            proxy.rebind();
        }
    };
    supervisor.wait(
        args.seconds,
        || {
            rebind_if_asked();
            proxy.has_ended()
        },
        || progress(&proxy.counts()),
    );
    let mut table = Table::new("impair").columns(&["to the server", "to clients"]);
    let counts = proxy.counts();
    for (label, figure) in [
        ("datagrams", (|it| it.came) as fn(&Counts) -> u64),
        ("bytes", |it| it.bytes),
        ("lost", |it| it.lost),
        ("sent twice", |it| it.duplicated),
        ("held back", |it| it.reordered),
    ] {
        let cells = counts.iter().map(|counts| count(figure(counts)));
        table.row(label, cells.collect());
    }
    table.note(format!("ports changed {} times", count(proxy.rebound())));
    write!(out, "{table}")
        .and_then(|()| out.flush())
        .map_err(CliError::Print)?;
    Ok(Outcome::Done)
}

fn progress(counts: &[Counts; 2]) -> String {
    let [up, down] = counts.map(|it| format!("{} lost {}", bytes(it.bytes), count(it.lost)));
    format!("to the server {up}  to clients {down}")
}

/// Parses a percentage, to a share.
fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse();
    match number {
        Ok(number) if (0.0..=100.0).contains(&number) => Ok(number / 100.0),
        _ => Err(format!("{text} is not a percentage from 0 to 100")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn flags_are_understood() {
        let flags = "headwater-loadtest impair --to 127.0.0.1:1935 --delay-ms 80 --loss 5 --reorder 0.5% --rebind-every 3";
        let cli = Cli::try_parse_from(flags.split(' ')).unwrap();
        let Command::Impair(args) = cli.command else {
            panic!("{cli:?}");
        };
        let options = args.options();
        assert_eq!(options.impairment.delay, Duration::from_millis(80));
        assert_eq!(
            (options.impairment.loss, options.impairment.reorder),
            (0.05, 0.005)
        );
        assert_eq!(options.rebind_every, Some(Duration::from_secs(3)));
        for text in ["-1", "101", "x", "nan", ""] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
