//! Bytes and the values they stand for, in both directions.

use bytes::Bytes;

use crate::testing::list;
use crate::{Dictionary, Externalized, Object, ObjectVector, Properties, Value, Vector};

/// Every marker, in the form in which it is both read and written.
pub(super) fn vectors() -> Vec<(&'static str, Value)> {
    let date = |milliseconds, timezone| Value::Date {
        milliseconds,
        timezone,
    };
    vec![
        ("00 3ff8000000000000", 1.5.into()),
        ("00 bff0000000000000", (-1.0).into()),
        ("00 7ff0000000000000", f64::INFINITY.into()),
        ("01 00", false.into()),
        ("01 01", true.into()),
        ("02 0000", "".into()),
        ("02 0004 'live'", "live".into()),
        ("02 0002 c3b1", "ñ".into()),
        ("03 000009", Object::new().into()),
        (
            "03 0003 'app' 02 0004 'live' 0002 'ok' 01 01 000009",
            Object::new().with("app", "live").with("ok", true).into(),
        ),
        (
            "03 0001 'a' 05 0001 'a' 06 000009",
            Object::new()
                .with("a", ())
                .with("a", Value::Undefined)
                .into(),
        ),
        // An empty name is a name unless the end marker follows.
        (
            "03 0000 01 01 0001 'b' 05 000009",
            Object::new().with("", true).with("b", ()).into(),
        ),
        ("05", Value::Null),
        ("06", Value::Undefined),
        (
            "08 00000001 0001 'w' 00 4000000000000000 000009",
            Properties::new().with("w", 2.0).into(),
        ),
        ("08 00000000 000009", Properties::new().into()),
        ("0a 00000000", list([])),
        (
            "0a 00000002 05 0a 00000001 01 00",
            list([Value::Null, list([false.into()])]),
        ),
        ("0b 4059000000000000 0000", date(100.0, 0)),
        ("0b c059000000000000 ff88", date(-100.0, -120)),
        ("0d", Value::Unsupported),
        ("0f 00000004 '<a/>'", Value::XmlDocument("<a/>".into())),
        (
            "10 0003 'a.B' 0001 'x' 05 000009",
            Object::typed("a.B").with("x", ()).into(),
        ),
        // A cycle: an object that holds itself, and one that holds it one level down.
        (
            "03 0004 'self' 07 0000 000009",
            Object::new().with("self", Value::Ancestor(0)).into(),
        ),
        (
            "0a 00000001 03 0002 'up' 07 0000 0002 'me' 07 0001 000009",
            list([Object::new()
                .with("up", Value::Ancestor(1))
                .with("me", Value::Ancestor(0))
                .into()]),
        ),
        // Only AMF3 has these.
        ("11 0b 09 '<a/>'", Value::Xml("<a/>".into())),
        (
            "11 0c 05 0102",
            Value::ByteArray(Bytes::from_static(&[1, 2])),
        ),
        (
            "11 0d 03 01 ffffffff",
            Value::VectorInt(Vector {
                fixed: true,
                values: vec![-1],
            }),
        ),
        (
            "11 0e 03 00 ffffffff",
            Value::VectorUint(Vector {
                fixed: false,
                values: vec![u32::MAX],
            }),
        ),
        (
            "11 0f 03 00 3ff8000000000000",
            Value::VectorDouble(Vector {
                fixed: false,
                values: vec![1.5],
            }),
        ),
        (
            "11 10 03 00 03 'T' 0a 0b 01 03 'a' 01 01",
            Value::VectorObject(Box::new(ObjectVector {
                class: "T".into(),
                fixed: false,
                values: vec![Object::new().with("a", ()).into()],
            })),
        ),
        (
            "11 11 03 01 06 03 'k' 03",
            Value::Dictionary(Dictionary {
                weak: true,
                entries: vec![("k".into(), true.into())],
            }),
        ),
        (
            "11 0a 07 43 'flex.messaging.io.ArrayCollection' 09 03 01 03",
            Value::Externalized(Box::new(Externalized {
                class: Externalized::ARRAY_COLLECTION,
                value: list([true.into()]),
            })),
        ),
    ]
}
