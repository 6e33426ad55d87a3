//! From the name that a client gives to the objects that may be meant.
//!
//! | name | read as | objects, in this order |
//! |---|---|---|
//! | `show`, `flv:show`, `flv:show.flv`, `show.flv` | FLV | `show.flv` |
//! | `mp4:show.mov` | MP4 | `show.mov` |
//! | `mp4:show` | MP4 | `show.mp4`, `show.f4v`, … ([`MP4_EXTENSIONS`]), `show` |
//! | `mp4:show.v2` | MP4 | `show.v2`, `show.v2.mp4`, … |
//! | `show.mp4` | MP4, else FLV | `show.mp4`, `show.mp4.flv` |
//! | `mp3:song`, `mp3:song.mp3` | MP3 | `song.mp3` |
//! | `song.mp3` | MP3, else FLV | `song.mp3`, `song.mp3.flv` |
//! | `id3:song` | the tags of an MP3 | as `mp3:song` |
//! | `raw:…`, `f4f:…` | not supported | none |
//!
//! Prefixes and extensions may be written in any case; names of files have to be written as they are. They are looked for:
//! 1. in the [virtual directories](VirtualDirectory) of the longest prefix that fits,
//! 2. in `applications/APP/streams/INSTANCE/`, for another virtual host than the default one in
//!    `vhosts/VHOST/applications/APP/streams/INSTANCE/`,
//! 3. in the virtual directories of all names of the application.
//!
//! As in Adobe's servers, an instance does not find the files of another one; that is what virtual directories are for.
//!
//! # Invariants
//! - Within a folder the path is the name, letter by letter: nothing is encoded or folded, so two names never share a path and an
//!   operator finds a file where it was put. Virtual host, application and instance are one segment of the path each:
//!   a `/` within becomes `%2F`, and a `%` becomes `%25`.
//! - Nothing leaves its folder: segments are checked anew after the prefix was taken off (`mp4:../x`).
//! - The number of candidates is bounded: [`MAX_CANDIDATES`].

use headwater_media::name::{DEFAULT_VHOST, StreamName};
use object_store::path::Path;

use super::config::VirtualDirectory;
use crate::store::unfinished;

/// Extensions of files that are read as MP4, the likely ones first.
const MP4_EXTENSIONS: [&str; 11] = [
    "mp4", "f4v", "mov", "m4v", "m4a", "f4a", "3gp", "3g2", "f4p", "f4b", "qt",
];

/// Bytes of one segment of a path: what file systems take.
const MAX_SEGMENT: usize = 255;

/// Bytes of a path: what object stores take.
const MAX_PATH: usize = 1_024;

/// Objects that are looked for under one name, at most: all extensions in five folders.
const MAX_CANDIDATES: usize = 60;

/// What a file is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Format {
    Flv,
    Mp4,
    Mp3,
    /// The tags of an MP3, without its media.
    Id3,
}

/// An object that may be meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Candidate {
    pub(crate) path: Path,
    pub(crate) format: Format,
}

/// The prefix of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    None,
    Flv,
    Mp4,
    Mp3,
    Id3,
}

/// Knows the virtual directories.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    directories: Vec<Directory>,
}

#[derive(Clone, Debug)]
struct Directory {
    vhost: Option<String>,
    app: Option<String>,
    /// Segments that a name begins with. None: all names.
    prefix: Vec<String>,
    folder: Path,
}

impl Names {
    /// Directories whose folder is no path are left out; the configuration refuses them.
    pub(crate) fn new(directories: &[VirtualDirectory]) -> Self {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let compiled = directories.iter().filter_map(|directory| {
            let prefix = match directory.name.as_str() {
                "" => Vec::new(),
                name => name.split('/').map(str::to_owned).collect(),
            };
            Some(Directory {
                vhost: some(&directory.vhost),
                app: some(&directory.app),
                prefix,
                folder: folder(&directory.folder)?,
            })
        });
        Self {
            directories: compiled.collect(),
        }
    }

    /// What may be meant by a name: the first one that exists is. None: nothing can be.
    pub(crate) fn lookup(&self, name: &StreamName) -> Vec<Candidate> {
        let Some((prefix, base)) = split(&name.stream) else {
            return Vec::new();
        };
        let segments: Vec<&str> = base.split('/').collect();
        if !segments.iter().copied().all(is_segment) {
            return Vec::new();
        }
        let files = files(prefix, base);
        let mut candidates = Vec::new();
        let mut add = |folder: &Path, skipped: usize| {
            for (file, format) in &files {
                // Counted in bytes, with a slash after each segment: a segment holds none.
                let skip: usize = segments.iter().take(skipped).map(|it| it.len() + 1).sum();
                let path = file.get(skip..).and_then(|rest| within(folder, rest));
                let candidate = path.map(|path| Candidate {
                    path,
                    format: *format,
                });
                if let Some(candidate) = candidate
                    && candidates.len() < MAX_CANDIDATES
                    && !candidates.contains(&candidate)
                {
                    candidates.push(candidate);
                }
            }
        };
        let fitting = || {
            let directories = self.directories.iter();
            directories.filter(|directory| directory.fits(name, &segments))
        };
        let longest = fitting().map(|it| it.prefix.len()).max().unwrap_or(0);
        if longest > 0 {
            for directory in fitting().filter(|it| it.prefix.len() == longest) {
                add(&directory.folder, longest);
            }
        }
        if let Some(folder) = own_folder(name) {
            add(&folder, 0);
        }
        for directory in fitting().filter(|it| it.prefix.is_empty()) {
            add(&directory.folder, 0);
        }
        candidates
    }
}

impl Directory {
    fn fits(&self, name: &StreamName, segments: &[&str]) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        is(&self.vhost, &name.vhost)
            && is(&self.app, &name.app)
            && self.prefix.len() < segments.len()
            && self.prefix.iter().zip(segments).all(|(a, b)| a == b)
    }
}

/// The folder that a stream's files stand in. `None` for a name that no path can hold.
pub(crate) fn own_folder(name: &StreamName) -> Option<Path> {
    let (vhost, app, instance) = (
        segment(&name.vhost)?,
        segment(&name.app)?,
        segment(&name.instance)?,
    );
    let mut path = format!("applications/{app}/streams/{instance}");
    if name.vhost != DEFAULT_VHOST {
        path = format!("vhosts/{vhost}/{path}");
    }
    Path::parse(path).ok()
}

/// A folder as the configuration writes it. `None` if it is none, or the whole store.
pub(super) fn folder(text: &str) -> Option<Path> {
    let good = text.split('/').all(is_segment);
    good.then(|| Path::parse(text).ok()).flatten()
}

/// A part of a name as one segment of a path, unlike any other part's.
fn segment(part: &str) -> Option<String> {
    let segment = part.replace('%', "%25").replace('/', "%2F");
    is_segment(&segment).then_some(segment)
}

/// Whether a text may be a segment of a path.
pub(super) fn is_segment(text: &str) -> bool {
    let forbidden = |letter: char| letter.is_control() || letter == '\\' || letter == '/';
    !text.is_empty()
        && text != "."
        && text != ".."
        && text.len() <= MAX_SEGMENT
        && !text.contains(forbidden)
}

/// A file in a folder. `None` where no store can hold it.
fn within(folder: &Path, file: &str) -> Option<Path> {
    if !file.split('/').all(is_segment) || is_reserved(file) {
        return None;
    }
    let path = Path::parse(format!("{folder}/{file}")).ok()?;
    (path.as_ref().len() <= MAX_PATH).then_some(path)
}

fn is_reserved(file: &str) -> bool {
    let last = file.rsplit('/').next().unwrap_or(file);
    unfinished(last).is_some()
}

/// The prefix of a name, and the rest. `None` for a prefix of which nothing can be played.
fn split(stream: &str) -> Option<(Prefix, &str)> {
    let Some((prefix, rest)) = stream.split_once(':') else {
        return Some((Prefix::None, stream));
    };
    match prefix.to_ascii_lowercase().as_str() {
        "flv" => Some((Prefix::Flv, rest)),
        "mp4" => Some((Prefix::Mp4, rest)),
        "mp3" => Some((Prefix::Mp3, rest)),
        "id3" => Some((Prefix::Id3, rest)),
        "raw" | "f4f" => None,
        // A colon in a name.
        _ => Some((Prefix::None, stream)),
    }
}

/// The files that a name may mean, as paths within any folder.
fn files(prefix: Prefix, base: &str) -> Vec<(String, Format)> {
    let extension = extension(base);
    let extension = extension.as_deref();
    let is_mp4 = extension.is_some_and(|it| MP4_EXTENSIONS.contains(&it));
    let as_is = |format| (base.to_owned(), format);
    let with = |extension: &str, format| (format!("{base}.{extension}"), format);
    match prefix {
        Prefix::Flv | Prefix::None if extension == Some("flv") => vec![as_is(Format::Flv)],
        Prefix::None if is_mp4 => vec![as_is(Format::Mp4), with("flv", Format::Flv)],
        Prefix::None if extension == Some("mp3") => {
            vec![as_is(Format::Mp3), with("flv", Format::Flv)]
        }
        Prefix::Flv | Prefix::None => vec![with("flv", Format::Flv)],
        Prefix::Mp4 if is_mp4 => vec![as_is(Format::Mp4)],
        Prefix::Mp4 => {
            let known = MP4_EXTENSIONS.map(|extension| with(extension, Format::Mp4));
            // An extension that is not known may be one all the same.
            let (before, after) = match extension {
                Some(_) => (Some(as_is(Format::Mp4)), None),
                None => (None, Some(as_is(Format::Mp4))),
            };
            before.into_iter().chain(known).chain(after).collect()
        }
        Prefix::Mp3 if extension == Some("mp3") => vec![as_is(Format::Mp3)],
        Prefix::Mp3 => vec![with("mp3", Format::Mp3)],
        Prefix::Id3 if extension == Some("mp3") => vec![as_is(Format::Id3)],
        Prefix::Id3 => vec![with("mp3", Format::Id3)],
    }
}

/// The extension of a file's name, in lower case.
fn extension(base: &str) -> Option<String> {
    let file = base.rsplit('/').next().unwrap_or(base);
    let (stem, extension) = file.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then(|| extension.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
