//! ID3 and APE tags: where they stand, and what ID3 says.
//!
//! Of ID3v2 the text frames and comments are read; v2.2 names become those of v2.3. What only ID3v1 says has the same names. Pictures,
//! links and frames of applications are skipped.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use headwater_amf::{Object, Value, amf0};

use crate::file::{FileError, FileFrame, FileInfo, FilePiece, Grid, MediaFile, ReadAt, SMALL_FILE};
use crate::frame::{FrameFlags, FrameKind};

/// The specification's name for text whose meaning a program of its own made up (ID3v2.4, 4.2.6): a description and a value, and
/// nothing that a player would know by a name.
const USER_TEXT: &str = "TXXX";

/// Bytes of a tag that are looked at: texts stand before pictures, as a rule.
const MAX_TAG: usize = 1 << 20;

/// Most texts that are given.
const MAX_TEXTS: usize = 64;

/// Longest text that is given, in bytes of UTF-8; what is longer is cut.
pub const MAX_TAG_TEXT: usize = 4_096;

/// Most ID3v2 tags before the sound: some programs add one in front of another.
const MAX_TAGS: usize = 8;

const V2_HEADER: usize = 10;
const V1_SIZE: u64 = 128;
const APE_FOOTER: u64 = 32;

/// Names of v2.2 and what later versions call the same.
const V22_NAMES: [(&[u8; 3], &str); 24] = [
    (b"TT1", "TIT1"),
    (b"TT2", "TIT2"),
    (b"TT3", "TIT3"),
    (b"TP1", "TPE1"),
    (b"TP2", "TPE2"),
    (b"TP3", "TPE3"),
    (b"TP4", "TPE4"),
    (b"TCM", "TCOM"),
    (b"TXT", "TEXT"),
    (b"TLA", "TLAN"),
    (b"TCO", "TCON"),
    (b"TAL", "TALB"),
    (b"TPA", "TPOS"),
    (b"TRK", "TRCK"),
    (b"TRC", "TSRC"),
    (b"TYE", "TYER"),
    (b"TDA", "TDAT"),
    (b"TBP", "TBPM"),
    (b"TCR", "TCOP"),
    (b"TPB", "TPUB"),
    (b"TEN", "TENC"),
    (b"TSS", "TSSE"),
    (b"TLE", "TLEN"),
    (b"COM", "COMM"),
];

/// An ID3v2 header.
#[derive(Clone, Copy, Debug)]
struct V2 {
    version: u8,
    flags: u8,
    /// Of what follows the header, in bytes, without a footer.
    size: u64,
}

impl V2 {
    /// `None`: there is none.
    fn at(source: &dyn ReadAt, position: u64) -> Result<Option<Self>, FileError> {
        if source.length().saturating_sub(position) < V2_HEADER as u64 {
            return Ok(None);
        }
        let bytes = source.read_at(position, V2_HEADER)?;
        let &[b'I', b'D', b'3', version, revision, flags, ref size @ ..] = &bytes[..] else {
            return Ok(None);
        };
        if version == 0xff || revision == 0xff {
            return Ok(None);
        }
        let Some(size) = seven_bits(size) else {
            return Err(FileError::Invalid {
                offset: position + 6,
                what: String::from("the size of an ID3 tag has bits that it must not have"),
            });
        };
        let tag = Self {
            version,
            flags,
            size: u64::from(size),
        };
        if tag.end(position) > source.length() {
            return Err(FileError::Invalid {
                offset: position + 6,
                what: format!("an ID3 tag of {size} bytes, which the file does not have"),
            });
        }
        Ok(Some(tag))
    }

    fn end(&self, position: u64) -> u64 {
        let footer = if self.flags & 0x10 != 0 { V2_HEADER } else { 0 };
        position + (V2_HEADER + footer) as u64 + self.size
    }
}

/// Where the sound is: after the tags at the front, before those at the end.
///
/// # Errors
/// [`FileError::Invalid`] for a tag that is longer than the file.
pub(super) fn extent(source: &dyn ReadAt) -> Result<Range<u64>, FileError> {
    let mut start = 0;
    for _ in 0..MAX_TAGS {
        let Some(tag) = V2::at(source, start)? else {
            break;
        };
        start = tag.end(start);
    }
    let mut end = source.length();
    if end - start >= V1_SIZE && source.read_at(end - V1_SIZE, 3)?[..] == *b"TAG" {
        end -= V1_SIZE;
    }
    if end - start >= APE_FOOTER {
        let footer = source.read_at(end - APE_FOOTER, APE_FOOTER as usize)?;
        end = end
            .saturating_sub(ape_size(&footer).unwrap_or(0))
            .max(start);
    }
    Ok(start..end)
}

/// Of the tag that this footer ends, in bytes.
fn ape_size(footer: &[u8]) -> Option<u64> {
    let rest = footer.strip_prefix(b"APETAGEX")?;
    let word = |at: usize| Some(u32::from_le_bytes(*rest.get(at..)?.first_chunk()?));
    let has_header = word(12)? & 1 << 31 != 0;
    Some(u64::from(word(4)?) + if has_header { APE_FOOTER } else { 0 })
}

/// The texts of a file's tags by their names.
fn texts(source: &dyn ReadAt) -> Result<Vec<(String, String)>, FileError> {
    let mut texts = Texts::default();
    let mut position = 0;
    for _ in 0..MAX_TAGS {
        let Some(tag) = V2::at(source, position)? else {
            break;
        };
        let size = usize::try_from(tag.size).map_or(MAX_TAG, |size| size.min(MAX_TAG));
        texts.read_v2(&tag, &source.read_at(position + V2_HEADER as u64, size)?);
        position = tag.end(position);
    }
    let length = source.length();
    if length - position >= V1_SIZE {
        texts.read_v1(&source.read_at(length - V1_SIZE, V1_SIZE as usize)?);
    }
    Ok(texts.0)
}

#[derive(Default)]
struct Texts(Vec<(String, String)>);

impl Texts {
    fn add(&mut self, name: &str, text: &str) {
        let text = text.trim_end_matches(['\0', ' ']);
        let is_known = self.0.iter().any(|(known, _)| known == name);
        if text.is_empty() || is_known || self.0.len() >= MAX_TEXTS {
            return;
        }
        let cut = text.floor_char_boundary(MAX_TAG_TEXT);
        self.0.push((name.to_owned(), text[..cut].to_owned()));
    }

    fn read_v2(&mut self, tag: &V2, bytes: &[u8]) {
        let is_unsynchronised = tag.flags & 0x80 != 0;
        let whole = (is_unsynchronised && tag.version < 4).then(|| synchronised(bytes));
        let mut rest = whole.as_deref().unwrap_or(bytes);
        if tag.flags & 0x40 != 0 {
            // In v2.2 this says that all of it is compressed, in a way that nobody has defined.
            let extended = match (tag.version, rest.first_chunk::<4>()) {
                (3, Some(size)) => u32::from_be_bytes(*size).checked_add(4),
                (4, Some(size)) => seven_bits(size),
                _ => None,
            };
            let after = extended.and_then(|size| rest.get(size as usize..));
            let Some(after) = after else {
                return;
            };
            rest = after;
        }
        while let Some((name, flags, body, after)) = split_frame(tag.version, rest) {
            rest = after;
            // Compressed or encrypted, by version; what has more fields before its text is not told apart from text.
            let (unreadable, unsynchronised) = match tag.version {
                3 => (0xc0 | 0x20, 0),
                4 => (0x0c | 0x40 | 0x01, 0x02),
                _ => (0, 0),
            };
            if flags & unreadable != 0 {
                continue;
            }
            let plain = (flags & unsynchronised != 0 || (is_unsynchronised && tag.version == 4))
                .then(|| synchronised(body));
            self.read_frame(&name, plain.as_deref().unwrap_or(body));
        }
    }

    fn read_frame(&mut self, name: &str, body: &[u8]) {
        let Some((&encoding, text)) = body.split_first() else {
            return;
        };
        let text = text.get(..text.len().min(4 * MAX_TAG_TEXT)).unwrap_or(text);
        if name == "COMM" {
            // A language, and a description.
            let comment = text.get(3..).map(|text| decode(encoding, text));
            let comment = comment.and_then(|parts| parts.into_iter().nth(1));
            self.add(name, &comment.unwrap_or_default());
        } else if name.starts_with('T') && name != USER_TEXT {
            let parts = decode(encoding, text);
            let filled: Vec<&str> = parts
                .iter()
                .map(String::as_str)
                .filter(|part| !part.is_empty())
                .collect();
            self.add(name, &filled.join("/"));
        }
    }

    fn read_v1(&mut self, bytes: &[u8]) {
        let Some(rest) = bytes.strip_prefix(b"TAG") else {
            return;
        };
        for (name, at) in [
            ("TIT2", 0..30),
            ("TPE1", 30..60),
            ("TALB", 60..90),
            ("TYER", 90..94),
            ("COMM", 94..124),
        ] {
            let field = rest.get(at).unwrap_or_default();
            let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
            self.add(name, &latin(text));
        }
        if let Some(&[.., 0, track, genre]) = rest.get(..125)
            && track != 0
        {
            self.add("TRCK", &track.to_string());
            self.genre(genre);
        } else if let Some(&genre) = rest.get(124) {
            self.genre(genre);
        }
    }

    /// As v2.3 refers to the genres of v1.
    fn genre(&mut self, genre: u8) {
        if genre != 0xff {
            self.add("TCON", &format!("({genre})"));
        }
    }
}

/// Name, format flags, body, and what follows.
fn split_frame(version: u8, bytes: &[u8]) -> Option<(String, u8, &[u8], &[u8])> {
    let (name, flags, size, after) = if version == 2 {
        let (&[a, b, c, s0, s1, s2], after) = bytes.split_first_chunk::<6>()?;
        let known = V22_NAMES.iter().find(|(name, _)| **name == [a, b, c]);
        let name = known.map_or("", |(_, name)| name).to_owned();
        if a == 0 {
            return None;
        }
        (name, 0, u32::from_be_bytes([0, s0, s1, s2]), after)
    } else {
        let (&[a, b, c, d, s0, s1, s2, s3, _, flags], after) = bytes.split_first_chunk::<10>()?;
        let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        if ![a, b, c, d].into_iter().all(is_name) {
            return None;
        }
        let size = [s0, s1, s2, s3];
        let size = if version == 3 {
            u32::from_be_bytes(size)
        } else {
            seven_bits(&size)?
        };
        (latin(&[a, b, c, d]), flags, size, after)
    };
    let (body, after) = after.split_at_checked(usize::try_from(size).ok()?)?;
    Some((name, flags, body, after))
}

/// A number of four times seven bits.
fn seven_bits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0, |number, byte| {
        (byte & 0x80 == 0).then_some(number << 7 | u32::from(*byte))
    })
}

/// Without the zeros that keep `ff` from looking like the beginning of a frame.
fn synchronised(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut last = 0;
    for &byte in bytes {
        if !(last == 0xff && byte == 0) {
            out.push(byte);
        }
        last = byte;
    }
    out
}

/// Strings that end with a zero, or with the last byte.
fn decode(encoding: u8, bytes: &[u8]) -> Vec<String> {
    match encoding {
        1 | 2 => {
            let mut is_little = false;
            let mut parts = vec![Vec::new()];
            for pair in bytes.as_chunks::<2>().0 {
                match *pair {
                    [0xff, 0xfe] => is_little = true,
                    [0xfe, 0xff] => is_little = false,
                    [0, 0] => parts.push(Vec::new()),
                    pair => {
                        let unit = if is_little && encoding == 1 {
                            u16::from_le_bytes(pair)
                        } else {
                            u16::from_be_bytes(pair)
                        };
                        if let Some(part) = parts.last_mut() {
                            part.push(unit);
                        }
                    }
                }
            }
            parts
                .iter()
                .map(|part| String::from_utf16_lossy(part))
                .collect()
        }
        3 => bytes
            .split(|byte| *byte == 0)
            .map(|part| String::from_utf8_lossy(part).into_owned())
            .collect(),
        _ => bytes.split(|byte| *byte == 0).map(latin).collect(),
    }
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The tags of an MP3 file as a stream of its own, which is what a name with `id3:` before it stands for: one data message `onId3` with
/// an object of texts by the names of ID3v2 frames, as Adobe's server sends it. Without any texts there is no message.
pub struct Id3File {
    info: FileInfo,
    frames: Vec<FileFrame>,
}

impl fmt::Debug for Id3File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Id3File").finish_non_exhaustive()
    }
}

impl Id3File {
    /// Reads the tags of a file, whatever else is in it. The grid makes no difference.
    ///
    /// # Errors
    /// [`FileError::Invalid`] for a tag that is longer than the file.
    pub fn open(source: Arc<dyn ReadAt>, _grid: Grid) -> Result<Self, FileError> {
        let texts = texts(&*source)?;
        let payload = (!texts.is_empty()).then(|| message(texts)).flatten();
        let frames = payload.map(|payload| FileFrame {
            position: 0,
            timestamp: 0,
            kind: FrameKind::Data,
            flags: FrameFlags::empty(),
            payload,
        });
        Ok(Self {
            info: FileInfo::default(),
            frames: frames.into_iter().collect(),
        })
    }
}

fn message(texts: Vec<(String, String)>) -> Option<Bytes> {
    let object: Object = texts
        .into_iter()
        .map(|(name, text)| (name.into(), Value::from(text)))
        .collect();
    amf0::encode_all(&["onId3".into(), object.into()]).ok()
}

impl MediaFile for Id3File {
    fn info(&self) -> &FileInfo {
        &self.info
    }

    fn memory(&self) -> usize {
        let texts: usize = self.frames.iter().map(|frame| frame.payload.len()).sum();
        SMALL_FILE + texts
    }

    fn piece_at_time(&self, _ms: u64) -> Result<FilePiece, FileError> {
        Ok(FilePiece {
            frames: self.frames.clone(),
            ..FilePiece::default()
        })
    }

    fn piece_at(&self, position: u64) -> Result<FilePiece, FileError> {
        if position > 0 {
            return Err(FileError::Invalid {
                offset: position,
                what: String::from("no piece begins here"),
            });
        }
        self.piece_at_time(0)
    }
}

#[cfg(test)]
mod tests;
