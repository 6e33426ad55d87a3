//! Names of objects.

use std::fmt;
use std::sync::Arc;

/// Longest name of an object, in bytes. Names become keys of the store and parts of paths; 1,024 is far above what applications use.
pub const MAX_NAME_BYTES: usize = 1_024;

/// The name of a shared object within its application instance: 1 to [`MAX_NAME_BYTES`] bytes of UTF-8 without control characters.
/// May hold `/`, between segments that are neither empty nor `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Arc<str>);

/// Why a text is no name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is nothing.
    #[error("the name is empty")]
    Empty,
    /// Longer than [`MAX_NAME_BYTES`].
    #[error("the name has {length} bytes: expected at most {MAX_NAME_BYTES}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not UTF-8.
    #[error("the name is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// The first byte of the name that is not.
        at: usize,
    },
    /// Holds a control character.
    #[error("the name has a control character at byte {at}")]
    Control {
        /// Where in the name.
        at: usize,
    },
    /// A segment is empty, `.` or `..`.
    #[error("the name has an empty or dotted segment at byte {at}")]
    Segment {
        /// Where in the name the segment begins.
        at: usize,
    },
}

impl ObjectName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with it.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong { length: name.len() });
        }
        if let Some((at, _)) = name.char_indices().find(|(_, letter)| letter.is_control()) {
            return Err(NameError::Control { at });
        }
        let mut at = 0;
        for segment in name.split('/') {
            if matches!(segment, "" | "." | "..") {
                return Err(NameError::Segment { at });
            }
            at += segment.len() + 1;
        }
        Ok(Self(name.into()))
    }

    /// Checks a name that came as bytes.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with it.
    pub fn from_bytes(name: &[u8]) -> Result<Self, NameError> {
        let name = std::str::from_utf8(name).map_err(|error| NameError::NotUtf8 {
            at: error.valid_up_to(),
        })?;
        Self::parse(name)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ObjectName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in [
            "chat",
            "rooms/1/users",
            "a b",
            "...",
            "ä/é",
            ".hidden",
            "x.fso",
        ] {
            assert_eq!(ObjectName::parse(good).unwrap().as_str(), good);
        }
        let longest = "n".repeat(MAX_NAME_BYTES);
        assert!(ObjectName::parse(&longest).is_ok());
        let long = "n".repeat(MAX_NAME_BYTES + 1);
        let bad: &[(&str, NameError)] = &[
            ("", NameError::Empty),
            (&long, NameError::TooLong { length: long.len() }),
            ("a\nb", NameError::Control { at: 1 }),
            ("ä\u{7f}", NameError::Control { at: 2 }),
            ("/a", NameError::Segment { at: 0 }),
            ("a/", NameError::Segment { at: 2 }),
            ("a//b", NameError::Segment { at: 2 }),
            ("a/./b", NameError::Segment { at: 2 }),
            ("../b", NameError::Segment { at: 0 }),
        ];
        for (name, error) in bad {
            assert_eq!(ObjectName::parse(name), Err(*error), "{name:?}");
        }
        let latin = NameError::NotUtf8 { at: 1 };
        assert_eq!(ObjectName::from_bytes(b"a\xe4"), Err(latin));
    }
}
