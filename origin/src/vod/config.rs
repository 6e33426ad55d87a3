//! The `[origin.vod]` section of a node's configuration.

use std::time::Duration;

use headwater_node::config::Problems;

use super::names;

/// Most virtual directories: each is looked at for every name.
const MAX_DIRECTORIES: usize = 1_000;

/// What the store keeps there is not for clients.
const RESERVED_FOLDER: &str = "recordings";

headwater_node::section! {
    /// Playing media files.
    pub struct VodSection {
        /// Folders that files are looked for in besides `applications/APP/streams/INSTANCE/`.
        pub directories: Vec<VirtualDirectory> = default_directories(),
        /// The most files that are kept open. Past it, those go that nobody asked for longest.
        pub max_open_files: usize = 1_024 => 1..=65_536,
        /// The most memory that open files may take for their tables, about, bytes: a film takes some megabytes as MP4, a third of
        /// a megabyte as FLV. Past it, those are closed that nobody asked for longest; but one may always be open.
        pub memory_bytes: usize = 256 << 20 => 1 << 20..=1 << 40,
        /// How long a file stays open that nobody asks for, milliseconds.
        pub idle_ms: u64 = 60_000 => 1_000..=86_400_000,
        /// How often at most the store is asked whether an open file was replaced, milliseconds. For as long, viewers may get
        /// pieces of the file that was there before.
        pub revalidate_ms: u64 = 1_000 => 10..=3_600_000,
        /// The most pieces of files that are read at a time, each on a thread of its own; a quarter of them of the same file, and half of
        /// them to open files. Others wait.
        pub max_reads: usize = 16 => 1..=256,
        /// How long an answer from the store may take, waiting included, milliseconds.
        pub read_timeout_ms: u64 = 5_000 => 100..=60_000,
        /// The most calls of edges that are answered at a time. What they read is at most about a mebibyte each.
        pub max_calls: usize = 1_024 => 1..=65_536,
    }
    validate |section, problems| {
        if section.directories.len() > MAX_DIRECTORIES {
            problems.push("directories", format!("are {}, at most {MAX_DIRECTORIES} are allowed", section.directories.len()));
        }
    }
}

headwater_node::section! {
    /// Folders that files are looked for in besides `applications/APP/streams/INSTANCE/`.
    pub struct VirtualDirectory {
        /// Only for this virtual host. Empty: for all.
        pub vhost: String = String::new(),
        /// Only for this application. Empty: for all.
        pub app: String = String::new(),
        /// The beginning of names, whole folders: with `films`, the stream `films/old/a` is looked for as `old/a`, before it is
        /// where it would be otherwise. The longest that fits counts; where several are equally long, all do, in this
        /// order. Empty: for all names, after the place where they would be otherwise.
        pub name: String = String::new(),
        /// The folder: a path within the store, such as `media/films`.
        pub folder: String = String::new(),
    }
    validate |section, problems| {
        check(section, problems);
    }
}

/// Where Adobe's servers keep the files of their application `vod`.
fn default_directories() -> Vec<VirtualDirectory> {
    vec![VirtualDirectory {
        app: "vod".to_owned(),
        folder: "applications/vod/media".to_owned(),
        ..VirtualDirectory::default()
    }]
}

fn check(directory: &VirtualDirectory, problems: &mut Problems) {
    if !directory.name.is_empty() && !directory.name.split('/').all(names::is_segment) {
        problems.push("name", "must be folders with a / between them, or empty");
    }
    match names::folder(&directory.folder) {
        None => problems.push("folder", "must be folders with a / between them"),
        Some(folder) => {
            let first = folder.parts().next();
            if first.is_some_and(|first| first.as_ref() == RESERVED_FOLDER) {
                problems.push("folder", "must not be where recordings are made");
            }
        }
    }
}

impl VodSection {
    pub(super) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    pub(super) fn revalidate(&self) -> Duration {
        Duration::from_millis(self.revalidate_ms)
    }

    pub(super) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use headwater_node::config::Field;

    use super::*;

    fn problems(section: &VodSection) -> Vec<String> {
        let mut problems = Problems::default();
        section.check(&mut problems);
        let problems = problems.into_vec().into_iter();
        problems.map(|problem| problem.key).collect()
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(problems(&VodSection::default()), [""; 0]);
    }

    #[test]
    fn directories_stay_within_the_store() {
        let directory = |name: &str, folder: &str| VirtualDirectory {
            name: name.to_owned(),
            folder: folder.to_owned(),
            ..VirtualDirectory::default()
        };
        for (name, folder, expected) in [
            ("", "media", None),
            ("films/old", "media/films", None),
            ("", "", Some("folder")),
            ("", "/media", Some("folder")),
            ("", "media/", Some("folder")),
            ("", "media/../..", Some("folder")),
            ("", "C:\\media", Some("folder")),
            ("", "recordings/x", Some("folder")),
            ("", "recordings2", None),
            ("/films", "media", Some("name")),
            ("films//old", "media", Some("name")),
            ("..", "media", Some("name")),
        ] {
            let section = VodSection {
                directories: vec![directory(name, folder)],
                ..VodSection::default()
            };
            let expected = expected.map(|key| format!("directories.0.{key}"));
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(problems(&section), expected, "{name:?} {folder:?}");
        }
        let many = VodSection {
            directories: vec![directory("", "media"); MAX_DIRECTORIES + 1],
            ..VodSection::default()
        };
        assert_eq!(problems(&many), ["directories"]);
    }
}
