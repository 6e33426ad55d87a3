//! The values both formats share.

mod collections;
mod properties;

use bytes::Bytes;

pub use collections::{Dictionary, Externalized, ObjectVector, Vector};
pub(crate) use properties::ordinal_suffix;
pub use properties::{Object, Properties};

use crate::text::AmfString;

/// One ActionScript value, as a tree (see the crate's page for what happens to references).
///
/// "AMF3 only" values are written behind the AMF3 switch in AMF0.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// `undefined`.
    #[default]
    Undefined,
    /// `null`.
    Null,
    /// What a peer sends for something it cannot encode (AMF0, 2.15). AMF3 has no word for it and gets [`Value::Undefined`].
    Unsupported,
    /// `true` or `false`.
    Boolean(bool),
    /// A double.
    Number(f64),
    /// An integer of 29 bits, AMF3 only. AMF0 writes a number; so does AMF3 outside [`Value::MIN_INTEGER`]..=[`Value::MAX_INTEGER`].
    Integer(i32),
    /// Text. Encoders choose the long form by its length.
    String(AmfString),
    /// An anonymous or typed object.
    Object(Object),
    /// An array with names: the ECMA array of AMF0 (2.10), the array with an associative portion of AMF3 (3.11).
    EcmaArray(Properties),
    /// An array of values in order.
    StrictArray(Vec<Self>),
    /// A moment.
    Date {
        /// Milliseconds since 1970-01-01T00:00Z.
        milliseconds: f64,
        /// Minutes, from encoders that fill in what AMF0 reserves (2.13); else 0. AMF3 does not carry it.
        timezone: i16,
    },
    /// A document of the class `XMLDocument`, in both formats.
    XmlDocument(AmfString),
    /// A document of the E4X class `XML`, AMF3 only.
    Xml(AmfString),
    /// Binary data, AMF3 only.
    ByteArray(Bytes),
    /// A `Vector.<int>`, AMF3 only.
    VectorInt(Vector<i32>),
    /// A `Vector.<uint>`, AMF3 only.
    VectorUint(Vector<u32>),
    /// A `Vector.<Number>`, AMF3 only.
    VectorDouble(Vector<f64>),
    /// A vector of any other class, AMF3 only.
    VectorObject(Box<ObjectVector>),
    /// A map with keys of any kind, AMF3 only.
    Dictionary(Dictionary),
    /// A wrapper that writes itself, AMF3 only.
    Externalized(Box<Externalized>),
    /// A cycle: the compound that encloses this place, counted outwards from 0, the one that holds it directly.
    /// Compounds are [`Value::Object`], [`Value::EcmaArray`], [`Value::StrictArray`], [`Value::VectorObject`], [`Value::Dictionary`]
    /// and [`Value::Externalized`].
    Ancestor(u32),
}

impl Value {
    /// Smallest integer of AMF3.
    pub const MIN_INTEGER: i32 = -(1 << 28);
    /// Largest integer of AMF3.
    pub const MAX_INTEGER: i32 = (1 << 28) - 1;

    /// The number, be it a double or an integer.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Integer(integer) => Some(f64::from(*integer)),
            _ => None,
        }
    }

    /// The text of a string, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        self.as_string()?.as_str()
    }

    /// The string, whatever its encoding.
    pub fn as_string(&self) -> Option<&AmfString> {
        match self {
            Self::String(string) => Some(string),
            _ => None,
        }
    }

    /// The truth value of a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The elements of a strict array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::StrictArray(values) => Some(values),
            _ => None,
        }
    }

    /// The properties of an object or an ECMA array: metadata comes as either.
    pub fn as_properties(&self) -> Option<&Properties> {
        match self {
            Self::Object(object) => Some(object.properties()),
            Self::EcmaArray(properties) => Some(properties),
            _ => None,
        }
    }

    /// The property of that name of an object or an ECMA array.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.as_properties()?.get(name)
    }

    /// Whether this is `null` or `undefined`.
    pub fn is_nullish(&self) -> bool {
        matches!(self, Self::Null | Self::Undefined)
    }

    /// Whether AMF0 can say it, and all that is in it, without the switch to AMF3.
    pub fn fits_amf0(&self) -> bool {
        let mut fits = !crate::amf0::is_amf3_only(self);
        self.for_each_child(&mut |child| fits = fits && child.fits_amf0());
        fits
    }

    /// Calls `visit` for each value held directly by this one, in the order of the wire.
    pub(crate) fn for_each_child<'a>(&'a self, visit: &mut dyn FnMut(&'a Self)) {
        match self {
            Self::Object(object) => object.iter().for_each(|(_, value)| visit(value)),
            Self::EcmaArray(properties) => properties.iter().for_each(|(_, value)| visit(value)),
            Self::StrictArray(values) => values.iter().for_each(visit),
            Self::VectorObject(vector) => vector.values.iter().for_each(visit),
            Self::Dictionary(dictionary) => dictionary.entries.iter().for_each(|(key, value)| {
                visit(key);
                visit(value);
            }),
            Self::Externalized(wrapper) => visit(&wrapper.value),
            _ => {}
        }
    }

    /// A copy that does not keep the message it was decoded from alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        match self {
            Self::String(text) => Self::String(text.detached()),
            Self::XmlDocument(text) => Self::XmlDocument(text.detached()),
            Self::Xml(text) => Self::Xml(text.detached()),
            Self::ByteArray(bytes) => Self::ByteArray(Bytes::copy_from_slice(bytes)),
            Self::Object(object) => Self::Object(object.detached()),
            Self::EcmaArray(properties) => Self::EcmaArray(properties.detached()),
            Self::StrictArray(values) => {
                Self::StrictArray(values.iter().map(Self::detached).collect())
            }
            Self::VectorObject(vector) => Self::VectorObject(Box::new(ObjectVector {
                class: vector.class.detached(),
                fixed: vector.fixed,
                values: vector.values.iter().map(Self::detached).collect(),
            })),
            Self::Dictionary(dictionary) => Self::Dictionary(Dictionary {
                weak: dictionary.weak,
                entries: dictionary
                    .entries
                    .iter()
                    .map(|(key, value)| (key.detached(), value.detached()))
                    .collect(),
            }),
            Self::Externalized(wrapper) => Self::Externalized(Box::new(Externalized {
                class: wrapper.class.detached(),
                value: wrapper.value.detached(),
            })),
            _ => self.clone(),
        }
    }
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Self::Null
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

/// An integer if AMF3 has it, else a number.
impl From<i32> for Value {
    fn from(integer: i32) -> Self {
        if (Self::MIN_INTEGER..=Self::MAX_INTEGER).contains(&integer) {
            Self::Integer(integer)
        } else {
            Self::Number(f64::from(integer))
        }
    }
}

/// An integer if AMF3 has it, else a number.
impl From<u32> for Value {
    fn from(integer: u32) -> Self {
        i32::try_from(integer).map_or_else(|_| Self::Number(f64::from(integer)), Self::from)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<AmfString> for Value {
    fn from(text: AmfString) -> Self {
        Self::String(text)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

/// An ECMA array.
impl From<Properties> for Value {
    fn from(properties: Properties) -> Self {
        Self::EcmaArray(properties)
    }
}

/// A strict array.
impl From<Vec<Self>> for Value {
    fn from(values: Vec<Self>) -> Self {
        Self::StrictArray(values)
    }
}

/// The value, or `null`.
impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_small() {
        // The limits charge for this size.
        assert!(
            size_of::<Value>() <= crate::limits::VALUE_BYTES,
            "{}",
            size_of::<Value>()
        );
        assert!(size_of::<AmfString>() <= crate::limits::NAME_BYTES);
    }

    #[test]
    fn numbers_come_out_of_both_kinds() {
        assert_eq!(Value::from(3).as_number(), Some(3.0));
        assert_eq!(Value::from(3.5).as_number(), Some(3.5));
        assert_eq!(Value::from("3").as_number(), None);
        assert_eq!(
            Value::from(-268_435_456),
            Value::Integer(Value::MIN_INTEGER)
        );
        assert_eq!(Value::from(-268_435_457), Value::Number(-268_435_457.0));
        assert_eq!(Value::from(268_435_456_u32), Value::Number(268_435_456.0));
        assert_eq!(Value::from(u32::MAX), Value::Number(4_294_967_295.0));
    }

    #[test]
    fn conversions_and_accessors() {
        assert_eq!(Value::from(()), Value::Null);
        assert_eq!(Value::from(None::<f64>), Value::Null);
        assert_eq!(Value::from(Some("a")).as_str(), Some("a"));
        assert_eq!(Value::from(true).as_bool(), Some(true));
        assert!(Value::Undefined.is_nullish() && !Value::from(false).is_nullish());
        let value = Value::from(Object::new().with("list", vec![Value::from(1.0)]));
        assert_eq!(
            value.get("list").and_then(Value::as_array),
            Some(&[Value::Number(1.0)][..])
        );
        assert_eq!(
            value.as_object().and_then(|object| object.get("none")),
            None
        );
        assert_eq!(Value::Null.get("list"), None);
    }

    #[test]
    fn a_detached_copy_is_equal() {
        let inner = Value::from(Object::typed("T").with("a", "text"));
        let all = vec![
            inner.clone(),
            Value::EcmaArray(Properties::new().with("k", 1.0)),
            Value::Xml("<a/>".into()),
            Value::XmlDocument("<b/>".into()),
            Value::ByteArray(Bytes::from_static(&[1, 2])),
            Value::VectorObject(Box::new(ObjectVector {
                class: "T".into(),
                fixed: true,
                values: vec![inner.clone()],
            })),
            Value::Dictionary(Dictionary {
                weak: true,
                entries: vec![(inner.clone(), Value::Null)],
            }),
            Value::Externalized(Box::new(Externalized {
                class: Externalized::OBJECT_PROXY,
                value: inner,
            })),
            Value::Ancestor(0),
        ];
        let all = Value::StrictArray(all);
        assert_eq!(all.detached(), all);
    }
}
