//! What can be wrong with a configuration, told so that the operator can fix it.

use std::fmt;
use std::path::PathBuf;

/// A value that its section refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key, such as `rtmp.chunk_size`.
    pub key: String,
    /// What is wrong, lower-case, without a full stop.
    pub message: String,
    /// Where the value came from, such as `edge.toml:12:1` or `environment HEADWATER_RTMP_CHUNK_SIZE`; `None` when it is
    /// the built-in default.
    pub source: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(formatter, "{source}: ")?;
        }
        if self.key.is_empty() {
            write!(formatter, "{}", self.message)
        } else {
            write!(formatter, "`{}` {}", self.key, self.message)
        }
    }
}

/// Why a configuration did not load. The process exits with [`EXIT_BAD_CONFIG`](super::EXIT_BAD_CONFIG).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration file {}: {message}", path.display())]
    Read {
        /// The file as it was given.
        path: PathBuf,
        /// What the operating system said.
        message: String,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("{}:{line}:{column}: {message}{}", path.display(), for_key(key.as_deref()))]
    Syntax {
        /// The file as it was given.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// The dotted key of the value, where the file got far enough to have one.
        key: Option<String>,
    },
    /// No section has this key.
    #[error("{place}: unknown key `{key}`{}", did_you_mean(suggestion.as_deref()))]
    UnknownKey {
        /// Where it stands: `edge.toml:12:1`, `environment HEADWATER_RTMP_LISTN`, or `flag`.
        place: String,
        /// The dotted key, or the name of the environment variable.
        key: String,
        /// The key (or variable) that was probably meant.
        suggestion: Option<String>,
    },
    /// A value from the environment or a flag has the wrong type.
    #[error("{place}: bad value for `{key}`: {message}")]
    BadValue {
        /// Where it stands.
        place: String,
        /// The dotted key.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// All values have the right type, but sections refused some of them.
    #[error("{}", join(problems))]
    Invalid {
        /// Every refused value, in the order of the sections.
        problems: Vec<Problem>,
    },
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |suggestion| {
        format!(", did you mean `{suggestion}`?")
    })
}

fn for_key(key: Option<&str>) -> String {
    key.map_or_else(String::new, |key| format!(" (key `{key}`)"))
}

fn join(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
