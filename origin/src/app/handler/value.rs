//! ActionScript values in the words of the handler's protocol, and back.
//!
//! What the protocol has no word for goes as the bytes of AMF, and comes back the same way: cycles, vectors, dictionaries, E4X, text that is
//! no UTF-8, and whatever is nested deeper than [`MAX_DEPTH`]. Typed objects keep their class; the order of properties is kept.
//!
//! What a program sends is bounded: [`LIMITS`] hold for all values of a message together.

use bytes::Bytes;
use headwater_amf::{AmfString, Limits, Object, Properties, Value, amf0};
use headwater_proto::v1;
use headwater_proto::v1::value::Value as Wire;

/// Levels of objects and arrays that are spelled out. Three messages of the protocol for each; implementations of Protocol Buffers
/// stop at 100 messages within each other.
const MAX_DEPTH: usize = 28;

/// Of what a handler may say in one message: as for what clients send, but for less memory.
const LIMITS: Limits = Limits {
    depth: 64,
    values: 1 << 16,
    bytes: 8 << 20,
};

/// What a value costs besides its text.
const VALUE_BYTES: usize = 48;

/// Why a value of a handler cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    #[error("a value that is nothing at all")]
    Empty,
    #[error("more values than {0}")]
    TooMany(usize),
    #[error("values of more than {0} bytes")]
    TooLarge(usize),
    #[error("values nested deeper than {0} levels")]
    TooDeep(usize),
    #[error("a property without a value")]
    NoValue,
    #[error("an AMF value that cannot be read: {0}")]
    Amf(String),
}

pub(super) fn all_to_wire(values: &[Value]) -> Vec<v1::Value> {
    values.iter().map(to_wire).collect()
}

pub(super) fn to_wire(value: &Value) -> v1::Value {
    let wire = if has_cycle(value) {
        as_amf(value)
    } else {
        spelled(value, 0)
    };
    v1::Value { value: Some(wire) }
}

pub(super) fn property_to_wire(name: &str, value: &Value) -> v1::Property {
    v1::Property {
        name: name.to_owned(),
        value: Some(to_wire(value)),
    }
}

fn spelled(value: &Value, depth: usize) -> Wire {
    let text = |text: &AmfString, wire: fn(String) -> Wire| {
        let text = text.as_str().map(|text| wire(text.to_owned()));
        text.unwrap_or_else(|| as_amf(value))
    };
    match value {
        Value::Undefined => Wire::Undefined(true),
        Value::Null => Wire::Null(true),
        Value::Boolean(truth) => Wire::Boolean(*truth),
        Value::Number(number) => Wire::Number(*number),
        Value::Integer(integer) => Wire::Number(f64::from(*integer)),
        Value::String(string) => text(string, Wire::String),
        Value::XmlDocument(document) => text(document, Wire::Xml),
        Value::Date { milliseconds, .. } => Wire::Date(*milliseconds),
        Value::ByteArray(bytes) => Wire::ByteArray(bytes.clone()),
        Value::Object(object) if depth < MAX_DEPTH => {
            let class = object.class().map(AmfString::as_str);
            match (class, properties(object.properties(), depth)) {
                (None | Some(Some(_)), Some(properties)) => Wire::Object(v1::ObjectValue {
                    class_name: class.flatten().unwrap_or_default().to_owned(),
                    properties,
                    is_array: false,
                }),
                _ => as_amf(value),
            }
        }
        Value::EcmaArray(named) if depth < MAX_DEPTH => match properties(named, depth) {
            Some(properties) => Wire::Object(v1::ObjectValue {
                class_name: String::new(),
                properties,
                is_array: true,
            }),
            None => as_amf(value),
        },
        Value::StrictArray(values) if depth < MAX_DEPTH => {
            let values = values.iter().map(|value| v1::Value {
                value: Some(spelled(value, depth + 1)),
            });
            Wire::Array(v1::ArrayValue {
                values: values.collect(),
            })
        }
        _ => as_amf(value),
    }
}

/// None where a name is no UTF-8.
fn properties(properties: &Properties, depth: usize) -> Option<Vec<v1::Property>> {
    let wire = properties.iter().map(|(name, value)| {
        let value = v1::Value {
            value: Some(spelled(value, depth + 1)),
        };
        Some(v1::Property {
            name: name.as_str()?.to_owned(),
            value: Some(value),
        })
    });
    wire.collect()
}

fn as_amf(value: &Value) -> Wire {
    match amf0::encode_all(std::slice::from_ref(value)) {
        Ok(bytes) => Wire::Amf(bytes),
        // What was decoded can be encoded.
        Err(_) => Wire::Undefined(true),
    }
}

/// Whether something in it points at what it is in: only the whole can be said then.
fn has_cycle(value: &Value) -> bool {
    let mut found = false;
    walk(value, 0, &mut |value| {
        found |= matches!(value, Value::Ancestor(_));
    });
    found
}

/// Visits a value and all that is in it.
fn walk(value: &Value, depth: usize, visit: &mut dyn FnMut(&Value)) {
    visit(value);
    // Nothing that was decoded is deeper.
    if depth > headwater_amf::MAX_DEPTH {
        return;
    }
    let mut into = |value: &Value| walk(value, depth + 1, visit);
    match value {
        Value::Object(object) => object.iter().for_each(|(_, value)| into(value)),
        Value::EcmaArray(properties) => properties.iter().for_each(|(_, value)| into(value)),
        Value::StrictArray(values) => values.iter().for_each(into),
        Value::VectorObject(vector) => vector.values.iter().for_each(into),
        Value::Dictionary(dictionary) => {
            for (key, value) in &dictionary.entries {
                into(key);
                into(value);
            }
        }
        Value::Externalized(wrapper) => into(&wrapper.value),
        _ => {}
    }
}

/// Reads the values of one message of a handler.
#[derive(Debug)]
pub(super) struct Reader {
    values: usize,
    bytes: usize,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            values: LIMITS.values,
            bytes: LIMITS.bytes,
        }
    }

    pub(super) fn all(&mut self, values: Vec<v1::Value>) -> Result<Vec<Value>, ValueError> {
        values.into_iter().map(|it| self.one(it)).collect()
    }

    pub(super) fn one(&mut self, value: v1::Value) -> Result<Value, ValueError> {
        self.value(value, 0)
    }

    pub(super) fn property(
        &mut self,
        property: v1::Property,
    ) -> Result<(String, Value), ValueError> {
        self.charge(property.name.len())?;
        let value = property.value.ok_or(ValueError::NoValue)?;
        Ok((property.name, self.one(value)?))
    }

    fn value(&mut self, value: v1::Value, depth: usize) -> Result<Value, ValueError> {
        self.count(1)?;
        self.charge(VALUE_BYTES)?;
        if depth > LIMITS.depth {
            return Err(ValueError::TooDeep(LIMITS.depth));
        }
        Ok(match value.value.ok_or(ValueError::Empty)? {
            Wire::Null(_) => Value::Null,
            Wire::Undefined(_) => Value::Undefined,
            Wire::Boolean(truth) => Value::Boolean(truth),
            Wire::Number(number) => Value::Number(number),
            Wire::String(text) => Value::String(self.text(text)?),
            Wire::Xml(text) => Value::XmlDocument(self.text(text)?),
            Wire::Date(milliseconds) => Value::Date {
                milliseconds,
                timezone: 0,
            },
            Wire::ByteArray(bytes) => Value::ByteArray(self.bytes(&bytes)?),
            Wire::Object(object) => self.object(object, depth)?,
            Wire::Array(array) => {
                let values = array.values.into_iter();
                let values: Result<_, _> = values.map(|it| self.value(it, depth + 1)).collect();
                Value::StrictArray(values?)
            }
            Wire::Amf(bytes) => self.amf(&bytes)?,
        })
    }

    fn object(&mut self, object: v1::ObjectValue, depth: usize) -> Result<Value, ValueError> {
        let properties = object.properties.into_iter().map(|property| {
            let name = self.text(property.name)?;
            let value = property.value.ok_or(ValueError::NoValue)?;
            Ok((name, self.value(value, depth + 1)?))
        });
        let properties: Properties = properties.collect::<Result<_, ValueError>>()?;
        if object.is_array {
            return Ok(Value::EcmaArray(properties));
        }
        let made = Object::from(properties);
        Ok(Value::Object(if object.class_name.is_empty() {
            made
        } else {
            made.with_traits(self.text(object.class_name)?, 0, true)
        }))
    }

    fn text(&mut self, text: String) -> Result<AmfString, ValueError> {
        self.charge(text.len())?;
        Ok(text.into())
    }

    fn bytes(&mut self, bytes: &Bytes) -> Result<Bytes, ValueError> {
        self.charge(bytes.len())?;
        // A slice would keep all of the buffer in which it came.
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn amf(&mut self, bytes: &Bytes) -> Result<Value, ValueError> {
        let bytes = self.bytes(bytes)?;
        let limits = Limits {
            values: self.values,
            bytes: self.bytes,
            ..LIMITS
        };
        let mut values =
            amf0::decode_all(&bytes, limits).map_err(|error| ValueError::Amf(error.to_string()))?;
        let (Some(value), true) = (values.pop(), values.is_empty()) else {
            return Err(ValueError::Amf("not one value".to_owned()));
        };
        let mut count = 0;
        walk(&value, 0, &mut |_| count += 1);
        self.count(count)?;
        self.charge(count.saturating_mul(VALUE_BYTES))?;
        Ok(value)
    }

    fn count(&mut self, values: usize) -> Result<(), ValueError> {
        let left = self.values.checked_sub(values);
        self.values = left.ok_or(ValueError::TooMany(LIMITS.values))?;
        Ok(())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), ValueError> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or(ValueError::TooLarge(LIMITS.bytes))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(value: &Value) -> Value {
        Reader::new().one(to_wire(value)).unwrap()
    }

    fn nested(depth: usize) -> Value {
        (0..depth).fold(Value::Null, |inner, _| Value::StrictArray(vec![inner]))
    }

    #[test]
    fn values_come_back_as_they_were() {
        let cycle = Object::new().with("self", Value::Ancestor(0));
        for value in [
            Value::Undefined,
            Value::Null,
            Value::Unsupported,
            true.into(),
            1.5.into(),
            "text".into(),
            Value::String(Bytes::from_static(b"\xff\xfe").into()),
            Value::XmlDocument("<a/>".into()),
            Value::Xml("<b/>".into()),
            Value::ByteArray(Bytes::from_static(b"\0\x01")),
            Value::Date {
                milliseconds: 7.0,
                timezone: 0,
            },
            Object::new().with("b", 1.0).with("a", "x").into(),
            Object::typed("com.example.Point").with("x", 1.0).into(),
            Properties::new().with("0", 1.0).into(),
            vec![Value::Null, 1.0.into()].into(),
            vec![Value::Object(cycle.clone())].into(),
            cycle.into(),
            nested(MAX_DEPTH + 10),
        ] {
            assert_eq!(there_and_back(&value), value);
        }
        assert_eq!(there_and_back(&Value::Integer(7)), Value::Number(7.0));
    }

    #[test]
    fn what_is_sent_can_be_decoded_by_any_program() {
        use prost::Message as _;

        let bytes = to_wire(&nested(60)).encode_to_vec();
        assert!(v1::Value::decode(&*bytes).is_ok());
    }

    #[test]
    fn nonsense_is_refused() {
        let value = |wire: Wire| v1::Value { value: Some(wire) };
        let refused = |wire: Wire| Reader::new().one(value(wire)).unwrap_err();
        let empty = Reader::new().one(v1::Value { value: None });
        assert_eq!(empty.unwrap_err(), ValueError::Empty);
        assert!(matches!(
            refused(Wire::Amf(Bytes::from_static(&[0xff]))),
            ValueError::Amf(_)
        ));
        for not_one in [&[][..], &[5, 5]] {
            let bytes = Bytes::copy_from_slice(not_one);
            assert_eq!(
                refused(Wire::Amf(bytes)),
                ValueError::Amf("not one value".to_owned())
            );
        }
        let many = v1::ArrayValue {
            values: vec![value(Wire::Null(true)); LIMITS.values],
        };
        assert_eq!(
            refused(Wire::Array(many)),
            ValueError::TooMany(LIMITS.values)
        );
        let long = "x".repeat(LIMITS.bytes);
        assert_eq!(
            refused(Wire::String(long)),
            ValueError::TooLarge(LIMITS.bytes)
        );
        let deep = (0..=LIMITS.depth).fold(Wire::Null(true), |inner, _| {
            Wire::Array(v1::ArrayValue {
                values: vec![value(inner)],
            })
        });
        assert_eq!(refused(deep), ValueError::TooDeep(LIMITS.depth));
        let hollow = v1::ObjectValue {
            properties: vec![v1::Property::default()],
            ..v1::ObjectValue::default()
        };
        assert_eq!(refused(Wire::Object(hollow)), ValueError::NoValue);
    }
}
