//! Names: `vhost/app/instance/stream`, checked once where they enter.
//!
//! Limits are those of a path that may become a file name later: no empty parts, no control characters, no `..`.

use std::fmt;

/// Longest name of one part, in bytes. Generous next to what encoders use for stream keys, and bounds every map keyed by names.
pub const MAX_PART_LENGTH: usize = 512;

/// The virtual host of clients that name none that is configured (Adobe's `_defaultVHost_`).
pub const DEFAULT_VHOST: &str = "_defaultVHost_";

/// The instance of an application that a client names none of (Adobe's `_definst_`).
pub const DEFAULT_INSTANCE: &str = "_definst_";

/// The full name of a stream in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName {
    /// Virtual host, [`DEFAULT_VHOST`] if none was matched.
    pub vhost: String,
    /// Application.
    pub app: String,
    /// Instance, [`DEFAULT_INSTANCE`] if the client named none. May hold `/`.
    pub instance: String,
    /// Stream, without its query. May hold `/`.
    pub stream: String,
}

/// The full name of an application instance in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceName {
    /// Virtual host.
    pub vhost: String,
    /// Application.
    pub app: String,
    /// Instance. May hold `/`.
    pub instance: String,
}

impl InstanceName {
    /// Checks the parts and makes a name of them.
    ///
    /// # Errors
    /// [`NameError`], as [`StreamName::new`].
    pub fn new(vhost: &str, app: &str, instance: &str) -> Result<Self, NameError> {
        Ok(Self {
            vhost: checked("virtual host", vhost)?,
            app: checked("application", app)?,
            instance: checked("instance", instance)?,
        })
    }

    /// What the ring takes it for: the name of a stream that stands for the instance.
    #[must_use]
    pub fn key(&self) -> StreamName {
        StreamName {
            vhost: self.vhost.clone(),
            app: self.app.clone(),
            instance: self.instance.clone(),
            stream: "_instance_".to_owned(),
        }
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.vhost, self.app, self.instance)
    }
}

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A part has no letters.
    #[error("the {part} name is empty")]
    Empty {
        /// Which part.
        part: &'static str,
    },
    /// A part is longer than [`MAX_PART_LENGTH`].
    #[error("the {part} name is {length} bytes long, at most {MAX_PART_LENGTH} are allowed")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A part holds a control character, a backslash, an empty, `.` or `..` path segment.
    #[error("the {part} name holds a character or a path segment that is not allowed")]
    Forbidden {
        /// Which part.
        part: &'static str,
    },
}

impl StreamName {
    /// Checks the parts and makes a name of them.
    ///
    /// # Errors
    /// [`NameError`] for the first part that is empty, too long or holds something forbidden.
    pub fn new(vhost: &str, app: &str, instance: &str, stream: &str) -> Result<Self, NameError> {
        Ok(Self {
            vhost: checked("virtual host", vhost)?,
            app: checked("application", app)?,
            instance: checked("instance", instance)?,
            stream: checked("stream", stream)?,
        })
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/{}",
            self.vhost, self.app, self.instance, self.stream
        )
    }
}

fn checked(part: &'static str, name: &str) -> Result<String, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { part });
    }
    if name.len() > MAX_PART_LENGTH {
        return Err(NameError::TooLong {
            part,
            length: name.len(),
        });
    }
    let bad_character = name.chars().any(|c| c.is_control() || c == '\\');
    let bad_segment = name
        .split('/')
        .any(|s| s.is_empty() || s == "." || s == "..");
    if bad_character || bad_segment {
        return Err(NameError::Forbidden { part });
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let long = "x".repeat(MAX_PART_LENGTH + 1);
        for (stream, good) in [
            ("camera", true),
            ("a/b", true),
            ("mp4:show.f4v", true),
            ("", false),
            ("a//b", false),
            ("../x", false),
            ("a/..", false),
            ("a\u{0}", false),
            ("a\\b", false),
            (&long, false),
        ] {
            let made = StreamName::new(DEFAULT_VHOST, "live", DEFAULT_INSTANCE, stream);
            assert_eq!(made.is_ok(), good, "{stream:?}: {made:?}");
        }
    }
}
