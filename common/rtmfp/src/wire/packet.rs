//! A packet without its encryption: RFC 7016 section 2.2.4.
//!
//! ```text
//! flags | [timestamp] | [timestamp echo] | chunk ... | padding
//! ```

use bytes::BufMut;

use super::chunk::Chunks;
use super::field::{Fields, Malformed};

const TIME_CRITICAL: u8 = 0x80;
const TIME_CRITICAL_REVERSE: u8 = 0x40;
const TIMESTAMP: u8 = 0x08;
const TIMESTAMP_ECHO: u8 = 0x04;
const MODE: u8 = 0x03;

/// How long a unit of a timestamp is, in milliseconds. A timestamp has 16 bits and wraps (section 2.2.4).
pub const TICK_MILLISECONDS: u64 = 4;

/// From whom a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mode {
    /// From the initiator of its session. Only a responder heeds it, so that nothing can be reflected.
    Initiator = 1,
    /// From the responder of its session. Only an initiator heeds it.
    Responder = 2,
    /// Of no session yet.
    Startup = 3,
}

impl Mode {
    /// The mode of who is at the other end of a session; startup packets have no other end.
    #[must_use]
    pub fn reverse(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
            Self::Startup => Self::Startup,
        }
    }
}

/// What stands before the chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// From whom the packet is.
    pub mode: Mode,
    /// It has data of a flow that cannot wait.
    pub time_critical: bool,
    /// Its sender receives such data from others.
    pub time_critical_reverse: bool,
    /// When it was sent, in [ticks](TICK_MILLISECONDS) of its sender's clock.
    pub timestamp: Option<u16>,
    /// The last timestamp that its sender received, moved on by the time it was held.
    pub timestamp_echo: Option<u16>,
}

impl Header {
    /// The header of a packet that says nothing but its mode.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            time_critical: false,
            time_critical_reverse: false,
            timestamp: None,
            timestamp_echo: None,
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`] for mode 0, which is forbidden, and where the bytes end before it.
    pub fn read(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let start = *fields;
        let flags = fields.u8()?;
        let mode = match flags & MODE {
            1 => Mode::Initiator,
            2 => Mode::Responder,
            3 => Mode::Startup,
            _ => return Err(start.malformed("a packet of no mode")),
        };
        let mut optional = |flag| (flags & flag != 0).then(|| fields.u16()).transpose();
        Ok(Self {
            mode,
            time_critical: flags & TIME_CRITICAL != 0,
            time_critical_reverse: flags & TIME_CRITICAL_REVERSE != 0,
            timestamp: optional(TIMESTAMP)?,
            timestamp_echo: optional(TIMESTAMP_ECHO)?,
        })
    }

    /// Writes it.
    pub fn put(&self, out: &mut impl BufMut) {
        let flag = |set, flag| if set { flag } else { 0 };
        out.put_u8(
            self.mode as u8
                | flag(self.time_critical, TIME_CRITICAL)
                | flag(self.time_critical_reverse, TIME_CRITICAL_REVERSE)
                | flag(self.timestamp.is_some(), TIMESTAMP)
                | flag(self.timestamp_echo.is_some(), TIMESTAMP_ECHO),
        );
        for stamp in [self.timestamp, self.timestamp_echo].into_iter().flatten() {
            out.put_u16(stamp);
        }
    }

    /// Bytes that [`put`](Self::put) writes: at most 5.
    #[must_use]
    pub fn length(&self) -> usize {
        let stamp = |stamp: Option<u16>| stamp.map_or(0, |_| 2);
        1 + stamp(self.timestamp) + stamp(self.timestamp_echo)
    }
}

/// A packet that was decrypted.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What stands before its chunks.
    pub header: Header,
    /// Its chunks.
    pub chunks: Chunks<'a>,
}

impl<'a> Packet<'a> {
    /// Reads the header; the chunks are read as they are asked for.
    ///
    /// # Errors
    /// [`Malformed`] as [`Header::read`].
    pub fn read(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(data);
        let header = Header::read(&mut fields)?;
        let chunks = Chunks::new(fields.rest());
        Ok(Self { header, chunks })
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::ChunkKind;
    use super::*;

    #[test]
    fn headers_are_written_as_they_are_seen_in_packets() {
        let plain = Header::new(Mode::Startup);
        let stamped = Header {
            timestamp: Some(0x1234),
            ..plain
        };
        let echo = Header {
            timestamp: Some(1),
            timestamp_echo: Some(0xfffe),
            time_critical: true,
            ..Header::new(Mode::Initiator)
        };
        let reverse = Header {
            timestamp_echo: Some(5),
            time_critical_reverse: true,
            ..Header::new(Mode::Responder)
        };
        let cases: [(Header, &[u8]); 4] = [
            (plain, &[0x03]),
            (stamped, &[0x0b, 0x12, 0x34]),
            (echo, &[0x8d, 0, 1, 0xff, 0xfe]),
            (reverse, &[0x46, 0, 5]),
        ];
        for (header, bytes) in cases {
            let mut out = Vec::new();
            header.put(&mut out);
            assert_eq!(out, bytes);
            assert_eq!(header.length(), bytes.len());
            assert_eq!(Header::read(&mut Fields::new(bytes)), Ok(header));
            for short in 0..bytes.len() {
                assert!(Header::read(&mut Fields::new(&bytes[..short])).is_err());
            }
        }
    }

    #[test]
    fn reserved_bits_are_ignored_and_mode_zero_is_refused() {
        let header = Header::read(&mut Fields::new(&[0x31])).unwrap();
        assert_eq!(header, Header::new(Mode::Initiator));
        for flags in [0x00, 0x08, 0xfc] {
            let error = Packet::read(&[flags, 0, 0, 0, 0]).unwrap_err();
            assert_eq!((error.what, error.at), ("a packet of no mode", 0));
        }
        assert_eq!(Mode::Initiator.reverse(), Mode::Responder);
        assert_eq!(Mode::Responder.reverse(), Mode::Initiator);
    }

    #[test]
    fn a_packet_has_its_chunks_behind_its_header() {
        let data = [0x09, 0, 16, 0x01, 0, 0, 0xff, 0xff];
        let packet = Packet::read(&data).unwrap();
        assert_eq!(packet.header.timestamp, Some(16));
        let chunks: Vec<_> = packet.chunks.collect();
        assert_eq!(chunks.len(), 1);
        assert_eq!(chunks[0].kind, ChunkKind::PING);
    }
}
