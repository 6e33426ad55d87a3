//! Names of objects.
//!
//! ```text
//! recordings/<key>/<generation, 20 digits>/segments/<number, 20 digits>
//! recordings/<key>/<generation, 20 digits>/indexes/<number of the last segment in it, 20 digits>
//! ```
//! A key is made of the stream's name alone: letters to find it by, then a hash that tells it from all others.

use headwater_media::name::StreamName;
use object_store::path::Path;

use crate::record::files::key as hash;

/// Everything is below it.
const ROOT: &str = "recordings";

/// Longest readable part of a key, in bytes: with the hash far from the 255 that file systems take.
const READABLE: usize = 80;

pub(super) fn root() -> Path {
    Path::from(ROOT)
}

/// The folder of all generations of a stream.
pub(super) fn stream(name: &StreamName) -> Path {
    root().join(key(name))
}

/// The folder of one generation.
pub(super) fn generation(name: &StreamName, generation: u64) -> Path {
    in_stream(&stream(name), generation)
}

pub(super) fn segments(folder: &Path) -> Path {
    folder.clone().join("segments")
}

pub(super) fn segment(folder: &Path, number: u64) -> Path {
    segments(folder).join(digits(number))
}

pub(super) fn indexes(folder: &Path) -> Path {
    folder.clone().join("indexes")
}

pub(super) fn index(folder: &Path, number: u64) -> Path {
    indexes(folder).join(digits(number))
}

/// The number that an object or a folder is called by; `None` for what we did not name.
pub(super) fn number(path: &Path) -> Option<u64> {
    let name = path.filename()?;
    let is_ours = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|_| is_ours)
}

/// The folder of one generation in that of a stream.
pub(super) fn in_stream(stream: &Path, generation: u64) -> Path {
    stream.clone().join(digits(generation))
}

fn digits(number: u64) -> String {
    format!("{number:020}")
}

fn key(name: &StreamName) -> String {
    let mut key: String = [&name.app, &name.instance, &name.stream]
        .into_iter()
        .flat_map(|part| part.chars().chain(['-']))
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '-'
            }
        })
        .take(READABLE)
        .collect();
    key.push('-');
    key.push_str(&hash(name));
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(app: &str, instance: &str, stream: &str) -> StreamName {
        StreamName::new("_defaultVHost_", app, instance, stream).unwrap()
    }

    #[test]
    fn keys_are_readable_and_tell_names_apart() {
        let names = [
            name("live", "_definst_", "show"),
            name("live", "_definst_", "Show"),
            name("live", "a/b", "c"),
            name("live", "a", "b/c"),
            name("live", "a", "b-c"),
            name("live", "a", &"x".repeat(512)),
            name("live", "a", &"ü".repeat(256)),
        ];
        let keys: Vec<String> = names.iter().map(key).collect();
        for (at, key) in keys.iter().enumerate() {
            assert!(key.len() < 200, "{key}");
            assert!(!keys[..at].contains(key), "{key}");
            assert_eq!(Path::from(key.as_str()).as_ref(), key);
        }
        // Stored recordings are found by it: it must never change.
        assert_eq!(
            segment(&generation(&names[0], 7), 1).as_ref(),
            "recordings/live-_definst_-show--38137d4f2ace6198eea889b6b73ffafb/00000000000000000007/segments/00000000000000000001"
        );
    }

    #[test]
    fn numbers_are_read_back() {
        let folder = generation(&name("live", "a", "b"), u64::MAX);
        assert_eq!(number(&folder), Some(u64::MAX));
        assert_eq!(number(&segment(&folder, 12)), Some(12));
        assert_eq!(number(&segments(&folder)), None);
        assert_eq!(number(&Path::from("a/12")), None);
        assert_eq!(number(&Path::from("a/+0000000000000000012")), None);
    }
}
