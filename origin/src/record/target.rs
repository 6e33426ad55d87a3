//! The file that a recording becomes.
//!
//! | published as | file | format |
//! |---|---|---|
//! | `show`, `flv:show`, `show.flv`, `flv:show.flv` | `show.flv` | FLV |
//! | `mp4:show.mp4`, `mp4:show.f4v`, … | `show.mp4`, `show.f4v`, … | fragmented MP4 |
//! | `mp4:show` | `show.mp4` | fragmented MP4 |
//! | `show.mp4` | `show.mp4.flv` | FLV |
//! | `mp3:…`, `id3:…`, `raw:…`, `f4f:…` | none | not recorded |
//!
//! It stands in `applications/APP/streams/INSTANCE/`, for a virtual host other than the default one in
//! `vhosts/VHOST/applications/APP/streams/INSTANCE/`: where it is looked for when the name is played.
//!
//! # Invariants
//! - Two names that become the same file have the same [`Target`].
//! - A target stands within its folder: segments are checked anew after the prefix was taken off (`mp4:../x`).

use headwater_media::name::{DEFAULT_VHOST, StreamName};
use object_store::path::Path;

use crate::store::unfinished;

/// Bytes of one segment of a path: what file systems take, with room for the mark of a file that is being written.
const MAX_SEGMENT: usize = 240;

/// Bytes of a path: what object stores take, with room for a root.
const MAX_PATH: usize = 900;

/// What a recording is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Container {
    Flv,
    /// Fragmented.
    Mp4,
}

/// A file to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The name of the recording: the same for all names that become the same file in the same way.
    pub(crate) name: StreamName,
    pub(crate) path: Path,
    pub(crate) container: Container,
}

/// Why a stream cannot be recorded under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("nothing is recorded under the prefix of this name")]
    Prefix,
    #[error("the name cannot be the name of a file")]
    Name,
}

impl Target {
    pub(crate) fn of(name: &StreamName) -> Result<Self, TargetError> {
        let (prefix, base) = match name.stream.split_once(':') {
            Some((prefix, base)) => (prefix.to_ascii_lowercase(), base),
            None => (String::new(), name.stream.as_str()),
        };
        if base.is_empty() {
            return Err(TargetError::Name);
        }
        let (file, container) = match prefix.as_str() {
            "" | "flv" => (with_extension(base, "flv"), Container::Flv),
            "mp4" if extension(base).is_some() => (base.to_owned(), Container::Mp4),
            "mp4" => (format!("{base}.mp4"), Container::Mp4),
            "mp3" | "id3" | "raw" | "f4f" => return Err(TargetError::Prefix),
            // A colon in a name.
            _ => (with_extension(&name.stream, "flv"), Container::Flv),
        };
        let folder = folder(name).ok_or(TargetError::Name)?;
        if !file.split('/').all(is_segment) || is_reserved(&file) {
            return Err(TargetError::Name);
        }
        let path = Path::parse(format!("{folder}/{file}")).map_err(|_| TargetError::Name)?;
        if path.as_ref().len() > MAX_PATH {
            return Err(TargetError::Name);
        }
        let stream = match container {
            Container::Flv => file,
            Container::Mp4 => format!("mp4:{file}"),
        };
        let name = StreamName {
            stream,
            ..name.clone()
        };
        Ok(Self {
            name,
            path,
            container,
        })
    }

    /// The target whose file stands there, if a recording could have put it there.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let text = path.as_ref();
        let (vhost, rest) = match text.strip_prefix("vhosts/") {
            Some(rest) => {
                let (vhost, rest) = rest.split_once('/')?;
                (named(vhost), rest)
            }
            None => (DEFAULT_VHOST.to_owned(), text),
        };
        let (app, rest) = rest.strip_prefix("applications/")?.split_once('/')?;
        let (instance, file) = rest.strip_prefix("streams/")?.split_once('/')?;
        let stream = match extension(file) {
            Some(found) if found.eq_ignore_ascii_case("flv") => file.to_owned(),
            _ => format!("mp4:{file}"),
        };
        let name = StreamName::new(&vhost, &named(app), &named(instance), &stream).ok()?;
        Self::of(&name).ok().filter(|found| found.path == *path)
    }
}

fn with_extension(base: &str, wanted: &str) -> String {
    match extension(base) {
        Some(found) if found.eq_ignore_ascii_case(wanted) => base.to_owned(),
        _ => format!("{base}.{wanted}"),
    }
}

/// The extension of a file's name.
fn extension(base: &str) -> Option<&str> {
    let file = base.rsplit('/').next().unwrap_or(base);
    let (stem, extension) = file.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then_some(extension)
}

fn folder(name: &StreamName) -> Option<String> {
    let part = |part: &str| {
        let segment = part.replace('%', "%25").replace('/', "%2F");
        is_segment(&segment).then_some(segment)
    };
    let (vhost, app, instance) = (part(&name.vhost)?, part(&name.app)?, part(&name.instance)?);
    let path = format!("applications/{app}/streams/{instance}");
    Some(match name.vhost == DEFAULT_VHOST {
        true => path,
        false => format!("vhosts/{vhost}/{path}"),
    })
}

/// What a segment of a folder stands for.
fn named(segment: &str) -> String {
    segment.replace("%2F", "/").replace("%25", "%")
}

fn is_segment(text: &str) -> bool {
    let forbidden = |letter: char| letter.is_control() || letter == '\\' || letter == '/';
    !text.is_empty()
        && text != "."
        && text != ".."
        && text.len() <= MAX_SEGMENT
        && !text.contains(forbidden)
}

fn is_reserved(file: &str) -> bool {
    let last = file.rsplit('/').next().unwrap_or(file);
    unfinished(last).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(
        vhost: &str,
        instance: &str,
        stream: &str,
    ) -> Result<(String, Container), TargetError> {
        let name = StreamName {
            vhost: vhost.to_owned(),
            app: "live".to_owned(),
            instance: instance.to_owned(),
            stream: stream.to_owned(),
        };
        Target::of(&name).map(|it| (it.path.to_string(), it.container))
    }

    #[test]
    fn names_become_files() {
        for (stream, expected) in [
            ("show", Ok(("show.flv", Container::Flv))),
            ("flv:show", Ok(("show.flv", Container::Flv))),
            ("FLV:show.FLV", Ok(("show.FLV", Container::Flv))),
            ("show.flv", Ok(("show.flv", Container::Flv))),
            ("show.mp4", Ok(("show.mp4.flv", Container::Flv))),
            ("mp4:show.f4v", Ok(("show.f4v", Container::Mp4))),
            ("MP4:show", Ok(("show.mp4", Container::Mp4))),
            ("mp4:a/b.mov", Ok(("a/b.mov", Container::Mp4))),
            ("a:b", Ok(("a:b.flv", Container::Flv))),
            (".flv", Ok((".flv.flv", Container::Flv))),
            ("show%2F#1", Ok(("show%2F#1.flv", Container::Flv))),
            ("mp3:song", Err(TargetError::Prefix)),
            ("raw:x", Err(TargetError::Prefix)),
            ("mp4:../x.mp4", Err(TargetError::Name)),
            ("mp4:/x.mp4", Err(TargetError::Name)),
            ("flv:", Err(TargetError::Name)),
            ("mp4:a//b", Err(TargetError::Name)),
            ("mp4:x.a#1", Err(TargetError::Name)),
            ("mp4:a\\b.mp4", Err(TargetError::Name)),
        ] {
            let expected = expected.map(|(file, container)| {
                (
                    format!("applications/live/streams/_definst_/{file}"),
                    container,
                )
            });
            assert_eq!(
                target(DEFAULT_VHOST, "_definst_", stream),
                expected,
                "{stream}"
            );
        }
        let long = "x".repeat(MAX_SEGMENT);
        assert_eq!(target(DEFAULT_VHOST, "i", &long), Err(TargetError::Name));
    }

    #[test]
    fn what_becomes_one_file_has_one_name() {
        let of = |stream: &str| {
            let name = StreamName::new(DEFAULT_VHOST, "live", "i", stream).unwrap();
            Target::of(&name).unwrap()
        };
        for (stream, canonical) in [
            ("show", "show.flv"),
            ("flv:show", "show.flv"),
            ("mp4:show", "mp4:show.mp4"),
            ("mp4:show.f4v", "mp4:show.f4v"),
            ("show.mp4", "show.mp4.flv"),
        ] {
            let target = of(stream);
            assert_eq!(target.name.stream, canonical, "{stream}");
            assert_eq!(Target::of(&target.name).unwrap(), target, "{stream}");
        }
    }

    #[test]
    fn files_lead_back_to_their_names() {
        for (vhost, instance, stream) in [
            (DEFAULT_VHOST, "_definst_", "a/show"),
            (DEFAULT_VHOST, "a/b", "flv:show.FLV"),
            (DEFAULT_VHOST, "a%2Fb", "show%25#1"),
            ("example.org", "i", "mp4:show"),
            ("example.org", "i", "mp4:a/show.f4v"),
            (DEFAULT_VHOST, "i", "show.mp4"),
        ] {
            let name = StreamName::new(vhost, "live", instance, stream).unwrap();
            let target = Target::of(&name).unwrap();
            assert_eq!(Target::at(&target.path), Some(target.clone()), "{stream}");
        }
        for path in [
            "",
            "applications/live/streams/i",
            "applications/live/show.flv",
            "recordings/live/streams/i/show.flv",
            "vhosts/applications/live/streams/i/show.flv",
            "applications/a%2Fb%/streams/i/show.flv",
            "applications/live/streams/i/show",
        ] {
            let path = Path::parse(path).unwrap();
            assert_eq!(Target::at(&path), None, "{path}");
        }
    }

    #[test]
    fn folders_never_meet() {
        let path = |vhost, instance| target(vhost, instance, "s").unwrap().0;
        assert_eq!(
            path("example.org", "a/b"),
            "vhosts/example.org/applications/live/streams/a%2Fb/s.flv"
        );
        assert_ne!(path(DEFAULT_VHOST, "a/b"), path(DEFAULT_VHOST, "a%2Fb"));
        assert_eq!(target("..", "i", "s"), Err(TargetError::Name));
        let long = "x/".repeat(100);
        assert_eq!(target(DEFAULT_VHOST, &long, "s"), Err(TargetError::Name));
    }
}
