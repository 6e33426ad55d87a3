//! Reading and building the AMF values of commands, with the leniency that clients need.

use headwater_amf::{AmfString, Object, Value};

/// Longest name or address that is taken out of a command, in bytes. What is longer counts as missing: no honest client comes
/// near, and every log line and map key stays small.
pub(crate) const MAX_TEXT_LENGTH: usize = crate::url::MAX_URL_LENGTH;

/// The text of a string, with U+FFFD for what is not UTF-8.
pub(crate) fn text(value: &Value) -> Option<String> {
    value
        .as_string()
        .filter(|string| string.len() <= MAX_TEXT_LENGTH)
        .map(|string| string.to_string_lossy().into_owned())
}

/// The number of a number.
pub(crate) fn number(value: &Value) -> Option<f64> {
    value.as_number()
}

/// The truth value of a boolean.
pub(crate) fn boolean(value: &Value) -> Option<bool> {
    value.as_bool()
}

/// A property of an object or an ECMA array.
pub(crate) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name)
}

/// All properties of an object or an ECMA array, those with a name that is text.
pub(crate) fn fields(value: &Value) -> Vec<(String, &Value)> {
    let Some(properties) = value.as_properties() else {
        return Vec::new();
    };
    properties
        .iter()
        .filter_map(|(name, value)| Some((name.as_str()?.to_owned(), value)))
        .collect()
}

/// The elements of an array, whichever kind of array the client made of its list.
pub(crate) fn elements(value: &Value) -> Vec<&Value> {
    if let Some(values) = value.as_array() {
        return values.iter().collect();
    }
    fields(value).into_iter().map(|(_, value)| value).collect()
}

/// An anonymous object.
pub(crate) fn object<N: Into<AmfString>>(entries: impl IntoIterator<Item = (N, Value)>) -> Value {
    let mut object = Object::new();
    for (name, value) in entries {
        object.push(name, value);
    }
    Value::Object(object)
}

/// A strict array.
pub(crate) fn array(values: impl IntoIterator<Item = Value>) -> Value {
    Value::StrictArray(values.into_iter().collect())
}

/// The whole part of a number, held within what fits: not a number is 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, which is what is wanted"
)]
pub(crate) fn saturating_u32(number: f64) -> u32 {
    number as u32
}
