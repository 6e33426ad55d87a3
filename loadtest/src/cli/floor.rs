//! `headwater-loadtest floor`: the bare sender as a process of its own, so that its cost can be measured as that of a server.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::options::{RunArgs, SourceArgs, seconds};
use super::{CliError, Outcome, give, judge, limits};
use crate::affinity;
use crate::floor::{FloorProtocol, Flush, Sender, SenderOptions};

/// Arguments of `floor`.
#[derive(Debug, Args)]
pub(super) struct FloorArgs {
    /// Where to be reached; port 0 takes any.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What to send: rtmp over TCP, the same for all, or the packets of rtmfp over UDP, encrypted for each.
    #[arg(long, value_name = "rtmp|rtmfp", default_value = "rtmp", value_parser = protocol)]
    protocol: FloorProtocol,
    /// How often to send: with each video frame, each message for itself, or after so many milliseconds.
    #[arg(long, value_name = "frame|message|MS", default_value = "frame")]
    flush: Flush,
    /// Run on these processors only, separated by commas.
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Stop after this time.
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    run: RunArgs,
}

pub(super) fn run(args: &FloorArgs, out: &mut impl Write) -> Result<Outcome, CliError> {
    let options = SenderOptions {
        listen: args.listen,
        protocol: args.protocol,
        flush: args.flush,
        source: args.source.options()?,
        seconds: args.seconds,
    };
    // Before there are other threads, which inherit it.
    if !args.cpus.is_empty() {
        affinity::bind(&args.cpus).map_err(CliError::Start)?;
    }
    limits::raise_to_the_most()?;
    let stop = stop_at_signals().map_err(CliError::Start)?;
    let sender = Sender::bind(&options)?;
    writeln!(out, "listening {}", sender.address())
        .and_then(|()| out.flush())
        .map_err(CliError::Print)?;
    let report = sender.run(&stop);
    give(&report.table(), &report, &args.run, out)?;
    Ok(judge(&args.run, report.is_without_loss(), true))
}

/// Parses what is sent.
fn protocol(text: &str) -> Result<FloorProtocol, String> {
    match text {
        "rtmp" => Ok(FloorProtocol::Rtmp),
        "rtmfp" => Ok(FloorProtocol::Rtmfp),
        _ => Err(format!("{text} is neither rtmp nor rtmfp")),
    }
}

/// A flag that is set when somebody interrupts. The thread that waits for it costs nothing until then.
fn stop_at_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let (told, hear) = channel();
    let wait = move || {
        runtime.block_on(async {
            let signals = signal(SignalKind::interrupt())
                .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
            let (mut interrupt, mut terminate) = match signals {
                Ok(signals) => signals,
                Err(error) => {
                    // Nobody listens only if the process is about to end.
                    let _gone = told.send(Err(error));
                    return;
                }
            };
            let _gone = told.send(Ok(()));
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            stopped.store(true, Ordering::Relaxed);
        });
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)?;
    hear.recv()
        .unwrap_or_else(|_| Err(io::Error::other("the thread for signals is gone")))?;
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(arguments: &[&str]) -> Option<FloorArgs> {
        let all = ["headwater-loadtest", "floor"].iter().chain(arguments);
        match Cli::try_parse_from(all).ok()?.command {
            Command::Floor(args) => Some(args),
            _ => None,
        }
    }

    #[test]
    fn flags_are_understood() {
        let args = parse(&["--flush", "50", "--cpus", "0,2", "--no-audio"]).unwrap();
        assert_eq!(args.flush, Flush::Every(Duration::from_millis(50)));
        assert_eq!(args.cpus, [0, 2]);
        assert_eq!(parse(&[]).unwrap().flush, Flush::Frame);
        let args = parse(&["--protocol", "rtmfp"]).unwrap();
        assert_eq!(args.protocol, FloorProtocol::Rtmfp);
        for wrong in [
            &["--flush", "0"][..],
            &["--cpus", "x"],
            &["--protocol", "udp"],
            &["--listen", "nowhere"],
            &["--seconds", "0"],
        ] {
            assert!(parse(wrong).is_none(), "{wrong:?}");
        }
    }
}
