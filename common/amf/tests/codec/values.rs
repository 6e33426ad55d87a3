//! A strategy for values that come back as they were given.

use bytes::Bytes;
use headwater_amf::{
    AmfString, Dictionary, Externalized, Format, Object, ObjectVector, Properties, Value, Vector,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Which values there are: no peer takes them all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// Everything, and text that is not UTF-8.
    All,
    /// All but objects that write themselves.
    Plain,
    /// What AMF0 can say without the switch.
    Amf0,
}

/// Values that are normal for a format: nothing in them is changed by a round trip.
pub(crate) fn value(format: Format, kinds: Kinds) -> BoxedStrategy<Value> {
    let integer = match format {
        Format::Amf0 => Just(Value::Null).boxed(),
        Format::Amf3 => (Value::MIN_INTEGER..=Value::MAX_INTEGER)
            .prop_map(Value::Integer)
            .boxed(),
    };
    let leaf = prop_oneof![
        4 => prop_oneof![Just(Value::Undefined), Just(Value::Null), any::<bool>().prop_map(Value::Boolean)],
        4 => number().prop_map(Value::Number),
        2 => integer,
        4 => string(kinds).prop_map(Value::String),
        1 => number().prop_map(|milliseconds| Value::Date { milliseconds, timezone: 0 }),
        1 => string(kinds).prop_map(Value::XmlDocument),
        1 => string(kinds).prop_map(Value::Xml),
        1 => vec(any::<u8>(), 0..200).prop_map(|bytes| Value::ByteArray(Bytes::from(bytes))),
        1 => numbers(any::<i32>()).prop_map(Value::VectorInt),
        1 => numbers(any::<u32>()).prop_map(Value::VectorUint),
        1 => numbers(number()).prop_map(Value::VectorDouble),
    ];
    let leaf = leaf.prop_map(move |value| admit(kinds, value));
    leaf.prop_recursive(5, 64, 6, move |inner| {
        let compound = prop_oneof![
            4 => (class(), properties(kinds, inner.clone()), any::<(u8, bool)>()).prop_map(move |(class, properties, (sealed, dynamic))| {
                let object = Object::from(properties);
                if format == Format::Amf0 {
                    return Value::Object(object.with_traits(class, 0, true));
                }
                let sealed = usize::from(sealed) % (object.len() + 1);
                Value::Object(object.with_traits(class, sealed, dynamic))
            }),
            // A name that is no index, so that it stays an ECMA array in AMF3.
            2 => (properties(kinds, inner.clone()), inner.clone())
                .prop_map(|(properties, value)| Value::EcmaArray(properties.with("length?", value))),
            2 => vec(inner.clone(), 0..5).prop_map(Value::StrictArray),
            1 => (class(), any::<bool>(), vec(inner.clone(), 0..4))
                .prop_map(|(class, fixed, values)| Value::VectorObject(Box::new(ObjectVector { class, fixed, values }))),
            1 => (any::<bool>(), vec((inner.clone(), inner.clone()), 0..4))
                .prop_map(|(weak, entries)| Value::Dictionary(Dictionary { weak, entries })),
            1 => inner.prop_map(|value| Value::Externalized(Box::new(Externalized { class: Externalized::ARRAY_COLLECTION, value }))),
        ];
        compound.prop_map(move |value| admit(kinds, value))
    })
    .boxed()
}

/// Puts something else in the place of a value that is not wanted.
fn admit(kinds: Kinds, value: Value) -> Value {
    match (kinds, value) {
        (Kinds::Plain | Kinds::Amf0, Value::Externalized(wrapper)) => wrapper.value,
        (
            Kinds::Amf0,
            Value::Xml(_)
            | Value::ByteArray(_)
            | Value::VectorInt(_)
            | Value::VectorUint(_)
            | Value::VectorDouble(_)
            | Value::VectorObject(_)
            | Value::Dictionary(_),
        ) => Value::Null,
        (_, value) => value,
    }
}

fn number() -> impl Strategy<Value = f64> + Clone {
    use proptest::num::f64::{INFINITE, NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO | INFINITE
}

fn numbers<T: Clone + std::fmt::Debug>(
    element: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vector<T>> {
    (any::<bool>(), vec(element, 0..9)).prop_map(|(fixed, values)| Vector { fixed, values })
}

fn string(kinds: Kinds) -> BoxedStrategy<AmfString> {
    let utf8 =
        prop_oneof!["[a-c]{0,2}", "\\PC{0,40}", Just("long ".repeat(30))].prop_map(AmfString::from);
    match kinds {
        Kinds::Plain | Kinds::Amf0 => utf8.boxed(),
        Kinds::All => prop_oneof![3 => utf8, 1 => vec(any::<u8>(), 0..20).prop_map(|bytes| AmfString::from(Bytes::from(bytes)))].boxed(),
    }
}

/// Names that are not empty and not indexes.
fn name(kinds: Kinds) -> impl Strategy<Value = AmfString> + Clone {
    string(kinds).prop_map(|name| {
        if name.is_empty() {
            AmfString::from("empty")
        } else {
            name
        }
    })
}

fn class() -> impl Strategy<Value = AmfString> {
    prop_oneof![2 => Just(String::new()), 1 => "[A-C]{1,2}"].prop_map(AmfString::from)
}

fn properties(
    kinds: Kinds,
    value: impl Strategy<Value = Value>,
) -> impl Strategy<Value = Properties> {
    vec((name(kinds), value), 0..5).prop_map(Properties::from)
}
