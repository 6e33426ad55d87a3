//! ActionScript values, as far as the chat makes and reads them.

use headwater_proto::v1::value::Value as Kind;
use headwater_proto::v1::{ArrayValue, ObjectValue, Property, Value};

pub(crate) fn null() -> Value {
    Value {
        value: Some(Kind::Null(true)),
    }
}

pub(crate) fn text(text: impl Into<String>) -> Value {
    Value {
        value: Some(Kind::String(text.into())),
    }
}

pub(crate) fn number(number: f64) -> Value {
    Value {
        value: Some(Kind::Number(number)),
    }
}

pub(crate) fn array(values: impl IntoIterator<Item = Value>) -> Value {
    let values = values.into_iter().collect();
    Value {
        value: Some(Kind::Array(ArrayValue { values })),
    }
}

pub(crate) fn object(properties: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    of_properties(properties.into_iter().map(|(name, value)| Property {
        name: name.to_owned(),
        value: Some(value),
    }))
}

pub(crate) fn of_properties(properties: impl IntoIterator<Item = Property>) -> Value {
    let properties = properties.into_iter().collect();
    Value {
        value: Some(Kind::Object(ObjectValue {
            properties,
            ..ObjectValue::default()
        })),
    }
}

/// The properties of an object; none of anything else.
pub(crate) fn properties(value: Value) -> Vec<Property> {
    match value.value {
        Some(Kind::Object(object)) => object.properties,
        _ => Vec::new(),
    }
}

pub(crate) fn as_text(value: &Value) -> Option<&str> {
    match &value.value {
        Some(Kind::String(text)) => Some(text),
        _ => None,
    }
}

pub(crate) fn as_number(value: &Value) -> Option<f64> {
    match value.value {
        Some(Kind::Number(number)) => Some(number),
        _ => None,
    }
}
