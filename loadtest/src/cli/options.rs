//! Flags that several commands have.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use headwater_media::synthetic::{AudioSettings, Settings, SyntheticStream};
use headwater_rtmfp::crypto::diffie_hellman::Group;
use headwater_rtmfp::crypto::negotiation::Protection;

use super::CliError;
use crate::client::{ConnectOptions, Trust};
use crate::members::{Encodings, MemberOptions};
use crate::source::SourceOptions;
use crate::source::file::FlvFile;
use crate::swarm::{RtmfpManner, SwarmTarget};
use crate::target::Target;

/// Most clients of one command.
pub(super) const MAX_CLIENTS: u64 = 100_000;

/// Most threads of one command.
pub(super) const MAX_THREADS: u64 = 256;

/// Longest time that can be given, in seconds: a year.
const MAX_SECONDS: f64 = 31_536_000.0;

/// How to connect.
#[derive(Debug, Args)]
pub(super) struct ConnectArgs {
    /// Accept any certificate of an rtmps server.
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// PEM file with the certificate authorities to believe, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Time for each of connecting and being answered.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
}

impl ConnectArgs {
    /// For each step.
    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn options(&self) -> Result<ConnectOptions, CliError> {
        let trust = match &self.ca {
            Some(path) => Trust::file(path)?,
            None if self.insecure => Trust::anyone(),
            None => Trust::system(),
        };
        Ok(ConnectOptions {
            trust,
            connect_timeout: self.timeout,
            answer_timeout: self.timeout,
            ..ConnectOptions::default()
        })
    }
}

/// How light clients speak RTMFP.
#[derive(Debug, Args)]
pub(super) struct RtmfpArgs {
    /// The group in which RTMFP clients agree on keys: 2 as Flash Player, 5 or 14. All of them share one key in it.
    #[arg(long, value_name = "2|5|14", default_value = "2", value_parser = RtmfpManner::group_of)]
    dh_group: Group,
    /// Whether packets of RTMFP have a MAC and a number: where the server asks (compatible), where it can (prefer), always (require), never.
    #[arg(long, value_name = "WISH", default_value = "compatible", value_parser = RtmfpManner::protection_of)]
    protection: Protection,
}

impl RtmfpArgs {
    pub(super) const fn manner(&self) -> RtmfpManner {
        RtmfpManner {
            group: self.dh_group,
            protection: self.protection,
        }
    }
}

/// What to publish.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// Bits per second of video.
    #[arg(long, default_value_t = 1_000_000, value_name = "BITS")]
    bitrate: u32,
    /// Video frames per second.
    #[arg(long, default_value_t = 30)]
    fps: u32,
    /// Frames from one key frame to the next.
    #[arg(long, default_value_t = 60, value_name = "FRAMES")]
    gop: u32,
    /// Bits per second of audio.
    #[arg(long, default_value_t = 128_000, value_name = "BITS")]
    audio_bitrate: u32,
    /// Publish video only.
    #[arg(long, conflicts_with = "audio_bitrate")]
    no_audio: bool,
    /// Publish this FLV file in a loop instead of a synthetic stream.
    #[arg(long, value_name = "FLV", conflicts_with_all = ["bitrate", "fps", "gop", "audio_bitrate", "no_audio"])]
    file: Option<PathBuf>,
}

impl SourceArgs {
    /// The source of the first publisher.
    pub(super) fn options(&self) -> Result<SourceOptions, CliError> {
        if let Some(path) = &self.file {
            let file = FlvFile::load(path)?;
            return Ok(SourceOptions::File(Arc::new(file)));
        }
        let settings = Settings {
            video_bitrate: self.bitrate,
            fps: self.fps,
            gop: self.gop,
            audio: (!self.no_audio).then(|| AudioSettings {
                bitrate: self.audio_bitrate,
                ..AudioSettings::default()
            }),
            seed: 0,
        };
        // Wrong settings are told before anything connects.
        SyntheticStream::new(settings)?;
        Ok(SourceOptions::Synthetic(settings))
    }
}

/// The source of the publisher with this number: each has frame sizes of its own.
pub(super) fn numbered(source: &SourceOptions, number: usize) -> SourceOptions {
    match source {
        SourceOptions::Synthetic(settings) => SourceOptions::Synthetic(Settings {
            seed: settings.seed.wrapping_add(number as u64),
            ..*settings
        }),
        SourceOptions::File(file) => SourceOptions::File(Arc::clone(file)),
    }
}

/// Video frames per second of a source.
pub(super) fn frame_rate(source: &SourceOptions) -> u32 {
    match source {
        SourceOptions::Synthetic(settings) => settings.fps,
        SourceOptions::File(file) => file.fps(),
    }
}

/// Clients of applications.
#[derive(Debug, Args)]
pub(super) struct MemberArgs {
    /// Addresses of applications, as in rtmp://host/chat/room, which are taken in turn.
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// How many clients.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=MAX_CLIENTS))]
    count: u64,
    /// Clients that are connected each second; 0: all at once.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 500)]
    ramp: u32,
    /// In which encoding they speak.
    #[arg(long, value_name = "0|3|both", default_value = "0", value_parser = encodings)]
    amf: Encodings,
    /// Text that is an argument of connect, with the client's number for {n}: may be given several times.
    #[arg(long, value_name = "TEXT")]
    argument: Vec<String>,
    /// Threads for the clients.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_THREADS))]
    threads: u64,
    /// Run on these processors only, separated by commas.
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Time for connecting, and for what is under way in the end.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
}

impl MemberArgs {
    pub(super) fn options(&self) -> Result<MemberOptions, CliError> {
        let targets = self.urls.iter().map(|url| Target::with_name(url, ""));
        let targets: Result<Vec<_>, _> = targets.collect();
        Ok(MemberOptions {
            count: usize::try_from(self.count).unwrap_or(usize::MAX),
            ramp: self.ramp,
            threads: usize::try_from(self.threads).unwrap_or(1),
            cpus: self.cpus.clone(),
            encodings: self.amf,
            arguments: self.argument.clone(),
            timeout: self.timeout,
            ..MemberOptions::new(targets?)
        })
    }
}

/// Parses the encoding of clients.
fn encodings(text: &str) -> Result<Encodings, String> {
    match text {
        "0" => Ok(Encodings::Amf0),
        "3" => Ok(Encodings::Amf3),
        "both" => Ok(Encodings::Both),
        _ => Err(format!("{text} is not 0, 3 or both")),
    }
}

/// How a run ends and what becomes of its result.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Write the result to this file, too.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Fail if a client could not start or was cut off, or a frame was missing or came twice.
    #[arg(long)]
    pub(super) expect_no_loss: bool,
}

/// Parses what a light client may play.
pub(super) fn swarm_target(url: &str) -> Result<SwarmTarget, CliError> {
    let parse = |address: &str| {
        let address = address.parse();
        address.map_err(|_| CliError::FloorAddress {
            url: url.to_owned(),
        })
    };
    if let Some(address) = url.strip_prefix("floor://") {
        return Ok(SwarmTarget::Floor(parse(address)?));
    }
    if let Some(address) = url.strip_prefix("floor+rtmfp://") {
        return Ok(SwarmTarget::SealedFloor(parse(address)?));
    }
    Ok(SwarmTarget::Rtmp(Target::parse(url)?))
}

/// Parses a number of seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| format!("{text} is not a number of seconds"))?;
    if number > 0.0 && number <= MAX_SECONDS {
        Ok(Duration::from_secs_f64(number))
    } else {
        Err(format!("{text} is not between 0 and {MAX_SECONDS} seconds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_positive_and_finite() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["0", "-1", "nan", "inf", "1e300", "x", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn publishers_differ() {
        let first = SourceOptions::default();
        let SourceOptions::Synthetic(second) = numbered(&first, 1) else {
            panic!("another kind of source");
        };
        assert_eq!(second.seed, Settings::default().seed + 1);
        assert_eq!(frame_rate(&first), 30);
    }
}
