//! A value that must not show up in logs, dumps or the printed configuration.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands in for a secret wherever one would be shown.
pub(super) const HIDDEN: &str = "(hidden)";

/// A password, token or shared key from the configuration.
///
/// `Debug` and `Serialize` give a fixed text. The text itself comes out of [`Secret::expose`] only, so every use is easy
/// to find. Comparing two secrets with `==` is not constant-time: compare digests where a peer supplies one side.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether nothing was set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.is_empty() {
            "Secret(empty)"
        } else {
            "Secret(hidden)"
        })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { HIDDEN })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Refuses other types without repeating their value, which may be the secret written without quotes.
struct SecretVisitor;

const WRONG_TYPE: &str = "a secret must be a string in quotes";

impl Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        if text == HIDDEN {
            return Err(E::custom(
                "this is the placeholder of a printed configuration, not a secret",
            ));
        }
        Ok(Secret::new(text))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::custom(WRONG_TYPE))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::custom(WRONG_TYPE))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::custom(WRONG_TYPE))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom(WRONG_TYPE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("swordfish");
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"(hidden)\"");
        assert_eq!(secret.expose(), "swordfish");
    }

    #[test]
    fn a_secret_of_another_type_is_refused_without_repeating_it() {
        for text in ["{\"a\":1234567}", "1234567", "12.34567", "true"] {
            let message = serde_json::from_str::<Secret>(text)
                .unwrap_err()
                .to_string();
            assert!(!message.contains("34567"), "{message}");
        }
        assert!(serde_json::from_str::<Secret>("\"(hidden)\"").is_err());
    }
}
