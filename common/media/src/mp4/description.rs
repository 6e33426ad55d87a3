//! Sample descriptions: which codec a track has, and what its decoder must know.
//!
//! - ISO/IEC 14496-12, sections 8.5.2 and 12: `stsd`, visual and audio sample entries; the QuickTime File Format Specification for the
//!   longer sound descriptions and the `wave` box of `.mov`.
//! - ISO/IEC 14496-15: `avcC`, `hvcC`; 14496-14 and 14496-1, section 7.2.6: `esds` and its descriptors.

use bytes::{BufMut, Bytes, BytesMut};

use super::boxes::{BoxHeader, Fields, Source, invalid};
use crate::file::FileError;
use crate::frame::FrameKind;

/// Most sample descriptions of a track.
const MAX_DESCRIPTIONS: usize = 256;

/// Most boxes in a sample description.
const MAX_CHILDREN: usize = 256;

/// Longest decoder configuration, in bytes. Real ones have some hundred.
pub(super) const MAX_CONFIGURATION: u64 = 1 << 16;

/// Bytes of a visual sample entry before its boxes.
const VISUAL_FIELDS: u64 = 78;

/// Bytes of an audio sample entry before its boxes, and what versions 1 and 2 of QuickTime add.
const AUDIO_FIELDS: u64 = 28;
const AUDIO_FIELDS_1: u64 = 16;
const AUDIO_FIELDS_2: u64 = 36;

/// A codec that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Avc,
    Hevc,
    Aac,
    Mp3,
}

impl Coding {
    pub(super) fn kind(self) -> FrameKind {
        match self {
            Self::Avc | Self::Hevc => FrameKind::Video,
            Self::Aac | Self::Mp3 => FrameKind::Audio,
        }
    }
}

/// One sample description.
#[derive(Clone, Debug)]
pub(super) struct Description {
    /// Its type: `avc1`, `mp4a`...
    pub(super) code: [u8; 4],
    /// `None` where the samples cannot be sent.
    pub(super) coding: Option<Coding>,
    /// The decoder configuration as the file has it.
    pub(super) configuration: Bytes,
    /// In samples; 0 for audio.
    pub(super) width: u16,
    pub(super) height: u16,
    /// 0 for video.
    pub(super) channels: u16,
    /// In Hz; 0 for video.
    pub(super) sample_rate: u32,
}

impl Description {
    /// The message with the decoder configuration; `None` for MP3, which has none.
    pub(super) fn header(&self) -> Option<Bytes> {
        let mut out = BytesMut::with_capacity(self.configuration.len() + 5);
        match self.coding? {
            Coding::Avc => out.put_slice(&[0x17, 0, 0, 0, 0]),
            Coding::Hevc => out.put_slice(b"\x90hvc1"),
            Coding::Aac => out.put_slice(&[0xaf, 0]),
            Coding::Mp3 => return None,
        }
        out.put_slice(&self.configuration);
        Some(out.freeze())
    }

    /// Whether [`header`](Self::header) gives one.
    pub(super) fn has_header(&self) -> bool {
        !matches!(self.coding, None | Some(Coding::Mp3))
    }

    /// Bytes that [`put_prefix`](Self::put_prefix) writes.
    pub(super) fn prefix_length(&self, composition: i32) -> usize {
        match self.coding {
            Some(Coding::Hevc) if composition != 0 => 8,
            Some(Coding::Avc | Coding::Hevc) => 5,
            Some(Coding::Aac) => 2,
            Some(Coding::Mp3) => 1,
            None => 0,
        }
    }

    /// Writes what comes before a sample in its message. `composition` is in milliseconds.
    pub(super) fn put_prefix(
        &self,
        is_key: bool,
        composition: i32,
        sample: &[u8],
        out: &mut BytesMut,
    ) {
        let frame_type = if is_key { 0x10 } else { 0x20 };
        match self.coding {
            Some(Coding::Avc) => {
                out.put_slice(&[frame_type | 7, 1]);
                out.put_int(i64::from(composition), 3);
            }
            // CodedFramesX says that there is no composition time.
            Some(Coding::Hevc) if composition == 0 => {
                out.put_u8(0x80 | frame_type | 3);
                out.put_slice(b"hvc1");
            }
            Some(Coding::Hevc) => {
                out.put_u8(0x80 | frame_type | 1);
                out.put_slice(b"hvc1");
                out.put_int(i64::from(composition), 3);
            }
            Some(Coding::Aac) => out.put_slice(&[0xaf, 1]),
            Some(Coding::Mp3) => out.put_u8(self.mp3_head(sample)),
            None => {}
        }
    }

    /// FLV has four sample rates for MP3, and a format of its own for 8 kHz; what lies between is named by the nearest, as every
    /// decoder reads the rate from the frame itself.
    /// What the sample itself says counts, as most files say stereo of any.
    fn mp3_head(&self, sample: &[u8]) -> u8 {
        let said = mp3_frame(sample).map(|(rate, channels, _)| (rate, channels));
        let (sample_rate, channels) = said.unwrap_or((self.sample_rate, self.channels));
        let (format, rate) = match sample_rate {
            1..=8_999 => (14, 0),
            0 | 32_000.. => (2, 3),
            16_000.. => (2, 2),
            _ => (2, 1),
        };
        format << 4 | rate << 2 | 0x02 | u8::from(channels != 1)
    }
}

/// Reads an `stsd` box.
pub(super) fn read(source: &Source, header: &BoxHeader) -> Result<Vec<Description>, FileError> {
    let mut head = source.fields_at(header.body, header.end, 8)?;
    let (version, _) = head.version()?;
    head.u32()?; // entry_count: the boxes are what counts
    source
        .boxes(head.offset(), header.end, MAX_DESCRIPTIONS)?
        .iter()
        .map(|entry| describe(source, entry, version))
        .collect()
}

fn describe(source: &Source, entry: &BoxHeader, version: u8) -> Result<Description, FileError> {
    let mut description = Description {
        code: entry.kind,
        coding: None,
        configuration: Bytes::new(),
        width: 0,
        height: 0,
        channels: 0,
        sample_rate: 0,
    };
    match &entry.kind {
        b"avc1" | b"avc3" => {
            video(source, entry, &mut description, *b"avcC", Coding::Avc)?;
        }
        b"hvc1" | b"hev1" => {
            video(source, entry, &mut description, *b"hvcC", Coding::Hevc)?;
        }
        b"mp4a" | b".mp3" | b"ms\0U" => audio(source, entry, &mut description, version)?,
        _ => {}
    }
    Ok(description)
}

fn video(
    source: &Source,
    entry: &BoxHeader,
    into: &mut Description,
    configuration: [u8; 4],
    coding: Coding,
) -> Result<(), FileError> {
    let mut fields = source.fields_at(entry.body, entry.end, VISUAL_FIELDS)?;
    fields.skip(24)?;
    into.width = fields.u16()?;
    into.height = fields.u16()?;
    let children = source.boxes(entry.body + VISUAL_FIELDS, entry.end, MAX_CHILDREN)?;
    if let Some(found) = children.iter().find(|child| child.kind == configuration) {
        into.configuration = source.fields(found, MAX_CONFIGURATION)?.rest();
        into.coding = (!into.configuration.is_empty()).then_some(coding);
    }
    Ok(())
}

fn audio(
    source: &Source,
    entry: &BoxHeader,
    into: &mut Description,
    version: u8,
) -> Result<(), FileError> {
    let mut fields = source.fields_at(entry.body, entry.end, AUDIO_FIELDS)?;
    fields.skip(8)?;
    // In a version 1 `stsd` of ISO this field says something else.
    let quicktime = if version == 0 { fields.u16()? } else { 0 };
    let mut fields = source.fields_at(entry.body + 16, entry.end, AUDIO_FIELDS - 16)?;
    into.channels = fields.u16()?;
    fields.skip(6)?;
    into.sample_rate = fields.u32()? >> 16;
    let mut after = entry.body + AUDIO_FIELDS;
    match quicktime {
        1 => after += AUDIO_FIELDS_1,
        2 => {
            let mut fields = source.fields_at(after, entry.end, AUDIO_FIELDS_2)?;
            fields.skip(4)?;
            let rate = f64::from_bits(fields.u64()?);
            if (1.0..=f64::from(u32::MAX)).contains(&rate) {
                into.sample_rate = rate as u32;
            }
            into.channels = u16::try_from(fields.u32()?).unwrap_or_default();
            after += AUDIO_FIELDS_2;
        }
        _ => {}
    }
    if entry.kind != *b"mp4a" {
        into.coding = Some(Coding::Mp3);
        return Ok(());
    }
    if after > entry.end {
        return Err(invalid(
            entry.start,
            "a sound description ends within its fields",
        ));
    }
    let mut children = source.boxes(after, entry.end, MAX_CHILDREN)?;
    if let Some(wave) = children.iter().find(|child| child.kind == *b"wave") {
        let inner = source.children(wave, MAX_CHILDREN)?;
        children.extend(inner);
    }
    if let Some(found) = children.iter().find(|child| child.kind == *b"esds") {
        let (coding, configuration) = elementary_stream(source.fields(found, MAX_CONFIGURATION)?)?;
        into.coding = coding;
        into.configuration = configuration;
    }
    Ok(())
}

/// The codec and the AudioSpecificConfig in an `esds` box.
fn elementary_stream(mut fields: Fields) -> Result<(Option<Coding>, Bytes), FileError> {
    const STREAM: u8 = 3;
    const DECODER: u8 = 4;
    const SPECIFIC: u8 = 5;

    fields.version()?;
    let Some(mut stream) = descriptor(&mut fields, STREAM)? else {
        return Ok((None, Bytes::new()));
    };
    stream.skip(2)?; // ES_ID
    let flags = stream.u8()?;
    if flags & 0x80 != 0 {
        stream.skip(2)?; // dependsOn_ES_ID
    }
    if flags & 0x40 != 0 {
        let length = usize::from(stream.u8()?);
        stream.skip(length)?; // URLstring
    }
    if flags & 0x20 != 0 {
        stream.skip(2)?; // OCR_ES_Id
    }
    let Some(mut decoder) = descriptor(&mut stream, DECODER)? else {
        return Ok((None, Bytes::new()));
    };
    let object_type = decoder.u8()?;
    decoder.skip(12)?; // stream type, buffer size, bit rates
    Ok(match object_type {
        // MPEG-4 audio, and the three profiles of MPEG-2 AAC.
        0x40 | 0x66..=0x68 => match descriptor(&mut decoder, SPECIFIC)? {
            Some(mut specific) if specific.len() >= 2 => (Some(Coding::Aac), specific.rest()),
            _ => (None, Bytes::new()),
        },
        0x69 | 0x6b => (Some(Coding::Mp3), Bytes::new()),
        _ => (None, Bytes::new()),
    })
}

/// The body of the next descriptor, if it has this tag. What is said of its length is cut to what there is, as old encoders
/// count wrongly.
fn descriptor(fields: &mut Fields, tag: u8) -> Result<Option<Fields>, FileError> {
    if fields.len() == 0 || fields.u8()? != tag {
        return Ok(None);
    }
    let mut length = 0;
    for _ in 0..4 {
        let byte = fields.u8()?;
        length = length << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    let offset = fields.offset();
    let length = length.min(fields.len());
    Ok(Some(Fields::new(fields.take(length)?, offset)))
}

/// Sample rate, channels and samples of an MP3 frame, by its header: ISO/IEC 11172-3, section 2.4.1.3, and 13818-3.
pub(super) fn mp3_frame(data: &[u8]) -> Option<(u32, u16, u64)> {
    let [0xff, second, third, fourth, ..] = *data else {
        return None;
    };
    // Synchronisation, layer III.
    if second & 0xe6 != 0xe2 {
        return None;
    }
    let rate = *[44_100, 48_000, 32_000].get(usize::from(third >> 2 & 3))?;
    let (rate, samples) = match second >> 3 & 3 {
        3 => (rate, 1_152),
        2 => (rate / 2, 576),
        0 => (rate / 4, 576),
        _ => return None,
    };
    let channels = if fourth >> 6 == 3 { 1 } else { 2 };
    Some((rate, channels, samples))
}
