//! The number of files (and so sockets) that the process may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit on open files, `RLIMIT_NOFILE`. `None` means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimit {
    /// What holds now.
    pub soft: Option<u64>,
    /// What the process may raise it to.
    pub hard: Option<u64>,
}

/// The limit now.
pub fn open_files() -> FileLimit {
    let limit = getrlimit(Resource::Nofile);
    FileLimit {
        soft: limit.current,
        hard: limit.maximum,
    }
}

/// Raises the soft limit to the hard one, and gives what holds afterwards. Call it once at the start.
///
/// # Errors
/// What the operating system said; the limit is then as before.
pub fn raise_open_files() -> std::io::Result<FileLimit> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        )?;
    }
    Ok(open_files())
}

/// A warning for the operator when the process may open fewer than `wanted` files.
pub fn require_files(wanted: u64) -> Option<String> {
    warning(open_files(), wanted)
}

fn warning(limit: FileLimit, wanted: u64) -> Option<String> {
    let soft = limit.soft.filter(|soft| *soft < wanted)?;
    Some(format!(
        "the process may open {soft} files, but the configuration needs {wanted}: connections beyond that will be refused; \
         raise the limit (systemd: LimitNOFILE={wanted}, containers: --ulimit nofile={wanted}, shells: ulimit -n {wanted})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let limit = raise_open_files().unwrap();
        assert_eq!(limit.soft, limit.hard);
        assert_eq!(limit, open_files());
    }

    #[test]
    fn a_low_limit_gives_a_warning_with_both_numbers() {
        let limit = FileLimit {
            soft: Some(1024),
            hard: Some(1024),
        };
        let text = warning(limit, 100_000).unwrap();
        assert!(
            text.contains("1024") && text.contains("LimitNOFILE=100000"),
            "{text}"
        );
        assert_eq!(warning(limit, 1024), None);
        assert_eq!(
            warning(
                FileLimit {
                    soft: None,
                    hard: None
                },
                u64::MAX
            ),
            None
        );
    }
}
