//! One track on its way into fragments: decoder configurations, times and durations.

use bytes::Bytes;

use super::boxes;
use super::unit::{Content, Unit};
use super::{FragmentSample, MAX_CONFIGURATIONS, Part, TrackLayout, WriteError};
use crate::frame::FrameKind;
use crate::inspect::{Configuration, configuration};
use crate::mp4::MAX_SAMPLE;
use crate::mp4::description::{Coding, Description, MAX_CONFIGURATION, mp3_frame};

/// Ticks per second of video: what RTMP has.
const MILLISECONDS: u32 = 1_000;

/// How far audio may be from the clock of its samples, in milliseconds: RTMP rounds to one, and encoders do so twice.
const TOLERANCE_MS: u64 = 3;

/// Duration of the only frame of a track, in milliseconds.
const ONLY_FRAME_MS: u64 = 40;

/// Samples of an AAC frame, in the rate that its configuration names first.
const AAC_SAMPLES: u64 = 1_024;

/// Bytes of the shortest configuration: an AudioSpecificConfig.
const SHORTEST: usize = 2;

/// Bytes of the box around a configuration that count towards what is read of it.
const ROOM: u64 = 64;

/// What became of a message.
pub(super) enum Pushed {
    /// It is kept elsewhere, or not needed.
    Nothing,
    LeftOut,
    Sample(Coded),
}

/// A coded frame.
pub(super) struct Coded {
    data: Bytes,
    composition: i32,
    pub(super) is_key: bool,
}

/// A track.
#[derive(Debug)]
pub(super) struct Lane {
    coding: Coding,
    /// Of audio from its first configuration on; 0 before.
    timescale: u32,
    configurations: Vec<Format>,
    /// In force: number in `configurations`.
    current: Option<usize>,
    /// Of the samples in the fragment.
    used: Option<usize>,
    samples: Vec<FragmentSample>,
    media: Vec<Bytes>,
    bytes: u64,
    /// Of the last sample, and the last duration, in ticks.
    latest: Option<u64>,
    duration: u32,
    /// When the first sample is presented, in ticks.
    start: u64,
}

/// A decoder configuration, and what it says.
#[derive(Debug)]
struct Format {
    description: Description,
    /// Audio samples of a frame; 0 for video.
    frame_samples: u64,
}

impl Lane {
    pub(super) fn new(coding: Coding) -> Self {
        let is_video = coding.kind() == FrameKind::Video;
        Self {
            coding,
            timescale: if is_video { MILLISECONDS } else { 0 },
            configurations: Vec::new(),
            current: None,
            used: None,
            samples: Vec::new(),
            media: Vec::new(),
            bytes: 0,
            latest: None,
            duration: 0,
            start: 0,
        }
    }

    /// Looks at what is in a message. A sample is to be [pushed](Self::push) then.
    pub(super) fn take(&mut self, unit: Unit) -> Result<Pushed, WriteError> {
        if unit.coding != self.coding {
            return Ok(match unit.content {
                Content::Coded { .. } => Pushed::LeftOut,
                _ => Pushed::Nothing,
            });
        }
        let (composition, is_key) = match unit.content {
            Content::Configuration => {
                self.configure(&unit.data)?;
                return Ok(Pushed::Nothing);
            }
            Content::Coded {
                composition,
                is_key,
            } => (composition, is_key),
            Content::Other => return Ok(Pushed::Nothing),
        };
        let length = unit.data.len();
        if length > MAX_SAMPLE as usize {
            return Err(WriteError::TooLarge {
                length,
                max: MAX_SAMPLE as usize,
            });
        }
        if self.coding == Coding::Mp3 {
            self.configure(&unit.data)?;
        }
        if self.current.is_none() || length == 0 {
            return Ok(Pushed::LeftOut);
        }
        Ok(Pushed::Sample(Coded {
            data: unit.data,
            composition,
            is_key,
        }))
    }

    /// A decoder configuration, or for MP3 the first frame, comes into force.
    fn configure(&mut self, data: &Bytes) -> Result<(), WriteError> {
        let Some(format) = Format::read(self.coding, data) else {
            return Ok(());
        };
        let known = self.configurations.iter().position(|known| {
            known.description.configuration == format.description.configuration
                && known.description.sample_rate == format.description.sample_rate
                && known.description.channels == format.description.channels
        });
        if let Some(known) = known {
            self.current = Some(known);
            return Ok(());
        }
        if self.configurations.len() == MAX_CONFIGURATIONS {
            return Err(WriteError::TooManyConfigurations);
        }
        if self.timescale == 0 {
            self.timescale = format.description.sample_rate.max(1_000);
        }
        self.current = Some(self.configurations.len());
        self.configurations.push(format);
        Ok(())
    }

    /// The next sample needs another description than those in the fragment.
    pub(super) fn is_new_description(&self) -> bool {
        self.used.is_some() && self.used != self.current
    }

    pub(super) fn has_begun(&self) -> bool {
        self.latest.is_some()
    }

    /// Of media in the fragment.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// In the fragment.
    pub(super) fn samples(&self) -> usize {
        self.samples.len()
    }

    /// When a frame with this timestamp is decoded, in ticks: never before the one before it.
    fn time(&self, ms: u64) -> u64 {
        let timescale = u64::from(self.timescale);
        let time = (ms.saturating_mul(timescale).saturating_add(500)) / 1_000;
        let Some(latest) = self.latest else {
            return time;
        };
        let ticks = self.frame_ticks();
        let expected = latest.saturating_add(ticks);
        if ticks > 0 && time.abs_diff(expected) <= TOLERANCE_MS * timescale / 1_000 {
            expected
        } else {
            time.max(latest)
        }
    }

    /// How long a frame lasts by its samples, in ticks of the track; 0 where that is not known.
    fn frame_ticks(&self) -> u64 {
        let format = self.current.and_then(|at| self.configurations.get(at));
        format.map_or(0, |format| {
            let rate = u64::from(format.description.sample_rate.max(1));
            format.frame_samples * u64::from(self.timescale) / rate
        })
    }

    /// Adds a sample to the fragment.
    pub(super) fn push(&mut self, sample: Coded, ms: u64, keeps_media: bool) {
        let time = self.time(ms);
        self.end_last(time);
        if self.latest.is_none() {
            self.start = time.saturating_add_signed(i64::from(sample.composition));
        }
        self.latest = Some(time);
        self.used = self.current;
        self.bytes += sample.data.len() as u64;
        self.samples.push(FragmentSample {
            time,
            duration: 0,
            composition: sample.composition,
            size: sample.data.len() as u32,
            is_sync: sample.is_key,
        });
        if keeps_media {
            self.media.push(sample.data);
        }
    }

    /// The last sample lasts until this one.
    fn end_last(&mut self, time: u64) {
        if let Some(last) = self.samples.last_mut() {
            last.duration = u32::try_from(time - last.time).unwrap_or(u32::MAX);
            self.duration = last.duration;
        }
    }

    /// How long the last sample is taken to last where it is not known.
    fn usual_duration(&self) -> u32 {
        let only = ONLY_FRAME_MS * u64::from(self.timescale) / 1_000;
        match (u32::try_from(self.frame_ticks()), self.duration) {
            (Ok(frame), _) if frame > 0 => frame,
            (_, 0) => only as u32,
            (_, duration) => duration,
        }
    }

    /// Gives the samples of the fragment. `next` is the timestamp of the next sample, if it is of this track.
    pub(super) fn cut(&mut self, id: u32, next: Option<u64>) -> Option<Part> {
        let description = self.used.take()? + 1;
        match next {
            Some(ms) => self.end_last(self.time(ms)),
            None => {
                let duration = self.usual_duration();
                if let Some(last) = self.samples.last_mut() {
                    last.duration = duration;
                }
            }
        }
        Some(Part {
            id,
            description: description as u32,
            samples: std::mem::take(&mut self.samples),
            media: std::mem::take(&mut self.media),
            bytes: std::mem::take(&mut self.bytes),
        })
    }

    /// After the last fragment; `None` without any sample.
    pub(super) fn layout(&self, id: u32) -> Option<TrackLayout> {
        let latest = self.latest?;
        let first = &self.configurations.first()?.description;
        Some(TrackLayout {
            id,
            timescale: self.timescale,
            descriptions: self
                .configurations
                .iter()
                .map(|format| boxes::sample_entry(&format.description))
                .collect(),
            width: u32::from(first.width),
            height: u32::from(first.height),
            start: self.start,
            end: latest.saturating_add(u64::from(self.usual_duration())),
        })
    }
}

impl Format {
    fn read(coding: Coding, data: &Bytes) -> Option<Self> {
        let mut description = Description {
            code: match coding {
                Coding::Avc => *b"avc1",
                Coding::Hevc => *b"hvc1",
                Coding::Aac | Coding::Mp3 => *b"mp4a",
            },
            coding: Some(coding),
            configuration: data.clone(),
            width: 0,
            height: 0,
            channels: 0,
            sample_rate: 0,
        };
        let mut frame_samples = 0;
        if coding == Coding::Mp3 {
            let (sample_rate, channels, samples) = mp3_frame(data)?;
            description.configuration = Bytes::new();
            description.sample_rate = sample_rate;
            description.channels = channels;
            frame_samples = samples;
        } else if data.len() < SHORTEST || data.len() as u64 > MAX_CONFIGURATION - ROOM {
            return None;
        }
        let said = description
            .header()
            .and_then(|header| configuration(coding.kind(), &header));
        match said {
            Some(
                Configuration::Avc {
                    size: Some((width, height)),
                    ..
                }
                | Configuration::Hevc {
                    size: Some((width, height)),
                    ..
                },
            ) => {
                description.width = u16::try_from(width).unwrap_or_default();
                description.height = u16::try_from(height).unwrap_or_default();
            }
            Some(Configuration::Aac {
                sample_rate,
                channels,
                ..
            }) => {
                description.sample_rate = sample_rate;
                description.channels = if channels == 7 {
                    8
                } else {
                    u16::from(channels)
                };
                frame_samples = AAC_SAMPLES;
            }
            _ => {}
        }
        // Audio whose rate is not known is on the clock of the messages.
        if coding == Coding::Aac && description.sample_rate == 0 {
            frame_samples = 0;
        }
        Some(Self {
            description,
            frame_samples,
        })
    }
}
