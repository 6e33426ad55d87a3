//! Bytes and the values they stand for, in both directions.

use bytes::Bytes;

use crate::testing::list;
use crate::{Dictionary, Externalized, Object, ObjectVector, Properties, Value, Vector};

/// Every marker and every form of traits, as they are both read and written.
pub(super) fn vectors() -> Vec<(&'static str, Value)> {
    let date = |milliseconds| Value::Date {
        milliseconds,
        timezone: 0,
    };
    let wrapped = |class, value| Value::Externalized(Box::new(Externalized { class, value }));
    vec![
        ("00", Value::Undefined),
        ("01", Value::Null),
        ("02", false.into()),
        ("03", true.into()),
        ("04 00", 0.into()),
        ("04 7f", 127.into()),
        ("04 8100", 128.into()),
        ("04 ff7f", 16_383.into()),
        ("04 818000", 16_384.into()),
        ("04 ffff7f", 2_097_151.into()),
        ("04 80c08000", 2_097_152.into()),
        ("04 bfffffff", Value::MAX_INTEGER.into()),
        ("04 c0808000", Value::MIN_INTEGER.into()),
        ("04 ffffffff", (-1).into()),
        ("05 3ff8000000000000", 1.5.into()),
        ("06 01", "".into()),
        ("06 09 'live'", "live".into()),
        ("06 05 c3b1", "ñ".into()),
        ("07 09 '<a/>'", Value::XmlDocument("<a/>".into())),
        ("08 01 4059000000000000", date(100.0)),
        ("09 01 01", list([])),
        (
            "09 05 01 04 01 09 03 01 02",
            list([1.into(), list([false.into()])]),
        ),
        (
            "09 01 03 'k' 04 01 01",
            Properties::new().with("k", 1).into(),
        ),
        (
            "09 05 03 'k' 01 01 02 03",
            Properties::new()
                .with("k", ())
                .with("0", false)
                .with("1", true)
                .into(),
        ),
        ("09 01 03 '1' 01 01", Properties::new().with("1", ()).into()),
        (
            "09 03 03 '0' 02 01 03",
            Properties::new().with("0", false).with("0", true).into(),
        ),
        ("0a 0b 01 01", Object::new().into()),
        (
            "0a 0b 01 03 'a' 04 01 01",
            Object::new().with("a", 1).into(),
        ),
        (
            "0a 0b 07 'a.B' 03 'x' 01 01",
            Object::typed("a.B").with("x", ()).into(),
        ),
        (
            "0a 23 07 'a.B' 03 'x' 03 'y' 02 03",
            Object::new()
                .with("x", false)
                .with("y", true)
                .with_traits("a.B", 2, false)
                .into(),
        ),
        (
            "0a 1b 07 'a.B' 03 'x' 02 03 'y' 03 01",
            Object::new()
                .with("x", false)
                .with("y", true)
                .with_traits("a.B", 1, true)
                .into(),
        ),
        ("0a 03 01", Object::new().with_traits("", 0, false).into()),
        (
            "0a 13 01 01 02",
            Object::new()
                .with("", false)
                .with_traits("", 1, false)
                .into(),
        ),
        ("0b 09 '<a/>'", Value::Xml("<a/>".into())),
        ("0c 01", Value::ByteArray(Bytes::new())),
        (
            "0c 05 00ff",
            Value::ByteArray(Bytes::from_static(&[0, 255])),
        ),
        (
            "0d 05 00 00000001 fffffffe",
            Value::VectorInt(Vector {
                fixed: false,
                values: vec![1, -2],
            }),
        ),
        (
            "0e 03 01 ffffffff",
            Value::VectorUint(Vector {
                fixed: true,
                values: vec![u32::MAX],
            }),
        ),
        (
            "0f 03 00 bff8000000000000",
            Value::VectorDouble(Vector {
                fixed: false,
                values: vec![-1.5],
            }),
        ),
        (
            "10 05 01 0f 'flash.T' 01 06 00",
            Value::VectorObject(Box::new(ObjectVector {
                class: "flash.T".into(),
                fixed: true,
                values: vec![Value::Null, "flash.T".into()],
            })),
        ),
        ("11 01 00", Value::Dictionary(Dictionary::default())),
        (
            "11 05 01 0a 0b 01 01 04 01 05 3ff8000000000000 06 03 'v'",
            Value::Dictionary(Dictionary {
                weak: true,
                entries: vec![(Object::new().into(), 1.into()), (1.5.into(), "v".into())],
            }),
        ),
        (
            "0a 07 43 'flex.messaging.io.ArrayCollection' 09 01 01",
            wrapped(Externalized::ARRAY_COLLECTION, list([])),
        ),
        (
            "0a 07 37 'flex.messaging.io.ArrayList' 09 01 01",
            wrapped(Externalized::ARRAY_LIST, list([])),
        ),
        (
            "0a 07 3b 'flex.messaging.io.ObjectProxy' 0a 0b 01 01",
            wrapped(Externalized::OBJECT_PROXY, Object::new().into()),
        ),
        (
            "0a 07 49 'flex.messaging.io.SerializationProxy' 01",
            wrapped(Externalized::SERIALIZATION_PROXY, Value::Null),
        ),
        // Cycles through each kind of compound.
        (
            "0a 0b 01 09 'self' 0a 00 01",
            Object::new().with("self", Value::Ancestor(0)).into(),
        ),
        (
            "09 03 01 09 03 01 09 00",
            list([list([Value::Ancestor(1)])]),
        ),
        (
            "09 01 03 'k' 09 00 01",
            Properties::new().with("k", Value::Ancestor(0)).into(),
        ),
        (
            "11 03 00 11 00 01",
            Value::Dictionary(Dictionary {
                weak: false,
                entries: vec![(Value::Ancestor(0), Value::Null)],
            }),
        ),
        (
            "10 03 00 01 10 00",
            Value::VectorObject(Box::new(ObjectVector {
                values: vec![Value::Ancestor(0)],
                ..ObjectVector::default()
            })),
        ),
        (
            "0a 07 43 'flex.messaging.io.ArrayCollection' 09 03 01 0a 00",
            wrapped(Externalized::ARRAY_COLLECTION, list([Value::Ancestor(1)])),
        ),
        // Repeated strings and traits.
        ("09 05 01 06 03 'a' 06 00", list(["a".into(), "a".into()])),
        (
            "09 07 01 0a 13 03 'C' 03 'x' 04 01 0a 01 04 02 0a 01 04 03",
            list([1, 2, 3].map(|x| Object::new().with("x", x).with_traits("C", 1, false).into())),
        ),
        // Each complex value has a number, leaves included.
        (
            "09 07 01 0c 01 08 01 0000000000000000 0a 0b 01 03 'a' 0a 06 01",
            list([
                Value::ByteArray(Bytes::new()),
                date(0.0),
                Object::new().with("a", Value::Ancestor(0)).into(),
            ]),
        ),
    ]
}
