//! The movie box: what tracks there are, and where their tables lie. ISO/IEC 14496-12, sections 8.2 to 8.8.

use super::boxes::{BoxHeader, Source, invalid};
use super::description::{self, Coding, Description};
use super::fragments::Defaults;
use super::tables::TableBoxes;
use crate::file::FileError;
use crate::frame::FrameKind;

/// Most boxes in a box of the movie: above real files, which have a dozen, tracks included.
const MAX_CHILDREN: usize = 1_024;

/// Most tracks that are looked at.
const MAX_TRACKS: usize = 64;

/// Longest of the small boxes whose fields are read, in bytes.
const MAX_FIELDS: u64 = 4_096;

/// Most entries of an edit list that are looked at. Adobe's server takes 100.
const MAX_EDITS: u32 = 100;

/// What `moov` says.
pub(super) struct Movie {
    /// Ticks per second of edit lists.
    pub(super) timescale: u32,
    /// In the order of the file.
    pub(super) tracks: Vec<TrackBox>,
    /// There may be fragments.
    pub(super) is_fragmented: bool,
    /// Where `moov` begins.
    pub(super) offset: u64,
}

/// What `trak` says.
pub(super) struct TrackBox {
    pub(super) id: u32,
    /// Ticks per second; 0 where the box does not say.
    pub(super) timescale: u32,
    /// In ticks, as the file says: may be 0 where there are fragments.
    pub(super) duration: u64,
    /// ISO 639-2/T.
    pub(super) language: String,
    pub(super) descriptions: Vec<Description>,
    pub(super) tables: TableBoxes,
    pub(super) edit: Edit,
    /// Of fragments.
    pub(super) defaults: Defaults,
    /// Where `trak` begins.
    pub(super) offset: u64,
}

/// What of the media is presented, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Edit {
    /// Ticks of the movie's timescale before anything is.
    pub(super) delay: u64,
    /// Ticks of the track's timescale: the first moment that is presented.
    pub(super) start: i64,
    /// Ticks of the movie's timescale from there on, `None` for all of it.
    pub(super) length: Option<u64>,
}

impl TrackBox {
    /// The codec, if all samples of the track have the same and it can be sent.
    pub(super) fn coding(&self) -> Option<Coding> {
        let first = self.descriptions.first()?.coding?;
        self.descriptions
            .iter()
            .all(|description| description.coding == Some(first))
            .then_some(first)
    }

    pub(super) fn kind(&self) -> Option<FrameKind> {
        self.coding().map(Coding::kind)
    }
}

pub(super) fn read(source: &Source, header: &BoxHeader) -> Result<Movie, FileError> {
    let children = source.children(header, MAX_CHILDREN)?;
    let mut movie = Movie {
        timescale: 0,
        tracks: Vec::new(),
        is_fragmented: false,
        offset: header.start,
    };
    for child in &children {
        match &child.kind {
            b"mvhd" => {
                let mut fields = source.fields(child, MAX_FIELDS)?;
                let (version, _) = fields.version()?;
                fields.skip(if version == 0 { 8 } else { 16 })?;
                movie.timescale = fields.u32()?;
            }
            b"trak" if movie.tracks.len() < MAX_TRACKS => {
                movie.tracks.push(track(source, child)?);
            }
            b"mvex" => movie.is_fragmented = true,
            b"cmov" => {
                return Err(FileError::Unsupported {
                    what: "the movie box is compressed".to_owned(),
                });
            }
            _ => {}
        }
    }
    // After the tracks, which may come later in the file.
    for child in children.iter().filter(|child| child.kind == *b"mvex") {
        for child in source.children(child, MAX_CHILDREN)? {
            if child.kind == *b"trex" {
                defaults(source, &child, &mut movie.tracks)?;
            }
        }
    }
    if movie.timescale == 0 {
        return Err(invalid(header.start, "a movie without a timescale"));
    }
    Ok(movie)
}

fn defaults(source: &Source, header: &BoxHeader, tracks: &mut [TrackBox]) -> Result<(), FileError> {
    let mut fields = source.fields(header, MAX_FIELDS)?;
    fields.version()?;
    let id = fields.u32()?;
    let defaults = Defaults {
        description: fields.u32()?,
        duration: fields.u32()?,
        size: fields.u32()?,
        flags: fields.u32()?,
    };
    for track in tracks.iter_mut().filter(|track| track.id == id) {
        track.defaults = defaults;
    }
    Ok(())
}

fn track(source: &Source, header: &BoxHeader) -> Result<TrackBox, FileError> {
    let mut track = TrackBox {
        id: 0,
        timescale: 0,
        duration: 0,
        language: String::new(),
        descriptions: Vec::new(),
        tables: TableBoxes::default(),
        edit: Edit::default(),
        defaults: Defaults::default(),
        offset: header.start,
    };
    for child in source.children(header, MAX_CHILDREN)? {
        match &child.kind {
            b"tkhd" => {
                let mut fields = source.fields(&child, MAX_FIELDS)?;
                let (version, _) = fields.version()?;
                fields.skip(if version == 0 { 8 } else { 16 })?;
                track.id = fields.u32()?;
            }
            b"edts" => {
                for child in source.children(&child, MAX_CHILDREN)? {
                    if child.kind == *b"elst" {
                        track.edit = edit(source, &child)?;
                    }
                }
            }
            b"mdia" => media(source, &child, &mut track)?,
            _ => {}
        }
    }
    Ok(track)
}

fn media(source: &Source, header: &BoxHeader, track: &mut TrackBox) -> Result<(), FileError> {
    let children = source.children(header, MAX_CHILDREN)?;
    let mut is_media = false;
    for child in children.iter().filter(|child| child.kind == *b"hdlr") {
        let mut fields = source.fields_at(child.body, child.end, 12)?;
        fields.skip(8)?;
        is_media = matches!(&fields.take(4)?[..], b"vide" | b"soun");
    }
    for child in children {
        match &child.kind {
            b"mdhd" => {
                let mut fields = source.fields(&child, MAX_FIELDS)?;
                let (version, _) = fields.version()?;
                fields.skip(if version == 0 { 8 } else { 16 })?;
                track.timescale = fields.u32()?;
                track.duration = fields.by_version(version)?;
                track.language = language(fields.u16()?);
            }
            b"minf" => {
                for child in source.children(&child, MAX_CHILDREN)? {
                    // Tracks of text, time codes and hints are only listed.
                    match (child.kind == *b"stbl").then(|| samples(source, &child, track)) {
                        Some(Err(FileError::Invalid { .. })) if !is_media => {
                            track.descriptions.clear();
                        }
                        Some(outcome) => outcome?,
                        None => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn samples(source: &Source, header: &BoxHeader, track: &mut TrackBox) -> Result<(), FileError> {
    for child in source.children(header, MAX_CHILDREN)? {
        if child.kind == *b"stsd" {
            track.descriptions = description::read(source, &child)?;
        } else {
            track.tables.note(child);
        }
    }
    Ok(())
}

/// Three letters of five bits; what is below are codes of the old Macintosh, of which 0 is English.
fn language(code: u16) -> String {
    if code < 0x400 || code == 0x7fff {
        return (if code == 0 { "eng" } else { "und" }).to_owned();
    }
    [10, 5, 0]
        .into_iter()
        .map(|shift| char::from(0x60 + (code >> shift & 0x1f) as u8))
        .collect()
}

/// Section 8.6.6. Empty edits before the first one with media are a delay, that one chooses where the media begins; of several with
/// media, the first counts, and the rest of the media follows without a gap.
fn edit(source: &Source, header: &BoxHeader) -> Result<Edit, FileError> {
    let mut head = source.fields_at(header.body, header.end, 8)?;
    let (version, _) = head.version()?;
    let count = head.u32()?.min(MAX_EDITS);
    let width = if version == 0 { 12 } else { 20 };
    let length = u64::from(count) * width;
    let mut fields = source.fields_at(head.offset(), header.end, length)?;
    let mut edit = Edit::default();
    let mut with_media = 0;
    for _ in 0..count {
        let offset = fields.offset();
        let duration = fields.by_version(version)?;
        let media_time = match fields.by_version(version)? {
            time if version == 0 => i64::from((time as u32).cast_signed()),
            time => time.cast_signed(),
        };
        fields.skip(4)?; // media_rate
        if media_time < 0 && with_media == 0 {
            edit.delay = edit
                .delay
                .checked_add(duration)
                .filter(|delay| *delay <= u64::from(u32::MAX))
                .ok_or_else(|| invalid(offset, format!("an empty edit of {duration} ticks")))?;
        } else if media_time >= 0 {
            with_media += 1;
            if with_media == 1 {
                if media_time > i64::MAX / 4 {
                    return Err(invalid(
                        offset,
                        format!("an edit from tick {media_time} on"),
                    ));
                }
                edit.start = media_time;
                edit.length = Some(duration).filter(|duration| *duration > 0);
            }
        }
    }
    if with_media > 1 {
        edit.length = None;
    }
    Ok(edit)
}
