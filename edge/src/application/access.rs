//! Read and write access: what of an application a client may play, publish and use.
//!
//! Access is a list of paths with a `;` between them, as `Client.readAccess` and `Client.writeAccess` of Adobe Media Server have it. A path
//! stands for what has its name and for all that is within: `a/b` for `a/b` and `a/b/c`, and not for `a/bc`. `/` is everything; an empty
//! list is nothing. A slash before or behind a path says nothing.

/// Prefixes of stream names that say what kind of file it is, and nothing of where it is.
const KINDS: [&str; 6] = ["flv:", "mp4:", "mp3:", "id3:", "raw:", "f4f:"];

/// Whether `paths` holds `name`: that of a stream as a client says it, or of a shared object.
pub(crate) fn allows(paths: &str, name: &str) -> bool {
    let name = without_kind(name).trim_matches('/');
    paths.split(';').map(str::trim).any(|path| {
        let within = path.trim_matches('/');
        if within.is_empty() {
            return !path.is_empty();
        }
        name.strip_prefix(within)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn without_kind(name: &str) -> &str {
    let rest = KINDS.iter().find_map(|kind| {
        let (prefix, rest) = name.split_at_checked(kind.len())?;
        prefix.eq_ignore_ascii_case(kind).then_some(rest)
    });
    rest.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_it_names_and_what_is_within() {
        for (paths, name, allowed) in [
            ("/", "camera", true),
            ("/", "a/b", true),
            ("", "camera", false),
            (";", "camera", false),
            ("a", "a", true),
            ("a", "a/b/c", true),
            ("a", "ab", false),
            ("/a/b/", "a/b", true),
            ("a/b", "a", false),
            ("a/b", "a/bc", false),
            ("x; a/b ;y", "a/b/c", true),
            ("x;y", "a", false),
            ("x;/", "a", true),
            ("a", "mp4:a/film.mp4", true),
            ("film", "FLV:film", true),
            ("film", "xyz:film", false),
            ("a", "/a", true),
            ("ä", "ä/x", true),
            ("A", "a", false),
        ] {
            assert_eq!(allows(paths, name), allowed, "{paths:?} {name:?}");
        }
    }
}
