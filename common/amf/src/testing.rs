//! Helpers of the tests.

use bytes::Bytes;

use crate::value::Value;

/// Bytes from hexadecimal digits; `'text'` stands for itself.
pub(crate) fn hex(text: &str) -> Bytes {
    let mut bytes = Vec::new();
    for (index, part) in text.split('\'').enumerate() {
        if index % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: String = part.split_whitespace().collect();
        assert!(digits.len().is_multiple_of(2), "{part:?}");
        for at in (0..digits.len()).step_by(2) {
            bytes.push(u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"));
        }
    }
    bytes.into()
}

pub(crate) fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value::StrictArray(values.into_iter().collect())
}
