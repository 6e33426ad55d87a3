//! flash-lso reads what we write and writes what we read.

use std::collections::HashSet;

use bytes::Bytes;
use flash_lso::amf0::read::AMF0Decoder;
use flash_lso::amf3::read::AMF3Decoder;
use flash_lso::types::{
    AMFVersion, Attribute, ClassDefinition, DictionaryEntry, DictionaryObjectValue,
    ECMAArrayObjectValue, Element, Lso, ObjectId, ObjectValue, Value as Theirs, VectorObjectValue,
    VectorPrimitiveValue,
};
use headwater_amf::{
    AmfString, Dictionary, Format, Limits, Object, ObjectVector, Properties, Value, Vector, amf0,
    amf3,
};
use proptest::prelude::*;

use crate::values::{Kinds, value};

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn they_read_our_amf0(values in prop::collection::vec(value(Format::Amf0, Kinds::Plain), 1..4)) {
        let wire = amf0::encode_all(&values).unwrap();
        let mut decoder = AMF0Decoder::default();
        let mut rest = &wire[..];
        for value in &values {
            let (left, theirs) = decoder.parse_single_element(rest).expect("readable");
            prop_assert_eq!(&ours(Format::Amf0, &theirs), value);
            rest = left;
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn they_read_our_amf3(values in prop::collection::vec(value(Format::Amf3, Kinds::Plain), 1..4)) {
        let wire = amf3::encode_all(&values).unwrap();
        let mut decoder = AMF3Decoder::default();
        let mut rest = &wire[..];
        for value in &values {
            let (left, theirs) = decoder.parse_single_element(rest).expect("readable");
            prop_assert_eq!(&ours(Format::Amf3, &theirs), value);
            rest = left;
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn we_read_their_amf0(value in value(Format::Amf0, Kinds::Amf0)) {
        let wire = written(Format::Amf0, theirs(Format::Amf0, &value));
        prop_assert_eq!(amf0::decode_all(&wire, Limits::default()), Ok(vec![value]));
    }

    #[test]
    fn we_read_their_amf3(value in value(Format::Amf3, Kinds::Plain)) {
        prop_assume!(is_writable(&value, &mut HashSet::new()));
        let wire = written(Format::Amf3, theirs(Format::Amf3, &value));
        prop_assert_eq!(amf3::decode_all(&wire, Limits::default()), Ok(vec![value]));
    }
}

#[test]
fn cycles_carry_the_numbers_they_expect() {
    // Leaves count in AMF3: the object is the third complex value.
    let bytes = Value::ByteArray(Bytes::from_static(&[1]));
    let object = Object::new().with("self", Value::Ancestor(0)).into();
    let wire = amf3::encode_all(&[Value::StrictArray(vec![bytes, object])]).unwrap();
    let (_, theirs) = AMF3Decoder::default()
        .parse_single_element(&wire)
        .expect("readable");
    let Theirs::StrictArray { values, .. } = theirs else {
        panic!("{theirs:?}")
    };
    let Theirs::Object { id, data } = &values[1] else {
        panic!("{values:?}")
    };
    assert_eq!(*id, ObjectId(2));
    assert_eq!(data.elements[0].value, Theirs::Amf3ObjectReference(*id));
}

/// Whether they write this right: they tell sealed members by name, and take equal collections for one, with a wrong number.
fn is_writable(value: &Value, seen: &mut HashSet<String>) -> bool {
    let collection = matches!(
        value,
        Value::ByteArray(_)
            | Value::VectorInt(_)
            | Value::VectorUint(_)
            | Value::VectorDouble(_)
            | Value::VectorObject(_)
            | Value::Dictionary(_)
    );
    if collection && !seen.insert(format!("{value:?}")) {
        return false;
    }
    if let Some(properties) = value.as_properties() {
        let names: HashSet<_> = properties.iter().map(|(name, _)| name).collect();
        return names.len() == properties.len()
            && properties.iter().all(|(_, value)| is_writable(value, seen));
    }
    match value {
        Value::StrictArray(values) => values.iter().all(|value| is_writable(value, seen)),
        Value::VectorObject(vector) => vector.values.iter().all(|value| is_writable(value, seen)),
        Value::Dictionary(dictionary) => dictionary
            .entries
            .iter()
            .all(|(key, value)| is_writable(key, seen) && is_writable(value, seen)),
        _ => true,
    }
}

/// A value of theirs, as we would have read it.
fn ours(format: Format, value: &Theirs) -> Value {
    let inner = |value: &Theirs| ours(format, value);
    let named = |elements: &[Element]| -> Vec<(AmfString, Value)> {
        elements
            .iter()
            .map(|element| (element.name.as_str().into(), ours(format, &element.value)))
            .collect()
    };
    match value {
        Theirs::Number(number) => Value::Number(*number),
        Theirs::Bool(truth) => Value::Boolean(*truth),
        Theirs::String(text) => text.as_str().into(),
        Theirs::Null => Value::Null,
        Theirs::Undefined => Value::Undefined,
        Theirs::Unsupported => Value::Unsupported,
        Theirs::Integer(integer) => Value::Integer(*integer),
        Theirs::AMF3(value) => ours(Format::Amf3, value),
        Theirs::Object { data, .. } => {
            let object = Object::from_iter(named(&data.elements));
            match &data.class_definition {
                None => Value::Object(object),
                Some(class) if format == Format::Amf0 => {
                    Value::Object(object.with_traits(class.name.as_str(), 0, true))
                }
                Some(class) => {
                    let dynamic = class.attributes.contains(Attribute::Dynamic);
                    Value::Object(object.with_traits(
                        class.name.as_str(),
                        class.static_properties.len(),
                        dynamic,
                    ))
                }
            }
        }
        Theirs::ECMAArray { data, .. } => {
            let dense = data.dense.iter().enumerate();
            let dense = dense.map(|(index, value)| (index.to_string().into(), ours(format, value)));
            Value::EcmaArray(
                named(&data.elements)
                    .into_iter()
                    .chain(dense)
                    .collect::<Properties>(),
            )
        }
        Theirs::StrictArray { values, .. } => {
            Value::StrictArray(values.iter().map(inner).collect())
        }
        Theirs::Date {
            time,
            timezone_or_utc,
        } => Value::Date {
            milliseconds: *time,
            timezone: timezone_or_utc.unwrap_or(0).cast_signed(),
        },
        // AMF0 has one kind of document, which they take for the other one.
        Theirs::XML {
            value,
            is_string: true,
        } if format == Format::Amf3 => Value::Xml(value.as_str().into()),
        Theirs::XML { value, .. } => Value::XmlDocument(value.as_str().into()),
        Theirs::ByteArray(bytes) => Value::ByteArray(bytes.clone().into()),
        Theirs::VectorInt(vector) => Value::VectorInt(Vector {
            fixed: vector.fixed_length,
            values: vector.values.clone(),
        }),
        Theirs::VectorUInt(vector) => Value::VectorUint(Vector {
            fixed: vector.fixed_length,
            values: vector.values.clone(),
        }),
        Theirs::VectorDouble(vector) => Value::VectorDouble(Vector {
            fixed: vector.fixed_length,
            values: vector.values.clone(),
        }),
        Theirs::VectorObject { data, .. } => Value::VectorObject(Box::new(ObjectVector {
            class: data.object_type_name.as_str().into(),
            fixed: data.fixed_length,
            values: data.values.iter().map(inner).collect(),
        })),
        Theirs::Dictionary { data, .. } => Value::Dictionary(Dictionary {
            weak: data.weak_keys,
            entries: data
                .elements
                .iter()
                .map(|entry| (inner(&entry.key), inner(&entry.value)))
                .collect(),
        }),
        other => panic!("unexpected {other:?}"),
    }
}

/// A value of ours, as they have it.
fn theirs(format: Format, value: &Value) -> Theirs {
    let id = ObjectId::INVALID;
    let inner = |value: &Value| theirs(format, value);
    let text = |text: &AmfString| text.as_str().expect("UTF-8").to_owned();
    let elements = |properties: &Properties| -> Vec<Element> {
        properties
            .iter()
            .map(|(name, value)| Element::new(text(name), inner(value)))
            .collect()
    };
    match value {
        Value::Undefined => Theirs::Undefined,
        Value::Null => Theirs::Null,
        Value::Boolean(truth) => Theirs::Bool(*truth),
        Value::Number(number) => Theirs::Number(*number),
        Value::Integer(integer) => Theirs::Integer(*integer),
        Value::String(string) => Theirs::String(text(string)),
        Value::Object(object) => {
            let mut class =
                ClassDefinition::default_with_name(object.class().map(text).unwrap_or_default());
            class.static_properties = object
                .iter()
                .take(object.sealed())
                .map(|(name, _)| text(name))
                .collect();
            if object.is_dynamic() {
                class.attributes |= Attribute::Dynamic;
            }
            // Without a class they write an empty object of the class `Object` in AMF3.
            let anonymous = format == Format::Amf0 && object.class().is_none();
            let class_definition = (!anonymous).then_some(class);
            Theirs::Object {
                id,
                data: ObjectValue {
                    elements: elements(object.properties()),
                    class_definition,
                },
            }
        }
        Value::EcmaArray(properties) => Theirs::ECMAArray {
            id,
            data: ECMAArrayObjectValue {
                dense: Vec::new(),
                elements: elements(properties),
                length: properties.len() as u32,
            },
        },
        Value::StrictArray(values) => Theirs::StrictArray {
            id,
            values: values.iter().map(inner).collect(),
        },
        Value::Date {
            milliseconds,
            timezone,
        } => Theirs::Date {
            time: *milliseconds,
            timezone_or_utc: Some(timezone.cast_unsigned()),
        },
        Value::XmlDocument(document) => Theirs::XML {
            value: text(document),
            is_string: false,
        },
        Value::Xml(document) => Theirs::XML {
            value: text(document),
            is_string: true,
        },
        Value::ByteArray(bytes) => Theirs::ByteArray(bytes.to_vec()),
        Value::VectorInt(vector) => Theirs::VectorInt(primitive(vector)),
        Value::VectorUint(vector) => Theirs::VectorUInt(primitive(vector)),
        Value::VectorDouble(vector) => Theirs::VectorDouble(primitive(vector)),
        Value::VectorObject(vector) => Theirs::VectorObject {
            id,
            data: VectorObjectValue {
                values: vector.values.iter().map(inner).collect(),
                object_type_name: text(&vector.class),
                fixed_length: vector.fixed,
            },
        },
        Value::Dictionary(dictionary) => Theirs::Dictionary {
            id,
            data: DictionaryObjectValue {
                elements: dictionary
                    .entries
                    .iter()
                    .map(|(key, value)| DictionaryEntry {
                        key: inner(key),
                        value: inner(value),
                    })
                    .collect(),
                weak_keys: dictionary.weak,
            },
        },
        other => panic!("unexpected {other:?}"),
    }
}

fn primitive<T: Clone>(vector: &Vector<T>) -> VectorPrimitiveValue<T> {
    VectorPrimitiveValue {
        values: vector.values.clone(),
        fixed_length: vector.fixed,
    }
}

/// Their encoders only write whole files: one value under the empty name, between a header and one byte of padding.
fn written(format: Format, value: Theirs) -> Bytes {
    let (version, name) = match format {
        Format::Amf0 => (AMFVersion::AMF0, 2),
        Format::Amf3 => (AMFVersion::AMF3, 1),
    };
    let mut file = Lso::new(vec![Element::new("", value)], "", version);
    let bytes = Bytes::from(flash_lso::write::write_to_bytes(&mut file).expect("writable"));
    let header = 22;
    bytes.slice(header + name..bytes.len() - 1)
}
