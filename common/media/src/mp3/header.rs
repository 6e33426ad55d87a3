//! The four bytes before each frame (ISO/IEC 11172-3, 2.4.1.3 and 2.4.2.3).

/// Bytes of a header.
pub(super) const HEADER_SIZE: usize = 4;

/// Bit rates by index in kbit/s, of MPEG-1 and of the others.
const BITRATES: [[u32; 14]; 2] = [
    [
        32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// Sampling rates of MPEG-1 by index, in Hz; halved for MPEG-2 and again for MPEG-2.5.
const SAMPLE_RATES: [u32; 3] = [44_100, 48_000, 32_000];

/// Which rates are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Mpeg1,
    Mpeg2,
    Mpeg25,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: Version,
    /// Hz.
    pub(super) sample_rate: u32,
    /// Bits per second.
    pub(super) bitrate: u32,
    pub(super) is_stereo: bool,
    /// Of the whole frame, in bytes.
    pub(super) size: usize,
}

/// Why four bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// They are something else.
    Other,
    /// Layer I or II.
    OtherLayer,
    /// Layer III without a bit rate.
    FreeFormat,
}

impl Header {
    pub(super) fn parse(bytes: [u8; HEADER_SIZE]) -> Result<Self, NoHeader> {
        let [sync, what, rates, mode] = bytes;
        if sync != 0xff || what & 0xe0 != 0xe0 {
            return Err(NoHeader::Other);
        }
        let version = match what >> 3 & 3 {
            0 => Version::Mpeg25,
            2 => Version::Mpeg2,
            3 => Version::Mpeg1,
            _ => return Err(NoHeader::Other),
        };
        let rate = SAMPLE_RATES.get(usize::from(rates >> 2 & 3));
        let index = usize::from(rates >> 4);
        // An emphasis of 2 is reserved.
        let (Some(&rate), true, true) = (rate, index < 15, mode & 3 != 2) else {
            return Err(NoHeader::Other);
        };
        match what >> 1 & 3 {
            0 => return Err(NoHeader::Other),
            1 => {}
            _ => return Err(NoHeader::OtherLayer),
        }
        let (table, divisor, samples_by_eight) = match version {
            Version::Mpeg1 => (0, 1, 144),
            Version::Mpeg2 => (1, 2, 72),
            Version::Mpeg25 => (1, 4, 72),
        };
        let bitrate = index
            .checked_sub(1)
            .and_then(|index| BITRATES.get(table)?.get(index))
            .ok_or(NoHeader::FreeFormat)?
            * 1_000;
        let sample_rate = rate / divisor;
        let padding = u32::from(rates >> 1 & 1);
        Ok(Self {
            version,
            sample_rate,
            bitrate,
            is_stereo: mode >> 6 != 3,
            size: (samples_by_eight * bitrate / sample_rate + padding) as usize,
        })
    }

    /// Of one frame.
    pub(super) fn samples(&self) -> u32 {
        match self.version {
            Version::Mpeg1 => 1_152,
            _ => 576,
        }
    }

    /// Whether both can be of one stream: a file does not change these.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        (self.version, self.sample_rate, self.is_stereo)
            == (other.version, other.sample_rate, other.is_stereo)
    }

    /// The first byte of an RTMP message with this frame: format 2, the sampling rate as near as E.4.2.1 can say it, 16 bits.
    pub(super) fn sound_byte(&self) -> u8 {
        let rate = match self.version {
            Version::Mpeg1 => 3,
            Version::Mpeg2 => 2,
            Version::Mpeg25 => 1,
        };
        2 << 4 | rate << 2 | 1 << 1 | u8::from(self.is_stereo)
    }

    /// Bytes of the side information after the header; encoders put their own header behind it.
    pub(super) fn side_information(&self) -> usize {
        match (self.version, self.is_stereo) {
            (Version::Mpeg1, true) => 32,
            (Version::Mpeg1, false) | (_, true) => 17,
            (_, false) => 9,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_are_read() {
        use Version::*;
        for (bytes, version, sample_rate, bitrate, is_stereo, size, sound) in [
            (
                [0xff, 0xfb, 0x90, 0x00],
                Mpeg1,
                44_100,
                128_000,
                true,
                417,
                0x2f,
            ),
            (
                [0xff, 0xfb, 0x92, 0x40],
                Mpeg1,
                44_100,
                128_000,
                true,
                418,
                0x2f,
            ),
            (
                [0xff, 0xfa, 0xe4, 0xc0],
                Mpeg1,
                48_000,
                320_000,
                false,
                960,
                0x2e,
            ),
            (
                [0xff, 0xf3, 0x84, 0xc4],
                Mpeg2,
                24_000,
                64_000,
                false,
                192,
                0x2a,
            ),
            (
                [0xff, 0xf3, 0x10, 0x00],
                Mpeg2,
                22_050,
                8_000,
                true,
                26,
                0x2b,
            ),
            (
                [0xff, 0xe3, 0x48, 0xc0],
                Mpeg25,
                8_000,
                32_000,
                false,
                288,
                0x26,
            ),
        ] {
            let expected = Header {
                version,
                sample_rate,
                bitrate,
                is_stereo,
                size,
            };
            let header = Header::parse(bytes).expect("a header");
            assert_eq!(header, expected, "{bytes:02x?}");
            assert_eq!(header.sound_byte(), sound, "{bytes:02x?}");
        }
        for (what, bytes, expected) in [
            ("no sync", [0xff, 0x1b, 0x90, 0], NoHeader::Other),
            ("reserved version", [0xff, 0xeb, 0x90, 0], NoHeader::Other),
            ("reserved layer", [0xff, 0xf9, 0x90, 0], NoHeader::Other),
            ("layer II", [0xff, 0xfd, 0x90, 0], NoHeader::OtherLayer),
            ("layer I", [0xff, 0xff, 0x90, 0], NoHeader::OtherLayer),
            ("no bit rate", [0xff, 0xfb, 0x00, 0], NoHeader::FreeFormat),
            ("bad bit rate", [0xff, 0xfb, 0xf0, 0], NoHeader::Other),
            ("bad sampling rate", [0xff, 0xfb, 0x9c, 0], NoHeader::Other),
            ("bad emphasis", [0xff, 0xfb, 0x90, 2], NoHeader::Other),
        ] {
            assert_eq!(Header::parse(bytes), Err(expected), "{what}");
        }
    }

    proptest! {
        #[test]
        fn every_frame_has_a_size(bytes: [u8; 4]) {
            if let Ok(header) = Header::parse([0xff, bytes[1], bytes[2], bytes[3]]) {
                prop_assert!((24..=1_441).contains(&header.size));
            }
        }
    }
}
