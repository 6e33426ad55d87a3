//! Names of codecs.

use std::fmt;

/// A codec code of Enhanced RTMP: four characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FourCc(pub [u8; 4]);

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A codec, however a message names it. `Display` gives a short lower-case name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// H.264: FLV id 7, `avc1`.
    Avc,
    /// H.265: FLV id 12 (not standard), `hvc1`.
    Hevc,
    /// H.266: `vvc1`.
    Vvc,
    /// AV1: `av01`.
    Av1,
    /// VP8: `vp08`.
    Vp8,
    /// VP9: `vp09`.
    Vp9,
    /// Sorenson H.263: FLV id 2.
    SorensonH263,
    /// Screen video: FLV id 3.
    ScreenVideo,
    /// On2 VP6: FLV id 4.
    Vp6,
    /// On2 VP6 with alpha: FLV id 5.
    Vp6Alpha,
    /// Screen video 2: FLV id 6.
    ScreenVideo2,
    /// AAC: FLV format 10, `mp4a`.
    Aac,
    /// MP3: FLV formats 2 and 14, `.mp3`.
    Mp3,
    /// Opus: `Opus`.
    Opus,
    /// FLAC: `fLaC`.
    Flac,
    /// AC-3: `ac-3`.
    Ac3,
    /// E-AC-3: `ec-3`.
    Eac3,
    /// Uncompressed PCM: FLV formats 0 and 3.
    Pcm,
    /// ADPCM: FLV format 1.
    Adpcm,
    /// Nellymoser: FLV formats 4, 5 and 6.
    Nellymoser,
    /// G.711 A-law: FLV format 7.
    G711ALaw,
    /// G.711 mu-law: FLV format 8.
    G711MuLaw,
    /// Speex: FLV format 11.
    Speex,
    /// A FourCC that we do not know.
    Other(FourCc),
}

impl Codec {
    pub(super) fn of_video_id(id: u8) -> Option<Self> {
        Some(match id {
            2 => Self::SorensonH263,
            3 => Self::ScreenVideo,
            4 => Self::Vp6,
            5 => Self::Vp6Alpha,
            6 => Self::ScreenVideo2,
            7 => Self::Avc,
            12 => Self::Hevc,
            _ => return None,
        })
    }

    pub(super) fn of_sound_format(format: u8) -> Option<Self> {
        Some(match format {
            0 | 3 => Self::Pcm,
            1 => Self::Adpcm,
            2 | 14 => Self::Mp3,
            4..=6 => Self::Nellymoser,
            7 => Self::G711ALaw,
            8 => Self::G711MuLaw,
            10 => Self::Aac,
            11 => Self::Speex,
            _ => return None,
        })
    }

    pub(super) fn of_four_cc(code: [u8; 4]) -> Self {
        match &code {
            b"avc1" => Self::Avc,
            b"hvc1" => Self::Hevc,
            b"vvc1" => Self::Vvc,
            b"av01" => Self::Av1,
            b"vp08" => Self::Vp8,
            b"vp09" => Self::Vp9,
            b"mp4a" => Self::Aac,
            b".mp3" => Self::Mp3,
            b"Opus" => Self::Opus,
            b"fLaC" => Self::Flac,
            b"ac-3" => Self::Ac3,
            b"ec-3" => Self::Eac3,
            _ => Self::Other(FourCc(code)),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avc => "avc",
            Self::Hevc => "hevc",
            Self::Vvc => "vvc",
            Self::Av1 => "av1",
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::SorensonH263 => "sorenson-h263",
            Self::ScreenVideo => "screen-video",
            Self::Vp6 => "vp6",
            Self::Vp6Alpha => "vp6-alpha",
            Self::ScreenVideo2 => "screen-video-2",
            Self::Aac => "aac",
            Self::Mp3 => "mp3",
            Self::Opus => "opus",
            Self::Flac => "flac",
            Self::Ac3 => "ac-3",
            Self::Eac3 => "ec-3",
            Self::Pcm => "pcm",
            Self::Adpcm => "adpcm",
            Self::Nellymoser => "nellymoser",
            Self::G711ALaw => "g711-a",
            Self::G711MuLaw => "g711-mu",
            Self::Speex => "speex",
            Self::Other(code) => return fmt::Display::fmt(code, f),
        })
    }
}
