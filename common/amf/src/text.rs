//! Text as the wire carries it: usually UTF-8, never trusted to be.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

/// Owned bytes that are usually UTF-8 and survive a round trip when they are not, as with the Latin-1 names of old encoders.
///
/// A decoded string shares the memory of the message it came from. Keep [`AmfString::detached`] instead where it outlives the message.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AmfString(Bytes);

impl AmfString {
    /// The empty string.
    pub const fn new() -> Self {
        Self(Bytes::new())
    }

    /// A string that borrows text of the program and never allocates.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// A string of these bytes, whatever their encoding.
    pub const fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes as they were on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, sharing their memory.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The text, or `None` if the bytes are not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The text, with U+FFFD for what is not UTF-8. For logs; names are compared by their bytes.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A copy that does not keep the message alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl fmt::Debug for AmfString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) => fmt::Debug::fmt(text, f),
            None => fmt::Debug::fmt(&self.0, f),
        }
    }
}

impl fmt::Display for AmfString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_string_lossy())
    }
}

impl From<&str> for AmfString {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<&String> for AmfString {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<String> for AmfString {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<Bytes> for AmfString {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for AmfString {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for AmfString {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for AmfString {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<String> for AmfString {
    fn eq(&self, other: &String) -> bool {
        self.0 == other.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_are_both_kept() {
        let text = AmfString::from("señal");
        assert_eq!(text.as_str(), Some("señal"));
        assert_eq!(text, "señal");
        assert_eq!(text.to_string_lossy(), "señal");
        assert_eq!(format!("{text:?} {text:>6}"), "\"señal\"  señal");

        let latin = AmfString::from_bytes(Bytes::from_static(b"se\xf1al"));
        assert_eq!(latin.as_str(), None);
        assert_eq!(latin.as_bytes(), b"se\xf1al");
        assert_eq!(latin.to_string_lossy(), "se\u{fffd}al");
        assert_eq!(format!("{latin:?}"), r#"b"se\xf1al""#);
        assert_ne!(latin, "señal");
    }

    #[test]
    fn a_detached_copy_is_equal_and_elsewhere() {
        let message = Bytes::from(b"live".to_vec());
        let text = AmfString::from_bytes(message.clone());
        let copy = text.detached();
        assert_eq!(copy, text);
        assert_eq!(text.as_bytes().as_ptr(), message.as_ptr());
        assert_ne!(copy.as_bytes().as_ptr(), message.as_ptr());
    }
}
