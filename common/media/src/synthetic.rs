//! A valid H.264 and AAC source for tests and the load harness: decodable by any player, of chosen bit rates, and each
//! frame stamped with its number and the time it was sent.
//!
//! A video stamp is unregistered user data in an SEI NAL unit (H.264, annex D), an audio stamp a data stream element of the
//! AAC frame: a relay that keeps payloads as they are keeps them, and so does one that repacks NAL units.
//!
//! The picture is grey and the sound silent; what a frame lacks to its size is filler data. The same settings give the same
//! bytes, but for the time of sending.

use bytes::{BufMut, Bytes};

mod aac;
mod avc;
mod bits;
mod stamp;

pub use stamp::{Stamp, read_stamp, write_stamp};

use crate::frame::{FrameFlags, FrameKind};
use crate::inspect::inspect;

/// Highest bit rate of audio or video, in bits per second.
pub const MAX_BITRATE: u32 = 1_000_000_000;

/// Highest frame rate, in frames per second: each frame has a timestamp of its own.
pub const MAX_FRAME_RATE: u32 = 1_000;

/// Size of a key frame, in inter frames.
const KEY_FRAME_WEIGHT: u64 = 8;

/// Largest payload in bytes, far below what an FLV tag or an RTMP message may have.
const MAX_PAYLOAD: u64 = 8 << 20;

/// What a synthetic stream is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bits per second of video, up to [`MAX_BITRATE`]. Frames take about 80 bytes (key frames 320) at the least.
    pub video_bitrate: u32,
    /// Video frames per second, 1 to [`MAX_FRAME_RATE`].
    pub fps: u32,
    /// Video frames from one key frame to the next, at least 1.
    pub gop: u32,
    /// The audio track, if there is one.
    pub audio: Option<AudioSettings>,
    /// Chooses the sequence of frame sizes, which vary by up to a fifth.
    pub seed: u64,
}

/// What the audio track of a synthetic stream is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioSettings {
    /// Bits per second, up to [`MAX_BITRATE`]. Frames take about 60 bytes at the least, and at most the 768 bytes for each
    /// channel that AAC allows.
    pub bitrate: u32,
    /// Samples per second: one of the 13 rates of AAC, 7,350 to 96,000. A frame has 1,024 samples.
    pub sample_rate: u32,
    /// Two channels, or one.
    pub stereo: bool,
}

impl Default for Settings {
    /// 2.5 Mbit/s at 30 frames per second, a key frame every 2 seconds, audio.
    fn default() -> Self {
        Self {
            video_bitrate: 2_500_000,
            fps: 30,
            gop: 60,
            audio: Some(AudioSettings::default()),
            seed: 0,
        }
    }
}

impl Default for AudioSettings {
    /// 128 kbit/s, 48 kHz, stereo.
    fn default() -> Self {
        Self {
            bitrate: 128_000,
            sample_rate: 48_000,
            stereo: true,
        }
    }
}

/// Why settings make no stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// More than [`MAX_BITRATE`].
    #[error("a bit rate of {bitrate} is above {MAX_BITRATE}")]
    Bitrate {
        /// Bits per second.
        bitrate: u32,
    },
    /// Not 1 to [`MAX_FRAME_RATE`].
    #[error("a frame rate of {fps} is not between 1 and {MAX_FRAME_RATE}")]
    FrameRate {
        /// Frames per second.
        fps: u32,
    },
    /// No frames.
    #[error("a gop has at least one frame")]
    EmptyGop,
    /// AAC has no such rate.
    #[error("{sample_rate} is no sample rate of aac")]
    SampleRate {
        /// Samples per second.
        sample_rate: u32,
    },
}

/// One message of a synthetic stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntheticFrame {
    /// Milliseconds from the start of the stream.
    pub timestamp: u64,
    /// Audio, video or data.
    pub kind: FrameKind,
    /// What [`inspect`] says of the payload.
    pub flags: FrameFlags,
    /// The body of an FLV tag or RTMP message. Metadata starts with `onMetaData`: see [`set_data_frame`].
    pub payload: Bytes,
}

/// A synthetic stream: an endless iterator, whose first frames are metadata and codec headers at time 0.
///
/// As an iterator it stamps frames as sent at time 0; [`next_frame`](Self::next_frame) tells the time.
#[derive(Clone, Debug)]
pub struct SyntheticStream {
    settings: Settings,
    rate_index: u32,
    pictures: avc::Pictures,
    /// Metadata and codec headers given out.
    headers: u8,
    video: u64,
    audio: u64,
    random: u64,
}

impl SyntheticStream {
    /// A stream at its start.
    ///
    /// # Errors
    /// [`SettingsError`] for the first setting out of range.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let audio = settings.audio.unwrap_or_default();
        for bitrate in [settings.video_bitrate, audio.bitrate] {
            if bitrate > MAX_BITRATE {
                return Err(SettingsError::Bitrate { bitrate });
            }
        }
        let fps = settings.fps;
        if !(1..=MAX_FRAME_RATE).contains(&fps) {
            return Err(SettingsError::FrameRate { fps });
        }
        if settings.gop == 0 {
            return Err(SettingsError::EmptyGop);
        }
        let sample_rate = audio.sample_rate;
        let rate_index =
            aac::rate_index(sample_rate).ok_or(SettingsError::SampleRate { sample_rate })?;
        Ok(Self {
            settings,
            rate_index,
            pictures: avc::Pictures::new(),
            headers: 0,
            video: 0,
            audio: 0,
            random: settings.seed,
        })
    }

    /// The timestamp of the next frame, in milliseconds: when it is due.
    #[must_use]
    pub fn next_timestamp(&self) -> u64 {
        match self.audio_time() {
            Some(audio) => self.video_time().min(audio),
            None => self.video_time(),
        }
    }

    /// The next frame, stamped as sent at `sent_at`, in nanoseconds of whatever clock. Metadata and codec headers come
    /// first, and have no stamp.
    pub fn next_frame(&mut self, sent_at: u64) -> SyntheticFrame {
        if let Some((kind, payload)) = self.next_header() {
            self.headers += 1;
            return made(0, kind, payload);
        }
        let timestamp = self.video_time();
        if let Some(audio) = self.settings.audio
            && let Some(time) = self.audio_time().filter(|time| *time < timestamp)
        {
            let size =
                u64::from(audio.bitrate / 8) * aac::FRAME_SAMPLES / u64::from(audio.sample_rate);
            let stamp = Stamp {
                sequence: self.audio,
                sent_at,
            };
            self.audio += 1;
            let payload = aac::frame(audio.stereo, self.vary(size), stamp);
            return made(time, FrameKind::Audio, payload.freeze());
        }
        let gop = u64::from(self.settings.gop);
        let (number, position) = (self.video / gop, self.video % gop);
        let weight = if position == 0 { KEY_FRAME_WEIGHT } else { 1 };
        let size = u64::from(self.settings.video_bitrate / 8) * gop * weight
            / u64::from(self.settings.fps)
            / (gop - 1 + KEY_FRAME_WEIGHT);
        let stamp = Stamp {
            sequence: self.video,
            sent_at,
        };
        self.video += 1;
        let size = self.vary(size);
        let payload = self.pictures.frame(number, position, size, stamp);
        made(timestamp, FrameKind::Video, payload.freeze())
    }

    fn next_header(&self) -> Option<(FrameKind, Bytes)> {
        match (self.headers, self.settings.audio) {
            (0, _) => Some((FrameKind::Data, metadata(&self.settings))),
            (1, _) => Some((FrameKind::Video, avc::sequence_header(self.settings.fps))),
            (2, Some(audio)) => Some((
                FrameKind::Audio,
                aac::sequence_header(self.rate_index, audio.stereo),
            )),
            _ => None,
        }
    }

    fn video_time(&self) -> u64 {
        self.video * 1000 / u64::from(self.settings.fps)
    }

    fn audio_time(&self) -> Option<u64> {
        let rate = u64::from(self.settings.audio?.sample_rate);
        Some(self.audio * aac::FRAME_SAMPLES * 1000 / rate)
    }

    /// Between four and six fifths of a size.
    fn vary(&mut self, size: u64) -> usize {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let varied = (size * (800 + mixed % 401) / 1000).min(MAX_PAYLOAD);
        varied as usize
    }
}

impl Iterator for SyntheticStream {
    type Item = SyntheticFrame;

    fn next(&mut self) -> Option<SyntheticFrame> {
        Some(self.next_frame(0))
    }
}

/// Puts `@setDataFrame` before metadata: what a publisher sends.
#[must_use]
pub fn set_data_frame(metadata: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(metadata.len() + 16);
    put_string(&mut out, "@setDataFrame");
    out.extend_from_slice(metadata);
    out.into()
}

fn made(timestamp: u64, kind: FrameKind, payload: Bytes) -> SyntheticFrame {
    SyntheticFrame {
        timestamp,
        kind,
        flags: inspect(kind, &payload).flags,
        payload,
    }
}

/// `onMetaData` and an ECMA array in AMF0.
fn metadata(settings: &Settings) -> Bytes {
    let mut numbers = vec![
        ("width", f64::from(avc::WIDTH)),
        ("height", f64::from(avc::HEIGHT)),
        ("framerate", f64::from(settings.fps)),
        ("videocodecid", 7.0),
        ("videodatarate", f64::from(settings.video_bitrate) / 1000.0),
    ];
    if let Some(audio) = settings.audio {
        numbers.push(("audiocodecid", 10.0));
        numbers.push(("audiodatarate", f64::from(audio.bitrate) / 1000.0));
        numbers.push(("audiosamplerate", f64::from(audio.sample_rate)));
        numbers.push(("audiochannels", if audio.stereo { 2.0 } else { 1.0 }));
    }
    let mut out = Vec::new();
    put_string(&mut out, "onMetaData");
    out.put_u8(8);
    out.put_u32(numbers.len() as u32 + 1);
    for (name, number) in numbers {
        put_name(&mut out, name);
        out.put_u8(0);
        out.put_f64(number);
    }
    put_name(&mut out, "encoder");
    put_string(&mut out, "Headwater synthetic source");
    put_name(&mut out, "");
    out.put_u8(9);
    out.into()
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.put_u8(2);
    put_name(out, text);
}

/// All texts here are short literals.
fn put_name(out: &mut Vec<u8>, name: &str) {
    out.put_u16(name.len() as u16);
    out.put_slice(name.as_bytes());
}

#[cfg(test)]
mod tests;
